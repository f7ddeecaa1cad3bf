//! Cells: the requests of one kind of host that belong to one route (or to none) in every policy, with the rules that guard them;
//! and how they end, as the evaluator would have it (`policy::evaluate`), in both stages.
//!
//! Facts whose source has failed are outside: every fact is taken as available. So are malformed requests (a bad escape in a
//! query that rules read, a path that reads in two ways); they are refused before any rule is asked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::book::{Asks, Book, ClauseId, Ending, Rule};
use super::diagram::{Diagram, FALSE, Store, TRUE};
use super::path::{Overlaps, Slash, rank};
use super::space::{Plan, Seen, Space};
use crate::policy::draft::{Grant, SignIn};
use crate::policy::pattern::{End, Pattern, Shape};
use crate::policy::{RefusalStatus, RoutePart, SiteId, SitePart};
use crate::value::host::HostPattern;

/// Hosts that no rule of any policy tells apart.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    /// One of them.
    pub(crate) example: Arc<str>,
    /// All of them, as patterns: what is more exact is left out of what is wider.
    pub(crate) patterns: Vec<HostPattern>,
    /// The site that answers, by policy.
    pub(crate) sites: Vec<Option<SiteId>>,
}

/// Requests of one kind of host and one owner in every policy.
#[derive(Debug, Clone)]
pub(crate) struct Cell<'p> {
    pub(crate) hosts: Hosts,
    /// By policy.
    pub(crate) views: Vec<View<'p>>,
}

/// What a policy has for the requests of a cell.
#[derive(Debug, Clone)]
pub(crate) struct View<'p> {
    pub(crate) site: Option<SitePart<'p>>,
    pub(crate) route: Option<RoutePart<'p>>,
    /// The patterns of the site's routes that take paths away from the route: those that rank higher; where there is no route,
    /// all of them.
    above: Vec<(&'p Pattern, Above)>,
    /// The denies that guard the cell: global, of the site, of the route.
    pub(crate) denies: [Arc<[Rule]>; 3],
    pub(crate) grant: Granted,
}

/// How another route takes paths away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Above {
    /// All that its pattern matches.
    All,
    /// Those with a trailing slash.
    Slashed,
    /// Those without.
    Bare,
}

/// Who may pass where no deny matches.
#[derive(Debug, Clone)]
pub(crate) enum Granted {
    /// There is no route or no site: the request ends so.
    Nobody(u32),
    /// Anyone.
    Anyone,
    /// Whom one of these allows; the others end so.
    Rules(Vec<Rule>, u32),
}

/// How the requests of a cell end in one policy: numbers of [`Ending`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Where the first stage decides, whoever asks.
    pub(crate) first: Diagram,
    /// How each request ends after both.
    pub(crate) ending: Diagram,
    /// As `ending`, if strangers were refused as everybody else is, and not asked to sign in.
    pub(crate) bare: Diagram,
}

impl<'p> Book<'p> {
    /// Every kind of host.
    pub(crate) fn hosts(&self) -> Vec<Hosts> {
        let mut patterns = BTreeSet::new();
        for policy in &self.policies {
            for site in policy.site_parts() {
                patterns.extend(site.hosts().iter().cloned());
            }
        }
        let mut tests = Vec::new();
        for (_, term) in self.terms() {
            if let Asks::Host(wanted) = &term.asks {
                patterns.extend(wanted.iter().cloned());
                tests.push(wanted);
            }
        }
        patterns.insert(HostPattern::Any);
        let labels: BTreeSet<&str> = patterns
            .iter()
            .flat_map(|pattern| match pattern {
                HostPattern::Exact(name) | HostPattern::Under(name) => name.split('.'),
                HostPattern::Any => "".split('.'),
            })
            .collect();
        let mut fresh = "any".to_owned();
        while labels.contains(&*fresh) {
            fresh.push('x');
        }
        let mut kinds: Vec<Hosts> = Vec::new();
        let mut known = BTreeMap::<(Vec<Option<SiteId>>, Vec<bool>), usize>::new();
        for pattern in patterns {
            let example: Arc<str> = match &pattern {
                HostPattern::Exact(name) => Arc::from(&**name),
                HostPattern::Under(parent) => Arc::from(format!("{fresh}.{parent}")),
                HostPattern::Any => Arc::from(format!("{fresh}.invalid")),
            };
            let sites = self.policies.iter().map(|policy| policy.site_of(&example));
            let sites: Vec<Option<SiteId>> = sites.collect();
            let holds = tests
                .iter()
                .map(|wanted| wanted.iter().any(|pattern| pattern.matches(&example)));
            let key = (sites.clone(), holds.collect());
            let kind = known.get(&key).and_then(|at| kinds.get_mut(*at));
            if let Some(kind) = kind {
                kind.patterns.push(pattern);
                continue;
            }
            known.insert(key, kinds.len());
            kinds.push(Hosts {
                example,
                patterns: vec![pattern],
                sites,
            });
        }
        kinds
    }

    /// Every cell of a kind of host. With several policies: one for each combination of owners that a request can have.
    pub(crate) fn cells(&self, hosts: &Hosts) -> Vec<Cell<'p>> {
        let mut views: Vec<Vec<View<'p>>> = Vec::new();
        for (at, policy) in self.policies.iter().enumerate() {
            let site = hosts.sites.get(at).copied().flatten();
            let site = site.and_then(|site| policy.site_part(site));
            views.push(self.views(at, site));
        }
        let cell = |views: Vec<View<'p>>| Cell {
            hosts: hosts.clone(),
            views,
        };
        match views.as_slice() {
            [one] => one.iter().map(|view| cell(vec![view.clone()])).collect(),
            [one, other] => pairs(one, other)
                .into_iter()
                .filter_map(|(a, b)| Some(cell(vec![one.get(a)?.clone(), other.get(b)?.clone()])))
                .collect(),
            _ => Vec::new(),
        }
    }

    fn views(&self, policy: usize, site: Option<SitePart<'p>>) -> Vec<View<'p>> {
        let none: Arc<[Rule]> = Arc::from([]);
        let global = self.global.get(policy).unwrap_or(&none);
        let Some(site) = site else {
            return vec![View {
                site: None,
                route: None,
                above: Vec::new(),
                denies: [Arc::clone(global), Arc::clone(&none), none],
                grant: Granted::Nobody(Ending::NO_SITE),
            }];
        };
        let shared: Arc<[Rule]> = self.denies(policy, site.denies()).into();
        let routes: Vec<RoutePart<'p>> = site.routes().collect();
        let patterns: Vec<Option<&'p Pattern>> =
            routes.iter().map(|route| route.pattern()).collect();
        let written = patterns.iter().enumerate();
        let overlaps = Overlaps::new(written.filter_map(|(at, pattern)| Some((at, (*pattern)?))));
        let ranks: Vec<Vec<u8>> = patterns
            .iter()
            .map(|pattern| pattern.map(rank).unwrap_or_default())
            .collect();
        let mut views = Vec::new();
        for (at, route) in routes.iter().enumerate() {
            let Some(pattern) = route.pattern() else {
                continue;
            };
            let mut above = Vec::new();
            for other in overlaps.of(pattern) {
                let theirs = patterns.get(other).copied().flatten();
                let Some(theirs) = theirs.filter(|_| other != at) else {
                    continue;
                };
                match ranks.get(other).cmp(&ranks.get(at)) {
                    std::cmp::Ordering::Less => above.push((theirs, Above::All)),
                    std::cmp::Ordering::Equal => above.extend(alike(pattern, theirs)),
                    std::cmp::Ordering::Greater => {}
                }
            }
            let own = self.denies(policy, route.denies()).into();
            let grant = match route.grant() {
                Grant::Anyone => Granted::Anyone,
                Grant::Rules(allows) => {
                    let rules = allows.iter().filter_map(|allow| {
                        Some(Rule {
                            id: allow.rule,
                            clause: self.clause_of(policy, allow.rule)?,
                            ending: Ending::ALLOW,
                        })
                    });
                    Granted::Rules(rules.collect(), self.refusal(policy, route.otherwise()))
                }
            };
            views.push(View {
                site: Some(site),
                route: Some(*route),
                above,
                denies: [Arc::clone(global), Arc::clone(&shared), own],
                grant,
            });
        }
        let everything = patterns.iter().flatten().any(|pattern| {
            let (mut segments, end) = pattern.strict_parts();
            segments.next().is_none() && end == End::Below
        });
        if !everything {
            let all = patterns.iter().flatten();
            views.push(View {
                site: Some(site),
                route: None,
                above: all.map(|pattern| (*pattern, Above::All)).collect(),
                denies: [Arc::clone(global), shared, none],
                grant: Granted::Nobody(Ending::NO_ROUTE),
            });
        }
        views
    }
}

/// What a route of equal rank takes: only a trailing slash tells the two apart.
fn alike<'p>(ours: &Pattern, theirs: &'p Pattern) -> Option<(&'p Pattern, Above)> {
    let (_, ours) = ours.strict_parts();
    let (_, end) = theirs.strict_parts();
    match (ours, end) {
        (End::Exact, End::Slash) => Some((theirs, Above::Slashed)),
        (End::Slash, End::Exact) => Some((theirs, Above::Bare)),
        (End::Exact | End::Slash | End::Below, _) => None,
    }
}

/// The pairs of views that some request may have: those of one pattern, and those of which one pattern is new to the other
/// site. (Two patterns that both sites have rank alike in both, so that no request changes between their routes.)
fn pairs<'v, 'p>(one: &'v [View<'p>], other: &'v [View<'p>]) -> Vec<(usize, usize)> {
    let mut found = BTreeSet::new();
    let (here, there) = (Sorted::new(one), Sorted::new(other));
    for (at, view) in one.iter().enumerate() {
        match there.same(view) {
            Some(same) => {
                found.insert((at, same));
            }
            None => found.extend(there.near(view).into_iter().map(|other| (at, other))),
        }
    }
    for (at, view) in other.iter().enumerate() {
        if here.same(view).is_none() {
            found.extend(here.near(view).into_iter().map(|one| (one, at)));
        }
    }
    found.into_iter().collect()
}

/// The views of a site by their patterns.
struct Sorted<'v> {
    shapes: HashMap<&'v Shape, usize, foldhash::fast::RandomState>,
    overlaps: Overlaps,
    /// The view without route.
    none: Option<usize>,
    count: usize,
}

impl<'v> Sorted<'v> {
    fn new(views: &'v [View<'_>]) -> Self {
        let patterns = views
            .iter()
            .enumerate()
            .filter_map(|(at, view)| Some((at, view.pattern()?)));
        Self {
            shapes: patterns.clone().map(|(at, p)| (p.strict(), at)).collect(),
            overlaps: Overlaps::new(patterns),
            none: views.iter().position(|view| view.pattern().is_none()),
            count: views.len(),
        }
    }

    /// The view of the same pattern; where there is no route, the one without.
    fn same(&self, view: &View<'_>) -> Option<usize> {
        match view.pattern() {
            Some(pattern) => self.shapes.get(pattern.strict()).copied(),
            None => self.none,
        }
    }

    /// The views that may own a path of this one.
    fn near(&self, view: &View<'_>) -> Vec<usize> {
        match view.pattern() {
            Some(pattern) => {
                let mut near = self.overlaps.of(pattern);
                near.extend(self.none);
                near
            }
            None => (0..self.count).collect(),
        }
    }
}

impl<'p> View<'p> {
    fn pattern(&self) -> Option<&'p Pattern> {
        self.route?.pattern()
    }

    /// Every deny, in the order in which they count.
    pub(crate) fn denies(&self) -> impl Iterator<Item = &Rule> {
        self.denies.iter().flat_map(|list| list.iter())
    }

    /// Every allow.
    pub(crate) fn allows(&self) -> &[Rule] {
        match &self.grant {
            Granted::Nobody(_) | Granted::Anyone => &[],
            Granted::Rules(rules, _) => rules,
        }
    }

    /// How callers can be known.
    pub(crate) fn sign_in(&self) -> SignIn {
        self.site.map_or(SignIn::Never, SitePart::sign_in)
    }

    /// The identity sources that can make a caller known.
    pub(crate) fn sources(&self) -> Vec<Arc<str>> {
        match self.sign_in() {
            SignIn::Never => Vec::new(),
            SignIn::CertificateOnly | SignIn::Possible => {
                self.site.map_or(&[][..], SitePart::sources).to_vec()
            }
        }
    }

    /// The paths that are this view's.
    fn owned(&self, space: &mut Space<'_, '_>) -> Diagram {
        let mut taken = Vec::with_capacity(self.above.len());
        for (pattern, how) in &self.above {
            let matched = space.path(pattern);
            taken.push(match how {
                Above::All => matched,
                Above::Slashed => {
                    let slash = space.slash(Slash::With);
                    space.store.within(matched, slash)
                }
                Above::Bare => {
                    let bare = space.slash(Slash::Without);
                    space.store.within(matched, bare)
                }
            });
        }
        let taken = space.store.any(taken);
        let owned = match self.pattern() {
            Some(pattern) => space.path(pattern),
            None => TRUE,
        };
        space.store.without(owned, taken)
    }
}

/// Conditions that can meet in one cell; so many take some seconds and half a gigabyte, and that grows with their square.
const CLAUSES_MAX: usize = 10_100;

impl<'p> Cell<'p> {
    /// The points of the cell; none where there would be too many to tell.
    pub(crate) fn space<'b>(&self, book: &'b Book<'p>, budget: usize) -> Option<Space<'b, 'p>> {
        let mut clauses: Vec<ClauseId> = Vec::new();
        let mut patterns = Vec::new();
        for view in &self.views {
            let rules = view.denies().chain(view.allows());
            clauses.extend(rules.map(|rule| rule.clause));
            patterns.extend(view.pattern());
            patterns.extend(view.above.iter().map(|(pattern, _)| *pattern));
        }
        clauses.sort_unstable();
        clauses.dedup();
        if clauses.len() > CLAUSES_MAX {
            return None;
        }
        Space::new(
            book,
            Plan {
                host: &self.hosts.example,
                sources: self.views.iter().map(View::sources).collect(),
                clauses,
                patterns,
                budget,
            },
        )
    }

    /// The requests of the cell.
    pub(crate) fn requests(&self, space: &mut Space<'_, '_>) -> Diagram {
        let mut all = space.possible();
        for view in &self.views {
            let owned = view.owned(space);
            all = space.store.within(all, owned);
        }
        all
    }

    /// How the requests of a region of the cell end in the policy of a view; 0 outside the region.
    pub(crate) fn judged(
        &self,
        at: usize,
        region: Diagram,
        space: &mut Space<'_, '_>,
    ) -> Option<Judged> {
        let view = self.views.get(at)?;
        let judge = Judge { view, at, region };
        Some(judge.judged(space))
    }
}

struct Judge<'c, 'p> {
    view: &'c View<'p>,
    at: usize,
    region: Diagram,
}

impl Judge<'_, '_> {
    fn judged(&self, space: &mut Space<'_, '_>) -> Judged {
        let otherwise = match &self.view.grant {
            Granted::Nobody(ending) => return self.nobody(*ending, space),
            Granted::Anyone => {
                let route = self.view.route.map(RoutePart::otherwise);
                route.map_or(0, |refusal| space.book.refusal(self.at, refusal))
            }
            Granted::Rules(_, ending) => *ending,
        };
        if self.view.sign_in() == SignIn::Never {
            let ending = self.seen(otherwise, self.region, space);
            return Judged {
                first: self.region,
                ending,
                bare: ending,
            };
        }
        let refused = self.denied(Seen::Surely, self.region, space);
        let rest = space.store.without(self.region, refused);
        let perhaps = self.allowed(Seen::Perhaps, rest, space);
        let never = space.store.without(rest, perhaps);
        let never = numbered(never, otherwise, &mut space.store);
        let surely = self.allowed(Seen::Surely, perhaps, space);
        let denied = self.denied(Seen::Perhaps, surely, space);
        let surely = space.store.without(surely, denied);
        let open = space.store.without(perhaps, surely);
        let first = space.store.without(self.region, open);
        let surely = numbered(surely, Ending::ALLOW, &mut space.store);
        let seen = self.seen(otherwise, open, space);
        let known = space.known(self.at);
        let of_known = space.store.within(seen, known);
        let of_strangers = space.store.without(seen, known);
        let of_strangers = self.asked(of_strangers, space);
        let certain = space.store.over(refused, never);
        let certain = space.store.over(certain, surely);
        let asked = space.store.over(of_known, of_strangers);
        Judged {
            first,
            ending: space.store.over(certain, asked),
            bare: space.store.over(certain, seen),
        }
    }

    /// Where there is no route or no site, only what is certain refuses.
    fn nobody(&self, ending: u32, space: &mut Space<'_, '_>) -> Judged {
        let seen = match self.view.sign_in() {
            SignIn::Never => Seen::Wholly,
            SignIn::CertificateOnly | SignIn::Possible => Seen::Surely,
        };
        let refused = self.denied(seen, self.region, space);
        let rest = numbered(self.region, ending, &mut space.store);
        let ending = space.store.over(refused, rest);
        Judged {
            first: self.region,
            ending,
            bare: ending,
        }
    }

    /// How requests end once identity has been looked at; strangers are not asked to sign in here.
    fn seen(&self, otherwise: u32, region: Diagram, space: &mut Space<'_, '_>) -> Diagram {
        let refused = self.denied(Seen::Wholly, region, space);
        let refused = self.stepped_up(refused, otherwise, space);
        let rest = space.store.without(region, refused);
        let allowed = self.allowed(Seen::Wholly, rest, space);
        let allowed_so = numbered(allowed, Ending::ALLOW, &mut space.store);
        let rest = space.store.without(rest, allowed);
        let rest = numbered(rest, otherwise, &mut space.store);
        let ending = space.store.over(refused, allowed_so);
        space.store.over(ending, rest)
    }

    /// Who is not allowed is not asked to sign in again, nor who has not done so once: these end as if no allow matched.
    fn stepped_up(&self, refused: Diagram, otherwise: u32, space: &mut Space<'_, '_>) -> Diagram {
        let numbers = space.store.numbers(refused).into_iter();
        let asks = |number: &u32| {
            let ends = space.book.ending(*number);
            *number != 0
                && matches!(ends, Ending::Refuse(refusal) if refusal.status == RefusalStatus::StepUp)
        };
        let numbers: Vec<u32> = numbers.filter(asks).collect();
        let mut refused = refused;
        for number in numbers {
            let asked = space.store.is(refused, number);
            let mut others = asked;
            if self.view.sign_in() != SignIn::Never {
                let allowed = self.allowed(Seen::Wholly, asked, space);
                let known = space.known(self.at);
                let asked = space.store.within(allowed, known);
                others = space.store.without(others, asked);
            }
            let others = numbered(others, otherwise, &mut space.store);
            refused = space.store.over(others, refused);
        }
        refused
    }

    /// Strangers are asked to sign in where they would be refused, unless the refusal hides.
    fn asked(&self, ending: Diagram, space: &mut Space<'_, '_>) -> Diagram {
        let asked = match self.view.sign_in() {
            SignIn::CertificateOnly => Ending::CERTIFICATE_REQUIRED,
            SignIn::Never | SignIn::Possible => Ending::SIGN_IN,
        };
        let mut open = Vec::new();
        for number in space.store.numbers(ending) {
            let ends = space.book.ending(number);
            if number != 0 && matches!(ends, Ending::Refuse(refusal) if !refusal.status.hides()) {
                open.push(space.store.is(ending, number));
            }
        }
        let open = space.store.any(open);
        let kept = space.store.without(ending, open);
        let open = numbered(open, asked, &mut space.store);
        space.store.over(kept, open)
    }

    /// How the denies end the requests of a region: the first that matches decides.
    fn denied(&self, seen: Seen, region: Diagram, space: &mut Space<'_, '_>) -> Diagram {
        let mut answer = FALSE;
        let mut run: Vec<Diagram> = Vec::new();
        let mut rules = self.view.denies().peekable();
        while let Some(rule) = rules.next() {
            let holds = space.clause(rule.clause, self.at, seen);
            let holds = space.store.within(holds, region);
            if holds != FALSE {
                run.push(holds);
            }
            if rules.peek().is_none_or(|next| next.ending != rule.ending) {
                let any = space.store.any(std::mem::take(&mut run));
                let any = numbered(any, rule.ending, &mut space.store);
                answer = space.store.over(answer, any);
            }
        }
        answer
    }

    /// Where an allow matches, within a region.
    fn allowed(&self, seen: Seen, region: Diagram, space: &mut Space<'_, '_>) -> Diagram {
        match &self.view.grant {
            Granted::Nobody(_) => FALSE,
            Granted::Anyone => region,
            Granted::Rules(rules, _) => {
                let mut all = Vec::with_capacity(rules.len());
                for rule in rules {
                    let holds = space.clause(rule.clause, self.at, seen);
                    let holds = space.store.within(holds, region);
                    if holds != FALSE {
                        all.push(holds);
                    }
                }
                space.store.any(all)
            }
        }
    }
}

/// A number where something is true, else 0.
pub(crate) fn numbered(holds: Diagram, number: u32, store: &mut Store) -> Diagram {
    let leaf = store.leaf(number);
    // Where `holds` is true the number, and 0 elsewhere.
    store.within(leaf, holds)
}
