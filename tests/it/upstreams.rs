//! Several servers behind one upstream: who gets which request, who is left out, who waits.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use portcullis::admin::client::{Place, Reply, ask, encode};

use crate::support::{Client, Gate, Origin, Refusing, Then, eventually, eventually_some};

const SITE: &str = "[[site]]\nhost = [\"*\"]\nupstream = \"app\"\nallow = \"anyone\"\n";

/// A configuration whose upstream has these servers (TOML) and settings.
fn upstream(servers: &[String], settings: &str) -> String {
    format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nservers = [{}]\n\
         connect_timeout = \"2s\"\nresponse_timeout = \"5s\"\n{settings}\n{SITE}",
        servers.join(", ")
    )
}

fn plain(origin: &Origin) -> String {
    format!("\"http://{}\"", origin.address())
}

fn with(origin: &Origin, more: &str) -> String {
    format!("{{ url = \"http://{}\", {more} }}", origin.address())
}

fn dead(refusing: &Refusing) -> String {
    format!("\"http://127.0.0.1:{}\"", refusing.port())
}

fn admin(gate: &Gate, method: &str, path: &str) -> Reply {
    ask(&Place::Socket(gate.path("admin.sock")), method, path).unwrap()
}

/// What `status` says of each endpoint, by its label.
fn states(gate: &Gate) -> BTreeMap<String, String> {
    let status = admin(gate, "GET", "/status").body;
    let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    status["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (word(&one["endpoint"]), word(&one["state"])))
        .collect()
}

fn state(gate: &Gate, origin: &Origin) -> String {
    states(gate)[&origin.address().to_string()].clone()
}

fn asks(client: &mut Client, count: usize) {
    for _ in 0..count {
        client.ask("GET /x", &[]).is(200);
    }
}

#[test]
fn requests_on_kept_connections_are_spread_by_weight() {
    let (one, other) = (Origin::start(), Origin::start());
    let servers = [with(&one, "weight = 3"), plain(&other)];
    let gate = Gate::start(&upstream(&servers, ""));
    asks(&mut gate.connect(), 16);
    assert_eq!((one.count(), other.count()), (12, 4));
    assert_eq!(one.connections(), 1, "its connection is used again");
}

#[test]
fn backup_serves_only_while_nobody_else_can() {
    let (spare, down) = (Origin::start(), Refusing::new());
    let backup = with(&spare, "backup = true");
    let well = Origin::start();
    let gate = Gate::start(&upstream(&[backup.clone(), plain(&well)], ""));
    asks(&mut gate.connect(), 6);
    assert_eq!((well.count(), spare.count()), (6, 0), "a primary is well");

    let settings = "retries = 0\neject = { failures = 1, for = \"1min\" }";
    let gate = Gate::start(&upstream(&[dead(&down), backup], settings));
    let mut client = gate.connect();
    client.ask("GET /x", &[]).is(502);
    asks(&mut client, 4);
    assert_eq!(spare.count(), 4, "the primary is ejected");
}

#[test]
fn same_value_goes_to_the_same_server() {
    let origins: Vec<Origin> = (0..3).map(|_| Origin::start()).collect();
    let servers: Vec<String> = origins.iter().map(plain).collect();
    for (hash, field) in [
        ("header.x-tenant", "X-Tenant: "),
        ("cookie.sid", "Cookie: a=b; sid="),
    ] {
        let before: usize = origins.iter().map(Origin::count).sum();
        let settings = format!("balance = {{ hash = \"{hash}\" }}");
        let gate = Gate::start(&upstream(&servers, &settings));
        let mut used = [0, 0, 0];
        for user in 0..30 {
            let field = format!("{field}user-{user}");
            // Two clients, most likely of two workers.
            let counts: Vec<usize> = origins.iter().map(Origin::count).collect();
            for _ in 0..2 {
                gate.connect().ask("GET /x", &[&field]).is(200);
            }
            let place = (0..3).find(|place| origins[*place].count() == counts[*place] + 2);
            used[place.expect("both to the same")] += 1;
        }
        assert!(used.iter().all(|count| *count > 2), "spread: {used:?}");
        let mut client = gate.connect();
        let counts: Vec<usize> = origins.iter().map(Origin::count).collect();
        asks(&mut client, 3);
        for (origin, count) in origins.iter().zip(counts) {
            assert_eq!(origin.count(), count + 1, "without the value: by turns");
        }
        let all: usize = origins.iter().map(Origin::count).sum();
        assert_eq!(all - before, 63);
    }
    let gate = Gate::start(&upstream(&servers, "balance = { hash = \"client\" }"));
    let counts: Vec<usize> = origins.iter().map(Origin::count).collect();
    for _ in 0..4 {
        asks(&mut gate.connect(), 1);
    }
    let alone = (0..3).filter(|place| origins[*place].count() == counts[*place] + 4);
    assert_eq!(alone.count(), 1, "by address");
}

#[test]
fn cookie_brings_a_client_back_to_its_server() {
    let (one, other) = (Origin::start(), Origin::start());
    let servers = [plain(&one), plain(&other)];
    let config = upstream(&servers, "balance = { cookie = \"lane\" }");
    let gate = Gate::start(&config);
    let first = gate.connect().ask("GET /x", &[]).is(200);
    let cookie = first.header("set-cookie").expect("a cookie").to_owned();
    let (pair, attributes) = cookie.split_once(';').unwrap();
    assert_eq!(attributes, " Path=/; HttpOnly; SameSite=Lax");
    let value = pair.strip_prefix("lane=").unwrap();
    assert_eq!(value.len(), 8);
    let port = one.address().port();
    assert!(!value.contains(&port.to_string()), "opaque: {value}");
    let mine = if one.count() == 1 { &one } else { &other };

    let sent = format!("Cookie: a=b; {pair}");
    for _ in 0..6 {
        let again = gate.connect().ask("GET /x", &[&sent]).is(200);
        assert_eq!(again.header("set-cookie"), None, "said already");
    }
    assert_eq!(mine.count(), 7);
    // A reload and a new process know the value still.
    gate.reload(&config.replace("5s", "6s")).unwrap();
    gate.connect().ask("GET /x", &[&sent]).is(200);
    assert_eq!(mine.count(), 8);
    let fresh = Gate::start(&config);
    fresh.connect().ask("GET /x", &[&sent]).is(200);
    assert_eq!(mine.count(), 9);

    for tampered in ["lane=00000000", "lane=", "lane=127.0.0.1:1", "lane=\u{e9}"] {
        let field = format!("Cookie: {tampered}");
        let answer = gate.connect().ask("GET /x", &[&field]).is(200);
        assert!(answer.header("set-cookie").is_some(), "{tampered}");
    }
}

#[test]
fn the_less_busy_server_is_taken() {
    let release = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&release);
    let busy = Origin::scripted(move |exchange| {
        if exchange.seen.target == "/hold" {
            eventually("released", || held.load(Ordering::SeqCst));
        }
        Then::Usual
    });
    let free = Origin::start();
    let gate = Gate::start(&upstream(
        &[plain(&busy), plain(&free)],
        "balance = \"least_connections\"",
    ));
    // Until the slow one has one in hand.
    let mut held = Vec::new();
    while busy.count() == 0 {
        let mut client = gate.connect();
        let before = busy.count() + free.count();
        client.send("GET /hold HTTP/1.1\r\nHost: app.test\r\n\r\n");
        eventually("it arrives", || busy.count() + free.count() > before);
        held.push(client);
    }
    let before = free.count();
    eventually("both workers know", || {
        let status = admin(&gate, "GET", "/status").body;
        let endpoints = status["endpoints"].as_array().unwrap();
        let in_flight = |origin: &Origin| {
            let label = origin.address().to_string();
            let mut all = endpoints.iter();
            let one = all.find(|one| one["endpoint"] == *label).unwrap();
            one["in_flight"].as_i64()
        };
        in_flight(&busy) == Some(1) && in_flight(&free) == Some(0)
    });
    // Told ten times a second, and read at the next request.
    asks(&mut gate.connect(), 10);
    assert_eq!(free.count(), before + 10, "none to the busy one");
    release.store(true, Ordering::SeqCst);
}

#[test]
fn failing_server_is_left_out_but_never_the_last() {
    let (well, down) = (Origin::start(), Refusing::new());
    let settings = "retries = 0\neject = { failures = 2, for = \"1min\" }\nslow_start = \"1s\"";
    let gate = Gate::start(&upstream(&[dead(&down), plain(&well)], settings));
    let mut client = gate.connect();
    let failed = (0..12)
        .filter(|_| client.ask("GET /x", &[]).status == 502)
        .count();
    assert_eq!(failed, 2, "two failures, then left out");
    assert_eq!(well.count(), 10);
    let label = format!("127.0.0.1:{}", down.port());
    assert_eq!(states(&gate)[&label], "ejected");

    // A reload that changes a weight makes nobody well.
    let servers = [dead(&down), with(&well, "weight = 2")];
    gate.reload(&upstream(&servers, settings)).unwrap();
    let mut client = gate.connect();
    asks(&mut client, 4);

    let all_down = [dead(&down), dead(&Refusing::new())];
    let gate = Gate::start(&upstream(&all_down, settings));
    let mut client = gate.connect();
    (0..8).for_each(|_| drop(client.ask("GET /x", &[]).is(502)));
    let states: Vec<String> = states(&gate).into_values().collect();
    assert!(states.contains(&"up".to_owned()), "{states:?}");
}

#[test]
fn application_errors_eject_nobody() {
    let sick = Origin::scripted(|exchange| exchange.answer("500 Broken", "no"));
    let well = Origin::start();
    let settings = "eject = { failures = 1, for = \"1min\" }";
    let gate = Gate::start(&upstream(&[plain(&sick), plain(&well)], settings));
    let mut client = gate.connect();
    (0..6).for_each(|_| drop(client.ask("GET /x", &[])));
    assert_eq!((sick.count(), well.count()), (3, 3));
}

#[test]
fn health_checks_take_a_server_out_and_back() {
    let ill = Arc::new(AtomicBool::new(false));
    let script = Arc::clone(&ill);
    let one = Origin::scripted(move |exchange| {
        if exchange.seen.target == "/up" && script.load(Ordering::SeqCst) {
            return exchange.answer("503 Ill", "");
        }
        Then::Usual
    });
    let other = Origin::start();
    let settings =
        "health = { path = \"/up\", interval = \"50ms\", timeout = \"50ms\", rise = 2, fall = 2 }";
    let gate = Gate::start(&upstream(&[plain(&one), plain(&other)], settings));
    let served = |origin: &Origin| {
        let seen = origin.seen();
        seen.iter().filter(|seen| seen.target == "/x").count()
    };
    asks(&mut gate.connect(), 2);
    assert_eq!((served(&one), served(&other)), (1, 1), "up at first");
    let asked = one.seen().into_iter().find(|seen| seen.target == "/up");
    if let Some(asked) = asked {
        assert_eq!(asked.header("user-agent"), Some("portcullis-health"));
        assert!(asked.problems.is_empty(), "{:?}", asked.problems);
    }

    ill.store(true, Ordering::SeqCst);
    eventually("it is down", || state(&gate, &one) == "down");
    let mut client = gate.connect();
    eventually("nobody goes there", || {
        let before = served(&one);
        asks(&mut client, 4);
        served(&one) == before
    });
    let metrics = Place::Socket(gate.path("admin.sock"));
    assert_eq!(ask(&metrics, "GET", "/readyz").unwrap().status, 200);

    ill.store(false, Ordering::SeqCst);
    eventually("it is up", || state(&gate, &one) == "up");
    eventually("it is used", || {
        let before = served(&one);
        asks(&mut client, 4);
        served(&one) == before + 2
    });
    let log = gate.log_text();
    assert!(!log.contains("/up"), "questions of ours are not logged");
}

#[test]
fn all_ill_servers_are_used_rather_than_none() {
    let ill = || {
        Origin::scripted(|exchange| {
            if exchange.seen.target == "/up" {
                return exchange.answer("503 Ill", "");
            }
            Then::Usual
        })
    };
    let (one, other) = (ill(), ill());
    let settings = "health = { path = \"/up\", interval = \"50ms\", timeout = \"50ms\", fall = 1 }";
    let gate = Gate::start(&upstream(&[plain(&one), plain(&other)], settings));
    eventually("both are down", || {
        states(&gate).values().all(|state| state == "down")
    });
    asks(&mut gate.connect(), 4);
}

/// An origin that holds every answer until it is told, and how many it holds.
fn holding() -> (Origin, Arc<AtomicUsize>) {
    let free = Arc::new(AtomicUsize::new(0));
    let script = Arc::clone(&free);
    let origin = Origin::scripted(move |_| {
        eventually("an answer is let go", || {
            let one_less = |free: usize| free.checked_sub(1);
            script
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
                .is_ok()
        });
        Then::Usual
    });
    (origin, free)
}

#[test]
fn full_server_makes_requests_wait_and_a_full_queue_refuses() {
    let (origin, free) = holding();
    let gate = Gate::start(&upstream(
        &[plain(&origin)],
        "max_connections = 2\nqueue = 3",
    ));
    let get = "GET /x HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let mut clients: Vec<Client> = (0..5).map(|_| gate.connect()).collect();
    clients.iter_mut().for_each(|client| {
        client.send(get);
    });
    eventually("two are at the origin", || origin.count() == 2);
    let mut answer = eventually_some("the queue is full", || {
        let mut late = gate.connect();
        late.send(get);
        late.try_response("GET", Duration::from_millis(200)).ok()
    });
    assert_eq!(answer.status, 503);
    assert_eq!(answer.reason(), "overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(origin.count(), 2, "no more than two");
    free.store(100, Ordering::SeqCst);
    for client in &mut clients {
        answer = client.response("GET");
        assert_eq!(answer.status, 200);
    }
    let lines = gate.log(6);
    let busy = lines
        .iter()
        .filter(|line| line["error.type"] == "upstream_busy");
    assert!(busy.count() >= 1);
}

#[test]
fn waiting_ends_with_connect_timeout() {
    let (origin, free) = holding();
    let config = upstream(&[plain(&origin)], "max_connections = 1\nqueue = 10");
    let gate = Gate::start(&config.replace("\"2s\"", "\"300ms\""));
    let mut first = gate.connect();
    first.send("GET /x HTTP/1.1\r\nHost: app.test\r\n\r\n");
    eventually("it is at the origin", || origin.count() == 1);
    gate.connect().ask("GET /x", &[]).is(503);
    free.store(100, Ordering::SeqCst);
    first.response("GET").is(200);
    asks(&mut gate.connect(), 1);
}

#[test]
fn tunnel_takes_a_place_until_it_ends() {
    let origin = Origin::start();
    let config = upstream(&[plain(&origin)], "max_connections = 1\nqueue = 0");
    let gate = Gate::start(&config);
    let mut tunnel = gate.connect();
    tunnel.send(
        "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    tunnel.response_head().is(101);
    gate.connect().ask("GET /x", &[]).is(503);
    drop(tunnel);
    eventually("the place is free", || {
        gate.connect().ask("GET /x", &[]).status == 200
    });
}

#[test]
fn unanswered_request_goes_to_another_server_within_the_budget() {
    let silent = Origin::scripted(|_| Then::Close);
    let well = Origin::start();
    let gate = Gate::start(&upstream(&[plain(&silent), plain(&well)], ""));
    let mut client = gate.connect();
    asks(&mut client, 2);
    assert_eq!(silent.count(), 1, "tried, and left");
    let line = gate
        .log(2)
        .into_iter()
        .find(|line| line["upstream.retries"] == 1);
    let line = line.expect("a retry is on record");
    assert_eq!(line["upstream.address"], well.address().to_string());

    let before = silent.count();
    let mut refused = 0;
    for _ in 0..4 {
        if client.ask_with("POST /x", &[], b"x").status == 502 {
            refused += 1;
        }
    }
    assert_eq!(refused, 2, "every other one, and none is sent twice");
    assert_eq!(silent.count(), before + 2);

    let silent = [
        Origin::scripted(|_| Then::Close),
        Origin::scripted(|_| Then::Close),
    ];
    let gate = Gate::start(&upstream(&[plain(&silent[0]), plain(&silent[1])], ""));
    let mut client = gate.connect();
    const REQUESTS: usize = 60;
    (0..REQUESTS).for_each(|_| drop(client.ask("GET /x", &[]).is(502)));
    let sent = silent[0].count() + silent[1].count();
    // A fifth, three from the start, and a few a second.
    assert!((REQUESTS + 10..REQUESTS * 3 / 2).contains(&sent), "{sent}");
}

#[test]
fn drained_server_gets_nothing_new_until_it_is_taken_back() {
    let (one, other) = (Origin::start(), Origin::start());
    let config = upstream(&[plain(&one), plain(&other)], "");
    let gate = Gate::start(&config);
    let mut client = gate.connect();
    asks(&mut client, 2);
    let order = |verb: &str, endpoint: &str| {
        let path = format!("/{verb}?upstream=app&endpoint={}", encode(endpoint));
        admin(&gate, "POST", &path)
    };
    let label = one.address().to_string();
    let reply = order("drain", &label);
    assert_eq!((reply.status, &reply.body["usable"]), (200, &1.into()));
    eventually("its connection is closed", || one.open() == 0);
    asks(&mut client, 4);
    assert_eq!((one.count(), other.count()), (1, 5));
    assert_eq!(state(&gate, &one), "drained");

    gate.reload(&config.replace("5s", "6s")).unwrap();
    asks(&mut gate.connect(), 4);
    assert_eq!((one.count(), other.count()), (1, 9), "through a reload");

    let url = format!("http://{}", other.address());
    assert_eq!(order("drain", &url).body["usable"], 0);
    let answer = eventually_some("nobody is left", || {
        let answer = client.ask("GET /x", &[]);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );

    assert_eq!(order("undrain", &label).body["usable"], 1);
    let before = one.count();
    eventually("it is used again", || {
        client.ask("GET /x", &[]).status == 200
    });
    assert_eq!(one.count(), before + 1);

    for (path, status, why) in [
        (
            "/drain?upstream=app&endpoint=elsewhere",
            404,
            "no such endpoint",
        ),
        (
            "/drain?upstream=elsewhere&endpoint=a",
            404,
            "no such upstream",
        ),
        ("/drain?upstream=app", 400, "no endpoint"),
        ("/drain", 400, "nothing"),
        ("/drain?upstream=app&endpoint=%zz", 400, "no encoding"),
        ("/drain?upstream=app&upstream=b&endpoint=a", 400, "twice"),
    ] {
        assert_eq!(admin(&gate, "POST", path).status, status, "{why}");
    }
    assert_eq!(admin(&gate, "GET", "/drain?upstream=app").status, 405);
}

#[test]
fn server_is_told_the_client_before_the_first_byte() {
    for version in ["v1", "v2"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut read = Vec::new();
                let mut piece = [0; 4096];
                while !read.ends_with(b"\r\n\r\n") || read.len() < 40 {
                    match stream.read(&mut piece) {
                        Ok(count @ 1..) => read.extend_from_slice(&piece[..count]),
                        _ => return,
                    }
                }
                tell.send(read).unwrap();
                let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(ok).unwrap();
            }
        });
        let settings = format!("proxy_protocol = \"{version}\"");
        let gate = Gate::start(&upstream(&[format!("\"http://{address}\"")], &settings));
        for client in ["127.0.0.1", "127.0.0.7"] {
            let mut client_connection = gate.connect_from(client);
            // Each request has a connection of its own, and so a header of its own.
            for _ in 0..2 {
                client_connection.ask("GET /x", &[]).is(200);
                let read = told.recv().unwrap();
                if version == "v1" {
                    let text = String::from_utf8(read).unwrap();
                    let (line, rest) = text.split_once("\r\n").unwrap();
                    let start = format!("PROXY TCP4 {client} 127.0.0.1 ");
                    assert!(line.starts_with(&start), "{line}");
                    assert!(rest.starts_with("GET /x HTTP/1.1\r\n"), "{rest}");
                } else {
                    assert_eq!(&read[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
                    let last = client.rsplit('.').next().unwrap().parse().unwrap();
                    assert_eq!(&read[16..20], &[127, 0, 0, last]);
                    assert_eq!(&read[28..34], b"GET /x");
                }
            }
        }
    }
}

#[test]
fn name_becomes_its_addresses() {
    let origin = Origin::start();
    let server = format!("\"http://localhost:{}\"", origin.address().port());
    let gate = Gate::start(&upstream(&[server], "retries = 1"));
    let label = origin.address().to_string();
    eventually("it is resolved", || states(&gate).contains_key(&label));
    let mut client = gate.connect();
    eventually("it is used", || client.ask("GET /x", &[]).status == 200);
    let metrics = states(&gate);
    assert!(metrics.keys().all(|label| !label.contains("localhost")));
}
