//! DeleteTopics: a topic whose end was answered never comes back.

use kafka_protocol::messages::DeleteTopicsRequest;

use super::Surroundings;
use crate::network::Request;
use crate::shadow::{Presence, code};
use crate::wire;

const VERSION: i16 = 5;

pub fn issue(around: &mut Surroundings<'_>) -> Option<Request> {
    let name = around.any_target()?.topic;
    let topic = around.shadow.topics.get_mut(&name)?;
    if topic.flights > 0 || topic.is_changing {
        return None;
    }
    topic.presence = Presence::PerhapsDeleted;
    let request = DeleteTopicsRequest::default()
        .with_topic_names(vec![wire::topic_name(&name)])
        .with_timeout_ms(10_000);
    let line = around.line();
    let label = format!("delete {name}");
    Some(
        around.request(line, label, (VERSION, &request), move |shadow, answer| {
            let Some(answer) = answer else { return Ok(()) };
            let error = answer
                .responses
                .first()
                .map_or(-1, |topic| topic.error_code);
            match error {
                code::NONE => shadow.forget_topic(&name),
                code::KAFKA_STORAGE_ERROR | code::UNKNOWN_SERVER_ERROR if shadow.had_fault => {}
                error => return Err(format!("refused with error {error}")),
            }
            Ok(())
        }),
    )
}
