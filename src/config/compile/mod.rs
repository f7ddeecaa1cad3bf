//! From checked tables to a snapshot. One file per section; each adds its findings to the context and goes on.

pub mod access_log;
pub mod client;
mod condition;
pub mod denial;
pub mod geoip;
pub mod identity;
mod list;
#[cfg(test)]
mod policy_tests;
pub mod rules;
pub mod sets;
pub mod tests;
pub mod tls;
mod value;
mod window;
