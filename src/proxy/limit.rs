//! Counting a request in its limits, and the answers of limits and of maintenance.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};

use super::enforce::Case;
use super::exchange::Exchange;
use crate::observe::record::{AnsweredBy, Decided, Record, Rule};
use crate::policy::Identity;
use crate::policy::limit::{Amount, Limit, Mode, Quota, Stage, person};
use crate::policy::maintenance::Kept;
use crate::respond::{self, Asker, Notice};
use crate::share::{self, Ask, Away, Store};
use crate::snapshot::limit::{Count, Counted};
use crate::snapshot::share::{Fail, Share};
use crate::value::reason::Reason;

/// A limit that is reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached<'p> {
    limit: &'p Limit,
    wait: Duration,
    why: Why,
}

/// Why a limit does not let a request pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// It is full.
    Full,
    /// Nobody knows, and it is to let nobody pass then.
    Unknown,
}

/// A request that is being counted.
#[derive(Debug, Default)]
struct Counting<'r> {
    /// The reached limit with the longest wait.
    reached: Option<Reached<'r>>,
    /// What other machines count too, and is still to be asked.
    shared: Vec<Shared<'r>>,
}

/// A limit that other machines count too.
#[derive(Debug)]
struct Shared<'r> {
    limit: &'r Limit,
    ask: Ask,
    /// What this process counts where nobody can be asked.
    alone: (&'r Count, u64),
}

/// What is left of the tightest limit, as clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    most: u64,
    /// The period of a rate; none where requests are counted at a time.
    window: Option<Duration>,
    left: u64,
    reset: Duration,
}

impl<'r> Case<'r> {
    /// Counts the request in every limit of a stage that matches, here or in what machines share. The reached one with the
    /// longest wait, if any.
    pub(super) async fn counted(
        &self,
        store: &Store,
        method: &Method,
        identity: Identity<'_>,
        stage: Stage,
        exchange: &mut Exchange,
    ) -> Option<Reached<'r>> {
        let mut counting = self.count(method, identity, stage, exchange);
        if let Some(share) = &self.snapshot.share
            && !counting.shared.is_empty()
        {
            // Boxed, so that requests without shared limits do not carry it.
            Box::pin(counting.ask(store, share, exchange)).await;
        }
        counting.reached
    }

    fn count(
        &self,
        method: &Method,
        identity: Identity<'_>,
        stage: Stage,
        exchange: &mut Exchange,
    ) -> Counting<'r> {
        let snapshot = self.snapshot;
        let lookup = |address| snapshot.geo.region(address, self.now);
        let device = self.device_of(identity);
        let facts = self.facts(method, identity, device.as_ref(), &lookup);
        let person = person(identity);
        let now = Instant::now();
        let mut counting = Counting::default();
        snapshot
            .policy
            .each_limit(&facts, self.place, stage, |id, limit| {
                let Some(count) = snapshot.counts.get(id.0 as usize) else {
                    return;
                };
                let key = count.key(|hasher| limit.key(&facts, person, hasher));
                let quota = limit.quota(person);
                if let (Some(_), Some(quota)) = (&snapshot.share, quota) {
                    let digest = share::digest(limit, |hasher| limit.key(&facts, person, hasher));
                    counting.shared.push(Shared {
                        limit,
                        ask: Ask {
                            limit: std::sync::Arc::clone(&limit.name),
                            key: digest,
                            quota,
                        },
                        alone: (count, key),
                    });
                    return;
                }
                let counted = match (&limit.amount, quota) {
                    (Amount::Concurrent(most), _) => count.hold(key, *most),
                    (Amount::Rate(_) | Amount::Tiers { .. }, Some(quota)) => {
                        count.spend(key, quota, now)
                    }
                    (Amount::Rate(_) | Amount::Tiers { .. }, None) => return,
                };
                counting.note(limit, quota, counted, exchange);
            });
        self.note_region(&facts, &mut exchange.record);
        counting
    }

    /// Whether a closed site keeps the request out, as far as that is known before sign-in.
    pub(super) fn kept_out(&self, method: &Method, record: &mut Record) -> Kept {
        let lookup = |address| self.snapshot.geo.region(address, self.now);
        let device = self.device_of(Identity::Open);
        let facts = self.facts(method, Identity::Open, device.as_ref(), &lookup);
        let kept = self.snapshot.policy.kept_out(&facts, self.place);
        self.note_region(&facts, record);
        kept
    }

    /// The same with the identity that signing in brought forth.
    pub(super) fn kept_out_after_all(&self, identity: Identity<'_>, record: &mut Record) -> Kept {
        let lookup = |address| self.snapshot.geo.region(address, self.now);
        let device = self.device_of(identity);
        let facts = self.facts(self.method, identity, device.as_ref(), &lookup);
        let kept = self.snapshot.policy.kept_out_after_all(&facts, self.place);
        self.note_region(&facts, record);
        kept
    }

    /// 503, and when to come back.
    pub(super) fn closed(&self, asker: &Asker<'_>) -> Response<Bytes> {
        let maintenance = self.site().map(|site| &site.maintenance);
        let until = maintenance.and_then(|maintenance| maintenance.until);
        let wait = until.map(|end| end.duration_since(self.now));
        let wait = wait.and_then(|wait| Duration::try_from(wait).ok());
        let reason = Reason::MAINTENANCE;
        let notice = Notice {
            message: maintenance.and_then(|maintenance| maintenance.message.as_deref()),
            retry_after: Some(wait.filter(|wait| !wait.is_zero()).unwrap_or(UNKNOWN_END)),
            ..Notice::new(StatusCode::SERVICE_UNAVAILABLE, &reason)
        };
        respond::answer(&notice, asker)
    }
}

impl Counting<'_> {
    /// Asks what machines share, and counts alone, or lets nobody pass, where that is away.
    async fn ask(&mut self, store: &Store, share: &std::sync::Arc<Share>, exchange: &mut Exchange) {
        let shared = std::mem::take(&mut self.shared);
        let asks: Vec<Ask> = shared.iter().map(|shared| shared.ask.clone()).collect();
        let now = Instant::now();
        match store.spend(share, &asks, now).await {
            Ok(answers) => {
                for (Shared { limit, ask, .. }, counted) in shared.iter().zip(answers) {
                    self.note(limit, Some(ask.quota), counted, exchange);
                }
            }
            Err(Away) => {
                for Shared { limit, ask, alone } in &shared {
                    match share.fail {
                        Fail::Open => {
                            let (count, key) = alone;
                            let counted = count.spend(*key, ask.quota, now);
                            self.note(limit, Some(ask.quota), counted, exchange);
                        }
                        Fail::Closed if limit.mode == Mode::Shadow => {}
                        Fail::Closed => {
                            self.reached = self.reached.or(Some(Reached {
                                limit,
                                wait: share::REST,
                                why: Why::Unknown,
                            }));
                        }
                    }
                }
            }
        }
    }
}

impl<'r> Counting<'r> {
    /// What counting in one limit came to.
    fn note(
        &mut self,
        limit: &'r Limit,
        quota: Option<Quota>,
        counted: Counted,
        exchange: &mut Exchange,
    ) {
        let (left, reset) = match counted {
            Counted::Passed { left, reset, held } => {
                exchange.held.extend(held);
                (left, reset)
            }
            Counted::Full(wait) if limit.mode == Mode::Shadow => {
                let name = std::sync::Arc::clone(&limit.name);
                exchange.record.shadow.push((name, Decided::Limit));
                (0, wait)
            }
            Counted::Full(wait) => {
                if self.reached.is_none_or(|other| other.wait < wait) {
                    let why = Why::Full;
                    self.reached = Some(Reached { limit, wait, why });
                }
                (0, wait)
            }
        };
        if limit.mode != Mode::Enforced || limit.per.is_empty() {
            return;
        }
        let (most, window) = match (&limit.amount, quota) {
            (Amount::Concurrent(most), _) => (u64::from(*most), None),
            (_, Some(quota)) => (quota.rate.count, Some(quota.rate.per)),
            (Amount::Rate(_) | Amount::Tiers { .. }, None) => return,
        };
        let allowance = Allowance {
            most,
            window,
            left,
            reset,
        };
        let tighter =
            |other: &Allowance| (allowance.left, other.reset) < (other.left, allowance.reset);
        if exchange.allowance.as_ref().is_none_or(tighter) {
            exchange.allowance = Some(allowance);
        }
    }
}

/// What the record says of a request that a closed site kept out: nobody refused it.
pub(super) fn record_closed(record: &mut Record) {
    record.decision = None;
    record.rule = None;
    record.reason = Some(Reason::MAINTENANCE);
    record.answered_by = AnsweredBy::Policy;
}

impl Reached<'_> {
    /// What the record says.
    pub(super) fn record(&self, record: &mut Record) {
        (record.decision, record.reason) = match self.why {
            Why::Full => (Some(Decided::Limit), Some(Reason::RATE_LIMITED)),
            Why::Unknown => (Some(Decided::Error), Some(Reason::FACT_UNAVAILABLE)),
        };
        record.rule = Some(Rule {
            name: std::sync::Arc::clone(&self.limit.name),
            source: self.limit.source.clone(),
        });
        record.answered_by = AnsweredBy::Policy;
    }

    /// 429, or 503 where nobody knows, and when to come back.
    pub(super) fn answer(&self, asker: &Asker<'_>) -> Response<Bytes> {
        let (status, reason) = match self.why {
            Why::Full => (StatusCode::TOO_MANY_REQUESTS, Reason::RATE_LIMITED),
            Why::Unknown => (StatusCode::SERVICE_UNAVAILABLE, Reason::FACT_UNAVAILABLE),
        };
        let notice = Notice {
            retry_after: Some(self.wait),
            ..Notice::new(status, &reason)
        };
        respond::answer(&notice, asker)
    }
}

impl Allowance {
    /// Writes `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10), unless the application tells of a
    /// limit of its own. The policy has a fixed name: a rule's name is not for clients.
    pub fn write(&self, headers: &mut HeaderMap) {
        if headers.contains_key(RATELIMIT) || headers.contains_key(RATELIMIT_POLICY) {
            return;
        }
        let policy = match self.window {
            Some(window) if window.subsec_nanos() == 0 => {
                format!("\"limit\";q={};w={}", self.most, window.as_secs())
            }
            Some(_) => format!("\"limit\";q={}", self.most),
            None => format!("\"limit\";q={};qu=\"concurrent-requests\"", self.most),
        };
        let state = match self.window {
            Some(_) => {
                let rest = u64::from(self.reset.subsec_nanos() > 0);
                let reset = self.reset.as_secs().saturating_add(rest);
                format!("\"limit\";r={};t={reset}", self.left)
            }
            None => format!("\"limit\";r={}", self.left),
        };
        for (name, value) in [(RATELIMIT_POLICY, policy), (RATELIMIT, state)] {
            // Digits and quotes always make a value.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }
}

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// `Retry-After` of a maintenance without an end.
const UNKNOWN_END: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn clients_are_told_what_is_left() {
        let allowance = |window, left, reset| Allowance {
            most: 60,
            window,
            left,
            reset: Duration::from_millis(reset),
        };
        let minute = Some(Duration::from_secs(60));
        for (given, policy, state, why) in [
            (
                allowance(minute, 0, 900),
                "\"limit\";q=60;w=60",
                "\"limit\";r=0;t=1",
                "a part of a second is a second",
            ),
            (
                allowance(minute, 59, 1000),
                "\"limit\";q=60;w=60",
                "\"limit\";r=59;t=1",
                "",
            ),
            (
                allowance(Some(Duration::from_millis(1500)), 3, 0),
                "\"limit\";q=60",
                "\"limit\";r=3;t=0",
                "a window is whole seconds or not told",
            ),
            (
                allowance(None, 4, 0),
                "\"limit\";q=60;qu=\"concurrent-requests\"",
                "\"limit\";r=4",
                "at a time",
            ),
        ] {
            let mut headers = HeaderMap::new();
            given.write(&mut headers);
            assert_eq!(headers.get(RATELIMIT_POLICY).unwrap(), policy, "{why}");
            assert_eq!(headers.get(RATELIMIT).unwrap(), state, "{why}");
            let before = headers.clone();
            allowance(minute, 1, 0).write(&mut headers);
            assert_eq!(headers, before, "the application's own stay");
        }
    }
}
