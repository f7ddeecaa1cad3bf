//! What a client certificate says: names, issuer, key. TLS has verified it before it comes here; nothing in it is believed
//! that its issuer has not signed.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use jiff::civil::DateTime;
use serde_json::{Map, Value, json};

use self::der::{GENERALIZED_TIME, INTEGER, OCTETS, OID, SEQUENCE, UTC_TIME, item};

mod der;
mod subject;

/// A verified client certificate, read once per connection.
#[derive(Debug)]
pub struct ClientCertificate {
    /// The SHA-256 digest of the whole certificate.
    pub fingerprint: [u8; 32],
    /// The subject (RFC 4514); none where it is empty or unreadable.
    pub subject: Option<Arc<str>>,
    /// Common names of the subject.
    pub common_names: Vec<String>,
    /// Organizational units of the subject.
    pub units: Vec<String>,
    /// E-mail addresses among the alternative names.
    pub emails: Vec<String>,
    /// Host names among the alternative names.
    pub hosts: Vec<String>,
    /// The end of its validity.
    pub expires: Option<Timestamp>,
    /// The serial number, in lower-case hexadecimal digits, without leading zeros.
    pub serial: String,
    /// The SHA-256 digest of the public key (its `SubjectPublicKeyInfo`), in lower-case hexadecimal digits.
    pub spki: String,
    /// `device.certificate`: the same as facts for rules.
    pub facts: Map<String, Value>,
}

impl ClientCertificate {
    /// Reads a certificate (RFC 5280 §4.1); none where its frame is broken.
    #[must_use]
    pub fn read(certificate: &[u8]) -> Option<Self> {
        let (SEQUENCE, whole, _) = item(certificate)? else {
            return None;
        };
        let (SEQUENCE, mut body, _) = item(whole)? else {
            return None;
        };
        let mut next = || {
            let (tag, content, after) = item(body)?;
            let element = body.get(..body.len() - after.len())?;
            body = after;
            Some((tag, content, element))
        };
        let (mut tag, mut content, _) = next()?;
        if tag == VERSION {
            (tag, content, _) = next()?;
        }
        let serial = (tag == INTEGER).then_some(content)?;
        let _algorithm = next()?;
        let (_, issuer, _) = next()?;
        let (_, validity, _) = next()?;
        let (_, name, _) = next()?;
        let (_, _, key) = next()?;
        let mut extensions = None;
        while let Some((tag, content, _)) = next() {
            if tag == EXTENSIONS {
                extensions = item(content).map(|(_, list, _)| list);
            }
        }
        let (mut emails, mut hosts) = (Vec::new(), Vec::new());
        if let Some(names) = extensions.and_then(alternative_names) {
            emails = texts(names, RFC822);
            hosts = texts(names, DNS);
        }
        let serial = hex(serial);
        let mut read = Self {
            fingerprint: sha256(certificate),
            subject: subject::text(name).map(Arc::from),
            common_names: subject::values(name, subject::CN),
            units: subject::values(name, subject::OU),
            emails,
            hosts,
            expires: end(validity),
            serial: match serial.trim_start_matches('0') {
                "" => "0".to_owned(),
                digits => digits.to_owned(),
            },
            spki: hex(&sha256(key)),
            facts: Map::new(),
        };
        let facts = json!({
            "subject": read.subject.as_deref(),
            "issuer": subject::text(issuer),
            "cn": read.common_names,
            "ou": read.units,
            "email": read.emails,
            "dns": read.hosts,
            "serial": read.serial,
            "spki": read.spki,
        });
        if let Value::Object(facts) = facts {
            read.facts = facts;
        }
        Some(read)
    }

    /// The names under which a list of devices may know this one, the surest first.
    pub fn device_names(&self) -> impl Iterator<Item = &str> {
        let exact = [&*self.spki, &*self.serial].into_iter();
        let names = self.hosts.iter().chain(&self.common_names);
        exact.chain(names.map(String::as_str))
    }
}

/// The content of the extension `subjectAltName` (RFC 5280 §4.2.1.6).
fn alternative_names(mut extensions: &[u8]) -> Option<&[u8]> {
    while let Some((SEQUENCE, extension, after)) = item(extensions) {
        if let Some((OID, SUBJECT_ALT_NAME, mut rest)) = item(extension) {
            while let Some((tag, content, after)) = item(rest) {
                if tag == OCTETS {
                    let (SEQUENCE, names, _) = item(content)? else {
                        return None;
                    };
                    return Some(names);
                }
                rest = after;
            }
        }
        extensions = after;
    }
    None
}

/// Alternative names of one kind. Text with anything but visible ASCII is no name.
fn texts(mut names: &[u8], wanted: u8) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((tag, content, after)) = item(names) {
        if tag == wanted && !content.is_empty() && content.iter().all(u8::is_ascii_graphic) {
            found.extend(String::from_utf8(content.to_vec()).ok());
        }
        names = after;
    }
    found
}

/// The end of a validity (RFC 5280 §4.1.2.5): the moment after its last second.
fn end(validity: &[u8]) -> Option<Timestamp> {
    let (_, _, after) = item(validity)?;
    let (tag, text, _) = item(after)?;
    let text = str::from_utf8(text).ok()?;
    let text = match tag {
        // Two digits of a year from 1950 to 2049.
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let last = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    let last = last.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Timestamp::from_second(last.as_second().saturating_add(1)).ok()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `[0]`, explicit.
const VERSION: u8 = 0xa0;
/// `[3]`, explicit.
const EXTENSIONS: u8 = 0xa3;
/// `rfc822Name`, `[1]`.
const RFC822: u8 = 0x81;
/// `dNSName`, `[2]`.
const DNS: u8 = 0x82;
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, SerialNumber, date_time_ymd};

    use super::*;

    fn made() -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["laptop-7.bank.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "anna");
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, "teller");
        let email = SanType::Rfc822Name("anna@bank.example".try_into().unwrap());
        params.subject_alt_names.push(email);
        params.serial_number = Some(SerialNumber::from(0x00ab_cdef_u64));
        params.not_after = date_time_ymd(2060, 1, 2);
        let pair = KeyPair::generate().unwrap();
        params.self_signed(&pair).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_tells_its_names() {
        let read = ClientCertificate::read(&made()).unwrap();
        assert_eq!(read.subject.as_deref(), Some("OU=teller,CN=anna"));
        assert_eq!(read.common_names, ["anna"]);
        assert_eq!(read.units, ["teller"]);
        assert_eq!(read.emails, ["anna@bank.example"]);
        assert_eq!(read.hosts, ["laptop-7.bank.example"]);
        assert_eq!(read.serial, "abcdef");
        assert_eq!(read.spki.len(), 64);
        let end = read.expires.unwrap();
        assert_eq!(end.to_string(), "2060-01-02T00:00:01Z");
        let names: Vec<&str> = read.device_names().skip(1).collect();
        assert_eq!(names, ["abcdef", "laptop-7.bank.example", "anna"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(at in 0..400_usize, byte: u8, cut in 0..500_usize) {
            let mut bytes = made();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut.max(20));
            drop(ClientCertificate::read(&bytes));
        }
    }
}
