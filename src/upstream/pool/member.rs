//! One endpoint as one worker uses it: its idle connections, last in first out, and how busy it is.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::upstream::h1::wire::Wire;
use crate::upstream::registry::Endpoint;
use crate::upstream::{http2, library};

/// One endpoint as one worker uses it.
#[derive(Debug)]
pub(in crate::upstream) struct Member {
    pub(in crate::upstream) endpoint: Arc<Endpoint>,
    idle: RefCell<Vec<Conn>>,
    /// The connection that HTTP/2 requests share.
    shared: RefCell<Option<Rc<http2::Conn>>>,
    /// How many idle connections it may keep; none while it cannot be used.
    keep: Cell<usize>,
    /// Requests of this worker under way.
    pub(in crate::upstream) busy: Cell<i64>,
    /// How many of them the others have been told of.
    told: Cell<i64>,
}

impl Member {
    pub(super) fn new(endpoint: &Arc<Endpoint>) -> Self {
        Self {
            endpoint: Arc::clone(endpoint),
            idle: RefCell::default(),
            shared: RefCell::default(),
            keep: Cell::new(0),
            busy: Cell::new(0),
            told: Cell::new(0),
        }
    }

    /// The connection that was used last, if it is still open, for our own client.
    pub(in crate::upstream) fn check_out_lean(&self) -> Option<Box<Wire>> {
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
    pub(in crate::upstream) fn check_out_library(&self) -> Option<Box<library::Conn>> {
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

    /// The connection that HTTP/2 requests share, if it is open.
    pub(in crate::upstream) fn shared(&self) -> Option<Rc<http2::Conn>> {
        let mut shared = self.shared.borrow_mut();
        if shared.as_ref().is_some_and(|conn| !conn.is_open()) {
            *shared = None;
        }
        shared.clone()
    }

    /// Shares a fresh HTTP/2 connection with the requests to come.
    pub(in crate::upstream) fn share(&self, conn: &Rc<http2::Conn>) {
        if self.keep.get() > 0 {
            self.shared.replace(Some(Rc::clone(conn)));
        }
    }

    /// Takes a connection of our own client back for the next request. Whether it is still open is asked when it is used.
    pub(in crate::upstream) fn check_in_lean(&self, mut wire: Box<Wire>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.keep.get() {
            wire.idle_since = Instant::now();
            idle.push(Conn::Lean(wire));
        }
    }

    /// The same for hyper's.
    pub(in crate::upstream) fn check_in_library(&self, mut conn: Box<library::Conn>) {
        let mut idle = self.idle.borrow_mut();
        if conn.is_open() && idle.len() < self.keep.get() {
            conn.idle_since = Instant::now();
            idle.push(Conn::Library(conn));
        }
    }

    pub(super) fn seats(&self) -> u32 {
        self.endpoint.state.seats.load(Ordering::Relaxed)
    }

    /// Requests under way: this worker's now, the others' a moment ago.
    pub(super) fn load(&self) -> i64 {
        let all = self.endpoint.state.busy.load(Ordering::Relaxed);
        (all - self.told.get() + self.busy.get()).max(0)
    }

    /// Tells the others how busy this worker keeps the endpoint.
    pub(super) fn tell(&self) {
        let (busy, told) = (self.busy.get(), self.told.get());
        if busy != told {
            self.told.set(busy);
            let all = &self.endpoint.state.busy;
            all.fetch_add(busy - told, Ordering::Relaxed);
        }
    }

    /// How many idle connections it may keep from now on.
    pub(super) fn allow(&self, share: usize) {
        self.keep.set(share);
        self.idle.borrow_mut().truncate(share);
        if share == 0 {
            self.shared.take();
        }
    }

    /// Closes connections that have idled too long.
    pub(super) fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain_mut(|conn| conn.keep(now));
        self.shared
            .borrow_mut()
            .take_if(|conn| !conn.is_open() || conn.idle(now).is_some_and(|idle| idle > MAX_IDLE));
    }

    /// It cannot be used any more, or for a while.
    pub(super) fn retire(&self) {
        self.allow(0);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.tell();
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

/// Servers commonly close idle connections after 60 to 75 seconds: close first.
const MAX_IDLE: Duration = Duration::from_secs(55);
/// Idle for longer, a connection needs no buffers.
const REST: Duration = Duration::from_secs(1);
