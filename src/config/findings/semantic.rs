//! What `crate::analysis` finds, in the words of the policy.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::leak::list;
use super::{Scene, request};
use crate::analysis::findings::{Closed, Finding, Given, Never, What, find as found};
use crate::config::node::{Entry, Node, Span};
use crate::config::{Context, Diagnostic};
use crate::policy::condition::Condition;
use crate::policy::draft::Grant;
use crate::policy::{RouteId, RuleId, RuleKind, SiteId};

/// The codes of this module: what is not told is not missed by `unused-accept`.
pub(super) const CODES: [&str; 6] = [
    "never-matches",
    "covered",
    "dead-exception",
    "closed-route",
    "looser-route",
    "unlisted",
];

/// Reports what the rules mean. `by_country` are denies that say nothing of addresses without a country. How many places could
/// not be told.
pub(super) fn find(
    scene: &Scene<'_>,
    by_country: &[RuleId],
    now: Timestamp,
    cx: &mut Context,
) -> usize {
    let changing = changing(scene);
    let given = Given {
        now,
        changes: &|rule| changing.contains(&rule),
        by_country,
    };
    let all = found(scene.policy, &given);
    for finding in all.findings {
        if scene.answers_itself(&finding.what) {
            continue;
        }
        let witness = finding.proof.as_ref();
        let witness =
            witness.map(|proof| request::witness(&proof.asked, &proof.outcome, scene.policy));
        cx.say(scene.told(&finding).proven(witness));
    }
    all.untold
}

/// Rules that read a set from a file or a name: what is in it changes while the policy stays.
fn changing(scene: &Scene<'_>) -> BTreeSet<RuleId> {
    let sets = scene.root.table("ip").map_or(&[][..], |sets| &sets.entries);
    let mut moving = BTreeSet::new();
    loop {
        let known = moving.len();
        for Entry { key, node, .. } in sets {
            let moves = node.as_table().is_some()
                || node.many().filter_map(Node::as_str).any(|entry| {
                    entry.starts_with("dns:")
                        || entry
                            .strip_prefix('@')
                            .is_some_and(|set| moving.contains(set))
                });
            if moves {
                moving.insert(key.as_str());
            }
        }
        if moving.len() == known {
            break;
        }
    }
    let mut rules = BTreeSet::new();
    every(scene, &mut |rule, condition| {
        if moves(condition, &moving) {
            rules.insert(rule);
        }
    });
    rules
}

fn moves(condition: &Condition, moving: &BTreeSet<&str>) -> bool {
    let named = |words: &str| {
        let mut names = words.split('"').filter_map(|text| text.strip_prefix('@'));
        words.contains("\"dns:") || names.any(|name| moving.contains(name))
    };
    condition.tests.iter().any(|test| named(&test.words))
        || condition
            .unless
            .iter()
            .any(|excepted| moves(excepted, moving))
}

/// Visits every rule.
fn every(scene: &Scene<'_>, visit: &mut dyn FnMut(RuleId, &Condition)) {
    let draft = scene.draft;
    for deny in &draft.denies {
        visit(deny.rule, &deny.condition);
    }
    for site in &draft.sites {
        for deny in &site.denies {
            visit(deny.rule, &deny.condition);
        }
        for route in &site.routes {
            for deny in &route.denies {
                visit(deny.rule, &deny.condition);
            }
            if let Grant::Rules(allows) = &route.grant {
                for allow in allows {
                    visit(allow.rule, &allow.condition);
                }
            }
        }
    }
}

impl Scene<'_> {
    /// Whether a looser route answers itself: what it says is in the file, and nobody comes nearer to an upstream.
    fn answers_itself(&self, what: &What) -> bool {
        let What::LooserRoute {
            site: SiteId(site),
            route: RouteId(route),
            ..
        } = what
        else {
            return false;
        };
        let at = |number: &u32| usize::try_from(*number).unwrap_or(usize::MAX);
        let site = self.sites.get(at(site));
        let route = site.and_then(|(_, routes)| routes.get(at(route)));
        route.is_some_and(|route| route.get("respond").is_some() || route.get("redirect").is_some())
    }

    fn told(&self, finding: &Finding) -> Diagnostic {
        match &finding.what {
            What::NeverMatches { rule, why } => self.never(*rule, why),
            What::Covered { rule, by } => self.covered(*rule, by),
            What::DeadException { rule, entry } => self.dead(*rule, *entry),
            What::ClosedRoute { site, route, why } => self.closed(*site, *route, why),
            What::LooserRoute {
                site,
                route,
                around,
                lacks,
            } => self.looser((*site, *route), (*site, *around), lacks),
            What::Unlisted { rule } => {
                let name = self.name(*rule);
                let message = format!(
                    "deny `{name}` lets every address pass that stands in no database, private ones among them"
                );
                let finding =
                    Diagnostic::finding("unlisted", self.span(*rule), message).about(name);
                finding.help("add `\"unlisted\"` to its countries, with `unless = [{ ip = \"@private\" }]` where your own networks may pass; or accept it")
            }
        }
    }

    fn never(&self, rule: RuleId, why: &Never) -> Diagnostic {
        let name = self.name(rule);
        let shown = self.kind(rule);
        let (because, help) = match why {
            Never::Contradiction(words) if words.len() == 1 => (
                format!("{} never holds where it stands", quoted(words)),
                "does its site have the identity source, the path, the host that it asks for?",
            ),
            Never::Contradiction(words) => (
                format!("{} never hold together", quoted(words)),
                "the keys of one table must all hold; several tables, or values in a list, are alternatives",
            ),
            Never::Excepted => (
                "its `unless` excepts all that it matches".to_owned(),
                "take the rule out, or narrow its `unless`",
            ),
            Never::Elsewhere => (
                "no request of the place where it stands is like that".to_owned(),
                "the most specific route owns a path, and only its own rules and those of its site are asked",
            ),
        };
        let message = format!("{shown} can never match: {because}");
        Diagnostic::finding("never-matches", self.span(rule), message)
            .about(name)
            .help(help)
    }

    fn covered(&self, rule: RuleId, by: &[RuleId]) -> Diagnostic {
        let kind = self.policy.rule(rule).kind;
        let denied = kind == RuleKind::Allow
            && by
                .iter()
                .all(|by| self.policy.rule(*by).kind == RuleKind::Deny);
        let names: Vec<String> = by.iter().take(NAMES_MAX).map(|by| self.kind(*by)).collect();
        let more = by.len().saturating_sub(names.len());
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let s = if by.len() == 1 { "s" } else { "" };
        let message = if denied {
            format!(
                "{} lets nobody pass: {}{more} refuse{s} all that it matches",
                self.kind(rule),
                list(&names)
            )
        } else {
            format!(
                "{} changes nothing: {}{more} cover{s} all that it matches",
                self.kind(rule),
                list(&names)
            )
        };
        let mut finding =
            Diagnostic::finding("covered", self.span(rule), message).about(self.name(rule));
        for by in by.iter().take(NAMES_MAX) {
            let word = if denied { "refuses it" } else { "covers it" };
            finding = finding.related(self.span(*by), word);
        }
        finding.help("take it out, or say what it should do that the others do not")
    }

    fn dead(&self, rule: RuleId, entry: usize) -> Diagnostic {
        let written = self.written(rule);
        let span = written.and_then(|written| written.unless.get(entry).copied());
        let span = span.unwrap_or_else(|| self.span(rule));
        let message = format!(
            "entry {} of `unless` excepts nothing: {} matches no such request, or another entry excepts it",
            entry + 1,
            self.kind(rule)
        );
        let finding = Diagnostic::finding("dead-exception", span, message).about(self.name(rule));
        finding.help("take it out, or accept it where it is there in case the rule grows")
    }

    fn closed(&self, site: SiteId, route: RouteId, why: &Closed) -> Diagnostic {
        let (name, span) = self.route(site, route);
        let (because, by) = match why {
            Closed::Unowned => ("other routes own all its paths".to_owned(), &[][..]),
            Closed::NoAllow => ("none of its allows can match".to_owned(), &[][..]),
            Closed::Denied(by) => {
                let names: Vec<String> =
                    by.iter().take(NAMES_MAX).map(|by| self.kind(*by)).collect();
                let s = if by.len() == 1 { "s" } else { "" };
                (
                    format!("{} refuse{s} all that it allows", list(&names)),
                    by.as_slice(),
                )
            }
        };
        let message = format!("nobody can pass route `{name}`: {because}");
        let mut finding = Diagnostic::finding("closed-route", span, message).about(name);
        for by in by.iter().take(NAMES_MAX) {
            finding = finding.related(self.span(*by), "refuses");
        }
        finding.help("where that is meant, say so: `respond = { status = 410 }`, or accept it")
    }

    fn looser(
        &self,
        here: (SiteId, RouteId),
        around: (SiteId, RouteId),
        lacks: &[RuleId],
    ) -> Diagnostic {
        let (name, span) = self.route(here.0, here.1);
        let (wide, wide_span) = self.route(around.0, around.1);
        if lacks.is_empty() {
            let message = format!(
                "route `{name}` is looser than `{wide}`: whoever may pass there may pass here, and others too"
            );
            let finding = Diagnostic::finding("looser-route", span, message).about(name);
            return finding
                .related(wide_span, "the route around it")
                .help("nothing is inherited from it; repeat its conditions, or accept it where it is meant");
        }
        let names: Vec<String> = lacks
            .iter()
            .take(NAMES_MAX)
            .map(|rule| self.kind(*rule))
            .collect();
        let message = format!(
            "route `{name}` is looser than `{wide}`: {} of that route {} not hold here",
            list(&names),
            if lacks.len() == 1 { "does" } else { "do" }
        );
        let mut finding = Diagnostic::finding("looser-route", span, message).about(name);
        for rule in lacks.iter().take(NAMES_MAX) {
            finding = finding.related(self.span(*rule), "guards only its own route");
        }
        finding.help(
            "a deny of the site guards all its routes; move it there, repeat it here, or accept it",
        )
    }

    /// ``deny `office-only` ``.
    fn kind(&self, rule: RuleId) -> String {
        let info = self.policy.rule(rule);
        let kind = match info.kind {
            RuleKind::Deny => "deny",
            RuleKind::Allow => "allow",
        };
        format!("{kind} `{}`", info.name)
    }

    /// The name of a route, and where its path is written.
    fn route(&self, SiteId(site): SiteId, RouteId(route): RouteId) -> (Arc<str>, Span) {
        let at = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let Some((table, routes)) = self.sites.get(at(site)) else {
            return (Arc::from(""), Span::default());
        };
        let host = table
            .many("host")
            .find_map(Node::as_str)
            .unwrap_or_default();
        let (path, span) = match routes.get(at(route)) {
            Some(route) => (
                route.str("path").unwrap_or_default(),
                route.get("path").map_or(route.span, |node| node.span),
            ),
            None => (
                "/**",
                table.get("allow").map_or(table.span, |node| node.span),
            ),
        };
        (Arc::from(format!("{host}{path}")), span)
    }
}

fn quoted(words: &[Arc<str>]) -> String {
    let words: Vec<String> = words.iter().map(|words| format!("`{words}`")).collect();
    list(&words)
}

/// Rules that a message names.
const NAMES_MAX: usize = 3;
