//! Answers that we write for a request: failures, redirects, fixed answers, pages in an upstream's place.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};

use super::again::Gone;
use super::enforce::{Case, Told};
use super::exchange::Exchange;
use super::service::{route_of, site_of};
use crate::observe::record::{AnsweredBy, Record};
use crate::respond::{self, Asker, Notice};
use crate::snapshot::headers::HeaderEdits;
use crate::snapshot::{Part, Route, Site, Snapshot, Template};
use crate::value::failure::Failure;
use crate::value::reason::Reason;

/// Where an answer without an upstream comes from.
pub(super) type Early = Result<Response<Bytes>, Failure>;

pub(super) fn asker<'r>(
    snapshot: &'r Snapshot,
    site: Option<&'r Site>,
    route: Option<&'r Route>,
    parts: &'r Parts,
    record: &'r Record,
) -> Asker<'r> {
    asker_of(snapshot, site, route, &parts.method, &parts.headers, record)
}

pub(super) fn asker_of<'r>(
    snapshot: &'r Snapshot,
    site: Option<&'r Site>,
    route: Option<&'r Route>,
    method: &'r Method,
    headers: &'r HeaderMap,
    record: &'r Record,
) -> Asker<'r> {
    let denial = route
        .and_then(|route| route.denial.as_ref())
        .or_else(|| site.map(|site| &site.denial));
    Asker {
        method,
        headers,
        api: site.is_some_and(|site| site.api),
        denial: denial.unwrap_or(&snapshot.denial),
        pages: &snapshot.pages,
        default_language: snapshot.default_language.as_deref(),
        cors: site.and_then(|site| site.cors.as_ref()),
        request_id: record.request_id.to_str().unwrap_or_default(),
        now: record.started,
    }
}

pub(super) fn fail(
    failure: Failure,
    snapshot: &Snapshot,
    owner: Option<(&Site, &Route)>,
    parts: &Parts,
    exchange: &mut Exchange,
) -> Response<Bytes> {
    answer_failure(
        failure,
        snapshot,
        owner,
        &parts.method,
        &parts.headers,
        exchange,
    )
}

pub(super) fn answer_failure(
    failure: Failure,
    snapshot: &Snapshot,
    owner: Option<(&Site, &Route)>,
    method: &Method,
    headers: &HeaderMap,
    exchange: &mut Exchange,
) -> Response<Bytes> {
    let answer = respond::failure::classify(failure);
    let record = &mut exchange.record;
    record.answered_by = AnsweredBy::Proxy;
    record.error = Some(answer.code);
    record.reason = Some(answer.reason.clone());
    let notice = answer.notice();
    let asker = asker_of(
        snapshot,
        owner.map(|owner| owner.0),
        owner.map(|owner| owner.1),
        method,
        headers,
        record,
    );
    let mut response = respond::answer(&notice, &asker);
    if answer.connection == respond::failure::Connection::Close {
        response
            .headers_mut()
            .insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What a later answer of ours needs of a request head that has gone upstream.
pub(super) struct Asking {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
}

impl Asking {
    pub(super) fn of(parts: &Parts) -> Self {
        let mut headers = HeaderMap::new();
        for name in ASKED {
            for value in parts.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        Self {
            method: parts.method.clone(),
            headers,
        }
    }

    pub(super) fn fail(
        &self,
        failure: Failure,
        snapshot: &Snapshot,
        owner: Option<(&Site, &Route)>,
        exchange: &mut Exchange,
    ) -> Response<Bytes> {
        answer_failure(
            failure,
            snapshot,
            owner,
            &self.method,
            &self.headers,
            exchange,
        )
    }

    /// The answer to a request whose right went while it waited for the upstream.
    pub(super) fn gone(&self, gone: Gone, exchange: &mut Exchange) -> Response<Bytes> {
        exchange.cut(&gone);
        let Gone {
            lease,
            place,
            decision,
            challenges,
            ..
        } = gone;
        let verdict = decision.map(|decision| decision.verdict);
        let told = verdict.and_then(|verdict| Told::of(verdict, challenges, &lease.policy));
        let record = &mut exchange.record;
        record.answered_by = AnsweredBy::Policy;
        let (status, reason) = (StatusCode::FORBIDDEN, Reason::FORBIDDEN);
        let notice = match &told {
            Some(told) => told.notice(),
            None => Notice::new(status, &reason),
        };
        record.reason = Some(notice.reason.clone());
        let asker = asker_of(
            &lease,
            site_of(&lease, place),
            route_of(&lease, place),
            &self.method,
            &self.headers,
            record,
        );
        let mut response = respond::answer(&notice, &asker);
        // The rest of the request, if there is one, is not wanted.
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }

    pub(super) fn intercept(
        &self,
        status: StatusCode,
        theirs: &HeaderMap,
        snapshot: &Snapshot,
        site: &Site,
        route: &Route,
        exchange: &Exchange,
    ) -> Response<Bytes> {
        let reason = respond::reasons::of_status(status);
        let asker = asker_of(
            snapshot,
            Some(site),
            Some(route),
            &self.method,
            &self.headers,
            &exchange.record,
        );
        let mut response = respond::answer(&Notice::new(status, &reason), &asker);
        respond::keep_upstream_headers(theirs, response.headers_mut());
        response
    }
}

pub(super) fn redirect(status: StatusCode, location: &str) -> Early {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    let value = HeaderValue::from_str(location)
        .ok()
        .ok_or(Failure::Malformed("redirect"))?;
    response.headers_mut().insert(LOCATION, value);
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    Ok(response)
}

pub(super) fn fixed(
    status: StatusCode,
    kind: Option<&HeaderValue>,
    body: &Bytes,
    method: &Method,
) -> Response<Bytes> {
    let head = *method == Method::HEAD;
    let mut response = Response::new(if head { Bytes::new() } else { body.clone() });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, kind.clone());
    }
    response
}

/// A template with this request's words.
pub(super) fn fill(template: &Template, case: &Case<'_>, route: Option<&Route>) -> String {
    let path = case.target.path();
    let mut text = String::with_capacity(128);
    for part in &template.0 {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Scheme => text.push_str(case.scheme.as_str()),
            Part::Host => text.push_str(case.shown_host),
            Part::Client => text.push_str(&case.client.to_string()),
            Part::Path => text.push_str(path),
            Part::Query => {
                if let Some(query) = case.target.query() {
                    text.push('?');
                    text.push_str(query);
                }
            }
            Part::Tail => {
                text.push_str(route.map_or("", |route| tail(path, &route.pattern)));
            }
        }
    }
    text
}

/// The values of edits with this request's words. One that makes no header value is left out: the client sent none that does.
pub(super) fn fill_edits(
    edits: &HeaderEdits,
    case: &Case<'_>,
    route: Option<&Route>,
) -> Vec<Option<HeaderValue>> {
    let texts = edits
        .templates()
        .map(|template| fill(template, case, route));
    texts.map(|text| HeaderValue::try_from(text).ok()).collect()
}

/// What the first `*` or the final `**` of the pattern took of the raw path.
pub(super) fn tail<'p>(path: &'p str, pattern: &str) -> &'p str {
    let literal = pattern
        .split('/')
        .take_while(|segment| !segment.starts_with('*'))
        .count();
    let mut at = 0;
    for _ in 0..literal {
        let rest = path.get(at..).unwrap_or_default();
        let Some(next) = rest.find('/') else {
            return "";
        };
        at += next + 1;
    }
    path.get(at..).unwrap_or_default()
}

/// The fields that choose the form of an answer of ours.
const ASKED: [HeaderName; 5] = [
    http::header::ACCEPT,
    http::header::CONTENT_TYPE,
    http::header::ACCEPT_LANGUAGE,
    http::header::ORIGIN,
    HeaderName::from_static("sec-fetch-mode"),
];
