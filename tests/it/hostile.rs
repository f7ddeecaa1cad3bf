//! Requests that try to be judged as one thing and served as another, and peers that hold on to what they were given.

use std::thread;
use std::time::{Duration, Instant};

use rustls::version::TLS13;
use serde_json::json;
use tempfile::TempDir;

use crate::support::certs::certs;
use crate::support::client::request;
use crate::support::gate::front;
use crate::support::{Client, End, Gate, Origin, Then, eventually, open, tokens};

#[test]
fn announced_method_is_judged_only_where_we_answer_the_preflight() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "{}[[site]]\nhost = [\"*\"]\nupstream = \"app\"\n[[site.route]]\npath = \"/**\"\nallow = [{{ method = [\"GET\"] }}]\n\
         [site.cors]\norigins = [\"https://ui.test\"]\n",
        front(&origin)
    ));
    for (fields, status, why) in [
        (&[][..], 403, "only GET may pass"),
        (
            &["Access-Control-Request-Method: GET"],
            403,
            "no origin: no preflight, but OPTIONS",
        ),
        (
            &[
                "Origin: https://evil.test",
                "Access-Control-Request-Method: GET",
            ],
            403,
            "a stranger's preflight is judged as what it is",
        ),
        (
            &[
                "Origin: https://ui.test",
                "Access-Control-Request-Method: GET",
            ],
            204,
            "a preflight for what may pass",
        ),
        (
            &[
                "Origin: https://ui.test",
                "Access-Control-Request-Method: PUT",
            ],
            403,
            "a preflight for what is certainly denied",
        ),
    ] {
        gate.connect().ask("OPTIONS /x", fields).is(status);
        assert_eq!(origin.count(), 0, "{why}");
    }
}

#[test]
fn told_host_chooses_no_site() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "[client]\ntrusted_proxies = [\"127.0.0.2/32\"]\n{}\
         [[site]]\nhost = [\"public.test\"]\nupstream = \"app\"\nallow = \"anyone\"\n\
         [[site]]\nhost = [\"admin.test\"]\nupstream = \"app\"\nallow = [{{ ip = \"127.0.0.5\" }}]\n",
        front(&origin)
    ));
    // Many balancers pass a client's `X-Forwarded-Host` on.
    let mut client = gate.connect_from("127.0.0.2");
    let fields = [
        "Host: admin.test",
        "X-Forwarded-For: 198.51.100.7",
        "X-Forwarded-Host: public.test",
    ];
    client.ask("GET /x", &fields).is(403);
    assert_eq!(
        origin.count(),
        0,
        "rules go by what the origin is asked for"
    );
    let fields = [
        "Host: public.test",
        "X-Forwarded-For: 198.51.100.7",
        "X-Forwarded-Host: admin.test",
    ];
    client.ask("GET /x", &fields).is(200);
    assert_eq!(
        origin.only().header("x-forwarded-host"),
        Some("public.test"),
        "the host that was judged"
    );
}

#[test]
fn role_with_a_comma_is_not_two_roles_upstream() {
    let origin = Origin::start();
    let folder = TempDir::new().unwrap();
    tokens::write(folder.path());
    let config = format!(
        "{}[identity.hs]\njwt = {{ issuer = \"heldout\", audience = \"proxy\", secret = \"${{file:jwt-hs.secret}}\", algorithms = [\"HS256\"], roles = \"roles\" }}\n\
         [[site]]\nhost = [\"*\"]\nupstream = \"app\"\nidentity = [\"hs\"]\nallow = [{{ auth = \"hs\" }}]\n\
         headers_to_upstream = {{ user = \"X-User\", roles = \"X-Roles\" }}\n",
        front(&origin)
    );
    let gate = Gate::start_in(folder, &config);
    for (sub, roles, want, why) in [
        (
            "eve",
            json!(["guest,admin", "staff"]),
            Some("staff"),
            "not among them",
        ),
        ("eve", json!(["guest,admin"]), None, "and nothing is left"),
        (
            "eve",
            json!(["gu\r\nX-Roles: admin", "staff"]),
            Some("staff"),
            "nor a field of its own",
        ),
        (
            "j\u{e9}r\u{f4}me",
            json!(["staff"]),
            Some("staff"),
            "a name of any script",
        ),
    ] {
        let claims = tokens::staff_but(json!({ "sub": sub, "roles": roles }));
        let bearer = format!("Authorization: Bearer {}", tokens::hs(&claims));
        gate.connect().ask("GET /x", &[&bearer]).is(200);
        let seen = origin.last();
        assert_eq!(seen.header("x-roles"), want, "{why}");
        let user: String = sub.bytes().map(char::from).collect();
        assert_eq!(seen.header("x-user"), Some(user.as_str()), "{why}");
    }
}

#[test]
fn upgrade_is_a_plain_get_of_http11() {
    let origin = Origin::start();
    let gate = Gate::start(&open(&origin));
    let upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    for (line, body, why) in [
        ("POST /chat", &b""[..], "RFC 6455 §4.1: the method is GET"),
        (
            "GET /chat",
            b"hello",
            "what is the body, what the tunnel's first bytes?",
        ),
    ] {
        let response = gate.connect().ask_with(line, &upgrade, body);
        assert_eq!(response.status, 200, "{why}");
        assert_eq!(origin.last().header("upgrade"), None, "{why}");
    }
    let mut old = gate.connect();
    old.send(format!(
        "GET /chat HTTP/1.0\r\nHost: app.test\r\n{}\r\n\r\n",
        upgrade.join("\r\n")
    ));
    assert_eq!(
        old.response("GET").status,
        200,
        "RFC 9110 §7.8: ignored in HTTP/1.0"
    );
    assert_eq!(origin.last().header("upgrade"), None);
}

#[test]
fn timeouts_of_a_route_hold() {
    let origin = Origin::scripted(|exchange| {
        if exchange.seen.target != "/slow/events" {
            return Then::Usual;
        }
        exchange.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100\r\n\r\ndata: 1\n\n");
        exchange.wait_for_close();
        Then::Close
    });
    let gate = Gate::start(&open(&origin).replace(
        "allow = \"anyone\"\n",
        "[[site.route]]\npath = \"/slow/**\"\nallow = \"anyone\"\nbody_timeout = \"1s\"\nstream_idle_timeout = \"1s\"\n",
    ));
    let start = Instant::now();
    let mut client = gate.connect();
    client.send(request("POST /slow/x", &["Content-Length: 100"], b"hello"));
    client.response("POST").is(408);
    let mut events = gate.connect();
    events.send(request("GET /slow/events", &[], b""));
    events.response_head().is(200);
    assert_ne!(
        events.end(Duration::from_secs(5)),
        End::Late,
        "an event stream without events"
    );
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn body_of_a_refused_request_is_not_taken_for_a_head() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "[server.limits]\nheader_timeout = \"1s\"\n[[deny]]\nname = \"writes\"\nmethod = [\"POST\"]\n{}",
        open(&origin)
    ));
    let mut kept = 0;
    for _ in 0..20 {
        let mut client = gate.connect();
        client.send(request("POST /x", &["Content-Length: 9"], b""));
        client.send(b"a#b c#d\r\n");
        client.response("POST").is(403);
        // The connection may end here; where it goes on, nothing of the body is left over.
        client.send(request("GET /y", &[], b""));
        if let Ok(response) = client.try_response("GET", Duration::from_secs(5)) {
            assert_eq!(response.status, 200, "{}", response.text());
            kept += 1;
        }
    }
    println!("{kept} of 20 connections went on");
    let mut client = gate.connect();
    client.send(request("POST /x", &["Content-Length: 3"], b""));
    client.send(b"a#b");
    client.response("POST").is(403);
    client.stands_for(Duration::from_millis(1800));
    assert!(
        client.unread().is_empty(),
        "nothing is answered that nobody asked"
    );
    assert!(
        !gate.log_text().contains("head_timeout"),
        "a request that never was: {}",
        gate.log_text()
    );
}

/// As large as a fixed answer may be, and too large for the sockets' buffers.
const LARGE: usize = 8 << 20;

/// A gate that answers `/large` by itself, over TLS as well.
fn large(limits: &str) -> (Gate, Origin) {
    let origin = Origin::start();
    let folder = TempDir::new().unwrap();
    certs().write(folder.path());
    std::fs::write(folder.path().join("large"), vec![b'x'; LARGE]).unwrap();
    let config = front(&origin).replacen(
        "[upstream.app]",
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = { certificates = [{ cert = \"server.crt\", key = \"server.key\" }] }\n[upstream.app]",
        1,
    );
    let gate = Gate::start_in(
        folder,
        &format!(
            "[server.limits]\n{limits}\n{config}[[site]]\nhost = [\"*\"]\nupstream = \"app\"\n\
             [[site.route]]\npath = \"/**\"\nallow = \"anyone\"\n[[site.route]]\npath = \"/large\"\nrespond = {{ status = 200, file = \"large\" }}\n"
        ),
    );
    (gate, origin)
}

#[test]
fn client_that_reads_slowly_gets_its_whole_answer() {
    for limits in ["", "idle_timeout = \"3s\""] {
        let (gate, _origin) = large(limits);
        let mut client = gate.connect();
        client.send(request("GET /large", &[], b""));
        client.response_head().is(200);
        // Longer than a connection may idle before it is put aside, or in all longer than it may idle at all.
        let (pieces, pause) = if limits.is_empty() {
            (2, 4000)
        } else {
            (16, 300)
        };
        for _ in 0..pieces {
            thread::park_timeout(Duration::from_millis(pause));
            client.take(LARGE / pieces);
        }
        if limits.is_empty() {
            client.ask("GET /small", &[]).is(200);
        }
    }
}

#[test]
fn rest_of_a_body_never_becomes_a_request() {
    let origin = Origin::scripted(|exchange| {
        if exchange.seen.method != "POST" {
            return Then::Usual;
        }
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        exchange.read_body();
        Then::Next
    });
    let gate = Gate::start(&open(&origin));
    let smuggled = request("GET /smuggled", &[], b"");
    let mut client = gate.connect();
    let length = format!("Content-Length: {}", smuggled.len());
    client.send(request("POST /x", &[&length], b""));
    client.response("POST").is(200);
    // Longer than a connection may idle before it is put aside.
    client.stands_for(Duration::from_secs(4));
    client.send(&smuggled);
    drop(client.try_response("GET", Duration::from_secs(1)));
    assert!(
        origin.seen().iter().all(|seen| seen.target == "/x"),
        "{:?}",
        origin.seen()
    );
}

#[test]
fn client_that_does_not_read_gives_its_place_up() {
    let (gate, _origin) = large("idle_timeout = \"1s\"\nheader_timeout = \"1s\"\nconnections = 1");
    let freed = |what: &str| {
        eventually(what, || {
            let mut next = gate.connect();
            next.send(request("GET /small", &[], b""));
            next.try_response("GET", Duration::from_secs(1))
                .is_ok_and(|response| response.status == 200)
        });
    };
    let mut client = gate.connect();
    client.send(request("GET /large", &[], b""));
    freed("a stalled reader is let go");
    drop(client);

    let tls = certs().client_config(&[&TLS13], &["http/1.1"], None);
    eventually("the place is free for the next", || {
        let Ok((mut client, _)) =
            Client::tls(gate.listener(1), "app.test", std::sync::Arc::clone(&tls))
        else {
            return false;
        };
        client.send(request("GET /large", &[], b""));
        freed("a stalled reader over TLS is let go");
        true
    });

    let mut client = gate.connect();
    client.send(request("GET /large", &[], b""));
    client.send(b"G");
    freed("a stalled reader that began another head is let go");
    drop(client);
}

#[test]
fn tunnel_that_only_the_origin_uses_is_not_idle() {
    let origin = Origin::scripted(|exchange| {
        exchange.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        for _ in 0..10 {
            thread::park_timeout(Duration::from_millis(300));
            if !exchange.send("x") {
                return Then::Close;
            }
        }
        exchange.wait_for_close();
        Then::Close
    });
    let gate = Gate::start(&format!(
        "[server.limits]\nstream_idle_timeout = \"1s\"\n{}",
        open(&origin)
    ));
    let mut client = gate.connect();
    client
        .ask("GET /chat", &["Connection: Upgrade", "Upgrade: websocket"])
        .is(101);
    assert_eq!(client.take(10), b"xxxxxxxxxx", "three seconds of news");
    assert_ne!(
        client.end(Duration::from_secs(5)),
        End::Late,
        "and then nothing"
    );
}

#[test]
fn answer_that_the_origin_does_not_finish_is_the_origins_fault() {
    let origin = Origin::scripted(|exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello");
        exchange.wait_for_close();
        Then::Close
    });
    let gate = Gate::start(&format!(
        "[server.limits]\nidle_timeout = \"1s\"\n{}",
        open(&origin)
    ));
    let mut client = gate.connect();
    client.send(request("GET /x", &[], b""));
    client.response_head().is(200);
    assert_ne!(client.end(Duration::from_secs(5)), End::Late);
    let line = gate.only_line();
    assert_eq!(line["error.type"], "response_broken", "{line}");
}

#[test]
fn request_that_a_shutdown_cuts_off_has_its_line() {
    let origin = Origin::scripted(|exchange| {
        exchange.wait_for_close();
        Then::Close
    });
    let gate = Gate::start(&open(&origin).replace("1500ms", "60s"));
    let mut client = gate.connect();
    client.send(request("GET /slow", &[], b""));
    eventually("the request is under way", || origin.count() == 1);
    let folder = gate.shutdown();
    let text = std::fs::read_to_string(folder.path().join("access.log")).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn unfinished_upload_stands_in_nobodys_way() {
    let origin = Origin::scripted(|exchange| {
        if exchange.seen.method != "POST" {
            return Then::Usual;
        }
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        exchange.read_body();
        Then::Next
    });
    let config = open(&origin).replace(
        "response_timeout = \"1500ms\"",
        "response_timeout = \"20s\"",
    );
    let gate = Gate::start_in(
        TempDir::new().unwrap(),
        &config.replace("[upstream.app]", "[upstream.app]\nidle_connections = 8"),
    );
    let uploads: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = gate.connect();
            client.send(request("POST /x", &["Content-Length: 1000"], b"hello"));
            client.response("POST").is(200);
            client
        })
        .collect();
    let start = Instant::now();
    for _ in 0..8 {
        gate.connect().ask("GET /y", &[]).is(200);
    }
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    drop(uploads);
}
