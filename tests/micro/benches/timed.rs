//! The cases, timed: `cargo bench -p tidegate-micro`, or with a name behind it. Times are for comparing two versions on
//! one quiet machine; what guards the broker is the count of instructions.

use std::time::{Duration, Instant};

use criterion::Criterion;

fn main() {
    micro::bed::build_plugins().unwrap_or_else(|error| panic!("{error:#}"));
    let mut criterion = Criterion::default().configure_from_args();
    for entry in micro::CASES {
        let mut case = None;
        criterion.bench_function(entry.name, |bencher| {
            // Made when it is asked for: a filter leaves most of them out.
            let case = case.get_or_insert_with(|| {
                let made = (entry.make)();
                made.unwrap_or_else(|error| panic!("{}: {error:#}", entry.name))
            });
            bencher.iter_custom(|iterations| {
                let mut elapsed = Duration::ZERO;
                let mut rest = usize::try_from(iterations).unwrap_or(usize::MAX);
                while rest > 0 {
                    let count = rest.min(entry.operations);
                    case.prepare(count);
                    let begin = Instant::now();
                    (0..count).for_each(|_| case.run());
                    elapsed += begin.elapsed();
                    rest -= count;
                }
                elapsed
            });
        });
    }
    criterion.final_summary();
}
