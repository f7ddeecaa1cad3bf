//! What it costs to know who asks: a token that was verified before, one that was not, an API key, and the guard of sign-ins.
//!
//! `uncached` includes reading the token, the signature, the claims, and remembering it.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "a bench may stop at the first surprise, and prints its table"
)]

use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey};
use portcullis::identity::api_key::{ApiKey, ApiKeys, sha256};
use portcullis::identity::failures::{Failures, Settings};
use portcullis::identity::jwt::{Jwt, Keys};
use portcullis::identity::keys::{ALGORITHMS, Key};
use portcullis::identity::source::{Kind, Place};
use portcullis::identity::{Authenticator, Head, Presented, Source};
use portcullis::value::principal::Principal;
use serde_json::json;

const NOW: i64 = 1_800_000_000;
const SECRET: &[u8] = b"a secret of thirty-two bytes or so";

/// A signing key and the key that verifies.
fn keys(algorithm: Algorithm) -> (EncodingKey, Key) {
    let pair = |pair: &rcgen::KeyPair| (pair.serialize_pem(), pair.public_key_pem());
    let public = |text: String| Key::pem(text.as_bytes()).unwrap();
    match algorithm {
        Algorithm::HS256 => (EncodingKey::from_secret(SECRET), Key::secret(SECRET)),
        Algorithm::ES256 => {
            let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            let (private, open) = pair(&made);
            (
                EncodingKey::from_ec_pem(private.as_bytes()).unwrap(),
                public(open),
            )
        }
        Algorithm::EdDSA => {
            let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
            let (private, open) = pair(&made);
            (
                EncodingKey::from_ed_pem(private.as_bytes()).unwrap(),
                public(open),
            )
        }
        _ => {
            let size = rcgen::RsaKeySize::_2048;
            let made = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
            let (private, open) = pair(&made);
            (
                EncodingKey::from_rsa_pem(private.as_bytes()).unwrap(),
                public(open),
            )
        }
    }
}

/// What identity providers put into an access token.
fn token(name: &str, algorithm: Algorithm, key: &EncodingKey) -> String {
    let header = json!({ "alg": name, "typ": "at+jwt" });
    let payload = json!({
        "iss": "https://id.example.com/realms/main", "aud": ["app", "account"], "azp": "console",
        "sub": "6f1c0f1e-8c3f-4b57-9a6e-6d4a0a9d7c21", "sid": "3a3f2d52-3d34-4c1f-8b70-2f1f7a1c9e55",
        "exp": NOW + 300, "iat": NOW - 10, "auth_time": NOW - 60, "acr": "1", "scope": "openid profile email",
        "realm_access": { "roles": ["editor", "viewer", "offline_access"] },
        "name": "Ann Example", "preferred_username": "ann", "email": "ann@example.com", "plan": "pro",
    });
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", part(header.to_string()), part(payload.to_string()));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

fn source(name: &str, key: Key) -> Arc<Source> {
    let pinned = ALGORITHMS.iter().find(|(known, _)| *known == name).unwrap();
    Arc::new(Source {
        name: Arc::from("main"),
        kind: Kind::Jwt(Jwt {
            issuer: Box::from("https://id.example.com/realms/main"),
            audience: vec![Box::from("app")],
            algorithms: vec![*pinned],
            keys: Keys::Fixed(vec![key]),
            roles: Some(Box::from("realm_access.roles")),
            leeway: 60,
        }),
        places: vec![Place::Authorization],
        challenges: None,
    })
}

/// Nothing here waits for anything.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

fn ask(site: &Authenticator, headers: &HeaderMap, failures: Option<&Failures>) -> Presented {
    let client = [198, 51, 100, 7].into();
    let head = Head {
        headers,
        query: None,
        client,
        peer: client,
        ask: None,
        certificate: None,
        revoked: None,
        guard: failures.map(|failures| failures.guard(client, Instant::now())),
    };
    let now = Timestamp::from_second(NOW).unwrap();
    at_once(site.authenticate(&head, now))
}

fn tokens(c: &mut Criterion) {
    let mut group = c.benchmark_group("identity");
    for (name, algorithm) in [
        ("RS256", Algorithm::RS256),
        ("ES256", Algorithm::ES256),
        ("EdDSA", Algorithm::EdDSA),
        ("HS256", Algorithm::HS256),
    ] {
        let (sign, verify) = keys(algorithm);
        let token = token(name, algorithm, &sign);
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        headers.insert(AUTHORIZATION, value);
        let source = source(name, verify);
        let site = Authenticator::new(vec![Arc::clone(&source)]);
        assert!(matches!(ask(&site, &headers, None), Presented::Valid(_)));
        println!("{name}: a token of {} bytes", token.len());
        group.bench_function(format!("cached {name}"), |b| {
            b.iter(|| ask(&site, black_box(&headers), None));
        });
        group.bench_function(format!("uncached {name}"), |b| {
            // A new site has seen no token.
            b.iter_batched_ref(
                || Authenticator::new(vec![Arc::clone(&source)]),
                |site| ask(site, black_box(&headers), None),
                BatchSize::SmallInput,
            );
        });
        if algorithm == Algorithm::HS256 {
            let failures = Failures::new(SETTINGS);
            group.bench_function("cached HS256, failures counted", |b| {
                b.iter(|| ask(&site, black_box(&headers), Some(&failures)));
            });
        }
    }
    group.finish();
}

fn others(c: &mut Criterion) {
    let mut group = c.benchmark_group("identity");
    let mut keys = ApiKeys::default();
    for number in 0..10_000 {
        let key = ApiKey {
            id: format!("key-{number}").into(),
            principal: Arc::new(Principal {
                user: Arc::from(format!("user-{number}")),
                source: Arc::from("keys"),
                roles: Vec::new(),
                claims: serde_json::Map::new(),
                device: serde_json::Map::new(),
                expires: None,
            }),
            networks: Vec::new(),
        };
        keys.add(sha256(&format!("pk_{number:0>49}")), key).unwrap();
    }
    let site = Authenticator::new(vec![Arc::new(Source {
        name: Arc::from("keys"),
        kind: Kind::ApiKey(keys),
        places: vec![Place::Header(HeaderName::from_static("x-api-key"))],
        challenges: None,
    })]);
    let mut headers = HeaderMap::new();
    let key = format!("pk_{:0>49}", 4711);
    headers.insert("x-api-key", HeaderValue::from_str(&key).unwrap());
    assert!(matches!(ask(&site, &headers, None), Presented::Valid(_)));
    group.bench_function("API key, one of 10 000", |b| {
        b.iter(|| ask(&site, black_box(&headers), None));
    });
    let failures = Failures::new(SETTINGS);
    group.bench_function("a hold looked up", |b| {
        let client = [198, 51, 100, 7].into();
        let now = Instant::now();
        b.iter(|| failures.guard(black_box(client), now).held());
    });
    group.bench_function("a failure noted", |b| {
        let now = Instant::now();
        let mut number = 0_u32;
        b.iter(|| {
            number = number.wrapping_add(1);
            failures.guard(number.to_be_bytes().into(), now).failed();
        });
    });
    group.finish();
}

const SETTINGS: Settings = Settings {
    failures: 20,
    per: Duration::from_secs(60),
    hold: Duration::from_secs(60),
};

criterion_group!(benches, tokens, others);
criterion_main!(benches);
