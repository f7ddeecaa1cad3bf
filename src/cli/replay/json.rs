//! The outcome for machines: one JSON object.

use serde_json::{Value, json};

use super::tally::{Seen, Sort, Tally, top};

/// The object, with a line feed.
pub(super) fn of(tally: &Tally, policy: &str, masked: bool) -> String {
    let mut groups: Vec<_> = tally.groups.iter().collect();
    groups.sort_by_key(|(key, group)| (key.sort, std::cmp::Reverse(group.seen.count)));
    let groups = groups.into_iter().map(|(key, group)| {
        let counts = |counts| {
            let (most, rest) = top(counts, NAMES);
            let mut most: Vec<Value> = most
                .iter()
                .map(|(name, count)| json!({ "name": name, "count": count }))
                .collect();
            if rest > 0 {
                most.push(json!({ "name": "others", "count": rest }));
            }
            most
        };
        json!({
            "change": key.sort.as_str(),
            "old": key.old,
            "new": key.new,
            "count": group.seen.count,
            "example": {
                "line": group.seen.first,
                "request.id": group.example,
                "request": group.request,
            },
            "routes": counts(&group.routes),
            "countries": counts(&group.countries),
        })
    });
    let why = tally
        .not_replayable
        .iter()
        .map(|(why, seen)| json!({ "why": why, "count": seen.count, "first_line": seen.first }));
    let unreplayable: u64 = tally.not_replayable.values().map(|seen| seen.count).sum();
    let Seen { count, first } = tally.unreadable;
    let whole = json!({
        "schema": 1,
        "policy": policy,
        "lines": tally.lines,
        "unchanged": tally.unchanged,
        "would_allow": tally.count(Sort::WouldAllow),
        "would_deny": tally.count(Sort::WouldDeny),
        "changed_answer": tally.count(Sort::Changed),
        "not_replayable": unreplayable,
        "unreadable": { "count": count, "first_line": (count > 0).then_some(first) },
        "addresses_may_be_masked": masked,
        "groups": groups.collect::<Vec<_>>(),
        "not_replayable_because": why.collect::<Vec<_>>(),
    });
    format!("{whole:#}\n")
}

/// Routes, and countries, of a group that are told.
const NAMES: usize = 50;
