//! AlterConfigs (key 33), versions 0–2: replaces all of a topic's own settings by those given. Deprecated in Kafka in favour
//! of IncrementalAlterConfigs, still spoken by older tools and by kafka-python.
//!
//! Needs ALTER_CONFIGS on each topic. Each resource is answered by itself; one that comes twice is refused once. The broker's
//! settings are read-only (INVALID_REQUEST). `validate_only` checks and changes nothing. Version 2 is flexible.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use crate::kafka::context::Context;
use crate::kafka::error::message;
use crate::kafka::resources;
use crate::kafka::settings::{alterable_topic, refusal};
use crate::kafka::topics::TopicError;

pub const VERSIONS: RangeInclusive<i16> = 0..=2;

pub async fn handle(context: &Context, request: AlterConfigsRequest) -> AlterConfigsResponse {
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
    AlterConfigsResponse::default().with_responses(responses)
}

async fn alter(
    context: &Context,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), TopicError> {
    let _changing = context.services.topics.changing_settings().await;
    let handle = alterable_topic(context, resource.resource_type, &resource.resource_name)?;
    let name = handle.topic.name.as_str();
    let topics = &context.services.topics;
    topics
        .configure(name, replaced(&resource.configs)?, validate_only)
        .await
}

fn replaced(configs: &[AlterableConfig]) -> Result<BTreeMap<String, String>, TopicError> {
    let mut own = BTreeMap::new();
    for config in configs {
        let invalid = |what| {
            let message = format!("topic setting {}: {what}", &*config.name);
            Err(refusal(ResponseError::InvalidRequest, message))
        };
        let Some(value) = &config.value else {
            return invalid("null is no value");
        };
        if own
            .insert(config.name.to_string(), value.to_string())
            .is_some()
        {
            return invalid("is given more than once");
        }
    }
    Ok(own)
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
mod tests {
    use super::*;
    use crate::kafka::handlers::wire::encodes;

    fn config(name: &'static str, value: Option<&'static str>) -> AlterableConfig {
        AlterableConfig::default()
            .with_name(name.into())
            .with_value(value.map(Into::into))
    }

    #[test]
    fn what_is_given_replaces_what_was() {
        let own = replaced(&[config("retention.ms", Some("5"))]).expect("it is fine");
        assert_eq!(own, BTreeMap::from([("retention.ms".into(), "5".into())]));
        let twice = [config("a", Some("1")), config("a", Some("2"))];
        for wrong in [&twice[..], &[config("a", None)]] {
            let error = replaced(wrong).expect_err("it is refused");
            assert_eq!(error.code, ResponseError::InvalidRequest);
        }
    }

    #[test]
    fn both_shapes_encode_in_every_version() {
        for version in VERSIONS {
            let resource = || AlterConfigsResource::default().with_resource_name("orders".into());
            let error = refusal(ResponseError::InvalidConfig, "wrong");
            let responses = vec![
                response(resource(), Ok(())),
                response(resource(), Err(error)),
            ];
            encodes(
                version,
                &AlterConfigsResponse::default().with_responses(responses),
            );
        }
    }
}
