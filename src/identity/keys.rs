//! Verification keys of tokens: a shared secret, a public key in PEM, or a JWK set (RFC 7517), each bound at load to the
//! algorithms it may verify. A key never serves an algorithm of another family, so an RSA key cannot be an HMAC secret.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::Value;
use thiserror::Error;

/// The algorithms that a source may pin, by the names that stand in tokens (RFC 7518, RFC 8037, RFC 9864).
pub const ALGORITHMS: [(&str, Algorithm); 13] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
    ("Ed25519", Algorithm::EdDSA),
];

/// A key and the algorithms it verifies.
pub struct Key {
    /// Its name in a JWK set.
    pub kid: Option<Box<str>>,
    /// What it verifies; never of two families.
    pub algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

/// A key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No PEM block of a public key.
    #[error("holds no public key in PEM form (`-----BEGIN PUBLIC KEY-----`)")]
    NotPem,
    /// The private half.
    #[error("holds a private key; a proxy needs the public half only")]
    Private,
    /// A certificate.
    #[error("holds a certificate, not a public key")]
    Certificate,
    /// The key itself is broken, on another curve, or too short.
    #[error(
        "holds a key that cannot be used: RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519 is needed"
    )]
    Unusable,
    /// Not a JWK set.
    #[error("is no JWK set: an object with a list `keys` is needed")]
    NotJwks,
}

impl Key {
    /// A shared secret: HMAC only.
    #[must_use]
    pub fn secret(secret: &[u8]) -> Self {
        Self {
            kid: None,
            algorithms: AlgorithmFamily::Hmac.algorithms().to_vec(),
            key: DecodingKey::from_secret(secret),
        }
    }

    /// A public key in PEM form.
    ///
    /// # Errors
    /// Where the text holds something else, or a key that is too weak or of no supported kind.
    pub fn pem(text: &[u8]) -> Result<Self, KeyError> {
        let has = |label: &[u8]| text.windows(label.len()).any(|part| part == label);
        if has(b"PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        if has(b"BEGIN CERTIFICATE-----") {
            return Err(KeyError::Certificate);
        }
        if !has(b"PUBLIC KEY-----") {
            return Err(KeyError::NotPem);
        }
        let kinds: [PemReader; 3] = [
            DecodingKey::from_rsa_pem,
            DecodingKey::from_ec_pem,
            DecodingKey::from_ed_pem,
        ];
        let key = kinds.iter().find_map(|read| read(text).ok());
        let key = key.ok_or(KeyError::Unusable)?;
        let algorithms = key
            .try_get_as_bytes()
            .ok()
            .and_then(|bytes| match key.family() {
                AlgorithmFamily::Hmac => None,
                AlgorithmFamily::Rsa => (parses(&RSA_PKCS1_2048_8192_SHA256, bytes)
                    && modulus_bytes(bytes).is_some_and(|bytes| RSA_BYTES.contains(&bytes)))
                .then(|| AlgorithmFamily::Rsa.algorithms().to_vec()),
                AlgorithmFamily::Ec => curve(bytes).map(|algorithm| vec![algorithm]),
                AlgorithmFamily::Ed => parses(&ED25519, bytes).then(|| vec![Algorithm::EdDSA]),
            });
        Ok(Self {
            kid: None,
            algorithms: algorithms.ok_or(KeyError::Unusable)?,
            key,
        })
    }

    /// Whether it is the public half of a pair, not a shared secret.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.key.family() != AlgorithmFamily::Hmac
    }

    /// The usable keys of a JWK set, and how many were passed over: keys for encryption, of unknown kinds (RFC 7517 §5 asks
    /// to ignore these), or too weak.
    ///
    /// # Errors
    /// Where the text is no JWK set.
    pub fn set(text: &[u8]) -> Result<(Vec<Self>, usize), KeyError> {
        let set: Value = serde_json::from_slice(text).ok().ok_or(KeyError::NotJwks)?;
        let listed = set.get("keys").and_then(Value::as_array);
        let listed = listed.ok_or(KeyError::NotJwks)?;
        let keys: Vec<Self> = listed.iter().filter_map(Self::jwk).collect();
        let passed_over = listed.len() - keys.len();
        Ok((keys, passed_over))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "kinds of keys that nobody here can use are ignored (RFC 7517 §5); the enum is open"
    )]
    fn jwk(value: &Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        let common = &jwk.common;
        if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let operations = common.key_operations.as_deref();
        if operations.is_some_and(|known| !known.contains(&KeyOperations::Verify)) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) => {
                let modulus = URL_SAFE_NO_PAD.decode(&rsa.n).ok()?;
                let bytes = modulus.iter().skip_while(|byte| **byte == 0).count();
                (RSA_BYTES.contains(&bytes)).then(|| AlgorithmFamily::Rsa.algorithms().to_vec())?
            }
            AlgorithmParameters::EllipticCurve(ec) => {
                let algorithm = curve(key.try_get_as_bytes().ok()?)?;
                let named = if ec.curve == EllipticCurve::P256 {
                    Algorithm::ES256
                } else {
                    Algorithm::ES384
                };
                (algorithm == named).then(|| vec![algorithm])?
            }
            AlgorithmParameters::OctetKeyPair(pair) => {
                let usable = pair.curve == EllipticCurve::Ed25519
                    && parses(&ED25519, key.try_get_as_bytes().ok()?);
                usable.then(|| vec![Algorithm::EdDSA])?
            }
            AlgorithmParameters::OctetKey(_) => {
                let long = key.try_get_as_bytes().ok()?.len() >= HMAC_BYTES;
                long.then(|| AlgorithmFamily::Hmac.algorithms().to_vec())?
            }
            _ => return None,
        };
        // The set may say which algorithm a key is for; then it is for no other (RFC 8725 §3.1).
        if let Some(named) = value.get("alg") {
            let named = ALGORITHMS
                .iter()
                .find(|(name, _)| Some(*name) == named.as_str());
            let (_, only) = named?;
            algorithms.retain(|algorithm| algorithm == only);
        }
        (!algorithms.is_empty()).then(|| Self {
            kid: common.key_id.as_deref().map(Box::from),
            algorithms,
            key,
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

/// The bytes that an HMAC secret needs at least: as many as its hash has (RFC 7518 §3.2).
#[must_use]
pub const fn secret_bytes_min(algorithm: Algorithm) -> usize {
    if matches!(algorithm, Algorithm::HS384) {
        48
    } else if matches!(algorithm, Algorithm::HS512) {
        64
    } else {
        HMAC_BYTES
    }
}

type PemReader = fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>;

fn curve(point: &[u8]) -> Option<Algorithm> {
    if parses(&ECDSA_P256_SHA256_FIXED, point) {
        Some(Algorithm::ES256)
    } else {
        parses(&ECDSA_P384_SHA384_FIXED, point).then_some(Algorithm::ES384)
    }
}

/// The size of the modulus of an `RSAPublicKey` in DER (RFC 8017 §A.1.1), leading zeros apart.
fn modulus_bytes(der: &[u8]) -> Option<usize> {
    let (tag, sequence) = element(der)?;
    let (integer, modulus) = element(sequence)?;
    let bytes = modulus.iter().skip_while(|byte| **byte == 0).count();
    (tag == 0x30 && integer == 0x02).then_some(bytes)
}

/// The first element of DER: its tag and its content.
fn element(der: &[u8]) -> Option<(u8, &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    if *first < 0x80 {
        return Some((*tag, rest.get(..usize::from(*first))?));
    }
    let (length, rest) = rest.split_at_checked(usize::from(*first & 0x7f))?;
    let length = length.iter().try_fold(0_usize, |sum, byte| {
        sum.checked_mul(256)?.checked_add(usize::from(*byte))
    })?;
    Some((*tag, rest.get(..length)?))
}

fn parses(algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> bool {
    ParsedPublicKey::new(algorithm, key).is_ok()
}

/// RSA moduli of 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
/// A secret in a JWK set that is shorter is passed over.
const HMAC_BYTES: usize = 32;
