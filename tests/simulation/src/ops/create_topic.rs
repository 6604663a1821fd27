//! CreateTopics: a topic that was answered is there until it is deleted, whatever ends the broker.

use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};

use super::Surroundings;
use crate::network::Request;
use crate::shadow::{Presence, Topic, code};
use crate::wire;

const VERSION: i16 = 7;
const NAMES: u64 = 3;
const MAX_PARTITIONS: u64 = 3;

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
        topic.ask("tidegate.durability", "os");
        topic.settle("tidegate.durability", "os");
        configs.push(("tidegate.durability", "os"));
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
    let label = format!("create {name} with {partitions} partitions");
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
