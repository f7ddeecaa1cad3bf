//! A second evaluator, as naive as the text of DESIGN section 2: eager, three-valued, straight from the written tables.
//!
//! It shares nothing with the engine but the facts, so that the two can be held against each other.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value as Json;

use crate::config::node::{Node, Table, Value};
use crate::policy::simulate::{Asked, Caller};
use crate::value::region::GeoFacts;

/// True, false, or open before sign-in.
type Three = Option<bool>;

/// Status, rule, and whether a credential had to be looked at.
pub(super) type Answer = (u16, Option<String>, bool);

#[derive(Clone, Copy, PartialEq)]
enum Who<'a> {
    Open,
    Is(&'a Caller2<'a>),
}

/// The caller as the oracle sees it.
#[derive(PartialEq)]
enum Caller2<'a> {
    Nobody,
    Failed,
    Known {
        user: &'a str,
        source: &'a str,
        roles: Vec<&'a str>,
        claims: &'a serde_json::Map<String, Json>,
    },
}

fn conj(parts: impl Iterator<Item = Three>) -> Three {
    let parts: Vec<Three> = parts.collect();
    if parts.contains(&Some(false)) {
        Some(false)
    } else if parts.contains(&None) {
        None
    } else {
        Some(true)
    }
}

fn disj(parts: impl Iterator<Item = Three>) -> Three {
    conj(parts.map(|part| part.map(|holds| !holds))).map(|none| !none)
}

fn texts(node: &Node) -> Vec<&str> {
    node.many().filter_map(Node::as_str).collect()
}

struct Oracle<'a> {
    root: &'a Table,
    asked: &'a Asked,
}

/// What the written policy says of a request to its only site.
pub(super) fn decide(root: &Table, asked: &Asked) -> Answer {
    decide_with(root, asked, None)
}

/// The same, if the shadow rule of this name were enforced.
pub(super) fn decide_with(root: &Table, asked: &Asked, enforced: Option<&str>) -> Answer {
    let counts = |rule: &&Table| {
        rule.bool("shadow") != Some(true) || (enforced.is_some() && rule.str("name") == enforced)
    };
    let oracle = Oracle { root, asked };
    let site = root.tables("site").next().expect("a site");
    let routes = site
        .tables("route")
        .filter(|route| matches(route.str("path").expect("a path"), &asked.target));
    let route = routes.max_by_key(|route| rank(route.str("path").expect("a path")));
    let parts = [Some(root), Some(site), route];
    let denies: Vec<&Table> = parts
        .into_iter()
        .flatten()
        .flat_map(|part| part.tables("deny"))
        .filter(counts)
        .collect();
    let allows: Option<Vec<&Table>> =
        route
            .and_then(|route| route.get("allow"))
            .and_then(|allow| {
                allow.as_list().map(|list| {
                    list.iter()
                        .filter_map(Node::as_table)
                        .filter(counts)
                        .collect()
                })
            });
    let step_up = route.and_then(|route| route.table("step_up"));
    let judge = |who: Who<'_>, kind: bool| -> (Vec<Three>, Three) {
        let mut hits: Vec<Three> = denies
            .iter()
            .map(|deny| oracle.condition(deny, who, kind))
            .collect();
        // Behind all denies: who has not signed in well enough.
        hits.extend(step_up.map(|step_up| {
            let met = oracle.met(step_up, who, !kind);
            met.map(|met| !met)
        }));
        let granted = match &allows {
            None => Some(true),
            Some(allows) => disj(
                allows
                    .iter()
                    .map(|allow| oracle.condition(allow, who, !kind)),
            ),
        };
        (hits, granted)
    };
    let answer = |who: Who<'_>| -> Option<(u16, Option<String>)> {
        let (hits, granted) = judge(who, true);
        if !hits.contains(&Some(true)) && granted != Some(false) {
            return (!hits.contains(&None) && granted.is_some()).then_some((200, None));
        }
        let (hits, granted) = judge(who, false);
        match hits.iter().position(|hit| *hit == Some(true)) {
            None if granted != Some(false) => Some((503, None)),
            None => Some((403, None)),
            Some(at) if at == denies.len() => {
                // It asks those again who are known and allowed, and strangers as they are always asked.
                let path = route.and_then(|route| route.str("path")).expect("a path");
                let rule = Some(format!("a{path}#step_up"));
                let known = matches!(who, Who::Is(Caller2::Known { .. }));
                Some(match (granted, known) {
                    (Some(false), _) => (403, None),
                    (_, true) => (401, rule),
                    (_, false) => (403, rule),
                })
            }
            Some(at) => {
                let status = denies[at].int("status").unwrap_or(403);
                let rule = denies[at].str("name").map(str::to_owned);
                Some((u16::try_from(status).expect("a status"), rule))
            }
        }
    };
    let signs_in = site.many("identity").next().is_some();
    let known = answer(if signs_in {
        Who::Open
    } else {
        Who::Is(&Caller2::Nobody)
    });
    match known {
        Some((status, rule)) if status != 200 => return (status, rule, false),
        _ if route.is_none() => return (404, None, false),
        Some(_) => return (200, None, false),
        None => {}
    }
    let who = match &asked.caller {
        Caller::Nobody | Caller::Invalid => Caller2::Nobody,
        Caller::Failed => Caller2::Failed,
        Caller::Known(principal) => Caller2::Known {
            user: &principal.user,
            source: &principal.source,
            roles: principal.roles.iter().map(|role| &**role).collect(),
            claims: &principal.claims,
        },
    };
    let (status, rule) = answer(Who::Is(&who)).expect("nothing is open any more");
    if status == 200 || who != Caller2::Nobody || matches!(status, 503 | 404 | 410) {
        return (status, rule, true);
    }
    (401, None, true)
}

impl Oracle<'_> {
    fn condition(&self, table: &Table, who: Who<'_>, failed: bool) -> Three {
        let keys = table
            .entries
            .iter()
            .filter(|entry| !matches!(&*entry.key, "name" | "status" | "unless" | "shadow"));
        let positive = conj(keys.map(|entry| self.key(&entry.key, &entry.node, who, failed)));
        let excepted = disj(
            table
                .tables("unless")
                .map(|t| self.condition(t, who, !failed)),
        );
        conj([positive, excepted.map(|holds| !holds)].into_iter())
    }

    fn met(&self, step_up: &Table, who: Who<'_>, failed: bool) -> Three {
        let claims = match who {
            Who::Open => return None,
            Who::Is(Caller2::Failed) => return Some(failed),
            Who::Is(Caller2::Nobody) => return Some(false),
            Who::Is(Caller2::Known { claims, .. }) => claims,
        };
        let acr = step_up.get("acr").is_none_or(|node| {
            let held = claims.get("acr").and_then(Json::as_str);
            held.is_some_and(|held| texts(node).contains(&held))
        });
        // All of them are five minutes, and it is 1970.
        let fresh = step_up.get("max_age").is_none_or(|_| {
            let time = claims.get("auth_time").and_then(Json::as_f64);
            time.is_some_and(|time| (-300.0..=60.0).contains(&time))
        });
        Some(acr && fresh)
    }

    fn key(&self, key: &str, node: &Node, who: Who<'_>, failed: bool) -> Three {
        let asked = self.asked;
        let wanted = texts(node);
        if matches!(key, "role" | "user" | "auth" | "claim") {
            let caller = match who {
                Who::Open => return None,
                Who::Is(Caller2::Failed) => return Some(failed),
                Who::Is(caller) => caller,
            };
            return Some(self.person(key, node, &wanted, caller));
        }
        if matches!(key, "country" | "anonymizer") && asked.region.failed.intersects(GeoFacts::ALL)
        {
            return Some(failed);
        }
        Some(match key {
            "ip" => wanted.iter().any(|net| within(net, asked.client)),
            "peer" => wanted.iter().any(|net| within(net, asked.peer)),
            "country" => {
                let held = asked.region.country.map(|country| country.to_string());
                wanted.contains(&held.as_deref().unwrap_or("unlisted"))
            }
            "anonymizer" => crate::value::region::Anonymizers::ALL
                .iter()
                .any(|(name, kind)| {
                    wanted.contains(name) && asked.region.anonymizer.intersects(*kind)
                }),
            "method" => {
                let held = asked.method.as_str();
                wanted.contains(&held) || (held == "HEAD" && wanted.contains(&"GET"))
            }
            "path" => wanted.iter().any(|pattern| matches(pattern, &asked.target)),
            other => panic!("the oracle knows no {other}"),
        })
    }

    fn person(&self, key: &str, node: &Node, wanted: &[&str], caller: &Caller2<'_>) -> bool {
        let Caller2::Known {
            user,
            source,
            roles,
            claims,
        } = caller
        else {
            return key == "auth" && wanted.contains(&"none");
        };
        match key {
            "user" => wanted.contains(user),
            "auth" => wanted.contains(source) || wanted.contains(&"any"),
            "role" => {
                let (mut todo, mut held) = (roles.clone(), BTreeSet::new());
                while let Some(role) = todo.pop() {
                    if held.insert(role) {
                        todo.extend(
                            self.root
                                .table("role")
                                .and_then(|t| t.get(role))
                                .map(texts)
                                .unwrap_or_default(),
                        );
                    }
                }
                wanted.iter().any(|role| held.contains(role))
            }
            _ => node
                .as_table()
                .expect("claims")
                .entries
                .iter()
                .all(|entry| match &entry.node.value {
                    Value::String(text) => {
                        claims.get(&entry.key) == Some(&Json::from(text.as_str()))
                    }
                    other => panic!("{other:?}"),
                }),
        }
    }
}

fn within(net: &str, address: IpAddr) -> bool {
    net.parse::<ipnet::IpNet>()
        .expect("a network")
        .contains(&address)
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut want: Vec<&str> = pattern
        .trim_matches('/')
        .split('/')
        .filter(|s| !s.is_empty())
        .collect();
    let mut have: Vec<&str> = path
        .trim_matches('/')
        .split('/')
        .filter(|s| !s.is_empty())
        .collect();
    if want.last() == Some(&"**") {
        want.pop();
        have.truncate(want.len());
    }
    want.len() == have.len()
        && want
            .iter()
            .zip(&have)
            .all(|(want, have)| *want == "*" || want == have)
}

fn rank(pattern: &str) -> Vec<u8> {
    let segments = pattern.trim_matches('/').split('/');
    let mut rank: Vec<u8> = segments
        .map(|segment| match segment {
            "*" => 1,
            "**" => 0,
            _ => 2,
        })
        .collect();
    if !pattern.ends_with("/**") {
        rank.push(3);
    }
    rank
}
