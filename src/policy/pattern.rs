//! Path patterns: literal segments, `*` for one segment, a final `/**` for this path and everything below.
//!
//! A pattern is read as a request's path is: strictly, and reduced for the lenient reading (DESIGN section 4, step 2).
//! Ranks are in GRAMMAR: segment by segment from the left, literal before `*` before the end of the pattern before `**`.
//! `Routes` finds the highest-ranking route of a site by walking a trie in just that order.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use regex::Regex;
use thiserror::Error;

use super::decision::RouteId;
use super::hash::{text, upper};
use crate::value::path::{self, PathError, Target};

/// Which reading of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// As the standard says.
    Strict,
    /// As the most obliging upstream might.
    Lenient,
}

/// A path pattern in both readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    words: Arc<str>,
    strict: Shape,
    lenient: Shape,
}

/// One reading of a pattern. Patterns whose shapes are equal match the same paths in that reading.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shape {
    segments: Box<[Segment]>,
    end: End,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Segment {
    Literal(Box<str>),
    Star,
}

/// How a pattern ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum End {
    /// Here.
    Exact,
    /// Here, written with a trailing slash.
    Slash,
    /// `/**`.
    Below,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PatternError {
    /// It does not start with `/`.
    #[error("a pattern starts with `/`")]
    NotAbsolute,
    /// `**` elsewhere than at the end.
    #[error("`**` stands only at the end, as `/**`")]
    DoubleStar,
    /// `*` beside other characters.
    #[error("`*` stands for a whole segment")]
    Star,
    /// `?` or `#`.
    #[error("a pattern has neither query nor fragment")]
    Query,
    /// A literal segment that no request can have.
    #[error("no request can have such a path: {0}")]
    Path(#[from] PathError),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Where the text is no pattern, or one that no request could match.
    pub fn read(words: &str) -> Result<Self, PatternError> {
        let body = words.strip_prefix('/').ok_or(PatternError::NotAbsolute)?;
        if words.contains(['?', '#']) {
            return Err(PatternError::Query);
        }
        let (body, end) = if body == "**" {
            ("", End::Below)
        } else if let Some(before) = body.strip_suffix("/**") {
            (before, End::Below)
        } else if let Some(before) = body.strip_suffix('/') {
            (before, End::Slash)
        } else {
            (body, End::Exact)
        };
        let (mut strict, mut lenient) = (Vec::new(), Vec::new());
        let written = (!body.is_empty()).then(|| body.split('/'));
        for segment in written.into_iter().flatten() {
            match segment {
                "*" => {
                    strict.push(Segment::Star);
                    lenient.push(Segment::Star);
                }
                "**" => return Err(PatternError::DoubleStar),
                _ if segment.contains('*') => return Err(PatternError::Star),
                _ => {
                    // A request cannot have a raw space; whoever writes one means its escape.
                    let literal = format!("/{}", segment.replace(' ', "%20"));
                    let read = path::strict(&literal)?;
                    strict.push(Segment::Literal(read.trim_start_matches('/').into()));
                    let read = path::lenient(&literal)?;
                    let parts = path::segments(&read).map(|part| Segment::Literal(part.into()));
                    lenient.extend(parts);
                }
            }
        }
        let shape = |segments: Vec<Segment>| Shape {
            segments: segments.into(),
            end,
        };
        Ok(Self {
            words: Arc::from(words),
            strict: shape(strict),
            lenient: shape(lenient),
        })
    }

    /// The pattern as written.
    #[must_use]
    pub const fn words(&self) -> &Arc<str> {
        &self.words
    }

    /// Whether both readings of the pattern are the same: then a plain target meets it in one way only.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.strict == self.lenient
    }

    /// The strict reading.
    #[must_use]
    pub const fn strict(&self) -> &Shape {
        &self.strict
    }

    /// The lenient reading.
    #[must_use]
    pub const fn lenient(&self) -> &Shape {
        &self.lenient
    }

    /// Whether it matches a target in the strict reading; another pattern may match more specifically.
    #[must_use]
    pub fn covers(&self, target: &Target<'_>) -> bool {
        self.matches(target, Reading::Strict)
    }

    pub(super) fn matches(&self, target: &Target<'_>, reading: Reading) -> bool {
        match reading {
            Reading::Strict => self.strict.matches(target.strict()),
            Reading::Lenient => self.lenient.matches(target.lenient()),
        }
    }

    /// The segments, `*` as nothing, and whether everything below belongs to the pattern.
    pub(super) fn segments(&self, reading: Reading) -> (impl Iterator<Item = Option<&str>>, bool) {
        let shape = self.shape(reading);
        let segments = shape.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => Some(&**text),
            Segment::Star => None,
        });
        (segments, shape.end == End::Below)
    }

    /// The strict reading: its segments, `*` as nothing, and how it ends.
    pub(crate) fn strict_parts(&self) -> (impl Iterator<Item = Option<&str>>, End) {
        let (segments, _) = self.segments(Reading::Strict);
        (segments, self.strict.end)
    }

    const fn shape(&self, reading: Reading) -> &Shape {
        match reading {
            Reading::Strict => &self.strict,
            Reading::Lenient => &self.lenient,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl Shape {
    fn matches(&self, path: &str) -> bool {
        if !path.starts_with('/') {
            return false;
        }
        let mut have = path::segments(path);
        for want in &self.segments {
            let Some(segment) = have.next() else {
                return false;
            };
            if let Segment::Literal(literal) = want
                && **literal != *segment
            {
                return false;
            }
        }
        self.end == End::Below || have.next().is_none()
    }
}

/// A regular expression that a whole path must match.
#[derive(Debug, Clone)]
pub struct PathRegex {
    strict: Regex,
    lenient: Regex,
    plain: bool,
}

impl PathRegex {
    /// Compiles a regular expression for both readings.
    ///
    /// # Errors
    /// Where it is none, or one that is too large.
    pub fn read(text: &str) -> Result<Self, regex::Error> {
        let build = |reading| {
            let whole = format!(r"\A(?:{})\z", escapes(text, reading));
            let mut builder = regex::RegexBuilder::new(&whole);
            builder
                .case_insensitive(reading == Reading::Lenient)
                .size_limit(super::text::REGEX_SIZE_MAX);
            builder.build()
        };
        let odd = |c: char| !c.is_ascii() || c.is_ascii_uppercase() || c == '%';
        Ok(Self {
            strict: build(Reading::Strict)?,
            lenient: build(Reading::Lenient)?,
            plain: !text.contains(odd) && !text.contains("[:"),
        })
    }

    fn matches(&self, target: &Target<'_>, reading: Reading) -> bool {
        match reading {
            Reading::Strict => self.strict.is_match(target.strict()),
            Reading::Lenient => self.lenient.is_match(target.lenient()),
        }
    }
}

/// A regular expression with its percent escapes as the reading shows them.
fn escapes(text: &str, reading: Reading) -> String {
    let mut read = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.find('%').and_then(|at| rest.split_at_checked(at)) {
        read.push_str(before);
        let mut length = 0;
        while from
            .as_bytes()
            .get(length..)
            .is_some_and(|at| path::escaped(at).is_some())
        {
            length += 3;
        }
        let (run, after) = from.split_at_checked(length.max(1)).unwrap_or((from, ""));
        let shown = match reading {
            Reading::Strict => path::strict(run),
            Reading::Lenient => path::decoded(run),
        };
        match shown {
            Ok(shown) => read.push_str(&regex::escape(&shown)),
            Err(_) => read.push_str(run),
        }
        rest = after;
    }
    read.push_str(rest);
    read
}

/// The `path` test of a condition: patterns and regular expressions, any of which may match.
#[derive(Debug, Clone, Default)]
pub struct PathTest {
    /// Patterns.
    pub patterns: Vec<Pattern>,
    /// Regular expressions.
    pub regexes: Vec<PathRegex>,
}

impl PathTest {
    pub(super) fn matches(&self, target: &Target<'_>, reading: Reading) -> bool {
        self.patterns.iter().any(|p| p.matches(target, reading))
            || self.regexes.iter().any(|r| r.matches(target, reading))
    }

    /// Whether a plain target surely meets this test in one way only.
    pub(super) fn is_plain(&self) -> bool {
        self.patterns.iter().all(Pattern::is_plain) && self.regexes.iter().all(|r| r.plain)
    }
}

/// The routes of a site as a trie of segments, once for each reading.
#[derive(Debug, Default)]
pub(super) struct Routes {
    strict: Trie,
    lenient: Trie,
    plain: bool,
}

impl Routes {
    /// The routes in their order; a broken pattern owns nothing.
    pub(super) fn new<'p>(patterns: &(impl Iterator<Item = Option<&'p Pattern>> + Clone)) -> Self {
        let shapes = |reading| patterns.clone().map(move |p| p.map(|p| p.shape(reading)));
        Self {
            strict: Trie::new(shapes(Reading::Strict)),
            lenient: Trie::new(shapes(Reading::Lenient)),
            plain: patterns.clone().flatten().all(Pattern::is_plain),
        }
    }

    /// The route that owns a target.
    pub(super) fn owner(&self, target: &Target<'_>, reading: Reading) -> Option<RouteId> {
        let (trie, path) = match reading {
            Reading::Strict => (&self.strict, target.strict()),
            Reading::Lenient => (&self.lenient, target.lenient()),
        };
        if !path.starts_with('/') {
            return None;
        }
        let slash = path.ends_with('/');
        trie.owner(trie.nodes.first()?, path::body(path), slash)
    }

    /// Whether a plain target surely meets these routes in one way only.
    pub(super) const fn is_plain(&self) -> bool {
        self.plain
    }
}

/// Nodes, children and texts each in one block of memory: a cold walk then meets few of them.
#[derive(Debug, Default)]
struct Trie {
    nodes: Box<[Node]>,
    children: Box<[Child]>,
    text: Box<str>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// Its literal children. INVARIANT: sorted by hash.
    from: u32,
    to: u32,
    star: u32,
    exact: u32,
    slash: u32,
    below: u32,
}

/// A literal segment and the node behind it.
#[derive(Debug, Clone, Copy)]
struct Child {
    hash: u32,
    node: u32,
    start: u32,
    end: u32,
}

/// No node, no route.
const NONE: u32 = u32::MAX;

/// A trie that grows.
#[derive(Default)]
struct Growing<'p> {
    nodes: Vec<GrowingNode>,
    /// By parent and segment.
    children: HashMap<(u32, &'p str), u32, foldhash::fast::RandomState>,
}

#[derive(Default)]
struct GrowingNode {
    star: Option<u32>,
    exact: Option<RouteId>,
    slash: Option<RouteId>,
    below: Option<RouteId>,
}

impl<'p> Growing<'p> {
    fn node(&mut self) -> u32 {
        self.nodes.push(GrowingNode::default());
        u32::try_from(self.nodes.len() - 1).unwrap_or(NONE)
    }

    fn at(&mut self, node: u32) -> Option<&mut GrowingNode> {
        self.nodes.get_mut(usize::try_from(node).ok()?)
    }

    fn child(&mut self, parent: u32, segment: &'p Segment) -> u32 {
        let found = match segment {
            Segment::Star => self.at(parent).and_then(|node| node.star),
            Segment::Literal(text) => self.children.get(&(parent, &**text)).copied(),
        };
        if let Some(found) = found {
            return found;
        }
        let next = self.node();
        match segment {
            Segment::Star => {
                if let Some(node) = self.at(parent) {
                    node.star = Some(next);
                }
            }
            Segment::Literal(text) => {
                self.children.insert((parent, text), next);
            }
        }
        next
    }

    fn finish(self) -> Trie {
        let mut edges: Vec<(u32, u32, &str, u32)> = self
            .children
            .into_iter()
            .map(|((parent, text), node)| (parent, hash(text), text, node))
            .collect();
        edges.sort_unstable();
        let small = |n: usize| u32::try_from(n).unwrap_or(NONE);
        let mut text = String::new();
        let (mut nodes, mut children) = (Vec::new(), Vec::with_capacity(edges.len()));
        let mut edges = edges.into_iter().peekable();
        for (number, node) in (0u32..).zip(self.nodes) {
            let from = small(children.len());
            while let Some((_, hash, segment, node)) = edges.next_if(|edge| edge.0 == number) {
                let start = small(text.len());
                text.push_str(segment);
                let end = small(text.len());
                children.push(Child {
                    hash,
                    node,
                    start,
                    end,
                });
            }
            let route = |route: Option<RouteId>| route.map_or(NONE, |route| route.0);
            nodes.push(Node {
                from,
                to: small(children.len()),
                star: node.star.unwrap_or(NONE),
                exact: route(node.exact),
                slash: route(node.slash),
                below: route(node.below),
            });
        }
        Trie {
            nodes: nodes.into(),
            children: children.into(),
            text: text.into(),
        }
    }
}

impl Trie {
    fn new<'p>(shapes: impl Iterator<Item = Option<&'p Shape>>) -> Self {
        let mut trie = Growing::default();
        let root = trie.node();
        for (id, shape) in (0..).map(RouteId).zip(shapes) {
            let Some(shape) = shape else { continue };
            let mut at = root;
            for segment in &shape.segments {
                at = trie.child(at, segment);
            }
            if let Some(node) = trie.at(at) {
                let place = match shape.end {
                    End::Exact => &mut node.exact,
                    End::Slash => &mut node.slash,
                    End::Below => &mut node.below,
                };
                place.get_or_insert(id);
            }
        }
        trie.finish()
    }

    fn node(&self, at: u32) -> Option<&Node> {
        self.nodes.get(usize::try_from(at).ok()?)
    }

    /// The child of a node for a literal segment.
    fn literal(&self, node: &Node, segment: &str) -> Option<&Node> {
        let at = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let children = self.children.get(at(node.from)..at(node.to))?;
        if children.is_empty() {
            return None;
        }
        let hash = hash(segment);
        let first = children.partition_point(|child| child.hash < hash);
        let alike = children.get(first..)?.iter();
        let mut alike = alike.take_while(|child| child.hash == hash);
        let same = |child: &&Child| self.text.get(at(child.start)..at(child.end)) == Some(segment);
        self.node(alike.find(same)?.node)
    }

    /// The best route at or below a node for what is left of a path. Every node is visited at most once.
    fn owner(&self, node: &Node, rest: Option<&str>, slash: bool) -> Option<RouteId> {
        let route = |route: u32| (route != NONE).then_some(RouteId(route));
        let Some(rest) = rest else {
            let (exact, slashed) = (route(node.exact), route(node.slash));
            let exact = if slash {
                slashed.or(exact)
            } else {
                exact.or(slashed)
            };
            return exact.or(route(node.below));
        };
        let (segment, rest) = match rest.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (rest, None),
        };
        let literal = self.literal(node, segment);
        let owner = literal.and_then(|child| self.owner(child, rest, slash));
        let starred = || self.owner(self.node(node.star)?, rest, slash);
        owner.or_else(starred).or(route(node.below))
    }
}

fn hash(segment: &str) -> u32 {
    upper(text(segment))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]

    use super::*;

    #[test]
    fn patterns_match_whole_segments() {
        for (pattern, path, want, why) in [
            ("/**", "/", true, "everything"),
            ("/**", "/a/b", true, "everything"),
            ("/**", "*", false, "`OPTIONS *` has no path"),
            ("/", "/", true, "the root"),
            ("/", "/a", false, "only the root"),
            ("/a", "/a", true, "exact"),
            ("/a", "/a/", true, "its trailing slash"),
            ("/a/", "/a", true, "and the other way"),
            ("/a", "/a/b", false, "not below"),
            ("/a/**", "/a", true, "itself"),
            ("/a/**", "/a/", true, "itself"),
            ("/a/**", "/a/b/c", true, "below"),
            ("/a/**", "/ab", false, "whole segments"),
            ("/a/*/c", "/a/b/c", true, "one segment"),
            ("/a/*/c", "/a/b/b/c", false, "not two"),
            ("/a/*", "/a/", false, "nor none"),
            ("/A", "/a", false, "case counts"),
            ("/café", "/caf%C3%A9", true, "non-ASCII equals its escapes"),
            ("/caf%C3%A9", "/caf%c3%a9", true, "escapes too"),
            ("/a b", "/a%20b", true, "a space means its escape"),
            ("/%7Eyou", "/~you", true, "unreserved escapes"),
        ] {
            let read = Pattern::read(pattern).unwrap();
            let target = Target::read(path).unwrap();
            let got = read.matches(&target, Reading::Strict);
            assert_eq!(got, want, "{path} in {pattern}: {why}");
        }
    }

    #[test]
    fn patterns_are_reduced_for_the_lenient_reading() {
        for (pattern, path, want) in [
            ("/Admin/**", "/admin/x", true),
            ("/Admin/**", "/ADMIN;x/y", true),
            ("/a%2Fb", "/a/b", true),
            ("/a;v=1/b", "/a/b", true),
            ("/a//b", "/a/b", true),
            ("/a.", "/a", true),
            ("/a", "/a%20", true),
            ("/a", "/b", false),
        ] {
            let read = Pattern::read(pattern).unwrap();
            let target = Target::read(path).unwrap();
            let got = read.matches(&target, Reading::Lenient);
            assert_eq!(got, want, "{path} in {pattern}");
        }
    }

    #[test]
    fn what_no_request_can_match_is_no_pattern() {
        for (pattern, want) in [
            ("a", PatternError::NotAbsolute),
            ("", PatternError::NotAbsolute),
            ("*", PatternError::NotAbsolute),
            ("/**/a", PatternError::DoubleStar),
            ("/a*", PatternError::Star),
            ("/a/b**", PatternError::Star),
            ("/a?b", PatternError::Query),
            ("/a#b", PatternError::Query),
            ("/../a", PatternError::Path(PathError::DotSegment)),
            ("/%zz", PatternError::Path(PathError::BadEscape)),
            ("/%00", PatternError::Path(PathError::Control)),
        ] {
            assert_eq!(Pattern::read(pattern).err(), Some(want), "{pattern}");
        }
    }

    #[test]
    fn the_highest_rank_owns() {
        let patterns = [
            "/**",
            "/users/*/keys",
            "/users/me/**",
            "/metrics",
            "/doc",
            "/doc/",
            "/users/*/**",
            "/x/*",
            "/x/y/z",
            "/",
        ];
        let read: Vec<Pattern> = patterns.iter().map(|p| Pattern::read(p).unwrap()).collect();
        let routes = Routes::new(&read.iter().map(Some));
        for (path, want, why) in [
            ("/", "/", "exact root before the whole tree"),
            ("/a", "/**", "nothing closer"),
            (
                "/users/7/keys",
                "/users/*/keys",
                "literal before the end of the pattern",
            ),
            (
                "/users/me/keys",
                "/users/me/**",
                "a literal on the left before a star",
            ),
            ("/users/7/else", "/users/*/**", "a subtree under a star"),
            ("/users", "/**", "a star needs a segment"),
            (
                "/metrics/",
                "/metrics",
                "an exact path owns its trailing-slash form",
            ),
            ("/metrics/x", "/**", "but nothing below"),
            ("/doc", "/doc", "each form its own"),
            ("/doc/", "/doc/", "each form its own"),
            ("/x/y", "/x/*", "back from a literal that leads nowhere"),
            ("/x/y/z", "/x/y/z", "the literal"),
            ("/x/y/w", "/**", "back to the root"),
        ] {
            let target = Target::read(path).unwrap();
            for reading in [Reading::Strict, Reading::Lenient] {
                let owner = routes.owner(&target, reading).unwrap();
                let owner = patterns[usize::try_from(owner.0).unwrap()];
                assert_eq!(owner, want, "{path}: {why}");
            }
        }
    }

    #[test]
    fn a_regex_matches_the_whole_path_in_both_readings() {
        let regex = PathRegex::read("/v[0-9]+/Items").unwrap();
        for (path, strict, lenient) in [
            ("/v1/Items", true, true),
            ("/v1/items", false, true),
            ("/v1/Items/x", false, false),
            ("/x/v1/Items", false, false),
        ] {
            let target = Target::read(path).unwrap();
            assert_eq!(regex.matches(&target, Reading::Strict), strict, "{path}");
            assert_eq!(regex.matches(&target, Reading::Lenient), lenient, "{path}");
        }
        let escaped = PathRegex::read("/caf%c3%a9 ?|/a%20b|/caf[é]x").unwrap();
        for path in ["/caf%C3%A9", "/a%20b", "/caf%c3%a9x"] {
            let target = Target::read(path).unwrap();
            assert!(escaped.matches(&target, Reading::Strict), "{path}");
            assert!(escaped.matches(&target, Reading::Lenient), "{path}");
        }
        assert!(!regex.plain);
        assert!(PathRegex::read("/v[0-9]+").unwrap().plain);
        assert!(PathRegex::read("(").is_err());
    }
}
