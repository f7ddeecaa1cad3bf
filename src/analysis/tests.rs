//! The diagrams against the evaluator.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests may stop at the first surprise"
)]

use std::net::IpAddr;

use jiff::Timestamp;
use proptest::prelude::*;

use super::book::{Asks, Book, Ending};
use super::cell::Cell;
use super::space::{Attribute, Space, System};
use super::witness::Witness;
use crate::config::Context;
use crate::config::compile::rules;
use crate::config::diagnostic::SourceFile;
use crate::config::node::{self, FileId};
use crate::policy::simulate::{self, Asked, Caller, Outcome};
use crate::policy::tests::properties::{asked, written};
use crate::policy::{Policy, Verdict};
use crate::value::path::{Target, segments};
use crate::value::region::GeoFacts;

pub(super) fn policy(text: &str) -> Policy {
    let (root, syntax) = node::parse(text, FileId(0));
    assert!(syntax.is_empty(), "{syntax:?}");
    let mut cx = Context::default();
    // Words are quoted from the file.
    cx.report.files.push(SourceFile {
        name: "policy.toml".into(),
        folder: ".".into(),
        text: text.into(),
    });
    let policy = rules::compile(&root, GeoFacts::ALL, &mut cx);
    assert!(!cx.report.refused(), "{:?}\n{text}", cx.report.diagnostics);
    policy
}

/// How the evaluator ends a request.
pub(super) fn told(policy: &Policy, asked: &Asked) -> Option<Ending> {
    let Outcome::Judged { decision, .. } = simulate::judge(policy, asked) else {
        return None;
    };
    Some(match decision.verdict {
        Verdict::Allow => Ending::Allow,
        Verdict::Refuse(id) | Verdict::StepUp(id) => Ending::Refuse(policy.refusal(id).clone()),
        Verdict::NotAuthenticated | Verdict::InvalidToken => Ending::SignIn,
        Verdict::CertificateRequired => Ending::CertificateRequired,
        Verdict::NoSite => Ending::NoSite,
        Verdict::NoRoute => Ending::NoRoute,
        Verdict::Unavailable | Verdict::BadQuery => return None,
    })
}

fn place<T: PartialEq>(groups: &[Vec<T>], value: &T) -> u32 {
    let at = groups.iter().position(|group| group.contains(value));
    u32::try_from(at.unwrap_or(0)).unwrap()
}

/// The atom of an attribute that a request has.
fn atom(space: &Space<'_, '_>, attribute: &Attribute, asked: &Asked) -> u32 {
    let address = |groups: &[Vec<u32>], address: IpAddr| {
        let book = space.book;
        let class =
            |address| -> Vec<u32> { book.policies.iter().map(|p| p.class_of(address)).collect() };
        let same = |id: &u32| class(book.addresses.example(*id).unwrap()) == class(address);
        let at = groups.iter().position(|group| group.iter().any(same));
        u32::try_from(at.unwrap_or(0)).unwrap()
    };
    let known = match &asked.caller {
        Caller::Known(principal) => Some(principal),
        _ => None,
    };
    let target = Target::read(&asked.target).unwrap();
    match attribute {
        Attribute::Segment(at, texts) => match segments(target.strict()).nth(*at) {
            None => 1,
            Some(text) => match texts.iter().position(|known| **known == *text) {
                Some(at) => u32::try_from(at).unwrap() + 2,
                None => 0,
            },
        },
        Attribute::Slash => target.strict().ends_with('/').into(),
        Attribute::Method(named) => match named.iter().position(|m| *m == asked.method) {
            Some(at) => u32::try_from(at).unwrap() + 1,
            None => 0,
        },
        Attribute::Client(groups) => address(groups, asked.client),
        Attribute::Peer(groups) => address(groups, asked.peer),
        Attribute::Country(groups) => place(groups, &asked.region.country),
        Attribute::Anonymizer(groups) => place(groups, &asked.region.anonymizer),
        Attribute::Asn(groups) => match asked.region.asn {
            None => place(groups, &System::Unlisted),
            Some(asn) => place(groups, &System::Number(asn)),
        },
        Attribute::Auth(sources) => {
            let at = known.and_then(|known| sources.iter().position(|s| *s == known.source));
            at.map_or(0, |at| u32::try_from(at).unwrap() + 1)
        }
        Attribute::User(groups) => known.map_or(0, |known| place(groups, &known.user)),
        Attribute::Role(roles) => {
            let held = |role: &u32| {
                let name = &space.book.roles[usize::try_from(*role).unwrap()];
                known.is_some_and(|known| known.roles.contains(name))
            };
            roles.iter().any(held).into()
        }
        Attribute::Claim(_, path, values) => {
            let held = known.and_then(|known| known.claims.get(&**path));
            held.is_some_and(|held| values.contains(held)).into()
        }
        other => panic!("{other:?}"),
    }
}

pub(super) fn number(space: &Space<'_, '_>, f: super::diagram::Diagram, asked: &Asked) -> u32 {
    space.store.number_at(f, &mut |attribute| {
        atom(space, space.attribute(attribute).unwrap(), asked)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..Default::default() })]

    #[test]
    fn a_diagram_equals_the_evaluator(written in written(), asked in proptest::collection::vec(asked(), 12)) {
        let (_, policy) = written.policy();
        let book = Book::new(vec![&policy], Timestamp::UNIX_EPOCH);
        let mut cells: Vec<Cell<'_>> = Vec::new();
        for hosts in book.hosts() {
            if hosts.example.as_ref() == "a" {
                cells.extend(book.cells(&hosts));
            }
        }
        let mut found = vec![0; asked.len()];
        for cell in &cells {
            let mut space = cell.space(&book, 1_000_000).unwrap();
            let requests = cell.requests(&mut space);
            let judged = cell.judged(0, requests, &mut space).unwrap();
            prop_assert!(!space.store.is_exhausted());
            // Whatever was asked.
            for (asked, found) in asked.iter().zip(&mut found) {
                let mut asked = asked.clone();
                asked.region.failed = GeoFacts::NONE;
                if matches!(asked.caller, Caller::Failed) {
                    asked.caller = Caller::Nobody;
                }
                if number(&space, requests, &asked) == 0 {
                    continue;
                }
                *found += 1;
                let ending = book.ending(number(&space, judged.ending, &asked)).clone();
                prop_assert_eq!(told(&policy, &asked), Some(ending), "{:?}\n{}", asked, written.text());
                let first = number(&space, judged.first, &asked) == 1;
                let Outcome::Judged { verified, .. } = simulate::judge(&policy, &asked) else { panic!() };
                prop_assert_eq!(first, !verified, "{:?}\n{}", asked, written.text());
            }
            // And a request of every ending.
            for ending in space.store.numbers(judged.ending) {
                if ending == 0 {
                    continue;
                }
                let region = space.store.is(judged.ending, ending);
                let Some(Witness::Made(made)) = space.witness(region) else { panic!("{region:?}") };
                let want = book.ending(ending).clone();
                prop_assert_eq!(told(&policy, &made[0]), Some(want), "{:?}\n{}", made, written.text());
            }
        }
        for (asked, found) in asked.iter().zip(found) {
            prop_assert_eq!(found, 1, "{:?} has one cell\n{}", asked, written.text());
        }
    }
}

#[test]
fn what_is_asked_twice_is_one_term() {
    let rule = |name: &str, condition: &str| format!("[[deny]]\nname = \"{name}\"\n{condition}\n");
    let head = "[ip]\na = [\"10.0.0.0/9\", \"10.128.0.0/9\"]\n[country]\nx = [\"NL\", \"BE\"]\n";
    let tail = "[[site]]\nhost = [\"a\"]\nupstream = \"u\"\nallow = \"anyone\"\n";
    for (one, other, same) in [
        ("ip = \"10.0.0.0/8\"", "ip = \"@a\"", true),
        ("ip = \"10.0.0.0/8\"", "ip = \"10.0.0.0/9\"", false),
        ("country = [\"BE\", \"NL\"]", "country = \"@x\"", true),
        ("country = \"BE\"", "country = \"@x\"", false),
        ("header.x-a = \"1\"", "header.x-a = \"1\"", true),
        ("header.x-a = \"1\"", "header.x-b = \"1\"", false),
        ("path = [\"/a\", \"/b\"]", "path = [\"/b\", \"/a\"]", true),
    ] {
        let policy = policy(&format!(
            "{head}{}{}{tail}",
            rule("one", one),
            rule("other", other)
        ));
        let book = Book::new(vec![&policy], Timestamp::UNIX_EPOCH);
        let clauses: Vec<_> = book.global[0].iter().map(|rule| rule.clause).collect();
        assert_eq!(clauses[0] == clauses[1], same, "{one} and {other}");
        assert!(
            book.terms()
                .all(|(_, term)| !matches!(term.asks, Asks::WebSocket))
        );
    }
}
