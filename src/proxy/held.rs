//! The answer to a client whose network has guessed too often ([`crate::identity::failures`]).

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::observe::record::{AnsweredBy, Decided, Record, Rule};
use crate::respond::{self, Asker, Notice};
use crate::snapshot::Site;
use crate::value::reason::Reason;

/// What the record says: the table of the configuration takes the place of a rule.
pub(super) fn record(site: Option<&Site>, record: &mut Record) {
    record.decision = Some(Decided::Limit);
    record.reason = Some(Reason::RATE_LIMITED);
    record.rule = site
        .and_then(|site| site.brute_force.as_ref())
        .map(|guard| Rule {
            name: RULE.into(),
            source: guard.source.clone(),
        });
    record.auth_error = Some("held".into());
    record.answered_by = AnsweredBy::Policy;
}

/// 429, and when to come back. Whether the credential was a good one is not said.
pub(super) fn answer(wait: Duration, asker: &Asker<'_>) -> Response<Bytes> {
    let reason = Reason::RATE_LIMITED;
    let notice = Notice {
        retry_after: Some(wait),
        ..Notice::new(StatusCode::TOO_MANY_REQUESTS, &reason)
    };
    respond::answer(&notice, asker)
}

/// The name in logs and metrics.
const RULE: &str = "brute_force";
