//! The frames of a WebSocket (RFC 6455 §5.2) on their way to the client, watched so that a tunnel can be ended between two of them.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Where the bytes that went out have led to.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Bytes of the header of the next frame.
    head: [u8; HEAD_BYTES_MAX],
    known: usize,
    /// Bytes of a payload that are still to come.
    left: u64,
}

/// What is known of the frames that went out.
#[derive(Debug, Default)]
pub(super) struct Frames {
    place: Cell<Place>,
    stopping: Cell<bool>,
}

impl Frames {
    /// Lets no frame begin any more.
    pub(super) fn stop(&self) {
        self.stopping.set(true);
    }

    /// Whether a frame has ended and none has begun.
    pub(super) fn between(&self) -> bool {
        self.place.get().between()
    }
}

impl Place {
    const fn between(&self) -> bool {
        self.known == 0 && self.left == 0
    }

    /// Goes over bytes; where `stop`, only to the end of the frame that has begun. How many it went over.
    fn pass(&mut self, bytes: &[u8], stop: bool) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if stop && self.between() {
                break;
            }
            if self.left > 0 {
                let length = u64::try_from(rest.len()).unwrap_or(u64::MAX).min(self.left);
                self.left -= length;
                at += usize::try_from(length).unwrap_or(rest.len());
                continue;
            }
            if let (Some(to), Some(byte)) = (self.head.get_mut(self.known), rest.first()) {
                *to = *byte;
            }
            self.known += 1;
            at += 1;
            self.left = match self.payload() {
                Some(length) => {
                    self.known = 0;
                    length
                }
                None => 0,
            };
        }
        at
    }

    /// How long the payload is, once the header is whole.
    fn payload(&self) -> Option<u64> {
        let second = *self.head.get(1).filter(|_| self.known >= 2)?;
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let masked = if second & 0x80 == 0 { 0 } else { 4 };
        if self.known < 2 + extended + masked {
            return None;
        }
        let number = self.head.get(2..2 + extended)?;
        let number = number
            .iter()
            .fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        Some(if extended == 0 {
            u64::from(second & 0x7f)
        } else {
            number
        })
    }
}

/// A client's socket whose outgoing frames are watched.
#[derive(Debug)]
pub(super) struct Watched<'t, T> {
    pub(super) io: T,
    pub(super) frames: &'t Frames,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<'_, T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut place = self.frames.place.get();
        let mut most = buf;
        if self.frames.stopping.get() {
            let mut ahead = place;
            let length = ahead.pass(buf, true);
            if length == 0 {
                // Nothing more of the tunnel; what comes next is said by us.
                return Poll::Pending;
            }
            most = buf.get(..length).unwrap_or(buf);
        }
        let polled = Pin::new(&mut self.io).poll_write(cx, most);
        if let Poll::Ready(Ok(count)) = &polled {
            place.pass(most.get(..*count).unwrap_or(most), false);
            self.frames.place.set(place);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Close, 1008 (policy violation, RFC 6455 §7.4.1), and no word why.
pub(super) const CLOSE: [u8; 4] = [0x88, 2, 0x03, 0xf0];
/// The longest header: two bytes, a length of eight, a mask of four.
const HEAD_BYTES_MAX: usize = 14;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x82];
        match length {
            0..126 => frame.push(mask | u8::try_from(length).unwrap()),
            126..65536 => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend(u64::try_from(length).unwrap().to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.resize(frame.len() + length, 0x88);
        frame
    }

    #[test]
    fn the_end_of_a_frame_is_found_however_it_comes() {
        for length in [0, 1, 125, 126, 127, 65535, 65536, 70000] {
            for masked in [false, true] {
                let one = frame(length, masked);
                let mut two = one.clone();
                two.extend(frame(3, false));
                for piece in [1, 2, 3, 7, 4096, usize::MAX] {
                    let mut place = Place::default();
                    for bytes in one.chunks(piece) {
                        assert_eq!(place.pass(bytes, false), bytes.len());
                    }
                    assert!(place.between(), "{length} {masked} in pieces of {piece}");
                    let mut place = Place::default();
                    place.pass(one.get(..1).unwrap(), false);
                    assert!(!place.between());
                    let rest = two.get(1..).unwrap();
                    assert_eq!(
                        place.pass(rest, true),
                        one.len() - 1,
                        "stops behind the frame"
                    );
                    assert!(place.between());
                    assert_eq!(place.pass(rest, true), 0, "none begins any more");
                }
            }
        }
    }
}
