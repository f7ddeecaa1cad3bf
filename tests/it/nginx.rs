//! A site's nginx configuration and ours that says the same (`config/from-nginx`).

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::certs::certs;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Both in front of the same applications, asked the same questions: `tests/nginx/compare.py`.
#[test]
fn the_same_site_under_nginx_answers_the_same() {
    let there = |program: &str| {
        let asked = Command::new(program).arg("--help").output();
        asked.is_ok_and(|_| true)
    };
    for program in ["nginx", "python3", "curl", "openssl"] {
        if !there(program) {
            println!("skipped: {program} is not installed");
            return;
        }
    }
    let output = Command::new("python3")
        .arg(root().join("tests/nginx/compare.py"))
        .arg(env!("CARGO_BIN_EXE_portcullis"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{error}");
}

/// Where nginx is not installed, ours is checked all the same, with its own tests.
#[test]
fn the_translation_is_valid_and_its_tests_hold() {
    let folder = TempDir::new().unwrap();
    let tls = folder.path().join("tls");
    std::fs::create_dir(&tls).unwrap();
    std::fs::write(tls.join("shop.pem"), &certs().server.cert).unwrap();
    std::fs::write(tls.join("shop.key"), &certs().server.key).unwrap();
    for name in ["portcullis.toml", "users.htpasswd", "pages/503.html"] {
        let to = folder.path().join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(root().join("config/from-nginx").join(name), to).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["check", "portcullis.toml"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = text + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}
