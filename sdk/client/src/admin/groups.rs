//! Consumer groups and their committed offsets.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest,
};

use super::{Admin, Outcome, Target, has_moved};
use crate::client::{str_bytes, topic_name};
use crate::cluster::retry::Retry;
use crate::consumer::assignor::decode_assignment;
use crate::error::Result;
use crate::net::api::Api;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct GroupListing {
    pub group: String,
    /// Empty when the broker is too old to tell.
    pub state: String,
    pub protocol_type: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDescription {
    pub group: String,
    /// `Stable`, `Empty`, `PreparingRebalance`, `CompletingRebalance` or `Dead` (there is no such group).
    pub state: String,
    /// How partitions are shared out, such as `range`.
    pub assignor: String,
    pub members: Vec<GroupMember>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupMember {
    pub member_id: String,
    pub client_id: String,
    pub host: String,
    /// By topic.
    pub assignment: BTreeMap<String, Vec<i32>>,
}

/// Offsets by topic and partition.
type Offsets = BTreeMap<(String, i32), i64>;

impl Admin {
    /// Every group of every broker.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>> {
        self.client.refresh(Some(&[]), false).await?;
        let metadata = self.client.metadata();
        let mut groups = BTreeSet::new();
        for endpoint in metadata.brokers.values() {
            let request = ListGroupsRequest::default();
            let (broker, response) = self.ask(Target::Broker(endpoint), &request).await?;
            let outcome = Outcome {
                broker: &broker,
                api: ListGroupsRequest::NAME,
            };
            outcome.of("its groups".into(), response.error_code, None)?;
            groups.extend(response.groups.iter().map(|group| GroupListing {
                group: group.group_id.to_string(),
                state: group.group_state.to_string(),
                protocol_type: group.protocol_type.to_string(),
            }));
        }
        Ok(groups.into_iter().collect())
    }

    /// A group that does not exist is described as `Dead`.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription> {
        let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(str_bytes(group))]);
        self.ask_coordinator(group, &request, |outcome, response| {
            let Some(described) = response.groups.first() else {
                return Err(outcome.missing(group));
            };
            outcome.of(format!("group {group}"), described.error_code, None)?;
            let mut members = Vec::new();
            for member in &described.members {
                let assignment = decode_assignment(member.member_assignment.clone());
                members.push(GroupMember {
                    member_id: member.member_id.to_string(),
                    client_id: member.client_id.to_string(),
                    host: member.client_host.to_string(),
                    // Groups of other protocols (Kafka Connect) say other things there.
                    assignment: assignment.unwrap_or_default(),
                });
            }
            Ok(GroupDescription {
                group: group.to_owned(),
                state: described.group_state.to_string(),
                assignor: described.protocol_data.to_string(),
                members,
            })
        })
        .await
    }

    /// Deletes a group and its offsets. It must have no members.
    pub async fn delete_group(&self, group: &str) -> Result<()> {
        let request =
            DeleteGroupsRequest::default().with_groups_names(vec![GroupId(str_bytes(group))]);
        self.ask_coordinator(group, &request, |outcome, response| {
            match response.results.first() {
                Some(result) => outcome.of(format!("group {group}"), result.error_code, None),
                None => Err(outcome.missing(group)),
            }
        })
        .await
    }

    /// What a group has committed, by topic and partition.
    pub async fn group_offsets(&self, group: &str) -> Result<BTreeMap<(String, i32), i64>> {
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(str_bytes(group)))
            .with_topics(None);
        self.ask_coordinator(group, &request, |outcome, response| {
            outcome.of(format!("group {group}"), response.error_code, None)?;
            let mut offsets = Offsets::new();
            for topic in &response.topics {
                for partition in &topic.partitions {
                    let name = topic.name.to_string();
                    let subject = format!("{name}-{} of group {group}", partition.partition_index);
                    outcome.of(subject, partition.error_code, None)?;
                    if partition.committed_offset >= 0 {
                        let key = (name, partition.partition_index);
                        offsets.insert(key, partition.committed_offset);
                    }
                }
            }
            Ok(offsets)
        })
        .await
    }

    /// Sets a group's committed offsets. The group must have no members.
    pub async fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<(String, i32), i64>,
    ) -> Result<()> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            let one = OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(str_bytes("")));
            topics.entry(topic).or_default().push(one);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(partitions)
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(str_bytes(group)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(topics.collect());
        self.ask_coordinator(group, &request, |outcome, response| {
            for topic in &response.topics {
                for partition in &topic.partitions {
                    let subject = format!(
                        "{}-{} of group {group}",
                        topic.name.as_str(),
                        partition.partition_index
                    );
                    outcome.of(subject, partition.error_code, None)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Forgets what a group has committed for a topic's partitions.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        topic: &str,
        partitions: &[i32],
    ) -> Result<()> {
        let wanted = partitions
            .iter()
            .map(|index| OffsetDeleteRequestPartition::default().with_partition_index(*index));
        let wanted = OffsetDeleteRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(wanted.collect());
        let request = OffsetDeleteRequest::default()
            .with_group_id(GroupId(str_bytes(group)))
            .with_topics(vec![wanted]);
        self.ask_coordinator(group, &request, |outcome, response| {
            outcome.of(format!("group {group}"), response.error_code, None)?;
            for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
                let subject = format!("{topic}-{} of group {group}", partition.partition_index);
                outcome.of(subject, partition.error_code, None)?;
            }
            Ok(())
        })
        .await
    }

    /// Asks a group's coordinator; finds the new one when it moved.
    async fn ask_coordinator<R: Api + Sync, T>(
        &self,
        group: &str,
        request: &R,
        judge: impl Fn(&Outcome<'_>, &R::Response) -> Result<T>,
    ) -> Result<T> {
        let mut retry = Retry::within(self.client.options().retry_timeout);
        loop {
            let coordinator = self.client.find_coordinator(group).await?;
            let (broker, response) = self.ask(Target::Broker(&coordinator), request).await?;
            let outcome = Outcome {
                broker: &broker,
                api: R::NAME,
            };
            match judge(&outcome, &response) {
                Err(error) if has_moved(&error) => retry.after(error).await?,
                judged => return judged,
            }
        }
    }
}
