//! `completions`: what a shell needs to complete the command line.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

/// Arguments of `completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints them.
#[must_use]
pub fn run(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    let mut command = super::Cli::command();
    clap_complete::generate(args.shell, &mut command, "portcullis", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}
