//! Slow password hashes, off the workers: a few at a time in the whole process, and a queue with an end. Beyond it the answer
//! is that nobody can say now, never that the password is wrong.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Semaphore;

/// No answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Unhashed {
    /// Too many hashes are waited for.
    #[error("too many password hashes are waited for")]
    Overloaded,
    /// While it waited, too many others of its network were guesses.
    #[error("held back")]
    Held(Duration),
}

/// Slots for hashes.
#[derive(Debug)]
pub(super) struct Hashing {
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    /// Hashes that were begun.
    begun: AtomicUsize,
}

impl Hashing {
    pub(super) fn new(slots: usize, waiting_max: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            waiting: AtomicUsize::new(0),
            waiting_max,
            begun: AtomicUsize::new(0),
        }
    }

    /// The slots of this process.
    pub(super) fn of_process() -> &'static Self {
        &PROCESS
    }

    /// How many hashes were begun.
    #[cfg(test)]
    pub(super) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Runs `work` on a thread for blocking work. If the caller leaves, a hash that has begun keeps its slot to its end.
    /// `held` is asked once more when the slot is there: others of its network may have failed meanwhile.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        held: &dyn Fn() -> Option<Duration>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unhashed> {
        let place = self.queue()?;
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let slot = slot.ok().ok_or(Unhashed::Overloaded)?;
        drop(place);
        if let Some(wait) = held() {
            return Err(Unhashed::Held(wait));
        }
        self.begun.fetch_add(1, Ordering::Relaxed);
        let task = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(slot);
            done
        });
        task.await.ok().ok_or(Unhashed::Overloaded)
    }

    fn queue(&self) -> Result<Waiting<'_>, Unhashed> {
        let place = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.waiting_max {
            return Err(Unhashed::Overloaded);
        }
        Ok(place)
    }
}

/// A place in the queue, given back when dropped.
struct Waiting<'q>(&'q AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Half the cores, so that a flood of passwords leaves the other half to everybody else; a hash takes about 0.1 s, so the
/// last of the queue waits for about three seconds.
static PROCESS: LazyLock<Hashing> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(1, usize::from);
    let slots = (cores / 2).max(1);
    Hashing::new(slots, slots * WAITING_PER_SLOT)
});

const WAITING_PER_SLOT: usize = 32;
