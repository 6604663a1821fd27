mod shares;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::coordinator::tests::memory::MemoryLog;
use crate::log::{MarkerOutcome, OpenTransaction};

const NOW_MS: i64 = 1_000_000;
const TIMEOUT_MS: i32 = 60_000;

/// Partitions in memory: what was marked, what is refused, and what a crash left open.
#[derive(Clone, Debug)]
struct Partitioned {
    marks: Arc<Mutex<Vec<(String, PartitionIndex, TransactionMarker)>>>,
    refusing: Arc<Mutex<BTreeSet<String>>>,
    is_held: watch::Sender<bool>,
    open: Arc<Mutex<Vec<(String, PartitionIndex, OpenTransaction)>>>,
    next_producer_id: Arc<AtomicI64>,
}

impl Partitioned {
    fn new() -> Self {
        Self {
            marks: Arc::default(),
            refusing: Arc::default(),
            is_held: watch::Sender::new(false),
            open: Arc::default(),
            next_producer_id: Arc::default(),
        }
    }

    fn take_marks(&self) -> Vec<(String, PartitionIndex, TransactionMarker)> {
        let mut marks = std::mem::take(&mut *self.marks.lock());
        marks.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
        marks
    }

    fn leave_open(&self, topic: &str, partition: PartitionIndex, producer: Producer) {
        let open = OpenTransaction {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            first_offset: 0,
            since: NOW_MS,
        };
        self.open.lock().push((topic.to_owned(), partition, open));
    }
}

impl Surroundings for Partitioned {
    fn new_producer_id(&self) -> Result<i64, String> {
        Ok(self.next_producer_id.fetch_add(1, Ordering::Relaxed))
    }

    fn mark(
        &self,
        topic: &str,
        partition: PartitionIndex,
        marker: TransactionMarker,
    ) -> Result<Option<Durable<String>>, AppendError> {
        if topic == "deleted" {
            return Ok(None);
        }
        if self.refusing.lock().contains(topic) {
            return Err(AppendError::Storage("the disk is full".into()));
        }
        self.marks
            .lock()
            .push((topic.to_owned(), partition, marker));
        let mut is_held = self.is_held.subscribe();
        let durable = async move {
            let released = is_held.wait_for(|is_held| !is_held).await;
            released.map(|_| ()).map_err(|error| error.to_string())
        };
        Ok(Some(durable.boxed()))
    }

    fn open_transactions(&self) -> Vec<(String, PartitionIndex, OpenTransaction)> {
        self.open.lock().clone()
    }
}

fn config() -> TransactionConfig {
    TransactionConfig {
        max_ids: 3,
        ..TransactionConfig::default()
    }
}

struct Broker {
    transactions: Arc<Transactions>,
    config: TransactionConfig,
    log: MemoryLog,
    partitions: Partitioned,
    clock: Clock,
    timers: JoinHandle<()>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.timers.abort();
    }
}

impl Broker {
    fn start() -> Self {
        Self::start_with(config())
    }

    fn start_with(config: TransactionConfig) -> Self {
        let clock = Clock::manual(NOW_MS);
        Self::open(config, MemoryLog::new(), Partitioned::new(), clock)
    }

    fn open(
        config: TransactionConfig,
        log: MemoryLog,
        partitions: Partitioned,
        clock: Clock,
    ) -> Self {
        let state = TransactionLog(Box::new(log.clone()));
        let surroundings = Box::new(partitions.clone());
        let transactions = Transactions::open(config.clone(), state, surroundings, clock.clone());
        transactions.recover().unwrap();
        let timers = tokio::spawn(Arc::clone(&transactions).run_timers());
        Self {
            transactions,
            config,
            log,
            partitions,
            clock,
            timers,
        }
    }

    /// Another one over what this one stored.
    fn restart(&self) -> Self {
        let (log, clock) = (self.log.clone(), self.clock.clone());
        Self::open(self.config.clone(), log, self.partitions.clone(), clock)
    }

    async fn init(&self, id: &str) -> Producer {
        soon(
            self.transactions
                .init(id, &Holder::default(), None, TIMEOUT_MS),
        )
        .await
        .unwrap()
    }

    fn write(&self, producer: Producer, topic: &str) -> Result<&'static str, TransactionError> {
        self.write_as(ClientVersion::BumpsEpoch, producer, topic)
    }

    fn write_as(
        &self,
        version: ClientVersion,
        producer: Producer,
        topic: &str,
    ) -> Result<&'static str, TransactionError> {
        let target = Target {
            transactional_id: "id",
            producer,
            topic,
            partition: 0,
            version,
        };
        self.transactions.write(&target, || "written")
    }

    async fn end(&self, producer: Producer, is_commit: bool) -> Result<Producer, TransactionError> {
        soon(self.transactions.end("id", ending(producer, is_commit))).await
    }

    fn state(&self) -> State {
        self.transactions.describe("id").unwrap().state
    }
}

fn ending(producer: Producer, is_commit: bool) -> EndRequest {
    EndRequest {
        producer,
        is_commit,
        version: ClientVersion::BumpsEpoch,
    }
}

/// Nothing in these tests takes long unless it hangs.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("an answer within 20 s")
}

async fn until(mut is_so: impl FnMut() -> bool) {
    soon(async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn fenced<T>() -> Result<T, TransactionError> {
    Err(Refusal::Fenced.into())
}

#[tokio::test]
async fn a_commit_marks_every_partition_with_the_new_epoch() {
    let broker = Broker::start();
    let producer = broker.init("id").await;
    for topic in ["orders", "deleted", "totals"] {
        assert_eq!(broker.write(producer, topic), Ok("written"));
    }
    let next = broker.end(producer, true).await.unwrap();
    assert_eq!(
        next,
        Producer {
            id: producer.id,
            epoch: 1
        }
    );
    let marks = broker.partitions.take_marks();
    let topics: Vec<_> = marks.iter().map(|(topic, ..)| topic.as_str()).collect();
    assert_eq!(topics, ["orders", "totals"], "the deleted one is left out");
    for (.., marker) in marks {
        assert_eq!(
            (marker.producer_epoch, marker.outcome),
            (1, MarkerOutcome::Commit)
        );
    }
    assert_eq!(broker.state(), State::CompleteCommit);
    assert_eq!(broker.end(producer, true).await, Ok(next), "a retry");
    assert_eq!(broker.write(producer, "orders"), fenced());
    assert_eq!(broker.write(next, "orders"), Ok("written"));
}

#[tokio::test]
async fn nothing_is_answered_or_marked_before_it_is_durable() {
    let broker = Broker::start();
    broker.log.hold(true);
    let holder = Holder::default();
    let mut init = Box::pin(broker.transactions.init("id", &holder, None, TIMEOUT_MS));
    assert!((&mut init).now_or_never().is_none());
    until(|| broker.log.records() == 1 || (&mut init).now_or_never().is_some()).await;
    broker.log.hold(false);
    let producer = soon(init).await.unwrap();
    broker.write(producer, "orders").unwrap();
    broker.log.hold(true);
    let mut end = Box::pin(broker.transactions.end("id", ending(producer, true)));
    assert!((&mut end).now_or_never().is_none());
    tokio::task::yield_now().await;
    assert_eq!(broker.partitions.take_marks().len(), 0);
    assert_eq!(broker.write(producer, "orders"), fenced(), "it is decided");
    let next = Producer {
        id: producer.id,
        epoch: 1,
    };
    let early = broker.write(next, "orders");
    assert_eq!(early, Err(Refusal::Concurrent.into()));
    broker.log.hold(false);
    assert_eq!(soon(end).await, Ok(next));
    assert_eq!(broker.partitions.take_marks().len(), 1);
}

#[tokio::test]
async fn the_first_transaction_version_writes_where_partitions_were_added() {
    let broker = Broker::start();
    let producer = broker.init("id").await;
    let old = ClientVersion::KeepsEpoch;
    let outside = broker.write_as(old, producer, "orders");
    assert_eq!(outside, Err(Refusal::NotInTransaction.into()));
    let orders = Partitions::from_iter([("orders", 0)]);
    soon(broker.transactions.add("id", producer, &orders))
        .await
        .unwrap();
    assert_eq!(broker.write_as(old, producer, "orders"), Ok("written"));
    let request = EndRequest {
        version: old,
        ..ending(producer, false)
    };
    assert_eq!(
        soon(broker.transactions.end("id", request)).await,
        Ok(producer)
    );
    let marks = broker.partitions.take_marks();
    assert_eq!(marks[0].2.producer_epoch, producer.epoch);
    assert_eq!(marks[0].2.outcome, MarkerOutcome::Abort);
}

#[tokio::test]
async fn a_new_instance_aborts_the_open_transaction_and_fences() {
    let broker = Broker::start();
    let first = broker.init("id").await;
    broker.write(first, "orders").unwrap();
    let second = broker.init("id").await;
    assert!(second.epoch > first.epoch);
    let marks = broker.partitions.take_marks();
    assert_eq!((marks.len(), marks[0].2.outcome), (1, MarkerOutcome::Abort));
    assert_eq!(broker.write(first, "orders"), fenced());
    assert_eq!(broker.end(first, true).await, fenced());
    assert_eq!(broker.write(second, "orders"), Ok("written"));
}

#[tokio::test(start_paused = true)]
async fn markers_are_tried_again_until_they_are_written() {
    let broker = Broker::start();
    let producer = broker.init("id").await;
    broker.write(producer, "orders").unwrap();
    broker.write(producer, "full").unwrap();
    broker.partitions.refusing.lock().insert("full".into());
    let next = broker.end(producer, true).await.unwrap();
    assert_eq!(
        broker.state(),
        State::PrepareCommit,
        "answered all the same"
    );
    let early = broker.write(next, "orders");
    assert_eq!(early, Err(Refusal::Concurrent.into()));
    assert_eq!(broker.partitions.take_marks().len(), 1);
    broker.partitions.refusing.lock().clear();
    soon(async {
        while broker.state() != State::CompleteCommit {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let marks = broker.partitions.take_marks();
    assert_eq!((marks.len(), marks[0].0.as_str()), (1, "full"));
    assert_eq!(broker.write(next, "orders"), Ok("written"));
}

#[tokio::test(start_paused = true)]
async fn a_transaction_out_of_time_is_aborted_and_its_producer_fenced() {
    let broker = Broker::start();
    let producer = broker.init("id").await;
    broker.write(producer, "orders").unwrap();
    broker.clock.advance(i64::from(TIMEOUT_MS));
    tokio::time::sleep(Duration::from_millis(61_000)).await;
    assert_eq!(broker.state(), State::CompleteAbort);
    assert_eq!(
        broker.partitions.take_marks()[0].2.outcome,
        MarkerOutcome::Abort
    );
    assert_eq!(broker.end(producer, true).await, fenced());
    assert_eq!(broker.write(producer, "orders"), fenced());
}

#[tokio::test]
async fn every_state_goes_on_after_a_restart() {
    let broker = Broker::start();
    let producer = broker.init("id").await;
    let broker = broker.restart();
    assert_eq!(broker.write(producer, "orders"), Ok("written"));
    let broker = broker.restart();
    assert_eq!(broker.write(producer, "totals"), Ok("written"));

    // The outcome is stored, and the broker ends before the first marker.
    broker
        .partitions
        .refusing
        .lock()
        .extend(["orders".to_owned(), "totals".to_owned()]);
    let mut end = Box::pin(broker.transactions.end("id", ending(producer, true)));
    assert!((&mut end).now_or_never().is_none());
    assert_eq!(broker.state(), State::PrepareCommit);
    drop(end);
    broker.partitions.refusing.lock().clear();
    let broker = broker.restart();
    until(|| broker.state() == State::CompleteCommit).await;
    let marks = broker.partitions.take_marks();
    assert!(marks.len() >= 2, "{marks:?}");
    assert!(
        marks
            .iter()
            .all(|(.., marker)| marker.outcome == MarkerOutcome::Commit)
    );
    let next = Producer {
        id: producer.id,
        epoch: 1,
    };
    assert_eq!(
        broker.restart().end(producer, true).await,
        Ok(next),
        "a retry"
    );
}

#[tokio::test]
async fn what_a_loss_of_power_left_open_is_aborted_with_its_transaction() {
    let broker = Broker::start();
    let producer = broker.init("id").await;
    broker.write(producer, "orders").unwrap();
    // The record that adds `totals` was lost, its data was not.
    broker.partitions.leave_open("orders", 0, producer);
    broker.partitions.leave_open("totals", 0, producer);
    broker
        .partitions
        .leave_open("orders", 3, Producer { id: 99, epoch: 4 });
    let broker = broker.restart();
    until(|| broker.state() == State::CompleteAbort).await;
    let marks = broker.partitions.take_marks();
    let seen: Vec<_> = marks
        .iter()
        .map(|(topic, index, marker)| (topic.as_str(), *index, marker.producer_id, marker.outcome))
        .collect();
    let abort = MarkerOutcome::Abort;
    let id = producer.id;
    assert_eq!(
        seen,
        [
            ("orders", 0, id, abort),
            ("orders", 3, 99, abort),
            ("totals", 0, id, abort)
        ]
    );
    assert_eq!(broker.write(producer, "orders"), fenced());
    assert_eq!(broker.end(producer, true).await, fenced());
}

#[tokio::test]
async fn the_next_transaction_does_not_share_the_outcome_of_the_one_before() {
    let broker = Broker::start();
    let producer = broker.init("id").await;
    for topic in ["orders", "totals"] {
        broker.write(producer, topic).unwrap();
    }
    let mut end = Box::pin(broker.transactions.end("id", ending(producer, true)));
    assert!((&mut end).now_or_never().is_none());
    assert_eq!(broker.state(), State::PrepareCommit);
    drop(end);
    // The loss of power took the completion and the beginning of the next transaction, not the data of that.
    let next = Producer {
        id: producer.id,
        epoch: producer.epoch + 1,
    };
    let partitions = Partitioned::new();
    partitions.leave_open("orders", 0, next);
    let (log, clock) = (broker.log.clone(), broker.clock.clone());
    let broker = Broker::open(config(), log, partitions, clock);
    until(|| broker.state() == State::CompleteAbort).await;
    let marks = broker.partitions.take_marks();
    let seen: Vec<_> = marks
        .iter()
        .map(|(topic, _, marker)| (topic.as_str(), marker.producer_epoch, marker.outcome))
        .collect();
    let expected = [
        ("orders", next.epoch + 2, MarkerOutcome::Abort),
        ("totals", next.epoch, MarkerOutcome::Commit),
    ];
    assert_eq!(seen, expected);
    // What it has an answer for is gone: it cannot go on with the rest.
    assert_eq!(broker.write(next, "orders"), fenced());
    assert_eq!(broker.end(next, true).await, fenced());
}

#[tokio::test]
async fn a_partition_is_added_when_that_is_durable() {
    let broker = Broker::start();
    let producer = broker.init("id").await;
    broker.log.hold(true);
    let orders = Partitions::from_iter([("orders", 0)]);
    for _ in 0..2 {
        let add = broker.transactions.add("id", producer, &orders);
        assert!(
            add.now_or_never().is_none(),
            "the second says the same again"
        );
    }
    broker.log.hold(false);
    assert!(
        soon(broker.transactions.add("id", producer, &orders))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn an_open_transaction_that_is_known_goes_on_after_a_restart() {
    let broker = Broker::start();
    let producer = broker.init("id").await;
    broker.write(producer, "orders").unwrap();
    broker.partitions.leave_open("orders", 0, producer);
    let broker = broker.restart();
    assert_eq!(broker.partitions.take_marks().len(), 0);
    assert_eq!(broker.write(producer, "orders"), Ok("written"));
    assert!(broker.end(producer, true).await.is_ok());
}

#[tokio::test]
async fn ids_are_bounded_and_forgotten_when_unused() {
    let broker = Broker::start();
    for id in ["id", "b", "c"] {
        broker.init(id).await;
    }
    let refused = soon(
        broker
            .transactions
            .init("d", &Holder::default(), None, TIMEOUT_MS),
    )
    .await;
    assert_eq!(
        refused,
        Err(TransactionError::TooManyIds("transactions.max-ids"))
    );
    broker.clock.advance(7 * 24 * 3_600_000);
    broker.transactions.driver.sweep().await;
    assert_eq!(broker.transactions.list().await.len(), 0);
    assert_eq!(broker.restart().transactions.list().await.len(), 0);
    broker.init("d").await;
}

#[tokio::test]
async fn what_cannot_be_stored_changes_nothing() {
    let broker = Broker::start();
    let producer = broker.init("id").await;
    broker.log.fail(true);
    let full = Err(TransactionError::Storage("the disk is full".into()));
    assert_eq!(broker.write(producer, "orders"), full);
    assert_eq!(broker.state(), State::Empty);
    let init = soon(
        broker
            .transactions
            .init("id", &Holder::default(), None, TIMEOUT_MS),
    )
    .await;
    assert!(matches!(init, Err(TransactionError::Storage(_))));
    broker.log.fail(false);
    assert_eq!(broker.write(producer, "orders"), Ok("written"));
}

#[tokio::test]
async fn bounds_and_unknown_ids_are_refused() {
    let broker = Broker::start();
    for timeout in [0, -1, 15 * 60 * 1000 + 1] {
        let refused = soon(
            broker
                .transactions
                .init("id", &Holder::default(), None, timeout),
        )
        .await;
        assert_eq!(refused, Err(TransactionError::InvalidTimeout));
    }
    let empty = soon(
        broker
            .transactions
            .init("", &Holder::default(), None, TIMEOUT_MS),
    )
    .await;
    assert_eq!(empty, Err(TransactionError::InvalidId));
    let producer = Producer { id: 1, epoch: 0 };
    let unknown = broker.write(producer, "orders");
    assert_eq!(unknown, Err(Refusal::ProducerIdMapping.into()));
    assert_eq!(broker.transactions.describe("id"), None);
}
