//! What rules know of a device: by its certificate, by a signed claim, by a list that must be young.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::json;
use tempfile::TempDir;

use crate::support::certs::{Leaf, certs, client_leaf};
use crate::support::tokens::{self, hs, staff, staff_but};
use crate::support::{Client, Gate, Origin, Response, eventually};

fn config(origin: &Origin, devices: &str) -> String {
    format!(
        r#"
[[listener]]
address = "127.0.0.1:0"
tls = {{ certificates = [{{ cert = "server.crt", key = "server.key" }}], client_ca = "ca.pem", client_certificate = "optional" }}
[upstream.app]
servers = ["http://{}"]
{devices}
[identity.hs]
jwt = {{ issuer = "heldout", audience = "proxy", secret = "${{file:jwt-hs.secret}}", algorithms = ["HS256"], roles = "roles" }}
[[site]]
host = ["app.test"]
upstream = "app"
identity = ["hs"]
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/managed/**"
  allow = [{{ device.managed = true }}]
  [[site.route]]
  path = "/staff/**"
  allow = [{{ role = "staff" }}]
    [[site.route.deny]]
    name = "stolen"
    device.stolen = true
    status = 403
    reason = "device_untrusted"
  [[site.route]]
  path = "/issuer/**"
  allow = [{{ device."certificate.issuer" = "CN=Portcullis test CA" }}]
[[site]]
host = ["www.app.test"]
upstream = "app"
  [[site.route]]
  path = "/**"
  allow = [{{ device.managed = true }}]
"#,
        origin.address()
    )
}

const LIST: &str = r#"{
  "laptop-7": { "managed": true },
  "laptop-8": { "managed": false },
  "laptop-9": { "managed": true, "stolen": true }
}"#;

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    certs().write(folder.path());
    tokens::write(folder.path());
    std::fs::write(folder.path().join("devices.json"), LIST).unwrap();
    folder
}

fn ask(gate: &Gate, host: &str, leaf: Option<&Leaf>, target: &str, fields: &[&str]) -> Response {
    let config = certs().client_config(rustls::ALL_VERSIONS, &["http/1.1"], leaf);
    let (mut client, _) = Client::tls(gate.address(), host, config).unwrap();
    let host = format!("Host: {host}");
    let fields = [&[&*host], fields].concat();
    client.ask(&format!("GET {target}"), &fields)
}

#[test]
fn a_device_is_known_by_what_somebody_trusted_signed() {
    let origin = Origin::start();
    let gate = Gate::start_in(
        folder(),
        &config(&origin, "[devices]\nfile = \"devices.json\"\n"),
    );
    let (seven, eight, nine) = (
        client_leaf(&["laptop-7"], &["x"]),
        client_leaf(&[], &["laptop-8"]),
        client_leaf(&["laptop-9"], &["y"]),
    );
    let other = client_leaf(&["laptop-99"], &["z"]);
    let plain = format!("Authorization: Bearer {}", hs(&staff()));
    let said = |device: serde_json::Value| {
        format!(
            "Authorization: Bearer {}",
            hs(&staff_but(json!({ "device": device })))
        )
    };
    let (by_claim, boasting) = (
        said(json!({ "id": "laptop-7" })),
        said(json!({ "id": "laptop-8", "managed": true })),
    );
    let forging = said(json!({ "certificate": { "issuer": "CN=Portcullis test CA" } }));
    for (host, leaf, target, fields, status, why) in [
        (
            "app.test",
            None,
            "/managed",
            vec![],
            401,
            "no device, and a token could name one",
        ),
        (
            "app.test",
            Some(&seven),
            "/managed",
            vec![],
            200,
            "by a host name of its certificate, without anybody signed in",
        ),
        (
            "app.test",
            Some(&eight),
            "/managed",
            vec![],
            401,
            "listed as not managed",
        ),
        (
            "app.test",
            Some(&other),
            "/managed",
            vec![],
            401,
            "not listed",
        ),
        (
            "app.test",
            None,
            "/managed",
            vec![&*plain],
            403,
            "a person without a device",
        ),
        (
            "app.test",
            None,
            "/managed",
            vec![&*by_claim],
            200,
            "by the claim of a token",
        ),
        (
            "app.test",
            None,
            "/managed",
            vec![&*boasting],
            403,
            "the list before the token's own word",
        ),
        (
            "app.test",
            Some(&seven),
            "/managed",
            vec![&*plain],
            200,
            "the certificate's device holds beside a token",
        ),
        (
            "app.test",
            None,
            "/staff",
            vec![&*plain],
            200,
            "no device, no deny",
        ),
        (
            "app.test",
            Some(&nine),
            "/staff",
            vec![&*plain],
            403,
            "a stolen device",
        ),
        (
            "app.test",
            Some(&other),
            "/issuer",
            vec![],
            200,
            "what the certificate says",
        ),
        (
            "app.test",
            None,
            "/issuer",
            vec![&*forging],
            403,
            "a token cannot speak for a certificate",
        ),
        (
            "www.app.test",
            Some(&seven),
            "/",
            vec![],
            200,
            "where nobody signs in",
        ),
        (
            "www.app.test",
            Some(&eight),
            "/",
            vec![],
            403,
            "where nobody signs in",
        ),
        (
            "www.app.test",
            None,
            "/",
            vec![],
            403,
            "where nobody signs in",
        ),
    ] {
        let response = ask(&gate, host, leaf, target, &fields);
        assert_eq!(
            response.status,
            status,
            "{target} {why}: {}",
            response.text()
        );
    }
    let refused = ask(&gate, "app.test", Some(&nine), "/staff", &[&plain]);
    assert_eq!(refused.reason(), "device_untrusted");

    // A list that breaks leaves the last good one in force.
    gate.write("devices.json", "[");
    gate.reload_as_is().unwrap();
    ask(&gate, "app.test", Some(&seven), "/managed", &[]).is(200);

    // One that grows old helps nobody, and hurts only where it would decide.
    gate.write("devices.json", LIST);
    let old = SystemTime::now() - Duration::from_secs(2 * 3600);
    let file = std::fs::File::options()
        .write(true)
        .open(gate.path("devices.json"))
        .unwrap();
    file.set_modified(old).unwrap();
    gate.reload_as_is().unwrap();
    for (host, leaf, target, fields, status, why) in [
        (
            "app.test",
            Some(&seven),
            "/managed",
            vec![],
            503,
            "nobody knows",
        ),
        (
            "app.test",
            Some(&seven),
            "/staff",
            vec![&*plain],
            503,
            "it may be stolen",
        ),
        (
            "app.test",
            Some(&seven),
            "/staff",
            vec![],
            401,
            "nobody is signed in, whatever the device",
        ),
        (
            "app.test",
            None,
            "/staff",
            vec![&*plain],
            200,
            "no device that a list could speak of",
        ),
        (
            "app.test",
            Some(&seven),
            "/issuer",
            vec![],
            200,
            "what the certificate says needs no list",
        ),
        ("app.test", Some(&seven), "/", vec![], 200, "public"),
        (
            "www.app.test",
            Some(&seven),
            "/",
            vec![],
            503,
            "nobody knows",
        ),
    ] {
        let response = ask(&gate, host, leaf, target, &fields);
        assert_eq!(
            response.status,
            status,
            "old list: {target} {why}: {}",
            response.text()
        );
    }
}

#[test]
fn a_list_is_fetched_and_fails_when_it_grows_old() {
    let origin = Origin::start();
    let answer = Arc::new(Mutex::new(("200 OK", LIST.to_owned())));
    let now = Arc::clone(&answer);
    let feed = Origin::scripted(move |exchange| {
        let (head, body) = now.lock().unwrap().clone();
        exchange.answer(head, body)
    });
    let devices = format!(
        "[devices]\nurl = \"http://{}/devices.json\"\nmax_age = \"4s\"\n",
        feed.address()
    );
    let gate = Gate::start_in(folder(), &config(&origin, &devices));
    let seven = client_leaf(&["laptop-7"], &["x"]);
    let status = || ask(&gate, "app.test", Some(&seven), "/managed", &[]).status;
    eventually("the list is fetched", || status() == 200);
    *answer.lock().unwrap() = (
        "200 OK",
        LIST.replace("\"managed\": true", "\"managed\": false"),
    );
    eventually("a change is seen", || status() == 401);
    *answer.lock().unwrap() = ("500 Internal Server Error", String::new());
    let fetched = feed.count();
    eventually("it is asked again", || feed.count() > fetched);
    assert_eq!(status(), 401, "the last good list counts while it is young");
    eventually("the list is too old", || status() == 503);
    *answer.lock().unwrap() = ("200 OK", LIST.to_owned());
    eventually("it recovers", || status() == 200);
}
