//! What one access-log line says, gathered along a request's life.
//!
//! One [`Record`] for every request, whatever becomes of it: also for those that never parsed. It is filled with values that
//! are cheap to keep (reference counts, small copies) and formatted once, when the response body ends. It lives on one worker
//! thread; only formatted bytes leave it. It never holds a credential: no `Authorization`, no cookie, and of other headers
//! only what an access log asks for by name.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{REFERER, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use jiff::Timestamp;
use smallvec::SmallVec;

use crate::policy::facts::{Scheme, TlsVersion};
use crate::policy::{Kind, RuleInfo, Verdict};
use crate::snapshot::log::AccessLog;
use crate::value::principal::Principal;
use crate::value::reason::Reason;
use crate::value::region::{GeoFacts, Region};
use crate::value::source::Source;

/// One request, as the access log tells it. What is `None` is absent from the line.
#[derive(Debug)]
pub struct Record {
    /// The start: the first byte of the head, or the accept where no byte came. Its microseconds are logged.
    pub started: Timestamp,
    /// The same moment on the clock that durations are measured with.
    pub clock: Instant,
    /// The id that client and upstream see in `X-Request-Id`.
    pub request_id: HeaderValue,
    /// Who opened the connection.
    pub peer: SocketAddr,
    /// Who policy judges; the peer unless said.
    pub client: Option<IpAddr>,
    /// The method. `None` means that the request never parsed.
    pub method: Option<Method>,
    /// The host as judged.
    pub host: Option<Text>,
    /// The scheme as judged.
    pub scheme: Option<Scheme>,
    /// Path and query as received.
    pub target: Option<PathAndQuery>,
    /// The HTTP version.
    pub version: Option<Version>,
    /// The TLS version, where the connection is TLS.
    pub tls_version: Option<TlsVersion>,
    /// The subject of a verified client certificate.
    pub tls_subject: Option<Arc<str>>,
    /// Bytes read of a request that never parsed.
    pub bytes_read: Option<u64>,
    /// Bytes of the request body.
    pub request_body: u64,
    /// Bytes of the response body that went out.
    pub response_body: u64,
    /// The status; [`STATUS_CLIENT_GONE`] and [`STATUS_CLOSED`] where no answer went out.
    pub status: u16,
    /// Who answered.
    pub answered_by: AnsweredBy,
    /// What policy concluded; `None` where the request was never judged.
    pub decision: Option<Decided>,
    /// The public reason, where it is no allow.
    pub reason: Option<Reason>,
    /// The rule that decided.
    pub rule: Option<Rule>,
    /// Shadow rules that would have decided otherwise.
    pub shadow: Vec<(Arc<str>, Decided)>,
    /// What the candidate policy says, where there is one.
    pub candidate: Option<Box<Second>>,
    /// Who asks, once authenticated.
    pub principal: Option<Arc<Principal>>,
    /// Why a credential that was sent is not valid; a word for the operator, never the credential.
    pub auth_error: Option<Arc<str>>,
    /// The region, where it was looked up.
    pub region: Option<Region>,
    /// Facts of the region that are logged as `unlisted` where the database has none: those that some rule reads.
    pub region_facts: GeoFacts,
    /// Other facts that the decision read, so that `replay` can judge again.
    pub facts: Option<Box<serde_json::Map<String, serde_json::Value>>>,
    /// The site's name.
    pub site: Option<Arc<str>>,
    /// The pattern of the route.
    pub route: Option<Arc<str>>,
    /// The upstream, where one was asked.
    pub upstream: Option<UpstreamPart>,
    /// From the start to the end of the body; [`Record::close`] sets it.
    pub duration: Duration,
    /// Time spent judging.
    pub policy_duration: Option<Duration>,
    /// `User-Agent`.
    pub user_agent: Option<HeaderValue>,
    /// `Referer`.
    pub referer: Option<HeaderValue>,
    /// Other headers, only those that an access log names.
    pub headers: SmallVec<[(HeaderName, HeaderValue); 1]>,
    /// The trace (W3C `traceparent`).
    pub trace_id: Option<[u8; 16]>,
    /// The generation of the configuration that judged.
    pub generation: Option<u64>,
    /// A stable word for what went wrong.
    pub error: Option<&'static str>,
}

/// The status logged where the client left before an answer.
pub const STATUS_CLIENT_GONE: u16 = 499;
/// The status logged where policy closed the connection without an answer.
pub const STATUS_CLOSED: u16 = 444;

/// Who answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweredBy {
    /// A decision, or the fixed answer of a route.
    Policy,
    /// The application.
    Upstream,
    /// The proxy itself: malformed requests and failures.
    Proxy,
}

/// What policy concluded, in the log's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// It passes.
    Allow,
    /// It is refused.
    Deny,
    /// The client is asked to sign in.
    Challenge,
    /// A limit is reached.
    Limit,
    /// A fact failed.
    Error,
}

/// The rule that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: Arc<str>,
    /// Where it is written.
    pub source: Source,
}

/// What another policy says of the same request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Second {
    /// What it concludes.
    pub decided: Decided,
    /// The status that it would answer; none where the request passes, or where a sign-in would have to say.
    pub status: Option<u16>,
    /// The public reason.
    pub reason: Option<Reason>,
    /// The rule that decided.
    pub rule: Option<Rule>,
    /// Whether the client would see another answer than the live one.
    pub differs: bool,
}

/// What happened upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamPart {
    /// The upstream's name.
    pub name: Arc<str>,
    /// The server that was asked last.
    pub address: Option<Arc<str>>,
    /// The status of its answer.
    pub status: Option<u16>,
    /// Tries after the first.
    pub retries: u32,
    /// Time to connect; `None` where a pooled connection served.
    pub connect: Option<Duration>,
    /// From the request to the end of the response head.
    pub response: Option<Duration>,
}

/// A short text kept in place up to 32 bytes.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text(SmallVec<[u8; 32]>);

impl Record {
    /// The record of a request of which nothing is known yet. Until it is filled it tells of a request that never parsed and
    /// was never answered.
    #[must_use]
    pub fn new(
        started: Timestamp,
        clock: Instant,
        request_id: HeaderValue,
        peer: SocketAddr,
    ) -> Self {
        Self {
            started,
            clock,
            request_id,
            peer,
            client: None,
            method: None,
            host: None,
            scheme: None,
            target: None,
            version: None,
            tls_version: None,
            tls_subject: None,
            bytes_read: None,
            request_body: 0,
            response_body: 0,
            status: STATUS_CLIENT_GONE,
            answered_by: AnsweredBy::Proxy,
            decision: None,
            reason: None,
            rule: None,
            shadow: Vec::new(),
            candidate: None,
            principal: None,
            auth_error: None,
            region: None,
            region_facts: GeoFacts::NONE,
            facts: None,
            site: None,
            route: None,
            upstream: None,
            duration: Duration::ZERO,
            policy_duration: None,
            user_agent: None,
            referer: None,
            headers: SmallVec::new(),
            trace_id: None,
            generation: None,
            error: None,
        }
    }

    /// Keeps the headers that the logs show. Call it before headers are stripped for the upstream.
    pub fn keep_headers(&mut self, headers: &HeaderMap, logs: &[Arc<AccessLog>]) {
        // One look at each name costs less than two look-ups. The first of repeated fields counts.
        for (name, value) in headers {
            if *name == USER_AGENT {
                self.user_agent.get_or_insert_with(|| value.clone());
            } else if *name == REFERER {
                self.referer.get_or_insert_with(|| value.clone());
            }
        }
        for log in logs {
            for name in log.headers() {
                if self.headers.iter().any(|(kept, _)| kept == name) {
                    continue;
                }
                for value in headers.get_all(name) {
                    self.headers.push((name.clone(), value.clone()));
                }
            }
        }
    }

    /// Measures the whole duration. Call it when the response body has ended or broken off.
    pub fn close(&mut self, now: Instant) {
        self.duration = now.saturating_duration_since(self.clock);
    }

    /// Whether policy, or the gate before it, turned the request away: what `only = "denied"` shows, and what an overloaded
    /// log drops last. Failures of ours and of the upstream are no refusals.
    #[must_use]
    pub fn refused(&self) -> bool {
        match self.decision {
            Some(decided) => decided != Decided::Allow,
            None => {
                self.answered_by != AnsweredBy::Upstream
                    && (400..500).contains(&self.status)
                    && self.status != STATUS_CLIENT_GONE
            }
        }
    }
}

impl AnsweredBy {
    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Upstream => "upstream",
            Self::Proxy => "proxy",
        }
    }
}

impl Decided {
    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Challenge => "challenge",
            Self::Limit => "limit",
            Self::Error => "error",
        }
    }
}

impl From<Kind> for Decided {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Allow => Self::Allow,
            Kind::Deny => Self::Deny,
            Kind::Challenge => Self::Challenge,
            Kind::Error => Self::Error,
        }
    }
}

impl From<Verdict> for Decided {
    fn from(verdict: Verdict) -> Self {
        verdict.kind().into()
    }
}

impl From<&RuleInfo> for Rule {
    fn from(rule: &RuleInfo) -> Self {
        Self {
            name: Arc::clone(&rule.name),
            source: rule.source.clone(),
        }
    }
}

impl UpstreamPart {
    /// An upstream that is about to be asked.
    #[must_use]
    pub const fn new(name: Arc<str>) -> Self {
        Self {
            name,
            address: None,
            status: None,
            retries: 0,
            connect: None,
            response: None,
        }
    }
}

impl Text {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(SmallVec::from_slice(text.as_bytes()))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}
