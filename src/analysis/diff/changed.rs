//! Where two policies may differ at all in the requests of a cell: the rest need not be looked at.

use std::collections::BTreeSet;

use super::super::book::{ClauseId, Rule};
use super::super::cell::{Granted, View};
use super::super::diagram::Diagram;
use super::super::space::{Seen, Space};

/// Where two policies differ in the requests of a cell.
pub(super) enum Changed {
    /// Only where one of these conditions may hold.
    Rules(Vec<ClauseId>),
    /// Anywhere.
    Anything,
}

impl Changed {
    /// The requests that may end otherwise.
    pub(super) fn region(&self, requests: Diagram, space: &mut Space<'_, '_>) -> Diagram {
        match self {
            Self::Anything => requests,
            Self::Rules(clauses) => {
                let mut all = Vec::new();
                for view in 0..2 {
                    for clause in clauses {
                        all.push(space.clause(*clause, view, Seen::Perhaps));
                    }
                }
                let any = space.store.any(all);
                space.store.within(requests, any)
            }
        }
    }
}

/// What differs; none where nothing that counts does.
pub(super) fn changed(old: &View<'_>, new: &View<'_>) -> Option<Changed> {
    if old.sign_in() != new.sign_in() || old.sources() != new.sources() {
        // Who is known differs: whatever reads the identity may.
        return Some(Changed::Anything);
    }
    match (&old.grant, &new.grant) {
        (Granted::Anyone, Granted::Anyone) => {}
        (Granted::Nobody(one), Granted::Nobody(other)) if one == other => {}
        (Granted::Rules(_, one), Granted::Rules(_, other)) if one == other => {}
        (Granted::Anyone | Granted::Nobody(_) | Granted::Rules(..), _) => {
            return Some(Changed::Anything);
        }
    }
    let mut differing = Vec::new();
    let bare = |rule: &Rule| (rule.ending, rule.clause);
    if !old.denies().map(bare).eq(new.denies().map(bare)) {
        let (one, other) = (ordered(old.denies()), ordered(new.denies()));
        let (kept_one, gone) = without(&one, &other);
        let (kept_other, come) = without(&other, &one);
        if kept_one != kept_other {
            return Some(Changed::Anything);
        }
        differing.extend(gone.into_iter().chain(come));
    }
    let clauses =
        |rules: &[Rule]| -> BTreeSet<ClauseId> { rules.iter().map(|rule| rule.clause).collect() };
    let (one, other) = (clauses(old.allows()), clauses(new.allows()));
    differing.extend(one.symmetric_difference(&other).copied());
    (!differing.is_empty()).then_some(Changed::Rules(differing))
}

/// The denies, those with one ending that follow each other in an order of their own: it does not matter which of them decides.
fn ordered<'r>(rules: impl Iterator<Item = &'r Rule>) -> Vec<(u32, ClauseId)> {
    let all: Vec<(u32, ClauseId)> = rules.map(|rule| (rule.ending, rule.clause)).collect();
    let runs = all.chunk_by(|(one, _), (other, _)| one == other);
    let sorted = runs.flat_map(|run| {
        let run: BTreeSet<_> = run.iter().copied().collect();
        run
    });
    sorted.collect()
}

/// Those of one list that the other has as well, and the conditions of the rest.
fn without(
    one: &[(u32, ClauseId)],
    other: &[(u32, ClauseId)],
) -> (Vec<(u32, ClauseId)>, Vec<ClauseId>) {
    let there: BTreeSet<&(u32, ClauseId)> = other.iter().collect();
    let (kept, gone): (Vec<_>, Vec<_>) = one.iter().partition(|rule| there.contains(rule));
    // Without the rest, runs of one ending may have grown together.
    let runs = kept.chunk_by(|(one, _), (other, _)| one == other);
    let kept = runs.flat_map(|run| run.iter().copied().collect::<BTreeSet<_>>());
    (
        kept.collect(),
        gone.into_iter().map(|(_, clause)| clause).collect(),
    )
}
