//! The stack, in order, for one request.
//!
//! 1. `exchange` opens the access record: outermost, so that every outcome below is logged.
//! 2. `intake` refuses what can be read in two ways, before anything is concluded from it.
//! 3. The client address: policy judges it, so a word that a trusted peer garbled must stop here.
//!    An authority that asks for a challenge of ours is answered here: it is nobody's client.
//! 4. Site and route (`Policy::locate`). The paths where a browser comes back from its provider are answered (`sign_in`); else
//!    comes the first judgement with identity open: certain denies cost no cryptography.
//! 5. What needs no sign-in and no upstream: 421 by certificate, the https redirect, CORS preflights; then a closed site, and
//!    the limits per client, which protect the sign-in.
//! 6. Sign-in and the second judgement, only where identity matters, unless the client has to wait for its guesses (`held`);
//!    then the other limits, which count what is allowed.
//! 7. The answer: denial, redirect, fixed answer, or the upstream, which spends the permit.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, SET_COOKIE,
    STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use jiff::Timestamp;

use super::acme;
use super::again;
use super::body::GateBody;
use super::compress;
use super::connection::{Connection, Tunnel};
use super::enforce::{Caller, Case, Judged, tell};
use super::exchange::Exchange;
use super::headers::{self, Hop};
use super::held;
use super::intake::{self, Intake};
use super::leftover;
use super::limit::{Reached, record_closed};
use super::own::{Asking, Early, asker, fail, fill, fill_edits, fixed, redirect};
use super::request_id::{self, Ids};
use super::rewrite;
use super::sign_in;
use super::upward::{Forwarding, edit, edit_response, edits_of, identity_headers};
use crate::client::address::Derived;
use crate::observe::access_log::WorkerLog;
use crate::observe::metrics::WorkerMetrics;
use crate::observe::record::{AnsweredBy, Decided, Text, UpstreamPart};
use crate::observe::ring::Ring;
use crate::policy::decision::Place;
use crate::policy::facts::Scheme;
use crate::policy::limit::Stage;
use crate::policy::maintenance::Kept;
use crate::policy::{First, Identity, Permit, Verdict};
use crate::respond::{self, Notice};
use crate::share::Store;
use crate::snapshot::headers::Location;
use crate::snapshot::store::{Handle, Lease};
use crate::snapshot::{Answer, Balance, Codec, EditsAnswers, Route, Site, Snapshot, Upstream};
use crate::upstream::body::{ClientBody, RequestBody};
use crate::upstream::forward::{Added, Up};
use crate::upstream::forward::{Patience, Terms};
use crate::upstream::{self, Clock, Phase, Pools, Trace};
use crate::value::failure::Failure;
use crate::value::reason::Reason;

/// The gate of one worker: what all its requests share.
#[derive(Debug)]
pub struct Gate {
    /// The newest snapshot.
    pub handle: RefCell<Handle>,
    /// Upstream connections.
    pub pools: Pools,
    /// Access logs.
    pub log: RefCell<WorkerLog>,
    /// Counters.
    pub metrics: WorkerMetrics,
    /// What the newest requests were judged by.
    pub ring: RefCell<Ring>,
    /// The earliest second at which the right of a request under way ends.
    pub soonest: Cell<i64>,
    /// What several machines share.
    pub share: Store,
}

/// The connection must be closed without an answer (a deny with `status = "close"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("closed by policy")]
pub struct Stop;

/// The gate as a service for one connection.
#[derive(Debug, Clone)]
pub struct GateService {
    gate: Rc<Gate>,
    connection: Rc<Connection>,
}

/// A request on its way to its answer.
pub type Answering = Pin<Box<dyn Future<Output = Result<Response<GateBody>, Stop>>>>;

impl GateService {
    /// The service of one connection.
    #[must_use]
    pub const fn new(gate: Rc<Gate>, connection: Rc<Connection>) -> Self {
        Self { gate, connection }
    }
}

impl tower::Service<Request<Incoming>> for GateService {
    type Response = Response<GateBody>;
    type Error = Stop;
    type Future = Answering;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Answering {
        hyper::service::Service::call(self, request)
    }
}

impl hyper::service::Service<Request<Incoming>> for GateService {
    type Response = Response<GateBody>;
    type Error = Stop;
    type Future = Answering;

    // One box a request, here at the outermost seam: hyper wants the future unpinnable, and boxing per step costs five times as much.
    fn call(&self, request: Request<Incoming>) -> Answering {
        // The record opens here and not in the future: a client may be gone before that is polled for the first time.
        let opened = self.gate.open(&self.connection, request);
        let gate = Rc::clone(&self.gate);
        let connection = Rc::clone(&self.connection);
        Box::pin(async move {
            let mut answer = gate.serve(opened).await;
            if let (Some(hsts), Ok(response)) = (&connection.listener.hsts, &mut answer) {
                // In place of the application's own: browsers read the first one only (RFC 6797 §8.1).
                let headers = response.headers_mut();
                headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
            }
            if connection.clock.leaving() {
                answer = answer.map(last);
            }
            answer
        })
    }
}

/// Tells an HTTP/1.1 client that its connection ends with this answer (RFC 9112 §9.6).
fn last(mut response: Response<GateBody>) -> Response<GateBody> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

impl Gate {
    /// The newest snapshot.
    pub fn lease(&self) -> Lease {
        let lease = self.handle.borrow_mut().current().clone();
        self.pools.adopt(&lease);
        lease
    }

    /// Step 1.
    fn open(self: &Rc<Self>, connection: &Rc<Connection>, request: Request<Incoming>) -> Opened {
        let lease = self.lease();
        let now = Instant::now();
        let started = Timestamp::now();
        connection.clock.begin(now, JUDGE_PATIENCE);
        let (mut parts, incoming) = request.into_parts();
        intake::complete(&mut parts.uri);
        let trusted = lease.trust.trusts(connection.peer_address);
        let ids = Ids::of(&parts.headers, trusted, started);
        let id = ids.request_id.clone();
        let moment = (started, now);
        let mut exchange = Exchange::open(self, connection, &lease, &parts, id, moment);
        exchange.record.trace_id = Some(ids.trace_id);
        Opened {
            parts,
            incoming,
            ids,
            exchange,
        }
    }

    async fn serve(self: Rc<Self>, opened: Opened) -> Result<Response<GateBody>, Stop> {
        let Opened {
            parts,
            incoming,
            ids,
            mut exchange,
        } = opened;
        let lease = exchange.lease.clone();
        let connection = &Rc::clone(exchange.connection());
        let outcome = self.decide(connection, &lease, &parts, &mut exchange).await;
        let now = Instant::now();
        let spent = now.saturating_duration_since(exchange.record.clock);
        exchange.record.policy_duration = Some(spent);
        let passed = match outcome {
            Ok(Step::Pass(passed)) => passed,
            Ok(Step::Answer(mut response)) => {
                leftover::leave(incoming, &parts, &connection.clock, &mut response);
                return Ok(self.finish(exchange, response));
            }
            Ok(Step::Close) => {
                exchange.record.status = crate::observe::record::STATUS_CLOSED;
                exchange.record.answered_by = AnsweredBy::Policy;
                return Err(Stop);
            }
            Err(failure) => {
                let mut response = fail(failure, &lease, None, &parts, &mut exchange);
                leftover::leave(incoming, &parts, &connection.clock, &mut response);
                return Ok(self.finish(exchange, response));
            }
        };
        self.forward(*passed, parts, incoming, &ids, exchange, now)
            .await
    }

    /// Steps 2 to 7 but for the upstream.
    async fn decide(
        &self,
        connection: &Rc<Connection>,
        lease: &Lease,
        parts: &Parts,
        exchange: &mut Exchange,
    ) -> Result<Step, Failure> {
        let snapshot: &Snapshot = lease;
        if connection.fragment.take() {
            return Err(Failure::Malformed("fragment"));
        }
        let Intake {
            target,
            authority,
            host,
            websocket,
            length,
        } = intake::read(parts, &snapshot.server.limits)?;
        let derived = snapshot
            .trust
            .derive(connection.peer_address, &parts.headers);
        let Derived {
            client,
            scheme,
            host: told,
        } = derived.ok().ok_or(Failure::Malformed("forwarding"))?;
        // A trusted peer's word for the host, which it may have from anybody, names links: the site and its rules go by the host
        // that the upstream will see.
        let shown = told.or_else(|| intake::authority(parts));
        let told = told.map(intake::judged).transpose()?;
        let scheme = scheme.unwrap_or_else(|| connection.scheme());
        let record = &mut exchange.record;
        record.client = Some(client);
        record.scheme = Some(scheme);
        record.host = Some(Text::from(&*host));

        if let Some(proof) = acme::answer(&snapshot.challenges, parts, &host, record) {
            return Ok(Step::Answer(proof));
        }
        let located = snapshot.policy.locate(&host, &target);
        let place = located.ok().ok_or(Failure::AmbiguousPath)?;
        exchange.seen.place = place;
        exchange.seen.websocket = websocket;
        let check = snapshot.revocation.check(exchange.record.started);
        let case = Case {
            snapshot,
            connection,
            place,
            client,
            method: &parts.method,
            scheme,
            host: &host,
            shown_host: told.as_deref().unwrap_or(&host),
            authority: shown,
            cookies: RefCell::default(),
            target: &target,
            headers: &parts.headers,
            websocket,
            now: exchange.record.started,
            revoked: check.as_ref(),
        };
        let site = case.site();
        let route = route_of(snapshot, place);
        exchange.coding = compress::wish(site, parts);
        let record = &mut exchange.record;
        record.site = site.map(|site| Arc::clone(&site.name));
        record.route = route.map(|route| Arc::clone(&route.pattern));

        if snapshot.edits_answers == EditsAnswers::Somewhere {
            let edits = edits_of(snapshot, place);
            if edits.fills() {
                exchange.filled = fill_edits(edits, &case, route);
            }
        }

        if let Some(site) = site.filter(|site| sign_in::owns(site, target.path())) {
            if let Some(response) = unasked(&case, Some(site), None, parts, &mut exchange.record) {
                return response.map(Step::Answer);
            }
            let answer = Box::pin(sign_in::reserved(&case, site, parts, exchange)).await;
            return answer.map(Step::Answer);
        }
        let record = &mut exchange.record;

        // Only a preflight that we answer is judged by the method it announces: anything else goes up as what it is.
        let preflight = site
            .and_then(|site| respond::preflight(site.cors.as_ref(), &parts.method, &parts.headers));
        let announced = preflight
            .as_ref()
            .and_then(|_| respond::announced(&parts.headers));
        let method = announced.as_ref().unwrap_or(&parts.method);
        let (first, notes) = case.first(method, record);
        let certain = match first {
            First::Decided(decision) => decision.verdict,
            First::SignIn => Verdict::Allow,
        };
        if certain == Verdict::Allow
            && let Some(response) = unasked(&case, site, preflight, parts, record)
        {
            return response.map(Step::Answer);
        }
        let policy = &snapshot.policy;
        // What guards beside the denies: one branch each where a site has none.
        let mut kept = Kept::Excepted;
        if certain == Verdict::Allow && site.is_some_and(|site| site.maintenance.closed(case.now)) {
            kept = case.kept_out(method, &mut exchange.record);
            if kept == Kept::Out {
                return Ok(closed(&case, parts, exchange));
            }
        }
        if matches!(certain, Verdict::Allow | Verdict::NoSite | Verdict::NoRoute)
            && policy.limited(place, Stage::Early)
            && let Some(reached) = case
                .counted(&self.share, method, Identity::Open, Stage::Early, exchange)
                .await
        {
            return Ok(limited(&reached, &case, parts, exchange));
        }
        let asks = kept == Kept::Open || policy.limits_ask(place);
        let judged = match (first, site) {
            (First::Decided(decision), Some(site))
                if asks && decision.verdict == Verdict::Allow && case.signs_in() =>
            {
                case.second(&site.identity, notes, &mut exchange.record)
                    .await?
            }
            (First::Decided(decision), _) => Judged::unseen(decision),
            (First::SignIn, Some(site)) => {
                case.second(&site.identity, notes, &mut exchange.record)
                    .await?
            }
            // A site that is not there asks nobody to sign in.
            (First::SignIn, None) => return Err(Failure::Internal),
        };
        if let Some(wait) = judged.held {
            held::record(site, &mut exchange.record);
            let asker = asker(snapshot, site, route, parts, &exchange.record);
            return Ok(Step::Answer(held::answer(wait, &asker)));
        }
        let decision = judged.decision;
        exchange.cookies.append(&mut case.cookies.borrow_mut());
        if decision.verdict == Verdict::Allow {
            if kept == Kept::Open {
                let record = &mut exchange.record;
                if case.kept_out_after_all(judged.identity(), record) != Kept::Excepted {
                    return Ok(closed(&case, parts, exchange));
                }
            }
            if policy.limited(place, Stage::Late) {
                let identity = judged.identity();
                let counted =
                    case.counted(&self.share, &parts.method, identity, Stage::Late, exchange);
                if let Some(reached) = counted.await {
                    return Ok(limited(&reached, &case, parts, exchange));
                }
            }
        }
        let record = &mut exchange.record;
        if case.watched() {
            case.watch(&judged, record);
        }
        let Judged {
            decision,
            person,
            challenges,
            caller: seen,
            device,
            held: _,
        } = judged;
        exchange.seen.device = device;
        exchange.seen.decision = Some(decision);
        exchange.seen.looked = seen != Caller::Unseen;
        if let Some(told) = tell(decision, challenges, snapshot, record) {
            record.answered_by = AnsweredBy::Policy;
            if told.closes() {
                return Ok(Step::Close);
            }
            if let Some(answer) = sign_in::instead(&case, site, &told, parts, exchange) {
                return answer.map(Step::Answer);
            }
            let asker = asker(snapshot, site, route, parts, &exchange.record);
            return Ok(Step::Answer(respond::answer(&told.notice(), &asker)));
        }
        let (Some(permit), Some(site), Some(route)) = (decision.permit(), site, route) else {
            return Err(Failure::Internal);
        };
        if exchange.seen.looked || websocket || policy.inputs().cookies {
            exchange.keep_head(parts, site, snapshot);
            let ends = person.as_ref().and_then(|person| person.principal.expires);
            if let Some(end) = ends {
                self.ends(&connection.clock, end.as_second());
            }
        }
        let passed = Passed {
            permit,
            place,
            upstream: match &route.answer {
                Answer::Upstream(upstream) => Arc::clone(upstream),
                Answer::Redirect { status, to } => {
                    let location = fill(to, &case, Some(route));
                    exchange.record.answered_by = AnsweredBy::Policy;
                    return redirect(*status, &location).map(Step::Answer);
                }
                Answer::Fixed {
                    status,
                    content_type,
                    body,
                } => {
                    if connection.misled(*status, &parts.headers) {
                        return Err(Failure::MethodNotAllowed);
                    }
                    exchange.record.answered_by = AnsweredBy::Policy;
                    return Ok(Step::Answer(fixed(
                        *status,
                        content_type.as_ref(),
                        body,
                        &parts.method,
                    )));
                }
            },
            websocket,
            length,
            forwarding: Forwarding {
                client,
                scheme,
                host: authority,
            },
            identity: identity_headers(site, person.as_ref(), &case, &exchange.record.request_id)?,
            filled: if route.request_headers.fills() {
                fill_edits(&route.request_headers, &case, Some(route))
            } else {
                Vec::new()
            },
        };
        Ok(Step::Pass(Box::new(passed)))
    }

    /// Sends a request that was allowed at this moment upstream and streams the answer.
    async fn forward(
        &self,
        passed: Passed,
        mut parts: Parts,
        mut incoming: Incoming,
        ids: &Ids,
        mut exchange: Box<Exchange>,
        now: Instant,
    ) -> Result<Response<GateBody>, Stop> {
        let lease = exchange.lease.clone();
        let connection = Rc::clone(exchange.connection());
        let (site, route) = (
            site_of(&lease, passed.place),
            route_of(&lease, passed.place),
        );
        let (Some(site), Some(route)) = (site, route) else {
            let response = fail(Failure::Internal, &lease, None, &parts, &mut exchange);
            return Ok(self.finish(exchange, response));
        };
        let length = passed.length;
        if length.is_some_and(|length| length > route.body_size) {
            let response = fail(
                Failure::BodyTooLarge,
                &lease,
                Some((site, route)),
                &parts,
                &mut exchange,
            );
            if parts.version > Version::HTTP_11 {
                leftover::linger(incoming);
            }
            return Ok(self.finish(exchange, response));
        }
        let patience = Patience {
            connect: route
                .connect_timeout
                .unwrap_or(passed.upstream.connect_timeout),
            response: route
                .response_timeout
                .unwrap_or(passed.upstream.response_timeout),
        };
        // What the answer to a failure needs of the head as the client sent it.
        let received = (!route.request_headers.is_empty()).then(|| Asking::of(&parts));
        let (clock, limits) = (&connection.clock, &lease.server.limits);
        if length == Some(0)
            && !incoming.is_end_stream()
            && let Err(failure) = nothing_more(&mut incoming, clock, limits.body_timeout).await
        {
            let response = fail(failure, &lease, Some((site, route)), &parts, &mut exchange);
            return Ok(self.finish(exchange, response));
        }
        let stream_idle = route
            .stream_idle_timeout
            .unwrap_or(limits.stream_idle_timeout);
        let calls = calls(&passed.upstream, &parts.headers);
        let body = if incoming.is_end_stream() || length == Some(0) {
            RequestBody::Empty
        } else {
            let limits = &lease.server.limits;
            let (clock, tally) = (Rc::clone(&connection.clock), Rc::clone(&exchange.tally));
            let between_reads = if calls {
                stream_idle
            } else {
                route.body_timeout.unwrap_or(limits.body_timeout)
            };
            let patience = (between_reads, patience.response);
            RequestBody::Client(ClientBody::new(
                incoming,
                route.body_size,
                clock,
                tally,
                patience.0,
                patience.1,
            ))
        };
        let hop = if passed.websocket {
            Hop::WebSocket
        } else {
            Hop::Ends
        };
        let mut added = Added::new();
        let edited = edit(
            &mut parts,
            &mut added,
            &passed,
            (site, route),
            &connection,
            ids,
            (hop, &lease.stripped),
        );
        if let Err(failure) = edited {
            let asking = received.unwrap_or_else(|| Asking::of(&parts));
            let response = asking.fail(failure, &lease, Some((site, route)), &mut exchange);
            return Ok(self.finish(exchange, response));
        }
        let relocation = route.rewrite.as_deref();
        let relocation = relocation.filter(|rewrite| rewrite.location == Location::Rewrite);
        if length.is_none() && matches!(body, RequestBody::Client(_)) {
            // Written out, since a body on GET is not expected and would be left out.
            let chunked = HeaderValue::from_static("chunked");
            parts.headers.insert(TRANSFER_ENCODING, chunked);
        }
        parts.version = Version::HTTP_11;
        let asking = || received.unwrap_or_else(|| Asking::of(&parts));

        let up = Up {
            head: &parts,
            added: &added,
        };
        let pool = self.pools.of(&passed.upstream);
        let terms = Terms {
            patience,
            caller: connection.caller(passed.forwarding.client),
            began: now,
        };
        let mut trace = Trace::default();
        let tally = Rc::clone(&exchange.tally);
        let outcome = if passed.websocket {
            let sending = upstream::upgrade(
                passed.permit,
                (up, body),
                &pool,
                &terms,
                &connection.clock,
                &mut trace,
            );
            let sent = again::within(&exchange, pin!(sending)).await;
            sent.map(|sent| sent.map(|(response, upgraded)| (response, Some(upgraded))))
        } else {
            let sending = upstream::forward(
                passed.permit,
                (up, body),
                &pool,
                &terms,
                &connection.clock,
                &tally,
                &mut trace,
            );
            let sent = again::within(&exchange, pin!(sending)).await;
            sent.map(|sent| sent.map(|response| (response, None)))
        };
        exchange.record.upstream = Some(upstream_part(&passed.upstream, &mut trace));
        let (response, upgraded) = match outcome {
            Ok(Ok(answer)) => answer,
            Err(gone) => {
                let response = asking().gone(*gone, &mut exchange);
                return Ok(self.finish(exchange, response));
            }
            Ok(Err(failure)) => {
                let failure = tally.failure.get().unwrap_or(failure);
                let response = asking().fail(failure, &lease, Some((site, route)), &mut exchange);
                return Ok(self.finish(exchange, response));
            }
        };
        let (mut head, body) = response.into_parts();
        if let Some(part) = &mut exchange.record.upstream {
            part.status = Some(head.status.as_u16());
        }
        if connection.misled(head.status, &head.headers) {
            let failure = Failure::UpstreamMalformed;
            let response = asking().fail(failure, &lease, Some((site, route)), &mut exchange);
            return Ok(self.finish(exchange, response));
        }
        exchange.record.status = head.status.as_u16();
        exchange.record.answered_by = AnsweredBy::Upstream;
        let sticky = trace
            .code
            .and_then(|code| sticky_cookie(&passed.upstream, &code, passed.forwarding.scheme));
        if let (StatusCode::SWITCHING_PROTOCOLS, Some(upgraded)) = (head.status, upgraded) {
            headers::upgraded(&mut head.headers);
            if let Some(sticky) = sticky {
                head.headers.append(SET_COOKIE, sticky);
            }
            connection.clock.enter(Phase::Tunnel, stream_idle);
            connection.tunnel.replace(Some(Tunnel {
                upstream: upgraded,
                patience: stream_idle,
                exchange,
            }));
            return Ok(Response::from_parts(
                head,
                GateBody::whole(Bytes::new(), None, lease.server.limits.idle_timeout),
            ));
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            // Nobody asked for another protocol: an answer that we could not relay (RFC 9110 §15.2.2).
            let response = asking().fail(
                Failure::UpstreamMalformed,
                &lease,
                Some((site, route)),
                &mut exchange,
            );
            return Ok(self.finish(exchange, response));
        }
        if let Some(rule) = &site.intercept {
            let asking = asking();
            if respond::intercepts(rule, head.status, &head.headers, &asking.headers, site.api) {
                let response =
                    asking.intercept(head.status, &head.headers, &lease, site, route, &exchange);
                return Ok(self.finish(exchange, response));
            }
        }
        head.version = Version::HTTP_11;
        if let Some(sticky) = sticky {
            head.headers.append(SET_COOKIE, sticky);
        }
        head.headers
            .insert(request_id::X_REQUEST_ID, ids.request_id.clone());
        if let Some(rewrite) = relocation
            && let Some(value) = head.headers.get(LOCATION)
        {
            let host = passed.forwarding.host.as_ref();
            let host = host.and_then(|host| host.to_str().ok());
            let inner = route.host_header.as_ref();
            let inner = inner.and_then(|host| host.to_str().ok());
            let servers = passed.upstream.servers.iter();
            let servers = servers.map(|server| &*server.authority);
            let inner = servers.chain(inner);
            if let Some(value) = rewrite::location(value, rewrite, host, inner) {
                head.headers.insert(LOCATION, value);
            }
        }
        edit_response(&mut head.headers, &exchange);
        let limits = &lease.server.limits;
        let patience = if calls || event_stream(&head.headers) {
            stream_idle
        } else {
            limits.idle_timeout.max(patience.response)
        };
        let answered = trace.answered.unwrap_or_else(Instant::now);
        connection.clock.enter_at(Phase::Stream, answered, patience);
        let body = GateBody::upstream(body, exchange, patience);
        Ok(compress::answer(Response::from_parts(head, body)))
    }

    /// Hands out an answer of ours.
    #[expect(clippy::unused_self, reason = "the gate is where answers leave")]
    fn finish(&self, mut exchange: Box<Exchange>, response: Response<Bytes>) -> Response<GateBody> {
        exchange.record.status = response.status().as_u16();
        let patience = exchange.lease.server.limits.idle_timeout;
        exchange.connection().clock.enter(Phase::Stream, patience);
        let (mut head, body) = response.into_parts();
        if !head.headers.contains_key(&request_id::X_REQUEST_ID) {
            head.headers
                .insert(request_id::X_REQUEST_ID, exchange.record.request_id.clone());
        }
        edit_response(&mut head.headers, &exchange);
        let body = GateBody::whole(body, Some(exchange), patience);
        compress::answer(Response::from_parts(head, body))
    }
}

/// A request whose record is open.
struct Opened {
    parts: Parts,
    incoming: Incoming,
    ids: Ids,
    exchange: Box<Exchange>,
}

/// What `decide` came to.
enum Step {
    /// The request goes upstream.
    Pass(Box<Passed>),
    /// We answer.
    Answer(Response<Bytes>),
    /// The connection is closed.
    Close,
}

/// An allowed request on its way up.
pub(super) struct Passed {
    permit: Permit,
    place: Place,
    pub(super) upstream: Arc<Upstream>,
    websocket: bool,
    /// How long its body says it is, in bytes.
    length: Option<u64>,
    pub(super) forwarding: Forwarding,
    pub(super) identity: Vec<(HeaderName, HeaderValue)>,
    /// What edits of the request say with words of it.
    pub(super) filled: Vec<Option<HeaderValue>>,
}

pub(super) fn site_of(snapshot: &Snapshot, place: Place) -> Option<&Site> {
    snapshot.sites.get(place.site?.0 as usize)
}

pub(super) fn route_of(snapshot: &Snapshot, place: Place) -> Option<&Route> {
    site_of(snapshot, place)?
        .routes
        .get(place.route?.0 as usize)
}

/// Answers that need nobody's identity and no route: the wrong certificate, the https redirect, a preflight.
fn unasked(
    case: &Case<'_>,
    site: Option<&Site>,
    preflight: Option<Response<Bytes>>,
    parts: &Parts,
    record: &mut crate::observe::record::Record,
) -> Option<Early> {
    let connection = case.connection;
    if let Some(certificates) = &connection.certificates
        && !certificates.covers(connection.sni.as_deref(), case.host)
    {
        record.decision = Some(Decided::Deny);
        record.reason = Some(Reason::MISDIRECTED);
        let reason = Reason::MISDIRECTED;
        let notice = Notice::new(StatusCode::MISDIRECTED_REQUEST, &reason);
        let asker = asker(case.snapshot, site, None, parts, record);
        return Some(Ok(respond::answer(&notice, &asker)));
    }
    if connection.listener.redirect_https && case.scheme == Scheme::Http {
        record.answered_by = AnsweredBy::Policy;
        let location = format!(
            "https://{}{}",
            case.shown_host,
            parts.uri.path_and_query().map_or("/", PathAndQuery::as_str)
        );
        return Some(redirect(StatusCode::PERMANENT_REDIRECT, &location));
    }
    let preflight = preflight?;
    record.answered_by = AnsweredBy::Policy;
    Some(Ok(preflight))
}

/// The answer of a closed site.
fn closed(case: &Case<'_>, parts: &Parts, exchange: &mut Exchange) -> Step {
    record_closed(&mut exchange.record);
    let route = route_of(case.snapshot, case.place);
    let asker = asker(case.snapshot, case.site(), route, parts, &exchange.record);
    Step::Answer(case.closed(&asker))
}

/// The answer of a limit.
fn limited(reached: &Reached<'_>, case: &Case<'_>, parts: &Parts, exchange: &mut Exchange) -> Step {
    reached.record(&mut exchange.record);
    let route = route_of(case.snapshot, case.place);
    let asker = asker(case.snapshot, case.site(), route, parts, &exchange.record);
    Step::Answer(reached.answer(&asker))
}

fn upstream_part(upstream: &Upstream, trace: &mut Trace) -> UpstreamPart {
    let mut part = UpstreamPart::new(Arc::clone(&upstream.name));
    part.address = trace.endpoint.take();
    part.retries = trace.retries;
    part.connect = (trace.connect > Duration::ZERO).then_some(trace.connect);
    part.response = trace.response;
    part
}

/// The cookie that brings a client back to its endpoint. No script needs it, no other site may send it along.
fn sticky_cookie(upstream: &Upstream, code: &str, scheme: Scheme) -> Option<HeaderValue> {
    let Balance::Cookie(name) = &upstream.balance else {
        return None;
    };
    let secure = match scheme {
        Scheme::Https => "; Secure",
        Scheme::Http => "",
    };
    let cookie = format!("{name}={code}; Path=/; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::try_from(cookie).ok()
}

/// Waits for the end of a body that was declared empty: in HTTP/2 it may turn out not to be (RFC 9113 §8.1.1).
async fn nothing_more(
    incoming: &mut Incoming,
    clock: &Clock,
    patience: Duration,
) -> Result<(), Failure> {
    clock.enter(Phase::Upload, patience);
    loop {
        match clock.within(incoming.frame()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(frame))) if frame.data_ref().is_none_or(Bytes::is_empty) => {}
            Ok(Some(_)) => return Err(Failure::BodyBroken),
            Err(_expired) => return Err(Failure::BodyTimeout),
        }
    }
}

/// Whether this is a gRPC call, whose streams may be silent both ways for as long as an event stream.
fn calls(upstream: &Upstream, headers: &HeaderMap) -> bool {
    let able = match upstream.codec {
        Codec::Http2 | Codec::Auto => true,
        Codec::Lean | Codec::Hyper => false,
    };
    able && headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

/// Longer than any sign-in may take; those have bounds of their own.
const JUDGE_PATIENCE: Duration = Duration::from_secs(30);
