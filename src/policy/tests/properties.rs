//! What holds for every policy: the engine equals the oracle, a deny never allows more, order means nothing.

use std::sync::Arc;

use http::{HeaderMap, Method};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::Map;

use super::{oracle, read};
use crate::config::Severity;
use crate::policy::evaluate::Matched;
use crate::policy::explain::{Clause, Granted, Outcome as Says, Stage, Walk};
use crate::policy::facts::Scheme;
use crate::policy::simulate::{self, Asked, Caller, Outcome};
use crate::policy::{First, Kind, Mode, Policy, RuleId, Verdict};
use crate::value::principal::Principal;
use crate::value::region::{Anonymizers, GeoFacts, Region};

/// Conditions that now and then match what is asked below.
const TESTS: [&str; 16] = [
    "ip = \"10.0.0.0/8\"",
    "ip = [\"10.1.0.0/16\", \"192.0.2.0/24\"]",
    "peer = \"10.0.0.0/8\"",
    "country = [\"NL\", \"DE\"]",
    "country = \"unlisted\"",
    "anonymizer = [\"tor\"]",
    "method = \"GET\"",
    "method = [\"POST\", \"PUT\"]",
    "path = \"/a/**\"",
    "path = [\"/*/b\", \"/c\"]",
    "role = \"viewer\"",
    "role = [\"admin\", \"other\"]",
    "user = \"ada\"",
    "auth = \"any\"",
    "auth = [\"none\", \"cert\"]",
    "claim.plan = \"pro\"",
];

/// What a route may ask of sign-ins.
const STEP_UPS: [&str; 3] = [
    "acr = [\"mfa\", \"card\"]",
    "max_age = \"5min\"",
    "acr = \"mfa\", max_age = \"5min\"",
];

/// A policy in pieces, so that pieces can be added and swapped.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) identity: bool,
    pub(crate) global: Vec<String>,
    pub(crate) site: Vec<String>,
    /// Path, denies, allows; no allows is `"anyone"`.
    pub(crate) routes: Vec<(&'static str, Vec<String>, Vec<String>)>,
    /// The path of a route, and its `step_up`; only where somebody signs in.
    pub(crate) step_up: Option<(&'static str, &'static str)>,
}

impl Written {
    pub(crate) fn text(&self) -> String {
        let mut text =
            "[identity.sso]\njwt = {}\n[identity.cert]\n[role]\nadmin = [\"editor\"]\neditor = [\"viewer\"]\nother = []\n".to_owned();
        let mut number = 0;
        let mut denies = |header: &str, denies: &[String]| {
            let mut text = String::new();
            for deny in denies {
                number += 1;
                text.push_str(&format!("[[{header}]]\nname = \"d{number}\"\n{deny}\n"));
            }
            text
        };
        text.push_str(&denies("deny", &self.global));
        text.push_str("[[site]]\nhost = [\"a\"]\nupstream = \"u\"\n");
        if self.identity {
            text.push_str("identity = [\"sso\", \"cert\"]\n");
        }
        text.push_str(&denies("site.deny", &self.site));
        for (path, guards, allows) in &self.routes {
            let allow = match allows.as_slice() {
                [] => "\"anyone\"".to_owned(),
                allows => format!("[{}]", allows.join(", ")),
            };
            text.push_str(&format!(
                "[[site.route]]\npath = \"{path}\"\nallow = {allow}\n"
            ));
            if let Some((_, step_up)) = self.step_up.filter(|(at, _)| self.identity && at == path) {
                text.push_str(&format!("step_up = {{ {step_up} }}\n"));
            }
            text.push_str(&denies("site.route.deny", guards));
        }
        text
    }

    pub(crate) fn policy(&self) -> (crate::config::Table, Policy) {
        let (root, policy, found) = read(&self.text());
        let errors: Vec<_> = found
            .iter()
            .filter(|d| d.severity == Severity::Error)
            .collect();
        assert!(errors.is_empty(), "{errors:?}\n{}", self.text());
        (root, policy)
    }
}

/// One to three tests with different keys.
fn tests() -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(TESTS.to_vec(), 1..=3).prop_map(|tests| {
        let mut keys = std::collections::BTreeSet::new();
        tests
            .into_iter()
            .filter(|test| keys.insert(test.split(['.', ' ']).next()))
            .collect()
    })
}

fn unless() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(proptest::collection::vec(tests(), 1..3)).prop_map(|tables| {
        let tables: Vec<String> = tables?
            .iter()
            .map(|tests| format!("{{ {} }}", tests.join(", ")))
            .collect();
        Some(format!("unless = [{}]", tables.join(", ")))
    })
}

pub(crate) fn deny() -> impl Strategy<Value = String> {
    (
        tests(),
        unless(),
        select(vec!["", "status = 404", "status = 451"]),
    )
        .prop_map(|(tests, unless, status)| {
            format!(
                "{}\n{}\n{status}",
                tests.join("\n"),
                unless.unwrap_or_default()
            )
        })
}

pub(super) fn allow() -> impl Strategy<Value = String> {
    (tests(), unless()).prop_map(|(tests, unless)| {
        let parts: Vec<String> = tests.into_iter().map(str::to_owned).chain(unless).collect();
        format!("{{ {} }}", parts.join(", "))
    })
}

fn denies() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(deny(), 0..3)
}

pub(crate) fn written() -> impl Strategy<Value = Written> {
    let paths = subsequence(vec!["/**", "/a/**", "/a/*", "/*/b", "/c"], 1..=4).prop_shuffle();
    let parts = (denies(), proptest::collection::vec(allow(), 0..3));
    let routes = (paths, proptest::collection::vec(parts, 4));
    let routes = routes.prop_map(|(paths, parts)| {
        paths
            .into_iter()
            .zip(parts)
            .map(|(path, (denies, allows))| (path, denies, allows))
            .collect()
    });
    let step_up = (
        select(vec!["/**", "/a/**", "/c"]),
        select(STEP_UPS.to_vec()),
    );
    let step_up = proptest::option::of(step_up);
    let parts = (any::<bool>(), denies(), denies(), routes, step_up);
    parts.prop_map(|(identity, global, site, routes, step_up)| Written {
        identity,
        global,
        site,
        routes,
        step_up,
    })
}

pub(super) fn caller() -> impl Strategy<Value = Caller> {
    let known = (
        select(vec!["ada", "eve"]),
        select(vec!["sso", "cert"]),
        subsequence(vec!["admin", "viewer", "other"], 0..=2),
        any::<bool>(),
        select(vec![None, Some("mfa"), Some("pwd")]),
        // Of long ago, of late, and none. Values that the analysis picks for these limits, too.
        select(vec![None, Some(-301.0), Some(-120.0)]),
    );
    let known = known.prop_map(|(user, source, roles, pro, acr, auth_time)| {
        let mut claims = Map::new();
        if pro {
            claims.insert("plan".into(), "pro".into());
        }
        claims.extend(acr.map(|acr| ("acr".to_owned(), acr.into())));
        claims.extend(auth_time.map(|time: f64| ("auth_time".to_owned(), time.into())));
        Caller::Known(Arc::new(Principal {
            user: user.into(),
            source: source.into(),
            roles: roles.into_iter().map(Arc::from).collect(),
            claims,
            device: Map::new(),
            expires: None,
        }))
    });
    prop_oneof![
        Just(Caller::Nobody),
        Just(Caller::Invalid),
        Just(Caller::Failed),
        known.clone(),
        known
    ]
}

pub(crate) fn asked() -> impl Strategy<Value = Asked> {
    let addresses = vec!["10.1.2.3", "10.2.0.1", "192.0.2.1", "198.51.100.7"];
    let region = (
        select(vec![None, Some("NL"), Some("US")]),
        any::<bool>(),
        proptest::bool::weighted(0.2),
    );
    (
        select(vec!["/", "/a", "/a/b", "/x/b", "/a/b/c", "/c", "/a/x"]),
        select(vec![Method::GET, Method::HEAD, Method::POST]),
        select(addresses.clone()),
        select(addresses),
        region,
        caller(),
    )
        .prop_map(
            |(target, method, client, peer, (country, tor, failed), caller)| Asked {
                device: None,
                host: "a".into(),
                target: target.into(),
                method,
                client: client.parse().unwrap(),
                peer: peer.parse().unwrap(),
                region: Region {
                    country: country.map(|code| code.parse().unwrap()),
                    anonymizer: if tor {
                        Anonymizers::TOR
                    } else {
                        Anonymizers::default()
                    },
                    failed: if failed {
                        GeoFacts::ALL
                    } else {
                        GeoFacts::NONE
                    },
                    ..Region::default()
                },
                scheme: Scheme::Http,
                tls: None,
                headers: HeaderMap::new(),
                websocket: false,
                now: jiff::Timestamp::UNIX_EPOCH,
                caller,
            },
        )
}

/// What the engine says, in the oracle's words. An allow that opened is not named there.
pub(super) fn told(policy: &Policy, asked: &Asked) -> oracle::Answer {
    let outcome = simulate::judge(policy, asked);
    let Outcome::Judged {
        decision, verified, ..
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    let status = outcome.status(policy);
    let rule = decision.rule.filter(|_| status.is_some());
    (
        status.unwrap_or(200),
        rule.map(|rule| policy.rule(rule).name.to_string()),
        verified,
    )
}

/// What a walk's own rules lead to.
#[derive(Debug, PartialEq)]
enum Follows {
    Open,
    Allow(Option<RuleId>),
    Refuse(Option<RuleId>),
    Unavailable,
}

/// DESIGN section 2, point 2 and 5, from the outcomes of the rules that a walk shows.
fn follows(walk: &Walk, policy: &Policy) -> Follows {
    let steps_up = |rule: RuleId| policy.rule(rule).name.ends_with("#step_up");
    let by = |pick: fn(&Clause) -> Matched| {
        let denied = walk
            .denies
            .iter()
            .find(|step| pick(&step.clause) == Matched::Holds);
        let open = walk
            .denies
            .iter()
            .any(|step| pick(&step.clause) == Matched::Open);
        let (granted, by) = match &walk.grant {
            Granted::NoRoute | Granted::Anyone => (Matched::Holds, None),
            Granted::Rules(allows) => {
                let first = |want| allows.iter().find(|step| pick(&step.clause) == want);
                match (first(Matched::Holds), first(Matched::Open)) {
                    (Some(step), _) => (Matched::Holds, Some(step.rule)),
                    (None, Some(_)) => (Matched::Open, None),
                    (None, None) => (Matched::Fails, None),
                }
            }
        };
        (denied.map(|step| step.rule), open, granted, by)
    };
    match by(|clause| clause.standing.0) {
        (None, false, Matched::Holds, rule) => return Follows::Allow(rule),
        (None, _, Matched::Holds | Matched::Open, _) => return Follows::Open,
        _ => {}
    }
    match by(|clause| clause.standing.1) {
        (Some(rule), _, Matched::Fails, _) if steps_up(rule) => Follows::Refuse(None),
        (Some(rule), ..) => Follows::Refuse(Some(rule)),
        (None, _, Matched::Fails, _) => Follows::Refuse(None),
        (None, ..) => Follows::Unavailable,
    }
}

/// Whether the pieces of a clause lead to its outcome.
fn adds_up(clause: &Clause) -> bool {
    let keys = clause.keys.iter().map(|key| key.outcome);
    let ends = clause.until.iter().map(|(_, outcome)| *outcome);
    let excepted = clause.unless.iter().map(|table| match table.outcome {
        Says::Holds => Says::Fails,
        Says::Fails => Says::Holds,
        other => other,
    });
    let all: Vec<Says> = keys.chain(ends).chain(excepted).collect();
    let is = |outcome| all.contains(&outcome);
    clause.unless.iter().all(adds_up)
        && match clause.outcome {
            Says::Fails => is(Says::Fails),
            Says::Holds => all.iter().all(|outcome| *outcome == Says::Holds),
            Says::Failed => is(Says::Failed) && !is(Says::Fails),
            Says::Open => is(Says::Open) && !is(Says::Fails),
        }
}

/// A policy with shadow rules among the others.
fn watching() -> impl Strategy<Value = Written> {
    let more = (deny(), deny(), allow(), deny(), allow());
    (written(), more, 0usize..4).prop_map(|(mut written, (a, b, c, d, e), at)| {
        written.global.insert(0, format!("{a}\nshadow = true"));
        written.site.push(format!("{b}\nshadow = true"));
        let routes = written.routes.len();
        let (_, denies, allows) = &mut written.routes[at % routes];
        denies.insert(0, format!("{d}\nshadow = true"));
        for (number, allow) in [c, e].iter().enumerate() {
            // A shadow beside `"anyone"` could not be written.
            if !allows.is_empty() {
                let rest = allow.strip_prefix('{').unwrap();
                let named = format!("{{ name = \"s{number}\", shadow = true, {rest}");
                allows.insert(number, named);
            }
        }
        written
    })
}

/// A status in the words of the log.
fn kind(status: u16) -> Kind {
    match status {
        200 => Kind::Allow,
        401 => Kind::Challenge,
        503 => Kind::Error,
        _ => Kind::Deny,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..Default::default() })]

    #[test]
    fn the_engine_equals_the_oracle(written in written(), asked in proptest::collection::vec(asked(), 8)) {
        let (root, policy) = written.policy();
        for asked in &asked {
            prop_assert_eq!(told(&policy, asked), oracle::decide(&root, asked), "{:?}\n{}", asked, written.text());
        }
    }

    #[test]
    fn a_shadow_rule_changes_nothing_and_tells_what_it_would(
        written in watching(),
        asked in proptest::collection::vec(asked(), 8),
    ) {
        let (root, policy) = written.policy();
        let plain = written.policy().1.plain();
        for asked in &asked {
            let live = told(&policy, asked);
            prop_assert_eq!(&live, &oracle::decide(&root, asked), "{:?}\n{}", asked, written.text());
            let looked_at = live.2;
            let mut wanted = Vec::new();
            for rule in policy.rules().iter().filter(|rule| rule.mode == Mode::Shadow) {
                let (status, _, looked) = oracle::decide_with(&root, asked, Some(&rule.name));
                // Where nobody was asked to sign in, who asks is not known.
                let would = if looked && !looked_at { Kind::Challenge } else { kind(status) };
                if would != kind(live.0) {
                    wanted.push((rule.name.to_string(), would));
                }
            }
            let found = |policy: &Policy| {
                let (_, walk) = simulate::explain(policy, asked);
                let walked: Vec<_> = walk.unwrap().shadows.iter()
                    .filter_map(|watched| Some((policy.rule(watched.step.rule).name.to_string(), watched.would?)))
                    .collect();
                let told: Vec<_> = simulate::shadowed(policy, asked).iter()
                    .map(|shadowed| (policy.rule(shadowed.rule).name.to_string(), shadowed.would))
                    .collect();
                (told, walked)
            };
            let want = (wanted.clone(), wanted);
            prop_assert_eq!(&found(&policy), &want, "{:?}\n{}", asked, written.text());
            prop_assert_eq!(&found(&plain), &want, "{:?}\n{}", asked, written.text());
        }
    }

    #[test]
    fn a_walk_tells_what_was_decided(written in written(), asked in proptest::collection::vec(asked(), 8)) {
        let (_, policy) = written.policy();
        for asked in &asked {
            let (outcome, walk) = simulate::explain(&policy, asked);
            prop_assert_eq!(outcome, simulate::judge(&policy, asked), "{:?}\n{}", asked, written.text());
            let (Outcome::Judged { decision, verified, .. }, Some(walk)) = (outcome, walk) else {
                panic!("{outcome:?}");
            };
            prop_assert_eq!(walk.conclusion, First::Decided(decision));
            prop_assert_eq!(walk.stage != Stage::Unseen, verified);
            for step in walk.steps() {
                prop_assert!(adds_up(&step.clause), "{:#?}\n{:?}\n{}", step, asked, written.text());
            }
            let told = follows(&walk, &policy);
            let fits = match decision.verdict {
                Verdict::Allow => told == Follows::Allow(decision.rule),
                Verdict::Refuse(_) | Verdict::StepUp(_) => told == Follows::Refuse(decision.rule),
                Verdict::NotAuthenticated
                | Verdict::InvalidToken
                | Verdict::CertificateRequired => {
                    matches!(told, Follows::Refuse(_))
                }
                Verdict::Unavailable => told == Follows::Unavailable,
                Verdict::NoRoute => matches!(told, Follows::Allow(None) | Follows::Open),
                Verdict::NoSite | Verdict::BadQuery => false,
            };
            prop_assert!(fits, "{told:?} but {decision:?}: {asked:?}\n{}\n{walk:#?}", written.text());
        }
    }

    #[test]
    fn a_deny_more_never_allows_more(
        written in written(),
        deny in deny(),
        place in 0usize..3,
        asked in proptest::collection::vec(asked(), 8),
    ) {
        let mut more = written.clone();
        match place {
            0 => more.global.push(deny),
            1 => more.site.push(deny),
            _ => more.routes[0].1.push(deny),
        }
        let (before, after) = (written.policy().1, more.policy().1);
        for asked in &asked {
            let passes = told(&after, asked).0 == 200;
            prop_assert!(!passes || told(&before, asked).0 == 200, "{:?}\n{}", asked, more.text());
        }
    }

    #[test]
    fn an_allow_more_never_denies_more(
        written in written(),
        allow in allow(),
        asked in proptest::collection::vec(asked(), 8),
    ) {
        let mut more = written.clone();
        // No allows at all is `"anyone"`, which one more would narrow.
        prop_assume!(!written.routes[0].2.is_empty());
        more.routes[0].2.push(allow);
        let (before, after) = (written.policy().1, more.policy().1);
        for asked in &asked {
            let passed = told(&before, asked).0 == 200;
            prop_assert!(!passed || told(&after, asked).0 == 200, "{:?}\n{}", asked, more.text());
        }
    }

    #[test]
    fn order_means_nothing(written in written(), asked in proptest::collection::vec(asked(), 8)) {
        let mut turned = written.clone();
        turned.global.reverse();
        turned.site.reverse();
        turned.routes.reverse();
        for (_, denies, allows) in &mut turned.routes {
            denies.reverse();
            allows.reverse();
        }
        let (before, after) = (written.policy().1, turned.policy().1);
        for asked in &asked {
            let (one, _, verified) = told(&before, asked);
            let (other, _, verified_too) = told(&after, asked);
            prop_assert_eq!(one == 200, other == 200, "{:?}\n{}", asked, written.text());
            prop_assert_eq!(verified, verified_too, "{:?}\n{}", asked, written.text());
        }
    }
}
