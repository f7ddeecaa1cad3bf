//! (being built)

use std::process::ExitCode;

use super::status::AdminArgs;

/// (being built)
#[must_use]
pub fn run(_args: &AdminArgs) -> ExitCode {
    super::later::run("reload")
}
