//! Why one request could not be served although nobody refused it. Never a 403.

use thiserror::Error;

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client sent something that cannot be served.
    Downstream,
    /// The upstream broke or is late.
    Upstream,
    /// We are overloaded or broken.
    Internal,
}

/// One request's failure. The text of each variant is for the log, never for the client;
/// `respond::failure` holds the only table from failures to status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Failure {
    /// The request breaks HTTP or is ambiguous; the word is the stable log code.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// The strict and the lenient reading of the path differ where policy looks.
    #[error("the path reads differently in two ways")]
    AmbiguousPath,
    /// CONNECT, TRACE.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// The body is larger than the limit.
    #[error("body too large")]
    BodyTooLarge,
    /// The target is longer than the limit.
    #[error("target too long")]
    TargetTooLong,
    /// The head is larger than the limit or has too many fields.
    #[error("head too large")]
    HeadTooLarge,
    /// The head did not arrive in time.
    #[error("request head late")]
    HeadTimeout,
    /// The body stopped arriving.
    #[error("request body late")]
    BodyTimeout,
    /// The client left.
    #[error("client closed the connection")]
    ClientGone,
    /// The body broke off or its framing is wrong.
    #[error("request body broken")]
    BodyBroken,
    /// No endpoint accepted a connection.
    #[error("upstream refused the connection")]
    ConnectRefused,
    /// No connection within `connect_timeout`.
    #[error("upstream connect late")]
    ConnectTimeout,
    /// The upstream's name did not resolve.
    #[error("upstream name does not resolve")]
    Resolve,
    /// The TLS handshake with the upstream failed.
    #[error("upstream TLS failed")]
    UpstreamTls,
    /// The upstream closed or reset before a response head.
    #[error("upstream closed without an answer")]
    UpstreamClosed,
    /// The upstream's answer breaks HTTP.
    #[error("upstream answered malformed HTTP")]
    UpstreamMalformed,
    /// No response head within `response_timeout`.
    #[error("upstream answer late")]
    ResponseTimeout,
    /// The response body broke off.
    #[error("response body broken")]
    ResponseBroken,
    /// Every endpoint has all the connections it may have, and the queue is full or took too long.
    #[error("every endpoint of the upstream is busy")]
    UpstreamBusy,
    /// An operator drains every endpoint.
    #[error("every endpoint of the upstream is drained")]
    UpstreamDrained,
    /// A limit of ours is reached.
    #[error("overloaded")]
    Overloaded,
    /// We are draining.
    #[error("shutting down")]
    ShuttingDown,
    /// A bug or a broken machine.
    #[error("internal error")]
    Internal,
}
