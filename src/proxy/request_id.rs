//! The request's id and its trace: made here, or taken from a trusted peer.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use uuid::Uuid;

/// The ids of one request.
#[derive(Debug)]
pub struct Ids {
    /// `X-Request-Id`, to client and upstream alike.
    pub request_id: HeaderValue,
    /// `traceparent` (W3C Trace Context) where the client sent none of its own.
    pub traceparent: Option<HeaderValue>,
    /// The trace's id.
    pub trace_id: [u8; 16],
}

/// `X-Request-Id`.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `traceparent`.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

impl Ids {
    /// Ids for a request that began at this moment. An id that a trusted peer sent is kept; a trace that anybody started is
    /// continued.
    #[must_use]
    pub fn of(headers: &HeaderMap, trusted: bool, began: Timestamp) -> Self {
        let id = fresh(began);
        let told = trusted.then(|| headers.get(X_REQUEST_ID)).flatten();
        let told = told.filter(|value| sane(value));
        // Of few fields, and rarely there: looking at each name costs less than hashing one.
        let mut fields = headers.iter();
        let trace = fields.find(|(name, _)| **name == TRACEPARENT);
        let trace = trace.and_then(|(_, value)| trace_of(value));
        // One buffer for both values: `traceparent` holds the id in its plain form.
        let mut text = [0_u8; TEXT_BYTES];
        let (plain, dressed) = text.split_at_mut(ID_BYTES);
        id.as_hyphenated().encode_lower(plain);
        let mut hex = [0_u8; 32];
        id.as_simple().encode_lower(&mut hex);
        let (version, rest) = dressed.split_at_mut(3);
        let (trace_hex, rest) = rest.split_at_mut(32);
        let (dash, rest) = rest.split_at_mut(1);
        let (span_hex, flags) = rest.split_at_mut(16);
        version.copy_from_slice(b"00-");
        trace_hex.copy_from_slice(&hex);
        dash.copy_from_slice(b"-");
        span_hex.copy_from_slice(hex.split_at(16).1);
        flags.copy_from_slice(b"-00");
        let both = Bytes::copy_from_slice(&text);
        let value =
            |bytes| HeaderValue::from_maybe_shared(bytes).unwrap_or(HeaderValue::from_static(""));
        Self {
            request_id: told
                .cloned()
                .unwrap_or_else(|| value(both.slice(..ID_BYTES))),
            traceparent: trace.is_none().then(|| value(both.slice(ID_BYTES..))),
            trace_id: trace.unwrap_or(id.into_bytes()),
        }
    }
}

/// A version 7 UUID (RFC 9562 §5.7): milliseconds, then chance. `Uuid::now_v7` would take a lock that all workers share.
fn fresh(began: Timestamp) -> Uuid {
    let [_, _, _, _, _, _, chance @ ..] = Uuid::new_v4().into_bytes();
    let millis = u64::try_from(began.as_millisecond()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &chance).into_uuid()
}

/// An id of somebody else's that may stand in logs and headers: 1 to 128 bytes of letters, digits, `-`, `_`, `.` and `:`.
fn sane(value: &HeaderValue) -> bool {
    (1..=128).contains(&value.len())
        && value
            .as_bytes()
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
}

/// The trace id of a well-formed `traceparent` (W3C Trace Context §3.2).
fn trace_of(value: &HeaderValue) -> Option<[u8; 16]> {
    let text = value.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lower_hex = |part: &str, length| {
        part.len() == length
            && part
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
    };
    let whole = version != "00" || parts.next().is_none();
    if !(whole
        && version != "ff"
        && lower_hex(version, 2)
        && lower_hex(span, 16)
        && lower_hex(flags, 2))
    {
        return None;
    }
    if !lower_hex(trace, 32)
        || trace.bytes().all(|byte| byte == b'0')
        || span.bytes().all(|byte| byte == b'0')
    {
        return None;
    }
    u128::from_str_radix(trace, 16).ok().map(u128::to_be_bytes)
}

const ID_BYTES: usize = 36;
const TEXT_BYTES: usize = ID_BYTES + 55;
