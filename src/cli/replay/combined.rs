//! A line of nginx's and Apache's combined format: `ADDRESS - USER [TIME] "METHOD TARGET VERSION" STATUS BYTES "REFERER" "AGENT"`,
//! and of our `combined+decision`.

use std::net::IpAddr;

use http::Method;
use jiff::Timestamp;

/// What the line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) client: Option<IpAddr>,
    pub(super) now: Timestamp,
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) status: u16,
    pub(super) agent: Option<String>,
    /// What `combined+decision` adds.
    pub(super) decided: Option<Decided>,
}

/// ` DECISION REASON "RULE" ID COUNTRY`, with `-` for what is absent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decided {
    pub(super) decision: String,
    pub(super) reason: String,
    pub(super) rule: Option<String>,
    pub(super) id: Option<String>,
    pub(super) country: Option<String>,
}

/// Reads a line; nothing where it is none.
pub(super) fn read(line: &[u8]) -> Option<Line> {
    let line = std::str::from_utf8(line).ok()?;
    let (address, rest) = line.split_once(' ')?;
    let (_, rest) = rest.split_once('[')?;
    let (time, rest) = rest.split_once("] \"")?;
    let (request, rest) = quoted(rest)?;
    let mut words = request.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let mut numbers = rest.trim_start().splitn(3, ' ');
    let status = numbers.next()?.parse().ok()?;
    let tail = numbers.nth(1).and_then(|rest| {
        let (_, rest) = quoted(rest.trim_start().strip_prefix('"')?)?;
        quoted(rest.trim_start().strip_prefix('"')?)
    });
    let (agent, decided) = match tail {
        Some((agent, rest)) => ((agent != "-").then_some(agent), self::decided(rest)),
        None => (None, None),
    };
    Some(Line {
        client: address.parse().ok().map(|a: IpAddr| a.to_canonical()),
        now: jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S %z", time)
            .ok()?
            .to_timestamp()
            .ok()?,
        method: Method::from_bytes(method.as_bytes()).ok()?,
        target: target.to_owned(),
        status,
        agent,
        decided,
    })
}

fn decided(text: &str) -> Option<Decided> {
    let (decision, rest) = text.trim_start().split_once(' ')?;
    if !["allow", "deny", "challenge", "limit", "error"].contains(&decision) {
        return None;
    }
    let (reason, rest) = rest.split_once(' ')?;
    let (rule, rest) = quoted(rest.strip_prefix('"')?)?;
    let mut words = rest.split_whitespace();
    let told = |text: &str| (text != "-").then(|| text.to_owned());
    Some(Decided {
        decision: decision.to_owned(),
        reason: told(reason).unwrap_or_default(),
        rule: told(&rule).filter(|rule| !rule.is_empty()),
        id: words.next().and_then(told),
        country: words.next().and_then(told),
    })
}

/// A text up to its closing quote, with nginx's escapes undone; and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut plain = String::new();
    let mut rest = text;
    loop {
        let at = rest.find(['"', '\\'])?;
        let (before, after) = rest.split_at_checked(at)?;
        plain.push_str(before);
        if let Some(after) = after.strip_prefix('"') {
            return Some((plain, after));
        }
        let after = after.strip_prefix('\\')?;
        let hex = after.strip_prefix('x').and_then(|hex| hex.get(..2));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            // What is no ASCII stands in a target as it was sent: escaped.
            Some(byte) if byte.is_ascii() => {
                plain.push(char::from(byte));
                rest = after.get(3..)?;
            }
            Some(byte) => {
                plain.push_str(&format!("%{byte:02X}"));
                rest = after.get(3..)?;
            }
            None => {
                let first = after.chars().next()?;
                plain.push(first);
                rest = after.get(first.len_utf8()..)?;
            }
        }
    }
}
