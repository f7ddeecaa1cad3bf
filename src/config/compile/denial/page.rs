//! Page files and folders of pages: read, compiled and tried out with sample values, so that a broken page refuses the
//! configuration instead of surprising a client.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::diagnostic::{Diagnostic, SourceFile};
use crate::config::node::{FileId, Node, Span};
use crate::config::{Context, nearest};
use crate::snapshot::notice::{BadTemplate, Folder, Page, Template, Variant};
use crate::value::reason::Reason;

/// A file of a page, with the language in its name.
type PageFile = (Option<Box<str>>, PathBuf);

/// A page file, with its languages (`denied.html`, `denied.nl.html`), loaded into `cx.pages`; its name there.
pub fn page(node: &Node, cx: &mut Context) -> Option<Arc<str>> {
    let written = node.as_str()?;
    let path = cx.path(node.span, written);
    let Some(stem) = html_stem(&path) else {
        cx.say(
            Diagnostic::error(
                "bad-template",
                node.span,
                format!("page `{written}` is not a `.html` file"),
            )
            .help("plain text and JSON are made from the same facts, in the shape of `[denial] shape`"),
        );
        return None;
    };
    let key = path.to_string_lossy();
    if let Some(name) = cx.pages.name(&key) {
        return Some(name);
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        Some(_) | None => PathBuf::from("."),
    };
    cx.watch.push(folder.clone());
    let prefix = format!("{stem}.");
    let mut files = vec![(None, path.clone())];
    for file in html_files(&folder).unwrap_or_default() {
        let language = html_stem(&file).and_then(|stem| language(stem.strip_prefix(&prefix)?));
        files.extend(language.map(|language| (Some(language), file)));
    }
    let name: Arc<str> = Arc::from(key);
    let page = load(&files, node, cx)?;
    cx.pages.insert(Arc::clone(&name), page);
    Some(name)
}

/// A folder of pages by reason or status.
pub(super) fn folder(node: &Node, cx: &mut Context) -> Option<Folder> {
    let written = node.as_str()?;
    let path = cx.path(node.span, written);
    cx.watch.push(path.clone());
    let files = match html_files(&path) {
        Ok(files) => files,
        Err(error) => {
            let mut finding = Diagnostic::error(
                "unreadable-page",
                node.span,
                format!("folder `{written}` cannot be read: {}", problem(&error)),
            );
            finding.help = neighbour(&path, Path::is_dir);
            cx.say(finding);
            return None;
        }
    };
    let mut found: BTreeMap<Box<str>, Vec<PageFile>> = BTreeMap::new();
    for file in files {
        let Some(stem) = html_stem(&file) else {
            continue;
        };
        let (word, tag) = stem
            .split_once('.')
            .map_or((stem, None), |(word, tag)| (word, Some(tag)));
        let language = match tag.map(language) {
            None => Some(None),
            Some(Some(language)) => Some(Some(language)),
            Some(None) => None,
        };
        match language {
            Some(language) if is_word(word) => {
                found.entry(word.into()).or_default().push((language, file));
            }
            Some(_) | None => {
                let name = file
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                cx.say(
                    Diagnostic::warning(
                        "unused-page",
                        node.span,
                        format!("`{name}` in `{written}` is named neither after a status nor after a reason"),
                    )
                    .help("pages are named `403.html`, `region_restricted.html` or, in a language, `403.nl.html`"),
                );
            }
        }
    }
    if found.is_empty() {
        cx.say(
            Diagnostic::warning(
                "unused-page",
                node.span,
                format!("folder `{written}` holds no page"),
            )
            .help("put a `403.html` into it"),
        );
    }
    let mut pages = BTreeMap::new();
    for (word, mut files) in found {
        files.sort();
        let name: Arc<str> = Arc::from(path.join(&*word).to_string_lossy());
        if cx.pages.name(&name).is_none() {
            let Some(page) = load(&files, node, cx) else {
                continue;
            };
            cx.pages.insert(Arc::clone(&name), page);
        }
        pages.insert(word, name);
    }
    Some(Folder::new(pages))
}

fn load(files: &[PageFile], node: &Node, cx: &mut Context) -> Option<Page> {
    let mut page = Page::default();
    for (language, file) in files {
        let text = match read(file) {
            Ok(text) => text,
            Err(why) => {
                unreadable(&why, file, node, cx);
                continue;
            }
        };
        match Template::parse(&text) {
            Ok(template) => page.variants.push(Variant {
                language: language.clone(),
                template,
            }),
            Err(bad) => bad_template(&bad, file, &text, node, cx),
        }
    }
    (page.variants.len() == files.len()).then_some(page)
}

fn unreadable(why: &io::Error, file: &Path, node: &Node, cx: &mut Context) {
    let mut finding = Diagnostic::error(
        "unreadable-page",
        node.span,
        format!("page `{}` cannot be read: {}", file.display(), problem(why)),
    );
    finding.help = neighbour(file, Path::is_file);
    cx.say(finding);
}

/// The mistake is shown in the page itself, and where the page is named beside it.
fn bad_template(bad: &BadTemplate, file: &Path, text: &str, node: &Node, cx: &mut Context) {
    let shown = file.display();
    let place = bad.line.and_then(|line| {
        line_span(
            text,
            line,
            FileId(u16::try_from(cx.report.files.len()).ok()?),
        )
    });
    let mut finding = match place {
        Some(place) => {
            cx.report.files.push(SourceFile {
                name: Arc::from(file.to_string_lossy()),
                folder: file.parent().unwrap_or(Path::new("")).to_path_buf(),
                text: Arc::from(text),
            });
            Diagnostic::error(
                "bad-template",
                place,
                format!("page `{shown}` does not compile: {}", bad.message),
            )
            .related(node.span, "the page is named here")
        }
        None => Diagnostic::error(
            "bad-template",
            node.span,
            format!("page `{shown}` does not compile: {}", bad.message),
        ),
    };
    finding.help.clone_from(&bad.help);
    cx.say(finding);
}

/// The text of a line without its indentation and end.
fn line_span(text: &str, line: u32, file: FileId) -> Option<Span> {
    let mut start = 0;
    let index = usize::try_from(line).ok()?.checked_sub(1)?;
    for before in text.split_inclusive('\n').take(index) {
        start += before.len();
    }
    let line = text.get(start..)?.lines().next().unwrap_or("");
    let indent = line.len() - line.trim_start().len();
    Some(Span {
        file,
        start: u32::try_from(start + indent).ok()?,
        end: u32::try_from(start + line.trim_end().len().max(indent)).ok()?,
    })
}

fn read(path: &Path) -> io::Result<String> {
    let large = std::fs::metadata(path)?.len() > PAGE_BYTES_MAX;
    if large {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 1 MiB",
        ));
    }
    std::fs::read_to_string(path)
}

/// The `.html` files of a folder, sorted.
fn html_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if html_stem(&path).is_some() && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// `403.nl` of `pages/403.nl.html`; none for other files, hidden ones and names that are not UTF-8.
fn html_stem(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let stem = name
        .strip_suffix(".html")
        .or_else(|| name.strip_suffix(".htm"))?;
    (!stem.is_empty() && !stem.starts_with('.')).then_some(stem)
}

/// An error status, or a reason code.
fn is_word(word: &str) -> bool {
    word.parse::<u16>()
        .is_ok_and(|status| (400..600).contains(&status) && word.len() == 3)
        || Reason::parse(word).is_ok()
}

/// A language tag (RFC 5646), as far as anyone writes one into a file's name.
fn language(tag: &str) -> Option<Box<str>> {
    let mut parts = tag.split('-');
    let first = parts.next()?;
    let good = (2..=3).contains(&first.len())
        && first.bytes().all(|byte| byte.is_ascii_alphabetic())
        && parts.all(|part| {
            (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
    good.then(|| tag.to_ascii_lowercase().into())
}

/// The words of an operating system, without its numbers.
fn problem(error: &io::Error) -> String {
    let known = [
        (io::ErrorKind::NotFound, "it does not exist"),
        (io::ErrorKind::PermissionDenied, "this user may not read it"),
        (io::ErrorKind::InvalidData, "it is not UTF-8"),
        (io::ErrorKind::NotADirectory, "it is not a folder"),
        (io::ErrorKind::IsADirectory, "it is a folder"),
    ];
    let word = known.iter().find(|(kind, _)| *kind == error.kind());
    word.map_or_else(|| error.to_string(), |(_, word)| (*word).to_owned())
}

/// The neighbour whose name is nearest, where it is near enough to be meant.
fn neighbour(path: &Path, kind: fn(&Path) -> bool) -> Option<String> {
    let wanted = path.file_name()?.to_str()?;
    let parent = path.parent()?;
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    let names: Vec<String> = std::fs::read_dir(parent)
        .ok()?
        .take(1000)
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|neighbour| kind(neighbour))
        .filter_map(|neighbour| Some(neighbour.file_name()?.to_str()?.to_owned()))
        .filter(|name| name != wanted)
        .collect();
    let near = nearest::nearest(wanted, names.iter().map(String::as_str))?;
    Some(format!("did you mean `{near}`?"))
}

/// A page larger than this is none; it would be sent with every refusal.
const PAGE_BYTES_MAX: u64 = 1 << 20;
