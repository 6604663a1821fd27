//! CreateTopics: a topic that was answered is there until it is deleted, whatever ends the broker.

use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};

use super::Surroundings;
use crate::network::Request;
use crate::random::Random;
use crate::shadow::{DAMAGED_RECORDS, Kind, Presence, Topic, code};
use crate::wire;

const VERSION: i16 = 7;
const NAMES: u64 = 3;
const MAX_PARTITIONS: u64 = 3;

const RETENTION_OF_TOMBSTONES: &str = "delete.retention.ms";

/// What the topic is like, and the settings that make it so.
fn kind(around: &mut Surroundings<'_>) -> (Kind, Vec<(&'static str, &'static str)>) {
    let random = &mut *around.random;
    let pick = |random: &mut Random, values: &[&'static str]| {
        random.pick(values).copied().unwrap_or_default()
    };
    match random.below(10) {
        0..=2 => {
            let tombstones = pick(random, &["1000", "60000", "86400000"]);
            let mut configs = vec![
                ("cleanup.policy", "compact"),
                ("min.cleanable.dirty.ratio", "0.01"),
                (RETENTION_OF_TOMBSTONES, tombstones),
            ];
            if random.percent(70) {
                configs.push(("max.compaction.lag.ms", pick(random, &["20", "1000"])));
            }
            (Kind::Compacted, configs)
        }
        3..=4 => {
            let choice = pick(random, &["skip", "stop"]);
            (Kind::Frail, vec![(DAMAGED_RECORDS, choice)])
        }
        _ => (Kind::Ordinary, Vec::new()),
    }
}

pub fn issue(around: &mut Surroundings<'_>) -> Option<Request> {
    let name = format!("topic-{}", around.random.below(NAMES));
    if around.shadow.topics.contains_key(&name) {
        return None;
    }
    let partitions = around.random.between(1, MAX_PARTITIONS);
    let incarnation = around.shadow.incarnation();
    let mut topic = Topic::new(incarnation, usize::try_from(partitions).unwrap_or(1));
    let mut configs = Vec::new();
    if around.random.percent(15) {
        configs.push(("tidegate.durability", "os"));
    }
    let (kind, more) = kind(around);
    configs.extend(more);
    topic.kind = kind;
    for (name, value) in &configs {
        topic.ask(name, value);
        topic.settle(name, value);
        if *name == RETENTION_OF_TOMBSTONES {
            topic.compact(value.parse().unwrap_or(0));
        }
    }
    around.shadow.topics.insert(name.clone(), topic);
    let configs = configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(wire::text(name))
            .with_value(Some(wire::text(value)))
    });
    let wanted = CreatableTopic::default()
        .with_name(wire::topic_name(&name))
        .with_num_partitions(i32::try_from(partitions).unwrap_or(1))
        .with_replication_factor(1)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default()
        .with_topics(vec![wanted])
        .with_timeout_ms(10_000);
    let line = around.line();
    let label = format!("create {name} with {partitions} partitions: {kind:?}");
    Some(
        around.request(line, label, (VERSION, &request), move |shadow, answer| {
            let Some(answer) = answer else { return Ok(()) };
            let error = answer.topics.first().map_or(-1, |topic| topic.error_code);
            let Some(topic) = shadow.topics.get_mut(&name) else {
                return Ok(());
            };
            match error {
                code::NONE => topic.presence = Presence::Present,
                // It may have got half-way.
                code::KAFKA_STORAGE_ERROR | code::UNKNOWN_SERVER_ERROR if shadow.had_fault => {}
                error => return Err(format!("refused with error {error}")),
            }
            Ok(())
        }),
    )
}
