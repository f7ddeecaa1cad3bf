//! `portcullis geo lookup|info|build`: what databases say of an address, what they are, and how to make one.

use std::error::Error as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::json;

use super::words::Format;
use crate::client::geo::writer::{Label, write};
use crate::client::geo::{self, Database, Databases, Source, csv};
use crate::config::compile::geoip;
use crate::config::{Context, Report, Severity, Table, node};
use crate::value::region::{Anonymizers, Region};

/// GeoIP databases: look an address up, describe them, build one.
#[derive(Debug, Args)]
pub struct GeoArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What the databases say of an address
    Lookup {
        /// The address
        address: IpAddr,
        #[command(flatten)]
        databases: Chosen,
        /// How to print it
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// What the databases are: type, age, size, facts
    Info {
        /// Database files; without any, those of the configuration
        files: Vec<PathBuf>,
        /// The configuration whose databases are described
        #[arg(long, value_name = "FILE", conflicts_with = "files")]
        config: Option<PathBuf>,
        /// How to print it
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Builds a database from a table: network,country,continent,subdivision,asn,as_org,anonymizers
    Build {
        /// The table, comma-separated with a header line
        table: PathBuf,
        /// The database file to write
        #[arg(value_name = "OUT")]
        file: PathBuf,
        /// What the database calls its type
        #[arg(long, default_value = "Portcullis-Geo")]
        kind: String,
        /// The build time in seconds since 1970, for builds that must repeat byte by byte; now, if absent
        #[arg(long, env = "SOURCE_DATE_EPOCH")]
        build_epoch: Option<u64>,
    },
}

#[derive(Debug, Args)]
struct Chosen {
    /// The configuration whose databases are asked
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A database file to ask instead; may be given several times
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    database: Vec<PathBuf>,
}

/// Runs the verb. Exit codes as everywhere: 0 done (also for an address that no database lists), 1 a file that cannot be read
/// or written, 3 a configuration, database or table that is broken.
#[must_use]
pub fn run(args: &GeoArgs) -> ExitCode {
    // Written as a whole: what ends early prints nothing.
    let mut text = Vec::new();
    let mut outcome = dispatch(args, &mut text);
    if outcome.is_ok() {
        outcome = printed(std::io::stdout().lock().write_all(&text));
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop { code, text }) => {
            // Nobody is left to be told if standard error is gone.
            drop(writeln!(std::io::stderr(), "{text}"));
            ExitCode::from(code)
        }
    }
}

fn dispatch(args: &GeoArgs, out: &mut Vec<u8>) -> Result<(), Stop> {
    match &args.verb {
        Verb::Lookup {
            address,
            databases,
            format,
        } => lookup(*address, databases, *format, out),
        Verb::Info {
            files,
            config,
            format,
        } => info(files, config.as_deref(), *format, out),
        Verb::Build {
            table,
            file,
            kind,
            build_epoch,
        } => build(table, file, (kind, *build_epoch), out),
    }
}

/// A reader that has left is no failure of ours, a full disk is.
fn printed(outcome: std::io::Result<()>) -> Result<(), Stop> {
    match outcome {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Why the verb ends early: the exit code and what to say.
#[derive(Debug)]
struct Stop {
    code: u8,
    text: String,
}

impl Stop {
    fn failed(text: String) -> Self {
        Self { code: 1, text }
    }

    fn invalid(text: String) -> Self {
        Self { code: 3, text }
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::failed(format!("error: {error}"))
    }
}

fn lookup(address: IpAddr, chosen: &Chosen, format: Format, out: &mut Vec<u8>) -> Result<(), Stop> {
    let address = address.to_canonical();
    let databases = if chosen.database.is_empty() {
        configured(chosen.config.as_deref())?
    } else {
        Databases::new(
            chosen
                .database
                .iter()
                .map(|path| opened(path))
                .collect::<Result<_, _>>()?,
        )
    };
    let region = databases.region(address, Timestamp::now());
    let networks = databases
        .sources()
        .iter()
        .map(|source| (source, network_of(source, address)));
    let networks: Vec<(&Source, Option<IpNet>)> = networks.collect();
    if format == Format::Json {
        let networks = networks.iter().map(|(source, network)| {
            json!({ "database": *source.name, "network": network.map(|network| network.to_string()) })
        });
        let networks: Vec<serde_json::Value> = networks.collect();
        writeln!(out, "{}", to_json(address, &region, &networks))?;
        return Ok(());
    }
    writeln!(out, "address      {address}")?;
    let line = |fact: Option<String>| fact.unwrap_or_else(|| "unlisted".to_owned());
    let country = region
        .country
        .map(|country| format!("{country} ({})", country.name()));
    writeln!(out, "country      {}", line(country))?;
    let continent = region
        .continent
        .map(|continent| format!("{continent} ({})", continent.name()));
    writeln!(out, "continent    {}", line(continent))?;
    let subdivisions = region
        .subdivisions
        .iter()
        .flatten()
        .map(ToString::to_string);
    let subdivisions: Vec<String> = subdivisions.collect();
    writeln!(
        out,
        "subdivision  {}",
        line((!subdivisions.is_empty()).then(|| subdivisions.join(", ")))
    )?;
    writeln!(
        out,
        "asn          {}",
        line(region.asn.map(|asn| format!("AS{asn}")))
    )?;
    let none = region.anonymizer == Anonymizers::default();
    let kinds: Vec<&str> = region.anonymizer.words().collect();
    writeln!(
        out,
        "anonymizer   {}",
        if none {
            "none".to_owned()
        } else {
            kinds.join(", ")
        }
    )?;
    for (source, network) in networks {
        let network = network.map_or_else(|| "unlisted".to_owned(), |network| network.to_string());
        writeln!(out, "network      {network} in {}", source.name)?;
    }
    if databases.sources().is_empty() {
        writeln!(
            out,
            "no database is configured, and none was found in the usual folders"
        )?;
    }
    let failed: Vec<&str> = region.failed.words().collect();
    if !failed.is_empty() {
        writeln!(
            out,
            "failed       {} (database older than max_age)",
            failed.join(", ")
        )?;
    }
    Ok(())
}

fn to_json(address: IpAddr, region: &Region, networks: &[serde_json::Value]) -> serde_json::Value {
    let subdivisions = region
        .subdivisions
        .iter()
        .flatten()
        .map(ToString::to_string);
    json!({
        "address": address.to_string(),
        "country": region.country.map(|country| country.to_string()),
        "continent": region.continent.map(|continent| continent.to_string()),
        "subdivision": subdivisions.collect::<Vec<String>>(),
        "asn": region.asn,
        "anonymizer": region.anonymizer.words().collect::<Vec<&str>>(),
        "failed": region.failed.words().collect::<Vec<&str>>(),
        "networks": networks,
    })
}

/// The network of the address in the database's file, which is read again for it.
fn network_of(source: &Source, address: IpAddr) -> Option<IpNet> {
    let bytes = if *source.name == *geo::demo::NAME {
        geo::demo::bytes(0).ok()?
    } else {
        geo::load(&source.path).ok()?
    };
    geo::network(&bytes, address).ok()?
}

fn info(
    files: &[PathBuf],
    config: Option<&Path>,
    format: Format,
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    let sources = if files.is_empty() {
        configured(config)?.sources().to_vec()
    } else {
        files
            .iter()
            .map(|path| opened(path))
            .collect::<Result<_, _>>()?
    };
    if format == Format::Json {
        let all = sources
            .iter()
            .map(|source| described(source, &source.database));
        writeln!(out, "{}", serde_json::Value::Array(all.collect()))?;
        return Ok(());
    }
    if sources.is_empty() {
        writeln!(
            out,
            "no database is configured, and none was found in the usual folders"
        )?;
    }
    let now = Timestamp::now();
    for (number, source) in sources.iter().enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        let about = source.database.about();
        writeln!(out, "database     {}", source.name)?;
        writeln!(out, "type         {}", about.kind)?;
        let built = about.built.map_or_else(
            || "unknown".to_owned(),
            |built| {
                format!(
                    "{built} ({} days ago)",
                    now.duration_since(built).as_hours() / 24
                )
            },
        );
        writeln!(out, "built        {built}")?;
        let facts: Vec<&str> = source.database.provides().words().collect();
        let facts = if facts.is_empty() {
            "none that rules can read".to_owned()
        } else {
            facts.join(", ")
        };
        writeln!(out, "facts        {facts}")?;
        writeln!(out, "networks     {}", about.networks)?;
        writeln!(out, "regions      {}", about.regions)?;
        writeln!(
            out,
            "tree         IPv{}, {} nodes, {}-bit records",
            about.ip_version, about.node_count, about.record_size
        )?;
        writeln!(out, "languages    {}", about.languages.join(", "))?;
    }
    Ok(())
}

fn described(source: &Source, database: &Database) -> serde_json::Value {
    let about = database.about();
    json!({
        "database": *source.name,
        "type": about.kind,
        "built": about.built.map(|built| built.to_string()),
        "facts": database.provides().words().collect::<Vec<&str>>(),
        "networks": about.networks,
        "regions": about.regions,
        "ip_version": about.ip_version,
        "node_count": about.node_count,
        "record_size": about.record_size,
        "languages": about.languages,
    })
}

fn build(
    table: &Path,
    file: &Path,
    label: (&str, Option<u64>),
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    let text = std::fs::read_to_string(table).map_err(|error| {
        Stop::failed(format!(
            "error: `{}` cannot be read: {error}",
            table.display()
        ))
    })?;
    let entries = csv::parse(&text).map_err(|mistakes| {
        let shown = mistakes.iter().take(MISTAKES_SHOWN);
        let mut lines: Vec<String> = shown
            .map(|mistake| format!("{}:{}: {}", table.display(), mistake.line, mistake.message))
            .collect();
        if let Some(more) = mistakes
            .len()
            .checked_sub(MISTAKES_SHOWN)
            .filter(|more| *more > 0)
        {
            lines.push(format!("and {more} more"));
        }
        Stop::invalid(lines.join("\n"))
    })?;
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
    let (kind, build_epoch) = label;
    let label = Label {
        kind,
        description: "Built by portcullis geo build",
        build_epoch: build_epoch.unwrap_or(now),
    };
    let bytes =
        write(&entries, &label).map_err(|error| Stop::invalid(format!("error: {error}")))?;
    let database =
        Database::read(&bytes).map_err(|error| Stop::failed(format!("error: {error}")))?;
    let name = file.display();
    replace(file, &bytes)
        .map_err(|error| Stop::failed(format!("error: `{name}` cannot be written: {error}")))?;
    let facts: Vec<&str> = database.provides().words().collect();
    let (facts, networks) = (facts.join(", "), database.about().networks);
    let (lines, size) = (entries.len(), bytes.len());
    writeln!(
        out,
        "{name}: {lines} entries, {networks} networks, {size} bytes: {facts}"
    )?;
    Ok(())
}

/// Writes beside the target and renames: a proxy that watches the file never sees half of it.
fn replace(out: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = out.with_file_name(name);
    let mut file = std::fs::File::create(&beside)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&beside, out));
    if written.is_err() {
        drop(std::fs::remove_file(&beside));
    }
    written
}

fn opened(path: &Path) -> Result<Source, Stop> {
    let name = path.display().to_string();
    match geo::open(path) {
        Ok(database) => Ok(Source::new(&name, path, std::sync::Arc::new(database))),
        Err(error) => {
            let mut text = format!("error: `{name}`: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(": ");
                text.push_str(&error.to_string());
                cause = error.source();
            }
            let code = match error {
                geo::OpenError::Unreadable(_) => 1,
                geo::OpenError::Broken(_) => 3,
            };
            Err(Stop { code, text })
        }
    }
}

/// The databases of a configuration, or of the usual folders. Only `[geoip]` is read: the rest may be broken.
fn configured(config: Option<&Path>) -> Result<Databases, Stop> {
    let mut cx = Context {
        now: Timestamp::now(),
        ..Context::default()
    };
    let mut root = Table::default();
    if let Some(path) = config {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Stop::failed(format!(
                "error: `{}` cannot be read: {error}",
                path.display()
            ))
        })?;
        let (table, mistakes) = node::parse(&text, node::FileId(0));
        cx.report = Report {
            diagnostics: mistakes,
            files: vec![crate::config::diagnostic::SourceFile {
                name: path.display().to_string().into(),
                folder: path.parent().unwrap_or_else(|| Path::new("")).to_owned(),
                text: text.into(),
            }],
            ..Report::default()
        };
        root = table;
    }
    let databases = geoip::compile(&root, &mut cx);
    if cx.report.refused() {
        let errors = cx
            .report
            .diagnostics
            .iter()
            .filter(|finding| finding.severity == Severity::Error);
        let lines: Vec<String> = errors
            .map(|finding| format!("error[{}]: {}", finding.code, finding.message))
            .collect();
        return Err(Stop::invalid(lines.join("\n")));
    }
    Ok(std::sync::Arc::into_inner(databases).unwrap_or_default())
}

/// A table of a million lines may have a million mistakes.
const MISTAKES_SHOWN: usize = 50;

#[cfg(test)]
mod tests;
