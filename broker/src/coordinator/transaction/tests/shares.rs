//! Bounds on what principals may have of the transactional ids: who is refused, who makes room, and that others go on.

use super::*;
use crate::types::Principal;

fn user(name: &str) -> Holder {
    Holder::of(&Principal::user(name), "10.0.0.1")
}

fn few_ids() -> TransactionConfig {
    TransactionConfig {
        max_ids: 6,
        max_ids_per_principal: 3,
        ..config()
    }
}

impl Broker {
    async fn init_by(&self, name: &str, id: &str) -> Result<Producer, TransactionError> {
        soon(self.transactions.init(id, &user(name), None, TIMEOUT_MS)).await
    }

    async fn ids(&self) -> Vec<String> {
        let ids = self.transactions.list().await.into_iter();
        ids.map(|(id, _)| id.to_string()).collect()
    }
}

fn share_full<T>() -> Result<T, TransactionError> {
    let setting = "transactions.max-ids-per-principal";
    Err(TransactionError::TooManyIds(setting))
}

#[tokio::test]
async fn a_principal_that_fills_its_share_leaves_the_rest_to_others() {
    let broker = Broker::start_with(few_ids());
    for id in ["1", "2", "3"] {
        broker.init_by("greedy", id).await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(broker.init_by("greedy", "4").await, share_full());
    }
    broker.init_by("greedy", "1").await.unwrap();
    let honest = broker.init_by("honest", "id").await.unwrap();
    assert_eq!(broker.write(honest, "orders"), Ok("written"));
    broker.end(honest, true).await.unwrap();
    let refused = broker.transactions.usage().1;
    assert_eq!(refused, [("transactions.max-ids-per-principal", 3)]);
}

#[tokio::test(start_paused = true)]
async fn ids_that_never_completed_a_transaction_make_room_after_a_minute() {
    let broker = Broker::start_with(few_ids());
    let used = broker.init_by("a", "id").await.unwrap();
    broker.write(used, "orders").unwrap();
    broker.end(used, true).await.unwrap();
    broker.init_by("a", "old").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    broker.init_by("a", "young").await.unwrap();
    tokio::time::sleep(Duration::from_secs(58)).await;
    assert_eq!(broker.init_by("a", "new").await, share_full());
    tokio::time::sleep(Duration::from_secs(1)).await;
    broker.init_by("a", "new").await.unwrap();
    assert_eq!(broker.ids().await, ["id", "new", "young"]);
    tokio::time::sleep(Duration::from_secs(100)).await;
    for round in 0..2 {
        broker
            .init_by("a", &format!("round {round}"))
            .await
            .unwrap();
    }
    assert_eq!(broker.ids().await, ["id", "round 0", "round 1"]);
    assert_eq!(broker.init_by("a", "more").await, share_full());
    assert_eq!(broker.restart().ids().await, ["id", "round 0", "round 1"]);
}

#[tokio::test(start_paused = true)]
async fn an_id_with_an_open_transaction_never_makes_room() {
    let broker = Broker::start_with(TransactionConfig {
        max_ids_per_principal: 1,
        ..few_ids()
    });
    let producer = broker.init_by("a", "id").await.unwrap();
    broker.write(producer, "orders").unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(broker.init_by("a", "new").await, share_full());
    broker.end(producer, true).await.unwrap();
    assert_eq!(broker.init_by("a", "new").await, share_full());
    assert_eq!(broker.ids().await, ["id"]);
}

#[tokio::test(start_paused = true)]
async fn where_all_is_full_the_one_with_most_strangers_makes_room() {
    let broker = Broker::start_with(few_ids());
    for (name, id) in [
        ("a", "1"),
        ("b", "2"),
        ("b", "3"),
        ("c", "4"),
        ("c", "5"),
        ("c", "6"),
    ] {
        broker.init_by(name, id).await.unwrap();
    }
    let full = Err(TransactionError::TooManyIds("transactions.max-ids"));
    assert_eq!(broker.init_by("d", "7").await, full);
    tokio::time::sleep(Duration::from_secs(60)).await;
    broker.init_by("d", "7").await.unwrap();
    assert_eq!(broker.ids().await, ["1", "2", "3", "5", "6", "7"]);
}

#[tokio::test(start_paused = true)]
async fn new_ids_come_at_a_pace_with_or_without_a_name() {
    let broker = Broker::start_with(TransactionConfig {
        max_new_ids_per_second: 1,
        ..few_ids()
    });
    let transactions = &broker.transactions;
    for made in 0..21 {
        let given = transactions.new_producer_id(&user("fast")).await;
        assert!(given.is_ok(), "{made}");
    }
    let busy = TransactionError::Busy("transactions.max-new-ids-per-second");
    let given = transactions.new_producer_id(&user("fast")).await;
    assert_eq!(given, Err(busy.clone()));
    assert_eq!(broker.init_by("fast", "id").await, Err(busy));
    broker.init_by("honest", "id").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    broker.init_by("fast", "other").await.unwrap();
}

#[tokio::test]
async fn the_partitions_of_open_transactions_count_in_bytes() {
    let broker = Broker::start_with(TransactionConfig {
        max_bytes_per_principal: 10_000,
        ..few_ids()
    });
    let producer = broker.init_by("greedy", "id").await.unwrap();
    let partitions = Partitions::from_iter((0..1_000).map(|index| ("orders", index)));
    let busy = Err(TransactionError::Busy(
        "transactions.max-bytes-per-principal",
    ));
    let added = soon(broker.transactions.add("id", producer, &partitions)).await;
    assert_eq!(added, busy);
    assert_eq!(broker.write(producer, "orders"), Ok("written"));
    let open = broker.transactions.usage().0;
    broker.end(producer, true).await.unwrap();
    assert!(broker.transactions.usage().0 < open);
    let honest = broker.init_by("honest", "honest").await.unwrap();
    let few = Partitions::from_iter((0..500).map(|index| ("orders", index)));
    let added = soon(broker.transactions.add("honest", honest, &few)).await;
    assert_eq!(added, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_a_start_finds_belongs_to_the_first_that_uses_it() {
    let broker = Broker::start_with(few_ids());
    for id in ["1", "2", "3"] {
        broker.init_by("a", id).await.unwrap();
    }
    let broker = broker.restart();
    for id in ["1", "2", "3"] {
        broker.init_by("a", id).await.unwrap();
    }
    assert_eq!(broker.init_by("a", "4").await, share_full());
    broker.init_by("b", "4").await.unwrap();
}
