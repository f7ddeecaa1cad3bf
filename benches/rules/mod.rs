//! The policies that benches measure: the same at every run.

use std::fmt::Write as _;

/// A small generator: the same policies and requests at every run.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % sides as u64) as usize
    }

    pub(crate) fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.roll(items.len())]
    }
}

pub(crate) const COUNTRIES: [&str; 16] = [
    "NL", "DE", "FR", "US", "GB", "JP", "BR", "IN", "CN", "RU", "KP", "SY", "IR", "CU", "SE", "NO",
];
pub(crate) const ROLES: [&str; 8] = [
    "viewer", "editor", "admin", "staff", "billing", "support", "auditor", "partner",
];
pub(crate) const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];
pub(crate) const SETS: usize = 100;

/// The head of every policy: roles and 100 sets of 20 networks.
pub(crate) fn head() -> String {
    let mut text = String::from(
        "[role]\nadmin = [\"editor\"]\neditor = [\"viewer\"]\nstaff = []\nbilling = []\nsupport = []\nauditor = []\npartner = []\n[ip]\n",
    );
    for set in 0..SETS {
        let nets: Vec<String> = (0..20)
            .map(|n| format!("\"{}.{}.{}.0/24\"", 20 + set, n * 12, set))
            .collect();
        writeln!(text, "set{set} = [{}]", nets.join(", ")).unwrap();
    }
    text
}

/// Conditions of a deny. Most look for something that few requests have.
pub(crate) fn deny(dice: &mut Dice, number: usize, path: &str) -> String {
    match dice.roll(7) {
        0 => format!(
            "ip = \"@set{}\"\nunless = [{{ role = \"{}\" }}]",
            dice.roll(SETS),
            dice.of(&ROLES)
        ),
        1 => format!(
            "country = [\"{}\", \"{}\"]\nmethod = \"{}\"\nunless = [{{ ip = \"@set{}\" }}]",
            dice.of(&COUNTRIES[8..14]),
            dice.of(&COUNTRIES[8..14]),
            dice.of(&METHODS[1..]),
            dice.roll(SETS)
        ),
        2 => format!(
            "path = \"{path}/section{number}/**\"\nmethod = [\"POST\", \"{}\"]",
            dice.of(&METHODS)
        ),
        3 => format!(
            "role = \"{}\"\nip = \"@set{}\"",
            dice.of(&ROLES),
            dice.roll(SETS)
        ),
        4 => format!(
            "asn = [{}, {}]\nmethod = \"{}\"",
            64500 + dice.roll(400),
            64500 + dice.roll(400),
            dice.of(&METHODS)
        ),
        5 => format!(
            "user = \"user{}\"\nmethod = \"{}\"",
            dice.roll(5000),
            dice.of(&METHODS)
        ),
        _ => format!(
            "path = \"{path}/*/secret{number}\"\nrole = \"{}\"",
            dice.of(&ROLES)
        ),
    }
}

pub(crate) fn allow(dice: &mut Dice) -> String {
    match dice.roll(4) {
        0 => format!("{{ role = \"{}\" }}", dice.of(&ROLES)),
        1 => format!(
            "{{ role = \"{}\", ip = \"@set{}\" }}",
            dice.of(&ROLES),
            dice.roll(SETS)
        ),
        2 => format!(
            "{{ country = [\"{}\", \"{}\"], method = \"GET\" }}",
            dice.of(&COUNTRIES),
            dice.of(&COUNTRIES)
        ),
        _ => format!("{{ user = \"user{}\" }}", dice.roll(5000)),
    }
}
