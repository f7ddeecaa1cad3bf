//! Durations `"30s"`, `"500ms"`, `"1h30min"`, and rates `"10/min"`, as the configuration writes them.
//!
//! A duration is one or more whole numbers, each with its unit: `ms`, `s`, `min` (or `m`), `h`, `d`. A rate is a count, a
//! slash and a period: a unit (`/s`) or a duration (`/10s`). Neither knows fractions, signs or spaces.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The text is no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a duration is a whole number and a unit, such as `500ms`, `30s`, `5min`, `1h`, `2d`")]
pub struct InvalidDuration;

/// Reads a duration.
///
/// # Errors
/// Where the text is not numbers with units, or longer than fits.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    if text.is_empty() {
        return Err(InvalidDuration);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = split_while(rest, |c| c.is_ascii_digit());
        let (unit, after) = split_while(after, |c| c.is_ascii_alphabetic());
        let number: u64 = number.parse().ok().ok_or(InvalidDuration)?;
        let step = unit_millis(unit)
            .and_then(|millis| number.checked_mul(millis))
            .ok_or(InvalidDuration)?;
        total = total
            .checked_add(Duration::from_millis(step))
            .ok_or(InvalidDuration)?;
        rest = after;
    }
    Ok(total)
}

/// Writes a duration in the largest units that hold it exactly; anything below a millisecond is cut.
#[must_use]
pub fn show(duration: Duration) -> String {
    let mut millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("min", 60_000),
        ("s", 1000),
        ("ms", 1),
    ] {
        let count = millis / size;
        millis %= size;
        if count > 0 {
            text.push_str(&count.to_string());
            text.push_str(unit);
        }
    }
    text
}

/// So many in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many, at least 1.
    pub count: u64,
    /// In how long, at least a millisecond.
    pub per: Duration,
}

/// The text is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a count and a period, such as `10/s`, `60/min`, `1000/h`")]
pub struct InvalidRate;

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let (count, per) = text.split_once('/').ok_or(InvalidRate)?;
        let digits = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
        let count: u64 = count.parse().ok().filter(|_| digits).ok_or(InvalidRate)?;
        let per = unit_millis(per)
            .map(Duration::from_millis)
            .or_else(|| parse(per).ok())
            .ok_or(InvalidRate)?;
        if count == 0 || per.is_zero() {
            return Err(InvalidRate);
        }
        Ok(Self { count, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = show(self.per);
        let bare = per
            .strip_prefix('1')
            .filter(|unit| unit_millis(unit).is_some());
        write!(f, "{}/{}", self.count, bare.unwrap_or(&per))
    }
}

fn unit_millis(unit: &str) -> Option<u64> {
    match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" | "min" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    }
}

/// The longest prefix whose characters all fit, and the rest.
fn split_while(text: &str, fits: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !fits(c)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

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
    fn durations_are_numbers_with_units() {
        for (text, millis) in [
            ("", None),
            ("30", None),                    // no unit: seconds or milliseconds?
            ("s", None),                     // no number
            ("-1s", None),                   // no signs
            ("1.5s", None),                  // no fractions
            ("1 s", None),                   // no spaces
            ("1S", None),                    // units are lower case
            ("1week", None),                 // not a unit
            ("1h30", None),                  // the last number has no unit
            ("99999999999999999999s", None), // beyond 64 bits
            ("18446744073709551615d", None), // overflows in milliseconds
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("1min", Some(60_000)),
            ("5m", Some(300_000)), // as nginx writes it
            ("1h", Some(3_600_000)),
            ("2d", Some(172_800_000)),
            ("1h30min", Some(5_400_000)),
        ] {
            let got = parse(text).ok().map(|d| d.as_millis());
            assert_eq!(got, millis, "{text}");
        }
    }

    #[test]
    fn rates_are_counts_in_periods() {
        for (text, want) in [
            ("10", None),
            ("/s", None),
            ("0/s", None),   // nothing ever: a deny says that better
            ("+5/s", None),  // `u64` would take the sign
            ("10/0s", None), // no period
            ("10/week", None),
            ("10/min", Some((10, 60))),
            ("1000/h", Some((1000, 3600))),
            ("5/10s", Some((5, 10))),
        ] {
            let got: Option<Rate> = text.parse().ok();
            assert_eq!(got.map(|r| (r.count, r.per.as_secs())), want, "{text}");
        }
        for text in ["10/min", "5/10s", "7/d", "3/1h30min"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_is_shown_reads_back(millis in 0_u64..10_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&show(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,20}") {
            let _unused = parse(&text);
            let _unused = text.parse::<Rate>();
        }
    }
}
