#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]
use super::diagnostic::Paint;
use super::*;

fn text(text: &str) -> Loaded {
    let input = Input::Text {
        name: "site.toml".to_owned(),
        text: text.to_owned(),
        folder: PathBuf::from("."),
    };
    load(input, Memory::default(), 1, Timestamp::UNIX_EPOCH)
}

const MINIMAL: &str = r#"
[[listener]]
address = "127.0.0.1:8080"
[upstream.app]
servers = ["http://127.0.0.1:3000"]
[[site]]
host = ["app.example.com"]
upstream = "app"
allow = "anyone"
"#;

#[test]
fn a_minimal_configuration_becomes_a_snapshot() {
    let loaded = text(MINIMAL);
    assert_eq!(loaded.report.render(Paint::Plain), "");
    let snapshot = loaded.snapshot.unwrap();
    assert_eq!(snapshot.sites.len(), 1);
    assert_eq!(&*snapshot.sites[0].routes[0].pattern, "/**");
    assert_eq!(snapshot.server.limits, defaults::LIMITS);
}
