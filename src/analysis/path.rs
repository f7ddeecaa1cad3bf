//! Paths as attributes: one for each segment, and one for the trailing slash. A pattern is then a handful of atoms, and the
//! route that owns a path is a function like any other.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::diagram::{Diagram, FALSE, Store, TRUE};
use crate::policy::pattern::{End, Pattern};

/// Whether a path has a trailing slash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slash {
    With,
    Without,
}

/// The segments that patterns name. Attribute `n` is segment `n`: atom 0 is a text that no pattern names there, 1 that the
/// path has ended, then the texts; behind them the trailing slash.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    texts: Vec<Vec<Arc<str>>>,
    atoms: Vec<HashMap<Arc<str>, u32, foldhash::fast::RandomState>>,
}

/// The atom of a path that has ended.
pub(crate) const ENDED: u32 = 1;

impl Paths {
    pub(crate) fn new<'p>(patterns: impl Iterator<Item = &'p Pattern>) -> Self {
        let mut texts: Vec<BTreeSet<Arc<str>>> = Vec::new();
        for pattern in patterns {
            let (segments, end) = pattern.strict_parts();
            let mut length = 0;
            for (place, segment) in segments.enumerate() {
                length = place + 1;
                if texts.len() < length {
                    texts.push(BTreeSet::new());
                }
                if let (Some(text), Some(known)) = (segment, texts.get_mut(place)) {
                    known.insert(Arc::from(text));
                }
            }
            // Where a path has to end there must be something to ask.
            if end != End::Below && texts.len() == length {
                texts.push(BTreeSet::new());
            }
        }
        let texts: Vec<Vec<Arc<str>>> = texts
            .into_iter()
            .map(|texts| texts.into_iter().collect())
            .collect();
        let atoms = texts.iter().map(|texts| (2..).zip(texts));
        let atoms = atoms.map(|texts| texts.map(|(atom, text)| (Arc::clone(text), atom)).collect());
        Self {
            atoms: atoms.collect(),
            texts,
        }
    }

    /// How many segments are asked.
    pub(crate) const fn depth(&self) -> usize {
        self.texts.len()
    }

    /// The texts that patterns name at a place.
    pub(crate) fn literals(&self, place: usize) -> Vec<Arc<str>> {
        self.texts.get(place).cloned().unwrap_or_default()
    }

    /// A path does not go on once it has ended, and `/` is a slash.
    pub(crate) fn possible(&self, store: &mut Store) -> Diagram {
        let depth = self.depth();
        let slash = slash_number(depth);
        let mut ended = store.one_of(slash, &[1], 2);
        // Of the first segment: `/` has a slash. Of the others: what was before goes on as it was.
        let mut possible = TRUE;
        let mut after_end = TRUE;
        for place in (0..depth).rev() {
            let number = u32::try_from(place).unwrap_or(u32::MAX);
            let goes_on = possible;
            possible = store.ask(
                number,
                goes_on,
                vec![(ENDED, if place == 0 { ended } else { after_end })],
            );
            after_end = store.ask(number, FALSE, vec![(ENDED, after_end)]);
            ended = store.ask(number, FALSE, vec![(ENDED, ended)]);
        }
        possible
    }

    /// The paths that a pattern matches, with and without a trailing slash.
    pub(crate) fn pattern(&self, pattern: &Pattern, store: &mut Store) -> Diagram {
        let (segments, end) = pattern.strict_parts();
        let segments: Vec<Option<&str>> = segments.collect();
        let mut matches = if end == End::Below {
            TRUE
        } else {
            let number = u32::try_from(segments.len()).unwrap_or(u32::MAX);
            store.one_of(number, &[ENDED], 2)
        };
        for (place, segment) in segments.iter().enumerate().rev() {
            let number = u32::try_from(place).unwrap_or(u32::MAX);
            matches = match segment {
                None => store.ask(number, matches, vec![(ENDED, FALSE)]),
                Some(text) => {
                    let atom = self.atoms.get(place).and_then(|atoms| atoms.get(*text));
                    match atom {
                        Some(atom) => store.ask(number, FALSE, vec![(*atom, matches)]),
                        // A pattern that was not announced is a mistake of the caller.
                        None => FALSE,
                    }
                }
            };
        }
        matches
    }

    /// The paths with or without a trailing slash.
    pub(crate) fn slash(&self, slash: Slash, store: &mut Store) -> Diagram {
        let atom = match slash {
            Slash::With => 1,
            Slash::Without => 0,
        };
        store.one_of(slash_number(self.depth()), &[atom], 2)
    }
}

fn slash_number(depth: usize) -> u32 {
    u32::try_from(depth).unwrap_or(u32::MAX)
}

/// Where a pattern stands among others that match the same path: the smaller the higher. `None` stands for patterns that only
/// a trailing slash tells apart.
pub(crate) fn rank(pattern: &Pattern) -> Vec<u8> {
    let (segments, end) = pattern.strict_parts();
    let mut rank: Vec<u8> = segments
        .map(|segment| u8::from(segment.is_none()))
        .collect();
    rank.push(match end {
        End::Exact | End::Slash => 2,
        End::Below => 3,
    });
    rank
}

/// The patterns of a site as a trie, to find those that share a path with another.
#[derive(Debug, Default)]
pub(crate) struct Overlaps {
    nodes: Vec<Fork>,
}

#[derive(Debug, Default)]
struct Fork {
    literal: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
    star: Option<usize>,
    /// Routes that end here, and whether everything below is theirs.
    ends: Vec<(usize, End)>,
}

impl Overlaps {
    /// The patterns of routes, by their number.
    pub(crate) fn new<'p>(patterns: impl Iterator<Item = (usize, &'p Pattern)>) -> Self {
        let mut this = Self {
            nodes: vec![Fork::default()],
        };
        for (route, pattern) in patterns {
            let (segments, end) = pattern.strict_parts();
            let mut at = 0;
            for segment in segments {
                let next = this.nodes.len();
                let Some(fork) = this.nodes.get_mut(at) else {
                    break;
                };
                at = match segment {
                    None => *fork.star.get_or_insert(next),
                    Some(text) => *fork.literal.entry(text.into()).or_insert(next),
                };
                if at == next {
                    this.nodes.push(Fork::default());
                }
            }
            if let Some(fork) = this.nodes.get_mut(at) {
                fork.ends.push((route, end));
            }
        }
        this
    }

    /// The routes whose patterns share a path with this one, itself among them.
    pub(crate) fn of(&self, pattern: &Pattern) -> Vec<usize> {
        let (segments, end) = pattern.strict_parts();
        let segments: Vec<Option<&str>> = segments.collect();
        let mut found = Vec::new();
        let mut todo = vec![(0, 0)];
        while let Some((node, place)) = todo.pop() {
            let Some(fork) = self.nodes.get(node) else {
                continue;
            };
            let over = place >= segments.len();
            for (route, theirs) in &fork.ends {
                // Theirs ends here: ours must end here as well, or theirs takes what is below.
                if over || *theirs == End::Below {
                    found.push(*route);
                }
            }
            if over && end != End::Below {
                continue;
            }
            let next = place + 1;
            match segments.get(place).copied().flatten() {
                Some(text) => {
                    todo.extend(fork.literal.get(text).map(|node| (*node, next)));
                    todo.extend(fork.star.map(|node| (node, next)));
                }
                // A star, or whatever is below.
                None => {
                    todo.extend(fork.literal.values().map(|node| (*node, next)));
                    todo.extend(fork.star.map(|node| (node, next)));
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}
