//! The JWT Best Current Practices (RFC 8725), section by section: one row per attack, with the section that tells of it.
//! What a configuration may say (short secrets, `none`) is tested where it is read.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests may stop at the first surprise"
)]

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::Authenticator;
use super::keys::{Key, KeyError};
use super::source::Place;
use super::tests::{
    ED, NOW, OTHER_RSA, P256, P384, RSA, SECRET, ask, bearer, claims, good, hs, hs_source, jwt,
    raw, rs_source,
};

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Header and payload as text, whatever that is, under our secret.
fn words(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    let signed = format!("{}.{}", encode(header), encode(payload));
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

/// A token with this signature, made by nobody.
fn forged(algorithm: &str, signature: &[u8]) -> String {
    let header = json!({ "alg": algorithm }).to_string();
    let payload = claims(json!({})).to_string();
    format!(
        "{}.{}.{}",
        encode(header),
        encode(payload),
        encode(signature)
    )
}

fn signature_of(token: &str) -> Vec<u8> {
    let (_, signature) = token.rsplit_once('.').unwrap();
    URL_SAFE_NO_PAD.decode(signature).unwrap()
}

fn with_signature(token: &str, signature: &[u8]) -> String {
    let (signed, _) = token.rsplit_once('.').unwrap();
    format!("{signed}.{}", encode(signature))
}

/// The DER of a signature: how OpenSSL writes it, and JWS does not (RFC 7518 §3.4).
fn der(signature: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let mut bytes: Vec<u8> = bytes
            .iter()
            .copied()
            .skip_while(|byte| *byte == 0)
            .collect();
        if bytes.first().is_some_and(|first| first & 0x80 != 0) {
            bytes.insert(0, 0);
        }
        [&[2, u8::try_from(bytes.len()).unwrap()], bytes.as_slice()].concat()
    };
    let (r, s) = signature.split_at(32);
    let both = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(both.len()).unwrap()], both.as_slice()].concat()
}

/// `r` unchanged and `n - s`: as good a signature of the same message, to whoever does not compare tokens.
fn mirrored(signature: &[u8]) -> Vec<u8> {
    let (r, s) = signature.split_at(32);
    let mut difference = [0_u8; 32];
    let mut borrow = 0_i16;
    for at in (0..32).rev() {
        let digit = i16::from(ORDER[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(digit < 0);
        difference[at] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    [r, &difference].concat()
}

/// The order of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

#[test]
fn every_section_has_its_attacks_and_all_fail() {
    let source = |name: &str, algorithm: &str, key: &str| {
        let key = Key::pem(key.as_bytes()).unwrap();
        jwt(name, &[algorithm], vec![key], vec![Place::Authorization])
    };
    let site = Authenticator::new(vec![
        hs_source(),
        rs_source(),
        source("es", "ES256", &P256.public),
        source("ed", "EdDSA", &ED.public),
    ]);
    let only_rs = Authenticator::new(vec![rs_source()]);
    let fine = claims(json!({}));
    let text = fine.to_string();
    let hs256 = r#"{"alg":"HS256"}"#;
    let under = |header: Value, pair: &super::tests::Pair, algorithm| {
        raw(&header, &fine, &pair.sign, algorithm)
    };
    let secret = |secret: &[u8]| EncodingKey::from_secret(secret);
    let pem = &RSA.public;
    let stripped: String = pem.lines().filter(|line| !line.contains("-----")).collect();
    let public = STANDARD.decode(stripped).unwrap();
    let es = under(json!({ "alg": "ES256" }), &P256, Algorithm::ES256);
    let es_signature = signature_of(&es);
    let twice = [ORDER, ORDER].concat();
    let one = [[0; 31].as_slice(), &[1], &[0; 31], &[1]].concat();
    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&OTHER_RSA.sign, Algorithm::RS256).unwrap();
    let bring = |name: &str, value: Value| {
        let mut header = json!({ "alg": "RS256" });
        header[name] = value;
        under(header, &OTHER_RSA, Algorithm::RS256)
    };
    let kid = |kid: &str| {
        let header = json!({ "alg": "RS256", "kid": kid });
        under(header, &OTHER_RSA, Algorithm::RS256)
    };
    let of_type = |typ: &str| hs(&json!({ "alg": "HS256", "typ": typ }), &fine);
    let jwe = |header: Value| {
        let parts = ["key", "iv", "text", "tag"].map(encode);
        format!("{}.{}", encode(header.to_string()), parts.join("."))
    };
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let member = |more: &str| format!("{{{more},{}", &text[1..]);
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(3000), "]".repeat(3000));
    let rows = [
        // 2.1 Weak signatures and insufficient signature validation.
        (
            "2.1",
            &site,
            forged("none", b""),
            "nobody: wrong_algorithm",
            "none",
        ),
        (
            "2.1",
            &site,
            forged("None", b""),
            "nobody: wrong_algorithm",
            "None",
        ),
        (
            "2.1",
            &site,
            forged("nOnE", b"x"),
            "nobody: wrong_algorithm",
            "none, with a signature",
        ),
        (
            "2.1",
            &site,
            forged("HS256", b""),
            "hs: bad_signature",
            "the signature taken away",
        ),
        (
            "2.1",
            &site,
            raw(
                &json!({ "alg": "HS256" }),
                &fine,
                &secret(pem.as_bytes()),
                Algorithm::HS256,
            ),
            "hs: bad_signature",
            "RSA's public PEM as HMAC secret",
        ),
        (
            "2.1",
            &site,
            raw(
                &json!({ "alg": "HS256" }),
                &fine,
                &secret(&public),
                Algorithm::HS256,
            ),
            "hs: bad_signature",
            "its DER",
        ),
        (
            "2.1",
            &only_rs,
            raw(
                &json!({ "alg": "HS256" }),
                &fine,
                &secret(pem.as_bytes()),
                Algorithm::HS256,
            ),
            "nobody: wrong_algorithm",
            "where RSA alone is pinned",
        ),
        (
            "2.1",
            &only_rs,
            raw(
                &json!({ "alg": "RS256" }),
                &fine,
                &secret(pem.as_bytes()),
                Algorithm::HS256,
            ),
            "rs: bad_signature",
            "an HMAC that calls itself RS256",
        ),
        (
            "2.1",
            &site,
            forged("ES256", &[0; 64]),
            "es: bad_signature",
            "the psychic signature: r and s are 0 (CVE-2022-21449)",
        ),
        (
            "2.1",
            &site,
            forged("ES256", &twice),
            "es: bad_signature",
            "r and s are the order, which is 0 again",
        ),
        (
            "2.1",
            &site,
            forged("ES256", &one),
            "es: bad_signature",
            "r and s are 1",
        ),
        (
            "2.1",
            &site,
            forged("ES256", &[0xff; 64]),
            "es: bad_signature",
            "beyond the order",
        ),
        (
            "2.1",
            &site,
            forged("EdDSA", &[0; 64]),
            "ed: bad_signature",
            "a point of small order and 0",
        ),
        (
            "2.1",
            &site,
            forged("RS256", &[0; 256]),
            "rs: bad_signature",
            "RSA of 0",
        ),
        (
            "2.1",
            &site,
            forged("RS256", &[&[0; 255][..], &[1]].concat()),
            "rs: bad_signature",
            "RSA of 1",
        ),
        // 2.2 Weak symmetric keys.
        (
            "2.2",
            &site,
            raw(
                &json!({ "alg": "HS256" }),
                &fine,
                &secret(b""),
                Algorithm::HS256,
            ),
            "hs: bad_signature",
            "no secret at all",
        ),
        (
            "2.2",
            &site,
            raw(
                &json!({ "alg": "HS256" }),
                &fine,
                &secret(b"secret"),
                Algorithm::HS256,
            ),
            "hs: bad_signature",
            "what everybody tries first",
        ),
        // 2.3 Incorrect composition of encryption and signature.
        (
            "2.3",
            &site,
            jwe(json!({ "alg": "dir", "enc": "A256GCM" })),
            "nobody: malformed",
            "an encrypted token",
        ),
        (
            "2.3",
            &site,
            jwe(json!({ "alg": "HS256", "enc": "A256GCM", "cty": "JWT" })),
            "nobody: malformed",
            "with a token in it",
        ),
        (
            "2.3",
            &site,
            words(r#"{"alg":"HS256","cty":"JWT"}"#, good()),
            "nobody: malformed",
            "a token around a token",
        ),
        // 2.4 Plaintext leakage: what is compressed and encrypted.
        (
            "2.4",
            &site,
            jwe(json!({ "alg": "dir", "enc": "A256GCM", "zip": "DEF" })),
            "nobody: malformed",
            "compressed and encrypted",
        ),
        // 2.5 Insecure use of elliptic curves.
        (
            "2.5",
            &site,
            jwe(
                json!({ "alg": "ECDH-ES", "enc": "A128GCM", "epk": { "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" } }),
            ),
            "nobody: malformed",
            "a key agreement, with a point on no curve",
        ),
        // 2.6 Multiplicity of JSON encodings.
        (
            "2.6",
            &site,
            words(hs256, &utf16),
            "nobody: malformed",
            "UTF-16",
        ),
        (
            "2.6",
            &site,
            words(hs256, format!("\u{feff}{text}")),
            "nobody: malformed",
            "a byte order mark",
        ),
        (
            "2.6",
            &site,
            words(hs256, member(r#""sub":"root""#)),
            "nobody: malformed",
            "a claim twice",
        ),
        (
            "2.6",
            &site,
            words(hs256, member(r#""s\u0075b":"root""#)),
            "nobody: malformed",
            "in another spelling",
        ),
        (
            "2.6",
            &site,
            words(hs256, member(r#""x":{"a":1,"a":2}"#)),
            "nobody: malformed",
            "deeper down",
        ),
        (
            "2.6",
            &site,
            words(r#"{"alg":"HS256","alg":"none"}"#, &text),
            "nobody: malformed",
            "a header parameter twice",
        ),
        (
            "2.6",
            &site,
            words(hs256, format!("{text}{text}")),
            "nobody: malformed",
            "two objects",
        ),
        (
            "2.6",
            &site,
            words(hs256, &deep),
            "nobody: malformed",
            "three thousand lists in each other",
        ),
        // 2.7 Substitution.
        (
            "2.7",
            &site,
            hs(
                &json!({ "alg": "HS256" }),
                &claims(json!({ "aud": "other" })),
            ),
            "hs: wrong_audience",
            "made for another",
        ),
        (
            "2.7",
            &site,
            hs(
                &json!({ "alg": "HS256" }),
                &claims(json!({ "iss": "evil" })),
            ),
            "nobody: wrong_issuer",
            "made by another",
        ),
        // 2.8 Cross-JWT confusion.
        (
            "2.8",
            &site,
            of_type("logout+jwt"),
            "hs: wrong_type",
            "a logout (OpenID Connect)",
        ),
        (
            "2.8",
            &site,
            of_type("secevent+jwt"),
            "hs: wrong_type",
            "a security event (RFC 8417)",
        ),
        (
            "2.8",
            &site,
            of_type("dpop+jwt"),
            "hs: wrong_type",
            "a proof of possession (RFC 9449)",
        ),
        (
            "2.8",
            &site,
            of_type("application/LOGOUT+JWT"),
            "hs: wrong_type",
            "in its long form and in capitals",
        ),
        // 2.9 Indirect attacks on the server.
        (
            "2.9",
            &site,
            bring("jku", "https://evil.example/jwks".into()),
            "rs: bad_signature",
            "a URL of keys: nobody fetches it",
        ),
        (
            "2.9",
            &site,
            bring("x5u", "https://evil.example/crt".into()),
            "rs: bad_signature",
            "a URL of certificates",
        ),
        (
            "2.9",
            &site,
            bring("x5c", json!(["MIIB"])),
            "rs: bad_signature",
            "a certificate brought along",
        ),
        (
            "2.9",
            &site,
            bring("jwk", serde_json::to_value(&jwk).unwrap()),
            "rs: bad_signature",
            "the key brought along",
        ),
        (
            "2.9",
            &site,
            kid("../../../dev/null"),
            "rs: bad_signature",
            "a kid that is a path",
        ),
        (
            "2.9",
            &site,
            kid("' OR '1'='1"),
            "rs: bad_signature",
            "a kid that is SQL",
        ),
        (
            "2.9",
            &site,
            kid("|/bin/true"),
            "rs: bad_signature",
            "a kid that is a command",
        ),
        (
            "2.9",
            &site,
            kid("http://169.254.169.254/"),
            "rs: bad_signature",
            "a kid that is a URL",
        ),
        // 3.1 Perform algorithm verification.
        (
            "3.1",
            &site,
            under(json!({ "alg": "PS256" }), &RSA, Algorithm::PS256),
            "nobody: wrong_algorithm",
            "the right key by another padding",
        ),
        (
            "3.1",
            &site,
            under(json!({ "alg": "RS512" }), &RSA, Algorithm::RS512),
            "nobody: wrong_algorithm",
            "by another digest",
        ),
        (
            "3.1",
            &site,
            under(json!({ "alg": "RS256" }), &RSA, Algorithm::PS256),
            "rs: bad_signature",
            "and under the pinned name",
        ),
        (
            "3.1",
            &site,
            under(json!({ "alg": "ES256" }), &P384, Algorithm::ES384),
            "es: bad_signature",
            "another curve",
        ),
        (
            "3.1",
            &site,
            words(r#"{"alg":["HS256"]}"#, &text),
            "nobody: malformed",
            "a list of algorithms",
        ),
        (
            "3.1",
            &site,
            words(r#"{"typ":"JWT"}"#, &text),
            "nobody: malformed",
            "no algorithm",
        ),
        // 3.2 Use appropriate algorithms.
        (
            "3.2",
            &site,
            forged("HS1", &[0; 20]),
            "nobody: wrong_algorithm",
            "SHA-1",
        ),
        (
            "3.2",
            &site,
            forged("RS1", &[0; 256]),
            "nobody: wrong_algorithm",
            "RSA with SHA-1",
        ),
        (
            "3.2",
            &site,
            forged("ES256K", &[0; 64]),
            "nobody: wrong_algorithm",
            "a curve that is none of ours",
        ),
        // 3.3 Validate all cryptographic operations.
        (
            "3.3",
            &site,
            with_signature(&es, &der(&es_signature)),
            "es: bad_signature",
            "DER instead of two numbers",
        ),
        (
            "3.3",
            &site,
            with_signature(&es, &es_signature[..63]),
            "es: bad_signature",
            "a byte less",
        ),
        (
            "3.3",
            &site,
            with_signature(&es, &[es_signature.as_slice(), &[0]].concat()),
            "es: bad_signature",
            "a byte more",
        ),
        (
            "3.3",
            &site,
            words(r#"{"alg":"HS256","crit":["exp"]}"#, &text),
            "hs: critical_header",
            "an extension that must be understood (RFC 7515 §4.1.11)",
        ),
        (
            "3.3",
            &site,
            words(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#, &text),
            "hs: critical_header",
            "an unencoded payload (RFC 7797)",
        ),
        (
            "3.3",
            &site,
            format!("{}=", good()),
            "hs: bad_signature",
            "padding",
        ),
        // 3.6 Avoid compression.
        (
            "3.6",
            &site,
            words(r#"{"alg":"HS256","zip":"DEF"}"#, [0x4b, 0x4c, 0x04, 0x00]),
            "nobody: malformed",
            "a signed payload that is compressed",
        ),
        // 3.7 Use UTF-8.
        (
            "3.7",
            &site,
            words(hs256, [b"{\"sub\":\"".as_slice(), &[0xff], b"\"}"].concat()),
            "nobody: malformed",
            "no UTF-8",
        ),
        (
            "3.7",
            &site,
            words(hs256, member(r#""x":"\ud800""#)),
            "nobody: malformed",
            "half a character",
        ),
        // 3.8 Validate issuer and subject.
        (
            "3.8",
            &site,
            hs(&json!({ "alg": "HS256" }), &claims(json!({ "iss": null }))),
            "nobody: wrong_issuer",
            "no issuer",
        ),
        (
            "3.8",
            &site,
            hs(
                &json!({ "alg": "HS256" }),
                &claims(json!({ "iss": ["idp"] })),
            ),
            "nobody: wrong_issuer",
            "a list",
        ),
        (
            "3.8",
            &site,
            hs(&json!({ "alg": "HS256" }), &claims(json!({ "iss": "IDP" }))),
            "nobody: wrong_issuer",
            "in another case",
        ),
        (
            "3.8",
            &site,
            hs(
                &json!({ "alg": "HS256" }),
                &claims(json!({ "sub": { "x": 1 } })),
            ),
            "hs: malformed",
            "a subject that is no text",
        ),
        // 3.9 Use and validate audience.
        (
            "3.9",
            &site,
            hs(&json!({ "alg": "HS256" }), &claims(json!({ "aud": null }))),
            "hs: wrong_audience",
            "no audience",
        ),
        (
            "3.9",
            &site,
            hs(&json!({ "alg": "HS256" }), &claims(json!({ "aud": [] }))),
            "hs: wrong_audience",
            "an empty list",
        ),
        (
            "3.9",
            &site,
            hs(
                &json!({ "alg": "HS256" }),
                &claims(json!({ "aud": "app2" })),
            ),
            "hs: wrong_audience",
            "a longer name",
        ),
        // 3.10 Do not trust received claims.
        (
            "3.10",
            &site,
            hs(&json!({ "alg": "HS256" }), &claims(json!({ "exp": null }))),
            "hs: no_expiry",
            "a token for ever",
        ),
        (
            "3.10",
            &site,
            hs(
                &json!({ "alg": "HS256" }),
                &claims(json!({ "exp": NOW - 61 })),
            ),
            "hs: expired",
            "one that is over",
        ),
        (
            "3.10",
            &site,
            hs(
                &json!({ "alg": "HS256" }),
                &claims(json!({ "exp": "2099" })),
            ),
            "hs: malformed",
            "an end in words",
        ),
        (
            "3.10",
            &site,
            hs(
                &json!({ "alg": "HS256" }),
                &claims(json!({ "nbf": NOW + 61 })),
            ),
            "hs: not_yet_valid",
            "one of tomorrow",
        ),
        // 3.11 Use explicit typing.
        (
            "3.11",
            &site,
            of_type("statement+jwt"),
            "hs: wrong_type",
            "a type that nobody knows",
        ),
        // 3.12 Mutually exclusive validation rules.
        (
            "3.12",
            &site,
            hs(
                &json!({ "alg": "HS256", "typ": "JWT" }),
                &claims(json!({ "aud": "client-id", "nonce": "n" })),
            ),
            "hs: wrong_audience",
            "an ID token where an access token is asked for",
        ),
        (
            "3.12",
            &site,
            under(json!({ "alg": "EdDSA" }), &P256, Algorithm::ES256),
            "ed: bad_signature",
            "another source's key",
        ),
        // And what is right passes, so that the rows above fail for their own reason.
        ("", &site, good(), "ann of hs", "HMAC"),
        (
            "",
            &site,
            under(json!({ "alg": "RS256" }), &RSA, Algorithm::RS256),
            "ann of rs",
            "RSA",
        ),
        ("", &site, es.clone(), "ann of es", "ECDSA"),
        (
            "",
            &site,
            under(json!({ "alg": "EdDSA" }), &ED, Algorithm::EdDSA),
            "ann of ed",
            "Ed25519",
        ),
        (
            "",
            &site,
            with_signature(&es, &mirrored(&es_signature)),
            "ann of es",
            "its mirror image is as good a signature, and no new claim",
        ),
        (
            "",
            &site,
            of_type("at+jwt"),
            "ann of hs",
            "an access token (RFC 9068)",
        ),
        (
            "",
            &site,
            words(hs256, member(r#""x":"\ud83d\ude00""#)),
            "ann of hs",
            "a whole character",
        ),
    ];
    let mut sections = BTreeSet::new();
    for (section, site, token, want, why) in rows {
        assert_eq!(
            ask(site, &bearer(&token)),
            want,
            "RFC 8725 §{section}: {why}"
        );
        sections.insert(section);
    }
    let all = [
        "", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7", "2.8", "2.9", "3.1", "3.2", "3.3",
        "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12",
    ];
    assert_eq!(sections, BTreeSet::from(all), "3.4 and 3.5 are about keys");
}

/// RFC 8725 §3.4 and §3.5: keys that are no good are no keys.
#[test]
fn weak_and_broken_keys_are_not_used() {
    let rsa = |bits: usize| {
        let modulus = encode(vec![0xc5; bits / 8]);
        json!({ "kty": "RSA", "n": modulus, "e": "AQAB" })
    };
    let point =
        |x: &[u8], y: &[u8]| json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) });
    for (section, key, why) in [
        (
            "3.4",
            point(&[1; 32], &[1; 32]),
            "a point on no curve (an invalid-curve attack)",
        ),
        ("3.4", point(&[0; 32], &[0; 32]), "the point at infinity"),
        (
            "3.4",
            point(&[1; 31], &[1; 32]),
            "a coordinate that is too short",
        ),
        (
            "3.4",
            json!({ "kty": "OKP", "crv": "X25519", "x": encode([9; 32]) }),
            "a key for agreement",
        ),
        (
            "3.4",
            json!({ "kty": "OKP", "crv": "Ed25519", "x": encode([9; 31]) }),
            "an Edwards key that is too short",
        ),
        ("3.5", rsa(1024), "RSA of 1024 bits"),
        ("3.5", rsa(512), "RSA of 512 bits"),
        (
            "3.5",
            json!({ "kty": "oct", "k": encode([7; 31]) }),
            "a secret of 31 bytes",
        ),
        ("3.5", json!({ "kty": "oct", "k": "" }), "an empty secret"),
    ] {
        let set = json!({ "keys": [key] }).to_string();
        let (keys, passed_over) = Key::set(set.as_bytes()).unwrap();
        assert_eq!(
            (keys.len(), passed_over),
            (0, 1),
            "RFC 8725 §{section}: {why}"
        );
    }
    let private = rcgen::KeyPair::generate().unwrap().serialize_pem();
    assert_eq!(Key::pem(private.as_bytes()).err(), Some(KeyError::Private));
}
