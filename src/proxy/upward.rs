//! A request head as the upstream gets it: origin form, forwarding fields, identity fields; and the edits of every answer.

use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use http::request::Parts;
use http::{Uri, Version};
use serde_json::Value;

use super::connection::Connection;
use super::enforce::Case;
use super::exchange::Exchange;
use super::headers::{self, Hop};
use super::request_id::{self, Ids};
use super::rewrite;
use super::service::{Passed, route_of, site_of};
use crate::identity::claims;
use crate::policy::facts::Scheme;
use crate::policy::{Person, Place};
use crate::snapshot::headers::HeaderEdits;
use crate::snapshot::{Balance, EditsAnswers, HashBy, Route, Site, Snapshot};
use crate::upstream::forward::Added;
use crate::value::failure::Failure;

/// What the forwarding headers say: what was judged.
pub(super) struct Forwarding {
    pub(super) client: std::net::IpAddr,
    pub(super) scheme: Scheme,
    pub(super) host: Option<HeaderValue>,
}

/// Which edits an answer gets: of its route, else of its site, else the global ones.
pub(super) fn edits_of(snapshot: &Snapshot, place: Place) -> &HeaderEdits {
    let site = site_of(snapshot, place);
    let route = route_of(snapshot, place);
    route
        .map(|route| &route.response_headers)
        .or_else(|| site.map(|site| &site.response_headers))
        .unwrap_or(&snapshot.response_headers)
}

/// The last touch on every answer.
pub(super) fn edit_response(headers: &mut HeaderMap, exchange: &Exchange) {
    let snapshot = &exchange.lease;
    if snapshot.edits_answers == EditsAnswers::Somewhere {
        edits_of(snapshot, exchange.seen.place).apply(headers, &exchange.filled);
    }
    if !exchange.cookies.is_empty() {
        // Nobody may keep an answer that signs somebody in.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for cookie in &exchange.cookies {
            headers.append(SET_COOKIE, cookie.clone());
        }
    }
    if let Some(allowance) = &exchange.allowance {
        allowance.write(headers);
    }
}

/// Rewrites a request head for the upstream. What the gate says itself goes to `added`: hashed into the map, each field would
/// cost more than all of this. Where something else has to find it there, it goes into the map all the same.
///
/// # Errors
/// Where a prefix makes the target too long.
pub(super) fn edit(
    parts: &mut Parts,
    added: &mut Added,
    passed: &Passed,
    (site, route): (&Site, &Route),
    connection: &Connection,
    ids: &Ids,
    (hop, stripped): (Hop, &[HeaderName]),
) -> Result<(), Failure> {
    // Absolute form goes up as origin form; the bytes of path and query stay as they are.
    if parts.uri.authority().is_some() {
        let origin = parts.uri.path_and_query().cloned();
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = origin;
        parts.uri = Uri::from_parts(uri).unwrap_or_default();
    }
    if let Some(rewrite) = &route.rewrite
        && let Some(received) = parts.uri.path_and_query()
        && received.path().starts_with('/')
    {
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(rewrite::target(received, &route.pattern, rewrite)?);
        parts.uri = Uri::from_parts(uri).ok().ok_or(Failure::Internal)?;
    }
    let headers = &mut parts.headers;
    if parts.version == Version::HTTP_2 {
        headers::join_cookies(headers);
    }
    let names = [request_id::X_REQUEST_ID, request_id::TRACEPARENT];
    let ours = if ids.traceparent.is_some() { 2 } else { 1 };
    let ours = names.get(..ours).unwrap_or_default();
    headers::strip_request(headers, stripped, ours, hop);
    if site.identity.signs_in_browsers() {
        for (_, oidc) in site.identity.browser_sources() {
            oidc.cookies.strip(headers);
        }
    }
    if !site.forward_credential {
        for name in site.identity.credential_headers() {
            headers.remove(name);
        }
    }
    let forwarding = &passed.forwarding;
    let client = if forwarding.client == connection.peer_address {
        connection.peer_value.clone()
    } else {
        address_value(forwarding.client)
    };
    added.push((X_FORWARDED_FOR, client));
    let scheme = HeaderValue::from_static(forwarding.scheme.as_str());
    added.push((X_FORWARDED_PROTO, scheme));
    if let Some(host) = &forwarding.host {
        if !headers.contains_key(http::header::HOST) || parts.version < Version::HTTP_11 {
            headers.insert(http::header::HOST, host.clone());
        }
        added.push((X_FORWARDED_HOST, host.clone()));
    } else if !headers.contains_key(http::header::HOST)
        && let Some(server) = passed.upstream.servers.first()
        && let Ok(value) = HeaderValue::from_str(&server.authority)
    {
        headers.insert(http::header::HOST, value);
    }
    added.push((request_id::X_REQUEST_ID, ids.request_id.clone()));
    if let Some(traceparent) = &ids.traceparent {
        added.push((request_id::TRACEPARENT, traceparent.clone()));
    }
    let sought = matches!(passed.upstream.balance, Balance::Hash(HashBy::Header(_)));
    if sought || !route.request_headers.is_empty() {
        headers.extend(added.drain(..));
    }
    if site.forwarded {
        headers.insert(http::header::FORWARDED, forwarded(forwarding));
    }
    if site.via {
        headers.append(
            http::header::VIA,
            HeaderValue::from_static("1.1 portcullis"),
        );
    }
    if let Some(host) = &route.host_header {
        headers.insert(http::header::HOST, host.clone());
    }
    route.request_headers.apply(headers, &passed.filled);
    for (name, value) in &passed.identity {
        headers.append(name.clone(), value.clone());
    }
    Ok(())
}

/// RFC 7239: one element, what was judged.
pub(super) fn forwarded(forwarding: &Forwarding) -> HeaderValue {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(96);
    let node = match forwarding.client {
        std::net::IpAddr::V4(address) => write!(text, "for={address}"),
        std::net::IpAddr::V6(address) => write!(text, "for=\"[{address}]\""),
    };
    let proto = write!(text, ";proto={}", forwarding.scheme.as_str());
    if let Some(host) = forwarding.host.as_ref().and_then(|host| host.to_str().ok()) {
        text.push_str(";host=\"");
        text.push_str(host);
        text.push('"');
    }
    // Writing to a string cannot fail.
    debug_assert!(node.is_ok() && proto.is_ok());
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// An address as a header value.
#[must_use]
pub fn address_value(address: std::net::IpAddr) -> HeaderValue {
    // An address is always visible ASCII.
    HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static(""))
}

pub(super) fn identity_headers(
    site: &Site,
    person: Option<&Person>,
    case: &Case<'_>,
    request_id: &HeaderValue,
) -> Result<Vec<(HeaderName, HeaderValue)>, Failure> {
    let wanted = &site.headers_to_upstream;
    let mut set = Vec::new();
    let mut put = |name: &Option<HeaderName>, value: &str| {
        // UTF-8 as it is, so that a name of any script arrives; control characters make no header.
        if let (Some(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            set.push((name.clone(), value));
        }
    };
    if wanted.country.is_some()
        && let Some(country) = case.region().country
    {
        put(&wanted.country, &country.to_string());
    }
    if let Some(person) = person {
        // A token of a program may name no user.
        if !person.principal.user.is_empty() {
            put(&wanted.user, &person.principal.user);
        }
        // A role that holds the separator would be read as two that nobody granted.
        let plain = |role: &&str| !role.contains(|c: char| c == ',' || c.is_control());
        let roles = person.principal.roles.iter().map(|role| &**role);
        let roles: Vec<&str> = roles.filter(plain).collect();
        if !roles.is_empty() {
            put(&wanted.roles, &roles.join(","));
        }
        for (path, name) in &wanted.claims {
            if let Some(text) = claim(&person.principal.claims, path) {
                put(&Some(name.clone()), &text);
            }
        }
        if let Some(signer) = &site.signer {
            let token = signer.token(&person.principal, request_id, case.now);
            // Without it the application would take somebody for nobody.
            set.push((signer.header.clone(), token.ok_or(Failure::Internal)?));
        }
    }
    Ok(set)
}

pub(super) fn claim(claims: &serde_json::Map<String, Value>, path: &str) -> Option<String> {
    match claims::at(claims, path)? {
        Value::Array(items) => {
            // As roles are: what holds the separator would be read as two.
            let plain = |text: &String| !text.contains(',');
            let items = items.iter().filter_map(scalar).filter(plain);
            let items: Vec<String> = items.collect();
            (!items.is_empty()).then(|| items.join(","))
        }
        value @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Object(_)) => scalar(value),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
