//! `[[accept]]`: findings that an operator knows of and wants.
//!
//! An entry names a finding's code and the rule (or the route) that it speaks of. It takes away exactly those: what it names
//! is printed only by `check --verbose`, with the reason, and `check` says yes in spite of it. One that takes nothing away is
//! a warning, since it would hide the next mistake of that name.
//!
//! Codes: `unknown-finding`, `unused-accept`.

use super::CODES;
use crate::config::Context;
use crate::config::diagnostic::{Accepted, Diagnostic, Report, Severity};
use crate::config::nearest::nearest;
use crate::config::node::{Node, Span, Table};

/// An entry.
struct Accept<'t> {
    code: &'t Node,
    rule: &'t Node,
    why: &'t str,
    at: Span,
}

fn every(root: &Table) -> impl Iterator<Item = Accept<'_>> {
    root.tables("accept").filter_map(|table| {
        Some(Accept {
            code: table
                .get("finding")
                .filter(|node| node.as_str().is_some())?,
            rule: table.get("rule").filter(|node| node.as_str().is_some())?,
            why: table.str("why")?,
            at: table.span,
        })
    })
}

/// Reports entries that name no finding.
pub(crate) fn read(root: &Table, cx: &mut Context) {
    for accept in every(root) {
        let code = accept.code.as_str().unwrap_or_default();
        if CODES.iter().any(|(known, _)| *known == code) {
            continue;
        }
        let shown = cx.written(accept.code.span, code);
        let message = format!("`{shown}` is no finding that can be accepted");
        let near = nearest(code, CODES.iter().map(|(known, _)| *known));
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                let codes: Vec<&str> = CODES.iter().map(|(known, _)| *known).collect();
                format!("those are `{}`", codes.join("`, `"))
            }
        };
        cx.say(Diagnostic::error("unknown-finding", accept.code.span, message).help(help));
    }
}

/// Takes the findings that the file accepts out of a report.
pub(crate) fn apply(root: &Table, report: &mut Report) {
    let entries: Vec<Accept<'_>> = every(root).collect();
    if entries.is_empty() {
        return;
    }
    let mut kept = Vec::with_capacity(report.diagnostics.len());
    for finding in std::mem::take(&mut report.diagnostics) {
        let by = entries.iter().find(|entry| entry.means(&finding));
        match by {
            Some(by) => report.accepted.push(Accepted {
                finding,
                why: by.why.to_owned(),
                by: by.at,
            }),
            None => kept.push(finding),
        }
    }
    report.diagnostics = kept;
}

/// Warns of entries that accept nothing. `told` says whether a code was looked for to the end: where it was not, an entry may
/// yet be right.
pub(super) fn unused(root: &Table, report: &mut Report, told: impl Fn(&str) -> bool) {
    let mut warnings = Vec::new();
    for entry in every(root) {
        let code = entry.code.as_str().unwrap_or_default();
        if report.accepted.iter().any(|one| one.by == entry.at) || !told(code) {
            continue;
        }
        let rule = entry.rule.as_str().unwrap_or_default();
        let found = report.diagnostics.iter().filter(|one| one.code == code);
        let names: Vec<&str> = found.filter_map(|one| one.rule.as_deref()).collect();
        let message = format!("there is no finding `{code}` about `{rule}` to accept");
        let warning = Diagnostic::warning("unused-accept", entry.rule.span, message);
        warnings.push(match nearest(rule, names) {
            Some(near) => warning.help(format!("did you mean `{near}`?")),
            None => warning.help("take the `[[accept]]` out: it would hide the next one"),
        });
    }
    report.diagnostics.extend(warnings);
}

impl Accept<'_> {
    fn means(&self, finding: &Diagnostic) -> bool {
        finding.severity != Severity::Error
            && self.code.as_str() == Some(finding.code)
            && self.rule.as_str() == finding.rule.as_deref()
    }
}
