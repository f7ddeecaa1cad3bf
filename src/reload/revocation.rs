//! What is revoked while running, kept on disk beside the file of `[revocation]`, so that neither a restart nor a new binary
//! makes a revoked credential count again.
//!
//! The file beside is this program's own. Several processes on one file (an old and a new binary for a moment, or two
//! instances for good) see each other's words: who finds it changed reads it anew. Without `[revocation] file`
//! there is none, and the words live as long as the process.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;

use crate::config::compile::revocation::{beside, read, write};
use crate::identity::revocation::{Added, Keeping, Revocation, Revoked};

/// Whether a change outlives the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is on disk.
    Disk,
    /// It is not: there is no file, or it cannot be written.
    Memory,
}

/// Too many entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{ENTRIES_MAX} credentials are revoked already; long lists belong into the file of `[revocation]`"
)]
pub struct Full;

/// Adds an entry, in the place of one that means the same.
///
/// # Errors
/// Where there are too many.
pub fn add(added: &Added, entry: Revoked, now: Timestamp) -> Result<Kept, Full> {
    let mut keeping = added.keeping();
    take_in(added, &mut keeping);
    let mut entries = live(added, now);
    entries.retain(|known| !known.same(&entry));
    if entries.len() >= ENTRIES_MAX {
        return Err(Full);
    }
    entries.push(Arc::new(entry));
    added.replace(entries);
    Ok(store(added, &mut keeping))
}

/// Takes an entry back; nothing where there is none that means the same.
#[must_use]
pub fn undo(added: &Added, entry: &Revoked, now: Timestamp) -> Option<Kept> {
    let mut keeping = added.keeping();
    take_in(added, &mut keeping);
    let mut entries = live(added, now);
    let before = entries.len();
    entries.retain(|known| !known.same(entry));
    if entries.len() == before {
        return None;
    }
    added.replace(entries);
    Some(store(added, &mut keeping))
}

/// Keeps the entries beside the file of this configuration from now on.
pub(super) fn follow(revocation: &Revocation) {
    let path = revocation.file.as_ref().map(|file| beside(&file.path));
    let added = &revocation.added;
    let mut keeping = added.keeping();
    if keeping.path != path {
        let first = keeping.path.is_none();
        *keeping = Keeping {
            path,
            seen: None,
            behind: !first && !added.list().entries().is_empty(),
        };
    }
    take_in(added, &mut keeping);
    if keeping.behind {
        store(added, &mut keeping);
    }
}

/// Reads what another process has written, forgets what is over, and writes what could not be written before.
pub(super) fn tidy(added: &Added, now: Timestamp) {
    let mut keeping = added.keeping();
    take_in(added, &mut keeping);
    let entries = live(added, now);
    let over = entries.len() < added.list().entries().len();
    if over {
        added.replace(entries);
    }
    if over || keeping.behind {
        store(added, &mut keeping);
    }
}

fn live(added: &Added, now: Timestamp) -> Vec<Arc<Revoked>> {
    let list = added.list();
    let live = list.entries().iter().filter(|entry| !entry.over(now));
    live.cloned().collect()
}

/// Takes in what the file says, where it is another one than before.
fn take_in(added: &Added, keeping: &mut Keeping) {
    let Some(path) = &keeping.path else { return };
    let seen = print(path);
    if seen == keeping.seen {
        return;
    }
    match read(path) {
        Ok(entries) => {
            let mut entries: Vec<_> = entries
                .unwrap_or_default()
                .into_iter()
                .map(Arc::new)
                .collect();
            if keeping.behind {
                // What it never got to know is not undone by that.
                for known in added.list().entries() {
                    if !entries.iter().any(|entry| entry.same(known)) {
                        entries.push(Arc::clone(known));
                    }
                }
            }
            keeping.seen = seen;
            added.replace(entries);
        }
        Err(mistake) => {
            keeping.seen = seen;
            keeping.behind = true;
            let path = path.display();
            tracing::error!(%path, mistake, "what was revoked while running cannot be read; what is known stays in force");
        }
    }
}

fn store(added: &Added, keeping: &mut Keeping) -> Kept {
    let Some(path) = &keeping.path else {
        return Kept::Memory;
    };
    match replace(path, &write(added.list().entries())) {
        Ok(()) => {
            keeping.seen = print(path);
            keeping.behind = false;
            Kept::Disk
        }
        Err(error) => {
            let path = path.display();
            if !keeping.behind {
                tracing::error!(%path, %error, "what was revoked while running cannot be written; it ends with this process");
            }
            keeping.behind = true;
            Kept::Memory
        }
    }
}

/// Replaces a file in one step, and only when the new content is on the disk.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}", std::process::id()));
    let new = Path::new(&new);
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(0o640);
    let written = open.open(new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let moved = written.and_then(|()| std::fs::rename(new, path));
    if moved.is_err() {
        drop(std::fs::remove_file(new));
        return moved;
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all())
}

fn print(path: &Path) -> Option<(SystemTime, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

/// Entries added while running.
const ENTRIES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use std::path::PathBuf;

    use super::*;
    use crate::identity::revocation::{List, ListFile, What};

    fn revocation(path: Option<PathBuf>) -> Revocation {
        Revocation {
            file: path.map(|path| ListFile {
                path,
                list: Arc::new(List::default()),
                at: None,
                kept: false,
            }),
            added: Arc::default(),
        }
    }

    fn entry(user: &str) -> Revoked {
        Revoked {
            what: What::Subject,
            value: Arc::from(user),
            source: None,
            issued_before: None,
            until: None,
            reason: None,
        }
    }

    fn users(revocation: &Revocation) -> Vec<String> {
        let list = revocation.added.list();
        list.entries()
            .iter()
            .map(|entry| entry.value.to_string())
            .collect()
    }

    #[test]
    fn words_are_kept_and_shared_through_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("revoked.toml");
        let now = Timestamp::now();
        let (old, new) = (
            revocation(Some(path.clone())),
            revocation(Some(path.clone())),
        );
        follow(&old);
        assert_eq!(add(&old.added, entry("anna"), now), Ok(Kept::Disk));
        follow(&new);
        assert_eq!(users(&new), ["anna"], "a new process knows it");
        add(&old.added, entry("bob"), now).unwrap();
        add(&new.added, entry("cora"), now).unwrap();
        tidy(&old.added, now);
        assert_eq!(
            users(&old),
            ["anna", "bob", "cora"],
            "neither overwrites the other's word"
        );
        add(&new.added, entry("anna"), now).unwrap();
        assert_eq!(
            users(&new),
            ["bob", "cora", "anna"],
            "the same again is one entry"
        );
        assert_eq!(undo(&new.added, &entry("bob"), now), Some(Kept::Disk));
        assert_eq!(undo(&new.added, &entry("bob"), now), None);
        let over = Revoked {
            until: Some(now),
            ..entry("dora")
        };
        add(&new.added, over, Timestamp::UNIX_EPOCH).unwrap();
        tidy(&new.added, now);
        assert_eq!(users(&new), ["cora", "anna"], "what is over is forgotten");

        std::fs::write(beside(&path), "[[").unwrap();
        let epoch = new.added.epoch();
        tidy(&new.added, now);
        assert_eq!(
            users(&new),
            ["cora", "anna"],
            "a broken file takes nothing back"
        );
        assert_eq!(new.added.epoch(), epoch);
        let again = revocation(Some(path));
        follow(&again);
        assert_eq!(users(&again), ["cora", "anna"], "and was written anew");
    }

    #[test]
    fn without_a_file_words_live_in_memory() {
        let none = revocation(None);
        follow(&none);
        assert_eq!(
            add(&none.added, entry("anna"), Timestamp::now()),
            Ok(Kept::Memory)
        );
        let lost = revocation(Some(PathBuf::from("/nowhere/revoked.toml")));
        follow(&lost);
        assert_eq!(
            add(&lost.added, entry("anna"), Timestamp::now()),
            Ok(Kept::Memory)
        );
        tidy(&lost.added, Timestamp::now());
        assert_eq!(users(&lost), ["anna"]);
    }
}
