//! The blocks of all workers added up, as a page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::counter::{BOUNDS, Counter, Sum};
use super::text::{Kind, Page};
use super::{
    Block, By, CLASSES, CLOSED, CODE_LIST, Codes, JUDGED_AGAIN, Labels, METHODS, Metrics, SOURCES,
    UPSTREAM_ERRORS, lock,
};

/// One site, all workers together.
#[derive(Debug, Default)]
struct SiteSum {
    /// By method, source and code, by their places.
    requests: BTreeMap<(usize, usize, usize), u64>,
    durations: [Sum; SOURCES.len()],
    request_bytes: u64,
    response_bytes: u64,
}

/// One upstream, all workers together.
#[derive(Debug, Default)]
struct UpstreamSum {
    codes: BTreeMap<usize, u64>,
    unanswered: u64,
    durations: Sum,
    errors: [u64; UPSTREAM_ERRORS.len()],
    retries: u64,
    connects: u64,
}

#[derive(Debug, Default)]
struct Total {
    sites: BTreeMap<Arc<str>, SiteSum>,
    upstreams: BTreeMap<Arc<str>, UpstreamSum>,
    decisions: BTreeMap<Labels, u64>,
}

impl Metrics {
    /// Writes every family that is counted here.
    pub fn write(&self, page: &mut Page) {
        let workers = lock(&self.0.workers).clone();
        let mut total = Total::default();
        for block in &workers {
            total.add(block);
        }
        requests(&total, page);
        decisions(&total, page);
        self.candidate(page);
        upstreams(&total, page);
        connections(&workers, page);
        self.reloads(page);
    }

    fn candidate(&self, page: &mut Page) {
        let name = "portcullis_policy_candidate_changes_total";
        let help = "Requests that the candidate policy would have answered otherwise, by both rules and decisions.";
        page.family(name, Kind::Counter, help);
        let mut changes = self.changes();
        changes.sort();
        for (change, changed) in changes
            .iter()
            .filter(|(change, _)| change.by == By::Candidate)
        {
            let labels = [
                ("site", &*change.site),
                ("rule", &*change.rule),
                ("decision", change.decision),
                ("candidate_rule", &*change.new_rule),
                ("candidate_decision", change.new_decision),
            ];
            page.sample(name, &labels, changed.count);
        }
    }

    fn reloads(&self, page: &mut Page) {
        let name = "portcullis_config_reloads_total";
        page.family(name, Kind::Counter, "Reloads since the start by result.");
        for (result, counter) in [("applied", &self.0.applied), ("refused", &self.0.refused)] {
            page.sample(name, &[("result", result)], counter.read());
        }
        page.single(
            "portcullis_config_last_reload_success_timestamp_seconds",
            Kind::Gauge,
            "When the configuration in force was loaded.",
            self.0.last_success.load(Ordering::Relaxed),
        );
    }
}

impl Total {
    fn add(&mut self, block: &Block) {
        let series = lock(&block.series);
        for (name, site) in &series.sites {
            let sum = self.sites.entry(Arc::clone(name)).or_default();
            for (place, row) in site.rows.iter().enumerate() {
                let Some(row) = row.get() else { continue };
                let (method, source) = (place / SOURCES.len(), place % SOURCES.len());
                each(row, |code, count| {
                    *sum.requests.entry((method, source, code)).or_default() += count;
                });
            }
            for (sum, durations) in sum.durations.iter_mut().zip(&site.durations) {
                durations.add_to(sum);
            }
            sum.request_bytes += site.request_bytes.read();
            sum.response_bytes += site.response_bytes.read();
        }
        for (name, upstream) in &series.upstreams {
            let sum = self.upstreams.entry(Arc::clone(name)).or_default();
            each(&upstream.codes, |code, count| {
                *sum.codes.entry(code).or_default() += count;
            });
            sum.unanswered += upstream.unanswered.read();
            upstream.durations.add_to(&mut sum.durations);
            for (sum, errors) in sum.errors.iter_mut().zip(&upstream.errors) {
                *sum += errors.read();
            }
            sum.retries += upstream.retries.read();
            sum.connects += upstream.connects.read();
        }
        for (labels, counter) in &series.decisions {
            *self.decisions.entry(labels.clone()).or_default() += counter.read();
        }
    }
}

fn each(codes: &Codes, mut with: impl FnMut(usize, u64)) {
    for (code, counter) in codes.0.iter().enumerate() {
        let count = counter.read();
        if count > 0 {
            with(code, count);
        }
    }
}

fn requests(total: &Total, page: &mut Page) {
    let name = "portcullis_http_requests_total";
    let help = "Requests that ended, by site, method, status code and who answered.";
    page.family(name, Kind::Counter, help);
    for (site, sum) in &total.sites {
        for ((method, source, code), count) in &sum.requests {
            let labels = [
                ("site", &**site),
                ("method", word(&METHODS, *method)),
                ("code", &code_word(*code)),
                ("source", word(&SOURCES, *source)),
            ];
            page.sample(name, &labels, count);
        }
    }
    let name = "portcullis_http_request_duration_seconds";
    let help = "From the first byte of the head to the last byte of the answer.";
    page.family(name, Kind::Histogram, help);
    for (site, sum) in &total.sites {
        for (source, durations) in SOURCES.iter().zip(&sum.durations) {
            histogram(page, name, &[("site", site), ("source", source)], durations);
        }
    }
    let bytes = |name, help, count: fn(&SiteSum) -> u64, page: &mut Page| {
        page.family(name, Kind::Counter, help);
        for (site, sum) in &total.sites {
            page.sample(name, &[("site", &**site)], count(sum));
        }
    };
    bytes(
        "portcullis_http_request_body_bytes_total",
        "Bytes of request bodies.",
        |sum| sum.request_bytes,
        page,
    );
    bytes(
        "portcullis_http_response_body_bytes_total",
        "Bytes of response bodies.",
        |sum| sum.response_bytes,
        page,
    );
}

fn decisions(total: &Total, page: &mut Page) {
    let name = "portcullis_policy_decisions_total";
    let help = "Decisions, by the rule that made them; mode is enforce, or shadow where a rule only watches.";
    page.family(name, Kind::Counter, help);
    for (labels, count) in &total.decisions {
        let labels = [
            ("site", &*labels.site),
            ("rule", &*labels.rule),
            ("decision", labels.decision),
            ("reason", &*labels.reason),
            ("mode", labels.mode),
        ];
        page.sample(name, &labels, count);
    }
}

fn upstreams(total: &Total, page: &mut Page) {
    let name = "portcullis_upstream_requests_total";
    let help =
        "Requests sent upstream, by the status code of the answer; none where there was none.";
    page.family(name, Kind::Counter, help);
    for (upstream, sum) in &total.upstreams {
        for (code, count) in &sum.codes {
            let labels = [("upstream", &**upstream), ("code", &code_word(*code))];
            page.sample(name, &labels, count);
        }
        if sum.unanswered > 0 {
            let labels = [("upstream", &**upstream), ("code", "none")];
            page.sample(name, &labels, sum.unanswered);
        }
    }
    let name = "portcullis_upstream_response_duration_seconds";
    let help = "From the request to the end of the upstream's response head.";
    page.family(name, Kind::Histogram, help);
    for (upstream, sum) in &total.upstreams {
        histogram(page, name, &[("upstream", upstream)], &sum.durations);
    }
    let name = "portcullis_upstream_errors_total";
    let help = "Requests that an upstream failed, by what went wrong.";
    page.family(name, Kind::Counter, help);
    for (upstream, sum) in &total.upstreams {
        for (error, count) in UPSTREAM_ERRORS.iter().zip(sum.errors) {
            page.sample(name, &[("upstream", upstream), ("error", error)], count);
        }
    }
    let name = "portcullis_upstream_retries_total";
    page.family(name, Kind::Counter, "Tries after the first.");
    for (upstream, sum) in &total.upstreams {
        page.sample(name, &[("upstream", upstream)], sum.retries);
    }
    let name = "portcullis_upstream_connects_total";
    let help = "Requests that had to open, or try to open, a connection.";
    page.family(name, Kind::Counter, help);
    for (upstream, sum) in &total.upstreams {
        page.sample(name, &[("upstream", upstream)], sum.connects);
    }
}

fn connections(workers: &[Arc<Block>], page: &mut Page) {
    let sum = |of: fn(&Block) -> &Counter| workers.iter().map(|block| of(block).read()).sum();
    let accepted: u64 = sum(|block| &block.accepted);
    page.single(
        "portcullis_connections_accepted_total",
        Kind::Counter,
        "Client connections accepted from the sockets.",
        accepted,
    );
    let name = "portcullis_connections_refused_total";
    let help = "Connections closed before their first request, by why.";
    page.family(name, Kind::Counter, help);
    for (place, why) in CLOSED.iter().enumerate() {
        let count = workers.iter().filter_map(|block| block.closed.get(place));
        let count: u64 = count.map(Counter::read).sum();
        page.sample(name, &[("reason", why)], count);
    }
    let name = "portcullis_http_requests_judged_again_total";
    let help = "Requests under way that were judged again, by what became of them.";
    page.family(name, Kind::Counter, help);
    for (place, outcome) in JUDGED_AGAIN.iter().enumerate() {
        let count = workers.iter().filter_map(|block| block.again.get(place));
        let count: u64 = count.map(Counter::read).sum();
        page.sample(name, &[("outcome", outcome)], count);
    }
    // Ended before opened is read, so that the difference is never negative.
    let ended: u64 = sum(|block| &block.ended);
    let opened: u64 = sum(|block| &block.opened);
    page.single(
        "portcullis_http_requests_in_flight",
        Kind::Gauge,
        "Requests that have begun and not ended.",
        opened.saturating_sub(ended),
    );
}

fn histogram(page: &mut Page, name: &str, labels: &[(&str, &str)], sum: &Sum) {
    if sum.count() == 0 {
        return;
    }
    let mut count = 0_u64;
    let bounds = BOUNDS.iter().map(|(_, word)| *word).chain(["+Inf"]);
    let with = |le| {
        let mut all = labels.to_vec();
        all.push(("le", le));
        all
    };
    for (bound, bucket) in bounds.zip(sum.buckets) {
        count += bucket;
        page.sample(&format!("{name}_bucket"), &with(bound), count);
    }
    let (seconds, rest) = (sum.nanoseconds / NANOS, sum.nanoseconds % NANOS);
    let seconds = format!("{seconds}.{rest:09}");
    page.sample(&format!("{name}_sum"), labels, seconds);
    page.sample(&format!("{name}_count"), labels, count);
}

fn word(words: &'static [&'static str], place: usize) -> &'static str {
    words.get(place).copied().unwrap_or("other")
}

fn code_word(place: usize) -> String {
    match CODE_LIST.get(place) {
        Some(code) => code.to_string(),
        None => word(&CLASSES, place - CODE_LIST.len()).to_owned(),
    }
}

const NANOS: u64 = 1_000_000_000;
