//! Findings about identity sources: one row per mistake.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use std::fs;
use std::sync::Arc;

use super::*;
use crate::config::diagnostic::SourceFile;
use crate::config::node::{FileId, parse};
use crate::identity::Head;
use crate::identity::Presented;

/// Compiles a configuration beside some files.
fn compiled(config: &str, files: &[(&str, &str)]) -> (Table, Sources, Context, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let (root, syntax) = parse(config, FileId(0));
    assert_eq!(syntax, [], "{config}");
    let mut cx = Context {
        now: "2026-11-22T12:00:00Z".parse().unwrap(),
        ..Context::default()
    };
    cx.report.files.push(SourceFile {
        name: Arc::from("portcullis.toml"),
        folder: folder.path().to_owned(),
        text: Arc::from(config),
    });
    let sources = compile(&root, &mut cx);
    (root, sources, cx, folder)
}

/// The findings, one line each.
fn findings(cx: &Context) -> Vec<String> {
    let found = cx.report.diagnostics.iter();
    found
        .map(|d| {
            let help = d
                .help
                .as_deref()
                .map_or(String::new(), |help| format!(" ({help})"));
            format!("{:?} {}: {}{help}", d.severity, d.code, d.message)
        })
        .collect()
}

fn first_finding(config: &str, files: &[(&str, &str)]) -> String {
    let (_, _, cx, _folder) = compiled(config, files);
    let mut found = findings(&cx);
    assert!(found.len() < 2, "{config}\n{found:#?}");
    found.pop().unwrap_or_default()
}

fn public_key(algorithm: &'static rcgen::SignatureAlgorithm) -> String {
    rcgen::KeyPair::generate_for(algorithm)
        .unwrap()
        .public_key_pem()
}

#[test]
fn every_mistake_in_a_source_is_told() {
    let ec = public_key(&rcgen::PKCS_ECDSA_P256_SHA256);
    let private = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let jwks = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},{"kty":"x"}]}"#;
    let files = [
        ("ec.pem", &*ec),
        ("private.pem", &*private),
        ("nonsense.pem", "nonsense"),
        ("jwks.json", jwks),
        (
            "roles.toml",
            "\"a@b.example\" = [\"teller\"]\nc.d = [\"teller\"]\n",
        ),
        ("empty.json", r#"{"keys":[]}"#),
        ("users", "ann:$apr1$x$y\n"),
        ("sha", "ann:{SHA}nU4eI71bcnBGqeO0t9tXvY1u5oQ=\n"),
        ("nobody", "# none\n"),
    ];
    let jwt =
        |rest: &str| format!("[identity.a]\njwt = {{ issuer = \"i\", audience = \"a\", {rest} }}");
    let long = "0123456789abcdef0123456789abcdef";
    for (config, want) in [
        (
            "[identity.a]".to_owned(),
            "Error identity-without-source: identity `a` names no source",
        ),
        (
            "[identity.a]\nbasic = { file = \"nobody\" }\napi_key = { file = \"k\" }".to_owned(),
            "Error identity-with-two-sources: identity `a` has two sources, `basic` and `api_key`",
        ),
        (
            "[identity.a]\nmtls = { user = \"cn\" }".to_owned(),
            "Warning no-client-certificates: no listener asks for client certificates",
        ),
        (
            format!("{ASKING}[identity.a]\nmtls = {{ roles = \"absent.toml\" }}"),
            "Error unreadable-file: cannot read roles of users from `absent.toml`",
        ),
        (
            format!("{ASKING}[identity.a]\nmtls = {{ roles = \"roles.toml\" }}"),
            "Error bad-roles-file: `roles.toml` line 2: a line is `\"user\" = [\"role\"]`",
        ),
        (
            format!("{ASKING}[identity.a]\nmtls = {{ roles = \"ou\" }}"),
            "",
        ),
        (
            "[identity.a]\nheader = { user = \"x-user\", from = \"10.0.0.1\" }".to_owned(),
            "",
        ),
        (
            "[identity.a]\nheader = { user = \"x-user\", from = \"0.0.0.0/0\" }".to_owned(),
            "Error trusts-everyone: everybody is trusted: any client can claim to be anybody",
        ),
        (
            "[identity.a]\nheader = { user = \"Cookie\", from = \"10.0.0.1\" }".to_owned(),
            "Error bad-header: `cookie` cannot name a user",
        ),
        (
            "[identity.a]\nforward_auth = { url = \"http://127.0.0.1:9/a\", headers_from = { user = \"x-user\" } }".to_owned(),
            "",
        ),
        (
            "[identity.a]\nforward_auth = { url = \"http://auth.example/a\", headers_from = { user = \"x-user\" } }".to_owned(),
            "Error insecure-url",
        ),
        (
            "[identity.a]\nforward_auth = { url = \"http://127.0.0.1:9/a\", headers_from = {} }".to_owned(),
            "Error empty-value: `headers_from` names no field",
        ),
        (
            "[identity.a]\nforward_auth = { url = \"http://127.0.0.1:9/a\", headers_to = [\"Content-Length\"], headers_from = { user = \"x-user\" } }".to_owned(),
            "Error bad-header: `content-length` cannot be shown to another service",
        ),
        (
            "[identity.a]\nforward_auth = { url = \"http://127.0.0.1:9/a\", timeout = \"60s\", headers_from = { user = \"x-user\" } }".to_owned(),
            "Error out-of-range: `timeout` is longer",
        ),
        (
            format!(
                "[identity.a]\njwt = {{ audience = \"a\", secret = \"{long}\", algorithms = [\"HS256\"] }}"
            ),
            "Error missing-key: `issuer` is missing",
        ),
        (
            format!(
                "[identity.a]\njwt = {{ issuer = \"i\", secret = \"{long}\", algorithms = [\"HS256\"] }}"
            ),
            "Error missing-key: `audience` is missing",
        ),
        (
            format!(
                "[identity.a]\njwt = {{ issuer = \"\", audience = \"a\", secret = \"{long}\", algorithms = [\"HS256\"] }}"
            ),
            "Error empty-value: `issuer` is empty",
        ),
        (
            format!(
                "[identity.a]\njwt = {{ issuer = \"i\", audience = [], secret = \"{long}\", algorithms = [\"HS256\"] }}"
            ),
            "Error empty-value: `audience` is empty",
        ),
        (
            format!(
                "[identity.a]\njwt = {{ issuer = \"i\", audience = \"\", secret = \"{long}\", algorithms = [\"HS256\"] }}"
            ),
            "Error empty-value: `audience` is empty",
        ),
        (
            jwt(&format!("secret = \"{long}\"")),
            "Error missing-key: `algorithms` is missing",
        ),
        (
            jwt(&format!("secret = \"{long}\", algorithms = []")),
            "Error empty-value: `algorithms` pins no algorithm",
        ),
        (
            jwt(&format!(
                "secret = \"{long}\", algorithms = [\"none\", \"HS256\"]"
            )),
            "Error unknown-algorithm: `none` is no algorithm that a token may be signed with (an unsigned token proves nothing)",
        ),
        (
            jwt(&format!(
                "secret = \"{long}\", algorithms = [\"HS265\", \"HS256\"]"
            )),
            "Error unknown-algorithm: `HS265` is no algorithm that a token may be signed with (did you mean `HS256`?)",
        ),
        (
            jwt(&format!("secret = \"{long}\", algorithms = [\"RS256\"]")),
            "Error algorithm-mismatch: `RS256` is verified with a public key, not with a `secret`",
        ),
        (
            jwt("secret = \"short\", algorithms = [\"HS256\"]"),
            "Warning weak-secret: `secret` has 5 bytes",
        ),
        (
            jwt(&format!("secret = \"{long}\", algorithms = [\"HS512\"]")),
            "Warning weak-secret: `secret` has 32 bytes",
        ),
        (
            jwt("secret = \"\", algorithms = [\"HS256\"]"),
            "Error empty-value: `secret` is empty",
        ),
        (jwt("algorithms = [\"HS256\"]"), "Error jwt-without-key"),
        (
            jwt("secret = \"x\", jwks = \"jwks.json\", algorithms = [\"HS256\"]"),
            "Error jwt-with-two-keys: `jwt` has two keys, `secret` and `jwks`",
        ),
        (
            jwt("jwks = \"http://127.0.0.1:1/jwks\", algorithms = [\"HS256\"]"),
            "Error algorithm-mismatch: `HS256` takes a secret, and the keys at a URL are public",
        ),
        (
            jwt("jwks = \"http://id.example/jwks\", algorithms = [\"RS256\"]"),
            "Error insecure-url: `http://id.example/jwks` is asked in clear text",
        ),
        (
            jwt("jwks = \"https://id.example/a b\", algorithms = [\"RS256\"]"),
            "Error bad-url: `https://id.example/a b` is no URL",
        ),
        (
            jwt("jwks = \"https://me:secret@id.example/jwks\", algorithms = [\"RS256\"]"),
            "Error bad-url: this URL has a user name",
        ),
        (
            jwt("jwks = \"http://localhost/jwks\", ca = \"ca.pem\", algorithms = [\"RS256\"]"),
            "Warning unused-key: `ca` has no use here: the URL is not `https`",
        ),
        (
            jwt("public_key = \"ec.pem\", ca = \"ca.pem\", algorithms = [\"ES256\"]"),
            "Warning unused-key: `ca` has no use here: no key is fetched from a URL",
        ),
        (
            jwt("public_key = \"absent.pem\", algorithms = [\"ES256\"]"),
            "Error unreadable-file: cannot read a key from `absent.pem`: there is no such file",
        ),
        (
            jwt("public_key = \"nonsense.pem\", algorithms = [\"ES256\"]"),
            "Error bad-key: `nonsense.pem` holds no public key in PEM form",
        ),
        (
            jwt("public_key = \"private.pem\", algorithms = [\"ES256\"]"),
            "Error bad-key: `private.pem` holds a private key",
        ),
        (
            jwt("public_key = \"ec.pem\", algorithms = [\"HS256\"]"),
            "Error algorithm-mismatch: `HS256` takes a secret, and the keys of `ec.pem` are public (its keys verify `ES256`)",
        ),
        (
            jwt("public_key = \"ec.pem\", algorithms = [\"RS256\"]"),
            "Error algorithm-mismatch: no key of `ec.pem` verifies `RS256` (its keys verify `ES256`)",
        ),
        (
            jwt("public_key = \"ec.pem\", algorithms = [\"ES256\", \"RS256\"]"),
            "Warning algorithm-without-key: no key of `ec.pem` verifies `RS256`",
        ),
        (
            jwt("jwks = \"ec.pem\", algorithms = [\"ES256\"]"),
            "Error bad-key: `ec.pem` is no JWK set",
        ),
        (
            jwt("jwks = \"empty.json\", algorithms = [\"ES256\"]"),
            "Error bad-key: `empty.json` holds no key that can verify a token",
        ),
        (
            jwt("jwks = \"jwks.json\", algorithms = [\"EdDSA\"]"),
            "Note key-passed-over: 1 key of `jwks.json`",
        ),
        (
            jwt(&format!(
                "secret = \"{long}\", algorithms = [\"HS256\"], leeway = \"soon\""
            )),
            "Error bad-duration: `soon` is no duration",
        ),
        (
            jwt(&format!(
                "secret = \"{long}\", algorithms = [\"HS256\"], leeway = \"2h\""
            )),
            "Warning wide-leeway",
        ),
        (
            jwt(&format!(
                "secret = \"{long}\", algorithms = [\"HS256\"], header = \"a b\""
            )),
            "Error bad-header: `a b` is no name of a header field",
        ),
        (
            jwt(&format!(
                "secret = \"{long}\", algorithms = [\"HS256\"], header = \"Cookie\""
            )),
            "Error bad-header: `Cookie` cannot carry",
        ),
        (
            jwt(&format!(
                "secret = \"{long}\", algorithms = [\"HS256\"], cookie = \"a;b\""
            )),
            "Error bad-name: `a;b` is no name of a cookie",
        ),
        (
            "[identity.a]\nbasic = {}".to_owned(),
            "Error missing-key: `file` is missing",
        ),
        (
            "[identity.a]\nbasic = { file = \"users\" }".to_owned(),
            "Error bad-htpasswd: `users` line 1 has a hash of an unsupported kind",
        ),
        (
            "[identity.a]\nbasic = { file = \"sha\" }".to_owned(),
            "Warning weak-hash: `sha` line 1",
        ),
        (
            "[identity.a]\nbasic = { file = \"nobody\" }".to_owned(),
            "Warning empty-file: `nobody` holds no user",
        ),
        (
            "[identity.a]\nbasic = { file = \"nobody\", realm = \"Büro\" }".to_owned(),
            "Error bad-realm",
        ),
        (
            "[identity.a]\napi_key = { file = \"nobody\", header = \"Authorization\" }".to_owned(),
            "Error bad-header: an API key cannot stand in `authorization`",
        ),
        (
            "[identity.a]\napi_key = { file = \"nobody\" }".to_owned(),
            "Warning empty-file: `nobody` holds no key",
        ),
        (
            jwt(&format!("secret = \"{long}\", algorithms = [\"HS256\"]")),
            "",
        ),
        (jwt("public_key = \"ec.pem\", algorithms = [\"ES256\"]"), ""),
    ] {
        let both = config.contains("Büro"); // the empty file is a finding of its own
        let (_, _, cx, _folder) = compiled(&config, &files);
        let found = findings(&cx);
        assert_eq!(
            found.len(),
            usize::from(!want.is_empty()) + usize::from(both),
            "{config}\n{found:#?}"
        );
        let first = found.first().map_or("", String::as_str);
        assert!(first.starts_with(want), "{config}\n{first}");
    }
}

#[test]
fn every_mistake_in_a_key_file_is_told_by_its_line() {
    let hash = "ab".repeat(32);
    let key = |rest: &str| format!("# keys\n[[key]]\nid = \"a\"\nsha256 = \"{hash}\"\n{rest}");
    let config = "[identity.k]\napi_key = { file = \"keys.toml\" }\n[role]\nadmin = [\"editor\"]\n";
    for (file, want) in [
        (
            "[[key]\n".to_owned(),
            "Error bad-key-file: `keys.toml` line 1: ",
        ),
        (
            "[keys]\n".to_owned(),
            "Error bad-key-file: `keys.toml` line 1: `keys` is no key of a key file",
        ),
        (
            key("rolls = [\"admin\"]"),
            "Error bad-key-file: `keys.toml` line 5: unknown key `rolls`; did you mean `roles`?",
        ),
        (
            key("roles = [7]"),
            "Error bad-key-file: `keys.toml` line 5: a role is a name",
        ),
        (
            key("networks = [\"192.0.2.1/24\"]"),
            "Error bad-key-file: `keys.toml` line 5: `networks` lists",
        ),
        (
            key("expires = \"2027-01-01\""),
            "Error bad-key-file: `keys.toml` line 5: `expires` is a date",
        ),
        (
            key("expires = 2027-01-01T00:00:00"),
            "Error bad-key-file: `keys.toml` line 5: `expires` is a date",
        ),
        (
            key("claims = 7"),
            "Error bad-key-file: `keys.toml` line 2: `claims` is a table",
        ),
        (
            format!("[[key]]\nsha256 = \"{hash}\""),
            "Error bad-key-file: `keys.toml` line 1: a key needs an `id`",
        ),
        (
            "[[key]]\nid = \"a\"\nsha256 = \"pk_plain\"".to_owned(),
            "Error bad-key-file: `keys.toml` line 1: a key needs `sha256`",
        ),
        (
            key(&format!(
                "[[key]]\nid = \"a\"\nsha256 = \"{}\"",
                "cd".repeat(32)
            )),
            "Error bad-key-file: `keys.toml` line 5: key `a` is there already, in line 2",
        ),
        (
            key(&format!("[[key]]\nid = \"b\"\nsha256 = \"{hash}\"")),
            "Error bad-key-file: `keys.toml` line 5: key `b` has the hash of key `a`",
        ),
        (
            key("roles = [\"admni\"]"),
            "Warning unknown-role: `keys.toml` line 5: role `admni` stands nowhere in `[role]`; did you mean `admin`?",
        ),
        (
            key("expires = 2026-11-21"),
            "Note expired-key: `keys.toml` line 2: key `a` has expired",
        ),
        (
            key(
                "expires = 2026-11-22\nroles = [\"editor\"]\nuser = \"ci\"\nnetworks = [\"192.0.2.1\", \"2001:db8::/32\"]\nclaims = { plan = \"pro\", n = [1, 2.5] }",
            ),
            "",
        ),
    ] {
        let found = first_finding(config, &[("keys.toml", &file)]);
        assert!(found.starts_with(want), "{file}\n{found}");
        assert_eq!(found.is_empty(), want.is_empty(), "{file}\n{found}");
        assert!(
            !found.contains("pk_plain"),
            "a secret in the wrong place is not shown: {found}"
        );
    }
}

#[test]
fn a_file_is_watched_also_while_it_is_missing() {
    let config = "[identity.k]\napi_key = { file = \"keys.toml\" }";
    let (_, sources, cx, folder) = compiled(config, &[]);
    assert_eq!(cx.watch, [folder.path().join("keys.toml")]);
    assert_eq!(cx.report.diagnostics[0].code, "unreadable-file");
    assert!(matches!(sources.get("k"), Some(None)), "known, but broken");
}

#[test]
fn a_site_names_sources_that_exist() {
    let hash = "ab".repeat(32);
    let keys = format!("[[key]]\nid = \"a\"\nsha256 = \"{hash}\"");
    let config = "[identity.main]\napi_key = { file = \"keys.toml\" }\n[identity.more]\napi_key = { file = \"keys.toml\" }\n[identity.broken]\nbasic = { file = \"absent\" }\n";
    for (identity, want, names) in [
        ("[]", "", vec![]),
        (
            "[\"mian\"]",
            "Error unknown-identity: site names identity source `mian`, which is not defined (did you mean `main`?)",
            vec![],
        ),
        (
            "[\"other\"]",
            "Error unknown-identity: site names identity source `other`, which is not defined (define it as `[identity.other]`)",
            vec![],
        ),
        (
            "[\"main\", \"main\"]",
            "Warning duplicate-identity: identity source `main` is named twice",
            vec!["main"],
        ),
        (
            "[\"main\", \"more\"]",
            "Warning eclipsed-identity: identity source `more` is never asked",
            vec!["main", "more"],
        ),
        ("[\"broken\"]", "", vec![]),
        ("\"main\"", "", vec!["main"]),
    ] {
        let config = format!("{config}[[site]]\nidentity = {identity}\n");
        let (root, sources, mut cx, _folder) = compiled(&config, &[("keys.toml", &keys)]);
        cx.report.diagnostics.clear();
        let site = root.tables("site").next().unwrap();
        let site = authenticator(&root, site, &sources, &mut cx);
        let found = findings(&cx).join("\n");
        assert!(
            found.starts_with(want) && found.is_empty() == want.is_empty(),
            "{identity}\n{found}"
        );
        let got: Vec<&str> = site.names().map(|name| &**name).collect();
        assert_eq!(got, names, "{identity}");
    }
}

#[test]
fn compiled_sources_let_their_people_in() {
    let key = crate::identity::api_key::write([7; 32]);
    let digest: String = crate::identity::api_key::sha256(&key)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let keys = format!(
        "[[key]]\nid = \"k1\"\nuser = \"ci\"\nsha256 = \"{digest}\"\nroles = [\"deploy\"]\nclaims = {{ plan = \"pro\" }}\nexpires = 2026-11-22\n"
    );
    let config = "[identity.keys]\napi_key = { file = \"keys.toml\", header = \"X-Key\" }\n[identity.users]\nbasic = { file = \"users\", realm = 'the \"office\"' }\n[[site]]\nidentity = [\"keys\", \"users\"]\n";
    let (root, sources, mut cx, _folder) =
        compiled(config, &[("keys.toml", &keys), ("users", "# none yet")]);
    let site = authenticator(
        &root,
        root.tables("site").next().unwrap(),
        &sources,
        &mut cx,
    );
    let mut headers = http::HeaderMap::new();
    headers.insert("x-key", http::HeaderValue::from_str(&key).unwrap());
    let head = Head {
        headers: &headers,
        query: None,
        client: [192, 0, 2, 1].into(),
        peer: [127, 0, 0, 1].into(),
        ask: None,
        certificate: None,
        revoked: None,
        guard: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let at = |time: &str| runtime.block_on(site.authenticate(&head, time.parse().unwrap()));
    let Presented::Valid(who) = at("2026-11-22T23:59:59Z") else {
        panic!("a day counts whole");
    };
    assert_eq!(
        (&*who.user, &*who.source, &*who.roles[0]),
        ("ci", "keys", "deploy")
    );
    assert_eq!(who.claims["plan"], "pro");
    assert!(matches!(
        at("2026-11-23T00:00:00Z"),
        Presented::Invalid { .. }
    ));
    let told: Vec<&str> = site
        .challenges(&Presented::None)
        .iter()
        .map(|v| v.to_str().unwrap())
        .collect();
    assert_eq!(
        told,
        [
            r#"ApiKey realm="restricted", header="x-key""#,
            r#"Basic realm="the \"office\"", charset="UTF-8""#,
        ]
    );
}

/// A listener that asks for client certificates.
const ASKING: &str =
    "[[listener]]\naddress = \"127.0.0.1:1\"\ntls = { client_certificate = \"optional\" }\n";
