//! Client certificates as identity: which of a certificate's names is the user, and which roles the user has.
//!
//! TLS has verified the certificate at the handshake; its end is watched here, since a connection may outlive it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::certificate::ClientCertificate;
use super::error::AuthError;
use crate::value::principal::Principal;

/// An `mtls` source.
#[derive(Debug)]
pub struct Mtls {
    /// Which name is the user.
    pub user: Name,
    /// Where roles come from.
    pub roles: Roles,
}

/// A name of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Name {
    /// The e-mail address among the alternative names.
    #[default]
    Email,
    /// The host name among the alternative names.
    Host,
    /// The common name of the subject.
    CommonName,
}

/// Where the roles of a user come from.
#[derive(Debug, Default)]
pub enum Roles {
    /// Nowhere: users of this source have none.
    #[default]
    None,
    /// The organizational units of the subject.
    Units,
    /// A table of users.
    Table(BTreeMap<Box<str>, Vec<Arc<str>>>),
}

impl Mtls {
    /// The principal of a certificate. One that names several users names none: choosing one would let whoever orders a
    /// certificate choose, too.
    pub(super) fn verify(
        &self,
        certificate: &ClientCertificate,
        source: &Arc<str>,
        now: Timestamp,
    ) -> Result<Principal, AuthError> {
        if certificate.expires.is_none_or(|end| now >= end) {
            return Err(AuthError::Expired);
        }
        let names = match self.user {
            Name::Email => &certificate.emails,
            Name::Host => &certificate.hosts,
            Name::CommonName => &certificate.common_names,
        };
        let [user] = names.as_slice() else {
            return Err(AuthError::NoUser);
        };
        if user.is_empty() || user.chars().any(char::is_control) {
            return Err(AuthError::NoUser);
        }
        let mut roles: Vec<Arc<str>> = match &self.roles {
            Roles::None => Vec::new(),
            Roles::Units => {
                let units = certificate.units.iter();
                let plain = units.filter(|unit| !unit.is_empty());
                plain.map(|unit| Arc::from(unit.as_str())).collect()
            }
            Roles::Table(users) => users.get(user.as_str()).cloned().unwrap_or_default(),
        };
        roles.dedup();
        let facts = Value::Object(certificate.facts.clone());
        Ok(Principal {
            user: Arc::from(user.as_str()),
            source: Arc::clone(source),
            roles,
            claims: Map::from_iter([("certificate".to_owned(), facts)]),
            device: Map::new(),
            expires: certificate.expires,
        })
    }
}
