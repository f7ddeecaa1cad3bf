//! A policy with one small mistake in it, and each such mistake in turn: what `test --mutate` holds a policy's tests against.
//!
//! A mistake deletes a deny or an entry of `allow`, makes one of the other (a deny that becomes an allow opens every route that
//! it guarded and that is not open to anyone), drops an entry of `unless`, or closes a route that is open to anyone. Mistakes
//! that cannot change any answer are left out where that is plain to see.

use super::decision::{Place, RouteId, RuleId, SiteId};
use super::draft::{Allow, Deny, Draft, Grant, Route, Site};

/// One mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutant {
    /// What was done.
    pub change: Change,
    /// To which rule; none where a route is closed.
    pub rule: Option<RuleId>,
    at: At,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The rule is gone.
    Deleted,
    /// A deny became an allow, or an allow a deny.
    Flipped,
    /// An entry of its `unless` is gone, counted from 0.
    Excepted(usize),
    /// The route was open to anyone, and nobody passes.
    Closed,
}

/// Where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Global(usize),
    Site(usize, usize),
    Deny(usize, usize, usize),
    Allow(usize, usize, usize),
    Route(usize, usize),
}

/// Every mistake, in the order in which rules are written.
#[must_use]
pub fn every(draft: &Draft) -> Vec<Mutant> {
    let mut all = Vec::new();
    let opens = |route: &Route| matches!(route.grant, Grant::Rules(_));
    let any = draft.sites.iter().flat_map(|site| &site.routes).any(opens);
    for (number, deny) in draft.denies.iter().enumerate() {
        of_deny(deny, At::Global(number), any, &mut all);
    }
    for (s, site) in draft.sites.iter().enumerate() {
        let any = site.routes.iter().any(opens);
        for (number, deny) in site.denies.iter().enumerate() {
            of_deny(deny, At::Site(s, number), any, &mut all);
        }
        for (r, route) in site.routes.iter().enumerate() {
            for (number, deny) in route.denies.iter().enumerate() {
                of_deny(deny, At::Deny(s, r, number), opens(route), &mut all);
            }
            match &route.grant {
                Grant::Anyone => all.push(Mutant {
                    change: Change::Closed,
                    rule: None,
                    at: At::Route(s, r),
                }),
                Grant::Rules(allows) => {
                    for (number, allow) in allows.iter().enumerate() {
                        let excepted = 0..allow.condition.unless.len();
                        let changes = [Change::Deleted, Change::Flipped].into_iter();
                        all.extend(changes.chain(excepted.map(Change::Excepted)).map(|change| {
                            Mutant {
                                change,
                                rule: Some(allow.rule),
                                at: At::Allow(s, r, number),
                            }
                        }));
                    }
                }
            }
        }
    }
    all
}

fn of_deny(deny: &Deny, at: At, opens: bool, all: &mut Vec<Mutant>) {
    let flipped = opens.then_some(Change::Flipped);
    let excepted = (0..deny.condition.unless.len()).map(Change::Excepted);
    let changes = [Change::Deleted].into_iter().chain(flipped).chain(excepted);
    all.extend(changes.map(|change| Mutant {
        change,
        rule: Some(deny.rule),
        at,
    }));
}

impl Mutant {
    /// Whether requests that belong at a place can meet the mistake.
    #[must_use]
    pub fn touches(&self, place: Place) -> bool {
        let site = |number: usize| place.site.is_some_and(|SiteId(id)| same(id, number));
        let route = |number: usize| place.route.is_some_and(|RouteId(id)| same(id, number));
        match self.at {
            At::Global(_) => true,
            At::Site(s, _) => site(s),
            At::Deny(s, r, _) | At::Allow(s, r, _) | At::Route(s, r) => site(s) && route(r),
        }
    }

    /// The site and the route that the mistake is in, by number; none where it is wider.
    #[must_use]
    pub const fn route(&self) -> Option<(usize, usize)> {
        match self.at {
            At::Global(_) | At::Site(..) => None,
            At::Deny(s, r, _) | At::Allow(s, r, _) | At::Route(s, r) => Some((s, r)),
        }
    }

    /// The policy with the mistake.
    #[must_use]
    pub fn of(&self, draft: &Draft) -> Draft {
        let mut draft = draft.clone();
        // A mutant of another draft changes nothing.
        self.make(&mut draft).unwrap_or_default();
        draft
    }

    fn make(&self, draft: &mut Draft) -> Option<()> {
        match self.at {
            At::Global(number) => {
                if let Some(deny) = self.on_deny(&mut draft.denies, number)? {
                    for site in &mut draft.sites {
                        opened(site, &deny);
                    }
                }
            }
            At::Site(s, number) => {
                let site = draft.sites.get_mut(s)?;
                if let Some(deny) = self.on_deny(&mut site.denies, number)? {
                    opened(site, &deny);
                }
            }
            At::Deny(s, r, number) => {
                let route = draft.sites.get_mut(s)?.routes.get_mut(r)?;
                if let Some(deny) = self.on_deny(&mut route.denies, number)? {
                    open(route, &deny);
                }
            }
            At::Allow(s, r, number) => {
                let route = draft.sites.get_mut(s)?.routes.get_mut(r)?;
                let Grant::Rules(allows) = &mut route.grant else {
                    return None;
                };
                if let Change::Excepted(entry) = self.change {
                    let condition = &mut allows.get_mut(number)?.condition;
                    condition.unless = without(&condition.unless, entry);
                    return Some(());
                }
                if number >= allows.len() {
                    return None;
                }
                let Allow { rule, condition } = allows.remove(number);
                if self.change == Change::Flipped {
                    route.denies.push(Deny {
                        rule,
                        refusal: route.otherwise,
                        condition,
                    });
                }
            }
            At::Route(s, r) => {
                draft.sites.get_mut(s)?.routes.get_mut(r)?.grant = Grant::Rules(Vec::new());
            }
        }
        Some(())
    }

    /// Changes a deny; answers it where it is to become an allow.
    #[expect(
        clippy::option_option,
        reason = "no such deny; no allow to add; an allow to add"
    )]
    fn on_deny(&self, denies: &mut Vec<Deny>, number: usize) -> Option<Option<Deny>> {
        if let Change::Excepted(entry) = self.change {
            let condition = &mut denies.get_mut(number)?.condition;
            condition.unless = without(&condition.unless, entry);
            return Some(None);
        }
        if number >= denies.len() {
            return None;
        }
        let deny = denies.remove(number);
        Some((self.change == Change::Flipped).then_some(deny))
    }
}

fn opened(site: &mut Site, deny: &Deny) {
    for route in &mut site.routes {
        open(route, deny);
    }
}

fn open(route: &mut Route, deny: &Deny) {
    if let Grant::Rules(allows) = &mut route.grant {
        allows.push(Allow {
            rule: deny.rule,
            condition: deny.condition.clone(),
        });
    }
}

fn without<T: Clone>(items: &[T], number: usize) -> Box<[T]> {
    let kept = items.iter().enumerate().filter(|(at, _)| *at != number);
    kept.map(|(_, item)| item.clone()).collect()
}

fn same(id: u32, number: usize) -> bool {
    usize::try_from(id).is_ok_and(|id| id == number)
}
