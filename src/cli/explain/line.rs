//! A request from a JSON line of our access log (GRAMMAR, "Access log").
//!
//! A line has the facts that most rules read, not all: header fields and cookies are never in it. What rules of the place read
//! and the line lacks is taken as absent, and said.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, Method};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::ask::{code, in_words, read_file};
use super::{Bench, Question, Unclear};
use crate::config::compile::tests::DEFAULT_CLIENT;
use crate::identity::Presented;
use crate::policy::facts::{Scheme, TlsFacts, TlsVersion};
use crate::policy::simulate::{Asked, Caller};
use crate::value::country::{Country, Subdivision};
use crate::value::principal::Principal;

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
    let line: Value = serde_json::from_str(line)
        .map_err(|error| Unclear::Usage(format!("the line is no JSON: {error}")))?;
    of(bench, &Line(&line))
}

fn bad(message: &str) -> Unclear {
    Unclear::Usage(message.to_owned())
}

/// One line, by the names of its keys.
struct Line<'v>(&'v Value);

impl<'v> Line<'v> {
    fn text(&self, key: &str) -> Option<&'v str> {
        self.0.get(key)?.as_str()
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.0.get(key)?.as_u64()
    }

    fn address(&self, key: &str) -> Option<IpAddr> {
        let address: IpAddr = self.text(key)?.parse().ok()?;
        Some(address.to_canonical())
    }
}

fn of(bench: &Bench<'_>, line: &Line<'_>) -> Result<Question, Unclear> {
    let (Some(method), Some(path)) = (line.text("http.request.method"), line.text("url.path"))
    else {
        return Err(bad(
            "the line has no `http.request.method` or no `url.path`: the request never parsed, so no rule judged it",
        ));
    };
    let mut unknown = vec!["header", "cookie", "upgrade", "continent", "anonymizer"];
    let now = line.text("timestamp").and_then(|text| text.parse().ok());
    let now: Timestamp = now.ok_or_else(|| bad("the line has no `timestamp`"))?;
    let client = line.address("client.address");
    if client.is_none() {
        unknown.push("ip");
    }
    let query = line.text("url.query");
    if query.is_some_and(|query| query.contains("REDACTED")) {
        unknown.push("query");
    }
    let client = client.unwrap_or(DEFAULT_CLIENT);
    let scheme = match line.text("url.scheme") {
        Some("https") => Scheme::Https,
        Some(_) | None => Scheme::Http,
    };
    let (region, region_from) = region(bench, line, client, now, &mut unknown)?;
    let version = line.text("tls.protocol.version");
    let mut asked = Asked {
        host: line.text("server.address").unwrap_or_default().to_owned(),
        target: match query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        },
        method: Method::from_bytes(method.as_bytes())
            .map_err(|error| Unclear::Usage(format!("`{method}` is no method: {error}")))?,
        client,
        peer: line.address("network.peer.address").unwrap_or(client),
        region,
        scheme,
        tls: version.map(|version| TlsFacts {
            version: if version == "1.2" {
                TlsVersion::V1_2
            } else {
                TlsVersion::V1_3
            },
            client_cert: line.text("tls.client.subject").is_some(),
        }),
        headers: HeaderMap::new(),
        websocket: false,
        now,
        caller: Caller::Nobody,
        device: None,
    };
    let caller;
    (asked.caller, caller) = caller_of(line, &mut unknown);
    let place = bench.locate(&asked).unwrap_or_default();
    let text = |key| line.text(key).map(str::to_owned);
    Ok(Question {
        caller,
        region_from,
        challenges: bench.site(place).map_or_else(Vec::new, |site| {
            site.identity.challenges(&Presented::None).to_vec()
        }),
        conflict: false,
        unknown,
        logged: Some(Logged {
            id: text("request.id"),
            status: line.number("http.response.status_code"),
            decision: text("policy.decision"),
            rule: text("security_rule.name"),
            generation: line.number("config.generation"),
        }),
        asked,
    })
}

/// The region of the line; what it lacks is asked of the databases as they are now.
fn region(
    bench: &Bench<'_>,
    line: &Line<'_>,
    client: IpAddr,
    now: Timestamp,
    unknown: &mut Vec<&'static str>,
) -> Result<(crate::value::region::Region, &'static str), Unclear> {
    let mut region = bench.snapshot.geo.region(client, now);
    let provided = bench.snapshot.geo.provides();
    if provided.contains(crate::value::region::GeoFacts::CONTINENT) {
        unknown.retain(|fact| *fact != "continent");
    }
    if provided.contains(crate::value::region::GeoFacts::ANONYMIZER) {
        unknown.retain(|fact| *fact != "anonymizer");
    }
    let mut from = "by the databases as they are now";
    if let Some(text) = line.text("geo.country.iso_code") {
        region.country = code::<Country>(text)?;
        from = "as logged";
    }
    if let Some(text) = line.text("geo.region.iso_code") {
        let [_, second] = region.subdivisions;
        region.subdivisions = [code::<Subdivision>(text)?, second];
    }
    if let Some(number) = line.number("client.as.number") {
        region.asn = u32::try_from(number).ok();
    }
    Ok((region, from))
}

fn caller_of(line: &Line<'_>, unknown: &mut Vec<&'static str>) -> (Caller, String) {
    if let Some(user) = line.text("user.id") {
        let roles = line.0.get("user.roles").and_then(Value::as_array);
        let roles = roles.into_iter().flatten().filter_map(Value::as_str);
        let claims = object(line, "claim");
        let device = object(line, "device");
        if claims.is_empty() {
            unknown.push("claim");
        }
        if device.is_empty() {
            unknown.push("device");
        }
        let principal = Principal {
            user: Arc::from(user),
            source: Arc::from(line.text("auth.source").unwrap_or("somewhere")),
            roles: roles.map(Arc::from).collect(),
            claims,
            device,
            expires: None,
        };
        let words = in_words(&principal);
        return (Caller::Known(Arc::new(principal)), words);
    }
    match line.text("auth.error") {
        Some("source_failed") => (
            Caller::Failed,
            "a credential whose source had failed".to_owned(),
        ),
        Some(error) => (
            Caller::Invalid,
            format!("a credential that was not valid ({error})"),
        ),
        None => {
            if line.text("policy.reason") != Some("not_authenticated") {
                // Who asked was perhaps not looked at.
                unknown.extend(["role", "user", "auth", "claim", "device"]);
            }
            (Caller::Nobody, "nobody that the line names".to_owned())
        }
    }
}

/// `facts` of a kind: `"claim.plan": …` and `"claim": { … }`.
fn object(line: &Line<'_>, kind: &str) -> Map<String, Value> {
    let mut object = Map::new();
    let facts = line.0.get("facts").and_then(Value::as_object);
    for (key, value) in facts.into_iter().flatten() {
        match (key.strip_prefix(kind), value) {
            (Some(""), Value::Object(inner)) => object.extend(inner.clone()),
            (Some(rest), _) => {
                if let Some(path) = rest.strip_prefix('.') {
                    object.insert(path.to_owned(), value.clone());
                }
            }
            (None, _) => {}
        }
    }
    object
}
