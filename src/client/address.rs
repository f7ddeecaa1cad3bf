//! The client address: derived from the peer and, only where the peer is trusted, from exactly one forwarding header.

/// Whose forwarding header is believed, and which.
#[derive(Debug, Clone, Default)]
pub struct Trust;
