//! One view of the request, judged exactly as it is forwarded (DESIGN section 4, step 2).
//!
//! Whatever could be understood in two ways is refused here: hyper's parser has refused what breaks HTTP's grammar, this step
//! refuses what the grammar allows and two programs may read differently.

use std::borrow::Cow;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use crate::snapshot::Limits;
use crate::value::failure::Failure;
use crate::value::host;
use crate::value::path::Target;

/// What intake reads of a request.
#[derive(Debug)]
pub struct Intake<'r> {
    /// The target in its readings; `*` only for OPTIONS.
    pub target: Target<'r>,
    /// The host as received (of the absolute form, or the `Host` field), with its port.
    pub authority: Option<HeaderValue>,
    /// The host as judged; empty where HTTP/1.0 named none.
    pub host: Cow<'r, str>,
    /// Whether it asks for a WebSocket.
    pub websocket: bool,
    /// How long the body says it is, in bytes.
    pub length: Option<u64>,
}

/// Reads a head.
///
/// # Errors
/// [`Failure::Malformed`] with a stable word, [`Failure::MethodNotAllowed`], [`Failure::TargetTooLong`] or
/// [`Failure::HeadTooLarge`].
pub fn read<'r>(parts: &'r Parts, limits: &Limits) -> Result<Intake<'r>, Failure> {
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err(Failure::MethodNotAllowed);
    }
    if parts.headers.len() > limits.header_count {
        return Err(Failure::HeadTooLarge);
    }
    if parts.version == Version::HTTP_2 {
        fields(parts, limits)?;
    }
    let fields = Fields::gather(&parts.headers);
    fields.framing(parts.version)?;
    let (authority, host) = host_of(parts, &fields.hosts)?;
    let raw = target_of(&parts.uri, &parts.method)?;
    if raw.len() > limits.target_length {
        return Err(Failure::TargetTooLong);
    }
    let target = Target::read(raw).map_err(|error| Failure::Malformed(error.code()))?;
    Ok(Intake {
        target,
        authority,
        host,
        websocket: websocket(parts, &fields),
        length: fields.lengths.length(),
    })
}

/// The fields that say what a request is, gathered in one pass: a look-up for each costs more than the look at every name.
#[derive(Default)]
struct Fields<'r> {
    hosts: Found<'r>,
    lengths: Found<'r>,
    codings: Found<'r>,
    upgrades: Found<'r>,
    /// A name that applications may fold to one that frames.
    look_alike: bool,
}

/// The first field of a name, and whether there are more.
#[derive(Default)]
struct Found<'r> {
    first: Option<&'r HeaderValue>,
    repeated: bool,
}

impl<'r> Found<'r> {
    fn add(&mut self, value: &'r HeaderValue) {
        self.repeated = self.first.is_some();
        self.first.get_or_insert(value);
    }

    fn length(&self) -> Option<u64> {
        self.first?.to_str().ok()?.parse().ok()
    }
}

impl<'r> Fields<'r> {
    fn gather(headers: &'r HeaderMap) -> Self {
        let mut fields = Self::default();
        for (name, value) in headers {
            if *name == HOST {
                fields.hosts.add(value);
            } else if *name == CONTENT_LENGTH {
                fields.lengths.add(value);
            } else if *name == TRANSFER_ENCODING {
                fields.codings.add(value);
            } else if *name == UPGRADE {
                fields.upgrades.add(value);
            } else if folds_to_framing(name.as_str()) {
                fields.look_alike = true;
            }
        }
        fields
    }

    /// Framing that two parsers may read differently. hyper refuses most of it before us; what it tolerates is refused here.
    fn framing(&self, version: Version) -> Result<(), Failure> {
        if let Some(coding) = self.codings.first {
            if self.codings.repeated || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Failure::Malformed("transfer-encoding"));
            }
            if self.lengths.first.is_some() || version < Version::HTTP_11 {
                return Err(Failure::Malformed("framing"));
            }
        }
        if let Some(length) = self.lengths.first {
            let digits = !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
            if !digits || self.lengths.repeated {
                return Err(Failure::Malformed("content-length"));
            }
        }
        if self.look_alike {
            return Err(Failure::Malformed("look-alike"));
        }
        Ok(())
    }
}

/// Gives an absolute form without a path its `/` (RFC 9112 §3.2.1): `http://app.test?q` is judged and forwarded as `/?q`.
pub fn complete(uri: &mut Uri) {
    let raw = uri.path_and_query().map(PathAndQuery::as_str);
    let Some(query) = raw.filter(|raw| raw.starts_with('?')) else {
        return;
    };
    let path = PathAndQuery::try_from(format!("/{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = path.ok();
    if let Ok(whole) = Uri::from_parts(parts) {
        *uri = whole;
    }
}

/// The target in origin form.
fn target_of<'u>(uri: &'u Uri, method: &Method) -> Result<&'u str, Failure> {
    let Some(target) = uri.path_and_query() else {
        return Err(Failure::Malformed("target"));
    };
    let raw = target.as_str();
    if raw == "*" {
        return if method == Method::OPTIONS {
            Ok(raw)
        } else {
            Err(Failure::Malformed("target"))
        };
    }
    Ok(raw)
}

/// Host and port as sent, of a head that [`read`] has passed.
pub fn authority(parts: &Parts) -> Option<&str> {
    let absolute = parts.uri.authority().map(Authority::as_str);
    absolute.or_else(|| parts.headers.get(HOST)?.to_str().ok())
}

/// Exactly one host, wherever it stands (RFC 9112 §3.2).
fn host_of<'r>(
    parts: &'r Parts,
    fields: &Found<'r>,
) -> Result<(Option<HeaderValue>, Cow<'r, str>), Failure> {
    let field = fields.first;
    if fields.repeated {
        return Err(Failure::Malformed("two-hosts"));
    }
    let named = field
        .map(|value| read_host(value.to_str().unwrap_or_default()))
        .transpose()?;
    let Some(authority) = parts.uri.authority() else {
        // HTTP/1.0 knows requests without a host; they belong to no site but `*`.
        if field.is_none() && parts.version >= Version::HTTP_11 {
            return Err(Failure::Malformed("no-host"));
        }
        let host = named.map(|named| named.host).unwrap_or_default();
        return Ok((field.cloned(), host));
    };
    let absolute = absolute_host(authority)?;
    if field.is_none() && parts.version == Version::HTTP_11 {
        return Err(Failure::Malformed("no-host"));
    }
    let port = match parts.uri.scheme_str() {
        Some("https") => 443,
        Some("http") | None => 80,
        Some(_) => return Err(Failure::Malformed("scheme")),
    };
    let same = |named: &host::Authority<'_>| {
        named.host == absolute.host && named.port.unwrap_or(port) == absolute.port.unwrap_or(port)
    };
    if !named.as_ref().is_none_or(same) {
        return Err(Failure::Malformed("two-hosts"));
    }
    let value = HeaderValue::from_str(authority.as_str())
        .ok()
        .ok_or(Failure::Malformed("host"))?;
    Ok((Some(value), absolute.host))
}

fn absolute_host(authority: &Authority) -> Result<host::Authority<'_>, Failure> {
    if authority.as_str().contains('@') {
        return Err(Failure::Malformed("userinfo"));
    }
    read_host(authority.as_str())
}

/// A host as policy judges it; what a trusted peer names is read in the same way.
///
/// # Errors
/// [`Failure::Malformed`] where the text is no host.
pub fn judged(text: &str) -> Result<Cow<'_, str>, Failure> {
    read_host(text).map(|authority| authority.host)
}

fn read_host(text: &str) -> Result<host::Authority<'_>, Failure> {
    let authority = host::Authority::read(text);
    authority.ok().ok_or(Failure::Malformed("host"))
}

/// What HTTP/1.1's parser would have seen to: the size of the head, as it would stand there, and space around values
/// (RFC 9113 §8.2.1).
fn fields(parts: &Parts, limits: &Limits) -> Result<(), Failure> {
    let target = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    let mut size = parts.method.as_str().len() + target.len() + LINE_OVERHEAD;
    if let Some(authority) = parts.uri.authority() {
        size += HOST.as_str().len() + authority.as_str().len() + FIELD_OVERHEAD;
    }
    for (name, value) in &parts.headers {
        let value = value.as_bytes();
        size += name.as_str().len() + value.len() + FIELD_OVERHEAD;
        let spaced = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if spaced(value.first()) || spaced(value.last()) {
            return Err(Failure::Malformed("field-value"));
        }
    }
    if size > limits.header_size {
        return Err(Failure::HeadTooLarge);
    }
    Ok(())
}

/// `content_length`, `transfer.encoding` and the like: an application that folds them would see another frame.
fn folds_to_framing(name: &str) -> bool {
    let bytes = name.as_bytes();
    matches!(bytes.len(), 14 | 17)
        && bytes.iter().any(|byte| matches!(byte, b'_' | b'.'))
        && (folds(bytes, b"content-length") || folds(bytes, b"transfer-encoding"))
}

fn folds(name: &[u8], plain: &[u8]) -> bool {
    name.len() == plain.len()
        && name
            .iter()
            .zip(plain)
            .all(|(have, want)| have == want || (*want == b'-' && matches!(have, b'_' | b'.')))
}

/// RFC 6455 §4.1: a GET of HTTP/1.1 or later without a body, and `Upgrade: websocket` named by `Connection`. A body could not
/// be told from the tunnel's first bytes.
fn websocket(parts: &Parts, fields: &Fields<'_>) -> bool {
    let asks = fields
        .upgrades
        .first
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !asks {
        return false;
    }
    let bodiless =
        fields.codings.first.is_none() && fields.lengths.first.is_none_or(|length| length == "0");
    let fits = parts.method == Method::GET && parts.version >= Version::HTTP_11 && bodiless;
    fits && parts
        .headers
        .get_all(CONNECTION)
        .iter()
        .any(|value| has_token(value, b"upgrade"))
}

/// Whether a comma-separated field value has the token, in any case.
#[must_use]
pub fn has_token(value: &HeaderValue, token: &[u8]) -> bool {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

/// Colon, space and line end: what a field takes beside its name and value.
const FIELD_OVERHEAD: usize = 4;
/// The same of a request line beside method and target, and the empty line behind the head.
const LINE_OVERHEAD: usize = " ".len() + " HTTP/1.1\r\n".len() + "\r\n".len();
