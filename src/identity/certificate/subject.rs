//! A distinguished name as RFC 4514 text, for the access log: `CN=alice,OU=staff`; and its parts.
//!
//! The certificate has been verified before it comes here; a name that this cannot read is no reason to refuse anybody, it
//! only goes unnamed.

use std::fmt::Write as _;

use super::der::{OID, SEQUENCE, SET, item, words};

/// A name (RFC 5280 §4.1.2.4, what stands inside its sequence), the most specific part first; none where it is empty or
/// unreadable.
pub(super) fn text(mut name: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    while let Some((SET, set, after)) = item(name) {
        parts.push(relative(set)?);
        name = after;
    }
    parts.reverse();
    (!parts.is_empty() && name.is_empty()).then(|| parts.join(","))
}

/// The values of one attribute type of a name, in the order written.
pub(super) fn values(mut name: &[u8], wanted: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((SET, mut set, after)) = item(name) {
        while let Some((SEQUENCE, pair, others)) = item(set) {
            if let Some((OID, kind, value)) = item(pair)
                && kind == wanted
                && let Some((tag, value, _)) = item(value)
            {
                found.extend(words(tag, value));
            }
            set = others;
        }
        name = after;
    }
    found
}

/// `commonName` (RFC 5280 §A.1).
pub(super) const CN: &[u8] = &[0x55, 4, 3];
/// `organizationalUnitName`.
pub(super) const OU: &[u8] = &[0x55, 4, 11];

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
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    fn subject(parts: &[(DnType, DnValue)]) -> Option<String> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let read = super::super::ClientCertificate::read(certificate.der()).unwrap();
        read.subject.as_deref().map(str::to_owned)
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
