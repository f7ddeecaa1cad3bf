//! What a reload changed, told to the log: the short form of `portcullis diff`. The comparison is bounded, runs beside the
//! control loop on a thread of its own, and never keeps a reload waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use jiff::Timestamp;

use crate::analysis::diff::{self, Budget, Change, Diff, Region, Side};
use crate::policy::Policy;
use crate::snapshot::Snapshot;

/// Compares snapshots, one pair at a time.
#[derive(Debug, Default)]
pub(super) struct Changes {
    busy: Arc<AtomicBool>,
}

impl Changes {
    /// Tells the log what changed between two snapshots, before long. Where the comparison before is still going on, that is
    /// said instead: reloads in quick succession must not pile up work.
    pub(super) fn tell(&self, old: Arc<Snapshot>, new: Arc<Snapshot>) {
        if self.busy.swap(true, Ordering::AcqRel) {
            tracing::info!(
                generation = new.generation,
                "decisions not compared: another comparison is going on"
            );
            return;
        }
        let done = Done(Arc::clone(&self.busy));
        let generation = new.generation;
        let compare = move || {
            for line in lines(&old, &new) {
                tracing::info!(generation = new.generation, "{line}");
            }
            drop(done);
        };
        let thread = thread::Builder::new().name("compare".to_owned());
        if let Err(error) = thread.spawn(compare) {
            tracing::info!(generation, %error, "decisions not compared");
        }
    }
}

/// Says that a comparison is over, however it ended.
struct Done(Arc<AtomicBool>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn lines(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let found = diff::diff(&old.policy, &new.policy, Timestamp::now(), BUDGET);
    let mut lines = vec![summary(&found)];
    let regions = found.regions.iter().take(REGIONS_MAX);
    lines.extend(regions.map(|region| line(region, &old.policy, &new.policy)));
    if found.regions.len() > REGIONS_MAX {
        lines.push(format!(
            "and {} more regions: `portcullis diff OLD NEW` lists them",
            found.regions.len() - REGIONS_MAX
        ));
    }
    lines
}

fn summary(found: &Diff) -> String {
    let count = |change| {
        found
            .regions
            .iter()
            .filter(|region| region.change == change)
            .count()
    };
    let told = [
        (count(Change::Allowed), "newly allowed"),
        (count(Change::Denied), "newly denied"),
        (count(Change::Answered), "answered otherwise"),
    ];
    let told = told.into_iter().filter(|(count, _)| *count > 0);
    let told: Vec<String> = told
        .map(|(count, words)| format!("{count} {words}"))
        .collect();
    let mut text = if told.is_empty() {
        "no request is decided otherwise".to_owned()
    } else {
        format!("decisions changed; regions: {}", told.join(", "))
    };
    if !found.untold.is_empty() {
        let places = found
            .untold
            .iter()
            .map(|place| format!("{} {}", place.hosts, place.path));
        text.push_str(&format!(
            "; not compared, as too large: {}",
            diff::some_of(places)
        ));
    }
    text
}

fn line(region: &Region, old: &Policy, new: &Policy) -> String {
    let word = match region.change {
        Change::Allowed => "newly allowed",
        Change::Denied => "newly denied",
        Change::Answered => "answered otherwise",
    };
    let places = region
        .places
        .iter()
        .map(|place| format!("{} {}", place.hosts, place.path));
    let mut text = format!("{word}: {}", diff::some_of(places));
    let cases: Vec<String> = region.cases.iter().map(|case| case.join(" and ")).collect();
    if !cases.is_empty() {
        text.push_str(&format!(", where {}", cases.join(", or ")));
    }
    let rules = |side: &Side, policy: &Policy| {
        let names = side
            .rules
            .iter()
            .map(|id| format!("`{}`", policy.rule(*id).name));
        (!side.rules.is_empty()).then(|| diff::some_of(names))
    };
    if let Some(rules) = rules(&region.old, old) {
        text.push_str(&format!("; before by {rules}"));
    }
    if let Some(rules) = rules(&region.new, new) {
        text.push_str(&format!("; now by {rules}"));
    }
    text
}

/// What a comparison beside a running proxy may cost: about a second of one core.
const BUDGET: Budget = Budget {
    cell: 4_000_000,
    whole: 30_000_000,
};
/// Regions that are told.
const REGIONS_MAX: usize = 5;
