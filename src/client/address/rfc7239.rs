//! The `Forwarded` field (RFC 7239), read from the right.

use super::BadForwarding;
use super::entry::{scheme, trim};
use crate::policy::facts::Scheme;

/// The elements of one `Forwarded` field line, the last one first; a `None` item is a quoted string that never opened.
///
/// Reading from the right is what keeps a client's own, broken elements away from those that trusted hops appended: a stray
/// quote to the left of the walk's end can swallow nothing to its right.
pub(super) struct Elements<'h>(pub(super) Option<&'h [u8]>);

impl<'h> Iterator for Elements<'h> {
    type Item = Option<&'h [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.take()?;
        let mut quoted = false;
        let mut end = rest.len();
        while let Some(at) = end.checked_sub(1) {
            let before = rest.get(..at).unwrap_or_default();
            match rest.get(at) {
                Some(b'"') if quoted => quoted = escaped(before),
                Some(b'"') => quoted = true,
                Some(b',') if !quoted => {
                    self.0 = Some(before);
                    return Some(rest.get(end..));
                }
                Some(_) | None => {}
            }
            end = at;
        }
        Some((!quoted).then_some(rest))
    }
}

/// Whether what stands before a character escapes it: an odd number of backslashes.
fn escaped(before: &[u8]) -> bool {
    let slashes = before.iter().rev().take_while(|byte| **byte == b'\\');
    slashes.count() % 2 == 1
}

/// The parameters of one element that are used.
#[derive(Default)]
pub(super) struct Element<'h> {
    pub(super) node: Option<&'h [u8]>,
    pub(super) scheme: Option<Scheme>,
    pub(super) host: Option<&'h str>,
}

impl<'h> Element<'h> {
    pub(super) fn parse(text: &'h [u8]) -> Result<Self, BadForwarding> {
        let mut element = Self::default();
        let mut by = false;
        let mut rest = trim(text);
        if rest.is_empty() {
            return Err(BadForwarding::Address);
        }
        while !rest.is_empty() {
            let (name, value, after) = pair(rest).ok_or(BadForwarding::Syntax)?;
            rest = after;
            let Some(name) = name else { continue };
            let fresh = if name.eq_ignore_ascii_case(b"for") {
                element.node.replace(value).is_none()
            } else if name.eq_ignore_ascii_case(b"proto") {
                element.scheme.replace(scheme(value)?).is_none()
            } else if name.eq_ignore_ascii_case(b"host") {
                let host = std::str::from_utf8(value).ok();
                let host = host.filter(|host| !host.contains('\\'));
                element
                    .host
                    .replace(host.ok_or(BadForwarding::Host)?)
                    .is_none()
            } else if name.eq_ignore_ascii_case(b"by") {
                !std::mem::replace(&mut by, true)
            } else {
                true
            };
            // RFC 7239 §4: each parameter at most once in an element.
            if !fresh {
                return Err(BadForwarding::Syntax);
            }
        }
        Ok(element)
    }
}

/// One `name=value` and what follows its `;`. A pair may be empty (RFC 7239 §4). The value comes without its quotes, and with
/// its backslashes: no address, scheme or host has any.
type Pair<'h> = (Option<&'h [u8]>, &'h [u8], &'h [u8]);

fn pair(text: &[u8]) -> Option<Pair<'_>> {
    let text = trim(text);
    if let Some(rest) = text.strip_prefix(b";") {
        return Some((None, b"", rest));
    }
    let length = text.iter().position(|byte| !is_token(*byte))?;
    let (name, rest) = text.split_at_checked(length)?;
    let rest = rest.strip_prefix(b"=")?;
    let (value, rest) = match rest.strip_prefix(b"\"") {
        Some(rest) => quoted(rest)?,
        // Colons and brackets are not allowed unquoted, yet common and not ambiguous.
        None => {
            let end = rest
                .iter()
                .position(|byte| !is_token(*byte) && !matches!(byte, b':' | b'[' | b']'));
            rest.split_at_checked(end.unwrap_or(rest.len()))?
        }
    };
    let rest = trim(rest);
    let rest = if rest.is_empty() {
        rest
    } else {
        rest.strip_prefix(b";")?
    };
    (!name.is_empty()).then_some((Some(name), value, rest))
}

/// The inside of a quoted string whose opening quote is gone, and what follows it.
fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((text.get(..at)?, text.get(at + 1..)?)),
            b'\\' => drop(bytes.next()?),
            _ => {}
        }
    }
    None
}

/// RFC 9110 §5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}
