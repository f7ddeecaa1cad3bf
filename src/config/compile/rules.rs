//! Denies, allows and routes: the policy.
//!
//! INVARIANT: sites are numbered in the order of `[[site]]`, routes in the order of `[[site.route]]`; a site-level `allow` is
//! one more route `/**` at the end. The snapshot numbers them alike. Hosts on two sites, routes without answer or `allow`,
//! and an `allow` beside a `/**` route are reported by the compile step `site`; here they only fail closed.
//!
//! Codes: `duplicate-rule`, `duplicate-route`, `equal-lenient-routes`, `bad-reason`, `empty-allow`, `user-without-auth`,
//! `spoofable`, `only-shadows`, and those of `condition`.

use std::collections::HashMap;
use std::sync::Arc;

use super::condition::{Stands, Terms, is_condition};
use super::value::{host, pattern};
use super::{denial, limit, step_up};
use crate::config::node::{Entry, Node, Span, Table, Value};
use crate::config::{Context, Diagnostic};
use crate::policy::condition::Condition;
use crate::policy::draft::{
    Allow, Deny, Draft, Effect, Grant, PathReading, Route, Shadow, SignIn, Site,
};
use crate::policy::limit::{Limit, LimitId};
use crate::policy::pattern::{Pattern, Shape};
use crate::policy::{
    Mode, Place, Policy, Refusal, RefusalId, RefusalStatus, RouteId, RuleId, RuleInfo, RuleKind,
    SiteId,
};
use crate::value::reason::Reason;
use crate::value::region::GeoFacts;

/// Compiles the policy. `provides` are the facts that the databases can tell.
pub fn compile(root: &Table, provides: GeoFacts, cx: &mut Context) -> Policy {
    Policy::new(draft(root, provides, cx))
}

/// The policy before its indexes are built: what `test --mutate` changes, one rule at a time.
pub(crate) fn draft(root: &Table, provides: GeoFacts, cx: &mut Context) -> Draft {
    spanned(root, provides, cx).0
}

/// Where a rule is written.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// Its name, else its table.
    pub(crate) at: Span,
    /// The tables of its `unless`.
    pub(crate) unless: Vec<Span>,
}

/// The draft, and by rule where it is written.
pub(crate) fn spanned(root: &Table, provides: GeoFacts, cx: &mut Context) -> (Draft, Vec<Written>) {
    let mut book = Book {
        root,
        terms: Terms::compile(root, provides, cx),
        rules: Vec::new(),
        shadows: Vec::new(),
        written: Vec::new(),
        refusals: vec![Refusal::default()],
        limits: Vec::new(),
        known: HashMap::from_iter([(Refusal::default(), FORBIDDEN)]),
    };
    let everywhere = Scope {
        name: String::new(),
        sources: most_sources(root),
    };
    let mut names = Names::default();
    let denies = book.denies(root, Place::default(), &everywhere, &mut names, cx);
    let numbers = (0..).map(SiteId);
    let limited = book.limits(root, &everywhere, &mut names, cx);
    let sites = root
        .tables("site")
        .zip(numbers)
        .map(|(site, id)| book.site(site, id, cx))
        .collect();
    let draft = Draft {
        rules: book.rules,
        refusals: book.refusals,
        denies,
        limits: book.limits,
        limited,
        sites,
        addresses: book.terms.sets,
        roles: book.terms.roles,
        shadows: book.shadows,
    };
    (draft, book.written)
}

/// The rules and refusals so far.
struct Book<'t> {
    root: &'t Table,
    terms: Terms<'t>,
    rules: Vec<RuleInfo>,
    shadows: Vec<Shadow>,
    /// By rule.
    written: Vec<Written>,
    /// INVARIANT: the first is the default, [`FORBIDDEN`].
    refusals: Vec<Refusal>,
    limits: Vec<Limit>,
    /// The numbers of refusals that were met.
    known: HashMap<Refusal, RefusalId, foldhash::fast::RandomState>,
}

/// The refusal of a route without `otherwise`.
const FORBIDDEN: RefusalId = RefusalId(0);

/// Where rules stand.
struct Scope {
    /// The site's name; empty for the global rules.
    name: String,
    /// How many identity sources a caller may come with.
    sources: usize,
}

/// Rule names in a scope and where they were first written.
type Names = HashMap<Arc<str>, Span, foldhash::fast::RandomState>;

fn most_sources(root: &Table) -> usize {
    let sites = root.tables("site");
    sites
        .map(|site| site.many("identity").count())
        .max()
        .unwrap_or(0)
}

impl Book<'_> {
    fn site(&mut self, table: &Table, id: SiteId, cx: &mut Context) -> Site {
        let mut hosts = Vec::new();
        for node in table.many("host") {
            let Some(text) = node.as_str() else { continue };
            hosts.extend(host(text, node.span, cx));
        }
        let name = table.many("host").next().and_then(Node::as_str);
        let scope = Scope {
            name: name.unwrap_or_default().to_owned(),
            sources: table.many("identity").count(),
        };
        let mut names = Names::default();
        let mut place = Place {
            site: Some(id),
            route: None,
        };
        let denies = self.denies(table, place, &scope, &mut names, cx);
        let limited = self.limits(table, &scope, &mut names, cx);
        let mut routes: Vec<Route> = Vec::new();
        let mut written = Patterns::default();
        for (route, number) in table.tables("route").zip((0..).map(RouteId)) {
            place.route = Some(number);
            let compiled = self.route(table, route, place, &scope, &mut names, cx);
            if let (Some(read), Some(node)) = (&compiled.pattern, route.get("path")) {
                compare(read, node.span, &mut written, cx);
            }
            routes.push(compiled);
        }
        if let Some(allow) = table.entry("allow") {
            place.route = u32::try_from(routes.len()).ok().map(RouteId);
            routes.push(Route {
                pattern: Pattern::read("/**").ok(),
                denies: Vec::new(),
                limited: Vec::new(),
                grant: self.grant(allow, "/**", place, &scope, &mut names, cx),
                otherwise: FORBIDDEN,
            });
        }
        let sources = table.many("identity").filter_map(Node::as_str);
        Site {
            hosts,
            sources: sources.map(Arc::from).collect(),
            sign_in: self.sign_in(table),
            reading: match table.str("path_reading") {
                Some("strict") => PathReading::Strict,
                Some(_) | None => PathReading::Lenient,
            },
            denies,
            limited,
            maintained: match table.table("maintenance") {
                Some(table) => self.terms.condition(table, Stands::Maintenance, cx),
                None => Condition::default(),
            },
            routes,
        }
    }

    fn sign_in(&self, site: &Table) -> SignIn {
        let sources = self.root.table("identity");
        let by_certificate = |node: &Node| {
            let source = node.as_str().and_then(|name| sources?.table(name));
            source.is_some_and(|source| source.get("mtls").is_some())
        };
        if site.many("identity").next().is_none() {
            SignIn::Never
        } else if site.many("identity").all(by_certificate) {
            SignIn::CertificateOnly
        } else {
            SignIn::Possible
        }
    }

    fn route(
        &mut self,
        site: &Table,
        table: &Table,
        place: Place,
        scope: &Scope,
        names: &mut Names,
        cx: &mut Context,
    ) -> Route {
        let path = table.get("path");
        let written = path.and_then(Node::as_str).unwrap_or_default();
        let pattern = path
            .filter(|node| node.as_str().is_some())
            .and_then(|node| pattern(written, node.span, cx));
        let mut denies = self.denies(table, place, scope, names, cx);
        if let Some(table) = table.table("step_up") {
            let (condition, refusal) = step_up::compile(self.root, site, table, cx);
            let name = Arc::from(format!("{}{written}#step_up", scope.name));
            let rule = self.rule(name, RuleKind::Deny, Mode::Enforced, table, cx);
            // Behind every other: it asks only those who would pass.
            denies.push(Deny {
                rule,
                refusal: self.told(refusal),
                condition,
            });
        }
        let limited = self.limits(table, scope, names, cx);
        let own_answer = table.get("redirect").is_some() || table.get("respond").is_some();
        let grant = match table.entry("allow") {
            Some(allow) => self.grant(allow, written, place, scope, names, cx),
            None if own_answer => Grant::Anyone,
            // Refused where routes are compiled; closed in any case.
            None => Grant::Rules(Vec::new()),
        };
        let otherwise = match table.table("otherwise") {
            Some(table) => self.refusal(table, cx),
            None => FORBIDDEN,
        };
        Route {
            pattern,
            denies,
            limited,
            grant,
            otherwise,
        }
    }

    fn denies(
        &mut self,
        table: &Table,
        place: Place,
        scope: &Scope,
        names: &mut Names,
        cx: &mut Context,
    ) -> Vec<Deny> {
        let mut denies = Vec::new();
        for (number, deny) in (1..).zip(table.tables("deny")) {
            let condition = self.terms.condition(deny, Stands::Deny, cx);
            let refusal = self.refusal(deny, cx);
            let name = match deny
                .get("name")
                .and_then(|node| Some((node, node.as_str()?)))
            {
                Some((node, name)) => claim_name(name, node.span, names, cx),
                None => Arc::from(format!("{}deny#{number}", scope.name)),
            };
            user_without_auth(deny, &name, scope, cx);
            let mode = mode(deny);
            let rule = self.rule(name, RuleKind::Deny, mode, deny, cx);
            if mode == Mode::Shadow {
                self.shadows.push(Shadow {
                    place,
                    rule,
                    effect: Effect::Deny(refusal),
                    condition,
                });
                continue;
            }
            denies.push(Deny {
                rule,
                refusal,
                condition,
            });
        }
        denies
    }

    fn limits(
        &mut self,
        table: &Table,
        scope: &Scope,
        names: &mut Names,
        cx: &mut Context,
    ) -> Vec<LimitId> {
        let mut limited = Vec::new();
        for table in table.tables("limit") {
            let Some(node) = table.get("name") else {
                continue;
            };
            let name = claim_name(node.as_str().unwrap_or_default(), node.span, names, cx);
            let standing = limit::Standing {
                scope: &scope.name,
                name: Arc::clone(&name),
                sources: scope.sources,
            };
            user_without_auth(table, &name, scope, cx);
            let terms = &mut self.terms;
            if let Some(limit) = limit::compile(self.root, table, standing, terms, cx) {
                limited.push(LimitId(
                    u32::try_from(self.limits.len()).unwrap_or(u32::MAX),
                ));
                self.limits.push(limit);
            }
        }
        limited
    }

    fn grant(
        &mut self,
        allow: &Entry,
        path: &str,
        place: Place,
        scope: &Scope,
        names: &mut Names,
        cx: &mut Context,
    ) -> Grant {
        if allow.node.as_str() == Some("anyone") {
            return Grant::Anyone;
        }
        if allow.node.as_list().is_some_and(<[Node]>::is_empty) {
            let finding = Diagnostic::error(
                "empty-allow",
                allow.node.span,
                "an empty `allow` lets nobody pass",
            );
            cx.say(finding.help("write `allow = \"anyone\"`, or a table of conditions"));
        }
        let (mut allows, mut shadows) = (Vec::new(), 0);
        for (number, table) in (1..).zip(allow.node.many().filter_map(Node::as_table)) {
            let condition = self.terms.condition(table, Stands::Allow, cx);
            let name = match table
                .get("name")
                .and_then(|node| Some((node, node.as_str()?)))
            {
                Some((node, name)) => claim_name(name, node.span, names, cx),
                None => Arc::from(format!("{}{path}#{number}", scope.name)),
            };
            user_without_auth(table, &name, scope, cx);
            spoofable(table, &name, cx);
            let mode = mode(table);
            let rule = self.rule(name, RuleKind::Allow, mode, table, cx);
            if mode == Mode::Shadow {
                shadows += 1;
                self.shadows.push(Shadow {
                    place,
                    rule,
                    effect: Effect::Allow,
                    condition,
                });
                continue;
            }
            allows.push(Allow { rule, condition });
        }
        if allows.is_empty() && shadows > 0 {
            let message = "every entry of this `allow` is a shadow, so nobody passes";
            let finding = Diagnostic::error("only-shadows", allow.key_span, message);
            cx.say(finding.help("write who may pass today beside them, or `allow = \"anyone\"`"));
        }
        Grant::Rules(allows)
    }

    fn rule(
        &mut self,
        name: Arc<str>,
        kind: RuleKind,
        mode: Mode,
        table: &Table,
        cx: &Context,
    ) -> RuleId {
        let id = RuleId(u32::try_from(self.rules.len()).unwrap_or(u32::MAX));
        let source = cx.source(table.span);
        let excepted = table.tables("unless").map(|table| table.span);
        self.written.push(Written {
            at: table.get("name").map_or(table.span, |node| node.span),
            unless: excepted.collect(),
        });
        self.rules.push(RuleInfo {
            name,
            source,
            kind,
            mode,
        });
        id
    }

    /// What a deny or an `otherwise` answers.
    fn refusal(&mut self, table: &Table, cx: &mut Context) -> RefusalId {
        let status = match table.get("status").map(|node| &node.value) {
            Some(Value::Integer(404)) => RefusalStatus::NotFound,
            Some(Value::Integer(410)) => RefusalStatus::Gone,
            Some(Value::Integer(451)) => RefusalStatus::Legal,
            Some(Value::String(word)) if word == "close" => RefusalStatus::Close,
            Some(_) | None => RefusalStatus::Forbidden,
        };
        let reason = match table
            .get("reason")
            .and_then(|node| Some((node, node.as_str()?)))
        {
            None => Reason::FORBIDDEN,
            Some((node, text)) => Reason::parse(text).unwrap_or_else(|error| {
                let message = format!("`{text}` is no reason code");
                cx.say(Diagnostic::error("bad-reason", node.span, message).help(error.to_string()));
                Reason::FORBIDDEN
            }),
        };
        let refusal = Refusal {
            status,
            reason,
            message: table.str("message").map(Arc::from),
            page: table.get("page").and_then(|node| denial::page(node, cx)),
            link: table.str("link").map(Arc::from),
            upgrade_url: table.str("upgrade_url").map(Arc::from),
            step_up: None,
        };
        self.told(refusal)
    }

    /// The number of a refusal.
    fn told(&mut self, refusal: Refusal) -> RefusalId {
        if let Some(known) = self.known.get(&refusal) {
            return *known;
        }
        let id = RefusalId(u32::try_from(self.refusals.len()).unwrap_or(u32::MAX));
        self.known.insert(refusal.clone(), id);
        self.refusals.push(refusal);
        id
    }
}

/// `shadow` of a rule.
fn mode(table: &Table) -> Mode {
    match table.bool("shadow") {
        Some(true) => Mode::Shadow,
        Some(false) | None => Mode::Enforced,
    }
}

/// A rule's name; a finding where the scope has it already.
fn claim_name(name: &str, at: Span, names: &mut Names, cx: &mut Context) -> Arc<str> {
    match names.get(name) {
        Some(first) => {
            let message = format!("rule `{name}` is named twice");
            let finding = Diagnostic::error("duplicate-rule", at, message);
            cx.say(finding.related(*first, "first written here"));
        }
        None => {
            let name: Arc<str> = Arc::from(name);
            names.insert(Arc::clone(&name), at);
            return name;
        }
    }
    Arc::from(name)
}

/// The routes of a site so far, by both readings of their patterns.
#[derive(Default)]
struct Patterns {
    strict: HashMap<Shape, Span, foldhash::fast::RandomState>,
    lenient: HashMap<Shape, (Arc<str>, Span), foldhash::fast::RandomState>,
}

/// Reports a route whose pattern another route of the site has.
fn compare(read: &Pattern, at: Span, written: &mut Patterns, cx: &mut Context) {
    if let Some(first) = written.strict.get(read.strict()) {
        let message = format!("route `{read}` is written twice");
        let finding = Diagnostic::error("duplicate-route", at, message);
        cx.say(finding.related(*first, "first written here"));
    } else if let Some((other, first)) = written.lenient.get(read.lenient()) {
        let message = format!(
            "routes `{read}` and `{other}` are the same to an upstream that reads paths leniently"
        );
        let finding = Diagnostic::error("equal-lenient-routes", at, message);
        cx.say(finding.related(*first, "the other route").help(
            "requests for either would be refused as ambiguous; name one of them, or put the conditions of both into one route",
        ));
    }
    let strict = written.strict.entry(read.strict().clone());
    strict.or_insert(at);
    let lenient = written.lenient.entry(read.lenient().clone());
    lenient.or_insert_with(|| (Arc::clone(read.words()), at));
}

/// Reports a `user` that two sources could vouch for.
fn user_without_auth(table: &Table, rule: &Arc<str>, scope: &Scope, cx: &mut Context) {
    let Some(user) = table.entry("user") else {
        return;
    };
    if scope.sources > 1 && table.get("auth").is_none() {
        let message = "several identity sources could vouch for this user";
        let finding = Diagnostic::finding("user-without-auth", user.key_span, message);
        cx.say(
            finding
                .about(Arc::clone(rule))
                .help("name the source as well: `auth = \"…\"`"),
        );
    }
}

/// Reports an allow that rests on what any client can send.
fn spoofable(table: &Table, rule: &Arc<str>, cx: &mut Context) {
    let mut sent = table
        .entries
        .iter()
        .filter(|entry| matches!(&*entry.key, "header" | "query" | "cookie"));
    let Some(first) = sent.next() else { return };
    let chosen = |key: &str| {
        matches!(
            key,
            "header" | "query" | "cookie" | "method" | "path" | "host" | "scheme" | "upgrade"
        )
    };
    if table
        .entries
        .iter()
        .all(|entry| !is_condition(&entry.key) || chosen(&entry.key))
    {
        let message = format!(
            "this allow rests on a {} alone, which any client can send",
            first.key
        );
        let finding = Diagnostic::finding("spoofable", first.key_span, message);
        cx.say(
            finding
                .about(Arc::clone(rule))
                .help("ask for `ip`, `role`, `user` or `auth` as well"),
        );
    }
}
