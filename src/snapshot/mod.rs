//! One immutable compiled configuration: what a request is judged and served by, from start to finish.
//!
//! Data only. State that must outlive a reload (pools, counters) lives in registries keyed by the identity of its settings.
//! `store` publishes a snapshot to the workers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::client::address::Trust;
use crate::client::geo::Databases;
use crate::identity::Authenticator;
use crate::identity::device::Devices;
use crate::identity::oidc::provider::Provider;
use crate::identity::remote::RemoteKeys;
use crate::identity::revocation::Revocation;
use crate::identity::signed::Signer;
use crate::policy::Policy;

use headers::{HeaderEdits, Rewrite};

pub mod acme;
pub mod brute_force;
pub mod compress;
pub mod headers;
pub mod limit;
pub mod log;
pub mod maintenance;
pub mod notice;
pub mod share;
pub mod store;
pub mod syslog;
pub mod tls;
mod token;
mod upstream;

pub use token::Token;
pub use upstream::{
    Balance, Codec, Eject, Endpoint, HashBy, Health, ProxyVersion, Upstream, UpstreamServer,
};

/// Everything a worker needs to serve.
#[derive(Debug)]
pub struct Snapshot {
    /// The number of this configuration since the process started, from 1.
    pub generation: u64,
    /// `[server]` and `[server.limits]`.
    pub server: Server,
    /// `[admin]`.
    pub admin: Admin,
    /// The sockets to listen on.
    pub listeners: Vec<Arc<Listener>>,
    /// Certificates that authorities issue.
    pub issuances: Vec<acme::Issuance>,
    /// What those authorities may ask for.
    pub challenges: Arc<acme::Challenges>,
    /// Whose forwarding headers are believed.
    pub trust: Trust,
    /// GeoIP.
    pub geo: Arc<Databases>,
    /// Whether the access log carries the region of every request (`[geoip] log`).
    pub geo_log: bool,
    /// The rules.
    pub policy: Policy,
    /// A second policy, which is judged and counted and has no say (`[shadow] candidate`).
    pub candidate: Option<Box<Candidate>>,
    /// What has been counted for each limit, numbered as in `policy`.
    pub counts: Vec<Arc<limit::Count>>,
    /// Where rates are counted that several machines share (`[redis]`).
    pub share: Option<Arc<share::Share>>,
    /// The sites, numbered as in `policy`.
    pub sites: Vec<Site>,
    /// Keys that are fetched, one entry per identity source.
    pub key_sets: Vec<KeySet>,
    /// `[devices]`.
    pub devices: Option<DeviceList>,
    /// `[revocation]`, and what was revoked while running.
    pub revocation: Revocation,
    /// Services that identity sources ask.
    pub forward_auths: Vec<AuthService>,
    /// Providers that sign in browsers, one entry per identity source.
    pub providers: Vec<SignIn>,
    /// The upstreams.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The access logs.
    pub access_logs: Vec<Arc<log::AccessLog>>,
    /// What a refused client sees where no site says otherwise.
    pub denial: notice::Denial,
    /// The pages that refusals and denial settings name.
    pub pages: Arc<notice::Pages>,
    /// `default_language`: of pages that name none.
    pub default_language: Option<Arc<str>>,
    /// Header edits on answers for which no site is known.
    pub response_headers: HeaderEdits,
    /// Whether any answer is edited.
    pub edits_answers: EditsAnswers,
    /// Names of request headers removed from every request besides the built-in list, sorted (all names in
    /// `headers_to_upstream` and `strip_headers` of any site).
    pub stripped: Vec<HeaderName>,
    /// Files and folders whose change means a new load.
    pub watch: Vec<PathBuf>,
}

/// A second policy beside the live one.
#[derive(Debug)]
pub struct Candidate {
    /// Its file, as written.
    pub file: Arc<str>,
    /// Its rules. Its sites and routes have numbers of their own.
    pub policy: Policy,
    /// Its databases; often the live ones.
    pub geo: Arc<Databases>,
}

/// A resource of another service, by its URL.
#[derive(Debug)]
pub struct Remote {
    /// Who serves it.
    pub server: UpstreamServer,
    /// Path and query.
    pub target: http::uri::PathAndQuery,
    /// TLS settings for `https`.
    pub tls: Option<Arc<tls::ClientTls>>,
}

/// Keys of an identity source that are fetched.
#[derive(Debug)]
pub struct KeySet {
    /// The name of the `[identity.NAME]`.
    pub source: Arc<str>,
    /// The last good set; outlives reloads.
    pub keys: Arc<RemoteKeys>,
    /// Where it is published.
    pub remote: Arc<Remote>,
}

/// `[devices]`: the list, and where it is fetched, if it is.
#[derive(Debug)]
pub struct DeviceList {
    /// The list.
    pub devices: Devices,
    /// Its URL.
    pub remote: Option<Arc<Remote>>,
}

/// A service that an identity source asks.
#[derive(Debug)]
pub struct AuthService {
    /// The name of the `[identity.NAME]`.
    pub source: Arc<str>,
    /// Where it is asked.
    pub remote: Arc<Remote>,
    /// How long it may take.
    pub timeout: Duration,
}

/// A provider that signs in browsers.
#[derive(Debug, Clone)]
pub struct SignIn {
    /// The name of the `[identity.NAME]`.
    pub source: Arc<str>,
    /// Letter by letter as it names itself.
    pub issuer: Arc<str>,
    /// What is known of it; outlives reloads.
    pub provider: Arc<Provider>,
    /// Where codes are exchanged, once that is known; outlives reloads.
    pub token: Arc<ArcSwapOption<Remote>>,
    /// Where its metadata is.
    pub metadata: Arc<Remote>,
}

/// Whether any answer of any site is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditsAnswers {
    /// None is.
    Never,
    /// Some are.
    Somewhere,
}

/// `[server]`.
#[derive(Debug, Clone)]
pub struct Server {
    /// Worker threads, at least 1.
    pub workers: usize,
    /// How long TERM waits for requests in flight.
    pub drain_timeout: Duration,
    /// `[server.limits]`.
    pub limits: Limits,
}

/// `[server.limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections, all workers together.
    pub connections: usize,
    /// Open connections of one peer address.
    pub connections_per_client: usize,
    /// Bytes of a request head.
    pub header_size: usize,
    /// Fields of a request head.
    pub header_count: usize,
    /// Bytes of a request target.
    pub target_length: usize,
    /// Time for a whole request head.
    pub header_timeout: Duration,
    /// Time between two reads of a request body.
    pub body_timeout: Duration,
    /// Bytes of a request body.
    pub body_size: u64,
    /// Time a kept-alive connection may idle.
    pub idle_timeout: Duration,
    /// Time an upgraded connection or event stream may idle.
    pub stream_idle_timeout: Duration,
    /// Concurrent streams of an HTTP/2 connection.
    pub h2_streams: u32,
}

/// `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// The Unix socket.
    pub socket: PathBuf,
    /// Whether `socket` was written: then a socket that cannot be bound is an error, else a warning.
    pub socket_written: bool,
    /// Optional TCP address.
    pub address: Option<SocketAddr>,
    /// Token asked of TCP callers.
    pub token: Option<Token>,
}

/// A `[[listener]]`.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// TLS, or clear text.
    pub tls: Option<Arc<tls::ServerTls>>,
    /// `Strict-Transport-Security` of every answer over TLS (RFC 6797).
    pub hsts: Option<http::HeaderValue>,
    /// Every request is answered with 308 to its https form.
    pub redirect_https: bool,
    /// One socket per worker (SO_REUSEPORT).
    pub reuseport: bool,
    /// A PROXY protocol header is required.
    pub proxy_protocol: bool,
    /// Clear text may be HTTP/2 as well (prior knowledge).
    pub h2c: bool,
}

/// A `[[site]]`.
#[derive(Debug)]
pub struct Site {
    /// The first host: its name in logs.
    pub name: Arc<str>,
    /// Who can sign in here.
    pub identity: Authenticator,
    /// The routes, numbered as in the policy.
    pub routes: Vec<Route>,
    /// A site of programs: never HTML.
    pub api: bool,
    /// Identity headers set on requests to the upstream.
    pub headers_to_upstream: IdentityHeaders,
    /// Signs who asks (`signed_identity`).
    pub signer: Option<Signer>,
    /// Whether the `Authorization` field goes upstream.
    pub forward_credential: bool,
    /// Send `Forwarded` (RFC 7239).
    pub forwarded: bool,
    /// Send `Via` (RFC 9110 §7.6.3).
    pub via: bool,
    /// What a refused client sees.
    pub denial: notice::Denial,
    /// Upstream statuses replaced by a page of ours.
    pub intercept: Option<notice::Intercept>,
    /// Origins that may read our denials.
    pub cors: Option<notice::Cors>,
    /// Header edits on answers for which no route is known; the global ones first.
    pub response_headers: HeaderEdits,
    /// Which answers are compressed.
    pub compress: compress::Compress,
    /// Whether it is closed.
    pub maintenance: maintenance::Maintenance,
    /// What becomes of clients that fail to sign in again and again.
    pub brute_force: Option<brute_force::BruteForce>,
}

/// `headers_to_upstream`.
#[derive(Debug, Clone, Default)]
pub struct IdentityHeaders {
    /// The subject.
    pub user: Option<HeaderName>,
    /// The roles, joined by commas.
    pub roles: Option<HeaderName>,
    /// The country code of the client address.
    pub country: Option<HeaderName>,
    /// Claims by their path.
    pub claims: Vec<(Arc<str>, HeaderName)>,
}

/// A `[[site.route]]`.
#[derive(Debug)]
pub struct Route {
    /// The pattern as written.
    pub pattern: Arc<str>,
    /// What an allowed request gets.
    pub answer: Answer,
    /// The largest request body.
    pub body_size: u64,
    /// Time to the upstream's response head, if the route or site overrides the upstream's.
    pub response_timeout: Option<Duration>,
    /// Time to connect, if the route or site overrides the upstream's.
    pub connect_timeout: Option<Duration>,
    /// Time between two reads of a request body, if the route or site overrides `[server.limits]`.
    pub body_timeout: Option<Duration>,
    /// Time an upgraded connection or event stream may idle, if the route or site overrides `[server.limits]`.
    pub stream_idle_timeout: Option<Duration>,
    /// What a refused client sees, if the route says so.
    pub denial: Option<notice::Denial>,
    /// Header edits on requests; the site's first.
    pub request_headers: HeaderEdits,
    /// Header edits on answers; the global ones first, then the site's.
    pub response_headers: HeaderEdits,
    /// How targets are rewritten.
    pub rewrite: Option<Box<Rewrite>>,
    /// `host_header`.
    pub host_header: Option<HeaderValue>,
}

/// What an allowed request gets.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It is forwarded.
    Upstream(Arc<Upstream>),
    /// `redirect`.
    Redirect {
        /// 302, 303, 307 or 308.
        status: StatusCode,
        /// The target with its substitutions.
        to: Template,
    },
    /// `respond`.
    Fixed {
        /// The status.
        status: StatusCode,
        /// `Content-Type`.
        content_type: Option<HeaderValue>,
        /// The body.
        body: bytes::Bytes,
    },
}

/// Text with `{scheme} {host} {client} {path} {query} {tail}`, split at load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(pub Vec<Part>);

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Literal text.
    Text(String),
    /// `{scheme}`.
    Scheme,
    /// `{host}`.
    Host,
    /// `{client}`.
    Client,
    /// `{path}`, as received.
    Path,
    /// `{query}` with its `?`, or empty.
    Query,
    /// `{tail}`: what `*` or `**` took.
    Tail,
}
