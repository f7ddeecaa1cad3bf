//! `[[limit]]`, `[[site.limit]]`, `[[site.route.limit]]`.
//!
//! Codes: `no-amount`, `two-amounts`, `unused-key`, `nobody-signs-in`, `spoofable`, `invalid-value`, `unknown-value`,
//! `missing-key`, and those of `condition`.

use std::sync::Arc;

use super::condition::{Stands, Terms};
use super::sets::suggest;
use crate::config::node::{Node, Span, Table};
use crate::config::{Context, Diagnostic};
use crate::policy::limit::{Amount, Limit, Mode, Part, Quota};
use crate::value::duration::Rate;

/// Where a limit stands.
pub(super) struct Standing<'s> {
    /// The site's name; empty for a global limit.
    pub(super) scope: &'s str,
    /// Its own name, unique there.
    pub(super) name: Arc<str>,
    /// How many identity sources a caller may come with.
    pub(super) sources: usize,
}

/// Compiles one limit; nothing where it says no amount.
pub(super) fn compile(
    root: &Table,
    table: &Table,
    standing: Standing<'_>,
    terms: &mut Terms<'_>,
    cx: &mut Context,
) -> Option<Limit> {
    let condition = terms.condition(table, Stands::Deny, cx);
    let per = table
        .many("per")
        .filter_map(|node| part(root, node, terms, cx));
    let per: Box<[Part]> = per.collect();
    warn(table, &per, &standing, cx);
    Some(Limit {
        scope: Arc::from(standing.scope),
        name: standing.name,
        source: cx.source(table.span),
        condition,
        per,
        amount: amount(table, terms, cx)?,
        mode: match table.bool("shadow") {
            Some(true) => Mode::Shadow,
            Some(false) | None => Mode::Enforced,
        },
    })
}

fn amount(table: &Table, terms: &Terms<'_>, cx: &mut Context) -> Option<Amount> {
    let burst = table
        .int("burst")
        .and_then(|burst| u64::try_from(burst).ok());
    match (table.entry("rate"), table.entry("concurrent")) {
        (Some(rate), Some(concurrent)) => {
            let message = "a limit counts a `rate` or what is `concurrent`, not both";
            let finding = Diagnostic::error("two-amounts", concurrent.key_span, message);
            cx.say(
                finding
                    .help("write two limits")
                    .related(rate.key_span, "the rate"),
            );
            None
        }
        (None, None) => {
            let finding = Diagnostic::error("no-amount", table.span, "this limit names no amount");
            cx.say(finding.help("write `rate = \"60/min\"` or `concurrent = 10`"));
            None
        }
        (None, Some(concurrent)) => {
            if let Some(burst) = table.entry("burst") {
                let message = "`burst` has no use here: it belongs to a `rate`";
                cx.say(Diagnostic::warning("unused-key", burst.key_span, message));
            }
            let most = concurrent.node.as_int()?;
            Some(Amount::Concurrent(u32::try_from(most).ok()?))
        }
        (Some(rate), None) => match rate.node.as_table() {
            Some(tiers) => self::tiers(tiers, burst, terms, cx),
            None => {
                let rate: Rate = rate.node.as_str()?.parse().ok()?;
                Some(Amount::Rate(Quota::new(rate, burst)))
            }
        },
    }
}

/// `{ by = "claim.plan", free = "60/min", default = "10/min" }`.
fn tiers(table: &Table, burst: Option<u64>, terms: &Terms<'_>, cx: &mut Context) -> Option<Amount> {
    let claim = match table.get("by") {
        Some(node) => match node.as_str()?.strip_prefix("claim.") {
            Some(claim) if !claim.is_empty() => claim,
            Some(_) | None => {
                let message = "`by` takes a claim, such as `claim.plan`";
                cx.error("invalid-value", node.span, message);
                return None;
            }
        },
        None => {
            let finding = Diagnostic::error("missing-key", table.span, "these tiers need `by`");
            cx.say(finding.help("name the claim that tells them apart: `by = \"claim.plan\"`"));
            return None;
        }
    };
    let order = terms.order(claim);
    let mut otherwise = None;
    let mut tiers = Vec::new();
    for entry in table.entries.iter().filter(|entry| entry.key != "by") {
        let text = entry.node.as_str()?;
        let rate: Rate = match text.parse() {
            Ok(rate) => rate,
            Err(error) => {
                let shown = cx.written(entry.node.span, text).to_owned();
                let message = format!("`{}` is `{shown}`, which is no rate", entry.key);
                let finding = Diagnostic::error("invalid-value", entry.node.span, message);
                cx.say(finding.help(format!("{error}")));
                continue;
            }
        };
        let quota = Quota::new(rate, burst);
        if entry.key == "default" {
            otherwise = Some(quota);
            continue;
        }
        if let Some(order) = order
            && !order.iter().any(|known| **known == *entry.key)
        {
            let message = format!("`{}` is not in the order of `{claim}`", entry.key);
            let finding = Diagnostic::error("unknown-value", entry.key_span, message);
            let names = order.iter().map(|known| &**known).chain(["default"]);
            cx.say(suggest(finding, &entry.key, names, ""));
        }
        tiers.push((Arc::from(entry.key.as_str()), quota));
    }
    let Some(otherwise) = otherwise else {
        let finding = Diagnostic::error("missing-key", table.span, "these tiers need `default`");
        cx.say(finding.help("it is the rate of all who have no other: `default = \"10/min\"`"));
        return None;
    };
    Some(Amount::Tiers {
        claim: Arc::from(claim),
        tiers: tiers.into(),
        otherwise,
    })
}

/// A word of `per`.
fn part(root: &Table, node: &Node, terms: &Terms<'_>, cx: &mut Context) -> Option<Part> {
    let text = node.as_str()?;
    match (text, text.split_once('.')) {
        ("client", _) => Some(Part::Client),
        ("user", _) => Some(Part::User),
        ("key", _) => {
            let sources = root.table("identity").into_iter();
            let sources = sources.flat_map(|table| &table.entries);
            let keyed = sources.filter(|entry| {
                let source = entry.node.as_table();
                source.is_some_and(|source| source.get("api_key").is_some())
            });
            let names = keyed.map(|entry| Arc::from(entry.key.as_str()));
            Some(Part::Key(names.collect()))
        }
        (_, Some(("claim", path))) if !path.is_empty() => Some(Part::Claim(Arc::from(path))),
        (_, Some(("header", name))) if !name.is_empty() => {
            Some(Part::Header(terms.header(name, node.span, cx)?))
        }
        (_, Some(_) | None) => {
            let message = format!("`per` does not know `{text}`");
            let finding = Diagnostic::error("invalid-value", node.span, message);
            let known = ["client", "user", "key"];
            let near = suggest(finding.clone(), text, known, "");
            cx.say(if near.help.is_none() {
                finding.help("it takes `client`, `user`, `key`, `claim.x` and `header.x`")
            } else {
                near
            });
            None
        }
    }
}

fn warn(table: &Table, per: &[Part], standing: &Standing<'_>, cx: &mut Context) {
    let Some(node) = table.get("per") else { return };
    let whole: Span = node.span;
    let by_whom = |part: &Part| match part {
        Part::User | Part::Claim(_) => standing.sources == 0,
        Part::Key(sources) => standing.sources == 0 || sources.is_empty(),
        Part::Client | Part::Header(_) => false,
    };
    if per.iter().any(by_whom) {
        let message = "nobody can be known here, so the client address takes the place of who asks";
        let finding = Diagnostic::warning("nobody-signs-in", whole, message);
        cx.say(
            finding.help("name a source in `identity` of the site, or write `per = \"client\"`"),
        );
    }
    if per.iter().any(|part| matches!(part, Part::Header(_))) {
        let message = "a client that sends another header each time is counted anew each time";
        let finding = Diagnostic::warning("spoofable", whole, message);
        cx.say(finding.help("add a limit with `per = \"client\"` beside this one"));
    }
}
