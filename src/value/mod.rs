//! Small validated values. Text becomes a type which cannot be wrong, and nothing later checks it again.
//!
//! Nothing here knows of configuration files, requests or policy.

pub mod cidr;
pub mod country;
pub mod device;
pub mod duration;
pub mod failure;
pub mod hop;
pub mod host;
pub mod path;
pub mod principal;
pub mod reason;
pub mod region;
pub mod size;
pub mod source;
