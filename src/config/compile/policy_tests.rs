//! What is found in policies: one row for each code at least.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::{rules, sets, tests};
use crate::config::node::{self, FileId};
use crate::config::{Context, Diagnostic, Severity, diagnostic};
use crate::policy::Policy;
use crate::value::region::GeoFacts;

fn context(text: &str) -> Context {
    let mut cx = Context {
        now: "2026-11-23T09:00:00Z".parse().unwrap(),
        ..Context::default()
    };
    cx.report.files.push(diagnostic::SourceFile {
        name: Arc::from("p.toml"),
        folder: PathBuf::new(),
        text: Arc::from(text),
    });
    cx
}

fn compile(text: &str, provides: GeoFacts, cx: &mut Context) -> Policy {
    let (root, syntax) = node::parse(text, FileId(0));
    assert!(syntax.is_empty(), "{syntax:?}");
    rules::compile(&root, provides, cx)
}

fn found(text: &str) -> Vec<Diagnostic> {
    let mut cx = context(text);
    compile(text, GeoFacts::ALL, &mut cx);
    cx.report.diagnostics
}

/// A site with one route that has this `allow`.
fn allow(condition: &str) -> String {
    format!(
        "[[site]]\nhost = [\"a\"]\nupstream = \"u\"\n[[site.route]]\npath = \"/**\"\nallow = [{condition}]\n"
    )
}

#[test]
fn every_mistake_is_found() {
    let deny = |keys: &str| format!("[[deny]]\nname = \"d\"\n{keys}\n");
    for (text, code, part) in [
        (
            deny("ip = \"@offce\"") + "[ip]\noffice = [\"10.0.0.0/8\"]",
            "unknown-set",
            "`@offce`",
        ),
        (deny("country = \"@nowhere\""), "unknown-set", "`[country]`"),
        (deny("time = \"@night\""), "unknown-set", "`[time]`"),
        (
            "[ip]\na = [\"@b\"]\nb = [\"@a\"]".into(),
            "set-cycle",
            "a → b → a",
        ),
        (
            "[ip]\nprivate = [\"10.0.0.0/8\"]".into(),
            "reserved-name",
            "`@private`",
        ),
        ("[country]\neu = [\"NL\"]".into(), "reserved-name", "`@eu`"),
        ("[ip]\na = []".into(), "empty-set", ""),
        (deny("country = []"), "empty-set", ""),
        (deny("role = []"), "empty-set", ""),
        (deny("header.x = []"), "empty-set", ""),
        (deny("ip = \"10.0.0.1/8\""), "host-bits", "10.0.0.1/8"),
        (deny("ip = \"10.0.0\""), "bad-address", "no IP address"),
        (deny("ip = \"10.0.0.0/40\""), "bad-address", "0 to 32"),
        (deny("ip = \"dns:a b\""), "bad-address", "dns:a b"),
        (deny("country = \"UK\""), "unknown-country", "UK"),
        (deny("continent = \"XX\""), "unknown-continent", "XX"),
        (deny("subdivision = \"US\""), "unknown-subdivision", "US"),
        (deny("asn = \"AS64500\""), "bad-asn", "AS64500"),
        (
            deny("role = \"vewer\"") + "[role]\nadmin = [\"viewer\"]",
            "unknown-role",
            "vewer",
        ),
        (deny("auth = \"sso\""), "unknown-source", "sso"),
        (deny("method = \"G ET\""), "bad-method", "G ET"),
        (deny("method = \"get\""), "method-case", "get"),
        (deny("host = \"a:80\""), "bad-host", "a:80"),
        (deny("host = \"bücher.example\""), "bad-host", "bücher"),
        (deny("path = \"a\""), "bad-pattern", "`a`"),
        (deny("path = \"/a*\""), "bad-pattern", "whole segment"),
        (deny("path = \"/../a\""), "bad-pattern", "dot segment"),
        (deny("path = { regex = \"(\" }"), "bad-regex", "`(`"),
        (
            deny("header.x = { regex = \"a{9999}{9999}\" }"),
            "bad-regex",
            "too large",
        ),
        (deny("header.x = { glob = \"[\" }"), "bad-glob", "`[`"),
        (deny("header.x = {}"), "empty-condition", ""),
        (deny("header.\"x y\" = \"1\""), "bad-header-name", "x y"),
        (
            deny("header.Authorization = \"x\""),
            "header-forbidden",
            "authorization",
        ),
        (
            deny("header.X_Forwarded_For = \"x\""),
            "header-forbidden",
            "x_forwarded_for",
        ),
        (
            deny("header.x-mail = \"x\"")
                + "[[site]]\nhost = [\"a\"]\nheaders_to_upstream = { claim = { email = \"X-Mail\" } }",
            "header-forbidden",
            "x-mail",
        ),
        (deny("until = 2027-01-01"), "until-misplaced", ""),
        (
            deny("unless = [{ ip = \"10.0.0.1\", unless = [{ ip = \"10.0.0.1\" }] }]"),
            "unless-nested",
            "",
        ),
        (
            deny("unless = [{}]"),
            "empty-condition",
            "matches everybody",
        ),
        (
            deny("unless = [{ until = 2027-01-01 }]"),
            "empty-condition",
            "",
        ),
        (
            deny("unless = [{ ip = \"10.0.0.1\", until = 2026-01-01 }]"),
            "expired",
            "2026-01-01",
        ),
        (
            deny("claim.plan = { at_least = \"pro\" }"),
            "unknown-set",
            "`plan`",
        ),
        (
            deny("claim.plan = { at_least = \"pr\" }")
                + "[claim]\nplan = { order = [\"free\", \"pro\"] }",
            "unknown-value",
            "`pr`",
        ),
        (deny("claim.plan = {}"), "empty-condition", ""),
        (deny("reason = \"No!\""), "bad-reason", "No!"),
        (
            deny("ip = \"10.0.0.1\"") + &deny("ip = \"10.0.0.2\""),
            "duplicate-rule",
            "`d`",
        ),
        (
            "[time]\nw = { zone = \"Mars/Base\" }".into(),
            "bad-time-window",
            "Mars/Base",
        ),
        (
            "[time]\nw = { zone = \"UTC\", days = \"mo-fr\" }".into(),
            "bad-time-window",
            "mo-fr",
        ),
        (
            "[time]\nw = { zone = \"UTC\", from = \"7:00\" }".into(),
            "bad-time-window",
            "7:00",
        ),
        (
            "[time]\nw = { zone = \"UTC\", from = \"24:00\" }".into(),
            "bad-time-window",
            "24:00",
        ),
        (
            "[time]\nw = { zone = \"UTC\", dates = [\"2026-12-31..2026-12-01\"] }".into(),
            "bad-time-window",
            "",
        ),
        (allow("{}"), "empty-condition", "matches everybody"),
        (allow("{ until = 2027-01-01 }"), "empty-condition", ""),
        (allow(""), "empty-allow", ""),
        (
            allow("{ header.x = \"1\", method = \"GET\" }"),
            "spoofable",
            "header",
        ),
        (
            allow("{ user = \"ada\" }").replace("upstream", "identity = [\"s\", \"t\"]\nupstream"),
            "user-without-auth",
            "",
        ),
        (
            allow("{ ip = \"10.0.0.1\" }") + "[[site.route]]\npath = \"/**\"\nallow = \"anyone\"",
            "duplicate-route",
            "/**",
        ),
        (
            allow("{ ip = \"10.0.0.1\" }")
                + "[[site.route]]\npath = \"/a\"\nallow = \"anyone\"\n[[site.route]]\npath = \"/A\"\nallow = \"anyone\"",
            "equal-lenient-routes",
            "`/A` and `/a`",
        ),
        (
            deny("ip = { file = \"nowhere.txt\" }")
                .replace("[[deny]]\nname = \"d\"\nip", "[ip]\na"),
            "unreadable-list",
            "nowhere.txt",
        ),
    ] {
        let all = found(&text);
        let hit = all.iter().find(|finding| finding.code == code);
        let hit = hit.unwrap_or_else(|| unreachable!("no {code} in\n{text}\nbut {all:#?}"));
        assert!(hit.message.contains(part), "{code}: {}", hit.message);
        assert!(hit.span.is_some(), "{code} stands nowhere");
    }
}

#[test]
fn a_remedy_is_named() {
    for (text, help) in [
        (
            "[ip]\noffice = [\"10.0.0.0/8\"]\n[[deny]]\nname = \"d\"\nip = \"@offcie\"",
            "did you mean `@office`?",
        ),
        (
            "[[deny]]\nname = \"d\"\nip = \"@privat\"",
            "did you mean `@private`?",
        ),
        (
            "[[deny]]\nname = \"d\"\nip = \"private\"",
            "the set is `@private`",
        ),
        (
            "[[deny]]\nname = \"d\"\nip = \"10.0.0.1/8\"",
            "the network is `10.0.0.0/8`",
        ),
        (
            "[[deny]]\nname = \"d\"\ncountry = \"UK\"",
            "did you mean `GB`?",
        ),
        (
            "[role]\nadmin = [\"viewer\"]\n[[deny]]\nname = \"d\"\nrole = \"admn\"",
            "did you mean `admin`?",
        ),
    ] {
        let all = found(text);
        assert_eq!(all.len(), 1, "{all:#?}");
        assert_eq!(all[0].help.as_deref(), Some(help));
    }
}

#[test]
fn a_fact_that_no_database_provides_is_an_error() {
    let text = "[[deny]]\nname = \"d\"\ncountry = \"NL\"\nasn = 1\n";
    let mut cx = context(text);
    compile(text, GeoFacts::COUNTRY, &mut cx);
    let codes: Vec<_> = cx
        .report
        .diagnostics
        .iter()
        .map(|d| (d.code, d.message.as_str()))
        .collect();
    assert_eq!(
        codes,
        [(
            "fact-not-provided",
            "no database provides the `asn` of an address"
        )]
    );
}

#[test]
fn a_rule_keeps_the_words_of_its_operator() {
    let text = allow("{ ip = [\"10.0.0.0/8\",\n  \"@private\"] }");
    let mut cx = context(&text);
    let policy = compile(&text, GeoFacts::NONE, &mut cx);
    assert_eq!(&*policy.rules()[0].name, "a/**#1");
    assert_eq!(policy.rules()[0].source.to_string(), "p.toml:6");
}

#[test]
fn the_last_good_list_stays_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.txt");
    let text = format!(
        "[ip]\nl = {{ file = \"{}\", shrink_limit = \"50%\" }}\n",
        path.display()
    );
    let mut cx = context(&text);
    let full = "# a list\n10.0.0.0/8\n\n192.0.2.1 ; one host\n2001:db8::/32\n198.51.100.0/24\n";
    for (content, entries, code, why) in [
        (
            Some("10.0.0.1/8\n"),
            None,
            Some(("bad-list-line", Severity::Error)),
            "no last good one",
        ),
        (Some(full), Some(4), None, "good"),
        (
            Some("10.0.0.0/8\n192.0.2.1\n"),
            Some(2),
            None,
            "half is within the limit",
        ),
        (Some("10.0.0.0/8\n"), Some(1), None, "and half again"),
        (Some(full), Some(4), None, "it may grow"),
        (
            Some("10.0.0.0/8\n"),
            Some(4),
            Some(("list-kept", Severity::Warning)),
            "shrunk too much",
        ),
        (
            Some(""),
            Some(4),
            Some(("list-kept", Severity::Warning)),
            "suddenly empty",
        ),
        (
            Some("nonsense\n"),
            Some(4),
            Some(("list-kept", Severity::Warning)),
            "broken",
        ),
        (
            None,
            Some(4),
            Some(("list-kept", Severity::Warning)),
            "gone",
        ),
    ] {
        match content {
            Some(content) => std::fs::write(&path, content).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        cx.report.diagnostics.clear();
        compile(&text, GeoFacts::NONE, &mut cx);
        let found = cx.report.diagnostics.first().map(|d| (d.code, d.severity));
        assert_eq!(found, code, "{why}: {:?}", cx.report.diagnostics);
        assert_eq!(
            cx.memory.lists.get(&path).map(|list| list.len()),
            entries,
            "{why}"
        );
        assert!(cx.watch.contains(&path), "{why}");
    }
    std::fs::write(&path, "").unwrap();
    let mut cx = context(&text);
    compile(&text, GeoFacts::NONE, &mut cx);
    assert_eq!(cx.report.diagnostics[0].code, "empty-list-file");
}

#[test]
fn a_bad_line_of_a_list_is_named_by_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.txt");
    std::fs::write(
        &path,
        "10.0.0.0/8\n10.0.0.1/8\nx\n".to_owned() + &"y\n".repeat(9),
    )
    .unwrap();
    let text = format!("[ip]\nl = {{ file = \"{}\" }}\n", path.display());
    let message = &found(&text)[0].message;
    assert!(
        message.contains("line 2: `10.0.0.1/8` should be `10.0.0.0/8`"),
        "{message}"
    );
    assert!(message.contains("line 3: `x` is no network"), "{message}");
    assert!(message.ends_with("and 6 more"), "{message}");
}

#[test]
fn an_entry_expands_for_other_rooms() {
    let text = "[ip]\noffice = [\"203.0.113.0/24\", \"@home\"]\nhome = [\"dns:home.example\", \"bad\"]\n\
                [client]\ntrusted_proxies = [\"10.0.0.0/8\", \"@office\", \"@loopback\", \"dns:Home.example.\", \"10.0.0.1/8\", \"@nope\"]\n";
    let (root, _) = node::parse(text, FileId(0));
    let mut cx = context(text);
    let home: IpAddr = "::ffff:192.0.2.9".parse().unwrap();
    cx.memory
        .names
        .insert("home.example".into(), (cx.now, vec![home]));
    let nodes = root.table("client").unwrap().many("trusted_proxies");
    let nets: Vec<String> = nodes
        .flat_map(|node| sets::networks(&root, node, &mut cx))
        .map(|net| net.to_string())
        .collect();
    assert_eq!(
        nets,
        [
            "10.0.0.0/8",
            "203.0.113.0/24",
            "192.0.2.9/32",
            "127.0.0.0/8",
            "::1/128",
            "192.0.2.9/32"
        ]
    );
    let codes: Vec<_> = cx.report.diagnostics.iter().map(|d| d.code).collect();
    assert_eq!(
        codes,
        ["host-bits", "unknown-set"],
        "the mistake in `home` is reported with the sets"
    );
    assert!(cx.memory.wanted_names.contains("home.example"));
}

#[test]
fn a_name_is_forgotten_after_its_time() {
    let text = "[ip]\nhome = [\"dns:home.example\"]\n";
    for (age_hours, code) in [(23, None), (25, Some("stale-name"))] {
        let mut cx = context(text);
        let learned = cx.now - jiff::SignedDuration::from_hours(age_hours);
        cx.memory.names.insert(
            "home.example".into(),
            (learned, vec!["192.0.2.9".parse().unwrap()]),
        );
        compile(text, GeoFacts::NONE, &mut cx);
        assert_eq!(
            cx.report.diagnostics.first().map(|d| d.code),
            code,
            "{age_hours} hours"
        );
    }
}

#[test]
fn a_test_that_does_not_hold_is_a_finding() {
    let text = allow("{ ip = \"10.0.0.0/8\" }").replace("[[site.route]]", "[[site.test]]\nname = \"t\"\nrequest = { path = \"/\", ip = \"10.0.0.1\" }\nexpect = { status = 403, rule = \"r\" }\n[[site.test]]\nname = \"broken\"\nrequest = { path = \"/\", ip = \"x\" }\nexpect = { status = 403 }\n[[site.route]]");
    let (root, _) = node::parse(&text, FileId(0));
    let mut cx = context(&text);
    let policy = rules::compile(&root, GeoFacts::NONE, &mut cx);
    assert_eq!(tests::run(&root, &policy, &mut cx), 2);
    let found: Vec<_> = cx
        .report
        .diagnostics
        .iter()
        .map(|d| (d.code, d.severity, d.message.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("bad-test", Severity::Error, "`x` is not an address"),
            (
                "test-failed",
                Severity::Finding,
                "test `t`: expected 403 by rule `r`, got 200 by rule `a/**#1`"
            ),
        ]
    );
}

#[test]
fn sets_hold_each_other_to_a_bounded_depth() {
    for (depth, code) in [
        (60, None),
        (70, Some("set-too-deep")),
        (50_000, Some("set-too-deep")),
    ] {
        let mut text = String::from("[ip]\n");
        for set in 0..depth {
            text.push_str(&format!("s{set} = [\"@s{}\"]\n", set + 1));
        }
        text.push_str(&format!("s{depth} = [\"10.0.0.0/8\"]\n"));
        let mut cx = context(&text);
        compile(&text, GeoFacts::NONE, &mut cx);
        let found = cx.report.diagnostics.first().map(|finding| finding.code);
        assert_eq!(found, code, "{depth}");
    }
}
