//! Sockets by their address: a reload binds what is new, closes what is gone, and leaves the rest alone.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use crate::server::socket::{ListenerKey, bind};
use crate::server::worker::Command;
use crate::snapshot::Listener;

/// The sockets of the running configuration.
#[derive(Debug, Default)]
pub struct Listeners {
    bound: BTreeMap<ListenerKey, Bound>,
}

#[derive(Debug)]
struct Bound {
    address: SocketAddr,
    sockets: Vec<TcpListener>,
    reuseport: bool,
}

/// New sockets, bound but not yet served.
#[derive(Debug)]
pub struct Prepared {
    new: Vec<(ListenerKey, Bound)>,
    gone: Vec<ListenerKey>,
}

/// A socket that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl Listeners {
    /// Binds what a configuration needs beyond what is bound.
    ///
    /// # Errors
    /// The first socket that could not be bound; nothing has changed then.
    pub fn prepare(&self, wanted: &[Arc<Listener>], workers: usize) -> Result<Prepared, BindError> {
        let keys = keys(wanted);
        let mut new = Vec::new();
        for (key, listener) in keys.iter().zip(wanted) {
            if self
                .bound
                .get(key)
                .is_some_and(|bound| bound.reuseport == listener.reuseport)
            {
                continue;
            }
            let fail = |source| BindError {
                address: listener.address,
                source,
            };
            let first = bind(listener.address, listener.reuseport).map_err(fail)?;
            let address = first.local_addr().map_err(fail)?;
            let mut sockets = vec![first];
            for _ in 1..workers {
                let next = if listener.reuseport {
                    bind(address, true)
                } else {
                    sockets
                        .first()
                        .ok_or(io::ErrorKind::NotFound.into())
                        .and_then(TcpListener::try_clone)
                };
                sockets.push(next.map_err(fail)?);
            }
            new.push((
                *key,
                Bound {
                    address,
                    sockets,
                    reuseport: listener.reuseport,
                },
            ));
        }
        let gone = self
            .bound
            .keys()
            .filter(|key| !keys.contains(key))
            .copied()
            .collect();
        Ok(Prepared { new, gone })
    }

    /// Hands the new sockets to the workers and takes the gone ones away.
    pub fn apply(&mut self, prepared: Prepared, workers: &[UnboundedSender<Command>]) {
        for key in prepared.gone {
            self.bound.remove(&key);
            for worker in workers {
                drop(worker.send(Command::Unlisten(key)));
            }
        }
        for (key, mut bound) in prepared.new {
            for (worker, socket) in workers.iter().zip(bound.sockets.drain(..)) {
                drop(worker.send(Command::Listen(key, socket)));
            }
            tracing::info!(address = %bound.address, "listening");
            self.bound.insert(key, bound);
        }
    }

    /// The bound addresses, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self, wanted: &[Arc<Listener>]) -> Vec<SocketAddr> {
        keys(wanted)
            .iter()
            .filter_map(|key| self.bound.get(key))
            .map(|bound| bound.address)
            .collect()
    }
}

fn keys(wanted: &[Arc<Listener>]) -> Vec<ListenerKey> {
    let mut counts: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    let mut keys = Vec::with_capacity(wanted.len());
    for listener in wanted {
        let count = counts.entry(listener.address).or_insert(0);
        keys.push(ListenerKey {
            address: listener.address,
            nth: *count,
        });
        *count += 1;
    }
    keys
}
