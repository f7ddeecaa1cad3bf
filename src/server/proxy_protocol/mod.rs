//! The PROXY protocol, versions 1 and 2: who is behind the balancer that opened this connection (haproxy's
//! `proxy-protocol.txt`).
//!
//! `examine` is a total function over bytes; `read` feeds it from a socket and takes exactly the header's bytes, so that TLS
//! or HTTP begins untouched behind it. Whether the peer may be believed at all is for `conn` to say.
//!
//! Read strictly, since two readings of an address are two clients: one space between words, decimal ports without a leading
//! zero, CR LF at the end of a line, the family of an address as announced. `UNKNOWN`, `LOCAL`, the unspecified family and Unix
//! sockets name no address: the TCP peer stays. Type-length-values behind a version 2 address are skipped.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// What a whole header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// The connection comes from here.
    Source(SocketAddr),
    /// It names nobody: the TCP peer speaks for itself.
    Peer,
}

/// How far a header has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It ends after so many bytes.
    Whole(Header, usize),
    /// So far it can become a header, and every byte is part of it; it cannot be longer than this without being examined again.
    Partial(usize),
}

/// These bytes open no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no PROXY protocol header")]
pub(crate) struct Malformed;

/// Why no header was read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The bytes are no header, or the connection ended within one; so many bytes were seen.
    #[error("{0} bytes that are no PROXY protocol header")]
    Malformed(usize),
    /// The connection ended before its first byte, or broke.
    #[error("connection ended")]
    Ended(#[source] Option<io::Error>),
}

/// Reads a header and not a byte more. The caller bounds the time; `seen` counts the bytes meanwhile.
///
/// # Errors
/// [`ReadError`]: the connection must be closed.
pub(crate) async fn read(socket: &mut TcpStream, seen: &mut usize) -> Result<Header, ReadError> {
    let mut bytes = vec![0; V1_BYTES_MAX];
    let mut most = V2_HEAD_BYTES;
    let mut have = 0;
    loop {
        bytes.resize(most.max(bytes.len()), 0);
        let space = bytes.get_mut(have..most).unwrap_or_default();
        // A look, since a line's end is only known once it is seen. What is known to be header is then taken, so that the next look
        // waits for news instead of spinning.
        let looked = socket.peek(space).await;
        let more = looked.map_err(|error| ReadError::Ended(Some(error)))?;
        if more == 0 {
            return Err(match have {
                0 => ReadError::Ended(None),
                _ => ReadError::Malformed(have),
            });
        }
        *seen = have + more;
        let progress = examine(bytes.get(..*seen).unwrap_or_default())
            .map_err(|Malformed| ReadError::Malformed(*seen))?;
        let until = match progress {
            Progress::Whole(_, length) => length,
            Progress::Partial(_) => *seen,
        };
        let taken = bytes.get_mut(have..until).unwrap_or_default();
        let read = socket.read_exact(taken).await;
        read.map_err(|error| ReadError::Ended(Some(error)))?;
        match progress {
            Progress::Whole(header, _) => return Ok(header),
            Progress::Partial(longest) => (have, most) = (until, longest),
        }
    }
}

/// Reads what has come of a header, and perhaps of what follows it.
///
/// # Errors
/// [`Malformed`] as soon as no continuation could make it a header.
pub(crate) fn examine(bytes: &[u8]) -> Result<Progress, Malformed> {
    if begins(bytes, SIGNATURE) {
        return binary(bytes);
    }
    if begins(bytes, V1_START) {
        return line(bytes);
    }
    Err(Malformed)
}

/// Whether one is the beginning of the other.
fn begins(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.iter().zip(mark).all(|(have, want)| have == want)
}

/// Version 1: one line of text, at most 107 bytes with its CR LF.
fn line(bytes: &[u8]) -> Result<Progress, Malformed> {
    let bytes = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() < V1_BYTES_MAX {
            Ok(Progress::Partial(V1_BYTES_MAX))
        } else {
            Err(Malformed)
        };
    };
    let text = bytes.get(..end).and_then(|text| text.strip_suffix(b"\r"));
    let text = text.and_then(|text| text.strip_prefix(V1_START));
    let text = text.ok_or(Malformed)?;
    // A receiver must not look at what follows `UNKNOWN`.
    let header = if text == b"UNKNOWN" || text.starts_with(b"UNKNOWN ") {
        Header::Peer
    } else {
        let text = std::str::from_utf8(text).ok().ok_or(Malformed)?;
        Header::Source(source_of(text).ok_or(Malformed)?)
    };
    Ok(Progress::Whole(header, end + 1))
}

/// `TCP4 192.0.2.1 192.0.2.9 1234 80`: the source of it.
fn source_of(text: &str) -> Option<SocketAddr> {
    let mut words = text.split(' ');
    let family = words.next()?;
    let (source, destination) = (words.next()?, words.next()?);
    let (port, _) = (port(words.next()?)?, port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    let address = match family {
        "TCP4" => IpAddr::V4(both::<Ipv4Addr>(source, destination)?),
        "TCP6" => IpAddr::V6(both::<Ipv6Addr>(source, destination)?),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// The source, where both are addresses of the family.
fn both<A: FromStr>(source: &str, destination: &str) -> Option<A> {
    destination.parse::<A>().ok()?;
    source.parse().ok()
}

fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = text == "0" || !text.starts_with('0');
    (digits && plain).then(|| text.parse().ok()).flatten()
}

/// Version 2: signature, version and command, family and transport, length, and so many bytes.
fn binary(bytes: &[u8]) -> Result<Progress, Malformed> {
    let Some(([.., command, family, high, low], rest)) = bytes.split_first_chunk::<V2_HEAD_BYTES>()
    else {
        return Ok(Progress::Partial(V2_HEAD_BYTES));
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > V2_REST_BYTES_MAX {
        return Err(Malformed);
    }
    // How many bytes of the rest are addresses.
    let addresses = match (*command, *family) {
        // The balancer itself, such as its health check: whatever else it says is not looked at.
        (LOCAL, _) | (PROXY, 0x00) => 0,
        // The second digit tells how the client reached the balancer: by TCP, or by UDP (QUIC).
        (PROXY, 0x11 | 0x12) => 12,
        (PROXY, 0x21 | 0x22) => 36,
        (PROXY, 0x31 | 0x32) => 216,
        _ => return Err(Malformed),
    };
    if length < addresses {
        return Err(Malformed);
    }
    let Some(rest) = rest.get(..length) else {
        return Ok(Progress::Partial(V2_HEAD_BYTES + length));
    };
    let header = match addresses {
        12 => rest.first_chunk::<12>().map(|addresses| {
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            (Ipv4Addr::from([a, b, c, d]).into(), [high, low])
        }),
        36 => rest.first_chunk::<36>().and_then(|addresses| {
            let (source, rest) = addresses.split_first_chunk::<16>()?;
            let [.., high, low, _, _] = rest.first_chunk::<20>()?;
            Some((Ipv6Addr::from(*source).into(), [*high, *low]))
        }),
        _ => None,
    };
    let header = header.map_or(Header::Peer, |(address, port)| {
        Header::Source(SocketAddr::new(address, u16::from_be_bytes(port)))
    });
    Ok(Progress::Whole(header, V2_HEAD_BYTES + length))
}

/// What version 1 opens with.
const V1_START: &[u8] = b"PROXY ";
/// The longest line of version 1, its CR LF included.
const V1_BYTES_MAX: usize = 107;
/// What version 2 opens with: nothing that HTTP or TLS could begin with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_HEAD_BYTES: usize = 16;
/// Addresses and type-length-values: balancers send some tens of bytes; a certificate's names may be longer.
const V2_REST_BYTES_MAX: usize = 4096;
/// Version 2, command LOCAL.
const LOCAL: u8 = 0x20;
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;

#[cfg(test)]
mod tests;
