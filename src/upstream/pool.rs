//! Idle connections of one worker, last in first out, and which server is next.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use tokio::task::AbortHandle;

use super::body::RequestBody;
use crate::snapshot::{Snapshot, Upstream};

/// The pools of one worker. A reload that leaves an upstream as it was leaves its connections as they were.
#[derive(Debug, Default)]
pub struct Pools {
    /// By the address of the snapshot's upstream; the pool keeps the upstream alive, so an address is never reused.
    by_upstream: RefCell<HashMap<usize, Rc<Pool>, foldhash::fast::RandomState>>,
    generation: Cell<u64>,
}

impl Pools {
    /// The pool of an upstream of the newest snapshot.
    pub fn of(&self, upstream: &Arc<Upstream>) -> Rc<Pool> {
        let key = Arc::as_ptr(upstream).addr();
        if let Some(pool) = self.by_upstream.borrow().get(&key) {
            return Rc::clone(pool);
        }
        let mut pools = self.by_upstream.borrow_mut();
        let before = pools
            .values()
            .find(|pool| same_servers(&pool.upstream, upstream));
        let pool = Rc::new(Pool {
            upstream: Arc::clone(upstream),
            idle: RefCell::new(before.map(|pool| pool.idle.take()).unwrap_or_default()),
            next: Cell::new(before.map_or(0, |pool| pool.next.get())),
            size: Cell::new(before.map_or(usize::MAX, |pool| pool.size.get())),
        });
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
            self.of(upstream)
                .size
                .set(upstream.idle_connections.div_ceil(workers));
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

    /// Closes connections that have idled too long. Call about once a second.
    pub fn sweep(&self, now: Instant) {
        self.by_upstream.borrow().values().for_each(|pool| {
            pool.idle.borrow_mut().retain(|conn| {
                now.duration_since(conn.idle_since) < MAX_IDLE && !conn.sender.is_closed()
            });
        });
    }

    /// Closes every idle connection.
    pub fn clear(&self) {
        self.by_upstream.borrow_mut().clear();
    }
}

/// The idle connections to one upstream.
#[derive(Debug)]
pub struct Pool {
    pub(super) upstream: Arc<Upstream>,
    idle: RefCell<Vec<Conn>>,
    next: Cell<usize>,
    size: Cell<usize>,
}

impl Pool {
    /// The connection that was used last, if it is still open.
    pub(super) fn checkout(&self) -> Option<Conn> {
        let mut idle = self.idle.borrow_mut();
        while let Some(conn) = idle.pop() {
            if !conn.sender.is_closed() {
                return Some(conn);
            }
        }
        None
    }

    /// Takes a connection back for the next request.
    pub(super) fn check_in(&self, mut conn: Conn) {
        let mut idle = self.idle.borrow_mut();
        if !conn.sender.is_closed() && idle.len() < self.size.get() {
            conn.idle_since = Instant::now();
            idle.push(conn);
        }
    }

    /// The server whose turn it is (round robin).
    pub(super) fn turn(&self) -> usize {
        let servers = self.upstream.servers.len().max(1);
        let turn = self.next.get() % servers;
        self.next.set(turn + 1);
        turn
    }
}

/// One connection. Dropping it ends its task, so nothing keeps an upstream busy for nobody.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) server: usize,
    pub(super) idle_since: Instant,
    pub(super) task: Task,
}

/// Ends the driving task with its owner.
#[derive(Debug)]
pub(super) struct Task(Option<AbortHandle>);

impl Task {
    pub(super) const fn new(handle: AbortHandle) -> Self {
        Self(Some(handle))
    }

    /// Lets the task live on by itself: it hands an upgraded stream over and ends with its connection.
    pub(super) fn detach(&mut self) {
        self.0 = None;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}

fn same_servers(one: &Upstream, other: &Upstream) -> bool {
    let same_tls = match (&one.tls, &other.tls) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(&one.config, &other.config),
        (None, Some(_)) | (Some(_), None) => false,
    };
    one.name == other.name && one.servers == other.servers && same_tls
}

/// Servers commonly close idle connections after 60 to 75 seconds: close first.
const MAX_IDLE: Duration = Duration::from_secs(55);
