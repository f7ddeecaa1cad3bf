//! Writes MaxMind databases: `geo build`, and the demo's database.
//!
//! Format: <https://maxmind.github.io/MaxMind-DB/>, version 2.0. One tree holds both families: IPv4 below `::/96`, and
//! `::ffff:0:0/96` points at the same subtree. Records have the nested shape of GeoIP2 (`country.iso_code` …), so every reader
//! of such files understands them. Where networks overlap, the more specific one wins.

use std::collections::HashMap;

use ipnet::IpNet;
use thiserror::Error;

use crate::value::country::Subdivision;
use crate::value::region::{Anonymizers, Region};

/// A network and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The network, without host bits; no IPv6 network inside `::/96` or `::ffff:0:0/96`, which are IPv4's.
    pub network: IpNet,
    /// Its facts.
    pub region: Region,
    /// The name of its autonomous system.
    pub as_org: Option<String>,
}

/// What the database says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Label<'t> {
    /// Its type, such as `Portcullis-Geo`.
    pub kind: &'t str,
    /// One English sentence.
    pub description: &'t str,
    /// Seconds since 1970.
    pub build_epoch: u64,
}

/// The database would not fit the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the database would be larger than the format allows")]
pub struct TooLarge;

/// The bytes of a database with these networks. Equal input gives equal bytes.
///
/// # Errors
/// If there are more nodes and data than 32-bit records can address.
pub fn write(entries: &[Entry], label: &Label<'_>) -> Result<Vec<u8>, TooLarge> {
    let mut data = Data::default();
    let records = entries
        .iter()
        .map(|entry| (entry.network, data.record(entry)));
    let records: Vec<(IpNet, usize)> = records.collect();
    assemble(records, &data.bytes, label, RecordSize::Bits24)
}

/// The same with records at least as wide, to test what tables of gigabytes need.
#[cfg(test)]
pub(super) fn write_wide(
    entries: &[Entry],
    label: &Label<'_>,
    size: RecordSize,
) -> Result<Vec<u8>, TooLarge> {
    let mut data = Data::default();
    let records = entries
        .iter()
        .map(|entry| (entry.network, data.record(entry)));
    let records: Vec<(IpNet, usize)> = records.collect();
    assemble(records, &data.bytes, label, size)
}

/// Tree, data section and metadata of networks whose records stand at these offsets.
pub(super) fn assemble(
    mut records: Vec<(IpNet, usize)>,
    data: &[u8],
    label: &Label<'_>,
    smallest: RecordSize,
) -> Result<Vec<u8>, TooLarge> {
    let mut tree = Tree {
        nodes: vec![[Slot::Empty; 2]],
    };
    // Wider networks first: narrower ones then split them. IPv6 first, so that a wide IPv6 network cannot leak into IPv4.
    records.sort_by_key(|(network, _)| (network.addr().is_ipv4(), network.prefix_len()));
    let (v6, v4) =
        records.split_at(records.partition_point(|(network, _)| network.addr().is_ipv6()));
    for (network, record) in v6 {
        tree.set(place(*network), Slot::Record(*record));
    }
    tree.set((0, 96), Slot::Empty);
    for (network, record) in v4 {
        tree.set(place(*network), Slot::Record(*record));
    }
    let ipv4 = tree.slot_at((0, 96));
    tree.set((0xffff_u128 << 32, 96), ipv4);

    let nodes = tree.nodes.len();
    let fitting = match nodes + SEPARATOR.len() + data.len() {
        0..0x0100_0000 => RecordSize::Bits24,
        0x0100_0000..0x1000_0000 => RecordSize::Bits28,
        0x1000_0000..0xffff_ffff => RecordSize::Bits32,
        _ => return Err(TooLarge),
    };
    let size = fitting.max(smallest);
    let mut bytes = Vec::with_capacity(nodes * 8 + data.len() + 1024);
    for [left, right] in &tree.nodes {
        let [left, right] = [left, right].map(|slot| slot.number(nodes));
        size.write(&mut bytes, left.ok_or(TooLarge)?, right.ok_or(TooLarge)?);
    }
    bytes.extend_from_slice(&SEPARATOR);
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    let node_count = u32::try_from(nodes).ok().ok_or(TooLarge)?;
    bytes.extend(map(&[
        ("node_count", unsigned(6, u64::from(node_count))),
        ("record_size", unsigned(5, size.bits())),
        ("ip_version", unsigned(5, 6)),
        ("database_type", text(label.kind)),
        ("languages", [head(ARRAY, 1), text("en")].concat()),
        ("binary_format_major_version", unsigned(5, 2)),
        ("binary_format_minor_version", unsigned(5, 0)),
        ("build_epoch", unsigned(9, label.build_epoch)),
        ("description", map(&[("en", text(label.description))])),
    ]));
    Ok(bytes)
}

/// How wide the records of the tree are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RecordSize {
    Bits24,
    Bits28,
    Bits32,
}

impl RecordSize {
    const fn bits(self) -> u64 {
        match self {
            Self::Bits24 => 24,
            Self::Bits28 => 28,
            Self::Bits32 => 32,
        }
    }

    fn write(self, bytes: &mut Vec<u8>, left: u32, right: u32) {
        let [l3, l2, l1, l0] = left.to_be_bytes();
        let [r3, r2, r1, r0] = right.to_be_bytes();
        match self {
            Self::Bits24 => bytes.extend_from_slice(&[l2, l1, l0, r2, r1, r0]),
            Self::Bits28 => bytes.extend_from_slice(&[l2, l1, l0, (l3 << 4) | r3, r2, r1, r0]),
            Self::Bits32 => bytes.extend_from_slice(&[l3, l2, l1, l0, r3, r2, r1, r0]),
        }
    }
}

/// A prefix in the address space of the tree: its bits at the top, and its length.
type Place = (u128, u8);

fn place(network: IpNet) -> Place {
    match network {
        IpNet::V4(net) => (u128::from(net.network().to_bits()), net.prefix_len() + 96),
        IpNet::V6(net) => (net.network().to_bits(), net.prefix_len()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Empty,
    Node(usize),
    /// An offset in the data section.
    Record(usize),
}

impl Slot {
    fn number(self, nodes: usize) -> Option<u32> {
        let number = match self {
            Self::Empty => nodes,
            Self::Node(node) => node,
            Self::Record(offset) => nodes + SEPARATOR.len() + offset,
        };
        u32::try_from(number).ok()
    }
}

struct Tree {
    nodes: Vec<[Slot; 2]>,
}

impl Tree {
    /// Puts a slot at a prefix; a record above it is split.
    fn set(&mut self, (bits, length): Place, slot: Slot) {
        let mut node = 0;
        for depth in 0..length {
            let side = side(bits, depth);
            let last = depth + 1 == length;
            let fresh = self.nodes.len();
            let Some(here) = self
                .nodes
                .get_mut(node)
                .and_then(|slots| slots.get_mut(side))
            else {
                return;
            };
            if last {
                *here = slot;
                return;
            }
            node = match *here {
                Slot::Node(next) => next,
                above @ (Slot::Empty | Slot::Record(_)) => {
                    *here = Slot::Node(fresh);
                    self.nodes.push([above; 2]);
                    fresh
                }
            };
        }
        // The whole address space: both halves of the root.
        if let Some(root) = self.nodes.get_mut(0) {
            *root = [slot; 2];
        }
    }

    /// What stands at a prefix, or above it.
    fn slot_at(&self, (bits, length): Place) -> Slot {
        let mut node = 0;
        for depth in 0..length {
            let slots = self.nodes.get(node);
            match slots.and_then(|slots| slots.get(side(bits, depth))) {
                Some(Slot::Node(next)) => node = *next,
                Some(leaf) => return *leaf,
                None => return Slot::Empty,
            }
        }
        Slot::Node(node)
    }
}

fn side(bits: u128, depth: u8) -> usize {
    usize::from((bits >> (127 - depth)) & 1 == 1)
}

/// The data section. Equal values are written once and pointed at.
#[derive(Default)]
struct Data {
    bytes: Vec<u8>,
    known: HashMap<Vec<u8>, usize, foldhash::fast::RandomState>,
}

impl Data {
    /// The offset of an entry's record.
    fn record(&mut self, entry: &Entry) -> usize {
        let Region {
            country,
            continent,
            subdivisions,
            asn,
            anonymizer,
            failed: _,
        } = entry.region;
        let mut fields = Vec::new();
        if let Some(continent) = continent {
            let names = map(&[("en", text(continent.name()))]);
            let value = map(&[("code", text(continent.as_str())), ("names", names)]);
            fields.push(("continent", self.shared(value)));
        }
        if let Some(country) = country {
            let names = map(&[("en", text(country.name()))]);
            let value = map(&[("iso_code", text(country.as_str())), ("names", names)]);
            fields.push(("country", self.shared(value)));
        }
        let subdivisions: Vec<Subdivision> = subdivisions.into_iter().flatten().collect();
        if !subdivisions.is_empty() {
            let mut value = head(ARRAY, subdivisions.len());
            for subdivision in &subdivisions {
                value.extend(map(&[("iso_code", text(subdivision.part()))]));
            }
            fields.push(("subdivisions", self.shared(value)));
        }
        if let Some(asn) = asn {
            fields.push(("autonomous_system_number", unsigned(6, u64::from(asn))));
        }
        if let Some(org) = &entry.as_org {
            let value = text(org);
            fields.push(("autonomous_system_organization", self.shared(value)));
        }
        if anonymizer != Anonymizers::default() {
            fields.push(("is_anonymous", TRUE.to_vec()));
        }
        for (key, kind) in FLAGS {
            if anonymizer.intersects(kind) {
                fields.push((key, TRUE.to_vec()));
            }
        }
        let mut value = head(7, fields.len());
        for (key, field) in fields {
            value.extend(self.shared(text(key)));
            value.extend(field);
        }
        self.offset(value)
    }

    /// A pointer at a value.
    fn shared(&mut self, value: Vec<u8>) -> Vec<u8> {
        pointer(self.offset(value))
    }

    fn offset(&mut self, value: Vec<u8>) -> usize {
        if let Some(known) = self.known.get(&value) {
            return *known;
        }
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&value);
        self.known.insert(value, offset);
        offset
    }
}

pub(super) fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = head(7, pairs.len());
    for (key, value) in pairs {
        bytes.extend(text(key));
        bytes.extend_from_slice(value);
    }
    bytes
}

pub(super) fn text(text: &str) -> Vec<u8> {
    // The longest text that the format has is 16 MiB; a name is cut before that at a character's edge.
    let kept = text
        .get(..text.floor_char_boundary(65_000))
        .unwrap_or_default();
    let mut bytes = head(2, kept.len());
    bytes.extend_from_slice(kept.as_bytes());
    bytes
}

/// An unsigned integer of type `kind` in as few bytes as it needs.
pub(super) fn unsigned(kind: u8, number: u64) -> Vec<u8> {
    let digits: Vec<u8> = number
        .to_be_bytes()
        .into_iter()
        .skip_while(|digit| *digit == 0)
        .collect();
    let mut bytes = head(kind, digits.len());
    bytes.extend(digits);
    bytes
}

/// The control byte of a type with its size bytes; sizes here stay below 65 821.
pub(super) fn head(kind: u8, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5);
    let low: u8 = match size {
        0..29 => u8::try_from(size).unwrap_or(0),
        29..285 => 29,
        _ => 30,
    };
    if kind <= 7 {
        bytes.push((kind << 5) | low);
    } else {
        bytes.extend([low, kind - 7]);
    }
    match low {
        29 => bytes.push(u8::try_from(size - 29).unwrap_or(u8::MAX)),
        30 => bytes.extend(u16::try_from(size - 285).unwrap_or(u16::MAX).to_be_bytes()),
        _ => {}
    }
    bytes
}

fn pointer(target: usize) -> Vec<u8> {
    // A section beyond 4 GiB is refused before anything is used: see `write`.
    let number = |target: usize| u32::try_from(target).unwrap_or(u32::MAX).to_be_bytes();
    match target {
        0..2_048 => {
            let [_, _, high, low] = number(target);
            vec![0x20 | high, low]
        }
        2_048..526_336 => {
            let [_, high, b, a] = number(target - 2_048);
            vec![0x28 | high, b, a]
        }
        526_336..134_744_064 => {
            let [high, c, b, a] = number(target - 526_336);
            vec![0x30 | high, c, b, a]
        }
        _ => {
            let [d, c, b, a] = number(target);
            vec![0x38, d, c, b, a]
        }
    }
}

/// The type of arrays; it is beyond the seven that fit the control byte.
pub(super) const ARRAY: u8 = 11;

const SEPARATOR: [u8; 16] = [0; 16];

/// Boolean, true: extended type 14, whose size is its value.
const TRUE: [u8; 2] = [1, 7];

const FLAGS: [(&str, Anonymizers); 5] = [
    ("is_anonymous_vpn", Anonymizers::VPN),
    ("is_tor_exit_node", Anonymizers::TOR),
    ("is_hosting_provider", Anonymizers::HOSTING),
    ("is_public_proxy", Anonymizers::PUBLIC_PROXY),
    ("is_residential_proxy", Anonymizers::RESIDENTIAL_PROXY),
];
