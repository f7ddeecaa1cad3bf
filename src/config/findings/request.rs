//! A request that proves a finding: in words, and as a policy test would write it.

use serde_json::{Map, Value, json};

use crate::config::Witness;
use crate::policy::simulate::{Asked, Caller, Outcome};
use crate::policy::{Policy, Verdict};

/// A judged request as a finding shows it.
pub(super) fn witness(asked: &Asked, outcome: &Outcome, policy: &Policy) -> Witness {
    Witness {
        words: words(asked),
        outcome: ends(outcome, policy),
        request: request(asked),
    }
}

/// ``GET https://app.example.com/a from 198.51.100.7 (NL), signed in by `main` as ada with role admin``.
fn words(asked: &Asked) -> String {
    let mut text = format!(
        "{} {}://{}{} from {}",
        asked.method,
        asked.scheme.as_str(),
        asked.host,
        asked.target,
        asked.client
    );
    let region = &asked.region;
    let places = [
        region.country.map(|country| country.to_string()),
        region.continent.map(|continent| continent.to_string()),
        region
            .subdivisions
            .first()
            .copied()
            .flatten()
            .map(|held| held.to_string()),
        region.asn.map(|asn| format!("AS{asn}")),
    ];
    let places = places.into_iter().flatten();
    let places: Vec<String> = places
        .chain(region.anonymizer.words().map(str::to_owned))
        .collect();
    if !places.is_empty() {
        text.push_str(&format!(" ({})", places.join(", ")));
    }
    if asked.peer != asked.client {
        text.push_str(&format!(" through {}", asked.peer));
    }
    for (name, value) in &asked.headers {
        text.push_str(&format!(
            " with `{name}: {}`",
            String::from_utf8_lossy(value.as_bytes())
        ));
    }
    if asked.websocket {
        text.push_str(" for a WebSocket");
    }
    if let Caller::Known(person) = &asked.caller {
        text.push_str(&format!(
            ", signed in by `{}` as {}",
            person.source, person.user
        ));
        let roles: Vec<&str> = person.roles.iter().map(|role| &**role).collect();
        if !roles.is_empty() {
            text.push_str(&format!(" with role {}", roles.join(", ")));
        }
        for (claims, word) in [(&person.claims, "claim"), (&person.device, "device")] {
            for (name, value) in claims {
                text.push_str(&format!(" with {word} {name} = {value}"));
            }
        }
    }
    text
}

/// ``passes``, ``ends with 451 by rule `x` ``.
fn ends(outcome: &Outcome, policy: &Policy) -> String {
    let Some(status) = outcome.status(policy) else {
        return "passes".to_owned();
    };
    let rule = match outcome {
        Outcome::Judged { decision, .. } => match decision.verdict {
            Verdict::Refuse(_) => decision.rule,
            Verdict::Allow
            | Verdict::NotAuthenticated
            | Verdict::InvalidToken
            | Verdict::StepUp(_)
            | Verdict::CertificateRequired
            | Verdict::Unavailable
            | Verdict::NoSite
            | Verdict::NoRoute
            | Verdict::BadQuery => None,
        },
        Outcome::Malformed(_) | Outcome::Ambiguous => None,
    };
    match rule {
        Some(rule) => format!("ends with {status} by rule `{}`", policy.rule(rule).name),
        None => format!("ends with {status}"),
    }
}

/// The keys of a policy test's `request`.
fn request(asked: &Asked) -> Value {
    let mut keys = Map::new();
    let mut put = |key: &str, value: Value| {
        keys.insert(key.to_owned(), value);
    };
    put("host", json!(asked.host));
    put("path", json!(asked.target));
    put("method", json!(asked.method.as_str()));
    put("ip", json!(asked.client.to_string()));
    if asked.peer != asked.client {
        put("peer", json!(asked.peer.to_string()));
    }
    let region = &asked.region;
    if let Some(country) = region.country {
        put("country", json!(country.to_string()));
    }
    if let Some(continent) = region.continent {
        put("continent", json!(continent.to_string()));
    }
    let held: Vec<String> = region
        .subdivisions
        .iter()
        .flatten()
        .map(ToString::to_string)
        .collect();
    if !held.is_empty() {
        put("subdivision", json!(held));
    }
    if let Some(asn) = region.asn {
        put("asn", json!(asn));
    }
    let kinds: Vec<&str> = region.anonymizer.words().collect();
    if !kinds.is_empty() {
        put("anonymizer", json!(kinds));
    }
    let mut headers = Map::new();
    for (name, value) in &asked.headers {
        headers.insert(
            name.to_string(),
            json!(String::from_utf8_lossy(value.as_bytes())),
        );
    }
    if !headers.is_empty() {
        put("header", Value::Object(headers));
    }
    if asked.tls.is_none() {
        put("tls", json!(false));
    }
    put("at", json!(asked.now.to_string()));
    if let Caller::Known(person) = &asked.caller {
        put("auth", json!(&*person.source));
        put("user", json!(&*person.user));
        let roles: Vec<&str> = person.roles.iter().map(|role| &**role).collect();
        if !roles.is_empty() {
            put("role", json!(roles));
        }
        for (key, held) in [("claim", &person.claims), ("device", &person.device)] {
            if !held.is_empty() {
                put(key, Value::Object(held.clone()));
            }
        }
    }
    Value::Object(keys)
}
