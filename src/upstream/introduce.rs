//! The PROXY protocol header that tells a server who the client is (HAProxy's proxy-protocol.txt, §2.1 and §2.2).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::forward::Caller;
use crate::snapshot::ProxyVersion;

/// The header for a client; for nobody (a health check) the one that says so.
pub(super) fn header(version: ProxyVersion, caller: Option<&Caller>) -> Vec<u8> {
    match version {
        ProxyVersion::V1 => text(caller),
        ProxyVersion::V2 => binary(caller),
    }
}

fn text(caller: Option<&Caller>) -> Vec<u8> {
    let Some(caller) = caller else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let (source, target) = one_family(caller);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    format!(
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        target.ip(),
        source.port(),
        target.port()
    )
    .into_bytes()
}

fn binary(caller: Option<&Caller>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let Some(caller) = caller else {
        header.extend_from_slice(&[VERSION_2_LOCAL, 0, 0, 0]);
        return header;
    };
    let (source, target) = one_family(caller);
    header.push(VERSION_2_PROXY);
    match (source.ip(), target.ip()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            header.extend_from_slice(&[TCP_OVER_IPV4, 0, 12]);
            header.extend_from_slice(&source.octets());
            header.extend_from_slice(&target.octets());
        }
        (source, target) => {
            header.extend_from_slice(&[TCP_OVER_IPV6, 0, 36]);
            header.extend_from_slice(&wide(source).octets());
            header.extend_from_slice(&wide(target).octets());
        }
    }
    header.extend_from_slice(&source.port().to_be_bytes());
    header.extend_from_slice(&target.port().to_be_bytes());
    header
}

/// Both addresses in one family: IPv6 where they differ.
fn one_family(caller: &Caller) -> (SocketAddr, SocketAddr) {
    let (source, target) = (caller.source, caller.target);
    if source.is_ipv4() == target.is_ipv4() {
        return (source, target);
    }
    let wider = |one: SocketAddr| SocketAddr::new(wide(one.ip()).into(), one.port());
    (wider(source), wider(target))
}

const fn wide(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2_LOCAL: u8 = 0x20;
const VERSION_2_PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    fn caller(source: &str, target: &str) -> Caller {
        let source: SocketAddr = source.parse().unwrap();
        Caller {
            client: source.ip(),
            source,
            target: target.parse().unwrap(),
        }
    }

    #[test]
    fn version_1() {
        for (source, target, want, why) in [
            (
                "192.0.2.1:5000",
                "198.51.100.2:443",
                "PROXY TCP4 192.0.2.1 198.51.100.2 5000 443\r\n",
                "IPv4",
            ),
            (
                "[2001:db8::1]:0",
                "[2001:db8::2]:80",
                "PROXY TCP6 2001:db8::1 2001:db8::2 0 80\r\n",
                "IPv6, port unknown",
            ),
            (
                "192.0.2.1:5000",
                "[::]:80",
                "PROXY TCP6 ::ffff:192.0.2.1 :: 5000 80\r\n",
                "two families become one",
            ),
        ] {
            let got = header(ProxyVersion::V1, Some(&caller(source, target)));
            assert_eq!(String::from_utf8(got).unwrap(), want, "{why}");
        }
        assert_eq!(header(ProxyVersion::V1, None), b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2() {
        let got = header(
            ProxyVersion::V2,
            Some(&caller("192.0.2.1:258", "198.51.100.2:443")),
        );
        let want: &[u8] =
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\x01\x02\x01\xbb";
        assert_eq!(got, want);
        let got = header(ProxyVersion::V2, Some(&caller("[::1]:1", "[::2]:2")));
        assert_eq!(got.len(), 16 + 36);
        assert_eq!(header(ProxyVersion::V2, None).len(), 16);
    }
}
