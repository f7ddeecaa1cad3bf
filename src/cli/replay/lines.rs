//! A log in chunks of whole lines, judged by a thread per core. Memory is bounded whatever the log holds: a few chunks are on
//! their way at a time, and a line that is longer than a chunk is passed over.

use std::io::{self, IsTerminal as _, Read, Write as _};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use super::judge::Judge;
use super::tally::Tally;

/// Why a log cannot be read.
#[derive(Debug)]
pub(super) enum Broken {
    /// It is gzip, zstd or xz.
    Compressed,
    /// Reading failed.
    Read(io::Error),
}

/// Some whole lines.
struct Chunk {
    bytes: Vec<u8>,
    /// The number of the first, from 1.
    first: u64,
}

/// Judges every line. `done` is how many bytes have been read.
pub(super) fn each(
    source: Box<dyn Read + Send>,
    done: &AtomicU64,
    bar: &Bar,
    judge: &Judge<'_>,
) -> Result<Tally, Broken> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (send, receive) = sync_channel::<Chunk>(threads * 2);
    let receive = Mutex::new(receive);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| work(&receive, judge)))
            .collect();
        let mut cutter = Cutter {
            source,
            rest: Vec::new(),
            line: 1,
            long: Vec::new(),
            spent: false,
        };
        let mut outcome = Ok(());
        loop {
            match cutter.next(done) {
                Ok(Some(chunk)) => {
                    if send.send(chunk).is_err() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            bar.draw(done.load(Ordering::Relaxed));
        }
        drop(send);
        let mut whole = Tally::default();
        for worker in workers {
            if let Ok(tally) = worker.join() {
                whole.add(tally);
            }
        }
        bar.clear();
        for line in cutter.long {
            whole.unreadable(line);
        }
        outcome.map(|()| whole)
    })
}

fn work(receive: &Mutex<Receiver<Chunk>>, judge: &Judge<'_>) -> Tally {
    let mut tally = Tally::default();
    loop {
        let next = receive
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(chunk) = next else { return tally };
        for (number, line) in (chunk.first..).zip(chunk.bytes.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if !line.is_empty() {
                judge.line(line, number, &mut tally);
            }
        }
    }
}

/// Cuts at line feeds.
struct Cutter {
    source: Box<dyn Read + Send>,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
    /// The number of the line that `rest` begins.
    line: u64,
    /// Lines that were too long; only the first few are told apart.
    long: Vec<u64>,
    spent: bool,
}

impl Cutter {
    fn next(&mut self, done: &AtomicU64) -> Result<Option<Chunk>, Broken> {
        let mut skipping = false;
        while !self.spent {
            let begin = self.rest.len();
            let mut bytes = std::mem::take(&mut self.rest);
            let read = (&mut self.source)
                .take(CHUNK)
                .read_to_end(&mut bytes)
                .map_err(Broken::Read)?;
            let before = done.fetch_add(u64::try_from(read).unwrap_or(0), Ordering::Relaxed);
            if before == 0 && MAGIC.iter().any(|magic| bytes.starts_with(magic)) {
                return Err(Broken::Compressed);
            }
            self.spent = read == 0;
            if skipping {
                let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                    continue;
                };
                bytes.drain(..=end);
                self.line += 1;
                skipping = false;
            }
            let end = if self.spent {
                Some(bytes.len())
            } else {
                let fresh = bytes.get(begin.min(bytes.len())..).unwrap_or_default();
                let at = fresh.iter().rposition(|byte| *byte == b'\n');
                at.map(|at| begin.min(bytes.len()) + at + 1)
            };
            let Some(end) = end else {
                if bytes.len() >= LINE_MAX {
                    self.long.push(self.line);
                    skipping = true;
                } else {
                    self.rest = bytes;
                }
                continue;
            };
            self.rest = bytes.split_off(end);
            let first = self.line;
            let feeds = bytes.iter().filter(|byte| **byte == b'\n').count();
            self.line += u64::try_from(feeds).unwrap_or(0);
            if !bytes.is_empty() {
                return Ok(Some(Chunk { bytes, first }));
            }
        }
        Ok(None)
    }
}

/// How far it is, on a terminal.
#[derive(Debug)]
pub(super) struct Bar {
    size: Option<u64>,
    shown: bool,
    state: Mutex<(Instant, bool)>,
}

impl Bar {
    pub(super) fn new(size: Option<u64>) -> Self {
        Self {
            size,
            shown: io::stderr().is_terminal(),
            state: Mutex::new((Instant::now(), false)),
        }
    }

    fn draw(&self, done: u64) {
        if !self.shown {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.elapsed() < EVERY {
            return;
        }
        *state = (Instant::now(), true);
        drop(state);
        drop(write!(io::stderr(), "\r{}", bar(done, self.size)));
    }

    fn clear(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.1 {
            drop(write!(io::stderr(), "\r{:width$}\r", "", width = 70));
        }
    }
}

/// `[#####     ]  52 %   120 MiB`.
fn bar(done: u64, size: Option<u64>) -> String {
    let mebibytes = done >> 20;
    match size.filter(|size| *size > 0) {
        Some(size) => {
            let part = done.min(size) * 100 / size;
            let full = usize::try_from(part / 2).unwrap_or(0);
            format!("[{:<50}] {part:>3} %", "#".repeat(full))
        }
        None => format!("{mebibytes} MiB read"),
    }
}

/// Bytes that are read at a time.
const CHUNK: u64 = 1 << 20;
/// Bytes of a line.
const LINE_MAX: usize = 1 << 20;
/// How often the bar is drawn.
const EVERY: Duration = Duration::from_millis(150);
/// How gzip, zstd and xz files begin.
const MAGIC: [&[u8]; 3] = [
    &[0x1f, 0x8b],
    &[0x28, 0xb5, 0x2f, 0xfd],
    &[0xfd, b'7', b'z'],
];
