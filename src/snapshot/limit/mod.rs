//! What has been counted for each limit: shared by all workers, without a lock, and kept over reloads.
//!
//! A count is found by the settings of its limit ([`Counts`]), so a reload that leaves them as they are leaves what was
//! counted as it is. All workers count in one table, so a limit means the same whatever worker serves a request.
//!
//! **Rates** (`Rates`) are counted by the generic cell rate algorithm: for each key one time, up to which it has spent its
//! rate, moved on by compare-and-swap. **At a time** (`Holds`) for each key the number of requests in flight.
//!
//! **Bounds.** A table has room for [`KEYS`] keys. A key that owes nothing takes no room: it is as if it had never been
//! seen. Where all room that a key may take is taken by keys that owe, the one that will be free soonest is forgotten, and
//! counted in [`Count::evicted`]; that helps the forgotten client and nobody else. A count at a time is never forgotten: the request
//! is refused.
//!
//! **Accuracy.** Exact, but for two requests that are the first of their key and come to two workers at the same moment: both
//! may make an entry, and the later one is not seen again. At most one request for each worker but one passes uncounted, once for
//! each time that the key comes up. Keys are told apart by 64 (at a time: 44) bits of a hash with a secret seed.

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

use crate::policy::limit::{Amount, Limit, Part, Quota};

mod holds;
mod rates;

pub use holds::Held;

use holds::Holds;
use rates::Rates;

/// What has been counted for one limit.
#[derive(Debug)]
pub struct Count {
    seed: RandomState,
    epoch: Instant,
    evicted: AtomicU64,
    table: Table,
}

#[derive(Debug)]
enum Table {
    Rates(Rates),
    Holds(Arc<Holds>),
}

/// What became of a request that was to be counted.
#[derive(Debug)]
pub enum Counted {
    /// It passes.
    Passed {
        /// How many more may come now.
        left: u64,
        /// When everything is left again; nothing where requests are counted at a time.
        reset: Duration,
        /// Counts until it is dropped.
        held: Option<Held>,
    },
    /// The limit is reached: so long until one more may come.
    Full(Duration),
}

impl Count {
    /// Nothing counted, for this limit.
    #[must_use]
    pub fn new(limit: &Limit) -> Self {
        let keys = if limit.per.is_empty() { 1 } else { KEYS };
        Self {
            seed: RandomState::default(),
            epoch: Instant::now(),
            evicted: AtomicU64::new(0),
            table: match limit.amount {
                Amount::Concurrent(_) => Table::Holds(Arc::new(Holds::new(keys))),
                Amount::Rate(_) | Amount::Tiers { .. } => Table::Rates(Rates::new(keys)),
            },
        }
    }

    /// The number of a key; `feed` puts its parts in.
    pub fn key(&self, feed: impl FnOnce(&mut foldhash::quality::FoldHasher<'_>)) -> u64 {
        let mut hasher = self.seed.build_hasher();
        feed(&mut hasher);
        std::hash::Hasher::finish(&hasher)
    }

    /// Counts a request that spends of a rate.
    pub fn spend(&self, key: u64, quota: Quota, now: Instant) -> Counted {
        let Table::Rates(rates) = &self.table else {
            return Counted::Full(MOMENT);
        };
        let now = now.saturating_duration_since(self.epoch).as_nanos();
        // From 1, so that an entry that was never used is in the past; 584 years fit.
        let now = u64::try_from(now).unwrap_or(u64::MAX / 4).saturating_add(1);
        rates.spend(key, quota, now, &self.evicted)
    }

    /// Counts a request that runs.
    pub fn hold(&self, key: u64, most: u32) -> Counted {
        match &self.table {
            Table::Holds(holds) => Holds::hold(holds, key, most, &self.evicted),
            Table::Rates(_) => Counted::Full(MOMENT),
        }
    }

    /// Keys of a rate that were forgotten before their time; of a limit at a time, requests refused for want of room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }
}

/// The counts of the process by the settings of their limits; handed from load to load.
#[derive(Debug, Default, Clone)]
pub struct Counts(Vec<(Settings, Weak<Count>)>);

/// What makes two limits of two configurations the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Settings {
    scope: Arc<str>,
    name: Arc<str>,
    per: Box<[Part]>,
    amount: Amount,
}

impl Counts {
    /// The counts of these limits: those that are known already, or new ones.
    pub fn of(&mut self, limits: &[Limit]) -> Vec<Arc<Count>> {
        self.0.retain(|(_, count)| count.strong_count() > 0);
        let counts = limits.iter().map(|limit| {
            let settings = Settings {
                scope: Arc::clone(&limit.scope),
                name: Arc::clone(&limit.name),
                per: limit.per.clone(),
                amount: limit.amount.clone(),
            };
            let known = self.0.iter().find(|(known, _)| *known == settings);
            if let Some(count) = known.and_then(|(_, count)| count.upgrade()) {
                return count;
            }
            let count = Arc::new(Count::new(limit));
            self.0.push((settings, Arc::downgrade(&count)));
            count
        });
        counts.collect()
    }
}

/// The cells that a key may be in: two groups of these many, each of one cache line.
const WAYS: usize = 8;

/// Keys that a limit tells apart at a time; its table takes 1 MiB, or half of that where it counts at a time.
pub const KEYS: usize = 65_536;

/// Nobody knows when a request in flight ends.
const MOMENT: Duration = Duration::from_secs(1);

/// The two groups of a table of `groups` (a power of two) that a key may be in.
fn groups(key: u64, groups: usize) -> [usize; 2] {
    let mask = groups - 1;
    let word = |number: u64| usize::try_from(number & u64::from(u32::MAX)).unwrap_or(0) & mask;
    [word(key), word(key >> 32)]
}

#[cfg(test)]
mod tests;
