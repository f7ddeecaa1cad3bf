//! One request forwarded: connection, request, response head; the body streams afterwards.
//!
//! Retries are only what is certainly safe. A connection that could not be opened has carried nothing: any request may try the
//! next server. A pooled connection that closed before our bytes left gives the request back untouched. One that closed
//! after they left may have been acted upon (RFC 9110 §9.2.2): only an idempotent request without a body is sent again.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::body::{RequestBody, Tally};
use super::clock::{Clock, Expired, Phase};
use super::connect::connect;
use super::io::UpstreamIo;
use super::pool::{Conn, Pool, Task};
use crate::policy::Permit;
use crate::value::failure::Failure;

/// The bounds of one request's waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the response head, from the end of the request.
    pub response: Duration,
}

/// What happened on the way, for the access record.
#[derive(Debug, Default, Clone)]
pub struct Trace {
    /// Which server of the upstream answered, or was tried last.
    pub server: Option<usize>,
    /// Time spent on connecting; zero on a pooled connection.
    pub connect: Duration,
    /// Time from the request to the response head.
    pub response: Option<Duration>,
    /// Tries after the first.
    pub retries: u32,
}

/// Forwards a request to an upstream and answers the response's head with its body still streaming.
///
/// # Errors
/// A [`Failure`]: connecting, the client's body, or the upstream's answer went wrong or took too long.
pub async fn forward(
    permit: Permit,
    mut request: Request<RequestBody>,
    pool: &Rc<Pool>,
    patience: Patience,
    clock: &Rc<Clock>,
    tally: &Tally,
    trace: &mut Trace,
) -> Result<Response<UpstreamBody>, Failure> {
    // INVARIANT: holding a permit is the only way in here; it is spent by this call.
    drop(permit);
    loop {
        let (mut conn, reused) = match pool.checkout() {
            Some(conn) => (conn, true),
            None => (dial(pool, patience, clock, trace).await?.0, false),
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
                    .map(|incoming| UpstreamBody::new(incoming, Some((Rc::clone(pool), conn)))));
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

/// Sends an upgrade request on a connection of its own. The upgraded stream, once the upstream has said 101, comes through
/// the receiver.
///
/// # Errors
/// As [`forward`].
pub async fn upgrade(
    permit: Permit,
    request: Request<RequestBody>,
    pool: &Rc<Pool>,
    patience: Patience,
    clock: &Rc<Clock>,
    trace: &mut Trace,
) -> Result<(Response<UpstreamBody>, oneshot::Receiver<Upgraded>), Failure> {
    drop(permit);
    let (mut conn, upgraded) = dial(pool, patience, clock, trace).await?;
    trace.server = Some(conn.server);
    clock.enter(Phase::Await, patience.response);
    let sent = Instant::now();
    match clock.within(conn.sender.try_send_request(request)).await {
        Ok(Ok(response)) => {
            trace.response = Some(sent.elapsed());
            conn.task.detach();
            Ok((
                response.map(|incoming| UpstreamBody::new(incoming, None)),
                upgraded,
            ))
        }
        Ok(Err(error)) => Err(broken(error.error())),
        Err(Expired) => Err(late(clock)),
    }
}

/// An upgraded connection to the upstream, with what was read beyond the 101.
#[derive(Debug)]
pub struct Upgraded {
    /// The stream.
    pub io: UpstreamIo,
    /// Bytes that came with the response head.
    pub read: Bytes,
}

async fn dial(
    pool: &Rc<Pool>,
    patience: Patience,
    clock: &Rc<Clock>,
    trace: &mut Trace,
) -> Result<(Conn, oneshot::Receiver<Upgraded>), Failure> {
    let upstream = &pool.upstream;
    let mut failure = Failure::Internal;
    for attempt in 0..=upstream.retries {
        let index = pool.turn();
        let Some(server) = upstream.servers.get(index) else {
            return Err(Failure::Internal);
        };
        trace.server = Some(index);
        if attempt > 0 {
            trace.retries += 1;
        }
        clock.enter(Phase::Connect, patience.connect);
        let started = Instant::now();
        let outcome = clock.within(connect(upstream, server)).await;
        trace.connect += started.elapsed();
        match outcome {
            Ok(Ok((sender, connection))) => {
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
                let task = Task::new(task.abort_handle());
                return Ok((
                    Conn {
                        sender,
                        server: index,
                        idle_since: started,
                        task,
                    },
                    upgraded,
                ));
            }
            Ok(Err(reason)) => failure = reason,
            Err(Expired) => failure = Failure::ConnectTimeout,
        }
    }
    Err(failure)
}

/// Who is late: the client with its body, or the upstream.
fn late(clock: &Clock) -> Failure {
    if clock.phase() == Phase::Upload {
        Failure::BodyTimeout
    } else {
        Failure::ResponseTimeout
    }
}

fn broken(error: &hyper::Error) -> Failure {
    if error.is_parse() || error.is_parse_status() || error.is_parse_too_large() {
        Failure::UpstreamMalformed
    } else {
        Failure::UpstreamClosed
    }
}

/// Methods that may be sent twice (RFC 9110 §9.2.2), where nothing of a body is lost by it.
fn repeatable(request: &Request<RequestBody>) -> bool {
    let method = request.method();
    let idempotent = [
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PUT,
        Method::DELETE,
    ];
    idempotent.contains(method) && matches!(request.body(), RequestBody::Empty)
}

fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut again = Request::new(RequestBody::Empty);
    again.method_mut().clone_from(request.method());
    again.uri_mut().clone_from(request.uri());
    again.headers_mut().clone_from(request.headers());
    again
}

/// The response body; at its end the connection goes back to the pool, and when dropped before it, the connection is closed.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    /// A chunked body does not know that it has ended but by having said so.
    ended: bool,
    lease: Option<(Rc<Pool>, Conn)>,
}

impl UpstreamBody {
    const fn new(incoming: Incoming, lease: Option<(Rc<Pool>, Conn)>) -> Self {
        Self {
            incoming,
            ended: false,
            lease,
        }
    }

    fn release(&mut self) {
        if let Some((pool, conn)) = self.lease.take() {
            pool.check_in(conn);
        }
    }
}

impl Body for UpstreamBody {
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

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        if self.incoming.is_end_stream() {
            self.release();
        }
    }
}
