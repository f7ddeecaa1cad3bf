//! Signing in with a browser: the paths of our own beside the policy, and the redirect that stands in a 401's place.
//!
//! - [`owns`], [`reserved`]: the callback and the logout of a site's `oidc` sources. They are never judged: who comes back from a provider
//!   is nobody yet. A callback costs one look at a sealed text unless it belongs to a login that this site began.
//! - [`instead`]: a top-level navigation that would get 401 is sent to the provider. Nothing else ever is: a script, an image or
//!   a form would follow to a page that it cannot read, and lose what it sent.
//! - [`Case::renewal`]: a newer session from the provider, one question per session at a time.
//!
//! What a provider says is read by [`crate::identity::oidc`]; none of its words reaches a client or is logged as sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, LOCATION, REFERRER_POLICY,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use serde::Deserialize;

use super::enforce::{Case, Told};
use super::exchange::Exchange;
use super::own::{Early, asker};
use super::question::Place;
use crate::identity::oidc::cookies::{Channel, is_loopback};
use crate::identity::oidc::renewal::{Renewed, State, Turn, outcome};
use crate::identity::oidc::session::Session;
use crate::identity::oidc::{Arrival, Browser, Class, Oidc, Refusal, TokenRequest, Wish};
use crate::observe::record::{AnsweredBy, Decided};
use crate::policy::facts::Scheme;
use crate::respond::{self, Notice};
use crate::snapshot::{Remote, SignIn, Site};
use crate::upstream::ask::ask;
use crate::value::failure::Failure;
use crate::value::reason::Reason;

/// Whether a path is a callback or a logout.
pub(super) fn owns(site: &Site, path: &str) -> bool {
    site.identity.signs_in_browsers()
        && site
            .identity
            .browser_sources()
            .any(|(_, oidc)| *oidc.callback == *path || oidc.logout.as_deref() == Some(path))
}

/// Answers a request for a callback or a logout.
pub(super) async fn reserved(
    case: &Case<'_>,
    site: &Site,
    parts: &Parts,
    exchange: &mut Exchange,
) -> Early {
    exchange.record.answered_by = AnsweredBy::Proxy;
    let path = case.target.path();
    let mut sources = site.identity.browser_sources();
    if sources.any(|(_, oidc)| *oidc.callback == *path) {
        // Its query holds a code and a state: neither is for any log.
        exchange.record.target = PathAndQuery::try_from(path).ok();
        callback(case, site, parts, exchange).await
    } else {
        logout(case, site, path, parts, exchange)
    }
}

/// The answer in place of a 401: 302 to the provider, 503 where it is not known; none where the 401 stays.
pub(super) fn instead(
    case: &Case<'_>,
    site: Option<&Site>,
    told: &Told<'_>,
    parts: &Parts,
    exchange: &mut Exchange,
) -> Option<Early> {
    let site = site.filter(|site| site.identity.signs_in_browsers() && !site.api)?;
    if told.status != StatusCode::UNAUTHORIZED || !is_navigation(parts) {
        return None;
    }
    let mut sources = site.identity.browser_sources();
    let (name, oidc, step_up) = match &exchange.record.principal {
        None => sources.next().map(|(name, oidc)| (name, oidc, None))?,
        // Known, and not well enough: by the same source once more, unless that has just been tried.
        Some(person) => {
            let step_up = told.step_up()?;
            let (name, oidc) = sources.find(|(name, _)| **name == person.source)?;
            if oidc.just_raised(case.headers, case.now) {
                return None;
            }
            (name, oidc, Some(step_up))
        }
    };
    let acr = step_up.map(|step_up| step_up.acr.join(" "));
    let wish = Wish {
        acr_values: acr.as_deref().filter(|acr| !acr.is_empty()),
        max_age: step_up
            .and_then(|step_up| step_up.max_age)
            .and_then(|age| i64::try_from(age.as_secs()).ok()),
    };
    let Some((channel, origin)) = case.reached() else {
        tracing::warn!(source = %name, host = case.host, "nobody signs in over plain http");
        return None;
    };
    let browser = Browser {
        headers: case.headers,
        channel,
        origin: &origin,
    };
    let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    exchange.record.answered_by = AnsweredBy::Policy;
    let Some(departure) = oidc.depart(&browser, target, wish, case.now) else {
        let record = &mut exchange.record;
        record.decision = Some(Decided::Error);
        record.auth_error = Some(Refusal::Unreachable.code().into());
        let (status, reason) = (StatusCode::SERVICE_UNAVAILABLE, Reason::FACT_UNAVAILABLE);
        return Some(Ok(notice(status, reason, case, site, parts, exchange)));
    };
    exchange.cookies.extend(departure.cookies);
    Some(Ok(sent(StatusCode::FOUND, departure.location)))
}

/// Whether a person is about to see the answer as a page of its own.
fn is_navigation(parts: &Parts) -> bool {
    let says = |name: &HeaderName| parts.headers.get(name).map(HeaderValue::as_bytes);
    if parts.method != Method::GET || says(&X_REQUESTED_WITH).is_some() {
        return false;
    }
    match (says(&SEC_FETCH_MODE), says(&SEC_FETCH_DEST)) {
        (Some(mode), to) => mode == b"navigate" && to.is_none_or(|to| to == b"document"),
        (None, Some(to)) => to == b"document",
        // Browsers before 2023 say neither.
        (None, None) => respond::asks_for_page(&parts.headers),
    }
}

async fn callback(case: &Case<'_>, site: &Site, parts: &Parts, exchange: &mut Exchange) -> Early {
    if parts.method != Method::GET {
        return Err(Failure::MethodNotAllowed);
    }
    let Some((channel, origin)) = case.reached() else {
        return Ok(refused(Refusal::OtherBrowser, case, site, parts, exchange));
    };
    let browser = Browser {
        headers: case.headers,
        channel,
        origin: &origin,
    };
    let query = case.target.query().unwrap_or_default();
    let path = case.target.path();
    let mut why = Refusal::State;
    for (name, oidc) in site.identity.browser_sources() {
        if *oidc.callback != *path {
            continue;
        }
        let arrival = match oidc.arrive(&browser, query, case.now) {
            Ok(arrival) => arrival,
            Err(stranded) => {
                why = stranded.why;
                if why == Refusal::State {
                    // Perhaps another source's.
                    continue;
                }
                if matches!(
                    why,
                    Refusal::OtherBrowser | Refusal::Replayed | Refusal::Late
                ) && let Some(target) = &stranded.target
                    && oidc.knows(case.headers, case.now)
                    && let Some(home) = Oidc::home(&browser, target)
                {
                    // "Back", a second click, another tab that was quicker: signed in already.
                    exchange.record.auth_error = Some(why.code().into());
                    return Ok(sent(StatusCode::FOUND, home));
                }
                break;
            }
        };
        exchange.cookies.extend(arrival.cookies.iter().cloned());
        match Box::pin(welcome(case, name, oidc, &browser, &arrival, exchange)).await {
            Ok(home) => return Ok(sent(StatusCode::FOUND, home)),
            Err(refusal) => {
                tracing::warn!(source = %name, error = %refusal, "a sign-in failed");
                why = refusal;
                break;
            }
        }
    }
    Ok(refused(why, case, site, parts, exchange))
}

/// Exchanges the code and begins a session.
async fn welcome(
    case: &Case<'_>,
    name: &Arc<str>,
    oidc: &Arc<Oidc>,
    browser: &Browser<'_>,
    arrival: &Arrival,
    exchange: &mut Exchange,
) -> Result<HeaderValue, Refusal> {
    let place = Place::take().ok_or(Refusal::Unreachable)?;
    let token = case.token_endpoint(oidc).ok_or(Refusal::Unreachable)?;
    let body = match tokens(&token, arrival.exchange.clone(), name).await {
        Said::Tokens(body) => body,
        Said::Refused | Said::Misconfigured => return Err(Refusal::TokenRefused),
        Said::Nothing => return Err(Refusal::Unreachable),
    };
    drop(place);
    let now = Timestamp::now();
    let session = oidc.signed_in(arrival, &body, now).await?;
    let principal = oidc.person(&session, name)?;
    let before = case.headers;
    let cookies = oidc.keep(&session, before, browser.channel, now)?;
    exchange.cookies.extend(cookies);
    exchange.record.principal = Some(Arc::new(principal));
    Oidc::home(browser, &arrival.target).ok_or(Refusal::Malformed)
}

fn logout(
    case: &Case<'_>,
    site: &Site,
    path: &str,
    parts: &Parts,
    exchange: &mut Exchange,
) -> Early {
    if parts.method != Method::GET && parts.method != Method::POST {
        return Err(Failure::MethodNotAllowed);
    }
    let Some((channel, origin)) = case.reached() else {
        return Ok(signed_out(case, site, parts, exchange));
    };
    let browser = Browser {
        headers: case.headers,
        channel,
        origin: &origin,
    };
    let own = site.identity.browser_sources();
    let own = own.filter(|(_, oidc)| oidc.logout.as_deref() == Some(path));
    let mut provider = None;
    for (name, oidc) in own {
        if !oidc.has_cookie(case.headers) {
            continue;
        }
        if is_from_elsewhere(parts, &origin) {
            // Another site may not sign people out, and by a link it could.
            let (status, reason) = (StatusCode::FORBIDDEN, Reason::FORBIDDEN);
            return Ok(notice(status, reason, case, site, parts, exchange));
        }
        let who = oidc.whose(case.headers, name, case.now);
        exchange.record.principal = exchange.record.principal.take().or(who);
        if let Some((cookies, location)) = oidc.leave(&browser, path, case.now) {
            exchange.cookies.extend(cookies);
            provider = provider.or(location);
        }
    }
    let page = is_navigation(parts) || (parts.method == Method::POST && is_form(parts));
    Ok(match provider {
        Some(location) if page => sent(StatusCode::SEE_OTHER, location),
        Some(_) | None => signed_out(case, site, parts, exchange),
    })
}

/// Whether a browser says that another site made it ask.
fn is_from_elsewhere(parts: &Parts, origin: &str) -> bool {
    let says = |name: &HeaderName| parts.headers.get(name).map(HeaderValue::as_bytes);
    match (says(&SEC_FETCH_SITE), says(&http::header::ORIGIN)) {
        (Some(site), _) => site == b"cross-site" || site == b"same-site",
        (None, Some(from)) => !from.eq_ignore_ascii_case(origin.as_bytes()),
        (None, None) => false,
    }
}

/// Whether a form of a page was sent.
fn is_form(parts: &Parts) -> bool {
    let mode = parts.headers.get(SEC_FETCH_MODE);
    mode.map_or_else(
        || respond::asks_for_page(&parts.headers),
        |mode| mode.as_bytes() == b"navigate",
    )
}

fn signed_out(
    case: &Case<'_>,
    site: &Site,
    parts: &Parts,
    exchange: &mut Exchange,
) -> Response<Bytes> {
    if respond::asks_for_page(&parts.headers) && !site.api {
        return notice(
            StatusCode::OK,
            Reason::SIGNED_OUT,
            case,
            site,
            parts,
            exchange,
        );
    }
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The page of a sign-in that came to nothing.
fn refused(
    why: Refusal,
    case: &Case<'_>,
    site: &Site,
    parts: &Parts,
    exchange: &mut Exchange,
) -> Response<Bytes> {
    exchange.record.auth_error = Some(why.code().into());
    let (status, reason) = match why.class() {
        Class::Failed => (StatusCode::BAD_REQUEST, Reason::SIGN_IN_FAILED),
        Class::Refused => (StatusCode::FORBIDDEN, Reason::SIGN_IN_REFUSED),
        Class::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Reason::FACT_UNAVAILABLE),
    };
    let mut response = notice(status, reason, case, site, parts, exchange);
    // The address of this page holds the code.
    let headers = response.headers_mut();
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn notice(
    status: StatusCode,
    reason: Reason,
    case: &Case<'_>,
    site: &Site,
    parts: &Parts,
    exchange: &mut Exchange,
) -> Response<Bytes> {
    let mut words = Notice::new(status, &reason);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        words.retry_after = Some(RETRY);
    }
    let asker = asker(case.snapshot, Some(site), None, parts, &exchange.record);
    let response = respond::answer(&words, &asker);
    exchange.record.reason = (status != StatusCode::OK).then_some(reason);
    response
}

fn sent(status: StatusCode, location: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

impl Case<'_> {
    /// How a browser reached us, and our origin as it knows it; none over plain http from elsewhere.
    fn reached(&self) -> Option<(Channel, String)> {
        let authority = self.authority?;
        let channel = match self.scheme {
            Scheme::Https => Channel::Secure,
            Scheme::Http if is_loopback(authority) => Channel::Loopback,
            Scheme::Http => return None,
        };
        let scheme = self.scheme.as_str();
        let mut origin = format!("{scheme}://{authority}");
        origin.make_ascii_lowercase();
        Some((channel, origin))
    }

    fn sign_in(&self, oidc: &Oidc) -> Option<&SignIn> {
        let mut all = self.snapshot.providers.iter();
        all.find(|known| Arc::ptr_eq(&known.provider, &oidc.provider))
    }

    fn token_endpoint(&self, oidc: &Oidc) -> Option<Arc<Remote>> {
        self.sign_in(oidc)?.token.load_full()
    }

    /// Renews a session, and notes the cookies of the newer one.
    pub(super) async fn renewal(&self, oidc: &Arc<Oidc>, session: Session) -> Renewed {
        let receiver = match oidc.provider.turn(&session, Instant::now()) {
            Turn::Later(receiver) => receiver,
            Turn::First(sender, receiver) => {
                let asked = (
                    oidc.renewal(&session),
                    self.token_endpoint(oidc),
                    self.sign_in(oidc).map(|known| Arc::clone(&known.source)),
                    Place::take(),
                );
                let oidc = Arc::clone(oidc);
                // A task of its own: the token is spent even where the client does not wait.
                tokio::spawn(async move {
                    let renewed = match asked {
                        (Some(request), Some(token), Some(source), Some(_place)) => {
                            newer(&oidc, &session, request, &token, &source).await
                        }
                        (..) => Renewed::Failed,
                    };
                    sender.send_replace(State::Ended(renewed, Instant::now()));
                });
                receiver
            }
        };
        let renewed = outcome(receiver, RENEWAL_PATIENCE).await;
        if let (Renewed::Session(newer), Some((channel, _))) = (&renewed, self.reached())
            && let Ok(cookies) = oidc.keep(newer, self.headers, channel, self.now)
        {
            // In place of those of an older one, which led here.
            *self.cookies.borrow_mut() = cookies;
        }
        renewed
    }
}

async fn newer(
    oidc: &Oidc,
    session: &Session,
    request: TokenRequest,
    token: &Remote,
    source: &str,
) -> Renewed {
    match tokens(token, request, source).await {
        Said::Tokens(body) => {
            let renewed = oidc.renewed(session, &body, Timestamp::now()).await;
            if !matches!(renewed, Renewed::Session(_)) {
                tracing::warn!(source, "the answer to a renewal is no good session");
            }
            renewed
        }
        Said::Refused => Renewed::Refused,
        Said::Misconfigured | Said::Nothing => Renewed::Failed,
    }
}

/// What a token endpoint said.
enum Said {
    Tokens(Bytes),
    /// The code or the refresh token is not good.
    Refused,
    /// It does not know us, or not what we ask.
    Misconfigured,
    /// It did not say.
    Nothing,
}

async fn tokens(token: &Remote, request: TokenRequest, source: &str) -> Said {
    let mut asked = Request::new(Full::new(Bytes::from(request.form)));
    *asked.method_mut() = Method::POST;
    let headers: &mut HeaderMap = asked.headers_mut();
    headers.insert(CONTENT_TYPE, FORM);
    headers.insert(ACCEPT, JSON);
    if let Some(authorization) = request.authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    let url = &*token.server.url;
    let answer = match ask(token, asked, TOKENS_BYTES_MAX, TOKEN_PATIENCE).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::warn!(source, url, %error, "the token endpoint does not answer");
            return Said::Nothing;
        }
    };
    let status = answer.status();
    if status == StatusCode::OK {
        return Said::Tokens(answer.into_body());
    }
    if !(status == StatusCode::BAD_REQUEST || status == StatusCode::UNAUTHORIZED) {
        tracing::warn!(source, url, %status, "the token endpoint is broken or busy");
        return Said::Nothing;
    }
    let said: Option<TokenError> = serde_json::from_slice(&answer.into_body()).ok();
    let known = said.and_then(|said| KNOWN.into_iter().find(|word| *word == said.error));
    if known == Some(KNOWN[0]) {
        return Said::Refused;
    }
    let error = known.unwrap_or("unknown");
    tracing::error!(source, url, %status, error, "the token endpoint refuses our requests");
    Said::Misconfigured
}

#[derive(Deserialize)]
struct TokenError {
    error: String,
}

/// The errors of RFC 6749 §5.2; the first is about the code or the refresh token, the others about us.
const KNOWN: [&str; 6] = [
    "invalid_grant",
    "invalid_client",
    "invalid_request",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];
/// How long the token endpoint may take.
const TOKEN_PATIENCE: Duration = Duration::from_secs(8);
/// How long a request waits for its session to be renewed: the same, and a set of keys.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(20);
/// The largest answer of a token endpoint that is read.
const TOKENS_BYTES_MAX: usize = 256 * 1024;
/// When a person may try again.
const RETRY: Duration = Duration::from_secs(5);

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");
