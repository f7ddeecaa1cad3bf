//! Which site and route own a request, and whether its path reads the same way wherever policy looks at it.

use std::collections::HashMap;

use thiserror::Error;

use super::Policy;
use super::condition::Matcher;
use super::decision::{Place, SiteId};
use super::draft::{Conditional, PathReading};
use super::index::PathTests;
use super::pattern::Reading;
use crate::value::host::HostPattern;
use crate::value::path::Target;

/// The two readings of the path meet different rules: the request is refused with 400 `ambiguous_path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the path reads differently in two ways")]
pub struct Ambiguous;

/// Sites by host: exact beats the longest wildcard beats `*`.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: HashMap<Box<str>, SiteId, foldhash::fast::RandomState>,
    under: HashMap<Box<str>, SiteId, foldhash::fast::RandomState>,
    /// Labels of the longest wildcard: no longer suffix is worth a look.
    deepest: usize,
    any: Option<SiteId>,
}

impl Hosts {
    /// Adds a pattern; the first site that names one keeps it.
    pub(super) fn insert(&mut self, pattern: &HostPattern, site: SiteId) {
        match pattern {
            HostPattern::Exact(host) => {
                self.exact.entry(host.clone()).or_insert(site);
            }
            HostPattern::Under(parent) => {
                self.deepest = self.deepest.max(parent.split('.').count());
                self.under.entry(parent.clone()).or_insert(site);
            }
            HostPattern::Any => {
                self.any.get_or_insert(site);
            }
        }
    }

    pub(super) fn find(&self, host: &str) -> Option<SiteId> {
        if let Some(site) = self.exact.get(host) {
            return Some(*site);
        }
        if self.deepest > 0 {
            let labels = host.split('.').count();
            let mut rest = host;
            for left in (1..labels).rev() {
                let (_, parent) = rest.split_once('.')?;
                rest = parent;
                if left <= self.deepest
                    && let Some(site) = self.under.get(rest)
                {
                    return Some(*site);
                }
            }
        }
        self.any
    }
}

impl Policy {
    /// The site and route that own a request. `host` is in the form that is judged: see [`crate::value::host`].
    ///
    /// # Errors
    /// Where the two readings of the path belong to different routes, or differ for a `path` condition of the global rules,
    /// of the site or of the owning route; a site with `path_reading = "strict"` is spared.
    pub fn locate(&self, host: &str, target: &Target<'_>) -> Result<Place, Ambiguous> {
        let id = self.hosts.find(host);
        let Some((id, site)) = id.and_then(|id| Some((id, self.site(id)?))) else {
            if !(target.is_plain() && self.plain) && self.differs(Place::default(), target) {
                return Err(Ambiguous);
            }
            return Ok(Place::default());
        };
        let route = site.index.owner(target, Reading::Strict);
        let place = Place {
            site: Some(id),
            route,
        };
        let compared = match site.reading {
            PathReading::Strict => false,
            PathReading::Lenient => !(target.is_plain() && self.plain && site.plain),
        };
        if compared
            && (site.index.owner(target, Reading::Lenient) != route || self.differs(place, target))
        {
            return Err(Ambiguous);
        }
        Ok(place)
    }

    /// Whether a `path` test of a rule that may judge a request at a place answers differently for the two readings.
    fn differs(&self, place: Place, target: &Target<'_>) -> bool {
        let denies = self.guards(place).into_iter();
        let route = self.route_at(place);
        denies
            .map(|list| differ(&list.denies, list.paths.as_deref(), target))
            .chain(route.map(|route| differ(route.allows(), route.paths.as_deref(), target)))
            .any(|differs| differs)
    }
}

/// Whether a `path` test of a list answers differently for the two readings.
fn differ<R: Conditional>(rules: &[R], paths: Option<&PathTests>, target: &Target<'_>) -> bool {
    let one = |rule: &R| {
        let mut differs = false;
        rule.condition().every_test(&mut |test| {
            if let Matcher::Path(path) = &test.matcher {
                differs |=
                    path.matches(target, Reading::Strict) != path.matches(target, Reading::Lenient);
            }
        });
        differs
    };
    let known = paths.and_then(|paths| paths.differ(target, |at| rules.get(at).is_some_and(one)));
    known.unwrap_or_else(|| rules.iter().any(one))
}
