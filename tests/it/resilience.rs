//! Slow, silent, greedy and vanishing peers on both sides: everything ends in time, nothing is sent twice, memory is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::request;
use crate::support::{
    Client, End, Gate, Origin, Refusing, Then, descriptors_max, eventually, heavy, open,
    resident_bytes,
};

/// A gate with short limits for its clients.
fn strict(origin: &Origin, limits: &str) -> Gate {
    Gate::start(&format!("[server.limits]\n{limits}\n{}", open(origin)))
}

/// The connection has an answer of this status or none, and is closed within the time.
#[track_caller]
fn ends(client: &mut Client, status: u16, within: Duration) {
    let start = Instant::now();
    match client.try_response("GET", within) {
        Ok(response) => {
            assert_eq!(response.status, status);
            assert_ne!(
                client.end(within.saturating_sub(start.elapsed())),
                End::Late,
                "still open"
            );
        }
        Err(broken) => {
            assert!(
                broken.end != End::Late && broken.partial.is_none(),
                "after {:?}: {broken:?}",
                start.elapsed()
            );
        }
    }
}

#[test]
fn dripped_headers_are_ended_though_bytes_keep_coming() {
    let origin = Origin::start();
    let gate = strict(&origin, "header_timeout = \"1s\"");
    let mut client = gate.connect();
    let start = Instant::now();
    client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n");
    while client.stands_for(Duration::from_millis(200)) {
        client.send(b"X-A: b\r\n");
        assert!(
            start.elapsed() < Duration::from_secs(4),
            "the head has one second in all"
        );
    }
    assert!(
        start.elapsed() >= Duration::from_millis(800),
        "not before its time: {:?}",
        start.elapsed()
    );
    let answer = String::from_utf8_lossy(client.unread()).into_owned();
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
        "{answer}"
    );
    assert_eq!(origin.count(), 0);
}

#[test]
fn silent_connection_is_closed() {
    let origin = Origin::start();
    let gate = strict(&origin, "header_timeout = \"1s\"\nidle_timeout = \"1s\"");
    let mut client = gate.connect();
    ends(&mut client, 408, Duration::from_secs(4));
}

#[test]
fn idle_connection_is_closed_after_its_time_and_not_before() {
    let origin = Origin::start();
    let gate = strict(&origin, "idle_timeout = \"1s\"");
    let mut client = gate.connect();
    client.ask("GET /x", &[]).is(200);
    assert!(
        client.stands_for(Duration::from_millis(500)),
        "kept for a while"
    );
    client.ask("GET /x", &[]).is(200);
    assert_eq!(client.end(Duration::from_secs(4)), End::Closed);
    assert!(
        client.unread().is_empty(),
        "no answer to a request that never came"
    );
}

/// A connection that idles for a while gives its buffers back; its next request must not notice.
#[test]
fn request_after_a_long_pause_is_served_on_the_same_connection() {
    let origin = Origin::start();
    let gate = strict(&origin, "idle_timeout = \"20s\"");
    let mut whole = gate.connect();
    let mut split = gate.connect();
    whole.ask("GET /x", &[]).is(200);
    split.ask("GET /x", &[]).is(200);
    assert!(whole.stands_for(Duration::from_millis(2500)), "parked");
    whole.ask("GET /y", &[]).is(200);
    split.send("G");
    assert!(
        split.stands_for(Duration::from_millis(100)),
        "a head begins"
    );
    split.send("ET /z HTTP/1.1\r\nHost: app.test\r\n\r\n");
    split.response("GET").is(200);
}

#[test]
fn stalled_body_is_ended_and_the_origin_is_let_go() {
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let origin = Origin::start();
        let gate = strict(&origin, "body_timeout = \"1s\"");
        let mut client = gate.connect();
        client.send(request("POST /x", &[framing], b"5\r\nhello\r\n"));
        ends(&mut client, 408, Duration::from_secs(5));
        eventually("the origin is not left holding a request", || {
            origin.open() == 0
        });
        assert!(
            origin.seen().iter().all(|seen| !seen.complete),
            "half a body is no request"
        );
    }
}

#[test]
fn steady_slow_body_is_not_ended() {
    let origin = Origin::start();
    let gate = strict(&origin, "body_timeout = \"1s\"");
    let mut client = gate.connect();
    client.send(request("POST /x", &["Content-Length: 5"], b""));
    for byte in b"hello" {
        assert!(
            client.stands_for(Duration::from_millis(400)),
            "each wait is shorter than the limit"
        );
        client.send([*byte]);
    }
    client.response("POST").is(200);
    assert_eq!(origin.only().body, b"hello");
}

#[test]
fn stalled_uploads_do_not_hinder_others() {
    let _alone = heavy();
    let origin = Origin::start();
    let gate = strict(&origin, "body_timeout = \"20s\"");
    let stalled: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = gate.connect();
            client.send(request("POST /x", &["Content-Length: 100"], b"hello"));
            client
        })
        .collect();
    eventually("all uploads are under way", || origin.count() == 200);
    let start = Instant::now();
    gate.connect().ask("GET /y", &[]).is(200);
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    drop(stalled);
}

#[test]
fn client_that_does_not_read_is_held_back_at_the_origin() {
    let _alone = heavy();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let origin = Origin::scripted(move |exchange| {
        if exchange.seen.target != "/large" {
            return Then::Usual;
        }
        exchange.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"
        ));
        let piece = vec![b'x'; 256 * 1024];
        while counter.load(Ordering::SeqCst) < LARGE && exchange.send(&piece) {
            counter.fetch_add(piece.len(), Ordering::SeqCst);
        }
        Then::Close
    });
    let gate = Gate::start(&open(&origin));
    gate.connect().ask("GET /warm", &[]).is(200);
    let before = resident_bytes();
    let mut client = gate.connect();
    client.send(request("GET /large", &[], b""));
    let mut last = 0;
    eventually("the origin is held back", || {
        thread::park_timeout(Duration::from_millis(300));
        let now = sent.load(Ordering::SeqCst);
        std::mem::replace(&mut last, now) == now && now > 0
    });
    assert!(
        last < LARGE / 2,
        "the origin could send {last} of {LARGE} bytes to nobody"
    );
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "resident memory grew by {grown}");
    gate.connect().ask("GET /other", &[]).is(200);
    drop(client);
    eventually("the origin is let go", || {
        sent.load(Ordering::SeqCst) < LARGE && origin.open() <= 2
    });
}

#[test]
fn broken_origins_get_their_status_and_never_403() {
    for (target, statuses, reason) in [
        ("/hang", &[504][..], "never answers"),
        ("/close", &[502], "closes without an answer"),
        ("/reset", &[502], "resets"),
        ("/garbage", &[502], "speaks no HTTP"),
        ("/half-head", &[502], "closes within its head"),
        ("/two-lengths", &[502], "frames its answer in two ways"),
    ] {
        let origin = Origin::scripted(|exchange| {
            exchange.read_body();
            match exchange.seen.target.as_str() {
                "/hang" => {
                    exchange.wait_for_close();
                    Then::Close
                }
                "/close" => Then::Close,
                "/reset" => Then::Reset,
                "/garbage" => {
                    exchange.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n");
                    Then::Close
                }
                "/half-head" => {
                    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Le");
                    Then::Close
                }
                _ => {
                    exchange.send(
                        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
                    );
                    Then::Close
                }
            }
        });
        let gate = Gate::start(&open(&origin));
        let start = Instant::now();
        let mut client = gate.connect();
        let response = client.ask(&format!("POST {target}"), &[]);
        assert!(
            statuses.contains(&response.status),
            "an origin that {reason} gives {}",
            response.status
        );
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{reason}: {:?}",
            start.elapsed()
        );
        if target == "/hang" {
            assert!(
                start.elapsed() >= Duration::from_millis(1200),
                "waited for its time: {:?}",
                start.elapsed()
            );
        }
        let line = gate.only_line();
        assert_eq!(line["response.source"], "proxy", "{reason}: {line}");
        assert_eq!(line["http.response.status_code"], response.status, "{line}");
        assert!(line["error.type"].is_string(), "{reason}: {line}");
        drop(client);
        eventually("nothing is left at the origin", || origin.open() == 0);
    }
}

#[test]
fn route_may_be_less_patient_than_its_upstream() {
    let origin = Origin::scripted(|exchange| {
        exchange.wait_for_close();
        Then::Close
    });
    let config = open(&origin).replace("1500ms", "30s").replace(
        "allow = \"anyone\"\n",
        "  [[site.route]]\n  path = \"/quick/**\"\n  allow = \"anyone\"\n  response_timeout = \"500ms\"\n",
    );
    let gate = Gate::start(&config);
    let start = Instant::now();
    gate.connect().ask("GET /quick", &[]).is(504);
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn origin_that_is_down_is_a_gateway_error_at_once() {
    let (origin, down) = (Origin::start(), Refusing::new());
    let config = open(&origin).replace(
        &origin.address().to_string(),
        &format!("127.0.0.1:{}", down.port()),
    );
    let gate = Gate::start(&config);
    let start = Instant::now();
    let mut client = gate.connect();
    for _ in 0..3 {
        let response = client.ask("GET /x", &[]);
        assert!(
            [502, 503, 504].contains(&response.status),
            "{}",
            response.status
        );
        assert_eq!(response.json()["status"], response.status);
    }
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(gate.log(3)[0]["response.source"], "proxy");
}

#[test]
fn second_server_is_tried_where_the_first_is_down() {
    let (origin, down) = (Origin::start(), Refusing::new());
    let address = origin.address().to_string();
    let config = open(&origin).replace(
        &format!("\"http://{address}\""),
        &format!("\"http://127.0.0.1:{}\", \"http://{address}\"", down.port()),
    );
    let gate = Gate::start(&config);
    let mut client = gate.connect();
    for number in 0..6 {
        assert_eq!(
            client.ask(&format!("GET /{number}"), &[]).status,
            200,
            "request {number}"
        );
    }
}

#[test]
fn errors_of_the_origin_pass_unchanged() {
    let origin = Origin::scripted(|exchange| {
        let status = exchange.seen.target[1..].to_owned();
        exchange.answer(
            &format!("{status} Its Own Words\r\nContent-Type: text/html\r\nX-Own: yes"),
            format!("<p>own page of {status}</p>"),
        )
    });
    let gate = Gate::start(&open(&origin));
    let mut client = gate.connect();
    for status in [400, 401, 403, 404, 418, 429, 451, 500, 502, 503] {
        let response = client
            .ask(&format!("GET /{status}"), &["Accept: text/html"])
            .is(status);
        assert_eq!(response.text(), format!("<p>own page of {status}</p>"));
        assert_eq!(response.header("x-own"), Some("yes"));
    }
    for line in gate.log(10) {
        assert_eq!(line["response.source"], "upstream", "{line}");
    }
}

#[test]
fn answer_that_breaks_off_is_seen_as_broken_at_once() {
    for (head, then, why) in [
        (
            "Content-Length: 1000000",
            Then::Reset,
            "reset within a length",
        ),
        (
            "Content-Length: 1000000",
            Then::Close,
            "closed within a length",
        ),
        (
            "Transfer-Encoding: chunked",
            Then::Reset,
            "reset within a chunk",
        ),
        (
            "Transfer-Encoding: chunked",
            Then::Close,
            "closed within a chunk",
        ),
    ] {
        let origin = Origin::scripted(move |exchange| {
            exchange.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
            if head.starts_with('T') {
                exchange.send(b"ffffff\r\n");
            }
            exchange.send(vec![b'x'; 100_000]);
            then
        });
        let gate = Gate::start(&open(&origin));
        let mut client = gate.connect();
        client.send(request("GET /x", &[], b""));
        let start = Instant::now();
        let broken = client
            .try_response("GET", Duration::from_secs(5))
            .expect_err(why);
        assert_ne!(broken.end, End::Late, "{why}: it hangs");
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{why}: {:?}",
            start.elapsed()
        );
        if let Some(partial) = broken.partial {
            assert_eq!(partial.status, 200, "{why}");
        }
    }
}

#[test]
fn client_that_leaves_frees_the_origin() {
    let origin = Origin::scripted(|exchange| {
        if exchange.seen.target == "/stream" {
            exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        }
        exchange.wait_for_close();
        Then::Close
    });
    let config = open(&origin).replace("1500ms", "30s");
    let gate = Gate::start(&config);
    for target in ["/waiting", "/stream"] {
        let mut client = gate.connect();
        client.send(request(&format!("GET {target}"), &[], b""));
        if target == "/stream" {
            client.take_until(b"hello");
        } else {
            eventually("the request is at the origin", || origin.open() == 1);
        }
        let start = Instant::now();
        drop(client);
        eventually("the origin's connection closes", || origin.open() == 0);
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "{target}: {:?}",
            start.elapsed()
        );
    }
}

#[test]
fn pooled_connection_that_the_origin_closed_costs_no_request() {
    let origin = Origin::scripted(|exchange| {
        exchange.answer("200 OK", "ok");
        Then::Close
    });
    let gate = Gate::start(&open(&origin));
    let mut client = gate.connect();
    for number in 0..20 {
        assert_eq!(
            client.ask(&format!("GET /{number}"), &[]).status,
            200,
            "request {number}"
        );
    }
    assert_eq!(origin.count(), 20, "and none was sent twice");
}

/// The connection dies under a request that went out on it while it was idle in the pool.
#[test]
fn idempotent_request_is_sent_again_where_the_reused_connection_dies() {
    let origin = Origin::scripted(|exchange| {
        if exchange.on_connection == 1 {
            Then::Usual
        } else {
            Then::Close
        }
    });
    let gate = Gate::start(&open(&origin));
    let mut client = gate.connect();
    for number in 0..10 {
        assert_eq!(
            client.ask(&format!("GET /{number}"), &[]).status,
            200,
            "request {number}"
        );
    }
}

#[test]
fn post_is_never_sent_twice() {
    for (method, body) in [("POST", &b"hello"[..]), ("POST", b""), ("PATCH", b"hello")] {
        let origin = Origin::scripted(|exchange| {
            if exchange.seen.target == "/warm" {
                return Then::Usual;
            }
            exchange.read_body();
            Then::Close
        });
        let gate = Gate::start(&open(&origin));
        let mut client = gate.connect();
        client.ask("GET /warm", &[]).is(200);
        let fields: &[&str] = if body.is_empty() {
            &["Content-Length: 0"]
        } else {
            &[]
        };
        let response = client.ask_with(&format!("{method} /once"), fields, body);
        assert_eq!(response.status, 502, "{method} of {} bytes", body.len());
        let posts = origin
            .seen()
            .iter()
            .filter(|seen| seen.target == "/once")
            .count();
        assert_eq!(posts, 1, "{method} of {} bytes", body.len());
    }
}

#[test]
fn upstream_connections_are_reused() {
    let origin = Origin::start();
    let gate = Gate::start(&open(&origin));
    let mut client = gate.connect();
    for _ in 0..15 {
        client.ask("GET /x", &[]).is(200);
        gate.connect().ask("GET /y", &[]).is(200);
    }
    assert!(
        origin.connections() <= 5,
        "{} connections for 30 requests",
        origin.connections()
    );
}

#[test]
fn large_upload_arrives_whole_and_is_not_collected() {
    let _alone = heavy();
    let origin = Origin::start();
    let gate = Gate::start(&open(&origin));
    gate.connect().ask_with("POST /warm", &[], b"x").is(200);
    let before = resident_bytes();
    let mut client = gate.connect();
    client.send(request(
        "POST /large",
        &[&format!("Content-Length: {UPLOAD}")],
        b"",
    ));
    let piece: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
    let mut most = 0;
    for number in 0..UPLOAD / piece.len() {
        assert!(client.send(&piece), "piece {number}");
        if number % 64 == 0 {
            most = most.max(resident_bytes());
        }
    }
    client.response("POST").is(200);
    let seen = origin.last();
    assert_eq!(seen.body_size, UPLOAD as u64);
    let sum: u64 = piece.iter().map(|byte| u64::from(*byte)).sum();
    assert_eq!(
        seen.body_sum,
        sum * (UPLOAD / piece.len()) as u64,
        "every byte"
    );
    let grown = most.saturating_sub(before);
    assert!(grown < 64 << 20, "resident memory grew by {grown}");
}

#[test]
fn idle_connections_do_not_hinder_new_clients() {
    let _alone = heavy();
    // Both ends of each connection are in this process.
    let count = 3000.min(descriptors_max().saturating_sub(2000) / 2);
    if count < 3000 {
        println!(
            "only {count} connections: this process may open {} files",
            descriptors_max()
        );
    }
    let origin = Origin::start();
    let gate = strict(
        &origin,
        "connections_per_client = 10000\nheader_timeout = \"60s\"",
    );
    let idle: Vec<Client> = (0..count).map(|_| gate.connect()).collect();
    let start = Instant::now();
    gate.connect().ask("GET /x", &[]).is(200);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    drop(idle);
    gate.connect().ask("GET /x", &[]).is(200);
}

#[test]
fn reload_under_load_fails_no_request() {
    let origin = Origin::start();
    let gate = Gate::start(&open(&origin));
    let stop = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    gate.connect().ask("GET /x", &["Connection: close"]).is(200);
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for round in 0..3 {
            let floor = served.load(Ordering::SeqCst) + 20;
            eventually("load flows", || served.load(Ordering::SeqCst) >= floor);
            let marker = format!("{}\n# round {round}\n", open(&origin));
            gate.reload(&marker)
                .unwrap_or_else(|report| panic!("{report:?}"));
        }
        let floor = served.load(Ordering::SeqCst) + 20;
        eventually("load still flows", || {
            served.load(Ordering::SeqCst) >= floor
        });
        stop.store(true, Ordering::SeqCst);
    });
}

/// The answer that nobody reads.
const LARGE: usize = 200 << 20;
/// The upload: 1 GiB in the acceptance cases, less here so that a debug build takes seconds.
const UPLOAD: usize = 64 << 20;
