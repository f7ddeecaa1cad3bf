//! Requests of our own (key sets, posture feeds, questions to another service): one connection each, a bound on the time and on
//! the size of the answer. Redirects are not followed: whoever answers with one has not answered.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::time::timeout;

use super::connect::connect_to;
use super::h1::FIELDS_MAX;
use crate::snapshot::Remote;
use crate::value::failure::Failure;

/// No answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AskError {
    /// It took too long.
    #[error("no whole answer in time")]
    Late,
    /// There is no connection.
    #[error("no connection: {0:?}")]
    Connect(Failure),
    /// The answer is no HTTP, or broke off.
    #[error("the answer is broken")]
    Broken(#[source] hyper::Error),
    /// The body is too large, or broke off.
    #[error("the answer is too large or broke off")]
    Body,
}

/// Sends a request to `remote` and reads the whole answer, of at most `size_max` bytes, within `patience`.
///
/// # Errors
/// [`AskError`].
pub async fn ask<B>(
    remote: &Remote,
    mut request: Request<B>,
    size_max: usize,
    patience: Duration,
) -> Result<Response<Bytes>, AskError>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    *request.uri_mut() = remote.target.clone().into();
    if let Ok(host) = HeaderValue::from_str(&remote.server.authority) {
        request.headers_mut().insert(HOST, host);
    }
    let asked = timeout(patience, exchange(remote, request, size_max)).await;
    asked.ok().ok_or(AskError::Late)?
}

async fn exchange<B>(
    remote: &Remote,
    request: Request<B>,
    size_max: usize,
) -> Result<Response<Bytes>, AskError>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let io = connect_to(&remote.server, remote.tls.as_ref()).await;
    let io = TokioIo::new(io.map_err(AskError::Connect)?);
    let prepared = http1::Builder::new().max_headers(FIELDS_MAX).handshake(io);
    let (mut sender, connection) = prepared.await.map_err(AskError::Broken)?;
    let talk = async move {
        let response = sender.send_request(request).await;
        let (head, body) = response.map_err(AskError::Broken)?.into_parts();
        let whole = Limited::new(body, size_max).collect().await;
        let whole = whole.ok().ok_or(AskError::Body)?.to_bytes();
        Ok(Response::from_parts(head, whole))
    };
    let (mut talk, mut connection) = (Box::pin(talk), Box::pin(connection));
    tokio::select! {
        answer = &mut talk => answer,
        // Nothing more comes; what has come is still to be read.
        _ended = &mut connection => talk.await,
    }
}
