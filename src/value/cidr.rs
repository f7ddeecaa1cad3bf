//! Addresses and networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use thiserror::Error;

/// The one form of an address that policy sees: an IPv4-mapped IPv6 address becomes its IPv4 address (RFC 4291 §2.5.5.2).
#[must_use]
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Why a text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CidrError {
    /// The part before the slash is no address.
    #[error("no IP address")]
    Address,
    /// The part behind the slash is no prefix length of the address family.
    #[error("no prefix length from 0 to {0}")]
    Prefix(u8),
    /// Bits behind the prefix are set; the network that was perhaps meant.
    #[error("bits behind the prefix are set")]
    HostBits(IpNet),
}

/// Reads a network such as `10.0.0.0/8`, or one address. A mapped IPv6 network of /96 and longer is its IPv4 network.
///
/// # Errors
/// Where the text is no network, or bits behind the prefix are set.
pub fn parse(text: &str) -> Result<IpNet, CidrError> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok().ok_or(CidrError::Address)?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => longest,
        Some(text) if text.len() > 3 || !text.bytes().all(|byte| byte.is_ascii_digit()) => {
            return Err(CidrError::Prefix(longest));
        }
        Some(text) => text.parse().ok().ok_or(CidrError::Prefix(longest))?,
    };
    let (address, prefix) = match canonical(address) {
        mapped @ IpAddr::V4(_) if longest == 128 && prefix >= 96 => (mapped, prefix - 96),
        IpAddr::V4(_) | IpAddr::V6(_) => (address, prefix),
    };
    let net = IpNet::new(address, prefix)
        .ok()
        .ok_or(CidrError::Prefix(longest))?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(CidrError::HostBits(net.trunc()))
    }
}

/// A class of addresses that rules can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Every address of no other class that is neither unspecified, multicast nor reserved. The documentation networks
    /// count as public: examples and tests are written with them.
    Public,
    /// RFC 1918 and RFC 4193.
    Private,
    /// 127.0.0.0/8 and ::1.
    Loopback,
    /// 169.254.0.0/16 (RFC 3927) and fe80::/10.
    LinkLocal,
    /// 100.64.0.0/10 (RFC 6598).
    Cgnat,
}

impl Class {
    /// Every class with the word that names it behind an `@`.
    pub const ALL: [(&'static str, Self); 5] = [
        ("public", Self::Public),
        ("private", Self::Private),
        ("loopback", Self::Loopback),
        ("link_local", Self::LinkLocal),
        ("cgnat", Self::Cgnat),
    ];

    /// The class of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (_, class) = Self::ALL.into_iter().find(|(known, _)| *known == name)?;
        Some(class)
    }

    /// Its networks.
    #[must_use]
    pub fn networks(self) -> Vec<IpNet> {
        let v4 = |a, b, c, d, prefix| net4(Ipv4Addr::new(a, b, c, d), prefix);
        let v6 = |first, last, prefix| net6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last), prefix);
        let nets = match self {
            Self::Private => vec![
                v4(10, 0, 0, 0, 8),
                v4(172, 16, 0, 0, 12),
                v4(192, 168, 0, 0, 16),
                v6(0xfc00, 0, 7),
            ],
            Self::Loopback => vec![v4(127, 0, 0, 0, 8), v6(0, 1, 128)],
            Self::LinkLocal => vec![v4(169, 254, 0, 0, 16), v6(0xfe80, 0, 10)],
            Self::Cgnat => vec![v4(100, 64, 0, 0, 10)],
            Self::Public => return public(),
        };
        nets.into_iter().flatten().collect()
    }
}

fn net4(address: Ipv4Addr, prefix: u8) -> Option<IpNet> {
    Ipv4Net::new(address, prefix).ok().map(IpNet::V4)
}

fn net6(address: Ipv6Addr, prefix: u8) -> Option<IpNet> {
    Ipv6Net::new(address, prefix).ok().map(IpNet::V6)
}

/// What is left when the other classes and the unspecified, multicast and reserved networks are taken away.
fn public() -> Vec<IpNet> {
    let others = [
        Class::Private,
        Class::Loopback,
        Class::LinkLocal,
        Class::Cgnat,
    ];
    let mut taken: Vec<IpNet> = others.into_iter().flat_map(Class::networks).collect();
    taken.extend(net4(Ipv4Addr::new(0, 0, 0, 0), 8));
    taken.extend(net4(Ipv4Addr::new(224, 0, 0, 0), 3));
    taken.extend(net6(Ipv6Addr::UNSPECIFIED, 128));
    taken.extend(net6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8));
    taken.sort_unstable();

    let (mut left, mut next4, mut next6) = (Vec::new(), Some(0u32), Some(0u128));
    for net in taken {
        match net {
            IpNet::V4(net) => {
                let first = u32::from(net.network());
                left.extend(between4(next4, first.checked_sub(1)));
                next4 = u32::from(net.broadcast()).checked_add(1);
            }
            IpNet::V6(net) => {
                let first = u128::from(net.network());
                left.extend(between6(next6, first.checked_sub(1)));
                next6 = u128::from(net.broadcast()).checked_add(1);
            }
        }
    }
    left.extend(between4(next4, Some(u32::MAX)));
    left.extend(between6(next6, Some(u128::MAX)));
    left
}

fn between4(first: Option<u32>, last: Option<u32>) -> impl Iterator<Item = IpNet> {
    let range = first.zip(last).filter(|(first, last)| first <= last);
    let nets = range.map(|(first, last)| Ipv4Subnets::new(first.into(), last.into(), 0));
    nets.into_iter().flatten().map(IpNet::V4)
}

fn between6(first: Option<u128>, last: Option<u128>) -> impl Iterator<Item = IpNet> {
    let range = first.zip(last).filter(|(first, last)| first <= last);
    let nets = range.map(|(first, last)| Ipv6Subnets::new(first.into(), last.into(), 0));
    nets.into_iter().flatten().map(IpNet::V6)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use super::*;

    #[test]
    fn networks_are_read() {
        for (text, want) in [
            ("10.0.0.0/8", Ok("10.0.0.0/8")),
            ("10.1.2.3", Ok("10.1.2.3/32")),
            ("2001:DB8::/32", Ok("2001:db8::/32")),
            ("::1", Ok("::1/128")),
            ("::ffff:10.0.0.0/104", Ok("10.0.0.0/8")), // mapped
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            (
                "10.0.0.1/8",
                Err(CidrError::HostBits("10.0.0.0/8".parse().unwrap())),
            ),
            ("10.0.0.0/33", Err(CidrError::Prefix(32))),
            ("::/129", Err(CidrError::Prefix(128))),
            ("10.0.0.0/", Err(CidrError::Prefix(32))),
            ("10.0.0.0/+8", Err(CidrError::Prefix(32))),
            ("10.0.0.0/0008", Err(CidrError::Prefix(32))),
            ("010.0.0.0/8", Err(CidrError::Address)), // leading zeros (RFC 6943 §3.1.1)
            ("10.0.0/24", Err(CidrError::Address)),
            ("example.net", Err(CidrError::Address)),
            ("", Err(CidrError::Address)),
        ] {
            let want = want.map(|net| net.parse::<IpNet>().unwrap());
            assert_eq!(parse(text), want, "{text}");
        }
    }

    #[test]
    fn every_address_has_its_class() {
        for (address, class) in [
            ("10.1.1.1", "private"),
            ("172.31.255.255", "private"),
            ("172.32.0.0", "public"),
            ("fd00::1", "private"),
            ("127.1.2.3", "loopback"),
            ("::1", "loopback"),
            ("::2", "public"),
            ("169.254.1.1", "link_local"),
            ("fe80::1", "link_local"),
            ("100.64.0.1", "cgnat"),
            ("100.128.0.0", "public"),
            ("203.0.113.9", "public"),
            ("2001:db8::1", "public"),
            ("0.0.0.0", "none"),
            ("::", "none"),
            ("224.0.0.1", "none"),
            ("255.255.255.255", "none"),
            ("223.255.255.255", "public"),
            ("ff02::1", "none"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let holds = |class: Class| class.networks().iter().any(|net| net.contains(&address));
            let classes: Vec<_> = Class::ALL.into_iter().filter(|(_, c)| holds(*c)).collect();
            let names: Vec<_> = classes.iter().map(|(name, _)| *name).collect();
            let want: &[&str] = if class == "none" { &[] } else { &[class] };
            assert_eq!(names, want, "{address}");
        }
    }
}
