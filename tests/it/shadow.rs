//! Shadow rules and the candidate policy: they change nothing, and log, metrics, summary and explain say what they would.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::gate::front;
use crate::support::tokens::{self, hs, staff};
use crate::support::{Client, Gate, Origin};

/// A site with shadow rules of every kind, for both configurations; `more` stands in the site, before its routes.
fn sites(top: &str, admin_allow: &str, more: &str) -> String {
    format!(
        r#"{top}
[[site]]
host = ["app.test"]
upstream = "app"
identity = ["hs"]
{more}
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/staff/**"
  allow = [{{ name = "staff-only", role = "staff" }}]
  [[site.route]]
  path = "/admin/**"
  allow = [{admin_allow}]
"#
    )
}

fn opening(origin: &Origin) -> String {
    format!(
        "[server]\nworkers = 2\ndrain_timeout = \"1s\"\n[admin]\nsocket = \"admin.sock\"\naddress = \"127.0.0.1:0\"\n\
         [access_log]\npath = \"access.log\"\n[identity.hs]\n\
         jwt = {{ issuer = \"heldout\", audience = \"proxy\", secret = \"{}\", algorithms = [\"HS256\"], roles = \"roles\" }}\n{}",
        tokens::SECRET,
        front(origin)
    )
}

const OFFICE: &str = "{ name = \"office\", ip = \"127.0.0.5/32\" }";

/// Status, body as JSON, of a question to the admin.
fn admin(gate: &Gate, path: &str) -> (u16, String) {
    let mut client = Client::connect(gate.admin());
    let response = client.ask(&format!("GET {path}"), &["Host: localhost"]);
    (
        response.status,
        String::from_utf8_lossy(&response.body).into_owned(),
    )
}

#[test]
fn shadow_rules_change_nothing_and_are_told() {
    let origin = Origin::start();
    let config = opening(&origin)
        + &sites(
            "",
            &format!("{OFFICE}, {{ name = \"home\", shadow = true, ip = \"127.0.0.6/32\" }}"),
            "[[site.deny]]\nname = \"no-old\"\npath = \"/old/**\"\nshadow = true\n\
             [[site.deny]]\nname = \"members\"\npath = \"/club/**\"\nunless = [{ role = \"staff\" }]\nshadow = true\n",
        );
    let gate = Gate::bare(TempDir::new().unwrap(), &config);
    let bearer = format!("Authorization: Bearer {}", hs(&staff()));
    for (from, path, field, status, shadow, why) in [
        (
            "127.0.0.1",
            "/",
            None,
            200,
            Value::Null,
            "no shadow rule matches",
        ),
        (
            "127.0.0.1",
            "/old/x",
            None,
            200,
            json!([{ "rule": "no-old", "decision": "deny" }]),
            "a deny that only watches",
        ),
        (
            "127.0.0.1",
            "/club",
            None,
            200,
            json!([{ "rule": "members", "decision": "challenge" }]),
            "nobody looks who asks",
        ),
        (
            "127.0.0.6",
            "/admin",
            None,
            403,
            json!([{ "rule": "home", "decision": "allow" }]),
            "an allow that only watches",
        ),
        (
            "127.0.0.7",
            "/admin",
            None,
            403,
            Value::Null,
            "nor does that match",
        ),
        (
            "127.0.0.5",
            "/admin",
            None,
            200,
            Value::Null,
            "it would change nothing",
        ),
        (
            "127.0.0.1",
            "/staff",
            Some(&bearer),
            200,
            Value::Null,
            "who asks is known",
        ),
    ] {
        let before = gate.log_text().lines().count();
        let fields: Vec<&str> = field.into_iter().map(String::as_str).collect();
        gate.connect_from(from)
            .ask(&format!("GET {path}"), &fields)
            .is(status);
        let lines = gate.log(before + 1);
        let line = &lines[before];
        assert_eq!(line["policy.shadow"], shadow, "{why}: {line}");
        assert!(line.get("policy.candidate").is_none(), "{line}");
    }
    let (_, metrics) = admin(&gate, "/metrics");
    for want in [
        "portcullis_policy_decisions_total{site=\"app.test\",rule=\"no-old\",decision=\"deny\",reason=\"\",mode=\"shadow\"} 1",
        "portcullis_policy_decisions_total{site=\"app.test\",rule=\"home\",decision=\"allow\",reason=\"\",mode=\"shadow\"} 1",
    ] {
        assert!(metrics.contains(want), "{want} in\n{metrics}");
    }
    let (_, told) = admin(&gate, "/shadow");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["shadow_rules"], 3, "{told}");
    let changes = told["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 3, "{told}");
    let home = changes.iter().find(|c| c["new_rule"] == "home").unwrap();
    assert_eq!(
        (&home["decision"], &home["count"]),
        (&json!("deny"), &json!(1))
    );
    let id = home["newest"]["request_id"].as_str().unwrap();
    let (_, explained) = admin(&gate, &format!("/explain/{id}"));
    let explained: Value = serde_json::from_str(&explained).unwrap();
    assert_eq!(
        explained["shadow"],
        json!([{ "rule": "home", "decision": "allow" }])
    );
    let (_, status) = admin(&gate, "/status");
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["shadow"]["changes"].as_array().unwrap().len(), 3);
}

#[test]
fn a_candidate_is_judged_beside_the_live_policy() {
    let origin = Origin::start();
    let opening = opening(&origin);
    let folder = TempDir::new().unwrap();
    let candidate = sites(
        "[[deny]]\nname = \"gone\"\npath = \"/old/**\"\nstatus = 410\nreason = \"gone\"\n",
        "{ name = \"staff-admin\", role = \"staff\" }",
        "",
    );
    std::fs::write(
        folder.path().join("new.toml"),
        format!("{opening}{candidate}"),
    )
    .unwrap();
    let live = sites("[shadow]\ncandidate = \"new.toml\"\n", OFFICE, "");
    let gate = Gate::bare(folder, &format!("{opening}{live}"));
    let bearer = format!("Authorization: Bearer {}", hs(&staff()));
    let gone = json!({ "decision": "deny", "status": 410, "reason": "gone", "rule": "gone" });
    for (from, path, field, status, candidate, why) in [
        (
            "127.0.0.1",
            "/",
            None,
            200,
            json!({ "decision": "allow" }),
            "both allow",
        ),
        (
            "127.0.0.1",
            "/old/x",
            None,
            200,
            gone,
            "only the new one denies",
        ),
        (
            "127.0.0.5",
            "/admin",
            None,
            200,
            json!({ "decision": "challenge" }),
            "nothing is verified for the new one",
        ),
        (
            "127.0.0.1",
            "/staff",
            Some(&bearer),
            200,
            json!({ "decision": "allow", "rule": "staff-only" }),
            "as the live one verified",
        ),
        (
            "127.0.0.1",
            "/staff",
            None,
            401,
            json!({ "decision": "challenge", "status": 401, "reason": "not_authenticated" }),
            "the same answer",
        ),
    ] {
        let before = gate.log_text().lines().count();
        let fields: Vec<&str> = field.into_iter().map(String::as_str).collect();
        gate.connect_from(from)
            .ask(&format!("GET {path}"), &fields)
            .is(status);
        let lines = gate.log(before + 1);
        assert_eq!(
            lines[before]["policy.candidate"], candidate,
            "{why}: {}",
            lines[before]
        );
    }
    let (_, metrics) = admin(&gate, "/metrics");
    let want = "portcullis_policy_candidate_changes_total{site=\"app.test\",rule=\"office\",decision=\"allow\",candidate_rule=\"\",candidate_decision=\"challenge\"} 1";
    assert!(metrics.contains(want), "{want} in\n{metrics}");
    let (_, told) = admin(&gate, "/shadow");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["candidate"], "new.toml");
    assert_eq!(told["changes"].as_array().unwrap().len(), 2, "{told}");

    // A candidate that is not valid refuses the load, and says whose mistake it is.
    gate.write(
        "new.toml",
        format!("{opening}{}", candidate.replace("\"/old/**\"", "\"old\"")),
    );
    let report = gate.reload_as_is().unwrap_err();
    let text = report.render(portcullis::config::Paint::Plain);
    assert!(
        text.contains("new.toml:") && text.contains("bad-pattern"),
        "{text}"
    );
    // Without a candidate nothing is said of one.
    gate.write(
        "portcullis.toml",
        format!("{opening}{}", sites("", OFFICE, "")),
    );
    gate.reload_as_is().unwrap();
    let before = gate.log_text().lines().count();
    gate.connect().ask("GET /old/x", &[]).is(200);
    let lines = gate.log(before + 1);
    assert!(lines[before].get("policy.candidate").is_none());
}

#[test]
fn facts_that_rules_read_are_logged() {
    let origin = Origin::start();
    let config = opening(&origin)
        + &sites(
            "",
            "{ name = \"pro\", claim.plan = \"pro\" }",
            "[[site.deny]]\nname = \"staging\"\nheader.x-env = \"staging\"\nip = \"127.0.0.1\"\n\
             [[site.deny]]\nname = \"session\"\ncookie.session = \"stolen\"\nheader.x-key = \"1\"\n",
        );
    let gate = Gate::bare(TempDir::new().unwrap(), &config);
    let mut claims = staff();
    claims["plan"] = "pro".into();
    let bearer = format!("Authorization: Bearer {}", hs(&claims));
    for (path, fields, status, facts, why) in [
        (
            "/",
            &["X-Env: prod", "X-Env: test"][..],
            200,
            json!({ "header.x-env": ["prod", "test"], "header.x-key": [] }),
            "all values, and that there is none",
        ),
        (
            "/admin",
            &[&*bearer],
            200,
            json!({ "header.x-env": [], "header.x-key": [], "claim.plan": "pro" }),
            "claims that rules read, and no others",
        ),
        (
            "/admin",
            &["Cookie: session=fine"],
            401,
            json!({ "header.x-env": [], "header.x-key": [], "identity": "none" }),
            "a cookie never",
        ),
    ] {
        let before = gate.log_text().lines().count();
        gate.connect()
            .ask(&format!("GET {path}"), fields)
            .is(status);
        let lines = gate.log(before + 1);
        assert_eq!(lines[before]["facts"], facts, "{why}");
        assert!(!gate.log_text().contains("Bearer"));
    }
}
