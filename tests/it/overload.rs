//! Beyond what it can do: it sheds early, serves what it accepted, and recovers by itself. The real binary, with few descriptors.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use portcullis::admin::client::{self, Place};
use tempfile::TempDir;

use crate::support::client::request;
use crate::support::gate::OPENING;
use crate::support::{Client, Origin, Then, eventually, eventually_some, open};

/// A `portcullis run` that may open so many files.
struct Poor {
    folder: TempDir,
    child: Child,
}

impl Poor {
    fn start(files: usize, config: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("portcullis.toml");
        fs::write(path, format!("{OPENING}{config}")).unwrap();
        let log = File::create(folder.path().join("stderr.log")).unwrap();
        let binary = env!("CARGO_BIN_EXE_portcullis");
        let line = format!("ulimit -n {files}; exec '{binary}' run --config portcullis.toml");
        let child = Command::new("sh")
            .args(["-c", &line])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { folder, child }
    }

    fn status(&self) -> Option<serde_json::Value> {
        let socket: PathBuf = self.folder.path().join("admin.sock");
        let reply = client::ask(&Place::Socket(socket), "GET", "/status").ok()?;
        (reply.status == 200).then_some(reply.body)
    }

    fn address(&self) -> SocketAddr {
        eventually_some("it listens", || {
            self.status()?["listeners"][0].as_str()?.parse().ok()
        })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr.log")).unwrap()
    }

    /// From now on it may open so many files.
    fn allow(&self, files: usize) {
        let status = Command::new("prlimit")
            .args(["--pid", &self.child.id().to_string()])
            .arg(format!("--nofile={files}:256"))
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Poor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The status of an answer that comes within a second; none where the connection is closed, or waits.
fn soon(client: &mut Client) -> Option<u16> {
    client.send(request("GET /x", &[], b""));
    let answer = client.try_response("GET", Duration::from_secs(1));
    answer.ok().map(|answer| answer.status)
}

#[test]
fn clients_never_take_the_descriptors_that_their_requests_need() {
    let origin = Origin::start();
    // (128 - 2 * 16 - 48) / 2
    let most = 24;
    let poor = Poor::start(128, &open(&origin));
    let address = poor.address();
    assert!(poor.log().contains("allows fewer client connections"));
    let mut held: Vec<Client> = (0..most).map(|_| Client::connect(address)).collect();
    for client in &mut held {
        client.ask("GET /x", &[]).is(200);
    }
    for _ in 0..100 {
        let answer = soon(&mut Client::connect(address));
        assert!(matches!(answer, Some(503) | None), "shed: {answer:?}");
    }
    for client in &mut held {
        client.ask("GET /y", &[]).is(200);
    }
    drop(held);
    eventually("there is room again", || {
        soon(&mut Client::connect(address)) == Some(200)
    });
    assert!(!poor.log().contains("accept failed"), "{}", poor.log());
}

#[test]
fn without_descriptors_accepting_pauses_and_goes_on_by_itself() {
    let origin = Origin::scripted(|exchange| {
        // No connection to the origin is used twice.
        if exchange.seen.target == "/once" {
            exchange.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
            return Then::Close;
        }
        Then::Usual
    });
    let poor = Poor::start(256, &open(&origin));
    let address = poor.address();
    let mut held: Vec<Client> = (0..4).map(|_| Client::connect(address)).collect();
    for client in &mut held {
        client.ask("GET /once", &[]).is(200);
    }
    // All of the first are taken for as long as it runs.
    poor.allow(6);
    let mut late = Client::connect(address);
    assert_eq!(soon(&mut late), None, "it waits in the system's queue");
    eventually("the log says why", || poor.log().contains("accept failed"));
    for client in &mut held {
        let answer = client.ask("GET /x", &[]);
        assert_eq!(
            answer.status, 503,
            "our want is no fault of the application"
        );
        assert_eq!(answer.reason(), "overloaded");
        assert!(answer.header("retry-after").is_some());
    }
    let told = poor.log().matches("accept failed").count();
    assert!((1..=2).contains(&told), "once a worker: {told}");
    poor.allow(256);
    let answer = late.try_response("GET", Duration::from_secs(10));
    assert_eq!(answer.unwrap().status, 200, "who waited is served");
    for client in &mut held {
        client.ask("GET /x", &[]).is(200);
    }
}
