//! A request head as bytes (RFC 9112 §3, §5), with framing of our own (§6).
//!
//! The client's `Content-Length` and `Transfer-Encoding` are never copied: what we send is framed by what we have. `http`'s
//! types hold neither line breaks in values nor spaces in a target, so nothing here needs escaping.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};
use http_body::Body;

use crate::upstream::forward::Up;

/// How a request body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body, and none is announced.
    Bodyless,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

impl Framing {
    /// The framing of a body. Methods which mean a body announce an empty one (RFC 9110 §8.6).
    pub fn of<B: Body<Data = Bytes>>(method: &Method, body: &B) -> Self {
        if body.is_end_stream() {
            return if [Method::POST, Method::PUT, Method::PATCH].contains(method) {
                Self::Length(0)
            } else {
                Self::Bodyless
            };
        }
        body.size_hint().exact().map_or(Self::Chunked, Self::Length)
    }
}

/// Appends a request head to `out`.
pub fn write(out: &mut Vec<u8>, up: Up<'_>, framing: Framing) {
    let head = up.head;
    out.reserve(HEAD_USUAL);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    let target = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    // RFC 9112 §3.2: a request without a host says so.
    let host = head.headers.iter().find(|(name, _)| **name == HOST);
    out.extend_from_slice(host.map_or(&b""[..], |(_, value)| value.as_bytes()));
    out.extend_from_slice(b"\r\n");
    for (name, value) in &head.headers {
        if *name == HOST
            || *name == CONTENT_LENGTH
            || *name == TRANSFER_ENCODING
            || *name == CONNECTION
        {
            continue;
        }
        field(out, name, value);
    }
    for (name, value) in up.added {
        field(out, name, value);
    }
    match framing {
        Framing::Bodyless => {}
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Room for most heads, so that a fresh connection's buffer grows once.
const HEAD_USUAL: usize = 512;
