//! From where a request comes: the client address behind trusted peers, and its region.

pub mod address;
pub mod geo;
