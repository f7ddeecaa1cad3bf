//! Idle connections of one worker, last in first out, and which server is next.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::h1::wire::Wire;
use super::library;
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
            pool.idle.borrow_mut().retain_mut(|conn| conn.keep(now));
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
    /// The connection that was used last, if it is still open, for our own client.
    pub(super) fn check_out_lean(&self) -> Option<Box<Wire>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(conn) = idle.pop() {
            if let Conn::Lean(mut wire) = conn
                && wire.is_quiet()
            {
                return Some(wire);
            }
        }
        None
    }

    /// The same for hyper's.
    pub(super) fn check_out_library(&self) -> Option<Box<library::Conn>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(conn) = idle.pop() {
            if let Conn::Library(conn) = conn
                && conn.is_open()
            {
                return Some(conn);
            }
        }
        None
    }

    /// Takes a connection of our own client back for the next request. Whether it is still open is asked when it is used.
    pub(super) fn check_in_lean(&self, mut wire: Box<Wire>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.size.get() {
            wire.idle_since = Instant::now();
            idle.push(Conn::Lean(wire));
        }
    }

    /// The same for hyper's.
    pub(super) fn check_in_library(&self, mut conn: Box<library::Conn>) {
        let mut idle = self.idle.borrow_mut();
        if conn.is_open() && idle.len() < self.size.get() {
            conn.idle_since = Instant::now();
            idle.push(Conn::Library(conn));
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

/// One idle connection. A pool has one kind: its upstream's codec.
#[derive(Debug)]
enum Conn {
    Lean(Box<Wire>),
    Library(Box<library::Conn>),
}

impl Conn {
    /// Whether it may stay. One that has idled a while gives up its buffers.
    fn keep(&mut self, now: Instant) -> bool {
        match self {
            Self::Lean(wire) => {
                let idle = now.duration_since(wire.idle_since);
                if idle > REST {
                    wire.rest();
                }
                idle < MAX_IDLE && wire.is_quiet()
            }
            Self::Library(conn) => now.duration_since(conn.idle_since) < MAX_IDLE && conn.is_open(),
        }
    }
}

fn same_servers(one: &Upstream, other: &Upstream) -> bool {
    let same_tls = match (&one.tls, &other.tls) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(&one.config, &other.config),
        (None, Some(_)) | (Some(_), None) => false,
    };
    one.name == other.name && one.servers == other.servers && one.codec == other.codec && same_tls
}

/// Servers commonly close idle connections after 60 to 75 seconds: close first.
const MAX_IDLE: Duration = Duration::from_secs(55);
/// Idle for longer, a connection needs no buffers.
const REST: Duration = Duration::from_secs(1);
