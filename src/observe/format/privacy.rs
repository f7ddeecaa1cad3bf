//! Client addresses, as the log may show them.

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::{hmac, rand::SystemRandom};
use jiff::Timestamp;

use crate::snapshot::log::Privacy;

/// Writes addresses; keeps the key of the day.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    key: Option<DayKey>,
    /// The address hashed last with this key: the peer is often the client, and the same for many requests.
    last: Option<(IpAddr, [u8; 8])>,
}

/// The key of a day. Every worker has the same one, so that a client keeps its hash through the day.
#[derive(Debug, Clone)]
struct DayKey {
    /// Days since 1970, UTC.
    day: i64,
    key: Arc<hmac::Key>,
}

impl Addresses {
    /// Writes an address. `now` decides the day of a hash.
    pub(super) fn write(
        &mut self,
        out: &mut Vec<u8>,
        address: IpAddr,
        privacy: Privacy,
        now: impl FnOnce() -> Timestamp,
    ) {
        let address = address.to_canonical();
        match privacy {
            Privacy::None => plain(out, address),
            Privacy::Mask => plain(out, mask(address)),
            Privacy::HashDaily => self.hash(out, address, now()),
        }
    }

    fn hash(&mut self, out: &mut Vec<u8>, address: IpAddr, now: Timestamp) {
        let day = now.as_second().div_euclid(86_400);
        if self.key.as_ref().is_none_or(|key| key.day != day) {
            self.key = day_key(day);
            self.last = None;
        }
        let hash = match (self.last, &self.key) {
            (Some((last, hash)), _) if last == address => hash,
            (_, Some(key)) => key.hash(address),
            // No randomness, no hash: nothing is better than the address.
            (_, None) => return out.extend_from_slice(b"hidden"),
        };
        self.last = Some((address, hash));
        // Writing to a vector cannot fail.
        let _never = write!(out, "{:016x}", u64::from_be_bytes(hash));
    }
}

impl DayKey {
    fn hash(&self, address: IpAddr) -> [u8; 8] {
        let tag = match address {
            IpAddr::V4(address) => hmac::sign(&self.key, &address.octets()),
            IpAddr::V6(address) => hmac::sign(&self.key, &address.octets()),
        };
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }
}

/// The process's key of this day, or of the newest day seen: a request that ended before midnight and is written after it
/// takes the new day's key, and the old one stays forgotten.
fn day_key(day: i64) -> Option<DayKey> {
    static NEWEST: Mutex<Option<DayKey>> = Mutex::new(None);
    let mut newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
    if newest.as_ref().is_none_or(|key| key.day < day) {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
        *newest = Some(DayKey {
            day,
            key: Arc::new(key),
        });
    }
    newest.clone()
}

fn mask(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

fn plain(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (place, byte) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(itoa::Buffer::new().format(byte).as_bytes());
            }
        }
        IpAddr::V6(address) => {
            // Writing to a vector cannot fail.
            let _never = write!(out, "{address}");
        }
    }
}
