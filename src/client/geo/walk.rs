//! The search tree of a MaxMind database, visited once and bounded.
//!
//! A node is two records, one per bit of the address; a record is another node, "nothing", or a value in the data section.
//! Databases of both address families keep IPv4 below `::/96` and point at that subtree from other prefixes as well
//! (`::ffff:0:0/96`, `2002::/16` …); those aliases are told apart, not expanded. A tree that shares other subtrees is legal
//! and expanded; one that shares so much that it explodes, or that loops, is refused.

use super::reader::Broken;

/// The tree as bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree<'d> {
    pub(super) bytes: &'d [u8],
    pub(super) node_count: usize,
    /// 24, 28 or 32.
    pub(super) record_size: usize,
    /// 4 or 6.
    pub(super) ip_version: u16,
}

/// What the walk meets, in the order of addresses. Ranges of one family are complete: each begins where the last ended.
pub(super) trait Visit {
    /// From this address on, up to the next call, the value is at this offset of the data section, or there is none.
    fn v4(&mut self, first: u32, value: Option<usize>) -> Result<(), Broken>;
    /// The same for IPv6.
    fn v6(&mut self, first: u128, value: Option<usize>) -> Result<(), Broken>;
    /// Below this prefix, the next 32 bits are an IPv4 address.
    fn alias(&mut self, prefix: u128, length: u8);
}

#[derive(Debug, Clone, Copy)]
struct Step {
    record: usize,
    depth: u8,
    prefix: u128,
}

/// What a record's number says: go on, or the offset of a value, or nothing.
enum Record {
    Node,
    Leaf(Option<usize>),
}

/// Whether a subtree has been dealt with.
#[derive(PartialEq, Eq)]
enum Taken {
    Whole,
    Nothing,
}

impl Tree<'_> {
    /// Visits every range.
    pub(super) fn walk(self, visit: &mut impl Visit) -> Result<(), Broken> {
        let mut budget = self.node_count.saturating_mul(4).saturating_add(1024);
        if self.ip_version == 4 {
            return self.walk_v4(0, &mut budget, visit);
        }
        let root_v4 = self.ipv4_root()?;
        let mut subtree = None;
        match self.record(root_v4)? {
            // The root below itself is a loop, which the walk of the whole tree refuses.
            Record::Node if root_v4 == 0 => {}
            Record::Node => {
                subtree = Some(root_v4);
                self.walk_v4(root_v4, &mut budget, visit)?;
            }
            // All of IPv4 lies in one record above or at `::/96`.
            Record::Leaf(value) => visit.v4(0, value)?,
        }
        let mut aliases = 0;
        self.descend(0, 128, &mut budget, |step| {
            if Some(step.record) == subtree && step.depth <= 96 && aliases < ALIASES_MAX {
                aliases += 1;
                visit.alias(step.prefix, step.depth);
                visit.v6(step.prefix, None)?;
                return Ok(Taken::Whole);
            }
            let Record::Leaf(value) = self.record(step.record)? else {
                return Ok(Taken::Nothing);
            };
            visit.v6(step.prefix, value)?;
            Ok(Taken::Whole)
        })
    }

    fn walk_v4(
        self,
        root: usize,
        budget: &mut usize,
        visit: &mut impl Visit,
    ) -> Result<(), Broken> {
        self.descend(root, 32, budget, |step| {
            let Record::Leaf(value) = self.record(step.record)? else {
                return Ok(Taken::Nothing);
            };
            visit.v4(u32::try_from(step.prefix).ok().ok_or(Broken::Tree)?, value)?;
            Ok(Taken::Whole)
        })
    }

    /// Depth first, lower addresses first, from a node down to the records that `take` takes.
    fn descend(
        self,
        node: usize,
        bits: u8,
        budget: &mut usize,
        mut take: impl FnMut(Step) -> Result<Taken, Broken>,
    ) -> Result<(), Broken> {
        let mut stack = Vec::with_capacity(129);
        stack.push(Step {
            record: node,
            depth: 0,
            prefix: 0,
        });
        while let Some(step) = stack.pop() {
            if take(step)? == Taken::Whole {
                continue;
            }
            if step.depth >= bits {
                return Err(Broken::Tree);
            }
            *budget = budget.checked_sub(1).ok_or(Broken::TooMuchWork)?;
            let (left, right) = self.node(step.record)?;
            let depth = step.depth + 1;
            let bit = 1_u128 << (bits - depth);
            stack.push(Step {
                record: right,
                depth,
                prefix: step.prefix | bit,
            });
            stack.push(Step {
                record: left,
                depth,
                prefix: step.prefix,
            });
        }
        Ok(())
    }

    fn record(self, number: usize) -> Result<Record, Broken> {
        let Some(beyond) = number.checked_sub(self.node_count) else {
            return Ok(Record::Node);
        };
        if beyond == 0 {
            return Ok(Record::Leaf(None));
        }
        let offset = beyond.checked_sub(SEPARATOR).ok_or(Broken::Tree)?;
        Ok(Record::Leaf(Some(offset)))
    }

    /// The record 96 zero bits below the root, or the leaf above it.
    fn ipv4_root(self) -> Result<usize, Broken> {
        let mut record = 0;
        for _ in 0..96 {
            if record >= self.node_count {
                break;
            }
            record = self.node(record)?.0;
        }
        Ok(record)
    }

    fn node(self, at: usize) -> Result<(usize, usize), Broken> {
        let size = self.record_size / 4;
        let begin = at.checked_mul(size).ok_or(Broken::Tree)?;
        let bytes = self
            .bytes
            .get(begin..)
            .and_then(|rest| rest.get(..size))
            .ok_or(Broken::Tree)?;
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte))
        };
        match *bytes {
            [a, b, c, x, y, z] => Ok((number(&[a, b, c]), number(&[x, y, z]))),
            [a, b, c, m, x, y, z] => Ok((number(&[m >> 4, a, b, c]), number(&[m & 15, x, y, z]))),
            [a, b, c, d, w, x, y, z] => Ok((number(&[a, b, c, d]), number(&[w, x, y, z]))),
            _ => Err(Broken::Tree),
        }
    }
}

/// Zero bytes between the tree and the data section.
pub(super) const SEPARATOR: usize = 16;

/// More prefixes than this that share the IPv4 subtree are expanded, within the budget. Published databases have 4.
const ALIASES_MAX: usize = 64;
