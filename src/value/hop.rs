//! Hop-by-hop fields: they speak of one connection and end with it (RFC 9110 §7.6.1).

use http::header::{CONNECTION, HeaderMap, HeaderName, TRAILER};
use smallvec::SmallVec;

/// The fields that a `Connection` field names. Most name none.
pub type Names = SmallVec<[HeaderName; 2]>;

/// Whether a field, named in lower case, speaks of the connection only.
#[must_use]
pub fn by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            // httpoxy: no such field exists, and CGI applications would take it for their proxy's address.
            | "proxy"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Adds what one value of `Connection` names, but for those fields without which the message would be another (a client may
/// not have `Host` or `Content-Length` removed).
pub fn named(value: &[u8], names: &mut Names) {
    for token in value.split(|byte| *byte == b',') {
        let token = token.trim_ascii();
        if token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close") {
            continue;
        }
        if let Ok(name) = HeaderName::from_bytes(token)
            && !KEPT.contains(&name.as_str())
        {
            names.push(name);
        }
    }
}

/// Removes the hop-by-hop fields of a response and what its `Connection` names. `Trailer` stays: trailers pass, and hyper
/// sends only those that it announces.
pub fn strip_response(headers: &mut HeaderMap) {
    let mut gone = Names::new();
    for (name, value) in headers.iter() {
        if *name == CONNECTION {
            named(value.as_bytes(), &mut gone);
        }
    }
    let fields = headers.keys();
    gone.extend(
        fields
            .filter(|name| by_hop(name.as_str()) && **name != TRAILER)
            .cloned(),
    );
    for name in gone {
        headers.remove(name);
    }
}

/// Fields that `Connection` cannot take away.
const KEPT: &[&str] = &[
    "host",
    "content-length",
    "content-type",
    "authorization",
    "cookie",
    "x-request-id",
];
