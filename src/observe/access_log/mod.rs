//! The access log's door: a process-wide [`Logger`] that outlives reloads, and a [`WorkerLog`] for each worker.
//!
//! A worker formats lines into a buffer of its own and hands full buffers to the destination's writer thread
//! (`writer`); it takes a lock once in 64 KiB and never waits for a disk. Nothing is formatted on another thread.
//!
//! ```text
//! Record ─ WorkerLog::write ─ buffer ─(full, tick, flush)─ queue ─ writer thread ─ stdout, file or syslog
//! ```

mod file;
mod syslog;
mod writer;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;

use crate::observe::format::{Formatter, holds};
use crate::observe::record::Record;
use crate::snapshot::log::{AccessLog, Destination};
use writer::{CHUNK, Chunk, Counters, LIMITS, Shared, Sink, lock, opener};

/// Every access log of the process.
#[derive(Debug, Clone, Default)]
pub struct Logger(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    counters: Arc<Counters>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// What is configured.
    sinks: Vec<Arc<Sink>>,
    /// Every thread that may still run, also of what is no longer configured.
    threads: Vec<Arc<Shared>>,
}

/// A destination cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the access log `{destination}` cannot be opened")]
pub struct OpenError {
    /// Which.
    pub destination: Destination,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl Logger {
    /// No access log yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the destinations that are new, keeps those that stay, and lets go of the others: they are closed when the
    /// workers have handed over their last lines ([`WorkerLog::tick`]).
    ///
    /// # Errors
    /// Where a destination cannot be opened; then nothing has changed.
    pub fn configure(&self, logs: &[Arc<AccessLog>]) -> Result<(), OpenError> {
        let mut table = lock(&self.0.table);
        let mut sinks: Vec<Arc<Sink>> = Vec::new();
        for log in logs {
            let same = |sink: &&Arc<Sink>| sink.destination == log.destination;
            if sinks.iter().any(|sink| same(&sink)) {
                continue;
            }
            let sink = match table.sinks.iter().find(same) {
                Some(open) => Arc::clone(open),
                None => Arc::new(self.open(&log.destination)?),
            };
            sinks.push(sink);
        }
        for sink in &sinks {
            let of_it = |log: &&Arc<AccessLog>| log.destination == sink.destination;
            sink.rotate_by(logs.iter().filter(of_it).find_map(|log| log.rotation));
        }
        let opened: Vec<_> = sinks.iter().map(|sink| Arc::clone(&sink.shared)).collect();
        let gone = std::mem::replace(&mut table.sinks, sinks);
        for sink in gone {
            if !table.sinks.iter().any(|stays| Arc::ptr_eq(stays, &sink)) {
                sink.leaving.store(true, Ordering::Relaxed);
            }
        }
        table.remember(opened);
        Ok(())
    }

    /// The log of one worker.
    #[must_use]
    pub fn worker(&self) -> WorkerLog {
        WorkerLog {
            logger: self.clone(),
            formatter: Formatter::new(TimeZone::system()),
            bindings: Vec::new(),
            channels: Vec::new(),
        }
    }

    /// Opens every file anew, behind the lines already handed over: after a rotation by renaming (USR1).
    pub fn reopen(&self) {
        for sink in &lock(&self.0.table).sinks {
            sink.reopen();
        }
    }

    /// Waits until everything that workers have handed over is written. Answers false where `patience` ended first.
    pub fn settle(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let threads = lock(&self.0.table).threads.clone();
        threads.iter().all(|thread| thread.settle(deadline))
    }

    /// Writes everything that workers have handed over and ends the threads. Workers must have flushed before; what they
    /// hand over later is dropped and counted. A destination that does not move is left after five seconds.
    pub fn shutdown(&self) {
        let deadline = Instant::now() + PATIENCE;
        let threads = {
            let mut table = lock(&self.0.table);
            table.sinks.clear();
            std::mem::take(&mut table.threads)
        };
        for thread in &threads {
            thread.close();
        }
        for thread in &threads {
            if !thread.join(deadline) {
                tracing::error!("an access log does not take its last lines, they are lost");
            }
        }
    }

    /// Lines dropped since the process started.
    #[must_use]
    pub fn dropped_lines(&self) -> u64 {
        self.0.counters.dropped.load(Ordering::Relaxed)
    }

    /// Lines written since the process started.
    #[must_use]
    pub fn written_lines(&self) -> u64 {
        self.0.counters.written.load(Ordering::Relaxed)
    }

    /// Writes and reopens that failed since the process started.
    #[must_use]
    pub fn write_errors(&self) -> u64 {
        self.0.counters.errors.load(Ordering::Relaxed)
    }

    /// Files begun anew since the process started.
    #[must_use]
    pub fn rotations(&self) -> u64 {
        self.0.counters.rotations.load(Ordering::Relaxed)
    }

    /// Lines cut because they were too long for a syslog message, since the process started.
    #[must_use]
    pub fn cut_lines(&self) -> u64 {
        self.0.counters.cut.load(Ordering::Relaxed)
    }

    fn open(&self, destination: &Destination) -> Result<Sink, OpenError> {
        let counters = Arc::clone(&self.0.counters);
        let open = opener(destination, &counters);
        Sink::start(destination.clone(), LIMITS, counters, open).map_err(|source| OpenError {
            destination: destination.clone(),
            source,
        })
    }

    /// The open destination; for a log that is no longer configured, one that is closed again at the next tick.
    fn sink(&self, destination: &Destination) -> Option<Arc<Sink>> {
        let mut table = lock(&self.0.table);
        let same = |sink: &&Arc<Sink>| sink.destination == *destination;
        if let Some(sink) = table.sinks.iter().find(same) {
            return Some(Arc::clone(sink));
        }
        match self.open(destination) {
            Ok(sink) => {
                sink.leaving.store(true, Ordering::Relaxed);
                table.remember([Arc::clone(&sink.shared)]);
                Some(Arc::new(sink))
            }
            Err(error) => {
                self.0.counters.errors.fetch_add(1, Ordering::Relaxed);
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "a line of an access log that was closed is lost");
                None
            }
        }
    }
}

impl Table {
    fn remember(&mut self, opened: impl IntoIterator<Item = Arc<Shared>>) {
        self.threads.retain(|thread| !thread.ended());
        for thread in opened {
            if !self.threads.iter().any(|known| Arc::ptr_eq(known, &thread)) {
                self.threads.push(thread);
            }
        }
    }
}

/// The access log as one worker sees it. Dropping it flushes it.
#[derive(Debug)]
pub struct WorkerLog {
    logger: Logger,
    formatter: Formatter,
    /// Which log goes into which channel. Holds logs of older configurations too, whose requests still end.
    bindings: Vec<(Arc<AccessLog>, usize)>,
    channels: Vec<Channel>,
}

/// The lines of one destination.
#[derive(Debug)]
struct Channel {
    sink: Arc<Sink>,
    chunk: Chunk,
}

impl WorkerLog {
    /// Writes the request's line to every log that holds it. `logs` are those of the snapshot that judged the request.
    pub fn write(&mut self, record: &Record, logs: &[Arc<AccessLog>]) {
        for log in logs {
            if !holds(log, record) {
                continue;
            }
            let Some(place) = self.channel(log) else {
                let dropped = &self.logger.0.counters.dropped;
                dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let Some(Channel { sink, chunk }) = self.channels.get_mut(place) else {
                continue;
            };
            let start = chunk.bytes.len();
            self.formatter.line(record, log, &mut chunk.bytes);
            chunk.lines += 1;
            if record.refused() {
                chunk.kept.push((start, chunk.bytes.len()));
            }
            if chunk.bytes.len() >= CHUNK {
                sink.push(chunk);
            }
        }
    }

    /// What the worker's timer calls, a few times a second: hands over what has gathered, so that a quiet server's lines
    /// appear in time, and lets go of destinations that are no longer configured. Costs nothing where nothing has happened.
    pub fn tick(&mut self) {
        self.flush();
        let leaving = |channel: &Channel| channel.sink.leaving.load(Ordering::Relaxed);
        if self.channels.iter().any(leaving) {
            self.bindings.clear();
            self.channels.retain(|channel| !leaving(channel));
        }
    }

    /// Hands over what has gathered. At drain, before [`Logger::shutdown`].
    pub fn flush(&mut self) {
        for Channel { sink, chunk } in &mut self.channels {
            sink.push(chunk);
        }
    }

    fn channel(&mut self, log: &Arc<AccessLog>) -> Option<usize> {
        let known = self
            .bindings
            .iter()
            .find(|(other, _)| Arc::ptr_eq(other, log));
        if let Some((_, place)) = known {
            return Some(*place);
        }
        let open = |channel: &Channel| channel.sink.destination == log.destination;
        let place = match self.channels.iter().position(open) {
            Some(place) => place,
            None => {
                let sink = self.logger.sink(&log.destination)?;
                self.channels.push(Channel {
                    sink,
                    chunk: Chunk::default(),
                });
                self.channels.len() - 1
            }
        };
        if self.bindings.len() >= BINDINGS {
            self.bindings.clear();
        }
        self.bindings.push((Arc::clone(log), place));
        Some(place)
    }
}

impl Drop for WorkerLog {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Logs that a worker remembers; far more than one configuration has, far fewer than many reloads leave behind.
const BINDINGS: usize = 32;

/// How long a shutdown waits for destinations that do not move.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
