//! Lists of networks in files, line by line: see [`line`] for the forms. Entries may overlap and repeat, up to millions.
//!
//! A line that is no network is reported with its number and left out, if such lines are few: up to one in a hundred. More
//! make the file a broken one. A file that is unreadable, broken or suddenly empty leaves the last good list in force, and so
//! does one that has shrunk by more than its `shrink_limit`. Only where there is no last good list is that an error.
//!
//! Codes: `unreadable-list`, `bad-list-line`, `empty-list-file`, `list-kept`.

use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;

mod line;

use super::files;
use crate::config::node::Node;
use crate::config::{Context, Diagnostic};
use crate::value::cidr::CidrError;

/// The networks of a file, or its last good ones.
pub(super) fn networks(
    node: &Node,
    shrink_limit: Option<&str>,
    cx: &mut Context,
) -> Option<Arc<[IpNet]>> {
    let written = node.as_str()?;
    let path = cx.path(node.span, written);
    cx.watch.push(path.clone());
    let last = cx.memory.lists.get(&path).cloned();
    let read = read_list(&path);
    let trouble = match &read {
        Err(trouble) => Some(trouble.clone()),
        Ok((nets, _)) => last
            .as_ref()
            .and_then(|last| shrunk(last.len(), nets.len(), shrink_limit)),
    };
    match (read, trouble, last) {
        (_, Some(trouble), Some(last)) => {
            let message = format!("list `{written}` {}", trouble.message);
            let finding = Diagnostic::warning("list-kept", node.span, message);
            cx.say(finding.help(format!(
                "the last good list with {} entries stays in force",
                last.len()
            )));
            Some(last)
        }
        (Err(trouble), _, None) => {
            let message = format!("list `{written}` {}", trouble.message);
            cx.error(trouble.code, node.span, message);
            None
        }
        (Ok((nets, bad)), _, _) => {
            if let Some(bad) = bad {
                let message = format!("list `{written}` {bad}");
                let finding = Diagnostic::warning("bad-list-line", node.span, message);
                cx.say(finding.help("these lines are left out; the rest of the list is in force"));
            }
            if nets.is_empty() {
                let message = format!("list `{written}` is empty");
                cx.say(Diagnostic::warning("empty-list-file", node.span, message));
            }
            let nets: Arc<[IpNet]> = nets.into();
            cx.memory.lists.insert(path, Arc::clone(&nets));
            Some(nets)
        }
        (Err(_), None, Some(last)) => Some(last),
    }
}

/// What is wrong with a list file.
#[derive(Clone)]
struct Trouble {
    code: &'static str,
    message: String,
}

/// The networks, and what is to be said of the lines that are none.
fn read_list(path: &Path) -> Result<(Vec<IpNet>, Option<String>), Trouble> {
    let bytes = std::fs::read(path).map_err(|error| Trouble {
        code: "unreadable-list",
        message: format!("cannot be read: {}", files::reason(&error)),
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let mut nets = Vec::with_capacity(bytes.len() / LINE_BYTES);
    let (mut bad, mut bad_count, mut good_count) = (Vec::new(), 0usize, 0usize);
    for (number, line) in (1..).zip(text.lines()) {
        let line = if number == 1 {
            line.trim_start_matches('\u{feff}')
        } else {
            line
        };
        let before = nets.len();
        let Err((entry, error)) = line::read(line, &mut nets) else {
            good_count += usize::from(nets.len() > before);
            continue;
        };
        bad_count += 1;
        if bad.len() >= BAD_LINES_SHOWN {
            continue;
        }
        let shown: String = entry.chars().filter(|c| !c.is_control()).take(60).collect();
        bad.push(match error {
            CidrError::HostBits(net) => format!("line {number}: `{shown}` should be `{net}`"),
            CidrError::Address | CidrError::Prefix(_) => {
                format!("line {number}: `{shown}` is no network ({error})")
            }
        });
    }
    if bad_count == 0 {
        return Ok((nets, None));
    }
    let mut message = format!("has bad lines: {}", bad.join(", "));
    if bad_count > bad.len() {
        message.push_str(&format!(" and {} more", bad_count - bad.len()));
    }
    if bad_count.saturating_mul(BAD_SHARE) <= good_count {
        return Ok((nets, Some(message)));
    }
    Err(Trouble {
        code: "bad-list-line",
        message,
    })
}

/// A file is broken where more than one line of so many is bad.
const BAD_SHARE: usize = 100;
/// A usual line: what to reserve memory by.
const LINE_BYTES: usize = 16;
/// More lines would drown the other findings.
const BAD_LINES_SHOWN: usize = 5;

/// Whether a list has shrunk by more than it may since it was last good.
fn shrunk(before: usize, after: usize, limit: Option<&str>) -> Option<Trouble> {
    let limit = limit.and_then(|text| text.strip_suffix('%')?.trim().parse::<usize>().ok());
    let gone = before.saturating_sub(after);
    let too_much =
        limit.is_some_and(|limit| gone.saturating_mul(100) > before.saturating_mul(limit));
    (gone > 0 && (after == 0 || too_much)).then(|| Trouble {
        code: "list-kept",
        message: format!("has shrunk from {before} to {after} entries"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use super::*;

    #[test]
    fn few_bad_lines_are_left_out_and_many_refuse_the_file() {
        let good: String = (0..200).map(|n| format!("10.0.{n}.0/24\n")).collect();
        for (text, want, why) in [
            ("10.0.0.0/8\nnonsense\n".to_owned(), None, "one of two"),
            (
                format!("{good}10.0.0.1/8\nx\n"),
                Some((200, true)),
                "two of 200",
            ),
            (format!("{good}x\ny\nz\n"), None, "three of 200"),
            (good.clone(), Some((200, false)), "none"),
            (
                format!("\u{feff}# drop list\n; 2026\n{good}"),
                Some((200, false)),
                "comments",
            ),
            (
                "1.2.3.0/24 ; SBL1\r\n2001:db8::/32 # x\r\n".to_owned(),
                Some((2, false)),
                "behind networks",
            ),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let read = read_list(file.path());
            let got = read
                .as_ref()
                .ok()
                .map(|(nets, bad)| (nets.len(), bad.is_some()));
            assert_eq!(got, want, "{why}");
            if let Ok((_, Some(message))) = read {
                assert!(
                    message.contains("line 201: `10.0.0.1/8` should be `10.0.0.0/8`"),
                    "{message}"
                );
            }
        }
    }
}
