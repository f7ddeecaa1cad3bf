//! What time does to logins and sessions; the rest is in `tests/it/oidc.rs`, with a provider.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use http::header::{COOKIE, HOST};

use super::provider::SecretIn;
use super::*;
use crate::identity::oidc::provider::Metadata;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::percent_decode_str;
use serde_json::Value;

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn source(client: &str) -> Oidc {
    let provider = Provider::default();
    provider.learn(Metadata {
        authorization_endpoint: "https://id.example/auth?tenant=1".into(),
        token_endpoint: "https://id.example/token".into(),
        jwks_uri: "https://id.example/keys".into(),
        end_session_endpoint: None,
        secret_in: SecretIn::Body,
        names_itself: true,
    });
    Oidc {
        issuer: "https://id.example".into(),
        client_id: client.into(),
        client_secret: "hush-hush".into(),
        scopes: "openid".into(),
        roles: Some("roles".into()),
        cookies: Cookies::named("s"),
        callback: "/back".into(),
        logout: None,
        session: 3600,
        keyring: Arc::new(Keyring::parse(KEY).unwrap()),
        provider: Arc::new(provider),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn headers(cookies: &[HeaderValue]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("app.example"));
    for cookie in cookies {
        let pair = cookie.to_str().unwrap().split(';').next().unwrap();
        headers.append(COOKIE, HeaderValue::from_str(pair).unwrap());
    }
    headers
}

fn browser(headers: &HeaderMap) -> Browser<'_> {
    Browser {
        headers,
        channel: Channel::Secure,
        origin: "https://app.example",
    }
}

fn of(query: &str, name: &str) -> Option<String> {
    let pairs = query.split(['?', '&']);
    let value = pairs
        .filter_map(|pair| pair.split_once('='))
        .find(|(n, _)| *n == name)?
        .1;
    Some(
        percent_decode_str(value)
            .decode_utf8()
            .unwrap()
            .into_owned(),
    )
}

#[test]
fn a_login_lasts_ten_minutes_and_belongs_to_its_source() {
    let (ours, other) = (source("app"), source("another"));
    let none = headers(&[]);
    let wish = Wish {
        acr_values: Some("gold platinum"),
        max_age: Some(300),
    };
    for (source, after, iss, want, why) in [
        (
            &other,
            1,
            "https://id.example",
            Some(Refusal::State),
            "another source's, under the same key",
        ),
        (
            &ours,
            -1,
            "https://id.example",
            Some(Refusal::Late),
            "from the future",
        ),
        (
            &ours,
            601,
            "https://id.example",
            Some(Refusal::Late),
            "too late",
        ),
        (
            &ours,
            1,
            "https://evil.example",
            Some(Refusal::AnotherProvider),
            "mixed up",
        ),
        (
            &ours,
            1,
            "",
            Some(Refusal::AnotherProvider),
            "a provider that names itself did not",
        ),
        (&ours, 600, "https://id.example", None, "in time"),
        (&ours, 0, "https://id.example", None, "at once"),
    ] {
        let left = ours
            .depart(&browser(&none), "/x?y=1", wish, at(1000))
            .unwrap();
        let location = left.location.to_str().unwrap();
        assert!(location.starts_with("https://id.example/auth?tenant=1&response_type=code&"));
        assert_eq!(of(location, "acr_values").unwrap(), "gold platinum");
        assert_eq!(of(location, "max_age").unwrap(), "300");
        assert_eq!(
            of(location, "redirect_uri").unwrap(),
            "https://app.example/back"
        );
        let state = of(location, "state").unwrap();
        let brought = headers(&left.cookies);
        let iss = if iss.is_empty() {
            String::new()
        } else {
            format!("&iss={iss}")
        };
        let query = format!("code=c&state={state}{iss}");
        let arrived = source.arrive(&browser(&brought), &query, at(1000 + after));
        assert_eq!(
            arrived.as_ref().err().map(|stranded| stranded.why),
            want,
            "{why}"
        );
        if let Ok(arrival) = arrived {
            assert_eq!(&*arrival.target, "/x?y=1");
            assert!(arrival.exchange.authorization.is_none());
            assert_eq!(
                of(&arrival.exchange.form, "client_secret").unwrap(),
                "hush-hush"
            );
        }
    }
}

#[test]
fn a_session_is_good_due_and_over_at_its_seconds() {
    let oidc = source("app");
    let session = |refresh: Option<&str>| Session {
        id: "sid".into(),
        began: 1000,
        raised: 0,
        ends: 5000,
        id_token: "e30.e30.x".into(),
        refresh_token: refresh.map(Box::from),
        due: 2000,
        fresh_until: 2060,
    };
    #[derive(Debug, PartialEq)]
    enum Is {
        Good,
        Due,
        Over,
    }
    let is = |session: &Session, now| {
        let cookies = oidc
            .keep(session, &headers(&[]), Channel::Secure, at(1000))
            .unwrap();
        let brought = headers(&cookies);
        let sealed = oidc.sealed(&brought).unwrap().unwrap();
        match oidc.open(&sealed, at(now)) {
            Opened::Good(_) => Is::Good,
            Opened::Due(_) => Is::Due,
            Opened::Not(error) => {
                assert_eq!(error, OVER);
                Is::Over
            }
        }
    };
    for (refresh, now, want, why) in [
        (Some("r"), 1999, Is::Good, "not yet due"),
        (Some("r"), 2000, Is::Due, "due"),
        (Some("r"), 4999, Is::Due, "still"),
        (Some("r"), 5000, Is::Over, "the end, renewed or not"),
        (None, 2000, Is::Good, "nothing renews it"),
        (None, 4999, Is::Good, "the last second"),
        (None, 5000, Is::Over, "the end"),
    ] {
        assert_eq!(is(&session(refresh), now), want, "{why}");
    }
    for (refresh, now, want) in [
        (Some("r"), 2059, true),
        (Some("r"), 2060, false),
        (None, 4999, true),
        (None, 5000, false),
    ] {
        assert_eq!(session(refresh).is_fresh(now), want, "at {now}");
    }
    oidc.provider.end("sid", 5000, 1500);
    assert_eq!(is(&session(None), 1600), Is::Over, "signed out");
}

#[test]
fn secrets_are_not_shown() {
    let oidc = source("app");
    let session = Session {
        id: "sid".into(),
        began: 1000,
        raised: 0,
        ends: 5000,
        id_token: "the-jwt".into(),
        refresh_token: Some("anew".into()),
        due: 0,
        fresh_until: 0,
    };
    let shown = format!(
        "{oidc:?} {session:?} {:?} {:?}",
        oidc.renewal(&session),
        oidc.keyring
    );
    for secret in ["hush-hush", "the-jwt", "anew", "AAAA"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn a_session_is_known_by_its_own_name_and_beginning() {
    let oidc = source("app");
    let claims = URL_SAFE_NO_PAD
        .encode(r#"{"sub":"ada","jti":"theirs","iat":4000,"nonce":"n","roles":["staff"]}"#);
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#);
    let session = Session {
        id: "sid".into(),
        began: 1000,
        raised: 0,
        ends: 5000,
        id_token: format!("{header}.{claims}.x").into(),
        refresh_token: None,
        due: 0,
        fresh_until: 0,
    };
    let person = oidc.person(&session, &Arc::from("login")).unwrap();
    assert_eq!(&*person.user, "ada");
    assert_eq!(
        person.claims.get("jti"),
        Some(&Value::from("sid")),
        "revocation goes by it"
    );
    assert_eq!(
        person.claims.get("iat"),
        Some(&Value::from(1000)),
        "a renewal is no new sign-in"
    );
    assert_eq!(person.claims.get("nonce"), None);
    assert_eq!(person.expires, Some(at(5000)));
}
