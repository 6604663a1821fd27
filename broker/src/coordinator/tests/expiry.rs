//! When offsets and groups go by themselves (KIP-211), and when they are sent (KIP-496).

use super::*;
use crate::coordinator::subscription::tests::subscription;

const DAY: i64 = 24 * 3_600_000;
/// The default retention.
const WEEK: i64 = 7 * DAY;

#[tokio::test]
async fn offsets_of_unused_groups_expire_and_those_of_members_stay() {
    let broker = Broker::start();
    let day = 24 * 3_600_000;
    let member = broker.stable_member("used").await;
    let of_member = CommitRequest {
        member_id: member.clone(),
        generation: 1,
        ..committing("used", 1)
    };
    broker.commit(of_member).await.unwrap();
    broker.commit(committing("unused", 1)).await.unwrap();
    broker.clock.advance(7 * day - 1);
    broker.coordinator.driver.sweep().await;
    assert_eq!(broker.offset("unused"), Some(1));
    broker.clock.advance(1);
    broker.coordinator.driver.sweep().await;
    assert_eq!(broker.state("unused"), None);
    assert_eq!(broker.offset("used"), Some(1));

    let left = broker.coordinator.leave("used", &[(member, None)]);
    assert_eq!(left, Ok(vec![Ok(())]));
    broker.clock.advance(7 * day - 1);
    let broker = broker.restart();
    broker.coordinator.driver.sweep().await;
    assert_eq!(
        broker.offset("used"),
        Some(1),
        "a week from when it was left"
    );
    broker.clock.advance(1);
    broker.coordinator.driver.sweep().await;
    assert_eq!(broker.restart().coordinator.list().await, []);
}

#[tokio::test]
async fn an_empty_group_without_offsets_stays_visible_for_a_while() {
    let broker = Broker::start();
    let member = broker.stable_member("g").await;
    broker.coordinator.leave("g", &[(member, None)]).unwrap();
    broker.coordinator.driver.sweep().await;
    assert_eq!(broker.state("g"), Some("Empty"));
    broker.clock.advance(600_000);
    broker.coordinator.driver.sweep().await;
    assert_eq!(broker.state("g"), None);
    assert_eq!(broker.restart().coordinator.list().await, []);
}

/// A group of one member that reads these topics and has committed an offset of each of `committed`.
async fn reading(broker: &Broker, request: JoinRequest, committed: &[&str]) -> JoinOutcome {
    let group = request.group.clone();
    let joined = broker.join(request).await.unwrap();
    soon(broker.coordinator.sync(leading(&group, &joined)))
        .await
        .unwrap();
    let mut commit = CommitRequest {
        member_id: joined.member_id.clone(),
        generation: joined.generation,
        ..committing(&group, 1)
    };
    let one = commit.offsets.remove(0);
    commit.offsets = committed
        .iter()
        .map(|topic| OffsetToCommit {
            topic: (*topic).to_owned(),
            ..one.clone()
        })
        .collect();
    broker.commit(commit).await.unwrap();
    joined
}

fn subscribing(topics: &[&str]) -> JoinRequest {
    JoinRequest {
        protocols: vec![("range".into(), subscription(topics))],
        ..joining("g")
    }
}

impl Broker {
    /// Topics of which the group `g` has an offset, after so much time.
    async fn topics_after(&self, milliseconds: i64) -> Vec<String> {
        self.clock.advance(milliseconds);
        self.coordinator.driver.sweep().await;
        let all = self.coordinator.fetch_offsets("g", None).unwrap();
        all.into_iter().map(|(topic, _, _)| topic).collect()
    }
}

#[tokio::test]
async fn offsets_of_topics_that_a_live_group_left_expire_by_their_commit() {
    let broker = Broker::start();
    let member = reading(&broker, subscribing(&["kept"]), &["kept", "left"]).await;
    assert_eq!(broker.topics_after(WEEK - 1).await, ["kept", "left"]);
    assert_eq!(broker.topics_after(1).await, ["kept"]);
    let broker = broker.restart();
    assert_eq!(broker.topics_after(WEEK).await, ["kept"], "for good");
    let left = [(member.member_id, None)];
    broker.coordinator.leave("g", &left).unwrap();
    assert_eq!(broker.topics_after(WEEK - 1).await, ["kept"]);
    assert_eq!(broker.topics_after(1).await, [""; 0]);
}

#[tokio::test]
async fn a_group_whose_topics_are_not_known_keeps_all_offsets() {
    let of_connect = JoinRequest {
        protocol_type: "connect".into(),
        ..subscribing(&["other"])
    };
    let unreadable = JoinRequest {
        protocols: vec![("range".into(), "no subscription".into())],
        ..joining("g")
    };
    for request in [of_connect, unreadable] {
        let broker = Broker::start();
        reading(&broker, request, &["orders"]).await;
        assert_eq!(broker.topics_after(2 * WEEK).await, ["orders"]);
    }
}

#[tokio::test]
async fn nothing_expires_while_a_group_settles_its_topics() {
    let broker = Broker::start();
    let member = reading(&broker, subscribing(&["kept"]), &["left"]).await;
    let again = JoinRequest {
        member_id: member.member_id,
        ..subscribing(&["kept", "more"])
    };
    broker.join(again).await.unwrap();
    assert_eq!(broker.state("g"), Some("CompletingRebalance"));
    assert_eq!(broker.topics_after(2 * WEEK).await, ["left"]);
}

impl Broker {
    async fn delete_offsets(&self, topics: &[&str]) -> Result<Vec<String>, GroupError> {
        let keys = topics
            .iter()
            .map(|topic| ((*topic).to_owned(), 0))
            .collect();
        let read = soon(self.coordinator.delete_offsets("g", &keys)).await?;
        Ok(read.into_iter().collect())
    }
}

#[tokio::test]
async fn offsets_are_deleted_but_for_topics_that_a_member_reads() {
    let broker = Broker::start();
    assert_eq!(
        broker.delete_offsets(&["left"]).await,
        Err(GroupError::GroupIdNotFound)
    );
    reading(&broker, subscribing(&["kept"]), &["kept", "left", "more"]).await;
    let read = broker.delete_offsets(&["kept", "left", "never"]).await;
    assert_eq!(read, Ok(vec!["kept".to_owned()]));
    assert_eq!(broker.topics_after(0).await, ["kept", "more"]);
    assert_eq!(broker.restart().topics_after(0).await, ["kept", "more"]);
}

#[tokio::test]
async fn a_group_that_does_not_say_what_it_reads_is_left_alone_while_it_has_members() {
    let broker = Broker::start();
    let of_connect = JoinRequest {
        protocol_type: "connect".into(),
        ..subscribing(&[])
    };
    let member = reading(&broker, of_connect, &["orders"]).await;
    let refused = broker.delete_offsets(&["orders"]).await;
    assert_eq!(refused, Err(GroupError::NonEmptyGroup));
    let left = [(member.member_id, None)];
    broker.coordinator.leave("g", &left).unwrap();
    assert_eq!(broker.delete_offsets(&["orders"]).await, Ok(vec![]));
    assert_eq!(broker.topics_after(0).await, [""; 0]);
}
