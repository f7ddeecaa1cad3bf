//! hyper's HTTP/2 client. The requests of a worker to an endpoint share one connection; trailers pass, so gRPC does.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TE, TRANSFER_ENCODING};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;

use super::body::{RequestBody, Tally};
use super::clock::{Clock, Expired, Phase};
use super::connect::Offer;
use super::forward::{Begun, Terms, Trace, Tries, dial, late, note, repeatable};
use super::io::UpstreamIo;
use super::library::{Held, LibraryBody, broken, copy};
use super::pool::Pool;
use super::seat::{Seat, admit};
use super::sticky;
use crate::snapshot::Codec;
use crate::value::failure::Failure;

/// A connection. It ends when nobody keeps it any more.
#[derive(Debug)]
pub(super) struct Conn {
    sender: SendRequest<RequestBody>,
    streams: Cell<usize>,
    idle_since: Cell<Instant>,
}

impl Conn {
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// For how long nobody has used it.
    pub(super) fn idle(&self, now: Instant) -> Option<Duration> {
        let unused = self.streams.get() == 0;
        unused.then(|| now.saturating_duration_since(self.idle_since.get()))
    }
}

/// One request on a connection, and its place at the endpoint.
#[derive(Debug)]
pub(super) struct Stream {
    _conn: InUse,
    _seat: Seat,
}

/// Counts a request on a connection.
#[derive(Debug)]
struct InUse(Rc<Conn>);

impl InUse {
    fn begin(conn: Rc<Conn>) -> Self {
        conn.streams.set(conn.streams.get() + 1);
        Self(conn)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.idle_since.set(Instant::now());
    }
}

/// Why a request was not answered.
pub(super) enum Stopped {
    Failure(Failure),
    /// The server chose HTTP/1.1, where it may. Nothing was sent yet.
    Http1(Box<Back>),
}

/// A request that is to go on in HTTP/1.1.
pub(super) struct Back {
    pub(super) request: Request<RequestBody>,
    pub(super) begun: Begun<UpstreamIo>,
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Failure(failure) => failure,
            // Only where a server may choose.
            Stopped::Http1(_) => Self::UpstreamTls,
        }
    }
}

/// Forwards a request as [`super::forward()`] does.
pub(super) async fn forward(
    request: Request<RequestBody>,
    begun: Option<Begun<UpstreamIo>>,
    pool: &Pool,
    terms: &Terms,
    clock: &Clock,
    tally: &Tally,
    trace: &mut Trace,
) -> Result<Response<LibraryBody>, Stopped> {
    let wish = sticky::wish(&pool.upstream.balance, request.headers(), &terms.caller);
    let mut request = reworded(request, pool)?;
    let (mut tries, mut held, mut fresh) = match begun {
        None => (Tries::begin(pool), None, None),
        Some(begun) => (begun.tries, Some(begun.seat), begun.conn),
    };
    loop {
        let seat = match held.take() {
            Some(seat) => seat,
            None => admit(pool, &wish, &tries.tried, terms.patience, clock).await?,
        };
        let fresh = fresh.take().map(|(io, _)| io);
        let shared = seat.member.shared().filter(|_| fresh.is_none());
        let (conn, reused) = match shared {
            Some(conn) => (conn, true),
            None => {
                let io = match fresh {
                    Some(io) => Ok(io),
                    None => {
                        let offer = Offer::of(pool.upstream.codec);
                        dial(pool, &seat, terms, clock, trace, offer).await
                    }
                };
                let io = match io {
                    Ok(io) if pool.upstream.codec == Codec::Auto && !io.speaks_http2() => {
                        let request = plain(request)?;
                        let conn = Some((io, false));
                        let begun = Begun { tries, seat, conn };
                        return Err(Stopped::Http1(Box::new(Back { request, begun })));
                    }
                    io => io,
                };
                let shaken = match io {
                    Ok(io) => shake(io, pool, &seat, trace).await,
                    Err(failure) => Err(failure),
                };
                match shaken {
                    Ok(conn) => (conn, false),
                    Err(failure) => {
                        tries.next(seat, failure, trace)?;
                        continue;
                    }
                }
            }
        };
        let mut sender = conn.sender.clone();
        let conn = InUse::begin(conn);
        clock.enter(Phase::Await, terms.patience.response);
        let spare = repeatable(request.method(), request.body()).then(|| copy(&request));
        *request.version_mut() = Version::HTTP_2;
        let sent = Instant::now();
        match clock.within(sender.try_send_request(request)).await {
            Ok(Ok(response)) => {
                trace.response = Some(sent.elapsed());
                let member = &seat.member;
                trace.endpoint = Some(Arc::clone(&member.endpoint.label));
                trace.code = pool.code_for(member, &wish);
                pool.succeeded(member);
                let held = Some(Held::Shared(Stream {
                    _conn: conn,
                    _seat: seat,
                }));
                return Ok(response.map(|incoming| LibraryBody::new(incoming, held)));
            }
            Ok(Err(mut error)) => {
                if let Some(failure) = tally.failure.get() {
                    return Err(failure.into());
                }
                let unsent = error.take_message().filter(|_| reused);
                if let Some(unsent) = unsent {
                    // The connection ended before: no word about the endpoint.
                    request = unsent;
                    trace.retries += 1;
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
                return Err(failure.into());
            }
        }
    }
}

/// Asks a question of our own on a connection that nobody else uses: the status of its answer.
pub(super) async fn ask(io: UpstreamIo, request: Request<RequestBody>) -> Option<u16> {
    let prepared = Builder::new(Local).handshake(TokioIo::new(io)).await;
    let (mut sender, connection) = prepared.ok()?;
    let asking = sender.send_request(request);
    let mut connection = pin!(connection);
    let answer = tokio::select! {
        answer = asking => answer,
        _ended = &mut connection => return None,
    };
    Some(answer.ok()?.status().as_u16())
}

/// The request as HTTP/2 says it (RFC 9113 §8.3.1): the authority in the target, no framing fields, and that we take trailers.
fn reworded(request: Request<RequestBody>, pool: &Pool) -> Result<Request<RequestBody>, Failure> {
    let (mut head, body) = request.into_parts();
    let host = head.headers.remove(HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut target = std::mem::take(&mut head.uri).into_parts();
    target.scheme = Some(match pool.upstream.tls {
        Some(_) => Scheme::HTTPS,
        None => Scheme::HTTP,
    });
    target.authority = Some(authority.ok_or(Failure::Malformed("host"))?);
    head.uri = Uri::from_parts(target).ok().ok_or(Failure::Internal)?;
    head.headers.remove(TRANSFER_ENCODING);
    // gRPC servers ask for it.
    head.headers
        .insert(TE, HeaderValue::from_static("trailers"));
    Ok(Request::from_parts(head, body))
}

/// The request as HTTP/1.1 says it, again.
fn plain(request: Request<RequestBody>) -> Result<Request<RequestBody>, Failure> {
    let (mut head, body) = request.into_parts();
    let mut target = std::mem::take(&mut head.uri).into_parts();
    let host = target.authority.take().ok_or(Failure::Internal)?;
    let host = HeaderValue::try_from(host.as_str()).ok();
    head.headers.insert(HOST, host.ok_or(Failure::Internal)?);
    target.scheme = None;
    head.uri = Uri::from_parts(target).ok().ok_or(Failure::Internal)?;
    head.version = Version::HTTP_11;
    head.headers.remove(TE);
    if matches!(body, RequestBody::Client(_)) && !head.headers.contains_key(CONTENT_LENGTH) {
        let chunked = HeaderValue::from_static("chunked");
        head.headers.insert(TRANSFER_ENCODING, chunked);
    }
    Ok(Request::from_parts(head, body))
}

/// Begins HTTP/2 on a fresh connection.
async fn shake(
    io: UpstreamIo,
    pool: &Pool,
    seat: &Seat,
    trace: &mut Trace,
) -> Result<Rc<Conn>, Failure> {
    let prepared = Builder::new(Local)
        .max_header_list_size(HEAD_MAX)
        .handshake::<TokioIo<UpstreamIo>, RequestBody>(TokioIo::new(io));
    let prepared = prepared.await.inspect_err(|error| {
        tracing::warn!(server = %seat.member.endpoint.server.url, %error, "no HTTP/2");
        note(pool, seat, Failure::UpstreamMalformed, trace);
    });
    let (sender, connection) = prepared.ok().ok_or(Failure::UpstreamMalformed)?;
    let server = Arc::clone(&seat.member.endpoint.server.url);
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%server, %error, "HTTP/2 connection ended");
        }
    });
    let conn = Rc::new(Conn {
        sender,
        streams: Cell::new(0),
        idle_since: Cell::new(Instant::now()),
    });
    seat.member.share(&conn);
    Ok(conn)
}

/// Runs the tasks of a connection on this worker.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// Bytes of a response head, uncompressed: as much as our own client reads.
const HEAD_MAX: u32 = 64 * 1024;
