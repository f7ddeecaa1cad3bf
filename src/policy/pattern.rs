//! Path patterns: literal segments, `*` for one segment, a final `/**` for this path and everything below.
//!
//! A pattern is read as a request's path is: strictly, and reduced for the lenient reading (DESIGN section 4, step 2).
//! Ranks are in GRAMMAR: segment by segment from the left, literal before `*` before the end of the pattern before `**`.
//! `Routes` finds the highest-ranking route of a site by walking a trie in just that order.

use std::fmt;
use std::sync::Arc;

use regex::Regex;
use thiserror::Error;

use super::decision::RouteId;
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
enum End {
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
        trie.nodes.first()?.owner(trie, path::body(path), slash)
    }

    /// Whether a plain target surely meets these routes in one way only.
    pub(super) const fn is_plain(&self) -> bool {
        self.plain
    }
}

#[derive(Debug, Default)]
struct Trie {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    /// INVARIANT: sorted by segment.
    literals: Vec<(Box<str>, u32)>,
    star: Option<u32>,
    exact: Option<RouteId>,
    slash: Option<RouteId>,
    below: Option<RouteId>,
}

impl Trie {
    fn new<'p>(shapes: impl Iterator<Item = Option<&'p Shape>>) -> Self {
        let mut trie = Self {
            nodes: vec![Node::default()],
        };
        for (id, shape) in (0..).map(RouteId).zip(shapes) {
            let Some(shape) = shape else { continue };
            let mut at = 0;
            for segment in &shape.segments {
                at = trie.child(at, segment);
            }
            if let Some(node) = trie.node_mut(at) {
                let place = match shape.end {
                    End::Exact => &mut node.exact,
                    End::Slash => &mut node.slash,
                    End::Below => &mut node.below,
                };
                place.get_or_insert(id);
            }
        }
        trie
    }

    fn child(&mut self, parent: u32, segment: &Segment) -> u32 {
        let next = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let Some(node) = self.node_mut(parent) else {
            return parent;
        };
        let found = match segment {
            Segment::Star => *node.star.get_or_insert(next),
            Segment::Literal(text) => match node.literals.binary_search_by(|(s, _)| s.cmp(text)) {
                Ok(at) => node.literals.get(at).map_or(next, |(_, child)| *child),
                Err(at) => {
                    node.literals.insert(at, (text.clone(), next));
                    next
                }
            },
        };
        if found == next {
            self.nodes.push(Node::default());
        }
        found
    }

    fn node_mut(&mut self, at: u32) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(at).ok()?)
    }

    fn node(&self, at: u32) -> Option<&Node> {
        self.nodes.get(usize::try_from(at).ok()?)
    }
}

impl Node {
    /// The best route at or below this node for what is left of a path. Every node is visited at most once.
    fn owner(&self, trie: &Trie, rest: Option<&str>, slash: bool) -> Option<RouteId> {
        let Some(rest) = rest else {
            let exact = if slash {
                self.slash.or(self.exact)
            } else {
                self.exact.or(self.slash)
            };
            return exact.or(self.below);
        };
        let (segment, rest) = match rest.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (rest, None),
        };
        let literal = self.literals.binary_search_by(|(s, _)| (**s).cmp(segment));
        let literal = literal.ok().and_then(|at| self.literals.get(at));
        let children = [literal.map(|(_, child)| *child), self.star];
        let mut children = children.into_iter().flatten();
        children
            .find_map(|child| trie.node(child)?.owner(trie, rest, slash))
            .or(self.below)
    }
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
