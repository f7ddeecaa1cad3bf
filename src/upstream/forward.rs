//! One request forwarded: connection, request, response head; the body streams afterwards.
//!
//! Retries are only what is certainly safe. A connection that could not be opened has carried nothing: any request may try the
//! next endpoint. A pooled connection that closed before our bytes left has carried nothing either. One that closed
//! after they left may have been acted upon (RFC 9110 §9.2.2): only an idempotent request without a body is sent again, and
//! where the connection was a fresh one, to another endpoint if there is one, and only within the budget.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::auto;
use super::body::{RequestBody, Tally};
use super::clock::{Clock, Expired, Phase};
use super::connect::{Offer, connect};
use super::h1;
use super::h1::body::{LeanBody, Lease};
use super::h1::exchange::{Lost, exchange};
use super::h1::upload::Upload;
use super::h1::wire::Wire;
use super::http2;
use super::io::UpstreamIo;
use super::library::{self, LibraryBody};
use super::pool::{Member, Pool};
use super::seat::{Seat, admit};
use super::sticky;
use crate::policy::Permit;
use crate::snapshot::Codec;
use crate::value::failure::Failure;
use crate::value::hop;

/// The bounds of one request's waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the response head, from the end of the request.
    pub response: Duration,
}

/// Who asks, as far as it decides where a request goes and what an endpoint is told.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The client address that was judged.
    pub client: IpAddr,
    /// The same with its port where that is known, else with 0.
    pub source: SocketAddr,
    /// Where the client's connection arrived.
    pub target: SocketAddr,
}

/// What a request brings along for its way up.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long it may wait.
    pub patience: Patience,
    /// Who sent it.
    pub caller: Caller,
    /// When it was ready to be sent.
    pub began: Instant,
}

/// Fields that the gate adds to a head.
pub type Added = SmallVec<[(HeaderName, HeaderValue); 6]>;

/// A request head on its way up.
#[derive(Debug, Clone, Copy)]
pub struct Up<'r> {
    /// The head.
    pub head: &'r Parts,
    /// Fields beside those of the head, which has none of their names.
    pub added: &'r Added,
}

impl Up<'_> {
    /// The same for a client that takes a request by value.
    fn request(self, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::from_parts(self.head.clone(), body);
        request.headers_mut().extend(self.added.iter().cloned());
        request
    }
}

/// What happened on the way, for the access record.
#[derive(Debug, Default, Clone)]
pub struct Trace {
    /// Which endpoint of the upstream answered, or was tried last.
    pub endpoint: Option<Arc<str>>,
    /// What a sticky cookie must say from now on.
    pub code: Option<String>,
    /// Time spent on connecting; zero on a pooled connection.
    pub connect: Duration,
    /// Time from the request to the response head.
    pub response: Option<Duration>,
    /// When the response head was there, where that is known.
    pub answered: Option<Instant>,
    /// Tries after the first.
    pub retries: u32,
}

/// Forwards a request to an upstream and answers the response's head with its body still streaming. The head holds what is
/// meant for the client: fields of the connection are gone.
///
/// # Errors
/// A [`Failure`]: connecting, the client's body, or the upstream's answer went wrong or took too long.
pub async fn forward(
    permit: Permit,
    (up, body): (Up<'_>, RequestBody),
    pool: &Pool,
    terms: &Terms,
    clock: &Clock,
    tally: &Tally,
    trace: &mut Trace,
) -> Result<Response<UpstreamBody>, Failure> {
    // INVARIANT: holding a permit is the only way in here; it is spent by this call.
    drop(permit);
    match pool.upstream.codec {
        Codec::Lean => {
            let answered = lean(up, body, None, pool, terms, clock, trace).await?;
            Ok(answered.map(UpstreamBody::Lean))
        }
        Codec::Http2 => {
            let request = up.request(body);
            let answering = http2::forward(request, None, pool, terms, clock, tally, trace);
            let answered = Box::pin(answering).await.map_err(Failure::from)?;
            Ok(relayed(answered))
        }
        Codec::Auto => {
            let request = up.request(body);
            Box::pin(auto::forward(request, pool, terms, clock, tally, trace)).await
        }
        Codec::Hyper => {
            // Boxed: its state would make every request's future larger.
            let request = up.request(body);
            let answering = library::forward(request, pool, terms, clock, tally, trace);
            Ok(relayed(Box::pin(answering).await?))
        }
    }
}

/// An answer that a library read, as it goes on to the client.
pub(super) fn relayed(mut response: Response<LibraryBody>) -> Response<UpstreamBody> {
    hop::strip_response(response.headers_mut());
    response.map(|body| UpstreamBody::Library(Box::new(body)))
}

/// Sends an upgrade request on a connection of its own. The upgraded stream, once the upstream has said 101, comes through
/// the [`Upgrading`].
///
/// # Errors
/// As [`forward`].
pub async fn upgrade(
    permit: Permit,
    (up, body): (Up<'_>, RequestBody),
    pool: &Pool,
    terms: &Terms,
    clock: &Clock,
    trace: &mut Trace,
) -> Result<(Response<UpstreamBody>, Upgrading), Failure> {
    drop(permit);
    if pool.upstream.codec == Codec::Http2 {
        tracing::warn!(upstream = %pool.upstream.name, "WebSockets are forwarded over HTTP/1.1 only");
        return Err(Failure::UpstreamMalformed);
    }
    let request = up.request(body);
    let answering = library::upgrade(request, pool, terms, clock, trace);
    let (response, upgraded) = Box::pin(answering).await?;
    Ok((relayed(response), upgraded))
}

/// An upgraded connection to the upstream, with what was read beyond the 101.
#[derive(Debug)]
pub struct Upgraded {
    /// The stream.
    pub io: UpstreamIo,
    /// Bytes that came with the response head.
    pub read: Bytes,
}

/// A connection that the upstream agreed to upgrade, and its place at the endpoint for as long as this is kept.
#[derive(Debug)]
pub struct Upgrading {
    /// Brings the stream.
    pub upgraded: oneshot::Receiver<Upgraded>,
    /// The place.
    pub seat: Seat,
}

/// A request that has a place at an endpoint already, and perhaps a connection there, of its own or (`true`) an idle one.
pub(super) struct Begun<C> {
    pub(super) tries: Tries,
    pub(super) seat: Seat,
    pub(super) conn: Option<(C, bool)>,
}

/// Forwards with our own client.
pub(super) async fn lean(
    up: Up<'_>,
    body: RequestBody,
    begun: Option<Begun<Box<Wire>>>,
    pool: &Pool,
    terms: &Terms,
    clock: &Clock,
    trace: &mut Trace,
) -> Result<Response<LeanBody>, Failure> {
    let head = up.head;
    let repeatable = repeatable(&head.method, &body);
    let framing = h1::request::Framing::of(&head.method, &body);
    let wish = sticky::wish(&pool.upstream.balance, &head.headers, &terms.caller);
    let mut unwritten = Some(up);
    let mut upload = Upload::new(body, framing);
    // A connection that died under an unanswered request: the head is in its buffer still.
    let mut dead: Option<Box<Wire>> = None;
    let (mut tries, mut held, mut conn) = match begun {
        None => (Tries::begin(pool), None, None),
        Some(begun) => (begun.tries, Some(begun.seat), begun.conn),
    };
    loop {
        let seat = match held.take() {
            Some(seat) => seat,
            None => admit(pool, &wish, &tries.tried, terms.patience, clock).await?,
        };
        let idle = || Some((seat.member.check_out_lean()?, true));
        let (mut wire, reused) = match conn.take().or_else(idle) {
            Some(found) => found,
            None => match dial(pool, &seat, terms, clock, trace, Offer::Http1).await {
                Ok(io) => (Box::new(Wire::new(io, Instant::now())), false),
                Err(failure) => {
                    tries.next(seat, failure, trace)?;
                    continue;
                }
            },
        };
        if let Some(dead) = dead.take() {
            wire.inherit(*dead);
            upload.restart();
        }
        if let Some(up) = unwritten.take() {
            h1::request::write(wire.begin(), up, framing);
        }
        // Nothing has been waited for where the first connection was at hand.
        let straight = reused && clock.phase() == Phase::Judge;
        let sent = if straight {
            terms.began
        } else {
            Instant::now()
        };
        clock.enter_at(Phase::Await, sent, terms.patience.response);
        let lost = match clock
            .within(exchange(&mut wire, &mut upload, &head.method))
            .await
        {
            Ok(Ok(head)) => {
                let answered = Instant::now();
                trace.answered = Some(answered);
                trace.response = Some(answered.saturating_duration_since(sent));
                trace.endpoint = Some(Arc::clone(&seat.member.endpoint.label));
                trace.code = pool.code_for(&seat.member, &wish);
                pool.succeeded(&seat.member);
                let lease = Lease {
                    wire,
                    keep: head.keep,
                    seat,
                };
                let mut response = Response::new(LeanBody::new(head.framing, lease, upload));
                *response.status_mut() = head.status;
                *response.headers_mut() = head.headers;
                return Ok(response);
            }
            Ok(Err(lost)) => lost,
            Err(Expired) => {
                let failure = late(clock);
                note(pool, &seat, failure, trace);
                return Err(failure);
            }
        };
        match lost {
            // It idled too long: no word about the endpoint.
            Lost::Silent if reused && (repeatable || upload.is_unsent()) => {
                trace.retries += 1;
                held = Some(seat);
                dead = Some(wire);
            }
            Lost::Request(failure) => return Err(failure),
            Lost::Malformed(malformed) => {
                let server = &seat.member.endpoint.server.url;
                tracing::warn!(%server, %malformed, "upstream answered malformed HTTP");
                note(pool, &seat, Failure::UpstreamMalformed, trace);
                return Err(Failure::UpstreamMalformed);
            }
            Lost::Closed | Lost::Silent => {
                if reused && lost == Lost::Silent {
                    trace.endpoint = Some(Arc::clone(&seat.member.endpoint.label));
                } else {
                    note(pool, &seat, Failure::UpstreamClosed, trace);
                }
                // An answer that had begun is not asked for again: it may be the request that breaks the server.
                let again = lost == Lost::Silent && repeatable;
                if !again || !pool.budget.spend(Instant::now()) {
                    return Err(Failure::UpstreamClosed);
                }
                tries.next(seat, Failure::UpstreamClosed, trace)?;
                dead = Some(wire);
            }
        }
    }
}

/// Which endpoints a request has tried in vain.
pub(super) struct Tries {
    pub(super) tried: Vec<Rc<Member>>,
    left: u32,
}

impl Tries {
    /// None yet.
    pub(super) fn begin(pool: &Pool) -> Self {
        pool.budget.request();
        Self {
            tried: Vec::new(),
            left: pool.upstream.retries,
        }
    }

    /// Goes on to another endpoint, or gives up with this failure.
    pub(super) fn next(
        &mut self,
        seat: Seat,
        failure: Failure,
        trace: &mut Trace,
    ) -> Result<(), Failure> {
        self.left = self.left.checked_sub(1).ok_or(failure)?;
        trace.retries += 1;
        self.tried.push(Rc::clone(&seat.member));
        drop(seat);
        Ok(())
    }
}

/// Notes that an endpoint failed a request, for the record and for `eject`.
pub(super) fn note(pool: &Pool, seat: &Seat, failure: Failure, trace: &mut Trace) {
    trace.endpoint = Some(Arc::clone(&seat.member.endpoint.label));
    // The client's fault, or ours, says nothing about the endpoint.
    if [
        Failure::ConnectRefused,
        Failure::ConnectTimeout,
        Failure::Resolve,
        Failure::UpstreamTls,
        Failure::UpstreamClosed,
        Failure::UpstreamMalformed,
        Failure::ResponseTimeout,
    ]
    .contains(&failure)
    {
        pool.failed(&seat.member);
    }
}

/// Opens a connection to an endpoint.
pub(super) async fn dial(
    pool: &Pool,
    seat: &Seat,
    terms: &Terms,
    clock: &Clock,
    trace: &mut Trace,
    offer: Offer,
) -> Result<UpstreamIo, Failure> {
    clock.enter(Phase::Connect, terms.patience.connect);
    let started = Instant::now();
    // Boxed: connecting is rare, and its state would make every request's future larger.
    let connecting = Box::pin(connect(
        &pool.upstream,
        &seat.member.endpoint,
        Some(&terms.caller),
        offer,
    ));
    let outcome = clock.within(connecting).await;
    trace.connect += started.elapsed();
    let outcome = outcome.unwrap_or(Err(Failure::ConnectTimeout));
    outcome.inspect_err(|failure| note(pool, seat, *failure, trace))
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
pub(super) fn repeatable(method: &Method, body: &RequestBody) -> bool {
    let idempotent = [
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PUT,
        Method::DELETE,
    ];
    idempotent.contains(method) && matches!(body, RequestBody::Empty)
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
    /// It could not be compressed.
    #[error("the coder failed")]
    Coding(#[source] std::io::Error),
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
