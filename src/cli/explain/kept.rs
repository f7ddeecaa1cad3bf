//! `explain ID`: what a running instance keeps of a request that it has judged.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::{ExplainArgs, Format};
use crate::admin::client;
use crate::cli::status::{refused, unreachable};

/// Asks the instance and prints its answer.
pub(super) fn run(args: &ExplainArgs, id: &str) -> ExitCode {
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if id.is_empty() || !id.bytes().all(sane) {
        super::super::tell(&format!("portcullis: `{id}` is no id of a request"));
        return ExitCode::from(super::super::USAGE);
    }
    let place = client::usual(args.admin.as_deref());
    let told = match client::ask(&place, "GET", &format!("/explain/{id}")) {
        Ok(reply) if reply.status == 200 => reply.body,
        Ok(reply) => return refused(&place, &reply),
        Err(error) => return unreachable(&place, &error),
    };
    let printed = super::super::print(&match args.format {
        Format::Text => text(&told),
        Format::Json => format!("{told:#}\n"),
    });
    if told.pointer("/decision/verdict") == Some(&Value::from("allow")) {
        printed
    } else {
        ExitCode::from(super::super::ANSWER_NO)
    }
}

fn text(told: &Value) -> String {
    let word = |pointer: &str| match told.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let mut lines = vec![
        format!(
            "{} {}://{}{}",
            word("/request/method"),
            word("/request/scheme"),
            word("/request/host"),
            word("/request/path"),
        ),
        format!(
            "  at {} from {} {}",
            word("/request/started"),
            word("/request/client"),
            word("/region/country"),
        ),
    ];
    match &*word("/identity/user") {
        "" => {
            let error = word("/identity/error");
            if !error.is_empty() {
                lines.push(format!("  a credential that did not count: {error}"));
            }
        }
        user => lines.push(format!(
            "  {user} by {}, roles {}",
            word("/identity/source"),
            word("/identity/roles")
        )),
    }
    lines.push(format!(
        "{} {} {} {}",
        word("/decision/verdict"),
        word("/decision/status"),
        word("/decision/reason"),
        word("/decision/error"),
    ));
    if told.pointer("/decision/rule/name").is_some() {
        lines.push(format!(
            "  by {} ({})",
            word("/decision/rule/name"),
            word("/decision/rule/source")
        ));
    }
    for shadow in told
        .pointer("/shadow")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let word = |key| shadow.get(key).and_then(Value::as_str).unwrap_or_default();
        lines.push(format!(
            "  shadow {} would {}",
            word("rule"),
            would(word("decision"))
        ));
    }
    if told.pointer("/candidate/decision").is_some() {
        let mut parts = vec![
            would(&word("/candidate/decision")).to_owned(),
            word("/candidate/status"),
            word("/candidate/reason"),
        ];
        let rule = word("/candidate/rule/name");
        if !rule.is_empty() {
            parts.push(format!("by {rule}"));
        }
        if told.pointer("/candidate/differs") == Some(&Value::from(false)) {
            parts.push("(the same)".to_owned());
        }
        parts.retain(|part| !part.is_empty());
        lines.push(format!("  candidate would {}", parts.join(" ")));
    }
    lines.push(format!(
        "  site {}, route {}, generation {}",
        word("/site"),
        word("/route"),
        word("/config/generation")
    ));
    for (kind, pointer) in [("deny", "/walk/denies"), ("allow", "/walk/allow")] {
        match told.pointer(pointer) {
            Some(Value::Array(steps)) => steps.iter().for_each(|step| rule(kind, step, &mut lines)),
            Some(Value::String(anyone)) => lines.push(format!("{kind} {anyone}")),
            Some(_) | None => {}
        }
    }
    if told.get("walk").is_none() {
        lines.push("the rules that judged it are not kept any more, or none was asked".to_owned());
    }
    if told.pointer("/walk/same_decision") == Some(&Value::from(false)) {
        lines.push(
            "asked again, they come to another end: some rule reads what is not kept".to_owned(),
        );
    }
    lines.iter().fold(String::new(), |mut text, line| {
        // Writing to a string cannot fail.
        let _never = writeln!(text, "{}", line.trim_end());
        text
    })
}

/// The kind of an answer as a verb.
pub(super) fn would(decision: &str) -> &str {
    match decision {
        "challenge" => "ask to sign in",
        "error" => "fail",
        verb => verb,
    }
}

fn rule(kind: &str, step: &Value, lines: &mut Vec<String>) {
    let word = |key| step.get(key).and_then(Value::as_str).unwrap_or_default();
    let mark = match step.get("decided") {
        Some(Value::Bool(true)) => "  <- decided",
        Some(_) | None => "",
    };
    lines.push(format!(
        "{kind} {} ({}): {}{mark}",
        word("rule"),
        word("source"),
        word("outcome")
    ));
    clause("    ", step, lines);
}

fn clause(indent: &str, clause: &Value, lines: &mut Vec<String>) {
    let list = |key| {
        clause
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    for key in list("keys") {
        let word = |name| key.get(name).and_then(Value::as_str).unwrap_or_default();
        lines.push(format!(
            "{indent}{}: {}; {}",
            word("words"),
            word("outcome"),
            word("because")
        ));
    }
    for excepted in list("unless") {
        let outcome = excepted.get("outcome").and_then(Value::as_str);
        lines.push(format!("{indent}unless: {}", outcome.unwrap_or_default()));
        self::clause(&format!("{indent}    "), excepted, lines);
    }
}
