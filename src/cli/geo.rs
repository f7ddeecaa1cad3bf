//! (being built)

use std::process::ExitCode;

use clap::Args;

/// (being built)
#[derive(Debug, Clone, Default, Args)]
pub struct GeoArgs {}

/// (being built)
#[must_use]
pub fn run(_args: &GeoArgs) -> ExitCode {
    super::later::run("geo")
}
