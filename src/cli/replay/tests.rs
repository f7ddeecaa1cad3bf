#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use std::io::Cursor;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::config::Input;

const POLICY: &str = r#"
[[listener]]
address = "127.0.0.1:0"
[upstream.app]
servers = ["http://127.0.0.1:9"]
[identity.sso]
jwt = { issuer = "i", audience = "a", secret = "a secret of at least thirty-two bytes", algorithms = ["HS256"] }
[[deny]]
name = "blocked"
ip = "203.0.113.0/24"
status = 451
reason = "region_restricted"
[[site]]
host = ["app.test"]
upstream = "app"
identity = ["sso"]
[[site.route]]
path = "/**"
allow = "anyone"
[[site.route]]
path = "/staff/**"
allow = [{ name = "staff", role = "staff" }]
[[site.route]]
path = "/cookie/**"
allow = "anyone"
[[site.route.deny]]
name = "stolen"
cookie.session = "stolen"
[[site.route]]
path = "/header/**"
allow = "anyone"
[[site.route.deny]]
name = "staging"
header.x-env = "staging"
[[site.route]]
path = "/query/**"
allow = "anyone"
[[site.route.deny]]
name = "preview"
query.token = { present = true }
[[site.route]]
path = "/agent/**"
allow = "anyone"
[[site.route.deny]]
name = "bots"
header.user-agent = { glob = "bot*" }
[[site.route]]
path = "/plan/**"
allow = [{ claim.plan = "pro" }]
[[site.route]]
path = "/ws/**"
allow = "anyone"
[[site.route.deny]]
name = "no-sockets"
upgrade = "websocket"
[[site.route]]
path = "/inside/**"
allow = [{ ip = "10.0.0.0/8" }]
[[site.route]]
path = "/tls/**"
allow = "anyone"
[[site.route.deny]]
name = "old-tls"
tls.version = "1.2"
[[site.route]]
path = "/through/**"
allow = "anyone"
[[site.route.deny]]
name = "peers"
peer = "192.0.2.0/24"
"#;

/// Replays a log.
fn replay(log: impl Into<Vec<u8>>, host: Option<&str>) -> Tally {
    let input = Input::Text {
        name: "new.toml".to_owned(),
        text: POLICY.to_owned(),
        folder: PathBuf::new(),
    };
    let (loaded, memory) = instance::load(&input, Memory::default(), 1);
    let report = loaded.report.render(crate::config::Paint::Plain);
    let snapshot = loaded.snapshot.as_ref().expect(&report);
    let judge = Judge::new(&loaded, snapshot, memory, host).unwrap();
    let source = Box::new(Cursor::new(log.into()));
    let bar = lines::Bar::new(None);
    lines::each(source, &AtomicU64::new(0), &bar, &judge).unwrap()
}

/// What became of the only line: a sort with both answers, or why it cannot be judged.
fn only(tally: &Tally) -> String {
    assert_eq!(tally.lines, 1, "{tally:?}");
    if let Some(why) = tally.not_replayable.keys().next() {
        return why.clone();
    }
    if tally.unreadable.count == 1 {
        return "unreadable".to_owned();
    }
    match tally.groups.keys().next() {
        Some(key) => format!("{}: {} -> {}", key.sort.as_str(), key.old, key.new),
        None => "unchanged".to_owned(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "rows read better")]
fn line(path: &str, more: Value) -> String {
    let mut line = json!({
        "schema": 1, "timestamp": "2026-11-24T09:00:00.123456Z", "request.id": "018f",
        "client.address": "198.51.100.9", "network.peer.address": "198.51.100.9",
        "http.request.method": "GET", "server.address": "app.test", "url.scheme": "http",
        "url.path": path, "http.response.status_code": 200, "policy.decision": "allow",
    });
    for (key, value) in more.as_object().unwrap() {
        if value.is_null() {
            line.as_object_mut().unwrap().remove(key);
        } else {
            line[key] = value.clone();
        }
    }
    line.to_string()
}

#[test]
fn every_line_of_ours_has_its_answer() {
    let denied = |status: u16, reason: &str| json!({ "policy.decision": "deny", "http.response.status_code": status, "policy.reason": reason });
    let with = |mut one: Value, more: Value| {
        let more = more.as_object().unwrap().clone();
        one.as_object_mut().unwrap().extend(more);
        one
    };
    let reads = |what: &str| format!("a rule reads {what}");
    for (path, more, want, why) in [
        (
            "/",
            json!({ "client.address": "203.0.113.9" }),
            "would_deny: allowed -> 451 region_restricted by `blocked`".to_owned(),
            "a new deny",
        ),
        ("/", json!({}), "unchanged".to_owned(), "both allow"),
        (
            "/",
            json!({ "client.address": "203.0.113.9", "policy.decision": "deny", "http.response.status_code": 451, "policy.reason": "region_restricted" }),
            "unchanged".to_owned(),
            "the same answer, whatever rule",
        ),
        (
            "/",
            with(
                denied(403, "forbidden"),
                json!({ "security_rule.name": "old" }),
            ),
            "would_allow: 403 forbidden by `old` -> allowed".to_owned(),
            "an old deny is gone",
        ),
        (
            "/",
            with(
                denied(403, "forbidden"),
                json!({ "client.address": "203.0.113.9" }),
            ),
            "changed_answer: 403 forbidden -> 451 region_restricted by `blocked`".to_owned(),
            "another status",
        ),
        (
            "/",
            json!({ "policy.decision": null }),
            judge::NEVER_JUDGED.to_owned(),
            "no decision",
        ),
        (
            "/",
            json!({ "http.request.method": null }),
            judge::NEVER_JUDGED.to_owned(),
            "it never parsed",
        ),
        (
            "/",
            json!({ "policy.decision": "limit", "http.response.status_code": 429 }),
            "a limit answered it".to_owned(),
            "limits are not replayed",
        ),
        (
            "/",
            with(denied(421, "misdirected_request"), json!({})),
            "its certificate did not cover the host".to_owned(),
            "decided by the connection",
        ),
        (
            "/staff",
            json!({}),
            judge::UNSEEN.to_owned(),
            "identity was not looked at",
        ),
        (
            "/staff",
            json!({ "facts": { "identity": "none" } }),
            "would_deny: allowed -> 401 not_authenticated".to_owned(),
            "looked at, and nobody",
        ),
        (
            "/staff",
            json!({ "user.id": "ada", "user.roles": ["staff"], "auth.source": "sso", "facts": { "claim.plan": null, "header.x-env": [] } }),
            "unchanged".to_owned(),
            "somebody known",
        ),
        (
            "/staff",
            json!({ "user.id": "ada", "user.roles": [], "auth.source": "sso" }),
            "would_deny: allowed -> 403 forbidden".to_owned(),
            "known, and without the role",
        ),
        (
            "/staff",
            json!({ "auth.error": "expired", "policy.decision": "challenge", "http.response.status_code": 401, "policy.reason": "invalid_token" }),
            "unchanged".to_owned(),
            "a bad credential",
        ),
        (
            "/staff",
            json!({ "policy.decision": "challenge", "http.response.status_code": 302, "policy.reason": "not_authenticated" }),
            "unchanged".to_owned(),
            "a browser that was sent to sign in",
        ),
        (
            "/cookie",
            json!({}),
            reads("cookie session"),
            "cookies are never logged",
        ),
        (
            "/cookie",
            json!({ "client.address": "203.0.113.9" }),
            "would_deny: allowed -> 451 region_restricted by `blocked`".to_owned(),
            "denied whatever the cookie",
        ),
        (
            "/header",
            json!({}),
            reads("header x-env"),
            "nobody logged the field",
        ),
        (
            "/header",
            json!({ "facts": { "header.x-env": [], "header.user-agent": [] } }),
            "unchanged".to_owned(),
            "known not to be there",
        ),
        (
            "/header",
            json!({ "facts": { "header.x-env": ["staging"], "header.user-agent": [] } }),
            "would_deny: allowed -> 403 forbidden by `staging`".to_owned(),
            "known to be there",
        ),
        (
            "/query",
            json!({ "url.query": "token=REDACTED" }),
            reads("query token"),
            "its value is hidden",
        ),
        (
            "/query",
            json!({ "url.query": "a=1" }),
            "unchanged".to_owned(),
            "the query is there",
        ),
        (
            "/plan",
            json!({ "user.id": "ada", "user.roles": [], "auth.source": "sso" }),
            reads("claim plan"),
            "claims of an older log",
        ),
        (
            "/plan",
            json!({ "user.id": "ada", "user.roles": [], "auth.source": "sso", "facts": { "claim.plan": "pro" } }),
            "unchanged".to_owned(),
            "the claim is a fact",
        ),
        ("/ws", json!({}), reads("upgrade"), "an older log"),
        (
            "/ws",
            json!({ "facts": { "upgrade": "websocket" } }),
            "would_deny: allowed -> 403 forbidden by `no-sockets`".to_owned(),
            "it is a fact",
        ),
        (
            "/inside",
            json!({ "client.address": "a1b2c3d4e5f60718" }),
            reads("ip"),
            "a hashed address",
        ),
        (
            "/through",
            json!({ "network.peer.address": "x" }),
            reads("peer"),
            "a hashed peer",
        ),
        (
            "/%zz",
            json!({}),
            "would_deny: allowed -> 400 malformed_request".to_owned(),
            "a path that is none",
        ),
        (
            "/",
            json!({ "timestamp": "noon" }),
            "unreadable".to_owned(),
            "no time",
        ),
        (
            "/",
            json!({ "http.response.status_code": "200" }),
            "unreadable".to_owned(),
            "a text where a number is",
        ),
        (
            "/",
            json!({ "geo.country.iso_code": "Atlantis" }),
            "unreadable".to_owned(),
            "no country",
        ),
    ] {
        let told = only(&replay(line(path, more.clone()), None));
        assert_eq!(told, want, "{path} {more}: {why}");
    }
}

#[test]
fn every_combined_line_has_its_answer() {
    let line = |address: &str, request: &str, status: u16, agent: &str| {
        format!(
            "{address} - - [24/Nov/2026:10:00:00 +0100] \"{request}\" {status} 5 \"-\" \"{agent}\"\n"
        )
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1");
    let reads = |what: &str| format!("a rule reads {what}");
    for (text, want, why) in [
        (
            line("198.51.100.9", &get("/"), 200, "curl"),
            "unchanged".to_owned(),
            "both pass",
        ),
        (
            line("203.0.113.9", &get("/"), 200, "curl"),
            "would_deny: allowed -> 451 region_restricted by `blocked`".to_owned(),
            "a deny",
        ),
        (
            line("203.0.113.9", &get("/"), 403, "curl"),
            "unchanged".to_owned(),
            "it was refused already",
        ),
        (
            line("198.51.100.9", &get("/"), 403, "curl"),
            "it was refused, by the proxy or by the application, and would pass the proxy"
                .to_owned(),
            "who refused is not known",
        ),
        (
            line("203.0.113.9", &get("/"), 404, "curl"),
            "would_deny: allowed -> 451 region_restricted by `blocked`".to_owned(),
            "the application said 404",
        ),
        (
            line("198.51.100.9", &get("/"), 400, "curl"),
            judge::NEVER_JUDGED.to_owned(),
            "malformed",
        ),
        (
            line("198.51.100.9", &get("/staff"), 200, "curl"),
            judge::UNSEEN.to_owned(),
            "nobody knows who",
        ),
        (
            line("198.51.100.9", &get("/header"), 200, "curl"),
            reads("header x-env"),
            "no such field",
        ),
        (
            line("198.51.100.9", &get("/tls"), 200, "curl"),
            reads("tls"),
            "no such fact",
        ),
        (
            line("198.51.100.9", &get("/a\\x22b"), 200, "curl"),
            "unchanged".to_owned(),
            "an escaped quote",
        ),
        (
            line("203.0.113.9", "-", 400, "-"),
            "unreadable".to_owned(),
            "no request",
        ),
        (
            line("198.51.100.9", &get("/"), 403, "curl")
                .replace('\n', " deny address_blocked \"old\" 01a2 NL\n"),
            "would_allow: 403 address_blocked by `old` -> allowed".to_owned(),
            "our own format says who refused",
        ),
        (
            line("203.0.113.9", &get("/"), 404, "curl").replace('\n', " allow - \"-\" 01a2 -\n"),
            "would_deny: allowed -> 451 region_restricted by `blocked`".to_owned(),
            "and who passed",
        ),
        (
            line("198.51.100.9", &get("/staff"), 401, "curl")
                .replace('\n', " challenge not_authenticated \"-\" 01a2 -\n"),
            "unchanged".to_owned(),
            "nobody was signed in",
        ),
        (
            "198.51.100.9 hello\n".to_owned(),
            "unreadable".to_owned(),
            "another format",
        ),
    ] {
        assert_eq!(
            only(&replay(text.clone(), Some("app.test"))),
            want,
            "{why}: {text}"
        );
    }
    let text = line("198.51.100.9", &get("/"), 200, "curl");
    let told = only(&replay(text, None));
    assert_eq!(told, "the line does not say the host: pass --host");
}

#[test]
fn hostile_logs_are_counted_and_bounded() {
    let good = line("/", json!({}));
    let deep = format!("{{\"facts\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    let long = "x".repeat(3 << 20);
    let nearly = format!("{{\"pad\":\"{}\"}}", "y".repeat((1 << 20) - 100));
    let mut log = Vec::new();
    for part in [
        good.as_bytes(),
        b"\xff\xfe\x00\x01 garbage",
        deep.as_bytes(),
        long.as_bytes(),
        good.as_bytes(),
        nearly.as_bytes(),
        b"",
        b"{}",
        b"{",
        good.as_bytes(),
    ] {
        log.extend_from_slice(part);
        log.push(b'\n');
    }
    log.extend_from_slice(good.as_bytes());
    let tally = replay(log, Some("app.test"));
    assert_eq!(tally.unchanged, 4, "{tally:?}");
    assert_eq!(
        (tally.unreadable.count, tally.unreadable.first),
        (4, 2),
        "garbage, too deep, too long, no object: {tally:?}"
    );
    let never = tally.not_replayable[judge::NEVER_JUDGED];
    assert_eq!((never.count, never.first), (2, 6), "{tally:?}");
}

#[test]
fn groups_say_where_and_give_the_first_example() {
    let from = |id: &str| json!({ "request.id": id, "client.address": "203.0.113.9", "geo.country.iso_code": "NL" });
    let log = [
        line("/", json!({})),
        line("/staff/x", from("first")),
        line("/", from("second")),
        line("/", from("third")),
    ];
    let tally = replay(log.join("\n"), None);
    let text = text::of(&tally, "new.toml", false);
    insta::assert_snapshot!("groups", text);
    assert!(text.lines().all(|line| line.chars().count() <= 80));
    let json: Value = serde_json::from_str(&json::of(&tally, "new.toml", false)).unwrap();
    assert_eq!(json["groups"][0]["count"], 3);
    assert_eq!(json["groups"][0]["example"]["request.id"], "first");
    for (on, want) in [
        (None, false),
        (Some(FailOn::Widen), false),
        (Some(FailOn::Any), true),
    ] {
        assert_eq!(fails(on, &tally), want, "{on:?}");
    }
}
