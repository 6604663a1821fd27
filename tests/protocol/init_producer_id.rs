//! InitProducerId: ids that are never given twice, and one instance of each transactional id.

use harness::Broker;
use kafka_protocol::messages::{InitProducerIdRequest, ProducerId};
use tidegate::kafka::handlers::init_producer_id::VERSIONS;

use crate::support::{ask, broker_with_orders};
use crate::transactions::{
    Identity, batch_of, committed_view, end_request, init, init_request, produce,
};

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
fn each_instance_of_a_transactional_id_fences_the_one_before_in_every_version() {
    let (mut broker, mut client) = broker_with_orders();
    let mut last: Option<Identity> = None;
    for version in VERSIONS {
        let response = ask(&mut client, version, &init_request("t"));
        assert_eq!(response.error_code, 0, "version {version}");
        let given = (response.producer_id.0, response.producer_epoch);
        if let Some(last) = last {
            assert_eq!(given, (last.0, last.1 + 1));
            let late = batch_of(last, 0, "late");
            assert_eq!(produce(&mut client, 12, Some("t"), (0, late)), 47);
        }
        last = Some(given);
        broker.kill9();
        broker.restart().unwrap_or_else(|error| panic!("{error:#}"));
        client = broker.connect();
    }
}

#[test]
fn a_new_instance_aborts_what_the_one_before_left_open() {
    let (_broker, mut client) = broker_with_orders();
    let first = init(&mut client, "t");
    let batch = batch_of(first, 0, "open");
    assert_eq!(produce(&mut client, 12, Some("t"), (0, batch)), 0);
    assert_eq!(committed_view(&mut client, 0), (0, vec![]));
    let second = init(&mut client, "t");
    assert_eq!((second.0, second.1 > first.1), (first.0, true));
    assert_eq!(committed_view(&mut client, 0), (2, vec![first.0]));
    let commit = ask(&mut client, 5, &end_request("t", first, true));
    assert_eq!(commit.error_code, 90, "PRODUCER_FENCED");
}

#[test]
fn a_producer_may_say_who_it_is() {
    let (_broker, mut client) = broker_with_orders();
    let (producer_id, epoch) = init(&mut client, "t");
    let mut claim = |version, producer_id, epoch| {
        let request = init_request("t")
            .with_producer_id(ProducerId(producer_id))
            .with_producer_epoch(epoch);
        let response = ask(&mut client, version, &request);
        (response.error_code, response.producer_epoch)
    };
    assert_eq!(claim(4, producer_id, epoch), (0, epoch + 1));
    assert_eq!(claim(4, producer_id, epoch), (0, epoch + 1), "a retry");
    assert_eq!(claim(5, producer_id, epoch + 7), (90, -1));
    assert_eq!(claim(3, producer_id, epoch + 7), (47, -1));
    assert_eq!(claim(4, producer_id + 100, epoch), (90, -1));
    assert_eq!(claim(4, producer_id, -1), (42, -1), "half an identity");
}

#[test]
fn timeouts_and_empty_ids_are_refused() {
    let (_broker, mut client) = broker_with_orders();
    let mut code = |request: InitProducerIdRequest| ask(&mut client, 4, &request).error_code;
    assert_eq!(code(init_request("t").with_transaction_timeout_ms(0)), 50);
    assert_eq!(
        code(init_request("t").with_transaction_timeout_ms(900_001)),
        50
    );
    assert_eq!(code(init_request("")), 42);
}
