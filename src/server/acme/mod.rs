//! Certificates from ACME authorities (RFC 8555): one task for each authority orders, keeps, and replaces in time.
//!
//! - `schedule`: when a certificate is ordered, and when again after a failure.
//! - `storage`: accounts and certificates as files, and the lock that keeps processes apart.
//! - `order`: one order; `wire`: how the client asks; `keeper`: the task.
//!
//! Whatever goes wrong, the last good certificate stays. A new one is served from the next handshake on, without a reload. What
//! is pending and what is served lives in [`crate::snapshot::acme`].

#[cfg(feature = "acme")]
mod keeper;
#[cfg(feature = "acme")]
mod order;
#[cfg(feature = "acme")]
mod schedule;
#[cfg(feature = "acme")]
mod storage;
#[cfg(feature = "acme")]
mod wire;

#[cfg(feature = "acme")]
pub use keeper::{Issuing, fill};
#[cfg(not(feature = "acme"))]
pub use without::{Issuing, fill};

/// A build without the cargo feature `acme`: no configuration can ask for certificates.
#[cfg(not(feature = "acme"))]
mod without {
    use crate::snapshot::Snapshot;

    /// Nothing to do.
    #[derive(Debug, Default)]
    pub struct Issuing {}

    impl Issuing {
        /// Nothing to do.
        pub const fn follow(&mut self, _snapshot: &Snapshot) {}
    }

    /// Nothing to do.
    pub const fn fill(_snapshot: &Snapshot) {}
}
