use kafka_protocol::messages::CreatePartitionsRequest;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use tidegate::kafka::handlers::create_partitions::VERSIONS;

use crate::support::{ask, broker_with_orders, topic};

fn request(name: &str, count: i32) -> CreatePartitionsRequest {
    let topic = CreatePartitionsTopic::default()
        .with_name(topic(name))
        .with_count(count)
        .with_assignments(None);
    CreatePartitionsRequest::default().with_topics(vec![topic])
}

#[test]
fn a_topic_grows_and_never_shrinks_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    for (version, count) in VERSIONS.zip(5..) {
        let mut code = |name: &str, count: i32, validate_only: bool| {
            let request = request(name, count).with_validate_only(validate_only);
            ask(&mut client, version, &request).results[0].error_code
        };
        assert_eq!(code("orders", count, true), 0);
        assert_eq!(code("orders", count, false), 0);
        assert_eq!(code("orders", count, false), 37, "the count it has already");
        assert_eq!(code("orders", 1, false), 37);
        assert_eq!(code("missing", 9, false), 3);
        assert_eq!(client.list_offset("orders", count - 1, -1).ok(), Some(0));
    }
}
