//! Numbers that one thread writes and any thread reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A counter with one writer: adding is a load and a store, not a locked instruction.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Adds. INVARIANT: only the thread that owns the counter calls this; a second writer would lose counts.
    #[inline]
    pub(super) fn add(&self, count: u64) {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before.wrapping_add(count), Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations in the buckets of OpenTelemetry's HTTP conventions.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// How many ended within each bound and no earlier one; the last, beyond all.
    buckets: [Counter; BOUNDS.len() + 1],
    nanoseconds: Counter,
}

/// A histogram added up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    pub(super) buckets: [u64; BOUNDS.len() + 1],
    pub(super) nanoseconds: u64,
}

impl Histogram {
    pub(super) fn observe(&self, duration: Duration) {
        // 584 years fit.
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let place = BOUNDS.iter().position(|(bound, _)| nanoseconds <= *bound);
        let [.., beyond] = &self.buckets;
        let bucket = place.and_then(|place| self.buckets.get(place));
        bucket.unwrap_or(beyond).add(1);
        self.nanoseconds.add(nanoseconds);
    }

    pub(super) fn add_to(&self, sum: &mut Sum) {
        for (sum, bucket) in sum.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.read();
        }
        sum.nanoseconds = sum.nanoseconds.wrapping_add(self.nanoseconds.read());
    }
}

impl Sum {
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Upper bounds in nanoseconds, and as labels in seconds (OpenTelemetry, `http.server.request.duration`).
pub(super) const BOUNDS: [(u64, &str); 14] = [
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (75_000_000, "0.075"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (750_000_000, "0.75"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (7_500_000_000, "7.5"),
    (10_000_000_000, "10"),
];
