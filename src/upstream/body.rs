//! The client's request body on its way up: counted, bounded in size, and timed by turns.
//!
//! Whose turn is it? After a piece has been handed on, the upstream's (it may be slow to take it); while we wait for the next
//! piece, the client's. Request trailers end here: none of the applications behind us is promised them, and a trailer must not
//! become a way around the head's hygiene.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::clock::{Clock, Phase};
use crate::value::failure::Failure;

/// What became of a request body, readable while the body itself is in the upstream connection's hands.
#[derive(Debug, Default)]
pub struct Tally {
    /// Bytes taken from the client.
    pub bytes: Cell<u64>,
    /// Why the body broke off.
    pub failure: Cell<Option<Failure>>,
    /// Whether the end was read.
    pub complete: Cell<bool>,
}

/// A request body.
#[derive(Debug)]
pub enum RequestBody {
    /// None.
    Empty,
    /// The client's.
    Client(ClientBody),
    /// What a test feeds, and the length it announces.
    #[cfg(test)]
    Fed(
        tokio::sync::mpsc::UnboundedReceiver<Result<Bytes, Failure>>,
        Option<u64>,
    ),
}

/// The client's body, streaming.
#[derive(Debug)]
pub struct ClientBody {
    incoming: Incoming,
    limit: u64,
    clock: Rc<Clock>,
    tally: Rc<Tally>,
    client_patience: Duration,
    upstream_patience: Duration,
    ended: Cell<bool>,
}

impl ClientBody {
    /// Wraps what hyper read. `limit` is in bytes; `client_patience` bounds the wait between two reads, `upstream_patience` the
    /// time the upstream may take over a piece.
    #[must_use]
    pub fn new(
        incoming: Incoming,
        limit: u64,
        clock: Rc<Clock>,
        tally: Rc<Tally>,
        client_patience: Duration,
        upstream_patience: Duration,
    ) -> Self {
        clock.begin_upload();
        Self {
            incoming,
            limit,
            clock,
            tally,
            client_patience,
            upstream_patience,
            ended: Cell::new(false),
        }
    }

    fn turn(&self, phase: Phase, patience: Duration) {
        // Once the answer streams down, the connection's deadline is the answer's.
        if matches!(self.clock.phase(), Phase::Upload | Phase::Await) {
            self.clock.enter(phase, patience);
        }
    }

    /// Nothing more is wanted of the client.
    fn end(&self) {
        // Whoever drops a body that was read to its end must not speak for the next request's.
        if !self.ended.replace(true) {
            self.clock.end_upload();
        }
    }

    fn fail(&self, failure: Failure) -> BodyError {
        self.tally.failure.set(Some(failure));
        BodyError(failure)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        self.end();
    }
}

/// The body broke off.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("request body: {0}")]
pub struct BodyError(pub Failure);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client(body) => body.poll(cx),
            #[cfg(test)]
            Self::Fed(pieces, _) => pieces
                .poll_recv(cx)
                .map(|next| next.map(|piece| piece.map(Frame::data).map_err(BodyError))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.incoming.is_end_stream(),
            #[cfg(test)]
            Self::Fed(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.incoming.size_hint(),
            #[cfg(test)]
            Self::Fed(_, length) => length.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl ClientBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_pending() {
            if self.clock.phase() != Phase::Upload {
                self.turn(Phase::Upload, self.client_patience);
                // The connection's task must see the nearer deadline.
                self.clock.wake_from(cx.waker());
            }
            return Poll::Pending;
        }
        self.turn(Phase::Await, self.upstream_patience);
        match ready!(polled) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => {
                    let total = self.tally.bytes.get().saturating_add(piece.len() as u64);
                    self.tally.bytes.set(total);
                    if total > self.limit {
                        return Poll::Ready(Some(Err(self.fail(Failure::BodyTooLarge))));
                    }
                    Poll::Ready(Some(Ok(Frame::data(piece))))
                }
                // Trailers end here: the body is complete.
                Err(_trailers) => {
                    self.tally.complete.set(true);
                    self.end();
                    Poll::Ready(None)
                }
            },
            Some(Err(_broken)) => Poll::Ready(Some(Err(self.fail(Failure::BodyBroken)))),
            None => {
                self.tally.complete.set(true);
                self.end();
                Poll::Ready(None)
            }
        }
    }
}
