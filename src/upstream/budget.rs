//! How many requests may be sent again: a share of all, so that a struggling upstream is not given a multiple of its load.
//!
//! Each worker keeps its own account: a fifth of its requests, and its part of three a second; what is not used is saved for
//! three at most beyond what a burst of requests has earned lately.

use std::cell::Cell;
use std::time::Instant;

/// The account of one upstream on one worker, in thousandths of a retry.
#[derive(Debug)]
pub(super) struct Budget {
    balance: Cell<u64>,
    /// Requests since the account was last made up.
    requests: Cell<u64>,
    since: Cell<Instant>,
    /// Earned by waiting, a second.
    per_second: Cell<u64>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            balance: Cell::new(SAVED_MAX),
            requests: Cell::new(0),
            since: Cell::new(Instant::now()),
            per_second: Cell::new(PER_SECOND),
        }
    }
}

impl Budget {
    /// The part of a second's retries that falls to each of so many workers.
    pub(super) fn share_between(&self, workers: usize) {
        let workers = u64::try_from(workers).unwrap_or(u64::MAX).max(1);
        self.per_second.set((PER_SECOND / workers).max(1));
    }

    /// A request begins.
    pub(super) fn request(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    /// Takes one retry, if there is one left.
    pub(super) fn spend(&self, now: Instant) -> bool {
        let waited = now.saturating_duration_since(self.since.replace(now));
        let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        let waited = waited.saturating_mul(self.per_second.get()) / 1000;
        let earned = self.requests.replace(0).saturating_mul(PER_REQUEST);
        let saved = self.balance.get().saturating_add(waited);
        let saved = saved.min(SAVED_MAX.max(self.balance.get()));
        let balance = saved.saturating_add(earned).min(EARNED_MAX);
        let Some(left) = balance.checked_sub(ONE) else {
            self.balance.set(balance);
            return false;
        };
        self.balance.set(left);
        true
    }
}

const ONE: u64 = 1000;
/// A fifth of all requests.
const PER_REQUEST: u64 = 200;
/// All workers together.
const PER_SECOND: u64 = 3000;
const SAVED_MAX: u64 = 3000;
/// A hundred at once at most, however many requests came before.
const EARNED_MAX: u64 = 100_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_fifth_of_the_requests_and_some_a_second_may_be_sent_again() {
        for (requests, seconds, workers, want, why) in [
            (0, 0, 1, 3, "a few at once, from the start"),
            (1, 0, 1, 3, "a fifth of one is not enough"),
            (5, 0, 1, 4, "a fifth of five is"),
            (100, 0, 1, 23, "a fifth"),
            (1_000_000, 0, 1, 100, "not without bound"),
            (0, 3600, 1, 3, "silence does not save up"),
            (0, 0, 3, 3, "three workers share a second's"),
        ] {
            let budget = Budget::default();
            budget.share_between(workers);
            let now = budget.since.get() + Duration::from_secs(seconds);
            (0..requests).for_each(|_| budget.request());
            let spent = (0..1000).take_while(|_| budget.spend(now)).count();
            assert_eq!(spent, want, "{why}");
            let later = now + Duration::from_secs(1);
            let spent = (0..1000).take_while(|_| budget.spend(later)).count();
            assert_eq!(spent, 3 / workers, "a second later, {why}");
        }
    }
}
