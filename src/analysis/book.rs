//! The rules of one policy, or of several, in words that they share: what is asked twice is one term, whoever asks and
//! whatever its set is called. Roles are granted roles, the hierarchy worked in; sets of addresses are the addresses in them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::addresses::Addresses;
use crate::policy::claim::{self, ClaimTest, Presence};
use crate::policy::condition::{
    AuthTest, Condition, Continents, Countries, Matcher, Presented, Systems,
};
use crate::policy::draft::Deny;
use crate::policy::facts::{Scheme, TlsVersion};
use crate::policy::pattern::Pattern;
use crate::policy::text::{Side, TextTest};
use crate::policy::time::Window;
use crate::policy::{Policy, Refusal, RefusalId, RuleId, SitePart};
use crate::value::country::Subdivision;
use crate::value::host::HostPattern;
use crate::value::region::Anonymizers;

/// A question, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TermId(pub(crate) u32);

/// A condition, by number: two that say the same in the same way have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClauseId(pub(crate) u32);

/// One question that rules ask.
#[derive(Debug)]
pub(crate) struct Term {
    pub(crate) asks: Asks,
    /// As an operator wrote it.
    pub(crate) words: Arc<str>,
}

/// What is asked.
#[derive(Debug)]
pub(crate) enum Asks {
    /// The client address: one of these classes.
    Client(Box<[u32]>),
    /// The peer address: one of these classes.
    Peer(Box<[u32]>),
    Country(Countries),
    Continent(Continents),
    Subdivision(Box<[Subdivision]>),
    Asn(Systems),
    Anonymizer(Anonymizers),
    /// Granted one of these, by number.
    Role(Box<[u32]>),
    User(Box<[Arc<str>]>),
    Auth(AuthTest),
    Claim(ClaimTest),
    Device(ClaimTest),
    Method(Box<[http::Method]>),
    Host(Box<[HostPattern]>),
    Scheme(Box<[Scheme]>),
    /// Patterns; and regular expressions, as a question of their own.
    Path(Vec<Pattern>, Option<Arc<str>>),
    /// What cannot be looked into: a name for the question, on which side it stands, and the test itself.
    Opaque(Arc<str>, Side, Opaque),
    TlsVersion(Box<[TlsVersion]>),
    ClientCertificate(Presented),
    WebSocket,
}

/// A test that is taken as a whole.
#[derive(Debug, Clone)]
pub(crate) enum Opaque {
    Header(http::HeaderName, TextTest),
    Query(Box<str>, TextTest),
    Cookie(Box<str>, TextTest),
    Time(Box<[Arc<Window>]>),
}

/// A condition in terms.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Clause {
    /// All must hold, or fail where the flag says so.
    pub(crate) tests: Box<[(TermId, Sense)]>,
    /// None may hold.
    pub(crate) unless: Box<[ClauseId]>,
    pub(crate) until: Option<Timestamp>,
}

/// Whether a term must hold or fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Sense {
    Holds,
    Fails,
}

/// A rule in terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The rule of its policy.
    pub(crate) id: RuleId,
    pub(crate) clause: ClauseId,
    /// How a request ends that it decides: [`Ending`] by number.
    pub(crate) ending: u32,
}

/// How a request ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ending {
    /// It passes.
    Allow,
    /// 401: a stranger, or a credential that is not valid.
    SignIn,
    /// 403: a stranger, on a site that knows people by certificate only.
    CertificateRequired,
    /// 421.
    NoSite,
    /// 404 `no_route`.
    NoRoute,
    /// Refused.
    Refuse(Refusal),
}

impl Ending {
    pub(crate) const ALLOW: u32 = 1;
    pub(crate) const SIGN_IN: u32 = 2;
    pub(crate) const CERTIFICATE_REQUIRED: u32 = 3;
    pub(crate) const NO_SITE: u32 = 4;
    pub(crate) const NO_ROUTE: u32 = 5;
}

/// The rules of policies, in terms.
#[derive(Debug)]
pub(crate) struct Book<'p> {
    pub(crate) policies: Vec<&'p Policy>,
    /// Requests are those from this moment on.
    pub(crate) now: Timestamp,
    pub(crate) addresses: Addresses,
    pub(crate) roles: Vec<Arc<str>>,
    terms: Vec<Term>,
    /// By term: how it is written, and in which policy.
    written: Vec<Vec<(usize, Arc<str>)>>,
    term_ids: HashMap<String, TermId, foldhash::fast::RandomState>,
    clauses: Vec<Clause>,
    clause_ids: HashMap<Clause, ClauseId, foldhash::fast::RandomState>,
    endings: Vec<Ending>,
    ending_ids: HashMap<Ending, u32, foldhash::fast::RandomState>,
    /// By policy and rule.
    rules: Vec<HashMap<RuleId, ClauseId, foldhash::fast::RandomState>>,
    /// By policy and rule that has an `unless`: what it excepts, as written.
    exceptions: Vec<HashMap<RuleId, Vec<ClauseId>, foldhash::fast::RandomState>>,
    /// By policy and role of a rule: who is granted it, with the hierarchy.
    grants: Vec<HashMap<usize, Vec<u32>, foldhash::fast::RandomState>>,
    /// By policy: the global denies.
    pub(crate) global: Vec<Arc<[Rule]>>,
    sets: HashMap<Box<[u32]>, u32, foldhash::fast::RandomState>,
}

impl<'p> Book<'p> {
    /// The rules of these policies. Requests before `now` are of no interest.
    pub(crate) fn new(policies: Vec<&'p Policy>, now: Timestamp) -> Self {
        let mut numbers = BTreeMap::<Arc<str>, u32>::new();
        let (mut roles, mut grants) = (Vec::new(), Vec::new());
        for policy in &policies {
            let mut held = HashMap::<usize, Vec<u32>, _>::default();
            for (name, all) in policy.role_parts() {
                let number = *numbers.entry(Arc::clone(name)).or_insert_with(|| {
                    roles.push(Arc::clone(name));
                    u32::try_from(roles.len() - 1).unwrap_or(u32::MAX)
                });
                for role in all {
                    held.entry(role).or_default().push(number);
                }
            }
            grants.push(held);
        }
        let mut book = Self {
            addresses: Addresses::new(&policies),
            rules: vec![HashMap::default(); policies.len()],
            exceptions: vec![HashMap::default(); policies.len()],
            policies,
            now,
            roles,
            terms: Vec::new(),
            written: Vec::new(),
            term_ids: HashMap::default(),
            clauses: Vec::new(),
            clause_ids: HashMap::default(),
            endings: Vec::new(),
            ending_ids: HashMap::default(),
            grants,
            global: Vec::new(),
            sets: HashMap::default(),
        };
        for first in [
            Ending::Refuse(Refusal::default()),
            Ending::Allow,
            Ending::SignIn,
            Ending::CertificateRequired,
            Ending::NoSite,
            Ending::NoRoute,
        ] {
            // Number 0 means nowhere, and is never given to an ending that is looked up.
            book.endings.push(first);
        }
        for at in 0..book.policies.len() {
            book.read(at);
        }
        book.choose_words();
        let global = book.policies.iter().enumerate();
        let global = global.map(|(at, policy)| book.denies(at, policy.global_denies()).into());
        book.global = global.collect();
        book
    }

    /// Writes every rule of a policy down.
    fn read(&mut self, at: usize) {
        let Some(policy) = self.policies.get(at).copied() else {
            return;
        };
        let sites: Vec<SitePart<'p>> = policy.site_parts().collect();
        let routes = || sites.iter().flat_map(|site| site.routes());
        let denies = policy.global_denies().iter();
        let denies = denies.chain(sites.iter().flat_map(|site| site.denies()));
        let denies = denies.chain(routes().flat_map(|route| route.denies()));
        let (mut known, mut exceptions) = (HashMap::default(), HashMap::default());
        for deny in denies {
            let clause = self.clause(at, &deny.condition, Side::Hurts);
            known.insert(deny.rule, clause);
            let excepted = self.excepted(at, &deny.condition, Side::Hurts);
            exceptions.extend(excepted.map(|excepted| (deny.rule, excepted)));
            self.ending_of(at, deny.refusal);
        }
        for route in routes() {
            for allow in route.allows() {
                let clause = self.clause(at, &allow.condition, Side::Helps);
                known.insert(allow.rule, clause);
                let excepted = self.excepted(at, &allow.condition, Side::Helps);
                exceptions.extend(excepted.map(|excepted| (allow.rule, excepted)));
            }
            self.ending_of(at, route.otherwise());
        }
        if let Some(rules) = self.rules.get_mut(at) {
            *rules = known;
        }
        if let Some(all) = self.exceptions.get_mut(at) {
            *all = exceptions;
        }
    }

    /// What a condition excepts, as written; none where it excepts nothing.
    fn excepted(
        &mut self,
        policy: usize,
        condition: &Condition,
        side: Side,
    ) -> Option<Vec<ClauseId>> {
        let unless = condition.unless.iter();
        let unless = unless.map(|excepted| self.clause(policy, excepted, side.other()));
        let unless: Vec<ClauseId> = unless.collect();
        (!unless.is_empty()).then_some(unless)
    }

    /// What a rule excepts, in the order written.
    pub(crate) fn exceptions_of(&self, policy: usize, rule: RuleId) -> &[ClauseId] {
        let all = self.exceptions.get(policy);
        all.and_then(|all| all.get(&rule))
            .map_or(&[], Vec::as_slice)
    }

    /// Of the ways in which a term is written the newest with the name of a set, else the newest. Where the same words mean
    /// something else in the other policy, it is said whose they are.
    fn choose_words(&mut self) {
        let mut meanings = HashMap::<Arc<str>, TermId, foldhash::fast::RandomState>::default();
        let mut twofold = std::collections::HashSet::<Arc<str>>::new();
        for (id, written) in (0..).map(TermId).zip(&self.written) {
            for (_, words) in written {
                let known = *meanings.entry(Arc::clone(words)).or_insert(id);
                if known != id && self.policies.len() > 1 && differ(self, known, id) {
                    twofold.insert(Arc::clone(words));
                }
            }
        }
        for (term, written) in self.terms.iter_mut().zip(std::mem::take(&mut self.written)) {
            let best = written
                .into_iter()
                .max_by_key(|(policy, words)| (words.contains('@'), *policy));
            let Some((policy, words)) = best else {
                continue;
            };
            term.words = if twofold.contains(&words) {
                let whose = if policy == 0 { "old" } else { "new" };
                Arc::from(format!("{words} ({whose})"))
            } else {
                words
            };
        }
    }

    pub(crate) fn term(&self, id: TermId) -> Option<&Term> {
        self.terms.get(usize::try_from(id.0).ok()?)
    }

    pub(crate) fn terms(&self) -> impl Iterator<Item = (TermId, &Term)> {
        (0..).map(TermId).zip(&self.terms)
    }

    pub(crate) fn clause_at(&self, id: ClauseId) -> Option<&Clause> {
        self.clauses.get(usize::try_from(id.0).ok()?)
    }

    /// The condition of a rule.
    pub(crate) fn clause_of(&self, policy: usize, rule: RuleId) -> Option<ClauseId> {
        self.rules.get(policy)?.get(&rule).copied()
    }

    /// An ending by its number.
    pub(crate) fn ending(&self, number: u32) -> &Ending {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        self.endings.get(at).unwrap_or(&Ending::NoSite)
    }

    /// How many endings there are.
    pub(crate) const fn endings_count(&self) -> usize {
        self.endings.len()
    }

    /// Denies as rules.
    pub(crate) fn denies(&self, policy: usize, denies: &[Deny]) -> Vec<Rule> {
        let rules = denies.iter().filter_map(|deny| {
            Some(Rule {
                id: deny.rule,
                clause: self.clause_of(policy, deny.rule)?,
                ending: self.refusal(policy, deny.refusal),
            })
        });
        rules.collect()
    }

    /// The number of the ending that a refusal is.
    pub(crate) fn refusal(&self, policy: usize, refusal: RefusalId) -> u32 {
        let refusal = self
            .policies
            .get(policy)
            .map(|policy| policy.refusal(refusal));
        let ending = refusal.map(|refusal| Ending::Refuse(refusal.clone()));
        let known = ending.and_then(|ending| self.ending_ids.get(&ending).copied());
        known.unwrap_or(0)
    }

    fn ending_of(&mut self, policy: usize, refusal: RefusalId) {
        let Some(policy) = self.policies.get(policy) else {
            return;
        };
        let ending = Ending::Refuse(policy.refusal(refusal).clone());
        if self.ending_ids.contains_key(&ending) {
            return;
        }
        let number = u32::try_from(self.endings.len()).unwrap_or(u32::MAX);
        self.ending_ids.insert(ending.clone(), number);
        self.endings.push(ending);
    }

    fn clause(&mut self, policy: usize, condition: &Condition, side: Side) -> ClauseId {
        let mut tests: Vec<(TermId, Sense)> = condition
            .tests
            .iter()
            .map(|test| self.asked(policy, &test.matcher, &test.words, side))
            .collect();
        tests.sort_unstable();
        tests.dedup();
        let mut unless: Vec<ClauseId> = condition
            .unless
            .iter()
            .map(|excepted| self.clause(policy, excepted, side.other()))
            .collect();
        unless.sort_unstable();
        unless.dedup();
        let clause = Clause {
            tests: tests.into(),
            unless: unless.into(),
            until: condition.until,
        };
        if let Some(known) = self.clause_ids.get(&clause) {
            return *known;
        }
        let id = ClauseId(u32::try_from(self.clauses.len()).unwrap_or(u32::MAX));
        self.clause_ids.insert(clause.clone(), id);
        self.clauses.push(clause);
        id
    }

    fn asked(
        &mut self,
        policy: usize,
        matcher: &Matcher,
        words: &Arc<str>,
        side: Side,
    ) -> (TermId, Sense) {
        let mut sense = Sense::Holds;
        let (key, asks) = match matcher {
            Matcher::Client(test) => {
                let classes: Box<[u32]> = self.addresses.set(policy, test.set).into();
                (format!("ip {}", self.set(&classes)), Asks::Client(classes))
            }
            Matcher::Peer(test) => {
                let classes: Box<[u32]> = self.addresses.set(policy, test.set).into();
                (format!("peer {}", self.set(&classes)), Asks::Peer(classes))
            }
            Matcher::Country(wanted) => (
                format!(
                    "country {} {:?}",
                    wanted.unlisted,
                    wanted.codes().collect::<Vec<_>>()
                ),
                Asks::Country(wanted.clone()),
            ),
            Matcher::Continent(wanted) => {
                let mut wanted = wanted.clone();
                wanted.codes.sort_unstable();
                (format!("{wanted:?}"), Asks::Continent(wanted))
            }
            Matcher::Subdivision(wanted) => {
                let mut wanted = wanted.clone();
                wanted.sort_unstable();
                (format!("subdivision {wanted:?}"), Asks::Subdivision(wanted))
            }
            Matcher::Asn(wanted) => (format!("{wanted:?}"), Asks::Asn(wanted.clone())),
            Matcher::Anonymizer(wanted) => (format!("{wanted:?}"), Asks::Anonymizer(*wanted)),
            Matcher::Role(wanted) => {
                let grants = self.grants.get(policy);
                let mut granted: Vec<u32> = wanted
                    .numbers()
                    .filter_map(|role| grants?.get(&role))
                    .flatten()
                    .copied()
                    .collect();
                granted.sort_unstable();
                granted.dedup();
                (format!("role {granted:?}"), Asks::Role(granted.into()))
            }
            Matcher::User(wanted) => (format!("user {wanted:?}"), Asks::User(wanted.clone())),
            Matcher::Auth(wanted) => {
                let mut wanted = wanted.clone();
                wanted.sources.sort_unstable();
                (format!("{wanted:?}"), Asks::Auth(wanted))
            }
            Matcher::Claim(test) => (format!("claim {test:?}"), Asks::Claim(test.clone())),
            Matcher::Fresh(max_age) => {
                // At the moment from which requests are looked at; how old a sign-in is then, it only grows.
                let test = ClaimTest {
                    path: Arc::from(claim::AUTH_TIME),
                    want: claim::fresh(*max_age, self.now),
                };
                (format!("claim {test:?}"), Asks::Claim(test))
            }
            Matcher::Device(test) => (format!("device {test:?}"), Asks::Device(test.clone())),
            Matcher::Method(wanted) => {
                let mut names: Vec<&str> = wanted.iter().map(http::Method::as_str).collect();
                names.sort_unstable();
                (format!("method {names:?}"), Asks::Method(wanted.clone()))
            }
            Matcher::Host(wanted) => {
                let mut wanted = wanted.clone();
                wanted.sort_unstable();
                (format!("host {wanted:?}"), Asks::Host(wanted))
            }
            Matcher::Scheme(wanted) => {
                let mut names: Vec<&str> = wanted.iter().map(|scheme| scheme.as_str()).collect();
                names.sort_unstable();
                (format!("scheme {names:?}"), Asks::Scheme(wanted.clone()))
            }
            Matcher::Path(test) => {
                let mut shapes: Vec<String> = test
                    .patterns
                    .iter()
                    .map(|p| format!("{:?}", p.strict()))
                    .collect();
                shapes.sort_unstable();
                let regexes = (!test.regexes.is_empty())
                    .then(|| Arc::from(format!("path {:?}", test.regexes)));
                let key = format!("path {shapes:?} {regexes:?}");
                (key, Asks::Path(test.patterns.clone(), regexes))
            }
            Matcher::Header(name, test) => {
                let test = positive(test, &mut sense);
                let key = format!("header {name} {test:?}");
                opaque(&key, side, Opaque::Header(name.clone(), test))
            }
            Matcher::Query(name, test) => {
                let test = positive(test, &mut sense);
                let key = format!("query {name} {test:?}");
                opaque(&key, side, Opaque::Query(name.clone(), test))
            }
            Matcher::Cookie(name, test) => {
                let test = positive(test, &mut sense);
                let key = format!("cookie {name} {test:?}");
                opaque(&key, side, Opaque::Cookie(name.clone(), test))
            }
            Matcher::Time(windows) => {
                let mut told: Vec<String> = windows.iter().map(|w| w.told()).collect();
                told.sort_unstable();
                // Where it stands does not matter: a moment is inside or it is not.
                let key = format!("time {told:?}");
                opaque(&key, Side::Helps, Opaque::Time(windows.clone()))
            }
            Matcher::TlsVersion(wanted) => {
                let mut wanted = wanted.clone();
                wanted.sort_unstable();
                (format!("{wanted:?}"), Asks::TlsVersion(wanted))
            }
            Matcher::ClientCertificate(wanted) => {
                (format!("{wanted:?}"), Asks::ClientCertificate(*wanted))
            }
            Matcher::WebSocket => ("websocket".to_owned(), Asks::WebSocket),
        };
        let words = match sense {
            Sense::Holds => Arc::clone(words),
            // Written as an absence, asked as a presence.
            Sense::Fails => {
                let name = words.split(" = ").next().unwrap_or_default();
                Arc::from(format!("{name} = {{ present = true }}"))
            }
        };
        if let Some(known) = self.term_ids.get(&key).copied() {
            let at = usize::try_from(known.0).ok();
            if let Some(written) = at.and_then(|at| self.written.get_mut(at)) {
                written.push((policy, words));
            }
            return (known, sense);
        }
        let id = TermId(u32::try_from(self.terms.len()).unwrap_or(u32::MAX));
        self.term_ids.insert(key, id);
        self.written.push(vec![(policy, Arc::clone(&words))]);
        self.terms.push(Term { asks, words });
        (id, sense)
    }

    /// A short name for a set of addresses, by what is in it.
    fn set(&mut self, classes: &[u32]) -> u32 {
        let next = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        *self.sets.entry(classes.into()).or_insert(next)
    }
}

/// Whether two terms with the same words ask something else: the two sides of one header do not.
fn differ(book: &Book<'_>, one: TermId, other: TermId) -> bool {
    let asks = |id| book.term(id).map(|term| &term.asks);
    match (asks(one), asks(other)) {
        (Some(Asks::Opaque(one, ..)), Some(Asks::Opaque(other, ..))) => one != other,
        _ => true,
    }
}

/// Presence is asked positively, so that a test and its opposite are one question.
fn positive(test: &TextTest, sense: &mut Sense) -> TextTest {
    match test {
        TextTest::Present(presence) => {
            if *presence == Presence::Absent {
                *sense = Sense::Fails;
            }
            TextTest::Present(Presence::Present)
        }
        TextTest::AnyOf(_) => test.clone(),
    }
}

fn opaque(key: &str, side: Side, test: Opaque) -> (String, Asks) {
    // Whether something is there does not depend on the side.
    let side = match &test {
        Opaque::Header(_, TextTest::Present(_))
        | Opaque::Query(_, TextTest::Present(_))
        | Opaque::Cookie(_, TextTest::Present(_)) => Side::Helps,
        Opaque::Header(..) | Opaque::Query(..) | Opaque::Cookie(..) | Opaque::Time(_) => side,
    };
    let asks = Asks::Opaque(Arc::from(key), side, test);
    (format!("{key} {side:?}"), asks)
}
