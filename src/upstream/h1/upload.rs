//! A request's head and body on their way to the upstream, piece by piece: a piece is taken from the client when the one
//! before it has left, so the upstream's pace is the client's.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::Body;

use super::request::Framing;
use super::wire::Wire;
use crate::upstream::body::RequestBody;
use crate::value::failure::Failure;

/// What is still to be sent of a request.
#[derive(Debug)]
pub struct Upload {
    body: RequestBody,
    framing: Framing,
    piece: Bytes,
    /// The CRLF behind a chunk.
    trail: &'static [u8],
    /// Bytes that have left, head included.
    sent: u64,
    stage: Stage,
    /// The upstream takes no more. It may have said why.
    cut: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The body may have more.
    Body,
    /// The last bytes leave.
    Last,
    /// All has left.
    Sent,
}

impl Upload {
    /// A request whose head is in the connection's buffer already.
    #[must_use]
    pub(crate) const fn new(body: RequestBody, framing: Framing) -> Self {
        let stage = match framing {
            Framing::Bodyless | Framing::Length(0) => Stage::Last,
            Framing::Length(_) | Framing::Chunked => Stage::Body,
        };
        Self {
            body,
            framing,
            piece: Bytes::new(),
            trail: b"",
            sent: 0,
            stage,
            cut: false,
        }
    }

    /// Whether nothing has left yet, so that the request can be sent on another connection.
    pub(crate) const fn is_unsent(&self) -> bool {
        self.sent == 0
    }

    /// Whether the request is complete at the upstream.
    pub(super) fn is_sent(&self) -> bool {
        self.stage == Stage::Sent
    }

    /// Begins again on another connection, which has inherited the head. Only for a request without a body, or unsent.
    pub(crate) fn restart(&mut self) {
        self.sent = 0;
        self.cut = false;
        if self.stage == Stage::Sent {
            self.stage = Stage::Last;
        }
    }

    /// Sends as much as can be sent. Ready when there is nothing more to do: all has left, or the upstream takes no more.
    ///
    /// # Errors
    /// The client's body broke off.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut Wire,
    ) -> Poll<Result<(), Failure>> {
        while !self.cut && self.stage != Stage::Sent {
            let mut starved = false;
            if self.stage == Stage::Body && self.piece.is_empty() && self.trail.is_empty() {
                match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        if let Ok(piece) = frame.into_data() {
                            self.load(piece, wire)?;
                        }
                    }
                    Poll::Ready(Some(Err(broken))) => return Poll::Ready(Err(broken.0)),
                    Poll::Ready(None) => self.end(wire)?,
                    // What is here already need not wait for the rest.
                    Poll::Pending => starved = true,
                }
            }
            if !wire.is_written() || !self.piece.is_empty() || !self.trail.is_empty() {
                match ready!(wire.poll_write(cx, &self.piece, self.trail)) {
                    Ok(written) => {
                        self.sent += written.all as u64;
                        let data = written.body.min(self.piece.len());
                        self.piece.advance(data);
                        self.trail = self.trail.get(written.body - data..).unwrap_or_default();
                    }
                    // The answer may have come before the end of the request: reading will tell.
                    Err(_) => self.cut = true,
                }
            } else if starved || self.stage == Stage::Last {
                match ready!(wire.poll_flush(cx)) {
                    Ok(()) if starved => return Poll::Pending,
                    Ok(()) => self.stage = Stage::Sent,
                    Err(_) => self.cut = true,
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn load(&mut self, piece: Bytes, wire: &mut Wire) -> Result<(), Failure> {
        if piece.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            Framing::Bodyless => return Err(Failure::Internal),
            Framing::Length(left) => {
                // More than announced would be read as another request.
                *left = left
                    .checked_sub(piece.len() as u64)
                    .ok_or(Failure::BodyBroken)?;
                // The end is not asked for: waiting for it would be the client's turn, which is over.
                if *left == 0 {
                    self.stage = Stage::Last;
                }
            }
            Framing::Chunked => {
                frame(wire, piece.len());
                self.trail = CRLF;
            }
        }
        self.piece = piece;
        Ok(())
    }

    fn end(&mut self, wire: &mut Wire) -> Result<(), Failure> {
        match self.framing {
            Framing::Length(1..) => return Err(Failure::BodyBroken),
            Framing::Bodyless | Framing::Length(0) => {}
            Framing::Chunked => wire.append().extend_from_slice(b"0\r\n\r\n"),
        }
        self.stage = Stage::Last;
        Ok(())
    }
}

/// A chunk's size line.
fn frame(wire: &mut Wire, length: usize) {
    use std::io::Write as _;
    // Writing to a vector cannot fail.
    let written = write!(wire.append(), "{length:x}\r\n");
    debug_assert!(written.is_ok());
}

const CRLF: &[u8] = b"\r\n";
