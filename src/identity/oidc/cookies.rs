//! The cookies of a source: names, attributes, and a session cut into several where one cookie cannot hold it.
//!
//! Over https the names begin with `__Host-` (RFC 6265bis §4.1.3.2): a browser then takes them from this very host only, and
//! `Secure`. Over plain http there is a session on loopback only, for development, and without the prefix, since some browsers
//! take no `Secure` cookie there; everywhere else an unprefixed cookie is not even read.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderValue};

use crate::value::host::Authority;

/// The names of a source's cookies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookies {
    secure: Box<str>,
    plain: Box<str>,
}

/// How a browser reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// https.
    Secure,
    /// Plain http on this machine.
    Loopback,
}

/// A session as the cookies of a request hold it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept<'h> {
    /// The whole text.
    Whole(Cow<'h, str>),
    /// A piece is missing.
    Torn,
}

impl Cookies {
    /// Cookies of this name, `__Host-` aside.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let plain = name.strip_prefix(PREFIX).unwrap_or(name);
        Self {
            secure: format!("{PREFIX}{plain}").into(),
            plain: plain.into(),
        }
    }

    /// The session that a request carries.
    pub(super) fn session<'h>(&self, headers: &'h HeaderMap) -> Option<Kept<'h>> {
        if !headers.contains_key(COOKIE) {
            return None;
        }
        let secure = assemble(headers, &self.secure);
        secure.or_else(|| {
            if is_local(headers) {
                assemble(headers, &self.plain)
            } else {
                None
            }
        })
    }

    /// The cookie of a login in progress.
    pub(super) fn login<'h>(
        &self,
        headers: &'h HeaderMap,
        channel: Channel,
        id: &str,
    ) -> Option<&'h str> {
        let wanted = self.login_name(channel, id);
        pairs(headers).find_map(|(name, value)| (name == wanted).then_some(value))
    }

    /// `Set-Cookie` of a login in progress, and of the oldest ones beyond a few, which it ends: a browser that begins many
    /// logins and finishes none does not fill up with them.
    pub(super) fn keep_login(
        &self,
        headers: &HeaderMap,
        channel: Channel,
        id: &str,
        value: &str,
    ) -> Vec<HeaderValue> {
        let before = self.login_name(channel, "");
        let mut known: Vec<&str> = pairs(headers)
            .filter_map(|(name, _)| name.strip_prefix(&*before))
            .filter(|id| is_id(id))
            .collect();
        // Their names begin with the time.
        known.sort_unstable();
        let surplus = known.len().saturating_sub(LOGINS_MAX - 1);
        let gone = known.iter().take(surplus);
        let gone = gone.filter_map(|id| set(channel, &self.login_name(channel, id), "", 0));
        let kept = set(channel, &self.login_name(channel, id), value, LOGIN_SECONDS);
        kept.into_iter().chain(gone).collect()
    }

    /// `Set-Cookie` that ends a login.
    pub(super) fn end_login(&self, channel: Channel, id: &str) -> Option<HeaderValue> {
        set(channel, &self.login_name(channel, id), "", 0)
    }

    /// `Set-Cookie` of a session, one or several, and of pieces that `headers` have and the session no longer needs. None
    /// where it is too large for a browser.
    pub(super) fn keep_session(
        &self,
        headers: &HeaderMap,
        channel: Channel,
        text: &str,
        seconds: i64,
    ) -> Option<Vec<HeaderValue>> {
        let name = self.name(channel);
        let pieces = text.len().div_ceil(PIECE_BYTES).max(1);
        if pieces > PIECES_MAX || !text.is_ascii() {
            return None;
        }
        let mut cookies = Vec::with_capacity(pieces);
        let mut rest = text;
        for number in 0..pieces {
            let (piece, more) = rest
                .split_at_checked(PIECE_BYTES.min(rest.len()))
                .unwrap_or((rest, ""));
            rest = more;
            cookies.push(if number > 0 {
                set(channel, &format!("{name}-{number}"), piece, seconds)?
            } else if pieces > 1 {
                set(channel, name, &format!("{pieces}{MARK}{piece}"), seconds)?
            } else {
                set(channel, name, piece, seconds)?
            });
        }
        cookies.extend(self.surplus(headers, channel, pieces));
        Some(cookies)
    }

    /// `Set-Cookie` that ends a session.
    pub(super) fn end_session(&self, headers: &HeaderMap, channel: Channel) -> Vec<HeaderValue> {
        let first = set(channel, self.name(channel), "", 0);
        let more = self.surplus(headers, channel, 1);
        first.into_iter().chain(more).collect()
    }

    /// Takes these cookies out of a request. The upstream never sees them.
    pub fn strip(&self, headers: &mut HeaderMap) {
        let ours = |name: &str| self.owns(name);
        if !pairs(headers).any(|(name, _)| ours(name)) {
            return;
        }
        let mut kept: Vec<HeaderValue> = Vec::new();
        for field in headers.get_all(COOKIE) {
            let Ok(text) = field.to_str() else {
                // Bytes that we cannot read are not ours, but a cookie of ours may stand beside them.
                let mut pieces = field.as_bytes().split(|byte| *byte == b';');
                let has = pieces.any(|piece| {
                    let name = piece.split(|byte| *byte == b'=').next().unwrap_or(piece);
                    std::str::from_utf8(name.trim_ascii()).is_ok_and(ours)
                });
                if !has {
                    kept.push(field.clone());
                }
                continue;
            };
            let theirs = text.split(';').map(str::trim).filter(|pair| {
                let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
                !pair.is_empty() && !ours(name.trim())
            });
            let theirs: Vec<&str> = theirs.collect();
            if !theirs.is_empty() {
                kept.extend(HeaderValue::from_str(&theirs.join("; ")).ok());
            }
        }
        headers.remove(COOKIE);
        for field in kept {
            headers.append(COOKIE, field);
        }
    }

    fn owns(&self, name: &str) -> bool {
        [&self.secure, &self.plain].iter().any(|own| {
            let rest = name.strip_prefix(&***own);
            rest.is_some_and(|rest| {
                rest.is_empty()
                    || rest.starts_with(LOGIN)
                    || rest.strip_prefix('-').is_some_and(is_number)
            })
        })
    }

    fn name(&self, channel: Channel) -> &str {
        match channel {
            Channel::Secure => &self.secure,
            Channel::Loopback => &self.plain,
        }
    }

    fn login_name(&self, channel: Channel, id: &str) -> String {
        format!("{}{LOGIN}{id}", self.name(channel))
    }

    /// Ends pieces from `first` on that the request carries.
    fn surplus<'h>(
        &'h self,
        headers: &'h HeaderMap,
        channel: Channel,
        first: usize,
    ) -> impl Iterator<Item = HeaderValue> + 'h {
        (first.max(1)..=PIECES_MAX).filter_map(move |number| {
            let name = format!("{}-{number}", self.name(channel));
            let has = pairs(headers).any(|(other, _)| other == name);
            has.then(|| set(channel, &name, "", 0))?
        })
    }
}

/// Whether a request is for this machine by its own name.
#[must_use]
pub fn is_loopback(authority: &str) -> bool {
    let Ok(authority) = Authority::read(authority) else {
        return false;
    };
    let host = authority.host.trim_matches(['[', ']']);
    host == "localhost"
        || host.ends_with(".localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(is_loopback)
}

fn assemble<'h>(headers: &'h HeaderMap, name: &str) -> Option<Kept<'h>> {
    let value = |name: &str| pairs(headers).find_map(|(n, value)| (n == name).then_some(value));
    let first = value(name).filter(|value| !value.is_empty())?;
    let Some((count, start)) = first.split_once(MARK) else {
        return Some(Kept::Whole(Cow::Borrowed(first)));
    };
    let count = count.parse::<usize>().ok();
    let Some(count) = count.filter(|count| (2..=PIECES_MAX).contains(count)) else {
        return Some(Kept::Torn);
    };
    let mut whole = String::with_capacity(count * PIECE_BYTES);
    whole.push_str(start);
    for number in 1..count {
        match value(&format!("{name}-{number}")) {
            Some(piece) => whole.push_str(piece),
            None => return Some(Kept::Torn),
        }
    }
    Some(Kept::Whole(Cow::Owned(whole)))
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let fields = headers.get_all(COOKIE).iter();
    let fields = fields.filter_map(|field| field.to_str().ok());
    fields
        .flat_map(|field| field.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.trim(), value.trim()))
}

fn set(channel: Channel, name: &str, value: &str, seconds: i64) -> Option<HeaderValue> {
    let secure = match channel {
        Channel::Secure => "; Secure",
        Channel::Loopback => "",
    };
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly{secure}; SameSite=Lax");
    HeaderValue::try_from(text).ok()
}

fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.len() <= 32 && text.bytes().all(plain)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The name where none is written.
pub const DEFAULT_NAME: &str = "portcullis";
const PREFIX: &str = "__Host-";
const LOGIN: &str = "-login-";
/// Between the number of pieces and the first of them; base64url has no such letter.
const MARK: char = '~';
/// Browsers keep 4096 bytes of name, value and attributes.
const PIECE_BYTES: usize = 3800;
/// Some 15 KB: with everything else still within the head that servers take.
const PIECES_MAX: usize = 4;
/// Logins in progress that a browser is asked to remember once it has so many.
const LOGINS_MAX: usize = 16;
/// How long a login may take.
pub(super) const LOGIN_SECONDS: i64 = 600;

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]

    use super::*;

    fn request(host: &'static str, cookies: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(host));
        for cookie in cookies {
            headers.append(COOKIE, HeaderValue::from_str(cookie).unwrap());
        }
        headers
    }

    /// What a browser would send back.
    fn taken(set: &[HeaderValue]) -> Vec<String> {
        let pairs = set.iter().map(|value| value.to_str().unwrap());
        let kept = pairs.filter(|value| !value.contains("Max-Age=0;"));
        kept.map(|value| value.split(';').next().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_session_survives_the_browser_in_every_size() {
        let cookies = Cookies::named("s");
        let none = request("app.example.com", &[]);
        for (size, want) in [
            (PIECES_MAX * PIECE_BYTES + 1, None),
            (PIECES_MAX * PIECE_BYTES, Some(4)),
            (PIECE_BYTES + 1, Some(2)),
            (PIECE_BYTES, Some(1)),
            (1, Some(1)),
        ] {
            let text = "x".repeat(size);
            let set = cookies.keep_session(&none, Channel::Secure, &text, 60);
            assert_eq!(set.as_ref().map(Vec::len), want, "{size} bytes");
            let Some(set) = set else { continue };
            for cookie in &set {
                assert!(cookie.len() <= 4096, "{} bytes", cookie.len());
                let cookie = cookie.to_str().unwrap();
                assert!(cookie.starts_with("__Host-s"), "{cookie}");
                assert!(cookie.ends_with("; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Lax"));
            }
            let back = taken(&set).join("; ");
            let back = request("app.example.com", &[&back]);
            assert_eq!(cookies.session(&back), Some(Kept::Whole(text.into())));
        }
    }

    #[test]
    fn what_is_read_and_from_where() {
        let cookies = Cookies::named("__Host-s");
        let whole = |text: &'static str| Some(Kept::Whole(Cow::Borrowed(text)));
        for (host, sent, want, why) in [
            (
                "a.example",
                "s=1",
                None,
                "no prefix: anybody on a subdomain could have set it",
            ),
            ("localhost.evil.example", "s=1", None, "not this machine"),
            ("a.example", "__Host-s=", None, "empty"),
            ("a.example", "x__Host-s=1", None, "another name"),
            (
                "a.example",
                "__Host-s=3~a; __Host-s-1=b",
                Some(Kept::Torn),
                "a piece is missing",
            ),
            (
                "a.example",
                "__Host-s=9~a",
                Some(Kept::Torn),
                "more than there can be",
            ),
            ("a.example", "__Host-s=x~a", Some(Kept::Torn), "no number"),
            ("a.example", "a=b; __Host-s=1", whole("1"), "beside others"),
            ("localhost:8080", "s=1", whole("1"), "development"),
            ("127.0.0.1", "s=1", whole("1"), "development"),
            ("[::1]:80", "s=1", whole("1"), "development"),
            ("localhost", "s=1; __Host-s=2", whole("2"), "the better one"),
        ] {
            let headers = request(host, &[sent]);
            assert_eq!(cookies.session(&headers), want, "{why}");
        }
    }

    #[test]
    fn the_upstream_sees_none_of_them() {
        let cookies = Cookies::named("s");
        for (sent, want) in [
            (vec!["__Host-s=1"], vec![]),
            (vec!["a=1; __Host-s=1; b=2"], vec!["a=1; b=2"]),
            (
                vec!["a=1", "__Host-s=1; __Host-s-1=2", "b=2"],
                vec!["a=1", "b=2"],
            ),
            (vec!["s=1;s-2=1; s-login-x=1;a=1"], vec!["a=1"]),
            (
                vec!["s-team=1; sx=1; other-s=1"],
                vec!["s-team=1; sx=1; other-s=1"],
            ),
            (vec!["a=1;b=2"], vec!["a=1;b=2"]),
        ] {
            let mut headers = request("a.example", &sent);
            cookies.strip(&mut headers);
            let left: Vec<&str> = headers
                .get_all(COOKIE)
                .iter()
                .map(|value| value.to_str().unwrap())
                .collect();
            assert_eq!(left, want, "{sent:?}");
        }
        let mut headers = request("a.example", &[]);
        headers.append(
            COOKIE,
            HeaderValue::from_bytes(b"a=\xff; __Host-s=1").unwrap(),
        );
        headers.append(COOKIE, HeaderValue::from_static("__Host-s=2"));
        cookies.strip(&mut headers);
        assert_eq!(
            headers.get(COOKIE),
            None,
            "nor beside bytes that are no text"
        );
    }

    #[test]
    fn pieces_that_are_no_longer_needed_go() {
        let cookies = Cookies::named("s");
        let before = request("a.example", &["__Host-s=3~a; __Host-s-1=b; __Host-s-2=c"]);
        let set = cookies
            .keep_session(&before, Channel::Secure, "small", 60)
            .unwrap();
        assert_eq!(taken(&set), ["__Host-s=small"]);
        assert_eq!(set.len(), 3);
        assert_eq!(cookies.end_session(&before, Channel::Secure).len(), 3);
    }

    #[test]
    fn logins_in_progress_stay_few() {
        let cookies = Cookies::named("s");
        let many: Vec<String> = (10..10 + LOGINS_MAX + 3)
            .map(|number| format!("__Host-s-login-{number}=x"))
            .collect();
        let headers = request("a.example", &[&many.join("; ")]);
        let set = cookies.keep_login(&headers, Channel::Secure, "99", "v");
        assert_eq!(taken(&set), ["__Host-s-login-99=v"]);
        assert_eq!(set.len(), 1 + 4, "the oldest go");
        assert!(set[1].to_str().unwrap().starts_with("__Host-s-login-10=;"));
        assert_eq!(cookies.login(&headers, Channel::Secure, "12"), Some("x"));
        assert_eq!(cookies.login(&headers, Channel::Loopback, "12"), None);
    }
}
