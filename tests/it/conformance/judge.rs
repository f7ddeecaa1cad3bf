//! What happened in a case, and whether one of its outcomes fits it.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::case::{Case, Exchange};
use super::readings;
use crate::support::client::{latin1, text};
use crate::support::origin::Seen;
use crate::support::{Client, End, H2, Lost, Response};

/// Everything that can be seen of a case from outside.
#[derive(Debug)]
pub(super) struct Observation {
    /// The final answers, in order.
    pub(super) responses: Vec<Response>,
    /// The proxy closed the connection within the case's time.
    pub(super) closed: bool,
    /// Bytes that are no answer, or half of one.
    pub(super) broken: Option<String>,
    /// What reached the origin.
    pub(super) forwarded: Vec<Seen>,
}

/// Sends what the case sends and reads what comes of it.
pub(super) fn observe(case: &Case, client: &mut Client) -> Observation {
    client.write_timeout(CASE_TIME);
    for (number, piece) in case.send.iter().enumerate() {
        if number > 0 && case.gap > 0.0 {
            client.stands_for(Duration::from_secs_f64(case.gap));
        }
        // A peer that no longer takes bytes may have answered all the same.
        client.send(latin1(piece));
    }
    if case.half_close {
        client.half_close();
    }
    let deadline = Instant::now() + CASE_TIME;
    let mut seen = Observation {
        responses: Vec::new(),
        closed: false,
        broken: None,
        forwarded: Vec::new(),
    };
    while seen.responses.len() < case.want_responses || case.watches_the_end() {
        let left = deadline.saturating_duration_since(Instant::now());
        match client.try_response(case.method(seen.responses.len()), left) {
            Ok(response) => seen.responses.push(response),
            Err(broken) => {
                seen.closed = broken.end != End::Late;
                if broken.partial.is_some() || broken.problem.is_some() {
                    seen.broken = Some(format!("{broken:?}"));
                }
                break;
            }
        }
    }
    seen
}

/// The same over HTTP/2, one stream: RST_STREAM and GOAWAY count as closed.
pub(super) fn observe_stream(sent: &Exchange, client: &mut H2) -> Observation {
    let headers = borrowed(&sent.headers);
    let bare = sent.data.is_none() && sent.trailers.is_none();
    let id = client.open(&headers, sent.end_stream && bare);
    if let Some(data) = &sent.data {
        client.data(id, latin1(data), sent.end_stream && sent.trailers.is_none());
    }
    if let Some(trailers) = &sent.trailers {
        client.trailers(id, &borrowed(trailers));
    }
    let outcome = client.try_answer(id, CASE_TIME);
    Observation {
        closed: matches!(
            outcome,
            Err(Lost::Reset(_) | Lost::GoAway(_) | Lost::Ended(End::Closed | End::Reset))
        ),
        broken: client
            .partial(id)
            .filter(|_| outcome.is_err())
            .map(|partial| format!("{partial:?} {outcome:?}")),
        responses: outcome.into_iter().collect(),
        forwarded: Vec::new(),
    }
}

/// Why no outcome fits, one line each.
pub(super) fn judge(case: &Case, seen: &Observation) -> Result<(), Vec<String>> {
    if let Some(broken) = &seen.broken {
        return Err(vec![format!("an answer is broken: {broken}")]);
    }
    let mut reasons = Vec::new();
    for outcome in &case.expect.any_of {
        match outcome
            .iter()
            .find_map(|(key, want)| misfit(key, want, seen))
        {
            None => return Ok(()),
            Some(reason) => {
                reasons.push(format!("not {}: {reason}", Value::Object(outcome.clone())))
            }
        }
    }
    Err(reasons)
}

/// Why the observation does not fit this key of an outcome.
fn misfit(key: &str, want: &Value, seen: &Observation) -> Option<String> {
    let statuses: Vec<u16> = seen
        .responses
        .iter()
        .map(|response| response.status)
        .collect();
    let interim: Vec<u16> = seen
        .responses
        .iter()
        .flat_map(|response| response.interim.clone())
        .collect();
    let complete = seen
        .forwarded
        .iter()
        .filter(|request| request.complete)
        .count();
    let (fits, found) = match key {
        "status" => {
            let first = statuses.first();
            let fits = first.is_some_and(|status| {
                list(want)
                    .iter()
                    .any(|pattern| status_fits(*status, pattern))
            });
            (fits, format!("{first:?}"))
        }
        "statuses" => (numbers(want) == statuses, format!("{statuses:?}")),
        "interim" => (numbers(want) == interim, format!("{interim:?}")),
        "error_close" => (
            flag(want) == (statuses.is_empty() && seen.closed),
            format!("{statuses:?}, closed {}", seen.closed),
        ),
        "closed" => (flag(want) == seen.closed, format!("{}", seen.closed)),
        "max_responses" => (
            statuses.len() as u64 <= number(want),
            format!("{}", statuses.len()),
        ),
        "forwarded" => (
            seen.forwarded.len() as u64 == number(want),
            format!("{}", seen.forwarded.len()),
        ),
        "complete" => (complete as u64 == number(want), format!("{complete}")),
        "unambiguous" => {
            let problems = ambiguities(seen);
            (flag(want) == problems.is_empty(), problems.join(", "))
        }
        "never_reaches" => {
            let prefix = want.as_str().unwrap();
            let reaching: Vec<&str> = seen
                .forwarded
                .iter()
                .map(|request| request.target.as_str())
                .filter(|target| readings::reaches(target, prefix))
                .collect();
            (reaching.is_empty(), format!("{reaching:?}"))
        }
        "not_forwarded_matching" => {
            let pattern = regex::Regex::new(want.as_str().unwrap()).unwrap();
            let line = |request: &Seen| {
                format!("{} {} {}", request.method, request.target, request.version)
            };
            let matching: Vec<String> = seen
                .forwarded
                .iter()
                .map(line)
                .filter(|line| pattern.is_match(line))
                .collect();
            (matching.is_empty(), format!("{matching:?}"))
        }
        "origin" => return origin_misfit(want.as_object().unwrap(), seen),
        other => panic!("unknown key `{other}` in an outcome"),
    };
    (!fits).then(|| format!("{key} is {found}"))
}

fn origin_misfit(want: &Map<String, Value>, seen: &Observation) -> Option<String> {
    let index = want.get("n").map_or(0, number) as usize;
    let Some(request) = seen.forwarded.get(index) else {
        return Some(format!("no request {index} at the origin"));
    };
    want.iter().find_map(|(key, want)| {
        let equal = |found: &str| {
            (want.as_str() != Some(found)).then(|| format!("origin {key} is `{found}`"))
        };
        match key.as_str() {
            "n" => None,
            "method" => equal(&request.method),
            "target" => equal(&request.target),
            "version" => equal(&request.version),
            "body" => equal(&text(&request.body)),
            "absent" => list(want)
                .iter()
                .filter_map(Value::as_str)
                .find(|name| !request.all(name).is_empty())
                .map(|name| format!("origin sees {name}: {:?}", request.all(name))),
            "headers" => pairs(want).find_map(|(name, value)| {
                let found = request.all(name);
                (found != [value]).then(|| format!("origin sees {name}: {found:?}"))
            }),
            "headers_not" => pairs(want).find_map(|(name, value)| {
                let found = request.all(name);
                found
                    .iter()
                    .any(|field| field.contains(value))
                    .then(|| format!("origin sees {name}: {found:?}"))
            }),
            other => panic!("unknown key `origin.{other}`"),
        }
    })
}

/// What could be read in two ways, at the origin or between origin and client.
fn ambiguities(seen: &Observation) -> Vec<String> {
    let mut problems: Vec<String> = seen
        .forwarded
        .iter()
        .flat_map(|request| request.problems.clone())
        .collect();
    let answers = seen
        .responses
        .iter()
        .filter(|response| !response.all("x-origin-seq").is_empty())
        .count();
    if answers != seen.forwarded.len() {
        problems.push(format!(
            "{} requests at the origin, {answers} of its answers",
            seen.forwarded.len()
        ));
    }
    problems
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses: Vec<u16> = self
            .responses
            .iter()
            .map(|response| response.status)
            .collect();
        write!(f, "answers {statuses:?}")?;
        if let Some(refusal) = self
            .responses
            .iter()
            .find(|response| response.status >= 400)
        {
            write!(
                f,
                " ({})",
                refusal.text().chars().take(160).collect::<String>()
            )?;
        }
        write!(
            f,
            ", closed {}, forwarded {}",
            self.closed,
            self.forwarded.len()
        )?;
        for request in &self.forwarded {
            let raw: String = text(&request.raw).chars().take(600).collect();
            write!(
                f,
                "\n      {raw:?} complete {} {:?}",
                request.complete, request.problems
            )?;
        }
        Ok(())
    }
}

fn borrowed(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

fn status_fits(status: u16, pattern: &Value) -> bool {
    match pattern {
        Value::String(class) => class.strip_suffix("..") == Some(&(status / 100).to_string()),
        other => other.as_u64() == Some(u64::from(status)),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn numbers(value: &Value) -> Vec<u16> {
    list(value)
        .iter()
        .map(|value| number(value) as u16)
        .collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn flag(value: &Value) -> bool {
    value.as_bool().unwrap()
}

fn pairs(value: &Value) -> impl Iterator<Item = (&str, &str)> {
    value
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
}

/// How long a case may take after its last byte was sent: longer than every time-out of the scenario.
const CASE_TIME: Duration = Duration::from_secs(8);
