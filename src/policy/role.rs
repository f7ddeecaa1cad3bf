//! Roles as numbers, widened by the hierarchy: a role holds everything that its roles hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::facts::RoleSet;

impl RoleSet {
    /// Adds a role by its number.
    pub(super) fn insert(&mut self, role: usize) {
        let (word, bit) = (role / 64, role % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= 1 << bit;
        }
    }

    /// Adds every role of another set.
    pub(super) fn extend(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (bits, more) in self.0.iter_mut().zip(&other.0) {
            *bits |= more;
        }
    }

    /// The numbers of the roles.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = usize> {
        super::facts::ones(&self.0)
    }

    /// Whether the two sets share a role.
    pub(super) fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }
}

/// The roles that rules and the hierarchy name.
#[derive(Debug, Clone, Default)]
pub struct Roles {
    numbers: BTreeMap<Arc<str>, usize>,
    /// By number: the roles directly held.
    held: Vec<Vec<usize>>,
    /// By number: the role itself and everything it holds.
    widened: Vec<RoleSet>,
}

impl Roles {
    /// The number of a role, known or new.
    pub fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.held.len();
        self.numbers.insert(Arc::from(name), number);
        self.held.push(Vec::new());
        number
    }

    /// Says that a role holds another.
    pub fn hold(&mut self, role: &str, held: &str) {
        let (role, held) = (self.number(role), self.number(held));
        if let Some(list) = self.held.get_mut(role) {
            list.push(held);
        }
    }

    /// The set of these roles, not widened: what a rule asks for.
    pub fn set<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) -> RoleSet {
        let mut set = RoleSet::default();
        for name in names {
            set.insert(self.number(name));
        }
        set
    }

    /// Computes what every role holds, directly or not. Circles are harmless: every role in one holds all of it.
    pub(super) fn widen(&mut self) {
        self.widened = (0..self.held.len())
            .map(|role| {
                let (mut set, mut seen, mut todo) =
                    (RoleSet::default(), vec![false; self.held.len()], vec![role]);
                while let Some(role) = todo.pop() {
                    let Some(seen) = seen.get_mut(role).filter(|seen| !**seen) else {
                        continue;
                    };
                    *seen = true;
                    set.insert(role);
                    todo.extend(self.held.get(role).into_iter().flatten());
                }
                set
            })
            .collect();
    }

    /// Every role by name, with the numbers of all that it holds, itself among them.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&Arc<str>, impl Iterator<Item = usize>)> {
        self.numbers.iter().map(|(name, number)| {
            let held = self.widened.get(*number);
            (name, held.into_iter().flat_map(RoleSet::numbers))
        })
    }

    /// What somebody with these roles holds. Roles that no rule names are of no account.
    pub(super) fn widened<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> RoleSet {
        let mut set = RoleSet::default();
        for name in names {
            let number = self.numbers.get(name);
            if let Some(held) = number.and_then(|number| self.widened.get(*number)) {
                set.extend(held);
            }
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_holds_everything_to_its_right() {
        let mut roles = Roles::default();
        for (role, held) in [
            ("admin", "editor"),
            ("editor", "viewer"),
            ("a", "b"),
            ("b", "a"),
        ] {
            roles.hold(role, held);
        }
        for filler in 0..100 {
            roles.number(&format!("filler-{filler}"));
        }
        roles.hold("editor", "late");
        roles.widen();
        for (has, wants, want, why) in [
            (vec!["viewer"], "editor", false, "not upwards"),
            (vec!["admin"], "viewer", true, "through editor"),
            (vec!["admin"], "late", true, "in another word of the set"),
            (vec!["a"], "b", true, "a circle"),
            (vec!["b"], "a", true, "both ways"),
            (
                vec!["unknown", "editor"],
                "viewer",
                true,
                "others do not matter",
            ),
            (vec![], "viewer", false, "nothing"),
        ] {
            let wanted = roles.set([wants]);
            assert_eq!(
                roles.widened(has.clone()).intersects(&wanted),
                want,
                "{has:?}: {why}"
            );
        }
    }
}
