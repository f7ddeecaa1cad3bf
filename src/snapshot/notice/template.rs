//! A page's text with its variables: Jinja syntax, every value escaped for HTML, nothing else reachable.
//!
//! ```text
//! <h1>{{ title }}</h1> <p>{{ message }}</p> {% if contact %}<p>Ask {{ contact }}</p>{% endif %}
//! ```
//!
//! A page of text, `{{ variable }}` and `{% if variable %} … {% else %} … {% endif %}` is split once and written out
//! in one pass; anything richer (loops, filters, comparisons) is rendered by minijinja. Both give the same bytes: a page takes
//! the short way only after both have rendered samples alike. There is no `include`: a page reads no file.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use minijinja::{AutoEscape, Environment, context};

/// A page that compiled.
#[derive(Debug, Clone)]
pub struct Template(Engine);

#[derive(Debug, Clone)]
enum Engine {
    /// Text and variables only.
    Pieces(Arc<[Piece]>),
    /// The whole language.
    Jinja(Arc<Environment<'static>>),
}

/// Why a page did not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadTemplate {
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// The line, from 1, where it is known.
    pub line: Option<u32>,
    /// What was perhaps meant.
    pub help: Option<String>,
}

/// The variables of a page; an absent one is empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct Values<'a> {
    /// The status code.
    pub status: u16,
    /// A short heading.
    pub title: &'a str,
    /// What happened, for people.
    pub message: &'a str,
    /// What the person can do.
    pub advice: &'a str,
    /// The public reason code.
    pub reason: &'a str,
    /// The id of the request, as in the log.
    pub request_id: &'a str,
    /// `2026-11-22 10:11:12 UTC`.
    pub time: &'a str,
    /// Whom to ask.
    pub contact: &'a str,
    /// `contact` as a link, where it is an address.
    pub contact_url: &'a str,
    /// Where a better plan is sold.
    pub upgrade_url: &'a str,
    /// The kind of answer in a word: `refused`, `missing`, `wait` or `fault`.
    pub tone: &'a str,
    /// Path data of a 24 × 24 line drawing that fits the tone.
    pub icon: &'a str,
}

/// The names of the variables, as a page writes them.
pub const VARIABLES: [&str; 12] = [
    "status",
    "title",
    "message",
    "advice",
    "reason",
    "request_id",
    "time",
    "contact",
    "contact_url",
    "upgrade_url",
    "tone",
    "icon",
];

impl Template {
    /// Compiles a page.
    ///
    /// # Errors
    /// Where the syntax is wrong, a variable is unknown, or a filter or function fails on sample values.
    pub fn parse(source: &str) -> Result<Self, BadTemplate> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_recursion_limit(64);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| BadTemplate::from_jinja(&error))?;
        unknown_variable(&environment, source)?;
        let jinja = Self(Engine::Jinja(Arc::new(environment)));
        let mut alike = true;
        let quick = pieces(source).map(|pieces| Self(Engine::Pieces(pieces.into())));
        for sample in &SAMPLES {
            let rendered = jinja
                .render(sample)
                .map_err(|error| BadTemplate::from_jinja(&error))?;
            alike = alike
                && quick
                    .as_ref()
                    .is_some_and(|quick| quick.render(sample).is_ok_and(|text| text == rendered));
        }
        Ok(quick.filter(|_| alike).unwrap_or(jinja))
    }

    /// The page with its values, each escaped.
    ///
    /// # Errors
    /// Where a filter or function of the page fails on these values; never for a page of text and variables.
    pub fn render(&self, values: &Values<'_>) -> Result<String, minijinja::Error> {
        match &self.0 {
            Engine::Pieces(pieces) => Ok(write(pieces, values)),
            Engine::Jinja(environment) => environment.get_template(NAME)?.render(context! {
                status => values.status,
                title => values.title,
                message => values.message,
                advice => values.advice,
                reason => values.reason,
                request_id => values.request_id,
                time => values.time,
                contact => values.contact,
                contact_url => values.contact_url,
                upgrade_url => values.upgrade_url,
                tone => values.tone,
                icon => values.icon,
            }),
        }
    }
}

impl BadTemplate {
    fn from_jinja(error: &minijinja::Error) -> Self {
        let message = error.detail().map_or_else(
            || error.kind().to_string(),
            |detail| detail.replace(['\n', '\r'], " "),
        );
        Self {
            message,
            line: error.line().and_then(|line| u32::try_from(line).ok()),
            help: None,
        }
    }
}

/// A piece of a plain page. Jumps only go forward.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Show(Variable),
    /// Go on at the index where the variable is empty.
    SkipIfEmpty(Variable, usize),
    Jump(usize),
}

/// A position in [`VARIABLES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Variable(usize);

impl Variable {
    fn named(name: &str) -> Option<Self> {
        VARIABLES.iter().position(|known| *known == name).map(Self)
    }

    /// The text; none for the status, which is a number.
    fn text<'a>(self, values: &Values<'a>) -> Option<&'a str> {
        let texts = [
            values.title,
            values.message,
            values.advice,
            values.reason,
            values.request_id,
            values.time,
            values.contact,
            values.contact_url,
            values.upgrade_url,
            values.tone,
            values.icon,
        ];
        texts.get(self.0.checked_sub(1)?).copied()
    }
}

fn write(pieces: &[Piece], values: &Values<'_>) -> String {
    let text = |piece: &Piece| match piece {
        Piece::Text(text) => text.len(),
        Piece::Show(variable) => variable.text(values).map_or(3, str::len),
        Piece::SkipIfEmpty(..) | Piece::Jump(_) => 0,
    };
    let mut out = String::with_capacity(pieces.iter().map(text).sum::<usize>() + 64);
    let mut at = 0;
    while let Some(piece) = pieces.get(at) {
        at += 1;
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Show(variable) => match variable.text(values) {
                Some(text) => escape(text, &mut out),
                // Writing to a String cannot fail.
                None => drop(write!(out, "{}", values.status)),
            },
            Piece::SkipIfEmpty(variable, target) => {
                if variable.text(values).is_some_and(str::is_empty) {
                    at = *target;
                }
            }
            Piece::Jump(target) => at = *target,
        }
    }
    out
}

/// Escapes as minijinja does, so that both engines write the same bytes; safe in text and in quoted attributes.
fn escape(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find(['<', '>', '&', '"', '\'', '/']) {
        let (clean, tail) = rest.split_at(at);
        let mut tail = tail.chars();
        out.push_str(clean);
        out.push_str(match tail.next() {
            Some('<') => "&lt;",
            Some('>') => "&gt;",
            Some('&') => "&amp;",
            Some('"') => "&quot;",
            Some('\'') => "&#x27;",
            _ => "&#x2f;",
        });
        rest = tail.as_str();
    }
    out.push_str(rest);
}

/// Splits a page of text, variables and simple conditions; `None` for anything richer.
fn pieces(source: &str) -> Option<Vec<Piece>> {
    // Jinja drops one newline at the end of a template.
    let source = source.strip_suffix('\n').unwrap_or(source);
    let mut rest = source.strip_suffix('\r').unwrap_or(source);
    let mut pieces = Vec::new();
    let mut open = Vec::new();
    while let Some(at) = rest.find('{') {
        let (text, tail) = rest.split_at(at);
        let known = ["{{", "{%", "{#"]
            .iter()
            .find_map(|mark| Some((*mark, tail.strip_prefix(mark)?)));
        let Some((mark, inside)) = known else {
            let (brace, after) = tail.split_at(1);
            push(&mut pieces, text);
            push(&mut pieces, brace);
            rest = after;
            continue;
        };
        push(&mut pieces, text);
        let close = match mark {
            "{{" => "}}",
            "{%" => "%}",
            _ => return None,
        };
        let (inside, after) = inside.split_once(close)?;
        rest = after;
        if mark == "{{" {
            pieces.push(Piece::Show(Variable::named(inside.trim())?));
            continue;
        }
        let mut words = inside.split_whitespace();
        match (words.next()?, words.next(), words.next()) {
            ("if", Some(name), None) => {
                open.push(pieces.len());
                pieces.push(Piece::SkipIfEmpty(Variable::named(name)?, 0));
            }
            ("else", None, None) => {
                let start = open.pop()?;
                open.push(pieces.len());
                pieces.push(Piece::Jump(0));
                let here = pieces.len();
                aim(pieces.get_mut(start)?, here)?;
            }
            ("endif", None, None) => {
                let here = pieces.len();
                aim(pieces.get_mut(open.pop()?)?, here)?;
            }
            _ => return None,
        }
    }
    push(&mut pieces, rest);
    open.is_empty().then_some(pieces)
}

fn push(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
}

fn aim(piece: &mut Piece, at: usize) -> Option<()> {
    match piece {
        Piece::SkipIfEmpty(_, target) | Piece::Jump(target) => {
            *target = at;
            Some(())
        }
        Piece::Text(_) | Piece::Show(_) => None,
    }
}

/// A misspelt variable would be an empty place on a page that nobody looks at until it matters.
fn unknown_variable(environment: &Environment<'_>, source: &str) -> Result<(), BadTemplate> {
    let Ok(template) = environment.get_template(NAME) else {
        return Ok(());
    };
    let used: BTreeSet<String> = template.undeclared_variables(false).into_iter().collect();
    let known = |name: &String| {
        VARIABLES.contains(&name.as_str())
            || environment.globals().any(|(global, _)| global == name)
    };
    let Some(name) = used.into_iter().find(|name| !known(name)) else {
        return Ok(());
    };
    let line = source
        .lines()
        .position(|line| line.contains('{') && line.contains(&name))
        .and_then(|line| u32::try_from(line + 1).ok());
    Err(BadTemplate {
        message: format!("unknown variable `{name}`"),
        line,
        help: Some(format!("the variables are {}", VARIABLES.join(", "))),
    })
}

const NAME: &str = "page";

/// Values that try every branch of a simple condition, and characters that must be escaped.
const SAMPLES: [Values<'_>; 2] = [
    Values {
        status: 403,
        title: "<Title>",
        message: "it's \"so\" & <b>so</b>",
        advice: "ask/again",
        reason: "forbidden",
        request_id: "0",
        time: "2026-11-22 10:11:12 UTC",
        contact: "help@example.com",
        contact_url: "mailto:help@example.com",
        upgrade_url: "https://example.com/plans",
        tone: "refused",
        icon: "M1 1h2",
    },
    Values {
        status: 503,
        title: "",
        message: "",
        advice: "",
        reason: "",
        request_id: "",
        time: "",
        contact: "",
        contact_url: "",
        upgrade_url: "",
        tone: "",
        icon: "",
    },
];

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

    const VALUES: Values<'_> = Values {
        status: 451,
        title: "T",
        message: "<script>alert('1')</script>",
        request_id: "a\"b",
        contact: "",
        ..SAMPLES[1]
    };

    #[test]
    fn pages_render_and_simple_ones_take_the_short_way() {
        for (source, want, short, why) in [
            (
                "plain\n",
                "plain",
                true,
                "one newline at the end is dropped",
            ),
            ("a\n\n", "a\n", true, "only one"),
            ("{{ status }}", "451", true, "a number"),
            (
                "{{message}}",
                "&lt;script&gt;alert(&#x27;1&#x27;)&lt;&#x2f;script&gt;",
                true,
                "escaped",
            ),
            (
                "<i title=\"{{ request_id }}\">",
                "<i title=\"a&quot;b\">",
                true,
                "escaped in an attribute",
            ),
            (
                "{% if contact %}yes{% else %}no{% endif %}",
                "no",
                true,
                "an empty value is false",
            ),
            (
                "{% if title %}{% if contact %}1{% endif %}2{% endif %}3",
                "23",
                true,
                "nested",
            ),
            (
                "body { margin: 0 } {",
                "body { margin: 0 } {",
                true,
                "braces of a style sheet",
            ),
            ("é{{ title }}é", "éTé", true, "characters of two bytes"),
            ("{{ title|lower }}", "t", false, "a filter"),
            (
                "{% if status == 451 %}law{% endif %}",
                "law",
                false,
                "a comparison",
            ),
            ("a {{- title }}", "aT", false, "white space control"),
            ("{# note #}x", "x", false, "a comment"),
            (
                "{% for i in range(2) %}{{ i }}{% endfor %}",
                "01",
                false,
                "a loop",
            ),
            (
                "{{ message|safe }}",
                "<script>alert('1')</script>",
                false,
                "the operator asked for it",
            ),
        ] {
            let template = Template::parse(source).expect(source);
            assert_eq!(template.render(&VALUES).unwrap(), want, "{why}");
            assert_eq!(matches!(template.0, Engine::Pieces(_)), short, "{why}");
        }
    }

    #[test]
    fn broken_pages_are_refused_with_their_line() {
        for (source, line, message, why) in [
            (
                "a\n{{ title",
                Some(2),
                "unexpected end of input",
                "an open variable",
            ),
            (
                "{% if title %}x",
                Some(1),
                "unexpected end of input",
                "an open condition",
            ),
            (
                "a\nb\n{{ titel }}",
                Some(3),
                "unknown variable `titel`",
                "a misspelt variable",
            ),
            ("{{ title|shout }}", Some(1), "shout", "an unknown filter"),
            (
                "{% include 'x' %}",
                Some(1),
                "include",
                "a page reads no other file",
            ),
            ("{% endif %}", Some(1), "endif", "an end without a start"),
        ] {
            let bad = Template::parse(source).expect_err(why);
            assert_eq!(bad.line, line, "{why}: {bad}");
            assert!(bad.message.contains(message), "{why}: {bad}");
        }
    }
}
