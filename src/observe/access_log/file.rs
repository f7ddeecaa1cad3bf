//! A log file that begins itself anew: by size, by age, and because somebody else did so.
//!
//! The full file is renamed to `NAME.20261124T195522.123Z` (UTC) and a new one made under `NAME`; old names sort by time, also
//! where the clock was set back. Only the thread that writes does any of this, before it writes: no line is ever divided
//! between two files.
//!
//! Two processes may write to one file (a hand-over, or two that share it): all of them append whole batches, and each looks
//! before every batch whether the name still means the file that it has open. Who renames holds a lock on the file (`flock(2)`)
//! and looks once more, so that one full file is renamed once. A crash between rename and new file leaves nothing but a missing
//! name, which the next start makes.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::writer::{Counters, Target};
use crate::snapshot::log::Rotation;

/// A file that is appended to.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// When the file was made; none where it is no regular file, which is never begun anew.
    begun: Option<SystemTime>,
    /// The last write ended within a line.
    mid_line: bool,
    rotation: Option<Rotation>,
    /// No try before this, since the last one failed.
    rest_until: Option<Instant>,
    counters: Arc<Counters>,
}

impl LogFile {
    /// Opens a file to append to, made with mode 0640. A pipe that nobody reads is an error and not a wait without end.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub(super) fn open(path: &Path, counters: &Arc<Counters>) -> io::Result<Self> {
        let (file, begun) = open(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            begun,
            mid_line: false,
            rotation: None,
            rest_until: None,
            counters: Arc::clone(counters),
        })
    }

    /// The file under the name, whoever put it there.
    fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.begun) = open(&self.path)?;
        Ok(())
    }

    /// Begins the file anew where that is due; `more` bytes are about to be written.
    fn look_after(&mut self, more: usize) {
        let (Some(rotation), Some(_)) = (self.rotation, self.begun) else {
            return;
        };
        let resting = |until: Instant| Instant::now() < until;
        if self.mid_line || self.rest_until.is_some_and(resting) {
            return;
        }
        self.rest_until = None;
        if let Err(error) = self.follow().and_then(|()| self.rotate(rotation, more)) {
            self.rest_until = Some(Instant::now() + REST);
            self.counters.errors.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                path = %self.path.display(), %error,
                "the access log cannot be begun anew, lines go on to the file that is open"
            );
        }
    }

    /// Opens what the name means now, where that is not what we have open.
    fn follow(&mut self) -> io::Result<()> {
        if named_so(&self.file, &self.path)? {
            return Ok(());
        }
        self.reopen()
    }

    fn rotate(&mut self, rotation: Rotation, more: usize) -> io::Result<()> {
        let size = self.file.metadata()?.len();
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        let large = |most: u64| size.saturating_add(more) > most;
        let old = |age: Duration| self.age() >= age;
        // An empty file is never put away.
        if size == 0 || !(rotation.size.is_some_and(large) || rotation.age.is_some_and(old)) {
            return Ok(());
        }
        match self.file.try_lock() {
            // Another process is at it: the next batch finds its file.
            Err(TryLockError::WouldBlock) => return Ok(()),
            // A file system without locks: then only processes that share the file could miss each other.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        if named_so(&self.file, &self.path)? {
            // A link keeps its place; the file that it means is renamed.
            let real = fs::canonicalize(&self.path)?;
            put_away(&real, rotation.keep, &self.counters)?;
        }
        self.reopen()
    }

    fn age(&self) -> Duration {
        let age = self.begun.and_then(|begun| begun.elapsed().ok());
        age.unwrap_or_default()
    }
}

impl Target for LogFile {
    fn put(&mut self, lines: &[u8]) -> io::Result<usize> {
        let most = self.rotation.and_then(|rotation| rotation.size);
        let mut rest = lines;
        if let Some(most) = most {
            let first = line_end(rest, 0);
            self.look_after(first);
            let size = self.file.metadata()?.len();
            let room = usize::try_from(most.saturating_sub(size)).unwrap_or(usize::MAX);
            // As many whole lines as fit, one at least.
            rest = rest.get(..line_end(rest, room)).unwrap_or(rest);
        } else {
            self.look_after(0);
        }
        let written = self.file.write(rest)?;
        if let Some(last) = rest.get(..written).and_then(<[u8]>::last) {
            self.mid_line = *last != b'\n';
        }
        Ok(written)
    }

    fn rotate_by(&mut self, rotation: Option<Rotation>) {
        self.rotation = rotation;
    }

    fn tend(&mut self) -> Option<Duration> {
        let age = self.rotation.and_then(|rotation| rotation.age)?;
        self.look_after(0);
        // An empty file is looked at again when it could be old enough, a failed try after its rest.
        let left = age.saturating_sub(self.age());
        Some(if left.is_zero() { age.min(REST) } else { left })
    }
}

fn open(path: &Path) -> io::Result<(File, Option<SystemTime>)> {
    let mut options = OpenOptions::new();
    let options = options.append(true).create(true).mode(0o640);
    let file = options.custom_flags(libc::O_NONBLOCK).open(path)?;
    let about = file.metadata()?;
    let made = |about: &Metadata| about.created().or_else(|_| about.modified());
    let begun = if about.is_file() {
        // Where the file system tells neither, its age counts from now.
        Some(made(&about).unwrap_or_else(|_| SystemTime::now()))
    } else {
        None
    };
    Ok((file, begun))
}

/// Whether the path means the open file.
fn named_so(file: &File, path: &Path) -> io::Result<bool> {
    let named = match fs::metadata(path) {
        Ok(named) => named,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let open = file.metadata()?;
    Ok((named.dev(), named.ino()) == (open.dev(), open.ino()))
}

/// Renames the file and removes the oldest beyond `keep`.
fn put_away(path: &Path, keep: Option<usize>, counters: &Counters) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    let mut stamps = stamps(folder, name)?;
    let stamp = stamp(Timestamp::now(), stamps.last().map(String::as_str));
    fs::rename(path, folder.join(dated(name, &stamp)))?;
    counters.rotations.fetch_add(1, Ordering::Relaxed);
    stamps.push(stamp);
    let surplus = keep.map_or(0, |keep| stamps.len().saturating_sub(keep));
    for stamp in stamps.iter().take(surplus) {
        let old = folder.join(dated(name, stamp));
        match fs::remove_file(&old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                counters.errors.fetch_add(1, Ordering::Relaxed);
                tracing::error!(path = %old.display(), %error, "an old access log cannot be removed");
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// The times in the names of old files, oldest first. Files whose names only begin alike are somebody else's.
fn stamps(folder: &Path, name: &OsStr) -> io::Result<Vec<String>> {
    let mut stamps = Vec::new();
    for entry in fs::read_dir(folder)? {
        let other = entry?.file_name();
        let stamp = other.to_str().and_then(|other| other.rsplit_once('.'));
        // The milliseconds stand behind a dot of their own.
        let stamp = stamp.and_then(|(head, _)| head.rsplit_once('.'));
        let at = stamp.map(|(head, _)| head.len() + 1);
        let Some(stamp) = at.and_then(|at| other.to_str()?.get(at..)) else {
            continue;
        };
        if moment(stamp).is_some() && dated(name, stamp) == *other {
            stamps.push(stamp.to_owned());
        }
    }
    stamps.sort_unstable();
    Ok(stamps)
}

fn dated(name: &OsStr, stamp: &str) -> std::ffi::OsString {
    let mut dated = name.to_owned();
    dated.push(".");
    dated.push(stamp);
    dated
}

/// Now, or just after the newest, so that names sort by time whatever the clock does.
fn stamp(now: Timestamp, newest: Option<&str>) -> String {
    let text = |moment: Timestamp| moment.strftime(STAMP).to_string();
    let wanted = text(now);
    let newest = newest.filter(|newest| **newest >= *wanted);
    let after = newest.and_then(moment).and_then(|newest| {
        let after = newest.checked_add(SignedDuration::from_millis(1));
        after.ok()
    });
    after.map_or(wanted, text)
}

/// The moment that a stamp means; none where the text is no stamp.
fn moment(stamp: &str) -> Option<Timestamp> {
    if stamp.len() != "20261124T195522.123Z".len() {
        return None;
    }
    let civil = jiff::civil::DateTime::strptime(STAMP, stamp).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The length of the whole lines within `room` bytes; of the first line where none fits.
fn line_end(lines: &[u8], room: usize) -> usize {
    let within = lines.get(..room).unwrap_or(lines);
    let feed = within.iter().rposition(|byte| *byte == b'\n');
    let feed = feed.or_else(|| lines.iter().position(|byte| *byte == b'\n'));
    feed.map_or(lines.len(), |feed| feed + 1)
}

const STAMP: &str = "%Y%m%dT%H%M%S%.3fZ";

/// Between two tries to begin a file anew that failed.
const REST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]

    use std::sync::atomic::AtomicBool;

    use super::*;

    fn rotated(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("a.log.")).collect();
        names.sort();
        names
    }

    fn by_size(size: u64, keep: Option<usize>) -> Option<Rotation> {
        Some(Rotation {
            size: Some(size),
            age: None,
            keep,
        })
    }

    fn file(path: &Path, rotation: Option<Rotation>) -> (LogFile, Arc<Counters>) {
        let counters = Arc::default();
        let mut file = LogFile::open(path, &counters).unwrap();
        file.rotate_by(rotation);
        (file, counters)
    }

    fn write(file: &mut LogFile, lines: &str) {
        let mut rest = lines.as_bytes();
        while !rest.is_empty() {
            let written = file.put(rest).unwrap();
            rest = &rest[written..];
        }
    }

    #[test]
    fn a_file_never_has_more_bytes_than_its_size_and_no_line_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let (mut log, counters) = file(&path, by_size(10, None));
        write(&mut log, "aaaa\nbbbb\n"); // n
        assert_eq!(rotated(folder.path()).len(), 0);
        write(&mut log, "cccc\ndddd\neeee\n"); // n + 1, and a batch longer than a file
        write(&mut log, "a line longer than a whole file\n");
        let mut whole = String::new();
        for name in rotated(folder.path()) {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(text.len() <= 10);
            whole += &text;
        }
        whole += &fs::read_to_string(&path).unwrap();
        assert_eq!(
            whole,
            "aaaa\nbbbb\ncccc\ndddd\neeee\na line longer than a whole file\n"
        );
        assert_eq!(counters.rotations.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn keep_removes_the_oldest_of_ours_alone() {
        let folder = tempfile::tempdir().unwrap();
        let others = [
            "a.log.1",
            "a.log.20200101T000000.000Z.gz",
            "a.log.2020x101T000000.000Z",
        ];
        for name in others {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let oldest = "a.log.20200101T000000.000Z";
        fs::write(folder.path().join(oldest), "").unwrap();
        let path = folder.path().join("a.log");
        let (mut log, _) = file(&path, by_size(1, Some(2)));
        for _ in 0..4 {
            write(&mut log, "line\n");
        }
        let names = rotated(folder.path());
        let ours: Vec<_> = names
            .iter()
            .filter(|name| !others.contains(&&***name))
            .collect();
        assert_eq!(ours.len(), 2, "{names:?}");
        assert_eq!(names.len(), 2 + others.len(), "{names:?}");
        log.rotate_by(by_size(1, Some(0)));
        write(&mut log, "line\n");
        assert_eq!(rotated(folder.path()).len(), others.len(), "none is kept");
    }

    #[test]
    fn names_sort_by_time_whatever_the_clock_does() {
        let now: Timestamp = "2026-11-24T19:55:22.123456Z".parse().unwrap();
        for (newest, want, why) in [
            (None, "20261124T195522.123Z", "the first"),
            (
                Some("20261124T195522.122Z"),
                "20261124T195522.123Z",
                "later",
            ),
            (
                Some("20261124T195522.123Z"),
                "20261124T195522.124Z",
                "within one millisecond",
            ),
            (
                Some("20261231T235959.999Z"),
                "20270101T000000.000Z",
                "the clock was set back",
            ),
        ] {
            assert_eq!(stamp(now, newest), want, "{why}");
        }
    }

    #[test]
    fn an_old_file_is_put_away_though_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let rotation = |age| {
            Some(Rotation {
                age: Some(age),
                ..Rotation::default()
            })
        };
        let (mut log, _) = file(&path, rotation(Duration::from_secs(3600)));
        write(&mut log, "line\n");
        assert!(
            log.tend()
                .is_some_and(|next| next > Duration::from_secs(3500))
        );
        assert_eq!(rotated(folder.path()).len(), 0, "not yet");
        log.rotate_by(rotation(Duration::from_nanos(1)));
        log.tend();
        assert_eq!(rotated(folder.path()).len(), 1);
        log.tend();
        assert_eq!(rotated(folder.path()).len(), 1, "an empty file stays");
    }

    #[test]
    fn two_that_write_to_one_file_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        std::thread::scope(|scope| {
            for writer in 0..3 {
                let path = &path;
                scope.spawn(move || {
                    let (mut log, counters) = file(path, by_size(200, None));
                    for n in 0..100 {
                        write(&mut log, &format!("{writer}-{n}\n"));
                    }
                    assert_eq!(counters.errors.load(Ordering::Relaxed), 0);
                });
            }
        });
        let mut lines = Vec::new();
        for name in rotated(folder.path())
            .into_iter()
            .chain(["a.log".to_owned()])
        {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            lines.extend(text.lines().map(str::to_owned));
        }
        for writer in 0..3 {
            let mine = lines
                .iter()
                .filter_map(|line| line.strip_prefix(&format!("{writer}-")));
            let mut mine: Vec<usize> = mine.map(|n| n.parse().unwrap()).collect();
            mine.sort_unstable();
            assert!(mine.into_iter().eq(0..100), "each line once");
        }
    }

    #[test]
    fn a_file_that_another_renamed_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let (mut log, _) = file(&path, by_size(1000, None));
        write(&mut log, "one\n");
        fs::rename(&path, folder.path().join("moved")).unwrap();
        write(&mut log, "two\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn a_link_keeps_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("a.log");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let (mut log, _) = file(&link, by_size(5, None));
        write(&mut log, "one\n");
        write(&mut log, "two\n");
        assert_eq!(rotated(folder.path()).len(), 1);
        assert_eq!(fs::read_to_string(&real).unwrap(), "two\n");
        assert!(link.is_symlink());
    }

    #[test]
    fn what_cannot_be_renamed_is_written_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let (mut log, counters) = file(&path, by_size(5, None));
        write(&mut log, "one\n");
        // A folder stands where the new name should come to lie: no clock can tell that name, so the whole folder goes.
        let gone = AtomicBool::new(true);
        fs::rename(folder.path().join("a.log"), folder.path().join("b")).unwrap();
        fs::create_dir(&path).unwrap();
        write(&mut log, "two\n");
        write(&mut log, "three\n");
        assert!(gone.into_inner());
        assert_eq!(
            fs::read_to_string(folder.path().join("b")).unwrap(),
            "one\ntwo\nthree\n"
        );
        assert_eq!(
            counters.errors.load(Ordering::Relaxed),
            1,
            "told once a minute"
        );
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_an_error_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let error = LogFile::open(&path, &Arc::default()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
    }
}
