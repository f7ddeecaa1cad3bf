//! Who may ask for what on the admin's TCP address. Pure: a table of answers.
//!
//! The socket needs none of this: its file mode is the access control. On TCP anybody who reaches the address may knock, a web
//! page in the operator's browser included, so the `Host` field must name this machine (DNS rebinding puts another name there)
//! unless the caller has the token, which no stranger's page can.

use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, HOST};
use http::uri::Authority;
use http::{Method, Request};

use crate::snapshot::Token;

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// The Unix socket.
    Socket,
    /// The TCP address, as this connection reached it.
    Tcp(SocketAddr),
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// `Host` names another machine: 421.
    Misdirected,
    /// The token is missing or another one: 401.
    Token,
    /// Nobody can show a token, and this is more than reading: 403.
    ReadOnly,
}

/// Lets a request in or says why not.
pub(super) fn admit<B>(
    request: &Request<B>,
    door: Door,
    token: Option<&Token>,
) -> Result<(), Refused> {
    let Door::Tcp(local) = door else {
        return Ok(());
    };
    let known = token.is_some_and(|token| shown(request).is_some_and(|text| token.is(text)));
    if known {
        return Ok(());
    }
    if !host(request).is_some_and(|host| names(&host, local.ip())) {
        return Err(Refused::Misdirected);
    }
    let reads = *request.method() == Method::GET;
    if reads && OPEN.contains(&request.uri().path()) {
        return Ok(());
    }
    if token.is_some() {
        return Err(Refused::Token);
    }
    // The address is loopback then, but for connections that came in while a reload moved it.
    if reads && local.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(Refused::ReadOnly)
}

/// The token of the one `Authorization` field.
fn shown<B>(request: &Request<B>) -> Option<&[u8]> {
    let mut fields = request.headers().get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return None;
    };
    let (scheme, token) = field.as_bytes().split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then_some(token)
}

/// The host that the request names, in one way only.
fn host<B>(request: &Request<B>) -> Option<Authority> {
    let mut fields = request.headers().get_all(HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (Some(field), None) => Some(field.to_str().ok()?.parse::<Authority>().ok()?),
        (None, _) => None,
        (Some(_), Some(_)) => return None,
    };
    match (request.uri().authority(), field) {
        (Some(target), Some(field)) => (*target == field).then_some(field),
        (Some(target), None) => Some(target.clone()),
        (None, field) => field,
    }
}

/// Whether a host is the address that was reached, or `localhost`. The port may be another one, as behind a container's.
fn names(host: &Authority, local: IpAddr) -> bool {
    let host = host.host();
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical() == local.to_canonical(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// What everybody may read.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/metrics"];

const BEARER: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    const HERE: &str = "127.0.0.1:9403";
    const SECRET: &str = "a-token-of-some-length";

    fn ask(
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        local: &str,
        token: Option<&str>,
    ) -> Result<(), Refused> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let token = token.map(Token::new);
        let request = request.body(()).unwrap();
        admit(&request, Door::Tcp(local.parse().unwrap()), token.as_ref())
    }

    #[test]
    fn strangers_are_kept_out() {
        use Refused::{Misdirected, ReadOnly, Token};
        let good = ("host", HERE);
        let bearer = ("authorization", "Bearer a-token-of-some-length");
        for (method, path, fields, local, token, want, why) in [
            (
                "POST",
                "/reload",
                &[good][..],
                HERE,
                None,
                Err(ReadOnly),
                "no token to show",
            ),
            (
                "DELETE",
                "/metrics",
                &[good],
                HERE,
                None,
                Err(ReadOnly),
                "open is reading only",
            ),
            (
                "GET",
                "/status",
                &[good],
                HERE,
                Some(SECRET),
                Err(Token),
                "no token shown",
            ),
            (
                "POST",
                "/reload",
                &[good],
                HERE,
                Some(SECRET),
                Err(Token),
                "no token shown",
            ),
            (
                "POST",
                "/livez",
                &[good],
                HERE,
                Some(SECRET),
                Err(Token),
                "open is reading only",
            ),
            (
                "GET",
                "/status",
                &[good, ("authorization", "Bearer another")],
                HERE,
                Some(SECRET),
                Err(Token),
                "another token",
            ),
            (
                "GET",
                "/status",
                &[good, ("authorization", "Bearer a-token-of-some-lengt")],
                HERE,
                Some(SECRET),
                Err(Token),
                "a part of it",
            ),
            (
                "GET",
                "/status",
                &[good, ("authorization", "Basic a-token-of-some-length")],
                HERE,
                Some(SECRET),
                Err(Token),
                "another scheme",
            ),
            (
                "GET",
                "/status",
                &[good, bearer, bearer],
                HERE,
                Some(SECRET),
                Err(Token),
                "two",
            ),
            (
                "GET",
                "/status",
                &[good, ("authorization", "")],
                HERE,
                Some(SECRET),
                Err(Token),
                "empty",
            ),
            (
                "GET",
                "/status",
                &[bearer, good],
                HERE,
                None,
                Ok(()),
                "a token that nobody asks for",
            ),
            (
                "GET",
                "/metrics",
                &[("host", "evil.example:9403")],
                HERE,
                None,
                Err(Misdirected),
                "DNS rebinding",
            ),
            (
                "GET",
                "/livez",
                &[("host", "localhost.evil.example")],
                HERE,
                None,
                Err(Misdirected),
                "looks like localhost",
            ),
            (
                "GET",
                "/livez",
                &[("host", "127.0.0.2:9403")],
                HERE,
                None,
                Err(Misdirected),
                "another address",
            ),
            (
                "GET",
                "/livez",
                &[],
                HERE,
                None,
                Err(Misdirected),
                "no host",
            ),
            (
                "GET",
                "/livez",
                &[good, good],
                HERE,
                None,
                Err(Misdirected),
                "two hosts",
            ),
            (
                "GET",
                "http://evil.example/livez",
                &[good],
                HERE,
                None,
                Err(Misdirected),
                "absolute form of elsewhere",
            ),
            (
                "GET",
                "/status",
                &[("host", "192.0.2.1")],
                "192.0.2.1:9403",
                None,
                Err(ReadOnly),
                "a door that a reload closed",
            ),
            ("GET", "/livez", &[good], HERE, None, Ok(()), "open"),
            (
                "GET",
                "/metrics",
                &[good],
                HERE,
                Some(SECRET),
                Ok(()),
                "open",
            ),
            (
                "GET",
                "/readyz",
                &[("host", "192.0.2.1:80")],
                "192.0.2.1:9403",
                None,
                Ok(()),
                "open",
            ),
            (
                "GET",
                "/livez",
                &[("host", "LOCALHOST")],
                HERE,
                None,
                Ok(()),
                "its name",
            ),
            (
                "GET",
                "/livez",
                &[("host", "[::1]:9403")],
                "[::1]:9403",
                None,
                Ok(()),
                "IPv6",
            ),
            (
                "GET",
                "/livez",
                &[good],
                "[::ffff:127.0.0.1]:9403",
                None,
                Ok(()),
                "mapped",
            ),
            (
                "GET",
                "/status",
                &[good],
                HERE,
                None,
                Ok(()),
                "reading on loopback",
            ),
            (
                "GET",
                "/status",
                &[good, bearer],
                HERE,
                Some(SECRET),
                Ok(()),
                "the token",
            ),
            (
                "POST",
                "/reload",
                &[good, bearer],
                HERE,
                Some(SECRET),
                Ok(()),
                "the token",
            ),
            (
                "GET",
                "/metrics",
                &[("host", "portcullis:9403"), bearer],
                HERE,
                Some(SECRET),
                Ok(()),
                "whoever has the token is no rebound page",
            ),
        ] {
            let got = ask(method, path, fields, local, token);
            assert_eq!(got, want, "{method} {path} {fields:?}: {why}");
        }
    }

    #[test]
    fn the_socket_is_guarded_by_its_mode() {
        let request = Request::builder().method("POST").uri("/reload");
        let request = request.body(()).unwrap();
        let token = Token::new(SECRET);
        assert_eq!(admit(&request, Door::Socket, Some(&token)), Ok(()));
    }
}
