//! State that several machines share, in a Redis or Valkey: rates of limits.
//!
//! Each worker has one connection, over which its requests are pipelined; nothing here blocks a thread. A rate is counted by
//! the same algorithm as in memory, as a script that the server runs (`rate.lua`), so that two machines that ask at the same moment
//! count exactly; the server's clock counts, and no machine's.
//!
//! Who asks waits [`PATIENCE`] at most. After a failure nobody asks for [`REST`], then one request tries; so a server that
//! does not answer costs a worker one such wait a second and not one a request. What a limit says meanwhile is `[redis] fail`;
//! the caller decides by it.
//!
//! Keys are `portcullis:limit:NAME:DIGEST`. The digest stands for whoever is counted, so neither users nor addresses are written
//! there in clear.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::policy::limit::Quota;
use crate::snapshot::limit::Counted;
use crate::snapshot::share::Share;

mod key;
#[cfg(feature = "redis")]
mod redis;

pub use key::digest;

#[cfg(feature = "redis")]
use self::redis::Connection;

/// A rate that a request spends of.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The name of its limit.
    pub limit: Arc<str>,
    /// As whose.
    pub key: [u8; 16],
    /// How much.
    pub quota: Quota,
}

/// Nobody could be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("shared state is away")]
pub struct Away;

/// One worker's way to what is shared. Connects when it is first needed.
#[derive(Debug, Default)]
pub struct Store {
    #[cfg(feature = "redis")]
    connection: Connection,
}

impl Store {
    /// Counts a request in these limits; one answer for each, in their order.
    ///
    /// # Errors
    /// Where there was no answer in time; then the request may be counted or not.
    #[cfg(feature = "redis")]
    pub async fn spend(
        &self,
        share: &Arc<Share>,
        asks: &[Ask],
        now: Instant,
    ) -> Result<Vec<Counted>, Away> {
        self.connection.spend(share, asks, now).await
    }

    /// In a build without the feature nothing is shared.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(feature = "redis"))]
    #[expect(clippy::unused_async, reason = "the same as with the feature")]
    pub async fn spend(
        &self,
        _share: &Arc<Share>,
        _asks: &[Ask],
        _now: Instant,
    ) -> Result<Vec<Counted>, Away> {
        Err(Away)
    }
}

/// How long a request waits for an answer.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// How long nobody asks after a failure.
pub const REST: Duration = Duration::from_secs(1);
