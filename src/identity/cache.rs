//! Verified credentials, remembered: checking a signature costs tens of microseconds and a password hash tens of
//! milliseconds, a look here about one.
//!
//! One cache per thread, so no lock. Its key is an HMAC under a secret of this process over the credential and everything that
//! decides who claims it, so neither the credential nor a digest that could be attacked offline stays in memory. Only *valid*
//! credentials enter: a stranger cannot fill it. A new configuration has new authenticators with new numbers and so begins
//! empty.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;

use crate::value::principal::Principal;

/// What a credential is remembered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

/// A valid credential.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// First and last second of validity.
    pub(super) from: i64,
    pub(super) until: i64,
    /// The source, by its place in the site's order.
    pub(super) source: usize,
    pub(super) principal: Arc<Principal>,
}

/// The key of a credential; none where the machine has no randomness, and then nothing is remembered. `epoch` rises with what
/// may make a valid credential invalid: what was remembered before it is not found any more.
pub(super) fn key(authenticator: u64, epoch: u64, place: usize, credential: &[u8]) -> Option<Key> {
    let mut context = hmac::Context::with_key(SECRET.as_ref()?);
    context.update(&authenticator.to_ne_bytes());
    context.update(&epoch.to_ne_bytes());
    context.update(&place.to_ne_bytes());
    context.update(credential);
    let mut key = [0; 32];
    for (to, from) in key.iter_mut().zip(context.sign().as_ref()) {
        *to = *from;
    }
    Some(Key(key))
}

/// The remembered entry, if it is valid at `now` (in seconds).
pub(super) fn find(key: Option<Key>, now: i64) -> Option<Entry> {
    CACHE.with_borrow_mut(|cache| cache.find(key?, now))
}

/// Remembers an entry; `size` is what it weighs, in bytes.
pub(super) fn remember(key: Option<Key>, entry: Entry, size: usize) {
    if let Some(key) = key {
        CACHE.with_borrow_mut(|cache| cache.put(key, entry, size));
    }
}

/// Two generations: the young one takes new entries, and when it is full it becomes the old one, whose entries then have one
/// more chance to be used. Bounded, and nothing is ever scanned.
#[derive(Default)]
struct Cache {
    young: Generation,
    old: Generation,
}

#[derive(Default)]
struct Generation {
    entries: HashMap<Key, (Entry, usize), foldhash::fast::RandomState>,
    size: usize,
}

impl Cache {
    fn find(&mut self, key: Key, now: i64) -> Option<Entry> {
        let valid = |entry: &Entry| now >= entry.from && now < entry.until;
        if let Some((entry, _)) = self.young.entries.get(&key) {
            return valid(entry).then(|| entry.clone());
        }
        let (entry, size) = self.old.entries.remove(&key)?;
        self.old.size -= size;
        valid(&entry).then(|| {
            self.put(key, entry.clone(), size);
            entry
        })
    }

    fn put(&mut self, key: Key, entry: Entry, size: usize) {
        let young = &self.young;
        if young.entries.len() >= ENTRIES_MAX || young.size + size > SIZE_MAX {
            self.old = mem::take(&mut self.young);
        }
        self.young.size += size;
        if let Some((_, before)) = self.young.entries.insert(key, (entry, size)) {
            self.young.size -= before;
        }
    }
}

/// Entries of one generation.
const ENTRIES_MAX: usize = 1024;
/// Bytes of one generation, as entries weigh themselves; parsed claims take about three times that.
const SIZE_MAX: usize = 1024 * 1024;

static SECRET: LazyLock<Option<hmac::Key>> =
    LazyLock::new(|| hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok());

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use super::*;

    fn entry(from: i64, until: i64) -> Entry {
        let principal = Principal {
            user: Arc::from("u"),
            source: Arc::from("s"),
            roles: Vec::new(),
            claims: serde_json::Map::new(),
            device: serde_json::Map::new(),
            expires: None,
        };
        Entry {
            from,
            until,
            source: 0,
            principal: Arc::new(principal),
        }
    }

    #[test]
    fn an_entry_is_valid_in_its_time_only() {
        let mut cache = Cache::default();
        let key = Key([1; 32]);
        cache.put(key, entry(10, 20), 1);
        for (now, want) in [(9, false), (10, true), (19, true), (20, false)] {
            assert_eq!(cache.find(key, now).is_some(), want, "at {now}");
        }
    }

    #[test]
    fn the_cache_stays_small_and_keeps_what_is_used() {
        let mut cache = Cache::default();
        let used = Key([0xff; 32]);
        cache.put(used, entry(0, 9), 1);
        for number in 0..5000_u32 {
            let mut key = [0; 32];
            key.iter_mut()
                .zip(number.to_be_bytes())
                .for_each(|(to, from)| *to = from);
            cache.put(Key(key), entry(0, 9), 1);
            assert!(cache.find(used, 1).is_some(), "used after {number}");
            assert!(cache.young.entries.len() <= ENTRIES_MAX);
            assert!(cache.old.entries.len() <= ENTRIES_MAX);
        }
        for number in 0..10_u8 {
            cache.put(Key([number; 32]), entry(0, 9), SIZE_MAX / 2);
            assert!(cache.young.size <= SIZE_MAX);
        }
    }

    #[test]
    fn a_key_depends_on_everything_that_decides_who_claims() {
        let base = key(1, 0, 2, b"x").unwrap();
        for (authenticator, epoch, place, credential) in [
            (2, 0, 2, b"x"),
            (1, 1, 2, b"x"),
            (1, 0, 1, b"x"),
            (1, 0, 2, b"y"),
        ] {
            assert_ne!(base, key(authenticator, epoch, place, credential).unwrap());
        }
        assert_eq!(base, key(1, 0, 2, b"x").unwrap());
    }
}
