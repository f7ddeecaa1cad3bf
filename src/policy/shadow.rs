//! Shadow rules: judged after the verdict, each by itself, and without a say in it.
//!
//! For each shadow rule that guards a place and matches: what would the answer be if this one rule were enforced beside the
//! live ones? Told only where that is another kind of answer than the live one. The evaluator itself answers that, with the
//! one rule added at the place where it is written, so that 401-or-403, `unless` and failed facts are as they will be.
//!
//! Where enforcing it would make identity matter and nobody has looked at that, nobody looks now: the answer is
//! [`Kind::Challenge`], "somebody would have to sign in".

use std::collections::HashMap;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::condition::{Condition, Matcher};
use super::decision::{Decision, First, Kind, Place, RefusalId, RuleId};
use super::draft::{self, Conditional, Effect, PathReading};
use super::evaluate::{Failed, Judge, Matched, Notes, Unresolved, seen};
use super::explain::{Scope, Stage};
use super::facts::Facts;
use super::index::{Asked, Index, Wish};
use super::pattern::Reading;
use super::text::Side;
use super::{Policy, Sum};
use crate::value::path::Target;

/// A shadow rule that would have changed the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadowed {
    /// Which.
    pub rule: RuleId,
    /// What the answer would have been.
    pub would: Kind,
}

/// The shadow rules of a policy, by place.
#[derive(Debug)]
pub(super) struct Shadows {
    global: List,
    /// By site, and route or `u32::MAX`.
    places: HashMap<(u32, u32), [List; 2], FixedState>,
}

/// Shadow rules of one place and effect.
#[derive(Debug, Default)]
struct List {
    rules: Vec<Shadow>,
    /// Where there are many.
    index: Option<Index>,
}

/// One shadow rule.
#[derive(Debug)]
pub(super) struct Shadow {
    pub(super) rule: RuleId,
    pub(super) effect: Effect,
    pub(super) condition: Condition,
    pub(super) scope: Scope,
    reads_query: bool,
    /// Whether it tests the path in a way that spellings can differ in.
    reads_path: bool,
}

impl Conditional for Shadow {
    fn condition(&self) -> &Condition {
        &self.condition
    }
}

impl Shadow {
    /// What the client is told, where it is a deny.
    pub(super) const fn refusal(&self) -> Option<RefusalId> {
        match self.effect {
            Effect::Deny(refusal) => Some(refusal),
            Effect::Allow => None,
        }
    }

    /// Whether it is an allow.
    pub(super) const fn is_allow(&self) -> bool {
        matches!(self.effect, Effect::Allow)
    }

    pub(super) const fn side(&self) -> Side {
        match self.effect {
            Effect::Deny(_) => Side::Hurts,
            Effect::Allow => Side::Helps,
        }
    }

    pub(super) const fn reads_query(&self) -> bool {
        self.reads_query
    }

    /// Whether its `path` tests answer differently for the two readings: enforced, it would make the path ambiguous.
    fn differs(&self, target: &Target<'_>) -> bool {
        let mut differs = false;
        if self.reads_path {
            self.condition.every_test(&mut |test| {
                if let Matcher::Path(path) = &test.matcher {
                    differs |= path.matches(target, Reading::Strict)
                        != path.matches(target, Reading::Lenient);
                }
            });
        }
        differs
    }
}

impl List {
    fn add(&mut self, shadow: draft::Shadow) {
        let sum = Sum::of(std::iter::once(&shadow.condition));
        let mut reads_path = false;
        shadow.condition.every_test(&mut |test| {
            reads_path |= matches!(test.matcher, Matcher::Path(_));
        });
        self.rules.push(Shadow {
            rule: shadow.rule,
            effect: shadow.effect,
            condition: shadow.condition,
            scope: match (shadow.place.site, shadow.place.route) {
                (None, _) => Scope::Global,
                (Some(_), None) => Scope::Site,
                (Some(_), Some(_)) => Scope::Route,
            },
            reads_query: sum.query,
            reads_path,
        });
    }

    fn finish(&mut self, side: Side) {
        self.index = Index::new(self.rules.iter().map(|rule| &rule.condition), side);
    }

    /// The rules that do not surely fail.
    fn collect<'l>(&'l self, judge: &Judge<'_>, found: &mut SmallVec<[&'l Shadow; 4]>) {
        let mut one = |shadow: &'l Shadow| {
            let fits = judge.condition(&shadow.condition, shadow.side()) != Matched::Fails;
            if fits {
                found.push(shadow);
            }
        };
        let Some(index) = &self.index else {
            return self.rules.iter().for_each(one);
        };
        // Whatever is found is said to fail, so that the search goes on to the end.
        let _nothing = index.search(judge, Wish::All, &mut Asked::new(), |at| {
            if let Some(shadow) = self.rules.get(at) {
                one(shadow);
            }
            Matched::Fails
        });
    }
}

impl Shadows {
    /// The shadow rules of a draft; none where it has none.
    pub(super) fn new(shadows: Vec<draft::Shadow>) -> Option<Box<Self>> {
        if shadows.is_empty() {
            return None;
        }
        let mut all = Self {
            global: List::default(),
            places: HashMap::default(),
        };
        for shadow in shadows {
            let route = shadow.place.route.map_or(u32::MAX, |route| route.0);
            let list = match shadow.place.site {
                None => &mut all.global,
                Some(site) => {
                    let [denies, allows] = all.places.entry((site.0, route)).or_default();
                    match shadow.effect {
                        Effect::Deny(_) => denies,
                        Effect::Allow => allows,
                    }
                }
            };
            list.add(shadow);
        }
        all.global.finish(Side::Hurts);
        #[expect(clippy::iter_over_hash_type, reason = "each is finished by itself")]
        for [denies, allows] in all.places.values_mut() {
            denies.finish(Side::Hurts);
            allows.finish(Side::Helps);
        }
        Some(Box::new(all))
    }

    /// Every rule is tried, one after the other.
    pub(super) fn plain(&mut self) {
        self.global.index = None;
        #[expect(clippy::iter_over_hash_type, reason = "each is stripped by itself")]
        for [denies, allows] in self.places.values_mut() {
            (denies.index, allows.index) = (None, None);
        }
    }

    /// The lists that guard a place.
    fn at(&self, place: Place) -> impl Iterator<Item = &List> {
        let of = |route| {
            let site = place.site?.0;
            self.places.get(&(site, route))
        };
        let site = of(u32::MAX);
        let route = place.route.and_then(|route| of(route.0));
        let own = [site, route].into_iter().flatten().flatten();
        std::iter::once(&self.global)
            .chain(own)
            .filter(|list| !list.rules.is_empty())
    }

    /// Every shadow rule that guards a place, in the order written.
    pub(super) fn every(&self, place: Place) -> Vec<&Shadow> {
        let mut all: Vec<&Shadow> = self.at(place).flat_map(|list| &list.rules).collect();
        all.sort_by_key(|shadow| shadow.rule);
        all
    }
}

impl Policy {
    /// Whether there is any shadow rule.
    #[must_use]
    pub const fn has_shadows(&self) -> bool {
        self.shadows.is_some()
    }

    /// The shadow rules that would have answered otherwise, in the order written, at most [`SHADOWED_MAX`]. `live` is the
    /// decision, and `stage` the judgement that made it; `facts.identity` counts in the second only.
    #[must_use]
    pub fn shadowed(
        &self,
        facts: &Facts<'_>,
        place: Place,
        stage: Stage,
        live: Decision,
    ) -> SmallVec<[Shadowed; 2]> {
        let mut told = SmallVec::new();
        let Some(shadows) = &self.shadows else {
            return told;
        };
        let identity = match stage {
            Stage::Unseen => self.unseen(place),
            Stage::Seen(_) => seen(facts.identity),
        };
        let judge = Judge::new(self, facts, identity, Failed::Hurts, Unresolved::Fails);
        let mut found = SmallVec::new();
        for list in shadows.at(place) {
            list.collect(&judge, &mut found);
        }
        // A failed fact hurts: an allow that needs it fails above, and might make the answer a 503 all the same.
        if judge.touched.get() {
            let best = Judge::new(self, facts, identity, Failed::Helps, Unresolved::Fails);
            for list in shadows.at(place) {
                list.collect(&best, &mut found);
            }
        }
        found.sort_by_key(|shadow| shadow.rule);
        found.dedup_by_key(|shadow| shadow.rule);
        for shadow in found.into_iter().take(FOUND_MAX) {
            let would = self.with(facts, place, stage, shadow);
            if would != live.verdict.kind() && told.len() < SHADOWED_MAX {
                told.push(Shadowed {
                    rule: shadow.rule,
                    would,
                });
            }
        }
        told
    }

    /// The kind of answer if this shadow rule were enforced.
    pub(super) fn with(
        &self,
        facts: &Facts<'_>,
        place: Place,
        stage: Stage,
        shadow: &Shadow,
    ) -> Kind {
        let strict = self
            .site_at(place)
            .is_some_and(|site| site.reading == PathReading::Strict);
        if !strict && shadow.differs(facts.target) {
            return Kind::Error;
        }
        let first = self
            .first_plus(facts, place, Unresolved::Fails, Some(shadow))
            .0;
        let decision = match (first, stage) {
            (First::Decided(decision), _) => decision,
            (First::SignIn, Stage::Unseen) => return Kind::Challenge,
            (First::SignIn, Stage::Seen(credential)) => self.second_plus(
                facts,
                place,
                credential,
                Unresolved::Fails,
                (Some(shadow), Notes::default()),
            ),
        };
        decision.verdict.kind()
    }
}

/// Shadow rules that are told of one request.
pub const SHADOWED_MAX: usize = 16;
/// Matching shadow rules that are looked into, the first by order.
const FOUND_MAX: usize = 64;
