//! A client of raw bytes: it sends exactly what it is given, reads answers with a strict parser and notices every kind of end.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::PATIENCE;

/// Something that carries bytes: a socket, or TLS over one.
trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// One connection to the gate.
pub(crate) struct Client {
    wire: Box<dyn Wire>,
    socket: TcpStream,
    buffer: Vec<u8>,
}

/// How reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer closed.
    Closed,
    /// The peer reset the connection.
    Reset,
    /// The deadline passed and the connection is still open.
    Late,
}

/// How a body was delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Empty,
    Length(u64),
    Chunked,
    Close,
}

/// A final answer with the interim ones before it.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) interim: Vec<u16>,
    pub(crate) version: String,
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) framing: Framing,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

/// An answer that did not come, or not whole.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) end: End,
    /// What there was of it, if its head came.
    pub(crate) partial: Option<Box<Response>>,
    /// Why it is no answer, where the bytes themselves are wrong.
    pub(crate) problem: Option<String>,
}

impl Client {
    /// Connects from 127.0.0.1.
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::from(Ipv4Addr::LOCALHOST.into(), to)
    }

    /// Connects from `source`, any address of 127.0.0.0/8.
    pub(crate) fn from(source: IpAddr, to: SocketAddr) -> Self {
        let socket =
            dial(source, to).unwrap_or_else(|error| panic!("connect {source} to {to}: {error}"));
        Self {
            wire: Box::new(socket.try_clone().unwrap()),
            socket,
            buffer: Vec::new(),
        }
    }

    /// Connects and speaks TLS; the handshake has been done, or its error is returned.
    pub(crate) fn tls(
        to: SocketAddr,
        name: &str,
        config: Arc<rustls::ClientConfig>,
    ) -> Result<(Self, Handshake), std::io::Error> {
        Self::tls_after(b"", to, name, config)
    }

    /// The same behind some bytes in clear text.
    pub(crate) fn tls_after(
        opening: &[u8],
        to: SocketAddr,
        name: &str,
        config: Arc<rustls::ClientConfig>,
    ) -> Result<(Self, Handshake), std::io::Error> {
        let mut socket = dial(Ipv4Addr::LOCALHOST.into(), to)?;
        socket.write_all(opening)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = rustls::ClientConnection::new(config, name).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        let handshake = Handshake {
            version: connection.protocol_version().unwrap(),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            certificate: connection.peer_certificates().unwrap()[0].as_ref().to_vec(),
        };
        let wire = rustls::StreamOwned::new(connection, socket.try_clone()?);
        Ok((
            Self {
                wire: Box::new(wire),
                socket,
                buffer: Vec::new(),
            },
            handshake,
        ))
    }

    /// Sends bytes; `false` where the peer no longer takes them.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire
            .write_all(bytes.as_ref())
            .and_then(|()| self.wire.flush())
            .is_ok()
    }

    /// No more bytes from us.
    pub(crate) fn half_close(&self) {
        drop(self.socket.shutdown(Shutdown::Write));
    }

    /// Leaves with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.socket)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    /// Whether a write that the peer does not take may wait at most this long.
    pub(crate) fn write_timeout(&self, timeout: Duration) {
        self.socket.set_write_timeout(Some(timeout)).unwrap();
    }

    /// Sends one request and reads its answer.
    pub(crate) fn ask(&mut self, line: &str, fields: &[&str]) -> Response {
        self.ask_with(line, fields, b"")
    }

    /// Sends one request with a body and reads its answer.
    pub(crate) fn ask_with(&mut self, line: &str, fields: &[&str], body: &[u8]) -> Response {
        self.send(request(line, fields, body));
        self.response(method_of(line))
    }

    /// The next answer; panics where none comes whole.
    pub(crate) fn response(&mut self, method: &str) -> Response {
        self.try_response(method, PATIENCE)
            .unwrap_or_else(|broken| panic!("no whole answer to {method}: {broken:?}"))
    }

    /// The next answer, or what became of it.
    pub(crate) fn try_response(
        &mut self,
        method: &str,
        within: Duration,
    ) -> Result<Response, Broken> {
        let deadline = Instant::now() + within;
        let mut interim = Vec::new();
        loop {
            let head = self.head(deadline)?;
            if (100..200).contains(&head.status) && head.status != 101 {
                interim.push(head.status);
                continue;
            }
            let mut response = Response { interim, ..head };
            return match self.body(method, &mut response, deadline) {
                Ok(()) => Ok(response),
                Err((end, problem)) => Err(Broken {
                    end,
                    partial: Some(Box::new(response)),
                    problem,
                }),
            };
        }
    }

    /// The head of the next answer only; its body stays to be read with `take`.
    pub(crate) fn response_head(&mut self) -> Response {
        self.head(Instant::now() + PATIENCE)
            .unwrap_or_else(|broken| panic!("no answer head: {broken:?}"))
    }

    /// Exactly `count` further bytes.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        self.need(count, Instant::now() + PATIENCE)
            .unwrap_or_else(|end| {
                panic!("{end:?} before {count} bytes, got {:?}", text(&self.buffer))
            });
        self.buffer.drain(..count).collect()
    }

    /// The next `count` bytes, which stay to be taken, or how reading ended before them.
    pub(crate) fn try_peek(&mut self, count: usize, deadline: Instant) -> Result<Vec<u8>, End> {
        self.need(count, deadline)?;
        Ok(self.buffer[..count].to_vec())
    }

    /// Bytes up to and with `mark`.
    pub(crate) fn take_until(&mut self, mark: &[u8]) -> Vec<u8> {
        let end = self
            .find(mark, Instant::now() + PATIENCE)
            .unwrap_or_else(|end| {
                panic!(
                    "{end:?} before {:?}, got {:?}",
                    text(mark),
                    text(&self.buffer)
                )
            });
        self.buffer.drain(..end + mark.len()).collect()
    }

    /// Whether the peer ends the connection within this time, and how; bytes that come meanwhile are kept.
    pub(crate) fn end(&mut self, within: Duration) -> End {
        let deadline = Instant::now() + within;
        loop {
            match self.fill(deadline) {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    /// Reads what comes in within this time, for pacing; says whether the connection still stands.
    pub(crate) fn stands_for(&mut self, time: Duration) -> bool {
        self.end(time) == End::Late
    }

    /// Bytes that have been read and not taken.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), End> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(End::Late);
        }
        self.socket
            .set_read_timeout(Some(left))
            .ok()
            .ok_or(End::Reset)?;
        let mut piece = [0; 16 * 1024];
        loop {
            return match self.wire.read(&mut piece) {
                Ok(0) => Err(End::Closed),
                Ok(count) => {
                    self.buffer.extend_from_slice(&piece[..count]);
                    Ok(())
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(End::Late),
                    ErrorKind::UnexpectedEof => Err(End::Closed),
                    _ => Err(End::Reset),
                },
            };
        }
    }

    fn need(&mut self, count: usize, deadline: Instant) -> Result<(), End> {
        while self.buffer.len() < count {
            self.fill(deadline)?;
        }
        Ok(())
    }

    fn find(&mut self, mark: &[u8], deadline: Instant) -> Result<usize, End> {
        let mut from = 0;
        loop {
            if let Some(at) = self.buffer[from..]
                .windows(mark.len())
                .position(|window| window == mark)
            {
                return Ok(from + at);
            }
            from = (self.buffer.len() + 1).saturating_sub(mark.len());
            self.fill(deadline)?;
        }
    }

    fn head(&mut self, deadline: Instant) -> Result<Response, Broken> {
        let end = self.find(b"\r\n\r\n", deadline).map_err(|end| Broken {
            end,
            partial: None,
            problem: (!self.buffer.is_empty())
                .then(|| format!("bytes without a head: {:?}", text(&self.buffer))),
        })?;
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        parse_head(&head).map_err(|problem| Broken {
            end: End::Late,
            partial: None,
            problem: Some(format!("{problem}: {:?}", text(&head))),
        })
    }

    fn body(
        &mut self,
        method: &str,
        response: &mut Response,
        deadline: Instant,
    ) -> Result<(), (End, Option<String>)> {
        response.framing =
            framing(method, response).map_err(|problem| (End::Late, Some(problem)))?;
        match response.framing {
            Framing::Empty => Ok(()),
            Framing::Length(length) => {
                let length = usize::try_from(length).unwrap();
                let result = self.need(length, deadline);
                let have = self.buffer.len().min(length);
                response.body = self.buffer.drain(..have).collect();
                result.map_err(|end| (end, None))
            }
            Framing::Close => loop {
                match self.fill(deadline) {
                    Ok(()) => {}
                    Err(end) => {
                        response.body = std::mem::take(&mut self.buffer);
                        return if end == End::Closed {
                            Ok(())
                        } else {
                            Err((end, None))
                        };
                    }
                }
            },
            Framing::Chunked => loop {
                let end = self.find(b"\r\n", deadline).map_err(|end| (end, None))?;
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let line = text(&line[..end]);
                let size = line.split(';').next().unwrap_or_default();
                let size = usize::from_str_radix(size, 16)
                    .map_err(|error| (End::Late, Some(format!("chunk size `{line}`: {error}"))))?;
                if size == 0 {
                    break self.trailers(response, deadline);
                }
                let result = self.need(size + 2, deadline);
                let have = self.buffer.len().min(size);
                response.body.extend(self.buffer.drain(..have));
                result.map_err(|end| (end, None))?;
                let after: Vec<u8> = self.buffer.drain(..2).collect();
                if after != b"\r\n" {
                    return Err((End::Late, Some("no line end after a chunk".into())));
                }
            },
        }
    }

    fn trailers(
        &mut self,
        response: &mut Response,
        deadline: Instant,
    ) -> Result<(), (End, Option<String>)> {
        loop {
            let end = self.find(b"\r\n", deadline).map_err(|end| (end, None))?;
            let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
            if end == 0 {
                return Ok(());
            }
            response
                .trailers
                .push(field(&text(&line[..end])).map_err(|problem| (End::Late, Some(problem)))?);
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// What a TLS handshake settled.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) version: rustls::ProtocolVersion,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) certificate: Vec<u8>,
}

impl Response {
    /// The one field of this name; panics where there are several.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} comes once: {:?}", self.fields);
        all.first().copied()
    }

    /// All fields of this name, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// The body is JSON whose `error` is this reason.
    pub(crate) fn reason(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }

    /// Panics unless the status is this.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.fields, self.text());
        self
    }
}

/// `"GET /x"` and fields as a request of HTTP/1.1; Host and Content-Length are added where absent.
pub(crate) fn request(line: &str, fields: &[&str], body: &[u8]) -> Vec<u8> {
    let has = |name: &str| {
        fields.iter().any(|field| {
            field
                .split(':')
                .next()
                .is_some_and(|n| n.eq_ignore_ascii_case(name))
        })
    };
    let mut head = format!("{line} HTTP/1.1\r\n");
    if !has("host") {
        head.push_str("Host: app.test\r\n");
    }
    for field in fields {
        head.push_str(field);
        head.push_str("\r\n");
    }
    if !body.is_empty() && !has("content-length") && !has("transfer-encoding") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A string in which each character stands for one byte.
pub(crate) fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect()
}

/// Bytes as a string, one character each.
pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn method_of(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

fn dial(source: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let domain = if to.is_ipv4() {
        socket2::Domain::IPV4
    } else {
        socket2::Domain::IPV6
    };
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    if source != IpAddr::V4(Ipv4Addr::LOCALHOST) {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&to.into(), PATIENCE)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

fn parse_head(head: &[u8]) -> Result<Response, String> {
    let head = text(head);
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let line = lines.next().unwrap_or_default();
    let mut words = line.splitn(3, ' ');
    let version = words.next().unwrap_or_default().to_owned();
    if version != "HTTP/1.1" && version != "HTTP/1.0" {
        return Err("no status line".into());
    }
    let status = words
        .next()
        .filter(|word| word.len() == 3)
        .and_then(|word| word.parse().ok())
        .ok_or("no status")?;
    Ok(Response {
        interim: Vec::new(),
        version,
        status,
        fields: lines.map(field).collect::<Result<_, _>>()?,
        framing: Framing::Empty,
        body: Vec::new(),
        trailers: Vec::new(),
    })
}

fn field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| format!("field without colon `{line}`"))?;
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty()
        || !name.chars().all(token)
        || value.chars().any(|c| c == '\0' || c == '\n' || c == '\r')
    {
        return Err(format!("malformed field `{line}`"));
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

fn framing(method: &str, response: &Response) -> Result<Framing, String> {
    let codings = response.all("transfer-encoding");
    let lengths = response.all("content-length");
    if !codings.is_empty() && !lengths.is_empty() {
        return Err("Content-Length beside Transfer-Encoding".into());
    }
    if codings.len() > 1 || lengths.len() > 1 {
        return Err("framing fields repeated".into());
    }
    let status = response.status;
    if (status < 200 || status == 204)
        && !(codings.is_empty() && lengths.is_empty())
        && status != 101
    {
        return Err(format!("framing fields on {status}"));
    }
    if method == "HEAD" || status < 200 || status == 204 || status == 304 {
        return Ok(Framing::Empty);
    }
    if let Some(coding) = codings.first() {
        if !coding.eq_ignore_ascii_case("chunked") {
            return Err(format!("coding `{coding}`"));
        }
        if response.version == "HTTP/1.0" {
            return Err("chunked in HTTP/1.0".into());
        }
        return Ok(Framing::Chunked);
    }
    match lengths.first() {
        Some(length) if length.bytes().all(|b| b.is_ascii_digit()) => Ok(Framing::Length(
            length
                .parse()
                .ok()
                .ok_or_else(|| format!("length `{length}`"))?,
        )),
        Some(length) => Err(format!("length `{length}`")),
        None => Ok(Framing::Close),
    }
}
