//! Tests on texts that a client sends: header fields, query parameters, cookies.
//!
//! Several occurrences of one name: where a match helps the client all must match, where it hurts any (`Side`).
//! A regular expression is searched for anywhere in the value, as nginx and Caddy do, unless it is anchored; a glob and a
//! plain value speak of the whole value.

use std::borrow::Cow;

use globset::GlobMatcher;
use http::{HeaderMap, HeaderName, header};
use regex::Regex;

use super::claim::Presence;
use crate::value::path::escaped;

/// How large a compiled regular expression may be, in bytes.
pub const REGEX_SIZE_MAX: usize = 1 << 20;

/// What a match of a condition does for the client, by where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// In an allow, or in the `unless` of a deny.
    Helps,
    /// In a deny, or in the `unless` of an allow.
    Hurts,
}

impl Side {
    /// The side of an `unless`.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Helps => Self::Hurts,
            Self::Hurts => Self::Helps,
        }
    }
}

/// What a text must be.
#[derive(Debug, Clone)]
pub enum TextTest {
    /// There, or not there.
    Present(Presence),
    /// Like one of these.
    AnyOf(Box<[TextPattern]>),
}

/// A pattern of texts.
#[derive(Debug, Clone)]
pub enum TextPattern {
    /// This text.
    Is(Box<str>),
    /// A glob that matches the whole text.
    Glob(GlobMatcher),
    /// A regular expression that is found in the text.
    Regex(Regex),
}

impl TextTest {
    fn judge<'v>(&self, mut values: impl Iterator<Item = Cow<'v, [u8]>>, side: Side) -> bool {
        let patterns = match self {
            Self::Present(presence) => {
                return values.next().is_some() == (*presence == Presence::Present);
            }
            Self::AnyOf(patterns) => patterns,
        };
        let mut matches = values.map(|value| patterns.iter().any(|p| p.matches(&value)));
        match side {
            Side::Hurts => matches.any(|matched| matched),
            Side::Helps => matches.next() == Some(true) && matches.all(|matched| matched),
        }
    }

    /// Judges a header field.
    pub(super) fn header(&self, headers: &HeaderMap, name: &HeaderName, side: Side) -> bool {
        let values = headers.get_all(name).into_iter();
        self.judge(values.map(|value| Cow::Borrowed(value.as_bytes())), side)
    }

    /// Judges a query parameter; names and values are decoded once, `+` is a space.
    pub(super) fn query(&self, query: Option<&str>, name: &str, side: Side) -> bool {
        let pairs = query.into_iter().flat_map(|query| query.split('&'));
        let values = pairs.filter(|pair| !pair.is_empty()).filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (*form(key) == *name.as_bytes()).then(|| form(value))
        });
        self.judge(values, side)
    }

    /// Judges a cookie, by every `Cookie` field (RFC 6265 §5.4; several fields in HTTP/2).
    pub(super) fn cookie(&self, headers: &HeaderMap, name: &str, side: Side) -> bool {
        let fields = headers.get_all(header::COOKIE).into_iter();
        let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
        let values = pairs.filter_map(|pair| {
            let pair = pair.trim_ascii();
            let at = pair.iter().position(|byte| *byte == b'=')?;
            let (key, value) = pair.split_at_checked(at)?;
            let value = value.get(1..)?.trim_ascii();
            (key.trim_ascii() == name.as_bytes()).then_some(Cow::Borrowed(value))
        });
        self.judge(values, side)
    }
}

impl TextPattern {
    /// Whether a text is like this.
    pub(crate) fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Is(text) => text.as_bytes() == value,
            Self::Glob(glob) => glob.is_match(&*String::from_utf8_lossy(value)),
            Self::Regex(regex) => regex.is_match(&String::from_utf8_lossy(value)),
        }
    }
}

/// A name or value of a query, decoded. Bad escapes have been refused before.
pub(super) fn form(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if let Some(byte) = escaped(rest) {
            decoded.push(byte);
            rest = rest.split_at(3).1;
        } else {
            decoded.push(if *first == b'+' { b' ' } else { *first });
            rest = after;
        }
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use http::HeaderValue;

    use super::*;

    fn is(text: &str) -> TextTest {
        TextTest::AnyOf([TextPattern::Is(text.into())].into())
    }

    #[test]
    fn several_occurrences_must_all_match_where_that_helps() {
        let regex = TextTest::AnyOf([TextPattern::Regex(Regex::new("^v").unwrap())].into());
        let glob = globset::Glob::new("a*").unwrap().compile_matcher();
        let glob = TextTest::AnyOf([TextPattern::Glob(glob)].into());
        let present = TextTest::Present(Presence::Present);
        let absent = TextTest::Present(Presence::Absent);
        for (test, query, helps, hurts, why) in [
            (is("1"), "", false, false, "missing equals nothing"),
            (is("1"), "a=1", true, true, "equal"),
            (is("1"), "a=1&a=2", false, true, "two that differ"),
            (is("1"), "a=2&a=1", false, true, "in any order"),
            (is("1"), "a=1&b=2&a=1", true, true, "two alike"),
            (
                is("x y"),
                "%61=x+y",
                true,
                true,
                "decoded once, plus is a space",
            ),
            (is("x%20y"), "a=x%2520y", true, true, "and only once"),
            (is(""), "a", true, true, "no equals sign"),
            (is("1"), "A=1", false, false, "case counts"),
            (regex, "a=v1&a=w", false, true, "a regular expression"),
            (glob, "a=abc", true, true, "a glob"),
            (present.clone(), "b=1", false, false, "not there"),
            (present, "a=1&a=2", true, true, "there"),
            (absent, "b=1", true, true, "absent"),
        ] {
            assert_eq!(
                test.query(Some(query), "a", Side::Helps),
                helps,
                "{query}: helps: {why}"
            );
            assert_eq!(
                test.query(Some(query), "a", Side::Hurts),
                hurts,
                "{query}: hurts: {why}"
            );
        }
        assert!(!is("1").query(None, "a", Side::Helps));
    }

    #[test]
    fn cookies_and_headers_are_found_in_every_field() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("cookie", "a=1; b=2"),
            ("cookie", "a=3;c = 4"),
            ("x-a", "1"),
            ("x-a", "\u{e9}"),
        ] {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        for (name, value, helps, hurts) in [
            ("a", "1", false, true),
            ("a", "3", false, true),
            ("b", "2", true, true),
            ("c", "4", true, true),
            ("d", "4", false, false),
        ] {
            assert_eq!(
                is(value).cookie(&headers, name, Side::Helps),
                helps,
                "{name}={value}"
            );
            assert_eq!(
                is(value).cookie(&headers, name, Side::Hurts),
                hurts,
                "{name}={value}"
            );
        }
        let name = HeaderName::from_static("x-a");
        assert!(!is("1").header(&headers, &name, Side::Helps));
        assert!(is("1").header(&headers, &name, Side::Hurts));
        assert!(is("é").header(&headers, &name, Side::Hurts));
    }
}
