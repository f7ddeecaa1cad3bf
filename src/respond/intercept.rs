//! `[site.intercept]`: an upstream's own refusal, shown with our page.
//!
//! What nginx users mean by
//! ```text
//! proxy_intercept_errors on;
//! error_page 403 /custom_403.html;
//! ```
//! and Apache users by `ErrorDocument 403 /custom_403.html`, is here
//! ```toml
//! [denial]
//! pages = "pages"          # pages/403.html
//! [site.intercept]
//! statuses = [403]
//! ```
//! with two differences. The page is never fetched through the proxy: the nginx form sends `/custom_403.html` to the application
//! where `location /` is proxied, so the page is never shown. And only people get it: a program that asked for JSON, and an
//! answer that is JSON, pass as they are, unless `force = true` (nginx's and Apache's way).

use http::StatusCode;
use http::header::{
    ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE,
};

use super::accept::{self, Form};
use crate::snapshot::notice::{Intercept, InterceptWhen};

/// Whether a page of ours replaces an answer of the upstream.
#[must_use]
pub fn intercepts(
    intercept: &Intercept,
    status: StatusCode,
    upstream_headers: &HeaderMap,
    client_headers: &HeaderMap,
    api: bool,
) -> bool {
    intercept.statuses.contains(&status)
        && match intercept.when {
            InterceptWhen::Always => true,
            InterceptWhen::Helpful => {
                !json(upstream_headers) && accept::form(client_headers, api) == Form::Html
            }
        }
}

/// Copies what a replaced answer says besides its body: challenges, cookies (a sign-out may come with a 403), when to come back.
/// The fields of ours that speak of the body stay.
pub fn keep_upstream_headers(upstream_headers: &HeaderMap, ours: &mut HeaderMap) {
    for name in KEPT {
        if ours.contains_key(&name) {
            continue;
        }
        for value in upstream_headers.get_all(&name) {
            ours.append(name.clone(), value.clone());
        }
    }
}

fn json(headers: &HeaderMap) -> bool {
    let media = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split(';').next())
        .and_then(|media| media.trim().split_once('/'));
    media.is_some_and(|(_, subtype)| accept::is_json(subtype))
}

const KEPT: [HeaderName; 5] = [WWW_AUTHENTICATE, SET_COOKIE, RETRY_AFTER, ALLOW, LOCATION];

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::ACCEPT;

    #[test]
    fn only_people_get_our_page_for_an_answer_of_the_upstream() {
        use InterceptWhen::{Always, Helpful};
        let html = "text/html,*/*;q=0.8";
        for (when, status, accept, media, api, want, why) in [
            (
                Helpful,
                404,
                html,
                "text/html",
                false,
                false,
                "a status that is not named",
            ),
            (
                Helpful,
                200,
                html,
                "text/html",
                false,
                false,
                "nor a success",
            ),
            (Helpful, 403, "*/*", "text/html", false, false, "a program"),
            (
                Helpful,
                403,
                "application/json",
                "text/plain",
                false,
                false,
                "a program",
            ),
            (
                Helpful,
                403,
                html,
                "application/json",
                false,
                false,
                "the upstream answers in JSON",
            ),
            (
                Helpful,
                403,
                html,
                "Application/Problem+JSON; charset=utf-8",
                false,
                false,
                "by suffix, in any case",
            ),
            (
                Helpful,
                403,
                html,
                "text/html",
                true,
                false,
                "a site of programs",
            ),
            (
                Helpful,
                403,
                html,
                "text/html; charset=utf-8",
                false,
                true,
                "a bare page of the framework",
            ),
            (Helpful, 403, html, "", false, true, "no type"),
            (Helpful, 403, html, "text/plain", false, true, "plain text"),
            (
                Helpful,
                403,
                html,
                "garbage",
                false,
                true,
                "no type that anyone could read",
            ),
            (
                Always,
                404,
                html,
                "text/html",
                false,
                false,
                "force changes nothing for other statuses",
            ),
            (
                Always,
                403,
                "application/json",
                "application/json",
                false,
                true,
                "forced",
            ),
            (
                Always,
                403,
                "*/*",
                "",
                true,
                true,
                "forced, a site of programs: it gets our JSON",
            ),
        ] {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            let intercept = Intercept {
                statuses: vec![StatusCode::FORBIDDEN],
                when,
            };
            let (mut client, mut upstream) = (HeaderMap::new(), HeaderMap::new());
            client.insert(ACCEPT, HeaderValue::from_static(accept));
            if !media.is_empty() {
                upstream.insert(CONTENT_TYPE, HeaderValue::from_static(media));
            }
            let got = intercepts(&intercept, status, &upstream, &client, api);
            assert_eq!(got, want, "{why}");
        }
    }

    #[test]
    fn a_replaced_answer_keeps_challenges_and_cookies_only() {
        let (mut upstream, mut ours) = (HeaderMap::new(), HeaderMap::new());
        for (name, value) in [
            ("www-authenticate", "Basic realm=\"a\""),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("server", "App/1.0"),
            ("content-encoding", "gzip"),
            ("retry-after", "9"),
        ] {
            upstream.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        ours.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        keep_upstream_headers(&upstream, &mut ours);
        assert_eq!(ours.get_all(SET_COOKIE).iter().count(), 2);
        assert_eq!(ours.get_all(RETRY_AFTER).iter().count(), 1);
        assert_eq!(ours.len(), 4, "{ours:?}");
    }
}
