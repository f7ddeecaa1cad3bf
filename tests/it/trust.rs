//! Trust that changes: credentials that are revoked, by file and while running.

use std::time::Duration;

use portcullis::admin::client::{Place, ask};
use serde_json::json;
use tempfile::TempDir;

use crate::support::certs::{Leaf, certs, client_leaf};
use crate::support::tokens::{self, hs, now, staff, staff_but};
use crate::support::{Client, Gate, Origin, Response, eventually};

const SECRET_KEY: &str = "pk_a-key-of-a-program";

fn config(origin: &Origin, more: &str) -> String {
    format!(
        r#"
[[listener]]
address = "127.0.0.1:0"
tls = {{ certificates = [{{ cert = "server.crt", key = "server.key" }}], client_ca = "ca.pem", client_certificate = "optional" }}
[upstream.app]
servers = ["http://{}"]
{more}
[identity.hs]
jwt = {{ issuer = "heldout", audience = "proxy", secret = "${{file:jwt-hs.secret}}", algorithms = ["HS256"], roles = "roles" }}
[identity.keys]
api_key = {{ file = "keys.toml" }}
[identity.cert]
mtls = {{ user = "cn" }}
[[site]]
host = ["*"]
upstream = "app"
identity = ["hs", "keys", "cert"]
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/in/**"
  allow = [{{ auth = "any" }}]
  [[site.route]]
  path = "/tls/**"
  allow = [{{ tls.client_cert = true }}]
"#,
        origin.address()
    )
}

const FILE: &str = "[revocation]\nfile = \"revoked.toml\"\n";

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    certs().write(folder.path());
    tokens::write(folder.path());
    let digest = portcullis::identity::api_key::sha256(SECRET_KEY);
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let keys = format!("[[key]]\nid = \"ci\"\nuser = \"builder\"\nsha256 = \"{digits}\"\n");
    std::fs::write(folder.path().join("keys.toml"), keys).unwrap();
    std::fs::write(folder.path().join("revoked.toml"), "").unwrap();
    folder
}

fn get(gate: &Gate, leaf: Option<&Leaf>, target: &str, fields: &[&str]) -> Response {
    let config = certs().client_config(rustls::ALL_VERSIONS, &["http/1.1"], leaf);
    let (mut client, _) = Client::tls(gate.address(), "app.test", config).unwrap();
    let fields = [&["Host: app.test"], fields].concat();
    client.ask(&format!("GET {target}"), &fields)
}

fn admin(gate: &Gate, method: &str, path: &str) -> (u16, serde_json::Value) {
    let reply = ask(&Place::Socket(gate.path("admin.sock")), method, path).unwrap();
    (reply.status, reply.body)
}

fn bearer(claims: &serde_json::Value) -> String {
    format!("Authorization: Bearer {}", hs(claims))
}

fn error_of(gate: &Gate, response: &Response) -> String {
    let id = response.header("x-request-id").unwrap().to_owned();
    let mut found = String::new();
    eventually("its line", || {
        let text = gate.log_text();
        let line = text.lines().find(|line| line.contains(&id));
        line.is_some_and(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            found = line["auth.error"].as_str().unwrap_or_default().to_owned();
            true
        })
    });
    found
}

#[test]
fn what_is_revoked_counts_no_longer_from_the_next_request_on() {
    let origin = Origin::start();
    let gate = Gate::start_in(folder(), &config(&origin, FILE));
    let leaf = client_leaf(&[], &["carol"]);
    let other = client_leaf(&[], &["dave"]);
    let spki = {
        use rustls_pki_types::pem::PemObject as _;
        let der = rustls_pki_types::CertificateDer::from_pem_slice(leaf.cert.as_bytes()).unwrap();
        let read = portcullis::identity::certificate::ClientCertificate::read(&der);
        read.unwrap().spki
    };
    let (alice, jti) = (
        bearer(&staff()),
        bearer(&staff_but(json!({ "sub": "zoe", "jti": "token-1" }))),
    );
    let later = bearer(&staff_but(json!({ "iat": now() + 30, "exp": now() + 900 })));
    let sibling = bearer(&staff_but(json!({ "sub": "zoe", "jti": "token-2" })));
    let key = format!("X-Api-Key: {SECRET_KEY}");
    let digest = portcullis::identity::api_key::sha256(SECRET_KEY);
    let digest = portcullis::identity::revocation::key_digest(&digest);
    let digest = digest.replace(':', "%3A");
    for (query, leaf, fields, stays, why) in [
        ("subject=alice", None, &alice, &sibling, "a subject"),
        (
            "subject=alice&source=hs",
            None,
            &alice,
            &sibling,
            "of a source",
        ),
        (
            "subject=alice&issued_before=now",
            None,
            &alice,
            &later,
            "signed out, and in again",
        ),
        ("token=token-1", None, &jti, &sibling, "a token"),
        ("key=ci", None, &key, &alice, "a key by its id"),
        (
            &*format!("key={digest}"),
            None,
            &key,
            &alice,
            "a key by its digest",
        ),
        ("subject=builder", None, &key, &alice, "a key by its user"),
        (
            &*format!("spki={spki}"),
            Some(&leaf),
            &String::from("X-None: 1"),
            &alice,
            "a certificate by its key",
        ),
        (
            "subject=carol&source=cert",
            Some(&leaf),
            &String::from("X-None: 1"),
            &alice,
            "a certificate by its user",
        ),
    ] {
        let round = |want: u16, what: &str| {
            let response = get(&gate, leaf, "/in", &[fields]);
            assert_eq!(response.status, want, "{why}, {what}: {}", response.text());
            get(&gate, None, "/in", &[stays]).is(200);
            get(&gate, Some(&other), "/in", &[]).is(200);
            get(&gate, leaf, "/", &[fields]).is(200);
            response
        };
        round(200, "before");
        round(200, "and remembered");
        let (status, body) = admin(
            &gate,
            "POST",
            &format!("/revoke?{query}&for=1h&reason=laptop%20stolen"),
        );
        assert_eq!(
            (status, &body["kept"]),
            (200, &json!(true)),
            "{why}: {body}"
        );
        let refused = round(401, "revoked");
        assert_eq!(
            refused.reason(),
            "invalid_token",
            "{why}: the client learns no more"
        );
        assert!(!refused.text().contains("stolen") && !refused.text().contains("revoked"));
        assert_eq!(error_of(&gate, &refused), "revoked: laptop stolen", "{why}");
        let (_, listed) = admin(&gate, "GET", "/revocations");
        assert_eq!(
            listed["entries"].as_array().unwrap().len(),
            1,
            "{why}: {listed}"
        );
        gate.reload_as_is().unwrap();
        round(401, "through a reload");
        assert_eq!(
            admin(&gate, "POST", &format!("/unrevoke?{query}")).0,
            200,
            "{why}"
        );
        assert_eq!(
            admin(&gate, "POST", &format!("/unrevoke?{query}")).0,
            404,
            "{why}"
        );
        round(200, "taken back");
    }
    get(&gate, Some(&leaf), "/tls", &[]).is(200);
    admin(&gate, "POST", &format!("/revoke?spki={spki}&for=1h"));
    get(&gate, Some(&leaf), "/tls", &[]).is(403);
    assert!(gate.path("revoked.toml.admin").exists());
    let (status, _) = admin(&gate, "POST", "/revoke?subject=alice");
    assert_eq!(status, 400, "an end must be said");
    let id = get(&gate, Some(&leaf), "/in", &[]);
    let id = id.is(401).header("x-request-id").unwrap().to_owned();
    let (status, told) = admin(&gate, "GET", &format!("/explain/{id}"));
    assert_eq!(
        (status, &told["identity"]["error"]),
        (200, &json!("revoked")),
        "{told}"
    );

    // A new process begins with what was revoked.
    let folder = gate.shutdown();
    let config = std::fs::read_to_string(folder.path().join("portcullis.toml")).unwrap();
    let again = Gate::bare(folder, &config);
    get(&again, Some(&leaf), "/in", &[]).is(401);
    get(&again, None, "/in", &[&alice]).is(200);
}

#[test]
fn a_list_in_a_file_is_read_anew_and_a_broken_one_takes_nothing_back() {
    let origin = Origin::start();
    let gate = Gate::watching(folder(), &config(&origin, FILE));
    let alice = bearer(&staff());
    let status = || get(&gate, None, "/in", &[&alice]).status;
    let metric = |name: &str| {
        let socket = std::os::unix::net::UnixStream::connect(gate.path("admin.sock")).unwrap();
        let text = scrape(socket);
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    assert_eq!(status(), 200);
    assert_eq!(metric("portcullis_revocation_file_good"), Some(1.0));
    gate.write(
        "revoked.toml",
        "[[revoked]]\nsubject = \"alice\"\nreason = \"left\"\n",
    );
    eventually("the file is read", || status() == 401);
    assert_eq!(metric("portcullis_revocations{list=\"file\"}"), Some(1.0));
    assert!(metric("portcullis_revoked_credentials_total") >= Some(1.0));
    assert!(metric("portcullis_revocation_file_age_seconds").is_some());
    gate.write("revoked.toml", "[[revoked]]\nsubjekt = \"bob\"\n");
    eventually("the broken file is noticed", || {
        metric("portcullis_revocation_file_good") == Some(0.0)
    });
    assert_eq!(status(), 401, "the last good list stays");
    std::fs::remove_file(gate.path("revoked.toml")).unwrap();
    gate.reload_as_is().unwrap();
    assert_eq!(status(), 401, "gone: the last good list stays");
    gate.write("revoked.toml", "");
    eventually("alice is back", || status() == 200);
    assert_eq!(metric("portcullis_revocation_file_good"), Some(1.0));
}

fn scrape(mut socket: std::os::unix::net::UnixStream) -> String {
    use std::io::{Read as _, Write as _};
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    socket
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}
