//! (being built)

use std::process::ExitCode;

use clap::Args;

/// (being built)
#[derive(Debug, Clone, Default, Args)]
pub struct HashPasswordArgs {}

/// (being built)
#[must_use]
pub fn run(_args: &HashPasswordArgs) -> ExitCode {
    super::later::run("hash_password")
}
