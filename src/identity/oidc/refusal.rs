//! Why a browser that came back from its provider is not signed in: words for the log, and the little that a person is told.

use thiserror::Error;

use crate::identity::error::AuthError;

/// Why nobody is signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The answer lacks what it must have, or has it twice.
    #[error("the answer of the provider cannot be read")]
    Malformed,
    /// `state` is none of ours.
    #[error("`state` is none of ours")]
    State,
    /// The login began too long ago.
    #[error("the login took too long")]
    Late,
    /// The browser has no cookie of this login.
    #[error("the login was begun by another browser, or its cookie is gone")]
    OtherBrowser,
    /// The login has come back before.
    #[error("the login has come back before")]
    Replayed,
    /// The answer is another provider's (RFC 9207).
    #[error("the answer names another provider")]
    AnotherProvider,
    /// The person, or the provider, said no.
    #[error("the provider answered `access_denied`")]
    Denied,
    /// The provider says that it cannot.
    #[error("the provider answered that it is not able to")]
    Busy,
    /// The provider answered with another error.
    #[error("the provider answered with an error")]
    Error,
    /// The provider cannot be asked.
    #[error("the provider cannot be reached")]
    Unreachable,
    /// The token endpoint refused the code.
    #[error("the token endpoint refused")]
    TokenRefused,
    /// The token endpoint's answer has no ID token.
    #[error("the answer of the token endpoint holds no ID token")]
    TokenAnswer,
    /// The ID token does not verify.
    #[error("the ID token is not valid: {0}")]
    Token(AuthError),
    /// The ID token is of another login.
    #[error("the ID token has another nonce")]
    WrongNonce,
    /// The ID token was made for another party.
    #[error("the ID token names another authorized party")]
    WrongParty,
    /// The access token beside it is another's.
    #[error("the access token does not belong to the ID token")]
    WrongHash,
    /// It names nobody.
    #[error("the ID token names nobody")]
    NoSubject,
    /// What it holds does not fit into cookies.
    #[error("the session does not fit into cookies")]
    TooLarge,
}

/// What kind of answer a refusal gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It did not work; another try may.
    Failed,
    /// The provider said no.
    Refused,
    /// The provider is not there.
    Unavailable,
}

impl Refusal {
    /// What an `error` of the provider (RFC 6749 §4.1.2.1) comes to. Its text goes nowhere.
    #[must_use]
    pub fn of_provider(error: &str) -> Self {
        match error {
            "access_denied" => Self::Denied,
            "temporarily_unavailable" | "server_error" => Self::Busy,
            _ => Self::Error,
        }
    }

    /// The word of the access log (`auth.error`).
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::State => "bad_state",
            Self::Late => "late_login",
            Self::OtherBrowser => "other_browser",
            Self::Replayed => "replayed",
            Self::AnotherProvider => "other_provider",
            Self::Denied => "access_denied",
            Self::Busy => "provider_busy",
            Self::Error => "provider_error",
            Self::Unreachable => "source_failed",
            Self::TokenRefused => "code_refused",
            Self::TokenAnswer => "no_id_token",
            Self::Token(error) => error.code(),
            Self::WrongNonce => "wrong_nonce",
            Self::WrongParty => "wrong_party",
            Self::WrongHash => "wrong_hash",
            Self::NoSubject => "no_subject",
            Self::TooLarge => "session_too_large",
        }
    }

    /// What kind of answer it gets.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::Denied => Class::Refused,
            Self::Busy | Self::Unreachable => Class::Unavailable,
            Self::Malformed
            | Self::State
            | Self::Late
            | Self::OtherBrowser
            | Self::Replayed
            | Self::AnotherProvider
            | Self::Error
            | Self::TokenRefused
            | Self::TokenAnswer
            | Self::Token(_)
            | Self::WrongNonce
            | Self::WrongParty
            | Self::WrongHash
            | Self::NoSubject
            | Self::TooLarge => Class::Failed,
        }
    }
}
