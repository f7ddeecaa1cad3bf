//! One client connection, from accept to close.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frames::PREFACE;
use super::io::{ClientIo, ClientStream, Meter};
use super::proxy_protocol::{self, Header};
use super::worker::Worker;
use super::{handshake, http2, idle, refused, tunnel};
use crate::identity::certificate::ClientCertificate;
use crate::observe::metrics::Closed;
use crate::policy::facts::{TlsFacts, TlsVersion};
use crate::proxy::upward::address_value;
use crate::proxy::{Connection, Gate, GateService, Stop};
use crate::snapshot::{Limits, Listener};
use crate::upstream::{Clock, Phase};
use crate::value::cidr::canonical;
use crate::value::failure::Failure;

type Driven = http1::Connection<TokioIo<ClientIo>, GateService>;

/// How a connection's HTTP came to its end.
enum End {
    /// hyper is done with it.
    Over(Result<(), hyper::Error>),
    /// Its deadline passed in this phase.
    Late(Phase),
}

/// Serves a connection until it ends.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    listener: Arc<Listener>,
    mut socket: TcpStream,
    peer: SocketAddr,
) {
    let gate = Rc::clone(&worker.gate);
    gate.metrics.accepted();
    let lease = gate.lease();
    let limits = lease.server.limits;
    let peer = SocketAddr::new(canonical(peer.ip()), peer.port());
    let clock = Rc::new(Clock::new(limits.header_timeout));
    let mut connection = Connection {
        peer,
        peer_address: peer.ip(),
        peer_value: address_value(peer.ip()),
        listener: Arc::clone(&listener),
        tls: None,
        certificate: None,
        certificates: listener.tls.clone(),
        sni: None,
        clock: Rc::clone(&clock),
        tunnel: RefCell::new(None),
        fragment: Rc::new(Cell::new(false)),
        accept: None,
    };
    // A proxy writes whole messages; waiting for more only delays them.
    drop(socket.set_nodelay(true));
    let trusted = lease.trust.trusts(peer.ip());
    drop(lease);
    if listener.proxy_protocol && !trusted {
        // Whoever it is, its word about others counts for nothing, and it may not pass as a client either.
        gate.metrics.closed(Closed::Introduction);
        refused::log(&gate, &connection, NO_INTRODUCTION, 0);
        return;
    }
    let Some(mut admitted) = worker.admission.admit(peer.ip(), trusted, &limits) else {
        return crowded(&gate, &connection, socket).await;
    };
    if listener.proxy_protocol {
        // Boxed for the same reason as the handshake below.
        match Box::pin(introduced(&gate, &connection, &mut socket)).await {
            None => return,
            Some(Header::Peer) => {}
            Some(Header::Source(source)) => {
                connection.introduce(source);
                let source = connection.peer_address;
                let trusted = gate.lease().trust.trusts(source);
                if !trusted && !admitted.stands_for(source, &limits) {
                    return crowded(&gate, &connection, socket).await;
                }
            }
        }
    }
    let stream = match &listener.tls {
        None => ClientStream::Tcp(socket),
        Some(tls) => {
            // Boxed: a handshake needs room that the connection's long life does not.
            let accepting = Box::pin(handshake::accept(tls, socket));
            match tokio::time::timeout_at(clock.deadline().into(), accepting).await {
                Ok(Ok(Some(stream))) => {
                    let (_, session) = stream.get_ref();
                    connection.tls = Some(TlsFacts {
                        version: match session.protocol_version() {
                            Some(rustls::ProtocolVersion::TLSv1_3) => TlsVersion::V1_3,
                            _ => TlsVersion::V1_2,
                        },
                        client_cert: session
                            .peer_certificates()
                            .is_some_and(|chain| !chain.is_empty()),
                    });
                    let shown = session.peer_certificates().and_then(<[_]>::first);
                    let read = shown.and_then(|shown| ClientCertificate::read(shown));
                    connection.certificate = read.map(Arc::new);
                    connection.sni = session.server_name().map(Rc::from);
                    ClientStream::Tls(Box::new(stream))
                }
                Ok(Ok(None)) => return,
                Ok(Err(error)) => {
                    gate.metrics.closed(Closed::Handshake);
                    tracing::debug!(peer = %connection.peer, %error, "TLS handshake failed");
                    return;
                }
                Err(_late) => {
                    gate.metrics.closed(Closed::Handshake);
                    tracing::debug!(peer = %connection.peer, "TLS handshake late");
                    return;
                }
            }
        }
    };
    let _enrolled = worker.enrol(&clock);
    http(&worker, Rc::new(connection), stream, &limits).await;
    drop(admitted);
}

/// What a trusted peer's PROXY protocol header says; `None` where the connection must be closed, which has been logged.
async fn introduced(
    gate: &Gate,
    connection: &Connection,
    socket: &mut TcpStream,
) -> Option<Header> {
    let mut seen = 0;
    let reading = proxy_protocol::read(socket, &mut seen);
    let outcome = tokio::time::timeout_at(connection.clock.deadline().into(), reading).await;
    match outcome {
        Ok(Ok(header)) => return Some(header),
        Ok(Err(error)) => tracing::debug!(peer = %connection.peer, %error, "not introduced"),
        Err(_late) => tracing::debug!(peer = %connection.peer, "introduced too late"),
    }
    // Balancers also open and close connections only to see whether somebody listens.
    if seen > 0 {
        gate.metrics.closed(Closed::Introduction);
        refused::log(gate, connection, NO_INTRODUCTION, seen as u64);
    }
    None
}

/// Turns a client away for whom there is no room.
async fn crowded(gate: &Gate, connection: &Connection, socket: TcpStream) {
    gate.metrics.closed(Closed::Limit);
    refused::log(gate, connection, Failure::Overloaded, 0);
    if connection.listener.tls.is_none() {
        turn_away(socket).await;
    }
}

async fn http(
    worker: &Rc<Worker>,
    connection: Rc<Connection>,
    stream: ClientStream,
    limits: &Limits,
) {
    let clock = Rc::clone(&connection.clock);
    let meter = Rc::new(Meter::default());
    let mut io = ClientIo::new(
        stream,
        Rc::clone(&clock),
        Rc::clone(&meter),
        Rc::clone(&connection.fragment),
        limits,
    );
    let mut http2 = io.speaks_http2();
    if connection.listener.h2c && connection.tls.is_none() {
        match prior_knowledge(worker, &clock, &mut io).await {
            Some(known) => http2 = known,
            None => return,
        }
    }
    if http2 {
        // The streams have their own clocks; this one wakes the connection, and hears that they are to be judged again: for that it
        // must have begun something.
        clock.begin(Instant::now(), limits.header_timeout);
        return Box::pin(http2::serve(worker, &connection, io, limits)).await;
    }
    let (end, read) = loop {
        let service = GateService::new(Rc::clone(&worker.gate), Rc::clone(&connection));
        let mut driven = Box::new(
            http1::Builder::new()
                .header_read_timeout(None)
                .max_headers(limits.header_count)
                .max_buf_size(limits.header_size.max(HYPER_BUFFER_MIN))
                .serve_connection(TokioIo::new(io), service),
        );
        let end = drive(worker, &clock, &meter, &mut driven).await;
        let http1::Parts {
            io: taken,
            read_buf,
            ..
        } = driven.into_parts();
        io = taken.into_inner();
        let parked = matches!(end, End::Late(Phase::Idle)) && Instant::now() < clock.idle_until();
        if !parked {
            break (end, read_buf);
        }
        let first = if read_buf.is_empty() {
            // Empty as it is, it holds the whole buffer.
            drop(read_buf);
            idle::wait(worker, &clock, &mut io).await
        } else {
            // The next head had begun to arrive with the last request.
            clock.enter(Phase::Head, limits.header_timeout);
            Some(read_buf)
        };
        match first {
            Some(bytes) => io.put_back(bytes),
            None => break (end, Bytes::new()),
        }
    };
    match end {
        End::Over(Ok(())) => {
            let tunnel = connection.tunnel.take();
            if let Some(tunnel) = tunnel {
                Box::pin(tunnel::run(io, read, tunnel, &clock)).await;
                return;
            }
        }
        End::Over(Err(error)) => {
            if let Some(failure) = refused::of_parser(&error) {
                refused::log(&worker.gate, &connection, failure, meter.head_bytes.get());
            } else if closed_by_policy(&error) {
                return;
            } else if clock.phase() == Phase::Head && meter.head_bytes.get() > 0 {
                refused::log(
                    &worker.gate,
                    &connection,
                    Failure::Malformed("incomplete"),
                    meter.head_bytes.get(),
                );
            } else {
                tracing::debug!(peer = %connection.peer, %error, "connection ended");
            }
        }
        // It does not even take the answer before: another would stand in the middle of that.
        End::Late(Phase::Head) if meter.blocked.get() => return,
        End::Late(Phase::Head) if meter.head_bytes.get() > 0 => {
            refused::log(
                &worker.gate,
                &connection,
                Failure::HeadTimeout,
                meter.head_bytes.get(),
            );
            drop(tokio::time::timeout(LINGER, io.write_all(refused::TIMEOUT)).await);
        }
        End::Late(Phase::Head | Phase::Idle) => {}
        // A client that does not take its answer: nothing polite is left to say.
        End::Late(
            Phase::Judge
            | Phase::Connect
            | Phase::Upload
            | Phase::Await
            | Phase::Stream
            | Phase::Tunnel,
        ) => return,
    }
    linger(io, &meter).await;
}

/// Whether a client on clear text begins with HTTP/2's preface (RFC 9113 §3.3); nothing where it sends nothing in time.
async fn prior_knowledge(worker: &Worker, clock: &Clock, io: &mut ClientIo) -> Option<bool> {
    let mut begun = Vec::new();
    loop {
        begun.extend_from_slice(&idle::wait(worker, clock, io).await?);
        let compared = begun.len().min(PREFACE.len());
        let known = begun.get(..compared) == PREFACE.get(..compared);
        if !known || begun.len() >= PREFACE.len() {
            io.put_back(begun.into());
            return Some(known);
        }
    }
}

/// Drives hyper and the deadline in one task.
async fn drive(worker: &Worker, clock: &Clock, meter: &Meter, driven: &mut Driven) -> End {
    let mut armed = clock.deadline();
    let mut timer = Box::pin(tokio::time::sleep_until(armed.into()));
    let mut told = false;
    std::future::poll_fn(|cx| {
        clock.attach(cx.waker());
        loop {
            // Until then the answer itself says that it is the last; hyper would close a connection on which a request is just arriving.
            if worker.closing() && !told {
                told = true;
                Pin::new(&mut *driven).graceful_shutdown();
            }
            if let Poll::Ready(outcome) = driven.poll_without_shutdown(cx) {
                return Poll::Ready(End::Over(outcome));
            }
            let deadline = clock.deadline();
            if deadline < armed {
                armed = deadline;
                timer.as_mut().reset(armed.into());
            }
            loop {
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                let deadline = clock.deadline();
                if deadline <= Instant::now() {
                    break;
                }
                armed = deadline;
                timer.as_mut().reset(armed.into());
            }
            match clock.phase() {
                // An answer that is still being taken, or a body that still comes: hyper holds bytes of either, so the connection
                // cannot be put aside. Late is who moves nothing for the whole idle time.
                Phase::Idle if meter.blocked.get() || clock.uploading() => {
                    if clock.idle_until() <= Instant::now() {
                        return Poll::Ready(End::Late(Phase::Stream));
                    }
                    clock.stay();
                }
                // The request's own future answers for the lateness: 504, or 408.
                phase @ (Phase::Connect | Phase::Upload | Phase::Await) => {
                    clock.expire();
                    clock.enter(phase, LATE_ANSWER);
                }
                phase @ (Phase::Head
                | Phase::Idle
                | Phase::Judge
                | Phase::Stream
                | Phase::Tunnel) => {
                    return Poll::Ready(End::Late(phase));
                }
            }
        }
    })
    .await
}

fn closed_by_policy(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<Stop>())
}

/// Ends our side and reads on for a moment: closing a socket with unread bytes resets it, and the client would lose our
/// answer with it (RFC 9112 §9.6).
async fn linger(mut io: ClientIo, meter: &Meter) {
    // Bounded: a last word over TLS waits for a client that does not read.
    let ended = tokio::time::timeout(LINGER, io.shutdown()).await;
    if !matches!(ended, Ok(Ok(()))) || meter.ended.get() {
        return;
    }
    let mut rest = vec![0_u8; 4096];
    let reading = async {
        let mut total = 0;
        while total < LINGER_BYTES {
            match io.read(&mut rest).await {
                Ok(0) | Err(_) => break,
                Ok(length) => total += length,
            }
        }
    };
    drop(tokio::time::timeout(LINGER, reading).await);
}

async fn turn_away(mut socket: TcpStream) {
    drop(tokio::time::timeout(LINGER, socket.write_all(refused::OVERLOADED)).await);
    drop(tokio::time::timeout(LINGER, socket.shutdown()).await);
}

/// A connection to a listener with `proxy_protocol` that says nobody's name, or may not.
const NO_INTRODUCTION: Failure = Failure::Malformed("proxy_protocol");
/// hyper refuses smaller read buffers.
const HYPER_BUFFER_MIN: usize = 8192;
/// What a closing connection may still send before it is cut.
const LINGER_BYTES: usize = 256 * 1024;
/// How long a closing connection may still send.
const LINGER: Duration = Duration::from_secs(2);
/// How long the answer to a lateness may take to be made.
const LATE_ANSWER: Duration = Duration::from_secs(5);
