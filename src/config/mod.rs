//! From text to a [`crate::snapshot::Snapshot`], or to a [`Report`] with every mistake at once.
//!
//! text [`source`] → spanned tree [`node`] → checked against the key tables of [`raw`] → [`compile`].
//! This room never serves a request and never keeps state: the same files give the same answer.

pub mod compile;
pub mod context;
pub mod diagnostic;
pub mod nearest;
pub mod node;

pub use context::Context;
pub use diagnostic::{Diagnostic, Report, Severity};
pub use node::{Node, Span, Table, Value};
