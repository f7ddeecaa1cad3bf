//! HTTP/2 towards clients (RFC 9113): what travels, what is refused, what a client may not do to us, and how connections end.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::certs::certs;
use crate::support::client::request;
use crate::support::gate::front;
use crate::support::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame, usual,
};
use crate::support::origin::Exchange;
use crate::support::{
    Client, End, Gate, H2, Lost, Origin, Then, eventually, heavy, hpack, open, resident_bytes,
};

/// The same configuration with TLS on its only listener.
fn secured(config: &str) -> String {
    config.replacen(
        "address = \"127.0.0.1:0\"\n",
        "address = \"127.0.0.1:0\"\ntls = { certificates = [{ cert = \"server.crt\", key = \"server.key\" }] }\n",
        1,
    )
}

/// A gate with TLS, from a configuration with one listener.
fn gate(config: &str) -> Gate {
    let folder = TempDir::new().unwrap();
    certs().write(folder.path());
    Gate::start_in(folder, &secured(config))
}

/// An open site behind these limits.
fn limited(origin: &Origin, limits: &str) -> Gate {
    gate(&format!("[server.limits]\n{limits}\n{}", open(origin)))
}

/// A large answer, a piece at a time.
fn large(exchange: &mut Exchange<'_>) -> Then {
    exchange.read_body();
    exchange.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"
    ));
    for _ in 0..LARGE / 4096 {
        if !exchange.send([b'a'; 4096]) {
            return Then::Close;
        }
    }
    Then::Next
}

/// The size of a large answer.
const LARGE: usize = 4 << 20;

/// Answers with these bytes and closes.
fn raw(exchange: &mut Exchange<'_>, bytes: impl AsRef<[u8]>) -> Then {
    exchange.read_body();
    exchange.send(bytes);
    Then::Close
}

#[test]
fn alpn_picks_h2_where_it_is_offered() {
    let origin = Origin::start();
    let gate = gate(&open(&origin));
    for (offered, chosen) in [
        (&["h2"][..], &b"h2"[..]),
        (&["h2", "http/1.1"], b"h2"),
        (&["http/1.1", "h2"], b"h2"),
        (&["http/1.1"], b"http/1.1"),
    ] {
        let config = certs().client_config(rustls::ALL_VERSIONS, offered, None);
        let (client, handshake) = Client::tls(gate.address(), "app.test", config).unwrap();
        assert_eq!(handshake.alpn.as_deref(), Some(chosen), "{offered:?}");
        if chosen == b"h2" {
            H2::over(client, &[]).get("/x").is(200);
        }
    }
    let seen = origin.last();
    assert_eq!(seen.version, "HTTP/1.1");
    assert_eq!(seen.header("host"), Some("app.test"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
}

#[test]
fn answers_cut_short_end_in_a_reset() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let origin = Origin::scripted(|exchange| match exchange.seen.target.clone().as_str() {
        "/length" => raw(
            exchange,
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        ),
        "/no-end" => raw(exchange, format!("{CHUNKED}5\r\nhello\r\n")),
        "/half-chunk" => raw(exchange, format!("{CHUNKED}9\r\nhello")),
        "/no-chunk" => raw(exchange, format!("{CHUNKED}hello")),
        "/reset" => {
            raw(exchange, format!("{CHUNKED}5\r\nhello\r\n"));
            Then::Reset
        }
        _ => Then::Usual,
    });
    let gate = gate(&open(&origin));
    let mut client = H2::connect(gate.address());
    let paths = ["/length", "/no-end", "/half-chunk", "/no-chunk", "/reset"];
    for path in paths {
        let id = client.ask(&format!("GET {path}"), &[]);
        let outcome = client.try_answer(id, Duration::from_secs(5));
        assert!(
            matches!(outcome, Err(Lost::Reset(_)))
                || matches!(&outcome, Ok(answer) if answer.status == 502),
            "{path}: {outcome:?}"
        );
        if let Some(partial) = client.partial(id) {
            assert!(partial.status == 502 || partial.status == 200, "{path}");
        }
        client.get("/whole").is(200);
    }
    let lines = gate.log(2 * paths.len());
    for path in ["/length", "/no-end"] {
        let line = lines
            .iter()
            .find(|line| line["url.path"] == path)
            .unwrap_or_else(|| panic!("{path} in {lines:?}"));
        assert!(line["error.type"].is_string(), "{line}");
    }
}

#[test]
fn hop_by_hop_fields_of_an_answer_are_gone() {
    let origin = Origin::scripted(|exchange| {
        raw(
            exchange,
            "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\n\
             Transfer-Encoding: chunked\r\nUpgrade: foo\r\nX-Hop: 1\r\nX-Kept: 1\r\nX-CASE: 1\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        )
    });
    let gate = gate(&open(&origin));
    // The client itself refuses connection-specific fields and capital letters.
    let answer = H2::connect(gate.address()).get("/x").is(200);
    assert_eq!(answer.body, b"ok");
    assert_eq!(
        (answer.header("x-hop"), answer.header("x-kept")),
        (None, Some("1"))
    );
    assert_eq!(answer.header("x-case"), Some("1"));
}

#[test]
fn trailers_of_an_answer_pass() {
    let origin = Origin::scripted(|exchange| {
        raw(
            exchange,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
        )
    });
    let gate = gate(&open(&origin));
    let answer = H2::connect(gate.address()).get("/x").is(200);
    assert_eq!(answer.body, b"ok");
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "7".to_owned())]);
}

#[test]
fn head_has_a_length_and_no_data() {
    let origin = Origin::start();
    let gate = gate(&open(&origin));
    let mut client = H2::connect(gate.address());
    let id = client.ask("HEAD /x", &[]);
    // The client itself refuses DATA here.
    let answer = client.answer(id).is(200);
    assert_eq!(answer.header("content-length"), Some("9"));
    let id = client.ask("HEAD /x", &[(":authority", "foreign.test")]);
    let answer = client.answer(id).is(421);
    assert!(answer.header("content-length").is_some());
}

#[test]
fn a_hundred_streams_each_get_their_own_answer() {
    let origin = Origin::scripted(|exchange| {
        let body = exchange.seen.target.repeat(200);
        exchange.answer("200 OK", body)
    });
    let gate = gate(&open(&origin));
    let mut client = H2::connect(gate.address());
    let ids: Vec<u32> = (0..100)
        .map(|number| client.ask(&format!("GET /stream-{number}"), &[]))
        .collect();
    for (number, id) in ids.into_iter().enumerate().rev() {
        let answer = client.answer(id).is(200);
        assert_eq!(answer.text(), format!("/stream-{number}").repeat(200));
    }
}

#[test]
fn bodies_travel_up_and_down() {
    let origin = Origin::start();
    let gate = gate(&open(&origin));
    let mut client = H2::connect(gate.address());
    for (line, fields, pieces, framing) in [
        (
            "POST /a",
            &[][..],
            &[&b"hello"[..]][..],
            "transfer-encoding",
        ),
        (
            "POST /b",
            &[("content-length", "5")],
            &[b"hel", b"lo"],
            "content-length",
        ),
        ("PUT /c", &[], &[b"h", b"", b"ello"], "transfer-encoding"),
        ("GET /d", &[], &[b"hello"], "transfer-encoding"),
        (
            "DELETE /e",
            &[("content-length", "5")],
            &[b"hello"],
            "content-length",
        ),
    ] {
        let id = client.begin(line, fields);
        for piece in pieces {
            client.data(id, piece, false);
        }
        client.data(id, b"", true);
        client.answer(id).is(200);
        let seen = origin.last();
        assert_eq!(seen.body, b"hello", "{line}");
        assert!(seen.header(framing).is_some(), "{line}: {:?}", seen.fields);
        assert!(seen.problems.is_empty(), "{line}: {:?}", seen.problems);
    }
    // Trailers are read and end here.
    let id = client.begin("POST /f", &[]);
    client.data(id, b"hello", false);
    client.trailers(id, &[("x-sum", "7")]);
    client.answer(id).is(200);
    let seen = origin.last();
    assert_eq!(
        (seen.body.as_slice(), seen.trailers.len()),
        (&b"hello"[..], 0)
    );
}

/// The neighbours of the conformance cases: what is wrong comes in a packet of its own, when the request is on its way already.
#[test]
fn what_is_malformed_later_never_becomes_a_whole_request() {
    let origin = Origin::start();
    let gate = gate(&open(&origin));
    type Wrong = fn(&mut H2, u32) -> bool;
    for (fields, wrong, why) in [
        (
            &[("content-length", "0")][..],
            (|client, id| client.data(id, b"GET / HTTP/1.1\r\n\r\n", true)) as Wrong,
            "DATA where none was declared",
        ),
        (
            &[("content-length", "10")],
            |client, id| client.data(id, b"hello", true),
            "too little DATA",
        ),
        (
            &[("content-length", "10")],
            |client, id| client.data(id, b"hello, world", true),
            "too much DATA",
        ),
        (
            &[],
            |client, id| client.trailers(id, &[(":path", "/b")]),
            "a pseudo-field in trailers",
        ),
        (
            &[],
            |client, id| client.trailers(id, &[("x-a", "1"), (":status", "200")]),
            "the same behind a field",
        ),
        (
            &[],
            |client, id| client.trailers(id, &[("X-A", "1")]),
            "a capital letter in trailers",
        ),
        (
            &[],
            |client, id| client.trailers(id, &[("connection", "close")]),
            "a connection-specific field in trailers",
        ),
    ] {
        let known = origin.count();
        let mut client = H2::connect(gate.address());
        let id = client.begin("POST /x", fields);
        // Time enough for the head to go upstream, where that is possible.
        assert_eq!(client.end(Duration::from_millis(100)), End::Late, "{why}");
        wrong(&mut client, id);
        match client.try_answer(id, Duration::from_secs(5)) {
            Ok(answer) => assert_eq!(answer.status, 400, "{why}"),
            Err(lost) => assert_ne!(lost, Lost::Ended(End::Late), "{why}"),
        }
        drop(client);
        for seen in origin.settled_after(known) {
            assert!(!seen.complete, "{why}: {seen:?}");
        }
    }
}

#[test]
fn denials_travel_over_h2() {
    let origin = Origin::start();
    let gate = gate(&format!(
        r#"{}[[site]]
host = ["app.test"]
upstream = "app"
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/denied/**"
  allow = "anyone"
  [[site.route.deny]]
  name = "no-entry"
  status = 451
  reason = "region_restricted"
  [[site.route]]
  path = "/dropped/**"
  allow = "anyone"
  [[site.route.deny]]
  name = "no-answer"
  status = "close"
"#,
        front(&origin)
    ));
    let mut client = H2::connect(gate.address());
    let answer = client.get("/denied/x").is(451);
    assert_eq!(answer.reason(), "region_restricted");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let id = client.ask("GET /denied/x", &[("accept", "text/html")]);
    let answer = client.answer(id).is(451);
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let id = client.ask("HEAD /denied/x", &[]);
    client.answer(id).is(451);
    let id = client.ask("GET /x", &[(":authority", "foreign.test")]);
    assert_eq!(client.answer(id).is(421).reason(), "misdirected_request");
    let id = client.ask("GET /dropped/x", &[]);
    assert!(
        matches!(
            client.try_answer(id, Duration::from_secs(5)),
            Err(Lost::Reset(_))
        ),
        "no answer at all, and other streams go on"
    );
    client.get("/x").is(200);
    assert_eq!(origin.count(), 1);
    let statuses: Vec<u64> = gate
        .log(6)
        .iter()
        .filter_map(|line| line["http.response.status_code"].as_u64())
        .collect();
    assert_eq!(statuses[..4], [451, 451, 451, 421]);
    assert_eq!(statuses[5], 200);
}

#[test]
fn limits_answer_over_h2() {
    let origin = Origin::scripted(|exchange| {
        if exchange.seen.target == "/silent" {
            exchange.read_body();
            exchange.wait_for_close();
            return Then::Close;
        }
        Then::Usual
    });
    let gate = limited(
        &origin,
        "body_size = \"64KiB\"\nbody_timeout = \"700ms\"\ntarget_length = 100\nheader_size = \"8KiB\"\nheader_count = 50",
    );
    let mut client = H2::connect(gate.address());
    // More than the connection's window in all: what was refused is given back.
    for _ in 0..30 {
        let id = client.begin("POST /x", &[("content-length", "65537")]);
        client.data(id, vec![b'a'; 60_000], false);
        assert_eq!(client.answer(id).is(413).reason(), "body_too_large");
    }
    // Many clients take a reset while they send for a failure and do not show the answer.
    let refused = client.begin("POST /x", &[("content-length", "65537")]);
    client.data(refused, vec![b'a'; 10_000], false);
    client.answer(refused).is(413);
    client.data(refused, vec![b'a'; 10_000], false);
    client.get("/x").is(200);
    assert!(!client.was_reset(refused), "not at once");
    let id = client.begin("POST /x", &[]);
    client.data(id, vec![b'a'; 65_537], true);
    client.answer(id).is(413);
    let id = client.begin("POST /x", &[("content-length", "5")]);
    client.data(id, b"hel", false);
    client.answer(id).is(408);
    let id = client.ask("GET /silent", &[]);
    client.answer(id).is(504);
    client.get(&format!("/{}", "a".repeat(99))).is(200);
    client.get(&format!("/{}", "a".repeat(100))).is(414);
    // As large as the same head would be in HTTP/1.1.
    let bare = request("GET /x", &["X-Fill: "], b"").len();
    for (size, want) in [(8191, 200), (8192, 200), (8193, 431), (14_000, 431)] {
        let value = "a".repeat(size - bare);
        let id = client.ask("GET /x", &[("x-fill", &value)]);
        assert_eq!(client.answer(id).status, want, "a head of {size} bytes");
    }
    for (count, want) in [(50, 200), (51, 431)] {
        let names: Vec<String> = (0..count).map(|number| format!("x-{number}")).collect();
        let fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        let id = client.ask("GET /x", &fields);
        assert_eq!(client.answer(id).status, want, "{count} fields");
    }
    client.get("/x").is(200);
}

#[test]
fn only_as_many_streams_as_allowed() {
    let origin = Origin::scripted(|exchange| {
        if exchange.seen.target == "/held" {
            exchange.wait_for_close();
            return Then::Close;
        }
        Then::Usual
    });
    let gate = limited(&origin, "h2_streams = 5");
    let mut client = H2::connect(gate.address());
    let held: Vec<u32> = (0..5).map(|_| client.ask("GET /held", &[])).collect();
    eventually("five are held", || origin.count() == 5);
    assert_eq!(
        client.settings.get(&3).copied().unwrap_or(5),
        5,
        "as announced"
    );
    let id = client.ask("GET /x", &[]);
    const REFUSED_STREAM: u32 = 7;
    assert_eq!(
        client.try_answer(id, Duration::from_secs(1)).unwrap_err(),
        Lost::Reset(REFUSED_STREAM)
    );
    for id in held {
        client.reset(id);
    }
    eventually("the upstream's connections end", || origin.open() == 0);
    client.get("/x").is(200);
}

#[test]
fn rapid_resets_starve_nobody() {
    let origin = Origin::start();
    let gate = gate(&open(&origin));
    let mut beside = H2::connect(gate.address());
    beside.get("/before").is(200);
    for together in [true, false] {
        let mut client = H2::connect(gate.address());
        let mut bytes = Vec::new();
        for _ in 0..1000 {
            let id = client.next_id();
            let block = hpack::encode(&usual("GET /attack", &[]));
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, &block));
            bytes.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
            if !together && !client.raw(std::mem::take(&mut bytes)) {
                break;
            }
        }
        client.raw(bytes);
        // Others are served: each of these has its patience.
        for _ in 0..20 {
            beside.get("/beside").is(200);
        }
        H2::connect(gate.address()).get("/new").is(200);
    }
}

/// Frames that cost the client nothing. Each flood ends its connection, and has its line in the log.
#[test]
fn floods_end_the_connection() {
    let origin = Origin::start();
    let gate = gate(&open(&origin));
    let empty_settings = frame(SETTINGS, 0, 0, b"");
    let ping = frame(PING, 0, 0, &[0; 8]);
    let priority = frame(2, 0, 1, &[0, 0, 0, 0, 1]);
    let window = frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    let unknown = frame(0xbe, 0, 0, b"");
    let mut beside = H2::connect(gate.address());
    for (number, (flood, why)) in [
        (empty_settings, "SETTINGS"),
        (ping, "PING"),
        (priority, "PRIORITY"),
        (window, "WINDOW_UPDATE"),
        (unknown, "unknown"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = H2::connect(gate.address());
        let piece = flood.repeat(100);
        for _ in 0..100 {
            if !client.raw(&piece) {
                break;
            }
        }
        assert_ne!(client.end(Duration::from_secs(5)), End::Late, "{why}");
        let line = gate.log(number + 1).pop().unwrap();
        assert_eq!(line["error.type"], "http2_flood", "{why}: {line}");
        assert_eq!(line["http.response.status_code"], 400, "{why}: {line}");
    }
    beside.get("/beside").is(200);
}

#[test]
fn endless_heads_and_empty_data_end_the_connection() {
    let origin = Origin::start();
    let gate = gate(&open(&origin));
    for (continued, why) in [
        (&b""[..], "empty CONTINUATION"),
        (&[0, 1, b'a', 1, b'b'], "fields without end"),
    ] {
        let mut client = H2::connect(gate.address());
        let id = client.next_id();
        let mut bytes = frame(
            HEADERS,
            END_STREAM,
            id,
            &hpack::encode(&usual("GET /x", &[])),
        );
        for _ in 0..20_000 {
            bytes.extend(frame(CONTINUATION, 0, id, continued));
        }
        client.raw(bytes);
        assert_ne!(client.end(Duration::from_secs(5)), End::Late, "{why}");
    }
    let mut client = H2::connect(gate.address());
    let id = client.begin("POST /x", &[]);
    for _ in 0..100 {
        if !client.raw(frame(DATA, 0, id, b"").repeat(1000)) {
            break;
        }
    }
    assert_ne!(client.end(Duration::from_secs(5)), End::Late, "empty DATA");
    H2::connect(gate.address()).get("/x").is(200);
}

#[test]
fn a_stalled_window_costs_little_and_ends() {
    let _alone = heavy();
    let origin = Origin::scripted(large);
    let gate = limited(&origin, "idle_timeout = \"1s\"");
    let before = resident_bytes();
    // One byte of window on each stream, and none is ever given back.
    let mut client = H2::with_settings(gate.address(), &[(4, 1)]);
    client.gives_back = false;
    let ids: Vec<u32> = (0..50).map(|_| client.ask("GET /large", &[])).collect();
    for id in &ids {
        assert_eq!(client.head(*id).status, 200);
    }
    let held = resident_bytes().saturating_sub(before);
    assert!(held < 50 << 20, "{held} bytes for fifty answers of {LARGE}");
    assert_ne!(client.end(Duration::from_secs(30)), End::Late);
    assert!(client.received <= ids.len(), "a byte each");
    eventually("the upstream's connections end", || origin.open() == 0);
}

/// One stream whose answer nobody takes does not take the others with it.
#[test]
fn a_stalled_stream_ends_alone() {
    let origin = Origin::scripted(|exchange| {
        if exchange.seen.target == "/large" {
            return large(exchange);
        }
        Then::Usual
    });
    let gate = limited(&origin, "idle_timeout = \"1s\"");
    let mut client = H2::with_settings(gate.address(), &[(4, 1000)]);
    client.gives_back = false;
    let id = client.ask("GET /large", &[]);
    client.head(id);
    let started = Instant::now();
    let mut others = 0;
    while origin.open() > 1 || started.elapsed() < Duration::from_millis(2500) {
        client.get("/small").is(200);
        others += 1;
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "the large one is held"
        );
        assert_eq!(
            client.end(Duration::from_millis(50)),
            End::Late,
            "the connection stands"
        );
    }
    assert!(others > 1, "{others}");
}

#[test]
fn an_idle_connection_is_told_to_go() {
    let origin = Origin::start();
    let gate = limited(&origin, "idle_timeout = \"1s\"\nheader_timeout = \"1s\"");
    for asks in [true, false] {
        let mut client = H2::connect(gate.address());
        if asks {
            client.get("/x").is(200);
        }
        let started = Instant::now();
        assert_ne!(client.end(Duration::from_secs(5)), End::Late, "asks {asks}");
        assert!(
            started.elapsed() >= Duration::from_millis(900),
            "asks {asks}"
        );
        assert!(!client.goaways.is_empty(), "GOAWAY first, asks {asks}");
        assert!(client.goaways.iter().all(|(_, code)| *code == 0));
    }
    // Nobody there at all: TLS and nothing more.
    let config = certs().client_config(rustls::ALL_VERSIONS, &["h2"], None);
    let (mut client, _) = Client::tls(gate.address(), "app.test", config).unwrap();
    assert_ne!(client.end(Duration::from_secs(10)), End::Late, "no preface");
}

#[test]
fn draining_says_goaway_and_finishes_streams() {
    let origin = Origin::scripted(|exchange| {
        if exchange.seen.target == "/slow" {
            exchange.read_body();
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
            std::thread::park_timeout(Duration::from_millis(700));
            exchange.send("cd");
            return Then::Next;
        }
        Then::Usual
    });
    let folder = TempDir::new().unwrap();
    certs().write(folder.path());
    let mut gate = Gate::bare(
        folder,
        &secured(&format!(
            "[server]\nworkers = 2\ndrain_timeout = \"8s\"\n[admin]\nsocket = \"admin.sock\"\n[access_log]\npath = \"access.log\"\n{}",
            open(&origin)
        )),
    );
    let mut client = H2::connect(gate.address());
    let mut idle = H2::connect(gate.address());
    idle.get("/x").is(200);
    let id = client.ask("GET /slow", &[]);
    client.head(id);
    let ending = gate.shutdown_beside();
    client.until("GOAWAY", |client| !client.goaways.is_empty());
    assert_eq!(client.answer(id).is(200).text(), "abcd");
    assert_ne!(
        client.end(Duration::from_secs(5)),
        End::Late,
        "then it ends"
    );
    assert_ne!(
        idle.end(Duration::from_secs(5)),
        End::Late,
        "an idle one too"
    );
    assert!(!idle.goaways.is_empty());
    ending.join().unwrap();
    assert!(client.goaways.iter().all(|(_, code)| *code == 0));
}

#[test]
fn reload_applies_to_the_next_stream() {
    let origin = Origin::start();
    let gate = gate(&open(&origin));
    let mut client = H2::connect(gate.address());
    client.get("/x").is(200);
    let denied = format!("[[deny]]\nname = \"all\"\npath = \"/x\"\n{}", open(&origin));
    gate.reload(&secured(&denied)).unwrap();
    client.get("/x").is(403);
    gate.reload("nonsense = 1").unwrap_err();
    client.get("/x").is(403);
    gate.reload(&secured(&open(&origin))).unwrap();
    client.get("/x").is(200);
    assert!(client.goaways.is_empty(), "all on one connection");
}

#[test]
fn every_stream_has_its_line() {
    let origin = Origin::start();
    let gate = gate(&open(&origin));
    let mut client = H2::connect(gate.address());
    client.get("/first").is(200);
    let id = client.begin("POST /second", &[]);
    client.data(id, b"hello", true);
    client.answer(id).is(200);
    let lines = gate.log(2);
    for (line, path, sent) in [(&lines[0], "/first", 0), (&lines[1], "/second", 5)] {
        assert_eq!(line["url.path"], path);
        assert_eq!(line["network.protocol.version"], "2");
        assert_eq!(line["tls.protocol.version"], "1.3");
        assert_eq!(line["url.scheme"], "https");
        assert_eq!(line["server.address"], "app.test");
        assert_eq!(line["http.request.body.size"].as_u64().unwrap_or(0), sent);
        assert_eq!(line["http.response.body.size"], 9);
    }
    assert_eq!(lines[0]["network.peer.port"], lines[1]["network.peer.port"]);
}

/// What `h2` refuses never reaches the gate, but the log.
#[test]
fn refused_requests_have_their_line() {
    let origin = Origin::start();
    let gate = gate(&open(&origin));
    for (fields, why) in [
        (usual("GET /x", &[("X-Upper", "1")]), "a capital letter"),
        (
            usual("GET /x", &[("connection", "close")]),
            "connection-specific",
        ),
    ] {
        let mut client = H2::connect(gate.address());
        let id = client.open(&fields, true);
        let outcome = client.try_answer(id, Duration::from_secs(5));
        assert!(
            matches!(outcome, Err(Lost::Reset(_) | Lost::GoAway(_))),
            "{why}: {outcome:?}"
        );
        // Without the client's leaving: a line is not owed to the end of its connection.
        gate.log(1);
    }
    let mut client = H2::connect(gate.address());
    client.get("/x").is(200);
    let mut lines = gate.log(3);
    lines.retain(|line| line["error.type"] == "http2");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0]["http.response.status_code"], 400);
    assert_eq!(lines[0]["response.source"], "proxy");
    drop(client);
    // A connection that speaks something else altogether.
    let config = certs().client_config(rustls::ALL_VERSIONS, &["h2"], None);
    let (mut client, _) = Client::tls(gate.address(), "app.test", config).unwrap();
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_ne!(client.end(Duration::from_secs(5)), End::Late);
    assert_eq!(gate.log(4)[3]["error.type"], "http2");
    assert_eq!(origin.count(), 1);
}

#[test]
fn clients_that_leave_stop_the_upstream() {
    let origin = Origin::scripted(|exchange| {
        exchange.wait_for_close();
        Then::Close
    });
    let gate = gate(&open(&origin));
    let mut client = H2::connect(gate.address());
    let id = client.ask("GET /x", &[]);
    eventually("it is under way", || origin.count() == 1);
    client.reset(id);
    eventually("a reset stream ends upstream", || origin.open() == 0);
    client.ask("GET /y", &[]);
    eventually("it is under way", || origin.count() == 2);
    drop(client);
    eventually("a lost connection ends upstream", || origin.open() == 0);
    let lines = gate.log(2);
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn clear_text_speaks_h2_where_allowed() {
    let origin = Origin::start();
    let allowed = open(&origin).replacen(
        "address = \"127.0.0.1:0\"\n",
        "address = \"127.0.0.1:0\"\nh2c = true\n",
        1,
    );
    let gate = Gate::start(&allowed);
    let mut client = H2::over(gate.connect(), &[]);
    client.get("/prior").is(200);
    client.get("/knowledge").is(200);
    let seen = origin.last();
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(gate.log(1)[0]["network.protocol.version"], "2");
    // HTTP/1.1 beside it, also where it begins like the preface.
    gate.connect().ask("GET /x", &[]).is(200);
    gate.connect().ask_with("PUT /x", &[], b"hello").is(200);
    let mut client = gate.connect();
    for piece in [
        "P",
        "R",
        "OPFIND /x HTTP/1.1\r\nHost: app.test\r\n\r\nGET /y HT",
        "TP/1.1\r\nHost: app.test\r\n\r\n",
    ] {
        client.send(piece);
        client.stands_for(Duration::from_millis(30));
    }
    assert_eq!(client.response("PROPFIND").is(200).text(), "answer 5\n");
    client.response("GET").is(200);
    // And not where it is not allowed.
    let gate = Gate::start(&open(&origin));
    let mut client = gate.connect();
    client.send(crate::support::h2::PREFACE);
    client.send(frame(SETTINGS, 0, 0, b""));
    assert_ne!(client.end(Duration::from_secs(5)), End::Late);
    assert_eq!(gate.only_line()["http.response.status_code"], 400);
}
