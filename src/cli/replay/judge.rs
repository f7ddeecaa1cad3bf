//! One line: what it says was decided, and what the new policy decides.
//!
//! The old answer of a JSON line is its own word. A line of the combined format does not say who answered: a status of 401,
//! 403, 410, 429, 444 or 451 may be the proxy's or the application's, so such a line is compared only where the new policy
//! refuses it too (it stays refused). 400, 408, 413, 414, 421 and 431 were never judged. Anything else passed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;

use super::combined;
use super::tally::{Change, Key, Sort, Tally};
use crate::cli::log_line::{LogLine, Told};
use crate::config::compile::{rules, tests::DEFAULT_CLIENT};
use crate::config::{Context, Loaded, Memory, Report};
use crate::policy::draft::Draft;
use crate::policy::facts::Scheme;
use crate::policy::simulate::{self, Asked, Caller, Outcome};
use crate::policy::unknown::{Kinds, Mood};
use crate::policy::{Place, Policy, RuleId, Verdict};
use crate::snapshot::Snapshot;
use crate::value::host::Authority;
use crate::value::region::{GeoFacts, Region};

/// What judges.
#[derive(Debug)]
pub(super) struct Judge<'l> {
    snapshot: &'l Snapshot,
    draft: Draft,
    host: Option<String>,
    /// What rules read, by their numbers.
    readers: HashMap<RuleId, (Kinds, Vec<String>)>,
    /// What any rule reads.
    reads: Kinds,
    /// By what is not known: the policy as it hurts and as it helps the client most.
    moods: RwLock<HashMap<Kinds, Arc<[Policy; 2]>>>,
}

/// What was decided.
enum Old<'l> {
    /// It passed.
    Passed(Option<Cow<'l, str>>),
    /// It was refused.
    Refused {
        status: u64,
        reason: &'l str,
        rule: Option<&'l str>,
    },
    /// It was refused by the proxy or by the application.
    RefusedBySomebody(u16),
}

/// The status as it was judged: a browser that is sent to sign in gets 302 in a 401's place.
fn judged(decision: &str, status: u64) -> u64 {
    match (decision, status) {
        ("challenge", 302) => 401,
        _ => status,
    }
}

impl<'l> Judge<'l> {
    pub(super) fn new(
        loaded: &Loaded,
        snapshot: &'l Snapshot,
        memory: Memory,
        host: Option<&str>,
    ) -> Result<Self, String> {
        let host = match host {
            None => None,
            Some(host) => match Authority::read(host) {
                Ok(read) => Some(read.host.into_owned()),
                Err(error) => return Err(format!("`{host}` is no host: {error}")),
            },
        };
        // A snapshot no longer has what its policy was built from.
        let mut context = Context {
            report: Report {
                files: loaded.report.files.clone(),
                ..Report::default()
            },
            memory,
            now: Timestamp::now(),
            ..Context::default()
        };
        let draft = rules::draft(&loaded.root, snapshot.geo.provides(), &mut context);
        let readers = draft.readers();
        let reads = readers
            .iter()
            .fold(Kinds::NONE, |all, (_, kinds, _)| all.union(*kinds));
        Ok(Self {
            snapshot,
            draft,
            host,
            readers: readers
                .into_iter()
                .map(|(rule, kinds, words)| (rule, (kinds, words)))
                .collect(),
            reads,
            moods: RwLock::default(),
        })
    }

    /// Judges a line and counts it.
    pub(super) fn line(&self, line: &[u8], number: u64, tally: &mut Tally) {
        if line.first() == Some(&b'{') {
            match LogLine::read(line) {
                Ok(read) => self.ours(&read, number, tally),
                Err(_no_line_of_ours) => tally.unreadable(number),
            }
        } else {
            match combined::read(line) {
                Some(read) => self.combined(&read, number, tally),
                None => tally.unreadable(number),
            }
        }
    }

    fn ours(&self, line: &LogLine<'_>, number: u64, tally: &mut Tally) {
        let told = match line.request(self.snapshot.policy.inputs(), &|address, now| {
            self.region(address, now)
        }) {
            Ok(told) => told,
            Err(crate::cli::log_line::Untold::NeverParsed) => {
                return tally.not_replayable(NEVER_JUDGED, number);
            }
            Err(crate::cli::log_line::Untold::Column(_)) => return tally.unreadable(number),
        };
        let old = match line.decision.as_deref() {
            None => return tally.not_replayable(NEVER_JUDGED, number),
            Some("limit") => return tally.not_replayable(LIMITED, number),
            Some("allow") => Old::Passed(line.rule.as_deref().map(Cow::Borrowed)),
            Some(decided) => Old::Refused {
                status: judged(decided, line.status.unwrap_or(0)),
                reason: line.reason.as_deref().unwrap_or_default(),
                rule: line.rule.as_deref(),
            },
        };
        self.compare(&told, &old, line.id.as_deref(), number, tally);
    }

    fn combined(&self, line: &combined::Line, number: u64, tally: &mut Tally) {
        let Some(host) = &self.host else {
            return tally.not_replayable("the line does not say the host: pass --host", number);
        };
        let old = match (&line.decided, line.status) {
            (Some(decided), _) if decided.decision == "limit" => {
                return tally.not_replayable(LIMITED, number);
            }
            (Some(decided), _) if decided.decision == "allow" => {
                Old::Passed(decided.rule.as_deref().map(Cow::Borrowed))
            }
            (Some(decided), status) => Old::Refused {
                status: judged(&decided.decision, u64::from(status)),
                reason: &decided.reason,
                rule: decided.rule.as_deref(),
            },
            (None, 400 | 408 | 413 | 414 | 421 | 431) => {
                return tally.not_replayable(NEVER_JUDGED, number);
            }
            (None, 401 | 403 | 410 | 429 | 444 | 451) => Old::RefusedBySomebody(line.status),
            (None, _) => Old::Passed(None),
        };
        let mut unknown = [Kinds::PEER, Kinds::COOKIE, Kinds::UPGRADE, Kinds::SCHEME]
            .into_iter()
            .fold(Kinds::TLS, Kinds::union);
        let inputs = self.snapshot.policy.inputs();
        let mut headers = HeaderMap::new();
        let agent = line.agent.as_deref();
        let agent = agent.and_then(|agent| HeaderValue::from_str(agent).ok());
        if let Some(agent) = agent {
            headers.insert(http::header::USER_AGENT, agent);
        }
        if inputs
            .headers
            .iter()
            .any(|name| name != http::header::USER_AGENT)
        {
            unknown = unknown.union(Kinds::HEADER);
        }
        if line.client.is_none() {
            unknown = unknown.union(Kinds::IP).union(Kinds::GEO);
        }
        let client = line.client.unwrap_or(DEFAULT_CLIENT);
        let mut region = self.region(client, line.now);
        let decided = line.decided.as_ref();
        let country = decided.and_then(|decided| decided.country.as_deref());
        if let Some(country) = country {
            region.country = country.parse().ok();
        }
        let asked = Asked {
            host: host.clone(),
            target: line.target.clone(),
            method: line.method.clone(),
            client,
            peer: client,
            region,
            scheme: Scheme::Http,
            tls: None,
            headers,
            websocket: false,
            now: line.now,
            caller: Caller::Nobody,
            device: None,
        };
        let told = Told {
            asked,
            unknown,
            looked: decided.is_some_and(|decided| decided.decision == "challenge"),
            country_logged: country.is_some(),
        };
        let id = decided.and_then(|decided| decided.id.as_deref());
        self.compare(&told, &old, id, number, tally);
    }

    fn region(&self, address: IpAddr, now: Timestamp) -> Region {
        if self.snapshot.policy.reads() == GeoFacts::NONE {
            return Region::default();
        }
        self.snapshot.geo.region(address, now)
    }

    fn compare(
        &self,
        told: &Told,
        old: &Old<'_>,
        id: Option<&str>,
        number: u64,
        tally: &mut Tally,
    ) {
        let policy = &self.snapshot.policy;
        let outcome = match self.decide(told) {
            Ok(outcome) => outcome,
            Err(why) => return tally.not_replayable(&why, number),
        };
        let status = outcome.status(policy);
        let sort = match (old, status) {
            (Old::Passed(_), None) => Sort::Unchanged,
            (Old::Passed(_), Some(_)) => Sort::WouldDeny,
            (Old::RefusedBySomebody(_), Some(_)) => Sort::Unchanged,
            (Old::RefusedBySomebody(_), None) => {
                let why =
                    "it was refused, by the proxy or by the application, and would pass the proxy";
                return tally.not_replayable(why, number);
            }
            (
                Old::Refused {
                    status: 421,
                    rule: None,
                    ..
                },
                None,
            ) => {
                return tally.not_replayable("its certificate did not cover the host", number);
            }
            (Old::Refused { .. }, None) => Sort::WouldAllow,
            (
                Old::Refused {
                    status: was,
                    reason,
                    ..
                },
                Some(status),
            ) => {
                let reason_now = outcome.reason(policy);
                let same = reason_now.is_some_and(|now| now.as_str() == *reason);
                // 499: the client left before the answer.
                if same && (*was == u64::from(status) || *was == 499) {
                    Sort::Unchanged
                } else {
                    Sort::Changed
                }
            }
        };
        if sort == Sort::Unchanged {
            return tally.same();
        }
        let asked = &told.asked;
        tally.change(Change {
            key: Key {
                sort,
                old: said(old),
                new: says(outcome, policy),
            },
            line: number,
            id: id.map(str::to_owned),
            request: short(&format!("{} {}{}", asked.method, asked.host, asked.target)),
            route: self.route(outcome, asked),
            country: match asked.region.country {
                Some(country) => country.to_string(),
                None if told.country_logged => "unlisted".to_owned(),
                None => "-".to_owned(),
            },
        });
    }

    /// What the new policy decides, or why nobody can say.
    fn decide(&self, told: &Told) -> Result<Outcome, String> {
        let unknown = told.unknown.intersection(self.reads);
        let looked = |outcome: &Outcome| {
            let verified = matches!(outcome, Outcome::Judged { verified: true, .. });
            told.looked || !verified
        };
        if unknown == Kinds::NONE {
            let outcome = simulate::live(&self.snapshot.policy, &told.asked);
            return if looked(&outcome) {
                Ok(outcome)
            } else {
                Err(UNSEEN.to_owned())
            };
        }
        let moods = self.moods(unknown);
        let [hurts, helps] = &*moods;
        let (worst, best) = (
            simulate::live(hurts, &told.asked),
            simulate::live(helps, &told.asked),
        );
        let same =
            worst.status(hurts) == best.status(helps) && worst.reason(hurts) == best.reason(helps);
        if !same {
            return Err(self.because(unknown, worst, best));
        }
        // The same end, perhaps by another rule; what both agree on is told.
        if looked(&worst) && looked(&best) {
            Ok(worst)
        } else {
            Err(UNSEEN.to_owned())
        }
    }

    fn moods(&self, unknown: Kinds) -> Arc<[Policy; 2]> {
        let known = self.moods.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&unknown) {
            return Arc::clone(known);
        }
        drop(known);
        let of = |mood| Policy::new(self.draft.assuming(unknown, mood));
        let made = Arc::new([of(Mood::Hurts), of(Mood::Helps)]);
        let mut all = self.moods.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(unknown).or_insert(made))
    }

    /// Which facts the answer hangs on.
    fn because(&self, unknown: Kinds, worst: Outcome, best: Outcome) -> String {
        let rule = |outcome: Outcome| match outcome {
            Outcome::Judged { decision, .. } => decision.rule,
            Outcome::Malformed(_) | Outcome::Ambiguous => None,
        };
        let named = [rule(worst), rule(best)].into_iter().flatten();
        for rule in named {
            let Some((kinds, words)) = self.readers.get(&rule) else {
                continue;
            };
            if !kinds.intersects(unknown) {
                continue;
            }
            let missing: Vec<&str> = unknown.words().collect();
            let words = words.iter().filter(|word| {
                let kind = word.split(' ').next().unwrap_or_default();
                missing.contains(&kind)
            });
            let words: Vec<&str> = words.map(String::as_str).collect();
            return format!("a rule reads {}", words.join(", "));
        }
        let words: Vec<&str> = unknown.words().collect();
        format!("rules read {}", words.join(", "))
    }

    /// The route that owns the request now; where there is none, the beginning of its path.
    fn route(&self, outcome: Outcome, asked: &Asked) -> String {
        let place = match outcome {
            Outcome::Judged { place, .. } => place,
            Outcome::Malformed(_) | Outcome::Ambiguous => Place::default(),
        };
        let at = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let site = place
            .site
            .and_then(|site| self.snapshot.sites.get(at(site.0)));
        let route = site.and_then(|site| {
            let route = site.routes.get(at(place.route?.0))?;
            Some(format!("{}{}", site.name, route.pattern))
        });
        route.unwrap_or_else(|| {
            let path = asked.target.split('?').next().unwrap_or_default();
            let first = path.split('/').nth(1).unwrap_or_default();
            short(&format!("{}/{first}", asked.host))
        })
    }
}

/// The old answer in words.
fn said(old: &Old<'_>) -> String {
    match old {
        Old::Passed(None) => "allowed".to_owned(),
        Old::Passed(Some(rule)) => format!("allowed by `{rule}`"),
        Old::Refused {
            status,
            reason,
            rule: None,
        } => format!("{status} {reason}"),
        Old::Refused {
            status,
            reason,
            rule: Some(rule),
        } => format!("{status} {reason} by `{rule}`"),
        Old::RefusedBySomebody(status) => status.to_string(),
    }
}

/// The new answer in words.
fn says(outcome: Outcome, policy: &Policy) -> String {
    let rule = match outcome {
        Outcome::Judged { decision, .. } => decision.rule,
        Outcome::Malformed(_) | Outcome::Ambiguous => None,
    };
    let by = rule.map(|id| format!(" by `{}`", policy.rule(id).name));
    let by = by.unwrap_or_default();
    let allowed =
        matches!(outcome, Outcome::Judged { decision, .. } if decision.verdict == Verdict::Allow);
    if allowed {
        return format!("allowed{by}");
    }
    let reason = outcome.reason(policy);
    let reason = reason.as_ref().map_or("", |reason| reason.as_str());
    format!("{} {reason}{by}", outcome.status(policy).unwrap_or(0))
}

/// A text that a client chose, without its far end.
fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

pub(super) const NEVER_JUDGED: &str =
    "no rule judged it (malformed, a redirect to https, a preflight)";
const LIMITED: &str = "a limit answered it";
pub(super) const UNSEEN: &str = "the new policy asks who it is, and nobody looked";
/// Characters of a request that are shown.
const SHOWN_MAX: usize = 60;
