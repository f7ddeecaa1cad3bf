//! `reload`: the running instance reads its configuration anew.

use std::io::Write as _;
use std::process::ExitCode;

use super::status::{AdminArgs, refused, unreachable};
use crate::admin::client;

/// Reloads; a refused configuration is printed, changes nothing, and exits with 3.
#[must_use]
pub fn run(args: &AdminArgs) -> ExitCode {
    let place = client::usual(args.socket.as_deref());
    match client::ask(&place, "POST", "/reload") {
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
        Ok(reply) if reply.status == 422 => {
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
        Ok(reply) => refused(&place, &reply),
        Err(error) => unreachable(&place, &error),
    }
}
