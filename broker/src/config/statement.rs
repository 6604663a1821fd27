//! What a configuration promises about acknowledged records, said as users compare brokers.

use super::{Config, Durability, units};

/// What became of a record that was acknowledged: one line for each way to ask.
struct Row {
    acks: &'static str,
    answered: &'static str,
    process_ends: &'static str,
    power_is_lost: String,
    disk_is_full: &'static str,
    bits_rot: &'static str,
}

impl Row {
    fn line(&self) -> String {
        format!(
            "{:<13}{:<26}{:<20}{:<31}{:<24}{}",
            self.acks,
            self.answered,
            self.process_ends,
            self.power_is_lost,
            self.disk_is_full,
            self.bits_rot
        )
    }
}

fn rows(durability: Durability, delay: &str) -> [Row; 4] {
    const KEPT: &str = "refused; acked kept";
    const FOUND: &str = "found, never served";
    let synced_later = format!("what was synced (about {delay})");
    let all = match durability {
        Durability::Fsync => ("fdatasync has returned", "yes".to_owned()),
        Durability::Os => ("written to the page cache", synced_later.clone()),
    };
    [
        Row {
            acks: "asked for",
            answered: "answered when",
            process_ends: "process killed",
            power_is_lost: "power lost".to_owned(),
            disk_is_full: "disk full",
            bits_rot: "bit rot",
        },
        Row {
            acks: "acks=0",
            answered: "never",
            process_ends: "not promised",
            power_is_lost: "not promised".to_owned(),
            disk_is_full: "lost without a word",
            bits_rot: FOUND,
        },
        Row {
            acks: "acks=1",
            answered: "written to the page cache",
            process_ends: "yes",
            power_is_lost: synced_later,
            disk_is_full: KEPT,
            bits_rot: FOUND,
        },
        Row {
            acks: "acks=all",
            answered: all.0,
            process_ends: "yes",
            power_is_lost: all.1,
            disk_is_full: KEPT,
            bits_rot: FOUND,
        },
    ]
}

pub(super) fn durability(config: &Config) -> String {
    let topic = &config.topic_defaults;
    let delay = match topic.durability {
        Durability::Fsync => config.log.flush_max_delay,
        Durability::Os => config.log.os_flush_delay,
    };
    let delay = units::duration(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
    let mut lines = vec![format!(
        "With tidegate.durability={}, the default here, a record that was acknowledged survives:\n",
        topic.durability.config_name()
    )];
    lines.extend(rows(topic.durability, &delay).iter().map(Row::line));
    lines.push(match topic.durability {
        Durability::Fsync => "\nConsumers see synced records only: what was read is never lost. (Kafka's default answers acks=all from the \
             page cache of its replicas.)"
            .to_owned(),
        Durability::Os => format!(
            "\nConsumers see records at append, before they are synced (within about {delay}). This is Kafka's default, with one \
             replica."
        ),
    });
    lines.push(
        "Damage is found by checksum when it is read or by `tidegate log verify`, and is never served; there is no second copy to mend it from."
            .to_owned(),
    );
    lines.push(
        match (
            topic.cleanup_delete,
            topic.retention_ms,
            topic.retention_bytes,
        ) {
            (false, _, _) if !topic.cleanup_compact => "Records are kept for ever.".to_owned(),
            (false, _, _) => {
                "Of each key the latest record is kept for ever (compaction).".to_owned()
            }
            (true, -1, -1) => "Records are kept for ever.".to_owned(),
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
    lines.push("A topic may set tidegate.durability and retention for itself.".to_owned());
    lines.join("\n")
}

fn shown_duration(milliseconds: i64) -> String {
    u64::try_from(milliseconds).map_or_else(|_| "ever".to_owned(), units::duration)
}

fn shown_size(bytes: i64) -> String {
    u64::try_from(bytes).map_or_else(|_| "every byte".to_owned(), units::size)
}
