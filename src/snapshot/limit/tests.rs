#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use super::*;
use crate::policy::condition::Condition;
use crate::policy::limit::Mode;
use crate::value::source::Source;

fn limit(amount: Amount, per: &[Part]) -> Limit {
    Limit {
        scope: "".into(),
        name: "l".into(),
        source: Source {
            file: "".into(),
            line: 1,
        },
        condition: Condition::default(),
        per: per.into(),
        amount,
        mode: Mode::Enforced,
    }
}

fn quota(rate: &str, burst: Option<u64>) -> Quota {
    Quota::new(rate.parse().unwrap(), burst)
}

fn rates(quota: Quota) -> Count {
    Count::new(&limit(Amount::Rate(quota), &[Part::Client]))
}

fn passes(counted: &Counted) -> bool {
    matches!(counted, Counted::Passed { .. })
}

#[test]
fn a_rate_lets_a_burst_pass_and_then_one_at_a_time() {
    for (rate, burst, at_once, each, why) in [
        ("10/s", None, 10, 100, "the burst is the count"),
        ("10/s", Some(1), 1, 100, "evenly"),
        ("60/min", Some(5), 5, 1000, "a smaller burst"),
        ("1/min", Some(3), 3, 60_000, "a larger one"),
        ("3/s", None, 3, 334, "a period that does not divide"),
    ] {
        let quota = quota(rate, burst);
        let count = rates(quota);
        let start = Instant::now();
        for n in 1..=at_once {
            let Counted::Passed { left, .. } = count.spend(7, quota, start) else {
                panic!("{rate}: request {n} ({why})");
            };
            assert_eq!(left, at_once - n, "{rate}: left after {n}");
        }
        let Counted::Full(wait) = count.spend(7, quota, start) else {
            panic!("{rate}: one more than the burst");
        };
        let each = Duration::from_millis(each);
        assert!(wait <= each, "{rate}: {wait:?}");
        let early = start + wait.saturating_sub(Duration::from_millis(1));
        assert!(!passes(&count.spend(7, quota, early)), "{rate}: too early");
        assert!(
            passes(&count.spend(7, quota, start + wait)),
            "{rate}: as told"
        );
        assert!(
            !passes(&count.spend(7, quota, start + wait)),
            "{rate}: one only"
        );
        assert!(
            passes(&count.spend(8, quota, start)),
            "{rate}: somebody else"
        );
        let rested = start + wait + each * 200;
        for n in 0..at_once {
            assert!(
                passes(&count.spend(7, quota, rested)),
                "{rate}: rested, {n}"
            );
        }
        assert!(
            !passes(&count.spend(7, quota, rested)),
            "{rate}: no more than a burst"
        );
    }
}

#[test]
fn all_workers_together_get_what_one_would() {
    let quota = quota("1000/h", None);
    let count = rates(quota);
    let now = Instant::now();
    let passed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    if passes(&count.spend(7, quota, now)) {
                        passed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let passed = passed.into_inner();
    // One for each worker but one, where the first requests come at the same moment.
    assert!((1000..=1007).contains(&passed), "{passed}");
}

#[test]
fn a_full_table_forgets_who_will_be_free_soonest() {
    let quota = quota("10/h", None);
    let count = rates(quota);
    let now = Instant::now();
    let key = |n: u64| count.key(|hasher| std::hash::Hasher::write_u64(hasher, n));
    let most = u64::try_from(KEYS).unwrap();
    for n in 0..most / 2 {
        assert!(passes(&count.spend(key(n), quota, now)));
    }
    assert!(
        count.evicted() < most / 1000,
        "half full: {}",
        count.evicted()
    );
    for n in 0..most * 4 {
        assert!(passes(&count.spend(key(most + n), quota, now)));
    }
    assert!(count.evicted() > most * 3, "{}", count.evicted());
    let before = count.evicted();
    let later = now + Duration::from_secs(7200);
    for n in 0..most / 2 {
        assert!(passes(&count.spend(key(most * 8 + n), quota, later)));
    }
    assert!(
        count.evicted() - before < most / 100,
        "who owes nothing takes no room"
    );
}

#[test]
fn at_a_time_counts_until_the_end() {
    let count = Count::new(&limit(Amount::Concurrent(3), &[Part::Client]));
    let hold = |key| match count.hold(key, 3) {
        Counted::Passed { held, .. } => held,
        Counted::Full(_) => None,
    };
    let mut held: Vec<_> = (0..3).map(|_| hold(1 << 40).expect("room")).collect();
    assert!(hold(1 << 40).is_none(), "a fourth");
    assert!(hold(1 << 41).is_some(), "somebody else");
    held.pop();
    held.push(hold(1 << 40).expect("one has ended"));
    assert!(hold(1 << 40).is_none());
    drop(held);
    let again: Vec<_> = (0..3).map(|_| hold(1 << 40).expect("room")).collect();
    assert!(hold(1 << 40).is_none());
    drop(again);
}

#[test]
fn at_a_time_never_lets_more_in_than_said() {
    let count = Count::new(&limit(Amount::Concurrent(5), &[]));
    let (running, most) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    if let Counted::Passed { held, .. } = count.hold(99, 5) {
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        running.fetch_sub(1, Ordering::SeqCst);
                        drop(held);
                    }
                }
            });
        }
    });
    assert!(most.into_inner() <= 5);
}

#[test]
fn what_was_counted_outlives_a_reload_that_leaves_the_limit_as_it_is() {
    let one = limit(Amount::Rate(quota("10/s", None)), &[Part::Client]);
    let slower = limit(Amount::Rate(quota("5/s", None)), &[Part::Client]);
    let mut counts = Counts::default();
    let elsewhere = Limit {
        scope: "app".into(),
        ..one.clone()
    };
    let first = counts.of(&[one, elsewhere.clone()]);
    assert!(!Arc::ptr_eq(&first[0], &first[1]), "another scope");
    let second = counts.of(&[elsewhere, slower]);
    assert!(Arc::ptr_eq(&first[1], &second[0]), "the same settings");
    assert!(!Arc::ptr_eq(&first[0], &second[1]), "another rate");
    drop(first);
    drop(second);
    counts.of(&[]);
    assert!(counts.0.is_empty(), "nothing is kept for ever");
}
