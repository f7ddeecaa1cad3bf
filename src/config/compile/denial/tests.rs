#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]
//! Tables from text, pages from a folder of this test's own.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::config::diagnostic::SourceFile;
use crate::config::node::{self, FileId};
use crate::snapshot::notice::{Cors, Origins};

/// A context whose one file stands in `folder`.
fn context(folder: &Path, text: &str) -> Context {
    let mut cx = Context::default();
    cx.report.files.push(SourceFile {
        name: Arc::from("portcullis.toml"),
        folder: folder.to_path_buf(),
        text: Arc::from(text),
    });
    cx
}

/// Findings as `severity code "what the span covers": message (help)`, paths of this run cut.
fn findings(cx: &Context, folder: &Path) -> String {
    let folder = format!("{}/", folder.display());
    let line = |finding: &Diagnostic| {
        let span = finding.span.unwrap_or_default();
        let text = cx.report.files[usize::from(span.file.0)]
            .text
            .get(span.start as usize..span.end as usize)
            .unwrap();
        let help = finding
            .help
            .as_ref()
            .map_or(String::new(), |help| format!(" ({help})"));
        format!(
            "{:?} {} [{text}]: {}{help}",
            finding.severity, finding.code, finding.message
        )
        .replace(&folder, "")
    };
    let lines: Vec<_> = cx.report.diagnostics.iter().map(line).collect();
    lines.join("\n")
}

fn compiled(folder: &Path, text: &str) -> (Denial, Context) {
    let mut cx = context(folder, text);
    let (table, mistakes) = node::parse(text, FileId(0));
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let denial = compile(Some(&table), &Denial::default(), &mut cx);
    (denial, cx)
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

#[test]
fn pages_are_found_by_reason_status_and_language() {
    let dir = folder(&[
        ("pages/403.html", "forbidden"),
        ("pages/403.nl.html", "verboden"),
        ("pages/403.pt-BR.html", "proibido"),
        ("pages/our_reason.html", "ours"),
        ("pages/style.css", "not a page"),
        ("pages/.hidden.html", "{{ broken"),
        ("denied.html", "denied"),
        ("denied.de.html", "abgelehnt"),
        ("denied-too.html", "another page, not a language"),
    ]);
    let (denial, cx) = compiled(
        dir.path(),
        "shape = \"problem\"\npages = \"pages\"\ncontact = \"help@example.com\"",
    );
    assert_eq!(findings(&cx, dir.path()), "");
    assert_eq!(denial.shape, Shape::Problem);
    assert_eq!(
        denial.contact.unwrap().url.as_deref(),
        Some("mailto:help@example.com")
    );
    let pages = denial.levels[0].folder.as_ref().unwrap();
    assert_eq!(pages.words().collect::<Vec<_>>(), ["403", "our_reason"]);
    let page = cx.pages.get(pages.get("403").unwrap()).unwrap();
    let languages: Vec<_> = page
        .variants
        .iter()
        .map(|v| v.language.as_deref())
        .collect();
    assert_eq!(languages, [None, Some("nl"), Some("pt-br")]);
    assert_eq!(cx.watch, [dir.path().join("pages")]);

    let (denial, cx) = compiled(dir.path(), "page = \"denied.html\"");
    let name = denial.levels[0].page.as_ref().unwrap();
    let page = cx.pages.get(name).unwrap();
    let languages: Vec<_> = page
        .variants
        .iter()
        .map(|v| v.language.as_deref())
        .collect();
    assert_eq!(languages, [None, Some("de")]);
}

#[test]
fn a_table_adds_to_what_it_inherits() {
    let dir = folder(&[("a.html", "a"), ("b.html", "b")]);
    let (base, mut cx) = compiled(
        dir.path(),
        "page = \"a.html\"\nshape = \"node\"\ncontact = \"The desk\"",
    );
    let (table, _) = node::parse("page = \"b.html\"\ncontact = \"\"", FileId(0));
    let inner = compile(Some(&table), &base, &mut cx);
    assert_eq!(inner.shape, Shape::Node);
    assert_eq!(inner.contact, None, "an empty contact is nobody");
    let names: Vec<_> = inner
        .levels
        .iter()
        .map(|l| l.page.as_deref().unwrap())
        .collect();
    assert!(
        names[0].ends_with("b.html") && names[1].ends_with("a.html"),
        "{names:?}"
    );
    let same = compile(None, &base, &mut cx);
    assert_eq!(same.levels.len(), 1);
    assert_eq!(same.contact, base.contact);
    assert_eq!(cx.pages.len(), 2);
}

#[test]
fn a_page_that_cannot_serve_refuses_the_configuration() {
    let dir = folder(&[
        ("pages/403.html", "<p>\n  {{ request-id }}</p>"),
        ("other/4xx.html", "x"),
        ("other/403.nl_NL.html", "x"),
        ("both/403.html", "x"),
        ("denied.html", "x"),
        ("open.html", "a\nb {{ title"),
        ("filter.html", "{{ title|loud }}"),
        ("include.html", "{% include \"/etc/passwd\" %}"),
        ("list.txt", "x"),
    ]);
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::write(dir.path().join("latin1.html"), [0xe9, 0x41]).unwrap();
    let mut said = String::new();
    for text in [
        "page = \"denide.html\"",
        "page = \"nothing-like-it.html\"",
        "page = \"list.txt\"",
        "page = \"latin1.html\"",
        "page = \"open.html\"",
        "page = \"filter.html\"",
        "page = \"include.html\"",
        "pages = \"page\"",
        "pages = \"pages\"",
        "pages = \"other\"",
        "pages = \"empty\"",
        "page = \"denied.html\"\npages = \"both\"",
    ] {
        let (denial, cx) = compiled(dir.path(), text);
        said += &format!(
            "{text}\n  {}\n",
            findings(&cx, dir.path()).replace('\n', "\n  ")
        );
        if cx.report.refused() && text.starts_with("page =") {
            assert!(denial.levels.is_empty(), "{text}");
        }
    }
    insta::assert_snapshot!(said, @r#"
    page = "denide.html"
      Error unreadable-page ["denide.html"]: page `denide.html` cannot be read: it does not exist (did you mean `denied.html`?)
    page = "nothing-like-it.html"
      Error unreadable-page ["nothing-like-it.html"]: page `nothing-like-it.html` cannot be read: it does not exist
    page = "list.txt"
      Error bad-template ["list.txt"]: page `list.txt` is not a `.html` file (plain text and JSON are made from the same facts, in the shape of `[denial] shape`)
    page = "latin1.html"
      Error unreadable-page ["latin1.html"]: page `latin1.html` cannot be read: it is not UTF-8
    page = "open.html"
      Error bad-template [b {{ title]: page `open.html` does not compile: unexpected end of input, expected end of variable block
    page = "filter.html"
      Error bad-template [{{ title|loud }}]: page `filter.html` does not compile: filter loud is unknown
    page = "include.html"
      Error bad-template [{% include "/etc/passwd" %}]: page `include.html` does not compile: unknown statement include
    pages = "page"
      Error unreadable-page ["page"]: folder `page` cannot be read: it does not exist (did you mean `pages`?)
    pages = "pages"
      Error bad-template [{{ request-id }}</p>]: page `pages/403.html` does not compile: unknown variable `id` (the variables are status, title, message, advice, reason, request_id, time, contact, contact_url, upgrade_url, tone, icon)
    pages = "other"
      Warning unused-page ["other"]: `403.nl_NL.html` in `other` is named neither after a status nor after a reason (pages are named `403.html`, `region_restricted.html` or, in a language, `403.nl.html`)
      Warning unused-page ["other"]: `4xx.html` in `other` is named neither after a status nor after a reason (pages are named `403.html`, `region_restricted.html` or, in a language, `403.nl.html`)
      Warning unused-page ["other"]: folder `other` holds no page (put a `403.html` into it)
    pages = "empty"
      Warning unused-page ["empty"]: folder `empty` holds no page (put a `403.html` into it)
    page = "denied.html"
    pages = "both"
      Warning unused-page ["both"]: `403.html` is never shown, since `page` beside it answers 401, 403 and 451 (leave `page` out)
    "#);
}

#[test]
fn a_large_page_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (bytes, refused) in [(1 << 20, false), ((1 << 20) + 1, true)] {
        fs::write(dir.path().join("p.html"), "x".repeat(bytes)).unwrap();
        let (_, cx) = compiled(dir.path(), "page = \"p.html\"");
        assert_eq!(cx.report.refused(), refused, "{bytes}");
    }
}

#[test]
fn interception_names_403_unless_told_otherwise() {
    for (text, statuses, when, why) in [
        ("", &[403][..], InterceptWhen::Helpful, "the default"),
        ("force = true", &[403], InterceptWhen::Always, "forced"),
        (
            "statuses = [403, 502]",
            &[403, 502],
            InterceptWhen::Helpful,
            "others",
        ),
        (
            "statuses = [200, 404, 70000, -1]",
            &[404],
            InterceptWhen::Helpful,
            "only errors",
        ),
        ("statuses = []", &[], InterceptWhen::Helpful, "none"),
    ] {
        let (table, _) = node::parse(text, FileId(0));
        let intercept = intercept(&table, &mut Context::default()).unwrap();
        let got: Vec<_> = intercept.statuses.iter().map(StatusCode::as_u16).collect();
        assert_eq!((got.as_slice(), intercept.when), (statuses, when), "{why}");
    }
}

fn cors_of(text: &str) -> (Option<Cors>, Context) {
    let mut cx = context(Path::new("nowhere"), text);
    let (table, mistakes) = node::parse(text, FileId(0));
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let cors = cors(&table, &mut cx);
    (cors, cx)
}

#[test]
fn origins_are_what_browsers_send() {
    for (written, want, why) in [
        ("null", None, "sandboxed pages"),
        ("app.example.com", None, "no scheme"),
        ("https://", None, "no host"),
        ("https://a.example/", None, "a path"),
        ("https://a.example/x?y", None, "a path"),
        ("https://*.example.com", None, "a pattern"),
        ("https://a.example:443", None, "the scheme's own port"),
        ("http://a.example:80", None, "the scheme's own port"),
        ("https://a.example:70000", None, "no port"),
        (
            "https://a.example:0443",
            None,
            "no port as browsers write it",
        ),
        ("https://a.example:", None, "no port"),
        ("https://user@a.example", None, "no host"),
        ("https://bücher.example", None, "not ASCII"),
        ("https://[::1", None, "no address"),
        ("1https://a.example", None, "no scheme"),
        ("https://a.example", Some("https://a.example"), "an origin"),
        ("HTTPS://App.Example", Some("https://app.example"), "folded"),
        (
            "https://a.example:8443",
            Some("https://a.example:8443"),
            "a port",
        ),
        (
            "http://a.example:443",
            Some("http://a.example:443"),
            "another scheme's port",
        ),
        (
            "http://localhost:3000",
            Some("http://localhost:3000"),
            "a developer",
        ),
        (
            "http://[::1]:3000",
            Some("http://[::1]:3000"),
            "an IPv6 address",
        ),
        (
            "capacitor://localhost",
            Some("capacitor://localhost"),
            "an app",
        ),
    ] {
        let (cors, cx) = cors_of(&format!("origins = [\"{written}\"]"));
        assert_eq!(cx.report.refused(), want.is_none(), "{written}: {why}");
        let names = cors.map(|cors| cors.origins);
        let want = want.map(|name| Origins::Named(vec![name.into()]));
        assert_eq!(names, want, "{written}: {why}");
    }
}

#[test]
fn cors_lists_are_joined_and_checked() {
    let (cors, cx) = cors_of(
        "origins = [\"https://a.example\"]\nmethods = [\"GET\", \"PUT\"]\nheaders = \"x-a\"\nmax_age = \"10min\"",
    );
    assert_eq!(findings(&cx, Path::new("nowhere")), "");
    let cors = cors.unwrap();
    assert_eq!(cors.methods.unwrap(), "GET, PUT");
    assert_eq!(cors.headers.unwrap(), "x-a");
    assert_eq!(cors.max_age.unwrap(), "600");
    assert_eq!(cors_of("origins = []").0, None);
    assert_eq!(
        cors_of("origins = [\"*\"]").0.unwrap().origins,
        Origins::Any
    );

    let mut said = String::new();
    for text in [
        "origins = [\"*\", \"https://a.example\"]",
        "origins = [\"https://a.example/\", \"null\", \"https://b.example:443\", \"b.example\"]",
        "origins = [\"https://a.example\"]\nmethods = [\"GE T\"]\nheaders = [\"*\", \"x a\"]",
    ] {
        said += &findings(&cors_of(text).1, Path::new("nowhere"));
        said.push('\n');
    }
    insta::assert_snapshot!(said, @r#"
    Error bad-origin ["*"]: `*` allows every origin without credentials, the others are named for nothing (name the origins, or write `origins = ["*"]` alone)
    Error bad-origin ["https://a.example/"]: `https://a.example/` is no origin: browsers send no path (did you mean `https://a.example`?)
    Error bad-origin ["null"]: `null` is no origin: every sandboxed page calls itself `null` (serve the page from an origin of its own)
    Error bad-origin ["https://b.example:443"]: `https://b.example:443` is no origin: browsers leave out the scheme's own port (did you mean `https://b.example`?)
    Error bad-origin ["b.example"]: `b.example` is no origin: it has no scheme (an origin is written `https://app.example.com` or `https://app.example.com:8443`)
    Error bad-cors ["GE T"]: `GE T` cannot stand in `methods` (write names, or leave `methods` out to allow what each preflight asks for)
    Error bad-cors ["*"]: `*` cannot stand in `headers` (write names, or leave `headers` out to allow what each preflight asks for)
    Error bad-cors ["x a"]: `x a` cannot stand in `headers` (write names, or leave `headers` out to allow what each preflight asks for)
    "#);
}
