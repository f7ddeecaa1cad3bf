//! An explanation for people, in 80 columns.

use std::fmt::Write as _;

use http::header::{CONTENT_TYPE, LINK, RETRY_AFTER, WWW_AUTHENTICATE};

use super::answer::Answer;
use super::kept::would;
use super::{Explained, Question};
use crate::config::Paint;
use crate::policy::explain::{Clause, Granted, Key, Outcome, Stage, Step, Walk};
use crate::policy::simulate::{Caller, Outcome as Ends};
use crate::policy::{Policy, RuleKind, Verdict};

/// The whole text.
pub(super) fn of(explained: &Explained, policy: &Policy, paint: Paint) -> String {
    let mut page = Page {
        text: String::new(),
        paint,
    };
    request(explained, &mut page);
    place(explained, &mut page);
    if let Some(walk) = &explained.walk {
        if walk.steps().next().is_some() || !matches!(walk.grant, Granted::NoRoute) {
            page.line("");
        }
        rules(walk, explained, policy, &mut page);
    }
    page.line("");
    let colour = if explained.passes() { GREEN } else { RED };
    page.field("verdict", &verdict(explained, policy), Some(colour));
    answer(&explained.answer, &mut page);
    if let Some(told) = &explained.candidate {
        page.field("candidate", told, Some(YELLOW));
    }
    let unknown = explained.unknown();
    if !unknown.is_empty() {
        let text = format!(
            "rules here read {}, which the line does not tell: taken as absent",
            unknown.join(", ")
        );
        page.field("missing", &text, Some(YELLOW));
    }
    logged(explained, &mut page);
    page.text
}

/// The conclusion in a sentence.
pub(super) fn verdict(explained: &Explained, policy: &Policy) -> String {
    if explained.conflicts() {
        return "refused: two credentials of different people".to_owned();
    }
    ends(explained.outcome, &explained.question, policy)
}

/// The end of a request in a sentence.
pub(super) fn ends(outcome: Ends, question: &Question, policy: &Policy) -> String {
    let decision = match outcome {
        Ends::Malformed(error) => return format!("refused as malformed: {error}"),
        Ends::Ambiguous => {
            return "refused: upstreams may read this path in two ways, and rules differ on them"
                .to_owned();
        }
        Ends::Judged { decision, .. } => decision,
    };
    let by = decision.rule.map(|id| {
        let rule = policy.rule(id);
        format!("`{}` ({})", rule.name, rule.source)
    });
    match (decision.verdict, by) {
        (Verdict::Allow, Some(by)) => format!("allowed by {by}"),
        (Verdict::Allow, None) => "allowed: open to anyone, and no deny matches".to_owned(),
        (Verdict::Refuse(id), by) => {
            let mut text = match by {
                Some(by) => format!("denied by {by}"),
                None => "denied: no allow of the route matches".to_owned(),
            };
            let seen = matches!(outcome, Ends::Judged { verified: true, .. });
            let known = matches!(question.asked.caller, Caller::Known(_));
            if seen && !known && policy.refusal(id).status.hides() {
                text.push_str("; the answer hides that some identity could pass");
            }
            text
        }
        (Verdict::NotAuthenticated, _) => {
            "asked to sign in: some identity could pass, and none was shown".to_owned()
        }
        (Verdict::InvalidToken, _) => {
            "asked to sign in: some identity could pass, and the credential is not valid".to_owned()
        }
        (Verdict::StepUp(_), by) => format!(
            "asked to sign in again: allowed, but not with this sign-in by {}",
            by.unwrap_or_default()
        ),
        (Verdict::CertificateRequired, _) => {
            "refused: people are known here by a client certificate only".to_owned()
        }
        (Verdict::Unavailable, _) => {
            "refused: only a fact whose source has failed decided".to_owned()
        }
        (Verdict::NoSite, _) => "refused: no site answers for the host".to_owned(),
        (Verdict::NoRoute, _) => "refused: no route of the site owns the path".to_owned(),
        (Verdict::BadQuery, _) => {
            "refused: a rule reads the query, and the query has a bad escape".to_owned()
        }
    }
}

fn request(explained: &Explained, page: &mut Page) {
    let question = &explained.question;
    let asked = &question.asked;
    let url = format!(
        "{} {}://{}{}",
        asked.method,
        asked.scheme.as_str(),
        asked.host,
        asked.target
    );
    page.field("request", &url, None);
    let mut client = asked.client.to_string();
    if asked.peer != asked.client {
        client.push_str(&format!(", through {}", asked.peer));
    }
    page.field("client", &client, None);
    let region = &asked.region;
    let mut facts = vec![match region.country {
        Some(country) => format!("{country} ({})", country.name()),
        None => "no country on record".to_owned(),
    }];
    facts.extend(region.asn.map(|asn| format!("AS{asn}")));
    facts.extend(region.anonymizer.words().map(str::to_owned));
    if region.failed.words().next().is_some() {
        facts = vec!["not known".to_owned()];
    }
    let text = format!("{}, {}", facts.join(", "), question.region_from);
    page.field("region", &text, None);
    let time = asked.now.strftime("%Y-%m-%d %H:%M:%S UTC");
    page.field("time", &time.to_string(), None);
    let looked = match explained.walk.as_ref().map(|walk| walk.stage) {
        Some(Stage::Unseen) | None => " (not looked at: the answer is the same for everyone)",
        Some(Stage::Seen(_)) => "",
    };
    page.field("caller", &format!("{}{looked}", question.caller), None);
}

fn place(explained: &Explained, page: &mut Page) {
    page.line("");
    match &explained.site {
        Some(site) if site.name == site.pattern => {
            page.field("site", &format!("{} ({})", site.name, site.source), None);
        }
        Some(site) => {
            let text = format!("{}, by {} ({})", site.name, site.pattern, site.source);
            page.field("site", &text, None);
        }
        None => page.field("site", "none", None),
    }
    match &explained.route {
        Some(route) => {
            page.field(
                "route",
                &format!("{} ({})", route.pattern, route.source),
                None,
            );
            if !route.others.is_empty() {
                let text = format!("also matching, less specific: {}", route.others.join(", "));
                page.field("", &text, None);
            }
        }
        None => page.field("route", "none", None),
    }
}

fn rules(walk: &Walk, explained: &Explained, policy: &Policy, page: &mut Page) {
    for step in &walk.denies {
        rule(step, RuleKind::Deny, explained, policy, page);
    }
    match &walk.grant {
        Granted::NoRoute => {}
        Granted::Anyone => page.line("  allow   anyone"),
        Granted::Rules(allows) => {
            for step in allows {
                rule(step, RuleKind::Allow, explained, policy, page);
            }
            if allows.is_empty() {
                page.line("  allow   nobody");
            }
        }
    }
    for watched in &walk.shadows {
        let would = match watched.would {
            Some(kind) => format!("would {}", would(kind.as_str())),
            None => "would change nothing".to_owned(),
        };
        let kind = match watched.kind {
            RuleKind::Deny => "deny",
            RuleKind::Allow => "allow",
        };
        let info = policy.rule(watched.step.rule);
        let scope = watched.step.scope.as_str();
        let tail = format!("{kind}, {would}: {} ({scope}, {})", info.name, info.source);
        let colour = watched.would.map(|_| YELLOW);
        page.hanging("  shadow  ", &tail, colour);
        clause(&watched.step.clause, 10, page);
    }
}

fn rule(step: &Step, kind: RuleKind, explained: &Explained, policy: &Policy, page: &mut Page) {
    let decided = explained.decision().and_then(|decision| decision.rule) == Some(step.rule);
    let mark = if decided { ">" } else { " " };
    let (word, hit) = match kind {
        RuleKind::Deny => ("deny", RED),
        RuleKind::Allow => ("allow", GREEN),
    };
    let colour = match step.clause.outcome {
        Outcome::Holds => hit,
        Outcome::Failed => YELLOW,
        Outcome::Open => CYAN,
        Outcome::Fails => PLAIN,
    };
    let info = policy.rule(step.rule);
    let outcome = match step.clause.outcome {
        Outcome::Holds => "matches",
        Outcome::Fails => "no match",
        Outcome::Open | Outcome::Failed => step.clause.outcome.as_str(),
    };
    let head = format!("{mark} {word:<6}  {outcome:<8}  ");
    let tail = format!("{} ({}, {})", info.name, step.scope.as_str(), info.source);
    page.hanging(&head, &tail, Some(colour));
    clause(&step.clause, 10, page);
}

fn clause(clause: &Clause, indent: usize, page: &mut Page) {
    let pad = " ".repeat(indent);
    if clause.keys.is_empty() && clause.until.is_none() {
        page.hanging(&pad, "holds   for every request", None);
    }
    for key in &clause.keys {
        self::key(key, &pad, page);
    }
    if let Some((end, outcome)) = clause.until {
        let word = outcome.as_str();
        page.hanging(&format!("{pad}{word:<6}  "), &format!("until {end}"), None);
    }
    for excepted in &clause.unless {
        let word = excepted.outcome.as_str();
        page.hanging(&format!("{pad}unless  {word}"), "", None);
        self::clause(excepted, indent + 8, page);
    }
}

fn key(key: &Key, pad: &str, page: &mut Page) {
    let word = key.outcome.as_str();
    page.hanging(&format!("{pad}{word:<6}  "), &key.words, None);
    page.hanging(&format!("{pad}        "), &key.because, Some(FAINT));
}

fn answer(answer: &Answer, page: &mut Page) {
    match answer {
        Answer::Upstream(name) => {
            page.field(
                "answer",
                &format!("whatever upstream `{name}` answers"),
                None,
            );
        }
        Answer::Redirect(status, to) => page.field("answer", &format!("{status} to {to}"), None),
        Answer::Fixed(status) => page.field("answer", &format!("{status}, of the route"), None),
        Answer::Closed => page.field("answer", "none: the connection is closed", None),
        Answer::Refused {
            response,
            reason,
            message,
        } => {
            page.field(
                "answer",
                &format!("{} {reason}", response.status().as_u16()),
                None,
            );
            page.field("", message, None);
            for name in [CONTENT_TYPE, WWW_AUTHENTICATE, LINK, RETRY_AFTER] {
                for value in response.headers().get_all(&name) {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    page.field("", &format!("{name}: {value}"), None);
                }
            }
        }
    }
}

fn logged(explained: &Explained, page: &mut Page) {
    let Some(logged) = &explained.question.logged else {
        return;
    };
    let mut text = logged
        .status
        .map_or_else(|| "no status".to_owned(), |s| s.to_string());
    if let Some(decision) = &logged.decision {
        text.push_str(&format!(", {decision}"));
    }
    if let Some(rule) = &logged.rule {
        text.push_str(&format!(" by `{rule}`"));
    }
    if let Some(generation) = logged.generation {
        text.push_str(&format!(", generation {generation}"));
    }
    if let Some(id) = &logged.id {
        text.push_str(&format!(", request {id}"));
    }
    page.field("logged", &text, None);
}

/// Text in 80 columns. What a request carried may hold anything: control characters are shown, not sent to the terminal.
struct Page {
    text: String,
    paint: Paint,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn field(&mut self, name: &str, text: &str, colour: Option<&str>) {
        self.hanging(&format!("{name:<10}"), text, colour);
    }

    /// A text behind a head; its further lines stand under its first.
    fn hanging(&mut self, head: &str, text: &str, colour: Option<&str>) {
        let text = plain(text);
        let pad = " ".repeat(head.chars().count());
        let room = WIDTH.saturating_sub(pad.len()).max(ROOM_MIN);
        let mut rest = text.as_str();
        let mut head = head;
        loop {
            let (line, after) = split(rest, room);
            self.painted(&format!("{head}{line}"), colour);
            if after.is_empty() {
                return;
            }
            (rest, head) = (after, &pad);
        }
    }

    fn painted(&mut self, line: &str, colour: Option<&str>) {
        let line = line.trim_end();
        match colour.filter(|colour| self.paint == Paint::Colour && !colour.is_empty()) {
            // Writing to a string cannot fail.
            Some(colour) => writeln!(self.text, "{colour}{line}{RESET}").unwrap_or_default(),
            None => writeln!(self.text, "{line}").unwrap_or_default(),
        }
    }
}

/// Text without characters that a terminal would obey.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// As many words as fit, and the rest; a word that is longer than a line stays whole.
fn split(text: &str, room: usize) -> (&str, &str) {
    if text.chars().count() <= room {
        return (text, "");
    }
    let edge = text.char_indices().nth(room + 1);
    let edge = edge.map_or(text.len(), |(at, _)| at);
    let fits = text.get(..edge).unwrap_or(text);
    let at = fits
        .rfind(' ')
        .or_else(|| text.find(' '))
        .unwrap_or(text.len());
    let (line, after) = text.split_at_checked(at).unwrap_or((text, ""));
    (line, after.trim_start())
}

const WIDTH: usize = 80;
/// However deep it stands, a text has this much room.
const ROOM_MIN: usize = 30;
const RED: &str = "\u{1b}[1;31m";
const GREEN: &str = "\u{1b}[1;32m";
const YELLOW: &str = "\u{1b}[1;33m";
const CYAN: &str = "\u{1b}[36m";
const FAINT: &str = "\u{1b}[2m";
const PLAIN: &str = "";
const RESET: &str = "\u{1b}[0m";
