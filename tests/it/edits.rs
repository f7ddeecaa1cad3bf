//! Header edits and rewritten targets: what the upstream gets, and what the client gets back.

use crate::support::gate::front;
use crate::support::{Gate, Origin};

fn gate(origin: &Origin, site: &str) -> Gate {
    Gate::start(&format!(
        "[response_headers]\nset = {{ X-All = \"1\" }}\nremove = [\"Server\"]\n{}[[site]]\nhost = [\"app.test\"]\nupstream = \"app\"\n{site}",
        front(origin)
    ))
}

#[test]
fn requests_are_edited_on_their_way_up() {
    let origin = Origin::start();
    let gate = gate(
        &origin,
        r#"
[site.request_headers]
set = { X-Env = "site", X-From = "{client}", X-Where = "{scheme}://{host}{path}{query}" }
add = { Accept-Language = "nl", X-New = "1" }
append = { X-List = "ours" }
remove = ["X-Debug"]
[[site.route]]
path = "/**"
allow = "anyone"
[[site.route]]
path = "/r/**"
allow = "anyone"
request_headers = { set = { X-Env = "route {tail}" } }
"#,
    );
    let fields = [
        "Host: app.test",
        "X-Env: client",
        "X-From: 6.6.6.6",
        "X-Debug: 1",
        "X-List: theirs",
        "Accept-Language: fy",
    ];
    gate.connect()
        .ask("GET /a%20b?q=%0d%0aX-Evil:1", &fields)
        .is(200);
    let seen = origin.last();
    assert_eq!(
        seen.all("x-env"),
        ["site"],
        "set replaces what the client sent"
    );
    assert_eq!(seen.all("x-from"), ["127.0.0.1"]);
    assert_eq!(
        seen.all("x-where"),
        ["http://app.test/a%20b?q=%0d%0aX-Evil:1"],
        "escapes stay escapes: nobody breaks out of the line"
    );
    assert_eq!(seen.all("x-evil"), [""; 0]);
    assert_eq!(
        seen.all("accept-language"),
        ["fy"],
        "add leaves what is there"
    );
    assert_eq!(seen.all("x-new"), ["1"]);
    assert_eq!(seen.all("x-list"), ["theirs", "ours"]);
    assert_eq!(seen.all("x-debug"), [""; 0]);
    gate.connect()
        .ask("GET /r/x/y", &["Host: app.test"])
        .is(200);
    assert_eq!(
        origin.last().all("x-env"),
        ["route x/y"],
        "the route's stand behind"
    );
}

#[test]
fn every_answer_is_edited_our_own_included() {
    let origin = Origin::scripted(|exchange| {
        exchange.answer("200 OK\r\nServer: secret\r\nX-Frame-Options: ALLOWALL", "x")
    });
    let gate = gate(
        &origin,
        r#"
[site.response_headers]
set = { X-Frame-Options = "DENY", X-Saw = "{path}" }
append = { Vary = "X-Site" }
[[site.route]]
path = "/**"
allow = "anyone"
[[site.route]]
path = "/staff/**"
allow = [{ ip = "192.0.2.1" }]
response_headers = { set = { X-Frame-Options = "SAMEORIGIN" }, remove = ["X-All"] }
[[site.route]]
path = "/fixed"
respond = { status = 200, body = "x" }
"#,
    );
    for (line, host, status, frame, all, saw, why) in [
        (
            "GET /x",
            "app.test",
            200,
            Some("DENY"),
            Some("1"),
            Some("/x"),
            "the upstream's",
        ),
        (
            "GET /staff/x",
            "app.test",
            403,
            Some("SAMEORIGIN"),
            None,
            Some("/staff/x"),
            "a denial",
        ),
        (
            "GET /fixed",
            "app.test",
            200,
            Some("DENY"),
            Some("1"),
            Some("/fixed"),
            "a fixed answer",
        ),
        (
            "GET /x",
            "other.test",
            421,
            None,
            Some("1"),
            None,
            "no site: the global ones",
        ),
        (
            "GET /%zz",
            "app.test",
            400,
            None,
            Some("1"),
            None,
            "a malformed one as well",
        ),
    ] {
        let answer = gate.connect().ask(line, &[&format!("Host: {host}")]);
        assert_eq!(answer.status, status, "{line}: {why}");
        assert_eq!(answer.header("x-frame-options"), frame, "{line}: {why}");
        assert_eq!(answer.header("x-all"), all, "{line}: {why}");
        assert_eq!(answer.header("x-saw"), saw, "{line}: {why}");
        assert_eq!(answer.header("server"), None, "{line}: {why}");
    }
}

#[test]
fn a_route_shows_an_application_under_another_path_and_name() {
    let origin = Origin::scripted(|exchange| {
        let head = match exchange.seen.target.as_str() {
            "/v2/there" => "302 Found\r\nLocation: /v2/here".to_owned(),
            "/v2/host" => "302 Found\r\nLocation: http://app.internal:81/v2/h?q".to_owned(),
            "/v2/away" => "302 Found\r\nLocation: https://login.test/v2/x".to_owned(),
            _ => "200 OK".to_owned(),
        };
        exchange.answer(&head, "")
    });
    let gate = gate(
        &origin,
        r#"
[[site.route]]
path = "/api/**"
allow = "anyone"
strip_prefix = true
add_prefix = "/v2/"
host_header = "app.internal:81"
[[site.route]]
path = "/api/admin/**"
allow = [{ ip = "192.0.2.1" }]
"#,
    );
    let ask = |target: &str| {
        let line = format!("GET {target}");
        gate.connect().ask(&line, &["Host: app.test"])
    };
    for (target, want) in [
        ("/api/a%2Fb?x=%2e&y", "/v2/a%2Fb?x=%2e&y"),
        ("/api", "/v2/"),
        ("/api/", "/v2/"),
        ("/%61pi/x", "/v2/x"),
    ] {
        ask(target).is(200);
        let seen = origin.last();
        assert_eq!(seen.target, want, "{target}");
        assert_eq!(seen.all("host"), ["app.internal:81"]);
        assert_eq!(seen.all("x-forwarded-host"), ["app.test"]);
    }
    ask("/api/admin/x").is(403);
    for target in ["/api/../admin", "/api/%2e%2e/x", "/api/x/..;/y"] {
        ask(target).is(400);
    }
    for (target, want) in [
        ("/api/there", "/api/here"),
        ("/api/host", "/api/h?q"),
        ("/api/away", "https://login.test/v2/x"),
    ] {
        assert_eq!(ask(target).header("location"), Some(want), "{target}");
    }
}
