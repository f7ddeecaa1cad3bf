//! Windows of time: days of the week and hours of the day in a time zone.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;

/// A window of time that repeats. A window over midnight belongs to the day on which it starts.
#[derive(Debug, Clone)]
pub struct Window {
    /// Whose clock counts.
    pub zone: TimeZone,
    /// The days.
    pub days: Days,
    /// The first minute of the day that is inside.
    pub from: u16,
    /// The first minute of the day that is outside again; up to 1440 (`24:00`).
    pub to: u16,
    /// Where any are written: only these dates, as ranges with both ends.
    pub dates: Box<[(Date, Date)]>,
}

/// A set of days of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(u8);

impl Days {
    /// No day.
    pub const NONE: Self = Self(0);
    /// Every day.
    pub const ALL: Self = Self(0x7F);

    /// This set with a day more.
    #[must_use]
    pub fn with(self, day: Weekday) -> Self {
        Self(self.0 | Self::bit(day))
    }

    fn contains(self, day: Weekday) -> bool {
        self.0 & Self::bit(day) != 0
    }

    fn bit(day: Weekday) -> u8 {
        1u8.checked_shl(u32::from(day.to_monday_zero_offset().unsigned_abs()))
            .unwrap_or(0)
    }
}

impl Window {
    /// Whether a moment is inside.
    pub(crate) fn contains(&self, now: Timestamp) -> bool {
        let local: DateTime = self.zone.to_datetime(now);
        let minute =
            u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        let today = local.date();
        if self.from < self.to {
            return (self.from..self.to).contains(&minute) && self.starts_on(today);
        }
        if minute >= self.from {
            self.starts_on(today)
        } else {
            minute < self.to && today.yesterday().is_ok_and(|day| self.starts_on(day))
        }
    }

    /// Everything that makes this window what it is.
    pub(crate) fn told(&self) -> String {
        let zone = match self.zone.iana_name() {
            Some(name) => name.to_owned(),
            None => format!("{:?}", self.zone),
        };
        let (days, from, to) = (self.days.0, self.from, self.to);
        format!("{zone} {days} {from} {to} {:?}", self.dates)
    }

    fn dated(&self, day: Date) -> bool {
        let mut dates = self.dates.iter();
        self.dates.is_empty() || dates.any(|(first, last)| (first..=last).contains(&&day))
    }

    fn starts_on(&self, day: Date) -> bool {
        self.days.contains(day.weekday()) && self.dated(day)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use super::*;

    #[test]
    fn windows_open_and_close() {
        let weekdays = [
            Weekday::Monday,
            Weekday::Tuesday,
            Weekday::Wednesday,
            Weekday::Thursday,
            Weekday::Friday,
        ];
        let weekdays = weekdays.into_iter().fold(Days::NONE, Days::with);
        let window = |days, from, to, dates: &[&str]| Window {
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            days,
            from,
            to,
            dates: dates
                .iter()
                .map(|date| date.parse().unwrap())
                .map(|date| (date, date))
                .collect(),
        };
        let office = window(weekdays, 7 * 60, 20 * 60, &[]);
        let night = window(weekdays, 22 * 60, 6 * 60, &[]);
        let day = window(Days::ALL, 0, 24 * 60, &["2026-12-24"]);
        let late = window(Days::ALL, 22 * 60, 2 * 60, &["2026-12-24"]);
        for (window, now, want, why) in [
            (
                &office,
                "2026-11-23T06:59:59+01:00",
                false,
                "a second before",
            ),
            (
                &office,
                "2026-11-23T07:00:00+01:00",
                true,
                "the first minute",
            ),
            (
                &office,
                "2026-11-23T19:59:59+01:00",
                true,
                "the last second",
            ),
            (
                &office,
                "2026-11-23T20:00:00+01:00",
                false,
                "the end is outside",
            ),
            (&office, "2026-11-22T10:00:00+01:00", false, "Sunday"),
            (&office, "2026-07-06T17:59:00Z", true, "summer time"),
            (&office, "2026-07-06T18:00:00Z", false, "summer time"),
            (
                &night,
                "2026-11-28T05:30:00+01:00",
                true,
                "Saturday morning belongs to Friday",
            ),
            (
                &night,
                "2026-11-28T23:30:00+01:00",
                false,
                "Saturday night does not",
            ),
            (
                &night,
                "2026-11-23T05:30:00+01:00",
                false,
                "Monday morning belongs to Sunday",
            ),
            (
                &day,
                "2026-12-24T23:59:59+01:00",
                true,
                "24:00 closes the day",
            ),
            (&day, "2026-12-25T00:00:00+01:00", false, "and not later"),
            (
                &late,
                "2026-12-25T01:00:00+01:00",
                true,
                "the night of the date",
            ),
            (
                &late,
                "2026-12-24T01:00:00+01:00",
                false,
                "not the night before",
            ),
        ] {
            assert_eq!(window.contains(now.parse().unwrap()), want, "{now}: {why}");
        }
    }
}
