//! Texts as numbers, for indexes: equal texts have equal numbers, and different ones almost always different numbers.

use std::hash::{BuildHasher as _, Hasher as _};

use foldhash::fast::FixedState;

/// A text as a number.
pub(super) fn text(text: &str) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// The upper half of a number, which is the better mixed one.
pub(super) fn upper(number: u64) -> u32 {
    u32::try_from(number >> 32).unwrap_or(0)
}
