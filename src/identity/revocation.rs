//! Credentials that no longer count, although they are well made and their time is not over.
//!
//! Two lists: one that the operator writes, which belongs to a configuration, and one of what was said while running, which
//! belongs to the process and lives through reloads. A credential is looked up *behind* every cache, so what is added counts
//! for the next request. Where both lists are empty nothing is looked up: one branch.
//!
//! An entry names whom it means in one way: a subject (all credentials of that user), a token by its `jti`, an API key by its
//! id or by its digest, a client certificate by the digest of its key or by its serial number. This room reads no file.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use thiserror::Error;

use super::certificate::ClientCertificate;
use super::claims;
use crate::value::principal::Principal;

/// What an entry names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// A user, whatever the credential.
    Subject,
    /// A token by its `jti` (RFC 7519 §4.1.7).
    Token,
    /// An API key by its id, or by `sha256:` and its digest.
    Key,
    /// A client certificate by the SHA-256 digest of its public key.
    Spki,
    /// A client certificate by its serial number.
    Serial,
}

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// What it names.
    pub what: What,
    /// Which one.
    pub value: Arc<str>,
    /// Only where this identity source vouches.
    pub source: Option<Arc<str>>,
    /// Only credentials that were made before (`iat`); one that does not say when counts as made before.
    pub issued_before: Option<Timestamp>,
    /// When it ends, if it does.
    pub until: Option<Timestamp>,
    /// Why; for the log, never for the client.
    pub reason: Option<Arc<str>>,
}

/// A value cannot name anything of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadValue {
    /// Nothing, too much, or control characters.
    #[error("is empty, longer than {VALUE_BYTES_MAX} bytes, or has control characters")]
    Text,
    /// Not the digits of a digest.
    #[error("is no SHA-256 digest in 64 hexadecimal digits")]
    Digest,
    /// Not the digits of a serial number.
    #[error("is no serial number in hexadecimal digits")]
    Serial,
}

/// Entries, found by what they name.
#[derive(Debug, Default)]
pub struct List {
    entries: Vec<Arc<Revoked>>,
    found: HashMap<What, HashMap<Arc<str>, Vec<Arc<Revoked>>>>,
}

/// What was revoked while running. One for a process; it outlives every configuration.
#[derive(Debug, Default)]
pub struct Added {
    list: ArcSwap<List>,
    some: AtomicBool,
    epoch: AtomicU64,
    rejected: AtomicU64,
    keeping: Mutex<Keeping>,
}

/// Where the entries of [`Added`] are kept on disk.
#[derive(Debug, Default)]
pub struct Keeping {
    /// The file; none where they live in memory only.
    pub path: Option<PathBuf>,
    /// Its time and size as it was last read or written.
    pub seen: Option<(SystemTime, u64)>,
    /// Whether it lacks something that is in memory.
    pub behind: bool,
}

/// `[revocation]`.
#[derive(Debug, Clone, Default)]
pub struct Revocation {
    /// The operator's list.
    pub file: Option<ListFile>,
    /// What was added while running.
    pub added: Arc<Added>,
}

/// The operator's list.
#[derive(Debug, Clone)]
pub struct ListFile {
    /// Its path.
    pub path: PathBuf,
    /// Its entries.
    pub list: Arc<List>,
    /// When it was last written, where the system says.
    pub at: Option<Timestamp>,
    /// Whether it could not be read, and this is what it said before.
    pub kept: bool,
}

/// Looks credentials of one request up.
#[derive(Debug)]
pub struct Check<'r> {
    file: Option<&'r List>,
    added: Option<Arc<List>>,
    now: Timestamp,
    hit: RefCell<Option<Arc<Revoked>>>,
}

impl What {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Subject,
        Self::Token,
        Self::Key,
        Self::Spki,
        Self::Serial,
    ];

    /// The word of files, of the admin and of the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Token => "token",
            Self::Key => "key",
            Self::Spki => "spki",
            Self::Serial => "serial",
        }
    }

    /// A value in the one form in which it is compared.
    ///
    /// # Errors
    /// Where it can name nothing of this kind.
    pub fn value(self, text: &str) -> Result<Arc<str>, BadValue> {
        if text.is_empty() || text.len() > VALUE_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(BadValue::Text);
        }
        match self {
            Self::Subject | Self::Token => Ok(Arc::from(text)),
            Self::Key => match text.strip_prefix(DIGEST) {
                Some(digits) => Ok(Arc::from(format!("{DIGEST}{}", digest(digits)?))),
                None => Ok(Arc::from(text)),
            },
            Self::Spki => Ok(Arc::from(digest(
                text.strip_prefix(DIGEST).unwrap_or(text),
            )?)),
            Self::Serial => {
                let digits = hex(text).ok_or(BadValue::Serial)?;
                Ok(match digits.trim_start_matches('0') {
                    "" => Arc::from("0"),
                    digits => Arc::from(digits),
                })
            }
        }
    }
}

impl FromStr for What {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let known = Self::ALL.into_iter().find(|what| what.word() == word);
        known.ok_or(())
    }
}

impl Revoked {
    /// Whether both mean the same: the later one takes the place of the other.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.what == other.what && self.value == other.value && self.source == other.source
    }

    /// Whether its time is over.
    #[must_use]
    pub fn over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|end| now >= end)
    }

    fn covers(&self, source: Option<&str>, made: Option<i64>, now: Timestamp) -> bool {
        let of_source = match (&self.source, source) {
            (None, _) => true,
            (Some(only), Some(source)) => **only == *source,
            (Some(_), None) => false,
        };
        let before = self.issued_before.map(Timestamp::as_second);
        let early = match (before, made) {
            (Some(before), Some(made)) => made < before,
            (Some(_) | None, _) => true,
        };
        of_source && early && !self.over(now)
    }
}

impl fmt::Display for Revoked {
    /// For logs of the operator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.what.word(), self.value)
    }
}

impl List {
    /// A list of these.
    #[must_use]
    pub fn new(entries: Vec<Revoked>) -> Self {
        Self::of(entries.into_iter().map(Arc::new).collect())
    }

    fn of(entries: Vec<Arc<Revoked>>) -> Self {
        let mut found: HashMap<What, HashMap<Arc<str>, Vec<Arc<Revoked>>>> = HashMap::new();
        for entry in &entries {
            let named = found.entry(entry.what).or_default();
            let named = named.entry(Arc::clone(&entry.value)).or_default();
            named.push(Arc::clone(entry));
        }
        Self { entries, found }
    }

    /// All entries, in the order in which they were written.
    #[must_use]
    pub fn entries(&self) -> &[Arc<Revoked>] {
        &self.entries
    }

    /// How many count at a time.
    #[must_use]
    pub fn in_force(&self, now: Timestamp) -> usize {
        self.entries.iter().filter(|entry| !entry.over(now)).count()
    }

    fn find(
        &self,
        what: What,
        value: &str,
        source: Option<&str>,
        made: Option<i64>,
        now: Timestamp,
    ) -> Option<&Arc<Revoked>> {
        let named = self.found.get(&what)?.get(value)?;
        named.iter().find(|entry| entry.covers(source, made, now))
    }
}

impl Added {
    /// Rises with every change.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The entries now.
    #[must_use]
    pub fn list(&self) -> Arc<List> {
        self.list.load_full()
    }

    /// How many requests came with a revoked credential.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Counts one of them.
    pub fn reject(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Whoever changes the list holds this meanwhile.
    pub fn keeping(&self) -> MutexGuard<'_, Keeping> {
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the list. The caller holds [`Added::keeping`].
    pub fn replace(&self, entries: Vec<Arc<Revoked>>) {
        let some = !entries.is_empty();
        let before = self.list.load_full();
        self.list.store(Arc::new(List::of(entries)));
        self.some.store(some, Ordering::Release);
        if self.list.load().entries != before.entries {
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn current(&self) -> Option<Arc<List>> {
        self.some
            .load(Ordering::Acquire)
            .then(|| self.list.load_full())
    }
}

impl Revocation {
    /// What looks the credentials of a request up; nothing where nothing is revoked.
    #[must_use]
    pub fn check(&self, now: Timestamp) -> Option<Check<'_>> {
        let file = self.file.as_ref().map(|file| &*file.list);
        let file = file.filter(|list| !list.entries.is_empty());
        let added = self.added.current();
        (file.is_some() || added.is_some()).then_some(Check {
            file,
            added,
            now,
            hit: RefCell::new(None),
        })
    }
}

impl Check<'_> {
    /// Whether the credential behind a principal is revoked, by its subject or its `jti`.
    #[must_use]
    pub fn principal(&self, principal: &Principal) -> bool {
        let source = Some(&*principal.source);
        let made = principal.claims.get("iat").and_then(claims::numeric_date);
        let user = &*principal.user;
        let token = principal.claims.get("jti");
        let token = token.and_then(serde_json::Value::as_str);
        (!user.is_empty() && self.look(What::Subject, user, source, made))
            || token.is_some_and(|token| self.look(What::Token, token, source, made))
    }

    /// Whether an API key is revoked, by its id or its digest.
    #[must_use]
    pub fn key(&self, id: &str, sha256: &[u8; 32], source: &str) -> bool {
        self.look(What::Key, id, Some(source), None)
            || self.look(What::Key, &key_digest(sha256), Some(source), None)
    }

    /// Whether a client certificate is revoked.
    #[must_use]
    pub fn certificate(&self, certificate: &ClientCertificate) -> bool {
        self.look(What::Spki, &certificate.spki, None, None)
            || self.look(What::Serial, &certificate.serial, None, None)
    }

    /// The word of the access log (`auth.error`) for what was found last: `revoked`, and why.
    #[must_use]
    pub fn words(&self) -> Arc<str> {
        let hit = self.hit.borrow();
        match hit.as_ref().and_then(|hit| hit.reason.as_ref()) {
            Some(reason) => Arc::from(format!("revoked: {reason}")),
            None => Arc::from("revoked"),
        }
    }

    fn look(&self, what: What, value: &str, source: Option<&str>, made: Option<i64>) -> bool {
        let lists = self.file.into_iter().chain(self.added.as_deref());
        for list in lists {
            if let Some(found) = list.find(what, value, source, made, self.now) {
                self.hit.replace(Some(Arc::clone(found)));
                return true;
            }
        }
        false
    }
}

/// How a digest of an API key is written.
#[must_use]
pub fn key_digest(sha256: &[u8; 32]) -> String {
    let digits = sha256.iter().map(|byte| format!("{byte:02x}"));
    format!("{DIGEST}{}", digits.collect::<String>())
}

fn digest(text: &str) -> Result<String, BadValue> {
    let digits = hex(text).ok_or(BadValue::Digest)?;
    if digits.len() == 64 {
        Ok(digits)
    } else {
        Err(BadValue::Digest)
    }
}

/// Hexadecimal digits in lower case; colons between them are how other tools print them.
fn hex(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|digit| *digit != ':').collect();
    let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all.then(|| digits.to_ascii_lowercase())
}

const DIGEST: &str = "sha256:";
/// The longest value of an entry.
pub const VALUE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use serde_json::json;

    use super::*;

    fn entry(what: What, value: &str) -> Revoked {
        Revoked {
            what,
            value: what.value(value).unwrap(),
            source: None,
            issued_before: None,
            until: None,
            reason: None,
        }
    }

    fn principal(user: &str, source: &str, claims: &serde_json::Value) -> Principal {
        Principal {
            user: Arc::from(user),
            source: Arc::from(source),
            roles: Vec::new(),
            claims: claims.as_object().unwrap().clone(),
            device: serde_json::Map::new(),
            expires: None,
        }
    }

    #[test]
    fn an_entry_means_whom_it_names_and_nobody_else() {
        let now = Timestamp::from_second(1_000).unwrap();
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let anna = || entry(What::Subject, "anna");
        for (entry, user, source, claims, want, why) in [
            (anna(), "bob", "sso", json!({}), false, "another"),
            (anna(), "", "sso", json!({}), false, "a token of nobody"),
            (anna(), "anna", "sso", json!({}), true, "this one"),
            (
                Revoked {
                    source: Some(Arc::from("sso")),
                    ..anna()
                },
                "anna",
                "staff",
                json!({}),
                false,
                "of another source",
            ),
            (
                Revoked {
                    source: Some(Arc::from("sso")),
                    ..anna()
                },
                "anna",
                "sso",
                json!({}),
                true,
                "of this source",
            ),
            (
                Revoked {
                    until: at(1_000),
                    ..anna()
                },
                "anna",
                "sso",
                json!({}),
                false,
                "its end has come",
            ),
            (
                Revoked {
                    until: at(1_001),
                    ..anna()
                },
                "anna",
                "sso",
                json!({}),
                true,
                "its last second",
            ),
            (
                Revoked {
                    issued_before: at(900),
                    ..anna()
                },
                "anna",
                "sso",
                json!({ "iat": 900 }),
                false,
                "made after",
            ),
            (
                Revoked {
                    issued_before: at(900),
                    ..anna()
                },
                "anna",
                "sso",
                json!({ "iat": 899 }),
                true,
                "made before",
            ),
            (
                Revoked {
                    issued_before: at(900),
                    ..anna()
                },
                "anna",
                "sso",
                json!({}),
                true,
                "does not say when",
            ),
            (
                entry(What::Token, "j-1"),
                "anna",
                "sso",
                json!({ "jti": "j-2" }),
                false,
                "another token",
            ),
            (
                entry(What::Token, "j-1"),
                "anna",
                "sso",
                json!({ "jti": 1 }),
                false,
                "no token's name",
            ),
            (
                entry(What::Token, "j-1"),
                "anna",
                "sso",
                json!({ "jti": "j-1" }),
                true,
                "this token",
            ),
            (
                entry(What::Token, "anna"),
                "anna",
                "sso",
                json!({}),
                false,
                "a subject is no token",
            ),
        ] {
            let added = Arc::new(Added::default());
            added.replace(vec![Arc::new(entry.clone())]);
            let file = ListFile {
                path: PathBuf::new(),
                list: Arc::new(List::new(vec![entry])),
                at: None,
                kept: false,
            };
            for revocation in [
                Revocation { file: None, added },
                Revocation {
                    file: Some(file),
                    added: Arc::default(),
                },
            ] {
                let check = revocation.check(now).unwrap();
                assert_eq!(
                    check.principal(&principal(user, source, &claims)),
                    want,
                    "{why}"
                );
            }
        }
    }

    #[test]
    fn nothing_revoked_is_nothing_looked_up() {
        let revocation = Revocation::default();
        let now = Timestamp::UNIX_EPOCH;
        assert!(revocation.check(now).is_none());
        revocation
            .added
            .replace(vec![Arc::new(entry(What::Subject, "anna"))]);
        assert!(revocation.check(now).is_some());
        let epoch = revocation.added.epoch();
        revocation
            .added
            .replace(vec![Arc::new(entry(What::Subject, "anna"))]);
        assert_eq!(
            revocation.added.epoch(),
            epoch,
            "the same again is no change"
        );
        revocation.added.replace(Vec::new());
        assert!(revocation.check(now).is_none());
        assert!(revocation.added.epoch() > epoch);
    }

    #[test]
    fn values_have_one_form() {
        let digest = "AB".repeat(32);
        for (what, text, want) in [
            (What::Subject, "", Err(BadValue::Text)),
            (What::Subject, "a\nb", Err(BadValue::Text)),
            (What::Subject, "Anna", Ok("Anna".to_owned())),
            (What::Key, "ci", Ok("ci".to_owned())),
            (What::Key, "sha256:12", Err(BadValue::Digest)),
            (What::Spki, &*digest, Ok("ab".repeat(32))),
            (What::Spki, "xyz", Err(BadValue::Digest)),
            (What::Serial, "00:AB:cd", Ok("abcd".to_owned())),
            (What::Serial, "00", Ok("0".to_owned())),
            (What::Serial, "", Err(BadValue::Text)),
            (What::Serial, ":", Err(BadValue::Serial)),
        ] {
            let got = what.value(text).map(|value| value.to_string());
            assert_eq!(got, want, "{text}");
        }
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        assert_eq!(What::Subject.value(&long), Err(BadValue::Text));
    }
}
