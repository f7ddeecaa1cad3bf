//! `[upstream.NAME]`: which servers there are, and how requests are spread over them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::tls;

/// An `[upstream.NAME]`.
#[derive(Debug)]
pub struct Upstream {
    /// Its name.
    pub name: Arc<str>,
    /// Its servers, at least one, in the order written.
    pub servers: Vec<UpstreamServer>,
    /// Time to connect, TLS included; also the time that a request waits in the queue.
    pub connect_timeout: Duration,
    /// Time to the response head.
    pub response_timeout: Duration,
    /// Idle connections kept, all workers together.
    pub idle_connections: usize,
    /// Tries after the first, where a retry is safe.
    pub retries: u32,
    /// TLS settings for `https` servers.
    pub tls: Option<Arc<tls::ClientTls>>,
    /// Who speaks to its servers, and what.
    pub codec: Codec,
    /// Which endpoint is next.
    pub balance: Balance,
    /// When a failing endpoint is left out.
    pub eject: Option<Eject>,
    /// How long a returning endpoint gets less than its share.
    pub slow_start: Option<Duration>,
    /// Requests and tunnels under way at one endpoint at a time, all workers together.
    pub max_connections: Option<u32>,
    /// Requests that may wait while all endpoints are full, all workers together.
    pub queue: u32,
    /// Requests that ask whether an endpoint lives.
    pub health: Option<Health>,
    /// Tell the servers who the client is, before the first byte.
    pub proxy_protocol: Option<ProxyVersion>,
}

/// `balance`: which endpoint is next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Balance {
    /// By turns, by weight.
    #[default]
    RoundRobin,
    /// The less busy of two that are drawn by lot.
    LeastConnections,
    /// The same for the same value, as long as it can be used.
    Hash(HashBy),
    /// The one that a cookie of ours names; else by turns.
    Cookie(Arc<str>),
}

/// What `balance = { hash = … }` goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashBy {
    /// The client address that was judged.
    Client,
    /// The first field of this name.
    Header(HeaderName),
    /// The first cookie of this name.
    Cookie(Arc<str>),
}

/// `eject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eject {
    /// Failures in a row, at least 1.
    pub failures: u32,
    /// How long the endpoint is left out.
    pub period: Duration,
}

/// `health`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The target that is asked for.
    pub path: Arc<str>,
    /// How often.
    pub interval: Duration,
    /// How long an answer may take; not longer than the interval.
    pub timeout: Duration,
    /// Good answers in a row that bring an endpoint back.
    pub rise: u32,
    /// Bad answers in a row that take it out.
    pub fall: u32,
}

/// `proxy_protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Who speaks to an upstream: HTTP/1.1, unless it says otherwise. Upgrades are always hyper's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// Our own client, `upstream::h1`.
    #[default]
    Lean,
    /// hyper's client, to compare with and to fall back to.
    Hyper,
    /// HTTP/2, by hyper.
    Http2,
    /// HTTP/2 where the server chooses it in the TLS handshake (ALPN, RFC 7301), else our own client.
    Auto,
}

/// One server of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamServer {
    /// As written, for logs.
    pub url: Arc<str>,
    /// How to reach it.
    pub address: Endpoint,
    /// TLS with this server name.
    pub tls: Option<rustls_pki_types::ServerName<'static>>,
    /// `host:port` for the `Host` field of our own requests.
    pub authority: Arc<str>,
    /// Its share, from 1 to 1000.
    pub weight: u32,
    /// Used only while no other can be.
    pub backup: bool,
}

impl UpstreamServer {
    /// Whether both lead to the same place, whatever share they have.
    #[must_use]
    pub fn leads_where(&self, other: &Self) -> bool {
        self.url == other.url && self.address == other.address && self.tls == other.tls
    }
}

/// How to reach a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A literal address.
    Address(SocketAddr),
    /// A name, each of whose addresses is an endpoint of its own.
    Name(Arc<str>, u16),
    /// A Unix socket.
    Unix(PathBuf),
    /// The demo application inside this process.
    Demo,
}
