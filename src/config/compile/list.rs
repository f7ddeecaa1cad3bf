//! Lists of networks in files: one address or network a line, `#` and `;` open a comment.
//!
//! A file that is unreadable, broken or suddenly empty leaves the last good list in force, and so does one that has shrunk by
//! more than its `shrink_limit`. Only where there is no last good list is that an error.
//!
//! Codes: `unreadable-list`, `bad-list-line`, `empty-list-file`, `list-kept`.

use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::node::Node;
use crate::config::{Context, Diagnostic};
use crate::value::cidr::{self, CidrError};

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
        Ok(nets) => last
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
        (Ok(nets), _, _) => {
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

fn read_list(path: &Path) -> Result<Vec<IpNet>, Trouble> {
    let bytes = std::fs::read(path).map_err(|error| Trouble {
        code: "unreadable-list",
        message: format!("cannot be read: {error}"),
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let mut nets = Vec::new();
    let mut bad = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let entry = line.split(['#', ';']).next().unwrap_or_default().trim();
        let entry = if number == 1 {
            entry.trim_start_matches('\u{feff}')
        } else {
            entry
        };
        if entry.is_empty() {
            continue;
        }
        match cidr::parse(entry) {
            Ok(net) => nets.push(net),
            Err(CidrError::HostBits(net)) => {
                bad.push(format!("line {number}: `{entry}` should be `{net}`"))
            }
            Err(error @ (CidrError::Address | CidrError::Prefix(_))) => {
                let shown: String = entry.chars().filter(|c| !c.is_control()).take(60).collect();
                bad.push(format!("line {number}: `{shown}` is no network ({error})"));
            }
        }
    }
    if bad.is_empty() {
        return Ok(nets);
    }
    let more = bad.len().saturating_sub(BAD_LINES_SHOWN);
    bad.truncate(BAD_LINES_SHOWN);
    let mut message = format!("has bad lines: {}", bad.join(", "));
    if more > 0 {
        message.push_str(&format!(" and {more} more"));
    }
    Err(Trouble {
        code: "bad-list-line",
        message,
    })
}

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
