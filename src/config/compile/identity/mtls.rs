//! `mtls = { … }` and its file from users to roles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{MISTAKES_MAX, files};
use crate::config::context::Context;
use crate::config::diagnostic::Diagnostic;
use crate::config::nearest::nearest;
use crate::config::node::{self, FileId, Node, Span, Table};
use crate::identity::Source;
use crate::identity::mtls::{Mtls, Name, Roles};
use crate::identity::source::Kind;

/// Compiles an `mtls` source.
pub(super) fn compile(
    table: &Table,
    name: &Arc<str>,
    declared: Option<&BTreeSet<&str>>,
    cx: &mut Context,
) -> Option<Source> {
    let user = match table.str("user") {
        Some("san.dns") => Name::Host,
        Some("cn") => Name::CommonName,
        Some(_) | None => Name::Email,
    };
    let roles = match table.get("roles") {
        None => Roles::None,
        Some(node) => match node.as_str()? {
            "ou" => Roles::Units,
            file => Roles::Table(users(file, node.span, declared, cx)?),
        },
    };
    Some(Source {
        name: Arc::clone(name),
        kind: Kind::Mtls(Mtls { user, roles }),
        places: Vec::new(),
        challenges: None,
    })
}

/// Reads a file of lines such as `"anna@bank.example" = ["teller"]`.
fn users(
    written: &str,
    span: Span,
    declared: Option<&BTreeSet<&str>>,
    cx: &mut Context,
) -> Option<BTreeMap<Box<str>, Vec<Arc<str>>>> {
    let content = files::read_text(cx, span, written, "roles of users")?;
    let (root, syntax) = node::parse(&content, FileId::default());
    let line = |at: Span| {
        let before = content.bytes().take(at.start as usize);
        before.filter(|byte| *byte == b'\n').count() + 1
    };
    let mut mistakes: Vec<(usize, String)> = Vec::new();
    for mistake in syntax {
        mistakes.push((mistake.span.map_or(1, line), mistake.message.to_string()));
    }
    let mut users = BTreeMap::new();
    for entry in &root.entries {
        let mut roles: Vec<Arc<str>> = Vec::new();
        let values: Vec<&Node> = entry.node.many().collect();
        if entry.node.as_table().is_some() {
            let form = "a line is `\"user\" = [\"role\"]`, and a user with dots stands in quotes";
            mistakes.push((line(entry.key_span), form.to_owned()));
            continue;
        }
        for node in values {
            let Some(role) = node.as_str().filter(|role| !role.is_empty()) else {
                mistakes.push((line(node.span), "a role is a name".to_owned()));
                continue;
            };
            if let Some(known) = declared.filter(|known| !known.contains(role)) {
                let near = nearest(role, known.iter().copied());
                let help =
                    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                let at = line(node.span);
                let message = format!(
                    "`{written}` line {at}: role `{role}` stands nowhere in `[role]`{help}"
                );
                cx.say(Diagnostic::warning("unknown-role", span, message));
            }
            if !roles.iter().any(|known| **known == *role) {
                roles.push(Arc::from(role));
            }
        }
        users.insert(Box::from(entry.key.as_str()), roles);
    }
    for (at, mistake) in mistakes.iter().take(MISTAKES_MAX) {
        let message = format!("`{written}` line {at}: {mistake}");
        cx.error("bad-roles-file", span, message);
    }
    if mistakes.is_empty() && users.is_empty() {
        let message = format!("`{written}` names no user: nobody has a role by it");
        cx.say(Diagnostic::warning("empty-file", span, message));
    }
    mistakes.is_empty().then_some(users)
}
