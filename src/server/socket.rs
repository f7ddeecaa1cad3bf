//! Binding listeners.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Which of the listeners with one address: several may ask for port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerKey {
    /// The address as configured.
    pub address: SocketAddr,
    /// Its place among the listeners with this address, from 0.
    pub nth: usize,
}

/// Binds a listening socket.
///
/// # Errors
/// What the system says: address in use, not permitted, not there.
pub fn bind(address: SocketAddr, reuseport: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if reuseport {
        socket.set_reuse_port(true)?;
    }
    if let SocketAddr::V6(v6) = address {
        // `[::]` means IPv6 alone, so that `0.0.0.0` can stand beside it; a mapped address is IPv4 traffic on an IPv6 socket.
        socket.set_only_v6(v6.ip().to_ipv4_mapped().is_none())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connections that may wait for an accept; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
