//! Finds out about endpoints, on a thread of its own: what names resolve to, and whether servers live.
//!
//! Names are asked for every ten seconds through the system's resolver, which does not tell how long an answer may be kept. A
//! name that does not resolve keeps its last addresses.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use http::{Request, Uri, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet, LocalSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::body::RequestBody;
use super::connect::{Offer, connect};
use super::http2;
use super::registry::{Endpoint, Group, Registry};
use crate::snapshot::{self, Codec, Health, Snapshot, Upstream};

/// Runs until nobody publishes snapshots any more.
///
/// # Errors
/// Where the runtime cannot be made.
pub fn run(snapshots: watch::Receiver<Arc<Snapshot>>, registry: &Registry) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, keep(snapshots, registry));
    // A resolver that hangs does not keep the process.
    runtime.shutdown_background();
    Ok(())
}

async fn keep(mut snapshots: watch::Receiver<Arc<Snapshot>>, registry: &Registry) {
    // By the address of the snapshot's upstream, which the watch keeps alive.
    let mut watches: HashMap<usize, Watch> = HashMap::new();
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        let live: Vec<usize> = snapshot.upstreams.iter().map(key).collect();
        watches.retain(|key, _| live.contains(key));
        for upstream in &snapshot.upstreams {
            watches
                .entry(key(upstream))
                .or_insert_with(|| Watch::begin(upstream, registry.of(upstream)));
        }
        drop(snapshot);
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

fn key(upstream: &Arc<Upstream>) -> usize {
    Arc::as_ptr(upstream).addr()
}

/// What is done for one upstream, for as long as this is kept.
struct Watch {
    tasks: [JoinHandle<()>; 2],
    /// So that its address is no other's.
    _upstream: Arc<Upstream>,
}

impl Watch {
    fn begin(upstream: &Arc<Upstream>, group: Arc<Group>) -> Self {
        let resolving = resolve(Arc::clone(upstream), Arc::clone(&group));
        let asking = check(Arc::clone(upstream), group);
        Self {
            tasks: [
                tokio::task::spawn_local(resolving),
                tokio::task::spawn_local(asking),
            ],
            _upstream: Arc::clone(upstream),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Keeps the addresses of names.
async fn resolve(upstream: Arc<Upstream>, group: Arc<Group>) {
    let named =
        |server: &snapshot::UpstreamServer| matches!(server.address, snapshot::Endpoint::Name(..));
    if !upstream.servers.iter().any(named) {
        return;
    }
    let mut turns = interval(RESOLVE_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        for server in &upstream.servers {
            let snapshot::Endpoint::Name(name, port) = &server.address else {
                continue;
            };
            match tokio::net::lookup_host((&**name, *port)).await {
                Ok(addresses) => group.resolved(server, addresses.collect()),
                Err(error) => {
                    tracing::warn!(upstream = %upstream.name, server = %server.url, %error, "name does not resolve; keeping its last addresses");
                }
            }
        }
    }
}

/// Asks every endpoint whether it lives, all at once in each turn.
async fn check(upstream: Arc<Upstream>, group: Arc<Group>) {
    let Some(health) = &upstream.health else {
        return;
    };
    let mut turns = interval(health.interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Answers in a row of each endpoint, by its state: good ones above zero, bad ones below.
    let mut rows: HashMap<usize, i64> = HashMap::new();
    let upstream = Rc::new(Arc::clone(&upstream));
    loop {
        turns.tick().await;
        let endpoints = group.endpoints();
        let mut asked = JoinSet::new();
        for endpoint in endpoints.iter().map(Arc::clone) {
            let upstream = Rc::clone(&upstream);
            asked.spawn_local(async move {
                let good = lives(&upstream, &endpoint).await;
                (endpoint, good)
            });
        }
        let mut seen: HashMap<usize, i64> = HashMap::new();
        while let Some(answer) = asked.join_next().await {
            let Ok((endpoint, good)) = answer else {
                continue;
            };
            endpoint.state.checked(good);
            let key = Arc::as_ptr(&endpoint.state).addr();
            let row = in_a_row(rows.get(&key).copied().unwrap_or_default(), good);
            if let Some(down) = verdict(row, health) {
                group.set_down(&endpoint, down);
            }
            seen.insert(key, row);
        }
        rows = seen;
    }
}

const fn in_a_row(row: i64, good: bool) -> i64 {
    match (good, row > 0) {
        (true, true) => row.saturating_add(1),
        (true, false) => 1,
        (false, true) => -1,
        (false, false) => row.saturating_sub(1),
    }
}

/// Whether so many answers in a row make an endpoint down or up.
fn verdict(row: i64, health: &Health) -> Option<bool> {
    if row >= i64::from(health.rise) {
        Some(false)
    } else if row <= -i64::from(health.fall) {
        Some(true)
    } else {
        None
    }
}

/// One question: a 2xx or 3xx in time is a good answer.
async fn lives(upstream: &Upstream, endpoint: &Endpoint) -> bool {
    let Some(health) = &upstream.health else {
        return true;
    };
    let asking = async {
        let offer = Offer::of(upstream.codec);
        let mut io = connect(upstream, endpoint, None, offer).await.ok()?;
        if upstream.codec == Codec::Http2 || io.speaks_http2() {
            return http2::ask(io, question(upstream, endpoint, health)?).await;
        }
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: portcullis-health\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            health.path, endpoint.server.authority
        );
        io.write_all(request.as_bytes()).await.ok()?;
        io.flush().await.ok()?;
        let mut read = Vec::with_capacity(STATUS_LINE_MAX);
        while read.len() < STATUS_LINE_MAX && !read.contains(&b'\n') {
            if io.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        }
        status(&read)
    };
    let status = timeout(health.timeout, asking).await.ok().flatten();
    let good = status.is_some_and(|status| (200..400).contains(&status));
    if !good {
        tracing::debug!(upstream = %upstream.name, endpoint = %endpoint.label, ?status, "bad health check");
    }
    good
}

/// The same question as HTTP/2 says it.
fn question(
    upstream: &Upstream,
    endpoint: &Endpoint,
    health: &Health,
) -> Option<Request<RequestBody>> {
    let scheme = if upstream.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(&*endpoint.server.authority)
        .path_and_query(&*health.path);
    let mut request = Request::new(RequestBody::Empty);
    *request.uri_mut() = uri.build().ok()?;
    *request.version_mut() = Version::HTTP_2;
    let agent = HeaderValue::from_static("portcullis-health");
    request.headers_mut().insert(USER_AGENT, agent);
    Some(request)
}

/// The code of a status line (RFC 9112 §4).
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let [_minor, b' ', code @ ..] = rest else {
        return None;
    };
    let digits = code.get(..3)?;
    let after = code.get(3)?;
    let ends = [b' ', b'\r', b'\n'].contains(after);
    let text = std::str::from_utf8(digits).ok().filter(|_| ends)?;
    text.parse().ok()
}

/// How often names are asked for.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);
/// A status line is shorter.
const STATUS_LINE_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        for (line, want) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 503\r\n", Some(503)),
            ("HTTP/1.1 20\r\n", None),
            ("HTTP/1.1 2000 x\r\n", None),
            ("HTTP/2 200\r\n", None),
            ("SSH-2.0-OpenSSH\r\n", None),
            ("", None),
        ] {
            assert_eq!(status(line.as_bytes()), want, "{line}");
        }
    }

    #[test]
    fn answers_in_a_row_decide() {
        let health = Health {
            path: "/".into(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        };
        let mut row = 0;
        for (good, want, why) in [
            (false, None, "once"),
            (false, None, "twice"),
            (true, None, "a good one in between"),
            (false, None, "the count begins anew"),
            (false, None, "twice"),
            (false, Some(true), "three times: down"),
            (true, None, "one good answer is not enough"),
            (true, Some(false), "two are"),
        ] {
            row = in_a_row(row, good);
            assert_eq!(verdict(row, &health), want, "{why}");
        }
    }
}
