//! A request from arguments.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::{Timestamp, Zoned};
use serde_json::{Map, Value};

use super::{Bench, Facts, FailedSource, Question, Unclear};
use crate::config::compile::tests::DEFAULT_CLIENT;
use crate::config::node::Node;
use crate::identity::{AuthError, Head, Presented};
use crate::policy::Place;
use crate::policy::facts::{Scheme, TlsFacts, TlsVersion};
use crate::policy::simulate::{Asked, Caller};
use crate::snapshot::Site;
use crate::value::country::{Continent, Country, Subdivision};
use crate::value::device::Device;
use crate::value::host::Authority;
use crate::value::principal::Principal;
use crate::value::region::{Anonymizers, GeoFacts, Region};

/// The request that the arguments describe.
pub(super) fn question(bench: &Bench<'_>, url: &str, facts: &Facts) -> Result<Question, Unclear> {
    let Url {
        scheme,
        host,
        target,
    } = read_url(bench, url)?;
    let now = facts.at.as_deref().map_or(Ok(bench.context.now), moment)?;
    let client = facts.ip.unwrap_or(DEFAULT_CLIENT).to_canonical();
    let (region, region_from) = region(bench, facts, client, now)?;
    let headers = headers(facts)?;
    let method = facts.method.as_deref().unwrap_or("GET");
    let upgrade = headers.get(UPGRADE);
    let mut asked = Asked {
        host,
        target,
        method: Method::from_bytes(method.as_bytes())
            .map_err(|error| usage(format!("`{method}` is no method: {error}")))?,
        client,
        peer: facts.peer.unwrap_or(client).to_canonical(),
        region,
        scheme,
        tls: (scheme == Scheme::Https).then_some(TlsFacts {
            version: TlsVersion::V1_3,
            client_cert: false,
        }),
        websocket: upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket")),
        headers,
        now,
        caller: Caller::Nobody,
        device: described_device(facts)?,
    };
    let place = bench.locate(&asked).unwrap_or_default();
    let site = bench.site(place);
    let mut question = Question {
        caller: "nobody".to_owned(),
        region_from,
        challenges: site.map_or_else(Vec::new, |site| {
            site.identity.challenges(&Presented::None).to_vec()
        }),
        conflict: false,
        unknown: Vec::new(),
        logged: None,
        asked: asked.clone(),
    };
    if facts.failed.contains(&FailedSource::Identity) {
        question.caller = "a credential whose source has failed".to_owned();
        question.asked.caller = Caller::Failed;
    } else if let Some(principal) = described(bench, place, facts)? {
        question.caller = in_words(&principal);
        let check = bench.snapshot.revocation.check(asked.now);
        match check.filter(|check| check.principal(&principal)) {
            Some(check) => {
                question.caller.push_str(&format!(", {}", check.words()));
                question.asked.caller = Caller::Invalid;
            }
            None => question.asked.caller = Caller::Known(Arc::new(principal)),
        }
    } else if facts.auth.is_none() {
        if let Some(file) = &facts.token {
            let site = site.filter(|site| !site.identity.is_empty());
            let site = site.ok_or_else(|| usage("no identity source takes a token here".into()))?;
            present(&read_file(file)?, site, &mut asked.headers)?;
        }
        if let Some(site) = site {
            authenticate(bench, site, &asked, &mut question)?;
        }
    }
    Ok(question)
}

/// Who asks, in words.
pub(super) fn in_words(principal: &Principal) -> String {
    let roles: Vec<&str> = principal.roles.iter().map(|role| &**role).collect();
    let roles = if roles.is_empty() {
        "no roles".to_owned()
    } else {
        format!("roles {}", roles.join(", "))
    };
    format!("{} ({roles}), by {}", principal.user, principal.source)
}

struct Url {
    scheme: Scheme,
    host: String,
    target: String,
}

fn usage(message: String) -> Unclear {
    Unclear::Usage(message)
}

fn read_url(bench: &Bench<'_>, url: &str) -> Result<Url, Unclear> {
    // A client keeps the fragment to itself.
    let url = url.split('#').next().unwrap_or_default();
    if url.starts_with('/') {
        let host = bench
            .first_host()
            .ok_or_else(|| usage("no site has a host; write a whole URL".to_owned()))?;
        return Ok(Url {
            scheme: Scheme::Https,
            host,
            target: url.to_owned(),
        });
    }
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(_) | None => {
            return Err(usage(format!(
                "`{url}` is no URL: write `https://host/path`, `http://host/path` or `/path`"
            )));
        }
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let host = Authority::read(authority)
        .map_err(|error| usage(format!("`{authority}` is no host: {error}")))?;
    Ok(Url {
        scheme,
        host: host.host.into_owned(),
        target: if target.starts_with('/') {
            target.to_owned()
        } else {
            format!("/{target}")
        },
    })
}

fn moment(text: &str) -> Result<Timestamp, Unclear> {
    let zoned = || text.parse::<Zoned>().map(|moment| moment.timestamp());
    text.parse::<Timestamp>()
        .or_else(|_no_offset| zoned())
        .map_err(|_neither| {
            usage(format!(
                "`{text}` is no moment: write `2026-12-24T20:00:00+01:00`"
            ))
        })
}

fn region(
    bench: &Bench<'_>,
    facts: &Facts,
    client: IpAddr,
    now: Timestamp,
) -> Result<(Region, &'static str), Unclear> {
    let asks = facts.ip.is_some() && facts.country.is_none();
    let mut region = Region::default();
    if asks {
        region = bench.snapshot.geo.region(client, now);
    }
    if let Some(text) = &facts.country {
        region.country = code::<Country>(text)?;
    }
    if let Some(text) = &facts.continent {
        region.continent = code::<Continent>(text)?;
    }
    if let Some(text) = &facts.subdivision {
        region.subdivisions = [code::<Subdivision>(text)?, None];
    }
    region.asn = facts.asn.or(region.asn);
    for word in &facts.anonymizer {
        let kind = Anonymizers::named(word);
        let known = Anonymizers::ALL.map(|(word, _)| word).join(", ");
        let kind = kind.ok_or_else(|| usage(format!("`{word}` is none of {known}")))?;
        region.anonymizer = region.anonymizer.union(kind);
    }
    if facts.failed.contains(&FailedSource::Geo) {
        region.failed = GeoFacts::ALL;
        return Ok((region, "failed, as asked"));
    }
    let from = if asks {
        "by the databases"
    } else if region == Region::default() {
        "as none was given"
    } else {
        "as given"
    };
    Ok((region, from))
}

/// A code, or nothing for `unlisted`.
pub(super) fn code<C>(text: &str) -> Result<Option<C>, Unclear>
where
    C: std::str::FromStr,
    C::Err: std::fmt::Display,
{
    if text == "unlisted" {
        return Ok(None);
    }
    let read = text.parse::<C>();
    read.map(Some).map_err(|error| usage(error.to_string()))
}

fn headers(facts: &Facts) -> Result<HeaderMap, Unclear> {
    let mut headers = HeaderMap::new();
    for text in &facts.header {
        let bad = || usage("a header is written `NAME: VALUE`".to_owned());
        let (name, value) = text.split_once(':').ok_or_else(bad)?;
        let name = HeaderName::try_from(name.trim()).ok().ok_or_else(bad)?;
        let value = HeaderValue::from_str(value.trim()).ok().ok_or_else(bad)?;
        headers.append(name, value);
    }
    for text in &facts.cookie {
        let bad = || usage("a cookie is written `NAME=VALUE`".to_owned());
        let value = text.contains('=').then(|| HeaderValue::from_str(text).ok());
        headers.append(COOKIE, value.flatten().ok_or_else(bad)?);
    }
    Ok(headers)
}

/// Who the arguments say is asking; nobody where they name nobody.
fn described(bench: &Bench<'_>, place: Place, facts: &Facts) -> Result<Option<Principal>, Unclear> {
    let auth = facts.auth.as_deref();
    let named = auth.is_some()
        || facts.user.is_some()
        || !(facts.role.is_empty() && facts.claim.is_empty());
    if !named || auth == Some("none") {
        return Ok(None);
    }
    let first = bench
        .site_table(place)
        .and_then(|site| site.many("identity").find_map(Node::as_str));
    let source = auth.filter(|auth| *auth != "any").or(first);
    let roles = facts.role.iter().flat_map(|roles| roles.split(','));
    Ok(Some(Principal {
        user: Arc::from(facts.user.as_deref().unwrap_or("somebody")),
        source: Arc::from(source.unwrap_or("somewhere")),
        roles: roles.map(|role| Arc::from(role.trim())).collect(),
        claims: object(&facts.claim)?,
        device: Map::new(),
        expires: None,
    }))
}

/// The device that the arguments describe; where they describe none, a token may.
fn described_device(facts: &Facts) -> Result<Option<Device>, Unclear> {
    if facts.device.is_empty() {
        return Ok(None);
    }
    let facts = object(&facts.device)?;
    Ok(Some(Device {
        facts,
        failed: false,
    }))
}

/// `key=value` pairs; a value is JSON, or else text. A key may be a dotted path.
fn object(pairs: &[String]) -> Result<Map<String, Value>, Unclear> {
    let mut object = Map::new();
    for pair in pairs {
        let bad = || usage(format!("`{pair}` is not `KEY=VALUE`"));
        let (key, text) = pair.split_once('=').ok_or_else(bad)?;
        let value = serde_json::from_str(text).unwrap_or_else(|_text| Value::from(text));
        object.insert(key.to_owned(), value);
    }
    Ok(object)
}

/// Puts a credential where the site's sources look for one.
fn present(text: &str, site: &Site, headers: &mut HeaderMap) -> Result<(), Unclear> {
    let text = text.trim();
    let value = |text: &str| {
        let value = HeaderValue::from_str(text).ok();
        value.ok_or_else(|| usage("the token is no single line of text".to_owned()))
    };
    let schemed = ["bearer ", "basic "].iter().any(|scheme| {
        text.get(..scheme.len())
            .is_some_and(|s| s.eq_ignore_ascii_case(scheme))
    });
    // A signed token has three parts; anything else is a key, which stands in a field of its own.
    let token = text.matches('.').count() == 2;
    let places = site.identity.credential_headers();
    let own = places.iter().filter(|name| **name != AUTHORIZATION);
    if schemed {
        headers.insert(AUTHORIZATION, value(text)?);
    } else if token && places.contains(&AUTHORIZATION) {
        headers.insert(AUTHORIZATION, value(&format!("Bearer {text}"))?);
    } else if let Some(name) = own.clone().next() {
        headers.insert(name, value(text)?);
    } else {
        headers.insert(AUTHORIZATION, value(&format!("Bearer {text}"))?);
    }
    Ok(())
}

fn authenticate(
    bench: &Bench<'_>,
    site: &Site,
    asked: &Asked,
    question: &mut Question,
) -> Result<(), Unclear> {
    let failed = |error| Unclear::File("the clock of this process".into(), error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let query = asked.target.split_once('?').map(|(_, query)| query);
    let check = bench.snapshot.revocation.check(asked.now);
    let head = Head {
        headers: &asked.headers,
        query,
        client: asked.client,
        peer: [127, 0, 0, 1].into(),
        ask: None,
        certificate: None,
        revoked: check.as_ref(),
        guard: None,
    };
    let presented = runtime.block_on(site.identity.authenticate(&head, asked.now));
    let (caller, words) = match &presented {
        Presented::None => (Caller::Nobody, "nobody".to_owned()),
        Presented::Valid(principal) => (Caller::Known(Arc::clone(principal)), in_words(principal)),
        Presented::Invalid { error, .. } => {
            let why = match &check {
                Some(check) if *error == AuthError::Revoked => check.words(),
                Some(_) | None => error.code().into(),
            };
            (
                Caller::Invalid,
                format!("a credential that is not valid ({why})"),
            )
        }
        Presented::Failed { source } => (
            Caller::Failed,
            format!("a credential whose source has failed ({source})"),
        ),
        // Nobody counts here.
        Presented::Held(_) => (Caller::Invalid, "a credential that has to wait".to_owned()),
        Presented::Conflict => (
            Caller::Invalid,
            "two valid credentials of different people".to_owned(),
        ),
    };
    question.conflict = matches!(presented, Presented::Conflict);
    question.challenges = site.identity.challenges(&presented).to_vec();
    question.asked.caller = caller;
    question.caller = words;
    Ok(())
}

/// A file, or standard input.
pub(super) fn read_file(file: &Path) -> Result<String, Unclear> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|content| text = content)
    };
    read.map_err(|error| Unclear::File(file.to_owned(), error))?;
    Ok(text)
}
