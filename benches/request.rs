//! The steps of a request around the decision: target, ids, client address, header rewrite, a refusal's answer.
//!
//! First what each allocates, then the usual criterion figures.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may stop at the first surprise, and prints its table"
)]

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use portcullis::client::address::{Header, Trust};
use portcullis::proxy::headers::{Hop, strip_request};
use portcullis::proxy::request_id::Ids;
use portcullis::respond::{self, Asker, Notice};
use portcullis::snapshot::notice::{Denial, Pages};
use portcullis::value::hop::strip_response;
use portcullis::value::path::Target;
use portcullis::value::reason::Reason;

/// What a browser sends through one load balancer.
fn head() -> HeaderMap {
    [
        ("host", "app.example.com"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        ),
        ("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
        ("accept-language", "nl,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br"),
        ("connection", "keep-alive"),
        ("cookie", "sid=0123456789abcdef; theme=dark"),
        ("x-forwarded-for", "203.0.113.9, 10.0.0.7"),
        ("x-forwarded-proto", "https"),
    ]
    .map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    })
    .into_iter()
    .collect()
}

fn answer_head() -> HeaderMap {
    [
        ("server", "app"),
        ("date", "Tue, 24 Nov 2026 12:00:00 GMT"),
        ("content-type", "application/json"),
        ("content-length", "1024"),
        ("connection", "keep-alive"),
        ("etag", "\"5f-2a\""),
        ("cache-control", "private"),
    ]
    .map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    })
    .into_iter()
    .collect()
}

fn allocated(name: &str, work: impl FnOnce()) {
    let spent = allocation_counter::measure(work);
    println!(
        "| {name} | {} allocations | {} bytes |",
        spent.count_total, spent.bytes_total
    );
}

fn steps(c: &mut Criterion) {
    let trusted = [
        "10.0.0.0/8".parse().unwrap(),
        "2001:db8::/32".parse().unwrap(),
    ];
    let trust = Trust::new(&trusted, Header::XForwardedFor);
    let peer: IpAddr = "10.0.0.8".parse().unwrap();
    let (head, answer) = (head(), answer_head());
    let extra = [HeaderName::from_static("x-citizen")];
    let (denial, pages) = (Denial::default(), Pages::default());
    let reason = Reason::fixed("region_restricted");
    let notice = Notice::new(StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS, &reason);
    let json = HeaderMap::new();
    let asker = |headers| Asker {
        method: &Method::GET,
        headers,
        api: false,
        denial: &denial,
        pages: &pages,
        default_language: None,
        cors: None,
        request_id: "019abc12-7def-7a3b-8c4d-0123456789ab",
        now: Timestamp::UNIX_EPOCH,
    };
    let plain = "/api/v7/orders/items/1?page=2";
    let odd = "/Api/v7/a%20b/..;x/1?page=2".replace("..;", "a;");

    println!("| step | allocations | bytes |\n|---|---|---|");
    allocated("target, plain", || drop(black_box(Target::read(plain))));
    allocated("target, two readings", || {
        drop(black_box(Target::read(&odd)))
    });
    allocated("request id and trace", || {
        drop(black_box(Ids::of(
            &head,
            false,
            jiff::Timestamp::UNIX_EPOCH,
        )))
    });
    allocated("client address", || {
        let _ = black_box(trust.derive(peer, &head));
    });
    let mut copy = head.clone();
    allocated("request headers", || {
        strip_request(&mut copy, &extra, &[], Hop::Ends)
    });
    let mut copy = answer.clone();
    allocated("response headers", || strip_response(&mut copy));
    allocated("refusal as JSON", || {
        drop(black_box(respond::answer(&notice, &asker(&json))));
    });
    allocated("refusal as a page", || {
        drop(black_box(respond::answer(&notice, &asker(&head))));
    });

    let mut group = c.benchmark_group("request");
    group.bench_function("target, plain", |b| {
        b.iter(|| Target::read(black_box(plain)).is_ok());
    });
    group.bench_function("target, two readings", |b| {
        b.iter(|| Target::read(black_box(&odd)).is_ok());
    });
    group.bench_function("request id and trace", |b| {
        b.iter(|| Ids::of(black_box(&head), false, jiff::Timestamp::UNIX_EPOCH));
    });
    group.bench_function("client address", |b| {
        b.iter(|| trust.derive(black_box(peer), &head).is_ok());
    });
    group.bench_function("request headers", |b| {
        b.iter_batched_ref(
            || head.clone(),
            |head| strip_request(head, &extra, &[], Hop::Ends),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("response headers", |b| {
        b.iter_batched_ref(|| answer.clone(), strip_response, BatchSize::SmallInput);
    });
    group.bench_function("refusal as JSON", |b| {
        b.iter(|| respond::answer(black_box(&notice), &asker(&json)));
    });
    group.bench_function("refusal as a page", |b| {
        b.iter(|| respond::answer(black_box(&notice), &asker(&head)));
    });
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
