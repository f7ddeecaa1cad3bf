//! The proof that policy allowed a request.

use super::decision::{Decision, RuleId, Verdict};

/// Proof that policy allowed this request. Only [`Decision::permit`] makes one, and forwarding consumes it, so a forgotten
/// check does not compile.
#[must_use]
#[derive(Debug)]
pub struct Permit {
    rule: Option<RuleId>,
}

impl Permit {
    /// The allow that opened, where the route is not open to anyone.
    #[must_use]
    pub const fn rule(&self) -> Option<RuleId> {
        self.rule
    }
}

impl Decision {
    /// A permit, if the verdict is allow.
    #[must_use]
    pub const fn permit(&self) -> Option<Permit> {
        match self.verdict {
            Verdict::Allow => Some(Permit { rule: self.rule }),
            Verdict::Refuse(_)
            | Verdict::NotAuthenticated
            | Verdict::InvalidToken
            | Verdict::StepUp(_)
            | Verdict::CertificateRequired
            | Verdict::Unavailable
            | Verdict::NoSite
            | Verdict::NoRoute
            | Verdict::BadQuery => None,
        }
    }
}
