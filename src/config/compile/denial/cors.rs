//! `[site.cors]`: origins as browsers write them, and the lists that preflights are answered with.

use http::{HeaderName, HeaderValue, Method};

use crate::config::Context;
use crate::config::diagnostic::Diagnostic;
use crate::config::node::Table;
use crate::snapshot::notice::{Cors, Origins};
use crate::value::duration;

/// `[site.cors]`; none where it names no origin.
pub fn cors(table: &Table, cx: &mut Context) -> Option<Cors> {
    let mut names: Vec<Box<str>> = Vec::new();
    let mut any = None;
    for node in table.many("origins") {
        let Some(written) = node.as_str() else {
            continue;
        };
        if written == "*" {
            any = Some(node.span);
            continue;
        }
        match origin(written) {
            Ok(name) => names.push(name.into()),
            Err(problem) => {
                let mut finding = Diagnostic::error(
                    "bad-origin",
                    node.span,
                    format!("`{written}` is no origin: {}", problem.what),
                );
                finding.help = Some(problem.help);
                cx.say(finding);
            }
        }
    }
    let methods = list(table, "methods", cx, |text| {
        Method::from_bytes(text.as_bytes()).ok().map(drop)
    });
    let headers = list(table, "headers", cx, |text| {
        let name = HeaderName::from_bytes(text.as_bytes()).ok()?;
        (name.as_str() != "*").then_some(())
    });
    let max_age = table
        .str("max_age")
        .and_then(seconds)
        .map(HeaderValue::from);
    let origins = match any {
        Some(span) if !names.is_empty() => {
            cx.say(
                Diagnostic::error(
                    "bad-origin",
                    span,
                    "`*` allows every origin without credentials, the others are named for nothing",
                )
                .help("name the origins, or write `origins = [\"*\"]` alone"),
            );
            return None;
        }
        Some(_) => Origins::Any,
        None if names.is_empty() => return None,
        None => Origins::Named(names),
    };
    Some(Cors {
        origins,
        methods,
        headers,
        max_age,
    })
}

/// Why a text is no origin.
struct NoOrigin {
    what: &'static str,
    help: String,
}

/// An origin as browsers send it: scheme, host in lower case, a port that is not the scheme's own.
fn origin(written: &str) -> Result<String, NoOrigin> {
    let wrong = |what, help: &str| {
        Err(NoOrigin {
            what,
            help: help.to_owned(),
        })
    };
    const FORM: &str =
        "an origin is written `https://app.example.com` or `https://app.example.com:8443`";
    if written == "null" {
        return wrong(
            "every sandboxed page calls itself `null`",
            "serve the page from an origin of its own",
        );
    }
    let Some((scheme, authority)) = written.split_once("://") else {
        return wrong("it has no scheme", FORM);
    };
    let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !scheme_fits {
        return wrong("its scheme is none", FORM);
    }
    if let Some((host, _)) = authority.split_once(['/', '?', '#']) {
        return Err(NoOrigin {
            what: "browsers send no path",
            help: format!("did you mean `{scheme}://{host}`?"),
        });
    }
    if authority.contains('*') {
        return wrong(
            "it is a pattern",
            "name each origin, or write `origins = [\"*\"]` for all",
        );
    }
    if !authority.is_ascii() {
        return wrong(
            "browsers send the host in its ASCII form",
            "write it with `xn--`",
        );
    }
    let authority = authority.to_ascii_lowercase();
    let scheme = scheme.to_ascii_lowercase();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (authority.as_str(), None),
    };
    let host_fits = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    if !host_fits {
        return wrong("its host is none", FORM);
    }
    match port {
        Some(port)
            if port
                .parse::<u16>()
                .map(|number| number.to_string())
                .as_deref()
                != Ok(port) =>
        {
            wrong("its port is none", FORM)
        }
        Some(port) if matches!((scheme.as_str(), port), ("https", "443") | ("http", "80")) => {
            Err(NoOrigin {
                what: "browsers leave out the scheme's own port",
                help: format!("did you mean `{scheme}://{host}`?"),
            })
        }
        Some(_) | None => Ok(format!("{scheme}://{authority}")),
    }
}

/// A list of words joined by commas, as header fields have it.
fn list(
    table: &Table,
    key: &str,
    cx: &mut Context,
    fits: impl Fn(&str) -> Option<()>,
) -> Option<HeaderValue> {
    let mut joined = String::new();
    for node in table.many(key) {
        let Some(word) = node.as_str() else {
            continue;
        };
        if fits(word).is_none() {
            cx.say(
                Diagnostic::error(
                    "bad-cors",
                    node.span,
                    format!("`{word}` cannot stand in `{key}`"),
                )
                .help(format!(
                    "write names, or leave `{key}` out to allow what each preflight asks for"
                )),
            );
            continue;
        }
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(word);
    }
    table.get(key)?;
    HeaderValue::try_from(joined).ok()
}

/// Whole seconds of a duration such as `"10min"`; the key table has checked it.
fn seconds(text: &str) -> Option<u64> {
    duration::parse(text).ok().map(|length| length.as_secs())
}
