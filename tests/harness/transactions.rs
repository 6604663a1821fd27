//! Transactions over a [`RawClient`], one request at a time: what a client library does by itself is here the test's choice.
//!
//! There are two dialects. In the old one partitions and groups are announced with AddPartitionsToTxn and AddOffsetsToTxn;
//! in transactions version 2 (KIP-890) Produce and TxnOffsetCommit add them, and every EndTxn answers with the next epoch.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, FetchRequest, GroupId,
    InitProducerIdRequest, OffsetFetchRequest, ProduceRequest, TopicName, TransactionalId,
    TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::RawClient;
use crate::batch::{self, Record};

const ADD_PARTITIONS_VERSION: i16 = 3;
const ADD_OFFSETS_VERSION: i16 = 3;
const INIT_PRODUCER_ID_VERSION: i16 = 4;
const OFFSET_FETCH_VERSION: i16 = 8;
const FETCH_VERSION: i16 = 12;
/// The most of one partition that an answer brings, unless one batch is larger; in bytes.
const FETCH_BYTES: i32 = 256 << 10;

/// How a producer speaks of its transactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// With AddPartitionsToTxn.
    Announced,
    /// KIP-890's transactions version 2.
    Implicit,
}

impl Dialect {
    pub fn produce_version(self) -> i16 {
        match self {
            Self::Announced => 9,
            Self::Implicit => 12,
        }
    }

    fn end_version(self) -> i16 {
        match self {
            Self::Announced => 3,
            Self::Implicit => 5,
        }
    }

    fn offset_commit_version(self) -> i16 {
        match self {
            Self::Announced => 3,
            Self::Implicit => 5,
        }
    }
}

/// A transactional id with the producer id and epoch that it was given.
#[derive(Clone, Debug)]
pub struct Transactional {
    pub id: String,
    pub dialect: Dialect,
    pub producer_id: i64,
    pub epoch: i16,
}

impl Transactional {
    pub fn new(id: impl Into<String>, dialect: Dialect) -> Self {
        Self {
            id: id.into(),
            dialect,
            producer_id: -1,
            epoch: -1,
        }
    }

    fn name(&self) -> TransactionalId {
        TransactionalId(text(&self.id))
    }

    /// Takes the transactional id over from whoever had it: what was under way is ended, and older holders are fenced.
    /// Returns the error code; with 0 the producer id and epoch are the new ones.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn initialize(&mut self, client: &mut RawClient, timeout: Duration) -> Result<i16> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(self.name()))
            .with_transaction_timeout_ms(timeout.as_millis() as i32)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let response = client.request(INIT_PRODUCER_ID_VERSION, &request)?;
        if response.error_code == 0 {
            self.producer_id = response.producer_id.0;
            self.epoch = response.producer_epoch;
        }
        Ok(response.error_code)
    }

    /// Announces partitions of one topic; returns the first error code.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn add_partitions(
        &self,
        client: &mut RawClient,
        topic: &str,
        partitions: &[i32],
    ) -> Result<i16> {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions.to_vec());
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.name())
            .with_v3_and_below_producer_id(self.producer_id.into())
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let response = client.request(ADD_PARTITIONS_VERSION, &request)?;
        let results = response.results_by_topic_v3_and_below.iter();
        let codes = results.flat_map(|topic| &topic.results_by_partition);
        let mut codes = codes.map(|partition| partition.partition_error_code);
        Ok(codes.find(|code| *code != 0).unwrap_or(0))
    }

    /// Sends one batch without waiting; [`Self::receive_produce`] reads the answers in order.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send_produce(
        &self,
        client: &mut RawClient,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> Result<()> {
        let data = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(batch));
        let topic = TopicProduceData::default()
            .with_name(topic_name(topic))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.name()))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic]);
        client.send(self.dialect.produce_version(), &request)?;
        Ok(())
    }

    /// The error code and base offset of the oldest [`Self::send_produce`] without an answer.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn receive_produce(&self, client: &mut RawClient) -> Result<(i16, i64)> {
        let (_, response) = client.receive::<ProduceRequest>(self.dialect.produce_version())?;
        let topic = response.responses.first();
        let partition = topic.and_then(|topic| topic.partition_responses.first());
        let partition = partition.context("the answer names no partition")?;
        Ok((partition.error_code, partition.base_offset))
    }

    /// Commits a group's offset with the transaction; returns the first error code.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn commit_offset(
        &self,
        client: &mut RawClient,
        group: &str,
        (topic, partition): (&str, i32),
        offset: i64,
    ) -> Result<i16> {
        if self.dialect == Dialect::Announced {
            let request = AddOffsetsToTxnRequest::default()
                .with_transactional_id(self.name())
                .with_producer_id(self.producer_id.into())
                .with_producer_epoch(self.epoch)
                .with_group_id(GroupId(text(group)));
            let response = client.request(ADD_OFFSETS_VERSION, &request)?;
            if response.error_code != 0 {
                return Ok(response.error_code);
            }
        }
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self.name())
            .with_group_id(GroupId(text(group)))
            .with_producer_id(self.producer_id.into())
            .with_producer_epoch(self.epoch)
            .with_topics(vec![topic]);
        let response = client.request(self.dialect.offset_commit_version(), &request)?;
        let mut codes = response.topics.iter().flat_map(|topic| &topic.partitions);
        let failed = codes.find(|partition| partition.error_code != 0);
        Ok(failed.map_or(0, |partition| partition.error_code))
    }

    /// Commits or aborts; returns the error code. With 0 in the second dialect the epoch is the next one.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn end(&mut self, client: &mut RawClient, commit: bool) -> Result<i16> {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.name())
            .with_producer_id(self.producer_id.into())
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        let response = client.request(self.dialect.end_version(), &request)?;
        if response.error_code == 0 && self.dialect == Dialect::Implicit {
            self.producer_id = response.producer_id.0;
            self.epoch = response.producer_epoch;
        }
        Ok(response.error_code)
    }
}

/// A group's offset in one partition, with no transaction undecided on it; `Err` is the error code.
///
/// # Errors
/// When the connection breaks.
pub fn stable_offset(
    client: &mut RawClient,
    group: &str,
    topic: &str,
    partition: i32,
) -> Result<std::result::Result<Option<i64>, i16>> {
    let wanted = OffsetFetchRequestTopics::default()
        .with_name(topic_name(topic))
        .with_partition_indexes(vec![partition]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(Some(vec![wanted]));
    let request = OffsetFetchRequest::default()
        .with_groups(vec![group])
        .with_require_stable(true);
    let response = client.request(OFFSET_FETCH_VERSION, &request)?;
    let group = response.groups.first().context("no answer on the group")?;
    if group.error_code != 0 {
        return Ok(Err(group.error_code));
    }
    let partition = group
        .topics
        .first()
        .and_then(|topic| topic.partitions.first());
    let partition = partition.context("no answer on the partition")?;
    Ok(match partition.error_code {
        0 => Ok((partition.committed_offset >= 0).then_some(partition.committed_offset)),
        code => Err(code),
    })
}

/// What one partition of a Fetch answer brought a consumer.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub topic: String,
    pub partition: i32,
    pub error_code: i16,
    /// Data records from the asked offset on, without those of aborted transactions if it was `read_committed`.
    pub records: Vec<Record>,
    /// Where the consumer goes on.
    pub next: i64,
}

/// Reads many partitions, each from its own offset, as a consumer does.
///
/// # Errors
/// When the connection breaks or a batch is damaged.
pub fn fetch_all(
    client: &mut RawClient,
    wanted: &[(&str, i32, i64)],
    read_committed: bool,
    max_wait: Duration,
) -> Result<Vec<Fetched>> {
    let topics = wanted.iter().map(|(topic, partition, offset)| {
        let partition = FetchPartition::default()
            .with_partition(*partition)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(FETCH_BYTES);
        FetchTopic::default()
            .with_topic(topic_name(topic))
            .with_partitions(vec![partition])
    });
    let request = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(max_wait.as_millis() as i32)
        .with_min_bytes(1)
        .with_max_bytes(8 << 20)
        .with_isolation_level(i8::from(read_committed))
        .with_session_epoch(-1)
        .with_topics(topics.collect());
    let response = client.request(FETCH_VERSION, &request)?;
    ensure!(
        response.error_code == 0,
        "fetch: error {}",
        response.error_code
    );
    let mut all = Vec::new();
    for topic in &response.responses {
        for partition in &topic.partitions {
            let name = topic.topic.0.as_str();
            let index = partition.partition_index;
            let asked = wanted
                .iter()
                .find(|(topic, wanted, _)| *topic == name && *wanted == index);
            let (_, _, from) = asked.context("an answer on a partition that was not asked for")?;
            let (records, next) = filter(partition, *from, read_committed)?;
            all.push(Fetched {
                topic: name.to_owned(),
                partition: index,
                error_code: partition.error_code,
                records,
                next,
            });
        }
    }
    Ok(all)
}

/// Leaves out control records and, with `read_committed`, what the aborted list says: from a transaction's first offset to
/// its marker.
fn filter(
    partition: &PartitionData,
    from: i64,
    read_committed: bool,
) -> Result<(Vec<Record>, i64)> {
    let mut aborted = partition.aborted_transactions.clone().unwrap_or_default();
    aborted.sort_by_key(|transaction| transaction.first_offset);
    let mut aborted = aborted.into_iter().peekable();
    let mut aborting = BTreeSet::new();
    let (mut records, mut next) = (Vec::new(), from);
    for batch in batch::batches(&partition.records.clone().unwrap_or_default())? {
        let header = batch.header;
        while let Some(begun) = aborted.next_if(|begun| begun.first_offset < header.next_offset()) {
            aborting.insert(begun.producer_id.0);
        }
        next = next.max(header.next_offset());
        if header.control {
            aborting.remove(&header.producer.id);
        } else if !(read_committed
            && header.transactional
            && aborting.contains(&header.producer.id))
        {
            // A batch may start before the offset that was asked for.
            let own = batch
                .records
                .into_iter()
                .filter(|record| record.offset >= from);
            records.extend(own);
        }
    }
    Ok((records, next))
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
