//! Who asks: the credentials of a request head → a principal, or the reason why there is none.
//!
//! What is decided here, and nowhere else:
//!
//! - **Claiming.** A credential belongs to the first source, in the site's order, whose form it has. The form of a token is
//!   its place, an `alg` that the source pins and an `iss` that equals its issuer, both read unverified and only to choose.
//!   A Bearer token that no source claims is an invalid credential, not an absent one.
//! - **Verifying.** By the one source that claims. Nothing in a token chooses a key of its own: `jwk`, `jku` and `x5c` are
//!   never read, `alg` only selects among algorithms that were pinned at load.
//! - **One principal.** That of the first source in the site's order with a valid credential. Two valid credentials of
//!   different subjects are a conflict, which is answered 400. A client certificate is no part of the head and not compared.
//!
//! The room knows neither policy nor status codes, and it reads no file: [`crate::config`] hands it what was read. Its
//! errors are words for the log; a client only learns that the credential is not valid.
//!
//! - **Guessing.** Failed sign-ins are counted by client network, and a network with too many waits ([`failures`]).
//!
//! Start at [`Authenticator`]; each kind of source is a module: [`jwt`], [`api_key`], [`basic`], [`mtls`], [`mod@header`],
//! [`forward_auth`], [`oidc`]. A further kind is a variant
//! of [`source::Kind`] and the arms that the compiler then asks for.

use std::net::IpAddr;

use http::HeaderMap;

use self::certificate::ClientCertificate;
use self::failures::Guard;
use self::forward_auth::Ask;
use self::revocation::Check;

pub mod api_key;
mod authenticator;
pub mod basic;
mod cache;
pub mod certificate;
pub mod claims;
pub mod device;
mod error;
pub mod failures;
pub mod forward_auth;
mod hashing;
pub mod header;
mod json;
pub mod jwt;
pub mod keys;
pub mod mtls;
pub mod oidc;
mod places;
pub mod remote;
pub mod revocation;
pub mod signed;
pub mod source;

#[cfg(test)]
mod practices;
#[cfg(test)]
mod tests;

pub use authenticator::{Authenticator, Presented};
pub use error::AuthError;
pub use source::{Source, Sources};

/// What authentication may see of a request.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The fields as received.
    pub headers: &'a HeaderMap,
    /// The query as received, without its `?`.
    pub query: Option<&'a str>,
    /// The client address as policy judges it, canonical.
    pub client: IpAddr,
    /// Who opened the connection, canonical.
    pub peer: IpAddr,
    /// Who asks other services; where nobody does, their answers are missing.
    pub ask: Option<&'a dyn Ask>,
    /// The verified certificate that the client showed.
    pub certificate: Option<&'a ClientCertificate>,
    /// What is revoked, where anything is.
    pub revoked: Option<&'a Check<'a>>,
    /// The failed sign-ins of the site, where they are counted.
    pub guard: Option<Guard<'a>>,
}
