//! Accounts and certificates as files: one folder for each directory, readable by nobody else.
//!
//! ```text
//! acme-v02.api.letsencrypt.org-0a1b2c3d/
//!   account-4e5f6a7b.json      the account of one e-mail address: its URL and its key
//!   app.example.com.pem        chain and key, replaced in one step
//!   app.example.com.failed     how often the last orders failed, and when
//!   lock                       held by the process that orders
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use instant_acme::AccountCredentials;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use crate::snapshot::acme::Settings;
use crate::snapshot::tls::{Certificate, TlsError};

/// The files of one authority.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
    account: String,
}

/// The right to order, for as long as this lives. The kernel takes it back from a process that ended.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "an open file holds the lock")] File);

/// Orders that failed, in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failures {
    pub(super) count: u32,
    /// In seconds since 1970.
    pub(super) last: i64,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StorageError {
    #[error("cannot read or write `{path}`")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` holds no chain and key in PEM form")]
    Pem { path: PathBuf },
    #[error("`{path}` holds no certificate that can be used")]
    Certificate {
        path: PathBuf,
        #[source]
        source: TlsError,
    },
    #[error("`{path}` holds no account")]
    Account {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl Folder {
    /// Of the authority in `settings`. Nothing is made yet.
    pub(super) fn new(settings: &Settings) -> Self {
        let host = &settings.directory.server.authority;
        let host = host.split(':').next().unwrap_or_default();
        let host: String = host
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
            .collect();
        let bound = settings.external_account.as_ref();
        let bound = bound.map_or("", |account| &*account.id);
        let owner = format!("{}\n{bound}", settings.email);
        Self {
            path: settings
                .storage
                .join(format!("{host}-{}", print(&settings.url))),
            account: format!("account-{}.json", print(&owner)),
        }
    }

    /// Asks for the right to order; nothing where another process has it.
    pub(super) fn lock(&self) -> Result<Option<Lock>, StorageError> {
        let path = self.path.join("lock");
        let failed = |source| StorageError::File {
            path: path.clone(),
            source,
        };
        self.make().map_err(failed)?;
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .mode(PRIVATE);
        let file = file.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// The certificate of a name, if there is one.
    pub(super) fn certificate(&self, name: &str) -> Result<Option<Certificate>, StorageError> {
        let path = self.path.join(format!("{name}.pem"));
        let Some(content) = read(&path)? else {
            return Ok(None);
        };
        certificate(&content)
            .ok_or_else(|| StorageError::Pem { path: path.clone() })?
            .map(Some)
            .map_err(|source| StorageError::Certificate { path, source })
    }

    /// Keeps a certificate in place of the one before.
    pub(super) fn keep(&self, name: &str, chain_and_key: &str) -> Result<(), StorageError> {
        self.write(&format!("{name}.pem"), chain_and_key.as_bytes())
    }

    /// The account, if there is one.
    pub(super) fn account(&self) -> Result<Option<AccountCredentials>, StorageError> {
        let path = self.path.join(&self.account);
        let Some(content) = read(&path)? else {
            return Ok(None);
        };
        let account = serde_json::from_slice(&content);
        account
            .map(Some)
            .map_err(|source| StorageError::Account { path, source })
    }

    /// Keeps the account.
    pub(super) fn keep_account(&self, account: &AccountCredentials) -> Result<(), StorageError> {
        let path = self.path.join(&self.account);
        let text = serde_json::to_vec(account);
        let text = text.map_err(|source| StorageError::Account { path, source })?;
        self.write(&self.account, &text)
    }

    /// Puts an account aside that its authority does not know any more.
    pub(super) fn drop_account(&self) -> Result<(), StorageError> {
        let path = self.path.join(&self.account);
        let aside = path.with_extension("unknown");
        fs::rename(&path, aside).map_err(|source| StorageError::File { path, source })
    }

    /// Failures of a name before now; what cannot be read counts as none.
    pub(super) fn failures(&self, name: &str) -> Option<Failures> {
        let content = read(&self.path.join(format!("{name}.failed"))).ok()??;
        serde_json::from_slice(&content).ok()
    }

    /// Notes failures for the process after this one, or that there are none any more.
    pub(super) fn note(&self, name: &str, failures: Option<Failures>) -> Result<(), StorageError> {
        let file = format!("{name}.failed");
        let path = self.path.join(&file);
        match failures.map(|failures| serde_json::to_vec(&failures)) {
            Some(Ok(text)) => self.write(&file, &text),
            Some(Err(source)) => Err(StorageError::Account { path, source }),
            None => match fs::remove_file(&path) {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    Err(StorageError::File { path, source })
                }
                Ok(()) | Err(_) => Ok(()),
            },
        }
    }

    fn make(&self) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
    }

    /// Writes a file beside, and puts it in its place when all of it is on the disk.
    fn write(&self, name: &str, content: &[u8]) -> Result<(), StorageError> {
        let path = self.path.join(name);
        let beside = self.path.join(format!(".{name}.{}", std::process::id()));
        let written = || -> io::Result<()> {
            self.make()?;
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            // New and ours alone before the first byte is in it.
            let mut options = OpenOptions::new();
            let mut file = options
                .create_new(true)
                .write(true)
                .mode(PRIVATE)
                .open(&beside)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.path)?.sync_all()
        };
        written().map_err(|source| StorageError::File { path, source })
    }
}

/// Chain and key of one file; nothing where one of them is not there.
pub(super) fn certificate(pem: &[u8]) -> Option<Result<Certificate, TlsError>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty())?;
    let key = PrivateKeyDer::from_pem_slice(pem).ok()?;
    Some(Certificate::new(chain, key))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    let mut content = Vec::new();
    let outcome = File::open(path).and_then(|file| file.take(SIZE_MAX).read_to_end(&mut content));
    match outcome {
        Ok(_) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StorageError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Eight hex digits that tell one text from another.
fn print(text: &str) -> String {
    let sum = digest(&SHA256, text.as_bytes());
    let bytes = sum.as_ref().iter().take(4);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// For its owner only.
const PRIVATE: u32 = 0o600;
/// More than any chain and key, or account.
const SIZE_MAX: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "tests may stop at the first surprise"
    )]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn folder(path: &Path) -> Folder {
        Folder {
            path: path.join("ca.test-00000000"),
            account: "account.json".to_owned(),
        }
    }

    fn pem(name: &str) -> String {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn what_is_kept_is_private_and_comes_back() {
        let place = tempfile::tempdir().unwrap();
        let folder = folder(place.path());
        assert!(
            folder.certificate("app.test").unwrap().is_none(),
            "no folder yet"
        );
        folder.keep("app.test", &pem("app.test")).unwrap();
        folder.keep("app.test", &pem("app.test")).unwrap();
        let held = folder.certificate("app.test").unwrap().unwrap();
        assert_eq!(held.names(), [Box::from("app.test")]);
        let failed = Failures {
            count: 3,
            last: 1_900_000_000,
        };
        folder.note("app.test", Some(failed)).unwrap();
        assert_eq!(folder.failures("app.test"), Some(failed));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.path), 0o700);
        for entry in fs::read_dir(&folder.path).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
        folder.note("app.test", None).unwrap();
        folder.note("app.test", None).unwrap();
        assert_eq!(folder.failures("app.test"), None);
    }

    #[test]
    fn files_that_hold_something_else_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let folder = folder(place.path());
        let (one, other) = (pem("a.test"), pem("b.test"));
        let half = one.split_once("-----BEGIN PRIVATE").unwrap().0;
        let key = other.find("-----BEGIN PRIVATE").unwrap();
        let mixed = format!("{half}{}", other.split_at(key).1);
        for (content, why) in [
            ("", "nothing"),
            ("garbage", "no PEM"),
            (half, "no key"),
            (&*mixed, "the key of another"),
        ] {
            folder.keep("app.test", content).unwrap();
            assert!(folder.certificate("app.test").is_err(), "{why}");
        }
    }

    #[test]
    fn only_one_orders_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let folder = folder(place.path());
        let first = folder.lock().unwrap();
        assert!(first.is_some());
        assert!(folder.lock().unwrap().is_none(), "another holds it");
        drop(first);
        assert!(folder.lock().unwrap().is_some(), "it was given back");
    }
}
