//! hyper's HTTP/1.1 client: for upgrades, and wherever an upstream does not use our own.
//!
//! A connection is driven by a task of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::body::{RequestBody, Tally};
use super::clock::{Clock, Expired, Phase};
use super::connect::Offer;
use super::forward::{Terms, Trace, Tries, Upgraded, Upgrading, dial, late, note, repeatable};
use super::h1::FIELDS_MAX;
use super::io::UpstreamIo;
use super::pool::Pool;
use super::seat::{Seat, admit};
use super::{http2, sticky};
use crate::value::failure::Failure;

/// One connection. Dropping it ends its task, so nothing keeps an upstream busy for nobody.
#[derive(Debug)]
pub(super) struct Conn {
    sender: SendRequest<RequestBody>,
    pub(super) idle_since: Instant,
    task: Task,
}

impl Conn {
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// Ends the driving task with its owner.
#[derive(Debug)]
struct Task(Option<AbortHandle>);

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}

/// Forwards a request as [`super::forward()`] does.
pub(super) async fn forward(
    mut request: Request<RequestBody>,
    pool: &Pool,
    terms: &Terms,
    clock: &Clock,
    tally: &Tally,
    trace: &mut Trace,
) -> Result<Response<LibraryBody>, Failure> {
    let wish = sticky::wish(&pool.upstream.balance, request.headers(), &terms.caller);
    let mut tries = Tries::begin(pool);
    let mut held: Option<Seat> = None;
    loop {
        let seat = match held.take() {
            Some(seat) => seat,
            None => admit(pool, &wish, &tries.tried, terms.patience, clock).await?,
        };
        let (mut conn, reused) = match seat.member.check_out_library() {
            Some(conn) => (conn, true),
            None => match connect(pool, &seat, terms, clock, trace).await {
                Ok((conn, _)) => (conn, false),
                Err(failure) => {
                    tries.next(seat, failure, trace)?;
                    continue;
                }
            },
        };
        clock.enter(Phase::Await, terms.patience.response);
        if reused && !matches!(clock.within(conn.sender.ready()).await, Ok(Ok(()))) {
            held = Some(seat);
            continue;
        }
        let spare = repeatable(request.method(), request.body()).then(|| copy(&request));
        let sent = Instant::now();
        match clock.within(conn.sender.try_send_request(request)).await {
            Ok(Ok(response)) => {
                trace.response = Some(sent.elapsed());
                trace.endpoint = Some(Arc::clone(&seat.member.endpoint.label));
                trace.code = pool.code_for(&seat.member, &wish);
                pool.succeeded(&seat.member);
                return Ok(response
                    .map(|incoming| LibraryBody::new(incoming, Some(Held::Alone(conn, seat)))));
            }
            Ok(Err(mut error)) => {
                if let Some(failure) = tally.failure.get() {
                    return Err(failure);
                }
                if reused {
                    let again = error.take_message().or(spare);
                    let Some(again) = again else {
                        return Err(broken(error.error()));
                    };
                    trace.retries += 1;
                    request = again;
                    held = Some(seat);
                    continue;
                }
                let failure = broken(error.error());
                note(pool, &seat, failure, trace);
                let spare = spare.filter(|_| failure == Failure::UpstreamClosed);
                let spare = spare.filter(|_| pool.budget.spend(Instant::now()));
                request = spare.ok_or(failure)?;
                tries.next(seat, failure, trace)?;
            }
            Err(Expired) => {
                let failure = late(clock);
                note(pool, &seat, failure, trace);
                return Err(failure);
            }
        }
    }
}

/// Sends an upgrade request on a connection of its own, as [`super::upgrade`] does.
pub(super) async fn upgrade(
    request: Request<RequestBody>,
    pool: &Pool,
    terms: &Terms,
    clock: &Clock,
    trace: &mut Trace,
) -> Result<(Response<LibraryBody>, Upgrading), Failure> {
    let wish = sticky::wish(&pool.upstream.balance, request.headers(), &terms.caller);
    let mut tries = Tries::begin(pool);
    let (mut conn, upgraded, seat) = loop {
        let seat = admit(pool, &wish, &tries.tried, terms.patience, clock).await?;
        match connect(pool, &seat, terms, clock, trace).await {
            Ok((conn, upgraded)) => break (conn, upgraded, seat),
            Err(failure) => tries.next(seat, failure, trace)?,
        }
    };
    clock.enter(Phase::Await, terms.patience.response);
    let sent = Instant::now();
    match clock.within(conn.sender.try_send_request(request)).await {
        Ok(Ok(response)) => {
            trace.response = Some(sent.elapsed());
            trace.endpoint = Some(Arc::clone(&seat.member.endpoint.label));
            trace.code = pool.code_for(&seat.member, &wish);
            pool.succeeded(&seat.member);
            // It hands the upgraded stream over and ends with its connection.
            conn.task.0 = None;
            let upgrading = Upgrading { upgraded, seat };
            Ok((
                response.map(|incoming| LibraryBody::new(incoming, None)),
                upgrading,
            ))
        }
        Ok(Err(error)) => {
            let failure = broken(error.error());
            note(pool, &seat, failure, trace);
            Err(failure)
        }
        Err(Expired) => {
            let failure = late(clock);
            note(pool, &seat, failure, trace);
            Err(failure)
        }
    }
}

async fn connect(
    pool: &Pool,
    seat: &Seat,
    terms: &Terms,
    clock: &Clock,
    trace: &mut Trace,
) -> Result<(Box<Conn>, oneshot::Receiver<Upgraded>), Failure> {
    let io = dial(pool, seat, terms, clock, trace, Offer::Http1).await?;
    // Sends nothing: it only fails where hyper is misused.
    let prepared = Builder::new()
        .max_headers(FIELDS_MAX)
        .handshake::<TokioIo<UpstreamIo>, RequestBody>(TokioIo::new(io));
    let (sender, connection) = prepared.await.ok().ok_or(Failure::Internal)?;
    let (hand_over, upgraded) = oneshot::channel();
    let task = tokio::task::spawn_local(async move {
        if let Ok(parts) = connection.without_shutdown().await {
            // Nobody waits unless the request was an upgrade.
            drop(hand_over.send(Upgraded {
                io: parts.io.into_inner(),
                read: parts.read_buf,
            }));
        }
    });
    let conn = Conn {
        sender,
        idle_since: Instant::now(),
        task: Task(Some(task.abort_handle())),
    };
    Ok((Box::new(conn), upgraded))
}

pub(super) fn broken(error: &hyper::Error) -> Failure {
    if error.is_parse() || error.is_parse_status() || error.is_parse_too_large() {
        Failure::UpstreamMalformed
    } else {
        Failure::UpstreamClosed
    }
}

pub(super) fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut again = Request::new(RequestBody::Empty);
    again.method_mut().clone_from(request.method());
    again.uri_mut().clone_from(request.uri());
    again.headers_mut().clone_from(request.headers());
    again
}

/// A response body that hyper reads; at its end the connection goes back to the pool, and when dropped before it, the
/// connection is closed.
#[derive(Debug)]
pub struct LibraryBody {
    incoming: Incoming,
    /// A chunked body does not know that it has ended but by having said so.
    ended: bool,
    lease: Option<Held>,
}

/// The connection that a response body is read from.
#[derive(Debug)]
pub(super) enum Held {
    /// It carries nothing else.
    Alone(Box<Conn>, Seat),
    /// Other requests use it as well.
    Shared(#[expect(dead_code, reason = "kept open while it is read from")] http2::Stream),
}

impl LibraryBody {
    pub(super) const fn new(incoming: Incoming, lease: Option<Held>) -> Self {
        Self {
            incoming,
            ended: false,
            lease,
        }
    }

    fn release(&mut self) {
        if let Some(Held::Alone(conn, seat)) = self.lease.take() {
            seat.member.check_in_library(conn);
        }
    }
}

impl Body for LibraryBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => {
                self.ended = true;
                self.release();
            }
            // With a known length the last piece ends the body; hyper may not ask for another.
            Poll::Ready(Some(Ok(_))) if self.incoming.is_end_stream() => self.release(),
            Poll::Ready(Some(Err(_))) => self.lease = None,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for LibraryBody {
    fn drop(&mut self) {
        if self.incoming.is_end_stream() {
            self.release();
        }
    }
}
