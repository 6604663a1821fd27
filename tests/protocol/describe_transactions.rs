use kafka_protocol::messages::DescribeTransactionsRequest;
use tidegate::kafka::handlers::describe_transactions::VERSIONS;

use crate::support::{ask, broker_with_orders};
use crate::transactions::{add, end, id, init};

#[test]
fn states_and_partitions_are_told() {
    let (_broker, mut client) = broker_with_orders();
    let producer = init(&mut client, "t");
    for partition in [2, 0] {
        assert_eq!(add(&mut client, "t", producer, partition), 0);
    }
    for version in VERSIONS {
        let ids = vec![id("t"), id("missing"), id("")];
        let request = DescribeTransactionsRequest::default().with_transactional_ids(ids);
        let states = ask(&mut client, version, &request).transaction_states;
        let codes: Vec<_> = states.iter().map(|state| state.error_code).collect();
        assert_eq!(codes, [0, 105, 42]);
        let open = &states[0];
        assert_eq!(&*open.transaction_state, "Ongoing");
        assert_eq!((open.producer_id.0, open.producer_epoch), producer);
        assert_eq!(open.transaction_timeout_ms, 60_000);
        assert!(open.transaction_start_time_ms > 0);
        assert_eq!(open.topics[0].partitions, [0, 2]);
    }
    end(&mut client, "t", producer, false);
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id("t")]);
    let states = ask(&mut client, 0, &request).transaction_states;
    assert_eq!(&*states[0].transaction_state, "CompleteAbort");
    assert_eq!(states[0].topics.len(), 0);
}
