#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    reason = "tests may stop at the first surprise"
)]
//! What every test here shares: one request over a pipe in memory, against an upstream that follows a script.

mod differential;
mod exchanges;
mod framing;
mod pieces;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::body::{LeanBody, Lease};
use super::exchange::{Lost, exchange};
use super::request;
use super::upload::Upload;
use super::wire::Wire;
use super::{Broken, Malformed};
use crate::snapshot::{Balance, Codec, Endpoint, Upstream, UpstreamServer};
use crate::upstream::Pools;
use crate::upstream::body::RequestBody;
use crate::upstream::forward::{Added, Up};
use crate::upstream::io::UpstreamIo;
use crate::upstream::pool::Pool;
use crate::upstream::seat::Seat;

/// A head to which nothing is added.
fn up(head: &http::request::Parts) -> Up<'_> {
    static NOTHING: std::sync::LazyLock<Added> = std::sync::LazyLock::new(Added::new);
    Up {
        head,
        added: &NOTHING,
    }
}

/// Runs on one thread, as a worker does.
pub(super) fn on_a_worker<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

pub(super) fn upstream(address: Endpoint) -> Arc<Upstream> {
    Arc::new(Upstream {
        name: "app".into(),
        servers: vec![UpstreamServer {
            url: "http://app".into(),
            address,
            tls: None,
            authority: "app".into(),
            weight: 1,
            backup: false,
        }],
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(5),
        idle_connections: 8,
        retries: 1,
        tls: None,
        codec: Codec::Lean,
        balance: Balance::RoundRobin,
        eject: None,
        slow_start: None,
        max_connections: None,
        queue: 0,
        health: None,
        proxy_protocol: None,
    })
}

pub(super) fn pool(address: Endpoint) -> Rc<Pool> {
    Pools::default().of(&upstream(address))
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

/// Why there was none.
#[derive(Debug)]
pub(super) enum Error {
    Head(Lost),
    Body(Broken),
}

impl Error {
    pub(super) fn malformed(&self) -> Option<Malformed> {
        match self {
            Self::Head(Lost::Malformed(malformed)) | Self::Body(Broken::Malformed(malformed)) => {
                Some(*malformed)
            }
            Self::Head(Lost::Request(_) | Lost::Closed | Lost::Silent)
            | Self::Body(Broken::Truncated | Broken::Io(_) | Broken::Request(_)) => None,
        }
    }
}

/// What became of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Pooled,
    Closed,
}

/// What an upstream does behind its last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Stays,
    Closes,
}

pub(super) fn get() -> Request<RequestBody> {
    Request::get("/a?b=c")
        .header("host", "app.example")
        .body(RequestBody::Empty)
        .unwrap()
}

/// Sends a request and reads the answer, written in `pieces`.
pub(super) async fn ask(
    request: Request<RequestBody>,
    pieces: Vec<Vec<u8>>,
    ending: Ending,
) -> (Result<Answer, Error>, After) {
    let (ours, theirs) = tokio::io::duplex(256);
    let upstream = tokio::task::spawn_local(script(theirs, pieces, ending));
    let pool = pool(Endpoint::Demo);
    let mut wire = Box::new(Wire::new(UpstreamIo::Demo(ours), Instant::now()));
    let (head, body) = request.into_parts();
    let framing = request::Framing::of(&head.method, &body);
    request::write(wire.begin(), up(&head), framing);
    let mut upload = Upload::new(body, framing);
    let answer = match exchange(&mut wire, &mut upload, &head.method).await {
        Err(lost) => Err(Error::Head(lost)),
        Ok(answered) => {
            let lease = Lease {
                wire,
                keep: answered.keep,
                seat: Seat::take(&pool.only()),
            };
            let body = LeanBody::new(answered.framing, lease, upload);
            let body = whole(body).await.map_err(Error::Body);
            body.map(|(body, trailers)| Answer {
                status: answered.status,
                headers: answered.headers,
                body,
                trailers,
            })
        }
    };
    let after = match pool.only().check_out_lean() {
        Some(_) => After::Pooled,
        None => After::Closed,
    };
    upstream.abort();
    (answer, after)
}

/// A body and its trailers. Checks on the way that a body which breaks off never looks complete.
async fn whole(mut body: LeanBody) -> Result<(Bytes, Option<HeaderMap>), Broken> {
    let announced = body.size_hint().exact();
    let mut bytes = Vec::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.inspect_err(|_| assert!(!body.is_end_stream(), "broken is not ended"))?;
        match frame.into_data() {
            Ok(piece) => {
                assert!(!piece.is_empty(), "no empty pieces");
                bytes.extend_from_slice(&piece);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    assert!(body.is_end_stream(), "ended");
    if let Some(length) = announced {
        assert_eq!(length, bytes.len() as u64, "the length is kept");
    }
    Ok((bytes.into(), trailers))
}

async fn script(mut stream: DuplexStream, pieces: Vec<Vec<u8>>, ending: Ending) {
    read_head(&mut stream).await;
    for piece in pieces {
        if stream.write_all(&piece).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    if ending == Ending::Stays {
        // Read until the other end is gone.
        drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
    }
}

/// Reads a request up to the empty line, and answers what came.
pub(super) async fn read_head<S: AsyncReadExt + Unpin>(stream: &mut S) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    head
}

pub(super) fn head_request() -> Request<RequestBody> {
    let mut request = get();
    *request.method_mut() = Method::HEAD;
    request
}
