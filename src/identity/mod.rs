//! Who asks: credentials in a request head → a principal, or the reason why there is none.

/// The identity sources of one site, in the order tried.
#[derive(Debug, Default)]
pub struct Authenticator;

/// Every identity source of a configuration.
#[derive(Debug, Default)]
pub struct Sources;
