//! The requests of one cell as points: attributes, and the atoms that the rules of the cell tell apart.
//!
//! An atom stands for all values that every rule of the cell treats alike. What is impossible (a path that ends and goes on)
//! is outside [`Space::possible`]; where it is not certain that something is impossible it stays a point: an answer about
//! *all* points is then true of all requests, and what is found at *some* point is held against the evaluator before it is
//! told ([`super::witness`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use super::book::{Asks, Book, Clause, ClauseId, Sense, TermId};
use super::diagram::{Diagram, FALSE, Store, TRUE};
use super::path::{self, Paths};
use crate::policy::claim::{ClaimTest, Presence, Scalar, Wanted};
use crate::policy::condition::Presented;
use crate::policy::facts::{Scheme, TlsVersion};
use crate::policy::pattern::Pattern;
use crate::policy::text::Side;
use crate::value::country::{Continent, Country, Subdivision};
use crate::value::region::Anonymizers;

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

    /// A host of the cell.
    pub(crate) const fn host(&self) -> &Arc<str> {
        &self.host
    }

    /// By view: the identity sources of its site.
    pub(crate) fn sources(&self) -> &[Vec<Arc<str>>] {
        &self.sources
    }

    /// The requests whose path a pattern matches; a trailing slash does not matter.
    pub(crate) fn path(&mut self, pattern: &Pattern) -> Diagram {
        self.paths.pattern(pattern, &mut self.store)
    }

    /// The requests with or without a trailing slash.
    pub(crate) fn slash(&mut self, slash: path::Slash) -> Diagram {
        self.paths.slash(slash, &mut self.store)
    }

    /// The requests of somebody known to a view.
    pub(crate) fn known(&mut self, view: usize) -> Diagram {
        let Some((attribute, all)) = &self.auth else {
            return FALSE;
        };
        let Some(sources) = self.sources.get(view) else {
            return FALSE;
        };
        let atoms = (1..)
            .zip(all)
            .filter(|(_, source)| sources.contains(source));
        let atoms: Vec<u32> = atoms.map(|(atom, _)| atom).collect();
        let count = small(all.len() + 1);
        self.store.one_of(*attribute, &atoms, count)
    }

    /// Where a condition holds, to a view and at a stage.
    pub(crate) fn clause(&mut self, id: ClauseId, view: usize, seen: Seen) -> Diagram {
        if let Some(known) = self.clauses.get(&(id, view, seen)) {
            return *known;
        }
        let book = self.book;
        let made = match book.clause_at(id) {
            Some(clause) => self.make_clause(clause, view, seen),
            None => FALSE,
        };
        self.clauses.insert((id, view, seen), made);
        made
    }

    fn make_clause(&mut self, clause: &Clause, view: usize, seen: Seen) -> Diagram {
        let mut holds = match clause.until {
            Some(end) => self.until(end),
            None => TRUE,
        };
        // From the last attribute to the first, so that what is built stays small.
        let mut parts = Vec::with_capacity(clause.tests.len());
        for (term, sense) in &clause.tests {
            if self.is_identity(*term) {
                match seen {
                    Seen::Surely => return FALSE,
                    Seen::Perhaps => continue,
                    Seen::Wholly => {}
                }
            }
            let part = self.term(*term, view);
            parts.push(match sense {
                Sense::Holds => part,
                Sense::Fails => self.store.not(part),
            });
        }
        for part in parts {
            holds = self.store.within(holds, part);
        }
        let other = match seen {
            Seen::Surely => Seen::Perhaps,
            Seen::Perhaps => Seen::Surely,
            Seen::Wholly => Seen::Wholly,
        };
        for excepted in &clause.unless {
            if holds == FALSE {
                break;
            }
            let excepted = self.clause(*excepted, view, other);
            holds = self.store.without(holds, excepted);
        }
        holds
    }

    fn is_identity(&self, term: TermId) -> bool {
        let asks = self.book.term(term).map(|term| &term.asks);
        matches!(
            asks,
            Some(Asks::Role(_) | Asks::User(_) | Asks::Auth(_) | Asks::Claim(_) | Asks::Device(_))
        )
    }

    fn until(&mut self, end: Timestamp) -> Diagram {
        if end <= self.book.now {
            return FALSE;
        }
        let Some((attribute, moments)) = &self.now else {
            return TRUE;
        };
        let before = moments.partition_point(|moment| *moment <= end);
        let atoms: Vec<u32> = (0..small(before)).collect();
        let count = small(moments.len() + 1);
        self.store.one_of(*attribute, &atoms, count)
    }

    /// Where a term holds, to a view.
    pub(crate) fn term(&mut self, id: TermId, view: usize) -> Diagram {
        let view = if self.is_identity(id) { view } else { 0 };
        if let Some(known) = self.terms.get(&(id, view)) {
            return *known;
        }
        let made = self.make_term(id, view);
        self.terms.insert((id, view), made);
        made
    }

    fn make_term(&mut self, id: TermId, view: usize) -> Diagram {
        let book = self.book;
        let Some(term) = book.term(id) else {
            return FALSE;
        };
        match &term.asks {
            Asks::Host(patterns) => {
                if patterns.iter().any(|pattern| pattern.matches(&self.host)) {
                    TRUE
                } else {
                    FALSE
                }
            }
            Asks::Path(patterns, regexes) => {
                let mut all: Vec<Diagram> =
                    patterns.iter().map(|pattern| self.path(pattern)).collect();
                if let Some(attribute) = regexes.as_ref().and_then(|key| self.regexes.get(key)) {
                    all.push(self.store.one_of(*attribute, &[1], 2));
                }
                self.store.any(all)
            }
            Asks::Auth(wanted) => {
                let known = self.known(view);
                let nobody = self.store.not(known);
                let by_name = self.meaning(id);
                let by_name = self.store.within(by_name, known);
                let mut all = vec![by_name];
                all.extend(wanted.none.then_some(nobody));
                all.extend(wanted.any.then_some(known));
                self.store.any(all)
            }
            Asks::Role(_) | Asks::User(_) => {
                let known = self.known(view);
                let held = self.meaning(id);
                self.store.within(held, known)
            }
            Asks::Claim(test) | Asks::Device(test) => {
                let known = self.known(view);
                let held = self.meaning(id);
                if test.holds_of_nobody() {
                    let nobody = self.store.not(known);
                    self.store.over(nobody, held)
                } else {
                    self.store.within(held, known)
                }
            }
            Asks::Client(_)
            | Asks::Peer(_)
            | Asks::Country(_)
            | Asks::Continent(_)
            | Asks::Subdivision(_)
            | Asks::Asn(_)
            | Asks::Anonymizer(_)
            | Asks::Method(_)
            | Asks::Scheme(_)
            | Asks::Opaque(..)
            | Asks::TlsVersion(_)
            | Asks::ClientCertificate(_)
            | Asks::WebSocket => self.meaning(id),
        }
    }

    /// What the attributes say of a term.
    fn meaning(&mut self, id: TermId) -> Diagram {
        let Some(meaning) = self.meanings.get(&id).cloned() else {
            return FALSE;
        };
        match meaning {
            Meaning::OneOf(attribute, atoms) => {
                let count = self.attribute(attribute).map_or(1, Attribute::count);
                self.store.one_of(attribute, &atoms, count)
            }
            Meaning::Any(attributes) => {
                // Built from the last, so that each step adds one node on top.
                let mut any = FALSE;
                for attribute in attributes.iter().rev() {
                    any = self.store.ask(*attribute, any, vec![(1, TRUE)]);
                }
                any
            }
            Meaning::None(attributes) => {
                let mut none = TRUE;
                for attribute in attributes.iter().rev() {
                    none = self.store.ask(*attribute, none, vec![(1, FALSE)]);
                }
                none
            }
        }
    }

    /// An attribute by its number.
    pub(crate) fn attribute(&self, number: u32) -> Option<&Attribute> {
        self.attributes.get(usize::try_from(number).ok()?)
    }

    fn add(&mut self, attribute: Attribute) -> u32 {
        self.attributes.push(attribute);
        small(self.attributes.len() - 1)
    }

    fn add_path(&mut self, named: &Named, patterns: &[&Pattern]) -> Option<()> {
        let book = self.book;
        let tests = named.paths.iter().filter_map(|term| {
            let Asks::Path(patterns, _) = &book.term(*term)?.asks else {
                return None;
            };
            Some(patterns)
        });
        let all = tests.flatten().chain(patterns.iter().copied());
        self.paths = Paths::new(all);
        if self.paths.depth() > ATTRIBUTES_MAX / 2 {
            return None;
        }
        for place in 0..self.paths.depth() {
            self.add(Attribute::Segment(place, self.paths.literals(place)));
        }
        self.add(Attribute::Slash);
        Some(())
    }

    fn add_request(&mut self, named: &Named) -> Option<()> {
        let book = self.book;
        if !named.methods.is_empty() {
            self.add_methods(&named.methods);
        }
        let mut schemes = Vec::new();
        let mut tls = Vec::new();
        let mut upgrades = Vec::new();
        for id in &named.plain {
            match book.term(*id).map(|term| &term.asks) {
                Some(Asks::Scheme(wanted)) => {
                    let atoms = [Scheme::Https, Scheme::Http];
                    schemes.push((*id, places(&atoms, |scheme| wanted.contains(scheme))));
                }
                Some(Asks::TlsVersion(wanted)) => {
                    let holds = |tls: &Option<(TlsVersion, Presented)>| {
                        tls.is_some_and(|(version, _)| wanted.contains(&version))
                    };
                    tls.push((*id, places(&TLS, holds)));
                }
                Some(Asks::ClientCertificate(wanted)) => {
                    let holds = |tls: &Option<(TlsVersion, Presented)>| {
                        tls.map_or(Presented::Missing, |(_, cert)| cert) == *wanted
                    };
                    tls.push((*id, places(&TLS, holds)));
                }
                Some(Asks::WebSocket) => upgrades.push((*id, vec![1])),
                Some(_) | None => {}
            }
        }
        self.add_plain(schemes, Attribute::Scheme);
        self.add_plain(tls, Attribute::Tls);
        self.add_plain(upgrades, Attribute::WebSocket);
        self.add_addresses(&named.clients, Attribute::Client);
        self.add_addresses(&named.peers, Attribute::Peer);
        self.add_geography(named)?;
        self.add_opaque(named);
        if !named.moments.is_empty() {
            let moments: Vec<Timestamp> = named.moments.iter().copied().collect();
            let attribute = self.add(Attribute::Now(moments.clone()));
            self.now = Some((attribute, moments));
        }
        Some(())
    }

    fn add_plain(&mut self, terms: Vec<(TermId, Vec<u32>)>, attribute: Attribute) {
        if terms.is_empty() {
            return;
        }
        let number = self.add(attribute);
        for (term, atoms) in terms {
            self.meanings.insert(term, Meaning::OneOf(number, atoms));
        }
    }

    fn add_methods(&mut self, terms: &[TermId]) {
        let book = self.book;
        let wanted = |id: TermId| match book.term(id).map(|term| &term.asks) {
            Some(Asks::Method(methods)) => &**methods,
            Some(_) | None => &[],
        };
        let mut methods: Vec<Method> = Vec::new();
        for method in terms.iter().flat_map(|id| wanted(*id)) {
            if !methods.contains(method) {
                methods.push(method.clone());
            }
        }
        // `GET` covers `HEAD`, which is named with it; alone it is a method of its own.
        if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
            methods.push(Method::HEAD);
        }
        let number = small(self.attributes.len());
        for id in terms {
            let wanted = wanted(*id);
            let holds = |method: &Method| {
                wanted.contains(method) || *method == Method::HEAD && wanted.contains(&Method::GET)
            };
            let atoms = places(&methods, holds).into_iter().map(|atom| atom + 1);
            self.meanings
                .insert(*id, Meaning::OneOf(number, atoms.collect()));
        }
        self.add(Attribute::Method(methods));
    }

    fn add_addresses(&mut self, terms: &[TermId], attribute: fn(Vec<Vec<u32>>) -> Attribute) {
        if terms.is_empty() {
            return;
        }
        let book = self.book;
        let mut groups = Groups::default();
        for id in terms {
            if let Some(Asks::Client(classes) | Asks::Peer(classes)) =
                book.term(*id).map(|term| &term.asks)
            {
                classes.iter().for_each(|class| groups.put(*class, *id));
            }
        }
        let outside = (0..small(book.addresses.count())).find(|class| !groups.has(class));
        groups.rest.extend(outside);
        let made = self.group(groups);
        self.add(attribute(made));
    }

    /// The groups of values that the terms do not tell apart; atom 0 is the group of which no term speaks, where there is one.
    fn group<V: Ord + Clone>(&mut self, groups: Groups<V>) -> Vec<Vec<V>> {
        let number = small(self.attributes.len());
        let (values, terms) = groups.finish();
        for (term, atoms) in terms {
            self.meanings.insert(term, Meaning::OneOf(number, atoms));
        }
        values
    }

    fn add_geography(&mut self, named: &Named) -> Option<()> {
        let book = self.book;
        let asks = |id: &TermId| book.term(*id).map(|term| &term.asks);
        if !named.countries.is_empty() {
            let mut groups = Groups::default();
            for country in Country::all().map(Some).chain([None]) {
                let mut spoken = false;
                for id in &named.countries {
                    if let Some(Asks::Country(wanted)) = asks(id)
                        && country.map_or(wanted.unlisted, |country| wanted.contains(country))
                    {
                        groups.put(country, *id);
                        spoken = true;
                    }
                }
                if !spoken {
                    groups.rest.push(country);
                }
            }
            let made = self.group(groups);
            self.add(Attribute::Country(made));
        }
        if !named.continents.is_empty() {
            let mut groups = Groups::default();
            for continent in Continent::ALL.into_iter().map(Some).chain([None]) {
                let mut spoken = false;
                for id in &named.continents {
                    if let Some(Asks::Continent(wanted)) = asks(id)
                        && continent.map_or(wanted.unlisted, |held| wanted.codes.contains(&held))
                    {
                        groups.put(continent, *id);
                        spoken = true;
                    }
                }
                if !spoken {
                    groups.rest.push(continent);
                }
            }
            let made = self.group(groups);
            self.add(Attribute::Continent(made));
        }
        if !named.subdivisions.is_empty() {
            self.add_subdivisions(&named.subdivisions)?;
        }
        if !named.systems.is_empty() {
            let mut groups = Groups::default();
            groups.rest.push(System::Other);
            let mut unlisted = false;
            for id in &named.systems {
                if let Some(Asks::Asn(wanted)) = asks(id) {
                    let numbers = wanted.numbers.iter();
                    numbers.for_each(|number| groups.put(System::Number(*number), *id));
                    if wanted.unlisted {
                        groups.put(System::Unlisted, *id);
                        unlisted = true;
                    }
                }
            }
            if !unlisted {
                groups.rest.push(System::Unlisted);
            }
            let made = self.group(groups);
            self.add(Attribute::Asn(made));
        }
        if !named.anonymizers.is_empty() {
            let mut groups = Groups::default();
            groups.rest.push(Anonymizers::default().0);
            for kinds in 1..1u8 << Anonymizers::ALL.len() {
                let mut spoken = false;
                for id in &named.anonymizers {
                    if let Some(Asks::Anonymizer(wanted)) = asks(id)
                        && wanted.intersects(Anonymizers(kinds))
                    {
                        groups.put(kinds, *id);
                        spoken = true;
                    }
                }
                if !spoken {
                    groups.rest.push(kinds);
                }
            }
            let made = self.group(groups);
            let kinds = |group: Vec<u8>| group.into_iter().map(Anonymizers).collect();
            self.add(Attribute::Anonymizer(made.into_iter().map(kinds).collect()));
        }
        Some(())
    }

    /// An address may have two subdivisions on record, one within the other.
    fn add_subdivisions(&mut self, terms: &[TermId]) -> Option<()> {
        let book = self.book;
        let mut named = BTreeMap::<Subdivision, Vec<TermId>>::new();
        for id in terms {
            if let Some(Asks::Subdivision(wanted)) = book.term(*id).map(|term| &term.asks) {
                for subdivision in wanted {
                    named.entry(*subdivision).or_default().push(*id);
                }
            }
        }
        // One of each kind is enough to pair.
        let mut kinds = BTreeMap::<Vec<TermId>, Subdivision>::new();
        for (subdivision, terms) in &named {
            kinds.entry(terms.clone()).or_insert(*subdivision);
        }
        if kinds.len() > SUBDIVISION_KINDS_MAX {
            return None;
        }
        let mut groups = Groups::default();
        groups.rest.push(Vec::new());
        for (subdivision, terms) in &named {
            terms
                .iter()
                .for_each(|id| groups.put(vec![*subdivision], *id));
        }
        for (one, first) in &kinds {
            for (other, second) in kinds.range(one.clone()..).skip(1) {
                let both: BTreeSet<TermId> = one.iter().chain(other).copied().collect();
                both.iter()
                    .for_each(|id| groups.put(vec![*first, *second], *id));
            }
        }
        let made = self.group(groups);
        self.add(Attribute::Subdivision(made));
        Some(())
    }

    fn add_opaque(&mut self, named: &Named) {
        let book = self.book;
        for terms in named.opaque.values() {
            let Some((first, _)) = terms.first() else {
                continue;
            };
            let number = small(self.attributes.len());
            let both = terms.iter().any(|(_, side)| *side == Side::Helps)
                && terms.iter().any(|(_, side)| *side == Side::Hurts);
            for (id, side) in terms {
                let atoms = if both && *side == Side::Hurts {
                    vec![1, 2]
                } else {
                    vec![1]
                };
                self.meanings.insert(*id, Meaning::OneOf(number, atoms));
            }
            self.add(Attribute::Opaque(*first));
        }
        for id in &named.paths {
            if let Some(Asks::Path(_, Some(key))) = book.term(*id).map(|term| &term.asks)
                && !self.regexes.contains_key(key)
            {
                let number = self.add(Attribute::Opaque(*id));
                self.regexes.insert(Arc::clone(key), number);
            }
        }
    }

    fn add_identity(&mut self, named: &Named) {
        let mut sources: Vec<Arc<str>> = Vec::new();
        for source in self.sources.iter().flatten() {
            if !sources.contains(source) {
                sources.push(Arc::clone(source));
            }
        }
        if sources.is_empty() {
            return;
        }
        let book = self.book;
        let asks = |id: &TermId| book.term(*id).map(|term| &term.asks);
        let number = self.add(Attribute::Auth(sources.clone()));
        for id in &named.auths {
            if let Some(Asks::Auth(wanted)) = asks(id) {
                let atoms = places(&sources, |source| wanted.sources.contains(source));
                let atoms = atoms.into_iter().map(|atom| atom + 1).collect();
                self.meanings.insert(*id, Meaning::OneOf(number, atoms));
            }
        }
        self.auth = Some((number, sources));
        if !named.users.is_empty() {
            let mut groups = Groups::<Option<Arc<str>>>::default();
            groups.rest.push(None);
            for id in &named.users {
                if let Some(Asks::User(wanted)) = asks(id) {
                    for user in wanted {
                        groups.put(Some(Arc::clone(user)), *id);
                    }
                }
            }
            let made = self.group(groups);
            let users = made
                .into_iter()
                .map(|group| group.into_iter().flatten().collect());
            self.add(Attribute::User(users.collect()));
        }
        let mut granted = BTreeMap::<u32, Vec<TermId>>::new();
        for id in &named.roles {
            if let Some(Asks::Role(wanted)) = asks(id) {
                for role in wanted {
                    granted.entry(*role).or_default().push(*id);
                }
            }
        }
        let mut alike = BTreeMap::<Vec<TermId>, Vec<u32>>::new();
        for (role, terms) in granted {
            alike.entry(terms).or_default().push(role);
        }
        let mut any = BTreeMap::<TermId, Vec<u32>>::new();
        for (terms, roles) in alike {
            let number = self.add(Attribute::Role(roles));
            for term in terms {
                any.entry(term).or_default().push(number);
            }
        }
        for id in &named.roles {
            let attributes = any.remove(id).unwrap_or_default();
            self.meanings.insert(*id, Meaning::Any(attributes));
        }
        for ((held, path), terms) in &named.claims {
            self.add_claim(*held, path, terms);
        }
    }

    /// A claim may have several values: each group of values that the terms do not tell apart is an attribute of its own.
    fn add_claim(&mut self, held: Held, path: &Arc<str>, terms: &[TermId]) {
        let book = self.book;
        let tests: Vec<(TermId, &ClaimTest)> = terms
            .iter()
            .filter_map(|id| {
                let (Asks::Claim(test) | Asks::Device(test)) = &book.term(*id)?.asks else {
                    return None;
                };
                Some((*id, test))
            })
            .collect();
        let mut alike = BTreeMap::<Vec<TermId>, Vec<Value>>::new();
        for value in candidates(&tests) {
            let holds = |(_, test): &&(TermId, &ClaimTest)| test.want.is(&value);
            let signature = tests.iter().filter(holds).map(|(id, _)| *id).collect();
            alike.entry(signature).or_default().push(value);
        }
        let mut any = BTreeMap::<TermId, Vec<u32>>::new();
        let mut all = Vec::new();
        for (terms, values) in alike {
            let number = self.add(Attribute::Claim(held, Arc::clone(path), values));
            all.push(number);
            for term in terms {
                any.entry(term).or_default().push(number);
            }
        }
        for (id, test) in tests {
            let meaning = match test.want {
                Wanted::Present(Presence::Present) => Meaning::Any(all.clone()),
                Wanted::Present(Presence::Absent) => Meaning::None(all.clone()),
                Wanted::AnyOf(_) | Wanted::AtLeast { .. } | Wanted::Range { .. } => {
                    Meaning::Any(any.remove(&id).unwrap_or_default())
                }
            };
            self.meanings.insert(id, meaning);
        }
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

impl ClaimTest {
    /// Whether it holds of a caller without any claim.
    fn holds_of_nobody(&self) -> bool {
        matches!(self.want, Wanted::Present(Presence::Absent))
    }
}

/// Values of a claim, so that every way in which some value meets the tests is met by one of them.
fn candidates(tests: &[(TermId, &ClaimTest)]) -> Vec<Value> {
    let mut texts = BTreeSet::<&str>::new();
    let mut numbers = Vec::<f64>::new();
    for (_, test) in tests {
        match &test.want {
            Wanted::AnyOf(wanted) => {
                for scalar in wanted {
                    match scalar {
                        Scalar::Text(text) => {
                            texts.insert(text);
                        }
                        Scalar::Number(number) => numbers.push(*number),
                        Scalar::Flag(_) => {}
                    }
                }
            }
            Wanted::AtLeast { order, .. } => texts.extend(order.iter().map(|text| &**text)),
            Wanted::Range { min, max } => numbers.extend(min.iter().chain(max)),
            Wanted::Present(_) => {}
        }
    }
    // A text that nobody names, and both flags.
    let mut other = "other".to_owned();
    while texts.contains(&*other) {
        other.push('x');
    }
    let mut all: Vec<Value> = vec![other.into(), true.into(), false.into()];
    all.extend(texts.iter().map(|text| Value::from(*text)));
    numbers.retain(|number| number.is_finite());
    numbers.sort_by(f64::total_cmp);
    numbers.dedup();
    if let (Some(first), Some(last)) = (numbers.first(), numbers.last()) {
        all.extend([(first - 1.0).into(), (last + 1.0).into()]);
    }
    let between = numbers.windows(2).filter_map(|two| match two {
        [one, other] => Some(Value::from(one + (other - one) / 2.0)),
        _ => None,
    });
    all.extend(between);
    all.extend(numbers.iter().map(|number| Value::from(*number)));
    all
}

/// Everything that the conditions of a cell name, by what it is about.
#[derive(Debug, Default)]
struct Named {
    paths: Vec<TermId>,
    methods: Vec<TermId>,
    plain: Vec<TermId>,
    clients: Vec<TermId>,
    peers: Vec<TermId>,
    countries: Vec<TermId>,
    continents: Vec<TermId>,
    subdivisions: Vec<TermId>,
    systems: Vec<TermId>,
    anonymizers: Vec<TermId>,
    /// By what is asked: the terms, one for each side.
    opaque: BTreeMap<Arc<str>, Vec<(TermId, Side)>>,
    moments: BTreeSet<Timestamp>,
    auths: Vec<TermId>,
    users: Vec<TermId>,
    roles: Vec<TermId>,
    claims: BTreeMap<(Held, Arc<str>), Vec<TermId>>,
    terms: BTreeSet<TermId>,
}

impl Named {
    fn clause(&mut self, book: &Book<'_>, id: ClauseId, seen: &mut BTreeSet<ClauseId>) {
        if !seen.insert(id) {
            return;
        }
        let Some(clause) = book.clause_at(id) else {
            return;
        };
        let end = clause.until.filter(|end| *end > book.now);
        self.moments.extend(end);
        for (term, _) in &clause.tests {
            self.term(book, *term);
        }
        for excepted in &clause.unless {
            self.clause(book, *excepted, seen);
        }
    }

    fn term(&mut self, book: &Book<'_>, id: TermId) {
        if !self.terms.insert(id) {
            return;
        }
        let Some(term) = book.term(id) else { return };
        match &term.asks {
            Asks::Client(_) => self.clients.push(id),
            Asks::Peer(_) => self.peers.push(id),
            Asks::Country(_) => self.countries.push(id),
            Asks::Continent(_) => self.continents.push(id),
            Asks::Subdivision(_) => self.subdivisions.push(id),
            Asks::Asn(_) => self.systems.push(id),
            Asks::Anonymizer(_) => self.anonymizers.push(id),
            Asks::Role(_) => self.roles.push(id),
            Asks::User(_) => self.users.push(id),
            Asks::Auth(_) => self.auths.push(id),
            Asks::Claim(test) => {
                let key = (Held::Claim, Arc::clone(&test.path));
                self.claims.entry(key).or_default().push(id);
            }
            Asks::Device(test) => {
                let key = (Held::Device, Arc::clone(&test.path));
                self.claims.entry(key).or_default().push(id);
            }
            Asks::Method(_) => self.methods.push(id),
            Asks::Host(_) => {}
            Asks::Path(..) => self.paths.push(id),
            Asks::Opaque(key, side, _) => {
                self.opaque
                    .entry(Arc::clone(key))
                    .or_default()
                    .push((id, *side));
            }
            Asks::Scheme(_)
            | Asks::TlsVersion(_)
            | Asks::ClientCertificate(_)
            | Asks::WebSocket => self.plain.push(id),
        }
    }
}

/// Values by the terms that speak of them.
#[derive(Debug)]
struct Groups<V> {
    spoken: BTreeMap<V, Vec<TermId>>,
    /// Values of which no term speaks; one is enough.
    rest: Vec<V>,
}

impl<V> Default for Groups<V> {
    fn default() -> Self {
        Self {
            spoken: BTreeMap::new(),
            rest: Vec::new(),
        }
    }
}

impl<V: Ord + Clone> Groups<V> {
    fn put(&mut self, value: V, term: TermId) {
        self.spoken.entry(value).or_default().push(term);
    }

    fn has(&self, value: &V) -> bool {
        self.spoken.contains_key(value)
    }

    /// The values by atom, and the atoms of each term, ascending.
    fn finish(self) -> (Vec<Vec<V>>, BTreeMap<TermId, Vec<u32>>) {
        let mut values: Vec<Vec<V>> = Vec::new();
        if !self.rest.is_empty() {
            values.push(self.rest);
        }
        let mut known = BTreeMap::<Vec<TermId>, usize>::new();
        let mut terms = BTreeMap::<TermId, Vec<u32>>::new();
        for (value, mut spoken) in self.spoken {
            spoken.sort_unstable();
            spoken.dedup();
            if let Some(group) = known.get(&spoken).and_then(|at| values.get_mut(*at)) {
                group.push(value);
                continue;
            }
            for term in &spoken {
                terms.entry(*term).or_default().push(small(values.len()));
            }
            known.insert(spoken, values.len());
            values.push(vec![value]);
        }
        (values, terms)
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

/// How many kinds of subdivisions a space may tell apart: they are paired.
const SUBDIVISION_KINDS_MAX: usize = 60;
