//! Sockets: workers, listeners, client connections.
//!
//! - [`worker`]: one thread with its own runtime, connections, pools and log buffer.
//! - [`accept`]: takes connections from listeners that all workers share.
//! - [`conn`]: owns one connection: TLS, HTTP/1.1, deadlines, tunnels, and what hyper's parser refused.
//! - [`http2`]: a connection with many requests at once; `frames` watches what it sends, `extended` makes WebSockets of
//!   its streams.
//! - [`idle`]: a connection between two requests, without buffers.
//! - [`admission`]: how many connections there may be.
//! - [`proxy_protocol`]: who is behind a balancer that opened a connection.
//! - [`socket`] binds; [`inherited`]: sockets that somebody else has bound.
//!
//! Nothing here judges a request; the gate (`proxy`) does.

pub mod accept;
pub mod admission;
pub mod conn;
mod extended;
mod frames;
pub mod http2;
pub mod idle;
pub mod inherited;
pub mod io;
pub mod proxy_protocol;
pub mod refused;
pub mod socket;
pub mod tunnel;
pub mod worker;
