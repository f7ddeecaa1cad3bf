//! Reloads: a new policy on the same connection, all or nothing, and nobody is disturbed. And the end: everything in flight is finished.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::client::request;
use crate::support::{End, Gate, Origin, PATIENCE, Refusing, Then, eventually, open};

const DENY: &str = "[[deny]]\nname = \"closed\"\npath = \"/closed/**\"\n";

#[test]
fn new_policy_judges_the_next_request_on_the_same_connection() {
    let origin = Origin::start();
    let gate = Gate::start(&open(&origin));
    let mut client = gate.connect();
    client.ask("GET /closed", &[]).is(200);
    let second = gate
        .reload(&format!("{DENY}{}", open(&origin)))
        .unwrap_or_else(|report| panic!("{report:?}"));
    client.ask("GET /closed", &[]).is(403);
    client.ask("GET /x", &[]).is(200);
    let third = gate
        .reload(&open(&origin))
        .unwrap_or_else(|report| panic!("{report:?}"));
    client.ask("GET /closed", &[]).is(200);
    assert!(
        second > 1 && third > second,
        "each has its number: {second}, {third}"
    );
    let generations: Vec<u64> = gate
        .log(4)
        .iter()
        .filter_map(|line| line["config.generation"].as_u64())
        .collect();
    assert_eq!(generations, [1, second, second, third]);
    assert_eq!(origin.connections(), 1, "pools outlive a reload");
}

#[test]
fn broken_configuration_is_refused_named_and_changes_nothing() {
    let origin = Origin::start();
    let good = format!("{DENY}{}", open(&origin));
    let gate = Gate::start(&good);
    let mut client = gate.connect();
    client.ask("GET /closed", &[]).is(403);
    for (config, code, why) in [
        (
            open(&origin).replace("upstream = \"app\"", "upstream = \"apq\""),
            "unknown-upstream",
            "an upstream that is not there",
        ),
        (
            format!("{}colour = \"blue\"\n", open(&origin)),
            "unknown-key",
            "a key that is not there",
        ),
        ("this is = not [toml".to_owned(), "", "no TOML"),
        (
            open(&origin).replace(
                "allow = \"anyone\"
",
                "  [[site.route]]
  path = \"/**\"
",
            ),
            "",
            "a route that nothing opens",
        ),
    ] {
        let report = gate.reload(&config).expect_err(why);
        assert!(report.refused(), "{why}: {report:?}");
        assert!(
            report
                .diagnostics
                .iter()
                .any(|finding| finding.code == code || code.is_empty()),
            "{why} is named {code}: {:?}",
            report.diagnostics
        );
        client.ask("GET /closed", &[]).is(403);
        gate.connect().ask("GET /x", &[]).is(200);
    }
    std::fs::remove_file(gate.path("portcullis.toml")).unwrap();
    assert!(gate.reload_as_is().is_err(), "no file at all");
    client.ask("GET /closed", &[]).is(403);
    let last = gate
        .reload(&open(&origin))
        .unwrap_or_else(|report| panic!("{report:?}"));
    client.ask("GET /closed", &[]).is(200);
    eventually("the newest line names the newest generation", || {
        gate.log(1).pop().unwrap()["config.generation"].as_u64() == Some(last)
    });
}

#[test]
fn request_in_flight_is_served_by_what_it_began_with() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::scripted(move |exchange| {
        if exchange.seen.target == "/closed/slow"
            && wait.lock().unwrap().recv_timeout(PATIENCE).is_err()
        {
            return Then::Close;
        }
        Then::Usual
    });
    let gate = Gate::start(&open(&origin).replace("1500ms", "20s"));
    let mut client = gate.connect();
    client.send(request("GET /closed/slow", &[], b""));
    eventually("the request is at the origin", || origin.count() == 1);
    gate.reload(&format!("{DENY}{}", open(&origin)))
        .unwrap_or_else(|report| panic!("{report:?}"));
    gate.connect().ask("GET /closed/other", &[]).is(403);
    go.send(()).unwrap();
    client.response("GET").is(200);
    client.ask("GET /closed/next", &[]).is(403);
}

#[test]
fn upstream_moves_without_a_dropped_connection() {
    let (old, new) = (Origin::start(), Origin::start());
    let gate = Gate::start(&open(&old));
    let mut client = gate.connect();
    client.ask("GET /x", &[]).is(200);
    gate.reload(&open(&new))
        .unwrap_or_else(|report| panic!("{report:?}"));
    client.ask("GET /x", &[]).is(200);
    assert_eq!((old.count(), new.count()), (1, 1));
    eventually("idle connections to what is gone are closed", || {
        old.open() == 0
    });
}

#[test]
fn listener_comes_and_goes_with_the_configuration() {
    let origin = Origin::start();
    let gate = Gate::start(&open(&origin));
    // A port that is free now: bound, noted, let go.
    let port = Refusing::new().port();
    let second = format!(
        "[[listener]]\naddress = \"127.0.0.1:{port}\"\n{}",
        open(&origin)
    );
    gate.reload(&second)
        .unwrap_or_else(|report| panic!("{report:?}"));
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    eventually("the new listener serves", || {
        std::net::TcpStream::connect(address).is_ok()
    });
    crate::support::Client::connect(address)
        .ask("GET /x", &[])
        .is(200);
    let mut kept = gate.connect();
    kept.ask("GET /x", &[]).is(200);
    gate.reload(&open(&origin))
        .unwrap_or_else(|report| panic!("{report:?}"));
    eventually("it is gone again", || {
        std::net::TcpStream::connect(address).is_err()
    });
    kept.ask("GET /x", &[]).is(200);
    gate.connect().ask("GET /x", &[]).is(200);
}

#[test]
fn listener_that_cannot_be_bound_refuses_the_reload() {
    let origin = Origin::start();
    let gate = Gate::start(&open(&origin));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "{DENY}[[listener]]\naddress = \"{}\"\n{}",
        taken.local_addr().unwrap(),
        open(&origin)
    );
    assert!(gate.reload(&config).is_err(), "all or nothing");
    gate.connect().ask("GET /closed", &[]).is(200);
}

#[test]
fn changed_files_count_without_being_asked() {
    let origin = Origin::start();
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("blocked.txt"), "203.0.113.0/24\n").unwrap();
    let config = format!(
        "[ip]\nblocked = {{ file = \"blocked.txt\" }}\n[[deny]]\nname = \"blocked\"\nip = \"@blocked\"\n{}",
        open(&origin)
    );
    let gate = Gate::watching(folder, &config);
    let mut client = gate.connect();
    client.ask("GET /x", &[]).is(200);
    gate.write("blocked.txt", "203.0.113.0/24\n127.0.0.1\n");
    eventually("the list counts", || {
        client.ask("GET /x", &[]).status == 403
    });
    gate.write("blocked.txt", "203.0.113.0/24\n");
    eventually("and its next edition", || {
        client.ask("GET /x", &[]).status == 200
    });
    gate.write(
        "portcullis.toml",
        format!("{}{DENY}{config}", crate::support::gate::OPENING),
    );
    eventually("so does the configuration", || {
        client.ask("GET /closed", &[]).status == 403
    });
    client.ask("GET /x", &[]).is(200);
}

#[test]
fn damaged_list_keeps_the_last_good_one() {
    let origin = Origin::start();
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("blocked.txt"), "127.0.0.66\n").unwrap();
    let config = format!(
        "[ip]\nblocked = {{ file = \"blocked.txt\" }}\n[[deny]]\nname = \"blocked\"\nip = \"@blocked\"\n{}",
        open(&origin)
    );
    let gate = Gate::start_in(folder, &config);
    gate.connect_from("127.0.0.66").ask("GET /x", &[]).is(403);
    for content in ["127.0.0.66\nnot an address\n", "\u{0}\u{1}\u{2}"] {
        gate.write("blocked.txt", content);
        drop(gate.reload_as_is());
        gate.connect_from("127.0.0.66").ask("GET /x", &[]).is(403);
        gate.connect().ask("GET /x", &[]).is(200);
    }
    std::fs::remove_file(gate.path("blocked.txt")).unwrap();
    drop(gate.reload_as_is());
    gate.connect_from("127.0.0.66").ask("GET /x", &[]).is(403);
}

#[test]
fn changed_page_is_shown_after_a_reload() {
    let origin = Origin::start();
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("pages")).unwrap();
    std::fs::write(folder.path().join("pages/403.html"), "<p>first</p>").unwrap();
    let config = format!("[denial]\npages = \"pages\"\n{DENY}{}", open(&origin));
    let gate = Gate::start_in(folder, &config);
    let mut client = gate.connect();
    assert_eq!(
        client
            .ask("GET /closed", &["Accept: text/html"])
            .is(403)
            .text(),
        "<p>first</p>"
    );
    std::fs::write(gate.path("pages/403.html"), "<p>second</p>").unwrap();
    gate.reload_as_is()
        .unwrap_or_else(|report| panic!("{report:?}"));
    assert_eq!(
        client
            .ask("GET /closed", &["Accept: text/html"])
            .is(403)
            .text(),
        "<p>second</p>"
    );
    std::fs::write(gate.path("pages/403.html"), "<p>{{ broken </p>").unwrap();
    assert!(
        gate.reload_as_is().is_err(),
        "a page that cannot be read is refused"
    );
    assert_eq!(
        client
            .ask("GET /closed", &["Accept: text/html"])
            .is(403)
            .text(),
        "<p>second</p>"
    );
}

#[test]
fn shutdown_finishes_what_is_in_flight() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::scripted(move |exchange| {
        if exchange.seen.target == "/slow" && wait.lock().unwrap().recv_timeout(PATIENCE).is_err() {
            return Then::Close;
        }
        Then::Usual
    });
    let folder = TempDir::new().unwrap();
    let opening =
        crate::support::gate::OPENING.replace("drain_timeout = \"1s\"", "drain_timeout = \"20s\"");
    let mut gate = Gate::bare(
        folder,
        &format!("{opening}{}", open(&origin).replace("1500ms", "20s")),
    );
    let address = gate.address();
    let mut idle = gate.connect();
    idle.ask("GET /x", &[]).is(200);
    let mut client = gate.connect();
    client.send(request("GET /slow", &[], b""));
    eventually("the request is at the origin", || origin.count() == 2);
    let start = Instant::now();
    let ending = gate.shutdown_beside();
    assert_ne!(
        idle.end(Duration::from_secs(5)),
        End::Late,
        "idle connections are closed at once"
    );
    eventually("no new connection is taken", || {
        std::net::TcpStream::connect(address).is_err()
    });
    assert!(!ending.is_finished(), "it waits for the request in flight");
    go.send(()).unwrap();
    client.response("GET").is(200);
    assert_ne!(
        client.end(Duration::from_secs(5)),
        End::Late,
        "and closes behind it"
    );
    ending.join().unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn shutdown_does_not_wait_for_ever() {
    let origin = Origin::scripted(|exchange| {
        exchange.wait_for_close();
        Then::Close
    });
    let mut gate = Gate::start(&open(&origin).replace("1500ms", "60s"));
    let mut client = gate.connect();
    client.send(request("GET /hang", &[], b""));
    eventually("the request is at the origin", || origin.count() == 1);
    let start = Instant::now();
    gate.shutdown_beside().join().unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "drain_timeout is 1 s: {:?}",
        start.elapsed()
    );
    assert_ne!(client.end(Duration::from_secs(5)), End::Late);
}

#[test]
fn broken_configuration_does_not_start() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("portcullis.toml");
    for (text, why) in [
        ("", "an empty file serves nothing"),
        (
            "[[site]]\nhost = [\"*\"]\nupstream = \"nobody\"\nallow = \"anyone\"\n",
            "an unknown upstream",
        ),
    ] {
        std::fs::write(&path, text).unwrap();
        assert!(portcullis::reload::Instance::start(&path).is_err(), "{why}");
    }
    assert!(portcullis::reload::Instance::start(&folder.path().join("missing.toml")).is_err());
}

#[test]
fn a_request_that_is_on_its_way_when_the_end_begins_is_answered_as_the_last() {
    let origin = Origin::start();
    for _ in 0..10 {
        let mut gate = Gate::start(&open(&origin));
        let address = gate.address();
        let mut kept = gate.connect();
        kept.ask("GET /x", &[]).is(200);
        let start = Instant::now();
        let ending = gate.shutdown_beside();
        eventually("the end has begun", || {
            std::net::TcpStream::connect(address).is_err()
        });
        kept.send(request("GET /y", &[], b""));
        if start.elapsed() > Duration::from_millis(400) {
            // A busy machine: the connection may have been closed already, rightly.
            continue;
        }
        let response = kept.response("GET");
        assert_eq!(response.status, 200);
        let closes = |(name, value): &(String, String)| {
            name.eq_ignore_ascii_case("connection") && value == "close"
        };
        assert!(response.fields.iter().any(closes), "{response:?}");
        assert_ne!(kept.end(Duration::from_secs(5)), End::Late);
        ending.join().unwrap();
        return;
    }
    panic!("never fast enough");
}
