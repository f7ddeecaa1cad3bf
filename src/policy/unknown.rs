//! Facts that a record of a request does not have: what must the answer be, whatever they are?
//!
//! A policy is written anew twice: once as if every test on such a fact came out as it hurts the client most, once as it helps
//! the client most, by polarity through every `unless`. Where both come to the same end, the end is certain.

use super::condition::{Condition, Matcher};
use super::decision::RuleId;
use super::draft::{Draft, Grant};
use super::text::Side;

/// Kinds of facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kinds(pub u16);

/// How tests on unknown facts come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As it hurts the client most.
    Hurts,
    /// As it helps the client most.
    Helps,
}

impl Kinds {
    /// None.
    pub const NONE: Self = Self(0);
    /// The client address.
    pub const IP: Self = Self(1);
    /// Who opened the connection.
    pub const PEER: Self = Self(2);
    /// Geographic facts.
    pub const GEO: Self = Self(4);
    /// Header fields.
    pub const HEADER: Self = Self(8);
    /// Cookies.
    pub const COOKIE: Self = Self(16);
    /// The query.
    pub const QUERY: Self = Self(32);
    /// Claims.
    pub const CLAIM: Self = Self(64);
    /// Facts about the device.
    pub const DEVICE: Self = Self(128);
    /// Whether a WebSocket is asked for.
    pub const UPGRADE: Self = Self(256);
    /// The scheme.
    pub const SCHEME: Self = Self(512);
    /// The TLS connection.
    pub const TLS: Self = Self(1024);
    /// Each kind with the word that conditions use for it.
    pub const WORDS: [(&'static str, Self); 11] = [
        ("ip", Self::IP),
        ("peer", Self::PEER),
        ("geography", Self::GEO),
        ("header", Self::HEADER),
        ("cookie", Self::COOKIE),
        ("query", Self::QUERY),
        ("claim", Self::CLAIM),
        ("device", Self::DEVICE),
        ("upgrade", Self::UPGRADE),
        ("scheme", Self::SCHEME),
        ("tls", Self::TLS),
    ];

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What both have.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether they share a kind.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The words of the kinds in the set.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let all = Self::WORDS.into_iter();
        all.filter_map(move |(word, kind)| self.intersects(kind).then_some(word))
    }

    /// What a test reads; nothing for what every record has, and for who asks.
    #[must_use]
    pub const fn of(matcher: &Matcher) -> Self {
        match matcher {
            Matcher::Client(_) => Self::IP,
            Matcher::Peer(_) => Self::PEER,
            Matcher::Country(_)
            | Matcher::Continent(_)
            | Matcher::Subdivision(_)
            | Matcher::Asn(_)
            | Matcher::Anonymizer(_) => Self::GEO,
            Matcher::Header(..) => Self::HEADER,
            Matcher::Cookie(..) => Self::COOKIE,
            Matcher::Query(..) => Self::QUERY,
            Matcher::Claim(_) | Matcher::Fresh(_) => Self::CLAIM,
            Matcher::Device(_) => Self::DEVICE,
            Matcher::WebSocket => Self::UPGRADE,
            Matcher::Scheme(_) => Self::SCHEME,
            Matcher::TlsVersion(_) | Matcher::ClientCertificate(_) => Self::TLS,
            Matcher::Role(_)
            | Matcher::User(_)
            | Matcher::Auth(_)
            | Matcher::Method(_)
            | Matcher::Host(_)
            | Matcher::Path(_)
            | Matcher::Time(_) => Self::NONE,
        }
    }
}

impl Draft {
    /// The policy as if tests on these facts came out by this mood. Rules keep their numbers.
    #[must_use]
    pub fn assuming(&self, unknown: Kinds, mood: Mood) -> Self {
        let mut draft = self.clone();
        let refuse = |condition: &mut Condition| keep(condition, Side::Hurts, unknown, mood);
        draft.denies.retain_mut(|deny| refuse(&mut deny.condition));
        for site in &mut draft.sites {
            site.denies.retain_mut(|deny| refuse(&mut deny.condition));
            for route in &mut site.routes {
                route.denies.retain_mut(|deny| refuse(&mut deny.condition));
                if let Grant::Rules(allows) = &mut route.grant {
                    allows
                        .retain_mut(|allow| keep(&mut allow.condition, Side::Helps, unknown, mood));
                }
            }
        }
        draft
    }

    /// What each rule with a say reads, with the words of its tests on `of`; by the number of the rule.
    #[must_use]
    pub fn readers(&self) -> Vec<(RuleId, Kinds, Vec<String>)> {
        let mut readers = Vec::new();
        let mut note = |rule: RuleId, condition: &Condition| {
            let (mut kinds, mut words) = (Kinds::NONE, Vec::new());
            condition.every_test(&mut |test| {
                let kind = Kinds::of(&test.matcher);
                kinds = kinds.union(kind);
                if kind != Kinds::NONE {
                    words.push(name(&test.matcher));
                }
            });
            words.sort();
            words.dedup();
            readers.push((rule, kinds, words));
        };
        let routes = self.sites.iter().flat_map(|site| &site.routes);
        let denies = self.sites.iter().flat_map(|site| &site.denies);
        let denies = self.denies.iter().chain(denies);
        for deny in denies.chain(routes.clone().flat_map(|route| &route.denies)) {
            note(deny.rule, &deny.condition);
        }
        for route in routes {
            if let Grant::Rules(allows) = &route.grant {
                for allow in allows {
                    note(allow.rule, &allow.condition);
                }
            }
        }
        readers.sort_by_key(|(rule, ..)| *rule);
        readers
    }
}

/// The fact that a test reads, by its name: `cookie session`.
fn name(matcher: &Matcher) -> String {
    let kind = Kinds::of(matcher).words().next().unwrap_or_default();
    match matcher {
        Matcher::Header(name, _) => format!("{kind} {name}"),
        Matcher::Query(name, _) | Matcher::Cookie(name, _) => format!("{kind} {name}"),
        Matcher::Claim(test) | Matcher::Device(test) => format!("{kind} {}", test.path),
        Matcher::Fresh(_) => format!("{kind} auth_time"),
        Matcher::Client(_)
        | Matcher::Peer(_)
        | Matcher::Country(_)
        | Matcher::Continent(_)
        | Matcher::Subdivision(_)
        | Matcher::Asn(_)
        | Matcher::Anonymizer(_)
        | Matcher::Role(_)
        | Matcher::User(_)
        | Matcher::Auth(_)
        | Matcher::Method(_)
        | Matcher::Host(_)
        | Matcher::Scheme(_)
        | Matcher::Path(_)
        | Matcher::Time(_)
        | Matcher::TlsVersion(_)
        | Matcher::ClientCertificate(_)
        | Matcher::WebSocket => kind.to_owned(),
    }
}

/// Leaves out the tests that surely hold; false where one surely fails.
fn keep(condition: &mut Condition, side: Side, unknown: Kinds, mood: Mood) -> bool {
    let holds = matches!(
        (mood, side),
        (Mood::Hurts, Side::Hurts) | (Mood::Helps, Side::Helps)
    );
    let meets = |condition: &Condition| {
        let mut tests = condition.tests.iter();
        tests.any(|test| Kinds::of(&test.matcher).intersects(unknown))
    };
    if meets(condition) {
        if !holds {
            return false;
        }
        let tests = std::mem::take(&mut condition.tests).into_vec();
        let known = tests.into_iter();
        condition.tests = known
            .filter(|test| !Kinds::of(&test.matcher).intersects(unknown))
            .collect();
    }
    if !condition.unless.is_empty() {
        let mut unless = std::mem::take(&mut condition.unless).into_vec();
        unless.retain_mut(|excepted| keep(excepted, side.other(), unknown, mood));
        condition.unless = unless.into();
    }
    true
}
