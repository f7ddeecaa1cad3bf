//! cedar-policy: a policy per rule; caller, method and host in the scope, since that is what Cedar compares first.
//!
//! What is timed is `Authorizer::is_authorized` alone: its request and entities are made beforehand.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Instant;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request as Asked,
    RestrictedExpression,
};

use crate::model::{self, Effect, METHODS, Model, ROLES, Request, Scope, Test};
use crate::{Loaded, Ready};

pub fn load(model: &Model, requests: &[Request]) -> Loaded {
    let text = text(model);
    let start = Instant::now();
    let policies: PolicySet = text.parse().map_err(|error| format!("{error}"))?;
    let took = start.elapsed();
    let requests: Vec<(Asked, Entities)> = requests.iter().map(prepared).collect();
    let authorizer = Authorizer::new();
    let decide = move |at: usize| {
        let (request, entities) = &requests[at];
        let response = authorizer.is_authorized(request, &policies, entities);
        debug_assert_eq!(response.diagnostics().errors().count(), 0);
        response.decision() == Decision::Allow
    };
    Ok(Ready {
        took,
        decide: Box::new(decide),
    })
}

fn uid(kind: &str, name: &str) -> EntityUid {
    format!("{kind}::{name:?}").parse().expect("an entity")
}

fn prepared(request: &Request) -> (Asked, Entities) {
    let bare = |kind, name: &str| Entity::new_no_attrs(uid(kind, name), HashSet::new());
    let (user, role) = match &request.caller {
        Some((user, role)) => (user.as_str(), Some(*role)),
        None => ("(nobody)", None),
    };
    let mut entities = vec![bare("Site", &request.host)];
    entities.extend(METHODS.map(|method| bare("Action", method)));
    entities.extend(ROLES.map(|(role, granted)| {
        let parents = granted.iter().map(|role| uid("Role", role)).collect();
        Entity::new_no_attrs(uid("Role", role), parents)
    }));
    let roles = role.iter().map(|role| uid("Role", role)).collect();
    entities.push(Entity::new_no_attrs(uid("User", user), roles));
    let context: HashMap<String, RestrictedExpression> = HashMap::from([
        (
            "path".to_owned(),
            RestrictedExpression::new_string(request.path.clone()),
        ),
        (
            "ip".to_owned(),
            RestrictedExpression::new_ip(request.client.to_string()),
        ),
        (
            "country".to_owned(),
            RestrictedExpression::new_string(request.country.to_owned()),
        ),
        (
            "asn".to_owned(),
            RestrictedExpression::new_long(request.asn.into()),
        ),
    ]);
    let asked = Asked::new(
        uid("User", user),
        uid("Action", request.method),
        uid("Site", &request.host),
        Context::from_pairs(context).expect("a context"),
        None,
    );
    (
        asked.expect("a request"),
        Entities::from_entities(entities, None).expect("entities"),
    )
}

fn text(model: &Model) -> String {
    let mut text = String::new();
    for rule in &model.rules {
        let (mut principal, mut action) = ("principal".to_owned(), "action".to_owned());
        let mut when = Vec::new();
        let resource = match rule.scope {
            Scope::Global => "resource".to_owned(),
            Scope::Site(site) | Scope::Route(site, _) => {
                format!("resource == Site::{:?}", model::host(site))
            }
        };
        if let Scope::Route(_, route) = rule.scope {
            when.push(format!("context.path like \"{}*\"", model::route(route)));
        }
        for test in &rule.tests {
            match test {
                Test::Role(_) | Test::User(_) => principal = expression(model, test),
                Test::Method([one, other]) => {
                    action = format!("action in [Action::{one:?}, Action::{other:?}]")
                }
                Test::Set(_) | Test::Country(_) | Test::Asn(_) | Test::Section(..) => {
                    when.push(expression(model, test))
                }
            }
        }
        let effect = match rule.effect {
            Effect::Deny => "forbid",
            Effect::Allow => "permit",
        };
        write!(text, "{effect} ({principal}, {action}, {resource})").expect("memory");
        if !when.is_empty() {
            write!(text, " when {{ {} }}", when.join(" && ")).expect("memory");
        }
        if let Some(test) = &rule.unless {
            write!(text, " unless {{ {} }}", expression(model, test)).expect("memory");
        }
        text.push_str(";\n");
    }
    text
}

fn expression(model: &Model, test: &Test) -> String {
    match test {
        Test::Set(set) => {
            let nets = model.sets[*set].iter();
            let nets: Vec<String> = nets
                .map(|net| format!("context.ip.isInRange(ip(\"{net}/24\"))"))
                .collect();
            format!("({})", nets.join(" || "))
        }
        Test::Country(wanted) => format!("{wanted:?}.contains(context.country)"),
        Test::Asn(wanted) => format!("{wanted:?}.contains(context.asn)"),
        Test::Method(wanted) => format!("action in {wanted:?}"),
        Test::Role(role) => format!("principal in Role::{role:?}"),
        Test::User(user) => format!("principal == User::\"user{user}\""),
        Test::Section(route, section) => {
            format!(
                "context.path like \"{}section{section}/*\"",
                model::route(*route)
            )
        }
    }
}
