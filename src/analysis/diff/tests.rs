//! Each kind of change, and the comparison against the evaluator.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use proptest::prelude::*;

use super::super::tests::{number, policy, told};
use super::*;
use crate::policy::simulate::Caller;
use crate::policy::tests::properties::{asked, deny, written};
use crate::value::region::GeoFacts;

const BUDGET: Budget = Budget {
    cell: 1_000_000,
    whole: 10_000_000,
};

const HEAD: &str = "[identity.sso]\n[country]\nlicensed = [\"NL\", \"BE\"]\nfewer = [\"NL\"]\n";

fn site(rest: &str) -> String {
    format!("[[site]]\nhost = [\"a\"]\nupstream = \"u\"\nidentity = [\"sso\"]\n{rest}")
}

/// What changes, a line for each region.
fn lines(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (policy(old), policy(new));
    let now = "2026-11-24T00:00:00Z".parse().unwrap();
    let found = diff(&old, &new, now, BUDGET);
    assert!(found.untold.is_empty());
    let side = |side: &Side, policy: &Policy| {
        let endings = side.endings.iter().map(|ending| match ending {
            Ending::Allow => "allow".to_owned(),
            Ending::SignIn => "401".to_owned(),
            Ending::CertificateRequired => "certificate".to_owned(),
            Ending::NoSite => "421".to_owned(),
            Ending::NoRoute => "404".to_owned(),
            Ending::Refuse(refusal) => refusal.status.code().to_string(),
        });
        let rules = side
            .rules
            .iter()
            .map(|id| policy.rule(*id).name.to_string());
        let endings: Vec<String> = endings.collect();
        let rules: Vec<String> = rules.collect();
        format!("{} [{}]", endings.join("/"), rules.join(" "))
    };
    let line = |region: &Region| {
        let places = region.places.iter();
        let places: Vec<String> = places
            .map(|at| format!("{}{}", at.hosts, at.path))
            .collect();
        let cases: Vec<String> = region.cases.iter().map(|case| case.join(" & ")).collect();
        if region.depends.is_empty() {
            assert!(region.example.is_some(), "{region:?}");
        }
        format!(
            "{:?} {} | {} | {} -> {}",
            region.change,
            places.join(" "),
            cases.join(" or "),
            side(&region.old, &old),
            side(&region.new, &new)
        )
    };
    found.regions.iter().map(line).collect()
}

#[test]
fn every_kind_of_change_is_told() {
    let route = |allow: &str| {
        site(&format!(
            "[[site.route]]\npath = \"/x/**\"\nallow = {allow}\n"
        ))
    };
    let all = |rest: &str| site(&format!("allow = \"anyone\"\n{rest}"));
    let mut wrong = Vec::new();
    let deny = |name: &str, rest: &str| format!("[[site.deny]]\nname = \"{name}\"\n{rest}\n");
    for (old, new, want, why) in [
        (route("\"anyone\""), route("\"anyone\""), &[][..], "nothing"),
        (
            route("[{ role = \"a\" }]"),
            route("[{ role = \"a\" }, { ip = \"10.0.0.0/8\" }]"),
            &[
                "Allowed a/x/** | ip = \"10.0.0.0/8\" & not role = \"a\" | 401/403 [] -> allow [a/x/**#2]",
            ],
            "a new allow",
        ),
        (
            route("[{ ip = \"10.0.0.0/8\" }]"),
            route("[{ ip = \"10.0.0.0/16\" }]"),
            &[
                "Denied a/x/** | ip = \"10.0.0.0/8\" and not ip = \"10.0.0.0/16\" | allow [a/x/**#1] -> 403 []",
            ],
            "a narrower allow",
        ),
        (
            all(&deny("d", "country = \"NL\"")),
            all(""),
            &["Allowed a/** | country = \"NL\" | 403 [d] -> allow []"],
            "a deny that is gone",
        ),
        (
            all(&deny("d", "unless = [{ country = \"@licensed\" }]")),
            all(&deny("d", "unless = [{ country = \"@fewer\" }]")),
            &["Denied a/** | not country = \"@fewer\" | allow [] -> 403 [d]"],
            "fewer countries: of those who passed",
        ),
        (
            all(&(deny("d", "country = \"NL\"") + &deny("e", "method = \"PUT\""))),
            all(&(deny("e", "method = \"PUT\"") + &deny("d", "country = \"NL\""))),
            &[],
            "another order",
        ),
        (
            all(&deny("d", "country = \"NL\"")),
            all(&deny("renamed", "country = \"@fewer\"")),
            &[],
            "another name, and a set that says the same",
        ),
        (
            all(&deny("d", "header.x-a = \"1\"")),
            all(&deny("d", "header.x-a = \"2\"")),
            &[
                "Allowed a/** | header.x-a = \"1\" | 403 [d] -> allow []",
                "Denied a/** | header.x-a = \"2\" | allow [] -> 403 [d]",
            ],
            "another header",
        ),
        (
            all(&deny("d", "header.x-a = { regex = \"[0-9]{3}\" }")),
            all(""),
            &["Allowed a/** | header.x-a = { regex = \"[0-9]{3}\" } | 403 [d] -> allow []"],
            "what cannot be made has no example",
        ),
        (
            route("[{ role = \"a\", until = 2027-01-01T00:00:00Z }]"),
            route("[{ role = \"a\", until = 2026-12-01T00:00:00Z }]"),
            &[
                "Denied a/x/** | from 2026-12-02T00:00:00Z until 2027-01-02T00:00:00Z | allow [a/x/**#1] -> 403 []",
                "Answered a/x/** | from 2026-12-02T00:00:00Z until 2027-01-02T00:00:00Z & nobody is signed in | 401 [] -> 403 []",
            ],
            "an earlier end",
        ),
        (
            route("[{ role = \"a\", until = 2025-01-01T00:00:00Z }]"),
            route("[{ role = \"a\", until = 2026-01-01T00:00:00Z }]"),
            &[],
            "both ends are over",
        ),
        (
            all(&deny("d", "country = \"NL\"")),
            all(&deny("d", "country = \"NL\"\nstatus = 451")),
            &["Answered a/** | country = \"NL\" | 403 [d] -> 451 [d]"],
            "another status",
        ),
        (
            site("[[site.route]]\npath = \"/**\"\nallow = \"anyone\"\n"),
            site(
                "[[site.route]]\npath = \"/**\"\nallow = \"anyone\"\n[[site.route]]\npath = \"/a/*\"\nallow = [{ auth = \"any\" }]\n",
            ),
            &["Denied a/a/* | nobody is signed in | allow [] -> 401 []"],
            "a route that takes paths from another",
        ),
        (
            site("[[site.route]]\npath = \"/a\"\nallow = \"anyone\"\n"),
            site("[[site.route]]\npath = \"/b\"\nallow = \"anyone\"\n"),
            &[
                "Allowed a/b |  | 404 [] -> allow []",
                "Denied a/a |  | allow [] -> 404 []",
            ],
            "another path",
        ),
        (
            site("[[site.route]]\npath = \"/a\"\nallow = \"anyone\"\n"),
            site(
                "[[site.route]]\npath = \"/a\"\nallow = \"anyone\"\n[[site.route]]\npath = \"/a/\"\nallow = [{ ip = \"10.0.0.0/8\" }]\n",
            ),
            &["Denied a/a/ | not ip = \"10.0.0.0/8\" | allow [] -> 403 []"],
            "a route for the trailing slash",
        ),
        (
            all(&deny("d", "path = \"/p/**\"\ncountry = \"NL\"")),
            all(&deny("d", "path = \"/p/*/q\"\ncountry = \"NL\"")),
            &["Allowed a/** | path = /p/** & country = \"NL\" | 403 [d] -> allow []"],
            "a narrower path",
        ),
        (
            all(""),
            all("").replace("[\"a\"]", "[\"a\", \"*.b\"]"),
            &["Allowed *.b/** |  | 421 [] -> allow []"],
            "a new host",
        ),
        (
            all(&deny("d", "host = \"a\"\nmethod = \"GET\"")),
            all(&deny("d", "host = \"b\"\nmethod = \"GET\"")),
            &["Allowed a/** | method = \"GET\" | 403 [d] -> allow []"],
            "a test of the host",
        ),
    ] {
        let (old, new) = (format!("{HEAD}{old}"), format!("{HEAD}{new}"));
        let got = lines(&old, &new);
        if got != want {
            wrong.push(format!("{why}: {got:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_hierarchy_and_a_set_may_change_what_a_rule_means() {
    let text = |roles: &str, net: &str| {
        format!(
            "[identity.sso]\n[role]\nadmin = [{roles}]\neditor = []\n[ip]\noffice = [\"{net}\"]\n{}",
            site("allow = [{ role = \"editor\", ip = \"@office\" }]\n")
        )
    };
    assert_eq!(
        lines(&text("", "10.0.0.0/8"), &text("\"editor\"", "10.0.0.0/8")),
        [
            "Allowed a/** | ip = \"@office\" & not role = \"editor\" (old) | 403 [] -> allow [a/**#1]"
        ]
    );
    assert_eq!(
        lines(&text("", "10.0.0.0/8"), &text("", "10.0.0.0/7")),
        [
            "Allowed a/** | ip = \"@office\" (new) and not ip = \"@office\" (old) | 403 [] -> allow [a/**#1]",
            "Answered a/** | ip = \"@office\" (new) and not ip = \"@office\" (old) & nobody is signed in | 403 [] -> 401 []",
        ]
    );
}

#[test]
fn what_is_too_large_is_not_called_equal() {
    let rules: String = (0..50)
        .map(|n| format!("[[site.deny]]\nname = \"d{n}\"\nheader.x-{n} = \"1\"\nunless = [{{ header.y-{n} = \"1\" }}]\n"))
        .collect();
    let old = policy(
        &site(&format!("allow = \"anyone\"\n{rules}")).replace("identity = [\"sso\"]\n", ""),
    );
    let new = policy(&site("allow = \"anyone\"\n").replace("identity = [\"sso\"]\n", ""));
    let small = Budget {
        cell: 100,
        whole: 1000,
    };
    let found = diff(&old, &new, Timestamp::UNIX_EPOCH, small);
    assert!(found.regions.is_empty());
    assert_eq!(found.untold.len(), 1);
}

#[test]
fn many_routes_and_paths_stay_within_the_budget() {
    let mut old = String::new();
    for n in 0..60 {
        old.push_str(&format!(
            "[[deny]]\nname = \"below{n}\"\npath = \"/section{n}/**\"\nmethod = \"POST\"\n"
        ));
        old.push_str(&format!(
            "[[deny]]\nname = \"in{n}\"\npath = \"/*/secret{n}\"\nrole = \"r{}\"\n",
            n % 5
        ));
    }
    let mut routes = site("[[site.route]]\npath = \"/**\"\nallow = \"anyone\"\n");
    for n in 0..500 {
        routes.push_str(&format!(
            "[[site.route]]\npath = \"/r{n}/**\"\nallow = [{{ role = \"r{}\" }}]\n",
            n % 5
        ));
    }
    let more = "[[deny]]\nname = \"more\"\nmethod = \"PUT\"\n";
    let (new, old) = (
        format!("[identity.sso]\n{more}{old}{routes}"),
        format!("[identity.sso]\n{old}{routes}"),
    );
    let found = diff(&policy(&old), &policy(&new), Timestamp::UNIX_EPOCH, BUDGET);
    assert!(found.untold.is_empty(), "{:?}", found.untold);
    let denied = found
        .regions
        .iter()
        .filter(|region| region.change == Change::Denied);
    let denied: Vec<_> = denied
        .map(|region| (&region.cases, &*region.places[0].path))
        .collect();
    assert_eq!(
        denied,
        [(&vec![vec!["method = \"PUT\"".to_owned()]], EVERY_PATH)]
    );
    assert!(found.regions.len() < 10, "{:#?}", found.regions);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 80, ..Default::default() })]

    /// Whoever ends otherwise is in a region, and nobody else is.
    #[test]
    fn the_regions_are_the_requests_that_end_otherwise(
        one in written(),
        other in written(),
        more in deny(),
        near in any::<bool>(),
        asked in proptest::collection::vec(asked(), 12),
    ) {
        // Policies that have much in common, or nothing.
        let other = if near {
            let mut other = one.clone();
            other.site.push(more);
            other.global.reverse();
            other.routes.truncate(2);
            other
        } else {
            other
        };
        let (old, new) = (one.policy().1, other.policy().1);
        let found = diff(&old, &new, Timestamp::UNIX_EPOCH, BUDGET);
        prop_assert!(found.untold.is_empty());
        for region in &found.regions {
            let Some(example) = &region.example else { panic!("{region:?}") };
            let (before, after) = (told(&old, &example.0).unwrap(), told(&new, &example.1).unwrap());
            prop_assert!(before != after, "{:?}", region);
            prop_assert!(region.old.endings.contains(&before) && region.new.endings.contains(&after));
        }
        let book = Book::new(vec![&old, &new], Timestamp::UNIX_EPOCH);
        for hosts in book.hosts().iter().filter(|hosts| &*hosts.example == "a") {
            let mut owned = vec![0; asked.len()];
            for cell in book.cells(hosts) {
                let mut space = cell.space(&book, 1_000_000).unwrap();
                let requests = cell.requests(&mut space);
                let changed = changed(&cell.views[0], &cell.views[1]);
                let region = changed.map_or(FALSE, |changed| changed.region(requests, &mut space));
                for (asked, owned) in asked.iter().zip(&mut owned) {
                    let mut asked = asked.clone();
                    asked.region.failed = GeoFacts::NONE;
                    if matches!(asked.caller, Caller::Failed) {
                        asked.caller = Caller::Nobody;
                    }
                    if number(&space, requests, &asked) == 0 {
                        continue;
                    }
                    *owned += 1;
                    let differs = |at: usize| {
                        let site = cell.views[at].sources();
                        let mut asked = asked.clone();
                        if matches!(&asked.caller, Caller::Known(p) if !site.contains(&p.source)) {
                            asked.caller = Caller::Nobody;
                        }
                        told(book.policies[at], &asked)
                    };
                    let (before, after) = (differs(0), differs(1));
                    if number(&space, region, &asked) == 0 {
                        prop_assert_eq!(before, after, "{:?}\n{}\n{}", asked, one.text(), other.text());
                        continue;
                    }
                    let judged = [0, 1].map(|at| cell.judged(at, region, &mut space).unwrap());
                    let ends = |at: usize| book.ending(number(&space, judged[at].ending, &asked)).clone();
                    prop_assert_eq!((before, after), (Some(ends(0)), Some(ends(1))), "{:?}", asked);
                }
            }
            prop_assert!(owned.iter().all(|owned| *owned == 1), "{owned:?}\n{}\n{}", one.text(), other.text());
        }
    }
}
