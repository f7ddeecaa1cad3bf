//! Every setting with the value that holds, written or by default: what `check --verbose` shows. The text is TOML.
//!
//! Values are shown as they are written, `${…}` and all. Rules, sets and identity sources are not settings: they have no
//! defaults worth showing, and sources may hold secrets.

use super::diagnostic::Report;
use super::node::{Node, Table};
use super::raw::{Key, Kind, Presence, ROOT, Section};

/// The settings of a configuration.
#[must_use]
pub fn settings(root: &Table, report: &Report) -> String {
    let mut page = Page {
        text: String::new(),
        report,
    };
    for name in SCALARS {
        if let Some(key) = ROOT.key(name) {
            page.line(key, root.get(name));
        }
    }
    for name in TABLES {
        let Some((key, section)) = ROOT
            .key(name)
            .and_then(|key| Some((key, section(&key.kind)?)))
        else {
            continue;
        };
        for (header, table) in instances(key, root) {
            page.table(&header, table, section);
        }
    }
    page.text
}

/// The tables of a key with their headers; an empty one where a lone table is not written, since its defaults hold.
fn instances<'t>(key: &Key, root: &'t Table) -> Vec<(String, &'t Table)> {
    let single = format!("[{}]", key.name);
    let Some(node) = root.get(key.name) else {
        let holds = matches!(key.kind, Kind::Table(_) | Kind::OneOrMany(_));
        return if holds {
            vec![(single, &EMPTY)]
        } else {
            Vec::new()
        };
    };
    if matches!(key.kind, Kind::Named(_)) {
        let entries = node.as_table().map(|table| table.entries.as_slice());
        let named = entries.unwrap_or_default().iter();
        return named
            .filter_map(|entry| {
                Some((
                    format!("[{}.{}]", key.name, entry.key),
                    entry.node.as_table()?,
                ))
            })
            .collect();
    }
    let header = match node.as_table() {
        Some(_) => single,
        None => format!("[{single}]"),
    };
    let tables = node.many().filter_map(Node::as_table);
    tables.map(|table| (header.clone(), table)).collect()
}

/// The section of a key that takes tables.
fn section(kind: &Kind) -> Option<&'static Section> {
    if let Kind::Table(section) | Kind::Tables(section) = kind {
        return Some(section);
    }
    if let Kind::OneOrMany(inner) | Kind::Named(inner) = kind {
        return section(inner);
    }
    None
}

struct Page<'r> {
    text: String,
    report: &'r Report,
}

impl Page<'_> {
    fn table(&mut self, header: &str, table: &Table, section: &'static Section) {
        self.text.push_str(&format!("\n{header}\n"));
        let mut inner = Vec::new();
        for key in section.keys().filter(|key| key.built.works()) {
            let node = table.get(key.name);
            if let Kind::Table(section) = key.kind {
                // `[server.limits]` holds whether it is written or not.
                let found = node.and_then(Node::as_table);
                if found.is_some() || section.id == "limits" {
                    inner.push((key.name, section, found.unwrap_or(&EMPTY)));
                }
            } else if !matches!(key.kind, Kind::Tables(_)) {
                self.line(key, node);
            }
        }
        let name = header.trim_matches(['[', ']']);
        for (key, section, table) in inner {
            self.table(&format!("[{name}.{key}]"), table, section);
        }
    }

    fn line(&mut self, key: &Key, node: Option<&Node>) {
        let written = node.and_then(|node| {
            let file = self.report.files.get(usize::from(node.span.file.0))?;
            file.text
                .get(node.span.start as usize..node.span.end as usize)
        });
        let name = key.name;
        let line = match (written, key.presence) {
            (Some(written), _) if SECRETS.contains(&name) && !written.contains("${") => {
                format!("{name} = \"…\"\n")
            }
            (Some(written), _) => {
                let joined: Vec<&str> = written.lines().map(str::trim).collect();
                format!("{name} = {}\n", joined.join(" "))
            }
            (None, Presence::Default(value)) => format!("{name} = {value}  # default\n"),
            (None, Presence::Required | Presence::Optional) => return,
        };
        self.text.push_str(&line);
    }
}

/// Keys whose values are not shown where they stand in the file itself.
const SECRETS: &[&str] = &["token", "mac_key"];

const SCALARS: &[&str] = &["time_zone", "default_language"];

const TABLES: &[&str] = &[
    "server",
    "admin",
    "access_log",
    "geoip",
    "client",
    "denial",
    "listener",
    "upstream",
    "site",
];

static EMPTY: Table = Table {
    entries: Vec::new(),
    span: super::node::Span {
        file: super::node::FileId(0),
        start: 0,
        end: 0,
    },
};
