//! Identity from elsewhere: fields that a trusted peer sets, and another service that is asked.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use crate::support::gate::front;
use crate::support::tokens::{self, hs, staff};
use crate::support::{Gate, Origin, Refusing, Then};

const ROUTES: &str = r#"
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/staff/**"
  allow = [{ role = "staff" }]
  [[site.route]]
  path = "/blocked/**"
  allow = [{ role = "staff", ip = "192.0.2.1/32" }]
"#;

#[test]
fn only_a_trusted_peer_says_who_asks() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        r#"{}
[identity.sso]
header = {{ user = "X-Auth-User", roles = "X-Auth-Roles", from = "127.0.0.5" }}
[[site]]
host = ["*"]
upstream = "app"
identity = ["sso"]
headers_to_upstream = {{ user = "X-User", roles = "X-Roles" }}
{ROUTES}"#,
        front(&origin)
    ));
    let both: &[&str] = &["X-Auth-User: anna", "X-Auth-Roles: staff, other ,staff"];
    for (source, fields, status, why) in [
        ("127.0.0.1", both, 401, "a stranger says so"),
        ("127.0.0.5", both, 200, "the trusted peer says so"),
        (
            "127.0.0.5",
            &["X-Auth-Roles: staff"],
            401,
            "roles of nobody",
        ),
        (
            "127.0.0.5",
            &["X-Auth-User:", "X-Auth-Roles: staff"],
            401,
            "an empty user",
        ),
        ("127.0.0.5", &["X-Auth-User: anna"], 403, "no role"),
        (
            "127.0.0.5",
            &["X_Auth_User: anna", "X-Auth-Roles: staff"],
            401,
            "a look-alike",
        ),
        (
            "127.0.0.5",
            &[
                "X-Auth-User: anna",
                "X-Auth-User: ben",
                "X-Auth-Roles: staff",
            ],
            401,
            "two users are none",
        ),
        (
            "127.0.0.5",
            &["X-Auth-User: anna", "X-Auth-Roles: staffer,nostaff"],
            403,
            "roles are compared whole",
        ),
    ] {
        let response = gate.connect_from(source).ask("GET /staff", fields);
        assert_eq!(response.status, status, "{why}");
        let challenged = response.header("www-authenticate").is_some();
        assert_eq!(challenged, status == 401, "{why}");
    }
    gate.connect_from("127.0.0.5")
        .ask("GET /staff", both)
        .is(200);
    let seen = origin.last();
    assert_eq!(seen.all("x-user"), ["anna"]);
    assert_eq!(seen.all("x-roles"), ["staff,other"]);
    assert!(
        seen.all("x-auth-user").is_empty(),
        "what the peer said ends here"
    );
    let forged = ["X-Auth-User: mallory", "X_Auth_Roles: admin"];
    gate.connect().ask("GET /", &forged).is(200);
    let seen = origin.last();
    assert!(seen.look_alikes("x-auth-user").is_empty(), "{seen:?}");
    assert!(seen.look_alikes("x-auth-roles").is_empty(), "{seen:?}");
}

fn asking(origin: &Origin, service: &str, more: &str) -> String {
    format!(
        r#"{}
[identity.hs]
jwt = {{ issuer = "heldout", audience = "proxy", secret = "${{file:jwt-hs.secret}}", algorithms = ["HS256"], roles = "roles" }}
[identity.service]
forward_auth = {{ url = "http://{service}/check?from=gate", timeout = "500ms", headers_from = {{ user = "X-Remote-User", roles = "X-Remote-Groups", claim."mail" = "X-Remote-Mail" }}{more} }}
[[site]]
host = ["*"]
upstream = "app"
identity = ["hs", "service"]
headers_to_upstream = {{ user = "X-User", claim."mail" = "X-Mail" }}
{ROUTES}"#,
        front(origin)
    )
}

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    tokens::write(folder.path());
    folder
}

#[test]
fn another_service_is_asked_who_that_is_and_only_where_it_matters() {
    let origin = Origin::start();
    let head = Arc::new(Mutex::new("204 No Content"));
    let now = Arc::clone(&head);
    let service = Origin::scripted(move |exchange| {
        let head = *now.lock().unwrap();
        match head {
            "hang" => {
                exchange.wait_for_close();
                Then::Close
            }
            "garbage" => {
                exchange.send("SSH-2.0-OpenSSH\r\n");
                Then::Close
            }
            head => exchange.answer(head, ""),
        }
    });
    let known = "200 OK\r\nX-Remote-User: anna\r\nX-Remote-Groups: staff,other\r\nX-Remote-Mail: anna@x.example\r\nSet-Cookie: a=b";
    let gate = Gate::start_in(
        folder(),
        &asking(&origin, &service.address().to_string(), ""),
    );
    let token = format!("Authorization: Bearer {}", hs(&staff()));
    let own = "Authorization: Bearer opaque-token-of-the-service";
    for (target, says, fields, status, asked, why) in [
        (
            "/staff",
            known,
            vec![],
            401,
            0,
            "no credential: nobody is asked",
        ),
        (
            "/",
            known,
            vec!["Cookie: s=1"],
            200,
            0,
            "public: nobody is asked",
        ),
        (
            "/blocked",
            known,
            vec!["Cookie: s=1"],
            403,
            0,
            "certain whoever it is: nobody is asked",
        ),
        (
            "/staff",
            known,
            vec!["Cookie: s=1"],
            200,
            1,
            "the service knows the session",
        ),
        (
            "/staff",
            known,
            vec![own],
            200,
            1,
            "a token that no other source claims is the service's",
        ),
        (
            "/staff",
            known,
            vec![own, own],
            401,
            0,
            "two tokens are nobody's",
        ),
        (
            "/staff",
            known,
            vec![&*token],
            200,
            0,
            "the token's own source comes first",
        ),
        (
            "/staff",
            known,
            vec![&*token, "Cookie: s=1"],
            200,
            0,
            "nothing that it says could count",
        ),
        (
            "/staff",
            "200 OK\r\nX-Remote-User: ben",
            vec!["Cookie: s=1"],
            403,
            1,
            "known, without the role",
        ),
        (
            "/staff",
            "401 Unauthorized",
            vec!["Cookie: s=1"],
            401,
            1,
            "it does not know the session",
        ),
        (
            "/staff",
            "403 Forbidden",
            vec!["Cookie: s=1"],
            401,
            1,
            "it does not know the session",
        ),
        (
            "/staff",
            "302 Found\r\nLocation: /login",
            vec!["Cookie: s=1"],
            401,
            1,
            "it wants a sign-in",
        ),
        (
            "/staff",
            "500 Internal Server Error",
            vec!["Cookie: s=1"],
            503,
            1,
            "it is broken",
        ),
        (
            "/staff",
            "404 Not Found",
            vec!["Cookie: s=1"],
            503,
            1,
            "it is another service",
        ),
        (
            "/staff",
            "200 OK\r\nX-Remote-User: a\r\nX-Remote-User: b",
            vec!["Cookie: s=1"],
            503,
            1,
            "it says two things",
        ),
        (
            "/staff",
            "garbage",
            vec!["Cookie: s=1"],
            503,
            1,
            "it speaks something else",
        ),
        ("/staff", "hang", vec!["Cookie: s=1"], 503, 1, "it is late"),
    ] {
        *head.lock().unwrap() = says;
        let before = service.count();
        let response = gate.connect().ask(&format!("GET {target}"), &fields);
        assert_eq!(response.status, status, "{why}: {}", response.text());
        assert_eq!(service.count() - before, asked, "{why}");
        assert!(response.header("set-cookie").is_none(), "{why}");
    }
    // What it is shown, and what becomes of its words.
    *head.lock().unwrap() = known;
    let fields = [
        "Host: app.test",
        "Cookie: s=1",
        "X-Other: 1",
        "X-Forwarded-Uri: /forged",
        "Content-Length: 3",
    ];
    let response = gate
        .connect()
        .ask_with("POST /staff/a%2Fb?q=1", &fields[..4], b"abc");
    assert_eq!(response.status, 200);
    let seen = service.last();
    assert_eq!((&*seen.method, &*seen.target), ("GET", "/check?from=gate"));
    for (name, value) in [
        ("x-forwarded-method", "POST"),
        ("x-forwarded-uri", "/staff/a%2Fb?q=1"),
        ("x-forwarded-host", "app.test"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "127.0.0.1"),
        ("cookie", "s=1"),
    ] {
        assert_eq!(seen.all(name), [value], "{name}");
    }
    assert!(seen.header("x-other").is_none());
    assert!(seen.body.is_empty());
    let up = origin.last();
    assert_eq!(up.all("x-user"), ["anna"]);
    assert_eq!(up.all("x-mail"), ["anna@x.example"]);
    assert!(up.all("x-remote-groups").is_empty());
}

#[test]
fn a_service_that_is_down_fails_only_those_who_bring_a_credential() {
    let origin = Origin::start();
    let down = Refusing::new();
    let config = asking(
        &origin,
        &format!("127.0.0.1:{}", down.port()),
        ", headers_to = [\"Cookie\"]",
    );
    let gate = Gate::start_in(folder(), &config);
    for (target, fields, status, why) in [
        ("/staff", vec!["Cookie: s=1"], 503, "nobody can say"),
        ("/staff", vec![], 401, "no credential"),
        (
            "/staff",
            vec!["Authorization: Bearer x"],
            401,
            "the service is not shown tokens",
        ),
        ("/", vec!["Cookie: s=1"], 200, "public"),
        (
            "/blocked",
            vec!["Cookie: s=1"],
            403,
            "certain whoever it is",
        ),
    ] {
        let response = gate.connect().ask(&format!("GET {target}"), &fields);
        assert_eq!(response.status, status, "{why}");
        if status == 503 {
            assert_eq!(response.reason(), "fact_unavailable", "{why}");
        }
    }
    let line = gate
        .log(5)
        .into_iter()
        .find(|line| line["http.response.status_code"] == 503);
    assert_eq!(line.unwrap()["auth.error"], "source_failed");
}
