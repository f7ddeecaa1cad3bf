//! One destination and the thread that writes to it.
//!
//! Workers hand over [`Chunk`]s of whole lines; the queue between is bounded, and nothing here ever makes a worker wait for
//! the disk. Where the queue is full, ordinary lines are dropped and counted; lines of refusals have room of their own, and
//! are dropped, and counted, only when that is full too. A write that fails is reported once and tried again, so that a full
//! disk loses nothing that still fits the queue.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::file::LogFile;
use super::syslog::Messages;
use crate::snapshot::log::{Destination, Rotation};

/// What became of lines, all destinations together.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) written: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) errors: AtomicU64,
    /// Files begun anew.
    pub(super) rotations: AtomicU64,
    /// Lines that were too long for a message.
    pub(super) cut: AtomicU64,
}

/// Whole lines on their way to one destination.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u64,
    /// Where the lines stand that are dropped last.
    pub(super) kept: Vec<(usize, usize)>,
}

/// What a destination may hold back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of lines that wait.
    pub(super) ordinary: usize,
    /// Bytes of refusals that wait, once the first is full.
    pub(super) kept: usize,
    /// Between two tries of a write that failed.
    pub(super) retry: Duration,
}

/// 4 MiB are about 5 000 lines in JSON: seconds of a busy server, and of no weight in memory.
pub(super) const LIMITS: Limits = Limits {
    ordinary: 4 << 20,
    kept: 4 << 20,
    retry: Duration::from_secs(1),
};

/// The workers' end of a destination. When the last one is gone, the thread writes what it has and ends.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) destination: Destination,
    pub(super) shared: Arc<Shared>,
    /// No longer configured: workers let go of it as soon as they can.
    pub(super) leaving: AtomicBool,
}

/// What workers and thread share.
#[derive(Debug)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// Something for the thread to do.
    work: Condvar,
    /// The thread has nothing to do, or is gone.
    rest: Condvar,
    counters: Arc<Counters>,
    limits: Limits,
    thread: Mutex<Option<JoinHandle<()>>>,
    rotation: Mutex<Option<Rotation>>,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    /// Bytes that wait, the chunk in the thread's hands included.
    ordinary: usize,
    kept: usize,
    /// Empty buffers to use again.
    spare: Vec<Vec<u8>>,
    busy: bool,
    closing: bool,
    done: bool,
}

#[derive(Debug)]
enum Item {
    Chunk(Chunk, Class),
    Reopen,
    /// Something may be due.
    Tend,
}

/// Whose room a chunk takes.
#[derive(Debug, Clone, Copy)]
enum Class {
    Ordinary,
    Kept,
}

/// Where the bytes of lines go.
pub(super) trait Target: Send {
    /// Writes some of the lines, from the first byte on; as `Write::write`.
    ///
    /// # Errors
    /// Where none could be written.
    fn put(&mut self, lines: &[u8]) -> io::Result<usize>;

    /// From now on the file is begun anew by these rules.
    fn rotate_by(&mut self, _rotation: Option<Rotation>) {}

    /// Looks after what is due though nothing is written. Answers when to ask again.
    fn tend(&mut self) -> Option<Duration> {
        None
    }
}

impl Target for File {
    fn put(&mut self, lines: &[u8]) -> io::Result<usize> {
        io::Write::write(self, lines)
    }
}

/// Opens a destination; called again for every reopen.
pub(super) type Open = Box<dyn FnMut() -> io::Result<Box<dyn Target>> + Send>;

/// Opens standard output, a file, or the way to a syslog server.
pub(super) fn opener(destination: &Destination, counters: &Arc<Counters>) -> Open {
    let counters = Arc::clone(counters);
    match destination {
        Destination::Stdout => Box::new(|| {
            let fd = io::stdout().as_fd().try_clone_to_owned()?;
            Ok(Box::new(File::from(fd)))
        }),
        Destination::File(path) => {
            let path = path.clone();
            Box::new(move || Ok(Box::new(LogFile::open(&path, &counters)?)))
        }
        Destination::Syslog(syslog) => {
            let syslog = syslog.clone();
            Box::new(move || Ok(Box::new(Messages::to(syslog.clone(), &counters))))
        }
    }
}

impl Sink {
    /// Opens a destination and starts its thread.
    ///
    /// # Errors
    /// Where it cannot be opened, or no thread can be started.
    pub(super) fn start(
        destination: Destination,
        limits: Limits,
        counters: Arc<Counters>,
        mut open: Open,
    ) -> io::Result<Self> {
        let target = open()?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            rest: Condvar::new(),
            counters,
            limits,
            thread: Mutex::default(),
            rotation: Mutex::default(),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            name: destination.to_string(),
            open,
            target,
            failing: false,
            reported: 0,
        };
        let handle = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run())?;
        *lock(&shared.thread) = Some(handle);
        Ok(Self {
            destination,
            shared,
            leaving: AtomicBool::new(false),
        })
    }

    /// Hands over the lines and leaves an empty chunk behind. Never waits for the destination.
    pub(super) fn push(&self, chunk: &mut Chunk) {
        if chunk.bytes.is_empty() {
            return;
        }
        let mut queue = lock(&self.shared.queue);
        let lines = chunk.lines;
        let queued = if queue.closing {
            0
        } else {
            queue.push(chunk, self.shared.limits)
        };
        if chunk.bytes.capacity() == 0 {
            chunk.bytes = queue.spare.pop().unwrap_or_default();
        }
        drop(queue);
        self.shared.work.notify_one();
        let dropped = lines.saturating_sub(queued);
        if dropped > 0 {
            let counter = &self.shared.counters.dropped;
            counter.fetch_add(dropped, Ordering::Relaxed);
        }
        // Lines that were dropped are still in the buffer.
        chunk.bytes.clear();
        chunk.kept.clear();
        chunk.lines = 0;
    }

    /// From now on the file is begun anew by these rules.
    pub(super) fn rotate_by(&self, rotation: Option<Rotation>) {
        let mut current = lock(&self.shared.rotation);
        if *current != rotation {
            *current = rotation;
            lock(&self.shared.queue).items.push_back(Item::Tend);
            self.shared.work.notify_one();
        }
    }

    /// The thread opens the destination anew, behind the lines that it already has.
    pub(super) fn reopen(&self) {
        lock(&self.shared.queue).items.push_back(Item::Reopen);
        self.shared.work.notify_one();
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Queue {
    /// How many of the lines found room.
    fn push(&mut self, chunk: &mut Chunk, limits: Limits) -> u64 {
        if self.ordinary + chunk.bytes.len() <= limits.ordinary {
            let whole = Chunk {
                bytes: std::mem::take(&mut chunk.bytes),
                lines: chunk.lines,
                kept: Vec::new(),
            };
            self.ordinary += whole.bytes.len();
            self.items.push_back(Item::Chunk(whole, Class::Ordinary));
            return chunk.lines;
        }
        let mut kept = Chunk::default();
        for (start, end) in &chunk.kept {
            let line = chunk.bytes.get(*start..*end).unwrap_or_default();
            if self.kept + kept.bytes.len() + line.len() > limits.kept {
                break;
            }
            kept.bytes.extend_from_slice(line);
            kept.lines += 1;
        }
        let lines = kept.lines;
        if lines > 0 {
            self.kept += kept.bytes.len();
            self.items.push_back(Item::Chunk(kept, Class::Kept));
        }
        lines
    }

    /// Takes a reopen that waits behind lines which cannot be written.
    fn take_reopen(&mut self) -> bool {
        let place = self
            .items
            .iter()
            .position(|item| matches!(item, Item::Reopen));
        place.is_some_and(|place| self.items.remove(place).is_some())
    }
}

impl Shared {
    /// Asks the thread to write what it has and end.
    pub(super) fn close(&self) {
        lock(&self.queue).closing = true;
        self.work.notify_one();
    }

    /// Waits until everything handed over is written. Answers false where `deadline` came first.
    pub(super) fn settle(&self, deadline: Instant) -> bool {
        self.wait(deadline, |queue| {
            queue.done || (queue.items.is_empty() && !queue.busy)
        })
    }

    /// Waits until the thread has ended. Answers false where `deadline` came first.
    pub(super) fn join(&self, deadline: Instant) -> bool {
        let done = self.wait(deadline, |queue| queue.done);
        if done && let Some(handle) = lock(&self.thread).take() {
            // A panic in the thread has been reported on standard error already.
            drop(handle.join());
        }
        done
    }

    /// Whether the thread has ended.
    pub(super) fn ended(&self) -> bool {
        lock(&self.queue).done
    }

    fn wait(&self, deadline: Instant, until: impl Fn(&Queue) -> bool) -> bool {
        let queue = lock(&self.queue);
        let left = deadline.saturating_duration_since(Instant::now());
        let (queue, _) = self
            .rest
            .wait_timeout_while(queue, left, |queue| !until(queue))
            .unwrap_or_else(PoisonError::into_inner);
        until(&queue)
    }

    /// The next thing to do, [`Item::Tend`] where nothing comes for a while; `None` when closed and empty.
    fn next(&self, patience: Option<Duration>) -> Option<Item> {
        let mut queue = lock(&self.queue);
        queue.busy = false;
        if queue.items.is_empty() {
            self.rest.notify_all();
        }
        let idle = |queue: &mut Queue| queue.items.is_empty() && !queue.closing;
        let (mut queue, late) = match patience {
            None => {
                let woken = self.work.wait_while(queue, idle);
                (woken.unwrap_or_else(PoisonError::into_inner), false)
            }
            Some(patience) => {
                let woken = self.work.wait_timeout_while(queue, patience, idle);
                let (queue, time) = woken.unwrap_or_else(PoisonError::into_inner);
                (queue, time.timed_out())
            }
        };
        let tend = (late && !queue.closing).then_some(Item::Tend);
        let item = queue.items.pop_front().or(tend);
        queue.busy = item.is_some();
        item
    }

    /// A chunk has left the queue for good.
    fn release(&self, mut chunk: Chunk, class: Class) {
        let mut queue = lock(&self.queue);
        match class {
            Class::Ordinary => queue.ordinary -= chunk.bytes.len().min(queue.ordinary),
            Class::Kept => queue.kept -= chunk.bytes.len().min(queue.kept),
        }
        // One buffer grown by an enormous line is not kept.
        if queue.spare.len() < SPARE && chunk.bytes.capacity() <= 4 * CHUNK {
            chunk.bytes.clear();
            queue.spare.push(chunk.bytes);
        }
    }

    /// Waits before the next try of a write that failed.
    fn pause(&self, time: Duration) -> Pause {
        let wait = |queue: &mut Queue| {
            !queue.closing && !queue.items.iter().any(|item| matches!(item, Item::Reopen))
        };
        let (mut queue, _) = self
            .work
            .wait_timeout_while(lock(&self.queue), time, wait)
            .unwrap_or_else(PoisonError::into_inner);
        if queue.take_reopen() {
            Pause::Reopen
        } else if queue.closing {
            Pause::Closing
        } else {
            Pause::Over
        }
    }
}

/// Why a pause has ended.
#[derive(Debug, PartialEq, Eq)]
enum Pause {
    Over,
    Reopen,
    Closing,
}

/// The thread's own things.
struct Writer {
    shared: Arc<Shared>,
    name: String,
    open: Open,
    target: Box<dyn Target>,
    /// The last write failed, and that has been reported.
    failing: bool,
    /// How many dropped lines have been reported.
    reported: u64,
}

impl Writer {
    fn run(mut self) {
        // Also where this thread panics, nobody waits for it for ever.
        let _done = Done(Arc::clone(&self.shared));
        let mut patience = self.tend();
        while let Some(item) = self.shared.next(patience) {
            match item {
                Item::Tend => {}
                Item::Reopen => self.reopen(),
                Item::Chunk(chunk, class) => {
                    self.chunk(&chunk);
                    self.shared.release(chunk, class);
                    self.report_dropped();
                }
            }
            patience = self.tend();
        }
    }

    /// What is due though nothing is written. Answers when something may be due again.
    fn tend(&mut self) -> Option<Duration> {
        self.target.rotate_by(*lock(&self.shared.rotation));
        self.target.tend()
    }

    fn chunk(&mut self, chunk: &Chunk) {
        let mut done = 0;
        let mut last_try = false;
        while let Some(rest) = chunk.bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let error = match self.target.put(rest) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(written) => {
                    done += written;
                    self.recovered();
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            if last_try {
                break;
            }
            let time = self.failed(&error);
            match self.shared.pause(time) {
                Pause::Over => {}
                Pause::Reopen => {
                    self.reopen();
                    done = line_start(&chunk.bytes, done);
                }
                Pause::Closing => last_try = true,
            }
        }
        let whole = chunk.bytes.get(..done).unwrap_or_default();
        let written = if done == chunk.bytes.len() {
            chunk.lines
        } else {
            whole
                .iter()
                .fold(0, |n, byte| n + u64::from(*byte == b'\n'))
        };
        let counters = &self.shared.counters;
        counters.written.fetch_add(written, Ordering::Relaxed);
        let lost = chunk.lines.saturating_sub(written);
        counters.dropped.fetch_add(lost, Ordering::Relaxed);
    }

    fn reopen(&mut self) {
        match (self.open)() {
            Ok(target) => {
                self.target = target;
                self.target.rotate_by(*lock(&self.shared.rotation));
            }
            Err(error) => {
                self.shared.counters.errors.fetch_add(1, Ordering::Relaxed);
                let error: &dyn std::error::Error = &error;
                tracing::error!(
                    path = self.name,
                    error,
                    "the access log cannot be opened anew, lines go on to the file that was open"
                );
            }
        }
    }

    /// Reports the first of a row of failures. Answers how long to wait before the next try.
    fn failed(&mut self, error: &io::Error) -> Duration {
        if error.kind() == ErrorKind::WouldBlock {
            // Somebody made our standard output non-blocking, and its reader is slow: no failure.
            return Duration::from_millis(10);
        }
        self.shared.counters.errors.fetch_add(1, Ordering::Relaxed);
        if !self.failing {
            self.failing = true;
            let error: &dyn std::error::Error = error;
            tracing::error!(
                path = self.name,
                error,
                "the access log cannot be written, trying again and again"
            );
        }
        self.shared.limits.retry
    }

    fn recovered(&mut self) {
        if self.failing {
            self.failing = false;
            tracing::info!(path = self.name, "the access log is written again");
        }
    }

    fn report_dropped(&mut self) {
        let dropped = self.shared.counters.dropped.load(Ordering::Relaxed);
        // Each report at twice the number of the one before: an overload cannot flood the diagnostics.
        if dropped > self.reported * 2 {
            self.reported = dropped;
            tracing::warn!(
                dropped,
                "access-log lines were dropped, the destination is too slow"
            );
        }
    }
}

/// Tells who waits that the thread has ended.
struct Done(Arc<Shared>);

impl Drop for Done {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        queue.busy = false;
        queue.closing = true;
        queue.done = true;
        drop(queue);
        self.0.rest.notify_all();
    }
}

/// Where the line begins that `place` stands in: a new file begins with a whole line.
fn line_start(bytes: &[u8], place: usize) -> usize {
    let before = bytes.get(..place).unwrap_or_default();
    let feed = before.iter().rposition(|byte| *byte == b'\n');
    feed.map_or(0, |feed| feed + 1)
}

/// A poisoned lock only says that another thread panicked; what it guards stays whole between statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A worker hands over its lines once they have this many bytes.
pub(super) const CHUNK: usize = 64 << 10;

/// Empty buffers kept per destination.
const SPARE: usize = 8;
