//! The JSON line in the names of the Elastic Common Schema 8.7, as nested objects.
//!
//! | ours (`json`) | Elastic Common Schema |
//! |---|---|
//! | `timestamp`, `duration` | `@timestamp`, `event.duration` (nanoseconds) |
//! | `request.id` | `http.request.id` |
//! | `client.address`, `network.peer.address`, `network.peer.port` | `client.address` and `client.ip`, `source.address` and `source.ip`, `source.port` |
//! | `http.request.body.size`, `http.response.body.size` | `http.request.body.bytes`, `http.response.body.bytes` |
//! | `server.address`, `network.protocol.version`, `http.request.header.referer` | `url.domain`, `http.version`, `http.request.referrer` |
//! | `policy.decision`, `policy.reason` | `event.type` (`allowed`, `denied`, `error`), `event.outcome` and `event.reason` |
//! | `security_rule.name` | `rule.name` |
//! | `geo.country.iso_code`, `geo.region.iso_code`, `client.as.number` | `client.geo.country_iso_code`, `client.geo.region_iso_code`, `client.as.number` |
//! | `tls.protocol.version`, `trace_id` | `tls.version` (with `tls.version_protocol`), `trace.id` |
//!
//! `url.path`, `url.query`, `url.scheme`, `user.id`, `user.roles`, `user_agent.original`, `http.request.method`,
//! `http.response.status_code`, `tls.client.subject` and `error.type` are the same. What the schema has no name for stands under
//! `portcullis`, with the names of the JSON format. `client.ip` and `source.ip` are left out where `privacy` makes hashes, which
//! are no addresses.

use std::net::IpAddr;

use super::json::{list, object, seconds_of, string, version};
use super::{Formatter, asn, country, end, escape, number, redact, subdivision, unpadded};
use crate::observe::record::{AnsweredBy, Decided, Record};
use crate::policy::facts::TlsVersion;
use crate::snapshot::log::{AccessLog, Privacy};

/// Appends the object without a line feed.
pub(super) fn line(formatter: &mut Formatter, record: &Record, log: &AccessLog, out: &mut Vec<u8>) {
    out.reserve(1400);
    out.extend_from_slice(b"{\"@timestamp\":\"");
    formatter.clock.rfc3339(out, record.started);
    out.extend_from_slice(b"\",\"ecs\":{\"version\":\"8.7.0\"}");
    event(record, &mut Object::of(out, "event"));
    http(record, log, &mut Object::of(out, "http"));
    url(record, log, &mut Object::of(out, "url"));
    addresses(formatter, record, log, out);
    if let Some(version) = record.tls_version {
        let mut tls = Object::of(out, "tls");
        let version = match version {
            TlsVersion::V1_2 => "1.2",
            TlsVersion::V1_3 => "1.3",
        };
        tls.text("version", version.as_bytes());
        tls.text("version_protocol", b"tls");
        if let Some(subject) = &record.tls_subject {
            tls.object("client").text("subject", subject.as_bytes());
        }
    }
    if let Some(principal) = &record.principal {
        let mut user = Object::of(out, "user");
        user.text("id", principal.user.as_bytes());
        user.key("roles");
        list(user.out, &principal.roles, |out, role| {
            string(out, role.as_bytes());
        });
    }
    if let Some(rule) = &record.rule {
        Object::of(out, "rule").text("name", rule.name.as_bytes());
    }
    if let Some(agent) = &record.user_agent {
        Object::of(out, "user_agent").text("original", agent.as_bytes());
    }
    if let Some(trace) = record.trace_id {
        let id = format!("{:032x}", u128::from_be_bytes(trace));
        Object::of(out, "trace").text("id", id.as_bytes());
    }
    if let Some(error) = record.error {
        Object::of(out, "error").text("type", error.as_bytes());
    }
    own(record, &mut Object::of(out, "portcullis"));
    out.push(b'}');
}

/// `event`: <https://www.elastic.co/guide/en/ecs/8.7/ecs-category-field-values-reference.html>.
fn event(record: &Record, event: &mut Object<'_>) {
    event.text("kind", b"event");
    event.text("dataset", b"portcullis.access");
    event.raw("category", b"[\"web\",\"network\"]");
    event.raw(
        "type",
        match record.decision {
            Some(Decided::Allow) => b"[\"access\",\"allowed\"]",
            Some(Decided::Deny | Decided::Challenge | Decided::Limit) => b"[\"access\",\"denied\"]",
            Some(Decided::Error) => b"[\"access\",\"error\"]",
            None => b"[\"access\"]",
        },
    );
    let failed = record.status >= 400 || record.refused();
    event.text("outcome", if failed { b"failure" } else { b"success" });
    if let Some(reason) = &record.reason {
        event.text("reason", reason.as_str().as_bytes());
    }
    let nanos = u64::try_from(record.duration.as_nanos()).unwrap_or(u64::MAX);
    event.integer("duration", nanos);
}

fn http(record: &Record, log: &AccessLog, http: &mut Object<'_>) {
    if let Some(version) = record.version.and_then(version) {
        http.text("version", version.as_bytes());
    }
    {
        let mut request = http.object("request");
        request.text("id", record.request_id.as_bytes());
        if let Some(method) = &record.method {
            request.text("method", method.as_str().as_bytes());
        }
        if let Some(referer) = &record.referer {
            let referer = redact::referer(referer.as_bytes(), &log.redaction);
            request.text("referrer", &referer);
        }
        if let Some(bytes) = record.bytes_read {
            request.integer("bytes", bytes);
        }
        request.object("body").integer("bytes", record.request_body);
    }
    let mut response = http.object("response");
    response.integer("status_code", record.status);
    response
        .object("body")
        .integer("bytes", record.response_body);
}

fn url(record: &Record, log: &AccessLog, url: &mut Object<'_>) {
    if let Some(host) = &record.host {
        url.text("domain", host.as_bytes());
    }
    if let Some(scheme) = record.scheme {
        url.text("scheme", scheme.as_str().as_bytes());
    }
    if let Some(target) = &record.target {
        url.text("path", target.path().as_bytes());
        if let Some(query) = target.query() {
            url.text("query", &redact::query(query.as_bytes(), &log.redaction));
        }
    }
}

fn addresses(formatter: &mut Formatter, record: &Record, log: &AccessLog, out: &mut Vec<u8>) {
    let now = end(record);
    let mut address = |object: &mut Object<'_>, address: IpAddr| {
        let names: &[&'static str] = match log.privacy {
            Privacy::None | Privacy::Mask => &["address", "ip"],
            Privacy::HashDaily => &["address"],
        };
        for name in names {
            object.key(name);
            object.out.push(b'"');
            let addresses = &mut formatter.addresses;
            addresses.write(object.out, address, log.privacy, || now);
            object.out.push(b'"');
        }
    };
    let peer = record.peer.ip();
    {
        let mut source = Object::of(out, "source");
        address(&mut source, peer);
        source.integer("port", record.peer.port());
    }
    let mut client = Object::of(out, "client");
    address(&mut client, record.client.unwrap_or(peer));
    let Some(region) = &record.region else {
        return;
    };
    let country = country(region, record.region_facts);
    let subdivision = subdivision(region, record.region_facts);
    if country.is_some() || subdivision.is_some() {
        let mut geo = client.object("geo");
        if let Some(country) = country {
            geo.text("country_iso_code", unpadded(&country));
        }
        if let Some(subdivision) = subdivision {
            geo.text("region_iso_code", unpadded(&subdivision));
        }
    }
    if let Some(asn) = asn(region, record.region_facts) {
        client.object("as").integer("number", asn);
    }
}

/// What the schema has no name for.
fn own(record: &Record, own: &mut Object<'_>) {
    own.object("response")
        .text("source", answered(record.answered_by));
    if let Some(site) = &record.site {
        own.text("site", site.as_bytes());
    }
    if let Some(route) = &record.route {
        own.text("route", route.as_bytes());
    }
    policy(record, &mut own.object("policy"));
    if let Some(rule) = &record.rule {
        let mut written = own.object("security_rule");
        written.key("source");
        written.out.push(b'"');
        escape::json(written.out, rule.source.file.as_bytes());
        written.out.push(b':');
        number(written.out, rule.source.line);
        written.out.push(b'"');
    }
    if record.principal.is_some() || record.auth_error.is_some() {
        let mut auth = own.object("auth");
        if let Some(principal) = &record.principal {
            auth.text("source", principal.source.as_bytes());
        }
        if let Some(error) = &record.auth_error {
            auth.text("error", error.as_bytes());
        }
    }
    if let Some(facts) = &record.facts {
        own.key("facts");
        object(own.out, facts);
    }
    if let Some(upstream) = &record.upstream {
        let mut group = own.object("upstream");
        group.text("name", upstream.name.as_bytes());
        if let Some(address) = &upstream.address {
            group.text("address", address.as_bytes());
        }
        if let Some(status) = upstream.status {
            group.integer("status_code", status);
        }
        group.integer("retries", upstream.retries);
        if let Some(time) = upstream.connect {
            seconds_of(group.object("connect").open("duration"), time);
        }
        if let Some(time) = upstream.response {
            seconds_of(group.object("response").open("duration"), time);
        }
    }
    if let Some(generation) = record.generation {
        own.object("config").integer("generation", generation);
    }
}

fn policy(record: &Record, policy: &mut Object<'_>) {
    if let Some(decision) = record.decision {
        policy.text("decision", decision.as_str().as_bytes());
    }
    if let Some(time) = record.policy_duration {
        seconds_of(policy.open("duration"), time);
    }
    if !record.shadow.is_empty() {
        policy.key("shadow");
        list(policy.out, &record.shadow, |out, (rule, decision)| {
            let mut rule_of = Object::begin(out);
            rule_of.text("rule", rule.as_bytes());
            rule_of.text("decision", decision.as_str().as_bytes());
        });
    }
    if let Some(second) = &record.candidate {
        let mut candidate = policy.object("candidate");
        candidate.text("decision", second.decided.as_str().as_bytes());
        if let Some(status) = second.status {
            candidate.integer("status", status);
        }
        if let Some(reason) = &second.reason {
            candidate.text("reason", reason.as_str().as_bytes());
        }
        if let Some(rule) = &second.rule {
            candidate.text("rule", rule.name.as_bytes());
        }
    }
}

const fn answered(by: AnsweredBy) -> &'static [u8] {
    by.as_str().as_bytes()
}

/// An object that is being written; its brace closes when it goes.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl<'o> Object<'o> {
    fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// A member of the line itself, which has some already.
    fn of(out: &'o mut Vec<u8>, name: &'static str) -> Self {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        Self::begin(out)
    }

    fn object(&mut self, name: &'static str) -> Object<'_> {
        Object::begin(self.open(name))
    }

    /// Keys are ours and need no escape.
    fn key(&mut self, name: &'static str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn open(&mut self, name: &'static str) -> &mut Vec<u8> {
        self.key(name);
        self.out
    }

    fn text(&mut self, name: &'static str, value: &[u8]) {
        string(self.open(name), value);
    }

    fn raw(&mut self, name: &'static str, value: &[u8]) {
        self.open(name).extend_from_slice(value);
    }

    fn integer(&mut self, name: &'static str, value: impl itoa::Integer) {
        number(self.open(name), value);
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        self.out.push(b'}');
    }
}
