//! The request target in its two readings (DESIGN section 4, step 2).
//!
//! The target goes upstream byte for byte; policy reads it twice, because upstreams differ in how they read it.
//!
//! - **strict**: as RFC 3986 §6.2.2 reads it: escapes of unreserved characters decoded once, the hex of the others in
//!   upper case. Escapes that spell valid non-ASCII UTF-8 stand as their characters, so `/caf%C3%A9` and `/café` are one.
//! - **lenient**: as the most obliging upstream might: decoded twice, `\` as `/`, slashes merged, `;…` cut from every
//!   segment, trailing dots and spaces cut, case folded. In the second decoding a `%` that starts no escape stands for
//!   itself. Bytes that are no UTF-8 stand as escapes.
//!
//! Where the two readings meet different rules, the request is ambiguous and refused; that is decided in
//! [`crate::policy`]. What no reading can make harmless is refused here: a bad escape, a control character or an overlong
//! or surrogate UTF-8 sequence in either decoding, and a segment that is `.` or `..`, also with spaces among or behind its
//! dots, which some file systems drop. (`...` is an ordinary name.)
//!
//! A plain path (lower case, no escape, no `;`, no `\`, no `//`, no dot before a slash) reads the same both ways and is
//! neither copied nor read again.

use std::borrow::Cow;

use thiserror::Error;

/// A request target as received and in its two readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'r> {
    path: &'r str,
    query: Option<&'r str>,
    strict: Cow<'r, str>,
    lenient: Cow<'r, str>,
    plain: bool,
}

/// Why a target cannot be read in one way only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathError {
    /// It does not start with `/`.
    #[error("the target does not start with a slash")]
    NotAbsolute,
    /// `#` belongs to the client and is never sent.
    #[error("the target has a fragment")]
    Fragment,
    /// A `%` without two hexadecimal digits.
    #[error("the path has a bad escape")]
    BadEscape,
    /// NUL, a control character or a raw space.
    #[error("the path has a control character")]
    Control,
    /// An overlong or surrogate UTF-8 sequence.
    #[error("the path has an overlong or surrogate UTF-8 sequence")]
    Overlong,
    /// A segment that is `.` or `..`.
    #[error("the path has a dot segment")]
    DotSegment,
}

impl PathError {
    /// The stable word for logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotAbsolute => "target_not_absolute",
            Self::Fragment => "target_fragment",
            Self::BadEscape => "path_bad_escape",
            Self::Control => "path_control_character",
            Self::Overlong => "path_overlong_utf8",
            Self::DotSegment => "path_dot_segment",
        }
    }
}

impl<'r> Target<'r> {
    /// Reads path and query in origin form, as received; `*` (of `OPTIONS`) is read as itself and matches no pattern.
    ///
    /// # Errors
    /// Where the path cannot be read in one way only; see [`PathError`]. The query is not judged here.
    pub fn read(raw: &'r str) -> Result<Self, PathError> {
        let (path, query) = match raw.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (raw, None),
        };
        if let Some(query) = query {
            judge_raw(query)?;
        }
        let borrowed = |path: &'r str| Self {
            path,
            query,
            strict: Cow::Borrowed(path),
            lenient: Cow::Borrowed(path),
            plain: true,
        };
        if plain(path) || (path == "*" && query.is_none()) {
            return Ok(borrowed(path));
        }
        judge_raw(path)?;
        if !path.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        let lenient = lenient(path)?;
        let strict = strict(path)?;
        let plain = strict == lenient;
        Ok(Self {
            path,
            query,
            strict: Cow::Owned(strict),
            lenient: Cow::Owned(lenient),
            plain,
        })
    }

    /// The path as received.
    #[must_use]
    pub const fn path(&self) -> &'r str {
        self.path
    }

    /// The query as received, without its `?`.
    #[must_use]
    pub const fn query(&self) -> Option<&'r str> {
        self.query
    }

    /// The strict reading of the path.
    #[must_use]
    pub fn strict(&self) -> &str {
        &self.strict
    }

    /// The lenient reading of the path.
    #[must_use]
    pub fn lenient(&self) -> &str {
        &self.lenient
    }

    /// Whether both readings are the same.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.plain
    }

    /// Whether the query has a `%` without two hexadecimal digits.
    #[must_use]
    pub fn query_is_malformed(&self) -> bool {
        let mut rest = self.query.unwrap_or_default().as_bytes();
        while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
            let (_, escape) = rest.split_at(at);
            if escaped(escape).is_none() {
                return true;
            }
            rest = escape.split_at(3).1;
        }
        false
    }
}

/// The segments of a reading, without a trailing slash; none for `/`.
pub fn segments(path: &str) -> impl Iterator<Item = &str> {
    body(path).into_iter().flat_map(|body| body.split('/'))
}

/// What stands between the first slash and a trailing one; nothing for `/` and for what is no path.
pub(crate) fn body(path: &str) -> Option<&str> {
    let body = path.strip_prefix('/')?;
    let body = body.strip_suffix('/').unwrap_or(body);
    (!body.is_empty()).then_some(body)
}

/// The strict reading of a path or a piece of one.
pub(crate) fn strict(path: &str) -> Result<String, PathError> {
    let mut read = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            read.push(*first);
            rest = after;
            continue;
        }
        let byte = escaped(rest).ok_or(PathError::BadEscape)?;
        if unreserved(byte) || !byte.is_ascii() {
            read.push(byte);
        } else {
            read.extend_from_slice(&escape(byte, UPPER));
        }
        rest = rest.split_at(3).1;
    }
    Ok(text(&read, UPPER))
}

/// The lenient reading of a text that starts with a slash.
pub(crate) fn lenient(path: &str) -> Result<String, PathError> {
    let once = decode(path.as_bytes(), Stray::Refused)?;
    judge(&once)?;
    let twice = decode(&once, Stray::Kept)?;
    judge(&twice)?;
    fold(&twice)
}

/// A piece of a path decoded as the lenient reading decodes it, and not yet folded.
pub(crate) fn decoded(piece: &str) -> Result<String, PathError> {
    let once = decode(piece.as_bytes(), Stray::Refused)?;
    Ok(text(&decode(&once, Stray::Kept)?, LOWER))
}

/// Folds what has been decoded: everything of the lenient reading but the decoding.
fn fold(decoded: &[u8]) -> Result<String, PathError> {
    let mut folded = Vec::with_capacity(decoded.len());
    let mut ends_open = true;
    for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or(&[]);
        if dots(name) {
            return Err(PathError::DotSegment);
        }
        let end = name.iter().rposition(|byte| !matches!(byte, b'.' | b' '));
        let name = name.get(..end.map_or(0, |last| last + 1)).unwrap_or(&[]);
        ends_open = name.is_empty();
        if !ends_open {
            folded.push(b'/');
            folded.extend_from_slice(name);
        }
    }
    if ends_open {
        folded.push(b'/');
    }
    Ok(text(&folded, LOWER)
        .chars()
        .flat_map(|c| c.to_uppercase().flat_map(char::to_lowercase))
        .collect())
}

/// Whether a segment means "here" or "up": `.`, `..`, and both with spaces, which some file systems drop.
fn dots(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
        || (name.iter().all(|byte| matches!(byte, b'.' | b' '))
            && name.contains(&b'.')
            && name.contains(&b' '))
}

/// What a `%` that starts no escape is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stray {
    Refused,
    Kept,
}

fn decode(bytes: &[u8], stray: Stray) -> Result<Vec<u8>, PathError> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        match escaped(rest) {
            Some(byte) => {
                decoded.push(byte);
                rest = rest.split_at(3).1;
            }
            None if *first == b'%' && stray == Stray::Refused => return Err(PathError::BadEscape),
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    Ok(decoded)
}

/// The byte that an escape at the start of `bytes` stands for.
pub(crate) fn escaped(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else {
        return None;
    };
    Some(hex(*high)? << 4 | hex(*low)?)
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// RFC 3986 §2.3.
pub(crate) const fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const UPPER: &[u8; 16] = b"0123456789ABCDEF";
const LOWER: &[u8; 16] = b"0123456789abcdef";

fn escape(byte: u8, digits: &[u8; 16]) -> [u8; 3] {
    let digit = |nibble: u8| digits.get(usize::from(nibble)).copied().unwrap_or(b'0');
    [b'%', digit(byte >> 4), digit(byte & 15)]
}

/// Bytes as text; what is no UTF-8 stands as escapes.
fn text(bytes: &[u8], digits: &[u8; 16]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.extend(escape(*byte, digits).map(char::from));
        }
    }
    text
}

/// Refuses what decoding must not bring forth.
fn judge(decoded: &[u8]) -> Result<(), PathError> {
    let overlong = |pair: &[u8]| match pair {
        [0xC0 | 0xC1, second] => matches!(second, 0x80..=0xBF),
        [0xE0, second] => matches!(second, 0x80..=0x9F),
        [0xED, second] => matches!(second, 0xA0..=0xBF),
        [0xF0, second] => matches!(second, 0x80..=0x8F),
        [0xF8, second] => matches!(second, 0x80..=0x87),
        [0xFC, second] => matches!(second, 0x80..=0x83),
        _ => false,
    };
    if decoded.windows(2).any(overlong) {
        return Err(PathError::Overlong);
    }
    let control = |chunk: std::str::Utf8Chunk<'_>| chunk.valid().chars().any(char::is_control);
    if decoded.utf8_chunks().any(control) {
        return Err(PathError::Control);
    }
    Ok(())
}

/// Refuses what must not stand in a target as received.
fn judge_raw(raw: &str) -> Result<(), PathError> {
    for byte in raw.bytes() {
        match byte {
            b'#' => return Err(PathError::Fragment),
            0..=b' ' | 0x7F => return Err(PathError::Control),
            _ => {}
        }
    }
    Ok(())
}

/// Whether both readings of a path are surely the path itself.
fn plain(path: &str) -> bool {
    let mut before = 0;
    for byte in path.bytes() {
        let good = match byte {
            b'/' => !matches!(before, b'/' | b'.'),
            b'%' | b'\\' | b';' | b'#' | b'A'..=b'Z' | 0..=b' ' | 0x7F.. => false,
            _ => before != 0,
        };
        if !good {
            return false;
        }
        before = byte;
    }
    !matches!(before, 0 | b'.')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use super::*;

    #[test]
    fn a_path_is_read_in_two_ways() {
        for (raw, strict, lenient, why) in [
            ("/", "/", "/", "the root"),
            ("/a/b", "/a/b", "/a/b", "plain"),
            ("/a/b/", "/a/b/", "/a/b/", "a trailing slash stays"),
            (
                "/a?b=%zz",
                "/a",
                "/a",
                "the query is judged by who reads it",
            ),
            ("/ADMIN", "/ADMIN", "/admin", "case"),
            ("/%61dmin", "/admin", "/admin", "an unreserved escape"),
            ("/%7Eyou", "/~you", "/~you", "tilde is unreserved"),
            (
                "/a%2fb",
                "/a%2Fb",
                "/a/b",
                "an escaped slash, hex upper-cased",
            ),
            ("/admin%2F", "/admin%2F", "/admin/", "at the end"),
            ("/%2561dmin", "/%2561dmin", "/admin", "decoded twice"),
            (
                "/%252561dmin",
                "/%252561dmin",
                "/%61dmin",
                "but not three times",
            ),
            (
                "/100%25",
                "/100%25",
                "/100%",
                "a percent sign stands for itself the second time",
            ),
            ("/a%25u0061", "/a%25u0061", "/a%u0061", "and so before a u"),
            ("//admin", "//admin", "/admin", "slashes merged"),
            ("/a//b//", "/a//b//", "/a/b/", "everywhere"),
            ("/\\admin", "/\\admin", "/admin", "a backslash"),
            ("/a%5Cb", "/a%5Cb", "/a/b", "an escaped one"),
            ("/admin;x=1", "/admin;x=1", "/admin", "path parameters"),
            (
                "/admin;x/y;z",
                "/admin;x/y;z",
                "/admin/y",
                "in every segment",
            ),
            ("/admin%3Bx", "/admin%3Bx", "/admin", "escaped too"),
            ("/admin.", "/admin.", "/admin", "a trailing dot"),
            ("/admin%20", "/admin%20", "/admin", "a trailing space"),
            (
                "/admin%20.%20/x",
                "/admin%20.%20/x",
                "/admin/x",
                "in any order, in any segment",
            ),
            ("/a%20b", "/a%20b", "/a b", "a space inside stays"),
            ("/a..b/...", "/a..b/...", "/a..b/", "three dots are a name"),
            (
                "/.well-known/x",
                "/.well-known/x",
                "/.well-known/x",
                "a leading dot is plain",
            ),
            (
                "/caf%C3%A9",
                "/café",
                "/café",
                "valid UTF-8 stands as its characters",
            ),
            ("/CAF%C3%89", "/CAFÉ", "/café", "and is folded"),
            (
                "/caf%E9",
                "/caf%E9",
                "/caf%e9",
                "what is no UTF-8 stays escaped",
            ),
            ("/%ef%bd%81", "/ａ", "/ａ", "no compatibility folding"),
            ("/@scope/pkg", "/@scope/pkg", "/@scope/pkg", "fidelity"),
            ("/a+b:c", "/a+b:c", "/a+b:c", "fidelity"),
            ("*", "*", "*", "OPTIONS"),
        ] {
            let target = Target::read(raw).unwrap();
            assert_eq!(target.strict(), strict, "{raw}: strict: {why}");
            assert_eq!(target.lenient(), lenient, "{raw}: lenient: {why}");
            assert_eq!(target.is_plain(), strict == lenient, "{raw}: {why}");
        }
    }

    #[test]
    fn what_no_reading_makes_harmless_is_refused() {
        for (raw, want, why) in [
            ("", PathError::NotAbsolute, "nothing"),
            ("?/../admin", PathError::NotAbsolute, "no path"),
            ("admin", PathError::NotAbsolute, "no slash"),
            (
                "\\admin",
                PathError::NotAbsolute,
                "a backslash is none here",
            ),
            ("*?x", PathError::NotAbsolute, "a star takes no query"),
            ("/a#x", PathError::Fragment, "a fragment"),
            ("/a?b#x", PathError::Fragment, "behind the query"),
            ("/%zz", PathError::BadEscape, "no hex"),
            ("/%4", PathError::BadEscape, "half an escape"),
            ("/%", PathError::BadEscape, "none"),
            ("/%u0061", PathError::BadEscape, "no escape of the web"),
            ("/a%00", PathError::Control, "NUL"),
            ("/a%0Ab", PathError::Control, "line feed"),
            ("/a%7F", PathError::Control, "DEL"),
            ("/a%C2%85", PathError::Control, "C1"),
            ("/a%2500", PathError::Control, "NUL of the second decoding"),
            ("/a b", PathError::Control, "a raw space"),
            ("/..%c0%af", PathError::Overlong, "overlong slash"),
            ("/%c0%ae%c0%ae/", PathError::Overlong, "overlong dots"),
            ("/%25c0%25af", PathError::Overlong, "of the second decoding"),
            ("/%e0%80%af", PathError::Overlong, "three bytes"),
            ("/%f0%80%80%af", PathError::Overlong, "four bytes"),
            ("/%ed%a0%80", PathError::Overlong, "a surrogate"),
            ("/./a", PathError::DotSegment, "here"),
            ("/x/..", PathError::DotSegment, "up, at the end"),
            ("/x/../a", PathError::DotSegment, "up"),
            (
                "/x//../a",
                PathError::DotSegment,
                "up behind an empty segment",
            ),
            ("/%2e/a", PathError::DotSegment, "escaped"),
            ("/x/%2e./a", PathError::DotSegment, "half escaped"),
            ("/x/%252e%252e/a", PathError::DotSegment, "twice escaped"),
            (
                "/x/..%2fa",
                PathError::DotSegment,
                "before an escaped slash",
            ),
            (
                "/x%2f..%2fa",
                PathError::DotSegment,
                "between escaped slashes",
            ),
            (
                "/x%5c..%5ca",
                PathError::DotSegment,
                "between escaped backslashes",
            ),
            ("/x/..;/a", PathError::DotSegment, "with a parameter"),
            ("/x/..%3bp/a", PathError::DotSegment, "with an escaped one"),
            (
                "/x/..%20/a",
                PathError::DotSegment,
                "with a space that some drop",
            ),
            ("/x/..%20./a", PathError::DotSegment, "and another dot"),
        ] {
            assert_eq!(Target::read(raw).err(), Some(want), "{raw}: {why}");
        }
    }

    #[test]
    fn a_bad_escape_of_the_query_is_seen() {
        for (raw, want) in [
            ("/", false),
            ("/?", false),
            ("/?a=%20&b=%2", true),
            ("/?a=%20&b=%2F", false),
            ("/?%", true),
            ("/?%u0061", true),
        ] {
            assert_eq!(
                Target::read(raw).unwrap().query_is_malformed(),
                want,
                "{raw}"
            );
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn reading_twice_equals_reading_once(raw in "/[a-cA-C%0-9éÉ.;/\\\\ -~]{0,24}") {
            if let Ok(read) = strict(&raw) {
                proptest::prop_assert_eq!(&strict(&read), &Ok(read.clone()));
            }
            if let Ok(read) = lenient(&raw) {
                proptest::prop_assert_eq!(&fold(read.as_bytes()), &Ok(read.clone()));
            }
        }

        #[test]
        fn the_short_way_reads_as_the_long_one(raw in "/[a-cA-C%0-9.;/\\\\_~+:@-]{0,16}") {
            if plain(&raw) {
                proptest::prop_assert_eq!(strict(&raw), Ok(raw.clone()));
                proptest::prop_assert_eq!(lenient(&raw), Ok(raw));
            }
        }

        #[test]
        fn nothing_panics(raw in "\\PC{0,40}") {
            let _read = Target::read(&raw);
        }
    }
}
