//! Who asks: credentials in a request head → a principal, or the reason why there is none.

/// The identity sources of one site, in the order tried.
#[derive(Debug, Default)]
pub struct Authenticator;

impl Authenticator {
    /// (being built)
    #[must_use]
    pub fn forwards_by_default(&self) -> bool {
        true
    }
}

/// Every identity source of a configuration.
#[derive(Debug, Default)]
pub struct Sources;
