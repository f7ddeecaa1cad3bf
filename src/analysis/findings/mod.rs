//! What a policy has in it that does not do what it seems to do: rules that never match or that others cover, exceptions that
//! nobody reaches, routes that nobody passes, routes that are looser than the one around them.
//!
//! Everything is told for all requests, by diagrams (see [`super`]). A finding that says "never" is certain. One that says
//! "some request" comes with a request that the evaluator has judged. Where the diagrams cannot tell, since there is too much
//! to look at, nothing is told, and the number of places is counted. What rests on sets that change while the policy stays
//! (lists in files, names) is not told either: see [`Given::changes`].
//!
//! - `rules`: never-matches, covered, dead-exception, closed-route.
//! - `looser`: looser-route.
//! - `unlisted`: denies by country that addresses without one pass.
//!
//! It knows no file and no words: `config::findings` says it.

mod looser;
mod rules;
mod unlisted;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::book::Book;
use super::cell::Cell;
use super::diagram::Diagram;
use super::space::Space;
use super::witness::Witness;
use crate::policy::condition::Condition;
use crate::policy::simulate::{self, Asked, Outcome};
use crate::policy::{Policy, RouteId, RoutePart, RuleId, SiteId, SitePart};

/// One finding.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What is wrong, and with what.
    pub what: What,
    /// A request that shows it, and how it ends; none where nothing can be shown.
    pub proof: Option<Proof>,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A rule can never match.
    NeverMatches {
        /// Which.
        rule: RuleId,
        /// Why.
        why: Never,
    },
    /// A rule changes no answer, since others do the same.
    Covered {
        /// Which.
        rule: RuleId,
        /// By whom: as few as were found.
        by: Vec<RuleId>,
    },
    /// An entry of an `unless` excepts no request.
    DeadException {
        /// Of which rule.
        rule: RuleId,
        /// Which, counted from 0.
        entry: usize,
    },
    /// No request passes a route.
    ClosedRoute {
        /// Of which site.
        site: SiteId,
        /// Which.
        route: RouteId,
        /// Why.
        why: Closed,
    },
    /// A route lets requests pass that the rules of the route around it refuse.
    LooserRoute {
        /// Of which site.
        site: SiteId,
        /// Which.
        route: RouteId,
        /// The route around it.
        around: RouteId,
        /// The denies of that one that it lacks; where there are none, its allows are wider.
        lacks: Vec<RuleId>,
    },
    /// A deny by country lets addresses without a country pass.
    Unlisted {
        /// Which.
        rule: RuleId,
    },
}

/// Why a rule never matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Never {
    /// These of its tests never hold together.
    Contradiction(Vec<Arc<str>>),
    /// It excepts whatever it matches.
    Excepted,
    /// What it matches is not asked where it stands.
    Elsewhere,
}

/// Why nobody passes a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// Other routes own all its paths.
    Unowned,
    /// None of its allows can match.
    NoAllow,
    /// These denies refuse whatever it allows.
    Denied(Vec<RuleId>),
}

/// A request that the evaluator has judged.
#[derive(Debug, Clone)]
pub struct Proof {
    /// The request.
    pub asked: Asked,
    /// How it ends.
    pub outcome: Outcome,
}

/// What is to be found, and what is known of the policy from outside.
pub struct Given<'g> {
    /// Requests before this moment are of no interest.
    pub now: Timestamp,
    /// Whether a rule reads a set that may change while the policy stays.
    pub changes: &'g dyn Fn(RuleId) -> bool,
    /// Denies by country that say nothing of addresses without one: those that let some pass are found.
    pub by_country: &'g [RuleId],
}

impl std::fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// All findings.
#[derive(Debug, Default)]
pub struct Found {
    /// The findings.
    pub findings: Vec<Finding>,
    /// Places (a route and a kind of host) where there was too much to look at.
    pub untold: usize,
}

/// Finds.
#[must_use]
pub fn find(policy: &Policy, given: &Given<'_>) -> Found {
    let book = Book::new(vec![policy], given.now);
    let mut found = Found::default();
    let mut purse = Purse { left: TOTAL };
    let mut sight = rules::Sight::new(policy, given);
    let mut around = looser::Around::default();
    let mut without = unlisted::Without::new(given.by_country);
    for hosts in book.hosts() {
        let cells = book.cells(&hosts);
        for cell in &cells {
            let told = purse.spend(cell, &book, |space| {
                let seen = sight.look(cell, space);
                let passing = without.look(policy, cell, space);
                Some((seen?, passing?))
            });
            match told {
                Some((seen, passing)) => {
                    sight.keep(seen);
                    without.keep(passing);
                }
                None => {
                    sight.lose(cell);
                    found.untold += 1;
                }
            }
        }
        around.look(policy, &book, &cells, given, &mut purse);
    }
    found.findings = sight.finish(policy, given);
    found.findings.append(&mut around.findings);
    found.findings.extend(without.finish());
    found
}

/// The steps that are left.
struct Purse {
    left: usize,
}

impl Purse {
    /// Looks at a cell; none where there is too much to look at.
    fn spend<'b, 'p, T>(
        &mut self,
        cell: &Cell<'p>,
        book: &'b Book<'p>,
        look: impl FnOnce(&mut Space<'b, 'p>) -> Option<T>,
    ) -> Option<T> {
        let view = cell.views.first()?;
        if view.denies().count() + view.allows().len() > RULES_MAX {
            return None;
        }
        let mut space = cell.space(book, CELL.min(self.left))?;
        let told = look(&mut space);
        self.left = self.left.saturating_sub(space.store.spent());
        told.filter(|_| !space.store.is_exhausted())
    }
}

/// A request of a region, judged.
fn proof(policy: &Policy, space: &Space<'_, '_>, region: Diagram) -> Option<Proof> {
    let Some(Witness::Made(made)) = space.witness(region) else {
        return None;
    };
    let asked = made.into_iter().next()?;
    let outcome = simulate::judge(policy, &asked);
    matches!(outcome, Outcome::Judged { .. }).then_some(Proof { asked, outcome })
}

impl Proof {
    fn passes(&self, policy: &Policy) -> bool {
        self.outcome.status(policy).is_none()
    }
}

/// Every rule with its condition.
fn conditions(policy: &Policy) -> impl Iterator<Item = (RuleId, &Condition)> {
    let sites = || policy.site_parts();
    let routes = || sites().flat_map(SitePart::routes);
    let denies = policy.global_denies().iter();
    let denies = denies.chain(sites().flat_map(SitePart::denies));
    let denies = denies.chain(routes().flat_map(RoutePart::denies));
    let denies = denies.map(|deny| (deny.rule, &deny.condition));
    let allows = routes().flat_map(RoutePart::allows);
    denies.chain(allows.map(|allow| (allow.rule, &allow.condition)))
}

/// As few of `all` as cover a region: one, or what is left when whatever can be spared is spared, the last first.
fn covering(region: Diagram, all: &[(RuleId, Diagram)], space: &mut Space<'_, '_>) -> Vec<RuleId> {
    let store = &mut space.store;
    let mut near: Vec<(RuleId, Diagram)> = Vec::new();
    for (rule, holds) in all {
        if store.without(region, *holds) == super::diagram::FALSE {
            return vec![*rule];
        }
        let both = store.within(region, *holds);
        if both != super::diagram::FALSE {
            near.push((*rule, both));
        }
    }
    let mut at = near.len();
    while at > 0 && near.len() <= NAMED_MAX {
        at -= 1;
        let rest = near.iter().enumerate().filter(|(other, _)| *other != at);
        let rest = rest.map(|(_, (_, both))| *both).collect();
        let rest = store.any(rest);
        if store.without(region, rest) == super::diagram::FALSE {
            near.remove(at);
        }
    }
    let names: BTreeSet<RuleId> = near.into_iter().map(|(rule, _)| rule).collect();
    names.into_iter().collect()
}

/// Rules of one cell: what is done with them grows faster than they do.
const RULES_MAX: usize = 3000;
/// Steps for one cell.
const CELL: usize = 3_000_000;
/// Steps for all of them: some seconds.
const TOTAL: usize = 60_000_000;
/// How many rules may be spared one by one.
const NAMED_MAX: usize = 100;
