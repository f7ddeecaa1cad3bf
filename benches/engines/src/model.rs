//! Rules and requests that every engine here can express, made from a fixed seed.
//!
//! A request passes when no deny matches and an allow matches. Rules are global, of a site (a host name) or of a route of it
//! (`/api/rN/**`). All conditions of a rule must hold; one exception may take its word back.

use std::net::Ipv4Addr;

/// A small generator: the same rules and requests at every run.
pub struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % sides as u64) as usize
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.roll(items.len())]
    }
}

pub const COUNTRIES: [&str; 16] = [
    "NL", "DE", "FR", "US", "GB", "JP", "BR", "IN", "CN", "RU", "KP", "SY", "IR", "CU", "SE", "NO",
];
pub const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];
/// Roles, each with the roles that it grants, wider ones first.
pub const ROLES: [(&str, &[&str]); 8] = [
    ("admin", &["editor", "viewer"]),
    ("editor", &["viewer"]),
    ("viewer", &[]),
    ("staff", &[]),
    ("billing", &[]),
    ("support", &[]),
    ("auditor", &[]),
    ("partner", &[]),
];
/// Sets of addresses, and networks in each.
const SETS: usize = 100;
const NETWORKS: usize = 5;
const USERS: usize = 5000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Deny,
    Allow,
}

#[derive(Clone, Copy)]
pub enum Scope {
    Global,
    Site(usize),
    Route(usize, usize),
}

#[derive(Clone, Copy)]
pub enum Test {
    /// The client address is in a set.
    Set(usize),
    Country([&'static str; 2]),
    Asn([u32; 2]),
    Method([&'static str; 2]),
    Role(&'static str),
    User(usize),
    /// `/api/rN/sectionM/**`.
    Section(usize, usize),
}

pub struct Rule {
    pub effect: Effect,
    pub scope: Scope,
    pub tests: Vec<Test>,
    pub unless: Option<Test>,
}

pub struct Model {
    pub rules: Vec<Rule>,
    /// Networks of 256 addresses, by their first.
    pub sets: Vec<Vec<Ipv4Addr>>,
    pub sites: usize,
}

pub struct Request {
    pub host: String,
    pub path: String,
    pub method: &'static str,
    pub client: Ipv4Addr,
    pub country: &'static str,
    pub asn: u32,
    /// User and role, where somebody has signed in.
    pub caller: Option<(String, &'static str)>,
}

pub fn host(site: usize) -> String {
    format!("site{site}.example.com")
}

pub fn route(route: usize) -> String {
    format!("/api/r{route}/")
}

/// The role and all that it grants.
pub fn widened(role: &'static str) -> impl Iterator<Item = &'static str> {
    let granted = ROLES.iter().find(|(name, _)| *name == role);
    std::iter::once(role).chain(
        granted
            .into_iter()
            .flat_map(|(_, granted)| granted.iter().copied()),
    )
}

fn role(dice: &mut Dice) -> &'static str {
    dice.of(&ROLES).0
}

fn deny(dice: &mut Dice, scope: Scope, number: usize) -> Rule {
    let set = Test::Set(dice.roll(SETS));
    let role = Test::Role(role(dice));
    let method = Test::Method([dice.of(&METHODS[1..]), dice.of(&METHODS)]);
    let systems = [0, 0].map(|_| 64_500 + dice.roll(400) as u32);
    let countries = [0, 0].map(|_| dice.of(&COUNTRIES[8..14]));
    let own = match scope {
        Scope::Global | Scope::Site(_) => dice.roll(10),
        Scope::Route(_, route) => route,
    };
    let (tests, unless) = match dice.roll(6) {
        0 => (vec![set], Some(role)),
        1 => (vec![Test::Country(countries), method], Some(set)),
        2 => (vec![Test::Section(own, number % 1000), method], None),
        3 => (vec![role, set], None),
        4 => (vec![Test::Asn(systems), method], None),
        _ => (vec![Test::User(dice.roll(USERS)), method], None),
    };
    Rule {
        effect: Effect::Deny,
        scope,
        tests,
        unless,
    }
}

fn allow(dice: &mut Dice, scope: Scope) -> Rule {
    let role = Test::Role(role(dice));
    let countries = [0, 0].map(|_| dice.of(&COUNTRIES));
    let tests = match dice.roll(4) {
        0 => vec![role],
        1 => vec![role, Test::Set(dice.roll(SETS))],
        2 => vec![Test::Country(countries), Test::Method(["GET", "GET"])],
        _ => vec![Test::User(dice.roll(USERS))],
    };
    Rule {
        effect: Effect::Allow,
        scope,
        tests,
        unless: None,
    }
}

impl Model {
    /// 2 % global denies; a site for every 100 rules, with denies of its own and ten routes of five allows and four denies.
    pub fn new(count: usize) -> Self {
        let mut dice = Dice(0x5EED);
        let mut rules: Vec<Rule> = (0..(count / 50).max(2))
            .map(|n| deny(&mut dice, Scope::Global, n))
            .collect();
        let mut sites = 0;
        while rules.len() < count {
            let left = count - rules.len();
            let site = Scope::Site(sites);
            rules.extend((0..left.min(10).min(count / 5)).map(|n| deny(&mut dice, site, n)));
            for route in 0..10 {
                let scope = Scope::Route(sites, route);
                let allows = (count - rules.len()).min(5);
                rules.extend((0..allows).map(|_| allow(&mut dice, scope)));
                let denies = (count - rules.len()).min(4);
                rules.extend((0..denies).map(|n| deny(&mut dice, scope, n)));
            }
            sites += 1;
        }
        let set = |set: usize| {
            (0..NETWORKS).map(move |n| Ipv4Addr::new(20 + set as u8, 48 * n as u8, set as u8, 0))
        };
        Self {
            rules,
            sets: (0..SETS).map(|n| set(n).collect()).collect(),
            sites,
        }
    }

    /// Half of them by a caller who has signed in, a third from an address in a set.
    pub fn requests(&self, count: usize) -> Vec<Request> {
        let mut dice = Dice(0xBEEF);
        let one = |_| Request {
            host: host(dice.roll(self.sites)),
            path: match dice.roll(4) {
                0 => format!("{}section{}/x", route(dice.roll(10)), dice.roll(1000)),
                _ => format!("{}orders/{}", route(dice.roll(10)), dice.roll(1000)),
            },
            method: dice.of(&METHODS),
            client: match dice.roll(3) {
                0 => {
                    let set = &self.sets[dice.roll(SETS)];
                    Ipv4Addr::from(set[dice.roll(NETWORKS)].to_bits() + 9)
                }
                _ => Ipv4Addr::from(dice.roll(1 << 32) as u32),
            },
            country: dice.of(&COUNTRIES),
            asn: 64_500 + dice.roll(400) as u32,
            caller: (dice.roll(2) == 0)
                .then(|| (format!("user{}", dice.roll(USERS)), role(&mut dice))),
        };
        (0..count).map(one).collect()
    }
}
