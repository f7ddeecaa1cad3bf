//! Sizes `"16KiB"`, `"1GiB"`, `"10MB"`, as the configuration writes them.
//!
//! A whole number and a unit: `B`, the powers of 1024 `KiB MiB GiB TiB`, or the powers of 1000 `kB MB GB TB`.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// The text is no size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a size is a whole number and a unit, such as `512B`, `16KiB`, `10MB`, `1GiB`")]
pub struct InvalidSize;

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .ok_or(InvalidSize)?;
        let (number, unit) = text.split_at_checked(digits).ok_or(InvalidSize)?;
        let number: u64 = number.parse().ok().ok_or(InvalidSize)?;
        let bytes = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .and_then(|(_, bytes)| number.checked_mul(*bytes));
        bytes.map(Self).ok_or(InvalidSize)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |unit: &&(&str, u64)| self.0 >= unit.1 && self.0.is_multiple_of(unit.1);
        match UNITS.iter().find(fits) {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// Largest first, so that the first which divides a size shows it shortest.
const UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("KB", 1000),
    ("B", 1),
];

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_numbers_with_units() {
        for (text, want) in [
            ("", None),
            ("16", None),  // no unit: bytes or kilobytes?
            ("KiB", None), // no number
            ("-1B", None),
            ("1.5MB", None),
            ("1 MB", None),
            ("16k", None),                     // nginx's letter: of 1000 or of 1024?
            ("18446744073709551615KiB", None), // overflows
            ("0B", Some(0)),
            ("512B", Some(512)),
            ("16KiB", Some(16_384)),
            ("10MB", Some(10_000_000)),
            ("10KB", Some(10_000)),
            ("1GiB", Some(1_073_741_824)),
        ] {
            assert_eq!(text.parse::<Size>().ok().map(|s| s.0), want, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_is_shown_reads_back(bytes in any::<u64>(), shift in 0_u32..64) {
            let size = Size(bytes >> shift);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
