//! JSON Web Tokens, good ones and every wrong kind, signed on the spot.

use std::path::Path;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

/// The shared secret of source `hs`.
pub(crate) const SECRET: &str = "a secret of at least thirty-two bytes, for tests";

/// The RSA keys of this run: ours, and one that nobody trusts.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) private: String,
    pub(crate) public: String,
    pub(crate) other_private: String,
}

/// The keys of this run.
pub(crate) fn keys() -> &'static Keys {
    static KEYS: LazyLock<Keys> = LazyLock::new(|| {
        let rsa = || {
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
                .unwrap()
        };
        let ours = rsa();
        Keys {
            private: ours.serialize_pem(),
            public: ours.public_key_pem(),
            other_private: rsa().serialize_pem(),
        }
    });
    &KEYS
}

/// Writes `jwt-hs.secret` and `jwt-rs.pub`.
pub(crate) fn write(folder: &Path) {
    std::fs::write(folder.join("jwt-hs.secret"), SECRET).unwrap();
    std::fs::write(folder.join("jwt-rs.pub"), &keys().public).unwrap();
}

/// The claims of a good token of a member of the staff.
pub(crate) fn staff() -> Value {
    json!({ "iss": "heldout", "aud": "proxy", "sub": "alice", "exp": now() + 600, "nbf": now() - 10, "iat": now() - 10, "roles": ["staff"] })
}

/// The claims of `staff` with some replaced; `null` removes one.
pub(crate) fn staff_but(changes: Value) -> Value {
    let mut claims = staff();
    for (key, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(key);
        } else {
            claims[key] = value.clone();
        }
    }
    claims
}

/// Signed with HS256 under our secret.
pub(crate) fn hs(claims: &Value) -> String {
    hs_under(
        SECRET.as_bytes(),
        &json!({ "alg": "HS256", "typ": "JWT" }),
        claims,
    )
}

/// Signed with HMAC under any secret, with any header.
pub(crate) fn hs_under(secret: &[u8], header: &Value, claims: &Value) -> String {
    signed(
        header,
        claims,
        &EncodingKey::from_secret(secret),
        Algorithm::HS256,
    )
}

/// Signed with RS256 under any key.
pub(crate) fn rs_under(private: &str, claims: &Value) -> String {
    let key = EncodingKey::from_rsa_pem(private.as_bytes()).unwrap();
    signed(
        &json!({ "alg": "RS256", "typ": "JWT" }),
        claims,
        &key,
        Algorithm::RS256,
    )
}

/// A P-256 key with a name, as a provider has it.
#[derive(Debug)]
pub(crate) struct Named {
    kid: String,
    pair: rcgen::KeyPair,
}

impl Named {
    pub(crate) fn new(kid: &str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Self {
            kid: kid.to_owned(),
            pair,
        }
    }

    /// The public half, as a provider publishes it.
    pub(crate) fn jwk(&self) -> Value {
        let point = &self.pair.public_key_raw()[1..];
        let (x, y) = point.split_at(32);
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.kid, "x": base64url(x), "y": base64url(y) })
    }

    /// A token under this key.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let key = EncodingKey::from_ec_pem(self.pair.serialize_pem().as_bytes()).unwrap();
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": self.kid });
        signed(&header, claims, &key, Algorithm::ES256)
    }
}

/// With header and claims and no signature.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.", message(header, claims))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Base64url without padding.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn signed(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = message(header, claims);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn message(header: &Value, claims: &Value) -> String {
    format!(
        "{}.{}",
        base64url(header.to_string().as_bytes()),
        base64url(claims.to_string().as_bytes())
    )
}
