//! Everything that the conditions of a cell name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::Held;
use crate::analysis::book::{Asks, Book, ClauseId, TermId};
use crate::policy::text::Side;

/// Everything that the conditions of a cell name, by what it is about.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) paths: Vec<TermId>,
    pub(super) methods: Vec<TermId>,
    pub(super) plain: Vec<TermId>,
    pub(super) clients: Vec<TermId>,
    pub(super) peers: Vec<TermId>,
    pub(super) countries: Vec<TermId>,
    pub(super) continents: Vec<TermId>,
    pub(super) subdivisions: Vec<TermId>,
    pub(super) systems: Vec<TermId>,
    pub(super) anonymizers: Vec<TermId>,
    /// By what is asked: the terms, one for each side.
    pub(super) opaque: BTreeMap<Arc<str>, Vec<(TermId, Side)>>,
    pub(super) moments: BTreeSet<Timestamp>,
    pub(super) auths: Vec<TermId>,
    pub(super) users: Vec<TermId>,
    pub(super) roles: Vec<TermId>,
    pub(super) claims: BTreeMap<(Held, Arc<str>), Vec<TermId>>,
    pub(super) terms: BTreeSet<TermId>,
}

impl Named {
    pub(super) fn clause(&mut self, book: &Book<'_>, id: ClauseId, seen: &mut BTreeSet<ClauseId>) {
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

    pub(super) fn term(&mut self, book: &Book<'_>, id: TermId) {
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
