#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests may stop at the first surprise, and say what they skip"
)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use maxminddb::{Reader, path};
use proptest::prelude::*;

use super::writer::{ARRAY, Entry, Label, RecordSize, assemble, head, map, text, unsigned, write};
use super::*;
use crate::value::country::{Continent, Country, Subdivision};
use crate::value::region::Anonymizers;

mod files;
mod hostile;
mod made;

const LABEL: Label<'static> = Label {
    kind: "Test",
    description: "for tests",
    build_epoch: 1_700_000_000,
};

/// A small generator of numbers: tests repeat exactly.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).unwrap() % end
    }
}

fn country(code: &str) -> Option<Country> {
    Some(code.parse().unwrap())
}

/// What the reader crate says of an address, by its own decoder, in the nested and the flat shape.
fn by_crate(reader: &Reader<&[u8]>, address: IpAddr) -> Region {
    if reader.metadata().ip_version == 4 && address.is_ipv6() {
        return Region::default();
    }
    let found = reader.lookup(address).unwrap();
    let text =
        |path: &[maxminddb::PathElement<'_>]| found.decode_path::<String>(path).ok().flatten();
    let number =
        |path: &[maxminddb::PathElement<'_>]| found.decode_path::<u32>(path).ok().flatten();
    let flag = |path: &[maxminddb::PathElement<'_>]| {
        found.decode_path::<bool>(path).ok().flatten() == Some(true)
    };
    let country = text(&path!["country", "iso_code"]).or_else(|| text(&path!["country_code"]));
    let country = country.and_then(|code| code.parse::<Country>().ok());
    let continent = text(&path!["continent", "code"]).or_else(|| text(&path!["continent_code"]));
    let part = |at: usize| {
        let code = text(&path!["subdivisions", at, "iso_code"])?;
        Subdivision::new(country?, code.as_bytes())
    };
    let mut anonymizer = Anonymizers::default();
    for (key, kind) in [
        ("is_anonymous_vpn", Anonymizers::VPN),
        ("is_tor_exit_node", Anonymizers::TOR),
        ("is_hosting_provider", Anonymizers::HOSTING),
        ("is_public_proxy", Anonymizers::PUBLIC_PROXY),
        ("is_residential_proxy", Anonymizers::RESIDENTIAL_PROXY),
    ] {
        if flag(&path![key]) {
            anonymizer = anonymizer.union(kind);
        }
    }
    let traits = number(&path!["traits", "autonomous_system_number"]);
    Region {
        country,
        continent: continent.and_then(|code| code.parse::<Continent>().ok()),
        subdivisions: [part(0), part(1)],
        asn: number(&path!["autonomous_system_number"]).or(traits),
        anonymizer,
        failed: GeoFacts::NONE,
    }
}

#[test]
fn the_first_database_with_a_value_gives_it() {
    let made = |region: Region| {
        let entry = Entry {
            network: "10.0.0.0/8".parse().unwrap(),
            region,
            as_org: None,
        };
        // A second network, so that the database provides countries and AS numbers although `region` may have none.
        let other = Entry {
            network: "192.0.2.0/24".parse().unwrap(),
            region: Region {
                country: country("AQ"),
                asn: Some(1),
                ..Region::default()
            },
            as_org: None,
        };
        let bytes = write(&[entry, other], &LABEL).unwrap();
        Arc::new(Database::read(&bytes).unwrap())
    };
    let at = |country_code: Option<&str>, asn: Option<u32>, anonymizer: Anonymizers| Region {
        country: country_code.and_then(country),
        asn,
        anonymizer,
        ..Region::default()
    };
    let (none, vpn, tor) = (Anonymizers::default(), Anonymizers::VPN, Anonymizers::TOR);
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let source = |region: Region, stale: bool| Source {
        stale_after: stale.then(|| "2025-01-01T00:00:00Z".parse().unwrap()),
        ..Source::new("test", Path::new(""), made(region))
    };
    let both = GeoFacts::COUNTRY.union(GeoFacts::ASN);
    for (why, sources, want, failed) in [
        (
            "no database at all",
            vec![],
            at(None, None, none),
            GeoFacts::NONE,
        ),
        (
            "a stale database decides nothing",
            vec![source(at(Some("NL"), Some(7), none), true)],
            at(None, None, none),
            both,
        ),
        (
            "a stale database hides what stands behind it",
            vec![
                source(at(None, None, none), true),
                source(at(Some("NL"), Some(7), none), false),
            ],
            at(None, None, none),
            both,
        ),
        (
            "what stands before a stale one counts",
            vec![
                source(at(Some("NL"), None, none), false),
                source(at(Some("DE"), Some(7), none), true),
            ],
            at(Some("NL"), None, none),
            GeoFacts::ASN,
        ),
        (
            "the first wins",
            vec![
                source(at(Some("NL"), None, none), false),
                source(at(Some("DE"), Some(7), none), false),
            ],
            at(Some("NL"), Some(7), none),
            GeoFacts::NONE,
        ),
        (
            "an empty answer is asked on",
            vec![
                source(at(None, Some(7), none), false),
                source(at(Some("DE"), Some(8), none), false),
            ],
            at(Some("DE"), Some(7), none),
            GeoFacts::NONE,
        ),
        (
            "anonymizers add up",
            vec![
                source(at(None, None, vpn), false),
                source(at(None, None, tor), false),
            ],
            at(None, None, vpn.union(tor)),
            GeoFacts::NONE,
        ),
    ] {
        let databases = Databases::new(sources);
        let got = databases.region("10.1.2.3".parse().unwrap(), now);
        assert_eq!(got, Region { failed, ..want }, "{why}");
    }
}
