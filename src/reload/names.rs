//! Names in address sets (`dns:host`), resolved here so that no request ever waits for a resolver.

use std::collections::BTreeSet;
use std::net::{IpAddr, ToSocketAddrs};

use jiff::Timestamp;

use crate::config::context::Memory;
use crate::value::cidr::canonical;

/// Whether something that a configuration reads has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Another answer than before.
    Changed,
    /// The same.
    Same,
}

/// Asks for the wanted names and remembers the answers. A name that does not resolve keeps its last answer; how long that
/// counts is `dns_max_age`, which the compile step judges.
pub fn refresh(memory: &mut Memory, names: &BTreeSet<String>, now: Timestamp) -> Change {
    let mut change = Change::Same;
    for name in names {
        let answers = match (name.as_str(), 0_u16).to_socket_addrs() {
            Ok(answers) => answers,
            Err(error) => {
                tracing::warn!(%name, %error, "name in an address set does not resolve; keeping its last answer");
                continue;
            }
        };
        let mut addresses: Vec<IpAddr> = answers.map(|answer| canonical(answer.ip())).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let before = memory.names.insert(name.clone(), (now, addresses.clone()));
        if before.is_none_or(|(_, before)| before != addresses) {
            change = Change::Changed;
        }
    }
    change
}
