//! `[revocation]` and its file of `[[revoked]]` tables.
//!
//! A file that breaks leaves the last good list in force; where there is none, the configuration is refused. Beside the file,
//! with `.admin` behind its name, stands what was revoked while running, in the same form; it is written by this program.
//!
//! Codes: `bad-revocations`, `revocations-kept`, `unreadable-file`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::files;
use crate::config::context::Context;
use crate::config::diagnostic::Diagnostic;
use crate::config::nearest::nearest;
use crate::config::node::{self, FileId, Node, Span, Table, Value};
use crate::identity::revocation::{List, ListFile, Revocation, Revoked, What};

/// Compiles `[revocation]`.
pub(super) fn compile(root: &Table, cx: &mut Context) -> Revocation {
    let added = Arc::clone(&cx.memory.revoked);
    let node = root.table("revocation").and_then(|table| table.get("file"));
    let Some((node, written)) = node.and_then(|node| Some((node, node.as_str()?))) else {
        return Revocation { file: None, added };
    };
    let path = cx.path(node.span, written);
    let file = list(&path, node.span, written, cx);
    if added.keeping().path.is_none() {
        // The first load of a process. Later the process itself keeps the two in step.
        let beside = beside(&path);
        match read(&beside) {
            Ok(Some(entries)) => added.replace(entries.into_iter().map(Arc::new).collect()),
            Ok(None) => {}
            Err(mistake) => {
                let message = format!("`{written}{BESIDE}` {mistake}");
                let finding = Diagnostic::error("bad-revocations", node.span, message);
                cx.say(finding.help("mend it; without it, credentials that were revoked while running would count again"));
            }
        }
    }
    Revocation { file, added }
}

/// Where what was revoked while running is kept.
#[must_use]
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(BESIDE);
    PathBuf::from(name)
}

/// Reads a file that this program has written; nothing where it is not there.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<Revoked>>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => match parse(&text) {
            Ok(entries) => Ok(Some(entries)),
            Err(mistakes) => Err(mistakes.into_iter().next().unwrap_or_default()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot be read: {}", files::reason(&error))),
    }
}

/// Writes entries as [`read`] reads them.
#[must_use]
pub(crate) fn write(entries: &[Arc<Revoked>]) -> String {
    let mut text = String::from(
        "# What `portcullis revoke` has revoked. Written by Portcullis: undo with `portcullis revoke --undo`.\n",
    );
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    for entry in entries {
        text.push_str("\n[[revoked]]\n");
        text.push_str(&format!(
            "{} = {}\n",
            entry.what.word(),
            quoted(&entry.value)
        ));
        let texts = [("source", &entry.source), ("reason", &entry.reason)];
        for (key, value) in texts {
            if let Some(value) = value {
                text.push_str(&format!("{key} = {}\n", quoted(value)));
            }
        }
        let moments = [
            ("issued_before", entry.issued_before),
            ("until", entry.until),
        ];
        for (key, moment) in moments {
            if let Some(moment) = moment {
                text.push_str(&format!("{key} = {moment}\n"));
            }
        }
    }
    text
}

fn list(path: &Path, span: Span, written: &str, cx: &mut Context) -> Option<ListFile> {
    let before = cx.memory.revocations.get(path).cloned();
    let findings = cx.report.diagnostics.len();
    let text = files::read_text(cx, span, written, "revocations");
    let at = std::fs::metadata(path).and_then(|meta| meta.modified());
    let at = at.ok().and_then(|at| Timestamp::try_from(at).ok());
    let mistakes = match text.map(|text| parse(&text)) {
        Some(Ok(entries)) => {
            let file = ListFile {
                path: path.to_owned(),
                list: Arc::new(List::new(entries)),
                at,
                kept: false,
            };
            cx.memory.revocations.insert(path.to_owned(), file.clone());
            return Some(file);
        }
        Some(Err(mistakes)) => mistakes,
        None => Vec::new(),
    };
    if let Some(before) = before {
        cx.report.diagnostics.truncate(findings);
        let why = mistakes.into_iter().next();
        let why = why.unwrap_or_else(|| "cannot be read".to_owned());
        let message = format!("`{written}` {why}");
        let finding = Diagnostic::warning("revocations-kept", span, message);
        cx.say(finding.help(format!(
            "the last good list with {} entries stays in force",
            before.list.entries().len()
        )));
        return Some(ListFile {
            kept: true,
            ..before
        });
    }
    for mistake in mistakes.into_iter().take(MISTAKES_MAX) {
        cx.error("bad-revocations", span, format!("`{written}` {mistake}"));
    }
    None
}

/// Reads `[[revoked]]` tables.
fn parse(text: &str) -> Result<Vec<Revoked>, Vec<String>> {
    let (root, syntax) = node::parse(text, FileId::default());
    let line = |span: Span| {
        let before = text.bytes().take(span.start as usize);
        before.filter(|byte| *byte == b'\n').count() + 1
    };
    if !syntax.is_empty() {
        let told = syntax.iter().map(|mistake| {
            let line = mistake.span.map_or(1, line);
            format!("line {line}: {}", mistake.message)
        });
        return Err(told.collect());
    }
    let mut mistakes = Vec::new();
    let mut entries = Vec::new();
    for entry in &root.entries {
        if entry.key != "revoked" {
            let line = line(entry.key_span);
            let key = &entry.key;
            mistakes.push(format!(
                "line {line}: `{key}` is no key here; entries stand in `[[revoked]]`"
            ));
        }
    }
    for item in root.many("revoked") {
        match item.as_table().map(revoked) {
            Some(Ok(entry)) => entries.push(entry),
            Some(Err((at, mistake))) => {
                let line = line(at.unwrap_or(item.span));
                mistakes.push(format!("line {line}: {mistake}"));
            }
            None => mistakes.push(format!("line {}: an entry is a table", line(item.span))),
        }
    }
    if mistakes.is_empty() {
        Ok(entries)
    } else {
        Err(mistakes)
    }
}

fn revoked(table: &Table) -> Result<Revoked, (Option<Span>, String)> {
    let mut named = None;
    let mut entry = Revoked {
        what: What::Subject,
        value: Arc::from(""),
        source: None,
        issued_before: None,
        until: None,
        reason: None,
    };
    for node::Entry {
        key,
        key_span,
        node,
    } in &table.entries
    {
        let fail = |mistake: String| Err((Some(*key_span), mistake));
        let text = || match node.as_str() {
            Some(text) if !text.is_empty() && !text.contains(char::is_control) => {
                Ok(Some(Arc::from(text)))
            }
            Some(_) | None => Err((Some(*key_span), format!("`{key}` is a text of one line"))),
        };
        let time = || match moment(node) {
            Some(moment) => Ok(Some(moment)),
            None => Err((
                Some(*key_span),
                format!("`{key}` is a date and time with its offset: 2026-12-31T00:00:00Z"),
            )),
        };
        match key.as_str() {
            "source" => entry.source = text()?,
            "reason" => entry.reason = text()?,
            "until" => entry.until = time()?,
            "issued_before" => entry.issued_before = time()?,
            other => {
                let Ok(what) = other.parse::<What>() else {
                    let near = nearest(other, KEYS.iter().copied());
                    let help =
                        near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                    return fail(format!("unknown key `{other}`{help}"));
                };
                if named.replace(what).is_some() {
                    return fail("an entry names one thing; write another entry".to_owned());
                }
                let value = node.as_str().map(|text| what.value(text));
                entry.what = what;
                entry.value = match value {
                    Some(Ok(value)) => value,
                    Some(Err(bad)) => return fail(format!("`{other}` {bad}")),
                    None => return fail(format!("`{other}` is a text")),
                };
            }
        }
    }
    match named {
        None => Err((
            None,
            "an entry names a `subject`, `token`, `key`, `spki` or `serial`".to_owned(),
        )),
        Some(What::Spki | What::Serial) if entry.source.is_some() => Err((
            None,
            "a certificate is revoked for every source; leave `source` out".to_owned(),
        )),
        Some(What::Key | What::Spki | What::Serial) if entry.issued_before.is_some() => Err((
            None,
            "`issued_before` is for subjects and tokens, which say when they were made".to_owned(),
        )),
        Some(_) => Ok(entry),
    }
}

fn moment(node: &Node) -> Option<Timestamp> {
    let Value::Datetime(at) = &node.value else {
        return None;
    };
    at.to_string().parse().ok()
}

/// Keys of a `[[revoked]]`.
const KEYS: [&str; 9] = [
    "subject",
    "token",
    "key",
    "spki",
    "serial",
    "source",
    "issued_before",
    "until",
    "reason",
];
/// What the name of the file beside ends with.
const BESIDE: &str = ".admin";
/// Mistakes told of one file.
const MISTAKES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn every_mistake_has_its_line_and_no_bad_entry_passes() {
        let spki = "ab".repeat(32);
        for (text, want) in [
            ("[[revoked]]\n", "line 1: an entry names a `subject`"),
            (
                "\n[[revoked]]\nsubject = \"a\"\ntoken = \"b\"\n",
                "line 4: an entry names one thing",
            ),
            (
                "[[revoked]]\nsubjekt = \"a\"\n",
                "line 2: unknown key `subjekt`; did you mean `subject`?",
            ),
            ("[[revoked]]\nsubject = 7\n", "line 2: `subject` is a text"),
            (
                "[[revoked]]\nsubject = \"\"\n",
                "line 2: `subject` is empty",
            ),
            (
                "[[revoked]]\nspki = \"abc\"\n",
                "line 2: `spki` is no SHA-256 digest",
            ),
            (
                "[[revoked]]\nsubject = \"a\"\nuntil = 2026-12-31\n",
                "line 3: `until` is a date and time",
            ),
            (
                "[[revoked]]\nsubject = \"a\"\nreason = \"a\\nb\"\n",
                "line 3: `reason` is a text of one line",
            ),
            (
                &format!("[[revoked]]\nspki = \"{spki}\"\nsource = \"cert\"\n"),
                "line 1: a certificate is revoked for every source",
            ),
            (
                "[[revoked]]\nkey = \"a\"\nissued_before = 2026-12-31T00:00:00Z\n",
                "line 1: `issued_before` is for subjects",
            ),
            ("revoked = [7]\n", "line 1: an entry is a table"),
            ("revoke = []\n", "line 1: `revoke` is no key here"),
            ("[[revoked]\n", "line 1: "),
        ] {
            let mistakes = parse(text).unwrap_err();
            assert!(
                mistakes.iter().any(|told| told.starts_with(want)),
                "{text}: {mistakes:?}"
            );
        }
        assert_eq!(parse("").unwrap(), Vec::new(), "an empty list is a list");
    }

    #[test]
    fn a_broken_list_keeps_the_last_good_one_and_none_at_all_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("revoked.toml");
        let (root, syntax) = node::parse("[revocation]\nfile = \"revoked.toml\"\n", FileId(0));
        assert!(syntax.is_empty());
        let mut cx = Context::default();
        let good = "[[revoked]]\nsubject = \"anna\"\n";
        for (content, want, entries, why) in [
            (None, &["unreadable-file"][..], None, "never there"),
            (Some("[["), &["bad-revocations"], None, "never a good one"),
            (Some(good), &[], Some(1), "good"),
            (Some("[["), &["revocations-kept"], Some(1), "broken"),
            (None, &["revocations-kept"], Some(1), "gone"),
            (Some(""), &[], Some(0), "empty on purpose"),
        ] {
            match content {
                Some(content) => std::fs::write(&file, content).unwrap(),
                None => drop(std::fs::remove_file(&file)),
            }
            cx.report = crate::config::Report::default();
            cx.report.files.push(crate::config::diagnostic::SourceFile {
                name: Arc::from("portcullis.toml"),
                folder: folder.path().to_owned(),
                text: Arc::from(""),
            });
            let compiled = compile(&root, &mut cx);
            let told = cx.report.diagnostics.iter();
            assert_eq!(
                told.map(|found| found.code).collect::<Vec<_>>(),
                want,
                "{why}"
            );
            let list = compiled.file.map(|file| file.list.entries().len());
            assert_eq!(list, entries, "{why}");
        }
        std::fs::write(beside(&file), "[[").unwrap();
        let mut fresh = Context::default();
        fresh.report.files.clone_from(&cx.report.files);
        compile(&root, &mut fresh);
        assert!(
            fresh.report.refused(),
            "what was revoked while running must not be lost silently"
        );
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let text = "[[revoked]]\nsubject = \"a \\\"b\\\" \\\\ é\"\nsource = \"sso\"\nreason = \"left '24\"\nissued_before = 2026-01-02T03:04:05Z\nuntil = 2026-12-31T01:00:00+01:00\n[[revoked]]\nkey = \"ci\"\n[[revoked]]\nserial = \"00:AB\"\n";
        let entries = parse(text).unwrap();
        assert_eq!(entries.len(), 3);
        let shared: Vec<_> = entries.iter().cloned().map(Arc::new).collect();
        assert_eq!(parse(&write(&shared)).unwrap(), entries);
    }
}
