//! A WebSocket on one stream of an HTTP/2 connection (RFC 8441).
//!
//! The client's extended CONNECT becomes the handshake that HTTP/1.1 knows (RFC 6455 §4.1): GET with a key of ours. So it is
//! judged, logged and forwarded as any other WebSocket, and the gate checks the upstream's answer to the key. Its 101 becomes
//! 200, and the stream a tunnel. Any other protocol, and a plain CONNECT, stay what they are: 405.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::io::Meter;
use super::tunnel;
use crate::proxy::Connection;
use crate::proxy::body::GateBody;
use crate::upstream::{Clock, Phase};

/// An extended CONNECT that asks for a WebSocket.
#[derive(Debug)]
pub(super) struct Handshake {
    stream: OnUpgrade,
    /// What the upstream must say to our key.
    pub(super) accept: Box<str>,
}

/// Makes the request a handshake of HTTP/1.1, if it asks for a WebSocket.
pub(super) fn begin(request: &mut Request<Incoming>) -> Option<Handshake> {
    if request.method() != Method::CONNECT {
        return None;
    }
    let protocol = request.extensions_mut().remove::<Protocol>()?;
    if protocol.as_str() != "websocket" {
        return None;
    }
    let mut nonce = [0; 16];
    rand::fill(&mut nonce).ok()?;
    let key = STANDARD.encode(nonce);
    let stream = hyper::upgrade::on(&mut *request);
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.remove(SEC_WEBSOCKET_ACCEPT);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::try_from(&key).ok()?);
    Some(Handshake {
        stream,
        accept: accept(&key),
    })
}

/// What proves that the key was read (RFC 6455 §4.2.2).
fn accept(key: &str) -> Box<str> {
    let joined = [key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, joined.as_bytes());
    STANDARD.encode(hash).into()
}

impl Handshake {
    /// The answer as HTTP/2 says it. Where the upstream agreed, the tunnel begins once that is written.
    pub(super) fn finish(
        self,
        answer: Response<GateBody>,
        stream: &Rc<Connection>,
    ) -> Response<GateBody> {
        let Some(mut tunnel) = stream.tunnel.take() else {
            return answer;
        };
        let (mut head, body) = answer.into_parts();
        head.status = StatusCode::OK;
        tunnel.exchange.record.status = head.status.as_u16();
        for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT] {
            head.headers.remove(name);
        }
        let clock = Rc::clone(&stream.clock);
        tokio::task::spawn_local(async move {
            // Otherwise the client has left.
            if let Ok(upgraded) = self.stream.await {
                let client = Stream {
                    io: TokioIo::new(upgraded),
                    meter: Rc::default(),
                    clock: Rc::clone(&clock),
                    patience: tunnel.patience,
                };
                let meter = Rc::clone(&client.meter);
                tunnel::carry(client, &meter, Default::default(), tunnel, &clock).await;
            }
        });
        Response::from_parts(head, body)
    }
}

/// The client's side of a tunnel: every byte is counted, and moves the deadline.
struct Stream<S> {
    io: S,
    meter: Rc<Meter>,
    clock: Rc<Clock>,
    patience: Duration,
}

impl<S> Stream<S> {
    fn moved(&self, way: fn(&Meter) -> &std::cell::Cell<u64>, bytes: usize) {
        let count = way(&self.meter);
        count.set(count.get() + bytes as u64);
        self.clock.enter(Phase::Tunnel, self.patience);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, into);
        let read = into.filled().len() - before;
        if read > 0 {
            this.moved(|meter| &meter.tunnel[0], read);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = polled {
            this.moved(|meter| &meter.tunnel[1], count);
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_standard() {
        // RFC 6455 §1.3.
        assert_eq!(
            &*accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
