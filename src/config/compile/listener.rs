//! `[[listener]]`.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;

use super::{duration, tls};
use crate::config::node::{Node, Span, Table};
use crate::config::{Context, Diagnostic};
use crate::snapshot::Listener;

/// Compiles every listener.
pub(super) fn compile(root: &Table, cx: &mut Context) -> Vec<Arc<Listener>> {
    let mut listeners = Vec::new();
    let mut taken: Vec<(SocketAddr, Span)> = Vec::new();
    for table in root.tables("listener") {
        let redirect_https = table
            .entry("redirect_https")
            .filter(|entry| entry.node.as_bool() == Some(true));
        let tls = match (table.table("tls"), redirect_https) {
            (None, _) => None,
            (Some(_), Some(entry)) => {
                let message = "a listener with `tls` cannot redirect to https: that is itself";
                cx.error("redirect-loop", entry.key_span, message);
                None
            }
            (Some(settings), None) => secured(settings, root, cx),
        };
        let introduced = table
            .get("proxy_protocol")
            .filter(|node| node.as_str() == Some("required"));
        if let Some(node) = introduced
            && nobody_trusted(root)
        {
            let message = "no proxy is trusted, so this listener refuses every connection";
            let finding = Diagnostic::warning("nobody-trusted", node.span, message);
            cx.say(finding.help("name the balancers in `[client] trusted_proxies`"));
        }
        let h2c = table
            .entry("h2c")
            .filter(|entry| entry.node.as_bool() == Some(true));
        if let (Some(entry), Some(_)) = (h2c, table.table("tls")) {
            let message = "`h2c` is HTTP/2 without TLS, and this listener has `tls`";
            let finding = Diagnostic::error("h2c-with-tls", entry.key_span, message);
            cx.say(finding.help("remove `h2c`: over TLS clients choose HTTP/2 by themselves"));
        }
        let Some(node) = table.get("address") else {
            continue;
        };
        let Some(address) = address(node, cx) else {
            continue;
        };
        let canonical = SocketAddr::new(address.ip().to_canonical(), address.port());
        match taken.iter().find(|(other, _)| *other == canonical) {
            Some((_, first)) if address.port() != 0 => {
                let message = format!("another listener has the address `{address}`");
                let finding = Diagnostic::error("duplicate-listener", node.span, message);
                cx.say(finding.related(*first, "first written here"));
            }
            Some(_) | None => taken.push((canonical, node.span)),
        }
        listeners.push(Arc::new(Listener {
            address,
            // Where `tls` is written and gives nothing, that is an error, so no such listener ever speaks clear text.
            hsts: table
                .table("tls")
                .and_then(|tls| tls.table("hsts"))
                .and_then(|hsts| strict_transport(hsts, cx)),
            tls,
            redirect_https: redirect_https.is_some(),
            reuseport: table.bool("reuseport").unwrap_or(false),
            proxy_protocol: introduced.is_some(),
            h2c: h2c.is_some(),
        }));
    }
    if root.tables("listener").next().is_none() {
        let finding = Diagnostic::global("no-listener", "there is no `[[listener]]`");
        cx.say(finding.help("write `[[listener]]` and `address = \"0.0.0.0:8080\"`"));
    }
    listeners
}

/// TLS settings, or a finding: never nothing without a word.
fn secured(
    table: &Table,
    root: &Table,
    cx: &mut Context,
) -> Option<Arc<crate::snapshot::tls::ServerTls>> {
    let compiled = tls::server(table, root, cx);
    if compiled.is_none() && !cx.report.refused() {
        cx.error("bad-tls", table.span, "these TLS settings cannot be used");
    }
    compiled
}

/// The value of `Strict-Transport-Security`.
fn strict_transport(table: &Table, cx: &mut Context) -> Option<HeaderValue> {
    let seconds = duration(table, "max_age")?.as_secs();
    let set = |key| table.bool(key).unwrap_or(false);
    let mut text = format!("max-age={seconds}");
    if set("subdomains") {
        text.push_str("; includeSubDomains");
    }
    if set("preload") {
        text.push_str("; preload");
        if !set("subdomains") || seconds < PRELOAD_SECONDS_MIN {
            let span = table.get("preload").map_or(table.span, |node| node.span);
            let message =
                "browsers take this into their lists only with subdomains and for a year at least";
            let finding = Diagnostic::warning("hsts-not-preloaded", span, message);
            cx.say(
                finding.help(
                    "write `max_age = \"365d\"` and `subdomains = true`, or remove `preload`",
                ),
            );
        }
    }
    HeaderValue::from_str(&text).ok()
}

/// Whether `[client] trusted_proxies` is empty or absent.
fn nobody_trusted(root: &Table) -> bool {
    root.table("client")
        .is_none_or(|client| client.many("trusted_proxies").next().is_none())
}

/// An address with its port, or a finding.
pub(super) fn address(node: &Node, cx: &mut Context) -> Option<SocketAddr> {
    let text = node.as_str()?;
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let help = if let Some(port) = text.strip_prefix(':').or_else(|| text.strip_prefix("*:"))
        && port.parse::<u16>().is_ok()
    {
        format!("write `0.0.0.0:{port}`, or `[::]:{port}` for IPv6 as well")
    } else if text.parse::<u16>().is_ok() {
        format!("write `0.0.0.0:{text}`, or `127.0.0.1:{text}` for this machine only")
    } else if let Some(port) = text.strip_prefix("localhost:") {
        format!("write `127.0.0.1:{port}` or `[::1]:{port}`")
    } else if let Ok(address) = text.parse::<std::net::IpAddr>() {
        format!(
            "write the port as well: `{}`",
            SocketAddr::new(address, 8080)
        )
    } else {
        "write an address and a port, such as `0.0.0.0:443` or `[::]:443`".to_owned()
    };
    let shown = cx.written(node.span, text);
    let message = format!("`{shown}` is no address to listen on");
    cx.say(Diagnostic::error("bad-address", node.span, message).help(help));
    None
}

/// What the list that browsers share wants (hstspreload.org): a year.
const PRELOAD_SECONDS_MIN: u64 = 365 * 24 * 60 * 60;
