//! Finding credentials in a request head. Nothing is allocated unless a query value needs decoding.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::Head;
use super::error::AuthError;

/// A credential of the `Authorization` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authorization<'h> {
    /// What follows `Bearer`.
    Bearer(&'h str),
    /// What follows `Basic`.
    Basic(&'h str),
}

/// The credential of the `Authorization` field; `None` for none, and for schemes that are none of ours.
///
/// # Errors
/// The field is there twice, or is of our scheme and no text.
pub(super) fn authorization(headers: &HeaderMap) -> Result<Option<Authorization<'_>>, AuthError> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else {
        return Ok(None);
    };
    let credential = scheme(field)?;
    if let Some(second) = fields.next() {
        // The upstream may read the other one.
        let ours = credential.is_some() || scheme(second).map_or(true, |second| second.is_some());
        return if ours {
            Err(AuthError::Repeated)
        } else {
            Ok(None)
        };
    }
    Ok(credential)
}

/// The value of a field of its own.
///
/// # Errors
/// The field is there twice, or is no text.
pub(super) fn header<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h str>, AuthError> {
    let mut fields = headers.get_all(name).iter();
    let Some(field) = fields.next() else {
        return Ok(None);
    };
    if fields.next().is_some() {
        return Err(AuthError::Repeated);
    }
    let text = field.to_str().ok().ok_or(AuthError::Malformed)?.trim();
    Ok((!text.is_empty()).then_some(text))
}

/// Every value of a cookie, in the order sent.
pub(super) fn cookies<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h str> {
    let fields = headers.get_all(COOKIE).iter();
    let pairs = fields
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(';'));
    pairs.filter_map(move |pair| {
        let (key, value) = pair.split_once('=')?;
        let value = value.trim();
        let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
        let value = quoted.unwrap_or(value);
        (key.trim() == name && !value.is_empty()).then_some(value)
    })
}

/// Every value of a query parameter, in the order sent, decoded once.
pub(super) fn query<'h>(head: &Head<'h>, name: &str) -> impl Iterator<Item = Cow<'h, str>> {
    let pairs = head.query.unwrap_or_default().split('&');
    pairs.filter_map(move |pair| {
        let (key, value) = pair.split_once('=')?;
        let value = (decoded(key)? == name && !value.is_empty()).then_some(value)?;
        decoded(value)
    })
}

/// A token that stands in a field of its own, with or without its scheme.
pub(super) fn without_scheme(value: &str) -> &str {
    split_scheme(value)
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map_or(value, |(_, rest)| rest)
}

fn scheme(field: &HeaderValue) -> Result<Option<Authorization<'_>>, AuthError> {
    let ours = |name: &str| {
        let start = field.as_bytes().get(..name.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
    };
    let Ok(text) = field.to_str() else {
        return if ours("bearer ") || ours("basic ") {
            Err(AuthError::Malformed)
        } else {
            Ok(None)
        };
    };
    let (scheme, rest) = split_scheme(text).unwrap_or((text.trim(), ""));
    Ok(if scheme.eq_ignore_ascii_case("bearer") {
        Some(Authorization::Bearer(rest))
    } else if scheme.eq_ignore_ascii_case("basic") {
        Some(Authorization::Basic(rest))
    } else {
        None
    })
}

fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.trim().split_once([' ', '\t'])?;
    Some((scheme, rest.trim()))
}

fn decoded(part: &str) -> Option<Cow<'_, str>> {
    if part.contains('+') {
        let spaced = part.replace('+', " ");
        let plain = percent_decode_str(&spaced).decode_utf8().ok()?;
        return Some(Cow::Owned(plain.into_owned()));
    }
    percent_decode_str(part).decode_utf8().ok()
}
