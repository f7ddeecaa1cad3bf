//! A region in cases: few, short, in the words of the rules; each case is a product of atoms that says nothing wrong where it
//! counts. And the rules that decide in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::book::Ending;
use super::super::cell::{Cell, Judged};
use super::super::diagram::{Diagram, FALSE};
use super::super::space::{Attribute, Seen, Space};
use super::super::witness::Witness;
use super::super::words::{Phrase, Product, first_product};
use super::{Change, Example, Key, Piece, Where, ending};
use crate::policy::RuleId;
use crate::policy::draft::SignIn;
use crate::policy::simulate::Asked;

/// Requests of a cell that end in one way and then in another.
pub(super) struct Changing<'c, 'p> {
    pub(super) cell: &'c Cell<'p>,
    pub(super) change: Change,
    pub(super) before: u32,
    pub(super) after: u32,
    pub(super) old: Judged,
    pub(super) new: Judged,
    pub(super) requests: Diagram,
    pub(super) region: Diagram,
}

impl Changing<'_, '_> {
    pub(super) fn pieces(
        &self,
        here: Diagram,
        space: &mut Space<'_, '_>,
        place: &Where,
    ) -> Vec<(Key, Piece)> {
        // Of the requests that its kind speaks of, and of all that cannot have changed.
        let (fixed, number) = match self.change {
            Change::Allowed => (self.new.bare, self.after),
            Change::Denied | Change::Answered => (self.old.bare, self.before),
        };
        let spoken = space.store.is(fixed, number);
        let outside = space.store.without(self.requests, self.region);
        let care = space.store.over(spoken, outside);
        let split = match self.change {
            Change::Allowed => self.split(0, self.before, here, space),
            Change::Denied | Change::Answered => self.split(1, self.after, here, space),
        };
        let mut found: BTreeMap<Key, Piece> = BTreeMap::new();
        for (rule, part) in split {
            let old = self.deciders(0, self.before, part, space);
            let new = self.deciders(1, self.after, part, space);
            let [before, after] = [self.old.ending, self.new.ending].map(|ending| {
                let ending = space.store.within(ending, part);
                let numbers = space.store.numbers(ending).into_iter();
                numbers.filter(|number| *number != 0).collect()
            });
            let mut piece = Piece {
                before,
                after,
                old,
                new,
                places: [place.clone()].into(),
                whole: BTreeSet::new(),
                example: None,
                depends: BTreeSet::new(),
                more: false,
            };
            let phrases = self.cases(part, care, &mut piece, space);
            let key = Key {
                change: self.change,
                old: self.before,
                new: self.after,
                rule,
                cases: phrases,
            };
            match found.get_mut(&key) {
                Some(known) => known.join(piece),
                None => drop(found.insert(key, piece)),
            }
        }
        found.into_iter().collect()
    }

    /// A part in words: cases that together say just this where it counts.
    fn cases(
        &self,
        part: Diagram,
        care: Diagram,
        piece: &mut Piece,
        space: &mut Space<'_, '_>,
    ) -> Vec<Phrase> {
        let sober = space.sober();
        let care = space.store.within(care, sober);
        let exact = space.store.within(part, care);
        let counts: Vec<u32> = space.attributes.iter().map(Attribute::count).collect();
        let mut left = exact;
        let mut phrases = Vec::new();
        while left != FALSE && !space.store.is_exhausted() {
            if phrases.len() >= CASES_MAX {
                piece.more = true;
                break;
            }
            let told = space.store.without(exact, left);
            let care_left = space.store.without(care, told);
            let simple = space.store.simple(left, care_left);
            let Some(product) = first_product(simple, &counts, &space.store) else {
                break;
            };
            let goal = Goal {
                exact,
                care,
                counts: &counts,
            };
            let (product, words) = goal.worded(&product, left, space);
            let here = goal.says(&product, space);
            let here_left = space.store.within(left, here);
            if here_left == FALSE {
                // It would go on forever.
                piece.more = true;
                break;
            }
            let proof = space.store.within(part, here_left);
            if piece.example.is_none() {
                let (example, depends) = self.example(proof, &piece.before, &piece.after, space);
                piece.example = example;
                piece.depends.extend(depends);
            }
            left = space.store.without(left, here);
            phrases.push(space.phrase(&product, &words, self.pattern()));
        }
        if piece.example.is_some() {
            piece.depends.clear();
        }
        if phrases.iter().any(Phrase::is_empty) {
            return Vec::new();
        }
        phrases.sort_unstable();
        phrases.dedup();
        phrases
    }

    fn pattern(&self) -> Option<&str> {
        let mut views = self.cell.views.iter().rev();
        let pattern = views.find_map(|view| view.route?.pattern());
        pattern.map(|pattern| &**pattern.words())
    }

    /// The parts of a region by the deny that decides them in one policy; all in one where none does, or too many.
    fn split(
        &self,
        at: usize,
        ending: u32,
        here: Diagram,
        space: &mut Space<'_, '_>,
    ) -> Vec<(Option<RuleId>, Diagram)> {
        let mut left = here;
        let mut parts = Vec::new();
        for (rule, part) in self.decided(at, ending, here, space) {
            if parts.len() >= SPLIT_MAX {
                return vec![(None, here)];
            }
            left = space.store.without(left, part);
            parts.push((Some(rule), part));
        }
        if left != FALSE {
            parts.push((None, left));
        }
        parts
    }

    /// The denies that decide in a region, and where.
    fn decided(
        &self,
        at: usize,
        ending: u32,
        here: Diagram,
        space: &mut Space<'_, '_>,
    ) -> Vec<(RuleId, Diagram)> {
        let Some(view) = self.cell.views.get(at) else {
            return Vec::new();
        };
        let judged = if at == 0 { self.old } else { self.new };
        let surely = match view.sign_in() {
            SignIn::Never => Seen::Wholly,
            SignIn::CertificateOnly | SignIn::Possible => Seen::Surely,
        };
        let mut first = space.store.within(here, judged.first);
        let mut second = space.store.without(here, judged.first);
        let mut found = Vec::new();
        for rule in view.denies() {
            if first == FALSE && second == FALSE {
                break;
            }
            let mut all = Vec::new();
            for (left, seen) in [(&mut first, surely), (&mut second, Seen::Wholly)] {
                if *left == FALSE {
                    continue;
                }
                let holds = space.clause(rule.clause, at, seen);
                let part = space.store.within(*left, holds);
                *left = space.store.without(*left, part);
                all.push(part);
            }
            let part = space.store.any(all);
            if part != FALSE && rule.ending == ending {
                found.push((rule.id, part));
            }
        }
        found
    }

    /// The rules that decide somewhere in a region.
    fn deciders(
        &self,
        at: usize,
        ending: u32,
        here: Diagram,
        space: &mut Space<'_, '_>,
    ) -> BTreeSet<RuleId> {
        let Some(view) = self.cell.views.get(at) else {
            return BTreeSet::new();
        };
        if ending != Ending::ALLOW {
            let decided = self.decided(at, ending, here, space);
            return decided.into_iter().map(|(rule, _)| rule).collect();
        }
        let mut left = here;
        let mut found = BTreeSet::new();
        for rule in view.allows() {
            let holds = space.clause(rule.clause, at, Seen::Wholly);
            let part = space.store.within(left, holds);
            if part != FALSE {
                found.insert(rule.id);
                left = space.store.without(left, part);
            }
        }
        found
    }

    /// A request of a region, judged by both policies.
    fn example(
        &self,
        region: Diagram,
        before: &BTreeSet<u32>,
        after: &BTreeSet<u32>,
        space: &Space<'_, '_>,
    ) -> (Example, BTreeSet<Arc<str>>) {
        match space.witness(region) {
            None => (None, BTreeSet::new()),
            Some(Witness::Unmade(depends)) => (None, depends.into_iter().collect()),
            Some(Witness::Made(mut made)) => {
                let new = made.pop();
                let Some((old, new)) = made.pop().zip(new) else {
                    return (None, BTreeSet::new());
                };
                let ends = |at: usize, asked: &Asked, wanted: &BTreeSet<u32>| {
                    let policy = space.book.policies.get(at);
                    let ended = policy.and_then(|policy| ending(policy, asked));
                    let mut wanted = wanted.iter().map(|number| space.book.ending(*number));
                    ended.is_some_and(|ended| wanted.any(|wanted| *wanted == ended))
                };
                let proven = ends(0, &old, before) && ends(1, &new, after);
                (proven.then(|| Box::new((old, new))), BTreeSet::new())
            }
        }
    }
}

/// What a case may say.
#[derive(Clone, Copy)]
struct Goal<'c> {
    /// All that is to be said.
    exact: Diagram,
    /// Where it counts.
    care: Diagram,
    counts: &'c [u32],
}

impl Goal<'_> {
    /// A product as a function, where it counts.
    fn says(&self, product: &Product, space: &mut Space<'_, '_>) -> Diagram {
        let mut all = self.care;
        for (attribute, atoms) in product.iter().rev() {
            let at = usize::try_from(*attribute).ok();
            let count = at.and_then(|at| self.counts.get(at)).copied().unwrap_or(0);
            let one = space.store.one_of(*attribute, atoms, count);
            all = space.store.within(all, one);
        }
        all
    }

    /// Whether a product says nothing that is wrong, and at least this.
    fn allows(&self, product: &Product, least: Diagram, space: &mut Space<'_, '_>) -> bool {
        let says = self.says(product, space);
        let wrong = space.store.without(says, self.exact);
        let missing = space.store.without(least, says);
        wrong == FALSE && missing == FALSE && !space.store.is_exhausted()
    }

    /// A product with as few attributes as will do, and the words of tests that say it.
    fn worded(
        &self,
        product: &Product,
        left: Diagram,
        space: &mut Space<'_, '_>,
    ) -> (Product, BTreeMap<u32, String>) {
        let mut product = product.clone();
        let least = self.says(&product, space);
        let least = space.store.within(least, left);
        let mut at = 0;
        while at < product.len() {
            let mut fewer = product.clone();
            fewer.remove(at);
            if self.allows(&fewer, least, space) {
                product = fewer;
            } else {
                at += 1;
            }
        }
        let mut words = BTreeMap::new();
        for at in 0..product.len() {
            let Some((attribute, atoms)) = product.get(at) else {
                break;
            };
            let attribute = *attribute;
            let few = space.are_few(attribute, atoms);
            for (told, atoms) in space.sayings(attribute) {
                if few && (told.ends_with("(old)") || told.ends_with("(new)")) {
                    continue;
                }
                let mut said = product.clone();
                if let Some(place) = said.get_mut(at) {
                    place.1 = atoms;
                }
                if self.allows(&said, least, space) {
                    product = said;
                    words.insert(attribute, told);
                    break;
                }
            }
        }
        (product, words)
    }
}

/// Regions that one cell is split in by the rules that decide.
const SPLIT_MAX: usize = 40;
/// Cases that one region is told in.
const CASES_MAX: usize = 6;
