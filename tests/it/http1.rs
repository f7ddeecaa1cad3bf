//! HTTP/1.1 through the gate: framing of answers, streaming, upgrades, and the fields that go no further than one hop.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use crate::support::client::{Framing, request};
use crate::support::{Client, End, Gate, Origin, Then, eventually, open};

/// A gate that lets everything pass to this origin.
fn gate(origin: &Origin) -> Gate {
    Gate::start(&open(origin))
}

/// An origin that answers every request with these bytes, then goes on or closes.
fn answering(bytes: &'static [u8], then: Then) -> Origin {
    Origin::scripted(move |exchange| {
        exchange.read_body();
        exchange.send(bytes);
        then
    })
}

#[test]
fn answers_without_body_do_not_hang_and_the_connection_goes_on() {
    for (answer, method, status, why) in [
        (
            &b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"[..],
            "GET",
            204,
            "204 has no framing fields",
        ),
        (
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n",
            "GET",
            304,
            "304 speaks of a body that it has not",
        ),
        (
            b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
            "GET",
            304,
            "304 without a length",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            "HEAD",
            200,
            "the length of HEAD is what GET would have",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HEAD",
            200,
            "chunked announced to HEAD",
        ),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "GET",
            404,
            "an empty body",
        ),
    ] {
        let origin = answering(answer, Then::Next);
        let gate = gate(&origin);
        let mut client = gate.connect();
        for round in 0..2 {
            let response = client.ask(&format!("{method} /x"), &[]);
            assert_eq!(response.status, status, "{why}, round {round}");
            assert_eq!(response.body, b"", "{why}");
            if why.starts_with("the length of HEAD") {
                assert_eq!(response.header("content-length"), Some("1234"), "{why}");
            }
        }
        assert!(
            client.unread().is_empty(),
            "{why}: nothing after the answer"
        );
    }
}

#[test]
fn answer_delimited_by_close_arrives_whole_and_framed() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it"[..],
        b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it",
    ] {
        let origin = answering(answer, Then::Close);
        let gate = gate(&origin);
        let mut client = gate.connect();
        for _ in 0..2 {
            let response = client.ask("GET /x", &[]).is(200);
            assert_eq!(response.text(), "all of it");
            assert_eq!(
                response.framing,
                Framing::Chunked,
                "the client can tell its end, and keeps its connection"
            );
        }
    }
}

#[test]
fn length_of_the_origin_is_kept() {
    let origin = answering(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        Then::Next,
    );
    let gate = gate(&origin);
    let response = gate.connect().ask("GET /x", &[]).is(200);
    assert_eq!(
        (response.framing, response.text().as_str()),
        (Framing::Length(5), "hello")
    );
}

#[test]
fn chunked_answer_is_unchunked_for_http10() {
    let origin = answering(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        Then::Next,
    );
    let gate = gate(&origin);
    let mut client = gate.connect();
    client.send(b"GET /x HTTP/1.0\r\nHost: app.test\r\n\r\n");
    let response = client.response("GET").is(200);
    assert_ne!(response.framing, Framing::Chunked);
    assert_eq!(response.text(), "hello world");
    assert_eq!(
        client.end(Duration::from_secs(3)),
        End::Closed,
        "HTTP/1.0 ends with its answer"
    );
    assert_eq!(
        gate.connect().ask("GET /x", &[]).text(),
        "hello world",
        "HTTP/1.1 gets the same bytes"
    );
}

/// hyper's server cannot send 103 (the known and accepted gap), but the final answer must come through.
#[test]
fn early_hints_do_not_replace_the_answer() {
    let origin = answering(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Then::Next,
    );
    let gate = gate(&origin);
    let response = gate.connect().ask("GET /x", &[]).is(200);
    assert_eq!(response.text(), "ok");
    assert!(response.interim.is_empty() || response.interim == [103]);
}

#[test]
fn client_that_waits_for_100_gets_it_and_its_body_arrives() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let mut client = gate.connect();
    client.send(request(
        "POST /x",
        &["Content-Length: 5", "Expect: 100-continue"],
        b"",
    ));
    assert_eq!(client.response_head().status, 100);
    client.send(b"hello");
    client.response("POST").is(200);
    assert_eq!(origin.only().body, b"hello");
}

#[test]
fn early_answer_of_the_origin_reaches_a_client_that_still_sends() {
    let origin = Origin::scripted(|exchange| {
        exchange.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 7\r\nConnection: close\r\n\r\ntoo big");
        Then::Close
    });
    let gate = gate(&origin);
    let mut client = gate.connect();
    client.write_timeout(Duration::from_secs(5));
    client.send(request("POST /x", &["Content-Length: 8388608"], b""));
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..128 {
        // As browsers and curl do: look for an answer while sending.
        if !client.send(&piece)
            || !client.stands_for(Duration::from_millis(1))
            || !client.unread().is_empty()
        {
            break;
        }
    }
    let response = client.response("POST").is(413);
    assert_eq!(response.text(), "too big");
}

#[test]
fn fields_of_one_hop_go_no_further_in_answers() {
    let origin = answering(
        b"HTTP/1.1 200 OK\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
          Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nX-Keep: 2\r\nContent-Length: 2\r\n\r\nok",
        Then::Next,
    );
    let gate = gate(&origin);
    let response = gate.connect().ask("GET /x", &[]).is(200);
    for gone in ["x-hop", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(
            response.all(gone).is_empty(),
            "{gone}: {:?}",
            response.fields
        );
    }
    assert!(
        !response
            .all("connection")
            .join(",")
            .to_lowercase()
            .contains("x-hop")
    );
    assert_eq!(response.header("x-keep"), Some("2"));
}

#[test]
fn fields_of_one_hop_go_no_further_in_requests() {
    for (fields, gone, kept, why) in [
        (
            &["Connection: x-a, x-b", "X-A: 1", "X-B: 2", "X-C: 3"][..],
            &["x-a", "x-b"][..],
            &["x-c"][..],
            "named in Connection",
        ),
        (&["Connection: X-A", "x-a: 1"], &["x-a"], &[], "names fold"),
        (
            &["Keep-Alive: timeout=5", "Proxy-Connection: keep-alive"],
            &["keep-alive", "proxy-connection"],
            &[],
            "always",
        ),
        (
            &["TE: gzip", "Connection: te"],
            &["te"],
            &[],
            "TE other than trailers",
        ),
        (
            &["Upgrade: h2c, foo/2", "Connection: upgrade"],
            &["upgrade"],
            &[],
            "no upgrade but WebSocket",
        ),
        (
            &[
                "Connection: x-request-id, x-forwarded-for, x-forwarded-host, x-forwarded-proto, host",
            ],
            &[],
            &[
                "x-request-id",
                "x-forwarded-for",
                "x-forwarded-host",
                "x-forwarded-proto",
                "host",
            ],
            "a client cannot name away what the proxy sets",
        ),
    ] {
        let origin = Origin::start();
        let gate = gate(&origin);
        gate.connect().ask("GET /x", fields).is(200);
        let seen = origin.only();
        for name in gone {
            assert!(
                seen.all(name).is_empty(),
                "{why}: {name} in {:?}",
                seen.fields
            );
        }
        for name in kept {
            assert!(
                seen.header(name).is_some(),
                "{why}: {name} in {:?}",
                seen.fields
            );
        }
    }
}

#[test]
fn repeated_fields_stay_apart_and_in_order() {
    let origin = answering(
        b"HTTP/1.1 200 OK\r\nSet-Cookie: b=2; Path=/\r\nX-Other: Kept AsIs\r\nSet-Cookie: a=1; HttpOnly\r\nContent-Length: 0\r\n\r\n",
        Then::Next,
    );
    let gate = gate(&origin);
    let response = gate
        .connect()
        .ask(
            "GET /x",
            &["X-Multi: 1", "X-Multi: 2", "Accept: b;q=0.5, a"],
        )
        .is(200);
    assert_eq!(response.all("set-cookie"), ["b=2; Path=/", "a=1; HttpOnly"]);
    assert_eq!(response.header("x-other"), Some("Kept AsIs"));
    let seen = origin.only();
    assert_eq!(seen.all("x-multi"), ["1", "2"]);
    assert_eq!(seen.header("accept"), Some("b;q=0.5, a"));
}

const HANDSHAKE: &[&str] = &[
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

#[test]
fn websocket_tunnels_both_ways_and_ends_with_either_side() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let mut client = gate.connect();
    let response = client.ask("GET /chat", HANDSHAKE).is(101);
    assert_eq!(
        response.header("upgrade").map(str::to_lowercase).as_deref(),
        Some("websocket")
    );
    assert_eq!(
        response.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "RFC 6455 §1.3"
    );
    client.send(b"\x81\x05hello");
    assert_eq!(client.take(7), b"\x81\x05hello");
    client.send(b"again");
    assert_eq!(client.take(5), b"again");
    assert_eq!(
        origin.only().header("sec-websocket-key"),
        Some("dGhlIHNhbXBsZSBub25jZQ==")
    );
    drop(client);
    eventually("the origin's side closes with the client's", || {
        origin.open() == 0
    });
}

#[test]
fn handshake_that_the_origin_refuses_is_a_plain_answer() {
    let origin = answering(
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope",
        Then::Next,
    );
    let gate = gate(&origin);
    let mut client = gate.connect();
    assert_eq!(client.ask("GET /chat", HANDSHAKE).is(403).text(), "nope");
    client.ask("GET /next", &[]).is(403);
}

#[test]
fn origin_cannot_switch_protocols_unasked() {
    let origin = answering(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        Then::Close,
    );
    let gate = gate(&origin);
    let response = gate.connect().ask("GET /x", &[]);
    assert_eq!(response.status, 502, "{:?}", response.fields);
}

#[test]
fn many_requests_on_one_connection_get_their_own_answers() {
    let origin = Origin::scripted(|exchange| {
        let target = exchange.seen.target.clone();
        exchange.answer("200 OK", target)
    });
    let gate = gate(&origin);
    let mut client = gate.connect();
    for number in 0..50 {
        let response = client.ask(&format!("GET /number/{number}"), &[]).is(200);
        assert_eq!(response.text(), format!("/number/{number}"));
    }
    assert_eq!(origin.count(), 50);
}

#[test]
fn events_arrive_as_they_are_sent() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::scripted(move |exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for number in 0..3 {
            let event = format!("data: {number}\n\n");
            exchange.send(format!("{:x}\r\n{event}\r\n", event.len()));
            // The next event is not even written before the client has this one.
            drop(wait.lock().unwrap().recv_timeout(Duration::from_secs(10)));
        }
        exchange.send(b"0\r\n\r\n");
        Then::Next
    });
    let gate = gate(&origin);
    let mut client = gate.connect();
    client.send(request("GET /events", &["Accept: text/event-stream"], b""));
    assert_eq!(
        client.response_head().header("content-type"),
        Some("text/event-stream")
    );
    for number in 0..3 {
        client.take_until(format!("data: {number}\n\n\r\n").as_bytes());
        go.send(()).unwrap();
    }
    client.take_until(b"0\r\n\r\n");
}

#[test]
fn upload_is_streamed_not_collected() {
    let (tell, told) = mpsc::channel::<()>();
    let tell = Mutex::new(tell);
    let origin = Origin::scripted(move |exchange| {
        tell.lock().unwrap().send(()).unwrap();
        exchange.answer("200 OK", "")
    });
    let gate = gate(&origin);
    let mut client = gate.connect();
    client.send(request(
        "POST /x",
        &["Transfer-Encoding: chunked"],
        b"5\r\nhello\r\n",
    ));
    told.recv_timeout(Duration::from_secs(10))
        .expect("the head goes up before the body has ended");
    eventually("the first chunk goes up before the second", || {
        origin.seen()[0].body == b"hello"
    });
    client.send(b"1\r\n!\r\n0\r\n\r\n");
    client.response("POST").is(200);
    assert_eq!(origin.only().body, b"hello!");
}

#[test]
fn trailers_of_an_answer_pass_to_a_client_that_takes_them() {
    let origin = answering(
        b"HTTP/1.1 200 OK\r\nTrailer: X-Checksum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Checksum: abc\r\n\r\n",
        Then::Next,
    );
    let gate = gate(&origin);
    let mut client = gate.connect();
    let response = client
        .ask("GET /x", &["TE: trailers", "Connection: TE"])
        .is(200);
    assert_eq!(response.text(), "hello");
    assert_eq!(response.trailers.len(), 1, "{:?}", response.trailers);
    assert!(
        response.trailers[0].0.eq_ignore_ascii_case("x-checksum")
            && response.trailers[0].1 == "abc"
    );
    assert_eq!(
        client.ask("GET /x", &[]).is(200).text(),
        "hello",
        "without TE the body is the same"
    );
}

#[test]
fn target_goes_up_byte_for_byte() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let mut client = gate.connect();
    for target in [
        "/",
        "/x?",
        "/x?a=1&b=%20&c",
        "/a%2Fb",
        "/a%2fb/%7Eme/~me",
        "/proxy/https://x.test/y",
        "//double//slashes//",
        "/caf%C3%A9/%E2%82%AC",
        "/a;v=1/b;w=2",
        "/A/b/C",
        "/a:b/@c/$d/!e/'f/(g)/*h/+i/,j/=k",
        "/a..b/.../..c",
        "/q?next=/../admin&u=http://x/",
        "/?q=a?b/c",
        "/100%25",
    ] {
        client.ask(&format!("GET {target}"), &[]).is(200);
        assert_eq!(origin.last().target, target);
    }
}

#[test]
fn absolute_form_goes_up_as_origin_form() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let mut client = gate.connect();
    for (target, host, up, seen_host) in [
        ("http://app.test/x?y=1", "app.test", "/x?y=1", "app.test"),
        ("http://app.test", "app.test", "/", "app.test"),
        ("http://app.test?q", "app.test", "/?q", "app.test"),
        (
            "http://app.test:8080/x",
            "app.test:8080",
            "/x",
            "app.test:8080",
        ),
    ] {
        client
            .ask(&format!("GET {target}"), &[&format!("Host: {host}")])
            .is(200);
        let seen = origin.last();
        assert_eq!(
            (seen.target.as_str(), seen.header("host")),
            (up, Some(seen_host)),
            "{target}"
        );
    }
    for (target, host, why) in [
        ("http://app.test/x", "other.test", "two hosts"),
        ("http://app.test/x", "app.test:81", "two ports"),
        ("http://user@app.test/x", "app.test", "userinfo"),
        ("ftp://app.test/x", "app.test", "no web address"),
    ] {
        let mut client = gate.connect();
        let status = client
            .ask(&format!("GET {target}"), &[&format!("Host: {host}")])
            .status;
        assert!(
            (400..500).contains(&status),
            "{why}: {target} with {host} gets {status}"
        );
    }
}

#[test]
fn host_goes_up_as_received() {
    let origin = Origin::start();
    let gate = gate(&origin);
    for host in [
        "app.test",
        "App.Test",
        "app.test:8080",
        "app.test.",
        "127.0.0.1:1",
        "[::1]:8080",
    ] {
        gate.connect()
            .ask("GET /x", &[&format!("Host: {host}")])
            .is(200);
        assert_eq!(origin.last().header("host"), Some(host));
    }
}

#[test]
fn upstream_learns_who_asked_for_what() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let response = gate
        .connect_from("127.0.0.9")
        .ask(
            "GET /x",
            &["Host: app.test:8080", "X-Request-Id: chosen-by-the-client"],
        )
        .is(200);
    let seen = origin.only();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.9"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("app.test:8080"));
    let id = seen.header("x-request-id").unwrap();
    assert_ne!(
        id, "chosen-by-the-client",
        "a stranger cannot choose the id"
    );
    assert_eq!(response.header("x-request-id"), Some(id));
    assert!(
        seen.all("forwarded").is_empty() && seen.all("via").is_empty(),
        "only where asked"
    );
}

#[test]
fn forwarded_and_via_are_sent_where_asked() {
    let origin = Origin::start();
    let gate = Gate::start(&format!("{}forwarded = true\nvia = true\n", open(&origin)));
    gate.connect_from("127.0.0.9")
        .ask("GET /x", &["Forwarded: for=198.51.100.7", "Via: 1.1 evil"])
        .is(200);
    let seen = origin.only();
    let forwarded = seen.header("forwarded").unwrap();
    assert!(
        forwarded.contains("for=127.0.0.9") && forwarded.contains("proto=http"),
        "{forwarded}"
    );
    assert!(!forwarded.contains("198.51.100.7"), "{forwarded}");
    assert!(
        seen.all("via").join(", ").contains("1.1 "),
        "{:?}",
        seen.fields
    );
}

#[test]
fn trace_context_passes() {
    let origin = Origin::start();
    let gate = gate(&origin);
    gate.connect()
        .ask(
            "GET /x",
            &[
                "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "tracestate: a=b",
            ],
        )
        .is(200);
    let seen = origin.only();
    let parent = seen.header("traceparent").unwrap();
    assert!(
        parent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
        "{parent}"
    );
    assert_eq!(seen.header("tracestate"), Some("a=b"));
}

#[test]
fn connect_and_trace_are_not_allowed() {
    let origin = Origin::start();
    let gate = gate(&origin);
    for (line, fields) in [
        ("TRACE /x", &["Cookie: a=b"][..]),
        ("CONNECT app.test:443", &["Host: app.test:443"]),
    ] {
        let response = gate.connect().ask(line, fields);
        assert_eq!(response.status, 405, "{line}: {}", response.text());
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn malformed_requests_are_refused_and_the_connection_is_closed() {
    let origin = Origin::start();
    let gate = gate(&origin);
    for (bytes, why) in [
        (
            &b"GET /x HTTP/1.1\r\nHost: app.test\r\nX A: 1\r\n\r\n"[..],
            "space in a name",
        ),
        (
            b"GET /x HTTP/1.1\r\nHost: app.test\r\nHost: app.test\r\n\r\n",
            "two Hosts",
        ),
        (b"GET /x HTTP/1.1\r\n\r\n", "no Host"),
        (
            b"GET /x HTTP/1.1\r\nHost: app.test\r\nX-A: 1\r\n folded\r\n\r\n",
            "obs-fold",
        ),
        (
            b"GET /x HTTP/1.1\r\nHost: app.test, other.test\r\n\r\n",
            "a list of hosts",
        ),
        (
            b"GET /x HTTP/1.1\r\nHost: app.test:port\r\n\r\n",
            "a port of letters",
        ),
        (
            b"GET /x HTTP/1.1\r\nHost: app.test:99999\r\n\r\n",
            "a port beyond 65535",
        ),
        (b"GET /x#y HTTP/1.1\r\nHost: app.test\r\n\r\n", "a fragment"),
        (
            b"GET x HTTP/1.1\r\nHost: app.test\r\n\r\n",
            "no leading slash",
        ),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            "TLS to a clear-text port",
        ),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "HTTP/2 to an HTTP/1.1 listener",
        ),
    ] {
        let mut client: Client = gate.connect();
        client.send(bytes);
        match client.try_response("GET", Duration::from_secs(5)) {
            Ok(response) => assert_eq!(response.status, 400, "{why}"),
            Err(broken) => {
                assert!(
                    broken.end != End::Late && broken.partial.is_none(),
                    "{why}: {broken:?}"
                );
            }
        }
    }
    assert_eq!(origin.count(), 0, "{:?}", origin.seen());
    gate.connect().ask("GET /x", &[]).is(200);
}
