//! What the client would see, written by the same room that answers real requests.

use bytes::Bytes;
use http::Response;

use super::{Bench, Question};
use crate::config::compile::tests;
use crate::policy::Place;
use crate::policy::simulate::Outcome;
use crate::proxy::enforce::Told;
use crate::respond::{self, Asker, Notice};
use crate::snapshot;
use crate::value::failure::Failure;

/// What the client gets.
#[derive(Debug)]
pub(super) enum Answer {
    /// The answer of the application behind this upstream.
    Upstream(String),
    /// A redirect of the route.
    Redirect(u16, String),
    /// The route's own answer.
    Fixed(u16),
    /// Nothing: the connection is closed.
    Closed,
    /// A refusal, with the public reason and the text that it carries.
    Refused {
        /// As it would be sent.
        response: Box<Response<Bytes>>,
        /// The public reason.
        reason: String,
        /// The text for people.
        message: String,
    },
}

/// What the client of a judged request gets.
pub(super) fn of(bench: &Bench<'_>, question: &Question, outcome: Outcome, place: Place) -> Answer {
    let failure = match outcome {
        Outcome::Malformed(error) => Failure::Malformed(error.code()),
        Outcome::Ambiguous => Failure::AmbiguousPath,
        Outcome::Judged { verified: true, .. } if question.conflict => {
            Failure::Malformed("two-credentials")
        }
        Outcome::Judged { decision, .. } => {
            let policy = &bench.snapshot.policy;
            return match Told::of(decision.verdict, question.challenges.clone(), policy) {
                Some(told) if told.closes() => Answer::Closed,
                Some(told) => refused(bench, question, place, &told.notice()),
                None => passed(bench, question, place),
            };
        }
    };
    let answer = respond::failure::classify(failure);
    refused(bench, question, Place::default(), &answer.notice())
}

fn passed(bench: &Bench<'_>, question: &Question, place: Place) -> Answer {
    let route = route(bench, place);
    let (status, location) = tests::answer(bench.root, place, &question.asked);
    match route.map(|route| &route.answer) {
        Some(snapshot::Answer::Upstream(upstream)) => Answer::Upstream(upstream.name.to_string()),
        Some(snapshot::Answer::Redirect { .. }) => {
            Answer::Redirect(status, location.unwrap_or_default())
        }
        Some(snapshot::Answer::Fixed { .. }) | None => Answer::Fixed(status),
    }
}

fn refused(bench: &Bench<'_>, question: &Question, place: Place, notice: &Notice<'_>) -> Answer {
    let snapshot = bench.snapshot;
    let site = bench.site(place);
    let denial = route(bench, place)
        .and_then(|route| route.denial.as_ref())
        .or_else(|| site.map(|site| &site.denial));
    let asker = Asker {
        method: &question.asked.method,
        headers: &question.asked.headers,
        api: site.is_some_and(|site| site.api),
        denial: denial.unwrap_or(&snapshot.denial),
        pages: &snapshot.pages,
        default_language: snapshot.default_language.as_deref(),
        cors: site.and_then(|site| site.cors.as_ref()),
        request_id: "explain",
        now: question.asked.now,
    };
    let (reason, message) = respond::words(notice);
    Answer::Refused {
        response: Box::new(respond::answer(notice, &asker)),
        reason: reason.to_string(),
        message: message.to_owned(),
    }
}

fn route<'l>(bench: &Bench<'l>, place: Place) -> Option<&'l snapshot::Route> {
    let number = usize::try_from(place.route?.0).ok()?;
    bench.site(place)?.routes.get(number)
}
