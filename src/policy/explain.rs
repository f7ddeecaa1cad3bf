//! How a request is judged, rule by rule: the walk as data, for `portcullis explain`.
//!
//! Nothing is decided here. Every outcome of a key, an exception or a rule is asked of the evaluator itself, and so is the
//! conclusion; this module only asks for each piece by itself and finds words for the facts. The evaluator stops at the first
//! rule that settles the matter; a walk tells of every rule that guards the place.
//!
//! The words may show what a request carried (a header, a claim), never the value of a cookie or a credential. They are for
//! the operator and must not reach a client.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::condition::{Condition, Countries, Matcher, Test};
use super::decision::{Credential, Decision, First, Kind, Place, RuleId, RuleKind};
use super::draft::{Effect, Grant};
use super::evaluate::{Failed, Judge, Matched, Unresolved, seen};
use super::facts::{Facts, Identity, Person, TlsVersion};
use super::text::{Side, form};
use super::{Policy, claim};
use crate::value::country::Country;
use crate::value::region::GeoFacts;

/// Which judgement is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The first: identity has not been looked at.
    Unseen,
    /// The second: it has, and this became of the credential.
    Seen(Credential),
}

/// What a key, an exception or a rule says of the facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// It depends on an identity that has not been looked at.
    Open,
    /// It depends on a fact whose source failed: a deny matches then, an allow does not.
    Failed,
}

/// How a request is judged at its place.
#[derive(Debug, Clone)]
pub struct Walk {
    /// Which judgement this is.
    pub stage: Stage,
    /// What the evaluator concludes.
    pub conclusion: First,
    /// The denies, global ones first, then the site's, then the route's.
    pub denies: Vec<Step>,
    /// Who may pass where no deny matches.
    pub grant: Granted,
    /// The shadow rules of the place, which have no say.
    pub shadows: Vec<Watched>,
}

/// A shadow rule.
#[derive(Debug, Clone)]
pub struct Watched {
    /// What it would do: refuse or let pass.
    pub kind: RuleKind,
    /// Its conditions.
    pub step: Step,
    /// The kind of answer if it were enforced; none where that is the live one's.
    pub would: Option<Kind>,
}

/// Who may pass where no deny matches.
#[derive(Debug, Clone)]
pub enum Granted {
    /// There is no route.
    NoRoute,
    /// Anyone.
    Anyone,
    /// Whom one of these allows.
    Rules(Vec<Step>),
}

/// Where a rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Among the global rules.
    Global,
    /// In the site.
    Site,
    /// In the route.
    Route,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Step {
    /// Which.
    pub rule: RuleId,
    /// Where it stands.
    pub scope: Scope,
    /// Its conditions, and whether they hold.
    pub clause: Clause,
}

/// A table of conditions: its keys joined by *and*, and what it excepts.
#[derive(Debug, Clone)]
pub struct Clause {
    /// Whether it holds as a whole.
    pub outcome: Outcome,
    /// Each key.
    pub keys: Vec<Key>,
    /// When it ends, and whether that is still ahead.
    pub until: Option<(Timestamp, Outcome)>,
    /// The tables of `unless`; one that holds makes this one fail.
    pub unless: Vec<Self>,
    /// The evaluator's word for it, with failed facts judged as they hurt and as they help the client most.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests hold the walk to it"))]
    pub(super) standing: (Matched, Matched),
}

/// One key of a table.
#[derive(Debug, Clone)]
pub struct Key {
    /// Which fact it reads: `country`, `header`.
    pub fact: &'static str,
    /// As the operator wrote it: `country = "@licensed"`.
    pub words: Arc<str>,
    /// Whether it holds.
    pub outcome: Outcome,
    /// The fact that decided: `country is NO; wanted BE, LU, NL`.
    pub because: String,
}

impl Policy {
    /// Walks over every rule that guards a place. `facts.identity` counts in the second judgement only.
    #[must_use]
    pub fn walk(&self, facts: &Facts<'_>, place: Place, stage: Stage) -> Walk {
        let identity = match stage {
            Stage::Unseen => self.unseen(place),
            Stage::Seen(_) => seen(facts.identity),
        };
        let walker = Walker {
            policy: self,
            facts,
            identity,
        };
        let site = self.site_at(place);
        let route = self.route_at(place);
        let groups = [
            (Scope::Global, &*self.denies.denies),
            (
                Scope::Site,
                site.map_or(&[][..], |site| &site.denies.denies),
            ),
            (
                Scope::Route,
                route.map_or(&[][..], |route| &route.denies.denies),
            ),
        ];
        let mut denies = Vec::new();
        for (scope, group) in groups {
            denies.extend(group.iter().map(|deny| Step {
                rule: deny.rule,
                scope,
                clause: walker.clause(&deny.condition, Side::Hurts),
            }));
        }
        let grant = match route.map(|route| &route.grant) {
            None => Granted::NoRoute,
            Some(Grant::Anyone) => Granted::Anyone,
            Some(Grant::Rules(allows)) => {
                let steps = allows.iter().map(|allow| Step {
                    rule: allow.rule,
                    scope: Scope::Route,
                    clause: walker.clause(&allow.condition, Side::Helps),
                });
                Granted::Rules(steps.collect())
            }
        };
        let conclusion = match stage {
            Stage::Unseen => self.first(facts, place),
            Stage::Seen(credential) => First::Decided(self.second(facts, place, credential)),
        };
        let live = match conclusion {
            First::Decided(decision) => Some(decision.verdict.kind()),
            First::SignIn => None,
        };
        let shadows = self.shadows.iter().flat_map(|shadows| shadows.every(place));
        let shadows = shadows.map(|shadow| Watched {
            kind: match shadow.effect {
                Effect::Deny(_) => RuleKind::Deny,
                Effect::Allow => RuleKind::Allow,
            },
            would: live.and_then(|live| {
                let would = self.with(facts, place, stage, shadow);
                (would != live).then_some(would)
            }),
            step: Step {
                rule: shadow.rule,
                scope: shadow.scope,
                clause: walker.clause(&shadow.condition, shadow.side()),
            },
        });
        Walk {
            stage,
            conclusion,
            denies,
            grant,
            shadows: shadows.collect(),
        }
    }
}

impl Walk {
    /// The decision; none where identity has to be looked at first.
    #[must_use]
    pub const fn decision(&self) -> Option<Decision> {
        match self.conclusion {
            First::Decided(decision) => Some(decision),
            First::SignIn => None,
        }
    }

    /// Every rule, denies first.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        let allows = match &self.grant {
            Granted::NoRoute | Granted::Anyone => &[][..],
            Granted::Rules(allows) => allows,
        };
        self.denies.iter().chain(allows)
    }

    /// Every key of every rule, also those of exceptions.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.steps().flat_map(|step| {
            let excepted = step.clause.unless.iter().flat_map(|clause| &clause.keys);
            step.clause.keys.iter().chain(excepted)
        })
    }
}

impl Outcome {
    /// `holds`, `fails`, `open` or `failed`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "fails",
            Self::Open => "open",
            Self::Failed => "failed",
        }
    }

    fn of(worst: Matched, best: Matched) -> Self {
        match (worst, best) {
            (Matched::Open, _) => Self::Open,
            (Matched::Holds, Matched::Holds) => Self::Holds,
            (Matched::Fails, Matched::Fails) => Self::Fails,
            (Matched::Holds | Matched::Fails, _) => Self::Failed,
        }
    }
}

impl Scope {
    /// `global`, `site` or `route`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Site => "site",
            Self::Route => "route",
        }
    }
}

/// One walk.
struct Walker<'w> {
    policy: &'w Policy,
    facts: &'w Facts<'w>,
    identity: Identity<'w>,
}

impl Walker<'_> {
    /// The same question asked twice: with failed facts as they hurt, and as they help.
    fn both(&self, ask: impl Fn(&Judge<'_>) -> Matched) -> (Matched, Matched) {
        let judge = |failed| {
            Judge::new(
                self.policy,
                self.facts,
                self.identity,
                failed,
                Unresolved::Fails,
            )
        };
        (ask(&judge(Failed::Hurts)), ask(&judge(Failed::Helps)))
    }

    fn clause(&self, condition: &Condition, side: Side) -> Clause {
        let standing = self.both(|judge| judge.condition(condition, side));
        let (worst, best) = standing;
        Clause {
            outcome: Outcome::of(worst, best),
            keys: condition.tests.iter().map(|t| self.key(t, side)).collect(),
            until: condition.until.map(|end| {
                let ahead = self.facts.now < end;
                (
                    end,
                    if ahead {
                        Outcome::Holds
                    } else {
                        Outcome::Fails
                    },
                )
            }),
            unless: condition
                .unless
                .iter()
                .map(|excepted| self.clause(excepted, side.other()))
                .collect(),
            standing,
        }
    }

    fn key(&self, test: &Test, side: Side) -> Key {
        let (worst, best) = self.both(|judge| judge.test(test, side));
        let outcome = Outcome::of(worst, best);
        Key {
            fact: fact(&test.matcher),
            words: Arc::clone(&test.words),
            outcome,
            because: self.because(test, outcome),
        }
    }

    /// The fact that decided a test.
    fn because(&self, test: &Test, outcome: Outcome) -> String {
        let facts = self.facts;
        let region = |kind: GeoFacts, told: &dyn Fn() -> String| {
            if facts.region().failed.intersects(kind) {
                format!("the source of `{}` has failed", fact(&test.matcher))
            } else {
                told()
            }
        };
        match &test.matcher {
            Matcher::Client(_) => address("client", facts.client, outcome),
            Matcher::Peer(_) => address("peer", facts.peer, outcome),
            Matcher::Country(wanted) => region(GeoFacts::COUNTRY, &|| {
                let held = or_unlisted(facts.region().country);
                let told = format!("country is {held}");
                with_wanted(told, test, &countries(wanted))
            }),
            Matcher::Continent(_) => region(GeoFacts::CONTINENT, &|| {
                format!("continent is {}", or_unlisted(facts.region().continent))
            }),
            Matcher::Subdivision(_) => region(GeoFacts::SUBDIVISION, &|| {
                let held = facts.region().subdivisions.iter().flatten();
                listed("subdivision is", held.map(ToString::to_string), UNLISTED)
            }),
            Matcher::Asn(wanted) => region(GeoFacts::ASN, &|| {
                let told = format!("asn is {}", or_unlisted(facts.region().asn));
                let mut numbers: Vec<String> =
                    wanted.numbers.iter().map(ToString::to_string).collect();
                numbers.extend(wanted.unlisted.then(|| UNLISTED.to_owned()));
                with_wanted(told, test, &numbers)
            }),
            Matcher::Anonymizer(_) => region(GeoFacts::ANONYMIZER, &|| {
                let held = facts.region().anonymizer.words().map(str::to_owned);
                listed("anonymizer is", held, "none")
            }),
            Matcher::Role(_) => self.person(|person| {
                let held = person.principal.roles.iter().map(ToString::to_string);
                let held: Vec<String> = held.collect();
                match held.as_slice() {
                    [] => "roles are none".to_owned(),
                    [one] => format!("the role is {one}, and what it holds"),
                    many => format!("roles are {}, and what they hold", many.join(", ")),
                }
            }),
            Matcher::User(_) => self.person(|person| format!("user is {}", person.principal.user)),
            Matcher::Auth(_) => {
                self.person(|person| format!("signed in by {}", person.principal.source))
            }
            Matcher::Claim(wanted) => {
                self.person(|person| object("claim", &wanted.path, &person.principal.claims))
            }
            Matcher::Fresh(_) => {
                self.person(|person| object("claim", "auth_time", &person.principal.claims))
            }
            Matcher::Device(wanted) => match facts.device {
                Some(device) => {
                    let told = object("device", &wanted.path, &device.facts);
                    let failed = if device.failed {
                        ", and the list of devices has failed"
                    } else {
                        ""
                    };
                    format!("{told}{failed}")
                }
                None => {
                    self.person(|person| object("device", &wanted.path, &person.principal.device))
                }
            },
            Matcher::Method(_) => format!("method is {}", facts.method),
            Matcher::Host(_) => format!("host is {}", facts.host),
            Matcher::Scheme(_) => format!("scheme is {}", facts.scheme.as_str()),
            Matcher::Path(_) => format!("path is {}", facts.target.strict()),
            Matcher::Header(name, _) => header(facts.headers, name),
            Matcher::Query(name, _) => query(facts.target.query(), name),
            // What a cookie says may be as good as a password.
            Matcher::Cookie(name, _) => format!("cookie `{name}` {}", cookie(facts.headers, name)),
            Matcher::Time(windows) => {
                let zone = windows.first().map(|window| window.zone.clone());
                let local = facts.now.to_zoned(zone.unwrap_or(jiff::tz::TimeZone::UTC));
                format!("it is {}", local.strftime("%A %Y-%m-%d %H:%M %Z"))
            }
            Matcher::TlsVersion(_) => match facts.tls.map(|tls| tls.version) {
                Some(TlsVersion::V1_2) => "TLS is 1.2".to_owned(),
                Some(TlsVersion::V1_3) => "TLS is 1.3".to_owned(),
                None => "it came in clear text".to_owned(),
            },
            Matcher::ClientCertificate(_) => {
                if facts.tls.is_some_and(|tls| tls.client_cert) {
                    "a client certificate was presented".to_owned()
                } else {
                    "no client certificate was presented".to_owned()
                }
            }
            Matcher::WebSocket => if facts.websocket {
                "a WebSocket is asked for"
            } else {
                "no WebSocket is asked for"
            }
            .to_owned(),
        }
    }

    fn person(&self, known: impl FnOnce(&Person) -> String) -> String {
        match self.identity {
            Identity::Open => "identity has not been looked at".to_owned(),
            Identity::Anonymous => "nobody is signed in".to_owned(),
            Identity::Failed => "the identity source has failed".to_owned(),
            Identity::Known(person) => known(person),
        }
    }
}

/// The name of the fact that a test reads, as conditions name it.
const fn fact(matcher: &Matcher) -> &'static str {
    match matcher {
        Matcher::Client(_) => "ip",
        Matcher::Peer(_) => "peer",
        Matcher::Country(_) => "country",
        Matcher::Continent(_) => "continent",
        Matcher::Subdivision(_) => "subdivision",
        Matcher::Asn(_) => "asn",
        Matcher::Anonymizer(_) => "anonymizer",
        Matcher::Role(_) => "role",
        Matcher::User(_) => "user",
        Matcher::Auth(_) => "auth",
        Matcher::Claim(_) | Matcher::Fresh(_) => "claim",
        Matcher::Device(_) => "device",
        Matcher::Method(_) => "method",
        Matcher::Host(_) => "host",
        Matcher::Scheme(_) => "scheme",
        Matcher::Path(_) => "path",
        Matcher::Header(..) => "header",
        Matcher::Query(..) => "query",
        Matcher::Cookie(..) => "cookie",
        Matcher::Time(_) => "time",
        Matcher::TlsVersion(_) => "tls.version",
        Matcher::ClientCertificate(_) => "tls.client_cert",
        Matcher::WebSocket => "upgrade",
    }
}

fn address(whose: &str, address: IpAddr, outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed => {
            format!("{whose} is {address}; a `dns:` name of the set has no address yet")
        }
        Outcome::Holds | Outcome::Fails | Outcome::Open => format!("{whose} is {address}"),
    }
}

fn or_unlisted(held: Option<impl ToString>) -> String {
    held.map_or_else(|| UNLISTED.to_owned(), |held| held.to_string())
}

fn listed(opening: &str, items: impl Iterator<Item = String>, none: &str) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() {
        format!("{opening} {none}")
    } else {
        format!("{opening} {}", items.join(", "))
    }
}

/// What a set holds, where the operator's words only name it.
fn with_wanted(told: String, test: &Test, wanted: &[String]) -> String {
    if !test.words.contains('@') {
        return told;
    }
    let shown: Vec<&str> = wanted.iter().take(WANTED_MAX).map(String::as_str).collect();
    let mut told = format!("{told}; wanted {}", shown.join(", "));
    if let Some(more) = wanted
        .len()
        .checked_sub(WANTED_MAX)
        .filter(|more| *more > 0)
    {
        told.push_str(&format!(" and {more} more"));
    }
    told
}

fn countries(wanted: &Countries) -> Vec<String> {
    let codes = Country::all().filter(|country| wanted.contains(*country));
    let mut codes: Vec<String> = codes.map(|country| country.to_string()).collect();
    codes.extend(wanted.unlisted.then(|| UNLISTED.to_owned()));
    codes
}

fn object(kind: &str, path: &str, held: &Map<String, Value>) -> String {
    match claim::dig(held, path) {
        Some(value) => format!("{kind} `{path}` is {}", short(&value.to_string())),
        None => format!("{kind} `{path}` is not there"),
    }
}

fn header(headers: &HeaderMap, name: &http::HeaderName) -> String {
    let values = headers.get_all(name).into_iter();
    sent(
        &format!("header `{name}`"),
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
    )
}

fn query(query: Option<&str>, name: &str) -> String {
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    let values = pairs.filter(|pair| !pair.is_empty()).filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let same = *form(key) == *name.as_bytes();
        same.then(|| String::from_utf8_lossy(&form(value)).into_owned())
    });
    sent(&format!("query `{name}`"), values)
}

fn cookie(headers: &HeaderMap, name: &str) -> &'static str {
    let fields = headers.get_all(http::header::COOKIE).into_iter();
    let mut pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    let sent = pairs.any(|pair| {
        let key = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        key.trim_ascii() == name.as_bytes()
    });
    if sent { "was sent" } else { "was not sent" }
}

fn sent(what: &str, values: impl Iterator<Item = String>) -> String {
    let values: Vec<String> = values
        .map(|value| format!("\"{}\"", short(&value)))
        .collect();
    if values.is_empty() {
        format!("{what} was not sent")
    } else {
        format!("{what} is {}", values.join(" and "))
    }
}

/// A value without its far end: nobody reads a kilobyte in an explanation.
fn short(value: &str) -> String {
    match value.char_indices().nth(VALUE_MAX) {
        Some((at, _)) => format!("{}…", value.get(..at).unwrap_or_default()),
        None => value.to_owned(),
    }
}

/// How rules name an address without a record.
const UNLISTED: &str = "unlisted";
/// Entries of a set that are shown.
const WANTED_MAX: usize = 12;
/// Characters of a value that are shown.
const VALUE_MAX: usize = 120;
