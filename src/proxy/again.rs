//! A request that is still under way is judged again: when its credential ends, when something is revoked, and when the policy
//! changes. One whose right is gone is cut.
//!
//! Who is to be asked again is found by the worker, which looks at its connections' clocks ([`Clock::ask_again`]); a
//! request that ends soon never gets here. It is judged as it was at first, by the newest configuration: the same address,
//! host and target, the fields that rules read, and the credential, which is verified anew. What the application has said or got
//! meanwhile plays no part, and no limit counts it twice.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::header::COOKIE;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;

use super::connection::Connection;
use super::enforce::Case;
use super::exchange::Exchange;
use super::service::Gate;
use crate::observe::record::{Record, Text};
use crate::policy::facts::Scheme;
use crate::policy::{Decision, First, Place, Verdict};
use crate::snapshot::store::Lease;
use crate::snapshot::{Site, Snapshot};
use crate::upstream::Clock;
use crate::value::failure::Failure;
use crate::value::path::Target;

/// Why a request under way is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Its credential has ended, and without it the right is gone.
    Expired,
    /// Its credential is revoked.
    Revoked,
    /// The policy does not allow it any more.
    Policy,
    /// Whether it may go on cannot be found out.
    Unavailable,
}

impl Cut {
    /// The word of the access log (`error.type`).
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Expired => "credential_expired",
            Self::Revoked => "credential_revoked",
            Self::Policy => "policy_changed",
            Self::Unavailable => "fact_unavailable",
        }
    }
}

/// A request that may not go on.
#[derive(Debug)]
pub struct Gone {
    /// Why.
    pub cut: Cut,
    /// The configuration that says so.
    pub lease: Lease,
    /// Where it finds the request.
    pub place: Place,
    /// What it says; nothing where the request does not even fit it any more.
    pub decision: Option<Decision>,
    /// `WWW-Authenticate`, where somebody may sign in.
    pub challenges: Vec<HeaderValue>,
    /// What became of the credential, for the log.
    pub auth_error: Option<std::sync::Arc<str>>,
}

/// The judging of one request under way, again and again.
#[derive(Default)]
pub struct Again {
    judging: Option<Judging>,
    /// How often in a row nobody could say.
    unsure: u8,
}

type Judging = Pin<Box<dyn Future<Output = Judged>>>;

/// What a judgement came to.
enum Judged {
    /// It goes on, and its right ends at this second.
    Stays(Option<i64>),
    Goes(Box<Gone>),
}

impl Again {
    /// Nothing has been judged again yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            judging: None,
            unsure: 0,
        }
    }

    /// Judges where that was asked for. Ready with nothing: the request may go on; pending: it must wait.
    pub fn poll(&mut self, exchange: &Exchange, cx: &mut Context<'_>) -> Poll<Option<Box<Gone>>> {
        let clock = &exchange.connection().clock;
        if self.judging.is_none() {
            if !clock.asked_again() {
                return Poll::Ready(None);
            }
            self.judging = Some(Box::pin(judge(Asked::of(exchange))));
        }
        let Some(judging) = &mut self.judging else {
            return Poll::Ready(None);
        };
        let Poll::Ready(judged) = judging.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        self.judging = None;
        clock.answered();
        let gate = exchange.gate();
        let gone = match judged {
            Judged::Stays(ends) => {
                self.unsure = 0;
                gate.metrics.judged_again("stays");
                gate.ends(clock, ends.unwrap_or(i64::MAX));
                return Poll::Ready(None);
            }
            Judged::Goes(gone) => gone,
        };
        // A source that is away for a moment is asked once more before everybody is thrown out.
        if gone.cut == Cut::Unavailable && self.unsure < UNSURE_MAX {
            self.unsure += 1;
            gate.ends(clock, Timestamp::now().as_second() + UNSURE_PAUSE);
            return Poll::Ready(None);
        }
        gate.metrics.judged_again(gone.cut.code());
        Poll::Ready(Some(gone))
    }
}

impl std::fmt::Debug for Again {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Again")
            .field("judging", &self.judging.is_some())
            .finish_non_exhaustive()
    }
}

/// Waits for `work`, and breaks it off where the request may not go on.
pub(super) async fn within<F: Future>(
    exchange: &Exchange,
    mut work: Pin<&mut F>,
) -> Result<F::Output, Box<Gone>> {
    let mut again = Again::default();
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match again.poll(exchange, cx) {
            Poll::Ready(Some(gone)) => Poll::Ready(Err(gone)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    })
    .await
}

impl Gate {
    /// Notes when the right of the request that a clock runs for ends; none: it does not.
    pub(super) fn ends(&self, clock: &Clock, second: i64) {
        clock.ends_at(second);
        self.soonest.set(self.soonest.get().min(second));
    }
}

impl Exchange {
    /// Keeps what the request would be judged by once more, beside what the record has. Of most requests that is nothing.
    pub(super) fn keep_head(&mut self, parts: &Parts, site: &Site, snapshot: &Snapshot) {
        let kept = &mut self.kept;
        if self.seen.websocket {
            // Rare, and meant to last: whatever a later policy may read.
            let fields = parts.headers.iter();
            kept.extend(fields.map(|(name, value)| (name.clone(), secret(value))));
            return;
        }
        if self.seen.looked {
            for name in site.identity.fields() {
                let values = parts.headers.get_all(name).iter();
                kept.extend(values.map(|value| (name.clone(), secret(value))));
            }
        }
        if snapshot.policy.inputs().cookies && !kept.iter().any(|(name, _)| *name == COOKIE) {
            let values = parts.headers.get_all(COOKIE).iter();
            kept.extend(values.map(|value| (COOKIE, secret(value))));
        }
    }
}

/// A value that no `{:?}` shows.
fn secret(value: &HeaderValue) -> HeaderValue {
    let mut value = value.clone();
    value.set_sensitive(true);
    value
}

/// What a request is judged by once more.
struct Asked {
    gate: Rc<Gate>,
    connection: Rc<Connection>,
    method: Method,
    target: PathAndQuery,
    host: Text,
    client: std::net::IpAddr,
    scheme: Scheme,
    websocket: bool,
    headers: HeaderMap,
}

impl Asked {
    fn of(exchange: &Exchange) -> Self {
        let record = &exchange.record;
        let connection = exchange.connection();
        let mut headers = HeaderMap::new();
        for (name, value) in &exchange.kept {
            headers.append(name.clone(), value.clone());
        }
        let kept = |name| exchange.kept.iter().any(|(kept, _)| kept == name);
        for (name, value) in &exchange.seen.headers {
            if !kept(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        Self {
            gate: Rc::clone(exchange.gate()),
            connection: Rc::clone(connection),
            method: record.method.clone().unwrap_or_default(),
            target: record
                .target
                .clone()
                .unwrap_or(PathAndQuery::from_static("/")),
            host: record.host.clone().unwrap_or_default(),
            client: record.client.unwrap_or(connection.peer_address),
            scheme: record.scheme.unwrap_or_else(|| connection.scheme()),
            websocket: exchange.seen.websocket,
            headers,
        }
    }
}

async fn judge(asked: Asked) -> Judged {
    let lease = asked.gate.lease();
    let now = Timestamp::now();
    let mut record = Record::new(
        now,
        Instant::now(),
        HeaderValue::from_static(""),
        asked.connection.peer,
    );
    let mut place = Place::default();
    let judged = judge_by(&asked, &lease, now, &mut place, &mut record).await;
    let expired = record.auth_error.as_deref() == Some("expired");
    let revoked = record.auth_error.as_deref();
    let revoked = revoked.is_some_and(|error| error.starts_with("revoked"));
    let (decision, challenges) = match judged {
        Ok((decision, _)) if decision.verdict == Verdict::Allow => {
            let ends = record.principal.as_ref().and_then(|known| known.expires);
            return Judged::Stays(ends.map(Timestamp::as_second));
        }
        Ok((decision, challenges)) => (Some(decision), challenges),
        // It does not fit the configuration any more.
        Err(_failure) => (None, Vec::new()),
    };
    let unavailable = decision.is_some_and(|decision| decision.verdict == Verdict::Unavailable);
    Judged::Goes(Box::new(Gone {
        cut: if unavailable {
            Cut::Unavailable
        } else if revoked {
            Cut::Revoked
        } else if expired {
            Cut::Expired
        } else {
            Cut::Policy
        },
        lease,
        place,
        decision,
        challenges,
        auth_error: record.auth_error.take(),
    }))
}

async fn judge_by(
    asked: &Asked,
    snapshot: &Snapshot,
    now: Timestamp,
    place: &mut Place,
    record: &mut Record,
) -> Result<(Decision, Vec<HeaderValue>), Failure> {
    let host = str::from_utf8(asked.host.as_bytes()).unwrap_or_default();
    let target = Target::read(asked.target.as_str());
    let target = target.map_err(|error| Failure::Malformed(error.code()))?;
    let located = snapshot.policy.locate(host, &target);
    *place = located.ok().ok_or(Failure::AmbiguousPath)?;
    let check = snapshot.revocation.check(now);
    let case = Case {
        snapshot,
        connection: &asked.connection,
        place: *place,
        client: asked.client,
        method: &asked.method,
        scheme: asked.scheme,
        host,
        shown_host: host,
        // Nobody is sent anywhere to sign in: an answer that has begun cannot say so.
        authority: None,
        cookies: RefCell::default(),
        target: &target,
        headers: &asked.headers,
        websocket: asked.websocket,
        now,
        revoked: check.as_ref(),
    };
    let (first, notes) = case.first(&asked.method, record);
    match (first, case.site()) {
        (First::Decided(decision), _) => Ok((decision, Vec::new())),
        (First::SignIn, Some(site)) => {
            let judged = case.second(&site.identity, notes, record).await?;
            Ok((judged.decision, judged.challenges))
        }
        (First::SignIn, None) => Err(Failure::Internal),
    }
}

/// How often a request stays although nobody can say whether it may.
const UNSURE_MAX: u8 = 3;
/// Seconds between two such looks.
const UNSURE_PAUSE: i64 = 2;
