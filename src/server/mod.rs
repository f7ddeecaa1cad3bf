//! Sockets: workers, listeners, client connections.
//!
//! - [`worker`]: one thread with its own runtime, connections, pools and log buffer.
//! - [`accept`]: takes connections from listeners that all workers share.
//! - [`conn`]: owns one connection: TLS, HTTP/1.1, deadlines, tunnels, and what hyper's parser refused.
//! - `handshake`: TLS with clients, and with authorities that check a name.
//! - [`http2`]: a connection with many requests at once; `frames` watches what it sends, `extended` makes WebSockets of
//!   its streams.
//! - [`idle`]: a connection between two requests, without buffers.
//! - [`admission`]: how many connections there may be; [`descriptors`]: how many the system allows.
//! - [`proxy_protocol`]: who is behind a balancer that opened a connection.
//! - [`acme`]: certificates that an authority issues.
//! - [`socket`] binds; [`inherited`]: sockets that somebody else has bound.
//!
//! Nothing here judges a request; the gate (`proxy`) does.

pub mod accept;
pub mod acme;
pub mod admission;
pub mod conn;
pub mod descriptors;
mod extended;
mod frames;
mod handshake;
pub mod http2;
pub mod idle;
pub mod inherited;
pub mod io;
pub mod proxy_protocol;
pub mod refused;
pub mod socket;
pub mod tunnel;
mod websocket;
pub mod worker;
