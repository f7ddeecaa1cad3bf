//! The identity sources of one site, and what they make of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use smallvec::SmallVec;

use super::Head;
use super::basic::Login;
use super::cache;
use super::error::AuthError;
use super::failures::Guard;
use super::hashing::{Hashing, Unhashed};
use super::jwt::Reading;
use super::oidc::Oidc;
use super::places::{self, Authorization};
use super::remote::RemoteKeys;
use super::source::{Kind, Place, Source};
use crate::value::principal::Principal;

mod beside;

/// The identity sources of one site, in the order tried. The default has none: everybody is anonymous.
#[derive(Debug, Default)]
pub struct Authenticator {
    /// Distinguishes this site of this generation in the cache.
    number: u64,
    sources: Vec<Arc<Source>>,
    /// Every place that some source looks at, `Authorization` first, with the sources that look there.
    places: Vec<(Place, SmallVec<[usize; 2]>)>,
    /// The first source that reads client certificates.
    certificates: Option<usize>,
    /// Sources that look at no place of their own.
    beside: Vec<usize>,
    /// Key sets that are fetched.
    remote: Vec<Arc<RemoteKeys>>,
    /// Every field in which a credential may stand.
    fields: Vec<HeaderName>,
    /// Whether some source signs in browsers.
    browsers: bool,
    challenges: Vec<HeaderValue>,
    /// The same where a token was sent and is invalid.
    challenges_invalid: Vec<HeaderValue>,
}

/// What a request head shows.
#[derive(Debug, Clone)]
pub enum Presented {
    /// No credential of any source's form.
    None,
    /// A valid credential.
    Valid(Arc<Principal>),
    /// A credential that is not valid.
    Invalid {
        /// The source that claims it; none for a Bearer token that no source claims.
        source: Option<Arc<str>>,
        /// Why, for the log.
        error: AuthError,
    },
    /// A credential that its source cannot judge now.
    Failed {
        /// The source.
        source: Arc<str>,
    },
    /// Two valid credentials of different subjects: 400.
    Conflict,
    /// A credential that was not believed, or not even looked at, since too many of its network were guesses: so long to wait.
    Held(Duration),
}

/// What became of one credential.
struct Judged {
    /// The source by its place in the site's order; `NOBODY` where none claims it.
    source: usize,
    outcome: Outcome,
    /// Whether it stood in `Authorization`.
    from_authorization: bool,
}

enum Outcome {
    Valid(Arc<Principal>),
    Invalid(AuthError),
    Failed,
    Held(Duration),
}

/// What one look at a token came to.
enum Looked<'a> {
    Judged(Judged),
    /// The source that claims it has no such key; its keys, and the version of them that was looked at.
    UnknownKey(usize, &'a RemoteKeys, u64),
}

type Findings = SmallVec<[Judged; 2]>;

impl Authenticator {
    /// The sources of a site, in its order.
    #[must_use]
    pub fn new(sources: Vec<Arc<Source>>) -> Self {
        let mut places: Vec<(Place, SmallVec<[usize; 2]>)> = Vec::new();
        if !sources.is_empty() {
            // Looked at on every site that signs in: a Bearer token is a credential even where no source takes one.
            places.push((Place::Authorization, SmallVec::new()));
        }
        for (number, source) in sources.iter().enumerate() {
            for place in &source.places {
                match places.iter_mut().find(|(known, _)| known == place) {
                    Some((_, users)) => users.push(number),
                    None => places.push((place.clone(), SmallVec::from_slice(&[number]))),
                }
            }
        }
        let [challenges, challenges_invalid] = [0, 1].map(|which| {
            let mut all: Vec<HeaderValue> = Vec::new();
            for value in sources
                .iter()
                .filter_map(|s| s.challenges.as_ref()?.get(which))
            {
                if !all.contains(value) {
                    all.push(value.clone());
                }
            }
            all
        });
        let remote = sources
            .iter()
            .filter_map(|source| source.remote_keys().cloned());
        let beside = sources
            .iter()
            .enumerate()
            .filter_map(|(number, source)| match source.kind {
                Kind::Header(_) | Kind::ForwardAuth(_) | Kind::Oidc(_) => Some(number),
                Kind::Jwt(_) | Kind::ApiKey(_) | Kind::Basic(_) | Kind::Mtls(_) => None,
            });
        let mut fields: Vec<HeaderName> = Vec::new();
        let looked_at = places.iter().map(|(place, _)| match place {
            Place::Authorization => Some(AUTHORIZATION),
            Place::Header(name) => Some(name.clone()),
            Place::Cookie(_) => Some(COOKIE),
            Place::Query(_) => None,
        });
        let shown = sources.iter().filter_map(|source| match &source.kind {
            Kind::ForwardAuth(service) => Some(&service.headers_to),
            Kind::Jwt(_)
            | Kind::ApiKey(_)
            | Kind::Basic(_)
            | Kind::Mtls(_)
            | Kind::Header(_)
            | Kind::Oidc(_) => None,
        });
        let own = sources.iter().flat_map(|source| source.fields());
        let sessions = sources
            .iter()
            .any(|source| matches!(source.kind, Kind::Oidc(_)));
        for name in looked_at
            .flatten()
            .chain(shown.flatten().cloned())
            .chain(own)
            .chain(sessions.then_some(COOKIE))
        {
            if !fields.contains(&name) {
                fields.push(name);
            }
        }
        Self {
            fields,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            certificates: sources
                .iter()
                .position(|source| source.reads_certificates()),
            beside: beside.collect(),
            browsers: sources.iter().any(|source| source.oidc().is_some()),
            remote: remote.collect(),
            sources,
            places,
            challenges,
            challenges_invalid,
        }
    }

    /// Whether nobody can sign in here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whether people are known here by their client certificate only.
    #[must_use]
    pub fn certificate_only(&self) -> bool {
        !self.is_empty() && self.sources.iter().all(|s| s.reads_certificates())
    }

    /// The names of the sources, in order.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.sources.iter().map(|source| &source.name)
    }

    /// The request fields, besides cookies, in which some source looks for a credential.
    #[must_use]
    pub fn credential_headers(&self) -> Vec<HeaderName> {
        let used = self.places.iter().filter(|(_, users)| !users.is_empty());
        used.filter_map(|(place, _)| match place {
            Place::Authorization => Some(AUTHORIZATION),
            Place::Header(name) => Some(name.clone()),
            Place::Cookie(_) | Place::Query(_) => None,
        })
        .chain(self.sources.iter().flat_map(|source| source.fields()))
        .collect()
    }

    /// Every field in which a credential may stand, `Cookie` among them.
    #[must_use]
    pub fn fields(&self) -> &[HeaderName] {
        &self.fields
    }

    /// The query parameters that carry keys: no log may show their values.
    pub fn credential_queries(&self) -> impl Iterator<Item = &str> {
        self.places.iter().filter_map(|(place, _)| match place {
            Place::Query(name) => Some(&**name),
            Place::Authorization | Place::Header(_) | Place::Cookie(_) => None,
        })
    }

    /// Whether credentials go upstream where the site does not say (`forward_credential`): only where every source takes
    /// tokens. One source with keys or passwords and they stay here, since a password must not leak for a token's sake.
    #[must_use]
    pub fn forwards_by_default(&self) -> bool {
        self.sources.iter().all(|source| source.forwards())
    }

    /// The values of `WWW-Authenticate` for a 401, one per field. `error="invalid_token"` (RFC 6750 §3.1) is there only if a
    /// token was sent and is not valid.
    #[must_use]
    pub fn challenges(&self, presented: &Presented) -> &[HeaderValue] {
        match presented {
            Presented::Invalid { source: None, .. } => &self.challenges_invalid,
            Presented::Invalid {
                source: Some(name), ..
            } => {
                let source = self.sources.iter().find(|source| source.name == *name);
                match source.map(|source| &source.kind) {
                    Some(Kind::Jwt(_)) => &self.challenges_invalid,
                    Some(
                        Kind::ApiKey(_)
                        | Kind::Basic(_)
                        | Kind::Mtls(_)
                        | Kind::Header(_)
                        | Kind::ForwardAuth(_)
                        | Kind::Oidc(_),
                    )
                    | None => &self.challenges,
                }
            }
            Presented::None
            | Presented::Valid(_)
            | Presented::Failed { .. }
            | Presented::Conflict
            | Presented::Held(_) => &self.challenges,
        }
    }

    /// Finds and verifies the credentials of a request. Only a password that is not remembered waits for anything.
    pub async fn authenticate(&self, head: &Head<'_>, now: Timestamp) -> Presented {
        let mut findings = Findings::new();
        for (number, (place, users)) in self.places.iter().enumerate() {
            let known = findings.len();
            match place {
                Place::Authorization => match places::authorization(head.headers) {
                    Ok(None) => {}
                    Ok(Some(Authorization::Bearer(token))) => {
                        findings.push(self.bearer(number, users, token, now).await);
                    }
                    Ok(Some(Authorization::Basic(login))) => {
                        if let Some(found) = self.basic(number, users, login, head, now).await {
                            findings.push(found);
                        }
                    }
                    Err(error) => findings.push(Judged::unclaimed(error)),
                },
                Place::Header(name) => match places::header(head.headers, name) {
                    Ok(Some(value)) => {
                        findings.extend(self.value(number, users, value, head, now).await);
                    }
                    Ok(None) => {}
                    Err(error) => findings.extend(
                        users
                            .first()
                            .map(|source| Judged::by(*source, Outcome::Invalid(error))),
                    ),
                },
                Place::Cookie(name) => {
                    let values = places::cookies(head.headers, name);
                    for value in values.take(CREDENTIALS_MAX + 1) {
                        findings.extend(self.value(number, users, value, head, now).await);
                    }
                }
                Place::Query(name) => {
                    for value in places::query(head, name).take(CREDENTIALS_MAX + 1) {
                        findings.extend(self.value(number, users, &value, head, now).await);
                    }
                }
            }
            if *place == Place::Authorization
                && let Some(found) = findings.get_mut(known)
            {
                found.from_authorization = true;
            }
            if findings.len() > CREDENTIALS_MAX {
                findings.clear();
                findings.push(Judged::unclaimed(AuthError::TooMany));
                break;
            }
        }
        if let (Some(certificate), Some(source)) = (head.certificate, self.certificates) {
            let found = self.certificate(source, certificate, now);
            let revoked = head
                .revoked
                .is_some_and(|check| check.certificate(certificate));
            findings.extend(if revoked {
                Some(Judged::by(source, Outcome::Invalid(AuthError::Revoked)))
            } else {
                found
            });
        }
        recall(head, &mut findings);
        for number in &self.beside {
            if let Some(found) = self.beside(*number, head, &mut findings, now).await {
                findings.push(found);
                recall(head, &mut findings);
            }
        }
        if let Some(guard) = &head.guard {
            weigh(guard, &mut findings);
        }
        self.conclude(findings)
    }

    /// The sources that sign in browsers, with their names, in order.
    pub fn browser_sources(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Oidc>)> {
        let sources = self.sources.iter();
        sources.filter_map(|source| Some((&source.name, source.oidc()?)))
    }

    /// Whether browsers can sign in here.
    #[must_use]
    pub const fn signs_in_browsers(&self) -> bool {
        self.browsers
    }

    /// A Bearer token: claimed by a source, or an invalid credential.
    async fn bearer(&self, place: usize, users: &[usize], token: &str, now: Timestamp) -> Judged {
        match self.token(place, users, token, now).await {
            Ok(judged) => judged,
            Err(error) => Judged::unclaimed(error),
        }
    }

    /// A value of a cookie, a query parameter or a field of its own. What no source claims is no credential.
    async fn value(
        &self,
        place: usize,
        users: &[usize],
        value: &str,
        head: &Head<'_>,
        now: Timestamp,
    ) -> Option<Judged> {
        // The first key source takes any value; token sources before it take theirs.
        let key_source = users.iter().find_map(|number| {
            let source = self.sources.get(*number)?;
            match &source.kind {
                Kind::ApiKey(keys) => Some((*number, keys)),
                Kind::Jwt(_)
                | Kind::Basic(_)
                | Kind::Mtls(_)
                | Kind::Header(_)
                | Kind::ForwardAuth(_)
                | Kind::Oidc(_) => None,
            }
        });
        let before = |number: &&usize| key_source.is_none_or(|(first, _)| **number < first);
        let token_sources: SmallVec<[usize; 2]> = users.iter().filter(before).copied().collect();
        if !token_sources.is_empty() {
            let token = places::without_scheme(value);
            if let Ok(judged) = self.token(place, &token_sources, token, now).await {
                return Some(judged);
            }
        }
        let (source, keys) = key_source?;
        let outcome = match keys.verify(value, head.client, now) {
            Ok(principal) => match head.revoked {
                Some(check) if keys.revoked(value, check, &principal.source) => {
                    Outcome::Invalid(AuthError::Revoked)
                }
                Some(_) | None => Outcome::Valid(principal),
            },
            Err(error) => Outcome::Invalid(error),
        };
        Some(Judged::by(source, outcome))
    }

    /// A token, judged by the first of `users` that claims it; the error is why none does.
    async fn token(
        &self,
        place: usize,
        users: &[usize],
        token: &str,
        now: Timestamp,
    ) -> Result<Judged, AuthError> {
        if token.len() > super::jwt::TOKEN_BYTES_MAX {
            return Err(AuthError::TooLarge);
        }
        let key = cache::key(self.number, self.epoch(), place, token.as_bytes());
        if let Some(known) = cache::find(key, now.as_second()) {
            return Ok(Judged::valid(known.source, known.principal));
        }
        match self.look(place, users, token, now)? {
            Looked::Judged(judged) => Ok(judged),
            Looked::UnknownKey(source, remote, seen) => {
                // Once more with a newer set, where there is one. Boxed: waiting is rare, and its state would make every
                // request's future larger.
                if Box::pin(remote.newer_than(seen)).await
                    && let Looked::Judged(judged) = self.look(place, users, token, now)?
                {
                    return Ok(judged);
                }
                let outcome = match remote.fetched() {
                    Some(_) => Outcome::Invalid(AuthError::UnknownKey),
                    None => Outcome::Failed,
                };
                Ok(Judged::by(source, outcome))
            }
        }
    }

    /// One look at a token, by the keys that are at hand.
    fn look(
        &self,
        place: usize,
        users: &[usize],
        token: &str,
        now: Timestamp,
    ) -> Result<Looked<'_>, AuthError> {
        let reading = Reading::read(token)?;
        let sources = users.iter().filter_map(|number| {
            let source = self.sources.get(*number)?;
            match &source.kind {
                Kind::Jwt(jwt) => Some((*number, source, jwt)),
                Kind::ApiKey(_)
                | Kind::Basic(_)
                | Kind::Mtls(_)
                | Kind::Header(_)
                | Kind::ForwardAuth(_)
                | Kind::Oidc(_) => None,
            }
        });
        let mut refusal = AuthError::WrongAlgorithm;
        for (number, source, jwt) in sources {
            if jwt.claims(&reading) {
                // Read before the keys: a set that comes between the two only makes us look once more.
                let (epoch, seen) = (self.epoch(), jwt.remote().map(|remote| remote.version()));
                let verified = match jwt.verify(reading, &source.name, now) {
                    Ok(verified) => verified,
                    Err(error) => {
                        if let (AuthError::UnknownKey, Some(remote), Some(seen)) =
                            (error, jwt.remote(), seen)
                        {
                            return Ok(Looked::UnknownKey(number, remote, seen));
                        }
                        return Ok(Looked::Judged(Judged::by(number, Outcome::Invalid(error))));
                    }
                };
                let principal = Arc::new(verified.principal);
                let entry = cache::Entry {
                    from: verified.from,
                    until: verified.until,
                    source: number,
                    principal: Arc::clone(&principal),
                };
                let key = cache::key(self.number, epoch, place, token.as_bytes());
                cache::remember(key, entry, token.len());
                return Ok(Looked::Judged(Judged::valid(number, principal)));
            }
            if jwt.pins(&reading) {
                refusal = AuthError::WrongIssuer;
            }
        }
        Err(refusal)
    }

    /// Rises with every change of keys that are fetched.
    fn epoch(&self) -> u64 {
        let remote = self.remote.iter();
        remote.fold(0, |sum, keys| sum.wrapping_add(keys.version()))
    }

    /// A login, judged by the first source with users; none where no source has any.
    async fn basic(
        &self,
        place: usize,
        users: &[usize],
        credential: &str,
        head: &Head<'_>,
        now: Timestamp,
    ) -> Option<Judged> {
        let (source, file) =
            users
                .iter()
                .find_map(|number| match &self.sources.get(*number)?.kind {
                    Kind::Basic(file) => Some((*number, file)),
                    Kind::Jwt(_)
                    | Kind::ApiKey(_)
                    | Kind::Mtls(_)
                    | Kind::Header(_)
                    | Kind::ForwardAuth(_)
                    | Kind::Oidc(_) => None,
                })?;
        // Before anything is looked up: what is remembered could be guessed as well.
        if let Some(wait) = head.held() {
            return Some(Judged::by(source, Outcome::Held(wait)));
        }
        let login = match Login::read(credential) {
            Ok(login) => login,
            Err(error) => {
                let outcome = Outcome::Invalid(error);
                return Some(Judged::by(source, outcome));
            }
        };
        let key = cache::key(self.number, 0, place, credential.as_bytes());
        if let Some(known) = cache::find(key, now.as_second()) {
            return Some(Judged::valid(known.source, known.principal));
        }
        let held = || head.held();
        let outcome = match file.verify(login, Hashing::of_process(), &held).await {
            Ok(Ok(principal)) => {
                let entry = cache::Entry {
                    from: i64::MIN,
                    until: i64::MAX,
                    source,
                    principal: Arc::clone(&principal),
                };
                cache::remember(key, entry, credential.len());
                Outcome::Valid(principal)
            }
            Ok(Err(error)) => Outcome::Invalid(error),
            Err(Unhashed::Overloaded) => Outcome::Failed,
            Err(Unhashed::Held(wait)) => Outcome::Held(wait),
        };
        Some(Judged::by(source, outcome))
    }

    /// One answer from all findings.
    fn conclude(&self, mut findings: Findings) -> Presented {
        if findings.is_empty() {
            return Presented::None;
        }
        findings.sort_by_key(|found| found.source);
        let mut chosen: Option<&Arc<Principal>> = None;
        // What the head says must agree; a certificate beside it is not compared.
        let mut said: Option<&Arc<Principal>> = None;
        for found in &findings {
            if let Outcome::Valid(principal) = &found.outcome {
                chosen = chosen.or(Some(principal));
                if self.certificates == Some(found.source) {
                    continue;
                }
                match said {
                    Some(first) if !same_subject(first, principal) => return Presented::Conflict,
                    Some(_) => {}
                    None => said = Some(principal),
                }
            }
        }
        // A credential that cannot be judged might come first or disagree: then nobody knows who asks.
        for found in &findings {
            if let (Outcome::Failed, Some(source)) =
                (&found.outcome, self.sources.get(found.source))
            {
                let source = Arc::clone(&source.name);
                return Presented::Failed { source };
            }
        }
        // Nor does anybody where it was not looked at.
        let wait = findings.iter().find_map(|found| match found.outcome {
            Outcome::Held(wait) => Some(wait),
            Outcome::Valid(_) | Outcome::Invalid(_) | Outcome::Failed => None,
        });
        if let Some(wait) = wait {
            return Presented::Held(wait);
        }
        if let Some(principal) = chosen {
            return Presented::Valid(Arc::clone(principal));
        }
        let mut invalid = findings.iter().filter_map(|found| match found.outcome {
            Outcome::Invalid(error) => Some((found.source, error)),
            Outcome::Valid(_) | Outcome::Failed | Outcome::Held(_) => None,
        });
        // A token is spoken of first: only its challenge can say that it is not valid.
        let tokens = |(source, _): &(usize, AuthError)| {
            let source = self.sources.get(*source);
            source.is_none_or(|source| matches!(source.kind, Kind::Jwt(_)))
        };
        let invalid = invalid.clone().find(tokens).or_else(|| invalid.next());
        invalid.map_or(Presented::None, |(source, error)| Presented::Invalid {
            source: self
                .sources
                .get(source)
                .map(|source| Arc::clone(&source.name)),
            error,
        })
    }
}

impl Judged {
    const fn by(source: usize, outcome: Outcome) -> Self {
        Self {
            source,
            outcome,
            from_authorization: false,
        }
    }

    const fn valid(source: usize, principal: Arc<Principal>) -> Self {
        Self::by(source, Outcome::Valid(principal))
    }

    const fn unclaimed(error: AuthError) -> Self {
        Self::by(NOBODY, Outcome::Invalid(error))
    }
}

/// Takes back what is revoked: behind every cache, so that it counts at once.
fn recall(head: &Head<'_>, findings: &mut Findings) {
    let Some(check) = head.revoked else { return };
    for found in findings {
        if let Outcome::Valid(principal) = &found.outcome
            && check.principal(principal)
        {
            found.outcome = Outcome::Invalid(AuthError::Revoked);
        }
    }
}

impl Head<'_> {
    /// How long this client has to wait before a guess of it is looked at.
    fn held(&self) -> Option<Duration> {
        self.guard.as_ref()?.held()
    }
}

/// Counts what were guesses, each of them: a valid credential beside a guess does not make it one less. Where the client is
/// held already, it is told to wait and nothing else.
fn weigh(guard: &Guard<'_>, findings: &mut Findings) {
    for found in findings {
        match found.outcome {
            Outcome::Invalid(error) if error.is_guess() => match guard.held() {
                Some(wait) => {
                    guard.refused();
                    found.outcome = Outcome::Held(wait);
                }
                None => guard.failed(),
            },
            Outcome::Held(_) => guard.refused(),
            Outcome::Valid(_) | Outcome::Invalid(_) | Outcome::Failed => {}
        }
    }
}

/// Whether two credentials name one subject. Tokens without a subject name nobody, so two are one only if they are equal.
fn same_subject(first: &Arc<Principal>, second: &Arc<Principal>) -> bool {
    Arc::ptr_eq(first, second)
        || (first.user == second.user && (!first.user.is_empty() || first == second))
}

/// Credentials verified per request.
const CREDENTIALS_MAX: usize = 4;
/// Sorts behind every source.
const NOBODY: usize = usize::MAX;

static NEXT: AtomicU64 = AtomicU64::new(1);
