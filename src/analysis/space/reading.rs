//! Terms and clauses, read as diagrams over the attributes of a space.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Attribute, Meaning, Seen, Space, small};
use crate::analysis::book::{Asks, Clause, ClauseId, Sense, TermId};
use crate::analysis::diagram::{Diagram, FALSE, TRUE};
use crate::analysis::path;
use crate::policy::pattern::Pattern;

impl<'b> Space<'b, '_> {
    /// Every point where nobody, who has no name, role or claim, has none.
    pub(crate) fn sober(&mut self) -> Diagram {
        let Some((auth, sources)) = &self.auth else {
            return TRUE;
        };
        let (auth, count) = (*auth, small(sources.len()) + 1);
        let mut bare = TRUE;
        for number in (auth + 1..small(self.attributes.len())).rev() {
            let count = self.attribute(number).map_or(1, Attribute::count);
            bare = self
                .store
                .ask(number, bare, (1..count).map(|atom| (atom, FALSE)).collect());
        }
        self.store
            .ask(auth, bare, (1..count).map(|atom| (atom, TRUE)).collect())
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
            // A certificate or a list may speak of the device of a caller whom nobody knows.
            Asks::Device(_) => self.meaning(id),
            Asks::Claim(test) => {
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

    /// The terms that one attribute alone answers: their words, and the atoms that they hold for.
    pub(crate) fn terms_of(&self, attribute: u32) -> impl Iterator<Item = (&Arc<str>, &[u32])> {
        let mut terms: Vec<_> = self.meanings.iter().collect();
        terms.sort_unstable_by_key(|(id, _)| **id);
        terms.into_iter().filter_map(move |(id, meaning)| {
            let term = self.book.term(*id)?;
            match meaning {
                Meaning::OneOf(number, atoms) if *number == attribute => {
                    Some((&term.words, atoms.as_slice()))
                }
                Meaning::Any(numbers) if **numbers == [attribute] => Some((&term.words, &[1][..])),
                Meaning::OneOf(..) | Meaning::Any(_) | Meaning::None(_) => None,
            }
        })
    }

    /// An attribute by its number.
    pub(crate) fn attribute(&self, number: u32) -> Option<&Attribute> {
        self.attributes.get(usize::try_from(number).ok()?)
    }
}
