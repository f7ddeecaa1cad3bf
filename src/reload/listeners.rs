//! Sockets by their address: a reload binds what is new, closes what is gone, and leaves the rest alone.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use crate::server::inherited::Inherited;
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
    /// Each socket once. The workers accept from copies; these stay for an heir.
    sockets: Vec<TcpListener>,
    reuseport: bool,
}

/// New sockets, bound but not yet served.
#[derive(Debug)]
pub struct Prepared {
    new: Vec<New>,
    gone: Vec<ListenerKey>,
}

#[derive(Debug)]
struct New {
    key: ListenerKey,
    bound: Bound,
    /// One for each worker at least, and each socket at least once.
    copies: Vec<TcpListener>,
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
    /// Binds what a configuration needs beyond what is bound and inherited.
    ///
    /// # Errors
    /// The first socket that could not be bound; nothing has changed then.
    pub fn prepare(
        &self,
        wanted: &[Arc<Listener>],
        workers: usize,
        inherited: &mut Inherited,
    ) -> Result<Prepared, BindError> {
        let keys = keys(wanted);
        let mut new = Vec::new();
        for (key, listener) in keys.iter().zip(wanted) {
            let reuseport = listener.reuseport;
            let bound = self.bound.get(key);
            if bound.is_some_and(|bound| bound.reuseport == reuseport) {
                continue;
            }
            let made = New::make(*key, reuseport, workers, inherited);
            new.push(made.map_err(|source| BindError {
                address: listener.address,
                source,
            })?);
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
        for New { key, bound, copies } in prepared.new {
            for (worker, socket) in workers.iter().cycle().zip(copies) {
                drop(worker.send(Command::Listen(key, socket)));
            }
            tracing::info!(address = %bound.address, "listening");
            self.bound.insert(key, bound);
        }
    }

    /// Every socket once more, for an heir.
    ///
    /// # Errors
    /// Where no more descriptors can be had.
    pub fn copies(&self) -> io::Result<Vec<(ListenerKey, SocketAddr, TcpListener)>> {
        let mut copies = Vec::new();
        for (key, bound) in &self.bound {
            for socket in &bound.sockets {
                copies.push((*key, bound.address, socket.try_clone()?));
            }
        }
        Ok(copies)
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

impl New {
    fn make(
        key: ListenerKey,
        reuseport: bool,
        workers: usize,
        inherited: &mut Inherited,
    ) -> io::Result<Self> {
        let mut sockets = inherited.listener(key)?;
        if sockets.is_empty() {
            let first = bind(key.address, reuseport)?;
            let address = first.local_addr()?;
            sockets.push(first);
            if reuseport {
                for _ in 1..workers {
                    sockets.push(bind(address, true)?);
                }
            }
        }
        let first = sockets.first().ok_or(io::ErrorKind::NotFound)?;
        let address = first.local_addr()?;
        let copies = sockets.iter().cycle();
        let copies = copies.take(workers.max(sockets.len()));
        let copies = copies
            .map(TcpListener::try_clone)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            key,
            bound: Bound {
                address,
                sockets,
                reuseport,
            },
            copies,
        })
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
