//! Values that the rules do not tell apart, put together.

use std::collections::BTreeMap;

use super::small;
use crate::analysis::book::TermId;

/// Values by the terms that speak of them.
#[derive(Debug)]
pub(super) struct Groups<V> {
    pub(super) spoken: BTreeMap<V, Vec<TermId>>,
    /// Values of which no term speaks; one is enough.
    pub(super) rest: Vec<V>,
}

impl<V> Default for Groups<V> {
    fn default() -> Self {
        Self {
            spoken: BTreeMap::new(),
            rest: Vec::new(),
        }
    }
}

impl<V: Ord + Clone> Groups<V> {
    pub(super) fn put(&mut self, value: V, term: TermId) {
        self.spoken.entry(value).or_default().push(term);
    }

    pub(super) fn has(&self, value: &V) -> bool {
        self.spoken.contains_key(value)
    }

    /// The values by atom, and the atoms of each term, ascending.
    pub(super) fn finish(self) -> (Vec<Vec<V>>, BTreeMap<TermId, Vec<u32>>) {
        let mut values: Vec<Vec<V>> = Vec::new();
        if !self.rest.is_empty() {
            values.push(self.rest);
        }
        let mut known = BTreeMap::<Vec<TermId>, usize>::new();
        let mut terms = BTreeMap::<TermId, Vec<u32>>::new();
        for (value, mut spoken) in self.spoken {
            spoken.sort_unstable();
            spoken.dedup();
            if let Some(group) = known.get(&spoken).and_then(|at| values.get_mut(*at)) {
                group.push(value);
                continue;
            }
            for term in &spoken {
                terms.entry(*term).or_default().push(small(values.len()));
            }
            known.insert(spoken, values.len());
            values.push(vec![value]);
        }
        (values, terms)
    }
}
