//! The PROXY protocol in front of a listener: whose header is believed, and what follows from it.

use std::time::Duration;

use rustls::version::TLS13;
use tempfile::TempDir;

use crate::support::certs::certs;
use crate::support::client::{latin1, request};
use crate::support::{Client, End, Gate, Origin, open};

/// Only 127.0.0.2 and 10.0.0.0/8 are believed; only 203.0.113.5 may pass.
fn gate(origin: &Origin, more: &str) -> Gate {
    let config = open(origin).replacen(
        "address = \"127.0.0.1:0\"\n",
        "address = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\n",
        1,
    );
    Gate::start(&format!(
        "{more}\n[client]\ntrusted_proxies = [\"127.0.0.2/32\", \"10.0.0.0/8\"]\n{config}\
         [[deny]]\nname = \"only-five\"\nunless = [{{ ip = \"203.0.113.5\" }}, {{ ip = \"127.0.0.2\" }}]\n"
    ))
}

/// Version 2 with a command, IPv4 addresses and nothing else.
fn v2(command: u8) -> Vec<u8> {
    let mut bytes = latin1("\r\n\r\n\0\r\nQUIT\n");
    bytes.extend([command, 0x11, 0, 12]);
    bytes.extend([203, 0, 113, 5, 198, 51, 100, 1, 0x04, 0xd2, 0, 80]);
    bytes
}

const FIVE: &[u8] = b"PROXY TCP4 203.0.113.5 198.51.100.1 1234 80\r\n";

#[test]
fn what_is_no_word_of_a_trusted_peer_is_closed_and_logged() {
    let origin = Origin::start();
    let gate = gate(&origin, "[server.limits]\nheader_timeout = \"1s\"");
    for (number, (peer, opening, why)) in [
        ("127.0.0.1", FIVE, "a stranger's word"),
        ("127.0.0.3", b"", "a stranger without a word"),
        ("127.0.0.2", b"", "no word"),
        ("127.0.0.2", b"PROXY TCP4 ::1 ::1 1 2\r\n", "malformed"),
        (
            "127.0.0.2",
            b"PROXY TCP4 203.0.113.5",
            "a word too late, and a request in it",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = gate.connect_from(peer);
        client.send([opening, &request("GET /x", &[], b"")].concat());
        let end = client.end(Duration::from_secs(5));
        assert_ne!(end, End::Late, "{why}: closed");
        assert!(client.unread().is_empty(), "{why}: not a word to it");
        let lines = gate.log(number + 1);
        let line = lines.last().unwrap();
        assert_eq!(lines.len(), number + 1, "{why}: one line");
        assert_eq!(line["error.type"], "proxy_protocol", "{why}");
        assert_eq!(line["http.response.status_code"], 400, "{why}");
        assert_eq!(line["network.peer.address"], peer, "{why}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn half_a_header_is_ended_in_time() {
    let origin = Origin::start();
    let gate = gate(&origin, "[server.limits]\nheader_timeout = \"1s\"");
    for part in [&FIVE[..20], &v2(0x21)[..20]] {
        let mut client = gate.connect_from("127.0.0.2");
        client.send(part);
        assert_ne!(client.end(Duration::from_secs(5)), End::Late);
    }
    let lines = gate.log(2);
    assert_eq!(lines[0]["error.type"], "proxy_protocol");
    assert_eq!(lines[1]["error.type"], "proxy_protocol");
}

#[test]
fn source_takes_the_place_of_the_peer() {
    let origin = Origin::start();
    let gate = gate(&origin, "");
    for (opening, fields, peer, client, why) in [
        (
            FIVE.to_vec(),
            &[][..],
            "203.0.113.5",
            "203.0.113.5",
            "version 1",
        ),
        (v2(0x21), &[], "203.0.113.5", "203.0.113.5", "version 2"),
        (
            b"PROXY TCP6 ::ffff:203.0.113.5 :: 1234 80\r\n".to_vec(),
            &[],
            "203.0.113.5",
            "203.0.113.5",
            "a mapped address is IPv4",
        ),
        (
            FIVE.to_vec(),
            &["X-Forwarded-For: 203.0.113.9"],
            "203.0.113.5",
            "203.0.113.5",
            "whoever it is, not the balancer, so its forwarding headers are not believed",
        ),
        (
            b"PROXY TCP4 10.1.2.3 198.51.100.1 1234 80\r\n".to_vec(),
            &["X-Forwarded-For: 203.0.113.5"],
            "10.1.2.3",
            "203.0.113.5",
            "another trusted proxy, so they are",
        ),
        (
            b"PROXY UNKNOWN\r\n".to_vec(),
            &[],
            "127.0.0.2",
            "127.0.0.2",
            "the peer itself",
        ),
        (v2(0x20), &[], "127.0.0.2", "127.0.0.2", "the peer itself"),
    ] {
        let before = gate.log_text().lines().count();
        let mut connection = gate.connect_from("127.0.0.2");
        connection.send(&opening);
        for target in ["GET /one", "GET /two"] {
            connection.ask(target, fields).is(200);
        }
        for line in &gate.log(before + 2)[before..] {
            assert_eq!(line["network.peer.address"], *peer, "{why}: {line}");
            assert_eq!(line["client.address"], *client, "{why}: {line}");
            if peer == "203.0.113.5" {
                assert_eq!(line["network.peer.port"], 1234, "{why}");
            }
        }
        assert_eq!(
            origin.last().header("x-forwarded-for"),
            Some(client),
            "{why}"
        );
    }
    let mut denied = gate.connect_from("127.0.0.2");
    denied.send(b"PROXY TCP4 203.0.113.9 198.51.100.1 1234 80\r\n");
    denied.ask("GET /x", &[]).is(403);
}

#[test]
fn second_header_is_no_request() {
    let origin = Origin::start();
    let gate = gate(&origin, "");
    let mut client = gate.connect_from("127.0.0.2");
    client.send([FIVE, FIVE].concat());
    client.response("GET").is(400);
    assert_eq!(origin.count(), 0);
}

#[test]
fn connections_are_counted_for_the_client_behind_the_balancer() {
    let origin = Origin::start();
    let gate = gate(&origin, "[server.limits]\nconnections_per_client = 2");
    let open = |line: &str| {
        let mut client = gate.connect_from("127.0.0.2");
        client.send(line);
        client.send(request("GET /x", &[], b""));
        client
    };
    let line = std::str::from_utf8(FIVE).unwrap();
    let held: Vec<Client> = (0..2)
        .map(|_| {
            let mut client = open(line);
            client.response("GET").is(200);
            client
        })
        .collect();
    open(line).response("GET").is(503);
    open("PROXY UNKNOWN\r\n").response("GET").is(200);
    drop(held);
}

#[test]
fn probe_that_says_nothing_is_no_request() {
    let origin = Origin::start();
    let gate = gate(&origin, "");
    for _ in 0..3 {
        let mut probe = gate.connect_from("127.0.0.2");
        probe.half_close();
        assert_ne!(probe.end(Duration::from_secs(5)), End::Late);
    }
    let mut client = gate.connect_from("127.0.0.2");
    client.send(FIVE);
    client.ask("GET /x", &[]).is(200);
    assert_eq!(gate.only_line()["url.path"], "/x");
}

#[test]
fn tls_begins_behind_the_header() {
    let origin = Origin::start();
    let folder = TempDir::new().unwrap();
    certs().write(folder.path());
    let config = open(&origin).replacen(
        "address = \"127.0.0.1:0\"\n",
        "address = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\n\
         tls = { certificates = [{ cert = \"server.crt\", key = \"server.key\" }] }\n",
        1,
    );
    let config = format!("[client]\ntrusted_proxies = [\"127.0.0.1/32\"]\n{config}");
    let gate = Gate::start_in(folder, &config);
    let tls = || certs().client_config(&[&TLS13], &["http/1.1"], None);
    for opening in [FIVE, &v2(0x21)] {
        let connected = Client::tls_after(opening, gate.address(), "app.test", tls());
        let (mut client, _) = connected.unwrap();
        client.ask("GET /x", &[]).is(200);
        let seen = origin.last();
        assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.5"));
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    }
    assert!(
        Client::tls(gate.address(), "app.test", tls()).is_err(),
        "a handshake without one"
    );
}
