//! Which site and route a request belongs to, and the answers that need no upstream.

use crate::support::gate::front;
use crate::support::{Gate, Origin, open};

/// The statuses of a refusal.
fn refused(status: u16) -> bool {
    (400..500).contains(&status)
}

#[test]
fn denied_host_is_denied_however_it_is_written() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "{}[[deny]]\nname = \"admin-host\"\nhost = \"admin.test\"\n",
        open(&origin)
    ));
    for (line, host) in [
        ("GET /x", "admin.test"),
        ("GET /x", "ADMIN.TEST"),
        ("GET /x", "admin.test:80"),
        ("GET /x", "admin.test:12345"),
        ("GET /x", "admin.test."),
        ("GET /x", "Admin.Test.:80"),
        ("GET http://admin.test/x", "admin.test"),
        ("GET http://admin.test/x", "app.test"),
        ("GET http://ADMIN.test:80/x", "ADMIN.test:80"),
        ("GET /x", "admin.test.."),
        ("GET /x", "%61dmin.test"),
    ] {
        let response = gate.connect().ask(line, &[&format!("Host: {host}")]);
        assert!(
            refused(response.status),
            "{line} with Host {host}: {}",
            response.status
        );
    }
    assert_eq!(origin.count(), 0, "{:?}", origin.seen());
    for host in [
        "app.test",
        "notadmin.test",
        "admin.test.example",
        "x.admin.test",
    ] {
        gate.connect()
            .ask("GET /x", &[&format!("Host: {host}")])
            .is(200);
    }
}

/// Exact beats the longest wildcard beats `*`; no site is 421, after the global denies.
#[test]
fn host_picks_the_site() {
    let origin = Origin::start();
    let respond = |host: &str, body: &str| {
        format!(
            "[[site]]\nhost = [\"{host}\"]\n  [[site.route]]\n  path = \"/**\"\n  respond = {{ status = 200, body = \"{body}\" }}\n"
        )
    };
    let sites = [
        respond("app.test", "exact"),
        respond("*.app.test", "wild"),
        respond("*.deep.app.test", "deeper"),
    ]
    .concat();
    let denied = "[[deny]]\nname = \"bad\"\nip = \"127.0.0.66/32\"\n";
    let gate = Gate::start(&format!("{}{denied}{sites}", front(&origin)));
    for (host, body) in [
        ("app.test", "exact"),
        ("APP.test.:8080", "exact"),
        ("x.app.test", "wild"),
        ("x.y.app.test", "wild"),
        ("x.deep.app.test", "deeper"),
        ("deep.app.test", "wild"),
    ] {
        let response = gate
            .connect()
            .ask("GET /x", &[&format!("Host: {host}")])
            .is(200);
        assert_eq!(response.text(), body, "{host}");
    }
    for host in ["test", "other.test", "xapp.test", "127.0.0.1"] {
        let response = gate
            .connect()
            .ask("GET /x", &[&format!("Host: {host}")])
            .is(421);
        assert_eq!(response.reason(), "misdirected_request", "{host}");
    }
    gate.connect_from("127.0.0.66")
        .ask("GET /x", &["Host: other.test"])
        .is(403);
    assert_eq!(origin.count(), 0);
}

#[test]
fn path_without_route_is_404() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "{}[[site]]\nhost = [\"*\"]\nupstream = \"app\"\n  [[site.route]]\n  path = \"/only\"\n  allow = \"anyone\"\n",
        front(&origin)
    ));
    let mut client = gate.connect();
    client.ask("GET /only", &[]).is(200);
    client.ask("GET /only/", &[]).is(200);
    for target in ["/", "/only/below", "/onlyness", "/other"] {
        let response = client.ask(&format!("GET {target}"), &[]).is(404);
        assert_eq!(response.reason(), "no_route", "{target}");
    }
}

#[test]
fn redirects_and_fixed_answers() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        r#"{}[client]
trusted_proxies = ["127.0.0.2/32"]
[[deny]]
name = "bad"
ip = "127.0.0.66/32"
[[site]]
host = ["*"]
  [[site.route]]
  path = "/old/**"
  redirect = {{ to = "https://new.test{{path}}{{query}}", status = 308 }}
  [[site.route]]
  path = "/tail/**"
  redirect = {{ to = "{{scheme}}://{{host}}/to/{{tail}}", status = 307 }}
  [[site.route]]
  path = "/plain"
  redirect = {{ to = "/elsewhere" }}
  [[site.route]]
  path = "/robots.txt"
  respond = {{ status = 200, body = "Disallow: /\n", type = "text/plain" }}
  [[site.route]]
  path = "/closed/**"
  redirect = {{ to = "/inside" }}
  allow = [{{ ip = "127.0.0.5/32" }}]
"#,
        front(&origin)
    ));
    let mut client = gate.connect();
    for (target, status, location) in [
        ("/old/a%2Fb?x=%20", 308, "https://new.test/old/a%2Fb?x=%20"),
        ("/old", 308, "https://new.test/old"),
        ("/tail/a/b", 307, "http://app.test/to/a/b"),
    ] {
        let response = client.ask(&format!("GET {target}"), &[]).is(status);
        assert_eq!(response.header("location"), Some(location), "{target}");
    }
    let plain = client.ask("GET /plain", &[]);
    assert!(
        [302, 303, 307, 308].contains(&plain.status),
        "never 301: {}",
        plain.status
    );
    assert_eq!(plain.header("location"), Some("/elsewhere"));
    let fixed = client.ask("GET /robots.txt", &[]).is(200);
    assert_eq!(
        (fixed.text().as_str(), fixed.header("content-type")),
        ("Disallow: /\n", Some("text/plain"))
    );
    assert_eq!(client.ask("HEAD /robots.txt", &[]).is(200).body, b"");
    client.ask("GET /closed/x", &[]).is(403);
    gate.connect_from("127.0.0.5")
        .ask("GET /closed/x", &[])
        .is(302);
    gate.connect_from("127.0.0.66")
        .ask("GET /old/x", &[])
        .is(403);

    let told = [
        "X-Forwarded-For: 198.51.100.7",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: public.test",
    ];
    let believed = gate
        .connect_from("127.0.0.2")
        .ask("GET /tail/a", &told)
        .is(307);
    assert_eq!(
        believed.header("location"),
        Some("https://public.test/to/a"),
        "from a trusted peer"
    );
    let ignored = client.ask("GET /tail/a", &told).is(307);
    assert_eq!(
        ignored.header("location"),
        Some("http://app.test/to/a"),
        "from a stranger"
    );
    assert_eq!(origin.count(), 0);
}

#[test]
fn methods_are_compared_exactly_and_head_counts_as_get() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "{}[[deny]]\nname = \"read-only\"\npath = \"/readonly/**\"\nunless = [{{ method = [\"GET\"] }}]\n",
        open(&origin)
    ));
    let mut client = gate.connect();
    for (method, status) in [
        ("GET", 200),
        ("HEAD", 200),
        ("POST", 403),
        ("DELETE", 403),
        ("OPTIONS", 403),
        ("FOO", 403),
        ("get", 403),
        ("HEADX", 403),
    ] {
        let response = client.ask(&format!("{method} /readonly/x"), &["Content-Length: 0"]);
        assert_eq!(response.status, status, "{method}");
    }
}
