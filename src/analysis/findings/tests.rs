//! No finding is a false alarm, and on small policies none is missed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests may stop at the first surprise"
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Map;

use super::{Closed, Finding, Given, Never, What, find};
use crate::config::Context;
use crate::config::compile::rules;
use crate::config::node::{self, FileId};
use crate::policy::draft::{Draft, Grant};
use crate::policy::mutate::{self, Change};
use crate::policy::simulate::{self, Asked, Caller, Outcome};
use crate::policy::tests::properties::{asked, written};
use crate::policy::{Policy, RouteId, RuleId, SiteId};
use crate::value::principal::Principal;
use crate::value::region::{Anonymizers, GeoFacts};

fn draft(text: &str) -> Draft {
    let (root, syntax) = node::parse(text, FileId(0));
    assert!(syntax.is_empty(), "{syntax:?}\n{text}");
    let mut cx = Context::default();
    let draft = rules::draft(&root, GeoFacts::ALL, &mut cx);
    assert!(!cx.report.refused(), "{:?}\n{text}", cx.report.diagnostics);
    draft
}

fn found(policy: &Policy) -> Vec<Finding> {
    let given = Given {
        now: Timestamp::UNIX_EPOCH,
        changes: &|_| false,
        by_country: &[],
    };
    let found = find(policy, &given);
    assert_eq!(found.untold, 0);
    found.findings
}

/// What was found, in a few words.
fn told(text: &str) -> Vec<String> {
    let policy = Policy::new(draft(text));
    let name = |rule: &RuleId| policy.rule(*rule).name.to_string();
    let names = |rules: &[RuleId]| rules.iter().map(name).collect::<Vec<_>>().join("+");
    let found = found(&policy);
    let told = found.iter().map(|finding| match &finding.what {
        What::NeverMatches { rule, why } => match why {
            Never::Contradiction(words) => format!("{} never: {}", name(rule), words.join(" & ")),
            Never::Excepted => format!("{} never: excepted", name(rule)),
            Never::Elsewhere => format!("{} never: elsewhere", name(rule)),
        },
        What::Covered { rule, by } => format!("{} by {}", name(rule), names(by)),
        What::DeadException { rule, entry } => format!("{} but {entry}", name(rule)),
        What::ClosedRoute { route, why, .. } => match why {
            Closed::Unowned => format!("{} unowned", route.0),
            Closed::NoAllow => format!("{} allows nobody", route.0),
            Closed::Denied(by) => format!("{} closed by {}", route.0, names(by)),
        },
        What::LooserRoute {
            route,
            around,
            lacks,
            ..
        } => {
            format!("{} looser than {}: {}", route.0, around.0, names(lacks))
        }
        What::Unlisted { rule } => format!("{} unlisted", name(rule)),
    });
    told.collect()
}

/// A site with an identity source; `rules` stand before its routes.
fn site(rules: &str, routes: &str) -> String {
    format!(
        "[role]\nadmin = [\"viewer\"]\n[identity.sso]\n[[site]]\nhost = [\"a\"]\nupstream = \"u\"\nidentity = [\"sso\"]\n{rules}\n{routes}\n"
    )
}

fn deny(name: &str, rest: &str) -> String {
    format!("[[site.deny]]\nname = \"{name}\"\n{rest}\n")
}

fn route(path: &str, allow: &str) -> String {
    format!("[[site.route]]\npath = \"{path}\"\nallow = {allow}\n")
}

#[test]
fn each_kind_is_found_and_its_neighbour_is_not() {
    let mut wrong = Vec::new();
    let open = route("/**", "\"anyone\"");
    let two = |one: &str, other: &str| site(&(deny("one", one) + &deny("two", other)), &open);
    for (text, want, why) in [
        (
            site(&deny("d", "role = \"admin\"\nauth = \"none\""), &open),
            &["d never: role & auth"][..],
            "nobody has a role without a name",
        ),
        (
            site(&deny("d", "role = \"admin\"\nauth = \"sso\""), &open),
            &[],
            "somebody has both",
        ),
        (
            site(
                &deny(
                    "d",
                    "ip = \"10.0.0.0/8\"\nunless = [{ ip = \"10.0.0.0/7\" }]",
                ),
                &open,
            ),
            &["d never: excepted"],
            "all of it",
        ),
        (
            site("", &(route("/a/**", "[{ path = \"/b/**\" }]") + &open)),
            &["0 allows nobody", "a/a/**#1 never: elsewhere"],
            "paths of another route",
        ),
        (
            two("ip = \"10.0.0.0/8\"", "ip = \"10.1.0.0/16\""),
            &["two by one"],
            "a smaller network",
        ),
        (
            two("ip = \"10.0.0.0/8\"", "ip = \"10.1.0.0/16\"\nstatus = 404"),
            &["two by one"],
            "the first decides the status",
        ),
        (
            two("ip = \"10.1.0.0/16\"\nstatus = 404", "ip = \"10.0.0.0/8\""),
            &[],
            "another status, and the first that matches decides",
        ),
        (
            two("ip = \"10.0.0.0/8\"", "ip = \"10.0.0.0/8\""),
            &["two by one"],
            "of two that say the same the first stays",
        ),
        (
            two("ip = \"10.0.0.0/8\"", "role = \"admin\""),
            &[],
            "they share some requests",
        ),
        (
            site(
                &(deny("get", "method = \"GET\"")
                    + &deny("v4", "ip = \"10.0.0.0/9\"")
                    + &deny("v5", "ip = \"10.128.0.0/9\"")
                    + &deny("both", "ip = \"10.0.0.0/8\"")),
                &open,
            ),
            &["both by v4+v5"],
            "together, and the third is spared",
        ),
        (
            site(
                "",
                &route("/**", "[{ role = \"viewer\" }, { role = \"admin\" }]"),
            ),
            &["a/**#2 by a/**#1"],
            "an admin is a viewer",
        ),
        (
            site(
                &deny("d", "ip = \"10.0.0.0/8\""),
                &route("/**", "[{ role = \"viewer\" }, { ip = \"10.1.0.0/16\" }]"),
            ),
            &["a/**#2 by d"],
            "whoever it lets pass is refused",
        ),
        (
            site(
                &deny(
                    "d",
                    "ip = \"10.0.0.0/8\"\nunless = [{ ip = \"10.1.0.0/16\" }, { ip = \"192.0.2.0/24\" }]",
                ),
                &open,
            ),
            &["d but 1"],
            "the second is no part of the network",
        ),
        (
            site(
                &deny(
                    "d",
                    "ip = \"10.0.0.0/8\"\nunless = [{ ip = \"10.1.0.0/16\" }, { ip = \"10.1.0.0/16\", role = \"admin\" }]",
                ),
                &open,
            ),
            &["d but 1"],
            "the first excepts it already",
        ),
        (
            site(
                &deny("d", "unless = [{ role = \"admin\" }]"),
                &route("/**", "[{ auth = \"none\" }]"),
            ),
            &["0 closed by d"],
            "who may is refused",
        ),
        (
            site(
                "",
                &(route("/**", "\"anyone\"")
                    + "[[site.route.deny]]\nname = \"n\"\ncountry = \"NO\"\n"
                    + &route("/a/**", "\"anyone\"")),
            ),
            &["1 looser than 0: n"],
            "a deny is not inherited",
        ),
        (
            site(
                "",
                &(route("/**", "\"anyone\"")
                    + "[[site.route.deny]]\nname = \"n\"\ncountry = \"NO\"\n"
                    + &route("/a/**", "\"anyone\"")
                    + "[[site.route.deny]]\nname = \"o\"\ncountry = \"SE\"\n"),
            ),
            &[],
            "somebody has thought of countries",
        ),
        (
            site(
                "",
                &(route("/**", "[{ role = \"admin\" }]")
                    + &route("/a/**", "[{ role = \"viewer\" }]")),
            ),
            &["1 looser than 0: "],
            "every admin and more",
        ),
        (
            site(
                "",
                &(route("/**", "[{ role = \"viewer\" }]")
                    + &route("/a/**", "[{ user = \"ada\" }]")),
            ),
            &[],
            "others, not more",
        ),
        (
            site(
                "",
                &(route("/**", "[{ role = \"viewer\" }]") + &route("/health", "\"anyone\"")),
            ),
            &[],
            "open, and meant so",
        ),
        (
            site(
                "",
                &route(
                    "/**",
                    "[{ header.x-a = \"1\", role = \"admin\" }, { role = \"viewer\" }]",
                ),
            ),
            &["a/**#1 by a/**#2"],
            "whatever the header says",
        ),
        (
            two("header.x-a = { regex = \"^a\" }", "header.x-a = \"a\""),
            &[],
            "nobody can tell what a regular expression holds",
        ),
    ] {
        let found = told(&text);
        if found != want {
            wrong.push(format!("{why}: {found:?}, not {want:?}\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_changes_without_the_policy_is_not_told() {
    let text = site(
        &(deny("one", "ip = \"10.0.0.0/8\"") + &deny("two", "ip = \"10.1.0.0/16\"")),
        &route("/**", "\"anyone\""),
    );
    let policy = Policy::new(draft(&text));
    for moving in ["one", "two"] {
        let given = Given {
            now: Timestamp::UNIX_EPOCH,
            changes: &|rule| *policy.rule(rule).name == *moving,
            by_country: &[],
        };
        assert!(find(&policy, &given).findings.is_empty(), "{moving}");
    }
}

/// A request whose facts are all available.
fn plain(mut asked: Asked) -> Asked {
    asked.region.failed = GeoFacts::NONE;
    if matches!(asked.caller, Caller::Failed) {
        asked.caller = Caller::Nobody;
    }
    asked
}

/// Status and reason of an answer.
fn ends(policy: &Policy, asked: &Asked) -> (Option<u16>, Option<String>) {
    let outcome = simulate::judge(policy, asked);
    let reason = outcome.reason(policy);
    (
        outcome.status(policy),
        reason.map(|reason| reason.to_string()),
    )
}

fn without(draft: &Draft, change: Change, rule: RuleId) -> Policy {
    let mutants = mutate::every(draft);
    let mutant = mutants
        .iter()
        .find(|mutant| mutant.change == change && mutant.rule == Some(rule));
    Policy::new(mutant.unwrap().of(draft))
}

/// A policy with this rule alone: a deny guards what it guards and everything else is open; an allow is the only one of its
/// route.
fn alone(draft: &Draft, rule: RuleId) -> Policy {
    let mut draft = draft.clone();
    draft.denies.retain(|deny| deny.rule == rule);
    for site in &mut draft.sites {
        site.denies.retain(|deny| deny.rule == rule);
        for route in &mut site.routes {
            route.denies.retain(|deny| deny.rule == rule);
            if let Grant::Rules(allows) = &mut route.grant {
                if allows.iter().any(|allow| allow.rule == rule) {
                    allows.retain(|allow| allow.rule == rule);
                } else {
                    route.grant = Grant::Anyone;
                }
            }
        }
    }
    Policy::new(draft)
}

/// Whether a rule holds for a request, by the policy that has it alone and by the route that has it as an allow.
fn holds(alone: &Policy, allow_of: Option<(usize, usize)>, asked: &Asked) -> bool {
    let outcome = simulate::judge(alone, asked);
    let Outcome::Judged { place, .. } = outcome else {
        return false;
    };
    match allow_of {
        None => !matches!(outcome.status(alone), None | Some(404 | 421)) || hidden(alone, &outcome),
        Some((site, route)) => {
            let same = |id: u32, at: usize| usize::try_from(id) == Ok(at);
            let here = place.site.is_some_and(|SiteId(id)| same(id, site))
                && place.route.is_some_and(|RouteId(id)| same(id, route));
            here && outcome.status(alone).is_none()
        }
    }
}

/// Whether a deny answered with 404.
fn hidden(policy: &Policy, outcome: &Outcome) -> bool {
    let Outcome::Judged { decision, .. } = outcome else {
        return false;
    };
    outcome.status(policy) == Some(404) && decision.rule.is_some()
}

/// The allows of a draft by their routes.
fn allow_of(draft: &Draft, rule: RuleId) -> Option<(usize, usize)> {
    for (s, site) in draft.sites.iter().enumerate() {
        for (r, route) in site.routes.iter().enumerate() {
            if let Grant::Rules(allows) = &route.grant
                && allows.iter().any(|allow| allow.rule == rule)
            {
                return Some((s, r));
            }
        }
    }
    None
}

/// One request for each way in which the rules of [`written`] can tell requests apart.
fn grid(identity: bool) -> Vec<Asked> {
    let mut grid = Vec::new();
    let mut callers = vec![Caller::Nobody];
    for source in ["sso", "cert"].into_iter().filter(|_| identity) {
        for user in ["ada", "eve"] {
            for roles in [
                &[][..],
                &["viewer"],
                &["admin"],
                &["other"],
                &["viewer", "other"],
            ] {
                for pro in [false, true] {
                    let mut claims = Map::new();
                    if pro {
                        claims.insert("plan".into(), "pro".into());
                    }
                    callers.push(Caller::Known(Arc::new(Principal {
                        user: user.into(),
                        source: source.into(),
                        roles: roles.iter().map(|role| Arc::from(*role)).collect(),
                        claims,
                        device: Map::new(),
                        expires: None,
                    })));
                }
            }
        }
    }
    for target in ["/", "/a", "/a/b", "/x/b", "/a/b/c", "/c", "/a/x"] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            for client in ["10.1.2.3", "10.2.0.1", "192.0.2.1", "198.51.100.7"] {
                for peer in ["10.1.2.3", "198.51.100.7"] {
                    for country in [None, Some("NL"), Some("US")] {
                        for tor in [Anonymizers::default(), Anonymizers::TOR] {
                            for caller in &callers {
                                grid.push(Asked {
                                    host: "a".into(),
                                    target: target.into(),
                                    method: method.clone(),
                                    client: client.parse().unwrap(),
                                    peer: peer.parse().unwrap(),
                                    region: crate::value::region::Region {
                                        country: country.map(|code| code.parse().unwrap()),
                                        anonymizer: tor,
                                        ..Default::default()
                                    },
                                    scheme: crate::policy::facts::Scheme::Http,
                                    tls: None,
                                    headers: http::HeaderMap::new(),
                                    websocket: false,
                                    now: Timestamp::UNIX_EPOCH,
                                    caller: caller.clone(),
                                    device: None,
                                });
                            }
                        }
                    }
                }
            }
        }
    }
    grid
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..Default::default() })]

    #[test]
    fn no_finding_is_a_false_alarm(written in written(), asked in proptest::collection::vec(asked(), 60)) {
        let text = written.text();
        let draft = draft(&text);
        let policy = Policy::new(draft.clone());
        let asked: Vec<Asked> = asked.into_iter().map(plain).collect();
        for finding in found(&policy) {
            if let Some(proof) = &finding.proof {
                prop_assert_eq!(proof.outcome, simulate::judge(&policy, &proof.asked));
            }
            match &finding.what {
                What::NeverMatches { rule, .. } => {
                    let (alone, of) = (alone(&draft, *rule), allow_of(&draft, *rule));
                    for asked in &asked {
                        prop_assert!(!holds(&alone, of, asked), "{:?} {:?}\n{}", finding.what, asked, text);
                    }
                }
                What::Covered { rule, by } => {
                    let less = without(&draft, Change::Deleted, *rule);
                    let (one, of) = (alone(&draft, *rule), allow_of(&draft, *rule));
                    let others: Vec<_> = by.iter().map(|by| (alone(&draft, *by), allow_of(&draft, *by))).collect();
                    for asked in &asked {
                        prop_assert_eq!(ends(&policy, asked), ends(&less, asked), "{:?} {:?}\n{}", finding.what, asked, text);
                        let covered = !holds(&one, of, asked) || others.iter().any(|(other, of)| holds(other, *of, asked));
                        prop_assert!(covered, "{:?} {:?}\n{}", finding.what, asked, text);
                    }
                }
                What::DeadException { rule, entry } => {
                    let less = without(&draft, Change::Excepted(*entry), *rule);
                    for asked in &asked {
                        prop_assert_eq!(ends(&policy, asked).0.is_none(), ends(&less, asked).0.is_none(), "{:?} {:?}\n{}", finding.what, asked, text);
                    }
                }
                What::ClosedRoute { route, .. } => {
                    for asked in &asked {
                        if let Outcome::Judged { place, .. } = simulate::judge(&policy, asked) {
                            prop_assert!(place.route != Some(*route) || ends(&policy, asked).0.is_some(), "{:?} {:?}\n{}", finding.what, asked, text);
                        }
                    }
                }
                What::LooserRoute { route, .. } => {
                    // It is one request that proves it: it passes here.
                    let proof = finding.proof.as_ref().unwrap();
                    let Outcome::Judged { place, .. } = proof.outcome else { panic!("{proof:?}") };
                    prop_assert_eq!(place.route, Some(*route));
                    prop_assert!(proof.outcome.status(&policy).is_none());
                }
                What::Unlisted { .. } => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 6, ..Default::default() })]

    #[test]
    fn no_dead_rule_is_missed(written in written()) {
        // Where no route is, a deny that waits for an identity holds and decides nothing.
        prop_assume!(written.routes.iter().any(|(path, ..)| *path == "/**"));
        let text = written.text();
        let draft = draft(&text);
        let policy = Policy::new(draft.clone());
        let found = found(&policy);
        let dead: BTreeSet<RuleId> = found.iter().filter_map(|finding| match finding.what {
            What::NeverMatches { rule, .. } => Some(rule),
            _ => None,
        }).collect();
        let unowned: BTreeSet<(SiteId, RouteId)> = found.iter().filter_map(|finding| match &finding.what {
            What::ClosedRoute { site, route, why: Closed::Unowned } => Some((*site, *route)),
            _ => None,
        }).collect();
        let grid = grid(written.identity);
        for rule in (0..).map(RuleId).take(policy.rules().len()) {
            let (alone, of) = (alone(&draft, rule), allow_of(&draft, rule));
            let lives = grid.iter().any(|asked| holds(&alone, of, asked));
            if unowned.is_empty() {
                prop_assert_eq!(!lives, dead.contains(&rule), "{}\n{}", policy.rule(rule).name, text);
            }
        }
    }
}
