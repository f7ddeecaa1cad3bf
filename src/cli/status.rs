//! (being built)

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

/// Where a running instance is asked.
#[derive(Debug, Clone, Default, Args)]
pub struct AdminArgs {
    /// The admin socket of the running instance
    #[arg(long = "admin", value_name = "SOCKET")]
    pub socket: Option<PathBuf>,
}

/// (being built)
#[must_use]
pub fn run(_args: &AdminArgs) -> ExitCode {
    super::later::run("status")
}
