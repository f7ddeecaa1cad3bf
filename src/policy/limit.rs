//! Limits: in which of them a request counts, and as whose.
//!
//! A limit is a rule whose effect is a count. Its conditions are judged like those of a deny, so that a failed fact makes it
//! apply. Nothing is counted here, since this room has no state and no clock; `snapshot::limit` counts.
//!
//! A limit is *early* where it counts by the client address and nothing in it depends on who asks: such limits are judged
//! before any credential is looked at, so they protect the sign-in. All others are *late*: they count what the decision allowed.

use std::hash::{Hash as _, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;
use serde_json::Value;

use super::Policy;
use super::claim::dig;
use super::condition::{Condition, Matcher};
use super::decision::Place;
use super::evaluate::{Failed, Judge, Matched, Unresolved, seen};
use super::facts::{Facts, Identity, Person};
use super::text::Side;
use crate::value::duration::Rate;
use crate::value::source::Source;

/// A limit of the policy, by number; the snapshot's counts have the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitId(pub u32);

/// A limit.
#[derive(Debug, Clone)]
pub struct Limit {
    /// The site in which it is written, by name; empty for a global one.
    pub scope: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Where it is written.
    pub source: Source,
    /// Which requests count.
    pub condition: Condition,
    /// As whose they count, joined; none: all together.
    pub per: Box<[Part]>,
    /// How much.
    pub amount: Amount,
    /// Whether it answers.
    pub mode: Mode,
}

/// Whether a limit answers requests or only tells of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It answers.
    Enforced,
    /// It counts and logs.
    Shadow,
}

/// A part of the key under which a request counts. Where the request has none, the client address takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// The client address, in IPv6 its /64: the least that a subscriber is given.
    Client,
    /// The user and the source that vouches.
    User,
    /// The API key, by its id; the names of the sources that know keys.
    Key(Arc<[Arc<str>]>),
    /// A claim.
    Claim(Arc<str>),
    /// A header field.
    Header(HeaderName),
}

/// How much.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Amount {
    /// So many at a time.
    Concurrent(u32),
    /// So many in a period.
    Rate(Quota),
    /// The same by the value of a claim.
    Tiers {
        /// Which claim.
        claim: Arc<str>,
        /// The quota of each value.
        tiers: Box<[(Arc<str>, Quota)]>,
        /// The quota of every other, and of those without the claim.
        otherwise: Quota,
    },
}

/// A rate, as the generic cell rate algorithm counts it: a request costs `interval`, and `depth` may be owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    /// As written.
    pub rate: Rate,
    /// How many may come at once.
    pub burst: u64,
    /// Nanoseconds of one request, at least 1.
    pub interval: u64,
    /// Nanoseconds of a whole burst.
    pub depth: u64,
}

impl Quota {
    /// A quota; the burst is the count of the rate unless said.
    #[must_use]
    pub fn new(rate: Rate, burst: Option<u64>) -> Self {
        let burst = burst.unwrap_or(rate.count).max(1);
        let period = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
        let interval = (period / rate.count.max(1)).max(1);
        Self {
            rate,
            burst,
            interval,
            // Half of the range, so that a time and a depth can be added.
            depth: interval.saturating_mul(burst).min(u64::MAX / 4),
        }
    }
}

/// When limits are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before sign-in.
    Early,
    /// After the decision.
    Late,
}

impl Limit {
    /// When it is judged.
    #[must_use]
    pub fn stage(&self) -> Stage {
        if self.per.contains(&Part::Client) && !self.asks_identity() {
            Stage::Early
        } else {
            Stage::Late
        }
    }

    /// Whether anything in it depends on who asks.
    #[must_use]
    pub fn asks_identity(&self) -> bool {
        let by_whom = |part: &Part| match part {
            Part::User | Part::Key(_) | Part::Claim(_) => true,
            Part::Client | Part::Header(_) => false,
        };
        let mut asks = matches!(self.amount, Amount::Tiers { .. }) || self.per.iter().any(by_whom);
        self.condition
            .every_test(&mut |test| asks |= test.matcher.asks_identity());
        asks
    }

    /// The key under which a request counts.
    pub fn key(&self, facts: &Facts<'_>, person: Option<&Person>, hasher: &mut impl Hasher) {
        let principal = person.map(|person| &person.principal);
        for part in &self.per {
            let known = match part {
                Part::Client => false,
                Part::User => principal.is_some_and(|principal| {
                    (&principal.user, &principal.source).hash(hasher);
                    true
                }),
                Part::Key(sources) => principal.is_some_and(|principal| {
                    let known = sources.contains(&principal.source);
                    if known {
                        (&principal.user, &principal.source).hash(hasher);
                    }
                    known
                }),
                Part::Claim(path) => principal
                    .and_then(|principal| dig(&principal.claims, path))
                    .is_some_and(|value| feed(value, hasher)),
                Part::Header(name) => {
                    let mut values = facts.headers.get_all(name).iter();
                    let first = values.next();
                    for value in first.into_iter().chain(values) {
                        value.as_bytes().hash(hasher);
                    }
                    first.is_some()
                }
            };
            known.hash(hasher);
            if !known {
                network(facts.client).hash(hasher);
            }
        }
    }

    /// The quota of a caller; none where requests are counted at a time.
    #[must_use]
    pub fn quota(&self, person: Option<&Person>) -> Option<Quota> {
        match &self.amount {
            Amount::Concurrent(_) => None,
            Amount::Rate(quota) => Some(*quota),
            Amount::Tiers {
                claim,
                tiers,
                otherwise,
            } => {
                let held = person.and_then(|person| dig(&person.principal.claims, claim));
                let held = held.and_then(Value::as_str);
                let tier = held.and_then(|held| tiers.iter().find(|(name, _)| **name == *held));
                Some(tier.map_or(*otherwise, |(_, quota)| *quota))
            }
        }
    }
}

/// One address, or the network that one subscriber has.
fn network(client: IpAddr) -> u128 {
    match client {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

/// A claim that can name somebody: no list, no object.
fn feed(value: &Value, hasher: &mut impl Hasher) -> bool {
    match value {
        Value::String(text) => text.hash(hasher),
        Value::Number(number) => number.hash(hasher),
        Value::Bool(flag) => flag.hash(hasher),
        Value::Null | Value::Array(_) | Value::Object(_) => return false,
    }
    true
}

/// The limits of one list of rules, by stage.
#[derive(Debug, Default)]
pub(super) struct Limited {
    early: Vec<LimitId>,
    late: Vec<LimitId>,
    /// Whether a late one depends on who asks.
    asks: bool,
}

/// No limits at all.
pub(super) static UNLIMITED: Limited = Limited {
    early: Vec::new(),
    late: Vec::new(),
    asks: false,
};

impl Limited {
    pub(super) fn new(ids: &[LimitId], limits: &[Limit]) -> Self {
        let limit = |id: &LimitId| limits.get(usize::try_from(id.0).ok()?);
        let of = |stage| {
            let chosen = ids.iter().copied();
            let chosen = chosen.filter(|id| limit(id).is_some_and(|limit| limit.stage() == stage));
            chosen.collect()
        };
        Self {
            early: of(Stage::Early),
            late: of(Stage::Late),
            asks: ids
                .iter()
                .filter_map(limit)
                .any(|limit| limit.stage() == Stage::Late && limit.asks_identity()),
        }
    }
}

impl Policy {
    /// Every limit, by number.
    #[must_use]
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// Whether a limit of this stage may count requests at a place.
    #[must_use]
    pub fn limited(&self, place: Place, stage: Stage) -> bool {
        !self.limits.is_empty()
            && self.limits_at(place).iter().any(|limited| match stage {
                Stage::Early => !limited.early.is_empty(),
                Stage::Late => !limited.late.is_empty(),
            })
    }

    /// Whether a limit or the maintenance of a place depends on who asks.
    #[must_use]
    pub fn limits_ask(&self, place: Place) -> bool {
        !self.limits.is_empty() && self.limits_at(place).iter().any(|limited| limited.asks)
    }

    /// Tells every limit in which a request counts: all that match. In [`Stage::Late`] an identity that is open counts as
    /// anonymous.
    pub fn each_limit<'p>(
        &'p self,
        facts: &Facts<'_>,
        place: Place,
        stage: Stage,
        mut visit: impl FnMut(LimitId, &'p Limit),
    ) {
        let judge = Judge::new(
            self,
            facts,
            seen(facts.identity),
            Failed::Hurts,
            Unresolved::Fails,
        );
        for limited in self.limits_at(place) {
            let ids = match stage {
                Stage::Early => &limited.early,
                Stage::Late => &limited.late,
            };
            for id in ids {
                let limit = usize::try_from(id.0).ok();
                let Some(limit) = limit.and_then(|at| self.limits.get(at)) else {
                    continue;
                };
                if judge.condition(&limit.condition, Side::Hurts) == Matched::Holds {
                    visit(*id, limit);
                }
            }
        }
    }

    fn limits_at(&self, place: Place) -> [&Limited; 3] {
        let site = self.site_at(place).map_or(&UNLIMITED, |site| &site.limited);
        let route = self.route_at(place);
        let route = route.map_or(&UNLIMITED, |route| &route.limited);
        [&self.limited, site, route]
    }

    /// The limits that may count a request at a place, of whatever stage.
    pub(super) fn every_limit(&self, place: Place) -> impl Iterator<Item = &Limit> {
        let lists = self.limits_at(place).into_iter();
        let ids = lists.flat_map(|limited| limited.early.iter().chain(&limited.late));
        ids.filter_map(|id| self.limits.get(usize::try_from(id.0).ok()?))
    }
}

/// The conditions of some limits.
pub(super) fn conditions_of<'l>(
    ids: &'l [LimitId],
    limits: &'l [Limit],
) -> impl Iterator<Item = &'l Condition> {
    let found = ids
        .iter()
        .filter_map(|id| limits.get(usize::try_from(id.0).ok()?));
    found.map(|limit| &limit.condition)
}

/// Who asks, for limits.
#[must_use]
pub const fn person<'r>(identity: Identity<'r>) -> Option<&'r Person> {
    match identity {
        Identity::Known(person) => Some(person),
        Identity::Open | Identity::Anonymous | Identity::Failed => None,
    }
}

impl Matcher {
    /// Whether the test depends on who asks.
    #[must_use]
    pub const fn asks_identity(&self) -> bool {
        match self {
            Self::Role(_)
            | Self::User(_)
            | Self::Auth(_)
            | Self::Claim(_)
            | Self::Fresh(_)
            | Self::Device(_) => true,
            Self::Client(_)
            | Self::Peer(_)
            | Self::Country(_)
            | Self::Continent(_)
            | Self::Subdivision(_)
            | Self::Asn(_)
            | Self::Anonymizer(_)
            | Self::Method(_)
            | Self::Host(_)
            | Self::Scheme(_)
            | Self::Path(_)
            | Self::Header(..)
            | Self::Query(..)
            | Self::Cookie(..)
            | Self::Time(_)
            | Self::TlsVersion(_)
            | Self::ClientCertificate(_)
            | Self::WebSocket => false,
        }
    }
}
