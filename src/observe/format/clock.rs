//! Moments and durations as text. The part of a moment that changes once a second is kept.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Formats moments.
#[derive(Debug)]
pub(super) struct Clock {
    zone: TimeZone,
    utc: Second,
    local: Second,
    iso: Second,
}

/// The text of one second.
#[derive(Debug, Default)]
struct Second {
    second: Option<i64>,
    text: String,
}

impl Clock {
    pub(super) fn new(zone: TimeZone) -> Self {
        Self {
            zone,
            utc: Second::default(),
            local: Second::default(),
            iso: Second::default(),
        }
    }

    /// `2026-11-24T10:00:00.123456Z`.
    pub(super) fn rfc3339(&mut self, out: &mut Vec<u8>, moment: Timestamp) {
        let (second, micros) = split(moment);
        let text = self.utc.get(second, |text| {
            write!(text, "{}", moment.strftime("%Y-%m-%dT%H:%M:%S."))
        });
        out.extend_from_slice(text);
        digits::<6>(out, micros);
        out.push(b'Z');
    }

    /// `24/Nov/2026:10:00:00 +0000`.
    pub(super) fn local(&mut self, out: &mut Vec<u8>, moment: Timestamp) {
        let zone = &self.zone;
        let text = self.local.get(split(moment).0, |text| {
            let moment = moment.to_zoned(zone.clone());
            write!(text, "{}", moment.strftime("%d/%b/%Y:%H:%M:%S %z"))
        });
        out.extend_from_slice(text);
    }

    /// `2026-11-24T10:00:00+00:00`.
    pub(super) fn iso8601(&mut self, out: &mut Vec<u8>, moment: Timestamp) {
        let zone = &self.zone;
        let text = self.iso.get(split(moment).0, |text| {
            let moment = moment.to_zoned(zone.clone());
            write!(text, "{}", moment.strftime("%Y-%m-%dT%H:%M:%S%:z"))
        });
        out.extend_from_slice(text);
    }
}

impl Second {
    fn get(&mut self, second: i64, format: impl FnOnce(&mut String) -> std::fmt::Result) -> &[u8] {
        if self.second != Some(second) {
            self.text.clear();
            // A moment that cannot be formatted leaves its column empty, and is tried again.
            self.second = format(&mut self.text).ok().map(|()| second);
        }
        self.text.as_bytes()
    }
}

/// `1795600800.123`: seconds since 1970.
pub(super) fn unix_millis(out: &mut Vec<u8>, moment: Timestamp) {
    let (second, micros) = split(moment);
    out.extend_from_slice(itoa::Buffer::new().format(second).as_bytes());
    out.push(b'.');
    digits::<3>(out, micros / 1000);
}

/// `0.012345`: seconds with microseconds.
pub(super) fn seconds(out: &mut Vec<u8>, duration: Duration) {
    out.extend_from_slice(itoa::Buffer::new().format(duration.as_secs()).as_bytes());
    out.push(b'.');
    digits::<6>(out, duration.subsec_micros());
}

/// `0.012`: seconds with milliseconds, as nginx logs them.
pub(super) fn seconds_millis(out: &mut Vec<u8>, duration: Duration) {
    out.extend_from_slice(itoa::Buffer::new().format(duration.as_secs()).as_bytes());
    out.push(b'.');
    digits::<3>(out, duration.subsec_millis());
}

/// Whole seconds, and the microseconds behind them.
fn split(moment: Timestamp) -> (i64, u32) {
    let micros = moment.as_microsecond();
    let rest = u32::try_from(micros.rem_euclid(1_000_000)).unwrap_or(0);
    (micros.div_euclid(1_000_000), rest)
}

/// The last `N` decimal digits.
fn digits<const N: usize>(out: &mut Vec<u8>, value: u32) {
    let mut text = [b'0'; N];
    let mut rest = value;
    for place in text.iter_mut().rev() {
        *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    out.extend_from_slice(&text);
}
