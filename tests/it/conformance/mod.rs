//! Runs the cases of `tests/golden/conformance` whose needs are built, over a gate under their scenario, and prints what passed.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use tempfile::TempDir;

use crate::support::client::latin1;
use crate::support::{Client, Gate, H2, Origin, Refusing, certs, country_database, golden, tokens};

mod case;
mod judge;
mod readings;

use case::{Case, Level};
use judge::Observation;

/// The needs that are built. A case with another one is listed as not applicable.
const BUILT: &[&str] = &["http", "xff", "method", "mapped", "geo", "pp", "tls", "h2"];

/// Each with a gate and an origin of its own.
const RUNNERS: usize = 4;

/// Every applicable `must` and `should` case passes.
#[test]
fn every_applicable_case_passes() {
    let cases: Vec<Case> = ["http1", "policy", "h2"]
        .into_iter()
        .flat_map(case::read)
        .collect();
    assert!(cases.len() > 300, "the cases are there");
    let (run, skipped): (Vec<Case>, Vec<Case>) = cases
        .into_iter()
        .partition(|case| case.needs.iter().all(|need| BUILT.contains(&need.as_str())));

    let queue = Mutex::new(VecDeque::from(run));
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..RUNNERS {
            scope.spawn(|| {
                let stage = Stage::new();
                let mut known = 0;
                loop {
                    let Some(case) = queue.lock().unwrap().pop_front() else {
                        break;
                    };
                    let seen = stage.run(&case, &mut known);
                    let failure = judge::judge(&case, &seen);
                    results.lock().unwrap().push((case, seen, failure));
                }
            });
        }
    });
    report(results.into_inner().unwrap(), &skipped);
}

/// A case, what was observed, and why no outcome fits it.
type Judged = (Case, Observation, Result<(), Vec<String>>);

fn report(mut results: Vec<Judged>, skipped: &[Case]) {
    results.sort_by(|a, b| (&a.0.area, &a.0.id).cmp(&(&b.0.area, &b.0.id)));
    let mut table: BTreeMap<(String, Level), (usize, usize)> = BTreeMap::new();
    let mut failures = Vec::new();
    for (case, seen, failure) in &results {
        let entry = table.entry((case.area.clone(), case.level)).or_default();
        entry.1 += 1;
        match failure {
            Ok(()) => entry.0 += 1,
            Err(reasons) if case.level == Level::Info => {
                println!(
                    "info: {}: {} (recorded only): {}",
                    case.id,
                    case.why,
                    reasons.join("; ")
                );
            }
            Err(reasons) => failures.push(format!(
                "{} [{}] {}\n    {}\n    observed: {seen}\n    {}",
                case.id,
                case.level.name(),
                case.reference,
                case.why,
                reasons.join("\n    ")
            )),
        }
    }
    println!("conformance: area, level, passed/total");
    for ((area, level), (passed, total)) in &table {
        println!("  {area:<8} {:<7} {passed}/{total}", level.name());
    }
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for case in skipped {
        let mut needs = case.needs.iter().map(String::as_str);
        let lacking = needs.rfind(|need| !BUILT.contains(need)).unwrap_or("geo");
        missing.entry(lacking).or_default().push(&case.id);
    }
    for (need, ids) in &missing {
        println!(
            "not applicable without `{need}` ({}): {}",
            ids.len(),
            ids.join(" ")
        );
    }
    assert!(
        failures.is_empty(),
        "{} conformance cases fail:\n\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

/// One gate under the scenario with its origin.
struct Stage {
    gate: Gate,
    origin: Origin,
    _down: Refusing,
    listeners: Vec<&'static str>,
}

impl Stage {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (origin, down) = (Origin::start(), Refusing::new());
        certs::certs().write(folder.path());
        tokens::write(folder.path());
        let (config, listeners) = scenario(&origin, down.port(), folder.path());
        Self {
            gate: Gate::bare(folder, &config),
            origin,
            _down: down,
            listeners,
        }
    }

    fn run(&self, case: &Case, known: &mut usize) -> Observation {
        let number = self
            .listeners
            .iter()
            .position(|name| *name == case.listener.replace("h2", "https"))
            .unwrap();
        let address = self.gate.listener(number);
        let mut address = address;
        if case.listener == "mapped" {
            // The peer must arrive as ::ffff:a.b.c.d: an IPv4 connection to the IPv6 socket.
            address.set_ip("127.0.0.1".parse().unwrap());
        }
        let mut seen = match &case.h2 {
            None => judge::observe(case, &mut Client::from(case.source, address)),
            Some(sent) => judge::observe_stream(sent, &mut H2::connect(address)),
        };
        // One worker: once this is answered, everything that the case set off has left.
        let sentinel = self.gate.connect().ask("GET /sentinel", &[]);
        assert_eq!(
            sentinel.status, 200,
            "after {}: the gate still serves",
            case.id
        );
        seen.forwarded = self.origin.settled_after(*known);
        *known += seen.forwarded.len();
        let before = seen.forwarded.len();
        seen.forwarded
            .retain(|request| request.target != "/sentinel");
        assert_eq!(
            before,
            seen.forwarded.len() + 1,
            "after {}: one sentinel",
            case.id
        );
        seen
    }
}

/// The scenario with this machine's ports and paths, without what is not built, and the names of its listeners in order.
fn scenario(origin: &Origin, down: u16, folder: &Path) -> (String, Vec<&'static str>) {
    let text = std::fs::read_to_string(golden("conformance").join("scenario.toml")).unwrap();
    let database = country_database(folder);
    let folder = folder.to_str().unwrap();
    let mut listeners = Vec::new();
    for name in ["http", "mapped", "https", "mtls", "pp"] {
        listeners.push((text.find(&format!(":@{name}@")).expect(name), name));
    }
    listeners.sort_unstable();
    let text = text
        .replace("@origin@", &origin.address().port().to_string())
        .replace("@down@", &down.to_string())
        .replace("@grpc@", &down.to_string())
        .replace("@log@", &format!("{folder}/access.log"))
        .replace("@certs@", folder)
        .replace("@mmdb@", database.to_str().unwrap());
    let text = ["http", "mapped", "https", "mtls", "pp"]
        .iter()
        .fold(text, |text, name| text.replace(&format!("@{name}@"), "0"));
    let mut table: toml::Table = text.parse().unwrap();
    let lacks = |need: &str| !BUILT.contains(&need);
    if lacks("pp") {
        list(&mut table, "listener").retain(|listener| listener.get("proxy_protocol").is_none());
        listeners.retain(|(_, name)| *name != "pp");
    }
    if lacks("grpc") {
        table["upstream"].as_table_mut().unwrap().remove("grpc");
        for site in list(&mut table, "site") {
            let routes = site["route"].as_array_mut().unwrap();
            routes.retain(|route| {
                route.get("upstream").and_then(toml::Value::as_str) != Some("grpc")
            });
        }
    }
    let server = table["server"].as_table_mut().unwrap();
    server.insert("workers".into(), 1.into());
    server.insert("drain_timeout".into(), "1s".into());
    let admin: toml::Table = "socket = \"admin.sock\"".parse().unwrap();
    table.insert("admin".into(), admin.into());
    (
        toml::to_string(&table).unwrap(),
        listeners.into_iter().map(|(_, name)| name).collect(),
    )
}

fn list<'a>(table: &'a mut toml::Table, key: &str) -> &'a mut Vec<toml::Value> {
    table[key].as_array_mut().unwrap()
}
