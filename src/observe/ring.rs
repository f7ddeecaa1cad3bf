//! The explain ring: what the newest requests were judged by, kept in memory so that `explain <request-id>` can tell.
//!
//! One ring a worker, on its thread, without a lock: asking goes through the worker, which hands out a copy; telling, with the
//! walk over the rules, is another thread's work. Refused requests have room of their own,
//! so that a busy site's allowed ones do not push them out. Slots are used again and again, so keeping a request allocates
//! nothing once the ring is full. It holds copies, never pieces of a connection's buffer.
//!
//! No secret is kept: of the header only fields that rules read and that carry no credential; no cookie; the query as the
//! access log shows it, and none where there is no access log; of a principal only the claims that rules read are told.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use smallvec::SmallVec;

use crate::observe::format::redact_query;
use crate::observe::record::{AnsweredBy, Decided, Record, Rule, Second, Text};
use crate::policy::draft::Inputs;
use crate::policy::explain::{Clause, Granted, Outcome, Step, Walk};
use crate::policy::facts::{Scheme, TlsFacts, TlsVersion};
use crate::policy::simulate::{self, Asked, Caller};
use crate::policy::{Decision, Place, Policy, Verdict};
use crate::snapshot::Snapshot;
use crate::snapshot::store::Lease;
use crate::value::device::Device;
use crate::value::principal::Principal;
use crate::value::reason::Reason;
use crate::value::region::{GeoFacts, Region};

/// The newest requests of one worker.
#[derive(Debug)]
pub struct Ring {
    refused: Lane,
    passed: Lane,
    /// The configurations that judged them, oldest first.
    generations: VecDeque<Lease>,
}

/// What a request was judged by, beside its record.
#[derive(Debug, Default)]
pub struct Seen {
    /// Site and route.
    pub place: Place,
    /// What policy concluded.
    pub decision: Option<Decision>,
    /// TLS facts.
    pub tls: Option<TlsFacts>,
    /// Whether it asked for a WebSocket.
    pub websocket: bool,
    /// Whether anybody looked who asks.
    pub looked: bool,
    /// The device, where it was looked at.
    pub device: Option<Device>,
    /// Fields that rules read; [`Seen::keep`] picks them.
    pub headers: SmallVec<[(HeaderName, HeaderValue); 1]>,
}

#[derive(Debug)]
struct Lane {
    slots: Vec<Kept>,
    /// Where the next one goes once the lane is full.
    next: usize,
    size: usize,
}

/// One request, taken out of a ring.
#[derive(Debug)]
pub struct Found {
    kept: Kept,
    /// What judged it, where that is still kept.
    snapshot: Option<Arc<Snapshot>>,
}

/// One request.
#[derive(Debug, Clone)]
struct Kept {
    id: Vec<u8>,
    started: Timestamp,
    duration: Duration,
    method: Option<Method>,
    host: Option<Text>,
    path: Vec<u8>,
    query: Option<Vec<u8>>,
    scheme: Option<Scheme>,
    client: Option<IpAddr>,
    peer: IpAddr,
    tls: Option<TlsFacts>,
    websocket: bool,
    headers: Vec<(HeaderName, Box<[u8]>)>,
    region: Option<Region>,
    region_facts: GeoFacts,
    principal: Option<Arc<Principal>>,
    device: Option<Device>,
    auth_error: Option<Arc<str>>,
    site: Option<Arc<str>>,
    route: Option<Arc<str>>,
    decision: Option<Decision>,
    shadow: Vec<(Arc<str>, Decided)>,
    candidate: Option<Box<Second>>,
    rule: Option<Rule>,
    reason: Option<Reason>,
    status: u16,
    answered_by: AnsweredBy,
    error: Option<&'static str>,
    generation: u64,
}

impl Seen {
    /// Picks the fields that rules read.
    pub fn keep(&mut self, headers: &http::HeaderMap, inputs: &Inputs) {
        for name in &inputs.headers {
            if SECRETS.contains(name) {
                continue;
            }
            for value in headers.get_all(name) {
                self.headers.push((name.clone(), value.clone()));
            }
        }
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self::new(REFUSED, PASSED)
    }
}

impl Ring {
    /// A ring for this many requests of each kind.
    #[must_use]
    pub const fn new(refused: usize, passed: usize) -> Self {
        Self {
            refused: Lane::new(refused),
            passed: Lane::new(passed),
            generations: VecDeque::new(),
        }
    }

    /// Keeps a request that has ended. Takes what it can from the record, which has been logged.
    pub fn keep(&mut self, record: &mut Record, seen: &mut Seen, lease: &Lease) {
        if self
            .generations
            .back()
            .is_none_or(|last| last.generation < lease.generation)
        {
            self.generations.push_back(lease.clone());
            if self.generations.len() > GENERATIONS {
                self.generations.pop_front();
            }
        }
        let lane = if record.refused() {
            &mut self.refused
        } else {
            &mut self.passed
        };
        if let Some(slot) = lane.slot() {
            slot.fill(record, seen, lease);
        }
    }

    /// The newest request with this id.
    #[must_use]
    pub fn find(&self, id: &[u8]) -> Option<Found> {
        let all = self.refused.slots.iter().chain(&self.passed.slots);
        let found = all.filter(|kept| kept.id == id);
        let kept = found.max_by_key(|kept| kept.started)?.clone();
        let same = |lease: &&Lease| lease.generation == kept.generation;
        let lease = self.generations.iter().find(same);
        let snapshot = lease.map(|lease| Arc::clone(lease.shared()));
        Some(Found { kept, snapshot })
    }
}

impl Found {
    /// When the request began.
    #[must_use]
    pub const fn started(&self) -> Timestamp {
        self.kept.started
    }

    /// What the request was judged by, and how its rules stand to that. Asks every rule that guards the place: not for a thread
    /// that serves.
    #[must_use]
    pub fn tell(&self) -> Value {
        let mut told = self.kept.tell(self.snapshot.as_deref());
        let walk = self.snapshot.as_ref();
        let walk = walk.and_then(|snapshot| self.kept.walk(&snapshot.policy));
        if let (Some(walk), Some(object)) = (walk, told.as_object_mut()) {
            object.insert("walk".to_owned(), walk);
        }
        told
    }
}

impl Lane {
    const fn new(size: usize) -> Self {
        Self {
            slots: Vec::new(),
            next: 0,
            size,
        }
    }

    /// The slot of the oldest request, or a new one while there is room.
    fn slot(&mut self) -> Option<&mut Kept> {
        if self.slots.len() < self.size {
            self.slots.push(Kept::empty());
            return self.slots.last_mut();
        }
        let place = self.next;
        self.next = if place + 1 < self.size { place + 1 } else { 0 };
        self.slots.get_mut(place)
    }
}

impl Kept {
    fn empty() -> Self {
        Self {
            id: Vec::new(),
            started: Timestamp::UNIX_EPOCH,
            duration: Duration::ZERO,
            method: None,
            host: None,
            path: Vec::new(),
            query: None,
            scheme: None,
            client: None,
            peer: IpAddr::from([0, 0, 0, 0]),
            tls: None,
            websocket: false,
            headers: Vec::new(),
            region: None,
            region_facts: GeoFacts::NONE,
            principal: None,
            device: None,
            auth_error: None,
            site: None,
            route: None,
            decision: None,
            shadow: Vec::new(),
            candidate: None,
            rule: None,
            reason: None,
            status: 0,
            answered_by: AnsweredBy::Proxy,
            error: None,
            generation: 0,
        }
    }

    fn fill(&mut self, record: &mut Record, seen: &mut Seen, lease: &Lease) {
        copy(&mut self.id, record.request_id.as_bytes());
        self.started = record.started;
        self.duration = record.duration;
        self.method = record.method.take();
        self.host = record.host.take();
        self.path.clear();
        self.query = None;
        if let Some(target) = &record.target {
            copy(&mut self.path, target.path().as_bytes());
            self.query = target.query().and_then(|query| clean(query, lease));
        }
        self.scheme = record.scheme;
        self.client = record.client;
        self.peer = record.peer.ip();
        self.tls = seen.tls;
        self.websocket = seen.websocket;
        self.headers.clear();
        if !seen.headers.is_empty() {
            self.keep_headers(seen, lease);
        }
        self.region = record.region;
        self.region_facts = record.region_facts;
        self.principal = record.principal.take();
        self.device = seen.device.take();
        self.auth_error = record.auth_error.take();
        self.site = record.site.take();
        self.route = record.route.take();
        self.decision = seen.decision;
        self.shadow = std::mem::take(&mut record.shadow);
        self.candidate = record.candidate.take();
        self.rule = record.rule.take();
        self.reason = record.reason.take();
        self.status = record.status;
        self.answered_by = record.answered_by;
        self.error = record.error;
        self.generation = lease.generation;
    }

    /// Where no site is known, nobody knows which fields carry its keys: none is kept.
    fn keep_headers(&mut self, seen: &Seen, lease: &Lease) {
        let site = seen
            .place
            .site
            .and_then(|site| lease.sites.get(site.0 as usize));
        let Some(site) = site else { return };
        let secret = site.identity.credential_headers();
        for (name, value) in &seen.headers {
            if !secret.contains(name) {
                let value = value.as_bytes();
                let value = value.get(..VALUE_BYTES_MAX).unwrap_or(value);
                self.headers.push((name.clone(), value.into()));
            }
        }
    }

    fn tell(&self, snapshot: Option<&Snapshot>) -> Value {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut headers = Map::new();
        for (name, value) in &self.headers {
            let values = headers.entry(name.as_str()).or_insert_with(|| json!([]));
            if let Value::Array(values) = values {
                values.push(text(value).into());
            }
        }
        let tls = self.tls.map(|tls| {
            let version = match tls.version {
                TlsVersion::V1_2 => "1.2",
                TlsVersion::V1_3 => "1.3",
            };
            json!({ "version": version, "client_certificate": tls.client_cert })
        });
        json!({
            "request": {
                "id": text(&self.id),
                "started": self.started.to_string(),
                "duration": self.duration.as_secs_f64(),
                "method": self.method.as_ref().map(Method::as_str),
                "host": self.host.as_ref().map(|host| text(host.as_bytes())),
                "path": text(&self.path),
                "query": self.query.as_ref().map(|query| text(query)),
                "scheme": self.scheme.map(Scheme::as_str),
                "client": self.client.map(|address| address.to_string()),
                "peer": self.peer.to_string(),
                "tls": tls,
                "websocket": self.websocket,
                "headers": headers,
            },
            "region": self.region.map(|region| tell_region(&region, self.region_facts)),
            "identity": self.tell_identity(snapshot),
            "device": self.device.as_ref().map(|device| json!({ "facts": device.facts, "failed": device.failed })),
            "site": self.site,
            "route": self.route,
            "decision": {
                "verdict": self.decision.map(|decision| verdict(decision.verdict)),
                "rule": self.rule.as_ref().map(|rule| json!({
                    "name": &*rule.name,
                    "source": rule.source.to_string(),
                })),
                "reason": self.reason.as_ref().map(Reason::as_str),
                "status": self.status,
                "answered_by": self.answered_by.as_str(),
                "error": self.error,
            },
            "shadow": self.shadow.iter().map(|(rule, decided)| json!({
                "rule": &**rule,
                "decision": decided.as_str(),
            })).collect::<Vec<_>>(),
            "candidate": self.candidate.as_ref().map(|second| json!({
                "decision": second.decided.as_str(),
                "status": second.status,
                "reason": second.reason.as_ref().map(Reason::as_str),
                "rule": second.rule.as_ref().map(|rule| json!({
                    "name": &*rule.name,
                    "source": rule.source.to_string(),
                })),
                "differs": second.differs,
            })),
            "config": { "generation": self.generation, "kept": snapshot.is_some() },
        })
    }

    fn tell_identity(&self, snapshot: Option<&Snapshot>) -> Value {
        let Some(principal) = &self.principal else {
            return json!({ "user": null, "error": self.auth_error });
        };
        let read = snapshot.map(|snapshot| snapshot.policy.inputs().claims.as_slice());
        let mut claims = Map::new();
        for path in read.unwrap_or_default() {
            let mut steps = path.split('.');
            let first = steps.next().and_then(|step| principal.claims.get(step));
            if let Some(value) = steps
                .try_fold(first, |value, step| Some(value?.get(step)))
                .flatten()
            {
                claims.insert(path.to_string(), value.clone());
            }
        }
        json!({
            "user": &*principal.user,
            "source": &*principal.source,
            "roles": principal.roles,
            "claims": claims,
        })
    }
}

impl Kept {
    /// The rules of the place, asked again; nothing where no rule was asked.
    fn walk(&self, policy: &Policy) -> Option<Value> {
        let decided = self.decision?;
        let (outcome, walk) = simulate::explain(policy, &self.asked()?);
        let again = match outcome {
            simulate::Outcome::Judged { decision, .. } => Some(decision),
            simulate::Outcome::Malformed(_) | simulate::Outcome::Ambiguous => None,
        };
        Some(tell_walk(&walk?, policy, decided, again == Some(decided)))
    }

    fn asked(&self) -> Option<Asked> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut target = text(&self.path);
        if let Some(query) = &self.query {
            target.push('?');
            target.push_str(&text(query));
        }
        let mut headers = http::HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(name.clone(), HeaderValue::from_bytes(value).ok()?);
        }
        Some(Asked {
            host: text(self.host.as_ref()?.as_bytes()),
            target,
            method: self.method.clone()?,
            client: self.client?,
            peer: self.peer,
            region: self.region.unwrap_or_default(),
            scheme: self.scheme?,
            tls: self.tls,
            headers,
            websocket: self.websocket,
            now: self.started,
            device: self.device.clone(),
            caller: match (&self.principal, self.auth_error.as_deref()) {
                (Some(principal), _) => Caller::Known(Arc::clone(principal)),
                (None, None) => Caller::Nobody,
                (None, Some("source_failed")) => Caller::Failed,
                (None, Some(_)) => Caller::Invalid,
            },
        })
    }
}

fn tell_walk(walk: &Walk, policy: &Policy, decided: Decision, same: bool) -> Value {
    let allow = match &walk.grant {
        Granted::NoRoute => Value::Null,
        Granted::Anyone => json!("anyone"),
        Granted::Rules(steps) => tell_steps(steps, policy, decided),
    };
    json!({
        "denies": tell_steps(&walk.denies, policy, decided),
        "allow": allow,
        "rules": walk.steps().count(),
        // Cookies and secrets of the query are not kept: a rule on them may stand otherwise than it did.
        "same_decision": same,
    })
}

/// Every rule that has something to say, and of the others as many as one cares to read.
fn tell_steps(steps: &[Step], policy: &Policy, decided: Decision) -> Value {
    let speaks = |step: &&Step| step.clause.outcome != Outcome::Fails;
    let silent = steps.iter().filter(|step| !speaks(step));
    let told = steps.iter().filter(speaks).chain(silent);
    let told = told.take(STEPS_MAX).map(|step| {
        let rule = policy.rule(step.rule);
        let mut value = tell_clause(&step.clause);
        if let Some(object) = value.as_object_mut() {
            object.insert("rule".to_owned(), json!(&*rule.name));
            object.insert("source".to_owned(), json!(rule.source.to_string()));
            object.insert("scope".to_owned(), json!(step.scope.as_str()));
            object.insert("decided".to_owned(), json!(decided.rule == Some(step.rule)));
        }
        value
    });
    Value::Array(told.collect())
}

fn tell_clause(clause: &Clause) -> Value {
    let keys = clause.keys.iter().map(|key| {
        json!({
            "fact": key.fact,
            "words": &*key.words,
            "outcome": key.outcome.as_str(),
            "because": key.because,
        })
    });
    let keys: Vec<Value> = keys.collect();
    let unless: Vec<Value> = clause.unless.iter().map(tell_clause).collect();
    let mut value = json!({ "outcome": clause.outcome.as_str(), "keys": keys, "unless": unless });
    if let (Some((end, outcome)), Some(object)) = (clause.until, value.as_object_mut()) {
        let until = json!({ "ends": end.to_string(), "outcome": outcome.as_str() });
        object.insert("until".to_owned(), until);
    }
    value
}

fn tell_region(region: &Region, read: GeoFacts) -> Value {
    let subdivisions = region.subdivisions.iter().flatten();
    json!({
        "country": region.country.map(|country| country.to_string()),
        "continent": region.continent.map(|continent| continent.to_string()),
        "subdivisions": subdivisions.map(ToString::to_string).collect::<Vec<_>>(),
        "asn": region.asn,
        "anonymizer": region.anonymizer.words().collect::<Vec<_>>(),
        "failed": region.failed.words().collect::<Vec<_>>(),
        "read_by_rules": read.words().collect::<Vec<_>>(),
    })
}

/// The verdict in the words of the policy.
fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Refuse(_) => "refuse",
        Verdict::NotAuthenticated => "not_authenticated",
        Verdict::InvalidToken => "invalid_token",
        Verdict::StepUp(_) => "step_up",
        Verdict::CertificateRequired => "certificate_required",
        Verdict::Unavailable => "unavailable",
        Verdict::NoSite => "no_site",
        Verdict::NoRoute => "no_route",
        Verdict::BadQuery => "bad_query",
    }
}

/// The query as every access log of the configuration may show it.
fn clean(query: &str, snapshot: &Snapshot) -> Option<Vec<u8>> {
    let (first, others) = snapshot.access_logs.split_first()?;
    let mut query = redact_query(query.as_bytes(), &first.redaction).into_owned();
    for log in others {
        query = redact_query(&query, &log.redaction).into_owned();
    }
    Some(query)
}

fn copy(to: &mut Vec<u8>, from: &[u8]) {
    to.clear();
    to.extend_from_slice(from);
    // A slot does not keep the room that one long path took.
    to.shrink_to(SLOT_BYTES);
}

/// Refused requests that a worker keeps: about 1 MiB.
const REFUSED: usize = 2048;
/// Other requests that a worker keeps.
const PASSED: usize = 512;
/// Configurations kept for them, the newest included.
const GENERATIONS: usize = 3;
/// Rules of one kind that a walk tells.
const STEPS_MAX: usize = 200;
/// Bytes of a field's value that are kept.
const VALUE_BYTES_MAX: usize = 256;
/// Bytes that a slot holds on to.
const SLOT_BYTES: usize = 256;
/// Never kept, whatever rules read.
const SECRETS: [HeaderName; 3] = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE];

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]
    use std::time::Instant;

    use super::*;
    use crate::config::{Input, Memory};
    use crate::snapshot::store::{Handle, Publisher};

    fn leases(count: u64) -> Vec<Lease> {
        let text = include_str!("../../config/portcullis.toml");
        (1..=count)
            .map(|generation| {
                let input = Input::Text {
                    name: "portcullis.toml".to_owned(),
                    text: text.to_owned(),
                    folder: std::path::PathBuf::new(),
                };
                let now = Timestamp::now();
                let loaded = crate::config::load(input, Memory::default(), generation, now);
                let publisher = Publisher::new(Arc::new(loaded.snapshot.unwrap()));
                Handle::new(publisher.subscribe()).current().clone()
            })
            .collect()
    }

    fn record(id: &'static str, status: u16) -> Record {
        let peer = "192.0.2.1:1".parse().unwrap();
        let id = HeaderValue::from_static(id);
        let mut record = Record::new(Timestamp::now(), Instant::now(), id, peer);
        record.status = status;
        record.answered_by = AnsweredBy::Policy;
        record
    }

    #[test]
    fn the_oldest_makes_room_and_allowed_ones_push_no_refused_one_out() {
        let leases = leases(1);
        let mut ring = Ring::new(2, 2);
        for (id, status) in [
            ("denied-1", 403),
            ("denied-2", 403),
            ("denied-3", 451),
            ("passed-1", 200),
            ("passed-2", 200),
            ("passed-3", 200),
            ("passed-4", 200),
        ] {
            ring.keep(&mut record(id, status), &mut Seen::default(), &leases[0]);
        }
        for (id, kept) in [
            ("denied-1", false),
            ("denied-2", true),
            ("denied-3", true),
            ("passed-2", false),
            ("passed-3", true),
            ("passed-4", true),
            ("", false),
        ] {
            assert_eq!(ring.find(id.as_bytes()).is_some(), kept, "{id}");
        }
    }

    #[test]
    fn a_few_generations_are_kept_alive_and_no_more() {
        let leases = leases(5);
        let mut ring = Ring::default();
        let ids = ["a", "b", "c", "d", "e"];
        for (id, lease) in ids.iter().zip(&leases) {
            ring.keep(&mut record(id, 403), &mut Seen::default(), lease);
        }
        // One that began long ago ends last.
        ring.keep(&mut record("late", 403), &mut Seen::default(), &leases[0]);
        let kept: Vec<bool> = ids
            .iter()
            .chain(&["late"])
            .map(|id| ring.find(id.as_bytes()).unwrap().tell()["config"]["kept"] == json!(true))
            .collect();
        assert_eq!(kept, [false, false, true, true, true, false]);
        assert_eq!(ring.generations.len(), GENERATIONS);
    }
}
