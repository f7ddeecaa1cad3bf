//! One `[identity.NAME]`, and all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::api_key::ApiKeys;
use super::basic::Users;
use super::forward_auth::ForwardAuth;
use super::header::Asserted;
use super::jwt::Jwt;
use super::mtls::Mtls;
use super::oidc::Oidc;
use super::remote::RemoteKeys;

/// An identity source.
#[derive(Debug)]
pub struct Source {
    /// The name of its `[identity.NAME]`; `auth` conditions and logs use it.
    pub name: Arc<str>,
    /// What it is.
    pub kind: Kind,
    /// Where its credentials stand in a request.
    pub places: Vec<Place>,
    /// What a 401 says of it: without, and with an invalid token of this source.
    /// None where nothing in a request could answer it.
    pub challenges: Option<[HeaderValue; 2]>,
}

/// What a source is.
#[derive(Debug)]
#[non_exhaustive]
pub enum Kind {
    /// Signed tokens.
    Jwt(Jwt),
    /// Keys of programs.
    ApiKey(ApiKeys),
    /// Users with passwords.
    Basic(Users),
    /// Client certificates.
    Mtls(Mtls),
    /// Fields that trusted peers set.
    Header(Asserted),
    /// Another service is asked.
    ForwardAuth(ForwardAuth),
    /// Sign-in in the browser.
    Oidc(Arc<Oidc>),
}

/// Where a credential may stand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// `Authorization`, with the scheme of the source.
    Authorization,
    /// A field of its own; a leading `Bearer ` is cut for tokens.
    Header(HeaderName),
    /// A cookie.
    Cookie(Box<str>),
    /// A query parameter.
    Query(Box<str>),
}

impl Source {
    /// Whether this source would claim every credential that `later` can claim, if it stands before it in a site's order.
    #[must_use]
    pub fn eclipses(&self, later: &Self) -> bool {
        let covered = later.places.iter().all(|place| self.places.contains(place));
        covered
            && match (&self.kind, &later.kind) {
                (Kind::Jwt(first), Kind::Jwt(second)) => {
                    first.issuer == second.issuer
                        && second
                            .algorithms
                            .iter()
                            .all(|pinned| first.algorithms.contains(pinned))
                }
                (Kind::ApiKey(_), Kind::ApiKey(_)) | (Kind::Basic(_), Kind::Basic(_)) => true,
                (Kind::Mtls(first), Kind::Mtls(second)) => first.user == second.user,
                (Kind::Header(first), Kind::Header(second)) => {
                    first.user == second.user && first.from == second.from
                }
                (Kind::Oidc(first), Kind::Oidc(second)) => {
                    first.issuer == second.issuer
                        && first.client_id == second.client_id
                        && first.cookies == second.cookies
                }
                (
                    Kind::Jwt(_)
                    | Kind::ApiKey(_)
                    | Kind::Basic(_)
                    | Kind::Mtls(_)
                    | Kind::Header(_)
                    | Kind::ForwardAuth(_)
                    | Kind::Oidc(_),
                    _,
                ) => false,
            }
    }

    /// Whether its credentials reach the upstream unless the site says otherwise: tokens do, keys and passwords do not.
    #[must_use]
    pub const fn forwards(&self) -> bool {
        match self.kind {
            // A certificate goes nowhere by itself, and a session never does.
            Kind::Jwt(_) | Kind::Mtls(_) | Kind::Oidc(_) => true,
            Kind::ApiKey(_) | Kind::Basic(_) | Kind::Header(_) | Kind::ForwardAuth(_) => false,
        }
    }

    /// The request fields that are its credentials beside those of its places; `Cookie`, which carries more, is none.
    pub fn fields(&self) -> impl Iterator<Item = HeaderName> {
        let fields = match &self.kind {
            Kind::Header(asserted) => {
                let roles = asserted.roles.as_slice();
                std::iter::once(&asserted.user)
                    .chain(roles)
                    .cloned()
                    .collect()
            }
            Kind::ForwardAuth(service) => {
                let mut fields = service.headers_to.clone();
                fields.retain(|name| name != http::header::COOKIE);
                fields
            }
            Kind::Jwt(_) | Kind::ApiKey(_) | Kind::Basic(_) | Kind::Mtls(_) | Kind::Oidc(_) => {
                Vec::new()
            }
        };
        fields.into_iter()
    }

    /// Its keys, where they are fetched.
    #[must_use]
    pub const fn remote_keys(&self) -> Option<&Arc<RemoteKeys>> {
        match &self.kind {
            Kind::Jwt(jwt) => jwt.remote(),
            // They are the business of its provider: a session needs no keys once it is sealed.
            Kind::Oidc(_)
            | Kind::ApiKey(_)
            | Kind::Basic(_)
            | Kind::Mtls(_)
            | Kind::Header(_)
            | Kind::ForwardAuth(_) => None,
        }
    }

    /// Whether it knows people by their client certificate.
    #[must_use]
    pub const fn reads_certificates(&self) -> bool {
        match self.kind {
            Kind::Mtls(_) => true,
            Kind::Jwt(_)
            | Kind::ApiKey(_)
            | Kind::Basic(_)
            | Kind::Header(_)
            | Kind::ForwardAuth(_)
            | Kind::Oidc(_) => false,
        }
    }

    /// The sign-in in the browser, where it is one.
    #[must_use]
    pub const fn oidc(&self) -> Option<&Arc<Oidc>> {
        match &self.kind {
            Kind::Oidc(oidc) => Some(oidc),
            Kind::Jwt(_)
            | Kind::ApiKey(_)
            | Kind::Basic(_)
            | Kind::Mtls(_)
            | Kind::Header(_)
            | Kind::ForwardAuth(_) => None,
        }
    }
}

/// All identity sources of a configuration, by name. A name whose source could not be compiled (and was reported) is known
/// here but has none.
#[derive(Debug, Default)]
pub struct Sources {
    by_name: BTreeMap<Arc<str>, Option<Arc<Source>>>,
}

impl Sources {
    /// Adds a name and its source.
    pub fn add(&mut self, name: Arc<str>, source: Option<Arc<Source>>) {
        self.by_name.insert(name, source);
    }

    /// The source of a name. The outer `None`: no such name; the inner one: it was reported as broken.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Option<&Arc<Source>>> {
        self.by_name.get(name).map(Option::as_ref)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_name.keys()
    }
}
