//! One worker's connection to a Redis or Valkey.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};

use super::{Ask, Away, PATIENCE, REST};
use crate::snapshot::limit::Counted;
use crate::snapshot::share::Share;

/// The connection, and whether it may be used now.
#[derive(Default)]
pub(super) struct Connection {
    open: RefCell<Option<Open>>,
    /// Nobody asks before this, since the last answer failed.
    rest_until: Cell<Option<Instant>>,
}

struct Open {
    share: Arc<Share>,
    manager: ConnectionManager,
    since: Instant,
}

impl Connection {
    pub(super) async fn spend(
        &self,
        share: &Arc<Share>,
        asks: &[Ask],
        now: Instant,
    ) -> Result<Vec<Counted>, Away> {
        if let Some(until) = self.rest_until.get() {
            if now < until {
                share.tally.skipped.fetch_add(1, Ordering::Relaxed);
                return Err(Away);
            }
            // This request tries; others rest on.
            self.rest_until.set(Some(now + REST));
        }
        let asked = async {
            let manager = self.manager(share, now)?;
            ask(manager, asks).await
        };
        let answer = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err((ErrorKind::Io, "no answer in time").into()),
        };
        match answer {
            Ok(counted) => {
                share.tally.answered.fetch_add(1, Ordering::Relaxed);
                self.rest_until.set(None);
                share.tally.told.store(false, Ordering::Relaxed);
                if share.tally.away.swap(false, Ordering::Relaxed) {
                    tracing::info!("redis answers again, limits are shared");
                }
                Ok(counted)
            }
            Err(error) => {
                share.tally.failed.fetch_add(1, Ordering::Relaxed);
                self.rest_until.set(Some(now + REST));
                self.give_up(now);
                if !share.tally.away.swap(true, Ordering::Relaxed) {
                    // The error tells no URL, and so no password.
                    tracing::warn!(%error, fail = ?share.fail, "redis does not answer, limits are not shared");
                }
                Err(Away)
            }
        }
    }

    /// The connection for these settings; it is made in the background, however long each request waits for it.
    fn manager(&self, share: &Arc<Share>, now: Instant) -> RedisResult<ConnectionManager> {
        let mut open = self.open.borrow_mut();
        if let Some(open) = open.as_ref()
            && Arc::ptr_eq(&open.share, share)
        {
            return Ok(open.manager.clone());
        }
        let client = redis::Client::open(share.url.as_str())?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(CONNECT))
            .set_number_of_retries(1)
            .set_max_delay(REST);
        let manager = ConnectionManager::new_lazy_with_config(client, config)?;
        let (mut first, known) = (manager.clone(), Arc::clone(share));
        tokio::spawn(async move {
            let answer: RedisResult<()> = redis::cmd("PING").query_async(&mut first).await;
            if let Err(error) = answer
                && !known.tally.told.swap(true, Ordering::Relaxed)
            {
                tracing::warn!(%error, "no connection to redis");
            }
        });
        *open = Some(Open {
            share: Arc::clone(share),
            manager: manager.clone(),
            since: now,
        });
        Ok(manager)
    }

    /// A connection that had its time and does not answer is made anew.
    fn give_up(&self, now: Instant) {
        let mut open = self.open.borrow_mut();
        let old = |open: &Open| now.saturating_duration_since(open.since) > CONNECT;
        if open.as_ref().is_some_and(old) {
            *open = None;
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("open", &self.open.borrow().is_some())
            .field("rest_until", &self.rest_until)
            .finish()
    }
}

async fn ask(mut manager: ConnectionManager, asks: &[Ask]) -> RedisResult<Vec<Counted>> {
    let sent = commands("EVALSHA", &script_digest(), asks);
    let answers: RedisResult<Vec<(u8, u64, u64)>> = sent.query_async(&mut manager).await;
    let answers = match answers {
        // The server does not know the script, or no longer.
        Err(error) if unknown_script(&error) => {
            let sent = commands("EVAL", SCRIPT, asks);
            sent.query_async(&mut manager).await?
        }
        answers => answers?,
    };
    if answers.len() != asks.len() {
        return Err((ErrorKind::UnexpectedReturnType, "another number of answers").into());
    }
    let counted = answers.into_iter().map(|(passes, left, micros)| {
        let time = Duration::from_micros(micros);
        if passes == 1 {
            Counted::Passed {
                left,
                reset: time,
                held: None,
            }
        } else {
            Counted::Full(time)
        }
    });
    Ok(counted.collect())
}

fn commands(command: &str, script: &str, asks: &[Ask]) -> redis::Pipeline {
    let mut pipeline = redis::pipe();
    for ask in asks {
        let mut key = format!("portcullis:limit:{}:", ask.limit);
        for byte in ask.key {
            // Writing to a string cannot fail.
            let _never = write!(key, "{byte:02x}");
        }
        pipeline
            .cmd(command)
            .arg(script)
            .arg(1)
            .arg(key)
            .arg(micros(ask.quota.interval))
            .arg(micros(ask.quota.depth));
    }
    pipeline
}

/// Nanoseconds as microseconds with a part.
fn micros(nanos: u64) -> String {
    format!("{}.{:03}", nanos / 1000, nanos % 1000)
}

fn unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// What `EVALSHA` calls the script.
fn script_digest() -> String {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, SCRIPT.as_bytes());
    digest
        .as_ref()
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _never = write!(text, "{byte:02x}");
            text
        })
}

const SCRIPT: &str = include_str!("rate.lua");

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
