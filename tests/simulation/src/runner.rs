//! A run from its seed to its end.

use std::collections::BTreeMap;
use std::fmt;

use tidegate::env::simulated::Simulated;
use tidegate_checker::{Anomaly, explain};

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
    /// What the checker finds in what the clients saw until then.
    pub anomalies: Vec<Anomaly>,
    /// The latest things that happened.
    pub tail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.message)?;
        if !self.anomalies.is_empty() {
            writeln!(f, "the clients' history: {}", explain(&self.anomalies))?;
        }
        write!(
            f,
            "{}replay: TIDEGATE_SIMULATION_SEED={} cargo test -p tidegate-simulation --test seeds -- --nocapture",
            self.tail, self.seed
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
                let anomalies = world.shadow.judge(false);
                return Err(violation(&world, options.seed, (message, anomalies)));
            }
        };
        world.disk.restart(crash);
        if crash.is_none() && !world.shadow.had_fault {
            world.flip_bits();
        }
        let has_lost = crash == Some(Crash::Power) || world.shadow.may_stop;
        if has_lost {
            world.shadow.lose_what_is_not_held();
        }
        world.shadow.recording.crash(has_lost);
    }
    let anomalies = world.shadow.judge(true);
    if !anomalies.is_empty() {
        let message = "the clients saw what no correct broker shows".to_owned();
        return Err(violation(&world, options.seed, (message, anomalies)));
    }
    let hash = world.disk.hash();
    world.trace.line(format!("disk {hash:016x}"));
    Ok(Report {
        hash: world.trace.hash(),
        lives: world.lives,
        counts: world.shadow.counts,
    })
}

fn violation(
    world: &World,
    seed: u64,
    (message, anomalies): (String, Vec<Anomaly>),
) -> Box<Violation> {
    Box::new(Violation {
        seed,
        message,
        anomalies,
        tail: world.trace.tail(),
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
