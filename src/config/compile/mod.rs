//! From checked tables to a snapshot. One file per section; each adds its findings to the context and goes on.

pub mod access_log;
pub mod answer;
mod brute_force;
pub mod candidate;
pub mod client;
mod compress;
mod condition;
pub mod denial;
mod devices;
mod files;
pub mod geoip;
mod headers;
pub mod identity;
mod limit;
mod list;
pub mod listener;
mod maintenance;
#[cfg(test)]
mod policy_tests;
mod redis;
pub(crate) mod remote;
pub(crate) mod revocation;
mod rewrite;
pub mod rules;
pub mod server;
pub mod sets;
mod signed_identity;
pub mod site;
mod step_up;
pub mod tests;
pub mod tls;
pub mod upstream;

use std::sync::Arc;
use std::time::Duration;

use super::node::{Node, Table};
use super::{Context, Diagnostic};
use crate::snapshot::headers::HeaderEdits;
use crate::snapshot::notice::Denial;
use crate::snapshot::{EditsAnswers, Site, Snapshot};
use crate::value::duration;
use crate::value::size::Size;

/// Compiles a whole configuration. Nothing where it is refused.
pub(crate) fn snapshot(root: &Table, generation: u64, cx: &mut Context) -> Option<Snapshot> {
    let server = server::compile(root.table("server"), cx);
    let admin = server::admin(root.table("admin"), cx);
    let trust = client::compile(root, cx);
    let geo = geoip::compile(root, cx);
    let policy = rules::compile(root, geo.provides(), cx);
    if !cx.report.refused() {
        tests::run(root, &policy, cx);
    }
    let share = redis::compile(root, cx);
    let access_logs = access_log::compile(root, cx);
    let sources = identity::compile(root, cx);
    let devices = devices::compile(root, cx);
    let revocation = revocation::compile(root, cx);
    let upstreams = upstream::compile(root, cx);
    let listeners = listener::compile(root, cx);
    let denial = denial::compile(root.table("denial"), &Denial::default(), cx);
    let global = root.table("response_headers");
    let around = HeaderEdits::default();
    let response_headers = headers::compile(root, global, headers::Of::Answers, &around, cx);
    let surroundings = site::Surroundings {
        response_headers: &response_headers,
        root,
        limits: &server.limits,
        upstreams: &upstreams,
        denial: &denial,
    };
    let compiled = site::compile(&surroundings, &sources, cx);
    if cx.report.refused() {
        return None;
    }
    let edits_answers = edits_answers(&response_headers, &compiled.sites);
    let counts = cx.memory.counts.of(policy.limits());
    cx.memory.acme.tidy();
    let mut watch = cx.watch.clone();
    watch.sort();
    watch.dedup();
    Some(Snapshot {
        generation,
        server,
        admin,
        listeners,
        issuances: std::mem::take(&mut cx.issuances),
        challenges: Arc::clone(&cx.memory.acme.challenges),
        trust,
        geo,
        geo_log: root
            .table("geoip")
            .and_then(|geoip| geoip.bool("log"))
            .unwrap_or(false),
        policy,
        candidate: None,
        counts,
        share,
        sites: compiled.sites,
        key_sets: std::mem::take(&mut cx.key_sets),
        devices,
        revocation,
        forward_auths: std::mem::take(&mut cx.forward_auths),
        providers: std::mem::take(&mut cx.providers),
        upstreams,
        access_logs,
        denial,
        pages: Arc::new(std::mem::take(&mut cx.pages)),
        default_language: root.str("default_language").map(Arc::from),
        response_headers,
        edits_answers,
        stripped: compiled.stripped,
        watch,
    })
}

fn edits_answers(global: &HeaderEdits, sites: &[Site]) -> EditsAnswers {
    let routes = sites.iter().flat_map(|site| &site.routes);
    let routes = routes.map(|route| &route.response_headers);
    let mut all = sites
        .iter()
        .map(|site| &site.response_headers)
        .chain(routes);
    if global.is_empty() && all.all(HeaderEdits::is_empty) {
        EditsAnswers::Never
    } else {
        EditsAnswers::Somewhere
    }
}

/// A duration as written; nothing where it is absent, or reported already.
pub(crate) fn duration(table: &Table, key: &str) -> Option<Duration> {
    duration::parse(table.str(key)?).ok()
}

/// A size in bytes as written.
pub(crate) fn size(table: &Table, key: &str) -> Option<u64> {
    table.str(key)?.parse::<Size>().ok().map(|size| size.0)
}

/// A whole number as written.
pub(crate) fn number<N: TryFrom<i64>>(table: &Table, key: &str) -> Option<N> {
    N::try_from(table.int(key)?).ok()
}

/// A header's name, or a finding.
pub(crate) fn header_name(node: &Node, cx: &mut Context) -> Option<http::HeaderName> {
    let text = node.as_str()?;
    if let Ok(name) = http::HeaderName::try_from(text) {
        return Some(name);
    }
    let shown = cx.written(node.span, text);
    let message = format!("`{shown}` is no name of a header");
    cx.say(
        Diagnostic::error("bad-header-name", node.span, message)
            .help("a name has letters, digits and `-`"),
    );
    None
}
mod value;
mod window;
