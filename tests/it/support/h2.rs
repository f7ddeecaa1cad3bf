//! A client of raw HTTP/2 frames (RFC 9113): it sends exactly what it is told, and reads answers with a strict parser.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::certs::certs;
use super::client::Framing;
use super::hpack::{self, Decoder};
use super::{Client, End, PATIENCE, Response};

/// One connection.
#[derive(Debug)]
pub(crate) struct H2 {
    client: Client,
    decoder: Decoder,
    streams: BTreeMap<u32, Stream>,
    next: u32,
    /// A header block that is not whole: its stream, whether it ends that, its bytes.
    block: Option<(u32, bool, Vec<u8>)>,
    /// Whether what is received is given back to the windows.
    pub(crate) gives_back: bool,
    /// The last stream and the code of each GOAWAY.
    pub(crate) goaways: Vec<(u32, u32)>,
    /// What the other side has set.
    pub(crate) settings: BTreeMap<u16, u32>,
    /// PING acknowledgements so far.
    pub(crate) pongs: usize,
    /// DATA bytes so far, on all streams.
    pub(crate) received: usize,
}

/// What has come of one stream.
#[derive(Debug, Clone, Default)]
struct Stream {
    head_request: bool,
    response: Option<Response>,
    interim: Vec<u16>,
    ended: bool,
    reset: Option<u32>,
}

/// How a stream ended without a whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code: an error, or a last stream before this one.
    GoAway(u32),
    /// The connection ended.
    Ended(End),
}

impl H2 {
    /// Speaks TLS with app.test and settles on `h2`.
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::with_settings(to, &[])
    }

    /// The same with settings of ours.
    pub(crate) fn with_settings(to: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let config = certs().client_config(rustls::ALL_VERSIONS, &["h2", "http/1.1"], None);
        let (client, handshake) = Client::tls(to, "app.test", config).unwrap();
        assert_eq!(handshake.alpn.as_deref(), Some(&b"h2"[..]));
        Self::over(client, settings)
    }

    /// Speaks HTTP/2 over a connection that stands.
    pub(crate) fn over(mut client: Client, settings: &[(u16, u32)]) -> Self {
        client.send(PREFACE);
        let mut this = Self {
            client,
            decoder: Decoder::new(),
            streams: BTreeMap::new(),
            next: 1,
            block: None,
            gives_back: true,
            goaways: Vec::new(),
            settings: BTreeMap::new(),
            pongs: 0,
            received: 0,
        };
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        this.frame(SETTINGS, 0, 0, &payload);
        this
    }

    /// Sends one frame; `false` where nobody takes it.
    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.client.send(frame(kind, flags, stream, payload))
    }

    /// Sends bytes.
    pub(crate) fn raw(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.client.send(bytes)
    }

    /// Opens a stream with exactly these fields.
    pub(crate) fn open(&mut self, fields: &[(&str, &str)], last: bool) -> u32 {
        let id = self.next_id();
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.head_request = fields.contains(&(":method", "HEAD"));
        }
        let flags = END_HEADERS | if last { END_STREAM } else { 0 };
        self.frame(HEADERS, flags, id, &hpack::encode(fields));
        id
    }

    /// The number of a new stream, for frames made by hand.
    pub(crate) fn next_id(&mut self) -> u32 {
        let id = self.next;
        self.next += 2;
        self.streams.insert(id, Stream::default());
        id
    }

    /// Opens a stream for a usual request without a body.
    pub(crate) fn ask(&mut self, line: &str, fields: &[(&str, &str)]) -> u32 {
        self.open(&usual(line, fields), true)
    }

    /// Opens a stream for a usual request whose body follows.
    pub(crate) fn begin(&mut self, line: &str, fields: &[(&str, &str)]) -> u32 {
        self.open(&usual(line, fields), false)
    }

    /// Asks and waits for the whole answer.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Response {
        let id = self.ask(&format!("GET {path}"), &[]);
        self.answer(id)
    }

    pub(crate) fn data(&mut self, id: u32, bytes: impl AsRef<[u8]>, last: bool) -> bool {
        let pieces: Vec<&[u8]> = bytes.as_ref().chunks(FRAME_MAX).collect();
        let Some((end, pieces)) = pieces.split_last() else {
            return self.frame(DATA, u8::from(last), id, b"");
        };
        pieces.iter().all(|piece| self.frame(DATA, 0, id, piece))
            && self.frame(DATA, u8::from(last), id, end)
    }

    pub(crate) fn trailers(&mut self, id: u32, fields: &[(&str, &str)]) -> bool {
        self.frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            id,
            &hpack::encode(fields),
        )
    }

    pub(crate) fn reset(&mut self, id: u32) -> bool {
        self.frame(RST_STREAM, 0, id, &CANCEL.to_be_bytes())
    }

    /// Lets the other side send so much more.
    pub(crate) fn window(&mut self, id: u32, bytes: u32) -> bool {
        self.frame(WINDOW_UPDATE, 0, id, &bytes.to_be_bytes())
    }

    /// The whole answer; panics where it does not come.
    #[track_caller]
    pub(crate) fn answer(&mut self, id: u32) -> Response {
        self.try_answer(id, PATIENCE).unwrap_or_else(|lost| {
            panic!(
                "no answer on stream {id}: {lost:?} {:?}",
                self.streams.get(&id)
            )
        })
    }

    /// The whole answer, or what became of it.
    pub(crate) fn try_answer(&mut self, id: u32, within: Duration) -> Result<Response, Lost> {
        let deadline = Instant::now() + within;
        loop {
            let stream = self.streams.get(&id).cloned().unwrap_or_default();
            if stream.ended {
                return Ok(stream.response.unwrap());
            }
            if let Some(code) = stream.reset {
                return Err(Lost::Reset(code));
            }
            let away = self
                .goaways
                .iter()
                .find(|(last, code)| *last < id || *code != 0);
            if let Some((_, code)) = away {
                return Err(Lost::GoAway(*code));
            }
            self.pump(deadline).map_err(Lost::Ended)?;
        }
    }

    /// The head of the answer; its body may still be on its way.
    #[track_caller]
    pub(crate) fn head(&mut self, id: u32) -> Response {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(response) = self.partial(id) {
                return response;
            }
            self.pump(deadline)
                .unwrap_or_else(|end| panic!("no head on stream {id}: {end:?}"));
        }
    }

    /// Whether the gate has reset the stream, as far as has been read.
    pub(crate) fn was_reset(&self, id: u32) -> bool {
        self.streams
            .get(&id)
            .is_some_and(|stream| stream.reset.is_some())
    }

    /// What there is of an answer.
    pub(crate) fn partial(&self, id: u32) -> Option<Response> {
        self.streams.get(&id)?.response.clone()
    }

    /// Reads whatever comes until the connection ends or this time is over.
    pub(crate) fn end(&mut self, within: Duration) -> End {
        let deadline = Instant::now() + within;
        loop {
            if let Err(end) = self.pump(deadline) {
                return end;
            }
        }
    }

    /// Reads until `done` holds; panics with `what` where it never does.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            self.pump(deadline)
                .unwrap_or_else(|end| panic!("{end:?} before {what}"));
        }
    }

    /// Reads and obeys one frame.
    fn pump(&mut self, deadline: Instant) -> Result<(), End> {
        let head = self.client.try_peek(9, deadline)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        assert!(length <= FRAME_MAX, "a frame of {length} bytes");
        let whole = self.client.try_peek(9 + length, deadline)?;
        drop(self.client.take(9 + length));
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        self.obey(head[3], head[4], id, &whole[9..]);
        Ok(())
    }

    fn obey(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        assert!(
            self.block.is_none() || kind == CONTINUATION,
            "a header block is interrupted"
        );
        match kind {
            DATA => {
                let stream = self.live(id);
                let response = stream.response.as_mut().expect("DATA before a head");
                assert_eq!(flags & 8, 0, "padding is not expected");
                response.body.extend_from_slice(payload);
                if flags & END_STREAM != 0 {
                    stream.finish(id);
                }
                self.received += payload.len();
                if self.gives_back && !payload.is_empty() {
                    let count = payload.len() as u32;
                    self.window(0, count);
                    if flags & END_STREAM == 0 {
                        self.window(id, count);
                    }
                }
            }
            HEADERS => {
                assert_eq!(flags & 0x28, 0, "neither padding nor priority");
                self.block = Some((id, flags & END_STREAM != 0, payload.to_vec()));
                if flags & END_HEADERS != 0 {
                    self.headers();
                }
            }
            CONTINUATION => {
                let block = self.block.as_mut().expect("a block to continue");
                assert_eq!(block.0, id);
                block.2.extend_from_slice(payload);
                if flags & END_HEADERS != 0 {
                    self.headers();
                }
            }
            RST_STREAM => {
                let stream = self.live(id);
                stream.reset = Some(number(payload));
            }
            SETTINGS if flags & 1 == 0 => {
                for setting in payload.chunks(6) {
                    let name = u16::from_be_bytes([setting[0], setting[1]]);
                    self.settings.insert(name, number(&setting[2..]));
                }
                self.frame(SETTINGS, 1, 0, b"");
            }
            PING if flags & 1 == 0 => {
                self.frame(PING, 1, 0, payload);
            }
            PING => self.pongs += 1,
            GOAWAY => self
                .goaways
                .push((number(payload) & 0x7fff_ffff, number(&payload[4..]))),
            SETTINGS | WINDOW_UPDATE => {}
            other => panic!("frame of type {other}"),
        }
    }

    fn live(&mut self, id: u32) -> &mut Stream {
        let stream = self.streams.get_mut(&id).expect("a stream of ours");
        assert!(
            !(stream.ended && stream.response.is_none()) && stream.reset.is_none(),
            "stream {id} goes on after its end"
        );
        stream
    }

    fn headers(&mut self) {
        let (id, last, block) = self.block.take().unwrap();
        let fields = self
            .decoder
            .decode(&block)
            .unwrap_or_else(|problem| panic!("header block: {problem}"));
        for (name, value) in &fields {
            assert!(
                !name.chars().any(|c| c.is_ascii_uppercase()),
                "name `{name}`"
            );
            assert!(!value.contains(['\r', '\n', '\0']), "value `{value}`");
            assert!(
                !CONNECTION_SPECIFIC.contains(&name.as_str()),
                "connection-specific `{name}` (RFC 9113 §8.2.2)"
            );
        }
        let stream = self.live(id);
        assert!(!stream.ended, "stream {id} goes on after END_STREAM");
        if let Some(response) = &mut stream.response {
            assert!(last, "trailers without END_STREAM");
            assert!(
                fields.iter().all(|(name, _)| !name.starts_with(':')),
                "pseudo-fields in trailers"
            );
            response.trailers = fields;
        } else {
            let (status, rest) = fields.split_first().expect("a status");
            assert_eq!(status.0, ":status");
            assert!(rest.iter().all(|(name, _)| !name.starts_with(':')));
            let status: u16 = status.1.parse().unwrap();
            if status < 200 {
                assert!(!last, "an interim answer is none");
                stream.interim.push(status);
                return;
            }
            stream.response = Some(Response {
                interim: stream.interim.clone(),
                version: "HTTP/2".into(),
                status,
                fields: rest.to_vec(),
                framing: Framing::Empty,
                body: Vec::new(),
                trailers: Vec::new(),
            });
        }
        if last {
            stream.finish(id);
        }
    }
}

impl Stream {
    /// END_STREAM: a length that was declared has been kept (RFC 9113 §8.1.1).
    fn finish(&mut self, id: u32) {
        assert!(!self.ended, "stream {id} ends twice");
        self.ended = true;
        let response = self.response.as_ref().unwrap();
        if let Some(length) = response.header("content-length")
            && !self.head_request
            && response.status != 304
        {
            assert_eq!(length, response.body.len().to_string(), "content-length");
        }
        if self.head_request {
            assert!(response.body.is_empty(), "DATA in an answer to HEAD");
        }
    }
}

/// A frame as bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// `"GET /x"` and fields as the fields of a request to https://app.test.
pub(crate) fn usual<'f>(line: &'f str, fields: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    let (method, path) = line.split_once(' ').unwrap();
    let mut all = vec![(":method", method), (":scheme", "https")];
    if !fields.iter().any(|(name, _)| *name == ":authority") {
        all.push((":authority", "app.test"));
    }
    all.push((":path", path));
    // Pseudo-fields stand before all others.
    all.extend(fields.iter().filter(|(name, _)| name.starts_with(':')));
    all.extend(fields.iter().filter(|(name, _)| !name.starts_with(':')));
    all
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// The code of RFC 9113 §7 for a request that nobody wants any more.
const CANCEL: u32 = 8;
/// What may be sent in one frame without being asked.
const FRAME_MAX: usize = 16 * 1024;
/// RFC 9113 §8.2.2.
const CONNECTION_SPECIFIC: [&str; 6] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
    "te",
];
