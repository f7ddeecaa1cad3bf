//! The plain evaluator: DESIGN section 2 as code, rule by rule. A long list is narrowed by its index first
//! ([`super::index`]); what is left is judged here all the same.
//!
//! A condition *holds*, *fails* or is *open* (it depends on an identity that has not been looked at). A fact whose source
//! failed is judged as it hurts the client most, everywhere, through every `unless`. If that refuses, and a failed fact
//! had a part in it, everything is judged once more as such facts would help the client most: what refuses then as well
//! has decided without them, and otherwise the answer is [`Verdict::Unavailable`].

use std::cell::Cell;
use std::net::IpAddr;

use http::Method;
use serde_json::Map;

use super::address::ClassId;
use super::claim::{self, ClaimTest};
use super::condition::{AddressTest, AuthTest, Condition, Matcher, Presented, Test};
use super::decision::{
    Credential, Decision, First, Place, RefusalId, RefusalStatus, RuleId, Verdict,
};
use super::draft::{Conditional, Grant, SignIn};
use super::facts::{Facts, Identity, Person};
use super::index::{Asked, Found, Index, Wish};
use super::pattern::Reading;
use super::shadow::Shadow;
use super::text::Side;
use super::{Denies, Policy, Route};
use crate::value::device::CERTIFICATE;
use crate::value::region::GeoFacts;

/// What a condition says of the facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matched {
    Holds,
    Fails,
    /// It depends on the identity.
    Open,
}

impl From<bool> for Matched {
    fn from(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::Fails }
    }
}

/// What the rules of a place say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Open,
    Allow(Option<RuleId>),
    Refuse(RefusalId, Option<RuleId>),
    Unavailable,
}

/// What a first judgement has found out that stays true when it is known who asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Notes {
    client: Option<ClassId>,
    peer: Option<ClassId>,
    /// By list of denies: whether all that is left of it are rules that wait for the identity.
    denies: [bool; 3],
    /// The same for the allows.
    allows: bool,
}

/// What a `dns:` name that has never been resolved makes of an address that is not in the rest of its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// Its standing is unknown: the fact has failed.
    Fails,
    /// It is outside, as if the name had no address: what policy tests take for granted.
    Outside,
}

impl Policy {
    /// Judges with identity open. What is certain whoever asks is decided here, before any credential is looked at.
    #[must_use]
    pub fn first(&self, facts: &Facts<'_>, place: Place) -> First {
        self.first_noting(facts, place).0
    }

    /// Judges again, with the identity that signing in brought forth. An identity that is still open counts as anonymous.
    #[must_use]
    pub fn second(&self, facts: &Facts<'_>, place: Place, credential: Credential) -> Decision {
        self.second_noting(facts, place, credential, Notes::default())
    }

    /// [`Policy::first`], with what [`Policy::second_noting`] need not find out again.
    #[must_use]
    pub fn first_noting(&self, facts: &Facts<'_>, place: Place) -> (First, Notes) {
        self.first_with(facts, place, Unresolved::Fails)
    }

    /// [`Policy::second`] without what the first judgement has settled. INVARIANT: the notes are of this policy and place, and
    /// of facts that differ in nothing but the identity; otherwise pass [`Notes::default`], which settles nothing.
    #[must_use]
    pub fn second_noting(
        &self,
        facts: &Facts<'_>,
        place: Place,
        credential: Credential,
        notes: Notes,
    ) -> Decision {
        self.second_with(facts, place, credential, Unresolved::Fails, notes)
    }

    pub(super) fn first_with(
        &self,
        facts: &Facts<'_>,
        place: Place,
        unresolved: Unresolved,
    ) -> (First, Notes) {
        self.first_plus(facts, place, unresolved, None)
    }

    /// As if one more rule were enforced.
    pub(super) fn first_plus(
        &self,
        facts: &Facts<'_>,
        place: Place,
        unresolved: Unresolved,
        extra: Option<&Shadow>,
    ) -> (First, Notes) {
        let decided = |verdict, rule| First::Decided(Decision { verdict, rule });
        let reads_query = self.reads_query(place) || extra.is_some_and(Shadow::reads_query);
        if reads_query && facts.target.query_is_malformed() {
            return (decided(Verdict::BadQuery, None), Notes::default());
        }
        let mut notes = Notes::default();
        let identity = self.unseen(place);
        let answer = self.answer(facts, identity, place, unresolved, (extra, &mut notes));
        let first = match answer {
            Answer::Refuse(refusal, rule) => decided(Verdict::Refuse(refusal), rule),
            Answer::Unavailable => decided(Verdict::Unavailable, None),
            Answer::Open | Answer::Allow(_) if place.site.is_none() => {
                decided(Verdict::NoSite, None)
            }
            Answer::Open | Answer::Allow(_) if place.route.is_none() => {
                decided(Verdict::NoRoute, None)
            }
            Answer::Allow(rule) => decided(Verdict::Allow, rule),
            Answer::Open => First::SignIn,
        };
        (first, notes)
    }

    pub(super) fn second_with(
        &self,
        facts: &Facts<'_>,
        place: Place,
        credential: Credential,
        unresolved: Unresolved,
        notes: Notes,
    ) -> Decision {
        self.second_plus(facts, place, credential, unresolved, (None, notes))
    }

    /// As if one more rule were enforced.
    pub(super) fn second_plus(
        &self,
        facts: &Facts<'_>,
        place: Place,
        credential: Credential,
        unresolved: Unresolved,
        (extra, mut notes): (Option<&Shadow>, Notes),
    ) -> Decision {
        let identity = seen(facts.identity);
        let stranger = matches!(identity, Identity::Anonymous);
        let asked = match (self.sign_in(place), credential) {
            (SignIn::CertificateOnly, _) => Verdict::CertificateRequired,
            (SignIn::Never | SignIn::Possible, Credential::Invalid) => Verdict::InvalidToken,
            (SignIn::Never | SignIn::Possible, Credential::Absent) => Verdict::NotAuthenticated,
        };
        let answer = self.answer(facts, identity, place, unresolved, (extra, &mut notes));
        let (verdict, rule) = match answer {
            Answer::Allow(rule) => (Verdict::Allow, rule),
            Answer::Unavailable => (Verdict::Unavailable, None),
            // It was open before, so some identity could pass; unless the answer hides from strangers.
            Answer::Refuse(refusal, _) if stranger && !self.refusal(refusal).status.hides() => {
                (asked, None)
            }
            Answer::Refuse(refusal, rule) if self.steps_up(refusal) => {
                (Verdict::StepUp(refusal), rule)
            }
            Answer::Refuse(refusal, rule) => (Verdict::Refuse(refusal), rule),
            // Nothing is open once the identity is known.
            Answer::Open => (asked, None),
        };
        Decision { verdict, rule }
    }

    /// Who asks, as far as the first judgement may know.
    pub(super) fn unseen(&self, place: Place) -> Identity<'static> {
        match self.sign_in(place) {
            SignIn::Never => Identity::Anonymous,
            SignIn::CertificateOnly | SignIn::Possible => Identity::Open,
        }
    }

    /// Whether this refusal asks for another sign-in.
    fn steps_up(&self, refusal: RefusalId) -> bool {
        self.refusal(refusal).status == RefusalStatus::StepUp
    }

    fn answer(
        &self,
        facts: &Facts<'_>,
        identity: Identity<'_>,
        place: Place,
        unresolved: Unresolved,
        (extra, notes): (Option<&Shadow>, &mut Notes),
    ) -> Answer {
        let route = self.route_at(place);
        let worst = Judge::new(self, facts, identity, Failed::Hurts, unresolved);
        worst.client.set(notes.client);
        worst.peer.set(notes.peer);
        let mut asked = Asked::new();
        let guards = self.guards(place);
        let denied = worst.denies(guards, Wish::Certain, &mut asked, (extra, notes));
        let granted = match denied {
            Denied::By(refusal, _) if !self.steps_up(refusal) => Granted::Never,
            Denied::By(..) | Denied::Open | Denied::Never => {
                worst.allows(route, &mut asked, (extra, notes))
            }
        };
        *notes = if worst.touched.get() {
            // What a failed fact did is to be seen again.
            Notes::default()
        } else {
            Notes {
                client: worst.client.get(),
                peer: worst.peer.get(),
                ..*notes
            }
        };
        let refused_by = match (denied, granted) {
            // Only here does it matter whether a deny waits for the identity.
            (Denied::Never, Granted::By(rule)) => {
                if !matches!(identity, Identity::Open) {
                    return Answer::Allow(rule);
                }
                if worst.touched.get() {
                    asked.turn();
                }
                return match worst.denies(
                    guards,
                    Wish::Open,
                    &mut asked,
                    (extra, &mut Notes::default()),
                ) {
                    Denied::Never => Answer::Allow(rule),
                    Denied::Open | Denied::By(..) => Answer::Open,
                };
            }
            (Denied::Never | Denied::Open, Granted::By(_) | Granted::Open) => return Answer::Open,
            // Nobody is asked to sign in again only to be refused then.
            (Denied::By(refusal, _), Granted::Never) if self.steps_up(refusal) => None,
            (Denied::By(refusal, rule), _) => Some((refusal, rule)),
            (Denied::Never | Denied::Open, Granted::Never) => None,
        };
        let refused_by = if worst.touched.get() {
            let best = Judge::new(self, facts, identity, Failed::Helps, unresolved);
            let (mut asked, mut notes) = (Asked::new(), Notes::default());
            match best.denies(guards, Wish::Certain, &mut asked, (extra, &mut notes)) {
                Denied::By(refusal, rule) if !self.steps_up(refusal) => Some((refusal, rule)),
                Denied::By(refusal, rule) => {
                    match best.allows(route, &mut asked, (extra, &mut notes)) {
                        Granted::Never => None,
                        Granted::By(_) | Granted::Open => Some((refusal, rule)),
                    }
                }
                Denied::Never | Denied::Open => {
                    match best.allows(route, &mut asked, (extra, &mut notes)) {
                        Granted::Never => None,
                        Granted::By(_) | Granted::Open => return Answer::Unavailable,
                    }
                }
            }
        } else {
            refused_by
        };
        match (refused_by, route) {
            // A stranger is asked to sign in, if anything; to do so again one must have done it once.
            (Some((refusal, rule)), Some(route))
                if self.steps_up(refusal) && !matches!(identity, Identity::Known(_)) =>
            {
                Answer::Refuse(route.otherwise, Some(rule))
            }
            (Some((refusal, rule)), _) => Answer::Refuse(refusal, Some(rule)),
            (None, Some(route)) => Answer::Refuse(route.otherwise, None),
            // Where no route is, anyone would be granted.
            (None, None) => Answer::Unavailable,
        }
    }
}

/// Who asks, once that has been looked at.
pub(super) const fn seen(identity: Identity<'_>) -> Identity<'_> {
    match identity {
        Identity::Open | Identity::Anonymous => Identity::Anonymous,
        Identity::Known(person) => Identity::Known(person),
        Identity::Failed => Identity::Failed,
    }
}

/// What the denies of a place say.
#[derive(Debug, Clone, Copy)]
enum Denied {
    By(RefusalId, RuleId),
    Open,
    Never,
}

/// What the allows of a place say.
#[derive(Debug, Clone, Copy)]
enum Granted {
    By(Option<RuleId>),
    Open,
    Never,
}

/// How failed facts are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// As it hurts the client most: how it must be.
    Hurts,
    /// As it would help the client most: to see whether they decided.
    Helps,
}

/// One judgement of one request.
pub(super) struct Judge<'j> {
    pub(super) policy: &'j Policy,
    pub(super) facts: &'j Facts<'j>,
    pub(super) identity: Identity<'j>,
    failed: Failed,
    unresolved: Unresolved,
    /// Whether a failed fact was met.
    pub(super) touched: Cell<bool>,
    client: Cell<Option<ClassId>>,
    peer: Cell<Option<ClassId>>,
}

impl<'j> Judge<'j> {
    pub(super) const fn new(
        policy: &'j Policy,
        facts: &'j Facts<'j>,
        identity: Identity<'j>,
        failed: Failed,
        unresolved: Unresolved,
    ) -> Self {
        Self {
            policy,
            facts,
            identity,
            failed,
            unresolved,
            touched: Cell::new(false),
            client: Cell::new(None),
            peer: Cell::new(None),
        }
    }

    /// The first deny that holds; rules behind it cannot change that.
    fn denies(
        &self,
        lists: [&Denies; 3],
        wish: Wish,
        asked: &mut Asked,
        (extra, notes): (Option<&Shadow>, &mut Notes),
    ) -> Denied {
        let found = self.live_denies(lists, wish, asked, notes);
        let Some((shadow, refusal)) = extra.and_then(|shadow| Some((shadow, shadow.refusal()?)))
        else {
            return found;
        };
        match (self.condition(&shadow.condition, Side::Hurts), found) {
            // Numbers go by the order in which rules are asked.
            (Matched::Holds, Denied::By(_, rule)) if rule < shadow.rule => found,
            (Matched::Holds, _) => Denied::By(refusal, shadow.rule),
            (Matched::Open, Denied::Never) => Denied::Open,
            (Matched::Open | Matched::Fails, _) => found,
        }
    }

    fn live_denies(
        &self,
        lists: [&Denies; 3],
        wish: Wish,
        asked: &mut Asked,
        notes: &mut Notes,
    ) -> Denied {
        let mut answer = Denied::Never;
        for (list, settled) in lists.into_iter().zip(&mut notes.denies) {
            let index = list.index.as_ref();
            let wish = if *settled { Wish::Rest } else { wish };
            let found = self.list(&list.denies, index, Side::Hurts, wish, asked);
            *settled = index.is_some() && found.is_settled();
            match found.holds.and_then(|at| list.denies.get(at)) {
                Some(deny) => return Denied::By(deny.refusal, deny.rule),
                None if found.open => answer = Denied::Open,
                None => {}
            }
        }
        answer
    }

    fn allows(
        &self,
        route: Option<&Route>,
        asked: &mut Asked,
        (extra, notes): (Option<&Shadow>, &mut Notes),
    ) -> Granted {
        let found = self.live_allows(route, asked, notes);
        let Some(shadow) = extra.filter(|shadow| shadow.is_allow()) else {
            return found;
        };
        match (self.condition(&shadow.condition, Side::Helps), found) {
            (_, Granted::By(_)) => found,
            (Matched::Holds, _) => Granted::By(Some(shadow.rule)),
            (Matched::Open, _) => Granted::Open,
            (Matched::Fails, _) => found,
        }
    }

    fn live_allows(&self, route: Option<&Route>, asked: &mut Asked, notes: &mut Notes) -> Granted {
        let Some((Grant::Rules(allows), index)) =
            route.map(|route| (&route.grant, route.index.as_ref()))
        else {
            return Granted::By(None);
        };
        if self.touched.get() {
            asked.turn();
        }
        let wish = if notes.allows { Wish::Rest } else { Wish::All };
        let found = self.list(allows, index, Side::Helps, wish, asked);
        notes.allows = index.is_some() && found.is_settled();
        match found.holds.and_then(|at| allows.get(at)) {
            Some(allow) => Granted::By(Some(allow.rule)),
            None if found.open => Granted::Open,
            None => Granted::Never,
        }
    }

    /// What a list says: through its index, or rule by rule where it has none.
    fn list<R: Conditional>(
        &self,
        rules: &[R],
        index: Option<&Index>,
        side: Side,
        wish: Wish,
        asked: &mut Asked,
    ) -> Found {
        if let Some(index) = index {
            return index.search(self, wish, asked, |at| {
                let rule = rules.get(at);
                rule.map_or(Matched::Fails, |rule| {
                    self.condition(rule.condition(), side)
                })
            });
        }
        let mut open = false;
        for (at, rule) in rules.iter().enumerate() {
            match self.condition(rule.condition(), side) {
                Matched::Holds => {
                    return Found {
                        holds: Some(at),
                        open,
                        unsettled: open,
                    };
                }
                Matched::Open => open = true,
                Matched::Fails => {}
            }
        }
        Found {
            holds: None,
            open,
            unsettled: open,
        }
    }

    pub(super) fn condition(&self, condition: &Condition, side: Side) -> Matched {
        if condition.until.is_some_and(|end| self.facts.now >= end) {
            return Matched::Fails;
        }
        let mut answer = Matched::Holds;
        for test in &condition.tests {
            match self.test(test, side) {
                Matched::Fails => return Matched::Fails,
                Matched::Open => answer = Matched::Open,
                Matched::Holds => {}
            }
        }
        for excepted in &condition.unless {
            match self.condition(excepted, side.other()) {
                Matched::Holds => return Matched::Fails,
                Matched::Open => answer = Matched::Open,
                Matched::Fails => {}
            }
        }
        answer
    }

    pub(super) fn test(&self, test: &Test, side: Side) -> Matched {
        let facts = self.facts;
        match &test.matcher {
            Matcher::Client(test) => self.address(*test, &self.client, facts.client, side),
            Matcher::Peer(test) => self.address(*test, &self.peer, facts.peer, side),
            Matcher::Country(wanted) => self.geo(GeoFacts::COUNTRY, side, || {
                let country = facts.region().country;
                country.map_or(wanted.unlisted, |country| wanted.contains(country))
            }),
            Matcher::Continent(wanted) => self.geo(GeoFacts::CONTINENT, side, || {
                let continent = facts.region().continent;
                continent.map_or(wanted.unlisted, |held| wanted.codes.contains(&held))
            }),
            Matcher::Subdivision(wanted) => self.geo(GeoFacts::SUBDIVISION, side, || {
                let mut held = facts.region().subdivisions.iter().flatten();
                held.any(|held| wanted.contains(held))
            }),
            Matcher::Asn(wanted) => self.geo(GeoFacts::ASN, side, || {
                let asn = facts.region().asn;
                asn.map_or(wanted.unlisted, |asn| {
                    wanted.numbers.binary_search(&asn).is_ok()
                })
            }),
            Matcher::Anonymizer(wanted) => self.geo(GeoFacts::ANONYMIZER, side, || {
                facts.region().anonymizer.intersects(*wanted)
            }),
            Matcher::Role(wanted) => self.person(side, |person| {
                person.is_some_and(|person| person.roles.intersects(wanted))
            }),
            Matcher::User(wanted) => self.person(side, |person| {
                person.is_some_and(|person| wanted.binary_search(&person.principal.user).is_ok())
            }),
            Matcher::Auth(wanted) => self.person(side, |person| auth(wanted, person)),
            Matcher::Claim(wanted) => self.person(side, |person| match person {
                Some(person) => wanted.matches(&person.principal.claims),
                None => wanted.matches(&Map::new()),
            }),
            Matcher::Fresh(max_age) => self.person(side, |person| {
                person.is_some_and(|person| {
                    claim::is_fresh(&person.principal.claims, *max_age, facts.now)
                })
            }),
            Matcher::Device(wanted) => self.device(wanted, side),
            Matcher::Method(wanted) => {
                let held = facts.method;
                let covered = *held == Method::HEAD && wanted.contains(&Method::GET);
                (covered || wanted.contains(held)).into()
            }
            Matcher::Host(wanted) => wanted.iter().any(|host| host.matches(facts.host)).into(),
            Matcher::Scheme(wanted) => wanted.contains(&facts.scheme).into(),
            Matcher::Path(wanted) => wanted.matches(facts.target, Reading::Strict).into(),
            Matcher::Header(name, wanted) => wanted.header(facts.headers, name, side).into(),
            Matcher::Query(name, wanted) => wanted.query(facts.target.query(), name, side).into(),
            Matcher::Cookie(name, wanted) => wanted.cookie(facts.headers, name, side).into(),
            Matcher::Time(windows) => windows.iter().any(|w| w.contains(facts.now)).into(),
            Matcher::TlsVersion(wanted) => facts
                .tls
                .is_some_and(|tls| wanted.contains(&tls.version))
                .into(),
            Matcher::ClientCertificate(wanted) => {
                let held = facts.tls.is_some_and(|tls| tls.client_cert);
                (held == (*wanted == Presented::Presented)).into()
            }
            Matcher::WebSocket => facts.websocket.into(),
        }
    }

    fn address(
        &self,
        test: AddressTest,
        known: &Cell<Option<ClassId>>,
        address: IpAddr,
        side: Side,
    ) -> Matched {
        let class = self.class(known, address);
        if self.policy.addresses.contains(test.set, class) {
            Matched::Holds
        } else if test.incomplete && self.unresolved == Unresolved::Fails {
            self.unknown(side)
        } else {
            Matched::Fails
        }
    }

    /// The class of the client address.
    pub(super) fn client_class(&self) -> ClassId {
        self.class(&self.client, self.facts.client)
    }

    /// The class of the peer address.
    pub(super) fn peer_class(&self) -> ClassId {
        self.class(&self.peer, self.facts.peer)
    }

    fn class(&self, known: &Cell<Option<ClassId>>, address: IpAddr) -> ClassId {
        let class = known.get();
        let class = class.unwrap_or_else(|| self.policy.addresses.class(address));
        known.set(Some(class));
        class
    }

    fn geo(&self, fact: GeoFacts, side: Side, judge: impl FnOnce() -> bool) -> Matched {
        if self.facts.region().failed.intersects(fact) {
            self.unknown(side)
        } else {
            judge().into()
        }
    }

    /// A device is known once the identity is, since a token may speak of it.
    fn device(&self, wanted: &ClaimTest, side: Side) -> Matched {
        let Some(device) = self.facts.device else {
            return self.person(side, |person| match person {
                Some(person) => wanted.matches(&person.principal.device),
                None => wanted.matches(&Map::new()),
            });
        };
        let first = wanted.path.split('.').next();
        match self.identity {
            Identity::Open => Matched::Open,
            // What a certificate says needs nobody else's word.
            Identity::Anonymous | Identity::Known(_) | Identity::Failed
                if first == Some(CERTIFICATE) =>
            {
                wanted.matches(&device.facts).into()
            }
            Identity::Failed => self.unknown(side),
            Identity::Anonymous | Identity::Known(_) if device.failed => self.unknown(side),
            Identity::Anonymous | Identity::Known(_) => wanted.matches(&device.facts).into(),
        }
    }

    fn person(&self, side: Side, judge: impl FnOnce(Option<&Person>) -> bool) -> Matched {
        match self.identity {
            Identity::Open => Matched::Open,
            Identity::Failed => self.unknown(side),
            Identity::Anonymous => judge(None).into(),
            Identity::Known(person) => judge(Some(person)).into(),
        }
    }

    /// What a failed fact makes of a test.
    pub(super) fn unknown(&self, side: Side) -> Matched {
        self.touched.set(true);
        match (self.failed, side) {
            (Failed::Hurts, Side::Hurts) | (Failed::Helps, Side::Helps) => Matched::Holds,
            (Failed::Hurts, Side::Helps) | (Failed::Helps, Side::Hurts) => Matched::Fails,
        }
    }
}

fn auth(wanted: &AuthTest, person: Option<&Person>) -> bool {
    match person {
        None => wanted.none,
        Some(person) => wanted.any || wanted.sources.contains(&person.principal.source),
    }
}
