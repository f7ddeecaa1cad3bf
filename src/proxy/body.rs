//! The one type of response bodies: ours in one piece, or the upstream's as it comes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap};
use http_body::{Body, Frame, SizeHint};

use super::again::{Again, Cut};
use super::compress::{self, Compressed, Wish};
use super::exchange::Exchange;
use crate::respond::Coding;
use crate::upstream::{BodyBroken, Phase, UpstreamBody};
use crate::value::failure::Failure;

/// A response body. It carries the exchange, so that the access record closes with the last byte.
#[derive(Debug)]
pub struct GateBody {
    kind: Kind,
    exchange: Option<Box<Exchange>>,
    /// How long the answer may make no progress.
    patience: Duration,
    /// Whether the upstream was asked for more and has sent nothing yet.
    waiting: bool,
    /// Whether nobody has waited since the head: the clock has just been set.
    fresh: bool,
    again: Again,
}

/// Why a response body breaks off.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The upstream's did.
    #[error(transparent)]
    Upstream(#[from] BodyBroken),
    /// The right to it is gone.
    #[error("cut: {}", .0.code())]
    Cut(Cut),
}

#[derive(Debug)]
enum Kind {
    Whole(Bytes),
    Upstream(UpstreamBody),
    Compressed(Box<Compressed>),
}

impl GateBody {
    /// A body of ours.
    #[must_use]
    pub const fn whole(bytes: Bytes, exchange: Option<Box<Exchange>>, patience: Duration) -> Self {
        Self {
            kind: Kind::Whole(bytes),
            exchange,
            patience,
            waiting: false,
            fresh: true,
            again: Again::new(),
        }
    }

    /// An upstream's body.
    #[must_use]
    pub const fn upstream(body: UpstreamBody, exchange: Box<Exchange>, patience: Duration) -> Self {
        Self {
            kind: Kind::Upstream(body),
            exchange: Some(exchange),
            patience,
            waiting: false,
            fresh: true,
            again: Again::new(),
        }
    }

    /// What becomes of it.
    pub(super) fn wish(&self) -> Wish {
        self.exchange
            .as_ref()
            .map_or(Wish::Off, |exchange| exchange.coding)
    }

    /// Whose it is.
    pub(super) fn exchange(&self) -> Option<&Exchange> {
        self.exchange.as_deref()
    }

    /// Whether it is ours, in one piece.
    pub(super) const fn is_whole(&self) -> bool {
        matches!(self.kind, Kind::Whole(_))
    }

    /// Its length, as its head says or as it is.
    pub(super) fn length(&self, headers: &HeaderMap) -> Option<u64> {
        let said = headers.get(CONTENT_LENGTH);
        let said = said.and_then(|value| value.to_str().ok()?.parse().ok());
        match &self.kind {
            Kind::Whole(bytes) => said.or_else(|| u64::try_from(bytes.len()).ok()),
            Kind::Upstream(_) | Kind::Compressed(_) => said,
        }
    }

    /// The same body in a coding.
    ///
    /// # Errors
    /// The body as it was, where there is no coder.
    pub(super) fn compressed(
        mut self,
        coding: Coding,
        length: Option<u64>,
    ) -> Result<Self, Box<Self>> {
        let (kind, coded) = match std::mem::replace(&mut self.kind, Kind::Whole(Bytes::new())) {
            Kind::Whole(bytes) => match compress::whole(&bytes, coding) {
                Some(bytes) => (Kind::Whole(bytes), true),
                None => (Kind::Whole(bytes), false),
            },
            Kind::Upstream(body) => match Compressed::new(body, coding, length) {
                Ok(body) => (Kind::Compressed(Box::new(body)), true),
                Err(body) => (Kind::Upstream(body), false),
            },
            body @ Kind::Compressed(_) => (body, false),
        };
        self.kind = kind;
        if coded { Ok(self) } else { Err(Box::new(self)) }
    }

    /// What came of asking the upstream for more.
    fn passed(
        &mut self,
        polled: Poll<Option<Result<Frame<Bytes>, BodyBroken>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.waiting = polled.is_pending();
        self.fresh &= !self.waiting;
        let next = ready!(polled);
        match &next {
            Some(Ok(frame)) => self.moved(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(_)) => {
                if let Some(exchange) = &mut self.exchange {
                    exchange.broke(Failure::ResponseBroken);
                }
            }
            None => {}
        }
        Poll::Ready(next.map(|next| next.map_err(Broken::from)))
    }

    fn moved(&mut self, bytes: usize) {
        if let Some(exchange) = &mut self.exchange {
            exchange.record.response_body += bytes as u64;
            if !std::mem::take(&mut self.fresh) {
                let clock = &exchange.connection().clock;
                clock.enter(Phase::Stream, self.patience);
            }
        }
    }
}

impl Body for GateBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if !this.is_whole()
            && let Some(exchange) = &mut this.exchange
            && exchange.connection().clock.asked_again()
            && let Some(gone) = ready!(this.again.poll(exchange, cx))
        {
            exchange.cut(&gone);
            return Poll::Ready(Some(Err(Broken::Cut(gone.cut))));
        }
        match &mut this.kind {
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                if bytes.is_empty() {
                    return Poll::Ready(None);
                }
                this.moved(bytes.len());
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Upstream(body) => {
                let polled = Pin::new(body).poll_frame(cx);
                this.passed(polled)
            }
            Kind::Compressed(body) => {
                let polled = body.poll_frame(cx);
                this.passed(polled)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Upstream(body) => body.is_end_stream(),
            Kind::Compressed(body) => body.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Upstream(body) => body.size_hint(),
            Kind::Compressed(_) => SizeHint::default(),
        }
    }
}

impl Drop for GateBody {
    fn drop(&mut self) {
        let cut = match &self.kind {
            Kind::Whole(_) => false,
            Kind::Upstream(body) => !body.is_end_stream(),
            Kind::Compressed(body) => !body.is_over(),
        };
        if let (true, Some(exchange)) = (cut, &mut self.exchange)
            && exchange.record.error.is_none()
        {
            // Who was waited for when the time was over?
            let late = exchange.connection().clock.deadline() <= Instant::now();
            exchange.broke(if self.waiting && late {
                Failure::ResponseBroken
            } else {
                Failure::ClientGone
            });
        }
    }
}
