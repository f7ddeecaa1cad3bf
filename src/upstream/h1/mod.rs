//! HTTP/1.1 as a client speaks it (RFC 9112), for upstream connections: strict about every answer, and lean.
//!
//! Everything is polled inside the task of the request that uses the connection: no task, channel or box per request. What is
//! read is handed on in place. Written because a general client costs more per request than all of the gate's own work.
//!
//! - [`request`] writes a request head into the connection's buffer; the framing is ours (RFC 9112 §6.1, §6.2).
//! - [`upload`] writes the request body, and stops where the upstream has answered already (RFC 9112 §9.5).
//! - [`response`] reads a response head and concludes how its body ends (RFC 9112 §4, §5, §6.3).
//! - [`decode`] takes a body out of the bytes read (RFC 9112 §6, §7).
//! - [`exchange`] drives both directions up to the final response head (RFC 9110 §15.2: interim answers are skipped).
//! - [`body`] is the response body; it gives the connection back, or closes it.
//! - [`wire`] is the connection: socket and buffers, and whether it may carry another request (RFC 9112 §9.3).
//!
//! An answer that can be read in two ways is refused ([`Malformed`]), never repaired: what we would pass on might be read the
//! other way by the client (RFC 9112 §11.1, §11.2). An incomplete body is an error, never an end (RFC 9112 §8).
//!
//! Upgrades are not spoken here: `101` is malformed (RFC 9110 §7.8). The room knows the pool only to give
//! connections back, and neither policy nor clock.

pub mod body;
pub mod decode;
pub mod exchange;
pub mod request;
pub mod response;
pub mod upload;
pub mod wire;

#[cfg(test)]
mod tests;

use crate::value::failure::Failure;

/// An answer that breaks HTTP/1.1, or that another reader might read differently. For logs; clients see a 502.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The status line or a field line breaks the grammar.
    #[error("response head: {0}")]
    Head(httparse::Error),
    /// CR or LF without the other (RFC 9112 §2.2).
    #[error("bare CR or LF in a response head")]
    BareLineBreak,
    /// More than [`HEAD_MAX`] bytes.
    #[error("response head too large")]
    HeadTooLarge,
    /// A status below 100.
    #[error("no such status")]
    Status,
    /// A field that cannot be passed on.
    #[error("response field that cannot be passed on")]
    Field,
    /// `Transfer-Encoding` other than a single `chunked`, or in HTTP/1.0 (RFC 9112 §6.1).
    #[error("transfer encoding other than chunked")]
    TransferEncoding,
    /// `Content-Length` repeated, listed, signed, empty or too large (RFC 9112 §6.3 rule 5).
    #[error("content length repeated or not a number")]
    ContentLength,
    /// `Transfer-Encoding` and `Content-Length` (RFC 9112 §6.3 rule 3).
    #[error("transfer encoding and content length")]
    BothFramings,
    /// `101` to a request that asked for no upgrade.
    #[error("switched protocols unasked")]
    Switched,
    /// More than [`INTERIM_MAX`] interim responses.
    #[error("too many interim responses")]
    Interim,
    /// A chunk's size line (RFC 9112 §7.1).
    #[error("chunk size")]
    ChunkSize,
    /// Chunk data not followed by CRLF.
    #[error("chunk end")]
    ChunkEnd,
    /// Chunk extensions with control characters, or more than [`EXTENSIONS_MAX`] bytes of them in one body.
    #[error("chunk extensions")]
    ChunkExtension,
    /// A trailer section that is too large or breaks the grammar (RFC 9112 §7.1.2).
    #[error("trailers")]
    Trailers,
}

/// Why a response body broke off.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It breaks its framing.
    #[error("malformed response body: {0}")]
    Malformed(#[from] Malformed),
    /// The upstream closed before its end.
    #[error("response body incomplete")]
    Truncated,
    /// The connection broke.
    #[error("response body: {0}")]
    Io(#[from] std::io::Error),
    /// The client's body, which was still on its way up, broke off.
    #[error("request body: {0}")]
    Request(Failure),
}

/// Bytes of a response head.
pub const HEAD_MAX: usize = 64 * 1024;
/// Fields of a response head; the default for requests is the same.
pub const FIELDS_MAX: usize = 256;
/// Interim responses before the final one.
pub const INTERIM_MAX: u8 = 16;
/// Bytes of chunk extensions in one body.
pub const EXTENSIONS_MAX: usize = 16 * 1024;
/// Bytes of a trailer section.
pub const TRAILERS_MAX: usize = 16 * 1024;
