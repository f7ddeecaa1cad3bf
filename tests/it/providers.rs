//! Keys that a provider publishes: fetched, rotated under load, and kept whatever the provider does.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::certs::certs;
use crate::support::gate::{front, open};
use crate::support::tokens::{Named, staff, staff_but};
use crate::support::{Client, Gate, Origin, Then, eventually};

/// What the provider does when it is asked for its keys.
#[derive(Debug, Clone)]
enum Mood {
    Keys(Value),
    Says(&'static str, Vec<u8>),
    Hangs,
    Endless,
}

/// A provider whose mood can change.
struct Provider {
    origin: Origin,
    mood: Arc<Mutex<Mood>>,
}

impl Provider {
    fn start(mood: Mood) -> Self {
        let mood = Arc::new(Mutex::new(mood));
        let now = Arc::clone(&mood);
        let origin = Origin::scripted(move |exchange| {
            let mood = now.lock().unwrap().clone();
            match mood {
                Mood::Keys(keys) => exchange.answer("200 OK", keys.to_string()),
                Mood::Says(head, body) => exchange.answer(head, body),
                Mood::Hangs => {
                    exchange.wait_for_close();
                    Then::Close
                }
                Mood::Endless => {
                    exchange.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"keys\":[");
                    while exchange.send([b' '; 65536]) {}
                    Then::Close
                }
            }
        });
        Self { origin, mood }
    }

    fn be(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

fn set(keys: &[&Named]) -> Value {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() })
}

fn config(origin: &Origin, jwks: &str) -> String {
    format!(
        r#"{}
[identity.main]
jwt = {{ issuer = "heldout", audience = "proxy", {jwks}, algorithms = ["ES256"], roles = "roles" }}
[[site]]
host = ["*"]
upstream = "app"
identity = ["main"]
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/secure/**"
  allow = [{{ role = "staff" }}]
  [[site.route]]
  path = "/nowhere/**"
  allow = [{{ role = "staff", ip = "192.0.2.1/32" }}]
"#,
        front(origin)
    )
}

fn url(provider: &Provider) -> String {
    format!("jwks = \"http://{}/keys?v=1\"", provider.origin.address())
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

#[test]
fn keys_rotate_under_load_and_no_request_fails() {
    let origin = Origin::start();
    let keys: Vec<Named> = ["a", "b", "c"].map(Named::new).into();
    let provider = Provider::start(Mood::Keys(set(&[&keys[0]])));
    let gate = Gate::start(&config(&origin, &url(&provider)));
    // The very first request waits for the first set instead of failing.
    let token = bearer(&keys[0].sign(&staff()));
    gate.connect().ask("GET /secure", &[&token]).is(200);
    assert_eq!(provider.origin.last().target, "/keys?v=1");

    let newest = AtomicUsize::new(0);
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (gate, keys, newest, done, asked) = (&gate, &keys, &newest, &done, &asked);
            scope.spawn(move || {
                let mut client = gate.connect();
                let mut number = 0;
                while !done.load(Ordering::Relaxed) {
                    number += 1;
                    let key = &keys[newest.load(Ordering::Acquire)];
                    let user = format!("user-{worker}-{}", number % 50);
                    let token = bearer(&key.sign(&staff_but(json!({ "sub": user }))));
                    let response = client.ask("GET /secure", &[&token]);
                    assert_eq!(response.status, 200, "{}", response.text());
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let enough = || {
            let before = asked.load(Ordering::Relaxed);
            eventually("requests go on", || {
                asked.load(Ordering::Relaxed) > before + 100
            });
        };
        enough();
        // Both published, the new one signs; the old one is still believed while it is published.
        provider.be(Mood::Keys(set(&[&keys[0], &keys[1]])));
        newest.store(1, Ordering::Release);
        enough();
        // And once more at once, which has to wait until the provider may be asked again.
        provider.be(Mood::Keys(set(&[&keys[1], &keys[2]])));
        newest.store(2, Ordering::Release);
        enough();
        done.store(true, Ordering::Relaxed);
    });
    let fetches = provider.origin.count();
    assert!(fetches <= 4, "single flight: {fetches} fetches");
    // The first key is gone from the set: a token that was remembered under it is judged anew.
    let response = gate.connect().ask("GET /secure", &[&token]);
    assert_eq!(response.status, 401, "a withdrawn key");
}

#[test]
fn the_last_good_set_survives_whatever_the_provider_does() {
    let origin = Origin::start();
    let (old, new) = (Named::new("old"), Named::new("new"));
    let big = vec![b' '; 2 * 1024 * 1024];
    let secret = json!({ "keys": [{ "kty": "oct", "kid": "new", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U" }] });
    for (mood, why) in [
        (
            Mood::Says("500 Internal Server Error", Vec::new()),
            "an error",
        ),
        (
            Mood::Says("302 Found\r\nLocation: /other", Vec::new()),
            "a redirect",
        ),
        (
            Mood::Says("200 OK", b"<html>login</html>".to_vec()),
            "a page",
        ),
        (
            Mood::Says("200 OK", b"{\"keys\":{}}".to_vec()),
            "another shape",
        ),
        (Mood::Says("200 OK", b"{\"keys\":[]}".to_vec()), "no keys"),
        (
            Mood::Says("200 OK", secret.to_string().into_bytes()),
            "a published secret is no key",
        ),
        (Mood::Says("200 OK", big), "too large"),
        (Mood::Endless, "an endless body"),
    ] {
        let provider = Provider::start(Mood::Keys(set(&[&old])));
        let gate = Gate::start(&config(&origin, &url(&provider)));
        let good = bearer(&old.sign(&staff()));
        gate.connect().ask("GET /secure", &[&good]).is(200);
        let before = provider.origin.count();
        provider.be(mood);
        let unknown = bearer(&new.sign(&staff()));
        let response = gate.connect().ask("GET /secure", &[&unknown]);
        assert_eq!(response.status, 401, "{why}: the key is unknown");
        eventually("an attempt", || provider.origin.count() > before);
        gate.connect().ask("GET /secure", &[&good]).is(200);
        let fresh = bearer(&old.sign(&staff_but(json!({ "sub": "bob" }))));
        assert_eq!(
            gate.connect().ask("GET /secure", &[&fresh]).status,
            200,
            "{why}"
        );
        // A reload keeps the set, too.
        gate.reload_as_is().unwrap();
        assert_eq!(
            gate.connect().ask("GET /secure", &[&good]).status,
            200,
            "{why}: reloaded"
        );
    }
}

#[test]
fn where_no_key_was_ever_fetched_only_those_who_bring_a_token_are_failed() {
    let origin = Origin::start();
    let key = Named::new("a");
    let foreign = bearer(&key.sign(&staff_but(json!({ "iss": "somebody else" }))));
    let good = bearer(&key.sign(&staff()));
    for (mood, why) in [
        (Mood::Says("503 Service Unavailable", Vec::new()), "down"),
        (Mood::Hangs, "hanging"),
    ] {
        let provider = Provider::start(mood);
        let gate = Gate::start(&config(&origin, &url(&provider)));
        for (target, field, status, reason) in [
            ("/nowhere", &*good, 403, "forbidden"), // certain whoever asks: the provider does not matter
            ("/", &*good, 200, ""),
            ("/secure", "X-None: 1", 401, "not_authenticated"),
            ("/secure", &*foreign, 401, "invalid_token"), // no source claims it
            ("/secure", &*good, 503, "fact_unavailable"),
            (
                "/secure",
                "Authorization: Bearer x.y.z",
                401,
                "invalid_token",
            ),
        ] {
            let response = gate.connect().ask(&format!("GET {target}"), &[field]);
            assert_eq!(response.status, status, "{why}: {target} {field}");
            if !reason.is_empty() {
                assert_eq!(response.reason(), reason, "{why}: {target} {field}");
            }
        }
        // It recovers by itself.
        provider.be(Mood::Keys(set(&[&key])));
        eventually("the provider is asked again", || {
            gate.connect().ask("GET /secure", &[&good]).status == 200
        });
    }
}

#[test]
fn keys_come_over_tls_only_from_whom_the_named_authority_vouches_for() {
    let origin = Origin::start();
    let key = Named::new("a");
    let good = bearer(&key.sign(&staff()));
    let provider = Provider::start(Mood::Keys(set(&[&key])));
    let folder = TempDir::new().unwrap();
    certs().write(folder.path());
    // Another of our own proxies terminates the provider's TLS.
    let tls = open(&provider.origin).replacen(
        "address = \"127.0.0.1:0\"",
        "address = \"127.0.0.1:0\"\ntls = { certificates = [{ cert = \"server.crt\", key = \"server.key\" }] }",
        1,
    );
    let front = Gate::start_in(folder, &tls);
    let port = front.address().port();
    for (host, ca, status, why) in [
        (
            "localhost",
            "ca = \"ca.pem\"",
            200,
            "its authority is named",
        ),
        (
            "127.0.0.1",
            "ca = \"ca.pem\"",
            503,
            "the certificate is for another name",
        ),
        (
            "localhost",
            "ca = \"other.crt\"",
            503,
            "another authority is named",
        ),
    ] {
        let folder = TempDir::new().unwrap();
        certs().write(folder.path());
        let jwks = format!("jwks = \"https://{host}:{port}/keys\", {ca}");
        let gate = Gate::start_in(folder, &config(&origin, &jwks));
        let response = gate.connect().ask("GET /secure", &[&good]);
        assert_eq!(response.status, status, "{why}: {}", response.text());
    }
}

#[test]
fn the_age_of_keys_and_failures_are_told() {
    let origin = Origin::start();
    let key = Named::new("a");
    let provider = Provider::start(Mood::Keys(set(&[&key])));
    let config = config(&origin, &url(&provider));
    let folder = TempDir::new().unwrap();
    let opening = "[server]\nworkers = 1\n[admin]\nsocket = \"admin.sock\"\naddress = \"127.0.0.1:0\"\n[access_log]\npath = \"access.log\"\n";
    let gate = Gate::bare(folder, &format!("{opening}{config}"));
    let good = bearer(&key.sign(&staff()));
    gate.connect().ask("GET /secure", &[&good]).is(200);
    provider.be(Mood::Says("500 Internal Server Error", Vec::new()));
    let unknown = bearer(&Named::new("b").sign(&staff()));
    gate.connect().ask("GET /secure", &[&unknown]).is(401);
    let page = Client::connect(gate.admin())
        .ask("GET /metrics", &["host: localhost"])
        .text();
    for line in [
        "portcullis_identity_keys_age_seconds{source=\"main\"} ",
        "portcullis_identity_keys_fetches_total{source=\"main\",result=\"good\"} 1",
        "portcullis_identity_keys_fetches_total{source=\"main\",result=\"failed\"} 1",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
}

#[test]
fn the_matrix_of_credentials_and_paths() {
    let origin = Origin::start();
    let (key, stranger) = (Named::new("a"), Named::new("a"));
    let up = Provider::start(Mood::Keys(set(&[&key])));
    let down = Provider::start(Mood::Says("503 Service Unavailable", Vec::new()));
    let up = Gate::start(&config(&origin, &url(&up)));
    let down = Gate::start(&config(&origin, &url(&down)));
    let signed = |changes: Value| bearer(&key.sign(&staff_but(changes)));
    let forged = bearer(&stranger.sign(&staff()));
    let none = "X-None: 1".to_owned();
    let (valid, guest) = (signed(json!({})), signed(json!({ "roles": ["guest"] })));
    let expired = signed(json!({ "exp": 1 }));
    let foreign = signed(json!({ "iss": "somebody else" }));
    let malformed = bearer("x.y.z");
    // What each credential gets on a public path, a guarded one, and one that no identity could open.
    for (gate, field, guarded, reason, why) in [
        (&up, &none, 401, "not_authenticated", "none"),
        (&up, &valid, 200, "", "valid"),
        (&up, &guest, 403, "forbidden", "valid, without the role"),
        (&up, &expired, 401, "invalid_token", "expired"),
        (&up, &malformed, 401, "invalid_token", "malformed"),
        (&up, &foreign, 401, "invalid_token", "wrong issuer"),
        (
            &up,
            &forged,
            401,
            "invalid_token",
            "another key of the same name",
        ),
        (&down, &none, 401, "not_authenticated", "none, source down"),
        (&down, &valid, 503, "fact_unavailable", "valid, source down"),
        (
            &down,
            &expired,
            503,
            "fact_unavailable",
            "expired, source down: nobody can say",
        ),
        (
            &down,
            &malformed,
            401,
            "invalid_token",
            "malformed, source down",
        ),
        (
            &down,
            &foreign,
            401,
            "invalid_token",
            "wrong issuer, source down",
        ),
    ] {
        for (target, status) in [("/", 200), ("/secure", guarded), ("/nowhere", 403)] {
            let response = gate.connect().ask(&format!("GET {target}"), &[field]);
            assert_eq!(response.status, status, "{why}: {target}");
            let challenge = response.header("www-authenticate");
            let wanted = match (status, reason) {
                (401, "invalid_token") => {
                    Some(r#"Bearer realm="restricted", error="invalid_token""#)
                }
                (401, _) => Some(r#"Bearer realm="restricted""#),
                _ => None,
            };
            assert_eq!(challenge, wanted, "{why}: {target}");
            if target == "/secure" && !reason.is_empty() {
                assert_eq!(response.reason(), reason, "{why}");
            }
        }
    }
}
