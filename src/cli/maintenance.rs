//! `maintenance`: closes and opens sites of the running instance.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::status::{AdminArgs, refused, unreachable};
use crate::admin::client;

/// What to switch.
#[derive(Debug, Args)]
pub struct MaintenanceArgs {
    /// The site by its name (its first host); all of them are shown where none is named
    #[arg(requires = "position")]
    site: Option<String>,
    /// `on` closes it and `off` opens it, whatever the configuration says; `auto` is what the configuration says
    #[arg(value_enum)]
    position: Option<Position>,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Position {
    On,
    Off,
    Auto,
}

/// Switches, or shows how sites stand.
#[must_use]
pub fn run(args: &MaintenanceArgs) -> ExitCode {
    let place = client::usual(args.admin.socket.as_deref());
    let asked = match (&args.site, args.position) {
        (Some(site), Some(position)) => {
            let word = match position {
                Position::On => "on",
                Position::Off => "off",
                Position::Auto => "auto",
            };
            if !site.bytes().all(|byte| byte.is_ascii_graphic()) || site.contains(['/', '?', '#']) {
                super::tell(&format!("portcullis: `{site}` is no name of a site"));
                return ExitCode::from(super::USAGE);
            }
            client::ask(&place, "POST", &format!("/maintenance/{site}/{word}"))
        }
        (Some(_) | None, _) => client::ask(&place, "GET", "/maintenance"),
    };
    match asked {
        Ok(reply) if reply.status == 200 => {
            let sites = reply.body.as_object();
            for (site, state) in sites.into_iter().flatten() {
                let word = |key| state.get(key).and_then(serde_json::Value::as_str);
                let closed = word("now").unwrap_or_default();
                let switch = word("switch").unwrap_or_default();
                drop(writeln!(
                    std::io::stdout(),
                    "{site}: {closed} (switch: {switch})"
                ));
            }
            ExitCode::SUCCESS
        }
        Ok(reply) => refused(&place, &reply),
        Err(error) => unreachable(&place, &error),
    }
}
