//! The engine against the semantics, key by key and as a whole.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "tests may stop at the first surprise"
)]

mod golden;
mod oracle;
mod properties;

use super::Policy;
use crate::config::compile::{self, rules};
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

#[test]
fn every_policy_file_holds_its_tests() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy");
    let mut files = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let (root, policy, found) = read(&text);
        assert!(found.is_empty(), "{}: {found:#?}", path.display());
        let mut cx = Context::default();
        let count = compile::tests::run(&root, &policy, &mut cx);
        let found: Vec<String> = cx
            .report
            .diagnostics
            .into_iter()
            .map(|d| d.message)
            .collect();
        assert!(
            found.is_empty(),
            "{}:\n{}",
            path.display(),
            found.join("\n")
        );
        assert!(count > 10, "{}", path.display());
        files += 1;
    }
    assert!(files >= 5);
}
