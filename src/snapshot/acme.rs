//! Certificates that an ACME authority issues (RFC 8555), as data: the names they are for, where they are kept, and the
//! challenges that are pending.
//!
//! It speaks with nobody and reads no file: `server::acme` orders and stores, and fills the slots that are kept here.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use rustls::ServerConfig;

use super::Remote;
use super::tls::Certificate;

/// `acme` of a listener: an authority, an account there, and the names that want certificates.
#[derive(Debug)]
pub struct Issuance {
    /// What was written.
    pub settings: Arc<Settings>,
    /// One certificate each.
    pub names: Vec<Arc<Slot>>,
}

/// Where certificates come from.
#[derive(Debug)]
pub struct Settings {
    /// The URL of the authority's directory (RFC 8555 §7.1.1).
    pub url: Arc<str>,
    /// The same, as it is asked; its TLS settings hold for every URL that the directory names.
    pub directory: Arc<Remote>,
    /// Tells the authorities of one `ca` from those of another.
    pub trust: u64,
    /// The account's contact.
    pub email: Arc<str>,
    /// How names are proved.
    pub challenge: Challenge,
    /// The folder of accounts and certificates.
    pub storage: PathBuf,
    /// An account of the authority's own that ours is bound to (RFC 8555 §7.3.4).
    pub external_account: Option<ExternalAccount>,
}

/// How a name is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Challenge {
    /// In a TLS handshake (RFC 8737), on port 443.
    #[default]
    TlsAlpn01,
    /// Over HTTP (RFC 8555 §8.3), on port 80.
    Http01,
}

/// `external_account`. `{:?}` does not show the key.
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// Its identifier.
    pub id: Arc<str>,
    /// The MAC key.
    pub key: Arc<[u8]>,
}

/// The certificate of one name. Outlives reloads; a certificate that was good stays until a better one is there.
#[derive(Debug)]
pub struct Slot {
    name: Box<str>,
    held: ArcSwapOption<Certificate>,
    /// Orders that ended well, and others.
    orders: [AtomicU64; 2],
}

/// What outlives a load.
#[derive(Debug, Default, Clone)]
pub struct Kept {
    /// What authorities may ask for now.
    pub challenges: Arc<Challenges>,
    /// By directory, folder and name.
    slots: HashMap<(Arc<str>, PathBuf, Box<str>), Arc<Slot>>,
}

/// Challenges that we have asked an authority to check and that are not decided yet. Only these are ever answered.
#[derive(Debug, Default)]
pub struct Challenges {
    /// How many there are, so that those who never see one pay for a glance.
    count: AtomicUsize,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    /// By token: whose it is, and the answer.
    tokens: HashMap<Box<str>, (Box<str>, Bytes)>,
    /// By name.
    handshakes: HashMap<Box<str>, Arc<ServerConfig>>,
}

/// A challenge that is pending for as long as this lives.
#[derive(Debug)]
pub struct Offered {
    challenges: Arc<Challenges>,
    key: Key,
}

#[derive(Debug)]
enum Key {
    Token(Box<str>),
    Handshake(Box<str>),
}

impl Settings {
    /// Whether nothing differs that an order goes by.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.url == other.url
            && self.trust == other.trust
            && self.email == other.email
            && self.challenge == other.challenge
            && self.storage == other.storage
            && self.external_account == other.external_account
    }
}

impl Challenge {
    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        }
    }
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalAccount")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Slot {
    /// A name without a certificate yet. Lower case.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: Box::from(name),
            held: ArcSwapOption::empty(),
            orders: Default::default(),
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its certificate, if there is one yet.
    #[must_use]
    pub fn certificate(&self) -> Option<Arc<Certificate>> {
        self.held.load_full()
    }

    /// Serves this certificate from now on.
    pub fn fill(&self, certificate: Arc<Certificate>) {
        self.held.store(Some(certificate));
    }

    /// Looks at the certificate without taking a share in it.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Certificate) -> T) -> Option<T> {
        self.held.load().as_deref().map(look)
    }

    /// Counts an order that ended.
    pub fn ordered(&self, good: Outcome) {
        let [succeeded, failed] = &self.orders;
        let counter = match good {
            Outcome::Issued => succeeded,
            Outcome::Failed => failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Orders since the start that ended so.
    #[must_use]
    pub fn orders(&self, outcome: Outcome) -> u64 {
        let [succeeded, failed] = &self.orders;
        let counter = match outcome {
            Outcome::Issued => succeeded,
            Outcome::Failed => failed,
        };
        counter.load(Ordering::Relaxed)
    }
}

/// How an order ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With a certificate.
    Issued,
    /// Without.
    Failed,
}

impl Kept {
    /// The slot of a name, the same as long as directory and folder are the same.
    pub fn slot(&mut self, settings: &Settings, name: &str) -> Arc<Slot> {
        let key = (
            Arc::clone(&settings.url),
            settings.storage.clone(),
            Box::from(name),
        );
        let slot = self.slots.entry(key);
        Arc::clone(slot.or_insert_with(|| Arc::new(Slot::new(name))))
    }

    /// Forgets slots that no configuration holds.
    pub fn tidy(&mut self) {
        self.slots.retain(|_, slot| Arc::strong_count(slot) > 1);
    }
}

impl Challenges {
    /// Whether any is pending.
    #[must_use]
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// What is answered to who asks `host` for `token` (RFC 8555 §8.3).
    #[must_use]
    pub fn answer(&self, host: &str, token: &str) -> Option<Bytes> {
        let pending = self.lock();
        let (owner, answer) = pending.tokens.get(token)?;
        (**owner == *host).then(|| answer.clone())
    }

    /// The handshake that proves `name` (RFC 8737 §3).
    #[must_use]
    pub fn handshake(&self, name: &str) -> Option<Arc<ServerConfig>> {
        let name = name.to_ascii_lowercase();
        self.lock().handshakes.get(&*name).cloned()
    }

    /// Answers `token` on `host` from now on.
    #[must_use]
    pub fn offer_token(self: &Arc<Self>, host: &str, token: &str, answer: Bytes) -> Offered {
        let mut pending = self.lock();
        let held = (Box::from(host), answer);
        pending.tokens.insert(Box::from(token), held);
        self.offered(&pending, Key::Token(Box::from(token)))
    }

    /// Proves `name` in handshakes from now on.
    #[must_use]
    pub fn offer_handshake(self: &Arc<Self>, name: &str, config: Arc<ServerConfig>) -> Offered {
        let mut pending = self.lock();
        pending.handshakes.insert(Box::from(name), config);
        self.offered(&pending, Key::Handshake(Box::from(name)))
    }

    fn offered(self: &Arc<Self>, pending: &Pending, key: Key) -> Offered {
        self.recount(pending);
        Offered {
            challenges: Arc::clone(self),
            key,
        }
    }

    fn recount(&self, pending: &Pending) {
        let count = pending.tokens.len() + pending.handshakes.len();
        self.count.store(count, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        let mut pending = self.challenges.lock();
        match &self.key {
            Key::Token(token) => drop(pending.tokens.remove(token)),
            Key::Handshake(name) => drop(pending.handshakes.remove(name)),
        }
        self.challenges.recount(&pending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pending_token_is_answered_and_only_on_its_host() {
        let challenges = Arc::new(Challenges::default());
        assert!(!challenges.any(), "nothing was asked for");
        let offered = challenges.offer_token("app.test", "abc", Bytes::from_static(b"abc.print"));
        for (host, token, answered, why) in [
            ("app.test", "xyz", false, "another token"),
            ("other.test", "abc", false, "another host"),
            ("app.test", "", false, "no token"),
            ("app.test", "abc", true, "what the authority asks for"),
        ] {
            let answer = challenges.answer(host, token);
            assert_eq!(answer.is_some(), answered, "{why}");
        }
        assert!(challenges.any());
        drop(offered);
        assert!(!challenges.any(), "it is decided");
        assert!(challenges.answer("app.test", "abc").is_none());
    }
}
