//! The operator's door: HTTP/1.1 with JSON on a Unix socket (mode 0660) and, where `[admin] address` is written, on TCP.
//!
//! | request | answer |
//! |---|---|
//! | `GET /livez` | 200 while the process runs |
//! | `GET /readyz` | 200 while it serves, 503 while it drains |
//! | `GET /metrics` | 200 and Prometheus' text |
//! | `GET /status` | 200 and an object: version, generation, uptime, connections, listeners |
//! | `GET /shadow` | 200 and an object: what shadow rules and the candidate policy would have changed |
//! | `GET /explain/<request-id>` | 200 and an object: what the request was judged by; 404 where it is not kept any more |
//! | `GET /maintenance` | 200 and an object: how each site stands |
//! | `POST /maintenance/<site>/<on\|off\|auto>` | the same of one site, switched; 404 where there is no such site |
//! | `GET /revocations` | 200 and an object: what is revoked, by the file and by the admin |
//! | `POST /revoke?<what>=…&for=…` | 200 and an object: the credential no longer counts; 400 says what is missing |
//! | `POST /unrevoke?<what>=…` | 200; it counts again; 404 where it was not revoked here |
//! | `POST /reload` | 200 `{"generation":n}`, or 422 `{"report":[…],"text":"…"}` and nothing has changed |
//! | `POST /drain?upstream=…&endpoint=…` | 200 and an object: the endpoint gets no new requests, `usable` others are left |
//! | `POST /undrain?…` | 200; it gets requests again |
//! | `POST /reopen` | 202; log files are opened anew |
//!
//! Whoever may open the socket may use it: its file mode is the access control. On TCP the first three are open; the rest needs
//! `Authorization: Bearer <token>`, or is reading only where no token is set (the address is loopback then).
//!
//! - [`doors`]: socket and address, bound through reloads.
//! - `guard`: who may ask for what.
//! - [`shadow`]: what would have changed.
//! - `maintenance`: closing and opening sites.
//! - `revocation`: credentials that no longer count.
//! - `page`: what `/metrics` says.
//! - [`client`]: the other end.

pub mod client;
pub mod doors;
mod guard;
mod maintenance;
mod page;
mod revocation;
pub mod shadow;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::{oneshot, watch};

use self::guard::{Door, Refused};
use crate::config::Paint;
use crate::observe::access_log::Logger;
use crate::observe::metrics::Metrics;
use crate::observe::metrics::text;
use crate::observe::ring::Found;
use crate::reload::control::Order;
use crate::server::admission::Admission;
use crate::server::worker::Command;
use crate::snapshot::Snapshot;
use crate::upstream::registry::{Drain, Registry};

/// What the admin sees of the process, and whom it tells.
#[derive(Debug, Clone)]
pub struct View {
    /// The newest snapshot.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Counters.
    pub metrics: Metrics,
    /// The access logs.
    pub logger: Logger,
    /// What is known of upstream endpoints.
    pub upstreams: Registry,
    /// Open connections.
    pub admission: Arc<Admission>,
    /// Whether the process is about to end.
    pub draining: Arc<AtomicBool>,
    /// When it started.
    pub started: Timestamp,
    /// The workers.
    pub workers: Arc<[UnboundedSender<Command>]>,
    /// The control thread.
    pub orders: UnboundedSender<Order>,
}

async fn answer(
    request: Request<Incoming>,
    door: Door,
    view: View,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let snapshot = Arc::clone(&view.snapshots.borrow());
    let admitted = guard::admit(&request, door, snapshot.admin.token.as_ref());
    Ok(match admitted {
        Ok(()) => route(&request, &snapshot, &view).await,
        Err(refused) => refuse(refused),
    })
}

async fn route(
    request: &Request<Incoming>,
    snapshot: &Snapshot,
    view: &View,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let id = path.strip_prefix(EXPLAIN);
    let switched = path.strip_prefix(MAINTENANCE);
    let known = match (id, switched) {
        (Some(_), _) => EXPLAIN,
        (None, Some(_)) => MAINTENANCE,
        (None, None) => path,
    };
    let Some((_, method)) = ROUTES.iter().find(|(route, _)| *route == known) else {
        return say(StatusCode::NOT_FOUND, &json!({ "error": "not_found" }));
    };
    if request.method() != method {
        let error = json!({ "error": "method_not_allowed" });
        let mut response = say(StatusCode::METHOD_NOT_ALLOWED, &error);
        if let Ok(allow) = HeaderValue::from_str(method.as_str()) {
            response.headers_mut().insert(ALLOW, allow);
        }
        return response;
    }
    if let Some(id) = id {
        return explain(id, view).await;
    }
    if let Some(wanted) = switched {
        return maintenance::switch(wanted, snapshot);
    }
    match path {
        "/maintenance" => say(StatusCode::OK, &maintenance::tell(&snapshot.sites)),
        "/livez" => say(StatusCode::OK, &json!({ "status": "ok" })),
        "/readyz" if view.draining.load(Ordering::Relaxed) => say(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "status": "draining" }),
        ),
        "/readyz" => say(StatusCode::OK, &json!({ "status": "ok" })),
        "/metrics" => whole(
            StatusCode::OK,
            text::CONTENT_TYPE,
            page::write(view, snapshot, Timestamp::now()),
        ),
        "/status" => {
            let (ask, asked) = oneshot::channel();
            drop(view.orders.send(Order::Status(ask)));
            let status = asked.await;
            status.map_or_else(|_gone| ending(), |status| say(StatusCode::OK, &status))
        }
        "/shadow" => {
            let summary = shadow::summary(snapshot, &view.metrics, shadow::MANY);
            let none =
                || json!({ "candidate": null, "shadow_rules": 0, "changes": [], "left_off": 0 });
            say(StatusCode::OK, &summary.unwrap_or_else(none))
        }
        "/revocations" => say(StatusCode::OK, &revocation::list(&snapshot.revocation)),
        "/revoke" | "/unrevoke" => {
            let step = if path == "/revoke" {
                revocation::Step::Add
            } else {
                revocation::Step::Undo
            };
            revocation::change(step, request.uri().query(), &snapshot.revocation).await
        }
        "/reload" => reload(view).await,
        "/drain" => drain(request.uri().query(), Drain::Out, view),
        "/undrain" => drain(request.uri().query(), Drain::Back, view),
        _ => {
            drop(view.orders.send(Order::Reopen));
            say(StatusCode::ACCEPTED, &json!({ "status": "reopening" }))
        }
    }
}

/// Asks every worker; of requests with one id, which a trusted peer may have sent, the newest is told.
async fn explain(id: &str, view: &View) -> Response<Full<Bytes>> {
    let id: Arc<str> = id.into();
    let (found, mut all) = mpsc::unbounded_channel();
    for worker in view.workers.iter() {
        drop(worker.send(Command::Explain(Arc::clone(&id), found.clone())));
    }
    drop(found);
    let mut newest: Option<Found> = None;
    while let Some(one) = all.recv().await {
        if newest
            .as_ref()
            .is_none_or(|known| known.started() <= one.started())
        {
            newest = Some(one);
        }
    }
    match newest {
        // The walk may be over a hundred thousand rules.
        Some(found) => match tokio::task::spawn_blocking(move || found.tell()).await {
            Ok(told) => say(StatusCode::OK, &told),
            Err(_ended) => ending(),
        },
        None => say(
            StatusCode::NOT_FOUND,
            &json!({ "error": "not_found", "message": "no request with this id is kept; the newest of each worker are" }),
        ),
    }
}

async fn reload(view: &View) -> Response<Full<Bytes>> {
    let (ask, asked) = oneshot::channel();
    drop(view.orders.send(Order::Reload(ask)));
    match asked.await {
        Ok(Ok(generation)) => say(StatusCode::OK, &json!({ "generation": generation })),
        Ok(Err(report)) => {
            let text = report.render(Paint::Plain);
            say(
                StatusCode::UNPROCESSABLE_ENTITY,
                &json!({ "report": findings(&report), "text": text }),
            )
        }
        Err(_gone) => ending(),
    }
}

fn drain(query: Option<&str>, drain: Drain, view: &View) -> Response<Full<Bytes>> {
    let query = query.unwrap_or_default();
    let named = (
        query_value(query, "upstream"),
        query_value(query, "endpoint"),
    );
    let (Some(upstream), Some(endpoint)) = named else {
        let message = "`upstream` and `endpoint` are needed, each once, percent-encoded";
        let error = json!({ "error": "bad_request", "message": message });
        return say(StatusCode::BAD_REQUEST, &error);
    };
    match view.upstreams.drain(&upstream, &endpoint, drain) {
        Ok(usable) => say(
            StatusCode::OK,
            &json!({
                "upstream": upstream,
                "endpoint": endpoint,
                "drained": drain == Drain::Out,
                "usable": usable,
            }),
        ),
        Err(unknown) => say(
            StatusCode::NOT_FOUND,
            &json!({ "error": "not_found", "message": unknown.to_string() }),
        ),
    }
}

/// The value of the only pair of this name, decoded.
fn query_value(query: &str, name: &str) -> Option<String> {
    let mut values = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter_map(|(known, value)| (known == name).then_some(value));
    let value = values.next().filter(|value| !value.is_empty())?;
    if values.next().is_some() {
        return None;
    }
    client::decode(value)
}

fn refuse(refused: Refused) -> Response<Full<Bytes>> {
    match refused {
        Refused::Misdirected => say(
            StatusCode::MISDIRECTED_REQUEST,
            &json!({ "error": "misdirected_request", "message": "Host must be the admin's address or localhost" }),
        ),
        Refused::Token => {
            let mut response = say(
                StatusCode::UNAUTHORIZED,
                &json!({ "error": "not_authenticated", "message": "this needs the admin token" }),
            );
            let challenge = HeaderValue::from_static("Bearer realm=\"portcullis admin\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            response
        }
        Refused::ReadOnly => say(
            StatusCode::FORBIDDEN,
            &json!({ "error": "forbidden", "message": "without `[admin] token` this address is for reading only" }),
        ),
    }
}

/// The findings as `check --format json` prints them.
fn findings(report: &crate::config::Report) -> Value {
    serde_json::from_str(&report.json()).unwrap_or_default()
}

fn ending() -> Response<Full<Bytes>> {
    say(
        StatusCode::SERVICE_UNAVAILABLE,
        &json!({ "error": "shutting_down" }),
    )
}

fn say(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    whole(status, "application/json", format!("{value}\n"))
}

fn whole(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(
        http::header::CACHE_CONTROL,
        HeaderValue::from_static("no-store"),
    );
    response
}

/// What is answered, and to which method.
const ROUTES: [(&str, Method); 15] = [
    ("/revocations", Method::GET),
    ("/revoke", Method::POST),
    ("/unrevoke", Method::POST),
    ("/shadow", Method::GET),
    (EXPLAIN, Method::GET),
    (MAINTENANCE, Method::POST),
    ("/maintenance", Method::GET),
    ("/livez", Method::GET),
    ("/readyz", Method::GET),
    ("/metrics", Method::GET),
    ("/status", Method::GET),
    ("/reload", Method::POST),
    ("/drain", Method::POST),
    ("/undrain", Method::POST),
    ("/reopen", Method::POST),
];

/// What stands before a request id.
const EXPLAIN: &str = "/explain/";
/// What stands before a site and how it is to be switched.
const MAINTENANCE: &str = "/maintenance/";

/// The default socket where its folder is missing.
pub const LOCAL_SOCKET: &str = "portcullis-admin.sock";
