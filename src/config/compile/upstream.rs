//! `[upstream.NAME]`: servers by URL, and how they are spoken to.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::ServerName;

use super::{condition, duration, number, tls};
use crate::config::node::{Entry, Node, Span, Table};
use crate::config::{Context, Diagnostic, defaults};
use crate::snapshot::{
    Balance, Codec, Eject, Endpoint, HashBy, Health, ProxyVersion, Upstream, UpstreamServer,
};

/// Compiles every upstream, in the order written.
pub(super) fn compile(root: &Table, cx: &mut Context) -> Vec<Arc<Upstream>> {
    let entries = root.table("upstream").map(|table| table.entries.as_slice());
    let entries = entries.unwrap_or_default();
    entries.iter().filter_map(|entry| one(entry, cx)).collect()
}

fn one(entry: &Entry, cx: &mut Context) -> Option<Arc<Upstream>> {
    let table = entry.node.as_table()?;
    let servers = servers(table, cx);
    let secure = servers.iter().any(|server| server.tls.is_some());
    let settings = table.entry("tls");
    if let Some(settings) = settings.filter(|_| !secure && !servers.is_empty()) {
        let message = "`tls` has no use here: no server of this upstream is `https`";
        cx.say(Diagnostic::warning(
            "unused-key",
            settings.key_span,
            message,
        ));
    }
    let tls = if secure {
        let compiled = tls::client(table.table("tls"), cx);
        if compiled.is_none() && !cx.report.refused() {
            cx.error("bad-tls", table.span, "these TLS settings cannot be used");
        }
        compiled
    } else {
        None
    };
    let codec = match table.str("protocol") {
        Some("h2" | "h2c") => Codec::Http2,
        Some("auto") if secure => Codec::Auto,
        Some(_) | None => Codec::default(),
    };
    let tls = match (codec, tls) {
        (Codec::Http2, Some(tls)) => Some(Arc::new(tls.for_http2())),
        (Codec::Auto, Some(tls)) => Some(Arc::new(tls.for_either())),
        (_, tls) => tls,
    };
    spoken(table, &servers, cx);
    let max_connections = table.entry("max_connections");
    if let Some(queue) = table.entry("queue")
        && max_connections.is_none()
    {
        let message = "`queue` has no use without `max_connections`: nobody ever waits";
        cx.say(Diagnostic::warning("unused-key", queue.key_span, message));
    }
    let only = matches!(&servers[..], [only] if !matches!(only.address, Endpoint::Name(..)));
    if let Some(eject) = table.entry("eject").filter(|_| only) {
        let message = "`eject` has no use here: the only server is never left out";
        cx.say(Diagnostic::warning("unused-key", eject.key_span, message));
    }
    let max_connections = number(table, "max_connections");
    Some(Arc::new(Upstream {
        name: Arc::from(entry.key.as_str()),
        servers,
        connect_timeout: duration(table, "connect_timeout").unwrap_or(defaults::CONNECT_TIMEOUT),
        response_timeout: duration(table, "response_timeout").unwrap_or(defaults::RESPONSE_TIMEOUT),
        idle_connections: number(table, "idle_connections").unwrap_or(defaults::IDLE_CONNECTIONS),
        retries: number(table, "retries").unwrap_or(defaults::RETRIES),
        tls,
        codec,
        balance: balance(table, cx),
        eject: table.table("eject").map(|eject| Eject {
            failures: number(eject, "failures").unwrap_or(defaults::EJECT_FAILURES),
            period: duration(eject, "for").unwrap_or(defaults::EJECT_FOR),
        }),
        slow_start: duration(table, "slow_start"),
        max_connections,
        queue: number(table, "queue").or(max_connections).unwrap_or(0),
        health: table.table("health").and_then(|table| health(table, cx)),
        proxy_protocol: table.str("proxy_protocol").map(|version| match version {
            "v1" => ProxyVersion::V1,
            _ => ProxyVersion::V2,
        }),
    }))
}

/// `h2` is spoken to `https` servers only, `h2c` to the others only; there is nothing to choose without TLS.
fn spoken(table: &Table, servers: &[UpstreamServer], cx: &mut Context) {
    let Some(protocol) = table.get("protocol") else {
        return;
    };
    let (secure, help) = match protocol.as_str() {
        Some("h2") => (true, "write `https://` for every server, or `h2c`"),
        Some("h2c") => (false, "write `h2` for `https` servers"),
        Some("auto") => {
            if !servers.is_empty() && servers.iter().all(|server| server.tls.is_none()) {
                let message = "`auto` chooses nothing here: no server of this upstream is `https`";
                let finding = Diagnostic::warning("unused-key", protocol.span, message);
                cx.say(finding.help("write `h2c` for servers that speak HTTP/2 in clear text"));
            }
            return;
        }
        Some(_) | None => return,
    };
    if servers.iter().any(|server| server.tls.is_some() != secure) {
        let message = if secure {
            "`h2` is spoken over TLS, and a server of this upstream is not `https`"
        } else {
            "`h2c` is spoken in clear text, and a server of this upstream is `https`"
        };
        let finding = Diagnostic::error("invalid-value", protocol.span, message);
        cx.say(finding.help(help));
    }
}

fn balance(table: &Table, cx: &mut Context) -> Balance {
    let Some(written) = table.get("balance") else {
        return Balance::RoundRobin;
    };
    let Some(inner) = written.as_table() else {
        return match written.as_str() {
            Some("least_connections") => Balance::LeastConnections,
            _ => Balance::RoundRobin,
        };
    };
    match (inner.get("hash"), inner.get("cookie")) {
        (Some(by), None) => hash(by, cx).map_or(Balance::RoundRobin, Balance::Hash),
        (None, Some(cookie)) => {
            cookie_name(cookie, cookie.as_str(), cx).map_or(Balance::RoundRobin, Balance::Cookie)
        }
        (None, None) | (Some(_), Some(_)) => {
            let message = "`balance` takes `hash` or `cookie`, and one of them";
            cx.error("invalid-value", written.span, message);
            Balance::RoundRobin
        }
    }
}

fn hash(by: &Node, cx: &mut Context) -> Option<HashBy> {
    let text = by.as_str()?;
    if text == "client" {
        return Some(HashBy::Client);
    }
    if let Some(name) = text.strip_prefix("cookie.") {
        return cookie_name(by, Some(name), cx).map(HashBy::Cookie);
    }
    let name = text.strip_prefix("header.");
    let name = name.and_then(|name| http::HeaderName::try_from(name).ok());
    if name.is_none() {
        let shown = cx.written(by.span, text);
        let message = format!("`{shown}` is nothing that requests can be spread by");
        let finding = Diagnostic::error("invalid-value", by.span, message);
        cx.say(finding.help("write `client`, `header.NAME` or `cookie.NAME`"));
    }
    let name = name?;
    let alike = condition::alike(&name);
    if condition::is_forbidden(&alike) && alike != "host" {
        let message = format!("requests cannot be spread by header `{name}`");
        let finding = Diagnostic::error("header-forbidden", by.span, message);
        cx.say(finding.help("it is removed from requests, or written by us"));
        return None;
    }
    Some(HashBy::Header(name))
}

/// A cookie's name is a token (RFC 6265 §4.1.1).
fn cookie_name(node: &Node, name: Option<&str>, cx: &mut Context) -> Option<Arc<str>> {
    let name = name?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.is_empty() && name.bytes().all(token) {
        return Some(Arc::from(name));
    }
    let shown = cx.written(node.span, name);
    let message = format!("`{shown}` is no name of a cookie");
    cx.error("invalid-value", node.span, message);
    None
}

fn health(table: &Table, cx: &mut Context) -> Option<Health> {
    let path = table.get("path")?;
    let text = path.as_str()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !text.starts_with('/') || text.contains('#') || !plain {
        let shown = cx.written(path.span, text);
        let message = format!("`{shown}` is no path that can be asked for");
        let finding = Diagnostic::error("invalid-value", path.span, message);
        cx.say(finding.help("begin with `/`; no spaces, no `#`"));
        return None;
    }
    let interval = duration(table, "interval").unwrap_or(defaults::HEALTH_INTERVAL);
    let timeout = duration(table, "timeout").unwrap_or(defaults::HEALTH_TIMEOUT.min(interval));
    if let Some(written) = table.get("timeout").filter(|_| timeout > interval) {
        let message = "an answer would be waited for longer than the next question";
        let finding = Diagnostic::error("invalid-value", written.span, message);
        cx.say(finding.help("write a `timeout` that is not longer than `interval`"));
    }
    Some(Health {
        path: Arc::from(text),
        interval,
        timeout,
        rise: number(table, "rise").unwrap_or(defaults::HEALTH_RISE),
        fall: number(table, "fall").unwrap_or(defaults::HEALTH_FALL),
    })
}

fn servers(table: &Table, cx: &mut Context) -> Vec<UpstreamServer> {
    let name = table.table("tls").and_then(|tls| tls.get("server_name"));
    let name = name.and_then(|node| server_name(node.as_str()?, node.span, cx));
    let nodes = table.get("servers").and_then(Node::as_list);
    if nodes.is_some_and(<[Node]>::is_empty)
        && let Some(node) = table.get("servers")
    {
        cx.error(
            "no-server",
            node.span,
            "an upstream needs at least one server",
        );
    }
    let mut servers: Vec<UpstreamServer> = Vec::new();
    for node in nodes.unwrap_or_default() {
        let url = match node.as_table() {
            Some(inner) => inner.get("url"),
            None => Some(node),
        };
        let Some(url) = url else { continue };
        let Some(text) = url.as_str() else { continue };
        match server(text, name.as_ref(), url.span, cx) {
            Ok(mut server) => {
                if let Some(inner) = node.as_table() {
                    server.weight = number(inner, "weight").unwrap_or(server.weight);
                    server.backup = inner.bool("backup").unwrap_or(false);
                }
                if servers.iter().any(|other| other.url == server.url) {
                    let message = format!("`{text}` is in this upstream already");
                    cx.say(Diagnostic::warning("duplicate-server", url.span, message));
                }
                servers.push(server);
            }
            Err((why, help)) => {
                // A URL may carry a password: it is shown only where it surely has none.
                let shown = cx.written(url.span, text);
                let message = if shown.contains('@') {
                    format!("this URL {why}")
                } else {
                    format!("`{shown}` {why}")
                };
                let finding = Diagnostic::error("bad-url", url.span, message);
                cx.say(finding.help(help));
            }
        }
    }
    if !servers.is_empty()
        && servers.iter().all(|server| server.backup)
        && let Some(node) = table.get("servers")
    {
        let message = "every server of this upstream is a backup";
        let finding = Diagnostic::error("no-server", node.span, message);
        cx.say(finding.help("leave `backup` out where a server is to be used at all times"));
    }
    servers
}

/// What is wrong with a URL, and what to write instead.
pub(super) type BadUrl = (&'static str, String);

pub(super) fn server(
    text: &str,
    name: Option<&ServerName<'static>>,
    span: Span,
    cx: &Context,
) -> Result<UpstreamServer, BadUrl> {
    if text == DEMO {
        return Ok(UpstreamServer {
            url: Arc::from(text),
            address: Endpoint::Demo,
            tls: None,
            authority: Arc::from("demo"),
            weight: 1,
            backup: false,
        });
    }
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(("names no socket", FORMS.to_owned()));
        }
        let path: PathBuf = cx.path(span, path);
        return Ok(UpstreamServer {
            url: Arc::from(text),
            address: Endpoint::Unix(path),
            tls: None,
            authority: Arc::from("localhost"),
            weight: 1,
            backup: false,
        });
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(("has no scheme", format!("write `http://{text}`")));
    };
    let secure = match scheme {
        "http" => false,
        "https" => true,
        _ => return Err(("has a scheme that is not spoken here", FORMS.to_owned())),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        let help = "write the scheme, the host and the port only: the client's path goes upstream as it is";
        return Err(("has a path", help.to_owned()));
    }
    if authority.contains('@') {
        return Err((
            "has a user name",
            "write the scheme, the host and the port only".to_owned(),
        ));
    }
    let (host, port) = split_port(authority, if secure { 443 } else { 80 }).ok_or_else(|| {
        (
            "has no good port",
            "a port is a number from 1 to 65535".to_owned(),
        )
    })?;
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let literal: Option<IpAddr> = match bracketed {
        Some(host) => host.parse().ok(),
        None => host.parse().ok().filter(IpAddr::is_ipv4),
    };
    if literal.is_none() && (bracketed.is_some() || !is_name(host)) {
        return Err(("has no good host", FORMS.to_owned()));
    }
    let tls = if secure {
        let own = || ServerName::try_from(bracketed.unwrap_or(host).to_owned()).ok();
        let name = name.cloned().or_else(own);
        Some(name.ok_or_else(|| ("has a host that no certificate can name", FORMS.to_owned()))?)
    } else {
        None
    };
    let address = match literal {
        Some(address) => Endpoint::Address(SocketAddr::new(address, port)),
        None => Endpoint::Name(Arc::from(host), port),
    };
    Ok(UpstreamServer {
        url: Arc::from(text),
        address,
        tls,
        authority: Arc::from(authority),
        weight: 1,
        backup: false,
    })
}

fn server_name(text: &str, span: Span, cx: &mut Context) -> Option<ServerName<'static>> {
    let name = ServerName::try_from(text.to_owned()).ok();
    if name.is_none() {
        let shown = cx.written(span, text);
        let message = format!("`{shown}` is no name that a certificate can have");
        cx.error("invalid-value", span, message);
    }
    name
}

fn split_port(authority: &str, otherwise: u16) -> Option<(&str, u16)> {
    let after_host = authority.rfind(']').unwrap_or(0);
    match authority.rfind(':').filter(|colon| *colon >= after_host) {
        None => Some((authority, otherwise)),
        Some(colon) => {
            let (host, port) = authority.split_at_checked(colon)?;
            let port = port.strip_prefix(':')?;
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|port| digits && *port > 0)?;
            Some((host, port))
        }
    }
}

/// Whether a host can be asked of a resolver: labels of letters, digits, `-` and `_`.
fn is_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    // A name of digits and dots only is an IPv4 address gone wrong.
    let numeric = host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    host.len() <= 253 && !numeric && host.split('.').all(label)
}

/// The demo application inside this process.
const DEMO: &str = "demo:";

const FORMS: &str = "write `http://host:port`, `https://host:port` or `unix:/path`";

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]
    use super::*;

    #[test]
    fn urls_of_servers() {
        for (url, want) in [
            ("", Err("has no scheme")),
            ("127.0.0.1:3000", Err("has no scheme")),
            ("ftp://app", Err("has a scheme that is not spoken here")),
            ("http://", Err("has no good host")),
            ("http://app/base", Err("has a path")),
            ("http://app?x", Err("has a path")),
            ("http://me:secret@app", Err("has a user name")),
            ("http://app:0", Err("has no good port")),
            ("http://app:+80", Err("has no good port")),
            ("http://app:65536", Err("has no good port")),
            ("http://app:", Err("has no good port")),
            ("http://::1", Err("has no good host")), // brackets are missing
            ("http://[app]", Err("has no good host")),
            ("http://1.2.3", Err("has no good host")), // an address gone wrong, never a name
            ("http://a b", Err("has no good host")),
            ("unix:", Err("names no socket")),
            ("http://127.0.0.1:3000", Ok("Address(127.0.0.1:3000)")),
            ("http://127.0.0.1:3000/", Ok("Address(127.0.0.1:3000)")), // a bare slash says nothing
            ("http://[::1]", Ok("Address([::1]:80)")),
            ("https://[::1]:8443", Ok("Address([::1]:8443)")),
            (
                "https://app.example.com",
                Ok("Name(\"app.example.com\", 443)"),
            ),
            ("http://my_app:8080", Ok("Name(\"my_app\", 8080)")), // Docker Compose makes such names
            ("unix:/run/app.sock", Ok("Unix(\"/run/app.sock\")")),
            ("unix:///run/app.sock", Ok("Unix(\"/run/app.sock\")")),
            ("demo:", Ok("Demo")),
        ] {
            let got = server(url, None, Span::default(), &Context::default());
            let got = got.map(|server| format!("{:?}", server.address));
            let got = got.as_deref().map_err(|(why, _)| *why);
            assert_eq!(got, want, "{url}");
        }
    }
}
