use harness::Broker;
use kafka_protocol::messages::DescribeClusterRequest;
use tidegate::kafka::handlers::describe_cluster::VERSIONS;

use crate::support::{ask, broker_with_orders};

#[test]
fn the_cluster_is_one_node_at_the_address_that_was_connected_to() {
    let (broker, mut client) = broker_with_orders();
    for version in VERSIONS {
        let request = DescribeClusterRequest::default();
        let cluster = ask(&mut client, version, &request);
        assert_eq!(cluster.brokers.len(), 1);
        assert_eq!(cluster.brokers[0].port, i32::from(broker.tcp().port()));
        assert_eq!(cluster.controller_id, cluster.brokers[0].broker_id);
        assert_eq!(cluster.cluster_authorized_operations, i32::MIN);
        let request = request.with_include_cluster_authorized_operations(true);
        let cluster = ask(&mut client, version, &request);
        assert!(cluster.cluster_authorized_operations > 0);
        if version >= 1 {
            let request = request.with_endpoint_type(2);
            assert_eq!(ask(&mut client, version, &request).error_code, 114);
        }
    }
}

#[test]
fn the_clusters_id_is_made_once_and_kept() {
    let mut broker = Broker::start();
    let id = |broker: &Broker| {
        let answer = ask(&mut broker.connect(), 0, &DescribeClusterRequest::default());
        answer.cluster_id.to_string()
    };
    let first = id(&broker);
    assert_eq!(first.len(), 22, "as Kafka's: {first}");
    broker.stop().expect("it stops");
    broker.restart().expect("it starts");
    assert_eq!(id(&broker), first);
    assert_ne!(id(&Broker::start()), first);
}
