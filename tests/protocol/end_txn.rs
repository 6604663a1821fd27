use harness::{Broker, RawClient};
use tidegate::kafka::handlers::end_txn::VERSIONS;

use crate::support::{ask, broker_with_orders};
use crate::transactions::{add, batch_of, committed_view, end, end_request, init, produce};

#[test]
fn transactions_are_committed_and_aborted_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    let mut aborts = 0;
    for version in VERSIONS {
        for is_commit in [true, false] {
            let producer = init(&mut client, "t");
            let early = ask(&mut client, version, &end_request("t", producer, true));
            assert_eq!(early.error_code, 48, "nothing is open, version {version}");
            assert_eq!(add(&mut client, "t", producer, 0), 0);
            let batch = batch_of(producer, 0, "value");
            assert_eq!(produce(&mut client, 11, Some("t"), (0, batch)), 0);
            let (before, _) = committed_view(&mut client, 0);
            let old = (producer.0, producer.1 - 1);
            let late = ask(&mut client, version, &end_request("t", old, is_commit));
            assert_eq!(late.error_code, if version < 2 { 47 } else { 90 });

            let request = end_request("t", producer, is_commit);
            let ended = ask(&mut client, version, &request);
            let told = (ended.producer_id.0, ended.producer_epoch);
            let expected = match version < 5 {
                true => (-1, -1),
                false => (producer.0, producer.1 + 1),
            };
            assert_eq!((ended.error_code, told), (0, expected), "version {version}");
            let again = ask(&mut client, version, &request);
            assert_eq!((again.error_code, again.producer_epoch), (0, expected.1));
            let other = end_request("t", producer, !is_commit);
            assert_eq!(ask(&mut client, version, &other).error_code, 48);
            let (stable, aborted) = committed_view(&mut client, 0);
            assert_eq!(stable, before + 2, "the record and its marker");
            aborts += usize::from(!is_commit);
            assert_eq!(aborted.len(), aborts, "version {version}");
        }
    }
}

#[test]
fn a_late_batch_does_not_slip_into_the_next_transaction() {
    let (_broker, mut client) = broker_with_orders();
    let first = init(&mut client, "t");
    let batch = batch_of(first, 0, "one");
    assert_eq!(produce(&mut client, 12, Some("t"), (0, batch)), 0);
    let second = end(&mut client, "t", first, false);
    assert_eq!(second, (first.0, first.1 + 1));
    let late = batch_of(first, 1, "late");
    assert_eq!(produce(&mut client, 12, Some("t"), (0, late)), 47);
    let next = batch_of(second, 0, "two");
    assert_eq!(produce(&mut client, 12, Some("t"), (0, next)), 0);
    let third = end(&mut client, "t", second, true);
    assert_eq!(third.1, second.1 + 1);
    let (_, aborted) = committed_view(&mut client, 0);
    assert_eq!(aborted, [first.0], "the first transaction alone");
}

#[test]
fn an_outcome_that_was_told_outlives_a_kill() {
    let (mut broker, mut client) = broker_with_orders();
    let first = init(&mut client, "t");
    for partition in 0..4 {
        let batch = batch_of(first, 0, "value");
        assert_eq!(produce(&mut client, 12, Some("t"), (partition, batch)), 0);
    }
    let second = end(&mut client, "t", first, true);
    client = restarted(&mut broker);
    assert_eq!(end(&mut client, "t", first, true), second, "a retry");
    assert_eq!(committed_view(&mut client, 1), (2, vec![]));
    let batch = batch_of(second, 0, "open");
    assert_eq!(produce(&mut client, 12, Some("t"), (0, batch)), 0);
    client = restarted(&mut broker);
    assert_eq!(
        committed_view(&mut client, 0).0,
        2,
        "the next one is open still"
    );
    let batch = batch_of(second, 1, "more");
    assert_eq!(produce(&mut client, 12, Some("t"), (0, batch)), 0);
    end(&mut client, "t", second, true);
    assert_eq!(committed_view(&mut client, 0), (5, vec![]));
}

fn restarted(broker: &mut Broker) -> RawClient {
    broker.kill9();
    broker.restart().unwrap_or_else(|error| panic!("{error:#}"));
    broker.connect()
}
