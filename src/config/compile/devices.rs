//! `[devices]` → the list of devices that `device` conditions read.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{duration, files, remote};
use crate::config::context::Context;
use crate::config::diagnostic::Diagnostic;
use crate::config::node::{Span, Table};
use crate::identity::device::{Devices, List, Posture};
use crate::snapshot::DeviceList;

/// Compiles `[devices]`.
pub(super) fn compile(root: &Table, cx: &mut Context) -> Option<DeviceList> {
    let table = root.table("devices")?;
    let max_age = duration(table, "max_age").map_or(MAX_AGE, |age| {
        SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX)
    });
    let (file, url) = (table.entry("file"), table.entry("url"));
    let (list, remote) = match (file, url) {
        (Some(file), Some(url)) => {
            cx.say(
                Diagnostic::error(
                    "two-device-lists",
                    url.key_span,
                    "`devices` has two lists, `file` and `url`",
                )
                .related(file.key_span, "the first")
                .help("write one of them"),
            );
            return None;
        }
        (None, None) => {
            let message = "`devices` has no list";
            let found = Diagnostic::error("missing-key", table.span, message);
            cx.say(found.help("write `file` or `url`"));
            return None;
        }
        (Some(file), None) => {
            let posture = from_file(file.node.as_str()?, file.node.span, cx)?;
            let age = cx.now.duration_since(posture.at());
            if age > max_age {
                let message =
                    "the list of devices is older than `max_age`, its facts count as failed";
                cx.say(Diagnostic::warning("old-devices", file.node.span, message));
            }
            (List::Fixed(posture), None)
        }
        (None, Some(url)) => {
            let (written, span) = (url.node.as_str()?, url.node.span);
            let (remote, print) = remote::compile(written, span, table.get("ca"), cx)?;
            let key = (written.to_owned(), print);
            let list = Arc::clone(cx.memory.fetched_devices.entry(key).or_default());
            (List::Remote(list), Some(remote))
        }
    };
    Some(DeviceList {
        devices: Devices { list, max_age },
        remote,
    })
}

/// Reads the list; a broken file keeps the last good one, whose age goes on counting.
fn from_file(written: &str, span: Span, cx: &mut Context) -> Option<Arc<Posture>> {
    let path = cx.path(span, written);
    let before = cx.memory.devices.get(&path).cloned();
    let findings = cx.report.diagnostics.len();
    let content = files::read(cx, span, written, "unreadable-file", "a list of devices");
    let changed = std::fs::metadata(&path)
        .and_then(|meta| meta.modified())
        .ok();
    let changed = changed.and_then(|at| Timestamp::try_from(at).ok());
    let read = content
        .zip(changed)
        .and_then(|(content, at)| Posture::read(&content, at));
    match (read, before) {
        (Some(posture), _) => {
            let posture = Arc::new(posture);
            cx.memory.devices.insert(path, Arc::clone(&posture));
            Some(posture)
        }
        (None, Some(before)) => {
            cx.report.diagnostics.truncate(findings);
            let message =
                format!("`{written}` cannot be read as a list of devices; the last good one stays");
            cx.say(Diagnostic::warning("bad-devices", span, message).help(FORM));
            Some(before)
        }
        (None, None) => {
            if cx.report.diagnostics.len() == findings {
                let message = format!("`{written}` is no list of devices");
                cx.say(Diagnostic::error("bad-devices", span, message).help(FORM));
            }
            None
        }
    }
}

const FORM: &str =
    "a JSON object of devices by their names: `{ \"laptop-7\": { \"managed\": true } }`";
/// How old the list may be where nothing is written.
const MAX_AGE: SignedDuration = SignedDuration::from_secs(3600);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;
    use crate::config::node::{FileId, parse};

    fn said(now: Timestamp, cx: &mut Context, folder: &std::path::Path) -> Vec<&'static str> {
        let (root, syntax) = parse("[devices]\nfile = \"devices.json\"\n", FileId(0));
        assert!(syntax.is_empty());
        cx.now = now;
        cx.report = crate::config::Report::default();
        cx.report.files.push(crate::config::diagnostic::SourceFile {
            name: Arc::from("portcullis.toml"),
            folder: folder.to_owned(),
            text: Arc::from(""),
        });
        let compiled = compile(&root, cx);
        let codes: Vec<_> = cx
            .report
            .diagnostics
            .iter()
            .map(|found| found.code)
            .collect();
        assert_eq!(compiled.is_none(), cx.report.refused(), "{codes:?}");
        codes
    }

    #[test]
    fn a_list_is_judged_by_its_age_and_a_broken_one_keeps_the_last_good() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("devices.json");
        let now = Timestamp::now();
        let later = now.checked_add(SignedDuration::from_hours(2)).unwrap();
        let mut cx = Context::default();
        for (content, at, want, why) in [
            (Some("[]"), now, &["bad-devices"][..], "never a good one"),
            (Some("{}"), now, &[], "a list of none"),
            (Some("{}"), later, &["old-devices"], "too old"),
            (Some("{"), now, &["bad-devices"], "the last good one stays"),
            (None, now, &["bad-devices"], "gone: the last good one stays"),
        ] {
            match content {
                Some(content) => std::fs::write(&file, content).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            }
            assert_eq!(said(at, &mut cx, folder.path()), want, "{why}");
        }
    }
}
