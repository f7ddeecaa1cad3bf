//! One worker: a thread with its own runtime, connections, upstream pools and log buffer. Workers share nothing on the request
//! path but the snapshot and a few relaxed counters.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
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
use crate::share::Store;
use crate::snapshot::Snapshot;
use crate::snapshot::store::Handle;
use crate::upstream::registry::Registry;
use crate::upstream::{Clock, Pools};

/// What the control thread tells a worker.
#[derive(Debug)]
pub enum Command {
    /// Accept from this socket too. A listener may have several.
    Listen(ListenerKey, TcpListener),
    /// Accept from it no longer.
    Unlisten(ListenerKey),
    /// Tell what the request with this id was judged by, if it is known here.
    Explain(Arc<str>, mpsc::UnboundedSender<Found>),
    /// Say that this worker lives.
    Ping(mpsc::UnboundedSender<()>),
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
    drain: Cell<Draining>,
    /// Connections accepted and not yet over, whatever they do.
    guests: Cell<usize>,
    lookout: Lookout,
}

/// Which requests under way are to be judged again.
#[derive(Debug)]
struct Lookout {
    /// The generation, and the epoch of revocations, by which those under way were judged or are being judged again.
    turn: Cell<(u64, u64)>,
    /// The next connection to be asked, where a turn is not over.
    next: Cell<Option<u64>>,
    /// The second of the last look for rights that end.
    looked: Cell<i64>,
}

/// How far a worker is on its way to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Draining {
    No,
    /// Answers are the last of their connections; idle connections may send one more request until then.
    Gently(Instant),
    /// Idle connections close too.
    Firmly,
}

/// A connection's place among the guests of its worker, from accept to close.
#[derive(Debug)]
pub(crate) struct Guest(Rc<Worker>);

/// A connection's entry in its worker's list.
#[derive(Debug)]
pub(crate) struct Enrolled {
    worker: Rc<Worker>,
    number: u64,
}

impl Worker {
    /// Whether connections should end after their request.
    pub(crate) fn draining(&self) -> bool {
        self.drain.get() != Draining::No
    }

    /// Whether connections without a request should end.
    pub(crate) fn closing(&self) -> bool {
        self.drain.get() == Draining::Firmly
    }

    /// Counts a connection for as long as the answer is kept.
    pub(crate) fn receive(self: &Rc<Self>) -> Guest {
        self.guests.set(self.guests.get() + 1);
        Guest(Rc::clone(self))
    }

    /// Lists a connection for as long as the answer is kept.
    pub(crate) fn enrol(self: &Rc<Self>, clock: &Rc<Clock>) -> Enrolled {
        let number = self.next.get();
        self.next.set(number + 1);
        if self.draining() {
            clock.leave();
        }
        self.clocks.borrow_mut().insert(number, Rc::clone(clock));
        Enrolled {
            worker: Rc::clone(self),
            number,
        }
    }

    fn drain(&self, now: Instant) {
        if self.draining() {
            return;
        }
        self.drain.set(Draining::Gently(now + FAREWELL));
        for clock in self.clocks.borrow().values() {
            clock.leave();
            clock.wake();
        }
    }

    /// Closes idle connections when their time has come.
    fn press(&self, now: Instant) {
        if matches!(self.drain.get(), Draining::Gently(until) if until <= now) {
            self.drain.set(Draining::Firmly);
            for clock in self.clocks.borrow().values() {
                clock.wake();
            }
        }
    }

    /// The generation and the epoch that count now.
    fn turn(&self) -> (u64, u64) {
        let lease = self.gate.lease();
        (lease.generation, lease.revocation.added.epoch())
    }

    /// Has requests under way judged again where the policy has changed, something was revoked, or their right ends. Some
    /// at a time, so that those that have just come are not kept waiting.
    fn look_again(&self, second: i64) {
        let Lookout { turn, next, looked } = &self.lookout;
        let now = self.turn();
        if turn.replace(now) != now {
            next.set(Some(0));
        }
        let clocks = self.clocks.borrow();
        if let Some(from) = next.get() {
            let mut asked = 0;
            next.set(None);
            for (number, clock) in clocks.range(from..) {
                if asked == ASKED_A_TICK {
                    next.set(Some(*number));
                    break;
                }
                asked += usize::from(clock.ask_again());
            }
        }
        if looked.get() != second && self.gate.soonest.get() <= second {
            looked.set(second);
            let mut soonest = i64::MAX;
            for clock in clocks.values() {
                let end = clock.ends();
                if end <= second {
                    clock.ask_again();
                } else {
                    soonest = soonest.min(end);
                }
            }
            self.gate.soonest.set(soonest);
        }
    }

    const fn empty(&self) -> bool {
        self.guests.get() == 0
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.guests.set(self.0.guests.get() - 1);
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
        soonest: Cell::new(i64::MAX),
        share: Store::default(),
    };
    let worker = Rc::new(Worker {
        gate: Rc::new(gate),
        admission,
        clocks: RefCell::default(),
        next: Cell::new(0),
        drain: Cell::new(Draining::No),
        guests: Cell::new(0),
        lookout: Lookout {
            turn: Cell::new((0, 0)),
            next: Cell::new(None),
            looked: Cell::new(0),
        },
    });
    worker.lookout.turn.set(worker.turn());
    let mut accepting: BTreeMap<ListenerKey, CancellationToken> = BTreeMap::new();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Listen(key, socket)) => {
                    let stop = accepting.entry(key).or_default().clone();
                    match tokio::net::TcpListener::from_std(socket) {
                        Ok(socket) => {
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
                Some(Command::Ping(answer)) => drop(answer.send(())),
                Some(Command::Drain) => {
                    for stop in std::mem::take(&mut accepting).into_values() {
                        stop.cancel();
                    }
                    worker.drain(Instant::now());
                }
                Some(Command::Stop) | None => break,
            },
            _ = tick.tick() => {
                worker.gate.log.borrow_mut().tick();
                let now = Instant::now();
                worker.gate.pools.sweep(now);
                worker.press(now);
                worker.look_again(Timestamp::now().as_second());
            }
        }
        if worker.draining() && worker.empty() {
            break;
        }
    }
    worker.gate.pools.clear();
    worker.gate.log.borrow_mut().flush();
}

/// How long a kept-alive connection may still send a request after the drain began: its answer says that it is the last, and no
/// client loses a request that was on its way while we closed. Those who send nothing are closed then.
const FAREWELL: Duration = Duration::from_millis(500);
/// How many connections are asked to judge again in one tick.
const ASKED_A_TICK: usize = 200;
/// How often buffered log lines are handed on and idle upstream connections looked at; also how soon a drained worker ends.
const TICK: Duration = Duration::from_millis(100);
