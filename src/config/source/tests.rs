#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use super::*;

fn variables(name: &str) -> Option<String> {
    match name {
        "HOST" => Some("app.example.com".to_owned()),
        "EMPTY" => Some(String::new()),
        "NESTED" => Some("${HOST}".to_owned()),
        _ => None,
    }
}

#[test]
fn variables_are_put_into_strings() {
    for (written, want) in [
        ("${UNSET}", Err("unset-variable")),
        ("a ${UNSET} b ${UNSET:-x}", Err("unset-variable")), // one hole spoils the whole
        ("${}", Err("bad-variable")),
        ("${1ST}", Err("bad-variable")),
        ("${A-B}", Err("bad-variable")),
        ("${HOST", Err("bad-variable")),
        ("${file:nothing}", Err("unreadable-file")),
        ("${HOST}", Ok("app.example.com")),
        ("https://${HOST}/", Ok("https://app.example.com/")),
        ("${HOST}${HOST}", Ok("app.example.comapp.example.com")),
        ("${EMPTY}", Ok("")),     // set, and empty
        ("${EMPTY:-x}", Ok("x")), // as in a shell
        ("${UNSET:-}", Ok("")),
        ("${UNSET:-a:-b}", Ok("a:-b")),
        ("${NESTED}", Ok("${HOST}")), // what was put in is not looked at again
        ("$${HOST}", Ok("${HOST}")),
        ("$HOST ^a$ $$ $1", Ok("$HOST ^a$ $$ $1")), // regular expressions and log formats stay
    ] {
        let mut cx = Context::default();
        let got = expand(written, Span::default(), &variables, &mut cx);
        let got = got.ok_or_else(|| cx.report.diagnostics[0].code);
        assert_eq!(got.as_deref().map_err(|code| *code), want, "{written}");
    }
}

#[test]
fn keys_and_comments_are_left_alone() {
    let mut cx = Context::default();
    let input = Input::Text {
        name: "x".to_owned(),
        text: "# ${UNSET}\n\"${UNSET}\" = [{ a = [\"${HOST}\"] }]\n".to_owned(),
        folder: PathBuf::new(),
    };
    let root = read(input, &variables, &mut cx);
    assert_eq!(cx.report.diagnostics, []);
    let inner = root.tables("${UNSET}").next().unwrap();
    let host = inner.many("a").next().unwrap();
    assert_eq!(host.as_str(), Some("app.example.com"));
}

#[test]
fn a_secret_comes_from_a_file_without_its_line_break() {
    let folder = tempfile::tempdir().unwrap();
    for (content, want) in [
        ("s3cret\n", "s3cret"),
        ("a\r\n", "a"),
        ("a\n\n", "a\n"),
        ("a", "a"),
    ] {
        std::fs::write(folder.path().join("key"), content).unwrap();
        let mut cx = Context::default();
        cx.report.files.push(SourceFile {
            name: Arc::from("x"),
            folder: folder.path().to_owned(),
            text: Arc::from(""),
        });
        let got = expand("${file:key}", Span::default(), &variables, &mut cx);
        assert_eq!(got.as_deref(), Some(want), "{content:?}");
        assert_eq!(cx.watch, [folder.path().join("key")]);
    }
}

#[test]
fn files_are_included_by_name_and_their_arrays_joined() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "main.toml",
        "include = [\"sites/*.toml\", \"*.toml\", \"sets/b?.toml\"]\n[[site]]\nhost = \"root\"\n[ip]\na = []\n",
    );
    write("sites/20.toml", "[[site]]\nhost = \"20\"\n");
    write("sites/10.toml", "[[site]]\nhost = \"10\"\n[ip]\nb = []\n");
    write("sites/.hidden.toml", "[[site]]\nhost = \"hidden\"\n");
    write("sites/10.toml.bak", "[[site]]\nhost = \"bak\"\n");
    write("sets/b1.toml", "[ip]\nc = []\n");
    let mut cx = Context::default();
    let root = read(
        Input::File(folder.path().join("main.toml")),
        &variables,
        &mut cx,
    );
    assert_eq!(cx.report.diagnostics, []);
    let hosts: Vec<_> = root
        .tables("site")
        .map(|site| site.str("host").unwrap())
        .collect();
    assert_eq!(hosts, ["root", "10", "20"]); // the root itself, hidden files and others are not included
    let sets: Vec<_> = root
        .table("ip")
        .unwrap()
        .entries
        .iter()
        .map(|e| &*e.key)
        .collect();
    assert_eq!(sets, ["a", "c", "b"]);
    // A file that is added later means a new load.
    assert!(cx.watch.contains(&folder.path().join("sites")));
    // Paths are relative to the file that names them.
    let place = root.table("ip").unwrap().entry("b").unwrap().key_span;
    assert_eq!(
        cx.path(place, "list.txt"),
        folder.path().join("sites/list.txt")
    );
}

#[test]
fn a_file_that_is_named_and_missing_is_an_error_and_an_empty_glob_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.toml");
    for (include, want) in [
        ("[\"missing.toml\"]", Some("unreadable-file")),
        ("[\"**/*.toml\"]", Some("invalid-value")),
        ("[\"[.toml\"]", Some("invalid-value")),
        ("[\"conf.d/*.toml\"]", None),
        ("[]", None),
        ("7", None), // its type is reported by the key tables
    ] {
        std::fs::write(&path, format!("include = {include}\n")).unwrap();
        let mut cx = Context::default();
        read(Input::File(path.clone()), &variables, &mut cx);
        let got = cx.report.diagnostics.first().map(|finding| finding.code);
        assert_eq!(got, want, "{include}");
    }
}

#[test]
fn a_root_that_cannot_be_read_is_one_finding_and_no_more() {
    let loaded = crate::config::load(
        Input::File(PathBuf::from("no/such/file.toml")),
        crate::config::Memory::default(),
        1,
        jiff::Timestamp::UNIX_EPOCH,
    );
    assert!(loaded.snapshot.is_none());
    let lines: Vec<String> = loaded.report.lines().collect();
    insta::assert_snapshot!(
        lines.join("\n"),
        @"error[unreadable-file]: `no/such/file.toml` cannot be read: there is no such file"
    );
    assert_eq!(loaded.watch, [PathBuf::from("no/such/file.toml")]); // so that mending it is seen
}
