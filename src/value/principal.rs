//! The authenticated identity of a request.

use std::sync::Arc;

use jiff::Timestamp;

/// Who asks, as one identity source vouches for it. An anonymous caller has no `Principal`.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// The subject: JWT `sub`, user name, key id.
    pub user: Arc<str>,
    /// The name of the `[identity.<name>]` that vouches.
    pub source: Arc<str>,
    /// Roles as granted, before the role hierarchy widens them.
    pub roles: Vec<Arc<str>>,
    /// Claims; an object. Empty where the source has none.
    pub claims: serde_json::Map<String, serde_json::Value>,
    /// Facts about the caller's device; an object.
    pub device: serde_json::Map<String, serde_json::Value>,
    /// When the credential ends, if it does.
    pub expires: Option<Timestamp>,
}
