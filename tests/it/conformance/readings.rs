//! Every way in which a request target may be read as a path: the row `never_reaches` of the conformance README.

use std::collections::BTreeSet;

/// Whether some reading of `target` is `prefix` or lies below it.
pub(super) fn reaches(target: &str, prefix: &str) -> bool {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let path = path
        .split_once("://")
        .filter(|(scheme, _)| scheme.bytes().all(|b| b.is_ascii_alphanumeric()))
        .map_or(path, |(_, rest)| {
            rest.find('/').map_or("/", |at| &rest[at..])
        });
    let first = Reading {
        bytes: super::latin1(path),
        decoded: 0,
    };
    let mut seen = BTreeSet::from([first.clone()]);
    let mut queue = vec![first];
    while let Some(reading) = queue.pop() {
        if is_at_or_below(&reading.bytes, prefix.as_bytes()) {
            return true;
        }
        for next in reading.steps() {
            if seen.len() < READINGS_MAX && seen.insert(next.clone()) {
                queue.push(next);
            }
        }
    }
    false
}

/// A path as some reader sees it, and how often that reader has decoded it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Reading {
    bytes: Vec<u8>,
    decoded: u8,
}

impl Reading {
    fn steps(&self) -> Vec<Self> {
        let mut next: Vec<Self> = [
            slashes_merged(&self.bytes),
            dots_removed(&self.bytes),
            self.bytes.to_ascii_lowercase(),
            self.bytes
                .iter()
                .map(|b| if *b == b'\\' { b'/' } else { *b })
                .collect(),
            per_segment(&self.bytes, |segment| cut(segment, b';')),
            per_segment(&self.bytes, |segment| cut(segment, 0)),
            cut(&self.bytes, 0).to_vec(),
            per_segment(&self.bytes, |segment| segment.trim_suffix_bytes()),
            overlong(&self.bytes),
        ]
        .into_iter()
        .map(|bytes| Self {
            bytes,
            decoded: self.decoded,
        })
        .collect();
        if self.decoded < DECODINGS_MAX {
            for bytes in [percent_decoded(&self.bytes), u_decoded(&self.bytes)] {
                if bytes != self.bytes {
                    next.push(Self {
                        bytes,
                        decoded: self.decoded + 1,
                    });
                }
            }
        }
        next
    }
}

trait TrimSuffix {
    fn trim_suffix_bytes(&self) -> &[u8];
}

impl TrimSuffix for [u8] {
    /// Without trailing dots and spaces, unless the segment is dots alone.
    fn trim_suffix_bytes(&self) -> &[u8] {
        let end = self.iter().rposition(|b| *b != b'.' && *b != b' ');
        end.map_or(self, |end| &self[..=end])
    }
}

fn is_at_or_below(path: &[u8], prefix: &[u8]) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn slashes_merged(path: &[u8]) -> Vec<u8> {
    let mut merged = path.to_vec();
    merged.dedup_by(|a, b| *a == b'/' && *b == b'/');
    merged
}

/// RFC 3986 §5.2.4.
fn dots_removed(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let segments: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    let last = segments.len() - 1;
    for (at, segment) in segments.iter().enumerate() {
        match *segment {
            b"." if at == last => kept.push(b""),
            b"." => {}
            b".." => {
                if kept.len() > 1 {
                    kept.pop();
                }
                if at == last {
                    kept.push(b"");
                }
            }
            other => kept.push(other),
        }
    }
    kept.join(&b'/')
}

fn per_segment(path: &[u8], change: impl Fn(&[u8]) -> &[u8]) -> Vec<u8> {
    let segments: Vec<&[u8]> = path.split(|b| *b == b'/').map(change).collect();
    segments.join(&b'/')
}

fn cut(bytes: &[u8], at: u8) -> &[u8] {
    bytes.split(|b| *b == at).next().unwrap_or_default()
}

fn percent_decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, after @ ..]) if hex(&[*high, *low]).is_some() => {
                out.extend(hex(&[*high, *low]).map(|value| value as u8));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// `%uXXXX`, as old IIS reads it.
fn u_decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [b'u' | b'U', a, b, c, d, after @ ..]) if hex(&[*a, *b, *c, *d]).is_some() => {
                let code = hex(&[*a, *b, *c, *d])
                    .and_then(char::from_u32)
                    .unwrap_or('\u{fffd}');
                out.extend(code.to_string().into_bytes());
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// Sequences of two to four bytes that spell an ASCII character, as lax decoders read them.
fn overlong(path: &[u8]) -> Vec<u8> {
    let continues = |b: u8| b & 0xc0 == 0x80;
    let mut out = Vec::new();
    let mut rest = path;
    loop {
        match rest {
            [] => return out,
            [a @ 0xc0..=0xc1, b, after @ ..] if continues(*b) => {
                out.push((a & 1) << 6 | (b & 0x3f));
                rest = after;
            }
            [0xe0, b @ 0x80..=0x81, c, after @ ..] if continues(*c) => {
                out.push((b & 1) << 6 | (c & 0x3f));
                rest = after;
            }
            [0xf0, 0x80, c @ 0x80..=0x81, d, after @ ..] if continues(*d) => {
                out.push((c & 1) << 6 | (d & 0x3f));
                rest = after;
            }
            [first, after @ ..] => {
                out.push(*first);
                rest = after;
            }
        }
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| {
        Some(value * 16 + char::from(*digit).to_digit(16)?)
    })
}

/// The README speaks of a second decoding and no further.
const DECODINGS_MAX: u8 = 2;
/// No target of the cases has more readings than this.
const READINGS_MAX: usize = 20_000;

#[test]
fn readings_find_every_disguise_and_nothing_else() {
    for (target, reaches_admin, why) in [
        ("/admin", true, "as it is"),
        ("/admin/users", true, "below it"),
        ("/admin?x=1", true, "the query does not count"),
        ("/admins", false, "a neighbour"),
        ("/x/admin", false, "elsewhere"),
        ("/x?p=/admin", false, "in the query"),
        ("/%61dmin", true, "decoded"),
        ("/%2561dmin", true, "decoded twice"),
        ("/%252561dmin", false, "decoded three times: nobody does"),
        ("//admin", true, "slashes merged"),
        ("/x/../admin", true, "dot segments"),
        ("/x/%2e%2e/admin", true, "dot segments, decoded"),
        ("/x%2f..%2fadmin", true, "slashes decoded"),
        ("/x/..;a=b/admin", true, "parameters cut"),
        ("\\admin", true, "backslash"),
        ("/ADMIN", true, "case"),
        ("/admin%00.png", true, "NUL"),
        ("/admin.", true, "trailing dot"),
        ("/admin%20", true, "trailing space"),
        ("/%u0061dmin", true, "%u"),
        ("/x/..%c0%afadmin", true, "overlong slash"),
        ("/%e1%a5%a1dmin", false, "some other letter"),
        ("http://app.test/admin", true, "absolute form"),
        (
            "http://app.test?/../admin",
            false,
            "absolute form without a path",
        ),
        ("/r?u=http://x/../admin", false, "an address in the query"),
        ("/a..b/...", false, "dots in names"),
    ] {
        assert_eq!(reaches(target, "/admin"), reaches_admin, "{target}: {why}");
    }
}
