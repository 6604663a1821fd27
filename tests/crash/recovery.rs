//! How long a broker with a large log of many partitions takes to answer after `kill -9`: as long as it takes to check what
//! came since the checkpoints, which a setting bounds, however long the log is.

use std::time::{Duration, Instant};

use harness::{Broker, batch, say, setting};

const RECORDS_A_BATCH: usize = 900;
const RECORD_BYTES: usize = 1000;
/// Batches sent ahead of their answers.
const WINDOW: usize = 8;

#[test]
fn a_large_log_answers_soon_after_kill_nine() {
    let bytes = setting("TIDEGATE_RECOVERY_LOG_BYTES", 128 << 20);
    let limit = Duration::from_millis(setting("TIDEGATE_RECOVERY_LIMIT_MS", 2000));
    let partitions = setting("TIDEGATE_RECOVERY_PARTITIONS", 100) as i32;
    let mut broker = Broker::start();
    let batches = fill(&broker, partitions, bytes);

    broker.kill9();
    let started = Instant::now();
    broker.restart().unwrap_or_else(|error| panic!("{error:#}"));
    let mut client = broker.connect();
    let end = client.list_offset("large", 0, -1);
    let took = started.elapsed();

    let mut records = end.unwrap_or_else(|error| panic!("{error:#}"));
    for partition in 1..partitions {
        records += client
            .list_offset("large", partition, -1)
            .unwrap_or_else(|error| panic!("{error:#}"));
    }
    say(&format!(
        "recovery: {} MiB of log in {partitions} partitions, {took:?} from the start of the process to its first answer",
        bytes >> 20
    ));
    assert_eq!(
        records as usize,
        batches * RECORDS_A_BATCH,
        "records after the restart"
    );
    assert!(
        took < limit,
        "recovery took {took:?}, the limit is {limit:?}"
    );
}

/// Writes `bytes` with `acks=1`, spread over the partitions, and returns how many batches they are.
fn fill(broker: &Broker, partitions: i32, bytes: u64) -> usize {
    let mut client = broker.connect();
    client
        .create_topic("large", partitions, &[])
        .unwrap_or_else(|error| panic!("{error:#}"));
    let values = vec![[7; RECORD_BYTES]; RECORDS_A_BATCH];
    let batch = batch::of_values(&values);
    let batches = (bytes as usize).div_ceil(batch.len());
    let mut answered = 0;
    for sent in 0..batches + WINDOW {
        if sent < batches {
            client
                .send_produce("large", sent as i32 % partitions, 1, batch.clone())
                .unwrap_or_else(|error| panic!("{error:#}"));
        }
        if sent >= WINDOW && answered < batches {
            let (_, answer) = client
                .receive_produce()
                .unwrap_or_else(|error| panic!("{error:#}"));
            assert_eq!(answer.error_code, 0, "batch {answered}");
            answered += 1;
        }
    }
    batches
}
