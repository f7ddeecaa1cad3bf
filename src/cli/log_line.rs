//! A line of our JSON access log (GRAMMAR, "Access log") as the request that it tells of, for `explain --line` and `replay`.
//!
//! A line has the facts that the rules of its time read, not all that rules can: what it lacks is named by kind.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use serde_json::{Map, Value};

use crate::config::compile::tests::DEFAULT_CLIENT;
use crate::policy::draft::Inputs;
use crate::policy::facts::{Scheme, TlsFacts, TlsVersion};
use crate::policy::simulate::{Asked, Caller};
use crate::policy::unknown::Kinds;
use crate::value::country::{Continent, Country, Subdivision};
use crate::value::device::Device;
use crate::value::principal::Principal;
use crate::value::region::{Anonymizers, GeoFacts, Region};

/// A line, borrowed from its bytes where it has no escapes.
#[derive(Debug, Deserialize)]
pub(super) struct LogLine<'l> {
    #[serde(borrow)]
    timestamp: Option<Text<'l>>,
    #[serde(borrow, rename = "request.id")]
    pub(super) id: Option<Text<'l>>,
    #[serde(borrow, rename = "client.address")]
    client: Option<Text<'l>>,
    #[serde(borrow, rename = "network.peer.address")]
    peer: Option<Text<'l>>,
    #[serde(borrow, rename = "http.request.method")]
    method: Option<Text<'l>>,
    #[serde(borrow, rename = "server.address")]
    host: Option<Text<'l>>,
    #[serde(borrow, rename = "url.scheme")]
    scheme: Option<Text<'l>>,
    #[serde(borrow, rename = "url.path")]
    path: Option<Text<'l>>,
    #[serde(borrow, rename = "url.query")]
    query: Option<Text<'l>>,
    #[serde(borrow, rename = "tls.protocol.version")]
    tls: Option<Text<'l>>,
    #[serde(borrow, rename = "tls.client.subject")]
    subject: Option<Text<'l>>,
    #[serde(rename = "http.response.status_code")]
    pub(super) status: Option<u64>,
    #[serde(borrow, rename = "policy.decision")]
    pub(super) decision: Option<Text<'l>>,
    #[serde(borrow, rename = "policy.reason")]
    pub(super) reason: Option<Text<'l>>,
    #[serde(borrow, rename = "security_rule.name")]
    pub(super) rule: Option<Text<'l>>,
    #[serde(borrow, rename = "user.id")]
    user: Option<Text<'l>>,
    #[serde(borrow, rename = "user.roles")]
    roles: Option<Vec<Text<'l>>>,
    #[serde(borrow, rename = "auth.source")]
    source: Option<Text<'l>>,
    #[serde(borrow, rename = "auth.error")]
    auth_error: Option<Text<'l>>,
    #[serde(borrow, rename = "geo.country.iso_code")]
    pub(super) country: Option<Text<'l>>,
    #[serde(borrow, rename = "geo.region.iso_code")]
    subdivision: Option<Text<'l>>,
    #[serde(rename = "client.as.number")]
    asn: Option<u32>,
    facts: Option<Map<String, Value>>,
    #[serde(borrow, rename = "user_agent.original")]
    agent: Option<Text<'l>>,
    #[serde(rename = "config.generation")]
    pub(super) generation: Option<u64>,
}

/// A string of a line.
#[derive(Debug)]
pub(super) struct Text<'l>(Cow<'l, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'l, 'l> Deserialize<'de> for Text<'l> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

/// The request of a line.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) asked: Asked,
    /// Facts that rules read and the line does not have. They are absent from `asked`.
    pub(super) unknown: Kinds,
    /// Whether anybody looked who asks.
    pub(super) looked: bool,
    /// Whether the line says in which country the client was.
    pub(super) country_logged: bool,
}

/// Why a line tells of no request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untold {
    /// It never parsed.
    #[error(
        "the line has no `http.request.method` or no `url.path`: the request never parsed, so no rule judged it"
    )]
    NeverParsed,
    /// A column cannot be read.
    #[error("the line has no `{0}`, or one that cannot be read")]
    Column(&'static str),
}

impl<'l> LogLine<'l> {
    /// Reads a line.
    pub(super) fn read(line: &'l [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(line)
    }

    /// The request, as far as rules with these inputs read it. `lookup` says where an address is now, for facts that the
    /// line does not have.
    pub(super) fn request(
        &self,
        inputs: &Inputs,
        lookup: &dyn Fn(IpAddr, Timestamp) -> Region,
    ) -> Result<Told, Untold> {
        let (Some(method), Some(path)) = (&self.method, &self.path) else {
            return Err(Untold::NeverParsed);
        };
        let now = self.timestamp.as_ref().and_then(|text| text.parse().ok());
        let now: Timestamp = now.ok_or(Untold::Column("timestamp"))?;
        let method = Method::from_bytes(method.as_bytes());
        let method = method.ok().ok_or(Untold::Column("http.request.method"))?;
        // Cookies are never logged.
        let mut unknown = Kinds::COOKIE;
        let mut miss = |kind: Kinds| unknown = unknown.union(kind);
        let client = address(self.client.as_ref());
        if client.is_none() {
            miss(Kinds::IP);
        }
        if address(self.peer.as_ref()).is_none() {
            miss(Kinds::PEER);
        }
        let query = self.query.as_deref();
        if query.is_some_and(|query| query.contains("REDACTED")) {
            miss(Kinds::QUERY);
        }
        let (headers, whole) = self.headers(inputs);
        if !whole {
            miss(Kinds::HEADER);
        }
        if inputs.upgrade && self.fact("upgrade").is_none() {
            miss(Kinds::UPGRADE);
        }
        let region = match client {
            Some(client) => self.region(lookup(client, now))?,
            None => {
                miss(Kinds::GEO);
                Region::default()
            }
        };
        let (caller, lacks) = self.caller(inputs);
        miss(lacks);
        let (device, lacks) = self.held("device", &inputs.device, Kinds::DEVICE);
        miss(lacks);
        let device = Device {
            facts: device,
            failed: self.fact("device_failed").is_some(),
        };
        let looked = self.user.is_some()
            || self.auth_error.is_some()
            || self.fact("identity").is_some()
            || self.decision.as_deref() == Some("challenge");
        let client = client.unwrap_or(DEFAULT_CLIENT);
        let asked = Asked {
            host: self.host.as_deref().unwrap_or_default().to_owned(),
            target: match query {
                Some(query) => format!("{}?{query}", &**path),
                None => (**path).to_owned(),
            },
            method,
            client,
            peer: address(self.peer.as_ref()).unwrap_or(client),
            region,
            scheme: match self.scheme.as_deref() {
                Some("https") => Scheme::Https,
                Some(_) | None => Scheme::Http,
            },
            tls: self.tls.as_deref().map(|version| TlsFacts {
                version: if version == "1.2" {
                    TlsVersion::V1_2
                } else {
                    TlsVersion::V1_3
                },
                client_cert: self.subject.is_some(),
            }),
            headers,
            websocket: self.fact("upgrade").and_then(Value::as_str) == Some("websocket"),
            now,
            caller,
            device: Some(device),
        };
        Ok(Told {
            asked,
            unknown,
            looked,
            country_logged: self.country.is_some(),
        })
    }

    fn fact(&self, key: &str) -> Option<&Value> {
        self.facts.as_ref()?.get(key)
    }

    /// The fields that rules read, and whether the line knows all of them.
    fn headers(&self, inputs: &Inputs) -> (HeaderMap, bool) {
        let mut headers = HeaderMap::new();
        let mut whole = true;
        for name in &inputs.headers {
            let logged = self.facts.as_ref();
            let logged = logged.and_then(|facts| facts.get(&format!("header.{name}")));
            let known = match logged {
                Some(Value::Array(values)) => {
                    let mut values = values.iter().filter_map(Value::as_str);
                    values.all(|value| append(&mut headers, name, value))
                }
                Some(_) => false,
                None if name == http::header::USER_AGENT => {
                    let agent = self.agent.as_deref();
                    agent.is_none_or(|agent| append(&mut headers, name, agent))
                }
                None => false,
            };
            whole &= known;
        }
        (headers, whole)
    }

    fn region(&self, mut region: Region) -> Result<Region, Untold> {
        if let Some(text) = &self.country {
            region.country = code::<Country>(text).ok_or(Untold::Column("geo.country.iso_code"))?;
        }
        if let Some(text) = &self.subdivision {
            let [_, second] = region.subdivisions;
            let first = code::<Subdivision>(text).ok_or(Untold::Column("geo.region.iso_code"))?;
            region.subdivisions = [first, second.filter(|_| first.is_some())];
        }
        if self.asn.is_some() {
            region.asn = self.asn;
        }
        let Some(facts) = &self.facts else {
            return Ok(region);
        };
        if facts.contains_key("asn") {
            region.asn = None;
        }
        if let Some(continent) = facts.get("continent") {
            let text = continent.as_str();
            region.continent = text.and_then(|text| text.parse::<Continent>().ok());
        }
        let words = |key: &str| {
            let list = facts.get(key).and_then(Value::as_array);
            list.map(|list| list.iter().filter_map(Value::as_str))
        };
        if let Some(mut all) = words("subdivisions") {
            let mut next = || all.next().and_then(|text| text.parse().ok());
            region.subdivisions = [next(), next()];
        }
        if let Some(all) = words("anonymizer") {
            let kinds = all.filter_map(Anonymizers::named);
            region.anonymizer = kinds.fold(Anonymizers::default(), Anonymizers::union);
        }
        for word in words("failed").into_iter().flatten() {
            let mut known = GeoFacts::WORDS.into_iter();
            if let Some((_, fact)) = known.find(|(known, _)| *known == word) {
                region.failed = region.failed.union(fact);
            }
        }
        Ok(region)
    }

    /// The values at these paths, and what is lacking where one is not logged.
    fn held(&self, prefix: &str, paths: &[Arc<str>], kind: Kinds) -> (Map<String, Value>, Kinds) {
        let (mut held, mut lacks) = (Map::new(), Kinds::NONE);
        for path in paths {
            match self.fact(&format!("{prefix}.{path}")) {
                Some(value) => {
                    held.insert(path.to_string(), value.clone());
                }
                None => lacks = lacks.union(kind),
            }
        }
        (held, lacks)
    }

    fn caller(&self, inputs: &Inputs) -> (Caller, Kinds) {
        let Some(user) = &self.user else {
            let caller = match self.auth_error.as_deref() {
                Some("source_failed") => Caller::Failed,
                Some(_) => Caller::Invalid,
                None => Caller::Nobody,
            };
            return (caller, Kinds::NONE);
        };
        let (claims, lacks) = self.held("claim", &inputs.claims, Kinds::CLAIM);
        let roles = self.roles.iter().flatten();
        let principal = Principal {
            user: Arc::from(&**user),
            source: Arc::from(self.source.as_deref().unwrap_or("somewhere")),
            roles: roles.map(|role| Arc::from(&**role)).collect(),
            claims,
            device: Map::new(),
            expires: None,
        };
        (Caller::Known(Arc::new(principal)), lacks)
    }
}

fn append(headers: &mut HeaderMap, name: &HeaderName, value: &str) -> bool {
    match HeaderValue::from_bytes(value.as_bytes()) {
        Ok(value) => headers.try_append(name.clone(), value).is_ok(),
        Err(_invalid) => false,
    }
}

fn address(text: Option<&Text<'_>>) -> Option<IpAddr> {
    let address: IpAddr = text?.parse().ok()?;
    Some(address.to_canonical())
}

/// A code, or `unlisted`; nothing where it is neither.
fn code<C: FromStr>(text: &str) -> Option<Option<C>> {
    if text == "unlisted" {
        return Some(None);
    }
    text.parse().ok().map(Some)
}
