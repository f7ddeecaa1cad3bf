//! The words that both forwarding headers share: addresses with ports, schemes, and the space around them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::BadForwarding;
use crate::policy::facts::Scheme;
use crate::value::cidr::canonical;

/// Whether an IPv6 address needs its brackets, or only where a port follows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Brackets {
    Required,
    Optional,
}

/// An address with an optional port: `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]`, `[2001:db8::1]:80`, and without brackets
/// `2001:db8::1` where they are optional. The port may be obfuscated (`:_x`, RFC 7239 §6.3). No zone ids.
pub(super) fn node(text: &[u8], brackets: Brackets) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(inside) = text.strip_prefix('[') {
        let (address, port) = inside.split_once(']')?;
        let port = port.strip_prefix(':').map_or(port.is_empty(), is_port);
        let address: Ipv6Addr = address.parse().ok()?;
        return port.then(|| canonical(address.into()));
    }
    match text.split_once(':') {
        None => Some(IpAddr::V4(text.parse().ok()?)),
        Some((_, after)) if after.contains(':') => {
            let address: Ipv6Addr = text.parse().ok()?;
            (brackets == Brackets::Optional).then(|| canonical(address.into()))
        }
        Some((address, port)) => {
            let address: Ipv4Addr = address.parse().ok()?;
            is_port(port).then_some(IpAddr::V4(address))
        }
    }
}

fn is_port(text: &str) -> bool {
    if let Some(obfuscated) = text.strip_prefix('_') {
        let mut bytes = obfuscated.bytes();
        return !obfuscated.is_empty()
            && bytes
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    }
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

pub(super) fn scheme(text: &[u8]) -> Result<Scheme, BadForwarding> {
    // Some proxies name the scheme of a WebSocket's URL.
    if text.eq_ignore_ascii_case(b"https") || text.eq_ignore_ascii_case(b"wss") {
        Ok(Scheme::Https)
    } else if text.eq_ignore_ascii_case(b"http") || text.eq_ignore_ascii_case(b"ws") {
        Ok(Scheme::Http)
    } else {
        Err(BadForwarding::Scheme)
    }
}

/// Without the optional whitespace of RFC 9110 §5.6.3 around it.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}
