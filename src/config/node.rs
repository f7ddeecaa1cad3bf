//! A configuration file as a tree in which every key and value knows where it was written.
//!
//! The tree is what `compile` reads. Types are already checked against the key tables of `raw` when a compile step sees a
//! node, and mistakes of type are already reported: an accessor answers `None` for "not there" and for "not of that type"
//! alike, and the compile step simply goes on.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Diagnostic;

/// Which file of a load; an index into the files of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FileId(pub u16);

/// A range of bytes in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it is written.
    pub span: Span,
}

/// A TOML value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A string, variables already substituted.
    String(String),
    /// An integer.
    Integer(i64),
    /// A float.
    Float(f64),
    /// A boolean.
    Boolean(bool),
    /// A date, a time or both.
    Datetime(toml::value::Datetime),
    /// An array; also an array of tables.
    List(Vec<Node>),
    /// A table.
    Table(Table),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key is written.
    pub key_span: Span,
    /// The value.
    pub node: Node,
}

/// A table, its entries in the order in which they are written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The table's header, or its braces.
    pub span: Span,
}

impl Table {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// Key and value together.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// A string value.
    #[must_use]
    pub fn str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// A boolean value.
    #[must_use]
    pub fn bool(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// An integer value.
    #[must_use]
    pub fn int(&self, key: &str) -> Option<i64> {
        self.get(key)?.as_int()
    }

    /// A table value.
    #[must_use]
    pub fn table(&self, key: &str) -> Option<&Self> {
        self.get(key)?.as_table()
    }

    /// The items of a list, or the one value standing alone; nothing where the key is absent.
    pub fn many(&self, key: &str) -> impl Iterator<Item = &Node> {
        self.get(key).into_iter().flat_map(Node::many)
    }

    /// The tables of an array of tables (or of a list of inline tables).
    pub fn tables(&self, key: &str) -> impl Iterator<Item = &Self> {
        self.many(key).filter_map(Node::as_table)
    }
}

impl Node {
    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = &self.value {
            Some(text)
        } else {
            None
        }
    }

    /// The boolean, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Boolean(value) = self.value {
            Some(value)
        } else {
            None
        }
    }

    /// The integer, if it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        if let Value::Integer(value) = self.value {
            Some(value)
        } else {
            None
        }
    }

    /// The list, if it is one.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Value::List(items) = &self.value {
            Some(items)
        } else {
            None
        }
    }

    /// The table, if it is one.
    #[must_use]
    pub fn as_table(&self) -> Option<&Table> {
        if let Value::Table(table) = &self.value {
            Some(table)
        } else {
            None
        }
    }

    /// The items of a list, or this one value standing alone.
    pub fn many(&self) -> impl Iterator<Item = &Self> {
        match &self.value {
            Value::List(items) => items.iter(),
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Table(_) => std::slice::from_ref(self).iter(),
        }
    }
}

/// Parses one file. Mistakes of TOML syntax are returned beside what could be read.
#[must_use]
pub fn parse(text: &str, file: FileId) -> (Table, Vec<Diagnostic>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let span = |range: std::ops::Range<usize>| Span {
        file,
        start: offset(range.start),
        end: offset(range.end),
    };
    let mistakes = errors.iter().map(|error| {
        let place = span(error.span().unwrap_or(0..0));
        Diagnostic::error(
            "syntax",
            place,
            error.message().to_lowercase().replace('\n', ", "),
        )
    });
    let mistakes = mistakes.collect();
    let whole = span(root.span());
    (table(root.get_ref(), whole, file), mistakes)
}

fn table(table: &DeTable<'_>, span: Span, file: FileId) -> Table {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| entry(key, value, file))
        .collect();
    entries.sort_by_key(|entry| entry.key_span.start);
    Table { entries, span }
}

fn entry(
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
    file: FileId,
) -> Entry {
    let range = key.span();
    Entry {
        key: key.get_ref().to_string(),
        key_span: Span {
            file,
            start: offset(range.start),
            end: offset(range.end),
        },
        node: node(value, file),
    }
}

fn node(value: &Spanned<DeValue<'_>>, file: FileId) -> Node {
    let range = value.span();
    let span = Span {
        file,
        start: offset(range.start),
        end: offset(range.end),
    };
    let value = match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        // An integer beyond 64 bits is no number that any key takes; the largest is out of every range.
        DeValue::Integer(number) => {
            Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX))
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(value) => Value::Datetime(*value),
        DeValue::Array(items) => {
            Value::List(items.iter().map(|item| self::node(item, file)).collect())
        }
        DeValue::Table(inner) => Value::Table(table(inner, span, file)),
    };
    Node { value, span }
}

/// Files are far smaller than 4 GiB; a larger offset only loses its caret.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
