//! Idle connections of one worker, last in first out for each endpoint, and which endpoint is next.
//!
//! What all workers share about an endpoint is looked at ten times a second and made into a list of candidates; a request only
//! picks from that list. So an order or a health check takes effect within a tenth of a second, and costs requests nothing.

mod member;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub(super) use self::member::Member;
use super::balance::{self, Candidate};
use super::budget::Budget;
use super::registry::{Condition, Endpoint, Group, Registry, millis};
use super::seat::Seat;
use super::sticky;
use crate::snapshot::{Balance, Snapshot, Upstream};

/// The pools of one worker. A reload that leaves an upstream as it was leaves its connections as they were.
#[derive(Debug, Default)]
pub struct Pools {
    /// By the address of the snapshot's upstream; the pool keeps the upstream alive, so an address is never reused.
    by_upstream: RefCell<HashMap<usize, Rc<Pool>, foldhash::fast::RandomState>>,
    generation: Cell<u64>,
    registry: Registry,
}

impl Pools {
    /// Pools that share what is known of endpoints with those of other workers.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            ..Self::default()
        }
    }

    /// The pool of an upstream of the newest snapshot.
    pub fn of(&self, upstream: &Arc<Upstream>) -> Rc<Pool> {
        let key = Arc::as_ptr(upstream).addr();
        if let Some(pool) = self.by_upstream.borrow().get(&key) {
            return Rc::clone(pool);
        }
        let mut pools = self.by_upstream.borrow_mut();
        let before = pools
            .values()
            .find(|pool| same_way(&pool.upstream, upstream));
        let pool = Pool {
            upstream: Arc::clone(upstream),
            group: self.registry.of(upstream),
            roster: RefCell::new(Roster {
                members: before
                    .map(|pool| pool.roster.borrow().members.clone())
                    .unwrap_or_default(),
                ..Roster::default()
            }),
            version: Cell::new(0),
            changing: Cell::new(false),
            size: Cell::new(before.map_or(usize::MAX, |pool| pool.size.get())),
            budget: Budget::default(),
            lot: Cell::new(RandomState::new().hash_one(key)),
        };
        pool.rebuild();
        let pool = Rc::new(pool);
        pools.insert(key, Rc::clone(&pool));
        pool
    }

    /// Takes over a new snapshot: pools of upstreams that are gone are dropped, after their heirs took what they can use.
    pub fn adopt(&self, snapshot: &Snapshot) {
        if self.generation.replace(snapshot.generation) == snapshot.generation {
            return;
        }
        let workers = snapshot.server.workers.max(1);
        for upstream in &snapshot.upstreams {
            let pool = self.of(upstream);
            pool.size.set(upstream.idle_connections.div_ceil(workers));
            pool.budget.share_between(workers);
            pool.rebuild();
        }
        let live: Vec<usize> = snapshot
            .upstreams
            .iter()
            .map(|upstream| Arc::as_ptr(upstream).addr())
            .collect();
        self.by_upstream
            .borrow_mut()
            .retain(|key, _| live.contains(key));
    }

    /// Closes connections that have idled too long, and looks at what has become of the endpoints. Call ten times a second.
    pub fn sweep(&self, now: Instant) {
        self.by_upstream.borrow().values().for_each(|pool| {
            pool.sweep(now);
        });
    }

    /// Closes every idle connection.
    pub fn clear(&self) {
        self.by_upstream.borrow_mut().clear();
    }
}

/// One upstream as one worker uses it.
#[derive(Debug)]
pub struct Pool {
    pub(super) upstream: Arc<Upstream>,
    pub(super) group: Arc<Group>,
    roster: RefCell<Roster>,
    /// Of the group, when the roster was made.
    version: Cell<u64>,
    /// Whether the roster changes as time goes by: somebody is left out for a while, or starts slowly.
    changing: Cell<bool>,
    size: Cell<usize>,
    pub(super) budget: Budget,
    lot: Cell<u64>,
}

#[derive(Debug, Default)]
struct Roster {
    /// Every endpoint.
    members: Vec<Rc<Member>>,
    /// Those that can be used, in the order of `candidates`.
    able: Vec<Rc<Member>>,
    candidates: Vec<Candidate>,
    /// With a cookie: what it says of each.
    codes: Vec<String>,
}

/// What a request brings along that decides where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// Whoever is next.
    Next,
    /// The same as others with this hash.
    Key(u64),
    /// The endpoint of this code, if it is ours.
    Code(Option<String>),
}

/// What came of looking for a place.
#[derive(Debug)]
pub(super) enum Found {
    /// A place.
    Seat(Seat),
    /// Every endpoint is full, or others wait already.
    Full,
    /// No endpoint may be used.
    Nobody,
}

impl Pool {
    /// Takes a place at the endpoint that is next, but for those that this request has `tried` if there are others.
    pub(super) fn find(&self, wish: &Wish, tried: &[Rc<Member>], ahead: Ahead) -> Found {
        let limit = self.upstream.max_connections;
        if limit.is_some() && ahead == Ahead::Respect && self.group.queued() {
            return Found::Full;
        }
        let mut roster = self.roster.borrow_mut();
        // The plain case: one server and no limit.
        if let ([only], None) = (&roster.able[..], limit) {
            return Found::Seat(Seat::take(only));
        }
        if roster.able.is_empty() {
            return Found::Nobody;
        }
        let untried = |member: &Rc<Member>| !tried.iter().any(|tried| Rc::ptr_eq(tried, member));
        let others = tried.is_empty() || roster.able.iter().any(untried);
        loop {
            let Roster {
                able,
                candidates,
                codes,
                ..
            } = &mut *roster;
            let may = |place: usize| {
                able.get(place).is_some_and(|member| {
                    let room = limit.is_none_or(|limit| member.seats() < limit);
                    room && (!others || untried(member))
                })
            };
            let named = match wish {
                Wish::Code(Some(code)) => codes.iter().position(|known| known == code),
                Wish::Code(None) | Wish::Next | Wish::Key(_) => None,
            };
            let place = match (wish, &self.upstream.balance) {
                _ if named.is_some_and(may) => named,
                (Wish::Key(key), _) => balance::rendezvous(candidates, *key, may),
                (Wish::Next, Balance::LeastConnections) => {
                    let load = |place: usize| able.get(place).map_or(0, |member| member.load());
                    balance::less_busy(candidates, self.draw(), may, load)
                }
                (Wish::Next | Wish::Code(_), _) => balance::turn(candidates, may),
            };
            let Some(member) = place.and_then(|place| able.get(place)) else {
                return Found::Full;
            };
            let Some(limit) = limit else {
                return Found::Seat(Seat::take(member));
            };
            // Another worker may have been faster.
            if let Some(seat) = Seat::take_within(member, limit, &self.group) {
                return Found::Seat(seat);
            }
        }
    }

    /// What the cookie must say for the client to come back here; `None` where it says so already, or says where else it
    /// belongs.
    pub(super) fn code_for(&self, member: &Rc<Member>, wish: &Wish) -> Option<String> {
        let Wish::Code(sent) = wish else { return None };
        let roster = self.roster.borrow();
        if sent
            .as_ref()
            .is_some_and(|sent| roster.codes.contains(sent))
        {
            return None;
        }
        let place = roster.able.iter().position(|one| Rc::ptr_eq(one, member))?;
        roster.codes.get(place).cloned()
    }

    /// An endpoint answered.
    pub(super) fn succeeded(&self, member: &Member) {
        if self.upstream.eject.is_some() {
            let failures = &member.endpoint.state.failures;
            if failures.load(Ordering::Relaxed) != 0 {
                failures.store(0, Ordering::Relaxed);
            }
        }
    }

    /// An endpoint did not connect, broke off, or was late. Too often in a row, and it is left out; the last one never is.
    /// One that comes back has no credit: its first failure leaves it out again.
    pub(super) fn failed(&self, member: &Member) {
        let Some(eject) = self.upstream.eject else {
            return;
        };
        let state = &member.endpoint.state;
        let failures = state.failures.fetch_add(1, Ordering::Relaxed);
        if failures.saturating_add(1) < eject.failures {
            return;
        }
        let now = millis();
        let another = self.roster.borrow().members.iter().any(|one| {
            !Arc::ptr_eq(&one.endpoint.state, state)
                && one.endpoint.state.condition(now) == Condition::Up
        });
        if another {
            self.group.eject(&member.endpoint, eject.period);
            self.rebuild();
        }
    }

    /// The only endpoint.
    #[cfg(test)]
    pub(super) fn only(&self) -> Rc<Member> {
        let roster = self.roster.borrow();
        let only = roster.able.first().map(Rc::clone);
        only.unwrap_or_else(|| unreachable!("a test has one endpoint"))
    }

    fn draw(&self) -> u64 {
        let lot = self.lot.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.lot.set(lot);
        balance::mix(lot)
    }

    fn sweep(&self, now: Instant) {
        for member in &self.roster.borrow().members {
            member.sweep(now);
            member.tell();
        }
        if self.changing.get() || self.version.get() != self.group.version() {
            self.rebuild();
        }
    }

    /// Makes the roster anew.
    fn rebuild(&self) {
        let now = millis();
        self.version.set(self.group.version());
        let mut roster = self.roster.borrow_mut();
        let before = std::mem::take(&mut roster.members);
        let owed = |member: &Rc<Member>, roster: &Roster| {
            let place = roster.able.iter().position(|one| Rc::ptr_eq(one, member))?;
            roster.candidates.get(place).map(|one| one.owed)
        };
        let endpoints = self.group.endpoints();
        let members: Vec<Rc<Member>> = endpoints
            .iter()
            .map(|endpoint| {
                let known = before
                    .iter()
                    .find(|one| Arc::ptr_eq(&one.endpoint.state, &endpoint.state));
                known.map_or_else(|| Rc::new(Member::new(endpoint)), Rc::clone)
            })
            .collect();
        let chosen = Self::choose(&endpoints, now);
        let mut fresh = Roster::default();
        self.changing.set(false);
        for (place, (member, endpoint)) in members.iter().zip(&endpoints).enumerate() {
            if endpoint.state.condition(now) == Condition::Ejected {
                self.changing.set(true);
            }
            if !chosen.contains(&place) {
                member.retire();
                continue;
            }
            fresh.candidates.push(Candidate {
                weight: self.weight(endpoint, now),
                owed: owed(member, &roster).unwrap_or_default(),
                identity: balance::hash(endpoint.label.as_bytes()),
            });
            if let Balance::Cookie(cookie) = &self.upstream.balance {
                let code = sticky::code(&self.upstream.name, cookie, endpoint);
                fresh.codes.push(code);
            }
            fresh.able.push(Rc::clone(member));
        }
        for gone in before
            .iter()
            .filter(|old| !members.iter().any(|one| Rc::ptr_eq(one, old)))
        {
            gone.retire();
        }
        let share = match self.upstream.proxy_protocol {
            // A connection that says who the client is cannot be another's.
            Some(_) => 0,
            None => self.size.get().div_ceil(fresh.able.len().max(1)),
        };
        for member in &fresh.able {
            member.allow(share);
        }
        fresh.members = members;
        *roster = fresh;
    }

    /// Which endpoints can be used: those that are well; else the backups that are; else, since an ill server may still answer
    /// and none certainly does not, all that nobody drains.
    fn choose(endpoints: &[Arc<Endpoint>], now: u64) -> Vec<usize> {
        let pick = |wanted: &dyn Fn(&Endpoint) -> bool| -> Vec<usize> {
            let places = endpoints.iter().enumerate();
            let places = places.filter(|(_, one)| wanted(one));
            places.map(|(place, _)| place).collect()
        };
        let condition = |one: &Endpoint| one.state.condition(now);
        let well = |one: &Endpoint| condition(one) == Condition::Up;
        let wanted = |one: &Endpoint| condition(one) != Condition::Drained;
        let steps: [&dyn Fn(&Endpoint) -> bool; 4] = [
            &|one| !one.server.backup && well(one),
            &|one| one.server.backup && well(one),
            &|one| !one.server.backup && wanted(one),
            &|one| wanted(one),
        ];
        let mut picked = steps.iter().map(|step| pick(*step));
        picked.find(|some| !some.is_empty()).unwrap_or_default()
    }

    /// The share of an endpoint in hundredths; of one that came back a while ago, from a tenth to the whole.
    fn weight(&self, endpoint: &Endpoint, now: u64) -> u32 {
        let full = endpoint.server.weight.saturating_mul(100);
        let Some(slow) = self.upstream.slow_start else {
            return full;
        };
        let slow = u64::try_from(slow.as_millis()).unwrap_or(u64::MAX).max(1);
        let returned = endpoint.state.returned();
        let back = now.saturating_sub(returned);
        if returned == 0 || back >= slow {
            return full;
        }
        self.changing.set(true);
        let percent = u32::try_from(back.saturating_mul(100) / slow).unwrap_or(100);
        endpoint
            .server
            .weight
            .saturating_mul(percent.clamp(10, 100))
    }
}

/// Whether a request goes behind those that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    /// Others come first.
    Respect,
    /// It is one of those that wait.
    Pass,
}

/// Whether connections of the one can be the other's, where they lead to the same endpoint.
fn same_way(one: &Upstream, other: &Upstream) -> bool {
    let same_tls = match (&one.tls, &other.tls) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(&one.config, &other.config),
        (None, Some(_)) | (Some(_), None) => false,
    };
    let same_words = one.codec == other.codec && one.proxy_protocol == other.proxy_protocol;
    one.name == other.name && same_words && same_tls
}

#[cfg(test)]
mod tests;
