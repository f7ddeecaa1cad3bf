//! URLs of other services that are asked on our own account.

use std::net::IpAddr;
use std::sync::Arc;

use http::uri::PathAndQuery;

use super::{tls, upstream};
use crate::config::context::Context;
use crate::config::diagnostic::Diagnostic;
use crate::config::node::{Node, Span};
use crate::snapshot::{Endpoint, Remote};

/// Compiles the URL at `span`, and the file `ca` of the authorities that may vouch for it. Also answers a number that tells
/// the authorities of one file from those of another.
///
/// Clear text is for this machine only: whoever stands between could answer in the service's place.
pub(super) fn compile(
    written: &str,
    span: Span,
    ca: Option<&Node>,
    cx: &mut Context,
) -> Option<(Arc<Remote>, u64)> {
    let (origin, target) = split(written);
    let server = if target.is_none() || written.contains('#') {
        Err(("is no URL", FORM.to_owned()))
    } else {
        upstream::server(origin, None, span, cx)
    };
    let (server, target) = match (server, target) {
        (Ok(server), Some(target))
            if !matches!(server.address, Endpoint::Demo | Endpoint::Unix(_)) =>
        {
            (server, target)
        }
        (Ok(_), _) => {
            bad(written, span, "is no URL", FORM, cx);
            return None;
        }
        (Err((why, help)), _) => {
            bad(written, span, why, &help, cx);
            return None;
        }
    };
    if server.tls.is_none() {
        if !here(&server.address) {
            let shown = cx.written(span, written);
            let message =
                format!("`{shown}` is asked in clear text, so anybody on the way can answer");
            cx.say(
                Diagnostic::error("insecure-url", span, message)
                    .help("write `https`; `http` is for services on this machine"),
            );
            return None;
        }
        if let Some(ca) = ca {
            let message = "`ca` has no use here: the URL is not `https`";
            cx.say(Diagnostic::warning("unused-key", ca.span, message));
        }
        let remote = Remote {
            server,
            target,
            tls: None,
        };
        return Some((Arc::new(remote), 0));
    }
    let (tls, print) = tls::trusting(ca, span, cx)?;
    let remote = Remote {
        server,
        target,
        tls: Some(tls),
    };
    Some((Arc::new(remote), print))
}

/// Another resource of a service whose settings are known, by a URL that it told us. None where that is no URL; clear text only
/// where the service itself is asked in clear text.
pub(crate) fn beside(known: &Remote, url: &str) -> Option<Remote> {
    let (origin, target) = split(url);
    if !(origin.starts_with("https://") || origin.starts_with("http://")) {
        return None;
    }
    let server = upstream::server(origin, None, Span::default(), &Context::default()).ok()?;
    if server.tls.is_none() && (known.tls.is_some() || !here(&server.address)) {
        return None;
    }
    let tls = known.tls.clone().filter(|_| server.tls.is_some());
    if server.tls.is_some() && tls.is_none() {
        return None;
    }
    Some(Remote {
        server,
        target: target?,
        tls,
    })
}

fn bad(written: &str, span: Span, why: &str, help: &str, cx: &mut Context) {
    // A URL may carry a password: it is shown only where it surely has none.
    let shown = cx.written(span, written);
    let message = if shown.contains('@') {
        format!("this URL {why}")
    } else {
        format!("`{shown}` {why}")
    };
    cx.say(Diagnostic::error("bad-url", span, message).help(help));
}

/// Scheme and authority; path and query.
fn split(url: &str) -> (&str, Option<PathAndQuery>) {
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let rest = url.get(after_scheme..).unwrap_or_default();
    let end = rest
        .find(['/', '?'])
        .map_or(url.len(), |at| after_scheme + at);
    let (origin, target) = url.split_at_checked(end).unwrap_or((url, ""));
    let target = match target.strip_prefix('?') {
        Some(query) => format!("/?{query}"),
        None if target.is_empty() => "/".to_owned(),
        None => target.to_owned(),
    };
    (origin, PathAndQuery::try_from(target).ok())
}

/// Whether an address is of this machine.
fn here(address: &Endpoint) -> bool {
    match address {
        Endpoint::Address(address) => IpAddr::is_loopback(&address.ip().to_canonical()),
        Endpoint::Name(name, _) => name.eq_ignore_ascii_case("localhost"),
        Endpoint::Unix(_) | Endpoint::Demo => true,
    }
}

const FORM: &str = "write it as `https://host/path`";
