#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use clap::Parser;

use super::*;
use crate::cli::{DEFAULT_CONFIG, run::demo_token};
use crate::config::{self, Input};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: ExplainArgs,
}

/// The explanation by a configuration, and whether the request passes.
fn explain(text: &str, arguments: &[&str]) -> (String, bool) {
    let told = told(text, arguments);
    told.unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

fn told(text: &str, arguments: &[&str]) -> Result<(String, bool), Unclear> {
    let args = Line::try_parse_from([&["explain"], arguments].concat());
    let args = args.unwrap_or_else(|error| panic!("{error}")).args;
    let input = Input::Text {
        name: "site.toml".to_owned(),
        text: text.to_owned(),
        folder: PathBuf::from("."),
    };
    let now = "2026-11-24T10:00:00Z".parse().unwrap();
    let loaded = config::load(input, Memory::default(), 1, now);
    let shown = loaded.report.render_plain();
    let snapshot = loaded.snapshot.as_ref();
    let snapshot = snapshot.unwrap_or_else(|| panic!("{shown}"));
    let bench = Bench::new(&loaded, snapshot, Memory::default());
    let explained = bench.explain(bench.question(&args)?);
    let text = match args.format {
        Format::Text => text::of(&explained, &snapshot.policy, Paint::Plain),
        Format::Json => json::of(&explained, &snapshot.policy),
    };
    Ok((text, explained.passes()))
}

const POLICY: &str = r#"
[[listener]]
address = "127.0.0.1:8080"
[upstream.app]
servers = ["http://127.0.0.1:3000"]
[geoip]
databases = ["embedded:demo"]
[ip]
office = ["203.0.113.0/25"]
[country]
licensed = ["NL", "BE", "LU"]
[role]
admin = ["editor"]
editor = []
[time]
business = { zone = "Europe/Amsterdam", days = "mon-fri", from = "07:00", to = "20:00" }
[identity.demo]
jwt = { issuer = "https://demo.portcullis.invalid/", audience = "demo", secret = "demo-secret-of-portcullis-worth-nothing-elsewhere", algorithms = ["HS256"], roles = "roles" }

[[site]]
host = ["app.example.com", "*.app.example.com"]
upstream = "app"
identity = ["demo"]
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/premium/**"
  allow = [{ role = "editor" }]
  [[site.route.deny]]
  name = "licensed-countries-only"
  unless = [{ country = "@licensed" }, { ip = "@office", until = 2026-12-31 }]
  status = 451
  reason = "region_restricted"
  message = "Content unavailable in your location"
  [[site.route]]
  path = "/premium/desk"
  allow = [{ role = "editor", time = "@business" }, { header.x-plan = "pro", query.preview = "1", ip = "@office" }]
  [[site.route]]
  path = "/secret/**"
  allow = [{ role = "admin" }]
  otherwise = { status = 404 }
"#;

/// A moment in business hours.
const AT: [&str; 2] = ["--at", "2026-11-24T10:00:00+01:00"];

#[test]
fn an_explanation_reads_well() {
    for (name, passes, arguments) in [
        (
            "an_allow",
            true,
            &[
                "--url",
                "https://app.example.com/premium/desk",
                "--role",
                "admin",
                "--ip",
                "203.0.113.7",
            ][..],
        ),
        (
            "a_451",
            false,
            &[
                "--url",
                "/premium/film",
                "--country",
                "NO",
                "--role",
                "editor",
            ],
        ),
        (
            "a_401",
            false,
            &[
                "--url",
                "https://x.app.example.com/premium/film?a=1",
                "--country",
                "NL",
                "--header",
                "Accept: text/html",
            ],
        ),
        (
            "a_503",
            false,
            &["--url", "/premium/film", "--failed", "geo"],
        ),
        (
            "a_hidden_404",
            false,
            &["--url", "/secret/plans", "--method", "POST"],
        ),
    ] {
        let (text, passed) = explain(POLICY, &[arguments, &AT].concat());
        assert_eq!(passed, passes, "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn machines_get_the_same_facts() {
    let arguments = [
        "--url",
        "/premium/film",
        "--country",
        "NO",
        "--format",
        "json",
    ];
    let (text, _) = explain(POLICY, &[&arguments[..], &AT].concat());
    insta::assert_snapshot!("json", text);
}

#[test]
fn what_is_no_request_is_a_usage_error() {
    for (arguments, part) in [
        (&["--url", "app.example.com"][..], "is no URL"),
        (&["--url", "https://a@b/"], "is no host"),
        (&["--url", "/", "--country", "UK"], "UK"),
        (&["--url", "/", "--at", "noon"], "is no moment"),
        (&["--url", "/", "--anonymizer", "cloak"], "vpn"),
        (&["--url", "/", "--header", "x"], "NAME: VALUE"),
        (&["--url", "/", "--claim", "plan"], "KEY=VALUE"),
        (&["--url", "/", "--method", "G T"], "is no method"),
        (&["--url", "/", "--token", "/nowhere/at/all"], "cannot read"),
    ] {
        let error = told(POLICY, arguments).unwrap_err().to_string();
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}

#[test]
fn every_outcome_has_its_answer() {
    for (url, more, want, why) in [
        (
            "https://other.example/",
            &[][..],
            "421 misdirected_request",
            "no site",
        ),
        ("/premium/%zz", &[], "400 malformed_request", "a bad escape"),
        ("//premium", &[], "400 ambiguous_path", "two readings"),
        (
            "/premium/desk?preview=%zz",
            &[],
            "400 malformed_query",
            "a rule reads the query",
        ),
        (
            "/premium/film",
            &["--country", "NL", "--role", "nobody"],
            "403 forbidden",
            "a role too few",
        ),
        (
            "/premium/film",
            &["--country", "NL", "--header", "Authorization: Bearer x.y.z"],
            "401 invalid_token",
            "no token",
        ),
        ("/", &[], "whatever upstream `app` answers", "anyone"),
    ] {
        let (text, _) = explain(POLICY, &[&["--url", url], more].concat());
        assert!(
            text.contains(&format!("answer    {want}\n")),
            "{why}:\n{text}"
        );
    }
}

#[test]
fn a_token_is_verified_and_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let token = demo_token().unwrap();
    let path = file.to_str().unwrap();
    for (content, passes, part) in [
        (token.clone(), true, "ada (roles admin), by demo"),
        (
            format!("Bearer {token}\n"),
            true,
            "ada (roles admin), by demo",
        ),
        (
            format!("{token}x"),
            false,
            "a credential that is not valid (",
        ),
    ] {
        std::fs::write(&file, &content).unwrap();
        for format in ["text", "json"] {
            let arguments = ["--url", "/admin", "--token", path, "--format", format];
            let (text, passed) = explain(DEFAULT_CONFIG, &arguments);
            assert_eq!(passed, passes, "{text}");
            assert!(text.contains(part), "{text}");
            assert!(!text.contains(token.get(..40).unwrap()), "{text}");
        }
    }
}

#[test]
fn a_line_of_the_log_is_judged_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("line");
    let path = file.to_str().unwrap();
    let line = serde_json::json!({
        "schema": 1, "timestamp": "2026-11-24T09:00:00.123456Z", "request.id": "018f-x",
        "client.address": "198.51.100.9", "network.peer.address": "198.51.100.9", "network.peer.port": 4,
        "http.request.method": "GET", "server.address": "app.example.com", "url.scheme": "https",
        "url.path": "/premium/desk", "url.query": "token=REDACTED", "tls.protocol.version": "1.3",
        "http.response.status_code": 200, "policy.decision": "allow",
        "security_rule.name": "app.example.com/premium/desk#1", "user.id": "ada", "user.roles": ["viewer"],
        "auth.source": "demo", "geo.country.iso_code": "NO", "config.generation": 3,
    });
    std::fs::write(&file, format!("{line}\n")).unwrap();
    let (text, passes) = explain(POLICY, &["--line", path]);
    assert!(!passes);
    insta::assert_snapshot!("a_line", text);

    for (content, part) in [
        ("", "exactly one line"),
        ("{}\n{}\n", "exactly one line"),
        ("203.0.113.9 - - [24/Nov/2026]", "no JSON"),
        ("{\"timestamp\":\"2026-11-24T09:00:00Z\"}", "never parsed"),
    ] {
        std::fs::write(&file, content).unwrap();
        let error = told(POLICY, &["--line", path]).unwrap_err().to_string();
        assert!(error.contains(part), "{content}: {error}");
    }
}

#[test]
fn nothing_from_a_request_commands_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("line");
    let line = serde_json::json!({
        "timestamp": "2026-11-24T09:00:00Z", "http.request.method": "GET", "url.path": "/premium/film",
        "server.address": "app.example.com", "user.id": "\u{1b}[2J", "user.roles": ["\u{7}"], "geo.country.iso_code": "NL",
    });
    std::fs::write(&file, line.to_string()).unwrap();
    let (text, _) = explain(POLICY, &["--line", file.to_str().unwrap()]);
    let told = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(told), "{text:?}");
    assert!(text.contains("\\u{1b}[2J"), "{text}");
}
