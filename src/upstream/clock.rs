//! One deadline per client connection, moved by whoever the connection waits for, and checked lazily.
//!
//! A timer armed and disarmed for every request costs more than all policy (SPEED section 3). Here a phase change writes two
//! cells; the connection's task compares the deadline with the one timer it holds, which fires a few times a minute at most.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The rest of a request head.
    Head,
    /// The next request of a kept-alive connection.
    Idle,
    /// Our own work on a request: decision, sign-in.
    Judge,
    /// A connection to the upstream.
    Connect,
    /// More of the request body, from the client.
    Upload,
    /// The upstream, which takes the request body or thinks about its answer.
    Await,
    /// The response body on its way down.
    Stream,
    /// A tunnel after an upgrade.
    Tunnel,
}

/// The deadline of one connection. Cells only: it lives on one worker.
#[derive(Debug)]
pub struct Clock {
    phase: Cell<Phase>,
    deadline: Cell<Instant>,
    /// When an idle connection is closed; its `deadline` comes earlier, when it is parked.
    idle_until: Cell<Instant>,
    expired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    requests: Cell<u64>,
    uploading: Cell<bool>,
    leaving: Cell<bool>,
    /// The number of the request that is to be judged again.
    asked: Cell<u64>,
    /// The number of a request, and the second at which its right ends.
    ends: Cell<(u64, i64)>,
}

impl Clock {
    /// A clock for a fresh connection, which must send its first head in time.
    #[must_use]
    pub fn new(head: Duration) -> Self {
        Self {
            phase: Cell::new(Phase::Head),
            deadline: Cell::new(Instant::now() + head),
            idle_until: Cell::new(Instant::now() + head),
            expired: Cell::new(false),
            waker: RefCell::new(None),
            requests: Cell::new(0),
            uploading: Cell::new(false),
            leaving: Cell::new(false),
            asked: Cell::new(0),
            ends: Cell::new((0, i64::MAX)),
        }
    }

    /// Enters a phase that may last so long from now on.
    pub fn enter(&self, phase: Phase, patience: Duration) {
        self.enter_at(phase, Instant::now(), patience);
    }

    /// A request has been read, at this moment; our own work on it may last so long.
    pub fn begin(&self, now: Instant, patience: Duration) {
        self.requests.set(self.requests.get() + 1);
        self.enter_at(Phase::Judge, now, patience);
    }

    /// Enters a phase that may last so long from `now` on: for callers that know the time already.
    pub fn enter_at(&self, phase: Phase, now: Instant, patience: Duration) {
        self.phase.set(phase);
        if phase == Phase::Idle {
            self.idle_until.set(now + patience);
            self.deadline.set(now + patience.min(PARK_AFTER));
        } else {
            self.deadline.set(now + patience);
        }
    }

    /// When an idle connection is closed.
    #[must_use]
    pub const fn idle_until(&self) -> Instant {
        self.idle_until.get()
    }

    /// Lets a connection that idles only by name stay as it is until its idle time is over.
    pub fn stay(&self) {
        self.deadline.set(self.idle_until.get());
    }

    /// A request body begins to stream. It may outlive the answer.
    pub(super) fn begin_upload(&self) {
        self.uploading.set(true);
    }

    /// The request body has been read, or nobody wants the rest of it.
    pub(super) fn end_upload(&self) {
        self.uploading.set(false);
    }

    /// Whether what the client sends is a request body that somebody still reads.
    #[must_use]
    pub const fn uploading(&self) -> bool {
        self.uploading.get()
    }

    /// The connection is to end with its next answer.
    pub fn leave(&self) {
        self.leaving.set(true);
    }

    /// Whether the next answer is the last.
    #[must_use]
    pub const fn leaving(&self) -> bool {
        self.leaving.get()
    }

    /// The phase now.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// When the phase ends.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline.get()
    }

    /// How many requests have been read.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// Notes at which second the right of the request under way ends.
    pub fn ends_at(&self, second: i64) {
        self.ends.set((self.requests.get(), second));
    }

    /// At which second the right of the request under way ends.
    #[must_use]
    pub const fn ends(&self) -> i64 {
        let (request, second) = self.ends.get();
        if request == self.requests.get() {
            second
        } else {
            i64::MAX
        }
    }

    /// Has the request under way judged again. Whether there may be one, whose task has been woken.
    pub fn ask_again(&self) -> bool {
        self.asked.set(self.requests.get());
        let under_way = match self.phase.get() {
            Phase::Head | Phase::Idle => false,
            Phase::Judge
            | Phase::Connect
            | Phase::Upload
            | Phase::Await
            | Phase::Stream
            | Phase::Tunnel => true,
        };
        if under_way {
            self.wake();
        }
        under_way
    }

    /// Whether the request under way is to be judged again.
    #[must_use]
    pub const fn asked_again(&self) -> bool {
        self.asked.get() == self.requests.get() && self.asked.get() > 0
    }

    /// It has been judged.
    pub fn answered(&self) {
        self.asked.set(0);
    }

    /// Marks the phase as over time: whoever waits through [`Clock::within`] gets [`Expired`] when polled next.
    pub fn expire(&self) {
        self.expired.set(true);
    }

    /// Remembers the task of the connection, so that others can wake it.
    pub fn attach(&self, waker: &Waker) {
        let mut held = self.waker.borrow_mut();
        if !held.as_ref().is_some_and(|held| held.will_wake(waker)) {
            *held = Some(waker.clone());
        }
    }

    /// Wakes the connection's task.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Wakes the connection's task, unless it is the one that runs.
    pub fn wake_from(&self, running: &Waker) {
        if let Some(waker) = self.waker.borrow().as_ref()
            && !waker.will_wake(running)
        {
            waker.wake_by_ref();
        }
    }

    /// Waits for `work` until the connection's task finds the deadline passed.
    ///
    /// # Errors
    /// [`Expired`] where the deadline passed first.
    pub async fn within<F: Future>(&self, work: F) -> Result<F::Output, Expired> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| self.poll_within(work.as_mut(), cx)).await
    }

    fn poll_within<F: Future>(
        &self,
        work: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Expired>> {
        if let Poll::Ready(output) = work.poll(cx) {
            // Done in the last moment: the lateness must not meet the next wait.
            self.expired.set(false);
            return Poll::Ready(Ok(output));
        }
        self.attach(cx.waker());
        if self.expired.take() {
            Poll::Ready(Err(Expired))
        } else {
            Poll::Pending
        }
    }
}

/// A connection that has idled so long gives its buffers back and only waits for a byte.
const PARK_AFTER: Duration = Duration::from_secs(2);

/// A phase took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("took too long")]
pub struct Expired;
