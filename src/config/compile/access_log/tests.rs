#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use super::*;
use crate::config::node::{FileId, parse};

fn read(text: &str) -> (Vec<Arc<AccessLog>>, Vec<Diagnostic>) {
    let (root, mistakes) = parse(text, FileId(0));
    assert_eq!(mistakes, []);
    let mut cx = Context::default();
    let logs = compile(&root, &mut cx);
    (logs, cx.report.diagnostics)
}

#[test]
fn mistakes_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let folder = folder.path().display().to_string();
    for (text, code, says) in [
        (
            "path = \"{}/no/access.log\"",
            "unwritable-log",
            "its folder does not exist",
        ),
        ("path = \"{}\"", "unwritable-log", "it is a folder"),
        (
            "path = \"{}/file/access.log\"",
            "unwritable-log",
            "not a directory",
        ),
        (
            "format = \"$remote_adr\"",
            "unknown-variable",
            "did you mean `$remote_addr`?",
        ),
        (
            "format = \"$frobnicated_widgets\"",
            "unknown-variable",
            "nginx's names",
        ),
        (
            "format = \"jsom\"",
            "unknown-format",
            "did you mean `json`?",
        ),
        (
            "format = \"combine\"",
            "unknown-format",
            "did you mean `combined`?",
        ),
        (
            "format = \"a sentence\"",
            "unknown-format",
            "a template such as",
        ),
        (
            "format = \"$http_authorization\"",
            "credential-in-log",
            "never logged",
        ),
        (
            "format = \"$http_x_mine\"\n[identity.k]\napi_key = { header = \"X-Mine\" }",
            "credential-in-log",
            "`x-mine`",
        ),
        (
            "format = \"$http_x_forwarded_for\"\nprivacy = \"mask\"",
            "address-in-log",
            "hides",
        ),
        ("format = \"$status\\n\"", "invalid-format", "line breaks"),
        (
            "format = \"$ $status\"",
            "invalid-format",
            "no variable name",
        ),
        (
            "site = \"b.example\"\n[[site]]\nhost = \"a.example\"",
            "unknown-site",
            "did you mean `a.example`?",
        ),
        ("site = \"a.example\"", "unknown-site", "not defined"),
        (
            "path = \"syslog:dev/log\"",
            "invalid-syslog",
            "`syslog:` alone is /dev/log",
        ),
        (
            "path = \"syslog:?facilty=auth\"",
            "invalid-syslog",
            "did you mean `facility`?",
        ),
        (
            "path = \"syslog:?facility=local9\"",
            "invalid-syslog",
            "no facility `local9`",
        ),
        (
            "path = \"{}/a.log\"\nrotate = { keep = 3 }",
            "invalid-rotation",
            "neither at which size",
        ),
        (
            "rotate = { size = \"1MiB\" }",
            "invalid-rotation",
            "only a file",
        ),
        (
            "path = \"syslog:\"\nrotate = { age = \"1d\" }",
            "invalid-rotation",
            "only a file",
        ),
    ] {
        let text = format!("[access_log]\n{}", text.replace("{}", &folder));
        let (_, found) = read(&text);
        let [finding] = &found[..] else {
            panic!("{text}: {found:?}");
        };
        assert_eq!(finding.code, code, "{text}");
        let help = finding.help.clone().unwrap_or_default();
        assert!(
            finding.message.contains(says) || help.contains(says),
            "{text}: {finding:?}"
        );
    }
}

#[test]
fn all_mistakes_are_found_at_once() {
    let text = "[[access_log]]\nformat = \"$nothing_such\"\nsite = \"gone\"\npath = \"no/such/log\"\n[[access_log]]\nformat = \"xyzzy\"";
    let codes: Vec<_> = read(text).1.iter().map(|finding| finding.code).collect();
    assert_eq!(
        codes,
        [
            "unknown-variable",
            "unknown-site",
            "unwritable-log",
            "unknown-format"
        ]
    );
}

#[test]
fn logs_of_one_file_agree_on_its_rotation() {
    let log = |rotate: &str| format!("[[access_log]]\npath = \"a.log\"\n{rotate}\n");
    let small = log("rotate = { size = \"1MiB\" }");
    for (text, want, why) in [
        (
            small.clone() + &log("rotate = { age = \"1d\" }"),
            1,
            "two ways",
        ),
        (log("") + &small, 1, "the first never"),
        (small.clone() + &small, 0, "the same"),
        (small.clone() + &log(""), 0, "the second has nothing to add"),
    ] {
        let (_, found) = read(&text);
        assert_eq!(found.len(), want, "{why}: {found:?}");
        assert!(
            found
                .iter()
                .all(|finding| finding.code == "invalid-rotation")
        );
    }
}

#[test]
fn logs_are_read() {
    let stdout = |format| AccessLog::new(Destination::Stdout, format);
    let template = |text| Format::Template(Template::parse(text).unwrap());
    let sites = "[[site]]\nhost = [\"App.example.\", \"www.app.example\"]";
    for (text, want) in [
        ("", vec![stdout(Format::Json)]), // nothing written: one log
        ("[access_log]\npath = \"off\"", vec![]),
        ("[access_log]", vec![stdout(Format::Json)]),
        (
            "[access_log]\npath = \"/dev/stdout\"",
            vec![stdout(Format::Json)],
        ),
        (
            "[access_log]\nformat = \"combined\"",
            vec![stdout(template(COMBINED))],
        ),
        (
            "[[access_log]]\nformat = \"combined+decision\"\n[[access_log]]\nformat = \"$status\"\nonly = \"denied\"",
            vec![
                stdout(template(COMBINED_DECISION)),
                AccessLog {
                    lines: Lines::Denied,
                    ..stdout(template("$status"))
                },
            ],
        ),
        (
            "[access_log]\nprivacy = \"hash-daily\"\nredact_query = [\"pin\"]",
            vec![AccessLog {
                privacy: Privacy::HashDaily,
                redaction: Redaction::new(["pin"]),
                ..stdout(Format::Json)
            }],
        ),
        (
            "[access_log]\nredact_query = []\n[identity.k]\napi_key = { query = \"k\" }",
            // a key that is a credential here is never logged
            vec![AccessLog {
                redaction: Redaction::new(["k"]),
                ..stdout(Format::Json)
            }],
        ),
        (
            &format!("[access_log]\nsite = \"WWW.app.example\"\n{sites}"),
            vec![AccessLog {
                sites: vec![Arc::from("app.example")],
                ..stdout(Format::Json)
            }],
        ),
        (
            "[access_log]\npath = \"a.log\"\nrotate = { size = \"1KiB\", age = \"1h\", keep = 3 }",
            vec![AccessLog {
                rotation: Some(Rotation {
                    size: Some(1024),
                    age: Some(std::time::Duration::from_secs(3600)),
                    keep: Some(3),
                }),
                ..AccessLog::new(Destination::File("a.log".into()), Format::Json)
            }],
        ),
        (
            "[access_log]\npath = \"syslog:udp://[::1]?facility=auth\"\nformat = \"ecs\"",
            vec![AccessLog::new(
                Destination::Syslog(Syslog::parse("udp://[::1]:514?facility=auth").unwrap()),
                Format::Ecs,
            )],
        ),
        (
            "[access_log]\npath = \"access.log\"",
            vec![AccessLog::new(
                Destination::File("access.log".into()),
                Format::Json,
            )],
        ),
    ] {
        let (logs, found) = read(text);
        assert_eq!(found, [], "{text}");
        let logs: Vec<_> = logs.iter().map(|log| AccessLog::clone(log)).collect();
        assert_eq!(logs, want, "{text}");
    }
    let (logs, _) = read("[identity.k]\napi_key = { query = \"k\" }");
    assert!(logs[0].redaction.covers(b"k") && logs[0].redaction.covers(b"token"));
}
