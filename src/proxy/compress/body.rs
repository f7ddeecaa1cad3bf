//! An upstream's body, compressed as it comes.
//!
//! What comes in is coded at once and goes out in pieces; where the upstream pauses, what it has sent so far goes out too, so that
//! nobody waits for words that are there. Nothing is read before it can be written: what is held is the coder's window and a
//! piece. A body that breaks off stays broken: it gets no proper end.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};

use super::coder::Coder;
use crate::respond::Coding;
use crate::upstream::{BodyBroken, UpstreamBody};

/// A body on its way through a coder.
#[derive(Debug)]
pub struct Compressed {
    source: UpstreamBody,
    coder: Coder,
    state: State,
    _place: Place,
}

/// One of the places for coders at work on this worker: what they hold all together is bounded.
#[derive(Debug)]
pub(super) struct Place(());

impl Place {
    /// A place, if there is one.
    pub(super) fn take() -> Option<Self> {
        TAKEN.with(|taken| {
            let free = taken.get() < PLACES;
            free.then(|| {
                taken.set(taken.get() + 1);
                Self(())
            })
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        TAKEN.with(|taken| taken.set(taken.get().saturating_sub(1)));
    }
}

thread_local! {
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

#[derive(Debug)]
enum State {
    /// All that came in has gone out.
    Clean,
    /// The coder holds something back.
    Dirty,
    /// The coder has ended; these trailers are left.
    Trailers(HeaderMap),
    /// Nothing is left.
    Over,
}

type Next = Option<Result<Frame<Bytes>, BodyBroken>>;

impl Compressed {
    /// A body to be coded, of which the length may be known.
    ///
    /// # Errors
    /// The body, where all places are taken, or there is no such coder.
    pub(in crate::proxy) fn new(
        source: UpstreamBody,
        coding: Coding,
        length: Option<u64>,
    ) -> Result<Self, UpstreamBody> {
        let coder = Place::take().zip(Coder::begin(coding, length));
        let Some((place, coder)) = coder else {
            return Err(source);
        };
        Ok(Self {
            source,
            coder,
            state: State::Clean,
            _place: place,
        })
    }

    /// Whether the last frame is out.
    pub(in crate::proxy) const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// The next piece, its trailers, or its end.
    pub(in crate::proxy) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Over => return Poll::Ready(None),
            State::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            before @ (State::Clean | State::Dirty) => self.state = before,
        }
        loop {
            let next = match Pin::new(&mut self.source).poll_frame(cx) {
                Poll::Ready(next) => next,
                Poll::Pending => return self.pause(),
            };
            match next.transpose() {
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let coded = self.coder.write(&data);
                        self.state = State::Dirty;
                        if let Err(error) = coded {
                            return self.fail(error);
                        }
                        if self.coder.ready() >= PIECE {
                            return Poll::Ready(Some(Ok(Frame::data(self.coder.take()))));
                        }
                    }
                    Err(frame) => return self.end(frame.into_trailers().ok()),
                },
                Ok(None) => return self.end(None),
                Err(broken) => {
                    self.state = State::Over;
                    return Poll::Ready(Some(Err(broken)));
                }
            }
        }
    }

    /// The upstream has no more for now.
    fn pause(&mut self) -> Poll<Next> {
        match self.state {
            State::Dirty => {}
            State::Clean | State::Trailers(_) | State::Over => return Poll::Pending,
        }
        self.state = State::Clean;
        if let Err(error) = self.coder.flush() {
            return self.fail(error);
        }
        if self.coder.ready() == 0 {
            return Poll::Pending;
        }
        // The upstream will wake us; it is asked again when this piece has been written.
        Poll::Ready(Some(Ok(Frame::data(self.coder.take()))))
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Poll<Next> {
        if let Err(error) = self.coder.finish() {
            return self.fail(error);
        }
        self.state = trailers.map_or(State::Over, State::Trailers);
        if self.coder.ready() > 0 {
            return Poll::Ready(Some(Ok(Frame::data(self.coder.take()))));
        }
        self.poll_rest()
    }

    fn poll_rest(&mut self) -> Poll<Next> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Trailers(trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            State::Clean | State::Dirty | State::Over => Poll::Ready(None),
        }
    }

    fn fail(&mut self, error: io::Error) -> Poll<Next> {
        self.state = State::Over;
        Poll::Ready(Some(Err(BodyBroken::Coding(error))))
    }
}

/// Answers that are compressed at once on a worker, of 1.5 MiB at most; the others go as they are.
pub(super) const PLACES: usize = 256;

/// Bytes that go out as soon as there are so many.
const PIECE: usize = 16 * 1024;
