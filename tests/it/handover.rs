//! A new binary takes over, and sockets that a supervisor has opened: the real binary, real signals, and clients that never stop.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use portcullis::admin::client::{self, Place};
use tempfile::TempDir;

use crate::support::gate::{OPENING, write};
use crate::support::{Client, End, Origin, Then, eventually, eventually_some, heavy, open};

/// A `portcullis run` with its folder. Whatever process serves at the end is ended with it.
struct Running {
    folder: TempDir,
    child: Child,
}

impl Running {
    fn start(config: &str) -> Self {
        Self::start_from(env!("CARGO_BIN_EXE_portcullis").as_ref(), config, |_| {})
    }

    fn start_from(binary: &Path, config: &str, change: impl FnOnce(&mut Command)) -> Self {
        let folder = TempDir::new().unwrap();
        write(
            folder.path(),
            "portcullis.toml",
            format!("{OPENING}{config}"),
        );
        let log = File::create(folder.path().join("stderr.log")).unwrap();
        let mut command = Command::new(binary);
        command
            .args(["run", "--config", "portcullis.toml"])
            .current_dir(folder.path())
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        change(&mut command);
        let child = command.spawn().unwrap();
        Self { folder, child }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    fn status(&self) -> Option<serde_json::Value> {
        let reply = client::ask(&Place::Socket(self.socket()), "GET", "/status").ok()?;
        (reply.status == 200).then_some(reply.body)
    }

    /// The process that answers on the admin socket.
    fn pid(&self) -> u64 {
        eventually_some("a process answers", || self.status()?["pid"].as_u64())
    }

    fn address(&self) -> SocketAddr {
        eventually_some("it listens", || {
            self.status()?["listeners"][0].as_str()?.parse().ok()
        })
    }

    fn signal(&self, name: &str, pid: u64) {
        let line = format!("kill -{name} {pid}");
        let status = Command::new("sh").args(["-c", &line]).status().unwrap();
        assert!(status.success(), "{line}");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr.log")).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = self.status().and_then(|status| status["pid"].as_u64()) {
            self.signal("KILL", pid);
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Clients that ask without a pause until told to stop.
struct Load {
    stop: AtomicBool,
    good: AtomicUsize,
    failures: std::sync::Mutex<Vec<String>>,
}

impl Load {
    const fn new() -> Self {
        Self {
            stop: AtomicBool::new(false),
            good: AtomicUsize::new(0),
            failures: std::sync::Mutex::new(Vec::new()),
        }
    }

    fn note(&self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                self.good.fetch_add(1, Ordering::Relaxed);
            }
            Err(why) => self.failures.lock().unwrap().push(why),
        }
    }

    fn going(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// A connection for every request.
    fn fresh(&self, to: SocketAddr) {
        while self.going() {
            let asked = std::net::TcpStream::connect(to).map(drop);
            self.note(asked.map_err(|error| format!("refused: {error}")));
            self.note(ask(&mut Client::connect(to)).map(drop));
        }
    }

    /// One connection for as long as the answers allow.
    fn kept(&self, to: SocketAddr) {
        let mut client = Client::connect(to);
        while self.going() {
            let asked = ask(&mut client);
            if !matches!(asked, Ok(Stays::Open)) {
                client = Client::connect(to);
            }
            self.note(asked.map(drop));
        }
    }

    /// Lets the clients do this many requests more.
    fn more(&self, count: usize) {
        let until = self.good.load(Ordering::Relaxed) + count;
        eventually("the clients go on", || {
            self.good.load(Ordering::Relaxed) >= until || !self.failures.lock().unwrap().is_empty()
        });
    }

    /// Runs four clients beside `act`, and answers how many requests were served; none may fail.
    fn during(to: SocketAddr, act: impl FnOnce(&Self)) -> usize {
        let load = Self::new();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| load.fresh(to));
                scope.spawn(|| load.kept(to));
            }
            let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&load)));
            load.stop.store(true, Ordering::Relaxed);
            if let Err(panic) = acted {
                std::panic::resume_unwind(panic);
            }
        });
        let failures = load.failures.into_inner().unwrap();
        assert!(
            failures.is_empty(),
            "{} failed: {failures:?}",
            failures.len()
        );
        load.good.into_inner()
    }
}

enum Stays {
    Open,
    Closes,
}

fn ask(client: &mut Client) -> Result<Stays, String> {
    client.send("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let response = client
        .try_response("GET", Duration::from_secs(10))
        .map_err(|broken| format!("{broken:?}"))?;
    if response.status != 200 {
        return Err(format!("{}", response.status));
    }
    let closes = response
        .fields
        .iter()
        .any(|(name, value)| name.eq_ignore_ascii_case("connection") && value == "close");
    Ok(if closes { Stays::Closes } else { Stays::Open })
}

#[test]
fn a_new_binary_takes_over_and_nobody_is_refused() {
    let _alone = heavy();
    let origin = Origin::start();
    let spread = "[[listener]]\naddress = \"127.0.0.1:0\"\nreuseport = true\n";
    let mut running = Running::start(&format!("{}{spread}", open(&origin)));
    let (old, address) = (running.pid(), running.address());
    let spread: SocketAddr = running.status().unwrap()["listeners"][1]
        .as_str()
        .and_then(|address| address.parse().ok())
        .unwrap();
    // Each of its sockets has a queue of its own: a forgotten one would leave some of these waiting.
    let reaches_every_socket = || {
        for _ in 0..16 {
            assert!(ask(&mut Client::connect(spread)).is_ok());
        }
    };
    let served = Load::during(address, |load| {
        load.more(50);
        running.signal("USR2", old);
        let new = eventually_some("another process answers the operator", || {
            running.status()?["pid"].as_u64().filter(|pid| *pid != old)
        });
        let ended = eventually_some("the old process ends", || running.child.try_wait().unwrap());
        assert!(ended.success(), "{ended}");
        load.more(50);
        assert_eq!(running.pid(), new, "the socket's file stays");
        assert_eq!(running.address(), address, "port 0 is the port it was");
        reaches_every_socket();
        // And once more: what was inherited can be handed on.
        running.signal("USR2", new);
        eventually("a third process answers", || {
            running
                .status()
                .is_some_and(|status| ![Some(old), Some(new)].contains(&status["pid"].as_u64()))
        });
        load.more(50);
    });
    assert!(served >= 150, "{served}");
    let last = running.pid();
    running.signal("TERM", last);
    eventually("the last one takes its socket away", || {
        !running.socket().exists()
    });
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn two_processes_rotate_one_log_and_lose_no_line() {
    let _alone = heavy();
    let origin = Origin::start();
    let rotate = "rotate = { size = \"8KiB\" }\n";
    let mut running = Running::start(&format!("{rotate}{}", open(&origin)));
    let (old, address) = (running.pid(), running.address());
    Load::during(address, |load| {
        load.more(100);
        running.signal("USR2", old);
        let ended = eventually_some("the old process ends", || running.child.try_wait().unwrap());
        assert!(ended.success(), "{ended}");
        load.more(100);
    });
    running.signal("TERM", running.pid());
    eventually("the last one takes its socket away", || {
        !running.socket().exists()
    });
    let names = fs::read_dir(running.folder.path()).unwrap();
    let paths = names.map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.to_string_lossy().contains("/access.log"));
    let mut ids = Vec::new();
    let mut files = 0;
    for path in paths {
        files += 1;
        for line in fs::read_to_string(path).unwrap().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            if line["http.response.status_code"] == 200 {
                ids.push(line["request.id"].as_str().unwrap().to_owned());
            }
        }
    }
    assert!(files > 5, "{files}");
    let lines = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), lines, "none twice");
    assert_eq!(lines, origin.count(), "each request has its line");
}

#[test]
fn ten_reloads_under_load_lose_no_request_and_leave_a_websocket_alone() {
    let _alone = heavy();
    let origin = Origin::start();
    let running = Running::start(&open(&origin));
    let (pid, address) = (running.pid(), running.address());
    let mut socket = Client::connect(address);
    socket.send(
        "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(socket.response_head().status, 101);
    let mut echoes = || {
        assert!(socket.send(b"are you there"));
        assert_eq!(socket.take(13), b"are you there");
    };
    echoes();
    let served = Load::during(address, |load| {
        for number in 0..10 {
            let name = format!("deny-{number}");
            let deny = format!("[[deny]]\nname = \"{name}\"\npath = \"/closed/{number}\"\n");
            let config = format!("{OPENING}{deny}{}", open(&origin));
            write(running.folder.path(), "portcullis.toml", config);
            let generation = || running.status()?["generation"].as_u64();
            let before = eventually_some("a generation", generation);
            running.signal("HUP", pid);
            eventually("a new generation", || generation() > Some(before));
            load.more(20);
            echoes();
        }
    });
    assert!(served >= 200, "{served}");
    assert_eq!(running.pid(), pid);
}

#[test]
fn what_is_in_flight_stays_with_the_old_process() {
    let origin = Origin::scripted(|exchange| {
        if exchange.seen.target == "/slow" {
            exchange.wait_for_close();
            return Then::Close;
        }
        Then::Usual
    });
    let config = open(&origin).replace("1500ms", "20s");
    let running = Running::start(&config);
    let (old, address) = (running.pid(), running.address());
    let mut slow = Client::connect(address);
    slow.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n");
    eventually("it is at the origin", || origin.count() == 1);
    running.signal("USR2", old);
    eventually("another process answers", || {
        running.status().is_some_and(|status| status["pid"] != old)
    });
    assert!(ask(&mut Client::connect(address)).is_ok());
    // `drain_timeout` is one second here: then the old process has waited long enough.
    assert_ne!(slow.end(Duration::from_secs(5)), End::Late);
}

#[test]
fn where_the_new_one_does_not_start_the_old_one_goes_on_and_says_why() {
    let _alone = heavy();
    let origin = Origin::start();
    let bin = TempDir::new().unwrap();
    let binary = bin.path().join("portcullis");
    fs::copy(env!("CARGO_BIN_EXE_portcullis"), &binary).unwrap();
    let running = Running::start_from(&binary, &open(&origin), |_| {});
    let (pid, address) = (running.pid(), running.address());
    let replace = |content: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let beside = bin.path().join("new");
        fs::write(&beside, content).unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&beside, &binary).unwrap();
    };
    let served = Load::during(address, |load| {
        let fails = |why: &str| {
            let before = running.log().len();
            running.signal("USR2", pid);
            eventually(&format!("{why}, in\n{}", running.log()), || {
                running.log()[before..].contains(why)
            });
            load.more(20);
            assert_eq!(running.pid(), pid, "{why}");
        };
        write(running.folder.path(), "portcullis.toml", "colour = 1\n");
        eventually("the change is refused", || {
            running.log().contains("unknown-key")
        });
        fails("the new process does not start: the configuration is refused; error[no-listener]");
        replace("#!/bin/sh\nexit 7\n");
        fails("the new process ended (exit status: 7)");
        fs::remove_file(&binary).unwrap();
        fails("cannot start");
    });
    assert!(served >= 60, "{served}");
    assert!(running.socket().exists());
}

#[test]
fn a_supervisors_socket_is_used_and_the_supervisor_is_told() {
    let origin = Origin::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let spare = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = TempDir::new().unwrap();
    let notify = folder.path().join("notify");
    let supervisor = UnixDatagram::bind(&notify).unwrap();
    supervisor
        .set_read_timeout(Some(crate::support::PATIENCE))
        .unwrap();
    let config = open(&origin).replace("127.0.0.1:0", &address.to_string());
    let sockets: Vec<OwnedFd> = [&listener, &spare]
        .map(|socket| socket.try_clone().unwrap().into())
        .into();
    let running = Running::start_from(
        env!("CARGO_BIN_EXE_portcullis").as_ref(),
        &config,
        |command| {
            let mappings = (3..).zip(sockets).map(|(child_fd, parent_fd)| FdMapping {
                parent_fd,
                child_fd,
            });
            command
                .env("LISTEN_FDS", "2")
                .env("LISTEN_FDNAMES", "portcullis.socket:portcullis.socket")
                .env("NOTIFY_SOCKET", &notify)
                .env("WATCHDOG_USEC", "200000")
                .fd_mappings(mappings.collect())
                .unwrap();
        },
    );
    let told = || {
        let mut word = [0; 4096];
        let length = supervisor.recv(&mut word).expect("a word from it");
        String::from_utf8_lossy(&word[..length]).into_owned()
    };
    // A file seen late is loaded once more, and that is told too.
    let hears = |what: &[&str]| loop {
        let word = told();
        if what.iter().all(|part| word.contains(part)) {
            return;
        }
        let usual = ["WATCHDOG=1", "RELOADING=1", "READY=1"];
        let usual = usual.iter().any(|part| word.contains(part));
        assert!(usual, "{word} before {what:?}");
    };
    hears(&["READY=1"]);
    let pid = running.pid();
    // The supervisor keeps the port, so nobody could have bound it a second time.
    assert!(ask(&mut Client::connect(address)).is_ok());
    eventually("what nobody uses is named", || {
        running
            .log()
            .contains(&spare.local_addr().unwrap().to_string())
    });
    hears(&["WATCHDOG=1"]);
    running.signal("HUP", pid);
    hears(&["RELOADING=1", "MONOTONIC_USEC="]);
    hears(&["READY=1", "STATUS=serving generation"]);
    write(running.folder.path(), "portcullis.toml", "colour = 1\n");
    hears(&["RELOADING=1"]);
    hears(&["READY=1", "refused"]);
    write(
        running.folder.path(),
        "portcullis.toml",
        format!("{OPENING}{config}"),
    );
    hears(&["RELOADING=1"]);
    hears(&["READY=1", "STATUS=serving generation"]);
    running.signal("USR2", pid);
    // The heir may be first to say that it is ready.
    let succession = loop {
        let word = told();
        if word.contains("MAINPID=") {
            break word;
        }
        assert!(!word.contains("STOPPING"), "{word}");
    };
    let new = eventually_some("another process answers", || {
        running.status()?["pid"].as_u64().filter(|new| *new != pid)
    });
    assert!(
        succession.contains(&format!("MAINPID={new}\nREADY=1")),
        "{succession}"
    );
    assert!(ask(&mut Client::connect(address)).is_ok());
    running.signal("TERM", new);
    loop {
        if told().contains("STOPPING=1") {
            break;
        }
    }
}
