//! `explain`: how one request is judged, rule by rule, and what the client would see.
//!
//! The request is made up from arguments (`ask`), read from a line of our access log (`line`), or one that a running instance
//! remembers (`kept`: it explains that itself); for the first two the evaluator of the running
//! proxy judges it ([`crate::policy::explain`]); `answer` is what the client gets; `text` and `json` print it all.
//! A credential is verified by the site's own sources and never printed.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::check::{input, paint};
use super::words::Format;
use crate::config::Paint;
use crate::config::compile::tests;
use crate::config::node::Node;
use crate::config::{Context, Loaded, Memory, Report, Table};
use crate::policy::pattern::Pattern;
use crate::policy::simulate::{self, Asked, Outcome};
use crate::policy::{Decision, Place, Verdict, explain::Walk};
use crate::reload::instance;
use crate::snapshot::{Site, Snapshot};
use crate::value::host::{Authority, HostPattern};
use crate::value::path::Target;
use crate::value::source::Source;

mod answer;
mod ask;
mod json;
mod kept;
mod line;
mod text;

/// Arguments of `explain`. What a request does not say is plain: `GET`, from 198.51.100.7, now, no country on record, nobody.
#[derive(Debug, Clone, Default, Args)]
pub struct ExplainArgs {
    /// The id of a request that a running instance has judged lately
    #[arg(value_name = "ID", conflicts_with_all = ["url", "line"])]
    id: Option<String>,
    /// Read the request from a JSON line of our access log; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    line: Option<PathBuf>,
    /// What is asked for: a whole URL, or a path on the first site
    #[arg(long)]
    url: Option<String>,
    #[command(flatten)]
    facts: Facts,
    /// The configuration; without one: /etc/portcullis/portcullis.toml, else the built-in demo
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// With ID: the admin socket of the running instance, or its address
    #[arg(long, value_name = "ADDR|SOCKET", requires = "id")]
    admin: Option<PathBuf>,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What else is said of a request.
#[derive(Debug, Clone, Default, Args)]
struct Facts {
    /// The method [default: GET]
    #[arg(long, conflicts_with = "line")]
    method: Option<String>,
    /// The client address; without --country the databases say where it is
    #[arg(long, conflicts_with = "line")]
    ip: Option<std::net::IpAddr>,
    /// Who opened the connection [default: the client]
    #[arg(long, conflicts_with = "line")]
    peer: Option<std::net::IpAddr>,
    /// The country of the client, or `unlisted`
    #[arg(long, value_name = "CODE", conflicts_with = "line")]
    country: Option<String>,
    /// Its continent, or `unlisted`
    #[arg(long, value_name = "CODE", conflicts_with = "line")]
    continent: Option<String>,
    /// Its subdivision, such as US-CA
    #[arg(long, value_name = "CODE", conflicts_with = "line")]
    subdivision: Option<String>,
    /// The number of its autonomous system
    #[arg(long, value_name = "NUMBER", conflicts_with = "line")]
    asn: Option<u32>,
    /// An anonymizer known at its address; may be repeated
    #[arg(long, value_name = "KIND", conflicts_with = "line")]
    anonymizer: Vec<String>,
    /// A role of the caller; may be repeated
    #[arg(long, conflicts_with_all = ["line", "token"])]
    role: Vec<String>,
    /// The user
    #[arg(long, conflicts_with_all = ["line", "token"])]
    user: Option<String>,
    /// A claim of the caller, VALUE as JSON or text; may be repeated
    #[arg(long, value_name = "KEY=VALUE", conflicts_with_all = ["line", "token"])]
    claim: Vec<String>,
    /// A fact about the caller's device; may be repeated
    #[arg(long, value_name = "KEY=VALUE", conflicts_with_all = ["line", "token"])]
    device: Vec<String>,
    /// The source that vouches [default: the site's first], or `none`
    #[arg(long, value_name = "SOURCE", conflicts_with_all = ["line", "token"])]
    auth: Option<String>,
    /// A file with a token or key, verified by the site's own sources; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "line")]
    token: Option<PathBuf>,
    /// A header field; may be repeated
    #[arg(long, value_name = "NAME:VALUE", conflicts_with = "line")]
    header: Vec<String>,
    /// A cookie; may be repeated
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "line")]
    cookie: Vec<String>,
    /// When [default: now]
    #[arg(long, value_name = "TIME", conflicts_with = "line")]
    at: Option<String>,
    /// Judge as if this source had failed
    #[arg(long, value_enum, conflicts_with = "line")]
    failed: Vec<FailedSource>,
}

/// A source of facts that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FailedSource {
    /// The databases
    Geo,
    /// The identity source
    Identity,
}

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error)]
enum Unclear {
    /// An argument cannot be read.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read.
    #[error("cannot read {0}")]
    File(PathBuf, #[source] std::io::Error),
}

/// A request, and what we know of it beyond its facts.
#[derive(Debug)]
struct Question {
    asked: Asked,
    /// The caller in words.
    caller: String,
    /// What the region rests on.
    region_from: &'static str,
    /// `WWW-Authenticate`, should the caller be asked to sign in.
    challenges: Vec<http::HeaderValue>,
    /// Two valid credentials of different people: 400 where identity matters.
    conflict: bool,
    /// Facts that the source of the request does not have; they were taken as absent.
    unknown: Vec<&'static str>,
    /// What a log line says became of it.
    logged: Option<line::Logged>,
}

/// One request, explained.
#[derive(Debug)]
struct Explained {
    question: Question,
    outcome: Outcome,
    walk: Option<Walk>,
    site: Option<SitePart>,
    route: Option<RoutePart>,
    answer: answer::Answer,
    /// What the candidate policy says, in words.
    candidate: Option<String>,
}

/// The site that answers for the host.
#[derive(Debug)]
struct SitePart {
    name: String,
    /// The host pattern that matched.
    pattern: String,
    source: Source,
}

/// The route that owns the path.
#[derive(Debug)]
struct RoutePart {
    pattern: String,
    source: Source,
    /// Other routes whose patterns match, less specifically.
    others: Vec<String>,
}

/// Explains. Exit 0 where the request is allowed, 4 where it is not.
#[must_use]
pub fn run(args: &ExplainArgs) -> ExitCode {
    if let Some(id) = &args.id {
        return kept::run(args, id);
    }
    let (name, input) = input(args.config.as_deref());
    let (loaded, memory) = instance::load(&input, Memory::default(), 1);
    let Some(snapshot) = &loaded.snapshot else {
        super::tell_report(&loaded.report.render(paint()));
        super::tell(&format!("{name}: not valid"));
        return ExitCode::from(super::CONFIG_INVALID);
    };
    let bench = Bench::new(&loaded, snapshot, memory);
    let explained = match bench.question(args) {
        Ok(question) => bench.explain(question),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            super::tell(&format!("portcullis: {error}{}", cause.unwrap_or_default()));
            return ExitCode::from(super::USAGE);
        }
    };
    let printed = super::print(&match args.format {
        Format::Text => text::of(&explained, &snapshot.policy, colours()),
        Format::Json => json::of(&explained, &snapshot.policy),
    });
    if explained.passes() {
        printed
    } else {
        ExitCode::from(super::ANSWER_NO)
    }
}

/// Colours on a terminal only, and not where the person wants none (<https://no-color.org>).
fn colours() -> Paint {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted && std::io::stdout().is_terminal() {
        Paint::Colour
    } else {
        Paint::Plain
    }
}

/// The configuration that judges.
struct Bench<'l> {
    root: &'l Table,
    snapshot: &'l Snapshot,
    /// Knows the files, so that places have lines.
    context: Context,
}

impl<'l> Bench<'l> {
    fn new(loaded: &'l Loaded, snapshot: &'l Snapshot, memory: Memory) -> Self {
        let report = Report {
            files: loaded.report.files.clone(),
            ..Report::default()
        };
        Self {
            root: &loaded.root,
            snapshot,
            context: Context {
                report,
                memory,
                now: Timestamp::now(),
                ..Context::default()
            },
        }
    }

    fn question(&self, args: &ExplainArgs) -> Result<Question, Unclear> {
        match (&args.line, &args.url) {
            (Some(file), _) => line::question(self, file),
            (None, Some(url)) => ask::question(self, url, &args.facts),
            (None, None) => Err(Unclear::Usage(
                "describe a request with `--url`, or pass its line of the access log with `--line FILE`".to_owned(),
            )),
        }
    }

    fn explain(&self, question: Question) -> Explained {
        let (outcome, walk) = simulate::explain(&self.snapshot.policy, &question.asked);
        let place = match outcome {
            Outcome::Judged { place, .. } => place,
            Outcome::Malformed(_) | Outcome::Ambiguous => Place::default(),
        };
        let answer = answer::of(self, &question, outcome, place);
        let candidate = self.snapshot.candidate.as_ref().map(|candidate| {
            let outcome = simulate::live(&candidate.policy, &question.asked);
            let told = text::ends(outcome, &question, &candidate.policy);
            let now = simulate::live(&self.snapshot.policy, &question.asked);
            let same = now.status(&self.snapshot.policy) == outcome.status(&candidate.policy)
                && now.reason(&self.snapshot.policy) == outcome.reason(&candidate.policy);
            let same = if same { "the same answer; " } else { "" };
            format!("{same}{told} [{}]", candidate.file)
        });
        Explained {
            candidate,
            site: self.site_part(place, &question.asked),
            route: self.route_part(place, &question.asked),
            question,
            outcome,
            walk,
            answer,
        }
    }

    /// Where a request belongs; nothing where its path cannot be read in one way.
    fn locate(&self, asked: &Asked) -> Option<Place> {
        let target = Target::read(&asked.target).ok()?;
        self.snapshot.policy.locate(&asked.host, &target).ok()
    }

    fn site(&self, place: Place) -> Option<&'l Site> {
        self.snapshot
            .sites
            .get(usize::try_from(place.site?.0).ok()?)
    }

    fn site_table(&self, place: Place) -> Option<&'l Table> {
        let number = usize::try_from(place.site?.0).ok()?;
        self.root.tables("site").nth(number)
    }

    fn site_part(&self, place: Place, asked: &Asked) -> Option<SitePart> {
        let table = self.site_table(place)?;
        let patterns = table.many("host").filter_map(Node::as_str);
        let matching = patterns.filter_map(|text| {
            let pattern: HostPattern = text.parse().ok()?;
            pattern.matches(&asked.host).then_some((pattern, text))
        });
        let best = matching.max_by_key(|(pattern, _)| match pattern {
            HostPattern::Any => (0, 0),
            HostPattern::Under(parent) => (1, parent.len()),
            HostPattern::Exact(_) => (2, 0),
        });
        Some(SitePart {
            name: self.site(place)?.name.to_string(),
            pattern: best.map(|(_, text)| text.to_owned()).unwrap_or_default(),
            source: self.context.source(table.span),
        })
    }

    fn route_part(&self, place: Place, asked: &Asked) -> Option<RoutePart> {
        let site = self.site(place)?;
        let number = usize::try_from(place.route?.0).ok()?;
        let owner = site.routes.get(number)?;
        let target = Target::read(&asked.target).ok()?;
        let others = site.routes.iter().enumerate().filter(|(at, route)| {
            let pattern = Pattern::read(&route.pattern).ok();
            *at != number && pattern.is_some_and(|pattern| pattern.covers(&target))
        });
        let table = self.site_table(place)?;
        let span = table
            .tables("route")
            .nth(number)
            .map_or(table.span, |t| t.span);
        Some(RoutePart {
            pattern: owner.pattern.to_string(),
            source: self.context.source(span),
            others: others.map(|(_, route)| route.pattern.to_string()).collect(),
        })
    }

    /// The host that a path without one is asked of: the first site's.
    fn first_host(&self) -> Option<String> {
        let site = self.root.tables("site").next()?;
        let text = site.many("host").find_map(Node::as_str)?;
        let name = tests::host_for(text);
        let read = Authority::read(&name).ok()?;
        Some(read.host.into_owned())
    }
}

impl Explained {
    fn decision(&self) -> Option<Decision> {
        match self.outcome {
            Outcome::Judged { decision, .. } if !self.conflicts() => Some(decision),
            Outcome::Judged { .. } | Outcome::Malformed(_) | Outcome::Ambiguous => None,
        }
    }

    /// Whether two credentials of different people stood in the head, and identity mattered.
    const fn conflicts(&self) -> bool {
        self.question.conflict && matches!(self.outcome, Outcome::Judged { verified: true, .. })
    }

    fn passes(&self) -> bool {
        self.decision()
            .is_some_and(|decision| decision.verdict == Verdict::Allow)
    }

    /// The facts that rules of this place read and that nobody told us.
    fn unknown(&self) -> Vec<&'static str> {
        let read = |fact: &&&'static str| {
            let mut keys = self.walk.iter().flat_map(Walk::keys);
            keys.any(|key| key.fact == **fact)
        };
        self.question.unknown.iter().filter(read).copied().collect()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod of_explain;
