//! Long lists: the indexed engine equals the plain one and the oracle, at every size where something changes.

use std::cell::OnceCell;
use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::properties::{Written, asked, deny, told};
use super::{oracle, properties, read};
use crate::policy::explain::Stage;
use crate::policy::facts::{Scheme, TlsFacts, TlsVersion};
use crate::policy::index::{SCAN_MAX, SHORT_MAX};
use crate::policy::simulate::{Asked, Caller};
use crate::policy::{
    Ambiguous, Credential, Decision, Facts, First, Identity, Place, Policy, Shadowed, Verdict,
};
use crate::value::country::{Continent, Country};
use crate::value::path::Target;
use crate::value::region::{GeoFacts, Region};

/// The sizes that lists are tried with.
fn size() -> impl Strategy<Value = usize> {
    select(vec![
        0,
        1,
        SCAN_MAX,
        SCAN_MAX + 1,
        SHORT_MAX - 1,
        SHORT_MAX,
        SHORT_MAX + 1,
        130,
    ])
}

/// Every key that a rule can have, now and then matching what is asked below.
fn test() -> impl Strategy<Value = String> {
    let number = 0u8..6;
    prop_oneof![
        number
            .clone()
            .prop_map(|n| format!("ip = \"10.{n}.0.0/16\"")),
        Just("ip = [\"10.1.0.0/16\", \"dns:bad.example\"]".to_owned()),
        Just("ip = \"10.0.0.0/8\"".to_owned()),
        number
            .clone()
            .prop_map(|n| format!("peer = [\"10.{n}.0.0/16\", \"192.0.2.{n}\"]")),
        subsequence(vec!["NL", "DE", "US", "FR", "unlisted", "@eu"], 1..3)
            .prop_map(|codes| format!("country = {codes:?}")),
        subsequence(vec!["EU", "NA", "unlisted"], 1..2)
            .prop_map(|codes| format!("continent = {codes:?}")),
        number.clone().prop_map(|n| format!("asn = [{n}, 64500]")),
        Just("asn = [\"unlisted\"]".to_owned()),
        select(vec!["tor", "vpn"]).prop_map(|kind| format!("anonymizer = [\"{kind}\"]")),
        select(vec!["US-CA", "NL-NH"]).prop_map(|code| format!("subdivision = [\"{code}\"]")),
        subsequence(vec!["GET", "POST", "PURGE"], 1..3).prop_map(|m| format!("method = {m:?}")),
        number.clone().prop_map(|n| format!("path = \"/s{n}/**\"")),
        number
            .clone()
            .prop_map(|n| format!("path = [\"/*/p{n}\", \"/S{n}/p\", \"/s{n}/p/*/\"]")),
        number
            .clone()
            .prop_map(|n| format!("path = {{ regex = \"/s{n}/.*\" }}")),
        select(vec!["viewer", "editor", "admin", "other"])
            .prop_map(|role| format!("role = \"{role}\"")),
        select(vec!["ada", "eve"]).prop_map(|user| format!("user = \"{user}\"")),
        subsequence(vec!["any", "none", "sso", "cert"], 1..2)
            .prop_map(|auth| format!("auth = {auth:?}")),
        Just("claim.plan = \"pro\"".to_owned()),
        select(vec!["a.example", "*.example", "*.a.example", "*"])
            .prop_map(|host| format!("host = \"{host}\"")),
        select(vec!["http", "https"]).prop_map(|scheme| format!("scheme = \"{scheme}\"")),
        select(vec!["1.2", "1.3"]).prop_map(|version| format!("tls.version = \"{version}\"")),
        any::<bool>().prop_map(|held| format!("tls.client_cert = {held}")),
        Just("upgrade = \"websocket\"".to_owned()),
        number.clone().prop_map(|n| format!("header.x-a = \"{n}\"")),
        number.clone().prop_map(|n| format!("query.q = \"{n}\"")),
        number.prop_map(|n| format!("cookie.c = \"{n}\"")),
        Just("time = \"@day\"".to_owned()),
    ]
}

/// Several tests with different keys. The more there are, the less often all of them hold.
fn tests() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(test(), 1..=4).prop_map(|tests| {
        let mut keys = std::collections::BTreeSet::new();
        let key = |test: &String| test.split(['.', ' ']).next().map(str::to_owned);
        tests
            .into_iter()
            .filter(|test| keys.insert(key(test)))
            .collect()
    })
}

fn unless(ends: bool) -> impl Strategy<Value = Option<String>> {
    let until = if ends {
        vec!["", ", until = 2020-01-01", ", until = 2999-01-01"]
    } else {
        vec![""]
    };
    let one =
        (proptest::collection::vec(test(), 1..=2), select(until)).prop_map(|(mut tests, until)| {
            let key = |test: &String| test.split(['.', ' ']).next().map(str::to_owned);
            tests.dedup_by_key(|test| key(test));
            format!("{{ {}{until} }}", tests.join(", "))
        });
    let some =
        proptest::collection::vec(one, 1..3).prop_map(|t| format!("unless = [{}]", t.join(", ")));
    proptest::option::of(some)
}

fn long_deny() -> impl Strategy<Value = String> {
    let shadow = proptest::bool::weighted(0.1);
    (tests(), unless(true), shadow).prop_map(|(tests, unless, shadow)| {
        let shadow = if shadow { "shadow = true" } else { "" };
        format!(
            "{}\n{}\n{shadow}",
            tests.join("\n"),
            unless.unwrap_or_default()
        )
    })
}

fn long_allow() -> impl Strategy<Value = String> {
    let more = select(vec![
        None,
        Some("until = 2999-01-01"),
        Some("until = 2020-01-01"),
        Some("shadow = true"),
    ]);
    (tests(), unless(true), more).prop_map(|(tests, unless, more)| {
        let more = more.map(str::to_owned);
        let parts: Vec<String> = tests.into_iter().chain(unless).chain(more).collect();
        format!("{{ {} }}", parts.join(", "))
    })
}

/// Rules that look at the same and mostly fail, by a field or by an exception: the first that holds is far behind.
fn alike() -> impl Strategy<Value = Vec<String>> {
    let unless = prop_oneof![
        (0u8..8).prop_map(|n| format!("{{ ip = \"10.{n}.0.0/16\" }}")),
        (0u8..8).prop_map(|n| format!("{{ ip = \"10.{n}.0.0/16\", method = \"PUT\" }}")),
        (0u8..8).prop_map(|n| format!("{{ peer = \"10.{n}.0.0/16\", query.q = \"7\" }}")),
        select(vec!["NL", "US", "unlisted"]).prop_map(|code| format!("{{ country = \"{code}\" }}")),
        select(vec!["viewer", "other"]).prop_map(|role| format!("{{ role = \"{role}\" }}")),
    ];
    let field = prop_oneof![
        (0u8..6).prop_map(|n| format!("header.x-a = \"{n}\"")),
        (0u8..6).prop_map(|n| format!("query.q = \"{n}\"")),
        Just("cookie.c = { present = true }".to_owned()),
    ];
    let methods =
        subsequence(vec!["GET", "POST", "PUT"], 2..=3).prop_map(|m| format!("method = {m:?}"));
    let unless = proptest::collection::vec(unless, 1..=3)
        .prop_map(|t| format!("unless = [{}]", t.join(", ")));
    (methods, field, unless).prop_map(|(methods, field, unless)| vec![methods, field, unless])
}

fn alike_deny() -> impl Strategy<Value = String> {
    alike().prop_map(|parts| parts.join("\n"))
}

fn alike_allow() -> impl Strategy<Value = String> {
    alike().prop_map(|parts| format!("{{ {} }}", parts.join(", ")))
}

/// A pool of rules, repeated to the size that is wanted: few different ones, many places.
fn list<S: Strategy<Value = String>>(rule: fn() -> S) -> impl Strategy<Value = Vec<String>> {
    (proptest::collection::vec(rule(), 70), size(), any::<u8>()).prop_map(|(pool, size, turn)| {
        pool.into_iter()
            .cycle()
            .skip(turn.into())
            .take(size)
            .collect()
    })
}

/// A policy of many kinds of rules, or of one.
fn policy_text() -> impl Strategy<Value = Written> {
    let many = (
        any::<bool>(),
        list(long_deny),
        list(long_deny),
        list(long_deny),
        list(long_allow),
    );
    let one = (
        any::<bool>(),
        list(alike_deny),
        list(alike_deny),
        list(alike_deny),
        list(alike_allow),
    );
    // Shadow rules alone but for one deny and one allow: their lists are as long as those of others.
    let shadows = (
        any::<bool>(),
        list(long_deny),
        list(long_deny),
        list(long_deny),
        list(long_allow),
    );
    let shadows = shadows.prop_map(|(identity, global, site, route, allows)| {
        let deny = |rules: Vec<String>| -> Vec<String> {
            let rules = rules.into_iter().enumerate();
            let shadow = |(at, rule): (usize, String)| {
                if at == 0 || rule.contains("shadow") {
                    rule
                } else {
                    format!("{rule}\nshadow = true")
                }
            };
            rules.map(shadow).collect()
        };
        let allow = |(at, rule): (usize, String)| {
            if at == 0 || rule.contains("shadow") {
                rule
            } else {
                rule.replacen('{', "{ shadow = true,", 1)
            }
        };
        let allows = allows.into_iter().enumerate().map(allow).collect();
        of_lists((identity, deny(global), deny(site), deny(route), allows))
    });
    prop_oneof![many.prop_map(of_lists), one.prop_map(of_lists), shadows]
}

/// Shadow allows alone are refused at load.
fn enforced(mut allows: Vec<String>) -> Vec<String> {
    if !allows.is_empty() && allows.iter().all(|allow| allow.contains("shadow")) {
        allows.push("{ user = \"nobody\" }".to_owned());
    }
    allows
}

fn of_lists(
    (identity, global, site, route, allows): (
        bool,
        Vec<String>,
        Vec<String>,
        Vec<String>,
        Vec<String>,
    ),
) -> Written {
    Written {
        identity,
        global,
        site,
        routes: vec![
            ("/**", route, enforced(allows.clone())),
            ("/s1/**", vec![], enforced(allows)),
        ],
        step_up: None,
    }
}

/// A request over the whole vocabulary.
#[derive(Debug, Clone)]
struct Request {
    asked: Asked,
    tls: Option<TlsFacts>,
}

fn request() -> impl Strategy<Value = Request> {
    let target = prop_oneof![
        (0u8..6).prop_map(|n| format!("/s{n}/x")),
        (0u8..6).prop_map(|n| format!("/x/p{n}")),
        (0u8..6).prop_map(|n| format!("/S{n}/p?q={n}")),
        (0u8..6).prop_map(|n| format!("/s{n}%2Fp/p/q")),
        Just("/?q=1&q=2".to_owned()),
        Just("/s1/p/q/".to_owned()),
        Just("/?q=%zz".to_owned()),
    ];
    let region = (
        select(vec![None, Some("NL"), Some("US"), Some("NO")]),
        select(vec![None, Some(*b"EU"), Some(*b"NA")]),
        select(vec![None, Some(1u32), Some(64500)]),
        select(vec![
            GeoFacts::NONE,
            GeoFacts::NONE,
            GeoFacts::NONE,
            GeoFacts::ASN,
            GeoFacts::ALL,
        ]),
    );
    let tls = proptest::option::of((any::<bool>(), any::<bool>()));
    (
        asked(),
        target,
        (0u8..8, 0u8..8),
        region,
        tls,
        select(vec!["a", "a.example", "b.a.example"]),
        0u8..6,
    )
        .prop_map(
            |(mut asked, target, (client, peer), region, tls, host, n)| {
                asked.target = target;
                asked.client = [10, client, 0, 1].into();
                asked.peer = [10, peer, 0, 1].into();
                asked.host = host.into();
                asked.region = Region {
                    country: region.0.map(|code: &str| code.parse::<Country>().unwrap()),
                    continent: region.1.map(Continent),
                    asn: region.2,
                    failed: region.3,
                    ..asked.region
                };
                asked.websocket = n == 0;
                asked.scheme = if n % 2 == 0 {
                    Scheme::Http
                } else {
                    Scheme::Https
                };
                let value = HeaderValue::from_str(&n.to_string()).unwrap();
                asked.headers =
                    HeaderMap::from_iter([(http::HeaderName::from_static("x-a"), value)]);
                let tls = tls.map(|(new, client_cert)| TlsFacts {
                    version: if new {
                        TlsVersion::V1_3
                    } else {
                        TlsVersion::V1_2
                    },
                    client_cert,
                });
                Request { asked, tls }
            },
        )
}

type Judged = Result<(Place, First, Option<Decision>, bool, Vec<Shadowed>), Ambiguous>;

/// Everything that the engine says, by the doors that the gate uses, and whether a region was looked up.
fn judge(policy: &Policy, request: &Request) -> Judged {
    let Request { asked, tls } = request;
    let target = Target::read(&asked.target).unwrap();
    let place = policy.locate(&asked.host, &target)?;
    let looked = std::cell::Cell::new(false);
    let lookup = |_: IpAddr| {
        looked.set(true);
        asked.region
    };
    let mut facts = Facts {
        peer: asked.peer,
        client: asked.client,
        method: &asked.method,
        scheme: asked.scheme,
        host: &asked.host,
        target: &target,
        headers: &asked.headers,
        tls: *tls,
        websocket: asked.websocket,
        now: "2026-11-24T12:00:00Z".parse().unwrap(),
        identity: Identity::Open,
        device: None,
        lookup: &lookup,
        region: OnceCell::new(),
    };
    let (first, notes) = policy.first_noting(&facts, place);
    let person;
    facts.identity = match &asked.caller {
        Caller::Nobody | Caller::Invalid => Identity::Anonymous,
        Caller::Failed => Identity::Failed,
        Caller::Known(principal) => {
            person = policy.person(std::sync::Arc::clone(principal));
            Identity::Known(&person)
        }
    };
    let second = (first == First::SignIn).then(|| {
        let second = policy.second(&facts, place, Credential::Absent);
        let noted = policy.second_noting(&facts, place, Credential::Absent, notes);
        assert_eq!(noted, second, "what the first judgement settled stays so");
        second
    });
    let looked = looked.get();
    let shadowed = match (first, second) {
        (First::Decided(live), _) => policy.shadowed(&facts, place, Stage::Unseen, live),
        (First::SignIn, Some(live)) => {
            policy.shadowed(&facts, place, Stage::Seen(Credential::Absent), live)
        }
        (First::SignIn, None) => panic!("it was judged again"),
    };
    Ok((place, first, second, looked, shadowed.to_vec()))
}

fn both(written: &Written) -> (Policy, Policy) {
    let text = format!(
        "[time]\nday = {{ zone = \"UTC\", days = \"mon-sun\", from = \"08:00\", to = \"20:00\" }}\n{}",
        written
            .text()
            .replace("host = [\"a\"]", "host = [\"a\", \"*.example\"]")
    );
    let errors = |found: Vec<crate::config::Diagnostic>| -> Vec<_> {
        let found = found
            .into_iter()
            .filter(|d| d.severity == crate::config::Severity::Error);
        found.collect()
    };
    let (_, indexed, found) = read(&text);
    let errors = errors(found);
    assert!(errors.is_empty(), "{errors:?}");
    (indexed, read(&text).1.plain())
}

/// Rules whose exception looks at more than the identity are open without waiting for it by their form: the first judgement
/// leaves them unsettled, and the second must look at them again.
#[test]
fn what_is_still_open_is_judged_again() {
    let excepted = "unless = [{ role = \"r\", ip = \"10.0.0.0/8\" }]";
    let needs = "allow = [{ role = \"r\" }, { role = \"s\" }, { role = \"t\" }, { role = \"u\" }]";
    for (deny, allow, want, why) in [
        (
            excepted,
            needs,
            "deny",
            "a deny that the stranger does not escape",
        ),
        (
            "ip = \"192.0.2.1\"",
            needs,
            "sign in",
            "nothing but the allows",
        ),
        (
            "ip = \"192.0.2.1\"",
            "allow = [{ ip = \"10.0.0.0/8\", unless = [{ role = \"r\", ip = \"10.0.0.0/8\" }] }, { role = \"s\" }, { role = \"t\" }, { role = \"u\" }]",
            "allow",
            "an allow whose exception the stranger does not meet",
        ),
    ] {
        for size in [SCAN_MAX - 1, SCAN_MAX, SHORT_MAX - 1, SHORT_MAX, 130] {
            let mut text = String::new();
            for number in 0..size {
                text.push_str(&format!(
                    "[[deny]]\nname = \"d{number}\"\nip = \"192.0.2.{number}\"\n"
                ));
            }
            text.push_str(&format!(
                "[[deny]]\nname = \"open\"\nstatus = 404\n{deny}\n[[site]]\nhost = [\"a\"]\nupstream = \"u\"\nidentity = [\"sso\"]\n{allow}\n"
            ));
            let (_, policy, found) = read(&text);
            assert!(
                found.iter().all(|finding| finding.code != "syntax"),
                "{found:?}"
            );
            let request = Request {
                asked: Asked {
                    host: "a".to_owned(),
                    target: "/".to_owned(),
                    client: [10, 0, 0, 1].into(),
                    peer: [10, 0, 0, 1].into(),
                    region: Region::default(),
                    method: http::Method::GET,
                    scheme: Scheme::Http,
                    tls: None,
                    headers: HeaderMap::new(),
                    websocket: false,
                    now: jiff::Timestamp::UNIX_EPOCH,
                    caller: Caller::Nobody,
                    device: None,
                },
                tls: None,
            };
            let (_, first, second, _, _) = judge(&policy, &request).unwrap();
            assert_eq!(first, First::SignIn, "{why}, {size}");
            let got = match second.unwrap().verdict {
                Verdict::Refuse(_) => "deny",
                Verdict::NotAuthenticated => "sign in",
                Verdict::Allow => "allow",
                other => panic!("{other:?}"),
            };
            assert_eq!(got, want, "{why}, {size}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None, cases: 30, max_shrink_iters: 400, ..Default::default()
    })]

    #[test]
    fn the_indexed_engine_equals_the_plain_one(
        written in policy_text(),
        requests in proptest::collection::vec(request(), 40),
    ) {
        let (indexed, plain) = both(&written);
        for request in &requests {
            let (got, want) = (judge(&indexed, request), judge(&plain, request));
            let same = match (&got, &want) {
                (Ok(got), Ok(want)) => {
                    (got.0, got.1, got.2, &got.4) == (want.0, want.1, want.2, &want.4)
                }
                (Err(_), Err(_)) => true,
                (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
            };
            prop_assert!(same, "{:?} is not {:?}\n{:?}\n{}", got, want, request, written.text());
        }
    }

    #[test]
    fn the_indexed_engine_equals_the_oracle(
        written in (any::<bool>(), list(deny), list(deny), list(properties::allow)).prop_map(
            |(identity, global, site, allows)| Written {
                identity, global, site, routes: vec![("/**", vec![], allows)],
                step_up: Some(("/**", "acr = \"mfa\", max_age = \"5min\"")),
            },
        ),
        asked in proptest::collection::vec(asked(), 12),
    ) {
        let (root, policy) = written.policy();
        for asked in &asked {
            prop_assert_eq!(told(&policy, asked), oracle::decide(&root, asked), "{:?}\n{}", asked, written.text());
        }
    }
}
