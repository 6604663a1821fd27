//! Each deliberate bug of the broker is found. Runs with `--features defects` alone.
#![cfg(feature = "defects")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate::env::defects::{Defect, Planted};
use tidegate_checker::explain;
use tidegate_simulation::{Options, Violation, run};

/// Seeds that a bug may take.
const BOUND: u64 = 1000;

/// The first seed that finds the defect as wanted, and finds nothing without it, and what it says.
fn find(defect: Defect, is_wanted: fn(&Violation) -> bool) -> Option<(u64, Box<Violation>)> {
    (0..BOUND).find_map(|seed| {
        let planted = Planted::plant(defect);
        let violation = run(Options::new(seed)).err().filter(|it| is_wanted(it))?;
        drop(planted);
        let is_clean = run(Options::new(seed)).is_ok();
        is_clean.then_some((seed, violation))
    })
}

/// Whatever the shadow says, the clients' history alone convicts these.
#[test]
fn the_checker_finds_defects_by_itself() {
    let convicted = [
        Defect::AcknowledgeBeforeSync,
        Defect::SkipSequenceCheck,
        Defect::FetchTwice,
        Defect::ReadPastLastStable,
        Defect::ForgetAborted,
    ];
    for defect in convicted {
        let found = find(defect, |violation| !violation.anomalies.is_empty());
        let (seed, violation) = found.unwrap_or_else(|| panic!("{defect:?} is not found"));
        println!("{defect:?}: seed {seed}: {}", explain(&violation.anomalies));
    }
}

#[test]
fn every_defect_is_found() {
    let only = std::env::var("TIDEGATE_SIMULATION_DEFECT").ok();
    let wanted: Vec<Defect> = Defect::ALL
        .into_iter()
        .filter(|defect| {
            let name = format!("{defect:?}");
            only.as_ref()
                .is_none_or(|only| only.split(',').any(|only| only == name))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let missed: Mutex<Vec<Defect>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(defect) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match find(*defect, |_| true) {
                        Some((seed, found)) => {
                            println!("{defect:?}: seed {seed}: {}", found.message)
                        }
                        None => missed.lock().expect("lock").push(*defect),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("lock");
    assert!(
        missed.is_empty(),
        "not found within {BOUND} seeds: {missed:?}"
    );
}
