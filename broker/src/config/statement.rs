//! What a configuration promises about acknowledged records, said as users compare brokers.

use super::{Config, Durability, units};

pub(super) fn durability(config: &Config) -> String {
    let delay = u64::try_from(config.log.flush_max_delay.as_millis()).unwrap_or(u64::MAX);
    let delay = units::duration(delay);
    let topic = &config.topic_defaults;
    let mut lines = vec!["acks=0: nothing is promised; no answer is sent.".to_owned()];
    match topic.durability {
        Durability::Fsync => lines.extend([
            format!(
                "acks=1: survives the end of the process (kill -9): answered when the records are in the page cache, synced within about {delay}. \
                 Loss of power can take what was not synced yet."
            ),
            "acks=all: survives loss of power: fdatasync comes before the answer. (Kafka's default answers from the page cache of its replicas.)".to_owned(),
            "Consumers see synced records only: what was read is never lost.".to_owned(),
        ]),
        Durability::Os => lines.extend([
            "acks=1 and acks=all: survive the end of the process (kill -9): answered when the records are in the page cache. \
             Loss of power can take the last of them; this is Kafka's default, with one replica."
                .to_owned(),
            format!("Consumers see records at append, before they are synced (within about {delay})."),
        ]),
    }
    lines.push(
        match (
            topic.cleanup_delete,
            topic.retention_ms,
            topic.retention_bytes,
        ) {
            (false, _, _) | (true, -1, -1) => "Records are kept for ever.".to_owned(),
            (true, time, -1) => format!(
                "Records are kept for {}, then removed.",
                shown_duration(time)
            ),
            (true, -1, bytes) => format!("A partition keeps its newest {}.", shown_size(bytes)),
            (true, time, bytes) => format!(
                "Records are kept for {}, and at most {} of them a partition, then removed.",
                shown_duration(time),
                shown_size(bytes)
            ),
        },
    );
    lines.push("There is one copy, on this machine's disk. A topic may set tidegate.durability and retention for itself.".to_owned());
    lines.join("\n")
}

fn shown_duration(milliseconds: i64) -> String {
    u64::try_from(milliseconds).map_or_else(|_| "ever".to_owned(), units::duration)
}

fn shown_size(bytes: i64) -> String {
    u64::try_from(bytes).map_or_else(|_| "every byte".to_owned(), units::size)
}
