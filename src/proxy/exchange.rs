//! One request and its answer: holds the access record and writes it when the last byte has left, or when nobody waits any more.

use std::rc::Rc;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use smallvec::SmallVec;

use super::again::Gone;
use super::compress::Wish;
use super::connection::Connection;
use super::limit::Allowance;
use super::service::Gate;
use crate::observe::facts;
use crate::observe::record::Record;
use crate::observe::ring::Seen;
use crate::snapshot::limit::Held;
use crate::snapshot::store::Lease;
use crate::upstream::Phase;
use crate::upstream::body::Tally;
use crate::value::failure::Failure;

/// The life of one request. Dropping it writes the record: no outcome escapes the log.
#[derive(Debug)]
pub struct Exchange {
    /// What will be logged.
    pub record: Record,
    /// The request body's fate.
    pub tally: Rc<Tally>,
    /// What it was judged by.
    pub seen: Seen,
    /// The configuration that serves this request.
    pub lease: Lease,
    /// Limits in which it counts until its end.
    pub held: SmallVec<[Held; 1]>,
    /// What clients are told of the tightest limit in which it counts.
    pub allowance: Option<Allowance>,
    /// `Set-Cookie` fields of our own: sessions, and logins in progress.
    pub cookies: Vec<HeaderValue>,
    /// Whether its answer is compressed.
    pub coding: Wish,
    /// What edits of the answer say with words of the request.
    pub filled: Vec<Option<HeaderValue>>,
    /// Fields by which it can be judged again, beside those of `seen`. Credentials are among them: they never leave this place.
    pub(super) kept: SmallVec<[(HeaderName, HeaderValue); 1]>,
    connection: Rc<Connection>,
    gate: Rc<Gate>,
}

impl Exchange {
    /// Opens the record of a head that was parsed at this moment.
    #[must_use]
    pub fn open(
        gate: &Rc<Gate>,
        connection: &Rc<Connection>,
        lease: &Lease,
        parts: &Parts,
        request_id: HeaderValue,
        (started, now): (Timestamp, Instant),
    ) -> Box<Self> {
        let mut record = Record::new(started, now, request_id, connection.peer);
        record.method = Some(parts.method.clone());
        record.target = parts.uri.path_and_query().cloned();
        record.version = Some(parts.version);
        record.scheme = Some(connection.scheme());
        record.tls_version = connection.tls.map(|tls| tls.version);
        record.tls_subject = connection.subject();
        record.generation = Some(lease.generation);
        record.keep_headers(&parts.headers, &lease.access_logs);
        let mut seen = Seen {
            tls: connection.tls,
            ..Seen::default()
        };
        seen.keep(&parts.headers, lease.policy.inputs());
        gate.metrics.opened();
        Box::new(Self {
            record,
            tally: Rc::new(Tally::default()),
            seen,
            lease: lease.clone(),
            held: SmallVec::new(),
            allowance: None,
            cookies: Vec::new(),
            coding: Wish::Off,
            filled: Vec::new(),
            kept: SmallVec::new(),
            connection: Rc::clone(connection),
            gate: Rc::clone(gate),
        })
    }

    /// The connection.
    #[must_use]
    pub const fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    /// The gate.
    #[must_use]
    pub const fn gate(&self) -> &Rc<Gate> {
        &self.gate
    }

    /// Notes that the right to the response is gone.
    pub fn cut(&mut self, gone: &Gone) {
        self.record.error = Some(gone.cut.code());
        if gone.auth_error.is_some() {
            self.record.auth_error.clone_from(&gone.auth_error);
        }
    }

    /// Notes that the response broke off.
    pub fn broke(&mut self, failure: Failure) {
        self.record.error = Some(crate::respond::failure::classify(failure).code);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.record.request_body = self.tally.bytes.get();
        let now = Instant::now();
        self.record.close(now);
        self.gate
            .metrics
            .close(&self.record, self.seen.place, self.seen.decision);
        self.record.facts = facts::gather(&self.record, &self.seen, &self.lease);
        self.gate
            .log
            .borrow_mut()
            .write(&self.record, &self.lease.access_logs);
        self.gate
            .ring
            .borrow_mut()
            .keep(&mut self.record, &mut self.seen, &self.lease);
        let clock = &self.connection.clock;
        if clock.phase() != Phase::Tunnel {
            clock.enter_at(Phase::Idle, now, self.lease.server.limits.idle_timeout);
        }
    }
}
