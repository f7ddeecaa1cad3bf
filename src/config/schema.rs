//! The key tables in two more forms: a JSON Schema (draft 2020-12) for editors, and the reference in Markdown.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::raw::{Built, Key, Kind, Part, Presence, ROOT, Section, Word, Zero, each_section};

/// The JSON Schema of a configuration file.
#[must_use]
pub fn json_schema() -> Value {
    let mut definitions = Map::new();
    each_section(&ROOT, &mut |section| {
        if section.id != ROOT.id {
            definitions.insert(section.id.to_owned(), object(section));
        }
    });
    let mut schema = object(&ROOT);
    if let Some(fields) = schema.as_object_mut() {
        let dialect = "https://json-schema.org/draft/2020-12/schema";
        fields.insert("$schema".to_owned(), json!(dialect));
        fields.insert("title".to_owned(), json!("Portcullis configuration"));
        fields.insert("$defs".to_owned(), Value::Object(definitions));
    }
    schema
}

fn object(section: &Section) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in section.keys() {
        properties.insert(key.name.to_owned(), property(key));
        if key.presence == Presence::Required {
            required.push(key.name);
        }
    }
    let mut object = json!({
        "type": "object",
        "description": section.about,
        "properties": properties,
        "additionalProperties": false,
    });
    if let Some(fields) = object.as_object_mut()
        && !required.is_empty()
    {
        fields.insert("required".to_owned(), json!(required));
    }
    object
}

fn property(key: &Key) -> Value {
    let mut schema = kind(&key.kind);
    let about = match key.built {
        Built::Now => key.about.to_owned(),
        Built::Later(capability) => format!("{} (not built yet: {capability})", key.about),
        Built::With { feature, .. } => format!("{} (cargo feature `{feature}`)", key.about),
    };
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("description".to_owned(), json!(about));
        if let Presence::Default(text) = key.presence
            && let Some(value) = default(text)
        {
            fields.insert("default".to_owned(), value);
        }
    }
    schema
}

/// A default in TOML as JSON: numbers, strings, booleans and lists of them are written alike in both.
fn default(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

fn kind(of: &Kind) -> Value {
    match of {
        Kind::Text | Kind::File => json!({ "type": "string" }),
        Kind::Word(words) => alternatives(words.iter().map(word).collect()),
        Kind::WordOr(words, other) => {
            let words = words.iter().map(word);
            alternatives(words.chain([kind(other)]).collect())
        }
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Integer(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::Number(numbers) => json!({ "enum": numbers }),
        Kind::Duration(zero) => json!({
            "type": "string",
            "pattern": r"^([0-9]+(ms|s|m|min|h|d))+$|\$\{",
            "examples": [match zero { Zero::Allowed => "0s", Zero::Refused => "30s" }],
        }),
        Kind::Size(..) => json!({
            "type": "string",
            "pattern": r"^[0-9]+([KMGT]iB|[kKMGT]B|B)$|\$\{",
            "examples": ["16KiB"],
        }),
        Kind::Rate => json!({
            "type": "string",
            "pattern": r"^[0-9]+/([0-9]+(ms|s|m|min|h|d))*(ms|s|m|min|h|d)?$|\$\{",
            "examples": ["10/min"],
        }),
        Kind::Percent => json!({
            "type": "string",
            "pattern": r"^(100|[0-9]{1,2})%$|\$\{",
            "examples": ["50%"],
        }),
        Kind::Date => json!({ "type": "string", "format": "date" }),
        Kind::Moment => json!({ "type": "string", "format": "date-time" }),
        Kind::List(item) => json!({ "type": "array", "items": kind(item) }),
        Kind::OneOrMany(item) => {
            let one = kind(item);
            json!({ "anyOf": [one, { "type": "array", "items": one }] })
        }
        Kind::Table(section) => reference(section),
        Kind::Tables(section) => json!({ "type": "array", "items": reference(section) }),
        Kind::Named(inner) => {
            json!({ "type": "object", "additionalProperties": kind(inner) })
        }
        Kind::Either(kinds) => alternatives(kinds.iter().map(kind).collect()),
        Kind::Anything => json!({}),
    }
}

fn alternatives(mut schemas: Vec<Value>) -> Value {
    match schemas.pop() {
        Some(only) if schemas.is_empty() => only,
        Some(last) => {
            schemas.push(last);
            json!({ "anyOf": schemas })
        }
        None => json!(false),
    }
}

fn word(of: &Word) -> Value {
    match of.part {
        Part::Whole => json!({ "const": of.text }),
        Part::Prefix => json!({ "type": "string", "pattern": format!("^{}", of.text) }),
    }
}

fn reference(section: &Section) -> Value {
    json!({ "$ref": format!("#/$defs/{}", section.id) })
}

/// The reference of every table and key, as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::new();
    each_section(&ROOT, &mut |section| {
        let title = section.quoted().replace('|', "\\|");
        // Writing to a string cannot fail.
        let _written = writeln!(
            text,
            "### {title}\n\n{}\n\n| key | takes | default | meaning |\n|---|---|---|---|",
            section.about
        );
        for key in section.keys() {
            let default = match key.presence {
                Presence::Required => "required".to_owned(),
                Presence::Optional => String::new(),
                Presence::Default(value) => format!("`{value}`"),
            };
            let _written = writeln!(
                text,
                "| `{}` | {} | {default} | {}{} |",
                key.name,
                key.kind.describe(),
                key.about,
                later(key)
            );
        }
        text.push('\n');
    });
    text
}

/// What of a key is not built yet: all of it, or some of its words.
fn later(key: &Key) -> String {
    match key.built {
        Built::Now => {}
        Built::Later(_) => return " *(not built yet)*".to_owned(),
        Built::With { feature, .. } => return format!(" *(cargo feature `{feature}`)*"),
    }
    let mut words = Vec::new();
    later_words(&key.kind, &mut words);
    if words.is_empty() {
        String::new()
    } else {
        format!(" *(not built yet: {})*", words.join(", "))
    }
}

fn later_words(of: &Kind, found: &mut Vec<String>) {
    match of {
        Kind::Word(words) | Kind::WordOr(words, _) => {
            let later = words
                .iter()
                .filter(|word| matches!(word.built, Built::Later(_)));
            found.extend(later.map(|word| match word.part {
                Part::Whole => format!("`\"{}\"`", word.text),
                Part::Prefix => format!("`\"{}…\"`", word.text),
            }));
        }
        Kind::List(inner) | Kind::OneOrMany(inner) => later_words(inner, found),
        Kind::Either(kinds) => kinds.iter().for_each(|kind| later_words(kind, found)),
        // Tables have rows of their own.
        Kind::Table(_)
        | Kind::Tables(_)
        | Kind::Named(_)
        | Kind::Text
        | Kind::File
        | Kind::Boolean
        | Kind::Integer(..)
        | Kind::Number(_)
        | Kind::Duration(_)
        | Kind::Size(..)
        | Kind::Rate
        | Kind::Percent
        | Kind::Date
        | Kind::Moment
        | Kind::Anything => {}
    }
}

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
    fn every_key_is_in_the_schema_and_in_the_reference() {
        let schema = json_schema();
        let reference = markdown();
        each_section(&ROOT, &mut |section| {
            let object = if section.id == ROOT.id {
                &schema
            } else {
                &schema["$defs"][section.id]
            };
            assert!(reference.contains(section.title), "{}", section.title);
            for key in section.keys() {
                let shown = object["properties"][key.name]["description"].as_str();
                assert!(
                    shown.is_some_and(|about| about.starts_with(key.about)),
                    "{} {}",
                    section.id,
                    key.name
                );
                assert!(
                    reference.contains(&format!("| `{}` |", key.name)),
                    "{}",
                    key.name
                );
            }
        });
    }

    #[test]
    fn the_written_reference_is_the_generated_one() {
        let written = include_str!("../docs/reference.md");
        let (about, tables) = written.split_once("\n### ").unwrap();
        assert!(about.starts_with("# "));
        assert!(
            format!("### {tables}") == markdown(),
            "src/docs/reference.md is old; below its introduction stands what `portcullis schema --reference` prints"
        );
    }

    #[test]
    fn every_reference_in_the_schema_leads_somewhere() {
        fn walk(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(fields) => {
                    for (name, value) in fields {
                        if name == "$ref" {
                            found.extend(value.as_str().map(str::to_owned));
                        }
                        walk(value, found);
                    }
                }
                Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let schema = json_schema();
        let mut found = Vec::new();
        walk(&schema, &mut found);
        assert!(found.len() > 30);
        for reference in found {
            let pointer = reference.trim_start_matches('#');
            assert!(schema.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn defaults_in_the_schema_are_values() {
        let schema = json_schema();
        let limits = &schema["$defs"]["limits"]["properties"];
        assert_eq!(limits["connections"]["default"], 20_000);
        assert_eq!(limits["header_size"]["default"], "32KiB");
    }
}
