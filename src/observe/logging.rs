//! The diagnostics log: what the program says about itself, on standard error. The access log is another thing
//! ([`super::access_log`]).

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What a diagnostics line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people; with colours on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether this call set the diagnostics log up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// It did.
    Done,
    /// The process has one already, which stays.
    Already,
}

/// The variable that names the filter: `info`, `debug`, `warn,portcullis::upstream=trace` and the like.
pub const ENV: &str = "PORTCULLIS_LOG";

/// Sets up the diagnostics log. `filter` beats the environment's `PORTCULLIS_LOG`, which beats `info`; a filter that does not
/// parse is reported and `info` taken. Calling it twice is harmless.
pub fn init(filter: Option<&str>, format: Format) -> Init {
    let environment = std::env::var(ENV).ok();
    let (filter, mistake) = parse(filter.or(environment.as_deref()));
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(format == Format::Text && io::stderr().is_terminal());
    let set = match format {
        Format::Text => builder.finish().try_init(),
        Format::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    if set.is_err() {
        return Init::Already;
    }
    if let Some(mistake) = mistake {
        tracing::warn!(
            mistake,
            "the filter of the diagnostics log is wrong, taking `{DEFAULT}`"
        );
    }
    Init::Done
}

/// The filter, and what was wrong with the text.
fn parse(text: Option<&str>) -> (EnvFilter, Option<String>) {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    match EnvFilter::try_new(text.unwrap_or(DEFAULT)) {
        Ok(filter) => (filter, None),
        Err(mistake) => (EnvFilter::new(DEFAULT), Some(mistake.to_string())),
    }
}

const DEFAULT: &str = "info";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_twice_is_harmless() {
        init(Some("warn"), Format::Text);
        assert_eq!(init(Some("debug"), Format::Json), Init::Already);
    }

    #[test]
    fn filter_falls_back_to_info() {
        for (text, want, mistaken) in [
            (Some("portcullis=loud"), "info", true), // no such level
            (Some("a=b=c"), "info", true),
            (None, "info", false),
            (Some("  "), "info", false),
            (Some("debug"), "debug", false),
            (
                Some("warn,portcullis::upstream=trace"),
                "portcullis::upstream=trace,warn",
                false,
            ),
        ] {
            let (filter, mistake) = parse(text);
            assert_eq!(filter.to_string(), want, "{text:?}");
            assert_eq!(mistake.is_some(), mistaken, "{text:?}");
        }
    }
}
