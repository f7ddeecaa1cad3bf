//! The public reason codes and what is said with each: the one table that documentation, pages and JSON share.
//!
//! A rule may use a word of its own as reason; it is then said with the words of its status. Nothing here tells what a rule
//! looked at: a message says what the client may know and do.

use http::StatusCode;

use super::Notice;
use crate::value::reason::Reason;

/// A documented reason code.
#[derive(Debug, Clone)]
pub struct Row {
    /// The code.
    pub reason: Reason,
    /// The status it comes with unless a rule says otherwise.
    pub status: u16,
    /// The heading of a page.
    pub title: &'static str,
    /// The message where no rule wrote one.
    pub message: &'static str,
    /// What it means, for the reference.
    pub meaning: &'static str,
}

/// Every documented code, in the order of [`Reason::DOCUMENTED`].
pub const TABLE: &[Row] = &[
    row(
        Reason::FORBIDDEN,
        403,
        "Access denied",
        "You don't have access to this page",
        "the default of a deny, and of a route none of whose allows matched",
    ),
    row(
        Reason::ADDRESS_BLOCKED,
        403,
        "Access denied",
        "Access from your network is not allowed",
        "the client address may not enter",
    ),
    row(
        Reason::REGION_RESTRICTED,
        451,
        "Not available in your location",
        "This content is not available in your location",
        "the content may not be shown in the client's country or region",
    ),
    row(
        Reason::ROLE_REQUIRED,
        403,
        "Access denied",
        "Your account does not have the rights for this",
        "signed in, without a role that could pass",
    ),
    row(
        Reason::PLAN_REQUIRED,
        403,
        "Not included in your plan",
        "Your current plan does not include this",
        "signed in, with a plan below the one needed; `upgrade_url` may tell where to get it",
    ),
    row(
        Reason::DEVICE_UNTRUSTED,
        403,
        "This device is not trusted",
        "Your device does not meet the security requirements for this",
        "the device's posture is unknown or not good enough",
    ),
    row(
        Reason::OUTSIDE_HOURS,
        403,
        "Closed at the moment",
        "This is not available at this time",
        "outside the hours or days in which the route is open",
    ),
    row(
        Reason::NOT_AUTHENTICATED,
        401,
        "Please sign in",
        "You need to sign in to see this",
        "nobody has signed in, and somebody could pass",
    ),
    row(
        Reason::INVALID_TOKEN,
        401,
        "Please sign in again",
        "Your sign-in is not valid or has expired",
        "a credential was sent, it is not valid, and somebody could pass",
    ),
    row(
        Reason::STEP_UP,
        401,
        "Please confirm that it is you",
        "This asks for a stronger or more recent sign-in",
        "signed in, but not as strongly or as lately as the route's `step_up` asks",
    ),
    row(
        Reason::CERTIFICATE_REQUIRED,
        403,
        "A certificate is needed",
        "This site asks for a client certificate",
        "the site knows people by their client certificate only, and none that is valid came",
    ),
    row(
        Reason::RATE_LIMITED,
        429,
        "Too many requests",
        "You have sent too many requests in a short time",
        "a limit is reached, or too many sign-ins failed; `Retry-After` tells when it is not",
    ),
    row(
        Reason::FACT_UNAVAILABLE,
        503,
        "Temporarily unavailable",
        "We cannot check your access right now",
        "only a fact whose source failed decided, so nobody can say yes or no",
    ),
    row(
        Reason::NO_ROUTE,
        404,
        "Page not found",
        "There is nothing at this address",
        "no route owns the path, or a rule hides it",
    ),
    row(
        Reason::GONE,
        410,
        "This page is gone",
        "What was here has been removed for good",
        "a rule says that it is gone",
    ),
    row(
        Reason::MISDIRECTED,
        421,
        "No such site",
        "No site answers here by this name",
        "no site has the host name of the request",
    ),
    row(
        Reason::MALFORMED_REQUEST,
        400,
        "Bad request",
        "The request could not be understood",
        "the request breaks HTTP or cannot be read in one way only",
    ),
    row(
        Reason::AMBIGUOUS_PATH,
        400,
        "Bad request",
        "The address can be read in two ways",
        "two readings of the path would be judged differently",
    ),
    row(
        Reason::MALFORMED_QUERY,
        400,
        "Bad request",
        "The query of the address could not be understood",
        "the query has a bad escape, and a rule that applies reads it",
    ),
    row(
        Reason::METHOD_NOT_ALLOWED,
        405,
        "Method not allowed",
        "This method is not served here",
        "CONNECT and TRACE, which are never served",
    ),
    row(
        Reason::REQUEST_TIMEOUT,
        408,
        "The request took too long",
        "The request did not arrive in time",
        "the head or the body stopped arriving",
    ),
    row(
        Reason::BODY_TOO_LARGE,
        413,
        "Too large",
        "What you sent is larger than allowed",
        "the request body is larger than `body_size`",
    ),
    row(
        Reason::TARGET_TOO_LONG,
        414,
        "Address too long",
        "The address is longer than allowed",
        "the request target is longer than `target_length`",
    ),
    row(
        Reason::HEAD_TOO_LARGE,
        431,
        "Request too large",
        "The request's header fields are larger than allowed",
        "the request head is larger than `header_size`, or has more than `header_count` fields",
    ),
    row(
        Reason::CLIENT_CLOSED,
        499,
        "Closed",
        "The request was given up",
        "the client left before the answer; stands in logs only",
    ),
    row(
        Reason::INTERNAL_ERROR,
        500,
        "Something went wrong",
        "Something broke on our side",
        "the gate itself broke",
    ),
    row(
        Reason::BAD_GATEWAY,
        502,
        "The site is not answering",
        "The site could not be reached",
        "no connection to the application, or its answer was no HTTP",
    ),
    row(
        Reason::GATEWAY_TIMEOUT,
        504,
        "The site is not answering",
        "The site took too long to answer",
        "the application did not answer in time",
    ),
    row(
        Reason::OVERLOADED,
        503,
        "Very busy",
        "The site is very busy right now",
        "a limit of the gate is reached; `Retry-After` tells when to try again",
    ),
    row(
        Reason::SHUTTING_DOWN,
        503,
        "Back in a moment",
        "The site is restarting",
        "this instance is draining; another try reaches the next",
    ),
    row(
        Reason::MAINTENANCE,
        503,
        "Back soon",
        "We are working on this site and will be back soon",
        "the site is closed for a while; `Retry-After` tells how long",
    ),
    row(
        Reason::SIGN_IN_FAILED,
        400,
        "The sign-in did not work",
        "The sign-in could not be completed. Open the page you wanted and try again",
        "a browser came back from its provider without a login of its own, too late, twice, or with an answer that does not verify",
    ),
    row(
        Reason::SIGN_IN_REFUSED,
        403,
        "Not signed in",
        "Your sign-in was refused or cancelled",
        "the provider answered `access_denied`",
    ),
    row(
        Reason::SIGNED_OUT,
        200,
        "Signed out",
        "You are signed out",
        "the page of `logout`",
    ),
];

const fn row(
    reason: Reason,
    status: u16,
    title: &'static str,
    message: &'static str,
    meaning: &'static str,
) -> Row {
    Row {
        reason,
        status,
        title,
        message,
        meaning,
    }
}

/// The reason for a status that nobody gave a reason for: an upstream's answer that a page of ours replaces.
#[must_use]
pub const fn of_status(status: StatusCode) -> Reason {
    match status.as_u16() {
        401 => Reason::NOT_AUTHENTICATED,
        403 | 402 | 451 => Reason::FORBIDDEN,
        404 => Reason::NO_ROUTE,
        405 => Reason::METHOD_NOT_ALLOWED,
        408 => Reason::REQUEST_TIMEOUT,
        410 => Reason::GONE,
        413 => Reason::BODY_TOO_LARGE,
        414 => Reason::TARGET_TOO_LONG,
        421 => Reason::MISDIRECTED,
        429 => Reason::RATE_LIMITED,
        431 => Reason::HEAD_TOO_LARGE,
        502 => Reason::BAD_GATEWAY,
        503 => Reason::OVERLOADED,
        504 => Reason::GATEWAY_TIMEOUT,
        500.. => Reason::INTERNAL_ERROR,
        _ => Reason::MALFORMED_REQUEST,
    }
}

/// What kind of answer it is to a person: the colour and the drawing of the built-in page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// You may not.
    Refused,
    /// It is not there.
    Missing,
    /// Not now.
    Wait,
    /// Something is wrong.
    Fault,
}

impl Tone {
    /// The word that pages use.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Missing => "missing",
            Self::Wait => "wait",
            Self::Fault => "fault",
        }
    }

    /// Path data of a 24 × 24 line drawing: a padlock, a lens, an hourglass, a warning sign.
    #[must_use]
    pub const fn icon(self) -> &'static str {
        match self {
            Self::Refused => {
                "M6 10.5h12a1 1 0 0 1 1 1V19a1 1 0 0 1-1 1H6a1 1 0 0 1-1-1v-7.5a1 1 0 0 1 1-1zM8 10.5V8a4 4 0 0 1 8 0v2.5M12 14v2.5"
            }
            Self::Missing => "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.5 20 20",
            Self::Wait => "M7 4h10M7 20h10M8 4v3.5l4 4.5 4-4.5V4M8 20v-3.5l4-4.5 4 4.5V20",
            Self::Fault => "M12 4.5 20.5 19h-17zM12 10v4M12 16.5v.2",
        }
    }
}

/// What is said to a person.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) title: &'a str,
    pub(super) message: &'a str,
    pub(super) advice: &'static str,
    pub(super) tone: Tone,
}

impl<'a> Words<'a> {
    /// Everything that a page says.
    pub(super) fn of(notice: &Notice<'a>, reason: &Reason) -> Self {
        let row = default(notice.status, reason);
        let (tone, advice) = manner(notice.status);
        Words {
            title: row.map_or_else(
                || notice.status.canonical_reason().unwrap_or("Error"),
                |row| row.title,
            ),
            message: Self::message(notice, reason),
            advice,
            tone,
        }
    }

    /// The message alone.
    pub(super) fn message(notice: &Notice<'a>, reason: &Reason) -> &'a str {
        match notice.message {
            Some(message) => message,
            None => default(notice.status, reason).map_or(LEGAL, |row| row.message),
        }
    }
}

/// The row whose words fit: that of the reason, or of the status where the reason is a rule's own or says nothing.
/// None for a 451 without a documented reason: the law has no reason code of its own.
fn default(status: StatusCode, reason: &Reason) -> Option<&'static Row> {
    let find = |reason: &Reason| TABLE.iter().find(|row| row.reason == *reason);
    let own =
        find(reason).filter(|row| row.status == status.as_u16() || row.reason != Reason::FORBIDDEN);
    own.or_else(|| {
        (status != StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS)
            .then(|| find(&of_status(status)))
            .flatten()
    })
}

fn manner(status: StatusCode) -> (Tone, &'static str) {
    match status.as_u16() {
        401 => (Tone::Refused, "Sign in and try again."),
        403 => (
            Tone::Refused,
            "If you think you should have access, ask the people who run this site and tell them the request ID.",
        ),
        404 => (
            Tone::Missing,
            "Check the address for a typing mistake, or start again from the home page.",
        ),
        410 => (Tone::Missing, "Links to it can be removed."),
        421 => (Tone::Missing, "Check the address for a typing mistake."),
        451 => (
            Tone::Refused,
            "This decision follows from law or licence, not from anything you did.",
        ),
        200 => (Tone::Wait, "You can close this page."),
        408 | 429 => (Tone::Wait, "Wait a moment, then try again."),
        503 => (Tone::Wait, "Please try again in a few minutes."),
        500.. => (
            Tone::Fault,
            "This is not your fault. Please try again in a few minutes.",
        ),
        _ => (
            Tone::Fault,
            "If you followed a link, tell the people who run this site.",
        ),
    }
}

const LEGAL: &str = "This content is unavailable for legal reasons";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_documented_code_once_and_in_order() {
        let codes: Vec<_> = TABLE.iter().map(|row| row.reason.as_str()).collect();
        let documented: Vec<_> = Reason::DOCUMENTED.iter().map(Reason::as_str).collect();
        assert_eq!(codes, documented);
        for row in TABLE {
            assert!(Reason::parse(row.reason.as_str()).is_ok(), "{row:?}");
            assert!(!row.message.ends_with('.'), "{row:?}");
        }
    }

    #[test]
    fn the_readme_has_every_documented_code() {
        let readme = include_str!("../../README.md");
        for row in TABLE {
            let line = format!(
                "\n| `{}` | {} | {} |\n",
                row.reason, row.status, row.meaning
            );
            assert!(readme.contains(&line), "README.md lacks{line}");
        }
    }

    #[test]
    fn the_message_fits_reason_and_status() {
        for (status, reason, message, want, why) in [
            (
                403,
                "forbidden",
                None,
                "You don't have access to this page",
                "the default",
            ),
            (403, "forbidden", Some("No"), "No", "the rule's own"),
            (
                403,
                "our_own_word",
                None,
                "You don't have access to this page",
                "a rule's own word: by status",
            ),
            (
                451,
                "forbidden",
                None,
                LEGAL,
                "a 451 does not speak of access",
            ),
            (
                451,
                "our_own_word",
                None,
                LEGAL,
                "nor with a word of its own",
            ),
            (
                403,
                "region_restricted",
                None,
                "This content is not available in your location",
                "a documented reason on another status",
            ),
            (
                404,
                "no_route",
                None,
                "There is nothing at this address",
                "by reason",
            ),
            (
                404,
                "our_own_word",
                None,
                "There is nothing at this address",
                "by status",
            ),
            (
                418,
                "our_own_word",
                None,
                "The request could not be understood",
                "any other 4xx",
            ),
            (
                599,
                "our_own_word",
                None,
                "Something broke on our side",
                "any other 5xx",
            ),
        ] {
            let reason = Reason::parse(reason).unwrap_or(Reason::FORBIDDEN);
            let status = StatusCode::from_u16(status).unwrap_or_default();
            let mut notice = Notice::new(status, &reason);
            notice.message = message;
            assert_eq!(Words::message(&notice, &reason), want, "{why}");
            assert!(!Words::of(&notice, &reason).title.is_empty(), "{why}");
        }
    }
}
