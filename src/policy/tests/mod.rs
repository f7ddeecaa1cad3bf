//! The engine against the semantics, key by key and as a whole.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "tests may stop at the first surprise"
)]

mod golden;
mod long;
mod oracle;
pub(crate) mod properties;

use super::draft::Draft;
use super::facts::Scheme;
use super::mutate;
use super::simulate::{self, Asked, Caller, Outcome};
use super::{Facts, First, Policy, Verdict};
use crate::config::compile::{self, rules};
use crate::config::node::{self, FileId, Table};
use crate::config::{Context, Diagnostic};
use crate::value::region::{GeoFacts, Region};

/// A policy from text, with what was found.
fn read(text: &str) -> (Table, Policy, Vec<Diagnostic>) {
    let (root, syntax) = node::parse(text, FileId(0));
    assert!(syntax.is_empty(), "{syntax:?}");
    let mut cx = Context::default();
    let policy = rules::compile(&root, GeoFacts::ALL, &mut cx);
    (root, policy, cx.report.diagnostics)
}

#[test]
fn every_policy_file_holds_its_tests() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy");
    let mut files = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let (root, policy, found) = read(&text);
        assert!(found.is_empty(), "{}: {found:#?}", path.display());
        let mut cx = Context::default();
        let count = compile::tests::run(&root, &policy, &mut cx);
        let found: Vec<String> = cx
            .report
            .diagnostics
            .into_iter()
            .map(|d| d.message)
            .collect();
        assert!(
            found.is_empty(),
            "{}:\n{}",
            path.display(),
            found.join("\n")
        );
        assert!(count > 10, "{}", path.display());
        files += 1;
    }
    assert!(files >= 5);
}

/// Rules of the conformance scenario that look at paths.
const GUARDED: &str = r#"
[[deny]]
name = "admin-path"
path = "/admin/**"
[[deny]]
name = "gb-only"
path = "/gb-only/**"
unless = [{ country = "GB" }]
[[site]]
host = ["*"]
upstream = "app"
identity = ["hs"]
[[site.route]]
path = "/**"
allow = "anyone"
[[site.route]]
path = "/secure/**"
allow = [{ role = "staff" }]
[[site.route]]
path = "/held.Echo/**"
allow = "anyone"
[[site]]
host = ["strict.example"]
upstream = "app"
path_reading = "strict"
[[site.route]]
path = "/**"
allow = "anyone"
"#;

#[test]
fn every_small_mistake_is_made_once() {
    let text = "[[deny]]\nname = \"g\"\npath = \"/g\"\n[[site]]\nhost = [\"a\"]\nupstream = \"u\"\n\
                [[site.deny]]\nname = \"s\"\nmethod = \"GET\"\nunless = [{ path = \"/a\" }, { path = \"/b\" }]\n\
                [[site.route]]\npath = \"/**\"\nallow = \"anyone\"\n\
                [[site.route]]\npath = \"/a\"\nallow = [{ ip = \"10.0.0.0/8\" }, { ip = \"127.0.0.1\" }]\n\
                [[site.route.deny]]\nname = \"r\"\npath = \"/x\"\n";
    let (root, _) = node::parse(text, FileId(0));
    let draft: Draft = rules::draft(&root, GeoFacts::ALL, &mut Context::default());
    let whole = Policy::new(draft.clone());
    let paths = ["/", "/a", "/b", "/g"];
    let told: Vec<String> = mutate::every(&draft)
        .iter()
        .map(|mutant| {
            let policy = Policy::new(mutant.of(&draft));
            let rule = mutant.rule.map(|rule| whole.rule(rule).name.to_string());
            let now = paths.map(|path| ends(&policy, "a", path));
            format!("{:?} {} {now:?}", mutant.change, rule.unwrap_or_default())
        })
        .collect();
    assert_eq!(
        paths.map(|path| ends(&whole, "a", path)),
        ["deny", "allow", "allow", "deny"]
    );
    assert_eq!(
        told,
        [
            r#"Deleted g ["deny", "allow", "allow", "deny"]"#,
            r#"Flipped g ["deny", "allow", "allow", "deny"]"#,
            r#"Deleted s ["allow", "allow", "allow", "deny"]"#,
            r#"Flipped s ["allow", "allow", "allow", "deny"]"#,
            r#"Excepted(0) s ["deny", "deny", "allow", "deny"]"#,
            r#"Excepted(1) s ["deny", "allow", "deny", "deny"]"#,
            r#"Closed  ["deny", "allow", "deny", "deny"]"#,
            r#"Deleted r ["deny", "allow", "allow", "deny"]"#,
            r#"Flipped r ["deny", "allow", "allow", "deny"]"#,
            r#"Deleted a/a#1 ["deny", "allow", "allow", "deny"]"#,
            r#"Flipped a/a#1 ["deny", "allow", "allow", "deny"]"#,
            r#"Deleted a/a#2 ["deny", "deny", "allow", "deny"]"#,
            r#"Flipped a/a#2 ["deny", "deny", "allow", "deny"]"#,
        ]
    );
}

/// How a request for a path ends: the verdict in one word.
fn ends(policy: &Policy, host: &str, path: &str) -> &'static str {
    let asked = Asked {
        host: host.into(),
        target: path.into(),
        method: http::Method::GET,
        client: [127, 0, 0, 1].into(),
        peer: [127, 0, 0, 1].into(),
        region: Region::default(),
        scheme: Scheme::Http,
        tls: None,
        headers: http::HeaderMap::new(),
        websocket: false,
        now: jiff::Timestamp::UNIX_EPOCH,
        caller: Caller::Nobody,
    };
    match simulate::judge(policy, &asked) {
        Outcome::Malformed(_) => "malformed",
        Outcome::Ambiguous => "ambiguous",
        Outcome::Judged { decision, .. } => match decision.verdict {
            Verdict::Allow => "allow",
            Verdict::Refuse(_) => "deny",
            Verdict::NotAuthenticated => "sign in",
            other => panic!("{path}: {other:?}"),
        },
    }
}

#[test]
fn no_spelling_of_a_path_passes_its_rule() {
    let (_, policy, found) = read(GUARDED);
    assert!(found.is_empty(), "{found:?}");
    for (path, want) in [
        ("/admin", "deny"),
        ("/admin/", "deny"),
        ("/admin/users", "deny"),
        ("/admin?x=1", "deny"),
        ("/%61dmin", "deny"),
        ("/%61%64%6d%69%6e/x", "deny"),
        ("//admin", "ambiguous"),
        ("/x//admin", "allow"), // reads as /x/admin
        ("/admin%2f", "ambiguous"),
        ("/admin%2fusers", "ambiguous"),
        ("/%2561dmin", "ambiguous"),
        ("/ADMIN", "ambiguous"),
        ("/admin;x=1", "ambiguous"),
        ("/;x/admin", "ambiguous"), // an empty segment with a parameter
        ("/%5Cadmin", "ambiguous"),
        ("/\\admin", "ambiguous"),
        ("/admin.", "ambiguous"),
        ("/admin%20", "ambiguous"),
        ("/admin%2e%2e", "ambiguous"),
        ("/admin%20.", "ambiguous"),
        ("/adm%C4%B1n", "ambiguous"), // dotless i, of which some make an i
        ("/./admin", "malformed"),
        ("/x/../admin", "malformed"),
        ("/x/..%20/admin", "malformed"),
        ("/admin%00", "malformed"),
        ("/secure", "sign in"),
        ("/SECURE/x", "ambiguous"),
        ("/gb%2Donly/x", "deny"),
        ("/gb-only%2F", "ambiguous"),
        ("/held.Echo/x", "allow"),
        ("/held.echo/x", "ambiguous"), // the upstream may fold case
        ("/x/admin", "allow"),
        ("/admins", "allow"),
        ("/a%20b", "allow"),
        ("/a%2Fb", "allow"),
        ("/caf%C3%A9", "allow"),
        ("/%E9", "allow"),
        ("/a..b/...", "allow"),
        ("/~me/%7Eyou", "allow"),
        ("/@scope/pkg", "allow"),
        ("/Images/A;v=1", "allow"),
        ("/%252561dmin", "allow"), // three decodings are one too many
    ] {
        assert_eq!(ends(&policy, "a.example", path), want, "{path}");
    }
    // A site may ask for the strict reading only.
    assert_eq!(ends(&policy, "strict.example", "/ADMIN"), "allow");
    assert_eq!(ends(&policy, "strict.example", "/%61dmin"), "deny");
    assert_eq!(ends(&policy, "strict.example", "/x/../admin"), "malformed");
}

#[test]
fn a_site_known_by_certificate_only_asks_for_one() {
    let text = "[identity.cert]\nmtls = { user = \"cn\" }\n[[site]]\nhost = [\"a\"]\nupstream = \"u\"\nidentity = [\"cert\"]\nallow = [{ auth = \"any\" }]\n";
    let (_, policy, _) = read(text);
    let test = "[[test]]\nname = \"t\"\nrequest = { host = \"a\", path = \"/\" }\nexpect = { status = 403, reason = \"certificate_required\" }\n";
    let mut cx = Context::default();
    let (tests, _) = node::parse(&format!("{text}{test}"), FileId(0));
    assert_eq!(compile::tests::run(&tests, &policy, &mut cx), 1);
    assert!(
        cx.report.diagnostics.is_empty(),
        "{:?}",
        cx.report.diagnostics
    );
    assert!(policy.signs_in(super::SiteId(0)));
}

#[test]
fn a_name_without_addresses_is_of_unknown_standing() {
    let text = "[[site]]\nhost = [\"a\"]\nupstream = \"u\"\nallow = \"anyone\"\n[[site.deny]]\nname = \"bad\"\nip = [\"10.0.0.0/8\", \"dns:bad.example\"]\n";
    let (_, policy, _) = read(text);
    let target = crate::value::path::Target::read("/").unwrap();
    let place = policy.locate("a", &target).unwrap();
    let headers = http::HeaderMap::new();
    for (client, want) in [([10, 0, 0, 1], "refuse"), ([192, 0, 2, 1], "unavailable")] {
        let facts = Facts {
            peer: client.into(),
            client: client.into(),
            method: &http::Method::GET,
            scheme: Scheme::Http,
            host: "a",
            target: &target,
            headers: &headers,
            tls: None,
            websocket: false,
            now: jiff::Timestamp::UNIX_EPOCH,
            identity: super::Identity::Open,
            lookup: &|_| Region::default(),
            region: std::cell::OnceCell::new(),
        };
        let got = match policy.first(&facts, place) {
            First::Decided(decision) => match decision.verdict {
                Verdict::Refuse(_) => "refuse",
                Verdict::Unavailable => "unavailable",
                other => panic!("{other:?}"),
            },
            First::SignIn => "sign in",
        };
        assert_eq!(got, want, "{client:?}");
    }
}

#[test]
fn no_country_is_looked_up_that_no_rule_needs() {
    let text = "[[deny]]\nname = \"d\"\nip = \"10.0.0.0/8\"\ncountry = \"NL\"\n[[site]]\nhost = [\"a\"]\nupstream = \"u\"\nallow = \"anyone\"\n";
    let (_, policy, _) = read(text);
    assert_eq!(policy.reads(), GeoFacts::COUNTRY);
    let target = crate::value::path::Target::read("/").unwrap();
    let headers = http::HeaderMap::new();
    for (client, want) in [([192, 0, 2, 1], 0), ([10, 0, 0, 1], 1)] {
        let looked = std::cell::Cell::new(0);
        let lookup = |_| {
            looked.set(looked.get() + 1);
            Region::default()
        };
        let facts = Facts {
            peer: client.into(),
            client: client.into(),
            method: &http::Method::GET,
            scheme: Scheme::Http,
            host: "a",
            target: &target,
            headers: &headers,
            tls: None,
            websocket: false,
            now: jiff::Timestamp::UNIX_EPOCH,
            identity: super::Identity::Open,
            lookup: &lookup,
            region: std::cell::OnceCell::new(),
        };
        let place = policy.locate("a", &target).unwrap();
        assert!(matches!(policy.first(&facts, place), First::Decided(_)));
        assert_eq!(looked.get(), want, "{client:?}");
    }
}
