use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, ProducerId};
use tidegate::kafka::handlers::add_partitions_to_txn::VERSIONS;

use crate::support::{ask, broker_with_orders, topic};
use crate::transactions::{Identity, add, id, init};

fn request(version: i16, producer: Identity, verify_only: bool) -> AddPartitionsToTxnRequest {
    let topics = vec![
        AddPartitionsToTxnTopic::default()
            .with_name(topic("orders"))
            .with_partitions(vec![0, 1]),
    ];
    if version < 4 {
        return AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id("t"))
            .with_v3_and_below_producer_id(ProducerId(producer.0))
            .with_v3_and_below_producer_epoch(producer.1)
            .with_v3_and_below_topics(topics);
    }
    let transaction = AddPartitionsToTxnTransaction::default()
        .with_transactional_id(id("t"))
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_verify_only(verify_only)
        .with_topics(topics);
    AddPartitionsToTxnRequest::default().with_transactions(vec![transaction])
}

fn codes(
    client: &mut harness::RawClient,
    version: i16,
    request: &AddPartitionsToTxnRequest,
) -> Vec<i16> {
    let response = ask(client, version, request);
    let topics = match version < 4 {
        true => response.results_by_topic_v3_and_below,
        false => response.results_by_transaction[0].topic_results.clone(),
    };
    let partitions = topics.iter().flat_map(|topic| &topic.results_by_partition);
    partitions.map(|p| p.partition_error_code).collect()
}

#[test]
fn partitions_are_added_and_strangers_refused_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    for version in VERSIONS {
        let producer = init(&mut client, "t");
        if version >= 4 {
            let outside = if version == 4 { 48 } else { 120 };
            let verify = request(version, producer, true);
            assert_eq!(codes(&mut client, version, &verify), [outside; 2]);
        }
        let add = request(version, producer, false);
        assert_eq!(
            codes(&mut client, version, &add),
            [0, 0],
            "version {version}"
        );
        if version >= 4 {
            let verify = request(version, producer, true);
            assert_eq!(codes(&mut client, version, &verify), [0, 0]);
        }
        let old = request(version, (producer.0, producer.1 - 1), false);
        let fenced = if version < 2 { 47 } else { 90 };
        assert_eq!(codes(&mut client, version, &old), [fenced; 2]);
        let stranger = request(version, (producer.0 + 100, 0), false);
        assert_eq!(codes(&mut client, version, &stranger), [49; 2]);
    }
}

#[test]
fn one_bad_partition_keeps_the_others_out() {
    let (_broker, mut client) = broker_with_orders();
    let producer = init(&mut client, "t");
    let mut wrong = request(3, producer, false);
    wrong.v3_and_below_topics[0].partitions = vec![0, 77];
    let internal = AddPartitionsToTxnTopic::default()
        .with_name(topic("__consumer_offsets"))
        .with_partitions(vec![0]);
    wrong.v3_and_below_topics.push(internal);
    assert_eq!(codes(&mut client, 3, &wrong), [55, 3, 29]);
    assert_eq!(add(&mut client, "t", producer, 0), 0);
}
