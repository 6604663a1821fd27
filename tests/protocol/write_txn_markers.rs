use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::{ProducerId, WriteTxnMarkersRequest};
use tidegate::kafka::handlers::write_txn_markers::VERSIONS;

use crate::support::{ask, broker_with_orders, topic};
use crate::transactions::{batch_of, committed_view, init, produce};

#[test]
fn a_hanging_transaction_is_aborted() {
    let (_broker, mut client) = broker_with_orders();
    for version in VERSIONS {
        let producer = init(&mut client, "t");
        let batch = batch_of(producer, 0, "value");
        assert_eq!(produce(&mut client, 12, Some("t"), (0, batch)), 0);
        let mut mark = |epoch| {
            let orders = WritableTxnMarkerTopic::default()
                .with_name(topic("orders"))
                .with_partition_indexes(vec![0, 77]);
            let marker = WritableTxnMarker::default()
                .with_producer_id(ProducerId(producer.0))
                .with_producer_epoch(epoch)
                .with_coordinator_epoch(0)
                .with_topics(vec![orders]);
            let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
            let response = ask(&mut client, version, &request);
            let partitions = &response.markers[0].topics[0].partitions;
            partitions.iter().map(|p| p.error_code).collect::<Vec<_>>()
        };
        assert_eq!(mark(producer.1 - 1), [47, 3]);
        assert_eq!(mark(producer.1), [0, 3]);
        assert_eq!(committed_view(&mut client, 0), (2, vec![producer.0]));
    }
}
