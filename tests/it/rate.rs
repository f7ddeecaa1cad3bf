//! `[[limit]]`: who is counted together, what a client over its limit is told, and what outlives a reload.

use serde_json::json;
use tempfile::TempDir;

use crate::support::gate::{front, open};
use crate::support::tokens::{self, hs, staff_but};
use crate::support::{Gate, Origin, Response, Then, eventually};

fn statuses(answers: &[Response]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

/// A site that knows people by token.
fn signing_in(origin: &Origin, more: &str) -> Gate {
    let folder = TempDir::new().unwrap();
    tokens::write(folder.path());
    let config = format!(
        r#"{}
[identity.hs]
jwt = {{ issuer = "heldout", audience = "proxy", secret = "${{file:jwt-hs.secret}}", algorithms = ["HS256"], roles = "roles" }}
[[site]]
host = ["*"]
upstream = "app"
identity = ["hs"]
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/secure/**"
  allow = [{{ role = "staff" }}]
{more}
"#,
        front(origin)
    );
    Gate::start_in(folder, &config)
}

fn bearer(user: &str, plan: &str) -> String {
    let token = hs(&staff_but(json!({ "sub": user, "plan": plan })));
    format!("Authorization: Bearer {token}")
}

#[test]
fn a_client_over_its_limit_is_told_when_to_come_back() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "{}[[limit]]\nname = \"secret-name\"\nrate = \"3/h\"\nper = \"client\"\n",
        open(&origin)
    ));
    let mut client = gate.connect();
    let answers: Vec<_> = (0..4).map(|_| client.ask("GET /x", &[])).collect();
    assert_eq!(statuses(&answers), [200, 200, 200, 429]);
    assert_eq!(origin.count(), 3);
    assert_eq!(answers[0].header("ratelimit"), Some("\"limit\";r=2;t=1200"));
    assert_eq!(
        answers[0].header("ratelimit-policy"),
        Some("\"limit\";q=3;w=3600")
    );
    let limited = &answers[3];
    assert_eq!(limited.reason(), "rate_limited");
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1190..=1200).contains(&wait), "{wait}");
    assert!(
        limited
            .header("ratelimit")
            .unwrap()
            .starts_with("\"limit\";r=0;t=")
    );
    let shown = format!("{:?} {}", limited.fields, limited.text());
    assert!(!shown.contains("secret-name"), "{shown}");
    gate.connect_from("127.0.0.9").ask("GET /x", &[]).is(200);
    // Rows of the log by worker: the limited one is among them.
    let lines = gate.log(5);
    let line = lines
        .iter()
        .find(|line| line["http.response.status_code"] == 429)
        .unwrap();
    assert_eq!(line["policy.decision"], "limit");
    assert_eq!(line["policy.reason"], "rate_limited");
    assert_eq!(line["security_rule.name"], "secret-name");
    assert_eq!(line["response.source"], "policy");
}

#[test]
fn all_that_match_count_and_the_longest_wait_answers() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "{}\
         [[limit]]\nname = \"all\"\nrate = \"100/h\"\nper = \"client\"\n\
         [[limit]]\nname = \"writes\"\nrate = \"2/min\"\nper = \"client\"\nmethod = \"POST\"\n\
         [[site.limit]]\nname = \"search\"\nrate = \"1/h\"\nper = \"client\"\npath = \"/search/**\"\nunless = [{{ header.x-in = \"1\" }}]\n",
        open(&origin)
    ));
    let mut client = gate.connect();
    for (line, fields, want, why) in [
        ("POST /a", &[][..], 200, "first write"),
        ("GET /a", &[], 200, "a read is no write"),
        ("POST /search/", &[], 200, "counts in all three"),
        (
            "POST /search/",
            &[],
            429,
            "two are reached: the hour is longer than the minute",
        ),
        (
            "POST /search/",
            &["X-In: 1"],
            429,
            "excepted of one, not of the other",
        ),
        ("GET /search/", &["X-In: 1"], 200, "excepted"),
        ("GET /search/", &[], 429, "not excepted"),
    ] {
        assert_eq!(client.ask(line, fields).status, want, "{line}: {why}");
    }
    let rule = |number: usize| gate.log(7)[number]["security_rule.name"].clone();
    assert_eq!((rule(3), rule(4)), ("search".into(), "writes".into()));
}

#[test]
fn limits_per_client_stand_before_the_sign_in_and_others_behind_the_decision() {
    let origin = Origin::start();
    let gate = signing_in(
        &origin,
        "  [[site.limit]]\n  name = \"doors\"\n  rate = \"2/h\"\n  per = \"client\"\n  path = \"/secure/**\"\n\
         \x20 [[site.deny]]\n  name = \"bad\"\n  ip = \"127.0.0.66\"\n\
         \x20 [[site.limit]]\n  name = \"users\"\n  rate = \"2/h\"\n  per = \"user\"\n",
    );
    let mut bad = gate.connect_from("127.0.0.66");
    for _ in 0..4 {
        bad.ask("GET /secure/x", &[]).is(403);
    }
    let mut guessing = gate.connect_from("127.0.0.7");
    let answers: Vec<_> = (0..4)
        .map(|n| {
            guessing.ask(
                "GET /secure/x",
                &[&format!("Authorization: Bearer x.y.{n}")],
            )
        })
        .collect();
    assert_eq!(statuses(&answers), [401, 401, 429, 429], "guesses count");
    // What was refused is not counted for a user; an allowed one is, wherever it comes from.
    let ada = bearer("ada", "free");
    gate.connect_from("127.0.0.8")
        .ask("GET /secure/x", &[&ada])
        .is(200);
    gate.connect_from("127.0.0.9")
        .ask("GET /open", &[&ada])
        .is(200);
    gate.connect_from("127.0.0.10")
        .ask("GET /open", &[&ada])
        .is(429);
    let bob = bearer("bob", "free");
    gate.connect_from("127.0.0.10")
        .ask("GET /open", &[&bob])
        .is(200);
    // Nobody in particular is counted by address.
    let mut nobody = gate.connect_from("127.0.0.11");
    let answers: Vec<_> = (0..3).map(|_| nobody.ask("GET /open", &[])).collect();
    assert_eq!(statuses(&answers), [200, 200, 429]);
    gate.connect_from("127.0.0.12")
        .ask("GET /open", &[])
        .is(200);
}

#[test]
fn a_plan_has_its_own_rate() {
    let origin = Origin::start();
    let gate = signing_in(
        &origin,
        "  [[site.limit]]\n  name = \"plans\"\n  per = \"user\"\n  rate = { by = \"claim.plan\", free = \"2/h\", pro = \"4/h\", default = \"1/h\" }\n",
    );
    for (user, plan, passes) in [("a", "free", 2), ("b", "pro", 4), ("c", "gold", 1)] {
        let token = bearer(user, plan);
        let mut client = gate.connect();
        let answers: Vec<_> = (0..6).map(|_| client.ask("GET /x", &[&token])).collect();
        let passed = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(passed, passes, "{plan}");
    }
}

#[test]
fn a_shadow_limit_counts_and_answers_nothing() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "{}[[limit]]\nname = \"candidate\"\nrate = \"1/h\"\nper = \"client\"\nshadow = true\n",
        open(&origin)
    ));
    let mut client = gate.connect();
    for _ in 0..3 {
        let answer = client.ask("GET /x", &[]).is(200);
        assert_eq!(answer.header("ratelimit"), None);
    }
    let lines = gate.log(3);
    assert_eq!(lines[0].get("policy.shadow"), None);
    let shadow = json!([{ "rule": "candidate", "decision": "limit" }]);
    assert_eq!(lines[2]["policy.shadow"], shadow, "{}", lines[2]);
    assert_eq!(lines[2]["policy.decision"], "allow");
}

#[test]
fn at_a_time_lasts_until_the_body_or_the_tunnel_has_ended() {
    let origin = Origin::scripted(|exchange| {
        if exchange.seen.target.starts_with("/slow") {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
            exchange.wait_for_close();
            return Then::Close;
        }
        Then::Usual
    });
    let gate = Gate::start(&format!(
        "{}[[limit]]\nname = \"streams\"\nconcurrent = 1\nper = \"client\"\n",
        open(&origin)
    ));
    let mut slow = gate.connect();
    slow.send(crate::support::client::request("GET /slow", &[], b""));
    assert_eq!(slow.response_head().status, 200);
    let limited = gate.connect().ask("GET /x", &[]).is(429);
    assert_eq!(limited.header("retry-after"), Some("1"));
    assert_eq!(
        limited.header("ratelimit-policy"),
        Some("\"limit\";q=1;qu=\"concurrent-requests\"")
    );
    slow.reset();
    let ended = || gate.connect().ask("GET /x", &[]).status == 200;
    eventually("the slow one no longer counts", ended);

    let mut tunnel = gate.connect();
    let upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    eventually("the last answer no longer counts", || {
        tunnel = gate.connect();
        tunnel.send(crate::support::client::request("GET /ws", &upgrade, b""));
        tunnel.response_head().status == 101
    });
    gate.connect().ask("GET /x", &[]).is(429);
    drop(tunnel);
    eventually("the tunnel no longer counts", ended);
}

#[test]
fn what_was_counted_outlives_a_reload() {
    let origin = Origin::start();
    let config = |rate: &str, more: &str| {
        format!(
            "{}[[limit]]\nname = \"all\"\nrate = \"{rate}\"\nper = \"client\"\n{more}",
            open(&origin)
        )
    };
    let gate = Gate::start(&config("2/h", ""));
    let ask = || gate.connect().ask("GET /x", &[]).status;
    assert_eq!((ask(), ask(), ask()), (200, 200, 429));
    gate.reload(&config(
        "2/h",
        "[[limit]]\nname = \"new\"\nrate = \"9/h\"\n",
    ))
    .unwrap();
    assert_eq!(ask(), 429, "the same limit");
    gate.reload(&config("2/h", "oops = 1\n")).unwrap_err();
    assert_eq!(ask(), 429, "a refused configuration changes nothing");
    gate.reload(&config("3/h", "")).unwrap();
    assert_eq!(
        (ask(), ask(), ask(), ask()),
        (200, 200, 200, 429),
        "another"
    );
}

#[test]
fn a_limit_holds_where_no_site_and_no_route_is() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "{}[[site]]\nhost = [\"a.test\"]\n  [[site.route]]\n  path = \"/x\"\n  upstream = \"app\"\n  allow = \"anyone\"\n\
         [[limit]]\nname = \"scanners\"\nrate = \"2/h\"\nper = \"client\"\n",
        front(&origin)
    ));
    let mut client = gate.connect();
    client.ask("GET /nothing", &["Host: a.test"]).is(404);
    client.ask("GET /x", &["Host: b.test"]).is(421);
    client.ask("GET /nothing", &["Host: a.test"]).is(429);
}
