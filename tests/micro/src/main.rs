//! `micro`: counts the instructions of each case under callgrind and compares them with what is committed.

mod baseline;
mod callgrind;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use micro::{CASES, Case, Entry, find};

use self::baseline::{Baseline, Judgement};

/// Counts instructions of the broker's inner operations.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Counts and compares with the baseline; fails when a count has grown by more than 5 %.
    Check {
        /// The committed counts.
        #[arg(long, default_value = "tests/micro/baseline.toml")]
        baseline: PathBuf,
        /// Write what was counted as the new baseline, in place of comparing.
        #[arg(long, conflicts_with = "names")]
        write: bool,
        /// These cases alone.
        names: Vec<String>,
    },
    /// Prints the cases.
    List,
    /// Does one case, for callgrind to count.
    #[command(hide = true)]
    Run { name: String },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Check {
            baseline,
            write,
            names,
        } => check(&baseline, write, &names),
        Command::List => {
            for entry in CASES {
                println!("{:<20} {}", entry.name, entry.what);
            }
            Ok(true)
        }
        Command::Run { name } => run(&name).map(|()| true),
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

fn entry(name: &str) -> Result<&'static Entry> {
    find(name).with_context(|| format!("there is no case {name} (`micro list` names them)"))
}

/// Warms up, then does what is counted.
fn run(name: &str) -> Result<()> {
    let entry = entry(name)?;
    let mut case = (entry.make)()?;
    case.prepare(entry.operations);
    (0..entry.operations).for_each(|_| case.run());
    case.prepare(entry.operations);
    counted_by_callgrind(case.as_mut(), entry.operations);
    Ok(())
}

/// Callgrind counts from the call of this function to its return: it knows it by name.
#[inline(never)]
fn counted_by_callgrind(case: &mut dyn Case, operations: usize) {
    for _ in 0..black_box(operations) {
        case.run();
    }
}

/// Whether nothing has grown too much.
fn check(path: &Path, write: bool, names: &[String]) -> Result<bool> {
    micro::bed::build_plugins()?;
    let mut wanted = Vec::new();
    for name in names {
        wanted.push(entry(name)?);
    }
    if write {
        wanted.extend(names.is_empty().then_some(CASES).into_iter().flatten());
        callgrind::count(&wanted)?.save(path)?;
        println!("{} counts are written to {}", wanted.len(), path.display());
        return Ok(true);
    }
    let committed = Baseline::load(path)?;
    if names.is_empty() {
        let has_count = |entry: &&Entry| committed.counts.contains_key(entry.name);
        let (guarded, others): (Vec<_>, Vec<_>) = CASES.iter().partition(has_count);
        for entry in others {
            println!(
                "{} is not guarded: the baseline has no count of it",
                entry.name
            );
        }
        wanted = guarded;
    }
    let counted = callgrind::count(&wanted)?;
    let judged = committed.judge(&counted);
    print!("{judged}");
    if judged.tools_differ() {
        return Ok(true);
    }
    if judged.any(Judgement::Missing) {
        bail!(
            "{} has no count of a case above: `tests/micro/run --write` counts anew",
            path.display()
        );
    }
    Ok(!judged.any(Judgement::Grown))
}
