//! Words that several verbs take.

use clap::ValueEnum;

/// How an outcome is printed: `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Text,
    /// For machines
    Json,
}

/// What makes the answer *no* where two policies are compared: `--fail-on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FailOn {
    /// Requests are newly allowed, or that cannot be told
    Widen,
    /// Any request ends otherwise, or that cannot be told
    Any,
}
