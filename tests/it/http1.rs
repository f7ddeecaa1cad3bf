//! HTTP/1.1 through the gate: framing of answers, streaming, upgrades, and the fields that go no further than one hop.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use crate::support::client::{Framing, request};
use crate::support::{Client, End, Gate, Origin, PATIENCE, Then, eventually, open};

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
    let piece = vec![b'x'; 64 * 1024];
    // Whether the gate learns of the answer or of the close first is a matter of luck: often enough for both.
    for round in 0..30 {
        let mut client = gate.connect();
        client.write_timeout(Duration::from_secs(5));
        client.send(request("POST /x", &["Content-Length: 8388608"], b""));
        for _ in 0..128 {
            // As browsers and curl do: look for an answer while sending.
            let pause = Duration::from_micros(1 + 100 * (round % 3));
            if !client.send(&piece) || !client.stands_for(pause) || !client.unread().is_empty() {
                break;
            }
        }
        let response = client.response("POST");
        assert_eq!(
            (response.status, response.text().as_str()),
            (413, "too big"),
            "round {round}"
        );
    }
}

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
            if wait.lock().unwrap().recv_timeout(PATIENCE).is_err() {
                return Then::Close;
            }
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

/// What two parsers may frame differently is refused; what passes has one reading.
#[test]
fn framing_is_refused_or_told_in_one_way() {
    const REFUSED: &[u16] = &[400, 501];
    const EITHER: &[u16] = &[200, 400];
    const PASSES: &[u16] = &[200];
    let chunked = "5\r\nhello\r\n0\r\n\r\n";
    for (fields, body, statuses, why) in [
        (
            &["Content_Length: 5"][..],
            "",
            REFUSED,
            "a look-alike with `_`",
        ),
        (&["Content.Length: 5"], "", REFUSED, "a look-alike with `.`"),
        (
            &["Transfer_Encoding: chunked"],
            "",
            REFUSED,
            "a look-alike with `_`",
        ),
        (
            &["transfer.encoding: chunked", "Content-Length: 5"],
            "hello",
            REFUSED,
            "beside the real one",
        ),
        (
            &["Transfer-Encoding: gzip, chunked"],
            chunked,
            REFUSED,
            "a coding that nobody here decodes",
        ),
        (
            &["Transfer-Encoding: chunked, chunked"],
            chunked,
            REFUSED,
            "chunked twice",
        ),
        (
            &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
            chunked,
            REFUSED,
            "in two lines",
        ),
        (
            &["Transfer-Encoding: chunked", "Content-Length: 5"],
            chunked,
            EITHER,
            "both: RFC 9112 §6.3 lets the coding win",
        ),
        (
            &["Transfer-Encoding: chunked;q=1"],
            chunked,
            REFUSED,
            "a parameter",
        ),
        (
            &["Transfer-Encoding: \"chunked\""],
            chunked,
            REFUSED,
            "quoted",
        ),
        (
            &["Transfer-Encoding: ", "Content-Length: 5"],
            "hello",
            REFUSED,
            "an empty coding beside a length",
        ),
        (
            &["Content-Length: 5", "Content-Length: 5"],
            "hello",
            EITHER,
            "a length twice: RFC 9110 §8.6 lets one of them stand",
        ),
        (
            &["Content-Length: 5, 5"],
            "hello",
            EITHER,
            "a list of equal lengths: the same",
        ),
        (&["Content-Length: 0005"], "hello", PASSES, "leading zeros"),
        (&["Content-Length: 5 "], "hello", PASSES, "space behind"),
        (
            &["Transfer-Encoding: Chunked"],
            chunked,
            PASSES,
            "in another case",
        ),
        (
            &["X-Content_Length: 5", "X-Content-Length: 6"],
            "",
            PASSES,
            "another name",
        ),
    ] {
        let origin = Origin::start();
        let gate = gate(&origin);
        let mut client = gate.connect();
        client.send(request("POST /x", fields, b""));
        client.send(body);
        let status = match client.try_response("POST", Duration::from_secs(5)) {
            Ok(response) => response.status,
            Err(broken) => {
                assert!(
                    broken.end != End::Late && broken.partial.is_none(),
                    "{why}: {broken:?}"
                );
                400
            }
        };
        assert!(statuses.contains(&status), "{why}: {status}");
        let seen = origin.settled_after(0);
        assert_eq!(seen.len(), usize::from(status == 200), "{why}: {seen:?}");
        for seen in seen {
            assert!(
                seen.problems.is_empty() && seen.complete,
                "{why}: {:?}",
                seen.problems
            );
            assert_eq!(
                seen.body,
                if body.is_empty() { &b""[..] } else { b"hello" },
                "{why}"
            );
        }
    }
    let origin = Origin::start();
    let gate = gate(&origin);
    let mut client = gate.connect();
    client.send(b"POST /x HTTP/1.0\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    if let Ok(response) = client.try_response("POST", Duration::from_secs(5)) {
        assert_eq!(response.status, 400, "HTTP/1.0 knows no chunks");
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

/// RFC 6455 §1.3.
const HANDSHAKE: &[&str] = &[
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];
