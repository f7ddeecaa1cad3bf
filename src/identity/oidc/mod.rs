//! Sign-in in the browser: OpenID Connect Core 1.0, authorization code with PKCE (RFC 7636), by the advice of RFC 9700.
//!
//! What is decided here:
//!
//! - **Leaving** ([`Oidc::depart`]): where a browser is sent, and what it takes along. `state` is sealed and holds where to
//!   return to; the secret that PKCE's verifier and the nonce are made of stays in a cookie of this login alone, so that
//!   several tabs may sign in at a time and nobody can finish a login that another browser began.
//! - **Coming back** ([`Oidc::arrive`]): whether what comes back belongs to a login of this browser, for the first time.
//! - **The ID token** ([`Oidc::signed_in`]): verified as Core §3.1.3.7 says, with the machinery of [`super::jwt`]: only
//!   algorithms with public keys, never `none`, never a shared secret.
//! - **The session** ([`session`]): what a cookie holds, until when it counts, when it is [renewed](renewal).
//! - **Signing out** ([`Oidc::leave`]): RP-Initiated Logout 1.0.
//!
//! It speaks with nobody: [`crate::proxy`] carries requests to the provider, and the control thread fetches metadata and keys
//! into a [`provider::Provider`], which outlives reloads. Nothing that a provider says is ever shown to a client.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use self::cookies::{Channel, Cookies, Kept};
use self::provider::Provider;
use self::seal::Keyring;
use self::session::Session;
use super::error::AuthError;
use crate::value::principal::Principal;

pub mod cookies;
mod login;
pub mod provider;
mod refusal;
pub mod renewal;
pub mod seal;
pub mod session;
mod tokens;

#[cfg(test)]
mod tests;

pub use refusal::{Class, Refusal};

/// An `oidc` source.
pub struct Oidc {
    /// The provider, letter by letter as it names itself.
    pub issuer: Box<str>,
    /// Our name there.
    pub client_id: Box<str>,
    /// Our secret there.
    pub client_secret: Box<str>,
    /// What is asked for, separated by spaces; `openid` among it.
    pub scopes: Box<str>,
    /// The path of the claim that lists roles.
    pub roles: Option<Box<str>>,
    /// The names of its cookies.
    pub cookies: Cookies,
    /// The path to which the provider sends browsers back.
    pub callback: Box<str>,
    /// The path that signs out.
    pub logout: Option<Box<str>>,
    /// How long a session lasts, in seconds.
    pub session: i64,
    /// What seals cookies.
    pub keyring: Arc<Keyring>,
    /// What is known of the provider.
    pub provider: Arc<Provider>,
}

/// How a browser reached us.
#[derive(Debug, Clone, Copy)]
pub struct Browser<'r> {
    /// Its fields.
    pub headers: &'r HeaderMap,
    /// https, or this machine.
    pub channel: Channel,
    /// Scheme, host and port as the browser knows them, without a path.
    pub origin: &'r str,
}

/// What a sign-in must come to, beyond a name (RFC 9470).
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'r> {
    /// Authentication contexts, any of which is good enough, separated by spaces.
    pub acr_values: Option<&'r str>,
    /// How long ago, in seconds, the person may have proved who it is.
    pub max_age: Option<i64>,
}

/// A browser is sent away.
#[derive(Debug)]
pub struct Departure {
    /// Where to.
    pub location: HeaderValue,
    /// `Set-Cookie`.
    pub cookies: Vec<HeaderValue>,
}

/// A browser has come back from the provider, with a login of its own, for the first time.
#[derive(Debug)]
pub struct Arrival {
    /// What the token endpoint is asked with.
    pub exchange: TokenRequest,
    /// Where the browser wanted to go: a path of ours, with its query.
    pub target: Box<str>,
    /// `Set-Cookie` that ends the login.
    pub cookies: Vec<HeaderValue>,
    raised: bool,
    nonce: String,
}

/// A browser that came back and is not signed in.
#[derive(Debug)]
pub struct Stranded {
    /// Why.
    pub why: Refusal,
    /// Where it wanted to go, where the login was one of ours.
    pub target: Option<Box<str>>,
}

/// A request to the token endpoint.
#[derive(Clone)]
pub struct TokenRequest {
    /// `Authorization`, where the secret goes there.
    pub authorization: Option<HeaderValue>,
    /// The form.
    pub form: String,
}

/// What is known of a session cookie without asking anybody.
#[derive(Debug)]
pub(super) enum Opened {
    /// It is good, and settled for now.
    Good(Session),
    /// It is to be renewed.
    Due(Session),
    /// It is none.
    Not(AuthError),
}

impl Oidc {
    /// `Set-Cookie` for a session.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`] where no browser would keep it.
    pub fn keep(
        &self,
        session: &Session,
        headers: &HeaderMap,
        channel: Channel,
        now: Timestamp,
    ) -> Result<Vec<HeaderValue>, Refusal> {
        let plain = serde_json::to_vec(session).ok().ok_or(Refusal::TooLarge)?;
        let sealed = self.keyring.seal(&self.purpose("session"), &plain);
        let sealed = sealed.ok_or(Refusal::Unreachable)?;
        let left = session.ends.saturating_sub(now.as_second()).max(0);
        let cookies = self.cookies.keep_session(headers, channel, &sealed, left);
        cookies.ok_or(Refusal::TooLarge)
    }

    /// The session that a request carries, if any, as sealed.
    pub(super) fn sealed<'h>(
        &self,
        headers: &'h HeaderMap,
    ) -> Option<Result<Cow<'h, str>, AuthError>> {
        Some(match self.cookies.session(headers)? {
            Kept::Whole(text) => Ok(text),
            Kept::Torn => Err(OVER),
        })
    }

    /// Opens a sealed session.
    pub(super) fn open(&self, sealed: &str, now: Timestamp) -> Opened {
        let Some(session) = self.unseal(sealed) else {
            return Opened::Not(OVER);
        };
        let now = now.as_second();
        if now >= session.ends || self.provider.is_ended(&session.id) {
            Opened::Not(OVER)
        } else if session.is_due(now) {
            Opened::Due(session)
        } else {
            Opened::Good(session)
        }
    }

    /// Whether a request carries a session that counts.
    #[must_use]
    pub fn knows(&self, headers: &HeaderMap, now: Timestamp) -> bool {
        match self.sealed(headers) {
            Some(Ok(sealed)) => match self.open(&sealed, now) {
                Opened::Good(_) => true,
                Opened::Due(session) => session.is_fresh(now.as_second()),
                Opened::Not(_) => false,
            },
            Some(Err(_)) | None => false,
        }
    }

    /// Whether a request carries a cookie of a session, good or not.
    #[must_use]
    pub fn has_cookie(&self, headers: &HeaderMap) -> bool {
        self.cookies.session(headers).is_some()
    }

    /// Whether the session of a request was begun by a step-up just now: another one would come to the same.
    #[must_use]
    pub fn just_raised(&self, headers: &HeaderMap, now: Timestamp) -> bool {
        let Some(Ok(sealed)) = self.sealed(headers) else {
            return false;
        };
        let now = now.as_second();
        let session = self.unseal(&sealed);
        session.is_some_and(|session| now.saturating_sub(session.raised) < RAISED_SECONDS)
    }

    /// Whose session a request carries, if it counts.
    #[must_use]
    pub fn whose(
        &self,
        headers: &HeaderMap,
        source: &Arc<str>,
        now: Timestamp,
    ) -> Option<Arc<Principal>> {
        let sealed = self.sealed(headers)?.ok()?;
        match self.open(&sealed, now) {
            Opened::Good(session) | Opened::Due(session) => {
                self.person(&session, source).ok().map(Arc::new)
            }
            Opened::Not(_) => None,
        }
    }

    /// Who a session is of.
    ///
    /// # Errors
    /// Where its ID token cannot be read, which it could when it came.
    pub fn person(&self, session: &Session, source: &Arc<str>) -> Result<Principal, Refusal> {
        session.principal(self, source).map_err(Refusal::Token)
    }

    fn unseal(&self, sealed: &str) -> Option<Session> {
        let plain = self.keyring.open(&self.purpose("session"), sealed)?;
        serde_json::from_slice(&plain).ok()
    }

    fn redirect_uri(&self, browser: &Browser<'_>) -> String {
        format!("{}{}", browser.origin, self.callback)
    }

    /// What a text is sealed for: it opens for nothing else, and for no other source.
    fn purpose(&self, what: &str) -> Vec<u8> {
        let (issuer, client) = (&self.issuer, &self.client_id);
        format!("portcullis oidc {what} 1\0{issuer}\0{client}").into_bytes()
    }
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest").finish_non_exhaustive()
    }
}

fn parameter(to: &mut String, name: &str, value: &str) {
    // Writing to a string cannot fail.
    let written = write!(to, "&{name}={}", utf8_percent_encode(value, FORM));
    debug_assert!(written.is_ok());
}

/// What a session is that does not count, whatever the reason: nobody guesses one, and a browser that still has an old one, or
/// one under a key that is gone, is no attacker.
pub(super) const OVER: AuthError = AuthError::Expired;
/// Everything but the unreserved characters of RFC 3986.
const FORM: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// How long after a step-up nobody is sent to another one.
const RAISED_SECONDS: i64 = 30;
