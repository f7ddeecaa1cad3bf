//! Keys that issuers publish, and lists of devices, fetched here so that a request waits for them only when it must.
//!
//! One task per key set: at once, again every few minutes, and sooner where a token names a key that nobody knows. Whatever goes
//! wrong, the last good set stays.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use jiff::{SignedDuration, Timestamp};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::provider::Providers;
use crate::config::context::Memory;
use crate::identity::device::{List, Posture, RemotePosture};
use crate::identity::keys::Key;
use crate::identity::remote::RemoteKeys;
use crate::snapshot::{KeySet, Remote, Snapshot};
use crate::upstream::ask::{AskError, ask};

/// The tasks that fetch what the configuration in force names.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    tasks: Vec<(Arc<RemoteKeys>, AbortHandle)>,
    devices: Option<AbortHandle>,
    providers: Providers,
}

impl Fetching {
    /// Fetches what `snapshot` names from now on, and nothing else. Needs a runtime.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, memory: &mut Memory) {
        let sets = &snapshot.key_sets;
        let named = |keys: &Arc<RemoteKeys>| sets.iter().any(|set| Arc::ptr_eq(&set.keys, keys));
        memory.key_sets.retain(|_, keys| named(keys));
        self.tasks.retain(|(keys, task)| {
            let stays = named(keys);
            if !stays {
                task.abort();
            }
            stays
        });
        for KeySet {
            source,
            keys,
            remote,
        } in sets
        {
            if self.tasks.iter().any(|(known, _)| Arc::ptr_eq(known, keys)) {
                continue;
            }
            let run = fetch(Arc::clone(source), Arc::clone(keys), Arc::clone(remote));
            let task = tokio::spawn(run).abort_handle();
            self.tasks.push((Arc::clone(keys), task));
        }
        self.providers.follow(snapshot, memory);
        self.follow_devices(snapshot, memory);
    }

    fn follow_devices(&mut self, snapshot: &Snapshot, memory: &mut Memory) {
        let wanted =
            snapshot
                .devices
                .as_ref()
                .and_then(|list| match (&list.devices.list, &list.remote) {
                    (List::Remote(posture), Some(remote)) => {
                        Some((posture, remote, list.devices.max_age))
                    }
                    (List::Remote(_) | List::Fixed(_), _) => None,
                });
        let same = |other: &Arc<RemotePosture>| {
            wanted.is_some_and(|(posture, ..)| Arc::ptr_eq(posture, other))
        };
        memory.fetched_devices.retain(|_, posture| same(posture));
        if let Some(task) = &self.devices {
            // Its age may have another limit now: begun anew, with the last good list at hand.
            task.abort();
        }
        self.devices = wanted.map(|(posture, remote, max_age)| {
            let run = fetch_devices(Arc::clone(posture), Arc::clone(remote), max_age);
            tokio::spawn(run).abort_handle()
        });
    }
}

/// Waits for the next fetch, or until somebody wants keys that are not there: not sooner than `APART` after the last such wish.
pub(super) async fn rest(keys: &RemoteKeys, pause: Duration, asked: &mut Option<Instant>) {
    tokio::select! {
        () = sleep(pause) => {}
        () = keys.wanted() => {
            if let Some(last) = *asked {
                sleep_until(last + APART).await;
            }
            *asked = Some(Instant::now());
        }
    }
}

async fn fetch(source: Arc<str>, keys: Arc<RemoteKeys>, remote: Arc<Remote>) {
    let mut asked: Option<Instant> = None;
    let mut retry = RETRY_FIRST;
    loop {
        keys.begin();
        let fetched = attempt(&remote).await;
        let url = &*remote.server.url;
        let pause = match &fetched {
            Ok((set, _)) => {
                tracing::debug!(%source, url, keys = set.len(), "keys fetched");
                retry = RETRY_FIRST;
                EVERY
            }
            Err(why) => {
                let cause = std::error::Error::source(why).map(ToString::to_string);
                let cause = cause.unwrap_or_default();
                if keys.fetched().is_some() {
                    tracing::warn!(%source, url, error = %why, cause, "keys cannot be fetched; the last good set stays");
                } else {
                    tracing::error!(%source, url, error = %why, cause, "keys cannot be fetched; nobody can sign in with this source");
                }
                let pause = retry;
                retry = (retry * 2).min(RETRY_LAST);
                pause
            }
        };
        keys.end(fetched.ok(), Timestamp::now());
        rest(&keys, pause, &mut asked).await;
    }
}

/// Why an attempt brought no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no answer")]
    Ask(#[from] AskError),
    #[error("the answer has status {0}")]
    Status(StatusCode),
    #[error("the answer is no JWK set")]
    NotJwks(#[source] crate::identity::keys::KeyError),
    #[error("the answer is no list of devices")]
    NotDevices,
    #[error("the set holds no public key that can verify a token")]
    Empty,
}

async fn fetch_devices(posture: Arc<RemotePosture>, remote: Arc<Remote>, max_age: SignedDuration) {
    // Three more attempts before the list is too old.
    let every = max_age.unsigned_abs() / 4;
    let every = every.clamp(RETRY_FIRST, EVERY);
    let mut retry = RETRY_FIRST;
    loop {
        let fetched = devices(&remote).await;
        let pause = match &fetched {
            Ok(_) => {
                retry = RETRY_FIRST;
                every
            }
            Err(why) => {
                let url = &*remote.server.url;
                tracing::warn!(url, error = %why, "the list of devices cannot be fetched; the last good one counts while it is young enough");
                let pause = retry.min(every);
                retry = (retry * 2).min(RETRY_LAST);
                pause
            }
        };
        posture.end(fetched.ok());
        sleep(pause).await;
    }
}

async fn devices(remote: &Remote) -> Result<Posture, FetchError> {
    let asked = Timestamp::now();
    let response = ask(
        remote,
        Request::new(Empty::<Bytes>::new()),
        DEVICES_SIZE_MAX,
        TIMEOUT,
    )
    .await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    Posture::read(&response.into_body(), asked).ok_or(FetchError::NotDevices)
}

pub(super) async fn attempt(remote: &Remote) -> Result<(Vec<Key>, u64), FetchError> {
    let mut request = Request::new(Empty::<Bytes>::new());
    let headers = request.headers_mut();
    let accept = "application/jwk-set+json, application/json";
    headers.insert(http::header::ACCEPT, http::HeaderValue::from_static(accept));
    let response = ask(remote, request, SIZE_MAX, TIMEOUT).await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let body = response.into_body();
    let (mut keys, _passed_over) = Key::set(&body).map_err(FetchError::NotJwks)?;
    keys.retain(Key::is_public);
    if keys.is_empty() {
        return Err(FetchError::Empty);
    }
    let print = digest(&SHA256, &body);
    let print = print.as_ref().iter().take(8);
    let print = print.fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
    Ok((keys, print))
}

/// How often a good set is fetched again: how long a key that its issuer withdrew is still believed.
const EVERY: Duration = Duration::from_secs(300);
/// How long after a failed attempt the next one is made, at first and at last.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// How far attempts are apart that tokens of unknown keys ask for: anybody can make such a token.
const APART: Duration = Duration::from_secs(5);
/// The largest key set that is read. Those of large providers have some 10 KiB.
const SIZE_MAX: usize = 1024 * 1024;
/// The largest list of devices that is read.
const DEVICES_SIZE_MAX: usize = 16 * 1024 * 1024;
/// How long an attempt may take.
const TIMEOUT: Duration = Duration::from_secs(5);
