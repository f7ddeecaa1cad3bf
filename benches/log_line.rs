//! What one access-log line costs: formatting alone, and through a worker's buffer to a file.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench may stop at the first surprise"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Version};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use portcullis::observe::access_log::Logger;
use portcullis::observe::format::Formatter;
use portcullis::observe::record::{AnsweredBy, Decided, Record, Rule, UpstreamPart};
use portcullis::policy::facts::Scheme;
use portcullis::snapshot::log::{AccessLog, COMBINED, Destination, Format, Privacy, Template};
use portcullis::value::country::Country;
use portcullis::value::reason::Reason;
use portcullis::value::region::Region;
use portcullis::value::source::Source;

fn allowed() -> Record {
    let mut record = Record::new(
        Timestamp::from_microsecond(1_795_514_400_123_456).unwrap(),
        Instant::now(),
        HeaderValue::from_static("019abc12-7def-7a3b-8c4d-0123456789ab"),
        "203.0.113.9:40312".parse().unwrap(),
    );
    record.client = Some("203.0.113.9".parse().unwrap());
    record.method = Some(Method::GET);
    record.host = Some("app.example.com".into());
    record.scheme = Some(Scheme::Http);
    record.target = Some(PathAndQuery::from_static("/api/v1/orders?page=2&sort=date"));
    record.version = Some(Version::HTTP_11);
    record.response_body = 5120;
    record.status = 200;
    record.answered_by = AnsweredBy::Upstream;
    record.decision = Some(Decided::Allow);
    record.rule = Some(Rule {
        name: Arc::from("app.example.com/**#1"),
        source: Source {
            file: Arc::from("portcullis.toml"),
            line: 12,
        },
    });
    record.region = Some(Region {
        country: Some(Country(*b"NL")),
        ..Region::default()
    });
    record.site = Some(Arc::from("app.example.com"));
    record.route = Some(Arc::from("/**"));
    record.upstream = Some(UpstreamPart {
        address: Some(Arc::from("127.0.0.1:3000")),
        status: Some(200),
        response: Some(Duration::from_micros(850)),
        ..UpstreamPart::new(Arc::from("app"))
    });
    record.duration = Duration::from_micros(1_042);
    record.policy_duration = Some(Duration::from_nanos(900));
    record.user_agent = Some(HeaderValue::from_static(
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    ));
    record.referer = Some(HeaderValue::from_static("https://app.example.com/orders"));
    record.generation = Some(1);
    record
}

fn denied() -> Record {
    let mut record = allowed();
    record.status = 451;
    record.answered_by = AnsweredBy::Policy;
    record.decision = Some(Decided::Deny);
    record.reason = Some(Reason::fixed("region_restricted"));
    record.upstream = None;
    record
}

fn log_line(c: &mut Criterion) {
    let json = AccessLog::new(Destination::Stdout, Format::Json);
    let combined = Format::Template(Template::parse(COMBINED).unwrap());
    let combined = AccessLog::new(Destination::Stdout, combined);
    let hashed = AccessLog {
        privacy: Privacy::HashDaily,
        ..json.clone()
    };
    let (allowed, denied) = (allowed(), denied());
    let mut group = c.benchmark_group("log_line");
    for (name, record, log) in [
        ("json_allowed", &allowed, &json),
        ("json_denied", &denied, &json),
        ("json_allowed_hashed", &allowed, &hashed),
        ("combined_allowed", &allowed, &combined),
    ] {
        let mut formatter = Formatter::new(TimeZone::UTC);
        let mut out = Vec::with_capacity(4096);
        formatter.line(record, log, &mut out);
        group.throughput(Throughput::Bytes(u64::try_from(out.len()).unwrap()));
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                formatter.line(black_box(record), log, &mut out);
                black_box(out.len())
            });
        });
    }

    // With the filter, the buffer, the hand-over and a writer thread that writes to nowhere.
    let nowhere = AccessLog {
        destination: Destination::File("/dev/null".into()),
        ..json
    };
    let logs = [Arc::new(nowhere)];
    let logger = Logger::new();
    logger.configure(&logs).unwrap();
    let mut worker = logger.worker();
    group.bench_function("worker_json_allowed", |b| {
        b.iter(|| worker.write(black_box(&allowed), &logs));
    });
    drop(worker);
    logger.shutdown();
    group.finish();
}

criterion_group!(benches, log_line);
criterion_main!(benches);
