//! What is removed from a request and what is set.
//!
//! One scan over the names finds everything to remove: hop-by-hop fields (RFC 9110 §7.6.1), what `Connection` names, and the
//! forwarding, identity and override headers that a client may never send (GRAMMAR), their look-alikes with `_`, `.` or another sign for `-` too.

use http::header::{CONNECTION, COOKIE, EXPECT, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use smallvec::SmallVec;

use super::intake::has_token;
use crate::value::hop;

/// Whether an upgrade travels on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// Hop-by-hop fields end here.
    Ends,
    /// A WebSocket handshake: `Connection: upgrade` and `Upgrade: websocket` are set anew.
    WebSocket,
}

/// Strips a request head. `extra` are the names of `headers_to_upstream` and `strip_headers`, sorted; `replaced` those that
/// the gate writes itself.
pub fn strip_request(
    headers: &mut HeaderMap,
    extra: &[HeaderName],
    replaced: &[HeaderName],
    hop: Hop,
) {
    let mut gone = hop::Names::new();
    for (name, value) in headers.iter() {
        if *name == CONNECTION {
            hop::named(value.as_bytes(), &mut gone);
        }
    }
    for name in headers.keys() {
        if hop::by_hop(name.as_str())
            || never_from_client(name.as_str())
            || named(name, extra)
            || replaced.contains(name)
        {
            gone.push(name.clone());
        }
    }
    for name in gone {
        headers.remove(name);
    }
    if hop == Hop::WebSocket {
        upgraded(headers);
    }
}

/// Makes the head of a 101 a WebSocket's.
pub fn upgraded(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Forwarding, identity and override headers: ours to set, never a client's.
fn never_from_client(name: &str) -> bool {
    let Some(first) = name.as_bytes().first() else {
        return false;
    };
    // Few names begin so; most are done here.
    if !matches!(first, b'c' | b'f' | b'r' | b't' | b'x') {
        return false;
    }
    if !name.bytes().any(|byte| fold(byte) != byte) {
        return listed(name);
    }
    let folded: SmallVec<[u8; 64]> = name.bytes().map(fold).collect();
    std::str::from_utf8(&folded).is_ok_and(listed)
}

fn listed(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || name.starts_with("x-auth-request-")
        || matches!(
            name,
            "forwarded"
                | "x-forwarded"
                | "x-real-ip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "true-client-ip"
                | "cf-connecting-ip"
                | "x-user"
                | "x-roles"
                | "x-remote-user"
                | "remote-user"
                | "x-original-url"
                | "x-rewrite-url"
                | "x-http-method"
                | "x-http-method-override"
                | "x-method-override"
        )
}

/// Whether a name, its look-alikes folded, is one of `extra`.
fn named(name: &HeaderName, extra: &[HeaderName]) -> bool {
    if extra.is_empty() {
        return false;
    }
    extra.iter().any(|other| {
        other == name
            || (other.as_str().len() == name.as_str().len()
                && name
                    .as_str()
                    .bytes()
                    .zip(other.as_str().bytes())
                    .all(|(have, want)| fold(have) == fold(want)))
    })
}

/// CGI and its heirs make one variable of `X-User`, `X_User` and, some of them, of `X.User` and `X!User`: whatever is neither
/// letter nor digit becomes `_` (RFC 3875 §4.1.18).
const fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() {
        byte
    } else {
        b'-'
    }
}

/// Joins the pieces into which HTTP/2 clients may cut `Cookie` (RFC 9113 §8.2.3): HTTP/1.1 knows one field.
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(COOKIE).iter();
    if pieces.next().is_none() || pieces.next().is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    // Pieces that were valid values are valid joined.
    if let Ok(whole) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}

/// Whether the client waits for `100 Continue` (RFC 9110 §10.1.1).
#[must_use]
pub fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(EXPECT)
        .is_some_and(|value| has_token(value, b"100-continue"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn what_a_client_may_never_send_is_gone() {
        for (name, stays, why) in [
            ("x-forwarded-for", false, "forwarding"),
            ("x_forwarded_for", false, "look-alike"),
            ("x-forwarded.proto", false, "look-alike"),
            ("forwarded", false, "RFC 7239"),
            ("x-user", false, "identity"),
            ("x_user", false, "look-alike"),
            ("remote-user", false, "identity"),
            ("x-original-url", false, "override"),
            ("x-http-method-override", false, "override"),
            ("x-team", false, "named by the site"),
            ("x_team", false, "look-alike of one named by the site"),
            ("x!team", false, "look-alike of one named by the site"),
            ("x~user", false, "look-alike"),
            ("remote|user", false, "look-alike"),
            ("x-team-2", true, "another name"),
            ("te", false, "hop-by-hop"),
            ("proxy", false, "httpoxy"),
            ("x-custom", true, "an ordinary field"),
            ("accept", true, "an ordinary field"),
            ("x-named", false, "named by Connection"),
            ("x-request-id", false, "the gate writes it"),
            ("host", true, "Connection cannot take it away"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                HeaderName::try_from(name).unwrap(),
                HeaderValue::from_static("1"),
            );
            headers.insert(CONNECTION, HeaderValue::from_static("x-named, Host"));
            strip_request(
                &mut headers,
                &[HeaderName::from_static("x-team")],
                &[HeaderName::from_static("x-request-id")],
                Hop::Ends,
            );
            assert_eq!(headers.contains_key(name), stays, "{name}: {why}");
            assert!(!headers.contains_key(CONNECTION));
        }
    }
}
