//! `diff`: which requests end otherwise under a new configuration ([`crate::analysis::diff`]), in the policy's own words.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::check::{input, paint};
use super::words::{FailOn, Format};
use crate::analysis::Ending;
use crate::analysis::diff::{self, Budget, Change, Diff, Region, Side, Where};
use crate::config::{self, Memory};
use crate::policy::facts::Scheme;
use crate::policy::simulate::{Asked, Caller};
use crate::policy::{Policy, RuleKind};
use crate::snapshot::{Answer, Snapshot};

/// Arguments of `diff`.
#[derive(Debug, Clone, Args)]
pub struct DiffArgs {
    /// The configuration as it was
    old: PathBuf,
    /// The configuration as it is to be
    new: PathBuf,
    /// Exit with 4 where anything is newly allowed, or where anything changes at all
    #[arg(long, value_enum)]
    fail_on: Option<FailOn>,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Compares. Exit 0, or 4 where `--fail-on` says so; 3 where a configuration is not valid.
#[must_use]
pub fn run(args: &DiffArgs) -> ExitCode {
    let now = Timestamp::now();
    let (Some(old), Some(new)) = (load(&args.old, now), load(&args.new, now)) else {
        return ExitCode::from(super::CONFIG_INVALID);
    };
    let found = diff::diff(&old.policy, &new.policy, now, BUDGET);
    let told = Told {
        args,
        old: &old,
        new: &new,
        found: &found,
    };
    let text = match args.format {
        Format::Text => told.text(),
        Format::Json => format!("{:#}\n", told.json()),
    };
    let printed = super::print(&text);
    let widens = found
        .regions
        .iter()
        .any(|region| region.change == Change::Allowed);
    let fails = match args.fail_on {
        None => false,
        Some(FailOn::Widen) => widens || !found.untold.is_empty(),
        Some(FailOn::Any) => !(found.regions.is_empty() && found.untold.is_empty()),
    };
    if fails {
        ExitCode::from(super::ANSWER_NO)
    } else {
        printed
    }
}

/// Loads one of the two; tells what is wrong with it.
fn load(file: &Path, now: Timestamp) -> Option<Snapshot> {
    let (name, input) = input(Some(file));
    let loaded = config::load(input, Memory::default(), 1, now);
    if loaded.snapshot.is_none() {
        super::tell_report(&loaded.report.render(paint()));
        super::tell(&format!("{name}: not valid"));
    }
    loaded.snapshot
}

/// What was found, and where.
struct Told<'t> {
    args: &'t DiffArgs,
    old: &'t Snapshot,
    new: &'t Snapshot,
    found: &'t Diff,
}

impl Told<'_> {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut number = 0;
        for (change, title) in [
            (
                Change::Allowed,
                "newly allowed (of the requests that pass now)",
            ),
            (
                Change::Denied,
                "newly denied (of the requests that passed before)",
            ),
            (
                Change::Answered,
                "refused before and now, with another answer",
            ),
        ] {
            let mut regions = self
                .found
                .regions
                .iter()
                .filter(|r| r.change == change)
                .peekable();
            if regions.peek().is_some() {
                text.push_str(&format!("{title}\n"));
            }
            for region in regions {
                number += 1;
                self.region(number, region, &mut text);
                text.push('\n');
            }
        }
        if !self.found.untold.is_empty() {
            text.push_str("cannot tell: too large to compare\n");
            places(&self.found.untold, "   ", &mut text);
            text.push('\n');
        }
        let answers = self.answers();
        if !answers.is_empty() {
            let all = crate::analysis::diff::some_of(answers.into_iter());
            wrapped(
                "decisions aside, these routes lead elsewhere: ",
                "   ",
                &all,
                &mut text,
            );
            text.push('\n');
        }
        let count = |change| {
            self.found
                .regions
                .iter()
                .filter(|r| r.change == change)
                .count()
        };
        let counts = [
            (count(Change::Allowed), "newly allowed"),
            (count(Change::Denied), "newly denied"),
            (count(Change::Answered), "answered otherwise"),
        ];
        if number == 0 && self.found.untold.is_empty() {
            text.push_str("no request ends otherwise\n");
        } else {
            let counts: Vec<String> = counts
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, word)| format!("{count} {word}"))
                .collect();
            let s = if number == 1 { "" } else { "s" };
            text.push_str(&format!("{number} region{s}: {}\n", counts.join(", ")));
        }
        text
    }

    fn region(&self, number: usize, region: &Region, text: &mut String) {
        text.push_str(&format!("{number}. "));
        places(&region.places, "   ", text);
        for (at, case) in region.cases.iter().enumerate() {
            let first = if at == 0 { "   where " } else { "      or " };
            wrapped(first, "         ", &case.join(" and "), text);
        }
        if region.more {
            text.push_str("         (and in other cases, too many to list)\n");
        }
        let (old, new) = (&self.old.policy, &self.new.policy);
        wrapped("   was   ", "         ", &side(&region.old, old), text);
        wrapped("   now   ", "         ", &side(&region.new, new), text);
        if same_words(&region.old, &region.new) {
            text.push_str("         (its message, page or link differs)\n");
        }
        match &region.example {
            Some(example) => {
                let line = command(&example.1, region, &self.args.new);
                wrapped("   e.g.  ", "         ", &line, text);
            }
            None if region.depends.is_empty() => {
                text.push_str("   e.g.  no example was found\n");
            }
            None => {
                let all = region.depends.iter().map(ToString::to_string);
                let all = diff::some_of(all);
                let line = format!("no example: it depends on {all}");
                wrapped("   e.g.  ", "         ", &line, text);
            }
        }
    }

    fn json(&self) -> Value {
        let places = |all: &[Where]| -> Vec<Value> {
            all.iter()
                .map(|place| json!({ "hosts": &*place.hosts, "path": &*place.path }))
                .collect()
        };
        let side = |side: &Side, policy: &Policy| {
            let rules: Vec<Value> = side
                .rules
                .iter()
                .map(|id| {
                    let rule = policy.rule(*id);
                    json!({ "rule": &*rule.name, "kind": kind(rule.kind), "source": rule.source.to_string() })
                })
                .collect();
            let answers: Vec<Value> = side
                .endings
                .iter()
                .map(answer)
                .map(|(status, reason)| json!({ "status": status, "reason": reason }))
                .collect();
            json!({ "allowed": allowed(side), "answers": answers, "rules": rules })
        };
        let regions: Vec<Value> = self
            .found
            .regions
            .iter()
            .map(|region| {
                json!({
                    "change": match region.change {
                        Change::Allowed => "allowed",
                        Change::Denied => "denied",
                        Change::Answered => "answered",
                    },
                    "places": places(&region.places),
                    "where": region.cases,
                    "complete": !region.more,
                    "old": side(&region.old, &self.old.policy),
                    "new": side(&region.new, &self.new.policy),
                    "example": region.example.as_ref().map(|example| command(&example.1, region, &self.args.new)),
                    "depends_on": region.depends.iter().map(|words| words.to_string()).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!({
            "regions": regions,
            "cannot_tell": places(&self.found.untold),
            "routes_that_lead_elsewhere": self.answers(),
        })
    }

    /// Routes of both whose allowed requests get another answer.
    fn answers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for site in &self.new.sites {
            let Some(before) = self.old.sites.iter().find(|old| old.name == site.name) else {
                continue;
            };
            for route in &site.routes {
                let mut before = before.routes.iter();
                let before = before.find(|before| before.pattern == route.pattern);
                if before.is_some_and(|before| !leads_alike(&before.answer, &route.answer)) {
                    found.push(format!("{}{}", site.name, route.pattern));
                }
            }
        }
        found
    }
}

fn leads_alike(old: &Answer, new: &Answer) -> bool {
    match (old, new) {
        (Answer::Upstream(old), Answer::Upstream(new)) => {
            old.name == new.name && old.servers == new.servers
        }
        (
            Answer::Redirect { status, to },
            Answer::Redirect {
                status: other,
                to: there,
            },
        ) => status == other && to == there,
        (
            Answer::Fixed {
                status,
                content_type,
                body,
            },
            Answer::Fixed {
                status: other,
                content_type: kind,
                body: text,
            },
        ) => status == other && content_type == kind && body == text,
        (Answer::Upstream(_) | Answer::Redirect { .. } | Answer::Fixed { .. }, _) => false,
    }
}

/// Places, hosts with the same paths together.
fn places(all: &[Where], indent: &str, text: &mut String) {
    let mut by_host: Vec<(&str, Vec<&str>)> = Vec::new();
    for place in all {
        match by_host
            .iter_mut()
            .find(|(hosts, _)| **hosts == *place.hosts)
        {
            Some((_, paths)) => paths.push(&place.path),
            None => by_host.push((&place.hosts, vec![&place.path])),
        }
    }
    let mut by_paths: Vec<(Vec<&str>, Vec<&str>)> = Vec::new();
    for (hosts, paths) in by_host {
        match by_paths.iter_mut().find(|(_, known)| *known == paths) {
            Some((known, _)) => known.push(hosts),
            None => by_paths.push((vec![hosts], paths)),
        }
    }
    let more = by_paths.len().saturating_sub(PLACES_MAX);
    let mut first = true;
    for (hosts, paths) in by_paths.into_iter().take(PLACES_MAX) {
        let hosts = diff::some_of(hosts.into_iter().map(str::to_owned));
        let paths = diff::some_of(paths.into_iter().map(str::to_owned));
        let before = if first && indent == "   " { "" } else { indent };
        wrapped(before, "      ", &format!("{hosts}: {paths}"), text);
        first = false;
    }
    if more > 0 {
        text.push_str(&format!("{indent}and {more} more\n"));
    }
}

/// Breaks a line between words, at 80 columns.
fn wrapped(first: &str, next: &str, words: &str, text: &mut String) {
    let mut line = first.to_owned();
    // What is already on the line, such as a number.
    let begun = text.rsplit('\n').next().unwrap_or_default().chars().count();
    let mut width = begun + line.chars().count();
    let mut empty = true;
    for word in words.split(' ') {
        let length = word.chars().count();
        if !empty && width + 1 + length > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = next.to_owned();
            width = line.chars().count();
            empty = true;
        }
        if !empty {
            line.push(' ');
            width += 1;
        }
        line.push_str(word);
        width += length;
        empty = false;
    }
    text.push_str(&line);
    text.push('\n');
}

/// `451 region_restricted, by deny `film-rights` (streaming.toml:71)`.
fn side(side: &Side, policy: &Policy) -> String {
    let rules = side.rules.iter().map(|id| {
        let rule = policy.rule(*id);
        format!("{} `{}` ({})", kind(rule.kind), rule.name, rule.source)
    });
    let rules = diff::some_of(rules);
    let told = side.endings.iter().map(|ending| match answer(ending) {
        (None, _) => "allowed".to_owned(),
        (Some(444), reason) => format!("closed without an answer ({reason})"),
        (Some(status), reason) => format!("{status} {reason}"),
    });
    let told: Vec<String> = told.collect();
    let told = told.join(" or ");
    let refused = side.endings.iter().any(|ending| match ending {
        Ending::Refuse(_) | Ending::SignIn | Ending::CertificateRequired => true,
        Ending::Allow | Ending::NoSite | Ending::NoRoute => false,
    });
    match (allowed(side), side.rules.is_empty()) {
        (true, true) => format!("{told}, as anyone is"),
        (false, true) if refused => format!("{told}, as no allow matches"),
        (false, true) => told,
        (_, false) => format!("{told}, by {rules}"),
    }
}

/// Whether the requests of a side pass.
fn allowed(side: &Side) -> bool {
    side.endings.contains(&Ending::Allow)
}

const fn kind(kind: RuleKind) -> &'static str {
    match kind {
        RuleKind::Deny => "deny",
        RuleKind::Allow => "allow",
    }
}

/// The status and the public reason; no status where the request passes.
fn answer(ending: &Ending) -> (Option<u16>, String) {
    use crate::value::reason::Reason;
    let (status, reason) = match ending {
        Ending::Allow => return (None, String::new()),
        Ending::SignIn => (401, Reason::NOT_AUTHENTICATED),
        Ending::CertificateRequired => (403, Reason::CERTIFICATE_REQUIRED),
        Ending::NoSite => (421, Reason::MISDIRECTED),
        Ending::NoRoute => (404, Reason::NO_ROUTE),
        Ending::Refuse(refusal) => (refusal.status.code(), refusal.reason.clone()),
    };
    (Some(status), reason.as_str().to_owned())
}

/// Whether two sides that differ read alike.
fn same_words(old: &Side, new: &Side) -> bool {
    let words = |side: &Side| -> Vec<_> { side.endings.iter().map(answer).collect() };
    words(old) == words(new)
}

/// The command that explains an example.
fn command(asked: &Asked, region: &Region, config: &Path) -> String {
    let scheme = match asked.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let url = format!("{scheme}://{}{}", asked.host, asked.target);
    let mut line = format!(
        "portcullis explain -c {} --url {}",
        quoted(&config.display().to_string()),
        quoted(&url)
    );
    let mut add = |flag: &str, value: &str| {
        line.push_str(&format!(" --{flag} {}", quoted(value)));
    };
    if asked.method != http::Method::GET {
        add("method", asked.method.as_str());
    }
    let read = |word: &str| {
        region
            .cases
            .iter()
            .flatten()
            .any(|condition| condition.contains(word))
    };
    if read("ip ") || asked.client != crate::config::compile::tests::DEFAULT_CLIENT {
        add("ip", &asked.client.to_string());
    }
    if asked.peer != asked.client {
        add("peer", &asked.peer.to_string());
    }
    let geo = &asked.region;
    match geo.country {
        Some(country) => add("country", country.as_str()),
        None if read("country") => add("country", "unlisted"),
        None => {}
    }
    if let Some(continent) = geo.continent {
        add("continent", continent.as_str());
    }
    for subdivision in geo.subdivisions.iter().flatten().take(1) {
        add("subdivision", &subdivision.to_string());
    }
    if let Some(asn) = geo.asn {
        add("asn", &asn.to_string());
    }
    for kind in geo.anonymizer.words() {
        add("anonymizer", kind);
    }
    for (name, value) in &asked.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        add("header", &format!("{name}: {value}"));
    }
    if let Caller::Known(principal) = &asked.caller {
        add("auth", &principal.source);
        if read("user") {
            add("user", &principal.user);
        }
        for role in &principal.roles {
            add("role", role);
        }
        for (key, value) in &principal.claims {
            add("claim", &format!("{key}={value}"));
        }
        for (key, value) in &principal.device {
            add("device", &format!("{key}={value}"));
        }
    }
    if read("time") || read("before ") || read("from ") {
        add("at", &asked.now.to_string());
    }
    line
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:@=,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// What a comparison at the command line may cost: some seconds, and some hundred megabytes for one route.
const BUDGET: Budget = Budget {
    cell: 40_000_000,
    whole: 400_000_000,
};
/// Groups of places that a region is told with.
const PLACES_MAX: usize = 8;
/// Columns.
const WIDTH: usize = 80;
