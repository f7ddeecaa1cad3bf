//! `[site.brute_force]`: who has to wait, what they are told, and what operators see of it.

use base64::Engine as _;
use serde_json::json;
use tempfile::TempDir;

use crate::support::gate::front;
use crate::support::tokens::{self, hs, staff, staff_but};
use crate::support::{Gate, Origin, eventually};

fn basic(pair: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Authorization: Basic {pair}")
}

/// A site with passwords and tokens; three failures in an hour are too many.
fn config(origin: &Origin, guard: &str) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    tokens::write(folder.path());
    let hash = bcrypt::hash("right", 4).unwrap();
    let users = format!("ann:{hash}\nbob:{hash}\n");
    std::fs::write(folder.path().join("users.htpasswd"), users).unwrap();
    let config = format!(
        r#"{}
[identity.people]
basic = {{ file = "users.htpasswd" }}
[identity.programs]
jwt = {{ issuer = "heldout", audience = "proxy", secret = "${{file:jwt-hs.secret}}", algorithms = ["HS256"], roles = "roles" }}
[[deny]]
name = "bad-addresses"
ip = "127.0.0.66/32"
[[site]]
host = ["*"]
upstream = "app"
identity = ["people", "programs"]
{guard}
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/secure/**"
  allow = [{{ auth = "any" }}]
"#,
        front(origin)
    );
    (folder, config)
}

const GUARD: &str = "[site.brute_force]\nfailures = 3\nper = \"1h\"\nhold = \"1h\"\n";

#[test]
fn whoever_guesses_has_to_wait_and_nobody_else() {
    let origin = Origin::start();
    let (folder, config) = config(&origin, GUARD);
    let gate = Gate::start_in(folder, &config);
    let token = format!("Authorization: Bearer {}", hs(&staff()));
    let old = format!(
        "Authorization: Bearer {}",
        hs(&staff_but(json!({ "exp": tokens::now() - 3600 })))
    );
    let (right, wrong) = (basic("ann:right"), basic("ann:wrong"));
    let (other, stranger) = (basic("bob:wrong"), basic("eve:right"));
    for (source, target, field, status, why) in [
        (
            "127.0.0.1",
            "/secure",
            "X-None: 1",
            401,
            "no credential, however often",
        ),
        (
            "127.0.0.1",
            "/secure",
            "X-None: 1",
            401,
            "no credential, however often",
        ),
        (
            "127.0.0.1",
            "/secure",
            "X-None: 1",
            401,
            "no credential, however often",
        ),
        (
            "127.0.0.1",
            "/secure",
            "X-None: 1",
            401,
            "no credential, however often",
        ),
        (
            "127.0.0.1",
            "/x",
            &wrong,
            200,
            "where nobody asks, nobody looks",
        ),
        (
            "127.0.0.1",
            "/secure",
            &old,
            401,
            "an old token is no guess",
        ),
        (
            "127.0.0.1",
            "/secure",
            &right,
            200,
            "right before, and remembered",
        ),
        ("127.0.0.1", "/secure", &wrong, 401, "the first failure"),
        (
            "127.0.0.1",
            "/secure",
            &other,
            401,
            "of another user: the second",
        ),
        (
            "127.0.0.1",
            "/secure",
            &stranger,
            401,
            "of a user who is none: the third",
        ),
        ("127.0.0.1", "/secure", &wrong, 429, "held"),
        (
            "127.0.0.1",
            "/secure",
            &right,
            429,
            "also with the right password, which might be a guess",
        ),
        (
            "127.0.0.1",
            "/secure",
            &stranger,
            429,
            "unknown users look the same",
        ),
        (
            "127.0.0.1",
            "/secure",
            "Authorization: Bearer x.y.z",
            429,
            "and garbage",
        ),
        (
            "127.0.0.1",
            "/secure",
            &token,
            200,
            "a token that verifies was not guessed",
        ),
        (
            "127.0.0.1",
            "/secure",
            "X-None: 1",
            401,
            "without a credential one is asked for one",
        ),
        ("127.0.0.1", "/x", &wrong, 200, "what is public stays so"),
        ("127.0.0.2", "/secure", &right, 200, "another client"),
        (
            "127.0.0.66",
            "/secure",
            &wrong,
            403,
            "a denied address is not even counted",
        ),
    ] {
        let response = gate
            .connect_from(source)
            .ask(&format!("GET {target}"), &[field]);
        assert_eq!(response.status, status, "{why}: {}", response.text());
        if status == 429 {
            assert_eq!(response.reason(), "rate_limited", "{why}");
            let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
            assert!((3500..=3600).contains(&wait), "{why}: {wait}");
            assert_eq!(response.header("www-authenticate"), None, "{why}");
            assert!(!response.text().contains("brute"), "{why}");
        }
    }
    let lines = gate.log(19);
    let held: Vec<_> = lines
        .iter()
        .filter(|line| line["http.response.status_code"] == 429)
        .collect();
    assert_eq!(held.len(), 4);
    for line in held {
        assert_eq!(line["policy.decision"], "limit");
        assert_eq!(line["policy.reason"], "rate_limited");
        assert_eq!(line["security_rule.name"], "brute_force");
        assert_eq!(line["auth.error"], "held");
        assert_eq!(line.get("user.id"), None, "nobody was looked up");
    }
}

#[test]
fn failures_outlive_a_reload_and_new_connections() {
    let origin = Origin::start();
    let (folder, config) = config(&origin, GUARD);
    let gate = Gate::start_in(folder, &config);
    for _ in 0..3 {
        let wrong = basic("ann:wrong");
        gate.connect().ask("GET /secure", &[&wrong]).is(401);
    }
    gate.reload(&format!("{config}# the same\n")).unwrap();
    let right = basic("ann:right");
    gate.connect().ask("GET /secure", &[&right]).is(429);
    // Other settings: another count.
    gate.reload(&config.replace("failures = 3", "failures = 4"))
        .unwrap();
    eventually("the new settings hold", || {
        gate.connect().ask("GET /secure", &[&right]).status == 200
    });
}

#[test]
fn a_hold_ends() {
    let origin = Origin::start();
    let short = GUARD.replace("hold = \"1h\"", "hold = \"1s\"");
    let (folder, config) = config(&origin, &short);
    let gate = Gate::start_in(folder, &config);
    let mut client = gate.connect();
    for _ in 0..3 {
        client.ask("GET /secure", &[&basic("ann:wrong")]).is(401);
    }
    let held = client.ask("GET /secure", &[&basic("ann:right")]).is(429);
    assert_eq!(held.header("retry-after"), Some("1"));
    eventually("one may try again", || {
        gate.connect()
            .ask("GET /secure", &[&basic("ann:right")])
            .status
            == 200
    });
}

#[test]
fn operators_see_failures_and_holds() {
    let origin = Origin::start();
    let (folder, config) = config(&origin, GUARD);
    let opening = crate::support::gate::OPENING.replace(
        "socket = \"admin.sock\"",
        "socket = \"admin.sock\"\naddress = \"127.0.0.1:0\"",
    );
    let gate = Gate::bare(folder, &format!("{opening}{config}"));
    for status in [401, 401, 401, 429, 429] {
        let wrong = basic("ann:wrong");
        gate.connect().ask("GET /secure", &[&wrong]).is(status);
    }
    let page =
        crate::support::Client::connect(gate.admin()).ask("GET /metrics", &["host: localhost"]);
    let page = page.text();
    for line in [
        "portcullis_sign_in_failures_total{site=\"*\"} 3",
        "portcullis_sign_in_holds_total{site=\"*\"} 1",
        "portcullis_sign_in_held_total{site=\"*\"} 2",
        "portcullis_sign_in_evictions_total{site=\"*\"} 0",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
}
