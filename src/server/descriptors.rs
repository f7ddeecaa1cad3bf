//! How many descriptors this process may open, and how many clients that is enough for.
//!
//! A client that is served needs two: its connection and one to the upstream. If clients could take them all, none would be
//! served; so [`for_clients`] leaves half to upstreams, and some to everything else.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises what this process may open to what it may raise it to: shells and many init systems start with 1024.
pub fn raise() {
    let now = getrlimit(Resource::Nofile);
    if now.current == now.maximum {
        return;
    }
    let most = Rlimit {
        current: now.maximum,
        ..now
    };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

/// How many descriptors this process may open; `None`: as many as it likes.
#[must_use]
pub fn most() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// For how many clients so many descriptors are enough, at least one.
#[must_use]
pub fn for_clients(most: u64, workers: usize) -> usize {
    let workers = u64::try_from(workers).unwrap_or(u64::MAX);
    let others = workers.saturating_mul(EACH_WORKER).saturating_add(OTHERS);
    let clients = most.saturating_sub(others) / 2;
    usize::try_from(clients).unwrap_or(usize::MAX).max(1)
}

/// A worker's runtime, its listeners, and connections that are being turned away.
const EACH_WORKER: u64 = 16;

/// Logs, sockets of the admin, files that are being read, health checks, key sets.
const OTHERS: u64 = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_get_as_many_as_clients() {
        for (most, workers, want, why) in [
            (0, 1, 1, "one is always tried"),
            (64, 1, 1, "the edge"),
            (68, 1, 2, "and above"),
            (1024, 2, 472, "a shell's"),
            (65_536, 2, 32_728, "the unit for systemd"),
            (u64::MAX, 2, (usize::MAX - 80) / 2, "none"),
        ] {
            assert_eq!(for_clients(most, workers), want, "{why}");
        }
    }
}
