//! `run`: the proxy itself, from a file, in front of one application without a file, or the demo.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use jsonwebtoken::{Algorithm, EncodingKey, Header};

use crate::config::Input;
use crate::config::Paint;
use crate::observe::logging;
use crate::reload::handover::Successor;
use crate::reload::instance::{Process, Signals, Watch};
use crate::reload::supervisor::Supervisor;
use crate::reload::{Instance, Options, StartError};
use crate::server::descriptors;
use crate::server::inherited::Inherited;

/// Arguments of `run`.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// The configuration; without one: /etc/portcullis/portcullis.toml, else the demo
    #[arg(long, short, value_name = "FILE", conflicts_with = "to")]
    pub config: Option<PathBuf>,
    /// Front this application, without a configuration file
    #[arg(long, value_name = "HOST:PORT")]
    pub to: Option<String>,
    /// Where to listen, with --to
    #[arg(long, value_name = "ADDR", requires = "to", default_value = DEFAULT_LISTEN)]
    pub listen: Option<SocketAddr>,
    /// Refuse this country with 451, with --to; may be repeated
    #[arg(long = "deny-country", value_name = "XX", requires = "to")]
    pub deny_country: Vec<String>,
}

/// What is run.
enum What {
    File,
    Front,
    Demo,
}

/// Runs until a signal ends it.
#[must_use]
pub fn run(args: &RunArgs) -> ExitCode {
    logging::init(None, logging::Format::Text);
    descriptors::raise();
    let process = Process {
        inherited: Inherited::from_env(),
        successor: Successor::of_this_process()
            .inspect_err(|error| tracing::warn!(%error, "USR2 will not hand over"))
            .ok(),
        supervisor: Supervisor::Told,
    };
    let (input, what) = input(args);
    let options = Options {
        input,
        signals: Signals::Answer,
        watch: Watch::Files,
    };
    let instance = match Instance::start_process(options, process) {
        Ok(instance) => instance,
        Err(error) => return refused(&error),
    };
    let findings = instance.report();
    if !findings.diagnostics.is_empty() {
        // The diagnostics log may be kept and shipped: it repeats no line of a file, since a secret may stand there.
        for finding in findings.lines() {
            tracing::warn!("{finding}");
        }
    }
    let text = match (what, instance.addresses().first()) {
        (What::Demo, Some(address)) => demo_text(*address),
        (What::Front, Some(address)) => {
            format!(
                "Portcullis is in front of {}\n  http://{address}/\n",
                args.to.as_deref().unwrap_or_default()
            )
        }
        (What::File | What::Front | What::Demo, _) => String::new(),
    };
    // A closed standard output is no reason not to serve.
    drop(std::io::stdout().write_all(text.as_bytes()));
    instance.wait();
    ExitCode::SUCCESS
}

fn input(args: &RunArgs) -> (Input, What) {
    if let Some(file) = &args.config {
        return (Input::File(file.clone()), What::File);
    }
    if let Some(to) = &args.to {
        let text = front_text(to, args.listen, &args.deny_country);
        return (
            Input::Text {
                name: "--to".into(),
                text,
                folder: PathBuf::from("."),
            },
            What::Front,
        );
    }
    let installed = Path::new(super::INSTALLED_CONFIG);
    if installed.exists() {
        return (Input::File(installed.to_owned()), What::File);
    }
    let demo = Input::Text {
        name: "demo".into(),
        text: super::DEFAULT_CONFIG.into(),
        folder: PathBuf::from("."),
    };
    (demo, What::Demo)
}

fn front_text(to: &str, listen: Option<SocketAddr>, countries: &[String]) -> String {
    let quote = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let listen = listen.map_or_else(|| DEFAULT_LISTEN.to_owned(), |address| address.to_string());
    let server = if to.contains("://") {
        to.to_owned()
    } else {
        format!("http://{to}")
    };
    let mut text = format!(
        "[[listener]]\naddress = {}\n\n[upstream.app]\nservers = [{}]\n\n[[site]]\nhost = [\"*\"]\nupstream = \"app\"\n\
         allow = \"anyone\"\n",
        quote(&listen),
        quote(&server),
    );
    if !countries.is_empty() {
        let countries: Vec<String> = countries.iter().map(|country| quote(country)).collect();
        text.push_str(&format!(
            "\n[[deny]]\nname = \"denied-countries\"\ncountry = [{}]\nstatus = 451\nreason = \"region_restricted\"\n\
             message = \"Content unavailable in your location\"\n",
            countries.join(", "),
        ));
    }
    text
}

fn refused(error: &StartError) -> ExitCode {
    let mut out = std::io::stderr();
    if let StartError::Config(report) = error {
        drop(out.write_all(report.render(Paint::Plain).as_bytes()));
        return ExitCode::from(super::CONFIG_INVALID);
    }
    let mut text = format!("portcullis: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text.push('\n');
    drop(out.write_all(text.as_bytes()));
    ExitCode::from(super::RUN_TIME_FAILURE)
}

/// What the demo says at its start; every line does what it says when pasted.
fn demo_text(address: SocketAddr) -> String {
    let url = format!("http://{address}");
    let token = demo_token().unwrap_or_default();
    format!(
        "Portcullis demo: {url}/  (policy: `config/portcullis.toml`, built in)\n\
         Try, in another terminal:\n\n\
         # a page, allowed\n\
         curl -i {url}/\n\n\
         # a film, from Norway: 451 region_restricted, as JSON\n\
         curl -i -H 'X-Forwarded-For: 203.0.113.150' {url}/premium/film\n\n\
         # the office page, from outside, as a browser: a 403 page\n\
         curl -i -H 'Accept: text/html' -H 'X-Forwarded-For: 198.51.100.7' {url}/office\n\n\
         # the admin pages, as nobody: 401 with WWW-Authenticate\n\
         curl -i {url}/admin\n\n\
         # the same with a demo token (role admin, one day): allowed\n\
         curl -i -H 'Authorization: Bearer {token}' {url}/admin\n\n\
         Stop with Ctrl-C. Your own application instead: portcullis run --to 127.0.0.1:3000\n\n",
    )
}

/// A token for the demo's identity source; worth nothing anywhere else.
pub(super) fn demo_token() -> Option<String> {
    let now = jiff::Timestamp::now().as_second();
    let claims = serde_json::json!({
        "iss": "https://demo.portcullis.invalid/",
        "aud": "demo",
        "sub": "ada",
        "roles": ["admin"],
        "iat": now,
        "exp": now + 86_400,
    });
    let key = EncodingKey::from_secret(DEMO_SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).ok()
}

/// The secret in `config/portcullis.toml`.
const DEMO_SECRET: &str = "demo-secret-of-portcullis-worth-nothing-elsewhere";
const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn the_readme_shows_the_lines_of_the_demo() {
        let readme = include_str!("../../README.md");
        let shown = demo_text(DEFAULT_LISTEN.parse().unwrap());
        let lines: Vec<&str> = shown
            .lines()
            .filter(|line| line.starts_with("curl "))
            .collect();
        assert_eq!(lines.len(), 5);
        for line in lines {
            // The token is another one at every start.
            let line = line.split("Bearer ").next().unwrap();
            assert!(readme.contains(line), "{line}");
        }
    }
}
