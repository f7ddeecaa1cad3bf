//! The operator's door: who is let in on TCP, what is counted, and that both outlive a reload.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc;

use portcullis::admin::client::{Place, ask};
use tempfile::TempDir;

use crate::support::certs::certs;
use crate::support::client::{Response, request};
use crate::support::gate::OPENING;
use crate::support::{
    Client, Gate, Origin, Refusing, Then, country_database, eventually, eventually_some, open,
};

const TOKEN: &str = "0123456789abcdef";

/// A whole configuration with these lines in `[admin]`.
fn with(admin: &str, config: &str) -> String {
    format!(
        "{}{config}",
        OPENING.replace("[admin]\n", &format!("[admin]\n{admin}\n"))
    )
}

fn gate(admin: &str, config: &str) -> Gate {
    Gate::bare(TempDir::new().unwrap(), &with(admin, config))
}

const LOOPBACK: &str = "address = \"127.0.0.1:0\"";

/// Asks the admin; the line and fields exactly as given.
fn knock(to: SocketAddr, line: &str, fields: &[&str]) -> Response {
    let mut client = Client::connect(to);
    let mut head = format!("{line} HTTP/1.1\r\n");
    for field in fields {
        head.push_str(&format!("{field}\r\n"));
    }
    head.push_str("connection: close\r\n\r\n");
    client.send(head);
    client.response("GET")
}

#[test]
fn strangers_are_kept_out_on_tcp() {
    let origin = Origin::start();
    let open_door = gate(LOOPBACK, &open(&origin));
    let guarded = gate(&format!("{LOOPBACK}\ntoken = \"{TOKEN}\""), &open(&origin));
    let good = "authorization: Bearer 0123456789abcdef";
    let bad = "authorization: Bearer 0123456789abcdeF";
    let local = "host: localhost";
    for (gate, line, fields, want, why) in [
        (
            &open_door,
            "POST /reload",
            &[local][..],
            403,
            "no token is set",
        ),
        (
            &open_door,
            "POST /reload",
            &[local, good],
            403,
            "no token is set",
        ),
        (
            &open_door,
            "GET /metrics",
            &["host: evil.example"],
            421,
            "rebinding",
        ),
        (
            &open_door,
            "GET /status",
            &["host: 127.0.0.2"],
            421,
            "another address",
        ),
        (&guarded, "GET /status", &[local], 401, "no token shown"),
        (
            &guarded,
            "POST /reload",
            &[local, bad],
            401,
            "another token",
        ),
        (&guarded, "POST /reopen", &[local], 401, "no token shown"),
        (
            &guarded,
            "GET /nothing",
            &[local],
            401,
            "what there is, is not told",
        ),
        (
            &guarded,
            "GET /livez",
            &["host: evil.example", bad],
            421,
            "rebinding",
        ),
        (
            &guarded,
            "PUT /livez",
            &[local],
            401,
            "open is reading only",
        ),
        (&open_door, "GET /nothing", &[local], 404, "nothing there"),
        (&open_door, "GET /status", &[local], 200, "reading"),
        (&guarded, "GET /livez", &[local], 200, "open"),
        (&guarded, "GET /readyz", &[local], 200, "open"),
        (&guarded, "GET /metrics", &[local], 200, "open"),
        (&guarded, "GET /status", &[local, good], 200, "the token"),
        (
            &guarded,
            "GET /metrics",
            &["host: gate:9403", good],
            200,
            "the token",
        ),
        (
            &guarded,
            "GET /reload",
            &[local, good],
            405,
            "the wrong method",
        ),
        (&guarded, "POST /reload", &[local, good], 200, "the token"),
    ] {
        let answer = knock(gate.admin(), line, fields);
        assert_eq!(answer.status, want, "{line} {fields:?}: {why}");
        if want == 401 {
            assert!(
                answer
                    .header("www-authenticate")
                    .unwrap()
                    .starts_with("Bearer"),
                "{line}"
            );
        }
    }
    // The socket's own guard is its mode; the client speaks both.
    let socket = Place::from(&*guarded.path("admin.sock"));
    assert_eq!(ask(&socket, "POST", "/reload").unwrap().status, 200);
    let tcp = Place::from(Path::new(&guarded.admin().to_string()));
    assert_eq!(ask(&tcp, "GET", "/readyz").unwrap().status, 200);
    assert_eq!(ask(&tcp, "GET", "/status").unwrap().status, 401);
}

#[test]
fn an_admin_that_everybody_reaches_is_refused_at_load() {
    let origin = Origin::start();
    let gate = gate(LOOPBACK, &open(&origin));
    for (admin, code, why) in [
        (
            "address = \"0.0.0.0:0\"",
            "admin-without-token",
            "every address",
        ),
        (
            "address = \"[::]:0\"",
            "admin-without-token",
            "every address",
        ),
        (
            "address = \"192.0.2.1:9403\"",
            "admin-without-token",
            "a public one",
        ),
        (
            "address = \"127.0.0.1:0\"\ntoken = \"\"",
            "invalid-value",
            "an empty token",
        ),
        (
            "address = \"127.0.0.1:0\"\ntoken = \"short\"",
            "invalid-value",
            "a short token",
        ),
        (
            "address = \"127.0.0.1:0\"\ntoken = \"0123456789abcde f\"",
            "invalid-value",
            "a blank",
        ),
        ("address = \"9403\"", "bad-address", "no address"),
    ] {
        gate.write("portcullis.toml", with(admin, &open(&origin)));
        let report = gate.reload_as_is().expect_err(why);
        let codes: Vec<_> = report.diagnostics.iter().map(|d| d.code).collect();
        assert!(codes.contains(&code), "{why}: {codes:?}");
        assert!(!report.json().contains("0123456789abcde f"), "{why}");
        knock(gate.admin(), "GET /readyz", &["host: localhost"]).is(200);
    }
}

#[test]
fn a_reload_moves_the_door_and_a_refused_one_leaves_it() {
    let origin = Origin::start();
    let gate = gate(LOOPBACK, &open(&origin));
    let first = gate.admin();
    let socket = Place::from(&*gate.path("admin.sock"));
    let admin = || {
        let status = ask(&socket, "GET", "/status").unwrap();
        let address = status.body["admin"].as_str().map(str::to_owned);
        address.map(|address| address.parse::<SocketAddr>().unwrap())
    };
    assert_eq!(admin(), Some(first));
    // Somebody has the address: nothing changes.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("address = \"{}\"", taken.local_addr().unwrap());
    gate.write("portcullis.toml", with(&address, &open(&origin)));
    let report = gate.reload_as_is().expect_err("the address is taken");
    assert!(report.diagnostics.iter().any(|d| d.code == "cannot-listen"));
    assert_eq!(admin(), Some(first));
    knock(first, "GET /livez", &["host: localhost"]).is(200);
    // The same address stays bound.
    gate.write("portcullis.toml", with(LOOPBACK, &open(&origin)));
    gate.reload_as_is().unwrap();
    assert_eq!(admin(), Some(first));
    // A token from now on.
    let token = format!("{LOOPBACK}\ntoken = \"{TOKEN}\"");
    gate.write("portcullis.toml", with(&token, &open(&origin)));
    gate.reload_as_is().unwrap();
    knock(first, "GET /status", &["host: localhost"]).is(401);
    // Another address.
    gate.write(
        "portcullis.toml",
        with("address = \"127.0.0.2:0\"", &open(&origin)),
    );
    gate.reload_as_is().unwrap();
    let second = admin().unwrap();
    assert_eq!(second.ip().to_string(), "127.0.0.2");
    knock(second, "GET /status", &["host: 127.0.0.2"]).is(200);
    eventually("the old door is closed", || {
        std::net::TcpStream::connect(first).is_err()
    });
    // None.
    gate.write("portcullis.toml", with("", &open(&origin)));
    gate.reload_as_is().unwrap();
    assert_eq!(admin(), None);
    eventually("the second door is closed", || {
        std::net::TcpStream::connect(second).is_err()
    });
}

#[test]
fn not_ready_while_draining() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::scripted(move |_| {
        let _gone = wait.lock().unwrap().recv();
        Then::Usual
    });
    let config = with(LOOPBACK, &open(&origin)).replace("\"1s\"", "\"30s\"");
    let mut gate = Gate::bare(TempDir::new().unwrap(), &config.replace("1500ms", "60s"));
    let admin = gate.admin();
    knock(admin, "GET /readyz", &["host: localhost"]).is(200);
    let mut client = gate.connect();
    client.send(request("GET /slow", &[], b""));
    eventually("the request is at the origin", || origin.count() == 1);
    let page = scrape(admin);
    assert_eq!(page["portcullis_http_requests_in_flight"], 1.0);
    let ending = gate.shutdown_beside();
    eventually("readyz says so", || {
        knock(admin, "GET /readyz", &["host: localhost"]).status == 503
    });
    knock(admin, "GET /livez", &["host: localhost"]).is(200);
    go.send(()).unwrap();
    client.response("GET").is(200);
    ending.join().unwrap();
    assert!(std::net::TcpStream::connect(admin).is_err(), "and is gone");
}

#[test]
fn counts_add_up_over_workers_and_a_reload() {
    let origin = Origin::start();
    let refusing = Refusing::new();
    let folder = TempDir::new().unwrap();
    certs().write(folder.path());
    let database = country_database(folder.path());
    let config = format!(
        "[geoip]\ndatabases = [\"{}\"]\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\ntls = {{ certificates = [{{ cert = \"server.crt\", key = \"server.key\" }}] }}\n\
         [upstream.app]\nservers = [\"http://{}\"]\n\
         [upstream.dead]\nservers = [\"http://127.0.0.1:{}\"]\nretries = 0\n\
         [[deny]]\nname = \"no-secrets\"\npath = \"/secret/**\"\nreason = \"address_blocked\"\n\
         [[site]]\nhost = [\"app.test\"]\nupstream = \"app\"\n\
         [[site.route]]\npath = \"/**\"\nallow = \"anyone\"\n\
         [[site.route]]\npath = \"/dead/**\"\nupstream = \"dead\"\nallow = \"anyone\"\n\
         [[site.route]]\npath = \"/named/**\"\nallow = [{{ name = \"loopback\", ip = \"127.0.0.0/8\" }}]\n",
        database.display(),
        origin.address(),
        refusing.port()
    );
    let gate = Gate::bare(folder, &with(LOOPBACK, &config));
    const CLIENTS: usize = 6;
    let round = || {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| gate.connect()).collect();
        for client in &mut clients {
            let host = &["Host: app.test"];
            client.ask("GET /x", host).is(200);
            client.ask("POST /x", host).is(200);
            client.ask("BREW /x", host).is(200);
            client.ask("GET /secret/x", host).is(403);
            client.ask("GET /dead/x", host).is(502);
            client.ask("GET /named/x", host).is(200);
            client.ask("GET /x", &["Host: elsewhere.test"]).is(421);
            client.send("GET / HTTP/1.1\r\nhost: a b\r\nbroken\r\n\r\n");
            client.response("GET").is(400);
        }
    };
    let check = |rounds: usize| {
        let each = (rounds * CLIENTS) as f64;
        let want: Vec<(&str, f64)> = vec![
            (
                "portcullis_http_requests_total{site=\"app.test\",method=\"GET\",code=\"200\",source=\"upstream\"}",
                2.0,
            ),
            (
                "portcullis_http_requests_total{site=\"app.test\",method=\"POST\",code=\"200\",source=\"upstream\"}",
                1.0,
            ),
            (
                "portcullis_http_requests_total{site=\"app.test\",method=\"other\",code=\"200\",source=\"upstream\"}",
                1.0,
            ),
            (
                "portcullis_http_requests_total{site=\"app.test\",method=\"GET\",code=\"403\",source=\"policy\"}",
                1.0,
            ),
            (
                "portcullis_http_requests_total{site=\"app.test\",method=\"GET\",code=\"502\",source=\"proxy\"}",
                1.0,
            ),
            (
                "portcullis_http_requests_total{site=\"\",method=\"GET\",code=\"421\",source=\"policy\"}",
                1.0,
            ),
            (
                "portcullis_http_requests_total{site=\"\",method=\"other\",code=\"400\",source=\"proxy\"}",
                1.0,
            ),
            (
                "portcullis_policy_decisions_total{site=\"app.test\",rule=\"no-secrets\",decision=\"deny\",reason=\"address_blocked\",mode=\"enforce\"}",
                1.0,
            ),
            (
                "portcullis_policy_decisions_total{site=\"app.test\",rule=\"loopback\",decision=\"allow\",reason=\"\",mode=\"enforce\"}",
                1.0,
            ),
            (
                "portcullis_policy_decisions_total{site=\"app.test\",rule=\"\",decision=\"allow\",reason=\"\",mode=\"enforce\"}",
                4.0,
            ),
            (
                "portcullis_policy_decisions_total{site=\"\",rule=\"\",decision=\"deny\",reason=\"misdirected_request\",mode=\"enforce\"}",
                1.0,
            ),
            (
                "portcullis_http_request_duration_seconds_count{site=\"app.test\",source=\"upstream\"}",
                4.0,
            ),
            (
                "portcullis_upstream_requests_total{upstream=\"app\",code=\"200\"}",
                4.0,
            ),
            (
                "portcullis_upstream_requests_total{upstream=\"dead\",code=\"none\"}",
                1.0,
            ),
            (
                "portcullis_upstream_errors_total{upstream=\"dead\",error=\"connect_refused\"}",
                1.0,
            ),
            (
                "portcullis_upstream_errors_total{upstream=\"app\",error=\"connect_refused\"}",
                0.0,
            ),
            (
                "portcullis_upstream_response_duration_seconds_count{upstream=\"app\"}",
                4.0,
            ),
            ("portcullis_connections_accepted_total", 1.0),
            ("portcullis_access_log_lines_written_total", 8.0),
        ];
        let page = eventually_some(&format!("the counts of {rounds} rounds"), || {
            let page = scrape(gate.admin());
            want.iter()
                .all(|(name, times)| page.get(*name).copied() == Some(times * each))
                .then_some(page)
        });
        assert_eq!(page["portcullis_http_requests_in_flight"], 0.0);
        let all: f64 = page
            .iter()
            .filter(|(name, _)| name.starts_with("portcullis_http_requests_total{"))
            .map(|(_, count)| count)
            .sum();
        assert_eq!(all, 8.0 * each, "every request once");
        page
    };
    round();
    let before = check(1);
    gate.write(
        "portcullis.toml",
        with(LOOPBACK, &format!("nonsense = 1\n{config}")),
    );
    gate.reload_as_is().unwrap_err();
    // Another rule and site before the old ones: their numbers are others now.
    let other = config
        .replacen(
            "[[deny]]",
            "[[deny]]\nname = \"first\"\npath = \"/first/**\"\n[[deny]]",
            1,
        )
        .replacen(
            "[[site]]",
            "[[site]]\nhost = [\"first.test\"]\nupstream = \"dead\"\nallow = \"anyone\"\n[[site]]",
            1,
        );
    gate.write("portcullis.toml", with(LOOPBACK, &other));
    let generation = gate.reload_as_is().unwrap();
    round();
    let after = check(2);
    for (name, first, second) in [
        (
            "portcullis_config_reloads_total{result=\"applied\"}",
            0.0,
            1.0,
        ),
        (
            "portcullis_config_reloads_total{result=\"refused\"}",
            0.0,
            1.0,
        ),
        ("portcullis_config_generation", 1.0, generation as f64),
        ("portcullis_workers", 2.0, 2.0),
        ("portcullis_access_log_lines_dropped_total", 0.0, 0.0),
        ("portcullis_access_log_errors_total", 0.0, 0.0),
    ] {
        assert_eq!((before[name], after[name]), (first, second), "{name}");
    }
    let one = |start: &str| {
        let mut found = after.iter().filter(|(name, _)| name.starts_with(start));
        let (name, value) = found
            .next()
            .unwrap_or_else(|| panic!("{start} in {after:?}"));
        (name.clone(), *value)
    };
    let (_, loaded) = one("portcullis_config_last_reload_success_timestamp_seconds");
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs_f64();
    assert!((now - 60.0..=now).contains(&loaded), "{loaded}");
    let (name, end) = one("portcullis_tls_certificate_expiry_timestamp_seconds{");
    assert!(
        name.contains("name=\"app.test\"") && end > now,
        "{name} {end}"
    );
    assert!(one("portcullis_geo_database_age_seconds{database=").1 >= 0.0);
    assert!(one("portcullis_build_info{version=").1 == 1.0);
    assert!(one("process_resident_memory_bytes").1 > 1e6);
    assert!(one("portcullis_connections_open").1 >= 0.0);
}

/// The page as series and values; panics where it breaks the format.
fn scrape(admin: SocketAddr) -> BTreeMap<String, f64> {
    let answer = knock(admin, "GET /metrics", &["host: localhost"]).is(200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    parse(std::str::from_utf8(&answer.body).unwrap())
}

fn parse(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'));
    let mut series = BTreeMap::new();
    let mut families = BTreeSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut buckets: BTreeMap<String, f64> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap().to_owned();
            kind.clear();
            assert!(families.insert(family.clone()), "{family} stands twice");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, word) = rest.split_once(' ').unwrap();
            assert_eq!(name, family, "TYPE follows HELP");
            assert!(["counter", "gauge", "histogram"].contains(&word), "{line}");
            assert_eq!(word == "counter", name.ends_with("_total"), "{line}");
            word.clone_into(&mut kind);
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let bare = name.split('{').next().unwrap();
        assert!(
            bare.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{line}"
        );
        let labels = labels(&name[bare.len()..]);
        if kind == "histogram" {
            let part = bare.strip_prefix(&*family).unwrap();
            let rest: Vec<_> = labels.iter().filter(|(name, _)| name != "le").collect();
            let key = format!("{family}{rest:?}");
            match part {
                "_bucket" => {
                    let last = buckets.insert(key, value).unwrap_or(0.0);
                    assert!(value >= last, "buckets only grow: {line}");
                }
                "_count" => assert_eq!(buckets[&key], value, "+Inf holds all: {line}"),
                "_sum" => {}
                _ => panic!("{line}"),
            }
        } else {
            assert_eq!(bare, family, "{line} stands under its family");
        }
        assert!(
            series.insert(name.to_owned(), value).is_none(),
            "{name} stands twice"
        );
    }
    series
}

fn labels(text: &str) -> Vec<(String, String)> {
    let Some(inner) = text.strip_prefix('{') else {
        assert!(text.is_empty(), "{text}");
        return Vec::new();
    };
    let mut rest = inner.strip_suffix('}').unwrap();
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap();
        let mut end = 0;
        let bytes = after.as_bytes();
        while bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        all.push((name.to_owned(), after[..end].to_owned()));
        rest = after[end + 1..]
            .strip_prefix(',')
            .unwrap_or(&after[end + 1..]);
    }
    all
}

#[test]
fn explain_tells_what_a_request_was_judged_by_and_keeps_no_secret() {
    let origin = Origin::start();
    let config = format!(
        "[[deny]]\nname = \"old-apps\"\nheader.x-app = \"older\"\n{}",
        open(&origin)
    );
    let gate = gate(LOOPBACK, &config);
    let mut client = gate.connect();
    let fields = &[
        "X-App: older",
        "Authorization: Bearer secret-1",
        "Cookie: session=secret-2",
        "X-Other: secret-3",
    ];
    let denied = client.ask("GET /a/b?page=2&access_token=secret-4", fields);
    let denied = denied.is(403);
    let id = denied.header("x-request-id").unwrap();
    let passed = client.ask("GET /x", &["X-App: new"]).is(200);
    let passed = passed.header("x-request-id").unwrap();
    let socket = Place::from(&*gate.path("admin.sock"));
    let explain = |id: &str| {
        eventually_some("it is kept", || {
            let reply = ask(&socket, "GET", &format!("/explain/{id}")).unwrap();
            (reply.status == 200).then_some(reply.body)
        })
    };
    let told = explain(id);
    let text = told.to_string();
    for number in 1..=4 {
        assert!(!text.contains(&format!("secret-{number}")), "{text}");
    }
    for (pointer, want) in [
        ("/request/id", id),
        ("/request/method", "GET"),
        ("/request/path", "/a/b"),
        ("/request/query", "page=2&access_token=REDACTED"),
        ("/request/client", "127.0.0.1"),
        ("/request/headers/x-app/0", "older"),
        ("/site", "*"),
        ("/decision/verdict", "refuse"),
        ("/decision/rule/name", "old-apps"),
        ("/decision/reason", "forbidden"),
        ("/decision/answered_by", "policy"),
    ] {
        let got = told.pointer(pointer).and_then(|value| value.as_str());
        assert_eq!(got, Some(want), "{pointer} in {told:#}");
    }
    assert_eq!(told["decision"]["status"], 403);
    assert_eq!(explain(passed)["decision"]["verdict"], "allow");
    // The generation that judged is told, and kept, after a reload.
    gate.reload_as_is().unwrap();
    client.ask("GET /x", &[]).is(200);
    let told = explain(id);
    assert_eq!(told["config"]["generation"], 1);
    assert_eq!(told["config"]["kept"], true);
    for unknown in ["nothing", "", "a/b"] {
        let reply = ask(&socket, "GET", &format!("/explain/{unknown}")).unwrap();
        assert_eq!(reply.status, 404, "{unknown:?}");
    }
}
