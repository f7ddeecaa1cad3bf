//! Facts → decision → permit or denial. The only place that asks policy.

use std::cell::{OnceCell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jiff::Timestamp;

use super::connection::Connection;
use crate::identity::certificate::ClientCertificate;
use crate::identity::device;
use crate::identity::revocation::Check;
use crate::identity::{AuthError, Authenticator, Head, Presented};
use crate::observe::record::{Decided, Record, Rule};
use crate::policy::decision::Credential;
use crate::policy::decision::{Place, StepUp};
use crate::policy::facts::{Facts, Identity, Scheme, TlsFacts};
use crate::policy::{Decision, First, Notes, Person, Policy, Refusal, RefusalStatus, Verdict};
use crate::respond::Notice;
use crate::snapshot::{Site, Snapshot};
use crate::value::device::Device;
use crate::value::failure::Failure;
use crate::value::path::Target;
use crate::value::principal::Principal;
use crate::value::reason::Reason;
use crate::value::region::{GeoFacts, Region};

/// What a request is judged by.
#[derive(Debug)]
pub struct Case<'r> {
    /// The configuration.
    pub snapshot: &'r Snapshot,
    /// The connection.
    pub connection: &'r Connection,
    /// Site and route.
    pub place: Place,
    /// The client address.
    pub client: IpAddr,
    /// The method.
    pub method: &'r Method,
    /// The scheme as judged.
    pub scheme: Scheme,
    /// The host as judged.
    pub host: &'r str,
    /// The host that redirects name: a trusted peer's word, else the host as judged.
    pub shown_host: &'r str,
    /// Host and port as the browser wrote them, or a trusted peer says.
    pub authority: Option<&'r str>,
    /// `Set-Cookie` fields that a renewed session needs.
    pub cookies: RefCell<Vec<HeaderValue>>,
    /// The target.
    pub target: &'r Target<'r>,
    /// The head's fields as received.
    pub headers: &'r HeaderMap,
    /// Whether it asks for a WebSocket.
    pub websocket: bool,
    /// The start of the request.
    pub now: Timestamp,
    /// What is revoked, where anything is.
    pub revoked: Option<&'r Check<'r>>,
}

/// A judged request.
#[derive(Debug)]
pub struct Judged {
    /// The conclusion.
    pub decision: Decision,
    /// Who asks, where that was looked at and somebody is known.
    pub person: Option<Person>,
    /// `WWW-Authenticate`, where the caller is asked to sign in.
    pub challenges: Vec<HeaderValue>,
    /// What was seen of the caller.
    pub caller: Caller,
    /// The device, where it was looked at.
    pub device: Option<Device>,
    /// Where the credential was not believed, so long to wait; then nothing else here counts.
    pub held: Option<Duration>,
}

/// What was seen of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Nothing: nobody looked.
    Unseen,
    /// Nobody, and this became of the credential.
    Anonymous(Credential),
    /// A credential that only a failed source could judge.
    Failed,
    /// Somebody; the person of [`Judged`].
    Known,
}

impl Judged {
    /// A conclusion for which nobody was looked for.
    #[must_use]
    pub const fn unseen(decision: Decision) -> Self {
        Self {
            decision,
            person: None,
            challenges: Vec::new(),
            caller: Caller::Unseen,
            device: None,
            held: None,
        }
    }

    /// Who asks: nobody, where nobody was looked for.
    #[must_use]
    pub const fn identity(&self) -> Identity<'_> {
        match (&self.person, self.caller) {
            (Some(person), _) => Identity::Known(person),
            (None, Caller::Failed) => Identity::Failed,
            (None, Caller::Unseen | Caller::Anonymous(_) | Caller::Known) => Identity::Anonymous,
        }
    }
}

impl Case<'_> {
    /// The site, where there is one.
    #[must_use]
    pub fn site(&self) -> Option<&Site> {
        self.snapshot.sites.get(self.place.site?.0 as usize)
    }

    /// Whether anybody can be known here.
    #[must_use]
    pub fn signs_in(&self) -> bool {
        let site = self.place.site;
        site.is_some_and(|site| self.snapshot.policy.signs_in(site))
    }

    /// Judges with identity open: what is certain whoever asks. `method` is the one that a preflight announces, or the request's
    /// own; the notes are for [`Case::second`].
    pub fn first(&self, method: &Method, record: &mut Record) -> (First, Notes) {
        let signs_in = self.signs_in();
        let lookup = |address| self.snapshot.geo.region(address, self.now);
        // Where nobody signs in, what a certificate and the list say is all.
        let device = (!signs_in).then(|| self.device(None)).flatten();
        let facts = self.facts(
            method,
            if signs_in {
                Identity::Open
            } else {
                Identity::Anonymous
            },
            device.as_ref(),
            &lookup,
        );
        let (first, notes) = self.snapshot.policy.first_noting(&facts, self.place);
        self.note_region(&facts, record);
        // The second judgement is of the request's own method: of another one nothing is settled.
        let same = method == self.method;
        (first, if same { notes } else { Notes::default() })
    }

    /// Verifies the credential and judges again.
    ///
    /// # Errors
    /// [`Failure::Malformed`] where two valid credentials of different people stand in the head.
    pub async fn second(
        &self,
        sources: &Authenticator,
        notes: Notes,
        record: &mut Record,
    ) -> Result<Judged, Failure> {
        let counted = self.site().and_then(|site| site.brute_force.as_ref());
        let head = Head {
            headers: self.headers,
            query: self.target.query(),
            client: self.client,
            peer: self.connection.peer_address,
            ask: Some(self),
            certificate: self.connection.certificate.as_deref(),
            revoked: self.revoked,
            guard: counted.map(|counted| counted.failures.guard(self.client, Instant::now())),
        };
        let presented = sources.authenticate(&head, self.now).await;
        let mut person = None;
        let (identity, credential) = match &presented {
            Presented::None => (Identity::Anonymous, Credential::Absent),
            Presented::Invalid { error, .. } => {
                record.auth_error = Some(match self.revoked {
                    Some(check) if *error == AuthError::Revoked => {
                        self.snapshot.revocation.added.reject();
                        check.words()
                    }
                    Some(_) | None => error.code().into(),
                });
                (Identity::Anonymous, Credential::Invalid)
            }
            Presented::Failed { .. } => {
                record.auth_error = Some("source_failed".into());
                (Identity::Failed, Credential::Absent)
            }
            Presented::Conflict => return Err(Failure::Malformed("two-credentials")),
            Presented::Held(wait) => {
                let nobody = Decision {
                    verdict: Verdict::NotAuthenticated,
                    rule: None,
                };
                return Ok(Judged {
                    held: Some(*wait),
                    ..Judged::unseen(nobody)
                });
            }
            Presented::Valid(principal) => {
                record.principal = Some(Arc::clone(principal));
                let known = person.insert(self.snapshot.policy.person(Arc::clone(principal)));
                (Identity::Known(known), Credential::Absent)
            }
        };
        let lookup = |address| self.snapshot.geo.region(address, self.now);
        let principal = match &presented {
            Presented::Valid(principal) => Some(&**principal),
            Presented::None
            | Presented::Invalid { .. }
            | Presented::Failed { .. }
            | Presented::Held(_)
            | Presented::Conflict => None,
        };
        let device = self.device(principal);
        let mut facts = self.facts(self.method, identity, device.as_ref(), &lookup);
        if let Some(region) = record.region {
            facts.region = OnceCell::from(region);
        }
        let policy = &self.snapshot.policy;
        let decision = policy.second_noting(&facts, self.place, credential, notes);
        self.note_region(&facts, record);
        let caller = match identity {
            Identity::Open | Identity::Anonymous => Caller::Anonymous(credential),
            Identity::Failed => Caller::Failed,
            Identity::Known(_) => Caller::Known,
        };
        let asked = matches!(
            decision.verdict,
            Verdict::NotAuthenticated | Verdict::InvalidToken | Verdict::StepUp(_)
        );
        let challenges = if asked {
            sources.challenges(&presented).to_vec()
        } else {
            Vec::new()
        };
        Ok(Judged {
            decision,
            person,
            challenges,
            caller,
            device,
            held: None,
        })
    }

    /// The region of the client, for headers and logs.
    #[must_use]
    pub fn region(&self) -> Region {
        self.snapshot.geo.region(self.client, self.now)
    }

    /// What is known of the device once so much is known of the caller; nothing where no rule reads it.
    pub(super) fn device_of(&self, identity: Identity<'_>) -> Option<Device> {
        match identity {
            // A token may speak of it.
            Identity::Open if self.signs_in() => None,
            Identity::Open | Identity::Anonymous | Identity::Failed => self.device(None),
            Identity::Known(person) => self.device(Some(&person.principal)),
        }
    }

    /// What is known of the device; nothing where no rule reads it.
    fn device(&self, principal: Option<&Principal>) -> Option<Device> {
        if !self.snapshot.policy.inputs().devices {
            return None;
        }
        let devices = self.snapshot.devices.as_ref().map(|list| &list.devices);
        Some(device::device(
            devices,
            self.certificate(),
            principal,
            self.now,
        ))
    }

    /// The client certificate, unless it is revoked.
    fn certificate(&self) -> Option<&ClientCertificate> {
        let certificate = self.connection.certificate.as_deref()?;
        let revoked = self
            .revoked
            .is_some_and(|check| check.certificate(certificate));
        (!revoked).then_some(certificate)
    }

    /// TLS facts: a certificate that is revoked was not shown.
    fn tls(&self) -> Option<TlsFacts> {
        let mut tls = self.connection.tls;
        if self.revoked.is_some()
            && let Some(tls) = &mut tls
        {
            tls.client_cert &= self.certificate().is_some();
        }
        tls
    }

    pub(super) fn facts<'f>(
        &'f self,
        method: &'f Method,
        identity: Identity<'f>,
        device: Option<&'f Device>,
        lookup: &'f dyn Fn(IpAddr) -> Region,
    ) -> Facts<'f> {
        Facts {
            peer: self.connection.peer_address,
            client: self.client,
            method,
            scheme: self.scheme,
            host: self.host,
            target: self.target,
            headers: self.headers,
            tls: self.tls(),
            websocket: self.websocket,
            now: self.now,
            identity,
            device,
            lookup,
            region: OnceCell::new(),
        }
    }

    pub(super) fn note_region(&self, facts: &Facts<'_>, record: &mut Record) {
        if record.region.is_some() {
            return;
        }
        record.region_facts = if self.snapshot.geo_log {
            GeoFacts::ALL
        } else {
            self.snapshot.policy.reads()
        };
        record.region = facts.region.get().copied();
        if record.region.is_none() && self.snapshot.geo_log {
            record.region = Some(self.region());
        }
    }
}

/// What a refused client is told, borrowed from the policy or fixed.
#[derive(Debug)]
pub struct Told<'p> {
    /// The status.
    pub status: u16,
    /// The public reason.
    pub reason: Reason,
    /// The rule's own words, where a rule or a route refused.
    pub refusal: Option<&'p Refusal>,
    /// `WWW-Authenticate`.
    pub challenges: Vec<HeaderValue>,
}

/// Puts a verdict into words for the client; `None` for an allow. Also fills the record.
pub fn tell<'p>(
    decision: Decision,
    challenges: Vec<HeaderValue>,
    snapshot: &'p Snapshot,
    record: &mut Record,
) -> Option<Told<'p>> {
    record.decision = Some(Decided::from(decision.verdict));
    record.rule = decision.rule.map(|id| Rule::from(snapshot.policy.rule(id)));
    let told = Told::of(decision.verdict, challenges, &snapshot.policy)?;
    record.reason = Some(told.reason.clone());
    Some(told)
}

impl<'p> Told<'p> {
    /// A verdict in words for the client; `None` for an allow.
    #[must_use]
    pub fn of(verdict: Verdict, challenges: Vec<HeaderValue>, policy: &'p Policy) -> Option<Self> {
        let plain = |status, reason| Self {
            status,
            reason,
            refusal: None,
            challenges: Vec::new(),
        };
        Some(match verdict {
            Verdict::Allow => return None,
            Verdict::Refuse(id) => {
                let refusal = policy.refusal(id);
                Self {
                    refusal: Some(refusal),
                    ..plain(refusal.status.code(), refusal.reason.clone())
                }
            }
            Verdict::NotAuthenticated => Self {
                challenges,
                ..plain(401, Reason::NOT_AUTHENTICATED)
            },
            Verdict::InvalidToken => Self {
                challenges,
                ..plain(401, Reason::INVALID_TOKEN)
            },
            Verdict::StepUp(id) => {
                let refusal = policy.refusal(id);
                let asks = refusal.step_up.as_ref().map(|step_up| step_up.challenge());
                Self {
                    refusal: Some(refusal),
                    challenges: raised(challenges, asks.as_deref()),
                    ..plain(refusal.status.code(), refusal.reason.clone())
                }
            }
            Verdict::CertificateRequired => plain(403, Reason::CERTIFICATE_REQUIRED),
            Verdict::Unavailable => plain(503, Reason::FACT_UNAVAILABLE),
            Verdict::NoSite => plain(421, Reason::MISDIRECTED),
            Verdict::NoRoute => plain(404, Reason::NO_ROUTE),
            Verdict::BadQuery => plain(400, Reason::MALFORMED_QUERY),
        })
    }

    /// The same for the room that writes answers.
    #[must_use]
    pub fn notice(&self) -> Notice<'_> {
        let refusal = self.refusal;
        Notice {
            message: refusal.and_then(|refusal| refusal.message.as_deref()),
            page: refusal.and_then(|refusal| refusal.page.as_deref()),
            link: refusal.and_then(|refusal| refusal.link.as_deref()),
            upgrade_url: refusal.and_then(|refusal| refusal.upgrade_url.as_deref()),
            challenges: &self.challenges,
            ..Notice::new(
                StatusCode::from_u16(self.status).unwrap_or(StatusCode::FORBIDDEN),
                &self.reason,
            )
        }
    }
}

/// The challenges of a site with what a step-up asks for (RFC 9470 §3) in those for tokens; where there is none, in one more:
/// only a token can tell how somebody signed in.
fn raised(mut challenges: Vec<HeaderValue>, asks: Option<&str>) -> Vec<HeaderValue> {
    let Some(asks) = asks else { return challenges };
    let mut found = false;
    for challenge in &mut challenges {
        let bearer = challenge
            .to_str()
            .ok()
            .filter(|text| text.starts_with(BEARER));
        let raised = bearer.and_then(|text| HeaderValue::try_from(format!("{text}, {asks}")).ok());
        if let Some(raised) = raised {
            *challenge = raised;
            found = true;
        }
    }
    if !found {
        challenges.extend(HeaderValue::try_from(format!("{BEARER}{asks}")));
    }
    challenges
}

const BEARER: &str = "Bearer ";

impl Told<'_> {
    /// What kind of sign-in is asked for, where somebody has to sign in once more: what a sign-in page must ask the provider
    /// for (`acr_values`, `max_age`).
    #[must_use]
    pub fn step_up(&self) -> Option<&StepUp> {
        self.refusal?.step_up.as_deref()
    }

    /// Whether the connection is closed without an answer.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.refusal
            .is_some_and(|refusal| refusal.status == RefusalStatus::Close)
    }
}
