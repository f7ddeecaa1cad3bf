//! `config/examples/api.toml` as it is shipped, run for real: only its addresses and its keys are ours.

use std::path::Path;

use tempfile::TempDir;

use crate::support::{Gate, Origin, Response};

/// The keys that the test knows: the key, its user, and the rest of its entry.
const KEYS: [(&str, &str, &str); 6] = [
    ("key-of-free", "free-1", "claims = { plan = \"free\" }"),
    ("key-of-pro", "pro-1", "claims = { plan = \"pro\" }"),
    (
        "key-of-enterprise",
        "enterprise-1",
        "claims = { plan = \"enterprise\" }",
    ),
    ("key-of-gold", "gold-1", "claims = { plan = \"gold\" }"),
    (
        "key-of-suspended",
        "suspended-1",
        "roles = [\"suspended\"]\nclaims = { plan = \"pro\" }",
    ),
    ("key-of-support", "support-1", "roles = [\"support\"]"),
];

fn start(origin: &Origin) -> Gate {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let text = std::fs::read_to_string(examples.join("api.toml")).unwrap();
    let mut config = text;
    for (shipped, ours) in [
        ("\"127.0.0.1:8080\"", "\"127.0.0.1:0\"".to_owned()),
        (
            "http://127.0.0.1:3000",
            format!("http://{}", origin.address()),
        ),
        (
            "trusted_proxies = []",
            "trusted_proxies = [\"127.0.0.9\"]".to_owned(),
        ),
    ] {
        assert!(config.contains(shipped), "{shipped}");
        config = config.replacen(shipped, &ours, 1);
    }
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("files")).unwrap();
    let keys = KEYS.map(|(key, user, more)| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
        let digest: String = digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("[[key]]\nid = \"{user}\"\nuser = \"{user}\"\nsha256 = \"{digest}\"\n{more}\n")
    });
    std::fs::write(folder.path().join("files/api-keys.toml"), keys.concat()).unwrap();
    Gate::start_in(folder, &config)
}

fn ask(gate: &Gate, from: &str, line: &str, key: &str) -> Response {
    let field = format!("X-Api-Key: {key}");
    let host = "Host: api.weather.example";
    let fields = if key.is_empty() {
        vec![host]
    } else {
        vec![host, &field]
    };
    gate.connect_from(from).ask(line, &fields)
}

#[test]
fn the_public_api_serves_its_customers_by_plan() {
    let origin = Origin::start();
    let gate = start(&origin);
    for (line, key, status, reason, why) in [
        ("GET /v2/current/AMS", "", 200, "", "open to the world"),
        (
            "POST /v2/current/AMS",
            "key-of-enterprise",
            403,
            "forbidden",
            "for reading",
        ),
        (
            "GET /v2/forecast/AMS",
            "",
            401,
            "not_authenticated",
            "a forecast needs a key",
        ),
        (
            "GET /v2/forecast/AMS",
            "nobody's key",
            401,
            "invalid_token",
            "a true one",
        ),
        (
            "GET /v2/forecast/AMS",
            "key-of-free",
            200,
            "",
            "the lowest plan",
        ),
        (
            "GET /v2/forecast/AMS",
            "key-of-gold",
            403,
            "forbidden",
            "a plan that is not in the order",
        ),
        (
            "GET /v2/forecast/AMS",
            "key-of-support",
            403,
            "forbidden",
            "no plan at all",
        ),
        (
            "GET /v2/history/AMS",
            "key-of-free",
            403,
            "plan_required",
            "below",
        ),
        ("GET /v2/history/AMS", "key-of-pro", 200, "", "at"),
        ("GET /v2/history/AMS", "key-of-enterprise", 200, "", "above"),
        (
            "GET /v2/history/AMS",
            "",
            401,
            "not_authenticated",
            "some key could",
        ),
        (
            "GET /v2/export/AMS",
            "key-of-pro",
            403,
            "plan_required",
            "below",
        ),
        ("GET /v2/export/AMS", "key-of-enterprise", 200, "", "at"),
        (
            "GET /v2/history/AMS",
            "key-of-suspended",
            403,
            "account_suspended",
            "whatever the plan",
        ),
        (
            "GET /v2/account/status",
            "key-of-suspended",
            200,
            "",
            "and may see why",
        ),
        (
            "GET /v2/admin/keys",
            "key-of-enterprise",
            404,
            "no_route",
            "hidden",
        ),
        (
            "GET /v2/admin/keys",
            "key-of-support",
            404,
            "no_route",
            "also from support, elsewhere",
        ),
        ("GET /v1/current/AMS", "", 308, "", "the old version"),
        ("GET /health", "", 200, "", "whoever watches it"),
        ("GET /v3", "", 404, "no_route", "not there"),
    ] {
        let response = ask(&gate, "127.0.0.1", line, key);
        assert_eq!(
            response.status,
            status,
            "{line}, {key}: {why}: {}",
            response.text()
        );
        if reason.is_empty() {
            continue;
        }
        // RFC 9457, as the example has it.
        assert_eq!(
            response.header("content-type"),
            Some("application/problem+json"),
            "{why}"
        );
        let body = response.json();
        assert_eq!(body["reason"].as_str(), Some(reason), "{why}: {body}");
        let sold = body["upgrade_url"].as_str();
        let want = (reason == "plan_required").then_some("https://weather.example/plans");
        assert_eq!(sold, want, "{why}: {body}");
    }
    for (client, line, key, status, why) in [
        (
            "10.0.0.5",
            "GET /v2/admin/keys",
            "key-of-support",
            200,
            "support, from inside",
        ),
        (
            "10.0.0.5",
            "GET /v2/admin/keys",
            "",
            404,
            "inside is not enough",
        ),
        (
            "203.0.113.9",
            "GET /v2/history/AMS",
            "",
            200,
            "a partner's network needs no key",
        ),
        (
            "203.0.113.9",
            "POST /v2/history/AMS",
            "",
            403,
            "for reading",
        ),
    ] {
        let forwarded = format!("X-Forwarded-For: {client}");
        let key = format!("X-Api-Key: {key}");
        let fields = ["Host: api.weather.example", &*forwarded, &*key];
        let response = gate.connect_from("127.0.0.9").ask(line, &fields);
        assert_eq!(response.status, status, "{why}: {}", response.text());
    }
    ask(&gate, "127.0.0.1", "GET /v2/history/AMS", "key-of-pro").is(200);
    let seen = origin.last();
    assert_eq!(seen.all("x-customer"), ["pro-1"]);
    assert_eq!(seen.all("x-plan"), ["pro"]);
    assert!(seen.all("x-api-key").is_empty(), "a key ends here");
}

#[test]
fn the_public_api_counts_by_plan_and_stops_who_guesses() {
    let origin = Origin::start();
    let gate = start(&origin);
    let mut client = gate.connect_from("127.0.0.2");
    let fields = ["Host: api.weather.example", "X-Api-Key: key-of-free"];
    for _ in 0..60 {
        client.ask("GET /v2/forecast/AMS", &fields).is(200);
    }
    let limited = client.ask("GET /v2/forecast/AMS", &fields).is(429);
    assert_eq!(
        limited.header("ratelimit-policy"),
        Some("\"limit\";q=60;w=60")
    );
    // Another customer at the same address, with a better plan.
    let pro = ask(&gate, "127.0.0.2", "GET /v2/forecast/AMS", "key-of-pro").is(200);
    assert_eq!(pro.header("ratelimit-policy"), Some("\"limit\";q=600;w=60"));

    for number in 0..20 {
        let guess = format!("guess-{number}");
        ask(&gate, "127.0.0.3", "GET /v2/forecast/AMS", &guess).is(401);
    }
    let held = ask(&gate, "127.0.0.3", "GET /v2/forecast/AMS", "guess-20").is(429);
    let wait: u64 = held.header("retry-after").unwrap().parse().unwrap();
    assert!((290..=300).contains(&wait), "five minutes: {wait}");
    ask(&gate, "127.0.0.3", "GET /v2/forecast/AMS", "key-of-pro").is(200);
    ask(&gate, "127.0.0.4", "GET /v2/forecast/AMS", "guess-21").is(401);
}
