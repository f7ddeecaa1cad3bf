//! A log that the running proxy wrote, replayed: nothing changes under the same policy, and exactly what was changed under
//! another one.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::gate::front;
use crate::support::tokens::{self, hs, staff};
use crate::support::{Gate, Origin};

fn config(origin: &Origin, denies: &str, admin: &str) -> String {
    format!(
        r#"[server]
workers = 2
drain_timeout = "1s"
[admin]
socket = "admin.sock"
[access_log]
path = "access.log"
[geoip]
databases = ["embedded:demo"]
[client]
trusted_proxies = ["127.0.0.0/8"]
[identity.hs]
jwt = {{ issuer = "heldout", audience = "proxy", secret = "{}", algorithms = ["HS256"], roles = "roles" }}
{}
{denies}
[[site]]
host = ["app.test"]
upstream = "app"
identity = ["hs"]
  [[site.deny]]
  name = "staging"
  header.x-env = "staging"
  [[site.deny]]
  name = "stolen"
  cookie.session = "stolen"
  unless = [{{ path = "/**" }}]
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route]]
  path = "/premium/**"
  allow = "anyone"
  [[site.route.deny]]
  name = "licensed"
  unless = [{{ country = ["NL", "BE"] }}]
  status = 451
  reason = "region_restricted"
  [[site.route]]
  path = "/admin/**"
  allow = [{{ name = "admin", {admin} }}]
  [[site.route]]
  path = "/pro/**"
  allow = [{{ name = "pro", claim.plan = "pro" }}]
  [[site.route]]
  path = "/secret/**"
  allow = [{{ name = "insiders", role = "staff" }}]
  otherwise = {{ status = 404, reason = "no_route" }}
"#,
        tokens::SECRET,
        front(origin)
    )
}

fn replay(folder: &TempDir, policy: &str, more: &[&str]) -> (i32, Value, String) {
    let path = folder.path().join("new.toml");
    std::fs::write(&path, policy).unwrap();
    let run = |more: &[&str]| {
        let log = folder.path().join("access.log");
        Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args([
                "replay",
                log.to_str().unwrap(),
                "--policy",
                path.to_str().unwrap(),
            ])
            .args(more)
            .output()
            .unwrap()
    };
    let output = run(&[&["--format", "json"], more].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    });
    let people = String::from_utf8_lossy(&run(more).stdout).into_owned();
    assert!(
        people.lines().all(|line| line.chars().count() <= 80),
        "{people}"
    );
    (output.status.code().unwrap(), value, people)
}

#[test]
fn what_the_proxy_logged_is_judged_again() {
    let origin = Origin::start();
    let live = config(&origin, "", "role = \"staff\"");
    let gate = Gate::bare(TempDir::new().unwrap(), &live);
    let mut claims = staff();
    claims["plan"] = "pro".into();
    let pro = format!("Authorization: Bearer {}", hs(&claims));
    let plain = format!("Authorization: Bearer {}", hs(&staff()));
    let (nl, no) = (
        "X-Forwarded-For: 198.51.100.7",
        "X-Forwarded-For: 203.0.113.150",
    );
    let requests: [(&str, &[&str], u16); 16] = [
        ("GET /", &[], 200),
        ("GET /?a=1&token=x", &[nl], 200),
        ("HEAD /x", &[no], 200),
        ("GET /staging", &["X-Env: staging"], 403),
        ("GET /staging", &["X-Env: prod"], 200),
        ("GET /cookie", &["Cookie: session=stolen"], 200),
        ("GET /premium/film", &[no], 451),
        ("GET /premium/film", &[nl], 200),
        ("GET /admin", &[], 401),
        ("GET /admin", &["Authorization: Bearer x.y.z"], 401),
        ("GET /admin", &[&plain], 200),
        ("GET /pro", &[&pro], 200),
        ("GET /pro", &[&plain], 403),
        ("GET /secret", &[], 404),
        ("GET /secret/x", &[&plain], 200),
        ("GET /ADMIN", &[], 400),
    ];
    for (request, fields, status) in requests {
        gate.connect().ask(request, fields).is(status);
    }
    gate.log(requests.len());
    let folder = gate.shutdown();

    let (code, told, _) = replay(&folder, &live, &["--fail-on", "any"]);
    assert_eq!(code, 0, "{told:#}");
    assert_eq!(told["lines"], 16, "{told:#}");
    assert_eq!(told["unchanged"], 15, "{told:#}");
    // The ambiguous path: no rule judged it.
    assert_eq!(told["not_replayable"], 1, "{told:#}");
    assert_eq!(told["groups"], json!([]));

    // A deny of the path that was open, an admin page that is open to all, a cookie that suddenly matters.
    let changed = config(
        &origin,
        "[[deny]]\nname = \"no-heads\"\nmethod = \"HEAD\"\npath = \"/x\"\nstatus = 410\nreason = \"gone\"\n",
        "ip = \"0.0.0.0/0\"",
    )
    .replace("unless = [{ path = \"/**\" }]", "path = \"/cookie/**\"");
    let (code, told, people) = replay(&folder, &changed, &["--fail-on", "widen"]);
    assert_eq!(code, 4, "{told:#}");
    let groups: Vec<Value> = told["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| json!([group["change"], group["old"], group["new"], group["count"]]))
        .collect();
    assert_eq!(
        groups,
        [
            json!(["would_allow", "401 invalid_token", "allowed by `admin`", 1]),
            json!([
                "would_allow",
                "401 not_authenticated",
                "allowed by `admin`",
                1
            ]),
            json!(["would_deny", "allowed", "410 gone by `no-heads`", 1]),
        ],
        "{people}"
    );
    assert_eq!(told["unchanged"], 11, "{told:#}");
    let why: Vec<&str> = told["not_replayable_because"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["why"].as_str().unwrap())
        .collect();
    assert_eq!(
        why,
        [
            "a rule reads cookie session",
            "no rule judged it (malformed, a redirect to https, a preflight)"
        ],
        "{told:#}"
    );
    let (code, ..) = replay(&folder, &changed, &[]);
    assert_eq!(code, 0, "nothing was asked for");
}

#[test]
fn what_cannot_be_replayed_is_said() {
    let folder = TempDir::new().unwrap();
    let origin = Origin::start();
    let good = folder.path().join("new.toml");
    std::fs::write(&good, config(&origin, "", "role = \"staff\"")).unwrap();
    let bad = folder.path().join("bad.toml");
    std::fs::write(&bad, "colour = 1\n").unwrap();
    let packed = folder.path().join("log.gz");
    std::fs::write(&packed, [0x1f, 0x8b, 8, 0, 0]).unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    for (log, policy, more, code, part, why) in [
        (&packed, &good, &[][..], 2, "zcat", "compressed"),
        (
            &folder.path().join("none"),
            &good,
            &[],
            2,
            "cannot read",
            "no such file",
        ),
        (
            &folder.path().to_owned(),
            &good,
            &[],
            2,
            "cannot read",
            "a folder",
        ),
        (
            &empty,
            &bad,
            &[],
            3,
            "unknown-key",
            "the policy is not valid",
        ),
        (
            &empty,
            &good,
            &["--host", "a b"],
            2,
            "is no host",
            "a bad host",
        ),
        (&empty, &good, &[], 0, "0 lines", "nothing in it"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args([
                "replay",
                log.to_str().unwrap(),
                "--policy",
                policy.to_str().unwrap(),
            ])
            .args(more)
            .output()
            .unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(code), "{why}: {text}");
        assert!(text.contains(part), "{why}: {text}");
    }
}
