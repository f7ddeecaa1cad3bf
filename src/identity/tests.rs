//! Credentials, good and bad: one row per attack or accident. The clock stands still at `NOW`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::needless_pass_by_value,
    reason = "tests may stop at the first surprise"
)]

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::api_key::{ApiKey, ApiKeys, sha256};
use super::basic::{Login, Users};
use super::failures::{Failures, Settings};
use super::hashing::{Hashing, Unhashed};
use super::jwt::{Jwt, Keys};
use super::keys::{ALGORITHMS, Key, KeyError};
use super::source::{Kind, Place, Source};
use super::{AuthError, Authenticator, Head, Presented};
use crate::value::principal::Principal;

pub(super) const NOW: i64 = 1_800_000_000;
pub(super) const SECRET: &[u8] = b"a secret of thirty-two bytes or so";

pub(super) struct Pair {
    pub(super) sign: EncodingKey,
    pub(super) public: String,
}

pub(super) static RSA: LazyLock<Pair> = LazyLock::new(rsa);
pub(super) static OTHER_RSA: LazyLock<Pair> = LazyLock::new(rsa);
pub(super) static P256: LazyLock<Pair> = LazyLock::new(|| ec(&rcgen::PKCS_ECDSA_P256_SHA256));
pub(super) static P384: LazyLock<Pair> = LazyLock::new(|| ec(&rcgen::PKCS_ECDSA_P384_SHA384));
pub(super) static ED: LazyLock<Pair> = LazyLock::new(|| {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    Pair {
        sign: EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap(),
        public: pair.public_key_pem(),
    }
});

fn rsa() -> Pair {
    let size = rcgen::RsaKeySize::_2048;
    let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
    Pair {
        sign: EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap(),
        public: pair.public_key_pem(),
    }
}

fn ec(algorithm: &'static rcgen::SignatureAlgorithm) -> Pair {
    let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
    Pair {
        sign: EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap(),
        public: pair.public_key_pem(),
    }
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// A token of exactly these parts.
pub(super) fn raw(
    header: &Value,
    payload: &Value,
    key: &EncodingKey,
    algorithm: Algorithm,
) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(payload));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

pub(super) fn hs(header: &Value, payload: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET);
    raw(header, payload, &key, Algorithm::HS256)
}

/// The claims of a good token, changed: a null takes a claim away.
pub(super) fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": "idp", "aud": "app", "sub": "ann", "exp": NOW + 300, "realm": { "roles": ["staff", "ops"] },
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

pub(super) fn good() -> String {
    hs(&json!({ "alg": "HS256" }), &claims(json!({})))
}

pub(super) fn jwt(
    name: &str,
    algorithms: &[&str],
    keys: Vec<Key>,
    places: Vec<Place>,
) -> Arc<Source> {
    let pinned = algorithms
        .iter()
        .map(|name| *ALGORITHMS.iter().find(|(n, _)| n == name).unwrap());
    let kind = Kind::Jwt(Jwt {
        issuer: Box::from("idp"),
        audience: vec![Box::from("app")],
        algorithms: pinned.collect(),
        keys: Keys::Fixed(keys),
        roles: Some(Box::from("realm.roles")),
        leeway: 60,
    });
    source(name, kind, places, "Bearer")
}

fn source(name: &str, kind: Kind, places: Vec<Place>, scheme: &str) -> Arc<Source> {
    let challenge =
        |rest: &str| HeaderValue::from_str(&format!("{scheme} realm=\"r\"{rest}")).unwrap();
    let invalid = if scheme == "Bearer" {
        ", error=\"invalid_token\""
    } else {
        ""
    };
    Arc::new(Source {
        name: Arc::from(name),
        kind,
        places,
        challenges: Some([challenge(""), challenge(invalid)]),
    })
}

pub(super) fn hs_source() -> Arc<Source> {
    jwt(
        "hs",
        &["HS256"],
        vec![Key::secret(SECRET)],
        vec![Place::Authorization],
    )
}

pub(super) fn rs_source() -> Arc<Source> {
    let key = Key::pem(RSA.public.as_bytes()).unwrap();
    jwt("rs", &["RS256"], vec![key], vec![Place::Authorization])
}

fn key_source(name: &str) -> Arc<Source> {
    let mut keys = ApiKeys::default();
    let key = |user: &str, networks: &[&str], expires: Option<i64>| ApiKey {
        id: Box::from(user),
        principal: Arc::new(Principal {
            user: Arc::from(user),
            source: Arc::from(name),
            roles: vec![Arc::from("deploy")],
            claims: Map::new(),
            device: Map::new(),
            expires: expires.map(|at| Timestamp::from_second(at).unwrap()),
        }),
        networks: networks.iter().map(|n| n.parse().unwrap()).collect(),
    };
    keys.add(sha256("key-ann"), key("ann", &[], None)).unwrap();
    keys.add(sha256("key-bob"), key("bob", &[], Some(NOW + 1)))
        .unwrap();
    keys.add(sha256("key-old"), key("old", &[], Some(NOW)))
        .unwrap();
    keys.add(sha256("key-net"), key("net", &["192.0.2.0/24"], None))
        .unwrap();
    let places = vec![
        Place::Header(HeaderName::from_static("x-api-key")),
        Place::Query(Box::from("api key")),
    ];
    source(name, Kind::ApiKey(keys), places, "ApiKey")
}

/// `ann` and `bob` with cheap hashes of `right`, `eve` with `{SHA}`.
fn user_source(name: &str) -> Arc<Source> {
    use argon2::PasswordHasher as _;
    let bcrypt = bcrypt::hash("right", 4).unwrap();
    let params = argon2::Params::new(8, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::from(params)
        .hash_password(b"right")
        .unwrap();
    let sha = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, b"right");
    let sha = STANDARD.encode(sha.as_ref());
    let file = format!("# staff\n\nann:{bcrypt}\nbob:{argon2}\neve:{{SHA}}{sha}\n");
    let parsed = Users::parse(&file, &Arc::from(name));
    assert_eq!(parsed.bad, []);
    assert_eq!(parsed.weak, Some(5));
    source(
        name,
        Kind::Basic(parsed.users),
        vec![Place::Authorization],
        "Basic",
    )
}

/// Asks with these fields; the answer in one word.
pub(super) fn ask(site: &Authenticator, fields: &[(HeaderName, String)]) -> String {
    ask_from(site, fields, None, "198.51.100.7", now())
}

fn ask_from(
    site: &Authenticator,
    fields: &[(HeaderName, String)],
    query: Option<&str>,
    client: &str,
    now: Timestamp,
) -> String {
    ask_guarded(site, fields, query, client, now, None)
}

fn ask_guarded(
    site: &Authenticator,
    fields: &[(HeaderName, String)],
    query: Option<&str>,
    client: &str,
    now: Timestamp,
    failures: Option<&Failures>,
) -> String {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let client: IpAddr = client.parse().unwrap();
    let head = Head {
        headers: &headers,
        query,
        client,
        peer: [127, 0, 0, 1].into(),
        ask: None,
        certificate: None,
        revoked: None,
        guard: failures.map(|failures| failures.guard(client, Instant::now())),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    match runtime.block_on(site.authenticate(&head, now)) {
        Presented::None => "none".to_owned(),
        Presented::Valid(principal) => format!("{} of {}", principal.user, principal.source),
        Presented::Invalid { source, error } => {
            format!(
                "{}: {}",
                source.as_deref().unwrap_or("nobody"),
                error.code()
            )
        }
        Presented::Failed { source } => format!("{source} failed"),
        Presented::Conflict => "conflict".to_owned(),
        Presented::Held(wait) => format!("held for {} s", wait.as_secs()),
    }
}

pub(super) fn bearer(token: &str) -> [(HeaderName, String); 1] {
    [(AUTHORIZATION, format!("Bearer {token}"))]
}

fn login(pair: &str) -> [(HeaderName, String); 1] {
    [(AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)))]
}

#[test]
fn what_a_token_says_is_believed_only_in_its_time_and_for_us() {
    let site = Authenticator::new(vec![hs_source()]);
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    for (change, want, why) in [
        (
            json!({ "exp": NOW - 60 }),
            "hs: expired",
            "leeway is over at its last second",
        ),
        (json!({ "exp": NOW - 300 }), "hs: expired", "long ago"),
        (json!({ "exp": 0 }), "hs: expired", "zero is a date"),
        (json!({ "exp": -1e300 }), "hs: expired", "no overflow"),
        (
            json!({ "exp": null }),
            "hs: no_expiry",
            "a token without an end is refused",
        ),
        (
            json!({ "exp": "1900000000" }),
            "hs: malformed",
            "a string is no date",
        ),
        (
            json!({ "exp": [NOW + 9] }),
            "hs: malformed",
            "a list is no date",
        ),
        (
            json!({ "nbf": NOW + 61 }),
            "hs: not_yet_valid",
            "beyond the leeway",
        ),
        (json!({ "nbf": 1e300 }), "hs: not_yet_valid", "no overflow"),
        (json!({ "nbf": "now" }), "hs: malformed", "not a date"),
        (
            json!({ "iat": NOW + 61 }),
            "hs: not_yet_valid",
            "issued in the future",
        ),
        (
            json!({ "aud": null }),
            "hs: wrong_audience",
            "an audience is required",
        ),
        (
            json!({ "aud": "other" }),
            "hs: wrong_audience",
            "for somebody else",
        ),
        (
            json!({ "aud": "app2" }),
            "hs: wrong_audience",
            "names are compared whole",
        ),
        (
            json!({ "aud": "ap" }),
            "hs: wrong_audience",
            "names are compared whole",
        ),
        (json!({ "aud": "APP" }), "hs: wrong_audience", "case counts"),
        (json!({ "aud": [] }), "hs: wrong_audience", "nobody"),
        (
            json!({ "aud": [["app"]] }),
            "hs: wrong_audience",
            "lists do not nest",
        ),
        (
            json!({ "aud": { "app": 1 } }),
            "hs: wrong_audience",
            "an object is no audience",
        ),
        (
            json!({ "sub": 7 }),
            "hs: malformed",
            "a subject is a string (RFC 7519 §4.1.2)",
        ),
        (
            json!({ "iss": "idp/" }),
            "nobody: wrong_issuer",
            "issuers are compared whole",
        ),
        (
            json!({ "iss": null }),
            "nobody: wrong_issuer",
            "an issuer is required",
        ),
        (
            json!({ "iss": ["idp"] }),
            "nobody: wrong_issuer",
            "a list is no issuer",
        ),
        (json!({}), "ann of hs", "good"),
        (json!({ "exp": NOW - 59 }), "ann of hs", "within the leeway"),
        (json!({ "exp": 1e300 }), "ann of hs", "practically never"),
        (
            json!({ "exp": (NOW as f64) + 0.5 }),
            "ann of hs",
            "dates may have fractions",
        ),
        (
            json!({ "nbf": NOW + 60, "iat": NOW + 60 }),
            "ann of hs",
            "within the leeway",
        ),
        (
            json!({ "aud": ["x", "app"] }),
            "ann of hs",
            "one of several",
        ),
        (
            json!({ "sub": null }),
            " of hs",
            "a program without a subject has no user name",
        ),
    ] {
        let token = hs(&header, &claims(change.clone()));
        assert_eq!(ask(&site, &bearer(&token)), want, "{change}: {why}");
    }
}

/// RFC 8725 §2 and §3, one row per attack.
#[test]
fn every_attack_on_a_token_fails() {
    let both = Authenticator::new(vec![hs_source(), rs_source()]);
    let plain = json!({ "alg": "HS256" });
    let fine = claims(json!({}));
    let token = good();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (head, body) = signed.split_once('.').unwrap();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = |header: Value| format!("{}.{}.", part(&header), part(&fine));
    let root = part(&claims(json!({ "sub": "root" })));
    let flipped = {
        let first = if signature.starts_with('A') { 'B' } else { 'A' };
        format!("{first}{}", &signature[1..])
    };
    // 32 bytes leave 4 of the last digit's 6 bits: with other spare bits it would decode to the same bytes.
    let spare = {
        let (start, last) = signature.split_at(signature.len() - 1);
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let at = digits
            .iter()
            .position(|d| *d == last.as_bytes()[0])
            .unwrap();
        format!("{start}{}", char::from(digits[at ^ 1]))
    };
    let public_as_secret = EncodingKey::from_secret(RSA.public.as_bytes());
    let with_public = raw(&plain, &fine, &public_as_secret, Algorithm::HS256);
    let rs = json!({ "alg": "RS256" });
    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&OTHER_RSA.sign, Algorithm::RS256).unwrap();
    let brings_key = json!({ "alg": "RS256", "jwk": jwk, "jku": "https://evil.example/jwks", "x5u": "https://evil.example/" });
    let huge = hs(&plain, &claims(json!({ "pad": "x".repeat(9000) })));
    let deep = format!(
        "{head}.{}.{signature}",
        URL_SAFE_NO_PAD.encode("[".repeat(5000))
    );
    for (token, want, why) in [
        (
            unsigned(json!({ "alg": "none" })),
            "nobody: wrong_algorithm",
            "alg none (RFC 8725 §2.1)",
        ),
        (
            unsigned(json!({ "alg": "NoNe" })),
            "nobody: wrong_algorithm",
            "in another case",
        ),
        (
            unsigned(json!({ "alg": "" })),
            "nobody: wrong_algorithm",
            "empty",
        ),
        (
            unsigned(json!({ "alg": "HS256" })),
            "hs: bad_signature",
            "signature taken away",
        ),
        (
            unsigned(json!({ "typ": "JWT" })),
            "nobody: malformed",
            "no algorithm at all",
        ),
        (
            unsigned(json!({ "alg": ["HS256"] })),
            "nobody: malformed",
            "a list of algorithms",
        ),
        (
            hs(&json!({ "alg": "HS512" }), &fine),
            "nobody: wrong_algorithm",
            "not pinned",
        ),
        (
            hs(&json!({ "alg": "hs256" }), &fine),
            "nobody: wrong_algorithm",
            "names are case-sensitive",
        ),
        (
            hs(&rs, &fine),
            "rs: bad_signature",
            "an HMAC where RSA is claimed",
        ),
        (
            with_public,
            "hs: bad_signature",
            "the RSA public key as HMAC secret (§2.1)",
        ),
        (
            raw(&rs, &fine, &OTHER_RSA.sign, Algorithm::RS256),
            "rs: bad_signature",
            "another RSA key",
        ),
        (
            raw(&brings_key, &fine, &OTHER_RSA.sign, Algorithm::RS256),
            "rs: bad_signature",
            "the attacker brings the key",
        ),
        (
            raw(
                &json!({ "alg": "HS256" }),
                &fine,
                &EncodingKey::from_secret(b"x"),
                Algorithm::HS256,
            ),
            "hs: bad_signature",
            "wrong secret",
        ),
        (
            raw(
                &json!({ "alg": "HS256" }),
                &fine,
                &EncodingKey::from_secret(b""),
                Algorithm::HS256,
            ),
            "hs: bad_signature",
            "empty secret",
        ),
        (
            format!("{head}.{body}.{flipped}"),
            "hs: bad_signature",
            "one character of the signature changed",
        ),
        (
            format!("{head}.{body}.{spare}"),
            "hs: bad_signature",
            "spare bits of the signature changed",
        ),
        (
            format!("{head}.{body}.{signature}="),
            "hs: bad_signature",
            "padding",
        ),
        (
            format!("{head}.{root}.{signature}"),
            "hs: bad_signature",
            "payload replaced",
        ),
        (
            format!(
                "{}.{body}.{signature}",
                part(&json!({ "alg": "HS256", "x": 1 }))
            ),
            "hs: bad_signature",
            "header replaced",
        ),
        (
            hs(&json!({ "alg": "HS256", "crit": ["exp"] }), &fine),
            "hs: critical_header",
            "crit (RFC 7515 §4.1.11)",
        ),
        (
            hs(&json!({ "alg": "HS256", "crit": [] }), &fine),
            "hs: critical_header",
            "an empty crit is not allowed either",
        ),
        (
            hs(
                &json!({ "alg": "HS256", "crit": ["b64"], "b64": false }),
                &fine,
            ),
            "hs: critical_header",
            "unencoded payload",
        ),
        (
            hs(&json!({ "alg": "HS256", "typ": "logout+jwt" }), &fine),
            "hs: wrong_type",
            "a token of another kind (§3.11)",
        ),
        (
            hs(
                &json!({ "alg": "HS256", "typ": "application/DPoP+JWT" }),
                &fine,
            ),
            "hs: wrong_type",
            "in its long form",
        ),
        (huge, "nobody: too_large", "larger than 8 KiB"),
        (deep, "nobody: malformed", "deep nesting"),
        (format!("{head}.{body}"), "nobody: malformed", "two parts"),
        (
            format!("{head}.{body}.{signature}."),
            "nobody: malformed",
            "four parts",
        ),
        (
            format!("{head}..{body}.x.{signature}"),
            "nobody: malformed",
            "five parts: encrypted",
        ),
        (
            format!("{head}.{}.{signature}", part(&json!([1]))),
            "nobody: malformed",
            "a payload that is no object",
        ),
        (
            format!(
                "{head}.{}.{signature}",
                URL_SAFE_NO_PAD.encode([0xff, 0xfe])
            ),
            "nobody: malformed",
            "a payload that is no text",
        ),
        (
            format!("{head}.{body} .{signature}"),
            "nobody: malformed",
            "a space inside",
        ),
        (String::new(), "nobody: malformed", "nothing"),
        ("..".to_owned(), "nobody: malformed", "dots"),
        (token.clone(), "ann of hs", "untouched"),
        (
            hs(&json!({ "alg": "HS256", "typ": "at+jwt" }), &fine),
            "ann of hs",
            "an access token (RFC 9068)",
        ),
        (
            hs(&json!({ "alg": "HS256", "kid": "../../etc/passwd" }), &fine),
            "ann of hs",
            "kid chooses among our keys only",
        ),
        (
            raw(&rs, &fine, &RSA.sign, Algorithm::RS256),
            "ann of rs",
            "the algorithm chooses the source",
        ),
    ] {
        assert_eq!(ask(&both, &bearer(&token)), want, "{why}");
    }
    // The confusion again where no source takes secrets.
    let only_rs = Authenticator::new(vec![rs_source()]);
    let secret = EncodingKey::from_secret(RSA.public.as_bytes());
    let confused = raw(&plain, &fine, &secret, Algorithm::HS256);
    assert_eq!(ask(&only_rs, &bearer(&confused)), "nobody: wrong_algorithm");
}

#[test]
fn every_algorithm_verifies_with_its_own_kind_of_key_only() {
    let secret = EncodingKey::from_secret(&[7; 64]);
    let rows: [(&str, &EncodingKey, Key); 9] = [
        ("HS256", &secret, Key::secret(&[7; 64])),
        ("HS384", &secret, Key::secret(&[7; 64])),
        ("HS512", &secret, Key::secret(&[7; 64])),
        ("RS256", &RSA.sign, Key::pem(RSA.public.as_bytes()).unwrap()),
        ("RS512", &RSA.sign, Key::pem(RSA.public.as_bytes()).unwrap()),
        ("PS384", &RSA.sign, Key::pem(RSA.public.as_bytes()).unwrap()),
        (
            "ES256",
            &P256.sign,
            Key::pem(P256.public.as_bytes()).unwrap(),
        ),
        (
            "ES384",
            &P384.sign,
            Key::pem(P384.public.as_bytes()).unwrap(),
        ),
        ("EdDSA", &ED.sign, Key::pem(ED.public.as_bytes()).unwrap()),
    ];
    for (name, sign, key) in rows {
        let (_, algorithm) = *ALGORITHMS.iter().find(|(n, _)| *n == name).unwrap();
        assert!(key.algorithms.contains(&algorithm), "{name}");
        let token = raw(&json!({ "alg": name }), &claims(json!({})), sign, algorithm);
        let site = Authenticator::new(vec![jwt(
            "s",
            &[name],
            vec![key],
            vec![Place::Authorization],
        )]);
        assert_eq!(ask(&site, &bearer(&token)), "ann of s", "{name}");
        // Every other key refuses it, also where its algorithm is pinned.
        for wrong in [&RSA.public, &P256.public, &P384.public, &ED.public] {
            let key = Key::pem(wrong.as_bytes()).unwrap();
            if !key.algorithms.contains(&algorithm) {
                let site = Authenticator::new(vec![jwt(
                    "s",
                    &[name],
                    vec![key],
                    vec![Place::Authorization],
                )]);
                assert_eq!(ask(&site, &bearer(&token)), "s: unknown_key", "{name}");
            }
        }
    }
}

#[test]
fn keys_of_a_set_are_chosen_by_kid_and_used_as_the_set_says() {
    let jwk = |pair: &Pair, algorithm, changes: Value| {
        let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&pair.sign, algorithm).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        for (name, value) in changes.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        jwk
    };
    // The last 32 bytes of the PEM are the point itself (RFC 8410 §4).
    let ed_point = {
        let lines = ED.public.lines().filter(|line| !line.starts_with('-'));
        let der = STANDARD.decode(lines.collect::<String>()).unwrap();
        URL_SAFE_NO_PAD.encode(&der[der.len() - 32..])
    };
    let set = json!({ "keys": [
        jwk(&OTHER_RSA, Algorithm::RS256, json!({ "kid": "old" })),
        jwk(&RSA, Algorithm::RS256, json!({ "kid": "new", "use": "sig" })),
        jwk(&P256, Algorithm::ES256, json!({ "kid": "ec", "key_ops": ["verify"] })),
        { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": ed_point },
        jwk(&RSA, Algorithm::RS256, json!({ "kid": "enc", "use": "enc" })),
        jwk(&RSA, Algorithm::RS256, json!({ "kid": "wrap", "key_ops": ["wrapKey"] })),
        jwk(&P256, Algorithm::ES256, json!({ "kid": "curve", "crv": "P-384" })),
        { "kty": "RSA", "kid": "weak", "n": "q83v", "e": "AQAB" },
        { "kty": "oct", "kid": "short", "k": "c2hvcnQ" },
        { "kty": "AKP", "kid": "future", "alg": "ML-DSA-44", "pub": "x" },
        "nonsense",
    ] });
    let (keys, passed_over) = Key::set(set.to_string().as_bytes()).unwrap();
    assert_eq!((keys.len(), passed_over), (4, 7));
    let source = jwt(
        "set",
        &["RS256", "PS256", "ES256", "EdDSA", "HS256"],
        keys,
        vec![Place::Authorization],
    );
    let site = Authenticator::new(vec![source]);
    let token = |header: Value, pair: &Pair, algorithm| {
        raw(&header, &claims(json!({})), &pair.sign, algorithm)
    };
    for (token, want, why) in [
        (
            token(
                json!({ "alg": "RS256", "kid": "gone" }),
                &RSA,
                Algorithm::RS256,
            ),
            "set: unknown_key",
            "no such key",
        ),
        (
            token(
                json!({ "alg": "RS256", "kid": "old" }),
                &RSA,
                Algorithm::RS256,
            ),
            "set: bad_signature",
            "another key's name",
        ),
        (
            token(
                json!({ "alg": "RS256", "kid": "enc" }),
                &RSA,
                Algorithm::RS256,
            ),
            "set: unknown_key",
            "a key for encryption",
        ),
        (
            token(
                json!({ "alg": "RS256", "kid": "wrap" }),
                &RSA,
                Algorithm::RS256,
            ),
            "set: unknown_key",
            "a key for wrapping",
        ),
        (
            token(
                json!({ "alg": "RS256", "kid": "ec" }),
                &RSA,
                Algorithm::RS256,
            ),
            "set: unknown_key",
            "a key of another family",
        ),
        (
            token(
                json!({ "alg": "PS256", "kid": "new" }),
                &RSA,
                Algorithm::PS256,
            ),
            "set: unknown_key",
            "the set says RS256 only",
        ),
        (
            token(
                json!({ "alg": "RS256", "kid": "new" }),
                &RSA,
                Algorithm::RS256,
            ),
            "ann of set",
            "named",
        ),
        (
            token(json!({ "alg": "RS256" }), &RSA, Algorithm::RS256),
            "ann of set",
            "not named: each is tried",
        ),
        (
            token(
                json!({ "alg": "ES256", "kid": "ec" }),
                &P256,
                Algorithm::ES256,
            ),
            "ann of set",
            "curve",
        ),
        (
            token(
                json!({ "alg": "EdDSA", "kid": "ed" }),
                &ED,
                Algorithm::EdDSA,
            ),
            "ann of set",
            "Edwards",
        ),
    ] {
        assert_eq!(ask(&site, &bearer(&token)), want, "{why}");
    }
}

#[test]
fn what_is_no_public_key_is_refused_at_load() {
    let small = "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAL2VLHwX7yHZ/5xdVSUhpqMWOhhJrYgd\nyLeXO4fCJv5gSbVgNmRuCIFtLqIBn8FQZgXvcT0GWP0TuiQjwrOPrJ0CAwEAAQ==\n-----END PUBLIC KEY-----\n";
    let private = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for (text, want) in [
        ("", KeyError::NotPem),
        ("nonsense", KeyError::NotPem),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            KeyError::Unusable,
        ),
        (small, KeyError::Unusable), // RSA of 512 bits
        (&private, KeyError::Private),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            KeyError::Certificate,
        ),
    ] {
        assert_eq!(Key::pem(text.as_bytes()).err(), Some(want), "{text}");
    }
    for text in ["", "[]", "{}", r#"{"keys":{}}"#, "{\"keys\":[}"] {
        assert_eq!(
            Key::set(text.as_bytes()).err(),
            Some(KeyError::NotJwks),
            "{text}"
        );
    }
}

#[test]
fn tokens_are_found_in_their_places_only() {
    let header = HeaderName::from_static("x-token");
    let key = || vec![Key::secret(SECRET)];
    let named = jwt(
        "named",
        &["HS256"],
        key(),
        vec![
            Place::Header(header.clone()),
            Place::Cookie(Box::from("session")),
        ],
    );
    let named = Authenticator::new(vec![named]);
    let usual = Authenticator::new(vec![hs_source()]);
    let good = good();
    let other = hs(&json!({ "alg": "HS256" }), &claims(json!({ "sub": "bob" })));
    let cookie = |value: String| vec![(COOKIE, value)];
    for (site, fields, want, why) in [
        (
            &named,
            bearer(&good).to_vec(),
            "nobody: wrong_algorithm",
            "no source looks there",
        ),
        (
            &usual,
            cookie(format!("session={good}")),
            "none",
            "no source looks there",
        ),
        (
            &usual,
            vec![(AUTHORIZATION, good.clone())],
            "none",
            "no scheme",
        ),
        (
            &usual,
            vec![(AUTHORIZATION, format!("Digest {good}"))],
            "none",
            "another scheme",
        ),
        (
            &usual,
            vec![(AUTHORIZATION, "Bearer".to_owned())],
            "nobody: malformed",
            "a scheme without token",
        ),
        (
            &usual,
            [bearer(&good), bearer(&good)].concat(),
            "nobody: repeated",
            "twice: the upstream may read the other",
        ),
        (
            &named,
            vec![
                (header.clone(), good.clone()),
                (header.clone(), good.clone()),
            ],
            "named: repeated",
            "twice",
        ),
        (
            &named,
            cookie(format!("session={good}x")),
            "named: bad_signature",
            "claimed, and bad",
        ),
        (
            &named,
            cookie(format!("session={good}; session={other}")),
            "conflict",
            "two subjects in two cookies of one name",
        ),
        (
            &named,
            vec![
                (header.clone(), good.clone()),
                (COOKIE, format!("session={other}")),
            ],
            "conflict",
            "two subjects in two places",
        ),
        (
            &named,
            cookie("session=opaque".to_owned()),
            "none",
            "a cookie of the application",
        ),
        (
            &named,
            cookie(format!("xsession={good}")),
            "none",
            "names are compared whole",
        ),
        (
            &named,
            cookie([good.as_str(); 6].map(|t| format!("session={t}")).join(";")),
            "nobody: too_many",
            "work is bounded",
        ),
        (
            &usual,
            vec![(AUTHORIZATION, format!("bEARER   {good} "))],
            "ann of hs",
            "schemes have no case, spaces are many",
        ),
        (
            &named,
            vec![(header.clone(), good.clone())],
            "ann of named",
            "bare",
        ),
        (
            &named,
            vec![(header.clone(), format!("Bearer {good}"))],
            "ann of named",
            "with its scheme",
        ),
        (
            &named,
            cookie(format!("a=b; session=\"{good}\"; c=d")),
            "ann of named",
            "quoted, among others",
        ),
        (
            &named,
            vec![
                (COOKIE, "a=b".to_owned()),
                (COOKIE, format!("session={good}")),
            ],
            "ann of named",
            "in a second field",
        ),
        (
            &named,
            cookie(format!("session=opaque; session={good}")),
            "ann of named",
            "beside the application's own",
        ),
        (
            &named,
            vec![
                (header.clone(), good.clone()),
                (COOKIE, format!("session={good}")),
            ],
            "ann of named",
            "the same twice",
        ),
    ] {
        assert_eq!(ask(site, &fields), want, "{why}");
    }
}

#[test]
fn a_remembered_token_ends_on_time_and_stays_on_its_site() {
    let site = Authenticator::new(vec![hs_source()]);
    let token = bearer(&good());
    let at = |second: i64| {
        ask_from(
            &site,
            &token,
            None,
            "::1",
            Timestamp::from_second(second).unwrap(),
        )
    };
    assert_eq!(at(NOW), "ann of hs");
    assert_eq!(at(NOW + 359), "ann of hs", "remembered");
    assert_eq!(at(NOW + 360), "hs: expired");
    assert_eq!(at(NOW), "ann of hs", "the clock was set back");
    // Another site with another audience must not profit.
    let mut strict = hs_source();
    if let Kind::Jwt(jwt) = &mut Arc::get_mut(&mut strict).unwrap().kind {
        jwt.audience = vec![Box::from("bank")];
    }
    let strict = Authenticator::new(vec![strict]);
    assert_eq!(ask(&strict, &token), "hs: wrong_audience");
    assert_eq!(
        ask(&Authenticator::new(Vec::new()), &token),
        "none",
        "a site without sources"
    );
}

#[test]
fn a_principal_carries_what_the_token_says() {
    let site = Authenticator::new(vec![hs_source()]);
    let mut headers = HeaderMap::new();
    headers.insert(
        AUTHORIZATION,
        HeaderValue::from_str(&format!("Bearer {}", good())).unwrap(),
    );
    let head = Head {
        headers: &headers,
        query: None,
        client: [127, 0, 0, 1].into(),
        peer: [127, 0, 0, 1].into(),
        ask: None,
        certificate: None,
        revoked: None,
        guard: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for round in ["verified", "remembered"] {
        let Presented::Valid(who) = runtime.block_on(site.authenticate(&head, now())) else {
            panic!("not valid");
        };
        let roles: Vec<&str> = who.roles.iter().map(|role| &**role).collect();
        assert_eq!(roles, ["staff", "ops"], "{round}");
        assert_eq!(who.claims["aud"], "app", "{round}");
        assert_eq!(
            who.expires.unwrap().as_second(),
            NOW + 360,
            "leeway included, {round}"
        );
    }
}

#[test]
fn keys_are_known_by_their_hash_from_their_networks_until_they_end() {
    let site = Authenticator::new(vec![key_source("keys")]);
    let field = HeaderName::from_static("x-api-key");
    let key = |value: &str| vec![(field.clone(), value.to_owned())];
    let asked = |fields: &[(HeaderName, String)], query, client| {
        ask_from(&site, fields, query, client, now())
    };
    let there = "192.0.2.9";
    for (fields, query, client, want, why) in [
        (
            key("key-nobody"),
            None,
            there,
            "keys: unknown_credential",
            "no such key",
        ),
        (
            key("KEY-ANN"),
            None,
            there,
            "keys: unknown_credential",
            "case counts",
        ),
        (
            key(&"x".repeat(2000)),
            None,
            there,
            "keys: too_large",
            "bounded",
        ),
        (
            key("key-old"),
            None,
            there,
            "keys: expired",
            "over since this second",
        ),
        (
            key("key-net"),
            None,
            "198.51.100.7",
            "keys: wrong_network",
            "from elsewhere",
        ),
        (
            [key("key-ann"), key("key-ann")].concat(),
            None,
            there,
            "keys: repeated",
            "twice",
        ),
        (
            key("key-ann"),
            Some("api+key=key-bob"),
            there,
            "conflict",
            "two keys of two users",
        ),
        (
            vec![],
            Some("API+KEY=key-ann"),
            there,
            "none",
            "another name",
        ),
        (vec![], Some("api%20key=%ff"), there, "none", "no text"),
        (key(""), None, there, "none", "empty"),
        (vec![], None, there, "none", "nothing"),
        (key("key-ann"), None, there, "ann of keys", "good"),
        (
            key("key-bob"),
            None,
            there,
            "bob of keys",
            "its last second",
        ),
        (
            key("key-net"),
            None,
            there,
            "net of keys",
            "from its network",
        ),
        (
            vec![],
            Some("x=1&api%20key=key%2Dann"),
            there,
            "ann of keys",
            "decoded once",
        ),
        (
            bearer("opaque").into_iter().chain(key("key-ann")).collect(),
            None,
            there,
            "ann of keys",
            "an unclaimed token beside it",
        ),
    ] {
        assert_eq!(asked(&fields, query, client), want, "{why}");
    }
    assert_eq!(
        asked(&bearer("opaque"), None, there),
        "nobody: malformed",
        "a token is a credential everywhere"
    );
}

#[test]
fn passwords_fit_their_users_only() {
    let site = Authenticator::new(vec![user_source("users")]);
    let basic = |value: &str| vec![(AUTHORIZATION, format!("Basic {value}"))];
    for (fields, want, why) in [
        (
            login("ann:wrong").to_vec(),
            "users: unknown_credential",
            "bcrypt, wrong",
        ),
        (
            login("bob:wrong").to_vec(),
            "users: unknown_credential",
            "argon2, wrong",
        ),
        (
            login("eve:wrong").to_vec(),
            "users: unknown_credential",
            "SHA, wrong",
        ),
        (
            login("ann:").to_vec(),
            "users: unknown_credential",
            "empty password",
        ),
        (
            login("mallory:right").to_vec(),
            "users: unknown_credential",
            "no such user, with the password of a decoy",
        ),
        (
            login("mallory2:right").to_vec(),
            "users: unknown_credential",
            "and of another",
        ),
        (
            login(":right").to_vec(),
            "users: unknown_credential",
            "no user",
        ),
        (
            login("Ann:right").to_vec(),
            "users: unknown_credential",
            "case counts",
        ),
        (login("ann").to_vec(), "users: malformed", "no colon"),
        (
            login("ann:ri\0ght").to_vec(),
            "users: malformed",
            "control character (RFC 7617 §2)",
        ),
        (basic("!!!"), "users: malformed", "no base64"),
        (basic(""), "users: malformed", "nothing"),
        (
            basic(&STANDARD.encode([b'a', b':', 0xff])),
            "users: malformed",
            "no UTF-8",
        ),
        (basic(&"A".repeat(5000)), "users: too_large", "bounded"),
        (
            [login("ann:right"), login("ann:right")].concat(),
            "nobody: repeated",
            "twice",
        ),
        (login("ann:right").to_vec(), "ann of users", "bcrypt"),
        (login("ann:right").to_vec(), "ann of users", "remembered"),
        (
            login("ann:wrong").to_vec(),
            "users: unknown_credential",
            "wrong after right",
        ),
        (login("bob:right").to_vec(), "bob of users", "argon2"),
        (login("eve:right").to_vec(), "eve of users", "SHA"),
        (
            basic(STANDARD.encode("ann:right").trim_end_matches('=')),
            "ann of users",
            "without padding",
        ),
    ] {
        assert_eq!(ask(&site, &fields), want, "{why}");
    }
    let none = Authenticator::new(vec![hs_source()]);
    assert_eq!(
        ask(&none, &login("ann:right")),
        "none",
        "a login that no source takes is none"
    );
}

#[test]
fn a_file_of_users_tells_its_bad_lines() {
    let good = bcrypt::hash("x", 4).unwrap();
    for (line, bad) in [
        ("ann", true),
        (":x", true),
        ("ann:", true),
        ("ann:plain", true),
        ("ann:$apr1$salt$hash", true),
        (
            "ann:$2x$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui",
            true,
        ), // the broken variant
        (
            "ann:$2y$31$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui",
            true,
        ), // would take days
        ("ann:$2y$05$short", true),
        ("ann:{SHA}short", true),
        (
            "ann:$argon2id$v=19$m=4294967295,t=9,p=1$c2FsdHNhbHQ$aGFzaGhhc2g",
            true,
        ), // 4 TiB
        (
            "ann:$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g",
            true,
        ),
        ("# ann:plain", false),
        ("", false),
    ] {
        let file = format!("bob:{good}\n{line}\nbob:{good}\n");
        let parsed = Users::parse(&file, &Arc::from("users"));
        let lines: Vec<usize> = parsed.bad.iter().map(|(line, _)| *line).collect();
        let want = if bad { vec![2, 3] } else { vec![3] };
        assert_eq!(lines, want, "{line}");
    }
}

#[test]
fn one_principal_comes_of_several_credentials() {
    let users = user_source("users");
    let keys = key_source("keys");
    let (first, last) = (
        Authenticator::new(vec![keys.clone(), hs_source(), users.clone()]),
        Authenticator::new(vec![hs_source(), users, keys]),
    );
    let field = HeaderName::from_static("x-api-key");
    let with = |fields: &[(HeaderName, String)], key: &str| {
        [fields, &[(field.clone(), key.to_owned())]].concat()
    };
    let bad = bearer(&format!("{}x", good()));
    for (fields, keys_first, keys_last, why) in [
        (
            with(&bearer(&good()), "key-bob"),
            "conflict",
            "conflict",
            "two subjects",
        ),
        (
            with(&login("bob:right"), "key-ann"),
            "conflict",
            "conflict",
            "two subjects",
        ),
        (
            with(&bad, "key-nobody"),
            "hs: bad_signature",
            "hs: bad_signature",
            "of bad ones the token is told: its challenge says so",
        ),
        (
            with(&bearer(&good()), "key-ann"),
            "ann of keys",
            "ann of hs",
            "one subject: the first source",
        ),
        (
            with(&bad, "key-ann"),
            "ann of keys",
            "ann of keys",
            "the one that is valid",
        ),
        (
            with(&bearer(&good()), "key-old"),
            "ann of hs",
            "ann of hs",
            "the one that is valid",
        ),
    ] {
        assert_eq!(ask(&first, &fields), keys_first, "{why}");
        assert_eq!(ask(&last, &fields), keys_last, "{why}");
    }
    assert_eq!(
        first.names().map(|n| &**n).collect::<Vec<_>>(),
        ["keys", "hs", "users"]
    );
    assert_eq!(first.credential_headers(), [AUTHORIZATION, field.clone()]);
    assert_eq!(first.credential_queries().collect::<Vec<_>>(), ["api key"]);
    assert!(!first.forwards_by_default() && !first.certificate_only() && !first.is_empty());
    let tokens = Authenticator::new(vec![hs_source(), rs_source()]);
    assert!(tokens.forwards_by_default());
}

#[test]
fn two_tokens_without_subject_are_two_subjects() {
    let header = HeaderName::from_static("x-token");
    let second = jwt(
        "second",
        &["HS256"],
        vec![Key::secret(SECRET)],
        vec![Place::Header(header.clone())],
    );
    let site = Authenticator::new(vec![hs_source(), second]);
    let nameless = |scope: &str| {
        hs(
            &json!({ "alg": "HS256" }),
            &claims(json!({ "sub": null, "scope": scope })),
        )
    };
    let fields = [bearer(&nameless("a")), [(header, nameless("b"))]].concat();
    assert_eq!(ask(&site, &fields), "conflict");
}

#[test]
fn challenges_say_how_to_sign_in_and_what_was_wrong() {
    let site = Authenticator::new(vec![
        hs_source(),
        rs_source(),
        user_source("users"),
        key_source("keys"),
    ]);
    let told = |presented: &Presented| -> Vec<String> {
        let challenges = site.challenges(presented).iter();
        challenges
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    };
    let plain = [
        "Bearer realm=\"r\"",
        "Basic realm=\"r\"",
        "ApiKey realm=\"r\"",
    ];
    let invalid = |source: Option<&str>| Presented::Invalid {
        source: source.map(Arc::from),
        error: AuthError::Malformed,
    };
    assert_eq!(told(&Presented::None), plain, "one for both token sources");
    assert_eq!(told(&invalid(Some("users"))), plain, "no token was sent");
    assert_eq!(told(&invalid(Some("keys"))), plain, "no token was sent");
    for source in [Some("rs"), None] {
        let told = told(&invalid(source));
        assert_eq!(told[0], "Bearer realm=\"r\", error=\"invalid_token\"");
        assert_eq!(told[1..], plain[1..]);
    }
}

#[test]
fn a_full_queue_for_passwords_is_no_wrong_password() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let hashing = Hashing::new(1, 1);
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let running = hashing.run(&|| None, move || wait.recv().is_ok());
        let waiting = hashing.run(&|| None, || true);
        let mut running = std::pin::pin!(running);
        let mut waiting = std::pin::pin!(waiting);
        // One look at each, so that nothing here can wait for ever.
        let mut look = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(running.as_mut().poll(&mut look).is_pending());
        assert!(waiting.as_mut().poll(&mut look).is_pending());
        let mut refused = std::pin::pin!(hashing.run(&|| None, || true));
        let refused = refused.as_mut().poll(&mut look);
        assert_eq!(refused, std::task::Poll::Ready(Err(Unhashed::Overloaded)));
        release.send(()).unwrap();
        assert_eq!(tokio::join!(running, waiting), (Ok(true), Ok(true)));
        assert_eq!(hashing.run(&|| None, || 7).await, Ok(7), "and it recovers");
    });
}

/// Counted, not timed: each of them costs one hash of the file's own kind.
#[test]
fn an_unknown_user_costs_what_a_wrong_password_costs() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let file = format!("ann:{}\n", bcrypt::hash("right", 4).unwrap());
    let users = Users::parse(&file, &Arc::from("users")).users;
    let hashing = Hashing::new(1, 8);
    let verify = |pair: &str, held: Option<Duration>| {
        let before = hashing.begun();
        let login = Login::read(&STANDARD.encode(pair)).unwrap();
        let outcome = runtime.block_on(users.verify(login, &hashing, &|| held));
        (outcome.map(|found| found.is_ok()), hashing.begun() - before)
    };
    let wait = Duration::from_secs(7);
    for (pair, held, want, hashes, why) in [
        ("ann:wrong", None, Ok(false), 1, "a wrong password"),
        ("bob:wrong", None, Ok(false), 1, "an unknown user"),
        ("bob:right", None, Ok(false), 1, "with somebody's password"),
        ("ann:", None, Ok(false), 1, "an empty password"),
        (":", None, Ok(false), 1, "no name at all"),
        ("ann:right", None, Ok(true), 1, "the right one"),
        (
            "ann:right",
            Some(wait),
            Err(Unhashed::Held(wait)),
            0,
            "held",
        ),
        (
            "bob:wrong",
            Some(wait),
            Err(Unhashed::Held(wait)),
            0,
            "held",
        ),
    ] {
        assert_eq!(verify(pair, held), (want, hashes), "{pair}: {why}");
    }
}

/// Each row begins with no failure; two are enough for a hold.
#[test]
fn guesses_are_counted_and_make_their_network_wait() {
    let site = Authenticator::new(vec![hs_source(), key_source("keys"), user_source("users")]);
    let key = |key: &str| [(HeaderName::from_static("x-api-key"), key.to_owned())];
    let both = |one: &[(HeaderName, String)], other: &[(HeaderName, String)]| [one, other].concat();
    let good = bearer(&good()).to_vec();
    let signed =
        |changes: Value| bearer(&hs(&json!({ "alg": "HS256" }), &claims(changes))).to_vec();
    let right = login("ann:right").to_vec();
    let wrong = login("ann:wrong").to_vec();
    let other = bearer(&raw(
        &json!({ "alg": "HS256" }),
        &claims(json!({})),
        &EncodingKey::from_secret(b"another secret of thirty-two bytes"),
        Algorithm::HS256,
    ));
    // What is sent twice, what is sent then, and what comes of that.
    for (guess, then, want, why) in [
        (&wrong, &right, "held for", "a right password waits as well"),
        (&wrong, &wrong, "held for", "a wrong one"),
        (&wrong, &good, "ann of hs", "a token is no guess: it passes"),
        (
            &wrong,
            &key("key-ann").to_vec(),
            "ann of keys",
            "nor is a key",
        ),
        (
            &wrong,
            &other.to_vec(),
            "held for",
            "a wrong token is not told that it is wrong",
        ),
        (
            &wrong,
            &key("key-eve").to_vec(),
            "held for",
            "nor is a wrong key",
        ),
        (&wrong, &Vec::new(), "none", "who shows nothing is not held"),
        (
            &wrong,
            &both(&right, &key("key-ann")),
            "held for",
            "a key beside it does not help",
        ),
        (
            &login("zoe:right").to_vec(),
            &right,
            "held for",
            "unknown users count",
        ),
        (
            &login("ann").to_vec(),
            &right,
            "held for",
            "so does what is no login",
        ),
        (
            &other.to_vec(),
            &right,
            "held for",
            "tokens of another hand count",
        ),
        (
            &bearer("x").to_vec(),
            &right,
            "held for",
            "and what is no token",
        ),
        (
            &key("key-eve").to_vec(),
            &right,
            "held for",
            "unknown keys count",
        ),
        (
            &both(&wrong, &key("key-ann")),
            &right,
            "held for",
            "a good key beside a guess hides nothing",
        ),
        (
            &right,
            &right,
            "ann of users",
            "what is right does not count",
        ),
        (&Vec::new(), &right, "ann of users", "nor does nothing"),
        (
            &signed(json!({ "exp": NOW - 61 })),
            &right,
            "ann of users",
            "nor a true token that has ended",
        ),
        (
            &signed(json!({ "nbf": NOW + 61 })),
            &right,
            "ann of users",
            "or has not begun",
        ),
        (
            &signed(json!({ "aud": "x" })),
            &right,
            "ann of users",
            "or is for somebody else",
        ),
        (
            &key("key-old").to_vec(),
            &right,
            "ann of users",
            "nor a true key that has ended",
        ),
        (
            &key("key-net").to_vec(),
            &right,
            "ann of users",
            "or comes from elsewhere",
        ),
        (
            &vec![(AUTHORIZATION, "Digest x".to_owned())],
            &right,
            "ann of users",
            "nor what is none of ours",
        ),
    ] {
        let failures = Failures::new(Settings {
            failures: 2,
            per: Duration::from_secs(3600),
            hold: Duration::from_secs(3600),
        });
        let ask = |fields: &[(HeaderName, String)], client| {
            ask_guarded(&site, fields, None, client, now(), Some(&failures))
        };
        for _ in 0..2 {
            let first = ask(guess, "198.51.100.7");
            assert!(!first.starts_with("held"), "{why}: {first}");
        }
        let got = ask(then, "198.51.100.7");
        assert!(got.starts_with(want), "{why}: {got}");
        let elsewhere = ask(&right, "198.51.100.8");
        assert_eq!(elsewhere, "ann of users", "{why}: a neighbour");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_us_panic_or_let_anybody_in(
        scheme in prop_oneof!["Bearer ", "Basic ", "bearer\t", "", ".{0,8}"],
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        query in ".{0,60}",
        cut in any::<prop::sample::Index>(),
        put in any::<u8>(),
    ) {
        let keys = key_source("keys");
        let named = jwt("named", &["HS256"], vec![Key::secret(SECRET)], vec![
            Place::Header(HeaderName::from_static("x-token")), Place::Cookie(Box::from("t")),
        ]);
        let site = Authenticator::new(vec![hs_source(), named, keys]);
        let changed = {
            let mut token = good().into_bytes();
            let at = cut.index(token.len());
            token[at] = put;
            token
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for value in [&bytes, &changed] {
            let mut headers = HeaderMap::new();
            let with = [scheme.as_bytes(), value].concat();
            let mut put = |name: &'static str, value: &[u8]| {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    headers.append(HeaderName::from_static(name), value);
                }
            };
            put("authorization", &with);
            put("x-token", value);
            put("x-api-key", value);
            put("cookie", &[b"t=", value.as_slice()].concat());
            let head = Head { headers: &headers, query: Some(&query), client: [127, 0, 0, 1].into(), peer: [127, 0, 0, 1].into(), ask: None, certificate: None, revoked: None, guard: None };
            let presented = runtime.block_on(site.authenticate(&head, now()));
            let untouched = *value == good().into_bytes();
            prop_assert!(untouched || !matches!(presented, Presented::Valid(_)), "{presented:?}");
        }
    }
}
