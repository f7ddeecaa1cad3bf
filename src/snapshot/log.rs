//! `[access_log]` as data: where lines go, what they look like, what they leave out.
//!
//! Knows the names of template variables and of query keys that carry secrets, because both are part of the configuration's
//! language. How a line is formatted and written is `observe`'s business.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::syslog::Syslog;

/// One access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Where its lines go.
    pub destination: Destination,
    /// When its file is begun anew; logs of one file agree.
    pub rotation: Option<Rotation>,
    /// What a line looks like.
    pub format: Format,
    /// Which requests it holds.
    pub lines: Lines,
    /// What becomes of client addresses.
    pub privacy: Privacy,
    /// Query keys whose values are not logged.
    pub redaction: Redaction,
    /// The sites whose requests it holds, by their names in logs; empty: every request, also of no site.
    pub sites: Vec<Arc<str>>,
}

/// Where lines go. Logs with one destination share one writer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
    /// A syslog server, one message a line.
    Syslog(Syslog),
}

/// When a log file is begun anew, and how many old ones stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rotation {
    /// Before it would have more bytes than this.
    pub size: Option<u64>,
    /// When it is this old and not empty.
    pub age: Option<Duration>,
    /// How many old files stay; all unless said.
    pub keep: Option<usize>,
}

/// What a line looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// One JSON object with OpenTelemetry's names.
    Json,
    /// One JSON object with the names of the Elastic Common Schema.
    Ecs,
    /// Text with nginx's variables; `combined` is one of these.
    Template(Template),
}

/// Which requests a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lines {
    /// All.
    #[default]
    All,
    /// Those that policy, or the gate before it, turned away.
    Denied,
}

/// What becomes of client addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Privacy {
    /// Logged as they are.
    #[default]
    None,
    /// The last byte of an IPv4 address and the last ten of an IPv6 address are zero (/24 and /48).
    Mask,
    /// A keyed hash of 16 hex digits; the key is random, of this process, and forgotten every day (UTC).
    HashDaily,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => path.display().fmt(f),
            Self::Syslog(syslog) => syslog.fmt(f),
        }
    }
}

impl AccessLog {
    /// A log of every request with the default redaction.
    #[must_use]
    pub fn new(destination: Destination, format: Format) -> Self {
        Self {
            destination,
            rotation: None,
            format,
            lines: Lines::default(),
            privacy: Privacy::default(),
            redaction: Redaction::default(),
            sites: Vec::new(),
        }
    }

    /// Request headers that lines of this log show, besides `User-Agent` and `Referer`.
    #[must_use]
    pub fn headers(&self) -> &[HeaderName] {
        match &self.format {
            Format::Json | Format::Ecs => &[],
            Format::Template(template) => &template.headers,
        }
    }
}

/// A line as text with variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Texts and variables in their order.
    pub pieces: Vec<Piece>,
    /// The headers that `Variable::Header` counts.
    pub headers: Vec<HeaderName>,
}

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Literal text.
    Text(String),
    /// A variable.
    Variable(Variable),
}

/// What a template may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// The client address.
    RemoteAddr,
    /// The peer's address.
    PeerAddr,
    /// The peer's port.
    RemotePort,
    /// The authenticated user.
    RemoteUser,
    /// `24/Nov/2026:10:00:00 +0000`, when the line was written.
    TimeLocal,
    /// `2026-11-24T10:00:00+00:00`, when the line was written.
    TimeIso8601,
    /// Seconds and milliseconds since 1970, when the line was written.
    Msec,
    /// Method, target and protocol.
    Request,
    /// The method.
    RequestMethod,
    /// Path and query as received.
    RequestUri,
    /// The path as received.
    Uri,
    /// The query as received.
    Args,
    /// The status.
    Status,
    /// Bytes of the response body.
    BodyBytesSent,
    /// Bytes of the request body, or of what was read where no request could be parsed.
    RequestLength,
    /// Seconds from the first to the last byte.
    RequestTime,
    /// The request id.
    RequestId,
    /// The upstream's address.
    UpstreamAddr,
    /// The upstream's status.
    UpstreamStatus,
    /// Seconds to the end of the upstream's head.
    UpstreamResponseTime,
    /// Seconds to connect to the upstream.
    UpstreamConnectTime,
    /// `Referer`.
    Referer,
    /// `User-Agent`.
    UserAgent,
    /// Another request header, by its place in [`Template::headers`].
    Header(u16),
    /// The host as judged.
    Host,
    /// The site's name.
    Site,
    /// `http` or `https`.
    Scheme,
    /// `HTTP/1.1`.
    ServerProtocol,
    /// `TLSv1.3`.
    SslProtocol,
    /// The subject of the client certificate.
    SslClientSubject,
    /// `allow`, `deny`, `challenge`, `limit` or `error`.
    PolicyDecision,
    /// The public reason.
    PolicyReason,
    /// The rule that decided.
    PolicyRule,
    /// Where that rule is written.
    PolicyRuleSource,
    /// Who answered: `policy`, `upstream` or `proxy`.
    ResponseSource,
    /// The country of the client address.
    Country,
    /// The largest subdivision of the client address.
    Subdivision,
    /// The autonomous system of the client address.
    Asn,
    /// The pattern of the route.
    Route,
    /// The upstream's name.
    Upstream,
    /// Roles, joined by commas.
    Roles,
    /// The identity source that vouched.
    AuthSource,
    /// What went wrong.
    ErrorType,
    /// The generation of the configuration.
    Generation,
}

/// nginx's `combined` (`src/http/modules/ngx_http_log_module.c`).
pub const COMBINED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";

/// `combined` followed by decision, reason, rule (quoted), request id and country; what is absent is `-`.
pub const COMBINED_DECISION: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\" $policy_decision $policy_reason \"$policy_rule\" $request_id $country";

/// Every variable with its name: nginx's where nginx has one. `$http_NAME` stands for other request headers.
pub const VARIABLES: &[(&str, Variable)] = &[
    ("args", Variable::Args),
    ("asn", Variable::Asn),
    ("auth_source", Variable::AuthSource),
    ("body_bytes_sent", Variable::BodyBytesSent),
    // nginx counts the head too; we count the body, which is what the client asked for.
    ("bytes_sent", Variable::BodyBytesSent),
    ("country", Variable::Country),
    ("error_type", Variable::ErrorType),
    ("generation", Variable::Generation),
    ("geoip_country_code", Variable::Country),
    ("host", Variable::Host),
    ("http_referer", Variable::Referer),
    ("http_user_agent", Variable::UserAgent),
    ("msec", Variable::Msec),
    ("policy_decision", Variable::PolicyDecision),
    ("policy_reason", Variable::PolicyReason),
    ("policy_rule", Variable::PolicyRule),
    ("policy_rule_source", Variable::PolicyRuleSource),
    ("query_string", Variable::Args),
    ("realip_remote_addr", Variable::PeerAddr),
    ("realip_remote_port", Variable::RemotePort),
    ("remote_addr", Variable::RemoteAddr),
    ("remote_port", Variable::RemotePort),
    ("remote_user", Variable::RemoteUser),
    ("request", Variable::Request),
    ("request_id", Variable::RequestId),
    ("request_length", Variable::RequestLength),
    ("request_method", Variable::RequestMethod),
    ("request_time", Variable::RequestTime),
    ("request_uri", Variable::RequestUri),
    ("response_source", Variable::ResponseSource),
    ("roles", Variable::Roles),
    ("route", Variable::Route),
    ("scheme", Variable::Scheme),
    ("server_name", Variable::Site),
    ("server_protocol", Variable::ServerProtocol),
    ("site", Variable::Site),
    ("ssl_client_s_dn", Variable::SslClientSubject),
    ("ssl_protocol", Variable::SslProtocol),
    ("status", Variable::Status),
    ("subdivision", Variable::Subdivision),
    ("time_iso8601", Variable::TimeIso8601),
    ("time_local", Variable::TimeLocal),
    ("upstream", Variable::Upstream),
    ("upstream_addr", Variable::UpstreamAddr),
    ("upstream_connect_time", Variable::UpstreamConnectTime),
    ("upstream_response_time", Variable::UpstreamResponseTime),
    ("upstream_status", Variable::UpstreamStatus),
    ("uri", Variable::Uri),
];

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// It names a variable that does not exist.
    #[error("variable `${0}` does not exist")]
    Unknown(String),
    /// It names a header that may carry a credential.
    #[error("`${0}` may carry a credential, which is never logged")]
    Credential(String),
    /// A `$` stands before no name.
    #[error("`$` stands before no variable name")]
    Nameless,
    /// A line break, or another control character than a tab: one request is one line.
    #[error("a line format cannot hold line breaks or other control characters")]
    Control,
    /// Without a variable every line would be the same.
    #[error("the format names no variable")]
    Constant,
}

impl Template {
    /// Reads a template: text with `$name` for variables.
    ///
    /// # Errors
    /// Where a variable is unknown or carries credentials, or the text could break lines.
    pub fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err(InvalidTemplate::Control);
        }
        let mut template = Self {
            pieces: Vec::new(),
            headers: Vec::new(),
        };
        let mut parts = text.split('$');
        template.text(parts.next().unwrap_or(""));
        for part in parts {
            let end = part
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(part.len());
            let (name, rest) = part.split_at_checked(end).unwrap_or((part, ""));
            let variable = template.variable(name)?;
            template.pieces.push(Piece::Variable(variable));
            template.text(rest);
        }
        let names_one = |piece: &Piece| matches!(piece, Piece::Variable(_));
        if template.pieces.iter().any(names_one) {
            Ok(template)
        } else {
            Err(InvalidTemplate::Constant)
        }
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.pieces.push(Piece::Text(text.to_owned()));
        }
    }

    fn variable(&mut self, name: &str) -> Result<Variable, InvalidTemplate> {
        if name.is_empty() {
            return Err(InvalidTemplate::Nameless);
        }
        if let Some((_, variable)) = VARIABLES.iter().find(|(known, _)| *known == name) {
            return Ok(*variable);
        }
        if name == "http_cookie" || name.starts_with("cookie_") {
            return Err(InvalidTemplate::Credential(name.to_owned()));
        }
        let unknown = || InvalidTemplate::Unknown(name.to_owned());
        let header = name.strip_prefix("http_").ok_or_else(unknown)?;
        let header = header.to_ascii_lowercase().replace('_', "-");
        if carries_credentials(&header) {
            return Err(InvalidTemplate::Credential(name.to_owned()));
        }
        if !header.starts_with("x-") && !PLAIN_HEADERS.contains(&header.as_str()) {
            return Err(unknown());
        }
        let header = HeaderName::from_bytes(header.as_bytes())
            .ok()
            .ok_or_else(unknown)?;
        let known = self.headers.iter().position(|other| *other == header);
        let place = known.unwrap_or_else(|| {
            self.headers.push(header);
            self.headers.len() - 1
        });
        u16::try_from(place)
            .ok()
            .map(Variable::Header)
            .ok_or_else(unknown)
    }
}

/// Whether a header of this name may carry a credential.
#[must_use]
pub fn carries_credentials(header: &str) -> bool {
    let header = header.to_ascii_lowercase();
    CREDENTIAL_WORDS.iter().any(|word| header.contains(word))
}

/// Headers besides `X-…` that a template may show.
const PLAIN_HEADERS: &[&str] = &[
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "cf-ray",
    "content-length",
    "content-type",
    "dnt",
    "forwarded",
    "host",
    "if-modified-since",
    "if-none-match",
    "origin",
    "range",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "te",
    "traceparent",
    "upgrade",
    "via",
];

/// A header whose name holds one of these words may carry a credential.
const CREDENTIAL_WORDS: &[&str] = &[
    "assertion",
    "auth",
    "cookie",
    "credential",
    "csrf",
    "jwt",
    "key",
    "pass",
    "secret",
    "session",
    "sign",
    "token",
    "xsrf",
];

/// Query keys whose values are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redaction {
    /// Lower case, `-` as `_`, sorted.
    keys: Vec<Box<str>>,
    /// Bit n: some key has n bytes; bit 63: some key has 63 or more.
    lengths: u64,
}

impl Default for Redaction {
    fn default() -> Self {
        Self::new(Self::SECRET_KEYS.iter().copied())
    }
}

impl Redaction {
    /// Query keys that carry secrets in OAuth, SAML, signed URLs of the large clouds and common applications.
    pub const SECRET_KEYS: &[&str] = &[
        "access_key",
        "access_token",
        "api_key",
        "apikey",
        "assertion",
        "auth",
        "auth_token",
        "authorization",
        "client_assertion",
        "client_secret",
        "code",
        "code_verifier",
        "credential",
        "credentials",
        "id_token",
        "id_token_hint",
        "jwt",
        "key",
        "otp",
        "pass",
        "passphrase",
        "passwd",
        "password",
        "private_key",
        "pwd",
        "refresh_token",
        "reset_token",
        "samlrequest",
        "samlresponse",
        "secret",
        "session",
        "session_id",
        "session_token",
        "sessionid",
        "sid",
        "sig",
        "signature",
        "state",
        "ticket",
        "token",
        "x_amz_credential",
        "x_amz_security_token",
        "x_amz_signature",
        "x_api_key",
        "x_goog_credential",
        "x_goog_signature",
    ];

    /// Redacts the values of these keys, whatever their case, `-` and `_` being the same.
    #[must_use]
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k str>) -> Self {
        let mut keys: Vec<Box<str>> = keys
            .into_iter()
            .map(|key| key.bytes().map(|byte| char::from(fold(byte))).collect())
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let lengths = keys.iter().fold(0, |all, key| all | bit(key.len()));
        Self { keys, lengths }
    }

    /// Whether nothing is redacted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether the value of this key, its escapes decoded, is a secret.
    #[must_use]
    pub fn covers(&self, key: &[u8]) -> bool {
        self.lengths & bit(key.len()) != 0
            && self.keys.iter().any(|secret| {
                secret.len() == key.len() && secret.bytes().eq(key.iter().map(|byte| fold(*byte)))
            })
    }
}

fn bit(length: usize) -> u64 {
    1 << length.min(63)
}

fn fold(byte: u8) -> u8 {
    match byte {
        b'-' => b'_',
        other => other.to_ascii_lowercase(),
    }
}

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
    fn template_is_refused_or_read() {
        let unknown = |name: &str| Some(InvalidTemplate::Unknown(name.to_owned()));
        let credential = |name: &str| Some(InvalidTemplate::Credential(name.to_owned()));
        for (text, want) in [
            ("$http_authorization", credential("http_authorization")),
            ("$http_x_api_key", credential("http_x_api_key")), // a custom header with a telling name
            (
                "$http_Proxy_Authorization",
                credential("http_Proxy_Authorization"),
            ),
            ("$http_cookie", credential("http_cookie")),
            ("$cookie_sid", credential("cookie_sid")),
            ("$remote_adr", unknown("remote_adr")),
            ("$http_frobnicate", unknown("http_frobnicate")), // neither plain nor `x-`
            ("costs 5 $ $status", Some(InvalidTemplate::Nameless)),
            ("$status\n$host", Some(InvalidTemplate::Control)),
            ("no variable", Some(InvalidTemplate::Constant)),
            (COMBINED, None),
            (COMBINED_DECISION, None),
            ("$remote_addr\t$status", None), // tabs separate columns
            ("[$time_local]$status$host", None), // a variable ends where no name can go on
            ("$http_x_forwarded_for $http_accept_language", None),
        ] {
            assert_eq!(Template::parse(text).err(), want, "{text}");
        }
    }

    #[test]
    fn template_counts_each_header_once() {
        let template = Template::parse("$http_x_a $http_x_b $http_x_a").unwrap();
        assert_eq!(template.headers, ["x-a", "x-b"]);
        let last = template.pieces.last();
        assert_eq!(last, Some(&Piece::Variable(Variable::Header(0))));
    }

    #[test]
    fn redaction_covers_keys_in_any_spelling() {
        let default = Redaction::default();
        let own = Redaction::new(["Secret-Word"]);
        for (redaction, key, want) in [
            (&default, "token", true),
            (&default, "Access_Token", true),
            (&default, "access-token", true), // `-` as `_`
            (&default, "X-Amz-Signature", true),
            (&default, "tokens", false),
            (&default, "", false),
            (&own, "secret_word", true),
            (&own, "token", false), // a written list replaces the default
        ] {
            assert_eq!(redaction.covers(key.as_bytes()), want, "{key}");
        }
        assert!(Redaction::new([]).is_empty());
    }

    #[test]
    fn variables_are_sorted_and_unique() {
        assert!(VARIABLES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
