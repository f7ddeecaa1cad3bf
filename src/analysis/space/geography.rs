//! The attributes of where a request comes from.

use std::collections::{BTreeMap, BTreeSet};

use super::groups::Groups;
use super::named::Named;
use super::{Attribute, Meaning, Space, System, small};
use crate::analysis::book::{Asks, TermId};
use crate::value::country::{Continent, Country, Subdivision};
use crate::value::region::Anonymizers;

impl Space<'_, '_> {
    /// The groups of values that the terms do not tell apart; atom 0 is the group of which no term speaks, where there is one.
    pub(super) fn group<V: Ord + Clone>(&mut self, groups: Groups<V>) -> Vec<Vec<V>> {
        let number = small(self.attributes.len());
        let (values, terms) = groups.finish();
        for (term, atoms) in terms {
            self.meanings.insert(term, Meaning::OneOf(number, atoms));
        }
        values
    }

    pub(super) fn add_geography(&mut self, named: &Named) -> Option<()> {
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
    pub(super) fn add_subdivisions(&mut self, terms: &[TermId]) -> Option<()> {
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
}

/// How many kinds of subdivisions a space may tell apart: they are paired.
const SUBDIVISION_KINDS_MAX: usize = 60;
