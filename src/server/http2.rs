//! HTTP/2 towards clients (RFC 9113): one connection, many requests at once.
//!
//! Every stream is served as a request of its own, with a clock of its own. One timer a connection looks after all of them about
//! once a second: a stream that waits too long for the upstream is answered (504, 408); one whose client does not take its
//! answer ends the connection, since nothing less frees what it holds.
//!
//! What hyper's `h2` refuses (bad pseudo-fields, connection-specific fields, a wrong length, floods of resets, settings or
//! continuations) never becomes a request; it ends in RST_STREAM or GOAWAY and leaves no line in the access log.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::io::ClientIo;
use super::worker::Worker;
use crate::proxy::service::Answering;
use crate::proxy::{Connection, GateService};
use crate::snapshot::Limits;
use crate::upstream::{Clock, Phase};

/// The clocks of the streams in flight.
type Streams = Rc<RefCell<Vec<Weak<Clock>>>>;

/// The gate for every stream of one connection.
#[derive(Debug)]
struct StreamService {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    streams: Streams,
}

impl hyper::service::Service<Request<Incoming>> for StreamService {
    type Response = <GateService as hyper::service::Service<Request<Incoming>>>::Response;
    type Error = <GateService as hyper::service::Service<Request<Incoming>>>::Error;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let clock = Rc::new(Clock::new(Duration::ZERO));
        self.streams.borrow_mut().push(Rc::downgrade(&clock));
        let stream = Rc::new(self.connection.stream(clock));
        GateService::new(Rc::clone(&self.worker.gate), stream).call(request)
    }
}

/// Runs tasks on this worker.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        drop(tokio::task::spawn_local(task));
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    io: ClientIo,
    limits: &Limits,
) {
    let streams = Streams::default();
    let service = StreamService {
        worker: Rc::clone(worker),
        connection: Rc::clone(connection),
        streams: Rc::clone(&streams),
    };
    let mut driven = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE)
        .serve_connection(TokioIo::new(io), service);
    let clock = &connection.clock;
    let mut idle_since = Some(Instant::now());
    let mut idle_patience = limits.header_timeout;
    let mut timer = Box::pin(tokio::time::sleep(LOOK_EVERY));
    let mut leaving = false;
    let ended = std::future::poll_fn(|cx| {
        clock.attach(cx.waker());
        loop {
            if worker.draining() && !leaving {
                leaving = true;
                Pin::new(&mut driven).graceful_shutdown();
            }
            if let Poll::Ready(outcome) = Pin::new(&mut driven).poll(cx) {
                return Poll::Ready(outcome);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            timer.as_mut().reset((Instant::now() + LOOK_EVERY).into());
            let now = Instant::now();
            if !look(&streams, now) {
                return Poll::Ready(Ok(()));
            }
            if !streams.borrow().is_empty() {
                idle_since = None;
                idle_patience = limits.idle_timeout;
            } else if now.duration_since(*idle_since.get_or_insert(now)) >= idle_patience
                && !leaving
            {
                leaving = true;
                Pin::new(&mut driven).graceful_shutdown();
            }
        }
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(peer = %connection.peer, %error, "HTTP/2 connection ended");
    }
}

/// Looks after the streams in flight; false where one of them cannot be helped but by ending the connection.
fn look(streams: &Streams, now: Instant) -> bool {
    let mut fine = true;
    streams.borrow_mut().retain(|stream| {
        let Some(clock) = stream.upgrade() else {
            return false;
        };
        if clock.deadline() <= now {
            match clock.phase() {
                phase @ (Phase::Connect | Phase::Upload | Phase::Await) => {
                    clock.expire();
                    clock.enter(phase, LATE_ANSWER);
                    clock.wake();
                }
                Phase::Judge | Phase::Stream | Phase::Tunnel => fine = false,
                // Over, but for its last reference.
                Phase::Head | Phase::Idle => {}
            }
        }
        true
    });
    fine
}

/// How often streams are looked after: how late a timeout may be.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the answer to a lateness may take to be made.
const LATE_ANSWER: Duration = Duration::from_secs(5);
/// What a client may send of one stream before we have passed it on.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same of all streams together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What we buffer of an answer that its client does not take yet.
const SEND_BUFFER: usize = 256 * 1024;
/// How often a silent client is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long it may take to say so.
const PING_PATIENCE: Duration = Duration::from_secs(20);
