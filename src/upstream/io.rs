//! The byte stream of one upstream connection, whatever it runs over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// A connection to an upstream server.
#[derive(Debug)]
pub enum UpstreamIo {
    /// Clear text over TCP.
    Tcp(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
    /// A Unix socket.
    Unix(UnixStream),
    /// The demo application inside this process.
    Demo(DuplexStream),
}

impl UpstreamIo {
    /// Whether the server chose HTTP/2 in the TLS handshake (ALPN, RFC 7301).
    pub(super) fn speaks_http2(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            Self::Tcp(_) | Self::Unix(_) | Self::Demo(_) => false,
        }
    }
}

macro_rules! each {
    ($self:ident, $io:ident => $call:expr) => {
        match $self.get_mut() {
            UpstreamIo::Tcp($io) => $call,
            UpstreamIo::Tls(boxed) => {
                let $io = boxed.as_mut();
                $call
            }
            UpstreamIo::Unix($io) => $call,
            UpstreamIo::Demo($io) => $call,
        }
    };
}

impl AsyncRead for UpstreamIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => patient(Pin::new(io).poll_write(cx, buf)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => patient(Pin::new(io).poll_flush(cx)))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => patient(Pin::new(io).poll_write_vectored(cx, bufs)))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
            Self::Unix(io) => io.is_write_vectored(),
            Self::Demo(io) => io.is_write_vectored(),
        }
    }
}

/// A server may answer and close before it has read the whole request (RFC 9112 §9.6: a 413, for example). Writing then fails,
/// and hyper would end the connection with its answer unread. So a peer that takes no more is only waited for: reading brings
/// its answer, or the same end.
fn patient<T>(written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
    match written {
        Poll::Ready(Err(error)) if gone(&error) => Poll::Pending,
        other @ (Poll::Ready(_) | Poll::Pending) => other,
    }
}

fn gone(error: &io::Error) -> bool {
    [
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionAborted,
    ]
    .contains(&error.kind())
}
