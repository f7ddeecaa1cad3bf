//! `healthcheck`: 0 while the running instance serves, else 1. For container health checks.

use std::process::ExitCode;

use super::status::{AdminArgs, unreachable};
use crate::admin::client;

/// Asks once.
#[must_use]
pub fn run(args: &AdminArgs) -> ExitCode {
    let place = client::usual(args.socket.as_deref());
    match client::ask(&place, "GET", "/readyz") {
        Ok(reply) if reply.status == 200 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(super::RUN_TIME_FAILURE),
        Err(error) => unreachable(&place, &error),
    }
}
