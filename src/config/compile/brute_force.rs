//! `[site.brute_force]`.
//!
//! Codes: `nobody-signs-in`.

use std::sync::Arc;

use super::{duration, number};
use crate::config::node::Table;
use crate::config::{Context, Diagnostic, defaults};
use crate::identity::Authenticator;
use crate::identity::failures::Settings;
use crate::snapshot::brute_force::BruteForce;

/// Compiles it; nothing where the site does not count.
pub(super) fn compile(
    table: Option<&Table>,
    site: &Arc<str>,
    identity: &Authenticator,
    cx: &mut Context,
) -> Option<BruteForce> {
    let table = table?;
    if identity.is_empty() {
        let message = "nobody signs in to this site, so nobody fails to";
        cx.say(
            Diagnostic::warning("nobody-signs-in", table.span, message)
                .help("name a source in `identity` of the site"),
        );
    }
    let by_default = defaults::BRUTE_FORCE;
    let settings = Settings {
        failures: number(table, "failures").unwrap_or(by_default.failures),
        per: duration(table, "per").unwrap_or(by_default.per),
        hold: duration(table, "hold").unwrap_or(by_default.hold),
    };
    Some(BruteForce {
        failures: cx.memory.failures.of(site, settings),
        source: cx.source(table.span),
    })
}
