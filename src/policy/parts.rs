//! The rules of a compiled policy as they were written, for those who reason about all requests at once (`crate::analysis`).
//! Read only: nothing here decides.

use std::net::IpAddr;
use std::sync::Arc;

use super::address::SetId;
use super::decision::{RefusalId, RouteId, SiteId};
use super::draft::{Allow, Deny, Grant, SignIn};
use super::pattern::Pattern;
use super::{Policy, Route, Site};
use crate::value::host::HostPattern;

/// A site.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SitePart<'p> {
    /// Its number.
    pub(crate) id: SiteId,
    site: &'p Site,
}

/// A route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoutePart<'p> {
    /// Its number.
    pub(crate) id: RouteId,
    route: &'p Route,
}

impl Policy {
    /// The global denies, in the order written.
    pub(crate) fn global_denies(&self) -> &[Deny] {
        &self.denies.denies
    }

    /// The sites, in the order written.
    pub(crate) fn site_parts(&self) -> impl Iterator<Item = SitePart<'_>> {
        let ids = (0..).map(SiteId);
        ids.zip(&self.sites).map(|(id, site)| SitePart { id, site })
    }

    /// A site.
    pub(crate) fn site_part(&self, id: SiteId) -> Option<SitePart<'_>> {
        self.site(id).map(|site| SitePart { id, site })
    }

    /// The site that answers for a host, in the form that is judged.
    pub(crate) fn site_of(&self, host: &str) -> Option<SiteId> {
        self.hosts.find(host)
    }

    /// The first address of every interval whose addresses are in exactly the same sets, with its class; sorted, IPv4 and
    /// IPv6 apart.
    pub(crate) fn intervals(&self) -> super::address::Intervalled {
        self.addresses.intervals()
    }

    /// The sets that a class of addresses is in.
    pub(crate) fn sets_of_class(&self, class: u32) -> &[SetId] {
        self.addresses.sets(super::address::ClassId(class))
    }

    /// The class of an address.
    pub(crate) fn class_of(&self, address: IpAddr) -> u32 {
        self.addresses.class(address).0
    }

    /// Every role that a rule or the hierarchy names, with the numbers of all that it holds, itself among them.
    pub(crate) fn role_parts(
        &self,
    ) -> impl Iterator<Item = (&Arc<str>, impl Iterator<Item = usize>)> {
        self.roles.parts()
    }
}

impl<'p> SitePart<'p> {
    /// Its hosts.
    pub(crate) fn hosts(self) -> &'p [HostPattern] {
        &self.site.hosts
    }

    /// The names of its identity sources, in the order tried.
    pub(crate) fn sources(self) -> &'p [Arc<str>] {
        &self.site.sources
    }

    /// How its callers can be known.
    pub(crate) const fn sign_in(self) -> SignIn {
        self.site.sign_in
    }

    /// Its denies, in the order written.
    pub(crate) fn denies(self) -> &'p [Deny] {
        &self.site.denies.denies
    }

    /// Its routes, in the order written; a site-level `allow` is the last, `/**`.
    pub(crate) fn routes(self) -> impl Iterator<Item = RoutePart<'p>> {
        let ids = (0..).map(RouteId);
        ids.zip(&self.site.routes)
            .map(|(id, route)| RoutePart { id, route })
    }
}

impl<'p> RoutePart<'p> {
    /// Which requests it owns.
    pub(crate) const fn pattern(self) -> Option<&'p Pattern> {
        self.route.pattern.as_ref()
    }

    /// Its denies, in the order written.
    pub(crate) fn denies(self) -> &'p [Deny] {
        &self.route.denies.denies
    }

    /// Who may pass.
    pub(crate) const fn grant(self) -> &'p Grant {
        &self.route.grant
    }

    /// Who is allowed, where not anyone is.
    pub(crate) fn allows(self) -> &'p [Allow] {
        self.route.allows()
    }

    /// What the client is told when no allow matches.
    pub(crate) const fn otherwise(self) -> RefusalId {
        self.route.otherwise
    }
}
