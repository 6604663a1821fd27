use std::collections::BTreeMap;

use super::*;
use crate::compare::cases::{self, Client};
use crate::compare::results::{Block, Machine, Run};
use crate::compare::yardstick::Yardstick;
use crate::report::Measured;

fn block(round: u32, case: &str, runs: &[(Name, f64)]) -> Block {
    let run = |(server, figure): &(Name, f64)| Run {
        server: *server,
        measured: Some(Measured {
            megabytes_per_second: Some(*figure),
            cpu_per_gigabyte: Some(*figure / 1000.0),
            ..Measured::default()
        }),
        failure: None,
    };
    Block {
        round,
        case: case.into(),
        client: Client::Lean,
        yardstick: Yardstick {
            tcp_megabytes: 1.0,
            crc_megabytes: 1.0,
            syncs: 1.0,
            load: 0.0,
            steal: 0.0,
        },
        runs: runs.iter().map(run).collect(),
    }
}

fn results(blocks: Vec<Block>) -> Results {
    Results {
        machine: Machine {
            processor: String::new(),
            cores: 2,
            memory_bytes: 0,
            kernel: String::new(),
            disk: String::new(),
        },
        command: String::new(),
        rounds: 5,
        versions: BTreeMap::new(),
        missing: BTreeMap::from([(Name::Krabka, "no krabka".to_owned())]),
        cases: Vec::new(),
        blocks,
        every_round: false,
    }
}

fn goal(number: u32, nth: usize) -> Goal {
    let mut goals = all().into_iter().filter(|goal| goal.number == number);
    goals.nth(nth).unwrap()
}

#[test]
fn every_goal_names_a_case_that_exists() {
    let known = cases::all();
    let exists = |name: &str| known.iter().any(|case| case.name == name);
    for goal in all() {
        assert!(exists(goal.case), "{}", goal.case);
        assert!(!goal.title.is_empty());
        if let Ours(case) | Above(case) = goal.against {
            assert!(exists(case), "{case}");
        }
    }
}

#[test]
fn a_goal_is_judged_by_pairs_of_a_round() {
    let rounds = [(1, 850.0), (2, 900.0), (3, 790.0), (4, 820.0), (5, 810.0)];
    let blocks = rounds
        .map(|(round, ours)| block(round, W1K, &[(Name::Tidegate, ours), (Name::Floor, 1000.0)]));
    let verdict = goal(1, 0).judge(&results(blocks.to_vec()), Client::Lean);
    assert_eq!(
        verdict,
        Verdict::Measured {
            median: 0.82,
            agreeing: 4,
            pairs: 5,
            passes: true
        }
    );
}

#[test]
fn the_best_peer_is_the_best_of_each_round() {
    let runs = |kafka, nats| {
        [
            (Name::Tidegate, 300.0),
            (Name::Kafka, kafka),
            (Name::Nats, nats),
        ]
    };
    let blocks = vec![
        block(1, W100, &runs(100.0, 200.0)),
        block(2, W100, &runs(300.0, 50.0)),
    ];
    let verdict = goal(2, 1).judge(&results(blocks), Client::Lean);
    let Verdict::Measured {
        median,
        agreeing,
        passes,
        ..
    } = verdict
    else {
        panic!("{verdict:?}");
    };
    assert!((median - 1.25).abs() < 1e-9);
    assert_eq!((agreeing, passes), (1, false));
}

#[test]
fn a_round_on_a_busy_machine_does_not_count() {
    let mut blocks: Vec<Block> = (1..=4)
        .map(|round| block(round, W1K, &[(Name::Tidegate, 90.0), (Name::Floor, 100.0)]))
        .collect();
    blocks[3].yardstick.syncs = 0.5;
    let verdict = goal(1, 0).judge(&results(blocks), Client::Lean);
    assert!(matches!(verdict, Verdict::Measured { pairs: 3, .. }));
}

#[test]
fn what_is_missing_is_said() {
    let mut runs = block(1, W1K, &[(Name::Tidegate, 90.0)]);
    runs.runs.push(Run {
        server: Name::Floor,
        measured: None,
        failure: Some("overloaded: 10 of 20\nmore".into()),
    });
    let results = results(vec![runs]);
    let why = |goal: Goal, client| match goal.judge(&results, client) {
        Verdict::NotMeasured(why) => why,
        measured => panic!("{measured:?}"),
    };
    assert_eq!(why(goal(1, 0), Client::Lean), "floor: overloaded: 10 of 20");
    assert_eq!(why(goal(1, 1), Client::Lean), "Krabka was not there");
    assert!(why(goal(1, 0), Client::Java).contains("was not run"));
    assert!(why(goal(21, 0), Client::Lean).contains("was not run"));
}

#[test]
fn encryption_is_judged_by_what_it_adds() {
    let blocks = vec![
        block(1, W1K, &[(Name::Tidegate, 500.0)]),
        block(1, W1K_TLS, &[(Name::Tidegate, 900.0)]),
    ];
    let verdict = goal(14, 0).judge(&results(blocks), Client::Lean);
    let Verdict::Measured { median, passes, .. } = verdict else {
        panic!("{verdict:?}");
    };
    assert!((median - 0.4).abs() < 1e-9 && passes);
}
