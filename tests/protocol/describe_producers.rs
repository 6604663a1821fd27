use kafka_protocol::messages::DescribeProducersRequest;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use tidegate::kafka::handlers::describe_producers::VERSIONS;

use crate::support::{ask, broker_with_orders, topic};
use crate::transactions::{batch_of, end, init, produce};

#[test]
fn producers_and_their_transactions_are_told() {
    let (_broker, mut client) = broker_with_orders();
    let producer = init(&mut client, "t");
    let batch = batch_of(producer, 0, "value");
    assert_eq!(produce(&mut client, 12, Some("t"), (1, batch)), 0);
    for version in VERSIONS {
        let mut describe = |name: &str| {
            let asked = TopicRequest::default()
                .with_name(topic(name))
                .with_partition_indexes(vec![0, 1, 77]);
            let request = DescribeProducersRequest::default().with_topics(vec![asked]);
            ask(&mut client, version, &request)
                .topics
                .remove(0)
                .partitions
        };
        let partitions = describe("orders");
        assert_eq!(partitions[0].active_producers.len(), 0);
        let state = &partitions[1].active_producers[0];
        let seen = (
            state.producer_id.0,
            state.producer_epoch,
            state.last_sequence,
        );
        assert_eq!(seen, (producer.0, i32::from(producer.1), 0));
        assert_eq!(
            (state.coordinator_epoch, state.current_txn_start_offset),
            (-1, 0)
        );
        assert_eq!(partitions[2].error_code, 3);
        assert!(
            describe("missing")
                .iter()
                .all(|partition| partition.error_code == 3)
        );
    }
    end(&mut client, "t", producer, true);
    let asked = TopicRequest::default()
        .with_name(topic("orders"))
        .with_partition_indexes(vec![1]);
    let request = DescribeProducersRequest::default().with_topics(vec![asked]);
    let response = ask(&mut client, 0, &request);
    let state = &response.topics[0].partitions[0].active_producers[0];
    assert_eq!(
        (state.coordinator_epoch, state.current_txn_start_offset),
        (0, -1)
    );
}
