//! Devices: what a client certificate, a verified token and a list of devices say together.
//!
//! The list knows a device by a name that somebody trusted has signed: the token's claim `device.id`, or of the certificate the
//! digest of its key, its serial number, its host names, its common name, in this order. A request with no such name comes
//! from no listed device, and the state of the list is nothing to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::certificate::ClientCertificate;
use crate::value::device::{CERTIFICATE, Device};
use crate::value::principal::Principal;

/// A list of devices, as it was at some time.
#[derive(Debug)]
pub struct Posture {
    devices: Map<String, Value>,
    at: Timestamp,
}

/// A list that is fetched. Outlives reloads.
#[derive(Debug, Default)]
pub struct RemotePosture {
    newest: ArcSwapOption<Posture>,
    outcomes: [AtomicU64; 2],
}

/// `[devices]`.
#[derive(Debug)]
pub struct Devices {
    /// Where the list is.
    pub list: List,
    /// How old it may be.
    pub max_age: SignedDuration,
}

/// Where a list of devices is.
#[derive(Debug)]
pub enum List {
    /// In a file that was read.
    Fixed(Arc<Posture>),
    /// Elsewhere.
    Remote(Arc<RemotePosture>),
}

impl Posture {
    /// Reads a list: an object of objects, by the names of devices. Nothing where it is another thing.
    #[must_use]
    pub fn read(json: &[u8], at: Timestamp) -> Option<Self> {
        let Value::Object(devices) = serde_json::from_slice(json).ok()? else {
            return None;
        };
        devices
            .values()
            .all(Value::is_object)
            .then_some(Self { devices, at })
    }

    /// When it was true.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// How many devices it lists.
    #[must_use]
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Whether it lists none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }
}

impl RemotePosture {
    /// The last good list.
    #[must_use]
    pub fn newest(&self) -> Option<Arc<Posture>> {
        self.newest.load_full()
    }

    /// Attempts to fetch it, good and bad.
    #[must_use]
    pub fn outcomes(&self) -> [u64; 2] {
        self.outcomes
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed))
    }

    /// An attempt has ended: with a list, or with nothing, and then the last good one stays.
    pub fn end(&self, fetched: Option<Posture>) {
        let [good, bad] = &self.outcomes;
        match fetched {
            Some(posture) => {
                good.fetch_add(1, Ordering::Relaxed);
                self.newest.store(Some(Arc::new(posture)));
            }
            None => {
                bad.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Devices {
    /// The list, whatever its age.
    #[must_use]
    pub fn newest(&self) -> Option<Arc<Posture>> {
        match &self.list {
            List::Fixed(posture) => Some(Arc::clone(posture)),
            List::Remote(remote) => remote.newest(),
        }
    }
}

/// What is known of the device of a request. The list's word stands before the token's, since it is newer; nobody but the
/// certificate speaks under its own name.
#[must_use]
pub fn device(
    devices: Option<&Devices>,
    certificate: Option<&ClientCertificate>,
    principal: Option<&Principal>,
    now: Timestamp,
) -> Device {
    let said = principal.map(|principal| &principal.device);
    let mut facts = said.cloned().unwrap_or_default();
    let mut failed = false;
    if let Some(devices) = devices {
        let named = said.and_then(|said| said.get("id")?.as_str());
        let shown = certificate
            .into_iter()
            .flat_map(ClientCertificate::device_names);
        let mut names = named.into_iter().chain(shown).peekable();
        if names.peek().is_some() {
            let list = devices.newest();
            let list = list.filter(|list| now.duration_since(list.at) <= devices.max_age);
            failed = list.is_none();
            let list = list.as_ref().map(|list| &list.devices);
            let listed = list.and_then(|list| names.find_map(|name| list.get(name)?.as_object()));
            for (key, value) in listed.into_iter().flatten() {
                facts.insert(key.clone(), value.clone());
            }
        }
    }
    facts.remove(CERTIFICATE);
    if let Some(certificate) = certificate {
        let own = Value::Object(certificate.facts.clone());
        facts.insert(CERTIFICATE.to_owned(), own);
    }
    Device { facts, failed }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use serde_json::json;

    use super::*;

    fn principal(device: &Value) -> Principal {
        Principal {
            user: Arc::from("anna"),
            source: Arc::from("sso"),
            roles: Vec::new(),
            claims: Map::new(),
            device: device.as_object().unwrap().clone(),
            expires: None,
        }
    }

    #[test]
    fn the_list_counts_while_it_is_fresh_and_for_devices_with_a_name() {
        let at: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let list = br#"{ "laptop-7": { "managed": true, "certificate": { "spki": "forged" } }, "old": { "managed": false } }"#;
        let devices = |age: i64| Devices {
            list: List::Fixed(Arc::new(
                Posture::read(
                    list,
                    at.checked_sub(SignedDuration::from_secs(age)).unwrap(),
                )
                .unwrap(),
            )),
            max_age: SignedDuration::from_secs(60),
        };
        let never = Devices {
            list: List::Remote(Arc::default()),
            max_age: SignedDuration::from_secs(60),
        };
        let fresh = devices(60);
        let stale = devices(61);
        for (list, said, want, failed, why) in [
            (
                Some(&fresh),
                json!({ "id": "laptop-7" }),
                json!({ "id": "laptop-7", "managed": true }),
                false,
                "listed",
            ),
            (
                Some(&fresh),
                json!({ "id": "laptop-7", "managed": false }),
                json!({ "id": "laptop-7", "managed": true }),
                false,
                "the list before the token",
            ),
            (
                Some(&fresh),
                json!({ "id": "nobody's" }),
                json!({ "id": "nobody's" }),
                false,
                "not listed",
            ),
            (
                Some(&fresh),
                json!({ "id": 7 }),
                json!({ "id": 7 }),
                false,
                "no name",
            ),
            (
                Some(&fresh),
                json!({ "certificate": { "spki": "forged" } }),
                json!({}),
                false,
                "a token does not speak for a certificate",
            ),
            (
                Some(&stale),
                json!({ "id": "laptop-7" }),
                json!({ "id": "laptop-7" }),
                true,
                "too old",
            ),
            (
                Some(&stale),
                json!({}),
                json!({}),
                false,
                "too old, and nothing to this one",
            ),
            (
                Some(&never),
                json!({ "id": "laptop-7" }),
                json!({ "id": "laptop-7" }),
                true,
                "never fetched",
            ),
            (
                None,
                json!({ "managed": true }),
                json!({ "managed": true }),
                false,
                "no list: the token's word",
            ),
        ] {
            let got = device(list, None, Some(&principal(&said)), at);
            assert_eq!(Value::Object(got.facts), want, "{why}");
            assert_eq!(got.failed, failed, "{why}");
        }
        for json in ["", "[]", "{", r#"{"a":1}"#] {
            assert!(Posture::read(json.as_bytes(), at).is_none(), "{json}");
        }
    }
}
