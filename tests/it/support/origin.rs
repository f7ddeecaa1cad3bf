//! The scripted origin: it records every request's exact bytes, reads them as strictly as RFC 9112 allows, and answers as told.

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use base64::Engine as _;

use super::client::text;
use super::eventually;

/// An HTTP/1.1 server on loopback, a thread per connection.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// One request as it reached the origin.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Its exact bytes, as far as `KEPT`.
    pub(crate) raw: Vec<u8>,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: String,
    pub(crate) fields: Vec<(String, String)>,
    /// Its decoded body, as far as `KEPT`.
    pub(crate) body: Vec<u8>,
    pub(crate) body_size: u64,
    /// The sum of all body bytes, so that a large body can be compared without keeping it.
    pub(crate) body_sum: u64,
    pub(crate) trailers: Vec<(String, String)>,
    /// Head and body came whole.
    pub(crate) complete: bool,
    /// Nothing more will come of it.
    pub(crate) ended: bool,
    /// What a strict reader holds against it.
    pub(crate) problems: Vec<String>,
}

/// What happens after a script has had its say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The usual answer: 200, or 101 to a WebSocket handshake.
    Usual,
    /// The script has answered; the connection goes on.
    Next,
    /// The connection is closed.
    Close,
    /// The connection is reset.
    Reset,
}

/// One request in a script's hands. Its head has been read.
pub(crate) struct Exchange<'a> {
    pub(crate) seen: Seen,
    /// The number of this request at this origin, from 1.
    pub(crate) number: usize,
    /// The number of this request on its connection, from 1.
    pub(crate) on_connection: usize,
    line: &'a mut Line,
    body_read: bool,
}

type Script = dyn Fn(&mut Exchange<'_>) -> Then + Send + Sync;

struct Shared {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    wires: Mutex<Vec<Weak<Wire>>>,
    stop: AtomicBool,
    script: Box<Script>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Origin {
    /// An origin that gives everybody the usual answer.
    pub(crate) fn start() -> Self {
        Self::scripted(|_| Then::Usual)
    }

    /// An origin that asks `script` about each request once its head has come.
    pub(crate) fn scripted(
        script: impl Fn(&mut Exchange<'_>) -> Then + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            wires: Mutex::default(),
            stop: AtomicBool::new(false),
            script: Box::new(script),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything seen so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen().clone()
    }

    /// How many requests were seen so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.seen().len()
    }

    /// The only request seen.
    #[track_caller]
    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "one request at the origin: {seen:?}");
        seen.into_iter().next().unwrap()
    }

    /// The newest request seen.
    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("a request at the origin")
    }

    /// How many connections were accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Waits until everything that was ever sent here has been read, and no request is under way; answers everything seen after
    /// the first `known`.
    pub(crate) fn settled_after(&self, known: usize) -> Vec<Seen> {
        // Connections are accepted in their order: behind this one there is none that has not been seen.
        let probe = TcpStream::connect(self.address).unwrap();
        let port = probe.local_addr().unwrap().port();
        eventually("the origin has read or lost every request", || {
            let wires: Vec<Weak<Wire>> = lock(&self.shared.wires).clone();
            let wires: Vec<Arc<Wire>> = wires.iter().filter_map(Weak::upgrade).collect();
            let arrived = wires.iter().any(|wire| wire.peer_port == port);
            arrived
                && wires.iter().all(|wire| wire.is_quiet())
                && self.shared.seen().iter().all(|seen| seen.ended)
        });
        self.shared.seen()[known..].to_vec()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

impl Seen {
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

    /// Names of fields that an application which folds `_` and `.` to `-` reads as this one.
    pub(crate) fn look_alikes(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(field, _)| folded(field) == folded(name))
            .map(|(field, _)| field.as_str())
            .collect()
    }
}

impl Exchange<'_> {
    /// Sends bytes; `false` where nobody takes them.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.line.send(bytes.as_ref())
    }

    /// Reads the request's body; `true` where it came whole. Says 100 first where that was asked.
    pub(crate) fn read_body(&mut self) -> bool {
        if !self.body_read {
            self.body_read = true;
            if self
                .seen
                .header("expect")
                .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
            {
                self.line.send(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            self.line.body(self.number - 1);
        }
        self.line.shared.seen()[self.number - 1].complete
    }

    /// The decoded body, once it has been read.
    pub(crate) fn body(&self) -> String {
        let seen = self.line.shared.seen();
        String::from_utf8_lossy(&seen[self.number - 1].body).into_owned()
    }

    /// Waits until the other side closes the connection.
    pub(crate) fn wait_for_close(&mut self) {
        while self.line.fill() {}
    }

    /// A whole answer with this body.
    pub(crate) fn answer(&mut self, head: &str, body: impl AsRef<[u8]>) -> Then {
        let body = body.as_ref();
        self.read_body();
        let mut bytes = format!(
            "HTTP/1.1 {head}\r\nX-Origin-Seq: {}\r\nContent-Length: {}\r\n\r\n",
            self.number,
            body.len()
        )
        .into_bytes();
        if self.seen.method != "HEAD" {
            bytes.extend_from_slice(body);
        }
        self.send(bytes);
        Then::Next
    }

    fn usual(&mut self) -> Then {
        let upgrade = self
            .seen
            .all("upgrade")
            .iter()
            .any(|value| value.eq_ignore_ascii_case("websocket"));
        if upgrade && let Some(key) = self.seen.header("sec-websocket-key") {
            let accept = aws_lc_rs::digest::digest(
                &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
                format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
            );
            let accept = base64::engine::general_purpose::STANDARD.encode(accept);
            self.read_body();
            self.send(format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\nX-Origin-Seq: {}\r\n\r\n",
                self.number
            ));
            loop {
                let bytes = std::mem::take(&mut self.line.buffer);
                if !self.line.send(&bytes) || !self.line.fill() {
                    return Then::Close;
                }
            }
        }
        if !self.read_body() {
            return Then::Close;
        }
        self.answer(
            "200 OK\r\nContent-Type: text/plain",
            format!("answer {}\n", self.number),
        )
    }
}

/// A socket, and whether bytes were taken from it that are not on record yet.
struct Wire {
    stream: TcpStream,
    peer_port: u16,
    unrecorded: Mutex<bool>,
}

impl Wire {
    /// Nothing waits to be read, and everything read is on record. The end of a connection counts as unread.
    fn is_quiet(&self) -> bool {
        let unrecorded = lock(&self.unrecorded);
        let mut byte = [MaybeUninit::uninit()];
        let waiting = socket2::SockRef::from(&self.stream).recv_with_flags(&mut byte, PEEK_AT_ONCE);
        !*unrecorded && waiting.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection, from the origin's side.
struct Line {
    wire: Arc<Wire>,
    buffer: Vec<u8>,
    shared: Arc<Shared>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        lock(&self.seen)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, peer)) = listener.accept() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        shared.connections.fetch_add(1, Ordering::SeqCst);
        shared.open.fetch_add(1, Ordering::SeqCst);
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let wire = Arc::new(Wire {
            stream,
            peer_port: peer.port(),
            unrecorded: Mutex::new(false),
        });
        {
            let mut wires = lock(&shared.wires);
            wires.retain(|wire| wire.strong_count() > 0);
            wires.push(Arc::downgrade(&wire));
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let mut line = Line {
                wire,
                buffer: Vec::new(),
                shared: Arc::clone(&shared),
            };
            line.serve();
            drop(line);
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

impl Line {
    fn serve(&mut self) {
        let mut on_connection = 0;
        loop {
            let Some(seen) = self.head() else {
                return;
            };
            on_connection += 1;
            let number = {
                let mut all = self.shared.seen();
                all.push(seen.clone());
                all.len()
            };
            let whole_head = seen.problems.iter().all(|problem| problem != NO_HEAD);
            let shared = Arc::clone(&self.shared);
            let mut exchange = Exchange {
                seen,
                number,
                on_connection,
                line: self,
                body_read: false,
            };
            let mut then = if whole_head {
                (shared.script)(&mut exchange)
            } else {
                Then::Close
            };
            if then == Then::Usual {
                then = exchange.usual();
            }
            if then == Then::Next && !exchange.read_body() {
                then = Then::Close;
            }
            if let Some(seen) = shared.seen().get_mut(number - 1) {
                seen.ended = true;
            }
            match then {
                Then::Usual | Then::Next => {}
                Then::Close => {
                    drop(self.wire.stream.shutdown(Shutdown::Both));
                    return;
                }
                Then::Reset => {
                    socket2::SockRef::from(&self.wire.stream)
                        .set_linger(Some(Duration::ZERO))
                        .unwrap();
                    return;
                }
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> bool {
        (&self.wire.stream).write_all(bytes).is_ok()
    }

    /// Waits for bytes; `false` where no more come. Whatever was read before is on record when this is called.
    fn fill(&mut self) -> bool {
        *lock(&self.wire.unrecorded) = false;
        if self.wire.stream.peek(&mut [0]).is_err() {
            return false;
        }
        let mut unrecorded = lock(&self.wire.unrecorded);
        *unrecorded = true;
        let mut piece = [0; 64 * 1024];
        match (&self.wire.stream).read(&mut piece) {
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                count > 0
            }
            Err(_) => false,
        }
    }

    /// The next head; `None` where the connection ended between requests.
    fn head(&mut self) -> Option<Seen> {
        loop {
            if let Some(end) = head_end(&self.buffer) {
                let raw: Vec<u8> = self.buffer.drain(..end).collect();
                return Some(read_head(raw));
            }
            if !self.fill() {
                if self.buffer.is_empty() {
                    return None;
                }
                return Some(Seen {
                    raw: std::mem::take(&mut self.buffer),
                    ended: true,
                    problems: vec![NO_HEAD.into()],
                    ..Seen::default()
                });
            }
        }
    }

    fn body(&mut self, index: usize) {
        let (chunked, length) = {
            let seen = &self.shared.seen()[index];
            let length = seen
                .all("content-length")
                .first()
                .and_then(|value| value.parse::<u64>().ok());
            (
                !seen.all("transfer-encoding").is_empty(),
                length.unwrap_or(0),
            )
        };
        let whole = if chunked {
            self.chunks(index)
        } else {
            self.plain(index, length)
        };
        if let Some(seen) = self.shared.seen().get_mut(index) {
            seen.complete = whole;
            seen.ended = true;
        }
    }

    fn plain(&mut self, index: usize, mut left: u64) -> bool {
        while left > 0 {
            if self.buffer.is_empty() && !self.fill() {
                return false;
            }
            let count = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            let bytes: Vec<u8> = self.buffer.drain(..count).collect();
            self.note(index, &bytes, &bytes);
            left -= count as u64;
        }
        true
    }

    fn chunks(&mut self, index: usize) -> bool {
        loop {
            let Some(line) = self.text_line() else {
                return false;
            };
            self.note(index, &line, b"");
            let size = text(&line[..line.len() - 2]);
            let digits = size.split(';').next().unwrap_or_default();
            let good =
                (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            if !good || size.bytes().any(|b| b < b' ' || b == 0x7f) {
                self.problem(index, format!("odd chunk size `{size}`"));
            }
            let Ok(mut left) = usize::from_str_radix(digits, 16) else {
                return false;
            };
            if left == 0 {
                return self.trailers(index);
            }
            while left > 0 {
                if self.buffer.is_empty() && !self.fill() {
                    return false;
                }
                let count = left.min(self.buffer.len());
                let bytes: Vec<u8> = self.buffer.drain(..count).collect();
                self.note(index, &bytes, &bytes);
                left -= count;
            }
            match self.text_line() {
                Some(line) if line == b"\r\n" => self.note(index, &line, b""),
                Some(_) => {
                    self.problem(index, "no line end after a chunk".into());
                    return false;
                }
                None => return false,
            }
        }
    }

    fn trailers(&mut self, index: usize) -> bool {
        loop {
            let Some(line) = self.text_line() else {
                return false;
            };
            self.note(index, &line, b"");
            if line == b"\r\n" {
                return true;
            }
            let mut problems = Vec::new();
            let field = read_field(&text(&line[..line.len() - 2]), &mut problems);
            if let Some(seen) = self.shared.seen().get_mut(index) {
                seen.trailers.extend(field);
                seen.problems.append(&mut problems);
            }
        }
    }

    /// A line with its CRLF.
    fn text_line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                return Some(self.buffer.drain(..end + 2).collect());
            }
            if self.buffer.len() > 64 * 1024 || !self.fill() {
                return None;
            }
        }
    }

    fn note(&self, index: usize, raw: &[u8], body: &[u8]) {
        if let Some(seen) = self.shared.seen().get_mut(index) {
            if seen.raw.len() < KEPT {
                seen.raw.extend_from_slice(raw);
            }
            if seen.body.len() < KEPT {
                seen.body.extend_from_slice(body);
            }
            seen.body_size += body.len() as u64;
            seen.body_sum = body.iter().fold(seen.body_sum, |sum, byte| {
                sum.wrapping_add(u64::from(*byte))
            });
        }
    }

    fn problem(&self, index: usize, problem: String) {
        if let Some(seen) = self.shared.seen().get_mut(index) {
            seen.problems.push(problem);
        }
    }
}

/// The end of a head, however sloppily its lines end.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(next) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        at += next + 1;
        match bytes.get(at..) {
            Some([b'\n', ..]) => return Some(at + 1),
            Some([b'\r', b'\n', ..]) => return Some(at + 2),
            _ => {}
        }
    }
    None
}

fn read_head(raw: Vec<u8>) -> Seen {
    let mut problems = Vec::new();
    let whole = text(&raw);
    let bare = whole.replace("\r\n", "");
    if bare.contains(['\r', '\n']) {
        problems.push("bare CR or LF".into());
    }
    if bare
        .chars()
        .any(|c| (c < ' ' && c != '\t' && c != '\r' && c != '\n') || c == '\x7f')
    {
        problems.push("control bytes".into());
    }
    let mut lines = whole.trim_end_matches(['\r', '\n']).split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else {
        problems.push(format!("request line of {} words", words.len()));
        return Seen {
            raw,
            problems,
            ..Seen::default()
        };
    };
    if method.is_empty() || !method.bytes().all(is_token) {
        problems.push(format!("method `{method}`"));
    }
    if version != "HTTP/1.1" && version != "HTTP/1.0" {
        problems.push(format!("version `{version}`"));
    }
    let fields: Vec<(String, String)> = lines
        .filter_map(|line| read_field(line, &mut problems))
        .collect();
    judge(&fields, &mut problems);
    Seen {
        method: method.into(),
        target: target.into(),
        version: version.into(),
        raw,
        fields,
        problems,
        ..Seen::default()
    }
}

fn read_field(line: &str, problems: &mut Vec<String>) -> Option<(String, String)> {
    if line.starts_with([' ', '\t']) {
        problems.push("obs-fold".into());
        return None;
    }
    let Some((name, value)) = line.split_once(':') else {
        problems.push(format!("field without colon `{line}`"));
        return None;
    };
    if name.ends_with([' ', '\t']) {
        problems.push("whitespace before a colon".into());
    }
    if name.is_empty() || !name.bytes().all(is_token) {
        problems.push(format!("field name `{name}`"));
    }
    Some((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

/// What a strict reader holds against these fields taken together.
fn judge(fields: &[(String, String)], problems: &mut Vec<String>) {
    let all = |name: &str| -> Vec<&str> {
        fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    };
    let (lengths, codings, hosts) = (all("content-length"), all("transfer-encoding"), all("host"));
    if !lengths.is_empty() && !codings.is_empty() {
        problems.push("Content-Length and Transfer-Encoding together".into());
    }
    if lengths.len() > 1 {
        problems.push("repeated Content-Length".into());
    }
    if lengths
        .iter()
        .any(|value| value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()))
    {
        problems.push(format!("Content-Length {lengths:?}"));
    }
    if codings.len() > 1
        || codings
            .iter()
            .any(|value| !value.eq_ignore_ascii_case("chunked"))
    {
        problems.push(format!("Transfer-Encoding {codings:?}"));
    }
    if hosts.len() > 1 {
        problems.push("repeated Host".into());
    }
    for (name, _) in fields {
        let plain = name.to_ascii_lowercase();
        let fold = folded(name);
        if plain != fold && ["content-length", "transfer-encoding", "host"].contains(&fold.as_str())
        {
            problems.push(format!("`{name}` folds to a framing header"));
        }
    }
}

/// The name as CGI and its heirs read it.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `MSG_PEEK | MSG_DONTWAIT` of Linux.
const PEEK_AT_ONCE: i32 = 0x2 | 0x40;
/// Bytes of a request that are kept.
const KEPT: usize = 256 * 1024;
/// The connection ended within a head.
const NO_HEAD: &str = "the head broke off";

/// Client and origin without a gate between them: what the other tests stand on.
#[test]
fn client_and_origin_understand_each_other() {
    use super::client::{Client, request};

    let origin = Origin::start();
    let mut client = Client::connect(origin.address());
    assert_eq!(client.ask("GET /x", &[]).is(200).text(), "answer 1\n");
    assert_eq!(client.ask("HEAD /x", &[]).is(200).body, b"");
    client.ask_with("POST /x", &[], b"hello").is(200);
    assert_eq!(origin.last().body, b"hello");
    client.send(request(
        "POST /x",
        &["Transfer-Encoding: chunked", "Expect: 100-continue"],
        b"5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
    ));
    assert_eq!(client.response("POST").is(200).interim, [100]);
    let seen = origin.last();
    assert_eq!(
        (seen.body.as_slice(), seen.trailers.len()),
        (&b"hello"[..], 1)
    );
    assert!(
        seen.problems.is_empty() && seen.complete,
        "{:?}",
        seen.problems
    );
    for (bytes, problem) in [
        (
            &b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"[..],
            "repeated Host",
        ),
        (
            b"GET /x HTTP/1.1\r\nA : b\r\n\r\n",
            "whitespace before a colon",
        ),
        (b"GET /x HTTP/1.1\r\nA: b\r\n c\r\n\r\n", "obs-fold"),
        (b"GET /x HTTP/1.1\r\nA: b\nC: d\r\n\r\n", "bare CR or LF"),
        (b"GET /x HTTP/1.1\r\nA: \x01\r\n\r\n", "control bytes"),
        (
            b"GET /x HTTP/1.1\r\nContent_Length: 0\r\n\r\n",
            "`Content_Length` folds to a framing header",
        ),
        (
            b"GET /x HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Content-Length and Transfer-Encoding together",
        ),
        (
            b"GET /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n+0\r\n\r\n",
            "odd chunk size `+0`",
        ),
    ] {
        let before = origin.count();
        let mut client = Client::connect(origin.address());
        client.send(bytes);
        client.half_close();
        eventually("it is read", || {
            origin.count() > before && origin.last().ended
        });
        assert!(
            origin.last().problems.contains(&problem.to_owned()),
            "{problem}: {:?}",
            origin.last().problems
        );
    }
    drop(client);
    eventually("all connections end", || origin.open() == 0);
}
