//! `portcullis diff` on policies of many rules: time and memory, for edits of several kinds.
//!
//! The rules are those of the bench `decide`, shape `spread`: 2 % global denies, sites of 100 rules with ten routes each, and
//! 100 address sets. A site-wide edit touches one site, a global one every route of every site. Peak memory is that of the
//! process so far, policies included. `ANALYSIS_SIZES=1000,10000` chooses the sizes.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "a bench may stop at the first surprise, and prints its table"
)]

use std::fmt::Write as _;
use std::time::Instant;

use portcullis::analysis::diff::{Budget, diff};
use portcullis::config::Context;
use portcullis::config::compile::rules as compile;
use portcullis::config::node::{self, FileId};
use portcullis::policy::Policy;
use portcullis::value::region::GeoFacts;

mod rules;

use self::rules::{Dice, allow, deny, head};

/// A policy of so many rules; `global` is one more global deny, `seed` what the rules of the first site are rolled from.
fn policy(rules: usize, global: &str, seed: u64) -> Policy {
    let (mut dice, mut text) = (Dice(0x5EED), head());
    let count = (rules / 50).max(2);
    text.push_str(global);
    for number in 0..count {
        let rule = deny(&mut dice, number, "");
        writeln!(text, "[[deny]]\nname = \"g{number}\"\n{rule}").unwrap();
    }
    let mut left = rules - count;
    let mut site = 0;
    while left > 0 {
        let mut dice = Dice(if site == 0 { seed } else { 0xA11_0000 + site });
        write!(text, "[[site]]\nhost = [\"site{site}.example.com\"]\nupstream = \"u\"\nidentity = [\"sso\"]\n").unwrap();
        site += 1;
        for number in 0..left.min(10) {
            let rule = deny(&mut dice, number, "");
            writeln!(text, "[[site.deny]]\nname = \"s{number}\"\n{rule}").unwrap();
        }
        left -= left.min(10);
        for route in 0..10 {
            let allows = left.min(5);
            left -= allows;
            let list: Vec<String> = (0..allows.max(1)).map(|_| allow(&mut dice)).collect();
            let list = list.join(", ");
            write!(
                text,
                "[[site.route]]\npath = \"/api/r{route}/**\"\nallow = [{list}]\n"
            )
            .unwrap();
            for number in 0..left.min(4) {
                let rule = deny(&mut dice, number, &format!("/api/r{route}"));
                writeln!(
                    text,
                    "[[site.route.deny]]\nname = \"r{route}-{number}\"\n{rule}"
                )
                .unwrap();
            }
            left -= left.min(4);
        }
    }
    let (root, found) = node::parse(&text, FileId(0));
    assert!(found.is_empty());
    let mut cx = Context::default();
    let policy = compile::compile(&root, GeoFacts::ALL, &mut cx);
    assert!(!cx.report.refused(), "{:?}", cx.report.diagnostics.first());
    policy
}

/// The most memory that this process has used, in MiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|kib| kib.parse::<usize>().ok())
        .unwrap_or(0)
        / 1024
}

const COMMAND_LINE: Budget = Budget {
    cell: 40_000_000,
    whole: 400_000_000,
};
const RELOAD: Budget = Budget {
    cell: 4_000_000,
    whole: 30_000_000,
};

fn main() {
    let sizes = std::env::var("ANALYSIS_SIZES").unwrap_or_else(|_| "10,1000,10000".to_owned());
    let now = "2026-11-24T00:00:00Z".parse().unwrap();
    println!("| rules | edit | budget | regions | not told | ms | peak MiB |");
    println!("|---|---|---|---|---|---|---|");
    for rules in sizes.split(',').filter_map(|size| size.parse().ok()) {
        let old = policy(rules, "", 1);
        for (edit, new) in [
            ("none", policy(rules, "", 1)),
            ("the rules of one site", policy(rules, "", 2)),
            (
                "one global deny more",
                policy(
                    rules,
                    "[[deny]]\nname = \"more\"\ncountry = \"KP\"\nmethod = \"PATCH\"\nunless = [{ ip = \"@set7\" }]\n",
                    1,
                ),
            ),
        ] {
            for (name, budget) in [("diff", COMMAND_LINE), ("reload", RELOAD)] {
                let started = Instant::now();
                let found = diff(&old, &new, now, budget);
                let took = started.elapsed().as_secs_f64() * 1000.0;
                let (regions, untold) = (found.regions.len(), found.untold.len());
                println!(
                    "| {rules} | {edit} | {name} | {regions} | {untold} | {took:.1} | {} |",
                    peak()
                );
            }
        }
    }
}
