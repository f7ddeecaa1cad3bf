//! `[shadow] candidate`: a second policy, compiled beside the live one.
//!
//! The file is a whole configuration, as it would be loaded: its mistakes are mistakes of this load and refuse it. Of what it
//! compiles to, its rules and databases are kept. Its own tests are not run, its warnings not told (`check` does both), and a
//! candidate that it names is not looked at.

use crate::config::node::Table;
use crate::config::source::{self, Input, Variables};
use crate::config::{Context, Severity, raw};
use crate::snapshot::Candidate;
use std::sync::Arc;

/// Reads and compiles the candidate that a configuration names.
pub(crate) fn compile(
    root: &Table,
    generation: u64,
    variables: Variables<'_>,
    cx: &mut Context,
) -> Option<Box<Candidate>> {
    let node = root.table("shadow")?.get("candidate")?;
    let written = node.as_str()?;
    let path = cx.path(node.span, written);
    cx.watch.push(path.clone());
    if let Err(error) = std::fs::metadata(&path) {
        let message = format!("`{written}` cannot be read: {}", error.kind());
        cx.error("unreadable-file", node.span, message);
        return None;
    }
    let known = cx.report.diagnostics.len();
    let live = cx.memory.databases.clone();
    let compiled = whole(Input::File(path), generation, variables, cx);
    cx.memory.databases.keep(live);
    let found = cx.report.diagnostics.split_off(known);
    let errors = found.into_iter().filter(|d| d.severity == Severity::Error);
    cx.report.diagnostics.extend(errors);
    let snapshot = compiled?;
    Some(Box::new(Candidate {
        file: Arc::from(written),
        policy: snapshot.policy,
        geo: snapshot.geo,
    }))
}

fn whole(
    input: Input,
    generation: u64,
    variables: Variables<'_>,
    cx: &mut Context,
) -> Option<crate::snapshot::Snapshot> {
    let known = cx.report.diagnostics.len();
    let root = source::read(input, variables, cx);
    let mut new = cx.report.diagnostics.iter().skip(known);
    // What stands behind a broken line is missing from the tree: more about it would only mislead.
    if new.any(|d| d.severity == Severity::Error) {
        return None;
    }
    raw::walk::check(&root, cx);
    super::snapshot(&root, generation, cx)
}
