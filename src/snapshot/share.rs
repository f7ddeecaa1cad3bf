//! Where state that several machines share is kept, and how asking for it has gone so far.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// `[redis]`. Kept over reloads that leave it as it is.
pub struct Share {
    /// Its URL, which may hold a password.
    pub url: String,
    /// What a limit says while it is away.
    pub fail: Fail,
    /// How it went.
    pub tally: Tally,
}

/// What a limit says while nobody can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fail {
    /// Each process counts for itself.
    Open,
    /// Nobody passes.
    Closed,
}

/// How asking went, all workers together.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests whose limits were counted there.
    pub answered: AtomicU64,
    /// Requests for which it was asked in vain.
    pub failed: AtomicU64,
    /// Requests for which it was not asked, since it had just failed.
    pub skipped: AtomicU64,
    /// Whether the last answer failed.
    pub away: AtomicBool,
    /// Whether it has been told since the last answer why no connection can be made.
    pub told: AtomicBool,
}

impl Share {
    /// This one, or the one before where it is the same.
    #[must_use]
    pub fn of(url: &str, fail: Fail, before: Option<&Arc<Self>>) -> Arc<Self> {
        let same = |other: &&Arc<Self>| other.url == url && other.fail == fail;
        before.filter(same).map_or_else(
            || {
                Arc::new(Self {
                    url: url.to_owned(),
                    fail,
                    tally: Tally::default(),
                })
            },
            Arc::clone,
        )
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share")
            .field("fail", &self.fail)
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}
