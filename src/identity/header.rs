//! Identity that a trusted peer asserts in fields of the request. The same fields from anybody else are no credential at all,
//! and no client's copy of them ever reaches an upstream.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use serde_json::Map;

use super::error::AuthError;
use crate::value::principal::Principal;

/// A `header` source.
#[derive(Debug)]
pub struct Asserted {
    /// The field that names the user.
    pub user: HeaderName,
    /// The field that lists the roles, separated by commas.
    pub roles: Option<HeaderName>,
    /// The peers that are believed.
    pub from: Vec<IpNet>,
}

impl Asserted {
    /// The principal that the peer asserts; `None` for a peer that is not believed, or one that asserts nothing.
    pub(super) fn read(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        source: &Arc<str>,
    ) -> Option<Result<Principal, AuthError>> {
        if !headers.contains_key(&self.user) || !self.from.iter().any(|net| net.contains(&peer)) {
            return None;
        }
        let user = match only(headers, &self.user) {
            Ok("") => return None,
            Ok(user) => user,
            Err(error) => return Some(Err(error)),
        };
        let roles = self.roles.as_ref().map(|name| list(headers, name));
        Some(roles.transpose().map(|roles| Principal {
            user: Arc::from(user),
            source: Arc::clone(source),
            roles: roles.unwrap_or_default(),
            claims: Map::new(),
            device: Map::new(),
            expires: None,
        }))
    }
}

/// The one value of a field; empty where there is none. UTF-8 without control characters.
pub(super) fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<&'h str, AuthError> {
    let mut fields = headers.get_all(name).iter();
    let Some(field) = fields.next() else {
        return Ok("");
    };
    if fields.next().is_some() {
        return Err(AuthError::Repeated);
    }
    let text = str::from_utf8(field.as_bytes())
        .ok()
        .ok_or(AuthError::Malformed)?;
    if text.chars().any(char::is_control) {
        return Err(AuthError::Malformed);
    }
    Ok(text.trim())
}

/// The items of a field, separated by commas, each once; several fields are one list (RFC 9110 §5.3).
pub(super) fn list(headers: &HeaderMap, name: &HeaderName) -> Result<Vec<Arc<str>>, AuthError> {
    let mut items: Vec<Arc<str>> = Vec::new();
    for field in headers.get_all(name) {
        let text = str::from_utf8(field.as_bytes())
            .ok()
            .ok_or(AuthError::Malformed)?;
        for item in text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            if item.chars().any(char::is_control) {
                return Err(AuthError::Malformed);
            }
            if !items.iter().any(|known| **known == *item) {
                items.push(Arc::from(item));
            }
        }
    }
    Ok(items)
}
