//! Conditions as compiled: every key of GRAMMAR "Conditions" as a typed test, with the operator's words beside it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use jiff::Timestamp;

use super::address::SetId;
use super::claim::ClaimTest;
use super::facts::{RoleSet, Scheme, TlsVersion};
use super::pattern::PathTest;
use super::text::TextTest;
use super::time::Window;
use crate::value::country::{Continent, Country, Subdivision};
use crate::value::host::HostPattern;
use crate::value::region::{Anonymizers, GeoFacts};

/// Tests joined by *and*, and what they except.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// All must hold. INVARIANT: cheap ones first.
    pub tests: Box<[Test]>,
    /// None may hold.
    pub unless: Box<[Self]>,
    /// The condition fails from this moment on.
    pub until: Option<Timestamp>,
}

/// One key of a condition.
#[derive(Debug, Clone)]
pub struct Test {
    /// What it asks.
    pub matcher: Matcher,
    /// As the operator wrote it: `country = "@sanctioned"`.
    pub words: Arc<str>,
}

/// What a test asks of the facts. Values of one test are joined by *or*.
#[derive(Debug, Clone)]
pub enum Matcher {
    /// `ip`: the client address.
    Client(AddressTest),
    /// `peer`: who opened the connection.
    Peer(AddressTest),
    /// `country`.
    Country(Countries),
    /// `continent`.
    Continent(Continents),
    /// `subdivision`.
    Subdivision(Box<[Subdivision]>),
    /// `asn`.
    Asn(Systems),
    /// `anonymizer`.
    Anonymizer(Anonymizers),
    /// `role`, not widened.
    Role(RoleSet),
    /// `user`, sorted.
    User(Box<[Arc<str>]>),
    /// `auth`.
    Auth(AuthTest),
    /// `claim`.
    Claim(ClaimTest),
    /// `step_up.max_age`: signed in no longer ago than this.
    Fresh(Duration),
    /// `device`.
    Device(ClaimTest),
    /// `method`; `GET` covers `HEAD`.
    Method(Box<[Method]>),
    /// `host`.
    Host(Box<[HostPattern]>),
    /// `scheme`.
    Scheme(Box<[Scheme]>),
    /// `path`.
    Path(PathTest),
    /// `header`.
    Header(HeaderName, TextTest),
    /// `query`.
    Query(Box<str>, TextTest),
    /// `cookie`.
    Cookie(Box<str>, TextTest),
    /// `time`: inside any window.
    Time(Box<[Arc<Window>]>),
    /// `tls.version`; clear text has none.
    TlsVersion(Box<[TlsVersion]>),
    /// `tls.client_cert`.
    ClientCertificate(Presented),
    /// `upgrade = "websocket"`.
    WebSocket,
}

/// Whether a verified client certificate was presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented {
    /// It was.
    Presented,
    /// None was.
    Missing,
}

/// In a set of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressTest {
    /// The set.
    pub set: SetId,
    /// Whether the set lacks the addresses of a name that has never been resolved: an address that is not in the rest of
    /// the set is then of unknown standing.
    pub incomplete: bool,
}

/// `auth`: how the caller is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthTest {
    /// `"any"`: by any source.
    pub any: bool,
    /// `"none"`: not at all.
    pub none: bool,
    /// By one of these sources.
    pub sources: Box<[Arc<str>]>,
}

/// A set of countries as bits, and `"unlisted"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Countries {
    bits: Box<[u64; 11]>,
    /// Whether addresses without a country on record match.
    pub unlisted: bool,
}

impl Countries {
    /// Adds a country.
    pub fn insert(&mut self, country: Country) {
        let (word, bit) = Self::place(country);
        if let Some(bits) = self.bits.get_mut(word) {
            *bits |= bit;
        }
    }

    /// Whether a country is in the set.
    #[must_use]
    pub fn contains(&self, country: Country) -> bool {
        let (word, bit) = Self::place(country);
        self.bits.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Adds another set.
    pub fn extend(&mut self, other: &Self) {
        for (bits, more) in self.bits.iter_mut().zip(other.bits.iter()) {
            *bits |= more;
        }
        self.unlisted |= other.unlisted;
    }

    fn place(country: Country) -> (usize, u64) {
        let number = Self::number(country);
        (number / 64, 1 << (number % 64))
    }

    /// The place of a country among all pairs of letters.
    pub(super) fn number(Country([first, second]): Country) -> usize {
        let letter = |byte: u8| usize::from(byte.wrapping_sub(b'A'));
        letter(first) * 26 + letter(second)
    }

    /// The countries in the set, sorted.
    pub(crate) fn codes(&self) -> impl Iterator<Item = Country> {
        Country::all().filter(|country| self.contains(*country))
    }

    /// The numbers of the countries in the set.
    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> {
        super::facts::ones(&*self.bits)
    }
}

impl FromIterator<Country> for Countries {
    fn from_iter<I: IntoIterator<Item = Country>>(countries: I) -> Self {
        let mut set = Self::default();
        countries
            .into_iter()
            .for_each(|country| set.insert(country));
        set
    }
}

/// A set of continents, and `"unlisted"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Continents {
    /// The continents.
    pub codes: Box<[Continent]>,
    /// Whether addresses without a continent on record match.
    pub unlisted: bool,
}

/// A set of autonomous systems, and `"unlisted"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Systems {
    /// The numbers, sorted.
    pub numbers: Box<[u32]>,
    /// Whether addresses without a system on record match.
    pub unlisted: bool,
}

impl Condition {
    /// A condition; cheap tests go first, since one that fails saves the rest.
    #[must_use]
    pub fn new(mut tests: Vec<Test>, unless: Vec<Self>, until: Option<Timestamp>) -> Self {
        tests.sort_by_key(|test| test.matcher.cost());
        Self {
            tests: tests.into(),
            unless: unless.into(),
            until,
        }
    }

    /// Every test, also those of `unless`.
    pub(super) fn every_test<'c>(&'c self, visit: &mut dyn FnMut(&'c Test)) {
        self.tests.iter().for_each(&mut *visit);
        for excepted in &self.unless {
            excepted.every_test(visit);
        }
    }
}

impl Matcher {
    /// The geographic facts that this test reads.
    #[must_use]
    pub const fn reads(&self) -> GeoFacts {
        match self {
            Self::Country(_) => GeoFacts::COUNTRY,
            Self::Continent(_) => GeoFacts::CONTINENT,
            Self::Subdivision(_) => GeoFacts::SUBDIVISION,
            Self::Asn(_) => GeoFacts::ASN,
            Self::Anonymizer(_) => GeoFacts::ANONYMIZER,
            Self::Client(_)
            | Self::Peer(_)
            | Self::Role(_)
            | Self::User(_)
            | Self::Auth(_)
            | Self::Claim(_)
            | Self::Fresh(_)
            | Self::Device(_)
            | Self::Method(_)
            | Self::Host(_)
            | Self::Scheme(_)
            | Self::Path(_)
            | Self::Header(..)
            | Self::Query(..)
            | Self::Cookie(..)
            | Self::Time(_)
            | Self::TlsVersion(_)
            | Self::ClientCertificate(_)
            | Self::WebSocket => GeoFacts::NONE,
        }
    }

    /// The order in which tests are tried.
    const fn cost(&self) -> u8 {
        match self {
            Self::TlsVersion(_) | Self::ClientCertificate(_) | Self::WebSocket => 0,
            Self::Scheme(_) | Self::Method(_) | Self::Role(_) => 1,
            Self::User(_) | Self::Auth(_) | Self::Host(_) => 2,
            Self::Client(_) | Self::Peer(_) => 3,
            Self::Path(path) if path.regexes.is_empty() => 4,
            Self::Claim(_) | Self::Fresh(_) | Self::Device(_) => 5,
            Self::Country(_)
            | Self::Continent(_)
            | Self::Subdivision(_)
            | Self::Asn(_)
            | Self::Anonymizer(_) => 6,
            Self::Header(..) | Self::Query(..) | Self::Cookie(..) => 7,
            Self::Time(_) => 8,
            Self::Path(_) => 9,
        }
    }
}
