//! `header = { … }`: identity that a trusted peer asserts.

use std::sync::Arc;

use super::super::{header_name, sets};
use super::{missing, once};
use crate::config::context::Context;
use crate::config::diagnostic::Diagnostic;
use crate::config::node::Table;
use crate::identity::Source;
use crate::identity::header::Asserted;
use crate::identity::source::Kind;

/// Compiles a `header` source. The names of its fields are also in [`names`], which are removed from every request.
pub(super) fn compile(
    root: &Table,
    table: &Table,
    name: &Arc<str>,
    cx: &mut Context,
) -> Option<Source> {
    let Some(node) = table.get("user") else {
        missing(table, "user", cx);
        return None;
    };
    let user = super::own_field(node, cx)?;
    let roles = match table.get("roles") {
        Some(node) => Some(super::own_field(node, cx)?),
        None => None,
    };
    let Some(peers) = table.get("from") else {
        missing(table, "from", cx);
        return None;
    };
    let mut from = Vec::new();
    for node in peers.many() {
        let found = sets::networks(root, node, cx);
        if found.iter().any(|network| network.prefix_len() == 0) {
            let message = "everybody is trusted: any client can claim to be anybody";
            cx.say(
                Diagnostic::error("trusts-everyone", node.span, message)
                    .help("name the addresses of the proxy that signs people in"),
            );
        }
        from.extend(found);
    }
    if from.is_empty() {
        let message = "`from` names no peer, so nobody signs in with this source";
        once(
            Diagnostic::error("nobody-trusted", peers.span, message),
            peers.span,
            cx,
        );
        return None;
    }
    from.sort_unstable();
    from.dedup();
    Some(Source {
        name: Arc::clone(name),
        kind: Kind::Header(Asserted { user, roles, from }),
        places: Vec::new(),
        challenges: Some([super::SESSION, super::SESSION]),
    })
}

/// The fields that `header` sources read: whatever a client sends in them goes no further.
pub(crate) fn names<'t>(root: &'t Table, cx: &mut Context) -> Vec<http::HeaderName> {
    let sources = root.table("identity").map(|table| &table.entries);
    let sources = sources.into_iter().flatten();
    let tables = sources.filter_map(|entry| entry.node.as_table()?.table("header"));
    let nodes: Vec<_> = tables
        .flat_map(|table: &'t Table| [table.get("user"), table.get("roles")])
        .flatten()
        .collect();
    nodes
        .into_iter()
        .filter_map(|node| header_name(node, cx))
        .collect()
}
