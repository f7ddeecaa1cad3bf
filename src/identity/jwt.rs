//! Signed tokens (RFC 7519, RFC 7515), read and verified by the rules of RFC 8725.
//!
//! The order of the checks: size, shape, who claims it (algorithm and issuer), `crit`, `typ`, key, signature, and only then
//! what the token says: `exp` (required), `nbf`, `iat`, `aud` (required). The time is an argument.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::claims;
use super::error::AuthError;
use super::json::Object;
use super::keys::Key;
use super::remote::RemoteKeys;
use crate::value::principal::Principal;

/// A `jwt` source.
pub struct Jwt {
    /// Whose tokens these are; compared whole with `iss`.
    pub issuer: Box<str>,
    /// Whom they must be meant for: one of these stands in `aud`.
    pub audience: Vec<Box<str>>,
    /// The pinned algorithms: the name in the token, and what it means.
    pub algorithms: Vec<(&'static str, Algorithm)>,
    /// The keys.
    pub keys: Keys,
    /// The path of the claim that lists roles.
    pub roles: Option<Box<str>>,
    /// How far clocks may differ, in seconds.
    pub leeway: i64,
}

/// Where the keys of a `jwt` source are.
#[derive(Debug)]
pub enum Keys {
    /// Here, since load.
    Fixed(Vec<Key>),
    /// Fetched from the issuer.
    Remote(Arc<RemoteKeys>),
}

/// A token as it presents itself, nothing of it verified.
pub(super) struct Reading<'t> {
    header: Header,
    payload: Map<String, Value>,
    /// What is signed: header and payload as sent.
    signed: &'t str,
    signature: &'t str,
}

/// A verified token.
pub(super) struct Verified {
    pub(super) principal: Principal,
    /// First and last second of validity, leeway included.
    pub(super) from: i64,
    pub(super) until: i64,
}

impl Jwt {
    /// Whether a token has this source's form.
    pub(super) fn claims(&self, token: &Reading<'_>) -> bool {
        self.algorithm(token).is_some() && token.issuer() == Some(&*self.issuer)
    }

    /// Whether this source pins the token's algorithm.
    pub(super) fn pins(&self, token: &Reading<'_>) -> bool {
        self.algorithm(token).is_some()
    }

    /// Verifies a token that this source claims.
    pub(super) fn verify(
        &self,
        token: Reading<'_>,
        name: &Arc<str>,
        now: Timestamp,
    ) -> Result<Verified, AuthError> {
        let algorithm = self.algorithm(&token).ok_or(AuthError::WrongAlgorithm)?;
        if token.issuer() != Some(&*self.issuer) {
            return Err(AuthError::WrongIssuer);
        }
        if token.header.crit.is_some() {
            return Err(AuthError::CriticalHeader);
        }
        if token.header.typ.as_deref().is_some_and(of_another_kind) {
            return Err(AuthError::WrongType);
        }
        self.check_signature(&token, algorithm)?;

        let now = now.as_second();
        let claims = token.payload;
        let date = |name: &str| match claims.get(name) {
            Some(value) => claims::numeric_date(value)
                .map(Some)
                .ok_or(AuthError::Malformed),
            None => Ok(None),
        };
        let until = date("exp")?
            .ok_or(AuthError::NoExpiry)?
            .saturating_add(self.leeway);
        if now >= until {
            return Err(AuthError::Expired);
        }
        let from = date("nbf")?.max(date("iat")?).unwrap_or(i64::MIN);
        let from = from.saturating_sub(self.leeway);
        if now < from {
            return Err(AuthError::NotYetValid);
        }
        if !claims::audience_matches(claims.get("aud"), &self.audience) {
            return Err(AuthError::WrongAudience);
        }
        let user: Arc<str> = match claims.get("sub") {
            Some(Value::String(subject)) => Arc::from(subject.as_str()),
            // A token of a program may have no subject. It then has no user name either: taking `client_id` instead would
            // let whoever registers a client choose a user's name (RFC 9068 §5).
            None => Arc::from(""),
            Some(_) => return Err(AuthError::Malformed),
        };
        let roles = self.roles.as_deref();
        let roles = roles.map_or_else(Vec::new, |path| claims::roles(&claims, path));
        let device = claims.get("device").and_then(Value::as_object);
        let device = device.cloned().unwrap_or_default();
        let principal = Principal {
            user,
            source: Arc::clone(name),
            roles,
            claims,
            device,
            expires: Some(Timestamp::from_second(until).unwrap_or(Timestamp::MAX)),
        };
        Ok(Verified {
            principal,
            from,
            until,
        })
    }

    /// The keys that are fetched, where they are.
    pub(super) const fn remote(&self) -> Option<&Arc<RemoteKeys>> {
        match &self.keys {
            Keys::Fixed(_) => None,
            Keys::Remote(remote) => Some(remote),
        }
    }

    fn check_signature(&self, token: &Reading<'_>, algorithm: Algorithm) -> Result<(), AuthError> {
        let fetched;
        let keys = match &self.keys {
            Keys::Fixed(keys) => keys.as_slice(),
            Keys::Remote(remote) => {
                fetched = remote.current().ok_or(AuthError::UnknownKey)?;
                fetched.as_slice()
            }
        };
        let wanted = token.header.kid.as_deref();
        let suits = |key: &&Key| {
            key.algorithms.contains(&algorithm)
                && (wanted.is_none() || key.kid.is_none() || key.kid.as_deref() == wanted)
        };
        let mut verdict = AuthError::UnknownKey;
        for key in keys.iter().filter(suits).take(KEYS_TRIED_MAX) {
            let message = token.signed.as_bytes();
            match jsonwebtoken::crypto::verify(token.signature, message, &key.key, algorithm) {
                Ok(true) => return Ok(()),
                Ok(false) | Err(_) => verdict = AuthError::BadSignature,
            }
        }
        Err(verdict)
    }

    fn algorithm(&self, token: &Reading<'_>) -> Option<Algorithm> {
        let mut pinned = self.algorithms.iter();
        let (_, algorithm) = pinned.find(|(name, _)| *name == token.header.alg)?;
        Some(*algorithm)
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("algorithms", &self.algorithms)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl<'t> Reading<'t> {
    /// Reads the compact form: three parts, header and payload objects in unpadded base64url, no name in them twice.
    pub(super) fn read(token: &'t str) -> Result<Self, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(AuthError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(AuthError::Malformed)?;
        if payload.contains('.') {
            // Five parts are an encrypted token, which no source takes.
            return Err(AuthError::Malformed);
        }
        Ok(Self {
            header: object(header).ok_or(AuthError::Malformed)?,
            payload: object::<Object>(payload).ok_or(AuthError::Malformed)?.0,
            signed,
            signature,
        })
    }

    /// The name of its algorithm, unverified.
    pub(super) fn algorithm(&self) -> &str {
        &self.header.alg
    }

    /// What it says, unverified.
    pub(super) fn into_claims(self) -> Map<String, Value> {
        self.payload
    }

    fn issuer(&self) -> Option<&str> {
        self.payload.get("iss")?.as_str()
    }
}

/// The header parameters that are looked at. Keys that a token brings along are not.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

fn object<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}

/// Tokens of one issuer for one audience may still be made for something else: a logout, a security event, a proof of
/// possession. Explicit types keep them apart; `JWT`, access tokens (RFC 9068) and types without `+jwt` are taken.
fn of_another_kind(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    let typ = typ.strip_prefix("application/").unwrap_or(&typ);
    typ.ends_with("+jwt") && typ != "at+jwt"
}

/// The largest token that is read.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How many keys are tried for a token that names none.
const KEYS_TRIED_MAX: usize = 4;
