//! From files to one tree: reads the root file and what it includes, puts variables into strings, and merges.
//!
//! `include` names more files by glob, relative to the root file; the root comes first, then the files by name. Arrays of
//! tables are joined; tables whose keys are names that the operator chooses (`[ip]`, `[upstream]` …) are joined name by name;
//! anything else that is written twice is an error naming both places.
//!
//! In string values (never in keys) `${VAR}` is the variable of the environment, `${VAR:-text}` the same or the text where
//! it is unset or empty, and `${file:path}` the content of a file without its last line break. `$${` stands for `${`; any
//! other `$` for itself. What was put in is not looked at again.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::context::Context;
use super::diagnostic::{Diagnostic, SourceFile};
use super::node::{self, Entry, FileId, Node, Span, Table, Value};
use super::raw::{Kind, ROOT};

/// What to load.
#[derive(Debug, Clone)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// Text that stands in no file, such as the embedded default.
    Text {
        /// Its name in diagnostics.
        name: String,
        /// The text.
        text: String,
        /// What paths in it are relative to.
        folder: PathBuf,
    },
}

impl Input {
    /// The file, or what the text is called.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Text { name, .. } => name.clone(),
        }
    }
}

/// Looks up a variable of the environment.
pub(crate) type Variables<'v> = &'v dyn Fn(&str) -> Option<String>;

/// Reads everything. What could not be read is reported; the tree holds the rest.
pub(crate) fn read(input: Input, variables: Variables<'_>, cx: &mut Context) -> Table {
    let (name, folder, text, path) = match input {
        Input::Text { name, text, folder } => (name, folder, text, None),
        Input::File(path) => {
            cx.watch.push(path.clone());
            let text = match read_text(&path) {
                Ok(text) => text,
                Err(why) => {
                    let message = format!("`{}` cannot be read: {why}", path.display());
                    cx.say(Diagnostic::global("unreadable-file", message));
                    return Table::default();
                }
            };
            let folder = path.parent().unwrap_or_else(|| Path::new("")).to_owned();
            (path.display().to_string(), folder, text, Some(path))
        }
    };
    let mut root = one_file(&name, &folder, text, variables, cx);
    let Some(include) = root.get("include").cloned() else {
        return root;
    };
    for file in included(&include, &folder, path.as_deref(), cx) {
        let text = match read_text(&file.path) {
            Ok(text) => text,
            Err(why) => {
                let message = format!("`{}` cannot be read: {why}", file.path.display());
                cx.error("unreadable-file", file.named_at, message);
                continue;
            }
        };
        cx.watch.push(file.path.clone());
        let name = file.path.display().to_string();
        let folder = file.path.parent().unwrap_or_else(|| Path::new(""));
        let table = one_file(&name, folder, text, variables, cx);
        merge(&mut root, table, cx);
    }
    root
}

fn one_file(
    name: &str,
    folder: &Path,
    text: String,
    variables: Variables<'_>,
    cx: &mut Context,
) -> Table {
    let Ok(id) = u16::try_from(cx.report.files.len()) else {
        let message = format!("`{name}` is one file too many: 65536 are enough");
        cx.say(Diagnostic::global("unreadable-file", message));
        return Table::default();
    };
    let (mut table, mistakes) = node::parse(&text, FileId(id));
    cx.report.files.push(SourceFile {
        name: Arc::from(name),
        folder: folder.to_owned(),
        text: Arc::from(text),
    });
    cx.report.diagnostics.extend(mistakes);
    for entry in &mut table.entries {
        substitute(&mut entry.node, variables, cx);
    }
    table
}

/// A file that `include` names.
struct Included {
    path: PathBuf,
    named_at: Span,
}

fn included(include: &Node, folder: &Path, root: Option<&Path>, cx: &mut Context) -> Vec<Included> {
    let mut found: Vec<Included> = Vec::new();
    // A wrong type of `include` is reported with all the others.
    for node in include.as_list().unwrap_or_default() {
        let Some(pattern) = node.as_str() else {
            continue;
        };
        let mut paths = vec![if pattern.starts_with('/') {
            PathBuf::from("/")
        } else {
            folder.to_owned()
        }];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            if !part.contains(['*', '?', '[', '{']) {
                paths.iter_mut().for_each(|path| path.push(part));
                continue;
            }
            let glob = match globset::Glob::new(part) {
                Ok(glob) if part != "**" => glob.compile_matcher(),
                Ok(_) | Err(_) => {
                    let message = format!("`{pattern}` is not a glob that `include` knows");
                    let finding = Diagnostic::error("invalid-value", node.span, message);
                    cx.say(finding.help("`*` and `?` stand for parts of one name"));
                    paths.clear();
                    break;
                }
            };
            cx.watch.extend(
                paths
                    .iter()
                    .filter(|path| path.is_dir() || path.as_os_str().is_empty())
                    .map(|path| {
                        if path.as_os_str().is_empty() {
                            PathBuf::from(".")
                        } else {
                            path.clone()
                        }
                    }),
            );
            paths = paths
                .iter()
                .flat_map(|path| children(path, &glob))
                .collect();
        }
        let named_at = node.span;
        found.extend(paths.into_iter().map(|path| Included { path, named_at }));
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup_by(|a, b| a.path == b.path);
    let root = root.and_then(|path| path.canonicalize().ok());
    found.retain(|file| root.is_none() || file.path.canonicalize().ok() != root);
    found
}

/// The entries of a folder whose names match; hidden ones only where the pattern says so.
fn children(folder: &Path, glob: &globset::GlobMatcher) -> Vec<PathBuf> {
    let listed = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let hidden = glob.glob().glob().starts_with('.');
    let entries = std::fs::read_dir(listed).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    names
        .filter(|name| glob.is_match(name))
        .filter(|name| hidden || !name.as_encoded_bytes().starts_with(b"."))
        .map(|name| folder.join(name))
        .collect()
}

/// Puts what a further file says into the tree.
fn merge(root: &mut Table, other: Table, cx: &mut Context) {
    for entry in other.entries {
        if entry.key == "include" {
            let message = "only the root file may include others";
            cx.error("nested-include", entry.key_span, message);
            continue;
        }
        let Some(first) = root.entries.iter_mut().find(|first| first.key == entry.key) else {
            root.entries.push(entry);
            continue;
        };
        let named = ROOT
            .key(&entry.key)
            .is_some_and(|key| matches!(key.kind, Kind::Named(_)));
        match (&mut first.node.value, entry.node.value) {
            (Value::List(items), Value::List(more)) => items.extend(more),
            (Value::Table(table), Value::Table(more)) if named => {
                for inner in more.entries {
                    match table.entry(&inner.key) {
                        Some(first) => {
                            let name = format!("[{}.{}]", entry.key, inner.key);
                            twice(&name, first.key_span, inner.key_span, cx);
                        }
                        None => table.entries.push(inner),
                    }
                }
            }
            (Value::Table(_), _) => {
                let name = format!("[{}]", entry.key);
                twice(&name, first.key_span, entry.key_span, cx);
            }
            (_, _) => twice(&entry.key, first.key_span, entry.key_span, cx),
        }
    }
}

fn twice(name: &str, first: Span, again: Span, cx: &mut Context) {
    let place = cx.source(first);
    let message = format!("`{name}` is already written at {place}");
    let finding = Diagnostic::error("defined-twice", again, message);
    cx.say(finding.related(first, "first written here"));
}

fn substitute(node: &mut Node, variables: Variables<'_>, cx: &mut Context) {
    let span = node.span;
    match &mut node.value {
        Value::String(text) if text.contains("${") => {
            if let Some(full) = expand(text, span, variables, cx) {
                *text = full;
            }
        }
        Value::List(items) => {
            for item in items {
                substitute(item, variables, cx);
            }
        }
        Value::Table(table) => {
            for Entry { node, .. } in &mut table.entries {
                substitute(node, variables, cx);
            }
        }
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_) => {}
    }
}

/// The text with everything put in; nothing where some of it could not be, which is then reported.
fn expand(text: &str, span: Span, variables: Variables<'_>, cx: &mut Context) -> Option<String> {
    let mut full = String::with_capacity(text.len());
    let mut rest = text;
    let mut whole = true;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            full.push_str(before);
            full.push_str("${");
            rest = after;
            continue;
        }
        full.push_str(before);
        let Some((inner, after)) = after.split_once('}') else {
            let message = "`${` has no closing `}`";
            let finding = Diagnostic::error("bad-variable", span, message);
            cx.say(finding.help("write `$${` for a literal `${`"));
            return None;
        };
        rest = after;
        match look_up(inner, span, variables, cx) {
            Some(value) => full.push_str(&value),
            None => whole = false,
        }
    }
    full.push_str(rest);
    whole.then_some(full)
}

fn look_up(inner: &str, span: Span, variables: Variables<'_>, cx: &mut Context) -> Option<String> {
    if let Some(written) = inner.strip_prefix("file:") {
        let path = cx.path(span, written);
        cx.watch.push(path.clone());
        return match read_text(&path) {
            Ok(mut text) => {
                if text.ends_with('\n') {
                    text.pop();
                    if text.ends_with('\r') {
                        text.pop();
                    }
                }
                Some(text)
            }
            Err(why) => {
                let message = format!("`{written}` cannot be read: {why}");
                cx.error("unreadable-file", span, message);
                None
            }
        };
    }
    let (name, fallback) = match inner.split_once(":-") {
        Some((name, fallback)) => (name, Some(fallback)),
        None => (inner, None),
    };
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty()
        || !name.chars().all(letters)
        || name.starts_with(|c: char| c.is_ascii_digit())
    {
        let message = format!("`${{{inner}}}` names no variable");
        let finding = Diagnostic::error("bad-variable", span, message);
        cx.say(finding.help(
            "write `${NAME}`, `${NAME:-text}` or `${file:path}`, and `$${` for a literal `${`",
        ));
        return None;
    }
    let value = variables(name);
    match (value, fallback) {
        (Some(value), None) => Some(value),
        (Some(value), Some(_)) if !value.is_empty() => Some(value),
        (_, Some(fallback)) => Some(fallback.to_owned()),
        (None, None) => {
            let message = format!("the variable `{name}` is not set");
            let finding = Diagnostic::error("unset-variable", span, message);
            cx.say(finding.help(format!("set it, or write `${{{name}:-text}}`")));
            None
        }
    }
}

fn read_text(path: &Path) -> Result<String, Unreadable> {
    let size = std::fs::metadata(path)?.len();
    if size > LARGEST {
        return Err(Unreadable::TooLarge);
    }
    Ok(std::fs::read_to_string(path)?)
}

/// Why a file is no text of ours.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("{}", plain(.0))]
    Io(#[from] std::io::Error),
    #[error("it is larger than 64 MiB")]
    TooLarge,
}

/// What the system says, without its number.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let kind = error.kind();
    if let Some((_, why)) = PLAIN.iter().find(|(known, _)| *known == kind) {
        return (*why).to_owned();
    }
    let text = error.to_string().to_lowercase();
    let why = text.split_once(" (os error").map(|(why, _)| why.to_owned());
    why.unwrap_or(text)
}

const PLAIN: &[(ErrorKind, &str)] = &[
    (ErrorKind::NotFound, "there is no such file"),
    (ErrorKind::PermissionDenied, "permission denied"),
    (ErrorKind::InvalidData, "it is not UTF-8 text"),
    (ErrorKind::IsADirectory, "it is a folder"),
];

/// Bytes of one configuration file or secret. Lists and pages are not read here.
const LARGEST: u64 = 64 << 20;

#[cfg(test)]
mod tests;
