//! The way to the upstreams: connections, pools, and one request forwarded.
//!
//! - [`forward()`] spends a permit: a pooled or new connection, the request, the response head, with bounds on every wait.
//! - [`pool`] keeps idle connections of one worker, last in first out; it outlives a reload that leaves the upstream as it was.
//! - [`connect`] opens one connection (TCP, TLS, Unix socket, or the demo application in this process).
//! - [`clock`] is the one deadline of a client connection, moved as the request moves on.
//! - [`body`] is the client's body on its way up.
//! - [`ask`] sends requests of our own: key sets, posture feeds, questions to another service.
//! - [`h1`] speaks HTTP/1.1 on a connection; [`library`] lets hyper do so, for upgrades and by choice of the snapshot.
//!
//! This room knows nothing of policy but the permit that it asks for, and nothing of who the client is.

pub mod ask;
pub mod body;
pub mod clock;
pub mod connect;
pub mod demo;
pub mod forward;
pub mod h1;
pub mod io;
pub mod library;
pub mod pool;

pub use clock::{Clock, Phase};
pub use forward::{BodyBroken, Trace, UpstreamBody, forward, upgrade};
pub use pool::Pools;
