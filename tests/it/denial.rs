//! What a refused client sees, from outside: form, framing, fields, what is never said, and the upstream's own refusals.

use std::collections::HashSet;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::client::{Framing, request};
use crate::support::gate::front;
use crate::support::{End, Gate, Origin, Then};

/// Everything passes but `/denied`, `/region`, `/gone`, `/hidden`, `/dropped` and what only a role opens.
fn site(origin: &Origin, more: &str) -> String {
    format!(
        r#"{}
{more}
[[site]]
host = ["*"]
upstream = "app"
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/denied/**"
  allow = "anyone"
  [[site.route.deny]]
  name = "rule-nobody-may-read"
  ip = "127.0.0.0/8"
  [[site.route]]
  path = "/region/**"
  allow = "anyone"
  [[site.route.deny]]
  name = "rule-of-regions"
  status = 451
  reason = "region_restricted"
  message = "Not <here> & not \"now\""
  link = "https://law.test/order"
  [[site.route]]
  path = "/gone/**"
  allow = "anyone"
  [[site.route.deny]]
  name = "rule-of-the-gone"
  status = 410
  [[site.route]]
  path = "/hidden/**"
  allow = "anyone"
  [[site.route.deny]]
  name = "rule-of-the-hidden"
  status = 404
  [[site.route]]
  path = "/dropped/**"
  allow = "anyone"
  [[site.route.deny]]
  name = "rule-of-the-dropped"
  status = "close"
  [[site.route]]
  path = "/role/**"
  allow = [{{ role = "role-nobody-may-read" }}]
  otherwise = {{ status = 451, reason = "plan_required", message = "Upgrade first" }}
"#,
        front(origin)
    )
}

const BROWSER: &str =
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";

#[test]
fn refusal_is_json_with_exact_length() {
    let origin = Origin::start();
    let gate = Gate::start(&site(&origin, ""));
    let response = gate.connect().ask("GET /denied", &[]).is(403);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(
        response.framing,
        Framing::Length(response.body.len() as u64)
    );
    let body = response.json();
    assert_eq!(
        (&body["error"], &body["status"]),
        (&"forbidden".into(), &403.into()),
        "{body}"
    );
    assert!(
        body["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{body}"
    );
    assert_eq!(body["request_id"].as_str(), response.header("x-request-id"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert!(
        response
            .all("vary")
            .join(",")
            .to_lowercase()
            .contains("accept")
    );
    assert_eq!(origin.count(), 0, "the origin hears nothing of it");
}

#[test]
fn form_follows_what_the_client_prefers() {
    let origin = Origin::start();
    let gate = Gate::start(&site(&origin, ""));
    let mut client = gate.connect();
    for (fields, form, why) in [
        (&[][..], "application/json", "no Accept"),
        (&["Accept: */*"], "application/json", "curl"),
        (
            &["Accept: application/json"],
            "application/json",
            "a program",
        ),
        (
            &["Accept: image/png"],
            "application/json",
            "an unknown type",
        ),
        (&[BROWSER], "text/html", "a browser"),
        (&["Accept: text/html"], "text/html", "HTML alone"),
        (
            &["Accept: text/html;q=0.1, application/json"],
            "application/json",
            "JSON preferred",
        ),
        (
            &["Accept: application/json;q=0.5, text/html;q=0.9"],
            "text/html",
            "HTML preferred",
        ),
        (
            &["Accept: text/html;q=0"],
            "application/json",
            "HTML excluded",
        ),
        (&["Accept: text/plain"], "text/plain", "plain text"),
        (
            &[BROWSER, "Sec-Fetch-Mode: navigate"],
            "text/html",
            "a person",
        ),
        (
            &[BROWSER, "Sec-Fetch-Mode: cors"],
            "application/json",
            "a script",
        ),
    ] {
        let response = client.ask("GET /denied", fields).is(403);
        let kind = response.header("content-type").unwrap();
        assert!(kind.starts_with(form), "{why}: {kind}");
        assert_eq!(response.header("cache-control"), Some("no-store"), "{why}");
        assert_eq!(
            response.framing,
            Framing::Length(response.body.len() as u64),
            "{why}"
        );
    }
}

#[test]
fn api_site_never_answers_html() {
    let origin = Origin::start();
    let config = site(&origin, "").replace("host = [\"*\"]", "host = [\"*\"]\napi = true");
    let gate = Gate::start(&config);
    let response = gate.connect().ask("GET /denied", &[BROWSER]).is(403);
    assert_eq!(response.header("content-type"), Some("application/json"));
}

#[test]
fn four_shapes_say_the_same() {
    for (shape, pointer, value) in [
        ("flat", "/error", "region_restricted"),
        ("nested", "/error/code", "451"),
        ("node", "/error/status", "451"),
        ("problem", "/status", "451"),
    ] {
        let origin = Origin::start();
        let gate = Gate::start(&site(&origin, &format!("[denial]\nshape = \"{shape}\"\n")));
        let response = gate.connect().ask("GET /region", &[]).is(451);
        let kind = if shape == "problem" {
            "application/problem+json"
        } else {
            "application/json"
        };
        assert_eq!(response.header("content-type"), Some(kind), "{shape}");
        let body = response.json();
        let found = body
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{shape}: {pointer} in {body}"));
        assert_eq!(
            found.to_string().trim_matches('"'),
            value,
            "{shape}: {body}"
        );
        assert!(
            body.to_string().contains("Not <here> & not \\\"now\\\""),
            "{shape}: {body}"
        );
    }
}

#[test]
fn each_kind_of_refusal_has_its_status_and_reason() {
    let origin = Origin::start();
    let gate = Gate::start(&site(&origin, ""));
    let mut client = gate.connect();
    for (target, status, reason) in [
        ("/denied", 403, "forbidden"),
        ("/region", 451, "region_restricted"),
        ("/role", 451, "plan_required"),
    ] {
        let response = client.ask(&format!("GET {target}"), &[]).is(status);
        assert_eq!(response.reason(), reason, "{target}");
    }
    client.ask("GET /gone", &[]).is(410);
    client.ask("GET /hidden", &[]).is(404);
    let link = client
        .ask("GET /region", &[])
        .header("link")
        .unwrap_or_default()
        .to_owned();
    assert!(
        link.contains("<https://law.test/order>") && link.contains("blocked-by"),
        "RFC 7725 §4: {link}"
    );
    client.send(request("GET /dropped", &[], b""));
    let broken = client
        .try_response("GET", Duration::from_secs(5))
        .expect_err("no answer");
    assert!(
        broken.end != End::Late && broken.partial.is_none(),
        "closed: {broken:?}"
    );
    assert_eq!(origin.count(), 0);
}

#[test]
fn hidden_is_told_apart_from_missing_by_nothing() {
    let origin = Origin::start();
    let config = site(&origin, "").replace("path = \"/**\"", "path = \"/only/**\"");
    let gate = Gate::start(&config);
    let mut client = gate.connect();
    let hidden = client.ask("GET /hidden", &[]).is(404);
    let missing = client.ask("GET /never/written", &[]).is(404);
    let strip = |response: &crate::support::Response| {
        let mut body = response.json();
        body["request_id"] = "".into();
        let names: Vec<String> = response
            .fields
            .iter()
            .map(|(name, _)| name.to_lowercase())
            .collect();
        (body, names)
    };
    let (hidden, missing) = (strip(&hidden), strip(&missing));
    assert_eq!(hidden.1, missing.1, "the same fields");
    // A stranger who compares the two learns nothing but what the operator wrote.
    assert_eq!(hidden.0["status"], missing.0["status"]);
}

#[test]
fn head_gets_the_status_without_a_body_and_the_connection_goes_on() {
    let origin = Origin::start();
    let gate = Gate::start(&site(&origin, ""));
    let mut client = gate.connect();
    for fields in [&[][..], &[BROWSER]] {
        let get = client.ask("GET /denied", fields).is(403);
        let head = client.ask("HEAD /denied", fields).is(403);
        assert_eq!(head.body, b"");
        if let Some(length) = head.header("content-length") {
            assert_eq!(length, get.body.len().to_string(), "what GET would have");
        }
    }
    client.ask("GET /x", &[]).is(200);
}

#[test]
fn connection_survives_any_number_of_refusals() {
    let origin = Origin::start();
    let gate = Gate::start(&site(&origin, ""));
    let mut client = gate.connect();
    let mut ids = HashSet::new();
    for number in 0..20 {
        let denied = client.ask("GET /denied/x", &[]).is(403);
        assert!(
            ids.insert(denied.header("x-request-id").unwrap().to_owned()),
            "each id is new"
        );
        client.ask(&format!("GET /passes/{number}"), &[]).is(200);
    }
    assert_eq!(origin.count(), 20);
}

#[test]
fn body_of_a_refused_request_never_becomes_a_request() {
    let origin = Origin::start();
    let gate = Gate::start(&site(&origin, ""));
    let smuggled = request("GET /smuggled", &[], b"");
    for (size, why) in [(0, "small"), (3 << 20, "large")] {
        let mut body = smuggled.clone();
        body.extend(std::iter::repeat_n(b'x', size));
        let mut client = gate.connect();
        client.write_timeout(Duration::from_secs(3));
        client.send(request("POST /denied", &[], &body));
        if let Ok(response) = client.try_response("POST", Duration::from_secs(5)) {
            assert_eq!(response.status, 403, "{why}");
        }
        client.send(request("GET /after", &[], b""));
        match client.try_response("GET", Duration::from_secs(5)) {
            Ok(response) => assert_eq!(
                (response.status, origin.last().target.as_str()),
                (200, "/after"),
                "{why}"
            ),
            Err(broken) => assert!(
                broken.end != End::Late && broken.partial.is_none(),
                "{why}: {broken:?}"
            ),
        }
        assert!(
            origin.seen().iter().all(|seen| seen.target == "/after"),
            "{why}: {:?}",
            origin.seen()
        );
    }
    let mut client = gate.connect();
    client.send(request(
        "POST /denied",
        &["Transfer-Encoding: chunked"],
        b"5\r\nhel",
    ));
    client.response("POST").is(403);
}

#[test]
fn client_that_waits_for_100_gets_the_refusal_at_once() {
    let origin = Origin::start();
    let gate = Gate::start(&site(&origin, ""));
    let mut client = gate.connect();
    client.send(request(
        "POST /denied",
        &["Content-Length: 5", "Expect: 100-continue"],
        b"",
    ));
    let response = client.response("POST").is(403);
    assert!(
        response.interim.is_empty(),
        "no 100 before it: {:?}",
        response.interim
    );
}

#[test]
fn nothing_inside_is_told_to_the_refused() {
    let origin = Origin::start();
    let gate = Gate::start(&site(&origin, ""));
    let folder = gate
        .path("")
        .to_str()
        .unwrap()
        .trim_end_matches('/')
        .to_owned();
    let mut client = gate.connect();
    for target in ["/denied", "/region", "/gone", "/hidden", "/role"] {
        for accept in [BROWSER, "Accept: application/json", "Accept: text/plain"] {
            let response = client.ask(&format!("GET {target}"), &[accept]);
            let said = format!("{:?} {}", response.fields, response.text()).to_lowercase();
            for secret in [
                "rule-",
                "role-nobody",
                "127.0.0.0/8",
                "/**",
                ".toml",
                "portcullis.toml",
                &folder,
                "app.rs",
                "hyper",
                "upstream",
                env!("CARGO_PKG_VERSION"),
            ] {
                assert!(
                    !said.contains(&secret.to_lowercase()),
                    "{target} tells `{secret}`: {said}"
                );
            }
            assert!(
                response
                    .all("server")
                    .iter()
                    .all(|server| !server.contains(char::is_numeric))
            );
        }
    }
}

#[test]
fn nothing_of_the_request_is_reflected_unescaped() {
    let origin = Origin::start();
    let gate = Gate::start(&site(&origin, ""));
    for (line, fields) in [
        (
            "GET /denied/%3Cscript%3Ealert(1)%3C/script%3E",
            &[BROWSER][..],
        ),
        (
            "GET /denied?q=%3Cscript%3Ealert(1)%3C/script%3E",
            &[BROWSER],
        ),
        ("GET /denied?q=<script>alert(1)</script>", &[BROWSER]),
        (
            "GET /denied",
            &[
                BROWSER,
                "Referer: <script>alert(1)</script>",
                "User-Agent: <script>alert(1)</script>",
            ],
        ),
        (
            "GET /denied",
            &[BROWSER, "X-Request-Id: <script>alert(1)</script>"],
        ),
        (
            "GET /denied",
            &[BROWSER, "Accept-Language: <script>alert(1)</script>"],
        ),
    ] {
        let response = gate.connect().ask(line, fields);
        assert!(
            [400, 403].contains(&response.status),
            "{line}: {}",
            response.status
        );
        assert!(
            !response.text().to_lowercase().contains("<script>alert"),
            "{line}: {}",
            response.text()
        );
        assert!(
            response
                .fields
                .iter()
                .all(|(_, value)| !value.contains("<script")),
            "{line}"
        );
    }
    let page = gate.connect().ask("GET /region", &[BROWSER]).is(451).text();
    assert!(
        page.contains("Not &lt;here&gt; &amp; not"),
        "the operator's words are text, not HTML: {page}"
    );
}

#[test]
fn built_in_page_stands_on_its_own() {
    let origin = Origin::start();
    let gate = Gate::start(&site(&origin, ""));
    let response = gate.connect().ask("GET /denied", &[BROWSER]).is(403);
    let id = response.header("x-request-id").unwrap().to_owned();
    let page = response.text();
    assert!(page.to_lowercase().starts_with("<!doctype html>"), "{page}");
    for part in ["lang=", "<title>", "viewport", "403", &id] {
        assert!(page.contains(part), "{part} in {page}");
    }
    for outside in ["<script", "src=", "@import", "url("] {
        assert!(
            !page.contains(outside),
            "it loads nothing: {outside} in {page}"
        );
    }
}

#[test]
fn own_pages_are_chosen_by_reason_status_and_language() {
    let origin = Origin::start();
    let folder = TempDir::new().unwrap();
    let pages = folder.path().join("pages");
    std::fs::create_dir(&pages).unwrap();
    for (name, text) in [
        ("403.html", "<p>own 403 {{ request_id }} {{ message }}</p>"),
        ("403.nl.html", "<p>eigen 403</p>"),
        (
            "region_restricted.html",
            "<p>own region {{ status }} {{ message }}</p>",
        ),
        ("404.html", "<p>own 404</p>"),
        ("502.html", "<p>own 502</p>"),
    ] {
        std::fs::write(pages.join(name), text).unwrap();
    }
    let gate = Gate::start_in(folder, &site(&origin, "[denial]\npages = \"pages\"\n"));
    let mut client = gate.connect();
    for (target, language, status, part, why) in [
        ("/denied", "en", 403, "own 403", "by status"),
        (
            "/denied",
            "nl-BE, en;q=0.5",
            403,
            "eigen 403",
            "by language",
        ),
        ("/denied", "fr", 403, "own 403", "no page in that language"),
        (
            "/region",
            "en",
            451,
            "own region 451 Not &lt;here&gt; &amp; not",
            "by reason, escaped",
        ),
        ("/hidden", "en", 404, "own 404", "404"),
    ] {
        let response = client
            .ask(
                &format!("GET {target}"),
                &[BROWSER, &format!("Accept-Language: {language}")],
            )
            .is(status);
        assert!(response.text().contains(part), "{why}: {}", response.text());
        assert!(
            response
                .header("content-type")
                .unwrap()
                .starts_with("text/html"),
            "{why}"
        );
    }
    let response = client.ask("GET /denied", &[BROWSER]).is(403);
    assert!(
        response
            .text()
            .contains(response.header("x-request-id").unwrap())
    );
    let json = client.ask("GET /denied", &[]).is(403);
    assert_eq!(
        json.reason(),
        "forbidden",
        "a program gets JSON all the same"
    );
}

#[test]
fn malformed_requests_get_a_well_formed_answer() {
    let origin = Origin::start();
    let gate = Gate::start(&site(&origin, ""));
    for bytes in [
        &b"GET /x HTTP/1.1\r\nHost: a b\r\n\r\n"[..],
        b"GET /x%zz HTTP/1.1\r\nHost: app.test\r\n\r\n",
        b"GET /../x HTTP/1.1\r\nHost: app.test\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: app.test\r\nContent-Length: x\r\n\r\n",
    ] {
        let mut client = gate.connect();
        client.send(bytes);
        let response = client.response("GET").is(400);
        assert_ne!(
            response.framing,
            Framing::Close,
            "its end is known: {:?}",
            response.fields
        );
    }
}

/// The well-known recipe `proxy_intercept_errors on; error_page 403 /custom_403.html`, as it was meant.
#[test]
fn refusals_of_the_upstream_are_replaced_for_people_only() {
    let origin = Origin::scripted(|exchange| {
        let target = exchange.seen.target.clone();
        match target.as_str() {
            "/html" => exchange.answer(
                "403 Forbidden\r\nContent-Type: text/html\r\nX-App: yes",
                "<p>the app's words</p>",
            ),
            "/json" => exchange.answer(
                "403 Forbidden\r\nContent-Type: application/json",
                "{\"app\":true}",
            ),
            "/problem" => exchange.answer(
                "403 Forbidden\r\nContent-Type: application/problem+json",
                "{\"app\":true}",
            ),
            "/404" => exchange.answer(
                "404 Not Found\r\nContent-Type: text/html",
                "<p>the app's 404</p>",
            ),
            _ => Then::Usual,
        }
    });
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("pages")).unwrap();
    std::fs::write(folder.path().join("pages/403.html"), "<p>our page</p>").unwrap();
    let config = format!(
        "{}[site.intercept]\nstatuses = [403]\n",
        crate::support::open(&origin)
    )
    .replace("[[site]]", "[denial]\npages = \"pages\"\n[[site]]");
    let gate = Gate::start_in(folder, &config);
    let mut client = gate.connect();
    for (target, accept, status, body, why) in [
        ("/html", BROWSER, 403, "our page", "a person gets our page"),
        (
            "/html",
            "Accept: application/json",
            403,
            "the app's words",
            "a program gets the app's words",
        ),
        ("/html", "Accept: */*", 403, "the app's words", "curl too"),
        (
            "/json",
            BROWSER,
            403,
            "{\"app\":true}",
            "the app's JSON passes",
        ),
        (
            "/problem",
            BROWSER,
            403,
            "{\"app\":true}",
            "so does problem+json",
        ),
        (
            "/404",
            BROWSER,
            404,
            "the app's 404",
            "a status that is not named passes",
        ),
    ] {
        let response = client.ask(&format!("GET {target}"), &[accept]).is(status);
        assert!(response.text().contains(body), "{why}: {}", response.text());
    }
    let head = client.ask("HEAD /html", &[BROWSER]).is(403);
    assert_eq!(head.body, b"");
    assert_eq!(
        origin.count(),
        7,
        "the page is never fetched through the proxy"
    );
    let line = &gate.log(7)[0];
    assert_eq!(line["upstream.status_code"], 403, "{line}");
}

#[test]
fn forced_interception_replaces_for_everybody() {
    let origin = Origin::scripted(|exchange| {
        exchange.answer(
            "403 Forbidden\r\nContent-Type: application/json",
            "{\"app\":true}",
        )
    });
    let config = format!(
        "{}[site.intercept]\nstatuses = [403]\nforce = true\n",
        crate::support::open(&origin)
    );
    let gate = Gate::start(&config);
    let response = gate.connect().ask("GET /x", &[]).is(403);
    assert_eq!(response.json()["status"], 403, "{}", response.text());
    let page = gate.connect().ask("GET /x", &[BROWSER]).is(403).text();
    assert!(page.to_lowercase().starts_with("<!doctype html>"), "{page}");
}

#[test]
fn cors_lets_named_origins_read_refusals_and_answers_their_preflights() {
    let origin = Origin::start();
    let source = "[identity.hs]\njwt = { issuer = \"i\", audience = \"a\", secret = \"a secret of at least thirty-two bytes\", algorithms = [\"HS256\"] }\n";
    let config = format!(
        "{}[site.cors]\norigins = [\"https://ui.test\"]\nmethods = [\"GET\", \"PUT\"]\nheaders = [\"X-Api\"]\nmax_age = \"10m\"\n",
        site(&origin, source).replace(
            "upstream = \"app\"\n  [[",
            "upstream = \"app\"\nidentity = [\"hs\"]\n  [["
        )
    );
    let gate = Gate::start(&config);
    let mut client = gate.connect();
    let preflight = |from: &str| {
        [
            format!("Origin: {from}"),
            "Access-Control-Request-Method: PUT".to_owned(),
            "Access-Control-Request-Headers: x-api".to_owned(),
        ]
    };
    let ask = |client: &mut crate::support::Client, line: &str, fields: &[String]| {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        client.ask(line, &fields)
    };

    let response = ask(&mut client, "OPTIONS /role", &preflight("https://ui.test"));
    assert!(
        [200, 204].contains(&response.status),
        "a preflight carries no credential: {}",
        response.status
    );
    assert_eq!(
        response.header("access-control-allow-origin"),
        Some("https://ui.test")
    );
    assert!(
        response
            .all("access-control-allow-methods")
            .join(",")
            .contains("PUT")
    );
    assert!(
        response
            .all("access-control-allow-headers")
            .join(",")
            .to_lowercase()
            .contains("x-api")
    );
    assert_eq!(response.header("access-control-max-age"), Some("600"));
    assert_eq!(origin.count(), 0, "the proxy answers it");

    let response = ask(
        &mut client,
        "OPTIONS /denied",
        &preflight("https://ui.test"),
    );
    assert_eq!(
        response.status, 403,
        "the announced request is certainly denied"
    );

    let response = client
        .ask("GET /denied", &["Origin: https://ui.test"])
        .is(403);
    assert_eq!(
        response.header("access-control-allow-origin"),
        Some("https://ui.test"),
        "its scripts may read why"
    );
    assert!(
        response
            .all("vary")
            .join(",")
            .to_lowercase()
            .contains("origin")
    );

    let response = client
        .ask("GET /denied", &["Origin: https://evil.test"])
        .is(403);
    assert!(
        response.all("access-control-allow-origin").is_empty(),
        "{:?}",
        response.fields
    );
    let response = ask(&mut client, "OPTIONS /x", &preflight("https://evil.test"));
    assert!(
        response.all("access-control-allow-origin").is_empty(),
        "{:?}",
        response.fields
    );
}

/// A refused request may have a body: the next request stands behind it (RFC 9112 §9.3).
#[test]
fn a_refused_body_does_not_cost_the_connection() {
    let origin = Origin::start();
    let gate = Gate::start(&site(&origin, ""));
    for (length, rest, why) in [
        ("content-length: 5", &b"hello"[..], "a small body"),
        (
            "transfer-encoding: chunked",
            b"5\r\nhello\r\n0\r\n\r\n",
            "chunks",
        ),
        ("content-length: 200000", &[b'x'; 200_000], "a middling one"),
    ] {
        let mut client = gate.connect();
        client.send(format!(
            "POST /denied HTTP/1.1\r\nhost: a.test\r\n{length}\r\n\r\n"
        ));
        // The answer is there before the body; what follows is thrown away.
        let answer = client.response("POST").is(403);
        assert_eq!(answer.header("connection"), None, "{why}");
        assert!(client.send(rest), "{why}");
        client.ask("GET /", &[]).is(200);
    }
    for (fields, why) in [
        ("content-length: 300000", "too long to be thrown away"),
        (
            "content-length: 5\r\nexpect: 100-continue",
            "it will not come",
        ),
    ] {
        let mut client = gate.connect();
        client.send(format!(
            "POST /denied HTTP/1.1\r\nhost: a.test\r\n{fields}\r\n\r\n"
        ));
        let answer = client.response("POST").is(403);
        assert!(answer.interim.is_empty(), "{why}");
        assert_eq!(answer.header("connection"), Some("close"), "{why}");
        client.half_close();
        assert_eq!(client.end(Duration::from_secs(5)), End::Closed, "{why}");
    }
}
