//! Path patterns as numbers, so that all patterns of a list that a path matches are found without trying any.
//!
//! Patterns of one form (length, places of `*`, end) differ only in their literal segments. A path is hashed once, segment by
//! segment; each form in use then gives one number. Different patterns may have the same number: whoever asks must look at
//! what is found.

use smallvec::SmallVec;

use super::super::hash::{text, upper};
use super::super::pattern::{Pattern, Reading};
use crate::value::path;

/// The forms of the patterns of a list.
#[derive(Debug, Default)]
pub(in crate::policy) struct Forms {
    forms: Vec<Form>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Form {
    length: usize,
    /// Bit `n`: segment `n` may be anything.
    stars: u32,
    below: bool,
}

impl Forms {
    /// The number of a pattern; none where its form cannot be kept: it is too long, or there are too many forms.
    pub(in crate::policy) fn number(&mut self, pattern: &Pattern, reading: Reading) -> Option<u32> {
        let (segments, below) = pattern.segments(reading);
        let mut form = Form {
            length: 0,
            stars: 0,
            below,
        };
        let mut hash = START;
        for segment in segments {
            if form.length >= LENGTH_MAX {
                return None;
            }
            if segment.is_none() {
                form.stars |= 1u32.checked_shl(u32::try_from(form.length).ok()?)?;
            }
            hash = mix(hash, segment.map_or(STAR, text));
            form.length += 1;
        }
        if !self.forms.contains(&form) {
            if self.forms.len() >= FORMS_MAX {
                return None;
            }
            self.forms.push(form);
        }
        Some(end(hash, form.below))
    }

    /// Visits the numbers of all patterns that a path may match.
    pub(in crate::policy) fn each(&self, segments: &Segments, mut visit: impl FnMut(u32)) {
        let Segments { hashes, more } = segments;
        for form in &self.forms {
            let ends = hashes.len() == form.length && !more;
            let fits = form.below || ends;
            let Some(head) = hashes.get(..form.length).filter(|_| fits) else {
                continue;
            };
            let mut stars = form.stars;
            let hash = head.iter().fold(START, |hash, segment| {
                let star = stars & 1 != 0;
                stars >>= 1;
                mix(hash, if star { STAR } else { *segment })
            });
            visit(end(hash, form.below));
        }
    }

    /// Bytes beside the value itself.
    pub(super) const fn bytes(&self) -> usize {
        self.forms.capacity() * size_of::<Form>()
    }
}

/// The segments of a path as numbers, as far as any pattern needs them.
#[derive(Debug)]
pub(in crate::policy) struct Segments {
    hashes: SmallVec<[u64; LENGTH_MAX]>,
    more: bool,
}

impl Segments {
    /// The segments of a path; none where it is no path.
    pub(in crate::policy) fn of(path: &str) -> Option<Self> {
        if !path.starts_with('/') {
            return None;
        }
        let mut segments = path::segments(path);
        let hashes = segments.by_ref().take(LENGTH_MAX).map(text).collect();
        let more = segments.next().is_some();
        Some(Self { hashes, more })
    }
}

const fn mix(hash: u64, segment: u64) -> u64 {
    (hash.rotate_left(29) ^ segment).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn end(hash: u64, below: bool) -> u32 {
    upper(mix(hash, u64::from(below)))
}

const START: u64 = 0x51_7C_C1_B7_27_22_0A_95;
const STAR: u64 = 0x2A;

/// Longer patterns are left to the plain evaluator.
const LENGTH_MAX: usize = 16;
/// A list with more forms than these leaves the rest of its patterns to the plain evaluator.
const FORMS_MAX: usize = 24;
