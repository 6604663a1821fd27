//! DescribeConfigs (key 32), versions 1–4: the settings of topics and of this broker.
//!
//! Needs DESCRIBE_CONFIGS on each topic, or on the cluster for the broker. A topic's settings tell whether they are its own,
//! the broker's or built in; the broker's are read-only. No list of keys (null or empty) means every key, a key that is not
//! known is left out. A broker named by the empty string is the cluster's default, which has no settings of its own.
//! Synonyms are the values that would hold in turn, by the setting's own name. Version 3 adds types and documentation
//! (KIP-569), 4 is flexible. Left out: loggers, client metrics and groups have no settings here (INVALID_REQUEST).

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use crate::catalog::Operation;
use crate::config::Config;
use crate::kafka::broker_settings::{BROKER_SETTINGS, BrokerSetting};
use crate::kafka::context::Context;
use crate::kafka::error::message;
use crate::kafka::room::{ALLOCATION, SETTING};
use crate::kafka::settings::{
    BROKER, SOURCE_BROKER, SOURCE_DEFAULT, TOPIC, TopicSetting, refusal, topic, topic_settings,
    unknown_resource,
};
use crate::kafka::topics::TopicError;

pub const VERSIONS: RangeInclusive<i16> = 1..=4;

type Settings = Vec<DescribeConfigsResourceResult>;

pub async fn handle(context: &Context, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let shape = Shape {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let results = request.resources.into_iter().map(|resource| {
        let settings = match resource.resource_type {
            TOPIC => topics(context, &resource, shape),
            BROKER => brokers(context, &resource, shape),
            other => Err(unknown_resource(other)),
        };
        result(
            resource,
            settings.and_then(|settings| fits(context, settings)),
        )
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

/// Settings for which the answer has room.
fn fits(context: &Context, settings: Settings) -> Result<Settings, TopicError> {
    let size = |setting: &DescribeConfigsResourceResult| {
        let texts = [setting.value.as_ref(), setting.documentation.as_ref()];
        let texts: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
        let synonym = size_of::<DescribeConfigsSynonym>() + ALLOCATION;
        size_of::<DescribeConfigsResourceResult>()
            + 2 * ALLOCATION
            + texts
            + setting.synonyms.len() * synonym
    };
    let told = |code| {
        let text = format!("the answer is full ({SETTING}): ask for fewer resources at once");
        refusal(code, text)
    };
    context
        .take_room(settings.iter().map(size).sum())
        .map_err(told)?;
    Ok(settings)
}

/// What was asked to come with each setting.
#[derive(Clone, Copy)]
struct Shape {
    synonyms: bool,
    documentation: bool,
}

fn wanted(resource: &DescribeConfigsResource, name: &str) -> bool {
    match &resource.configuration_keys {
        None => true,
        Some(keys) => keys.is_empty() || keys.iter().any(|key| &**key == name),
    }
}

fn topics(
    context: &Context,
    resource: &DescribeConfigsResource,
    shape: Shape,
) -> Result<Settings, TopicError> {
    let handle = topic(context, Operation::DescribeConfigs, &resource.resource_name)?;
    let defaults = &context.services.config.topic_defaults;
    let settings = topic_settings(&handle.config, &handle.topic.configs, defaults);
    let settings = settings
        .into_iter()
        .filter(|setting| wanted(resource, setting.entry.name));
    Ok(settings
        .map(|setting| topic_result(setting, shape))
        .collect())
}

fn topic_result(setting: TopicSetting, shape: Shape) -> DescribeConfigsResourceResult {
    let entry = setting.entry;
    let mut synonyms = Vec::new();
    if shape.synonyms {
        synonyms.push(synonym(entry.name, &entry.value, setting.source));
        let (value, source) = &setting.inherited;
        if entry.overridden {
            synonyms.push(synonym(entry.name, value, *source));
        }
    }
    DescribeConfigsResourceResult::default()
        .with_name(entry.name.into())
        .with_value(Some(entry.value.into()))
        .with_config_source(setting.source)
        .with_synonyms(synonyms)
        .with_config_type(entry.type_code)
        .with_documentation(shape.documentation.then(|| entry.documentation.into()))
}

fn brokers(
    context: &Context,
    resource: &DescribeConfigsResource,
    shape: Shape,
) -> Result<Settings, TopicError> {
    if !context.authorize_cluster(Operation::DescribeConfigs) {
        return Err(refusal(
            ResponseError::ClusterAuthorizationFailed,
            "DESCRIBE_CONFIGS on the cluster is not allowed",
        ));
    }
    let config = &context.services.config;
    if resource.resource_name.is_empty() {
        return Ok(Vec::new());
    }
    if resource.resource_name.parse() != Ok(config.broker.id) {
        return Err(refusal(
            ResponseError::InvalidRequest,
            format!(
                "broker {}: this is node {} alone",
                &*resource.resource_name, config.broker.id
            ),
        ));
    }
    let rows = BROKER_SETTINGS
        .iter()
        .filter(|row| wanted(resource, row.name));
    Ok(rows.map(|row| broker_result(row, config, shape)).collect())
}

fn broker_result(
    row: &BrokerSetting,
    config: &Config,
    shape: Shape,
) -> DescribeConfigsResourceResult {
    let value = (row.value)(config);
    let built_in = (row.value)(&Config::default());
    let source = if value == built_in {
        SOURCE_DEFAULT
    } else {
        SOURCE_BROKER
    };
    let mut synonyms = Vec::new();
    if shape.synonyms {
        synonyms.push(synonym(row.name, &value, source));
        if source == SOURCE_BROKER {
            synonyms.push(synonym(row.name, &built_in, SOURCE_DEFAULT));
        }
    }
    DescribeConfigsResourceResult::default()
        .with_name(row.name.into())
        .with_value(Some(value.into()))
        .with_read_only(true)
        .with_config_source(source)
        .with_synonyms(synonyms)
        .with_config_type(row.type_code)
        .with_documentation(shape.documentation.then(|| row.documentation.into()))
}

fn synonym(name: &'static str, value: &str, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default()
        .with_name(name.into())
        .with_value(Some(value.to_owned().into()))
        .with_source(source)
}

fn result(
    resource: DescribeConfigsResource,
    settings: Result<Settings, TopicError>,
) -> DescribeConfigsResult {
    let result = DescribeConfigsResult::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name);
    match settings {
        Ok(settings) => result.with_error_message(None).with_configs(settings),
        Err(error) => result
            .with_error_code(error.code.code())
            .with_error_message(message(error.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::topic::TopicConfigEntry;
    use crate::kafka::handlers::wire::encodes;

    const ALL: Shape = Shape {
        synonyms: true,
        documentation: true,
    };

    fn setting() -> TopicSetting {
        TopicSetting {
            entry: TopicConfigEntry {
                name: "retention.ms",
                value: "1".into(),
                overridden: true,
                type_code: 5,
                documentation: "How long.",
            },
            source: 1,
            inherited: ("2".into(), SOURCE_DEFAULT),
        }
    }

    #[test]
    fn settings_and_refusals_encode_in_every_version() {
        let config = Config::default();
        for version in VERSIONS {
            let rows = BROKER_SETTINGS.iter();
            let mut settings: Settings = rows.map(|row| broker_result(row, &config, ALL)).collect();
            settings.push(topic_result(setting(), ALL));
            let refused = Err(unknown_resource(32));
            let resource = DescribeConfigsResource::default;
            let results = vec![
                result(resource(), Ok(settings)),
                result(resource(), refused),
            ];
            let response = DescribeConfigsResponse::default().with_results(results);
            let seen = encodes(version, &response).results;
            assert_eq!(seen[0].configs.len(), BROKER_SETTINGS.len() + 1);
            let last = seen[0].configs.last().expect("there are settings");
            let sources: Vec<_> = last.synonyms.iter().map(|s| s.source).collect();
            assert_eq!(sources, [1, SOURCE_DEFAULT]);
            let documentation = last.documentation.as_deref().unwrap_or_default();
            assert_eq!(documentation == "How long.", version >= 3);
            assert_eq!(seen[1].error_code, 42);
        }
    }

    #[test]
    fn a_broker_setting_that_was_changed_says_so_and_none_can_be_written() {
        let mut config = Config::default();
        config.broker.default_partitions += 1;
        let changed = |name: &str| {
            let row = BROKER_SETTINGS.iter().find(|row| row.name == name);
            broker_result(row.expect("the row is there"), &config, ALL)
        };
        assert_eq!(changed("num.partitions").config_source, SOURCE_BROKER);
        assert_eq!(changed("num.partitions").synonyms.len(), 2);
        assert_eq!(changed("max.connections").config_source, SOURCE_DEFAULT);
        assert!(changed("num.partitions").read_only);
    }

    #[test]
    fn no_keys_are_all_keys() {
        let keys = |keys: Option<Vec<&'static str>>| {
            let keys = keys.map(|keys| keys.into_iter().map(Into::into).collect());
            DescribeConfigsResource::default().with_configuration_keys(keys)
        };
        assert!(wanted(&keys(None), "retention.ms"));
        assert!(wanted(&keys(Some(vec![])), "retention.ms"));
        assert!(wanted(&keys(Some(vec!["retention.ms"])), "retention.ms"));
        assert!(!wanted(&keys(Some(vec!["segment.ms"])), "retention.ms"));
    }
}
