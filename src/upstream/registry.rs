//! What all workers know of the endpoints of each upstream: which there are, who is ill, left out or drained, who is busy.
//!
//! It outlives a reload. A group goes by the name of its upstream, an endpoint in it by where it leads, so that a changed weight
//! or a new neighbour makes no ill server well. Workers read relaxed atomics; the lists behind locks change with a reload, a
//! resolved name or an order, and are read when `version` has moved.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::snapshot::{self, Snapshot, Upstream, UpstreamServer};

/// The groups of all upstreams.
#[derive(Debug, Clone, Default)]
pub struct Registry(Arc<Mutex<BTreeMap<Arc<str>, Arc<Group>>>>);

/// The endpoints of one upstream.
#[derive(Debug)]
pub struct Group {
    /// The upstream's name.
    pub name: Arc<str>,
    members: Mutex<Members>,
    version: AtomicU64,
    /// Requests that wait for a place, all workers together.
    pub(super) waiting: AtomicU32,
    /// Says that a place is free.
    pub(super) freed: Notify,
}

#[derive(Debug, Default)]
struct Members {
    endpoints: Vec<Arc<Endpoint>>,
    /// Servers drained by the name that was written: what they resolve to later is drained as well.
    drained: BTreeSet<Arc<str>>,
}

/// One address behind an upstream.
#[derive(Debug)]
pub struct Endpoint {
    /// The server as configured.
    pub server: UpstreamServer,
    /// Where it stands among the servers of its upstream.
    pub ordinal: usize,
    /// One address of a server that is a name. A name that never resolved has none, and is asked at each connect.
    pub address: Option<SocketAddr>,
    /// What logs, metrics and `drain` call it: `host:port`, or a Unix socket's path.
    pub label: Arc<str>,
    /// What is true of it now.
    pub state: Arc<State>,
}

/// What is true of an endpoint now.
#[derive(Debug, Default)]
pub struct State {
    /// Requests under way, as workers tell ten times a second.
    pub(super) busy: AtomicI64,
    /// Places taken, where there is a limit.
    pub(super) seats: AtomicU32,
    /// Failures in a row.
    pub(super) failures: AtomicU32,
    /// Left out until then; milliseconds of [`millis`].
    ejected_until: AtomicU64,
    /// When it came back: the beginning of its slow start.
    returned: AtomicU64,
    down: AtomicBool,
    drained: AtomicBool,
    ejections: AtomicU64,
    checks_good: AtomicU64,
    checks_bad: AtomicU64,
}

/// How an endpoint is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It can be used.
    Up,
    /// Its health checks fail.
    Down,
    /// Left out for a while, for its failures.
    Ejected,
    /// An operator drains it.
    Drained,
}

/// What an operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// No new requests.
    Out,
    /// Back to work.
    Back,
}

/// Nobody of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No such upstream.
    #[error("no upstream has this name")]
    Upstream,
    /// No such endpoint in it.
    #[error("no endpoint of the upstream has this name")]
    Endpoint,
}

impl Registry {
    /// The group of an upstream.
    #[must_use]
    pub fn of(&self, upstream: &Upstream) -> Arc<Group> {
        let mut groups = lock(&self.0);
        if let Some(group) = groups.get(&upstream.name) {
            return Arc::clone(group);
        }
        let group = Arc::new(Group::new(upstream));
        groups.insert(Arc::clone(&upstream.name), Arc::clone(&group));
        group
    }

    /// Takes over a configuration that is about to be published.
    pub fn adopt(&self, snapshot: &Snapshot) {
        for upstream in &snapshot.upstreams {
            self.of(upstream).arrange(upstream);
        }
        let named = |name: &Arc<str>| snapshot.upstreams.iter().any(|one| one.name == *name);
        lock(&self.0).retain(|name, _| named(name));
    }

    /// Every group.
    #[must_use]
    pub fn groups(&self) -> Vec<Arc<Group>> {
        lock(&self.0).values().cloned().collect()
    }

    /// Drains an endpoint, or takes it back. `named` is its label, or its server's URL or `host:port`: then all addresses of a
    /// name are meant, those included that it gets later. Answers how many endpoints are left that can be used.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn drain(&self, upstream: &str, named: &str, drain: Drain) -> Result<usize, Unknown> {
        let group = lock(&self.0).get(upstream).cloned();
        group.ok_or(Unknown::Upstream)?.drain(named, drain)
    }
}

impl Group {
    fn new(upstream: &Upstream) -> Self {
        let group = Self {
            name: Arc::clone(&upstream.name),
            members: Mutex::default(),
            version: AtomicU64::new(1),
            waiting: AtomicU32::new(0),
            freed: Notify::new(),
        };
        group.arrange(upstream);
        group
    }

    /// Moves when anything about the endpoints has changed.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The endpoints.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        lock(&self.members).endpoints.clone()
    }

    /// How many requests wait for a place.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether requests wait here.
    pub(super) fn queued(&self) -> bool {
        self.waiting() > 0
    }

    /// Makes the list of endpoints that a configuration wants; what is known of one that stays, stays.
    pub(super) fn arrange(&self, upstream: &Upstream) {
        let mut members = lock(&self.members);
        let mut before = std::mem::take(&mut members.endpoints);
        for (ordinal, server) in upstream.servers.iter().enumerate() {
            let first = before
                .iter()
                .find(|old| old.server.leads_where(server))
                .map(|old| old.ordinal);
            let (kept, rest) = before
                .into_iter()
                .partition(|old| Some(old.ordinal) == first && old.server.leads_where(server));
            before = rest;
            let kept: Vec<Arc<Endpoint>> = kept;
            if kept.is_empty() {
                let state = members.fresh(server);
                members
                    .endpoints
                    .push(Arc::new(Endpoint::new(server, ordinal, None, state)));
            }
            for old in kept {
                old.state.forget_what_is_not_asked(upstream);
                let state = Arc::clone(&old.state);
                let endpoint = Endpoint::new(server, ordinal, old.address, state);
                members.endpoints.push(Arc::new(endpoint));
            }
        }
        drop(members);
        self.changed();
    }

    /// Takes over what a name resolves to: its new addresses are endpoints, those that are gone get no new requests.
    pub(super) fn resolved(&self, server: &UpstreamServer, mut addresses: Vec<SocketAddr>) {
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(ADDRESSES_MAX);
        let mut members = lock(&self.members);
        let of = |one: &&Arc<Endpoint>| one.server.leads_where(server);
        let Some(first) = members.endpoints.iter().position(|one| of(&one)) else {
            return;
        };
        let before: Vec<Arc<Endpoint>> = members.endpoints.iter().filter(of).cloned().collect();
        let known: Vec<Option<SocketAddr>> = before.iter().map(|one| one.address).collect();
        if addresses.is_empty() || known == addresses.iter().copied().map(Some).collect::<Vec<_>>()
        {
            return;
        }
        let Some(ordinal) = before.first().map(|one| one.ordinal) else {
            return;
        };
        let server = before.first().map_or(server, |one| &one.server).clone();
        let mut new = Vec::new();
        for address in addresses {
            let old = before.iter().find(|one| one.address == Some(address));
            new.push(old.map_or_else(
                || {
                    let state = members.fresh(&server);
                    Arc::new(Endpoint::new(&server, ordinal, Some(address), state))
                },
                Arc::clone,
            ));
        }
        tracing::info!(upstream = %self.name, server = %server.url, addresses = new.len(), "name resolved anew");
        members
            .endpoints
            .retain(|one| !one.server.leads_where(&server));
        members.endpoints.splice(first..first, new);
        drop(members);
        self.changed();
    }

    fn drain(&self, named: &str, drain: Drain) -> Result<usize, Unknown> {
        let mut members = lock(&self.members);
        let by_server =
            |one: &Endpoint| *one.server.url == *named || *one.server.authority == *named;
        let meant: Vec<Arc<Endpoint>> = members
            .endpoints
            .iter()
            .filter(|one| *one.label == *named || by_server(one))
            .cloned()
            .collect();
        if meant.is_empty() {
            return Err(Unknown::Endpoint);
        }
        for endpoint in meant {
            let out = drain == Drain::Out;
            let was = endpoint.state.drained.swap(out, Ordering::Relaxed);
            if was && !out {
                endpoint.state.returned.store(millis(), Ordering::Relaxed);
            }
            if by_server(&endpoint) {
                if out {
                    members.drained.insert(Arc::clone(&endpoint.server.url));
                } else {
                    members.drained.remove(&endpoint.server.url);
                }
            }
            tracing::info!(upstream = %self.name, endpoint = %endpoint.label, drained = out, "drain");
        }
        let now = millis();
        let left = members.endpoints.iter();
        let left = left.filter(|one| one.state.condition(now) == Condition::Up);
        let left = left.count();
        drop(members);
        self.changed();
        Ok(left)
    }

    /// Leaves an endpoint out for a while. A worker says so of one that failed too often while others can be used.
    pub(super) fn eject(&self, endpoint: &Endpoint, period: Duration) {
        let now = millis();
        let state = &endpoint.state;
        let until = now.saturating_add(u64::try_from(period.as_millis()).unwrap_or(u64::MAX));
        if state.ejected_until.swap(until, Ordering::Relaxed) > now {
            return;
        }
        state.returned.store(until, Ordering::Relaxed);
        state.ejections.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(upstream = %self.name, endpoint = %endpoint.label, ?period, "ejected after failures in a row");
        self.changed();
    }

    /// Notes what a health check found out.
    pub(super) fn set_down(&self, endpoint: &Endpoint, down: bool) {
        if endpoint.state.down.swap(down, Ordering::Relaxed) == down {
            return;
        }
        if !down {
            endpoint.state.returned.store(millis(), Ordering::Relaxed);
        }
        tracing::warn!(upstream = %self.name, endpoint = %endpoint.label, down, "health changed");
        self.changed();
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
        // A place may be free that nobody gave back.
        self.freed.notify_waiters();
    }
}

impl Members {
    fn fresh(&self, server: &UpstreamServer) -> Arc<State> {
        let state = State::default();
        let drained = self.drained.contains(&server.url);
        state.drained.store(drained, Ordering::Relaxed);
        Arc::new(state)
    }
}

impl Endpoint {
    fn new(
        server: &UpstreamServer,
        ordinal: usize,
        address: Option<SocketAddr>,
        state: Arc<State>,
    ) -> Self {
        let label = match (&server.address, address) {
            (_, Some(address)) => Arc::from(address.to_string()),
            (snapshot::Endpoint::Unix(path), None) => Arc::from(path.to_string_lossy()),
            (
                snapshot::Endpoint::Address(_)
                | snapshot::Endpoint::Name(..)
                | snapshot::Endpoint::Demo,
                None,
            ) => Arc::clone(&server.authority),
        };
        Self {
            server: server.clone(),
            ordinal,
            address,
            label,
            state,
        }
    }
}

impl State {
    /// What was found out by means that are no longer configured counts no more.
    fn forget_what_is_not_asked(&self, upstream: &Upstream) {
        if upstream.health.is_none() {
            self.down.store(false, Ordering::Relaxed);
        }
        if upstream.eject.is_none() {
            self.ejected_until.store(0, Ordering::Relaxed);
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// How the endpoint is; `now` is of [`millis`].
    #[must_use]
    pub fn condition(&self, now: u64) -> Condition {
        if self.drained.load(Ordering::Relaxed) {
            Condition::Drained
        } else if self.down.load(Ordering::Relaxed) {
            Condition::Down
        } else if self.ejected_until.load(Ordering::Relaxed) > now {
            Condition::Ejected
        } else {
            Condition::Up
        }
    }

    /// When it came back, of [`millis`]; 0 where it was never away. It may lie ahead.
    pub(super) fn returned(&self) -> u64 {
        self.returned.load(Ordering::Relaxed)
    }

    /// Requests and tunnels under way, a moment ago.
    #[must_use]
    pub fn in_flight(&self) -> i64 {
        self.busy.load(Ordering::Relaxed).max(0)
    }

    /// How often it was ejected.
    #[must_use]
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// Health checks that were good, and those that were not.
    #[must_use]
    pub fn checks(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.checks_good), read(&self.checks_bad))
    }

    /// Counts a health check.
    pub(super) fn checked(&self, good: bool) {
        let count = if good {
            &self.checks_good
        } else {
            &self.checks_bad
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Condition {
    /// As status and logs say it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Ejected => "ejected",
            Self::Drained => "drained",
        }
    }
}

/// Milliseconds since about the start of the process, from 1.
#[must_use]
pub fn millis() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Addresses of one name that are used.
const ADDRESSES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]
    use super::*;

    fn server(url: &str, weight: u32) -> UpstreamServer {
        let name = url.strip_prefix("http://").unwrap();
        UpstreamServer {
            url: url.into(),
            address: snapshot::Endpoint::Name(name.into(), 80),
            tls: None,
            authority: name.into(),
            weight,
            backup: false,
        }
    }

    fn upstream(servers: Vec<UpstreamServer>) -> Upstream {
        Upstream {
            name: "app".into(),
            servers,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            idle_connections: 1,
            retries: 1,
            tls: None,
            codec: snapshot::Codec::Lean,
            balance: snapshot::Balance::RoundRobin,
            eject: None,
            slow_start: None,
            max_connections: None,
            queue: 0,
            health: Some(snapshot::Health {
                path: "/".into(),
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
                rise: 1,
                fall: 1,
            }),
            proxy_protocol: None,
        }
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn shown(group: &Group) -> Vec<String> {
        let one = |one: &Arc<Endpoint>| {
            let condition = one.state.condition(millis()).word();
            format!("{} {} {condition}", one.label, one.server.weight)
        };
        group.endpoints().iter().map(one).collect()
    }

    #[test]
    fn endpoints_follow_their_names_and_keep_what_is_known_of_them() {
        let registry = Registry::default();
        let (a, b) = (server("http://a", 1), server("http://b", 1));
        let group = registry.of(&upstream(vec![a.clone(), b.clone()]));
        assert_eq!(shown(&group), ["a 1 up", "b 1 up"], "not resolved yet");

        group.resolved(
            &a,
            addresses(&["10.0.0.2:80", "10.0.0.1:80", "10.0.0.2:80"]),
        );
        let both = ["10.0.0.1:80 1 up", "10.0.0.2:80 1 up", "b 1 up"];
        assert_eq!(shown(&group), both);
        let version = group.version();
        group.resolved(&a, addresses(&["10.0.0.2:80", "10.0.0.1:80"]));
        group.resolved(&a, Vec::new());
        assert_eq!(
            (shown(&group), group.version()),
            (both.map(str::to_owned).to_vec(), version),
            "nothing new"
        );

        group.set_down(&group.endpoints()[1], true);
        group.resolved(&a, addresses(&["10.0.0.2:80", "10.0.0.3:80"]));
        let moved = ["10.0.0.2:80 1 down", "10.0.0.3:80 1 up", "b 1 up"];
        assert_eq!(shown(&group), moved, "one went, one came, one stayed ill");

        group.arrange(&upstream(vec![
            b,
            server("http://a", 5),
            server("http://c", 1),
        ]));
        let arranged = ["b 1 up", "10.0.0.2:80 5 down", "10.0.0.3:80 5 up", "c 1 up"];
        assert_eq!(shown(&group), arranged, "another order and weight");
        let ordinals: Vec<usize> = group.endpoints().iter().map(|one| one.ordinal).collect();
        assert_eq!(ordinals, [0, 1, 1, 2]);

        let mut unasked = upstream(vec![server("http://a", 5)]);
        unasked.health = None;
        group.arrange(&unasked);
        let up = ["10.0.0.2:80 5 up", "10.0.0.3:80 5 up"];
        assert_eq!(shown(&group), up, "nobody asks any more");
    }

    #[test]
    fn what_a_drained_name_gets_later_is_drained_as_well() {
        let registry = Registry::default();
        let a = server("http://a", 1);
        let group = registry.of(&upstream(vec![a.clone()]));
        group.resolved(&a, addresses(&["10.0.0.1:80"]));
        assert_eq!(registry.drain("app", "a", Drain::Out), Ok(0));
        group.resolved(&a, addresses(&["10.0.0.1:80", "10.0.0.2:80"]));
        assert_eq!(
            shown(&group),
            ["10.0.0.1:80 1 drained", "10.0.0.2:80 1 drained"]
        );
        assert_eq!(registry.drain("app", "10.0.0.2:80", Drain::Back), Ok(1));
        assert_eq!(registry.drain("app", "http://a", Drain::Back), Ok(2));
        group.resolved(&a, addresses(&["10.0.0.3:80"]));
        assert_eq!(shown(&group), ["10.0.0.3:80 1 up"]);
        assert_eq!(
            registry.drain("app", "b", Drain::Out),
            Err(Unknown::Endpoint)
        );
        assert_eq!(registry.drain("b", "a", Drain::Out), Err(Unknown::Upstream));
    }
}
