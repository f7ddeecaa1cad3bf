#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use std::time::{Duration, Instant};

use http::HeaderValue;

use super::text::{Kind, Page};
use super::*;
use crate::observe::record::{Rule, UpstreamPart};
use crate::policy::{RefusalId, RuleId, SiteId};
use crate::value::reason::Reason;
use crate::value::source::Source;

fn record(status: u16) -> Record {
    let mut record = Record::new(
        Timestamp::UNIX_EPOCH,
        Instant::now(),
        HeaderValue::from_static("id"),
        "192.0.2.1:1".parse().unwrap(),
    );
    record.method = Some(Method::GET);
    record.status = status;
    record.generation = Some(1);
    record
}

fn denied(site: &Arc<str>, rule: &str, reason: &'static str) -> Record {
    let mut record = record(403);
    record.site = Some(Arc::clone(site));
    record.answered_by = AnsweredBy::Policy;
    record.decision = Some(Decided::Deny);
    record.reason = Some(Reason::fixed(reason));
    record.rule = Some(Rule {
        name: rule.into(),
        source: Source {
            file: "x".into(),
            line: 1,
        },
    });
    record
}

fn refusal(rule: u32, refusal: u32) -> Option<Decision> {
    Some(Decision {
        verdict: Verdict::Refuse(RefusalId(refusal)),
        rule: Some(RuleId(rule)),
    })
}

fn at(site: u32) -> Place {
    Place {
        site: Some(SiteId(site)),
        route: None,
    }
}

fn page(metrics: &Metrics) -> String {
    let mut page = Page::default();
    metrics.write(&mut page);
    page.finish()
}

#[track_caller]
fn has(page: &str, line: &str) {
    assert!(
        page.lines().any(|other| other == line),
        "{line}\nin\n{page}"
    );
}

#[test]
fn workers_are_added_up() {
    let metrics = Metrics::new(Timestamp::UNIX_EPOCH);
    let workers = [metrics.worker(), metrics.worker()];
    let site: Arc<str> = "app".into();
    for worker in workers.iter().chain(&workers) {
        worker.accepted();
        worker.opened();
        worker.close(&denied(&site, "blocked", "forbidden"), at(0), refusal(3, 1));
    }
    workers[0].opened();
    workers[1].closed(Closed::Limit);
    workers[1].unread(&record(503));
    let page = page(&metrics);
    for line in [
        "portcullis_http_requests_total{site=\"app\",method=\"GET\",code=\"403\",source=\"policy\"} 4",
        "portcullis_http_requests_total{site=\"\",method=\"GET\",code=\"503\",source=\"proxy\"} 1",
        "portcullis_policy_decisions_total{site=\"app\",rule=\"blocked\",decision=\"deny\",reason=\"forbidden\",mode=\"enforce\"} 4",
        "portcullis_http_request_duration_seconds_count{site=\"app\",source=\"policy\"} 4",
        "portcullis_connections_accepted_total 4",
        "portcullis_connections_refused_total{reason=\"limit\"} 1",
        "portcullis_http_requests_in_flight 1",
    ] {
        has(&page, line);
    }
}

#[test]
fn numbers_of_an_old_generation_are_not_mistaken_for_new_ones() {
    let metrics = Metrics::default();
    let worker = metrics.worker();
    let (old, new): (Arc<str>, Arc<str>) = ("old".into(), "new".into());
    worker.close(&denied(&old, "a", "forbidden"), at(0), refusal(0, 0));
    let mut next = denied(&new, "b", "gone");
    next.generation = Some(2);
    worker.close(&next, at(0), refusal(0, 0));
    worker.close(&next, at(0), refusal(0, 0));
    // It began before the reload and ends after it.
    worker.close(&denied(&old, "a", "forbidden"), at(0), refusal(0, 0));
    // The same name under another number: one series goes on.
    let mut moved = denied(&old, "a", "forbidden");
    moved.generation = Some(3);
    worker.close(&moved, at(7), refusal(9, 9));
    let page = page(&metrics);
    for (site, rule, reason, count) in [("old", "a", "forbidden", 3), ("new", "b", "gone", 2)] {
        has(
            &page,
            &format!(
                "portcullis_policy_decisions_total{{site=\"{site}\",rule=\"{rule}\",decision=\"deny\",reason=\"{reason}\",mode=\"enforce\"}} {count}"
            ),
        );
        has(
            &page,
            &format!(
                "portcullis_http_requests_total{{site=\"{site}\",method=\"GET\",code=\"403\",source=\"policy\"}} {count}"
            ),
        );
    }
}

#[test]
fn clients_make_no_labels() {
    let metrics = Metrics::default();
    let worker = metrics.worker();
    for (method, status, want_method, want_code) in [
        (Some("BREW"), 299, "other", "2xx"),
        (Some("get"), 200, "other", "200"),
        (Some("DELETE"), 599, "DELETE", "599"),
        (Some("GET"), 999, "GET", "other"),
        (Some("POST"), 7, "POST", "other"),
        (Some("HEAD"), 451, "HEAD", "451"),
        (None, 400, "other", "400"),
    ] {
        let mut record = record(status);
        record.method = method.map(|method| method.parse().unwrap());
        worker.unread(&record);
        has(
            &page(&metrics),
            &format!(
                "portcullis_http_requests_total{{site=\"\",method=\"{want_method}\",code=\"{want_code}\",source=\"proxy\"}} 1"
            ),
        );
    }
}

#[test]
fn durations_fall_into_their_buckets() {
    let metrics = Metrics::default();
    let worker = metrics.worker();
    for millis in [0, 5, 6, 10_000, 10_001] {
        let mut record = record(200);
        record.duration = Duration::from_millis(millis);
        worker.unread(&record);
    }
    let page = page(&metrics);
    let name = "portcullis_http_request_duration_seconds";
    for (bound, count) in [
        ("0.005", 2),
        ("0.01", 3),
        ("7.5", 3),
        ("10", 4),
        ("+Inf", 5),
    ] {
        has(
            &page,
            &format!("{name}_bucket{{site=\"\",source=\"proxy\",le=\"{bound}\"}} {count}"),
        );
    }
    has(
        &page,
        &format!("{name}_sum{{site=\"\",source=\"proxy\"}} 20.012000000"),
    );
}

#[test]
fn upstreams_are_counted_by_answer_and_by_what_went_wrong() {
    let metrics = Metrics::default();
    let worker = metrics.worker();
    let name: Arc<str> = "app".into();
    let ask = |status, error, client: bool| {
        let mut record = record(if client { 408 } else { 502 });
        record.upstream = Some(UpstreamPart {
            status,
            retries: 1,
            response: status.map(|_| Duration::from_millis(1)),
            ..UpstreamPart::new(Arc::clone(&name))
        });
        record.error = error;
        worker.unread(&record);
    };
    ask(Some(200), None, false);
    ask(Some(200), None, false);
    ask(None, Some("connect_refused"), false);
    ask(None, Some("body_timeout"), true);
    let page = page(&metrics);
    for line in [
        "portcullis_upstream_requests_total{upstream=\"app\",code=\"200\"} 2",
        "portcullis_upstream_requests_total{upstream=\"app\",code=\"none\"} 2",
        "portcullis_upstream_errors_total{upstream=\"app\",error=\"connect_refused\"} 1",
        "portcullis_upstream_errors_total{upstream=\"app\",error=\"connect_timeout\"} 0",
        "portcullis_upstream_retries_total{upstream=\"app\"} 4",
        "portcullis_upstream_response_duration_seconds_count{upstream=\"app\"} 2",
    ] {
        has(&page, line);
    }
}

#[test]
fn labels_are_escaped() {
    let mut page = Page::default();
    page.family("x", Kind::Gauge, "What x is.");
    page.sample("x", &[("a", "q\"b\\n\nend"), ("b", "")], 1);
    page.sample("x", &[], 2.5);
    assert_eq!(
        page.finish(),
        "# HELP x What x is.\n# TYPE x gauge\nx{a=\"q\\\"b\\\\n\\nend\",b=\"\"} 1\nx 2.5\n"
    );
}

#[test]
fn every_code_has_its_own_place() {
    let mut codes = CODE_LIST.to_vec();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), CODE_LIST.len(), "a code stands twice");
    assert!(SLOTS.iter().all(|slot| usize::from(*slot) < CODES));
}
