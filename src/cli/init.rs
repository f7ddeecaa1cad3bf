//! `init`: a commented configuration to begin with.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
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
    const fn text(self) -> &'static str {
        match self {
            Self::Saas => include_str!("../../config/examples/saas.toml"),
            Self::Streaming => include_str!("../../config/examples/streaming.toml"),
            Self::Api => include_str!("../../config/examples/api.toml"),
            Self::Government => include_str!("../../config/examples/government.toml"),
            Self::Homelab => include_str!("../../config/examples/homelab.toml"),
            Self::Bank => include_str!("../../config/examples/bank.toml"),
        }
    }

    /// The files that it names, by their paths beside it.
    const fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Api => &[(
                "files/api-keys.toml",
                include_str!("../../config/examples/files/api-keys.toml"),
            )],
            Self::Homelab => &[(
                "files/family.htpasswd",
                include_str!("../../config/examples/files/family.htpasswd"),
            )],
            Self::Saas => &[(
                "files/session.key",
                include_str!("../../config/examples/files/session.key"),
            )],
            Self::Streaming | Self::Bank | Self::Government => &[],
        }
    }
}

/// A secret of 256 random bits, so that no two installations share one and none has a known one.
fn secret() -> Option<String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// What stands in the examples for a secret, and for a key.
const PLACEHOLDER: &str = "an-example-secret-that-init-replaces-by-random";
const PLACEHOLDER_KEY: &str = "YW4gZXhhbXBsZSBrZXkgdGhhdCBpbml0IHJlcGxhY2U";

/// Writes it.
#[must_use]
pub fn run(args: &InitArgs) -> ExitCode {
    let Some(secret) = secret() else {
        super::tell("portcullis: this machine gives no random numbers");
        return ExitCode::from(super::RUN_TIME_FAILURE);
    };
    let text = args.preset.text().replace(PLACEHOLDER, &secret);
    let Some(path) = &args.output else {
        for (name, _) in args.preset.files() {
            super::tell(&format!(
                "portcullis: it names `{name}`, which `--output FILE` writes as well"
            ));
        }
        return super::print(&text);
    };
    match write_all(path, &text, args.preset.files()) {
        Ok(()) => {
            let shown = path.display();
            super::print(&format!(
                "{shown} is written; next: portcullis check {shown}\n"
            ))
        }
        Err((path, error)) => {
            super::tell(&format!(
                "portcullis: {} cannot be written: {error}",
                path.display()
            ));
            ExitCode::from(super::RUN_TIME_FAILURE)
        }
    }
}

/// Writes the configuration and the files that it names beside it, and overwrites none.
fn write_all(path: &Path, text: &str, files: &[(&str, &str)]) -> Result<(), (PathBuf, io::Error)> {
    write(path, text).map_err(|error| (path.to_owned(), error))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for (name, content) in files {
        let path = folder.join(name);
        let written = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| {
                let Some(own) = secret() else {
                    return Err(io::Error::other("this machine gives no random numbers"));
                };
                write(&path, &content.replace(PLACEHOLDER_KEY, &own))
            });
        match written {
            // The operator's own, which the configuration then uses.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err((path, error)),
            Ok(()) => {}
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    if path.extension().is_some_and(|extension| extension == "key") {
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]
    use jiff::Timestamp;

    use super::*;
    use crate::config::{self, Input, Memory};

    #[test]
    fn what_is_written_passes_check_and_overwrites_nothing() {
        for preset in Preset::value_variants() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("portcullis.toml");
            let args = InitArgs {
                preset: *preset,
                output: Some(path.clone()),
            };
            let code = run(&args);
            assert_eq!(code, ExitCode::SUCCESS, "{preset:?}");
            let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
            let loaded = config::load(Input::File(path.clone()), Memory::default(), 1, now);
            let shown = loaded.report.render_plain();
            // A bank's certificates are its own: until the listener asks for them, `check` says so.
            if matches!(preset, Preset::Bank) {
                assert!(
                    shown.starts_with("warning[no-client-certificates]"),
                    "{shown}"
                );
                assert!(shown.ends_with("\n1 warning\n"), "{shown}");
            } else {
                assert_eq!(shown, "", "{preset:?}");
            }
            let first = std::fs::read_to_string(&path).unwrap();
            assert!(!first.contains(PLACEHOLDER), "{preset:?}");
            if matches!(preset, Preset::Saas) {
                let key = folder.path().join("files/session.key");
                let key = std::fs::read_to_string(key).unwrap();
                assert!(!key.contains(PLACEHOLDER_KEY), "everybody would know it");
            }
            assert_eq!(
                run(&args),
                ExitCode::from(crate::cli::RUN_TIME_FAILURE),
                "{preset:?}: a file is there already"
            );
            assert_eq!(std::fs::read_to_string(&path).unwrap(), first, "{preset:?}");
        }
    }
}
