//! `compress` of a site.
//!
//! Codes: `bad-media-type`.

use crate::config::node::{Node, Table};
use crate::config::{Context, Diagnostic};
use crate::snapshot::compress::Compress;

/// Compiles what a site compresses.
pub(super) fn compile(table: &Table, cx: &mut Context) -> Compress {
    let Some(node) = table.get("compress") else {
        return Compress::Never;
    };
    if node.as_bool() == Some(true) {
        return Compress::Usual;
    }
    let types = node.as_list().unwrap_or_default();
    if types.is_empty() {
        return Compress::Never;
    }
    Compress::Listed(types.iter().filter_map(|item| media(item, cx)).collect())
}

fn media(node: &Node, cx: &mut Context) -> Option<Box<str>> {
    let text = node.as_str()?;
    if is_media(text) {
        return Some(text.to_ascii_lowercase().into());
    }
    let shown = cx.written(node.span, text);
    let message = format!("`{shown}` is no content type");
    cx.say(
        Diagnostic::error("bad-media-type", node.span, message)
            .help("write `type/subtype`, such as `text/html`, or `type/*`"),
    );
    None
}

/// `type/subtype` or `type/*`, without parameters (RFC 9110 §8.3.1).
fn is_media(text: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    text.split_once('/')
        .is_some_and(|(kind, subtype)| token(kind) && (token(subtype) || subtype == "*"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node::{Span, Value};

    #[test]
    fn bad_media_type() {
        for (text, want, why) in [
            ("text/html", Some("text/html"), "a type"),
            ("Application/LD+JSON", Some("application/ld+json"), "case"),
            ("text/*", Some("text/*"), "all of a kind"),
            ("text/html; charset=utf-8", None, "parameters"),
            ("*/*", None, "everything: most of it would only cost time"),
            ("html", None, "no kind"),
            ("text/", None, "nothing behind the slash"),
            ("a/b/c", None, "two slashes"),
        ] {
            let mut cx = Context::default();
            let node = Node {
                value: Value::String(text.to_owned()),
                span: Span::default(),
            };
            assert_eq!(media(&node, &mut cx).as_deref(), want, "{text}: {why}");
            let codes: Vec<_> = cx.report.diagnostics.iter().map(|d| d.code).collect();
            let refused: &[&str] = if want.is_none() {
                &["bad-media-type"]
            } else {
                &[]
            };
            assert_eq!(codes, refused, "{text}");
        }
    }
}
