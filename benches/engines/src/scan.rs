//! A linear scan over typed rules, as Envoy's RBAC filter does it: every deny from first to last, then every allow.
//!
//! Nothing is parsed or hashed at decision time, names of roles are bits, the cheapest comparison comes first.

use std::net::Ipv4Addr;
use std::time::Instant;

use crate::model::{self, Effect, Model, ROLES, Request, Scope, Test};
use crate::{Loaded, Ready};

struct Rule {
    host: Option<String>,
    route: Option<String>,
    tests: Vec<Typed>,
    unless: Option<Typed>,
}

enum Typed {
    Networks(Vec<u32>),
    Country([&'static str; 2]),
    Asn([u32; 2]),
    Method([&'static str; 2]),
    Role(u8),
    User(String),
    Below(String),
}

struct Prepared {
    host: String,
    path: String,
    method: &'static str,
    client: Ipv4Addr,
    country: &'static str,
    asn: u32,
    user: Option<String>,
    roles: u8,
}

pub fn load(model: &Model, requests: &[Request]) -> Loaded {
    let start = Instant::now();
    let (denies, allows): (Vec<_>, Vec<_>) = model
        .rules
        .iter()
        .partition(|rule| rule.effect == Effect::Deny);
    let [denies, allows] = [denies, allows].map(|rules| {
        let typed = rules.into_iter().map(|rule| typed(model, rule));
        typed.collect::<Vec<Rule>>()
    });
    let took = start.elapsed();
    let requests: Vec<Prepared> = requests.iter().map(prepared).collect();
    let decide = move |at: usize| {
        let request = &requests[at];
        !denies.iter().any(|rule| matches(rule, request))
            && allows.iter().any(|rule| matches(rule, request))
    };
    Ok(Ready {
        took,
        decide: Box::new(decide),
    })
}

fn bit(role: &str) -> u8 {
    let place = ROLES.iter().position(|(name, _)| *name == role);
    place.map_or(0, |place| 1 << place)
}

fn prepared(request: &Request) -> Prepared {
    let roles = request
        .caller
        .iter()
        .flat_map(|(_, role)| model::widened(role));
    Prepared {
        host: request.host.clone(),
        path: request.path.clone(),
        method: request.method,
        client: request.client,
        country: request.country,
        asn: request.asn,
        user: request.caller.as_ref().map(|(user, _)| user.clone()),
        roles: roles.fold(0, |bits, role| bits | bit(role)),
    }
}

fn typed(model: &Model, rule: &model::Rule) -> Rule {
    let one = |test: &Test| match test {
        Test::Set(set) => Typed::Networks(
            model.sets[*set]
                .iter()
                .map(|net| net.to_bits() >> 8)
                .collect(),
        ),
        Test::Country(wanted) => Typed::Country(*wanted),
        Test::Asn(wanted) => Typed::Asn(*wanted),
        Test::Method(wanted) => Typed::Method(*wanted),
        Test::Role(role) => Typed::Role(bit(role)),
        Test::User(user) => Typed::User(format!("user{user}")),
        Test::Section(route, section) => {
            Typed::Below(format!("{}section{section}/", model::route(*route)))
        }
    };
    Rule {
        host: match rule.scope {
            Scope::Global => None,
            Scope::Site(site) | Scope::Route(site, _) => Some(model::host(site)),
        },
        route: match rule.scope {
            Scope::Global | Scope::Site(_) => None,
            Scope::Route(_, route) => Some(model::route(route)),
        },
        tests: rule.tests.iter().map(one).collect(),
        unless: rule.unless.as_ref().map(one),
    }
}

fn matches(rule: &Rule, request: &Prepared) -> bool {
    rule.host.as_ref().is_none_or(|host| *host == request.host)
        && rule
            .route
            .as_ref()
            .is_none_or(|route| request.path.starts_with(route))
        && rule.tests.iter().all(|test| holds(test, request))
        && !rule
            .unless
            .as_ref()
            .is_some_and(|test| holds(test, request))
}

fn holds(test: &Typed, request: &Prepared) -> bool {
    match test {
        Typed::Networks(nets) => nets.contains(&(request.client.to_bits() >> 8)),
        Typed::Country(wanted) => wanted.contains(&request.country),
        Typed::Asn(wanted) => wanted.contains(&request.asn),
        Typed::Method(wanted) => wanted.contains(&request.method),
        Typed::Role(bit) => request.roles & bit != 0,
        Typed::User(user) => request.user.as_ref() == Some(user),
        Typed::Below(path) => request.path.starts_with(path),
    }
}
