//! The client address: derived from the peer and, only where the peer is trusted, from exactly one forwarding header.
//!
//! The header is read from the right, the end that the peer wrote. Each entry was written by a hop that the entries to its
//! right vouch for; the walk stops at the first entry that is not a trusted hop, and that entry is the client:
//!
//! ```text
//! peer 10.0.0.1 (trusted)   X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.2     client 203.0.113.9; 6.6.6.6 is its own claim
//! peer 198.51.100.1         X-Forwarded-For: 127.0.0.1                          client 198.51.100.1; the header is ignored
//! peer 10.0.0.1 (trusted)   X-Forwarded-For: 203.0.113.9, unknown               refused (400): a trusted hop names nobody
//! peer 10.0.0.1 (trusted)   X-Forwarded-For: 10.0.0.3, 10.0.0.2                 client 10.0.0.3, the left-most
//! ```
//!
//! What the client itself wrote, to the left of the entry where the walk stops, is never parsed: it can neither lie nor break
//! the request. Nothing here knows of rules, nor of the other forwarding headers, which intake removes.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;
use thiserror::Error;

use self::entry::{Brackets, node, scheme, trim};
use self::rfc7239::{Element, Elements};
use crate::policy::facts::Scheme;
use crate::value::cidr::canonical;

mod entry;
mod rfc7239;

/// Whose forwarding header is believed, and which.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// INVARIANT: sorted, disjoint, not adjacent; first and last address of each range.
    v4: Box<[(u32, u32)]>,
    /// INVARIANT: as above.
    v6: Box<[(u128, u128)]>,
    header: Header,
}

/// The one forwarding header that is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Header {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto` and `X-Forwarded-Host` beside it.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239), with its `proto` and `host`.
    Forwarded,
}

/// What the trusted hops say of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Derived<'h> {
    /// Who policy judges, canonical.
    pub client: IpAddr,
    /// How the client spoke to the outermost trusted hop; none if the connection's own scheme counts.
    pub scheme: Option<Scheme>,
    /// The host that the client asked the outermost trusted hop for, as sent: not yet validated as a host.
    pub host: Option<&'h str>,
}

/// The word of a trusted peer that cannot be read: the request is refused with 400. The text is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadForwarding {
    /// An entry where an address is needed is none: garbage, empty, `unknown` or obfuscated.
    #[error("forwarding header of a trusted peer names no address")]
    Address,
    /// `Forwarded` breaks RFC 7239.
    #[error("malformed `Forwarded` of a trusted peer")]
    Syntax,
    /// The scheme is neither `http` nor `https`.
    #[error("forwarding header of a trusted peer names an unknown scheme")]
    Scheme,
    /// The host is not text, or has quoted characters.
    #[error("forwarding header of a trusted peer names a malformed host")]
    Host,
}

impl Trust {
    /// Trusts the peers in `networks` and reads `header`. IPv4-mapped IPv6 networks stand for their IPv4 networks.
    #[must_use]
    pub fn new(networks: &[IpNet], header: Header) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for network in networks {
            match canonical_range(*network) {
                Range::V4(range) => v4.push(range),
                Range::V6(range) => v6.push(range),
            }
        }
        Self {
            v4: merged(v4, |last| last.checked_add(1)),
            v6: merged(v6, |last| last.checked_add(1)),
            header,
        }
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The header that is read from trusted peers.
    #[must_use]
    pub const fn header(&self) -> Header {
        self.header
    }

    /// Whether the forwarding header of `peer` is believed.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        match canonical(peer) {
            IpAddr::V4(address) => holds(&self.v4, address.to_bits()),
            IpAddr::V6(address) => holds(&self.v6, address.to_bits()),
        }
    }

    /// The client behind `peer`. Allocates nothing.
    ///
    /// # Errors
    /// If a trusted peer's word cannot be read: the request must be refused with 400.
    pub fn derive<'h>(
        &self,
        peer: IpAddr,
        headers: &'h HeaderMap,
    ) -> Result<Derived<'h>, BadForwarding> {
        let peer = canonical(peer);
        if !self.trusts(peer) {
            return Ok(Derived {
                client: peer,
                scheme: None,
                host: None,
            });
        }
        match self.header {
            Header::XForwardedFor => self.x_forwarded(peer, headers),
            Header::Forwarded => self.forwarded(peer, headers),
        }
    }

    fn x_forwarded<'h>(
        &self,
        peer: IpAddr,
        headers: &'h HeaderMap,
    ) -> Result<Derived<'h>, BadForwarding> {
        let mut client = peer;
        let lines = headers.get_all(&X_FORWARDED_FOR).iter().rev();
        for entry in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
            client = node(trim(entry), Brackets::Optional).ok_or(BadForwarding::Address)?;
            if !self.trusts(client) {
                break;
            }
        }
        Ok(Derived {
            client,
            scheme: last_of(headers, &X_FORWARDED_PROTO)
                .map(scheme)
                .transpose()?,
            host: last_of(headers, &X_FORWARDED_HOST)
                .map(|host| std::str::from_utf8(host).ok().ok_or(BadForwarding::Host))
                .transpose()?,
        })
    }

    fn forwarded<'h>(
        &self,
        peer: IpAddr,
        headers: &'h HeaderMap,
    ) -> Result<Derived<'h>, BadForwarding> {
        let mut derived = Derived {
            client: peer,
            scheme: None,
            host: None,
        };
        let lines = headers.get_all(header::FORWARDED).iter().rev();
        for element in lines.flat_map(|line| Elements(Some(line.as_bytes()))) {
            let element = Element::parse(element.ok_or(BadForwarding::Syntax)?)?;
            derived.client = element
                .node
                .and_then(|text| node(text, Brackets::Required))
                .ok_or(BadForwarding::Address)?;
            // Each element read here was written by a trusted hop; the left-most one tells of the client's own connection.
            derived.scheme = element.scheme.or(derived.scheme);
            derived.host = element.host.or(derived.host);
            if !self.trusts(derived.client) {
                break;
            }
        }
        Ok(derived)
    }
}

/// The last entry of a list header: the one that the peer itself wrote. An empty one counts as absent.
fn last_of<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let line = headers.get_all(name).iter().next_back()?;
    let last = HeaderValue::as_bytes(line)
        .rsplit(|byte| *byte == b',')
        .next()?;
    Some(trim(last)).filter(|text| !text.is_empty())
}

enum Range {
    V4((u32, u32)),
    V6((u128, u128)),
}

fn canonical_range(network: IpNet) -> Range {
    let v6 = match network {
        IpNet::V4(net) => return Range::V4((net.network().to_bits(), net.broadcast().to_bits())),
        IpNet::V6(net) => net,
    };
    match (
        v6.network().to_ipv4_mapped(),
        v6.broadcast().to_ipv4_mapped(),
    ) {
        (Some(first), Some(last)) => Range::V4((first.to_bits(), last.to_bits())),
        _ => Range::V6((v6.network().to_bits(), v6.broadcast().to_bits())),
    }
}

fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(open) if next(open.1).is_none_or(|next| first <= next) => {
                open.1 = open.1.max(last)
            }
            Some(_) | None => merged.push((first, last)),
        }
    }
    merged.into_boxed_slice()
}

fn holds<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    let open = after.checked_sub(1).and_then(|at| ranges.get(at));
    open.is_some_and(|(_, last)| address <= *last)
}

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

#[cfg(test)]
mod tests;
