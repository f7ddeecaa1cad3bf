//! Findings as people read them ([`Report::render`]), as machines do ([`Report::json`]), and one line each for a log
//! ([`Report::lines`]).

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::diagnostic::{Accepted, Diagnostic, LineIndex, Report, Severity, Witness};
use super::node::{FileId, Span};

/// Whether a rendered report has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// It has none.
    Plain,
    /// It has: for a terminal.
    Colour,
}

impl Report {
    /// Every finding with its line and a caret, and the summary, for a person.
    #[must_use]
    pub fn render(&self, paint: Paint) -> String {
        let renderer = renderer(paint);
        let index = LineIndex::default();
        let mut text = String::new();
        for finding in &self.diagnostics {
            let level = match finding.severity {
                Severity::Error => Level::ERROR,
                Severity::Finding => Level::WARNING.with_name("finding"),
                Severity::Warning => Level::WARNING,
                Severity::Note => Level::NOTE,
            };
            let help = finding.help.as_deref();
            text.push_str(&self.one(finding, &level, help, &index, &renderer));
            text.push_str("\n\n");
        }
        if !self.diagnostics.is_empty() {
            text.push_str(&self.summary());
            text.push('\n');
        }
        text
    }

    /// Every finding that the file accepts, with the reason, for a person.
    #[must_use]
    pub fn render_accepted(&self, paint: Paint) -> String {
        let renderer = renderer(paint);
        let index = LineIndex::default();
        let mut text = String::new();
        for Accepted { finding, why, .. } in &self.accepted {
            let level = Level::NOTE.with_name("accepted");
            let because = format!("accepted because: {why}");
            text.push_str(&self.one(finding, &level, Some(&because), &index, &renderer));
            text.push_str("\n\n");
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
        let index = LineIndex::default();
        self.diagnostics.iter().map(move |finding| {
            let severity = finding.severity;
            let place = finding.span.and_then(|span| self.place(span, &index));
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
        let index = LineIndex::default();
        let accepted = self.accepted.iter();
        let accepted = accepted.map(|accepted| (&accepted.finding, Some(accepted.why.as_str())));
        let findings: Vec<JsonFinding<'_>> = self
            .diagnostics
            .iter()
            .map(|finding| (finding, None))
            .chain(accepted)
            .map(|(finding, accepted)| {
                let place = finding.span.and_then(|span| self.place(span, &index));
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
                    rule: finding.rule.as_deref(),
                    witness: finding.witness.as_deref().map(JsonWitness::of),
                    accepted,
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

    fn one(
        &self,
        finding: &Diagnostic,
        level: &Level<'_>,
        help: Option<&str>,
        index: &LineIndex,
        renderer: &Renderer,
    ) -> String {
        let title = level
            .clone()
            .primary_title(&finding.message)
            .id(finding.code);
        let mut group = Group::with_title(title);
        let beside = help.filter(|help| help.chars().count() <= BESIDE && finding.span.is_some());
        if let Some(shown) = finding.span.and_then(|span| self.excerpt(span, index)) {
            let mut primary = AnnotationKind::Primary.span(shown.mark);
            if let Some(help) = beside {
                primary = primary.label(format!("help: {help}"));
            }
            let snippet = Snippet::source(shown.text).line_start(shown.line);
            group = group.element(snippet.path(shown.file).annotation(primary));
        }
        for (span, word) in &finding.related {
            if let Some(shown) = self.excerpt(*span, index) {
                let context = AnnotationKind::Context.span(shown.mark).label(word);
                let snippet = Snippet::source(shown.text).line_start(shown.line);
                group = group.element(snippet.path(shown.file).annotation(context));
            }
        }
        if let Some(witness) = &finding.witness {
            let told = format!("{} {}", witness.words, witness.outcome);
            group = group.element(Level::NOTE.with_name("proof").message(told));
        }
        if let Some(help) = help.filter(|_| beside.is_none()) {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group])
    }

    /// The line on which a span begins, and the part of the span that stands on it.
    fn excerpt(&self, span: Span, index: &LineIndex) -> Option<Excerpt<'_>> {
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
            line: index.line(&self.files, span),
            mark: start - from..end.min(to) - from,
        })
    }

    fn place(&self, span: Span, index: &LineIndex) -> Option<Place<'_>> {
        let (file, text) = self.text(span.file)?;
        let (start, end) = clamp(text, span);
        let column = |at: usize| {
            let before = text.get(..at).unwrap_or_default();
            let line = before.rsplit('\n').next().unwrap_or_default();
            line.chars().count() + 1
        };
        Some(Place {
            file,
            line: index.line(&self.files, span),
            column: column(start),
            end_line: index.line(
                &self.files,
                Span {
                    start: span.end,
                    ..span
                },
            ),
            end_column: column(end),
        })
    }

    fn text(&self, file: FileId) -> Option<(&str, &str)> {
        let file = self.files.get(usize::from(file.0))?;
        Some((&file.name, &file.text))
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
    /// What `[[accept]]` would name.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    witness: Option<JsonWitness<'r>>,
    /// Why the file accepts it, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<&'r str>,
}

#[derive(Serialize)]
struct JsonWitness<'r> {
    request: &'r serde_json::Value,
    outcome: &'r str,
}

impl<'r> JsonWitness<'r> {
    fn of(witness: &'r Witness) -> Self {
        Self {
            request: &witness.request,
            outcome: &witness.outcome,
        }
    }
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

fn renderer(paint: Paint) -> Renderer {
    match paint {
        Paint::Plain => Renderer::plain(),
        Paint::Colour => Renderer::styled(),
    }
}

/// The span within the text, on the borders of characters.
fn clamp(text: &str, span: Span) -> (usize, usize) {
    let start = text.floor_char_boundary(span.start as usize);
    let end = text.ceil_char_boundary(span.end as usize).max(start);
    (start, end)
}

/// Characters of a help that stands beside its caret; a longer one stands below.
const BESIDE: usize = 60;
