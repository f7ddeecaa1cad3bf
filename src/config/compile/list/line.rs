//! One line of a list of networks, in the forms that published lists have:
//!
//! | form | who publishes it |
//! |---|---|
//! | `192.0.2.0/24`, `192.0.2.7`, `2001:db8::/32` | FireHOL netsets, AbuseIPDB, Tor exits, most others |
//! | `192.0.2.0/24 ; SBL123` | Spamhaus DROP as text |
//! | `{"cidr":"192.0.2.0/24","sblid":"SBL123","rir":"ripencc"}` | Spamhaus DROP as JSON, an object a line |
//! | `192.0.2.0-192.0.2.255`, with or without blanks | ranges |
//! | `192.0.2.0<tab>192.0.2.255<tab>24<tab>…` | DShield |
//! | `add blocked 192.0.2.0/24 timeout 600` | `ipset save`; `create` and `flush` name nothing |
//!
//! `#` and `;` open a comment. Whatever could mean less than it says (`nomatch`, ports) is no network here.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use crate::value::cidr::{self, CidrError};

/// Adds the networks of a line; mostly one, none for a comment.
///
/// # Errors
/// Where the line is none of the known forms, with what of it was looked at.
pub(super) fn read<'l>(line: &'l str, nets: &mut Vec<IpNet>) -> Result<(), (&'l str, CidrError)> {
    if line.trim_start().starts_with('{') {
        return object(line, nets).ok_or((line.trim(), CidrError::Address));
    }
    let entry = line.split(['#', ';']).next().unwrap_or_default().trim();
    if entry.is_empty() {
        return Ok(());
    }
    // Nearly all lines of nearly all lists.
    let error = match cidr::parse(entry) {
        Ok(net) => {
            nets.push(net);
            return Ok(());
        }
        Err(error @ CidrError::HostBits(_)) => return Err((entry, error)),
        Err(error) => error,
    };
    if let Some(range) = range(entry) {
        nets.extend(range);
        return Ok(());
    }
    let mut words = entry.split_ascii_whitespace();
    match words.next() {
        Some("create" | "flush") if words.next().is_some() => Ok(()),
        Some("add") if words.next().is_some() => {
            let named = words.next().unwrap_or_default();
            if words.any(|word| word == "nomatch") {
                return Err((entry, CidrError::Address));
            }
            match (cidr::parse(named), range(named)) {
                (Ok(net), _) => nets.push(net),
                (Err(_), Some(range)) => nets.extend(range),
                (Err(error), None) => return Err((entry, error)),
            }
            Ok(())
        }
        Some(_) | None => Err((entry, error)),
    }
}

/// `first-last`, or first and last as the first two columns of more.
fn range(text: &str) -> Option<Vec<IpNet>> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (first, last),
        None => {
            let mut columns = text.split('\t');
            let ends = (columns.next()?, columns.next()?);
            columns.next()?;
            ends
        }
    };
    let [first, last] = [first, last].map(|end| end.trim().parse::<IpAddr>().ok());
    match (cidr::canonical(first?), cidr::canonical(last?)) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
            Some(Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect())
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
            Some(Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect())
        }
        (IpAddr::V4(_) | IpAddr::V6(_), IpAddr::V4(_) | IpAddr::V6(_)) => None,
    }
}

/// An object with a `cidr`, or one that tells of the list itself.
fn object(line: &str, nets: &mut Vec<IpNet>) -> Option<()> {
    #[derive(serde::Deserialize)]
    struct Object<'l> {
        #[serde(borrow)]
        cidr: Option<std::borrow::Cow<'l, str>>,
        #[serde(borrow, rename = "type")]
        kind: Option<std::borrow::Cow<'l, str>>,
    }
    let object: Object<'_> = serde_json::from_str(line).ok()?;
    match (object.cidr, object.kind.as_deref()) {
        (Some(net), _) => nets.push(cidr::parse(&net).ok()?),
        (None, Some("metadata")) => {}
        (None, Some(_) | None) => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_published_lists_are_read() {
        for (line, want, why) in [
            // What must not be taken for a network comes first.
            ("add blocked 10.0.0.0/8 nomatch", Err(()), "an exception"),
            ("add blocked 10.0.0.1,tcp:80", Err(()), "only a port of it"),
            ("add blocked", Err(()), "names nothing"),
            ("add 10.0.0.1", Err(()), "names no set"),
            ("deny 10.0.0.1", Err(()), "another language"),
            ("10.0.0.1 10.0.0.9", Err(()), "two addresses are no range"),
            ("10.0.0.9-10.0.0.1", Err(()), "backwards"),
            ("10.0.0.1-::1", Err(()), "two families"),
            ("10.0.0.0/24-10.0.1.0/24", Err(()), "of networks"),
            ("10.0.0.1/24", Err(()), "host bits"),
            ("10.0.0.0/255.255.255.0", Err(()), "a mask"),
            ("0.0.0.0.0", Err(()), "no address"),
            ("010.0.0.1", Err(()), "octal or decimal, nobody knows"),
            ("{\"cidr\":\"10.0.0.1/8\"}", Err(()), "host bits in JSON"),
            ("{\"cidr\":7}", Err(()), "no text"),
            (
                "{\"ip\":\"10.0.0.1\"}",
                Err(()),
                "an object of another kind",
            ),
            ("{\"cidr\":\"10.0.0.0/8\"", Err(()), "half an object"),
            ("  ", Ok(""), "empty"),
            ("# FireHOL", Ok(""), "a comment"),
            (
                "; Spamhaus DROP List 2026/11/24",
                Ok(""),
                "the other comment",
            ),
            ("10.0.0.0/8", Ok("10.0.0.0/8"), "a network"),
            (" 10.0.0.1 ", Ok("10.0.0.1/32"), "an address"),
            (
                "::ffff:10.0.0.1",
                Ok("10.0.0.1/32"),
                "the one form of a mapped one",
            ),
            (
                "192.0.2.0/24 ; SBL123",
                Ok("192.0.2.0/24"),
                "DROP as it was",
            ),
            (
                "{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL1;#2\",\"rir\":\"ripencc\"}",
                Ok("192.0.2.0/24"),
                "DROP as it is",
            ),
            (
                "{\"type\":\"metadata\",\"records\":2,\"copyright\":\"(c)\"}",
                Ok(""),
                "its end",
            ),
            (
                "10.0.0.0-10.0.0.255",
                Ok("10.0.0.0/24"),
                "a range that is a network",
            ),
            (
                "10.0.0.1 - 10.0.0.3 # x",
                Ok("10.0.0.1/32 10.0.0.2/31"),
                "and one that is not",
            ),
            ("0.0.0.0-255.255.255.255", Ok("0.0.0.0/0"), "all of them"),
            ("2001:db8::-2001:db8::1", Ok("2001:db8::/127"), "IPv6"),
            (
                "192.0.2.0\t192.0.2.255\t24\t1432\tEXAMPLE",
                Ok("192.0.2.0/24"),
                "DShield",
            ),
            (
                "create blocked hash:net family inet hashsize 1024",
                Ok(""),
                "ipset's head",
            ),
            ("add blocked 10.0.0.0/8", Ok("10.0.0.0/8"), "ipset"),
            (
                "add blocked 10.0.0.0-10.0.0.1 timeout 600",
                Ok("10.0.0.0/31"),
                "more of it",
            ),
        ] {
            let mut nets = Vec::new();
            let read = read(line, &mut nets);
            let nets: Vec<String> = nets.iter().map(IpNet::to_string).collect();
            assert_eq!(
                read.map(|()| nets.join(" ")).map_err(drop),
                want.map(str::to_owned),
                "{why}"
            );
        }
    }
}
