use kafka_protocol::messages::DescribeLogDirsRequest;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use tidegate::kafka::handlers::describe_log_dirs::VERSIONS;

use crate::support::{ask, broker_with_orders, topic};

#[test]
fn partitions_are_told_with_their_size_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    for version in VERSIONS {
        let asked = DescribableLogDirTopic::default()
            .with_topic(topic("orders"))
            .with_partitions(vec![0, 99]);
        let request = DescribeLogDirsRequest::default().with_topics(Some(vec![asked]));
        let results = ask(&mut client, version, &request).results;
        let partitions = &results[0].topics[0].partitions;
        let indexes: Vec<_> = partitions.iter().map(|p| p.partition_index).collect();
        assert_eq!(indexes, [0], "a partition that does not exist is left out");

        let every = DescribeLogDirsRequest::default().with_topics(None);
        let results = ask(&mut client, version, &every).results;
        let orders = results[0].topics.iter().find(|t| &*t.name.0 == "orders");
        assert_eq!(orders.map(|topic| topic.partitions.len()), Some(4));
    }
}
