//! Sign-in in the browser, against a provider of the tests' own that can be made to lie, to fail and to hang.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::certs::certs;
use crate::support::gate::front;
use crate::support::tokens::{Named, base64url, hs_under, now, unsigned};
use crate::support::{Client, Gate, Origin, Response, Then, eventually, eventually_some};

const CLIENT: &str = "the app";
const SECRET: &str = "p:ss w%rd~";
const NAVIGATION: [&str; 2] = ["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"];

/// How the token endpoint answers.
#[derive(Debug, Clone)]
enum Mood {
    /// With tokens.
    Good,
    Says(&'static str, &'static str),
    Hangs,
    Endless,
}

/// What the provider knows, and how it behaves.
struct Rig {
    metadata: Value,
    published: Vec<Value>,
    mood: Mood,
    /// Claims that replace good ones; `null` removes one.
    claims: Value,
    /// Members of the token answer that replace good ones.
    answer: Value,
    /// Makes the ID token from its claims.
    sign: Arc<dyn Fn(&Value) -> String + Send + Sync>,
    /// What the token endpoint was asked.
    asked: Vec<(Option<String>, BTreeMap<String, String>)>,
    /// Challenge and nonce by code.
    codes: BTreeMap<String, (String, String)>,
}

struct Provider {
    origin: Origin,
    rig: Arc<Mutex<Rig>>,
}

impl Provider {
    fn start() -> Self {
        Self::with(&Arc::new(Named::new("one")))
    }

    fn with(key: &Arc<Named>) -> Self {
        let rig = Arc::new(Mutex::new(Rig {
            metadata: json!({}),
            published: vec![key.jwk()],
            mood: Mood::Good,
            claims: json!({}),
            answer: json!({}),
            sign: {
                let key = Arc::clone(key);
                Arc::new(move |claims| key.sign(claims))
            },
            asked: Vec::new(),
            codes: BTreeMap::new(),
        }));
        let own = Arc::clone(&rig);
        let origin = Origin::scripted(move |exchange| {
            exchange.read_body();
            let target = exchange.seen.target.clone();
            let host = exchange.seen.header("host").unwrap_or_default().to_owned();
            let mut rig = own.lock().unwrap();
            match target.as_str() {
                "/.well-known/openid-configuration" => {
                    let issuer = format!("http://{host}");
                    let mut all = json!({
                        "issuer": issuer,
                        "authorization_endpoint": format!("{issuer}/auth"),
                        "token_endpoint": format!("{issuer}/token"),
                        "jwks_uri": format!("{issuer}/keys"),
                        "end_session_endpoint": format!("{issuer}/end"),
                    });
                    replace(&mut all, &rig.metadata);
                    exchange.answer("200 OK", all.to_string())
                }
                "/keys" => {
                    let keys = json!({ "keys": rig.published });
                    exchange.answer("200 OK", keys.to_string())
                }
                "/token" => {
                    let form = exchange.body();
                    let form = pairs(&form);
                    let authorization = exchange.seen.header("authorization").map(str::to_owned);
                    rig.asked.push((authorization, form.clone()));
                    let answer = rig.tokens(&host, &form);
                    let mood = rig.mood.clone();
                    drop(rig);
                    match mood {
                        Mood::Good => exchange.answer("200 OK", answer.to_string()),
                        Mood::Says(head, body) => exchange.answer(head, body),
                        Mood::Hangs => {
                            exchange.wait_for_close();
                            Then::Close
                        }
                        Mood::Endless => {
                            exchange.send(
                                "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"id_token\":\"",
                            );
                            while exchange.send([b'a'; 65536]) {}
                            Then::Close
                        }
                    }
                }
                _ => exchange.answer("404 Not Found", ""),
            }
        });
        Self { origin, rig }
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.origin.address())
    }

    fn set(&self, change: impl FnOnce(&mut Rig)) {
        change(&mut self.rig.lock().unwrap());
    }

    fn asked(&self) -> Vec<(Option<String>, BTreeMap<String, String>)> {
        self.rig.lock().unwrap().asked.clone()
    }

    /// Somebody signs in at the provider, to which the browser was sent; what it brings back, without the host.
    fn signs_in(&self, location: &str) -> String {
        let (to, query) = location.split_once('?').unwrap();
        assert_eq!(to, format!("{}/auth", self.issuer()));
        let asked = pairs(query);
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["client_id"], CLIENT);
        assert_eq!(asked["code_challenge_method"], "S256");
        assert!(asked["scope"].split(' ').any(|scope| scope == "openid"));
        let mut rig = self.rig.lock().unwrap();
        let code = format!("code {}", rig.codes.len());
        let known = (asked["code_challenge"].clone(), asked["nonce"].clone());
        rig.codes.insert(code.clone(), known);
        let callback = asked["redirect_uri"]
            .splitn(4, '/')
            .nth(3)
            .unwrap()
            .to_owned();
        format!(
            "/{callback}?code={}&state={}",
            code.replace(' ', "+"),
            asked["state"]
        )
    }
}

impl Rig {
    fn tokens(&self, host: &str, form: &BTreeMap<String, String>) -> Value {
        let nonce = match form["grant_type"].as_str() {
            "authorization_code" => {
                let Some((challenge, nonce)) = self.codes.get(&form["code"]) else {
                    return json!({ "error": "invalid_grant" });
                };
                let verifier = form["code_verifier"].as_bytes();
                assert!((43..=128).contains(&verifier.len()), "RFC 7636 §4.1");
                assert_eq!(*challenge, base64url(digest(&SHA256, verifier).as_ref()));
                Some(nonce)
            }
            "refresh_token" => None,
            other => panic!("{other}"),
        };
        let mut claims = json!({
            "iss": format!("http://{host}"), "aud": CLIENT, "sub": "ada", "exp": now() + 300, "iat": now(),
            "nonce": nonce, "roles": ["staff"], "email": "ada@example.com", "auth_time": now() - 7, "acr": "gold",
        });
        replace(&mut claims, &self.claims);
        let mut answer = json!({
            "token_type": "Bearer", "access_token": "at", "expires_in": 3600, "id_token": (self.sign)(&claims),
        });
        replace(&mut answer, &self.answer);
        answer
    }
}

fn replace(all: &mut Value, with: &Value) {
    for (key, value) in with.as_object().unwrap() {
        if value.is_null() {
            all.as_object_mut().unwrap().remove(key);
        } else {
            all[key] = value.clone();
        }
    }
}

fn pairs(query: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text)
            .decode_utf8()
            .unwrap()
            .into_owned()
    };
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn config(origin: &Origin, provider: &Provider, more: &str) -> String {
    config_with(&front(origin), provider, more, "")
}

fn config_with(front: &str, provider: &Provider, more: &str, site: &str) -> String {
    let issuer = provider.issuer();
    format!(
        r#"{front}
[identity.login]
oidc = {{ issuer = "{issuer}", client_id = "{CLIENT}", client_secret = "{SECRET}", roles = "roles", logout = "/sign-out"{more} }}
[[site]]
host = ["*"]
upstream = "app"
identity = ["login"]
headers_to_upstream = {{ user = "X-User", roles = "X-Roles", claim."email" = "X-Email" }}
{site}
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/secure/**"
  allow = [{{ role = "staff", auth = "login" }}]
  [[site.route]]
  path = "/gold/**"
  allow = [{{ claim.acr = "gold", claim.auth_time = {{ min = 1 }}, claim.jti = {{ present = true }} }}]
  [[site.route]]
  path = "/boss/**"
  allow = [{{ role = "boss" }}]
  [[site.route]]
  path = "/nowhere/**"
  allow = [{{ role = "staff", ip = "192.0.2.1/32" }}]
"#
    )
}

/// A browser: it keeps cookies, and follows nothing by itself.
struct Browser {
    client: Client,
    host: String,
    jar: BTreeMap<String, String>,
}

impl Browser {
    fn new(gate: &Gate) -> Self {
        Self {
            client: gate.connect(),
            host: format!("Host: {}", gate.address()),
            jar: BTreeMap::new(),
        }
    }

    fn ask(&mut self, line: &str, fields: &[&str]) -> Response {
        let cookies = self
            .jar
            .iter()
            .fold(String::new(), |mut all, (name, value)| {
                let between = if all.is_empty() { "Cookie: " } else { "; " };
                write!(all, "{between}{name}={value}").unwrap();
                all
            });
        let mut sent = vec![self.host.as_str()];
        sent.extend(fields);
        if !cookies.is_empty() {
            sent.push(&cookies);
        }
        let answer = self.client.ask(line, &sent);
        for set in answer.all("set-cookie") {
            let (pair, attributes) = set.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            assert!(attributes.contains("; HttpOnly"), "{set}");
            assert!(attributes.contains("; SameSite=Lax"), "{set}");
            assert!(attributes.contains(" Path=/;"), "{set}");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            if attributes.contains("Max-Age=0;") {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    fn go(&mut self, path: &str) -> Response {
        self.ask(&format!("GET {path}"), &NAVIGATION)
    }

    /// Is sent to the provider.
    fn leaves(&mut self, path: &str) -> String {
        let answer = self.go(path).is(302);
        answer.header("location").unwrap().to_owned()
    }

    /// Signs in and is back at `path`.
    fn signs_in(&mut self, provider: &Provider, path: &str) {
        let location = self.leaves(path);
        let back = provider.signs_in(&location);
        let answer = self.go(&back).is(302);
        let origin = self.host.replace("Host: ", "http://");
        assert_eq!(answer.header("location"), Some(&*format!("{origin}{path}")));
    }
}

/// The line of the access log that tells of an answer.
fn line_of(gate: &Gate, answer: &Response) -> Value {
    let id = answer.header("x-request-id").unwrap();
    eventually_some("it is logged", || {
        let log = gate.log_text();
        let line = log.lines().find(|line| line.contains(id))?;
        serde_json::from_str(line).ok()
    })
}

/// A gate that knows its provider.
fn ready(gate: Gate) -> Gate {
    eventually("the provider is known", || {
        let answer = Browser::new(&gate).go("/secure/ready");
        answer.status == 302
    });
    gate
}

#[test]
fn a_login_from_first_url_to_sign_out() {
    let (origin, provider) = (Origin::start(), Provider::start());
    let gate = ready(Gate::start(&config(&origin, &provider, "")));
    let mut browser = Browser::new(&gate);
    browser.go("/open").is(200);
    assert!(
        browser.jar.is_empty(),
        "who needs no sign-in gets no cookie"
    );

    let first = "/secure/report?month=11&q=a%2Fb+c";
    browser.signs_in(&provider, first);
    assert_eq!(browser.jar.len(), 1, "the login is over: {:?}", browser.jar);
    let (authorization, form) = provider.asked().remove(0);
    // RFC 6749 §2.3.1: encoded as in a form, then in base64.
    let pair = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        "the%20app:p%3Ass%20w%25rd~",
    );
    assert_eq!(authorization, Some(format!("Basic {pair}")));
    assert!(!form.contains_key("client_secret"));

    browser
        .ask(&format!("GET {first}"), &["Cookie: theirs=1"])
        .is(200);
    let seen = origin.last();
    assert_eq!(seen.header("x-user"), Some("ada"));
    assert_eq!(seen.header("x-roles"), Some("staff"));
    assert_eq!(seen.header("x-email"), Some("ada@example.com"));
    assert_eq!(
        seen.header("cookie"),
        Some("theirs=1"),
        "the session stays here"
    );
    browser.go("/gold").is(200);
    browser.go("/boss").is(403);
    browser.ask("POST /secure/form", &[]).is(200);

    // Signing out, by the site itself only.
    let kept = browser.jar.clone();
    browser
        .ask(
            "GET /sign-out",
            &["Sec-Fetch-Site: cross-site", NAVIGATION[0]],
        )
        .is(403);
    browser
        .ask("POST /sign-out", &["Origin: http://evil.example"])
        .is(403);
    browser.ask("PUT /sign-out", &[]).is(405);
    browser = Browser {
        client: gate.connect(),
        ..browser
    };
    browser.go("/secure").is(200);
    let answer = browser
        .ask(
            "GET /sign-out",
            &["Sec-Fetch-Site: same-origin", NAVIGATION[0]],
        )
        .is(303);
    let (to, query) = answer.header("location").unwrap().split_once('?').unwrap();
    assert_eq!(to, format!("{}/end", provider.issuer()));
    let asked = pairs(query);
    assert_eq!(asked["client_id"], CLIENT);
    assert_eq!(
        asked["post_logout_redirect_uri"],
        format!("http://{}/sign-out", gate.address())
    );
    assert_eq!(asked["id_token_hint"].split('.').count(), 3);
    assert!(browser.jar.is_empty());
    let page = browser
        .ask("GET /sign-out", &["Accept: text/html", NAVIGATION[0]])
        .is(200);
    assert!(page.text().contains("Signed out"), "{}", page.text());
    browser.ask("POST /sign-out", &[]).is(204);
    browser.ask("GET /secure", &[]).is(401);
    browser.jar = kept;
    browser.ask("GET /secure", &[]).is(401);

    let log = gate.log_text();
    for secret in ["code=", "state=", SECRET, "p%3Ass", "id_token"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[test]
fn a_step_up_sends_the_browser_to_sign_in_better() {
    let (origin, provider) = (Origin::start(), Provider::start());
    let more = r#"
  [[site.route]]
  path = "/pay/**"
  allow = [{ role = "staff" }]
  step_up = { acr = ["card", "mfa"], max_age = "5min" }
"#;
    let config = format!("{}{more}", config(&origin, &provider, ""));
    let gate = ready(Gate::start(&config));
    provider.set(|rig| rig.claims = json!({ "acr": "password" }));
    let mut browser = Browser::new(&gate);
    browser.signs_in(&provider, "/secure");
    browser.ask("GET /pay", &[]).is(401);
    let location = browser.leaves("/pay/7");
    let asked = pairs(location.split_once('?').unwrap().1);
    assert_eq!(
        (&*asked["acr_values"], &*asked["max_age"]),
        ("card mfa", "300")
    );
    // No better than before: told so, and not sent around in a circle.
    let back = provider.signs_in(&location);
    browser.go(&back).is(302);
    let answer = browser.go("/pay/7").is(401);
    assert!(answer.header("location").is_none());
    browser.go("/secure").is(200);

    provider.set(|rig| rig.claims = json!({ "acr": "password" }));
    let mut browser = Browser::new(&gate);
    browser.signs_in(&provider, "/secure");
    provider.set(|rig| rig.claims = json!({ "acr": "mfa", "auth_time": now() }));
    browser.signs_in(&provider, "/pay/7");
    browser.go("/pay/7").is(200);
}

#[test]
fn only_a_top_level_navigation_is_sent_to_sign_in() {
    let (origin, provider) = (Origin::start(), Provider::start());
    let gate = ready(Gate::start(&config(&origin, &provider, "")));
    let chrome = "Accept: text/html,application/xhtml+xml,*/*;q=0.8";
    for (line, fields, status, why) in [
        ("GET /secure", vec![], 401, "curl"),
        (
            "GET /secure",
            vec!["Accept: application/json"],
            401,
            "a program",
        ),
        (
            "GET /secure",
            vec!["Sec-Fetch-Mode: cors", chrome],
            401,
            "a script, whatever it accepts",
        ),
        (
            "GET /secure",
            vec!["Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"],
            401,
            "an image",
        ),
        (
            "GET /secure",
            vec!["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe", chrome],
            401,
            "a frame",
        ),
        (
            "GET /secure",
            vec!["X-Requested-With: XMLHttpRequest", chrome],
            401,
            "a script of old",
        ),
        (
            "POST /secure",
            vec![NAVIGATION[0], NAVIGATION[1]],
            401,
            "a form would lose what it sent",
        ),
        (
            "HEAD /secure",
            vec![NAVIGATION[0], NAVIGATION[1]],
            401,
            "nobody looks",
        ),
        (
            "GET /secure",
            vec![
                "Connection: upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Key: x",
                "Sec-WebSocket-Version: 13",
                "Sec-Fetch-Mode: websocket",
            ],
            401,
            "a socket",
        ),
        (
            "GET /secure",
            vec!["Authorization: Bearer x", "Accept: */*"],
            401,
            "a token of nobody",
        ),
        (
            "GET /nowhere",
            vec![NAVIGATION[0]],
            403,
            "who cannot pass is not asked who it is",
        ),
        ("GET /secure", vec![chrome], 302, "an old browser"),
        ("GET /secure", vec![NAVIGATION[0]], 302, "a browser"),
    ] {
        let answer = Browser::new(&gate).ask(line, &fields).is(status);
        assert_eq!(answer.header("location").is_some(), status == 302, "{why}");
        assert_eq!(
            answer.all("set-cookie").len(),
            usize::from(status == 302),
            "{why}"
        );
        if status == 401 {
            assert!(answer.header("www-authenticate").is_some(), "{why}");
        }
    }
    let api = config_with(&front(&origin), &provider, "", "api = true");
    gate.reload(&api).unwrap();
    Browser::new(&gate).go("/secure").is(401);
}

#[test]
fn an_id_token_that_lies_signs_nobody_in() {
    let origin = Origin::start();
    let key = Arc::new(Named::new("one"));
    let provider = Provider::with(&key);
    let gate = ready(Gate::start(&config(&origin, &provider, "")));
    let point = key.jwk().to_string();
    type Sign = Arc<dyn Fn(&Value) -> String + Send + Sync>;
    let good: Sign = {
        let key = Arc::clone(&key);
        Arc::new(move |claims| key.sign(claims))
    };
    let other: Sign = Arc::new(|claims| Named::new("one").sign(claims));
    let none: Sign = Arc::new(|claims| unsigned(&json!({ "alg": "none" }), claims));
    let secret: Sign =
        Arc::new(|claims| hs_under(SECRET.as_bytes(), &json!({ "alg": "HS256" }), claims));
    let public: Sign = Arc::new(move |claims| {
        hs_under(
            point.as_bytes(),
            &json!({ "alg": "HS256", "kid": "one" }),
            claims,
        )
    });
    let unknown: Sign = Arc::new(|claims| Named::new("two").sign(claims));
    let critical: Sign =
        Arc::new(|claims| unsigned(&json!({ "alg": "ES256", "crit": ["x"] }), claims));
    let issuer = provider.issuer();
    for (claims, answer, sign, code, why) in [
        (
            json!({ "iss": "http://evil.example" }),
            json!({}),
            &good,
            "wrong_issuer",
            "another issuer",
        ),
        (
            json!({ "iss": format!("{issuer}/") }),
            json!({}),
            &good,
            "wrong_issuer",
            "a slash more",
        ),
        (
            json!({ "iss": null }),
            json!({}),
            &good,
            "wrong_issuer",
            "none",
        ),
        (
            json!({ "aud": "another app" }),
            json!({}),
            &good,
            "wrong_audience",
            "another's",
        ),
        (
            json!({ "aud": null }),
            json!({}),
            &good,
            "wrong_audience",
            "nobody's",
        ),
        (
            json!({ "aud": [CLIENT, "another app"] }),
            json!({}),
            &good,
            "wrong_party",
            "several, and none is the party",
        ),
        (
            json!({ "aud": [CLIENT, "x"], "azp": "x" }),
            json!({}),
            &good,
            "wrong_party",
            "another party",
        ),
        (
            json!({ "azp": "x" }),
            json!({}),
            &good,
            "wrong_party",
            "another party",
        ),
        (
            json!({ "nonce": "x" }),
            json!({}),
            &good,
            "wrong_nonce",
            "of another login",
        ),
        (
            json!({ "nonce": null }),
            json!({}),
            &good,
            "wrong_nonce",
            "of no login",
        ),
        (
            json!({ "exp": now() - 61 }),
            json!({}),
            &good,
            "expired",
            "over",
        ),
        (
            json!({ "exp": null }),
            json!({}),
            &good,
            "no_expiry",
            "never over",
        ),
        (
            json!({ "iat": null }),
            json!({}),
            &good,
            "malformed",
            "from no time",
        ),
        (
            json!({ "iat": now() + 120 }),
            json!({}),
            &good,
            "not_yet_valid",
            "from the future",
        ),
        (
            json!({ "sub": null }),
            json!({}),
            &good,
            "no_subject",
            "nobody",
        ),
        (
            json!({ "sub": "" }),
            json!({}),
            &good,
            "no_subject",
            "nobody",
        ),
        (
            json!({ "sub": 7 }),
            json!({}),
            &good,
            "malformed",
            "no name",
        ),
        (
            json!({ "at_hash": "x" }),
            json!({}),
            &good,
            "wrong_hash",
            "another access token",
        ),
        (
            json!({}),
            json!({ "id_token": null }),
            &good,
            "no_id_token",
            "plain OAuth",
        ),
        (
            json!({}),
            json!({ "id_token": "garbage" }),
            &good,
            "malformed",
            "garbage",
        ),
        (
            json!({}),
            json!({ "id_token": "a.b.c.d.e" }),
            &good,
            "malformed",
            "encrypted",
        ),
        (
            json!({ "pad": "x".repeat(9000) }),
            json!({}),
            &good,
            "too_large",
            "larger than we read",
        ),
        (json!({}), json!({}), &none, "wrong_algorithm", "alg none"),
        (
            json!({}),
            json!({}),
            &secret,
            "wrong_algorithm",
            "HS256 under our secret",
        ),
        (
            json!({}),
            json!({}),
            &public,
            "wrong_algorithm",
            "HS256 under the public key",
        ),
        (
            json!({}),
            json!({}),
            &other,
            "bad_signature",
            "another key of the same name",
        ),
        (
            json!({}),
            json!({}),
            &critical,
            "critical_header",
            "an extension",
        ),
        (
            json!({}),
            json!({}),
            &unknown,
            "unknown_key",
            "an unknown key",
        ),
    ] {
        provider.set(|rig| {
            rig.claims = claims;
            rig.answer = answer;
            rig.sign = Arc::clone(sign);
        });
        let mut browser = Browser::new(&gate);
        let location = browser.leaves("/secure");
        let back = provider.signs_in(&location);
        let answer = browser.ask(&format!("GET {back}"), &[]);
        assert_eq!(
            (answer.status, &*answer.reason()),
            (400, "sign_in_failed"),
            "{why}"
        );
        assert!(browser.jar.is_empty(), "{why}: {:?}", browser.jar);
        assert!(!answer.text().contains(code), "{why}");
        let line = line_of(&gate, &answer);
        assert_eq!(line["auth.error"], code, "{why}");
        assert_eq!(line["url.query"], Value::Null, "{why}");
    }
    for (claims, why) in [
        (
            json!({ "at_hash": base64url(&digest(&SHA256, b"at").as_ref()[..16]) }),
            "its access token",
        ),
        (json!({ "aud": [CLIENT] }), "a list of one"),
        (
            json!({ "aud": [CLIENT, "x"], "azp": CLIENT }),
            "several, and we are the party",
        ),
        (json!({ "exp": now() - 30 }), "within the leeway"),
    ] {
        provider.set(|rig| {
            rig.claims = claims;
            rig.sign = Arc::clone(&good);
        });
        let mut browser = Browser::new(&gate);
        browser.signs_in(&provider, "/secure");
        assert_eq!(browser.go("/secure").status, 200, "{why}");
    }
    // The provider's key rotates: the first login with it waits for the new set.
    let next = Arc::new(Named::new("next"));
    provider.set(|rig| {
        rig.claims = json!({});
        rig.published.push(next.jwk());
        let next = Arc::clone(&next);
        rig.sign = Arc::new(move |claims| next.sign(claims));
    });
    Browser::new(&gate).signs_in(&provider, "/secure");
}

#[test]
fn what_comes_back_must_belong_to_a_login_of_this_browser() {
    let (origin, provider) = (Origin::start(), Provider::start());
    let gate = ready(Gate::start(&config(&origin, &provider, "")));
    let failed = |answer: Response, why: &str| {
        assert_eq!(
            (answer.status, &*answer.reason()),
            (400, "sign_in_failed"),
            "{why}"
        );
        assert!(answer.header("location").is_none(), "{why}");
    };
    let callback = "/.portcullis/callback";
    for (query, why) in [
        ("", "nothing"),
        ("?code=x", "no state"),
        ("?code=x&state=", "an empty state"),
        ("?code=x&state=x", "a state that is none"),
        (
            "?state=x&error=access_denied&error_description=hello",
            "an error from anywhere",
        ),
        ("?code=%ff&state=x", "no text"),
        ("?code=x&state=a&state=b", "two"),
        ("?code=x%0d%0aSet-Cookie:+a=b&state=%0d%0a", "line breaks"),
    ] {
        let answer = Browser::new(&gate).ask(&format!("GET {callback}{query}"), &[]);
        assert!(!answer.text().contains("hello"), "{why}");
        failed(answer, why);
    }
    for line in ["POST", "HEAD", "DELETE"] {
        let answer = Browser::new(&gate).ask(&format!("{line} {callback}"), &[]);
        assert_eq!(answer.status, 405, "{line}");
    }

    // A login that somebody else began: the attacker's code would sign the victim in as the attacker.
    let mut attacker = Browser::new(&gate);
    let back = provider.signs_in(&attacker.leaves("/secure"));
    let mut victim = Browser::new(&gate);
    failed(victim.ask(&format!("GET {back}"), &[]), "no login here");
    victim.leaves("/secure");
    failed(
        victim.ask(&format!("GET {back}"), &[]),
        "another login here",
    );
    let (name, _) = attacker.jar.iter().next().unwrap();
    let (_, value) = victim.jar.iter().next().unwrap();
    victim.jar = BTreeMap::from([(name.clone(), value.clone())]);
    failed(
        victim.ask(&format!("GET {back}"), &[]),
        "another secret under its name",
    );
    assert!(provider.asked().is_empty(), "nobody asked the provider");

    // The same once more: "Back", or a copy.
    let login = attacker.jar.clone();
    attacker.go(&back).is(302);
    let mut copy = Browser::new(&gate);
    copy.jar = login.clone();
    failed(copy.ask(&format!("GET {back}"), &[]), "a copy");
    assert_eq!(provider.asked().len(), 1, "a code is exchanged once");
    attacker.jar.extend(login);
    let answer = attacker.go(&back).is(302);
    let home = format!("http://{}/secure", gate.address());
    assert_eq!(
        answer.header("location"),
        Some(&*home),
        "who is signed in already goes on"
    );

    // Several tabs at a time.
    let mut browser = Browser::new(&gate);
    let tabs: Vec<String> = (0..5)
        .map(|tab| browser.leaves(&format!("/secure/{tab}")))
        .collect();
    for (tab, location) in tabs.iter().enumerate().rev() {
        let back = provider.signs_in(location);
        let answer = browser.go(&back).is(302);
        let home = format!("http://{}/secure/{tab}", gate.address());
        assert_eq!(answer.header("location"), Some(&*home));
    }
    for number in 0..40 {
        browser.jar.remove("portcullis");
        browser.leaves(&format!("/secure/{number}"));
        assert!(browser.jar.len() <= 16, "logins that nobody finishes");
    }

    // What the provider says instead of a code.
    for (error, status, reason) in [
        ("access_denied", 403, "sign_in_refused"),
        ("login_required", 400, "sign_in_failed"),
        ("%3Cscript%3E", 400, "sign_in_failed"),
        ("server_error", 503, "fact_unavailable"),
    ] {
        let mut browser = Browser::new(&gate);
        let back = provider.signs_in(&browser.leaves("/secure"));
        let (path, state) = back.split_once("&state=").unwrap();
        let path = path.split_once("code=").unwrap().0;
        let path = format!("{path}error={error}&error_description=words&state={state}");
        let answer = browser
            .ask(&format!("GET {path}"), &["Accept: text/html"])
            .is(status);
        let page = answer.text();
        assert_eq!(page.contains(reason), status < 500, "{page}");
        assert!(
            !page.contains("words") && !page.contains("<script>"),
            "{page}"
        );
    }

    // RFC 9207.
    let mut browser = Browser::new(&gate);
    let back = provider.signs_in(&browser.leaves("/secure"));
    failed(
        browser.ask(&format!("GET {back}&iss=http%3A%2F%2Fevil.example"), &[]),
        "mixed up",
    );
    let mut browser = Browser::new(&gate);
    let back = provider.signs_in(&browser.leaves("/secure"));
    browser
        .go(&format!("{back}&iss={}", provider.issuer()))
        .is(302);
}

#[test]
fn the_way_back_never_leads_elsewhere() {
    let (origin, provider) = (Origin::start(), Provider::start());
    let open = config(&origin, &provider, "").replace(
        "path = \"/**\"\n  allow = \"anyone\"",
        "path = \"/**\"\n  allow = [{ role = \"staff\" }]",
    );
    let gate = ready(Gate::start(&open));
    let home = format!("http://{}", gate.address());
    for target in [
        "//evil.example/x",
        "///evil.example",
        "/%5Cevil.example",
        "/\\evil.example",
        "/x?to=//evil.example",
        "/x?%0d%0aLocation:%20http://evil.example",
        "/@evil.example",
        "/.evil.example",
        "/:80",
        "/x;//evil",
        "/%2F%2Fevil.example",
    ] {
        let mut browser = Browser::new(&gate);
        let answer = browser.go(target);
        if answer.status == 400 {
            continue; // ambiguous or malformed: nobody is sent anywhere
        }
        let location = answer.is(302).header("location").unwrap().to_owned();
        let back = provider.signs_in(&location);
        let answer = browser.go(&back).is(302);
        assert_eq!(answer.header("location"), Some(&*format!("{home}{target}")));
    }
    // Too long for `state`: the path, and then the root.
    for (target, want) in [
        (format!("/x?{}", "y".repeat(2000)), "/x"),
        (format!("/{}", "y".repeat(2000)), "/"),
    ] {
        let mut browser = Browser::new(&gate);
        let back = provider.signs_in(&browser.leaves(&target));
        let answer = browser.go(&back).is(302);
        assert_eq!(answer.header("location"), Some(&*format!("{home}{want}")));
    }
}

#[test]
fn a_provider_that_fails_costs_only_those_who_sign_in() {
    let (origin, provider) = (Origin::start(), Provider::start());
    // Nobody listens there.
    let gone = config(&origin, &provider, "").replace(&provider.issuer(), "http://127.0.0.1:9");
    let gate = Gate::start(&gone);
    let mut browser = Browser::new(&gate);
    browser.go("/open").is(200);
    browser.ask("GET /secure", &[]).is(401);
    let answer = browser.go("/secure").is(503);
    assert!(answer.header("retry-after").is_some());
    browser.go("/nowhere").is(403);
    gate.reload(&config(&origin, &provider, "")).unwrap();
    let gate = ready(gate);

    for (mood, status, why) in [
        (Mood::Says("500 Oops", "words"), 503, "broken"),
        (
            Mood::Says("302 Found\r\nLocation: http://evil.example/", ""),
            503,
            "a redirect",
        ),
        (Mood::Says("429 Slow Down", ""), 503, "busy"),
        (
            Mood::Says("400 Bad Request", r#"{"error":"invalid_grant"}"#),
            400,
            "the code is not good",
        ),
        (
            Mood::Says("401 No", r#"{"error":"invalid_client"}"#),
            400,
            "it does not know us",
        ),
        (Mood::Says("200 OK", "garbage"), 400, "garbage"),
        (Mood::Says("200 OK", "[]"), 400, "no object"),
        (Mood::Endless, 503, "without an end"),
    ] {
        let mut browser = Browser::new(&gate);
        let back = provider.signs_in(&browser.leaves("/secure"));
        provider.set(|rig| rig.mood = mood);
        let answer = browser.ask(&format!("GET {back}"), &[]);
        assert_eq!(answer.status, status, "{why}");
        assert!(!answer.text().contains("words"), "{why}");
        provider.set(|rig| rig.mood = Mood::Good);
    }
    // It hangs: whoever does not sign in notices nothing.
    let mut waiting = Browser::new(&gate);
    let back = provider.signs_in(&waiting.leaves("/secure"));
    let mut signed_in = Browser::new(&gate);
    signed_in.signs_in(&provider, "/secure");
    provider.set(|rig| rig.mood = Mood::Hangs);
    std::thread::scope(|scope| {
        let late = scope.spawn(move || waiting.ask(&format!("GET {back}"), &[]).status);
        eventually("it is asked", || {
            provider
                .asked()
                .last()
                .is_some_and(|(_, form)| form["grant_type"] == "authorization_code")
        });
        for _ in 0..20 {
            signed_in.go("/secure").is(200);
            Browser::new(&gate).go("/open").is(200);
        }
        assert_eq!(late.join().unwrap(), 503);
    });
    let log = gate.log_text();
    assert!(!log.contains("words"), "{log}");
}

#[test]
fn metadata_that_lies_is_not_taken_and_the_last_good_stays() {
    let (origin, provider) = (Origin::start(), Provider::start());
    provider.set(|rig| rig.metadata = json!({ "issuer": "http://evil.example" }));
    let gate = Gate::start(&config(&origin, &provider, ""));
    eventually("it was asked", || provider.origin.count() > 0);
    Browser::new(&gate).go("/secure").is(503);
    provider.set(|rig| {
        rig.metadata = json!({ "token_endpoint_auth_methods_supported": ["client_secret_post"] })
    });
    let gate = ready(gate);
    let mut browser = Browser::new(&gate);
    browser.signs_in(&provider, "/secure");
    let (authorization, form) = provider.asked().remove(0);
    assert_eq!(authorization, None);
    assert_eq!(form["client_secret"], SECRET);
    // A reload keeps what is known, and the random key that sealed the session.
    provider.set(|rig| rig.metadata = json!({ "issuer": "http://evil.example" }));
    gate.reload(&config(&origin, &provider, ", scopes = [\"email\"]"))
        .unwrap();
    browser.go("/secure").is(200);
    Browser::new(&gate).leaves("/secure");
}

#[test]
fn sessions_are_renewed_one_question_at_a_time() {
    let (origin, provider) = (Origin::start(), Provider::start());
    let gate = ready(Gate::start(&config(&origin, &provider, "")));
    // Due at once: a quarter of a second before it ends counts as due in whole seconds.
    provider.set(|rig| rig.answer = json!({ "refresh_token": "r0", "expires_in": 1 }));
    let mut browser = Browser::new(&gate);
    browser.signs_in(&provider, "/secure");
    let old = browser.jar.clone();
    let asked = provider.asked().len();
    provider.set(|rig| {
        rig.answer = json!({ "refresh_token": "r1", "expires_in": 3600 });
        rig.claims = json!({ "nonce": null, "roles": ["staff", "boss"] });
    });
    eventually("the session is over", || {
        browser.jar = old.clone();
        browser.go("/boss").status == 200
    });
    assert_ne!(browser.jar, old, "a new cookie");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (gate, old) = (&gate, &old);
            scope.spawn(move || {
                let mut tab = Browser::new(gate);
                tab.jar = old.clone();
                // Late with the old cookie: it gets what the first brought.
                tab.ask("GET /boss", &[]).is(200);
                assert_ne!(tab.jar, *old);
                tab.ask("GET /boss", &[]).is(200);
            });
        }
    });
    let all = provider.asked();
    let renewals: Vec<_> = all[asked..]
        .iter()
        .map(|(_, form)| form["grant_type"].as_str())
        .collect();
    assert_eq!(renewals, ["refresh_token"], "one question");
    assert_eq!(all[asked].1["refresh_token"], "r0");
    assert!(!gate.log_text().contains("r0"));

    for (mood, claims, wanted, why) in [
        (
            Mood::Says("400 Bad Request", r#"{"error":"invalid_grant"}"#),
            json!({}),
            401,
            "the provider ended it",
        ),
        (Mood::Good, json!({ "sub": "eve" }), 401, "somebody else's"),
        (
            Mood::Good,
            json!({ "aud": "another app" }),
            401,
            "not for us",
        ),
        (Mood::Says("500 Oops", ""), json!({}), 503, "it cannot say"),
        (
            Mood::Says("401 No", r#"{"error":"invalid_client"}"#),
            json!({}),
            503,
            "it does not know us: our fault",
        ),
    ] {
        provider.set(|rig| {
            rig.claims = json!({});
            rig.answer = json!({ "refresh_token": "r", "expires_in": 1 });
        });
        let mut browser = Browser::new(&gate);
        browser.signs_in(&provider, "/secure");
        provider.set(|rig| {
            rig.mood = mood;
            rig.claims = claims;
        });
        let kept = browser.jar.clone();
        eventually(why, || {
            browser.jar = kept.clone();
            browser.ask("GET /secure", &[]).status == wanted
        });
        // Who is not asked for a name is not held up.
        browser.ask("GET /open", &[]).is(200);
        provider.set(|rig| rig.mood = Mood::Good);
    }
    // A browser that never takes the new cookie does not escape: what its old one leads to is renewed, too.
    provider.set(|rig| {
        rig.claims = json!({});
        rig.answer = json!({ "refresh_token": "r", "expires_in": 1 });
    });
    let mut browser = Browser::new(&gate);
    browser.signs_in(&provider, "/secure");
    let kept = browser.jar.clone();
    let asked = provider.asked().len();
    eventually("it is renewed again and again", || {
        browser.jar = kept.clone();
        browser.ask("GET /secure", &[]).is(200);
        provider.asked().len() >= asked + 3
    });
    provider.set(|rig| rig.mood = Mood::Says("400 Bad Request", r#"{"error":"invalid_grant"}"#));
    eventually("the end of it counts", || {
        browser.jar = kept.clone();
        browser.ask("GET /secure", &[]).status == 401
    });
    provider.set(|rig| rig.mood = Mood::Good);
    // No ID token this time: who it is stays as it was.
    provider.set(|rig| {
        rig.claims = json!({});
        rig.answer = json!({ "refresh_token": "r", "expires_in": 1 });
    });
    let mut browser = Browser::new(&gate);
    browser.signs_in(&provider, "/secure");
    provider.set(|rig| rig.answer = json!({ "id_token": null, "refresh_token": null }));
    let kept = browser.jar.clone();
    eventually("it is renewed", || {
        browser.ask("GET /secure", &[]).is(200);
        browser.jar != kept
    });
}

#[test]
fn keys_rotate_and_instances_share_them() {
    let (origin, provider) = (Origin::start(), Provider::start());
    let folder = || {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("keys"), format!("{}\n", "1".repeat(64))).unwrap();
        folder
    };
    let config = config(
        &origin,
        &provider,
        ", session_key = \"keys\", session = \"1h\", cookie = \"sid\"",
    );
    let (one, two) = (
        ready(Gate::start_in(folder(), &config)),
        ready(Gate::start_in(folder(), &config)),
    );
    let mut browser = Browser::new(&one);
    let back = provider.signs_in(&browser.leaves("/secure"));
    // The login comes back to another instance; its state and its session are good there, too. Each has an origin of its own
    // here, so the host is that of the first.
    browser.client = two.connect();
    browser.go(&back).is(302);
    browser.go("/secure").is(200);
    browser.client = one.connect();
    browser.go("/secure").is(200);
    assert!(browser.jar.contains_key("sid"), "{:?}", browser.jar);

    let old = browser.jar.clone();
    one.write("keys", format!("{}\n{}\n", "2".repeat(64), "1".repeat(64)));
    one.reload_as_is().unwrap();
    browser.go("/secure").is(200);
    let mut fresh = Browser::new(&one);
    fresh.signs_in(&provider, "/secure");
    one.write("keys", format!("{}\n", "2".repeat(64)));
    one.reload_as_is().unwrap();
    fresh.go("/secure").is(200);
    browser.ask("GET /secure", &[]).is(401);
    let mut tampered = old.clone();
    tampered.get_mut("sid").unwrap().pop();
    for jar in [
        tampered,
        BTreeMap::from([("sid".into(), "x".repeat(8000))]),
        BTreeMap::from([("sid".into(), "3~x".into())]),
    ] {
        let mut browser = Browser::new(&two);
        browser.jar = jar;
        browser.ask("GET /secure", &[]).is(401);
        browser.ask("GET /open", &[]).is(200);
    }
    // Another client's session is nobody's here, even under the same key.
    let other = config.replace(CLIENT, "another app");
    two.reload(&other).unwrap();
    let mut browser = Browser::new(&two);
    browser.jar = old;
    browser.ask("GET /secure", &[]).is(401);
    one.write("keys", "secret");
    let refused = one.reload_as_is().unwrap_err();
    assert!(!refused.render_plain().contains("\"secret\""));
}

#[test]
fn a_large_session_is_cut_into_cookies() {
    let (origin, provider) = (Origin::start(), Provider::start());
    let gate = ready(Gate::start(&config(&origin, &provider, "")));
    let groups: Vec<String> = (0..150)
        .map(|number| format!("group-{number:020}"))
        .collect();
    provider.set(|rig| rig.claims = json!({ "groups": groups }));
    let mut browser = Browser::new(&gate);
    browser.signs_in(&provider, "/secure");
    assert!(browser.jar.len() > 1, "{:?}", browser.jar.keys());
    browser.go("/secure").is(200);
    assert_eq!(origin.last().header("cookie"), None);
    browser.jar.remove("portcullis-1");
    browser.ask("GET /secure", &[]).is(401);
    provider.set(|rig| rig.claims = json!({}));
    browser.signs_in(&provider, "/secure");
    assert_eq!(browser.jar.len(), 1, "what is left over is gone");
    // Beyond what browsers keep.
    provider.set(|rig| rig.answer = json!({ "refresh_token": "r".repeat(20_000) }));
    let mut browser = Browser::new(&gate);
    let back = provider.signs_in(&browser.leaves("/secure"));
    let answer = browser.ask(&format!("GET {back}"), &[]).is(400);
    assert_eq!(line_of(&gate, &answer)["auth.error"], "session_too_large");
}

#[test]
fn over_https_cookies_are_bound_to_the_host() {
    let (origin, provider) = (Origin::start(), Provider::start());
    let folder = TempDir::new().unwrap();
    certs().write(folder.path());
    let front = front(&origin).replace(
        "[upstream.app]",
        "tls = { certificates = [{ cert = \"server.crt\", key = \"server.key\" }] }\n[upstream.app]",
    );
    let gate = Gate::start_in(folder, &config_with(&front, &provider, "", ""));
    let connect = || {
        Client::tls(gate.address(), "localhost", certs().any_client())
            .unwrap()
            .0
    };
    let host = "Host: localhost";
    let mut client = connect();
    let mut answer = client.ask("GET /secure", &[host, NAVIGATION[0]]);
    eventually("the provider is known", || {
        answer = client.ask("GET /secure", &[host, NAVIGATION[0]]);
        answer.status != 503
    });
    let answer = answer.is(302);
    let login = answer.header("set-cookie").unwrap();
    assert!(login.starts_with("__Host-portcullis-login-"), "{login}");
    assert!(
        login.contains("; Secure;") && !login.to_lowercase().contains("domain"),
        "{login}"
    );
    let back = provider.signs_in(answer.header("location").unwrap());
    let cookie = format!("Cookie: {}", login.split(';').next().unwrap());
    let answer = client.ask(&format!("GET {back}"), &[host, &cookie]).is(302);
    assert_eq!(answer.header("location"), Some("https://localhost/secure"));
    let session = answer
        .all("set-cookie")
        .into_iter()
        .find(|set| set.starts_with("__Host-portcullis="))
        .unwrap();
    let session = session.split(';').next().unwrap();
    client
        .ask("GET /secure", &[host, &format!("Cookie: {session}")])
        .is(200);
}

#[test]
fn over_plain_http_nobody_signs_in_but_on_this_machine() {
    let (origin, provider) = (Origin::start(), Provider::start());
    let gate = ready(Gate::start(&config(&origin, &provider, "")));
    let mut client = gate.connect();
    client
        .ask("GET /secure", &["Host: app.example.com", NAVIGATION[0]])
        .is(401);
    // Behind a load balancer that speaks https and is trusted.
    let behind = format!(
        "{}\n[client]\ntrusted_proxies = [\"127.0.0.1\"]\n",
        config(&origin, &provider, "")
    );
    gate.reload(&behind).unwrap();
    let fields = [
        "Host: internal",
        "X-Forwarded-For: 192.0.2.7",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: App.Example.com:8443",
        NAVIGATION[0],
    ];
    let answer = gate.connect().ask("GET /secure", &fields).is(302);
    let asked = pairs(
        answer
            .header("location")
            .unwrap()
            .split_once('?')
            .unwrap()
            .1,
    );
    assert_eq!(
        asked["redirect_uri"],
        "https://app.example.com:8443/.portcullis/callback"
    );
    assert!(answer.header("set-cookie").unwrap().starts_with("__Host-"));
    // The paths of a sign-in go where the others go.
    let clear = config(&origin, &provider, "").replacen(
        "address = \"127.0.0.1:0\"\n",
        "address = \"127.0.0.1:0\"\nredirect_https = true\n",
        1,
    );
    let gate = Gate::start(&clear);
    for path in ["/.portcullis/callback?state=x&code=y", "/sign-out"] {
        let answer = gate.connect().ask(&format!("GET {path}"), &[]).is(308);
        let location = format!("https://app.test{path}");
        assert_eq!(answer.header("location"), Some(&*location));
    }
}
