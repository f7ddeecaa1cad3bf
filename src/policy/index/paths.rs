//! Which rules of a long list see a difference between the two readings of a path.
//!
//! A `path` test can differ only if one of its patterns matches in exactly one reading, or if it has regular expressions.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::super::condition::{Condition, Matcher};
use super::super::pattern::{PathTest, Pattern, Reading};
use super::forms::{Forms, Segments};
use crate::value::path::Target;

/// The `path` tests of a list.
#[derive(Debug, Default)]
pub(in crate::policy) struct PathTests {
    strict: Patterns,
    lenient: Patterns,
    /// By pattern: the rules that have it. INVARIANT: without duplicates.
    rules: Vec<Vec<u32>>,
    /// Rules that must always be looked at.
    always: Vec<u32>,
}

/// One reading of the patterns.
#[derive(Debug, Default)]
struct Patterns {
    forms: Forms,
    /// By number: patterns.
    known: HashMap<u32, SmallVec<[u32; 2]>, FixedState>,
}

impl Patterns {
    fn add(&mut self, pattern: &Pattern, reading: Reading, id: u32) -> Option<()> {
        let number = self.forms.number(pattern, reading)?;
        self.known.entry(number).or_default().push(id);
        Some(())
    }

    /// The patterns that a path may match; false where there are too many to tell.
    fn of(&self, path: &str, found: &mut SmallVec<[u32; FOUND_MAX]>) -> bool {
        let mut fits = true;
        let Some(segments) = Segments::of(path) else {
            return true;
        };
        self.forms.each(&segments, |number| {
            for id in self.known.get(&number).into_iter().flatten() {
                fits &= found.len() < FOUND_MAX;
                if fits {
                    found.push(*id);
                }
            }
        });
        found.sort_unstable();
        fits
    }
}

impl PathTests {
    /// The `path` tests of a list, also those of exceptions.
    pub(in crate::policy) fn new<'c>(conditions: impl Iterator<Item = &'c Condition>) -> Self {
        let mut tests = Self::default();
        let mut ids: HashMap<&str, u32, FixedState> = HashMap::default();
        for (rule, condition) in (0u32..).zip(conditions) {
            condition.every_test(&mut |test| {
                if let Matcher::Path(path) = &test.matcher {
                    tests.add(rule, path, &mut ids);
                }
            });
        }
        tests
    }

    fn add<'c>(
        &mut self,
        rule: u32,
        test: &'c PathTest,
        ids: &mut HashMap<&'c str, u32, FixedState>,
    ) {
        if !test.regexes.is_empty() {
            self.always.push(rule);
        }
        for pattern in &test.patterns {
            let next = u32::try_from(self.rules.len()).unwrap_or(u32::MAX);
            let id = *ids.entry(pattern.words()).or_insert(next);
            if id == next {
                self.rules.push(Vec::new());
                let strict = self.strict.add(pattern, Reading::Strict, id);
                let lenient = self.lenient.add(pattern, Reading::Lenient, id);
                if strict.and(lenient).is_none() {
                    self.always.push(rule);
                    ids.remove(&**pattern.words());
                    continue;
                }
            }
            let rules = usize::try_from(id)
                .ok()
                .and_then(|id| self.rules.get_mut(id));
            if let Some(rules) = rules.filter(|rules| rules.last() != Some(&rule)) {
                rules.push(rule);
            }
        }
    }

    /// Whether `differs` holds for any rule that may see a difference.
    pub(in crate::policy) fn differ(
        &self,
        target: &Target<'_>,
        mut differs: impl FnMut(usize) -> bool,
    ) -> Option<bool> {
        let mut differs = |rule: &u32| differs(usize::try_from(*rule).unwrap_or(usize::MAX));
        if self.always.iter().any(&mut differs) {
            return Some(true);
        }
        if self.rules.is_empty() {
            return Some(false);
        }
        let (mut strict, mut lenient) = (SmallVec::new(), SmallVec::new());
        if !self.strict.of(target.strict(), &mut strict)
            || !self.lenient.of(target.lenient(), &mut lenient)
        {
            return None;
        }
        let once = |one: &[u32], other: &[u32], differs: &mut dyn FnMut(&u32) -> bool| {
            let mut lone = one.iter().filter(|id| other.binary_search(id).is_err());
            lone.any(|id| {
                let rules = usize::try_from(*id).ok().and_then(|id| self.rules.get(id));
                rules.into_iter().flatten().any(&mut *differs)
            })
        };
        Some(once(&strict, &lenient, &mut differs) || once(&lenient, &strict, &mut differs))
    }
}

/// Patterns that one path may match. More are told apart by trying each.
const FOUND_MAX: usize = 64;
