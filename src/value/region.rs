//! What geography says of one address.

use super::country::{Continent, Country, Subdivision};

/// The facts of one address. `None` is "unlisted": the database has no such fact for the address, which rules can name.
/// `failed` names the facts whose source is broken: those are not "unlisted" but unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Region {
    /// ISO 3166-1 code of the country.
    pub country: Option<Country>,
    /// The continent.
    pub continent: Option<Continent>,
    /// ISO 3166-2 subdivisions, largest first.
    pub subdivisions: [Option<Subdivision>; 2],
    /// The autonomous system that announces the address.
    pub asn: Option<u32>,
    /// Anonymizers known at the address.
    pub anonymizer: Anonymizers,
    /// The facts that could not be looked up.
    pub failed: GeoFacts,
}

/// A set of anonymizer kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Anonymizers(pub u8);

impl Anonymizers {
    /// A VPN.
    pub const VPN: Self = Self(1);
    /// A Tor exit.
    pub const TOR: Self = Self(2);
    /// A hosting provider.
    pub const HOSTING: Self = Self(4);
    /// A public proxy.
    pub const PUBLIC_PROXY: Self = Self(8);
    /// A residential proxy.
    pub const RESIDENTIAL_PROXY: Self = Self(16);
    /// Every kind with the word policy uses for it.
    pub const ALL: [(&'static str, Self); 5] = [
        ("vpn", Self::VPN),
        ("tor", Self::TOR),
        ("hosting", Self::HOSTING),
        ("public_proxy", Self::PUBLIC_PROXY),
        ("residential_proxy", Self::RESIDENTIAL_PROXY),
    ];

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The words of the kinds in the set, in the order of [`Self::ALL`].
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let held = Self::ALL.into_iter();
        held.filter_map(move |(word, kind)| self.intersects(kind).then_some(word))
    }

    /// The kind that policy calls `word`.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find_map(|(known, kind)| (known == word).then_some(kind))
    }

    /// Whether the two sets share a kind.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// A set of kinds of geographic facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct GeoFacts(pub u8);

impl GeoFacts {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// The country.
    pub const COUNTRY: Self = Self(1);
    /// The continent.
    pub const CONTINENT: Self = Self(2);
    /// The subdivisions.
    pub const SUBDIVISION: Self = Self(4);
    /// The autonomous system.
    pub const ASN: Self = Self(8);
    /// Anonymizers.
    pub const ANONYMIZER: Self = Self(16);
    /// All of them.
    pub const ALL: Self = Self(31);
    /// Every kind with the word policy uses for it.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("country", Self::COUNTRY),
        ("continent", Self::CONTINENT),
        ("subdivision", Self::SUBDIVISION),
        ("asn", Self::ASN),
        ("anonymizer", Self::ANONYMIZER),
    ];

    /// The words of the facts in the set, in the order of [`Self::WORDS`].
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let all = Self::WORDS.into_iter();
        all.filter_map(move |(word, fact)| self.intersects(fact).then_some(word))
    }

    /// The facts of this set that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The facts in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every fact of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the two sets share a fact.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}
