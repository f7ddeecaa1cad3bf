//! `[denial]`, `[site.intercept]` and `[site.cors]`: what a refused client sees.
//!
//! A site's or route's `[denial]` adds to what it inherits: its own pages are looked at first, its shape and contact replace.
//! [`page`] also serves rules and `otherwise`, which may name a page of their own.

use http::StatusCode;

use crate::config::Context;
use crate::config::diagnostic::Diagnostic;
use crate::config::node::{Node, Span, Table};
use crate::snapshot::notice::{Contact, Denial, Folder, Intercept, InterceptWhen, Level, Shape};

mod cors;
mod page;

pub use cors::cors;
pub use page::page;

/// A `[denial]` table on top of what it inherits.
pub fn compile(table: Option<&Table>, base: &Denial, cx: &mut Context) -> Denial {
    let mut denial = base.clone();
    let Some(table) = table else {
        return denial;
    };
    match table.str("shape") {
        Some("flat") => denial.shape = Shape::Flat,
        Some("nested") => denial.shape = Shape::Nested,
        Some("node") => denial.shape = Shape::Node,
        Some("problem") => denial.shape = Shape::Problem,
        // The key table reports any other word.
        Some(_) | None => {}
    }
    let own = table.get("page").and_then(|node| page(node, cx));
    let folder = table.get("pages").and_then(|node| page::folder(node, cx));
    if let (Some(_), Some(folder), Some(node)) = (&own, &folder, table.get("pages")) {
        never_shown(folder, node.span, cx);
    }
    if own.is_some() || folder.is_some() {
        denial.levels.insert(0, Level { page: own, folder });
    }
    if let Some(contact) = table.str("contact").map(str::trim) {
        denial.contact = (!contact.is_empty()).then(|| Contact::new(contact));
    }
    denial
}

/// `[site.intercept]`: 403 unless it names others.
pub fn intercept(table: &Table, _cx: &mut Context) -> Option<Intercept> {
    // The key table reports what is no error status.
    let status = |node: &Node| {
        let number = u16::try_from(node.as_int()?).ok()?;
        StatusCode::from_u16(number)
            .ok()
            .filter(|status| status.is_client_error() || status.is_server_error())
    };
    let statuses = match table.get("statuses") {
        Some(node) => node.many().filter_map(status).collect(),
        None => vec![StatusCode::FORBIDDEN],
    };
    let when = if table.bool("force") == Some(true) {
        InterceptWhen::Always
    } else {
        InterceptWhen::Helpful
    };
    Some(Intercept { statuses, when })
}

/// Pages of the folder that the `page` beside it hides.
fn never_shown(folder: &Folder, span: Span, cx: &mut Context) {
    for status in ["401", "403", "451"] {
        if folder.get(status).is_some() {
            cx.say(
                Diagnostic::warning(
                    "unused-page",
                    span,
                    format!("`{status}.html` is never shown, since `page` beside it answers 401, 403 and 451"),
                )
                .help("leave `page` out"),
            );
        }
    }
}

#[cfg(test)]
mod tests;
