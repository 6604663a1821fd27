mod random;

use super::*;

const NOW: TimestampMs = 1_000_000;
const TIMEOUT: i32 = 60_000;

fn ready(step: Result<Init, Refusal>) -> Transaction {
    match step {
        Ok(Init::Ready(transaction)) => transaction,
        other => panic!("not ready: {other:?}"),
    }
}

fn prepared(step: Result<End, Refusal>) -> Transaction {
    match step {
        Ok(End::Prepared(transaction)) => transaction,
        other => panic!("not prepared: {other:?}"),
    }
}

fn begun() -> Transaction {
    ready(Transaction::new(7, NOW).init(None, TIMEOUT, NOW, None))
}

fn orders(partition: PartitionIndex) -> Partitions {
    Partitions::from_iter([("orders", partition)])
}

fn ongoing(of: &Transaction, version: ClientVersion) -> Transaction {
    let added = of.add(of.producer, &orders(0), version, NOW);
    added.unwrap().expect("something was added")
}

fn ends(of: &Transaction, is_commit: bool, version: ClientVersion) -> EndRequest {
    EndRequest {
        producer: of.producer,
        is_commit,
        version,
    }
}

fn at_epoch(epoch: i16) -> Transaction {
    let mut transaction = begun();
    transaction.producer.epoch = epoch;
    transaction
}

use ClientVersion::{BumpsEpoch, KeepsEpoch};

#[test]
fn each_instance_gets_the_next_epoch_and_fences_the_one_before() {
    let first = begun();
    assert_eq!(first.producer, Producer { id: 7, epoch: 0 });
    let second = ready(first.init(None, TIMEOUT, NOW, None));
    assert_eq!(second.producer, Producer { id: 7, epoch: 1 });
    let late = second.add(first.producer, &orders(0), KeepsEpoch, NOW);
    assert_eq!(late, Err(Refusal::Fenced));
    let stranger = Producer { id: 8, epoch: 1 };
    assert_eq!(second.check(stranger), Err(Refusal::ProducerIdMapping));
}

#[test]
fn a_producer_that_says_who_it_is_goes_on_only_if_nobody_came_since() {
    let first = begun();
    let asked = Some(first.producer);
    let second = ready(first.init(asked, TIMEOUT, NOW, None));
    assert_eq!(second.producer.epoch, 1);
    let again = ready(second.init(asked, TIMEOUT, NOW, None));
    assert_eq!(again.producer.epoch, 1, "a retry is given the same");
    let newer = ready(second.init(None, TIMEOUT, NOW, None));
    assert_eq!(newer.init(asked, TIMEOUT, NOW, None), Err(Refusal::Fenced));
    let stranger = Some(Producer { id: 9, epoch: 0 });
    assert_eq!(
        newer.init(stranger, TIMEOUT, NOW, None),
        Err(Refusal::Fenced)
    );
    let open = ongoing(&second, BumpsEpoch);
    assert_eq!(open.init(asked, TIMEOUT, NOW, None), Err(Refusal::Fenced));
}

#[test]
fn a_new_instance_aborts_what_is_open_first() {
    let open = ongoing(&begun(), KeepsEpoch);
    let Ok(Init::Fence(fenced)) = open.init(None, TIMEOUT, NOW, None) else {
        panic!("the open transaction was not fenced");
    };
    assert_eq!(fenced.state, State::PrepareAbort);
    assert_eq!(fenced.partitions, open.partitions);
    assert_eq!(
        fenced.init(None, TIMEOUT, NOW, None),
        Err(Refusal::Concurrent)
    );
    let complete = fenced.complete(NOW);
    for version in [KeepsEpoch, BumpsEpoch] {
        for is_commit in [true, false] {
            let late = complete.end(ends(&open, is_commit, version), NOW, None);
            assert_eq!(late, Err(Refusal::Fenced));
            let late = complete
                .clone()
                .restored()
                .end(ends(&open, is_commit, version), NOW, None);
            assert_eq!(late, Err(Refusal::Fenced), "after a restart");
        }
    }
    let next = ready(complete.init(None, TIMEOUT, NOW, None));
    assert!(next.producer.epoch > complete.producer.epoch);
}

#[test]
fn epochs_that_run_out_bring_a_new_producer_id() {
    let last = at_epoch(LAST_EPOCH);
    assert_eq!(
        last.init(None, TIMEOUT, NOW, None),
        Ok(Init::NeedsProducerId)
    );
    let asked = Some(last.producer);
    let next = ready(last.init(asked, TIMEOUT, NOW, Some(8)));
    assert_eq!(next.producer, Producer { id: 8, epoch: 0 });
    let again = ready(next.init(asked, TIMEOUT, NOW, Some(9)));
    assert_eq!(again.producer, next.producer, "a retry is given the same");

    let open = ongoing(&last, BumpsEpoch);
    let commit = ends(&open, true, BumpsEpoch);
    assert_eq!(open.end(commit, NOW, None), Ok(End::NeedsProducerId));
    let deciding = prepared(open.end(commit, NOW, Some(8)));
    assert_eq!(
        deciding.producer,
        Producer {
            id: 7,
            epoch: LAST_EPOCH + 1
        }
    );
    let complete = deciding.complete(NOW);
    assert_eq!(complete.producer, Producer { id: 8, epoch: 0 });
    assert_eq!(complete.producer, deciding.successor());
    for complete in [complete.clone(), complete.restored()] {
        let again = complete.end(commit, NOW, None);
        assert_eq!(again, Ok(End::Done(complete.producer)));
    }
    let fenced = open.fence(NOW);
    assert_eq!(
        fenced.producer,
        Producer {
            id: 7,
            epoch: i16::MAX
        }
    );
}

#[test]
fn partitions_are_added_until_the_outcome_is_decided() {
    let open = ongoing(&begun(), KeepsEpoch);
    let same = open.add(open.producer, &orders(0), KeepsEpoch, NOW);
    assert_eq!(same, Ok(None));
    let more = open
        .add(open.producer, &orders(1), KeepsEpoch, NOW + 1)
        .unwrap()
        .unwrap();
    assert_eq!((more.partitions.len(), more.started_ms), (2, NOW));
    assert_eq!(more.verify(open.producer, "orders", 1), Ok(()));
    let outside = more.verify(open.producer, "orders", 2);
    assert_eq!(outside, Err(Refusal::NotInTransaction));
    let decided = prepared(more.end(ends(&more, true, KeepsEpoch), NOW, None));
    let late = decided.add(open.producer, &orders(2), KeepsEpoch, NOW);
    assert_eq!(late, Err(Refusal::Concurrent));
    let late = decided.verify(open.producer, "orders", 0);
    assert_eq!(late, Err(Refusal::Concurrent));
    let next = ongoing(&decided.complete(NOW), KeepsEpoch);
    assert_eq!(next.partitions.len(), 1, "the next transaction begins anew");
    let all: Vec<_> = (0..10_001).map(|index| ("orders", index)).collect();
    let too_many = next.add(next.producer, &Partitions::from_iter(all), KeepsEpoch, NOW);
    assert_eq!(too_many, Err(Refusal::TooManyPartitions));
}

/// What EndTxn says in each state: of version 1, and of version 2 as a retry and as the current producer (KIP-890's table).
#[test]
fn ends_are_judged_as_kafka_does() {
    let done = |of: &Transaction| Ok(End::Done(of.producer));
    let wrong = |state| Err(Refusal::State(state));
    let begun = begun();
    for is_commit in [true, false] {
        let (complete, prepare) = match is_commit {
            true => (State::CompleteCommit, State::PrepareCommit),
            false => (State::CompleteAbort, State::PrepareAbort),
        };
        let of_version = |version, is_commit| EndRequest {
            producer: begun.producer,
            is_commit,
            version,
        };
        let old = |is_commit| of_version(KeepsEpoch, is_commit);
        assert_eq!(begun.end(old(is_commit), NOW, None), wrong(State::Empty));
        let open = ongoing(&begun, KeepsEpoch);
        let decided = prepared(open.end(old(is_commit), NOW, None));
        assert_eq!((decided.state, decided.producer), (prepare, begun.producer));
        assert_eq!(
            decided.end(old(is_commit), NOW, None),
            Err(Refusal::Concurrent)
        );
        assert_eq!(decided.end(old(!is_commit), NOW, None), wrong(prepare));
        let ended = decided.complete(NOW);
        assert_eq!(ended.end(old(is_commit), NOW, None), done(&ended));
        assert_eq!(ended.end(old(!is_commit), NOW, None), wrong(complete));

        let retry = |is_commit| of_version(BumpsEpoch, is_commit);
        let decided = prepared(ongoing(&begun, BumpsEpoch).end(retry(is_commit), NOW, None));
        assert_eq!((decided.state, decided.producer.epoch), (prepare, 1));
        assert_eq!(
            decided.end(retry(is_commit), NOW, None),
            Err(Refusal::Concurrent)
        );
        assert_eq!(decided.end(retry(!is_commit), NOW, None), wrong(prepare));
        let ended = decided.complete(NOW);
        for ended in [ended.clone(), ended.restored()] {
            assert_eq!(ended.end(retry(is_commit), NOW, None), done(&ended));
            assert_eq!(ended.end(retry(!is_commit), NOW, None), wrong(complete));
            let commit = ended.end(ends(&ended, true, BumpsEpoch), NOW, None);
            assert_eq!(commit, wrong(complete), "there is nothing to commit");
            let abort = prepared(ended.end(ends(&ended, false, BumpsEpoch), NOW, None));
            assert_eq!((abort.producer.epoch, abort.partitions.len()), (2, 0));
        }
    }
}

#[test]
fn an_epoch_that_its_own_producer_raised_is_no_retry_of_an_end() {
    let before = begun();
    let raised = ready(before.init(Some(before.producer), TIMEOUT, NOW, None));
    let ended = ongoing(&raised, KeepsEpoch);
    let commit = ended.end(ends(&ended, true, KeepsEpoch), NOW, None);
    let committed = prepared(commit).complete(NOW);
    let late = committed.end(ends(&before, true, BumpsEpoch), NOW, None);
    assert_eq!(late, Err(Refusal::Fenced), "it was aborted");
}

#[test]
fn an_empty_transaction_can_be_aborted_with_a_new_epoch() {
    let begun = begun();
    let commit = begun.end(ends(&begun, true, BumpsEpoch), NOW, None);
    assert_eq!(commit, Err(Refusal::State(State::Empty)));
    let abort = prepared(begun.end(ends(&begun, false, BumpsEpoch), NOW, None));
    assert_eq!(abort.producer.epoch, 1);
    assert!(abort.partitions.is_empty());
    // An epoch that was never given is no retry.
    let again = ready(begun.init(Some(begun.producer), TIMEOUT, NOW, None));
    let late = again.end(ends(&begun, false, BumpsEpoch), NOW, None);
    assert_eq!(late, Err(Refusal::Fenced));
}

#[test]
fn deadlines_and_expiry_are_of_open_and_of_idle_ones() {
    let begun = begun();
    assert_eq!(begun.deadline_ms(), None);
    let open = ongoing(&begun, KeepsEpoch);
    assert_eq!(open.deadline_ms(), Some(NOW + i64::from(TIMEOUT)));
    let decided = open.fence(NOW);
    assert_eq!(decided.deadline_ms(), None);
    let expired = |of: &Transaction| (of.is_expired(NOW + 9, 10), of.is_expired(NOW + 10, 10));
    assert_eq!(expired(&begun), (false, true));
    assert_eq!(expired(&open), (false, false));
    assert_eq!(expired(&decided), (false, false));
    assert_eq!(expired(&decided.complete(NOW)), (false, true));
}
