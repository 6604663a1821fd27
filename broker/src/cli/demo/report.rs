//! The report at the end of the demo.

use super::play::Outcome;
use super::{INTRUDER, PLAYER, PLAYGROUND, Stage, TOPIC};
use crate::config::Transport;

/// Columns of a bar at full length.
const BAR: usize = 32;

pub fn print(stage: &Stage, outcome: &Outcome) {
    let rate =
        |count: usize, elapsed: std::time::Duration| count as f64 / elapsed.as_secs_f64().max(1e-9);
    println!();
    println!(
        "  {} records in over QUIC in {:.2?} — {:.0} records/s, each batch on disk before its answer",
        outcome.sent,
        outcome.producing,
        rate(outcome.sent, outcome.producing)
    );
    println!(
        "  {} records out to a group of two in {:.2?} — {:.0} records/s",
        outcome.read(),
        outcome.consuming,
        rate(outcome.read(), outcome.consuming)
    );
    println!();
    println!("  Where the partitioner `by-state` put them");
    let most = outcome
        .partitions
        .iter()
        .map(|partition| partition.records)
        .max()
        .unwrap_or(1)
        .max(1);
    for (index, partition) in outcome.partitions.iter().enumerate() {
        let bar = "█".repeat((partition.records * BAR).div_ceil(most));
        let states: Vec<&str> = partition
            .states
            .iter()
            .take(3)
            .map(String::as_str)
            .collect();
        println!(
            "   {index}  {bar:<BAR$} {:>5}  {} states: {} …",
            partition.records,
            partition.states.len(),
            states.join(", ")
        );
    }
    println!(
        "     no state is in two partitions; reader 1 had {:?}, reader 2 {:?}",
        outcome.readers[0], outcome.readers[1]
    );
    println!();
    println!("  What the transform `mask-operator` did");
    println!(
        "     masked  {} values of operator and cost_total; none got through",
        outcome.masked
    );
    println!(
        "     dropped {} records of an unknown bird or bat, before they reached the log",
        outcome.dropped()
    );
    println!("     sent    {}", shorten(&outcome.sample_sent));
    println!("     stored  {}", shorten(&outcome.sample_stored));
    println!();
    println!("  Whom the authorizer `roles` turned away");
    println!("     User:{INTRUDER}: {}", outcome.refusal);
    println!();
    addresses(stage);
}

fn shorten(text: &str) -> String {
    const MOST: usize = 150;
    if text.chars().count() <= MOST {
        text.to_owned()
    } else {
        format!("{}…", text.chars().take(MOST).collect::<String>())
    }
}

fn addresses(stage: &Stage) {
    let address = |wanted: Transport| {
        let addresses = stage.broker.addresses();
        addresses
            .iter()
            .find(|(_, transport, _)| *transport == wanted)
            .map_or_else(String::new, |(_, _, a)| a.to_string())
    };
    let (tcp, tls, quic) = (
        address(Transport::Tcp),
        address(Transport::Tls),
        address(Transport::Quic),
    );
    let authority = stage.certificate_authority.display();
    println!("  Try next");
    println!("     kcat -b {tcp} -t {TOPIC} -C -e -q | head -3");
    println!("     echo hello | kcat -b {tcp} -t {PLAYGROUND} -P");
    if let Some(admin) = stage.broker.admin_address() {
        println!("     curl -s http://{admin}/metrics | grep plugin");
    }
    println!("     python3 - <<'END'   # pip install confluent-kafka");
    println!("from confluent_kafka import Consumer");
    println!(
        "consumer = Consumer({{'bootstrap.servers': '{tls}', 'group.id': 'mine', 'auto.offset.reset': 'earliest',"
    );
    println!(
        "    'security.protocol': 'SASL_SSL', 'ssl.ca.location': '{authority}', 'sasl.mechanism': 'SCRAM-SHA-256',"
    );
    println!(
        "    'sasl.username': '{PLAYER}', 'sasl.password': '{}'}})",
        stage.password
    );
    println!("consumer.subscribe(['{TOPIC}'])");
    println!("print(consumer.poll(10).value())");
    println!("END");
    println!(
        "     QUIC listens on {quic}; TCP asks for no name and may read everything and write to `{PLAYGROUND}`."
    );
    println!();
}
