//! Rounds of load, pauses and `kill -9` at a random moment, restart and reckoning.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Broker, Seed, say, setting};
use tidegate_checker::Crash;

use crate::load::{Load, short_patience};

/// The longest load before a kill, in ms; the moment is drawn evenly from 1 on. One round in so many is a long one.
const LONGEST_LOAD_MS: u64 = 150;
const LONG_EVERY: u64 = 4;
const LONGEST_LONG_LOAD_MS: u64 = 800;
/// Every so many rounds, at random, the broker is paused under its load.
const PAUSED_EVERY: u64 = 3;
const PAUSE_MS: (u64, u64) = (50, 300);
/// Every so many rounds of a long run the numbers so far are said.
const REPORT_EVERY: u64 = 100;

/// What the rounds came to.
#[derive(Debug, Default)]
struct Totals {
    recovered: u64,
    pauses: u64,
    slowest: Duration,
}

fn round(broker: &mut Broker, load: &mut Load, seed: &mut Seed, totals: &mut Totals) -> Result<()> {
    let address = broker.tcp();
    let pause = (seed.between(1, PAUSED_EVERY) == 1).then(|| seed.between(PAUSE_MS.0, PAUSE_MS.1));
    let patience = pause.and_then(|_| short_patience(seed));
    let longest = match seed.between(1, LONG_EVERY) {
        1 => LONGEST_LONG_LOAD_MS,
        _ => LONGEST_LOAD_MS,
    };
    let mut moment = || Duration::from_millis(seed.between(1, longest));
    let (before, after) = (moment(), moment());
    let clock = load.clock();
    let mut crashed = clock.now();
    // The moments are the test's subject: nothing is awaited here.
    let crash = |killing: &AtomicBool| {
        thread::sleep(before);
        if let Some(pause) = pause {
            broker.pause()?;
            thread::sleep(Duration::from_millis(pause));
            broker.resume()?;
            thread::sleep(after);
        }
        killing.store(true, Ordering::SeqCst);
        crashed = clock.now();
        broker.kill9();
        Ok(())
    };
    load.run(address, seed, patience, crash)?;
    let took = broker.restart()?;
    totals.slowest = totals.slowest.max(took);
    totals.pauses += u64::from(pause.is_some());
    load.settle_and_judge(broker, Crash::Process, crashed)?;
    let mut client = broker.connect();
    for lane in &mut load.lanes {
        let place = format!("{} [{}]", lane.topic, lane.partition);
        totals.recovered += lane.verify(&mut client).context(place)?;
    }
    Ok(())
}

#[test]
fn kill_nine_under_load_loses_nothing_acknowledged_and_duplicates_nothing_idempotent() {
    let rounds = setting("TIDEGATE_CRASH_ROUNDS", 10);
    let mut seed = Seed::from_env("crash rounds");
    let mut broker = Broker::start();
    let mut load = Load::start(&mut broker.connect()).unwrap_or_else(|error| panic!("{error:#}"));
    let mut totals = Totals::default();
    for number in 1..=rounds {
        round(&mut broker, &mut load, &mut seed, &mut totals).unwrap_or_else(|error| {
            let log = broker.log_tail();
            panic!("round {number}: {error:#}\nthe broker's log ends:\n{log}")
        });
        if number % REPORT_EVERY == 0 || number == rounds {
            report(number, &load, &totals);
        }
    }
    let mut client = broker.connect();
    for lane in &load.lanes {
        lane.verify_from_start(&mut client)
            .unwrap_or_else(|error| panic!("{} [{}]: {error:#}", lane.topic, lane.partition));
    }
    assert!(load.acknowledged() > 0, "no round acknowledged anything");
    load.tally().check();
}

fn report(rounds: u64, load: &Load, totals: &Totals) {
    let (acknowledged, tally) = (load.acknowledged(), load.tally());
    let Totals {
        recovered,
        pauses,
        slowest,
    } = totals;
    say(&format!(
        "crash rounds: {rounds} rounds, {pauses} of them paused, {acknowledged} records acknowledged, {recovered} recovered, \
        no anomaly, slowest recovery {slowest:?}; {tally}"
    ));
}
