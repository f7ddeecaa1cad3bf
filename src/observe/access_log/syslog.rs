//! Lines as messages to a syslog server: RFC 5424, or RFC 3164 for servers that know nothing else.
//!
//! One line is one message: facility as configured, severity `info`, the moment of sending. A datagram that the server's
//! socket has no room for, or a connection that does not move, waits here, on the thread of this destination, and never on a
//! worker. What is broken is connected anew; a server that is away is tried again as a full disk is.
//!
//! A message has at most 8 KiB over UDP and 64 KiB otherwise, and less where the system takes less. A longer line is cut, and
//! that is counted: cut JSON is no JSON, but the beginning says which request it was.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::writer::{Counters, Target};
use crate::snapshot::syslog::{Server, Syntax, Syslog};

/// The messages to one server.
#[derive(Debug)]
pub(super) struct Messages {
    syslog: Syslog,
    zone: TimeZone,
    host: String,
    socket: Option<Socket>,
    /// A message has at most so many bytes.
    most: usize,
    message: Vec<u8>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Messages {
    /// Connects with the first message: a server that is away stops nobody from starting.
    pub(super) fn to(syslog: Syslog, counters: &Arc<Counters>) -> Self {
        Self {
            most: match syslog.server {
                Server::Udp(_) => 8 << 10,
                Server::Unix(_) | Server::Tcp(_) => 64 << 10,
            },
            syslog,
            zone: TimeZone::system(),
            host: host(),
            socket: None,
            message: Vec::new(),
            counters: Arc::clone(counters),
        }
    }

    /// Makes the message of a line. Answers whether the line had to be cut.
    fn frame(&mut self, line: &[u8], now: Timestamp) -> bool {
        let (tag, process, host) = (&self.syslog.tag, std::process::id(), &self.host);
        let priority = u32::from(self.syslog.facility) * 8 + INFO;
        let mut head = String::with_capacity(128);
        // Writing to a string cannot fail.
        let _never = match self.syslog.format {
            Syntax::Rfc5424 => {
                let moment = now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ");
                write!(
                    head,
                    "<{priority}>1 {moment} {host} {tag} {process} access - "
                )
            }
            Syntax::Rfc3164 => {
                let moment = now.to_zoned(self.zone.clone());
                let moment = moment.strftime("%b %e %H:%M:%S");
                match self.syslog.server {
                    Server::Unix(_) => write!(head, "<{priority}>{moment} {tag}[{process}]: "),
                    Server::Udp(_) | Server::Tcp(_) => {
                        write!(head, "<{priority}>{moment} {host} {tag}[{process}]: ")
                    }
                }
            }
        };
        let room = self.most.saturating_sub(head.len());
        let text = cut(line, room);
        self.message.clear();
        if let Server::Tcp(_) = self.syslog.server {
            let length = head.len() + text.len();
            let _never = write!(self.message, "{length} ");
        }
        self.message.extend_from_slice(head.as_bytes());
        self.message.extend_from_slice(text);
        text.len() < line.len()
    }

    fn send(&mut self) -> io::Result<()> {
        if let Some(socket) = &mut self.socket {
            match socket.send(&self.message) {
                Ok(()) => return Ok(()),
                Err(error) if waits(&error) || too_long(&error) => return Err(error),
                // The server was started anew, perhaps.
                Err(_) => self.socket = None,
            }
        }
        let mut socket = Socket::connect(&self.syslog.server)?;
        let sent = socket.send(&self.message);
        if sent
            .as_ref()
            .err()
            .is_none_or(|error| waits(error) || too_long(error))
        {
            self.socket = Some(socket);
        }
        sent
    }
}

impl Target for Messages {
    /// Sends the first line.
    fn put(&mut self, lines: &[u8]) -> io::Result<usize> {
        let feed = lines.iter().position(|byte| *byte == b'\n');
        let (line, taken) = match feed {
            Some(feed) => (lines.get(..feed).unwrap_or_default(), feed + 1),
            None => (lines, lines.len()),
        };
        loop {
            let shorter = self.frame(line, Timestamp::now());
            match self.send() {
                Ok(()) if shorter => {
                    self.counters.cut.fetch_add(1, Ordering::Relaxed);
                    return Ok(taken);
                }
                Ok(()) => return Ok(taken),
                // The system takes less than we thought.
                Err(error) if too_long(&error) && self.most > LEAST => {
                    self.most = (self.message.len().min(self.most) / 2).max(LEAST);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Socket {
    fn connect(server: &Server) -> io::Result<Self> {
        match server {
            Server::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_write_timeout(Some(WAIT))?;
                Ok(Self::Unix(socket))
            }
            Server::Udp(address) => each(address, |address| {
                let any = match address {
                    SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                    SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                socket.set_write_timeout(Some(WAIT))?;
                Ok(Self::Udp(socket))
            }),
            Server::Tcp(address) => each(address, |address| {
                let stream = TcpStream::connect_timeout(&address, CONNECT)?;
                stream.set_write_timeout(Some(WAIT))?;
                Ok(Self::Tcp(stream))
            }),
        }
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.send(message).map(drop),
            Self::Udp(socket) => socket.send(message).map(drop),
            Self::Tcp(stream) => whole(stream, message),
        }
    }
}

/// Writes all of a message or answers that nothing was taken; a message of which a part is stuck ends the connection.
fn whole(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let mut rest = message;
    let mut patience = STUCK;
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if waits(&error) && rest.len() == message.len() => return Err(error),
            Err(error) if waits(&error) && patience > 0 => patience -= 1,
            Err(error) if waits(&error) => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn each(address: &str, connect: impl Fn(SocketAddr) -> io::Result<Socket>) -> io::Result<Socket> {
    let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()? {
        match connect(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether the other side is only slow.
fn waits(error: &io::Error) -> bool {
    // A datagram socket without room for one more says `ENOBUFS` where it does not wait.
    error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}

fn too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// At most `room` bytes, no character divided.
fn cut(line: &[u8], room: usize) -> &[u8] {
    let continues = |at: usize| line.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
    let mut end = line.len().min(room);
    while end > 0 && continues(end) {
        end -= 1;
    }
    line.get(..end).unwrap_or_default()
}

/// The name of this machine as RFC 5424 wants it: visible ASCII, or `-`.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    let plain = !name.is_empty() && name.len() <= 255 && name.bytes().all(|b| b.is_ascii_graphic());
    if plain {
        name.to_owned()
    } else {
        "-".to_owned()
    }
}

/// The severity `info`.
const INFO: u32 = 6;
/// What every server takes (RFC 5426 §3.2).
const LEAST: usize = 480;
/// How long one try waits for room; then the thread looks whether it shall end.
const WAIT: Duration = Duration::from_millis(200);
/// So many tries may wait within a message over TCP.
const STUCK: u32 = 25;
/// How long a TCP connection may take.
const CONNECT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]

    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;

    fn messages(syslog: &str) -> (Messages, Arc<Counters>) {
        let counters = Arc::default();
        let mut messages = Messages::to(Syslog::parse(syslog).unwrap(), &counters);
        messages.host = "gate".to_owned();
        messages.zone = TimeZone::UTC;
        (messages, counters)
    }

    #[test]
    fn messages_have_the_form_of_their_standard() {
        let now: Timestamp = "2026-11-04T19:55:22.123456Z".parse().unwrap();
        let pid = std::process::id();
        for (syslog, want, why) in [
            (
                "/s",
                format!("<190>1 2026-11-04T19:55:22.123456Z gate portcullis {pid} access - x"),
                "local7, info",
            ),
            (
                "udp://h?facility=auth&tag=shop",
                format!("<38>1 2026-11-04T19:55:22.123456Z gate shop {pid} access - x"),
                "auth",
            ),
            (
                "/s?format=rfc3164",
                format!("<190>Nov  4 19:55:22 portcullis[{pid}]: x"),
                "as syslog(3) writes it",
            ),
            (
                "udp://h?format=rfc3164",
                format!("<190>Nov  4 19:55:22 gate portcullis[{pid}]: x"),
                "the network is told which machine",
            ),
        ] {
            let (mut messages, _) = messages(syslog);
            assert!(!messages.frame(b"x", now));
            assert_eq!(String::from_utf8_lossy(&messages.message), want, "{why}");
        }
        let (mut messages, _) = messages("tcp://h");
        messages.frame(b"x", now);
        let text = String::from_utf8(messages.message).unwrap();
        let (count, rest) = text.split_once(' ').unwrap();
        assert_eq!(count.parse(), Ok(rest.len()), "octets are counted");
    }

    #[test]
    fn long_lines_are_cut_between_characters_and_counted() {
        for (line, room, want) in [
            ("abc", 3, "abc"),  // n
            ("abcd", 3, "abc"), // n + 1
            ("abé", 3, "ab"),   // the last character has two bytes
            ("é", 0, ""),
        ] {
            assert_eq!(cut(line.as_bytes(), room), want.as_bytes(), "{line}");
        }
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (mut messages, counters) = messages(&format!("udp://{}", server.local_addr().unwrap()));
        let line = vec![b'x'; 9000];
        assert_eq!(messages.put(&line).unwrap(), 9000);
        let mut room = vec![0; 10_000];
        assert_eq!(server.recv(&mut room).unwrap(), 8 << 10);
        assert_eq!(counters.cut.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_server_that_comes_back_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (mut messages, _) = messages(path.to_str().unwrap());
        let away = messages.put(b"a\n").unwrap_err();
        assert_eq!(away.kind(), ErrorKind::NotFound, "no wait, no panic");
        for turn in 0..2 {
            drop(std::fs::remove_file(&path));
            let server = UnixDatagram::bind(&path).unwrap();
            assert_eq!(messages.put(b"one\ntwo\n").unwrap(), 4, "{turn}");
            assert_eq!(messages.put(b"two\n").unwrap(), 4, "{turn}");
            let mut room = [0; 200];
            for want in ["one", "two"] {
                let length = server.recv(&mut room).unwrap();
                let text = String::from_utf8_lossy(&room[..length]).into_owned();
                assert!(text.ends_with(&format!(" access - {want}")), "{text}");
            }
        }
    }

    #[test]
    fn a_server_that_does_not_read_is_slow_and_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _server = UnixDatagram::bind(&path).unwrap();
        let (mut messages, _) = messages(path.to_str().unwrap());
        let full = (0..100_000).find_map(|_| messages.put(b"line\n").err());
        assert!(waits(&full.unwrap()));
        assert!(messages.socket.is_some(), "the connection is kept");
    }

    #[test]
    fn tcp_frames_follow_each_other() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut messages, _) = messages(&format!("tcp://{}", listener.local_addr().unwrap()));
        assert_eq!(messages.put(b"one\n").unwrap(), 4);
        let (mut server, _) = listener.accept().unwrap();
        assert_eq!(messages.put(b"two\n").unwrap(), 4);
        drop(messages);
        let mut text = String::new();
        server.read_to_string(&mut text).unwrap();
        let (count, rest) = text.split_once(' ').unwrap();
        let (first, second) = rest.split_at(count.parse().unwrap());
        assert!(first.ends_with("access - one"), "{first}");
        assert!(second.ends_with("access - two"), "{second}");
    }
}
