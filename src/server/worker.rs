//! One worker: a thread with its own runtime, connections, upstream pools and log buffer. Workers share nothing on the request
//! path but the snapshot and a few relaxed counters.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use super::accept;
use super::admission::Admission;
use super::socket::ListenerKey;
use crate::observe::access_log::WorkerLog;
use crate::observe::metrics::WorkerMetrics;
use crate::observe::ring::Found;
use crate::proxy::Gate;
use crate::snapshot::Snapshot;
use crate::snapshot::store::Handle;
use crate::upstream::registry::Registry;
use crate::upstream::{Clock, Pools};

/// What the control thread tells a worker.
#[derive(Debug)]
pub enum Command {
    /// Accept from this socket too.
    Listen(ListenerKey, TcpListener),
    /// Accept from it no longer.
    Unlisten(ListenerKey),
    /// Tell what the request with this id was judged by, if it is known here.
    Explain(Arc<str>, mpsc::UnboundedSender<Found>),
    /// Stop accepting, let requests in flight end, then end.
    Drain,
    /// End now.
    Stop,
}

/// The state of one worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) gate: Rc<Gate>,
    pub(crate) admission: Arc<Admission>,
    clocks: RefCell<BTreeMap<u64, Rc<Clock>>>,
    next: Cell<u64>,
    draining: Cell<bool>,
}

/// A connection's entry in its worker's list.
#[derive(Debug)]
pub(crate) struct Enrolled {
    worker: Rc<Worker>,
    number: u64,
}

impl Worker {
    /// Whether connections should end after their request.
    pub(crate) const fn draining(&self) -> bool {
        self.draining.get()
    }

    /// Lists a connection for as long as the answer is kept.
    pub(crate) fn enrol(self: &Rc<Self>, clock: &Rc<Clock>) -> Enrolled {
        let number = self.next.get();
        self.next.set(number + 1);
        self.clocks.borrow_mut().insert(number, Rc::clone(clock));
        Enrolled {
            worker: Rc::clone(self),
            number,
        }
    }

    fn drain(&self) {
        self.draining.set(true);
        for clock in self.clocks.borrow().values() {
            clock.wake();
        }
    }

    fn idle(&self) -> bool {
        self.clocks.borrow().is_empty()
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        self.worker.clocks.borrow_mut().remove(&self.number);
    }
}

/// What a worker thread starts with.
#[derive(Debug)]
pub struct Parts {
    /// Snapshots.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Orders from the control thread.
    pub commands: mpsc::UnboundedReceiver<Command>,
    /// This worker's end of the access logs.
    pub log: WorkerLog,
    /// This worker's counters.
    pub metrics: WorkerMetrics,
    /// What all workers know of upstream endpoints.
    pub upstreams: Registry,
    /// The shared count of connections.
    pub admission: Arc<Admission>,
}

/// Runs a worker on this thread until it is told to stop, or has drained.
///
/// # Errors
/// Where the runtime cannot be made.
pub fn run(parts: Parts) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, work(parts));
    runtime.shutdown_background();
    Ok(())
}

async fn work(parts: Parts) {
    let Parts {
        snapshots,
        mut commands,
        log,
        metrics,
        upstreams,
        admission,
    } = parts;
    let gate = Gate {
        handle: RefCell::new(Handle::new(snapshots)),
        pools: Pools::new(upstreams),
        log: RefCell::new(log),
        metrics,
        ring: RefCell::default(),
    };
    let worker = Rc::new(Worker {
        gate: Rc::new(gate),
        admission,
        clocks: RefCell::default(),
        next: Cell::new(0),
        draining: Cell::new(false),
    });
    let mut accepting: BTreeMap<ListenerKey, CancellationToken> = BTreeMap::new();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Listen(key, socket)) => {
                    let stop = CancellationToken::new();
                    match tokio::net::TcpListener::from_std(socket) {
                        Ok(socket) => {
                            accepting.insert(key, stop.clone());
                            tokio::task::spawn_local(accept::run(Rc::clone(&worker), key, socket, stop));
                        }
                        Err(error) => tracing::error!(address = %key.address, %error, "cannot accept"),
                    }
                }
                Some(Command::Unlisten(key)) => {
                    if let Some(stop) = accepting.remove(&key) {
                        stop.cancel();
                    }
                }
                Some(Command::Explain(id, answer)) => {
                    if let Some(found) = worker.gate.ring.borrow().find(id.as_bytes()) {
                        drop(answer.send(found));
                    }
                }
                Some(Command::Drain) => {
                    for stop in std::mem::take(&mut accepting).into_values() {
                        stop.cancel();
                    }
                    worker.drain();
                }
                Some(Command::Stop) | None => break,
            },
            _ = tick.tick() => {
                worker.gate.log.borrow_mut().tick();
                worker.gate.pools.sweep(Instant::now());
            }
        }
        if worker.draining() && worker.idle() {
            break;
        }
    }
    worker.gate.pools.clear();
    worker.gate.log.borrow_mut().flush();
}

/// How often buffered log lines are handed on and idle upstream connections looked at; also how soon a drained worker ends.
const TICK: Duration = Duration::from_millis(100);
