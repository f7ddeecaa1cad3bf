//! The whole matrix of sign-in over real sockets: what was shown × what was asked for, for every kind of source.
//!
//! Every row is asked for a public path, a guarded one, the guarded one from a country that is denied, and a path without a
//! route. `cargo test --test it matrix -- --nocapture` prints it as Markdown.

#![allow(
    clippy::cloned_ref_to_slice_refs,
    reason = "the rows of a table look alike"
)]

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tempfile::TempDir;

use crate::support::certs::{Leaf, certs, client_leaf};
use crate::support::tokens::{
    self, Named, hs, hs_under, now, rs_under, staff, staff_but, unsigned,
};
use crate::support::{Client, Gate, Origin, Refusing, Response, Then};

/// A gate with these sources.
struct Place {
    /// As the table calls it.
    name: &'static str,
    gate: Gate,
    tls: bool,
}

/// One thing to show.
struct Row {
    credential: &'static str,
    fields: Vec<String>,
    leaf: Option<&'static Leaf>,
    /// From where; what `header` believes comes from 127.0.0.5.
    from: &'static str,
    /// What the guarded path answers: status and reason.
    guarded: &'static str,
    /// `WWW-Authenticate` of that, one a field.
    challenges: &'static [&'static str],
}

fn row(
    credential: &'static str,
    fields: &[String],
    guarded: &'static str,
    challenges: &'static [&'static str],
) -> Row {
    Row {
        credential,
        fields: fields.to_vec(),
        leaf: None,
        from: "127.0.0.1",
        guarded,
        challenges,
    }
}

const BEARER: &str = r#"Bearer realm="restricted""#;
const BAD_BEARER: &str = r#"Bearer realm="restricted", error="invalid_token""#;
const BASIC: &str = r#"Basic realm="office", charset="UTF-8""#;
const KEY: &str = r#"ApiKey realm="restricted", header="x-api-key""#;
const SESSION: &str = r#"Session realm="restricted""#;

const OK: &str = "200";
const ASKED: &str = "401 not_authenticated";
const INVALID: &str = "401 invalid_token";
const REFUSED: &str = "403 forbidden";
const UNKNOWN: &str = "503 fact_unavailable";
const TWO: &str = "400 malformed_request";

fn place(name: &'static str, origin: &Origin, sources: &str, names: &str) -> Place {
    let folder = TempDir::new().unwrap();
    tokens::write(folder.path());
    certs().write(folder.path());
    let hash = bcrypt::hash("right", 4).unwrap();
    let write = |file: &str, text: String| std::fs::write(folder.path().join(file), text).unwrap();
    write("users", format!("alice:{hash}\nbob:{hash}\n"));
    let key = |id: &str, user: &str, more: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, id.as_bytes());
        let hex = digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        format!("[[key]]\nid = \"{id}\"\nuser = \"{user}\"\nsha256 = \"{hex}\"\n{more}\n")
    };
    let keys = [
        key("good", "alice", "roles = [\"staff\"]"),
        key("bobs", "bob", "roles = [\"staff\"]"),
        key("plain", "alice", ""),
        key("old", "alice", "roles = [\"staff\"]\nexpires = 2025-01-01"),
        key(
            "away",
            "alice",
            "roles = [\"staff\"]\nnetworks = [\"10.0.0.0/8\"]",
        ),
    ];
    write("keys.toml", keys.concat());
    let tls = names.contains("cards");
    let listener = if tls {
        "tls = { certificates = [{ cert = \"server.crt\", key = \"server.key\" }], client_ca = \"ca.pem\", client_certificate = \"optional\" }"
    } else {
        ""
    };
    let people = if names.contains("people") {
        ", { auth = \"people\", user = \"alice\" }"
    } else {
        ""
    };
    let config = format!(
        r#"
[[listener]]
address = "127.0.0.1:0"
{listener}
[client]
trusted_proxies = ["127.0.0.0/8"]
[geoip]
databases = ["embedded:demo"]
[upstream.app]
servers = ["http://{}"]
{sources}
[[deny]]
name = "embargo"
country = "BR"
status = 451
reason = "region_restricted"
[[site]]
host = ["*"]
upstream = "app"
identity = [{names}]
  [[site.route]]
  path = "/open/**"
  allow = "anyone"
  [[site.route]]
  path = "/staff/**"
  allow = [{{ role = "staff" }}{people}]
"#,
        origin.address()
    );
    Place {
        name,
        gate: Gate::start_in(folder, &config),
        tls,
    }
}

/// Shows it; nothing where not even the handshake succeeds.
fn ask(place: &Place, row: &Row, target: &str, more: &[&str]) -> Option<Response> {
    let fields: Vec<&str> = row.fields.iter().map(String::as_str).collect();
    let fields = [more, fields.as_slice()].concat();
    let line = format!("GET {target}");
    if !place.tls {
        return Some(place.gate.connect_from(row.from).ask(&line, &fields));
    }
    let config = certs().client_config(rustls::ALL_VERSIONS, &["http/1.1"], row.leaf);
    let (mut client, _) = Client::tls(place.gate.address(), "app.test", config).ok()?;
    let fields = [&["Host: app.test"], fields.as_slice()].concat();
    client.send(crate::support::client::request(&line, &fields, b""));
    client.try_response("GET", crate::support::PATIENCE).ok()
}

fn said(response: &Response) -> String {
    let status = response.status;
    match status {
        200 => "200".to_owned(),
        status => format!("{status} {}", response.reason()),
    }
}

/// Asks every row for all four paths; answers its lines of the table.
fn run(place: &Place, origin: &Origin, rows: &[Row]) -> String {
    let mut lines = String::new();
    let mut wrong = Vec::new();
    for row in rows {
        let what = format!("{}, {}", place.name, row.credential);
        let before = origin.count();
        let guarded = ask(place, row, "/staff/x", &[]);
        let Some(guarded) = guarded else {
            assert_eq!(row.guarded, "no handshake", "{what}");
            writeln!(
                lines,
                "| {} | {} | no handshake | | | | |",
                place.name, row.credential
            )
            .unwrap();
            continue;
        };
        let challenges = guarded.all("www-authenticate");
        if said(&guarded) != row.guarded || challenges != row.challenges {
            wrong.push(format!("{what}: {} {challenges:?}", said(&guarded)));
            continue;
        }
        let passed = usize::from(guarded.status == 200);
        assert_eq!(origin.count() - before, passed, "{what}");
        let others = [
            ("/open/x", &[][..], "200"),
            (
                "/staff/x",
                &["X-Forwarded-For: 192.0.2.225"],
                "451 region_restricted",
            ),
            ("/nowhere", &[], "404 no_route"),
        ];
        let [open, blocked, nowhere] = others.map(|(target, more, want)| {
            let response = ask(place, row, target, more).unwrap();
            assert_eq!(said(&response), want, "{what}: {target}");
            let challenge = response.header("www-authenticate");
            assert_eq!(challenge, None, "{what}: {target}: only a 401 asks");
            want
        });
        writeln!(
            lines,
            "| {} | {} | {open} | {} | {blocked} | {nowhere} | {} |",
            place.name,
            row.credential,
            row.guarded,
            challenges
                .iter()
                .map(|challenge| format!("`{challenge}`"))
                .collect::<Vec<_>>()
                .join("<br>")
        )
        .unwrap();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    lines
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

fn basic(pair: &str) -> String {
    format!("Authorization: Basic {}", STANDARD.encode(pair))
}

fn key(key: &str) -> String {
    format!("X-Api-Key: {key}")
}

const JWT: &str = r#"
[identity.tokens]
jwt = { issuer = "heldout", audience = "proxy", secret = "${file:jwt-hs.secret}", algorithms = ["HS256"], roles = "roles" }
"#;
const PEOPLE: &str = "[identity.people]\nbasic = { file = \"users\", realm = \"office\" }\n";
const KEYS: &str = "[identity.keys]\napi_key = { file = \"keys.toml\" }\n";
const CARDS: &str = "[identity.cards]\nmtls = { user = \"cn\", roles = \"ou\" }\n";
const PORTAL: &str = "[identity.portal]\nheader = { user = \"X-Auth-User\", roles = \"X-Auth-Roles\", from = \"127.0.0.5\" }\n";

/// What a token source says of every kind of token, at the places where `good` is one of its.
fn token_rows() -> Vec<Row> {
    let token = |changes| [bearer(&hs(&staff_but(changes)))];
    let good = bearer(&hs(&staff()));
    let other = bearer(&hs(&staff_but(json!({ "sub": "bob" }))));
    let invalid = &[BAD_BEARER];
    vec![
        row("none", &[], ASKED, &[BEARER]),
        row(
            "another scheme",
            &["Authorization: Digest x".to_owned()],
            ASKED,
            &[BEARER],
        ),
        row("valid", &[good.clone()], OK, &[]),
        row(
            "valid, no role",
            &token(json!({ "roles": [] })),
            REFUSED,
            &[],
        ),
        row(
            "expired",
            &token(json!({ "exp": now() - 120 })),
            INVALID,
            invalid,
        ),
        row(
            "not yet valid",
            &token(json!({ "nbf": now() + 120 })),
            INVALID,
            invalid,
        ),
        row("malformed", &[bearer("x.y.z")], INVALID, invalid),
        row(
            "empty",
            &["Authorization: Bearer".to_owned()],
            INVALID,
            invalid,
        ),
        row("huge", &[bearer(&"x".repeat(16_000))], INVALID, invalid),
        row(
            "duplicated",
            &[good.clone(), good.clone()],
            INVALID,
            invalid,
        ),
        row("two people", &[good, other], INVALID, invalid),
        row(
            "wrong issuer",
            &token(json!({ "iss": "other" })),
            INVALID,
            invalid,
        ),
        row(
            "wrong audience",
            &token(json!({ "aud": "other" })),
            INVALID,
            invalid,
        ),
        row(
            "wrong key",
            &[bearer(&hs_under(
                b"another secret of thirty-two bytes",
                &json!({ "alg": "HS256" }),
                &staff(),
            ))],
            INVALID,
            invalid,
        ),
        row(
            "wrong algorithm",
            &[bearer(&rs_under(&tokens::keys().private, &staff()))],
            INVALID,
            invalid,
        ),
        row(
            "unsigned",
            &[bearer(&unsigned(&json!({ "alg": "none" }), &staff()))],
            INVALID,
            invalid,
        ),
    ]
}

fn password_rows() -> Vec<Row> {
    let right = basic("alice:right");
    let asked = &[BASIC];
    vec![
        row("none", &[], ASKED, asked),
        row("valid", &[right.clone()], OK, &[]),
        row("valid, another user", &[basic("bob:right")], REFUSED, &[]),
        row("wrong password", &[basic("alice:wrong")], INVALID, asked),
        row("unknown user", &[basic("eve:right")], INVALID, asked),
        row(
            "malformed",
            &["Authorization: Basic !!!".to_owned()],
            INVALID,
            asked,
        ),
        row("no colon", &[basic("alice")], INVALID, asked),
        row(
            "huge",
            &[basic(&format!("alice:{}", "x".repeat(16_000)))],
            INVALID,
            asked,
        ),
        row("duplicated", &[right.clone(), right], INVALID, asked),
        row("a token", &[bearer(&hs(&staff()))], INVALID, asked),
    ]
}

fn key_rows() -> Vec<Row> {
    let asked = &[KEY];
    vec![
        row("none", &[], ASKED, asked),
        row("valid", &[key("good")], OK, &[]),
        row("valid, no role", &[key("plain")], REFUSED, &[]),
        row("expired", &[key("old")], INVALID, asked),
        row("wrong network", &[key("away")], INVALID, asked),
        row("unknown", &[key("nobody's")], INVALID, asked),
        row("empty", &[key("")], ASKED, asked),
        row("huge", &[key(&"x".repeat(16_000))], INVALID, asked),
        row("duplicated", &[key("good"), key("good")], INVALID, asked),
        row("as a token", &[bearer("good")], INVALID, asked),
    ]
}

fn card_rows() -> Vec<Row> {
    static PLAIN: std::sync::LazyLock<Leaf> =
        std::sync::LazyLock::new(|| client_leaf(&[], &["carl"]));
    let with = |credential, leaf, guarded| Row {
        leaf,
        ..row(credential, &[], guarded, &[])
    };
    vec![
        with("none", None, "403 certificate_required"),
        with("valid", Some(&certs().client), OK),
        with("valid, no role", Some(&PLAIN), REFUSED),
        with("expired", Some(&certs().expired), "no handshake"),
        with(
            "of another authority",
            Some(&certs().foreign),
            "no handshake",
        ),
        row(
            "a token",
            &[bearer(&hs(&staff()))],
            "403 certificate_required",
            &[],
        ),
    ]
}

fn portal_rows() -> Vec<Row> {
    let user = "X-Auth-User: alice".to_owned();
    let roles = "X-Auth-Roles: staff".to_owned();
    let asked = &[SESSION];
    let trusted = |row: Row| Row {
        from: "127.0.0.5",
        ..row
    };
    vec![
        trusted(row("none", &[], ASKED, asked)),
        trusted(row("valid", &[user.clone(), roles.clone()], OK, &[])),
        trusted(row("valid, no role", &[user.clone()], REFUSED, &[])),
        trusted(row(
            "duplicated",
            &[user.clone(), user.clone(), roles.clone()],
            INVALID,
            asked,
        )),
        row("from a stranger", &[user, roles], ASKED, asked),
    ]
}

#[test]
fn the_matrix_of_sign_in() {
    let origin = Origin::start();
    let mut table = "| source | credential | public path | guarded path | from a denied country | no route | `WWW-Authenticate` of the guarded path |\n|---|---|---|---|---|---|---|\n".to_owned();
    let mut add = |place: &Place, rows: &[Row]| table.push_str(&run(place, &origin, rows));

    add(&place("jwt", &origin, JWT, "\"tokens\""), &token_rows());
    add(
        &place("basic", &origin, PEOPLE, "\"people\""),
        &password_rows(),
    );
    add(&place("api_key", &origin, KEYS, "\"keys\""), &key_rows());
    add(&place("mtls", &origin, CARDS, "\"cards\""), &card_rows());
    add(
        &place("header", &origin, PORTAL, "\"portal\""),
        &portal_rows(),
    );

    // Keys of an issuer who is not there.
    let nobody = Refusing::new();
    let issuer = Named::new("a");
    let down = format!(
        "[identity.tokens]\njwt = {{ issuer = \"heldout\", audience = \"proxy\", jwks = \"http://127.0.0.1:{}/jwks\", algorithms = [\"ES256\"], roles = \"roles\" }}\n",
        nobody.port()
    );
    add(
        &place("jwt, keys never fetched", &origin, &down, "\"tokens\""),
        &[
            row("none", &[], ASKED, &[BEARER]),
            row(
                "valid, or not: nobody knows",
                &[bearer(&issuer.sign(&staff()))],
                UNKNOWN,
                &[],
            ),
            row("malformed", &[bearer("x.y.z")], INVALID, &[BAD_BEARER]),
            row(
                "wrong issuer",
                &[bearer(&issuer.sign(&staff_but(json!({ "iss": "other" }))))],
                INVALID,
                &[BAD_BEARER],
            ),
        ],
    );

    // A service that says what its session says.
    let service = Origin::scripted(|exchange| {
        let says = match exchange.seen.header("cookie") {
            Some("s=good") => "200 OK\r\nX-Remote-User: alice\r\nX-Remote-Groups: staff",
            Some("s=plain") => "200 OK\r\nX-Remote-User: alice",
            Some("s=broken") => "500 Internal Server Error",
            Some("s=hangs") => {
                exchange.wait_for_close();
                return Then::Close;
            }
            Some(_) | None => "401 Unauthorized",
        };
        exchange.answer(says, "")
    });
    let sources = format!(
        "[identity.sessions]\nforward_auth = {{ url = \"http://{}/\", timeout = \"300ms\", headers_to = [\"Cookie\"], headers_from = {{ user = \"X-Remote-User\", roles = \"X-Remote-Groups\" }} }}\n",
        service.address()
    );
    let session = |value: &str| [format!("Cookie: s={value}")];
    add(
        &place("forward_auth", &origin, &sources, "\"sessions\""),
        &[
            row("none", &[], ASKED, &[SESSION]),
            row("valid", &session("good"), OK, &[]),
            row("valid, no role", &session("plain"), REFUSED, &[]),
            row("refused", &session("old"), INVALID, &[SESSION]),
            row("service broken", &session("broken"), UNKNOWN, &[]),
            row("service silent", &session("hangs"), UNKNOWN, &[]),
        ],
    );

    // Two sources at once.
    let good = bearer(&hs(&staff()));
    let bad = bearer("x.y.z");
    add(
        &place(
            "jwt and basic",
            &origin,
            &[JWT, PEOPLE].concat(),
            "\"tokens\", \"people\"",
        ),
        &[
            row("none", &[], ASKED, &[BEARER, BASIC]),
            row("valid token", &[good.clone()], OK, &[]),
            row("valid password", &[basic("alice:right")], OK, &[]),
            row(
                "invalid token",
                &[bad.clone()],
                INVALID,
                &[BAD_BEARER, BASIC],
            ),
            row(
                "wrong password",
                &[basic("alice:wrong")],
                INVALID,
                &[BEARER, BASIC],
            ),
            row(
                "token and password",
                &[good.clone(), basic("alice:right")],
                INVALID,
                &[BAD_BEARER, BASIC],
            ),
        ],
    );
    add(
        &place(
            "jwt and api_key",
            &origin,
            &[JWT, KEYS].concat(),
            "\"tokens\", \"keys\"",
        ),
        &[
            row("none", &[], ASKED, &[BEARER, KEY]),
            row(
                "both valid, one person",
                &[good.clone(), key("good")],
                OK,
                &[],
            ),
            row(
                "both valid, two people",
                &[good.clone(), key("bobs")],
                TWO,
                &[],
            ),
            row(
                "valid token, unknown key",
                &[good, key("nobody's")],
                OK,
                &[],
            ),
            row(
                "invalid token, valid key",
                &[bad.clone(), key("good")],
                OK,
                &[],
            ),
            row(
                "invalid token, unknown key",
                &[bad.clone(), key("nobody's")],
                INVALID,
                &[BAD_BEARER, KEY],
            ),
            row(
                "invalid token, key without role",
                &[bad, key("plain")],
                REFUSED,
                &[],
            ),
        ],
    );
    println!("{table}");
}
