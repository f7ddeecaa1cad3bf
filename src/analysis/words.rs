//! A region in the policy's own words: the tests as the operator wrote them where they fit, lists where none does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::diagram::{Diagram, FALSE, Node, Store};
use super::path::ENDED;
use super::space::{Attribute, Held, Space, System, TLS};
use crate::policy::condition::Presented;
use crate::policy::facts::TlsVersion;
use crate::value::country::Country;

/// Points as a product: some atoms of some attributes, ascending by attribute; of the others any.
pub(crate) type Product = Vec<(u32, Vec<u32>)>;

/// A product in words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Phrase {
    /// Which paths, where it is narrower than the route.
    pub(crate) path: Option<String>,
    /// What must hold, joined by *and*.
    pub(crate) conditions: Vec<String>,
}

impl Phrase {
    /// Whether it says nothing.
    pub(crate) const fn is_empty(&self) -> bool {
        self.path.is_none() && self.conditions.is_empty()
    }
}

/// A product in which a function is 1.
pub(crate) fn first_product(f: Diagram, counts: &[u32], store: &Store) -> Option<Product> {
    let mut product = Vec::new();
    let mut at = f;
    loop {
        let edges = match store.node(at) {
            Node::Leaf(0) => return None,
            Node::Leaf(_) => return Some(product),
            Node::Asks(edges) => edges,
        };
        let mut groups = BTreeMap::<Diagram, Vec<u32>>::new();
        let place = usize::try_from(edges.attribute).ok();
        let count = place.and_then(|at| counts.get(at)).copied().unwrap_or(0);
        for atom in 0..count {
            let child = edges.child(atom);
            if child != FALSE {
                groups.entry(child).or_default().push(atom);
            }
        }
        // The largest group says most.
        let (child, atoms) = groups.into_iter().max_by_key(|(_, atoms)| atoms.len())?;
        product.push((edges.attribute, atoms));
        at = child;
    }
}

impl Space<'_, '_> {
    /// What tests say of an attribute, and the opposite: words and atoms; words with the name of a set first, then short ones.
    pub(crate) fn sayings(&self, number: u32) -> Vec<(String, Vec<u32>)> {
        let Some(attribute) = self.attribute(number) else {
            return Vec::new();
        };
        if matches!(attribute, Attribute::Opaque(_) | Attribute::Auth(_)) {
            return Vec::new();
        }
        let count = attribute.count();
        let mut known: Vec<(String, Vec<u32>)> = Vec::new();
        for (words, held) in self.terms_of(number) {
            let outside = (0..count).filter(|atom| held.binary_search(atom).is_err());
            known.push((words.to_string(), held.to_vec()));
            known.push((format!("not {words}"), outside.collect()));
        }
        known.sort_by_key(|(words, _)| {
            (
                words.ends_with(')'),
                words.starts_with("not "),
                !words.contains('@'),
                words.len(),
            )
        });
        known.truncate(2 * TERMS_MAX);
        known
    }

    /// Whether these are countries, few enough for a list, which then says more than a set that means two things.
    pub(crate) fn are_few(&self, number: u32, atoms: &[u32]) -> bool {
        let Some(Attribute::Country(groups)) = self.attribute(number) else {
            return false;
        };
        let of = |wanted: bool| {
            let all = (0u32..).zip(groups);
            let held = all.filter(|(atom, _)| atoms.binary_search(atom).is_ok() == wanted);
            held.map(|(_, group)| group.len()).sum::<usize>()
        };
        of(true).min(of(false)) <= LIST_MAX
    }

    /// A product in words: those that were found for an attribute, else a list. `route` is the pattern of the route that owns
    /// the paths.
    pub(crate) fn phrase(
        &self,
        product: &Product,
        found: &BTreeMap<u32, String>,
        route: Option<&str>,
    ) -> Phrase {
        let mut conditions = Vec::new();
        let mut segments = BTreeMap::new();
        for (number, atoms) in product {
            let Some(attribute) = self.attribute(*number) else {
                continue;
            };
            if let Attribute::Segment(place, texts) = attribute {
                segments.insert(*place, (texts, atoms));
                continue;
            }
            let words = found.get(number).cloned();
            conditions.push(words.unwrap_or_else(|| self.words(*number, attribute, atoms)));
        }
        let path = (!segments.is_empty()).then(|| path_words(&segments, route.unwrap_or("/**")));
        let path = path.filter(|path| route != Some(&**path));
        Phrase { path, conditions }
    }

    fn words(&self, number: u32, attribute: &Attribute, atoms: &[u32]) -> String {
        if let Some(words) = self.by_term(number, attribute, atoms) {
            return words;
        }
        let has = |atom: u32| atoms.binary_search(&atom).is_ok();
        let at = |atom: &u32| usize::try_from(*atom).unwrap_or(usize::MAX);
        match attribute {
            Attribute::Segment(..) => String::new(),
            Attribute::Slash if has(1) => "the path ends with a slash".to_owned(),
            Attribute::Slash => "the path does not end with a slash".to_owned(),
            Attribute::Method(named) if has(0) => {
                let names = (1..).zip(named).filter(|(atom, _)| !has(*atom));
                format!(
                    "method is not {}",
                    list(names.map(|(_, name)| name.to_string()), "or")
                )
            }
            Attribute::Method(named) => {
                let names = (1..).zip(named).filter(|(atom, _)| has(*atom));
                format!(
                    "method = {}",
                    list(names.map(|(_, name)| name.to_string()), "or")
                )
            }
            Attribute::Scheme => format!("scheme = {}", if has(1) { "http" } else { "https" }),
            Attribute::Tls => {
                let told = atoms.iter().filter_map(|atom| TLS.get(at(atom)));
                let told = told.map(|tls| match tls {
                    None => "no TLS".to_owned(),
                    Some((version, presented)) => {
                        let version = match version {
                            TlsVersion::V1_2 => "1.2",
                            TlsVersion::V1_3 => "1.3",
                        };
                        match presented {
                            Presented::Presented => format!("TLS {version} with a certificate"),
                            Presented::Missing => format!("TLS {version} without a certificate"),
                        }
                    }
                });
                list(told, "or")
            }
            Attribute::WebSocket if has(1) => "upgrade = \"websocket\"".to_owned(),
            Attribute::WebSocket => "no upgrade to a WebSocket".to_owned(),
            Attribute::Client(groups) => self.addresses("ip", groups, atoms),
            Attribute::Peer(groups) => self.addresses("peer", groups, atoms),
            Attribute::Country(groups) => countries(groups, atoms),
            Attribute::Continent(groups) => {
                let named = atoms
                    .iter()
                    .filter_map(|atom| groups.get(at(atom)))
                    .flatten();
                let named = named.map(|held| held.map_or("unlisted".to_owned(), |c| c.to_string()));
                format!("continent = {}", list(named, "or"))
            }
            Attribute::Subdivision(groups) => {
                let named = atoms
                    .iter()
                    .filter_map(|atom| groups.get(at(atom))?.first());
                let named = named.map(|held| match held.as_slice() {
                    [] => "none of those named".to_owned(),
                    held => list(held.iter().map(ToString::to_string), "and"),
                });
                format!("subdivision = {}", list(named, "or"))
            }
            Attribute::Asn(groups) => {
                let named = atoms
                    .iter()
                    .filter_map(|atom| groups.get(at(atom)))
                    .flatten();
                let named = named.map(|system| match system {
                    System::Other => "any that is not named".to_owned(),
                    System::Unlisted => "unlisted".to_owned(),
                    System::Number(number) => number.to_string(),
                });
                format!("asn = {}", list(named, "or"))
            }
            Attribute::Anonymizer(groups) => {
                let named = atoms
                    .iter()
                    .filter_map(|atom| groups.get(at(atom))?.first());
                let named = named.map(|kinds| {
                    let words: Vec<&str> = kinds.words().collect();
                    if words.is_empty() {
                        "none".to_owned()
                    } else {
                        words.join("+")
                    }
                });
                format!("anonymizer = {}", list(named, "or"))
            }
            Attribute::Opaque(term) => {
                let words = self
                    .book
                    .term(*term)
                    .map_or_else(String::new, |t| t.words.to_string());
                match (has(0), has(1), has(2)) {
                    (false, true, _) => words,
                    (true, false, false) => format!("not {words}"),
                    (false, false, true) => format!("{words} for some of several values"),
                    (true, _, _) | (false, false, false) => format!("not {words} for every value"),
                }
            }
            Attribute::Now(moments) => {
                let first = atoms.first().map_or(0, at);
                let last = atoms.last().map_or(0, at);
                let from = first.checked_sub(1).and_then(|at| moments.get(at));
                match (from, moments.get(last)) {
                    (None, Some(to)) => format!("before {to}"),
                    (Some(from), None) => format!("from {from} on"),
                    (Some(from), Some(to)) => format!("from {from} until {to}"),
                    (None, None) => "at any time".to_owned(),
                }
            }
            Attribute::Auth(sources) => {
                let named = atoms
                    .iter()
                    .filter_map(|atom| sources.get(at(atom).checked_sub(1)?));
                let named: Vec<String> = named.map(ToString::to_string).collect();
                match (has(0), named.len()) {
                    (true, 0) => "nobody is signed in".to_owned(),
                    (false, all) if all == sources.len() => "somebody is signed in".to_owned(),
                    (false, _) => format!("signed in by {}", list(named.into_iter(), "or")),
                    (true, _) => format!(
                        "nobody is signed in, or somebody by {}",
                        list(named.into_iter(), "or")
                    ),
                }
            }
            Attribute::User(groups) => {
                let wanted = |atom: &u32| has(*atom) != has(0);
                let all = (0..)
                    .zip(groups)
                    .filter(|(atom, _)| *atom != 0 && wanted(atom));
                let named = all.flat_map(|(_, group)| group).map(ToString::to_string);
                let sign = if has(0) { "is not" } else { "=" };
                format!("user {sign} {}", list(named, "or"))
            }
            Attribute::Role(roles) => {
                let names = roles
                    .iter()
                    .filter_map(|role| self.book.roles.get(at(role)));
                let names = list(names.map(|name| format!("{name:?}")), "or");
                format!("{}role = {names}", if has(1) { "" } else { "not " })
            }
            Attribute::Claim(held, path, values) => {
                let held = match held {
                    Held::Claim => "claim",
                    Held::Device => "device",
                };
                let values = list(values.iter().map(ToString::to_string), "or");
                format!(
                    "{}{held}.{path} = {values}",
                    if has(1) { "" } else { "not " }
                )
            }
        }
    }

    /// The words of two tests that together say just this.
    fn by_term(&self, number: u32, attribute: &Attribute, atoms: &[u32]) -> Option<String> {
        if matches!(attribute, Attribute::Country(_) | Attribute::Method(_)) {
            return None;
        }
        let known = self.sayings(number);
        let known = known.get(..known.len().min(TERMS_MAX))?;
        for (at, (first, one)) in known.iter().enumerate() {
            for (second, other) in known.iter().skip(at + 1) {
                let both = one.iter().filter(|atom| other.binary_search(atom).is_ok());
                if both.eq(atoms) {
                    let (first, second) = if first.starts_with("not ") {
                        (second, first)
                    } else {
                        (first, second)
                    };
                    return Some(format!("{first} and {second}"));
                }
            }
        }
        None
    }

    fn addresses(&self, key: &str, groups: &[Vec<u32>], atoms: &[u32]) -> String {
        let at = |atom: &u32| usize::try_from(*atom).unwrap_or(usize::MAX);
        let classes = atoms
            .iter()
            .filter_map(|atom| groups.get(at(atom)))
            .flatten();
        let examples = classes.filter_map(|class| self.book.addresses.example(*class));
        format!(
            "{key} like {}",
            list(examples.map(|ip| ip.to_string()), "or")
        )
    }
}

fn countries(groups: &[Vec<Option<Country>>], atoms: &[u32]) -> String {
    let split = |wanted: bool| {
        let all = (0u32..).zip(groups);
        let held = all.filter(move |(atom, _)| atoms.binary_search(atom).is_ok() == wanted);
        let codes = held.flat_map(|(_, group)| group);
        let mut codes: Vec<String> = codes
            .map(|held| held.map_or("unlisted".to_owned(), |country| country.to_string()))
            .collect();
        codes.sort_unstable();
        codes
    };
    let (inside, outside) = (split(true), split(false));
    if inside.len() <= outside.len() {
        format!("country = {}", list(inside.into_iter(), "or"))
    } else {
        format!("country is not {}", list(outside.into_iter(), "or"))
    }
}

/// `a, b or c`; `a, b and 3 more` where there are many.
pub(crate) fn list(items: impl Iterator<Item = String>, joint: &str) -> String {
    let mut items: Vec<String> = items.collect();
    if items.len() > LIST_MAX {
        let more = items.len() - LIST_MAX + 1;
        items.truncate(LIST_MAX - 1);
        return format!("{} {joint} {more} more", items.join(", "));
    }
    let last = items.pop();
    match (items.is_empty(), last) {
        (_, None) => "nothing".to_owned(),
        (true, Some(last)) => last,
        (false, Some(last)) => format!("{} {joint} {last}", items.join(", ")),
    }
}

/// Paths as a pattern, as near as a pattern comes.
fn path_words(segments: &BTreeMap<usize, (&Vec<Arc<str>>, &Vec<u32>)>, route: &str) -> String {
    let mut own: Vec<&str> = route.split('/').skip(1).collect();
    let below = own.last() == Some(&"**");
    if below {
        own.pop();
    }
    let last = segments.keys().last().map_or(0, |last| last + 1);
    let mut path = String::new();
    let mut apart = Vec::new();
    let mut ended = false;
    for place in 0..last.max(own.len()) {
        let written = own.get(place).copied().unwrap_or("*");
        let Some((texts, atoms)) = segments.get(&place) else {
            path.push('/');
            path.push_str(written);
            continue;
        };
        let has = |atom: u32| atoms.binary_search(&atom).is_ok();
        if atoms.as_slice() == [ENDED] {
            ended = true;
            break;
        }
        let named = (2..)
            .zip(texts.iter())
            .filter(|(atom, _)| has(*atom) != has(0));
        let named: Vec<String> = named.map(|(_, text)| text.to_string()).collect();
        if has(0) {
            if place + 1 < last || !has(ENDED) || place < own.len() {
                path.push('/');
                path.push_str(written);
            }
            if !named.is_empty() {
                apart.push(format!(
                    "{}{}",
                    if written == "*" { "" } else { "segment " },
                    list(named.into_iter(), "or")
                ));
            }
        } else {
            path.push('/');
            match named.as_slice() {
                [one] => path.push_str(one),
                _ => path.push_str(&format!("({})", list(named.into_iter(), "or"))),
            }
            ended |= has(ENDED);
        }
    }
    if path.is_empty() && (ended || !below) {
        path.push('/');
    } else if !ended && (below || last > own.len()) {
        path.push_str("/**");
    }
    if !apart.is_empty() {
        path.push_str(&format!(" except {}", apart.join("; ")));
    }
    path
}

/// Items that a list names before it says how many more there are.
const LIST_MAX: usize = 5;
/// Tests of an attribute that are paired to find words.
const TERMS_MAX: usize = 40;
