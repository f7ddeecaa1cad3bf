//! `check`: loads a configuration, changes nothing, and reports every mistake, also those of meaning
//! ([`crate::config::findings`]).

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::reach::Reach;
use super::words::Format;
use crate::config::Paint;
use crate::config::{self, Input, Loaded, Memory, Report, Severity, effective, findings};

/// Arguments of `check`.
#[derive(Debug, Clone, Default, Args)]
pub struct CheckArgs {
    /// The configuration; without one: /etc/portcullis/portcullis.toml, else the built-in demo
    file: Option<PathBuf>,
    /// Show every setting with the value that holds, notes, and the findings that the file accepts
    #[arg(long, short)]
    verbose: bool,
    /// Say what a stranger can reach, and what those who sign in need
    #[arg(long)]
    reach: bool,
    /// How findings are printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Checks. Exit 0 where the configuration would run, warnings or not; 4 with findings (a failed policy test); else 3.
#[must_use]
pub fn run(args: &CheckArgs) -> ExitCode {
    let (name, input) = input(args.file.as_deref());
    let now = Timestamp::now();
    let mut loaded = config::load(input, Memory::default(), 1, now);
    let refused = loaded.snapshot.is_none();
    let untold = findings::analyse(&mut loaded, now);
    match args.format {
        Format::Json => {
            let report = match args.reach.then(|| Reach::of(&loaded, now)).flatten() {
                Some(reach) => format!("{:#}", reach.json()),
                None => loaded.report.json(),
            };
            let printed = super::print(&format!("{report}\n"));
            return match answer(&loaded) {
                None => printed,
                Some(code) => ExitCode::from(code),
            };
        }
        Format::Text => {}
    }
    let hidden = tell(&mut loaded.report, args.verbose);
    if refused {
        super::tell(&format!("{name}: not valid"));
        return ExitCode::from(super::CONFIG_INVALID);
    }
    let mut text = String::new();
    if args.verbose {
        text.push_str(&effective::settings(&loaded.root, &loaded.report));
        text.push('\n');
    }
    if let Some(reach) = args.reach.then(|| Reach::of(&loaded, now)).flatten() {
        text.push_str(&reach.text());
        text.push('\n');
    }
    let findings = loaded.report.count(Severity::Finding) > 0;
    let word = if findings {
        "valid, with findings"
    } else {
        "ok"
    };
    text.push_str(&format!("{name}: {word} ({}{hidden})\n", counts(&loaded)));
    if args.verbose && untold > 0 {
        let s = if untold == 1 { "" } else { "s" };
        text.push_str(&format!(
            "not analysed: {untold} route{s}, since the rules there are too many to tell\n"
        ));
    }
    let printed = super::print(&text);
    answer(&loaded).map_or(printed, ExitCode::from)
}

/// Prints the report. Notes about meaning and accepted findings are for those who ask for them; what was left out is said in
/// words for the last line.
fn tell(report: &mut Report, verbose: bool) -> String {
    if verbose {
        super::tell_report(&report.render_accepted(paint()));
        super::tell_report(&report.render(paint()));
        return String::new();
    }
    let all = report.diagnostics.len();
    report
        .diagnostics
        .retain(|one| one.severity != Severity::Note || one.rule.is_none());
    super::tell_report(&report.render(paint()));
    let left_out = [
        (all - report.diagnostics.len(), "note", "s"),
        (report.accepted.len(), "accepted finding", "s"),
    ];
    let left_out = left_out.into_iter().filter(|(count, ..)| *count > 0);
    let words: Vec<String> = left_out
        .map(|(count, word, s)| format!("{count} {word}{}", if count == 1 { "" } else { s }))
        .collect();
    if words.is_empty() {
        return String::new();
    }
    format!("; {}: see --verbose", words.join(", "))
}

/// The exit code of a configuration that is not simply good: 3 where it is refused, 4 where it has findings.
fn answer(loaded: &Loaded) -> Option<u8> {
    if loaded.snapshot.is_none() {
        return Some(super::CONFIG_INVALID);
    }
    (loaded.report.count(Severity::Finding) > 0).then_some(super::ANSWER_NO)
}

/// What is loaded where a verb takes an optional file, and how messages name it.
pub(super) fn input(file: Option<&Path>) -> (String, Input) {
    let installed = Path::new(super::INSTALLED_CONFIG);
    let file = file.or_else(|| Some(installed).filter(|path| path.exists()));
    match file {
        Some(path) => (path.display().to_string(), Input::File(path.to_owned())),
        None => {
            let name = "the built-in demo".to_owned();
            let input = Input::Text {
                name: "portcullis.toml (built in)".to_owned(),
                text: super::DEFAULT_CONFIG.to_owned(),
                folder: PathBuf::from("."),
            };
            (name, input)
        }
    }
}

/// `2 sites, 5 routes, 9 rules`: rules are denies and tables of `allow`.
fn counts(loaded: &Loaded) -> String {
    let root = &loaded.root;
    let allowed = |table: &config::Table| table.tables("allow").count();
    let mut routes = 0;
    let mut rules = root.tables("deny").count();
    for site in root.tables("site") {
        routes += usize::from(site.get("allow").is_some());
        rules += site.tables("deny").count() + allowed(site);
        for route in site.tables("route") {
            routes += 1;
            rules += route.tables("deny").count() + allowed(route);
        }
    }
    let plural = |count: usize, word: &str| {
        let s = if count == 1 { "" } else { "s" };
        format!("{count} {word}{s}")
    };
    let sites = root.tables("site").count();
    [(sites, "site"), (routes, "route"), (rules, "rule")]
        .map(|(count, word)| plural(count, word))
        .join(", ")
}

/// Colours on a terminal only, and not where the person wants none (<https://no-color.org>).
pub(super) fn paint() -> Paint {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted && std::io::stderr().is_terminal() {
        Paint::Colour
    } else {
        Paint::Plain
    }
}
