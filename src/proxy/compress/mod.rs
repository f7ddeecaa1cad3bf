//! Compression of answers (`[[site]] compress`).
//!
//! Decides what is compressed: an answer that its origin left as it is, of a type that the site names, not too small, that
//! nobody forbade to transform (`no-transform`), that is whole (no range), and that is no gRPC. Whether a client takes it, and
//! as what, is `respond`'s to say; which types, the snapshot's.
//!
//! BREACH: bytes that an attacker chooses and a secret, compressed in one answer, tell the secret by their length, if the attacker
//! can make the victim's browser ask again and again. So a request which another site made a browser send (`Sec-Fetch-Site`)
//! with cookies on it gets its answer as it is. What same-site pages do, and what an older browser does not say, is not covered:
//! hence `compress = false` by default.

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    COOKIE, ETAG, HeaderMap, HeaderName, HeaderValue, VARY,
};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version, response};
use http_body::Body as _;

use super::body::GateBody;
use super::exchange::Exchange;
use super::intake::has_token;
use super::service::site_of;
use crate::respond::{self, Coding};
use crate::snapshot::Site;
use crate::snapshot::compress::Compress;

mod body;
#[cfg(feature = "compression")]
mod coder;
#[cfg(not(feature = "compression"))]
#[path = "coder_none.rs"]
mod coder;
#[cfg(all(test, feature = "compression"))]
mod tests;

pub use body::Compressed;

/// What becomes of the answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// Its site compresses nothing.
    #[default]
    Off,
    /// This client gets it as it is; others may not.
    Plain,
    /// It is compressed, if it is of the right kind.
    Coded(Coding),
}

/// What a request wishes. One branch where its site compresses nothing.
pub(super) fn wish(site: Option<&Site>, parts: &Parts) -> Wish {
    match site {
        Some(site) if site.compress != Compress::Never => wished(parts),
        Some(_) | None => Wish::Off,
    }
}

fn wished(parts: &Parts) -> Wish {
    let headers = &parts.headers;
    // Without chunks, the end of the connection would be the only end of the body.
    if parts.version < Version::HTTP_11 || crossing(headers) || no_transform(headers) {
        return Wish::Plain;
    }
    respond::coding(headers).map_or(Wish::Plain, Wish::Coded)
}

/// Whether another site made a browser send this with the user's cookies.
fn crossing(headers: &HeaderMap) -> bool {
    headers.contains_key(COOKIE)
        && headers
            .get(SEC_FETCH_SITE)
            .is_some_and(|value| value == "cross-site")
}

/// The last step of every answer. One branch where its site compresses nothing.
pub(super) fn answer(response: Response<GateBody>) -> Response<GateBody> {
    match response.body().wish() {
        Wish::Off => response,
        wish @ (Wish::Plain | Wish::Coded(_)) => considered(response, wish),
    }
}

fn considered(response: Response<GateBody>, wish: Wish) -> Response<GateBody> {
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::NOT_MODIFIED {
        // It stands for the answer that the client has (RFC 9110 §15.4.5).
        vary(&mut head.headers);
        if wish != Wish::Plain {
            weaken(&mut head.headers);
        }
        return Response::from_parts(head, body);
    }
    let body = match body.exchange() {
        Some(exchange) if suits(&head, &body, exchange) => {
            vary(&mut head.headers);
            match wish {
                Wish::Coded(coding) => coded(&mut head, body, coding),
                Wish::Off | Wish::Plain => body,
            }
        }
        Some(_) | None => body,
    };
    Response::from_parts(head, body)
}

/// Whether an answer is one to compress, whoever asks.
fn suits(head: &response::Parts, body: &GateBody, exchange: &Exchange) -> bool {
    let headers = &head.headers;
    let bodiless = [
        StatusCode::NO_CONTENT,
        StatusCode::RESET_CONTENT,
        StatusCode::PARTIAL_CONTENT,
    ];
    if head.status.is_informational()
        || bodiless.contains(&head.status)
        || FINAL.iter().any(|name| headers.contains_key(name))
        || no_transform(headers)
    {
        return false;
    }
    let least = if body.is_whole() { OWN_LEAST } else { LEAST };
    let length = body.length(headers);
    let asked_head = exchange.record.method == Some(Method::HEAD);
    if length.is_some_and(|length| length < least)
        || (length.is_none() && body.is_end_stream() && !asked_head)
    {
        return false;
    }
    let site = site_of(&exchange.lease, exchange.seen.place);
    let kind = headers.get(CONTENT_TYPE);
    site.zip(kind)
        .is_some_and(|(site, kind)| site.compress.takes(kind.as_bytes()))
}

/// The answer in a coding; to HEAD, its head alone.
fn coded(head: &mut response::Parts, body: GateBody, coding: Coding) -> GateBody {
    let length = body.length(&head.headers);
    let body = if body.is_end_stream() {
        body
    } else {
        match body.compressed(coding, length) {
            Ok(body) => body,
            // As it is, then.
            Err(body) => return *body,
        }
    };
    let headers = &mut head.headers;
    headers.insert(CONTENT_ENCODING, coding.value());
    headers.remove(CONTENT_LENGTH);
    headers.remove(ACCEPT_RANGES);
    if body.is_whole() && !body.is_end_stream() {
        let length = body.length(&HeaderMap::new()).unwrap_or_default();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    weaken(headers);
    body
}

/// Bytes of ours in a coding.
pub(super) fn whole(bytes: &[u8], coding: Coding) -> Option<Bytes> {
    let length = u64::try_from(bytes.len()).ok();
    let mut coder = coder::Coder::begin(coding, length)?;
    coder.write(bytes).ok()?;
    coder.finish().ok()?;
    Some(coder.take())
}

/// The same entity in another coding has other bytes: its tag may only be compared weakly (RFC 9110 §8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG) else {
        return;
    };
    let strong = tag.as_bytes();
    if !strong.starts_with(b"\"") {
        return;
    }
    let weak = [b"W/", strong].concat();
    match HeaderValue::from_bytes(&weak) {
        Ok(weak) => drop(headers.insert(ETAG, weak)),
        Err(_) => drop(headers.remove(ETAG)),
    }
}

/// Tells caches that the answer depends on the client (RFC 9110 §12.5.5).
fn vary(headers: &mut HeaderMap) {
    let mut values = headers.get_all(VARY).iter();
    let said = |value| has_token(value, b"*") || has_token(value, b"accept-encoding");
    if !values.any(said) {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

fn no_transform(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CACHE_CONTROL).iter();
    values.any(|value| has_token(value, b"no-transform"))
}

/// Fields that bind an answer to its bytes, or say that it is coded or a part.
const FINAL: [HeaderName; 6] = [
    CONTENT_ENCODING,
    CONTENT_RANGE,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Bytes from which on an upstream's answer is compressed: less fits into one packet anyway.
const LEAST: u64 = 1024;

/// The same for our own answers: refusals are made to be cheap.
const OWN_LEAST: u64 = 4096;
