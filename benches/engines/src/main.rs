//! Policy engines on equivalent rules: the same requests, the same answers, in one run on one thread.
//!
//! Each engine gets the rules in its own language (`ours`, `cedar`, `rego`, `scan`). Of the others only the evaluation is
//! timed, with their requests prepared beforehand; of ours everything from strings and an address to the decision. Every
//! request is asked several times, in turn with all others; its best time counts. Prints a Markdown table.

mod cedar;
mod model;
mod ours;
mod rego;
mod scan;

use std::hint::black_box;
use std::time::{Duration, Instant};

use model::{Model, Request};

/// An engine that has loaded the rules.
pub struct Ready {
    /// From text to ready.
    took: Duration,
    /// Whether a request passes, by number.
    decide: Box<dyn FnMut(usize) -> bool>,
}

/// Or why it has not.
pub type Loaded = Result<Ready, String>;

type Load = fn(&Model, &[Request]) -> Loaded;

const ENGINES: [(&str, Load); 6] = [
    ("Portcullis", ours::indexed),
    ("Portcullis without its indexes", ours::plain),
    ("linear scan of typed rules, as Envoy's RBAC", scan::load),
    ("regorus, its virtual machine", rego::machine),
    ("regorus, its interpreter", rego::interpreter),
    ("cedar-policy", cedar::load),
];

fn main() {
    // One engine, or all that have the words in their names.
    let wanted = std::env::args().nth(1).unwrap_or_default();
    println!("| engine | rules | p50 µs | worst µs | load ms |\n|---|---|---|---|---|");
    for count in [10, 1000, 10_000] {
        let model = Model::new(count);
        assert_eq!(model.rules.len(), count);
        let requests = model.requests(REQUESTS);
        let mut truth = match scan::load(&model, &requests) {
            Ok(scan) => scan.decide,
            Err(why) => panic!("{why}"),
        };
        let truth: Vec<bool> = (0..requests.len()).map(&mut truth).collect();
        let passed = truth.iter().filter(|passed| **passed).count();
        for (name, load) in ENGINES
            .into_iter()
            .filter(|(name, _)| name.contains(&wanted))
        {
            let ready = match load(&model, &requests) {
                Ok(ready) => ready,
                Err(why) => {
                    println!("| {name} | {count} | refused: {why} | | |");
                    continue;
                }
            };
            let mut took = ready.took;
            if took < Duration::from_secs(1) {
                let again = (0..4).filter_map(|_| load(&model, &requests[..1]).ok());
                took = again.map(|ready| ready.took).fold(took, Duration::min);
            }
            let times = times(ready, &truth, name);
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] * 1e6;
            println!(
                "| {name} | {count} | {:.2} | {:.2} | {:.1} |",
                at(0.5),
                at(1.0),
                took.as_secs_f64() * 1e3
            );
        }
        println!("<!-- of {REQUESTS} requests {passed} passed -->");
    }
}

/// The best time of each request, ascending; every answer is held against the truth.
fn times(mut ready: Ready, truth: &[bool], name: &str) -> Vec<f64> {
    let empty = (0..1000)
        .map(|_| Instant::now().elapsed())
        .min()
        .unwrap_or_default();
    let start = Instant::now();
    let mut best: Vec<Duration> = Vec::new();
    for (at, want) in truth.iter().enumerate() {
        let before = Instant::now();
        let said = black_box((ready.decide)(black_box(at)));
        best.push(before.elapsed());
        assert_eq!(said, *want, "{name}, request {at}");
        if best.len() >= REQUESTS_MIN && start.elapsed() > PATIENCE {
            break;
        }
    }
    for pass in 0.. {
        if pass >= PASSES || (pass >= PASSES_MIN && start.elapsed() > PATIENCE * 4) {
            break;
        }
        for (at, best) in best.iter_mut().enumerate() {
            let before = Instant::now();
            black_box((ready.decide)(black_box(at)));
            *best = (*best).min(before.elapsed());
        }
    }
    let mut times: Vec<f64> = best
        .iter()
        .map(|time| time.saturating_sub(empty).as_secs_f64())
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

const REQUESTS: usize = 2000;
/// A slow engine is asked at least so many of them,
const REQUESTS_MIN: usize = 200;
/// and no more once so much time has gone.
const PATIENCE: Duration = Duration::from_secs(8);
const PASSES: usize = 20;
const PASSES_MIN: usize = 2;
