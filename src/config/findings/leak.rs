//! `leak`: a text for refused clients that tells how the policy is built.
//!
//! Looked at are `message` and `reason` of denies and `otherwise`, and the pages that they, a route, a site or `[denial]` name
//! (text and comments of a page, not its tags). Told must not be:
//!
//! - a network of the policy, or an address in one: `10.0.0.0/8`, `10.1.2.3`;
//! - a path that only some may use, such as `/admin/users`; but the rule of a route may name what its client has asked for;
//! - a name of a rule, a role or a set. A name such as `eu-2` or `staff_v2` counts wherever it stands as a word. A name that
//!   is an ordinary word, `office` or `sign-in`, counts only where the text speaks of it as a name: in quotes, as `@office`,
//!   or beside the word for what it is, as in "the role admin". So "ask your admin" tells nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::Scene;
use crate::config::node::{Node, Table};
use crate::config::{Context, Diagnostic};
use crate::policy::condition::{Condition, Matcher, Test};
use crate::policy::draft::Grant;
use crate::policy::{Place, RouteId, SiteId};
use crate::value::host::HostPattern;
use crate::value::path::Target;

/// Reports every text that tells too much.
pub(super) fn find(scene: &Scene<'_>, cx: &mut Context) {
    let mut lint = Lint::new(scene);
    lint.denial(scene.root, "denial", cx);
    lint.denies(scene.root, Place::default(), "", cx);
    for (s, site) in (0..).zip(scene.root.tables("site")) {
        let here = Place {
            site: Some(SiteId(s)),
            route: None,
        };
        let name = site.many("host").find_map(Node::as_str);
        let name = name.unwrap_or_default();
        lint.denial(site, name, cx);
        lint.denies(site, here, name, cx);
        for (r, route) in (0..).zip(site.tables("route")) {
            let here = Place {
                route: Some(RouteId(r)),
                ..here
            };
            let called = format!("{name}{}", route.str("path").unwrap_or_default());
            lint.denial(route, &called, cx);
            lint.denies(route, here, name, cx);
            if let Some(otherwise) = route.table("otherwise") {
                lint.texts(otherwise, here, &called, cx);
            }
        }
    }
}

/// What must not be told.
struct Lint<'s> {
    scene: &'s Scene<'s>,
    names: Vec<Name<'s>>,
    networks: Vec<IpNet>,
    /// Pages looked at: what they tell.
    pages: BTreeMap<PathBuf, Vec<String>>,
}

/// A name of the policy.
struct Name<'s> {
    name: &'s str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rule,
    Role,
    Set,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Role => "role",
            Self::Set => "set",
        }
    }

    /// Words beside which an ordinary word is a name.
    const fn beside(self) -> &'static [&'static str] {
        match self {
            Self::Rule => &["rule", "deny", "by"],
            Self::Role => &["role", "group"],
            Self::Set => &["set", "list"],
        }
    }
}

impl<'s> Lint<'s> {
    fn new(scene: &'s Scene<'s>) -> Self {
        let root = scene.root;
        let mut names = Vec::new();
        let mut add = |name: &'s str, kind| names.push(Name { name, kind });
        let sites = || root.tables("site");
        let routes = || sites().flat_map(|site| site.tables("route"));
        let allows = sites().chain(routes()).flat_map(|one| one.tables("allow"));
        let denies = std::iter::once(root).chain(sites()).chain(routes());
        let rules = denies.flat_map(|one| one.tables("deny")).chain(allows);
        let rules: Vec<&Table> = rules.collect();
        for rule in &rules {
            if let Some(name) = rule.str("name") {
                add(name, Kind::Rule);
            }
        }
        for table in rules
            .iter()
            .flat_map(|rule| std::iter::once(*rule).chain(rule.tables("unless")))
        {
            let roles = table.many("role").filter_map(Node::as_str);
            roles.for_each(|role| add(role, Kind::Role));
        }
        for entry in root
            .table("role")
            .into_iter()
            .flat_map(|roles| &roles.entries)
        {
            add(&entry.key, Kind::Role);
            let held = entry.node.many().filter_map(Node::as_str);
            held.for_each(|role| add(role, Kind::Role));
        }
        for kind in ["ip", "country", "asn", "time"] {
            let sets = root.table(kind).into_iter().flat_map(|sets| &sets.entries);
            sets.for_each(|entry| add(&entry.key, Kind::Set));
        }
        names.sort_by_key(|name| name.name);
        names.dedup_by_key(|name| (name.name, name.kind.word()));
        let mut networks: Vec<IpNet> = scene.draft.addresses.concat();
        // A class such as `@public` is no secret, and half the world is no network.
        networks.retain(|network| network.prefix_len() > 7);
        networks.sort_unstable();
        Self {
            scene,
            names,
            networks,
            pages: BTreeMap::new(),
        }
    }

    fn denies(&mut self, table: &Table, at: Place, scope: &str, cx: &mut Context) {
        for (number, deny) in (1..).zip(table.tables("deny")) {
            let called = match deny.str("name") {
                Some(name) => name.to_owned(),
                None => format!("{scope}deny#{number}"),
            };
            self.texts(deny, at, &called, cx);
        }
    }

    /// What a deny or an `otherwise` tells.
    fn texts(&mut self, table: &Table, at: Place, rule: &str, cx: &mut Context) {
        if let Some((node, text)) = string(table, "message") {
            self.say("message", &self.told(text, at), node, rule, cx);
        }
        if let Some((node, text)) = string(table, "reason") {
            // Reasons have no hyphens: `by_outside_office` speaks of `outside-office`.
            let mut told = self.told(&text.replace('_', " "), at);
            told.extend(self.told(&text.replace('_', "-"), at));
            self.say("reason", &told, node, rule, cx);
        }
        if let Some((node, file)) = string(table, "page") {
            self.page(node, file, rule, cx);
        }
    }

    /// The pages of a `[denial]`.
    fn denial(&mut self, table: &Table, rule: &str, cx: &mut Context) {
        let Some(denial) = table.table("denial") else {
            return;
        };
        if let Some((node, file)) = string(denial, "page") {
            self.page(node, file, rule, cx);
        }
        if let Some((node, folder)) = string(denial, "pages") {
            let entries = std::fs::read_dir(cx.path(node.span, folder));
            let files = entries.into_iter().flatten().flatten();
            let mut files: Vec<PathBuf> = files.map(|file| file.path()).collect();
            files.sort();
            let mut told = Vec::new();
            for file in files.iter().filter(|file| is_html(file)).take(PAGES_MAX) {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                let of_page = self.page_tells(file);
                told.extend(of_page.iter().map(|told| format!("{told} in `{name}`")));
            }
            self.say("folder of pages", &told, node, rule, cx);
        }
    }

    fn page(&mut self, node: &Node, file: &str, rule: &str, cx: &mut Context) {
        let told = self.page_tells(&cx.path(node.span, file));
        self.say("page", &told, node, rule, cx);
    }

    fn page_tells(&mut self, file: &Path) -> Vec<String> {
        if let Some(known) = self.pages.get(file) {
            return known.clone();
        }
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let told = self.told(&visible(&text), Place::default());
        self.pages.insert(file.to_owned(), told.clone());
        told
    }

    fn say(&self, what: &str, told: &[String], node: &Node, rule: &str, cx: &mut Context) {
        let mut told = told.to_vec();
        told.sort();
        told.dedup();
        if told.is_empty() {
            return;
        }
        let message = format!("this {what} tells refused clients of {}", list(&told));
        let finding = Diagnostic::finding("leak", node.span, message).about(rule);
        cx.say(finding.help(format!(
            "say what the client may do instead, or accept it: `[[accept]] finding = \"leak\", rule = \"{rule}\", why = \"…\"`"
        )));
    }

    /// What a text tells.
    fn told(&self, text: &str, at: Place) -> Vec<String> {
        let mut told = Vec::new();
        let folded = text.to_lowercase();
        for name in &self.names {
            if speaks_of(&folded, &name.name.to_lowercase(), name.kind) {
                told.push(format!("{} `{}`", name.kind.word(), name.name));
            }
        }
        for word in text.split(|c: char| c.is_whitespace() || "\"'`<>()[],;“”‘’".contains(c))
        {
            let word = word.trim_end_matches(['.', ':', '!', '?', '…']);
            if let Some(network) = self.network(word) {
                told.push(format!("network `{network}`"));
            } else if word.len() > 1 && word.starts_with('/') && self.is_guarded(word, at) {
                told.push(format!("path `{word}`"));
            }
        }
        told
    }

    /// A network of the policy that a word names, or in which the address lies that it names.
    fn network(&self, word: &str) -> Option<IpNet> {
        if let Ok(network) = word.parse::<IpNet>() {
            let mut held = self.networks.iter();
            return held
                .any(|held| held.contains(&network) || network.contains(held))
                .then_some(network);
        }
        let address = word.parse::<IpAddr>().ok()?;
        let mut held = self.networks.iter();
        held.any(|held| held.contains(&address))
            .then(|| IpNet::from(address))
    }

    /// Whether a path belongs to a route that only some may use, or to a deny that names paths; other than where the text
    /// stands.
    fn is_guarded(&self, path: &str, at: Place) -> bool {
        let Ok(target) = Target::read(path) else {
            return false;
        };
        let draft = self.scene.draft;
        let mut sites = draft.sites.iter().enumerate().filter(|(s, _)| {
            at.site
                .is_none_or(|SiteId(own)| usize::try_from(own) == Ok(*s))
        });
        let named = |condition: &Condition| {
            let mut paths = condition.tests.iter().filter_map(|test| {
                if let Matcher::Path(path) = &test.matcher {
                    Some(path)
                } else {
                    None
                }
            });
            paths.any(|path| {
                let mut narrow = path
                    .patterns
                    .iter()
                    .filter(|p| !matches!(&**p.words(), "/**" | "/*"));
                narrow.any(|pattern| pattern.covers(&target))
            })
        };
        if draft.denies.iter().any(|deny| named(&deny.condition)) {
            return true;
        }
        sites.any(|(_, site)| {
            let Some(host) = site.hosts.first().map(example) else {
                return false;
            };
            let Ok(place) = self.scene.policy.locate(&host, &target) else {
                return false;
            };
            let route = place
                .route
                .filter(|_| place.route != at.route || at.site.is_none());
            let route = route.and_then(|RouteId(r)| site.routes.get(usize::try_from(r).ok()?));
            site.denies.iter().any(|deny| named(&deny.condition))
                || route.is_some_and(|route| {
                    let whole = route.pattern.as_ref().is_none_or(|p| **p.words() == *"/**");
                    !whole && (is_narrow(&route.grant) || !route.denies.is_empty())
                })
        })
    }
}

/// Whether not everybody who can sign in may pass.
fn is_narrow(grant: &Grant) -> bool {
    let Grant::Rules(allows) = grant else {
        return false;
    };
    let wide = |test: &Test| {
        let matcher = &test.matcher;
        matches!(
            matcher,
            Matcher::Auth(_) | Matcher::Method(_) | Matcher::Scheme(_)
        )
    };
    !allows
        .iter()
        .any(|allow| allow.condition.tests.iter().all(wide))
}

fn string<'t>(table: &'t Table, key: &str) -> Option<(&'t Node, &'t str)> {
    let node = table.get(key)?;
    Some((node, node.as_str()?))
}

/// A host that a pattern stands for.
fn example(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Under(parent) => format!("a.{parent}"),
        HostPattern::Any => "any.invalid".to_owned(),
    }
}

fn is_html(file: &Path) -> bool {
    let extension = file.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("html" | "htm"))
}

/// Whether a text speaks of a name as of a name; both in small letters.
fn speaks_of(text: &str, name: &str, kind: Kind) -> bool {
    if name.is_empty() {
        return false;
    }
    let joints = name
        .bytes()
        .filter(|byte| matches!(byte, b'-' | b' '))
        .count();
    let plain = |c: char| c.is_alphabetic() || c == '-' || c == ' ';
    let ordinary = joints < 2 && name.chars().all(plain);
    text.match_indices(name).any(|(at, found)| {
        let (before, rest) = text.split_at_checked(at).unwrap_or_default();
        let after = rest.strip_prefix(found).unwrap_or_default();
        let (last, next) = (before.chars().next_back(), after.chars().next());
        let joins = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        if last.is_some_and(joins) || next.is_some_and(joins) {
            return false;
        }
        let quote = |c: Option<char>| c.is_some_and(|c| "\"'`“”‘’«»".contains(c));
        let beside = |word: Option<&str>| {
            word.is_some_and(|word| {
                kind.beside()
                    .contains(&word.trim_matches([':', '.', ',', '=']))
            })
        };
        !ordinary
            || last == Some('@')
            || (quote(last) && quote(next))
            || beside(before.split_whitespace().next_back())
            || (kind != Kind::Rule && beside(after.split_whitespace().next()))
    })
}

/// The text and the comments of a page, without tags, scripts and what a template fills in.
fn visible(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    let mut rest = page;
    while let Some((before, from)) = rest
        .find(['<', '{'])
        .and_then(|at| rest.split_at_checked(at))
    {
        text.push_str(before);
        let lower = from.get(..8).unwrap_or(from).to_ascii_lowercase();
        let (open, end) = if from.starts_with("<!--") {
            (4, "-->")
        } else if lower.starts_with("<style") {
            (from.len(), "</style>")
        } else if lower.starts_with("<script") {
            (from.len(), "</script>")
        } else if from.starts_with("{{") {
            (from.len(), "}}")
        } else if from.starts_with("{%") {
            (from.len(), "%}")
        } else if from.starts_with('<') {
            (from.len(), ">")
        } else {
            (0, "")
        };
        let stop = from.find(end).map_or(from.len(), |at| at + end.len());
        let (inside, after) = from.split_at_checked(stop.max(1)).unwrap_or((from, ""));
        if open < inside.len() {
            text.push_str(inside.get(open..).unwrap_or_default().trim_end_matches(end));
        }
        if !end.is_empty() {
            text.push(' ');
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

/// `a, b and c`.
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Pages of a folder that are looked at.
const PAGES_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_word_is_a_name_only_where_the_text_says_so() {
        for (text, name, kind, want, why) in [
            (
                "you need the role admin",
                "admin",
                Kind::Role,
                true,
                "beside the word",
            ),
            (
                "you need the admin role",
                "admin",
                Kind::Role,
                true,
                "before it",
            ),
            (
                "required role: `billing`",
                "billing",
                Kind::Role,
                true,
                "in quotes",
            ),
            (
                "only @office may",
                "office",
                Kind::Set,
                true,
                "as the file writes it",
            ),
            (
                "denied by film-rights",
                "film-rights",
                Kind::Rule,
                true,
                "who did it",
            ),
            (
                "blocked: no-tor-or-vpn",
                "no-tor-or-vpn",
                Kind::Rule,
                true,
                "nobody speaks so",
            ),
            ("not for staff_v2.", "staff_v2", Kind::Role, true, "nor so"),
            (
                "ask your admin",
                "admin",
                Kind::Role,
                false,
                "an ordinary word",
            ),
            (
                "for the office network",
                "office",
                Kind::Set,
                false,
                "another",
            ),
            (
                "this page is members-only",
                "members-only",
                Kind::Rule,
                false,
                "of two parts",
            ),
            (
                "the administrator role",
                "admin",
                Kind::Role,
                false,
                "part of a word",
            ),
            ("staff_v20", "staff_v2", Kind::Role, false, "part of a name"),
            ("anything", "", Kind::Set, false, "no name"),
        ] {
            assert_eq!(speaks_of(text, name, kind), want, "{text}: {why}");
        }
    }

    #[test]
    fn tags_of_a_page_are_not_its_text() {
        let page = "<p class=\"office\">No.</p><!-- rule x -->{{ reason }}<style>a{b}</style>{ok}<script>1</script>end";
        let shown = visible(page);
        let words: Vec<&str> = shown.split_whitespace().collect();
        assert_eq!(words, ["No.", "rule", "x", "{ok}", "end"]);
        for broken in ["<", "<!--", "{{", "a<b", "{", "<style"] {
            visible(broken);
        }
    }
}
