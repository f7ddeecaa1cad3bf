//! The attributes of what is asked: path, method, connection, addresses, and what can only be taken as a whole.

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;

use super::groups::Groups;
use super::named::Named;
use super::{ATTRIBUTES_MAX, Attribute, Meaning, Space, TLS, places, small};
use crate::analysis::book::{Asks, TermId};
use crate::analysis::path::Paths;
use crate::policy::condition::Presented;
use crate::policy::facts::{Scheme, TlsVersion};
use crate::policy::pattern::Pattern;
use crate::policy::text::Side;

impl Space<'_, '_> {
    pub(super) fn add_path(&mut self, named: &Named, patterns: &[&Pattern]) -> Option<()> {
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

    pub(super) fn add_request(&mut self, named: &Named) -> Option<()> {
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

    pub(super) fn add_plain(&mut self, terms: Vec<(TermId, Vec<u32>)>, attribute: Attribute) {
        if terms.is_empty() {
            return;
        }
        let number = self.add(attribute);
        for (term, atoms) in terms {
            self.meanings.insert(term, Meaning::OneOf(number, atoms));
        }
    }

    pub(super) fn add_methods(&mut self, terms: &[TermId]) {
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

    pub(super) fn add_addresses(
        &mut self,
        terms: &[TermId],
        attribute: fn(Vec<Vec<u32>>) -> Attribute,
    ) {
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

    pub(super) fn add_opaque(&mut self, named: &Named) {
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
}
