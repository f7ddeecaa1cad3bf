//! TLS on listeners and to upstreams: versions, protocols, certificates by name, client certificates, redirects.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tempfile::TempDir;

use crate::support::certs::{Leaf, certs};
use crate::support::client::request;
use crate::support::{Client, End, Gate, Origin, eventually_some, open};

/// A folder with all certificates.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    certs().write(folder.path());
    folder
}

/// A TLS listener with two certificates, and what else its `tls` table says.
fn gate(origin: &Origin, tls: &str, more: &str) -> Gate {
    let table = format!(
        "address = \"127.0.0.1:0\"\ntls = {{ certificates = [{{ cert = \"server.crt\", key = \"server.key\" }}, {{ cert = \"other.crt\", key = \"other.key\" }}]{tls} }}\n"
    );
    let config = open(origin).replacen("address = \"127.0.0.1:0\"\n", &table, 1);
    Gate::start_in(folder(), &format!("{more}{config}"))
}

#[test]
fn old_versions_are_refused_and_new_ones_spoken() {
    let origin = Origin::start();
    let gate = gate(&origin, "", "");
    for (minor, name) in [(0, "SSL 3.0"), (1, "TLS 1.0"), (2, "TLS 1.1")] {
        let mut client = gate.connect();
        client.send(client_hello(minor));
        assert_ne!(
            client.end(Duration::from_secs(5)),
            End::Late,
            "{name}: closed"
        );
        let answer = client.unread();
        assert!(
            answer.is_empty() || answer[0] == ALERT,
            "{name}: no ServerHello but {answer:?}"
        );
    }
    for (version, want) in [
        (&TLS12, rustls::ProtocolVersion::TLSv1_2),
        (&TLS13, rustls::ProtocolVersion::TLSv1_3),
    ] {
        let config = certs().client_config(&[version], &["http/1.1"], None);
        let (mut client, handshake) = Client::tls(gate.address(), "app.test", config).unwrap();
        assert_eq!(handshake.version, want);
        client.ask("GET /x", &[]).is(200);
    }
    let lines = gate.log(2);
    let versions: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["tls.protocol.version"].as_str())
        .collect();
    assert_eq!(versions, ["1.2", "1.3"], "{lines:?}");
    assert_eq!(lines[0]["url.scheme"], "https");
    assert_eq!(origin.last().header("x-forwarded-proto"), Some("https"));
}

#[test]
fn least_version_can_be_raised() {
    let origin = Origin::start();
    let gate = gate(&origin, ", min_version = \"1.3\"", "");
    let old = certs().client_config(&[&TLS12], &["http/1.1"], None);
    assert!(Client::tls(gate.address(), "app.test", old).is_err());
    let new = certs().client_config(&[&TLS13], &["http/1.1"], None);
    Client::tls(gate.address(), "app.test", new)
        .unwrap()
        .0
        .ask("GET /x", &[])
        .is(200);
}

#[test]
fn http11_is_spoken_where_offered_and_where_nothing_is() {
    let origin = Origin::start();
    let gate = gate(&origin, "", "");
    for (offered, chosen) in [(&["http/1.1"][..], Some(&b"http/1.1"[..])), (&[], None)] {
        let config = certs().client_config(rustls::ALL_VERSIONS, offered, None);
        let (mut client, handshake) = Client::tls(gate.address(), "app.test", config).unwrap();
        assert_eq!(handshake.alpn.as_deref(), chosen);
        client.ask("GET /x", &[]).is(200);
        client.ask("GET /y", &[]).is(200);
    }
}

/// The client verifies chain and name: a wrong certificate fails the handshake.
#[test]
fn name_picks_the_certificate() {
    let origin = Origin::start();
    let gate = gate(&origin, "", "");
    for (name, leaf) in [
        ("app.test", &certs().server),
        ("APP.Test", &certs().server),
        ("admin.test", &certs().server),
        ("other.test", &certs().other),
        ("OTHER.TEST", &certs().other),
    ] {
        let (mut client, handshake) = Client::tls(gate.address(), name, certs().any_client())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(handshake.certificate, leaf.der(), "{name}");
        client.ask("GET /x", &[&format!("Host: {name}")]).is(200);
    }
}

#[test]
fn rules_go_by_host_and_the_certificate_must_cover_it() {
    let origin = Origin::start();
    let gate = gate(
        &origin,
        "",
        "[[deny]]\nname = \"admin-host\"\nhost = \"admin.test\"\n",
    );
    let ask = |name: &str, host: &str| {
        let (mut client, _) = Client::tls(gate.address(), name, certs().any_client()).unwrap();
        client.ask("GET /x", &[&format!("Host: {host}")]).status
    };
    assert_eq!(
        ask("app.test", "admin.test"),
        403,
        "denied by Host though the name is another"
    );
    assert_eq!(
        ask("admin.test", "app.test"),
        200,
        "and the other way round"
    );
    assert_eq!(
        ask("app.test", "other.test"),
        421,
        "a host that the certificate does not cover (RFC 9110 §15.5.20)"
    );
    assert_eq!(origin.count(), 1);
}

#[test]
fn clear_text_on_a_tls_listener_is_refused() {
    let origin = Origin::start();
    let gate = gate(&origin, "", "");
    let mut client = gate.connect();
    client.send(request("GET /x", &[], b""));
    match client.try_response("GET", Duration::from_secs(5)) {
        Ok(response) => assert_eq!(response.status, 400),
        Err(broken) => assert_ne!(broken.end, End::Late),
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn silent_handshake_is_ended() {
    let origin = Origin::start();
    let gate = gate(&origin, "", "[server.limits]\nheader_timeout = \"1s\"\n");
    let mut client = gate.connect();
    client.send(&client_hello(3)[..20]);
    assert_ne!(client.end(Duration::from_secs(5)), End::Late);
}

#[test]
fn client_certificates_are_verified() {
    let origin = Origin::start();
    let gate = gate(
        &origin,
        ", client_ca = \"ca.pem\", client_certificate = \"required\", crl = \"crl.pem\"",
        "",
    );
    for version in [&TLS12, &TLS13] {
        let ask = |leaf: Option<&Leaf>| -> Option<u16> {
            let config = certs().client_config(&[version], &["http/1.1"], leaf);
            let (mut client, _) = Client::tls(gate.address(), "app.test", config).ok()?;
            client.send(request("GET /x", &[], b""));
            let response = client.try_response("GET", Duration::from_secs(5));
            response.ok().map(|response| response.status)
        };
        let before = origin.count();
        for (leaf, why) in [
            (None, "none"),
            (Some(&certs().expired), "expired"),
            (Some(&certs().foreign), "of a foreign CA"),
            (Some(&certs().revoked), "revoked"),
        ] {
            let status = ask(leaf);
            assert!(
                status.is_none_or(|status| (400..500).contains(&status)),
                "{why}: {status:?}"
            );
            assert_eq!(origin.count(), before, "{why}: nothing is forwarded");
        }
        assert_eq!(ask(Some(&certs().client)), Some(200), "a good one");
    }
    let line = eventually_some("the line of a good one", || {
        let lines = gate.log(1);
        lines
            .into_iter()
            .find(|line| line["http.response.status_code"] == 200)
    });
    assert!(
        line["tls.client.subject"]
            .as_str()
            .unwrap()
            .contains("alice"),
        "{line}"
    );
}

#[test]
fn optional_client_certificate_can_be_asked_for_by_a_rule() {
    let origin = Origin::start();
    let gate = gate(
        &origin,
        ", client_ca = \"ca.pem\", client_certificate = \"optional\"",
        "[[deny]]\nname = \"certified-only\"\npath = \"/certified/**\"\nunless = [{ tls.client_cert = true }]\n",
    );
    for (leaf, target, status, why) in [
        (None, "/x", 200, "nobody asks"),
        (None, "/certified", 403, "asked for, none shown"),
        (Some(&certs().client), "/certified", 200, "asked for, shown"),
    ] {
        let config = certs().client_config(rustls::ALL_VERSIONS, &["http/1.1"], leaf);
        let (mut client, _) = Client::tls(gate.address(), "app.test", config).unwrap();
        assert_eq!(
            client.ask(&format!("GET {target}"), &[]).status,
            status,
            "{why}"
        );
    }
}

#[test]
fn clear_listener_redirects_to_https() {
    let origin = Origin::start();
    let gate = Gate::start(&open(&origin).replacen(
        "address = \"127.0.0.1:0\"\n",
        "address = \"127.0.0.1:0\"\nredirect_https = true\n",
        1,
    ));
    let mut client = gate.connect();
    for (line, location) in [
        ("GET /a%2Fb?x=%20", "https://app.test/a%2Fb?x=%20"),
        ("POST /x", "https://app.test/x"),
        ("GET /", "https://app.test/"),
    ] {
        let response = client.ask(line, &["Content-Length: 0"]).is(308);
        assert_eq!(response.header("location"), Some(location));
    }
    for host in ["a b", "app.test/x", "user@app.test"] {
        let response = gate.connect().ask("GET /x", &[&format!("Host: {host}")]);
        assert_eq!(response.status, 400, "{host}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn renewed_certificate_serves_new_connections_and_keeps_old_ones() {
    let origin = Origin::start();
    let gate = gate(&origin, "", "");
    let (mut old, handshake) =
        Client::tls(gate.address(), "app.test", certs().any_client()).unwrap();
    assert_eq!(handshake.certificate, certs().server.der());
    old.ask("GET /x", &[]).is(200);

    gate.write("server.key", "no key at all");
    assert!(gate.reload_as_is().is_err(), "a broken key is refused");
    let (_, handshake) = Client::tls(gate.address(), "app.test", certs().any_client()).unwrap();
    assert_eq!(
        handshake.certificate,
        certs().server.der(),
        "and changes nothing"
    );

    let renewed = crate::support::certs::renewed();
    gate.write("server.crt", &renewed.cert);
    gate.write("server.key", &renewed.key);
    gate.reload_as_is()
        .unwrap_or_else(|report| panic!("{report:?}"));
    let (mut new, handshake) =
        Client::tls(gate.address(), "app.test", certs().any_client()).unwrap();
    assert_eq!(handshake.certificate, renewed.der());
    new.ask("GET /x", &[]).is(200);
    old.ask("GET /x", &[]).is(200);
}

#[test]
fn upstream_over_tls_is_verified() {
    let secure = tls_origin(&certs().server);
    for (url, tls, status, why) in [
        (
            format!("https://localhost:{}", secure.port()),
            "{ ca = \"ca.pem\" }",
            200,
            "chain and name are right",
        ),
        (
            format!("https://{secure}"),
            "{ ca = \"ca.pem\", server_name = \"app.test\" }",
            200,
            "the name is given",
        ),
        (
            format!("https://{secure}"),
            "{ ca = \"ca.pem\" }",
            502,
            "the certificate names no address",
        ),
        (
            format!("https://{secure}"),
            "{ ca = \"ca.pem\", server_name = \"evil.test\" }",
            502,
            "another name",
        ),
        (
            format!("https://localhost:{}", secure.port()),
            "{}",
            502,
            "the system does not know our CA",
        ),
    ] {
        let origin = Origin::start();
        let config = open(&origin)
            .replace(
                &format!("\"http://{}\"", origin.address()),
                &format!("\"{url}\""),
            )
            .replace("connect_timeout", &format!("tls = {tls}\nconnect_timeout"));
        let gate = Gate::start_in(folder(), &config);
        let response = gate.connect().ask("GET /x", &[]);
        assert_eq!(response.status, status, "{why}: {}", response.text());
        if status == 502 {
            assert_eq!(gate.only_line()["response.source"], "proxy", "{why}");
        }
    }
}

/// An origin that answers one request a connection over TLS.
fn tls_origin(leaf: &Leaf) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(leaf.cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            thread::spawn(move || {
                let mut stream = rustls::StreamOwned::new(connection, stream);
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                drop(stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
                ));
                stream.conn.send_close_notify();
                drop(stream.flush());
            });
        }
    });
    address
}

/// A ClientHello of version 3.`minor` with suites of its time.
fn client_hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    body.push(0);
    let suites: [u16; 7] = [0xc009, 0xc00a, 0xc013, 0xc014, 0x002f, 0x0035, 0x000a];
    body.extend([0, suites.len() as u8 * 2]);
    body.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
    body.extend([1, 0]);
    let name = b"app.test";
    let mut extensions = vec![
        0,
        0,
        0,
        name.len() as u8 + 5,
        0,
        name.len() as u8 + 3,
        0,
        0,
        name.len() as u8,
    ];
    extensions.extend(name);
    extensions.extend([0, 10, 0, 6, 0, 4, 0, 23, 0, 24]);
    extensions.extend([0, 11, 0, 2, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut handshake = vec![1, 0];
    handshake.extend((body.len() as u16).to_be_bytes());
    handshake.extend(body);
    let mut record = vec![22, 3, minor.min(1)];
    record.extend((handshake.len() as u16).to_be_bytes());
    record.extend(handshake);
    record
}

/// The content type of an alert record.
const ALERT: u8 = 21;

#[test]
fn browsers_are_told_to_come_back_with_https_only() {
    let origin = Origin::scripted(|exchange| {
        exchange.answer("200 OK\r\nStrict-Transport-Security: max-age=1", b"")
    });
    let deny = "[[deny]]\nname = \"closed\"\npath = \"/closed/**\"\n";
    let gate = gate(
        &origin,
        ", hsts = { max_age = \"365d\", subdomains = true, preload = true }",
        &format!("{deny}[[listener]]\naddress = \"127.0.0.1:0\"\n"),
    );
    let values = |response: &crate::support::Response| -> Vec<String> {
        let fields = response.fields.iter();
        let fields =
            fields.filter(|(name, _)| name.eq_ignore_ascii_case("strict-transport-security"));
        fields.map(|(_, value)| value.clone()).collect()
    };
    let (mut client, _) = Client::tls(gate.listener(1), "app.test", certs().any_client()).unwrap();
    for (path, status, why) in [
        ("/x", 200, "in place of the application's"),
        ("/closed", 403, "on our own answers"),
    ] {
        let response = client.ask(&format!("GET {path}"), &["Host: app.test"]);
        assert_eq!(response.status, status, "{why}");
        let want = "max-age=31536000; includeSubDomains; preload";
        assert_eq!(values(&response), [want], "{why}");
    }
    let response = gate.connect().ask("GET /closed", &[]);
    assert_eq!(response.status, 403);
    assert!(
        values(&response).is_empty(),
        "never in clear text: RFC 6797 section 7.2"
    );
}

#[test]
fn a_session_is_resumed_after_a_reload() {
    let origin = Origin::start();
    let gate = gate(&origin, "", "");
    let config = certs().any_client();
    let kind = || {
        let mut socket = std::net::TcpStream::connect(gate.address()).unwrap();
        let name = rustls_pki_types::ServerName::try_from("app.test").unwrap();
        let mut connection = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        // Tickets come behind the handshake, with the answer.
        stream
            .write_all(&request(
                "GET /x",
                &["Host: app.test", "Connection: close"],
                b"",
            ))
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        connection.handshake_kind().unwrap()
    };
    assert_eq!(kind(), rustls::HandshakeKind::Full);
    assert_eq!(kind(), rustls::HandshakeKind::Resumed);
    gate.reload_as_is()
        .unwrap_or_else(|report| panic!("{report:?}"));
    assert_eq!(
        kind(),
        rustls::HandshakeKind::Resumed,
        "the keys outlive a reload"
    );
}
