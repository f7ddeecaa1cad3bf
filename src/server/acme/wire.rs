//! How the ACME client asks: with our own client and the authorities that the operator trusts, over `https` only, bounded in time
//! and size.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER, USER_AGENT};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Full;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls_pki_types::ServerName;

use crate::snapshot::acme::Settings;
use crate::snapshot::tls::ClientTls;
use crate::snapshot::{Endpoint, Remote, UpstreamServer};
use crate::upstream::ask::{AskError, ask};

/// Asks one authority.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    settings: Arc<Settings>,
    later: Arc<Mutex<Option<Duration>>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum WireError {
    #[error("`{0}` is no `https` URL")]
    Url(String),
    #[error("no answer from `{url}`")]
    Ask {
        url: String,
        #[source]
        source: AskError,
    },
    #[error("`{0}` is no ACME directory")]
    NoDirectory(Arc<str>),
}

impl Wire {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            later: Arc::default(),
        }
    }

    /// How long the authority wants to be left alone, as its newest refusal says (RFC 8555 §6.6).
    pub(super) fn later(&self) -> Option<Duration> {
        let mut later = self.later.lock().unwrap_or_else(PoisonError::into_inner);
        later.take()
    }

    async fn exchange(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let url = request.uri().to_string();
        let directory = *url == *self.settings.url;
        let answered = self.answer(request, &url).await;
        let response = answered.map_err(|error| Error::Other(Box::new(error)))?;
        if directory && !is_directory(&response) {
            let error = WireError::NoDirectory(Arc::clone(&self.settings.url));
            return Err(Error::Other(Box::new(error)));
        }
        if matches!(
            response.status(),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            let mut later = self.later.lock().unwrap_or_else(PoisonError::into_inner);
            *later = retry_after(&response);
        }
        Ok(BytesResponse::from(response.map(Full::new)))
    }

    async fn answer(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
        url: &str,
    ) -> Result<Response<Bytes>, WireError> {
        let tls = self.settings.directory.tls.as_ref();
        let remote = tls.and_then(|tls| remote(request.uri(), tls));
        let remote = remote.ok_or_else(|| WireError::Url(url.to_owned()))?;
        request.headers_mut().insert(USER_AGENT, AGENT);
        let asked = ask(&remote, request, SIZE_MAX, TIMEOUT).await;
        asked.map_err(|source| WireError::Ask {
            url: url.to_owned(),
            source,
        })
    }
}

impl HttpClient for Wire {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().exchange(request))
    }
}

/// Where a URL leads; nothing where it is no `https` URL (RFC 8555 §6.1).
fn remote(uri: &Uri, tls: &Arc<ClientTls>) -> Option<Remote> {
    let authority = uri.authority()?;
    if uri.scheme() != Some(&Scheme::HTTPS) || authority.as_str().contains('@') {
        return None;
    }
    let port = authority.port_u16().unwrap_or(443);
    let host = authority.host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = match bare.parse() {
        Ok(address) => Endpoint::Address(std::net::SocketAddr::new(address, port)),
        Err(_) => Endpoint::Name(Arc::from(host), port),
    };
    let server = UpstreamServer {
        url: Arc::from(uri.to_string()),
        address,
        tls: Some(ServerName::try_from(bare.to_owned()).ok()?),
        authority: Arc::from(authority.as_str()),
        weight: 1,
        backup: false,
    };
    let root = || PathAndQuery::from_static("/");
    Some(Remote {
        server,
        target: uri.path_and_query().cloned().unwrap_or_else(root),
        tls: Some(Arc::clone(tls)),
    })
}

/// Whether an answer is a directory whose URLs are `https` URLs. The client takes it at its word.
fn is_directory(response: &Response<Bytes>) -> bool {
    let Ok(content) = serde_json::from_slice::<serde_json::Value>(response.body()) else {
        return false;
    };
    let url = |value: &serde_json::Value| {
        let uri = value.as_str().and_then(|url| url.parse::<Uri>().ok());
        uri.is_some_and(|uri| uri.scheme() == Some(&Scheme::HTTPS) && uri.authority().is_some())
    };
    let needed = ["newNonce", "newAccount", "newOrder"];
    let optional = ["newAuthz", "revokeCert", "keyChange", "renewalInfo"];
    response.status() == StatusCode::OK
        && needed.iter().all(|name| content.get(name).is_some_and(url))
        && optional
            .iter()
            .all(|name| content.get(name).is_none_or(url))
}

/// `Retry-After` (RFC 9110 §10.2.3), up to [`LATER_MAX`].
fn retry_after(response: &Response<Bytes>) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let long = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?;
            let at = SystemTime::from(at.timestamp());
            at.duration_since(SystemTime::now()).ok()?
        }
    };
    Some(long.min(LATER_MAX))
}

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
/// The largest answer that is read; chains have some 10 KiB.
const SIZE_MAX: usize = 1024 * 1024;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// However long an authority wants to be left alone.
const LATER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn only_a_directory_is_taken_for_one() {
        let good =
            r#"{"newNonce":"https://ca/n","newAccount":"https://ca/a","newOrder":"https://ca/o"}"#;
        for (status, body, is, why) in [
            (200, good, true, "a directory"),
            (500, good, false, "an error"),
            (200, "garbage", false, "no JSON"),
            (200, "{}", false, "nothing in it"),
            (200, "[]", false, "a list"),
            (
                200,
                r#"{"newNonce":"not a URL","newAccount":"https://ca/a","newOrder":"https://ca/o"}"#,
                false,
                "something else than URLs",
            ),
            (
                200,
                r#"{"newNonce":"http://ca/n","newAccount":"https://ca/a","newOrder":"https://ca/o"}"#,
                false,
                "clear text",
            ),
            (
                200,
                r#"{"newNonce":"https://ca/n","newAccount":"https://ca/a","newOrder":"https://ca/o","renewalInfo":7}"#,
                false,
                "a number",
            ),
        ] {
            let mut response = Response::new(Bytes::from_static(body.as_bytes()));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_directory(&response), is, "{why}");
        }
    }

    #[test]
    fn an_authority_may_ask_to_be_left_alone_but_not_forever() {
        for (value, want, why) in [
            ("120", Some(120), "seconds"),
            ("99999999", Some(86_400), "a day at most"),
            ("Sun, 06 Nov 1994 08:49:37 GMT", None, "a time that is over"),
            ("soon", None, "no time"),
        ] {
            let mut response = Response::new(Bytes::new());
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(RETRY_AFTER, value);
            let seconds = retry_after(&response).map(|long| long.as_secs());
            assert_eq!(seconds, want, "{why}");
        }
    }
}
