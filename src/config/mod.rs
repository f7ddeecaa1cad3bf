//! From text to a [`crate::snapshot::Snapshot`], or to a [`Report`] with every mistake at once.
//!
//! text [`source`] → spanned tree [`node`] → checked against the key tables of [`raw`] → [`compile`].
//! This room never serves a request and never keeps state: the same files give the same answer.

pub mod compile;
pub mod context;
pub mod defaults;
pub mod diagnostic;
pub mod effective;
pub mod findings;
pub mod nearest;
pub mod node;
pub mod raw;
pub mod render;
pub mod schema;
pub mod source;

use std::path::PathBuf;

use jiff::Timestamp;

use crate::snapshot::Snapshot;

pub use context::{Context, Memory};
pub use diagnostic::{Accepted, Diagnostic, Report, Severity, Witness};
pub use node::{Node, Span, Table, Value};
pub use render::Paint;
pub use source::Input;

/// What a load gives.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration, unless the report refuses it.
    pub snapshot: Option<Snapshot>,
    /// Every finding, sorted by place.
    pub report: Report,
    /// What the next load falls back on.
    pub memory: Memory,
    /// Files and folders whose change means a new load. Also known where the configuration is refused: mending one of them
    /// mends it.
    pub watch: Vec<PathBuf>,
    /// The tree as read, for those who show it.
    pub root: Table,
}

/// Loads a configuration: reads it, checks it and compiles it.
///
/// `memory` is what the load before left; `generation` becomes the snapshot's number; `now` is what dates are judged by.
#[must_use]
pub fn load(input: Input, memory: Memory, generation: u64, now: Timestamp) -> Loaded {
    load_with(input, memory, generation, now, &|name| {
        std::env::var(name).ok()
    })
}

fn load_with(
    input: Input,
    memory: Memory,
    generation: u64,
    now: Timestamp,
    variables: source::Variables<'_>,
) -> Loaded {
    let mut cx = Context {
        memory,
        now,
        ..Context::default()
    };
    let root = source::read(input, variables, &mut cx);
    let snapshot = if cx.report.files.is_empty() {
        // Nothing could be read: "there is no listener" would only hide the one finding that matters.
        None
    } else if cx.report.diagnostics.iter().any(|d| d.code == "syntax") {
        // The rest of a broken line may be missing from the tree: what stands there is judged, what is absent is not.
        let known = cx.report.diagnostics.len();
        raw::walk::check(&root, &mut cx);
        let findings = cx.report.diagnostics.split_off(known);
        let present = [
            "unknown-key",
            "invalid-value",
            "out-of-range",
            "not-yet",
            "not-in-this-build",
        ];
        let findings = findings.into_iter().filter(|d| present.contains(&d.code));
        cx.report.diagnostics.extend(findings);
        None
    } else {
        raw::walk::check(&root, &mut cx);
        let live = compile::snapshot(&root, generation, &mut cx);
        findings::accept::read(&root, &mut cx);
        let candidate = compile::candidate::compile(&root, generation, variables, &mut cx);
        live.map(|mut live| {
            live.candidate = candidate;
            live
        })
    };
    cx.report.sort();
    findings::accept::apply(&root, &mut cx.report);
    cx.watch.sort();
    cx.watch.dedup();
    let snapshot = snapshot.filter(|_| !cx.report.refused());
    let snapshot = snapshot.map(|mut snapshot| {
        snapshot.watch.clone_from(&cx.watch);
        snapshot
    });
    Loaded {
        snapshot,
        report: cx.report,
        memory: cx.memory,
        watch: cx.watch,
        root,
    }
}

#[cfg(test)]
mod tests;
