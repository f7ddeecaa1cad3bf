//! `forward_auth = { … }`: identity that another service knows.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderName, HeaderValue};

use super::super::{duration, header_name, remote};
use super::{missing, once, text};
use crate::config::context::Context;
use crate::config::diagnostic::Diagnostic;
use crate::config::node::{Node, Table};
use crate::identity::Source;
use crate::identity::forward_auth::ForwardAuth;
use crate::identity::source::Kind;
use crate::snapshot::AuthService;

/// Compiles a `forward_auth` source.
pub(super) fn compile(table: &Table, name: &Arc<str>, cx: &mut Context) -> Option<Source> {
    let url = text(table, "url", cx);
    let span = table.get("url").map_or(table.span, |node| node.span);
    let remote = url.and_then(|url| remote::compile(&url, span, table.get("ca"), cx));
    let headers_to = match table.get("headers_to") {
        None => vec![AUTHORIZATION, COOKIE],
        Some(node) => {
            let names: Option<Vec<HeaderName>> = node.many().map(|node| shown(node, cx)).collect();
            let names = names?;
            if names.is_empty() {
                let message = "`headers_to` names no field, so no request carries a credential";
                once(
                    Diagnostic::error("empty-value", node.span, message),
                    node.span,
                    cx,
                );
                return None;
            }
            names
        }
    };
    let Some(from) = table.get("headers_from") else {
        missing(table, "headers_from", cx);
        return None;
    };
    let from = from.as_table()?;
    let mut field = |key: &str| from.get(key).map(|node| header_name(node, cx));
    let (user, roles) = (field("user"), field("roles"));
    let mut claims = Vec::new();
    for entry in from
        .table("claim")
        .into_iter()
        .flat_map(|claims| &claims.entries)
    {
        claims.push((Box::from(entry.key.as_str()), header_name(&entry.node, cx)?));
    }
    if user.is_none() && roles.is_none() && claims.is_empty() {
        let message = "`headers_from` names no field, so the answer says nothing of the caller";
        let span = table
            .get("headers_from")
            .map_or(table.span, |node| node.span);
        once(
            Diagnostic::error("empty-value", span, message).help("write `{ user = \"X-User\" }`"),
            span,
            cx,
        );
        return None;
    }
    let timeout = duration(table, "timeout").unwrap_or(TIMEOUT);
    if timeout > TIMEOUT_MAX {
        let span = table.get("timeout").map_or(table.span, |node| node.span);
        let message = "`timeout` is longer than a request may wait to be judged";
        cx.say(Diagnostic::error("out-of-range", span, message).help("25s at most"));
    }
    let (remote, _) = remote?;
    cx.forward_auths.push(AuthService {
        source: Arc::clone(name),
        remote,
        timeout,
    });
    let challenges = if headers_to.contains(&AUTHORIZATION) {
        let bearer = HeaderValue::from_static(r#"Bearer realm="restricted""#);
        [bearer.clone(), bearer]
    } else {
        [super::SESSION, super::SESSION]
    };
    let service = ForwardAuth {
        headers_to,
        user: user.flatten(),
        roles: roles.flatten(),
        claims,
    };
    Some(Source {
        name: Arc::clone(name),
        kind: Kind::ForwardAuth(service),
        places: Vec::new(),
        challenges: Some(challenges),
    })
}

/// A field that the service may see: none that frames the message or that we set.
fn shown(node: &Node, cx: &mut Context) -> Option<HeaderName> {
    let name = header_name(node, cx)?;
    let ours = name.as_str().starts_with("x-forwarded-") || FRAMING.contains(&name.as_str());
    if ours {
        let message = format!("`{name}` cannot be shown to another service");
        cx.say(
            Diagnostic::error("bad-header", node.span, message)
                .help("it says how a message travels, or is set by us: method, URI, host, scheme and client are shown anyway"),
        );
        return None;
    }
    Some(name)
}

const FRAMING: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];
/// How long an answer may take where nothing is written.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What is beyond would outlive the time in which a request is judged.
const TIMEOUT_MAX: Duration = Duration::from_secs(25);
