//! From where a request comes: the client address behind trusted peers, and its region.
//!
//! [`address`] walks one forwarding header over trusted hops; [`geo`] looks the result up in GeoIP databases; [`provider`]
//! knows the published address ranges of a few proxies. Nothing here knows of rules or of what a region is used for.

pub mod address;
pub mod geo;
pub mod provider;
