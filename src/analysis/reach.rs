//! What a stranger can reach, and what somebody who signs in needs: for `check --reach`.
//!
//! For each route of each kind of host: the ways in (anyone, or one of its allows) that some request of a stranger takes, with
//! the methods with which it does, and the denies that such a request can meet. Exact for what diagrams tell: see
//! [`super`]. A way in that rests on a header or a time counts as taken.

use jiff::Timestamp;

use super::book::{Book, Ending};
use super::cell::{Cell, Granted};
use super::diagram::{Diagram, FALSE};
use super::space::{Attribute, Seen, Space};
use crate::policy::{Policy, RouteId, RuleId, SiteId};

/// A route for requests to one kind of host.
#[derive(Debug, Clone)]
pub struct Reached {
    /// The site.
    pub site: SiteId,
    /// The route.
    pub route: RouteId,
    /// The hosts, as patterns.
    pub hosts: Vec<String>,
    /// Whether there was too much to look at: the rest is empty then.
    pub untold: bool,
    /// The ways in for strangers.
    pub strangers: Vec<Way>,
    /// The ways in for those who sign in, other than those of strangers.
    pub known: Vec<Way>,
}

/// A way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The allow; none where the route is open to anyone.
    pub allow: Option<RuleId>,
    /// Denies that a request of this way can meet.
    pub but: Vec<RuleId>,
    /// The methods that pass; none where every method does.
    pub methods: Option<Vec<String>>,
}

/// Looks at every route.
#[must_use]
pub fn every(policy: &Policy, now: Timestamp) -> Vec<Reached> {
    let book = Book::new(vec![policy], now);
    let mut all = Vec::new();
    let mut left = TOTAL;
    for hosts in book.hosts() {
        for cell in book.cells(&hosts) {
            let Some(view) = cell.views.first() else {
                continue;
            };
            let (Some(site), Some(route)) = (view.site, view.route) else {
                continue;
            };
            let mut reached = Reached {
                site: site.id,
                route: route.id,
                hosts: hosts.patterns.iter().map(ToString::to_string).collect(),
                untold: true,
                strangers: Vec::new(),
                known: Vec::new(),
            };
            let few = view.denies().count() + view.allows().len() <= RULES_MAX;
            if let Some(mut space) = cell.space(&book, CELL.min(left)).filter(|_| few) {
                let looked = look(&cell, &mut space);
                left = left.saturating_sub(space.store.spent());
                if let Some((strangers, known)) = looked.filter(|_| !space.store.is_exhausted()) {
                    (reached.strangers, reached.known) = (strangers, known);
                    reached.untold = false;
                }
            }
            all.push(reached);
        }
    }
    all
}

fn look(cell: &Cell<'_>, space: &mut Space<'_, '_>) -> Option<(Vec<Way>, Vec<Way>)> {
    let view = cell.views.first()?;
    let requests = cell.requests(space);
    let judged = cell.judged(0, requests, space)?;
    let passing = space.store.is(judged.ending, Ending::ALLOW);
    let known = space.known(0);
    let of_strangers = space.store.without(passing, known);
    let of_known = space.store.within(passing, known);
    let grants: Vec<(Option<RuleId>, Diagram)> = match &view.grant {
        Granted::Nobody(_) => Vec::new(),
        Granted::Anyone => vec![(None, requests)],
        Granted::Rules(allows, _) => {
            let each = allows.iter().map(|rule| {
                let holds = space.clause(rule.clause, 0, Seen::Wholly);
                (Some(rule.id), space.store.within(holds, requests))
            });
            each.collect()
        }
    };
    let denies: Vec<(RuleId, Diagram)> = view
        .denies()
        .map(|rule| (rule.id, space.clause(rule.clause, 0, Seen::Wholly)))
        .collect();
    let (mut strangers, mut others) = (Vec::new(), Vec::new());
    for (allow, holds) in grants {
        for (who, ways) in [(of_strangers, &mut strangers), (of_known, &mut others)] {
            let through = space.store.within(who, holds);
            if through == FALSE {
                continue;
            }
            let asked = if who == of_strangers {
                space.store.without(holds, known)
            } else {
                space.store.within(holds, known)
            };
            let mut but = Vec::new();
            for (deny, refuses) in &denies {
                if space.store.within(asked, *refuses) != FALSE {
                    but.push(*deny);
                }
            }
            ways.push(Way {
                allow,
                but,
                methods: methods(through, space),
            });
        }
    }
    // What holds for strangers alike is not told twice.
    others.retain(|way: &Way| !strangers.contains(way));
    Some((strangers, others))
}

/// The methods of some requests; none where every method is among them.
fn methods(region: Diagram, space: &mut Space<'_, '_>) -> Option<Vec<String>> {
    for number in 0..u32::try_from(space.attributes.len()).unwrap_or(0) {
        let Some(Attribute::Method(named)) = space.attribute(number) else {
            continue;
        };
        let named: Vec<String> = named.iter().map(ToString::to_string).collect();
        let count = space.attribute(number).map_or(1, Attribute::count);
        let mut among = Vec::new();
        for atom in 0..count {
            let these = space.store.one_of(number, &[atom], count);
            if space.store.within(region, these) != FALSE {
                among.push(atom);
            }
        }
        if among.len() == usize::try_from(count).unwrap_or(usize::MAX) {
            return None;
        }
        let words = among.into_iter().map(|atom| {
            let at = usize::try_from(atom)
                .ok()
                .and_then(|atom| atom.checked_sub(1));
            let word = at.and_then(|at| named.get(at)).cloned();
            word.unwrap_or_else(|| "others".to_owned())
        });
        return Some(words.collect());
    }
    None
}

/// Rules of one route.
const RULES_MAX: usize = 3000;
/// Steps for one route.
const CELL: usize = 3_000_000;
/// Steps for all of them.
const TOTAL: usize = 60_000_000;
