//! The decision engine: facts of one request in, one decision out. Pure: no tokio, no hyper, no files, no clock.
//!
//! The language is DESIGN section 2: routes own, denies guard, order means nothing. A request passes when no deny matches
//! (global, of its site, of its route) and at least one allow of its route matches.
//!
//! One request: [`Policy::locate`] finds site and route; [`Policy::first`] judges with identity open; where that leaves
//! the answer open the caller verifies a credential and asks [`Policy::second`].
//!
//! - [`facts`]: what policy may see of a request.
//! - [`decision`]: what it concludes.
//! - [`condition`], with [`address`], [`claim`], [`pattern`], [`role`], [`text`], [`time`]: what rules ask of the facts.
//! - [`draft`]: a policy before its indexes are built; `config::compile` writes it.
//! - `locate`, `evaluate`: the engine; `index`: which rules of a long list it must look at.
//! - [`mutate`]: a policy with one small mistake in it, for `test --mutate`.
//! - [`explain`]: how a request is judged, rule by rule, as data.
//! - `parts`: the rules as written, for `crate::analysis`.
//! - [`simulate`]: a request that nobody sent, for policy tests and `explain`.

use std::sync::Arc;

pub mod address;
pub mod claim;
pub mod condition;
pub mod decision;
pub mod draft;
mod evaluate;
pub mod explain;
pub mod facts;
mod hash;
mod index;
mod locate;
pub mod mutate;
mod parts;
pub mod pattern;
mod permit;
pub mod role;
pub mod simulate;
pub mod text;
pub mod time;

#[cfg(test)]
pub(crate) mod tests;

pub use decision::{
    Credential, Decision, First, Place, Refusal, RefusalId, RefusalStatus, RouteId, RuleId,
    RuleInfo, RuleKind, SiteId, Verdict,
};
pub use facts::{Facts, Identity, Person, RoleSet};
pub use locate::Ambiguous;
pub(crate) use parts::{RoutePart, SitePart};
pub use permit::Permit;

use self::address::Addresses;
use self::condition::{Condition, Matcher};
use self::draft::{Allow, Conditional, Deny, Draft, Grant, Inputs, PathReading, SignIn};
use self::index::{Index, PathTests};
use self::pattern::{Pattern, Routes};
use self::role::Roles;
use self::text::Side;
use crate::value::host::HostPattern;
use crate::value::principal::Principal;
use crate::value::region::GeoFacts;
use crate::value::source::Source;

/// The compiled rules.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<RuleInfo>,
    refusals: Vec<Refusal>,
    denies: Denies,
    sites: Vec<Site>,
    hosts: locate::Hosts,
    addresses: Addresses,
    roles: Roles,
    reads: GeoFacts,
    /// Whether a plain target surely meets the `path` tests of the global rules in one way only.
    plain: bool,
    reads_query: bool,
    inputs: Inputs,
    /// What an id that this policy does not know stands for.
    strange: (RuleInfo, Refusal),
}

/// A site, indexed.
#[derive(Debug)]
struct Site {
    hosts: Vec<HostPattern>,
    sources: Vec<Arc<str>>,
    sign_in: SignIn,
    reading: PathReading,
    denies: Denies,
    routes: Vec<Route>,
    index: Routes,
    plain: bool,
    reads_query: bool,
}

/// A route, with what is known of its rules beforehand.
#[derive(Debug)]
struct Route {
    pattern: Option<Pattern>,
    denies: Denies,
    grant: Grant,
    /// Of the allows, where there are many.
    index: Option<Index>,
    paths: Option<Box<PathTests>>,
    otherwise: RefusalId,
    reads_query: bool,
}

/// A list of denies.
#[derive(Debug, Default)]
struct Denies {
    denies: Vec<Deny>,
    /// Where there are many.
    index: Option<Index>,
    paths: Option<Box<PathTests>>,
}

/// No denies at all.
static NO_DENIES: Denies = Denies {
    denies: Vec::new(),
    index: None,
    paths: None,
};

impl Denies {
    fn new(denies: Vec<Deny>) -> Self {
        let (index, paths) = indexes(&denies, Side::Hurts);
        Self {
            denies,
            index,
            paths,
        }
    }
}

/// The indexes of a list, where it is long.
fn indexes<R: Conditional>(rules: &[R], side: Side) -> (Option<Index>, Option<Box<PathTests>>) {
    let conditions = || rules.iter().map(Conditional::condition);
    let index = Index::new(conditions(), side);
    let long = index.as_ref().is_some_and(Index::is_long);
    let paths = long.then(|| Box::new(PathTests::new(conditions())));
    (index, paths)
}

impl Route {
    fn allows(&self) -> &[Allow] {
        match &self.grant {
            Grant::Anyone => &[],
            Grant::Rules(allows) => allows,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(Draft::default())
    }
}

impl Policy {
    /// Builds the indexes of a policy.
    #[must_use]
    pub fn new(draft: Draft) -> Self {
        let inputs = draft.inputs();
        let Draft {
            rules,
            refusals,
            denies,
            sites,
            addresses,
            mut roles,
        } = draft;
        roles.widen();
        let mut hosts = locate::Hosts::default();
        for (id, site) in (0..).map(SiteId).zip(&sites) {
            for pattern in &site.hosts {
                hosts.insert(pattern, id);
            }
        }
        let mut sum = Sum::of(denies.iter().map(|deny| &deny.condition));
        let (plain, reads_query) = (sum.plain, sum.query);
        let sites = sites.into_iter().map(|site| {
            let (site, more) = index(site);
            sum.reads = sum.reads.union(more);
            site
        });
        Self {
            sites: sites.collect(),
            rules,
            refusals,
            denies: Denies::new(denies),
            hosts,
            addresses: Addresses::new(&addresses),
            roles,
            reads: sum.reads,
            plain,
            reads_query,
            inputs,
            strange: strange(),
        }
    }

    /// This policy without the indexes of its lists: every rule is tried, one after the other. The oracle of tests and
    /// the baseline of benches.
    #[must_use]
    pub fn plain(mut self) -> Self {
        let bare = |list: &mut Denies| (list.index, list.paths) = (None, None);
        bare(&mut self.denies);
        for site in &mut self.sites {
            bare(&mut site.denies);
            for route in &mut site.routes {
                bare(&mut route.denies);
                (route.index, route.paths) = (None, None);
            }
        }
        self
    }

    /// Bytes that the indexes of lists take.
    #[must_use]
    pub fn index_bytes(&self) -> usize {
        let sites = self.sites.iter();
        let routes = sites.clone().flat_map(|site| &site.routes);
        let denies = sites.map(|site| &site.denies).chain([&self.denies]);
        let denies = denies.chain(routes.clone().map(|route| &route.denies));
        let indexes = denies
            .map(|list| &list.index)
            .chain(routes.map(|route| &route.index));
        indexes.flatten().map(|index| index.bytes()).sum()
    }

    /// Bytes that the table of addresses takes.
    #[must_use]
    pub fn address_bytes(&self) -> usize {
        self.addresses.bytes()
    }

    /// The number of the class of an address: two with the same are in exactly the same sets.
    #[must_use]
    pub fn address_class(&self, address: std::net::IpAddr) -> u32 {
        self.addresses.class(address).0
    }

    /// A rule as logs name it.
    #[must_use]
    pub fn rule(&self, id: RuleId) -> &RuleInfo {
        let at = usize::try_from(id.0).ok();
        at.and_then(|at| self.rules.get(at))
            .unwrap_or(&self.strange.0)
    }

    /// Every rule, by number.
    #[must_use]
    pub fn rules(&self) -> &[RuleInfo] {
        &self.rules
    }

    /// What a refused client is told.
    #[must_use]
    pub fn refusal(&self, id: RefusalId) -> &Refusal {
        let at = usize::try_from(id.0).ok();
        at.and_then(|at| self.refusals.get(at))
            .unwrap_or(&self.strange.1)
    }

    /// A principal with its roles as this policy numbers them.
    #[must_use]
    pub fn person(&self, principal: Arc<Principal>) -> Person {
        let roles = self
            .roles
            .widened(principal.roles.iter().map(|role| &**role));
        Person { principal, roles }
    }

    /// Whether a site has identity sources.
    #[must_use]
    pub fn signs_in(&self, site: SiteId) -> bool {
        self.site(site)
            .is_some_and(|site| site.sign_in != SignIn::Never)
    }

    /// The geographic facts that some rule reads.
    #[must_use]
    pub const fn reads(&self) -> GeoFacts {
        self.reads
    }

    /// What rules read of a request by name.
    #[must_use]
    pub const fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    fn site(&self, id: SiteId) -> Option<&Site> {
        self.sites.get(usize::try_from(id.0).ok()?)
    }

    fn site_at(&self, place: Place) -> Option<&Site> {
        self.site(place.site?)
    }

    fn route_at(&self, place: Place) -> Option<&Route> {
        let site = self.site_at(place)?;
        site.routes.get(usize::try_from(place.route?.0).ok()?)
    }

    /// The denies that guard a place: global, of the site, of the route.
    fn guards(&self, place: Place) -> [&Denies; 3] {
        let site = self.site_at(place).map_or(&NO_DENIES, |site| &site.denies);
        let route = self.route_at(place);
        let route = route.map_or(&NO_DENIES, |route| &route.denies);
        [&self.denies, site, route]
    }

    fn sign_in(&self, place: Place) -> SignIn {
        self.site_at(place)
            .map_or(SignIn::Never, |site| site.sign_in)
    }

    /// Whether a rule that applies at a place reads the query.
    fn reads_query(&self, place: Place) -> bool {
        self.reads_query
            || self.site_at(place).is_some_and(|site| site.reads_query)
            || self.route_at(place).is_some_and(|route| route.reads_query)
    }
}

fn index(site: draft::Site) -> (Site, GeoFacts) {
    let own = Sum::of(site.denies.iter().map(|deny| &deny.condition));
    let (mut plain, mut reads) = (own.plain, own.reads);
    let patterns = site.routes.iter().map(|route| route.pattern.as_ref());
    let index = Routes::new(&patterns);
    plain &= index.is_plain();
    let routes = site.routes.into_iter().map(|route| {
        let allows = match &route.grant {
            Grant::Anyone => &[][..],
            Grant::Rules(allows) => allows,
        };
        let denies = route.denies.iter().map(|deny| &deny.condition);
        let sum = Sum::of(denies.chain(allows.iter().map(|allow| &allow.condition)));
        plain &= sum.plain;
        reads = reads.union(sum.reads);
        let (index, paths) = indexes(allows, Side::Helps);
        Route {
            pattern: route.pattern,
            denies: Denies::new(route.denies),
            grant: route.grant,
            index,
            paths,
            otherwise: route.otherwise,
            reads_query: sum.query,
        }
    });
    let routes = routes.collect();
    let site = Site {
        hosts: site.hosts,
        sources: site.sources,
        sign_in: site.sign_in,
        reading: site.reading,
        denies: Denies::new(site.denies),
        routes,
        index,
        plain,
        reads_query: own.query,
    };
    (site, reads)
}

/// What some conditions have in common.
struct Sum {
    reads: GeoFacts,
    plain: bool,
    query: bool,
}

impl Sum {
    fn of<'c>(conditions: impl Iterator<Item = &'c Condition>) -> Self {
        let mut sum = Self {
            reads: GeoFacts::NONE,
            plain: true,
            query: false,
        };
        for condition in conditions {
            condition.every_test(&mut |test| {
                sum.reads = sum.reads.union(test.matcher.reads());
                if let Matcher::Path(path) = &test.matcher {
                    sum.plain &= path.is_plain();
                }
                sum.query |= matches!(test.matcher, Matcher::Query(..));
            });
        }
        sum
    }
}

/// An id of another policy is a mistake of the caller; it is answered as the default refusal, never with a panic.
fn strange() -> (RuleInfo, Refusal) {
    let rule = RuleInfo {
        name: Arc::from("unknown"),
        source: Source {
            file: Arc::from(""),
            line: 0,
        },
        kind: RuleKind::Deny,
    };
    (rule, Refusal::default())
}
