//! The addresses that several policies tell apart: classes of all their sets together.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::policy::Policy;
use crate::policy::address::SetId;

/// Classes of addresses: two addresses of one class are in exactly the same sets of every policy.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// An address of each class, by class.
    examples: Vec<IpAddr>,
    /// By policy and set: the classes in it, ascending.
    sets: HashMap<(usize, SetId), Vec<u32>, foldhash::fast::RandomState>,
}

impl Addresses {
    pub(crate) fn new(policies: &[&Policy]) -> Self {
        let mut this = Self::default();
        let mut known = HashMap::<Vec<u32>, u32, foldhash::fast::RandomState>::default();
        let mut class = |this: &mut Self, classes: Vec<u32>, example: IpAddr| {
            if known.contains_key(&classes) {
                return;
            }
            let number = u32::try_from(this.examples.len()).unwrap_or(u32::MAX);
            for (at, (policy, class)) in policies.iter().zip(&classes).enumerate() {
                for set in policy.sets_of_class(*class) {
                    this.sets.entry((at, *set)).or_default().push(number);
                }
            }
            known.insert(classes, number);
            this.examples.push(example);
        };
        for nice in NICE {
            let classes = policies.iter().map(|policy| policy.class_of(nice));
            class(&mut this, classes.collect(), nice);
        }
        let intervals: Vec<_> = policies.iter().map(|policy| policy.intervals()).collect();
        let v4 = intervals.iter().map(|(v4, _)| v4.as_slice()).collect();
        swept(v4, |first: Ipv4Addr, end: Option<Ipv4Addr>, classes| {
            // The first address of a network is no host; the next may be.
            let next = Ipv4Addr::from_bits(first.to_bits().saturating_add(1));
            let within = end.is_none_or(|end| next < end);
            class(
                &mut this,
                classes,
                IpAddr::V4(if within { next } else { first }),
            );
        });
        let v6 = intervals.iter().map(|(_, v6)| v6.as_slice()).collect();
        swept(v6, |first: Ipv6Addr, end: Option<Ipv6Addr>, classes| {
            let next = Ipv6Addr::from_bits(first.to_bits().saturating_add(1));
            let within = end.is_none_or(|end| next < end);
            let example = if within { next } else { first };
            // Mapped addresses are judged as IPv4.
            if example.to_ipv4_mapped().is_none() {
                class(&mut this, classes, IpAddr::V6(example));
            }
        });
        this
    }

    /// The classes in a set, ascending.
    pub(crate) fn set(&self, policy: usize, set: SetId) -> &[u32] {
        self.sets.get(&(policy, set)).map_or(&[], Vec::as_slice)
    }

    /// How many classes there are.
    pub(crate) const fn count(&self) -> usize {
        self.examples.len()
    }

    /// An address of a class.
    pub(crate) fn example(&self, class: u32) -> Option<IpAddr> {
        let at = usize::try_from(class).ok()?;
        self.examples.get(at).copied()
    }
}

/// Walks over the intervals of several tables at once: the first address of each piece, the first behind it, and the class of
/// the piece in every table.
fn swept<A: Copy + Ord>(tables: Vec<&[(A, u32)]>, mut visit: impl FnMut(A, Option<A>, Vec<u32>)) {
    let mut tables: Vec<_> = tables
        .into_iter()
        .map(|table| (0, table.iter().peekable()))
        .collect();
    loop {
        let starts = tables
            .iter_mut()
            .filter_map(|(_, table)| table.peek().map(|(at, _)| *at));
        let Some(at) = starts.min() else { return };
        for (class, table) in &mut tables {
            while let Some((_, next)) = table.next_if(|(start, _)| *start == at) {
                *class = *next;
            }
        }
        let ends = tables
            .iter_mut()
            .filter_map(|(_, table)| table.peek().map(|(at, _)| *at));
        let end = ends.min();
        visit(at, end, tables.iter().map(|(class, _)| *class).collect());
    }
}

/// Addresses that read well in an example: of documentation (RFC 5737).
const NICE: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
];
