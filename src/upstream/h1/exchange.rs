//! Both directions of one request, up to the head of its final response.
//!
//! The answer is read while the request is still being sent: an upstream that refuses an upload says so before its end
//! (RFC 9112 §9.5), and one whose socket takes no more may have said why.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use http::{Method, StatusCode};

use super::response::{self, Head};
use super::upload::Upload;
use super::wire::{READ_HOPED, Wire};
use super::{INTERIM_MAX, Malformed};
use crate::value::failure::Failure;

/// No response head came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The client's body broke off.
    Request(Failure),
    /// The answer breaks HTTP.
    Malformed(Malformed),
    /// The connection ended in the middle of an answer.
    Closed,
    /// The connection ended without a byte of an answer.
    Silent,
}

/// Sends what `wire` and `upload` hold and reads the final response head. The upload need not be over by then.
///
/// # Errors
/// [`Lost`].
pub(crate) async fn exchange(
    wire: &mut Wire,
    upload: &mut Upload,
    method: &Method,
) -> Result<Head, Lost> {
    let mut reading = Reading::default();
    poll_fn(|cx| {
        if let Poll::Ready(Err(failure)) = upload.poll(cx, wire) {
            return Poll::Ready(Err(Lost::Request(failure)));
        }
        reading.poll(cx, wire, method)
    })
    .await
}

#[derive(Default)]
struct Reading {
    /// How much of what was read is known to hold no end of a head.
    searched: usize,
    /// Interim responses skipped.
    interim: u8,
}

impl Reading {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut Wire,
        method: &Method,
    ) -> Poll<Result<Head, Lost>> {
        loop {
            match self.take(wire, method) {
                Err(malformed) => return Poll::Ready(Err(Lost::Malformed(malformed))),
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
            }
            if !matches!(ready!(wire.poll_read(cx, READ_HOPED)), Ok(1..)) {
                let silent = wire.read.is_empty() && self.interim == 0;
                return Poll::Ready(Err(if silent { Lost::Silent } else { Lost::Closed }));
            }
        }
    }

    /// Takes the final head, if it is here, and the interim ones before it.
    fn take(&mut self, wire: &mut Wire, method: &Method) -> Result<Option<Head>, Malformed> {
        loop {
            let read = &mut wire.read;
            let worthwhile = match self.searched {
                0 => !read.is_empty(),
                searched => read.len() > super::HEAD_MAX || response::may_end_after(read, searched),
            };
            let head = if worthwhile {
                response::take(read, method)?
            } else {
                None
            };
            let Some(head) = head else {
                self.searched = read.len();
                return Ok(None);
            };
            self.searched = 0;
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(Malformed::Switched);
            }
            if !head.status.is_informational() {
                return Ok(Some(head));
            }
            self.interim += 1;
            if self.interim > INTERIM_MAX {
                return Err(Malformed::Interim);
            }
        }
    }
}
