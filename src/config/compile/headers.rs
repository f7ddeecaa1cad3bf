//! `[response_headers]`, and `request_headers` and `response_headers` of sites and routes.
//!
//! Codes: `reserved-header`, `bad-header-name`, `invalid-value`, `unknown-substitution`.

use http::HeaderValue;

use super::answer::split;
use super::condition::FORBIDDEN;
use super::header_name;
use crate::config::node::{Node, Span, Table};
use crate::config::{Context, Diagnostic};
use crate::snapshot::headers::{Action, Edit, HeaderEdits, Value};
use crate::snapshot::{Part, Template};

/// Whose headers are edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Requests on their way up.
    Requests,
    /// Answers.
    Answers,
}

/// The edits of a table behind those that hold around it. Of one table: `remove`, `set`, `add`, `append`.
pub(super) fn compile(
    root: &Table,
    table: Option<&Table>,
    of: Of,
    around: &HeaderEdits,
    cx: &mut Context,
) -> HeaderEdits {
    let mut edits = around.edits().to_vec();
    let Some(table) = table else {
        return HeaderEdits::new(edits);
    };
    for node in table.many("remove") {
        let Some(name) = header_name(node, cx) else {
            continue;
        };
        if free(root, name.as_str(), node.span, of, cx) {
            let action = Action::Remove;
            edits.push(Edit { name, action });
        }
    }
    for (key, action) in ACTIONS {
        let entries = table.table(key).map(|table| table.entries.as_slice());
        for entry in entries.unwrap_or_default() {
            let Ok(name) = http::HeaderName::try_from(&*entry.key) else {
                let message = format!("`{}` is no name of a header", entry.key);
                let finding = Diagnostic::error("bad-header-name", entry.key_span, message);
                cx.say(finding.help("a name has letters, digits and `-`"));
                continue;
            };
            if free(root, name.as_str(), entry.key_span, of, cx)
                && let Some(value) = value(&entry.node, cx)
            {
                let action = action(value);
                edits.push(Edit { name, action });
            }
        }
    }
    HeaderEdits::new(edits)
}

fn value(node: &Node, cx: &mut Context) -> Option<Value> {
    let text = node.as_str()?;
    let Template(parts) = split(text, node.span, cx)?;
    let literal = |part: &Part| match part {
        Part::Text(text) => Some(HeaderValue::from_str(text).ok()),
        Part::Scheme | Part::Host | Part::Client | Part::Path | Part::Query | Part::Tail => None,
    };
    if parts
        .iter()
        .filter_map(literal)
        .any(|value| value.is_none())
    {
        let shown = cx.written(node.span, text).escape_debug().to_string();
        let message = format!("`{shown}` cannot be the value of a header");
        let finding = Diagnostic::error("invalid-value", node.span, message);
        cx.say(finding.help("a value is one line without control characters"));
        return None;
    }
    Some(match parts.as_slice() {
        [] => Value::Fixed(HeaderValue::from_static("")),
        [Part::Text(text)] => Value::Fixed(HeaderValue::from_str(text).ok()?),
        _ => Value::Filled(Template(parts)),
    })
}

/// Whether an operator may edit a header.
fn free(root: &Table, name: &str, at: Span, of: Of, cx: &mut Context) -> bool {
    let folded = name.replace(['_', '.'], "-");
    let (message, help) = if FRAMING.contains(&&*folded) {
        (
            format!("`{name}` belongs to HTTP itself"),
            match &*folded {
                "host" => "write `host_header` on the route",
                _ => "message framing and the connection are Portcullis' own",
            },
        )
    } else if of == Of::Requests && tells_who(root, &folded) {
        (
            format!("`{name}` tells the upstream who asks, or from where"),
            "only Portcullis writes it: see `headers_to_upstream`",
        )
    } else {
        return true;
    };
    cx.say(Diagnostic::error("reserved-header", at, message).help(help));
    false
}

/// Whether an upstream takes the header for a word of ours about the client.
fn tells_who(root: &Table, folded: &str) -> bool {
    let listed = FORBIDDEN.contains(&folded) && !FREE.contains(&folded);
    let written = |name: &str| name.to_ascii_lowercase().replace(['_', '.'], "-") == folded;
    let ours = root.tables("site").any(|site| {
        let entries = site.table("headers_to_upstream").into_iter();
        entries.flat_map(|table| &table.entries).any(|entry| {
            let claims = entry.node.as_table().into_iter();
            let mut claims = claims.flat_map(|table| &table.entries);
            entry.node.as_str().is_some_and(written)
                || claims.any(|claim| claim.node.as_str().is_some_and(written))
        })
    });
    listed
        || ours
        || folded == "traceparent"
        || folded.starts_with("x-forwarded-")
        || folded.starts_with("x-auth-request-")
}

/// Makes an action of a value.
type Acts = fn(Value) -> Action;

/// In the order in which they are made, behind `remove`.
const ACTIONS: [(&str, Acts); 3] = [
    ("set", Action::Set),
    ("add", Action::Add),
    ("append", Action::Append),
];

/// Of the headers that no condition may name, those that may be edited: an application may want a credential of its own.
const FREE: [&str; 3] = ["authorization", "cookie", "set-cookie"];

/// Headers on which framing, routing, the connection, or the reading of a body rest, and the request's id.
const FRAMING: [&str; 16] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "content-length",
    "content-encoding",
    "content-range",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "expect",
    "x-request-id",
];
