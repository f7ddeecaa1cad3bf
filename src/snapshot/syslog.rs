//! Where a syslog server is, and what a message says of itself.
//!
//! ```text
//! syslog:                                 /dev/log
//! syslog:/run/syslog.sock                 another Unix datagram socket
//! syslog:udp://10.0.0.9                   port 514 (RFC 5426)
//! syslog:tcp://logs.example:6514          octets counted (RFC 6587 §3.4.1), port 601 unless written
//! syslog:udp://10.0.0.9?facility=local3&tag=shop&format=rfc3164
//! ```

use std::fmt;
use std::path::PathBuf;

/// A syslog server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Syslog {
    /// Where it listens.
    pub server: Server,
    /// The number of its facility, 0 to 23 (RFC 5424 §6.2.1).
    pub facility: u8,
    /// The name of the program: 1 to 48 visible ASCII characters.
    pub tag: String,
    /// What a message looks like.
    pub format: Syntax,
}

/// Where a syslog server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Server {
    /// A Unix datagram socket.
    Unix(PathBuf),
    /// UDP, as `host:port`.
    Udp(String),
    /// TCP, as `host:port`.
    Tcp(String),
}

/// What a message looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Syntax {
    /// RFC 5424.
    Rfc5424,
    /// RFC 3164; without a host name on a Unix socket, as `syslog(3)` writes it.
    Rfc3164,
}

/// Why a text names no syslog server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSyslog {
    /// Neither a path nor an address.
    #[error("`{0}` is no path of a socket, and no `udp://host:port` or `tcp://host:port`")]
    Server(String),
    /// An option that does not exist.
    #[error("syslog has no option `{0}`")]
    Option(String),
    /// A facility that does not exist.
    #[error("syslog has no facility `{0}`")]
    Facility(String),
    /// A tag that would break messages.
    #[error("`{0}` is no tag: 1 to 48 letters, digits, `-`, `_` or `.`")]
    Tag(String),
    /// A format that does not exist.
    #[error("`{0}` is no format of syslog")]
    Format(String),
}

impl Syslog {
    /// Reads what stands behind `syslog:`.
    ///
    /// # Errors
    /// Where it names no server, or an option is unknown.
    pub fn parse(text: &str) -> Result<Self, InvalidSyslog> {
        let (server, options) = text.split_once('?').unwrap_or((text, ""));
        let mut syslog = Self {
            server: Server::parse(server)?,
            facility: LOCAL7,
            tag: "portcullis".to_owned(),
            format: Syntax::Rfc5424,
        };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "facility" => {
                    let named = |number: &u8| facility(*number) == Some(value);
                    let known = (0..24).find(named);
                    syslog.facility =
                        known.ok_or_else(|| InvalidSyslog::Facility(value.to_owned()))?;
                }
                "tag" => {
                    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
                    if value.is_empty() || value.len() > 48 || !value.bytes().all(plain) {
                        return Err(InvalidSyslog::Tag(value.to_owned()));
                    }
                    value.clone_into(&mut syslog.tag);
                }
                "format" => {
                    syslog.format = match value {
                        "rfc5424" => Syntax::Rfc5424,
                        "rfc3164" => Syntax::Rfc3164,
                        other => return Err(InvalidSyslog::Format(other.to_owned())),
                    };
                }
                other => return Err(InvalidSyslog::Option(other.to_owned())),
            }
        }
        Ok(syslog)
    }
}

impl Server {
    fn parse(text: &str) -> Result<Self, InvalidSyslog> {
        let invalid = || InvalidSyslog::Server(text.to_owned());
        if let Some(address) = text.strip_prefix("udp://") {
            return with_port(address, 514).map(Self::Udp).ok_or_else(invalid);
        }
        if let Some(address) = text.strip_prefix("tcp://") {
            return with_port(address, 601).map(Self::Tcp).ok_or_else(invalid);
        }
        match text.strip_prefix("unix:").unwrap_or(text) {
            "" => Ok(Self::Unix(PathBuf::from("/dev/log"))),
            path if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Syslog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            Server::Unix(path) => write!(f, "syslog:{}", path.display()),
            Server::Udp(address) => write!(f, "syslog:udp://{address}"),
            Server::Tcp(address) => write!(f, "syslog:tcp://{address}"),
        }
    }
}

/// The name of a facility (RFC 5424 §6.2.1, in the words of `syslog.conf(5)`); 12 to 15 have none.
#[must_use]
pub fn facility(number: u8) -> Option<&'static str> {
    let name = FACILITIES.get(usize::from(number)).copied()?;
    (!name.is_empty()).then_some(name)
}

/// `host:port` with the port that is meant where none is written.
fn with_port(address: &str, port: u16) -> Option<String> {
    let (host, written) = match address.rsplit_once(':') {
        // An IPv6 address stands in brackets.
        Some((host, written)) if !written.contains(']') => (host, Some(written)),
        _ => (address, None),
    };
    let port = written.map_or(Some(port), |written| written.parse().ok())?;
    let inner = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
    let good = port > 0 && !inner.is_empty() && inner.bytes().all(plain);
    good.then(|| format!("{host}:{port}"))
}

/// What nginx takes unless told otherwise.
const LOCAL7: u8 = 23;

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use super::*;

    #[test]
    fn a_server_is_read_or_refused() {
        let server = |text: &str| InvalidSyslog::Server(text.to_owned());
        let unix = |path: &str| Server::Unix(PathBuf::from(path));
        for (text, want) in [
            ("dev/log", Err(server("dev/log"))), // a file of the working folder is no socket that anybody meant
            ("udp://", Err(server("udp://"))),
            ("udp://host:0", Err(server("udp://host:0"))),
            ("udp://host:99999", Err(server("udp://host:99999"))),
            ("udp://2001:db8::1", Err(server("udp://2001:db8::1"))),
            ("udp://[2001:db8::1", Err(server("udp://[2001:db8::1"))),
            ("tcp://a b", Err(server("tcp://a b"))),
            ("http://host", Err(server("http://host"))),
            ("", Ok(unix("/dev/log"))),
            ("/run/s.sock", Ok(unix("/run/s.sock"))),
            ("unix:/run/s.sock", Ok(unix("/run/s.sock"))),
            ("udp://10.0.0.9", Ok(Server::Udp("10.0.0.9:514".to_owned()))),
            ("udp://[::1]", Ok(Server::Udp("[::1]:514".to_owned()))),
            ("udp://[::1]:5514", Ok(Server::Udp("[::1]:5514".to_owned()))),
            (
                "tcp://logs.example",
                Ok(Server::Tcp("logs.example:601".to_owned())),
            ),
        ] {
            assert_eq!(Syslog::parse(text).map(|s| s.server), want, "{text}");
        }
    }

    #[test]
    fn options_are_read_or_refused() {
        let long = "x".repeat(49);
        for (text, want) in [
            (
                "?facility=local8",
                Err(InvalidSyslog::Facility("local8".to_owned())),
            ),
            ("?facility=", Err(InvalidSyslog::Facility(String::new()))),
            ("?tag=a b", Err(InvalidSyslog::Tag("a b".to_owned()))),
            ("?tag=", Err(InvalidSyslog::Tag(String::new()))),
            (
                &format!("?tag={long}"),
                Err(InvalidSyslog::Tag(long.clone())),
            ),
            ("?format=cef", Err(InvalidSyslog::Format("cef".to_owned()))),
            (
                "?severity=info",
                Err(InvalidSyslog::Option("severity".to_owned())),
            ),
            ("", Ok((23, "portcullis", Syntax::Rfc5424))),
            (
                "?facility=kern&tag=shop-1.a&format=rfc3164",
                Ok((0, "shop-1.a", Syntax::Rfc3164)),
            ),
        ] {
            let syslog = Syslog::parse(text);
            let got = syslog
                .as_ref()
                .map(|syslog| (syslog.facility, &*syslog.tag, syslog.format));
            assert_eq!(got, want.as_ref().map(|want| *want), "{text}");
        }
    }
}
