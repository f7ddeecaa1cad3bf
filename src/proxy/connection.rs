//! What is true of a client connection for all its requests.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::SEC_WEBSOCKET_ACCEPT;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::exchange::Exchange;
use super::upward::address_value;
use crate::identity::certificate::ClientCertificate;
use crate::policy::facts::{Scheme, TlsFacts};
use crate::snapshot::Listener;
use crate::snapshot::tls::ServerTls;
use crate::upstream::Clock;
use crate::upstream::forward::{Caller, Upgrading};
use crate::value::cidr::canonical;

/// The facts of one connection, gathered once.
#[derive(Debug)]
pub struct Connection {
    /// The socket's other end, as the kernel or a trusted PROXY header says.
    pub peer: SocketAddr,
    /// The peer's address in its canonical form.
    pub peer_address: IpAddr,
    /// The peer's address as a header value, for `X-Forwarded-For` where peer and client are one.
    pub peer_value: HeaderValue,
    /// The listener that accepted it.
    pub listener: Arc<Listener>,
    /// TLS facts, where it is TLS.
    pub tls: Option<TlsFacts>,
    /// The verified client certificate, where one was shown.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The listener's certificates, as they were at the handshake.
    pub certificates: Option<Arc<ServerTls>>,
    /// The server name that the client asked for (RFC 6066 §3).
    pub sni: Option<Rc<str>>,
    /// Its deadline.
    pub clock: Rc<Clock>,
    /// An upgrade that was agreed: the connection becomes a tunnel when its response has been written.
    pub tunnel: RefCell<Option<Tunnel>>,
    /// Set by the socket when a request line held a fragment, which the parser cuts off silently.
    pub fragment: Rc<Cell<bool>>,
    /// What the upstream must say to the key of a WebSocket handshake that we made of a stream (RFC 8441).
    pub accept: Option<Box<str>>,
}

/// A tunnel to be opened.
#[derive(Debug)]
pub struct Tunnel {
    /// Brings the upstream's end.
    pub upstream: Upgrading,
    /// How long it may be silent.
    pub patience: Duration,
    /// The record, closed when the tunnel ends.
    pub exchange: Box<Exchange>,
}

impl Connection {
    /// Puts the source that a trusted PROXY header names in the peer's place.
    pub fn introduce(&mut self, source: SocketAddr) {
        self.peer = SocketAddr::new(canonical(source.ip()), source.port());
        self.peer_address = self.peer.ip();
        self.peer_value = address_value(self.peer_address);
    }

    /// The same facts for one stream of an HTTP/2 connection, with a clock of its own.
    #[must_use]
    pub fn stream(&self, clock: Rc<Clock>) -> Self {
        Self {
            peer: self.peer,
            peer_address: self.peer_address,
            peer_value: self.peer_value.clone(),
            listener: Arc::clone(&self.listener),
            tls: self.tls,
            certificate: self.certificate.clone(),
            certificates: self.certificates.clone(),
            sni: self.sni.clone(),
            clock,
            tunnel: RefCell::new(None),
            fragment: Rc::default(),
            accept: None,
        }
    }

    /// Whether this answer to a handshake of ours is none: another protocol's end, or a success that opens no tunnel. To a stream,
    /// any success would mean a WebSocket (RFC 8441 §5).
    #[must_use]
    pub fn misled(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let Some(accept) = &self.accept else {
            return false;
        };
        let agreed = || {
            headers
                .get(SEC_WEBSOCKET_ACCEPT)
                .is_some_and(|value| value.as_bytes() == accept.as_bytes())
        };
        status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS && !agreed()
    }

    /// Who asks, as an upstream is told.
    #[must_use]
    pub fn caller(&self, client: IpAddr) -> Caller {
        // Of a client behind a proxy nobody has told the port.
        let port = if client == self.peer_address {
            self.peer.port()
        } else {
            0
        };
        Caller {
            client,
            source: SocketAddr::new(client, port),
            target: self.listener.address,
        }
    }

    /// The subject of the client certificate (RFC 4514), for the log.
    #[must_use]
    pub fn subject(&self) -> Option<Arc<str>> {
        self.certificate.as_ref()?.subject.clone()
    }

    /// `https` on TLS, else `http`.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        if self.tls.is_some() {
            Scheme::Https
        } else {
            Scheme::Http
        }
    }
}
