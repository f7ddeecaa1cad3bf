//! Client certificates as identity: who is known by one, beside what, and what strangers are told.

use serde_json::json;
use tempfile::TempDir;

use crate::support::certs::{Leaf, certs, client_leaf};
use crate::support::tokens::{self, hs, staff, staff_but};
use crate::support::{Client, Gate, Origin, eventually_some};

fn config(origin: &Origin, sources: &str, mtls: &str) -> String {
    format!(
        r#"
[[listener]]
address = "127.0.0.1:0"
tls = {{ certificates = [{{ cert = "server.crt", key = "server.key" }}], client_ca = "ca.pem", client_certificate = "optional" }}
[upstream.app]
servers = ["http://{}"]
[identity.cert]
mtls = {{ {mtls} }}
[identity.hs]
jwt = {{ issuer = "heldout", audience = "proxy", secret = "${{file:jwt-hs.secret}}", algorithms = ["HS256"], roles = "roles" }}
[[site]]
host = ["*"]
upstream = "app"
identity = {sources}
headers_to_upstream = {{ user = "X-User", roles = "X-Roles", claim."certificate.serial" = "X-Serial" }}
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/staff/**"
  allow = [{{ role = "staff" }}]
  [[site.route]]
  path = "/by-cert/**"
  allow = [{{ auth = "cert" }}]
  [[site.route]]
  path = "/by-token/**"
  allow = [{{ auth = "hs", tls.client_cert = true }}]
  [[site.route]]
  path = "/blocked/**"
  allow = [{{ role = "staff", ip = "192.0.2.1/32" }}]
"#,
        origin.address()
    )
}

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    certs().write(folder.path());
    tokens::write(folder.path());
    folder
}

fn ask(
    gate: &Gate,
    leaf: Option<&Leaf>,
    target: &str,
    fields: &[&str],
) -> crate::support::Response {
    let config = certs().client_config(rustls::ALL_VERSIONS, &["http/1.1"], leaf);
    let (mut client, _) = Client::tls(gate.address(), "app.test", config).unwrap();
    let fields = [&["Host: app.test"], fields].concat();
    client.ask(&format!("GET {target}"), &fields)
}

#[test]
fn a_certificate_says_who_asks() {
    let origin = Origin::start();
    let bearer = format!("Authorization: Bearer {}", hs(&staff()));
    let guest = format!(
        "Authorization: Bearer {}",
        hs(&staff_but(json!({ "sub": "bob", "roles": ["guest"] })))
    );
    let broken = "Authorization: Bearer x.y.z";
    let alice = &certs().client;
    let only = Gate::start_in(folder(), &config(&origin, "[\"cert\"]", "roles = \"ou\""));
    let both = Gate::start_in(
        folder(),
        &config(&origin, "[\"cert\", \"hs\"]", "roles = \"ou\""),
    );
    let token_first = Gate::start_in(
        folder(),
        &config(&origin, "[\"hs\", \"cert\"]", "roles = \"ou\""),
    );
    for (gate, leaf, target, fields, status, reason, why) in [
        (
            &only,
            None,
            "/staff",
            vec![],
            403,
            "certificate_required",
            "nobody can answer a 401 here",
        ),
        (
            &only,
            None,
            "/blocked",
            vec![],
            403,
            "forbidden",
            "no certificate would help",
        ),
        (&only, None, "/", vec![], 200, "", "public"),
        (
            &only,
            Some(alice),
            "/staff",
            vec![],
            200,
            "",
            "a role by its unit",
        ),
        (
            &only,
            Some(alice),
            "/blocked",
            vec![],
            403,
            "forbidden",
            "from elsewhere",
        ),
        (
            &only,
            Some(alice),
            "/by-cert",
            vec![],
            200,
            "",
            "auth names the source",
        ),
        (
            &both,
            None,
            "/staff",
            vec![],
            401,
            "not_authenticated",
            "a token could help",
        ),
        (
            &both,
            None,
            "/staff",
            vec![broken],
            401,
            "invalid_token",
            "a broken token",
        ),
        (
            &both,
            None,
            "/staff",
            vec![&*bearer],
            200,
            "",
            "a token alone",
        ),
        (
            &both,
            Some(alice),
            "/staff",
            vec![&*guest],
            200,
            "",
            "the certificate comes first, and is not compared",
        ),
        (
            &both,
            Some(alice),
            "/by-token",
            vec![&*bearer],
            403,
            "forbidden",
            "one principal: the certificate's",
        ),
        (
            &both,
            Some(alice),
            "/staff",
            vec![broken],
            200,
            "",
            "the valid one counts",
        ),
        (
            &token_first,
            Some(alice),
            "/by-token",
            vec![&*bearer],
            200,
            "",
            "the token comes first, the certificate holds beside it",
        ),
        (
            &token_first,
            Some(alice),
            "/by-cert",
            vec![&*bearer],
            403,
            "forbidden",
            "one principal: the token's",
        ),
        (
            &token_first,
            Some(alice),
            "/staff",
            vec![&*guest],
            403,
            "forbidden",
            "roles never merge",
        ),
        (
            &token_first,
            Some(alice),
            "/by-cert",
            vec![],
            200,
            "",
            "the certificate alone",
        ),
    ] {
        let response = ask(gate, leaf, target, &fields);
        assert_eq!(
            response.status,
            status,
            "{target} {why}: {}",
            response.text()
        );
        if !reason.is_empty() {
            assert_eq!(response.reason(), reason, "{target} {why}");
        }
        let challenged = !response.all("www-authenticate").is_empty();
        assert_eq!(challenged, status == 401, "{target} {why}");
    }
    let seen = {
        ask(
            &only,
            Some(alice),
            "/staff",
            &["X-User: mallory", "x_roles: admin"],
        )
        .is(200);
        origin.last()
    };
    assert_eq!(seen.all("x-user"), ["alice@app.test"]);
    assert_eq!(seen.all("x-roles"), ["staff"]);
    assert_eq!(seen.look_alikes("x-roles").len(), 1, "{seen:?}");
    assert!(
        seen.header("x-serial")
            .is_some_and(|serial| !serial.is_empty())
    );
    let line = eventually_some("a line of hers", || {
        let lines = only.log(1).into_iter().rev();
        lines
            .into_iter()
            .find(|line| line["user.id"] == "alice@app.test")
    });
    assert_eq!(line["auth.source"], "cert");
    assert_eq!(line["tls.client.subject"], "OU=staff,CN=alice");
}

#[test]
fn which_name_is_the_user() {
    let origin = Origin::start();
    let folder = folder();
    let roles = "\"alice@app.test\" = [\"staff\"]\n\"printer.app.test\" = [\"staff\"]\n";
    std::fs::write(folder.path().join("roles.toml"), roles).unwrap();
    let gate = |user: &str| {
        let here = TempDir::new().unwrap();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), here.path().join(entry.file_name())).unwrap();
        }
        let mtls = format!("user = \"{user}\", roles = \"roles.toml\"");
        Gate::start_in(here, &config(&origin, "[\"cert\"]", &mtls))
    };
    let (email, host, cn) = (gate("san.email"), gate("san.dns"), gate("cn"));
    let printer = client_leaf(&["printer.app.test"], &["printer"]);
    let two_hosts = client_leaf(&["printer.app.test", "b.app.test"], &["printer"]);
    for (gate, leaf, user, status, why) in [
        (
            &email,
            &certs().client,
            Some("alice@app.test"),
            200,
            "the e-mail address, with a role by the file",
        ),
        (
            &cn,
            &certs().client,
            Some("alice"),
            403,
            "the common name, which the file does not know",
        ),
        (&host, &certs().client, None, 403, "no host name"),
        (
            &host,
            &printer,
            Some("printer.app.test"),
            200,
            "the host name",
        ),
        (&host, &two_hosts, None, 403, "two host names are none"),
        (&email, &printer, None, 403, "no e-mail address"),
    ] {
        let response = ask(gate, Some(leaf), "/staff", &[]);
        assert_eq!(response.status, status, "{why}");
        ask(gate, Some(leaf), "/by-cert", &[]).is(if user.is_some() { 200 } else { 403 });
        if let Some(user) = user {
            assert_eq!(origin.last().all("x-user"), [user], "{why}");
        }
    }
    // Mending the file is enough: it is read anew with the configuration.
    email.write("roles.toml", "\"alice@app.test\" = []\n");
    email.reload_as_is().unwrap();
    ask(&email, Some(&certs().client), "/staff", &[]).is(403);
}
