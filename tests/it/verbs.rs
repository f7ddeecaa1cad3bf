//! `explain`, `test`, `diff` and `check` as a shell sees them: exit codes and where the text goes; and a policy whose tests fail.

use std::path::Path;
use std::process::{Command, Output};

use portcullis::reload::{Instance, StartError};

use crate::support::{Gate, Origin, open};

/// A site with a test that holds, and one that holds only with `status`.
fn policy(origin: &str, status: u16) -> String {
    format!(
        "[[deny]]\nname = \"closed\"\npath = \"/closed/**\"\nunless = [{{ ip = \"10.0.0.0/8\" }}]\n{origin}\n\
         [[test]]\nname = \"closed is closed\"\nrequest = {{ host = \"a.test\", path = \"/closed\" }}\n\
         expect = {{ status = {status}, rule = \"closed\" }}\n"
    )
}

/// The whole file for a process of its own.
fn file(folder: &Path, status: u16) -> String {
    let site = "[[listener]]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nservers = [\"http://127.0.0.1:9\"]\n\
                [[site]]\nhost = [\"*\"]\nupstream = \"app\"\nallow = \"anyone\"";
    let path = folder.join("portcullis.toml");
    std::fs::write(&path, policy(site, status)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn run(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(arguments)
        .output()
        .unwrap();
    let text = format!(
        "{arguments:?}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output, text)
}

#[test]
fn exit_codes_say_how_it_went() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.toml");
    std::fs::write(&bad, "colour = 1\n").unwrap();
    let bad = bad.to_str().unwrap().to_owned();
    let failing = tempfile::tempdir().unwrap();
    let (good, failing) = (file(folder.path(), 403), file(failing.path(), 200));
    let wider = folder.path().join("wider.toml");
    let text = std::fs::read_to_string(&good).unwrap();
    let (_, open) = text.split_once("[[listener]]").unwrap();
    let (open, _) = open.split_once("[[test]]").unwrap();
    std::fs::write(&wider, format!("[[listener]]{open}")).unwrap();
    let wider = wider.to_str().unwrap().to_owned();
    for (arguments, code, part, why) in [
        (
            &["explain", "--url", "/x", "--config", &good][..],
            0,
            "allowed",
            "it passes",
        ),
        (
            &["explain", "--url", "/closed", "--config", &good],
            4,
            "denied by `closed`",
            "it is denied",
        ),
        (
            &[
                "explain", "--url", "/closed", "--ip", "10.0.0.1", "--config", &good,
            ],
            0,
            "allowed",
            "it is excepted",
        ),
        (
            &["explain", "--url", "/closed", "--config", &failing],
            4,
            "denied by `closed`",
            "failing tests hinder no explanation",
        ),
        (
            &["explain", "--url", "/x", "--config", &bad],
            3,
            "unknown-key",
            "no configuration",
        ),
        (&["explain"], 2, "--url", "no request"),
        (
            &["explain", "--url", "nonsense", "--config", &good],
            2,
            "is no URL",
            "no URL",
        ),
        (
            &["explain", "018f-x", "--admin", "/nowhere/admin.sock"],
            1,
            "no instance answers",
            "nobody remembers",
        ),
        (&["explain", "../status"], 2, "is no id", "no id"),
        (
            &["explain", "--url", "/", "--line", "x"],
            2,
            "cannot be used with",
            "one request only",
        ),
        (
            &["test", &good],
            0,
            "1 passed, 0 failed",
            "every test holds",
        ),
        (
            &["test", &failing],
            4,
            "failed: closed is closed",
            "one fails",
        ),
        (
            &["test", &failing],
            4,
            "0 passed, 1 failed",
            "and is counted",
        ),
        (&["test", &bad], 3, "unknown-key", "no configuration"),
        (&["check", &failing], 4, "test-failed", "check says so too"),
        (
            &["diff", &good, &good, "--fail-on", "any"],
            0,
            "no request ends otherwise",
            "nothing changes",
        ),
        (
            &["diff", &good, &wider],
            0,
            "1 newly allowed",
            "a deny is gone",
        ),
        (
            &["diff", &good, &wider, "--fail-on", "widen"],
            4,
            "403 forbidden, by deny `closed`",
            "and that was asked about",
        ),
        (
            &["diff", &wider, &good, "--fail-on", "widen"],
            0,
            "newly denied",
            "the other way round it is narrower",
        ),
        (
            &["diff", &wider, &good, "--fail-on", "any"],
            4,
            "path = /closed/** and not ip = \"10.0.0.0/8\"",
            "in the rule's own words",
        ),
        (
            &["diff", &good, &wider, "--format", "json"],
            0,
            "\"change\": \"allowed\"",
            "for machines",
        ),
        (
            &["diff", &good, &bad],
            3,
            "unknown-key",
            "the new one is not valid",
        ),
        (
            &["diff", &bad, &good],
            3,
            "unknown-key",
            "the old one is not valid",
        ),
        (&["diff", &good], 2, "<NEW>", "one file only"),
        (
            &["run", "--config", &failing],
            3,
            "policy-tests-failed",
            "it does not start",
        ),
    ] {
        let (output, text) = run(arguments);
        assert_eq!(output.status.code(), Some(code), "{why}: {text}");
        assert!(text.contains(part), "{why}: {text}");
    }
}

#[test]
fn what_no_test_sees_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path(), 403);
    let (output, text) = run(&["test", &good, "--coverage", "--mutate"]);
    assert!(output.status.success(), "{text}");
    for line in [
        "1 of 1 rules decide a test",
        "3 mutants, 1 noticed",
        "without entry 1 of `unless`",
        "route `/**` of `*`",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

/// The examples show what tests are for: each rule decides one, and no small mistake passes them.
#[test]
fn the_tests_of_every_example_notice_every_mistake() {
    let mut files = vec![];
    for folder in ["config", "config/examples"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = std::fs::read_dir(folder).unwrap();
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    files.retain(|path| path.extension().is_some_and(|kind| kind == "toml"));
    assert!(files.len() > 6, "{files:?}");
    for file in files {
        let (output, text) = run(&["test", file.to_str().unwrap(), "--coverage", "--mutate"]);
        assert!(output.status.success(), "{text}");
        assert!(text.contains(" rules decide a test"), "{text}");
        for gap in ["no test is decided by", "no test notices"] {
            assert!(!text.contains(gap), "{}: {text}", file.display());
        }
    }
}

#[test]
fn a_policy_whose_tests_fail_is_not_loaded() {
    let origin = Origin::start();
    let gate = Gate::start(&policy(&open(&origin), 403));
    gate.connect().ask("GET /closed", &[]).is(403);
    let report = gate
        .reload(&policy(&open(&origin), 200))
        .expect_err("a test fails");
    assert!(report.refused(), "{report:?}");
    let codes: Vec<&str> = report.diagnostics.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["test-failed", "policy-tests-failed"]);
    gate.connect().ask("GET /closed", &[]).is(403);

    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), 200);
    match Instance::start(Path::new(&path)) {
        Err(StartError::Config(report)) => assert!(report.refused(), "{report:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_example_of_a_diff_is_a_command_that_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new.toml");
    let old = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/config/examples/streaming.toml"
    );
    let text = std::fs::read_to_string(old).unwrap();
    std::fs::write(
        &new,
        text.replace(
            "[\"DE\", \"AT\", \"CH\"]",
            "[\"DE\", \"AT\", \"CH\", \"IT\"]",
        ),
    )
    .unwrap();
    let new = new.to_str().unwrap();
    let (output, text) = run(&["diff", old, new, "--format", "json"]);
    assert!(output.status.success(), "{text}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let regions = told["regions"].as_array().unwrap();
    let allowed: Vec<_> = regions
        .iter()
        .filter(|region| region["change"] == "allowed")
        .collect();
    assert_eq!(allowed.len(), 2, "{told:#}");
    for region in allowed {
        assert_eq!(region["where"], serde_json::json!([["country = IT"]]));
        let line = region["example"].as_str().unwrap();
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        let (output, now) = run(&words);
        assert_eq!(output.status.code(), Some(0), "{now}");
        let before: Vec<&str> = words
            .iter()
            .map(|word| if *word == new { old } else { word })
            .collect();
        let (output, before) = run(&before);
        assert_eq!(output.status.code(), Some(4), "{before}");
        assert!(before.contains("451 region_restricted"), "{before}");
    }
}
/// A site whose first allow covers the second, and `more` beside it.
fn covered(folder: &Path, more: &str) -> String {
    let path = folder.join("covered.toml");
    let text = format!(
        "[[listener]]\naddress = \"0.0.0.0:0\"\n[upstream.app]\nservers = [\"http://127.0.0.1:9\"]\n\
         [[site]]\nhost = [\"a.test\"]\nupstream = \"app\"\n\
         allow = [{{ ip = \"10.0.0.0/8\" }}, {{ name = \"inner\", ip = \"10.1.0.0/16\" }}]\n{more}\n"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const ACCEPTED: &str =
    "[[accept]]\nfinding = \"covered\"\nrule = \"inner\"\nwhy = \"it will be narrowed\"";

#[test]
fn what_check_finds_can_be_accepted_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = |more: &str| covered(folder.path(), more);
    let unknown = ACCEPTED.replace("inner", "outer");
    for (more, verbose, code, parts, why) in [
        (
            "",
            false,
            4,
            &[
                "finding[covered]",
                "allow `inner` changes nothing",
                "proof: GET https://a.test/",
            ][..],
            "a finding",
        ),
        (
            ACCEPTED,
            false,
            0,
            &["1 accepted finding: see --verbose"],
            "accepted",
        ),
        (
            ACCEPTED,
            true,
            0,
            &["accepted[covered]", "it will be narrowed"],
            "shown with its reason",
        ),
        (
            &unknown,
            false,
            4,
            &["finding[covered]", "warning[unused-accept]"],
            "another rule",
        ),
    ] {
        let file = file(more);
        let mut arguments = vec!["check", &file];
        arguments.extend(verbose.then_some("--verbose"));
        let (output, text) = run(&arguments);
        assert_eq!(output.status.code(), Some(code), "{why}: {text}");
        for part in parts {
            assert!(text.contains(part), "{why}: {part}: {text}");
        }
        assert_eq!(
            text.contains("finding[covered]"),
            code == 4,
            "{why}: {text}"
        );
    }
}

#[test]
fn a_finding_for_machines_has_its_request_and_the_reason_for_which_it_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    for more in ["", ACCEPTED] {
        let (output, text) = run(&["check", &covered(folder.path(), more), "--format", "json"]);
        let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let all = all.as_array().unwrap();
        let found = all.iter().find(|one| one["code"] == "covered");
        let found = found.unwrap_or_else(|| panic!("{text}"));
        assert_eq!(found["rule"], "inner", "{text}");
        assert_eq!(found["witness"]["outcome"], "passes", "{text}");
        assert_eq!(found["witness"]["request"]["host"], "a.test", "{text}");
        let accepted = (!more.is_empty()).then_some("it will be narrowed");
        assert_eq!(found["accepted"].as_str(), accepted, "{text}");
    }
}

#[test]
fn what_a_stranger_can_reach_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reach.toml");
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/portcullis.toml");
    std::fs::copy(example, &path).unwrap();
    let path = path.to_str().unwrap();
    let (output, text) = run(&["check", path, "--reach"]);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in [
        "  /premium/**\n    strangers  anyone\n                 only country = \"@licensed\"\n",
        "  /admin/**\n    strangers  nobody\n    signed in  role = \"admin\"\n",
        "  /**\n    strangers  anyone\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (output, text) = run(&["check", path, "--reach", "--format", "json"]);
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let routes = all.as_array().unwrap();
    let admin = routes.iter().find(|route| route["route"] == "/admin/**");
    let admin = admin.unwrap_or_else(|| panic!("{text}"));
    assert_eq!(admin["strangers"], serde_json::json!([]), "{text}");
    assert_eq!(
        admin["signed_in"][0]["when"][0], "role = \"admin\"",
        "{text}"
    );
}
