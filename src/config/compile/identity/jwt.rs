//! `jwt = { … }`.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use jsonwebtoken::{Algorithm, AlgorithmFamily};

use super::super::remote;
use super::{files, header, missing, once, text, token, words};
use crate::config::context::Context;
use crate::config::diagnostic::Diagnostic;
use crate::config::nearest::nearest;
use crate::config::node::{Entry, Node, Span, Table};
use crate::identity::Source;
use crate::identity::jwt::{Jwt, Keys};
use crate::identity::keys::{self, ALGORITHMS, Key};
use crate::identity::source::{Kind, Place};
use crate::snapshot::KeySet;
use crate::value::duration;

/// Compiles a `jwt` source.
pub(super) fn compile(table: &Table, name: &Arc<str>, cx: &mut Context) -> Option<Source> {
    let issuer = text(table, "issuer", cx);
    let audience = words(table, "audience", cx);
    let algorithms = algorithms(table, cx);
    let keys = jwt_keys(table, name, &algorithms, cx);
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
        challenges: Some([
            HeaderValue::from_static(r#"Bearer realm="restricted""#),
            HeaderValue::from_static(r#"Bearer realm="restricted", error="invalid_token""#),
        ]),
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

fn jwt_keys(
    table: &Table,
    name: &Arc<str>,
    algorithms: &[Pinned],
    cx: &mut Context,
) -> Option<Keys> {
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
        return secret(written, span, algorithms, cx).map(|key| Keys::Fixed(vec![key]));
    }
    let ca = table.get("ca");
    if entry.key == "jwks" && (written.starts_with("http:") || written.starts_with("https:")) {
        return fetched(written, span, ca, name, algorithms, cx);
    }
    if let Some(ca) = ca {
        let message = "`ca` has no use here: no key is fetched from a URL";
        cx.say(Diagnostic::warning("unused-key", ca.span, message));
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
    if passed_over > 0 {
        let message = match passed_over {
            1 => format!("1 key of `{written}` is passed over: it cannot verify tokens"),
            many => {
                format!("{many} keys of `{written}` are passed over: they cannot verify tokens")
            }
        };
        cx.say(Diagnostic::note("key-passed-over", span, message));
    }
    suited(&entry.node, &keys, algorithms, cx);
    Some(Keys::Fixed(keys))
}

/// Keys that the issuer publishes: what was fetched last is kept from load to load.
fn fetched(
    written: &str,
    span: Span,
    ca: Option<&Node>,
    name: &Arc<str>,
    algorithms: &[Pinned],
    cx: &mut Context,
) -> Option<Keys> {
    for ((algorithm, kind), place) in algorithms {
        if kind.family() == AlgorithmFamily::Hmac {
            // RFC 8725 §2.1: what is published is no secret.
            let message = format!("`{algorithm}` takes a secret, and the keys at a URL are public");
            cx.say(
                Diagnostic::error("algorithm-mismatch", *place, message)
                    .help("pin what the issuer signs with, such as `RS256`, or write `secret`"),
            );
        }
    }
    let (remote, print) = remote::compile(written, span, ca, cx)?;
    let key = (written.to_owned(), print);
    let keys = Arc::clone(cx.memory.key_sets.entry(key).or_default());
    cx.key_sets.push(KeySet {
        source: Arc::clone(name),
        keys: Arc::clone(&keys),
        remote,
    });
    Some(Keys::Remote(keys))
}

/// Says where keys and algorithms do not fit each other.
fn suited(file: &Node, keys: &[Key], algorithms: &[Pinned], cx: &mut Context) {
    let written = file.as_str().unwrap_or_default();
    if keys.is_empty() {
        let message = format!("`{written}` holds no key that can verify a token");
        cx.say(Diagnostic::error("bad-key", file.span, message).help(
            "signing keys are RSA of 2048 bits or more, P-256, P-384, Ed25519, or secrets of 32 bytes or more",
        ));
        return;
    }
    let fits = |algorithm: Algorithm| keys.iter().any(|key| key.algorithms.contains(&algorithm));
    let any = algorithms
        .iter()
        .any(|((_, algorithm), _)| fits(*algorithm));
    let mut possible: Vec<&str> = Vec::new();
    for (name, algorithm) in &ALGORITHMS {
        if fits(*algorithm) {
            possible.push(name);
        }
    }
    let possible = format!("its keys verify `{}`", possible.join("`, `"));
    for ((name, algorithm), place) in algorithms {
        if fits(*algorithm) {
            continue;
        }
        let found = if algorithm.family() == AlgorithmFamily::Hmac {
            // RFC 8725 §2.1: a verifier that took a public key for a secret would let everybody sign.
            let message =
                format!("`{name}` takes a secret, and the keys of `{written}` are public");
            Diagnostic::error("algorithm-mismatch", *place, message)
        } else if any {
            let message = format!("no key of `{written}` verifies `{name}`");
            Diagnostic::warning("algorithm-without-key", *place, message)
        } else {
            let message = format!("no key of `{written}` verifies `{name}`");
            Diagnostic::error("algorithm-mismatch", *place, message)
        };
        cx.say(found.help(possible.clone()));
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
    let Some(seconds) = duration::parse(written).ok() else {
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

/// Clocks of two machines differ by seconds.
const LEEWAY_DEFAULT: i64 = 60;
/// What is beyond is probably not meant.
const LEEWAY_MAX: Duration = Duration::from_secs(300);
