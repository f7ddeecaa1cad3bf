//! What `check` finds in a configuration that loads: rules that do not do what they seem to do.
//!
//! A load says what is wrong with a file; this room asks what the policy *means*, which takes longer, so that only `check`
//! does it: no start and no reload waits for it. Every finding has a code of [`CODES`], speaks of a rule or a route by name,
//! and can be accepted under that name (`accept`).
//!
//! - `leak`: texts for refused clients that tell how the policy is built.
//! - `trust`: rules about addresses that clients can choose, or that see one address only.
//! - `unlisted`: countries without a word about addresses that have none.
//! - `semantic`: what follows from the rules themselves, proven by `crate::analysis`.

pub(crate) mod accept;
mod leak;
mod request;
mod semantic;
mod trust;
mod unlisted;

use std::sync::Arc;

use jiff::Timestamp;

use super::compile::rules::{self, Written};
use super::node::{Span, Table};
use super::{Context, Loaded, Report};
use crate::policy::draft::Draft;
use crate::policy::{Policy, RuleId};

/// The findings that can be accepted, and what each proves.
pub const CODES: &[(&str, &str)] = &[
    ("blind-trust", "clients choose the address that rules judge"),
    ("closed-route", "no request passes the route"),
    ("covered", "no answer changes without the rule"),
    ("dead-exception", "an entry of `unless` excepts no request"),
    ("leak", "a refused client is told a name of the policy"),
    (
        "looser-route",
        "requests pass that the route around it refuses",
    ),
    ("never-matches", "no request is as the rule asks"),
    ("spoofable", "an allow rests on what any client can send"),
    (
        "unlisted",
        "a deny by country lets addresses without one pass",
    ),
    (
        "user-without-auth",
        "several sources could vouch for a user",
    ),
];

/// Adds what the analysis finds to the report of a configuration that loaded. In how many places there was too much to look
/// at, so that nothing is said of them.
pub fn analyse(loaded: &mut Loaded, now: Timestamp) -> usize {
    let Some(snapshot) = &loaded.snapshot else {
        return 0;
    };
    // The tables are compiled again, since a snapshot no longer has what its policy was built from.
    let mut cx = Context {
        report: Report {
            files: loaded.report.files.clone(),
            ..Report::default()
        },
        memory: loaded.memory.clone(),
        now,
        ..Context::default()
    };
    let (draft, written) = rules::spanned(&loaded.root, snapshot.geo.provides(), &mut cx);
    cx.report.diagnostics.clear();
    let scene = Scene {
        root: &loaded.root,
        policy: &snapshot.policy,
        draft: &draft,
        written: &written,
        sites: loaded
            .root
            .tables("site")
            .map(|site| (site, site.tables("route").collect()))
            .collect(),
    };
    leak::find(&scene, &mut cx);
    trust::find(&scene, &mut cx);
    let by_country = unlisted::find(&scene, &mut cx);
    let untold = semantic::find(&scene, &by_country, now, &mut cx);
    loaded.report.diagnostics.append(&mut cx.report.diagnostics);
    loaded.report.sort();
    accept::apply(&loaded.root, &mut loaded.report);
    accept::unused(&loaded.root, &mut loaded.report, |code| {
        untold == 0 || !semantic::CODES.contains(&code)
    });
    loaded.report.sort();
    untold
}

/// A policy, and where its parts are written.
struct Scene<'s> {
    root: &'s Table,
    policy: &'s Policy,
    draft: &'s Draft,
    written: &'s [Written],
    /// The sites as written, and their routes.
    sites: Vec<(&'s Table, Vec<&'s Table>)>,
}

impl Scene<'_> {
    fn name(&self, rule: RuleId) -> Arc<str> {
        Arc::clone(&self.policy.rule(rule).name)
    }

    fn written(&self, RuleId(rule): RuleId) -> Option<&Written> {
        self.written.get(usize::try_from(rule).ok()?)
    }

    /// Where a rule is named.
    fn span(&self, rule: RuleId) -> Span {
        self.written(rule)
            .map_or_else(Span::default, |written| written.at)
    }
}
