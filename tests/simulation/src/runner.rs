//! A run from its seed to its end.

use std::collections::BTreeMap;
use std::fmt;

use tidegate::env::simulated::Simulated;

use crate::disk::Crash;
use crate::trace::Trace;
use crate::world::{End, World};

/// What a run is given.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub seed: u64,
    /// How many things happen.
    pub steps: u64,
    /// Every one of them is printed.
    pub prints: bool,
}

/// Steps of a run when nothing else is asked for.
pub const STEPS: u64 = 600;

impl Options {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            steps: STEPS,
            prints: false,
        }
    }
}

/// What a run that went well came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Stands for everything that happened.
    pub hash: u64,
    pub lives: u64,
    /// How often each thing happened.
    pub counts: BTreeMap<&'static str, u64>,
}

/// The broker did what it must not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    pub seed: u64,
    pub message: String,
    /// The latest things that happened.
    pub tail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {}\n{}replay: TIDEGATE_SIMULATION_SEED={} cargo test -p tidegate-simulation --test seeds -- --nocapture",
            self.seed, self.message, self.tail, self.seed
        )
    }
}

/// Names the seed when the broker panics.
struct Panicking(u64);

impl Drop for Panicking {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} panicked", self.0);
        }
    }
}

/// Runs one seed on this thread.
pub fn run(options: Options) -> Result<Report, Box<Violation>> {
    let _panicking = Panicking(options.seed);
    let _simulated = Simulated::begin(options.seed);
    let mut world = World::new(options.seed, options.steps, Trace::new(options.prints));
    loop {
        let outcome = one_life(&mut world);
        let crash = match outcome {
            Ok(End::Finished) => break,
            Ok(End::Stopped) => None,
            Ok(End::Crashed(crash)) => Some(crash),
            Err(message) => {
                return Err(Box::new(Violation {
                    seed: options.seed,
                    message,
                    tail: world.trace.tail(),
                }));
            }
        };
        world.disk.restart(crash);
        if crash.is_none() && !world.shadow.had_fault {
            world.flip_bits();
        }
        if crash == Some(Crash::Power) || world.shadow.may_stop {
            world.shadow.lose_what_is_not_held();
        }
    }
    let hash = world.disk.hash();
    world.trace.line(format!("disk {hash:016x}"));
    Ok(Report {
        hash: world.trace.hash(),
        lives: world.lives,
        counts: world.shadow.counts,
    })
}

/// Each life has a runtime of its own: what the broker left running ends with it.
fn one_life(world: &mut World) -> Result<End, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(world.live())
}
