//! Routes that are looser than the route around them: the one that would own their paths if they were not written.
//!
//! That a route stands under another and lets more pass is often why it is written: `/health` under a guarded `/**`, or
//! `/billing/**` for others than `/**`. Told are the two kinds that are mistakes more often than not:
//!
//! - the route around it has denies of its own, which are not inherited, and requests pass here that one of them refuses;
//!   unless a deny of the narrower route reads the same facts, so that somebody has thought of them;
//! - both ask who may pass, and everybody whom the allows around it let pass is let pass here, and others too. A route that is
//!   open to anyone, or to other people, says what it wants.

use std::collections::{BTreeSet, HashSet};

use super::{Finding, Given, Purse, What, proof};
use crate::analysis::book::{Asks, Book, Ending, Rule};
use crate::analysis::cell::{Cell, Granted, View};
use crate::analysis::diagram::{Diagram, FALSE};
use crate::analysis::path::rank;
use crate::analysis::space::{Seen, Space};
use crate::policy::pattern::{End, Pattern};
use crate::policy::{Policy, RouteId, RuleId, SiteId};

/// The findings so far.
#[derive(Debug, Default)]
pub(super) struct Around {
    pub(super) findings: Vec<Finding>,
    told: BTreeSet<(SiteId, RouteId)>,
}

impl Around {
    /// Looks at the routes of one kind of host.
    pub(super) fn look<'b, 'p>(
        &mut self,
        policy: &Policy,
        book: &'b Book<'p>,
        cells: &[Cell<'p>],
        given: &Given<'_>,
        purse: &mut Purse,
    ) {
        let views = cells.iter().filter_map(|cell| cell.views.first());
        let views: Vec<&View<'p>> = views.filter(|view| view.route.is_some()).collect();
        let wide: Vec<(&View<'p>, &Pattern)> = views
            .iter()
            .filter_map(|view| Some((*view, view.route?.pattern()?)))
            .filter(|(_, pattern)| pattern.strict_parts().1 == End::Below)
            .collect();
        for cell in cells {
            let Some(view) = cell.views.first() else {
                continue;
            };
            let (Some(site), Some(route)) = (view.site, view.route) else {
                continue;
            };
            let Some(pattern) = route.pattern() else {
                continue;
            };
            let here = (site.id, route.id);
            if self.told.contains(&here) {
                continue;
            }
            let around = wide.iter().filter(|(other, wide)| {
                other.route.is_some_and(|other| other.id != route.id) && contains(wide, pattern)
            });
            // The highest rank comes first in the order of ranks.
            let Some((around, _)) = around.min_by_key(|(_, wide)| rank(wide)) else {
                continue;
            };
            let pair = Pair::new(cell, view, around);
            let Some(pair) = pair.filter(|pair| pair.is_of_interest(book)) else {
                continue;
            };
            let found = purse.spend(&pair.cell, book, |space| pair.look(policy, given, space));
            if let Some(Some((lacks, proof))) = found
                && let Some(wide) = around.route
            {
                self.told.insert(here);
                let what = What::LooserRoute {
                    site: site.id,
                    route: route.id,
                    around: wide.id,
                    lacks,
                };
                self.findings.push(Finding {
                    what,
                    proof: Some(proof),
                });
            }
        }
    }
}

/// A route, and beside it, as a second view of the same requests, what the rules of the route around it make of them.
struct Pair<'p> {
    cell: Cell<'p>,
    own: Vec<Rule>,
    around: Vec<Rule>,
}

impl<'p> Pair<'p> {
    fn new(cell: &Cell<'p>, view: &View<'p>, around: &View<'p>) -> Option<Self> {
        let mut twin = view.clone();
        twin.denies = around.denies.clone();
        twin.grant = around.grant.clone();
        let list = |view: &View<'_>| Some(view.denies.last()?.to_vec());
        Some(Self {
            own: list(view)?,
            around: list(around)?,
            cell: Cell {
                hosts: cell.hosts.clone(),
                views: vec![view.clone(), twin],
            },
        })
    }

    fn views(&self) -> Option<(&View<'p>, &View<'p>)> {
        self.cell.views.first().zip(self.cell.views.get(1))
    }

    /// Whether there is anything to look for.
    fn is_of_interest(&self, book: &Book<'_>) -> bool {
        let both = self.views().is_some_and(|(own, around)| {
            matches!((&own.grant, &around.grant), (Granted::Rules(own, _), Granted::Rules(around, _))
                if own.iter().map(|rule| rule.clause).ne(around.iter().map(|rule| rule.clause)))
        });
        both || self.lacking(book).next().is_some()
    }

    /// The denies around it that no deny of its own takes the place of.
    fn lacking(&self, book: &Book<'_>) -> impl Iterator<Item = Rule> {
        let own: Vec<HashSet<std::mem::Discriminant<Asks>>> =
            self.own.iter().map(|rule| reads(rule, book)).collect();
        let around: Vec<(Rule, HashSet<_>)> = self
            .around
            .iter()
            .map(|rule| (*rule, reads(rule, book)))
            .collect();
        around
            .into_iter()
            .filter(move |(_, read)| {
                !read.is_empty()
                    && !own
                        .iter()
                        .any(|own| own.intersection(read).next().is_some())
            })
            .map(|(rule, _)| rule)
    }

    fn look(
        &self,
        policy: &Policy,
        given: &Given<'_>,
        space: &mut Space<'_, '_>,
    ) -> Option<Option<(Vec<RuleId>, super::Proof)>> {
        let requests = self.cell.requests(space);
        let own = self.cell.judged(0, requests, space)?;
        let passing = space.store.is(own.ending, Ending::ALLOW);
        let mut lacks = Vec::new();
        let mut region = FALSE;
        for rule in self.lacking(space.book).collect::<Vec<Rule>>() {
            let holds = space.clause(rule.clause, 1, Seen::Wholly);
            let both = space.store.within(holds, passing);
            if both != FALSE {
                lacks.push(rule.id);
                region = space.store.over(region, both);
            }
        }
        if let Some(proof) = proof(policy, space, region).filter(|proof| proof.passes(policy)) {
            return Some(Some((lacks, proof)));
        }
        let (own, around) = self.views()?;
        let (Granted::Rules(own, _), Granted::Rules(around, _)) = (&own.grant, &around.grant)
        else {
            return Some(None);
        };
        let changing = own
            .iter()
            .chain(around)
            .any(|rule| (given.changes)(rule.id));
        if changing {
            return Some(None);
        }
        // Who would pass but for the denies around: those are not inherited, and are another finding.
        let refused = self
            .cell
            .views
            .first()?
            .denies()
            .copied()
            .collect::<Vec<Rule>>();
        let refused = all(&refused, 0, requests, space);
        let open = space.store.without(requests, refused);
        let allowed_around = all(around, 1, open, space);
        let outside = space.store.without(allowed_around, passing);
        let more = space.store.without(passing, allowed_around);
        if allowed_around == FALSE || outside != FALSE || more == FALSE {
            return Some(None);
        }
        let proof = proof(policy, space, more).filter(|proof| proof.passes(policy));
        Some(proof.map(|proof| (Vec::new(), proof)))
    }
}

/// Where one of these rules holds, within a region.
fn all(rules: &[Rule], view: usize, region: Diagram, space: &mut Space<'_, '_>) -> Diagram {
    let each = rules.iter().map(|rule| {
        let holds = space.clause(rule.clause, view, Seen::Wholly);
        space.store.within(holds, region)
    });
    let each = each.collect();
    space.store.any(each)
}

/// The kinds of facts that a deny reads, other than what is asked for.
fn reads(rule: &Rule, book: &Book<'_>) -> HashSet<std::mem::Discriminant<Asks>> {
    let mut kinds = HashSet::new();
    let Some(clause) = book.clause_at(rule.clause) else {
        return kinds;
    };
    let excepted = clause.unless.iter().filter_map(|id| book.clause_at(*id));
    for clause in std::iter::once(clause).chain(excepted) {
        for (term, _) in &clause.tests {
            let Some(term) = book.term(*term) else {
                continue;
            };
            if !matches!(term.asks, Asks::Path(..) | Asks::Method(_) | Asks::Host(_)) {
                kinds.insert(std::mem::discriminant(&term.asks));
            }
        }
    }
    kinds
}

/// Whether a pattern that ends in `/**` matches whatever another does.
fn contains(wide: &Pattern, narrow: &Pattern) -> bool {
    let (wide, _) = wide.strict_parts();
    let (mut narrow, _) = narrow.strict_parts();
    for want in wide {
        match (want, narrow.next()) {
            (_, None) => return false,
            (Some(want), Some(held)) if held != Some(want) => return false,
            (Some(_) | None, Some(_)) => {}
        }
    }
    true
}
