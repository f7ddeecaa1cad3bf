//! `[site.cors]`: which scripts may read our refusals, and the preflights that we answer (Fetch §3.2).
//!
//! A preflight carries no credential, so it cannot be judged like the request it announces; for origins that the configuration
//! names we answer it, unless the announced request is certainly denied (the proxy asks policy with [`announced`]). Origins are
//! compared byte for byte, as browsers write them; `null` and two `Origin` fields are nobody. Named origins may send
//! credentials, since the operator names them; with `"*"` nobody may.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL, HeaderMap,
    HeaderName, HeaderValue, ORIGIN, VARY,
};
use http::{Method, Response, StatusCode};

use crate::snapshot::notice::{Cors, Origins};

/// Answers a preflight of a named origin with 204; `None` for everything else, which is judged as any request.
#[must_use]
pub fn preflight(
    cors: Option<&Cors>,
    method: &Method,
    headers: &HeaderMap,
) -> Option<Response<Bytes>> {
    let cors = cors.filter(|_| method == Method::OPTIONS)?;
    let asked = sole(headers, &ACCESS_CONTROL_REQUEST_METHOD)?;
    announced(headers)?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let head = response.headers_mut();
    allow(cors, headers, head)?;
    head.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        cors.methods.as_ref().unwrap_or(asked).clone(),
    );
    let names = cors
        .headers
        .as_ref()
        .or_else(|| sole(headers, &ACCESS_CONTROL_REQUEST_HEADERS).filter(|value| is_names(value)));
    if let Some(names) = names {
        head.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    if let Some(age) = &cors.max_age {
        head.insert(ACCESS_CONTROL_MAX_AGE, age.clone());
    }
    head.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    head.insert(
        VARY,
        HeaderValue::from_static(
            "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        ),
    );
    Some(response)
}

/// Lets a named origin's script read an answer of ours; nothing for others.
pub fn cors_headers(cors: Option<&Cors>, headers: &HeaderMap, ours: &mut HeaderMap) {
    if let Some(cors) = cors
        && allow(cors, headers, ours).is_some()
    {
        ours.insert(ACCESS_CONTROL_EXPOSE_HEADERS, READABLE);
    }
}

/// The method of the request that a preflight announces.
#[must_use]
pub fn announced(headers: &HeaderMap) -> Option<Method> {
    Method::from_bytes(sole(headers, &ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()
}

/// Whether answers differ by `Origin`.
pub(super) fn varies(cors: Option<&Cors>) -> bool {
    cors.is_some_and(|cors| cors.origins != Origins::Any)
}

fn allow(cors: &Cors, headers: &HeaderMap, ours: &mut HeaderMap) -> Option<()> {
    let origin = sole(headers, &ORIGIN)?;
    match &cors.origins {
        Origins::Any => {
            ours.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        Origins::Named(names) => {
            let mut names = names.iter().map(|name| name.as_bytes());
            names.find(|name| *name == origin.as_bytes())?;
            ours.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            ours.insert(
                ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
    }
    Some(())
}

/// The value of a field that stands there once.
fn sole<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// Only field names are sent back: letters, digits, token marks, commas and blanks.
fn is_names(value: &HeaderValue) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, ".contains(byte);
    value.as_bytes().iter().all(fits)
}

/// What a script needs to report a refusal and to try again.
const READABLE: HeaderValue = HeaderValue::from_static("X-Request-Id, Retry-After");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    fn named() -> Cors {
        Cors {
            origins: Origins::Named(vec!["https://app.example.com".into()]),
            methods: None,
            headers: None,
            max_age: None,
        }
    }

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    fn shown(headers: &HeaderMap) -> String {
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines.join("\n")
    }

    #[test]
    fn only_preflights_of_named_origins_are_answered() {
        const GOOD: (&str, &str) = ("origin", "https://app.example.com");
        const ASKS: (&str, &str) = ("access-control-request-method", "PUT");
        let any = Cors {
            origins: Origins::Any,
            ..named()
        };
        for (cors, method, headers, want, why) in [
            (
                None,
                Method::OPTIONS,
                &[GOOD, ASKS][..],
                false,
                "no [site.cors]",
            ),
            (
                Some(named()),
                Method::GET,
                &[GOOD, ASKS],
                false,
                "not OPTIONS",
            ),
            (
                Some(named()),
                Method::OPTIONS,
                &[GOOD],
                false,
                "announces nothing",
            ),
            (Some(named()), Method::OPTIONS, &[ASKS], false, "no origin"),
            (
                Some(named()),
                Method::OPTIONS,
                &[("origin", "https://evil.example"), ASKS],
                false,
                "another origin",
            ),
            (
                Some(named()),
                Method::OPTIONS,
                &[("origin", "https://app.example.com.evil.example"), ASKS],
                false,
                "a longer name",
            ),
            (
                Some(named()),
                Method::OPTIONS,
                &[("origin", "http://app.example.com"), ASKS],
                false,
                "another scheme",
            ),
            (
                Some(named()),
                Method::OPTIONS,
                &[("origin", "https://app.example.com:8443"), ASKS],
                false,
                "another port",
            ),
            (
                Some(named()),
                Method::OPTIONS,
                &[("origin", "null"), ASKS],
                false,
                "an opaque origin",
            ),
            (
                Some(named()),
                Method::OPTIONS,
                &[GOOD, GOOD, ASKS],
                false,
                "two origins",
            ),
            (
                Some(named()),
                Method::OPTIONS,
                &[GOOD, ASKS, ASKS],
                false,
                "two methods",
            ),
            (
                Some(named()),
                Method::OPTIONS,
                &[GOOD, ("access-control-request-method", "P UT")],
                false,
                "no method",
            ),
            (
                Some(named()),
                Method::OPTIONS,
                &[GOOD, ASKS],
                true,
                "a preflight",
            ),
            (
                Some(any.clone()),
                Method::OPTIONS,
                &[("origin", "null"), ASKS],
                true,
                "any origin",
            ),
            (
                Some(any),
                Method::OPTIONS,
                &[ASKS],
                false,
                "any origin, but one",
            ),
        ] {
            let answer = preflight(cors.as_ref(), &method, &fields(headers));
            assert_eq!(answer.is_some(), want, "{why}");
            if let Some(answer) = answer {
                assert_eq!(answer.status(), 204);
                assert!(answer.body().is_empty());
            }
        }
    }

    #[test]
    fn a_preflight_is_told_what_is_allowed() {
        let asks = fields(&[
            ("origin", "https://app.example.com"),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "authorization, x-a"),
        ]);
        let head = |cors: &Cors| {
            let answer = preflight(Some(cors), &Method::OPTIONS, &asks).unwrap();
            shown(answer.headers())
        };
        insta::assert_snapshot!(head(&named()), @r#"
        access-control-allow-credentials: true
        access-control-allow-headers: authorization, x-a
        access-control-allow-methods: PUT
        access-control-allow-origin: https://app.example.com
        cache-control: no-store
        vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers
        "#);
        let strict = Cors {
            methods: Some(HeaderValue::from_static("GET, POST")),
            headers: Some(HeaderValue::from_static("content-type")),
            max_age: Some(HeaderValue::from_static("600")),
            ..named()
        };
        insta::assert_snapshot!(head(&strict), @r#"
        access-control-allow-credentials: true
        access-control-allow-headers: content-type
        access-control-allow-methods: GET, POST
        access-control-allow-origin: https://app.example.com
        access-control-max-age: 600
        cache-control: no-store
        vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers
        "#);
        let any = Cors {
            origins: Origins::Any,
            ..named()
        };
        insta::assert_snapshot!(head(&any), @r#"
        access-control-allow-headers: authorization, x-a
        access-control-allow-methods: PUT
        access-control-allow-origin: *
        cache-control: no-store
        vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers
        "#);
        let odd = fields(&[
            ("origin", "https://app.example.com"),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-a: <b>"),
        ]);
        let answer = preflight(Some(&named()), &Method::OPTIONS, &odd).unwrap();
        assert!(!answer.headers().contains_key(ACCESS_CONTROL_ALLOW_HEADERS));
    }

    #[test]
    fn refusals_can_be_read_by_named_origins_only() {
        for (origin, want, why) in [
            ("https://evil.example", "", "another origin"),
            (
                "https://app.example.com",
                "access-control-allow-credentials: true\naccess-control-allow-origin: https://app.example.com\n\
                 access-control-expose-headers: X-Request-Id, Retry-After",
                "a named one",
            ),
        ] {
            let mut ours = HeaderMap::new();
            cors_headers(Some(&named()), &fields(&[("origin", origin)]), &mut ours);
            assert_eq!(shown(&ours), want, "{why}");
        }
    }
}
