//! WebSockets over HTTP/2 (RFC 8441): one stream becomes a tunnel, judged and logged as any WebSocket.

use std::time::Duration;

use tempfile::TempDir;

use crate::support::certs::certs;
use crate::support::gate::front;
use crate::support::{End, Gate, H2, Lost, Origin, PATIENCE, Response, Then, eventually};

fn gate(origin: &Origin, rest: &str) -> Gate {
    let folder = TempDir::new().unwrap();
    certs().write(folder.path());
    let front = front(origin).replacen(
        "address = \"127.0.0.1:0\"\n",
        "address = \"127.0.0.1:0\"\ntls = { certificates = [{ cert = \"server.crt\", key = \"server.key\" }] }\n",
        1,
    );
    Gate::start_in(
        folder,
        &format!("{front}[[site]]\nhost = [\"*\"]\nupstream = \"app\"\n{rest}"),
    )
}

const OPEN: &str = "allow = \"anyone\"\n";

/// Opens a stream as a browser does.
fn handshake(client: &mut H2, path: &str, more: &[(&str, &str)]) -> u32 {
    let mut fields = vec![(":protocol", "websocket"), ("sec-websocket-version", "13")];
    fields.extend(more);
    client.begin(&format!("CONNECT {path}"), &fields)
}

/// Waits until so many bytes have come.
fn take(client: &mut H2, id: u32, want: &[u8]) {
    client.until("the bytes of the tunnel", |client| {
        let body = client.partial(id).map(|answer| answer.body);
        body.is_some_and(|body| body.len() >= want.len())
    });
    assert_eq!(client.partial(id).unwrap().body, want);
}

fn refused(client: &mut H2, id: u32, status: u16, why: &str) -> Response {
    let answer = client.answer(id);
    assert_eq!(answer.status, status, "{why}: {:?}", answer.fields);
    answer
}

#[test]
fn a_stream_becomes_a_tunnel_and_the_connection_serves_on() {
    let origin = Origin::start();
    let gate = gate(&origin, OPEN);
    let mut client = H2::connect(gate.address());
    client.get("/first").is(200);
    assert_eq!(client.settings.get(&8), Some(&1), "it is announced");
    let id = handshake(
        &mut client,
        "/chat?room=1",
        &[
            ("sec-websocket-protocol", "chat"),
            ("sec-websocket-key", "bWluZQ=="),
            ("origin", "https://app.test"),
        ],
    );
    let head = client.head(id).is(200);
    for gone in ["connection", "upgrade", "sec-websocket-accept"] {
        assert_eq!(head.header(gone), None, "{gone}");
    }
    client.data(id, b"\x81\x05hello", false);
    take(&mut client, id, b"\x81\x05hello");
    client.get("/beside").is(200);
    client.data(id, vec![b'x'; 100_000], false);
    client.until("much of it", |client| {
        client.partial(id).unwrap().body.len() == 100_007
    });

    let seen = origin.seen();
    let seen = seen
        .iter()
        .find(|seen| seen.target == "/chat?room=1")
        .unwrap();
    assert_eq!(seen.method, "GET");
    assert_eq!(seen.all("upgrade"), ["websocket"]);
    assert_eq!(seen.all("connection"), ["upgrade"]);
    assert_eq!(seen.all("host"), ["app.test"]);
    assert_eq!(seen.all("sec-websocket-protocol"), ["chat"]);
    assert_eq!(seen.all("origin"), ["https://app.test"]);
    assert_eq!(seen.all("sec-websocket-key").len(), 1);
    assert_ne!(seen.all("sec-websocket-key"), ["bWluZQ=="], "ours");
    assert_eq!(origin.open(), 2, "the tunnel has a connection of its own");

    client.data(id, b"", true);
    client.answer(id);
    eventually("the origin's side ends with the stream", || {
        origin.open() == 1
    });
    let lines = gate.log(3);
    let line = lines
        .iter()
        .find(|line| line["url.path"] == "/chat")
        .unwrap();
    assert_eq!(line["http.request.method"], "GET");
    assert_eq!(line["network.protocol.version"], "2");
    assert_eq!(line["http.response.status_code"], 200);
    assert_eq!(line["upstream.status_code"], 101);
    assert_eq!(line["http.request.body.size"], 100_007);
    assert_eq!(line["http.response.body.size"], 100_007);
}

#[test]
fn rules_see_a_websocket() {
    let origin = Origin::start();
    let gate = gate(
        &origin,
        r#"
[[site.deny]]
name = "no-chat"
path = "/quiet/**"
upgrade = "websocket"
[[site.route]]
path = "/**"
allow = [{ method = "GET", upgrade = "websocket" }, { path = "/plain" }]
[[site.route]]
path = "/fixed"
respond = { status = 200, body = "x" }
[[site.route]]
path = "/elsewhere"
redirect = { to = "https://example.com/" }
"#,
    );
    let mut client = H2::connect(gate.address());
    client.get("/plain").is(200);
    client.get("/chat").is(403);
    for (path, status, why) in [
        ("/quiet/x", 403, "denied as a WebSocket"),
        (
            "/fixed",
            405,
            "no place for one: a success would open a tunnel",
        ),
        ("/elsewhere", 302, "elsewhere"),
        ("/%zz", 400, "malformed"),
    ] {
        let id = handshake(&mut client, path, &[]);
        refused(&mut client, id, status, why);
    }
    let id = handshake(&mut client, "/chat", &[]);
    client.head(id).is(200);
}

#[test]
fn other_tunnels_are_refused() {
    let origin = Origin::start();
    let gate = gate(&origin, OPEN);
    let mut client = H2::connect(gate.address());
    for protocol in ["connect-udp", "webtransport", "WebSocket2"] {
        let id = client.begin("CONNECT /x", &[(":protocol", protocol)]);
        refused(&mut client, id, 405, protocol);
    }
    let plain = client.open(
        &[(":method", "CONNECT"), (":authority", "app.test:443")],
        false,
    );
    refused(&mut client, plain, 405, "a plain CONNECT");
    let id = client.begin("GET /x", &[(":protocol", "websocket")]);
    let lost = client.try_answer(id, PATIENCE).unwrap_err();
    assert!(matches!(lost, Lost::Reset(_)), "malformed: {lost:?}");
    let id = handshake(&mut client, "/x", &[("content-length", "5")]);
    let lost = client.try_answer(id, PATIENCE).unwrap_err();
    assert_ne!(lost, Lost::Ended(End::Late), "with a body");
    assert_eq!(origin.count(), 0);
    H2::connect(gate.address()).get("/next").is(200);
}

#[test]
fn an_upstream_that_does_not_agree_opens_no_tunnel() {
    let origin = Origin::scripted(|exchange| {
        let target = exchange.seen.target.clone();
        let head = match target.as_str() {
            "/forged" => {
                "101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: bm90aGluZw=="
            }
            "/bare" => "101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket",
            "/page" => return exchange.answer("200 OK", "a page"),
            _ => return exchange.answer("426 Upgrade Required", "no"),
        };
        exchange.send(format!("HTTP/1.1 {head}\r\n\r\n"));
        exchange.wait_for_close();
        Then::Close
    });
    let gate = gate(&origin, OPEN);
    let mut client = H2::connect(gate.address());
    for (path, status, why) in [
        ("/forged", 502, "it has not read the key"),
        ("/bare", 502, "it says nothing of the key"),
        ("/page", 502, "a success that is no tunnel"),
        ("/old", 426, "its own refusal"),
    ] {
        let id = handshake(&mut client, path, &[]);
        refused(&mut client, id, status, why);
    }
    eventually("nothing is left of them", || origin.open() == 0);
    let lines = gate.log(4);
    assert_eq!(lines[0]["http.response.status_code"], 502);
    assert_eq!(lines[0]["error.type"], "upstream_malformed");
    assert_eq!(lines[3]["http.response.status_code"], 426);
}

#[test]
fn tunnels_end_with_either_side_and_when_nothing_moves() {
    let origin = Origin::start();
    let gate = gate(
        &origin,
        "[[site.route]]\npath = \"/**\"\nallow = \"anyone\"\n[[site.route]]\npath = \"/short\"\nallow = \"anyone\"\nstream_idle_timeout = \"1s\"\n",
    );
    let mut client = H2::connect(gate.address());
    let id = handshake(&mut client, "/chat", &[]);
    client.head(id).is(200);
    client.data(id, b"x", false);
    take(&mut client, id, b"x");
    client.reset(id);
    eventually("a reset ends it", || origin.open() == 0);

    let id = handshake(&mut client, "/short", &[]);
    client.head(id).is(200);
    client.data(id, b"x", false);
    take(&mut client, id, b"x");
    let ended = client.try_answer(id, PATIENCE);
    assert!(
        matches!(ended, Ok(_) | Err(Lost::Reset(_))),
        "silence ends it: {ended:?}"
    );
    eventually("and the origin's side", || origin.open() == 0);

    let id = handshake(&mut client, "/chat", &[]);
    client.head(id).is(200);
    drop(client);
    eventually("the connection's end ends it", || origin.open() == 0);
    assert_eq!(gate.log(3).len(), 3);
}

#[test]
fn a_client_that_does_not_read_holds_little() {
    let origin = Origin::start();
    let gate = gate(&origin, OPEN);
    let mut client = H2::connect(gate.address());
    client.gives_back = false;
    let id = handshake(&mut client, "/chat", &[]);
    client.head(id).is(200);
    let before = crate::support::resident_bytes();
    // It echoes: what we do not take back stays there, and in the end we may send nothing more.
    for _ in 0..200 {
        client.data(id, vec![b'x'; 16_000], false);
    }
    std::thread::park_timeout(Duration::from_millis(300));
    let held = crate::support::resident_bytes().saturating_sub(before);
    assert!(held < 16 << 20, "{held} bytes are held for one tunnel");
    drop(client);
    eventually("nothing is left", || origin.open() == 0);
}
