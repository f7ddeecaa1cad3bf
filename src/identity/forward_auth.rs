//! Identity that another service knows: it is shown some fields of the request, and answers with who that is.
//!
//! What travels is not this room's business: [`Ask`] is implemented where connections are made. A request without any of the
//! fields carries no credential, and nobody is asked about it.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use serde_json::{Map, Value};

use super::error::AuthError;
use super::header::{list, only};
use super::oidc::Oidc;
use super::oidc::renewal::Renewing;
use super::oidc::session::Session;
use crate::value::principal::Principal;

/// A `forward_auth` source.
#[derive(Debug)]
pub struct ForwardAuth {
    /// The fields of the request that the service sees; any of them is a credential.
    pub headers_to: Vec<HeaderName>,
    /// The field of its answer that names the user.
    pub user: Option<HeaderName>,
    /// The field of its answer that lists the roles, separated by commas.
    pub roles: Option<HeaderName>,
    /// Claims, and the fields of its answer that hold them.
    pub claims: Vec<(Box<str>, HeaderName)>,
}

/// What the service says.
#[derive(Debug)]
pub enum Answer {
    /// It knows who that is; the fields of its answer say it.
    Known(HeaderMap),
    /// The credential is not valid.
    Unknown,
    /// It did not say: it is down, late, overloaded or broken.
    Failed,
}

/// An answer on its way.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Answer> + 'a>>;

/// Who carries questions to other services.
pub trait Ask: Debug {
    /// Asks the service of the source `name`, showing it `shown` beside what was asked for.
    fn ask<'a>(&'a self, name: &'a str, shown: HeaderMap) -> Asking<'a>;

    /// Renews a session of a sign-in in the browser.
    fn renew<'a>(&'a self, oidc: &'a Arc<Oidc>, session: Session) -> Renewing<'a>;
}

impl ForwardAuth {
    /// The fields to show; empty where the request carries no credential for the service. `claimed` is what another source
    /// has taken for itself.
    pub(super) fn shown(&self, headers: &HeaderMap, claimed: Option<&HeaderName>) -> HeaderMap {
        let mut shown = HeaderMap::new();
        for name in self.headers_to.iter().filter(|name| Some(*name) != claimed) {
            for value in headers.get_all(name) {
                shown.append(name.clone(), value.clone());
            }
        }
        shown
    }

    /// The principal that an answer describes.
    pub(super) fn principal(
        &self,
        answer: &HeaderMap,
        source: &Arc<str>,
    ) -> Result<Principal, AuthError> {
        let user = self
            .user
            .as_ref()
            .map_or(Ok(""), |name| only(answer, name))?;
        let roles = self.roles.as_ref().map(|name| list(answer, name));
        let mut claims = Map::new();
        for (claim, name) in &self.claims {
            let value = only(answer, name)?;
            if !value.is_empty() {
                claims.insert(claim.to_string(), Value::from(value));
            }
        }
        Ok(Principal {
            user: Arc::from(user),
            source: Arc::clone(source),
            roles: roles.transpose()?.unwrap_or_default(),
            claims,
            device: Map::new(),
            expires: None,
        })
    }
}
