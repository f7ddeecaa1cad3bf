//! TLS settings as data: certificates by name, client verification, and what an upstream's certificate must prove.

/// TLS of a listener.
#[derive(Debug)]
pub struct ServerTls {
    /// The rustls configuration; ALPN and certificates inside.
    pub config: std::sync::Arc<rustls::ServerConfig>,
}

/// TLS towards an upstream.
#[derive(Debug)]
pub struct ClientTls {
    /// The rustls configuration.
    pub config: std::sync::Arc<rustls::ClientConfig>,
}
