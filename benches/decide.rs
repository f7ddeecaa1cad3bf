//! Decisions: path reading, site, route, rules. `rules/N` has N global denies and 10 000 networks in sets, and nothing
//! matches until the last rule has been tried: the worst shape for a plain scan.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench may stop at the first surprise"
)]

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use portcullis::config::Context;
use portcullis::config::compile::rules;
use portcullis::config::node::{self, FileId};
use portcullis::policy::facts::{Scheme, TlsFacts, TlsVersion};
use portcullis::policy::{Credential, Decision, Facts, First, Identity, Person, Policy};
use portcullis::value::path::Target;
use portcullis::value::principal::Principal;
use portcullis::value::region::{GeoFacts, Region};

fn policy(rules: usize) -> Policy {
    let mut text = String::from("[role]\nadmin = [\"editor\"]\neditor = [\"viewer\"]\n[ip]\n");
    for set in 0..10 {
        let nets: Vec<String> = (0..1000u32)
            .map(|n| format!("\"{}.{}.{}.0/24\"", 20 + set, n / 250, n % 250))
            .collect();
        writeln!(text, "set{set} = [{}]", nets.join(", ")).unwrap();
    }
    for number in 0..rules {
        let condition = match number % 5 {
            0 => format!(
                "ip = \"@set{}\"\nunless = [{{ role = \"admin\" }}]",
                number % 10
            ),
            1 => "country = [\"KP\", \"SY\"]\nunless = [{ ip = \"@set1\" }]".to_owned(),
            2 => format!("path = \"/section{number}/**\"\nmethod = \"POST\""),
            3 => "role = \"banned\"".replace("banned", "viewer") + "\nip = \"@set3\"",
            _ => "asn = [64500, 64501]\ntls.version = \"1.2\"".to_owned(),
        };
        writeln!(text, "[[deny]]\nname = \"d{number}\"\n{condition}").unwrap();
    }
    text.push_str(
        "[[site]]\nhost = [\"app.example.com\", \"*.example.org\"]\nupstream = \"u\"\nidentity = [\"sso\"]\n\
         [[site.route]]\npath = \"/**\"\nallow = \"anyone\"\n\
         [[site.route]]\npath = \"/admin/**\"\nallow = [{ role = \"admin\" }]\n",
    );
    for number in 0..20 {
        writeln!(
            text,
            "[[site.route]]\npath = \"/api/v{number}/*/items/**\"\nallow = \"anyone\""
        )
        .unwrap();
    }
    let (root, _) = node::parse(&text, FileId(0));
    let mut cx = Context::default();
    let policy = rules::compile(&root, GeoFacts::ALL, &mut cx);
    assert!(!cx.report.refused(), "{:?}", cx.report.diagnostics);
    policy
}

fn decide(
    policy: &Policy,
    raw: &str,
    client: IpAddr,
    headers: &HeaderMap,
    person: Option<&Person>,
) -> Decision {
    let target = Target::read(raw).expect("a good path");
    let place = policy
        .locate("app.example.com", &target)
        .expect("a plain path");
    let lookup = |_: IpAddr| Region::default();
    let mut facts = Facts {
        peer: client,
        client,
        method: &Method::GET,
        scheme: Scheme::Https,
        host: "app.example.com",
        target: &target,
        headers,
        tls: Some(TlsFacts {
            version: TlsVersion::V1_3,
            client_cert: false,
        }),
        websocket: false,
        now: jiff::Timestamp::UNIX_EPOCH,
        identity: Identity::Open,
        lookup: &lookup,
        region: OnceCell::new(),
    };
    match policy.first(&facts, place) {
        First::Decided(decision) => decision,
        First::SignIn => {
            facts.identity = person.map_or(Identity::Anonymous, Identity::Known);
            policy.second(&facts, place, Credential::Absent)
        }
    }
}

fn benches(c: &mut Criterion) {
    let headers = HeaderMap::new();
    let client: IpAddr = [198, 51, 100, 7].into();
    for rules in [10, 20, 100, 1000] {
        let policy = policy(rules);
        c.bench_function(&format!("rules/{rules}"), |b| {
            b.iter(|| {
                decide(
                    &policy,
                    black_box("/api/v7/orders/items/1"),
                    client,
                    &headers,
                    None,
                )
            });
        });
    }
    let policy = policy(20);
    let admin = policy.person(Arc::new(Principal {
        user: "ada".into(),
        source: "sso".into(),
        roles: vec!["admin".into()],
        claims: serde_json::Map::new(),
        device: serde_json::Map::new(),
        expires: None,
    }));
    c.bench_function("signed-in", |b| {
        b.iter(|| {
            decide(
                &policy,
                black_box("/admin/users"),
                client,
                &headers,
                Some(&admin),
            )
        });
    });
    c.bench_function("both readings", |b| {
        b.iter(|| {
            decide(
                &policy,
                black_box("/api/v7/Orders/items/a%20b"),
                client,
                &headers,
                None,
            )
        });
    });
    c.bench_function("path", |b| {
        b.iter(|| Target::read(black_box("/api/v7/orders/items/1")).is_ok())
    });
}

criterion_group!(decisions, benches);
criterion_main!(decisions);
