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

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::cookies::{Channel, Cookies, Kept, LOGIN_SECONDS};
use self::provider::{Provider, SecretIn};
use self::renewal::Renewed;
use self::seal::{Keyring, random};
use self::session::Session;
use super::claims;
use super::error::AuthError;
use super::jwt::{Jwt, Keys, Reading};
use super::keys::ALGORITHMS;
use crate::value::principal::Principal;

pub mod cookies;
pub mod provider;
mod refusal;
pub mod renewal;
pub mod seal;
pub mod session;

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
    /// Sends a browser to the provider; it returns to `target`, the target of its request as received. None where the
    /// provider is not known yet.
    #[must_use]
    pub fn depart(
        &self,
        browser: &Browser<'_>,
        target: &str,
        wish: Wish<'_>,
        now: Timestamp,
    ) -> Option<Departure> {
        let metadata = self.provider.metadata()?;
        let now = now.as_second();
        let secret = URL_SAFE_NO_PAD.encode(random::<32>()?);
        let id = format!("{now:08x}{}", URL_SAFE_NO_PAD.encode(random::<9>()?));
        let login = Login {
            binding: binding(&secret),
            target: shortened(target).into(),
            begun: now,
            id: id.as_str().into(),
            raised: wish.acr_values.is_some() || wish.max_age.is_some(),
        };
        let sealed = serde_json::to_vec(&login).ok()?;
        let state = self.keyring.seal(&self.purpose("login"), &sealed)?;
        let mut location = metadata.authorization_endpoint.to_string();
        location.push(if location.contains('?') { '&' } else { '?' });
        location.push_str("response_type=code");
        let max_age = wish.max_age.map(|seconds| seconds.max(0).to_string());
        for (name, value) in [
            ("client_id", Some(&*self.client_id)),
            ("redirect_uri", Some(&*self.redirect_uri(browser))),
            ("scope", Some(&*self.scopes)),
            ("state", Some(&*state)),
            ("nonce", Some(&*derived(&secret, "nonce"))),
            ("code_challenge", Some(&*challenge(&secret))),
            ("code_challenge_method", Some("S256")),
            ("acr_values", wish.acr_values),
            ("max_age", max_age.as_deref()),
        ] {
            if let Some(value) = value {
                parameter(&mut location, name, value);
            }
        }
        Some(Departure {
            location: HeaderValue::try_from(location).ok()?,
            cookies: self
                .cookies
                .keep_login(browser.headers, browser.channel, &id, &secret),
        })
    }

    /// Takes a browser back: `query` is that of its request, without `?`.
    ///
    /// # Errors
    /// Where it does not come from a login of its own, or the provider did not sign it in.
    pub fn arrive(
        &self,
        browser: &Browser<'_>,
        query: &str,
        now: Timestamp,
    ) -> Result<Arrival, Box<Stranded>> {
        let lost = |why| Box::new(Stranded { why, target: None });
        let metadata = self.provider.metadata();
        let metadata = metadata.ok_or_else(|| lost(Refusal::Unreachable))?;
        let answer = Answer::read(query).ok_or_else(|| lost(Refusal::Malformed))?;
        let now = now.as_second();
        let state = answer.state.as_deref().unwrap_or_default();
        let opened = self.keyring.open(&self.purpose("login"), state);
        let login = opened.and_then(|login| serde_json::from_slice::<Login>(&login).ok());
        let login = login.ok_or_else(|| lost(Refusal::State))?;
        let stranded = |why| {
            Box::new(Stranded {
                why,
                target: Some(login.target.clone()),
            })
        };
        if now < login.begun || now - login.begun > LOGIN_SECONDS {
            return Err(stranded(Refusal::Late));
        }
        let secret = self
            .cookies
            .login(browser.headers, browser.channel, &login.id);
        let own = |secret: &&str| {
            verify_slices_are_equal(binding(secret).as_bytes(), login.binding.as_bytes()).is_ok()
        };
        let secret = secret
            .filter(own)
            .ok_or_else(|| stranded(Refusal::OtherBrowser))?;
        if !self
            .provider
            .spend(&login.id, login.begun + LOGIN_SECONDS + 1, now)
        {
            return Err(stranded(Refusal::Replayed));
        }
        match answer.issuer.as_deref() {
            Some(issuer) if *issuer != *self.issuer => {
                return Err(stranded(Refusal::AnotherProvider));
            }
            None if metadata.names_itself => return Err(stranded(Refusal::AnotherProvider)),
            Some(_) | None => {}
        }
        if let Some(error) = answer.error.as_deref() {
            return Err(stranded(Refusal::of_provider(error)));
        }
        let code = answer.code.filter(|code| !code.is_empty());
        let code = code.ok_or_else(|| stranded(Refusal::Malformed))?;
        let mut form = String::from("grant_type=authorization_code");
        for (name, value) in [
            ("code", &*code),
            ("redirect_uri", &*self.redirect_uri(browser)),
            ("code_verifier", &*derived(secret, "pkce")),
        ] {
            parameter(&mut form, name, value);
        }
        let ended = self.cookies.end_login(browser.channel, &login.id);
        Ok(Arrival {
            exchange: self.authenticated(form, metadata.secret_in),
            nonce: derived(secret, "nonce"),
            target: login.target,
            raised: login.raised,
            cookies: ended.into_iter().collect(),
        })
    }

    /// Reads what the token endpoint answered to the code of an arrival, and begins a session.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn signed_in(
        &self,
        arrival: &Arrival,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Session, Refusal> {
        let tokens: Tokens = serde_json::from_slice(body)
            .ok()
            .ok_or(Refusal::TokenAnswer)?;
        let id_token = tokens.id_token.as_deref().ok_or(Refusal::TokenAnswer)?;
        let claims = self
            .verify(id_token, tokens.access_token.as_deref(), now)
            .await?;
        if claims.get("nonce").and_then(Value::as_str) != Some(&*arrival.nonce) {
            return Err(Refusal::WrongNonce);
        }
        let id = random::<16>().ok_or(Refusal::Unreachable)?;
        let id = URL_SAFE_NO_PAD.encode(id).into();
        let life = Life {
            began: now.as_second(),
            raised: if arrival.raised { now.as_second() } else { 0 },
            ends: now.as_second().saturating_add(self.session),
        };
        Ok(Self::session(
            id,
            life,
            id_token,
            tokens.refresh_token.as_deref(),
            tokens.expires_in,
            &claims,
            now,
        ))
    }

    /// What brings a newer session, where it can be renewed.
    #[must_use]
    pub fn renewal(&self, session: &Session) -> Option<TokenRequest> {
        let metadata = self.provider.metadata()?;
        let mut form = String::from("grant_type=refresh_token");
        parameter(
            &mut form,
            "refresh_token",
            session.refresh_token.as_deref()?,
        );
        Some(self.authenticated(form, metadata.secret_in))
    }

    /// Reads what the token endpoint answered to a renewal (Core §12.2).
    pub async fn renewed(&self, before: &Session, body: &[u8], now: Timestamp) -> Renewed {
        let Ok(tokens) = serde_json::from_slice::<Tokens>(body) else {
            return Renewed::Failed;
        };
        let of_before = |token: &str| Reading::read(token).map(Reading::into_claims);
        let Ok(known) = of_before(&before.id_token) else {
            return Renewed::Refused;
        };
        let (id_token, claims) = match tokens.id_token.as_deref() {
            None => (&*before.id_token, known),
            Some(token) => {
                let claims = match self
                    .verify(token, tokens.access_token.as_deref(), now)
                    .await
                {
                    Ok(claims) => claims,
                    Err(Refusal::Unreachable) => return Renewed::Failed,
                    Err(_) => return Renewed::Refused,
                };
                let same = |name: &str| claims.get(name) == known.get(name);
                if !same("sub") {
                    return Renewed::Refused;
                }
                (token, claims)
            }
        };
        let refresh = tokens.refresh_token.as_deref();
        let refresh = refresh.or(before.refresh_token.as_deref());
        let mut session = Self::session(
            before.id.clone(),
            Life {
                began: before.began,
                raised: before.raised,
                ends: before.ends,
            },
            id_token,
            refresh,
            tokens.expires_in,
            &claims,
            now,
        );
        if tokens.expires_in.is_none() && tokens.id_token.is_none() {
            // Nobody says how long it is good: as long as the last time.
            session.fresh_until = now.as_second() + FRESH_SECONDS;
            session.due = session.fresh_until - MARGIN_SECONDS;
        }
        Renewed::Session(Arc::new(session))
    }

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

    /// Where a browser goes that has signed in: its own target, on its own origin, whatever it looks like.
    #[must_use]
    pub fn home(browser: &Browser<'_>, target: &str) -> Option<HeaderValue> {
        // Absolute, so that no target can name another host: not `//evil`, not `/\evil`.
        let path = if target.starts_with('/') { target } else { "/" };
        HeaderValue::try_from(format!("{}{path}", browser.origin)).ok()
    }

    /// Ends the session of a browser: what clears its cookies, and where the provider signs it out, if it does. The browser
    /// comes back to `logout`. None where it has no session.
    #[must_use]
    pub fn leave(
        &self,
        browser: &Browser<'_>,
        logout: &str,
        now: Timestamp,
    ) -> Option<(Vec<HeaderValue>, Option<HeaderValue>)> {
        let kept = self.cookies.session(browser.headers)?;
        let cookies = self.cookies.end_session(browser.headers, browser.channel);
        let now = now.as_second();
        let session = match kept {
            Kept::Whole(text) => self.unseal(&text).filter(|session| now < session.ends),
            Kept::Torn => None,
        };
        let Some(session) = session else {
            return Some((cookies, None));
        };
        self.provider.end(&session.id, session.ends, now);
        let metadata = self.provider.metadata();
        let end = metadata.and_then(|metadata| metadata.end_session_endpoint.clone());
        let location = end.and_then(|end| {
            let mut location = end.into_string();
            location.push(if location.contains('?') { '&' } else { '?' });
            location.push_str("client_id=");
            location.extend(utf8_percent_encode(&self.client_id, FORM));
            parameter(&mut location, "id_token_hint", &session.id_token);
            let back = format!("{}{logout}", browser.origin);
            parameter(&mut location, "post_logout_redirect_uri", &back);
            HeaderValue::try_from(location).ok()
        });
        Some((cookies, location))
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

    /// The claims of an ID token that verifies (Core §3.1.3.7).
    async fn verify(
        &self,
        token: &str,
        access_token: Option<&str>,
        now: Timestamp,
    ) -> Result<Map<String, Value>, Refusal> {
        let jwt = self.jwt();
        let keys = &self.provider.keys;
        let seen = keys.version();
        let once = || {
            let reading = Reading::read(token)?;
            let algorithm = reading.algorithm().to_owned();
            let verified = jwt.verify(reading, &Arc::from(""), now)?;
            Ok((verified.principal.claims, algorithm))
        };
        let mut verified = once();
        if matches!(verified, Err(AuthError::UnknownKey)) {
            if keys.newer_than(seen).await {
                verified = once();
            } else if keys.fetched().is_none() {
                return Err(Refusal::Unreachable);
            }
        }
        let (claims, algorithm) = verified.map_err(Refusal::Token)?;
        let subject = claims
            .get("sub")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if subject.is_empty() {
            return Err(Refusal::NoSubject);
        }
        if claims.get("iat").and_then(claims::numeric_date).is_none() {
            return Err(Refusal::Token(AuthError::Malformed));
        }
        let several = claims
            .get("aud")
            .and_then(Value::as_array)
            .is_some_and(|all| all.len() > 1);
        match claims.get("azp") {
            Some(party) if party.as_str() != Some(&*self.client_id) => {
                return Err(Refusal::WrongParty);
            }
            None if several => return Err(Refusal::WrongParty),
            Some(_) | None => {}
        }
        if let (Some(hash), Some(access)) = (claims.get("at_hash"), access_token)
            && !hash_fits(hash, access, &algorithm)
        {
            return Err(Refusal::WrongHash);
        }
        Ok(claims)
    }

    fn jwt(&self) -> Jwt {
        let public = ALGORITHMS
            .iter()
            .filter(|(name, _)| !name.starts_with("HS"));
        Jwt {
            issuer: self.issuer.clone(),
            audience: vec![self.client_id.clone()],
            algorithms: public.copied().collect(),
            keys: Keys::Remote(Arc::clone(&self.provider.keys)),
            roles: None,
            leeway: LEEWAY_SECONDS,
        }
    }

    fn session(
        id: Box<str>,
        life: Life,
        id_token: &str,
        refresh_token: Option<&str>,
        expires_in: Option<f64>,
        claims: &Map<String, Value>,
        now: Timestamp,
    ) -> Session {
        let now = now.as_second();
        let told = expires_in.and_then(|seconds| claims::numeric_date(&Value::from(seconds)));
        let told = told.map(|seconds| now.saturating_add(seconds.max(1)));
        let until = told.or_else(|| claims.get("exp").and_then(claims::numeric_date));
        let fresh_until = until.unwrap_or(now + FRESH_SECONDS);
        let margin = (fresh_until.saturating_sub(now) / 4).clamp(0, MARGIN_SECONDS);
        Session {
            id,
            began: life.began,
            raised: life.raised,
            ends: life.ends,
            id_token: id_token.into(),
            refresh_token: refresh_token.map(Box::from),
            due: fresh_until - margin,
            fresh_until,
        }
    }

    fn authenticated(&self, mut form: String, secret_in: SecretIn) -> TokenRequest {
        let authorization = match secret_in {
            SecretIn::Authorization => {
                // RFC 6749 §2.3.1: both are encoded as in a form first.
                let mut pair = String::new();
                pair.extend(utf8_percent_encode(&self.client_id, FORM));
                pair.push(':');
                pair.extend(utf8_percent_encode(&self.client_secret, FORM));
                HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))
                    .ok()
                    .map(|mut value| {
                        value.set_sensitive(true);
                        value
                    })
            }
            SecretIn::Body => {
                parameter(&mut form, "client_id", &self.client_id);
                parameter(&mut form, "client_secret", &self.client_secret);
                None
            }
        };
        TokenRequest {
            authorization,
            form,
        }
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

/// From when to when a session lasts, renewed or not.
#[derive(Clone, Copy)]
struct Life {
    began: i64,
    raised: i64,
    ends: i64,
}

/// A login in progress, as `state` holds it.
#[derive(Serialize, Deserialize)]
struct Login {
    /// The digest of the secret in the browser's cookie.
    #[serde(rename = "b")]
    binding: String,
    #[serde(rename = "r")]
    target: Box<str>,
    #[serde(rename = "t")]
    begun: i64,
    #[serde(rename = "i")]
    id: Box<str>,
    /// Whether more than a name is asked for.
    #[serde(rename = "w", default)]
    raised: bool,
}

/// What the token endpoint answers.
#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<f64>,
}

/// What a browser brings back from the provider.
#[derive(Default)]
struct Answer<'q> {
    code: Option<Cow<'q, str>>,
    state: Option<Cow<'q, str>>,
    issuer: Option<Cow<'q, str>>,
    error: Option<Cow<'q, str>>,
}

impl<'q> Answer<'q> {
    /// None where a parameter is repeated or no text: it could be read in two ways.
    fn read(query: &'q str) -> Option<Self> {
        let mut answer = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match name {
                "code" => &mut answer.code,
                "state" => &mut answer.state,
                "iss" => &mut answer.issuer,
                "error" => &mut answer.error,
                _ => continue,
            };
            if place.replace(decoded(value)?).is_some() {
                return None;
            }
        }
        Some(answer)
    }
}

fn decoded(value: &str) -> Option<Cow<'_, str>> {
    if value.contains('+') {
        let spaced = value.replace('+', " ");
        let plain = percent_decode_str(&spaced).decode_utf8().ok()?;
        return Some(Cow::Owned(plain.into_owned()));
    }
    percent_decode_str(value).decode_utf8().ok()
}

/// A target that fits into `state`: whole, else its path, else the root.
fn shortened(target: &str) -> &str {
    let path = target.split('?').next().unwrap_or_default();
    [target, path]
        .into_iter()
        .find(|text| text.len() <= TARGET_BYTES_MAX && text.starts_with('/'))
        .unwrap_or("/")
}

fn parameter(to: &mut String, name: &str, value: &str) {
    // Writing to a string cannot fail.
    let written = write!(to, "&{name}={}", utf8_percent_encode(value, FORM));
    debug_assert!(written.is_ok());
}

/// Something that only the holder of the secret can tell, for one use.
fn derived(secret: &str, of: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    URL_SAFE_NO_PAD.encode(hmac::sign(&key, of.as_bytes()))
}

/// RFC 7636 §4.2.
fn challenge(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&digest::SHA256, derived(secret, "pkce").as_bytes()))
}

fn binding(secret: &str) -> String {
    derived(secret, "binding")
}

/// Core §3.1.3.6. A hash for an algorithm that has none of its own is not compared.
fn hash_fits(hash: &Value, access_token: &str, algorithm: &str) -> bool {
    let kind = match algorithm.get(2..) {
        Some("256") => &digest::SHA256,
        Some("384") => &digest::SHA384,
        Some("512") => &digest::SHA512,
        Some(_) | None => return true,
    };
    let whole = digest(kind, access_token.as_bytes());
    let half = whole.as_ref().split_at_checked(whole.as_ref().len() / 2);
    let half = half.map(|(half, _)| URL_SAFE_NO_PAD.encode(half));
    hash.as_str() == half.as_deref()
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
/// How far clocks may differ.
const LEEWAY_SECONDS: i64 = 60;
/// How long before a session must have been renewed this begins, at most.
const MARGIN_SECONDS: i64 = 60;
/// How long a renewed session is good where the provider does not say.
const FRESH_SECONDS: i64 = 300;
/// What is longer is cut: `state` travels in a URL twice.
const TARGET_BYTES_MAX: usize = 1024;
