//! `status`: how the running instance is.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::admin::client;

/// Where a running instance is asked.
#[derive(Debug, Clone, Default, Args)]
pub struct AdminArgs {
    /// The admin socket of the running instance
    #[arg(long = "admin", value_name = "SOCKET")]
    pub socket: Option<PathBuf>,
}

/// Prints the status of the running instance as JSON.
#[must_use]
pub fn run(args: &AdminArgs) -> ExitCode {
    let socket = client::usual(args.socket.as_deref());
    match client::ask(&socket, "GET", "/status") {
        Ok(reply) => {
            drop(writeln!(std::io::stdout(), "{:#}", reply.body));
            ExitCode::SUCCESS
        }
        Err(error) => unreachable(&socket, &error),
    }
}

/// Says that nobody answers.
pub(super) fn unreachable(socket: &std::path::Path, error: &std::io::Error) -> ExitCode {
    let text = format!(
        "portcullis: no instance answers on {}: {error}",
        socket.display()
    );
    drop(writeln!(std::io::stderr(), "{text}"));
    ExitCode::from(super::RUN_TIME_FAILURE)
}
