//! Asking a running instance: what `status`, `reload` and `healthcheck` do.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An answer of the admin socket.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The JSON body.
    pub body: serde_json::Value,
}

/// Asks; `method` and `path` as in the table of [`crate::admin`].
///
/// # Errors
/// Where nobody answers on the socket, or not in HTTP and JSON.
pub fn ask(socket: &Path, method: &str, path: &str) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    )?;
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

/// The socket to ask: the one named, or the first of the usual places that is there.
#[must_use]
pub fn usual(named: Option<&Path>) -> PathBuf {
    if let Some(named) = named {
        return named.to_owned();
    }
    let installed = Path::new(INSTALLED_SOCKET);
    if installed.exists() {
        installed.to_owned()
    } else {
        PathBuf::from(super::LOCAL_SOCKET)
    }
}

/// Where an installed service has its socket.
const INSTALLED_SOCKET: &str = "/run/portcullis/admin.sock";
/// A reload of a large configuration takes a while.
const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
