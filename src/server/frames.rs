//! The envelopes of a client's HTTP/2 frames, counted as they pass (RFC 9113 §4.1).
//!
//! hyper's `h2` reads the frames; this sees only type, flags and stream of each, and answers three questions that `h2` does not:
//!
//! - Is this a flood? PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, CONTINUATION and unknown frames cost us work and the
//!   client nothing. Each spends from a budget that time refills, and what we send to the client too (a client that takes much
//!   may say WINDOW_UPDATE often).
//! - How many requests were sent? Those that `h2` refuses never reach the gate; the difference is logged.
//! - Are there pseudo-fields among request trailers (RFC 9113 §8.1 calls that malformed)? `h2` drops them in silence. Only their
//!   names are looked at, where they do not stand in the compression table: trailers never travel on.

use std::cell::Cell;
use std::rc::Rc;

/// What was seen, shared between the socket and the connection.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Request heads that have arrived whole.
    pub(crate) requests: Cell<u64>,
    /// Bytes read.
    pub(crate) read: Cell<u64>,
    /// Bytes written.
    pub(crate) written: Cell<u64>,
    /// Why the client is no longer listened to: a stable word for the log.
    pub(crate) refused: Cell<Option<&'static str>>,
    /// The socket has failed.
    pub(crate) broken: Cell<bool>,
    budget: Cell<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            requests: Cell::new(0),
            read: Cell::new(0),
            written: Cell::new(0),
            refused: Cell::new(None),
            broken: Cell::new(false),
            budget: Cell::new(BURST),
        }
    }
}

impl Tally {
    /// Time has passed: the budget grows.
    pub(crate) fn refill(&self, frames: u64) {
        self.budget.set(BURST.min(self.budget.get() + frames));
    }

    /// We have written so many bytes.
    pub(crate) fn wrote(&self, bytes: usize) {
        self.written.set(self.written.get() + bytes as u64);
        self.refill(bytes as u64 / BYTES_A_FRAME);
    }

    fn spend(&self) -> Result<(), &'static str> {
        let left = self.budget.get().checked_sub(1).ok_or("http2_flood")?;
        self.budget.set(left);
        Ok(())
    }
}

/// The reader of one connection.
#[derive(Debug)]
pub(crate) struct Frames {
    tally: Rc<Tally>,
    /// Bytes of the preface that are still to come (RFC 9113 §3.4).
    preface: usize,
    head: [u8; HEAD],
    have: usize,
    /// Bytes of the payload that are still to come.
    left: usize,
    kind: u8,
    flags: u8,
    /// The highest stream that the client has opened.
    highest: u32,
    /// The header block that is being sent.
    block: Block,
}

#[derive(Debug)]
enum Block {
    None,
    /// A request's head.
    Head,
    /// Trailers, as far as they have come.
    Trailers(Vec<u8>),
}

impl Frames {
    pub(crate) const fn new(tally: Rc<Tally>) -> Self {
        Self {
            tally,
            preface: PREFACE.len(),
            head: [0; HEAD],
            have: 0,
            left: 0,
            kind: 0,
            flags: 0,
            highest: 0,
            block: Block::None,
        }
    }

    /// Sees bytes that were read.
    ///
    /// # Errors
    /// A stable word: nothing more should be read.
    pub(crate) fn see(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        self.tally
            .read
            .set(self.tally.read.get() + bytes.len() as u64);
        let outcome = self.pass(bytes);
        if let Err(word) = outcome {
            self.tally.refused.set(Some(word));
        }
        outcome
    }

    fn pass(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        take(&mut bytes, &mut self.preface);
        while !bytes.is_empty() {
            if self.have < HEAD {
                for slot in self.head.iter_mut().skip(self.have) {
                    let Some((first, rest)) = bytes.split_first() else {
                        return Ok(());
                    };
                    *slot = *first;
                    bytes = rest;
                    self.have += 1;
                }
                self.begin()?;
            }
            let piece = take(&mut bytes, &mut self.left);
            if let (Block::Trailers(block), HEADERS | CONTINUATION) = (&mut self.block, self.kind) {
                block.extend_from_slice(piece);
            }
            if self.left == 0 {
                self.have = 0;
                self.end()?;
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), &'static str> {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        (self.kind, self.flags) = (kind, flags);
        let stream = u32::from_be_bytes(stream) & STREAM_BITS;
        match kind {
            // `h2` bounds empty and small ones.
            DATA => {}
            HEADERS if stream > self.highest => {
                self.highest = stream;
                self.block = Block::Head;
            }
            HEADERS => self.block = Block::Trailers(Vec::new()),
            _other => self.tally.spend()?,
        }
        if let Block::Trailers(block) = &self.block
            && block.len() + self.left > TRAILERS_MAX
        {
            return Err("http2_trailers");
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), &'static str> {
        if !matches!(self.kind, HEADERS | CONTINUATION) {
            return Ok(());
        }
        if self.kind == HEADERS
            && let Block::Trailers(block) = &mut self.block
        {
            unwrap(block, self.flags);
        }
        if self.flags & END_HEADERS == 0 {
            return Ok(());
        }
        match std::mem::replace(&mut self.block, Block::None) {
            Block::None => {}
            Block::Head => self.tally.requests.set(self.tally.requests.get() + 1),
            Block::Trailers(block) if names_pseudo(&block) => return Err("http2_trailers"),
            Block::Trailers(_) => {}
        }
        Ok(())
    }
}

/// Takes as many bytes as are there and wanted.
fn take<'b>(bytes: &mut &'b [u8], wanted: &mut usize) -> &'b [u8] {
    let count = bytes.len().min(*wanted);
    let (piece, rest) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
    *bytes = rest;
    *wanted -= count;
    piece
}

/// Takes padding and priority from a HEADERS payload (RFC 9113 §6.2). What is nonsense is left to `h2`.
fn unwrap(block: &mut Vec<u8>, flags: u8) {
    let mut before = 0;
    if flags & PADDED != 0 {
        let padding = usize::from(block.first().copied().unwrap_or_default());
        block.truncate(block.len().saturating_sub(padding));
        before += 1;
    }
    if flags & PRIORITY != 0 {
        before += 5;
    }
    block.drain(..before.min(block.len()));
}

/// Whether a header block (RFC 7541 §6) names a pseudo-field, in its own bytes or through the static table.
fn names_pseudo(block: &[u8]) -> bool {
    let mut rest = block;
    while let Some(first) = rest.first().copied() {
        let bits = match first {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _ => 4,
        };
        let Some(index) = integer(&mut rest, bits) else {
            return false;
        };
        if bits == 5 {
            continue;
        }
        if STATIC_PSEUDO.contains(&index) {
            return true;
        }
        if bits == 7 {
            continue;
        }
        if index == 0 {
            let coded = rest.first().is_some_and(|first| first & 0x80 != 0);
            match string(&mut rest) {
                Some([b':', ..]) if !coded => return true,
                Some([first, ..]) if coded && first >> 1 == COLON_CODE => return true,
                Some(_) => {}
                None => return false,
            }
        }
        if string(&mut rest).is_none() {
            return false;
        }
    }
    false
}

fn string<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = integer(rest, 7)?;
    let (piece, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(piece)
}

/// RFC 7541 §5.1, up to what a block can hold.
fn integer(rest: &mut &[u8], bits: u32) -> Option<usize> {
    let mut next = || {
        let (first, after) = rest.split_first()?;
        *rest = after;
        Some(usize::from(*first))
    };
    let mask = (1 << bits) - 1;
    let mut value = next()? & mask;
    if value < mask {
        return Some(value);
    }
    for shift in [0, 7, 14] {
        let byte = next()?;
        value += (byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// What a client may send before its first stream (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length of a frame's head.
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// The first bit of a stream's number is reserved.
const STREAM_BITS: u32 = 0x7fff_ffff;
/// `:authority` to `:status` in the static table (RFC 7541, appendix A).
const STATIC_PSEUDO: std::ops::RangeInclusive<usize> = 1..=14;
/// The Huffman code of `:`, seven bits (RFC 7541, appendix B).
const COLON_CODE: u8 = 0x5c;
/// Control frames that a client may send at once: a browser that leaves a page resets hundreds of streams.
const BURST: u64 = 2000;
/// Bytes of ours that earn the client one frame. An acknowledged PING costs more than it earns.
const BYTES_A_FRAME: u64 = 64;
/// The longest trailers that are looked at.
const TRAILERS_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn pseudo_fields_in_trailers_are_seen() {
        for (block, pseudo, why) in [
            (&b"\x00\x05:path\x02/b"[..], true, "a literal name"),
            (b"\x04\x02/b", true, "a name of the static table"),
            (b"\x44\x02/b", true, "the same, to be remembered"),
            (b"\x82", true, "name and value of the static table"),
            (b"\x00\x84\xb9\x58\xd3\x3f\x02/b", true, "Huffman"),
            (b"\x00\x01a\x01b\x04\x02/b", true, "behind another field"),
            (b"\x3f\x01\x04\x02/b", true, "behind a table size"),
            (b"\x00\x03x-t\x05:path", false, "a value"),
            (b"\x0f\x0d\x01b", false, "a field of the static table"),
            (b"\xbe", false, "an entry that was remembered"),
            (b"\x00\x7f", false, "broken: h2 refuses it"),
            (b"", false, "no trailers"),
        ] {
            assert_eq!(names_pseudo(block), pseudo, "{why}");
            for (flags, before, after) in [
                (0, &b""[..], &b""[..]),
                (PADDED, b"\x02", b"::"),
                (PRIORITY, b"\0\0\0\0\x01", b""),
                (PADDED | PRIORITY, b"\x01\0\0\0\0\x01", b":"),
            ] {
                let payload = [before, block, after].concat();
                let head = frame(HEADERS, END_HEADERS, 1, b"\x82");
                let trailers = frame(HEADERS, END_HEADERS | flags | 1, 1, &payload);
                let bytes = [PREFACE, &head, &trailers].concat();
                for size in [1, 7, bytes.len()] {
                    let tally = Rc::new(Tally::default());
                    let mut frames = Frames::new(Rc::clone(&tally));
                    let refused = bytes.chunks(size).any(|piece| frames.see(piece).is_err());
                    assert_eq!(refused, pseudo, "{why}, flags {flags}, pieces of {size}");
                    assert_eq!(tally.requests.get(), 1);
                }
            }
        }
    }

    #[test]
    fn floods_spend_the_budget_and_use_does_not() {
        const PING: u8 = 6;
        const RST_STREAM: u8 = 3;
        for (kind, payload, refused) in [
            (PING, &[0; 8][..], true),
            (RST_STREAM, &[0; 4], true),
            (0xbe, &[], true),
            (CONTINUATION, &[], true),
            (DATA, &[1], false),
        ] {
            let mut frames = Frames::new(Rc::default());
            frames.see(PREFACE).unwrap();
            let flood = frame(kind, 0, 1, payload);
            let ended = (0..BURST + 1).any(|_| frames.see(&flood).is_err());
            assert_eq!(ended, refused, "frames of type {kind}");
        }
        let tally = Rc::new(Tally::default());
        let mut frames = Frames::new(Rc::clone(&tally));
        frames.see(PREFACE).unwrap();
        for _ in 0..4 * BURST {
            tally.wrote(1024);
            frames.see(&frame(8, 0, 0, &[0, 0, 4, 0])).unwrap();
        }
    }

    #[test]
    fn requests_are_counted_when_their_head_is_whole() {
        let tally = Rc::new(Tally::default());
        let mut frames = Frames::new(Rc::clone(&tally));
        frames.see(PREFACE).unwrap();
        for (bytes, count, why) in [
            (frame(HEADERS, END_HEADERS, 1, b"\x82"), 1, "one frame"),
            (frame(HEADERS, 0, 3, b"\x82"), 1, "to be continued"),
            (frame(CONTINUATION, 0, 3, b"\x82"), 1, "still"),
            (frame(CONTINUATION, END_HEADERS, 3, b""), 2, "whole"),
            (frame(HEADERS, END_HEADERS, 3, b""), 2, "trailers"),
            (frame(DATA, 0, 1, b"x"), 2, "a body"),
        ] {
            frames.see(&bytes).unwrap();
            assert_eq!(tally.requests.get(), count, "{why}");
        }
    }
}
