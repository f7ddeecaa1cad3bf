//! The cases of the semantics, of which `tests/golden/semantics` is a copy.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{HeaderMap, Method};
use serde_json::{Map, Value};

use super::read;
use crate::config::Severity;
use crate::config::node::Table;
use crate::policy::Policy;
use crate::policy::facts::{Scheme, TlsFacts, TlsVersion};
use crate::policy::simulate::{self, Asked, Caller, Outcome};
use crate::value::host::Authority;
use crate::value::principal::Principal;
use crate::value::region::{Anonymizers, GeoFacts, Region};

#[test]
fn every_case_of_the_semantics_holds() {
    let cases: Value = serde_json::from_str(&file("cases.json")).unwrap();
    let cases = cases.as_array().unwrap();
    let policies: Vec<(&str, Table, Policy)> = ["saas", "streaming", "bank", "api", "edges"]
        .into_iter()
        .map(|name| {
            let (root, policy, found) = read(&file(&format!("{name}.toml")));
            let errors: Vec<_> = found
                .iter()
                .filter(|d| d.severity >= Severity::Finding)
                .collect();
            assert!(errors.is_empty(), "{name}: {errors:?}");
            (name, root, policy)
        })
        .collect();
    let mut wrong = Vec::new();
    for case in cases {
        let (_, root, policy) = policies
            .iter()
            .find(|(name, ..)| *name == case["policy"])
            .unwrap();
        let outcome = simulate::judge(policy, &asked(&case["request"]));
        let got = told(&outcome, policy, root);
        for (key, want) in case["expect"].as_object().unwrap() {
            if got.get(key) != Some(want) {
                wrong.push(format!(
                    "{}: {}: {key} should be {want}, got {got:?}",
                    case["policy"], case["why"]
                ));
            }
        }
    }
    assert_eq!(cases.len(), 112);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_copy_is_the_original() {
    let shared = std::env::var_os("PORTCULLIS_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let original = shared.join("semantics");
    if !original.is_dir() {
        println!("skipped: {} is not there", original.display());
        return;
    }
    for name in [
        "README.md",
        "cases.json",
        "saas.toml",
        "streaming.toml",
        "bank.toml",
        "api.toml",
        "edges.toml",
    ] {
        let shared = std::fs::read_to_string(original.join(name)).unwrap();
        assert!(
            shared == file(name),
            "tests/golden/semantics/{name} differs from the original"
        );
    }
}

fn file(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/semantics");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

fn asked(request: &Value) -> Asked {
    let text = |key: &str| request[key].as_str();
    let ip = text("ip").unwrap_or("198.51.100.7");
    let mut region = Region {
        country: text("country").map(|code| code.parse().unwrap()),
        ..Region::default()
    };
    for kind in request["anonymizer"].as_array().into_iter().flatten() {
        let (_, kind) = Anonymizers::ALL
            .into_iter()
            .find(|(name, _)| *name == *kind)
            .unwrap();
        region.anonymizer = region.anonymizer.union(kind);
    }
    if text("geo") == Some("failed") {
        region.failed = GeoFacts::ALL;
    }
    let tls = &request["tls"];
    Asked {
        device: None,
        host: Authority::read(text("host").unwrap())
            .unwrap()
            .host
            .into_owned(),
        target: text("path").unwrap().to_owned(),
        method: Method::from_bytes(text("method").unwrap_or("GET").as_bytes()).unwrap(),
        client: ip.parse().unwrap(),
        peer: text("peer").unwrap_or(ip).parse().unwrap(),
        region,
        scheme: Scheme::Https,
        tls: Some(TlsFacts {
            version: match tls["version"].as_str() {
                Some("1.2") => TlsVersion::V1_2,
                _ => TlsVersion::V1_3,
            },
            client_cert: tls["client_cert"].as_bool().unwrap_or(false),
        }),
        headers: HeaderMap::new(),
        websocket: false,
        now: text("now")
            .unwrap_or("2026-11-23T10:00:00+01:00")
            .parse()
            .unwrap(),
        caller: match &request["identity"] {
            Value::Null => Caller::Nobody,
            Value::String(word) if word == "invalid" => Caller::Invalid,
            Value::String(word) if word == "failed" => Caller::Failed,
            known => Caller::Known(Arc::new(principal(known))),
        },
    }
}

fn principal(known: &Value) -> Principal {
    let object = |key: &str| known[key].as_object().cloned().unwrap_or_default();
    let roles = known["roles"].as_array().into_iter().flatten();
    Principal {
        user: Arc::from(known["user"].as_str().unwrap()),
        source: Arc::from(known["source"].as_str().unwrap()),
        roles: roles
            .map(|role| Arc::from(role.as_str().unwrap()))
            .collect(),
        claims: object("claims"),
        device: object("device"),
        expires: None,
    }
}

/// The outcome in the words of the cases.
fn told(outcome: &Outcome, policy: &Policy, root: &Table) -> Map<String, Value> {
    let Outcome::Judged {
        place,
        decision,
        verified,
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    let mut told = Map::new();
    let mut put = |key: &str, value: Value| told.insert(key.to_owned(), value);
    put("verified", Value::from(*verified));
    if let Some(status) = outcome.status(policy) {
        put("status", Value::from(status));
        put(
            "reason",
            Value::from(outcome.reason(policy).unwrap().to_string()),
        );
        if let Some(rule) = decision.rule {
            put("rule", Value::from(&*policy.rule(rule).name));
        }
        return told;
    }
    let site = root
        .tables("site")
        .nth(place.site.unwrap().0 as usize)
        .unwrap();
    let route = site.tables("route").nth(place.route.unwrap().0 as usize);
    match route.and_then(|route| route.table("redirect")) {
        Some(redirect) => {
            put("status", Value::from(redirect.int("status").unwrap()));
            put("location", Value::from(redirect.str("to").unwrap()));
        }
        None => {
            put("status", Value::from(200));
        }
    }
    told
}
