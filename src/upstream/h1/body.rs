//! A response body as it comes. At its end the connection goes back to the pool; dropped before it, the connection is closed.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::decode::{Decoder, Next};
use super::response::{Framing, Keep};
use super::upload::Upload;
use super::wire::{READ_HOPED, Wire};
use super::{Broken, Malformed};
use crate::upstream::seat::Seat;

/// A response body, and the rest of a request body on its way up.
#[derive(Debug)]
pub struct LeanBody {
    decoder: Decoder,
    /// What came with the head.
    ready: Bytes,
    trailers: Option<Box<HeaderMap>>,
    failed: Option<Malformed>,
    lease: Option<Lease>,
    /// What the upstream has not taken yet.
    upload: Option<Box<Upload>>,
}

/// The connection while it is in use.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) wire: Box<Wire>,
    pub(crate) keep: Keep,
    pub(crate) seat: Seat,
}

impl LeanBody {
    /// The body behind a head. What has been read of it already is taken at once: a small answer needs the connection no more.
    pub(crate) fn new(framing: Framing, lease: Lease, upload: Upload) -> Self {
        let upload = (!upload.is_sent()).then(|| Box::new(upload));
        let mut body = Self {
            decoder: Decoder::new(framing),
            ready: Bytes::new(),
            trailers: None,
            failed: None,
            lease: Some(lease),
            upload,
        };
        match body.decode() {
            Ok(Next::Piece(piece)) => body.ready = piece,
            Ok(Next::Trailers(trailers)) => body.trailers = Some(Box::new(trailers)),
            Ok(Next::End | Next::Starved) => {}
            Err(malformed) => body.failed = Some(malformed),
        }
        body
    }

    /// The next piece of what has been read, and what stands behind it if that is the end.
    fn decode(&mut self) -> Result<Next, Malformed> {
        let Some(lease) = &mut self.lease else {
            return Ok(Next::End);
        };
        let read = &mut lease.wire.read;
        let next = self.decoder.next(read)?;
        match &next {
            // A chunked body ends behind its last piece: looking now saves the reader a turn, and frees the connection.
            Next::Piece(_) if !self.decoder.is_done() => match self.decoder.advance(read) {
                Ok(Some(Next::Trailers(trailers))) => self.trailers = Some(Box::new(trailers)),
                Ok(Some(Next::End | Next::Starved | Next::Piece(_)) | None) => {}
                Err(malformed) => self.failed = Some(malformed),
            },
            Next::Piece(_) | Next::Trailers(_) | Next::End | Next::Starved => {}
        }
        if self.decoder.is_done() {
            self.release();
        }
        Ok(next)
    }

    /// The response is complete. The connection lives on if nothing is left over in either direction.
    fn release(&mut self) {
        let Some(mut lease) = self.lease.take() else {
            return;
        };
        let spent = self.upload.take().is_none() && lease.wire.read.is_empty();
        if spent && lease.keep == Keep::Alive {
            lease.wire.settle();
            lease.seat.member.check_in_lean(lease.wire);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Broken>> {
        if !self.ready.is_empty() {
            return Poll::Ready(Ok(Some(Frame::data(std::mem::take(&mut self.ready)))));
        }
        if let Some(malformed) = self.failed.take() {
            return Poll::Ready(Err(malformed.into()));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Ok(Some(Frame::trailers(*trailers))));
        }
        if let (Some(upload), Some(lease)) = (&mut self.upload, &mut self.lease)
            && let Poll::Ready(outcome) = upload.poll(cx, &mut lease.wire)
        {
            outcome.map_err(Broken::Request)?;
            if !upload.is_sent() {
                lease.keep = Keep::Close;
            }
            self.upload = None;
        }
        loop {
            match self.decode()? {
                Next::Piece(piece) => return Poll::Ready(Ok(Some(Frame::data(piece)))),
                Next::Trailers(trailers) => {
                    return Poll::Ready(Ok(Some(Frame::trailers(trailers))));
                }
                Next::End => return Poll::Ready(Ok(None)),
                Next::Starved => {}
            }
            let Some(lease) = &mut self.lease else {
                return Poll::Ready(Ok(None));
            };
            let left = self.decoder.left();
            if let Some(left) = left {
                lease.wire.expect(left);
            }
            if ready!(lease.wire.poll_read(cx, left.unwrap_or(READ_HOPED)))? == 0 {
                if !self.decoder.end() {
                    return Poll::Ready(Err(Broken::Truncated));
                }
                self.lease = None;
                return Poll::Ready(Ok(None));
            }
        }
    }
}

impl Body for LeanBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let next = ready!(this.poll(cx));
        if next.is_err() {
            // INVARIANT: a connection that is out of step carries nothing more, and its body never looks complete.
            this.lease = None;
        }
        Poll::Ready(next.transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.decoder.is_done() && self.ready.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.decoder.left() {
            // Behind trailers, a length would have no place.
            Some(left) if self.trailers.is_none() => {
                SizeHint::with_exact(left + self.ready.len() as u64)
            }
            Some(_) | None => SizeHint::default(),
        }
    }
}
