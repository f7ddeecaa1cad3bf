//! `oidc = { … }`: sign-in in the browser.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::{duration, remote};
use super::{SESSION, files, text, token};
use crate::config::context::Context;
use crate::config::diagnostic::Diagnostic;
use crate::config::node::{Node, Span, Table};
use crate::identity::oidc::Oidc;
use crate::identity::oidc::cookies::{Cookies, DEFAULT_NAME};
use crate::identity::oidc::seal::Keyring;
use crate::identity::source::Kind;
use crate::identity::{Authenticator, Source};
use crate::snapshot::SignIn;

/// Compiles an `oidc` source; `place` is where its name is written.
pub(super) fn compile(
    table: &Table,
    place: Span,
    name: &Arc<str>,
    cx: &mut Context,
) -> Option<Source> {
    let issuer = text(table, "issuer", cx);
    let client_id = text(table, "client_id", cx);
    let client_secret = text(table, "client_secret", cx);
    let sign_in = issuer.and_then(|issuer| provider(table, &issuer, name, cx));
    let scopes = scopes(table, cx);
    let cookie = match table.get("cookie") {
        Some(node) => token(node, "cookie", cx).filter(|name| is_short(name, node, cx)),
        None => Some(Box::from(DEFAULT_NAME)),
    };
    let callback = match table.get("callback") {
        Some(node) => path(node, "callback", cx),
        None => Some(Box::from(CALLBACK)),
    };
    let logout = match table.get("logout") {
        Some(node) => Some(path(node, "logout", cx)?),
        None => None,
    };
    if let (Some(logout), Some(callback)) = (&logout, &callback)
        && logout == callback
    {
        let span = table.get("logout").map_or(table.span, |node| node.span);
        let message = format!("`{logout}` cannot sign in and sign out");
        cx.say(
            Diagnostic::error("bad-sign-in-path", span, message)
                .help("`callback` and `logout` are paths of their own"),
        );
        return None;
    }
    let keyring = keyring(table, place, cx);
    let session = session(table, cx);
    let sign_in = sign_in?;
    let oidc = Oidc {
        issuer: Box::from(&*sign_in.issuer),
        client_id: client_id?,
        client_secret: client_secret?,
        scopes: scopes?,
        roles: table.str("roles").map(Box::from),
        cookies: Cookies::named(&cookie?),
        callback: callback?,
        logout,
        session: session?,
        keyring: keyring?,
        provider: Arc::clone(&sign_in.provider),
    };
    cx.providers.push(sign_in);
    Some(Source {
        name: Arc::clone(name),
        kind: Kind::Oidc(Arc::new(oidc)),
        places: Vec::new(),
        challenges: Some([SESSION, SESSION]),
    })
}

/// What is probably not meant on a site that signs in browsers.
pub(super) fn remarks(root: &Table, site: &Table, signs_in: &Authenticator, cx: &mut Context) {
    let sources: Vec<(&Arc<str>, &Arc<Oidc>)> = signs_in.browser_sources().collect();
    let Some((name, _)) = sources.first() else {
        return;
    };
    let span = site.get("identity").map_or(site.span, |node| node.span);
    if let Some(api) = site.entry("api").filter(|_| site.bool("api") == Some(true)) {
        let message = format!(
            "`{name}` signs in browsers, and a site with `api = true` sends none to sign in"
        );
        cx.say(
            Diagnostic::warning("sign-in-on-api-site", api.key_span, message)
                .help("take tokens there with `jwt`, or leave `api` out"),
        );
    }
    let encrypted = root
        .tables("listener")
        .any(|listener| listener.get("tls").is_some() || !is_open(listener));
    let proxied = root
        .table("client")
        .is_some_and(|client| client.many("trusted_proxies").next().is_some());
    if !encrypted && !proxied {
        let message =
            format!("nobody signs in with `{name}` over plain http, and no listener has `tls`");
        cx.say(
            Diagnostic::warning("sign-in-without-https", span, message).help(
                "give a listener `tls`, or name the load balancer that speaks https in `[client] trusted_proxies`",
            ),
        );
    }
    for route in site.tables("route") {
        let Some(path) = route.get("path") else {
            continue;
        };
        let taken = |(_, oidc): &(&Arc<str>, &Arc<Oidc>)| {
            path.as_str() == Some(&*oidc.callback) || path.as_str() == oidc.logout.as_deref()
        };
        if let Some((name, _)) = sources.iter().find(|source| taken(source)) {
            let message = format!("this route never owns a request: `{name}` answers its path");
            cx.say(
                Diagnostic::warning("hidden-by-sign-in", path.span, message)
                    .help("write another `callback` or `logout`"),
            );
        }
    }
}

/// Whether a listener is for more than this machine, where `http` is for development.
fn is_open(listener: &Table) -> bool {
    let address = listener.str("address").and_then(|text| text.parse().ok());
    address.is_none_or(|address: SocketAddr| !address.ip().to_canonical().is_loopback())
}

/// The provider, with what was learned of it before. Its metadata is where Discovery §4 says.
fn provider(table: &Table, issuer: &str, name: &Arc<str>, cx: &mut Context) -> Option<SignIn> {
    let span = table.get("issuer").map_or(table.span, |node| node.span);
    if issuer.contains(['?', '#']) {
        let message = "an `issuer` has neither query nor fragment";
        cx.say(
            Diagnostic::error("bad-url", span, message)
                .help("write it letter by letter as the provider's metadata has it"),
        );
        return None;
    }
    let url = format!("{}{WELL_KNOWN}", issuer.strip_suffix('/').unwrap_or(issuer));
    let (metadata, print) = remote::compile(&url, span, table.get("ca"), cx)?;
    let known = cx.memory.providers.entry((issuer.to_owned(), print));
    let known = known.or_default();
    Some(SignIn {
        source: Arc::clone(name),
        issuer: Arc::from(issuer),
        provider: Arc::clone(&known.provider),
        token: Arc::clone(&known.token),
        metadata,
    })
}

fn scopes(table: &Table, cx: &mut Context) -> Option<Box<str>> {
    let mut scopes = vec!["openid"];
    let Some(node) = table.get("scopes") else {
        return Some(Box::from(SCOPES));
    };
    for node in node.many() {
        let scope = node.as_str()?;
        // RFC 6749 §3.3.
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        if scope.is_empty() || !scope.bytes().all(plain) {
            cx.error(
                "bad-name",
                node.span,
                format!("`{scope}` is no name of a scope"),
            );
            return None;
        }
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    Some(scopes.join(" ").into())
}

fn is_short(name: &str, node: &Node, cx: &mut Context) -> bool {
    let short = name.len() <= NAME_BYTES_MAX;
    if !short {
        let message = format!("a cookie's name has at most {NAME_BYTES_MAX} letters");
        cx.error("bad-name", node.span, message);
    }
    short
}

/// A path of our own: letter by letter what a browser asks for, so nothing that could be written in two ways.
fn path(node: &Node, key: &str, cx: &mut Context) -> Option<Box<str>> {
    let written = node.as_str()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let good = written.len() > 1
        && written.starts_with('/')
        && written.bytes().all(plain)
        && written
            .split('/')
            .skip(1)
            .all(|segment| !matches!(segment, "" | "." | ".."));
    if !good {
        let message = format!("`{written}` cannot be the `{key}`");
        cx.say(
            Diagnostic::error("bad-sign-in-path", node.span, message)
                .help("write one path with letters, digits, `-`, `.`, `_` and `~`, such as `/sign-in/callback`"),
        );
        return None;
    }
    Some(Box::from(written))
}

fn keyring(table: &Table, place: Span, cx: &mut Context) -> Option<Arc<Keyring>> {
    let Some(node) = table.get("session_key") else {
        if cx.memory.sealing.is_none() {
            cx.memory.sealing = Keyring::random().map(Arc::new);
        }
        if cx.memory.sealing.is_none() {
            cx.error(
                "bad-session-key",
                table.span,
                "this machine has no randomness for a session key",
            );
        }
        // Not where the settings are: the line that a message shows may hold the client's secret.
        let message = "sessions end with this process, and no other instance knows them: there is no `session_key`";
        cx.say(
            Diagnostic::note("no-session-key", place, message)
                .help("make one with `openssl rand -base64 32 > session.key`, and let only the proxy's user read it"),
        );
        return cx.memory.sealing.clone();
    };
    let written = node.as_str()?;
    let content = files::read_text(cx, node.span, written, "the session keys")?;
    match Keyring::parse(&content) {
        Ok(keyring) => Some(Arc::new(keyring)),
        Err(mistake) => {
            let message = format!("`{written}`: {mistake}");
            cx.say(
                Diagnostic::error("bad-session-key", node.span, message).help(
                    "one key a line, the newest first, each made with `openssl rand -base64 32`",
                ),
            );
            None
        }
    }
}

fn session(table: &Table, cx: &mut Context) -> Option<i64> {
    let lasts = match table.get("session") {
        Some(_) => duration(table, "session")?,
        None => SESSION_DEFAULT,
    };
    let span = table.get("session").map_or(table.span, |node| node.span);
    if lasts < SESSION_MIN || lasts > SESSION_MAX {
        let message = "a `session` lasts at least a minute and at most 400 days";
        cx.error("out-of-range", span, message);
        return None;
    }
    i64::try_from(lasts.as_secs()).ok()
}

const WELL_KNOWN: &str = "/.well-known/openid-configuration";
const SCOPES: &str = "openid profile email";
const CALLBACK: &str = "/.portcullis/callback";
/// So that a cookie with it stays under 4096 bytes.
const NAME_BYTES_MAX: usize = 64;
const SESSION_DEFAULT: Duration = Duration::from_secs(8 * 60 * 60);
const SESSION_MIN: Duration = Duration::from_secs(60);
/// Browsers keep no cookie longer.
const SESSION_MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);
