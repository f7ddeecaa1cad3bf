//! `basic = { … }` and its htpasswd file.

use std::sync::Arc;

use http::HeaderValue;

use super::{MISTAKES_MAX, files, missing};
use crate::config::context::Context;
use crate::config::diagnostic::Diagnostic;
use crate::config::node::{Node, Table};
use crate::identity::Source;
use crate::identity::basic::{BadLine, Users};
use crate::identity::source::{Kind, Place};

/// Compiles a `basic` source.
pub(super) fn compile(table: &Table, name: &Arc<str>, cx: &mut Context) -> Option<Source> {
    let challenge = realm(table, cx);
    let Some(file) = table.get("file") else {
        missing(table, "file", cx);
        return None;
    };
    let written = file.as_str()?;
    let content = files::read_text(cx, file.span, written, "users")?;
    let parsed = Users::parse(&content, name);
    for (line, mistake) in parsed.bad.iter().take(MISTAKES_MAX) {
        let message = format!("`{written}` line {line} {mistake}");
        let mut found = Diagnostic::error("bad-htpasswd", file.span, message);
        if *mistake == BadLine::Unsupported {
            found = found
                .help("make it new with `portcullis hash-password --user NAME` or `htpasswd -B`");
        }
        cx.say(found);
    }
    if parsed.bad.len() > MISTAKES_MAX {
        let more = parsed.bad.len() - MISTAKES_MAX;
        cx.error(
            "bad-htpasswd",
            file.span,
            format!("`{written}` has {more} more lines that cannot be used"),
        );
    }
    if let Some(line) = parsed.weak {
        let message = format!(
            "`{written}` line {line} has a `{{SHA}}` hash, which is quickly guessed once the file leaks"
        );
        cx.say(
            Diagnostic::warning("weak-hash", file.span, message)
                .help("make it new with `portcullis hash-password`"),
        );
    }
    if parsed.users.is_empty() && parsed.bad.is_empty() {
        let message = format!("`{written}` holds no user: nobody can sign in with it");
        cx.say(Diagnostic::warning("empty-file", file.span, message));
    }
    if !parsed.bad.is_empty() {
        return None;
    }
    let challenge = challenge?;
    Some(Source {
        name: Arc::clone(name),
        kind: Kind::Basic(parsed.users),
        places: vec![Place::Authorization],
        challenges: Some([challenge.clone(), challenge]),
    })
}

fn realm(table: &Table, cx: &mut Context) -> Option<HeaderValue> {
    let node = table.get("realm");
    let realm = node.and_then(Node::as_str).unwrap_or("restricted");
    let quoted = realm.replace('\\', r"\\").replace('"', r#"\""#);
    let challenge = HeaderValue::from_str(&format!(r#"Basic realm="{quoted}", charset="UTF-8""#));
    match challenge {
        Ok(value) if realm.is_ascii() => Some(value),
        Ok(_) | Err(_) => {
            let span = node.map_or(table.span, |node| node.span);
            let message = "`realm` has characters that a header field cannot carry";
            cx.say(Diagnostic::error("bad-realm", span, message).help("write it in plain ASCII"));
            None
        }
    }
}
