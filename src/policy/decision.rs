//! What policy concludes about a request. Small copyable values; names and texts stay in the policy, by id.

use std::sync::Arc;
use std::time::Duration;

use crate::value::reason::Reason;
use crate::value::source::Source;

/// A rule of the policy, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

/// A refusal (status, reason, message, page) of the policy, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefusalId(pub u32);

/// A site, by number; the snapshot's sites have the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub u32);

/// A route of a site, by number; the snapshot's routes have the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u32);

/// Which site and route own a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The site, if a site answers for the host.
    pub site: Option<SiteId>,
    /// The route, if one owns the path.
    pub route: Option<RouteId>,
}

/// What kind of rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleKind {
    /// A deny.
    Deny,
    /// An entry of an `allow` list.
    Allow,
}

/// A rule as logs and explanations name it.
#[derive(Debug, Clone)]
pub struct RuleInfo {
    /// Its name; `site/path#n` for an allow without one.
    pub name: Arc<str>,
    /// Where it is written.
    pub source: Source,
    /// What it is.
    pub kind: RuleKind,
    /// Whether it counts.
    pub mode: Mode,
}

/// Whether a rule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It does.
    #[default]
    Enforced,
    /// `shadow = true`: it is judged and has no say.
    Shadow,
}

/// The status a refusal answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalStatus {
    /// 403.
    Forbidden,
    /// 404: hides.
    NotFound,
    /// 410.
    Gone,
    /// 451 (RFC 7725).
    Legal,
    /// No answer: the connection is closed.
    Close,
    /// 401: signed in, but not well enough (RFC 9470).
    StepUp,
}

impl RefusalStatus {
    /// Whether strangers are told nothing of a sign-in (DESIGN section 2, point 4).
    #[must_use]
    pub const fn hides(self) -> bool {
        matches!(self, Self::NotFound | Self::Gone | Self::Close)
    }

    /// The status code; `Close` has none and logs as 444.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Gone => 410,
            Self::Legal => 451,
            Self::Close => 444,
            Self::StepUp => 401,
        }
    }
}

/// What a refused client is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// The status.
    pub status: RefusalStatus,
    /// The public reason.
    pub reason: Reason,
    /// A text for people.
    pub message: Option<Arc<str>>,
    /// A page of our own, by its name in the snapshot's pages.
    pub page: Option<Arc<str>>,
    /// 451: who asked for the block (`Link: <…>; rel="blocked-by"`, RFC 7725 §4).
    pub link: Option<Arc<str>>,
    /// Where a better plan is sold.
    pub upgrade_url: Option<Arc<str>>,
    /// What kind of sign-in is asked for.
    pub step_up: Option<Arc<StepUp>>,
}

/// A stronger or fresher sign-in (RFC 9470).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StepUp {
    /// Authentication contexts of which one is needed (`acr`), in the order of preference; empty: any.
    pub acr: Box<[Box<str>]>,
    /// How long ago somebody may have signed in, in whole seconds.
    pub max_age: Option<Duration>,
}

impl StepUp {
    /// The parameters of a `Bearer` challenge (RFC 9470 §3).
    #[must_use]
    pub fn challenge(&self) -> String {
        let why = if self.acr.is_empty() {
            "More recent authentication is required"
        } else {
            "A different authentication level is required"
        };
        let mut text = format!("error=\"{}\", error_description=\"{why}\"", Reason::STEP_UP);
        if !self.acr.is_empty() {
            text.push_str(&format!(", acr_values=\"{}\"", self.acr.join(" ")));
        }
        if let Some(age) = self.max_age {
            text.push_str(&format!(", max_age=\"{}\"", age.as_secs()));
        }
        text
    }
}

impl Default for Refusal {
    fn default() -> Self {
        Self {
            status: RefusalStatus::Forbidden,
            reason: Reason::FORBIDDEN,
            message: None,
            page: None,
            link: None,
            upgrade_url: None,
            step_up: None,
        }
    }
}

/// What became of the credential of a caller who is anonymous after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// There was none.
    Absent,
    /// There was one, and it is not valid.
    Invalid,
}

/// The conclusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No deny matches and an allow does, or the route is open.
    Allow,
    /// A deny matches, or no allow does.
    Refuse(RefusalId),
    /// Some identity could pass and none was shown: 401.
    NotAuthenticated,
    /// Some identity could pass and the credential shown is not valid: 401.
    InvalidToken,
    /// Somebody who may pass has not signed in as strongly or as lately as is asked: 401.
    StepUp(RefusalId),
    /// Some identity could pass, and the site knows people by certificate only: 403.
    CertificateRequired,
    /// Only a failed fact decided: 503.
    Unavailable,
    /// No site answers for the host: 421.
    NoSite,
    /// No route of the site owns the path: 404.
    NoRoute,
    /// A rule that applies reads the query, and the query has a bad escape: 400.
    BadQuery,
}

/// What a verdict comes to, in the words of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// It passes.
    Allow,
    /// It is refused.
    Deny,
    /// The client is asked to sign in.
    Challenge,
    /// Nobody can say: a fact failed, or the request cannot be read in one way.
    Error,
}

impl Kind {
    /// The word in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Challenge => "challenge",
            Self::Error => "error",
        }
    }
}

impl Verdict {
    /// What it comes to.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Allow => Kind::Allow,
            Self::Refuse(_) | Self::NoSite | Self::NoRoute => Kind::Deny,
            Self::NotAuthenticated
            | Self::InvalidToken
            | Self::StepUp(_)
            | Self::CertificateRequired => Kind::Challenge,
            Self::Unavailable | Self::BadQuery => Kind::Error,
        }
    }
}

/// A verdict, and which rule made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The conclusion.
    pub verdict: Verdict,
    /// The deny that matched, or the allow that opened; none where no single rule decided.
    pub rule: Option<RuleId>,
}

/// The judgement with identity open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// Certain whoever asks.
    Decided(Decision),
    /// Identity matters: verify the credential and judge again.
    SignIn,
}
