//! Requests that last: judged again at the end of a token, when it is revoked and when the policy changes.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portcullis::admin::client::{Place, ask};
use serde_json::json;
use tempfile::TempDir;

use crate::support::tokens::{self, hs, now, staff_but};
use crate::support::{Client, End, Gate, H2, Lost, Origin, PATIENCE, Then, eventually};

fn config(origin: &Origin, denies: &str) -> String {
    format!(
        r#"
[[listener]]
address = "127.0.0.1:0"
h2c = true
[upstream.app]
servers = ["http://{}"]
response_timeout = "30s"
[identity.hs]
jwt = {{ issuer = "heldout", audience = "proxy", secret = "${{file:jwt-hs.secret}}", algorithms = ["HS256"], leeway = "0s" }}
{denies}
[[site]]
host = ["*"]
upstream = "app"
identity = ["hs"]
  [[site.route]]
  path = "/**"
  allow = [{{ auth = "any" }}]
  [[site.route]]
  path = "/open/**"
  allow = "anyone"
"#,
        origin.address()
    )
}

/// Answers that do not end by themselves.
fn endless() -> Origin {
    Origin::scripted(|exchange| {
        let target = exchange.seen.target.clone();
        match target.rsplit('/').next().unwrap() {
            "events" => {
                exchange.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n");
                exchange.wait_for_close();
                Then::Close
            }
            "file" => {
                exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789");
                exchange.wait_for_close();
                Then::Close
            }
            "poll" => {
                exchange.wait_for_close();
                Then::Close
            }
            "upload" => {
                exchange.read_body();
                Then::Close
            }
            _ => Then::Usual,
        }
    })
}

fn start(origin: &Origin) -> Gate {
    let folder = TempDir::new().unwrap();
    tokens::write(folder.path());
    Gate::start_in(folder, &config(origin, ""))
}

fn admin(gate: &Gate, path: &str) {
    let reply = ask(&Place::Socket(gate.path("admin.sock")), "POST", path).unwrap();
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
}

fn scrape(gate: &Gate, name: &str) -> f64 {
    use std::io::{Read as _, Write as _};
    let mut socket = std::os::unix::net::UnixStream::connect(gate.path("admin.sock")).unwrap();
    socket
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn bearer(user: &str, seconds: u64) -> String {
    let claims = staff_but(json!({ "sub": user, "exp": now() + seconds }));
    format!("Authorization: Bearer {}", hs(&claims))
}

/// One request of every lasting kind, under way.
struct Lasting {
    websocket: Client,
    events: Client,
    file: Client,
    poll: Client,
    upload: Client,
    h2: H2,
    streams: [u32; 2],
}

const HANDSHAKE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

fn websocket(gate: &Gate, target: &str, token: &str) -> Client {
    let mut websocket = gate.connect();
    let fields = [&HANDSHAKE[..], &[token]].concat();
    websocket.ask(&format!("GET {target}"), &fields).is(101);
    websocket
}

impl Lasting {
    fn begin(gate: &Gate, origin: &Origin, token: &str) -> Self {
        let known = origin.count();
        let websocket = websocket(gate, "/ws", token);
        let begin = |head: &str| {
            let mut client = gate.connect();
            client.send(format!("{head}\r\nHost: app.test\r\n{token}\r\n\r\n"));
            client
        };
        let mut events = begin("GET /events HTTP/1.1");
        assert_eq!(events.response_head().status, 200);
        events.take_until(b"data: 1\n\n\r\n");
        let mut file = begin("GET /file HTTP/1.1");
        assert_eq!(file.response_head().status, 200);
        file.take(10);
        let poll = begin("GET /poll HTTP/1.1");
        let mut upload = begin("POST /upload HTTP/1.1\r\nContent-Length: 1000");
        upload.send("0123456789");
        let mut h2 = H2::over(gate.connect(), &[]);
        let value = token.strip_prefix("Authorization: ").unwrap();
        let fields = [("authorization", value)];
        let streams = ["GET /events", "GET /poll"].map(|line| h2.ask(line, &fields));
        assert_eq!(h2.head(streams[0]).status, 200);
        eventually("all are under way", || origin.count() == known + 7);
        Self {
            websocket,
            events,
            file,
            poll,
            upload,
            h2,
            streams,
        }
    }

    fn goes_on(&mut self, why: &str) {
        self.websocket.send(b"\x81\x02hi");
        assert_eq!(self.websocket.take(4), b"\x81\x02hi", "{why}");
        for (client, what) in [
            (&mut self.events, "events"),
            (&mut self.file, "file"),
            (&mut self.poll, "poll"),
            (&mut self.upload, "upload"),
        ] {
            assert_eq!(
                client.end(Duration::from_millis(50)),
                End::Late,
                "{why}: {what}"
            );
            assert_eq!(client.unread(), b"", "{why}: {what}");
        }
        assert_eq!(
            self.h2.end(Duration::from_millis(50)),
            End::Late,
            "{why}: h2"
        );
        for stream in self.streams {
            let lost = self.h2.try_answer(stream, Duration::ZERO).unwrap_err();
            assert_eq!(lost, Lost::Ended(End::Late), "{why}: h2");
        }
    }

    fn ends_with(mut self, status: u16, why: &str) {
        assert_eq!(
            self.websocket.take(4),
            [0x88, 2, 3, 0xf0],
            "{why}: Close 1008"
        );
        assert_eq!(self.websocket.end(PATIENCE), End::Closed, "{why}");
        for (mut client, what) in [(self.events, "events"), (self.file, "file")] {
            assert_ne!(client.end(PATIENCE), End::Late, "{why}: {what}");
            assert_eq!(client.unread(), b"", "{why}: {what} ends without its end");
        }
        for (mut client, method) in [(self.poll, "GET"), (self.upload, "POST")] {
            let answer = client.response(method).is(status);
            assert_eq!(
                answer.header("connection"),
                Some("close"),
                "{why}: {method}"
            );
            assert_ne!(client.end(PATIENCE), End::Late, "{why}: {method}");
        }
        let [events, poll] = self.streams;
        let lost = self.h2.try_answer(events, PATIENCE).unwrap_err();
        assert!(matches!(lost, Lost::Reset(_)), "{why}: {lost:?}");
        self.h2.answer(poll).is(status);
    }
}

#[test]
fn what_lasts_is_judged_again_and_cut_where_its_right_is_gone() {
    let origin = endless();
    for (cause, status, word) in [
        ("revoked", 401, "credential_revoked"),
        ("denied", 403, "policy_changed"),
        ("expired", 401, "credential_expired"),
    ] {
        let gate = start(&origin);
        let alice = bearer("alice", if cause == "expired" { 6 } else { 600 });
        let mut bobs = Lasting::begin(&gate, &origin, &bearer("bob", 600));
        let mut alices = Lasting::begin(&gate, &origin, &alice);
        let mut public = websocket(&gate, "/open/ws", "X-None: 1");
        if cause != "expired" {
            alices.goes_on("before");
        }
        match cause {
            "revoked" => admin(&gate, "/revoke?subject=alice&for=1h&reason=stolen"),
            "denied" => {
                let deny = "[[deny]]\nname = \"no-alice\"\nuser = \"alice\"\n";
                gate.reload(&config(&origin, deny)).unwrap();
            }
            _ => {}
        }
        alices.ends_with(status, cause);
        if cause != "expired" {
            eventually("bob's are judged, too", || {
                scrape(
                    &gate,
                    "portcullis_http_requests_judged_again_total{outcome=\"stays\"}",
                ) >= 8.0
            });
        }
        bobs.goes_on(cause);
        public.send(b"\x81\x02hi");
        assert_eq!(public.take(4), b"\x81\x02hi", "{cause}");
        let name = format!("portcullis_http_requests_judged_again_total{{outcome=\"{word}\"}}");
        assert_eq!(scrape(&gate, &name), 7.0, "{cause}");
        let lines = gate.log(7);
        let cut: Vec<_> = lines
            .iter()
            .filter(|line| line["error.type"] == word)
            .collect();
        assert_eq!(cut.len(), 7, "{cause}: {lines:?}");
        for line in cut {
            assert_eq!(line["user.id"], "alice", "{cause}: {line}");
            let error = match cause {
                "revoked" => json!("revoked: stolen"),
                "expired" => json!("expired"),
                _ => json!(null),
            };
            assert_eq!(line["auth.error"], error, "{cause}: {line}");
            let path = line["url.path"].as_str().unwrap();
            let want = match path {
                "/ws" => 101,
                "/events" | "/file" => 200,
                _ => status,
            };
            assert_eq!(line["http.response.status_code"], want, "{cause}: {line}");
        }
        drop((bobs, public));
    }
}

#[test]
fn a_reload_that_takes_no_right_disturbs_nobody() {
    let origin = endless();
    let gate = start(&origin);
    let mut lasting = Lasting::begin(&gate, &origin, &bearer("alice", 600));
    let mut public = gate.connect();
    public.send("GET /open/events HTTP/1.1\r\nHost: app.test\r\n\r\n");
    public.take_until(b"data: 1\n\n\r\n");
    for round in 1..=3_u32 {
        let deny = format!("[[deny]]\nname = \"other\"\nuser = \"mallory-{round}\"\n");
        gate.reload(&config(&origin, &deny)).unwrap();
        eventually("all are judged", || {
            scrape(
                &gate,
                "portcullis_http_requests_judged_again_total{outcome=\"stays\"}",
            ) >= f64::from(8 * round)
        });
        lasting.goes_on("a harmless reload");
        assert_eq!(public.end(Duration::from_millis(50)), End::Late);
    }
    let deny = "[[deny]]\nname = \"nobody\"\nip = \"127.0.0.1\"\n";
    gate.reload(&config(&origin, deny)).unwrap();
    assert_ne!(public.end(PATIENCE), End::Late, "a public one as well");
    lasting.ends_with(403, "denied by address");
}

#[test]
fn a_websocket_ends_between_two_frames() {
    let origin = endless();
    let gate = start(&origin);
    let token = bearer("alice", 600);
    let mut inside = websocket(&gate, "/ws", &token);
    let mut stuck = websocket(&gate, "/ws", &token);
    for socket in [&mut inside, &mut stuck] {
        socket.send(b"\x82\x05he");
        assert_eq!(socket.take(4), b"\x82\x05he");
    }
    admin(&gate, "/revoke?subject=alice&for=1h");
    let name = "portcullis_http_requests_judged_again_total{outcome=\"credential_revoked\"}";
    eventually("both are judged", || scrape(&gate, name) >= 2.0);
    let began = Instant::now();
    assert_eq!(
        inside.end(Duration::from_millis(200)),
        End::Late,
        "a frame is under way"
    );
    inside.send(b"llo\x82\x01x");
    assert_eq!(inside.take(7), [b'l', b'l', b'o', 0x88, 2, 3, 0xf0]);
    assert_eq!(inside.end(PATIENCE), End::Closed);
    assert_eq!(inside.unread(), b"", "nothing behind the Close");
    assert_ne!(stuck.end(PATIENCE), End::Late, "the frame does not come");
    assert_eq!(stuck.unread(), b"", "no Close inside a frame");
    assert!(began.elapsed() > Duration::from_secs(3), "it had its time");
    eventually("the origin's sides close", || origin.open() == 0);
}

#[test]
fn a_credential_is_verified_anew_and_a_source_that_is_away_is_waited_for() {
    let origin = endless();
    let word = Arc::new(Mutex::new("200 OK"));
    let (said, now_says) = (Arc::clone(&word), Arc::clone(&word));
    let service = Origin::scripted(move |exchange| {
        let head = format!("{}\r\nX-Remote-User: carol", said.lock().unwrap());
        exchange.answer(&head, "")
    });
    let says = |word| *now_says.lock().unwrap() = word;
    let folder = TempDir::new().unwrap();
    let key = |id: &str| {
        let digest = portcullis::identity::api_key::sha256(id);
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[key]]\nid = \"{id}\"\nsha256 = \"{digits}\"\n")
    };
    std::fs::write(folder.path().join("keys.toml"), key("one") + &key("two")).unwrap();
    let config = format!(
        r#"
[[listener]]
address = "127.0.0.1:0"
[upstream.app]
servers = ["http://{}"]
[identity.keys]
api_key = {{ file = "keys.toml" }}
[identity.service]
forward_auth = {{ url = "http://{}/check", headers_to = ["X-Session"], headers_from = {{ user = "X-Remote-User" }} }}
[[site]]
host = ["*"]
upstream = "app"
identity = ["keys", "service"]
allow = [{{ auth = "any" }}]
"#,
        origin.address(),
        service.address()
    );
    let gate = Gate::start_in(folder, &config);
    let events = |credential: &str| {
        let mut client = gate.connect();
        client.send(format!(
            "GET /events HTTP/1.1\r\nHost: app.test\r\n{credential}\r\n\r\n"
        ));
        assert_eq!(client.response_head().status, 200);
        client.take_until(b"data: 1\n\n\r\n");
        client
    };
    let count = |outcome: &str| {
        scrape(
            &gate,
            &format!("portcullis_http_requests_judged_again_total{{outcome=\"{outcome}\"}}"),
        )
    };
    let (mut one, mut two) = (events("X-Api-Key: one"), events("X-Api-Key: two"));
    let mut carol = events("X-Session: s");
    gate.write("keys.toml", key("two"));
    says("500 Internal Server Error");
    gate.reload_as_is().unwrap();
    assert_ne!(one.end(PATIENCE), End::Late, "its key is gone");
    eventually("the other stays", || count("stays") >= 1.0);
    says("200 OK");
    eventually("the service is asked once more", || count("stays") >= 2.0);
    for client in [&mut two, &mut carol] {
        assert_eq!(client.end(Duration::from_millis(50)), End::Late);
    }
    says("500 Internal Server Error");
    gate.reload_as_is().unwrap();
    assert_ne!(
        carol.end(PATIENCE * 2),
        End::Late,
        "nobody could say for long"
    );
    assert_eq!(two.end(Duration::from_millis(50)), End::Late);
    assert_eq!(
        (count("policy_changed"), count("fact_unavailable")),
        (1.0, 1.0)
    );
    let lines = gate.log(2);
    let errors = lines
        .iter()
        .map(|line| (&line["error.type"], &line["auth.error"]));
    let errors: Vec<_> = errors.collect();
    assert_eq!(
        errors,
        [
            (&json!("policy_changed"), &json!("unknown_credential")),
            (&json!("fact_unavailable"), &json!("source_failed")),
        ]
    );
}
