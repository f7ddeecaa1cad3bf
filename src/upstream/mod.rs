//! The way to the upstreams: connections, pools, and one request forwarded.
//!
//! - [`forward()`] spends a permit: a pooled or new connection, the request, the response head, with bounds on every wait.
//! - [`pool`] keeps idle connections of one worker and picks the next endpoint (`balance`, `sticky`); it outlives a reload.
//! - `seat` is a request's place at an endpoint, and the queue for one; `budget` bounds what is sent again.
//! - [`registry`] is what all workers know of the endpoints; [`keeper`] finds it out: names resolved, health asked for.
//! - [`connect`] opens one connection (TCP, TLS, Unix socket, or the demo application in this process).
//! - [`clock`] is the one deadline of a client connection, moved as the request moves on.
//! - [`body`] is the client's body on its way up.
//! - [`ask`] sends requests of our own: key sets, posture feeds, questions to another service.
//! - `http2` lets hyper speak HTTP/2 on connections that many requests share.
//! - `auto` lets each server choose between that and HTTP/1.1.
//! - [`h1`] speaks HTTP/1.1 on a connection; [`library`] lets hyper do so, for upgrades and by choice of the snapshot.
//!
//! This room knows nothing of policy but the permit that it asks for, and nothing of who the client is.

pub mod ask;
mod auto;
mod balance;
pub mod body;
mod budget;
pub mod clock;
pub mod connect;
pub mod demo;
pub mod forward;
pub mod h1;
mod http2;
mod introduce;
pub mod io;
pub mod keeper;
pub mod library;
pub mod pool;
pub mod registry;
pub mod seat;
mod sticky;

pub use clock::{Clock, Phase};
pub use forward::{BodyBroken, Trace, UpstreamBody, forward, upgrade};
pub use pool::Pools;
