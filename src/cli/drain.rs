//! `drain`: an endpoint of an upstream gets no new requests.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::status::{AdminArgs, refused, unreachable};
use crate::admin::client;

/// Which endpoint, and whether it goes or comes back.
#[derive(Debug, Clone, Args)]
pub struct DrainArgs {
    /// The upstream
    #[arg(value_name = "UPSTREAM")]
    pub upstream: String,
    /// Its endpoint as `status` lists it, or the server as configured
    #[arg(value_name = "ENDPOINT")]
    pub endpoint: String,
    /// Take it back
    #[arg(long)]
    pub undo: bool,
    /// Where the running instance is asked.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Drains; requests under way go on. It lasts until it is undone or the process ends, through every reload.
#[must_use]
pub fn run(args: &DrainArgs) -> ExitCode {
    let place = client::usual(args.admin.socket.as_deref());
    let verb = if args.undo { "undrain" } else { "drain" };
    let path = format!(
        "/{verb}?upstream={}&endpoint={}",
        client::encode(&args.upstream),
        client::encode(&args.endpoint)
    );
    match client::ask(&place, "POST", &path) {
        Ok(reply) if reply.status == 200 => {
            let usable = reply.body.get("usable");
            let usable = usable.and_then(serde_json::Value::as_u64);
            let usable = usable.unwrap_or_default();
            let word = if args.undo { "back" } else { "drained" };
            drop(writeln!(
                std::io::stdout(),
                "{word}: {} of {}; {usable} endpoints can be used",
                args.endpoint,
                args.upstream
            ));
            ExitCode::SUCCESS
        }
        Ok(reply) => refused(&place, &reply),
        Err(error) => unreachable(&place, &error),
    }
}
