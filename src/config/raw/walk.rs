//! Holds a tree against the key tables and reports everything that does not fit, all at once.
//!
//! Codes: `unknown-key`, `missing-key`, `wrong-type`, `out-of-range`, `invalid-value`, `not-yet`, `not-in-this-build`. What a value means is not
//! judged here; a compile step may rely on the types once no finding of this walk stands against a value.

use std::time::Duration;

use super::{Built, Key, Kind, Presence, ROOT, Section, Word, Zero};
use crate::config::nearest::nearest;
use crate::config::node::{Entry, Node, Table, Value};
use crate::config::{Context, Diagnostic, Span};
use crate::value::duration::{self, Rate};
use crate::value::size::Size;

/// Checks a whole configuration.
pub fn check(root: &Table, cx: &mut Context) {
    section(root, &ROOT, cx);
}

fn section(table: &Table, section: &Section, cx: &mut Context) {
    for entry in &table.entries {
        match section.key(&entry.key) {
            Some(key) => known(entry, key, section, cx),
            None => unknown(entry, section, cx),
        }
    }
    for key in section.keys() {
        if key.presence == Presence::Required && table.get(key.name).is_none() {
            let message = format!("{} needs `{}`", section.quoted(), key.name);
            let finding = Diagnostic::error("missing-key", table.span, message);
            cx.say(finding.help(key.about));
        }
    }
}

fn known(entry: &Entry, key: &Key, section: &Section, cx: &mut Context) {
    let what = format!("`{}` in {}", key.name, section.quoted());
    if !key.built.works() {
        cx.say(missing(&what, key.built, entry.key_span));
        return;
    }
    value(&entry.key, &entry.node, &key.kind, cx);
}

fn unknown(entry: &Entry, section: &Section, cx: &mut Context) {
    let message = if section.id == ROOT.id {
        format!("there is no table or key `{}`", entry.key)
    } else {
        format!("{} has no key `{}`", section.quoted(), entry.key)
    };
    let finding = Diagnostic::error("unknown-key", entry.key_span, message);
    let finding = match nearest(&entry.key, section.keys().map(|key| key.name)) {
        Some(name) => finding.help(format!("did you mean `{name}`?")),
        None => finding,
    };
    cx.say(finding);
}

/// Checks one value of the key `name`.
pub fn value(name: &str, node: &Node, kind: &Kind, cx: &mut Context) {
    part(name, node, kind, kind, cx);
}

/// Checks a value against one of the alternatives of `whole`, which messages describe.
fn part(name: &str, node: &Node, kind: &Kind, whole: &Kind, cx: &mut Context) {
    match (kind, &node.value) {
        (Kind::Text | Kind::File, Value::String(_))
        | (Kind::Boolean, Value::Boolean(_))
        | (Kind::Anything, _) => {}
        (Kind::Word(words), Value::String(text)) => word(name, node, text, words, whole, cx),
        (Kind::WordOr(words, other), Value::String(text)) => {
            match words.iter().find(|word| word.is(text)) {
                Some(word) => built(name, node, word, cx),
                None => value(name, node, other, cx),
            }
        }
        (Kind::WordOr(_, other), _) => value(name, node, other, cx),
        (Kind::Integer(least, most), Value::Integer(number)) => {
            if number < least || number > most {
                let message = match number {
                    // What the file says is larger still.
                    &i64::MAX => format!("`{name}` takes {}", kind.describe()),
                    _ => format!("`{name}` takes {}, not `{number}`", kind.describe()),
                };
                cx.error("out-of-range", node.span, message);
            }
        }
        (Kind::Number(numbers), Value::Integer(number)) => {
            if !numbers.contains(number) {
                let message = format!("`{name}` takes {}, not `{number}`", whole.describe());
                cx.error("invalid-value", node.span, message);
            }
        }
        (Kind::Duration(zero), Value::String(text)) => match duration::parse(text) {
            Ok(long) if long > LONGEST => {
                let message = format!(
                    "`{name}` takes a duration up to {}",
                    duration::show(LONGEST)
                );
                cx.error("out-of-range", node.span, message);
            }
            Ok(long) if long.is_zero() && *zero == Zero::Refused => {
                let message = format!("`{name}` cannot be zero");
                cx.error("out-of-range", node.span, message);
            }
            Ok(_) => {}
            Err(error) => invalid(name, node, &error, cx),
        },
        (Kind::Size(least, most), Value::String(text)) => match text.parse::<Size>() {
            Ok(Size(bytes)) if bytes < *least || bytes > *most => {
                let message = format!(
                    "`{name}` takes a size from {} to {}, not `{text}`",
                    Size(*least),
                    Size(*most)
                );
                cx.error("out-of-range", node.span, message);
            }
            Ok(_) => {}
            Err(error) => invalid(name, node, &error, cx),
        },
        (Kind::Rate, Value::String(text)) => {
            if let Err(error) = text.parse::<Rate>() {
                invalid(name, node, &error, cx);
            }
        }
        (Kind::Percent, Value::String(text)) => {
            let number = text
                .strip_suffix('%')
                .and_then(|text| text.parse::<u8>().ok());
            if number.is_none_or(|number| number > 100) {
                invalid(name, node, &"a percentage is `0%` to `100%`", cx);
            }
        }
        (Kind::Date, Value::Datetime(moment)) if moment.date.is_some() && moment.time.is_none() => {
        }
        (Kind::Moment, Value::Datetime(moment))
            if moment.date.is_some() && moment.time.is_some() => {}
        (Kind::List(item) | Kind::OneOrMany(item), Value::List(items)) => {
            for node in items {
                value(name, node, item, cx);
            }
        }
        (Kind::OneOrMany(item), _) => value(name, node, item, cx),
        (Kind::Table(inner), Value::Table(table)) => section(table, inner, cx),
        (Kind::Tables(inner), Value::List(items)) => {
            for node in items {
                match node.as_table() {
                    Some(table) => section(table, inner, cx),
                    None => wrong_type(name, node, &Kind::Table(inner), cx),
                }
            }
        }
        (Kind::Named(inner), Value::Table(table)) => {
            for entry in &table.entries {
                if entry.key.is_empty() || entry.key.contains(char::is_control) {
                    let message = format!("a name in `{name}` is empty or has control characters");
                    cx.error("invalid-value", entry.key_span, message);
                }
                value(&entry.key, &entry.node, inner, cx);
            }
        }
        (Kind::Either(kinds), _) => match kinds.iter().find(|kind| kind.takes(&node.value)) {
            Some(one) => part(name, node, one, kind, cx),
            None => wrong_type(name, node, kind, cx),
        },
        (
            Kind::Text
            | Kind::File
            | Kind::Word(_)
            | Kind::Boolean
            | Kind::Integer(..)
            | Kind::Number(_)
            | Kind::Duration(_)
            | Kind::Size(..)
            | Kind::Rate
            | Kind::Percent
            | Kind::Date
            | Kind::Moment
            | Kind::List(_)
            | Kind::Table(_)
            | Kind::Tables(_)
            | Kind::Named(_),
            _,
        ) => wrong_type(name, node, kind, cx),
    }
}

impl Kind {
    /// Whether a value has a TOML type that this kind takes; its content is not looked at.
    fn takes(&self, value: &Value) -> bool {
        match self {
            Self::Text
            | Self::File
            | Self::Word(_)
            | Self::Duration(_)
            | Self::Size(..)
            | Self::Rate
            | Self::Percent => matches!(value, Value::String(_)),
            Self::WordOr(_, other) => matches!(value, Value::String(_)) || other.takes(value),
            Self::Boolean => matches!(value, Value::Boolean(_)),
            Self::Integer(..) | Self::Number(_) => matches!(value, Value::Integer(_)),
            Self::Date | Self::Moment => matches!(value, Value::Datetime(_)),
            Self::List(_) | Self::Tables(_) => matches!(value, Value::List(_)),
            Self::OneOrMany(item) => matches!(value, Value::List(_)) || item.takes(value),
            Self::Table(_) | Self::Named(_) => matches!(value, Value::Table(_)),
            Self::Either(kinds) => kinds.iter().any(|kind| kind.takes(value)),
            Self::Anything => true,
        }
    }
}

fn word(name: &str, node: &Node, text: &str, words: &[Word], whole: &Kind, cx: &mut Context) {
    if let Some(word) = words.iter().find(|word| word.is(text)) {
        built(name, node, word, cx);
        return;
    }
    let shown = cx.written(node.span, text);
    let message = format!("`{name}` has no value `{shown}`");
    let finding = Diagnostic::error("invalid-value", node.span, message);
    cx.say(match nearest(text, words.iter().map(|word| word.text)) {
        Some(name) => finding.help(format!("did you mean `{name}`?")),
        None => finding.help(format!("it takes {}", whole.describe())),
    });
}

fn built(name: &str, node: &Node, word: &Word, cx: &mut Context) {
    if !word.built.works() {
        let what = format!("`{}` as `{name}`", word.text);
        cx.say(missing(&what, word.built, node.span));
    }
}

/// Why something does not work in this build.
fn missing(what: &str, built: Built, span: Span) -> Diagnostic {
    match built {
        Built::With { feature, .. } => {
            let message = format!("{what} is not in this build");
            let help = format!(
                "the packages have it; a build of your own needs `cargo build --release --features {feature}`"
            );
            Diagnostic::error("not-in-this-build", span, message).help(help)
        }
        Built::Later(_) | Built::Now => {
            let capability = match built {
                Built::Later(capability) => format!(": {capability}"),
                Built::Now | Built::With { .. } => String::new(),
            };
            let message = format!("{what} is not built yet{capability}");
            Diagnostic::error("not-yet", span, message).help(NOT_YET)
        }
    }
}

fn invalid(name: &str, node: &Node, why: &dyn std::fmt::Display, cx: &mut Context) {
    let shown = cx.written(node.span, node.as_str().unwrap_or_default());
    let message = format!("`{name}` cannot be `{shown}`");
    cx.say(Diagnostic::error("invalid-value", node.span, message).help(why.to_string()));
}

fn wrong_type(name: &str, node: &Node, kind: &Kind, cx: &mut Context) {
    let message = format!(
        "`{name}` takes {}, not {}",
        kind.describe(),
        node.value.describe()
    );
    let finding = Diagnostic::error("wrong-type", node.span, message);
    let lone = !matches!(node.value, Value::List(_));
    cx.say(
        if let Kind::Tables(inner) = kind
            && lone
            && inner.title.starts_with("[[")
        {
            // One bracket where two are wanted is the commonest slip of all: say how to write it.
            finding.help(format!("write `{}`", inner.title))
        } else if lone && matches!(kind, Kind::List(_) | Kind::Tables(_)) {
            finding.help("put it in brackets: `[…]`")
        } else {
            finding
        },
    );
}

impl Value {
    /// What it is, as the end of the sentence "…, not …".
    fn describe(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "a number",
            Self::Float(_) => "a number with a fraction",
            Self::Boolean(_) => "true or false",
            Self::Datetime(_) => "a date or time of another form",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

const NOT_YET: &str = "remove it; a later version will know it";

/// No setting means anything beyond ten years, and sums of such durations never overflow.
const LONGEST: Duration = Duration::from_secs(3650 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_leaves_out_says_how_to_get_it() {
        let span = Span::default();
        let without = Built::With {
            feature: "acme",
            included: false,
        };
        let finding = missing("`acme` in `[tls]`", without, span);
        assert_eq!(finding.code, "not-in-this-build");
        assert_eq!(finding.message, "`acme` in `[tls]` is not in this build");
        assert!(
            finding
                .help
                .is_some_and(|help| help.contains("--features acme"))
        );
    }
}
