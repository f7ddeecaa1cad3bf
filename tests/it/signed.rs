//! Who asks, told to the application under a signature; and that nobody else can say it.

use std::process::Command;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::gate::{OPENING, front};
use crate::support::tokens::{self, hs, staff, staff_but};
use crate::support::{Gate, H2, Origin};

fn start(origin: &Origin) -> Gate {
    let folder = TempDir::new().unwrap();
    tokens::write(folder.path());
    for (file, kind) in [
        ("p256.pem", &rcgen::PKCS_ECDSA_P256_SHA256),
        ("ed.pem", &rcgen::PKCS_ED25519),
    ] {
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        std::fs::write(folder.path().join(file), pair.serialize_pem()).unwrap();
    }
    let site = |host: &str, key: &str| {
        format!(
            r#"
[[site]]
host = ["{host}"]
upstream = "app"
identity = ["hs"]
headers_to_upstream = {{ user = "X-Login", claim."org.id" = "X-Org", claim."https://app.example/groups" = "X-Groups" }}
signed_identity = {{ header = "X-Identity", key = "{key}" }}
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/in/**"
  allow = [{{ role = "staff" }}]
"#
        )
    };
    let config = format!(
        r#"{}
[identity.hs]
jwt = {{ issuer = "heldout", audience = "proxy", secret = "${{file:jwt-hs.secret}}", algorithms = ["HS256"], roles = "roles" }}
{}{}
[[site]]
host = ["plain.test"]
upstream = "app"
allow = "anyone"
"#,
        front(origin).replace("[upstream", "h2c = true\n[upstream"),
        site("app.test", "p256.pem"),
        site("ed.test", "ed.pem"),
    );
    Gate::start_in(folder, &config)
}

/// The keys as an operator gets them.
fn published(gate: &Gate) -> JwkSet {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("keys")
        .arg(gate.path("portcullis.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn verify(keys: &JwkSet, token: &str, host: &str, algorithm: Algorithm) -> Value {
    let head = jsonwebtoken::decode_header(token).unwrap();
    assert_eq!(head.alg, algorithm);
    let key = keys.find(&head.kid.unwrap()).unwrap();
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&[host]);
    validation.set_issuer(&["portcullis"]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let key = DecodingKey::from_jwk(key).unwrap();
    jsonwebtoken::decode::<Value>(token, &key, &validation)
        .unwrap()
        .claims
}

#[test]
fn an_application_verifies_who_asks() {
    let origin = Origin::start();
    let gate = start(&origin);
    let keys = published(&gate);
    assert_eq!(keys.keys.len(), 2);
    let bearer = |claims| format!("Authorization: Bearer {}", hs(&claims));
    let alice = bearer(staff_but(
        json!({ "org": { "id": 7 }, "https://app.example/groups": ["a", "b,c", "d", { "e": 1 }] }),
    ));
    for (host, algorithm) in [
        ("app.test", Algorithm::ES256),
        ("ed.test", Algorithm::EdDSA),
    ] {
        let named = format!("Host: {host}");
        let ask = |target: &str, token: &str| {
            let response = gate
                .connect()
                .ask(&format!("GET {target}"), &[&named, token]);
            response.is(200).header("x-request-id").unwrap().to_owned()
        };
        let id = ask("/in", &alice);
        let seen = origin.last();
        let token = seen.header("x-identity").unwrap().to_owned();
        let said = verify(&keys, &token, host, algorithm);
        assert_eq!(said["sub"], "alice");
        assert_eq!(said["auth"], "hs");
        assert_eq!(said["roles"], json!(["staff"]));
        assert_eq!(
            said["claims"],
            json!({ "org.id": 7, "https://app.example/groups": ["a", "b,c", "d", { "e": 1 }] })
        );
        assert_eq!(said["jti"], id.as_str());
        let life = said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap();
        assert_eq!(life, 120);
        assert_eq!(
            (seen.header("x-login"), seen.header("x-org")),
            (Some("alice"), Some("7"))
        );
        assert_eq!(
            seen.header("x-groups"),
            Some("a,d"),
            "plain items of a list"
        );
        let mut made = std::collections::BTreeSet::from([token]);
        for _ in 0..20 {
            ask("/in", &alice);
            made.insert(origin.last().header("x-identity").unwrap().to_owned());
        }
        assert!(
            made.len() <= 2,
            "one for each worker and not for each request: {}",
            made.len()
        );
        let short = bearer(staff_but(json!({ "exp": tokens::now() + 10 })));
        ask("/in", &short);
        let token = origin.last().header("x-identity").unwrap().to_owned();
        let said = verify(&keys, &token, host, algorithm);
        let end = said["exp"].as_u64().unwrap();
        assert!(
            end <= tokens::now() + 75,
            "no longer than the credential and its leeway"
        );
        ask("/", "X-None: 1");
        assert_eq!(origin.last().header("x-identity"), None, "nobody");
    }
}

#[test]
fn nobody_else_can_say_who_asks() {
    let origin = Origin::start();
    let gate = start(&origin);
    let alice = format!("Authorization: Bearer {}", hs(&staff()));
    let upgrade = [
        "Connection: Upgrade, X-Identity",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    for spelling in [
        "X-Identity",
        "x-identity",
        "X-IDENTITY",
        "X_Identity",
        "X.Identity",
        "X!Identity",
        "x~identity",
        "X-Login",
        "X_Login",
        "x-org",
        "X-User",
        "X_User",
        "X+User",
        "Remote_User",
    ] {
        let forged = format!("{spelling}: evil-value");
        for (host, fields, status, why) in [
            ("app.test", &[][..], 200, "a request"),
            (
                "plain.test",
                &[],
                200,
                "another site of the same application",
            ),
            ("app.test", &upgrade, 101, "an upgrade"),
        ] {
            for target in ["/", "/in"] {
                if host == "plain.test" && target == "/in" {
                    continue;
                }
                let named = format!("Host: {host}");
                let fields = [fields, &[&named, &alice, &forged]].concat();
                gate.connect()
                    .ask(&format!("GET {target}"), &fields)
                    .is(status);
                let seen = origin.last();
                let raw = String::from_utf8_lossy(&seen.raw).into_owned();
                assert!(!raw.contains("evil-value"), "{spelling} on {why}: {raw}");
                let signed = seen.look_alikes("x-identity").len();
                assert_eq!(
                    signed,
                    usize::from(target == "/in"),
                    "{spelling} on {why}: {raw}"
                );
            }
        }
        let body = format!("1\r\na\r\n0\r\n{forged}\r\n\r\n");
        let fields = [
            "Transfer-Encoding: chunked",
            &*format!("Trailer: {spelling}"),
            &alice,
        ];
        gate.connect()
            .ask_with("POST /in", &fields, body.as_bytes())
            .is(200);
        let raw = String::from_utf8_lossy(&origin.last().raw).into_owned();
        assert!(!raw.contains("evil-value"), "{spelling} in trailers: {raw}");
        let mut h2 = H2::over(gate.connect(), &[]);
        let name = spelling.to_lowercase();
        let bearer = alice.strip_prefix("Authorization: ").unwrap();
        let id = h2.ask(
            "GET /in",
            &[("authorization", bearer), (&name, "evil-value")],
        );
        h2.answer(id).is(200);
        let raw = String::from_utf8_lossy(&origin.last().raw).into_owned();
        assert!(!raw.contains("evil-value"), "{spelling} over HTTP/2: {raw}");
        assert_eq!(origin.last().look_alikes("x-identity").len(), 1);
    }
}

#[test]
fn a_key_that_cannot_sign_is_refused() {
    let folder = TempDir::new().unwrap();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    std::fs::write(folder.path().join("p384.pem"), pair.serialize_pem()).unwrap();
    std::fs::write(folder.path().join("public.pem"), pair.public_key_pem()).unwrap();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    std::fs::write(folder.path().join("good.pem"), pair.serialize_pem()).unwrap();
    for (header, key, code, why) in [
        ("X-Identity", "missing.pem", "unreadable-key", "not there"),
        ("X-Identity", "p384.pem", "bad-key", "another curve"),
        ("X-Identity", "public.pem", "bad-key", "the public half"),
        ("Host", "good.pem", "reserved-header", "HTTP's own"),
        (
            "Authorization",
            "good.pem",
            "reserved-header",
            "the client's own",
        ),
        ("X-Login", "good.pem", "reserved-header", "taken"),
        ("X Identity", "good.pem", "bad-header-name", "no name"),
        ("X-Identity", "good.pem", "", "good"),
    ] {
        let config = format!(
            "{OPENING}[[listener]]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nservers = [\"http://127.0.0.1:9\"]\n[[site]]\nhost = [\"*\"]\nupstream = \"app\"\nallow = \"anyone\"\nheaders_to_upstream = {{ user = \"X-Login\" }}\nsigned_identity = {{ header = \"{header}\", key = \"{key}\" }}\n"
        );
        let file = folder.path().join("portcullis.toml");
        std::fs::write(&file, config).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .arg("keys")
            .arg(&file)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), code.is_empty(), "{why}: {told}");
        assert!(told.contains(code), "{why}: {told}");
    }
}
