//! `strip_prefix`, `add_prefix`, `rewrite_location` and `host_header` of a route.
//!
//! Codes: `unused-key`, `invalid-value`.

use http::HeaderValue;
use http::uri::Authority;

use crate::config::node::Table;
use crate::config::{Context, Diagnostic};
use crate::snapshot::Answer;
use crate::snapshot::headers::{Location, Rewrite};
use crate::value::path::Target;

/// Compiles the rewriting of a route; nothing where targets go up as they come.
pub(super) fn compile(route: &Table, answer: &Answer, cx: &mut Context) -> Option<Rewrite> {
    for key in ["strip_prefix", "add_prefix", "rewrite_location"] {
        upstream_only(route, key, answer, cx);
    }
    let mut rewrite = Rewrite::default();
    if route.bool("strip_prefix") == Some(true) {
        let pattern = route.str("path").unwrap_or_default();
        let segments = pattern.split('/').skip(1);
        let literal = segments.take_while(|segment| !segment.starts_with('*'));
        let prefix: String = literal
            .filter(|segment| !segment.is_empty())
            .flat_map(|segment| ["/", segment])
            .collect();
        match route.entry("strip_prefix") {
            Some(entry) if prefix.is_empty() => {
                let message =
                    "`strip_prefix` has no use here: the path begins with no literal segment";
                cx.say(Diagnostic::warning("unused-key", entry.key_span, message));
            }
            Some(_) | None => rewrite.strip = Some(prefix.into()),
        }
    }
    if let Some(node) = route.get("add_prefix") {
        let text = node.as_str()?;
        let path = Target::read(text).is_ok_and(|target| target.query().is_none());
        if path && text.starts_with('/') && !text.contains(['?', '#']) && text.is_ascii() {
            let text = text.trim_end_matches('/');
            rewrite.add = (!text.is_empty()).then(|| text.into());
        } else {
            let shown = cx.written(node.span, text).to_owned();
            let message = format!("`{shown}` cannot stand before a target");
            let finding = Diagnostic::error("invalid-value", node.span, message);
            cx.say(finding.help("write a path such as `/v2`, without `.` and `..`"));
        }
    }
    let written = route.bool("rewrite_location");
    if written.unwrap_or(rewrite.strip.is_some()) {
        rewrite.location = Location::Rewrite;
    }
    (rewrite != Rewrite::default()).then_some(rewrite)
}

/// Compiles `host_header`.
pub(super) fn host_header(route: &Table, answer: &Answer, cx: &mut Context) -> Option<HeaderValue> {
    upstream_only(route, "host_header", answer, cx);
    let node = route.get("host_header")?;
    let text = node.as_str()?;
    let good = text.parse::<Authority>().is_ok() && !text.contains('@');
    let value = HeaderValue::from_str(text).ok().filter(|_| good);
    if value.is_none() {
        let shown = cx.written(node.span, text).to_owned();
        let message = format!("`{shown}` cannot be a `Host`");
        let finding = Diagnostic::error("invalid-value", node.span, message);
        cx.say(finding.help("write a name, and a port where there is one: `app.internal:8080`"));
    }
    value
}

fn upstream_only(route: &Table, key: &str, answer: &Answer, cx: &mut Context) {
    let goes_up = matches!(answer, Answer::Upstream(_));
    if let Some(entry) = route.entry(key).filter(|_| !goes_up) {
        let message = format!("`{key}` has no use here: this route has no upstream");
        cx.say(Diagnostic::warning("unused-key", entry.key_span, message));
    }
}
