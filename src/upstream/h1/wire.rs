//! One connection: the socket and its two buffers.
//!
//! The read buffer adapts. It begins small, doubles as long as reads fill it, and is given up when the connection rests: a
//! large body costs few system calls, an idle connection almost nothing. Bodies leave as slices of it; when all slices are
//! gone the same memory is used again.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::io::UpstreamIo;

/// A connection to an upstream server.
#[derive(Debug)]
pub struct Wire {
    io: UpstreamIo,
    /// Read and not yet understood.
    pub(super) read: BytesMut,
    /// How much to read at once.
    target: usize,
    /// A request head, and the framing of a body.
    out: Vec<u8>,
    /// How much of `out` has been written.
    written: usize,
    /// When it was last used.
    pub(crate) idle_since: Instant,
}

impl Wire {
    /// A fresh connection.
    #[must_use]
    pub(crate) fn new(io: UpstreamIo, now: Instant) -> Self {
        Self {
            io,
            read: BytesMut::new(),
            target: READ_FIRST,
            out: Vec::new(),
            written: 0,
            idle_since: now,
        }
    }

    /// Begins a request: hands out the empty buffer for its head.
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        self.out.clear();
        self.written = 0;
        &mut self.out
    }

    /// The buffer behind what has not left yet.
    pub(super) fn append(&mut self) -> &mut Vec<u8> {
        if self.is_written() {
            self.begin()
        } else {
            &mut self.out
        }
    }

    /// Takes over the unanswered request of a connection that died.
    pub(crate) fn inherit(&mut self, dead: Self) {
        self.out = dead.out;
        self.written = 0;
    }

    /// Whether an idle connection can carry a request: open, and silent. An upstream that speaks unasked is out of step
    /// (RFC 9112 §9.2). No system call unless the reactor has seen something.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut byte = [0_u8; 1];
        let mut probe = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        self.read.is_empty()
            && Pin::new(&mut self.io)
                .poll_read(&mut cx, &mut probe)
                .is_pending()
    }

    /// Gives up a large read buffer, on the way back to the pool.
    pub(crate) fn settle(&mut self) {
        if self.target > READ_KEPT {
            self.rest();
        }
    }

    /// Gives up the buffers of a connection that nobody has used for a while.
    pub(crate) fn rest(&mut self) {
        if self.read.is_empty() && self.read.capacity() > 0 {
            self.read = BytesMut::new();
            self.out = Vec::new();
            self.target = READ_FIRST;
        }
    }

    /// Reads more. `hint` is how much the reader hopes for. Ready with 0 at the end.
    ///
    /// # Errors
    /// As the socket says.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, hint: u64) -> Poll<io::Result<usize>> {
        let hint = usize::try_from(hint).unwrap_or(usize::MAX);
        let room = self.read.capacity() - self.read.len();
        if room < hint.min(self.target / 2) && !self.read.try_reclaim(self.target) {
            if self.read.is_empty() {
                // Not `reserve`, which doubles what is there.
                self.read = BytesMut::with_capacity(self.target);
            } else {
                self.read.reserve(self.target);
            }
        }
        let room = self.target.min(self.read.capacity() - self.read.len());
        let mut limited = (&mut self.read).limit(room);
        let io = Pin::new(&mut self.io);
        let length = ready!(tokio_util::io::poll_read_buf(io, cx, &mut limited))?;
        if length == self.target {
            self.target = (self.target * 2).min(READ_MOST);
        }
        Poll::Ready(Ok(length))
    }

    /// Announces that so much is to be read, so that the buffer need not grow step by step. One step only: the next answer
    /// then comes in one read, though it be a little larger.
    pub(super) fn expect(&mut self, length: u64) {
        if length > self.target as u64 {
            self.target = self.target.max(READ_KEPT);
        }
    }

    /// Whether `out` has left.
    pub(super) fn is_written(&self) -> bool {
        self.written >= self.out.len()
    }

    /// Writes what is left of `out`, then `piece` and `trail`, as far as the socket takes it. Answers how many bytes of
    /// `piece` and `trail` left.
    ///
    /// # Errors
    /// As the socket says.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        piece: &[u8],
        trail: &[u8],
    ) -> Poll<io::Result<Written>> {
        let out = self.out.get(self.written..).unwrap_or_default();
        let io = Pin::new(&mut self.io);
        let all = if piece.is_empty() && trail.is_empty() {
            ready!(io.poll_write(cx, out))?
        } else {
            let slices = [IoSlice::new(out), IoSlice::new(piece), IoSlice::new(trail)];
            ready!(io.poll_write_vectored(cx, &slices))?
        };
        if all == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let head = all.min(out.len());
        self.written += head;
        Poll::Ready(Ok(Written {
            all,
            body: all - head,
        }))
    }

    /// Sees that what was written leaves (TLS keeps records back).
    ///
    /// # Errors
    /// As the socket says.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

/// What a write took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// Bytes in all.
    pub(super) all: usize,
    /// Those beyond `out`.
    pub(super) body: usize,
}

/// What a reader hopes for that knows no length; half of a smaller buffer does.
pub(super) const READ_HOPED: u64 = 64 * 1024;
/// The first read buffer: head and body of most answers.
const READ_FIRST: usize = 8 * 1024;
/// The largest buffer that a connection keeps between requests, and what an announced length asks for at once: applications
/// like to answer with 64 KiB, behind a head.
const READ_KEPT: usize = 68 * 1024;
/// The largest buffer. With a piece on its way to the client beside it, a transfer stays far below 1 MiB.
const READ_MOST: usize = 256 * 1024;
