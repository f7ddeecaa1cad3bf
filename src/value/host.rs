//! Host names: of requests (RFC 9110 §7.2) and in patterns of sites and rules.
//!
//! One form is judged: lower case, no port, no trailing dot. An IPv6 literal keeps its brackets and is written as RFC 5952
//! asks. Names are ASCII: internationalised names come as A-labels (RFC 5890).

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

/// Host and port of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority<'r> {
    /// The host as judged.
    pub host: Cow<'r, str>,
    /// The port, if one is written.
    pub port: Option<u16>,
}

/// Why a host cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HostError {
    /// Nothing there.
    #[error("the host is empty")]
    Empty,
    /// `user@host`.
    #[error("the host has user information")]
    UserInfo,
    /// The port is no number of 16 bits.
    #[error("the port is no number up to 65535")]
    Port,
    /// `[…]` without an IPv6 address in it.
    #[error("the brackets hold no IPv6 address")]
    Brackets,
    /// A character that no host name has.
    #[error("the host has a character that no host name has")]
    Character,
    /// An empty label, a label over 63 or a name over 253 characters.
    #[error("the host has an empty label or is too long")]
    Length,
}

impl<'r> Authority<'r> {
    /// Reads `host`, `host:port` or `[v6]:port`.
    ///
    /// # Errors
    /// Where the text is anything else.
    pub fn read(text: &'r str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if text.contains('@') {
            return Err(HostError::UserInfo);
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (inside, after) = rest.split_once(']').ok_or(HostError::Brackets)?;
            let address: Ipv6Addr = inside.parse().ok().ok_or(HostError::Brackets)?;
            let port = match after.strip_prefix(':') {
                Some(port) => self::port(port)?,
                None if after.is_empty() => None,
                None => return Err(HostError::Character),
            };
            return Ok(Self {
                host: Cow::Owned(format!("[{address}]")),
                port,
            });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, self::port(port)?),
            None => (text, None),
        };
        Ok(Self {
            host: self::name(name)?,
            port,
        })
    }
}

fn port(text: &str) -> Result<Option<u16>, HostError> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HostError::Port);
    }
    text.parse().ok().map(Some).ok_or(HostError::Port)
}

/// A host name as judged.
fn name(text: &str) -> Result<Cow<'_, str>, HostError> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() {
        return Err(HostError::Empty);
    }
    if text.len() > NAME_MAX {
        return Err(HostError::Length);
    }
    let (mut label, mut upper) = (0, false);
    for byte in text.bytes() {
        match byte {
            b'.' if label == 0 => return Err(HostError::Length),
            b'.' => label = 0,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => label += 1,
            b'A'..=b'Z' => {
                label += 1;
                upper = true;
            }
            _ => return Err(HostError::Character),
        }
        if label > LABEL_MAX {
            return Err(HostError::Length);
        }
    }
    if label == 0 {
        return Err(HostError::Length);
    }
    Ok(if upper {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    })
}

/// A name of RFC 1035 §2.3.4, without its trailing dot.
const NAME_MAX: usize = 253;
/// A label of RFC 1035 §2.3.4.
const LABEL_MAX: usize = 63;

/// Which hosts a site or a rule speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// One host.
    Exact(Box<str>),
    /// `*.x`: at least one label before `x`; the text is `x`.
    Under(Box<str>),
    /// `*`: any host.
    Any,
}

impl HostPattern {
    /// Whether a host, in the form that is judged, is meant.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => **name == *host,
            Self::Under(parent) => host
                .strip_suffix(&**parent)
                .and_then(|labels| labels.strip_suffix('.'))
                .is_some_and(|labels| !labels.is_empty()),
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(parent) = text.strip_prefix("*.") {
            return Ok(Self::Under(name(parent)?.into()));
        }
        let read = Authority::read(text)?;
        if read.port.is_some() {
            return Err(HostError::Port);
        }
        Ok(Self::Exact(read.host.into()))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => f.write_str(name),
            Self::Under(parent) => write!(f, "*.{parent}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use super::*;

    #[test]
    fn a_host_is_read_in_one_form() {
        for (text, want, why) in [
            ("a.example", Ok(("a.example", None)), "plain"),
            (
                "A.Example.COM.",
                Ok(("a.example.com", None)),
                "case and one trailing dot",
            ),
            ("a:8080", Ok(("a", Some(8080))), "a port"),
            ("a.:80", Ok(("a", Some(80))), "dot before the port"),
            ("a:", Ok(("a", None)), "an empty port (RFC 3986 §3.2.3)"),
            ("[::1]", Ok(("[::1]", None)), "IPv6"),
            (
                "[2001:DB8:0::1]:443",
                Ok(("[2001:db8::1]", Some(443))),
                "in one spelling",
            ),
            ("127.0.0.1:80", Ok(("127.0.0.1", Some(80))), "IPv4"),
            (
                "my_app",
                Ok(("my_app", None)),
                "container names have underscores",
            ),
            ("", Err(HostError::Empty), "nothing"),
            (".", Err(HostError::Empty), "a dot"),
            (":80", Err(HostError::Empty), "only a port"),
            ("a..b", Err(HostError::Length), "an empty label"),
            ("a..", Err(HostError::Length), "two dots"),
            (".a", Err(HostError::Length), "a leading dot"),
            ("u@a", Err(HostError::UserInfo), "user information"),
            ("a:80:90", Err(HostError::Port), "two ports"),
            ("a:+80", Err(HostError::Port), "a sign"),
            ("a:65536", Err(HostError::Port), "too large"),
            ("a b", Err(HostError::Character), "a space"),
            ("a/b", Err(HostError::Character), "a slash"),
            ("a%2e", Err(HostError::Character), "an escape"),
            ("bücher.example", Err(HostError::Character), "no A-label"),
            ("[::1", Err(HostError::Brackets), "half open"),
            ("[::1%25eth0]", Err(HostError::Brackets), "a zone"),
            ("[::1]x", Err(HostError::Character), "behind the brackets"),
            ("a,b", Err(HostError::Character), "a list"),
        ] {
            let read = Authority::read(text);
            let got = read.as_ref().map(|r| (&*r.host, r.port)).map_err(|e| *e);
            assert_eq!(got, want, "{text}: {why}");
        }
    }

    #[test]
    fn lengths_are_tested_at_their_edge() {
        let label = "a".repeat(63);
        assert!(Authority::read(&label).is_ok());
        assert!(Authority::read(&format!("{label}a")).is_err());
        let name = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(name.len(), 253);
        assert!(Authority::read(&name).is_ok());
        assert!(Authority::read(&format!("{name}a")).is_err());
    }

    #[test]
    fn patterns_mean_hosts() {
        for (pattern, host, want) in [
            ("a.example", "a.example", true),
            ("A.example.", "a.example", true),
            ("a.example", "b.a.example", false),
            ("*.example", "a.example", true),
            ("*.example", "b.a.example", true),
            ("*.example", "example", false), // never the apex
            ("*.example", "aexample", false),
            ("*", "anything", true),
            ("[::1]", "[::1]", true),
        ] {
            let read: HostPattern = pattern.parse().unwrap();
            assert_eq!(read.matches(host), want, "{host} in {pattern}");
        }
        for bad in ["", "a*.example", "*.*.example", "*example", "a:80", "*."] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }
}
