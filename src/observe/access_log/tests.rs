#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Condvar;

use http::HeaderValue;

use super::writer::{Limits, Target};
use super::*;
use crate::observe::record::{AnsweredBy, Decided};
use crate::snapshot::log::{Format, Template};

const PATIENT: Duration = Duration::from_secs(20);

/// A log with one line per request: `status id`.
fn log(path: &Path) -> Arc<AccessLog> {
    formatted(path, "$status $request_id")
}

fn formatted(path: &Path, format: &str) -> Arc<AccessLog> {
    let format = Format::Template(Template::parse(format).unwrap());
    Arc::new(AccessLog::new(Destination::File(path.to_owned()), format))
}

fn record(status: u16, id: &str) -> Record {
    let mut record = Record::new(
        jiff::Timestamp::UNIX_EPOCH,
        Instant::now(),
        HeaderValue::from_str(id).unwrap(),
        "203.0.113.9:1".parse().unwrap(),
    );
    record.status = status;
    let (decision, by) = match status {
        403 => (Decided::Deny, AnsweredBy::Policy),
        _ => (Decided::Allow, AnsweredBy::Upstream),
    };
    record.decision = Some(decision);
    record.answered_by = by;
    record
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn lines_of_all_workers_arrive_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let logger = Logger::new();
    logger.configure(&[log(&path)]).unwrap();
    let long = "x".repeat(500);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (logger, path, long) = (&logger, &path, &long);
            scope.spawn(move || {
                let mut worker_log = logger.worker();
                let logs = [log(path)];
                for n in 0..1000 {
                    worker_log.write(&record(200, &format!("{worker}-{n}-{long}")), &logs);
                }
            });
        }
    });
    logger.shutdown();
    let text = read(&path);
    assert_eq!(text.lines().count(), 4000);
    for worker in 0..4 {
        // In the order in which the worker wrote them.
        let prefix = format!("200 {worker}-");
        let mine = text.lines().filter(|line| line.starts_with(&prefix));
        let numbers: Vec<usize> = mine
            .map(|line| {
                assert!(line.ends_with(&long));
                line.split('-').nth(1).unwrap().parse().unwrap()
            })
            .collect();
        assert!(numbers.into_iter().eq(0..1000));
    }
    assert_eq!((logger.written_lines(), logger.dropped_lines()), (4000, 0));
}

#[test]
fn a_file_is_made_for_owner_and_group_and_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let old = folder.path().join("old.log");
    fs::write(&old, "before\n").unwrap();
    let logs = [log(&path), log(&old)];
    let logger = Logger::new();
    logger.configure(&logs).unwrap();
    let mut worker = logger.worker();
    worker.write(&record(200, "a"), &logs);
    worker.tick();
    assert!(logger.settle(PATIENT));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
    assert_eq!(read(&path), "200 a\n");
    assert_eq!(read(&old), "before\n200 a\n");
}

#[test]
fn reopen_follows_a_rename_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let rotated = folder.path().join("access.log.1");
    let logs = [log(&path)];
    let logger = Logger::new();
    logger.configure(&logs).unwrap();
    let mut worker = logger.worker();
    worker.write(&record(200, "before"), &logs);
    worker.tick();
    assert!(logger.settle(PATIENT));
    fs::rename(&path, &rotated).unwrap();
    worker.write(&record(200, "between"), &logs); // renamed, not yet reopened
    worker.tick();
    logger.reopen();
    worker.write(&record(200, "after"), &logs);
    worker.tick();
    logger.shutdown();
    assert_eq!(read(&rotated), "200 before\n200 between\n");
    assert_eq!(read(&path), "200 after\n");
}

#[test]
fn reopen_that_fails_keeps_the_open_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs").join("access.log");
    fs::create_dir(folder.path().join("logs")).unwrap();
    let logs = [log(&path)];
    let logger = Logger::new();
    logger.configure(&logs).unwrap();
    let mut worker = logger.worker();
    let moved = folder.path().join("moved");
    fs::rename(folder.path().join("logs"), &moved).unwrap();
    logger.reopen(); // the folder is gone
    worker.write(&record(200, "a"), &logs);
    drop(worker);
    logger.shutdown();
    assert_eq!(read(&moved.join("access.log")), "200 a\n");
    assert_eq!((logger.write_errors(), logger.dropped_lines()), (1, 0));
}

#[test]
fn reload_opens_the_new_and_closes_the_gone() {
    let folder = tempfile::tempdir().unwrap();
    let [gone, stays, new] = ["gone", "stays", "new"].map(|name| folder.path().join(name));
    let old = [log(&gone), log(&stays)];
    let logger = Logger::new();
    logger.configure(&old).unwrap();
    let mut worker = logger.worker();
    worker.write(&record(200, "1"), &old);
    let threads = lock(&logger.0.table).threads.clone();

    let next = [log(&stays), log(&new)];
    logger.configure(&next).unwrap();
    worker.write(&record(200, "2"), &next);
    worker.write(&record(200, "3"), &old); // a request that began before the reload
    worker.tick();
    assert!(
        threads[0].join(Instant::now() + PATIENT),
        "the gone one ends"
    );
    assert!(!threads[1].ended(), "the other one stays open");

    worker.write(&record(200, "4"), &old); // and one that ends long after it
    worker.tick();
    logger.shutdown();
    assert_eq!(read(&gone), "200 1\n200 3\n200 4\n");
    assert_eq!(read(&stays), "200 1\n200 2\n200 3\n200 4\n");
    assert_eq!(read(&new), "200 2\n");
    assert_eq!(logger.dropped_lines(), 0);
}

#[test]
fn a_destination_that_cannot_be_opened_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let logger = Logger::new();
    logger.configure(&[log(&path)]).unwrap();
    let bad = folder.path().join("no/such/folder.log");
    let error = logger.configure(&[log(&bad)]).unwrap_err();
    assert_eq!(error.destination, Destination::File(bad));
    let mut worker = logger.worker();
    worker.write(&record(200, "a"), &[log(&path)]);
    drop(worker);
    logger.shutdown();
    assert_eq!(read(&path), "200 a\n");
}

#[test]
fn formats_of_one_file_share_its_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let logs = [log(&path), formatted(&path, "again $request_id")];
    let logger = Logger::new();
    logger.configure(&logs).unwrap();
    assert_eq!(lock(&logger.0.table).threads.len(), 1);
    let mut worker = logger.worker();
    worker.write(&record(200, "a"), &logs);
    drop(worker);
    logger.shutdown();
    assert_eq!(read(&path), "200 a\nagain a\n");
}

#[test]
fn lines_after_shutdown_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let logs = [log(&folder.path().join("access.log"))];
    let logger = Logger::new();
    logger.configure(&logs).unwrap();
    let mut worker = logger.worker();
    worker.write(&record(200, "a"), &logs);
    worker.flush();
    worker.write(&record(200, "late"), &logs);
    logger.shutdown();
    worker.flush();
    assert_eq!((logger.written_lines(), logger.dropped_lines()), (1, 1));
}

/// A destination under the test's control.
#[derive(Clone, Default)]
struct Disk(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    /// Writes wait.
    stalled: bool,
    /// Writes that wait now.
    waiting: usize,
    /// Writes that found no room.
    refused: usize,
    /// Bytes that still fit.
    free: usize,
    /// What was written since the last open.
    text: String,
    /// What was written before it.
    rotated: String,
}

impl Disk {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.0.0));
        self.0.1.notify_all();
    }

    fn wait(&self, until: impl Fn(&State) -> bool) {
        let (state, changed) = &*self.0;
        let state = lock(state);
        let (state, timeout) = changed
            .wait_timeout_while(state, PATIENT, |state| !until(state))
            .unwrap();
        drop(state);
        assert!(!timeout.timed_out());
    }
}

impl Target for Disk {
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (state, changed) = &*self.0;
        let mut state = lock(state);
        state.waiting += 1;
        changed.notify_all();
        let mut state = changed.wait_while(state, |state| state.stalled).unwrap();
        state.waiting -= 1;
        if state.free == 0 {
            state.refused += 1;
            changed.notify_all();
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = bytes.len().min(state.free);
        state.free -= written;
        state.text += std::str::from_utf8(&bytes[..written]).unwrap();
        Ok(written)
    }
}

fn on(disk: &Disk, limits: Limits) -> (Logger, Sink) {
    let logger = Logger::new();
    let counters = Arc::clone(&logger.0.counters);
    let opened = disk.clone();
    let open = Box::new(move || {
        opened.change(|state| {
            state.rotated = std::mem::take(&mut state.text);
        });
        Ok(Box::new(opened.clone()) as Box<dyn Target>)
    });
    let sink = Sink::start(Destination::Stdout, limits, counters, open).unwrap();
    (logger, sink)
}

/// Lines of ten bytes; those that begin with `!` are kept.
fn chunk(lines: &[&str]) -> Chunk {
    let mut chunk = Chunk::default();
    for line in lines {
        let start = chunk.bytes.len();
        chunk.bytes.extend(format!("{line:<9}\n").into_bytes());
        chunk.lines += 1;
        if line.starts_with('!') {
            chunk.kept.push((start, chunk.bytes.len()));
        }
    }
    chunk
}

#[test]
fn overload_drops_ordinary_lines_first_and_counts() {
    let disk = Disk::default();
    disk.change(|state| (state.stalled, state.free) = (true, usize::MAX));
    let limits = Limits {
        ordinary: 20,
        kept: 20,
        ..LIMITS
    };
    let (logger, sink) = on(&disk, limits);
    sink.push(&mut chunk(&["a"]));
    disk.wait(|state| state.waiting == 1); // what is being written still takes room
    let mut full = chunk(&["b"]);
    sink.push(&mut full);
    assert!(full.bytes.is_empty() && full.kept.is_empty() && full.lines == 0);
    assert_eq!(logger.dropped_lines(), 0, "n fit");
    sink.push(&mut chunk(&["c", "!d", "e", "!f"]));
    assert_eq!(logger.dropped_lines(), 2, "refusals have room of their own");
    sink.push(&mut chunk(&["!g"]));
    assert_eq!(logger.dropped_lines(), 3, "which ends too");
    disk.change(|state| state.stalled = false);
    assert!(sink.shared.settle(Instant::now() + PATIENT));
    sink.push(&mut chunk(&["h"])); // and all is well again
    assert!(sink.shared.settle(Instant::now() + PATIENT));
    let lines: Vec<String> = lock(&disk.0.0)
        .text
        .lines()
        .map(|l| l.trim().to_owned())
        .collect();
    assert_eq!(lines, ["a", "b", "!d", "!f", "h"]);
    assert_eq!((logger.written_lines(), logger.dropped_lines()), (5, 3));
}

#[test]
fn a_full_disk_is_counted_and_tried_again() {
    let disk = Disk::default();
    disk.change(|state| state.free = 14); // a line and a half
    let limits = Limits {
        retry: Duration::from_millis(1),
        ..LIMITS
    };
    let (logger, sink) = on(&disk, limits);
    sink.push(&mut chunk(&["a", "b", "c"]));
    disk.wait(|state| state.refused > 2);
    disk.change(|state| state.free = usize::MAX);
    assert!(sink.shared.settle(Instant::now() + PATIENT));
    assert_eq!(lock(&disk.0.0).text, "a        \nb        \nc        \n");
    assert_eq!((logger.written_lines(), logger.dropped_lines()), (3, 0));
}

#[test]
fn a_rotation_of_a_full_disk_begins_with_a_whole_line() {
    let disk = Disk::default();
    disk.change(|state| state.free = 14);
    let limits = Limits {
        retry: PATIENT * 2, // only the rotation wakes the writer
        ..LIMITS
    };
    let (logger, sink) = on(&disk, limits);
    sink.push(&mut chunk(&["a", "b", "c"]));
    disk.wait(|state| state.refused == 1);
    disk.change(|state| state.free = usize::MAX);
    sink.reopen();
    assert!(sink.shared.settle(Instant::now() + PATIENT));
    let state = lock(&disk.0.0);
    assert_eq!(state.rotated, "a        \nb   ");
    assert_eq!(state.text, "b        \nc        \n");
    assert_eq!(logger.written_lines(), 3);
}

#[test]
fn shutdown_does_not_wait_for_a_full_disk() {
    let disk = Disk::default();
    disk.change(|state| state.free = 14);
    let (logger, sink) = on(&disk, LIMITS);
    sink.push(&mut chunk(&["a", "b"]));
    sink.push(&mut chunk(&["c"]));
    sink.shared.close();
    assert!(sink.shared.join(Instant::now() + PATIENT));
    assert_eq!((logger.written_lines(), logger.dropped_lines()), (1, 2));
}
