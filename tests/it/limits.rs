//! Every bound of `[server.limits]` at its edge: one less, exactly, one more.

use std::time::Duration;

use crate::support::client::request;
use crate::support::{Client, End, Gate, Origin, eventually, open};

/// A gate with these limits.
fn gate(origin: &Origin, limits: &str) -> Gate {
    Gate::start(&format!("[server.limits]\n{limits}\n{}", open(origin)))
}

/// The status of the next answer, or none where the connection was closed.
fn status(client: &mut Client) -> Option<u16> {
    match client.try_response("GET", Duration::from_secs(5)) {
        Ok(response) => Some(response.status),
        Err(broken) => {
            assert!(
                broken.end != End::Late && broken.partial.is_none(),
                "{broken:?}"
            );
            None
        }
    }
}

#[test]
fn target_length() {
    let origin = Origin::start();
    let gate = gate(&origin, "target_length = 1000");
    for (length, want) in [(999, 200), (1000, 200), (1001, 414), (4000, 414)] {
        for shape in ["/", "/?"] {
            let target = format!("{shape}{}", "a".repeat(length - shape.len()));
            let response = gate.connect().ask(&format!("GET {target}"), &[]);
            assert_eq!(response.status, want, "{length} bytes of {shape}");
        }
    }
    assert_eq!(origin.count(), 4);
}

#[test]
fn target_far_beyond_any_buffer() {
    let origin = Origin::start();
    let gate = gate(&origin, "");
    let mut client = gate.connect();
    client.write_timeout(Duration::from_secs(5));
    client.send(request(&format!("GET /{}", "a".repeat(200_000)), &[], b""));
    let status = status(&mut client);
    assert!(matches!(status, None | Some(414 | 431)), "{status:?}");
    let line = gate.only_line();
    assert!(
        [414, 431].contains(&line["http.response.status_code"].as_u64().unwrap()),
        "{line}"
    );
}

/// The bytes of the head as they stand on the wire, request line and empty line included.
#[test]
fn header_size() {
    let limit = 16 * 1024;
    let origin = Origin::start();
    let gate = gate(&origin, "header_size = \"16KiB\"");
    let bare = request("GET /x", &["X-Fill: "], b"").len();
    for (size, want) in [
        (limit - 1, 200),
        (limit, 200),
        (limit + 1, 431),
        (limit * 2, 431),
    ] {
        let fill = format!("X-Fill: {}", "a".repeat(size - bare));
        let bytes = request("GET /x", &[&fill], b"");
        assert_eq!(bytes.len(), size);
        let mut client = gate.connect();
        client.send(bytes);
        let status = status(&mut client);
        if want == 200 {
            assert_eq!(status, Some(200), "{size} bytes");
        } else {
            assert!(
                matches!(status, None | Some(431)),
                "{size} bytes: {status:?}"
            );
        }
    }
    assert_eq!(origin.count(), 2);
    let lines = gate.log(4);
    let statuses: Vec<u64> = lines
        .iter()
        .filter_map(|line| line["http.response.status_code"].as_u64())
        .collect();
    assert_eq!(statuses, [200, 200, 431, 431], "each has its line");
}

#[test]
fn header_count() {
    let origin = Origin::start();
    let gate = gate(&origin, "header_count = 20");
    for (count, want) in [(19, 200), (20, 200), (21, 431), (90, 431)] {
        let fields: Vec<String> = (1..count).map(|number| format!("X-{number}: v")).collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let mut client = gate.connect();
        client.send(request("GET /x", &fields, b""));
        assert_eq!(
            status(&mut client),
            Some(want),
            "{count} fields, Host among them"
        );
    }
    assert_eq!(origin.count(), 2);
}

#[test]
fn body_size() {
    let origin = Origin::start();
    let gate = gate(&origin, "body_size = \"64KiB\"");
    let limit = 64 * 1024;
    for (size, want) in [
        (limit - 1, 200),
        (limit, 200),
        (limit + 1, 413),
        (limit * 4, 413),
    ] {
        let body = vec![b'x'; size];
        let mut client = gate.connect();
        client.write_timeout(Duration::from_secs(5));
        client.send(request("POST /length", &[], &body));
        assert_eq!(status(&mut client), Some(want), "{size} bytes by length");

        let mut chunked = Vec::new();
        for piece in body.chunks(10_000) {
            chunked.extend(format!("{:x}\r\n", piece.len()).into_bytes());
            chunked.extend(piece);
            chunked.extend(b"\r\n");
        }
        chunked.extend(b"0\r\n\r\n");
        let mut client = gate.connect();
        client.write_timeout(Duration::from_secs(5));
        client.send(request(
            "POST /chunked",
            &["Transfer-Encoding: chunked"],
            &chunked,
        ));
        assert_eq!(status(&mut client), Some(want), "{size} bytes in chunks");
    }
    assert!(
        origin
            .seen()
            .iter()
            .all(|seen| seen.target != "/length" || seen.body_size <= limit as u64),
        "a length that is too large never goes up"
    );
    assert!(
        origin
            .seen()
            .iter()
            .all(|seen| !seen.complete || seen.body_size <= limit as u64)
    );
}

#[test]
fn too_large_body_is_refused_before_100() {
    let origin = Origin::start();
    let gate = gate(&origin, "body_size = \"1KiB\"");
    let mut client = gate.connect();
    client.send(request(
        "POST /x",
        &["Content-Length: 2000", "Expect: 100-continue"],
        b"",
    ));
    let response = client.response("POST").is(413);
    assert!(response.interim.is_empty());
    assert_eq!(origin.count(), 0);
}

#[test]
fn route_may_have_its_own_body_size() {
    let origin = Origin::start();
    let gate = gate(&origin, "body_size = \"1KiB\"");
    gate.connect()
        .ask_with("POST /upload", &[], &[b'x'; 2000])
        .is(413);
    let config = format!(
        "[server.limits]\nbody_size = \"1KiB\"\n{}",
        open(&origin).replace(
            "allow = \"anyone\"\n",
            "  [[site.route]]\n  path = \"/**\"\n  allow = \"anyone\"\n  [[site.route]]\n  path = \"/upload\"\n  allow = \"anyone\"\n  body_size = \"4KiB\"\n"
        )
    );
    gate.reload(&config)
        .unwrap_or_else(|report| panic!("{report:?}"));
    let mut client = gate.connect();
    client.ask_with("POST /upload", &[], &[b'x'; 4096]).is(200);
    client.ask_with("POST /upload", &[], &[b'x'; 4097]).is(413);
    gate.connect()
        .ask_with("POST /other", &[], &[b'x'; 1025])
        .is(413);
}

/// One more connection than allowed is closed or told 503 at once; when one leaves, the next is served.
#[test]
fn connections() {
    for (limits, what) in [
        ("connections = 5", "all together"),
        ("connections_per_client = 5", "of one client"),
    ] {
        let origin = Origin::start();
        let gate = gate(&origin, limits);
        let mut held: Vec<Client> = (0..5).map(|_| gate.connect()).collect();
        for (number, client) in held.iter_mut().enumerate() {
            assert_eq!(
                client.ask("GET /x", &[]).status,
                200,
                "connection {} {what}",
                number + 1
            );
        }
        let refused = |client: &mut Client| {
            client.send(request("GET /x", &[], b""));
            match client.try_response("GET", Duration::from_millis(700)) {
                Ok(response) => response.status == 503,
                // Closed, or left waiting in the backlog: not served.
                Err(broken) => broken.partial.is_none(),
            }
        };
        let mut sixth = gate.connect();
        assert!(refused(&mut sixth), "connection 6 {what}");
        drop(sixth);
        if limits.contains("per_client") {
            gate.connect_from("127.0.0.7").ask("GET /x", &[]).is(200);
        }
        for client in &mut held {
            client.ask("GET /y", &[]).is(200);
        }
        held.pop();
        eventually("there is room again", || {
            let mut client = gate.connect();
            client.send(request("GET /x", &[], b""));
            client
                .try_response("GET", Duration::from_secs(1))
                .is_ok_and(|response| response.status == 200)
        });
    }
}
