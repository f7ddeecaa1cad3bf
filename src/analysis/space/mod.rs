//! The requests of one cell as points: attributes, and the atoms that the rules of the cell tell apart.
//!
//! An atom stands for all values that every rule of the cell treats alike. What is impossible (a path that ends and goes on)
//! is outside [`Space::possible`]; where it is not certain that something is impossible it stays a point: an answer about
//! *all* points is then true of all requests, and what is found at *some* point is held against the evaluator before it is
//! told ([`super::witness`]).

mod geography;
mod groups;
mod identity;
mod named;
mod reading;
mod request;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use super::book::{Book, ClauseId, TermId};
use super::diagram::{Diagram, Store, TRUE};
use super::path::Paths;
use crate::policy::condition::Presented;
use crate::policy::facts::TlsVersion;
use crate::policy::pattern::Pattern;
use crate::value::country::{Continent, Country, Subdivision};
use crate::value::region::Anonymizers;
use named::Named;

/// What an attribute is about, and what its atoms are. In lists of groups the atom is the place in the list; what is in a
/// group the rules do not tell apart.
#[derive(Debug)]
pub(crate) enum Attribute {
    /// A segment of the path, counted from 0: atom 0 is any text that no rule names, 1 that the path has ended, then the
    /// texts.
    Segment(usize, Vec<Arc<str>>),
    /// Atom 1: the path has a trailing slash.
    Slash,
    /// Atom 0 is any method that no rule names.
    Method(Vec<Method>),
    /// Atom 0 is https, 1 http.
    Scheme,
    /// [`TLS`].
    Tls,
    /// Atom 1: a WebSocket is asked for.
    WebSocket,
    /// Groups of classes of addresses.
    Client(Vec<Vec<u32>>),
    /// As `Client`.
    Peer(Vec<Vec<u32>>),
    /// Groups of countries; none is unlisted.
    Country(Vec<Vec<Option<Country>>>),
    Continent(Vec<Vec<Option<Continent>>>),
    /// What is on record, of the subdivisions that rules name.
    Subdivision(Vec<Vec<Vec<Subdivision>>>),
    /// Groups of systems; [`System::Other`] is any that no rule names.
    Asn(Vec<Vec<System>>),
    Anonymizer(Vec<Vec<Anonymizers>>),
    /// A test that is taken as a whole. Atom 0: nothing matches. Atom 1: everything does. Atom 2, where there is one: of
    /// several values some match and some do not.
    Opaque(TermId),
    /// Moments that the rules name, ascending: atom n is before the n-th and not before the one ahead of it.
    Now(Vec<Timestamp>),
    /// Atom 0 is nobody, then the sources.
    Auth(Vec<Arc<str>>),
    /// Atom 0 is any user that no rule names.
    User(Vec<Vec<Arc<str>>>),
    /// Atom 1: at least one of these roles is granted, which the rules do not tell apart.
    Role(Vec<u32>),
    /// Atom 1: a value of the claim is one of these, which the rules do not tell apart.
    Claim(Held, Arc<str>, Vec<Value>),
}

/// Where a claim stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Held {
    Claim,
    Device,
}

/// An autonomous system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    Other,
    Unlisted,
    Number(u32),
}

/// The atoms of [`Attribute::Tls`].
pub(crate) const TLS: [Option<(TlsVersion, Presented)>; 5] = [
    Some((TlsVersion::V1_3, Presented::Missing)),
    Some((TlsVersion::V1_3, Presented::Presented)),
    Some((TlsVersion::V1_2, Presented::Missing)),
    Some((TlsVersion::V1_2, Presented::Presented)),
    None,
];

/// Which stage of the judgement a condition is seen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    /// Identity is open: where the condition holds whoever asks.
    Surely,
    /// Identity is open: where it does not fail whoever asks.
    Perhaps,
    /// Identity has been looked at: where it holds.
    Wholly,
}

/// The requests of a cell.
#[derive(Debug)]
pub(crate) struct Space<'b, 'p> {
    pub(crate) book: &'b Book<'p>,
    pub(crate) store: Store,
    pub(crate) attributes: Vec<Attribute>,
    host: Arc<str>,
    paths: Paths,
    /// By view: the identity sources of its site.
    sources: Vec<Vec<Arc<str>>>,
    meanings: HashMap<TermId, Meaning, foldhash::fast::RandomState>,
    regexes: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    now: Option<(u32, Vec<Timestamp>)>,
    auth: Option<(u32, Vec<Arc<str>>)>,
    terms: HashMap<(TermId, usize), Diagram, foldhash::fast::RandomState>,
    clauses: HashMap<(ClauseId, usize, Seen), Diagram, foldhash::fast::RandomState>,
    possible: Diagram,
}

/// How a term is read off the attributes.
#[derive(Debug, Clone)]
enum Meaning {
    /// One attribute has one of these atoms.
    OneOf(u32, Vec<u32>),
    /// One of these attributes has atom 1.
    Any(Vec<u32>),
    /// None of these attributes has atom 1.
    None(Vec<u32>),
}

/// How many attributes a space may have: diagrams are walked as deep.
pub(crate) const ATTRIBUTES_MAX: usize = 400;

/// What a space is made from.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// A host of the cell.
    pub(crate) host: &'a Arc<str>,
    /// By view: the identity sources.
    pub(crate) sources: Vec<Vec<Arc<str>>>,
    /// Every condition that is going to be asked for.
    pub(crate) clauses: Vec<ClauseId>,
    /// The patterns of routes that play a part.
    pub(crate) patterns: Vec<&'a Pattern>,
    /// Steps that may be spent.
    pub(crate) budget: usize,
}

impl<'b, 'p> Space<'b, 'p> {
    /// The space of a plan; none where it would be too large.
    pub(crate) fn new(book: &'b Book<'p>, plan: Plan<'_>) -> Option<Self> {
        let mut named = Named::default();
        let mut seen = BTreeSet::new();
        for clause in &plan.clauses {
            named.clause(book, *clause, &mut seen);
        }
        let mut space = Self {
            book,
            store: Store::new(plan.budget),
            attributes: Vec::new(),
            host: Arc::clone(plan.host),
            paths: Paths::default(),
            sources: plan.sources,
            meanings: HashMap::default(),
            regexes: HashMap::default(),
            now: None,
            auth: None,
            terms: HashMap::default(),
            clauses: HashMap::default(),
            possible: TRUE,
        };
        space.add_path(&named, &plan.patterns)?;
        space.add_request(&named)?;
        space.add_identity(&named);
        if space.attributes.len() > ATTRIBUTES_MAX {
            return None;
        }
        space.possible = space.paths.possible(&mut space.store);
        Some(space)
    }

    /// Every point that can be a request, as far as that is certain.
    pub(crate) const fn possible(&self) -> Diagram {
        self.possible
    }

    fn add(&mut self, attribute: Attribute) -> u32 {
        self.attributes.push(attribute);
        small(self.attributes.len() - 1)
    }
}

impl Attribute {
    /// How many atoms there are.
    pub(crate) fn count(&self) -> u32 {
        small(match self {
            Self::Segment(_, texts) => texts.len() + 2,
            Self::Slash | Self::Scheme | Self::WebSocket | Self::Role(_) | Self::Claim(..) => 2,
            Self::Method(methods) => methods.len() + 1,
            Self::Tls => TLS.len(),
            Self::Client(groups) | Self::Peer(groups) => groups.len(),
            Self::Country(groups) => groups.len(),
            Self::Continent(groups) => groups.len(),
            Self::Subdivision(groups) => groups.len(),
            Self::Asn(groups) => groups.len(),
            Self::Anonymizer(groups) => groups.len(),
            Self::Opaque(_) => 3,
            Self::Now(moments) => moments.len() + 1,
            Self::Auth(sources) => sources.len() + 1,
            Self::User(groups) => groups.len(),
        })
    }
}

/// The places of a list for which something holds.
fn places<T>(list: &[T], holds: impl Fn(&T) -> bool) -> Vec<u32> {
    let all = (0..).zip(list);
    all.filter(|(_, item)| holds(item))
        .map(|(at, _)| at)
        .collect()
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
