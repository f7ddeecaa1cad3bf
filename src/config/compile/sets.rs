//! `[ip]`, `[country]`, `[asn]` and `[claim]`: values named once and used with `@`. `[time]` is in `window`.
//!
//! A set may name other sets of its kind. A set of addresses may stand in a file (`list`) and may hold names
//! (`dns:home.example.net`), which the control thread resolves.
//!
//! Codes: `unknown-set`, `set-cycle`, `set-too-deep`, `reserved-name`, `empty-set`, `bad-address`, `host-bits`, `stale-name`,
//! `unknown-country`, `bad-asn`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{client, list};
use crate::config::nearest::nearest;
use crate::config::node::{Entry, Node, Span, Table, Value};
use crate::config::{Context, Diagnostic};
use crate::policy::condition::{Countries, Systems};
use crate::value::cidr::{self, CidrError, Class};
use crate::value::country::{self, Country};
use crate::value::duration;
use crate::value::host::HostPattern;

/// Expands one entry of a list of addresses: a network, an address, `@set`, `@private` and the other classes, the name of
/// a provider with or without `@`, `dns:name`. Mistakes inside a set are reported where sets are compiled, not here.
pub fn networks(root: &Table, node: &Node, cx: &mut Context) -> Vec<IpNet> {
    let mut networks = Networks::default();
    if let Some(name) = node.as_str()
        && let Some(found) = client::provider(root, name, node.span, cx)
    {
        return found;
    }
    let mut sets = Named::<Networks>::new(root, Tone::Quiet);
    sets.value(node, &mut networks, cx);
    networks.nets
}

/// A kind of values that sets hold.
pub(super) trait Set: Clone + Default {
    /// The table that names such sets.
    const TABLE: &'static str;
    /// The names that need no definition.
    fn builtins() -> Vec<&'static str>;
    /// A set that needs no definition.
    fn builtin(name: &str, root: &Table, at: Span, cx: &mut Context) -> Option<Self>;
    /// Adds a value.
    fn add(&mut self, node: &Node, root: &Table, cx: &mut Context);
    /// Adds what a table says, where sets of this kind may be tables.
    fn add_table(&mut self, _table: &Table, _cx: &mut Context) {}
    /// Adds another set.
    fn join(&mut self, other: &Self);
}

/// Who hears of mistakes inside the definition of a set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tone {
    Loud,
    Quiet,
}

/// The sets of one kind, defined as they are asked for.
pub(super) struct Named<'t, S> {
    root: &'t Table,
    known: BTreeMap<String, S>,
    /// The sets whose definitions are being read: one that is met again is a circle.
    open: Vec<String>,
    tone: Tone,
}

impl<'t, S: Set> Named<'t, S> {
    const fn new(root: &'t Table, tone: Tone) -> Self {
        Self {
            root,
            known: BTreeMap::new(),
            open: Vec::new(),
            tone,
        }
    }

    /// Reads every definition and reports every mistake in one.
    pub(super) fn compile(root: &'t Table, cx: &mut Context) -> Self {
        let mut sets = Self::new(root, Tone::Loud);
        for Entry { key, key_span, .. } in root.table(S::TABLE).into_iter().flat_map(|t| &t.entries)
        {
            if S::builtins().contains(&key.as_str()) {
                let message = format!("set `@{key}` is built in and cannot be defined");
                cx.error("reserved-name", *key_span, message);
            }
            sets.named(key, *key_span, cx);
        }
        sets
    }

    /// Adds a value, or the set that it names, to a set.
    pub(super) fn value(&mut self, node: &Node, set: &mut S, cx: &mut Context) {
        match node.as_str().and_then(|text| text.strip_prefix('@')) {
            Some(name) => {
                let other = self.named(name, node.span, cx);
                set.join(&other);
            }
            None => set.add(node, self.root, cx),
        }
    }

    /// All values of a key.
    pub(super) fn values(&mut self, node: &Node, cx: &mut Context) -> S {
        let mut set = S::default();
        if node.as_list().is_some_and(<[Node]>::is_empty) {
            empty(node.span, cx);
        }
        for item in node.many() {
            self.value(item, &mut set, cx);
        }
        set
    }

    fn named(&mut self, name: &str, at: Span, cx: &mut Context) -> S {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        if self.open.iter().any(|open| open == name) {
            let circle = self.open.iter().skip_while(|open| *open != name);
            let circle: Vec<&str> = circle.map(String::as_str).chain([name]).collect();
            let message = format!("set `@{name}` holds itself: {}", circle.join(" → "));
            cx.error("set-cycle", at, message);
            return S::default();
        }
        if self.open.len() >= DEPTH_MAX {
            let message = format!("sets hold sets that hold sets, more than {DEPTH_MAX} deep");
            let finding = Diagnostic::error("set-too-deep", at, message);
            cx.say(finding.help("name the values, or sets nearer to them"));
            return S::default();
        }
        let table = self.root.table(S::TABLE);
        let mut set = S::default();
        if let Some(entry) = table.and_then(|table| table.entry(name)) {
            let before = cx.report.diagnostics.len();
            self.open.push(name.to_owned());
            match &entry.node.value {
                Value::Table(table) => set.add_table(table, cx),
                Value::String(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Boolean(_)
                | Value::Datetime(_)
                | Value::List(_) => set = self.values(&entry.node, cx),
            }
            self.open.pop();
            if self.tone == Tone::Quiet {
                cx.report.diagnostics.truncate(before);
            }
        } else if let Some(builtin) = S::builtin(name, self.root, at, cx) {
            set = builtin;
        } else {
            let names = table.into_iter().flat_map(|table| &table.entries);
            let names = names.map(|entry| entry.key.as_str()).chain(S::builtins());
            let message = format!("set `@{name}` is not defined in `[{}]`", S::TABLE);
            cx.say(suggest(
                Diagnostic::error("unknown-set", at, message),
                name,
                names,
                "@",
            ));
            return set;
        }
        self.known.insert(name.to_owned(), set.clone());
        set
    }
}

/// Adds the nearest name to a finding.
pub(super) fn suggest<'n>(
    finding: Diagnostic,
    word: &str,
    names: impl IntoIterator<Item = &'n str>,
    mark: &str,
) -> Diagnostic {
    match nearest(word, names) {
        Some(name) => finding.help(format!("did you mean `{mark}{name}`?")),
        None => finding,
    }
}

pub(super) fn empty(span: Span, cx: &mut Context) {
    let finding = Diagnostic::error("empty-set", span, "an empty list matches nothing");
    cx.say(finding.help("name at least one value, or remove the key"));
}

/// A set of addresses.
#[derive(Debug, Clone, Default)]
pub(super) struct Networks {
    pub(super) nets: Vec<IpNet>,
    /// Whether a name in it has no addresses yet.
    pub(super) incomplete: bool,
}

impl Set for Networks {
    const TABLE: &'static str = "ip";

    fn builtins() -> Vec<&'static str> {
        let classes = Class::ALL.into_iter().map(|(name, _)| name);
        classes.chain(PROVIDERS).collect()
    }

    fn builtin(name: &str, root: &Table, at: Span, cx: &mut Context) -> Option<Self> {
        let nets = match Class::named(name) {
            Some(class) => class.networks(),
            None => client::provider(root, name, at, cx)?,
        };
        Some(Self {
            nets,
            incomplete: false,
        })
    }

    fn add(&mut self, node: &Node, root: &Table, cx: &mut Context) {
        let Some(text) = node.as_str() else { return };
        if let Some(name) = text.strip_prefix("dns:") {
            self.add_name(name, node.span, root, cx);
            return;
        }
        match cidr::parse(text) {
            Ok(net) => self.nets.push(net),
            Err(CidrError::HostBits(net)) => {
                let message = format!("`{text}` has bits set behind its prefix");
                let finding = Diagnostic::error("host-bits", node.span, message);
                cx.say(finding.help(format!("the network is `{net}`")));
            }
            Err(error @ (CidrError::Address | CidrError::Prefix(_))) => {
                let message = format!("`{text}` is no network: {error}");
                let finding = Diagnostic::error("bad-address", node.span, message);
                let named = root
                    .table(Self::TABLE)
                    .is_some_and(|t| t.get(text).is_some());
                cx.say(if named || Self::builtins().contains(&text) {
                    finding.help(format!("the set is `@{text}`"))
                } else {
                    finding.help("write a network such as `203.0.113.0/24`, an address, `@set` or `dns:name`")
                });
            }
        }
    }

    fn add_table(&mut self, table: &Table, cx: &mut Context) {
        let Some(node) = table.get("file") else {
            return;
        };
        if let Some(nets) = list::networks(node, table.str("shrink_limit"), cx) {
            self.nets.extend(nets.iter());
        }
    }

    fn join(&mut self, other: &Self) {
        self.nets.extend_from_slice(&other.nets);
        self.incomplete |= other.incomplete;
    }
}

/// How deep sets may hold each other: nobody reads more, and each level takes room on the stack.
const DEPTH_MAX: usize = 64;

/// The providers that [`client::provider`] knows.
const PROVIDERS: [&str; 3] = ["cloudflare", "cloudfront", "fastly"];

impl Networks {
    fn add_name(&mut self, name: &str, at: Span, root: &Table, cx: &mut Context) {
        let Ok(HostPattern::Exact(name)) = name.parse() else {
            let message = format!("`dns:{name}` names no host");
            cx.error("bad-address", at, message);
            return;
        };
        let name = String::from(name);
        let limit = root
            .table("client")
            .and_then(|client| client.str("dns_max_age"));
        let limit = limit.and_then(|text| duration::parse(text).ok());
        let fresh = |learned: jiff::Timestamp| {
            let age = Duration::try_from(cx.now.duration_since(learned)).unwrap_or_default();
            age <= limit.unwrap_or(DNS_AGE_MAX)
        };
        match cx.memory.names.get(&name) {
            Some((learned, addresses)) if fresh(*learned) => {
                let nets = addresses
                    .iter()
                    .map(|address| IpNet::from(cidr::canonical(*address)));
                self.nets.extend(nets);
            }
            Some(_) => {
                self.incomplete = true;
                let message =
                    format!("`{name}` has not been resolved for longer than `dns_max_age`");
                cx.say(Diagnostic::warning("stale-name", at, message));
            }
            None => self.incomplete = true,
        }
        cx.memory.wanted_names.insert(name);
    }
}

/// `[client] dns_max_age`, where it is not written.
const DNS_AGE_MAX: Duration = Duration::from_hours(24);

impl Set for Countries {
    const TABLE: &'static str = "country";

    fn builtins() -> Vec<&'static str> {
        country::GROUPS.to_vec()
    }

    fn builtin(name: &str, _root: &Table, _at: Span, _cx: &mut Context) -> Option<Self> {
        Some(country::group(name)?.iter().copied().collect())
    }

    fn add(&mut self, node: &Node, _root: &Table, cx: &mut Context) {
        match node.as_str() {
            None => {}
            Some("unlisted") => self.unlisted = true,
            Some(code) => {
                if let Some(country) = code_of::<Country>(code, "unknown-country", node.span, cx) {
                    self.insert(country);
                }
            }
        }
    }

    fn join(&mut self, other: &Self) {
        self.extend(other);
    }
}

/// A code of geography, or a finding with what was probably meant.
pub(super) fn code_of<C>(text: &str, code: &'static str, at: Span, cx: &mut Context) -> Option<C>
where
    C: std::str::FromStr<Err = country::UnknownCode>,
{
    match text.parse() {
        Ok(read) => Some(read),
        Err(error) => {
            let finding = Diagnostic::error(code, at, error.to_string());
            cx.say(match error.suggestion {
                Some(meant) => finding.help(format!("did you mean `{meant}`?")),
                None => finding,
            });
            None
        }
    }
}

impl Set for Systems {
    const TABLE: &'static str = "asn";

    fn builtins() -> Vec<&'static str> {
        Vec::new()
    }

    fn builtin(_name: &str, _root: &Table, _at: Span, _cx: &mut Context) -> Option<Self> {
        None
    }

    fn add(&mut self, node: &Node, _root: &Table, cx: &mut Context) {
        let number = node.as_int().and_then(|number| u32::try_from(number).ok());
        match (number, node.as_str()) {
            (Some(number), _) => self.join(&Self {
                numbers: [number].into(),
                unlisted: false,
            }),
            (None, Some("unlisted")) => self.unlisted = true,
            (None, Some(text)) => {
                let message = format!("`{text}` is no number of an autonomous system");
                let finding = Diagnostic::error("bad-asn", node.span, message);
                cx.say(finding.help("write the number without `AS` and without quotes: `64500`"));
            }
            (None, None) => {}
        }
    }

    fn join(&mut self, other: &Self) {
        let mut numbers = self.numbers.to_vec();
        numbers.extend_from_slice(&other.numbers);
        numbers.sort_unstable();
        numbers.dedup();
        self.numbers = numbers.into();
        self.unlisted |= other.unlisted;
    }
}

/// The orders of claim values: `plan = { order = ["free", "pro"] }`.
pub(super) fn orders(root: &Table) -> BTreeMap<String, Arc<[Arc<str>]>> {
    let entries = root
        .table("claim")
        .into_iter()
        .flat_map(|table| &table.entries);
    let orders = entries.filter_map(|entry| {
        let order = entry.node.as_table()?.many("order");
        Some((
            entry.key.clone(),
            order.filter_map(Node::as_str).map(Arc::from).collect(),
        ))
    });
    orders.collect()
}
