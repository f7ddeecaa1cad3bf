//! The rest of a request body that nobody wants, because the answer is ours.
//!
//! HTTP/1.1 can go on with the connection only behind the body (RFC 9112 §9.3). A small rest is read and thrown away beside the
//! answer, within bounds of bytes and time; where it is plain that the bounds will not do, the answer says that the connection
//! closes, so that the client does not send its next request into it. What a client holds back until it sees `100 Continue`
//! never comes (RFC 9110 §10.1.1). HTTP/2 ends the stream and goes on.

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
    if incoming.is_end_stream() || parts.version > Version::HTTP_11 {
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

/// Bytes of a body that are read for the sake of the connection.
const REST_MAX: u64 = 256 * 1024;
/// How long they may take; nginx waits as long (`lingering_timeout`).
const REST_PATIENCE: Duration = Duration::from_secs(5);
