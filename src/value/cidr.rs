//! Addresses and networks.

use std::net::IpAddr;

/// The one form of an address that policy sees: an IPv4-mapped IPv6 address becomes its IPv4 address (RFC 4291 §2.5.5.2).
#[must_use]
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}
