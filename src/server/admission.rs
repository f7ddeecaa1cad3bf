//! How many client connections there may be: all together, and of one peer address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking::Mutex;

use crate::snapshot::Limits;

/// The counts, shared by all workers; touched at accept and close only.
#[derive(Debug)]
pub struct Admission {
    /// There are never more than these, whatever the configuration says.
    most: usize,
    open: AtomicUsize,
    by_peer: Mutex<HashMap<IpAddr, usize>>,
}

/// A place for one connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    peer: Option<IpAddr>,
}

impl Admission {
    /// At most so many connections, and no more than the configuration says.
    #[must_use]
    pub fn of(most: usize) -> Self {
        Self {
            most,
            open: AtomicUsize::default(),
            by_peer: Mutex::default(),
        }
    }

    /// Asks for a place. Peers whose forwarding headers are believed stand for many clients and are not counted one by one.
    pub(crate) fn admit(
        self: &Arc<Self>,
        peer: IpAddr,
        trusted: bool,
        limits: &Limits,
    ) -> Option<Admitted> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= limits.connections.min(self.most) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        if trusted {
            return Some(Admitted {
                admission: Arc::clone(self),
                peer: None,
            });
        }
        let mut admitted = Admitted {
            admission: Arc::clone(self),
            peer: None,
        };
        admitted.stands_for(peer, limits).then_some(admitted)
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Admitted {
    /// Counts the place for this client from now on; `false` where it has as many as one client may.
    pub(crate) fn stands_for(&mut self, client: IpAddr, limits: &Limits) -> bool {
        self.give_back();
        let client = one_client(client);
        let mut by_peer = self.admission.by_peer.lock();
        let count = by_peer.entry(client).or_insert(0);
        if *count >= limits.connections_per_client {
            return false;
        }
        *count += 1;
        drop(by_peer);
        self.peer = Some(client);
        true
    }

    fn give_back(&mut self) {
        let Some(peer) = self.peer.take() else { return };
        let mut by_peer = self.admission.by_peer.lock();
        if let Some(count) = by_peer.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                by_peer.remove(&peer);
            }
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.give_back();
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whom an address stands for: itself, or its /64, which one IPv6 client commonly has to itself (RFC 6177 §2).
fn one_client(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

/// A mutex that no panic can poison for others.
mod parking {
    use std::sync::{MutexGuard, PoisonError};

    #[derive(Debug, Default)]
    pub(super) struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn the_limits_hold_at_their_edge() {
        let limits = Limits {
            connections: 3,
            connections_per_client: 2,
            ..crate::config::defaults::LIMITS
        };
        let admission = Arc::new(Admission::of(usize::MAX));
        let (one, two): (IpAddr, IpAddr) =
            ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = admission.admit(one, false, &limits);
        let second = admission.admit(one, false, &limits);
        assert!(
            first.is_some() && second.is_some(),
            "up to the limit of one peer"
        );
        assert!(
            admission.admit(one, false, &limits).is_none(),
            "one more of the same peer"
        );
        let third = admission.admit(two, false, &limits);
        assert!(third.is_some(), "another peer");
        assert!(
            admission.admit(two, true, &limits).is_none(),
            "all together, trusted or not"
        );
        drop(first);
        assert!(
            admission.admit(one, false, &limits).is_some(),
            "a place given back"
        );
        drop((second, third));
        assert_eq!(admission.open(), 0);
        let of_balancer = |client| {
            let mut place = admission.admit(two, true, &limits).unwrap();
            place.stands_for(client, &limits).then_some(place)
        };
        let places = [of_balancer(one), of_balancer(one)];
        assert!(
            places.iter().all(Option::is_some),
            "a balancer names its client"
        );
        assert!(of_balancer(one).is_none(), "one more of the same client");
        drop(places);
        assert!(of_balancer(one).is_some(), "a place given back");
        assert_eq!(admission.open(), 0);
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        for (address, client) in [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::"),
            ("2001:db8::ffff:1", "2001:db8::"),
            ("2001:db8:0:1::1", "2001:db8:0:1::"),
        ] {
            assert_eq!(
                one_client(address.parse().unwrap()),
                client.parse::<IpAddr>().unwrap(),
                "{address}"
            );
        }
    }
}
