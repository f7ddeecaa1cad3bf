//! Who asks, as a signed word of our own for the application (RFC 7519, RFC 7515).
//!
//! A header that only names a user is believed because of the network between us and the application; one that is signed is
//! believed because of the key. The token is short-lived, and made once for an identity and not once for a request: a
//! signature costs more than all the rest of a request. Its `jti` is therefore that of the request for which it was made.
//!
//! | field | what it says |
//! |---|---|
//! | `iss` | `portcullis` |
//! | `aud` | the site: its first host |
//! | `sub` | the user; absent where the credential names none |
//! | `auth` | the identity source that vouches |
//! | `roles` | the roles as granted |
//! | `claims` | the claims of `headers_to_upstream.claim`, by their paths |
//! | `iat` `exp` | made, and the end: two minutes later, or with the credential |
//! | `jti` | the id of the request for which it was made |

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use smallvec::SmallVec;
use thiserror::Error;

use super::claims;
use crate::value::principal::Principal;

/// A key that signs, and its public half.
pub struct SigningKey {
    pair: Pair,
    public: Value,
    kid: String,
}

enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

/// The key is none that signs here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("is no private key on P-256 or Ed25519")]
pub struct NoSigningKey;

/// Signs who asks, for one site.
#[derive(Debug)]
pub struct Signer {
    /// Distinguishes this one in the cache.
    number: u64,
    /// The field that carries the token.
    pub header: HeaderName,
    audience: Box<str>,
    claims: Vec<Arc<str>>,
    /// The protected header, encoded.
    head: String,
    key: SigningKey,
}

impl SigningKey {
    /// Reads a private key in PKCS#8 or SEC 1.
    ///
    /// # Errors
    /// Where it is of another kind, or broken.
    pub fn read(der: &[u8]) -> Result<Self, NoSigningKey> {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        // The members that RFC 7638 §3.2 and RFC 8037 §2 name, in their order.
        let (pair, public, print) =
            if let Ok(pair) = EcdsaKeyPair::from_private_key_der(algorithm, der) {
                let point = pair.public_key().as_ref();
                let point = point.split_first().filter(|(form, _)| **form == 4);
                let (x, y) = point
                    .and_then(|(_, point)| point.split_at_checked(COORDINATE_BYTES))
                    .ok_or(NoSigningKey)?;
                let (x, y) = (text(x), text(y));
                let print = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
                let public = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256" });
                (Pair::Es256(pair), public, print)
            } else {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der);
                let pair = pair.ok().ok_or(NoSigningKey)?;
                let x = text(pair.public_key().as_ref());
                let print = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
                let public = json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "alg": "EdDSA" });
                (Pair::EdDsa(pair), public, print)
            };
        let kid = text(digest(&SHA256, print.as_bytes()).as_ref());
        Ok(Self { pair, public, kid })
    }

    fn sign(&self, message: &[u8]) -> Option<String> {
        Some(match &self.pair {
            Pair::Es256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).ok()?;
                URL_SAFE_NO_PAD.encode(signature.as_ref())
            }
            Pair::EdDsa(pair) => URL_SAFE_NO_PAD.encode(pair.sign(message).as_ref()),
        })
    }

    const fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Es256(_) => "ES256",
            Pair::EdDsa(_) => "EdDSA",
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// Signs with `key` for the site `audience`, telling the claims at these paths.
    #[must_use]
    pub fn new(header: HeaderName, audience: &str, claims: Vec<Arc<str>>, key: SigningKey) -> Self {
        let head = json!({ "alg": key.algorithm(), "kid": key.kid, "typ": "JWT" });
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            header,
            audience: Box::from(audience),
            claims,
            head: URL_SAFE_NO_PAD.encode(head.to_string()),
            key,
        }
    }

    /// The public key, as a JWK (RFC 7517).
    #[must_use]
    pub fn jwk(&self) -> Value {
        let mut jwk = self.key.public.clone();
        if let Value::Object(members) = &mut jwk {
            members.insert("kid".to_owned(), self.key.kid.clone().into());
            members.insert("use".to_owned(), "sig".into());
        }
        jwk
    }

    /// The token for a principal: one that was made a moment ago, or a new one. Nothing where signing fails.
    #[must_use]
    pub fn token(
        &self,
        principal: &Arc<Principal>,
        request: &HeaderValue,
        now: Timestamp,
    ) -> Option<HeaderValue> {
        let now = now.as_second();
        CACHE.with_borrow_mut(|cache| {
            if let Some(known) = cache.find(self.number, principal, now) {
                return Some(known);
            }
            let end = now + LIFE_SECONDS;
            let own = principal.expires.map_or(end, Timestamp::as_second);
            let end = end.min(own);
            let token = self.make(principal, request, now, end)?;
            let entry = Entry {
                signer: self.number,
                principal: Arc::clone(principal),
                token: token.clone(),
                renew: end.min(now + RENEW_SECONDS),
            };
            cache.put(entry);
            Some(token)
        })
    }

    fn make(
        &self,
        principal: &Principal,
        request: &HeaderValue,
        now: i64,
        end: i64,
    ) -> Option<HeaderValue> {
        let mut told = Map::new();
        for path in &self.claims {
            if let Some(value) = claims::at(&principal.claims, path) {
                told.insert(path.to_string(), value.clone());
            }
        }
        let mut payload = json!({
            "iss": ISSUER,
            "aud": self.audience,
            "auth": principal.source,
            "roles": principal.roles,
            "iat": now,
            "exp": end,
            "jti": request.to_str().unwrap_or_default(),
        });
        if let Value::Object(members) = &mut payload {
            if !principal.user.is_empty() {
                members.insert("sub".to_owned(), (*principal.user).into());
            }
            if !self.claims.is_empty() {
                members.insert("claims".to_owned(), told.into());
            }
        }
        let mut token = self.head.clone();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload.to_string(), &mut token);
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        token.push_str(&signature);
        HeaderValue::try_from(token).ok()
    }
}

/// Tokens made on this thread. Two generations, as the cache of verified credentials has them: bounded, and never scanned.
#[derive(Default)]
struct Cache {
    random: RandomState,
    young: HashMap<u64, Bucket, foldhash::fast::RandomState>,
    old: HashMap<u64, Bucket, foldhash::fast::RandomState>,
}

/// Identities with one user name: a person with two devices.
type Bucket = SmallVec<[Entry; 1]>;

struct Entry {
    signer: u64,
    principal: Arc<Principal>,
    token: HeaderValue,
    /// From this second on another one is made.
    renew: i64,
}

impl Entry {
    fn is(&self, signer: u64, principal: &Arc<Principal>) -> bool {
        self.signer == signer
            && (Arc::ptr_eq(&self.principal, principal) || *self.principal == **principal)
    }
}

impl Cache {
    fn find(&mut self, signer: u64, principal: &Arc<Principal>, now: i64) -> Option<HeaderValue> {
        let key = self.key(signer, principal);
        let known = |bucket: &Bucket| {
            let entry = bucket.iter().find(|entry| entry.is(signer, principal))?;
            (now < entry.renew).then(|| entry.token.clone())
        };
        if let Some(bucket) = self.young.get(&key) {
            return known(bucket);
        }
        let bucket = self.old.remove(&key)?;
        let found = known(&bucket);
        self.young.insert(key, bucket);
        found
    }

    fn put(&mut self, entry: Entry) {
        let key = self.key(entry.signer, &entry.principal);
        if self.young.len() >= USERS_MAX {
            self.old = mem::take(&mut self.young);
        }
        let bucket = self.young.entry(key).or_default();
        bucket.retain(|known| !known.is(entry.signer, &entry.principal));
        if bucket.len() >= DEVICES_MAX {
            bucket.remove(0);
        }
        bucket.push(entry);
    }

    fn key(&self, signer: u64, principal: &Principal) -> u64 {
        let named = (signer, &principal.source, &principal.user);
        self.random.hash_one(named)
    }
}

/// `iss`.
const ISSUER: &str = "portcullis";
/// How long a token may be shown.
const LIFE_SECONDS: i64 = 120;
/// How long one is handed out: the application then has the rest to act on it.
const RENEW_SECONDS: i64 = 60;
const COORDINATE_BYTES: usize = 32;
/// Users of one generation.
const USERS_MAX: usize = 1024;
/// Tokens for one user name.
const DEVICES_MAX: usize = 4;

static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation};

    use super::*;

    fn principal(user: &str, role: &str, expires: Option<i64>) -> Arc<Principal> {
        Arc::new(Principal {
            user: Arc::from(user),
            source: Arc::from("sso"),
            roles: vec![Arc::from(role)],
            claims: json!({ "email": "anna@example.com", "org": { "id": 7 }, "secret": "x" })
                .as_object()
                .unwrap()
                .clone(),
            device: Map::new(),
            expires: expires.map(|second| Timestamp::from_second(second).unwrap()),
        })
    }

    fn signer(key: SigningKey) -> Signer {
        let claims = ["email", "org.id", "missing"].map(Arc::from).into();
        Signer::new(
            HeaderName::from_static("x-identity"),
            "app.test",
            claims,
            key,
        )
    }

    fn keys() -> [(SigningKey, Algorithm); 4] {
        let p256 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let ed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        // As `openssl genpkey -algorithm ed25519` writes it.
        let short = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g";
        let short = base64::engine::general_purpose::STANDARD
            .decode(short)
            .unwrap();
        let again = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        [
            (p256.serialize_der(), Algorithm::ES256),
            (ed.serialize_der(), Algorithm::EdDSA),
            (short, Algorithm::EdDSA),
            (again.serialize_der(), Algorithm::ES256),
        ]
        .map(|(der, algorithm)| (SigningKey::read(&der).unwrap(), algorithm))
    }

    fn verify(signer: &Signer, token: &HeaderValue, algorithm: Algorithm) -> Value {
        let jwk: Jwk = serde_json::from_value(signer.jwk()).unwrap();
        let key = DecodingKey::from_jwk(&jwk).unwrap();
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&["app.test"]);
        validation.set_issuer(&["portcullis"]);
        validation.validate_exp = false;
        let token = token.to_str().unwrap();
        let head = jsonwebtoken::decode_header(token).unwrap();
        assert_eq!(head.kid.as_deref(), signer.jwk()["kid"].as_str());
        let thumbprint = jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256);
        assert_eq!(head.kid, thumbprint.ok(), "RFC 7638");
        jsonwebtoken::decode::<Value>(token, &key, &validation)
            .unwrap()
            .claims
    }

    #[test]
    fn any_library_verifies_it_with_the_published_key() {
        let now = Timestamp::from_second(1_000).unwrap();
        for (key, algorithm) in keys() {
            let signer = signer(key);
            let id = HeaderValue::from_static("request-1");
            let token = signer
                .token(&principal("anna", "staff", Some(1_030)), &id, now)
                .unwrap();
            assert_eq!(
                verify(&signer, &token, algorithm),
                json!({ "iss": "portcullis", "aud": "app.test", "sub": "anna", "auth": "sso", "roles": ["staff"],
                    "claims": { "email": "anna@example.com", "org.id": 7 }, "iat": 1_000, "exp": 1_030, "jti": "request-1" }),
            );
            let token = signer
                .token(&principal("", "staff", None), &id, now)
                .unwrap();
            let said = verify(&signer, &token, algorithm);
            assert_eq!(
                (said.get("sub"), &said["exp"]),
                (None, &json!(1_120)),
                "a program without a user"
            );
        }
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        for (der, why) in [
            (p384.serialize_der(), "another curve"),
            (Vec::new(), "nothing"),
            (vec![0x30; 48], "garbage"),
        ] {
            assert_eq!(SigningKey::read(&der).err(), Some(NoSigningKey), "{why}");
        }
    }

    #[test]
    fn one_signature_serves_an_identity_until_it_is_renewed() {
        let [(key, _), (other, _), ..] = keys();
        let (signer, other) = (signer(key), signer(other));
        let token = |signer: &Signer, who: &Arc<Principal>, id: &'static str, second: i64| {
            let now = Timestamp::from_second(second).unwrap();
            signer
                .token(who, &HeaderValue::from_static(id), now)
                .unwrap()
        };
        let anna = principal("anna", "staff", None);
        let first = token(&signer, &anna, "1", 1_000);
        for (signer, who, second, same, why) in [
            (&signer, anna.clone(), 1_059, true, "the same"),
            (
                &signer,
                principal("anna", "staff", None),
                1_059,
                true,
                "as another source of words says it",
            ),
            (
                &signer,
                principal("anna", "guest", None),
                1_000,
                false,
                "with another role",
            ),
            (
                &signer,
                principal("anna", "staff", Some(1_500)),
                1_000,
                false,
                "with another end",
            ),
            (
                &signer,
                principal("bob", "staff", None),
                1_000,
                false,
                "another",
            ),
            (&other, anna.clone(), 1_000, false, "for another site"),
            (
                &signer,
                anna.clone(),
                1_060,
                false,
                "it is time for a new one",
            ),
        ] {
            assert_eq!(token(signer, &who, "2", second) == first, same, "{why}");
        }
        for number in 0..5_000 {
            let id = "3";
            token(
                &signer,
                &principal(&number.to_string(), "staff", None),
                id,
                2_000,
            );
        }
        CACHE.with_borrow(|cache| {
            assert!(cache.young.len() <= USERS_MAX && cache.old.len() <= USERS_MAX);
        });
    }
}
