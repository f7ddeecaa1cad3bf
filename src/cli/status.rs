//! `status`: how the running instance is.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::admin::client::{self, Place, Reply};

/// Where a running instance is asked.
#[derive(Debug, Clone, Default, Args)]
pub struct AdminArgs {
    /// The admin socket of the running instance, or its address (the token is that of PORTCULLIS_ADMIN_TOKEN)
    #[arg(long = "admin", value_name = "ADDR|SOCKET")]
    pub socket: Option<PathBuf>,
}

/// Prints the status of the running instance as JSON.
#[must_use]
pub fn run(args: &AdminArgs) -> ExitCode {
    let place = client::usual(args.socket.as_deref());
    match client::ask(&place, "GET", "/status") {
        Ok(reply) if reply.status == 200 => {
            drop(writeln!(std::io::stdout(), "{:#}", reply.body));
            ExitCode::SUCCESS
        }
        Ok(reply) => refused(&place, &reply),
        Err(error) => unreachable(&place, &error),
    }
}

/// Says that nobody answers.
pub(super) fn unreachable(place: &Place, error: &std::io::Error) -> ExitCode {
    super::tell(&format!(
        "portcullis: no instance answers on {place}: {error}"
    ));
    ExitCode::from(super::RUN_TIME_FAILURE)
}

/// Says that somebody answers, but not this.
pub(super) fn refused(place: &Place, reply: &Reply) -> ExitCode {
    let word = |key| reply.body.get(key).and_then(serde_json::Value::as_str);
    let why = word("message")
        .or_else(|| word("error"))
        .unwrap_or_default();
    let help = match reply.status {
        401 => "; set PORTCULLIS_ADMIN_TOKEN",
        _ => "",
    };
    let status = reply.status;
    super::tell(&format!(
        "portcullis: {place} answers {status}: {why}{help}"
    ));
    ExitCode::from(super::RUN_TIME_FAILURE)
}
