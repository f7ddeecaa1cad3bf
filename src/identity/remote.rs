//! The keys of an issuer that publishes them at a URL: the last good set, and how a worker asks for a newer one.
//!
//! Who fetches is not this room's business: a fetcher waits for [`RemoteKeys::wanted`], says when an attempt
//! [begins](RemoteKeys::begin) and how it [ends](RemoteKeys::end). A worker that meets a token of an unknown key waits for
//! the next attempt; all that wait at a time wait for the same one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::keys::Key;

/// A key set that is fetched. Outlives reloads.
pub struct RemoteKeys {
    keys: ArcSwapOption<Vec<Key>>,
    /// Rises with every set that differs from the one before.
    version: AtomicU64,
    /// The newest set as fetched, to tell whether the next one differs.
    digest: AtomicU64,
    /// When a good set was fetched last, in seconds since 1970; 0 is never.
    fetched: AtomicI64,
    /// Attempts that ended, good and bad.
    outcomes: [AtomicU64; 2],
    /// The number of the attempt that began last.
    begun: AtomicU64,
    /// The number of the attempt that ended last.
    ended: watch::Sender<u64>,
    wanted: Notify,
    waiting: AtomicUsize,
}

impl Default for RemoteKeys {
    fn default() -> Self {
        Self {
            keys: ArcSwapOption::empty(),
            version: AtomicU64::new(0),
            digest: AtomicU64::new(0),
            fetched: AtomicI64::new(0),
            outcomes: [AtomicU64::new(0), AtomicU64::new(0)],
            begun: AtomicU64::new(0),
            ended: watch::Sender::new(0),
            wanted: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl RemoteKeys {
    /// The newest good set; none where no attempt has brought one yet.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Vec<Key>>> {
        self.keys.load_full()
    }

    /// Rises with every set that differs from the one before: what an older set verified must be verified anew.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// When a good set was fetched last.
    #[must_use]
    pub fn fetched(&self) -> Option<Timestamp> {
        let at = self.fetched.load(Ordering::Relaxed);
        (at > 0).then(|| Timestamp::from_second(at).ok())?
    }

    /// Attempts that ended, good and bad.
    #[must_use]
    pub fn outcomes(&self) -> [u64; 2] {
        self.outcomes
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed))
    }

    /// Resolves when somebody waits for a newer set.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// An attempt begins.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::AcqRel);
    }

    /// The attempt ends: with keys and a digest of what was fetched, or with nothing, and then the last good set stays.
    pub fn end(&self, fetched: Option<(Vec<Key>, u64)>, now: Timestamp) {
        let [good, bad] = &self.outcomes;
        if let Some((keys, digest)) = fetched {
            good.fetch_add(1, Ordering::Relaxed);
            let before = self.digest.swap(digest, Ordering::Relaxed);
            if before != digest || self.keys.load().is_none() {
                self.keys.store(Some(Arc::new(keys)));
                self.version.fetch_add(1, Ordering::AcqRel);
            }
            self.fetched.store(now.as_second(), Ordering::Relaxed);
        } else {
            bad.fetch_add(1, Ordering::Relaxed);
        }
        let begun = self.begun.load(Ordering::Acquire);
        self.ended.send_replace(begun);
    }

    /// Waits until there is another set than `seen`, or until an attempt that began after this call has ended without one.
    /// Answers whether looking again is worth it. Nobody waits where no attempt has been good yet and one has failed: the
    /// next attempt is due anyway, and a queue would only grow.
    pub(super) async fn newer_than(&self, seen: u64) -> bool {
        let mut ended = self.ended.subscribe();
        let never = self.fetched.load(Ordering::Relaxed) == 0;
        if never && *ended.borrow_and_update() > 0 {
            return false;
        }
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            return false;
        }
        // The very first attempt counts even where it is under way: there is no set that it could confirm.
        let before = if never {
            0
        } else {
            self.begun.load(Ordering::Acquire)
        };
        if !never {
            self.wanted.notify_one();
        }
        let enough = |ended: &u64| *ended > before || self.version() != seen;
        let waited = timeout(PATIENCE, ended.wait_for(enough)).await;
        drop(waiting);
        waited.is_ok() && self.version() != seen
    }
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeys")
            .field("version", &self.version())
            .field("fetched", &self.fetched())
            .finish_non_exhaustive()
    }
}

/// One who waits, until dropped.
struct Waiting<'w>(&'w AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many requests wait for a set at a time; whoever comes then is told at once that the key is unknown.
const WAITING_MAX: usize = 1024;
/// How long a request waits: longer than attempts are apart and may take.
const PATIENCE: Duration = Duration::from_secs(12);
