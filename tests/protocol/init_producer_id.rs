//! InitProducerId: ids that are never given twice, and transactions refused.

use harness::Broker;
use kafka_protocol::messages::{InitProducerIdRequest, TransactionalId};
use kafka_protocol::protocol::StrBytes;

#[test]
fn ids_are_never_given_twice_even_across_a_crash() {
    let mut broker = Broker::start();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let mut client = broker.connect();
        for _ in 0..5 {
            let (id, epoch) = client.init_producer_id().expect("an id");
            assert_eq!(epoch, 0);
            assert!(seen.insert(id), "{id} was given twice");
        }
        broker.kill9();
        broker.restart().expect("restarted");
    }
}

#[test]
fn a_transactional_id_is_refused() {
    let broker = Broker::start();
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("t"))))
        .with_transaction_timeout_ms(1_000)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    let response = broker.connect().request(4, &request).expect("an answer");
    assert_eq!(
        (response.error_code, response.producer_id.0),
        (42, -1),
        "INVALID_REQUEST"
    );
}
