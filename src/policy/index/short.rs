//! Lists of up to 64 rules: one word says which rules a number leaves.

use super::super::condition::Condition;
use super::super::evaluate::{Judge, Matched};
use super::super::facts::Identity;
use super::super::text::Side;
use super::forms::Forms;
use super::keys::{Asked, Attribute};
use super::long::{by_worth, profile};
use super::{Found, Wish};

/// The index of a short list. One block of memory, since a cold one costs more than all that is computed from it.
#[derive(Debug)]
pub(in crate::policy) struct Short {
    side: Side,
    forms: Forms,
    /// Every rule; the rules that cannot hold before it is known who asks; the rules that ask for the region. Then for each
    /// attribute, those of the region last: its number and how many numbers follow; the rules that do not look at it; for
    /// each number the rules that ask for it; the numbers, ascending, two in a word.
    words: Box<[u64]>,
}

impl Short {
    /// The index of a list of at most 64 rules.
    pub(super) fn new<'c>(conditions: impl Iterator<Item = &'c Condition>, side: Side) -> Self {
        let mut forms = Forms::default();
        let mut postings = Vec::new();
        let (mut every, mut needs_identity, mut geo) = (0u64, 0u64, 0u64);
        let mut masks = Vec::new();
        for (place, condition) in (0u32..64).zip(conditions) {
            let profile = profile(condition, place, &mut forms, &mut postings);
            every |= 1 << place;
            needs_identity |= u64::from(profile.needs_identity) << place;
            masks.push(profile.mask);
        }
        let mut attributes = Vec::new();
        for bit in by_worth(&postings) {
            let found = Attribute::ALL.into_iter().find(|a| a.bit() == bit);
            attributes.extend(found);
        }
        attributes.sort_by_key(|attribute| attribute.is_geo());
        postings.retain(|posting| !posting.exception);
        postings.sort_unstable();
        let mut words = vec![every, needs_identity, 0];
        for attribute in attributes {
            let looks = (0u32..).zip(&masks).fold(0u64, |looks, (place, mask)| {
                looks | u64::from(mask & attribute.bit() != 0) << place
            });
            if attribute.is_geo() {
                geo |= looks;
            }
            let mine = postings
                .iter()
                .filter(|p| p.attribute == attribute.number());
            let (mut numbers, mut rows): (Vec<u32>, Vec<u64>) = (Vec::new(), Vec::new());
            for posting in mine {
                let rule = 1u64.checked_shl(posting.place).unwrap_or(0);
                match rows.last_mut() {
                    Some(row) if numbers.last() == Some(&posting.number) => *row |= rule,
                    Some(_) | None => {
                        numbers.push(posting.number);
                        rows.push(rule);
                    }
                }
            }
            let count = u64::try_from(numbers.len()).unwrap_or(0);
            words.push(count << 8 | u64::from(attribute.number()));
            words.push(every & !looks);
            words.append(&mut rows);
            let pairs = numbers.chunks(2).map(|pair| {
                let [low, high] = [pair.first(), pair.get(1)].map(|n| n.copied().unwrap_or(0));
                u64::from(high) << 32 | u64::from(low)
            });
            words.extend(pairs);
        }
        if let Some(word) = words.get_mut(2) {
            *word = geo;
        }
        Self {
            side,
            forms,
            words: words.into(),
        }
    }

    /// What the list says. `verify` judges the rule at a place.
    pub(super) fn search(
        &self,
        judge: &Judge<'_>,
        wish: Wish,
        asked: &mut Asked,
        mut verify: impl FnMut(usize) -> Matched,
    ) -> Found {
        let mut found = Found::default();
        let [every, needs_identity, geo, blocks @ ..] = &*self.words else {
            return found;
        };
        let waits = match judge.identity {
            Identity::Open => *needs_identity,
            Identity::Anonymous | Identity::Known(_) | Identity::Failed => 0,
        };
        let mut left = match wish {
            Wish::All => *every,
            Wish::Certain => every & !waits,
            Wish::Open => waits,
            Wish::Rest => *needs_identity,
        };
        let mut blocks = blocks;
        while let [head, others, rest @ ..] = blocks {
            let Some(attribute) = Attribute::ALL.get(usize::from(head.to_le_bytes()[0])) else {
                break;
            };
            let count = usize::try_from(head >> 8).unwrap_or(usize::MAX);
            let Some((rows, rest)) = rest.split_at_checked(count) else {
                break;
            };
            let Some((numbers, rest)) = rest.split_at_checked(count.div_ceil(2)) else {
                break;
            };
            blocks = rest;
            if left & !others == 0 {
                continue;
            }
            if attribute.is_geo() && left & geo == 0 {
                break;
            }
            if let Some(held) = asked.of(*attribute, judge, self.side, &self.forms) {
                let ask = held
                    .iter()
                    .fold(0, |ask, number| ask | row(*number, numbers, rows));
                left &= others | ask;
            }
        }
        let later = left & waits;
        for place in places(left & !later) {
            match verify(place) {
                Matched::Holds => {
                    found.holds = Some(place);
                    return found;
                }
                Matched::Open => found.open = true,
                Matched::Fails => {}
            }
        }
        found.unsettled = found.open;
        // None of these can hold: they matter only where nothing else does.
        found.open = found.open || places(later).any(|place| verify(place) != Matched::Fails);
        found
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.words) + self.forms.bytes()
    }
}

/// The rules that ask for a number.
fn row(number: u32, numbers: &[u64], rows: &[u64]) -> u64 {
    let halves = |pair: u64| {
        let [a, b, c, d, e, f, g, h] = pair.to_le_bytes();
        [
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, g, h]),
        ]
    };
    let from = if numbers.len() <= LINEAR_MAX {
        0
    } else {
        // The last pair that does not start behind the number.
        let behind = numbers.partition_point(|pair| halves(*pair)[0] <= number);
        behind.saturating_sub(1)
    };
    for (place, pair) in numbers.iter().enumerate().skip(from).take(LINEAR_MAX) {
        let [low, high] = halves(*pair);
        // The last pair may be half empty: then there is no row for its second half.
        if low == number {
            return rows.get(place * 2).copied().unwrap_or(0);
        }
        if high == number {
            return rows.get(place * 2 + 1).copied().unwrap_or(0);
        }
    }
    0
}

/// Pairs of numbers that are looked through one after the other.
const LINEAR_MAX: usize = 8;

/// The numbers of the bits of a word.
fn places(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = usize::try_from(word.trailing_zeros()).ok()?;
        (word != 0).then(|| word &= word - 1)?;
        Some(place)
    })
}
