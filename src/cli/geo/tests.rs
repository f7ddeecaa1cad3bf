#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    geo: GeoArgs,
}

/// What the verb prints, or its exit code and complaint.
fn geo(args: &[&str]) -> Result<String, (u8, String)> {
    let cli =
        Cli::try_parse_from(["geo"].iter().chain(args)).map_err(|error| (2, error.to_string()))?;
    let mut out = Vec::new();
    let outcome = dispatch(&cli.geo, &mut out);
    let text = String::from_utf8(out).unwrap();
    outcome
        .map(|()| text)
        .map_err(|stop| (stop.code, stop.text))
}

#[test]
fn a_table_is_built_described_and_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (table, file, config) = (path("t.csv"), path("t.mmdb"), path("p.toml"));
    let rows = "network,country,subdivision,asn,anonymizers\n\
        192.0.2.0/24,NL,NL-NH,64500,vpn tor\n192.0.2.128/25,,,64501,\n";
    std::fs::write(&table, rows).unwrap();
    std::fs::write(
        &config,
        "[geoip]\ndatabases = [\"t.mmdb\"]\nmax_age = \"1h\"\n",
    )
    .unwrap();
    let built = geo(&[
        "build",
        &table,
        &file,
        "--kind",
        "Ours",
        "--build-epoch",
        "1700000000",
    ])
    .unwrap();
    assert!(
        built.starts_with(&format!("{file}: 2 entries, 2 networks, ")),
        "{built}"
    );
    let first = std::fs::read(&file).unwrap();
    geo(&[
        "build",
        &table,
        &file,
        "--kind",
        "Ours",
        "--build-epoch",
        "1700000000",
    ])
    .unwrap();
    assert_eq!(
        std::fs::read(&file).unwrap(),
        first,
        "builds repeat byte by byte"
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        3,
        "nothing is left beside the file"
    );

    let info = geo(&["info", &file]).unwrap();
    for line in [
        "type         Ours",
        "built        2023-11-14T22:13:20Z (",
        "facts        country, subdivision, asn, anonymizer",
        "networks     2",
        "tree         IPv6, ",
        "languages    en",
    ] {
        assert!(info.contains(line), "{info}");
    }
    let found = geo(&["lookup", "192.0.2.1", "--database", &file]).unwrap();
    let want = format!(
        "address      192.0.2.1\ncountry      NL (Netherlands)\ncontinent    unlisted\nsubdivision  NL-NH\n\
         asn          AS64500\nanonymizer   vpn, tor\nnetwork      192.0.2.0/25 in {file}\n"
    );
    assert_eq!(found, want);
    let none = geo(&["lookup", "::1", "--database", &file]).unwrap();
    assert!(
        none.contains("country      unlisted") && none.contains("anonymizer   none"),
        "{none}"
    );
    let stale = geo(&["lookup", "192.0.2.1", "--config", &config]).unwrap();
    assert!(stale.contains("country      unlisted"), "{stale}");
    assert!(
        stale.contains("failed       country, subdivision, asn, anonymizer"),
        "{stale}"
    );

    let json = geo(&[
        "lookup",
        "::ffff:192.0.2.200",
        "--database",
        &file,
        "--format",
        "json",
    ])
    .unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let want = json!({
        "address": "192.0.2.200", "country": null, "continent": null, "subdivision": [], "asn": 64501,
        "anonymizer": [], "failed": [], "networks": [{ "database": file, "network": "192.0.2.128/25" }],
    });
    assert_eq!(json, want);
    let json = geo(&["info", "--config", &config, "--format", "json"]).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.pointer("/0/type"), Some(&json!("Ours")));
    assert_eq!(json.pointer("/0/networks"), Some(&json!(2)));
}

#[test]
fn mistakes_have_their_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (bad, text, none, out) = (
        path("bad.csv"),
        path("text"),
        path("none"),
        path("out.mmdb"),
    );
    std::fs::write(&bad, "network,country\n10.0.0.0/8,UK\n10.0.0.1/8,NL\n").unwrap();
    std::fs::write(&text, "geoip.databases = [\"text\"]").unwrap();
    for (args, code, word) in [
        (vec!["lookup", "300.1.1.1"], 2, "invalid value"),
        (
            vec![
                "lookup",
                "192.0.2.1",
                "--config",
                &text,
                "--database",
                &text,
            ],
            2,
            "cannot be used",
        ),
        (vec!["info", &none], 1, "cannot be read"),
        (vec!["info", &text], 3, "is no usable database"),
        (
            vec!["lookup", "192.0.2.1", "--config", &none],
            1,
            "cannot be read",
        ),
        (
            vec!["lookup", "192.0.2.1", "--config", &text],
            3,
            "error[broken-database]",
        ),
        (vec!["build", &none, &out], 1, "cannot be read"),
        (
            vec!["build", &bad, &out],
            3,
            "bad.csv:2: `UK` is not an assigned country code, did you mean `GB`",
        ),
        (
            vec!["build", &bad, &out],
            3,
            "bad.csv:3: `10.0.0.1/8` has host bits",
        ),
    ] {
        let (got, said) = geo(&args).unwrap_err();
        assert_eq!(got, code, "{args:?}: {said}");
        assert!(said.contains(word), "{args:?}: {said}");
    }
    assert!(
        !std::path::Path::new(&out).exists(),
        "a bad table writes nothing"
    );
    let demo = path("demo.toml");
    std::fs::write(&demo, "geoip.databases = [\"embedded:demo\"]").unwrap();
    let found = geo(&["lookup", "203.0.113.9", "--config", &demo]).unwrap();
    assert!(
        found.contains("country      GB (United Kingdom)"),
        "{found}"
    );
    assert!(
        found.contains("network      203.0.113.0/25 in embedded:demo"),
        "{found}"
    );
}
