//! `[time]`: windows of days and hours.
//!
//! Code: `bad-time-window`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;

use crate::config::node::{Node, Table, Value};
use crate::config::{Context, Diagnostic};
use crate::policy::time::{Days, Window};

/// The windows of `[time]`, by name.
pub(super) fn compile(root: &Table, cx: &mut Context) -> BTreeMap<String, Arc<Window>> {
    let mut windows = BTreeMap::new();
    for entry in root
        .table("time")
        .into_iter()
        .flat_map(|table| &table.entries)
    {
        if let Some(table) = entry.node.as_table() {
            windows.insert(entry.key.clone(), Arc::new(window(table, cx)));
        }
    }
    windows
}

fn window(table: &Table, cx: &mut Context) -> Window {
    let zone = match table.get("zone") {
        Some(node) => zone(node, cx),
        None => TimeZone::UTC,
    };
    let days = match table.get("days") {
        Some(node) => node
            .many()
            .fold(Days::NONE, |days, node| self::days(node, days, cx)),
        None => Days::ALL,
    };
    let from = table
        .get("from")
        .map_or(0, |node| minute(node, 24 * 60 - 1, cx));
    let to = table
        .get("to")
        .map_or(24 * 60, |node| minute(node, 24 * 60, cx));
    let dates = table
        .many("dates")
        .filter_map(|node| dates(node, cx))
        .collect();
    Window {
        zone,
        days,
        from,
        to,
        dates,
    }
}

/// A time zone by its IANA name; UTC, with a finding, where there is none.
pub(super) fn zone(node: &Node, cx: &mut Context) -> TimeZone {
    let Some(name) = node.as_str() else {
        return TimeZone::UTC;
    };
    TimeZone::get(name).unwrap_or_else(|_| {
        let message = format!("there is no time zone `{name}`");
        let finding = Diagnostic::error("bad-time-window", node.span, message);
        cx.say(finding.help("write a name such as `Europe/Amsterdam` or `UTC`"));
        TimeZone::UTC
    })
}

/// `mon`, `mon-fri`, `sat-mon`.
fn days(node: &Node, days: Days, cx: &mut Context) -> Days {
    let Some(text) = node.as_str() else {
        return days;
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (Some(first), Some(last)) = (weekday(first), weekday(last)) else {
        let message = format!("`{text}` is no day and no range of days");
        let finding = Diagnostic::error("bad-time-window", node.span, message);
        cx.say(finding.help("write `mon`, `mon-fri`, or a list of such"));
        return days;
    };
    let (mut day, mut days) = (first, days.with(first));
    while day != last {
        day = day.next();
        days = days.with(day);
    }
    days
}

fn weekday(text: &str) -> Option<Weekday> {
    Some(match text.trim() {
        "mon" => Weekday::Monday,
        "tue" => Weekday::Tuesday,
        "wed" => Weekday::Wednesday,
        "thu" => Weekday::Thursday,
        "fri" => Weekday::Friday,
        "sat" => Weekday::Saturday,
        "sun" => Weekday::Sunday,
        _ => return None,
    })
}

/// `07:00` as minutes of the day.
fn minute(node: &Node, most: u16, cx: &mut Context) -> u16 {
    let read = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let two = |part: &str| {
            let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| part.parse::<u16>().ok()).flatten()
        };
        let minutes = two(hour)? * 60 + two(minute).filter(|minute| *minute < 60)?;
        (minutes <= most).then_some(minutes)
    };
    let Some(text) = node.as_str() else { return 0 };
    read(text).unwrap_or_else(|| {
        let message = format!("`{text}` is no time of day");
        let finding = Diagnostic::error("bad-time-window", node.span, message);
        cx.say(finding.help("write hours and minutes: `07:00`; `to` may be `24:00`"));
        0
    })
}

/// A date, or two with `..` between them, both included.
fn dates(node: &Node, cx: &mut Context) -> Option<(Date, Date)> {
    let read = match &node.value {
        Value::Datetime(moment) => self::date(moment).map(|date| (date, date)),
        Value::String(text) => {
            let (first, last) = text.split_once("..").unwrap_or((text, text));
            let first = first.trim().parse().ok();
            first.zip(last.trim().parse().ok())
        }
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::List(_)
        | Value::Table(_) => return None,
    };
    let read = read.filter(|(first, last)| first <= last);
    if read.is_none() {
        let finding = Diagnostic::error(
            "bad-time-window",
            node.span,
            "this is no date and no range of dates",
        );
        cx.say(finding.help("write `2026-12-24` or `\"2026-12-24..2026-12-31\"`"));
    }
    read
}

/// The date of a TOML date.
pub(super) fn date(moment: &toml::value::Datetime) -> Option<Date> {
    let date = moment.date?;
    let year = i16::try_from(date.year).ok()?;
    let (month, day) = (i8::try_from(date.month).ok()?, i8::try_from(date.day).ok()?);
    Date::new(year, month, day).ok()
}
