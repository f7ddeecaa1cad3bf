//! One new connection to a server of an upstream.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::demo;
use super::io::UpstreamIo;
use crate::snapshot::tls::ClientTls;
use crate::snapshot::{Endpoint, UpstreamServer};
use crate::value::failure::Failure;

/// Opens a connection. The caller bounds the time.
///
/// # Errors
/// [`Failure::Resolve`], [`Failure::ConnectRefused`] or [`Failure::UpstreamTls`].
pub(super) async fn connect(
    server: &UpstreamServer,
    tls: Option<&Arc<ClientTls>>,
) -> Result<UpstreamIo, Failure> {
    let tcp = match &server.address {
        Endpoint::Address(address) => tcp(*address).await?,
        Endpoint::Name(name, port) => by_name(name, *port).await?,
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path)
                .await
                .inspect_err(|error| refused(server, error));
            return stream
                .map(UpstreamIo::Unix)
                .ok()
                .ok_or(Failure::ConnectRefused);
        }
        Endpoint::Demo => return Ok(UpstreamIo::Demo(demo::connect())),
    };
    let (Some(name), Some(tls)) = (&server.tls, tls) else {
        return Ok(UpstreamIo::Tcp(tcp));
    };
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    let stream = connector
        .connect(name.clone(), tcp)
        .await
        .inspect_err(|error| refused(server, error));
    stream
        .map(|stream| UpstreamIo::Tls(Box::new(stream)))
        .ok()
        .ok_or(Failure::UpstreamTls)
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
    let stream = TcpStream::connect(address)
        .await
        .ok()
        .ok_or(Failure::ConnectRefused)?;
    // A proxy writes whole messages; waiting for more only delays them.
    drop(stream.set_nodelay(true));
    Ok(stream)
}

fn refused(server: &UpstreamServer, error: &std::io::Error) {
    tracing::warn!(server = %server.url, %error, "upstream connection failed");
}
