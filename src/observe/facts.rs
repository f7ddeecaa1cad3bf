//! `facts` of the access log: what rules read of a request and no other column carries, so that `replay` can judge again.
//!
//! | key | value |
//! |---|---|
//! | `header.NAME` | list of the values sent, for each field that some rule names; `[]` where none was sent |
//! | `claim.PATH` `device.NAME` | the value, for each that some rule names, where somebody is known; `null` where it is not there |
//! | `upgrade` | `"websocket"` or `null`, where some rule asks |
//! | `continent` `subdivisions` `anonymizer` | where some rule asks and the region was looked up |
//! | `asn` | `"unlisted"`, where some rule asks, it was looked up, and there is none |
//! | `failed` | list of geographic facts whose source had failed |
//! | `identity` | `"none"` where the caller was looked at and is nobody |
//!
//! A key that is absent is not known: what is too long or carries a credential is left out. Cookies are never here.

use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, USER_AGENT};
use serde_json::{Map, Value};

use crate::observe::record::Record;
use crate::observe::ring::Seen;
use crate::snapshot::Snapshot;
use crate::snapshot::log::Format;
use crate::value::region::GeoFacts;

/// The facts of a request that has ended; none where no log would show them, or there are none.
#[must_use]
pub fn gather(
    record: &Record,
    seen: &Seen,
    snapshot: &Snapshot,
) -> Option<Box<Map<String, Value>>> {
    record.decision?;
    let logs = snapshot.access_logs.iter();
    if !logs.into_iter().any(|log| log.format == Format::Json) {
        return None;
    }
    let inputs = snapshot.policy.inputs();
    let mut facts = Map::new();
    if !inputs.headers.is_empty() {
        headers(seen, snapshot, &mut facts);
    }
    if let Some(principal) = &record.principal {
        values("claim", &inputs.claims, &principal.claims, &mut facts);
    } else if seen.looked && record.auth_error.is_none() {
        facts.insert("identity".to_owned(), "none".into());
    }
    if let Some(device) = &seen.device {
        values("device", &inputs.device, &device.facts, &mut facts);
        if device.failed {
            facts.insert("device_failed".to_owned(), true.into());
        }
    }
    if inputs.upgrade {
        let upgrade = seen.websocket.then_some("websocket");
        facts.insert("upgrade".to_owned(), upgrade.into());
    }
    geography(record, &mut facts);
    (!facts.is_empty()).then(|| Box::new(facts))
}

fn values(
    kind: &str,
    paths: &[Arc<str>],
    held: &Map<String, Value>,
    facts: &mut Map<String, Value>,
) {
    for path in paths.iter().take(NAMES_MAX) {
        let value = crate::policy::claim::dig(held, path);
        let value = value.cloned().unwrap_or_default();
        if size(&value) <= VALUE_BYTES_MAX {
            facts.insert(format!("{kind}.{path}"), value);
        }
    }
}

fn headers(seen: &Seen, snapshot: &Snapshot, facts: &mut Map<String, Value>) {
    // Where no site is known, nobody knows which fields carry its keys.
    let site = seen.place.site;
    let Some(site) = site.and_then(|site| snapshot.sites.get(site.0 as usize)) else {
        return;
    };
    let secret = site.identity.credential_headers();
    for name in snapshot.policy.inputs().headers.iter().take(NAMES_MAX) {
        if secret.contains(name) || [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION].contains(name) {
            continue;
        }
        let sent = seen.headers.iter().filter(|(sent, _)| sent == name);
        if *name == USER_AGENT && sent.clone().count() < 2 {
            // It has a column of its own.
            continue;
        }
        let sent: Option<Vec<Value>> = sent
            .map(|(_, value)| {
                let value = value.as_bytes();
                let text = std::str::from_utf8(value).ok();
                let text = text.filter(|text| text.len() <= VALUE_BYTES_MAX);
                text.map(Value::from)
            })
            .collect();
        if let Some(sent) = sent {
            facts.insert(format!("header.{name}"), Value::Array(sent));
        }
    }
}

fn geography(record: &Record, facts: &mut Map<String, Value>) {
    let Some(region) = &record.region else { return };
    let read = record.region_facts;
    let failed = region.failed.intersection(read);
    let known = read.without(failed);
    let mut add = |key: &str, value: Value| {
        facts.insert(key.to_owned(), value);
    };
    if failed != GeoFacts::NONE {
        add("failed", failed.words().collect::<Vec<_>>().into());
    }
    if known.contains(GeoFacts::CONTINENT) {
        let continent = region.continent.map(|continent| continent.to_string());
        add("continent", continent.into());
    }
    if known.contains(GeoFacts::SUBDIVISION) {
        let all = region.subdivisions.iter().flatten();
        let all: Vec<String> = all.map(ToString::to_string).collect();
        if all.len() > 1 {
            add("subdivisions", all.into());
        }
    }
    if known.contains(GeoFacts::ANONYMIZER) {
        add(
            "anonymizer",
            region.anonymizer.words().collect::<Vec<_>>().into(),
        );
    }
    if known.contains(GeoFacts::ASN) && region.asn.is_none() {
        add("asn", "unlisted".into());
    }
}

/// Bytes of text in a value, about.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + size(value)).sum(),
    }
}

/// Names of one kind that are logged.
const NAMES_MAX: usize = 32;
/// Bytes of a value that is logged; a longer one is left out.
const VALUE_BYTES_MAX: usize = 1024;
