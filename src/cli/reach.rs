//! `check --reach`: what a stranger can reach and from where, and what those who sign in need.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::analysis::reach::{self, Reached, Way};
use crate::config::compile::rules;
use crate::config::{Context, Loaded, Report};
use crate::policy::condition::Condition;
use crate::policy::draft::{Draft, Grant};
use crate::policy::{Policy, RuleId};

/// The words of every rule, and the routes.
pub(super) struct Reach<'l> {
    loaded: &'l Loaded,
    policy: &'l Policy,
    words: BTreeMap<RuleId, Words>,
    reached: Vec<Reached>,
}

/// A rule in the operator's words.
struct Words {
    tests: Vec<String>,
    unless: Vec<String>,
}

impl<'l> Reach<'l> {
    /// Looks; nothing where the configuration is refused.
    pub(super) fn of(loaded: &'l Loaded, now: Timestamp) -> Option<Self> {
        let snapshot = loaded.snapshot.as_ref()?;
        let mut cx = Context {
            report: Report {
                files: loaded.report.files.clone(),
                ..Report::default()
            },
            memory: loaded.memory.clone(),
            now,
            ..Context::default()
        };
        let draft = rules::draft(&loaded.root, snapshot.geo.provides(), &mut cx);
        Some(Self {
            loaded,
            policy: &snapshot.policy,
            words: words(&draft),
            reached: reach::every(&snapshot.policy, now),
        })
    }

    /// For people: at most 80 columns where names are not longer.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut last = Vec::new();
        for reached in &self.reached {
            if reached.hosts != last {
                text.push_str(&format!("\n{}\n", reached.hosts.join(", ")));
                last.clone_from(&reached.hosts);
            }
            text.push_str(&format!("  {}\n", self.path(reached)));
            if reached.untold {
                text.push_str("    cannot tell: too many rules\n");
                continue;
            }
            let strangers = reached.strangers.iter().map(|way| ("strangers", way));
            let known = reached.known.iter().map(|way| ("signed in", way));
            if reached.strangers.is_empty() {
                text.push_str("    strangers  nobody\n");
            }
            if reached.known.is_empty() && reached.strangers.is_empty() {
                text.push_str("    signed in  nobody\n");
            }
            for (who, way) in strangers.chain(known) {
                let lines = self.way(way);
                for (at, line) in lines.iter().flat_map(|line| wrapped(line)).enumerate() {
                    let who = if at == 0 { who } else { "" };
                    text.push_str(&format!("    {who:<10} {line}\n"));
                }
            }
        }
        text.trim_start().to_owned()
    }

    /// For machines.
    pub(super) fn json(&self) -> Value {
        let ways = |ways: &[Way]| -> Vec<Value> {
            let each = ways.iter().map(|way| {
                let name = |rule: &RuleId| self.policy.rule(*rule).name.to_string();
                json!({
                    "allow": way.allow.as_ref().map(name),
                    "when": way.allow.and_then(|rule| Some(self.words.get(&rule)?.tests.clone())),
                    "methods": way.methods,
                    "denied_by": way.but.iter().map(name).collect::<Vec<_>>(),
                })
            });
            each.collect()
        };
        let routes = self.reached.iter().map(|reached| {
            json!({
                "hosts": reached.hosts,
                "route": self.path(reached),
                "told": !reached.untold,
                "strangers": ways(&reached.strangers),
                "signed_in": ways(&reached.known),
            })
        });
        Value::Array(routes.collect())
    }

    fn path(&self, reached: &Reached) -> String {
        let at = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let site = self.loaded.root.tables("site").nth(at(reached.site.0));
        let route = site.and_then(|site| site.tables("route").nth(at(reached.route.0)));
        let path = route.and_then(|route| route.str("path"));
        path.unwrap_or("/**").to_owned()
    }

    /// What a request of a way is like: first what it needs, then what it must not meet.
    fn way(&self, way: &Way) -> Vec<String> {
        let mut lines = Vec::new();
        let words = way.allow.and_then(|rule| self.words.get(&rule));
        let mut first = match words {
            None => "anyone".to_owned(),
            Some(words) => words.tests.join(", "),
        };
        let says =
            words.is_some_and(|words| words.tests.iter().any(|test| test.starts_with("method")));
        if let Some(methods) = way.methods.as_ref().filter(|_| !says) {
            first.push_str(&format!(" ({})", methods.join(", ")));
        }
        lines.push(first);
        if let Some(words) = words.filter(|words| !words.unless.is_empty()) {
            lines.push(format!("  unless {}", words.unless.join(" or ")));
        }
        for rule in &way.but {
            let Some(words) = self.words.get(rule) else {
                continue;
            };
            let (tests, unless) = (words.tests.join(", "), words.unless.join(" or "));
            lines.push(match (tests.is_empty(), unless.is_empty()) {
                (true, false) => format!("  only {unless}"),
                (false, true) => format!("  not {tests}"),
                (false, false) => format!("  not {tests}, unless {unless}"),
                (true, true) => "  not at all".to_owned(),
            });
        }
        lines
    }
}

/// A line in pieces that fit, what follows the first indented.
fn wrapped(line: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let indent = line.len() - line.trim_start().len();
    for word in line.trim_start().split(' ') {
        let new = pieces
            .last()
            .is_none_or(|last| !last.trim().is_empty() && last.len() + 1 + word.len() > COLUMNS);
        if new {
            pieces.push(" ".repeat(indent + 4));
        }
        if let Some(last) = pieces.last_mut() {
            if last.is_empty() {
                last.push_str(&" ".repeat(indent));
            } else if !last.ends_with(' ') {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    pieces
}

/// Columns of a line behind who it is about.
const COLUMNS: usize = 80 - 15;

fn words(draft: &Draft) -> BTreeMap<RuleId, Words> {
    let mut all = BTreeMap::new();
    let mut add = |rule: RuleId, condition: &Condition| {
        let tests = |condition: &Condition| -> Vec<String> {
            condition
                .tests
                .iter()
                .map(|test| test.words.to_string())
                .collect()
        };
        let unless = condition.unless.iter().map(|one| tests(one).join(" and "));
        let words = Words {
            tests: tests(condition),
            unless: unless.collect(),
        };
        all.insert(rule, words);
    };
    for deny in &draft.denies {
        add(deny.rule, &deny.condition);
    }
    for site in &draft.sites {
        for deny in &site.denies {
            add(deny.rule, &deny.condition);
        }
        for route in &site.routes {
            for deny in &route.denies {
                add(deny.rule, &deny.condition);
            }
            if let Grant::Rules(allows) = &route.grant {
                for allow in allows {
                    add(allow.rule, &allow.condition);
                }
            }
        }
    }
    all
}
