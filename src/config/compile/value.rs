//! Single values of conditions: text to matcher, or a finding.

use http::Method;

use super::sets::code_of;
use crate::config::node::{Node, Span, Table, Value};
use crate::config::{Context, Diagnostic};
use crate::policy::claim::Presence;
use crate::policy::condition::Continents;
use crate::policy::pattern::{PathRegex, PathTest, Pattern};
use crate::policy::text::{REGEX_SIZE_MAX, TextPattern, TextTest};
use crate::value::country::Continent;
use crate::value::host::HostPattern;

/// The texts of a value, each with its place.
pub(super) fn texts(node: &Node) -> impl Iterator<Item = (&str, Span)> {
    node.many()
        .filter_map(|node| Some((node.as_str()?, node.span)))
}

/// A flag as a word.
pub(super) const fn presence(present: bool) -> Presence {
    if present {
        Presence::Present
    } else {
        Presence::Absent
    }
}

/// Continents.
pub(super) fn continents(node: &Node, cx: &mut Context) -> Continents {
    let mut codes = Vec::new();
    let mut unlisted = false;
    for (text, span) in texts(node) {
        match text {
            "unlisted" => unlisted = true,
            _ => codes.extend(code_of::<Continent>(text, "unknown-continent", span, cx)),
        }
    }
    Continents {
        codes: codes.into(),
        unlisted,
    }
}

/// A method, or a finding.
pub(super) fn method(text: &str, at: Span, cx: &mut Context) -> Option<Method> {
    let Ok(method) = Method::from_bytes(text.as_bytes()) else {
        let message = format!("`{text}` is no method");
        cx.error("bad-method", at, message);
        return None;
    };
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        let message =
            format!("methods are case-sensitive, and `{text}` is not written in capitals");
        let finding = Diagnostic::warning("method-case", at, message);
        cx.say(finding.help(format!("did you mean `{}`?", text.to_ascii_uppercase())));
    }
    Some(method)
}

/// A pattern of hosts, or a finding.
pub(super) fn host(text: &str, at: Span, cx: &mut Context) -> Option<HostPattern> {
    match text.parse() {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let message = format!("`{text}` names no host: {error}");
            let finding = Diagnostic::error("bad-host", at, message);
            cx.say(if text.is_ascii() {
                finding.help("write a name without scheme and port, `*.example.com`, or `*`")
            } else {
                finding.help("write the name in its ASCII form (`xn--…`)")
            });
            None
        }
    }
}

/// A pattern of paths, or a finding.
pub(super) fn pattern(text: &str, at: Span, cx: &mut Context) -> Option<Pattern> {
    match Pattern::read(text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let message = format!("`{text}` is no path pattern: {error}");
            let finding = Diagnostic::error("bad-pattern", at, message);
            cx.say(finding.help(
                "write segments, `*` for one of them, and `/**` at the end for everything below",
            ));
            None
        }
    }
}

/// Patterns and regular expressions of paths.
pub(super) fn path(node: &Node, cx: &mut Context) -> PathTest {
    let mut test = PathTest::default();
    for node in node.many() {
        if let Some(text) = node.as_str() {
            test.patterns.extend(pattern(text, node.span, cx));
        } else if let Some(regex) = node.as_table().and_then(|table| table.get("regex")) {
            let text = regex.as_str().unwrap_or_default();
            test.regexes.extend(regex_or_finding(
                PathRegex::read(text),
                text,
                regex.span,
                cx,
            ));
        }
    }
    test
}

/// What a header, query parameter or cookie must be.
pub(super) fn field(node: &Node, cx: &mut Context) -> TextTest {
    let mut patterns = Vec::new();
    for node in node.many() {
        if let Some(text) = node.as_str() {
            patterns.push(TextPattern::Is(text.into()));
            continue;
        }
        let Some(table) = node.as_table() else {
            continue;
        };
        if let Some(present) = table.bool("present") {
            return TextTest::Present(presence(present));
        }
        if let Some(glob) = table.get("glob") {
            let text = glob.as_str().unwrap_or_default();
            match globset::Glob::new(text) {
                Ok(glob) => patterns.push(TextPattern::Glob(glob.compile_matcher())),
                Err(error) => {
                    let message = format!("`{text}` is no glob: {}", error.kind());
                    cx.error("bad-glob", glob.span, message);
                }
            }
        }
        if let Some(regex) = table.get("regex") {
            let text = regex.as_str().unwrap_or_default();
            let read = regex::RegexBuilder::new(text)
                .size_limit(REGEX_SIZE_MAX)
                .build();
            patterns.extend(regex_or_finding(read, text, regex.span, cx).map(TextPattern::Regex));
        }
        if table.entries.is_empty() {
            let finding = Diagnostic::error("empty-condition", table.span, "this asks for nothing");
            cx.say(finding.help("write `present`, `glob` or `regex`"));
        }
    }
    TextTest::AnyOf(patterns.into())
}

fn regex_or_finding<R>(
    read: Result<R, regex::Error>,
    text: &str,
    at: Span,
    cx: &mut Context,
) -> Option<R> {
    let why = match read {
        Ok(regex) => return Some(regex),
        Err(regex::Error::CompiledTooBig(_)) => "it is too large".to_owned(),
        Err(error) => {
            let shown = error.to_string();
            let last = shown.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        }
    };
    let message = format!("`{text}` is no regular expression: {why}");
    cx.error("bad-regex", at, message);
    None
}

/// A number, whole or not.
pub(super) fn number(table: &Table, key: &str) -> Option<f64> {
    match &table.get(key)?.value {
        // A claim is JSON, whose numbers are of this type.
        Value::Integer(number) => number.to_string().parse().ok(),
        Value::Float(number) => Some(*number),
        Value::String(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::List(_)
        | Value::Table(_) => None,
    }
}
