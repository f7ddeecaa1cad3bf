//! `[[site]]` and `[[site.route]]`: what an allowed request gets, and the settings around it. Who is allowed is the business
//! of [`super::rules`].
//!
//! INVARIANT: sites stand in the order of `[[site]]` in the merged tree and routes in the order of `[[site.route]]`, with the
//! route that a site-level `allow` means at the end. The policy numbers them in the same way.

use std::sync::Arc;

use http::header::{self, HeaderName};

use super::{
    brute_force, compress, denial, duration, header_name, headers, identity, maintenance, rewrite,
    signed_identity, size,
};
use crate::config::compile::answer;
use crate::config::nearest::nearest;
use crate::config::node::{Node, Span, Table};
use crate::config::{Context, Diagnostic};
use crate::snapshot::headers::HeaderEdits;
use crate::snapshot::notice::Denial;
use crate::snapshot::{Answer, IdentityHeaders, Limits, Route, Site, Upstream};

/// What sites are compiled with.
pub(super) struct Surroundings<'s> {
    /// The whole tree.
    pub(super) root: &'s Table,
    /// `[server.limits]`.
    pub(super) limits: &'s Limits,
    /// Every upstream.
    pub(super) upstreams: &'s [Arc<Upstream>],
    /// The global `[denial]`.
    pub(super) denial: &'s Denial,
    /// The global `[response_headers]`.
    pub(super) response_headers: &'s HeaderEdits,
}

/// The sites, and what they ask of every request.
pub(super) struct Sites {
    /// The sites.
    pub(super) sites: Vec<Site>,
    /// Request headers removed from every request.
    pub(super) stripped: Vec<HeaderName>,
}

/// Compiles every site.
pub(super) fn compile(
    around: &Surroundings<'_>,
    sources: &crate::identity::Sources,
    cx: &mut Context,
) -> Sites {
    let mut compiled = Sites {
        sites: Vec::new(),
        stripped: Vec::new(),
    };
    let mut hosts: Vec<(String, Span)> = Vec::new();
    for table in around.root.tables("site") {
        claim_hosts(table, &mut hosts, cx);
        let headers = identity_headers(table.table("headers_to_upstream"), cx);
        let signed = table.table("signed_identity");
        if let Some(node) = signed.and_then(|signed| signed.get("header")) {
            let name = node.as_str().and_then(|name| name.parse().ok());
            compiled.stripped.extend(name);
        }
        let own = [&headers.user, &headers.roles, &headers.country];
        let named = own
            .into_iter()
            .flatten()
            .chain(headers.claims.iter().map(|(_, name)| name));
        compiled.stripped.extend(named.cloned());
        for node in table.many("strip_headers") {
            compiled.stripped.extend(free_header(node, cx));
        }
        compiled
            .sites
            .push(site(table, headers, around, sources, cx));
    }
    if around.root.tables("site").next().is_none() {
        let finding = Diagnostic::global("no-site", "there is no `[[site]]`");
        cx.say(
            finding
                .help("write `[[site]]`, `host = [\"app.example.com\"]`, `upstream` and `allow`"),
        );
    }
    compiled
        .stripped
        .extend(identity::asserted::names(around.root, cx));
    compiled.stripped.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    compiled.stripped.dedup();
    compiled
}

fn site(
    table: &Table,
    headers_to_upstream: IdentityHeaders,
    around: &Surroundings<'_>,
    sources: &crate::identity::Sources,
    cx: &mut Context,
) -> Site {
    let identity = identity::authenticator(around.root, table, sources, cx);
    // Compiled once here for its mistakes; routes put their own behind it.
    edits(
        table,
        headers::Of::Requests,
        &HeaderEdits::default(),
        around,
        cx,
    );
    let denial = denial::compile(table.table("denial"), around.denial, cx);
    let name = table.many("host").next().and_then(Node::as_str);
    let name: Arc<str> = Arc::from(name.unwrap_or_default());
    Site {
        brute_force: brute_force::compile(table.table("brute_force"), &name, &identity, cx),
        maintenance: maintenance::compile(around.root, table.table("maintenance"), &name, cx),
        name: Arc::clone(&name),
        routes: routes(table, &denial, around, cx),
        response_headers: edits(
            table,
            headers::Of::Answers,
            around.response_headers,
            around,
            cx,
        ),
        api: table.bool("api").unwrap_or(false),
        signer: table
            .table("signed_identity")
            .and_then(|signed| signed_identity::compile(signed, &name, &headers_to_upstream, cx)),
        headers_to_upstream,
        forward_credential: table
            .bool("forward_credential")
            .unwrap_or_else(|| identity.forwards_by_default()),
        identity,
        compress: compress::compile(table, cx),
        forwarded: table.bool("forwarded").unwrap_or(false),
        via: table.bool("via").unwrap_or(false),
        intercept: table
            .table("intercept")
            .and_then(|table| denial::intercept(table, cx)),
        cors: table
            .table("cors")
            .and_then(|table| denial::cors(table, cx)),
        denial,
    }
}

/// Notes the hosts of a site and reports those that another site has.
fn claim_hosts(table: &Table, taken: &mut Vec<(String, Span)>, cx: &mut Context) {
    if let Some(node) = table.get("host")
        && node.as_list().is_some_and(<[Node]>::is_empty)
    {
        cx.error("empty-list", node.span, "a site needs at least one host");
    }
    let before = taken.len();
    for node in table.many("host") {
        let Some(text) = node.as_str() else { continue };
        let folded = fold(text);
        let (others, own) = taken.split_at_checked(before).unwrap_or((taken, &[]));
        if let Some((_, first)) = others.iter().find(|(host, _)| *host == folded) {
            let message = format!("host `{text}` is on another site already");
            let finding = Diagnostic::error("duplicate-host", node.span, message);
            cx.say(finding.related(*first, "first written here"));
        } else if own.iter().any(|(host, _)| *host == folded) {
            let message = format!("host `{text}` is written twice");
            cx.say(Diagnostic::warning("duplicate-host", node.span, message));
        } else {
            taken.push((folded, node.span));
        }
    }
}

/// The host as requests are compared: lower case, without a dot at its end. A port is a mistake that the rules report.
fn fold(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn routes(
    table: &Table,
    denial: &Denial,
    around: &Surroundings<'_>,
    cx: &mut Context,
) -> Vec<Route> {
    let mut routes: Vec<Route> = table
        .tables("route")
        .filter_map(|route| self::route(route, table, denial, around, cx))
        .collect();
    let Some(allow) = table.entry("allow") else {
        return routes;
    };
    let everything = table
        .tables("route")
        .find(|route| route.str("path") == Some("/**"))
        .and_then(|route| route.get("path"));
    if let Some(path) = everything {
        let message = "`allow` of a site means a route `/**`, and this site has one";
        let finding = Diagnostic::error("allow-beside-route", allow.key_span, message);
        cx.say(
            finding
                .help("move it into that route")
                .related(path.span, "the route"),
        );
    }
    match table.get("upstream") {
        None => {
            let message = "`allow` of a site needs its `upstream`";
            cx.error("no-answer", allow.key_span, message);
        }
        Some(node) => {
            if let Some(upstream) = upstream(node, around, cx) {
                let implied = Table::default();
                routes.push(Route {
                    pattern: Arc::from("/**"),
                    ..with_settings(
                        Answer::Upstream(upstream),
                        &implied,
                        table,
                        denial,
                        around,
                        cx,
                    )
                });
            }
        }
    }
    routes
}

fn route(
    table: &Table,
    site: &Table,
    site_denial: &Denial,
    around: &Surroundings<'_>,
    cx: &mut Context,
) -> Option<Route> {
    let pattern = table.str("path").unwrap_or_default();
    let mut written = ["upstream", "redirect", "respond"]
        .into_iter()
        .filter_map(|key| table.entry(key));
    let first = written.next();
    if let (Some(first), Some(second)) = (first, written.next()) {
        let message = format!(
            "route `{pattern}` has two answers, `{}` and `{}`",
            first.key, second.key
        );
        let finding = Diagnostic::error("two-answers", second.key_span, message);
        cx.say(finding.related(first.key_span, "the other"));
    }
    let answer =
        match first.map(|entry| (entry.key.as_str(), &entry.node)) {
            Some(("redirect", node)) => answer::redirect(node.as_table()?, cx)?,
            Some(("respond", node)) => answer::respond(node.as_table()?, cx)?,
            Some((_, node)) => forwarded(table, pattern, node, around, cx)?,
            None => match site.get("upstream") {
                Some(node) => forwarded(table, pattern, node, around, cx)?,
                None => {
                    let message = format!("route `{pattern}` has no answer");
                    let finding = Diagnostic::error("no-answer", table.span, message);
                    cx.say(finding.help(
                        "write `upstream`, `redirect` or `respond`, or `upstream` in its site",
                    ));
                    return None;
                }
            },
        };
    Some(with_settings(answer, table, site, site_denial, around, cx))
}

fn forwarded(
    route: &Table,
    pattern: &str,
    node: &Node,
    around: &Surroundings<'_>,
    cx: &mut Context,
) -> Option<Answer> {
    let allow = route.get("allow");
    if allow.is_none() {
        let message = format!("route `{pattern}` goes to an upstream and says nobody may pass");
        let finding = Diagnostic::error("route-without-allow", route.span, message);
        cx.say(
            finding.help("write `allow = \"anyone\"`, or who may: `allow = [{ role = \"…\" }]`"),
        );
    }
    upstream(node, around, cx).map(Answer::Upstream)
}

fn upstream(node: &Node, around: &Surroundings<'_>, cx: &mut Context) -> Option<Arc<Upstream>> {
    let name = node.as_str()?;
    let found = around
        .upstreams
        .iter()
        .find(|upstream| *upstream.name == *name);
    if let Some(found) = found {
        return Some(Arc::clone(found));
    }
    let names = around.upstreams.iter().map(|upstream| &*upstream.name);
    let shown = cx.written(node.span, name);
    let message = format!("upstream `{shown}` is not defined");
    let finding = Diagnostic::error("unknown-upstream", node.span, message);
    cx.say(match nearest(name, names) {
        Some(near) => finding.help(format!("did you mean `{near}`?")),
        None => finding.help(format!("write `[upstream.{shown}]`")),
    });
    None
}

/// A route with the settings that it, its site or the server gives.
fn with_settings(
    answer: Answer,
    route: &Table,
    site: &Table,
    site_denial: &Denial,
    around: &Surroundings<'_>,
    cx: &mut Context,
) -> Route {
    let wait = |key| duration(route, key).or_else(|| duration(site, key));
    let denial = route
        .table("denial")
        .map(|table| denial::compile(Some(table), site_denial, cx));
    // The site's own mistakes are reported once, where the site is compiled.
    let mut quiet = Context::default();
    let sites = edits(
        site,
        headers::Of::Answers,
        around.response_headers,
        around,
        &mut quiet,
    );
    let response_headers = edits(route, headers::Of::Answers, &sites, around, cx);
    let sites = edits(
        site,
        headers::Of::Requests,
        &HeaderEdits::default(),
        around,
        &mut quiet,
    );
    let request_headers = edits(route, headers::Of::Requests, &sites, around, cx);
    let rewriting = rewrite::compile(route, &answer, cx);
    Route {
        request_headers,
        response_headers,
        rewrite: rewriting.map(Box::new),
        host_header: rewrite::host_header(route, &answer, cx),
        pattern: Arc::from(route.str("path").unwrap_or_default()),
        answer,
        body_size: size(route, "body_size")
            .or_else(|| size(site, "body_size"))
            .unwrap_or(around.limits.body_size),
        response_timeout: wait("response_timeout"),
        connect_timeout: wait("connect_timeout"),
        body_timeout: wait("body_timeout"),
        stream_idle_timeout: wait("stream_idle_timeout"),
        denial,
    }
}

/// The header edits of a site or route behind those around it.
fn edits(
    table: &Table,
    of: headers::Of,
    before: &HeaderEdits,
    around: &Surroundings<'_>,
    cx: &mut Context,
) -> HeaderEdits {
    let key = match of {
        headers::Of::Requests => "request_headers",
        headers::Of::Answers => "response_headers",
    };
    headers::compile(around.root, table.table(key), of, before, cx)
}

fn identity_headers(table: Option<&Table>, cx: &mut Context) -> IdentityHeaders {
    let Some(table) = table else {
        return IdentityHeaders::default();
    };
    let mut named = |key: &str| table.get(key).and_then(|node| free_header(node, cx));
    let (user, roles, country) = (named("user"), named("roles"), named("country"));
    let claims = table.table("claim").map(|table| table.entries.as_slice());
    let claims = claims.unwrap_or_default().iter();
    IdentityHeaders {
        user,
        roles,
        country,
        claims: claims
            .filter_map(|entry| {
                let name = free_header(&entry.node, cx)?;
                Some((Arc::from(entry.key.as_str()), name))
            })
            .collect(),
    }
}

/// A header that the operator may take away from clients: not one on which HTTP itself rests.
pub(super) fn free_header(node: &Node, cx: &mut Context) -> Option<HeaderName> {
    let name = header_name(node, cx)?;
    if RESERVED.contains(&name) {
        let message = format!("`{name}` belongs to HTTP itself");
        cx.error("reserved-header", node.span, message);
        return None;
    }
    Some(name)
}

/// Fields on which framing, routing and the connection rest.
const RESERVED: &[HeaderName] = &[
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
];
