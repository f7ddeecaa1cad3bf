//! `[identity.NAME]` → identity sources, and a site's `identity` → its authenticator.
//!
//! Reads the key files. What is wrong in one is reported at the place that names it, with the line: the line itself is never
//! shown, since it may hold a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::SHA256_OUTPUT_LEN;
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, AlgorithmFamily};

use super::files;
use crate::config::context::Context;
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::node::{self, Entry, FileId, Node, Span, Table, Value};
use crate::identity::api_key::{ApiKey, ApiKeys};
use crate::identity::basic::{BadLine, Users};
use crate::identity::jwt::Jwt;
use crate::identity::keys::{self, ALGORITHMS, Key};
use crate::identity::source::{Kind, Place};
use crate::identity::{Authenticator, Source, Sources};
use crate::value::principal::Principal;

/// Compiles every `[identity.NAME]`.
pub fn compile(root: &Table, cx: &mut Context) -> Sources {
    let mut sources = Sources::default();
    let roles = known_roles(root);
    let entries = root.table("identity").map(|table| &table.entries);
    for entry in entries.into_iter().flatten() {
        let name: Arc<str> = Arc::from(entry.key.as_str());
        let source = source(entry, &name, roles.as_ref(), cx);
        sources.add(name, source.map(Arc::new));
    }
    sources
}

/// Compiles a site's `identity` list.
pub fn authenticator(site: &Table, sources: &Sources, cx: &mut Context) -> Authenticator {
    let mut chosen: Vec<(Arc<Source>, Span)> = Vec::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for node in site.many("identity") {
        let Some(name) = node.as_str() else { continue };
        if !seen.insert(name) {
            let message = format!("identity source `{name}` is named twice");
            cx.say(Diagnostic::warning(
                "duplicate-identity",
                node.span,
                message,
            ));
            continue;
        }
        match sources.get(name) {
            Some(Some(source)) => {
                for (first, place) in &chosen {
                    if first.eclipses(source) {
                        let before = &first.name;
                        let message = format!(
                            "identity source `{name}` is never asked: `{before}` before it claims every credential that it could"
                        );
                        let found = Diagnostic::warning("eclipsed-identity", node.span, message)
                            .related(*place, "this source comes first");
                        cx.say(found.help("change the order, or give them different places, issuers or algorithms"));
                        break;
                    }
                }
                chosen.push((Arc::clone(source), node.span));
            }
            Some(None) => {}
            None => {
                let message = format!("site names identity source `{name}`, which is not defined");
                let mut found = Diagnostic::error("unknown-identity", node.span, message);
                let known = sources.names().map(|known| &**known);
                if let Some(near) = nearest(name, known) {
                    found = found.help(format!("did you mean `{near}`?"));
                } else {
                    found = found.help(format!("define it as `[identity.{name}]`"));
                }
                cx.say(found);
            }
        }
    }
    Authenticator::new(chosen.into_iter().map(|(source, _)| source).collect())
}

fn source(
    entry: &Entry,
    name: &Arc<str>,
    roles: Option<&BTreeSet<&str>>,
    cx: &mut Context,
) -> Option<Source> {
    let table = entry.node.as_table()?;
    let known = |entry: &&Entry| KINDS.contains(&entry.key.as_str());
    let mut written = table.entries.iter().filter(known);
    let Some(kind) = written.next() else {
        let kinds = KINDS.join("`, `");
        let message = format!("identity `{name}` names no source");
        once(
            Diagnostic::error("identity-without-source", entry.key_span, message)
                .help(format!("write one of `{kinds}`")),
            table.span,
            cx,
        );
        return None;
    };
    if let Some(second) = written.next() {
        let message = format!(
            "identity `{name}` has two sources, `{}` and `{}`",
            kind.key, second.key
        );
        cx.say(
            Diagnostic::error("identity-with-two-sources", second.key_span, message)
                .related(kind.key_span, "the first")
                .help("one `[identity.NAME]` is one source; give the second a name of its own"),
        );
        return None;
    }
    let settings = kind.node.as_table()?;
    match kind.key.as_str() {
        "jwt" => jwt(settings, name, cx),
        "api_key" => api_key(settings, name, roles, cx),
        "basic" => basic(settings, name, cx),
        later => {
            let message = format!("identity source `{later}` is not built yet");
            once(
                Diagnostic::error("not-yet", kind.key_span, message),
                entry.node.span,
                cx,
            );
            None
        }
    }
}

fn jwt(table: &Table, name: &Arc<str>, cx: &mut Context) -> Option<Source> {
    let issuer = text(table, "issuer", cx);
    let audience = words(table, "audience", cx);
    let algorithms = algorithms(table, cx);
    let keys = jwt_keys(table, &algorithms, cx);
    let leeway = leeway(table, cx);
    let places = jwt_places(table, cx);
    let roles = table.str("roles").map(Box::from);
    let jwt = Jwt {
        issuer: issuer?,
        audience: audience?,
        algorithms: algorithms.into_iter().map(|(pinned, _)| pinned).collect(),
        keys: keys?,
        roles,
        leeway: leeway?,
    };
    if jwt.algorithms.is_empty() {
        return None;
    }
    Some(Source {
        name: Arc::clone(name),
        kind: Kind::Jwt(jwt),
        places: places?,
        challenges: [
            HeaderValue::from_static(r#"Bearer realm="restricted""#),
            HeaderValue::from_static(r#"Bearer realm="restricted", error="invalid_token""#),
        ],
    })
}

type Pinned = ((&'static str, Algorithm), Span);

fn algorithms(table: &Table, cx: &mut Context) -> Vec<Pinned> {
    let mut pinned: Vec<Pinned> = Vec::new();
    if table.get("algorithms").is_none() {
        missing(table, "algorithms", cx);
    } else if table.many("algorithms").next().is_none() {
        let span = table.get("algorithms").map_or(table.span, |node| node.span);
        cx.say(
            Diagnostic::error("empty-value", span, "`algorithms` pins no algorithm")
                .help("name those that the issuer signs with, such as `[\"RS256\"]`"),
        );
    }
    for node in table.many("algorithms") {
        let Some(word) = node.as_str() else { continue };
        if let Some(found) = ALGORITHMS.iter().find(|(name, _)| *name == word) {
            if !pinned.iter().any(|(known, _)| known == found) {
                pinned.push((*found, node.span));
            }
            continue;
        }
        let message = format!("`{word}` is no algorithm that a token may be signed with");
        let mut found = Diagnostic::error("unknown-algorithm", node.span, message);
        let names = ALGORITHMS.iter().map(|(name, _)| *name);
        if word.eq_ignore_ascii_case("none") {
            found = found.help("an unsigned token proves nothing");
        } else if let Some(near) = nearest(&word.to_ascii_uppercase(), names) {
            found = found.help(format!("did you mean `{near}`?"));
        }
        cx.say(found);
    }
    pinned
}

fn jwt_keys(table: &Table, algorithms: &[Pinned], cx: &mut Context) -> Option<Vec<Key>> {
    let is_key = |entry: &&Entry| matches!(entry.key.as_str(), "secret" | "public_key" | "jwks");
    let mut written = table.entries.iter().filter(is_key);
    let Some(entry) = written.next() else {
        let found = Diagnostic::error(
            "jwt-without-key",
            table.span,
            "`jwt` has no key to verify tokens with",
        )
        .help("write `jwks`, `public_key` or `secret`");
        once(found, table.span, cx);
        return None;
    };
    if let Some(second) = written.next() {
        let message = format!("`jwt` has two keys, `{}` and `{}`", entry.key, second.key);
        cx.say(
            Diagnostic::error("jwt-with-two-keys", second.key_span, message)
                .related(entry.key_span, "the first")
                .help("several keys stand in one `jwks` file"),
        );
        return None;
    }
    let written = entry.node.as_str()?;
    let span = entry.node.span;
    if entry.key == "secret" {
        return secret(written, span, algorithms, cx).map(|key| vec![key]);
    }
    if entry.key == "jwks" && (written.starts_with("http://") || written.starts_with("https://")) {
        let found = Diagnostic::error(
            "not-yet",
            span,
            "fetching `jwks` from a URL is not built yet",
        )
        .help("save the set to a file and name the file");
        once(found, span, cx);
        return None;
    }
    for ((name, algorithm), place) in algorithms {
        if algorithm.family() == AlgorithmFamily::Hmac && entry.key == "public_key" {
            let message = format!(
                "`{name}` with `public_key` would let everybody who has the public key sign"
            );
            cx.say(
                Diagnostic::error("algorithm-mismatch", *place, message)
                    .related(span, "this key is public")
                    .help("pin the algorithm of the key, such as `RS256`, `ES256` or `EdDSA`"),
            );
        }
    }
    let content = files::read(cx, span, written, "unreadable-file", "a key")?;
    let (keys, passed_over) = if entry.key == "jwks" {
        match Key::set(&content) {
            Ok(found) => found,
            Err(mistake) => {
                cx.error("bad-key", span, format!("`{written}` {mistake}"));
                return None;
            }
        }
    } else {
        match Key::pem(&content) {
            Ok(key) => (vec![key], 0),
            Err(mistake) => {
                cx.error("bad-key", span, format!("`{written}` {mistake}"));
                return None;
            }
        }
    };
    suited(written, span, &keys, passed_over, algorithms, cx);
    Some(keys)
}

/// Says where keys and algorithms do not fit each other.
fn suited(
    written: &str,
    span: Span,
    keys: &[Key],
    passed_over: usize,
    algorithms: &[Pinned],
    cx: &mut Context,
) {
    if keys.is_empty() {
        let message = format!("`{written}` holds no key that can verify a token");
        cx.say(Diagnostic::error("bad-key", span, message).help(
            "signing keys are RSA of 2048 bits or more, P-256, P-384, Ed25519, or secrets of 32 bytes or more",
        ));
        return;
    }
    if passed_over > 0 {
        let message =
            format!("{passed_over} keys of `{written}` are passed over: they cannot verify tokens");
        cx.say(Diagnostic::note("key-passed-over", span, message));
    }
    let fits = |algorithm: Algorithm| keys.iter().any(|key| key.algorithms.contains(&algorithm));
    let any = algorithms
        .iter()
        .any(|((_, algorithm), _)| fits(*algorithm));
    for ((name, algorithm), place) in algorithms {
        // Reported with its own words already.
        let hmac = algorithm.family() == AlgorithmFamily::Hmac;
        if fits(*algorithm) || (hmac && !any && written.is_empty()) {
            continue;
        }
        let message = format!("no key of `{written}` verifies `{name}`");
        let found = if any {
            Diagnostic::warning("algorithm-without-key", *place, message)
        } else if hmac && cx.report.diagnostics.iter().any(|d| d.span == Some(*place)) {
            continue;
        } else {
            Diagnostic::error("algorithm-mismatch", *place, message)
        };
        let mut possible: Vec<&str> = Vec::new();
        for (name, algorithm) in &ALGORITHMS {
            if fits(*algorithm) {
                possible.push(name);
            }
        }
        cx.say(found.help(format!("its keys verify `{}`", possible.join("`, `"))));
    }
}

fn secret(written: &str, span: Span, algorithms: &[Pinned], cx: &mut Context) -> Option<Key> {
    if written.is_empty() {
        cx.error("empty-value", span, "`secret` is empty");
        return None;
    }
    for ((name, algorithm), place) in algorithms {
        if algorithm.family() != AlgorithmFamily::Hmac {
            let message = format!("`{name}` is verified with a public key, not with a `secret`");
            cx.say(
                Diagnostic::error("algorithm-mismatch", *place, message)
                    .help("write `public_key` or `jwks`, or pin `HS256`, `HS384` or `HS512`"),
            );
        }
    }
    let need = algorithms
        .iter()
        .map(|((_, a), _)| keys::secret_bytes_min(*a));
    let need = need.max().unwrap_or_default();
    if written.len() < need {
        let have = written.len();
        let message = format!(
            "`secret` has {have} bytes and can be guessed from one token; {need} random bytes are needed"
        );
        cx.say(
            Diagnostic::warning("weak-secret", span, message)
                .help("make one with `openssl rand -base64 48`"),
        );
    }
    Some(Key::secret(written.as_bytes()))
}

fn leeway(table: &Table, cx: &mut Context) -> Option<i64> {
    let Some(node) = table.get("leeway") else {
        return Some(LEEWAY_DEFAULT);
    };
    let span = node.span;
    let written = node.as_str()?;
    let Some(seconds) = super::files::seconds(written) else {
        once(
            Diagnostic::error("bad-duration", span, format!("`{written}` is no duration"))
                .help("such as `60s`"),
            span,
            cx,
        );
        return None;
    };
    if seconds > LEEWAY_MAX {
        let message = format!("a `leeway` of `{written}` keeps expired tokens alive");
        cx.say(
            Diagnostic::warning("wide-leeway", span, message)
                .help("clocks differ by seconds; 60s is plenty"),
        );
    }
    i64::try_from(seconds.as_secs()).ok()
}

/// `Authorization: Bearer`, or the places that are written instead.
fn jwt_places(table: &Table, cx: &mut Context) -> Option<Vec<Place>> {
    let mut places = Vec::new();
    for node in table.many("header") {
        places.push(header(node, cx)?);
    }
    for node in table.many("cookie") {
        places.push(Place::Cookie(token(node, "cookie", cx)?));
    }
    if places.is_empty() {
        places.push(Place::Authorization);
    }
    Some(places)
}

fn api_key(
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
        places.push(Place::Query(token(node, "query", cx)?));
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
        challenges: [challenge.clone(), challenge],
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
            std::cmp::Ordering::Less => {
                let message = format!("`{}` line {line}: {mistake}", self.written);
                cx.error("bad-key-file", self.span, message);
            }
            std::cmp::Ordering::Equal => {
                let message = format!("`{}` has more mistakes", self.written);
                cx.error("bad-key-file", self.span, message);
            }
            std::cmp::Ordering::Greater => {}
        }
    }

    fn line(&self, span: Span) -> u32 {
        let before = self.content.bytes().take(span.start as usize);
        let line = before.filter(|byte| *byte == b'\n').count() + 1;
        u32::try_from(line).unwrap_or(u32::MAX)
    }
}

fn basic(table: &Table, name: &Arc<str>, cx: &mut Context) -> Option<Source> {
    let challenge = realm(table, cx);
    let Some(file) = table.get("file") else {
        missing(table, "file", cx);
        return None;
    };
    let written = file.as_str()?;
    let content = files::read_text(cx, file.span, written, "users")?;
    let parsed = Users::parse(&content, name);
    for (line, mistake) in parsed.bad.iter().take(MISTAKES_MAX) {
        let message = format!("`{written}` line {line} {mistake}");
        let mut found = Diagnostic::error("bad-htpasswd", file.span, message);
        if *mistake == BadLine::Unsupported {
            found = found
                .help("make it new with `portcullis hash-password --user NAME` or `htpasswd -B`");
        }
        cx.say(found);
    }
    if parsed.bad.len() > MISTAKES_MAX {
        let more = parsed.bad.len() - MISTAKES_MAX;
        cx.error(
            "bad-htpasswd",
            file.span,
            format!("`{written}` has {more} more lines that cannot be used"),
        );
    }
    if let Some(line) = parsed.weak {
        let message = format!(
            "`{written}` line {line} has a `{{SHA}}` hash, which is quickly guessed once the file leaks"
        );
        cx.say(
            Diagnostic::warning("weak-hash", file.span, message)
                .help("make it new with `portcullis hash-password`"),
        );
    }
    if parsed.users.is_empty() && parsed.bad.is_empty() {
        let message = format!("`{written}` holds no user: nobody can sign in with it");
        cx.say(Diagnostic::warning("empty-file", file.span, message));
    }
    if !parsed.bad.is_empty() {
        return None;
    }
    let challenge = challenge?;
    Some(Source {
        name: Arc::clone(name),
        kind: Kind::Basic(parsed.users),
        places: vec![Place::Authorization],
        challenges: [challenge.clone(), challenge],
    })
}

fn realm(table: &Table, cx: &mut Context) -> Option<HeaderValue> {
    let node = table.get("realm");
    let realm = node.and_then(Node::as_str).unwrap_or("restricted");
    let quoted = realm.replace('\\', r"\\").replace('"', r#"\""#);
    let challenge = HeaderValue::from_str(&format!(r#"Basic realm="{quoted}", charset="UTF-8""#));
    match challenge {
        Ok(value) if realm.is_ascii() => Some(value),
        Ok(_) | Err(_) => {
            let span = node.map_or(table.span, |node| node.span);
            let message = "`realm` has characters that a header field cannot carry";
            cx.say(Diagnostic::error("bad-realm", span, message).help("write it in plain ASCII"));
            None
        }
    }
}

/// Every name in `[role]`, as a key or in a list; none where the table is absent and any name goes.
fn known_roles(root: &Table) -> Option<BTreeSet<&str>> {
    let table = root.table("role")?;
    let mut known = BTreeSet::new();
    for entry in &table.entries {
        known.insert(entry.key.as_str());
        known.extend(entry.node.many().filter_map(Node::as_str));
    }
    Some(known)
}

fn header(node: &Node, cx: &mut Context) -> Option<Place> {
    let written = node.as_str()?;
    match written.parse::<HeaderName>() {
        Ok(name) if name == http::header::AUTHORIZATION => Some(Place::Authorization),
        Ok(name) if name == http::header::COOKIE || name == http::header::HOST => {
            let message = format!("`{written}` cannot carry a credential of its own");
            cx.say(
                Diagnostic::error("bad-header", node.span, message)
                    .help("for a cookie write `cookie = \"name\"`"),
            );
            None
        }
        Ok(name) => Some(Place::Header(name)),
        Err(_) => {
            cx.error(
                "bad-header",
                node.span,
                format!("`{written}` is no name of a header field"),
            );
            None
        }
    }
}

/// The name of a cookie or a query parameter.
fn token(node: &Node, what: &str, cx: &mut Context) -> Option<Box<str>> {
    let written = node.as_str()?;
    let plain = |b: u8| b.is_ascii_graphic() && !b"=;,&\"\\".contains(&b);
    if written.is_empty() || !written.bytes().all(plain) {
        cx.error(
            "bad-name",
            node.span,
            format!("`{written}` is no name of a {what}"),
        );
        return None;
    }
    Some(Box::from(written))
}

fn text(table: &Table, key: &str, cx: &mut Context) -> Option<Box<str>> {
    let Some(node) = table.get(key) else {
        missing(table, key, cx);
        return None;
    };
    let written = node.as_str()?;
    if written.is_empty() {
        cx.error("empty-value", node.span, format!("`{key}` is empty"));
        return None;
    }
    Some(Box::from(written))
}

fn words(table: &Table, key: &str, cx: &mut Context) -> Option<Vec<Box<str>>> {
    let Some(node) = table.get(key) else {
        missing(table, key, cx);
        return None;
    };
    let words: Vec<Box<str>> = node
        .many()
        .filter_map(Node::as_str)
        .map(Box::from)
        .collect();
    if words.is_empty() || words.iter().any(|word| word.is_empty()) {
        let found = Diagnostic::error("empty-value", node.span, format!("`{key}` is empty"));
        once(found, node.span, cx);
        return None;
    }
    Some(words)
}

fn missing(table: &Table, key: &str, cx: &mut Context) {
    let found = Diagnostic::error("missing-key", table.span, format!("`{key}` is missing"));
    once(found, table.span, cx);
}

/// Adds an error unless the key tables have found one in the same place: then it is the same mistake.
fn once(found: Diagnostic, within: Span, cx: &mut Context) {
    let inside = |span: Span| {
        span.file == within.file && span.start >= within.start && span.end <= within.end
    };
    let known = cx.report.diagnostics.iter();
    let mut known = known.filter(|other| other.severity == Severity::Error);
    if !known.any(|other| other.span.is_some_and(inside)) {
        cx.say(found);
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

/// The known name nearest to a written one: at most a third of its letters differ.
fn nearest<'n>(written: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let limit = (written.chars().count() / 3).max(1);
    let scored = known.map(|name| (distance(written, name), name));
    let (_, name) = scored.filter(|(far, _)| *far <= limit).min()?;
    Some(name)
}

/// Edits between two words (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (done, letter) in from.chars().enumerate() {
        let mut next = vec![done + 1];
        for (at, other) in to.iter().enumerate() {
            let (Some(up), Some(diagonal), Some(left)) =
                (row.get(at + 1), row.get(at), next.get(at))
            else {
                break;
            };
            let swap = diagonal + usize::from(*other != letter);
            next.push(swap.min(up + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// The sources of GRAMMAR; those that are not built yet are named too, so that they are never unknown.
const KINDS: [&str; 7] = [
    "jwt",
    "api_key",
    "basic",
    "mtls",
    "oidc",
    "forward_auth",
    "header",
];
/// Keys of a `[[key]]` in a file of API keys.
const KEY_KEYS: [&str; 7] = [
    "id", "user", "sha256", "roles", "claims", "networks", "expires",
];
/// Clocks of two machines differ by seconds.
const LEEWAY_DEFAULT: i64 = 60;
const LEEWAY_MAX: Duration = Duration::from_secs(300);
/// Mistakes told of one file.
const MISTAKES_MAX: usize = 10;

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
