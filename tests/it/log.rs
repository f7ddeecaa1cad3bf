//! The access log: one line for every request whatever its outcome, the names of GRAMMAR, nothing injected, nothing secret.

use std::time::Duration;

use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::client::request;
use crate::support::gate::front;
use crate::support::tokens::{hs, staff};
use crate::support::{Gate, Origin, Then, eventually, open, tokens};

/// A site with an open route, a denied one, and one for the staff; a source that signs in.
fn config(origin: &Origin) -> String {
    format!(
        r#"[identity.hs]
jwt = {{ issuer = "heldout", audience = "proxy", secret = "{}", algorithms = ["HS256"], roles = "roles" }}
{}[[site]]
host = ["app.test"]
upstream = "app"
identity = ["hs"]
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/denied/**"
  allow = "anyone"
  [[site.route.deny]]
  name = "no-entry"
  reason = "address_blocked"
  [[site.route]]
  path = "/staff/**"
  allow = [{{ name = "staff-only", role = "staff" }}]
  [[site.route]]
  path = "/dropped/**"
  allow = "anyone"
  [[site.route.deny]]
  name = "no-answer"
  status = "close"
"#,
        tokens::SECRET,
        front(origin)
    )
}

/// The number under this key.
fn number(line: &Value, key: &str) -> f64 {
    line[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} is a number: {line}"))
}

/// The text under this key.
fn word<'a>(line: &'a Value, key: &str) -> &'a str {
    line[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is text: {line}"))
}

#[test]
fn allowed_request_has_its_line() {
    let origin = Origin::start();
    let gate = Gate::start(&config(&origin));
    let response = gate
        .connect()
        .ask_with(
            "POST /a%20b?x=1&y=%2F",
            &[
                "User-Agent: test/1.0 (\"quoted\" \\ back)",
                "Referer: https://from.test/",
            ],
            b"hello",
        )
        .is(200);
    let line = gate.only_line();
    let timestamp = Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$").unwrap();
    assert!(timestamp.is_match(word(&line, "timestamp")), "{line}");
    for (key, want) in [
        ("request.id", response.header("x-request-id").unwrap()),
        ("client.address", "127.0.0.1"),
        ("network.peer.address", "127.0.0.1"),
        ("http.request.method", "POST"),
        ("server.address", "app.test"),
        ("url.scheme", "http"),
        ("url.path", "/a%20b"),
        ("url.query", "x=1&y=%2F"),
        ("network.protocol.version", "1.1"),
        ("response.source", "upstream"),
        ("policy.decision", "allow"),
        ("site", "app.test"),
        ("route", "/**"),
        ("upstream.name", "app"),
        ("user_agent.original", "test/1.0 (\"quoted\" \\ back)"),
        ("http.request.header.referer", "https://from.test/"),
    ] {
        assert_eq!(word(&line, key), want, "{key}: {line}");
    }
    for (key, want) in [
        ("schema", 1.0),
        ("http.request.body.size", 5.0),
        ("http.response.body.size", response.body.len() as f64),
        ("http.response.status_code", 200.0),
        ("upstream.status_code", 200.0),
        ("config.generation", 1.0),
    ] {
        assert!(
            (number(&line, key) - want).abs() < f64::EPSILON,
            "{key}: {line}"
        );
    }
    assert!(number(&line, "network.peer.port") > 0.0);
    assert!(
        word(&line, "upstream.address").contains(&origin.address().port().to_string()),
        "{line}"
    );
    for key in ["duration", "policy.duration", "upstream.response.duration"] {
        assert!(
            (0.0..10.0).contains(&number(&line, key)),
            "{key} in seconds: {line}"
        );
    }
    for absent in [
        "policy.reason",
        "tls.protocol.version",
        "user.id",
        "auth.error",
        "error.type",
        "policy.shadow",
    ] {
        assert!(line.get(absent).is_none(), "{absent}: {line}");
    }
}

#[test]
fn denied_request_has_its_line_with_the_rule() {
    let origin = Origin::start();
    let gate = Gate::start(&config(&origin));
    let response = gate.connect().ask("GET /denied/x", &[]).is(403);
    let line = gate.only_line();
    for (key, want) in [
        ("request.id", response.header("x-request-id").unwrap()),
        ("policy.decision", "deny"),
        ("policy.reason", "address_blocked"),
        ("security_rule.name", "no-entry"),
        ("response.source", "policy"),
        ("site", "app.test"),
        ("route", "/denied/**"),
        ("url.path", "/denied/x"),
    ] {
        assert_eq!(word(&line, key), want, "{key}: {line}");
    }
    let source = Regex::new(r"portcullis\.toml:\d+$").unwrap();
    assert!(
        source.is_match(word(&line, "security_rule.source")),
        "{line}"
    );
    assert_eq!(number(&line, "http.response.status_code") as u16, 403);
    assert_eq!(
        number(&line, "http.response.body.size") as usize,
        response.body.len()
    );
    for absent in [
        "upstream.name",
        "upstream.address",
        "upstream.status_code",
        "upstream.response.duration",
    ] {
        assert!(line.get(absent).is_none(), "{absent}: {line}");
    }
}

#[test]
fn request_closed_without_an_answer_has_its_line() {
    let origin = Origin::start();
    let gate = Gate::start(&config(&origin));
    let mut client = gate.connect();
    client.send(request("GET /dropped", &[], b""));
    assert!(client.try_response("GET", Duration::from_secs(5)).is_err());
    let line = gate.only_line();
    assert_eq!(word(&line, "policy.decision"), "deny");
    assert_eq!(word(&line, "security_rule.name"), "no-answer");
    assert_eq!(word(&line, "response.source"), "policy");
    assert_eq!(number(&line, "http.response.body.size") as u64, 0, "{line}");
}

#[test]
fn people_are_named_and_challenges_told_apart() {
    let origin = Origin::start();
    let gate = Gate::start(&config(&origin));
    let mut client = gate.connect();
    client.ask("GET /staff", &[]).is(401);
    client
        .ask("GET /staff", &["Authorization: Bearer garbage"])
        .is(401);
    client
        .ask(
            "GET /staff",
            &[&format!("Authorization: Bearer {}", hs(&staff()))],
        )
        .is(200);
    let lines = gate.log(3);
    assert_eq!(word(&lines[0], "policy.decision"), "challenge");
    assert_eq!(word(&lines[0], "policy.reason"), "not_authenticated");
    assert_eq!(word(&lines[1], "policy.reason"), "invalid_token");
    assert!(
        !word(&lines[1], "auth.error").is_empty(),
        "why it is invalid, for the operator"
    );
    let signed_in = &lines[2];
    assert_eq!(word(signed_in, "user.id"), "alice");
    assert_eq!(word(signed_in, "auth.source"), "hs");
    assert_eq!(signed_in["user.roles"], serde_json::json!(["staff"]));
    assert_eq!(word(signed_in, "security_rule.name"), "staff-only");
}

#[test]
fn every_refusal_has_one_line_even_what_never_parsed() {
    for (bytes, status, never_parsed, why) in [
        (
            &b"\x16\x03\x01\x02\x00garbage\r\n\r\n"[..],
            400,
            true,
            "no HTTP at all",
        ),
        (
            b"GET /x HTTP/1.1\r\nHost: app.test\r\nX A: 1\r\n\r\n",
            400,
            true,
            "a malformed field",
        ),
        (
            b"GET /x HTTP/1.1\r\nHost: app.test\r\nContent-Length: x\r\n\r\n",
            400,
            true,
            "a malformed length",
        ),
        (b"GET /x HTTP/1.1\r\n\r\n", 400, false, "no Host"),
        (
            b"GET /x%zz HTTP/1.1\r\nHost: app.test\r\n\r\n",
            400,
            false,
            "a bad escape",
        ),
        (
            b"GET /../x HTTP/1.1\r\nHost: app.test\r\n\r\n",
            400,
            false,
            "dot segments",
        ),
        (
            b"TRACE /x HTTP/1.1\r\nHost: app.test\r\n\r\n",
            405,
            false,
            "TRACE",
        ),
        (
            b"GET /x HTTP/1.1\r\nHost: unknown.test\r\n\r\n",
            421,
            false,
            "no such site",
        ),
    ] {
        let origin = Origin::start();
        let gate = Gate::start(&config(&origin));
        let mut client = gate.connect();
        client.send(bytes);
        drop(client.try_response("GET", Duration::from_secs(5)));
        let line = gate.only_line();
        assert_eq!(
            number(&line, "http.response.status_code") as u16,
            status,
            "{why}: {line}"
        );
        assert_eq!(word(&line, "network.peer.address"), "127.0.0.1", "{why}");
        assert_eq!(word(&line, "client.address"), "127.0.0.1", "{why}");
        assert!(number(&line, "network.peer.port") > 0.0, "{why}");
        assert!(word(&line, "timestamp").len() > 20, "{why}");
        if never_parsed {
            assert!(
                line.get("url.path").is_none() && line.get("policy.decision").is_none(),
                "{why}: {line}"
            );
            assert_eq!(word(&line, "response.source"), "proxy", "{why}: {line}");
        }
        if status != 421 {
            assert!(line["error.type"].is_string(), "{why}: {line}");
        }
        assert_eq!(origin.count(), 0, "{why}");
    }
}

#[test]
fn late_and_oversized_heads_have_their_line() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "[server.limits]\nheader_timeout = \"1s\"\nheader_size = \"8KiB\"\nheader_count = 10\ntarget_length = 100\n{}",
        config(&origin)
    ));
    let many: String = (0..20).map(|number| format!("X-{number}: v\r\n")).collect();
    for (bytes, status, why) in [
        (
            "GET /x HTTP/1.1\r\nHost: app.te".to_owned(),
            408,
            "half a head",
        ),
        (
            format!(
                "GET /{} HTTP/1.1\r\nHost: app.test\r\n\r\n",
                "a".repeat(200)
            ),
            414,
            "a long target",
        ),
        (
            format!("GET /x HTTP/1.1\r\nHost: app.test\r\n{many}\r\n"),
            431,
            "many fields",
        ),
        (
            format!(
                "GET /x HTTP/1.1\r\nHost: app.test\r\nX-A: {}\r\n\r\n",
                "a".repeat(20_000)
            ),
            431,
            "a large head",
        ),
    ] {
        let known = gate.log_text().lines().count();
        let mut client = gate.connect();
        client.send(bytes);
        if let Ok(response) = client.try_response("GET", Duration::from_secs(5)) {
            assert_eq!(response.status, status, "{why}");
        }
        let lines = gate.log(known + 1);
        assert_eq!(lines.len(), known + 1, "{why}: one line");
        assert_eq!(
            number(&lines[known], "http.response.status_code") as u16,
            status,
            "{why}: {}",
            lines[known]
        );
    }
    drop(gate.connect());
    gate.connect().ask("GET /x", &[]).is(200);
    assert_eq!(
        gate.log(5).len(),
        5,
        "a connection without a byte is no request"
    );
}

#[test]
fn client_that_leaves_first_is_499() {
    let origin = Origin::scripted(|exchange| {
        if exchange.seen.target == "/stream" {
            exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        }
        exchange.wait_for_close();
        Then::Close
    });
    let gate = Gate::start(&config(&origin).replace("1500ms", "30s"));
    let mut client = gate.connect();
    client.send(request("GET /waiting", &[], b""));
    eventually("the request is at the origin", || origin.count() == 1);
    drop(client);
    let line = gate.only_line();
    assert_eq!(
        number(&line, "http.response.status_code") as u16,
        499,
        "{line}"
    );
    assert_eq!(word(&line, "policy.decision"), "allow", "{line}");

    let mut client = gate.connect();
    client.send(request("GET /stream", &[], b""));
    client.take_until(b"hello");
    client.reset();
    let line = gate.log(2).pop().unwrap();
    assert_eq!(word(&line, "url.path"), "/stream", "{line}");
    assert!(
        [200, 499].contains(&(number(&line, "http.response.status_code") as u16)),
        "{line}"
    );
    assert!(
        line["error.type"].is_string(),
        "it did not end well: {line}"
    );
}

/// hyper takes a closed sending side for a client that has left.
#[test]
fn request_of_a_client_that_closes_behind_it_has_its_line() {
    let origin = Origin::start();
    let gate = Gate::start(&config(&origin));
    for number in 0..20 {
        let mut client = gate.connect();
        client.send(request("GET /x", &[], b""));
        client.half_close();
        drop(client.try_response("GET", Duration::from_secs(5)));
        let lines = gate.log(number + 1);
        assert_eq!(lines.len(), number + 1, "one line each");
        let line = &lines[number];
        assert_eq!(word(line, "url.path"), "/x", "{line}");
        let status = line["http.response.status_code"].as_u64().unwrap();
        assert!([200, 499].contains(&status), "{line}");
    }
}

#[test]
fn line_is_written_when_the_body_has_ended() {
    let origin = Origin::scripted(|exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        // The test asks for the end with the next bytes on this connection's body.
        exchange.read_body();
        exchange.send(b"6\r\n world\r\n0\r\n\r\n");
        Then::Next
    });
    let gate = Gate::start(&config(&origin));
    let mut client = gate.connect();
    client.send(request("POST /x", &["Content-Length: 1"], b""));
    client.take_until(b"hello");
    gate.connect().ask("GET /denied", &[]).is(403);
    assert_eq!(gate.log(1).len(), 1, "the open stream has no line yet");
    client.send(b"!");
    client.take_until(b"0\r\n\r\n");
    let lines = gate.log(2);
    let line = lines
        .iter()
        .find(|line| line["http.request.method"] == "POST")
        .unwrap();
    assert_eq!(number(line, "http.response.body.size") as u64, 11, "{line}");
    assert_eq!(number(line, "http.request.body.size") as u64, 1, "{line}");
}

#[test]
fn nothing_can_be_injected() {
    let origin = Origin::start();
    let gate = Gate::start(&config(&origin));
    let mut client = gate.connect();
    let agent = "a\"b\\c\u{e9}\u{ff} {\"x\":1} \t end";
    let mut bytes = b"GET /x?q=%0a%22 HTTP/1.1\r\nHost: app.test\r\nUser-Agent: ".to_vec();
    bytes.extend(crate::support::client::latin1(agent));
    bytes.extend(b"\r\nReferer: \"}\\n{\"injected\":true}\r\n\r\n");
    client.send(bytes);
    client.response("GET").is(200);
    let text = {
        gate.log(1);
        gate.log_text()
    };
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.bytes().all(|byte| byte >= b' ' || byte == b'\n'),
        "{text}"
    );
    let line = gate.only_line();
    assert!(line.get("injected").is_none());
    assert_eq!(
        word(&line, "http.request.header.referer"),
        "\"}\\n{\"injected\":true}"
    );
    assert!(
        word(&line, "user_agent.original").starts_with("a\"b\\c"),
        "{line}"
    );
}

#[test]
fn secrets_are_never_written() {
    let origin = Origin::scripted(|exchange| {
        exchange.answer("200 OK\r\nSet-Cookie: sid=SECRET-5; HttpOnly", "SECRET-6")
    });
    let gate = Gate::start(&config(&origin));
    let mut client = gate.connect();
    for target in ["/x", "/denied", "/staff"] {
        client.ask_with(
            &format!("POST {target}?access_token=SECRET-7&token=SECRET-8&password=SECRET-9&fine=1"),
            &[
                "Authorization: Bearer SECRET-1",
                "Cookie: sid=SECRET-2",
                "Proxy-Authorization: Basic SECRET-3",
                "X-Api-Key: SECRET-4",
            ],
            b"SECRET-0",
        );
    }
    gate.log(3);
    let text = gate.log_text();
    assert!(!text.contains("SECRET"), "{text}");
    assert!(text.contains("fine=1"), "what is no secret stays: {text}");
}

/// Byte for byte nginx's `combined`, so that GoAccess and fail2ban read it.
#[test]
fn combined_format() {
    let origin = Origin::start();
    let folder = TempDir::new().unwrap();
    let opening = crate::support::gate::OPENING.replace(
        "path = \"access.log\"\n",
        "path = \"access.log\"\nformat = \"combined\"\n",
    );
    let gate = Gate::bare(folder, &format!("{opening}{}", open(&origin)));
    let mut client = gate.connect();
    client
        .ask(
            "GET /x?y=1",
            &["Referer: https://from.test/", "User-Agent: a\"b\\c"],
        )
        .is(200);
    client.ask("GET /plain", &[]).is(200);
    let mut bad = gate.connect();
    bad.send(b"\x16\x03\x01 garbage\r\n\r\n");
    drop(bad.try_response("GET", Duration::from_secs(5)));
    eventually("three lines", || gate.log_text().lines().count() == 3);
    let text = gate.log_text();
    let lines: Vec<&str> = text.lines().collect();
    let time = r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]";
    for (part, pattern) in [
        (
            "/x?y=1",
            format!(
                r#"^127\.0\.0\.1 - - {time} "GET /x\?y=1 HTTP/1\.1" 200 \d+ "https://from\.test/" "a\\x22b\\x5Cc"$"#
            ),
        ),
        (
            "/plain",
            format!(r#"^127\.0\.0\.1 - - {time} "GET /plain HTTP/1\.1" 200 \d+ "-" "-"$"#),
        ),
        (
            " 400 ",
            format!(r#"^127\.0\.0\.1 - - {time} "[^"]*" 400 \d+ "-" "-"$"#),
        ),
    ] {
        let line = lines.iter().find(|line| line.contains(part)).expect(part);
        assert!(
            Regex::new(&pattern).unwrap().is_match(line),
            "{line}\nis not\n{pattern}"
        );
    }
}

#[test]
fn several_logs_with_their_own_formats_and_filters() {
    let origin = Origin::start();
    let folder = TempDir::new().unwrap();
    let logs = "[[access_log]]\npath = \"access.log\"\n\
                [[access_log]]\npath = \"denied.log\"\nonly = \"denied\"\n\
                [[access_log]]\npath = \"template.log\"\nformat = '$remote_addr|$request_method|$request_uri|$status'\n\
                [[access_log]]\npath = \"masked.log\"\nprivacy = \"mask\"\n";
    let opening =
        crate::support::gate::OPENING.replace("[access_log]\npath = \"access.log\"\n", logs);
    let gate = Gate::bare(folder, &format!("{opening}{}", config(&origin)));
    let mut client = gate.connect();
    client.ask("GET /x?y", &[]).is(200);
    client.ask("GET /denied", &[]).is(403);
    assert_eq!(gate.log(2).len(), 2);
    let read = |name: &str| std::fs::read_to_string(gate.path(name)).unwrap_or_default();
    eventually("all logs are written", || {
        read("denied.log").lines().count() == 1
            && read("template.log").lines().count() == 2
            && read("masked.log").lines().count() == 2
    });
    assert!(read("denied.log").contains("/denied"));
    assert_eq!(
        read("template.log"),
        "127.0.0.1|GET|/x?y|200\n127.0.0.1|GET|/denied|403\n"
    );
    for line in read("masked.log").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(word(&line, "client.address"), "127.0.0.0");
        assert_eq!(word(&line, "network.peer.address"), "127.0.0.0");
    }
}

#[test]
fn client_address_is_the_one_that_was_judged() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "[client]\ntrusted_proxies = [\"127.0.0.2/32\"]\n{}",
        config(&origin)
    ));
    gate.connect_from("127.0.0.2")
        .ask("GET /x", &["X-Forwarded-For: 198.51.100.7"])
        .is(200);
    gate.connect()
        .ask("GET /x", &["X-Forwarded-For: 198.51.100.7"])
        .is(200);
    let lines = gate.log(2);
    for (line, client, peer) in [
        (&lines[0], "198.51.100.7", "127.0.0.2"),
        (&lines[1], "127.0.0.1", "127.0.0.1"),
    ] {
        assert_eq!(
            (
                word(line, "client.address"),
                word(line, "network.peer.address")
            ),
            (client, peer)
        );
    }
}

#[test]
fn lines_are_complete_after_shutdown() {
    let origin = Origin::start();
    let gate = Gate::start(&config(&origin));
    let mut client = gate.connect();
    for _ in 0..100 {
        client.ask("GET /x", &[]).is(200);
    }
    drop(client);
    let folder = gate.shutdown();
    let text = std::fs::read_to_string(folder.path().join("access.log")).unwrap();
    assert_eq!(text.lines().count(), 100, "nothing is lost in a buffer");
}

#[test]
fn rotated_log_is_opened_anew() {
    let origin = Origin::start();
    let gate = Gate::start(&config(&origin));
    let mut client = gate.connect();
    client.ask("GET /before", &[]).is(200);
    gate.log(1);
    std::fs::rename(gate.path("access.log"), gate.path("access.log.1")).unwrap();
    client.ask("GET /between", &[]).is(200);
    let old = || std::fs::read_to_string(gate.path("access.log.1")).unwrap();
    eventually("the old file is written until told otherwise", || {
        old().lines().count() == 2
    });
    gate.reopen_logs();
    eventually("there is a new file", || gate.path("access.log").exists());
    client.ask("GET /after", &[]).is(200);
    assert_eq!(word(&gate.only_line(), "url.path"), "/after");
    assert_eq!(
        old().lines().count(),
        2,
        "nothing is lost and nothing is written twice"
    );
}

/// A pipe that nobody reads is a disk that does not move: requests go on, ordinary lines are dropped and counted, and every
/// refusal comes out once it moves again.
#[test]
fn stalled_log_stalls_no_request_and_keeps_every_refusal() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let pipe = std::fs::File::options().read(true).write(true).open(&path);
    let mut pipe = std::io::BufReader::new(pipe.unwrap());
    let origin = Origin::start();
    let config = format!(
        "[server]\nworkers = 2\n[admin]\nsocket = \"admin.sock\"\naddress = \"127.0.0.1:0\"\n\
         [access_log]\npath = \"pipe\"\n{}",
        config(&origin)
    );
    let gate = Gate::bare(folder, &config);
    let dropped = || {
        let page = crate::support::Client::connect(gate.admin())
            .ask("GET /metrics", &["Host: localhost"])
            .is(200);
        let page = String::from_utf8(page.body).unwrap();
        let name = "portcullis_access_log_lines_dropped_total ";
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse::<u64>().unwrap()
    };
    // 4 MiB wait at most; these are 8 MiB.
    let long = "x".repeat(8000);
    let mut client = gate.connect();
    let mut refused = Vec::new();
    for number in 0..1000 {
        client.ask(&format!("GET /{long}"), &[]).is(200);
        if number % 10 == 0 {
            let answer = client.ask("GET /denied/x", &[]).is(403);
            refused.push(answer.header("x-request-id").unwrap().to_owned());
        }
    }
    eventually("dropped lines are counted", || dropped() > 100);
    let before = dropped();
    let reader = std::thread::spawn(move || {
        let mut left: std::collections::BTreeSet<String> = refused.into_iter().collect();
        let mut line = String::new();
        while !left.is_empty() {
            line.clear();
            std::io::BufRead::read_line(&mut pipe, &mut line).unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            left.remove(word(&line, "request.id"));
        }
        pipe
    });
    eventually("every refusal comes out", || reader.is_finished());
    client.ask("GET /after", &[]).is(200);
    assert_eq!(dropped(), before, "no more is lost");
    drop(gate.shutdown());
    drop(reader.join());
}

#[test]
fn full_log_is_begun_anew_and_loses_nothing() {
    let origin = Origin::start();
    let rotate = "rotate = { size = \"4KiB\", keep = 100 }\n";
    let gate = Gate::start(&format!("{rotate}{}", config(&origin)));
    let mut client = gate.connect();
    for number in 0..60 {
        client.ask(&format!("GET /{number}"), &[]).is(200);
    }
    let folder = gate.shutdown();
    let names = std::fs::read_dir(folder.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names
        .filter(|name| name.starts_with("access.log."))
        .collect();
    names.sort();
    assert!(names.len() > 4, "{names:?}");
    names.push("access.log".to_owned());
    let mut paths = Vec::new();
    for name in &names {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(text.len() <= 4096, "{name} has {} bytes", text.len());
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            paths.push(word(&line, "url.path").to_owned());
        }
    }
    let want: Vec<_> = (0..60).map(|number| format!("/{number}")).collect();
    assert_eq!(paths, want, "in order, whole, each once");
}

#[test]
fn syslog_gets_every_line_and_its_absence_stops_nobody() {
    let origin = Origin::start();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log.sock");
    let config = format!(
        "[server]\nworkers = 2\n[admin]\nsocket = \"admin.sock\"\n\
         [access_log]\npath = \"syslog:{}?facility=auth&tag=gate\"\nformat = \"ecs\"\n{}",
        path.display(),
        config(&origin)
    );
    let gate = Gate::bare(TempDir::new().unwrap(), &config);
    let mut client = gate.connect();
    client.ask("GET /before", &[]).is(200);
    let server = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    server
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    client.ask("GET /after", &[]).is(200);
    for want in ["/before", "/after"] {
        let mut room = vec![0; 65_536];
        let length = server.recv(&mut room).unwrap();
        let text = std::str::from_utf8(&room[..length]).unwrap();
        let (head, body) = text.split_at(text.find('{').unwrap());
        assert!(
            head.starts_with("<38>1 ") && head.contains(" gate "),
            "{head}"
        );
        let line: Value = serde_json::from_str(body).unwrap();
        assert_eq!(line["url"]["path"], want, "what waited comes too, in order");
        assert_eq!(line["portcullis"]["policy"]["decision"], "allow");
    }
}
