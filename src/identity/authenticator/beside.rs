//! Who else says who asks: a certificate, a trusted peer, an external service, a session of a browser.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use jiff::Timestamp;

use super::{Authenticator, Findings, Judged, NOBODY, Outcome};
use crate::identity::certificate::ClientCertificate;
use crate::identity::error::AuthError;
use crate::identity::forward_auth::Answer;
use crate::identity::oidc::renewal::Renewed;
use crate::identity::oidc::{OVER, Oidc, Opened};
use crate::identity::source::{Kind, Source};
use crate::identity::{Head, cache};

impl Authenticator {
    /// What a source that looks at no place of its own makes of a request: fields of trusted peers, another service's word.
    pub(super) async fn beside(
        &self,
        number: usize,
        head: &Head<'_>,
        findings: &mut Findings,
        now: Timestamp,
    ) -> Option<Judged> {
        let source = self.sources.get(number)?;
        let outcome = match &source.kind {
            Kind::Header(asserted) => {
                match asserted.read(head.headers, head.peer, &source.name)? {
                    Ok(principal) => Outcome::Valid(Arc::new(principal)),
                    Err(error) => Outcome::Invalid(error),
                }
            }
            Kind::ForwardAuth(service) => {
                let known = |found: &Judged| {
                    found.source < number && matches!(found.outcome, Outcome::Valid(_))
                };
                if findings.iter().any(known) {
                    // Nothing that it says could count.
                    return None;
                }
                // A token or login that a source before it has judged is that source's; one that nobody claims may be the
                // service's.
                let takes = service.headers_to.contains(&AUTHORIZATION);
                // One that stands there twice is nobody's: the upstream may read the other.
                let claimed = findings.iter().any(|found| {
                    let twice = matches!(found.outcome, Outcome::Invalid(AuthError::Repeated));
                    found.from_authorization && (twice || found.source != NOBODY)
                });
                if takes && !claimed {
                    findings.retain(|found| !(found.from_authorization && found.source == NOBODY));
                }
                let mut shown = service.shown(head.headers, claimed.then_some(&AUTHORIZATION));
                for (_, oidc) in self.browser_sources() {
                    // A session of ours is nobody else's to see.
                    oidc.cookies.strip(&mut shown);
                }
                if shown.is_empty() {
                    return None;
                }
                let login = shown.contains_key(AUTHORIZATION);
                if login && let Some(wait) = head.held() {
                    return Some(Judged::by(number, Outcome::Held(wait)));
                }
                let answer = match head.ask {
                    Some(ask) => ask.ask(&source.name, shown).await,
                    None => Answer::Failed,
                };
                match answer {
                    Answer::Known(fields) => match service.principal(&fields, &source.name) {
                        Ok(principal) => Outcome::Valid(Arc::new(principal)),
                        // What it says cannot be read: that is its fault, not the caller's.
                        Err(_) => Outcome::Failed,
                    },
                    Answer::Unknown if login => Outcome::Invalid(AuthError::Refused),
                    Answer::Unknown => Outcome::Invalid(AuthError::NoSession),
                    Answer::Failed => Outcome::Failed,
                }
            }
            Kind::Oidc(oidc) => self.session(number, source, oidc, head, now).await?,
            Kind::Jwt(_) | Kind::ApiKey(_) | Kind::Basic(_) | Kind::Mtls(_) => return None,
        };
        Some(Judged::by(number, outcome))
    }

    /// The session of a browser.
    async fn session(
        &self,
        number: usize,
        source: &Source,
        oidc: &Arc<Oidc>,
        head: &Head<'_>,
        now: Timestamp,
    ) -> Option<Outcome> {
        let sealed = match oidc.sealed(head.headers)? {
            Ok(sealed) => sealed,
            Err(error) => return Some(Outcome::Invalid(error)),
        };
        let epoch = oidc.provider.epoch();
        let key = cache::key(self.number, epoch, SESSIONS - number, sealed.as_bytes());
        if let Some(known) = cache::find(key, now.as_second()) {
            return Some(Outcome::Valid(known.principal));
        }
        let (session, until) = match oidc.open(&sealed, now) {
            Opened::Not(error) => return Some(Outcome::Invalid(error)),
            Opened::Good(session) => {
                let until = session.settled_until();
                (session, until)
            }
            Opened::Due(mut session) => {
                // An old cookie may lead to a session that is to be renewed once more, and so on.
                let mut more = RENEWALS_MAX;
                while session.is_due(now.as_second()) {
                    if more == 0 {
                        return Some(Outcome::Invalid(OVER));
                    }
                    more -= 1;
                    let renewed = match head.ask {
                        Some(ask) => ask.renew(oidc, session.clone()).await,
                        None => Renewed::Failed,
                    };
                    match renewed {
                        Renewed::Session(newer) => session = Arc::unwrap_or_clone(newer),
                        Renewed::Refused => return Some(Outcome::Invalid(OVER)),
                        Renewed::Failed if session.is_fresh(now.as_second()) => break,
                        Renewed::Failed => return Some(Outcome::Failed),
                    }
                }
                // Not remembered: every request that brings the old cookie must take the new one home.
                (session, i64::MIN)
            }
        };
        Some(match session.principal(oidc, &source.name) {
            Ok(principal) => {
                let principal = Arc::new(principal);
                let entry = cache::Entry {
                    from: i64::MIN,
                    until,
                    source: number,
                    principal: Arc::clone(&principal),
                };
                if until > now.as_second() {
                    cache::remember(key, entry, sealed.len());
                }
                Outcome::Valid(principal)
            }
            Err(error) => Outcome::Invalid(error),
        })
    }

    /// A client certificate, judged by the first source that reads any.
    pub(super) fn certificate(
        &self,
        number: usize,
        certificate: &ClientCertificate,
        now: Timestamp,
    ) -> Option<Judged> {
        let source = self.sources.get(number)?;
        let Kind::Mtls(mtls) = &source.kind else {
            return None;
        };
        let key = cache::key(self.number, 0, NOBODY, &certificate.fingerprint);
        if let Some(known) = cache::find(key, now.as_second()) {
            return Some(Judged::valid(number, known.principal));
        }
        let outcome = match mtls.verify(certificate, &source.name, now) {
            Ok(principal) => {
                let principal = Arc::new(principal);
                let entry = cache::Entry {
                    from: i64::MIN,
                    until: principal.expires.map_or(i64::MIN, Timestamp::as_second),
                    source: number,
                    principal: Arc::clone(&principal),
                };
                cache::remember(key, entry, CERTIFICATE_BYTES);
                Outcome::Valid(principal)
            }
            Err(error) => Outcome::Invalid(error),
        };
        Some(Judged::by(number, outcome))
    }
}

/// What a remembered certificate weighs: about as much as its facts.
const CERTIFICATE_BYTES: usize = 1024;
/// How many renewals lie at most between the cookie of a browser and its newest session.
const RENEWALS_MAX: usize = 64;
/// The place of the sessions of source 0 in the cache; those of the others stand before it, and no place in a request does.
const SESSIONS: usize = usize::MAX - 1;
