//! Counters of requests, decisions, upstreams, connections and reloads, in Prometheus' words.
//!
//! Every worker owns a block of counters and is the only one that writes to it: a bump is a plain load and store, without a
//! lock, a string or a shared cache line. Blocks are added up when somebody scrapes. They outlive reloads: what is counted is
//! found by name once per configuration and by number after that ([`WorkerMetrics::close`]).
//!
//! Label values are bounded: sites, rules and upstreams come from configuration (those ever loaded and asked by a request),
//! methods and status codes outside the known ones are counted together. Nothing that a client sends becomes a label.
//!
//! - `change`: what shadow rules and the candidate policy would have changed.
//! - `counter`: counters and histograms.
//! - [`text`]: the exposition format.
//! - `page`: what a worker's block looks like in it.

mod change;
mod counter;
mod page;
#[cfg(test)]
mod tests;
pub mod text;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use foldhash::fast::FixedState;
use http::Method;
use jiff::Timestamp;

pub use self::change::{By, Change, Changed};

use self::counter::{Counter, Histogram};
use crate::observe::record::{AnsweredBy, Decided, Record};
use crate::policy::{Decision, Place, Verdict};

/// The counters of the process.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Process>);

#[derive(Debug, Default)]
struct Process {
    workers: Mutex<Vec<Arc<Block>>>,
    /// Written by the control thread alone.
    applied: Counter,
    refused: Counter,
    last_success: AtomicI64,
}

/// How a reload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// It is in force.
    Applied,
    /// The old configuration stays.
    Refused,
}

/// Why a connection was closed before its first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// There was no room.
    Limit,
    /// The PROXY protocol header was missing, malformed, late, or from a stranger.
    Introduction,
    /// The TLS handshake failed or was late.
    Handshake,
}

/// The counters of one worker. Stays on its thread.
#[derive(Debug)]
pub struct WorkerMetrics {
    block: Arc<Block>,
    known: RefCell<Known>,
}

/// What a worker counts; it alone writes.
#[derive(Debug, Default)]
struct Block {
    accepted: Counter,
    /// By [`Closed`].
    closed: [Counter; CLOSED.len()],
    /// By [`JUDGED_AGAIN`].
    again: [Counter; JUDGED_AGAIN.len()],
    opened: Counter,
    ended: Counter,
    series: Mutex<Series>,
}

/// By name. Locked when something is met for the first time, and by scrapes.
#[derive(Debug, Default)]
struct Series {
    sites: BTreeMap<Arc<str>, Arc<SiteBlock>>,
    upstreams: BTreeMap<Arc<str>, Arc<UpstreamBlock>>,
    decisions: BTreeMap<Labels, Arc<Counter>>,
    changes: BTreeMap<Change, Changed>,
}

/// One site's counters.
#[derive(Debug, Default)]
struct SiteBlock {
    /// By method and source; made when the first such request ends.
    rows: [OnceLock<Box<Codes>>; METHODS.len() * SOURCES.len()],
    /// By source.
    durations: [Histogram; SOURCES.len()],
    request_bytes: Counter,
    response_bytes: Counter,
}

/// One upstream's counters.
#[derive(Debug, Default)]
struct UpstreamBlock {
    codes: Codes,
    unanswered: Counter,
    durations: Histogram,
    /// By [`UPSTREAM_ERRORS`].
    errors: [Counter; UPSTREAM_ERRORS.len()],
    retries: Counter,
    connects: Counter,
}

/// Counters by status code.
#[derive(Debug)]
struct Codes([Counter; CODES]);

/// Labels of a decision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    site: Arc<str>,
    rule: Arc<str>,
    decision: &'static str,
    reason: Box<str>,
    mode: &'static str,
}

/// What has been looked up by name already, by the numbers of one generation.
#[derive(Debug, Default)]
struct Known {
    generation: u64,
    /// By site number plus one; 0 is no site.
    sites: Vec<Option<Arc<SiteBlock>>>,
    /// Sorted by the address of the name, which the snapshot of this generation keeps in place while a request of it runs.
    upstreams: Vec<(usize, Arc<UpstreamBlock>)>,
    decisions: Decisions,
}

/// Decisions by their numbers. A table of the lately used ones stands before the map: no hash on the usual path.
#[derive(Debug)]
struct Decisions {
    recent: [Option<(Key, Arc<Counter>)>; RECENT],
    all: HashMap<Key, Arc<Counter>, FixedState>,
}

/// A decision by its numbers: site and rule, refusal and verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key(u64, u64);

impl Metrics {
    /// Nothing counted yet; the configuration at the start counts as loaded at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let metrics = Self::default();
        let at = &metrics.0.last_success;
        at.store(now.as_second(), Ordering::Relaxed);
        metrics
    }

    /// The counters of one more worker.
    #[must_use]
    pub fn worker(&self) -> WorkerMetrics {
        let block = Arc::new(Block::default());
        lock(&self.0.workers).push(Arc::clone(&block));
        WorkerMetrics {
            block,
            known: RefCell::default(),
        }
    }

    /// Counts a reload. The control thread's alone.
    pub fn reloaded(&self, outcome: Reload, now: Timestamp) {
        match outcome {
            Reload::Applied => {
                self.0.applied.add(1);
                let at = &self.0.last_success;
                at.store(now.as_second(), Ordering::Relaxed);
            }
            Reload::Refused => self.0.refused.add(1),
        }
    }
}

impl WorkerMetrics {
    /// A connection was accepted.
    pub fn accepted(&self) {
        self.block.accepted.add(1);
    }

    /// A connection was closed before its first request.
    pub fn closed(&self, why: Closed) {
        if let Some(counter) = self.block.closed.get(why as usize) {
            counter.add(1);
        }
    }

    /// A request under way was judged again, with this outcome: `stays`, or a word of `error.type`.
    pub fn judged_again(&self, outcome: &str) {
        let place = JUDGED_AGAIN.iter().position(|word| *word == outcome);
        if let Some(counter) = place.and_then(|place| self.block.again.get(place)) {
            counter.add(1);
        }
    }

    /// A request was read.
    pub fn opened(&self) {
        self.block.opened.add(1);
    }

    /// A request ended. `place` and `decision` are what policy said, in the numbers of `record.generation`.
    pub fn close(&self, record: &Record, place: Place, decision: Option<Decision>) {
        self.block.ended.add(1);
        self.count(record, place, decision);
    }

    /// A request that was never read was answered, or its connection closed.
    pub fn unread(&self, record: &Record) {
        self.count(record, Place::default(), None);
    }

    fn count(&self, record: &Record, place: Place, decision: Option<Decision>) {
        let mut known = self.known.borrow_mut();
        let generation = record.generation.unwrap_or_default();
        if generation > known.generation {
            *known = Known {
                generation,
                ..Known::default()
            };
        }
        // A request that began before a reload ends here: its numbers mean other things now.
        let current = generation == known.generation;
        let number = place.site.map_or(0, |site| site.0 as usize + 1);
        match known.sites.get(number) {
            Some(Some(site)) if current => site.count(record),
            Some(_) | None => {
                let name = record
                    .site
                    .as_ref()
                    .map_or_else(|| Arc::from(""), Arc::clone);
                let site = Arc::clone(lock(&self.block.series).sites.entry(name).or_default());
                site.count(record);
                // A site that has no name is met before a name is known: it is no site.
                if current && (record.site.is_some() == place.site.is_some()) {
                    if known.sites.len() <= number {
                        known.sites.resize(number + 1, None);
                    }
                    if let Some(place) = known.sites.get_mut(number) {
                        *place = Some(site);
                    }
                }
            }
        }
        self.count_upstream(record, current, &mut known);
        self.count_decision(record, place, decision, current, &mut known);
    }

    fn count_upstream(&self, record: &Record, current: bool, known: &mut Known) {
        let Some(part) = &record.upstream else { return };
        let address = Arc::as_ptr(&part.name).addr();
        let found = known
            .upstreams
            .binary_search_by_key(&address, |known| known.0);
        match found.ok().and_then(|at| known.upstreams.get(at)) {
            Some((_, upstream)) if current => upstream.count(record),
            Some(_) | None => {
                let name = Arc::clone(&part.name);
                let mut series = lock(&self.block.series);
                let upstream = Arc::clone(series.upstreams.entry(name).or_default());
                drop(series);
                upstream.count(record);
                if current && let Err(at) = found {
                    known.upstreams.insert(at, (address, upstream));
                }
            }
        }
    }

    fn count_decision(
        &self,
        record: &Record,
        place: Place,
        decision: Option<Decision>,
        current: bool,
        known: &mut Known,
    ) {
        for (rule, decided) in &record.shadow {
            self.by_name(record, Some(rule), *decided, "", SHADOW)
                .add(1);
        }
        if !record.shadow.is_empty() || record.candidate.is_some() {
            self.count_changes(record);
        }
        let Some(decided) = record.decision else {
            return;
        };
        let key = decision.map(|decision| Key::of(place, decision));
        if let Some(key) = key
            && current
            && let Some(counter) = known.decisions.of(key)
        {
            return counter.add(1);
        }
        let rule = record.rule.as_ref().map(|rule| &rule.name);
        let reason = record.reason.as_ref().map_or("", |reason| reason.as_str());
        // What broke after an allow has a reason of its own, which is none of policy's.
        let reason = if decided == Decided::Allow {
            ""
        } else {
            reason
        };
        let counter = self.by_name(record, rule, decided, reason, ENFORCE);
        counter.add(1);
        if let Some(key) = key
            && current
        {
            known.decisions.all.insert(key, counter);
        }
    }

    fn by_name(
        &self,
        record: &Record,
        rule: Option<&Arc<str>>,
        decided: Decided,
        reason: &str,
        mode: &'static str,
    ) -> Arc<Counter> {
        let name = |name: Option<&Arc<str>>| name.map_or_else(|| Arc::from(""), Arc::clone);
        let mut labels = Labels {
            site: name(record.site.as_ref()),
            rule: name(rule),
            decision: decided.as_str(),
            reason: reason.into(),
            mode,
        };
        let mut series = lock(&self.block.series);
        if series.decisions.len() >= DECISIONS_MAX && !series.decisions.contains_key(&labels) {
            labels.site = Arc::from("");
            labels.rule = Arc::from("");
        }
        Arc::clone(series.decisions.entry(labels).or_default())
    }
}

impl SiteBlock {
    fn count(&self, record: &Record) {
        let source = source(record.answered_by);
        let place = method(record.method.as_ref()) * SOURCES.len() + source;
        if let Some(row) = self.rows.get(place) {
            row.get_or_init(Box::default).at(record.status).add(1);
        }
        if let Some(durations) = self.durations.get(source) {
            durations.observe(record.duration);
        }
        self.request_bytes.add(record.request_body);
        self.response_bytes.add(record.response_body);
    }
}

impl UpstreamBlock {
    fn count(&self, record: &Record) {
        let Some(part) = &record.upstream else { return };
        match part.status {
            Some(status) => self.codes.at(status).add(1),
            None => self.unanswered.add(1),
        }
        if let Some(duration) = part.response {
            self.durations.observe(duration);
        }
        if part.retries > 0 {
            self.retries.add(u64::from(part.retries));
        }
        if part.connect.is_some() {
            self.connects.add(1);
        }
        if let Some(error) = record.error
            && let Some(place) = UPSTREAM_ERRORS.iter().position(|known| *known == error)
            && let Some(counter) = self.errors.get(place)
        {
            counter.add(1);
        }
    }
}

impl Codes {
    fn at(&self, code: u16) -> &Counter {
        let [.., other] = &self.0;
        let slot = SLOTS.get(usize::from(code)).copied().unwrap_or(OTHER);
        self.0.get(usize::from(slot)).unwrap_or(other)
    }
}

impl Default for Codes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Decisions {
    #[inline]
    fn of(&mut self, key: Key) -> Option<&Counter> {
        let recent = self.recent.get_mut(key.place())?;
        if recent.as_ref().is_none_or(|(known, _)| *known != key) {
            *recent = Some((key, Arc::clone(self.all.get(&key)?)));
        }
        recent.as_ref().map(|(_, counter)| &**counter)
    }
}

impl Default for Decisions {
    fn default() -> Self {
        Self {
            recent: [const { None }; RECENT],
            all: HashMap::default(),
        }
    }
}

impl Key {
    /// Where it stands among the recent ones.
    #[inline]
    fn place(self) -> usize {
        let mixed = (self.0 ^ self.1.rotate_left(20)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The upper bits are the well mixed ones.
        let [top, ..] = mixed.to_be_bytes();
        usize::from(top) % RECENT
    }

    fn of(place: Place, decision: Decision) -> Self {
        let site = place.site.map_or(0, |site| u64::from(site.0) + 1);
        let rule = decision.rule.map_or(0, |rule| u64::from(rule.0) + 1);
        let (verdict, refusal) = match decision.verdict {
            Verdict::Allow => (0, 0),
            Verdict::Refuse(id) => (1, u64::from(id.0)),
            Verdict::NotAuthenticated => (2, 0),
            Verdict::InvalidToken => (3, 0),
            Verdict::CertificateRequired => (4, 0),
            Verdict::Unavailable => (5, 0),
            Verdict::NoSite => (6, 0),
            Verdict::NoRoute => (7, 0),
            Verdict::BadQuery => (8, 0),
            Verdict::StepUp(id) => (9, u64::from(id.0)),
        };
        Self(site << 32 | rule, refusal << 8 | verdict)
    }
}

fn source(answered_by: AnsweredBy) -> usize {
    match answered_by {
        AnsweredBy::Policy => 0,
        AnsweredBy::Upstream => 1,
        AnsweredBy::Proxy => 2,
    }
}

fn method(method: Option<&Method>) -> usize {
    let Some(method) = method else {
        return METHODS.len() - 1;
    };
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::PATCH => 4,
        Method::DELETE => 5,
        Method::OPTIONS => 6,
        Method::CONNECT => 7,
        Method::TRACE => 8,
        _ => METHODS.len() - 1,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In the order of [`source`].
const SOURCES: [&str; 3] = ["policy", "upstream", "proxy"];

/// In the order of [`method`].
const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "other",
];

/// In the order of [`Closed`].
const CLOSED: [&str; 3] = ["limit", "introduction", "handshake"];

/// What becomes of a request that is judged again.
const JUDGED_AGAIN: [&str; 5] = [
    "stays",
    "credential_expired",
    "credential_revoked",
    "policy_changed",
    "fact_unavailable",
];

const ENFORCE: &str = "enforce";
const SHADOW: &str = "shadow";

/// What goes wrong upstream, as `error.type` of the access log says it.
const UPSTREAM_ERRORS: [&str; 10] = [
    "connect_refused",
    "connect_timeout",
    "resolve",
    "upstream_tls",
    "upstream_closed",
    "upstream_malformed",
    "response_timeout",
    "response_broken",
    "upstream_busy",
    "upstream_drained",
];

/// Codes with a counter of their own: IANA's, and what nginx's and Cloudflare's users know.
const CODE_LIST: [u16; 77] = [
    100, 101, 102, 103, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304,
    305, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415,
    416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 444, 451, 499, 500, 501, 502, 503,
    504, 505, 506, 507, 508, 510, 511, 520, 521, 522, 523, 524, 525, 526, 527, 530, 598, 599, 306,
    419,
];

/// What other codes are counted as, by their first digit; then the rest.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

const CODES: usize = CODE_LIST.len() + CLASSES.len();

const OTHER: u8 = 82;

/// From a code to its counter.
static SLOTS: [u8; 600] = slots();

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "runs in the compiler, which refuses a mistake"
)]
const fn slots() -> [u8; 600] {
    assert!(OTHER as usize == CODES - 1, "the last counter is the rest");
    let mut slots = [OTHER; 600];
    let mut code = 100;
    while code < 600 {
        slots[code] = (CODE_LIST.len() + code / 100 - 1) as u8;
        code += 1;
    }
    let mut place = 0;
    while place < CODE_LIST.len() {
        slots[CODE_LIST[place] as usize] = place as u8;
        place += 1;
    }
    slots
}

/// A power of two.
const RECENT: usize = 64;

/// Labels of decisions that a worker keeps apart; far more than a configuration has in use, and an end for one that is
/// loaded with ever new names.
const DECISIONS_MAX: usize = 200_000;
