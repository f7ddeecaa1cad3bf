//! One new connection to a server of an upstream.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::forward::Caller;
use super::io::UpstreamIo;
use super::{demo, introduce, registry};
use crate::snapshot::tls::ClientTls;
use crate::snapshot::{Codec, Endpoint, Upstream, UpstreamServer};
use crate::value::failure::Failure;

/// What a server is asked to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Which of both it likes: `speaks_http2` tells.
    Either,
}

impl Offer {
    /// What the servers of an upstream are asked to speak, for all but upgrades.
    pub(super) const fn of(codec: Codec) -> Self {
        match codec {
            Codec::Lean | Codec::Hyper => Self::Http1,
            Codec::Http2 => Self::Http2,
            Codec::Auto => Self::Either,
        }
    }
}

/// Opens a connection to an endpoint of the upstream, and says who the client is where that is asked for. The caller bounds the
/// time; without a `caller` it is a question of our own.
///
/// # Errors
/// [`Failure::Resolve`], [`Failure::ConnectRefused`] or [`Failure::UpstreamTls`].
pub(super) async fn connect(
    upstream: &Upstream,
    endpoint: &registry::Endpoint,
    caller: Option<&Caller>,
    offer: Offer,
) -> Result<UpstreamIo, Failure> {
    let server = &endpoint.server;
    let introduction = upstream
        .proxy_protocol
        .map(|version| introduce::header(version, caller));
    let connecting = match (&server.address, endpoint.address) {
        (_, Some(address)) => tcp(address).await,
        (Endpoint::Address(address), None) => tcp(*address).await,
        (Endpoint::Name(name, port), None) => by_name(name, *port).await,
        (Endpoint::Unix(path), None) => return unix(server, path, introduction).await,
        (Endpoint::Demo, None) => return Ok(UpstreamIo::Demo(demo::connect())),
    };
    let mut tcp = connecting.inspect_err(|failure| {
        tracing::debug!(server = %server.url, endpoint = %endpoint.label, %failure, "cannot connect");
    })?;
    introduced(server, &mut tcp, introduction).await?;
    secured(server, upstream.tls.as_ref(), offer, tcp).await
}

/// Opens a connection to a server that belongs to no upstream: one that we ask ourselves. The caller bounds the time.
///
/// # Errors
/// As [`connect`].
pub(super) async fn connect_to(
    server: &UpstreamServer,
    tls: Option<&Arc<ClientTls>>,
) -> Result<UpstreamIo, Failure> {
    let tcp = match &server.address {
        Endpoint::Address(address) => tcp(*address).await?,
        Endpoint::Name(name, port) => by_name(name, *port).await?,
        Endpoint::Unix(path) => return unix(server, path, None).await,
        Endpoint::Demo => return Ok(UpstreamIo::Demo(demo::connect())),
    };
    secured(server, tls, Offer::Http1, tcp).await
}

/// TLS over a connection, where the server speaks it.
async fn secured(
    server: &UpstreamServer,
    tls: Option<&Arc<ClientTls>>,
    offer: Offer,
    tcp: TcpStream,
) -> Result<UpstreamIo, Failure> {
    let (Some(name), Some(tls)) = (&server.tls, tls) else {
        return Ok(UpstreamIo::Tcp(tcp));
    };
    let config = match offer {
        Offer::Http1 | Offer::Http2 => &tls.config,
        Offer::Either => tls.either.as_ref().unwrap_or(&tls.config),
    };
    let connector = TlsConnector::from(Arc::clone(config));
    let stream = connector
        .connect(name.clone(), tcp)
        .await
        .inspect_err(|error| refused(server, error));
    let stream = stream.ok().ok_or(Failure::UpstreamTls)?;
    if offer == Offer::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        tracing::warn!(server = %server.url, "upstream does not speak HTTP/2");
        return Err(Failure::UpstreamTls);
    }
    Ok(UpstreamIo::Tls(Box::new(stream)))
}

async fn unix(
    server: &UpstreamServer,
    path: &Path,
    introduction: Option<Vec<u8>>,
) -> Result<UpstreamIo, Failure> {
    let stream = UnixStream::connect(path).await;
    let stream = stream.inspect_err(|error| refused(server, error));
    let mut stream = stream.map_err(|error| unconnected(&error))?;
    introduced(server, &mut stream, introduction).await?;
    Ok(UpstreamIo::Unix(stream))
}

/// Sends the PROXY protocol header, before anything else.
async fn introduced(
    server: &UpstreamServer,
    stream: &mut (impl AsyncWrite + Unpin),
    introduction: Option<Vec<u8>>,
) -> Result<(), Failure> {
    let Some(header) = introduction else {
        return Ok(());
    };
    let sent = stream.write_all(&header).await;
    let sent = sent.inspect_err(|error| refused(server, error));
    sent.ok().ok_or(Failure::UpstreamClosed)
}

async fn by_name(name: &str, port: u16) -> Result<TcpStream, Failure> {
    let addresses = tokio::net::lookup_host((name, port))
        .await
        .ok()
        .ok_or(Failure::Resolve)?;
    let mut last = Failure::Resolve;
    for address in addresses {
        match tcp(address).await {
            Ok(stream) => return Ok(stream),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

async fn tcp(address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| unconnected(&error))?;
    // A proxy writes whole messages; waiting for more only delays them.
    drop(stream.set_nodelay(true));
    Ok(stream)
}

/// Whose fault it is that there is no connection: where this machine has no more descriptors, ports or memory, no server is to
/// blame.
fn unconnected(error: &std::io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL) => {
            Failure::Overloaded
        }
        _ => Failure::ConnectRefused,
    }
}

fn refused(server: &UpstreamServer, error: &std::io::Error) {
    tracing::warn!(server = %server.url, %error, "upstream connection failed");
}
