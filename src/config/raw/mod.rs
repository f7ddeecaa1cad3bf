//! What may be written: every table and key of the configuration, as data.
//!
//! One [`Section`] per table with one [`Key`] per key: name, type, default, meaning, and whether it is built. The same tables
//! feed the check of a file ([`walk`]), the JSON Schema and the reference ([`crate::config::schema`]), so that none of the
//! three can drift from the others. What a value *means* is the business of [`crate::config::compile`].
//!
//! A key whose capability is not built yet carries [`Key::not_yet`]; removing that one call is all it takes to open it.

mod identity;
mod rules;
mod server;
mod site;
mod upstream;
pub mod walk;

pub use server::ROOT;

/// A table of the configuration.
#[derive(Debug)]
pub struct Section {
    /// A short unique word: the name of its definition in the JSON Schema.
    pub id: &'static str,
    /// How the reference and diagnostics name it: `[[site.route]]`.
    pub title: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Its keys, in groups, since some groups (the conditions) stand in several sections.
    pub groups: &'static [&'static [Key]],
}

impl Section {
    /// All keys, in the order the reference prints them.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> {
        self.groups.iter().copied().flatten()
    }

    /// The title as a message quotes it.
    #[must_use]
    pub fn quoted(&self) -> String {
        if self.title.starts_with('[') {
            format!("`{}`", self.title)
        } else {
            self.title.to_owned()
        }
    }

    /// One key.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}

/// A key of a section.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Whether it must be written.
    pub presence: Presence,
    /// What it means, in half a sentence.
    pub about: &'static str,
    /// Whether it works.
    pub built: Built,
}

/// Whether a key must be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It must.
    Required,
    /// It may be left out, and then there is none.
    Optional,
    /// It may be left out; this, in TOML, is what it is then.
    Default(&'static str),
}

/// Whether something works in this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Built {
    /// It works.
    Now,
    /// It is refused with `not-yet`; the words say which capability is missing.
    Later(&'static str),
    /// It needs a cargo feature, and is refused with `not-in-this-build` where that was left out.
    With {
        /// The feature's name.
        feature: &'static str,
        /// Whether this build has it.
        included: bool,
    },
}

impl Built {
    /// Whether it works in this build.
    #[must_use]
    pub const fn works(self) -> bool {
        match self {
            Self::Now => true,
            Self::Later(_) => false,
            Self::With { included, .. } => included,
        }
    }
}

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A string.
    Text,
    /// The path of a file or folder, relative to the file that names it.
    File,
    /// One of these words.
    Word(&'static [Word]),
    /// One of these words, which have a meaning of their own, or else the other kind.
    WordOr(&'static [Word], &'static Self),
    /// True or false.
    Boolean,
    /// A whole number in this range, both ends included.
    Integer(i64, i64),
    /// One of these numbers.
    Number(&'static [i64]),
    /// A duration such as `"30s"`.
    Duration(Zero),
    /// A size such as `"16KiB"`, in this range of bytes, both ends included.
    Size(u64, u64),
    /// A rate such as `"10/min"`.
    Rate,
    /// A percentage such as `"50%"`.
    Percent,
    /// A TOML date.
    Date,
    /// A TOML date and time.
    Moment,
    /// A list.
    List(&'static Self),
    /// A list, or one item standing alone.
    OneOrMany(&'static Self),
    /// A table.
    Table(&'static Section),
    /// Tables written with `[[…]]`, or a list of inline tables.
    Tables(&'static Section),
    /// A table whose keys are names that the operator chooses.
    Named(&'static Self),
    /// One of several kinds that differ in their TOML type.
    Either(&'static [Self]),
    /// Any value.
    Anything,
}

/// Whether a duration may be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zero {
    /// It may.
    Allowed,
    /// It may not.
    Refused,
}

/// A word with a meaning of its own.
#[derive(Debug, Clone, Copy)]
pub struct Word {
    /// The word.
    pub text: &'static str,
    /// Whether it is the whole value or only its beginning.
    pub part: Part,
    /// Whether it works.
    pub built: Built,
}

/// How much of a value a [`Word`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// How it begins.
    Prefix,
}

impl Key {
    /// A key that must be written.
    #[must_use]
    pub const fn required(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self::new(name, kind, Presence::Required, about)
    }

    /// A key that may be left out.
    #[must_use]
    pub const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self::new(name, kind, Presence::Optional, about)
    }

    /// A key with a default, written as TOML.
    #[must_use]
    pub const fn default(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        about: &'static str,
    ) -> Self {
        Self::new(name, kind, Presence::Default(default), about)
    }

    /// The same key, which only builds with a cargo feature know: `included` is `cfg!(feature = "…")`.
    #[must_use]
    pub const fn with(mut self, feature: &'static str, included: bool) -> Self {
        self.built = Built::With { feature, included };
        self
    }

    /// The same key, refused until the capability is built.
    #[must_use]
    pub const fn not_yet(mut self, capability: &'static str) -> Self {
        self.built = Built::Later(capability);
        self
    }

    const fn new(name: &'static str, kind: Kind, presence: Presence, about: &'static str) -> Self {
        Self {
            name,
            kind,
            presence,
            about,
            built: Built::Now,
        }
    }
}

impl Word {
    /// A word that is the whole value.
    #[must_use]
    pub const fn new(text: &'static str) -> Self {
        Self {
            text,
            part: Part::Whole,
            built: Built::Now,
        }
    }

    /// A word with which values begin.
    #[must_use]
    pub const fn prefix(text: &'static str) -> Self {
        Self {
            text,
            part: Part::Prefix,
            built: Built::Now,
        }
    }

    /// The same word, which only builds with a cargo feature know: `included` is `cfg!(feature = "…")`.
    #[must_use]
    pub const fn with(mut self, feature: &'static str, included: bool) -> Self {
        self.built = Built::With { feature, included };
        self
    }

    /// The same word, refused until the capability is built.
    #[must_use]
    pub const fn not_yet(mut self, capability: &'static str) -> Self {
        self.built = Built::Later(capability);
        self
    }

    /// Whether a value is this word.
    #[must_use]
    pub fn is(&self, value: &str) -> bool {
        match self.part {
            Part::Whole => value == self.text,
            Part::Prefix => value.starts_with(self.text),
        }
    }
}

impl Kind {
    /// What it takes, as the end of the sentence "`key` takes …".
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Text => "a string".to_owned(),
            Self::File => "a path".to_owned(),
            Self::Word(words) => either(words.iter().map(Word::describe)),
            Self::WordOr(words, other) => {
                let words = words.iter().map(Word::describe);
                either(words.chain([other.describe()]))
            }
            Self::Boolean => "true or false".to_owned(),
            Self::Integer(least, i64::MAX) => format!("a number from {least}"),
            Self::Integer(least, most) => format!("a number from {least} to {most}"),
            Self::Number(numbers) => either(numbers.iter().map(i64::to_string)),
            Self::Duration(_) => "a duration such as `\"30s\"`".to_owned(),
            Self::Size(..) => "a size such as `\"16KiB\"`".to_owned(),
            Self::Rate => "a rate such as `\"10/min\"`".to_owned(),
            Self::Percent => "a percentage such as `\"50%\"`".to_owned(),
            Self::Date => "a date such as `2026-12-31`".to_owned(),
            Self::Moment => "a date and time such as `2026-12-31T18:00:00Z`".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::OneOrMany(kind) => format!("{} or a list of such", kind.describe()),
            Self::Table(_) | Self::Named(_) => "a table".to_owned(),
            Self::Tables(_) => "a list of tables".to_owned(),
            Self::Either(kinds) => either(kinds.iter().map(Self::describe)),
            Self::Anything => "any value".to_owned(),
        }
    }
}

impl Word {
    fn describe(&self) -> String {
        match self.part {
            Part::Whole => format!("`\"{}\"`", self.text),
            Part::Prefix => format!("`\"{}…\"`", self.text),
        }
    }
}

/// `a, b or c`.
fn either(words: impl Iterator<Item = String>) -> String {
    let mut words: Vec<String> = words.collect();
    let last = words.pop().unwrap_or_default();
    if words.is_empty() {
        last
    } else {
        format!("{} or {last}", words.join(", "))
    }
}

/// A positive duration.
pub(crate) const DURATION: Kind = Kind::Duration(Zero::Refused);
/// A list of strings.
pub(crate) const TEXTS: Kind = Kind::List(&Kind::Text);
/// A string or a list of them.
pub(crate) const TEXT_OR_TEXTS: Kind = Kind::OneOrMany(&Kind::Text);

/// Calls `visit` for every section that can be reached from `section`, each once, in the order of the reference.
pub fn each_section(start: &'static Section, visit: &mut dyn FnMut(&'static Section)) {
    fn kind(of: &Kind, seen: &mut Vec<&'static str>, visit: &mut dyn FnMut(&'static Section)) {
        match of {
            Kind::Table(inner) | Kind::Tables(inner) => section(inner, seen, visit),
            Kind::List(inner)
            | Kind::OneOrMany(inner)
            | Kind::Named(inner)
            | Kind::WordOr(_, inner) => kind(inner, seen, visit),
            Kind::Either(kinds) => kinds.iter().for_each(|inner| kind(inner, seen, visit)),
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
            | Kind::Anything => {}
        }
    }
    fn section(
        of: &'static Section,
        seen: &mut Vec<&'static str>,
        visit: &mut dyn FnMut(&'static Section),
    ) {
        if seen.contains(&of.id) {
            return;
        }
        seen.push(of.id);
        visit(of);
        for key in of.keys() {
            kind(&key.kind, seen, visit);
        }
    }
    section(start, &mut Vec::new(), visit);
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
    use crate::config::{Context, node};

    #[test]
    fn sections_have_names_of_their_own_and_no_key_twice() {
        let mut ids = Vec::new();
        each_section(&ROOT, &mut |section| {
            ids.push(section.id);
            let mut names: Vec<_> = section.keys().map(|key| key.name).collect();
            names.sort_unstable();
            let all = names.len();
            names.dedup();
            assert_eq!(names.len(), all, "a key twice in {}", section.title);
        });
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "two sections share an id");
        assert!(all > 30, "the walk ends early: {ids:?}");
    }

    #[test]
    fn every_default_fits_its_own_key() {
        each_section(&ROOT, &mut |section| {
            for key in section.keys() {
                let Presence::Default(text) = key.presence else {
                    continue;
                };
                let (table, mistakes) =
                    node::parse(&format!("{} = {text}", key.name), node::FileId(0));
                assert!(mistakes.is_empty(), "{}: {text}", key.name);
                let mut cx = Context::default();
                let node = table.get(key.name).unwrap();
                walk::value(key.name, node, &key.kind, &mut cx);
                let findings = cx.report.diagnostics;
                assert!(
                    findings.is_empty(),
                    "{} {}: {findings:?}",
                    section.id,
                    key.name
                );
            }
        });
    }
}
