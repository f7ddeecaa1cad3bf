//! A session: what a browser keeps for us, sealed, once somebody has signed in.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Oidc;
use crate::identity::claims;
use crate::identity::error::AuthError;
use crate::identity::jwt::Reading;
use crate::value::principal::Principal;

/// A session. Times are seconds since 1970.
#[derive(Clone, Serialize, Deserialize)]
pub struct Session {
    /// Its random name; the same after a renewal.
    #[serde(rename = "i")]
    pub id: Box<str>,
    /// When somebody signed in; the same after a renewal.
    #[serde(rename = "b")]
    pub began: i64,
    /// When it ends, renewed or not.
    #[serde(rename = "e")]
    pub ends: i64,
    /// The ID token as the provider signed it; it was verified when it came.
    #[serde(rename = "t")]
    pub id_token: Box<str>,
    /// When it was begun by a step-up; 0 where it was not.
    #[serde(rename = "w", default, skip_serializing_if = "is_zero")]
    pub raised: i64,
    /// What brings a newer one.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<Box<str>>,
    /// When it is to be renewed, and until when it is good without. Only with a refresh token.
    #[serde(rename = "d", default)]
    pub due: i64,
    /// See `due`.
    #[serde(rename = "f", default)]
    pub fresh_until: i64,
}

impl Session {
    /// Whether it is time to renew it.
    #[must_use]
    pub fn is_due(&self, now: i64) -> bool {
        self.refresh_token.is_some() && now >= self.due
    }

    /// Whether it is good without being renewed.
    #[must_use]
    pub fn is_fresh(&self, now: i64) -> bool {
        now < self.ends && (self.refresh_token.is_none() || now < self.fresh_until)
    }

    /// Until when nobody needs to look at it again.
    pub(in crate::identity) fn settled_until(&self) -> i64 {
        if self.refresh_token.is_some() {
            self.ends.min(self.due)
        } else {
            self.ends
        }
    }

    /// Who that is. The session's own name stands in `jti` and its beginning in `iat`, so that it can be revoked by them: what
    /// a renewal brings is no new sign-in.
    pub(in crate::identity) fn principal(
        &self,
        oidc: &Oidc,
        source: &Arc<str>,
    ) -> Result<Principal, AuthError> {
        let mut claims: Map<String, Value> = Reading::read(&self.id_token)?.into_claims();
        for name in PROTOCOL {
            claims.remove(name);
        }
        claims.insert("jti".to_owned(), Value::from(&*self.id));
        claims.insert("iat".to_owned(), Value::from(self.began));
        let user = claims.get("sub").and_then(Value::as_str);
        let user: Arc<str> = Arc::from(user.ok_or(AuthError::Malformed)?);
        let roles = oidc.roles.as_deref();
        let roles = roles.map_or_else(Vec::new, |path| claims::roles(&claims, path));
        let device = claims.get("device").and_then(Value::as_object);
        let device = device.cloned().unwrap_or_default();
        let until = if self.refresh_token.is_some() {
            self.ends.min(self.fresh_until)
        } else {
            self.ends
        };
        Ok(Principal {
            user,
            source: Arc::clone(source),
            roles,
            claims,
            device,
            expires: Some(Timestamp::from_second(until).unwrap_or(Timestamp::MAX)),
        })
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("ends", &self.ends)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Claims that speak of the token and not of the person.
const PROTOCOL: [&str; 8] = [
    "nonce", "at_hash", "c_hash", "s_hash", "exp", "iat", "nbf", "jti",
];
