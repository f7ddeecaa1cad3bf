//! JSON bodies in the four shapes, written by hand into one buffer: a refusal under attack must be cheap.

use bytes::Bytes;

use super::{Asker, Notice};
use crate::snapshot::notice::Shape;

/// The body.
pub(super) fn body(notice: &Notice<'_>, reason: &str, message: &str, asker: &Asker<'_>) -> Bytes {
    let status = notice.status.as_str();
    let phrase = notice.status.canonical_reason().unwrap_or("Error");
    let upgrade = notice.upgrade_url.unwrap_or("");
    let length = reason.len() + message.len() + asker.request_id.len() + upgrade.len();
    let mut out = Vec::with_capacity(length + length / 8 + 192);
    match asker.denial.shape {
        Shape::Flat => {
            text(&mut out, "{\"error\":", reason);
            text(&mut out, ",\"message\":", message);
            raw(&mut out, ",\"status\":", status);
            text(&mut out, ",\"request_id\":", asker.request_id);
            if !upgrade.is_empty() {
                text(&mut out, ",\"upgrade_url\":", upgrade);
            }
            out.push(b'}');
        }
        Shape::Nested => {
            raw(&mut out, "{\"error\":{\"code\":", status);
            text(&mut out, ",\"message\":", phrase);
            text(&mut out, ",\"details\":", message);
            out.extend_from_slice(b"}}");
        }
        Shape::Node => {
            text(&mut out, "{\"error\":{\"message\":", message);
            raw(&mut out, ",\"status\":", status);
            out.extend_from_slice(b"}}");
        }
        Shape::Problem => {
            // `about:blank`: the title is the status's own, and the kind of problem is `reason` (RFC 9457 §4.2.1).
            text(&mut out, "{\"type\":\"about:blank\",\"title\":", phrase);
            raw(&mut out, ",\"status\":", status);
            text(&mut out, ",\"detail\":", message);
            text(&mut out, ",\"reason\":", reason);
            text(&mut out, ",\"request_id\":", asker.request_id);
            if !upgrade.is_empty() {
                text(&mut out, ",\"upgrade_url\":", upgrade);
            }
            out.push(b'}');
        }
    }
    Bytes::from(out)
}

fn raw(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// A string (RFC 8259 §7). `<` and `&` are escaped as well: whoever puts the body into a page is safe.
fn text(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    for byte in value.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'<' => out.extend_from_slice(b"\\u003c"),
            b'&' => out.extend_from_slice(b"\\u0026"),
            0..0x20 | 0x7f => {
                let digit = |value: u8| match value {
                    0..10 => b'0' + value,
                    _ => b'a' + (value - 10),
                };
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn strings_survive_a_real_parser() {
        let all: String = (0..0x300).filter_map(char::from_u32).collect();
        for value in [all.as_str(), "", "é \u{2028} 😀", "</script>", "a\\\"b"] {
            let mut out = Vec::new();
            text(&mut out, "", value);
            let parsed: String = serde_json::from_slice(&out).unwrap();
            assert_eq!(parsed, value);
            assert!(!out.contains(&b'<'));
        }
    }
}
