//! A request from a JSON line of our access log ([`crate::cli`]'s `log_line`).
//!
//! What rules of the place read and the line lacks is taken as absent, and said.

use std::path::Path;

use super::ask::{in_words, read_file};
use super::{Bench, Question, Unclear};
use crate::cli::log_line::LogLine;
use crate::identity::Presented;
use crate::policy::simulate::Caller;

/// What the line says became of the request.
#[derive(Debug)]
pub(super) struct Logged {
    /// The id of the request.
    pub(super) id: Option<String>,
    /// The status that was sent.
    pub(super) status: Option<u64>,
    /// `allow`, `deny` and so on.
    pub(super) decision: Option<String>,
    /// The rule that decided.
    pub(super) rule: Option<String>,
    /// The configuration that judged.
    pub(super) generation: Option<u64>,
}

/// The request of a line.
pub(super) fn question(bench: &Bench<'_>, file: &Path) -> Result<Question, Unclear> {
    let text = read_file(file)?;
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err(bad("pass exactly one line of the access log"));
    };
    let line = LogLine::read(line.as_bytes())
        .map_err(|error| Unclear::Usage(format!("the line is no JSON of our log: {error}")))?;
    of(bench, &line)
}

fn bad(message: &str) -> Unclear {
    Unclear::Usage(message.to_owned())
}

fn of(bench: &Bench<'_>, line: &LogLine<'_>) -> Result<Question, Unclear> {
    let snapshot = bench.snapshot;
    let told = line
        .request(snapshot.policy.inputs(), &|address, now| {
            snapshot.geo.region(address, now)
        })
        .map_err(|error| Unclear::Usage(error.to_string()))?;
    let mut unknown: Vec<&'static str> = told.unknown.words().collect();
    let asked = told.asked;
    let caller = match &asked.caller {
        Caller::Known(principal) => in_words(principal),
        Caller::Failed => "a credential whose source had failed".to_owned(),
        Caller::Invalid => "a credential that was not valid".to_owned(),
        Caller::Nobody => "nobody that the line names".to_owned(),
    };
    if !told.looked {
        unknown.extend(["role", "user", "auth", "claim", "device"]);
    }
    let place = bench.locate(&asked).unwrap_or_default();
    Ok(Question {
        caller,
        region_from: if told.country_logged {
            "as logged"
        } else {
            "by the databases as they are now"
        },
        challenges: bench.site(place).map_or_else(Vec::new, |site| {
            site.identity.challenges(&Presented::None).to_vec()
        }),
        conflict: false,
        unknown,
        logged: Some(Logged {
            id: line.id.as_deref().map(str::to_owned),
            status: line.status,
            decision: line.decision.as_deref().map(str::to_owned),
            rule: line.rule.as_deref().map(str::to_owned),
            generation: line.generation,
        }),
        asked,
    })
}
