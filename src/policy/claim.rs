//! Tests on claims and device facts: a value by its path, compared with what a rule wants.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

/// A test on one claim or device fact.
#[derive(Debug, Clone)]
pub struct ClaimTest {
    /// The path as written, such as `realm_access.roles`.
    pub path: Arc<str>,
    /// What its value must be.
    pub want: Wanted,
}

/// What a value must be. A list matches if any element does.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// One of these.
    AnyOf(Box<[Scalar]>),
    /// In this order, at this place or behind it.
    AtLeast {
        /// The values, lowest first.
        order: Arc<[Arc<str>]>,
        /// The lowest place that matches.
        from: usize,
    },
    /// A number in this range, ends included.
    Range {
        /// The lowest.
        min: Option<f64>,
        /// The highest.
        max: Option<f64>,
    },
    /// There, or not there. `null` and an empty list are not there.
    Present(Presence),
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Present,
    /// It is not.
    Absent,
}

/// A value that a rule names.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// A string.
    Text(Box<str>),
    /// A number.
    Number(f64),
    /// A boolean.
    Flag(bool),
}

impl ClaimTest {
    /// Whether the value at the path is what is wanted.
    pub(super) fn matches(&self, held: &Map<String, Value>) -> bool {
        let value = dig(held, &self.path);
        if let Wanted::Present(presence) = self.want {
            let there = value.is_some_and(|value| match value {
                Value::Null => false,
                Value::Array(items) => items.iter().any(|item| !item.is_null()),
                Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => true,
            });
            return there == (presence == Presence::Present);
        }
        match value {
            None => false,
            Some(Value::Array(items)) => items.iter().any(|item| self.want.is(item)),
            // RFC 8693 §4.2: the scopes of a token are one string, separated by spaces.
            Some(Value::String(scopes)) if *self.path == *"scope" => {
                scopes.split(' ').any(|scope| self.want.is_text(scope))
            }
            Some(value) => self.want.is(value),
        }
    }
}

impl Wanted {
    pub(crate) fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::String(text)) => self.is_text(text),
            (Self::AnyOf(wanted), Value::Bool(flag)) => wanted.contains(&Scalar::Flag(*flag)),
            (Self::AnyOf(wanted), Value::Number(number)) => number
                .as_f64()
                .is_some_and(|number| wanted.contains(&Scalar::Number(number))),
            (Self::Range { min, max }, Value::Number(number)) => {
                number.as_f64().is_some_and(|number| {
                    min.is_none_or(|min| min <= number) && max.is_none_or(|max| number <= max)
                })
            }
            (
                Self::AnyOf(_) | Self::AtLeast { .. } | Self::Range { .. } | Self::Present(_),
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Array(_)
                | Value::Object(_),
            ) => false,
        }
    }

    fn is_text(&self, text: &str) -> bool {
        match self {
            Self::AnyOf(wanted) => wanted
                .iter()
                .any(|wanted| matches!(wanted, Scalar::Text(wanted) if **wanted == *text)),
            Self::AtLeast { order, from } => order.iter().skip(*from).any(|held| **held == *text),
            Self::Range { .. } | Self::Present(_) => false,
        }
    }
}

/// Whether somebody with these claims has signed in no longer than `max_age` ago, by `auth_time` (OpenID Connect Core §2), a
/// number of seconds. One that is missing or in the future says nothing.
pub(super) fn is_fresh(held: &Map<String, Value>, max_age: Duration, now: Timestamp) -> bool {
    let test = ClaimTest {
        path: Arc::from(AUTH_TIME),
        want: fresh(max_age, now),
    };
    test.matches(held)
}

/// What `auth_time` must be at `now`.
#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 fit a double for millions of years"
)]
pub(crate) fn fresh(max_age: Duration, now: Timestamp) -> Wanted {
    let now = now.as_second() as f64;
    Wanted::Range {
        min: Some(now - max_age.as_secs_f64()),
        max: Some(now + CLOCKS_DIFFER),
    }
}

/// The value at a dotted path. A key that has the dots in its own name (as namespaced claims have) is found first.
#[must_use]
pub fn dig<'v>(held: &'v Map<String, Value>, path: &str) -> Option<&'v Value> {
    if let Some(value) = held.get(path) {
        return Some(value);
    }
    let mut ends = path.match_indices('.');
    ends.find_map(|(at, _)| {
        let (head, rest) = path.split_at_checked(at)?;
        let inner = held.get(head)?.as_object()?;
        dig(inner, rest.strip_prefix('.')?)
    })
}

/// The claim that says when somebody signed in.
pub const AUTH_TIME: &str = "auth_time";
/// Seconds by which the issuer's clock may be ahead.
const CLOCKS_DIFFER: f64 = 60.0;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_compared_with_what_is_wanted() {
        let text = |text: &str| Scalar::Text(text.into());
        let any = |wanted: Vec<Scalar>| Wanted::AnyOf(wanted.into());
        let order: Arc<[Arc<str>]> = ["free", "pro", "enterprise"].map(Arc::from).into();
        let pro = Wanted::AtLeast { order, from: 1 };
        let some = |min, max| Wanted::Range { min, max };
        let present = Wanted::Present(Presence::Present);
        let absent = Wanted::Present(Presence::Absent);
        for (path, want, held, holds, why) in [
            (
                "plan",
                any(vec![text("pro")]),
                json!({"plan": "free"}),
                false,
                "another value",
            ),
            (
                "plan",
                any(vec![text("pro")]),
                json!({"plan": "pro"}),
                true,
                "equal",
            ),
            (
                "plan",
                any(vec![text("pro")]),
                json!({}),
                false,
                "missing equals nothing",
            ),
            (
                "plan",
                any(vec![text("a"), text("pro")]),
                json!({"plan": "pro"}),
                true,
                "any of a list",
            ),
            (
                "plan",
                any(vec![text("pro")]),
                json!({"plan": ["x", "pro"]}),
                true,
                "any element",
            ),
            (
                "plan",
                any(vec![text("true")]),
                json!({"plan": true}),
                false,
                "no type is another",
            ),
            (
                "mfa",
                any(vec![Scalar::Flag(true)]),
                json!({"mfa": true}),
                true,
                "a flag",
            ),
            (
                "n",
                any(vec![Scalar::Number(3.0)]),
                json!({"n": 3}),
                true,
                "a number",
            ),
            (
                "a.b",
                any(vec![text("x")]),
                json!({"a": {"b": "x"}}),
                true,
                "a path",
            ),
            (
                "a.b",
                any(vec![text("x")]),
                json!({"a.b": "x"}),
                true,
                "a key with a dot",
            ),
            (
                "https://x.io/a.b",
                any(vec![text("x")]),
                json!({"https://x.io/a": {"b": "x"}}),
                true,
                "both",
            ),
            (
                "a.b",
                any(vec![text("x")]),
                json!({"a": "b"}),
                false,
                "no object",
            ),
            (
                "scope",
                any(vec![text("read")]),
                json!({"scope": "write read"}),
                true,
                "scopes are split",
            ),
            (
                "scope",
                any(vec![text("write read")]),
                json!({"scope": "write read"}),
                false,
                "and only split",
            ),
            (
                "other",
                any(vec![text("read")]),
                json!({"other": "write read"}),
                false,
                "others are not",
            ),
            ("plan", pro.clone(), json!({"plan": "free"}), false, "below"),
            ("plan", pro.clone(), json!({"plan": "pro"}), true, "at"),
            (
                "plan",
                pro.clone(),
                json!({"plan": "enterprise"}),
                true,
                "above",
            ),
            (
                "plan",
                pro,
                json!({"plan": "gold"}),
                false,
                "not in the order",
            ),
            (
                "n",
                some(Some(1.0), Some(9.0)),
                json!({"n": 0}),
                false,
                "below",
            ),
            (
                "n",
                some(Some(1.0), Some(9.0)),
                json!({"n": 1}),
                true,
                "the end counts",
            ),
            (
                "n",
                some(Some(1.0), Some(9.0)),
                json!({"n": 9.5}),
                false,
                "above",
            ),
            (
                "n",
                some(Some(1.0), None),
                json!({"n": "5"}),
                false,
                "text is no number",
            ),
            (
                "n",
                present.clone(),
                json!({"n": false}),
                true,
                "false is there",
            ),
            (
                "n",
                present.clone(),
                json!({"n": null}),
                false,
                "null is not",
            ),
            (
                "n",
                present.clone(),
                json!({"n": []}),
                false,
                "nor an empty list",
            ),
            ("n", present, json!({}), false, "nor nothing"),
            ("n", absent.clone(), json!({}), true, "absent"),
            ("n", absent, json!({"n": 0}), false, "there"),
        ] {
            let test = ClaimTest {
                path: Arc::from(path),
                want,
            };
            assert_eq!(
                test.matches(held.as_object().unwrap()),
                holds,
                "{path} in {held}: {why}"
            );
        }
    }
}
