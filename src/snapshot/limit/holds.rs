//! At a time: for each key the number of requests in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Counted, MOMENT, WAYS, groups};

/// The counts of all keys. A cell holds a mark in its upper 44 bits and a count in its lower 20; a count of 0 is a free cell.
#[derive(Debug)]
pub(super) struct Holds(Box<[Group]>);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Group([AtomicU64; WAYS]);

/// A request in flight; counts until it is dropped.
#[derive(Debug)]
pub struct Held {
    holds: Arc<Holds>,
    group: usize,
    way: usize,
}

impl Holds {
    pub(super) fn new(keys: usize) -> Self {
        let groups = keys.div_ceil(WAYS).next_power_of_two();
        Self((0..groups).map(|_| Group::default()).collect())
    }

    pub(super) fn hold(this: &Arc<Self>, key: u64, most: u32, refused: &AtomicU64) -> Counted {
        let mark = key & !COUNT;
        for _ in 0..TRIES {
            let Some((group, way, cell, word)) = this.place(key, mark) else {
                refused.fetch_add(1, Ordering::Relaxed);
                return Counted::Full(MOMENT);
            };
            let held = word & COUNT;
            if held >= u64::from(most).min(COUNT) {
                return Counted::Full(MOMENT);
            }
            let next = mark | (held + 1);
            if cell
                .compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                return Counted::Passed {
                    left: u64::from(most).saturating_sub(held + 1),
                    reset: Duration::ZERO,
                    held: Some(Held {
                        holds: Arc::clone(this),
                        group,
                        way,
                    }),
                };
            }
        }
        refused.fetch_add(1, Ordering::Relaxed);
        Counted::Full(MOMENT)
    }

    /// The key's cell, or a free one.
    fn place(&self, key: u64, mark: u64) -> Option<(usize, usize, &AtomicU64, u64)> {
        let mut free = None;
        for at in groups(key, self.0.len()) {
            let Some(Group(cells)) = self.0.get(at) else {
                continue;
            };
            for (way, cell) in cells.iter().enumerate() {
                let word = cell.load(Ordering::Acquire);
                if word & COUNT == 0 {
                    free = free.or(Some((at, way, cell, word)));
                } else if word & !COUNT == mark {
                    return Some((at, way, cell, word));
                }
            }
        }
        free
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let cell = self.holds.0.get(self.group);
        if let Some(cell) = cell.and_then(|group| group.0.get(self.way)) {
            // INVARIANT: the cell counts this request, so it is no one else's and not 0.
            cell.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The bits of a cell that count.
const COUNT: u64 = (1 << 20) - 1;

/// Attempts while others count in the same cell.
const TRIES: usize = 1024;
