//! A policy as the compiler of the configuration hands it over, before its indexes are built.

use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;

use super::claim;
use super::condition::{Condition, Matcher};
use super::decision::{Place, Refusal, RefusalId, RuleId, RuleInfo};
use super::limit::{Limit, LimitId};
use super::pattern::Pattern;
use super::role::Roles;
use crate::value::host::HostPattern;

/// All parts of a policy.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// Every rule, by [`RuleId`].
    pub rules: Vec<RuleInfo>,
    /// Every refusal, by [`RefusalId`].
    pub refusals: Vec<Refusal>,
    /// The global denies, in the order written.
    pub denies: Vec<Deny>,
    /// Every limit, by [`LimitId`].
    pub limits: Vec<Limit>,
    /// The global limits.
    pub limited: Vec<LimitId>,
    /// The sites, in the order written.
    pub sites: Vec<Site>,
    /// The address sets, by [`super::address::SetId`].
    pub addresses: Vec<Vec<IpNet>>,
    /// The roles and what they hold.
    pub roles: Roles,
    /// Rules with `shadow = true`, which have no say.
    pub shadows: Vec<Shadow>,
}

/// A rule with `shadow = true`.
#[derive(Debug, Clone)]
pub struct Shadow {
    /// Where it is written: everywhere, in a site, or in a route.
    pub place: Place,
    /// Its number.
    pub rule: RuleId,
    /// What it would do.
    pub effect: Effect,
    /// When it matches.
    pub condition: Condition,
}

/// What a shadow rule would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Refuse, and tell the client this.
    Deny(RefusalId),
    /// Let pass where no deny matches.
    Allow,
}

/// What rules read of a request by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Header fields, sorted.
    pub headers: Vec<HeaderName>,
    /// Whether facts about devices are read.
    pub devices: bool,
    /// Paths of claims, sorted.
    pub claims: Vec<Arc<str>>,
    /// Paths of device facts, sorted.
    pub device: Vec<Arc<str>>,
    /// Whether a WebSocket is asked for.
    pub upgrade: bool,
    /// Whether cookies are read.
    pub cookies: bool,
}

impl Draft {
    /// What the rules read by name.
    #[must_use]
    pub fn inputs(&self) -> Inputs {
        let mut inputs = Inputs::default();
        let routes = self.sites.iter().flat_map(|site| &site.routes);
        let denies = self.sites.iter().flat_map(|site| &site.denies);
        let denies = self.denies.iter().chain(denies);
        let denies = denies.chain(routes.clone().flat_map(|route| &route.denies));
        let allows = routes.flat_map(|route| match &route.grant {
            Grant::Anyone => &[][..],
            Grant::Rules(allows) => allows,
        });
        let conditions = denies.map(|deny| &deny.condition);
        let conditions = conditions.chain(allows.map(|allow| &allow.condition));
        let shadows = self.shadows.iter().map(|shadow| &shadow.condition);
        let limits = self.limits.iter().map(|limit| &limit.condition);
        let closed = self.sites.iter().map(|site| &site.maintained);
        for condition in conditions.chain(shadows).chain(limits).chain(closed) {
            condition.every_test(&mut |test| {
                if let Matcher::Header(name, _) = &test.matcher {
                    inputs.headers.push(name.clone());
                } else if let Matcher::Claim(claim) = &test.matcher {
                    inputs.claims.push(Arc::clone(&claim.path));
                } else if matches!(&test.matcher, Matcher::Fresh(_)) {
                    inputs.claims.push(Arc::from(claim::AUTH_TIME));
                } else if let Matcher::Device(device) = &test.matcher {
                    inputs.device.push(Arc::clone(&device.path));
                    inputs.devices = true;
                } else if matches!(&test.matcher, Matcher::WebSocket) {
                    inputs.upgrade = true;
                } else if matches!(&test.matcher, Matcher::Cookie(..)) {
                    inputs.cookies = true;
                }
            });
        }
        inputs
            .headers
            .sort_by(|one, other| one.as_str().cmp(other.as_str()));
        inputs.headers.dedup();
        inputs.claims.sort_unstable();
        inputs.claims.dedup();
        inputs.device.sort_unstable();
        inputs.device.dedup();
        inputs
    }
}

/// A deny.
#[derive(Debug, Clone)]
pub struct Deny {
    /// Its number.
    pub rule: RuleId,
    /// What the client is told.
    pub refusal: RefusalId,
    /// When it matches.
    pub condition: Condition,
}

/// An entry of an `allow` list.
#[derive(Debug, Clone)]
pub struct Allow {
    /// Its number.
    pub rule: RuleId,
    /// When it matches.
    pub condition: Condition,
}

/// A rule with a condition.
pub(super) trait Conditional {
    /// When it matches.
    fn condition(&self) -> &Condition;
}

impl Conditional for Deny {
    fn condition(&self) -> &Condition {
        &self.condition
    }
}

impl Conditional for Allow {
    fn condition(&self) -> &Condition {
        &self.condition
    }
}

/// Who may pass where no deny matches.
#[derive(Debug, Clone)]
pub enum Grant {
    /// Anyone: `allow = "anyone"`, or an answer of our own without `allow`.
    Anyone,
    /// Whom one of these allows.
    Rules(Vec<Allow>),
}

/// How callers of a site can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignIn {
    /// The site has no identity sources: everybody is anonymous from the start.
    #[default]
    Never,
    /// Only by a client certificate, which cannot be asked for any more.
    CertificateOnly,
    /// By a credential that a 401 asks for.
    Possible,
}

/// `path_reading`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PathReading {
    /// Both readings are compared.
    #[default]
    Lenient,
    /// Only the strict one counts.
    Strict,
}

/// A site.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its hosts.
    pub hosts: Vec<HostPattern>,
    /// The names of its identity sources, in the order tried.
    pub sources: Vec<Arc<str>>,
    /// How its callers can be known.
    pub sign_in: SignIn,
    /// Whether both readings of a path are compared.
    pub reading: PathReading,
    /// Its denies, in the order written.
    pub denies: Vec<Deny>,
    /// Its limits.
    pub limited: Vec<LimitId>,
    /// Whom its maintenance keeps out: nothing but `unless`.
    pub maintained: Condition,
    /// Its routes, in the order written; a site-level `allow` is the last, `/**`.
    pub routes: Vec<Route>,
}

/// A route.
#[derive(Debug, Clone)]
pub struct Route {
    /// Which requests it owns; none where the pattern is broken (such a configuration is refused).
    pub pattern: Option<Pattern>,
    /// Its denies, in the order written.
    pub denies: Vec<Deny>,
    /// Its limits.
    pub limited: Vec<LimitId>,
    /// Who may pass.
    pub grant: Grant,
    /// What the client is told when no allow matches.
    pub otherwise: RefusalId,
}
