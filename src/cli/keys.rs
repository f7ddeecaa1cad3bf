//! `keys`: the public keys by which applications verify what `signed_identity` tells them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::check::{input, paint};
use crate::config::{self, Memory};

/// Arguments of `keys`.
#[derive(Debug, Clone, Default, Args)]
pub struct KeysArgs {
    /// The configuration; without one: /etc/portcullis/portcullis.toml, else the built-in demo
    file: Option<PathBuf>,
}

/// Prints a JWK set (RFC 7517), each key once.
#[must_use]
pub fn run(args: &KeysArgs) -> ExitCode {
    let (name, input) = input(args.file.as_deref());
    let loaded = config::load(input, Memory::default(), 1, Timestamp::now());
    let Some(snapshot) = &loaded.snapshot else {
        super::tell_report(&loaded.report.render(paint()));
        super::tell(&format!("{name}: not valid"));
        return ExitCode::from(super::CONFIG_INVALID);
    };
    let mut keys: Vec<Value> = Vec::new();
    let signers = snapshot
        .sites
        .iter()
        .filter_map(|site| site.signer.as_ref());
    for jwk in signers.map(|signer| signer.jwk()) {
        if !keys.contains(&jwk) {
            keys.push(jwk);
        }
    }
    super::print(&format!("{:#}\n", json!({ "keys": keys })))
}
