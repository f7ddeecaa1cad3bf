//! `[access_log]`, one table or several.
//!
//! Decides what is logged where, and refuses what could not be logged safely: a variable that does not exist, a header that
//! may carry a credential, an address that `privacy` hides, a place that cannot be written. Opening files is `observe`'s.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use super::{duration, number, size};
use crate::config::nearest::nearest;
use crate::config::{Context, Diagnostic, Node, Span, Table};
use crate::snapshot::log::{
    AccessLog, COMBINED, COMBINED_DECISION, Destination, Format, InvalidTemplate, Lines, Privacy,
    Redaction, Rotation, Template, VARIABLES,
};
use crate::snapshot::syslog::{InvalidSyslog, Syslog, facility};

/// The access logs of a configuration: one JSON log to standard output where none is written, none where `path = "off"`.
pub fn compile(root: &Table, cx: &mut Context) -> Vec<Arc<AccessLog>> {
    if root.get("access_log").is_none() {
        let default = AccessLog {
            redaction: redaction(root, &Table::default()),
            ..AccessLog::new(Destination::Stdout, Format::Json)
        };
        return vec![Arc::new(default)];
    }
    let mut logs: Vec<Arc<AccessLog>> = Vec::new();
    for table in root.tables("access_log") {
        let Some(log) = log(root, table, cx) else {
            continue;
        };
        let same = |other: &&Arc<AccessLog>| other.destination == log.destination;
        if let Some(node) = table.get("rotate")
            && logs
                .iter()
                .find(same)
                .is_some_and(|other| other.rotation != log.rotation)
        {
            let message = format!("`{}` is begun anew by other rules already", log.destination);
            let finding = Diagnostic::error("invalid-rotation", node.span, message);
            cx.say(
                finding.help("logs of one file have one writer: write the same `rotate` for each"),
            );
        }
        logs.push(Arc::new(log));
    }
    logs
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
    let rotation = match table.get("rotate") {
        Some(node) => rotation(node, destination.as_ref(), cx),
        None => None,
    };
    Some(AccessLog {
        destination: destination?,
        rotation,
        format: format?,
        lines,
        privacy,
        redaction: redaction(root, table),
        sites: sites?,
    })
}

/// `None` for "off", and for a syslog server that is none.
fn destination(node: &Node, cx: &mut Context) -> Option<Destination> {
    let written = node.as_str()?;
    if written == "off" {
        return None;
    }
    if let Some(server) = written.strip_prefix("syslog:") {
        return match Syslog::parse(server) {
            Ok(syslog) => Some(Destination::Syslog(syslog)),
            Err(mistake) => {
                let finding = Diagnostic::error("invalid-syslog", node.span, mistake.to_string());
                cx.say(finding.help(syslog_help(&mistake)));
                None
            }
        };
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

fn syslog_help(mistake: &InvalidSyslog) -> String {
    match mistake {
        InvalidSyslog::Server(_) => {
            "`syslog:` alone is /dev/log; others are `syslog:/path`, `syslog:udp://host:514` and `syslog:tcp://host:601`".to_owned()
        }
        InvalidSyslog::Option(option) => {
            let known = nearest(option, SYSLOG_OPTIONS.iter().copied());
            known.map_or_else(
                || "the options are `?facility=local7&tag=portcullis&format=rfc5424`".to_owned(),
                |known| format!("did you mean `{known}`?"),
            )
        }
        InvalidSyslog::Facility(name) => {
            let known = nearest(name, (0..24).filter_map(facility));
            known.map_or_else(
                || "take `local0` to `local7`, `daemon`, `auth` or another name of syslog.conf".to_owned(),
                |known| format!("did you mean `{known}`?"),
            )
        }
        InvalidSyslog::Tag(_) => "`tag=portcullis` is what stands there unless written".to_owned(),
        InvalidSyslog::Format(_) => "take `rfc5424`, or `rfc3164` for servers that know nothing else".to_owned(),
    }
}

/// When the file of a log is begun anew.
fn rotation(node: &Node, destination: Option<&Destination>, cx: &mut Context) -> Option<Rotation> {
    let table = node.as_table()?;
    let rotation = Rotation {
        size: size(table, "size"),
        age: duration(table, "age"),
        keep: number(table, "keep"),
    };
    let mut refuse = |message: &str, help: &str| {
        cx.say(Diagnostic::error("invalid-rotation", node.span, message).help(help));
    };
    if table.get("size").is_none() && table.get("age").is_none() {
        refuse(
            "`rotate` says neither at which size nor at which age",
            "write `size = \"100MiB\"`, `age = \"1d\"` or both",
        );
    }
    match destination {
        Some(Destination::File(path)) => {
            if let Err(why) = folder_writable(path) {
                let message = format!("the access log cannot be begun anew: {why}");
                refuse(&message, "old files are renamed in the folder of the log");
            }
        }
        Some(Destination::Stdout | Destination::Syslog(_)) => refuse(
            "only a file can be begun anew",
            "take `rotate` out, or write the file as `path`",
        ),
        None => {}
    }
    Some(rotation)
}

fn format(root: &Table, node: &Node, privacy: Privacy, cx: &mut Context) -> Option<Format> {
    let written = node.as_str()?;
    let text = match written {
        "json" => return Some(Format::Json),
        "ecs" => return Some(Format::Ecs),
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
                    "take `json`, `ecs`, `combined`, `combined+decision`, or a template such as `$remote_addr $status`",
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

const FORMATS: &[&str] = &["json", "ecs", "combined", "combined+decision"];

const SYSLOG_OPTIONS: &[&str] = &["facility", "tag", "format"];

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
mod tests;
