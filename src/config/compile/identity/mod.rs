//! `[identity.NAME]` → identity sources, and a site's `identity` → its authenticator.
//!
//! Reads the key files. What is wrong in one is reported at the place that names it, with the line: the line itself is never
//! shown, since it may hold a secret.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST};
use http::{HeaderName, HeaderValue};

use super::files;
use crate::config::context::Context;
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::nearest::nearest;
use crate::config::node::{Entry, Node, Span, Table};
use crate::identity::source::Place;
use crate::identity::{Authenticator, Source, Sources};

mod api_key;
pub(super) mod asserted;
mod basic;
mod forward_auth;
mod jwt;
mod mtls;
mod oidc;

#[cfg(test)]
mod tests;

/// Compiles every `[identity.NAME]`.
pub fn compile(root: &Table, cx: &mut Context) -> Sources {
    let mut sources = Sources::default();
    let roles = known_roles(root);
    let entries = root.table("identity").map(|table| &table.entries);
    for entry in entries.into_iter().flatten() {
        let name: Arc<str> = Arc::from(entry.key.as_str());
        let source = source(root, entry, &name, roles.as_ref(), cx);
        if source.as_ref().is_some_and(Source::reads_certificates) && !asks_for_certificates(root) {
            let message = format!(
                "no listener asks for client certificates, so nobody signs in with `{name}`"
            );
            cx.say(
                Diagnostic::warning("no-client-certificates", entry.key_span, message)
                    .help("write `client_certificate = \"optional\"` and `client_ca` in the listener's `tls`"),
            );
        }
        sources.add(name, source.map(Arc::new));
    }
    sources
}

/// Whether some listener asks clients for certificates.
fn asks_for_certificates(root: &Table) -> bool {
    let mut modes = root.tables("listener").filter_map(|listener| {
        let tls = listener.table("tls")?;
        tls.str("client_certificate")
    });
    modes.any(|mode| mode != "off")
}

/// Compiles a site's `identity` list.
pub fn authenticator(
    root: &Table,
    site: &Table,
    sources: &Sources,
    cx: &mut Context,
) -> Authenticator {
    let mut chosen: Vec<(Arc<Source>, Span)> = Vec::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for node in site.many("identity") {
        let Some(name) = node.as_str() else { continue };
        if !seen.insert(name) {
            let message = format!("identity source `{name}` is named twice");
            cx.say(Diagnostic::warning(
                "duplicate-identity",
                node.span,
                message,
            ));
            continue;
        }
        match sources.get(name) {
            Some(Some(source)) => {
                for (first, place) in &chosen {
                    if first.eclipses(source) {
                        let before = &first.name;
                        let message = format!(
                            "identity source `{name}` is never asked: `{before}` before it claims every credential that it could"
                        );
                        let found = Diagnostic::warning("eclipsed-identity", node.span, message)
                            .related(*place, "this source comes first");
                        cx.say(found.help("change the order, or give them different places, issuers or algorithms"));
                        break;
                    }
                }
                chosen.push((Arc::clone(source), node.span));
            }
            Some(None) => {}
            None => {
                let message = format!("site names identity source `{name}`, which is not defined");
                let mut found = Diagnostic::error("unknown-identity", node.span, message);
                let known = sources.names().map(|known| &**known);
                if let Some(near) = nearest(name, known) {
                    found = found.help(format!("did you mean `{near}`?"));
                } else {
                    found = found.help(format!("define it as `[identity.{name}]`"));
                }
                cx.say(found);
            }
        }
    }
    let compiled = Authenticator::new(chosen.into_iter().map(|(source, _)| source).collect());
    oidc::remarks(root, site, &compiled, cx);
    compiled
}

fn source(
    root: &Table,
    entry: &Entry,
    name: &Arc<str>,
    roles: Option<&BTreeSet<&str>>,
    cx: &mut Context,
) -> Option<Source> {
    let table = entry.node.as_table()?;
    let known = |entry: &&Entry| KINDS.contains(&entry.key.as_str());
    let mut written = table.entries.iter().filter(known);
    let Some(kind) = written.next() else {
        let kinds = KINDS.join("`, `");
        let message = format!("identity `{name}` names no source");
        once(
            Diagnostic::error("identity-without-source", entry.key_span, message)
                .help(format!("write one of `{kinds}`")),
            table.span,
            cx,
        );
        return None;
    };
    if let Some(second) = written.next() {
        let message = format!(
            "identity `{name}` has two sources, `{}` and `{}`",
            kind.key, second.key
        );
        cx.say(
            Diagnostic::error("identity-with-two-sources", second.key_span, message)
                .related(kind.key_span, "the first")
                .help("one `[identity.NAME]` is one source; give the second a name of its own"),
        );
        return None;
    }
    let settings = kind.node.as_table()?;
    match kind.key.as_str() {
        "jwt" => jwt::compile(settings, name, cx),
        "api_key" => api_key::compile(settings, name, roles, cx),
        "basic" => basic::compile(settings, name, cx),
        "mtls" => mtls::compile(settings, name, roles, cx),
        "header" => asserted::compile(root, settings, name, cx),
        "forward_auth" => forward_auth::compile(settings, name, cx),
        "oidc" => oidc::compile(settings, entry.key_span, name, cx),
        // The key tables know no other.
        _ => None,
    }
}

/// Every name in `[role]`, as a key or in a list; none where the table is absent and any name goes.
fn known_roles(root: &Table) -> Option<BTreeSet<&str>> {
    let table = root.table("role")?;
    let mut known = BTreeSet::new();
    for entry in &table.entries {
        known.insert(entry.key.as_str());
        known.extend(entry.node.many().filter_map(Node::as_str));
    }
    Some(known)
}

fn header(node: &Node, cx: &mut Context) -> Option<Place> {
    let written = node.as_str()?;
    match written.parse::<HeaderName>() {
        Ok(name) if name == http::header::AUTHORIZATION => Some(Place::Authorization),
        Ok(name) if name == http::header::COOKIE || name == http::header::HOST => {
            let message = format!("`{written}` cannot carry a credential of its own");
            cx.say(
                Diagnostic::error("bad-header", node.span, message)
                    .help("a cookie can carry a token: `jwt = { cookie = \"name\", … }`"),
            );
            None
        }
        Ok(name) => Some(Place::Header(name)),
        Err(_) => {
            cx.error(
                "bad-header",
                node.span,
                format!("`{written}` is no name of a header field"),
            );
            None
        }
    }
}

/// A field that a trusted peer sets, and nobody else.
fn own_field(node: &Node, cx: &mut Context) -> Option<HeaderName> {
    let name = super::header_name(node, cx)?;
    let taken = [AUTHORIZATION, COOKIE, HOST, CONNECTION, CONTENT_LENGTH];
    if taken.contains(&name) {
        let message = format!("`{name}` cannot name a user");
        cx.say(
            Diagnostic::error("bad-header", node.span, message).help(
                "a field of its own, which the trusted peer sets or removes on every request",
            ),
        );
        return None;
    }
    Some(name)
}

/// The name of a cookie or a query parameter.
fn token(node: &Node, what: &str, cx: &mut Context) -> Option<Box<str>> {
    let written = node.as_str()?;
    let plain = |b: u8| b.is_ascii_graphic() && !b"=;,&\"\\".contains(&b);
    if written.is_empty() || !written.bytes().all(plain) {
        cx.error(
            "bad-name",
            node.span,
            format!("`{written}` is no name of a {what}"),
        );
        return None;
    }
    Some(Box::from(written))
}

fn text(table: &Table, key: &str, cx: &mut Context) -> Option<Box<str>> {
    let Some(node) = table.get(key) else {
        missing(table, key, cx);
        return None;
    };
    let written = node.as_str()?;
    if written.is_empty() {
        cx.error("empty-value", node.span, format!("`{key}` is empty"));
        return None;
    }
    Some(Box::from(written))
}

fn words(table: &Table, key: &str, cx: &mut Context) -> Option<Vec<Box<str>>> {
    let Some(node) = table.get(key) else {
        missing(table, key, cx);
        return None;
    };
    let words: Vec<Box<str>> = node
        .many()
        .filter_map(Node::as_str)
        .map(Box::from)
        .collect();
    if words.is_empty() || words.iter().any(|word| word.is_empty()) {
        let found = Diagnostic::error("empty-value", node.span, format!("`{key}` is empty"));
        once(found, node.span, cx);
        return None;
    }
    Some(words)
}

fn missing(table: &Table, key: &str, cx: &mut Context) {
    let found = Diagnostic::error("missing-key", table.span, format!("`{key}` is missing"));
    once(found, table.span, cx);
}

/// Adds an error unless the key tables have found one in the same place: then it is the same mistake.
fn once(found: Diagnostic, within: Span, cx: &mut Context) {
    let inside = |span: Span| {
        span.file == within.file && span.start >= within.start && span.end <= within.end
    };
    let known = cx.report.diagnostics.iter();
    let mut known = known.filter(|other| other.severity == Severity::Error);
    if !known.any(|other| other.span.is_some_and(inside)) {
        cx.say(found);
    }
}

/// The sources of GRAMMAR.
const KINDS: [&str; 7] = [
    "jwt",
    "api_key",
    "basic",
    "mtls",
    "oidc",
    "forward_auth",
    "header",
];
/// What a 401 says where signing in is somebody else's business (RFC 9110 §15.5.2 asks for a challenge).
const SESSION: HeaderValue = HeaderValue::from_static(r#"Session realm="restricted""#);
/// Mistakes told of one file.
const MISTAKES_MAX: usize = 10;
