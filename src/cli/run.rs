//! (being built)

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

/// Arguments of `run`.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// The configuration; without one: /etc/portcullis/portcullis.toml, else the demo
    #[arg(long, short, value_name = "FILE", conflicts_with = "to")]
    pub config: Option<PathBuf>,
    /// Front this application, without a configuration file
    #[arg(long, value_name = "HOST:PORT")]
    pub to: Option<String>,
    /// Where to listen, with --to
    #[arg(
        long,
        value_name = "ADDR",
        requires = "to",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: Option<SocketAddr>,
    /// Refuse this country with 451, with --to; may be repeated
    #[arg(long = "deny-country", value_name = "XX", requires = "to")]
    pub deny_country: Vec<String>,
}

/// (being built)
#[must_use]
pub fn run(_args: &RunArgs) -> ExitCode {
    super::later::run("run")
}
