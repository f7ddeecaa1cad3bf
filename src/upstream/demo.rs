//! The demo application: a small web app inside this process, so that the first start needs nothing else.
//!
//! It serves a page for every path and shows what reached it, so that a reader sees which headers the gate set.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;

/// A connection to the demo application. It lives on this worker and ends with its other end.
pub(super) fn connect() -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
    tokio::task::spawn_local(async move {
        let serving =
            http1::Builder::new().serve_connection(TokioIo::new(theirs), service_fn(answer));
        if let Err(error) = serving.await {
            tracing::debug!(%error, "demo connection ended");
        }
    });
    ours
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let page = page(
        request.method().as_str(),
        request.uri().path(),
        request.headers(),
    );
    let mut response = Response::new(Full::new(Bytes::from(page)));
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    Ok(response)
}

fn page(method: &str, path: &str, headers: &HeaderMap) -> String {
    let mut rows = String::new();
    for name in SHOWN {
        if let Some(value) = headers.get(*name).and_then(|value| value.to_str().ok()) {
            rows.push_str(&format!(
                "<tr><th>{name}</th><td>{}</td></tr>\n",
                escape(value)
            ));
        }
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Portcullis demo</title>\n<style>{STYLE}</style>\n<main><h1>You reached the demo application</h1>\n\
         <p><code>{} {}</code> passed the gate. This is what the application was told:</p>\n<table>\n{rows}</table></main>\n",
        escape(method),
        escape(path),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const BUFFER_BYTES: usize = 64 * 1024;

const SHOWN: &[&str] = &[
    "host",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
    "x-user",
    "x-roles",
    "x-country",
    "user-agent",
];

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:3rem auto;max-width:44rem;padding:0 1rem}\
th{text-align:left;padding-right:1.5rem;font-weight:600}td{font-family:monospace;overflow-wrap:anywhere}\
@media(prefers-color-scheme:dark){body{background:#14161a;color:#e8e8e8}}";
