//! A response body out of the bytes read: by length, by chunks, or up to the connection's end (RFC 9112 §6.3, §7.1).
//!
//! Pieces leave in place, as slices of the read buffer. A chunk's size line is hexadecimal digits and nothing else before its
//! extensions, which are skipped; CRLF stands exactly where it must. Trailers are read, bounded, and passed on without the
//! fields that may not stand there (RFC 9110 §6.5.1).

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::response::{Framing, lines_end_in_crlf};
use super::{EXTENSIONS_MAX, Malformed, TRAILERS_MAX};

/// The place reached in a body.
#[derive(Debug)]
pub struct Decoder(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    /// Bytes to come.
    Length(u64),
    Close,
    /// In a chunked body; with the bytes of extensions so far.
    Chunked(Part, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// A size line; whether a digit has been read, and the number so far.
    Size(bool, u64),
    /// Behind the `;` of a size line.
    Extension(u64),
    /// The LF of a size line.
    SizeLf(u64),
    /// Bytes of the chunk to come.
    Data(u64),
    DataCr,
    DataLf,
    /// The trailer section; how much of it has been searched for its end.
    Trailers(usize),
}

/// What comes next.
#[derive(Debug)]
pub enum Next {
    /// A piece of the body, never empty.
    Piece(Bytes),
    /// The end, with trailers.
    Trailers(HeaderMap),
    /// The end.
    End,
    /// More bytes must be read.
    Starved,
}

impl Decoder {
    /// At the beginning of a body.
    #[must_use]
    pub const fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Bodyless | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Close => State::Close,
            Framing::Chunked => State::Chunked(Part::Size(false, 0), 0),
        })
    }

    /// Whether the end has been reached.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.0, State::Done)
    }

    /// The bytes to come, where they are known.
    #[must_use]
    pub const fn left(&self) -> Option<u64> {
        match self.0 {
            State::Done => Some(0),
            State::Length(left) => Some(left),
            State::Close | State::Chunked(..) => None,
        }
    }

    /// The connection's end has been read. Answers whether the body ends with it.
    pub const fn end(&mut self) -> bool {
        if matches!(self.0, State::Close) {
            self.0 = State::Done;
        }
        self.is_done()
    }

    /// Takes the next piece from the front of what was read.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn next(&mut self, read: &mut BytesMut) -> Result<Next, Malformed> {
        if let Some(end) = self.advance(read)? {
            return Ok(end);
        }
        let left = match &mut self.0 {
            State::Done => return Ok(Next::End),
            State::Close => return Ok(Next::Piece(read.split().freeze())),
            State::Length(left) | State::Chunked(Part::Data(left), _) => left,
            State::Chunked(..) => return Ok(Next::Starved),
        };
        let length = usize::try_from(*left).unwrap_or(usize::MAX).min(read.len());
        *left -= length as u64;
        let piece = read.split_to(length).freeze();
        match &mut self.0 {
            State::Length(0) => self.0 = State::Done,
            State::Chunked(part @ Part::Data(0), _) => *part = Part::DataCr,
            State::Done | State::Length(_) | State::Close | State::Chunked(..) => {}
        }
        Ok(Next::Piece(piece))
    }

    /// Takes what stands between pieces. `None` where a piece is next.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn advance(&mut self, read: &mut BytesMut) -> Result<Option<Next>, Malformed> {
        let State::Chunked(mut part, mut extensions) = self.0 else {
            return Ok(match self.0 {
                State::Done => Some(Next::End),
                State::Length(_) | State::Close | State::Chunked(..) => {
                    read.is_empty().then_some(Next::Starved)
                }
            });
        };
        let mut taken = 0;
        for byte in read.iter().copied() {
            part = match part {
                Part::Data(_) | Part::Trailers(_) => break,
                Part::Size(digits, size) => match (hex(byte), byte, digits) {
                    (Some(digit), _, _) if size <= u64::MAX >> 4 => {
                        Part::Size(true, (size << 4) | u64::from(digit))
                    }
                    (None, b';', true) => Part::Extension(size),
                    (None, b'\r', true) => Part::SizeLf(size),
                    _ => return Err(Malformed::ChunkSize),
                },
                Part::Extension(size) => {
                    extensions += 1;
                    match byte {
                        b'\r' => Part::SizeLf(size),
                        b'\t' | b' '..=b'~' | 0x80.. if extensions <= EXTENSIONS_MAX => {
                            Part::Extension(size)
                        }
                        _ => return Err(Malformed::ChunkExtension),
                    }
                }
                Part::SizeLf(size) => match (byte, size) {
                    (b'\n', 0) => Part::Trailers(0),
                    (b'\n', _) => Part::Data(size),
                    _ => return Err(Malformed::ChunkSize),
                },
                Part::DataCr if byte == b'\r' => Part::DataLf,
                Part::DataLf if byte == b'\n' => Part::Size(false, 0),
                Part::DataCr | Part::DataLf => return Err(Malformed::ChunkEnd),
            };
            taken += 1;
        }
        read.advance(taken);
        self.0 = State::Chunked(part, extensions);
        match part {
            Part::Data(_) if read.is_empty() => Ok(Some(Next::Starved)),
            Part::Data(_) => Ok(None),
            Part::Trailers(searched) => self.trailers(read, searched, extensions).map(Some),
            Part::Size(..) | Part::Extension(_) | Part::SizeLf(_) | Part::DataCr | Part::DataLf => {
                Ok(Some(Next::Starved))
            }
        }
    }

    fn trailers(
        &mut self,
        read: &mut BytesMut,
        searched: usize,
        extensions: usize,
    ) -> Result<Next, Malformed> {
        if read.starts_with(b"\r\n") {
            read.advance(2);
            self.0 = State::Done;
            return Ok(Next::End);
        }
        let from = searched.saturating_sub(3);
        let tail = read.get(from..).unwrap_or_default();
        let end = tail.windows(4).position(|four| four == b"\r\n\r\n");
        let length = end.map_or(read.len(), |end| from + end + 4);
        if length > TRAILERS_MAX {
            return Err(Malformed::Trailers);
        }
        if end.is_none() {
            self.0 = State::Chunked(Part::Trailers(length), extensions);
            return Ok(Next::Starved);
        }
        let fields = fields(&read.split_to(length))?;
        self.0 = State::Done;
        Ok(if fields.is_empty() {
            Next::End
        } else {
            Next::Trailers(fields)
        })
    }
}

fn fields(section: &[u8]) -> Result<HeaderMap, Malformed> {
    if !lines_end_in_crlf(section) {
        return Err(Malformed::Trailers);
    }
    let mut parsed = [httparse::EMPTY_HEADER; TRAILER_FIELDS_MAX];
    let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(section, &mut parsed)
    else {
        return Err(Malformed::Trailers);
    };
    let mut fields = HeaderMap::with_capacity(parsed.len());
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok();
        let value = HeaderValue::from_bytes(field.value).ok();
        let (name, value) = name.zip(value).ok_or(Malformed::Trailers)?;
        if !BARRED.contains(&name.as_str()) {
            fields.append(name, value);
        }
    }
    Ok(fields)
}

const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

const TRAILER_FIELDS_MAX: usize = 64;

/// Fields that change how a message is framed, routed, read or kept: meaningless or harmful behind it (RFC 9110 §6.5.1).
const BARRED: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "expires",
    "host",
    "keep-alive",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "www-authenticate",
];
