//! `[site.maintenance]`; its `unless` is compiled with the rules.
//!
//! Codes: `expired`.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::config::node::{Node, Table, Value};
use crate::config::{Context, Diagnostic};
use crate::snapshot::maintenance::{Maintenance, Position};

/// Compiles the maintenance of a site. Every site has one: it can be switched on while running.
pub(super) fn compile(
    root: &Table,
    table: Option<&Table>,
    site: &Arc<str>,
    cx: &mut Context,
) -> Maintenance {
    let switch = cx.memory.switches.entry(Arc::clone(site)).or_default();
    let mut maintenance = Maintenance {
        switch: Arc::clone(switch),
        ..Maintenance::default()
    };
    let Some(table) = table else {
        return maintenance;
    };
    if table.bool("on") == Some(true) {
        maintenance.configured = Position::On;
    }
    maintenance.message = table.str("message").map(Arc::from);
    if let Some(node) = table.get("until") {
        maintenance.until = moment(root, node, cx);
        if maintenance.until.is_some_and(|end| cx.now >= end)
            && maintenance.configured == Position::On
        {
            let message = "this maintenance has ended";
            let finding = Diagnostic::warning("expired", node.span, message);
            cx.say(finding.help("remove it, or set another time"));
        }
    }
    maintenance
}

/// A date and time; without an offset, in `time_zone`.
fn moment(root: &Table, node: &Node, cx: &mut Context) -> Option<Timestamp> {
    let Value::Datetime(written) = &node.value else {
        return None;
    };
    let text = written.to_string();
    let civil = || {
        // An unknown zone is reported where conditions are compiled.
        let zone = root
            .str("time_zone")
            .and_then(|name| TimeZone::get(name).ok());
        let civil: DateTime = text.parse().ok()?;
        let moment = civil.to_zoned(zone.unwrap_or(TimeZone::UTC)).ok()?;
        Some(moment.timestamp())
    };
    let found = text.parse().ok().or_else(civil);
    if found.is_none() {
        let message = format!("`{text}` is no moment");
        cx.error("invalid-value", node.span, message);
    }
    found
}
