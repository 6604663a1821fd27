//! Topics' settings as requests see them: where each value comes from, and who may change which.
//!
//! A topic's *own* settings were given to it by name; all others are *inherited* from the broker, whose value stands in its
//! configuration or is built in. Kafka numbers these sources.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::context::Context;
use super::topics::{TopicError, TopicHandle};
use crate::catalog::{Operation, ResourceType};
use crate::config::TopicConfig;
use crate::config::topic::TopicConfigEntry;

/// Kafka's types of resources that have settings.
pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;

/// Kafka's `ConfigSource` codes.
pub const SOURCE_TOPIC: i8 = 1;
pub const SOURCE_BROKER: i8 = 4;
pub const SOURCE_DEFAULT: i8 = 5;

/// One setting of a topic.
#[derive(Clone, PartialEq, Debug)]
pub struct TopicSetting {
    pub entry: TopicConfigEntry,
    pub source: i8,
    /// What holds without the topic's own setting, and where that comes from.
    pub inherited: (String, i8),
}

/// Every setting of a topic with `own` settings resolved to `config`, in the table's order.
pub fn topic_settings(
    config: &TopicConfig,
    own: &BTreeMap<String, String>,
    broker: &TopicConfig,
) -> Vec<TopicSetting> {
    let none = BTreeMap::new();
    let built_in = TopicConfig::default().entries(&none);
    let inherited = broker.entries(&none).into_iter().zip(built_in);
    let entries = config.entries(own).into_iter().zip(inherited);
    entries
        .map(|(entry, (inherited, built_in))| setting(entry, inherited, &built_in))
        .collect()
}

fn setting(
    entry: TopicConfigEntry,
    inherited: TopicConfigEntry,
    built_in: &TopicConfigEntry,
) -> TopicSetting {
    let inherited_source = if inherited.value == built_in.value {
        SOURCE_DEFAULT
    } else {
        SOURCE_BROKER
    };
    TopicSetting {
        source: if entry.overridden {
            SOURCE_TOPIC
        } else {
            inherited_source
        },
        inherited: (inherited.value, inherited_source),
        entry,
    }
}

/// The topic whose settings the session may change, when the resource is one.
///
/// # Errors
/// The refusal: no permission, no such topic, or a resource whose settings requests cannot change.
pub fn alterable_topic(
    context: &Context,
    resource_type: i8,
    name: &str,
) -> Result<Arc<TopicHandle>, TopicError> {
    match resource_type {
        TOPIC => topic(context, Operation::AlterConfigs, name),
        BROKER if !context.authorize_cluster(Operation::AlterConfigs) => Err(refusal(
            ResponseError::ClusterAuthorizationFailed,
            "ALTER_CONFIGS on the cluster is not allowed",
        )),
        BROKER => Err(refusal(
            ResponseError::InvalidRequest,
            "the broker's settings are read-only here: change its configuration and start it again",
        )),
        _ => Err(unknown_resource(resource_type)),
    }
}

/// The topic of this name, when the session may do this with it.
///
/// # Errors
/// The refusal: an illegal name, no permission (whether or not the topic exists), or no such topic.
pub fn topic(
    context: &Context,
    operation: Operation,
    name: &str,
) -> Result<Arc<TopicHandle>, TopicError> {
    let known = context
        .topic_in(name)
        .map_err(|code| refusal(code, format!("{name} is not a legal topic name")))?;
    if !context.authorize(operation, ResourceType::Topic, &known) {
        return Err(refusal(
            ResponseError::TopicAuthorizationFailed,
            format!("topic {name}: not allowed"),
        ));
    }
    context.services.topics.get(&known).ok_or_else(|| {
        refusal(
            ResponseError::UnknownTopicOrPartition,
            format!("topic {name} does not exist"),
        )
    })
}

pub fn unknown_resource(resource_type: i8) -> TopicError {
    refusal(
        ResponseError::InvalidRequest,
        format!(
            "resources of type {resource_type} have no settings here: only topics (2) and brokers (4) have"
        ),
    )
}

/// A refusal with its message.
pub fn refusal(code: ResponseError, message: impl Into<String>) -> TopicError {
    TopicError {
        code,
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: &str, overridden: bool) -> TopicConfigEntry {
        TopicConfigEntry {
            name: "retention.ms",
            value: value.into(),
            overridden,
            type_code: 5,
            documentation: "",
        }
    }

    #[test]
    fn a_value_comes_from_the_nearest_that_sets_it() {
        let table = [
            (entry("1", true), "2", "3", SOURCE_TOPIC, SOURCE_BROKER),
            (entry("2", false), "2", "3", SOURCE_BROKER, SOURCE_BROKER),
            (entry("3", false), "3", "3", SOURCE_DEFAULT, SOURCE_DEFAULT),
            (entry("3", true), "3", "3", SOURCE_TOPIC, SOURCE_DEFAULT),
        ];
        for (own, broker, built_in, source, inherited) in table {
            let (broker, built_in) = (entry(broker, false), entry(built_in, false));
            let setting = setting(own.clone(), broker.clone(), &built_in);
            assert_eq!(setting.source, source, "{own:?}");
            assert_eq!(setting.inherited, (broker.value, inherited), "{own:?}");
        }
    }
}
