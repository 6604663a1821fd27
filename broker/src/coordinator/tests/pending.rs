//! Offsets that are committed in transactions, over a log in memory.

use futures_util::FutureExt;

use super::*;
use crate::coordinator::transaction::Producer;
use crate::log::{MarkerOutcome, TransactionMarker};

const FIRST: Producer = Producer { id: 7, epoch: 0 };
const SECOND: Producer = Producer { id: 8, epoch: 0 };

fn marker(producer: Producer, outcome: MarkerOutcome) -> TransactionMarker {
    TransactionMarker {
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        outcome,
        coordinator_epoch: 0,
    }
}

impl Broker {
    async fn pend(&self, producer: Producer, group: &str, offset: Offset) {
        let commit = committing(group, offset);
        let durable = self.coordinator.commit_in_transaction(producer, commit);
        soon(durable.unwrap()).await.unwrap();
    }

    fn ending(&self, producer: Producer, outcome: MarkerOutcome) -> Durable<String> {
        let partition = usize::try_from(self.coordinator.partition_of("g")).unwrap();
        let marker = marker(producer, outcome);
        self.coordinator.end_transaction(partition, marker).unwrap()
    }

    async fn end(&self, producer: Producer, outcome: MarkerOutcome) {
        soon(self.ending(producer, outcome)).await.unwrap();
    }

    fn is_unstable(&self) -> bool {
        !self.coordinator.unstable_offsets("g", None).is_empty()
    }
}

#[tokio::test]
async fn offsets_count_when_their_transaction_commits() {
    let broker = Broker::start();
    broker.pend(FIRST, "g", 5).await;
    broker.pend(SECOND, "g", 6).await;
    assert_eq!((broker.offset("g"), broker.is_unstable()), (None, true));
    broker.end(SECOND, MarkerOutcome::Abort).await;
    assert_eq!((broker.offset("g"), broker.is_unstable()), (None, true));
    broker.end(FIRST, MarkerOutcome::Commit).await;
    assert_eq!((broker.offset("g"), broker.is_unstable()), (Some(5), false));
    broker.end(FIRST, MarkerOutcome::Commit).await;
    assert_eq!(
        broker.offset("g"),
        Some(5),
        "there was nothing left to commit"
    );
}

#[tokio::test]
async fn what_a_transaction_commits_is_shown_when_its_marker_is_durable() {
    let broker = Broker::start();
    broker.log.hold(true);
    let commit = committing("g", 5);
    let mut pending = broker
        .coordinator
        .commit_in_transaction(FIRST, commit)
        .unwrap();
    assert!((&mut pending).now_or_never().is_none());
    broker.log.hold(false);
    soon(pending).await.unwrap();
    broker.log.hold(true);
    let mut ending = broker.ending(FIRST, MarkerOutcome::Commit);
    assert!((&mut ending).now_or_never().is_none());
    assert_eq!((broker.offset("g"), broker.is_unstable()), (None, true));
    drop(ending);
    broker.log.hold(false);
    until(|| !broker.is_unstable()).await;
    assert_eq!(broker.offset("g"), Some(5), "it went on without its caller");
}

#[tokio::test]
async fn open_and_ended_transactions_are_read_back() {
    let broker = Broker::start();
    broker.commit(committing("g", 4)).await.unwrap();
    broker.pend(FIRST, "g", 5).await;
    let broker = broker.restart();
    assert_eq!((broker.offset("g"), broker.is_unstable()), (Some(4), true));
    broker.end(FIRST, MarkerOutcome::Commit).await;
    broker.pend(FIRST, "g", 6).await;
    broker.end(FIRST, MarkerOutcome::Abort).await;
    let broker = broker.restart();
    assert_eq!((broker.offset("g"), broker.is_unstable()), (Some(5), false));
    // A record that came later than the transaction's overtakes it, then and when it is read back.
    broker.pend(FIRST, "g", 8).await;
    broker.commit(committing("g", 9)).await.unwrap();
    broker.end(FIRST, MarkerOutcome::Commit).await;
    assert_eq!(broker.offset("g"), Some(9));
    assert_eq!(broker.restart().offset("g"), Some(9));
}

#[tokio::test]
async fn a_group_that_is_deleted_takes_what_is_pending_with_it() {
    let broker = Broker::start();
    broker.pend(FIRST, "g", 5).await;
    soon(broker.coordinator.delete("g")).await.unwrap();
    broker.end(FIRST, MarkerOutcome::Commit).await;
    assert_eq!(broker.offset("g"), None);
    assert_eq!(broker.restart().offset("g"), None);
}

#[tokio::test]
async fn only_members_of_the_generation_commit_in_transactions() {
    let broker = Broker::start();
    let member_id = broker.stable_member("g").await;
    let commit = |member_id: &str, generation| CommitRequest {
        member_id: member_id.into(),
        generation,
        ..committing("g", 5)
    };
    let refused = |request| {
        let outcome = broker.coordinator.commit_in_transaction(FIRST, request);
        outcome.err()
    };
    assert_eq!(
        refused(commit(&member_id, 2)),
        Some(GroupError::IllegalGeneration)
    );
    assert_eq!(
        refused(commit("stranger", 1)),
        Some(GroupError::UnknownMember)
    );
    assert_eq!(refused(commit(&member_id, 1)), None);
    assert_eq!(refused(commit("", -1)), None);
    let missing = CommitRequest {
        generation: 1,
        ..committing("missing", 5)
    };
    assert_eq!(refused(missing), Some(GroupError::IllegalGeneration));
    let long = CommitRequest {
        offsets: vec![OffsetToCommit {
            metadata: "eleven long".into(),
            ..committing("g", 5).offsets.remove(0)
        }],
        ..committing("g", 5)
    };
    assert_eq!(refused(long), Some(GroupError::OffsetMetadataTooLarge));
}
