//! hyper's HTTP/1.1 client: for upgrades, and wherever an upstream does not use our own.
//!
//! A connection is driven by a task of its own.

use std::pin::Pin;
use std::rc::Rc;
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
use super::forward::{Patience, Trace, Upgraded, dial, late, repeatable};
use super::h1::FIELDS_MAX;
use super::io::UpstreamIo;
use super::pool::Pool;
use crate::value::failure::Failure;

/// One connection. Dropping it ends its task, so nothing keeps an upstream busy for nobody.
#[derive(Debug)]
pub(super) struct Conn {
    sender: SendRequest<RequestBody>,
    pub(super) server: usize,
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
    pool: &Rc<Pool>,
    patience: Patience,
    clock: &Rc<Clock>,
    tally: &Tally,
    trace: &mut Trace,
) -> Result<Response<LibraryBody>, Failure> {
    loop {
        let (mut conn, reused) = match pool.check_out_library() {
            Some(conn) => (conn, true),
            None => (connect(pool, patience, clock, trace).await?.0, false),
        };
        trace.server = Some(conn.server);
        clock.enter(Phase::Await, patience.response);
        if reused && !matches!(clock.within(conn.sender.ready()).await, Ok(Ok(()))) {
            continue;
        }
        let spare = (reused && repeatable(&request)).then(|| copy(&request));
        let sent = Instant::now();
        match clock.within(conn.sender.try_send_request(request)).await {
            Ok(Ok(response)) => {
                trace.response = Some(sent.elapsed());
                return Ok(response
                    .map(|incoming| LibraryBody::new(incoming, Some((Rc::clone(pool), conn)))));
            }
            Ok(Err(mut error)) => {
                if let Some(failure) = tally.failure.get() {
                    return Err(failure);
                }
                let again = error.take_message().filter(|_| reused).or(spare);
                let Some(again) = again else {
                    return Err(broken(error.error()));
                };
                trace.retries += 1;
                request = again;
            }
            Err(Expired) => return Err(late(clock)),
        }
    }
}

/// Sends an upgrade request on a connection of its own, as [`super::upgrade`] does.
pub(super) async fn upgrade(
    request: Request<RequestBody>,
    pool: &Rc<Pool>,
    patience: Patience,
    clock: &Rc<Clock>,
    trace: &mut Trace,
) -> Result<(Response<LibraryBody>, oneshot::Receiver<Upgraded>), Failure> {
    let (mut conn, upgraded) = connect(pool, patience, clock, trace).await?;
    trace.server = Some(conn.server);
    clock.enter(Phase::Await, patience.response);
    let sent = Instant::now();
    match clock.within(conn.sender.try_send_request(request)).await {
        Ok(Ok(response)) => {
            trace.response = Some(sent.elapsed());
            // It hands the upgraded stream over and ends with its connection.
            conn.task.0 = None;
            Ok((
                response.map(|incoming| LibraryBody::new(incoming, None)),
                upgraded,
            ))
        }
        Ok(Err(error)) => Err(broken(error.error())),
        Err(Expired) => Err(late(clock)),
    }
}

async fn connect(
    pool: &Rc<Pool>,
    patience: Patience,
    clock: &Rc<Clock>,
    trace: &mut Trace,
) -> Result<(Box<Conn>, oneshot::Receiver<Upgraded>), Failure> {
    let (io, server) = dial(pool, patience, clock, trace).await?;
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
        server,
        idle_since: Instant::now(),
        task: Task(Some(task.abort_handle())),
    };
    Ok((Box::new(conn), upgraded))
}

fn broken(error: &hyper::Error) -> Failure {
    if error.is_parse() || error.is_parse_status() || error.is_parse_too_large() {
        Failure::UpstreamMalformed
    } else {
        Failure::UpstreamClosed
    }
}

fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
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
    lease: Option<(Rc<Pool>, Box<Conn>)>,
}

impl LibraryBody {
    const fn new(incoming: Incoming, lease: Option<(Rc<Pool>, Box<Conn>)>) -> Self {
        Self {
            incoming,
            ended: false,
            lease,
        }
    }

    fn release(&mut self) {
        if let Some((pool, conn)) = self.lease.take() {
            pool.check_in_library(conn);
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
