//! Metadata and keys of providers that sign in browsers, fetched here so that no request waits for them.
//!
//! One task per provider: its metadata (OpenID Connect Discovery 1.0 §4) at once and again every hour, its keys every few
//! minutes, and sooner where an ID token names a key that nobody knows. Whatever goes wrong, the last good of both stays.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Empty;
use jiff::Timestamp;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::keys::{self, FetchError};
use crate::config::compile::remote;
use crate::config::context::Memory;
use crate::identity::oidc::provider::{BadMetadata, Metadata, Provider};
use crate::snapshot::{Remote, SignIn, Snapshot};
use crate::upstream::ask::{AskError, ask};

/// The tasks that follow the providers of the configuration in force.
#[derive(Debug, Default)]
pub(super) struct Providers {
    tasks: Vec<(Arc<Provider>, AbortHandle)>,
}

impl Providers {
    /// Follows what `snapshot` names from now on, and nothing else. Needs a runtime.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, memory: &mut Memory) {
        let all = &snapshot.providers;
        let named = |known: &Arc<Provider>| all.iter().any(|one| Arc::ptr_eq(&one.provider, known));
        memory.providers.retain(|_, known| named(&known.provider));
        self.tasks.retain(|(known, task)| {
            let stays = named(known);
            if !stays {
                task.abort();
            }
            stays
        });
        for sign_in in all {
            let mut tasks = self.tasks.iter();
            if tasks.any(|(known, _)| Arc::ptr_eq(known, &sign_in.provider)) {
                continue;
            }
            let task = tokio::spawn(fetch(sign_in.clone())).abort_handle();
            self.tasks.push((Arc::clone(&sign_in.provider), task));
        }
    }
}

/// Why an attempt brought nothing.
#[derive(Debug, thiserror::Error)]
enum ProviderError {
    #[error("no answer")]
    Ask(#[from] AskError),
    #[error("the answer has status {0}")]
    Status(StatusCode),
    #[error("the metadata cannot be used")]
    Metadata(#[from] BadMetadata),
    #[error("`{0}` is no URL that can be asked")]
    Url(&'static str),
    #[error("no keys")]
    Keys(#[from] FetchError),
}

async fn fetch(sign_in: SignIn) {
    let SignIn {
        source, provider, ..
    } = &sign_in;
    let keys = &provider.keys;
    let mut places: Option<(Instant, Arc<Remote>)> = None;
    let mut asked: Option<Instant> = None;
    let mut retry = RETRY_FIRST;
    loop {
        keys.begin();
        let mut failure = None;
        let fresh = places
            .as_ref()
            .is_some_and(|(at, _)| at.elapsed() < METADATA_EVERY);
        if !fresh {
            match metadata(&sign_in).await {
                Ok(jwks) => places = Some((Instant::now(), Arc::new(jwks))),
                Err(why) => failure = Some(why),
            }
        }
        let fetched = match &places {
            Some((_, jwks)) => match keys::attempt(jwks).await {
                Ok(fetched) => Some(fetched),
                Err(why) => {
                    failure = Some(why.into());
                    None
                }
            },
            None => None,
        };
        let pause = match &failure {
            None => {
                retry = RETRY_FIRST;
                KEYS_EVERY
            }
            Some(why) => {
                let url = &*sign_in.metadata.server.url;
                let cause = std::error::Error::source(why).map(ToString::to_string);
                let cause = cause.unwrap_or_default();
                if provider.metadata().is_some() && keys.current().is_some() {
                    tracing::warn!(%source, url, error = %why, cause, "a provider cannot be asked; what was known of it last stays");
                } else {
                    tracing::error!(%source, url, error = %why, cause, "a provider cannot be asked; nobody can sign in with it");
                }
                let pause = retry;
                retry = (retry * 2).min(RETRY_LAST);
                pause
            }
        };
        keys.end(fetched, Timestamp::now());
        keys::rest(keys, pause, &mut asked).await;
    }
}

/// Fetches metadata and learns it; answers where the keys are.
async fn metadata(sign_in: &SignIn) -> Result<Remote, ProviderError> {
    let mut request = Request::new(Empty::<Bytes>::new());
    let headers = request.headers_mut();
    headers.insert(
        http::header::ACCEPT,
        HeaderValue::from_static("application/json"),
    );
    let response = ask(&sign_in.metadata, request, SIZE_MAX, TIMEOUT).await?;
    if response.status() != StatusCode::OK {
        return Err(ProviderError::Status(response.status()));
    }
    let metadata = Metadata::read(&response.into_body(), &sign_in.issuer)?;
    let known = &sign_in.metadata;
    let jwks = remote::beside(known, &metadata.jwks_uri);
    let jwks = jwks.ok_or(ProviderError::Url("jwks_uri"))?;
    let token = remote::beside(known, &metadata.token_endpoint);
    let token = token.ok_or(ProviderError::Url("token_endpoint"))?;
    sign_in.token.store(Some(Arc::new(token)));
    sign_in.provider.learn(metadata);
    Ok(jwks)
}

/// How often metadata is fetched again.
const METADATA_EVERY: Duration = Duration::from_secs(60 * 60);
/// How often keys are fetched again: how long a key that was withdrawn is still believed.
const KEYS_EVERY: Duration = Duration::from_secs(300);
/// How long after a failed attempt the next one is made, at first and at last.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// The largest metadata that is read.
const SIZE_MAX: usize = 256 * 1024;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
