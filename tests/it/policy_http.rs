//! The policy as seen from outside: hosts, paths in disguise, methods, addresses, regions, and who signs in how.

use base64::Engine as _;
use serde_json::json;
use tempfile::TempDir;

use crate::support::gate::front;
use crate::support::tokens::{
    self, base64url, hs, hs_under, keys, now, rs_under, staff, staff_but, unsigned,
};
use crate::support::{Gate, Origin, country_database, eventually, open};

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

/// `/**` is open, `/admin/**` is denied: no spelling of the second is owned by the first.
#[test]
fn disguised_paths_are_refused_and_plain_ones_pass() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "{}[[deny]]\nname = \"admin-path\"\npath = \"/admin/**\"\n",
        open(&origin)
    ));
    for target in [
        "/admin",
        "/admin/",
        "/admin/x",
        "/admin?x",
        "//admin",
        "///admin//x",
        "/%61dmin",
        "/%61%64%6D%69%6E/x",
        "/aDmin",
        "/ADMIN/x",
        "/%41dmin",
        "/%2561dmin",
        "/%25%36%31dmin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/%2E%2e/admin",
        "/x/.%2e/admin",
        "/x/%252e%252e/admin",
        "/x/%252e./admin",
        "/./admin",
        "/%2e/admin",
        "/admin;x",
        "/admin;x=1/y",
        "/;/admin",
        "/;x=1/admin",
        "/x/..;/admin",
        "/x/..;a=b/admin",
        "/x/%2e%2e;/admin",
        "/admin%2f",
        "/admin%2Fx",
        "/%2fadmin",
        "/%2Fadmin",
        "/%252fadmin",
        "/x%2f..%2fadmin",
        "/x/..%2fadmin",
        "/admin%5cx",
        "/%5cadmin",
        "/%255cadmin",
        "/x%5c..%5cadmin",
        "/x/..%5cadmin",
        "/admin.",
        "/admin..",
        "/admin%20",
        "/admin%20.",
        "/admin.%20/x",
        "/admin%2e",
        "/admin%252e",
        "/admin%00",
        "/ad%00min",
        "/admin%0a",
        "/admin%2500",
        "/admin%09",
        "/admin%7f",
        "/x/..%c0%afadmin",
        "/%c1%a1dmin",
        "/%c0%aeadmin",
        "/%e0%81%a1dmin",
        "/%f0%80%81%a1dmin",
        "/%25c1%25a1dmin",
        "/%u0061dmin",
        "/admin%",
        "/admin%zz",
        "/%a",
        "/admin/%",
        "/admin/..",
        "/admin/../x",
        "/admin/.",
        "/x/./y",
        "/x/../y",
        "/..",
        "/.",
        "/%2e%2e",
        "/%ed%a0%80",
    ] {
        let response = gate.connect().ask(&format!("GET {target}"), &[]);
        assert!(
            [400, 403].contains(&response.status),
            "{target}: {}",
            response.status
        );
    }
    assert_eq!(origin.count(), 0, "{:?}", origin.seen());
    let mut client = gate.connect();
    for target in [
        "/",
        "/x/admin",
        "/admins",
        "/administrator",
        "/x?p=/admin",
        "/x?p=/../admin",
        "/adm",
        "/admin-x",
        "/admin_x",
        "/a%20b",
        "/a%2Fb",
        "/caf%C3%A9",
        "/...",
        "/..a",
        "/a..b",
        "/a.",
        "/x;y=1",
        "/%7Eme",
        "/badmin",
        "/xn--admin",
        "/a%25b",
        "/100%25",
        "/proxy/https://x.test/y",
        "/UPPER",
        "/@a/b",
    ] {
        let response = client.ask(&format!("GET {target}"), &[]);
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        assert_eq!(origin.last().target, target);
    }
}

#[test]
fn disagreeing_readings_are_called_ambiguous() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "{}[[deny]]\nname = \"admin-path\"\npath = \"/admin/**\"\n",
        open(&origin)
    ));
    for target in ["/ADMIN", "/admin;x", "//admin", "/admin%2f"] {
        let response = gate.connect().ask(&format!("GET {target}"), &[]);
        if response.status == 400 {
            assert_eq!(response.reason(), "ambiguous_path", "{target}");
        }
    }
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

#[test]
fn fields_that_only_the_proxy_may_set_never_pass() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "{}headers_to_upstream = {{ user = \"X-Login\", roles = \"X-Groups\" }}\nstrip_headers = [\"X-Country\", \"X-Client-Cert-CN\"]\n",
        open(&origin)
    ));
    let names = [
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-User",
        "X-Forwarded-Email",
        "X-Forwarded-Client-Cert",
        "X-Real-IP",
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "X-User",
        "X-Roles",
        "X-Remote-User",
        "Remote-User",
        "X-Auth-Request-User",
        "X-Auth-Request-Email",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method",
        "X-HTTP-Method-Override",
        "X-Method-Override",
        "X-Login",
        "X-Groups",
        "X-Country",
        "X-Client-Cert-CN",
    ];
    for name in names {
        for spelling in [
            name.to_owned(),
            name.to_lowercase(),
            name.to_uppercase(),
            name.replace('-', "_"),
            name.replace('-', "."),
            name.replacen('-', "_", 1),
        ] {
            gate.connect()
                .ask("GET /x", &[&format!("{spelling}: evil-value")])
                .is(200);
            let seen = origin.last();
            let raw = String::from_utf8_lossy(&seen.raw).into_owned();
            assert!(
                !raw.contains("evil-value"),
                "{spelling} reaches the origin: {raw}"
            );
            if name != "X-Forwarded-For"
                && name != "X-Forwarded-Host"
                && name != "X-Forwarded-Proto"
            {
                assert!(seen.look_alikes(name).is_empty(), "{spelling}: {raw}");
            }
        }
    }
    gate.connect()
        .ask(
            "GET /x",
            &["X-Userland: fine", "X_Custom: fine", "X.Custom: fine"],
        )
        .is(200);
    let seen = origin.last();
    assert_eq!(
        (
            seen.header("x-userland"),
            seen.header("x_custom"),
            seen.header("x.custom")
        ),
        (Some("fine"), Some("fine"), Some("fine")),
        "others pass"
    );
}

#[test]
fn trailers_cannot_bring_what_headers_may_not() {
    let origin = Origin::start();
    let gate = Gate::start(&open(&origin));
    let mut client = gate.connect();
    client.ask_with(
        "POST /x",
        &["Transfer-Encoding: chunked", "Trailer: X-User"],
        b"1\r\na\r\n0\r\nX-User: evil-value\r\nX-Forwarded-For: 127.0.0.5\r\nContent-Length: 7\r\n\r\n",
    );
    let raw = String::from_utf8_lossy(&origin.last().raw).into_owned();
    assert!(
        !raw.contains("evil-value") && !raw.contains("127.0.0.5"),
        "{raw}"
    );
}

/// Who the client is: one header, from trusted peers only, read from the right.
#[test]
fn client_address_comes_from_trusted_peers_only() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "[client]\ntrusted_proxies = [\"127.0.0.2/32\", \"10.0.0.0/8\"]\n{}[[deny]]\nname = \"only-five\"\nunless = [{{ ip = \"127.0.0.5/32\" }}]\n",
        open(&origin)
    ));
    for (peer, fields, status, why) in [
        ("127.0.0.5", &[][..], 200, "the peer itself"),
        ("127.0.0.1", &[], 403, "another peer"),
        (
            "127.0.0.1",
            &["X-Forwarded-For: 127.0.0.5"],
            403,
            "a stranger's word",
        ),
        (
            "127.0.0.5",
            &["X-Forwarded-For: 198.51.100.7"],
            200,
            "a stranger's word against himself",
        ),
        (
            "127.0.0.5",
            &["X-Forwarded-For: garbage"],
            200,
            "a stranger's garbage is not even read",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: 127.0.0.5"],
            200,
            "a trusted word",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: 127.0.0.5, 10.1.2.3"],
            200,
            "a trusted hop is passed over",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: 127.0.0.5, 198.51.100.7"],
            403,
            "the right-most untrusted counts",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: 198.51.100.7, 127.0.0.5"],
            200,
            "what stands left of it is hearsay",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: garbage, 127.0.0.5"],
            200,
            "even garbage",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: 127.0.0.5, garbage"],
            400,
            "garbage where it counts",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: 127.0.0.5, 256.1.1.1"],
            400,
            "no address",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: 127.0.0.05"],
            400,
            "leading zeros are read in two ways",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: unknown"],
            400,
            "a word instead of an address",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: ::ffff:127.0.0.5"],
            200,
            "mapped IPv6 is IPv4",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: 127.0.0.5:8080"],
            200,
            "with a port",
        ),
        (
            "127.0.0.2",
            &[
                "X-Forwarded-For: 198.51.100.7",
                "X-Forwarded-For: 127.0.0.5",
            ],
            200,
            "two lines are one list",
        ),
        (
            "127.0.0.2",
            &[
                "X-Forwarded-For: 127.0.0.5",
                "X-Forwarded-For: 198.51.100.7",
            ],
            403,
            "in their order",
        ),
        (
            "127.0.0.2",
            &["X-Real-IP: 127.0.0.5"],
            403,
            "exactly one header is read",
        ),
        (
            "127.0.0.2",
            &["Forwarded: for=127.0.0.5"],
            403,
            "exactly one header is read",
        ),
        ("127.0.0.2", &[], 403, "no header: the peer"),
    ] {
        let response = gate.connect_from(peer).ask("GET /x", fields);
        assert_eq!(response.status, status, "{peer} {fields:?}: {why}");
        if status == 200 {
            assert_eq!(
                origin.last().header("x-forwarded-for"),
                Some("127.0.0.5"),
                "{why}: as judged, one entry"
            );
        }
    }
}

#[test]
fn forwarded_header_is_read_where_chosen() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "[client]\ntrusted_proxies = [\"127.0.0.2/32\"]\nheader = \"forwarded\"\n{}[[deny]]\nname = \"bad\"\nip = [\"203.0.113.0/24\", \"2001:db8:bad::/48\"]\n",
        open(&origin)
    ));
    for (fields, status, why) in [
        (&["Forwarded: for=203.0.113.9"][..], 403, "plain"),
        (
            &["Forwarded: for=\"203.0.113.9:4711\""],
            403,
            "quoted with a port",
        ),
        (
            &["Forwarded: For=\"[2001:db8:bad::1]:4711\";proto=https"],
            403,
            "IPv6",
        ),
        (
            &["Forwarded: for=203.0.113.9, for=198.51.100.7"],
            200,
            "the right-most counts",
        ),
        (
            &["Forwarded: for=198.51.100.7, for=203.0.113.9"],
            403,
            "the right-most counts",
        ),
        (
            &["Forwarded: for=_hidden"],
            400,
            "obfuscated: nobody knows who",
        ),
        (&["Forwarded: for=unknown"], 400, "unknown"),
        (&["Forwarded: for=\"203.0.113.9"], 400, "an open quote"),
        (
            &["X-Forwarded-For: 203.0.113.9"],
            200,
            "the other header is not read",
        ),
    ] {
        let response = gate.connect_from("127.0.0.2").ask("GET /x", fields);
        assert_eq!(response.status, status, "{fields:?}: {why}");
    }
}

#[test]
fn country_decides_and_the_unlisted_are_named() {
    let Some(database) = country_database() else {
        println!("skipped: no shared database beside this clone");
        return;
    };
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        r#"[geoip]
databases = ["{}"]
[client]
trusted_proxies = ["127.0.0.2/32"]
[country]
licensed = ["GB", "SE"]
{}[[site]]
host = ["*"]
upstream = "app"
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route.deny]]
  name = "licensed-only"
  unless = [{{ country = "@licensed" }}]
  status = 451
  reason = "region_restricted"
  [[site.route]]
  path = "/known/**"
  allow = "anyone"
  [[site.route.deny]]
  name = "known-only"
  country = "unlisted"
"#,
        database.display(),
        front(&origin)
    ));
    for (client, target, status, why) in [
        ("81.2.69.160", "/x", 200, "GB"),
        ("89.160.20.112", "/x", 200, "SE"),
        ("216.160.83.56", "/x", 451, "US, though registered in GB"),
        ("2a02:d500::1", "/x", 451, "a record without a country"),
        ("1.1.1.1", "/x", 451, "no record"),
        ("10.1.2.3", "/x", 451, "a private address"),
        ("::ffff:81.2.69.160", "/x", 200, "mapped"),
        ("216.160.83.56", "/known/x", 200, "listed"),
        ("1.1.1.1", "/known/x", 403, "unlisted"),
    ] {
        let field = format!("X-Forwarded-For: {client}");
        let response = gate
            .connect_from("127.0.0.2")
            .ask(&format!("GET {target}"), &[&field]);
        assert_eq!(response.status, status, "{client} {target}: {why}");
        if status == 451 {
            assert_eq!(response.reason(), "region_restricted");
        }
    }
    let line = &gate.log(1)[0];
    assert_eq!(line["geo.country.iso_code"], "GB", "{line}");
}

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
        (
            "127.0.0.1",
            "/secure",
            &[staff.as_str(), guest.as_str()],
            400,
            "two credentials: refused or not believed",
        ),
    ] {
        let response = gate
            .connect_from(source)
            .ask(&format!("GET {target}"), fields);
        if why.starts_with("two credentials") {
            assert!(refused(response.status), "{why}: {}", response.status);
        } else {
            assert_eq!(response.status, status, "{why}: {}", response.text());
        }
    }
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
