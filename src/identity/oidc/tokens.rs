//! What the provider's token endpoint says: the ID token and what belongs to it, at the sign-in and at each renewal.

use std::sync::Arc;

use aws_lc_rs::digest::{self, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderValue;
use jiff::Timestamp;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::provider::SecretIn;
use super::renewal::Renewed;
use super::seal::random;
use super::session::Session;
use super::{Arrival, FORM, Oidc, Refusal, TokenRequest, parameter};
use crate::identity::claims;
use crate::identity::error::AuthError;
use crate::identity::jwt::{Jwt, Keys, Reading};
use crate::identity::keys::ALGORITHMS;

impl Oidc {
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

    pub(super) fn authenticated(&self, mut form: String, secret_in: SecretIn) -> TokenRequest {
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
}

/// From when to when a session lasts, renewed or not.
#[derive(Clone, Copy)]
struct Life {
    began: i64,
    raised: i64,
    ends: i64,
}

/// What the token endpoint answers.
#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<f64>,
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

/// How far clocks may differ.
const LEEWAY_SECONDS: i64 = 60;
/// How long before a session must have been renewed this begins, at most.
const MARGIN_SECONDS: i64 = 60;
/// How long a renewed session is good where the provider does not say.
const FRESH_SECONDS: i64 = 300;
