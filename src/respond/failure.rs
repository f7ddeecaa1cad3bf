//! From failures to answers: the single exhaustive table.
//!
//! A failure is never a 403: nobody refused anything. What the client is told is a public reason; what the log is told is `code`.

use std::time::Duration;

use http::StatusCode;

use super::Notice;
use crate::value::failure::Failure;
use crate::value::reason::Reason;

/// What a failed request gets, and what the log calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureAnswer {
    /// The status; 499 is only logged, since nobody is there to read it.
    pub status: StatusCode,
    /// The public reason.
    pub reason: Reason,
    /// `error.type` of the access log.
    pub code: &'static str,
    /// When to come back.
    pub retry_after: Option<Duration>,
    /// 405: the methods that are served.
    pub allow: Option<&'static str>,
    /// Whether the client's connection can go on.
    pub connection: Connection,
}

/// What becomes of the client's connection after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// The next request can be read.
    Keep,
    /// What follows on it cannot be trusted to be a request, or is not wanted.
    Close,
}

impl FailureAnswer {
    /// The answer as a notice.
    #[must_use]
    pub const fn notice(&self) -> Notice<'_> {
        let mut notice = Notice::new(self.status, &self.reason);
        notice.retry_after = self.retry_after;
        notice.allow = self.allow;
        notice
    }
}

/// The answer to a failure.
#[must_use]
pub fn classify(failure: Failure) -> FailureAnswer {
    use Connection::{Close, Keep};
    let (status, reason, code, connection) = match failure {
        Failure::Malformed(code) => (400, Reason::MALFORMED_REQUEST, code, Close),
        // The request was read whole; only its path is refused.
        Failure::AmbiguousPath => (400, Reason::AMBIGUOUS_PATH, "ambiguous_path", Keep),
        Failure::MethodNotAllowed => (405, Reason::METHOD_NOT_ALLOWED, "method_not_allowed", Close),
        Failure::BodyTooLarge => (413, Reason::BODY_TOO_LARGE, "body_too_large", Close),
        Failure::TargetTooLong => (414, Reason::TARGET_TOO_LONG, "target_too_long", Close),
        Failure::HeadTooLarge => (431, Reason::HEAD_TOO_LARGE, "head_too_large", Close),
        Failure::HeadTimeout => (408, Reason::REQUEST_TIMEOUT, "head_timeout", Close),
        Failure::BodyTimeout => (408, Reason::REQUEST_TIMEOUT, "body_timeout", Close),
        Failure::ClientGone => (499, Reason::CLIENT_CLOSED, "client_gone", Close),
        Failure::BodyBroken => (400, Reason::MALFORMED_REQUEST, "body_broken", Close),
        Failure::ConnectRefused => (502, Reason::BAD_GATEWAY, "connect_refused", Keep),
        Failure::ConnectTimeout => (504, Reason::GATEWAY_TIMEOUT, "connect_timeout", Keep),
        Failure::Resolve => (502, Reason::BAD_GATEWAY, "resolve", Keep),
        Failure::UpstreamTls => (502, Reason::BAD_GATEWAY, "upstream_tls", Keep),
        Failure::UpstreamClosed => (502, Reason::BAD_GATEWAY, "upstream_closed", Keep),
        Failure::UpstreamMalformed => (502, Reason::BAD_GATEWAY, "upstream_malformed", Keep),
        Failure::ResponseTimeout => (504, Reason::GATEWAY_TIMEOUT, "response_timeout", Keep),
        // Its head has been sent as a rule: then only the log says 502, and the client sees the body break off.
        Failure::ResponseBroken => (502, Reason::BAD_GATEWAY, "response_broken", Close),
        Failure::UpstreamBusy => (503, Reason::OVERLOADED, "upstream_busy", Keep),
        Failure::UpstreamDrained => (503, Reason::OVERLOADED, "upstream_drained", Keep),
        Failure::Overloaded => (503, Reason::OVERLOADED, "overloaded", Keep),
        Failure::ShuttingDown => (503, Reason::SHUTTING_DOWN, "shutting_down", Close),
        Failure::Internal => (500, Reason::INTERNAL_ERROR, "internal", Keep),
    };
    FailureAnswer {
        // Every number above is a valid status; a test walks them.
        status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        reason,
        code,
        retry_after: (status == 503).then_some(RETRY),
        allow: (status == 405).then_some(SERVED),
        connection,
    }
}

/// Long enough to let a moment of overload or a restart pass, short enough that nobody gives up.
const RETRY: Duration = Duration::from_secs(1);

/// Methods that are served; others that HTTP does not know pass as well, but `Allow` cannot say so.
const SERVED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_answer() {
        for (failure, status, code, connection, why) in [
            (
                Failure::Malformed("bad_escape"),
                400,
                "bad_escape",
                Connection::Close,
                "the log has the word",
            ),
            (
                Failure::AmbiguousPath,
                400,
                "ambiguous_path",
                Connection::Keep,
                "framing is fine",
            ),
            (
                Failure::MethodNotAllowed,
                405,
                "method_not_allowed",
                Connection::Close,
                "CONNECT may be followed by anything",
            ),
            (
                Failure::BodyTooLarge,
                413,
                "body_too_large",
                Connection::Close,
                "the rest of the body follows",
            ),
            (
                Failure::TargetTooLong,
                414,
                "target_too_long",
                Connection::Close,
                "",
            ),
            (
                Failure::HeadTooLarge,
                431,
                "head_too_large",
                Connection::Close,
                "",
            ),
            (
                Failure::HeadTimeout,
                408,
                "head_timeout",
                Connection::Close,
                "",
            ),
            (
                Failure::BodyTimeout,
                408,
                "body_timeout",
                Connection::Close,
                "",
            ),
            (
                Failure::ClientGone,
                499,
                "client_gone",
                Connection::Close,
                "log only",
            ),
            (
                Failure::BodyBroken,
                400,
                "body_broken",
                Connection::Close,
                "",
            ),
            (
                Failure::ConnectRefused,
                502,
                "connect_refused",
                Connection::Keep,
                "never 403",
            ),
            (
                Failure::ConnectTimeout,
                504,
                "connect_timeout",
                Connection::Keep,
                "late",
            ),
            (Failure::Resolve, 502, "resolve", Connection::Keep, ""),
            (
                Failure::UpstreamTls,
                502,
                "upstream_tls",
                Connection::Keep,
                "",
            ),
            (
                Failure::UpstreamClosed,
                502,
                "upstream_closed",
                Connection::Keep,
                "",
            ),
            (
                Failure::UpstreamMalformed,
                502,
                "upstream_malformed",
                Connection::Keep,
                "",
            ),
            (
                Failure::ResponseTimeout,
                504,
                "response_timeout",
                Connection::Keep,
                "late",
            ),
            (
                Failure::ResponseBroken,
                502,
                "response_broken",
                Connection::Close,
                "its end is unknown",
            ),
            (
                Failure::UpstreamBusy,
                503,
                "upstream_busy",
                Connection::Keep,
                "come back in a moment",
            ),
            (
                Failure::UpstreamDrained,
                503,
                "upstream_drained",
                Connection::Keep,
                "not a broken gateway",
            ),
            (
                Failure::Overloaded,
                503,
                "overloaded",
                Connection::Keep,
                "a new connection costs more",
            ),
            (
                Failure::ShuttingDown,
                503,
                "shutting_down",
                Connection::Close,
                "",
            ),
            (Failure::Internal, 500, "internal", Connection::Keep, ""),
        ] {
            let answer = classify(failure);
            assert_eq!(answer.status.as_u16(), status, "{failure:?} {why}");
            assert_eq!(answer.code, code, "{failure:?} {why}");
            assert_eq!(answer.connection, connection, "{failure:?} {why}");
            assert_eq!(answer.retry_after.is_some(), status == 503, "{failure:?}");
            assert_eq!(
                answer.notice().allow.is_some(),
                status == 405,
                "{failure:?}"
            );
            assert!(Reason::DOCUMENTED.contains(&answer.reason), "{failure:?}");
        }
    }
}
