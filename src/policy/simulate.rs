//! A request that nobody sent, judged as if it had been: for policy tests and `explain`.
//!
//! In tests a `dns:` name that has not been resolved has no addresses: they run where nothing is resolved. `explain` judges
//! as the running proxy does.

use std::cell::{Cell, OnceCell};
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method};
use jiff::Timestamp;

use super::evaluate::{Notes, Unresolved};
use super::explain::{Stage, Walk};
use super::facts::{Scheme, TlsFacts};
use super::{
    Credential, Decision, Facts, First, Identity, Place, Policy, RefusalStatus, Shadowed, Verdict,
};
use crate::value::device::Device;
use crate::value::path::{PathError, Target};
use crate::value::principal::Principal;
use crate::value::reason::Reason;
use crate::value::region::Region;

/// A request as facts.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The host, in the form that is judged.
    pub host: String,
    /// Path and query as a client would send them.
    pub target: String,
    /// The method.
    pub method: Method,
    /// The client address.
    pub client: IpAddr,
    /// Who opened the connection.
    pub peer: IpAddr,
    /// The region of the client address.
    pub region: Region,
    /// The scheme.
    pub scheme: Scheme,
    /// TLS, or clear text.
    pub tls: Option<TlsFacts>,
    /// Header fields, cookies among them.
    pub headers: HeaderMap,
    /// Whether a WebSocket is asked for.
    pub websocket: bool,
    /// When.
    pub now: Timestamp,
    /// Who asks.
    pub caller: Caller,
    /// The device, where it is not what the principal says of it.
    pub device: Option<Device>,
}

/// Who asks.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Somebody without a credential.
    Nobody,
    /// Somebody whose credential is not valid.
    Invalid,
    /// Somebody whose credential only a failed source could judge.
    Failed,
    /// Somebody known.
    Known(Arc<Principal>),
}

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its path cannot be read in one way only.
    Malformed(PathError),
    /// The two readings of its path meet different rules.
    Ambiguous,
    /// It was judged.
    Judged {
        /// Where.
        place: Place,
        /// How.
        decision: Decision,
        /// Whether the credential was looked at.
        verified: bool,
    },
}

/// Judges a request as policy tests do.
#[must_use]
pub fn judge(policy: &Policy, asked: &Asked) -> Outcome {
    on(
        policy,
        asked,
        |facts, place| policy.first_with(facts, place, Unresolved::Outside).0,
        |facts, place, credential| {
            policy.second_with(
                facts,
                place,
                credential,
                Unresolved::Outside,
                Notes::default(),
            )
        },
    )
}

/// Judges a request as the running proxy does, with the walk that led there; none where no rule was asked.
#[must_use]
pub fn explain(policy: &Policy, asked: &Asked) -> (Outcome, Option<Walk>) {
    let walked = Cell::new(None);
    let outcome = on(
        policy,
        asked,
        |facts, place| {
            let walk = policy.walk(facts, place, Stage::Unseen);
            let conclusion = walk.conclusion;
            walked.set(Some(walk));
            conclusion
        },
        |facts, place, credential| {
            let walk = policy.walk(facts, place, Stage::Seen(credential));
            walked.set(Some(walk));
            policy.second(facts, place, credential)
        },
    );
    (outcome, walked.take())
}

/// The shadow rules that would have answered otherwise, as the running proxy finds them.
#[must_use]
pub fn shadowed(policy: &Policy, asked: &Asked) -> Vec<Shadowed> {
    let told = Cell::new(Vec::new());
    let _live = on(
        policy,
        asked,
        |facts, place| {
            let first = policy.first(facts, place);
            if let First::Decided(decision) = first {
                told.set(
                    policy
                        .shadowed(facts, place, Stage::Unseen, decision)
                        .to_vec(),
                );
            }
            first
        },
        |facts, place, credential| {
            let decision = policy.second(facts, place, credential);
            let stage = Stage::Seen(credential);
            told.set(policy.shadowed(facts, place, stage, decision).to_vec());
            decision
        },
    );
    told.into_inner()
}

/// Judges a request as the running proxy does.
#[must_use]
pub fn live(policy: &Policy, asked: &Asked) -> Outcome {
    on(
        policy,
        asked,
        |facts, place| policy.first(facts, place),
        |facts, place, credential| policy.second(facts, place, credential),
    )
}

fn on(
    policy: &Policy,
    asked: &Asked,
    first: impl FnOnce(&Facts<'_>, Place) -> First,
    second: impl FnOnce(&Facts<'_>, Place, Credential) -> Decision,
) -> Outcome {
    let target = match Target::read(&asked.target) {
        Ok(target) => target,
        Err(error) => return Outcome::Malformed(error),
    };
    let Ok(place) = policy.locate(&asked.host, &target) else {
        return Outcome::Ambiguous;
    };
    let lookup = |_: IpAddr| asked.region;
    let mut facts = Facts {
        peer: asked.peer.to_canonical(),
        client: asked.client.to_canonical(),
        method: &asked.method,
        scheme: asked.scheme,
        host: &asked.host,
        target: &target,
        headers: &asked.headers,
        tls: asked.tls,
        websocket: asked.websocket,
        now: asked.now,
        identity: Identity::Open,
        device: asked.device.as_ref(),
        lookup: &lookup,
        region: OnceCell::new(),
    };
    let person;
    let (decision, verified) = match first(&facts, place) {
        First::Decided(decision) => (decision, false),
        First::SignIn => {
            let mut credential = Credential::Absent;
            facts.identity = match &asked.caller {
                Caller::Nobody => Identity::Anonymous,
                Caller::Invalid => {
                    credential = Credential::Invalid;
                    Identity::Anonymous
                }
                Caller::Failed => Identity::Failed,
                Caller::Known(principal) => {
                    person = policy.person(Arc::clone(principal));
                    Identity::Known(&person)
                }
            };
            (second(&facts, place, credential), true)
        }
    };
    Outcome::Judged {
        place,
        decision,
        verified,
    }
}

impl Outcome {
    /// The status that answers; none where the request passes. `Close` counts as 444.
    #[must_use]
    pub fn status(&self, policy: &Policy) -> Option<u16> {
        match self {
            Self::Malformed(_) | Self::Ambiguous => Some(400),
            Self::Judged { decision, .. } => match decision.verdict {
                Verdict::Allow => None,
                Verdict::Refuse(id) | Verdict::StepUp(id) => Some(policy.refusal(id).status.code()),
                Verdict::NotAuthenticated | Verdict::InvalidToken => Some(401),
                Verdict::CertificateRequired => Some(RefusalStatus::Forbidden.code()),
                Verdict::Unavailable => Some(503),
                Verdict::NoSite => Some(421),
                Verdict::NoRoute => Some(RefusalStatus::NotFound.code()),
                Verdict::BadQuery => Some(400),
            },
        }
    }

    /// The public reason; none where the request passes.
    #[must_use]
    pub fn reason(&self, policy: &Policy) -> Option<Reason> {
        Some(match self {
            Self::Malformed(_) => Reason::fixed("malformed_request"),
            Self::Ambiguous => Reason::fixed("ambiguous_path"),
            Self::Judged { decision, .. } => match decision.verdict {
                Verdict::Allow => return None,
                Verdict::Refuse(id) | Verdict::StepUp(id) => policy.refusal(id).reason.clone(),
                Verdict::NotAuthenticated => Reason::NOT_AUTHENTICATED,
                Verdict::InvalidToken => Reason::INVALID_TOKEN,
                Verdict::CertificateRequired => Reason::CERTIFICATE_REQUIRED,
                Verdict::Unavailable => Reason::FACT_UNAVAILABLE,
                Verdict::NoSite => Reason::MISDIRECTED,
                Verdict::NoRoute => Reason::NO_ROUTE,
                Verdict::BadQuery => Reason::fixed("malformed_query"),
            },
        })
    }
}
