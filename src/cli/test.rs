//! `test`: runs the policy's own tests, says what no test looks at, and which small mistakes no test would notice.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;

use super::check::{input, paint};
use crate::config::compile::{rules, tests};
use crate::config::{self, Context, Loaded, Memory, Report, Table};
use crate::policy::draft::Draft;
use crate::policy::mutate::{self, Change, Mutant};
use crate::policy::{Mode, Policy, RuleId, RuleKind};
use crate::snapshot::Snapshot;

/// Arguments of `test`.
#[derive(Debug, Clone, Default, Args)]
pub struct TestArgs {
    /// The configuration; without one: /etc/portcullis/portcullis.toml, else the built-in demo
    file: Option<PathBuf>,
    /// List the rules that no test decides
    #[arg(long)]
    coverage: bool,
    /// Delete or flip one rule at a time, and list the mistakes that no test notices
    #[arg(long)]
    mutate: bool,
}

/// Tests. Exit 0 where every test holds, 4 where one fails, 3 where the configuration is not valid.
#[must_use]
pub fn run(args: &TestArgs) -> ExitCode {
    let (name, input) = input(args.file.as_deref());
    let loaded = config::load(input, Memory::default(), 1, Timestamp::now());
    let Some(snapshot) = &loaded.snapshot else {
        super::tell_report(&loaded.report.render(paint()));
        super::tell(&format!("{name}: not valid"));
        return ExitCode::from(super::CONFIG_INVALID);
    };
    let bench = Bench::of(&loaded, snapshot);
    let mut text = bench.failures();
    let failed = bench.ran.iter().filter(|ran| !ran.holds).count();
    let passed = bench.ran.len() - failed;
    text.push_str(&format!("{passed} passed, {failed} failed\n"));
    if args.coverage {
        text.push_str(&bench.coverage());
    }
    if args.mutate {
        text.push_str(&bench.mutants(MUTATE_TIME));
    }
    let printed = super::print(&text);
    if failed > 0 {
        return ExitCode::from(super::ANSWER_NO);
    }
    printed
}

/// The tests of one configuration, run.
struct Bench<'l> {
    root: &'l Table,
    draft: Draft,
    policy: Policy,
    cases: Vec<tests::Case>,
    ran: Vec<tests::Ran>,
    context: Context,
}

impl<'l> Bench<'l> {
    fn of(loaded: &'l Loaded, snapshot: &Snapshot) -> Self {
        // The tables are compiled again, since a snapshot no longer has what its policy was built from.
        let mut context = Context {
            report: Report {
                files: loaded.report.files.clone(),
                ..Report::default()
            },
            memory: loaded.memory.clone(),
            now: Timestamp::now(),
            ..Context::default()
        };
        let root = &loaded.root;
        let draft = rules::draft(root, snapshot.geo.provides(), &mut context);
        let policy = Policy::new(draft.clone());
        let cases = tests::read_all(root, &mut context);
        let ran = cases.iter().map(|case| case.run(root, &policy)).collect();
        Self {
            root,
            draft,
            policy,
            cases,
            ran,
            context,
        }
    }

    fn failures(&self) -> String {
        let mut text = String::new();
        for (case, ran) in self.cases.iter().zip(&self.ran) {
            if ran.holds {
                continue;
            }
            let source = self.context.source(case.span);
            text.push_str(&format!("failed: {} ({source})\n", case.name));
            text.push_str(&format!("  expected  {}\n", ran.expected));
            text.push_str(&format!("  got       {}\n", ran.got));
            text.push_str(&match ran.rule {
                Some(rule) => format!("  decided   {}\n\n", self.rule(rule)),
                None => "  decided   by no single rule\n\n".to_owned(),
            });
        }
        text
    }

    fn coverage(&self) -> String {
        let decided: BTreeSet<RuleId> = self.ran.iter().filter_map(|ran| ran.rule).collect();
        // A shadow rule decides nothing.
        let all = (0..).map(RuleId).zip(self.policy.rules());
        let enforced = all.filter(|(_, rule)| rule.mode == Mode::Enforced);
        let ids: Vec<RuleId> = enforced.map(|(id, _)| id).collect();
        let rules = ids.len();
        let idle = ids.into_iter().filter(|id| !decided.contains(id));
        let idle: Vec<RuleId> = idle.collect();
        let mut text = format!(
            "{} of {rules} rules decide a test\n",
            rules.saturating_sub(idle.len())
        );
        for id in idle {
            text.push_str(&format!("  no test is decided by {}\n", self.rule(id)));
        }
        text
    }

    fn mutants(&self, patience: Duration) -> String {
        let started = Instant::now();
        let all = mutate::every(&self.draft);
        let (mut tried, mut noticed) = (0, 0);
        let mut text = String::new();
        for mutant in &all {
            if started.elapsed() > patience {
                break;
            }
            tried += 1;
            if self.notices(mutant) {
                noticed += 1;
            } else {
                text.push_str(&format!("  no test notices {}\n", self.told(mutant)));
            }
        }
        let mut whole = format!("{tried} mutants, {noticed} noticed\n{text}");
        if tried < all.len() {
            whole.push_str(&format!(
                "  stopped after {} s; {} mutants were not tried\n",
                patience.as_secs(),
                all.len() - tried
            ));
        }
        whole
    }

    /// Whether a test that holds fails with the mistake. Tests elsewhere cannot tell.
    fn notices(&self, mutant: &Mutant) -> bool {
        let mut near =
            self.cases.iter().zip(&self.ran).filter(|(_, ran)| {
                ran.holds && ran.place.is_none_or(|place| mutant.touches(place))
            });
        let Some(first) = near.next() else {
            return false;
        };
        let policy = Policy::new(mutant.of(&self.draft));
        let mut near = std::iter::once(first).chain(near);
        near.any(|(case, _)| !case.run(self.root, &policy).holds)
    }

    fn told(&self, mutant: &Mutant) -> String {
        let Some(rule) = mutant.rule else {
            return match mutant.route() {
                Some((site, route)) => format!("{} closed to everybody", self.route(site, route)),
                None => "a route closed".to_owned(),
            };
        };
        let info = self.rule(rule);
        match mutant.change {
            Change::Deleted => format!("{info} deleted"),
            Change::Flipped => {
                let other = match self.policy.rule(rule).kind {
                    RuleKind::Deny => "an allow",
                    RuleKind::Allow => "a deny",
                };
                format!("{info} turned into {other}")
            }
            Change::Excepted(entry) => format!("{info} without entry {} of `unless`", entry + 1),
            Change::Closed => format!("{info} closed"),
        }
    }

    /// `route `/a/**` of `app.example.com` (site.toml:12)`.
    fn route(&self, site: usize, route: usize) -> String {
        let Some(site) = self.root.tables("site").nth(site) else {
            return "a route".to_owned();
        };
        let host = site.many("host").find_map(config::Node::as_str);
        let host = host.unwrap_or_default();
        let (path, span) = match site.tables("route").nth(route) {
            Some(table) => (table.str("path").unwrap_or_default(), table.span),
            None => ("/**", site.span),
        };
        format!("route `{path}` of `{host}` ({})", self.context.source(span))
    }

    /// `deny `office-only` (site.toml:12)`.
    fn rule(&self, id: RuleId) -> String {
        let rule = self.policy.rule(id);
        let kind = match rule.kind {
            RuleKind::Deny => "deny",
            RuleKind::Allow => "allow",
        };
        format!("{kind} `{}` ({})", rule.name, rule.source)
    }
}

/// A policy of ten thousand rules must not keep anybody waiting; what was not tried is said.
const MUTATE_TIME: Duration = Duration::from_secs(30);
