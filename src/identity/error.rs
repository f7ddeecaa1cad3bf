//! Why a credential is not valid: stable words for the log, never for the client.

use thiserror::Error;

/// Why a credential is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum AuthError {
    /// It does not have the shape of its kind.
    #[error("malformed credential")]
    Malformed,
    /// It is larger than any that we read.
    #[error("credential too large")]
    TooLarge,
    /// The same field carries more than one.
    #[error("credential repeated")]
    Repeated,
    /// The request carries more than we verify.
    #[error("too many credentials")]
    TooMany,
    /// No source of the site pins the token's algorithm; `none` is never pinned.
    #[error("no source accepts the token's algorithm")]
    WrongAlgorithm,
    /// No source of the site has the token's issuer.
    #[error("no source has the token's issuer")]
    WrongIssuer,
    /// The token asks for an extension that we must understand and do not (RFC 7515 §4.1.11).
    #[error("critical header not understood")]
    CriticalHeader,
    /// The token says that it is of another kind, such as `logout+jwt` (RFC 8725 §3.11).
    #[error("token of another kind")]
    WrongType,
    /// No key of the source has the token's `kid` and suits its algorithm.
    #[error("unknown signing key")]
    UnknownKey,
    /// The signature is not by the key.
    #[error("signature does not verify")]
    BadSignature,
    /// The token names no end.
    #[error("token without expiry")]
    NoExpiry,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// Its time has not come.
    #[error("not valid yet")]
    NotYetValid,
    /// It is meant for somebody else.
    #[error("wrong audience")]
    WrongAudience,
    /// No such key, or no such user, or not that user's password.
    #[error("unknown key, user or password")]
    Unknown,
    /// The key may not be used from the client's address.
    #[error("not from this network")]
    WrongNetwork,
    /// The service that was asked does not know it.
    #[error("refused by the service that was asked")]
    Refused,
    /// The service that was asked does not know it, and no login was shown to it: a session that is over.
    #[error("no session with the service that was asked")]
    NoSession,
    /// The certificate has no name of the kind that the source reads, or several.
    #[error("certificate names no user, or several")]
    NoUser,
    /// It was revoked. `auth.error` says why as well, where somebody wrote that.
    #[error("revoked")]
    Revoked,
}

impl AuthError {
    /// The word of the access log (`auth.error`).
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Repeated => "repeated",
            Self::TooMany => "too_many",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::WrongIssuer => "wrong_issuer",
            Self::CriticalHeader => "critical_header",
            Self::WrongType => "wrong_type",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
            Self::NoExpiry => "no_expiry",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongAudience => "wrong_audience",
            Self::Unknown => "unknown_credential",
            Self::WrongNetwork => "wrong_network",
            Self::Refused | Self::NoSession => "refused",
            Self::NoUser => "no_user",
            Self::Revoked => "revoked",
        }
    }
}
