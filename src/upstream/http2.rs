//! hyper's HTTP/2 client. The requests of a worker to an endpoint share one connection; trailers pass, so gRPC does.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HOST, HeaderValue, TE, TRANSFER_ENCODING};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;

use super::body::{RequestBody, Tally};
use super::clock::{Clock, Expired, Phase};
use super::forward::{Terms, Trace, Tries, dial, late, note, repeatable};
use super::io::UpstreamIo;
use super::library::{Held, LibraryBody, broken, copy};
use super::pool::Pool;
use super::seat::{Seat, admit};
use super::sticky;
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

/// Forwards a request as [`super::forward()`] does.
pub(super) async fn forward(
    request: Request<RequestBody>,
    pool: &Pool,
    terms: &Terms,
    clock: &Clock,
    tally: &Tally,
    trace: &mut Trace,
) -> Result<Response<LibraryBody>, Failure> {
    let wish = sticky::wish(&pool.upstream.balance, request.headers(), &terms.caller);
    let mut request = reworded(request, pool)?;
    let mut tries = Tries::begin(pool);
    let mut held: Option<Seat> = None;
    loop {
        let seat = match held.take() {
            Some(seat) => seat,
            None => admit(pool, &wish, &tries.tried, terms.patience, clock).await?,
        };
        let (conn, reused) = match seat.member.shared() {
            Some(conn) => (conn, true),
            None => match connect(pool, &seat, terms, clock, trace).await {
                Ok(conn) => (conn, false),
                Err(failure) => {
                    tries.next(seat, failure, trace)?;
                    continue;
                }
            },
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
                    return Err(failure);
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
                return Err(failure);
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

async fn connect(
    pool: &Pool,
    seat: &Seat,
    terms: &Terms,
    clock: &Clock,
    trace: &mut Trace,
) -> Result<Rc<Conn>, Failure> {
    let io = dial(pool, seat, terms, clock, trace).await?;
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
