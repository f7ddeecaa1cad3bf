//! An explanation for machines: one JSON object, the same facts as the text.

use serde_json::{Value, json};

use super::answer::Answer;
use super::{Explained, text};
use crate::policy::Policy;
use crate::policy::explain::{Clause, Granted, Stage, Step, Walk};

/// The object, with a line feed.
pub(super) fn of(explained: &Explained, policy: &Policy) -> String {
    let asked = &explained.question.asked;
    let region = &asked.region;
    let site = explained.site.as_ref().map(|site| {
        json!({ "name": site.name, "host": site.pattern, "source": site.source.to_string() })
    });
    let route = explained.route.as_ref().map(|route| {
        json!({ "path": route.pattern, "source": route.source.to_string(), "also_matching": route.others })
    });
    let rule = explained.decision().and_then(|decision| decision.rule);
    let rule = rule.map(|id| {
        let rule = policy.rule(id);
        json!({ "name": &*rule.name, "source": rule.source.to_string() })
    });
    let walk = explained.walk.as_ref();
    let whole = json!({
        "schema": 1,
        "request": {
            "method": asked.method.as_str(),
            "scheme": asked.scheme.as_str(),
            "host": asked.host,
            "target": asked.target,
            "client": asked.client.to_string(),
            "peer": asked.peer.to_string(),
            "country": region.country.map(|country| country.to_string()),
            "asn": region.asn,
            "region_from": explained.question.region_from,
            "caller": explained.question.caller,
            "time": asked.now.to_string(),
        },
        "not_known": explained.unknown(),
        "logged": explained.question.logged.as_ref().map(|logged| json!({
            "request.id": logged.id,
            "status": logged.status,
            "decision": logged.decision,
            "rule": logged.rule,
            "generation": logged.generation,
        })),
        "site": site,
        "route": route,
        "identity_looked_at": walk.is_some_and(|walk| walk.stage != Stage::Unseen),
        "denies": walk.map(|walk| steps(&walk.denies, explained, policy)),
        "allow": walk.map(|walk| allow(walk, explained, policy)),
        "shadow": walk.map(|walk| shadows(walk, policy)),
        "candidate": explained.candidate,
        "allowed": explained.passes(),
        "verdict": text::verdict(explained, policy),
        "rule": rule,
        "answer": answer(&explained.answer),
    });
    format!("{whole:#}\n")
}

fn allow(walk: &Walk, explained: &Explained, policy: &Policy) -> Value {
    match &walk.grant {
        Granted::NoRoute => Value::Null,
        Granted::Anyone => Value::from("anyone"),
        Granted::Rules(allows) => steps(allows, explained, policy),
    }
}

fn shadows(walk: &Walk, policy: &Policy) -> Value {
    let all = walk.shadows.iter().map(|watched| {
        let rule = policy.rule(watched.step.rule);
        let mut value = clause(&watched.step.clause);
        if let Some(object) = value.as_object_mut() {
            object.insert("rule".into(), Value::from(&*rule.name));
            object.insert("source".into(), Value::from(rule.source.to_string()));
            object.insert("scope".into(), Value::from(watched.step.scope.as_str()));
            let would = watched.would.map(|kind| kind.as_str());
            object.insert("would".into(), Value::from(would));
        }
        value
    });
    Value::Array(all.collect())
}

fn steps(steps: &[Step], explained: &Explained, policy: &Policy) -> Value {
    let decided = explained.decision().and_then(|decision| decision.rule);
    let steps = steps.iter().map(|step| {
        let rule = policy.rule(step.rule);
        let mut value = clause(&step.clause);
        if let Some(object) = value.as_object_mut() {
            object.insert("rule".into(), Value::from(&*rule.name));
            object.insert("source".into(), Value::from(rule.source.to_string()));
            object.insert("scope".into(), Value::from(step.scope.as_str()));
            object.insert("decided".into(), Value::from(decided == Some(step.rule)));
        }
        value
    });
    Value::Array(steps.collect())
}

fn clause(clause: &Clause) -> Value {
    let keys = clause.keys.iter().map(|key| {
        json!({
            "fact": key.fact,
            "words": &*key.words,
            "outcome": key.outcome.as_str(),
            "because": key.because,
        })
    });
    let keys: Vec<Value> = keys.collect();
    let unless: Vec<Value> = clause.unless.iter().map(self::clause).collect();
    let mut value = json!({ "outcome": clause.outcome.as_str(), "keys": keys, "unless": unless });
    if let (Some((end, outcome)), Some(object)) = (clause.until, value.as_object_mut()) {
        let until = json!({ "ends": end.to_string(), "outcome": outcome.as_str() });
        object.insert("until".into(), until);
    }
    value
}

fn answer(answer: &Answer) -> Value {
    match answer {
        Answer::Upstream(name) => json!({ "by": "upstream", "upstream": name }),
        Answer::Redirect(status, to) => json!({ "by": "policy", "status": status, "location": to }),
        Answer::Fixed(status) => json!({ "by": "policy", "status": status }),
        Answer::Closed => json!({ "by": "policy", "closed": true }),
        Answer::Refused {
            response,
            reason,
            message,
        } => {
            let headers = response.headers().iter();
            let headers: Vec<Value> = headers
                .map(|(name, value)| {
                    json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])
                })
                .collect();
            json!({
                "by": "policy",
                "status": response.status().as_u16(),
                "reason": reason,
                "message": message,
                "headers": headers,
                "body": String::from_utf8_lossy(response.body()),
            })
        }
    }
}
