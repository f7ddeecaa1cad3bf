//! What rules ask for and what a request has, as small numbers of the same kind.
//!
//! A test that can be indexed has numbers, and so has a request. INVARIANT: a test that holds shares a number with the
//! request. Not the reverse: numbers of texts are hashes, so what shares one must be looked at. Where [`Attribute::is_exact`]
//! says so, sharing a number *is* the test.

use smallvec::{SmallVec, smallvec};

use super::super::address::SetId;
use super::super::condition::{Condition, Countries, Matcher, Presented};
use super::super::evaluate::{Judge, Matched};
use super::super::facts::{Identity, Scheme, TlsVersion};
use super::super::hash::{text, upper};
use super::super::pattern::Reading;
use super::super::text::Side;
use super::forms::{Forms, Segments};
use crate::value::country::{Continent, Subdivision};
use crate::value::host::HostPattern;
use crate::value::region::{Anonymizers, GeoFacts, Region};

/// What a test looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attribute {
    WebSocket,
    Certificate,
    Tls,
    Scheme,
    Method,
    Role,
    User,
    Auth,
    Host,
    Client,
    Peer,
    Path,
    Country,
    Continent,
    Subdivision,
    Asn,
    Anonymizer,
}

impl Attribute {
    /// Every attribute, by number.
    pub(super) const ALL: [Self; 17] = [
        Self::WebSocket,
        Self::Certificate,
        Self::Tls,
        Self::Scheme,
        Self::Method,
        Self::Role,
        Self::User,
        Self::Auth,
        Self::Host,
        Self::Client,
        Self::Peer,
        Self::Path,
        Self::Country,
        Self::Continent,
        Self::Subdivision,
        Self::Asn,
        Self::Anonymizer,
    ];

    /// Its number.
    pub(super) const fn number(self) -> u8 {
        self as u8
    }

    /// Its bit in a set of attributes.
    pub(super) const fn bit(self) -> u32 {
        1 << self.number()
    }

    /// Whether it depends on who asks.
    pub(super) const fn is_identity(self) -> bool {
        matches!(self, Self::Role | Self::User | Self::Auth)
    }

    /// The geographic fact that it is.
    const fn fact(self) -> GeoFacts {
        match self {
            Self::Country => GeoFacts::COUNTRY,
            Self::Continent => GeoFacts::CONTINENT,
            Self::Subdivision => GeoFacts::SUBDIVISION,
            Self::Asn => GeoFacts::ASN,
            Self::Anonymizer => GeoFacts::ANONYMIZER,
            Self::WebSocket
            | Self::Certificate
            | Self::Tls
            | Self::Scheme
            | Self::Method
            | Self::Role
            | Self::User
            | Self::Auth
            | Self::Host
            | Self::Client
            | Self::Peer
            | Self::Path => GeoFacts::NONE,
        }
    }

    /// Whether the region must be looked up for it.
    pub(super) const fn is_geo(self) -> bool {
        self.fact().intersects(GeoFacts::ALL)
    }

    /// Whether a number of it stands for one value only.
    pub(super) const fn is_exact(self) -> bool {
        match self {
            Self::WebSocket
            | Self::Certificate
            | Self::Tls
            | Self::Scheme
            | Self::Role
            | Self::Client
            | Self::Peer
            | Self::Country
            | Self::Continent
            | Self::Anonymizer => true,
            Self::Method
            | Self::User
            | Self::Auth
            | Self::Host
            | Self::Path
            | Self::Subdivision
            | Self::Asn => false,
        }
    }
}

/// Whether a test depends on who asks.
pub(super) const fn is_identity(matcher: &Matcher) -> bool {
    matches!(
        matcher,
        Matcher::Role(_)
            | Matcher::User(_)
            | Matcher::Auth(_)
            | Matcher::Claim(_)
            | Matcher::Fresh(_)
            | Matcher::Device(_)
    )
}

/// Whether a condition cannot hold, or an exception cannot fail, before it is known who asks.
pub(super) fn needs_identity(condition: &Condition) -> bool {
    let waits = |excepted: &Condition| {
        let tests = &excepted.tests;
        let plain = excepted.unless.is_empty() && excepted.until.is_none();
        plain && !tests.is_empty() && tests.iter().all(|test| is_identity(&test.matcher))
    };
    condition
        .tests
        .iter()
        .any(|test| is_identity(&test.matcher))
        || condition.unless.iter().any(waits)
}

/// The numbers of one test: mostly few.
pub(super) type Numbers = SmallVec<[u32; 8]>;

/// The numbers that a test asks for, any of which will do; none where it cannot be indexed.
pub(super) fn wanted(matcher: &Matcher, forms: &mut Forms) -> Option<(Attribute, Numbers)> {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Some(match matcher {
        Matcher::WebSocket => (Attribute::WebSocket, smallvec![0]),
        Matcher::ClientCertificate(wanted) => {
            (Attribute::Certificate, smallvec![certificate(*wanted)])
        }
        Matcher::TlsVersion(wanted) => (
            Attribute::Tls,
            wanted.iter().map(|version| tls(*version)).collect(),
        ),
        Matcher::Scheme(wanted) => (
            Attribute::Scheme,
            wanted.iter().map(|wanted| scheme(*wanted)).collect(),
        ),
        Matcher::Method(wanted) => (
            Attribute::Method,
            wanted.iter().map(|m| upper(text(m.as_str()))).collect(),
        ),
        Matcher::Role(wanted) => (Attribute::Role, wanted.numbers().map(number).collect()),
        Matcher::User(wanted) => (
            Attribute::User,
            wanted.iter().map(|user| upper(text(user))).collect(),
        ),
        Matcher::Auth(wanted) => {
            let sources = wanted.sources.iter().map(|source| upper(text(source)));
            let any = wanted.any.then_some(AUTH_ANY);
            let none = wanted.none.then_some(AUTH_NONE);
            (Attribute::Auth, sources.chain(any).chain(none).collect())
        }
        Matcher::Host(wanted) => (
            Attribute::Host,
            wanted.iter().map(host).collect::<Option<_>>()?,
        ),
        Matcher::Client(test) if !test.incomplete => (Attribute::Client, smallvec![test.set.0]),
        Matcher::Peer(test) if !test.incomplete => (Attribute::Peer, smallvec![test.set.0]),
        Matcher::Path(wanted) if wanted.regexes.is_empty() => {
            let patterns = wanted.patterns.iter();
            let numbers = patterns.map(|pattern| forms.number(pattern, Reading::Strict));
            (Attribute::Path, numbers.collect::<Option<_>>()?)
        }
        Matcher::Country(wanted) => {
            let unlisted = wanted.unlisted.then_some(UNLISTED);
            let listed = wanted.numbers().map(number);
            (Attribute::Country, listed.chain(unlisted).collect())
        }
        Matcher::Continent(wanted) => {
            let unlisted = wanted.unlisted.then_some(UNLISTED);
            let listed = wanted.codes.iter().map(|code| continent(*code));
            (Attribute::Continent, listed.chain(unlisted).collect())
        }
        Matcher::Subdivision(wanted) => (
            Attribute::Subdivision,
            wanted.iter().map(subdivision).collect(),
        ),
        Matcher::Asn(wanted) => {
            let unlisted = wanted.unlisted.then_some(UNLISTED);
            let listed = wanted.numbers.iter().copied();
            (Attribute::Asn, listed.chain(unlisted).collect())
        }
        Matcher::Anonymizer(wanted) => (Attribute::Anonymizer, anonymizers(*wanted).collect()),
        Matcher::Claim(_)
        | Matcher::Fresh(_)
        | Matcher::Device(_)
        | Matcher::Header(..)
        | Matcher::Query(..)
        | Matcher::Cookie(..)
        | Matcher::Time(_)
        | Matcher::Client(_)
        | Matcher::Peer(_)
        | Matcher::Path(_) => return None,
    })
}

/// What is known of an attribute of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    NotYet,
    /// Its numbers.
    Numbers {
        from: u8,
        to: u8,
    },
    /// A test on it may hold whatever it asks for.
    Anything,
}

/// The numbers of one request, found as they are asked for.
#[derive(Debug)]
pub(in crate::policy) struct Asked {
    known: [Known; Attribute::ALL.len()],
    numbers: SmallVec<[u32; NUMBERS_MAX]>,
    /// The path, as far as a list has needed it; none within where it is no path.
    segments: Option<Option<Segments>>,
}

impl Asked {
    pub(in crate::policy) fn new() -> Self {
        Self {
            known: [Known::NotYet; Attribute::ALL.len()],
            numbers: SmallVec::new(),
            segments: None,
        }
    }

    /// Another list is searched: its forms of paths are others, and it may stand on the other side.
    pub(super) fn begin(&mut self) {
        if let Some(path) = self.known.get_mut(usize::from(Attribute::Path.number())) {
            *path = Known::NotYet;
        }
    }

    /// A list of the other side is searched: what a failed fact makes of a test is another thing there.
    pub(in crate::policy) fn turn(&mut self) {
        self.known = [Known::NotYet; Attribute::ALL.len()];
        self.numbers.clear();
    }

    /// The numbers of an attribute; none where a test on it may hold whatever it asks for. `side` is that of the list.
    pub(super) fn of(
        &mut self,
        attribute: Attribute,
        judge: &Judge<'_>,
        side: Side,
        forms: &Forms,
    ) -> Option<&[u32]> {
        let at = usize::from(attribute.number());
        let mut known = self.known.get(at).copied().unwrap_or(Known::Anything);
        if known == Known::NotYet {
            known = self.find(attribute, judge, side, forms);
            if let Some(place) = self.known.get_mut(at) {
                *place = known;
            }
        }
        match known {
            Known::Numbers { from, to } => self.numbers.get(usize::from(from)..usize::from(to)),
            Known::NotYet | Known::Anything => None,
        }
    }

    fn find(
        &mut self,
        attribute: Attribute,
        judge: &Judge<'_>,
        side: Side,
        forms: &Forms,
    ) -> Known {
        let from = self.numbers.len();
        let mut fits = true;
        let mut add = |number| {
            // A vector that grew would allocate, and too many numbers save nothing.
            fits &= self.numbers.len() < NUMBERS_MAX;
            if fits {
                self.numbers.push(number);
            }
        };
        let unknown = if attribute.is_identity() {
            match judge.identity {
                Identity::Open => return Known::Anything,
                Identity::Failed => Some(judge.unknown(side)),
                Identity::Anonymous | Identity::Known(_) => None,
            }
        } else if attribute.is_geo() {
            let failed = judge.facts.region().failed.intersects(attribute.fact());
            failed.then(|| judge.unknown(side))
        } else {
            None
        };
        match unknown {
            Some(Matched::Fails) => {}
            Some(Matched::Holds | Matched::Open) => return Known::Anything,
            None if attribute == Attribute::Path => {
                let path = judge.facts.target.strict();
                let segments = self.segments.get_or_insert_with(|| Segments::of(path));
                if let Some(segments) = segments {
                    forms.each(segments, add);
                }
            }
            None => held(attribute, judge, &mut add),
        }
        let place = |n: usize| u8::try_from(n).ok();
        match (place(from), place(self.numbers.len())) {
            (Some(from), Some(to)) if fits => Known::Numbers { from, to },
            (Some(_) | None, Some(_) | None) => Known::Anything,
        }
    }
}

/// The numbers that a request has.
fn held(attribute: Attribute, judge: &Judge<'_>, add: &mut impl FnMut(u32)) {
    let facts = judge.facts;
    let person = match judge.identity {
        Identity::Known(person) => Some(person),
        Identity::Open | Identity::Anonymous | Identity::Failed => None,
    };
    let mut within = |sets: &[SetId]| sets.iter().for_each(|set| add(set.0));
    match attribute {
        Attribute::Client => {
            let class = judge.client_class();
            within(judge.policy.addresses.sets(class));
        }
        Attribute::Peer => {
            let class = judge.peer_class();
            within(judge.policy.addresses.sets(class));
        }
        Attribute::WebSocket => {
            if facts.websocket {
                add(0);
            }
        }
        Attribute::Certificate => {
            let held = facts.tls.is_some_and(|tls| tls.client_cert);
            add(certificate(if held {
                Presented::Presented
            } else {
                Presented::Missing
            }));
        }
        Attribute::Tls => facts.tls.iter().for_each(|facts| add(tls(facts.version))),
        Attribute::Scheme => add(scheme(facts.scheme)),
        Attribute::Method => {
            add(upper(text(facts.method.as_str())));
            if *facts.method == http::Method::HEAD {
                add(upper(text("GET")));
            }
        }
        Attribute::Role => {
            for role in person.iter().flat_map(|person| person.roles.numbers()) {
                add(u32::try_from(role).unwrap_or(u32::MAX));
            }
        }
        Attribute::User => {
            if let Some(person) = person {
                add(upper(text(&person.principal.user)));
            }
        }
        Attribute::Auth => match person {
            Some(person) => {
                add(AUTH_ANY);
                add(upper(text(&person.principal.source)));
            }
            None => add(AUTH_NONE),
        },
        Attribute::Host => hosts(facts.host, add),
        // The numbers of paths are those of the list.
        Attribute::Path => {}
        Attribute::Country
        | Attribute::Continent
        | Attribute::Subdivision
        | Attribute::Asn
        | Attribute::Anonymizer => places(attribute, facts.region(), add),
    }
}

fn places(attribute: Attribute, region: &Region, add: &mut impl FnMut(u32)) {
    match attribute {
        Attribute::Country => {
            let number = region
                .country
                .and_then(|c| u32::try_from(Countries::number(c)).ok());
            add(number.unwrap_or(UNLISTED));
        }
        Attribute::Continent => add(region.continent.map_or(UNLISTED, continent)),
        Attribute::Subdivision => {
            let held = region.subdivisions.iter().flatten();
            held.for_each(|held| add(subdivision(held)));
        }
        Attribute::Asn => add(region.asn.unwrap_or(UNLISTED)),
        Attribute::Anonymizer => anonymizers(region.anonymizer).for_each(add),
        Attribute::WebSocket
        | Attribute::Certificate
        | Attribute::Tls
        | Attribute::Scheme
        | Attribute::Method
        | Attribute::Role
        | Attribute::User
        | Attribute::Auth
        | Attribute::Host
        | Attribute::Client
        | Attribute::Peer
        | Attribute::Path => {}
    }
}

/// The number of a host pattern; none where it has more labels than requests are asked for.
fn host(pattern: &HostPattern) -> Option<u32> {
    Some(match pattern {
        HostPattern::Exact(host) => upper(text(host)),
        HostPattern::Under(parent) if parent.split('.').count() > LABELS_MAX => return None,
        HostPattern::Under(parent) => !upper(text(parent)),
        HostPattern::Any => HOST_ANY,
    })
}

/// The numbers of the patterns that a host may match.
fn hosts(host: &str, add: &mut impl FnMut(u32)) {
    add(HOST_ANY);
    add(upper(text(host)));
    // From the right, so that a name of many labels costs no more than one of a few.
    let mut dots = host.rmatch_indices('.').map(|(at, _)| at);
    for at in dots.by_ref().take(LABELS_MAX) {
        if let Some((_, parent)) = host.split_at_checked(at + 1) {
            add(!upper(text(parent)));
        }
    }
}

const fn certificate(wanted: Presented) -> u32 {
    match wanted {
        Presented::Presented => 1,
        Presented::Missing => 0,
    }
}

const fn scheme(scheme: Scheme) -> u32 {
    match scheme {
        Scheme::Http => 0,
        Scheme::Https => 1,
    }
}

const fn tls(version: TlsVersion) -> u32 {
    match version {
        TlsVersion::V1_2 => 0,
        TlsVersion::V1_3 => 1,
    }
}

fn continent(Continent(code): Continent) -> u32 {
    u32::from(u16::from_be_bytes(code))
}

fn subdivision(subdivision: &Subdivision) -> u32 {
    let [a, b] = subdivision.country;
    let [c, d, e] = subdivision.part;
    upper(u64::from_be_bytes([0, 0, 0, a, b, c, d, e]).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn anonymizers(kinds: Anonymizers) -> impl Iterator<Item = u32> {
    let held = (0u32..).zip(Anonymizers::ALL);
    held.filter_map(move |(number, (_, kind))| kinds.intersects(kind).then_some(number))
}

/// Not on record. No country and no continent has this number; a system may, and is then looked at in vain.
const UNLISTED: u32 = u32::MAX;
const AUTH_ANY: u32 = 1;
const AUTH_NONE: u32 = 0;
const HOST_ANY: u32 = 0;

/// Wildcards with more labels are left to the plain evaluator.
const LABELS_MAX: usize = 12;
/// Numbers of one request. One with more (hundreds of roles, an address in hundreds of sets) is judged rule by rule.
const NUMBERS_MAX: usize = 192;
