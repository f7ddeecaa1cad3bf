//! The request path: from a parsed head to an answer.
//!
//! - [`service`]: the stack, in order; a `tower::Service` at its door.
//! - [`intake`]: refuses ambiguous requests and reads host and path once.
//! - [`enforce`]: facts → decision → permit or denial.
//! - `acme`: challenges of an authority, before anything is judged.
//! - `limit`: counting in limits, and their answer.
//! - `own`: the answers that we write; [`upward`]: a request head as the upstream gets it.
//! - `watch`: shadow rules and the candidate policy, after the verdict.
//! - `question`: who asks, as another service knows (`forward_auth`).
//! - `sign_in`: the callback and the logout of sign-ins in the browser, and the redirect in a 401's place.
//! - [`headers`]: what is removed and what is set on the way up and down.
//! - `rewrite`: targets as an upstream wants them, and `Location` back.
//! - [`exchange`]: the access record of one request, closed at the end of its body.
//! - [`again`]: requests under way, judged again.
//! - [`body`]: the one response body type.
//! - `held`: the answer to a client that has guessed too often.
//! - `leftover`: request bodies that an answer of ours does not wait for.
//!
//! This room does not know where requests come from (`server`) nor how a configuration was written (`config`).

mod acme;
pub mod again;
pub mod body;
pub mod compress;
pub mod connection;
pub mod enforce;
pub mod exchange;
pub mod headers;
mod held;
pub mod intake;
mod leftover;
mod limit;
mod own;
mod question;
pub mod request_id;
mod rewrite;
pub mod service;
mod sign_in;
pub mod upward;
mod watch;

pub use connection::Connection;
pub use service::{Gate, GateService, Stop};
