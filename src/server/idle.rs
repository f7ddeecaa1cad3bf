//! A connection that waits for its next request: it holds no HTTP buffers, only the socket and a few words.
//!
//! hyper keeps two buffers of 8 KiB for as long as a connection lives. Kept-alive connections mostly wait; after a moment
//! without a request this takes them over, and the first byte gives them back.

use std::task::Poll;

use bytes::Bytes;
use tokio::io::{AsyncRead as _, ReadBuf};

use super::io::ClientIo;
use super::worker::Worker;
use crate::upstream::Clock;

/// Waits for the first bytes of a request. Nothing comes back where the client has closed, the idle time is over, or the worker
/// ends and has waited for it.
pub(crate) async fn wait(worker: &Worker, clock: &Clock, io: &mut ClientIo) -> Option<Bytes> {
    let mut timer = Box::pin(tokio::time::sleep_until(clock.idle_until().into()));
    std::future::poll_fn(|cx| {
        clock.attach(cx.waker());
        let mut space = [0_u8; FIRST_BYTES];
        let mut first = ReadBuf::new(&mut space);
        match std::pin::Pin::new(&mut *io).poll_read(cx, &mut first) {
            Poll::Ready(Ok(())) if !first.filled().is_empty() => {
                return Poll::Ready(Some(Bytes::copy_from_slice(first.filled())));
            }
            Poll::Ready(_) => return Poll::Ready(None),
            Poll::Pending if worker.closing() => return Poll::Ready(None),
            Poll::Pending => {}
        }
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// Enough to tell that somebody speaks; the rest of the head is read where it is parsed.
const FIRST_BYTES: usize = 256;
