//! Users with passwords (RFC 7617) from an htpasswd file: bcrypt (`$2y$ $2a$ $2b$`), argon2id, and `{SHA}` for files that
//! have it still.
//!
//! An unknown user costs what a known one costs: the password is held against the hash of some user of the file, which one
//! depends on the name that was sent, and the answer is no.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordVerifier};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use thiserror::Error;

use super::error::AuthError;
use super::hashing::{Hashing, Unhashed};
use crate::value::principal::Principal;

/// A `basic` source.
pub struct Users {
    users: HashMap<Box<str>, User>,
    /// The hashes of all users, for names that are none.
    decoys: Vec<Arc<Hash>>,
    random: RandomState,
}

/// A line of an htpasswd file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadLine {
    /// No `user:hash`.
    #[error("is not of the form `user:hash`")]
    Shape,
    /// A hash of a kind that is not supported.
    #[error("has a hash of an unsupported kind")]
    Unsupported,
    /// A hash that is broken or beyond any sensible cost.
    #[error("has a broken hash, or one that costs more than a login may")]
    Hash,
    /// The user has a line already.
    #[error("names a user again that line {0} has")]
    Duplicate(usize),
}

/// What an htpasswd file holds.
#[derive(Debug)]
pub struct Parsed {
    /// The users.
    pub users: Users,
    /// The lines that cannot be used, counted from 1.
    pub bad: Vec<(usize, BadLine)>,
    /// The first line with an unsalted `{SHA}` hash.
    pub weak: Option<usize>,
}

struct User {
    hash: Arc<Hash>,
    principal: Arc<Principal>,
}

enum Hash {
    Sha1(Box<[u8]>),
    Bcrypt(Box<str>),
    Argon2(Box<str>),
}

/// A user name and a password as sent.
pub(super) struct Login {
    pair: Vec<u8>,
    colon: usize,
}

impl Users {
    /// Reads an htpasswd file for the source `name`.
    #[must_use]
    pub fn parse(text: &str, name: &Arc<str>) -> Parsed {
        let mut lines: HashMap<&str, usize> = HashMap::new();
        let mut users = HashMap::new();
        let mut decoys = Vec::new();
        let mut bad = Vec::new();
        let mut weak = None;
        for (at, line) in text.lines().enumerate() {
            let at = at + 1;
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, hash) = match Self::line(line) {
                Ok(parts) => parts,
                Err(mistake) => {
                    bad.push((at, mistake));
                    continue;
                }
            };
            if let Some(first) = lines.insert(user, at) {
                bad.push((at, BadLine::Duplicate(first)));
                continue;
            }
            if matches!(hash, Hash::Sha1(_)) {
                weak = weak.or(Some(at));
            }
            let hash = Arc::new(hash);
            decoys.push(Arc::clone(&hash));
            let principal = Arc::new(Principal {
                user: Arc::from(user),
                source: Arc::clone(name),
                roles: Vec::new(),
                claims: serde_json::Map::new(),
                device: serde_json::Map::new(),
                expires: None,
            });
            users.insert(Box::from(user), User { hash, principal });
        }
        let random = RandomState::new();
        let users = Self {
            users,
            decoys,
            random,
        };
        Parsed { users, bad, weak }
    }

    /// How many users there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Holds a login against the file.
    pub(super) async fn verify(
        &self,
        login: Login,
        hashing: &Hashing,
        held: &dyn Fn() -> Option<Duration>,
    ) -> Result<Result<Arc<Principal>, AuthError>, Unhashed> {
        let Some(name) = login.user() else {
            return Ok(Err(AuthError::Malformed));
        };
        let user = self.users.get(name);
        let Some(hash) = user.map(|user| &user.hash).or_else(|| self.decoy(name)) else {
            return Ok(Err(AuthError::Unknown)); // the file has no user at all
        };
        let right = if let Hash::Sha1(_) = **hash {
            hash.fits(login.password())
        } else {
            let hash = Arc::clone(hash);
            hashing
                .run(held, move || hash.fits(login.password()))
                .await?
        };
        Ok(match user {
            Some(user) if right => Ok(Arc::clone(&user.principal)),
            Some(_) | None => Err(AuthError::Unknown),
        })
    }

    fn decoy(&self, name: &str) -> Option<&Arc<Hash>> {
        let number = self.random.hash_one(name);
        let count = u64::try_from(self.decoys.len()).ok()?;
        let at = usize::try_from(number.checked_rem(count)?).ok()?;
        self.decoys.get(at)
    }

    fn line(line: &str) -> Result<(&str, Hash), BadLine> {
        let (user, hash) = line.split_once(':').ok_or(BadLine::Shape)?;
        if user.is_empty() || user.trim() != user || user.contains(char::is_control) {
            return Err(BadLine::Shape);
        }
        Ok((user, Hash::parse(hash)?))
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users")
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

impl Hash {
    fn parse(text: &str) -> Result<Self, BadLine> {
        if let Some(sha) = text.strip_prefix("{SHA}") {
            let bytes = STANDARD.decode(sha).ok().ok_or(BadLine::Hash)?;
            return if bytes.len() == 20 {
                Ok(Self::Sha1(bytes.into_boxed_slice()))
            } else {
                Err(BadLine::Hash)
            };
        }
        if ["$2y$", "$2a$", "$2b$"]
            .iter()
            .any(|kind| text.starts_with(kind))
        {
            let parts: bcrypt::HashParts = text.parse().ok().ok_or(BadLine::Hash)?;
            return if BCRYPT_COSTS.contains(&parts.get_cost()) {
                Ok(Self::Bcrypt(Box::from(text)))
            } else {
                Err(BadLine::Hash)
            };
        }
        if text.starts_with("$argon2id$") {
            let hash = PasswordHash::new(text).ok().ok_or(BadLine::Hash)?;
            let params = Params::try_from(&hash).ok().ok_or(BadLine::Hash)?;
            let cost = u64::from(params.m_cost()) * u64::from(params.t_cost());
            let whole = hash.hash.is_some() && hash.salt.is_some();
            return if whole && params.m_cost() <= ARGON2_KIB_MAX && cost <= ARGON2_WORK_MAX {
                Ok(Self::Argon2(Box::from(text)))
            } else {
                Err(BadLine::Hash)
            };
        }
        Err(BadLine::Unsupported)
    }

    fn fits(&self, password: &[u8]) -> bool {
        match self {
            Self::Sha1(want) => {
                let got = digest(&SHA1_FOR_LEGACY_USE_ONLY, password);
                verify_slices_are_equal(want, got.as_ref()).is_ok()
            }
            // A password beyond 72 bytes is cut, as every htpasswd tool cuts it when it makes the hash.
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Argon2(hash) => Argon2::default().verify_password(password, &**hash).is_ok(),
        }
    }
}

impl Login {
    /// Reads what follows `Basic ` (RFC 7617 §2): base64 of `user:password` in UTF-8, without control characters.
    pub(super) fn read(credential: &str) -> Result<Self, AuthError> {
        if credential.len() > LOGIN_BYTES_MAX {
            return Err(AuthError::TooLarge);
        }
        let pair = LENIENT
            .decode(credential)
            .ok()
            .ok_or(AuthError::Malformed)?;
        let text = str::from_utf8(&pair).ok().ok_or(AuthError::Malformed)?;
        if text.contains(|c: char| c.is_ascii_control()) {
            return Err(AuthError::Malformed);
        }
        let colon = text.find(':').ok_or(AuthError::Malformed)?;
        Ok(Self { pair, colon })
    }

    fn user(&self) -> Option<&str> {
        str::from_utf8(self.pair.get(..self.colon)?).ok()
    }

    fn password(&self) -> &[u8] {
        self.pair.get(self.colon + 1..).unwrap_or_default()
    }
}

/// Padding is optional: some clients leave it out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// The largest `Basic` credential that is read.
const LOGIN_BYTES_MAX: usize = 4 * 1024;
/// Cost 16 takes seconds; what is beyond is a mistake.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=16;
/// 1 GiB.
const ARGON2_KIB_MAX: u32 = 1024 * 1024;
/// Memory in KiB times passes: some seconds.
const ARGON2_WORK_MAX: u64 = 4 * 1024 * 1024;
