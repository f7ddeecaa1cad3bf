//! The attributes of who asks: sources, users, roles and claims.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::groups::Groups;
use super::named::Named;
use super::{Attribute, Held, Meaning, Space, places};
use crate::analysis::book::{Asks, TermId};
use crate::policy::claim::{ClaimTest, Presence, Scalar, Wanted};

impl Space<'_, '_> {
    pub(super) fn add_identity(&mut self, named: &Named) {
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
    pub(super) fn add_claim(&mut self, held: Held, path: &Arc<str>, terms: &[TermId]) {
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

impl ClaimTest {
    /// Whether it holds of a caller without any claim.
    pub(super) fn holds_of_nobody(&self) -> bool {
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
