//! Everything policy may see of one request.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method};
use jiff::Timestamp;

use crate::value::device::Device;
use crate::value::path::Target;
use crate::value::principal::Principal;
use crate::value::region::Region;

/// How the client speaks to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Clear text.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The TLS version of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// The TLS facts of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsFacts {
    /// The version spoken.
    pub version: TlsVersion,
    /// Whether a verified client certificate was presented.
    pub client_cert: bool,
}

/// A set of roles as bits, widened by the hierarchy; made by [`super::Policy::person`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleSet(pub smallvec::SmallVec<[u64; 2]>);

/// The numbers of the bits that are set.
pub(super) fn ones(words: &[u64]) -> impl Iterator<Item = usize> {
    words.iter().enumerate().flat_map(|(place, word)| {
        let mut left = *word;
        std::iter::from_fn(move || {
            let bit = usize::try_from(left.trailing_zeros()).ok()?;
            (bit < 64).then(|| left &= left - 1)?;
            Some(place * 64 + bit)
        })
    })
}

/// A principal with its roles as this policy numbers them.
#[derive(Debug, Clone)]
pub struct Person {
    /// Who.
    pub principal: Arc<Principal>,
    /// The roles, widened.
    pub roles: RoleSet,
}

/// What is known of the caller.
#[derive(Debug, Clone, Copy)]
pub enum Identity<'r> {
    /// Not looked at yet.
    Open,
    /// Looked at: nobody, or a credential that is not valid.
    Anonymous,
    /// Somebody.
    Known(&'r Person),
    /// A credential that only a failed source could judge.
    Failed,
}

/// The facts of one request. Region is looked up at most once, and only when a condition needs it.
pub struct Facts<'r> {
    /// Who opened the connection, canonical.
    pub peer: IpAddr,
    /// Who policy judges, canonical.
    pub client: IpAddr,
    /// The method.
    pub method: &'r Method,
    /// The scheme as judged.
    pub scheme: Scheme,
    /// The host as judged: lower case, no port, no trailing dot.
    pub host: &'r str,
    /// The target in both readings.
    pub target: &'r Target<'r>,
    /// The head's fields as received.
    pub headers: &'r HeaderMap,
    /// TLS facts, where the connection is TLS.
    pub tls: Option<TlsFacts>,
    /// Whether the request asks for a WebSocket.
    pub websocket: bool,
    /// The start of the request.
    pub now: Timestamp,
    /// The caller.
    pub identity: Identity<'r>,
    /// The device, where it was looked at; else what the principal says of it counts.
    pub device: Option<&'r Device>,
    /// Looks up the region of the client address.
    pub lookup: &'r dyn Fn(IpAddr) -> Region,
    /// The region, once looked up.
    pub region: OnceCell<Region>,
}

impl Facts<'_> {
    /// The region of the client address.
    pub fn region(&self) -> &Region {
        self.region.get_or_init(|| (self.lookup)(self.client))
    }
}

impl std::fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts")
            .field("client", &self.client)
            .field("host", &self.host)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}
