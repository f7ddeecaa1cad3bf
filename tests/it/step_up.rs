//! `step_up` over real sockets: the challenge of RFC 9470, the body, the log, and what `explain` says.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::gate::front;
use crate::support::tokens::{self, hs, now, staff_but};
use crate::support::{Gate, Origin};

fn start(origin: &Origin) -> Gate {
    let folder = TempDir::new().unwrap();
    tokens::write(folder.path());
    let hash = bcrypt::hash("right", 4).unwrap();
    std::fs::write(folder.path().join("users"), format!("ann:{hash}\n")).unwrap();
    let config = format!(
        r#"{}
[identity.sso]
jwt = {{ issuer = "heldout", audience = "proxy", secret = "${{file:jwt-hs.secret}}", algorithms = ["HS256"], roles = "roles" }}
[identity.people]
basic = {{ file = "users", realm = "office" }}
[[site]]
host = ["*"]
upstream = "app"
identity = ["sso", "people"]
  [[site.route]]
  path = "/**"
  allow = [{{ auth = "any" }}]
  [[site.route]]
  path = "/acr/**"
  allow = [{{ role = "staff" }}, {{ auth = "people" }}]
  step_up = {{ acr = ["mfa", "urn:x:card"] }}
  [[site.route]]
  path = "/fresh/**"
  allow = [{{ role = "staff" }}]
  step_up = {{ max_age = "5min" }}
  [[site.route]]
  path = "/both/**"
  allow = [{{ role = "staff" }}]
  step_up = {{ acr = "mfa", max_age = "5min" }}
"#,
        front(origin)
    );
    Gate::start_in(folder, &config)
}

fn token(changes: Value) -> String {
    format!("Authorization: Bearer {}", hs(&staff_but(changes)))
}

const BASIC: &str = "Authorization: Basic YW5uOnJpZ2h0";

#[test]
fn the_challenge_says_what_sign_in_is_needed() {
    let origin = Origin::start();
    let gate = start(&origin);
    let acr = r#"Bearer realm="restricted", error="insufficient_user_authentication", error_description="A different authentication level is required", acr_values="mfa urn:x:card""#;
    let age = r#"Bearer realm="restricted", error="insufficient_user_authentication", error_description="More recent authentication is required", max_age="300""#;
    let both = r#"Bearer realm="restricted", error="insufficient_user_authentication", error_description="A different authentication level is required", acr_values="mfa", max_age="300""#;
    let plain = r#"Bearer realm="restricted""#;
    for (target, field, status, bearer, why) in [
        ("/acr", token(json!({})), 401, acr, "no acr at all"),
        (
            "/acr",
            token(json!({ "acr": "pwd" })),
            401,
            acr,
            "another acr",
        ),
        (
            "/acr",
            token(json!({ "acr": "MFA" })),
            401,
            acr,
            "compared whole and in its case",
        ),
        ("/acr", token(json!({ "acr": 2 })), 401, acr, "a number"),
        (
            "/acr",
            token(json!({ "acr": "mfa" })),
            200,
            "",
            "one of them",
        ),
        (
            "/acr",
            token(json!({ "acr": "urn:x:card" })),
            200,
            "",
            "the other",
        ),
        ("/acr", BASIC.to_owned(), 401, acr, "a password has no acr"),
        ("/fresh", token(json!({})), 401, age, "no auth_time"),
        (
            "/fresh",
            token(json!({ "auth_time": now() - 400 })),
            401,
            age,
            "too long ago",
        ),
        (
            "/fresh",
            token(json!({ "auth_time": now() + 4000 })),
            401,
            age,
            "in the future",
        ),
        (
            "/fresh",
            token(json!({ "auth_time": "now" })),
            401,
            age,
            "a word",
        ),
        (
            "/fresh",
            token(json!({ "auth_time": now() - 100 })),
            200,
            "",
            "of late",
        ),
        (
            "/both",
            token(json!({ "acr": "mfa" })),
            401,
            both,
            "only one of both",
        ),
        (
            "/both",
            token(json!({ "acr": "mfa", "auth_time": now() })),
            200,
            "",
            "both",
        ),
        (
            "/both",
            token(json!({ "roles": ["guest"] })),
            403,
            "",
            "who may not pass is not asked again",
        ),
        (
            "/both",
            "X-None: 1".to_owned(),
            401,
            plain,
            "a stranger is asked plainly",
        ),
        (
            "/x",
            token(json!({})),
            200,
            "",
            "elsewhere nobody asks for more",
        ),
    ] {
        let before = origin.count();
        let response = gate.connect().ask(&format!("GET {target}"), &[&field]);
        assert_eq!(
            response.status,
            status,
            "{target}: {why}: {}",
            response.text()
        );
        assert_eq!(origin.count() - before, usize::from(status == 200), "{why}");
        let challenges = response.all("www-authenticate");
        if status != 401 {
            assert!(challenges.is_empty(), "{why}: {challenges:?}");
            continue;
        }
        let basic = r#"Basic realm="office", charset="UTF-8""#;
        assert_eq!(challenges, [bearer, basic], "{why}");
        let reason = match bearer == plain {
            true => "not_authenticated",
            false => "insufficient_user_authentication",
        };
        assert_eq!(response.reason(), reason, "{why}");
        assert!(
            !response.text().contains("mfa"),
            "{why}: {}",
            response.text()
        );
    }
}

#[test]
fn the_log_tells_who_was_asked_and_explain_why() {
    let origin = Origin::start();
    let gate = start(&origin);
    gate.connect()
        .ask("GET /both", &[&token(json!({ "acr": "pwd" }))])
        .is(401);
    let line = gate.only_line();
    assert_eq!(line["policy.decision"], "challenge");
    assert_eq!(line["policy.reason"], "insufficient_user_authentication");
    assert_eq!(line["security_rule.name"], "*/both/**#step_up");
    assert_eq!(line["user.id"], "alice");
    assert_eq!(line["facts"]["claim.acr"], "pwd", "{line}");

    let config = gate.path("portcullis.toml");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["explain", "--url", "http://a.test/both", "--role", "staff"])
        .args(["--claim", "acr=pwd", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(4), "{text}");
    for part in [
        "asked to sign in again: allowed, but not with this sign-in by `*/both/**#step_up`",
        "step_up.acr = \"mfa\"",
        "claim `acr` is \"pwd\"",
        "claim `auth_time` is not there",
    ] {
        let unwrapped: Vec<&str> = text.split_whitespace().collect();
        assert!(unwrapped.join(" ").contains(part), "{part} in\n{text}");
    }
}
