//! Portcullis: with its indexes, and (`plain`) with the same rules tried one after the other within site and route.
//!
//! What is timed begins with strings and an address: the path is read, site and route are found, and a request whose caller
//! matters is judged twice, before and after sign-in, as the proxy does it.

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method};
use portcullis::config::Context;
use portcullis::config::compile::rules;
use portcullis::config::node::{self, FileId};
use portcullis::policy::facts::Scheme;
use portcullis::policy::{Credential, Facts, First, Identity, Person, Policy, Verdict};
use portcullis::value::path::Target;
use portcullis::value::principal::Principal;
use portcullis::value::region::{GeoFacts, Region};

use crate::model::{self, Effect, Model, ROLES, Request, Rule, Scope, Test};
use crate::{Loaded, Ready};

pub fn indexed(model: &Model, requests: &[Request]) -> Loaded {
    load(model, requests, |policy| policy)
}

pub fn plain(model: &Model, requests: &[Request]) -> Loaded {
    load(model, requests, Policy::plain)
}

fn load(model: &Model, requests: &[Request], shape: fn(Policy) -> Policy) -> Loaded {
    let text = text(model);
    let start = Instant::now();
    let (root, found) = node::parse(&text, FileId(0));
    let mut cx = Context::default();
    let policy = shape(rules::compile(&root, GeoFacts::ALL, &mut cx));
    let took = start.elapsed();
    if !found.is_empty() || cx.report.refused() {
        return Err(format!("{found:?} {:?}", cx.report.diagnostics.first()));
    }
    let requests: Vec<Prepared> = requests
        .iter()
        .map(|request| Prepared::new(&policy, request))
        .collect();
    let headers = HeaderMap::new();
    let decide = move |at: usize| {
        requests
            .get(at)
            .is_some_and(|request| decide(&policy, request, &headers))
    };
    Ok(Ready {
        took,
        decide: Box::new(decide),
    })
}

struct Prepared {
    host: String,
    path: String,
    method: Method,
    client: IpAddr,
    region: Region,
    person: Option<Person>,
}

impl Prepared {
    fn new(policy: &Policy, request: &Request) -> Self {
        let principal = |(user, role): &(String, &str)| Principal {
            user: user.as_str().into(),
            source: "sso".into(),
            roles: vec![(*role).into()],
            claims: serde_json::Map::new(),
            device: serde_json::Map::new(),
            expires: None,
        };
        Self {
            host: request.host.clone(),
            path: request.path.clone(),
            method: request.method.parse().expect("a method"),
            client: request.client.into(),
            region: Region {
                country: Some(request.country.parse().expect("a country")),
                asn: Some(request.asn),
                ..Region::default()
            },
            person: request
                .caller
                .as_ref()
                .map(|caller| policy.person(Arc::new(principal(caller)))),
        }
    }
}

fn decide(policy: &Policy, request: &Prepared, headers: &HeaderMap) -> bool {
    let Ok(target) = Target::read(&request.path) else {
        return false;
    };
    let Ok(place) = policy.locate(&request.host, &target) else {
        return false;
    };
    let lookup = |_: IpAddr| request.region;
    let mut facts = Facts {
        peer: request.client,
        client: request.client,
        method: &request.method,
        scheme: Scheme::Https,
        host: &request.host,
        target: &target,
        headers,
        tls: None,
        websocket: false,
        now: jiff::Timestamp::UNIX_EPOCH,
        identity: Identity::Open,
        lookup: &lookup,
        region: OnceCell::new(),
    };
    let decision = match policy.first_noting(&facts, place) {
        (First::Decided(decision), _) => decision,
        (First::SignIn, notes) => {
            facts.identity = request
                .person
                .as_ref()
                .map_or(Identity::Anonymous, Identity::Known);
            policy.second_noting(&facts, place, Credential::Absent, notes)
        }
    };
    decision.verdict == Verdict::Allow
}

fn text(model: &Model) -> String {
    let mut text = String::from("[role]\n");
    for (role, granted) in ROLES {
        writeln!(text, "{role} = {granted:?}").expect("memory");
    }
    text.push_str("[ip]\n");
    for (number, nets) in model.sets.iter().enumerate() {
        let nets: Vec<String> = nets.iter().map(|net| format!("{net}/24")).collect();
        writeln!(text, "set{number} = {nets:?}").expect("memory");
    }
    let mut site = None;
    let mut rules = model.rules.iter().enumerate().peekable();
    while let Some((number, rule)) = rules.next() {
        let header = match rule.scope {
            Scope::Global => "deny",
            Scope::Site(_) => "site.deny",
            Scope::Route(..) => "site.route.deny",
        };
        if let Scope::Site(of) | Scope::Route(of, _) = rule.scope
            && site != Some(of)
        {
            site = Some(of);
            let host = model::host(of);
            write!(
                text,
                "[[site]]\nhost = [{host:?}]\nupstream = \"u\"\nidentity = [\"sso\"]\n"
            )
            .expect("memory");
        }
        if let (Effect::Allow, Scope::Route(_, route)) = (rule.effect, rule.scope) {
            let mut allows = vec![allow(rule)];
            while let Some((_, more)) = rules
                .next_if(|(_, next)| next.effect == Effect::Allow && same(next.scope, rule.scope))
            {
                allows.push(allow(more));
            }
            let (path, allows) = (model::route(route), allows.join(", "));
            write!(
                text,
                "[[site.route]]\npath = \"{path}**\"\nallow = [{allows}]\n"
            )
            .expect("memory");
            continue;
        }
        write!(text, "[[{header}]]\nname = \"d{number}\"\n").expect("memory");
        for one in &rule.tests {
            writeln!(text, "{}", test(one)).expect("memory");
        }
        if let Some(one) = &rule.unless {
            writeln!(text, "unless = [{{ {} }}]", test(one)).expect("memory");
        }
    }
    text
}

fn same(one: Scope, other: Scope) -> bool {
    matches!((one, other), (Scope::Route(a, b), Scope::Route(c, d)) if a == c && b == d)
}

fn allow(rule: &Rule) -> String {
    let tests: Vec<String> = rule.tests.iter().map(test).collect();
    format!("{{ {} }}", tests.join(", "))
}

fn test(test: &Test) -> String {
    match test {
        Test::Set(set) => format!("ip = \"@set{set}\""),
        Test::Country(wanted) => format!("country = {wanted:?}"),
        Test::Asn(wanted) => format!("asn = {wanted:?}"),
        Test::Method(wanted) => format!("method = {wanted:?}"),
        Test::Role(role) => format!("role = \"{role}\""),
        Test::User(user) => format!("user = \"user{user}\""),
        Test::Section(route, section) => {
            format!("path = \"{}section{section}/**\"", model::route(*route))
        }
    }
}
