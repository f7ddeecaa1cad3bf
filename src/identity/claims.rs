//! Reading claims: a value at a path, roles, dates, audiences.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Map, Value};

/// The claim at a path such as `realm_access.roles`. A claim whose own name has dots (`https://example.com/roles`) is found
/// as well: a literal name beats a split one, and an early split beats a late one.
#[must_use]
pub fn at<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    if let Some(found) = claims.get(path) {
        return Some(found);
    }
    path.match_indices('.').find_map(|(dot, _)| {
        let (name, rest) = path.split_at_checked(dot)?;
        at(claims.get(name)?.as_object()?, rest.strip_prefix('.')?)
    })
}

/// Role names at a path: an array of strings, or one string split at spaces. Anything else grants nothing.
#[must_use]
pub fn roles(claims: &Map<String, Value>, path: &str) -> Vec<Arc<str>> {
    let mut roles: Vec<Arc<str>> = match at(claims, path) {
        Some(Value::Array(items)) => items
            .iter()
            .filter_map(Value::as_str)
            .filter(|role| !role.is_empty())
            .map(Arc::from)
            .collect(),
        Some(Value::String(words)) => words.split_ascii_whitespace().map(Arc::from).collect(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
            Vec::new()
        }
    };
    let mut seen = 0;
    while let Some(role) = roles.get(seen).cloned() {
        let first = roles.iter().position(|other| *other == role);
        if first.is_some_and(|first| first < seen) {
            roles.remove(seen);
        } else {
            seen += 1;
        }
    }
    roles
}

/// Whether `aud` (RFC 7519 §4.1.3: a string or an array of strings) names one of ours.
#[must_use]
pub fn audience_matches(aud: Option<&Value>, ours: &[Box<str>]) -> bool {
    let is_ours = |name: &str| ours.iter().any(|our| **our == *name);
    match aud {
        Some(Value::String(name)) => is_ours(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(is_ours),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => false,
    }
}

/// A `NumericDate` (RFC 7519 §2) in whole seconds, rounded down; dates beyond 64 bits are the nearest that fits.
#[must_use]
pub fn numeric_date(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    if let Some(whole) = number.as_i64() {
        return Some(whole);
    }
    let seconds = number.as_f64()?;
    let beyond = if seconds > 0.0 { i64::MAX } else { i64::MIN };
    Some(SignedDuration::try_from_secs_f64(seconds.floor()).map_or(beyond, |date| date.as_secs()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use super::*;
    use serde_json::json;

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_path_finds_nested_and_dotted_names() {
        let claims = map(&json!({
            "realm_access": { "roles": ["a"] },
            "https://app.example/roles": ["b"],
            "a.b": "literal", "a": { "b": "nested" },
            "x": { "y.z": 1 },
        }));
        for (path, want) in [
            ("missing", None),
            ("realm_access.missing", None),
            ("realm_access.roles.deeper", None), // an array has no names
            ("", None),
            (".", None),
            ("realm_access.roles", Some(json!(["a"]))),
            ("https://app.example/roles", Some(json!(["b"]))), // dots in a name
            ("a.b", Some(json!("literal"))),
            ("x.y.z", Some(json!(1))),
        ] {
            assert_eq!(at(&claims, path), want.as_ref(), "{path}");
        }
    }

    #[test]
    fn roles_come_from_lists_and_words_only() {
        for (value, want) in [
            (json!(7), vec![]),
            (json!({ "admin": true }), vec![]), // an object grants nothing
            (json!(null), vec![]),
            (
                json!(["admin", 7, "", "two words"]),
                vec!["admin", "two words"],
            ),
            (json!("read  write read"), vec!["read", "write"]),
        ] {
            let got = roles(&map(&json!({ "r": value })), "r");
            let got: Vec<&str> = got.iter().map(|role| &**role).collect();
            assert_eq!(got, want, "{value}");
        }
    }

    #[test]
    fn dates_never_overflow() {
        for (value, want) in [
            (json!("1700000000"), None), // a string is no NumericDate
            (json!(1_700_000_000), Some(1_700_000_000)),
            (json!(1_700_000_000.9), Some(1_700_000_000)),
            (json!(-1.5), Some(-2)),
            (json!(u64::MAX), Some(i64::MAX)),
            (json!(1e300), Some(i64::MAX)),
            (json!(-1e300), Some(i64::MIN)),
        ] {
            assert_eq!(numeric_date(&value), want, "{value}");
        }
    }
}
