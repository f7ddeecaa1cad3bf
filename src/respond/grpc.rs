//! Refusals as gRPC clients read them: a status and a message in the head, nothing behind it ("trailers-only").
//!
//! The HTTP status stays the true one. A client that finds `grpc-status` goes by it; one that goes by the HTTP status maps it in
//! the same way (gRPC, "HTTP to gRPC Status Code Mapping").

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// The media type to answer a gRPC request in: its own, without `+proto` and the like.
pub(super) fn media(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers.get(CONTENT_TYPE)?.as_bytes();
    let rest = asked.strip_prefix(b"application/grpc")?;
    match rest.first() {
        None | Some(b'+' | b';') => Some(HeaderValue::from_static("application/grpc")),
        Some(_) if rest.starts_with(b"-web-text") => {
            Some(HeaderValue::from_static("application/grpc-web-text"))
        }
        Some(_) if rest.starts_with(b"-web") => {
            Some(HeaderValue::from_static("application/grpc-web"))
        }
        Some(_) => None,
    }
}

/// Writes the status and the message.
pub(super) fn write(status: StatusCode, message: &str, head: &mut HeaderMap) {
    head.insert(GRPC_STATUS, HeaderValue::from(code(status)));
    let message = utf8_percent_encode(message, ESCAPED).to_string();
    if let Ok(message) = HeaderValue::try_from(message) {
        head.insert(GRPC_MESSAGE, message);
    }
}

/// The code that means the same.
fn code(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 | 451 => PERMISSION_DENIED,
        // A hidden method is one that does not exist.
        404 | 405 | 410 => UNIMPLEMENTED,
        413 | 414 | 431 => RESOURCE_EXHAUSTED,
        421 | 429 | 502 | 503 | 504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

const UNKNOWN: u16 = 2;
const PERMISSION_DENIED: u16 = 7;
const RESOURCE_EXHAUSTED: u16 = 8;
const UNIMPLEMENTED: u16 = 12;
const INTERNAL: u16 = 13;
const UNAVAILABLE: u16 = 14;
const UNAUTHENTICATED: u16 = 16;

/// What `grpc-message` may not hold as it is: all but visible ASCII and the space, and `%`.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for (asked, want) in [
            ("application/grpc", Some("application/grpc")),
            ("application/grpc+proto", Some("application/grpc")),
            ("application/grpc; x=y", Some("application/grpc")),
            ("application/grpc-web+proto", Some("application/grpc-web")),
            (
                "application/grpc-web-text",
                Some("application/grpc-web-text"),
            ),
            ("application/grpcx", None),
            ("application/json", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(asked));
            let media = media(&headers);
            let media = media.as_ref().map(|media| media.to_str().unwrap());
            assert_eq!(media, want, "{asked}");
        }
        assert_eq!(media(&HeaderMap::new()), None);
    }

    #[test]
    fn messages_are_escaped() {
        let mut head = HeaderMap::new();
        write(StatusCode::FORBIDDEN, "100 % naïve\n", &mut head);
        assert_eq!(head.get(GRPC_STATUS).unwrap(), "7");
        assert_eq!(head.get(GRPC_MESSAGE).unwrap(), "100 %25 na%C3%AFve%0A");
    }
}
