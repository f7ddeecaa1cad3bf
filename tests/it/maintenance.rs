//! `[site.maintenance]`: who is kept out, what they are told, and the switch of the running instance.

use serde_json::json;
use tempfile::TempDir;

use crate::support::gate::front;
use crate::support::tokens::{self, hs, staff};
use crate::support::{Gate, Origin};

fn config(origin: &Origin, maintenance: &str) -> String {
    format!(
        r#"{}
[identity.hs]
jwt = {{ issuer = "heldout", audience = "proxy", secret = "${{file:jwt-hs.secret}}", algorithms = ["HS256"], roles = "roles" }}
[[deny]]
name = "bad"
ip = "127.0.0.66"
[[site]]
host = ["a.test"]
upstream = "app"
identity = ["hs"]
  [site.maintenance]
  {maintenance}
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/secure/**"
  allow = [{{ role = "staff" }}]
  [[site.route]]
  path = "/old"
  redirect = {{ to = "/new" }}
[[site]]
host = ["b.test"]
upstream = "app"
allow = "anyone"
"#,
        front(origin)
    )
}

fn gate(origin: &Origin, maintenance: &str) -> Gate {
    let folder = TempDir::new().unwrap();
    tokens::write(folder.path());
    Gate::start_in(folder, &config(origin, maintenance))
}

#[test]
fn a_closed_site_keeps_out_all_but_the_excepted() {
    let origin = Origin::start();
    let gate = gate(
        &origin,
        "on = true\nuntil = 2999-01-01T00:00:00Z\nmessage = \"Back at noon\"\nunless = [{ ip = \"127.0.0.5\" }, { role = \"staff\" }]\n",
    );
    let token = format!("Authorization: Bearer {}", hs(&staff()));
    for (from, host, line, fields, want, why) in [
        (
            "127.0.0.66",
            "a.test",
            "GET /x",
            vec![],
            403,
            "a certain deny stands first",
        ),
        ("127.0.0.1", "a.test", "GET /x", vec![], 503, "closed"),
        (
            "127.0.0.1",
            "a.test",
            "GET /old",
            vec![],
            503,
            "redirects too",
        ),
        (
            "127.0.0.1",
            "a.test",
            "GET /secure/x",
            vec![],
            401,
            "staff is asked to sign in",
        ),
        ("127.0.0.1", "a.test", "GET /none/", vec![], 503, ""),
        (
            "127.0.0.5",
            "a.test",
            "GET /x",
            vec![],
            200,
            "excepted by address",
        ),
        (
            "127.0.0.1",
            "a.test",
            "GET /x",
            vec![&*token],
            200,
            "excepted by role",
        ),
        (
            "127.0.0.1",
            "a.test",
            "GET /secure/x",
            vec![&*token],
            200,
            "the same",
        ),
        ("127.0.0.1", "b.test", "GET /x", vec![], 200, "another site"),
    ] {
        let host = format!("Host: {host}");
        let mut fields = fields;
        fields.push(&host);
        let answer = gate.connect_from(from).ask(line, &fields);
        assert_eq!(answer.status, want, "{line} of {from}: {why}");
    }
    let answer = gate.connect().ask("GET /x", &["Host: a.test"]).is(503);
    assert_eq!(answer.reason(), "maintenance");
    assert_eq!(answer.json()["message"], "Back at noon");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(wait > 365 * 86_400, "{wait}");
    let line = gate.log(10).remove(9);
    assert_eq!(line["policy.reason"], "maintenance", "{line}");
    assert_eq!(line.get("policy.decision"), None);
    assert_eq!(line["response.source"], "policy");
}

#[test]
fn an_end_that_has_passed_opens_the_site() {
    let origin = Origin::start();
    let gate = gate(&origin, "on = true\nuntil = 2001-01-01T00:00:00Z\n");
    gate.connect().ask("GET /x", &["Host: a.test"]).is(200);
}

#[test]
fn an_operator_closes_and_opens_sites_of_the_running_instance() {
    let origin = Origin::start();
    let gate = gate(&origin, "on = false");
    let ask = |host: &str| {
        let host = format!("Host: {host}");
        gate.connect().ask("GET /x", &[&host]).status
    };
    let switch = |path: &str| {
        let place = portcullis::admin::client::Place::Socket(gate.path("admin.sock"));
        let reply = portcullis::admin::client::ask(&place, "POST", path).unwrap();
        (reply.status, reply.body)
    };
    assert_eq!((ask("a.test"), ask("b.test")), (200, 200));
    let (status, body) = switch("/maintenance/b.test/on");
    assert_eq!(status, 200);
    assert_eq!(
        body,
        json!({ "b.test": { "now": "closed", "switch": "on", "until": null } })
    );
    assert_eq!(
        (ask("a.test"), ask("b.test")),
        (200, 503),
        "also without the table"
    );
    gate.reload_as_is().unwrap();
    assert_eq!(
        (ask("a.test"), ask("b.test")),
        (200, 503),
        "it outlives a reload"
    );
    assert_eq!(switch("/maintenance/b.test/auto").0, 200);
    assert_eq!(ask("b.test"), 200);
    for wrong in [
        "/maintenance/c.test/on",
        "/maintenance/b.test/maybe",
        "/maintenance/b.test",
    ] {
        assert_eq!(switch(wrong).0, 404, "{wrong}");
    }
    gate.reload(&config(&origin, "on = true")).unwrap();
    assert_eq!(ask("a.test"), 503);
    assert_eq!(switch("/maintenance/a.test/off").0, 200);
    assert_eq!(
        ask("a.test"),
        200,
        "switched off whatever the configuration says"
    );
}
