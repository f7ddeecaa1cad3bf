//! `[site.route.step_up]`: a condition on how and when somebody signed in.
//!
//! It becomes the last deny of its route, which spares whoever meets it: so every judgement of rules holds for it, too. Its
//! refusal asks for another sign-in.
//!
//! Codes: `empty-condition`, `invalid-value`, `nobody-signs-in`.

use std::sync::Arc;
use std::time::Duration;

use super::duration;
use crate::config::node::{Node, Table};
use crate::config::{Context, Diagnostic};
use crate::policy::claim::{ClaimTest, Scalar, Wanted};
use crate::policy::condition::{Condition, Matcher, Test};
use crate::policy::decision::StepUp;
use crate::policy::{Refusal, RefusalStatus};
use crate::value::reason::Reason;

/// Reads the table: when the deny matches, and what it says.
pub(super) fn compile(
    root: &Table,
    site: &Table,
    table: &Table,
    cx: &mut Context,
) -> (Condition, Refusal) {
    let mut acr: Vec<Box<str>> = Vec::new();
    for node in table.many("acr") {
        let Some(text) = node.as_str() else { continue };
        if text.is_empty() || !text.bytes().all(|byte| PLAIN.contains(&byte)) {
            let shown = cx.written(node.span, text);
            let message = format!("`{shown}` is no authentication context");
            cx.say(
                Diagnostic::error("invalid-value", node.span, message)
                    .help("it is one word, such as `mfa` or `urn:example:silver`"),
            );
        } else if text.contains(['"', '\\']) {
            let message = "an authentication context has no quotes and no backslashes";
            cx.error("invalid-value", node.span, message);
        } else {
            acr.push(text.into());
        }
    }
    let max_age = duration(table, "max_age").map(|age| Duration::from_secs(age.as_secs().max(1)));
    if table
        .get("acr")
        .is_none_or(|node| node.many().next().is_none())
        && max_age.is_none()
    {
        let message = "this `step_up` asks for nothing";
        let finding = Diagnostic::error("empty-condition", table.span, message);
        cx.say(finding.help("write `acr = [\"mfa\"]`, `max_age = \"5min\"`, or both"));
    }
    somebody_can(root, site, table, cx);
    let mut tests = Vec::new();
    if !acr.is_empty() {
        let wanted = acr.iter().map(|text| Scalar::Text(text.clone()));
        tests.push(Test {
            words: words(table, "acr"),
            matcher: Matcher::Claim(ClaimTest {
                path: Arc::from("acr"),
                want: Wanted::AnyOf(wanted.collect()),
            }),
        });
    }
    tests.extend(max_age.map(|age| Test {
        words: words(table, "max_age"),
        matcher: Matcher::Fresh(age),
    }));
    let met = Condition {
        tests: tests.into(),
        ..Condition::default()
    };
    let condition = Condition {
        unless: [met].into(),
        ..Condition::default()
    };
    let refusal = Refusal {
        status: RefusalStatus::StepUp,
        reason: Reason::STEP_UP,
        step_up: Some(Arc::new(StepUp {
            acr: acr.into(),
            max_age,
        })),
        ..Refusal::default()
    };
    (condition, refusal)
}

/// What says how somebody signed in are claims, which not every source has.
fn somebody_can(root: &Table, site: &Table, table: &Table, cx: &mut Context) {
    let sources = root.table("identity");
    let told = |node: &Node| {
        let source = node.as_str().and_then(|name| sources?.table(name));
        source.is_none_or(|source| WITH_CLAIMS.iter().any(|kind| source.get(kind).is_some()))
    };
    if site.many("identity").any(told) {
        return;
    }
    let message = "no source of this site tells how or when somebody signed in, so nobody passes";
    cx.say(
        Diagnostic::error("nobody-signs-in", table.span, message).help(
            "the claims `acr` and `auth_time` of a token do: name a `jwt` source in `identity`",
        ),
    );
}

fn words(table: &Table, key: &str) -> Arc<str> {
    let values: Vec<String> = table
        .many(key)
        .filter_map(Node::as_str)
        .map(|text| format!("\"{text}\""))
        .collect();
    match values.as_slice() {
        [one] => Arc::from(format!("step_up.{key} = {one}")),
        many => Arc::from(format!("step_up.{key} = [{}]", many.join(", "))),
    }
}

/// Sources whose principals can have claims.
const WITH_CLAIMS: [&str; 4] = ["jwt", "oidc", "api_key", "forward_auth"];
/// Visible ASCII: the values are sent in a list separated by spaces.
const PLAIN: std::ops::RangeInclusive<u8> = b'!'..=b'~';

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;
    use crate::config::compile::rules;
    use crate::config::node::{self, FileId};
    use crate::value::region::GeoFacts;

    #[test]
    fn what_nobody_could_meet_is_refused_at_load() {
        for (kind, step_up, want, why) in [
            ("jwt", "acr = \"mfa\"", None, "one word"),
            (
                "jwt",
                "acr = [\"a\", \"urn:b\"], max_age = \"1h\"",
                None,
                "both",
            ),
            ("api_key", "max_age = \"1h\"", None, "a key may have claims"),
            ("jwt", "acr = []", Some("empty-condition"), "nothing"),
            ("jwt", "", Some("empty-condition"), "nothing at all"),
            ("jwt", "acr = \"a b\"", Some("invalid-value"), "two words"),
            ("jwt", "acr = \"\"", Some("invalid-value"), "no word"),
            (
                "jwt",
                "acr = \"é\"",
                Some("invalid-value"),
                "not for a header",
            ),
            ("jwt", "acr = 'a\"b'", Some("invalid-value"), "quotes"),
            ("jwt", "acr = 'a\\b'", Some("invalid-value"), "a backslash"),
            (
                "basic",
                "acr = \"mfa\"",
                Some("nobody-signs-in"),
                "a password says nothing",
            ),
            (
                "mtls",
                "acr = \"mfa\"",
                Some("nobody-signs-in"),
                "nor does a certificate",
            ),
        ] {
            let text = format!(
                "[identity.who]\n{kind} = {{}}\n[[site]]\nhost = [\"a\"]\nupstream = \"u\"\nidentity = [\"who\"]\n\
                 [[site.route]]\npath = \"/**\"\nallow = \"anyone\"\nstep_up = {{ {step_up} }}\n"
            );
            let (root, syntax) = node::parse(&text, FileId(0));
            assert!(syntax.is_empty(), "{syntax:?}");
            let mut cx = Context::default();
            rules::compile(&root, GeoFacts::ALL, &mut cx);
            let mut found = cx.report.diagnostics.iter();
            assert_eq!(found.next().map(|found| found.code), want, "{why}");
        }
    }
}
