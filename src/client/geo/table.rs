//! The content of a database as ranges of addresses: what a look-up searches.
//!
//! Records are interned: many networks share one (country, continent …), and neighbouring networks of one record become one
//! range. A range is a first address and a small number. Large tables have a root of the upper 16 bits, so that a look-up
//! searches one 65536th of the addresses.

use std::fmt;
use std::net::IpAddr;

use crate::value::region::Region;

/// Ranges of both families over interned records.
#[derive(Default)]
pub(super) struct Table {
    v4: Ranges<u32>,
    v6: V6,
    /// Prefixes (masked, with their length) below which the next 32 bits are an IPv4 address.
    aliases: Vec<(u128, u8)>,
    /// Record 0 is "no record".
    records: Vec<Region>,
}

/// Most databases say nothing about the lower half of an IPv6 address; half of the memory then does.
enum V6 {
    Upper(Ranges<u64>),
    Whole(Ranges<u128>),
}

impl Default for V6 {
    fn default() -> Self {
        Self::Upper(Ranges::default())
    }
}

/// What a table is made of, collected in the order of addresses.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) v4: Vec<(u32, u32)>,
    pub(super) v6: Vec<(u128, u32)>,
    pub(super) aliases: Vec<(u128, u8)>,
    pub(super) records: Vec<Region>,
}

impl fmt::Debug for Table {
    /// Its size: a table may have millions of ranges, and a snapshot is printed with its databases.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v6 = match &self.v6 {
            V6::Upper(ranges) => ranges.first.len(),
            V6::Whole(ranges) => ranges.first.len(),
        };
        f.debug_struct("Table")
            .field("v4", &self.v4.first.len())
            .field("v6", &v6)
            .field("aliases", &self.aliases.len())
            .field("records", &self.records.len())
            .finish()
    }
}

/// Adds a range's first address unless the record goes on.
pub(super) fn push<K>(ranges: &mut Vec<(K, u32)>, first: K, record: u32) {
    if ranges.last().is_none_or(|(_, last)| *last != record) {
        ranges.push((first, record));
    }
}

impl Table {
    pub(super) fn new(parts: Parts) -> Self {
        let upper = |address: u128| u64::try_from(address >> 64).unwrap_or(u64::MAX);
        let low = u128::from(u64::MAX);
        let v6 = if parts.v6.iter().all(|(first, _)| first & low == 0) {
            V6::Upper(Ranges::new(
                parts
                    .v6
                    .into_iter()
                    .map(|(first, record)| (upper(first), record)),
            ))
        } else {
            V6::Whole(Ranges::new(parts.v6.into_iter()))
        };
        Self {
            v4: Ranges::new(parts.v4.into_iter()),
            v6,
            aliases: parts.aliases,
            records: parts.records,
        }
    }

    /// The record of a canonical address. Allocates nothing.
    pub(super) fn find(&self, address: IpAddr) -> Region {
        let record = match address {
            IpAddr::V4(address) => self.v4.find(address.to_bits()),
            IpAddr::V6(address) => self.find_v6(address.to_bits()),
        };
        let record = usize::try_from(record)
            .ok()
            .and_then(|at| self.records.get(at));
        record.copied().unwrap_or_default()
    }

    fn find_v6(&self, address: u128) -> u32 {
        for (prefix, length) in &self.aliases {
            let rest = 128 - u32::from(*length);
            if address.checked_shr(rest) == prefix.checked_shr(rest) {
                // INVARIANT: an alias is at most 96 bits long, so 32 bits follow it.
                let v4 = (address >> rest.saturating_sub(32)) & u128::from(u32::MAX);
                return u32::try_from(v4).map_or(0, |v4| self.v4.find(v4));
            }
        }
        match &self.v6 {
            V6::Upper(ranges) => ranges.find(u64::try_from(address >> 64).unwrap_or(u64::MAX)),
            V6::Whole(ranges) => ranges.find(address),
        }
    }
}

/// Complete ranges: the first one begins at 0 (or nothing is known), each ends where the next begins.
struct Ranges<K> {
    /// INVARIANT: sorted, without duplicates.
    first: Box<[K]>,
    record: Box<[u32]>,
    /// Where the ranges of each value of the upper 16 bits begin, with one entry more for the end. Empty in small tables.
    root: Box<[u32]>,
}

impl<K> Default for Ranges<K> {
    fn default() -> Self {
        Self {
            first: Box::default(),
            record: Box::default(),
            root: Box::default(),
        }
    }
}

trait Key: Copy + Ord {
    fn upper(self) -> u16;
}

impl Key for u32 {
    fn upper(self) -> u16 {
        let [a, b, ..] = self.to_be_bytes();
        u16::from_be_bytes([a, b])
    }
}

impl Key for u64 {
    fn upper(self) -> u16 {
        let [a, b, ..] = self.to_be_bytes();
        u16::from_be_bytes([a, b])
    }
}

impl Key for u128 {
    fn upper(self) -> u16 {
        let [a, b, ..] = self.to_be_bytes();
        u16::from_be_bytes([a, b])
    }
}

impl<K: Key> Ranges<K> {
    fn new(ranges: impl Iterator<Item = (K, u32)>) -> Self {
        let (first, record): (Vec<K>, Vec<u32>) = ranges.unzip();
        let mut root = Vec::new();
        if first.len() > SMALL {
            let mut at = 0;
            for upper in 0..=u16::MAX {
                let before = first.get(at..).unwrap_or_default();
                at += before.partition_point(|key| key.upper() < upper);
                root.push(u32::try_from(at).unwrap_or(u32::MAX));
            }
            root.push(u32::try_from(first.len()).unwrap_or(u32::MAX));
        }
        Self {
            first: first.into_boxed_slice(),
            record: record.into_boxed_slice(),
            root: root.into_boxed_slice(),
        }
    }

    fn find(&self, address: K) -> u32 {
        let upper = usize::from(address.upper());
        let bound = |at: usize| self.root.get(at).and_then(|at| usize::try_from(*at).ok());
        let (begin, end) = (
            bound(upper).unwrap_or(0),
            bound(upper + 1).unwrap_or(self.first.len()),
        );
        let candidates = self.first.get(begin..end).unwrap_or_default();
        let after = begin + candidates.partition_point(|first| *first <= address);
        let record = after.checked_sub(1).and_then(|at| self.record.get(at));
        record.copied().unwrap_or(0)
    }
}

/// Below this many ranges a binary search is as fast as the root, which takes 256 KiB.
const SMALL: usize = 4096;
