//! The subject of a client certificate as RFC 4514 text, for the access log: `CN=alice,OU=staff`.
//!
//! The certificate has been verified before it comes here; a name that this cannot read is no reason to refuse anybody, it
//! only goes unnamed.

use std::fmt::Write as _;

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The subject, the most specific part first; none where the certificate has an empty or unreadable one.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let name = certificate.subject();
    let mut parts = Vec::new();
    let mut rest = match item(name) {
        // With or without its outer sequence.
        Some((SEQUENCE, inside, [])) if item(inside).is_none_or(|(tag, ..)| tag == SET) => inside,
        _ => name,
    };
    while let Some((SET, set, after)) = item(rest) {
        parts.push(relative(set)?);
        rest = after;
    }
    parts.reverse();
    (!parts.is_empty() && rest.is_empty()).then(|| parts.join(","))
}

/// One relative name: `CN=alice`, or several joined by `+`.
fn relative(mut set: &[u8]) -> Option<String> {
    let mut text = String::new();
    while let Some((SEQUENCE, pair, after)) = item(set) {
        let (OID, kind, value) = item(pair)? else {
            return None;
        };
        let (tag, value, []) = item(value)? else {
            return None;
        };
        if !text.is_empty() {
            text.push('+');
        }
        match (
            KINDS.iter().find(|(oid, _)| *oid == kind),
            words(tag, value),
        ) {
            (Some((_, name)), Some(value)) => {
                text.push_str(name);
                text.push('=');
                escape(&value, &mut text);
            }
            // RFC 4514 §2.4: what has no short name or no text is written in digits.
            (_, _) => {
                dotted(kind, &mut text);
                text.push_str("=#");
                for byte in [&[tag], value].concat() {
                    write!(text, "{byte:02x}").ok()?;
                }
            }
        }
        set = after;
    }
    (set.is_empty() && !text.is_empty()).then_some(text)
}

/// Tag, content and what follows. Lengths of up to four bytes.
fn item(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long - 0x80))?;
            let length = digits
                .iter()
                .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// The text of a string type.
fn words(tag: u8, value: &[u8]) -> Option<String> {
    match tag {
        UTF8 | PRINTABLE | IA5 | NUMERIC => String::from_utf8(value.to_vec()).ok(),
        BMP => {
            let units: Vec<u16> = value
                .chunks_exact(2)
                .map(|pair| pair.iter().fold(0, |sum, byte| sum << 8 | u16::from(*byte)))
                .collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

/// RFC 4514 §2.4.
fn escape(value: &str, to: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => to.extend(['\\', c]),
            ' ' if at == 0 || at == last => to.extend(['\\', c]),
            '#' if at == 0 => to.extend(['\\', c]),
            c if c.is_control() => {
                for byte in c.to_string().bytes() {
                    // Writing to a string cannot fail.
                    write!(to, "\\{byte:02x}").unwrap_or_default();
                }
            }
            c => to.push(c),
        }
    }
}

fn dotted(oid: &[u8], to: &mut String) {
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    for byte in oid {
        number = number.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.extend([first, number - first * 40]);
            } else {
                numbers.push(number);
            }
            number = 0;
        }
    }
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    to.push_str(&numbers.join("."));
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const NUMERIC: u8 = 0x12;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;
const BMP: u8 = 0x1e;

/// Attribute types with short names (RFC 4514 §3, and `emailAddress` as OpenSSL writes it).
const KINDS: [(&[u8], &str); 10] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 9], "STREET"),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25],
        "DC",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1],
        "UID",
    ),
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1],
        "emailAddress",
    ),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    fn subject(parts: &[(DnType, DnValue)]) -> Option<String> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        of(certificate.der())
    }

    #[test]
    fn a_subject_is_written_as_rfc_4514_asks() {
        let utf8 = |text: &str| DnValue::Utf8String(text.to_owned());
        for (parts, want, why) in [
            (vec![], None, "no subject"),
            (
                vec![(DnType::CommonName, utf8("alice"))],
                Some("CN=alice"),
                "one part",
            ),
            (
                vec![
                    (DnType::OrganizationName, utf8("Bank")),
                    (DnType::OrganizationalUnitName, utf8("staff")),
                    (DnType::CommonName, utf8("alice")),
                ],
                Some("CN=alice,OU=staff,O=Bank"),
                "the most specific part first",
            ),
            (
                vec![(DnType::CommonName, utf8(" #a,b+c\"d\\e;f<g>h "))],
                Some("CN=\\ #a\\,b\\+c\\\"d\\\\e\\;f\\<g\\>h\\ "),
                "separators are escaped",
            ),
            (
                vec![(DnType::CommonName, utf8("a\nb\0"))],
                Some("CN=a\\0ab\\00"),
                "control characters too",
            ),
            (
                vec![(DnType::CommonName, utf8("Zoë 名"))],
                Some("CN=Zoë 名"),
                "other letters stay",
            ),
            (
                vec![(DnType::CustomDnType(vec![1, 2, 840, 1]), utf8("x"))],
                Some("1.2.840.1=#0c78"),
                "a type without a name",
            ),
        ] {
            assert_eq!(subject(&parts).as_deref(), want, "{why}");
        }
    }
}
