//! Requests that never reached the gate: what hyper's parser refused, heads that came too late, connections beyond the limit.
//! Each gets its access record all the same.

use std::time::Instant;

use jiff::Timestamp;

use crate::observe::record::{AnsweredBy, Record};
use crate::proxy::request_id::Ids;
use crate::proxy::{Connection, Gate};
use crate::respond::failure::classify;
use crate::value::failure::Failure;

/// Logs a request of which only its bytes are known.
pub(crate) fn log(gate: &Gate, connection: &Connection, failure: Failure, bytes: u64) {
    let lease = gate.lease();
    let answer = classify(failure);
    let ids = Ids::of(&http::HeaderMap::new(), false, jiff::Timestamp::now());
    let mut record = Record::new(
        Timestamp::now(),
        Instant::now(),
        ids.request_id,
        connection.peer,
    );
    record.client = Some(connection.peer_address);
    record.status = answer.status.as_u16();
    record.answered_by = AnsweredBy::Proxy;
    record.error = Some(answer.code);
    record.reason = Some(answer.reason);
    record.bytes_read = Some(bytes);
    record.tls_version = connection.tls.map(|tls| tls.version);
    record.tls_subject = connection.subject();
    record.generation = Some(lease.generation);
    record.close(Instant::now());
    gate.metrics.unread(&record);
    gate.log.borrow_mut().write(&record, &lease.access_logs);
}

/// What hyper's parser answered, or would have: the failure behind its error.
pub(crate) fn of_parser(error: &hyper::Error) -> Option<Failure> {
    if error.is_parse_too_large() {
        // hyper keeps the two apart only in its words.
        let target = error.to_string().contains("URI");
        return Some(if target {
            Failure::TargetTooLong
        } else {
            Failure::HeadTooLarge
        });
    }
    error.is_parse().then_some(Failure::Malformed("parse"))
}

/// An answer that needs no request: the head never came.
pub(crate) const TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The answer to a connection beyond the limit (RFC 9110 §15.6.4).
pub(crate) const OVERLOADED: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
