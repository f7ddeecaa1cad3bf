//! Decisions: path reading, site, route, rules; strings and an address in, a decision out.
//!
//! First a table, over thousands of different requests in turn, so that caches are as warm as traffic keeps them and no
//! warmer: median and worst request, compile time, memory, allocations; each beside the same policy without indexes, which
//! tries rule after rule as Envoy's RBAC does. Then the usual criterion figures. `DECIDE_TABLE=only` skips the latter,
//! `DECIDE_TABLE=skip` the table.
//!
//! Shapes: `spread` has 2 % global denies and sites of 100 rules; `global` has nothing but global denies and one open route:
//! neither host nor path narrows it.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a bench may stop at the first surprise, and prints its table"
)]

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use portcullis::client::geo::writer::{self, Label};
use portcullis::client::geo::{self, Databases, Source, csv, demo};
use portcullis::config::Context;
use portcullis::config::compile::rules as compile;
use portcullis::config::node::{self, FileId, Table};
use portcullis::policy::facts::{Scheme, TlsFacts, TlsVersion};
use portcullis::policy::{Credential, Decision, Facts, First, Identity, Person, Policy, RuleId};
use portcullis::value::path::Target;
use portcullis::value::principal::Principal;
use portcullis::value::region::{GeoFacts, Region};

mod rules;

use self::rules::{COUNTRIES, Dice, METHODS, ROLES, SETS, allow, deny, head};

/// Rules spread over hosts and routes.
fn spread(rules: usize) -> String {
    let (mut dice, mut text) = (Dice(0x5EED), head());
    let global = (rules / 50).max(2);
    for number in 0..global {
        writeln!(
            text,
            "[[deny]]\nname = \"g{number}\"\n{}",
            deny(&mut dice, number, "")
        )
        .unwrap();
    }
    let mut left = rules - global;
    for site in 0.. {
        if left == 0 {
            break;
        }
        write!(text, "[[site]]\nhost = [\"site{site}.example.com\"]\nupstream = \"u\"\nidentity = [\"sso\"]\n").unwrap();
        for number in 0..left.min(10).min(rules / 5) {
            writeln!(
                text,
                "[[site.deny]]\nname = \"s{number}\"\n{}",
                deny(&mut dice, number, "")
            )
            .unwrap();
            left -= 1;
        }
        for route in 0..10 {
            if left == 0 {
                break;
            }
            let allows = left.min(5);
            left -= allows;
            let list: Vec<String> = (0..allows).map(|_| allow(&mut dice)).collect();
            write!(
                text,
                "[[site.route]]\npath = \"/api/r{route}/**\"\nallow = [{}]\n",
                list.join(", ")
            )
            .unwrap();
            for number in 0..left.min(4) {
                let rule = deny(&mut dice, number, &format!("/api/r{route}"));
                writeln!(
                    text,
                    "[[site.route.deny]]\nname = \"r{route}-{number}\"\n{rule}"
                )
                .unwrap();
                left -= 1;
            }
        }
    }
    text
}

/// All rules are global denies.
fn global(rules: usize) -> String {
    let (mut dice, mut text) = (Dice(0x5EED), head());
    for number in 0..rules {
        writeln!(
            text,
            "[[deny]]\nname = \"g{number}\"\n{}",
            deny(&mut dice, number, "/api/r1")
        )
        .unwrap();
    }
    text.push_str("[[site]]\nhost = [\"*.example.com\"]\nupstream = \"u\"\nidentity = [\"sso\"]\nallow = \"anyone\"\n");
    text
}

fn compile(root: &Table) -> Policy {
    let mut cx = Context::default();
    let policy = compile::compile(root, GeoFacts::ALL, &mut cx);
    assert!(!cx.report.refused(), "{:?}", cx.report.diagnostics.first());
    policy
}

fn parse(text: &str) -> Table {
    let (root, found) = node::parse(text, FileId(0));
    assert!(found.is_empty());
    root
}

struct Request {
    host: String,
    target: String,
    method: Method,
    client: IpAddr,
    region: Region,
    person: Option<Person>,
}

fn requests(policy: &Policy, sites: usize, count: usize) -> Vec<Request> {
    let mut dice = Dice(0xBEEF);
    let one = |_| {
        let person = (dice.roll(2) == 0).then(|| {
            policy.person(Arc::new(Principal {
                user: format!("user{}", dice.roll(5000)).into(),
                source: "sso".into(),
                roles: vec![dice.of(&ROLES).into()],
                claims: serde_json::Map::new(),
                device: serde_json::Map::new(),
                expires: None,
            }))
        });
        let client = match dice.roll(3) {
            0 => Ipv4Addr::new(
                20 + dice.roll(SETS) as u8,
                (dice.roll(20) * 12) as u8,
                dice.roll(SETS) as u8,
                9,
            ),
            _ => Ipv4Addr::from(dice.roll(1 << 32) as u32),
        };
        Request {
            host: format!("site{}.example.com", dice.roll(sites)),
            target: match dice.roll(4) {
                0 => format!("/api/r{}/section{}/x", dice.roll(10), dice.roll(1000)),
                _ => format!("/api/r{}/orders/{}", dice.roll(10), dice.roll(1000)),
            },
            method: Method::from_bytes(dice.of(&METHODS).as_bytes()).unwrap(),
            client: client.into(),
            region: Region {
                country: Some(dice.of(&COUNTRIES).parse().unwrap()),
                asn: Some(64500 + dice.roll(400) as u32),
                ..Region::default()
            },
            person,
        }
    };
    (0..count).map(one).collect()
}

fn decide(policy: &Policy, request: &Request, headers: &HeaderMap) -> (Option<Decision>, bool) {
    let Ok(target) = Target::read(black_box(&request.target)) else {
        return (None, false);
    };
    let Ok(place) = policy.locate(black_box(&request.host), &target) else {
        return (None, false);
    };
    let lookup = |_: IpAddr| request.region;
    let mut facts = Facts {
        peer: request.client,
        client: request.client,
        method: &request.method,
        scheme: Scheme::Https,
        host: &request.host,
        target: &target,
        headers,
        tls: Some(TlsFacts {
            version: TlsVersion::V1_3,
            client_cert: false,
        }),
        websocket: false,
        now: jiff::Timestamp::UNIX_EPOCH,
        identity: Identity::Open,
        device: None,
        lookup: &lookup,
        region: OnceCell::new(),
    };
    let (first, notes) = policy.first_noting(&facts, place);
    match first {
        First::Decided(decision) => (Some(decision), false),
        First::SignIn => {
            facts.identity = request
                .person
                .as_ref()
                .map_or(Identity::Anonymous, Identity::Known);
            (
                Some(policy.second_noting(&facts, place, Credential::Absent, notes)),
                true,
            )
        }
    }
}

/// For each request the best of several passes over all of them, in nanoseconds.
fn times(policy: &Policy, requests: &[Request], passes: usize) -> Vec<f64> {
    let headers = HeaderMap::new();
    let empty = (0..1000).map(|_| Instant::now().elapsed()).min().unwrap();
    let mut best = vec![Duration::MAX; requests.len()];
    for _ in 0..passes {
        for (request, best) in requests.iter().zip(&mut best) {
            let start = Instant::now();
            black_box(decide(policy, request, &headers));
            *best = start.elapsed().saturating_sub(empty).min(*best);
        }
    }
    best.iter().map(|t| t.as_secs_f64() * 1e9).collect()
}

fn sorted(mut times: Vec<f64>) -> Vec<f64> {
    times.sort_by(f64::total_cmp);
    times
}

fn table() {
    println!(
        "| shape | rules | p50 at once ns | p50 signed in ns | p50 ns | p99 ns | worst ns | plain p50 | plain worst | compile ms | index B/rule | all B/rule | allocations |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (shape, text) in [
        ("spread", spread as fn(usize) -> String),
        ("global", global),
    ] {
        for rules in [10, 20, 100, 1000, 10_000, 100_000] {
            let root = parse(&text(rules));
            let base = parse(&head());
            let mut best = Duration::MAX;
            for _ in 0..if rules > 10_000 { 3 } else { 10 } {
                let start = Instant::now();
                let policy = compile(&root);
                best = best.min(start.elapsed());
                drop(policy);
            }
            let mut policy = None;
            let whole = allocation_counter::measure(|| policy = Some(compile(&root)));
            let fixed = allocation_counter::measure(|| std::mem::forget(compile(&base)));
            let policy = policy.unwrap();
            let sites = if shape == "spread" {
                (rules / 100).max(1)
            } else {
                100
            };
            let requests = requests(&policy, sites, 5000);
            let each = times(&policy, &requests, 15);
            let headers = HeaderMap::new();
            let spent = allocation_counter::measure(|| {
                for request in &requests {
                    black_box(decide(&policy, request, &headers));
                }
            });
            let said: Vec<_> = requests
                .iter()
                .map(|r| decide(&policy, r, &headers))
                .collect();
            let index = policy.index_bytes();
            let plain = policy.plain();
            for (request, said) in
                requests
                    .iter()
                    .zip(&said)
                    .take(if rules > 10_000 { 500 } else { 5000 })
            {
                assert_eq!(decide(&plain, request, &headers), *said);
            }
            let few = if rules > 1000 { 200 } else { 5000 };
            let slow = sorted(times(&plain, &requests[..few], 3));
            let part = |after: bool| {
                let times = each.iter().zip(&said).filter(|(_, said)| said.1 == after);
                sorted(times.map(|(time, _)| *time).collect())
            };
            let (once, twice) = (part(false), part(true));
            let sorted = sorted(each.clone());
            let at = |sorted: &[f64], share: f64| {
                sorted
                    .get((sorted.len().saturating_sub(1) as f64 * share) as usize)
                    .copied()
                    .unwrap_or(f64::NAN)
            };
            println!(
                "| {shape} | {rules} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} | {} | {} | {} |",
                at(&once, 0.5),
                at(&twice, 0.5),
                at(&sorted, 0.5),
                at(&sorted, 0.99),
                at(&sorted, 1.0),
                at(&slow, 0.5),
                at(&slow, 1.0),
                best.as_secs_f64() * 1e3,
                index / rules,
                (whole.bytes_current - fixed.bytes_current).max(0) as usize / rules,
                spent.count_total,
            );
            let denied = said
                .iter()
                .filter(|(d, _)| {
                    matches!(
                        d,
                        Some(Decision {
                            rule: Some(RuleId(_)),
                            ..
                        })
                    )
                })
                .count();
            let asked = said.iter().filter(|(_, asked)| *asked).count();
            println!(
                "<!-- of {} requests {denied} were decided by a rule, {asked} after sign-in -->",
                requests.len()
            );
        }
    }
    addresses();
    countries();
}

/// A million networks in 1000 sets, each set a file.
fn addresses() {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice(0xACE);
    let mut text = String::from("[ip]\n");
    for set in 0..1000 {
        let path = folder.path().join(format!("{set}.txt"));
        let mut list = String::new();
        for _ in 0..1000 {
            let net = u32::to_be_bytes((dice.roll(1 << 24) << 8) as u32);
            writeln!(list, "{}/24", Ipv4Addr::from(net)).unwrap();
        }
        std::fs::write(&path, list).unwrap();
        writeln!(text, "s{set} = {{ file = \"{}\" }}", path.display()).unwrap();
    }
    for set in 0..1000 {
        writeln!(text, "[[deny]]\nname = \"d{set}\"\nip = \"@s{set}\"").unwrap();
    }
    text.push_str("[[site]]\nhost = [\"*\"]\nupstream = \"u\"\nallow = \"anyone\"\n");
    let root = parse(&text);
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let policy = compile(&root);
        best = best.min(start.elapsed());
        drop(policy);
    }
    let policy = compile(&root);
    println!(
        "1 000 000 networks in 1000 files: read, parsed and built in {:.0} ms; table {} KiB",
        best.as_secs_f64() * 1e3,
        policy.address_bytes() / 1024
    );
    let addresses: Vec<IpAddr> = (0..1 << 16)
        .map(|_| Ipv4Addr::from(dice.roll(1 << 32) as u32).into())
        .collect();
    let mut fastest = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        for address in &addresses {
            black_box(policy.address_class(black_box(*address)));
        }
        fastest = fastest.min(start.elapsed());
    }
    println!(
        "look-up of one address in all of them: {:.0} ns",
        fastest.as_secs_f64() * 1e9 / addresses.len() as f64
    );
}

/// A country database of the size of published ones: 300 000 networks of 16 countries, with gaps between them.
fn countries() {
    let mut dice = Dice(0xC0DE);
    let mut table = String::from("network,country\n");
    let mut next = 1u32 << 24;
    for _ in 0..300_000 {
        let prefix = 18 + dice.roll(7) as u32;
        let size = 1u32 << (32 - prefix);
        let first = next.next_multiple_of(size);
        let country = dice.of(&COUNTRIES);
        writeln!(table, "{}/{prefix},{country}", Ipv4Addr::from(first)).unwrap();
        next = first + size + dice.roll(4) as u32 * 2048;
    }
    let entries = csv::parse(&table).unwrap();
    let label = Label {
        kind: "Bench",
        description: "countries",
        build_epoch: 0,
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("countries.mmdb");
    std::fs::write(&path, writer::write(&entries, &label).unwrap()).unwrap();
    let start = Instant::now();
    let database = geo::open(&path).unwrap();
    println!(
        "a country database of {} networks ({} KiB) read in {:.0} ms",
        entries.len(),
        std::fs::metadata(&path).unwrap().len() / 1024,
        start.elapsed().as_secs_f64() * 1e3
    );
    let databases = Databases::new(vec![Source::new("bench", &path, Arc::new(database))]);
    let addresses: Vec<IpAddr> = (0..1 << 16)
        .map(|_| Ipv4Addr::from((1 << 24) + dice.roll((next - (1 << 24)) as usize) as u32).into())
        .collect();
    let mut fastest = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        for address in &addresses {
            let now = jiff::Timestamp::UNIX_EPOCH;
            black_box(databases.region(black_box(*address), now));
        }
        fastest = fastest.min(start.elapsed());
    }
    println!(
        "country of one IPv4 address: {:.0} ns",
        fastest.as_secs_f64() * 1e9 / addresses.len() as f64
    );
}

fn benches(c: &mut Criterion) {
    let table = std::env::var("DECIDE_TABLE");
    if table.as_deref() != Ok("skip") {
        self::table();
    }
    if table.as_deref() == Ok("only") {
        return;
    }
    let headers = HeaderMap::new();
    for (shape, text) in [
        ("spread", spread as fn(usize) -> String),
        ("global", global),
    ] {
        for rules in [10, 1000, 10_000, 100_000] {
            let policy = compile(&parse(&text(rules)));
            let sites = if shape == "spread" {
                (rules / 100).max(1)
            } else {
                100
            };
            let requests = requests(&policy, sites, 5000);
            let mut turn = requests.iter().cycle();
            c.bench_function(&format!("{shape}/{rules}"), |b| {
                b.iter(|| decide(&policy, turn.next().unwrap(), &headers));
            });
        }
    }
    let policy = compile(&parse(&spread(1000)));
    let mut odd = requests(&policy, 10, 1);
    odd[0].target = "/api/R1/Orders/a%20b".to_owned();
    c.bench_function("both readings", |b| {
        b.iter(|| decide(&policy, &odd[0], &headers))
    });
    c.bench_function("path", |b| {
        b.iter(|| Target::read(black_box("/api/v7/orders/items/1")).is_ok())
    });
    let database = Arc::new(demo::database(0).unwrap());
    let databases = Databases::new(vec![Source::new(
        "demo",
        std::path::Path::new(""),
        database,
    )]);
    let mut dice = Dice(0xFEED);
    let addresses: Vec<IpAddr> = (0..4096)
        .map(|_| Ipv4Addr::from(dice.roll(1 << 32) as u32).into())
        .collect();
    let mut turn = addresses.iter().cycle();
    c.bench_function("country of an IPv4 address (demo database)", |b| {
        b.iter(|| databases.region(*turn.next().unwrap(), jiff::Timestamp::UNIX_EPOCH));
    });
}

criterion_group!(decisions, benches);
criterion_main!(decisions);
