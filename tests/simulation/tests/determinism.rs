//! The simulator itself: a seed means one run.

use tidegate_simulation::{Options, run};

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in 1000..1010 {
        let first = run(Options::new(seed));
        let second = run(Options::new(seed));
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn seeds_differ() {
    let hash = |seed| run(Options::new(seed)).map(|report| report.hash);
    assert_ne!(hash(1000), hash(1001));
}
