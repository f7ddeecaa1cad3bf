//! Sessions that are being renewed, and those that just were: a refresh token is used once, however many requests of a browser
//! come with it at a time, and a request that comes late with the old cookie gets what it brought.

use std::collections::HashMap;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::watch;

use super::session::Session;

/// What became of a renewal.
#[derive(Debug, Clone)]
pub enum Renewed {
    /// A newer session.
    Session(Arc<Session>),
    /// The provider says no: the session has ended.
    Refused,
    /// The provider did not say.
    Failed,
}

/// A renewal on its way.
pub type Renewing<'a> = Pin<Box<dyn Future<Output = Renewed> + 'a>>;

/// Renewals under way and done.
#[derive(Debug, Default)]
pub struct Renewals(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    young: Generation,
    old: Generation,
}

type Generation = HashMap<[u8; 32], watch::Receiver<State>>;

/// How far a renewal has come.
#[derive(Debug, Clone)]
pub enum State {
    /// It is under way.
    Asked,
    /// It has ended, at this time.
    Ended(Renewed, Instant),
}

/// Whose turn it is.
#[derive(Debug)]
pub enum Turn {
    /// The caller's: who tells by the sender how it ended.
    First(watch::Sender<State>, watch::Receiver<State>),
    /// Somebody else asks already, or has asked.
    Later(watch::Receiver<State>),
}

impl Renewals {
    /// Whose turn it is to renew a session.
    #[must_use]
    pub fn turn(&self, session: &Session, now: Instant) -> Turn {
        let key = key(session);
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = table.young.get(&key).or_else(|| table.old.get(&key));
        if let Some(known) = known
            && worth(known, now)
        {
            return Turn::Later(known.clone());
        }
        if table.young.len() >= RENEWALS_MAX {
            table.old = mem::take(&mut table.young);
        }
        let (sender, receiver) = watch::channel(State::Asked);
        table.young.insert(key, receiver.clone());
        Turn::First(sender, receiver)
    }
}

/// Waits for a renewal, for as long as a request may.
pub async fn outcome(mut receiver: watch::Receiver<State>, patience: Duration) -> Renewed {
    let ended = receiver.wait_for(|state| matches!(state, State::Ended(..)));
    match tokio::time::timeout(patience, ended).await {
        Ok(Ok(state)) => match &*state {
            State::Ended(renewed, _) => renewed.clone(),
            State::Asked => Renewed::Failed,
        },
        Ok(Err(_)) | Err(_) => Renewed::Failed,
    }
}

/// Whether what is known of a renewal answers for another request as well.
fn worth(known: &watch::Receiver<State>, now: Instant) -> bool {
    match &*known.borrow() {
        // Whoever asked is gone without a word.
        State::Asked => known.has_changed().is_ok(),
        State::Ended(Renewed::Failed, at) => now.saturating_duration_since(*at) < AGAIN,
        State::Ended(Renewed::Session(_) | Renewed::Refused, _) => true,
    }
}

/// One state of a session: a provider may give the same refresh token again and again, but time goes on.
fn key(session: &Session) -> [u8; 32] {
    let text = format!(
        "{}\0{}\0{}",
        session.id,
        session.due,
        session.refresh_token.as_deref().unwrap_or_default()
    );
    let mut key = [0; 32];
    let digest = digest(&SHA256, text.as_bytes());
    for (to, from) in key.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    key
}

/// Renewals of one generation; two are kept.
const RENEWALS_MAX: usize = 4096;
/// How long a provider that failed is left alone with the same session.
const AGAIN: Duration = Duration::from_secs(2);
