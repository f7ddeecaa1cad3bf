//! Portcullis: a policy-enforcing reverse proxy.
//!
//! Every request gets one decision, by role, region and address, before a byte reaches the upstream.
//!
//! The rooms, from the pure to the effectful. Each line may use the lines above it, never those beneath:
//!
//! ```text
//! value                                             small validated values
//! policy  identity  client                          policy: no tokio, hyper, files, clock
//! analysis                                          what a policy does to every request at once, as pure as policy
//! snapshot                                          one immutable compiled configuration, data only
//! config  proxy  upstream  share  respond  observe  config and the request path do not know each other
//! server  admin  reload   →   cli, main
//! ```

pub mod admin;
pub mod analysis;
pub mod cli;
pub mod client;
pub mod config;
pub mod identity;
pub mod observe;
pub mod policy;
pub mod proxy;
pub mod reload;
pub mod respond;
pub mod server;
pub mod share;
pub mod snapshot;
pub mod upstream;
pub mod value;
