//! The public reason code of a refusal: a documented word that a client may see, never a rule's name.

use std::borrow::Cow;
use std::fmt;

/// A public reason code: lower-case letters, digits and `_`, 1 to 64 bytes, starting with a letter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reason(Cow<'static, str>);

impl Reason {
    /// `forbidden`: the default of a deny and of a route that no allow opened.
    pub const FORBIDDEN: Self = Self(Cow::Borrowed("forbidden"));
    /// `not_authenticated`: nobody has signed in, and somebody could pass.
    pub const NOT_AUTHENTICATED: Self = Self(Cow::Borrowed("not_authenticated"));
    /// `invalid_token`: a credential was sent and is not valid.
    pub const INVALID_TOKEN: Self = Self(Cow::Borrowed("invalid_token"));
    /// `certificate_required`: the site knows people by their client certificate only.
    pub const CERTIFICATE_REQUIRED: Self = Self(Cow::Borrowed("certificate_required"));
    /// `fact_unavailable`: only a fact whose source failed decided.
    pub const FACT_UNAVAILABLE: Self = Self(Cow::Borrowed("fact_unavailable"));
    /// `no_route`: no route of the site owns the path.
    pub const NO_ROUTE: Self = Self(Cow::Borrowed("no_route"));
    /// `misdirected_request`: no site answers for the host.
    pub const MISDIRECTED: Self = Self(Cow::Borrowed("misdirected_request"));

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
