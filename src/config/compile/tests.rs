//! `[[test]]` and `[[site.test]]`: the policy's own tests, run on the policy as compiled.
//!
//! A test that does not hold is a finding `test-failed`; the configuration can be used all the same. Codes: `test-failed`,
//! `bad-test`.
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
use crate::policy::{Place, Policy, Verdict};
use crate::value::country::{Continent, Country, Subdivision};
use crate::value::host::Authority;
use crate::value::path;
use crate::value::principal::Principal;
use crate::value::region::{Anonymizers, GeoFacts, Region};

/// Runs every test and adds a finding for each that does not hold. How many there were.
pub fn run(root: &Table, policy: &Policy, cx: &mut Context) -> usize {
    let mut count = 0;
    for test in root.tables("test") {
        count += 1;
        one(test, None, root, policy, cx);
    }
    for site in root.tables("site") {
        for test in site.tables("test") {
            count += 1;
            one(test, Some(site), root, policy, cx);
        }
    }
    count
}

fn one(test: &Table, site: Option<&Table>, root: &Table, policy: &Policy, cx: &mut Context) {
    let (Some(request), Some(expect)) = (test.table("request"), test.table("expect")) else {
        return;
    };
    let Some(asked) = asked(request, site, root, cx) else {
        return;
    };
    let outcome = simulate::judge(policy, &asked);
    let got = Got::of(&outcome, policy, root, &asked);
    let wanted = Wanted::read(expect);
    if wanted.holds(&got) {
        return;
    }
    let name = test.str("name").unwrap_or_default();
    let message = format!(
        "test `{name}`: expected {}, got {}",
        wanted.told(),
        got.told()
    );
    let finding = Diagnostic::finding("test-failed", expect.span, message);
    cx.say(match got.rule {
        Some(rule) => finding.help(format!(
            "decided by the rule at {}",
            policy.rule(rule).source
        )),
        None => finding,
    });
}

/// What a test expects.
struct Wanted<'t> {
    status: Option<u16>,
    rule: Option<&'t str>,
    reason: Option<&'t str>,
    location: Option<&'t str>,
}

impl<'t> Wanted<'t> {
    fn read(expect: &'t Table) -> Self {
        let status = match expect.get("status").map(|node| &node.value) {
            Some(Value::Integer(status)) => u16::try_from(*status).ok(),
            Some(Value::String(word)) if word == "close" => Some(CLOSED),
            Some(_) | None => None,
        };
        Self {
            status,
            rule: expect.str("rule"),
            reason: expect.str("reason"),
            location: expect.str("location"),
        }
    }

    fn holds(&self, got: &Got<'_>) -> bool {
        self.status.is_none_or(|status| status == got.status)
            && self.rule.is_none_or(|rule| Some(rule) == got.name)
            && self
                .reason
                .is_none_or(|reason| Some(reason) == got.reason.as_deref())
            && self
                .location
                .is_none_or(|to| Some(to) == got.location.as_deref())
    }

    fn told(&self) -> String {
        told(
            self.status.unwrap_or_default(),
            self.reason,
            self.rule,
            self.location,
        )
    }
}

/// What came of a request.
struct Got<'p> {
    status: u16,
    rule: Option<crate::policy::RuleId>,
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
fn answer(root: &Table, place: Place, asked: &Asked) -> (u16, Option<String>) {
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
        // A wildcard is asked for by a name below it.
        let name = match text.strip_prefix("*.") {
            Some(parent) => format!("any.{parent}"),
            None if text == "*" => "any.example".to_owned(),
            None => text.to_owned(),
        };
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
        caller: caller(request, site_of(request, site, root)),
    })
}

/// TEST-NET-2 (RFC 5737).
const DEFAULT_CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

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
    let named = ["role", "user", "claim", "device"]
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
        device: object("device"),
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
