//! Denies by country that addresses without a country pass: for each that is asked about, a request that does.

use std::collections::BTreeMap;

use super::{Finding, Proof, What, proof};
use crate::analysis::book::{Asks, Ending, Sense};
use crate::analysis::cell::Cell;
use crate::analysis::space::{Attribute, Seen, Space};
use crate::policy::simulate;
use crate::policy::{Policy, RuleId};

/// The denies that are asked about, and what passes them.
#[derive(Debug)]
pub(super) struct Without {
    open: Vec<RuleId>,
    passing: BTreeMap<RuleId, Proof>,
}

impl Without {
    pub(super) fn new(asked: &[RuleId]) -> Self {
        Self {
            open: asked.to_vec(),
            passing: BTreeMap::new(),
        }
    }

    /// What passes in one cell.
    pub(super) fn look(
        &self,
        policy: &Policy,
        cell: &Cell<'_>,
        space: &mut Space<'_, '_>,
    ) -> Option<Vec<(RuleId, Proof)>> {
        let view = cell.views.first()?;
        let mut found = Vec::new();
        for rule in view.denies().filter(|rule| self.open.contains(&rule.id)) {
            let requests = cell.requests(space);
            let judged = cell.judged(0, requests, space)?;
            let mut region = space.store.is(judged.ending, Ending::ALLOW);
            let clause = space.book.clause_at(rule.clause)?;
            for (term, sense) in &clause.tests {
                let asks = space.book.term(*term).map(|term| &term.asks);
                if matches!(asks, Some(Asks::Country(_) | Asks::Continent(_))) {
                    continue;
                }
                let holds = space.term(*term, 0);
                region = match sense {
                    Sense::Holds => space.store.within(region, holds),
                    Sense::Fails => space.store.without(region, holds),
                };
            }
            for excepted in &clause.unless {
                let excepted = space.clause(*excepted, 0, Seen::Wholly);
                region = space.store.without(region, excepted);
            }
            for number in 0..u32::try_from(space.attributes.len()).unwrap_or(0) {
                let groups = space.attribute(number).and_then(unlisted);
                if let Some((atom, count)) = groups {
                    let without = space.store.one_of(number, &[atom], count);
                    region = space.store.within(region, without);
                }
            }
            let proof = proof(policy, space, region).map(|proof| {
                // The rules do not tell it from some country, which reads better; here it is the point.
                let mut asked = proof.asked;
                (asked.region.country, asked.region.continent) = (None, None);
                let outcome = simulate::judge(policy, &asked);
                Proof { asked, outcome }
            });
            if let Some(proof) = proof.filter(|proof| proof.passes(policy)) {
                found.push((rule.id, proof));
            }
        }
        Some(found)
    }

    pub(super) fn keep(&mut self, found: Vec<(RuleId, Proof)>) {
        for (rule, proof) in found {
            self.open.retain(|open| *open != rule);
            self.passing.entry(rule).or_insert(proof);
        }
    }

    pub(super) fn finish(self) -> impl Iterator<Item = Finding> {
        self.passing.into_iter().map(|(rule, proof)| Finding {
            what: What::Unlisted { rule },
            proof: Some(proof),
        })
    }
}

/// The atom of an attribute that stands for addresses without one, and how many atoms there are.
fn unlisted(attribute: &Attribute) -> Option<(u32, u32)> {
    let at = match attribute {
        Attribute::Country(groups) => groups.iter().position(|group| group.contains(&None)),
        Attribute::Continent(groups) => groups.iter().position(|group| group.contains(&None)),
        Attribute::Segment(..)
        | Attribute::Slash
        | Attribute::Method(_)
        | Attribute::Scheme
        | Attribute::Tls
        | Attribute::WebSocket
        | Attribute::Client(_)
        | Attribute::Peer(_)
        | Attribute::Subdivision(_)
        | Attribute::Asn(_)
        | Attribute::Anonymizer(_)
        | Attribute::Opaque(_)
        | Attribute::Now(_)
        | Attribute::Auth(_)
        | Attribute::User(_)
        | Attribute::Role(_)
        | Attribute::Claim(..) => return None,
    };
    Some((u32::try_from(at?).ok()?, attribute.count()))
}
