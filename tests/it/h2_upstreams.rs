//! HTTP/2 to upstreams: in front of a second gate, which speaks it to its clients and HTTP/1.1 to the scripted origin.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use portcullis::admin::client::{Place, ask};

use crate::support::certs::certs;
use crate::support::{End, Gate, H2, Origin, Refusing, Then, eventually, open};

/// A gate whose clients may speak HTTP/2 in clear text.
fn inner(origin: &Origin) -> Gate {
    Gate::start(&listening(&open(origin), "h2c = true"))
}

fn listening(config: &str, more: &str) -> String {
    let plain = "address = \"127.0.0.1:0\"\n";
    config.replacen(plain, &format!("{plain}{more}\n"), 1)
}

/// A gate that speaks so to these servers, and lets clients speak HTTP/2 too.
fn outer(servers: &[String], settings: &str) -> Gate {
    let folder = TempDir::new().unwrap();
    certs().write(folder.path());
    let servers: Vec<String> = servers.iter().map(|url| format!("\"{url}\"")).collect();
    let config = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\nh2c = true\n\
         [upstream.app]\nservers = [{}]\nconnect_timeout = \"2s\"\nresponse_timeout = \"2s\"\n{settings}\n\
         [[site]]\nhost = [\"*\"]\nupstream = \"app\"\nallow = \"anyone\"\n",
        servers.join(", ")
    );
    Gate::start_in(folder, &config)
}

fn url(gate: &Gate) -> String {
    format!("http://{}", gate.address())
}

/// What a gRPC server answers, as far as a proxy sees it.
const CALL: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\
     Trailer: grpc-status\r\n\r\n7\r\n\0\0\0\0\x02ok\r\n0\r\ngrpc-status: 0\r\n\r\n";

#[test]
fn calls_with_trailers_pass_from_end_to_end() {
    let origin = Origin::scripted(|exchange| {
        exchange.read_body();
        exchange.send(CALL);
        Then::Next
    });
    let inner = inner(&origin);
    let outer = outer(&[url(&inner)], "protocol = \"h2c\"");
    let mut client = H2::over(outer.connect(), &[]);
    for length in [5, 200_000] {
        let id = client.begin(
            "POST /shop.Cart/Add",
            &[("content-type", "application/grpc"), ("te", "trailers")],
        );
        client.data(id, vec![1; length], true);
        let answer = client.answer(id).is(200);
        assert_eq!(answer.body, b"\0\0\0\0\x02ok");
        assert_eq!(
            answer.trailers,
            [("grpc-status".to_owned(), "0".to_owned())]
        );
        assert_eq!(origin.last().body_size, length as u64);
        assert!(origin.last().problems.is_empty());
    }
    let line = &inner.log(2)[0];
    assert_eq!(line["network.protocol.version"], "2");
    assert_eq!(line["server.address"], "app.test", "the client's authority");
    assert_eq!(outer.log(2)[0]["upstream.status_code"], 200);
}

#[test]
fn a_call_may_be_silent_for_as_long_as_an_event_stream() {
    let origin = Origin::start();
    let inner = inner(&origin);
    let short = "protocol = \"h2c\"\n[server.limits]\nbody_timeout = \"1s\"";
    let outer = outer(&[url(&inner)], short);
    for (kind, status, why) in [
        ("text/plain", 408, "a body that stalls"),
        ("application/grpc", 200, "a stream of messages"),
    ] {
        let mut client = H2::over(outer.connect(), &[]);
        let id = client.begin("POST /shop.Cart/Watch", &[("content-type", kind)]);
        client.data(id, b"\0\0\0\0\x02", false);
        assert_eq!(client.end(Duration::from_secs(3)), End::Late, "{why}");
        client.data(id, b"ok", true);
        assert_eq!(client.answer(id).status, status, "{why}");
    }
}

#[test]
fn http_1_clients_are_served_too_and_share_one_connection() {
    let origin = Origin::start();
    let inner = inner(&origin);
    let outer = outer(&[url(&inner)], "protocol = \"h2c\"");
    for line in ["GET /a%2Fb?x=%20", "HEAD /x", "DELETE /x", "GET /"] {
        outer.connect().ask(line, &["X-Own: 1"]).is(200);
        let seen = origin.last();
        let target = line.split_once(' ').unwrap().1;
        assert_eq!((&*seen.target, seen.header("x-own")), (target, Some("1")));
    }
    outer.connect().ask_with("POST /x", &[], b"hello").is(200);
    assert_eq!(origin.last().body, b"hello");
    let chunked = "POST /x HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let mut client = outer.connect();
    client.send(chunked);
    client.response("POST").is(200);
    assert_eq!(origin.last().body, b"hello");
    let status = ask(&Place::Socket(inner.path("admin.sock")), "GET", "/status").unwrap();
    let connections = status.body["connections"].as_u64().unwrap();
    assert!(
        (1..=2).contains(&connections),
        "one a worker: {connections}"
    );
}

#[test]
fn many_at_once_and_a_slow_one_do_not_wait_for_each_other() {
    let origin = Origin::scripted(|exchange| {
        if exchange.seen.target == "/slow" {
            exchange.wait_for_close();
            return Then::Close;
        }
        Then::Usual
    });
    let inner = inner(&origin);
    let outer = outer(&[url(&inner)], "protocol = \"h2c\"");
    let mut client = H2::over(outer.connect(), &[]);
    client.get("/first").is(200);
    let slow = client.ask("GET /slow", &[]);
    let ids: Vec<u32> = (0..50).map(|_| client.ask("GET /x", &[])).collect();
    for id in ids {
        client.answer(id).is(200);
    }
    // Late at the outer gate or at the inner one, which have the same patience.
    let answer = client.answer(slow);
    assert_eq!(answer.status, 504);
    client.get("/after").is(200);
}

#[test]
fn health_is_asked_for_in_http_2() {
    let origin = Origin::start();
    let inner = inner(&origin);
    let health = "health = { path = \"/up?a\", interval = \"50ms\", timeout = \"50ms\", fall = 1 }";
    let outer = outer(&[url(&inner)], &format!("protocol = \"h2c\"\n{health}"));
    eventually("it is asked", || origin.count() >= 2);
    assert_eq!(origin.last().target, "/up?a");
    assert_eq!(inner.log(1)[0]["network.protocol.version"], "2");
    let status = ask(&Place::Socket(outer.path("admin.sock")), "GET", "/status").unwrap();
    assert_eq!(status.body["endpoints"][0]["state"], "up");
}

#[test]
fn http_2_over_tls_is_negotiated_and_verified() {
    let origin = Origin::start();
    let tls = "tls = { certificates = [{ cert = \"server.crt\", key = \"server.key\" }] }";
    let folder = TempDir::new().unwrap();
    certs().write(folder.path());
    let inner = Gate::start_in(folder, &listening(&open(&origin), tls));
    let server = format!("https://localhost:{}", inner.address().port());
    for (settings, status, why) in [
        ("tls = { ca = \"ca.pem\" }", 200, "the right authority"),
        ("", 502, "an unknown authority"),
    ] {
        let settings = format!("protocol = \"h2\"\n{settings}");
        let outer = outer(std::slice::from_ref(&server), &settings);
        outer.connect().ask("GET /x", &[]).is(status);
        assert_eq!(origin.count(), 1, "{why}");
        if status == 200 {
            let line = &inner.log(1)[0];
            assert_eq!(line["network.protocol.version"], "2");
            assert_eq!(line["url.scheme"], "https");
        }
    }
}

#[test]
fn server_that_speaks_something_else_or_nothing_is_a_gateway_error() {
    let (old, down) = (Origin::start(), Refusing::new());
    for (server, why) in [
        (format!("http://{}", old.address()), "HTTP/1.1 only"),
        (format!("http://127.0.0.1:{}", down.port()), "nobody there"),
    ] {
        let outer = outer(&[server], "protocol = \"h2c\"");
        let mut client = outer.connect();
        for _ in 0..2 {
            assert_eq!(client.ask("GET /x", &[]).status, 502, "{why}");
        }
    }
}

#[test]
fn lost_connection_is_replaced_and_the_other_server_used() {
    let origin = Origin::start();
    let (first, second) = (inner(&origin), inner(&origin));
    let servers = [url(&first), url(&second)];
    let outer = outer(&servers, "protocol = \"h2c\"\nretries = 2");
    let mut client = outer.connect();
    for _ in 0..4 {
        client.ask("GET /x", &[]).is(200);
    }
    drop(first.shutdown());
    for _ in 0..6 {
        client.ask("GET /x", &[]).is(200);
    }
    let mut websocket = outer.connect();
    websocket.send(
        "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    websocket.response("GET").is(502);
    eventually("all is on record", || {
        outer.log_text().lines().count() == 11
    });
}

/// A server that speaks TLS and lets clients choose of `offers`: what chose HTTP/2 is passed to one server, the rest to another.
struct Choosing {
    port: u16,
    offers: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Connections of HTTP/2, and others.
    chosen: Arc<[AtomicUsize; 2]>,
    cut: tokio::sync::watch::Sender<u32>,
}

impl Choosing {
    fn start(to_http2: SocketAddr, to_http1: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (cut, cuts) = tokio::sync::watch::channel(0);
        let this = Self {
            port: listener.local_addr().unwrap().port(),
            offers: Arc::new(Mutex::new(vec![b"h2".to_vec(), b"http/1.1".to_vec()])),
            chosen: Arc::default(),
            cut,
        };
        let (offers, chosen) = (Arc::clone(&this.offers), Arc::clone(&this.chosen));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((socket, _)) = listener.accept().await {
                    let mut config = certs().server_config();
                    config.alpn_protocols = offers.lock().unwrap().clone();
                    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
                    let chosen = Arc::clone(&chosen);
                    let mut cuts = cuts.clone();
                    cuts.mark_unchanged();
                    tokio::spawn(async move {
                        let Ok(mut client) = acceptor.accept(socket).await else {
                            return;
                        };
                        let http2 = client.get_ref().1.alpn_protocol() == Some(b"h2");
                        chosen[usize::from(!http2)].fetch_add(1, Ordering::SeqCst);
                        let to = if http2 { to_http2 } else { to_http1 };
                        let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
                        tokio::select! {
                            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                            _ = cuts.changed() => {}
                        }
                    });
                }
            });
        });
        this
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// What it speaks from now on. Connections that are open end.
    fn speaks(&self, protocols: &[&str]) {
        let offers = protocols.iter().map(|name| name.as_bytes().to_vec());
        *self.offers.lock().unwrap() = offers.collect();
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    fn chosen(&self) -> [usize; 2] {
        [0, 1].map(|way: usize| self.chosen[way].load(Ordering::SeqCst))
    }
}

#[test]
fn each_server_chooses_its_protocol_and_may_change_its_mind() {
    let origin = Origin::start();
    let inner = inner(&origin);
    let server = Choosing::start(inner.address(), origin.address());
    let settings = "protocol = \"auto\"\ntls = { ca = \"ca.pem\", server_name = \"localhost\" }";
    let outer = outer(&[server.url()], settings);
    let mut client = outer.connect();
    let mut ask = |why: &str| {
        for line in ["GET /a", "HEAD /b"] {
            let answer = client.ask(line, &[]);
            assert_eq!(answer.status, 200, "{why}");
        }
        let answer = client.ask_with("POST /c", &[], b"hello");
        assert_eq!(answer.status, 200, "{why}");
        assert_eq!(origin.last().body, b"hello", "{why}");
        let chunked = "POST /d HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        client.send(chunked);
        client.response("POST").is(200);
        assert_eq!(origin.last().body, b"hello", "{why}");
        assert_eq!(origin.last().header("host"), Some("app.test"), "{why}");
        assert!(origin.last().problems.is_empty(), "{why}");
    };
    ask("it likes HTTP/2 better");
    assert_eq!(server.chosen(), [1, 0], "one connection, shared");

    server.speaks(&["http/1.1"]);
    ask("it speaks HTTP/1.1 now");
    let [http2, http1] = server.chosen();
    assert_eq!(http2, 1);
    assert!(http1 >= 1, "over HTTP/1.1");

    server.speaks(&[]);
    ask("it knows no ALPN");
    assert_eq!(server.chosen()[0], 1);

    server.speaks(&["h2"]);
    // A request that finds its kept connection dead is sent again as HTTP/1.1, which is refused now.
    eventually("it is found out", || {
        outer.connect().ask("GET /a", &[]).status == 200
            && outer.connect().ask("GET /a", &[]).status == 200
    });
    ask("it speaks HTTP/2 only");
    assert!(server.chosen()[0] >= 2);

    server.speaks(&["h2", "http/1.1"]);
    let before = server.chosen();
    let mut websocket = outer.connect();
    websocket.send(
        "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    websocket.response("GET").is(101);
    let after = server.chosen();
    assert_eq!(after[1], before[1] + 1, "a WebSocket needs HTTP/1.1");
}

#[test]
fn servers_of_one_upstream_may_choose_differently_and_clear_text_chooses_nothing() {
    let origin = Origin::start();
    let inner = inner(&origin);
    let new = Choosing::start(inner.address(), origin.address());
    let old = Choosing::start(inner.address(), origin.address());
    old.speaks(&["http/1.1"]);
    let clear = format!("http://{}", origin.address());
    let settings = "protocol = \"auto\"\ntls = { ca = \"ca.pem\", server_name = \"localhost\" }\n\
         health = { path = \"/up\", interval = \"200ms\", timeout = \"200ms\" }";
    let outer = outer(&[new.url(), old.url(), clear], settings);
    let mut client = H2::over(outer.connect(), &[]);
    for _ in 0..9 {
        client.get("/x").is(200);
    }
    eventually("health is asked for as each speaks", || {
        let [http2, http1] = new.chosen();
        http2 > 3 && http1 == 0 && old.chosen()[1] > 3 && old.chosen()[0] == 0
    });
    eventually("all live", || {
        let status = ask(&Place::Socket(outer.path("admin.sock")), "GET", "/status").unwrap();
        let endpoints = status.body["endpoints"].as_array().unwrap();
        endpoints.iter().all(|endpoint| endpoint["state"] == "up")
    });
}
