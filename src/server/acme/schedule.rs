//! When a certificate is ordered, and when again where that failed. Time and chance are arguments.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A number from 0 to 1 that chance gave, so that many certificates, or many machines, do not ask at the same moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lot(f64);

impl Lot {
    /// By four random bytes.
    pub(super) fn new(bytes: [u8; 4]) -> Self {
        Self(f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX))
    }
}

/// When a certificate is to be replaced: when a third of its life is left, or up to a thirtieth earlier.
pub(super) fn renewal(from: Timestamp, until: Timestamp, lot: Lot) -> Timestamp {
    let life = until.duration_since(from).max(SignedDuration::ZERO);
    let early = SignedDuration::try_from_secs_f64(life.as_secs_f64() / 30.0 * lot.0);
    let early = early.unwrap_or(SignedDuration::ZERO);
    until
        .checked_sub(life / 3)
        .and_then(|at| at.checked_sub(early))
        .unwrap_or(from)
}

/// How long to wait after so many failures in a row. `life` and `left` are of the certificate in use, if there is one that is
/// still good.
///
/// A minute, then four times as long each time, up to an hour where there is no good certificate and to half a day where there
/// is. Let's Encrypt counts five failed validations of a name an hour. A certificate that ends soon is tried four times more
/// before it does, but never more often than each minute, or a twentieth of a very short life.
pub(super) fn pause(
    failures: u32,
    certificate: Option<(SignedDuration, SignedDuration)>,
    lot: Lot,
) -> Duration {
    let long = FIRST.saturating_mul(4_u32.saturating_pow(failures.saturating_sub(1)));
    let long = match certificate {
        Some((life, left)) => {
            let least = (life.unsigned_abs() / 20).clamp(LEAST, FIRST);
            long.min(LAST).min(left.unsigned_abs() / 4).max(least)
        }
        None => long.min(LAST_WITHOUT),
    };
    long.mul_f64(0.8 + 0.4 * lot.0)
}

const FIRST: Duration = Duration::from_secs(60);
const LEAST: Duration = Duration::from_secs(3);
const LAST: Duration = Duration::from_secs(12 * 60 * 60);
const LAST_WITHOUT: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    const MIDDLE: Lot = Lot(0.5);

    #[test]
    fn a_certificate_is_replaced_when_a_third_is_left() {
        let day = 24 * 60 * 60;
        for (life, lot, want, why) in [
            (90 * day, Lot(0.0), 60 * day, "the usual life"),
            (90 * day, Lot(1.0), 57 * day, "as early as chance makes it"),
            (6 * day, Lot(0.0), 4 * day, "a short life"),
            (60, Lot(0.0), 40, "a very short one"),
            (0, Lot(1.0), 0, "none at all: now"),
            (-5, Lot(1.0), -5, "one that ended before it began"),
        ] {
            let from = Timestamp::UNIX_EPOCH;
            let until = Timestamp::from_second(life).unwrap();
            assert_eq!(renewal(from, until, lot).as_second(), want, "{why}");
        }
        let whole = renewal(Timestamp::MIN, Timestamp::MAX, Lot(1.0));
        assert!(whole < Timestamp::MAX, "the longest life there is");
    }

    #[test]
    fn failures_wait_longer_each_time_and_never_in_a_tight_loop() {
        let day = SignedDuration::from_hours(24);
        let seconds = SignedDuration::from_secs;
        for (failures, certificate, want, why) in [
            (1, None, 60, "the first failure"),
            (2, None, 240, "the second"),
            (3, None, 960, "the third"),
            (
                4,
                None,
                3600,
                "never longer than an hour without a certificate",
            ),
            (u32::MAX, None, 3600, "however often"),
            (0, None, 60, "never at once"),
            (5, Some((day * 90, day * 30)), 15360, "there is time"),
            (9, Some((day * 90, day * 30)), 43200, "half a day at most"),
            (
                9,
                Some((day * 90, day)),
                21600,
                "four times more before the end",
            ),
            (9, Some((day * 90, seconds(8))), 60, "each minute at most"),
            (9, Some((day * 90, seconds(-8))), 60, "a clock that jumped"),
            (1, Some((seconds(60), seconds(20))), 5, "a very short life"),
            (1, Some((seconds(60), seconds(0))), 3, "and its end"),
        ] {
            assert_eq!(
                pause(failures, certificate, MIDDLE).as_secs(),
                want,
                "{why}"
            );
        }
        let first = |lot| pause(1, None, lot).as_secs();
        assert_eq!(
            (first(Lot(0.0)), first(Lot(1.0))),
            (48, 72),
            "chance spreads them"
        );
    }
}
