//! One request forwarded: connection, request, response head; the body streams afterwards.
//!
//! Retries are only what is certainly safe. A connection that could not be opened has carried nothing: any request may try the
//! next server. A pooled connection that closed before our bytes left has carried nothing either. One that closed
//! after they left may have been acted upon (RFC 9110 §9.2.2): only an idempotent request without a body is sent again.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::body::{RequestBody, Tally};
use super::clock::{Clock, Expired, Phase};
use super::connect::connect;
use super::h1;
use super::h1::body::{LeanBody, Lease};
use super::h1::exchange::{Lost, exchange};
use super::h1::upload::Upload;
use super::h1::wire::Wire;
use super::io::UpstreamIo;
use super::library::{self, LibraryBody};
use super::pool::Pool;
use crate::policy::Permit;
use crate::snapshot::Codec;
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
    request: Request<RequestBody>,
    pool: &Rc<Pool>,
    patience: Patience,
    clock: &Rc<Clock>,
    tally: &Tally,
    trace: &mut Trace,
) -> Result<Response<UpstreamBody>, Failure> {
    // INVARIANT: holding a permit is the only way in here; it is spent by this call.
    drop(permit);
    match pool.upstream.codec {
        Codec::Lean => {
            let answered = lean(request, pool, patience, clock, trace).await?;
            Ok(answered.map(UpstreamBody::Lean))
        }
        Codec::Hyper => {
            // Boxed: its state would make every request's future larger.
            let answering = library::forward(request, pool, patience, clock, tally, trace);
            let answered = Box::pin(answering).await?;
            Ok(answered.map(|body| UpstreamBody::Library(Box::new(body))))
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
    let answering = library::upgrade(request, pool, patience, clock, trace);
    let (response, upgraded) = Box::pin(answering).await?;
    let response = response.map(|body| UpstreamBody::Library(Box::new(body)));
    Ok((response, upgraded))
}

/// An upgraded connection to the upstream, with what was read beyond the 101.
#[derive(Debug)]
pub struct Upgraded {
    /// The stream.
    pub io: UpstreamIo,
    /// Bytes that came with the response head.
    pub read: Bytes,
}

/// Forwards with our own client.
pub(super) async fn lean(
    request: Request<RequestBody>,
    pool: &Rc<Pool>,
    patience: Patience,
    clock: &Rc<Clock>,
    trace: &mut Trace,
) -> Result<Response<LeanBody>, Failure> {
    let repeatable = repeatable(&request);
    let (head, body) = request.into_parts();
    let framing = h1::request::Framing::of(&head.method, &body);
    let method = head.method.clone();
    let mut head = Some(head);
    let mut upload = Upload::new(body, framing);
    // A connection that died under an unanswered request: the head is in its buffer still.
    let mut dead: Option<Box<Wire>> = None;
    loop {
        let (mut wire, reused) = match pool.check_out_lean() {
            Some(wire) => (wire, true),
            None => {
                let (io, server) = dial(pool, patience, clock, trace).await?;
                (Box::new(Wire::new(io, server, Instant::now())), false)
            }
        };
        trace.server = Some(wire.server);
        if let Some(dead) = dead.take() {
            wire.inherit(*dead);
            upload.restart();
            trace.retries += 1;
        }
        if let Some(head) = head.take() {
            h1::request::write(wire.begin(), &head, framing);
        }
        let sent = Instant::now();
        clock.enter_at(Phase::Await, sent, patience.response);
        match clock
            .within(exchange(&mut wire, &mut upload, &method))
            .await
        {
            Ok(Ok(head)) => {
                trace.response = Some(sent.elapsed());
                let lease = Lease {
                    wire,
                    keep: head.keep,
                    pool: Rc::clone(pool),
                };
                let mut response = Response::new(LeanBody::new(head.framing, lease, upload));
                *response.status_mut() = head.status;
                *response.headers_mut() = head.headers;
                return Ok(response);
            }
            Ok(Err(Lost::Silent)) if reused && (repeatable || upload.is_unsent()) => {
                dead = Some(wire);
            }
            Ok(Err(Lost::Request(failure))) => return Err(failure),
            Ok(Err(Lost::Malformed(malformed))) => {
                let server = pool.upstream.servers.get(wire.server);
                let server = server.map_or("", |server| &server.url);
                tracing::warn!(server, %malformed, "upstream answered malformed HTTP");
                return Err(Failure::UpstreamMalformed);
            }
            Ok(Err(Lost::Closed | Lost::Silent)) => return Err(Failure::UpstreamClosed),
            Err(Expired) => return Err(late(clock)),
        }
    }
}

/// Opens a connection to the server whose turn it is, or to one after it. Answers which.
pub(super) async fn dial(
    pool: &Pool,
    patience: Patience,
    clock: &Clock,
    trace: &mut Trace,
) -> Result<(UpstreamIo, usize), Failure> {
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
        // Boxed: connecting is rare, and its state would make every request's future larger.
        let connecting = Box::pin(connect(server, upstream.tls.as_ref()));
        let outcome = clock.within(connecting).await;
        trace.connect += started.elapsed();
        match outcome {
            Ok(Ok(io)) => return Ok((io, index)),
            Ok(Err(reason)) => failure = reason,
            Err(Expired) => failure = Failure::ConnectTimeout,
        }
    }
    Err(failure)
}

/// Who is late: the client with its body, or the upstream.
pub(super) fn late(clock: &Clock) -> Failure {
    if clock.phase() == Phase::Upload {
        Failure::BodyTimeout
    } else {
        Failure::ResponseTimeout
    }
}

/// Methods that may be sent twice (RFC 9110 §9.2.2), where nothing of a body is lost by it.
pub(super) fn repeatable(request: &Request<RequestBody>) -> bool {
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

/// The response body; at its end the connection goes back to the pool, and when dropped before it, the connection is closed.
#[derive(Debug)]
pub enum UpstreamBody {
    /// Read by our own client.
    Lean(LeanBody),
    /// Read by hyper's.
    Library(Box<LibraryBody>),
}

/// Why a response body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyBroken {
    /// Our own client says.
    #[error(transparent)]
    Lean(#[from] h1::Broken),
    /// hyper's says.
    #[error(transparent)]
    Library(#[from] hyper::Error),
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyBroken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        match self.get_mut() {
            Self::Lean(body) => {
                let polled = Pin::new(body).poll_frame(cx);
                polled.map(|next| next.map(|frame| frame.map_err(Into::into)))
            }
            Self::Library(body) => {
                let polled = Pin::new(body.as_mut()).poll_frame(cx);
                polled.map(|next| next.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Lean(body) => body.is_end_stream(),
            Self::Library(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Lean(body) => body.size_hint(),
            Self::Library(body) => body.size_hint(),
        }
    }
}
