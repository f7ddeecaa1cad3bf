//! From a point to a request that a person could send: every atom becomes a value, and what a rule takes as a whole (a header, a
//! time of day) a value that makes it hold or fail, where one can be made. What is made is judged before it is told: see
//! [`Witness::Unmade`] for the rest.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::book::{Asks, Opaque, TermId};
use super::diagram::Diagram;
use super::path::ENDED;
use super::space::{Attribute, Held, Space, System, TLS};
use crate::policy::condition::Presented;
use crate::policy::facts::{Scheme, TlsFacts};
use crate::policy::simulate::{Asked, Caller};
use crate::policy::text::{TextPattern, TextTest};
use crate::value::country::Country;
use crate::value::principal::Principal;
use crate::value::region::{Anonymizers, Region};

/// A request at a point.
#[derive(Debug, Clone)]
pub(crate) enum Witness {
    /// One that each policy would be asked: the same request, though a policy whose site does not know the caller's source of
    /// identity sees a stranger.
    Made(Vec<Asked>),
    /// None could be made: it depends on these, in the operator's words.
    Unmade(Vec<Arc<str>>),
}

impl Space<'_, '_> {
    /// A request somewhere in a region; none where the region is empty.
    pub(crate) fn witness(&self, region: Diagram) -> Option<Witness> {
        let point = self.store.point(region)?;
        Some(self.at(&point))
    }

    /// A request at a point: the atoms of some attributes; of the others any will do.
    pub(crate) fn at(&self, point: &[(u32, u32)]) -> Witness {
        let atoms: BTreeMap<u32, u32> = point.iter().copied().collect();
        let mut maker = Maker::new(self, &atoms);
        for (number, attribute) in (0..).zip(&self.attributes) {
            maker.take(attribute, atoms.get(&number).copied());
        }
        maker.finish()
    }
}

struct Maker<'s, 'b, 'p> {
    space: &'s Space<'b, 'p>,
    segments: Vec<Option<String>>,
    /// How many segments have to be there.
    length: usize,
    slash: Option<bool>,
    method: Method,
    scheme: Option<Scheme>,
    tls: Option<Option<TlsFacts>>,
    websocket: bool,
    client: Option<IpAddr>,
    peer: Option<IpAddr>,
    region: Region,
    headers: HeaderMap,
    cookies: Vec<String>,
    query: Vec<String>,
    moments: (Timestamp, Option<Timestamp>),
    windows: Vec<(TermId, bool)>,
    source: Option<Arc<str>>,
    user: Arc<str>,
    roles: Vec<Arc<str>>,
    claims: BTreeMap<(Held, Arc<str>), Vec<Value>>,
    unmade: Vec<Arc<str>>,
}

impl<'s, 'b, 'p> Maker<'s, 'b, 'p> {
    fn new(space: &'s Space<'b, 'p>, atoms: &BTreeMap<u32, u32>) -> Self {
        let mut length = 0;
        for (number, attribute) in (0..).zip(&space.attributes) {
            if let (Attribute::Segment(place, _), Some(atom)) = (attribute, atoms.get(&number))
                && *atom != ENDED
            {
                length = place + 1;
            }
        }
        Self {
            space,
            segments: Vec::new(),
            length,
            slash: None,
            method: Method::GET,
            scheme: None,
            tls: None,
            websocket: false,
            client: None,
            peer: None,
            region: Region::default(),
            headers: HeaderMap::new(),
            cookies: Vec::new(),
            query: Vec::new(),
            moments: (space.book.now, None),
            windows: Vec::new(),
            source: None,
            user: Arc::from("somebody"),
            roles: Vec::new(),
            claims: BTreeMap::new(),
            unmade: Vec::new(),
        }
    }

    /// Takes an attribute; none where any atom will do.
    fn take(&mut self, attribute: &Attribute, atom: Option<u32>) {
        let at = usize::try_from(atom.unwrap_or(0)).unwrap_or(usize::MAX);
        let holds = atom == Some(1);
        match attribute {
            Attribute::Segment(place, texts) => {
                let literal = at.checked_sub(2).and_then(|at| texts.get(at));
                self.segments.push(match literal {
                    Some(text) => Some(text.to_string()),
                    None if *place < self.length => Some(fresh(texts)),
                    None => None,
                });
            }
            Attribute::Slash => self.slash = atom.map(|atom| atom == 1),
            Attribute::Method(named) => match at.checked_sub(1) {
                Some(at) => self.method = named.get(at).cloned().unwrap_or_default(),
                None => {
                    let common = [
                        Method::GET,
                        Method::POST,
                        Method::PUT,
                        Method::DELETE,
                        Method::PATCH,
                        Method::OPTIONS,
                        Method::HEAD,
                    ];
                    let other = common.into_iter().find(|method| !named.contains(method));
                    let other = other.or_else(|| Method::from_bytes(b"PURGE").ok());
                    self.method = other.unwrap_or_default();
                }
            },
            Attribute::Scheme => {
                self.scheme = atom.map(|atom| {
                    if atom == 1 {
                        Scheme::Http
                    } else {
                        Scheme::Https
                    }
                });
            }
            Attribute::Tls => {
                self.tls = atom.map(|_| {
                    let (version, cert) = TLS.get(at).copied().flatten()?;
                    Some(TlsFacts {
                        version,
                        client_cert: cert == Presented::Presented,
                    })
                });
            }
            Attribute::WebSocket => self.websocket = holds,
            Attribute::Client(groups) => self.client = atom.and_then(|_| self.address(groups, at)),
            Attribute::Peer(groups) => self.peer = atom.and_then(|_| self.address(groups, at)),
            Attribute::Country(groups) if atom.is_some() => {
                let group = groups.get(at).map_or(&[][..], Vec::as_slice);
                let known = |code: &str| {
                    let country: Option<Country> = code.parse().ok();
                    country.is_some() && group.contains(&country)
                };
                let nice = COUNTRIES
                    .iter()
                    .find(|code| known(code))
                    .and_then(|code| code.parse().ok());
                self.region.country = nice.or_else(|| group.iter().flatten().next().copied());
            }
            Attribute::Continent(groups) if atom.is_some() => {
                let group = groups.get(at).into_iter().flatten();
                self.region.continent = group.flatten().next().copied();
            }
            Attribute::Subdivision(groups) => {
                let held = groups.get(at).and_then(|group| group.first());
                let mut held = held.into_iter().flatten().copied();
                self.region.subdivisions = [held.next(), held.next()];
            }
            Attribute::Asn(groups) if atom.is_some() => {
                let group = groups.get(at).map_or(&[][..], Vec::as_slice);
                let named = |system: &System| matches!(system, System::Number(_));
                let system = group.iter().find(|system| named(system)).or(group.first());
                self.region.asn = match system {
                    Some(System::Number(number)) => Some(*number),
                    Some(System::Other) => Some(self.other_system()),
                    Some(System::Unlisted) | None => None,
                };
            }
            Attribute::Country(_) | Attribute::Continent(_) | Attribute::Asn(_) => {}
            Attribute::Anonymizer(groups) => {
                let group = groups.get(at).into_iter().flatten();
                self.region.anonymizer = group
                    .copied()
                    .min_by_key(|kinds| kinds.0.count_ones())
                    .unwrap_or(Anonymizers(0));
            }
            Attribute::Opaque(term) => self.opaque(*term, atom.unwrap_or(0)),
            Attribute::Now(moments) => {
                let from = at.checked_sub(1).and_then(|at| moments.get(at));
                self.moments = (
                    from.copied().unwrap_or(self.space.book.now),
                    moments.get(at).copied(),
                );
            }
            Attribute::Auth(sources) => {
                self.source = at.checked_sub(1).and_then(|at| sources.get(at)).cloned();
            }
            Attribute::User(groups) => match groups.get(at).and_then(|group| group.first()) {
                Some(user) => self.user = Arc::clone(user),
                None => {
                    let mut other = "somebody".to_owned();
                    while groups.iter().flatten().any(|user| **user == *other) {
                        other.push('x');
                    }
                    self.user = Arc::from(other);
                }
            },
            Attribute::Role(roles) => {
                let role = roles.first().filter(|_| holds);
                let role = role.and_then(|role| usize::try_from(*role).ok());
                let role = role.and_then(|role| self.space.book.roles.get(role));
                self.roles.extend(role.cloned());
            }
            Attribute::Claim(held, path, values) => {
                if holds && let Some(value) = values.first() {
                    let key = (*held, Arc::clone(path));
                    self.claims.entry(key).or_default().push(value.clone());
                }
            }
        }
    }

    fn address(&self, groups: &[Vec<u32>], at: usize) -> Option<IpAddr> {
        let class = groups.get(at)?.first()?;
        self.space.book.addresses.example(*class)
    }

    /// A system that no rule names.
    fn other_system(&self) -> u32 {
        let named = |number: u32| {
            self.space.attributes.iter().any(|attribute| {
                let Attribute::Asn(groups) = attribute else {
                    return false;
                };
                let mut all = groups.iter().flatten();
                all.any(|system| *system == System::Number(number))
            })
        };
        (64_496..65_552).find(|number| !named(*number)).unwrap_or(0)
    }

    fn opaque(&mut self, id: TermId, atom: u32) {
        let book = self.space.book;
        let Some(term) = book.term(id) else { return };
        let Asks::Opaque(_, _, test) = &term.asks else {
            // A regular expression on the path. Where it has to fail, an ordinary path will do.
            if atom == 1 {
                self.unmade.push(Arc::clone(&term.words));
            }
            return;
        };
        let values = |test: &TextTest| values(test, atom);
        let made = match test {
            Opaque::Header(name, test) => values(test).map(|values| {
                for value in values {
                    if let Ok(value) = HeaderValue::from_str(&value) {
                        self.headers.append(HeaderName::clone(name), value);
                    }
                }
            }),
            Opaque::Query(name, test) => values(test).map(|values| {
                let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
                let pairs = values
                    .iter()
                    .map(|value| format!("{}={}", encoded(name), encoded(value)));
                self.query.extend(pairs);
            }),
            Opaque::Cookie(name, test) => values(test).map(|values| {
                let pairs = values.iter().map(|value| format!("{name}={value}"));
                self.cookies.extend(pairs);
            }),
            Opaque::Time(_) => {
                self.windows.push((id, atom == 1));
                Some(())
            }
        };
        if made.is_none() {
            self.unmade.push(Arc::clone(&term.words));
        }
    }

    /// A moment at which the windows are open or closed as wanted.
    fn now(&mut self) -> Timestamp {
        let (from, to) = self.moments;
        let book = self.space.book;
        let fits = |now: Timestamp| {
            self.windows.iter().all(|(id, inside)| {
                let asks = book.term(*id).map(|term| &term.asks);
                matches!(asks, Some(Asks::Opaque(_, _, Opaque::Time(windows)))
                    if windows.iter().any(|window| window.contains(now)) == *inside)
            })
        };
        let mut at = from;
        for step in 0..MOMENTS_MAX {
            if to.is_some_and(|to| at >= to) {
                break;
            }
            if fits(at) {
                return at;
            }
            // Quarter hours for two weeks, then half days.
            let wait = if step < MOMENTS_MAX / 2 {
                15
            } else {
                12 * 60 + 15
            };
            let Ok(next) = at.checked_add(SignedDuration::from_mins(wait)) else {
                break;
            };
            at = next;
        }
        let words = self.windows.iter().filter_map(|(id, _)| book.term(*id));
        self.unmade
            .extend(words.map(|term| Arc::clone(&term.words)));
        from
    }

    fn finish(mut self) -> Witness {
        let now = self.now();
        if !self.cookies.is_empty()
            && let Ok(cookies) = HeaderValue::from_str(&self.cookies.join("; "))
        {
            self.headers.insert(header::COOKIE, cookies);
        }
        if !self.unmade.is_empty() {
            self.unmade.sort_unstable();
            self.unmade.dedup();
            return Witness::Unmade(self.unmade);
        }
        let mut target = String::new();
        let mut segments: Vec<String> = self
            .segments
            .into_iter()
            .map_while(|segment| segment)
            .collect();
        if segments.is_empty() && self.slash == Some(false) {
            segments.push("x".to_owned());
        }
        for segment in &segments {
            target.push('/');
            target.push_str(segment);
        }
        if self.slash == Some(true) || segments.is_empty() {
            target.push('/');
        }
        if !self.query.is_empty() {
            target.push('?');
            target.push_str(&self.query.join("&"));
        }
        let tls = self.tls.unwrap_or_else(|| {
            let plain = self.scheme == Some(Scheme::Http);
            (!plain).then_some(TlsFacts {
                version: crate::policy::facts::TlsVersion::V1_3,
                client_cert: false,
            })
        });
        let scheme = self.scheme.unwrap_or(match tls {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        });
        let client = self.client.unwrap_or(CLIENT);
        let (mut claims, mut device) = (Map::new(), Map::new());
        for ((held, path), mut values) in self.claims {
            let value = match values.len() {
                1 => values.remove(0),
                _ => Value::Array(values),
            };
            match held {
                Held::Claim => claims.insert(path.to_string(), value),
                Held::Device => device.insert(path.to_string(), value),
            };
        }
        let principal = self.source.map(|source| {
            Arc::new(Principal {
                user: self.user,
                source,
                roles: self.roles,
                claims,
                device,
                expires: None,
            })
        });
        let asked = |sources: &Vec<Arc<str>>| Asked {
            host: self.space.host().to_string(),
            target: target.clone(),
            method: self.method.clone(),
            client,
            peer: self.peer.unwrap_or(client),
            region: self.region,
            scheme,
            tls,
            headers: self.headers.clone(),
            websocket: self.websocket,
            now,
            caller: match &principal {
                Some(principal) if sources.contains(&principal.source) => {
                    Caller::Known(Arc::clone(principal))
                }
                Some(_) | None => Caller::Nobody,
            },
        };
        Witness::Made(self.space.sources().iter().map(asked).collect())
    }
}

/// Texts that meet a test as an atom of it wants: none of them, all, or some. None where they cannot be made.
fn values(test: &TextTest, atom: u32) -> Option<Vec<String>> {
    if atom == 0 {
        return Some(Vec::new());
    }
    let mut made = match test {
        TextTest::Present(_) => vec!["x".to_owned()],
        TextTest::AnyOf(patterns) => vec![patterns.iter().find_map(text)?],
    };
    if atom == 2 {
        let TextTest::AnyOf(patterns) = test else {
            return None;
        };
        let other = ["other", "0", "-"].into_iter();
        let mut other = other.filter(|other| {
            !patterns
                .iter()
                .any(|pattern| pattern.matches(other.as_bytes()))
        });
        made.push(other.next()?.to_owned());
    }
    Some(made)
}

/// A text that a pattern matches, where one is easily made.
fn text(pattern: &TextPattern) -> Option<String> {
    match pattern {
        TextPattern::Is(text) => Some(text.to_string()),
        TextPattern::Glob(glob) => {
            let written = glob.glob().glob();
            let tries = [written.replace(['*', '?'], "x"), written.replace('*', "")];
            tries
                .into_iter()
                .find(|text| pattern.matches(text.as_bytes()))
        }
        TextPattern::Regex(regex) => {
            let bare: String = regex
                .as_str()
                .chars()
                .filter(|c| !"^$()".contains(*c))
                .collect();
            let first = bare.split('|').next().unwrap_or_default().to_owned();
            let dotless = first
                .replace(".*", "")
                .replace(".+", "x")
                .replace("\\d+", "1")
                .replace('\\', "");
            let tries = [
                first,
                dotless,
                "x".to_owned(),
                "1".to_owned(),
                String::new(),
            ];
            tries
                .into_iter()
                .find(|text| pattern.matches(text.as_bytes()))
        }
    }
}

/// A segment that no pattern names.
fn fresh(texts: &[Arc<str>]) -> String {
    let mut fresh = "x".to_owned();
    while texts.iter().any(|text| text.eq_ignore_ascii_case(&fresh)) {
        fresh.push('x');
    }
    fresh
}

/// The client of an example, where any address will do (RFC 5737).
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
/// Countries of an example, where any will do.
const COUNTRIES: [&str; 8] = ["NO", "NL", "US", "BR", "JP", "ZA", "DE", "FR"];
/// Moments that are tried to find one inside or outside of windows of time.
const MOMENTS_MAX: usize = 2 * 14 * 24 * 4;
