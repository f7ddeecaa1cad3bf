//! regorus: Rego, a rule body per rule, networks in `data`; compiled for its virtual machine, and interpreted.
//!
//! What is timed is setting an input that was made beforehand, and the evaluation, on a machine or policy that is kept.

use std::fmt::Write as _;
use std::time::Instant;

use regorus::languages::rego::compiler::Compiler;
use regorus::rvm::RegoVM;
use regorus::{CompiledPolicy, Engine, Value};

use crate::model::{self, Effect, Model, Request, Rule, Scope, Test};
use crate::{Loaded, Ready};

pub fn machine(model: &Model, requests: &[Request]) -> Loaded {
    let start = Instant::now();
    let (compiled, data) = compiled(model)?;
    let program =
        Compiler::compile_from_policy(&compiled, &[ENTRY]).map_err(|error| said(&error))?;
    let mut machine = RegoVM::new();
    machine.load_program(program);
    machine.set_data(data).map_err(|error| said(&error))?;
    machine.set_max_instructions(usize::MAX);
    let took = start.elapsed();
    let inputs: Vec<Value> = requests.iter().map(input).collect();
    let decide = move |at: usize| {
        machine.set_input(inputs[at].clone());
        machine.execute().expect("an answer") == Value::Bool(true)
    };
    Ok(Ready {
        took,
        decide: Box::new(decide),
    })
}

pub fn interpreter(model: &Model, requests: &[Request]) -> Loaded {
    let start = Instant::now();
    let (compiled, _) = compiled(model)?;
    let took = start.elapsed();
    let inputs: Vec<Value> = requests.iter().map(input).collect();
    let decide = move |at: usize| {
        let answer = compiled.eval_with_input(inputs[at].clone());
        answer.expect("an answer") == Value::Bool(true)
    };
    Ok(Ready {
        took,
        decide: Box::new(decide),
    })
}

fn said(error: &dyn std::fmt::Display) -> String {
    let error = error.to_string();
    error.trim().lines().last().unwrap_or_default().to_owned()
}

fn compiled(model: &Model) -> Result<(CompiledPolicy, Value), String> {
    let networks = |set: &Vec<_>| {
        set.iter()
            .map(|net| format!("{net}/24"))
            .collect::<Vec<String>>()
    };
    let sets: Vec<Vec<String>> = model.sets.iter().map(networks).collect();
    let data = serde_json::json!({ "sets": sets }).to_string();
    let data = Value::from_json_str(&data).map_err(|error| said(&error))?;
    let mut engine = Engine::new();
    engine
        .add_policy("gate.rego".to_owned(), HEAD.to_owned())
        .map_err(|error| said(&error))?;
    // Files of a size that the parser accepts, all of one package.
    for (number, rules) in model.rules.chunks(500).enumerate() {
        engine
            .add_policy(format!("{number}.rego"), file(rules))
            .map_err(|error| said(&error))?;
    }
    engine
        .add_data(data.clone())
        .map_err(|error| said(&error))?;
    let compiled = engine
        .compile_with_entrypoint(&ENTRY.into())
        .map_err(|error| said(&error))?;
    Ok((compiled, data))
}

fn input(request: &Request) -> Value {
    let user = request.caller.as_ref().map(|(user, _)| user.as_str());
    let roles: Vec<&str> = request
        .caller
        .iter()
        .flat_map(|(_, role)| model::widened(role))
        .collect();
    let input = serde_json::json!({
        "host": request.host,
        "path": request.path,
        "method": request.method,
        "ip": request.client.to_string(),
        "country": request.country,
        "asn": request.asn,
        "user": user,
        "roles": roles,
    });
    Value::from_json_str(&input.to_string()).expect("an input")
}

fn file(rules: &[Rule]) -> String {
    let mut text = String::from("package gate\n\nimport rego.v1\n");
    for rule in rules {
        let mut body = Vec::new();
        if let Scope::Site(site) | Scope::Route(site, _) = rule.scope {
            body.push(format!("input.host == {:?}", model::host(site)));
        }
        if let Scope::Route(_, route) = rule.scope {
            body.push(format!("startswith(input.path, {:?})", model::route(route)));
        }
        body.extend(rule.tests.iter().map(expression));
        body.extend(
            rule.unless
                .iter()
                .map(|test| format!("not {}", expression(test))),
        );
        let name = match rule.effect {
            Effect::Deny => "denied",
            Effect::Allow => "granted",
        };
        write!(text, "\n{name} if {{\n\t{}\n}}\n", body.join("\n\t")).expect("memory");
    }
    text
}

fn expression(test: &Test) -> String {
    match test {
        Test::Set(set) => format!("within({set})"),
        Test::Country([one, other]) => format!("input.country in {{{one:?}, {other:?}}}"),
        Test::Asn([one, other]) => format!("input.asn in {{{one}, {other}}}"),
        Test::Method([one, other]) => format!("input.method in {{{one:?}, {other:?}}}"),
        Test::Role(role) => format!("{role:?} in input.roles"),
        Test::User(user) => format!("input.user == \"user{user}\""),
        Test::Section(route, section) => {
            format!(
                "startswith(input.path, \"{}section{section}/\")",
                model::route(*route)
            )
        }
    }
}

const ENTRY: &str = "data.gate.allow";

const HEAD: &str = r#"package gate

import rego.v1

default allow := false

allow if {
	granted
	not denied
}

within(set) if {
	some network in data.sets[set]
	net.cidr_contains(network, input.ip)
}
"#;
