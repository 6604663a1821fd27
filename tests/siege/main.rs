//! `siege`: attacks a broker as one client can, and measures an honest client in a process of its own beside each attack.
//!
//! `cargo bench -p tidegate-tests --bench siege`, with names of attacks behind `--` to choose some. Each attack meets a new
//! broker, in a cgroup of 1 GB where this process may make one. Printed are the honest client's p99 alone and under the
//! attack, their ratio, the broker's largest resident memory, and what failed.

mod attacks;
mod cgroup;
mod honest;
mod wire;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use harness::Broker;

use self::attacks::{ATTACKS, Attack};
use self::cgroup::Cgroup;
use self::honest::Figures;

/// How long the honest client is measured alone, and at least under each attack.
const MEASURED: Duration = Duration::from_secs(5);
/// Between two looks at the broker's memory.
const LOOK: Duration = Duration::from_millis(20);

const CONFIG: &str = r#"
[broker]
data-dir = "{data}"

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"

[admin]
bind = "127.0.0.1:0"
"#;

fn main() -> ExitCode {
    // `cargo bench` puts a flag of its own among them.
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let words: Vec<String> = words.collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["honest", address, topic, seconds] => honest::main(address, topic, seconds),
        ["list"] => {
            ATTACKS
                .iter()
                .for_each(|attack| println!("{:<18} {}", attack.name, attack.what));
            Ok(true)
        }
        ref names => siege(names),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn siege(names: &[&str]) -> Result<bool> {
    for name in names {
        let known = ATTACKS.iter().any(|attack| attack.name == *name);
        anyhow::ensure!(known, "there is no attack {name}: `-- list` names them");
    }
    let chosen = ATTACKS
        .iter()
        .filter(|attack| names.is_empty() || names.contains(&attack.name));
    println!(
        "{:<18} {:>9} {:>9} {:>6} {:>8} {:>8}  notes",
        "attack", "alone", "attacked", "ratio", "at rest", "peak"
    );
    let mut held = true;
    for attack in chosen {
        match one(attack) {
            Ok(outcome) => {
                println!("{:<18} {outcome}", attack.name);
                held &= outcome.held();
            }
            Err(error) => {
                println!("{:<18} FAILED: {error:#}", attack.name);
                held = false;
            }
        }
    }
    Ok(held)
}

/// What an attack did.
struct Outcome {
    alone: Figures,
    attacked: Figures,
    rest_bytes: u64,
    peak_bytes: u64,
    survived: bool,
    note: String,
}

impl Outcome {
    /// The broker lives, and the honest client did not fail.
    fn held(&self) -> bool {
        self.survived && self.attacked.failures == 0
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let milliseconds = |us: Option<u64>| match us {
            Some(us) => format!("{:.1} ms", us as f64 / 1000.0),
            None => "none".to_owned(),
        };
        let ratio = match (self.attacked.p99_us, self.alone.p99_us) {
            (Some(attacked), Some(alone)) => format!("{:.2}", attacked as f64 / alone as f64),
            _ => "-".to_owned(),
        };
        write!(
            f,
            "{:>9} {:>9} {ratio:>6} {:>5} MB {:>5} MB  {}{} of {} failed, longest {}; {}",
            milliseconds(self.alone.p99_us),
            milliseconds(self.attacked.p99_us),
            self.rest_bytes >> 20,
            self.peak_bytes >> 20,
            if self.survived {
                ""
            } else {
                "THE BROKER DIED; "
            },
            self.attacked.failures,
            self.attacked.rounds + self.attacked.failures,
            milliseconds(self.attacked.longest_us),
            self.note,
        )
    }
}

fn one(attack: &Attack) -> Result<Outcome> {
    let cgroup = Cgroup::make();
    let through = cgroup.as_ref().map(Cgroup::enter).unwrap_or_default();
    let through: Vec<&str> = through.iter().map(String::as_str).collect();
    let mut broker = Broker::builder().through(&through);
    if attack.listens_plainly {
        broker = broker.config(CONFIG);
    }
    let mut broker = broker.start()?;
    let prepared = (attack.prepare)(&broker).context("preparing")?;
    let alone = honest::measure(broker.tcp(), "alone", MEASURED)?;
    let rest_bytes = broker.memory_rss().context("the broker has ended")?;
    let over = std::sync::atomic::AtomicBool::new(false);
    let (attacked, note, peak_bytes) = thread::scope(|scope| -> Result<_> {
        let watch = scope.spawn(|| {
            let mut peak = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                peak = peak.max(broker.memory_rss().unwrap_or_default());
                thread::sleep(LOOK);
            }
            peak
        });
        let fight = scope.spawn(|| (attack.run)(&broker, &prepared, Instant::now() + MEASURED));
        let attacked = honest::measure(broker.tcp(), "attacked", MEASURED);
        let note = fight
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        let peak = watch.join().unwrap_or_default();
        Ok((
            attacked?,
            note.unwrap_or_else(|error| format!("the attacker was stopped: {error:#}")),
            peak,
        ))
    })?;
    Ok(Outcome {
        alone,
        attacked,
        rest_bytes,
        peak_bytes,
        survived: broker.running(),
        note,
    })
}
