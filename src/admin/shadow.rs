//! `GET /shadow`: what enforcing shadow rules, or the candidate policy, would have changed since the process started.

use serde_json::{Value, json};

use crate::observe::metrics::Metrics;
use crate::policy::Mode;
use crate::snapshot::Snapshot;

/// The summary, with at most `most` pairs; nothing where nothing watches and nothing ever has.
#[must_use]
pub fn summary(snapshot: &Snapshot, metrics: &Metrics, most: usize) -> Option<Value> {
    let changes = metrics.changes();
    let rules = snapshot.policy.rules().iter();
    let watching: Vec<&str> = rules
        .filter(|rule| rule.mode == Mode::Shadow)
        .map(|rule| &*rule.name)
        .collect();
    let candidate = snapshot.candidate.as_ref();
    if changes.is_empty() && watching.is_empty() && candidate.is_none() {
        return None;
    }
    let left_off = changes.len().saturating_sub(most);
    let told = changes.iter().take(most).map(|(change, changed)| {
        json!({
            "by": change.by.as_str(),
            "site": &*change.site,
            "rule": &*change.rule,
            "decision": change.decision,
            "new_rule": &*change.new_rule,
            "new_decision": change.new_decision,
            "count": changed.count,
            "newest": {
                "request_id": String::from_utf8_lossy(&changed.request_id),
                "at": changed.at.to_string(),
                "generation": changed.generation,
            },
        })
    });
    Some(json!({
        "candidate": candidate.map(|candidate| &*candidate.file),
        "shadow_rules": watching.len(),
        "changes": told.collect::<Vec<_>>(),
        "left_off": left_off,
    }))
}

/// Pairs that `status` shows.
pub const FEW: usize = 20;
/// Pairs that `/shadow` shows.
pub const MANY: usize = 1000;
