//! Rates: for each key the time up to which it has spent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Counted, WAYS, groups};
use crate::policy::limit::Quota;

/// The times of all keys.
#[derive(Debug)]
pub(super) struct Rates(Box<[Group]>);

/// Cells that share a cache line each for marks and times.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Group {
    marks: [AtomicU64; WAYS],
    times: [AtomicU64; WAYS],
}

/// One key's place.
#[derive(Clone, Copy)]
struct Cell<'t> {
    /// Whose it is: [`FREE`], [`TAKING`], or the key's mark.
    mark: &'t AtomicU64,
    /// Nanoseconds up to which the key has spent; in the past: it owes nothing.
    time: &'t AtomicU64,
}

impl Rates {
    pub(super) fn new(keys: usize) -> Self {
        let groups = keys.div_ceil(WAYS).next_power_of_two();
        Self((0..groups).map(|_| Group::default()).collect())
    }

    pub(super) fn spend(&self, key: u64, quota: Quota, now: u64, evicted: &AtomicU64) -> Counted {
        let mark = key.max(TAKING + 1);
        for _ in 0..TRIES {
            let Some(cell) = self
                .find(key, mark)
                .or_else(|| self.take(key, mark, now, evicted))
            else {
                continue;
            };
            if let Some(counted) = cell.spend(mark, quota, now) {
                return counted;
            }
        }
        // Others took the place each time: a table in such a state is full.
        Counted::Full(Duration::from_nanos(quota.interval))
    }

    fn cells(&self, key: u64) -> impl Iterator<Item = Cell<'_>> {
        let [first, second] = groups(key, self.0.len());
        let second = (second != first).then_some(second);
        let found = [Some(first), second].into_iter().flatten();
        let found = found.filter_map(|at| self.0.get(at));
        found.flat_map(|group| {
            let pairs = group.marks.iter().zip(&group.times);
            pairs.map(|(mark, time)| Cell { mark, time })
        })
    }

    fn find(&self, key: u64, mark: u64) -> Option<Cell<'_>> {
        self.cells(key)
            .find(|cell| cell.mark.load(Ordering::Acquire) == mark)
    }

    /// Takes the place of a key that owes nothing, or else of the one that will be free soonest.
    fn take(&self, key: u64, mark: u64, now: u64, evicted: &AtomicU64) -> Option<Cell<'_>> {
        let taken = self.cells(key).filter_map(|cell| {
            let whose = cell.mark.load(Ordering::Acquire);
            (whose != TAKING).then(|| (cell.time.load(Ordering::Acquire).max(now), whose, cell))
        });
        let (time, whose, cell) = taken.min_by_key(|(time, ..)| *time)?;
        cell.mark
            .compare_exchange(whose, TAKING, Ordering::AcqRel, Ordering::Relaxed)
            .ok()?;
        if cell.time.load(Ordering::Acquire).max(now) != time {
            // It was used just now: it stays.
            cell.mark.store(whose, Ordering::Release);
            return None;
        }
        if time > now {
            evicted.fetch_add(1, Ordering::Relaxed);
        }
        cell.time.store(now, Ordering::Release);
        cell.mark.store(mark, Ordering::Release);
        Some(cell)
    }
}

impl Cell<'_> {
    /// Nothing where the place is another key's by now.
    fn spend(self, mark: u64, quota: Quota, now: u64) -> Option<Counted> {
        let mut seen = self.time.load(Ordering::Acquire);
        loop {
            if self.mark.load(Ordering::Acquire) != mark {
                return None;
            }
            let owed = seen.max(now) - now;
            let next = owed.saturating_add(quota.interval);
            if next > quota.depth {
                return Some(Counted::Full(Duration::from_nanos(next - quota.depth)));
            }
            match self.time.compare_exchange_weak(
                seen,
                now + next,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    return Some(Counted::Passed {
                        left: (quota.depth - next) / quota.interval,
                        reset: Duration::from_nanos(next),
                        held: None,
                    });
                }
                Err(other) => seen = other,
            }
        }
    }
}

/// Marks that no key has.
const FREE: u64 = 0;
const TAKING: u64 = FREE + 1;

/// Attempts to find a place while others take it away.
const TRIES: usize = 64;
