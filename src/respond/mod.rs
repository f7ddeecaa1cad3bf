//! The answers that we write ourselves: refusals, failures, preflights.
//!
//! Decides what a client *sees*: form (HTML, plain text, JSON by `Accept`; gRPC to gRPC), page, language, words and header fields. It does not
//! decide what a client *gets*: that is policy's; nor does it log. What goes in is public already: a public reason, a message
//! that an operator wrote for clients, a request id. No rule name, path, role or address reaches this room, so none can leak.
//!
//! - [`answer`] writes any refusal; [`failure`] turns a failure into one; [`intercepts`] says whether an upstream's own
//!   refusal is replaced by ours.
//! - [`preflight`], [`cors_headers`] and [`announced`] are `[site.cors]`.
//! - [`coding`] chooses the content coding that a client takes.
//! - [`reasons`] is the documented set of public reason codes.
//!
//! A 404 that hides must look like any other 404, so the default reason of a deny is shown as `no_route` there.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    HeaderMap, HeaderName, HeaderValue, LINK, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Response, StatusCode};
use jiff::Timestamp;

use crate::snapshot::notice::{Cors, Denial, Pages, Shape};
use crate::value::reason::Reason;

mod accept;
mod cors;
mod encoding;
pub mod failure;
mod grpc;
mod html;
mod intercept;
mod json;
mod language;
pub mod reasons;
mod weighted;

pub use cors::{announced, cors_headers, preflight};
pub use encoding::{Coding, coding};
pub use intercept::{intercepts, keep_upstream_headers};

use accept::Form;
use reasons::Words;

/// What is said.
#[derive(Debug, Clone, Copy)]
pub struct Notice<'a> {
    /// The status, 400 to 599.
    pub status: StatusCode,
    /// The public reason.
    pub reason: &'a Reason,
    /// A text for people; absent: the default of the reason, or of the status.
    pub message: Option<&'a str>,
    /// The rule's own page, by its name in the snapshot's pages.
    pub page: Option<&'a str>,
    /// 451: who asked for the block (RFC 7725 §4).
    pub link: Option<&'a str>,
    /// Where a better plan is sold.
    pub upgrade_url: Option<&'a str>,
    /// `WWW-Authenticate`: a 401 must have one (RFC 9110 §15.5.2).
    pub challenges: &'a [HeaderValue],
    /// When to come back; rounded up to whole seconds.
    pub retry_after: Option<Duration>,
    /// 405: the methods that are served.
    pub allow: Option<&'static str>,
}

impl<'a> Notice<'a> {
    /// A notice with nothing but its status and reason.
    #[must_use]
    pub const fn new(status: StatusCode, reason: &'a Reason) -> Self {
        Self {
            status,
            reason,
            message: None,
            page: None,
            link: None,
            upgrade_url: None,
            challenges: &[],
            retry_after: None,
            allow: None,
        }
    }
}

/// To whom it is said, and with whose settings.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The method of the request: HEAD gets no body.
    pub method: &'a Method,
    /// The header fields of the request; only `Accept`, `Accept-Language`, `Content-Type`, `Sec-Fetch-Mode` and `Origin` are read, and only
    /// `Origin` is ever sent back, where it is one that the configuration names.
    pub headers: &'a HeaderMap,
    /// A site of programs: never HTML.
    pub api: bool,
    /// The settings of the route, the site or the whole.
    pub denial: &'a Denial,
    /// The snapshot's pages.
    pub pages: &'a Pages,
    /// `default_language`: of pages without a language in their name, and what to show to clients without a wish.
    pub default_language: Option<&'a str>,
    /// `[site.cors]`.
    pub cors: Option<&'a Cors>,
    /// The request's id.
    pub request_id: &'a str,
    /// The time of the request.
    pub now: Timestamp,
}

/// Writes the answer: head complete, `Content-Length` exact, body empty for HEAD. `Date` and the connection are the server's.
#[must_use]
pub fn answer(notice: &Notice<'_>, asker: &Asker<'_>) -> Response<Bytes> {
    let reason = public(notice.status, notice.reason);
    let mut head = HeaderMap::with_capacity(12);
    let body = match accept::form(asker.headers, asker.api) {
        Form::Grpc => {
            let message = Words::message(notice, reason);
            grpc::write(notice.status, message, &mut head);
            if let Some(media) = grpc::media(asker.headers) {
                head.insert(CONTENT_TYPE, media);
            }
            Bytes::new()
        }
        Form::Html => match html::page(notice, reason, asker) {
            Some(page) => {
                head.insert(CONTENT_TYPE, HTML);
                if let Some(policy) = page.security {
                    head.insert(CONTENT_SECURITY_POLICY, policy);
                }
                if let Some(language) = page.language {
                    head.insert(CONTENT_LANGUAGE, language);
                }
                page.body
            }
            None => plain(notice, reason, asker, &mut head),
        },
        Form::Plain => plain(notice, reason, asker, &mut head),
        Form::Json => {
            let media = match asker.denial.shape {
                Shape::Flat | Shape::Nested | Shape::Node => JSON,
                Shape::Problem => PROBLEM,
            };
            head.insert(CONTENT_TYPE, media);
            let message = Words::message(notice, reason);
            json::body(notice, reason.as_str(), message, asker)
        }
    };
    head.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    head.insert(CACHE_CONTROL, NO_STORE);
    head.insert(VARY, vary(asker));
    head.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    if let Ok(id) = HeaderValue::from_str(asker.request_id) {
        head.insert(X_REQUEST_ID, id);
    }
    for challenge in notice.challenges {
        head.append(WWW_AUTHENTICATE, challenge.clone());
    }
    if let Some(wait) = notice.retry_after {
        head.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    if let Some(link) = notice.link.and_then(blocked_by) {
        head.insert(LINK, link);
    }
    if let Some(allow) = notice.allow {
        head.insert(ALLOW, HeaderValue::from_static(allow));
    }
    cors_headers(asker.cors, asker.headers, &mut head);

    let body = if asker.method == Method::HEAD {
        Bytes::new()
    } else {
        body
    };
    let mut response = Response::new(body);
    *response.status_mut() = notice.status;
    *response.headers_mut() = head;
    response
}

/// Whether a client prefers a page: by its `Accept`, and by how a browser says that it asks.
#[must_use]
pub fn asks_for_page(headers: &HeaderMap) -> bool {
    accept::form(headers, false) == Form::Html
}

/// The reason and the text that a client is shown, in whatever form.
#[must_use]
pub fn words<'n>(notice: &'n Notice<'_>) -> (&'n Reason, &'n str) {
    let reason = public(notice.status, notice.reason);
    (reason, Words::message(notice, reason))
}

fn plain(notice: &Notice<'_>, reason: &Reason, asker: &Asker<'_>, head: &mut HeaderMap) -> Bytes {
    head.insert(CONTENT_TYPE, PLAIN);
    html::plain(notice, reason, asker)
}

/// The reason as shown: the default reason of a deny would tell a hidden path from a missing one.
fn public(status: StatusCode, reason: &Reason) -> &Reason {
    static NO_ROUTE: Reason = Reason::NO_ROUTE;
    static GONE: Reason = Reason::GONE;
    if *reason != Reason::FORBIDDEN {
        reason
    } else if status == StatusCode::NOT_FOUND {
        &NO_ROUTE
    } else if status == StatusCode::GONE {
        &GONE
    } else {
        reason
    }
}

/// What the answer depends on. A site of programs never looks at languages or at how a browser asks.
fn vary(asker: &Asker<'_>) -> HeaderValue {
    HeaderValue::from_static(match (asker.api, cors::varies(asker.cors)) {
        (true, false) => "Accept",
        (true, true) => "Accept, Origin",
        (false, false) => "Accept, Accept-Language, Sec-Fetch-Mode",
        (false, true) => "Accept, Accept-Language, Sec-Fetch-Mode, Origin",
    })
}

/// RFC 7725 §4. A link that could end its own brackets is not sent.
fn blocked_by(link: &str) -> Option<HeaderValue> {
    if link.contains(|c: char| matches!(c, '<' | '>' | '"') || c.is_whitespace()) {
        return None;
    }
    HeaderValue::try_from(format!("<{link}>; rel=\"blocked-by\"")).ok()
}

/// At least one second: a client told to come back after 0 comes back at once.
fn whole_seconds(wait: Duration) -> u64 {
    let rest = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(rest).max(1)
}

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[cfg(test)]
mod tests;
