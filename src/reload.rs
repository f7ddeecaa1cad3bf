//! Stub of the door, until the proxy is merged.

use std::net::SocketAddr;
use std::path::Path;

use crate::config::Report;

/// A running proxy.
#[derive(Debug)]
pub struct Instance;

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
#[error("not built yet")]
pub struct StartError;

impl Instance {
    /// Starts.
    ///
    /// # Errors
    /// Always, in this stub.
    pub fn start(_config: &Path) -> Result<Self, StartError> {
        Err(StartError)
    }

    /// The bound addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    /// Reloads.
    ///
    /// # Errors
    /// Where the configuration is refused.
    pub fn reload(&self) -> Result<u64, Report> {
        Err(Report::default())
    }

    /// Drains and ends.
    pub fn shutdown(self) {}
}
