//! Limits that several machines count together, in a Redis of the test's own. Where `redis-server` is not installed, the tests
//! that need one say so and pass.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::gate::open;
use crate::support::{Client, Gate, Origin, eventually};

/// A Redis that listens on a Unix socket alone.
struct Redis {
    child: Child,
}

impl Redis {
    fn start(socket: &Path) -> Option<Self> {
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .args(["--unixsocket", socket.to_str().unwrap()])
            .current_dir(socket.parent().unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            println!("skipped: redis-server is not installed");
            return None;
        };
        eventually("redis listens", || {
            std::os::unix::net::UnixStream::connect(socket).is_ok()
        });
        Some(Self { child })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn config(origin: &Origin, socket: &Path, more: &str, limit: &str) -> String {
    let socket = socket.display();
    format!(
        "[redis]\nurl = \"unix://{socket}\"\n{more}\n{}[[limit]]\nname = \"shared\"\n{limit}\n",
        open(origin)
    )
}

/// A gate whose admin answers on TCP too.
fn gate(config: &str) -> Gate {
    let opening = "[server]\nworkers = 2\ndrain_timeout = \"1s\"\n\
         [admin]\nsocket = \"admin.sock\"\naddress = \"127.0.0.1:0\"\n\
         [access_log]\npath = \"access.log\"\n";
    Gate::bare(TempDir::new().unwrap(), &format!("{opening}{config}"))
}

fn metric(gate: &Gate, name: &str) -> u64 {
    let page = Client::connect(gate.admin()).ask("GET /metrics", &["Host: localhost"]);
    let page = String::from_utf8(page.is(200).body).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{name} in {page}"))
        .trim()
        .parse()
        .unwrap()
}

fn asked(gate: &Gate, result: &str) -> u64 {
    metric(
        gate,
        &format!("portcullis_redis_requests_total{{result=\"{result}\"}}"),
    )
}

fn status(gate: &Gate, path: &str) -> u16 {
    gate.connect().ask(&format!("GET {path}"), &[]).status
}

fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("redis.sock");
    (folder, socket)
}

#[test]
fn two_machines_count_one_limit() {
    let (_folder, socket) = place();
    let Some(_redis) = Redis::start(&socket) else {
        return;
    };
    let origin = Origin::start();
    let config = config(&origin, &socket, "", "rate = \"5/h\"\nper = \"client\"");
    let (one, two) = (gate(&config), gate(&config));
    let mut got = Vec::new();
    for turn in 0..7 {
        let gate = if turn % 2 == 0 { &one } else { &two };
        let answer = gate.connect().ask("GET /x", &[]);
        let left = answer.header("ratelimit").unwrap_or_default().to_owned();
        got.push((answer.status, left));
        if answer.status == 429 {
            assert_eq!(answer.reason(), "rate_limited");
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((710..=720).contains(&wait), "{wait}");
        }
    }
    let statuses: Vec<u16> = got.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429], "{got:?}");
    assert_eq!(got[1].1, "\"limit\";r=3;t=1440", "both know what is left");
    let other = one.connect_from("127.0.0.9").ask("GET /x", &[]);
    other.is(200);
    assert_eq!(asked(&one, "failed") + asked(&two, "failed"), 0);
    assert_eq!(metric(&one, "portcullis_redis_up"), 1);
}

#[test]
fn exact_though_all_ask_at_once() {
    let (_folder, socket) = place();
    let Some(_redis) = Redis::start(&socket) else {
        return;
    };
    let origin = Origin::start();
    // The second makes parts of microseconds.
    for (rate, most) in [("20/h", 20), ("7/h", 7)] {
        let limit = format!("rate = \"{rate}\"\nper = [\"client\", \"header.x-test\"]");
        let config = config(&origin, &socket, "", &limit);
        let gates = [gate(&config), gate(&config)];
        let passed = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for gate in &gates {
                for _ in 0..2 {
                    let (passed, rate) = (&passed, rate);
                    scope.spawn(move || {
                        let mut client = gate.connect();
                        for _ in 0..15 {
                            let header = format!("X-Test: {rate}");
                            if client.ask("GET /x", &[&header]).status == 200 {
                                passed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            }
                        }
                    });
                }
            }
        });
        let failed: u64 = gates.iter().map(|gate| asked(gate, "failed")).sum();
        assert_eq!(failed, 0);
        assert_eq!(passed.into_inner(), most, "{rate}");
    }
}

#[test]
fn while_it_is_away_each_counts_alone_and_then_together_again() {
    let (_folder, socket) = place();
    let origin = Origin::start();
    let config = config(&origin, &socket, "", "rate = \"3/h\"\nper = \"client\"");
    let (one, two) = (gate(&config), gate(&config));
    for gate in [&one, &two] {
        let got: Vec<u16> = (0..4).map(|_| status(gate, "/x")).collect();
        assert_eq!(got, [200, 200, 200, 429], "a limit of its own");
        assert_eq!(metric(gate, "portcullis_redis_up"), 0);
        assert!(asked(gate, "skipped") > 0, "not every request asks in vain");
    }
    let Some(_redis) = Redis::start(&socket) else {
        return;
    };
    // Nothing is known there yet, so the first that reaches it passes.
    eventually("it is asked again", || {
        status(&one, "/x");
        asked(&one, "answered") > 0
    });
    eventually("the limit is one again", || {
        status(&one, "/x");
        status(&two, "/x");
        asked(&two, "answered") > 0 && metric(&one, "portcullis_redis_up") == 1
    });
    eventually("both are over it", || {
        status(&one, "/x") == 429 && status(&two, "/x") == 429
    });
}

#[test]
fn fail_closed_lets_nobody_pass_where_a_limit_counts() {
    let (_folder, socket) = place();
    let origin = Origin::start();
    let limit = "rate = \"3/h\"\nper = \"client\"\npath = \"/counted/**\"";
    let gate = gate(&config(&origin, &socket, "fail = \"closed\"", limit));
    for _ in 0..5 {
        let answer = gate.connect().ask("GET /counted/x", &[]).is(503);
        assert_eq!(answer.reason(), "fact_unavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    gate.connect().ask("GET /free", &[]).is(200);
    assert_eq!(origin.count(), 1);
    let line = &gate.log(6)[0];
    assert_eq!(line["policy.decision"], "error");
    assert_eq!(line["security_rule.name"], "shared");
    assert_eq!(asked(&gate, "answered"), 0);
}

#[test]
fn a_redis_that_says_nothing_is_not_waited_for_by_every_request() {
    let (_folder, socket) = place();
    let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let origin = Origin::start();
    let gate = gate(&config(
        &origin,
        &socket,
        "",
        "rate = \"1000/h\"\nper = \"client\"",
    ));
    let mut client = gate.connect();
    let start = std::time::Instant::now();
    for _ in 0..100 {
        client.ask("GET /x", &[]).is(200);
    }
    // One wait of a tenth of a second for each second of each worker.
    let most = 2 * (start.elapsed().as_secs() + 1);
    let failed = asked(&gate, "failed");
    assert!((1..=most).contains(&failed), "{failed} of 100");
    assert_eq!(asked(&gate, "skipped"), 100 - failed);
}
