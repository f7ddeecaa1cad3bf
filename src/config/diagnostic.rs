//! Findings about configuration files, for people and for machines.

use super::node::Span;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Probably not meant.
    Warning,
    /// The configuration can be used, and `check` says no: a failed policy test, a rule that does not do what it seems to.
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
}
