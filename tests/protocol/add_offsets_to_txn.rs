use kafka_protocol::messages::{AddOffsetsToTxnRequest, ProducerId};
use tidegate::kafka::handlers::add_offsets_to_txn::VERSIONS;

use crate::support::{ask, broker_with_orders, group};
use crate::transactions::{id, init};

#[test]
fn a_group_is_added_and_strangers_refused_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    for version in VERSIONS {
        let (producer_id, epoch) = init(&mut client, "t");
        let mut add = |producer_id, epoch| {
            let request = AddOffsetsToTxnRequest::default()
                .with_transactional_id(id("t"))
                .with_producer_id(ProducerId(producer_id))
                .with_producer_epoch(epoch)
                .with_group_id(group("g"));
            ask(&mut client, version, &request).error_code
        };
        assert_eq!(add(producer_id, epoch), 0, "version {version}");
        let fenced = if version < 2 { 47 } else { 90 };
        assert_eq!(add(producer_id, epoch - 1), fenced);
        assert_eq!(add(producer_id + 100, 0), 49);
    }
}
