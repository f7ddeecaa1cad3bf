//! The rest of a request body that nobody wants, because the answer is ours.
//!
//! HTTP/1.1 can go on with the connection only behind the body (RFC 9112 §9.3). A small rest is read and thrown away beside the
//! answer, within bounds of bytes and time; where it is plain that the bounds will not do, the answer says that the connection
//! closes, so that the client does not send its next request into it. What a client holds back until it sees `100 Continue`
//! never comes (RFC 9110 §10.1.1). HTTP/2 ends the stream and goes on; but not at once, since clients that are still sending
//! take the reset for a failure and never show the answer (curl 7.88 does).

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::request::Parts;
use http::{Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use crate::upstream::Clock;
use crate::upstream::body::{ClientBody, RequestBody, Tally};

/// Lets go of the body of a request that `response` answers.
pub(super) fn leave(
    incoming: Incoming,
    parts: &Parts,
    clock: &Rc<Clock>,
    response: &mut Response<Bytes>,
) {
    if parts.version > Version::HTTP_11 {
        return linger(incoming);
    }
    if incoming.is_end_stream() {
        return;
    }
    let most = incoming.size_hint().lower();
    if parts.headers.contains_key(EXPECT) || most > REST_MAX {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        return;
    }
    // The clock knows that what comes is a body, so that the connection is not put aside in the middle of it.
    let mut body = RequestBody::Client(ClientBody::new(
        incoming,
        REST_MAX,
        Rc::clone(clock),
        Rc::new(Tally::default()),
        REST_PATIENCE,
        REST_PATIENCE,
    ));
    // One task, but only for a refused request with a body.
    tokio::task::spawn_local(async move {
        let rest = async { while let Some(Ok(_piece)) = body.frame().await {} };
        // In vain or not: hyper closes a connection whose body was dropped before its end.
        drop(tokio::time::timeout(REST_PATIENCE, rest).await);
    });
}

/// Keeps an HTTP/2 stream until its client has seen the answer and stops sending, or for a moment.
pub(super) fn linger(mut incoming: Incoming) {
    if incoming.is_end_stream() {
        return;
    }
    tokio::task::spawn_local(async move {
        let mut left = REST_MAX;
        let rest = async {
            while let Some(Ok(piece)) = incoming.frame().await {
                let bytes = piece.data_ref().map_or(0, Bytes::len);
                left = left.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
                if left == 0 {
                    // What is not read holds the client back.
                    std::future::pending::<()>().await;
                }
            }
        };
        // In vain or not: then the stream is reset.
        drop(tokio::time::timeout(STREAM_PATIENCE, rest).await);
    });
}

/// Bytes of a body that are read for the sake of the connection.
const REST_MAX: u64 = 256 * 1024;
/// How long they may take; nginx waits as long (`lingering_timeout`).
const REST_PATIENCE: Duration = Duration::from_secs(5);
/// How long a stream of HTTP/2 is kept: a round trip to the other side of the world and some.
const STREAM_PATIENCE: Duration = Duration::from_secs(1);
