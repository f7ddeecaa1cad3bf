//! Files that changed: folders are watched, since editors and ConfigMaps replace files instead of writing them, and what counts
//! is whether a file that the configuration reads is another one than before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Watches the files of a configuration.
#[derive(Debug)]
pub struct FileWatch {
    tell: mpsc::Sender<()>,
    watcher: Option<notify::RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Option<Print>>,
}

/// What tells one state of a file from another: time, length, and which file it is.
type Print = (SystemTime, u64, u64);

impl FileWatch {
    /// Starts; something happening in a watched folder sends a word. Where the system cannot watch, HUP still reloads.
    #[must_use]
    pub fn new(tell: mpsc::Sender<()>) -> Self {
        let word = tell.clone();
        let watcher = notify::recommended_watcher(move |_event| {
            // A full queue already says that something happened.
            let _sent = word.try_send(());
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "cannot watch files; use reload instead"))
            .ok();
        Self {
            tell,
            watcher,
            folders: BTreeSet::new(),
            files: BTreeMap::new(),
        }
    }

    /// Watches these files from now on. A file that was watched before is compared with what it was before; one that is new
    /// here and changed after `loaded`, when the configuration began to be read, may be another than the one that was read.
    pub fn set(&mut self, files: impl IntoIterator<Item = PathBuf>, loaded: SystemTime) {
        let mut doubtful = false;
        let mut prints = BTreeMap::new();
        for file in files {
            let print = self.files.remove(&file).unwrap_or_else(|| {
                let since = changed_at(&file).is_some_and(|at| at + CLOCK_TICK >= loaded);
                doubtful |= since;
                print(&file).filter(|_| !since)
            });
            prints.insert(file, print);
        }
        self.files = prints;
        let folders: BTreeSet<PathBuf> = self.files.keys().map(|file| folder(file)).collect();
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for gone in self.folders.difference(&folders) {
            drop(watcher.unwatch(gone));
        }
        for new in folders.difference(&self.folders) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %new.display(), %error, "cannot watch a folder; use reload instead");
            }
        }
        self.folders = folders;
        if doubtful {
            let _sent = self.tell.try_send(());
        }
    }

    /// Whether a watched file is another one than when last asked.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        for (file, before) in &mut self.files {
            let now = print(file);
            if now != *before {
                *before = now;
                changed = true;
            }
        }
        changed
    }
}

fn folder(file: &Path) -> PathBuf {
    if file.is_dir() {
        return file.to_owned();
    }
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

fn print(file: &Path) -> Option<Print> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.modified().ok()?, meta.len(), meta.ino()))
}

/// When the file was written or put in its place.
fn changed_at(file: &Path) -> Option<SystemTime> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(file).ok()?;
    let seconds = u64::try_from(meta.ctime()).ok()?;
    let nanos = u32::try_from(meta.ctime_nsec()).ok()?;
    Some(UNIX_EPOCH + Duration::new(seconds, nanos))
}

/// File systems keep time in ticks of the kernel, up to this much behind the clock.
const CLOCK_TICK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn a_file_that_changed_while_it_was_read_counts_as_changed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list.txt");
        std::fs::write(&file, "one").unwrap();
        let later = SystemTime::now() + Duration::from_secs(3600);
        for (loaded, doubtful, why) in [
            (later, false, "it was read after its last change"),
            (
                UNIX_EPOCH,
                true,
                "it may have been read before its last change",
            ),
        ] {
            let (tell, mut told) = mpsc::channel(1);
            let mut watch = FileWatch::new(tell);
            watch.set([file.clone()], loaded);
            assert_eq!(told.try_recv().is_ok(), doubtful, "{why}");
            assert_eq!(watch.changed(), doubtful, "{why}");
            assert!(!watch.changed(), "{why}: once");
            watch.set([file.clone()], UNIX_EPOCH);
            assert!(!watch.changed(), "{why}: it is known now");
        }
    }

    #[test]
    fn a_change_between_two_looks_is_kept_through_a_new_list() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list.txt");
        std::fs::write(&file, "one").unwrap();
        let later = SystemTime::now() + Duration::from_secs(3600);
        let (tell, _told) = mpsc::channel(1);
        let mut watch = FileWatch::new(tell);
        watch.set([file.clone()], later);
        std::fs::write(&file, "two words").unwrap();
        watch.set([file.clone()], later);
        assert!(watch.changed());
    }
}
