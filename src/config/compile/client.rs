//! `[client]`: whose forwarding header is believed, and which.
//!
//! A name among `trusted_proxies` is a provider: from a file of `[client] providers`, else from the snapshot in this binary.
//! Everything else (networks, `@sets`, `dns:` names) is read as in any list of addresses.

use ipnet::IpNet;

use super::{files, sets};
use crate::client::address::{Header, Trust};
use crate::client::provider;
use crate::config::{Context, Diagnostic, Node, Span, Table};

/// Reads `[client]`.
pub fn compile(root: &Table, cx: &mut Context) -> Trust {
    let Some(table) = root.table("client") else {
        return Trust::default();
    };
    let mut networks = Vec::new();
    for node in table.many("trusted_proxies") {
        let found = match node.as_str() {
            Some(name) if is_name(name) => named(root, node, name, cx),
            Some(_) | None => sets::networks(root, node, cx),
        };
        if found.iter().any(|network| network.prefix_len() == 0) {
            let message = "everybody is trusted: any client can claim any address";
            let finding = Diagnostic::warning("trusts-everyone", node.span, message);
            cx.say(finding.help("name the networks of your load balancers only"));
        }
        networks.extend(found);
    }
    let header = match table.str("header") {
        Some("forwarded") => Header::Forwarded,
        Some(_) | None => Header::XForwardedFor,
    };
    Trust::new(&networks, header)
}

/// The networks of a provider: from the file that `[client] providers` names, else from the snapshot in this binary, which is a
/// warning when it is old. Nothing for a name that neither knows. Findings stand at `span`, or in the file's own entry.
pub(crate) fn provider(
    root: &Table,
    name: &str,
    span: Span,
    cx: &mut Context,
) -> Option<Vec<IpNet>> {
    let files = root
        .table("client")
        .and_then(|client| client.table("providers"));
    if let Some(node) = files.and_then(|files| files.get(name)) {
        return Some(from_file(node, cx));
    }
    let ranges = provider::ranges(name)?;
    if is_old(cx) {
        let (year, month, day) = provider::SNAPSHOT;
        let message =
            format!("the networks of `{name}` in this binary are of {year}-{month:02}-{day:02}");
        let finding = Diagnostic::warning("old-provider-snapshot", span, message);
        cx.say(finding.help(format!(
            "update portcullis, or name a file: `[client] providers = {{ {name} = \"{name}.txt\" }}`"
        )));
    }
    Some(
        ranges
            .iter()
            .filter_map(|range| range.parse().ok())
            .collect(),
    )
}

fn named(root: &Table, node: &Node, name: &str, cx: &mut Context) -> Vec<IpNet> {
    if let Some(networks) = provider(root, name, node.span, cx) {
        return networks;
    }
    let known = provider::NAMES.join("`, `");
    let shown = cx.written(node.span, name);
    let message = format!("`{shown}` is no provider and no network");
    let finding = Diagnostic::error("unknown-provider", node.span, message);
    cx.say(finding.help(format!(
        "the providers are `{known}` and those named in `[client] providers`"
    )));
    Vec::new()
}

/// One network per line; `#` begins a comment.
fn from_file(node: &Node, cx: &mut Context) -> Vec<IpNet> {
    let Some(path) = node.as_str() else {
        return Vec::new();
    };
    let name = cx.written(node.span, path).to_owned();
    let path = cx.path(node.span, path);
    cx.watch.push(path.clone());
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("list `{name}` cannot be read: {}", files::reason(&error));
            cx.error("unreadable-list", node.span, message);
            return Vec::new();
        }
    };
    let mut networks = Vec::new();
    let mut bad = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let network = entry.parse::<IpNet>().ok();
        let address = || entry.parse::<std::net::IpAddr>().ok().map(IpNet::from);
        match network
            .or_else(address)
            .filter(|network| network.trunc() == *network)
        {
            Some(network) => networks.push(network),
            None => bad.push(number),
        }
    }
    if let Some(first) = bad.first() {
        let many = bad.len();
        let message = format!(
            "list `{name}`: {many} of its lines hold no network, the first is line {first}"
        );
        let finding = Diagnostic::error("bad-list-line", node.span, message);
        cx.say(finding.help("one network a line, without host bits; `#` begins a comment"));
    } else if networks.is_empty() {
        let message = format!("list `{name}` is empty: nobody of this provider is trusted");
        cx.say(Diagnostic::warning("empty-list-file", node.span, message));
    }
    networks
}

fn is_old(cx: &Context) -> bool {
    let (year, month, day) = provider::SNAPSHOT;
    let date = jiff::civil::Date::new(year, month, day).ok();
    let made = date.and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC).ok());
    let fresh = jiff::SignedDuration::from_hours(24 * provider::FRESH_FOR_DAYS);
    made.is_some_and(|made| cx.now.duration_since(made.timestamp()) > fresh)
}

/// Whether an entry has the form of a name rather than of a network, a set or a `dns:` entry.
fn is_name(entry: &str) -> bool {
    let mut bytes = entry.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use std::net::IpAddr;

    use super::*;
    use crate::config::node::{FileId, parse};

    fn load(text: &str, now: &str) -> (Trust, Vec<&'static str>, Context) {
        let (root, mistakes) = parse(text, FileId(0));
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let mut cx = Context {
            now: now.parse().unwrap(),
            ..Context::default()
        };
        let trust = compile(&root, &mut cx);
        let codes = cx
            .report
            .diagnostics
            .iter()
            .map(|finding| finding.code)
            .collect();
        (trust, codes, cx)
    }

    #[test]
    fn trusted_proxies_are_networks_and_names() {
        let folder = tempfile::tempdir().unwrap();
        let list = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let good = list("good", "# ours\n198.51.100.0/24 # edge\n\n2001:db8::1\n");
        let bad = list("bad", "198.51.100.1/24\nnonsense\n203.0.113.0/24\n");
        let empty = list("empty", "# nothing\n");
        let none = folder.path().join("none").display().to_string();
        for (why, text, trusted, stranger, codes) in [
            (
                "nothing written",
                String::new(),
                None,
                Some("127.0.0.1"),
                vec![],
            ),
            (
                "an empty list",
                "trusted_proxies = []".to_owned(),
                None,
                Some("127.0.0.1"),
                vec![],
            ),
            (
                "a network",
                "trusted_proxies = [\"10.0.0.0/8\"]".to_owned(),
                Some("10.9.9.9"),
                Some("11.0.0.0"),
                vec![],
            ),
            (
                "a provider",
                "trusted_proxies = [\"cloudflare\"]".to_owned(),
                Some("173.245.48.1"),
                Some("151.101.0.1"),
                vec![],
            ),
            (
                "two",
                "trusted_proxies = [\"fastly\", \"cloudfront\"]".to_owned(),
                Some("151.101.0.1"),
                Some("173.245.48.1"),
                vec![],
            ),
            (
                "a name that is none",
                "trusted_proxies = [\"cloudfare\"]".to_owned(),
                None,
                Some("173.245.48.1"),
                vec!["unknown-provider"],
            ),
            (
                "everybody",
                "trusted_proxies = [\"0.0.0.0/0\"]".to_owned(),
                Some("8.8.8.8"),
                Some("2001:db8::1"),
                vec!["trusts-everyone"],
            ),
            (
                "a provider from a file",
                format!(
                    "trusted_proxies = [\"cloudflare\"]\nproviders = {{ cloudflare = {good:?} }}"
                ),
                Some("198.51.100.7"),
                Some("173.245.48.1"),
                vec![],
            ),
            (
                "a provider of one's own",
                format!("trusted_proxies = [\"edge\"]\nproviders = {{ edge = {good:?} }}"),
                Some("2001:db8::1"),
                Some("2001:db8::2"),
                vec![],
            ),
            (
                "mistakes in a file",
                format!("trusted_proxies = [\"edge\"]\nproviders = {{ edge = {bad:?} }}"),
                Some("203.0.113.1"),
                Some("198.51.100.1"),
                vec!["bad-list-line"],
            ),
            (
                "an empty file",
                format!("trusted_proxies = [\"edge\"]\nproviders = {{ edge = {empty:?} }}"),
                None,
                Some("198.51.100.1"),
                vec!["empty-list-file"],
            ),
            (
                "no file",
                format!("trusted_proxies = [\"edge\"]\nproviders = {{ edge = {none:?} }}"),
                None,
                Some("198.51.100.1"),
                vec!["unreadable-list"],
            ),
        ] {
            let (trust, found, cx) = load(&format!("[client]\n{text}"), "2026-11-24T00:00:00Z");
            assert_eq!(found, codes, "{why}");
            for (address, want) in [(trusted, true), (stranger, false)] {
                if let Some(address) = address {
                    assert_eq!(
                        trust.trusts(address.parse::<IpAddr>().unwrap()),
                        want,
                        "{why}: {address}"
                    );
                }
            }
            assert_eq!(
                cx.watch.len(),
                usize::from(text.contains("providers")),
                "{why}"
            );
        }
    }

    #[test]
    fn an_old_snapshot_is_a_warning_only_where_it_is_used() {
        let replaced = "trusted_proxies = [\"10.0.0.0/8\"]";
        for (text, now, codes) in [
            (
                "trusted_proxies = [\"fastly\"]",
                "2027-04-04T00:00:00Z",
                vec![],
            ), // 180 days
            (
                "trusted_proxies = [\"fastly\"]",
                "2027-04-05T00:00:01Z",
                vec!["old-provider-snapshot"],
            ),
            (replaced, "2030-01-01T00:00:00Z", vec![]),
        ] {
            assert_eq!(
                load(&format!("[client]\n{text}"), now).1,
                codes,
                "{text} at {now}"
            );
        }
    }

    #[test]
    fn one_header_is_read() {
        for (text, want) in [
            ("", Header::XForwardedFor),
            ("header = \"x-forwarded-for\"", Header::XForwardedFor),
            ("header = \"forwarded\"", Header::Forwarded),
        ] {
            assert_eq!(
                load(&format!("[client]\n{text}"), "2026-11-24T00:00:00Z")
                    .0
                    .header(),
                want
            );
        }
    }
}
