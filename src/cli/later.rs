//! Verbs that a later version brings. They are known, so that scripts and people get a clear word.

use std::process::ExitCode;

use clap::Args;

/// Whatever is written behind such a verb.
#[derive(Debug, Clone, Default, Args)]
pub struct Rest {
    /// Taken and not looked at
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<String>,
}

/// Says that the verb is not built yet.
#[must_use]
pub fn run(verb: &str) -> ExitCode {
    super::tell(&format!("portcullis: `{verb}` is not built yet"));
    ExitCode::from(super::USAGE)
}
