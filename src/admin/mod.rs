//! The operator's door: HTTP/1.1 with JSON over a Unix socket (mode 0660), so that `curl --unix-socket` works too.
//!
//! | request | answer |
//! |---|---|
//! | `GET /livez` | 200 while the process runs |
//! | `GET /readyz` | 200 while it serves |
//! | `GET /status` | 200 and an object: version, generation, uptime, connections, listeners |
//! | `POST /reload` | 200 `{"generation":n}`, or 422 `{"report":[…],"text":"…"}` and nothing has changed |
//! | `POST /reopen` | 202; log files are opened anew |
//!
//! Whoever may open the socket may use it: its file mode is the access control.

pub mod client;

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, oneshot};

use crate::config::diagnostic::Paint;
use crate::reload::StartError;
use crate::reload::control::Order;
use crate::snapshot::Admin;

/// A bound admin socket.
#[derive(Debug)]
pub struct AdminListener(StdListener);

/// Binds the socket. A default path that is taken or not writable is a warning; a written one is an error.
///
/// # Errors
/// [`StartError::Admin`].
pub fn bind(admin: &Admin) -> Result<Option<AdminListener>, StartError> {
    let path = place(admin);
    match open(&path) {
        Ok(listener) => Ok(Some(AdminListener(listener))),
        Err(source) if admin.socket_written => Err(StartError::Admin { path, source }),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no admin socket; `status` and `reload` cannot ask this process");
            Ok(None)
        }
    }
}

/// Removes the socket's file.
pub fn unbind(admin: &Admin) {
    drop(std::fs::remove_file(place(admin)));
}

/// The socket's path: as written, or the default, in the working folder where the default's folder does not exist.
#[must_use]
pub fn place(admin: &Admin) -> PathBuf {
    if admin.socket_written || admin.socket.parent().is_some_and(Path::is_dir) {
        return admin.socket.clone();
    }
    PathBuf::from(LOCAL_SOCKET)
}

fn open(path: &Path) -> io::Result<StdListener> {
    // A file that nobody answers on was left by a process that is gone.
    if path.exists() {
        if StdStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another process answers on it",
            ));
        }
        std::fs::remove_file(path)?;
    }
    let listener = StdListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers on the socket for as long as the runtime lives.
pub async fn serve(listener: AdminListener, orders: UnboundedSender<Order>) {
    let listener = match UnixListener::from_std(listener.0) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "no admin socket");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "admin accept failed");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let orders = orders.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, orders.clone()));
            let serving = http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            drop(tokio::time::timeout(CONNECTION_PATIENCE, serving).await);
            drop(place);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    orders: UnboundedSender<Order>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    Ok(match (request.method(), path) {
        (&Method::GET, "/livez" | "/readyz") => say(StatusCode::OK, &json!({ "status": "ok" })),
        (&Method::GET, "/status") => {
            let (ask, asked) = oneshot::channel();
            drop(orders.send(Order::Status(ask)));
            asked
                .await
                .map_or_else(|_gone| ending(), |status| say(StatusCode::OK, &status))
        }
        (&Method::POST, "/reload") => {
            let (ask, asked) = oneshot::channel();
            drop(orders.send(Order::Reload(ask)));
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
        (&Method::POST, "/reopen") => {
            drop(orders.send(Order::Reopen));
            say(StatusCode::ACCEPTED, &json!({ "status": "reopening" }))
        }
        (_, "/livez" | "/readyz" | "/status" | "/reload" | "/reopen") => say(
            StatusCode::METHOD_NOT_ALLOWED,
            &json!({ "error": "method_not_allowed" }),
        ),
        _ => say(StatusCode::NOT_FOUND, &json!({ "error": "not_found" })),
    })
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
    let mut response = Response::new(Full::new(Bytes::from(format!("{value}\n"))));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The default socket where its folder is missing.
pub const LOCAL_SOCKET: &str = "admin.sock";
/// Callers served at once.
const CONNECTIONS: usize = 16;
/// How long one call may take.
const CONNECTION_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
