//! A browser leaves for the provider and comes back: to sign in, or signed out.

use std::borrow::Cow;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use jiff::Timestamp;
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::cookies::{Kept, LOGIN_SECONDS};
use super::seal::random;
use super::{Arrival, Browser, Departure, FORM, Oidc, Refusal, Stranded, Wish, parameter};

impl Oidc {
    /// Sends a browser to the provider; it returns to `target`, the target of its request as received. None where the
    /// provider is not known yet.
    #[must_use]
    pub fn depart(
        &self,
        browser: &Browser<'_>,
        target: &str,
        wish: Wish<'_>,
        now: Timestamp,
    ) -> Option<Departure> {
        let metadata = self.provider.metadata()?;
        let now = now.as_second();
        let secret = URL_SAFE_NO_PAD.encode(random::<32>()?);
        let id = format!("{now:08x}{}", URL_SAFE_NO_PAD.encode(random::<9>()?));
        let login = Login {
            binding: binding(&secret),
            target: shortened(target).into(),
            begun: now,
            id: id.as_str().into(),
            raised: wish.acr_values.is_some() || wish.max_age.is_some(),
        };
        let sealed = serde_json::to_vec(&login).ok()?;
        let state = self.keyring.seal(&self.purpose("login"), &sealed)?;
        let mut location = metadata.authorization_endpoint.to_string();
        location.push(if location.contains('?') { '&' } else { '?' });
        location.push_str("response_type=code");
        let max_age = wish.max_age.map(|seconds| seconds.max(0).to_string());
        for (name, value) in [
            ("client_id", Some(&*self.client_id)),
            ("redirect_uri", Some(&*self.redirect_uri(browser))),
            ("scope", Some(&*self.scopes)),
            ("state", Some(&*state)),
            ("nonce", Some(&*derived(&secret, "nonce"))),
            ("code_challenge", Some(&*challenge(&secret))),
            ("code_challenge_method", Some("S256")),
            ("acr_values", wish.acr_values),
            ("max_age", max_age.as_deref()),
        ] {
            if let Some(value) = value {
                parameter(&mut location, name, value);
            }
        }
        Some(Departure {
            location: HeaderValue::try_from(location).ok()?,
            cookies: self
                .cookies
                .keep_login(browser.headers, browser.channel, &id, &secret),
        })
    }

    /// Takes a browser back: `query` is that of its request, without `?`.
    ///
    /// # Errors
    /// Where it does not come from a login of its own, or the provider did not sign it in.
    pub fn arrive(
        &self,
        browser: &Browser<'_>,
        query: &str,
        now: Timestamp,
    ) -> Result<Arrival, Box<Stranded>> {
        let lost = |why| Box::new(Stranded { why, target: None });
        let metadata = self.provider.metadata();
        let metadata = metadata.ok_or_else(|| lost(Refusal::Unreachable))?;
        let answer = Answer::read(query).ok_or_else(|| lost(Refusal::Malformed))?;
        let now = now.as_second();
        let state = answer.state.as_deref().unwrap_or_default();
        let opened = self.keyring.open(&self.purpose("login"), state);
        let login = opened.and_then(|login| serde_json::from_slice::<Login>(&login).ok());
        let login = login.ok_or_else(|| lost(Refusal::State))?;
        let stranded = |why| {
            Box::new(Stranded {
                why,
                target: Some(login.target.clone()),
            })
        };
        if now < login.begun || now - login.begun > LOGIN_SECONDS {
            return Err(stranded(Refusal::Late));
        }
        let secret = self
            .cookies
            .login(browser.headers, browser.channel, &login.id);
        let own = |secret: &&str| {
            verify_slices_are_equal(binding(secret).as_bytes(), login.binding.as_bytes()).is_ok()
        };
        let secret = secret
            .filter(own)
            .ok_or_else(|| stranded(Refusal::OtherBrowser))?;
        if !self
            .provider
            .spend(&login.id, login.begun + LOGIN_SECONDS + 1, now)
        {
            return Err(stranded(Refusal::Replayed));
        }
        match answer.issuer.as_deref() {
            Some(issuer) if *issuer != *self.issuer => {
                return Err(stranded(Refusal::AnotherProvider));
            }
            None if metadata.names_itself => return Err(stranded(Refusal::AnotherProvider)),
            Some(_) | None => {}
        }
        if let Some(error) = answer.error.as_deref() {
            return Err(stranded(Refusal::of_provider(error)));
        }
        let code = answer.code.filter(|code| !code.is_empty());
        let code = code.ok_or_else(|| stranded(Refusal::Malformed))?;
        let mut form = String::from("grant_type=authorization_code");
        for (name, value) in [
            ("code", &*code),
            ("redirect_uri", &*self.redirect_uri(browser)),
            ("code_verifier", &*derived(secret, "pkce")),
        ] {
            parameter(&mut form, name, value);
        }
        let ended = self.cookies.end_login(browser.channel, &login.id);
        Ok(Arrival {
            exchange: self.authenticated(form, metadata.secret_in),
            nonce: derived(secret, "nonce"),
            target: login.target,
            raised: login.raised,
            cookies: ended.into_iter().collect(),
        })
    }

    /// Where a browser goes that has signed in: its own target, on its own origin, whatever it looks like.
    #[must_use]
    pub fn home(browser: &Browser<'_>, target: &str) -> Option<HeaderValue> {
        // Absolute, so that no target can name another host: not `//evil`, not `/\evil`.
        let path = if target.starts_with('/') { target } else { "/" };
        HeaderValue::try_from(format!("{}{path}", browser.origin)).ok()
    }

    /// Ends the session of a browser: what clears its cookies, and where the provider signs it out, if it does. The browser
    /// comes back to `logout`. None where it has no session.
    #[must_use]
    pub fn leave(
        &self,
        browser: &Browser<'_>,
        logout: &str,
        now: Timestamp,
    ) -> Option<(Vec<HeaderValue>, Option<HeaderValue>)> {
        let kept = self.cookies.session(browser.headers)?;
        let cookies = self.cookies.end_session(browser.headers, browser.channel);
        let now = now.as_second();
        let session = match kept {
            Kept::Whole(text) => self.unseal(&text).filter(|session| now < session.ends),
            Kept::Torn => None,
        };
        let Some(session) = session else {
            return Some((cookies, None));
        };
        self.provider.end(&session.id, session.ends, now);
        let metadata = self.provider.metadata();
        let end = metadata.and_then(|metadata| metadata.end_session_endpoint.clone());
        let location = end.and_then(|end| {
            let mut location = end.into_string();
            location.push(if location.contains('?') { '&' } else { '?' });
            location.push_str("client_id=");
            location.extend(utf8_percent_encode(&self.client_id, FORM));
            parameter(&mut location, "id_token_hint", &session.id_token);
            let back = format!("{}{logout}", browser.origin);
            parameter(&mut location, "post_logout_redirect_uri", &back);
            HeaderValue::try_from(location).ok()
        });
        Some((cookies, location))
    }
}

/// A login in progress, as `state` holds it.
#[derive(Serialize, Deserialize)]
struct Login {
    /// The digest of the secret in the browser's cookie.
    #[serde(rename = "b")]
    binding: String,
    #[serde(rename = "r")]
    target: Box<str>,
    #[serde(rename = "t")]
    begun: i64,
    #[serde(rename = "i")]
    id: Box<str>,
    /// Whether more than a name is asked for.
    #[serde(rename = "w", default)]
    raised: bool,
}

/// What a browser brings back from the provider.
#[derive(Default)]
struct Answer<'q> {
    code: Option<Cow<'q, str>>,
    state: Option<Cow<'q, str>>,
    issuer: Option<Cow<'q, str>>,
    error: Option<Cow<'q, str>>,
}

impl<'q> Answer<'q> {
    /// None where a parameter is repeated or no text: it could be read in two ways.
    fn read(query: &'q str) -> Option<Self> {
        let mut answer = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match name {
                "code" => &mut answer.code,
                "state" => &mut answer.state,
                "iss" => &mut answer.issuer,
                "error" => &mut answer.error,
                _ => continue,
            };
            if place.replace(decoded(value)?).is_some() {
                return None;
            }
        }
        Some(answer)
    }
}

fn decoded(value: &str) -> Option<Cow<'_, str>> {
    if value.contains('+') {
        let spaced = value.replace('+', " ");
        let plain = percent_decode_str(&spaced).decode_utf8().ok()?;
        return Some(Cow::Owned(plain.into_owned()));
    }
    percent_decode_str(value).decode_utf8().ok()
}

/// A target that fits into `state`: whole, else its path, else the root.
fn shortened(target: &str) -> &str {
    let path = target.split('?').next().unwrap_or_default();
    [target, path]
        .into_iter()
        .find(|text| text.len() <= TARGET_BYTES_MAX && text.starts_with('/'))
        .unwrap_or("/")
}

/// Something that only the holder of the secret can tell, for one use.
fn derived(secret: &str, of: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    URL_SAFE_NO_PAD.encode(hmac::sign(&key, of.as_bytes()))
}

/// RFC 7636 §4.2.
fn challenge(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&digest::SHA256, derived(secret, "pkce").as_bytes()))
}

fn binding(secret: &str) -> String {
    derived(secret, "binding")
}

/// What is longer is cut: `state` travels in a URL twice.
const TARGET_BYTES_MAX: usize = 1024;
