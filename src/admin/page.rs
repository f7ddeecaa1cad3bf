//! The page of `/metrics`: what workers have counted, and what is true at this moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::View;
use crate::identity::failures::Tally;
use crate::identity::remote::RemoteKeys;
use crate::observe::metrics::text::{Kind, Page};
use crate::snapshot::Snapshot;
use crate::snapshot::acme::Outcome;
use crate::upstream::registry::{Condition, State, millis};

/// Writes the page.
pub(super) fn write(view: &View, snapshot: &Snapshot, now: Timestamp) -> String {
    let mut page = Page::default();
    let name = "portcullis_build_info";
    page.family(name, Kind::Gauge, "What runs; always 1.");
    page.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    view.metrics.write(&mut page);
    page.single(
        "portcullis_connections_open",
        Kind::Gauge,
        "Client connections open now.",
        view.admission.open(),
    );
    page.single(
        "portcullis_workers",
        Kind::Gauge,
        "Worker threads.",
        snapshot.server.workers,
    );
    page.single(
        "portcullis_config_generation",
        Kind::Gauge,
        "The number of the configuration in force.",
        snapshot.generation,
    );
    endpoints(view, &mut page);
    logs(view, &mut page);
    databases(snapshot, now, &mut page);
    keys(snapshot, now, &mut page);
    devices(snapshot, now, &mut page);
    revocations(snapshot, now, &mut page);
    certificates(snapshot, &mut page);
    orders(snapshot, &mut page);
    limits(snapshot, &mut page);
    sign_ins(snapshot, &mut page);
    shared(snapshot, &mut page);
    closed(snapshot, now, &mut page);
    process(view, &mut page);
    page.finish()
}

fn endpoints(view: &View, page: &mut Page) {
    let now = millis();
    let groups = view.upstreams.groups();
    let mut all = Vec::new();
    for group in &groups {
        // One name for two servers would be one series twice, and no page at all for Prometheus.
        let mut seen = BTreeSet::new();
        let mut endpoints = group.endpoints();
        endpoints.retain(|endpoint| seen.insert(Arc::clone(&endpoint.label)));
        for endpoint in endpoints {
            all.push((Arc::clone(&group.name), endpoint));
        }
    }
    let mut family = |name, kind, help, value: &dyn Fn(&State) -> i64| {
        page.family(name, kind, help);
        for (upstream, endpoint) in &all {
            let labels = [("upstream", &**upstream), ("endpoint", &*endpoint.label)];
            page.sample(name, &labels, value(&endpoint.state));
        }
    };
    family(
        "portcullis_upstream_endpoint_up",
        Kind::Gauge,
        "1 where an endpoint can be used; 0 where it is down, ejected or drained.",
        &|state| i64::from(state.condition(now) == Condition::Up),
    );
    family(
        "portcullis_upstream_endpoint_in_flight",
        Kind::Gauge,
        "Requests and tunnels under way at an endpoint.",
        &State::in_flight,
    );
    family(
        "portcullis_upstream_endpoint_ejections_total",
        Kind::Counter,
        "How often an endpoint was left out for its failures.",
        &|state| i64::try_from(state.ejections()).unwrap_or(i64::MAX),
    );
    let name = "portcullis_upstream_health_checks_total";
    page.family(name, Kind::Counter, "Health checks by result.");
    for (upstream, endpoint) in &all {
        let (good, bad) = endpoint.state.checks();
        if good + bad == 0 {
            continue;
        }
        for (result, count) in [("good", good), ("bad", bad)] {
            let labels = [
                ("upstream", &**upstream),
                ("endpoint", &*endpoint.label),
                ("result", result),
            ];
            page.sample(name, &labels, count);
        }
    }
    let name = "portcullis_upstream_queue_length";
    page.family(name, Kind::Gauge, "Requests that wait for a place.");
    for group in &groups {
        page.sample(name, &[("upstream", &*group.name)], group.waiting());
    }
}

fn logs(view: &View, page: &mut Page) {
    for (name, help, count) in [
        (
            "portcullis_access_log_lines_written_total",
            "Lines written.",
            view.logger.written_lines(),
        ),
        (
            "portcullis_access_log_lines_dropped_total",
            "Lines lost because a destination was too slow or broken.",
            view.logger.dropped_lines(),
        ),
        (
            "portcullis_access_log_errors_total",
            "Writes and reopens that failed.",
            view.logger.write_errors(),
        ),
        (
            "portcullis_access_log_rotations_total",
            "Files that were begun anew.",
            view.logger.rotations(),
        ),
        (
            "portcullis_access_log_lines_cut_total",
            "Lines that were too long for a syslog message.",
            view.logger.cut_lines(),
        ),
    ] {
        page.single(name, Kind::Counter, help, count);
    }
}

fn databases(snapshot: &Snapshot, now: Timestamp, page: &mut Page) {
    let mut ages: BTreeMap<&str, i64> = BTreeMap::new();
    for source in snapshot.geo.sources() {
        if let Some(built) = source.database.about().built {
            ages.insert(&source.name, now.as_second() - built.as_second());
        }
    }
    let name = "portcullis_geo_database_age_seconds";
    page.family(name, Kind::Gauge, "Since a database was built.");
    for (database, age) in ages {
        page.sample(name, &[("database", database)], age);
    }
}

fn limits(snapshot: &Snapshot, page: &mut Page) {
    let name = "portcullis_limit_evictions_total";
    let help = "Keys that a limit had no room for: forgotten before their time, or refused.";
    page.family(name, Kind::Counter, help);
    for (limit, count) in snapshot.policy.limits().iter().zip(&snapshot.counts) {
        let labels = [("site", &*limit.scope), ("rule", &*limit.name)];
        page.sample(name, &labels, count.evicted());
    }
}

fn sign_ins(snapshot: &Snapshot, page: &mut Page) {
    let guarded = snapshot.sites.iter().filter_map(|site| {
        let guard = site.brute_force.as_ref()?;
        Some((&site.name, guard.failures.tally()))
    });
    let guarded: Vec<_> = guarded.collect();
    type Family = (&'static str, &'static str, fn(&Tally) -> u64);
    let families: [Family; 4] = [
        (
            "portcullis_sign_in_failures_total",
            "Credentials that were guesses.",
            |tally| tally.failed,
        ),
        (
            "portcullis_sign_in_holds_total",
            "Times that a client network had to wait for its failures.",
            |tally| tally.holds,
        ),
        (
            "portcullis_sign_in_held_total",
            "Credentials that were not believed, since their network had to wait.",
            |tally| tally.refused,
        ),
        (
            "portcullis_sign_in_evictions_total",
            "Client networks whose failures were forgotten before their time, for want of room.",
            |tally| tally.evicted,
        ),
    ];
    for (name, help, count) in families {
        page.family(name, Kind::Counter, help);
        for (site, tally) in &guarded {
            page.sample(name, &[("site", site)], count(tally));
        }
    }
}

fn shared(snapshot: &Snapshot, page: &mut Page) {
    let Some(share) = &snapshot.share else {
        return;
    };
    let (name, help) = (
        "portcullis_redis_requests_total",
        "Requests whose limits redis was to count: answered, asked in vain, or not asked after a failure.",
    );
    page.family(name, Kind::Counter, help);
    for (result, count) in [
        ("answered", &share.tally.answered),
        ("failed", &share.tally.failed),
        ("skipped", &share.tally.skipped),
    ] {
        page.sample(name, &[("result", result)], count.load(Ordering::Relaxed));
    }
    let away = share.tally.away.load(Ordering::Relaxed);
    let name = "portcullis_redis_up";
    page.single(
        name,
        Kind::Gauge,
        "Whether redis answered last.",
        u64::from(!away),
    );
}

fn closed(snapshot: &Snapshot, now: Timestamp, page: &mut Page) {
    let name = "portcullis_site_maintenance";
    page.family(name, Kind::Gauge, "Whether a site is closed.");
    for site in &snapshot.sites {
        let closed = u64::from(site.maintenance.closed(now));
        page.sample(name, &[("site", &site.name)], closed);
    }
}

fn keys(snapshot: &Snapshot, now: Timestamp, page: &mut Page) {
    let sets = snapshot
        .key_sets
        .iter()
        .map(|set| (&*set.source, &*set.keys));
    let providers = snapshot.providers.iter();
    let providers = providers.map(|known| (&*known.source, &*known.provider.keys));
    let all: Vec<(&str, &RemoteKeys)> = sets.chain(providers).collect();
    if all.is_empty() {
        return;
    }
    let name = "portcullis_identity_keys_age_seconds";
    page.family(
        name,
        Kind::Gauge,
        "Since the keys of an identity source were fetched; absent where they never were.",
    );
    for (source, keys) in &all {
        if let Some(fetched) = keys.fetched() {
            let age = now.as_second() - fetched.as_second();
            page.sample(name, &[("source", source)], age.max(0));
        }
    }
    let name = "portcullis_identity_keys_fetches_total";
    page.family(
        name,
        Kind::Counter,
        "Attempts to fetch the keys of an identity source.",
    );
    for (source, keys) in &all {
        for (result, count) in ["good", "failed"].iter().zip(keys.outcomes()) {
            page.sample(name, &[("source", source), ("result", result)], count);
        }
    }
}

fn devices(snapshot: &Snapshot, now: Timestamp, page: &mut Page) {
    let Some(list) = &snapshot.devices else {
        return;
    };
    if let Some(newest) = list.devices.newest() {
        let age = now.as_second() - newest.at().as_second();
        page.single(
            "portcullis_devices_age_seconds",
            Kind::Gauge,
            "Since the list of devices was true.",
            age.max(0),
        );
        page.single(
            "portcullis_devices",
            Kind::Gauge,
            "Devices in the list.",
            newest.len(),
        );
    }
}

fn revocations(snapshot: &Snapshot, now: Timestamp, page: &mut Page) {
    let revocation = &snapshot.revocation;
    let name = "portcullis_revocations";
    page.family(name, Kind::Gauge, "Revocations in force.");
    if let Some(file) = &revocation.file {
        page.sample(name, &[("list", "file")], file.list.in_force(now));
    }
    let added = revocation.added.list().in_force(now);
    page.sample(name, &[("list", "admin")], added);
    if let Some(file) = &revocation.file {
        page.single(
            "portcullis_revocation_file_good",
            Kind::Gauge,
            "1 while the file could be read; 0 while the last good list is in force instead.",
            u64::from(!file.kept),
        );
        if let Some(at) = file.at {
            page.single(
                "portcullis_revocation_file_age_seconds",
                Kind::Gauge,
                "Since the list of the file that is in force was written.",
                (now.as_second() - at.as_second()).max(0),
            );
        }
    }
    page.single(
        "portcullis_revoked_credentials_total",
        Kind::Counter,
        "Requests with a credential that is revoked, where that mattered.",
        revocation.added.rejected(),
    );
}

fn certificates(snapshot: &Snapshot, page: &mut Page) {
    // The earliest end counts where two certificates of a listener are for the same name.
    let mut ends: BTreeMap<(String, String), i64> = BTreeMap::new();
    for listener in &snapshot.listeners {
        let Some(tls) = &listener.tls else { continue };
        for certificate in tls.certificates() {
            let name = certificate
                .names()
                .first()
                .map_or("", |name| name)
                .to_owned();
            let end = certificate.not_after().as_second();
            let earliest = ends.entry((listener.address.to_string(), name));
            let earliest = earliest.or_insert(end);
            *earliest = end.min(*earliest);
        }
    }
    let name = "portcullis_tls_certificate_expiry_timestamp_seconds";
    let help = "The last second of a certificate, by listener and its first name.";
    page.family(name, Kind::Gauge, help);
    for ((listener, first), end) in &ends {
        page.sample(name, &[("listener", listener), ("name", first)], end);
    }
}

/// Orders at ACME authorities.
fn orders(snapshot: &Snapshot, page: &mut Page) {
    if snapshot.issuances.is_empty() {
        return;
    }
    let name = "portcullis_acme_orders_total";
    let help = "Orders of certificates that ended, by name and result.";
    page.family(name, Kind::Counter, help);
    for slot in snapshot
        .issuances
        .iter()
        .flat_map(|issuance| &issuance.names)
    {
        for (result, outcome) in [("issued", Outcome::Issued), ("failed", Outcome::Failed)] {
            let labels = [("name", slot.name()), ("result", result)];
            page.sample(name, &labels, slot.orders(outcome));
        }
    }
}

/// What Prometheus' own libraries tell of a process, as far as the kernel says it.
fn process(view: &View, page: &mut Page) {
    page.single(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started.",
        view.started.as_second(),
    );
    if let Some(bytes) = resident_bytes() {
        let name = "process_resident_memory_bytes";
        page.single(name, Kind::Gauge, "Resident memory.", bytes);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        let name = "process_open_fds";
        page.single(name, Kind::Gauge, "Open file descriptors.", files.count());
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
