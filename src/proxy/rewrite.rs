//! `strip_prefix`, `add_prefix` and `rewrite_location`: a target as its upstream wants it, and back.
//!
//! Everything but the prefix stays byte for byte. What is judged is always the target as the client sent it.

use http::HeaderValue;
use http::uri::PathAndQuery;

use super::own::tail;
use crate::snapshot::headers::Rewrite;
use crate::value::failure::Failure;

/// The target that goes upstream. `pattern` is that of the route.
///
/// # Errors
/// [`Failure::TargetTooLong`] where the prefix makes it longer than any target can be.
pub(super) fn target(
    received: &PathAndQuery,
    pattern: &str,
    rewrite: &Rewrite,
) -> Result<PathAndQuery, Failure> {
    let path = received.path();
    let mut text = String::with_capacity(received.as_str().len() + 32);
    text.push_str(rewrite.add.as_deref().unwrap_or_default());
    if rewrite.strip.is_some() {
        text.push('/');
        text.push_str(tail(path, pattern));
    } else {
        text.push_str(path);
    }
    if let Some(query) = received.query() {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::try_from(text)
        .ok()
        .ok_or(Failure::TargetTooLong)
}

/// `Location` in the client's view; nothing where it stays as it is: a relative one, one that leads elsewhere, and one that
/// leads out of what this route shows of the upstream. `host` is what the client sent as `Host`, `inner` are the names of
/// the upstream, which mean nothing outside.
pub(super) fn location<'s>(
    value: &HeaderValue,
    rewrite: &Rewrite,
    host: Option<&str>,
    mut inner: impl Iterator<Item = &'s str>,
) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    let (site, path) = match text.split_once("//") {
        Some(("" | "http:" | "https:", rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at_checked(end)?;
            let (site, _) = text.split_at_checked(text.len() - path.len())?;
            if host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) {
                (site, path)
            } else if inner.any(|name| name.eq_ignore_ascii_case(authority)) {
                ("", path)
            } else {
                return None;
            }
        }
        Some(_) | None if text.starts_with('/') => ("", text),
        Some(_) | None => return None,
    };
    let path = if path.is_empty() { "/" } else { path };
    let below = match rewrite.add.as_deref() {
        Some(add) => path.strip_prefix(add)?,
        None => path,
    };
    let before = rewrite.strip.as_deref().unwrap_or_default();
    let slash = match below.chars().next() {
        Some('/') => "",
        None | Some('?' | '#') => "/",
        // `/v2` is not the beginning of `/v20`.
        Some(_) => return None,
    };
    let whole = format!("{site}{before}{slash}{below}");
    // A path that begins with two slashes, or what browsers take for them, would name a host.
    if site.is_empty()
        && whole
            .get(1..2)
            .is_some_and(|next| next == "/" || next == "\\")
    {
        return None;
    }
    HeaderValue::try_from(whole).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;
    use crate::snapshot::headers::Location;

    fn rewrite(strip: &str, add: &str) -> Rewrite {
        let some = |text: &str| (!text.is_empty()).then(|| text.into());
        Rewrite {
            strip: some(strip),
            add: some(add),
            location: Location::Rewrite,
        }
    }

    #[test]
    fn targets_lose_and_gain_prefixes_and_nothing_else() {
        for (pattern, strip, add, received, want, why) in [
            (
                "/api/**",
                "/api",
                "",
                "/api/x?y=%2F",
                "/x?y=%2F",
                "the rest byte for byte",
            ),
            ("/api/**", "/api", "", "/api", "/", "the prefix alone"),
            ("/api/**", "/api", "", "/api/", "/", "with its slash"),
            ("/api/**", "/api", "", "/%61pi/x", "/x", "escaped"),
            (
                "/api/**",
                "/api",
                "",
                "/api?x=/a",
                "/?x=/a",
                "a query has slashes too",
            ),
            (
                "/a/b/*/c",
                "/a/b",
                "",
                "/a/b/1/c",
                "/1/c",
                "up to the first star",
            ),
            ("/api", "/api", "", "/api", "/", "no star"),
            ("/api", "/api", "", "/api/", "/", "no star, with its slash"),
            ("/api/**", "/api", "/v2", "/api/x", "/v2/x", "both"),
            ("/api/**", "", "/v2", "/api/x?", "/v2/api/x?", "added only"),
            ("/**", "", "/v2", "/", "/v2/", "the root"),
        ] {
            let received = PathAndQuery::try_from(received).unwrap();
            let got = target(&received, pattern, &rewrite(strip, add)).unwrap();
            assert_eq!(got.as_str(), want, "{why}");
        }
    }

    #[test]
    fn locations_come_back_into_the_clients_view() {
        for (strip, add, given, want, why) in [
            ("/api", "", "/x", Some("/api/x"), "a path"),
            ("/api", "", "/", Some("/api/"), "the root"),
            ("/api", "", "x", None, "a relative one is right as it is"),
            (
                "/api",
                "",
                "http://app.test/x?y#z",
                Some("http://app.test/api/x?y#z"),
                "our host",
            ),
            (
                "/api",
                "",
                "https://APP.test",
                Some("https://APP.test/api/"),
                "without a path",
            ),
            (
                "/api",
                "",
                "http://127.0.0.1:3000/x",
                Some("/api/x"),
                "the upstream's own name",
            ),
            ("/api", "", "https://login.test/x", None, "elsewhere"),
            (
                "/api",
                "",
                "//login.test/x",
                None,
                "elsewhere, without a scheme",
            ),
            ("/api", "", "mailto:a@b", None, "another scheme"),
            ("/api", "/v2", "/v2/x", Some("/api/x"), "both"),
            ("/api", "/v2", "/v2", Some("/api/"), "the prefix alone"),
            ("/api", "/v2", "/v2?x", Some("/api/?x"), "with a query"),
            ("/api", "/v2", "/v20/x", None, "not that prefix"),
            ("/api", "/v2", "/login", None, "out of what the route shows"),
            ("", "/v2", "/v2/x", Some("/x"), "taken off"),
            ("", "/v2", "/v2//evil.test", None, "would name a host"),
            (
                "",
                "/v2",
                "/v2/\\evil.test",
                None,
                "browsers read `\\` as `/`",
            ),
            (
                "",
                "",
                "http://127.0.0.1:3000/x",
                Some("/x"),
                "only the name",
            ),
            (
                "",
                "",
                "http://127.0.0.1:3000//evil.test",
                None,
                "would name a host",
            ),
        ] {
            let value = HeaderValue::from_str(given).unwrap();
            let servers = ["127.0.0.1:3000"].into_iter();
            let got = location(&value, &rewrite(strip, add), Some("app.test"), servers);
            let got = got.as_ref().map(|value| value.to_str().unwrap());
            assert_eq!(got, want, "{given}: {why}");
        }
    }
}
