//! Escaping: no byte that a client sends can end a line, leave its quotes or steer a terminal.
//!
//! [`json`] writes the inside of a JSON string. [`nginx`] writes what nginx's default `escape` writes: `\xHH` for `"`, `\`,
//! control characters and everything above 126. Bytes that are no UTF-8 become the text `\xHH` in both.

/// The inside of a JSON string.
pub(super) fn json(out: &mut Vec<u8>, bytes: &[u8]) {
    if all(bytes, plain) {
        return out.extend_from_slice(bytes);
    }
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            json_letter(out, letter);
        }
        for byte in chunk.invalid() {
            out.push(b'\\');
            hex_escape(out, *byte);
        }
    }
}

/// The value of a variable as nginx logs it.
pub(super) fn nginx(out: &mut Vec<u8>, bytes: &[u8]) {
    escape_unless(out, bytes, plain);
}

/// As [`nginx`], and nothing that would end an unquoted column: for names that people choose.
pub(super) fn nginx_word(out: &mut Vec<u8>, bytes: &[u8]) {
    escape_unless(out, bytes, |byte| {
        plain(byte) && !matches!(byte, b' ' | b'[' | b']')
    });
}

fn escape_unless(out: &mut Vec<u8>, bytes: &[u8], stays: impl Fn(u8) -> bool + Copy) {
    if all(bytes, stays) {
        return out.extend_from_slice(bytes);
    }
    for byte in bytes {
        if stays(*byte) {
            out.push(*byte);
        } else {
            hex_escape(out, *byte);
        }
    }
}

fn json_letter(out: &mut Vec<u8>, letter: char) {
    match letter {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        other if steers(other) => {
            out.extend_from_slice(b"\\u");
            let code = u32::from(other);
            for shift in [12, 8, 4, 0] {
                out.push(digit((code >> shift) & 15));
            }
        }
        other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Controls (C0, DEL, C1), line and paragraph separators, zero-width and bidirectional marks: all below U+10000.
fn steers(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// `\xHH`.
fn hex_escape(out: &mut Vec<u8>, byte: u8) {
    let byte = u32::from(byte);
    out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
}

fn digit(value: u32) -> u8 {
    char::from_digit(value, 16).map_or(b'0', |digit| digit.to_ascii_uppercase() as u8)
}

/// ASCII that needs no escape.
const fn plain(byte: u8) -> bool {
    byte >= b' ' && byte < 0x7f && byte != b'"' && byte != b'\\'
}

/// Without an early exit, so that the compiler looks at sixteen bytes at once.
fn all(bytes: &[u8], good: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |all, byte| all & good(*byte))
}
