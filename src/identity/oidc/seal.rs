//! Sealed text: what a browser keeps for us and can neither read nor change. AES-256-GCM with random nonces (NIST SP 800-38D).
//!
//! A sealed text is base64url of: a version, the first bytes of the key's digest, the nonce, the ciphertext with its tag. What
//! it was sealed for is authenticated with it, so a login in progress never passes for a session, nor one source's for
//! another's.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};

/// Keys that seal. The first one seals, all of them open: a new key is written in front of the old one, which stays until the
/// sessions that it sealed have ended.
pub struct Keyring {
    keys: Vec<SealingKey>,
}

struct SealingKey {
    id: [u8; ID_LEN],
    key: RandomizedNonceKey,
}

/// A line of a key file holds no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKeys {
    /// The line, from 1.
    #[error("line {0} is no key of 32 bytes in base64 or hexadecimal digits")]
    Line(usize),
    /// The line, from 1, whose key stands before it already.
    #[error("line {0} repeats a key")]
    Repeated(usize),
    /// None at all.
    #[error("the file holds no key")]
    None,
}

impl Keyring {
    /// The keys of a file: one a line, 32 bytes in base64 or hexadecimal digits; empty lines and `#` comments aside.
    ///
    /// # Errors
    /// [`BadKeys`], which never repeats what stands in the line.
    pub fn parse(text: &str) -> Result<Self, BadKeys> {
        let mut keys: Vec<[u8; KEY_LEN]> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = key(line).ok_or(BadKeys::Line(number + 1))?;
            if keys.contains(&key) {
                return Err(BadKeys::Repeated(number + 1));
            }
            keys.push(key);
        }
        Self::of(&keys).ok_or(BadKeys::None)
    }

    /// A key that nobody else has; none where the machine has no randomness.
    #[must_use]
    pub fn random() -> Option<Self> {
        Self::of(&[random()?])
    }

    fn of(keys: &[[u8; KEY_LEN]]) -> Option<Self> {
        let keys = keys.iter().map(|key| {
            Some(SealingKey {
                id: first(digest(&SHA256, key).as_ref())?,
                key: RandomizedNonceKey::new(&AES_256_GCM, key).ok()?,
            })
        });
        let keys: Vec<SealingKey> = keys.collect::<Option<_>>()?;
        (!keys.is_empty()).then_some(Self { keys })
    }

    /// Seals; none where the machine has no randomness.
    pub(super) fn seal(&self, purpose: &[u8], plain: &[u8]) -> Option<String> {
        let SealingKey { id, key } = self.keys.first()?;
        let mut sealed = plain.to_vec();
        let nonce = key
            .seal_in_place_append_tag(Aad::from(purpose), &mut sealed)
            .ok()?;
        let mut out = Vec::with_capacity(HEAD_LEN + sealed.len());
        out.push(VERSION);
        out.extend_from_slice(id);
        out.extend_from_slice(nonce.as_ref());
        out.extend_from_slice(&sealed);
        Some(URL_SAFE_NO_PAD.encode(out))
    }

    /// Opens what one of the keys has sealed for the same purpose.
    pub(super) fn open(&self, purpose: &[u8], text: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (id, rest) = rest.split_at_checked(ID_LEN)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        if *version != VERSION {
            return None;
        }
        let fitting = self.keys.iter().filter(|key| key.id == id);
        fitting.into_iter().find_map(|key| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut sealed = sealed.to_vec();
            let opened = key
                .key
                .open_in_place(nonce, Aad::from(purpose), &mut sealed);
            let length = opened.ok()?.len();
            sealed.truncate(length);
            Some(sealed)
        })
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

/// Random bytes; none where the machine has no randomness.
pub(super) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(bytes)
}

fn key(line: &str) -> Option<[u8; KEY_LEN]> {
    if line.len() == 2 * KEY_LEN {
        let digit = |at: usize| {
            let pair = line.get(2 * at..2 * at + 2)?;
            pair.bytes()
                .all(|byte| byte.is_ascii_hexdigit())
                .then_some(())?;
            u8::from_str_radix(pair, 16).ok()
        };
        let bytes: Option<Vec<u8>> = (0..KEY_LEN).map(digit).collect();
        return first(&bytes?);
    }
    let bytes = [&STANDARD, &URL_SAFE]
        .iter()
        .find_map(|form| form.decode(line).ok())?;
    (bytes.len() == KEY_LEN).then(|| first(&bytes))?
}

fn first<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.get(..N)?.try_into().ok()
}

const EITHER: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, EITHER);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, EITHER);
const KEY_LEN: usize = 32;
const ID_LEN: usize = 4;
const VERSION: u8 = 1;
const HEAD_LEN: usize = 1 + ID_LEN + NONCE_LEN;

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::string_slice,
        reason = "tests may stop at the first surprise"
    )]

    use super::*;

    const FIRST: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const SECOND: &str = "0101010101010101010101010101010101010101010101010101010101010101";

    #[test]
    fn only_whole_keys_are_keys() {
        for (text, want, why) in [
            ("", Some(BadKeys::None), "an empty file"),
            (
                "# a comment\n\n",
                Some(BadKeys::None),
                "nothing but a comment",
            ),
            ("password", Some(BadKeys::Line(1)), "a word"),
            ("# key\nAAAA", Some(BadKeys::Line(2)), "three bytes"),
            (
                &format!("{FIRST}\n{FIRST}"),
                Some(BadKeys::Repeated(2)),
                "the same twice",
            ),
            (&"g".repeat(64), Some(BadKeys::Line(1)), "no digits"),
            (
                &"+1".repeat(32),
                Some(BadKeys::Line(1)),
                "signs are no digits",
            ),
            (
                &format!("{FIRST}A"),
                Some(BadKeys::Line(1)),
                "a byte too many",
            ),
            (FIRST, None, "base64"),
            (FIRST.trim_end_matches('='), None, "without padding"),
            (SECOND, None, "hexadecimal"),
            (&format!("  {SECOND}  \n{FIRST}\n"), None, "two"),
        ] {
            assert_eq!(Keyring::parse(text).err(), want, "{why}");
        }
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose_and_whole_only() {
        let ring = Keyring::parse(FIRST).unwrap();
        let text = ring.seal(b"session", b"plain").unwrap();
        assert_ne!(
            text,
            ring.seal(b"session", b"plain").unwrap(),
            "the nonce is new every time"
        );
        assert_eq!(ring.open(b"login", &text), None, "another purpose");
        assert_eq!(ring.open(b"session", ""), None);
        assert_eq!(ring.open(b"session", "AQ"), None, "too short");
        let other = Keyring::parse(SECOND).unwrap();
        assert_eq!(other.open(b"session", &text), None, "another key");
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(ring.open(b"session", &changed), None, "changed at {at}");
            assert_eq!(ring.open(b"session", &text[..at]), None, "cut at {at}");
        }
        assert_eq!(ring.open(b"session", &text).unwrap(), b"plain");
    }

    #[test]
    fn keys_rotate() {
        let old = Keyring::parse(FIRST).unwrap();
        let new = Keyring::parse(&format!("{SECOND}\n{FIRST}")).unwrap();
        let last = Keyring::parse(SECOND).unwrap();
        let before = old.seal(b"s", b"1").unwrap();
        let after = new.seal(b"s", b"2").unwrap();
        assert_eq!(
            new.open(b"s", &before).unwrap(),
            b"1",
            "the old key still opens"
        );
        assert_eq!(last.open(b"s", &after).unwrap(), b"2", "the new key seals");
        assert_eq!(last.open(b"s", &before), None, "the old key is gone");
        assert_eq!(
            old.open(b"s", &after),
            None,
            "nothing new under the old key"
        );
    }
}
