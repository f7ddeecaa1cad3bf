//! The command line: one file per verb.

pub mod geo;
pub mod hash_password;
pub mod healthcheck;
pub mod reload;
pub mod run;
pub mod status;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> std::process::ExitCode {
    use clap::Parser as _;
    #[derive(clap::Parser)]
    struct A {
        #[command(flatten)]
        run: run::RunArgs,
    }
    run::run(&A::parse().run)
}

pub(crate) const INSTALLED_CONFIG: &str = "/etc/portcullis/portcullis.toml";
pub(crate) const DEFAULT_CONFIG: &str = include_str!("../../config/portcullis.toml");
pub(crate) const CONFIG_INVALID: u8 = 3;
pub(crate) const RUN_TIME_FAILURE: u8 = 1;
