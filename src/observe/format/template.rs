//! Lines as text with nginx's variables; `combined` is one of these templates.
//!
//! Values are escaped as nginx escapes them, and absent or empty ones are `-`. Two columns differ from nginx on purpose: a user name
//! also has its spaces and brackets escaped, because its column is not quoted; queries and referers have their secrets redacted.

use std::time::Duration;

use http::Version;

use super::{Formatter, asn, clock, country, end, escape, number, redact, subdivision, unpadded};
use crate::observe::record::Record;
use crate::policy::facts::TlsVersion;
use crate::snapshot::log::{AccessLog, Piece, Template, Variable};

/// Appends the line without a line feed.
pub(super) fn line(
    formatter: &mut Formatter,
    record: &Record,
    log: &AccessLog,
    template: &Template,
    out: &mut Vec<u8>,
) {
    out.reserve(512);
    for piece in &template.pieces {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Variable(variable) => {
                let before = out.len();
                write(*variable, formatter, record, log, out);
                if out.len() == before {
                    out.push(b'-');
                }
            }
        }
    }
}

/// Appends the value of a variable, or nothing where it has none.
fn write(
    variable: Variable,
    formatter: &mut Formatter,
    record: &Record,
    log: &AccessLog,
    out: &mut Vec<u8>,
) {
    let peer = record.peer.ip();
    let now = end(record);
    let upstream = record.upstream.as_ref();
    match variable {
        Variable::RemoteAddr => {
            let client = record.client.unwrap_or(peer);
            formatter.addresses.write(out, client, log.privacy, || now);
        }
        Variable::PeerAddr => formatter.addresses.write(out, peer, log.privacy, || now),
        Variable::RemotePort => number(out, record.peer.port()),
        Variable::RemoteUser => {
            if let Some(principal) = &record.principal {
                escape::nginx_word(out, principal.user.as_bytes());
            }
        }
        Variable::TimeLocal => formatter.clock.local(out, now),
        Variable::TimeIso8601 => formatter.clock.iso8601(out, now),
        Variable::Msec => clock::unix_millis(out, now),
        Variable::Request => request(record, log, out),
        Variable::RequestMethod => {
            if let Some(method) = &record.method {
                escape::nginx(out, method.as_str().as_bytes());
            }
        }
        Variable::RequestUri => uri(record, log, out),
        Variable::Uri => {
            if let Some(target) = &record.target {
                escape::nginx(out, target.path().as_bytes());
            }
        }
        Variable::Args => args(record, log, out),
        Variable::Status => number(out, record.status),
        Variable::BodyBytesSent => number(out, record.response_body),
        Variable::RequestLength => number(out, record.bytes_read.unwrap_or(record.request_body)),
        Variable::RequestTime => clock::seconds_millis(out, record.duration),
        Variable::RequestId => escape::nginx(out, record.request_id.as_bytes()),
        Variable::UpstreamAddr => {
            optional(
                out,
                upstream.and_then(|upstream| upstream.address.as_deref()),
            );
        }
        Variable::UpstreamStatus => {
            if let Some(status) = upstream.and_then(|upstream| upstream.status) {
                number(out, status);
            }
        }
        Variable::UpstreamResponseTime => {
            time(out, upstream.and_then(|upstream| upstream.response));
        }
        Variable::UpstreamConnectTime => time(out, upstream.and_then(|upstream| upstream.connect)),
        Variable::Referer => {
            if let Some(referer) = &record.referer {
                let referer = redact::referer(referer.as_bytes(), &log.redaction);
                escape::nginx(out, &referer);
            }
        }
        Variable::UserAgent => {
            if let Some(agent) = &record.user_agent {
                escape::nginx(out, agent.as_bytes());
            }
        }
        Variable::Header(place) => header(place, record, log, out),
        Variable::Host => {
            if let Some(host) = &record.host {
                escape::nginx(out, host.as_bytes());
            }
        }
        Variable::Site => optional(out, record.site.as_deref()),
        Variable::Scheme => optional(out, record.scheme.map(crate::policy::facts::Scheme::as_str)),
        Variable::ServerProtocol => optional(out, record.version.and_then(protocol)),
        Variable::SslProtocol => {
            let version = record.tls_version.map(|version| match version {
                TlsVersion::V1_2 => "TLSv1.2",
                TlsVersion::V1_3 => "TLSv1.3",
            });
            optional(out, version);
        }
        Variable::SslClientSubject => optional(out, record.tls_subject.as_deref()),
        Variable::PolicyDecision => {
            optional(out, record.decision.map(|decision| decision.as_str()));
        }
        Variable::PolicyReason => {
            optional(out, record.reason.as_ref().map(|reason| reason.as_str()));
        }
        Variable::PolicyRule => optional(out, record.rule.as_ref().map(|rule| rule.name.as_ref())),
        Variable::PolicyRuleSource => {
            if let Some(rule) = &record.rule {
                escape::nginx(out, rule.source.file.as_bytes());
                out.push(b':');
                number(out, rule.source.line);
            }
        }
        Variable::ResponseSource => optional(out, Some(record.answered_by.as_str())),
        Variable::Country => {
            let region = record.region.as_ref();
            if let Some(code) = region.and_then(|region| country(region, record.region_facts)) {
                out.extend_from_slice(unpadded(&code));
            }
        }
        Variable::Subdivision => {
            let region = record.region.as_ref();
            if let Some(code) = region.and_then(|region| subdivision(region, record.region_facts)) {
                out.extend_from_slice(unpadded(&code));
            }
        }
        Variable::Asn => {
            let region = record.region.as_ref();
            if let Some(asn) = region.and_then(|region| asn(region, record.region_facts)) {
                number(out, asn);
            }
        }
        Variable::Route => optional(out, record.route.as_deref()),
        Variable::Upstream => optional(out, upstream.map(|upstream| upstream.name.as_ref())),
        Variable::Roles => {
            let roles = record.principal.iter().flat_map(|person| &person.roles);
            for (place, role) in roles.enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                escape::nginx_word(out, role.as_bytes());
            }
        }
        Variable::AuthSource => {
            let source = record
                .principal
                .as_ref()
                .map(|person| person.source.as_ref());
            optional(out, source);
        }
        Variable::ErrorType => optional(out, record.error),
        Variable::Generation => {
            if let Some(generation) = record.generation {
                number(out, generation);
            }
        }
    }
}

/// `GET /path?query HTTP/1.1`; nothing where the request never parsed.
fn request(record: &Record, log: &AccessLog, out: &mut Vec<u8>) {
    let Some(method) = &record.method else {
        return;
    };
    escape::nginx(out, method.as_str().as_bytes());
    out.push(b' ');
    let before = out.len();
    uri(record, log, out);
    if out.len() == before {
        out.push(b'-');
    }
    if let Some(protocol) = record.version.and_then(protocol) {
        out.push(b' ');
        out.extend_from_slice(protocol.as_bytes());
    }
}

fn uri(record: &Record, log: &AccessLog, out: &mut Vec<u8>) {
    if let Some(target) = &record.target {
        escape::nginx(out, target.path().as_bytes());
        if target.query().is_some() {
            out.push(b'?');
            args(record, log, out);
        }
    }
}

fn args(record: &Record, log: &AccessLog, out: &mut Vec<u8>) {
    if let Some(query) = record.target.as_ref().and_then(|target| target.query()) {
        let query = redact::query(query.as_bytes(), &log.redaction);
        escape::nginx(out, &query);
    }
}

/// Every field of the name, joined as nginx joins them.
fn header(place: u16, record: &Record, log: &AccessLog, out: &mut Vec<u8>) {
    let Some(name) = log.headers().get(usize::from(place)) else {
        return;
    };
    let values = record.headers.iter().filter(|(other, _)| other == name);
    for (place, (_, value)) in values.enumerate() {
        if place > 0 {
            out.extend_from_slice(b", ");
        }
        // A header may carry a URL (`X-Original-URI`), and a URL a secret.
        escape::nginx(out, &redact::referer(value.as_bytes(), &log.redaction));
    }
}

fn optional(out: &mut Vec<u8>, value: Option<&str>) {
    if let Some(value) = value {
        escape::nginx(out, value.as_bytes());
    }
}

fn time(out: &mut Vec<u8>, value: Option<Duration>) {
    if let Some(value) = value {
        clock::seconds_millis(out, value);
    }
}

/// As nginx writes it; `None` for a version that HTTP does not have.
fn protocol(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_09 => Some("HTTP/0.9"),
        Version::HTTP_10 => Some("HTTP/1.0"),
        Version::HTTP_11 => Some("HTTP/1.1"),
        Version::HTTP_2 => Some("HTTP/2.0"),
        Version::HTTP_3 => Some("HTTP/3.0"),
        _ => None,
    }
}
