//! Findings about configuration files, for people ([`Report::render`]) and for machines ([`Report::json`]).

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::node::{FileId, Span};

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
        }
    }
}

/// Every finding of one load, with the files they speak of.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The findings, in the order found.
    pub diagnostics: Vec<Diagnostic>,
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
        for finding in std::mem::take(&mut self.diagnostics) {
            let same = kept
                .iter()
                .rev()
                .take_while(|other| other.span == finding.span)
                .any(|other| {
                    other.code == finding.code
                        && (finding.span.is_some() || other.message == finding.message)
                });
            if same {
                continue;
            }
            let beside = |other: &Diagnostic| {
                finding.span.is_some()
                    && other.span == finding.span
                    && other.severity == finding.severity
            };
            let settled = |code: &str| INCOMPLETE.contains(&code);
            if kept
                .iter()
                .any(|other| beside(other) && settled(other.code))
                || (GENERAL.contains(&finding.code) && kept.iter().any(beside))
            {
                continue;
            }
            let first = settled(finding.code);
            kept.retain(|other| !beside(other) || !(first || GENERAL.contains(&other.code)));
            kept.push(finding);
        }
        self.diagnostics = kept;
    }

    /// Every finding with its line and a caret, and the summary, for a person.
    #[must_use]
    pub fn render(&self, paint: Paint) -> String {
        let renderer = match paint {
            Paint::Plain => Renderer::plain(),
            Paint::Colour => Renderer::styled(),
        };
        let mut text = String::new();
        for finding in &self.diagnostics {
            text.push_str(&self.one(finding, &renderer));
            text.push_str("\n\n");
        }
        if !self.diagnostics.is_empty() {
            text.push_str(&self.summary());
            text.push('\n');
        }
        text
    }

    /// [`Self::render`] without colours.
    #[must_use]
    pub fn render_plain(&self) -> String {
        self.render(Paint::Plain)
    }

    /// One line a finding, `file:line:column: severity[code]: message`, for a log. Unlike
    /// [`Self::render`] it repeats no line of a file, so that no secret which stands there reaches the log.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.diagnostics.iter().map(|finding| {
            let severity = finding.severity;
            let place = finding.span.and_then(|span| self.place(span));
            let place =
                place.map(|place| format!("{}:{}:{}: ", place.file, place.line, place.column));
            let place = place.unwrap_or_default();
            let help = finding.help.as_ref().map(|help| format!(" ({help})"));
            let help = help.unwrap_or_default();
            format!(
                "{place}{severity}[{}]: {}{help}",
                finding.code, finding.message
            )
        })
    }

    /// Every finding as a JSON array.
    #[must_use]
    pub fn json(&self) -> String {
        let findings: Vec<JsonFinding<'_>> = self
            .diagnostics
            .iter()
            .map(|finding| {
                let place = finding.span.and_then(|span| self.place(span));
                JsonFinding {
                    severity: finding.severity.word(),
                    code: finding.code,
                    message: &finding.message,
                    file: place.as_ref().map(|place| place.file),
                    line: place.as_ref().map(|place| place.line),
                    column: place.as_ref().map(|place| place.column),
                    end_line: place.as_ref().map(|place| place.end_line),
                    end_column: place.as_ref().map(|place| place.end_column),
                    help: finding.help.as_deref(),
                }
            })
            .collect();
        serde_json::to_string_pretty(&findings).unwrap_or_else(|_| "[]".to_owned())
    }

    /// `3 errors, 1 warning`.
    #[must_use]
    pub fn summary(&self) -> String {
        let counts = [
            Severity::Error,
            Severity::Finding,
            Severity::Warning,
            Severity::Note,
        ]
        .map(|severity| {
            let plural = if self.count(severity) == 1 { "" } else { "s" };
            (self.count(severity), format!("{severity}{plural}"))
        });
        let written: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        if written.is_empty() {
            "no findings".to_owned()
        } else {
            written.join(", ")
        }
    }

    fn one(&self, finding: &Diagnostic, renderer: &Renderer) -> String {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Finding => Level::WARNING.with_name("finding"),
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let title = level.primary_title(&finding.message).id(finding.code);
        let mut group = Group::with_title(title);
        let help = finding.help.as_deref();
        let beside = help.filter(|help| help.chars().count() <= BESIDE && finding.span.is_some());
        if let Some(shown) = finding.span.and_then(|span| self.excerpt(span)) {
            let mut primary = AnnotationKind::Primary.span(shown.mark);
            if let Some(help) = beside {
                primary = primary.label(format!("help: {help}"));
            }
            let snippet = Snippet::source(shown.text).line_start(shown.line);
            group = group.element(snippet.path(shown.file).annotation(primary));
        }
        for (span, word) in &finding.related {
            if let Some(shown) = self.excerpt(*span) {
                let context = AnnotationKind::Context.span(shown.mark).label(word);
                let snippet = Snippet::source(shown.text).line_start(shown.line);
                group = group.element(snippet.path(shown.file).annotation(context));
            }
        }
        if let Some(help) = help.filter(|_| beside.is_none()) {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group])
    }

    /// The line on which a span begins, and the part of the span that stands on it.
    fn excerpt(&self, span: Span) -> Option<Excerpt<'_>> {
        let (file, text) = self.text(span.file)?;
        let (start, end) = clamp(text, span);
        let from = text.get(..start)?.rfind('\n').map_or(0, |at| at + 1);
        let to = text
            .get(start..)?
            .find('\n')
            .map_or(text.len(), |at| start + at);
        let line = text.get(from..to)?;
        Some(Excerpt {
            file,
            text: line,
            line: newlines(text, start) + 1,
            mark: start - from..end.min(to) - from,
        })
    }

    fn place(&self, span: Span) -> Option<Place<'_>> {
        let (file, text) = self.text(span.file)?;
        let (start, end) = clamp(text, span);
        let column = |at: usize| {
            let before = text.get(..at).unwrap_or_default();
            let line = before.rsplit('\n').next().unwrap_or_default();
            line.chars().count() + 1
        };
        Some(Place {
            file,
            line: newlines(text, start) + 1,
            column: column(start),
            end_line: newlines(text, end) + 1,
            end_column: column(end),
        })
    }

    fn text(&self, file: FileId) -> Option<(&str, &str)> {
        let file = self.files.get(usize::from(file.0))?;
        Some((&file.name, &file.text))
    }
}

/// Whether a rendered report has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// It has none.
    Plain,
    /// It has: for a terminal.
    Colour,
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

/// One finding as machines read it. Lines and columns count from 1, columns in characters.
#[derive(Serialize)]
struct JsonFinding<'r> {
    severity: &'static str,
    code: &'static str,
    message: &'r str,
    file: Option<&'r str>,
    line: Option<usize>,
    column: Option<usize>,
    end_line: Option<usize>,
    end_column: Option<usize>,
    help: Option<&'r str>,
}

struct Place<'r> {
    file: &'r str,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
}

struct Excerpt<'r> {
    file: &'r str,
    text: &'r str,
    line: usize,
    mark: std::ops::Range<usize>,
}

/// The span within the text, on the borders of characters.
fn clamp(text: &str, span: Span) -> (usize, usize) {
    let start = text.floor_char_boundary(span.start as usize);
    let end = text.ceil_char_boundary(span.end as usize).max(start);
    (start, end)
}

fn newlines(text: &str, before: usize) -> usize {
    let bytes = text.as_bytes().iter().take(before);
    bytes.filter(|byte| **byte == b'\n').count()
}

/// Codes of values that could not be completed: whatever else is said of their place speaks of a text that nobody meant.
const INCOMPLETE: &[&str] = &["bad-variable", "unset-variable", "unreadable-file"];

/// Codes of the key tables that give way to any other of the same place.
const GENERAL: &[&str] = &["unknown-key", "invalid-value", "out-of-range"];

/// Characters of a help that stands beside its caret; a longer one stands below.
const BESIDE: usize = 60;
