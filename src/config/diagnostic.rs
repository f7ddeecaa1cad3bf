//! Findings about configuration files. How they are shown is the business of [`super::render`].

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::node::Span;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Probably not meant.
    Warning,
    /// The configuration compiles, and `check` says no: a rule that does not do what it seems to, or a failed policy test (a
    /// policy with one is not loaded either: see [`crate::reload::instance`]).
    Finding,
    /// The configuration is refused.
    Error,
}

/// One finding. The message follows STYLE §4: lower case, no full stop, the user's text in backticks, the remedy as help.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// A stable code such as `unknown-upstream`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where, if it is anywhere.
    pub span: Option<Span>,
    /// What to do about it.
    pub help: Option<String>,
    /// Other places that matter, each with a word: the first definition of a duplicate, for example.
    pub related: Vec<(Span, String)>,
    /// The rule or the route that it speaks of, by name: what `[[accept]]` names.
    pub rule: Option<Arc<str>>,
    /// The request that proves it.
    pub witness: Option<Box<Witness>>,
}

/// A request that proves a finding, and what becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Witness {
    /// For people: ``GET https://app.example.com/a from 198.51.100.7``.
    pub words: String,
    /// How it ends: ``passes``, ``403 by rule `office-only` ``.
    pub outcome: String,
    /// The request as a policy test would write it.
    pub request: serde_json::Value,
}

/// A finding that the file accepts by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// What was found.
    pub finding: Diagnostic,
    /// Why it is accepted, in the operator's words.
    pub why: String,
    /// The `[[accept]]`.
    pub by: Span,
}

impl Diagnostic {
    /// A mistake for which the configuration is refused.
    #[must_use]
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, Some(span), message.into())
    }

    /// Something that is probably not meant.
    #[must_use]
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, Some(span), message.into())
    }

    /// Something for which `check` says no, although the configuration can be used.
    #[must_use]
    pub fn finding(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Finding, code, Some(span), message.into())
    }

    /// Something worth knowing.
    #[must_use]
    pub fn note(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, Some(span), message.into())
    }

    /// A mistake that stands nowhere in a file.
    #[must_use]
    pub fn global(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, None, message.into())
    }

    /// The same with a remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same about a rule: `[[accept]]` can name it.
    #[must_use]
    pub fn about(mut self, rule: impl Into<Arc<str>>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    /// The same with a request that proves it.
    #[must_use]
    pub fn proven(mut self, witness: Option<Witness>) -> Self {
        self.witness = witness.map(Box::new);
        self
    }

    /// The same with another place that matters.
    #[must_use]
    pub fn related(mut self, span: Span, word: impl Into<String>) -> Self {
        self.related.push((span, word.into()));
        self
    }

    const fn new(
        severity: Severity,
        code: &'static str,
        span: Option<Span>,
        message: String,
    ) -> Self {
        Self {
            severity,
            code,
            message,
            span,
            help: None,
            related: Vec::new(),
            rule: None,
            witness: None,
        }
    }
}

/// Every finding of one load, with the files they speak of.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The findings, in the order found.
    pub diagnostics: Vec<Diagnostic>,
    /// Findings that `[[accept]]` names: nobody is troubled with them.
    pub accepted: Vec<Accepted>,
    /// The files: name and text, by `FileId`.
    pub files: Vec<SourceFile>,
}

/// A file that was read.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// As the operator named it.
    pub name: std::sync::Arc<str>,
    /// Its folder: what paths in it are relative to.
    pub folder: std::path::PathBuf,
    /// Its text.
    pub text: std::sync::Arc<str>,
}

impl Report {
    /// Whether the configuration must be refused.
    #[must_use]
    pub fn refused(&self) -> bool {
        self.diagnostics
            .iter()
            .any(|d| d.severity == Severity::Error)
    }

    /// How many findings are of a severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        let of = self.diagnostics.iter().filter(|d| d.severity == severity);
        of.count()
    }

    /// Sorts the findings by file and place, those without a place first. Two rooms may both look at a key: of two findings
    /// with the same code and place the first stays; what the key tables say of a place gives way to what a compile step says
    /// of it, which knows more; and of a value that could not be completed nothing else is said.
    pub fn sort(&mut self) {
        let place = |d: &Diagnostic| d.span.map(|span| (span.file.0, span.start, span.end));
        self.diagnostics.sort_by_key(place);
        let mut kept: Vec<Diagnostic> = Vec::with_capacity(self.diagnostics.len());
        for together in self.diagnostics.chunk_by(|a, b| a.span == b.span) {
            let error = |d: &&Diagnostic| d.severity == Severity::Error && d.span.is_some();
            let errors = || together.iter().filter(error).map(|d| d.code);
            let incomplete = errors().any(|code| INCOMPLETE.contains(&code));
            let special = errors().any(|code| !GENERAL.contains(&code));
            let start = kept.len();
            for finding in together {
                let gives_way = (incomplete && !INCOMPLETE.contains(&finding.code))
                    || (special && GENERAL.contains(&finding.code));
                let said = kept.iter().skip(start).any(|other| {
                    other.code == finding.code
                        && (finding.span.is_some() || other.message == finding.message)
                });
                if !gives_way && !said {
                    kept.push(finding.clone());
                }
            }
        }
        self.diagnostics = kept;
    }
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Finding => "finding",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Finds lines by offset without reading a file again for each: large files have many rules, and each knows its line.
#[derive(Debug, Default)]
pub struct LineIndex(RefCell<Vec<Option<Vec<u32>>>>);

impl LineIndex {
    /// The line of an offset, counted from 1; of a file that is not there, 0.
    #[must_use]
    pub fn line(&self, files: &[SourceFile], span: Span) -> usize {
        let number = usize::from(span.file.0);
        let Some(file) = files.get(number) else {
            return 0;
        };
        let mut known = self.0.borrow_mut();
        if known.len() <= number {
            known.resize(number + 1, None);
        }
        let Some(place) = known.get_mut(number) else {
            return 0;
        };
        let starts = place.get_or_insert_with(|| line_starts(&file.text));
        starts.partition_point(|start| *start <= span.start)
    }
}

/// The offset of each line's first byte.
fn line_starts(text: &str) -> Vec<u32> {
    let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
    let after = breaks.map(|(at, _)| u32::try_from(at + 1).unwrap_or(u32::MAX));
    std::iter::once(0).chain(after).collect()
}

/// Codes of values that could not be completed: whatever else is said of their place speaks of a text that nobody meant.
const INCOMPLETE: &[&str] = &["bad-variable", "unset-variable", "unreadable-file"];

/// Codes of the key tables that give way to any other of the same place.
const GENERAL: &[&str] = &["unknown-key", "invalid-value", "out-of-range"];
