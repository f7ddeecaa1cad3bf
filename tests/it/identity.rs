//! Who signs in with what, who is asked to, and what the upstream learns of it.

use base64::Engine as _;
use serde_json::json;
use tempfile::TempDir;

use crate::support::gate::front;
use crate::support::tokens::{
    self, base64url, hs, hs_under, keys, now, rs_under, staff, staff_but, unsigned,
};
use crate::support::{Gate, Origin, eventually};

/// The scenario's two token sources, with routes for each.
fn signing_in(origin: &Origin, more: &str) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    tokens::write(folder.path());
    let config = format!(
        r#"{}
[identity.hs]
jwt = {{ issuer = "heldout", audience = "proxy", secret = "${{file:jwt-hs.secret}}", algorithms = ["HS256"], roles = "roles" }}
[identity.rs]
jwt = {{ issuer = "heldout", audience = "proxy", public_key = "jwt-rs.pub", algorithms = ["RS256"], roles = "roles" }}
[[deny]]
name = "bad-addresses"
ip = "127.0.0.66/32"
[[site]]
host = ["*"]
upstream = "app"
identity = ["hs", "rs"]
headers_to_upstream = {{ user = "X-User", roles = "X-Roles" }}
{more}
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/secure/**"
  allow = [{{ role = "staff", auth = "hs" }}]
  [[site.route]]
  path = "/secure-rs/**"
  allow = [{{ role = "staff", auth = "rs" }}]
  [[site.route]]
  path = "/office-or-staff/**"
  allow = [{{ role = "staff" }}, {{ ip = "127.0.0.5/32" }}]
  [[site.route]]
  path = "/hidden/**"
  allow = [{{ role = "staff" }}]
  otherwise = {{ status = 404 }}
"#,
        front(origin)
    );
    (folder, config)
}

#[test]
fn tokens_are_believed_only_where_everything_about_them_is_right() {
    let origin = Origin::start();
    let (folder, config) = signing_in(&origin, "");
    let gate = Gate::start_in(folder, &config);
    let good = hs(&staff());
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let last = signature.chars().next().unwrap();
    let flipped = format!(
        "{head}.{}{}",
        if last == 'A' { 'B' } else { 'A' },
        &signature[1..]
    );
    let evil = base64url(
        staff_but(json!({ "sub": "mallory", "roles": ["admin", "staff"] }))
            .to_string()
            .as_bytes(),
    );
    let public = keys().public.as_bytes();
    let attacker =
        json!({ "kty": "oct", "k": base64url(b"attacker's key, thirty-two bytes long") });
    let hs256 = json!({ "alg": "HS256", "typ": "JWT" });
    for (target, token, status, why) in [
        ("/secure", good.clone(), 200, "a good token"),
        (
            "/secure-rs",
            rs_under(&keys().private, &staff()),
            200,
            "a good RS256 token",
        ),
        (
            "/secure",
            rs_under(&keys().private, &staff()),
            403,
            "another source's token",
        ),
        ("/secure-rs", good.clone(), 403, "another source's token"),
        (
            "/secure",
            hs(&staff_but(json!({ "roles": ["guest"] }))),
            403,
            "wrong role: 403, not 401",
        ),
        (
            "/secure",
            hs(&staff_but(json!({ "roles": [] }))),
            403,
            "no role",
        ),
        (
            "/secure",
            hs(&staff_but(json!({ "roles": null }))),
            403,
            "no roles claim",
        ),
        (
            "/secure",
            hs(&staff_but(
                json!({ "roles": ["staffer", "nostaff", "staff "] }),
            )),
            403,
            "names are compared whole",
        ),
        (
            "/secure",
            hs(&staff_but(json!({ "roles": ["Staff"] }))),
            403,
            "and in their case",
        ),
        (
            "/secure",
            unsigned(&json!({ "alg": "none" }), &staff()),
            401,
            "alg none",
        ),
        (
            "/secure",
            unsigned(&json!({ "alg": "None", "typ": "JWT" }), &staff()),
            401,
            "alg None",
        ),
        (
            "/secure-rs",
            unsigned(&json!({ "alg": "none" }), &staff()),
            401,
            "alg none",
        ),
        (
            "/secure-rs",
            hs_under(public, &hs256, &staff()),
            401,
            "HS256 under the public key",
        ),
        (
            "/secure",
            hs_under(public, &hs256, &staff()),
            401,
            "HS256 under the public key",
        ),
        (
            "/secure-rs",
            rs_under(&keys().other_private, &staff()),
            401,
            "another RSA key",
        ),
        (
            "/secure",
            hs_under(b"some other secret of thirty-two bytes", &hs256, &staff()),
            401,
            "another secret",
        ),
        (
            "/secure",
            hs_under(b"", &hs256, &staff()),
            401,
            "the empty secret",
        ),
        (
            "/secure",
            hs_under(
                b"attacker's key, thirty-two bytes long",
                &json!({ "alg": "HS256", "jwk": attacker }),
                &staff(),
            ),
            401,
            "the key brought along",
        ),
        (
            "/secure",
            hs(&staff_but(json!({ "exp": now() - 120 }))),
            401,
            "expired",
        ),
        (
            "/secure",
            hs(&staff_but(json!({ "exp": now() - 30 }))),
            200,
            "expired within the leeway of 60 s",
        ),
        (
            "/secure",
            hs(&staff_but(json!({ "exp": null }))),
            401,
            "never expiring",
        ),
        (
            "/secure",
            hs(&staff_but(json!({ "exp": "tomorrow" }))),
            401,
            "exp is no number",
        ),
        (
            "/secure",
            hs(&staff_but(json!({ "nbf": now() + 120 }))),
            401,
            "not yet valid",
        ),
        (
            "/secure",
            hs(&staff_but(json!({ "iss": "someone" }))),
            401,
            "wrong issuer",
        ),
        (
            "/secure",
            hs(&staff_but(json!({ "iss": null }))),
            401,
            "no issuer",
        ),
        (
            "/secure",
            hs(&staff_but(json!({ "aud": "other" }))),
            401,
            "wrong audience",
        ),
        (
            "/secure",
            hs(&staff_but(json!({ "aud": null }))),
            401,
            "no audience",
        ),
        (
            "/secure",
            hs(&staff_but(json!({ "aud": ["other", "proxy"] }))),
            200,
            "one of its audiences",
        ),
        ("/secure", format!("{head}."), 401, "signature removed"),
        ("/secure", head.to_owned(), 401, "two parts"),
        ("/secure", flipped, 401, "signature changed"),
        (
            "/secure",
            format!("{header}.{evil}.{signature}"),
            401,
            "payload replaced",
        ),
        (
            "/secure",
            hs_under(
                tokens::SECRET.as_bytes(),
                &json!({ "alg": "HS256", "crit": ["x"], "x": 1 }),
                &staff(),
            ),
            401,
            "unknown crit (RFC 7515 §4.1.11)",
        ),
        ("/secure", "garbage".into(), 401, "no token at all"),
        ("/secure", "a.b.c".into(), 401, "three parts of nothing"),
        ("/secure", "x".repeat(10_000), 401, "a very long word"),
    ] {
        let before = origin.count();
        let field = format!("Authorization: Bearer {token}");
        let response = gate.connect().ask(&format!("GET {target}"), &[&field]);
        assert_eq!(
            response.status,
            status,
            "{target}: {why}: {}",
            response.text()
        );
        assert_eq!(origin.count() - before, usize::from(status == 200), "{why}");
        if status == 401 {
            let challenge = response.all("www-authenticate").join(", ");
            assert!(challenge.contains("Bearer"), "{why}: {challenge}");
            assert_eq!(response.reason(), "invalid_token", "{why}");
        }
    }
    let response = gate.connect().ask("GET /secure", &[]).is(401);
    assert!(
        response
            .all("www-authenticate")
            .join(", ")
            .contains("Bearer"),
        "RFC 9110 §11.6.1"
    );
    assert_eq!(response.reason(), "not_authenticated");
}

#[test]
fn identity_is_asked_for_only_where_it_can_matter() {
    let origin = Origin::start();
    let (folder, config) = signing_in(&origin, "");
    let gate = Gate::start_in(folder, &config);
    let staff = format!("Authorization: Bearer {}", hs(&staff()));
    let guest = format!(
        "Authorization: Bearer {}",
        hs(&staff_but(json!({ "roles": ["guest"] })))
    );
    for (source, target, fields, status, why) in [
        (
            "127.0.0.66",
            "/secure",
            &[][..],
            403,
            "a denied address never sees a login prompt",
        ),
        (
            "127.0.0.66",
            "/secure",
            &[staff.as_str()],
            403,
            "not with a good token either",
        ),
        (
            "127.0.0.1",
            "/x",
            &["Authorization: Bearer garbage"],
            200,
            "a bad token where nobody asks",
        ),
        (
            "127.0.0.5",
            "/office-or-staff",
            &[],
            200,
            "the office needs no sign-in",
        ),
        ("127.0.0.1", "/office-or-staff", &[], 401, "others do"),
        (
            "127.0.0.1",
            "/office-or-staff",
            &[staff.as_str()],
            200,
            "and may",
        ),
        ("127.0.0.1", "/hidden", &[], 404, "hidden from strangers"),
        (
            "127.0.0.1",
            "/hidden",
            &[guest.as_str()],
            404,
            "and from the wrong people",
        ),
        (
            "127.0.0.1",
            "/hidden",
            &[staff.as_str()],
            200,
            "but not from the right ones",
        ),
        (
            "127.0.0.1",
            "/secure",
            &["Authorization: Basic YTpi"],
            401,
            "another scheme",
        ),
    ] {
        let response = gate
            .connect_from(source)
            .ask(&format!("GET {target}"), fields);
        assert_eq!(response.status, status, "{why}: {}", response.text());
    }
    let twice = gate.connect().ask("GET /secure", &[&staff, &guest]);
    assert!(
        (400..500).contains(&twice.status),
        "two credentials in one place: {}",
        twice.status
    );
    let lower = staff.replace("Bearer", "bearer");
    gate.connect().ask("GET /secure", &[&lower]).is(200);
}

#[test]
fn upstream_learns_who_signed_in_and_never_from_the_client() {
    let origin = Origin::start();
    let (folder, config) = signing_in(&origin, "forward_credential = false\n");
    let gate = Gate::start_in(folder, &config);
    let token = format!(
        "Authorization: Bearer {}",
        hs(&staff_but(json!({ "roles": ["staff", "editor"] })))
    );
    gate.connect()
        .ask("GET /secure", &[&token, "X-User: evil", "X_Roles: evil"])
        .is(200);
    let seen = origin.only();
    assert_eq!(
        (seen.header("x-user"), seen.header("x-roles")),
        (Some("alice"), Some("staff,editor"))
    );
    assert_eq!(seen.look_alikes("x-roles").len(), 1);
    assert_eq!(
        seen.header("authorization"),
        None,
        "forward_credential = false"
    );

    let (folder, config) = signing_in(&origin, "");
    let gate = Gate::start_in(folder, &config);
    gate.connect().ask("GET /secure", &[&token]).is(200);
    assert!(
        origin.last().header("authorization").is_some(),
        "a jwt goes up by default"
    );
    gate.connect().ask("GET /x", &["X-User: evil"]).is(200);
    assert_eq!(
        origin.last().header("x-user"),
        None,
        "anonymous has no name"
    );
}

#[test]
fn keys_of_a_jwks_file_are_picked_by_kid() {
    let origin = Origin::start();
    let folder = TempDir::new().unwrap();
    let secret = |name: &str| format!("secret of {name}, at least thirty-two bytes");
    let key = |name: &str| json!({ "kty": "oct", "kid": name, "alg": "HS256", "use": "sig", "k": base64url(secret(name).as_bytes()) });
    let write = |folder: &std::path::Path, names: &[&str]| {
        let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
        crate::support::gate::write(folder, "jwks.json", json!({ "keys": keys }).to_string());
    };
    write(folder.path(), &["one", "two"]);
    let gate = Gate::start_in(
        folder,
        &format!(
            "[identity.main]\njwt = {{ issuer = \"heldout\", audience = \"proxy\", jwks = \"jwks.json\", algorithms = [\"HS256\"], roles = \"roles\" }}\n\
             {}[[site]]\nhost = [\"*\"]\nupstream = \"app\"\nidentity = [\"main\"]\nallow = [{{ role = \"staff\" }}]\n",
            front(&origin)
        ),
    );
    let token = |kid: &str, under: &str| {
        let header = json!({ "alg": "HS256", "kid": kid });
        format!(
            "Authorization: Bearer {}",
            hs_under(secret(under).as_bytes(), &header, &staff())
        )
    };
    for (kid, under, status, why) in [
        ("one", "one", 200, "its key"),
        ("two", "two", 200, "the other key"),
        ("one", "two", 401, "signed under another key than named"),
        ("three", "three", 401, "a key that is not there"),
    ] {
        let response = gate.connect().ask("GET /x", &[&token(kid, under)]);
        assert_eq!(response.status, status, "{why}");
    }
    write(gate.path("").as_path(), &["two", "three"]);
    gate.reload_as_is()
        .unwrap_or_else(|report| panic!("{report:?}"));
    eventually("the rotated keys count", || {
        gate.connect()
            .ask("GET /x", &[&token("three", "three")])
            .status
            == 200
            && gate.connect().ask("GET /x", &[&token("one", "one")]).status == 401
    });
}

#[test]
fn passwords_open_what_they_should() {
    let origin = Origin::start();
    let folder = TempDir::new().unwrap();
    let hash = bcrypt::hash("correct horse", 4).unwrap();
    std::fs::write(
        folder.path().join("users.htpasswd"),
        format!("alice:{hash}\n"),
    )
    .unwrap();
    let gate = Gate::start_in(
        folder,
        &format!(
            "[identity.people]\nbasic = {{ file = \"users.htpasswd\", realm = \"The \\\"office\\\"\" }}\n\
             {}[[site]]\nhost = [\"*\"]\nupstream = \"app\"\nidentity = [\"people\"]\nallow = [{{ user = \"alice\" }}]\n",
            front(&origin)
        ),
    );
    let basic = |pair: &str| {
        format!(
            "Authorization: Basic {}",
            base64::engine::general_purpose::STANDARD.encode(pair)
        )
    };
    for (field, status, why) in [
        (basic("alice:correct horse"), 200, "right"),
        (basic("alice:wrong"), 401, "wrong password"),
        (basic("alice:"), 401, "empty password"),
        (basic("mallory:correct horse"), 401, "unknown user"),
        (basic("Alice:correct horse"), 401, "names in their case"),
        (basic("alice"), 401, "no colon"),
        ("Authorization: Basic !!!".to_owned(), 401, "no base64"),
        ("X-None: 1".to_owned(), 401, "no credential"),
    ] {
        let response = gate.connect().ask("GET /x", &[&field]);
        assert_eq!(response.status, status, "{why}");
        if status == 401 {
            let challenge = response.all("www-authenticate").join(", ");
            assert!(
                challenge.starts_with("Basic realm=\"The \\\"office\\\"\""),
                "{why}: {challenge}"
            );
        }
    }
    assert_eq!(origin.count(), 1);
    assert_eq!(
        origin.last().header("authorization"),
        None,
        "a password does not go up by default"
    );
}

#[test]
fn api_keys_open_what_they_should() {
    let origin = Origin::start();
    let folder = TempDir::new().unwrap();
    let digest = |key: &str| -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
        digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let keys = format!(
        r#"
[[key]]
id = "robot"
user = "robot"
sha256 = "{}"
roles = ["reader"]
[[key]]
id = "homebound"
user = "homebound"
sha256 = "{}"
roles = ["reader"]
networks = ["127.0.0.5/32"]
[[key]]
id = "past"
user = "past"
sha256 = "{}"
roles = ["reader"]
expires = 2025-01-01
"#,
        digest("key-of-the-robot"),
        digest("key-for-home-only"),
        digest("key-of-the-past")
    );
    std::fs::write(folder.path().join("keys.toml"), keys).unwrap();
    let gate = Gate::start_in(
        folder,
        &format!(
            "[identity.programs]\napi_key = {{ file = \"keys.toml\" }}\n\
             {}[[site]]\nhost = [\"*\"]\nupstream = \"app\"\nidentity = [\"programs\"]\nallow = [{{ role = \"reader\" }}]\n",
            front(&origin)
        ),
    );
    for (source, field, status, why) in [
        ("127.0.0.1", "X-Api-Key: key-of-the-robot", 200, "right"),
        (
            "127.0.0.1",
            "x-api-key: key-of-the-robot",
            200,
            "names fold",
        ),
        ("127.0.0.1", "X-Api-Key: key-of-the-robo", 401, "cut short"),
        (
            "127.0.0.1",
            "X-Api-Key: KEY-OF-THE-ROBOT",
            401,
            "in another case",
        ),
        ("127.0.0.1", "X-Api-Key: ", 401, "empty"),
        ("127.0.0.1", "X-None: 1", 401, "none"),
        (
            "127.0.0.1",
            "X-Api-Key: key-for-home-only",
            401,
            "from elsewhere",
        ),
        (
            "127.0.0.5",
            "X-Api-Key: key-for-home-only",
            200,
            "from home",
        ),
        ("127.0.0.1", "X-Api-Key: key-of-the-past", 401, "expired"),
        (
            "127.0.0.1",
            "Authorization: Bearer key-of-the-robot",
            401,
            "in another place",
        ),
    ] {
        let response = gate.connect_from(source).ask("GET /x", &[field]);
        assert_eq!(response.status, status, "{why}");
        if status == 401 {
            assert!(!response.all("www-authenticate").is_empty(), "{why}");
        } else {
            assert!(
                origin.last().all("x-api-key").is_empty(),
                "a key does not go up by default"
            );
        }
    }
}
