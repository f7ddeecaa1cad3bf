//! HTTP-01 (RFC 8555 §8.3): an authority asks for a token that our own client has pending. Nothing else is answered here, so
//! whatever else stands under that path is judged as anything is.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};

use super::own::fixed;
use crate::observe::record::{AnsweredBy, Record};
use crate::snapshot::acme::Challenges;

/// The answer to an authority, if that is who asks.
pub(super) fn answer(
    challenges: &Challenges,
    parts: &Parts,
    host: &str,
    record: &mut Record,
) -> Option<Response<Bytes>> {
    if !challenges.any() {
        return None;
    }
    let token = parts.uri.path().strip_prefix(PREFIX)?;
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return None;
    }
    let body = challenges.answer(host, token)?;
    record.answered_by = AnsweredBy::Proxy;
    Some(fixed(StatusCode::OK, Some(&TYPE), &body, &parts.method))
}

const PREFIX: &str = "/.well-known/acme-challenge/";
static TYPE: HeaderValue = HeaderValue::from_static("application/octet-stream");
