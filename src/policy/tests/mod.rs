//! The engine against the semantics, key by key and as a whole.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

mod golden;

use super::Policy;
use crate::config::compile::rules;
use crate::config::node::{self, FileId, Table};
use crate::config::{Context, Diagnostic};
use crate::value::region::GeoFacts;

/// A policy from text, with what was found.
fn read(text: &str) -> (Table, Policy, Vec<Diagnostic>) {
    let (root, syntax) = node::parse(text, FileId(0));
    assert!(syntax.is_empty(), "{syntax:?}");
    let mut cx = Context::default();
    let policy = rules::compile(&root, GeoFacts::ALL, &mut cx);
    (root, policy, cx.report.diagnostics)
}
