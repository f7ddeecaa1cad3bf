//! Failed sign-ins, counted by client network, and the hold that follows too many of them.
//!
//! **What counts.** A credential that was looked at and is a guess ([`AuthError::is_guess`]): a wrong password, a key that
//! nobody has, a token of another hand. A missing credential does not count, nor one that its source could not judge, nor a
//! true one whose time or place is over.
//!
//! **How.** `failures` of them may come in `per`, by the generic cell rate algorithm; with the one that fills that up a hold
//! begins, which lasts for `hold` whatever comes meanwhile, and then everything is forgiven. A client is known by its address,
//! in IPv6 by its /64: the least that a subscriber is given.
//!
//! **Where.** One table for all workers, so the count is exact whatever worker serves. Asking for a hold is a few loads;
//! noting a failure takes a lock for as long as it takes to write two numbers, and comes after the cost of a verification.
//!
//! **Bounds.** A table has room for [`NETWORKS`] networks (1 MiB) and never grows. A network that owes nothing takes no room.
//! Where all places that a network may take are taken, the one that will be free soonest is forgotten, and counted: those
//! with one failure go before those with many, and those go before held ones. The places of a network depend on a secret
//! seed, so nobody can choose whom to push out.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

use super::error::AuthError;

/// When a network is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// So many failures, at least 1,
    pub failures: u64,
    /// in so long
    pub per: Duration,
    /// make it wait for so long.
    pub hold: Duration,
}

/// The failures of one site.
#[derive(Debug)]
pub struct Failures {
    settings: Settings,
    seed: RandomState,
    epoch: Instant,
    groups: Box<[Group]>,
    /// Held while a cell is written.
    writing: Mutex<()>,
    failed: AtomicU64,
    holds: AtomicU64,
    refused: AtomicU64,
    evicted: AtomicU64,
}

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Credentials that were guesses.
    pub failed: u64,
    /// Holds that began.
    pub holds: u64,
    /// Credentials that were not believed because of a hold.
    pub refused: u64,
    /// Networks forgotten before their time.
    pub evicted: u64,
}

/// The failures of one site, as one request meets them.
#[derive(Debug, Clone, Copy)]
pub struct Guard<'f> {
    failures: &'f Failures,
    key: u64,
    /// Nanoseconds since the table began.
    now: u64,
}

/// Cells that share a cache line each for marks and times.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Group {
    /// Whose a cell is; 0: nobody's.
    marks: [AtomicU64; WAYS],
    /// Nanoseconds up to which it owes or, with the last bit set, is held. In the past: neither.
    times: [AtomicU64; WAYS],
}

#[derive(Clone, Copy)]
struct Cell<'t> {
    mark: &'t AtomicU64,
    time: &'t AtomicU64,
}

impl AuthError {
    /// Whether it speaks of somebody who tries credentials. A true credential that came too early, too late, from the wrong
    /// network or to the wrong door is none: a program that did not notice the end of its token must not lock out an office.
    #[must_use]
    pub const fn is_guess(self) -> bool {
        match self {
            Self::Malformed
            | Self::TooLarge
            | Self::Repeated
            | Self::TooMany
            | Self::WrongAlgorithm
            | Self::WrongIssuer
            | Self::CriticalHeader
            | Self::WrongType
            | Self::UnknownKey
            | Self::BadSignature
            | Self::Unknown
            | Self::Refused => true,
            Self::NoExpiry
            | Self::Expired
            | Self::NotYetValid
            | Self::WrongAudience
            | Self::WrongNetwork
            | Self::NoSession
            | Self::Revoked
            | Self::NoUser => false,
        }
    }
}

impl Failures {
    /// Nothing failed.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::with_room(settings, NETWORKS)
    }

    fn with_room(settings: Settings, networks: usize) -> Self {
        let groups = networks.div_ceil(WAYS).next_power_of_two();
        Self {
            settings,
            seed: RandomState::default(),
            epoch: Instant::now(),
            groups: (0..groups).map(|_| Group::default()).collect(),
            writing: Mutex::default(),
            failed: AtomicU64::default(),
            holds: AtomicU64::default(),
            refused: AtomicU64::default(),
            evicted: AtomicU64::default(),
        }
    }

    /// What they were made for.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What has been counted.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally {
            failed: self.failed.load(Ordering::Relaxed),
            holds: self.holds.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }

    /// How a request of this client meets them.
    #[must_use]
    pub fn guard(&self, client: IpAddr, now: Instant) -> Guard<'_> {
        let network = match client {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits() >> 64 << 64,
        };
        let now = nanoseconds(now.saturating_duration_since(self.epoch));
        Guard {
            failures: self,
            // 0 is nobody's mark.
            key: self.seed.hash_one((client.is_ipv6(), network)).max(1),
            // From 1, so that a cell that was never used is in the past; even, since the last bit says more.
            now: now.saturating_add(2) & !HELD,
        }
    }

    fn cells(&self, key: u64) -> impl Iterator<Item = Cell<'_>> {
        let mask = self.groups.len().saturating_sub(1);
        let word = |number: u64| usize::try_from(number & u64::from(u32::MAX)).unwrap_or(0) & mask;
        let (first, second) = (word(key), word(key >> 32));
        let second = (second != first).then_some(second);
        let found = [Some(first), second].into_iter().flatten();
        let found = found.filter_map(|at| self.groups.get(at));
        found.flat_map(|group| {
            let pairs = group.marks.iter().zip(&group.times);
            pairs.map(|(mark, time)| Cell { mark, time })
        })
    }
}

impl Guard<'_> {
    /// How long this client still has to wait, if it is held.
    #[must_use]
    pub fn held(&self) -> Option<Duration> {
        self.failures.cells(self.key).find_map(|cell| {
            let whose = cell.mark.load(Ordering::Acquire);
            if whose != self.key {
                return None;
            }
            let time = cell.time.load(Ordering::Acquire);
            // Another network may have taken the place meanwhile: then this is its time.
            let same = cell.mark.load(Ordering::Acquire) == whose;
            let until = time & !HELD;
            (same && until != time && until > self.now)
                .then(|| Duration::from_nanos(until - self.now))
        })
    }

    /// Notes that a credential of this client was a guess.
    pub fn failed(&self) {
        let failures = self.failures;
        failures.failed.fetch_add(1, Ordering::Relaxed);
        let settings = failures.settings;
        let per = nanoseconds(settings.per);
        let interval = (per / settings.failures.max(1)).max(2);
        // Whole intervals, so that a remainder of the division cannot let one more pass.
        let depth = interval.saturating_mul(settings.failures).min(TIME_MAX);
        let _writing = failures
            .writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut cells = failures.cells(self.key);
        let known = cells.find(|cell| cell.mark.load(Ordering::Acquire) == self.key);
        let Some(cell) = known.or_else(|| self.take()) else {
            return;
        };
        let seen = cell.time.load(Ordering::Acquire);
        let until = seen & !HELD;
        if until != seen && until > self.now {
            // It was on its way when the hold began.
            return;
        }
        let owed = until.max(self.now) - self.now;
        let owed = owed.saturating_add(interval);
        let time = if owed.saturating_add(interval) > depth {
            failures.holds.fetch_add(1, Ordering::Relaxed);
            let hold = nanoseconds(settings.hold).min(TIME_MAX);
            self.now.saturating_add(hold) | HELD
        } else {
            self.now.saturating_add(owed) & !HELD
        };
        cell.time.store(time, Ordering::Release);
        cell.mark.store(self.key, Ordering::Release);
    }

    /// Notes that a credential of this client was not believed because of a hold.
    pub fn refused(&self) {
        self.failures.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the place of a network that owes nothing, or else of the one that will be free soonest.
    fn take(&self) -> Option<Cell<'_>> {
        let cells = self.failures.cells(self.key);
        let cell = cells.min_by_key(|cell| cell.time.load(Ordering::Acquire).max(self.now))?;
        if cell.time.load(Ordering::Acquire) > self.now {
            self.failures.evicted.fetch_add(1, Ordering::Relaxed);
        }
        cell.mark.store(NOBODY, Ordering::Release);
        cell.time.store(0, Ordering::Release);
        Some(cell)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(TIME_MAX)
}

/// Networks that a site tells apart at a time.
pub const NETWORKS: usize = 65_536;

/// The cells that a network may be in: two groups of these many, each of one cache line.
const WAYS: usize = 8;
/// Set in the time of a network that is held.
const HELD: u64 = 1;
/// Nobody's mark.
const NOBODY: u64 = 0;
/// A quarter of the range (146 years), so that a time and a wait can be added.
const TIME_MAX: u64 = u64::MAX / 4;

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]
    use super::*;

    const SETTINGS: Settings = Settings {
        failures: 3,
        per: Duration::from_secs(60),
        hold: Duration::from_secs(100),
    };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_hold_begins_with_the_last_failure_and_ends_in_time() {
        let failures = Failures::new(SETTINGS);
        let at = |seconds| failures.epoch + Duration::from_secs(seconds);
        let client = address("192.0.2.1");
        // When, what happens, and how long is to be waited after that.
        for (seconds, fails, wait, why) in [
            (0, true, None, "the first of three"),
            (0, true, None, "the second"),
            (0, true, Some(100), "the third fills it up"),
            (1, true, Some(99), "what was on its way changes nothing"),
            (99, false, Some(1), "to the end"),
            (100, false, None, "and no longer"),
            (100, true, None, "all is forgiven"),
            (100, true, None, "so two may come again"),
            (121, true, None, "a third of the period gives one back"),
            (121, true, Some(100), "but one only"),
        ] {
            let guard = failures.guard(client, at(seconds));
            if fails {
                guard.failed();
            }
            let wait = wait.map(Duration::from_secs);
            assert_eq!(guard.held(), wait, "at {seconds}: {why}");
        }
        assert_eq!((failures.tally().failed, failures.tally().holds), (8, 2));
    }

    #[test]
    fn one_failure_may_be_all() {
        let failures = Failures::new(Settings {
            failures: 1,
            ..SETTINGS
        });
        let guard = failures.guard(address("192.0.2.1"), failures.epoch);
        assert_eq!(guard.held(), None);
        guard.failed();
        assert!(guard.held().is_some());
    }

    #[test]
    fn a_network_is_held_and_its_neighbour_is_not() {
        let failures = Failures::new(Settings {
            failures: 1,
            ..SETTINGS
        });
        let held = |client: &str| {
            let guard = failures.guard(address(client), failures.epoch);
            guard.held().is_some()
        };
        for client in ["192.0.2.1", "2001:db8:0:1::1"] {
            failures.guard(address(client), failures.epoch).failed();
        }
        for (client, want, why) in [
            ("192.0.2.1", true, "itself"),
            ("192.0.2.2", false, "an IPv4 address stands for itself"),
            ("2001:db8:0:1:ffff::9", true, "the same /64"),
            ("2001:db8:0:2::1", false, "another /64"),
            ("::192.0.2.1", false, "not the IPv4 address of these bits"),
        ] {
            assert_eq!(held(client), want, "{client}: {why}");
        }
    }

    #[test]
    fn many_networks_cannot_make_it_grow_or_forget_a_held_one() {
        let failures = Failures::with_room(SETTINGS, 64);
        let now = failures.epoch;
        let victim = failures.guard(address("192.0.2.1"), now);
        for _ in 0..3 {
            victim.failed();
        }
        assert!(victim.held().is_some());
        for number in 0..50_000_u32 {
            let stranger = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            failures.guard(stranger, now).failed();
        }
        assert_eq!(failures.groups.len(), 64 / WAYS, "it never grows");
        assert!(victim.held().is_some(), "one failure goes before a hold");
        assert!(failures.tally().evicted > 40_000);
    }

    #[test]
    fn workers_count_together() {
        let failures = Failures::new(Settings {
            failures: 1000,
            ..SETTINGS
        });
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let guard = failures.guard(address("192.0.2.1"), failures.epoch);
                    (0..250).for_each(|_| guard.failed());
                });
            }
        });
        let guard = failures.guard(address("192.0.2.1"), failures.epoch);
        assert!(guard.held().is_some(), "the thousandth of all of them");
        assert_eq!(failures.tally().holds, 1);
    }
}
