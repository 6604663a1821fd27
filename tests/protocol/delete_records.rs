use harness::batch;
use kafka_protocol::messages::DeleteRecordsRequest;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use tidegate::kafka::handlers::delete_records::VERSIONS;

use crate::support::{ask, broker_with_orders, topic};

fn request(name: &str, partition: i32, offset: i64) -> DeleteRecordsRequest {
    let partition = DeleteRecordsPartition::default()
        .with_partition_index(partition)
        .with_offset(offset);
    let topic = DeleteRecordsTopic::default()
        .with_name(topic(name))
        .with_partitions(vec![partition]);
    DeleteRecordsRequest::default().with_topics(vec![topic])
}

#[test]
fn the_start_of_a_log_moves_forward_only_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    for number in 0..6 {
        let batch = batch::of_values(&[format!("order {number}")]);
        client.produce("orders", 0, -1, batch).expect("produced");
    }
    for (version, before) in VERSIONS.zip(1..) {
        let mut delete = |name: &str, partition: i32, offset: i64| {
            let answer = ask(&mut client, version, &request(name, partition, offset));
            let answer = &answer.topics[0].partitions[0];
            (answer.error_code, answer.low_watermark)
        };
        assert_eq!(delete("orders", 0, before), (0, before));
        assert_eq!(delete("orders", 0, 0), (0, before), "never back");
        assert_eq!(delete("orders", 0, 7), (1, -1), "above the high watermark");
        assert_eq!(delete("orders", 0, -2), (1, -1));
        assert_eq!(delete("orders", 99, 0), (3, -1));
        assert_eq!(delete("missing", 0, 0), (3, -1));
        assert_eq!(client.list_offset("orders", 0, -2).ok(), Some(before));
    }
    let answer = ask(&mut client, 2, &request("orders", 0, -1));
    assert_eq!(answer.topics[0].partitions[0].low_watermark, 6);
}

#[test]
fn a_topic_that_is_only_compacted_keeps_its_records() {
    let (_broker, mut client) = broker_with_orders();
    for (policy, code) in [("compact", 44), ("compact,delete", 0)] {
        let name = policy.replace(',', "-");
        client
            .create_topic(&name, 1, &[("cleanup.policy", policy)])
            .expect("created");
        let answer = ask(&mut client, 2, &request(&name, 0, -1));
        assert_eq!(answer.topics[0].partitions[0].error_code, code, "{policy}");
    }
}
