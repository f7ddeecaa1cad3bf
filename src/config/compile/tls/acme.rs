//! `acme` of a listener → an authority, an account, and the names that want certificates.
//!
//! No file of certificates is read here: whether there are some already is the business of the process that serves, and `check`
//! needs no right to see keys.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::config::compile::remote;
use crate::config::context::Context;
use crate::config::defaults;
use crate::config::diagnostic::Diagnostic;
use crate::config::node::{Node, Span, Table};
use crate::snapshot::acme::{Challenge, ExternalAccount, Issuance, Settings, Slot};
use crate::snapshot::tls::{Certificate, Issued};
use crate::value::host::Authority;

/// Compiles the table, for the hosts of all sites that no certificate in `written` covers.
pub(super) fn compile(
    table: &Table,
    root: &Table,
    written: &[Certificate],
    cx: &mut Context,
) -> Option<Issued> {
    let names = names(table, root, written, cx);
    let settings = settings(table, root, cx);
    let (names, settings) = (names?, Arc::new(settings?));
    let known = cx.issuances.iter_mut();
    let mut known = known.filter(|issuance| issuance.settings.same(&settings));
    // Another listener asks for the same: one account, one order for each name.
    let settings = known
        .next()
        .map_or(settings, |issuance| Arc::clone(&issuance.settings));
    let slots: Vec<Arc<Slot>> = names
        .iter()
        .map(|name| cx.memory.acme.slot(&settings, name))
        .collect();
    let challenges = Arc::clone(&cx.memory.acme.challenges);
    let held = cx
        .issuances
        .iter_mut()
        .find(|issuance| Arc::ptr_eq(&issuance.settings, &settings));
    match held {
        Some(issuance) => {
            for slot in &slots {
                if !issuance.names.iter().any(|held| Arc::ptr_eq(held, slot)) {
                    issuance.names.push(Arc::clone(slot));
                }
            }
        }
        None => cx.issuances.push(Issuance {
            settings,
            names: slots.clone(),
        }),
    }
    Some(Issued {
        slots,
        challenges: Some(challenges),
    })
}

/// The names that want a certificate of their own; at least one.
fn names(
    table: &Table,
    root: &Table,
    written: &[Certificate],
    cx: &mut Context,
) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut good = true;
    let mut hosts = 0_usize;
    for node in root.tables("site").flat_map(|site| site.many("host")) {
        hosts += 1;
        let Some(text) = node.as_str() else { continue };
        let folded = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if covered(&folded, written) || names.contains(&folded) {
            continue;
        }
        match obstacle(&folded) {
            None => names.push(folded),
            Some(obstacle) => {
                good = false;
                obstacle.tell(text, node, table.span, cx);
            }
        }
    }
    if !good {
        return None;
    }
    if names.is_empty() && hosts > 0 {
        let message = "`acme` has no use here: `certificates` cover the host of every site";
        cx.say(Diagnostic::warning("unused-key", table.span, message));
    }
    Some(names)
}

/// Why no certificate can be had for a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    Wildcard,
    Address,
    /// The rules report it.
    NoHost,
}

fn obstacle(host: &str) -> Option<Obstacle> {
    if host.contains('*') {
        return Some(Obstacle::Wildcard);
    }
    if host.starts_with('[') || host.parse::<IpAddr>().is_ok() {
        return Some(Obstacle::Address);
    }
    match Authority::read(host) {
        Ok(read) if read.port.is_none() && *read.host == *host => None,
        Ok(_) | Err(_) => Some(Obstacle::NoHost),
    }
}

impl Obstacle {
    fn tell(self, text: &str, node: &Node, acme: Span, cx: &mut Context) {
        let (message, help) = match self {
            Self::Wildcard => (
                format!(
                    "`acme` gets no certificate for `{text}`: neither challenge proves a wildcard"
                ),
                "name the hosts, or write a certificate for it in `certificates` beside `acme`",
            ),
            Self::Address => (
                format!("`acme` gets no certificate for the address `{text}`"),
                "name a host, or write a certificate for it in `certificates` beside `acme`",
            ),
            Self::NoHost => return,
        };
        let finding = Diagnostic::error("acme-name", node.span, message);
        cx.say(
            finding
                .related(acme, "certificates are asked for here")
                .help(help),
        );
    }
}

/// Whether a certificate that was written answers to the host. `*` is served the first of them.
fn covered(host: &str, written: &[Certificate]) -> bool {
    if host == "*" {
        return !written.is_empty();
    }
    written.iter().any(|certificate| {
        let names = certificate.names().iter();
        let mut same = names.filter(|name| ***name == *host);
        same.next().is_some()
            || (certificate.is_named() && !host.contains('*') && certificate.covers(host))
    })
}

fn settings(table: &Table, root: &Table, cx: &mut Context) -> Option<Settings> {
    let email = table.get("email")?;
    let address = email.as_str()?;
    let mut good = true;
    if !is_address(address) {
        let message = format!("`{}` is no e-mail address", cx.written(email.span, address));
        cx.error("invalid-value", email.span, message);
        good = false;
    }
    let challenge = match table.str("challenge") {
        Some("http-01") => Challenge::Http01,
        Some(_) | None => Challenge::TlsAlpn01,
    };
    if let (Challenge::Http01, Some(node)) = (challenge, table.get("challenge"))
        && root
            .tables("listener")
            .all(|listener| listener.table("tls").is_some())
    {
        let message = "`http-01` is asked in clear text on port 80, and every listener has `tls`";
        cx.say(
            Diagnostic::error("no-http-listener", node.span, message).help(
                "add a `[[listener]]` with `address = \"0.0.0.0:80\"` and `redirect_https = true`",
            ),
        );
        good = false;
    }
    let external_account = match table.table("external_account") {
        None => None,
        Some(account) => match external(account, cx) {
            Some(account) => Some(account),
            None => {
                good = false;
                None
            }
        },
    };
    let (url, span) = match table
        .get("directory")
        .map(|node| (node.as_str(), node.span))
    {
        None | Some((Some("letsencrypt"), _)) => (defaults::LETSENCRYPT, table.span),
        Some((Some("letsencrypt-staging"), _)) => (defaults::LETSENCRYPT_STAGING, table.span),
        Some((Some(url), span)) => (url, span),
        Some((None, _)) => return None,
    };
    let (directory, trust) = remote::compile(url, span, table.get("ca"), cx)?;
    if directory.tls.is_none() {
        // RFC 8555 §6.1.
        let message = "an ACME directory is asked over `https` only";
        cx.error("insecure-url", span, message);
        return None;
    }
    let storage = table
        .get("storage")
        .and_then(|node| Some(cx.path(node.span, node.as_str()?)));
    good.then(|| Settings {
        url: Arc::from(url),
        directory,
        trust,
        email: Arc::from(address),
        challenge,
        storage: storage.unwrap_or_else(defaults::acme_storage),
        external_account,
    })
}

fn external(table: &Table, cx: &mut Context) -> Option<ExternalAccount> {
    let (id, node) = (table.str("id")?, table.get("mac_key")?);
    let text = node.as_str()?.trim_end_matches('=');
    match BASE64_URL_SAFE_NO_PAD.decode(text) {
        Ok(key) if !key.is_empty() => Some(ExternalAccount {
            id: Arc::from(id),
            key: Arc::from(key),
        }),
        // The key itself is not repeated.
        Ok(_) | Err(_) => {
            let message =
                "`mac_key` of an external account is base64url, as the authority shows it";
            cx.error("invalid-value", node.span, message);
            None
        }
    }
}

/// A contact that an authority will take: anything around one `@`, without what a URL would read otherwise (RFC 8555 §7.3).
fn is_address(text: &str) -> bool {
    let plain = |part: &str| {
        let odd = |c: char| c.is_whitespace() || c.is_control() || ",?#@%".contains(c);
        !part.is_empty() && !part.contains(odd)
    };
    text.split_once('@')
        .is_some_and(|(user, host)| plain(user) && plain(host))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]
    use super::*;
    use crate::config::node::{self, FileId};

    fn compiled(acme: &str, more: &str) -> (Option<Issued>, Context) {
        let text = format!("acme = {{ {acme} }}\n{more}");
        let (root, mistakes) = node::parse(&text, FileId(0));
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let mut cx = Context::default();
        let issued = compile(root.table("acme").unwrap(), &root, &[], &mut cx);
        (issued, cx)
    }

    const SITES: &str = "[[listener]]\naddress = \"0.0.0.0:80\"\n\
        [[site]]\nhost = [\"Example.com.\", \"www.example.com\"]\n[[site]]\nhost = \"shop.example.com\"\n";

    #[test]
    fn what_cannot_be_issued_is_said() {
        let account = "email = \"a@example.com\"";
        let tls =
            "[[listener]]\naddress = \"0.0.0.0:443\"\ntls = {}\n[[site]]\nhost = \"example.com\"\n";
        for (acme, more, code, why) in [
            (
                account,
                "[[site]]\nhost = \"*.example.com\"\n",
                "acme-name",
                "a wildcard",
            ),
            (account, "[[site]]\nhost = \"*\"\n", "acme-name", "any host"),
            (
                account,
                "[[site]]\nhost = \"192.0.2.1\"\n",
                "acme-name",
                "an address",
            ),
            (
                account,
                "[[site]]\nhost = \"[::1]\"\n",
                "acme-name",
                "an IPv6 address",
            ),
            ("email = \"nobody\"", SITES, "invalid-value", "no address"),
            ("email = \"a@b@c\"", SITES, "invalid-value", "two signs"),
            (
                "email = \"a@b, c\"",
                SITES,
                "invalid-value",
                "two addresses",
            ),
            (
                "email = \"a@b.c\", challenge = \"http-01\"",
                tls,
                "no-http-listener",
                "nobody listens for that challenge",
            ),
            (
                "email = \"a@b.c\", directory = \"http://127.0.0.1/dir\"",
                SITES,
                "insecure-url",
                "clear text, even on this machine",
            ),
            (
                "email = \"a@b.c\", directory = \"http://ca.example/dir\"",
                SITES,
                "insecure-url",
                "clear text",
            ),
            (
                "email = \"a@b.c\", external_account = { id = \"1\", mac_key = \"!\" }",
                SITES,
                "invalid-value",
                "no base64url",
            ),
        ] {
            let (issued, cx) = compiled(acme, more);
            assert!(issued.is_none(), "{why}");
            let codes: Vec<_> = cx.report.diagnostics.iter().map(|d| d.code).collect();
            assert_eq!(codes, [code], "{why}");
        }
    }

    #[test]
    fn every_host_gets_a_slot_and_listeners_share_it() {
        let (issued, mut cx) = compiled("email = \"a@example.com\"", SITES);
        let names = |issued: &Issued| -> Vec<String> {
            let slots = issued.slots.iter();
            slots.map(|slot| slot.name().to_owned()).collect()
        };
        let issued = issued.unwrap();
        assert_eq!(
            names(&issued),
            ["example.com", "www.example.com", "shop.example.com"]
        );
        let text = format!("acme = {{ email = \"a@example.com\" }}\n{SITES}");
        let (root, _) = node::parse(&text, FileId(0));
        let again = compile(root.table("acme").unwrap(), &root, &[], &mut cx).unwrap();
        assert!(
            Arc::ptr_eq(&again.slots[0], &issued.slots[0]),
            "the same certificate"
        );
        assert_eq!(cx.issuances.len(), 1, "one order for both listeners");
        assert_eq!(cx.issuances[0].settings.url.as_ref(), defaults::LETSENCRYPT);
    }
}
