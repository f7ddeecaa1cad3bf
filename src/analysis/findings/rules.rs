//! What is true of a rule in every cell in which it stands, and of a route in all of its cells.
//!
//! The cells are looked at one by one. A rule is *matched* once some cell has a request that it holds for, and *needed* once
//! some cell has a request that would end otherwise without it; what is left at the end was neither, anywhere. A cell that
//! cannot be told spares all its rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Closed, Finding, Given, Never, Proof, What, conditions, covering, proof};
use crate::analysis::book::{ClauseId, Ending, Rule, Sense};
use crate::analysis::cell::{Cell, Granted};
use crate::analysis::diagram::{Diagram, FALSE, TRUE};
use crate::analysis::space::{Seen, Space};
use crate::policy::{Policy, RouteId, RuleId, RuleKind, SiteId};

type Fast<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// What has been seen so far.
pub(super) struct Sight<'s> {
    policy: &'s Policy,
    given: &'s Given<'s>,
    rules: BTreeMap<RuleId, OfRule>,
    /// Whether an entry of an `unless` is of use somewhere.
    entries: BTreeMap<(RuleId, usize), bool>,
    routes: BTreeMap<(SiteId, RouteId), OfRoute>,
}

#[derive(Debug, Default)]
struct OfRule {
    /// Some cell could not be told, or the rule may change.
    spared: bool,
    matched: bool,
    needed: bool,
    by: BTreeSet<RuleId>,
    proof: Option<Proof>,
    never: Option<Never>,
    /// The routes in which it stands as a rule of their own.
    route: Option<(SiteId, RouteId)>,
}

#[derive(Debug, Default)]
struct OfRoute {
    spared: bool,
    owns: bool,
    passes: bool,
    why: Option<Closed>,
    proof: Option<Proof>,
}

/// What one cell shows.
#[derive(Debug, Default)]
pub(super) struct Shown {
    route: Option<(SiteId, RouteId)>,
    owns: bool,
    passes: bool,
    why: Option<Closed>,
    proof: Option<Proof>,
    /// Rules that stand in the route itself.
    own: BTreeSet<RuleId>,
    rules: Vec<(RuleId, InCell)>,
    entries: Vec<((RuleId, usize), bool)>,
}

#[derive(Debug)]
enum InCell {
    /// It never matches here.
    Never(Never),
    /// It does, and it is known to be needed, or nobody asked.
    Needed,
    /// It does, and these do the same.
    Covered(Vec<RuleId>, Option<Box<Proof>>),
}

impl<'s> Sight<'s> {
    pub(super) fn new(policy: &'s Policy, given: &'s Given<'s>) -> Self {
        Self {
            policy,
            given,
            rules: BTreeMap::new(),
            entries: BTreeMap::new(),
            routes: BTreeMap::new(),
        }
    }

    /// Looks at one cell.
    pub(super) fn look(&self, cell: &Cell<'_>, space: &mut Space<'_, '_>) -> Option<Shown> {
        let view = cell.views.first()?;
        let mut shown = Shown {
            route: view
                .site
                .zip(view.route)
                .map(|(site, route)| (site.id, route.id)),
            ..Shown::default()
        };
        let own = view.denies.last().into_iter().flat_map(|own| own.iter());
        shown.own = own.chain(view.allows()).map(|rule| rule.id).collect();
        let requests = cell.requests(space);
        if requests == FALSE {
            let never = |rule: &RuleId| (*rule, InCell::Never(Never::Elsewhere));
            shown.rules = shown.own.iter().map(never).collect();
            return Some(shown);
        }
        shown.owns = true;
        let denies: Vec<Rule> = view.denies().copied().collect();
        let allows: Vec<Rule> = view.allows().to_vec();
        let holds = |rules: &[Rule], space: &mut Space<'_, '_>| -> Vec<Diagram> {
            let each = rules.iter().map(|rule| {
                let holds = space.clause(rule.clause, 0, Seen::Wholly);
                space.store.within(holds, requests)
            });
            each.collect()
        };
        let denied = holds(&denies, space);
        let allowed = holds(&allows, space);
        let judged = cell.judged(0, requests, space)?;
        let passing = space.store.is(judged.ending, Ending::ALLOW);
        shown.passes = passing != FALSE;
        for (rule, holds) in denies
            .iter()
            .zip(&denied)
            .chain(allows.iter().zip(&allowed))
        {
            self.entries(rule, requests, space, &mut shown);
            if *holds == FALSE {
                let never = self.never(rule, space);
                shown.rules.push((rule.id, InCell::Never(never)));
            }
        }
        let all_denied = space.store.any(denied.clone());
        let mut look = Look {
            sight: self,
            cell,
            baseline: judged.ending,
            requests,
            gone: BTreeSet::new(),
        };
        let named = |rules: &[Rule], holds: &[Diagram]| -> Vec<(RuleId, Diagram)> {
            rules
                .iter()
                .map(|rule| rule.id)
                .zip(holds.iter().copied())
                .collect()
        };
        let (denied, allowed) = (named(&denies, &denied), named(&allows, &allowed));
        look.list(&denied, FALSE, &[], space, &mut shown);
        look.list(&allowed, all_denied, &denied, space, &mut shown);
        if !shown.passes && shown.route.is_some() {
            let some = match &view.grant {
                Granted::Nobody(_) => FALSE,
                Granted::Anyone => requests,
                Granted::Rules(..) => space
                    .store
                    .any(allowed.iter().map(|(_, holds)| *holds).collect()),
            };
            shown.why = Some(if some == FALSE {
                Closed::NoAllow
            } else {
                Closed::Denied(covering(some, &denied, space))
            });
            let region = if some == FALSE { requests } else { some };
            shown.proof = proof(self.policy, space, region);
        }
        Some(shown)
    }

    /// Which entries of its `unless` a rule needs here.
    fn entries(
        &self,
        rule: &Rule,
        requests: Diagram,
        space: &mut Space<'_, '_>,
        shown: &mut Shown,
    ) {
        let entries = space.book.exceptions_of(0, rule.id);
        let open = |entry: usize| {
            let known = self.entries.get(&(rule.id, entry));
            known.is_none_or(|reached| !reached)
        };
        if !(0..entries.len()).any(open) {
            return;
        }
        let matched = tests(rule.clause, space);
        let matched = space.store.within(matched, requests);
        if matched == FALSE {
            return;
        }
        let excepted: Vec<Diagram> = entries
            .iter()
            .map(|entry| space.clause(*entry, 0, Seen::Wholly))
            .collect();
        // From the end, so that of two that say the same the first stays.
        let mut gone = BTreeSet::new();
        for (entry, holds) in excepted.iter().enumerate().rev() {
            if !open(entry) {
                continue;
            }
            let others = excepted.iter().enumerate();
            let others = others.filter(|(other, _)| *other != entry && !gone.contains(other));
            let others = others.map(|(_, holds)| *holds).collect();
            let others = space.store.any(others);
            let alone = space.store.without(*holds, others);
            let reached = space.store.within(matched, alone) != FALSE;
            if !reached {
                gone.insert(entry);
            }
            shown.entries.push(((rule.id, entry), reached));
        }
    }

    /// Why a rule never matches here.
    fn never(&self, rule: &Rule, space: &mut Space<'_, '_>) -> Never {
        let possible = space.possible();
        let whole = space.clause(rule.clause, 0, Seen::Wholly);
        if space.store.within(whole, possible) != FALSE {
            return Never::Elsewhere;
        }
        let matched = tests(rule.clause, space);
        if space.store.within(matched, possible) != FALSE {
            return Never::Excepted;
        }
        let Some(clause) = space.book.clause_at(rule.clause) else {
            return Never::Elsewhere;
        };
        let mut core: Vec<(Arc<str>, Diagram)> = Vec::new();
        for (term, sense) in &clause.tests {
            let holds = space.term(*term, 0);
            let holds = match sense {
                Sense::Holds => holds,
                Sense::Fails => space.store.not(holds),
            };
            let words = space.book.term(*term).map(|term| Arc::clone(&term.words));
            core.push((words.unwrap_or_else(|| Arc::from("")), holds));
        }
        let mut at = core.len();
        while at > 0 {
            at -= 1;
            let rest = core.iter().enumerate().filter(|(other, _)| *other != at);
            let rest: Vec<Diagram> = rest.map(|(_, (_, holds))| *holds).collect();
            let all = rest
                .into_iter()
                .fold(possible, |all, one| space.store.within(all, one));
            if all == FALSE {
                core.remove(at);
            }
        }
        Never::Contradiction(core.into_iter().map(|(words, _)| words).collect())
    }

    /// Takes what a cell shows for true.
    pub(super) fn keep(&mut self, shown: Shown) {
        let Shown {
            route,
            owns,
            passes,
            why,
            proof,
            own,
            rules,
            entries,
        } = shown;
        if let Some(route) = route {
            let known = self.routes.entry(route).or_default();
            known.owns |= owns;
            known.passes |= passes;
            if why.is_some() {
                known.why = why;
                known.proof = known.proof.take().or(proof);
            }
        }
        for (rule, in_cell) in rules {
            let known = self.rules.entry(rule).or_default();
            known.route = known.route.or(route.filter(|_| own.contains(&rule)));
            match in_cell {
                InCell::Never(why) => {
                    let better = known.never.as_ref().is_none_or(|known| more(&why, known));
                    if better {
                        known.never = Some(why);
                    }
                }
                InCell::Needed => (known.matched, known.needed) = (true, true),
                InCell::Covered(by, proof) => {
                    known.matched = true;
                    known.by.extend(by);
                    known.proof = known.proof.take().or(proof.map(|proof| *proof));
                }
            }
        }
        for (entry, reached) in entries {
            *self.entries.entry(entry).or_default() |= reached;
        }
    }

    /// Spares everything in a cell that cannot be told.
    pub(super) fn lose(&mut self, cell: &Cell<'_>) {
        let Some(view) = cell.views.first() else {
            return;
        };
        for rule in view.denies().chain(view.allows()) {
            self.rules.entry(rule.id).or_default().spared = true;
        }
        if let Some((site, route)) = view.site.zip(view.route) {
            self.routes.entry((site.id, route.id)).or_default().spared = true;
        }
    }

    fn is_open(&self, rule: RuleId) -> bool {
        let known = self.rules.get(&rule);
        known.is_none_or(|known| !known.spared && !known.needed) && !(self.given.changes)(rule)
    }

    /// What is left.
    pub(super) fn finish(self, policy: &Policy, given: &Given<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        let over: BTreeSet<RuleId> = conditions(policy)
            .filter(|(_, condition)| condition.until.is_some_and(|end| end <= given.now))
            .map(|(rule, _)| rule)
            .collect();
        let mut closed = BTreeSet::new();
        for ((site, route), known) in self.routes {
            if known.spared || known.passes {
                continue;
            }
            let why = if known.owns {
                known.why.unwrap_or(Closed::NoAllow)
            } else {
                Closed::Unowned
            };
            let mut of_route = self
                .rules
                .iter()
                .filter(|(_, rule)| rule.route == Some((site, route)));
            let named = match &why {
                Closed::Denied(by) => by.iter().any(|rule| (given.changes)(*rule)),
                Closed::NoAllow => of_route.any(|(rule, _)| (given.changes)(*rule)),
                Closed::Unowned => false,
            };
            if !named {
                closed.insert((site, route, known.owns));
                let what = What::ClosedRoute { site, route, why };
                found.push(Finding {
                    what,
                    proof: known.proof,
                });
            }
        }
        let mut silent = BTreeSet::new();
        for (rule, known) in self.rules {
            let unowned = known
                .route
                .is_some_and(|(site, route)| closed.contains(&(site, route, false)));
            if known.spared || (given.changes)(rule) || over.contains(&rule) {
                silent.insert(rule);
                continue;
            }
            if !known.matched {
                silent.insert(rule);
                if !unowned {
                    let why = known.never.unwrap_or(Never::Elsewhere);
                    let what = What::NeverMatches { rule, why };
                    found.push(Finding { what, proof: None });
                }
            } else if !known.needed && !known.by.is_empty() {
                silent.insert(rule);
                let nobody = known
                    .route
                    .is_some_and(|(site, route)| closed.contains(&(site, route, true)));
                if nobody && policy.rule(rule).kind == RuleKind::Allow {
                    continue;
                }
                let by: Vec<RuleId> = known.by.into_iter().collect();
                let what = What::Covered { rule, by };
                found.push(Finding {
                    what,
                    proof: known.proof,
                });
            }
        }
        for ((rule, entry), reached) in self.entries {
            if !reached && !silent.contains(&rule) {
                let what = What::DeadException { rule, entry };
                found.push(Finding { what, proof: None });
            }
        }
        found
    }
}

/// Whether a reason goes before another: what is true of all cells is the weakest of them.
fn more(why: &Never, known: &Never) -> bool {
    match (why, known) {
        (_, Never::Elsewhere) => false,
        (Never::Elsewhere, _) => true,
        (Never::Contradiction(why), Never::Contradiction(known)) => why.len() > known.len(),
        (Never::Excepted, Never::Contradiction(_)) => true,
        (Never::Contradiction(_) | Never::Excepted, Never::Excepted) => false,
    }
}

/// Where the tests of a condition hold, whatever it excepts.
fn tests(clause: ClauseId, space: &mut Space<'_, '_>) -> Diagram {
    let Some(clause) = space.book.clause_at(clause) else {
        return FALSE;
    };
    let mut all = TRUE;
    for (term, sense) in &clause.tests {
        let holds = space.term(*term, 0);
        all = match sense {
            Sense::Holds => space.store.within(all, holds),
            Sense::Fails => space.store.without(all, holds),
        };
    }
    all
}

/// The search for rules of one cell that others cover.
struct Look<'l, 's, 'p> {
    sight: &'l Sight<'s>,
    cell: &'l Cell<'p>,
    baseline: Diagram,
    requests: Diagram,
    /// Rules that were found to be covered here, and play no part in covering others.
    gone: BTreeSet<RuleId>,
}

impl Look<'_, '_, '_> {
    /// Looks through a list from its end, so that of two that say the same the first stays. `also` is covered as well, by
    /// `denied`.
    fn list(
        &mut self,
        rules: &[(RuleId, Diagram)],
        also: Diagram,
        denied: &[(RuleId, Diagram)],
        space: &mut Space<'_, '_>,
        shown: &mut Shown,
    ) {
        if !rules.iter().any(|(rule, _)| self.sight.is_open(*rule)) {
            return;
        }
        let mut tried = 0;
        for (rule, holds) in rules.iter().rev() {
            let (rule, holds) = (*rule, *holds);
            if holds == FALSE {
                continue;
            }
            let others: Vec<(RuleId, Diagram)> = denied
                .iter()
                .chain(rules)
                .filter(|(other, _)| *other != rule && !self.gone.contains(other))
                .copied()
                .collect();
            let open = self.sight.is_open(rule) && tried < TRIED_MAX;
            if !open || is_alone(holds, also, &others, space) {
                shown.rules.push((rule, InCell::Needed));
                continue;
            }
            tried += 1;
            let by = self.covers(rule, holds, &others, space);
            shown.rules.push((
                rule,
                match by {
                    None => InCell::Needed,
                    Some(by) => {
                        self.gone.insert(rule);
                        InCell::Covered(by, proof(self.sight.policy, space, holds).map(Box::new))
                    }
                },
            ));
        }
    }

    /// Who covers a rule, where others do and no answer changes without it.
    fn covers(
        &self,
        rule: RuleId,
        holds: Diagram,
        others: &[(RuleId, Diagram)],
        space: &mut Space<'_, '_>,
    ) -> Option<Vec<RuleId>> {
        let rest = others.iter().map(|(_, holds)| *holds).collect();
        let rest = space.store.any(rest);
        if space.store.without(holds, rest) != FALSE || !self.spares(rule, space) {
            return None;
        }
        let by = covering(holds, others, space);
        let moves = by.iter().any(|by| (self.sight.given.changes)(*by));
        (!moves).then_some(by)
    }

    /// Whether every request ends as before without a rule; also without those that are gone already.
    fn spares(&self, rule: RuleId, space: &mut Space<'_, '_>) -> bool {
        let alone = BTreeSet::from([rule]);
        let mut together = self.gone.clone();
        together.insert(rule);
        self.ends(&alone, space) == Some(self.baseline)
            && (self.gone.is_empty() || self.ends(&together, space) == Some(self.baseline))
    }

    fn ends(&self, without: &BTreeSet<RuleId>, space: &mut Space<'_, '_>) -> Option<Diagram> {
        let mut cell = self.cell.clone();
        let view = cell.views.first_mut()?;
        for list in &mut view.denies {
            if list.iter().any(|rule| without.contains(&rule.id)) {
                *list = list
                    .iter()
                    .filter(|rule| !without.contains(&rule.id))
                    .copied()
                    .collect();
            }
        }
        if let Granted::Rules(allows, _) = &mut view.grant {
            allows.retain(|rule| !without.contains(&rule.id));
        }
        Some(cell.judged(0, self.requests, space)?.ending)
    }
}

/// Whether some request is a rule's alone: one look at one request of it, which settles most.
fn is_alone(
    holds: Diagram,
    also: Diagram,
    others: &[(RuleId, Diagram)],
    space: &Space<'_, '_>,
) -> bool {
    let Some(point) = space.store.point(holds) else {
        return false;
    };
    let atoms: Fast<u32, u32> = point.into_iter().collect();
    let at = |diagram: Diagram| {
        let mut atom = |attribute: u32| atoms.get(&attribute).copied().unwrap_or(0);
        space.store.number_at(diagram, &mut atom) != 0
    };
    !at(also) && !others.iter().any(|(_, other)| at(*other))
}

/// How many rules of a list are tried; the rest is taken to be needed.
const TRIED_MAX: usize = 200;
