//! What the tests stand on: a gate in this process, a raw client, a scripted origin, certificates and tokens made on the spot.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use portcullis::client::geo;

pub(crate) mod certs;
pub(crate) mod client;
pub(crate) mod gate;
pub(crate) mod h2;
pub(crate) mod hpack;
pub(crate) mod origin;
pub(crate) mod tokens;

pub(crate) use client::{Client, End, Response};
pub(crate) use gate::{Gate, open};
pub(crate) use h2::{H2, Lost};
pub(crate) use origin::{Origin, Then};

/// How long a condition may take to come true before a test calls it a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `condition` holds; panics with `what` where it never does.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    eventually_some(what, || condition().then_some(()));
}

/// Waits until `find` finds something; panics with `what` where it never does.
pub(crate) fn eventually_some<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Held by tests that measure this process or take most of its descriptors: one at a time.
pub(crate) fn heavy() -> MutexGuard<'static, ()> {
    static HEAVY: Mutex<()> = Mutex::new(());
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resident bytes of this process.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

/// How many descriptors this process may open.
pub(crate) fn descriptors_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    line["Max open files".len()..]
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(usize::MAX)
}

/// A folder of the data shared beside the repository, where there is one.
pub(crate) fn shared(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("PORTCULLIS_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let folder = root.join(folder);
    folder.is_dir().then_some(folder)
}

/// A folder of `tests/golden`.
pub(crate) fn golden(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(folder)
}

/// MaxMind's country test database where the shared data is at hand, else one of ours with the same facts in `folder`.
pub(crate) fn country_database(folder: &Path) -> PathBuf {
    if let Some(file) = shared("data/mmdb/good").map(|good| good.join("GeoLite2-Country-Test.mmdb"))
        && file.is_file()
    {
        return file;
    }
    let entries = geo::csv::parse(COUNTRIES).unwrap();
    let label = geo::writer::Label {
        kind: "Portcullis-Test",
        description: "Countries for tests",
        build_epoch: tokens::now(),
    };
    let file = folder.join("countries.mmdb");
    std::fs::write(&file, geo::writer::write(&entries, &label).unwrap()).unwrap();
    file
}

/// A loopback port that refuses connections for as long as the value lives.
#[derive(Debug)]
pub(crate) struct Refusing(socket2::Socket);

impl Refusing {
    pub(crate) fn new() -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        Self(socket)
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().as_socket().unwrap().port()
    }
}

/// What the tests know of MaxMind's test networks.
const COUNTRIES: &str = "network,country,continent,subdivision,asn,as_org,anonymizers
81.2.69.142/31,GB,EU,,,,
81.2.69.144/28,GB,EU,,,,
81.2.69.160/27,GB,EU,,,,
81.2.69.192/28,GB,EU,,,,
2a02:d3c0::/29,GB,EU,,,,
89.160.20.112/28,SE,EU,,,,
89.160.20.128/25,SE,EU,,,,
216.160.83.56/29,US,NA,,,,
2a02:d500::/29,,EU,,,,
";
