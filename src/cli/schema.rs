//! `schema`: the JSON Schema of the configuration, for editors; or the reference.

use std::process::ExitCode;

use clap::Args;

use crate::config::schema;

/// Arguments of `schema`.
#[derive(Debug, Clone, Default, Args)]
pub struct SchemaArgs {
    /// Print the reference in Markdown instead
    #[arg(long, hide = true)]
    reference: bool,
}

/// Prints it.
#[must_use]
pub fn run(args: &SchemaArgs) -> ExitCode {
    if args.reference {
        super::print(&schema::markdown())
    } else {
        super::print(&format!("{:#}\n", schema::json_schema()))
    }
}
