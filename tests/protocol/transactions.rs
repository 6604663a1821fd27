//! A transactional producer in a few words, for the tests of every API that it uses.

use bytes::Bytes;
use harness::{RawClient, batch};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, FetchRequest, InitProducerIdRequest, ProduceRequest,
    ProducerId, TransactionalId, TxnOffsetCommitRequest,
};

use crate::support::{ask, group, text, topic};

/// A producer id and an epoch.
pub type Identity = (i64, i16);

pub fn id(name: &str) -> TransactionalId {
    TransactionalId(text(name))
}

pub fn init_request(name: &str) -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(Some(id(name)))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}

/// The identity of a new instance.
#[track_caller]
pub fn init(client: &mut RawClient, name: &str) -> Identity {
    let response = ask(client, 4, &init_request(name));
    assert_eq!(response.error_code, 0, "InitProducerId {name}");
    (response.producer_id.0, response.producer_epoch)
}

/// Adds a partition of `orders` as clients of transaction version 1 do: the code.
#[track_caller]
pub fn add(client: &mut RawClient, name: &str, producer: Identity, partition: i32) -> i16 {
    let orders = AddPartitionsToTxnTopic::default()
        .with_name(topic("orders"))
        .with_partitions(vec![partition]);
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id(name))
        .with_v3_and_below_producer_id(ProducerId(producer.0))
        .with_v3_and_below_producer_epoch(producer.1)
        .with_v3_and_below_topics(vec![orders]);
    let response = ask(client, 3, &request);
    response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
}

/// A batch of one record in the producer's transaction.
pub fn batch_of(producer: Identity, sequence: i32, value: &str) -> Bytes {
    let sender = batch::Producer {
        id: producer.0,
        epoch: producer.1,
        base_sequence: sequence,
    };
    let mut bytes = batch::build(&[(None, value.as_bytes())], sender).to_vec();
    bytes[batch::ATTRIBUTES_AT + 1] |= 1 << 4;
    batch::seal(&mut bytes);
    bytes.into()
}

/// Sends a batch to a partition of `orders`: the code.
#[track_caller]
pub fn produce(
    client: &mut RawClient,
    version: i16,
    name: Option<&str>,
    (partition, batch): (i32, Bytes),
) -> i16 {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch));
    let orders = TopicProduceData::default()
        .with_name(topic("orders"))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_transactional_id(name.map(id))
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![orders]);
    let response = ask(client, version, &request);
    response.responses[0].partition_responses[0].error_code
}

pub fn end_request(name: &str, producer: Identity, is_commit: bool) -> EndTxnRequest {
    EndTxnRequest::default()
        .with_transactional_id(id(name))
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_committed(is_commit)
}

/// Ends a transaction with transaction version 2: the next identity.
#[track_caller]
pub fn end(client: &mut RawClient, name: &str, producer: Identity, is_commit: bool) -> Identity {
    let response = ask(client, 5, &end_request(name, producer, is_commit));
    assert_eq!(response.error_code, 0, "EndTxn {name}");
    (response.producer_id.0, response.producer_epoch)
}

/// Commits an offset of partition 0 of `orders` for a group that says nothing of its members.
pub fn offset_request(
    name: &str,
    producer: Identity,
    group_name: &str,
    offset: i64,
) -> TxnOffsetCommitRequest {
    let partition = TxnOffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text("note")));
    let orders = TxnOffsetCommitRequestTopic::default()
        .with_name(topic("orders"))
        .with_partitions(vec![partition]);
    TxnOffsetCommitRequest::default()
        .with_transactional_id(id(name))
        .with_group_id(group(group_name))
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_generation_id(-1)
        .with_topics(vec![orders])
}

/// What a committed reader is told of a partition of `orders`: last stable offset, and the producers of aborted transactions.
#[track_caller]
pub fn committed_view(client: &mut RawClient, partition: i32) -> (i64, Vec<i64>) {
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    let asked = FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_partition_max_bytes(1 << 20);
    let orders = FetchTopic::default()
        .with_topic(topic("orders"))
        .with_partitions(vec![asked]);
    let request = FetchRequest::default()
        .with_max_wait_ms(0)
        .with_max_bytes(1 << 20)
        .with_isolation_level(1)
        .with_session_epoch(-1)
        .with_topics(vec![orders]);
    let response = ask(client, 11, &request);
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.error_code, 0);
    let aborted = data.aborted_transactions.iter().flatten();
    let aborted = aborted.map(|transaction| transaction.producer_id.0);
    (data.last_stable_offset, aborted.collect())
}
