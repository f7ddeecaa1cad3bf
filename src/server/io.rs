//! The byte stream of one client connection, metered.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::frames::{Frames, Tally};
use crate::snapshot::Limits;
use crate::upstream::{Clock, Phase};

/// A client's socket.
#[derive(Debug)]
pub(crate) enum ClientStream {
    /// Clear text.
    Tcp(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// What went over a connection. Cells only: it lives on one worker.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Bytes read since the last request head began.
    pub(crate) head_bytes: Cell<u64>,
    /// Whether the client has ended its sending.
    pub(crate) ended: Cell<bool>,
    /// Whether the client does not take what was written.
    pub(crate) blocked: Cell<bool>,
    /// Bytes of a tunnel, from the client and to it.
    pub(crate) tunnel: [Cell<u64>; 2],
    /// Whether the request line is still being read.
    in_line: Cell<bool>,
}

/// A client's socket that moves the clock: the first byte after an idle time begins a request head.
#[derive(Debug)]
pub(crate) struct ClientIo {
    stream: ClientStream,
    clock: Rc<Clock>,
    meter: Rc<Meter>,
    fragment: Rc<Cell<bool>>,
    head_patience: Duration,
    idle_patience: Duration,
    tunnel_patience: Duration,
    /// Bytes that were read already, to be read again first.
    ahead: Bytes,
    /// On an HTTP/2 connection: its frames are watched.
    watched: Option<(Frames, Rc<Tally>)>,
}

impl ClientIo {
    /// Wraps a socket. `fragment` is set when a request line holds a `#`, which hyper would cut off silently.
    pub(crate) fn new(
        stream: ClientStream,
        clock: Rc<Clock>,
        meter: Rc<Meter>,
        fragment: Rc<Cell<bool>>,
        limits: &Limits,
    ) -> Self {
        meter.in_line.set(true);
        Self {
            stream,
            clock,
            meter,
            fragment,
            head_patience: limits.header_timeout,
            idle_patience: limits.idle_timeout,
            tunnel_patience: limits.stream_idle_timeout,
            ahead: Bytes::new(),
            watched: None,
        }
    }

    /// Watches the frames of HTTP/2 from here on.
    pub(crate) fn watch(&mut self) -> Rc<Tally> {
        let tally = Rc::new(Tally::default());
        self.watched = Some((Frames::new(Rc::clone(&tally)), Rc::clone(&tally)));
        tally
    }

    /// What a read brought: a request head's bytes, or frames.
    fn took(&mut self, piece: &[u8]) -> io::Result<()> {
        match &mut self.watched {
            Some((frames, _)) => frames.see(piece).map_err(refused),
            None => {
                self.read(piece);
                Ok(())
            }
        }
    }

    /// What a write has taken.
    fn gave(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(outcome), Some((_, tally))) = (&polled, &self.watched) {
            match outcome {
                Ok(count) => tally.wrote(*count),
                Err(_) => tally.broken.set(true),
            }
        }
        polled
    }

    /// Whether the client chose HTTP/2 in the TLS handshake (ALPN, RFC 7301).
    pub(crate) fn speaks_http2(&self) -> bool {
        match &self.stream {
            ClientStream::Tcp(_) => false,
            ClientStream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Becomes one side of a tunnel that may be silent for so long.
    pub(crate) fn tunnel(&mut self, patience: Duration) {
        self.tunnel_patience = patience;
        self.meter.tunnel.iter().for_each(|count| count.set(0));
    }

    /// What went over the connection.
    pub(crate) fn meter(&self) -> Rc<Meter> {
        Rc::clone(&self.meter)
    }

    /// Has bytes read once more: they were taken from the socket, and whoever took them has left.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        self.ahead = bytes;
    }

    fn read(&self, piece: &[u8]) {
        let phase = self.clock.phase();
        match phase {
            // The rest of a body whose answer is out already.
            Phase::Idle if self.clock.uploading() => {
                self.clock.enter(Phase::Idle, self.idle_patience);
            }
            Phase::Idle => {
                self.clock.enter(Phase::Head, self.head_patience);
                self.meter.head_bytes.set(0);
                self.meter.in_line.set(true);
            }
            Phase::Tunnel => {
                let [up, _] = &self.meter.tunnel;
                up.set(up.get() + piece.len() as u64);
                self.clock.enter(Phase::Tunnel, self.tunnel_patience);
            }
            Phase::Head
            | Phase::Judge
            | Phase::Connect
            | Phase::Upload
            | Phase::Await
            | Phase::Stream => {}
        }
        self.meter
            .head_bytes
            .set(self.meter.head_bytes.get() + piece.len() as u64);
        if self.meter.in_line.get() {
            self.scan(piece);
        }
    }

    /// Notes whether the client takes what is written: while it does, it is not late.
    fn written<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let pending = polled.is_pending();
        let moved = !pending && self.meter.blocked.get();
        self.meter.blocked.set(pending);
        if moved {
            self.moved();
        }
        polled
    }

    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = polled
            && self.clock.phase() == Phase::Tunnel
        {
            let [_, down] = &self.meter.tunnel;
            down.set(down.get() + count as u64);
            self.clock.enter(Phase::Tunnel, self.tunnel_patience);
        }
        self.written(polled)
    }

    #[cold]
    fn moved(&self) {
        match self.clock.phase() {
            // The whole answer is written but for what the client has not taken yet.
            Phase::Idle => self.clock.enter(Phase::Idle, self.idle_patience),
            Phase::Stream if self.clock.deadline() < Instant::now() + self.idle_patience => {
                self.clock.enter(Phase::Stream, self.idle_patience);
            }
            Phase::Stream
            | Phase::Tunnel
            | Phase::Head
            | Phase::Judge
            | Phase::Connect
            | Phase::Upload
            | Phase::Await => {}
        }
    }

    /// Looks for a fragment in the request line (RFC 9112 §3.2 has none).
    fn scan(&self, piece: &[u8]) {
        // Empty lines before a request line are skipped by parsers (RFC 9112 §2.2).
        let piece = if self.meter.head_bytes.get() == piece.len() as u64 {
            piece.trim_ascii_start()
        } else {
            piece
        };
        let line = piece
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        if line.contains(&b'#') {
            self.fragment.set(true);
        }
        if line.len() < piece.len() {
            self.meter.in_line.set(false);
        }
    }
}

/// The end of reading, as the reader above sees it.
fn refused(word: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, word)
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let length = this.ahead.len().min(buf.remaining());
            let piece = this.ahead.split_to(length);
            buf.put_slice(&piece);
            return Poll::Ready(match &mut this.watched {
                Some((frames, _)) => frames.see(&piece).map_err(refused),
                None => Ok(()),
            });
        }
        let before = buf.filled().len();
        let room = buf.remaining();
        let polled = match &mut this.stream {
            ClientStream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            ClientStream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        };
        if let (Poll::Ready(Err(_)), Some((_, tally))) = (&polled, &this.watched) {
            tally.broken.set(true);
        }
        if matches!(polled, Poll::Ready(Ok(()))) {
            let piece = buf.filled().get(before..).unwrap_or_default();
            if piece.is_empty() && room > 0 {
                this.meter.ended.set(true);
            } else {
                return Poll::Ready(this.took(piece));
            }
        }
        polled
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = match &mut this.stream {
            ClientStream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            ClientStream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        };
        let polled = this.gave(polled);
        this.wrote(polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = match &mut this.stream {
            ClientStream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            ClientStream::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
        };
        let polled = this.gave(polled);
        this.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            ClientStream::Tcp(stream) => stream.is_write_vectored(),
            ClientStream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = match &mut this.stream {
            ClientStream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            ClientStream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        };
        this.written(polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            ClientStream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            ClientStream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
