//! A response head (RFC 9112 §4, §5), and how its body ends (§6.3).
//!
//! `httparse` reads the grammar; what it tolerates and others read differently is refused here: bare LF, repeated or listed
//! `Content-Length`, any transfer coding but one `chunked`, both framings at once.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use httparse::{ParserConfig, Status};
use smallvec::SmallVec;

use super::{FIELDS_MAX, HEAD_MAX, Malformed};
use crate::value::hop;

/// A response head.
#[derive(Debug)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The fields, as they came, without those of the connection (RFC 9110 §7.6.1).
    pub headers: HeaderMap,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the upstream lets the connection live on (RFC 9112 §9.3).
    pub keep: Keep,
}

/// How a response body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Bodyless,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// Whether a connection may carry another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It may.
    Alive,
    /// It ends with this response.
    Close,
}

/// Takes a head from the front of what was read, or answers `None` where it is not all there. `method` is the request's: the
/// answer to a HEAD has no body.
///
/// # Errors
/// [`Malformed`].
pub fn take(read: &mut BytesMut, method: &Method) -> Result<Option<Head>, Malformed> {
    // httparse skips empty lines, which are for servers to forgive (RFC 9112 §2.2).
    if matches!(read.first(), Some(b'\r' | b'\n')) {
        return Err(Malformed::BareLineBreak);
    }
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let outcome =
        ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, read, &mut fields);
    let length = match outcome {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if read.len() > HEAD_MAX => return Err(Malformed::HeadTooLarge),
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(Malformed::Head(error)),
    };
    if length > HEAD_MAX {
        return Err(Malformed::HeadTooLarge);
    }
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Malformed::Status)?;
    let old = parsed.version == Some(0);
    // Places instead of slices: the bytes are split off the buffer before anything holds on to them.
    let start = read.as_ptr().addr();
    let mut places: SmallVec<[Place; 32]> = SmallVec::new();
    for field in parsed.headers.iter() {
        places.push(Place {
            name: (field.name.as_ptr().addr() - start, field.name.len()),
            value: (field.value.as_ptr().addr() - start, field.value.len()),
        });
    }
    let bytes = read.split_to(length).freeze();
    if !lines_end_in_crlf(&bytes) {
        return Err(Malformed::BareLineBreak);
    }
    let mut reading = Reading::default();
    // Room for the fields that the gate adds.
    let mut headers = HeaderMap::with_capacity(places.len() + FIELDS_ADDED);
    for place in places {
        let (name, value) = place.field(&bytes)?;
        if reading.see(&name, &value)? == Reach::Client {
            let kept = headers.try_append(name, value);
            kept.ok().ok_or(Malformed::Field)?;
        }
    }
    for name in std::mem::take(&mut reading.named) {
        headers.remove(name);
    }
    let (framing, keep) = reading.conclude(status, method, old)?;
    Ok(Some(Head {
        status,
        headers,
        framing,
        keep,
    }))
}

/// Whether a head may end behind `from`. Asking first keeps a head that trickles in from being parsed from its start each time.
#[must_use]
pub fn may_end_after(read: &[u8], from: usize) -> bool {
    let tail = read.get(from.saturating_sub(3)..).unwrap_or_default();
    tail.windows(2).any(|pair| pair == b"\n\n") || tail.windows(3).any(|three| three == b"\n\r\n")
}

/// Whether every CR stands before an LF, and every LF behind a CR. Written without branches, for the vectoriser.
pub(super) fn lines_end_in_crlf(bytes: &[u8]) -> bool {
    let (Some((last, before)), Some((first, behind))) = (bytes.split_last(), bytes.split_first())
    else {
        return true;
    };
    let unpaired = before.iter().zip(behind).fold(0_u8, |bad, (one, next)| {
        bad | (u8::from(*one == b'\r') ^ u8::from(*next == b'\n'))
    });
    unpaired == 0 && *first != b'\n' && *last != b'\r'
}

/// Where a field stands in the head: start and length of name and value.
struct Place {
    name: (usize, usize),
    value: (usize, usize),
}

impl Place {
    fn field(&self, bytes: &Bytes) -> Result<(HeaderName, HeaderValue), Malformed> {
        let name = bytes.get(self.name.0..self.name.0 + self.name.1);
        let name = name.and_then(|name| HeaderName::from_bytes(name).ok());
        let value = bytes.slice(self.value.0..self.value.0 + self.value.1);
        let value = HeaderValue::from_maybe_shared(value).ok();
        name.zip(value).ok_or(Malformed::Field)
    }
}

/// What the fields say about the message's end and the connection's.
#[derive(Default)]
struct Reading {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    /// What `Connection` names.
    named: hop::Names,
}

/// How far a field goes.
#[derive(PartialEq, Eq)]
enum Reach {
    /// To the client.
    Client,
    /// It ends here.
    Hop,
}

impl Reading {
    fn see(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<Reach, Malformed> {
        let value = value.as_bytes();
        match name.as_str() {
            "content-length" => {
                let length = number(value).ok_or(Malformed::ContentLength)?;
                // RFC 9112 §6.3 rule 5 would allow equal repeats; nobody honest sends them.
                if self.length.replace(length).is_some() {
                    return Err(Malformed::ContentLength);
                }
                Ok(Reach::Client)
            }
            "transfer-encoding" => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::TransferEncoding);
                }
                self.chunked = true;
                Ok(Reach::Hop)
            }
            "connection" => {
                for token in value.split(|byte| *byte == b',') {
                    let token = token.trim_ascii();
                    self.close |= token.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                }
                hop::named(value, &mut self.named);
                Ok(Reach::Hop)
            }
            // Trailers pass, and hyper sends only those that are announced.
            "trailer" => Ok(Reach::Client),
            other if hop::by_hop(other) => Ok(Reach::Hop),
            _ => Ok(Reach::Client),
        }
    }

    /// RFC 9112 §6.3, in its order.
    fn conclude(
        &self,
        status: StatusCode,
        method: &Method,
        old: bool,
    ) -> Result<(Framing, Keep), Malformed> {
        if self.chunked && self.length.is_some() {
            return Err(Malformed::BothFramings);
        }
        if self.chunked && old {
            return Err(Malformed::TransferEncoding);
        }
        let keep = if self.close || (old && !self.keep_alive) {
            Keep::Close
        } else {
            Keep::Alive
        };
        let bodyless = *method == Method::HEAD
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Ok(match (bodyless, self.chunked, self.length) {
            (true, _, _) => (Framing::Bodyless, keep),
            (false, true, _) => (Framing::Chunked, keep),
            (false, false, Some(length)) => (Framing::Length(length), keep),
            (false, false, None) => (Framing::Close, Keep::Close),
        })
    }
}

/// `1*DIGIT` that fits (RFC 9110 §8.6). The largest number is refused too: some readers use it as a mark.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| byte - b'0')?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    });
    number.filter(|number| *number < u64::MAX)
}

/// The request id and the header edits of a usual configuration.
const FIELDS_ADDED: usize = 4;
