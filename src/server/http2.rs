//! HTTP/2 towards clients (RFC 9113): one connection, many requests at once.
//!
//! Every stream is served as a request of its own, with a clock of its own; WebSockets come as extended CONNECT (`extended`). One
//! timer a connection looks after all streams twice a second: a stream that waits too long for the upstream is answered (504,
//! 408); one whose client does not take its answer is reset. A connection without streams says GOAWAY when its idle time is over, and is cut when nothing leaves it after that.
//!
//! What hyper's `h2` refuses (bad pseudo-fields, connection-specific fields, a wrong length, floods) never becomes a request and
//! ends in RST_STREAM or GOAWAY. `frames` counts what was sent, so that it gets its line in the access log.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::task::AbortHandle;

use super::extended;
use super::frames::Tally;
use super::io::ClientIo;
use super::refused;
use super::worker::Worker;
use crate::proxy::service::Answering;
use crate::proxy::{Connection, GateService};
use crate::snapshot::Limits;
use crate::upstream::{Clock, Phase};
use crate::value::failure::Failure;

/// The requests of one connection.
#[derive(Debug, Default)]
struct Streams {
    in_flight: Vec<Stream>,
    /// How many have reached the gate so far.
    served: u64,
}

#[derive(Debug)]
struct Stream {
    clock: Weak<Clock>,
    task: Option<AbortHandle>,
}

/// The gate for every stream of one connection.
#[derive(Debug)]
struct StreamService {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    streams: Rc<RefCell<Streams>>,
}

impl hyper::service::Service<Request<Incoming>> for StreamService {
    type Response = <GateService as hyper::service::Service<Request<Incoming>>>::Response;
    type Error = <GateService as hyper::service::Service<Request<Incoming>>>::Error;
    type Future = Answering;

    fn call(&self, mut request: Request<Incoming>) -> Answering {
        let clock = Rc::new(Clock::new(Duration::ZERO));
        self.streams.borrow_mut().begin(Rc::downgrade(&clock));
        let mut stream = self.connection.stream(clock);
        let Some(handshake) = extended::begin(&mut request) else {
            let gate = Rc::clone(&self.worker.gate);
            return GateService::new(gate, Rc::new(stream)).call(request);
        };
        stream.accept = Some(handshake.accept.clone());
        let stream = Rc::new(stream);
        let gate = GateService::new(Rc::clone(&self.worker.gate), Rc::clone(&stream));
        let answering = gate.call(request);
        Box::pin(async move { Ok(handshake.finish(answering.await?, &stream)) })
    }
}

/// Runs the tasks of one connection on this worker. hyper spawns each stream's task right after calling the service for it.
#[derive(Debug, Clone)]
struct Local {
    streams: Rc<RefCell<Streams>>,
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        let handle = tokio::task::spawn_local(task).abort_handle();
        if let Some(stream) = self.streams.borrow_mut().in_flight.last_mut()
            && stream.task.is_none()
        {
            stream.task = Some(handle);
        }
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    mut io: ClientIo,
    limits: &Limits,
) {
    let tally = io.watch();
    let streams = Rc::new(RefCell::new(Streams::default()));
    let service = StreamService {
        worker: Rc::clone(worker),
        connection: Rc::clone(connection),
        streams: Rc::clone(&streams),
    };
    let executor = Local {
        streams: Rc::clone(&streams),
    };
    let header_size = u32::try_from(limits.header_size).unwrap_or(u32::MAX);
    let mut driven = http2::Builder::new(executor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        // Up to twice the limit the gate answers, so that there is a page and a line in the log.
        .max_header_list_size(header_size.saturating_mul(2))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(io), service);
    let clock = &connection.clock;
    let mut keeper = Keeper::new(worker, connection, &tally, limits);
    let mut timer = Box::pin(tokio::time::sleep(LOOK_EVERY));
    let ended = std::future::poll_fn(|cx| {
        clock.attach(cx.waker());
        if clock.asked_again() {
            clock.answered();
            streams.borrow().ask_again();
        }
        loop {
            if worker.draining() && keeper.leaving.is_none() {
                keeper.leaving = Some(Instant::now());
                Pin::new(&mut driven).graceful_shutdown();
            }
            if let Poll::Ready(outcome) = Pin::new(&mut driven).poll(cx) {
                return Poll::Ready(outcome);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            timer.as_mut().reset((now + LOOK_EVERY).into());
            match keeper.look(&mut streams.borrow_mut(), now) {
                Look::Stay => {}
                Look::Leave => Pin::new(&mut driven).graceful_shutdown(),
                Look::Cut => return Poll::Ready(Ok(())),
            }
        }
    })
    .await;
    keeper.finish(streams.borrow().served, ended.is_err());
    if let Err(error) = ended {
        tracing::debug!(peer = %connection.peer, %error, "HTTP/2 connection ended");
    }
}

/// What becomes of a connection that was looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Stay,
    /// No new streams: GOAWAY.
    Leave,
    /// It ends now.
    Cut,
}

/// Looks after one connection.
struct Keeper<'c> {
    worker: &'c Worker,
    connection: &'c Connection,
    tally: &'c Tally,
    limits: &'c Limits,
    /// Since when there has been no stream.
    idle_since: Option<Instant>,
    /// When GOAWAY was said.
    leaving: Option<Instant>,
    /// Bytes that had been written, and when that was seen first.
    written: (u64, Instant),
    /// Requests that never reached the gate: how many were logged, and how many may yet reach it.
    logged: u64,
    missing: u64,
}

impl<'c> Keeper<'c> {
    fn new(
        worker: &'c Worker,
        connection: &'c Connection,
        tally: &'c Tally,
        limits: &'c Limits,
    ) -> Self {
        let now = Instant::now();
        Self {
            worker,
            connection,
            tally,
            limits,
            idle_since: Some(now),
            leaving: None,
            written: (0, now),
            logged: 0,
            missing: 0,
        }
    }

    fn look(&mut self, streams: &mut Streams, now: Instant) -> Look {
        streams.look(now);
        self.tally.refill(FRAMES_A_LOOK);
        if self.leaving.is_none() {
            // What was missing at the last look already will not come any more.
            let missing = self.missing_of(streams.served);
            self.log(missing.min(self.missing));
            self.missing = self.missing_of(streams.served);
        }
        if self.tally.written.get() != self.written.0 {
            self.written = (self.tally.written.get(), now);
        }
        if !streams.in_flight.is_empty() {
            self.idle_since = None;
            return Look::Stay;
        }
        let idle = now.duration_since(*self.idle_since.get_or_insert(now));
        let patience = if streams.served == 0 {
            self.limits.header_timeout
        } else {
            self.limits.idle_timeout
        };
        match self.leaving {
            None if idle >= patience => {
                self.leaving = Some(now);
                Look::Leave
            }
            None => Look::Stay,
            // The last bytes of an answer may still be on their way to a slow client.
            Some(since) => {
                let quiet = now.duration_since(self.written.1.max(since)) >= LEAVE_PATIENCE;
                let late = idle >= patience && now.duration_since(since) >= patience;
                if quiet || late { Look::Cut } else { Look::Stay }
            }
        }
    }

    /// The connection has ended.
    fn finish(&mut self, served: u64, failed: bool) {
        if let Some(word) = self.tally.refused.get() {
            let gate = &self.worker.gate;
            refused::log(
                gate,
                self.connection,
                Failure::Malformed(word),
                self.tally.read.get(),
            );
        } else if self.leaving.is_none() {
            let missing = self.missing_of(served);
            let garbage = failed && !self.tally.broken.get() && self.tally.requests.get() == 0;
            self.log(missing.min(self.limits.h2_streams.into()) + u64::from(garbage));
        }
    }

    fn missing_of(&self, served: u64) -> u64 {
        self.tally
            .requests
            .get()
            .saturating_sub(served + self.logged)
    }

    /// Logs requests that `h2` has refused.
    fn log(&mut self, count: u64) {
        for _ in 0..count {
            let gate = &self.worker.gate;
            refused::log(
                gate,
                self.connection,
                Failure::Malformed("http2"),
                self.tally.read.get(),
            );
        }
        self.logged += count;
    }
}

impl Streams {
    fn begin(&mut self, clock: Weak<Clock>) {
        self.served += 1;
        if self.in_flight.len() >= FORGET_AT {
            self.in_flight
                .retain(|stream| stream.clock.strong_count() > 0);
        }
        self.in_flight.push(Stream { clock, task: None });
    }

    /// Has every request under way judged again.
    fn ask_again(&self) {
        for clock in self.in_flight.iter().filter_map(|one| one.clock.upgrade()) {
            clock.ask_again();
        }
    }

    /// Looks after the streams in flight and forgets the others.
    fn look(&mut self, now: Instant) {
        let second = Timestamp::now().as_second();
        self.in_flight.retain(|stream| {
            let Some(clock) = stream.clock.upgrade() else {
                return false;
            };
            if clock.ends() <= second {
                clock.ask_again();
            }
            if clock.deadline() > now {
                return true;
            }
            match clock.phase() {
                // The request's own future answers for the lateness: 504, or 408.
                phase @ (Phase::Connect | Phase::Upload | Phase::Await) => {
                    clock.expire();
                    clock.enter(phase, LATE_ANSWER);
                    clock.wake();
                }
                // Without its task, the stream ends in RST_STREAM and frees what it holds.
                Phase::Judge | Phase::Stream | Phase::Tunnel => {
                    if let Some(task) = &stream.task {
                        task.abort();
                    }
                }
                // Over, but for its last reference.
                Phase::Head | Phase::Idle => {}
            }
            true
        });
    }
}

/// How often streams are looked after: how late a timeout may be.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Control frames that a client may send between two looks, for as long as it likes.
const FRAMES_A_LOOK: u64 = 50;
/// How long the answer to a lateness may take to be made.
const LATE_ANSWER: Duration = Duration::from_secs(5);
/// How long a connection that has said GOAWAY may write nothing.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);
/// The list of streams is tidied when it is longer, before the next look.
const FORGET_AT: usize = 256;
/// What a client may send of one stream before we have passed it on.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same of all streams together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What we buffer of an answer that its client does not take yet.
const SEND_BUFFER: usize = 64 * 1024;
/// How often a silent client is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long it may take to say so.
const PING_PATIENCE: Duration = Duration::from_secs(20);
