//! Every default number of a setting, with its unit and its reason. The key tables of [`super::raw`] show the same defaults
//! as text; a test holds the two equal.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::identity::failures::Settings;
use crate::snapshot::Limits;

/// Bounds of what clients may use.
pub const LIMITS: Limits = Limits {
    // About 16 KiB each while idle: some 320 MiB at worst.
    connections: 20_000,
    // A large office behind one address stays below; a single machine cannot take them all.
    connections_per_client: 1000,
    // Twice what browsers send with many cookies; nginx gives 4 buffers of 8 KiB.
    header_size: 32 << 10,
    // As Apache's LimitRequestFields.
    header_count: 100,
    // As nginx: one buffer of 8 KiB.
    target_length: 8192,
    // A slow phone manages in a second or two; a drip-feeding client does not hold a connection.
    header_timeout: Duration::from_secs(30),
    // Between two reads, not the whole body: large uploads over slow lines pass.
    body_timeout: Duration::from_secs(30),
    // Bodies are streamed, so this bounds the upstream's disk, not our memory.
    body_size: 1 << 30,
    // As nginx's keepalive_timeout.
    idle_timeout: Duration::from_secs(75),
    // WebSockets and event streams are silent for long; most send a ping within minutes.
    stream_idle_timeout: Duration::from_secs(3600),
    // Browsers open at most 100; RFC 9113 §6.5.2 asks for no fewer.
    h2_streams: 200,
};

/// Failed sign-ins of one client network: nobody types twenty wrong passwords in a minute, and at twenty a minute a word of
/// four letters takes two weeks.
pub const BRUTE_FORCE: Settings = Settings {
    failures: 20,
    per: Duration::from_secs(60),
    hold: Duration::from_secs(60),
};

/// How long TERM waits for requests in flight: as Kubernetes waits before it kills.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Time to connect to an upstream: one lost SYN (1 s) and its second try (2 s more) fit.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time to an upstream's response head: as nginx's proxy_read_timeout.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Idle connections kept to an upstream, all workers together.
pub const IDLE_CONNECTIONS: usize = 64;

/// Tries after the first: enough for a pooled connection that the upstream closed meanwhile.
pub const RETRIES: u32 = 1;

/// Failures in a row that leave a server out: more than a restart of one worker process behind it makes.
pub const EJECT_FAILURES: u32 = 5;

/// How long a server is left out: long enough for a restart, short enough to be tried again soon.
pub const EJECT_FOR: Duration = Duration::from_secs(10);

/// How often a server is asked whether it lives.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// How long its answer may take.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// Good answers in a row that bring a server back, as HAProxy.
pub const HEALTH_RISE: u32 = 2;

/// Bad answers in a row that take it out, as HAProxy.
pub const HEALTH_FALL: u32 = 3;

/// The status of a redirect that names none: temporary, since a permanent one is hard to take back.
pub const REDIRECT: http::StatusCode = http::StatusCode::FOUND;

/// Where a running instance is reached: `/run/portcullis/admin.sock`, or `admin.sock` in the working folder where
/// `/run/portcullis` does not exist.
#[must_use]
pub fn admin_socket() -> PathBuf {
    let folder = Path::new("/run/portcullis");
    if folder.is_dir() {
        folder.join("admin.sock")
    } else {
        PathBuf::from("admin.sock")
    }
}

/// Where accounts at ACME authorities and their certificates are kept: `/var/lib/portcullis/acme`, or `acme` in the working
/// folder where `/var/lib/portcullis` does not exist.
#[must_use]
pub fn acme_storage() -> PathBuf {
    let folder = Path::new("/var/lib/portcullis");
    if folder.is_dir() {
        folder.join("acme")
    } else {
        PathBuf::from("acme")
    }
}

/// The directory of Let's Encrypt, and of its staging environment.
pub const LETSENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// See [`LETSENCRYPT`].
pub const LETSENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// One worker per core that this process may use.
#[must_use]
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]
    use super::*;
    use crate::config::raw::{self, Presence};
    use crate::value::duration::show;
    use crate::value::size::Size;

    #[test]
    fn the_key_tables_show_these_defaults() {
        let quoted = |text: String| format!("\"{text}\"");
        let time = |duration| quoted(show(duration));
        for (section, key, want) in [
            ("limits", "connections", LIMITS.connections.to_string()),
            (
                "limits",
                "connections_per_client",
                LIMITS.connections_per_client.to_string(),
            ),
            (
                "limits",
                "header_size",
                quoted(Size(LIMITS.header_size as u64).to_string()),
            ),
            ("limits", "header_count", LIMITS.header_count.to_string()),
            ("limits", "target_length", LIMITS.target_length.to_string()),
            ("limits", "header_timeout", time(LIMITS.header_timeout)),
            ("limits", "body_timeout", time(LIMITS.body_timeout)),
            (
                "limits",
                "body_size",
                quoted(Size(LIMITS.body_size).to_string()),
            ),
            // Shown as 1min15s, written as nginx users know it.
            ("limits", "idle_timeout", "\"75s\"".to_owned()),
            (
                "limits",
                "stream_idle_timeout",
                time(LIMITS.stream_idle_timeout),
            ),
            ("limits", "h2_streams", LIMITS.h2_streams.to_string()),
            ("server", "drain_timeout", time(DRAIN_TIMEOUT)),
            ("upstream", "connect_timeout", time(CONNECT_TIMEOUT)),
            ("upstream", "response_timeout", "\"60s\"".to_owned()),
            ("upstream", "idle_connections", IDLE_CONNECTIONS.to_string()),
            ("upstream", "retries", RETRIES.to_string()),
            ("eject", "failures", EJECT_FAILURES.to_string()),
            ("eject", "for", time(EJECT_FOR)),
            ("health", "interval", time(HEALTH_INTERVAL)),
            ("health", "timeout", time(HEALTH_TIMEOUT)),
            ("health", "rise", HEALTH_RISE.to_string()),
            ("health", "fall", HEALTH_FALL.to_string()),
            ("redirect", "status", REDIRECT.as_u16().to_string()),
        ] {
            let mut shown = None;
            raw::each_section(&raw::ROOT, &mut |table| {
                if table.id == section {
                    shown = table.key(key).map(|key| key.presence);
                }
            });
            let Some(Presence::Default(text)) = shown else {
                panic!("{section}.{key} shows no default");
            };
            assert_eq!(text, want, "{section}.{key}");
        }
        assert_eq!(LIMITS.idle_timeout.as_secs(), 75);
        assert_eq!(RESPONSE_TIMEOUT.as_secs(), 60);
    }
}
