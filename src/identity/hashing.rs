//! Slow password hashes, off the workers: a few at a time in the whole process, and a queue with an end. Beyond it the answer
//! is that nobody can say now, never that the password is wrong.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

use thiserror::Error;
use tokio::sync::Semaphore;

/// No answer: too many hashes are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many password hashes are waited for")]
pub(super) struct Overloaded;

/// Slots for hashes.
#[derive(Debug)]
pub(super) struct Hashing {
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
}

impl Hashing {
    pub(super) fn new(slots: usize, waiting_max: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            waiting: AtomicUsize::new(0),
            waiting_max,
        }
    }

    /// The slots of this process.
    pub(super) fn of_process() -> &'static Self {
        &PROCESS
    }

    /// Runs `work` on a thread for blocking work. If the caller leaves, a hash that has begun keeps its slot to its end.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Overloaded> {
        let place = self.queue()?;
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let slot = slot.ok().ok_or(Overloaded)?;
        drop(place);
        let task = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(slot);
            done
        });
        task.await.ok().ok_or(Overloaded)
    }

    fn queue(&self) -> Result<Waiting<'_>, Overloaded> {
        let place = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.waiting_max {
            return Err(Overloaded);
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
