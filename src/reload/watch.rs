//! Files that changed: folders are watched, since editors and ConfigMaps replace files instead of writing them, and what counts
//! is whether a file that the configuration reads is another one than before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Watches the files of a configuration.
#[derive(Debug)]
pub struct FileWatch {
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
        let watcher = notify::recommended_watcher(move |_event| {
            // A full queue already says that something happened.
            let _sent = tell.try_send(());
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "cannot watch files; use reload instead"))
            .ok();
        Self {
            watcher,
            folders: BTreeSet::new(),
            files: BTreeMap::new(),
        }
    }

    /// Watches these files from now on.
    pub fn set(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        self.files = files
            .into_iter()
            .map(|file| (file.clone(), print(&file)))
            .collect();
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
