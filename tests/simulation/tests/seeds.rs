//! Runs the simulator over many seeds, or one of them again with everything that happens.
//!
//! - `TIDEGATE_SIMULATION_SEEDS=10000`: so many seeds instead of the few of every run.
//! - `TIDEGATE_SIMULATION_FROM=5000`: beginning with this one.
//! - `TIDEGATE_SIMULATION_SEED=7`: this one alone, line by line (with `-- --nocapture`).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_simulation::{Options, Violation, run};

/// Seeds of an ordinary run: under a minute in a debug build.
const SEEDS: u64 = 300;
/// Failing seeds that are reported at most.
const REPORTED: usize = 10;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_seed_finds_a_violation() {
    if let Some(seed) = number("TIDEGATE_SIMULATION_SEED") {
        let options = Options {
            prints: true,
            ..Options::new(seed)
        };
        match run(options) {
            Ok(report) => println!("{report:?}"),
            Err(violation) => panic!("{violation}"),
        }
        return;
    }
    let from = number("TIDEGATE_SIMULATION_FROM").unwrap_or(0);
    let count = number("TIDEGATE_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(from);
    let violations: Mutex<Vec<Box<Violation>>> = Mutex::default();
    let totals: Mutex<BTreeMap<&'static str, u64>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count || violations.lock().expect("lock").len() >= REPORTED {
                        return;
                    }
                    match run(Options::new(seed)) {
                        Ok(report) => {
                            let mut totals = totals.lock().expect("lock");
                            *totals.entry("lives").or_default() += report.lives;
                            for (what, times) in report.counts {
                                *totals.entry(what).or_default() += times;
                            }
                        }
                        Err(violation) => violations.lock().expect("lock").push(violation),
                    }
                }
            });
        }
    });
    println!(
        "{count} seeds from {from}: {:?}",
        totals.lock().expect("lock")
    );
    let violations = violations.into_inner().expect("lock");
    let told: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{}", told.join("\n\n"));
}
