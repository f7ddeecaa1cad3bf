//! The JSON line: the keys of GRAMMAR's "Access log" table in its order, `schema` first.
//!
//! Written by hand into one buffer: a line costs well under a microsecond, which a serialiser with its intermediate values
//! does not.

use std::time::Duration;

use http::Version;

use super::{Formatter, asn, clock, country, end, escape, number, redact, subdivision, unpadded};
use crate::observe::record::{Record, UpstreamPart};
use crate::policy::facts::TlsVersion;
use crate::snapshot::log::AccessLog;

/// `,"key":`. Keys are ours and need no escape.
macro_rules! key {
    ($out:expr, $name:literal) => {
        $out.extend_from_slice(concat!(",\"", $name, "\":").as_bytes())
    };
}

/// A string that may hold anything.
macro_rules! text {
    ($out:expr, $name:literal, $value:expr $(,)?) => {
        $out.extend_from_slice(concat!(",\"", $name, "\":\"").as_bytes());
        escape::json($out, $value);
        $out.push(b'"');
    };
}

/// A string of letters, digits and marks that JSON takes as they are: a word of ours, a token (RFC 9110 §5.6.2), an id.
macro_rules! word {
    ($out:expr, $name:literal, $value:expr $(,)?) => {
        $out.extend_from_slice(concat!(",\"", $name, "\":\"").as_bytes());
        $out.extend_from_slice($value);
        $out.push(b'"');
    };
}

macro_rules! integer {
    ($out:expr, $name:literal, $value:expr $(,)?) => {
        key!($out, $name);
        number($out, $value);
    };
}

macro_rules! seconds {
    ($out:expr, $name:literal, $value:expr $(,)?) => {
        if let Some(value) = $value {
            key!($out, $name);
            clock::seconds($out, value);
        }
    };
}

/// Appends the object without a line feed.
pub(super) fn line(formatter: &mut Formatter, record: &Record, log: &AccessLog, out: &mut Vec<u8>) {
    out.reserve(1024);
    out.extend_from_slice(b"{\"schema\":1,\"timestamp\":\"");
    formatter.clock.rfc3339(out, record.started);
    out.push(b'"');
    word!(out, "request.id", record.request_id.as_bytes());

    let peer = record.peer.ip();
    out.extend_from_slice(b",\"client.address\":\"");
    let client = record.client.unwrap_or(peer);
    let from = out.len();
    let addresses = &mut formatter.addresses;
    addresses.write(out, client, log.privacy, || end(record));
    let written = from..out.len();
    out.extend_from_slice(b"\",\"network.peer.address\":\"");
    if peer == client {
        out.extend_from_within(written);
    } else {
        addresses.write(out, peer, log.privacy, || end(record));
    }
    out.extend_from_slice(b"\",\"network.peer.port\":");
    number(out, record.peer.port());

    request(record, log, out);
    outcome(record, out);
    person(record, out);
    geography(record, out);
    if let Some(facts) = &record.facts {
        key!(out, "facts");
        object(out, facts);
    }
    if let Some(site) = &record.site {
        text!(out, "site", site.as_bytes());
    }
    if let Some(route) = &record.route {
        text!(out, "route", route.as_bytes());
    }
    if let Some(upstream) = &record.upstream {
        self::upstream(upstream, out);
    }
    seconds!(out, "duration", Some(record.duration));
    seconds!(out, "policy.duration", record.policy_duration);
    if let Some(upstream) = &record.upstream {
        seconds!(out, "upstream.connect.duration", upstream.connect);
        seconds!(out, "upstream.response.duration", upstream.response);
    }
    if let Some(agent) = &record.user_agent {
        text!(out, "user_agent.original", agent.as_bytes());
    }
    if let Some(referer) = &record.referer {
        let referer = redact::referer(referer.as_bytes(), &log.redaction);
        text!(out, "http.request.header.referer", &referer);
    }
    if let Some(trace) = record.trace_id {
        let mut hex = [0; 32];
        for (pair, byte) in hex.as_chunks_mut::<2>().0.iter_mut().zip(trace) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        word!(out, "trace_id", &hex);
    }
    if let Some(generation) = record.generation {
        integer!(out, "config.generation", generation);
    }
    if let Some(error) = record.error {
        text!(out, "error.type", error.as_bytes());
    }
    out.push(b'}');
}

fn request(record: &Record, log: &AccessLog, out: &mut Vec<u8>) {
    if let Some(method) = &record.method {
        word!(out, "http.request.method", method.as_str().as_bytes());
    }
    if let Some(host) = &record.host {
        text!(out, "server.address", host.as_bytes());
    }
    if let Some(scheme) = record.scheme {
        word!(out, "url.scheme", scheme.as_str().as_bytes());
    }
    if let Some(target) = &record.target {
        text!(out, "url.path", target.path().as_bytes());
        if let Some(query) = target.query() {
            let query = redact::query(query.as_bytes(), &log.redaction);
            text!(out, "url.query", &query);
        }
    }
    if let Some(version) = record.version.and_then(version) {
        word!(out, "network.protocol.version", version.as_bytes());
    }
    if let Some(version) = record.tls_version {
        let version = match version {
            TlsVersion::V1_2 => "1.2",
            TlsVersion::V1_3 => "1.3",
        };
        word!(out, "tls.protocol.version", version.as_bytes());
    }
    if let Some(subject) = &record.tls_subject {
        text!(out, "tls.client.subject", subject.as_bytes());
    }
    // Only where nothing could be parsed: how much there was.
    if let Some(bytes) = record.bytes_read {
        integer!(out, "http.request.size", bytes);
    }
    integer!(out, "http.request.body.size", record.request_body);
    integer!(out, "http.response.body.size", record.response_body);
}

fn outcome(record: &Record, out: &mut Vec<u8>) {
    integer!(out, "http.response.status_code", record.status);
    word!(
        out,
        "response.source",
        record.answered_by.as_str().as_bytes(),
    );
    if let Some(decision) = record.decision {
        word!(out, "policy.decision", decision.as_str().as_bytes());
    }
    if let Some(reason) = &record.reason {
        text!(out, "policy.reason", reason.as_str().as_bytes());
    }
    if let Some(rule) = &record.rule {
        text!(out, "security_rule.name", rule.name.as_bytes());
        key!(out, "security_rule.source");
        out.push(b'"');
        escape::json(out, rule.source.file.as_bytes());
        out.push(b':');
        number(out, rule.source.line);
        out.push(b'"');
    }
    if !record.shadow.is_empty() {
        key!(out, "policy.shadow");
        list(out, &record.shadow, |out, (rule, decision)| {
            out.extend_from_slice(b"{\"rule\":");
            string(out, rule.as_bytes());
            out.extend_from_slice(b",\"decision\":");
            string(out, decision.as_str().as_bytes());
            out.push(b'}');
        });
    }
    if let Some(second) = &record.candidate {
        key!(out, "policy.candidate");
        out.extend_from_slice(b"{\"decision\":");
        string(out, second.decided.as_str().as_bytes());
        if let Some(status) = second.status {
            integer!(out, "status", status);
        }
        if let Some(reason) = &second.reason {
            text!(out, "reason", reason.as_str().as_bytes());
        }
        if let Some(rule) = &second.rule {
            text!(out, "rule", rule.name.as_bytes());
        }
        out.push(b'}');
    }
}

fn person(record: &Record, out: &mut Vec<u8>) {
    if let Some(principal) = &record.principal {
        text!(out, "user.id", principal.user.as_bytes());
        key!(out, "user.roles");
        list(out, &principal.roles, |out, role| {
            string(out, role.as_bytes());
        });
        text!(out, "auth.source", principal.source.as_bytes());
    }
    if let Some(error) = &record.auth_error {
        text!(out, "auth.error", error.as_bytes());
    }
}

fn geography(record: &Record, out: &mut Vec<u8>) {
    let Some(region) = &record.region else {
        return;
    };
    if let Some(country) = country(region, record.region_facts) {
        text!(out, "geo.country.iso_code", unpadded(&country));
    }
    if let Some(subdivision) = subdivision(region, record.region_facts) {
        text!(out, "geo.region.iso_code", unpadded(&subdivision));
    }
    if let Some(asn) = asn(region, record.region_facts) {
        integer!(out, "client.as.number", asn);
    }
}

fn upstream(upstream: &UpstreamPart, out: &mut Vec<u8>) {
    text!(out, "upstream.name", upstream.name.as_bytes());
    if let Some(address) = &upstream.address {
        text!(out, "upstream.address", address.as_bytes());
    }
    if let Some(status) = upstream.status {
        integer!(out, "upstream.status_code", status);
    }
    integer!(out, "upstream.retries", upstream.retries);
}

/// `None` for a version that HTTP does not have.
pub(super) fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_09 => Some("0.9"),
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        Version::HTTP_3 => Some("3"),
        _ => None,
    }
}

/// The digit of a number below sixteen.
const fn digit(nibble: u8) -> u8 {
    nibble + if nibble < 10 { b'0' } else { b'a' - 10 }
}

/// A number of seconds.
pub(super) fn seconds_of(out: &mut Vec<u8>, value: Duration) {
    clock::seconds(out, value);
}

pub(super) fn string(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    escape::json(out, value);
    out.push(b'"');
}

pub(super) fn list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

pub(super) fn object(out: &mut Vec<u8>, map: &serde_json::Map<String, serde_json::Value>) {
    out.push(b'{');
    for (place, (name, item)) in map.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        string(out, name.as_bytes());
        out.push(b':');
        value(out, item);
    }
    out.push(b'}');
}

/// A value of `facts`, with the escapes of this log.
fn value(out: &mut Vec<u8>, value: &serde_json::Value) {
    use serde_json::Value::{Array, Bool, Null, Number, Object, String};
    match value {
        Null => out.extend_from_slice(b"null"),
        Bool(true) => out.extend_from_slice(b"true"),
        Bool(false) => out.extend_from_slice(b"false"),
        Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        String(text) => string(out, text.as_bytes()),
        Array(items) => list(out, items, self::value),
        Object(map) => object(out, map),
    }
}
