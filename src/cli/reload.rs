//! `reload`: the running instance reads its configuration anew.

use std::io::Write as _;
use std::process::ExitCode;

use super::status::{AdminArgs, unreachable};
use crate::admin::client;

/// Reloads; a refused configuration is printed, changes nothing, and exits with 3.
#[must_use]
pub fn run(args: &AdminArgs) -> ExitCode {
    let socket = client::usual(args.socket.as_deref());
    match client::ask(&socket, "POST", "/reload") {
        Ok(reply) if reply.status == 200 => {
            let generation = reply
                .body
                .get("generation")
                .and_then(serde_json::Value::as_u64)
                .unwrap_or_default();
            drop(writeln!(
                std::io::stdout(),
                "reloaded: generation {generation}"
            ));
            ExitCode::SUCCESS
        }
        Ok(reply) => {
            let text = reply
                .body
                .get("text")
                .and_then(serde_json::Value::as_str)
                .unwrap_or_default();
            drop(writeln!(
                std::io::stderr(),
                "{text}refused: the old configuration stays"
            ));
            ExitCode::from(super::CONFIG_INVALID)
        }
        Err(error) => unreachable(&socket, &error),
    }
}
