#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]
//! Which endpoints are picked, as what is known of them changes.

use std::time::Duration;

use super::*;
use crate::snapshot::{Codec, Eject, Health, UpstreamServer};
use crate::upstream::h1::wire::Wire;

/// Servers with these weights; a weight of 0 is a backup.
fn upstream(weights: &[u32], change: impl FnOnce(&mut Upstream)) -> Arc<Upstream> {
    let server = |(place, weight): (usize, &u32)| {
        let address = format!("127.0.0.1:{}", place + 1);
        UpstreamServer {
            url: format!("http://{address}").into(),
            address: crate::snapshot::Endpoint::Address(address.parse().unwrap()),
            tls: None,
            authority: address.into(),
            weight: (*weight).max(1),
            backup: *weight == 0,
        }
    };
    let second = Duration::from_secs(1);
    let mut upstream = Upstream {
        name: "app".into(),
        servers: weights.iter().enumerate().map(server).collect(),
        connect_timeout: second,
        response_timeout: second,
        idle_connections: 8,
        retries: 1,
        tls: None,
        codec: Codec::Lean,
        balance: Balance::RoundRobin,
        eject: None,
        slow_start: None,
        max_connections: None,
        queue: 0,
        health: Some(Health {
            path: "/".into(),
            interval: second,
            timeout: second,
            rise: 1,
            fall: 1,
        }),
        proxy_protocol: None,
    };
    change(&mut upstream);
    Arc::new(upstream)
}

/// Who gets the next so many requests, by the last digit of its port.
fn turns(pool: &Pool, count: usize) -> String {
    (0..count)
        .map(|_| match pool.find(&Wish::Next, &[], Ahead::Respect) {
            Found::Seat(seat) => seat.member.endpoint.label.chars().last().unwrap(),
            Found::Full => 'f',
            Found::Nobody => '-',
        })
        .collect()
}

#[test]
fn the_best_that_there_is_is_used() {
    for (down, drained, want, why) in [
        (&[][..], &[][..], "1212", "the backup rests"),
        (&[0], &[], "2222", "one is ill"),
        (&[0, 1], &[], "3333", "the backup steps in"),
        (
            &[0, 1, 2],
            &[],
            "1212",
            "all are ill: better those than none",
        ),
        (&[0, 1, 2], &[0], "2222", "but a drained one gets nothing"),
        (&[0, 1], &[2], "1212", "the backup is drained"),
        (&[2], &[0, 1], "3333", "only an ill backup is left"),
        (&[], &[0, 1, 2], "----", "all are drained"),
    ] {
        let pools = Pools::default();
        let pool = pools.of(&upstream(&[1, 1, 0], |_| {}));
        let endpoints = pool.group.endpoints();
        for place in down {
            pool.group.set_down(&endpoints[*place], true);
        }
        for place in drained {
            let label = &endpoints[*place].label;
            let drain = crate::upstream::registry::Drain::Out;
            pools.registry.drain("app", label, drain).unwrap();
        }
        pools.sweep(Instant::now());
        assert_eq!(turns(&pool, 4), want, "{why}");
    }
}

#[test]
fn a_server_that_returns_begins_with_a_tenth() {
    let pools = Pools::default();
    let slow = |upstream: &mut Upstream| upstream.slow_start = Some(Duration::from_secs(3600));
    let pool = pools.of(&upstream(&[1, 1], slow));
    assert_eq!(
        turns(&pool, 4),
        "1212",
        "at the start of the process nobody returns"
    );
    let endpoint = &pool.group.endpoints()[1];
    pool.group.set_down(endpoint, true);
    pools.sweep(Instant::now());
    pool.group.set_down(endpoint, false);
    pools.sweep(Instant::now());
    let got = turns(&pool, 22);
    assert_eq!(got.matches('2').count(), 2, "{got}");
}

#[test]
fn a_reload_keeps_connections_only_where_they_are_of_use() {
    type Change = fn(&mut Upstream);
    for (change, want, why) in [
        ((|_| {}) as Change, true, "nothing changed"),
        (|to| to.servers[0].weight = 7, true, "another share"),
        (|to| to.idle_connections = 0, false, "none are kept"),
        (
            |to| to.proxy_protocol = Some(crate::snapshot::ProxyVersion::V1),
            false,
            "they have not said who the client is",
        ),
        (|to| to.codec = Codec::Hyper, false, "another client"),
        (|to| drop(to.servers.remove(0)), false, "the server is gone"),
    ] {
        let pools = Pools::default();
        let before = pools.of(&upstream(&[1, 1], |_| {}));
        let member = before.only();
        let (io, _other) = tokio::io::duplex(1);
        let io = crate::upstream::io::UpstreamIo::Demo(io);
        member.check_in_lean(Box::new(Wire::new(io, Instant::now())));
        let after = upstream(&[1, 1], change);
        // As a reload does, before it publishes.
        pools.registry.of(&after).arrange(&after);
        let pool = pools.of(&after);
        pool.size.set(after.idle_connections);
        pool.rebuild();
        assert_eq!(pool.only().check_out_lean().is_some(), want, "{why}");
    }
}

#[test]
fn an_ejected_server_returns_without_credit() {
    let pools = Pools::default();
    let eject = |upstream: &mut Upstream| {
        upstream.eject = Some(Eject {
            failures: 3,
            period: Duration::ZERO,
        });
    };
    let pool = pools.of(&upstream(&[1, 1], eject));
    let member = pool.only();
    let ejections = || member.endpoint.state.ejections();
    for (fails, want, why) in [
        (true, 0, "once"),
        (true, 0, "twice"),
        (false, 0, "an answer in between"),
        (true, 0, "once"),
        (true, 0, "twice"),
        (true, 1, "three times in a row"),
        (true, 2, "its first failure after that"),
        (false, 2, "an answer: all is forgiven"),
        (true, 2, "once"),
    ] {
        if fails {
            pool.failed(&member);
        } else {
            pool.succeeded(&member);
        }
        assert_eq!(ejections(), want, "{why}");
    }
}
