//! IncrementalAlterConfigs (key 44), versions 0–1: changes single settings of topics (KIP-339).
//!
//! Needs ALTER_CONFIGS on each topic. SET (0) and DELETE (1) work on every setting, APPEND (2) and SUBTRACT (3) on lists,
//! starting from the value that holds. Each resource is changed as a whole or not at all, and is answered by itself; one
//! that comes twice is refused once, and so is a key. The broker's settings are read-only (INVALID_REQUEST).
//! `validate_only` checks and changes nothing. Version 1 is flexible.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use crate::config::topic::TopicConfigEntry;
use crate::kafka::context::Context;
use crate::kafka::error::message;
use crate::kafka::resources;
use crate::kafka::settings::{alterable_topic, refusal};
use crate::kafka::topics::TopicError;

pub const VERSIONS: RangeInclusive<i16> = 0..=1;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Kafka's type code of lists.
const LIST: i8 = 7;

pub async fn handle(
    context: &Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let key =
        |resource: &AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
    let twice = resources::duplicates(request.resources.iter().map(key));
    let mut responses = Vec::new();
    for resource in resources::distinct(request.resources, key) {
        let outcome = if twice.contains(&key(&resource)) {
            Err(refusal(
                ResponseError::InvalidRequest,
                "the resource is named more than once",
            ))
        } else {
            alter(context, &resource, request.validate_only).await
        };
        responses.push(response(resource, outcome));
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

async fn alter(
    context: &Context,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), TopicError> {
    let _changing = context.services.topics.changing_settings().await;
    let handle = alterable_topic(context, resource.resource_type, &resource.resource_name)?;
    let own = &handle.topic.configs;
    let changed = changed(own, &handle.config.entries(own), &resource.configs)?;
    let name = handle.topic.name.as_str();
    let topics = &context.services.topics;
    topics.configure(name, changed, validate_only).await
}

/// A topic's own settings after the changes; `effective` are all its settings before.
fn changed(
    own: &BTreeMap<String, String>,
    effective: &[TopicConfigEntry],
    changes: &[AlterableConfig],
) -> Result<BTreeMap<String, String>, TopicError> {
    let twice = resources::duplicates(changes.iter().map(|change| &change.name));
    if let Some(key) = twice.into_iter().next() {
        return Err(invalid(key, "is changed more than once"));
    }
    let mut own = own.clone();
    for change in changes {
        let key = change.name.to_string();
        let entry = effective.iter().find(|entry| entry.name == key);
        match (change.config_operation, change.value.as_deref()) {
            (DELETE, _) => {
                own.remove(&key);
            }
            (SET | APPEND | SUBTRACT, None) => return Err(invalid(&key, "null is no value")),
            (SET, Some(value)) => {
                own.insert(key, value.to_owned());
            }
            (operation @ (APPEND | SUBTRACT), Some(value)) => {
                let before = match entry {
                    Some(entry) if entry.type_code == LIST => &entry.value,
                    _ => {
                        return Err(refusal(
                            ResponseError::InvalidConfig,
                            format!("topic setting {key}: is no list, set it as a whole"),
                        ));
                    }
                };
                own.insert(key, edited(before, value, operation == APPEND));
            }
            (operation, _) => {
                return Err(invalid(&key, &format!("operation {operation} is unknown")));
            }
        }
    }
    Ok(own)
}

fn invalid(key: &str, what: &str) -> TopicError {
    let message = format!("topic setting {key}: {what}");
    refusal(ResponseError::InvalidRequest, message)
}

/// A comma-separated list with items appended, those that are there already left alone, or with items taken out.
fn edited(list: &str, items: &str, append: bool) -> String {
    let split = |text| {
        str::split(text, ',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
    };
    let mut edited: Vec<&str> = split(list).collect();
    for item in split(items) {
        if !append {
            edited.retain(|kept| *kept != item);
        } else if !edited.contains(&item) {
            edited.push(item);
        }
    }
    edited.join(",")
}

fn response(
    resource: AlterConfigsResource,
    outcome: Result<(), TopicError>,
) -> AlterConfigsResourceResponse {
    let response = AlterConfigsResourceResponse::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name);
    match outcome {
        Ok(()) => response.with_error_message(None),
        Err(error) => response
            .with_error_code(error.code.code())
            .with_error_message(message(error.message)),
    }
}

#[cfg(test)]
mod tests;
