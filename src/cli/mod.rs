//! The command line: one file per verb. Arguments in, exit code out; everything else lives in the other rooms.

pub mod check;
pub mod completions;
pub mod diff;
pub mod drain;
pub mod explain;
pub mod geo;
pub mod hash_password;
pub mod healthcheck;
pub mod init;
pub mod keys;
pub mod later;
mod log_line;
pub mod maintenance;
mod reach;
pub mod reload;
pub mod replay;
pub mod revoke;
pub mod run;
pub mod schema;
pub mod status;
pub mod test;
mod words;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Something broke while running.
pub const RUN_TIME_FAILURE: u8 = 1;
/// The command line makes no sense.
pub const USAGE: u8 = 2;
/// The configuration is not valid.
pub const CONFIG_INVALID: u8 = 3;
/// The answer is no: denied, a test failed, outcomes differ.
pub const ANSWER_NO: u8 = 4;

/// Where the package installs its configuration.
pub const INSTALLED_CONFIG: &str = "/etc/portcullis/portcullis.toml";
/// What runs where nothing is installed and no file is named.
pub const DEFAULT_CONFIG: &str = include_str!("../../config/portcullis.toml");

/// A policy-enforcing reverse proxy: judges every request by role, region and address before the upstream sees it.
#[derive(Debug, Parser)]
#[command(
    name = "portcullis",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Without a command: run.\n\nExit codes: 0 yes; 1 run-time failure; 2 usage; 3 configuration invalid; 4 the answer is no."
)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: run::RunArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve
    Run(run::RunArgs),
    /// Check a configuration and report every mistake
    #[command(short_flag = 't')]
    Check(check::CheckArgs),
    /// Say which rule decides a request and why
    Explain(Box<explain::ExplainArgs>),
    /// Run the policy's own tests
    Test(test::TestArgs),
    /// Say which requests change outcome between two configurations
    Diff(diff::DiffArgs),
    /// Judge the requests of an access log anew
    Replay(replay::ReplayArgs),
    /// Summarize an access log (not built yet)
    Report(later::Rest),
    /// Write a commented configuration to begin with
    Init(init::InitArgs),
    /// Look into GeoIP databases, or build one
    Geo(geo::GeoArgs),
    /// Print the JSON Schema of the configuration, for editors
    Schema(schema::SchemaArgs),
    /// Print completions for a shell
    Completions(completions::CompletionsArgs),
    /// How a running instance is
    Status(status::AdminArgs),
    /// Have a running instance load its configuration anew
    Reload(status::AdminArgs),
    /// Send no new requests to an upstream's endpoint, or take it back
    Drain(drain::DrainArgs),
    /// Close or open a site of a running instance
    Maintenance(maintenance::MaintenanceArgs),
    /// Make credentials count no longer at a running instance, or list those that do not
    Revoke(Box<revoke::RevokeArgs>),
    /// Exit with 0 while a running instance serves, else with 1
    Healthcheck(status::AdminArgs),
    /// Print the public keys by which applications verify `signed_identity`
    Keys(keys::KeysArgs),
    /// Hash a password or make an API key
    HashPassword(hash_password::HashPasswordArgs),
    /// Verify an audit log (not built yet)
    Audit(later::Rest),
    /// Translate another server's configuration (not built yet)
    Import(later::Rest),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => dispatch(cli),
        Err(error) => {
            // Help and version come this way as well, and are no failure.
            drop(error.print());
            u8::try_from(error.exit_code()).map_or(ExitCode::from(USAGE), ExitCode::from)
        }
    }
}

fn dispatch(cli: Cli) -> ExitCode {
    match cli.verb.unwrap_or(Verb::Run(cli.run)) {
        Verb::Run(args) => run::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Explain(args) => explain::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Diff(args) => diff::run(&args),
        Verb::Replay(args) => replay::run(&args),
        Verb::Report(_) => later::run("report"),
        Verb::Init(args) => init::run(&args),
        Verb::Geo(args) => geo::run(&args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Completions(args) => completions::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Reload(args) => reload::run(&args),
        Verb::Drain(args) => drain::run(&args),
        Verb::Maintenance(args) => maintenance::run(&args),
        Verb::Revoke(args) => revoke::run(&args),
        Verb::Healthcheck(args) => healthcheck::run(&args),
        Verb::Keys(args) => keys::run(&args),
        Verb::HashPassword(args) => hash_password::run(&args),
        Verb::Audit(_) => later::run("audit"),
        Verb::Import(_) => later::run("import"),
    }
}

/// Prints to standard output; a reader that has left is no failure of ours, a full disk is.
fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(RUN_TIME_FAILURE),
    }
}

/// Prints findings on standard error.
fn tell_report(text: &str) {
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// Says something to the person at the terminal, on standard error.
fn tell(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

#[cfg(test)]
mod tests;
