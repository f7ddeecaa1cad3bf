//! `compress`: which answers are coded, what their heads say then, and that nobody waits for words that are there.

use std::io::Write as _;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::support::client::request;
use crate::support::gate::front;
use crate::support::{End, Gate, H2, Origin, PATIENCE, Response, Then, eventually_some};

fn text(length: usize) -> Vec<u8> {
    let words = b"the same words again and again, ";
    words.iter().copied().cycle().take(length).collect()
}

/// An origin whose head is the path's: `/` and what stands in `x-head`, `;` between fields; a body of `x-length` bytes.
fn origin() -> Origin {
    Origin::scripted(|exchange| {
        let head = exchange.seen.header("x-head").unwrap_or("200 OK");
        let head = head.replace("; ", "\r\n");
        let length = exchange.seen.header("x-length").unwrap_or("20000");
        exchange.answer(&head, text(length.parse().unwrap()))
    })
}

fn gate(origin: &Origin, site: &str) -> Gate {
    Gate::start(&format!(
        "{}[[site]]\nhost = [\"*\"]\nupstream = \"app\"\n{site}",
        front(origin).replacen("[[listener]]\n", "[[listener]]\nh2c = true\n", 1)
    ))
}

const ON: &str = "compress = true\nallow = \"anyone\"\n";

/// The body as it was before it was coded.
fn plain(answer: &Response) -> Vec<u8> {
    decoded(answer.header("content-encoding"), &answer.body)
}

fn decoded(coding: Option<&str>, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Some("gzip") => {
            let mut decoder = flate2::write::GzDecoder::new(&mut out);
            decoder.write_all(bytes).unwrap();
            decoder.flush().unwrap();
            drop(decoder);
        }
        Some("br") => {
            let mut decoder = brotli::DecompressorWriter::new(&mut out, 4096);
            decoder.write_all(bytes).unwrap();
            decoder.flush().unwrap();
            drop(decoder);
        }
        Some("zstd") => {
            let mut decoder = zstd::stream::write::Decoder::new(&mut out).unwrap();
            decoder.write_all(bytes).unwrap();
            decoder.flush().unwrap();
            drop(decoder);
        }
        Some(other) => panic!("{other}"),
        None => out.extend_from_slice(bytes),
    }
    out
}

#[test]
fn answers_that_shrink_are_coded_and_the_others_left_alone() {
    let origin = origin();
    let gate = gate(&origin, ON);
    let browser = "Accept-Encoding: gzip, deflate, br, zstd";
    let html = "X-Head: 200 OK; Content-Type: text/html";
    for (line, fields, coding, vary, why) in [
        ("GET /", &[html][..], None, true, "a client that takes none"),
        ("GET /", &[html, browser], Some("zstd"), true, "a browser"),
        (
            "GET /",
            &[html, "Accept-Encoding: gzip;q=1, br;q=0.5"],
            Some("gzip"),
            true,
            "by weight",
        ),
        (
            "GET /",
            &["X-Head: 404 Not Found; Content-Type: text/html", browser],
            Some("zstd"),
            true,
            "a failure of the upstream's",
        ),
        (
            "GET /",
            &["X-Head: 200 OK; Content-Type: image/png", browser],
            None,
            false,
            "a type that does not shrink",
        ),
        (
            "GET /",
            &["X-Head: 200 OK", browser],
            None,
            false,
            "no type",
        ),
        (
            "GET /",
            &[html, browser, "X-Length: 1023"],
            None,
            false,
            "too small",
        ),
        (
            "GET /",
            &[html, browser, "X-Length: 1024"],
            Some("zstd"),
            true,
            "just large enough",
        ),
        (
            "GET /",
            &[
                "X-Head: 200 OK; Content-Type: text/html; Content-Encoding: x-own",
                browser,
            ],
            Some("x-own"),
            false,
            "coded by the upstream",
        ),
        (
            "GET /",
            &[
                "X-Head: 200 OK; Content-Type: text/html; Cache-Control: public, No-Transform",
                browser,
            ],
            None,
            false,
            "the upstream forbids it",
        ),
        (
            "GET /",
            &[html, browser, "Cache-Control: no-transform"],
            None,
            true,
            "the client forbids it",
        ),
        (
            "GET /",
            &[
                "X-Head: 206 Partial Content; Content-Type: text/html; Content-Range: bytes 0-19999/90000",
                browser,
            ],
            None,
            false,
            "a range",
        ),
        (
            "GET /",
            &[
                "X-Head: 200 OK; Content-Type: text/html; Content-Digest: sha-256=:AA==:",
                browser,
            ],
            None,
            false,
            "a digest of these bytes",
        ),
        (
            "GET /",
            &["X-Head: 200 OK; Content-Type: text/event-stream", browser],
            None,
            false,
            "events",
        ),
        (
            "GET /",
            &["X-Head: 200 OK; Content-Type: application/grpc", browser],
            None,
            false,
            "gRPC",
        ),
        (
            "GET /",
            &[
                html,
                browser,
                "Cookie: session=1",
                "Sec-Fetch-Site: cross-site",
            ],
            None,
            true,
            "another site asks with the user's cookies (BREACH)",
        ),
        (
            "GET /",
            &[html, browser, "Sec-Fetch-Site: cross-site"],
            Some("zstd"),
            true,
            "another site asks, without",
        ),
        (
            "GET /",
            &[
                html,
                browser,
                "Cookie: session=1",
                "Sec-Fetch-Site: same-origin",
            ],
            Some("zstd"),
            true,
            "with cookies, from the site itself: as nginx does",
        ),
        (
            "HEAD /",
            &[html, browser],
            Some("zstd"),
            true,
            "the head that GET would get",
        ),
    ] {
        let answer = gate
            .connect()
            .ask(line, &[&["Host: a.test"], fields].concat());
        assert_eq!(answer.header("content-encoding"), coding, "{why}");
        let varies = answer.all("vary").join(",").contains("Accept-Encoding");
        assert_eq!(varies, vary, "{why}");
        let length = answer.header("content-length").is_some();
        let ours = coding.is_some() && coding != Some("x-own");
        assert_eq!(length, !ours, "{why}");
        if line.starts_with("GET") && coding != Some("x-own") {
            let length = fields
                .iter()
                .find_map(|field| field.strip_prefix("X-Length: "));
            let length = length.map_or(20_000, |length| length.parse().unwrap());
            assert_eq!(plain(&answer), text(length), "{why}");
            assert!(!ours || answer.body.len() < length / 4, "{why}");
        }
    }
}

#[test]
fn the_head_of_a_coded_answer_tells_the_truth() {
    let origin = origin();
    let gate = gate(&origin, ON);
    for (head, fields, etag, ranges, vary, why) in [
        (
            "200 OK; Content-Type: text/css; ETag: \"a\"; Accept-Ranges: bytes",
            &["Accept-Encoding: br"][..],
            Some("W/\"a\""),
            None,
            &["Accept-Encoding"][..],
            "other bytes: weak, and no ranges of them",
        ),
        (
            "200 OK; Content-Type: text/css; ETag: W/\"a\"; Vary: Cookie, accept-encoding",
            &["Accept-Encoding: br"],
            Some("W/\"a\""),
            None,
            &["Cookie, accept-encoding"],
            "weak already, and said already",
        ),
        (
            "200 OK; Content-Type: text/css; ETag: \"a\"; Accept-Ranges: bytes; Vary: Cookie",
            &[],
            Some("\"a\""),
            Some("bytes"),
            &["Cookie", "Accept-Encoding"],
            "as it is, but not for everybody",
        ),
        (
            "304 Not Modified; ETag: \"a\"",
            &["Accept-Encoding: br", "If-None-Match: W/\"a\""],
            Some("W/\"a\""),
            None,
            &["Accept-Encoding"],
            "the tag of what the client has",
        ),
        (
            "304 Not Modified; ETag: \"a\"",
            &["If-None-Match: \"a\""],
            Some("\"a\""),
            None,
            &["Accept-Encoding"],
            "and of what this one has",
        ),
        (
            "200 OK; Content-Type: text/css; Vary: *",
            &["Accept-Encoding: br"],
            None,
            None,
            &["*"],
            "everything",
        ),
    ] {
        let head = format!("X-Head: {head}");
        let length = if head.contains("304") { "0" } else { "20000" };
        let length = format!("X-Length: {length}");
        let mut all = vec!["Host: a.test", &head, &length];
        all.extend(fields);
        let answer = gate.connect().ask("GET /", &all);
        assert_eq!(answer.header("etag"), etag, "{why}");
        assert_eq!(answer.header("accept-ranges"), ranges, "{why}");
        assert_eq!(answer.all("vary"), vary, "{why}");
    }
}

#[test]
fn sites_say_what_is_compressed() {
    let origin = origin();
    let head = |kind: &str| format!("X-Head: 200 OK; Content-Type: {kind}");
    for (site, kind, want, why) in [
        ("", "text/html", None, "off unless written"),
        ("compress = false\n", "text/html", None, "off"),
        (
            "compress = [\"application/*\"]\n",
            "text/html",
            None,
            "not listed",
        ),
        (
            "compress = [\"application/*\"]\n",
            "application/pdf",
            Some("gzip"),
            "listed",
        ),
        (
            "compress = [\"text/event-stream\"]\n",
            "text/event-stream",
            Some("gzip"),
            "events, by name",
        ),
    ] {
        let gate = gate(&origin, &format!("{site}allow = \"anyone\"\n"));
        let head = head(kind);
        let fields = ["Host: a.test", &head, "Accept-Encoding: gzip"];
        let answer = gate.connect().ask("GET /", &fields);
        assert_eq!(answer.header("content-encoding"), want, "{site} {why}");
        let varies = answer.header("vary").is_some();
        assert_eq!(varies, want.is_some(), "{site} {why}");
    }
}

#[test]
fn what_the_upstream_has_sent_is_not_held_back() {
    let (say, said) = mpsc::channel::<()>();
    let said = std::sync::Mutex::new(said);
    let origin = Origin::scripted(move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n");
        for _ in 0..3 {
            exchange.send("5\r\nword \r\n");
            said.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        exchange.send("0\r\nX-Sum: 3\r\n\r\n");
        Then::Next
    });
    let gate = gate(&origin, ON);
    for coding in ["gzip", "br", "zstd"] {
        let mut client = H2::over(gate.connect(), &[]);
        let id = client.ask("GET /", &[("accept-encoding", coding)]);
        for words in 1..=3 {
            let want = "word ".repeat(words);
            client.until(&want, |client| {
                client
                    .partial(id)
                    .is_some_and(|answer| plain(&answer) == want.as_bytes())
            });
            say.send(()).unwrap();
        }
        let answer = client.answer(id);
        assert_eq!(plain(&answer), b"word word word ");
        assert_eq!(answer.header("content-encoding"), Some(coding));
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "3".to_owned())]);
    }
}

#[test]
fn a_broken_answer_stays_broken_and_a_client_that_leaves_stops_the_upstream() {
    let origin = Origin::scripted(|exchange| {
        exchange
            .send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n");
        exchange.send(text(50_000));
        if exchange.seen.target == "/broken" {
            return Then::Reset;
        }
        exchange.wait_for_close();
        Then::Close
    });
    let gate = gate(&origin, ON);
    let fields = ["Host: a.test", "Accept-Encoding: gzip"];
    let mut client = gate.connect();
    client.send(request("GET /broken", &fields, b""));
    let broken = client.try_response("GET", PATIENCE);
    assert_ne!(broken.unwrap_err().end, End::Late, "cut, without an end");

    let mut client = gate.connect();
    client.send(request("GET /left", &fields, b""));
    client.response_head().is(200);
    drop(client);
    eventually_some("the upstream's connection closes", || {
        (origin.open() == 0).then_some(())
    });
    let lines = gate.log(2);
    assert_eq!(lines[0]["error.type"], "response_broken");
    assert_eq!(lines[1]["error.type"], "client_gone");
}

#[test]
fn a_client_that_does_not_read_stops_the_upstream_and_the_log_counts_what_was_sent() {
    let origin = Origin::scripted(|exchange| {
        // Words that do not shrink.
        let mut noise = vec![0; 64 * 1024];
        exchange.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n");
        for _ in 0..320 {
            aws_lc_rs::rand::fill(&mut noise).unwrap();
            if !exchange.send(&noise) {
                break;
            }
        }
        Then::Close
    });
    let gate = gate(&origin, ON);
    let fields = ["Host: a.test", "Accept-Encoding: zstd"];
    let mut client = gate.connect();
    client.send(request("GET /", &fields, b""));
    client.response_head().is(200);
    let before = crate::support::resident_bytes();
    thread::park_timeout(Duration::from_millis(300));
    let held = crate::support::resident_bytes().saturating_sub(before);
    assert!(held < 16 << 20, "{held} bytes are held for one client");
    drop(client);
    let line = gate.only_line();
    let sent = line["http.response.body.size"].as_u64().unwrap();
    assert!(sent < 20 << 20, "it never took all: {sent}");

    let origin = self::origin();
    let gate = self::gate(&origin, ON);
    let fields = [
        "Host: a.test",
        "Accept-Encoding: zstd",
        "X-Head: 200 OK; Content-Type: text/html",
    ];
    gate.connect().ask("GET /", &fields).is(200);
    let sent = gate.only_line()["http.response.body.size"]
        .as_u64()
        .unwrap();
    assert!(sent > 10 && sent < 5000, "coded bytes are counted: {sent}");
}

#[test]
fn our_own_answers_are_coded_when_they_are_large() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("large.html"), text(30_000)).unwrap();
    let gate = Gate::start_in(
        folder,
        &format!(
            "{}[[site]]\nhost = [\"*\"]\ncompress = true\n[[site.route]]\npath = \"/large\"\nrespond = {{ status = 200, file = \"large.html\" }}\n[[site.route]]\npath = \"/small\"\nrespond = {{ status = 200, body = \"small\", type = \"text/html\" }}\n",
            front(&origin)
        ),
    );
    for (line, coding, why) in [
        ("GET /large", Some("gzip"), "large"),
        ("HEAD /large", Some("gzip"), "its head"),
        ("GET /small", None, "small"),
        ("GET /none", None, "a refusal is small"),
    ] {
        let answer = gate
            .connect()
            .ask(line, &["Host: a.test", "Accept-Encoding: gzip"]);
        assert_eq!(answer.header("content-encoding"), coding, "{why}");
        if line == "GET /large" {
            assert_eq!(plain(&answer), text(30_000));
            let length = answer.header("content-length").unwrap();
            assert_eq!(length, answer.body.len().to_string(), "exact");
        }
    }
}
