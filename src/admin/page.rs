//! The page of `/metrics`: what workers have counted, and what is true at this moment.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::View;
use crate::observe::metrics::text::{Kind, Page};
use crate::snapshot::Snapshot;

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
    logs(view, &mut page);
    databases(snapshot, now, &mut page);
    keys(snapshot, now, &mut page);
    devices(snapshot, now, &mut page);
    certificates(snapshot, &mut page);
    process(view, &mut page);
    page.finish()
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

fn keys(snapshot: &Snapshot, now: Timestamp, page: &mut Page) {
    if snapshot.key_sets.is_empty() {
        return;
    }
    let name = "portcullis_identity_keys_age_seconds";
    page.family(
        name,
        Kind::Gauge,
        "Since the keys of an identity source were fetched; absent where they never were.",
    );
    for set in &snapshot.key_sets {
        if let Some(fetched) = set.keys.fetched() {
            let age = now.as_second() - fetched.as_second();
            page.sample(name, &[("source", &*set.source)], age.max(0));
        }
    }
    let name = "portcullis_identity_keys_fetches_total";
    page.family(
        name,
        Kind::Counter,
        "Attempts to fetch the keys of an identity source.",
    );
    for set in &snapshot.key_sets {
        for (result, count) in ["good", "failed"].iter().zip(set.keys.outcomes()) {
            page.sample(name, &[("source", &*set.source), ("result", result)], count);
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

fn certificates(snapshot: &Snapshot, page: &mut Page) {
    // The earliest end counts where two certificates of a listener are for the same name.
    let mut ends: BTreeMap<(String, &str), i64> = BTreeMap::new();
    for listener in &snapshot.listeners {
        let Some(tls) = &listener.tls else { continue };
        for certificate in tls.certificates() {
            let name = certificate.names().first().map_or("", |name| name);
            let end = certificate.not_after().as_second();
            let earliest = ends.entry((listener.address.to_string(), name));
            let earliest = earliest.or_insert(end);
            *earliest = end.min(*earliest);
        }
    }
    let name = "portcullis_tls_certificate_expiry_timestamp_seconds";
    let help = "The last second of a certificate, by listener and its first name.";
    page.family(name, Kind::Gauge, help);
    for ((listener, first), end) in ends {
        page.sample(name, &[("listener", &listener), ("name", first)], end);
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
