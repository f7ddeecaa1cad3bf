//! `[[test]]` and `[[site.test]]`: the policy's own tests, run on the policy as compiled.
//!
//! A test that does not hold is a finding `test-failed`. The configuration compiles all the same, so that `explain` and
//! `test` can show why; `run` and a reload refuse it (see [`crate::reload::instance`]). Codes: `test-failed`, `bad-test`.
//!
//! What a request does not say is plain: `GET`, from 198.51.100.7, over TLS 1.3, at the time of the load, no country on
//! record, no credential. A `dns:` name that has not been resolved has no addresses here.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use jiff::Timestamp;
use serde_json::{Map, Value as Json};

use super::sets::code_of;
use crate::config::node::{Node, Span, Table, Value};
use crate::config::{Context, Diagnostic};
use crate::policy::facts::{Scheme, TlsFacts, TlsVersion};
use crate::policy::simulate::{self, Asked, Caller, Outcome};
use crate::policy::{Place, Policy, RuleId, Verdict};
use crate::value::country::{Continent, Country, Subdivision};
use crate::value::device::Device;
use crate::value::host::Authority;
use crate::value::path;
use crate::value::principal::Principal;
use crate::value::region::{Anonymizers, GeoFacts, Region};

/// A test as read: a request, and what is expected of it.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Where its expectation is written.
    pub span: Span,
    asked: Asked,
    wanted: Wanted,
}

/// What came of a test.
#[derive(Debug)]
pub struct Ran {
    /// Whether everything expected came true.
    pub holds: bool,
    /// What was expected: ``451 by rule `x` ``.
    pub expected: String,
    /// What came instead, in the same words.
    pub got: String,
    /// The rule that decided.
    pub rule: Option<RuleId>,
    /// Where the request belongs; none where its path could not be read.
    pub place: Option<Place>,
}

/// Runs every test and adds a finding for each that does not hold. How many there were.
pub fn run(root: &Table, policy: &Policy, cx: &mut Context) -> usize {
    for case in read_all(root, cx) {
        let ran = case.run(root, policy);
        if ran.holds {
            continue;
        }
        let message = format!(
            "test `{}`: expected {}, got {}",
            case.name, ran.expected, ran.got
        );
        let finding = Diagnostic::finding(FAILED, case.span, message);
        cx.say(match ran.rule {
            Some(rule) => finding.help(format!(
                "decided by the rule at {}",
                policy.rule(rule).source
            )),
            None => finding,
        });
    }
    written(root).count()
}

/// Reads every test. One that cannot be read is reported and left out.
pub fn read_all(root: &Table, cx: &mut Context) -> Vec<Case> {
    let mut cases = Vec::new();
    for (site, test) in written(root) {
        let (Some(request), Some(expect)) = (test.table("request"), test.table("expect")) else {
            continue;
        };
        let Some(asked) = asked(request, site, root, cx) else {
            continue;
        };
        cases.push(Case {
            name: test.str("name").unwrap_or_default().to_owned(),
            span: expect.span,
            asked,
            wanted: Wanted::read(expect),
        });
    }
    cases
}

/// The code of a test that does not hold.
pub const FAILED: &str = "test-failed";

/// The global tests, then those of each site.
fn written(root: &Table) -> impl Iterator<Item = (Option<&Table>, &Table)> {
    let of_sites = root
        .tables("site")
        .flat_map(|site| site.tables("test").map(move |test| (Some(site), test)));
    root.tables("test").map(|test| (None, test)).chain(of_sites)
}

impl Case {
    /// Judges the request by a policy. `root` is what the policy was compiled from: it has the answers of routes.
    #[must_use]
    pub fn run(&self, root: &Table, policy: &Policy) -> Ran {
        let outcome = simulate::judge(policy, &self.asked);
        let got = Got::of(&outcome, policy, root, &self.asked);
        Ran {
            holds: self.wanted.holds(&got),
            expected: self.wanted.told(),
            got: got.told(),
            rule: got.rule,
            place: match outcome {
                Outcome::Judged { place, .. } => Some(place),
                Outcome::Malformed(_) | Outcome::Ambiguous => None,
            },
        }
    }
}

/// What a test expects.
#[derive(Debug)]
struct Wanted {
    status: Option<u16>,
    rule: Option<String>,
    reason: Option<String>,
    location: Option<String>,
}

impl Wanted {
    fn read(expect: &Table) -> Self {
        let status = match expect.get("status").map(|node| &node.value) {
            Some(Value::Integer(status)) => u16::try_from(*status).ok(),
            Some(Value::String(word)) if word == "close" => Some(CLOSED),
            Some(_) | None => None,
        };
        let text = |key: &str| expect.str(key).map(str::to_owned);
        Self {
            status,
            rule: text("rule"),
            reason: text("reason"),
            location: text("location"),
        }
    }

    fn holds(&self, got: &Got<'_>) -> bool {
        let as_wanted = |wanted: &Option<String>, got: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == got)
        };
        self.status.is_none_or(|status| status == got.status)
            && as_wanted(&self.rule, got.name)
            && as_wanted(&self.reason, got.reason.as_deref())
            && as_wanted(&self.location, got.location.as_deref())
    }

    fn told(&self) -> String {
        told(
            self.status.unwrap_or_default(),
            self.reason.as_deref(),
            self.rule.as_deref(),
            self.location.as_deref(),
        )
    }
}

/// What came of a request.
struct Got<'p> {
    status: u16,
    rule: Option<RuleId>,
    name: Option<&'p str>,
    reason: Option<String>,
    location: Option<String>,
}

impl<'p> Got<'p> {
    fn of(outcome: &Outcome, policy: &'p Policy, root: &Table, asked: &Asked) -> Self {
        let reason = outcome.reason(policy).map(|reason| reason.to_string());
        let (mut rule, mut passed) = (None, None);
        if let Outcome::Judged {
            place, decision, ..
        } = outcome
        {
            rule = decision.rule;
            passed = (decision.verdict == Verdict::Allow).then_some(*place);
        }
        let (status, location) = match (outcome.status(policy), passed) {
            (Some(status), _) => (status, None),
            (None, Some(place)) => answer(root, place, asked),
            (None, None) => (200, None),
        };
        Self {
            status,
            rule,
            name: rule.map(|rule| &*policy.rule(rule).name),
            reason,
            location,
        }
    }

    fn told(&self) -> String {
        told(
            self.status,
            self.reason.as_deref(),
            self.name,
            self.location.as_deref(),
        )
    }
}

/// How a closed connection is counted.
const CLOSED: u16 = 444;

fn told(status: u16, reason: Option<&str>, rule: Option<&str>, location: Option<&str>) -> String {
    let mut told = match status {
        CLOSED => "a closed connection".to_owned(),
        status => status.to_string(),
    };
    for (word, value) in [("", reason), ("by rule ", rule), ("to ", location)] {
        if let Some(value) = value {
            told.push_str(&format!(" {word}`{value}`"));
        }
    }
    told
}

/// What an allowed request is answered: 200 stands for the upstream's answer.
pub(crate) fn answer(root: &Table, place: Place, asked: &Asked) -> (u16, Option<String>) {
    let at = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let site = place
        .site
        .and_then(|site| root.tables("site").nth(at(site.0)));
    let route = place
        .route
        .and_then(|route| site?.tables("route").nth(at(route.0)));
    let number = |table: &Table| {
        table
            .int("status")
            .and_then(|status| u16::try_from(status).ok())
    };
    let Some(route) = route else {
        return (200, None);
    };
    if let Some(redirect) = route.table("redirect") {
        let pattern = route.str("path").unwrap_or_default();
        let to = redirect.str("to").unwrap_or_default();
        return (
            number(redirect).unwrap_or(302),
            Some(substitute(to, pattern, asked)),
        );
    }
    match route.table("respond") {
        Some(respond) => (number(respond).unwrap_or(200), None),
        None => (200, None),
    }
}

fn substitute(to: &str, pattern: &str, asked: &Asked) -> String {
    let (path, query) = match asked.target.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (asked.target.as_str(), String::new()),
    };
    let before = path::segments(pattern)
        .take_while(|segment| !segment.starts_with('*'))
        .count();
    let tail: Vec<&str> = path::segments(path).skip(before).collect();
    to.replace("{scheme}", asked.scheme.as_str())
        .replace("{host}", &asked.host)
        .replace("{client}", &asked.client.to_string())
        .replace("{path}", path)
        .replace("{query}", &query)
        .replace("{tail}", &tail.join("/"))
}

/// The request of a test; nothing where a value of it cannot be read, which is reported.
fn asked(request: &Table, site: Option<&Table>, root: &Table, cx: &mut Context) -> Option<Asked> {
    let first = site.and_then(|site| site.many("host").next());
    let host = request.get("host").or(first)?;
    let host = read(host, "a host", cx, |text| {
        let name = host_for(text);
        Authority::read(&name)
            .ok()
            .map(|authority| authority.host.into_owned())
    })?;
    let method = match request.get("method") {
        Some(node) => read(node, "a method", cx, |text| {
            Method::from_bytes(text.as_bytes()).ok()
        })?,
        None => Method::GET,
    };
    let client = match request.get("ip") {
        Some(node) => read(node, "an address", cx, |text| text.parse().ok())?,
        None => DEFAULT_CLIENT,
    };
    let peer = match request.get("peer") {
        Some(node) => read(node, "an address", cx, |text| text.parse().ok())?,
        None => client,
    };
    let mut target = request.str("path").unwrap_or("/").to_owned();
    for entry in request
        .table("query")
        .into_iter()
        .flat_map(|table| &table.entries)
    {
        for value in entry.node.many().filter_map(Node::as_str) {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(&format!("{}={}", form(&entry.key), form(value)));
        }
    }
    let tls = tls(request.get("tls"));
    let headers = headers(request, cx)?;
    let upgrade = headers.get(header::UPGRADE);
    Some(Asked {
        host,
        target,
        method,
        client,
        peer,
        region: region(request, cx),
        scheme: if tls.is_some() {
            Scheme::Https
        } else {
            Scheme::Http
        },
        tls,
        websocket: upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket")),
        headers,
        now: moment(request.get("at"), cx)?,
        device: Some(Device {
            facts: match request.get("device").map(json) {
                Some(Json::Object(facts)) => facts,
                Some(_) | None => Map::new(),
            },
            failed: fails(request, "devices"),
        }),
        caller: caller(request, site_of(request, site, root)),
    })
}

/// A host that a host pattern means: a wildcard is asked for by a name below it.
pub(crate) fn host_for(pattern: &str) -> String {
    match pattern.strip_prefix("*.") {
        Some(parent) => format!("any.{parent}"),
        None if pattern == "*" => "any.example".to_owned(),
        None => pattern.to_owned(),
    }
}

/// TEST-NET-2 (RFC 5737).
pub(crate) const DEFAULT_CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

fn read<V>(
    node: &Node,
    what: &str,
    cx: &mut Context,
    parse: impl FnOnce(&str) -> Option<V>,
) -> Option<V> {
    let text = node.as_str()?;
    let read = parse(text);
    if read.is_none() {
        bad(node.span, format!("`{text}` is not {what}"), cx);
    }
    read
}

fn bad(at: Span, message: String, cx: &mut Context) {
    cx.error("bad-test", at, message);
}

/// A text as a query writes it.
fn form(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => written.push('+'),
            _ if path::unreserved(byte) => written.push(char::from(byte)),
            _ => written.push_str(&format!("%{byte:02X}")),
        }
    }
    written
}

fn tls(node: Option<&Node>) -> Option<TlsFacts> {
    let table = match node.map(|node| &node.value) {
        Some(Value::Boolean(false)) => return None,
        Some(Value::Table(table)) => Some(table),
        Some(_) | None => None,
    };
    Some(TlsFacts {
        version: match table.and_then(|table| table.str("version")) {
            Some("1.2") => TlsVersion::V1_2,
            Some(_) | None => TlsVersion::V1_3,
        },
        client_cert: table
            .and_then(|table| table.bool("client_cert"))
            .unwrap_or(false),
    })
}

fn region(request: &Table, cx: &mut Context) -> Region {
    let mut region = Region::default();
    let listed = |key: &str| {
        let node = request.get(key)?;
        Some((node.as_str().filter(|text| *text != "unlisted")?, node.span))
    };
    if let Some((text, at)) = listed("country") {
        region.country = code_of::<Country>(text, "unknown-country", at, cx);
    }
    if let Some((text, at)) = listed("continent") {
        region.continent = code_of::<Continent>(text, "unknown-continent", at, cx);
    }
    let codes = request
        .many("subdivision")
        .filter_map(|node| Some((node.as_str()?, node.span)));
    for (slot, (text, at)) in region.subdivisions.iter_mut().zip(codes) {
        *slot = code_of::<Subdivision>(text, "unknown-subdivision", at, cx);
    }
    region.asn = request
        .int("asn")
        .and_then(|number| u32::try_from(number).ok());
    for name in request.many("anonymizer").filter_map(Node::as_str) {
        let kind = Anonymizers::ALL
            .into_iter()
            .find(|(known, _)| *known == name);
        let kind = kind.map_or(Anonymizers::default(), |(_, kind)| kind);
        region.anonymizer = region.anonymizer.union(kind);
    }
    if fails(request, "geo") {
        region.failed = GeoFacts::ALL;
    }
    region
}

fn fails(request: &Table, source: &str) -> bool {
    request
        .many("failed")
        .any(|node| node.as_str() == Some(source))
}

fn headers(request: &Table, cx: &mut Context) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for entry in request
        .table("header")
        .into_iter()
        .flat_map(|table| &table.entries)
    {
        let Ok(name) = HeaderName::try_from(&entry.key) else {
            bad(
                entry.key_span,
                format!("`{}` is no name of a header", entry.key),
                cx,
            );
            return None;
        };
        for node in entry.node.many() {
            let value = read(node, "a header's value", cx, |text| {
                HeaderValue::from_str(text).ok()
            })?;
            headers.append(name.clone(), value);
        }
    }
    for entry in request
        .table("cookie")
        .into_iter()
        .flat_map(|table| &table.entries)
    {
        for node in entry.node.many() {
            let value = read(node, "a cookie's value", cx, |text| {
                HeaderValue::from_str(&format!("{}={text}", entry.key)).ok()
            })?;
            headers.append(header::COOKIE, value);
        }
    }
    Some(headers)
}

fn moment(node: Option<&Node>, cx: &mut Context) -> Option<Timestamp> {
    let Some(node) = node else {
        return Some(cx.now);
    };
    let text = match &node.value {
        Value::Datetime(moment) => moment.to_string(),
        Value::String(text) => text.clone(),
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::List(_)
        | Value::Table(_) => return None,
    };
    let read: Option<Timestamp> = text.parse().ok();
    if read.is_none() {
        bad(
            node.span,
            format!("`{text}` is no moment: write date, time and offset"),
            cx,
        );
    }
    read
}

/// The site that a global test asks, found by its host as written.
fn site_of<'t>(request: &Table, site: Option<&'t Table>, root: &'t Table) -> Option<&'t Table> {
    let host = request.str("host");
    site.or_else(|| {
        root.tables("site")
            .find(|site| site.many("host").any(|node| node.as_str() == host))
    })
}

fn caller(request: &Table, site: Option<&Table>) -> Caller {
    if fails(request, "identity") {
        return Caller::Failed;
    }
    if request.str("credential") == Some("invalid") {
        return Caller::Invalid;
    }
    let auth = request.str("auth");
    let named = ["role", "user", "claim"]
        .iter()
        .any(|key| request.get(key).is_some());
    if auth == Some("none") || (auth.is_none() && !named) {
        return Caller::Nobody;
    }
    let first = site.and_then(|site| site.many("identity").find_map(Node::as_str));
    let source = auth.filter(|auth| *auth != "any").or(first);
    let roles = request.many("role").filter_map(Node::as_str);
    let object = |key: &str| match request.get(key).map(json) {
        Some(Json::Object(map)) => map,
        Some(_) | None => Map::new(),
    };
    Caller::Known(Arc::new(Principal {
        user: Arc::from(request.str("user").unwrap_or("somebody")),
        source: Arc::from(source.unwrap_or("somewhere")),
        roles: roles.map(Arc::from).collect(),
        claims: object("claim"),
        device: Map::new(),
        expires: None,
    }))
}

/// A TOML value as a token would carry it. A dotted key in quotes stays one key, which claims are looked up by as well.
fn json(node: &Node) -> Json {
    match &node.value {
        Value::String(text) => Json::from(text.as_str()),
        Value::Integer(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::Boolean(flag) => Json::from(*flag),
        Value::Datetime(moment) => Json::from(moment.to_string()),
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Table(table) => Json::Object(
            table
                .entries
                .iter()
                .map(|entry| (entry.key.clone(), json(&entry.node)))
                .collect(),
        ),
    }
}
