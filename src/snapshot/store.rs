//! Publishing a snapshot: one writer, one handle per worker.
//!
//! A request takes a [`Lease`] at its start and keeps it to its end, so it sees one configuration throughout. Within a worker a
//! lease is a plain counter, so workers do not fight over a shared reference count for every request.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;

use super::Snapshot;

/// The publishing end; the control thread's.
#[derive(Debug)]
pub struct Publisher {
    sender: watch::Sender<Arc<Snapshot>>,
}

impl Publisher {
    /// Starts with a first snapshot.
    #[must_use]
    pub fn new(first: Arc<Snapshot>) -> Self {
        Self {
            sender: watch::Sender::new(first),
        }
    }

    /// The receiving end for one worker.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.sender.subscribe()
    }

    /// Replaces the snapshot; workers see it with their next request.
    pub fn publish(&self, next: Arc<Snapshot>) {
        self.sender.send_replace(next);
    }

    /// The newest snapshot.
    #[must_use]
    pub fn newest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.sender.borrow())
    }
}

/// A worker's view of the newest snapshot.
#[derive(Debug)]
pub struct Handle {
    receiver: watch::Receiver<Arc<Snapshot>>,
    current: Lease,
}

impl Handle {
    /// A handle on what the receiver holds now.
    #[must_use]
    pub fn new(mut receiver: watch::Receiver<Arc<Snapshot>>) -> Self {
        let current = Lease(Rc::new(Arc::clone(&receiver.borrow_and_update())));
        Self { receiver, current }
    }

    /// The newest published snapshot. Call once per request.
    pub fn current(&mut self) -> &Lease {
        if self.receiver.has_changed().unwrap_or(false) {
            self.current = Lease(Rc::new(Arc::clone(&self.receiver.borrow_and_update())));
        }
        &self.current
    }
}

/// One request's hold on a snapshot.
#[derive(Debug, Clone)]
#[expect(
    clippy::redundant_allocation,
    reason = "the outer count is the worker's own; the inner one is shared and would be fought over"
)]
pub struct Lease(Rc<Arc<Snapshot>>);

impl Lease {
    /// The snapshot itself, to be kept outside the worker.
    #[must_use]
    pub fn shared(&self) -> &Arc<Snapshot> {
        &self.0
    }
}

impl Deref for Lease {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}
