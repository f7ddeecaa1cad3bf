//! `[access_log]`, one table or several.
//!
//! Decides what is logged where, and refuses what could not be logged safely: a variable that does not exist, a header that
//! may carry a credential, an address that `privacy` hides, a place that cannot be written. Opening files is `observe`'s.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::config::nearest::nearest;
use crate::config::{Context, Diagnostic, Node, Span, Table};
use crate::snapshot::log::{
    AccessLog, COMBINED, COMBINED_DECISION, Destination, Format, InvalidTemplate, Lines, Privacy,
    Redaction, Template, VARIABLES,
};

/// The access logs of a configuration: one JSON log to standard output where none is written, none where `path = "off"`.
pub fn compile(root: &Table, cx: &mut Context) -> Vec<Arc<AccessLog>> {
    if root.get("access_log").is_none() {
        let default = AccessLog {
            redaction: redaction(root, &Table::default()),
            ..AccessLog::new(Destination::Stdout, Format::Json)
        };
        return vec![Arc::new(default)];
    }
    let logs = root.tables("access_log");
    logs.filter_map(|table| log(root, table, cx))
        .map(Arc::new)
        .collect()
}

fn log(root: &Table, table: &Table, cx: &mut Context) -> Option<AccessLog> {
    let privacy = match table.str("privacy") {
        Some("mask") => Privacy::Mask,
        Some("hash-daily") => Privacy::HashDaily,
        _ => Privacy::None,
    };
    let lines = match table.str("only") {
        Some("denied") => Lines::Denied,
        _ => Lines::All,
    };
    // Every part is looked at before any may fail, so that all mistakes are found at once.
    let format = match table.get("format") {
        Some(node) => format(root, node, privacy, cx),
        None => Some(Format::Json),
    };
    let sites = sites(root, table, cx);
    let destination = match table.get("path") {
        Some(node) => destination(node, cx),
        None => Some(Destination::Stdout),
    };
    Some(AccessLog {
        destination: destination?,
        format: format?,
        lines,
        privacy,
        redaction: redaction(root, table),
        sites: sites?,
    })
}

/// `None` for "off", for what is not built yet, and for a place that cannot be written.
fn destination(node: &Node, cx: &mut Context) -> Option<Destination> {
    let written = node.as_str()?;
    if written == "off" || written.starts_with("syslog:") {
        return None;
    }
    if matches!(written, "stdout" | "/dev/stdout") {
        return Some(Destination::Stdout);
    }
    let path = cx.path(node.span, written);
    if let Err(why) = writable(&path) {
        let message = format!("the access log `{written}` cannot be written: {why}");
        cx.say(Diagnostic::error("unwritable-log", node.span, message).help(
            "make its folder, and let the user that runs portcullis write there, or log to `stdout`",
        ));
    }
    Some(Destination::File(path))
}

fn format(root: &Table, node: &Node, privacy: Privacy, cx: &mut Context) -> Option<Format> {
    let written = node.as_str()?;
    let text = match written {
        "json" => return Some(Format::Json),
        "ecs" => return None,
        "combined" => COMBINED,
        "combined+decision" => COMBINED_DECISION,
        text => text,
    };
    match Template::parse(text) {
        Ok(template) => {
            check_headers(root, node.span, &template, privacy, cx);
            Some(Format::Template(template))
        }
        Err(mistake) => {
            cx.say(explain(&mistake, written, node.span));
            None
        }
    }
}

fn explain(mistake: &InvalidTemplate, written: &str, span: Span) -> Diagnostic {
    match mistake {
        InvalidTemplate::Unknown(name) => {
            let finding = Diagnostic::error("unknown-variable", span, mistake.to_string());
            match nearest(name, VARIABLES.iter().map(|(known, _)| *known)) {
                Some(known) => finding.help(format!("did you mean `${known}`?")),
                None => finding.help("variables have nginx's names, `$remote_addr` for example"),
            }
        }
        InvalidTemplate::Credential(_) => {
            Diagnostic::error("credential-in-log", span, mistake.to_string())
                .help("`$remote_user` is who signed in, `$auth_source` who vouched")
        }
        InvalidTemplate::Constant => {
            let message = format!("`{written}` is no format, and no template with variables");
            let finding = Diagnostic::error("unknown-format", span, message);
            match nearest(written, FORMATS.iter().copied()) {
                Some(known) => finding.help(format!("did you mean `{known}`?")),
                None => finding.help(
                    "take `json`, `combined`, `combined+decision`, or a template such as `$remote_addr $status`",
                ),
            }
        }
        InvalidTemplate::Nameless | InvalidTemplate::Control => {
            Diagnostic::error("invalid-format", span, mistake.to_string())
        }
    }
}

/// Headers that this configuration reads credentials from, or that carry an address which `privacy` hides.
fn check_headers(
    root: &Table,
    span: Span,
    template: &Template,
    privacy: Privacy,
    cx: &mut Context,
) {
    for header in &template.headers {
        let named = |name: &str| name.eq_ignore_ascii_case(header.as_str());
        if let Some(source) =
            credentials(root, "header").find(|node| node.as_str().is_some_and(named))
        {
            let message = format!("header `{header}` carries a credential, which is never logged");
            cx.say(
                Diagnostic::error("credential-in-log", span, message)
                    .related(source.span, "the credential is read from it here"),
            );
        }
        if privacy != Privacy::None && ADDRESS_HEADERS.contains(&header.as_str()) {
            let message = format!("header `{header}` would show the address that `privacy` hides");
            cx.say(
                Diagnostic::error("address-in-log", span, message)
                    .help("`$remote_addr` is the client address, masked or hashed"),
            );
        }
    }
}

/// The written keys instead of the default ones; always those in which an `api_key` source expects its key.
fn redaction(root: &Table, table: &Table) -> Redaction {
    let keys = credentials(root, "query").filter_map(Node::as_str);
    match table.get("redact_query") {
        Some(written) => Redaction::new(written.many().filter_map(Node::as_str).chain(keys)),
        None => Redaction::new(Redaction::SECRET_KEYS.iter().copied().chain(keys)),
    }
}

/// Values of `key` in the sources of `[identity.NAME]` that read a credential from where the key says.
fn credentials<'t>(root: &'t Table, key: &'t str) -> impl Iterator<Item = &'t Node> {
    let sources = root.table("identity").into_iter();
    let sources = sources.flat_map(|identity| &identity.entries);
    let kinds = sources.filter_map(|source| source.node.as_table());
    kinds.flat_map(move |kinds| {
        ["api_key", "jwt"]
            .into_iter()
            .filter_map(move |kind| kinds.table(kind)?.get(key))
    })
}

/// The names in logs (the first host) of the sites that `site` names by any of their hosts.
fn sites(root: &Table, table: &Table, cx: &mut Context) -> Option<Vec<Arc<str>>> {
    let mut sites = Vec::new();
    let mut good = true;
    for node in table.many("site") {
        let Some(written) = node.as_str() else {
            continue;
        };
        let wanted = fold(written);
        let names_it = |site: &&Table| hosts(site).any(|host| fold(host) == wanted);
        let site = root.tables("site").find(names_it);
        if let Some(name) = site.and_then(|site| hosts(site).next()) {
            sites.push(Arc::from(fold(name)));
            continue;
        }
        good = false;
        let message = format!("the access log names site `{written}`, which is not defined");
        let finding = Diagnostic::error("unknown-site", node.span, message);
        let known = root.tables("site").flat_map(hosts);
        cx.say(match nearest(written, known) {
            Some(known) => finding.help(format!("did you mean `{known}`?")),
            None => finding.help("a site is named by one of its hosts"),
        });
    }
    good.then_some(sites)
}

fn hosts(site: &Table) -> impl Iterator<Item = &str> {
    site.many("host").filter_map(Node::as_str)
}

/// Case and one trailing dot do not matter.
fn fold(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Looks without touching: nothing is made, so that `check` run as another user leaves no file behind, and no watcher of
/// the folder wakes. What this cannot see (a read-only disk) the start finds.
fn writable(path: &Path) -> Result<(), String> {
    match path.metadata() {
        Ok(found) if found.is_dir() => Err("it is a folder".to_owned()),
        Ok(found) if may_write(&found) => Ok(()),
        Ok(_) => Err("permission denied".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => folder_writable(path),
        Err(error) => Err(error.to_string().to_lowercase()),
    }
}

fn folder_writable(path: &Path) -> Result<(), String> {
    let folder = match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return Err("it is a folder".to_owned()),
    };
    match folder.metadata() {
        Ok(found) if !found.is_dir() => Err("its folder is a file".to_owned()),
        Ok(found) if may_write(&found) => Ok(()),
        Ok(_) => Err("permission denied for its folder".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err("its folder does not exist".to_owned())
        }
        Err(error) => Err(error.to_string().to_lowercase()),
    }
}

/// By the permission bits; where this process's ids are not known, the start finds out.
fn may_write(found: &Metadata) -> bool {
    let Ok(me) = std::fs::metadata("/proc/self") else {
        return true;
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let groups = status
        .lines()
        .find_map(|line| line.strip_prefix("Groups:"))
        .unwrap_or_default();
    let member = me.gid() == found.gid()
        || groups
            .split_whitespace()
            .any(|group| group.parse() == Ok(found.gid()));
    let bit = if me.uid() == 0 {
        return true;
    } else if me.uid() == found.uid() {
        0o200
    } else if member {
        0o020
    } else {
        0o002
    };
    found.mode() & bit != 0
}

const FORMATS: &[&str] = &["json", "combined", "combined+decision"];

/// Headers in which proxies write client addresses.
const ADDRESS_HEADERS: &[&str] = &[
    "forwarded",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded-for",
    "x-original-forwarded-for",
    "x-real-ip",
];

#[cfg(test)]
mod tests {
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
}
