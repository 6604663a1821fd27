//! Rounds of load, `kill -9` at a random moment, restart and reckoning.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use harness::{Broker, Seed, say, setting};

use crate::lane::Lane;

/// The longest load before a kill, in ms; the moment is drawn evenly from 1 on.
const LONGEST_LOAD_MS: u64 = 400;

fn lanes() -> Vec<Lane> {
    (0..2)
        .flat_map(|partition| {
            [
                Lane::new("acks-one", partition, 1, false),
                Lane::new("acks-all", partition, -1, false),
                Lane::new("idempotent", partition, -1, true),
            ]
        })
        .collect()
}

/// Lets every lane produce, and kills the broker under them.
fn load_and_kill(broker: &mut Broker, lanes: &mut [Lane], seed: &mut Seed) {
    let killing = AtomicBool::new(false);
    let address = broker.tcp();
    let moment = Duration::from_millis(seed.between(1, LONGEST_LOAD_MS));
    thread::scope(|scope| {
        let producers: Vec<_> = lanes
            .iter_mut()
            .map(|lane| {
                let (seed, killing) = (seed.fork(), &killing);
                scope.spawn(move || lane.produce_until_killed(address, seed, killing))
            })
            .collect();
        // The moment is the test's subject: nothing is awaited here.
        thread::sleep(moment);
        killing.store(true, Ordering::SeqCst);
        broker.kill9();
        for producer in producers {
            let outcome = producer
                .join()
                .expect("a producer reports instead of panicking");
            outcome.unwrap_or_else(|error| panic!("{error:#}\n{}", broker.log_tail()));
        }
    });
}

fn verify(broker: &Broker, lanes: &mut [Lane], round: u64) -> u64 {
    let mut client = broker.connect();
    let verified = lanes.iter_mut().map(|lane| {
        let (topic, partition) = (lane.topic, lane.partition);
        lane.verify(&mut client).unwrap_or_else(|error| {
            let log = broker.log_tail();
            panic!("round {round}, {topic} [{partition}]: {error:#}\nthe broker's log ends:\n{log}")
        })
    });
    verified.sum()
}

#[test]
fn kill_nine_under_load_loses_nothing_acknowledged_and_duplicates_nothing_idempotent() {
    let rounds = setting("TIDEGATE_CRASH_ROUNDS", 10);
    let mut seed = Seed::from_env("crash rounds");
    let mut broker = Broker::start();
    let mut client = broker.connect();
    for topic in ["acks-one", "acks-all", "idempotent"] {
        client
            .create_topic(topic, 2, &[])
            .unwrap_or_else(|error| panic!("{error:#}"));
    }
    let mut lanes = lanes();
    for lane in &mut lanes {
        lane.introduce(&mut client)
            .unwrap_or_else(|error| panic!("{error:#}"));
    }
    let mut slowest = Duration::ZERO;
    let mut recovered = 0;
    for round in 1..=rounds {
        load_and_kill(&mut broker, &mut lanes, &mut seed);
        let took = broker
            .restart()
            .unwrap_or_else(|error| panic!("round {round}: {error:#}"));
        slowest = slowest.max(took);
        recovered += verify(&broker, &mut lanes, round);
    }
    for lane in &mut lanes {
        lane.settle(broker.tcp())
            .unwrap_or_else(|error| panic!("{error:#}\n{}", broker.log_tail()));
    }
    recovered += verify(&broker, &mut lanes, rounds + 1);
    let mut client = broker.connect();
    for lane in &mut lanes {
        lane.verify_from_start(&mut client)
            .unwrap_or_else(|error| panic!("{} [{}]: {error:#}", lane.topic, lane.partition));
    }
    let acknowledged: u64 = lanes.iter().map(|lane| lane.acknowledged_records).sum();
    assert!(acknowledged > 0, "no round acknowledged anything");
    say(&format!(
        "crash rounds: {rounds} rounds, {acknowledged} records acknowledged, {recovered} recovered, slowest recovery {slowest:?}"
    ));
}
