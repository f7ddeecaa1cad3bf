//! From a record of any known shape to a [`Region`].
//!
//! The shape is recognised in each record by its keys; nobody has to name it:
//!
//! ```text
//! GeoIP2, GeoLite2, DB-IP   country.iso_code  continent.code  subdivisions[].iso_code
//! ASN databases of both     autonomous_system_number
//! Anonymous-IP              is_anonymous_vpn  is_tor_exit_node  is_hosting_provider  is_public_proxy  is_residential_proxy
//! Enterprise                traits.autonomous_system_number, traits.is_anonymous_vpn …
//! IPinfo                    country_code  continent_code  region_code  asn "AS13335";  older: country "AU"  continent "OC"
//! IPinfo privacy            vpn  tor  hosting  proxy
//! ip-location-db            country_code  or  autonomous_system_number
//! ```
//!
//! A nested code wins over a flat one in the same record. A value of another type than expected counts as absent.

use super::data::{Data, Items, Value};
use super::reader::Broken;
use crate::value::country::{Continent, Country, Subdivision};
use crate::value::region::{Anonymizers, GeoFacts, Region};

/// What one record says, and which facts it has a place for: a record with `country.iso_code = "EU"` provides countries but has
/// none.
pub(super) fn region(data: Data<'_>, at: usize) -> Result<(Region, GeoFacts), Broken> {
    let mut seen = Seen::default();
    if let Value::Map(record) = data.value(at)? {
        data.pairs(record, |key, value| seen.field(data, key, value))?;
    }
    Ok(seen.region())
}

/// The codes of a record as found, before they are judged.
#[derive(Default)]
struct Seen<'d> {
    country: Option<&'d [u8]>,
    flat_country: Option<&'d [u8]>,
    continent: Option<&'d [u8]>,
    flat_continent: Option<&'d [u8]>,
    subdivisions: [Option<&'d [u8]>; 2],
    flat_subdivision: Option<&'d [u8]>,
    asn: Option<u64>,
    anonymizer: Anonymizers,
    provides: GeoFacts,
}

impl<'d> Seen<'d> {
    fn field(&mut self, data: Data<'d>, key: &[u8], value: Value<'d>) -> Result<(), Broken> {
        match (key, value) {
            (b"country", Value::Map(country)) => {
                self.country = text(data.field(country, b"iso_code")?)
            }
            // `country` is a code in some flat tables and a name in others, which have `country_code` beside it.
            (b"country", Value::Text(code)) if code.len() == 2 => {
                self.flat_country = self.flat_country.or(Some(code));
            }
            (b"country_code", Value::Text(code)) => self.flat_country = Some(code),
            (b"continent", Value::Map(continent)) => {
                self.continent = text(data.field(continent, b"code")?)
            }
            (b"continent", Value::Text(code)) if code.len() == 2 => {
                self.flat_continent = self.flat_continent.or(Some(code));
            }
            (b"continent_code", Value::Text(code)) => self.flat_continent = Some(code),
            (b"subdivisions", Value::Array(list)) => self.subdivisions(data, list)?,
            (b"region_code", Value::Text(code)) => self.flat_subdivision = Some(code),
            (b"traits", Value::Map(traits)) => {
                data.pairs(traits, |key, value| {
                    self.flat(key, value);
                    Ok(())
                })?;
            }
            (key, value) => self.flat(key, value),
        }
        Ok(())
    }

    fn flat(&mut self, key: &[u8], value: Value<'_>) {
        match (key, value) {
            (b"autonomous_system_number" | b"asn" | b"as_number", Value::Number(number)) => {
                self.asn = Some(number)
            }
            (b"asn" | b"autonomous_system_number", Value::Text(text)) => {
                self.asn = as_number(text).or(self.asn)
            }
            (key, value) => {
                let known = ANONYMIZERS.iter().find(|(name, _)| name.as_bytes() == key);
                if let (Some((_, kind)), Some(is)) = (known, truth(value)) {
                    self.provides = self.provides.union(GeoFacts::ANONYMIZER);
                    if is {
                        self.anonymizer = self.anonymizer.union(*kind);
                    }
                }
            }
        }
    }

    fn subdivisions(&mut self, data: Data<'d>, list: Items) -> Result<(), Broken> {
        let mut found = [None; 2];
        data.elements(list, &mut found)?;
        for (slot, element) in self.subdivisions.iter_mut().zip(found) {
            if let Some(Value::Map(subdivision)) = element {
                *slot = text(data.field(subdivision, b"iso_code")?);
            }
        }
        Ok(())
    }

    fn region(self) -> (Region, GeoFacts) {
        let mut provides = self.provides;
        let mut note = |present: bool, fact| {
            if present {
                provides = provides.union(fact);
            }
        };
        let country = self.country.or(self.flat_country);
        note(country.is_some(), GeoFacts::COUNTRY);
        let continent = self.continent.or(self.flat_continent);
        note(continent.is_some(), GeoFacts::CONTINENT);
        let [first, second] = self.subdivisions;
        let first = first.or(self.flat_subdivision);
        note(first.is_some(), GeoFacts::SUBDIVISION);
        note(self.asn.is_some(), GeoFacts::ASN);
        let country = country.and_then(Country::from_database);
        let subdivision = |code: Option<&[u8]>| {
            let country = country?;
            let code = code?;
            // Some tables write the part alone (`CA`), some the whole code (`US-CA`).
            let whole = code
                .strip_prefix(&country.0)
                .and_then(|rest| rest.strip_prefix(b"-"));
            Subdivision::new(country, whole.unwrap_or(code))
        };
        let region = Region {
            country,
            continent: continent.and_then(Continent::from_database),
            subdivisions: [subdivision(first), subdivision(second)],
            asn: self
                .asn
                .and_then(|number| u32::try_from(number).ok())
                .filter(|number| *number != 0),
            anonymizer: self.anonymizer,
            failed: GeoFacts::NONE,
        };
        (region, provides)
    }
}

fn text(value: Option<Value<'_>>) -> Option<&[u8]> {
    match value {
        Some(Value::Text(text)) => Some(text),
        Some(
            Value::Number(_) | Value::Boolean(_) | Value::Map(_) | Value::Array(_) | Value::Other,
        )
        | None => None,
    }
}

/// `AS13335` or `13335`.
fn as_number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_prefix("AS").unwrap_or(text);
    digits.parse().ok()
}

/// A flag, also where a table of text has become a database of text.
fn truth(value: Value<'_>) -> Option<bool> {
    match value {
        Value::Boolean(is) => Some(is),
        Value::Number(number @ 0..=1) => Some(number == 1),
        Value::Text(b"true" | b"1") => Some(true),
        Value::Text(b"false" | b"0" | b"") => Some(false),
        Value::Text(_) | Value::Number(_) | Value::Map(_) | Value::Array(_) | Value::Other => None,
    }
}

/// Keys of flags. `is_anonymous` says nothing about the kind and has always another flag beside it.
const ANONYMIZERS: [(&str, Anonymizers); 9] = [
    ("is_anonymous_vpn", Anonymizers::VPN),
    ("is_tor_exit_node", Anonymizers::TOR),
    ("is_hosting_provider", Anonymizers::HOSTING),
    ("is_public_proxy", Anonymizers::PUBLIC_PROXY),
    ("is_residential_proxy", Anonymizers::RESIDENTIAL_PROXY),
    ("vpn", Anonymizers::VPN),
    ("tor", Anonymizers::TOR),
    ("hosting", Anonymizers::HOSTING),
    ("proxy", Anonymizers::PUBLIC_PROXY),
];
