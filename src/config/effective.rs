//! Every setting with the value that holds, written or by default: what `check --verbose` shows. The text is TOML.
//!
//! Values are shown as they are written, `${…}` and all, so that no secret is ever shown.

use super::diagnostic::Report;
use super::node::{Node, Table};
use super::raw::{Built, Kind, Presence, ROOT, Section};

/// The settings of a configuration.
#[must_use]
pub fn settings(root: &Table, report: &Report) -> String {
    let mut text = String::new();
    let empty = Table::default();
    for key in ROOT.keys().filter(|key| key.built == Built::Now) {
        let node = root.get(key.name);
        match &key.kind {
            Kind::Table(section) => {
                let table = node.and_then(Node::as_table).unwrap_or(&empty);
                show(
                    &mut text,
                    key.name,
                    Brackets::Single,
                    table,
                    section,
                    report,
                );
            }
            Kind::OneOrMany(Kind::Table(section)) if node.is_none() => {
                show(
                    &mut text,
                    key.name,
                    Brackets::Single,
                    &empty,
                    section,
                    report,
                );
            }
            Kind::OneOrMany(Kind::Table(section)) | Kind::Tables(section)
                if !RULES.contains(&section.id) =>
            {
                for table in root.tables(key.name) {
                    show(
                        &mut text,
                        key.name,
                        Brackets::Double,
                        table,
                        section,
                        report,
                    );
                }
            }
            Kind::Named(Kind::Table(section)) if !RULES.contains(&section.id) => {
                let entries = node
                    .and_then(Node::as_table)
                    .map(|table| table.entries.as_slice());
                for entry in entries.unwrap_or_default() {
                    let name = format!("{}.{}", key.name, entry.key);
                    let table = entry.node.as_table().unwrap_or(&empty);
                    show(&mut text, &name, Brackets::Single, table, section, report);
                }
            }
            _ if matches!(key.presence, Presence::Default(_)) || node.is_some() => {
                line(&mut text, key.name, node, key.presence, report);
            }
            _ => {}
        }
    }
    text
}

/// How a table's header is written.
#[derive(Clone, Copy)]
enum Brackets {
    Single,
    Double,
}

fn show(
    text: &mut String,
    name: &str,
    brackets: Brackets,
    table: &Table,
    section: &'static Section,
    report: &Report,
) {
    let header = match brackets {
        Brackets::Single => format!("\n[{name}]\n"),
        Brackets::Double => format!("\n[[{name}]]\n"),
    };
    text.push_str(&header);
    let mut inner = Vec::new();
    for key in section.keys().filter(|key| key.built == Built::Now) {
        let node = table.get(key.name);
        match (&key.kind, node.map(Node::as_table)) {
            (Kind::Table(section), found) => {
                // `[server.limits]` holds whether it is written or not.
                if found.is_some() || section.id == "limits" {
                    inner.push((key.name, *section, found.flatten()));
                }
            }
            (Kind::Tables(_), _) => {}
            (_, _) => line(text, key.name, node, key.presence, report),
        }
    }
    let empty = Table::default();
    for (key, section, table) in inner {
        let table = table.unwrap_or(&empty);
        show(
            text,
            &format!("{name}.{key}"),
            Brackets::Single,
            table,
            section,
            report,
        );
    }
}

fn line(text: &mut String, name: &str, node: Option<&Node>, presence: Presence, report: &Report) {
    let written = node.and_then(|node| {
        let file = report.files.get(usize::from(node.span.file.0))?;
        file.text
            .get(node.span.start as usize..node.span.end as usize)
    });
    let shown = match (written, presence) {
        (Some(written), _) => {
            let mut lines = written.lines().map(str::trim);
            let first = lines.next().unwrap_or_default();
            let more = if lines.next().is_some() { " …" } else { "" };
            format!("{name} = {first}{more}\n")
        }
        (None, Presence::Default(value)) => format!("{name} = {value}  # default\n"),
        (None, Presence::Required | Presence::Optional) => return,
    };
    text.push_str(&shown);
}

/// Sections that hold rules rather than settings.
const RULES: &[&str] = &["deny", "limit", "test", "accept", "time_set", "claim_set"];
