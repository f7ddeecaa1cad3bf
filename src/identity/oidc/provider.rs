//! What is known of a provider: its metadata (OpenID Connect Discovery 1.0 §3) and keys as fetched, and what must be remembered
//! of its sessions. Outlives reloads.
//!
//! Who fetches is not this room's business: a fetcher hands over what it got, and the last good metadata stays.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use serde_json::{Map, Value};

use super::renewal::{Renewals, Turn};
use super::session::Session;
use crate::identity::remote::RemoteKeys;

/// A provider, as known now.
#[derive(Default)]
pub struct Provider {
    metadata: ArcSwapOption<Metadata>,
    /// The keys that its ID tokens are verified with.
    pub keys: Arc<RemoteKeys>,
    renewals: Renewals,
    /// Sessions that were ended by signing out, until they would have ended anyway.
    ended: Memory,
    /// Logins that have come back.
    used: Memory,
    /// Rises with every session that is ended.
    epoch: AtomicU64,
}

/// How the provider wants to hear our secret (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretIn {
    /// `client_secret_basic`.
    Authorization,
    /// `client_secret_post`.
    Body,
}

/// What a provider says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Where browsers are sent to sign in.
    pub authorization_endpoint: Box<str>,
    /// Where codes are exchanged.
    pub token_endpoint: Box<str>,
    /// Where its keys are.
    pub jwks_uri: Box<str>,
    /// Where browsers are sent to sign out.
    pub end_session_endpoint: Option<Box<str>>,
    /// How it hears our secret.
    pub secret_in: SecretIn,
    /// Whether its answers name it (RFC 9207).
    pub names_itself: bool,
}

/// Why metadata cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadMetadata {
    /// No JSON object.
    #[error("the answer is no JSON object")]
    NotJson,
    /// It is another's (Discovery §4.3).
    #[error("`issuer` is not the one that is configured, letter by letter")]
    Issuer,
    /// An endpoint is missing or no URL.
    #[error("`{0}` is missing, or no URL")]
    Endpoint(&'static str),
    /// An endpoint in clear text, although the issuer is `https`.
    #[error("`{0}` is not `https`")]
    ClearText(&'static str),
    /// The code flow with PKCE is not offered.
    #[error("`{0}` does not offer what a sign-in needs")]
    Unsuited(&'static str),
}

impl Provider {
    /// The newest good metadata; none where no attempt has brought any.
    #[must_use]
    pub fn metadata(&self) -> Option<Arc<Metadata>> {
        self.metadata.load_full()
    }

    /// Takes metadata that was fetched.
    pub fn learn(&self, metadata: Metadata) {
        self.metadata.store(Some(Arc::new(metadata)));
    }

    /// Rises with everything that may make a session invalid which was valid before.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whose turn it is to renew a session.
    #[must_use]
    pub fn turn(&self, session: &Session, now: Instant) -> Turn {
        self.renewals.turn(session, now)
    }

    /// Ends a session of this process: a copy of its cookie is worth nothing any more.
    pub(super) fn end(&self, session: &str, ends: i64, now: i64) {
        self.ended.add(session, ends, now);
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether a session was ended.
    pub(super) fn is_ended(&self, session: &str) -> bool {
        self.ended.has(session)
    }

    /// Notes that a login has come back; whether it is the first time.
    pub(super) fn spend(&self, login: &str, until: i64, now: i64) -> bool {
        self.used.add(login, until, now)
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("metadata", &self.metadata())
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl Metadata {
    /// Reads the answer of `/.well-known/openid-configuration`.
    ///
    /// # Errors
    /// [`BadMetadata`].
    pub fn read(body: &[u8], issuer: &str) -> Result<Self, BadMetadata> {
        let all: Map<String, Value> = serde_json::from_slice(body)
            .ok()
            .ok_or(BadMetadata::NotJson)?;
        let text = |name: &str| all.get(name).and_then(Value::as_str);
        if text("issuer") != Some(issuer) {
            return Err(BadMetadata::Issuer);
        }
        let secure = issuer.starts_with("https://");
        let url = |name: &'static str| {
            let url = text(name).ok_or(BadMetadata::Endpoint(name))?;
            endpoint(url, secure, name)
        };
        let lists = |name: &str, wanted: &str| {
            let list = all.get(name).and_then(Value::as_array);
            list.map(|list| list.iter().any(|item| item.as_str() == Some(wanted)))
        };
        if lists("response_types_supported", "code") == Some(false) {
            return Err(BadMetadata::Unsuited("response_types_supported"));
        }
        if lists("code_challenge_methods_supported", "S256") == Some(false) {
            return Err(BadMetadata::Unsuited("code_challenge_methods_supported"));
        }
        let methods = "token_endpoint_auth_methods_supported";
        // Left out, it is the first (Discovery §3).
        let secret_in = if lists(methods, "client_secret_basic").unwrap_or(true) {
            SecretIn::Authorization
        } else if lists(methods, "client_secret_post") == Some(true) {
            SecretIn::Body
        } else {
            return Err(BadMetadata::Unsuited(methods));
        };
        let end = "end_session_endpoint";
        Ok(Self {
            authorization_endpoint: url("authorization_endpoint")?,
            token_endpoint: url("token_endpoint")?,
            jwks_uri: url("jwks_uri")?,
            end_session_endpoint: text(end).map(|_there| url(end)).transpose()?,
            secret_in,
            names_itself: all
                .get("authorization_response_iss_parameter_supported")
                .and_then(Value::as_bool)
                .unwrap_or(false),
        })
    }
}

/// A URL that a browser can be sent to and that can be asked: absolute, visible ASCII, no user, no fragment.
fn endpoint(url: &str, secure: bool, name: &'static str) -> Result<Box<str>, BadMetadata> {
    let rest = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => rest,
        (None, Some(_)) if secure => return Err(BadMetadata::ClearText(name)),
        (None, Some(rest)) => rest,
        (None, None) => return Err(BadMetadata::Endpoint(name)),
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let visible = url.bytes().all(|byte| byte.is_ascii_graphic());
    let plain = !url.contains(['#', '\\', '"', '<', '>']);
    if authority.is_empty() || authority.contains('@') || !visible || !plain || url.len() > URL_MAX
    {
        return Err(BadMetadata::Endpoint(name));
    }
    Ok(Box::from(url))
}

/// Names that are remembered for a while. Bounded: when it is full, what ends first is forgotten first.
#[derive(Debug, Default)]
struct Memory(Mutex<HashMap<Box<str>, i64>>);

impl Memory {
    /// Adds a name; whether it is new.
    fn add(&self, name: &str, until: i64, now: i64) -> bool {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= REMEMBERED_MAX {
            names.retain(|_, until| *until > now);
        }
        if names.len() >= REMEMBERED_MAX {
            let mut ends: Vec<i64> = names.values().copied().collect();
            let middle = ends.len() / 2;
            let (_, half, _) = ends.select_nth_unstable(middle);
            let half = *half;
            names.retain(|_, until| *until > half);
        }
        names.insert(Box::from(name), until).is_none()
    }

    fn has(&self, name: &str) -> bool {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.contains_key(name)
    }
}

/// Names of a [`Memory`]: some 8 MB.
const REMEMBERED_MAX: usize = 100_000;
/// The longest endpoint.
const URL_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]

    use super::*;
    use serde_json::json;

    const ISSUER: &str = "https://id.example.com";

    #[test]
    fn metadata_must_be_the_issuers_own_and_offer_what_is_needed() {
        let good = json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://id.example.com/auth?x=1",
            "token_endpoint": "https://api.example.net/token",
            "jwks_uri": "https://id.example.com/jwks",
        });
        let but = |name: &str, value: Value| {
            let mut changed = good.clone();
            if value.is_null() {
                changed.as_object_mut().unwrap().remove(name);
            } else {
                changed[name] = value;
            }
            changed.to_string()
        };
        use BadMetadata::{ClearText, Endpoint, Issuer, NotJson, Unsuited};
        for (body, want, why) in [
            ("garbage".into(), Some(NotJson), "garbage"),
            ("[]".into(), Some(NotJson), "no object"),
            (but("issuer", json!(null)), Some(Issuer), "nobody's"),
            (
                but("issuer", json!("https://id.example.com/")),
                Some(Issuer),
                "a slash more",
            ),
            (
                but("issuer", json!("https://evil.example")),
                Some(Issuer),
                "another's",
            ),
            (
                but("token_endpoint", json!(null)),
                Some(Endpoint("token_endpoint")),
                "missing",
            ),
            (
                but("token_endpoint", json!(7)),
                Some(Endpoint("token_endpoint")),
                "no text",
            ),
            (
                but("authorization_endpoint", json!("javascript:alert(1)")),
                Some(Endpoint("authorization_endpoint")),
                "a script",
            ),
            (
                but("authorization_endpoint", json!("/auth")),
                Some(Endpoint("authorization_endpoint")),
                "relative",
            ),
            (
                but("authorization_endpoint", json!("https://")),
                Some(Endpoint("authorization_endpoint")),
                "no host",
            ),
            (
                but("authorization_endpoint", json!("https://a@b/")),
                Some(Endpoint("authorization_endpoint")),
                "a user",
            ),
            (
                but("authorization_endpoint", json!("https://a/\r\nX: y")),
                Some(Endpoint("authorization_endpoint")),
                "a line break",
            ),
            (
                but("authorization_endpoint", json!("https://a/#b")),
                Some(Endpoint("authorization_endpoint")),
                "a fragment",
            ),
            (
                but("jwks_uri", json!("http://id.example.com/jwks")),
                Some(ClearText("jwks_uri")),
                "clear text",
            ),
            (
                but("end_session_endpoint", json!("http://id.example.com/end")),
                Some(ClearText("end_session_endpoint")),
                "clear text",
            ),
            (
                but("response_types_supported", json!(["id_token"])),
                Some(Unsuited("response_types_supported")),
                "no code flow",
            ),
            (
                but("code_challenge_methods_supported", json!(["plain"])),
                Some(Unsuited("code_challenge_methods_supported")),
                "no S256",
            ),
            (
                but(
                    "token_endpoint_auth_methods_supported",
                    json!(["private_key_jwt"]),
                ),
                Some(Unsuited("token_endpoint_auth_methods_supported")),
                "no secret",
            ),
            (
                but("code_challenge_methods_supported", json!(["S256"])),
                None,
                "good",
            ),
            (but("scopes_supported", json!(["openid"])), None, "good"),
        ] {
            assert_eq!(Metadata::read(body.as_bytes(), ISSUER).err(), want, "{why}");
        }
        let post = but(
            "token_endpoint_auth_methods_supported",
            json!(["client_secret_post"]),
        );
        let post = Metadata::read(post.as_bytes(), ISSUER).unwrap();
        assert_eq!(post.secret_in, SecretIn::Body);
    }

    #[test]
    fn a_memory_tells_new_from_known_and_stays_bounded() {
        let memory = Memory::default();
        assert!(memory.add("a", i64::MAX, 0));
        assert!(!memory.add("a", i64::MAX, 0));
        for number in 0..REMEMBERED_MAX + 10 {
            let until = i64::try_from(number).unwrap();
            memory.add(&number.to_string(), until + 1, 0);
        }
        let known = memory.0.lock().unwrap().len();
        assert!(known <= REMEMBERED_MAX, "{known}");
        assert!(memory.has("a"), "what ends last is kept");
    }
}
