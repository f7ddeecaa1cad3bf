//! In which of all address sets an address is: one look-up answers for every set.
//!
//! All networks of all sets are flattened into disjoint sorted intervals; the value of an interval is a class, "in exactly
//! these sets". A root over the leading bits narrows the search to a few intervals (SPEED section 4). Small tables have a
//! small root; a million networks have one of 16 bits for IPv4 and 19 for IPv6.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A set of addresses of the policy, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetId(pub u32);

/// A class of addresses: those in exactly the same sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClassId(pub(super) u32);

/// Intervals by their first address with their classes, IPv4 and IPv6.
pub(crate) type Intervalled = (Vec<(Ipv4Addr, u32)>, Vec<(Ipv6Addr, u32)>);

/// Every address set of a policy.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    v4: Intervals<u32>,
    v6: Intervals<u128>,
    /// Class `c` is in the sets `members[starts[c]..starts[c + 1]]`, sorted.
    starts: Vec<u32>,
    members: Vec<SetId>,
}

impl Addresses {
    /// The table of these sets; set `n` has the number `n`.
    pub(super) fn new(sets: &[Vec<IpNet>]) -> Self {
        let mut classes = Classes::default();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (id, nets) in (0..).map(SetId).zip(sets) {
            let (mut ranges4, mut ranges6) = (Vec::new(), Vec::new());
            for net in nets {
                match net {
                    IpNet::V4(net) => {
                        ranges4.push((u32::from(net.network()), u32::from(net.broadcast())));
                    }
                    IpNet::V6(net) => {
                        ranges6.push((u128::from(net.network()), u128::from(net.broadcast())));
                    }
                }
            }
            merge(&mut ranges4);
            borders(&ranges4, id, &mut v4);
            merge(&mut ranges6);
            borders(&ranges6, id, &mut v6);
        }
        let v4 = flatten(v4, &mut classes);
        let v6 = flatten(v6, &mut classes);
        Self {
            v4: Intervals::new(v4, 32, 16),
            v6: Intervals::new(v6, 128, 19),
            starts: classes.starts,
            members: classes.members,
        }
    }

    /// The class of an address.
    pub(super) fn class(&self, address: IpAddr) -> ClassId {
        ClassId(match address.to_canonical() {
            IpAddr::V4(address) => self.v4.find(u32::from(address)),
            IpAddr::V6(address) => self.v6.find(u128::from(address)),
        })
    }

    /// Every interval by its first address, with its class.
    pub(super) fn intervals(&self) -> Intervalled {
        (
            self.v4
                .all()
                .map(|(at, c)| (Ipv4Addr::from(at), c))
                .collect(),
            self.v6
                .all()
                .map(|(at, c)| (Ipv6Addr::from(at), c))
                .collect(),
        )
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> usize {
        let small = self.starts.capacity() + self.members.capacity();
        self.v4.bytes() + self.v6.bytes() + small * size_of::<u32>()
    }

    /// Whether a class of addresses is in a set.
    pub(super) fn contains(&self, set: SetId, class: ClassId) -> bool {
        self.sets(class).binary_search(&set).is_ok()
    }

    /// The sets that a class of addresses is in, sorted.
    pub(super) fn sets(&self, class: ClassId) -> &[SetId] {
        let at = usize::try_from(class.0).unwrap_or(usize::MAX);
        let bound = |at: usize| {
            let bound = self.starts.get(at).copied();
            bound.and_then(|bound| usize::try_from(bound).ok())
        };
        let range = bound(at).zip(bound(at.saturating_add(1)));
        let members = range.and_then(|(start, end)| self.members.get(start..end));
        members.unwrap_or_default()
    }
}

/// Sorts ranges and joins those that overlap or touch.
fn merge<N: Number>(ranges: &mut Vec<(N, N)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|(first, last), (_, end)| {
        let joins = end.next().is_none_or(|next| *first <= next);
        if joins {
            *end = (*last).max(*end);
        }
        joins
    });
}

/// Where the ranges of a set begin, and where they have ended.
fn borders<N: Number>(ranges: &[(N, N)], id: SetId, borders: &mut Vec<(N, Border)>) {
    for (first, last) in ranges {
        borders.push((*first, Border::new(id, Side::Enter)));
        borders.extend(last.next().map(|end| (end, Border::new(id, Side::Leave))));
    }
}

/// A set, and whether it begins or ends: in one number, since there may be millions.
#[derive(Debug, Clone, Copy)]
struct Border(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Enter,
    Leave,
}

impl Border {
    const fn new(SetId(id): SetId, side: Side) -> Self {
        Self(id << 1 | matches!(side, Side::Leave) as u32)
    }

    const fn id(self) -> SetId {
        SetId(self.0 >> 1)
    }

    const fn side(self) -> Side {
        if self.0 & 1 == 0 {
            Side::Enter
        } else {
            Side::Leave
        }
    }
}

/// Sweeps over the borders of all ranges: where the sets change, an interval starts. The ranges of one set neither overlap
/// nor touch, so that the order of borders at one address does not matter.
fn flatten<N: Number>(mut borders: Vec<(N, Border)>, classes: &mut Classes) -> Vec<(N, u32)> {
    borders.sort_unstable_by_key(|(at, _)| *at);
    let mut inside: Vec<SetId> = Vec::new();
    let mut intervals = Vec::with_capacity(borders.len() + 1);
    intervals.push((N::ZERO, classes.of(&inside)));
    for same in borders.chunk_by(|(one, _), (other, _)| one == other) {
        let Some((at, _)) = same.first() else {
            continue;
        };
        for (_, border) in same {
            match (border.side(), inside.binary_search(&border.id())) {
                (Side::Enter, Err(place)) => inside.insert(place, border.id()),
                (Side::Leave, Ok(place)) => {
                    inside.remove(place);
                }
                (Side::Enter, Ok(_)) | (Side::Leave, Err(_)) => {}
            }
        }
        let class = classes.of(&inside);
        match intervals.last_mut() {
            Some((start, last)) if start == at => *last = class,
            Some((_, last)) if *last == class => {}
            Some(_) | None => intervals.push((*at, class)),
        }
    }
    intervals
}

/// Classes as they are met.
#[derive(Debug)]
struct Classes {
    known: HashMap<Box<[SetId]>, u32, foldhash::fast::RandomState>,
    starts: Vec<u32>,
    members: Vec<SetId>,
}

impl Default for Classes {
    fn default() -> Self {
        Self {
            known: HashMap::default(),
            starts: vec![0],
            members: Vec::new(),
        }
    }
}

impl Classes {
    fn of(&mut self, inside: &[SetId]) -> u32 {
        if let Some(class) = self.known.get(inside) {
            return *class;
        }
        let class = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        self.members.extend_from_slice(inside);
        self.starts
            .push(u32::try_from(self.members.len()).unwrap_or(u32::MAX));
        self.known.insert(inside.into(), class);
        class
    }
}

/// An address as a number.
trait Number: Copy + Ord {
    const ZERO: Self;
    /// The number behind it.
    fn next(self) -> Option<Self>;
    /// Its leading bits: the number shifted right.
    fn leading(self, shift: u32) -> usize;
}

impl Number for u32 {
    const ZERO: Self = 0;

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn leading(self, shift: u32) -> usize {
        usize::try_from(self.checked_shr(shift).unwrap_or(0)).unwrap_or(usize::MAX)
    }
}

impl Number for u128 {
    const ZERO: Self = 0;

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn leading(self, shift: u32) -> usize {
        usize::try_from(self.checked_shr(shift).unwrap_or(0)).unwrap_or(usize::MAX)
    }
}

/// Disjoint intervals by their first address, and the class of each. INVARIANT: sorted; the first starts at 0 where there
/// is any; `root[b]` is the number of intervals that start before the first address with the leading bits `b`.
#[derive(Debug, Default)]
struct Intervals<N> {
    starts: Vec<N>,
    classes: Vec<u32>,
    root: Vec<u32>,
    shift: u32,
}

impl<N: Number> Intervals<N> {
    fn new(intervals: Vec<(N, u32)>, width: u32, root_bits_max: u32) -> Self {
        let (starts, classes): (Vec<N>, Vec<u32>) = intervals.into_iter().unzip();
        let bits = starts.len().checked_ilog2().unwrap_or(0).min(root_bits_max);
        let shift = width - bits;
        let slots = 1usize << bits;
        let mut root = Vec::with_capacity(slots + 1);
        let mut passed = 0u32;
        let mut ahead = starts.iter().peekable();
        for slot in 0..=slots {
            while ahead.next_if(|start| start.leading(shift) < slot).is_some() {
                passed += 1;
            }
            root.push(passed);
        }
        Self {
            starts,
            classes,
            root,
            shift,
        }
    }

    fn all(&self) -> impl Iterator<Item = (N, u32)> {
        self.starts
            .iter()
            .copied()
            .zip(self.classes.iter().copied())
    }

    fn bytes(&self) -> usize {
        let numbers = self.classes.capacity() + self.root.capacity();
        self.starts.capacity() * size_of::<N>() + numbers * size_of::<u32>()
    }

    /// The class of the interval that holds an address; 0 where there are no intervals.
    fn find(&self, address: N) -> u32 {
        let slot = address.leading(self.shift);
        let bound = |slot: usize| self.root.get(slot).and_then(|n| usize::try_from(*n).ok());
        let from = bound(slot).unwrap_or(0);
        let to = bound(slot + 1).unwrap_or(from);
        let within = self.starts.get(from..to).unwrap_or(&[]);
        let at = from + within.partition_point(|start| *start <= address);
        let class = at.checked_sub(1).and_then(|at| self.classes.get(at));
        class.copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn one_look_up_answers_for_every_set() {
        let sets = [
            nets(&["10.0.0.0/8", "2001:db8::/32"]),
            nets(&["10.1.0.0/16", "192.0.2.7/32"]),
            nets(&["0.0.0.0/0"]),
            nets(&["10.0.0.0/9", "10.128.0.0/9"]), // two halves are one
            nets(&[]),
            nets(&["255.255.255.255/32", "::/0"]),
        ];
        let table = Addresses::new(&sets);
        for (address, want) in [
            ("10.0.0.0", vec![0, 2, 3]),
            ("10.1.2.3", vec![0, 1, 2, 3]),
            ("10.255.255.255", vec![0, 2, 3]),
            ("9.255.255.255", vec![2]),
            ("11.0.0.0", vec![2]),
            ("0.0.0.0", vec![2]),
            ("255.255.255.255", vec![2, 5]),
            ("192.0.2.7", vec![1, 2]),
            ("192.0.2.8", vec![2]),
            ("::ffff:10.1.2.3", vec![0, 1, 2, 3]), // mapped IPv4 is canonicalised
            ("2001:db8::1", vec![0, 5]),
            ("2001:db9::", vec![5]),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", vec![5]),
        ] {
            let class = table.class(address.parse().unwrap());
            let inside: Vec<u32> = (0..6)
                .filter(|id| table.contains(SetId(*id), class))
                .collect();
            assert_eq!(inside, want, "{address}");
        }
    }

    #[test]
    fn an_empty_table_contains_nothing() {
        for table in [Addresses::default(), Addresses::new(&[])] {
            for address in ["10.0.0.1", "::1"] {
                let class = table.class(address.parse().unwrap());
                assert!(!table.contains(SetId(0), class));
            }
        }
    }

    /// Few distinct numbers, so that networks nest, touch and repeat.
    fn net() -> impl Strategy<Value = IpNet> {
        let v4 = (0u32..64, 24u8..=32).prop_map(|(low, prefix)| {
            let net = ipnet::Ipv4Net::new((0x0A00_00C0 + low).into(), prefix).unwrap();
            IpNet::V4(net.trunc())
        });
        let v6 = (0u128..64, 120u8..=128).prop_map(|(low, prefix)| {
            let net = ipnet::Ipv6Net::new((u128::MAX - 63 + low).into(), prefix).unwrap();
            IpNet::V6(net.trunc())
        });
        let any = (any::<u32>(), 0u8..=32).prop_map(|(address, prefix)| {
            IpNet::V4(ipnet::Ipv4Net::new(address.into(), prefix).unwrap().trunc())
        });
        prop_oneof![v4, v6, any]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn the_table_equals_a_scan(
            sets in proptest::collection::vec(proptest::collection::vec(net(), 0..40), 0..6),
            low in 0u32..256,
            far in any::<u32>(),
        ) {
            let table = Addresses::new(&sets);
            let near6 = IpAddr::from((u128::MAX - 255 + u128::from(low)).to_be_bytes());
            for address in [IpAddr::from((0x0A00_0000 + low).to_be_bytes()), IpAddr::from(far.to_be_bytes()), near6] {
                let class = table.class(address);
                for (id, nets) in (0..).map(SetId).zip(&sets) {
                    let want = nets.iter().any(|net| net.contains(&address));
                    prop_assert_eq!(table.contains(id, class), want, "{} in set {}", address, id.0);
                }
            }
        }
    }
}
