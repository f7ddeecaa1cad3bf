//! `replay LOG --policy NEW`: judges the requests of an access log anew.
//!
//! `lines` cuts the log into chunks of whole lines and hands them to a thread per core; `log_line` (of [`crate::cli`]) and
//! `combined` read a line; `judge` decides it under the new policy and compares; `tally` counts; `text` and `json` print.
//!
//! What a line does not tell is never guessed. Where the answer hangs on it, the line is *not replayable*, and why is counted.

mod combined;
mod json;
mod judge;
mod lines;
mod tally;
#[cfg(test)]
mod tests;
mod text;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;

use self::judge::Judge;
use self::tally::{Sort, Tally};
use super::check::{input, paint};
use super::words::{FailOn, Format};
use crate::config::Memory;
use crate::reload::instance;
use crate::snapshot::log::Privacy;

/// Arguments of `replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// The access log: our JSON, or nginx's combined format; `-` is standard input
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// The configuration whose policy judges
    #[arg(long, value_name = "NEW")]
    policy: PathBuf,
    /// The host that lines of the combined format were asked of
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Exit with 4 where requests would newly pass, or where any answer changes
    #[arg(long, value_enum)]
    fail_on: Option<FailOn>,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Replays. Exit 0; 4 with `--fail-on` where that is met; 2 where the log cannot be read; 3 where NEW is not valid.
#[must_use]
pub fn run(args: &ReplayArgs) -> ExitCode {
    let (name, input) = input(Some(&args.policy));
    let (loaded, memory) = instance::load(&input, Memory::default(), 1);
    let Some(snapshot) = &loaded.snapshot else {
        super::tell_report(&loaded.report.render(paint()));
        super::tell(&format!("{name}: not valid"));
        return ExitCode::from(super::CONFIG_INVALID);
    };
    let judge = match Judge::new(&loaded, snapshot, memory, args.host.as_deref()) {
        Ok(judge) => judge,
        Err(message) => return unusable(&message),
    };
    let (source, size) = match open(&args.log) {
        Ok(opened) => opened,
        Err(error) => {
            let message = format!("cannot read {}: {error}", args.log.display());
            return unusable(&message);
        }
    };
    let done = AtomicU64::new(0);
    let bar = lines::Bar::new(size);
    let tally = match lines::each(source, &done, &bar, &judge) {
        Ok(tally) => tally,
        Err(lines::Broken::Compressed) => {
            let log = args.log.display();
            return unusable(&format!(
                "{log} is compressed; try `zcat {log} | portcullis replay - --policy {name}`"
            ));
        }
        Err(lines::Broken::Read(error)) => {
            let bytes = done.load(Ordering::Relaxed);
            let message = format!("cannot read on after {bytes} bytes: {error}");
            return unusable(&message);
        }
    };
    let masked = snapshot.access_logs.iter();
    let masked = masked.into_iter().any(|log| log.privacy != Privacy::None);
    let printed = super::print(&match args.format {
        Format::Text => text::of(&tally, &name, masked),
        Format::Json => json::of(&tally, &name, masked),
    });
    if fails(args.fail_on, &tally) {
        return ExitCode::from(super::ANSWER_NO);
    }
    printed
}

fn fails(on: Option<FailOn>, tally: &Tally) -> bool {
    match on {
        None => false,
        Some(FailOn::Widen) => tally.count(Sort::WouldAllow) > 0,
        Some(FailOn::Any) => Sort::CHANGES.iter().any(|sort| tally.count(*sort) > 0),
    }
}

fn unusable(message: &str) -> ExitCode {
    super::tell(&format!("portcullis: {message}"));
    ExitCode::from(super::USAGE)
}

/// The log, and its size where that is known.
fn open(path: &Path) -> std::io::Result<(Box<dyn Read + Send>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(std::io::stdin()), None));
    }
    let file = std::fs::File::open(path)?;
    let found = file.metadata()?;
    if found.is_dir() {
        return Err(std::io::Error::from(std::io::ErrorKind::IsADirectory));
    }
    let size = found.is_file().then_some(found.len());
    Ok((Box::new(file), size))
}
