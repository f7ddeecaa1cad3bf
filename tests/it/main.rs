//! The proxy as seen from outside: a whole instance in this process, raw bytes in front of it, a scripted origin behind it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::needless_pass_by_value,
    clippy::wildcard_enum_match_arm,
    reason = "tests may stop at the first surprise, and say what they saw"
)]

mod support;

mod address;
mod admin;
mod asked;
mod brute_force;
#[cfg(feature = "compression")]
mod compression;
mod conformance;
mod denial;
mod devices;
mod edits;
mod examples;
mod fields;
mod golden;
mod h2;
mod h2_rules;
mod h2_upstreams;
mod h2_websocket;
mod handover;
mod hostile;
mod http1;
mod identity;
mod limits;
mod log;
mod maintenance;
mod matrix;
mod mtls;
mod nginx;
mod oidc;
mod overload;
mod paths;
mod providers;
mod proxy_protocol;
mod rate;
mod reload;
mod replay;
mod resilience;
mod routing;
mod shadow;
#[cfg(feature = "redis")]
mod shared;
mod signed;
mod step_up;
mod streams;
mod tls;
mod trust;
mod upstreams;
mod verbs;
