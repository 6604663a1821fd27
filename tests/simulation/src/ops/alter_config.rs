//! IncrementalAlterConfigs: a setting that was answered holds until the next.

use kafka_protocol::messages::IncrementalAlterConfigsRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};

use super::Surroundings;
use crate::network::Request;
use crate::shadow::code;
use crate::wire;

const VERSION: i16 = 1;
const TOPIC: i8 = 2;
const SET: i8 = 0;

const CHANGES: &[(&str, &str)] = &[
    ("retention.ms", "-1"),
    ("retention.ms", "60000"),
    ("retention.ms", "3600000"),
    ("retention.bytes", "40000"),
    ("retention.bytes", "-1"),
    ("tidegate.durability", "os"),
    ("tidegate.durability", "fsync"),
    ("tidegate.durability", "fsync"),
    ("segment.ms", "600000"),
];

pub fn issue(around: &mut Surroundings<'_>) -> Option<Request> {
    let target = around.any_target()?;
    let (name, value) = *around.random.pick(CHANGES)?;
    let topic = around.shadow.same(&target)?;
    if topic.is_changing {
        return None;
    }
    topic.is_changing = true;
    topic.ask(name, value);
    let change = AlterableConfig::default()
        .with_name(wire::text(name))
        .with_config_operation(SET)
        .with_value(Some(wire::text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(wire::text(&target.topic))
        .with_configs(vec![change]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let line = around.line();
    let label = format!("set {name}={value} of {}", target.topic);
    Some(
        around.request(line, label, (VERSION, &request), move |shadow, answer| {
            let had_fault = shadow.had_fault;
            let Some(topic) = shadow.same(&target) else {
                return Ok(());
            };
            topic.is_changing = false;
            let Some(answer) = answer else { return Ok(()) };
            match answer
                .responses
                .first()
                .map_or(-1, |answer| answer.error_code)
            {
                code::NONE => topic.settle(name, value),
                code::KAFKA_STORAGE_ERROR | code::UNKNOWN_SERVER_ERROR if had_fault => {}
                error => return Err(format!("refused with error {error}")),
            }
            Ok(())
        }),
    )
}
