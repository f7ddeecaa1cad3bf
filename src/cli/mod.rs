//! The command line: one file per verb.

pub mod geo;
pub mod hash_password;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
