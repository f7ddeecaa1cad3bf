//! The decision engine: facts of one request in, one decision out. Pure: no tokio, no hyper, no files, no clock.
//!
//! The language is DESIGN section 2: routes own, denies guard, order means nothing. A request passes when no deny matches
//! (global, of its site, of its route) and at least one allow of its route matches.
//!
//! - [`facts`]: what policy may see of a request.
//! - [`decision`]: what it concludes.

pub mod decision;
pub mod facts;

pub use decision::{
    Decision, Refusal, RefusalId, RefusalStatus, RuleId, RuleInfo, RuleKind, Verdict,
};
pub use facts::{Facts, Identity, Person, RoleSet};

/// The compiled rules.
#[derive(Debug, Default)]
pub struct Policy;
