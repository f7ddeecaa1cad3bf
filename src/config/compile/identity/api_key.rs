//! `api_key = { … }` and its file of `[[key]]` tables.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_lc_rs::digest::SHA256_OUTPUT_LEN;
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use jiff::Timestamp;

use super::{MISTAKES_MAX, files, header, missing, token};
use crate::config::context::Context;
use crate::config::diagnostic::Diagnostic;
use crate::config::nearest::nearest;
use crate::config::node::{self, FileId, Node, Span, Table, Value};
use crate::identity::Source;
use crate::identity::api_key::{ApiKey, ApiKeys};
use crate::identity::source::{Kind, Place};
use crate::value::principal::Principal;

/// Compiles an `api_key` source.
pub(super) fn compile(
    table: &Table,
    name: &Arc<str>,
    roles: Option<&BTreeSet<&str>>,
    cx: &mut Context,
) -> Option<Source> {
    let mut places = Vec::new();
    match table.get("header") {
        Some(node) => match header(node, cx)? {
            Place::Authorization => {
                cx.say(
                    Diagnostic::error(
                        "bad-header",
                        node.span,
                        "an API key cannot stand in `authorization`",
                    )
                    .help("write a field of its own, such as `x-api-key`"),
                );
                return None;
            }
            place @ (Place::Header(_) | Place::Cookie(_) | Place::Query(_)) => places.push(place),
        },
        None => places.push(Place::Header(HeaderName::from_static("x-api-key"))),
    }
    for node in table.many("query") {
        places.push(Place::Query(token(node, "query parameter", cx)?));
    }
    let challenge = places.iter().find_map(|place| match place {
        Place::Header(field) => {
            HeaderValue::from_str(&format!(r#"ApiKey realm="restricted", header="{field}""#)).ok()
        }
        Place::Authorization | Place::Cookie(_) | Place::Query(_) => None,
    })?;
    let Some(file) = table.get("file") else {
        missing(table, "file", cx);
        return None;
    };
    let written = file.as_str()?;
    let content = files::read_text(cx, file.span, written, "API keys")?;
    let keys = key_file(&content, written, file.span, name, roles, cx);
    Some(Source {
        name: Arc::clone(name),
        kind: Kind::ApiKey(keys?),
        places,
        challenges: Some([challenge.clone(), challenge]),
    })
}

/// Reads a file of `[[key]]` tables.
fn key_file(
    content: &str,
    written: &str,
    span: Span,
    source: &Arc<str>,
    roles: Option<&BTreeSet<&str>>,
    cx: &mut Context,
) -> Option<ApiKeys> {
    let mut file = KeyFile {
        content,
        written,
        span,
        mistakes: 0,
    };
    let (root, syntax) = node::parse(content, FileId::default());
    for mistake in syntax {
        file.say(mistake.span, &mistake.message, cx);
    }
    if file.mistakes > 0 {
        // What could be read of such a file only adds noise.
        return None;
    }
    for entry in &root.entries {
        if entry.key != "key" {
            file.say(
                Some(entry.key_span),
                &format!(
                    "`{}` is no key of a key file; keys stand in `[[key]]`",
                    entry.key
                ),
                cx,
            );
        }
    }
    let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
    let mut keys = ApiKeys::default();
    for table in root.tables("key") {
        let Some((digest, key)) = file.key(table, source, roles, cx) else {
            continue;
        };
        let id = table.str("id").unwrap_or_default();
        let line = file.line(table.span);
        if let Some(first) = ids.insert(id, line) {
            file.say(
                Some(table.span),
                &format!("key `{id}` is there already, in line {first}"),
                cx,
            );
            continue;
        }
        if let Err(first) = keys.add(digest, key) {
            file.say(
                Some(table.span),
                &format!("key `{id}` has the hash of key `{first}`"),
                cx,
            );
        }
    }
    if file.mistakes > 0 {
        return None;
    }
    if keys.is_empty() {
        let message = format!("`{written}` holds no key: nobody can sign in with it");
        cx.say(
            Diagnostic::warning("empty-file", span, message)
                .help("make one with `portcullis hash-password --api-key`"),
        );
    }
    Some(keys)
}

struct KeyFile<'f> {
    content: &'f str,
    written: &'f str,
    span: Span,
    mistakes: usize,
}

impl KeyFile<'_> {
    fn key(
        &mut self,
        table: &Table,
        source: &Arc<str>,
        roles: Option<&BTreeSet<&str>>,
        cx: &mut Context,
    ) -> Option<([u8; SHA256_OUTPUT_LEN], ApiKey)> {
        let before = self.mistakes;
        for entry in &table.entries {
            if !KEY_KEYS.contains(&entry.key.as_str()) {
                let near = nearest(&entry.key, KEY_KEYS.iter().copied());
                let help =
                    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                self.say(
                    Some(entry.key_span),
                    &format!("unknown key `{}`{help}", entry.key),
                    cx,
                );
            }
        }
        let id = table.str("id").filter(|id| !id.is_empty());
        if id.is_none() {
            self.say(Some(table.span), "a key needs an `id`", cx);
        }
        let digest = table.str("sha256").and_then(hex);
        if digest.is_none() {
            self.say(
                Some(table.span),
                "a key needs `sha256`: the 64 hexadecimal digits of its hash",
                cx,
            );
        }
        let user = table.str("user").or(id).unwrap_or_default();
        let mut granted: Vec<Arc<str>> = Vec::new();
        for node in table.many("roles") {
            let Some(role) = node.as_str().filter(|role| !role.is_empty()) else {
                self.say(Some(node.span), "a role is a name", cx);
                continue;
            };
            if let Some(known) = roles.filter(|known| !known.contains(role)) {
                let near = nearest(role, known.iter().copied());
                let help =
                    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                let line = self.line(node.span);
                let file = self.written;
                let message =
                    format!("`{file}` line {line}: role `{role}` stands nowhere in `[role]`{help}");
                cx.say(Diagnostic::warning("unknown-role", self.span, message));
            }
            granted.push(Arc::from(role));
        }
        let mut networks = Vec::new();
        for node in table.many("networks") {
            match node.as_str().and_then(network) {
                Some(found) => networks.push(found),
                None => self.say(
                    Some(node.span),
                    "`networks` lists addresses and networks, such as `192.0.2.0/24`",
                    cx,
                ),
            }
        }
        let expires = table.get("expires").map(|node| (node, end(node)));
        if let Some((node, None)) = expires {
            self.say(
                Some(node.span),
                "`expires` is a date, or a date and time with its offset",
                cx,
            );
        }
        let expires = expires.and_then(|(_, at)| at);
        if expires.is_some_and(|at| at <= cx.now) && self.mistakes == before {
            let (file, line, id) = (self.written, self.line(table.span), id.unwrap_or_default());
            let message = format!("`{file}` line {line}: key `{id}` has expired");
            cx.say(Diagnostic::note("expired-key", self.span, message));
        }
        let claims = table.get("claims").map(json);
        let claims = match claims {
            None => serde_json::Map::new(),
            Some(serde_json::Value::Object(claims)) => claims,
            Some(_) => {
                self.say(Some(table.span), "`claims` is a table", cx);
                serde_json::Map::new()
            }
        };
        if self.mistakes > before {
            return None;
        }
        let principal = Principal {
            user: Arc::from(user),
            source: Arc::clone(source),
            roles: granted,
            claims,
            device: serde_json::Map::new(),
            expires,
        };
        let key = ApiKey {
            id: Box::from(id?),
            principal: Arc::new(principal),
            networks,
        };
        Some((digest?, key))
    }

    fn say(&mut self, at: Option<Span>, mistake: &str, cx: &mut Context) {
        self.mistakes += 1;
        let line = at.map_or(1, |span| self.line(span));
        match self.mistakes.cmp(&MISTAKES_MAX) {
            Ordering::Less => {
                let message = format!("`{}` line {line}: {mistake}", self.written);
                cx.error("bad-key-file", self.span, message);
            }
            Ordering::Equal => {
                let message = format!("`{}` has more mistakes", self.written);
                cx.error("bad-key-file", self.span, message);
            }
            Ordering::Greater => {}
        }
    }

    fn line(&self, span: Span) -> u32 {
        let before = self.content.bytes().take(span.start as usize);
        let line = before.filter(|byte| *byte == b'\n').count() + 1;
        u32::try_from(line).unwrap_or(u32::MAX)
    }
}

fn hex(text: &str) -> Option<[u8; SHA256_OUTPUT_LEN]> {
    let text = text.strip_prefix("sha256:").unwrap_or(text);
    let mut out = [0; SHA256_OUTPUT_LEN];
    if text.len() != out.len() * 2 {
        return None;
    }
    for (to, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
        if !pair.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        *to = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

/// A network without host bits, or an address.
fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => IpNet::from(text.parse::<std::net::IpAddr>().ok()?.to_canonical()),
    };
    (network.trunc() == network).then_some(network)
}

/// The end that a date names: a day counts whole, in UTC.
fn end(node: &Node) -> Option<Timestamp> {
    let Value::Datetime(at) = &node.value else {
        return None;
    };
    if at.time.is_some() {
        at.offset?;
        return at.to_string().parse().ok();
    }
    let day: jiff::civil::Date = at.to_string().parse().ok()?;
    let next = day.tomorrow().ok()?;
    let midnight = next.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(midnight.timestamp())
}

fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::String(text) => text.as_str().into(),
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Boolean(value) => (*value).into(),
        Value::Datetime(at) => at.to_string().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Table(table) => {
            let entries = table.entries.iter();
            let map = entries.map(|entry| (entry.key.clone(), json(&entry.node)));
            serde_json::Value::Object(map.collect())
        }
    }
}

/// Keys of a `[[key]]`.
const KEY_KEYS: [&str; 7] = [
    "id", "user", "sha256", "roles", "claims", "networks", "expires",
];
