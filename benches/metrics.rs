//! What a request's end costs beside its log line: counting it, and keeping it for `explain`.
//!
//! Instructions are steadier than time: `valgrind --tool=callgrind --toggle-collect='*WorkerMetrics::close*'` in front of
//! this binary with `--test`, and its total by 10 000 calls.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench may stop at the first surprise"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use jiff::Timestamp;
use portcullis::config::{Input, Memory, load};
use portcullis::observe::metrics::Metrics;
use portcullis::observe::metrics::text::Page;
use portcullis::observe::record::{AnsweredBy, Decided, Record, Rule, UpstreamPart};
use portcullis::observe::ring::{Ring, Seen};
use portcullis::policy::{Decision, Place, RouteId, RuleId, SiteId, Verdict};
use portcullis::snapshot::store::{Handle, Lease, Publisher};
use portcullis::value::source::Source;

/// A request that the upstream answered.
struct Ended {
    site: Arc<str>,
    upstream: Arc<str>,
    rule: Rule,
}

impl Ended {
    fn new() -> Self {
        Self {
            site: Arc::from("app.example.com"),
            upstream: Arc::from("app"),
            rule: Rule {
                name: Arc::from("app.example.com/**#1"),
                source: Source {
                    file: Arc::from("portcullis.toml"),
                    line: 12,
                },
            },
        }
    }

    fn record(&self) -> Record {
        let mut record = Record::new(
            Timestamp::UNIX_EPOCH,
            Instant::now(),
            HeaderValue::from_static("019abc12-7def-7a3b-8c4d-0123456789ab"),
            "203.0.113.9:40312".parse().unwrap(),
        );
        record.client = Some("203.0.113.9".parse().unwrap());
        record.method = Some(Method::GET);
        record.host = Some("app.example.com".into());
        record.target = Some(PathAndQuery::from_static("/api/v1/orders"));
        record.status = 200;
        record.answered_by = AnsweredBy::Upstream;
        record.decision = Some(Decided::Allow);
        record.rule = Some(self.rule.clone());
        record.site = Some(Arc::clone(&self.site));
        record.upstream = Some(UpstreamPart {
            status: Some(200),
            response: Some(Duration::from_micros(850)),
            ..UpstreamPart::new(Arc::clone(&self.upstream))
        });
        record.duration = Duration::from_micros(1_042);
        record.generation = Some(1);
        record
    }
}

const PLACE: Place = Place {
    site: Some(SiteId(0)),
    route: Some(RouteId(0)),
};

const DECISION: Decision = Decision {
    verdict: Verdict::Allow,
    rule: Some(RuleId(3)),
};

fn lease() -> Lease {
    let input = Input::Text {
        name: "portcullis.toml".to_owned(),
        text: include_str!("../config/portcullis.toml").to_owned(),
        folder: std::path::PathBuf::new(),
    };
    let loaded = load(input, Memory::default(), 1, Timestamp::now());
    let publisher = Publisher::new(Arc::new(loaded.snapshot.unwrap()));
    Handle::new(publisher.subscribe()).current().clone()
}

fn counted(c: &mut Criterion) {
    let metrics = Metrics::new(Timestamp::now());
    let worker = metrics.worker();
    let ended = Ended::new();
    let record = ended.record();
    c.bench_function("count one request", |b| {
        b.iter(|| worker.close(black_box(&record), PLACE, Some(DECISION)));
    });
    for _ in 0..10_000 {
        worker.close(black_box(&record), PLACE, Some(DECISION));
    }
    c.bench_function("scrape one site", |b| {
        b.iter(|| {
            let mut page = Page::default();
            metrics.write(&mut page);
            page.finish()
        });
    });
}

fn kept(c: &mut Criterion) {
    let ended = Ended::new();
    let lease = lease();
    let mut ring = Ring::default();
    let seen = || Seen {
        place: PLACE,
        decision: Some(DECISION),
        ..Seen::default()
    };
    for _ in 0..10_000 {
        ring.keep(&mut ended.record(), &mut seen(), &lease);
    }
    // Dropping the record is part of both: what the ring takes from one is dropped with the slot's next.
    c.bench_function("end a request, unkept", |b| {
        b.iter_batched(|| ended.record(), drop, BatchSize::SmallInput);
    });
    c.bench_function("end a request, kept", |b| {
        b.iter_batched(
            || (ended.record(), seen()),
            |(mut record, mut seen)| ring.keep(&mut record, &mut seen, &lease),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, counted, kept);
criterion_main!(benches);
