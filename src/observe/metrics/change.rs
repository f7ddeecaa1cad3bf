//! What enforcing a shadow rule, or the candidate policy, would have changed: pairs of an old and a new answer, each with its
//! count and its newest request. Kept since the process started; the number of pairs is bounded.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Metrics, WorkerMetrics, lock};
use crate::observe::record::Record;

/// What would have changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// A shadow rule, if it alone were enforced.
    Shadow,
    /// The candidate policy.
    Candidate,
}

/// A pair of answers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// What would have changed it.
    pub by: By,
    /// The site; empty where there is none, or where pairs have become too many.
    pub site: Arc<str>,
    /// The rule that decided; empty where no single one did.
    pub rule: Arc<str>,
    /// What was decided.
    pub decision: &'static str,
    /// The rule that would have decided.
    pub new_rule: Arc<str>,
    /// What would have been decided.
    pub new_decision: &'static str,
}

/// How often, and the newest request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Changed {
    /// How many requests.
    pub count: u64,
    /// When the newest began.
    pub at: Timestamp,
    /// The id of the newest.
    pub request_id: Vec<u8>,
    /// The configuration that judged the newest.
    pub generation: u64,
}

impl By {
    /// `shadow` or `candidate`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Candidate => "candidate",
        }
    }
}

impl Changed {
    fn note(&mut self, at: Timestamp, id: &[u8], generation: u64, count: u64) {
        self.count += count;
        if self.at <= at {
            self.at = at;
            self.request_id.clear();
            self.request_id.extend_from_slice(id);
            self.generation = generation;
        }
    }
}

impl WorkerMetrics {
    /// Counts what would have changed. The lock is this worker's own, and shared with scrapes only.
    pub(super) fn count_changes(&self, record: &Record) {
        let name = |name: Option<&Arc<str>>| name.map_or_else(|| Arc::from(""), Arc::clone);
        let rule = record.rule.as_ref().map(|rule| &rule.name);
        let decision = record.decision.map_or("", |decided| decided.as_str());
        let change = |by, new_rule: Option<&Arc<str>>, new_decision| Change {
            by,
            site: name(record.site.as_ref()),
            rule: name(rule),
            decision,
            new_rule: name(new_rule),
            new_decision,
        };
        let shadow = record.shadow.iter();
        let shadow = shadow.map(|(rule, would)| change(By::Shadow, Some(rule), would.as_str()));
        let second = record.candidate.as_ref().filter(|second| second.differs);
        let second = second.map(|second| {
            let rule = second.rule.as_ref().map(|rule| &rule.name);
            change(By::Candidate, rule, second.decided.as_str())
        });
        let mut series = None;
        for change in shadow.chain(second) {
            let series = series.get_or_insert_with(|| lock(&self.block.series));
            let known = &mut series.changes;
            let change = if known.len() >= CHANGES_MAX && !known.contains_key(&change) {
                Change {
                    site: Arc::from(""),
                    rule: Arc::from(""),
                    new_rule: Arc::from(""),
                    ..change
                }
            } else {
                change
            };
            let generation = record.generation.unwrap_or_default();
            let id = record.request_id.as_bytes();
            let changed = known.entry(change).or_default();
            changed.note(record.started, id, generation, 1);
        }
    }
}

impl Metrics {
    /// Every pair, of all workers, the most frequent first.
    #[must_use]
    pub fn changes(&self) -> Vec<(Change, Changed)> {
        let workers = lock(&self.0.workers).clone();
        let mut sum: BTreeMap<Change, Changed> = BTreeMap::new();
        for block in &workers {
            for (change, more) in &lock(&block.series).changes {
                let all = sum.entry(change.clone()).or_default();
                all.note(more.at, &more.request_id, more.generation, more.count);
            }
        }
        let mut all: Vec<(Change, Changed)> = sum.into_iter().collect();
        all.sort_by_key(|(_, changed)| std::cmp::Reverse(changed.count));
        all
    }
}

/// Pairs that a worker keeps apart.
const CHANGES_MAX: usize = 1000;
