//! `forward_auth`: a request becomes a question to another service, and what it says an answer for the identity room.
//!
//! It learns the method and the URI, and the fields that the operator listed: no body, no hop-by-hop field. Nothing of its
//! answer reaches the client or the upstream but what the operator listed.

use std::cell::Cell;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::Empty;

use super::enforce::Case;
use super::upward::address_value;
use crate::identity::forward_auth::{Answer, Ask, Asking};
use crate::identity::oidc::Oidc;
use crate::identity::oidc::renewal::Renewing;
use crate::identity::oidc::session::Session;
use crate::upstream::ask::ask;

impl Ask for Case<'_> {
    fn ask<'a>(&'a self, name: &'a str, shown: HeaderMap) -> Asking<'a> {
        Box::pin(self.question(name, shown))
    }

    fn renew<'a>(&'a self, oidc: &'a Arc<Oidc>, session: Session) -> Renewing<'a> {
        Box::pin(self.renewal(oidc, session))
    }
}

impl Case<'_> {
    async fn question(&self, name: &str, shown: HeaderMap) -> Answer {
        let mut services = self.snapshot.forward_auths.iter();
        let Some(service) = services.find(|service| *service.source == *name) else {
            return Answer::Failed;
        };
        let Some(_place) = Place::take() else {
            tracing::warn!(source = name, "too many questions are under way");
            return Answer::Failed;
        };
        let mut request = Request::new(Empty::new());
        *request.headers_mut() = shown;
        let headers = request.headers_mut();
        let mut path = self.target.path().to_owned();
        if let Some(query) = self.target.query() {
            path.push('?');
            path.push_str(query);
        }
        for (name, value) in [
            (METHOD, self.method.as_str()),
            (PROTO, self.scheme.as_str()),
            (HOST, self.host),
            (URI, &path),
        ] {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.insert(name, value);
            }
        }
        headers.insert(FOR, address_value(self.client));
        match ask(&service.remote, request, ANSWER_BYTES_MAX, service.timeout).await {
            Ok(answer) => judge(answer.status(), answer.into_parts().0.headers),
            Err(error) => {
                let url = &*service.remote.server.url;
                tracing::warn!(source = name, url, %error, "the service that knows who asks does not answer");
                Answer::Failed
            }
        }
    }
}

fn judge(status: StatusCode, fields: HeaderMap) -> Answer {
    if status.is_success() {
        Answer::Known(fields)
    } else if status == StatusCode::UNAUTHORIZED
        || status == StatusCode::FORBIDDEN
        || status.is_redirection()
    {
        // A redirect leads to a sign-in of its own: it does not know the caller.
        Answer::Unknown
    } else {
        Answer::Failed
    }
}

/// A place among the questions of this worker, given back when dropped.
pub(super) struct Place;

impl Place {
    pub(super) fn take() -> Option<Self> {
        UNDER_WAY.with(|count| {
            (count.get() < UNDER_WAY_MAX).then(|| {
                count.set(count.get() + 1);
                Self
            })
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        UNDER_WAY.with(|count| count.set(count.get().saturating_sub(1)));
    }
}

thread_local! {
    static UNDER_WAY: Cell<usize> = const { Cell::new(0) };
}

/// Questions of one worker at a time.
const UNDER_WAY_MAX: usize = 256;
/// The largest body of an answer, which nobody reads.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

const METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
