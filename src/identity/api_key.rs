//! API keys: long random strings of programs, kept as SHA-256 digests. A key has 256 bits of randomness, so no slow hash is
//! needed, and finding a digest tells nothing about a key.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use ipnet::IpNet;
use jiff::Timestamp;

use super::error::AuthError;
use super::revocation::Check;
use crate::value::principal::Principal;

/// An `api_key` source.
#[derive(Default)]
pub struct ApiKeys {
    keys: HashMap<[u8; 32], ApiKey>,
}

/// One key: what it grants, from where and until when.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// Its name, unique in its file.
    pub id: Box<str>,
    /// Whom it stands for.
    pub principal: Arc<Principal>,
    /// Where it may be used from; empty: anywhere.
    pub networks: Vec<IpNet>,
}

impl ApiKeys {
    /// Adds a key by its digest. Answers the id of the key that has this digest already.
    ///
    /// # Errors
    /// Where the digest is taken: one secret cannot be two keys.
    pub fn add(&mut self, sha256: [u8; 32], key: ApiKey) -> Result<(), Box<str>> {
        if let Some(first) = self.keys.get(&sha256) {
            return Err(first.id.clone());
        }
        self.keys.insert(sha256, key);
        Ok(())
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Finds the principal of a key as sent.
    pub(super) fn verify(
        &self,
        key: &str,
        client: IpAddr,
        now: Timestamp,
    ) -> Result<Arc<Principal>, AuthError> {
        if key.len() > KEY_BYTES_MAX {
            return Err(AuthError::TooLarge);
        }
        // The table is searched by digest: what its timing could tell is a prefix of a digest that the caller computed.
        let found = self.keys.get(&sha256(key)).ok_or(AuthError::Unknown)?;
        if found.principal.expires.is_some_and(|end| now >= end) {
            return Err(AuthError::Expired);
        }
        let networks = &found.networks;
        if !networks.is_empty() && !networks.iter().any(|network| network.contains(&client)) {
            return Err(AuthError::WrongNetwork);
        }
        Ok(Arc::clone(&found.principal))
    }

    /// Whether a key as sent is revoked.
    pub(super) fn revoked(&self, key: &str, check: &Check<'_>, source: &str) -> bool {
        let digest = sha256(key);
        let id = self.keys.get(&digest).map_or("", |found| &found.id);
        check.key(id, &digest, source)
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeys")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

/// The digest under which a key is kept.
#[must_use]
pub fn sha256(key: &str) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest(&SHA256, key.as_bytes()).as_ref()) {
        *to = *from;
    }
    out
}

/// Writes a new key: `pk_`, 43 base-62 digits of the random bytes, and 6 of a checksum, by which scanners of leaked secrets
/// know a true key from a random word.
#[must_use]
pub fn write(random: [u8; 32]) -> String {
    let mut key = String::with_capacity(3 + RANDOM_DIGITS + CHECK_DIGITS);
    key.push_str("pk_");
    base62(&mut key, random.to_vec(), RANDOM_DIGITS);
    let check = sha256(&key);
    base62(
        &mut key,
        check.iter().take(4).copied().collect(),
        CHECK_DIGITS,
    );
    key
}

/// Writes a big-endian number as base-62 digits, least significant first.
fn base62(to: &mut String, mut number: Vec<u8>, digits: usize) {
    for _ in 0..digits {
        let mut rest = 0_u32;
        for byte in &mut number {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            rest = value % 62;
        }
        let digit = DIGITS.get(rest as usize).copied().unwrap_or(b'0');
        to.push(char::from(digit));
    }
}

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^43 > 2^256.
const RANDOM_DIGITS: usize = 43;
/// 62^6 > 2^32.
const CHECK_DIGITS: usize = 6;
/// The longest key that is looked up.
const KEY_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_keys_are_long_and_distinct() {
        for random in [[0; 32], [0xff; 32], [7; 32]] {
            let key = write(random);
            assert_eq!(key.len(), 52, "{key}");
            assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        }
        assert_ne!(write([0; 32]), write([1; 32]));
        let mut last = [0; 32];
        last[31] = 1;
        assert_ne!(write([0; 32]), write(last), "every byte counts");
    }
}
