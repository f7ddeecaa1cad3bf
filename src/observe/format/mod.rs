//! From a [`Record`] to the bytes of one line.
//!
//! A line is one line whatever a client sent (`escape`), holds no secret of a query (`redact`) and shows addresses as
//! `privacy` allows (`privacy`). Where lines go is the business of [`super::access_log`].

mod clock;
mod ecs;
mod escape;
mod json;
mod privacy;
mod redact;
mod template;
#[cfg(test)]
mod tests;

pub(super) use redact::query as redact_query;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::record::Record;
use crate::snapshot::log::{AccessLog, Format, Lines};
use crate::value::region::{GeoFacts, Region};

/// Formats lines; one per worker, because it keeps the text of the current second.
#[derive(Debug)]
pub struct Formatter {
    clock: clock::Clock,
    addresses: privacy::Addresses,
}

impl Formatter {
    /// Formats local times in `zone`.
    #[must_use]
    pub fn new(zone: TimeZone) -> Self {
        Self {
            clock: clock::Clock::new(zone),
            addresses: privacy::Addresses::default(),
        }
    }

    /// Appends the line of `record` with its line feed.
    pub fn line(&mut self, record: &Record, log: &AccessLog, out: &mut Vec<u8>) {
        match &log.format {
            Format::Json => json::line(self, record, log, out),
            Format::Ecs => ecs::line(self, record, log, out),
            Format::Template(template) => template::line(self, record, log, template, out),
        }
        out.push(b'\n');
    }
}

/// Whether the log holds this request.
#[must_use]
pub fn holds(log: &AccessLog, record: &Record) -> bool {
    let wanted = match log.lines {
        Lines::All => true,
        Lines::Denied => record.refused(),
    };
    wanted
        && (log.sites.is_empty()
            || record
                .site
                .as_ref()
                .is_some_and(|site| log.sites.contains(site)))
}

/// When the line is written: the end of the request.
fn end(record: &Record) -> Timestamp {
    record
        .started
        .checked_add(record.duration)
        .unwrap_or(record.started)
}

/// The country: its code; `unlisted` where the database has none; nothing where no rule reads countries.
fn country(region: &Region, read: GeoFacts) -> Option<[u8; 8]> {
    match region.country.filter(|_| read.contains(GeoFacts::COUNTRY)) {
        Some(country) => {
            let [a, b] = country.0;
            Some([a, b, 0, 0, 0, 0, 0, 0])
        }
        None => unlisted(region, read, GeoFacts::COUNTRY),
    }
}

/// The largest subdivision, as `US-CA`; as with countries.
fn subdivision(region: &Region, read: GeoFacts) -> Option<[u8; 8]> {
    let [largest, _] = region.subdivisions;
    match largest.filter(|_| read.contains(GeoFacts::SUBDIVISION)) {
        Some(subdivision) => {
            let ([a, b], [c, d, e]) = (subdivision.country, subdivision.part);
            Some([a, b, b'-', c, d, e, 0, 0])
        }
        None => unlisted(region, read, GeoFacts::SUBDIVISION),
    }
}

/// The autonomous system; nothing where there is none or no rule reads them.
fn asn(region: &Region, read: GeoFacts) -> Option<u32> {
    region.asn.filter(|_| read.contains(GeoFacts::ASN))
}

fn unlisted(region: &Region, read: GeoFacts, fact: GeoFacts) -> Option<[u8; 8]> {
    (read.contains(fact) && !region.failed.intersects(fact)).then_some(*b"unlisted")
}

/// The bytes before the first NUL.
fn unpadded(text: &[u8; 8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn number(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}
