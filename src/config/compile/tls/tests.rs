//! Certificates made here, read from files, and shaken hands with.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::{ClientConnection, ServerConnection};
use rustls_pki_types::ServerName;

use super::*;
use crate::config::diagnostic::SourceFile;
use crate::config::node::{FileId, parse};

type Authority = Issuer<'static, KeyPair>;

/// A folder with an authority and what it issued:
/// `app` (app.test, *.wild.test, 127.0.0.1), `other` (other.test), `old`, `soon`, `plain` (no name), `client`, `revoked`,
/// `foreign` (another authority's).
struct Shop(tempfile::TempDir);

impl Shop {
    fn open() -> Self {
        let shop = Self(tempfile::tempdir().unwrap());
        let authority = shop.authority("ca", "the authority");
        let stranger = shop.authority("stranger", "somebody else");
        for (name, names, until, serial) in [
            (
                "app",
                vec!["app.test", "*.wild.test", "127.0.0.1", "::1"],
                (2027, 11),
                10,
            ),
            ("other", vec!["Other.test"], (2027, 11), 11),
            ("old", vec!["app.test"], (2026, 10), 12),
            ("soon", vec!["app.test"], (2026, 12), 13),
            ("early", vec!["app.test"], (2028, 11), 18),
            ("plain", vec![], (2027, 11), 14),
            ("client", vec!["client"], (2027, 11), 15),
            ("revoked", vec!["client"], (2027, 11), 16),
        ] {
            shop.issue(&authority, name, &names, until, serial);
        }
        shop.issue(&stranger, "foreign", &["client"], (2027, 11), 17);
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 11, 1),
            next_update: date_time_ymd(2036, 11, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(16),
                revocation_time: date_time_ymd(2026, 11, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&authority).unwrap();
        shop.write("crl.pem", list.pem().unwrap().as_bytes());
        shop.write("crl.der", list.der());
        shop.write("nonsense", b"nonsense");
        shop.write(
            "locked.key",
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        shop
    }

    fn authority(&self, file: &str, name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        self.write(
            &format!("{file}.pem"),
            params.self_signed(&key).unwrap().pem().as_bytes(),
        );
        Issuer::new(params, key)
    }

    fn issue(&self, by: &Authority, name: &str, names: &[&str], until: (i32, u8), serial: u64) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let from = if until.0 > 2027 { 2027 } else { 2025 };
        params.not_before = date_time_ymd(from, 11, 1);
        params.not_after = date_time_ymd(until.0, until.1, 1);
        params.serial_number = Some(SerialNumber::from(serial));
        let certificate = params.signed_by(&key, by).unwrap();
        self.write(&format!("{name}.pem"), certificate.pem().as_bytes());
        self.write(&format!("{name}.key"), key.serialize_pem().as_bytes());
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path().join(name), content).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn context(&self, text: &str) -> (Table, Context) {
        let (root, syntax) = parse(text, FileId(0));
        assert_eq!(syntax, [], "{text}");
        let mut cx = Context {
            now: "2026-11-22T12:00:00Z".parse().unwrap(),
            ..Context::default()
        };
        cx.report.files.push(SourceFile {
            name: Arc::from("portcullis.toml"),
            folder: self.path().to_owned(),
            text: Arc::from(text),
        });
        (root, cx)
    }

    fn server(&self, text: &str) -> (Option<Arc<ServerTls>>, Vec<String>) {
        let (root, mut cx) = self.context(text);
        let tls = server(&root, &Table::default(), &mut cx);
        (tls, findings(&cx))
    }

    fn client(&self, text: &str) -> (Option<Arc<ClientTls>>, Vec<String>) {
        let (root, mut cx) = self.context(text);
        let tls = client(Some(&root), &mut cx);
        (tls, findings(&cx))
    }
}

fn findings(cx: &Context) -> Vec<String> {
    let found = cx.report.diagnostics.iter();
    found
        .map(|d| format!("{:?} {}: {}", d.severity, d.code, d.message))
        .collect()
}

/// Shakes hands in memory; what the server then knows, or why there was no handshake.
fn handshake(
    server: &ServerTls,
    client: &ClientTls,
    name: &str,
) -> Result<ServerConnection, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(&client.config), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(&server.config)).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(server)
}

const APP: &str = "certificates = [{ cert = \"app.pem\", key = \"app.key\" }, { cert = \"other.pem\", key = \"other.key\" }]\n";

#[test]
fn every_mistake_in_the_tls_of_a_listener_is_told() {
    let shop = Shop::open();
    let one = |cert: &str, key: &str| {
        format!("certificates = [{{ cert = \"{cert}\", key = \"{key}\" }}]")
    };
    let with = |rest: &str| format!("{APP}{rest}");
    for (text, want) in [
        (
            String::new(),
            "Error no-certificate: `tls` has no certificate",
        ),
        (
            one("absent.pem", "app.key"),
            "Error unreadable-certificate: cannot read a certificate from `absent.pem`",
        ),
        (
            one("app.pem", "absent.key"),
            "Error unreadable-key: cannot read a private key from `absent.key`",
        ),
        (
            one("nonsense", "app.key"),
            "Error bad-certificate: `nonsense` holds no certificate in PEM form",
        ),
        (
            one("app.pem", "nonsense"),
            "Error bad-key: `nonsense` holds no private key in PEM form",
        ),
        (
            one("app.pem", "locked.key"),
            "Error bad-key: the key `locked.key` is encrypted",
        ),
        (
            one("app.pem", "other.key"),
            "Error key-mismatch: the key `other.key` does not belong to the certificate `app.pem`",
        ),
        (
            one("old.pem", "old.key"),
            "Warning expired-certificate: the certificate `old.pem` expired on 2026-10-01",
        ),
        (
            one("soon.pem", "soon.key"),
            "Note certificate-expires-soon: the certificate `soon.pem` expires on 2026-12-01",
        ),
        (
            one("early.pem", "early.key"),
            "Warning premature-certificate: the certificate `early.pem` is valid only from 2027-11-01",
        ),
        (one("plain.pem", "plain.key"), "Warning unnamed-certificate"),
        (
            with("client_certificate = \"required\""),
            "Error client-ca-missing",
        ),
        (
            with("client_certificate = \"optional\""),
            "Error client-ca-missing",
        ),
        (
            with("client_ca = \"ca.pem\""),
            "Error client-certificate-missing",
        ),
        (
            with("client_ca = \"nonsense\"\nclient_certificate = \"required\""),
            "Error bad-certificate: `nonsense` holds no certificate",
        ),
        (
            with("client_ca = \"ca.pem\"\nclient_certificate = \"required\"\ncrl = \"nonsense\""),
            "Error bad-crl: `nonsense` holds no revocation list",
        ),
        (
            with("client_ca = \"ca.pem\"\nclient_certificate = \"required\"\ncrl = \"absent\""),
            "Error unreadable-crl",
        ),
        (with("crl = \"crl.pem\""), "Warning unused-crl"),
        (APP.to_owned(), ""),
        (
            with("client_ca = \"ca.pem\"\nclient_certificate = \"off\""),
            "",
        ),
        (
            with(
                "client_ca = [\"ca.pem\", \"stranger.pem\"]\nclient_certificate = \"optional\"\ncrl = \"crl.der\"",
            ),
            "",
        ),
        ("acme = { email = \"a@b.example\" }".to_owned(), ""), // it starts without
    ] {
        let (tls, found) = shop.server(&text);
        assert_eq!(
            found.len(),
            usize::from(!want.is_empty()),
            "{text}\n{found:#?}"
        );
        let first = found.first().map_or("", String::as_str);
        assert!(first.starts_with(want), "{text}\n{first}");
        let refused = want.starts_with("Error");
        assert_eq!(tls.is_none(), refused, "{text}");
    }
    let (root, mut cx) = shop.context(&with(
        "client_ca = \"absent.pem\"\nclient_certificate = \"required\"",
    ));
    assert!(server(&root, &Table::default(), &mut cx).is_none());
    let names: Vec<_> = cx
        .watch
        .iter()
        .map(|p| p.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["app.pem", "app.key", "other.pem", "other.key", "absent.pem"],
        "all are watched"
    );
}

#[test]
fn a_certificate_covers_its_names_only() {
    let shop = Shop::open();
    let (tls, _) = shop.server(APP);
    let tls = tls.unwrap();
    for (sni, host, want, why) in [
        (
            Some("app.test"),
            "other.test",
            false,
            "another certificate's name",
        ),
        (Some("other.test"), "app.test", false, "the other way round"),
        (
            None,
            "other.test",
            false,
            "without SNI the first was served",
        ),
        (
            Some("unknown.test"),
            "other.test",
            false,
            "nor for a name of none",
        ),
        (
            Some("app.test"),
            "wild.test",
            false,
            "a wildcard needs a label",
        ),
        (
            Some("app.test"),
            "a.b.wild.test",
            false,
            "and takes one only",
        ),
        (Some("app.test"), "xapp.test", false, "whole names"),
        (Some("app.test"), "", false, "nothing"),
        (Some("app.test"), "127.0.0.2", false, "another address"),
        (
            Some("other.test"),
            "127.0.0.1",
            false,
            "an address of the other",
        ),
        (Some("app.test"), "[::2]", false, "another address"),
        (Some("app.test"), "app.test", true, "its name"),
        (Some("APP.test."), "app.test", true, "case and final dot"),
        (
            Some("x.wild.test"),
            "app.test",
            true,
            "one certificate, two names",
        ),
        (Some("app.test"), "y.wild.test", true, "under its wildcard"),
        (
            Some("other.test"),
            "other.test",
            true,
            "case of the certificate",
        ),
        (None, "app.test", true, "the first"),
        (None, "127.0.0.1", true, "its address"),
        (None, "[::1]", true, "in brackets"),
        (None, "::1", true, "without"),
    ] {
        assert_eq!(tls.covers(sni, host), want, "{sni:?} for {host}: {why}");
    }
    let (plain, _) = shop.server("certificates = [{ cert = \"plain.pem\", key = \"plain.key\" }]");
    assert!(
        plain.unwrap().covers(None, "app.test"),
        "a certificate without names can mislead nobody"
    );
    let dates: Vec<_> = tls
        .certificates()
        .map(|c| c.not_after().as_second())
        .collect();
    assert_eq!(dates, [date_time_ymd(2027, 11, 1).unix_timestamp(); 2]);
}

#[test]
fn clients_shake_hands_by_name() {
    let shop = Shop::open();
    let (server, _) = shop.server(APP);
    let (server, (client, found)) = (server.unwrap(), shop.client("ca = \"ca.pem\""));
    assert_eq!(found, [] as [&str; 0]);
    let client = client.unwrap();
    for (name, served) in [
        ("app.test", true),
        ("APP.Test", true), // SNI in any case
        ("deep.wild.test", true),
        ("other.test", true),
        ("127.0.0.1", true),     // no SNI
        ("unknown.test", false), // the first is served, and the client refuses it
    ] {
        let done = handshake(&server, &client, name);
        assert_eq!(done.is_ok(), served, "{name}");
        if let Ok(connection) = done {
            assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(
                connection.protocol_version(),
                Some(rustls::ProtocolVersion::TLSv1_3)
            );
        }
    }
    let (stranger, _) = shop.client("ca = \"stranger.pem\"");
    assert!(
        handshake(&server, &stranger.unwrap(), "app.test").is_err(),
        "another authority"
    );
}

#[test]
fn versions_begin_where_they_are_told_to() {
    let shop = Shop::open();
    let (client, _) = shop.client("ca = \"ca.pem\"");
    let mut old = (*client.unwrap().config).clone();
    let roots = authorities(
        &parse("ca = \"ca.pem\"", FileId(0)).0.entries[0].node,
        &mut shop.context("").1,
    );
    let mut store = rustls::RootCertStore::empty();
    store.add_parsable_certificates(roots.unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let only_1_2 = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    old.clone_from(&only_1_2);
    let old = ClientTls {
        config: Arc::new(old),
        either: None,
    };
    for (text, spoken) in [
        ("min_version = \"1.3\"", false),
        ("min_version = \"1.2\"", true),
        ("", true),
    ] {
        let (server, _) = shop.server(&format!("{APP}{text}"));
        let done = handshake(&server.unwrap(), &old, "app.test");
        assert_eq!(done.is_ok(), spoken, "{text}");
        if let Ok(connection) = done {
            assert_eq!(
                connection.alpn_protocol(),
                None,
                "a client without ALPN is served too"
            );
        }
    }
}

#[test]
fn client_certificates_are_asked_for_and_checked() {
    let shop = Shop::open();
    let checked = |mode: &str| {
        let text = format!(
            "{APP}client_ca = \"ca.pem\"\nclient_certificate = \"{mode}\"\ncrl = \"crl.pem\""
        );
        shop.server(&text).0.unwrap()
    };
    let (required, optional) = (checked("required"), checked("optional"));
    let client = |who: &str| {
        let own = if who.is_empty() {
            String::new()
        } else {
            format!("\ncert = \"{who}.pem\"\nkey = \"{who}.key\"")
        };
        shop.client(&format!("ca = \"ca.pem\"{own}")).0.unwrap()
    };
    for (who, by_required, by_optional, why) in [
        ("foreign", false, false, "another authority's"),
        ("revoked", false, false, "on the list"),
        ("old", false, false, "expired"),
        ("", false, true, "none"),
        ("client", true, true, "good"),
    ] {
        let client = client(who);
        let got = handshake(&required, &client, "app.test");
        assert_eq!(got.is_ok(), by_required, "{why}: required");
        let got = handshake(&optional, &client, "app.test");
        assert_eq!(got.is_ok(), by_optional, "{why}: optional");
        if let Ok(connection) = got {
            assert_eq!(
                connection.peer_certificates().is_some(),
                !who.is_empty(),
                "{why}"
            );
        }
        // Nothing is resumed: the second handshake is a whole one again.
        if let Ok(connection) = handshake(&optional, &client, "app.test") {
            assert_ne!(
                connection.handshake_kind(),
                Some(rustls::HandshakeKind::Resumed),
                "{why}"
            );
        }
    }
    let plain = shop.server(APP).0.unwrap();
    let client = client("");
    drop(handshake(&plain, &client, "app.test"));
    let again = handshake(&plain, &client, "app.test").unwrap();
    assert_eq!(
        again.handshake_kind(),
        Some(rustls::HandshakeKind::Resumed),
        "elsewhere sessions are resumed"
    );
}

#[test]
fn every_mistake_in_the_tls_towards_an_upstream_is_told() {
    let shop = Shop::open();
    for (text, want) in [
        ("ca = \"absent.pem\"", "Error unreadable-certificate"),
        (
            "ca = \"nonsense\"",
            "Error bad-certificate: `nonsense` holds no certificate",
        ),
        (
            "ca = \"ca.pem\"\ncert = \"client.pem\"",
            "Error missing-key: `cert` stands without `key`",
        ),
        (
            "ca = \"ca.pem\"\nkey = \"client.key\"",
            "Error missing-key: `key` stands without `cert`",
        ),
        (
            "ca = \"ca.pem\"\ncert = \"client.pem\"\nkey = \"app.key\"",
            "Error key-mismatch",
        ),
        (
            "ca = \"ca.pem\"\ncert = \"old.pem\"\nkey = \"old.key\"",
            "Warning expired-certificate",
        ),
        (
            "ca = \"ca.pem\"\ncert = \"client.pem\"\nkey = \"client.key\"",
            "",
        ),
    ] {
        let (tls, found) = shop.client(text);
        assert_eq!(
            found.len(),
            usize::from(!want.is_empty()),
            "{text}\n{found:#?}"
        );
        assert!(
            found.first().map_or("", String::as_str).starts_with(want),
            "{text}\n{found:?}"
        );
        assert_eq!(tls.is_none(), want.starts_with("Error"), "{text}");
    }
}
