//! DeleteTopics (key 20), versions 1–6: topics with their records and what groups have committed in them.
//!
//! Needs DELETE on each topic. By name, a topic that is not allowed is TOPIC_AUTHORIZATION_FAILED whether it exists or not;
//! by id, one that the session may not even DESCRIBE is UNKNOWN_TOPIC_ID like one that is not there. The broker's own topics
//! cannot be deleted. A topic that is asked for twice is refused once. The timeout has nothing to bound.
//! Version 4 is flexible, 5 adds messages, 6 takes ids as well as names (KIP-516).

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use uuid::Uuid;

use crate::catalog::Operation;
use crate::kafka::context::Context;
use crate::kafka::error::message;
use crate::kafka::resources::{self, TopicReference};
use crate::kafka::settings::{refusal, topic};
use crate::kafka::topics::{TopicError, TopicHandle};
use crate::types::TopicId;

pub const VERSIONS: RangeInclusive<i16> = 1..=6;

const STATES_FROM: i16 = 6;

pub async fn handle(context: &Context, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let asked = if context.version >= STATES_FROM {
        request.topics
    } else {
        let names = request.topic_names.into_iter();
        names
            .map(|name| DeleteTopicState::default().with_name(Some(name)))
            .collect()
    };
    let key = |topic: &DeleteTopicState| (topic.name.clone(), topic.topic_id);
    let twice = resources::duplicates(asked.iter().map(key));
    let mut results = Vec::new();
    for asked in resources::distinct(asked, key) {
        let outcome = if twice.contains(&key(&asked)) {
            Err(refusal(
                ResponseError::InvalidRequest,
                "the topic is named more than once",
            ))
        } else {
            delete(context, &asked).await
        };
        results.push(result(asked, outcome));
    }
    DeleteTopicsResponse::default().with_responses(results)
}

/// Which topic was deleted, as the client names it.
type Deleted = (Option<TopicName>, Uuid);

async fn delete(context: &Context, asked: &DeleteTopicState) -> Result<Deleted, TopicError> {
    let handle = find(context, asked)?;
    let name = handle.topic.name.as_str();
    if handle.topic.internal {
        return Err(refusal(
            ResponseError::InvalidTopicException,
            format!("topic {name} is the broker's own and cannot be deleted"),
        ));
    }
    let services = Arc::clone(&context.services);
    let topic = Arc::clone(&handle.topic);
    // What was begun is ended, whether or not the client stays for the answer.
    let deletion = tokio::spawn(async move {
        let name = topic.name.as_str();
        services.topics.delete(name).await?;
        if services.coordinator.topic_deleted(name).await {
            services.topics.forget_deleted(topic.id).await;
        }
        Ok::<Uuid, TopicError>(topic.id.0)
    });
    let deleted = deletion
        .await
        .map_err(|error| TopicError::storage(format!("the deletion was interrupted: {error}")))?;
    Ok((context.topic_out(name).map(TopicName), deleted?))
}

fn find(context: &Context, asked: &DeleteTopicState) -> Result<Arc<TopicHandle>, TopicError> {
    match (&asked.name, asked.topic_id) {
        (Some(name), id) if id.is_nil() => topic(context, Operation::Delete, name),
        (None, id) if !id.is_nil() => by_id(context, id),
        _ => Err(refusal(
            ResponseError::InvalidRequest,
            "a topic must be named by its name or by its id, and not by both",
        )),
    }
}

fn by_id(context: &Context, id: Uuid) -> Result<Arc<TopicHandle>, TopicError> {
    let wanted = [TopicReference::Id(TopicId(id))];
    let mut found = resources::handles(context, Operation::Delete, wanted);
    let found = found.pop().unwrap_or(Err(ResponseError::UnknownTopicId));
    found.map_err(|code| match code {
        ResponseError::TopicAuthorizationFailed => {
            refusal(code, format!("topic {id}: DELETE is not allowed"))
        }
        code => refusal(code, format!("no topic has the id {id}")),
    })
}

fn result(asked: DeleteTopicState, outcome: Result<Deleted, TopicError>) -> DeletableTopicResult {
    match outcome {
        Ok((name, id)) => DeletableTopicResult::default()
            .with_name(name.or(asked.name))
            .with_topic_id(id),
        Err(error) => DeletableTopicResult::default()
            .with_name(asked.name)
            .with_topic_id(asked.topic_id)
            .with_error_code(error.code.code())
            .with_error_message(message(error.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::wire::encodes;

    #[test]
    fn every_shape_encodes_in_every_version() {
        for version in VERSIONS {
            let by_name = || DeleteTopicState::default().with_name(Some(TopicName("t".into())));
            let deleted = Ok((Some(TopicName("t".into())), Uuid::from_u128(7)));
            let error = || Err(refusal(ResponseError::UnknownTopicOrPartition, "not there"));
            let mut results = vec![result(by_name(), deleted), result(by_name(), error())];
            if version >= STATES_FROM {
                let by_id = DeleteTopicState::default().with_topic_id(Uuid::from_u128(9));
                results.push(result(by_id, error()));
            }
            let response = DeleteTopicsResponse::default().with_responses(results);
            let seen = encodes(version, &response).responses;
            assert_eq!((seen[0].error_code, seen[1].error_code), (0, 3));
            assert_eq!(seen[1].error_message.is_some(), version >= 5);
        }
    }
}
