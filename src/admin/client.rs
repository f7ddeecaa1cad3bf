//! Asking a running instance: what `status`, `reload` and `healthcheck` do.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An answer of the admin.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The JSON body.
    pub body: serde_json::Value,
}

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A Unix socket.
    Socket(PathBuf),
    /// `host:port`.
    Tcp(String),
}

/// Asks; `method` and `path` as in the table of [`crate::admin`]. On TCP the token is that of `PORTCULLIS_ADMIN_TOKEN`.
///
/// # Errors
/// Where nobody answers there, or not in HTTP and JSON.
pub fn ask(place: &Place, method: &str, path: &str) -> io::Result<Reply> {
    match place {
        Place::Socket(socket) => {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            talk(stream, method, path, "admin", None)
        }
        Place::Tcp(address) => {
            let stream = connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            // What is reached, whatever it was called: the admin answers to no other name.
            let host = stream.peer_addr()?.to_string();
            let token = std::env::var(TOKEN_VARIABLE).ok();
            talk(stream, method, path, &host, token.as_deref())
        }
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut failure = io::ErrorKind::AddrNotAvailable.into();
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn talk(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    host: &str,
    token: Option<&str>,
) -> io::Result<Reply> {
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n"
    );
    if let Some(token) = token {
        let token = http::HeaderValue::from_str(token).map_err(io::Error::other)?;
        let token = token.to_str().map_err(io::Error::other)?;
        head.push_str(&format!("authorization: Bearer {token}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    let mut text = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "no answer that makes sense");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(malformed)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(malformed)?;
    let body = serde_json::from_str(body).map_err(io::Error::from)?;
    Ok(Reply { status, body })
}

/// A value for a query, percent-encoded but for what RFC 3986 §2.3 reserves to nobody.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The text behind [`encode`]; nothing where it is none.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok()
}

/// Where to ask: the place named, or the first of the usual sockets that is there.
#[must_use]
pub fn usual(named: Option<&Path>) -> Place {
    if let Some(named) = named {
        return Place::from(named);
    }
    let installed = Path::new(INSTALLED_SOCKET);
    Place::Socket(if installed.exists() {
        installed.to_owned()
    } else {
        PathBuf::from(super::LOCAL_SOCKET)
    })
}

impl From<&Path> for Place {
    /// `address:port`, `host:port` and `http://…` are addresses, unless such a file exists; anything else is a socket.
    fn from(named: &Path) -> Self {
        let socket = || Self::Socket(named.to_owned());
        let Some(text) = named.to_str() else {
            return socket();
        };
        if let Some(rest) = text.strip_prefix("http://") {
            let address = rest.split('/').next().unwrap_or(rest);
            return Self::Tcp(address.to_owned());
        }
        let of_name = || {
            let (host, port) = text.rsplit_once(':')?;
            let plain = !host.is_empty() && !host.contains(['/', ':']);
            (plain && port.parse::<u16>().is_ok()).then_some(())
        };
        if !named.exists() && (text.parse::<SocketAddr>().is_ok() || of_name().is_some()) {
            return Self::Tcp(text.to_owned());
        }
        socket()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Tcp(address) => f.write_str(address),
        }
    }
}

/// Holds the token for callers on TCP.
pub const TOKEN_VARIABLE: &str = "PORTCULLIS_ADMIN_TOKEN";
/// Where an installed service has its socket.
const INSTALLED_SOCKET: &str = "/run/portcullis/admin.sock";
/// A reload of a large configuration takes a while.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_query() {
        for (text, want) in [
            ("app", "app"),
            ("[::1]:3000", "%5B%3A%3A1%5D%3A3000"),
            ("/run/a b.sock", "%2Frun%2Fa%20b.sock"),
            ("é&=", "%C3%A9%26%3D"),
        ] {
            assert_eq!(encode(text), want);
            assert_eq!(decode(want).as_deref(), Some(text));
        }
        for broken in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    #[test]
    fn addresses_and_sockets_are_told_apart() {
        for (named, tcp) in [
            ("/run/portcullis/admin.sock", None),
            ("admin.sock", None),
            ("./a:1", None),
            ("name:port", None),
            (":9403", None),
            ("127.0.0.1:9403", Some("127.0.0.1:9403")),
            ("[::1]:9403", Some("[::1]:9403")),
            ("localhost:9403", Some("localhost:9403")),
            ("http://10.0.0.1:9403/", Some("10.0.0.1:9403")),
        ] {
            let want = tcp.map_or_else(
                || Place::Socket(PathBuf::from(named)),
                |address| Place::Tcp(address.to_owned()),
            );
            assert_eq!(Place::from(Path::new(named)), want, "{named}");
        }
    }
}
