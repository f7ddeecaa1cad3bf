#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests may stop at the first surprise"
)]

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::snapshot::{Answer, Endpoint};

/// Loads a text as if it were `site.toml`. No variable of the environment is set.
fn text(text: &str) -> Loaded {
    named("site.toml", text, Path::new("."))
}

fn named(name: &str, text: &str, folder: &Path) -> Loaded {
    let input = Input::Text {
        name: name.to_owned(),
        text: text.to_owned(),
        folder: folder.to_owned(),
    };
    load_with(input, Memory::default(), 1, Timestamp::UNIX_EPOCH, &|_| {
        None
    })
}

fn codes(loaded: &Loaded) -> Vec<&'static str> {
    loaded.report.diagnostics.iter().map(|d| d.code).collect()
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    files.sort();
    files
}

const MINIMAL: &str = r#"
[[listener]]
address = "127.0.0.1:8080"
[upstream.app]
servers = ["http://127.0.0.1:3000"]
[[site]]
host = ["app.example.com"]
upstream = "app"
allow = "anyone"
"#;

#[test]
fn every_diagnostic_reads_well() {
    let mut wrong = Vec::new();
    for path in files("tests/diagnostics") {
        let code = path.file_stem().unwrap().to_str().unwrap();
        let content = std::fs::read_to_string(&path).unwrap();
        let mut loaded = named(&format!("{code}.toml"), &content, path.parent().unwrap());
        if !codes(&loaded).contains(&code) {
            findings::analyse(&mut loaded, Timestamp::UNIX_EPOCH);
        }
        if !codes(&loaded).contains(&code) {
            wrong.push(format!("{code}: {}", loaded.report.render_plain()));
            continue;
        }
        assert_eq!(loaded.snapshot.is_none(), loaded.report.refused(), "{code}");
        let shown = loaded.report.render_plain();
        let shown = shown.replace(concat!(env!("CARGO_MANIFEST_DIR"), "/"), "");
        insta::assert_snapshot!(code, shown);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A code that the sources name has a file in `tests/diagnostics`, or a test elsewhere.
#[test]
fn every_diagnostic_has_a_file() {
    let shown: BTreeSet<String> = files("tests/diagnostics")
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let mut named = BTreeSet::new();
    let mut rooms = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config")];
    while let Some(room) = rooms.pop() {
        for entry in std::fs::read_dir(room).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                rooms.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("policy_tests.rs")
                && (path.ends_with("compile/tests.rs") || !path.ends_with("tests.rs"))
            {
                let source = std::fs::read_to_string(&path).unwrap();
                let product = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let words = product.split('"').filter(|word| is_code(word));
                named.extend(words.map(str::to_owned));
                named.extend(said(product).map(str::to_owned));
            }
        }
    }
    for (code, place) in COVERED_ELSEWHERE {
        let tests = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(place));
        let tests = tests.unwrap_or_default();
        let tests = tests.rsplit("#[cfg(test)]").next().unwrap();
        assert!(tests.contains(code), "{place} does not test {code}");
    }
    let elsewhere = COVERED_ELSEWHERE.iter().chain(OUT_OF_REACH);
    let elsewhere: BTreeSet<&str> = elsewhere.map(|(code, _)| *code).collect();
    for code in elsewhere.iter().chain(NO_CODES) {
        assert!(named.contains(*code), "the sources do not name {code}");
        assert!(!shown.contains(*code), "{code} has a file");
    }
    let known: BTreeSet<&str> = shown
        .iter()
        .map(String::as_str)
        .chain(elsewhere.iter().copied())
        .chain(NO_CODES.iter().copied())
        .collect();
    let missing: Vec<&String> = named
        .iter()
        .filter(|word| !known.contains(word.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "write tests/diagnostics/CODE.toml: {missing:?}"
    );
}

/// Literals that a diagnostic is made with: codes of one word are found so.
fn said(source: &str) -> impl Iterator<Item = &str> {
    ["error(", "warning(", "note(", "finding(", "global("]
        .into_iter()
        .flat_map(|maker| source.split(maker).skip(1))
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .filter(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
}

/// Whether a literal is written as the code of a diagnostic is: words of small letters, with hyphens between.
fn is_code(literal: &str) -> bool {
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    literal.contains('-') && literal.split('-').all(word)
}

/// Codes that take keys, a clock, a network or a system that no file can bring, and where they are tested.
const COVERED_ELSEWHERE: &[(&str, &str)] = &[
    ("acme-name", "src/config/compile/tls/acme.rs"),
    ("bad-duration", "src/config/compile/identity/tests.rs"),
    ("bad-redis-url", "src/config/compile/redis.rs"),
    ("bad-media-type", "src/config/compile/compress.rs"),
    (
        "certificate-expires-soon",
        "src/config/compile/tls/tests.rs",
    ),
    ("expired-certificate", "src/config/compile/tls/tests.rs"),
    ("key-mismatch", "src/config/compile/tls/tests.rs"),
    ("list-kept", "src/config/compile/policy_tests.rs"),
    ("revocations-kept", "src/config/compile/revocation.rs"),
    ("no-http-listener", "src/config/compile/tls/acme.rs"),
    ("old-database", "src/config/compile/geoip.rs"),
    ("old-devices", "src/config/compile/devices.rs"),
    ("old-provider-snapshot", "src/config/compile/client.rs"),
    ("premature-certificate", "src/config/compile/tls/tests.rs"),
    ("set-too-deep", "src/config/compile/policy_tests.rs"),
    ("stale-name", "src/config/compile/policy_tests.rs"),
    ("unnamed-certificate", "src/config/compile/tls/tests.rs"),
    ("useless-database", "src/config/compile/geoip.rs"),
];

/// Codes that no test can bring about, and why.
const OUT_OF_REACH: &[(&str, &str)] = &[
    (
        "bad-tls",
        "the last guard, where the room of TLS gave nothing and said nothing",
    ),
    (
        "not-in-this-build",
        "builds with all features know every key; `raw::walk` tests its words",
    ),
    (
        "no-system-roots",
        "a system without any certificate authority",
    ),
];

/// Words of the sources that are written like codes.
const NO_CODES: &[&str] = &[
    "content-encoding",
    "content-length",
    "content-range",
    "keep-alive",
    "letsencrypt-staging",
    "proxy-authenticate",
    "proxy-connection",
    "transfer-encoding",
    "x-request-id",
    "cf-connecting-ip",
    "content-length",
    "date-time",
    "hash-daily",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "remote-user",
    "set-cookie",
    "transfer-encoding",
    "true-client-ip",
    "x-api-key",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded-for",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-forwarded-for",
    "x-original-url",
    "x-real-ip",
    "x-remote-user",
    "x-rewrite-url",
    "x-roles",
    "x-user",
];

#[test]
fn every_file_of_the_package_loads_and_tests_every_rule() {
    let mut all = files("config/examples");
    all.extend(files("config"));
    assert!(all.len() > 6);
    let now = "2026-11-24T12:00:00Z".parse().unwrap();
    for path in all {
        let shown = path.display();
        let mut loaded = load(Input::File(path.clone()), Memory::default(), 1, now);
        // The bank's certificates are its own: until the listener asks for them, `check` says so.
        let bank = path.file_stem().is_some_and(|name| name == "bank");
        let expected: &[&str] = if bank {
            &["no-client-certificates"]
        } else {
            &[]
        };
        assert_eq!(
            codes(&loaded),
            expected,
            "{shown}: {}",
            loaded.report.render_plain()
        );
        findings::analyse(&mut loaded, now);
        loaded
            .report
            .diagnostics
            .retain(|one| one.severity != Severity::Note);
        assert_eq!(
            codes(&loaded),
            expected,
            "{shown}: {}",
            loaded.report.render_plain()
        );
        let tested = expected_rules(&loaded.root);
        let snapshot = loaded.snapshot.unwrap();
        for rule in snapshot.policy.rules() {
            assert!(
                tested.contains(&*rule.name),
                "{shown}: no test says what `{}` decides",
                rule.name
            );
        }
    }
}

/// A block is a whole configuration, which must load, or a part of one, whose tables and keys must be ones that are built.
#[test]
fn the_toml_in_the_readme_is_configuration() {
    let blocks: Vec<&str> = include_str!("../../README.md")
        .split("\n```toml\n")
        .skip(1)
        .map(|rest| rest.split("\n```").next().unwrap())
        .collect();
    assert!(blocks.len() > 10, "{}", blocks.len());
    for block in blocks {
        let inside = block.contains("[site.") && !block.contains("[[site]]");
        let block = match block.find("[[site.").or(block.find("[site.")) {
            Some(at) if inside => {
                format!("{}[[site]]\nhost = \"*\"\n{}", &block[..at], &block[at..])
            }
            Some(_) | None => block.to_owned(),
        };
        let whole = block.contains("[[listener]]") && block.contains("[[site]]");
        if whole {
            assert_eq!(text(&block).report.render_plain(), "", "{block}");
            continue;
        }
        let (root, mistakes) = node::parse(&block, node::FileId(0));
        assert!(mistakes.is_empty(), "{mistakes:?}\n{block}");
        let mut cx = Context::default();
        raw::walk::check(&root, &mut cx);
        // What a cargo feature brings is shown, too.
        cx.report
            .diagnostics
            .retain(|finding| finding.code != "not-in-this-build");
        assert!(
            cx.report.diagnostics.is_empty(),
            "{:?}\n{block}",
            cx.report.diagnostics
        );
    }
}

/// The rules that the policy tests of a configuration name.
fn expected_rules(root: &Table) -> BTreeSet<&str> {
    let of_sites = root.tables("site").flat_map(|site| site.tables("test"));
    let tests = root.tables("test").chain(of_sites);
    tests
        .filter_map(|test| test.table("expect")?.str("rule"))
        .collect()
}

#[test]
fn findings_for_machines_have_lines_and_columns_of_characters() {
    let loaded = text(&format!("\"é\" = 1 # é\n{MINIMAL}"));
    insta::assert_snapshot!(loaded.report.json(), @r#"
    [
      {
        "severity": "error",
        "code": "unknown-key",
        "message": "there is no table or key `é`",
        "file": "site.toml",
        "line": 1,
        "column": 1,
        "end_line": 1,
        "end_column": 4,
        "help": null
      }
    ]
    "#);
}

#[test]
fn a_line_for_the_log_repeats_no_line_of_the_file() {
    let loaded = text(&format!("{MINIMAL}pasword = \"hunter2\"\n"));
    let lines: Vec<String> = loaded.report.lines().collect();
    insta::assert_snapshot!(
        lines.join("\n"),
        @"site.toml:10:1: error[unknown-key]: `[[site]]` has no key `pasword`"
    );
}

#[test]
fn a_value_that_a_variable_brought_in_is_never_shown() {
    let input = Input::Text {
        name: "site.toml".to_owned(),
        text: MINIMAL.replace("\"http://127.0.0.1:3000\"", "\"${URL}\""),
        folder: PathBuf::from("."),
    };
    let secret = |name: &str| (name == "URL").then(|| "hunter2".to_owned());
    let loaded = load_with(input, Memory::default(), 1, Timestamp::UNIX_EPOCH, &secret);
    assert_eq!(codes(&loaded), ["bad-url"]);
    for shown in [loaded.report.render_plain(), loaded.report.json()] {
        let shown = shown.replace("http://hunter2", "");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_minimal_configuration_becomes_a_snapshot() {
    let loaded = text(MINIMAL);
    assert_eq!(loaded.report.render_plain(), "");
    let snapshot = loaded.snapshot.unwrap();
    assert_eq!(snapshot.generation, 1);
    assert_eq!(snapshot.server.limits, defaults::LIMITS);
    assert_eq!(snapshot.listeners[0].address.to_string(), "127.0.0.1:8080");
    let site = &snapshot.sites[0];
    assert_eq!(&*site.name, "app.example.com");
    assert_eq!(&*site.routes[0].pattern, "/**");
    let Answer::Upstream(upstream) = &site.routes[0].answer else {
        panic!("{:?}", site.routes[0].answer);
    };
    let address = Endpoint::Address("127.0.0.1:3000".parse().unwrap());
    assert_eq!(upstream.servers[0].address, address);
}

#[test]
fn settings_of_a_route_stand_before_those_of_its_site_and_the_server() {
    let config = format!(
        r#"
        [server.limits]
        body_size = "3MiB"
        {MINIMAL}
        response_timeout = "20s"
        body_timeout = "7s"
        [[site.route]]
        path = "/upload"
        allow = "anyone"
        body_size = "2MiB"
        response_timeout = "10s"
        "#
    );
    let snapshot = text(&config).snapshot.unwrap();
    let [upload, everything] = &snapshot.sites[0].routes[..] else {
        panic!("the route of the site's `allow` comes last");
    };
    assert_eq!((&*upload.pattern, &*everything.pattern), ("/upload", "/**"));
    assert_eq!((upload.body_size, everything.body_size), (2 << 20, 3 << 20));
    let seconds = |wait: Option<std::time::Duration>| wait.map(|wait| wait.as_secs());
    assert_eq!(seconds(upload.response_timeout), Some(10));
    assert_eq!(seconds(everything.response_timeout), Some(20));
    assert_eq!(seconds(upload.body_timeout), Some(7));
    assert_eq!(seconds(upload.connect_timeout), None);
}

#[test]
fn headers_that_sites_name_are_stripped_everywhere() {
    let config = format!(
        "{MINIMAL}strip_headers = [\"X-Zone\"]\nheaders_to_upstream = {{ user = \"X-Who\", claim.\"email\" = \"X-Mail\" }}\n"
    );
    let snapshot = text(&config).snapshot.unwrap();
    assert_eq!(snapshot.stripped, ["x-mail", "x-who", "x-zone"]);
    let headers = &snapshot.sites[0].headers_to_upstream;
    assert_eq!(headers.user.as_ref().unwrap(), "x-who");
    assert_eq!(&*headers.claims[0].0, "email");
}

#[test]
fn every_mistake_is_reported_at_once() {
    let loaded = text("[upstream.app]\nservers = [\"x\"]\n[[site]]\nhosts = 1\n[sever]\n");
    assert_eq!(
        codes(&loaded),
        [
            "no-listener",
            "bad-url",
            "missing-key",
            "unknown-key",
            "unknown-key"
        ]
    );
}

#[test]
fn settings_are_shown_as_written_with_the_defaults_beside() {
    let config = MINIMAL.replace(
        "[upstream.app]",
        "[upstream.app]\nconnect_timeout = \"${WAIT:-3s}\"",
    );
    let loaded = text(&config);
    let shown = effective::settings(&loaded.root, &loaded.report);
    let from = shown.find("[upstream.app]").unwrap();
    let upstream = shown[from..].split("\n\n").next().unwrap();
    insta::assert_snapshot!(upstream, @r#"
    [upstream.app]
    servers = ["http://127.0.0.1:3000"]
    protocol = "http1"  # default
    balance = "round_robin"  # default
    connect_timeout = "${WAIT:-3s}"
    response_timeout = "60s"  # default
    idle_connections = 64  # default
    retries = 1  # default
    "#);
}

#[test]
fn any_text_is_answered_without_a_panic() {
    // Cut a real file at every byte, and put a strange one at every byte.
    let config = DEMANDING;
    for at in (0..config.len()).filter(|at| config.is_char_boundary(*at)) {
        drop(text(&config[..at]));
        drop(text(&format!(
            "{}\u{1F512}\"{}",
            &config[..at],
            &config[at..]
        )));
    }
}

const DEMANDING: &str = r#"include = ["nothing/*.toml"]
[server]
limits = { header_size = "16KiB", idle_timeout = "1h" }
[[listener]]
address = "[::1]:0"
[upstream.a]
servers = ["https://[::1]", { url = "unix:/x" }]
[[site]]
host = ["*"]
headers_to_upstream = { claim."a.b" = "X-A" }
[[site.route]]
path = "/é/**"
redirect = { to = "{scheme}://{host}/{{{tail}}}", status = 308 }
[[site.route.deny]]
name = "x"
unless = [{ header.x = { regex = "a" }, until = 2026-12-31 }]
status = "close"
"#;
