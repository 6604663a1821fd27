//! Topics, their partitions, configs and offsets.

use std::collections::BTreeMap;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
    ListOffsetsRequest, MetadataRequest,
};

use super::{Admin, Outcome, Target, has_moved};
use crate::client::{str_bytes, topic_name};
use crate::cluster::metadata::PartitionMetadata;
use crate::cluster::retry::Retry;
use crate::consumer::StartAt;
use crate::error::Result;
use crate::net::api::Api;
use crate::options::Endpoint;

/// The protocol's number of a topic among config resources.
const TOPIC_RESOURCE: i8 = 2;

/// A topic to be created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTopic {
    name: String,
    partitions: i32,
    replication_factor: i16,
    configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// With the broker's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partitions: -1,
            replication_factor: -1,
            configs: BTreeMap::new(),
        }
    }

    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = partitions;
        self
    }

    pub fn replication_factor(mut self, factor: i16) -> Self {
        self.replication_factor = factor;
        self
    }

    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(key.into(), value.into());
        self
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicDescription {
    pub name: String,
    /// Kept by the broker for itself, such as `__consumer_offsets`.
    pub internal: bool,
    pub partitions: Vec<PartitionMetadata>,
}

/// Who set a config's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigSource {
    /// Set on the topic itself.
    Topic,
    /// The broker's own setting.
    Broker,
    Default,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigEntry {
    pub name: String,
    /// `None`: kept secret, or unset.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub read_only: bool,
    pub documentation: Option<String>,
}

/// One change of a config.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigChange {
    Set(String, String),
    /// Back to what it would be without being set.
    Delete(String),
}

impl Admin {
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<()> {
        self.create(topic, false).await
    }

    /// Whether the topic could be created, without creating it.
    pub async fn validate_topic(&self, topic: &NewTopic) -> Result<()> {
        self.create(topic, true).await
    }

    async fn create(&self, topic: &NewTopic, validate_only: bool) -> Result<()> {
        let configs = topic.configs.iter().map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(str_bytes(key))
                .with_value(Some(str_bytes(value)))
        });
        let creatable = CreatableTopic::default()
            .with_name(topic_name(&topic.name))
            .with_num_partitions(topic.partitions)
            .with_replication_factor(topic.replication_factor)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![creatable])
            .with_timeout_ms(self.timeout_ms())
            .with_validate_only(validate_only);
        self.change(&request, &topic.name, |outcome, response| {
            let results = response.topics.iter();
            let one = results.map(|result| (result.error_code, result.error_message.as_deref()));
            first(outcome, &topic.name, one)
        })
        .await
    }

    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let request = DeleteTopicsRequest::default()
            .with_topic_names(vec![topic_name(name)])
            .with_timeout_ms(self.timeout_ms());
        self.change(&request, name, |outcome, response| {
            let results = response.responses.iter();
            let one = results.map(|result| (result.error_code, result.error_message.as_deref()));
            first(outcome, name, one)
        })
        .await
    }

    /// Raises a topic's number of partitions to `total`. It can't be lowered.
    pub async fn create_partitions(&self, name: &str, total: i32) -> Result<()> {
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(total)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(self.timeout_ms());
        self.change(&request, name, |outcome, response| {
            let results = response.results.iter();
            let one = results.map(|result| (result.error_code, result.error_message.as_deref()));
            first(outcome, name, one)
        })
        .await
    }

    /// Every topic that this principal may see.
    pub async fn list_topics(&self) -> Result<Vec<TopicDescription>> {
        self.describe(None).await
    }

    pub async fn describe_topics(&self, names: &[&str]) -> Result<Vec<TopicDescription>> {
        self.describe(Some(names)).await
    }

    async fn describe(&self, names: Option<&[&str]>) -> Result<Vec<TopicDescription>> {
        let mut retry = Retry::within(self.client.options().retry_timeout);
        let (broker, response) = loop {
            match self.client.fetch_metadata(names, false).await {
                Ok(answer) => break answer,
                Err(error) => retry.after(error).await?,
            }
        };
        let outcome = Outcome {
            broker: &broker,
            api: MetadataRequest::NAME,
        };
        let metadata = crate::cluster::metadata::Metadata::default()
            .merged(&response, std::time::Instant::now());
        let mut topics = Vec::new();
        for (name, topic) in metadata.topics {
            let code = topic.error.map_or(0, |error| error.code());
            outcome.of(format!("topic {name}"), code, None)?;
            topics.push(TopicDescription {
                name,
                internal: topic.internal,
                partitions: topic.partitions.clone(),
            });
        }
        Ok(topics)
    }

    pub async fn topic_configs(&self, name: &str) -> Result<Vec<ConfigEntry>> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(str_bytes(name))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default()
            .with_resources(vec![resource])
            .with_include_documentation(true);
        let (broker, response) = self.ask(Target::Any, &request).await?;
        let outcome = Outcome {
            broker: &broker,
            api: DescribeConfigsRequest::NAME,
        };
        let Some(result) = response.results.first() else {
            return Err(outcome.missing(name));
        };
        let message = result.error_message.as_deref();
        outcome.of(format!("topic {name}"), result.error_code, message)?;
        let entries = result.configs.iter().map(|config| ConfigEntry {
            name: config.name.to_string(),
            value: config.value.as_ref().map(|value| value.to_string()),
            source: match config.config_source {
                1 => ConfigSource::Topic,
                5 => ConfigSource::Default,
                _ => ConfigSource::Broker,
            },
            read_only: config.read_only,
            documentation: config.documentation.as_ref().map(|text| text.to_string()),
        });
        Ok(entries.collect())
    }

    /// Changes some of a topic's configs and leaves the others.
    pub async fn alter_topic_configs(&self, name: &str, changes: &[ConfigChange]) -> Result<()> {
        let configs = changes.iter().map(|change| match change {
            ConfigChange::Set(key, value) => AlterableConfig::default()
                .with_name(str_bytes(key))
                .with_config_operation(0)
                .with_value(Some(str_bytes(value))),
            ConfigChange::Delete(key) => AlterableConfig::default()
                .with_name(str_bytes(key))
                .with_config_operation(1)
                .with_value(None),
        });
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(str_bytes(name))
            .with_configs(configs.collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        self.change(&request, name, |outcome, response| {
            let results = response.responses.iter();
            let one = results.map(|result| (result.error_code, result.error_message.as_deref()));
            first(outcome, name, one)
        })
        .await
    }

    /// The offsets at which reading a topic would begin, partition by partition. For a time behind the newest record: the
    /// end.
    pub async fn list_offsets(&self, topic: &str, at: StartAt) -> Result<BTreeMap<i32, i64>> {
        let known = self.client.topic(topic, false).await?;
        let mut offsets = BTreeMap::new();
        if let StartAt::Offset(offset) = at {
            offsets.extend(
                known
                    .partitions
                    .iter()
                    .map(|partition| (partition.index, offset)),
            );
            return Ok(offsets);
        }
        let mut by_leader: BTreeMap<Endpoint, Vec<i32>> = BTreeMap::new();
        for partition in &known.partitions {
            let leader = self.client.find_leader(topic, partition.index).await?;
            by_leader.entry(leader).or_default().push(partition.index);
        }
        let query = at.query().unwrap_or(-1);
        for (leader, partitions) in by_leader {
            let found = self.list_at(&leader, topic, &partitions, query).await?;
            offsets.extend(found);
        }
        if query >= 0 && offsets.values().any(|offset| *offset < 0) {
            let ends = Box::pin(self.list_offsets(topic, StartAt::Latest)).await?;
            for (partition, offset) in &mut offsets {
                if *offset < 0 {
                    *offset = ends.get(partition).copied().unwrap_or(0);
                }
            }
        }
        Ok(offsets)
    }

    async fn list_at(
        &self,
        leader: &Endpoint,
        topic: &str,
        partitions: &[i32],
        query: i64,
    ) -> Result<Vec<(i32, i64)>> {
        let wanted = partitions.iter().map(|partition| {
            ListOffsetsPartition::default()
                .with_partition_index(*partition)
                .with_timestamp(query)
        });
        let wanted = ListOffsetsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(wanted.collect());
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![wanted]);
        let (broker, response) = self.ask(Target::Broker(leader), &request).await?;
        let outcome = Outcome {
            broker: &broker,
            api: ListOffsetsRequest::NAME,
        };
        let mut offsets = Vec::new();
        for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
            let subject = format!("{topic}-{}", partition.partition_index);
            outcome.of(subject, partition.error_code, None)?;
            offsets.push((partition.partition_index, partition.offset));
        }
        Ok(offsets)
    }

    /// Moves the start of a partition's log up to `before` (the end of what consumers see when `None`): older records are
    /// gone. Answers the new start, which is durable.
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        before: Option<i64>,
    ) -> Result<i64> {
        let leader = self.client.find_leader(topic, partition).await?;
        let asked = DeleteRecordsPartition::default()
            .with_partition_index(partition)
            .with_offset(before.unwrap_or(-1));
        let asked = DeleteRecordsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![asked]);
        let request = DeleteRecordsRequest::default()
            .with_topics(vec![asked])
            .with_timeout_ms(self.timeout_ms());
        let (broker, response) = self.ask(Target::Broker(&leader), &request).await?;
        let outcome = Outcome {
            broker: &broker,
            api: DeleteRecordsRequest::NAME,
        };
        let mut start = -1;
        for result in response.topics.iter().flat_map(|topic| &topic.partitions) {
            let subject = format!("{topic}-{}", result.partition_index);
            outcome.of(subject, result.error_code, None)?;
            start = result.low_watermark;
        }
        Ok(start)
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.client.options().request_timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// Asks the controller for a change of one topic; finds the new controller when it moved.
    async fn change<R: Api + Sync>(
        &self,
        request: &R,
        name: &str,
        judge: impl Fn(&Outcome<'_>, &R::Response) -> Result<()>,
    ) -> Result<()> {
        let mut retry = Retry::within(self.client.options().retry_timeout);
        loop {
            let (broker, response) = self.ask(Target::Controller, request).await?;
            let outcome = Outcome {
                broker: &broker,
                api: R::NAME,
            };
            match judge(&outcome, &response) {
                Ok(()) => {
                    // What is known of the topic is out of date; the next user of it asks. Failing that, age does it.
                    let _ = self.client.refresh(Some(&[name]), false).await;
                    return Ok(());
                }
                Err(error) if has_moved(&error) => {
                    retry.after(error).await?;
                    self.client.refresh(Some(&[]), false).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The answer about the one topic that was asked of.
fn first<'a>(
    outcome: &Outcome<'_>,
    topic: &str,
    mut results: impl Iterator<Item = (i16, Option<&'a str>)>,
) -> Result<()> {
    let subject = format!("topic {topic}");
    match results.next() {
        Some((code, message)) => outcome.of(subject, code, message),
        None => Err(outcome.missing(&subject)),
    }
}
