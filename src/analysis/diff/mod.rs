//! What changes between two policies: the exact set of requests that end otherwise, as a short list of disjoint regions.
//!
//! Sites are matched by host and routes by path, so that a new name or another order is no change. A region is told among the
//! requests that its kind speaks of: what is newly allowed among those that pass now, what is newly denied among those that
//! passed before. Two refusals that a client cannot tell apart are no change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::book::{Asks, Book, ClauseId, Ending, TermId};
use super::cell::{Cell, Granted, View};
use super::diagram::FALSE;
use super::space::Space;
use super::words::Phrase;
use crate::policy::draft::SignIn;
use crate::policy::simulate::{self, Asked, Outcome};
use crate::policy::{Policy, RuleId, Verdict};

mod changed;
mod telling;

use changed::{Changed, changed};
use telling::Changing;

/// What a comparison may cost.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Steps for the requests of one route; what takes more cannot be told.
    pub cell: usize,
    /// Steps for all of them.
    pub whole: usize,
}

/// What changes.
#[derive(Debug)]
pub struct Diff {
    /// Newly allowed ones first, then newly denied ones, then other answers.
    pub regions: Vec<Region>,
    /// Where no answer was found within the budget.
    pub untold: Vec<Where>,
}

/// Requests that end in one way with the old policy, and in another with the new.
#[derive(Debug)]
pub struct Region {
    /// The kind of change.
    pub change: Change,
    /// How they ended.
    pub old: Side,
    /// How they end.
    pub new: Side,
    /// On which hosts and paths.
    pub places: Vec<Where>,
    /// What else must hold: one of these cases, each of conditions joined by *and*. Without any: nothing else.
    pub cases: Vec<Vec<String>>,
    /// A request of the region, as the old and as the new policy are asked; both have been.
    pub example: Example,
    /// Why there is no example: it depends on these.
    pub depends: Vec<Arc<str>>,
    /// Whether it is larger than its conditions say, since they would have been too many.
    pub more: bool,
}

/// A request, as the old and as the new policy are asked.
pub type Example = Option<Box<(Asked, Asked)>>;

/// One side of a change.
#[derive(Debug)]
pub struct Side {
    /// How the requests end, in one way or in several: a stranger may be asked to sign in where others are refused.
    pub endings: Vec<Ending>,
    /// The rules that decide so, in the order in which they count; none where no single rule does.
    pub rules: Vec<RuleId>,
}

/// Hosts and a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Where {
    /// Patterns of hosts.
    pub hosts: Arc<str>,
    /// A pattern of paths, in words.
    pub path: Arc<str>,
}

/// The kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// They were not allowed, and are.
    Allowed,
    /// They were allowed, and are not.
    Denied,
    /// They are still not allowed, and are answered otherwise.
    Answered,
}

/// Compares two policies, for requests from `now` on.
#[must_use]
pub fn diff(old: &Policy, new: &Policy, now: Timestamp, budget: Budget) -> Diff {
    let book = Book::new(vec![old, new], now);
    let mut differ = Differ {
        book: &book,
        budget,
        spent: 0,
        pieces: BTreeMap::new(),
        untold: BTreeSet::new(),
        looked: HashMap::default(),
    };
    for hosts in book.hosts() {
        let words = host_words(&hosts.patterns, hosts.sites.iter().all(Option::is_none));
        let cells = book.cells(&hosts);
        let mut everywhere: BTreeMap<Key, usize> = BTreeMap::new();
        for cell in &cells {
            for key in differ.cell(cell, &words) {
                *everywhere.entry(key).or_default() += 1;
            }
        }
        if cells.len() > 1 {
            for (key, _) in everywhere
                .into_iter()
                .filter(|(_, count)| *count == cells.len())
            {
                differ.whole(&key, &words);
            }
        }
    }
    differ.finish()
}

/// What makes pieces of several cells one region.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    change: Change,
    old: u32,
    new: u32,
    /// The rule by which the region was split.
    rule: Option<RuleId>,
    cases: Vec<Phrase>,
}

/// A region in the making.
struct Piece {
    /// The numbers of endings, before and after.
    before: BTreeSet<u32>,
    after: BTreeSet<u32>,
    old: BTreeSet<RuleId>,
    new: BTreeSet<RuleId>,
    places: BTreeSet<Where>,
    /// Hosts of which every path is meant.
    whole: BTreeSet<Arc<str>>,
    example: Example,
    depends: BTreeSet<Arc<str>>,
    more: bool,
}

struct Differ<'b, 'p> {
    book: &'b Book<'p>,
    budget: Budget,
    spent: usize,
    pieces: BTreeMap<Key, Piece>,
    untold: BTreeSet<Where>,
    /// Cells whose rules do not look at the path or the host, by their rules: what was found.
    looked: HashMap<Rules, Vec<Key>, foldhash::fast::RandomState>,
}

/// The rules of a cell, so that cells with the same are looked at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Rules {
    views: Vec<RulesOf>,
}

/// The rules of one view.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RulesOf {
    denies: Vec<(ClauseId, u32)>,
    allows: Vec<ClauseId>,
    otherwise: u32,
    /// The kinds of grant and of sign-in.
    kind: (u8, u8),
    sources: Vec<Arc<str>>,
}

impl<'b, 'p> Differ<'b, 'p> {
    /// Looks for changes in a cell; answers what it found.
    fn cell(&mut self, cell: &Cell<'p>, hosts: &Arc<str>) -> Vec<Key> {
        let [old, new] = cell.views.as_slice() else {
            return Vec::new();
        };
        let Some(changed) = changed(old, new) else {
            return Vec::new();
        };
        let place = Where {
            hosts: Arc::clone(hosts),
            path: Arc::from(route_words(cell)),
        };
        let rules = self.rules(cell);
        if let Some(known) = rules.as_ref().and_then(|rules| self.looked.get(rules)) {
            let known = known.clone();
            for key in &known {
                if let Some(piece) = self.pieces.get_mut(key) {
                    piece.places.insert(place.clone());
                }
            }
            return known;
        }
        let left = self.budget.whole.saturating_sub(self.spent);
        let budget = self.budget.cell.min(left);
        let space = (budget > 0)
            .then(|| cell.space(self.book, budget))
            .flatten();
        let found = space.and_then(|mut space| {
            let found = self.look(cell, &changed, &mut space, &place);
            self.spent += space.store.spent();
            found
        });
        let Some(found) = found else {
            self.untold.insert(place);
            return Vec::new();
        };
        let mut keys = Vec::new();
        for (key, piece) in found {
            keys.push(key.clone());
            match self.pieces.entry(key) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(piece);
                }
                std::collections::btree_map::Entry::Occupied(mut entry) => {
                    entry.get_mut().join(piece);
                }
            }
        }
        // A cell without requests says nothing of others.
        if let Some(rules) = rules.filter(|_| !keys.is_empty()) {
            self.looked.insert(rules, keys.clone());
        }
        keys
    }

    /// The rules of a cell, where none looks at path or host.
    fn rules(&self, cell: &Cell<'p>) -> Option<Rules> {
        let mut views = Vec::new();
        for view in &cell.views {
            let all = view.denies().chain(view.allows());
            if all.into_iter().any(|rule| self.looks_at_place(rule.clause)) {
                return None;
            }
            let (kind, otherwise) = match &view.grant {
                Granted::Nobody(ending) => (0, *ending),
                Granted::Anyone => (1, 0),
                Granted::Rules(_, ending) => (2, *ending),
            };
            let sign_in = match view.sign_in() {
                SignIn::Never => 0,
                SignIn::CertificateOnly => 1,
                SignIn::Possible => 2,
            };
            views.push(RulesOf {
                denies: view
                    .denies()
                    .map(|rule| (rule.clause, rule.ending))
                    .collect(),
                allows: view.allows().iter().map(|rule| rule.clause).collect(),
                otherwise,
                kind: (kind, sign_in),
                sources: view.sources(),
            });
        }
        Some(Rules { views })
    }

    fn looks_at_place(&self, clause: ClauseId) -> bool {
        let Some(clause) = self.book.clause_at(clause) else {
            return true;
        };
        let place = |(term, _): &(TermId, _)| {
            let asks = self.book.term(*term).map(|term| &term.asks);
            matches!(asks, Some(Asks::Path(..) | Asks::Host(_)))
        };
        clause.tests.iter().any(place)
            || clause
                .unless
                .iter()
                .any(|excepted| self.looks_at_place(*excepted))
    }

    /// The changes of a cell; none where they cannot be told.
    fn look(
        &self,
        cell: &Cell<'p>,
        changed: &Changed,
        space: &mut Space<'_, 'p>,
        place: &Where,
    ) -> Option<Vec<(Key, Piece)>> {
        if self.book.endings_count() > ENDINGS_MAX {
            return None;
        }
        let requests = cell.requests(space);
        let region = changed.region(requests, space);
        if region == FALSE {
            return (!space.store.is_exhausted()).then(Vec::new);
        }
        let old = cell.judged(0, region, space)?;
        let new = cell.judged(1, region, space)?;
        let pair = space.store.pair(old.ending, new.ending);
        let mut differing = Vec::new();
        for number in space.store.numbers(pair) {
            if number >> 16 != number & 0xFFFF {
                differing.push(space.store.is(pair, number));
            }
        }
        let differing = space.store.any(differing);
        let bare = space.store.pair(old.bare, new.bare);
        let bare = space.store.within(bare, differing);
        let mut found = Vec::new();
        for number in space.store.numbers(bare) {
            if number == 0 {
                continue;
            }
            let (before, after) = (number >> 16, number & 0xFFFF);
            let here = space.store.is(bare, number);
            let change = Changing {
                cell,
                change: match (before, after) {
                    (_, Ending::ALLOW) => Change::Allowed,
                    (Ending::ALLOW, _) => Change::Denied,
                    _ => Change::Answered,
                },
                before,
                after,
                old,
                new,
                requests,
                region,
            };
            found.extend(change.pieces(here, space, place));
        }
        (!space.store.is_exhausted()).then_some(found)
    }

    /// Every path of these hosts is in a region.
    fn whole(&mut self, key: &Key, hosts: &Arc<str>) {
        if let Some(piece) = self.pieces.get_mut(key) {
            piece.places.retain(|place| place.hosts != *hosts);
            piece.whole.insert(Arc::clone(hosts));
        }
    }

    fn finish(self) -> Diff {
        let book = self.book;
        let regions = self.pieces.into_iter().map(|(key, piece)| {
            let whole = piece.whole.into_iter().map(|hosts| Where {
                hosts,
                path: Arc::from(EVERY_PATH),
            });
            Region {
                change: key.change,
                old: Side {
                    endings: endings(book, piece.before),
                    rules: piece.old.into_iter().collect(),
                },
                new: Side {
                    endings: endings(book, piece.after),
                    rules: piece.new.into_iter().collect(),
                },
                places: whole.chain(piece.places).collect(),
                cases: cases(key.cases),
                example: piece.example,
                depends: piece.depends.into_iter().collect(),
                more: piece.more,
            }
        });
        Diff {
            regions: regions.collect(),
            untold: self.untold.into_iter().collect(),
        }
    }
}

impl Piece {
    fn join(&mut self, other: Self) {
        self.before.extend(other.before);
        self.after.extend(other.after);
        self.old.extend(other.old);
        self.new.extend(other.new);
        self.places.extend(other.places);
        self.whole.extend(other.whole);
        if self.example.is_none() {
            self.example = other.example;
        }
        self.depends.extend(other.depends);
        self.more |= other.more;
    }
}

/// How the evaluator ends a request; none where that is outside of what is compared.
pub(crate) fn ending(policy: &Policy, asked: &Asked) -> Option<Ending> {
    let Outcome::Judged { decision, .. } = simulate::judge(policy, asked) else {
        return None;
    };
    match decision.verdict {
        Verdict::Allow => Some(Ending::Allow),
        Verdict::Refuse(id) | Verdict::StepUp(id) => {
            Some(Ending::Refuse(policy.refusal(id).clone()))
        }
        Verdict::NotAuthenticated | Verdict::InvalidToken => Some(Ending::SignIn),
        Verdict::CertificateRequired => Some(Ending::CertificateRequired),
        Verdict::NoSite => Some(Ending::NoSite),
        Verdict::NoRoute => Some(Ending::NoRoute),
        Verdict::Unavailable | Verdict::BadQuery => None,
    }
}

/// The cases in words; a narrower path is a condition.
fn cases(phrases: Vec<Phrase>) -> Vec<Vec<String>> {
    let words = phrases.into_iter().map(|phrase| {
        let path = phrase.path.map(|path| format!("path = {path}"));
        path.into_iter().chain(phrase.conditions).collect()
    });
    words.collect()
}

fn endings(book: &Book<'_>, numbers: BTreeSet<u32>) -> Vec<Ending> {
    let all = numbers
        .into_iter()
        .map(|number| book.ending(number).clone());
    all.collect()
}

/// The path of a cell in words.
fn route_words(cell: &Cell<'_>) -> String {
    let words = |view: &View<'_>| Some(Arc::clone(view.route?.pattern()?.words()));
    let mut found: Vec<Arc<str>> = cell.views.iter().filter_map(words).collect();
    found.dedup();
    match found.as_slice() {
        [] if cell.views.iter().all(|view| view.site.is_none()) => EVERY_PATH.to_owned(),
        [] => "paths without a route".to_owned(),
        [one] => one.to_string(),
        [old, new, ..] => narrower(old, new).to_string(),
    }
}

/// The narrower of two patterns that own the same request.
fn narrower<'w>(old: &'w str, new: &'w str) -> &'w str {
    let depth = |words: &str| {
        let literal = words.split('/').filter(|segment| !segment.starts_with('*'));
        (literal.count(), !words.ends_with("/**"))
    };
    if depth(old) > depth(new) { old } else { new }
}

fn host_words(patterns: &[crate::value::host::HostPattern], strange: bool) -> Arc<str> {
    if strange {
        return Arc::from("hosts without a site");
    }
    let names = patterns.iter().map(ToString::to_string);
    Arc::from(super::words::list(names, "and"))
}

/// `a, b and c`; `a, b and 3 more` where there are many.
#[must_use]
pub fn some_of(items: impl Iterator<Item = String>) -> String {
    super::words::list(items, "and")
}

/// The words for every path of a host.
pub const EVERY_PATH: &str = "every path";
/// Endings that can be paired.
const ENDINGS_MAX: usize = 0xFFFF;

#[cfg(test)]
mod tests;
