//! `init`: a commented configuration to begin with.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, ValueEnum};

/// Arguments of `init`.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// What is protected
    #[arg(long, value_enum)]
    preset: Preset,
    /// Where to write it; standard output unless given. An existing file is never overwritten
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
enum Preset {
    /// A back office: roles and office networks
    Saas,
    /// A streaming service: rights by country
    Streaming,
    /// A bank: client certificates, device posture, hours
    Bank,
    /// A public API: keys, plans, limits
    Api,
    /// A government portal
    Government,
    /// A home lab behind Docker
    Homelab,
}

impl Preset {
    const fn text(self) -> Option<&'static str> {
        match self {
            Self::Saas => Some(include_str!("../../config/examples/saas.toml")),
            Self::Streaming => Some(include_str!("../../config/examples/streaming.toml")),
            Self::Bank | Self::Api | Self::Government | Self::Homelab => None,
        }
    }
}

/// A secret of 256 random bits, so that no two installations share one and none has a known one.
fn secret() -> Option<String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// What stands in the examples for a secret.
const PLACEHOLDER: &str = "an-example-secret-that-init-replaces-by-random";

/// Writes it.
#[must_use]
pub fn run(args: &InitArgs) -> ExitCode {
    let Some(text) = args.preset.text() else {
        super::tell("portcullis: this preset is not built yet; there are `saas` and `streaming`");
        return ExitCode::from(super::USAGE);
    };
    let Some(secret) = secret() else {
        super::tell("portcullis: this machine gives no random numbers");
        return ExitCode::from(super::RUN_TIME_FAILURE);
    };
    let text = text.replace(PLACEHOLDER, &secret);
    let Some(path) = &args.output else {
        return super::print(&text);
    };
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => {
            let shown = path.display();
            super::print(&format!(
                "{shown} is written; next: portcullis check {shown}\n"
            ))
        }
        Err(error) => {
            super::tell(&format!(
                "portcullis: {} cannot be written: {error}",
                path.display()
            ));
            ExitCode::from(super::RUN_TIME_FAILURE)
        }
    }
}
