//! The public reason code of a refusal: a documented word that a client may see, never a rule's name.

use std::borrow::Cow;
use std::fmt;

/// A public reason code: lower-case letters, digits and `_`, 1 to 64 bytes, starting with a letter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reason(Cow<'static, str>);

impl Reason {
    /// `forbidden`: the default of a deny and of a route that no allow opened.
    pub const FORBIDDEN: Self = Self::fixed("forbidden");
    /// `address_blocked`: the client's address may not enter.
    pub const ADDRESS_BLOCKED: Self = Self::fixed("address_blocked");
    /// `region_restricted`: not available where the client is.
    pub const REGION_RESTRICTED: Self = Self::fixed("region_restricted");
    /// `role_required`: the account lacks a role.
    pub const ROLE_REQUIRED: Self = Self::fixed("role_required");
    /// `plan_required`: the account's plan does not include this.
    pub const PLAN_REQUIRED: Self = Self::fixed("plan_required");
    /// `device_untrusted`: the device does not meet the security requirements.
    pub const DEVICE_UNTRUSTED: Self = Self::fixed("device_untrusted");
    /// `outside_hours`: not available at this time of day or week.
    pub const OUTSIDE_HOURS: Self = Self::fixed("outside_hours");
    /// `not_authenticated`: nobody has signed in, and somebody could pass.
    pub const NOT_AUTHENTICATED: Self = Self::fixed("not_authenticated");
    /// `invalid_token`: a credential was sent and is not valid.
    pub const INVALID_TOKEN: Self = Self::fixed("invalid_token");
    /// `insufficient_user_authentication`: somebody has signed in, and not as strongly or as lately as is asked here (RFC 9470).
    pub const STEP_UP: Self = Self::fixed("insufficient_user_authentication");
    /// `certificate_required`: the site knows people by their client certificate only.
    pub const CERTIFICATE_REQUIRED: Self = Self::fixed("certificate_required");
    /// `rate_limited`: too many requests.
    pub const RATE_LIMITED: Self = Self::fixed("rate_limited");
    /// `fact_unavailable`: only a fact whose source failed decided.
    pub const FACT_UNAVAILABLE: Self = Self::fixed("fact_unavailable");
    /// `no_route`: no route of the site owns the path, or it is hidden.
    pub const NO_ROUTE: Self = Self::fixed("no_route");
    /// `gone`: it was here and is no more.
    pub const GONE: Self = Self::fixed("gone");
    /// `misdirected_request`: no site answers for the host.
    pub const MISDIRECTED: Self = Self::fixed("misdirected_request");
    /// `malformed_request`: the request breaks HTTP.
    pub const MALFORMED_REQUEST: Self = Self::fixed("malformed_request");
    /// `ambiguous_path`: the path can be read in two ways.
    pub const AMBIGUOUS_PATH: Self = Self::fixed("ambiguous_path");
    /// `malformed_query`: the query has a bad escape.
    pub const MALFORMED_QUERY: Self = Self::fixed("malformed_query");
    /// `method_not_allowed`: a method that is never served (CONNECT, TRACE).
    pub const METHOD_NOT_ALLOWED: Self = Self::fixed("method_not_allowed");
    /// `request_timeout`: the request did not arrive in time.
    pub const REQUEST_TIMEOUT: Self = Self::fixed("request_timeout");
    /// `body_too_large`: the request body is larger than the limit.
    pub const BODY_TOO_LARGE: Self = Self::fixed("body_too_large");
    /// `target_too_long`: the address is longer than the limit.
    pub const TARGET_TOO_LONG: Self = Self::fixed("target_too_long");
    /// `head_too_large`: the header fields are larger or more than the limit.
    pub const HEAD_TOO_LARGE: Self = Self::fixed("head_too_large");
    /// `client_closed_request`: the client left first; only logs say so.
    pub const CLIENT_CLOSED: Self = Self::fixed("client_closed_request");
    /// `internal_error`: the gate broke.
    pub const INTERNAL_ERROR: Self = Self::fixed("internal_error");
    /// `bad_gateway`: the application could not be reached or its answer was no HTTP.
    pub const BAD_GATEWAY: Self = Self::fixed("bad_gateway");
    /// `gateway_timeout`: the application did not answer in time.
    pub const GATEWAY_TIMEOUT: Self = Self::fixed("gateway_timeout");
    /// `overloaded`: too much to do at the moment.
    pub const OVERLOADED: Self = Self::fixed("overloaded");
    /// `shutting_down`: this instance is about to stop.
    pub const SHUTTING_DOWN: Self = Self::fixed("shutting_down");

    /// `sign_in_failed`: a sign-in with a provider came to nothing.
    pub const SIGN_IN_FAILED: Self = Self::fixed("sign_in_failed");
    /// `sign_in_refused`: the provider, or the person, said no.
    pub const SIGN_IN_REFUSED: Self = Self::fixed("sign_in_refused");
    /// `signed_out`: the session has ended.
    pub const SIGNED_OUT: Self = Self::fixed("signed_out");
    /// `maintenance`: the site is closed for a while.
    pub const MAINTENANCE: Self = Self::fixed("maintenance");

    /// Every code that we send of our own accord or document for use in rules; `respond::reasons` says what each means.
    /// A rule may use any other word of its own.
    pub const DOCUMENTED: &[Self] = &[
        Self::FORBIDDEN,
        Self::ADDRESS_BLOCKED,
        Self::REGION_RESTRICTED,
        Self::ROLE_REQUIRED,
        Self::PLAN_REQUIRED,
        Self::DEVICE_UNTRUSTED,
        Self::OUTSIDE_HOURS,
        Self::NOT_AUTHENTICATED,
        Self::INVALID_TOKEN,
        Self::STEP_UP,
        Self::CERTIFICATE_REQUIRED,
        Self::RATE_LIMITED,
        Self::FACT_UNAVAILABLE,
        Self::NO_ROUTE,
        Self::GONE,
        Self::MISDIRECTED,
        Self::MALFORMED_REQUEST,
        Self::AMBIGUOUS_PATH,
        Self::MALFORMED_QUERY,
        Self::METHOD_NOT_ALLOWED,
        Self::REQUEST_TIMEOUT,
        Self::BODY_TOO_LARGE,
        Self::TARGET_TOO_LONG,
        Self::HEAD_TOO_LARGE,
        Self::CLIENT_CLOSED,
        Self::INTERNAL_ERROR,
        Self::BAD_GATEWAY,
        Self::GATEWAY_TIMEOUT,
        Self::OVERLOADED,
        Self::SHUTTING_DOWN,
        Self::MAINTENANCE,
        Self::SIGN_IN_FAILED,
        Self::SIGN_IN_REFUSED,
        Self::SIGNED_OUT,
    ];

    /// A reason known at compile time.
    #[must_use]
    pub const fn fixed(code: &'static str) -> Self {
        Self(Cow::Borrowed(code))
    }

    /// Reads a reason code.
    ///
    /// # Errors
    /// Where the text is not 1 to 64 bytes of `a-z`, `0-9` and `_` starting with a letter.
    pub fn parse(text: &str) -> Result<Self, InvalidReason> {
        let good = text.len() <= 64
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if good {
            Ok(Self(Cow::Owned(text.to_owned())))
        } else {
            Err(InvalidReason)
        }
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no reason code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a reason is 1 to 64 lower-case letters, digits and `_`, starting with a letter")]
pub struct InvalidReason;
