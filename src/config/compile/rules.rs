//! (being built)

use crate::config::{Context, Table};
use crate::policy::Policy;
use crate::policy::decision::{Refusal, RefusalId, RefusalStatus};
use crate::policy::draft::{Draft, Grant, PathReading, Route, SignIn, Site};
use crate::policy::pattern::Pattern;
use crate::value::reason::Reason;
use crate::value::region::GeoFacts;

/// (being built)
pub fn compile(root: &Table, _provides: GeoFacts, _cx: &mut Context) -> Policy {
    let mut draft = Draft::default();
    draft.refusals.push(Refusal {
        status: RefusalStatus::Forbidden,
        reason: Reason::FORBIDDEN,
        message: None,
        page: None,
        link: None,
        upgrade_url: None,
    });
    for site in root.tables("site") {
        let mut routes: Vec<Route> = site
            .tables("route")
            .map(|r| Route {
                pattern: r.str("path").and_then(|p| Pattern::read(p).ok()),
                denies: vec![],
                grant: Grant::Anyone,
                otherwise: RefusalId(0),
            })
            .collect();
        if site.get("allow").is_some() {
            routes.push(Route {
                pattern: Pattern::read("/**").ok(),
                denies: vec![],
                grant: Grant::Anyone,
                otherwise: RefusalId(0),
            });
        }
        draft.sites.push(Site {
            hosts: site
                .many("host")
                .filter_map(|h| h.as_str()?.parse().ok())
                .collect(),
            sign_in: SignIn::Never,
            reading: PathReading::Lenient,
            denies: vec![],
            routes,
        });
    }
    Policy::new(draft)
}
