//! Sets of small numbers as bits in three levels: which words, which words of those, which numbers.
//!
//! A row holds numbers below [`ROW_MAX`]. Where a row has nothing, nothing is stored and nothing is looked at, so that the
//! intersection of several rows costs what they have in common and not what they could hold. A row of one number is no row
//! at all: the number itself stands in its place.

/// Numbers that a row can hold: 64 words of 64 words of 64 bits.
pub(super) const ROW_MAX: usize = 64 * 64 * 64;

/// A row of a [`Rows`], or the one number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row(u32);

/// The words of one stretch of a row: which of 64 leaves there are, and where.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stretch {
    pub(super) leaves: u64,
    at: Leaves,
}

/// Where the leaves of a stretch are.
#[derive(Debug, Clone, Copy)]
enum Leaves {
    /// Only those that hold something, from here on.
    Packed(usize),
    /// All 64, from here on.
    Whole(usize),
    /// There is one, and this is it.
    One(u64),
}

impl Default for Leaves {
    fn default() -> Self {
        Self::One(0)
    }
}

/// Rows, packed. A row is one word for its stretches, then two words for each of them: which leaves, and where.
#[derive(Debug, Default)]
pub(super) struct Rows {
    words: Vec<u64>,
}

const SINGLE: u32 = 1 << 31;
const WHOLE: u64 = 1 << 63;

impl Row {
    /// No row at all.
    pub(super) const NONE: Self = Self(u32::MAX);

    /// The only number of the row, if it has just one.
    pub(super) fn single(self) -> Option<usize> {
        let number = usize::try_from(self.0 ^ SINGLE).ok()?;
        (number < ROW_MAX).then_some(number)
    }
}

impl Rows {
    /// Adds a row. `numbers` are sorted, without duplicates, and below [`ROW_MAX`]; others are left out.
    pub(super) fn add(&mut self, numbers: &[u32]) -> Row {
        match numbers {
            [] => return Row::NONE,
            [one] => return Row(SINGLE | one),
            [_, _, ..] => {}
        }
        let mut leaves: Vec<(usize, u64)> = Vec::new();
        for number in numbers {
            let number = usize::try_from(*number).unwrap_or(usize::MAX);
            let (leaf, bit) = (number / 64, 1 << (number % 64));
            match leaves.last_mut() {
                Some((last, bits)) if *last == leaf => *bits |= bit,
                Some(_) | None if leaf < ROW_MAX / 64 => leaves.push((leaf, bit)),
                Some(_) | None => {}
            }
        }
        let mut head = vec![0u64];
        let mut body: Vec<u64> = Vec::with_capacity(leaves.len());
        for stretch in leaves.chunk_by(|(one, _), (other, _)| one / 64 == other / 64) {
            let which = stretch.iter().fold(0, |bits, (leaf, _)| bits | bit(*leaf));
            let place = stretch.first().map_or(0, |(leaf, _)| leaf / 64);
            if let Some(top) = head.first_mut() {
                *top |= bit(place);
            }
            let at = u64::try_from(body.len()).unwrap_or(0);
            head.push(which);
            if stretch.len() > WHOLE_FROM {
                head.push(at | WHOLE);
                let from = body.len();
                body.resize(from + 64, 0);
                for (leaf, bits) in stretch {
                    if let Some(word) = body.get_mut(from + leaf % 64) {
                        *word = *bits;
                    }
                }
            } else {
                head.push(at);
                body.extend(stretch.iter().map(|(_, bits)| *bits));
            }
        }
        let start = self.words.len();
        let base = u64::try_from(start + head.len()).unwrap_or(0);
        for place in head.iter_mut().skip(2).step_by(2) {
            *place += base;
        }
        self.words.append(&mut head);
        self.words.append(&mut body);
        match u32::try_from(start) {
            Ok(start) if start < SINGLE => Row(start),
            // More than 16 GiB of rows: not a policy that anybody could load.
            Ok(_) | Err(_) => Row::NONE,
        }
    }

    /// Which stretches of 4096 numbers a row has.
    pub(super) fn top(&self, row: Row) -> u64 {
        match row.single() {
            Some(number) => bit(number / 4096),
            None => self.word(usize::try_from(row.0).unwrap_or(usize::MAX)),
        }
    }

    /// One stretch of a row.
    pub(super) fn stretch(&self, row: Row, place: u32) -> Stretch {
        if let Some(number) = row.single() {
            let there = usize::try_from(place).is_ok_and(|place| number / 4096 == place);
            return Stretch {
                leaves: if there { bit(number / 64) } else { 0 },
                at: Leaves::One(bit(number)),
            };
        }
        let at = usize::try_from(row.0).unwrap_or(usize::MAX);
        let top = self.word(at);
        let bit = 1u64.checked_shl(place).unwrap_or(0);
        if top & bit == 0 {
            return Stretch::default();
        }
        let at = at + 1 + 2 * ones(top & (bit - 1));
        let start = self.word(at + 1);
        let from = usize::try_from(start & !WHOLE).unwrap_or(usize::MAX);
        Stretch {
            leaves: self.word(at),
            at: if start & WHOLE == 0 {
                Leaves::Packed(from)
            } else {
                Leaves::Whole(from)
            },
        }
    }

    /// One leaf of a stretch: 64 numbers.
    pub(super) fn leaf(&self, stretch: Stretch, place: u32) -> u64 {
        let bit = 1u64.checked_shl(place).unwrap_or(0);
        if stretch.leaves & bit == 0 {
            return 0;
        }
        match stretch.at {
            Leaves::One(word) => word,
            Leaves::Whole(from) => self.word(from + usize::try_from(place).unwrap_or(0)),
            Leaves::Packed(from) => self.word(from + ones(stretch.leaves & (bit - 1))),
        }
    }

    /// Whether a row has a number.
    pub(super) fn contains(&self, row: Row, number: usize) -> bool {
        if let Some(single) = row.single() {
            return single == number;
        }
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let stretch = self.stretch(row, small(number / 4096));
        self.leaf(stretch, small(number / 64 % 64)) & bit(number) != 0
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    pub(super) fn shrink(&mut self) {
        self.words.shrink_to_fit();
    }

    fn word(&self, at: usize) -> u64 {
        self.words.get(at).copied().unwrap_or(0)
    }
}

/// From so many leaves on, a stretch stores all 64: it may take twice the memory, and finding one costs no counting.
const WHOLE_FROM: usize = 31;

/// The bit of a number within its word.
const fn bit(number: usize) -> u64 {
    1 << (number % 64)
}

fn ones(word: u64) -> usize {
    usize::try_from(word.count_ones()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_row_holds_what_was_put_in(
            sets in proptest::collection::vec(proptest::collection::btree_set(
                prop_oneof![0u32..200, 4000u32..4200, 0u32..262_144], 0..300), 1..5),
        ) {
            let mut rows = Rows::default();
            let added: Vec<Row> = sets
                .iter()
                .map(|set| rows.add(&set.iter().copied().collect::<Vec<_>>()))
                .collect();
            for (row, set) in added.into_iter().zip(&sets) {
                let mut held = Vec::new();
                for top in (0..64).filter(|t| row != Row::NONE && rows.top(row) & 1 << t != 0) {
                    let stretch = rows.stretch(row, top);
                    for mid in (0..64).filter(|m| stretch.leaves & 1 << m != 0) {
                        let leaf = rows.leaf(stretch, mid);
                        held.extend((0..64).filter(|b| leaf & 1 << b != 0).map(|b| top * 4096 + mid * 64 + b));
                    }
                }
                prop_assert_eq!(&held, &set.iter().copied().collect::<Vec<_>>());
                for number in 0..300 {
                    let want = set.contains(&u32::try_from(number).unwrap_or(0));
                    prop_assert_eq!(row != Row::NONE && rows.contains(row, number), want);
                }
            }
        }
    }
}
