//! The running process: start, reload, drain. A control thread owns everything that is not a request: files, signals, names,
//! listeners, the admin socket.
//!
//! A reload is all or nothing: files are read and compiled beside the running configuration, new sockets are bound, new logs are
//! opened; only when all of that has worked is the snapshot published. Whatever fails is reported and changes nothing. A policy
//! whose own tests fail is refused like one that does not compile, at the start too.
//!
//! - [`Instance`]: the door; one whole proxy in this process.
//! - `changes`: what a reload changed, told to the log.
//! - [`control`]: the control thread's loop.
//! - [`handover`]: a new binary takes over the sockets.
//! - `keys`: keys that issuers publish.
//! - [`listeners`]: sockets that outlive a reload.
//! - [`names`]: `dns:` entries resolved outside the request path.
//! - [`revocation`]: what is revoked while running, kept on disk.
//! - `provider`: providers that sign in browsers.
//! - [`supervisor`]: what systemd is told.
//! - [`watch`]: files that changed.

mod changes;
pub mod control;
pub mod handover;
pub mod instance;
mod keys;
pub mod listeners;
pub mod names;
mod provider;
pub mod revocation;
pub mod supervisor;
pub mod watch;

pub use instance::{Instance, Options, StartError};
