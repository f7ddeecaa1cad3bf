//! `redirect` and `respond`: answers that need no upstream.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use crate::config::nearest::nearest;
use crate::config::node::{Node, Span, Table};
use crate::config::source::plain;
use crate::config::{Context, Diagnostic, defaults};
use crate::snapshot::{Answer, Part, Template};

/// Compiles `redirect`.
pub(super) fn redirect(table: &Table, cx: &mut Context) -> Option<Answer> {
    let node = table.get("to")?;
    let to = template(node.as_str()?, node.span, cx)?;
    if let Err((why, help)) = leads_somewhere(&to) {
        let finding = Diagnostic::error("bad-url", node.span, why);
        cx.say(finding.help(help));
        return None;
    }
    Some(Answer::Redirect {
        status: status(table).unwrap_or(defaults::REDIRECT),
        to,
    })
}

/// Compiles `respond`.
pub(super) fn respond(table: &Table, cx: &mut Context) -> Option<Answer> {
    if let (Some(_), Some(file)) = (table.entry("body"), table.entry("file")) {
        let message = "a fixed answer has a `body` or a `file`, not both";
        cx.error("two-bodies", file.key_span, message);
        return None;
    }
    let status = status(table)?;
    let (body, guessed) = match (table.get("body"), table.get("file")) {
        (Some(node), _) => {
            let text = node.as_str()?.to_owned();
            (Bytes::from(text), Some("text/plain; charset=utf-8"))
        }
        (None, Some(node)) => {
            let written = node.as_str()?;
            (file(node, written, cx)?, content_type_of(written))
        }
        (None, None) => (Bytes::new(), None),
    };
    if !body.is_empty() && matches!(status.as_u16(), 204 | 205 | 304) {
        let span = table.span;
        let message = format!("an answer of status {} has no body", status.as_u16());
        cx.error("body-not-allowed", span, message);
    }
    let content_type = match table.get("type") {
        Some(node) => content_type(node, cx),
        None => guessed.map(HeaderValue::from_static),
    };
    Some(Answer::Fixed {
        status,
        content_type,
        body,
    })
}

fn status(table: &Table) -> Option<StatusCode> {
    let number = u16::try_from(table.int("status")?).ok()?;
    StatusCode::from_u16(number).ok()
}

fn content_type(node: &Node, cx: &mut Context) -> Option<HeaderValue> {
    let text = node.as_str()?;
    let value = HeaderValue::from_str(text)
        .ok()
        .filter(|_| text.contains('/'));
    if value.is_none() {
        let shown = cx.written(node.span, text);
        let message = format!("`{shown}` is no content type");
        let finding = Diagnostic::error("invalid-value", node.span, message);
        cx.say(finding.help("write one such as `text/html; charset=utf-8`"));
    }
    value
}

fn file(node: &Node, written: &str, cx: &mut Context) -> Option<Bytes> {
    let path = cx.path(node.span, written);
    cx.watch.push(path.clone());
    let why = match std::fs::metadata(&path) {
        Ok(found) if found.len() > LARGEST => "it is larger than 8 MiB".to_owned(),
        Ok(_) => match std::fs::read(&path) {
            Ok(content) => return Some(Bytes::from(content)),
            Err(error) => plain(&error),
        },
        Err(error) => plain(&error),
    };
    let message = format!("`{written}` cannot be read: {why}");
    cx.error("unreadable-file", node.span, message);
    None
}

/// The content type that a file's name says.
fn content_type_of(name: &str) -> Option<&'static str> {
    let (_, extension) = name.rsplit_once('.')?;
    let extension = extension.to_ascii_lowercase();
    TYPES
        .iter()
        .find(|(known, _)| *known == extension)
        .map(|(_, kind)| *kind)
}

/// A URL with its substitutions.
fn template(text: &str, span: Span, cx: &mut Context) -> Option<Template> {
    let template = split(text, span, cx)?;
    let literals = template.0.iter().filter_map(|part| {
        if let Part::Text(text) = part {
            Some(text)
        } else {
            None
        }
    });
    let mut bytes = literals.flat_map(|text| text.bytes());
    if bytes.any(|byte| !byte.is_ascii_graphic()) {
        let message = "a URL has visible ASCII characters only";
        let finding = Diagnostic::error("bad-url", span, message);
        cx.say(finding.help("write others as escapes, such as `%20` for a space"));
        return None;
    }
    Some(template)
}

/// Splits a text at its substitutions. `{{` and `}}` stand for the braces themselves.
pub(super) fn split(text: &str, span: Span, cx: &mut Context) -> Option<Template> {
    let mut parts: Vec<Part> = Vec::new();
    let mut literal = String::new();
    let mut good = true;
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, after) = rest.split_at_checked(at)?;
        literal.push_str(before);
        if let Some(after) = after.strip_prefix("{{") {
            literal.push('{');
            rest = after;
        } else if let Some(after) = after.strip_prefix("}}") {
            literal.push('}');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('{').and_then(|t| t.split_once('}'))
        {
            match SUBSTITUTIONS.iter().find(|(known, _)| *known == name) {
                Some((_, part)) => {
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(part.clone());
                }
                None => {
                    good = false;
                    unknown_substitution(name, span, cx);
                }
            }
            rest = after;
        } else {
            let message = "a brace stands alone";
            let finding = Diagnostic::error("unknown-substitution", span, message);
            cx.say(finding.help("write `{{` or `}}` for the brace itself"));
            return None;
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    good.then_some(Template(parts))
}

fn unknown_substitution(name: &str, span: Span, cx: &mut Context) {
    let message = format!("there is no substitution `{{{name}}}`");
    let finding = Diagnostic::error("unknown-substitution", span, message);
    let names = SUBSTITUTIONS.iter().map(|(known, _)| *known);
    cx.say(match nearest(name, names.clone()) {
        Some(near) => finding.help(format!("did you mean `{{{near}}}`?")),
        None => {
            let all: Vec<_> = names.map(|name| format!("`{{{name}}}`")).collect();
            finding.help(format!("there are {}", all.join(" ")))
        }
    });
}

/// What is wrong with a target, and what to write instead.
type BadTarget = (&'static str, &'static str);

/// Holds that the operator, never the client, decides which host a redirect leads to: what the client sent may only stand
/// where the target has already left its host behind. `{path}` begins with `/` and `{query}` with `?`, so that they end a host.
fn leads_somewhere(to: &Template) -> Result<(), BadTarget> {
    let mut parts = to.0.iter();
    let first = match parts.next() {
        Some(Part::Text(text)) => text.as_str(),
        Some(Part::Scheme) => match parts.next() {
            Some(Part::Text(text)) if text.starts_with("://") => text.as_str(),
            _ => return Err(NO_HOST),
        },
        _ => return Err(NO_HOST),
    };
    if let Some(path) = first.strip_prefix('/') {
        // A second slash would make a host of what follows; so would a backslash in browsers.
        let next = path.chars().next();
        let open = next.is_none() && parts.next().is_some();
        return if open || matches!(next, Some('/' | '\\')) {
            Err(OPEN)
        } else {
            Ok(())
        };
    }
    let host = match first.split_once("://") {
        Some(("" | "http" | "https", host)) => host,
        Some(_) | None => return Err(NO_HOST),
    };
    if host.contains(['/', '?', '#']) {
        return if host.starts_with(['/', '?', '#']) {
            Err(NO_HOST)
        } else {
            Ok(())
        };
    }
    let mut empty = host.is_empty();
    for part in parts {
        match part {
            Part::Host => empty = false,
            Part::Text(text) if text.starts_with(['/', '?', '#']) => break,
            Part::Path | Part::Query => break,
            Part::Text(text) => {
                empty = false;
                if text.contains(['/', '?', '#']) {
                    break;
                }
            }
            Part::Tail | Part::Client | Part::Scheme => return Err(OPEN),
        }
    }
    if empty { Err(NO_HOST) } else { Ok(()) }
}

const NO_HOST: BadTarget = (
    "a redirect needs a target with a scheme and a host, or a path",
    "write one such as `https://example.com{path}{query}`, `https://{host}{path}{query}` or `/new`",
);

const OPEN: BadTarget = (
    "a client could choose the host of this redirect",
    "write a `/` between the host and the substitution, or the whole host before it",
);

const SUBSTITUTIONS: &[(&str, Part)] = &[
    ("scheme", Part::Scheme),
    ("host", Part::Host),
    ("client", Part::Client),
    ("path", Part::Path),
    ("query", Part::Query),
    ("tail", Part::Tail),
];

const TYPES: &[(&str, &str)] = &[
    ("css", "text/css; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("webmanifest", "application/manifest+json"),
    ("xml", "application/xml"),
];

/// Bytes of a fixed answer: it stays in memory.
const LARGEST: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]
    use super::*;

    #[test]
    fn a_client_never_chooses_the_host_of_a_redirect() {
        for (to, good) in [
            ("", false),                          // nowhere
            ("{path}", false),                    // `//evil.example` is a host
            ("/{tail}", false),                   // and so is `/` + `/evil.example`
            ("//{host}/", false),                 // a target without a scheme
            ("/\\evil.example", false),           // browsers read `\` as `/`
            ("https://example.com{tail}", false), // `.evil.example` makes it another host
            ("https://{tail}", false),
            ("https://{client}/", false),
            ("{scheme}{path}", false),
            ("https://{path}", false), // no host
            ("https:///x", false),
            ("javascript://x/%0aalert(1)", false),
            ("example.com/x", false),           // a relative path
            ("https://example.com/a b", false), // a space
            ("https://example.com/{", false),
            ("https://example.com{pathh}", false),
            ("/new", true),
            ("/", true),
            ("/new{path}", true),
            ("https://example.com", true),
            ("https://example.com{path}{query}", true),
            ("https://example.com?from={path}", true),
            ("https://example.com/{tail}", true),
            ("https://www.{host}{path}", true),
            ("{scheme}://{host}{path}", true),
            ("https://{host}:8443{path}", true),
            ("https://example.com/{{x}}", true),
        ] {
            let mut cx = Context::default();
            let template = template(to, Span::default(), &mut cx);
            let got = template.is_some_and(|template| leads_somewhere(&template).is_ok());
            assert_eq!(got, good, "{to}");
        }
    }

    #[test]
    fn templates_are_split_at_load() {
        let mut cx = Context::default();
        let got = template(
            "{scheme}://{host}/{{{tail}}}{query}",
            Span::default(),
            &mut cx,
        );
        assert_eq!(
            got.unwrap().0,
            [
                Part::Scheme,
                Part::Text("://".to_owned()),
                Part::Host,
                Part::Text("/{".to_owned()),
                Part::Tail,
                Part::Text("}".to_owned()),
                Part::Query,
            ]
        );
    }
}
