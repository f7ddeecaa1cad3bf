//! The tables of conditions that stand in denies, in `allow` and in `unless`.
//!
//! Codes: `empty-condition`, `unless-nested`, `until-misplaced`, `expired`, `unknown-role`, `unknown-source`,
//! `unknown-value`, `unknown-window`, `unknown-continent`, `unknown-subdivision`, `bad-host`, `bad-pattern`, `bad-regex`,
//! `bad-glob`, `bad-method`, `bad-header-name`, `header-forbidden`, `fact-not-provided`, and those of `sets`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;
use jiff::tz::TimeZone;

use super::sets::{self, Named, Networks, code_of, empty, suggest};
use super::value::{continents, field, host, method, number, path, presence, texts};
use super::window;
use crate::config::node::{Entry, Node, Span, Table, Value};
use crate::config::{Context, Diagnostic};
use crate::policy::address::SetId;
use crate::policy::claim::{ClaimTest, Scalar, Wanted};
use crate::policy::condition::{
    AddressTest, AuthTest, Condition, Countries, Matcher, Presented, Systems, Test,
};
use crate::policy::facts::{Scheme, TlsVersion};
use crate::policy::role::Roles;
use crate::policy::time::Window;
use crate::value::country::Subdivision;
use crate::value::region::{Anonymizers, GeoFacts};

/// Where a table of conditions stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands {
    /// In a deny.
    Deny,
    /// In `allow`.
    Allow,
    /// In `unless`.
    Unless,
    /// In `[site.maintenance]`, which has nothing but `unless`, and whose `until` is its own.
    Maintenance,
}

/// Everything that conditions may refer to.
pub(super) struct Terms<'t> {
    networks: Named<'t, Networks>,
    countries: Named<'t, Countries>,
    systems: Named<'t, Systems>,
    windows: BTreeMap<String, Arc<Window>>,
    orders: BTreeMap<String, Arc<[Arc<str>]>>,
    zone: TimeZone,
    /// The roles that `[role]` names, where the table exists.
    declared: Option<BTreeSet<&'t str>>,
    /// The identity sources that exist.
    sources: BTreeSet<&'t str>,
    /// Header names that carry identity to the upstream.
    reserved: BTreeSet<String>,
    provides: GeoFacts,
    addresses: BTreeMap<Vec<IpNet>, SetId>,
    /// By the name of a set that stands alone: many rules name the same large one.
    alone: BTreeMap<String, AddressTest>,
    /// The address sets by number.
    pub(super) sets: Vec<Vec<IpNet>>,
    /// The roles.
    pub(super) roles: Roles,
}

impl<'t> Terms<'t> {
    /// Reads every set.
    pub(super) fn compile(root: &'t Table, provides: GeoFacts, cx: &mut Context) -> Self {
        let mut roles = Roles::default();
        let declared = root.table("role").map(|table| {
            let mut names = BTreeSet::new();
            for entry in &table.entries {
                names.insert(entry.key.as_str());
                roles.number(&entry.key);
                for held in entry.node.many().filter_map(Node::as_str) {
                    names.insert(held);
                    roles.hold(&entry.key, held);
                }
            }
            names
        });
        let named = root
            .table("identity")
            .into_iter()
            .flat_map(|table| &table.entries);
        let listed = root.tables("site").flat_map(|site| site.many("identity"));
        let sources = named.map(|entry| entry.key.as_str());
        Self {
            networks: Named::compile(root, cx),
            countries: Named::compile(root, cx),
            systems: Named::compile(root, cx),
            windows: window::compile(root, cx),
            orders: sets::orders(root),
            zone: root
                .get("time_zone")
                .map_or(TimeZone::UTC, |node| window::zone(node, cx)),
            declared,
            sources: sources.chain(listed.filter_map(Node::as_str)).collect(),
            reserved: reserved(root),
            provides,
            addresses: BTreeMap::new(),
            alone: BTreeMap::new(),
            sets: Vec::new(),
            roles,
        }
    }

    /// A table of conditions.
    pub(super) fn condition(
        &mut self,
        table: &Table,
        stands: Stands,
        cx: &mut Context,
    ) -> Condition {
        let mut tests = Vec::new();
        for entry in &table.entries {
            self.tests(entry, &mut tests, cx);
        }
        let unless = match table.entry("unless") {
            Some(entry) if stands == Stands::Unless => {
                let finding = Diagnostic::error(
                    "unless-nested",
                    entry.key_span,
                    "`unless` does not stand in `unless`",
                );
                cx.say(
                    finding.help("write another deny or allow for the exception of the exception"),
                );
                Vec::new()
            }
            Some(entry) => {
                if entry.node.as_list().is_some_and(<[Node]>::is_empty) {
                    empty(entry.node.span, cx);
                }
                let tables = entry.node.many().filter_map(Node::as_table);
                tables
                    .map(|table| self.condition(table, Stands::Unless, cx))
                    .collect()
            }
            None => Vec::new(),
        };
        let until = table
            .entry("until")
            .and_then(|entry| self.until(entry, stands, cx));
        let may_be_empty = matches!(stands, Stands::Deny | Stands::Maintenance);
        if !may_be_empty && !table.entries.iter().any(|entry| is_condition(&entry.key)) {
            let message = "a table without conditions matches everybody";
            let finding = Diagnostic::error("empty-condition", table.span, message);
            cx.say(match stands {
                Stands::Allow => finding.help("write `allow = \"anyone\"` if that is meant"),
                Stands::Deny | Stands::Unless | Stands::Maintenance => {
                    finding.help("name at least one condition")
                }
            });
        }
        Condition::new(tests, unless, until)
    }

    fn until(&self, entry: &Entry, stands: Stands, cx: &mut Context) -> Option<jiff::Timestamp> {
        if stands == Stands::Maintenance {
            return None;
        }
        if stands == Stands::Deny {
            let message = "`until` ends a grant or an exception, never a deny";
            cx.error("until-misplaced", entry.key_span, message);
            return None;
        }
        let Value::Datetime(moment) = &entry.node.value else {
            return None;
        };
        let day = window::date(moment)?;
        // The day itself is still inside.
        let end = day
            .tomorrow()
            .ok()?
            .to_zoned(self.zone.clone())
            .ok()?
            .timestamp();
        if cx.now >= end {
            let message = format!("this ended on {day}");
            let finding = Diagnostic::warning("expired", entry.node.span, message);
            cx.say(finding.help("remove the table, or set another date"));
        }
        Some(end)
    }

    /// The tests of one key: several where the key is a table of names.
    fn tests(&mut self, entry: &Entry, tests: &mut Vec<Test>, cx: &mut Context) {
        let Entry {
            key,
            node,
            key_span,
        } = entry;
        let named = match key.as_str() {
            "claim" | "device" | "header" | "query" | "cookie" | "tls" => node.as_table(),
            _ => None,
        };
        if let Some(table) = named {
            for inner in &table.entries {
                let matcher = self.named(key, inner, cx);
                let name = format!("{key}.{}", inner.key);
                tests.extend(matcher.map(|matcher| test(&name, &inner.node, matcher, cx)));
            }
            return;
        }
        if node.as_list().is_some_and(<[Node]>::is_empty) && is_condition(key) {
            empty(node.span, cx);
            return;
        }
        let matcher = self.plain(key, node, cx);
        if let Some(matcher) = matcher {
            self.provided(&matcher, key, *key_span, cx);
            tests.push(test(key, node, matcher, cx));
        }
    }

    fn plain(&mut self, key: &str, node: &Node, cx: &mut Context) -> Option<Matcher> {
        Some(match key {
            "ip" => Matcher::Client(self.address(node, cx)),
            "peer" => Matcher::Peer(self.address(node, cx)),
            "country" => Matcher::Country(self.countries.values(node, cx)),
            "continent" => Matcher::Continent(continents(node, cx)),
            "subdivision" => {
                let codes = texts(node).filter_map(|(text, span)| {
                    code_of::<Subdivision>(text, "unknown-subdivision", span, cx)
                });
                Matcher::Subdivision(codes.collect())
            }
            "asn" => Matcher::Asn(self.systems.values(node, cx)),
            "anonymizer" => {
                let kinds = texts(node).filter_map(|(text, _)| {
                    Anonymizers::ALL.into_iter().find(|(name, _)| *name == text)
                });
                let none = Anonymizers::default();
                Matcher::Anonymizer(kinds.fold(none, |set, (_, kind)| set.union(kind)))
            }
            "role" => {
                self.roles_exist(node, cx);
                Matcher::Role(self.roles.set(texts(node).map(|(name, _)| name)))
            }
            "user" => {
                let mut users: Vec<Arc<str>> =
                    texts(node).map(|(name, _)| Arc::from(name)).collect();
                users.sort_unstable();
                Matcher::User(users.into())
            }
            "auth" => Matcher::Auth(self.auth(node, cx)),
            "method" => Matcher::Method(
                texts(node)
                    .filter_map(|(text, span)| method(text, span, cx))
                    .collect(),
            ),
            "host" => Matcher::Host(
                texts(node)
                    .filter_map(|(text, span)| host(text, span, cx))
                    .collect(),
            ),
            "scheme" => {
                let known = [Scheme::Http, Scheme::Https];
                let named = |text| known.into_iter().find(|scheme| scheme.as_str() == text);
                Matcher::Scheme(texts(node).filter_map(|(text, _)| named(text)).collect())
            }
            "path" => Matcher::Path(path(node, cx)),
            "time" => Matcher::Time(self.times(node, cx)),
            "upgrade" => Matcher::WebSocket,
            _ => return None,
        })
    }

    fn named(&self, kind: &str, entry: &Entry, cx: &mut Context) -> Option<Matcher> {
        let Entry {
            key,
            node,
            key_span,
        } = entry;
        if node.as_list().is_some_and(<[Node]>::is_empty) {
            empty(node.span, cx);
            return None;
        }
        Some(match kind {
            "claim" => Matcher::Claim(self.claim(key, node, cx)),
            "device" => Matcher::Device(self.claim(key, node, cx)),
            "header" => Matcher::Header(self.header(key, *key_span, cx)?, field(node, cx)),
            "query" => Matcher::Query(key.as_str().into(), field(node, cx)),
            "cookie" => Matcher::Cookie(key.as_str().into(), field(node, cx)),
            "tls" => match key.as_str() {
                "version" => {
                    let version = |(text, _)| match text {
                        "1.2" => Some(TlsVersion::V1_2),
                        "1.3" => Some(TlsVersion::V1_3),
                        _ => None,
                    };
                    Matcher::TlsVersion(texts(node).filter_map(version).collect())
                }
                "client_cert" => Matcher::ClientCertificate(if node.as_bool()? {
                    Presented::Presented
                } else {
                    Presented::Missing
                }),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn address(&mut self, node: &Node, cx: &mut Context) -> AddressTest {
        let mut items = node.many();
        let name = items.next().and_then(Node::as_str);
        let name = name.filter(|text| text.starts_with('@') && items.next().is_none());
        if let Some(known) = name.and_then(|name| self.alone.get(name)) {
            return *known;
        }
        let before = cx.report.diagnostics.len();
        let test = self.address_of(node, cx);
        // A name that gave a finding gives it wherever it stands.
        if let Some(name) = name.filter(|_| before == cx.report.diagnostics.len()) {
            self.alone.insert(name.to_owned(), test);
        }
        test
    }

    fn address_of(&mut self, node: &Node, cx: &mut Context) -> AddressTest {
        let mut found = self.networks.values(node, cx);
        found.nets.sort_unstable();
        found.nets.dedup();
        let next = SetId(u32::try_from(self.sets.len()).unwrap_or(u32::MAX));
        let set = *self.addresses.entry(found.nets).or_insert_with_key(|nets| {
            self.sets.push(nets.clone());
            next
        });
        AddressTest {
            set,
            incomplete: found.incomplete,
        }
    }

    fn roles_exist(&self, node: &Node, cx: &mut Context) {
        let Some(declared) = &self.declared else {
            return;
        };
        for (name, span) in texts(node).filter(|(name, _)| !declared.contains(name)) {
            let message = format!("role `{name}` is named nowhere in `[role]`");
            let finding = Diagnostic::error("unknown-role", span, message);
            cx.say(suggest(finding, name, declared.iter().copied(), ""));
        }
    }

    fn auth(&self, node: &Node, cx: &mut Context) -> AuthTest {
        let mut test = AuthTest::default();
        let mut sources: Vec<Arc<str>> = Vec::new();
        for (name, span) in texts(node) {
            match name {
                "any" => test.any = true,
                "none" => test.none = true,
                _ => {
                    if !self.sources.contains(name) {
                        let message = format!("there is no identity source `{name}`");
                        let finding = Diagnostic::error("unknown-source", span, message);
                        let names = self.sources.iter().copied().chain(["any", "none"]);
                        cx.say(suggest(finding, name, names, ""));
                    }
                    sources.push(Arc::from(name));
                }
            }
        }
        test.sources = sources.into();
        test
    }

    fn times(&self, node: &Node, cx: &mut Context) -> Box<[Arc<Window>]> {
        let mut windows = Vec::new();
        for (text, span) in texts(node) {
            let found = text
                .strip_prefix('@')
                .and_then(|name| self.windows.get(name));
            if let Some(window) = found {
                windows.push(Arc::clone(window));
                continue;
            }
            let names = self.windows.keys().map(String::as_str);
            let name = text.trim_start_matches('@');
            let message = format!("set `@{name}` is not defined in `[time]`");
            let finding = Diagnostic::error("unknown-set", span, message);
            cx.say(if self.windows.contains_key(text) {
                finding.help(format!("the set is `@{text}`"))
            } else {
                suggest(finding, name, names, "@")
            });
        }
        windows.into()
    }

    fn claim(&self, path: &str, node: &Node, cx: &mut Context) -> ClaimTest {
        let wanted = match node.as_table() {
            Some(table) => self.compared(path, table, cx),
            None => None,
        };
        let want = wanted.unwrap_or_else(|| {
            let scalars = node.many().filter_map(|node| match &node.value {
                Value::String(text) => Some(Scalar::Text(text.as_str().into())),
                // A claim is JSON, whose numbers are of this type.
                Value::Integer(number) => number.to_string().parse().ok().map(Scalar::Number),
                Value::Float(number) => Some(Scalar::Number(*number)),
                Value::Boolean(flag) => Some(Scalar::Flag(*flag)),
                Value::Datetime(_) | Value::List(_) | Value::Table(_) => None,
            });
            Wanted::AnyOf(scalars.collect())
        });
        ClaimTest {
            path: Arc::from(path),
            want,
        }
    }

    fn compared(&self, path: &str, table: &Table, cx: &mut Context) -> Option<Wanted> {
        if let Some(present) = table.bool("present") {
            return Some(Wanted::Present(presence(present)));
        }
        if let Some(node) = table.get("at_least") {
            let least = node.as_str()?;
            let Some(order) = self.orders.get(path) else {
                let message = format!("`at_least` needs the order of `{path}`");
                let finding = Diagnostic::error("unknown-set", node.span, message);
                cx.say(finding.help(format!(
                    "write `[claim]` and `\"{path}\" = {{ order = [\"{least}\", …] }}`"
                )));
                return None;
            };
            let Some(from) = order.iter().position(|value| **value == *least) else {
                let message = format!("`{least}` is not in the order of `{path}`");
                let finding = Diagnostic::error("unknown-value", node.span, message);
                cx.say(suggest(
                    finding,
                    least,
                    order.iter().map(|value| &**value),
                    "",
                ));
                return None;
            };
            return Some(Wanted::AtLeast {
                order: Arc::clone(order),
                from,
            });
        }
        let (min, max) = (number(table, "min"), number(table, "max"));
        if min.is_none() && max.is_none() {
            let message = "this compares a claim with nothing";
            let finding = Diagnostic::error("empty-condition", table.span, message);
            cx.say(finding.help("write `at_least`, `min`, `max` or `present`"));
            return None;
        }
        Some(Wanted::Range { min, max })
    }

    /// The order of a claim's values, where it has one.
    pub(super) fn order(&self, claim: &str) -> Option<&Arc<[Arc<str>]>> {
        self.orders.get(claim)
    }

    /// A header that rules may read.
    pub(super) fn header(&self, name: &str, at: Span, cx: &mut Context) -> Option<HeaderName> {
        let Ok(header) = HeaderName::try_from(name) else {
            let message = format!("`{name}` is no name of a header");
            cx.error("bad-header-name", at, message);
            return None;
        };
        let alike = alike(&header);
        if is_forbidden(&alike) || self.reserved.contains(&alike) {
            let message = format!("header `{header}` cannot be a condition");
            let finding = Diagnostic::error("header-forbidden", at, message);
            cx.say(finding.help(match &*alike {
                "authorization" | "proxy-authorization" => "name `role`, `user`, `auth` or `claim`",
                "cookie" => "name `cookie.x`",
                "host" => "name `host`",
                _ => "it is removed from requests, since any client can send it; name `ip`, `user` or `role`",
            }));
            return None;
        }
        Some(header)
    }

    /// Reports a test that no database can answer.
    fn provided(&self, matcher: &Matcher, key: &str, at: Span, cx: &mut Context) {
        let reads = matcher.reads();
        if !self.provides.contains(reads) {
            let message = format!("no database provides the `{key}` of an address");
            let finding = Diagnostic::error("fact-not-provided", at, message);
            cx.say(finding.help("name a database that does in `[geoip] databases`"));
        }
    }
}

/// Headers that no condition may name: credentials, the host, and those that are always removed.
pub(super) const FORBIDDEN: [&str; 20] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "host",
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-user",
    "x-roles",
    "x-remote-user",
    "remote-user",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "set-cookie",
];

/// Headers that some site removes from requests or sets on them.
fn reserved(root: &Table) -> BTreeSet<String> {
    let fold = |name: &str| name.to_ascii_lowercase().replace(['_', '.'], "-");
    let mut names = BTreeSet::new();
    let sources = root.table("identity").map(|table| &table.entries);
    for source in sources.into_iter().flatten() {
        let asserted = source
            .node
            .as_table()
            .and_then(|table| table.table("header"));
        let fields = asserted.map(|table| [table.str("user"), table.str("roles")]);
        names.extend(fields.into_iter().flatten().flatten().map(fold));
    }
    for site in root.tables("site") {
        names.extend(
            site.many("strip_headers")
                .filter_map(Node::as_str)
                .map(fold),
        );
        for entry in site
            .table("headers_to_upstream")
            .into_iter()
            .flat_map(|t| &t.entries)
        {
            names.extend(entry.node.as_str().map(fold));
            let claims = entry
                .node
                .as_table()
                .into_iter()
                .flat_map(|table| &table.entries);
            names.extend(claims.filter_map(|claim| claim.node.as_str()).map(fold));
        }
    }
    names
}

/// Whether a header of this name, as [`alike`] has it, never comes from the client as the client sent it.
pub(super) fn is_forbidden(alike: &str) -> bool {
    let forwarding = alike.starts_with("x-forwarded-") || alike.starts_with("x-auth-request-");
    forwarding || FORBIDDEN.contains(&alike)
}

/// A header's name as an application reads it that folds `_` and `.` to `-`.
pub(super) fn alike(header: &HeaderName) -> String {
    header.as_str().replace(['_', '.'], "-")
}

/// Whether a key of a rule is a condition.
pub(super) fn is_condition(key: &str) -> bool {
    !matches!(
        key,
        "name"
            | "status"
            | "message"
            | "reason"
            | "page"
            | "link"
            | "unless"
            | "until"
            | "shadow"
            | "rate"
            | "concurrent"
            | "burst"
            | "per"
            | "on"
    )
}

fn test(key: &str, node: &Node, matcher: Matcher, cx: &Context) -> Test {
    let written = cx
        .report
        .files
        .get(usize::from(node.span.file.0))
        .and_then(|file| {
            let start = usize::try_from(node.span.start).ok()?;
            file.text.get(start..usize::try_from(node.span.end).ok()?)
        });
    let words = match written {
        Some(written) => {
            let words: Vec<&str> = written.split_whitespace().collect();
            format!("{key} = {}", words.join(" "))
        }
        None => key.to_owned(),
    };
    Test {
        matcher,
        words: Arc::from(words),
    }
}
