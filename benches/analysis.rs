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
use portcullis::config::compile::rules;
use portcullis::config::node::{self, FileId};
use portcullis::policy::Policy;
use portcullis::value::region::GeoFacts;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % sides as u64) as usize
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.roll(items.len())]
    }
}

const COUNTRIES: [&str; 16] = [
    "NL", "DE", "FR", "US", "GB", "JP", "BR", "IN", "CN", "RU", "KP", "SY", "IR", "CU", "SE", "NO",
];
const ROLES: [&str; 8] = [
    "viewer", "editor", "admin", "staff", "billing", "support", "auditor", "partner",
];
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];
const SETS: usize = 100;

fn head() -> String {
    let mut text = String::from(
        "[role]\nadmin = [\"editor\"]\neditor = [\"viewer\"]\nstaff = []\nbilling = []\nsupport = []\nauditor = []\npartner = []\n[ip]\n",
    );
    for set in 0..SETS {
        let nets: Vec<String> = (0..20)
            .map(|n| format!("\"{}.{}.{}.0/24\"", 20 + set, n * 12, set))
            .collect();
        writeln!(text, "set{set} = [{}]", nets.join(", ")).unwrap();
    }
    text
}

fn deny(dice: &mut Dice, number: usize, path: &str) -> String {
    let set = dice.roll(SETS);
    let (role, method, other) = (dice.of(&ROLES), dice.of(&METHODS[1..]), dice.roll(SETS));
    let (one, two) = (dice.of(&COUNTRIES[8..14]), dice.of(&COUNTRIES[8..14]));
    match dice.roll(7) {
        0 => format!("ip = \"@set{set}\"\nunless = [{{ role = \"{role}\" }}]"),
        1 => format!(
            "country = [\"{one}\", \"{two}\"]\nmethod = \"{method}\"\nunless = [{{ ip = \"@set{other}\" }}]"
        ),
        2 => format!("path = \"{path}/section{number}/**\"\nmethod = [\"POST\", \"{method}\"]"),
        3 => format!("role = \"{role}\"\nip = \"@set{set}\""),
        4 => format!(
            "asn = [{}, {}]\nmethod = \"{method}\"",
            64500 + dice.roll(400),
            64500 + dice.roll(400)
        ),
        5 => format!("user = \"user{}\"\nmethod = \"{method}\"", dice.roll(5000)),
        _ => format!("path = \"{path}/*/secret{number}\"\nrole = \"{role}\""),
    }
}

fn allow(dice: &mut Dice) -> String {
    let (role, set) = (dice.of(&ROLES), dice.roll(SETS));
    let (one, two) = (dice.of(&COUNTRIES), dice.of(&COUNTRIES));
    match dice.roll(4) {
        0 => format!("{{ role = \"{role}\" }}"),
        1 => format!("{{ role = \"{role}\", ip = \"@set{set}\" }}"),
        2 => format!("{{ country = [\"{one}\", \"{two}\"], method = \"GET\" }}"),
        _ => format!("{{ user = \"user{}\" }}", dice.roll(5000)),
    }
}

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
    let policy = rules::compile(&root, GeoFacts::ALL, &mut cx);
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
