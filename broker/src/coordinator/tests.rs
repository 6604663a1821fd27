mod expiry;
pub(super) mod memory;
mod pending;
mod real_log;
mod shares;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinHandle;

use self::memory::MemoryLog;
use super::driver::Driver;
use super::*;
use crate::config::GroupConfig;
use crate::env::Clock;

const NOW_MS: i64 = 1_000_000;

/// A coordinator with running timers over a log in memory.
struct Broker {
    coordinator: Arc<Coordinator>,
    log: MemoryLog,
    clock: Clock,
    config: GroupConfig,
    timers: JoinHandle<()>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.timers.abort();
    }
}

fn config() -> GroupConfig {
    GroupConfig {
        initial_rebalance_delay: Duration::ZERO,
        min_session_timeout: Duration::from_millis(1),
        max_groups: 3,
        max_metadata_bytes: 10,
        ..GroupConfig::default()
    }
}

impl Broker {
    fn start() -> Self {
        Self::start_with(config())
    }

    fn start_with(config: GroupConfig) -> Self {
        Self::open(config, MemoryLog::new(), Clock::manual(NOW_MS))
    }

    fn open(config: GroupConfig, log: MemoryLog, clock: Clock) -> Self {
        let driver = Driver::open(config.clone(), Box::new(log.clone()), clock.clone());
        let coordinator = Arc::new(Coordinator { driver });
        let timers = tokio::spawn(Arc::clone(&coordinator).run_timers());
        Self {
            coordinator,
            log,
            clock,
            config,
            timers,
        }
    }

    fn restart(self) -> Self {
        Self::open(self.config.clone(), self.log.clone(), self.clock.clone())
    }

    async fn join(&self, request: JoinRequest) -> Result<JoinOutcome, GroupError> {
        soon(self.coordinator.join(request)).await
    }

    /// A group of one member that has synced.
    async fn stable_member(&self, group: &str) -> String {
        let outcome = self.join(joining(group)).await.unwrap();
        assert_eq!(outcome.leader, outcome.member_id);
        soon(self.coordinator.sync(leading(group, &outcome)))
            .await
            .unwrap();
        outcome.member_id
    }

    async fn commit(&self, request: CommitRequest) -> Result<(), GroupError> {
        soon(self.coordinator.commit_offsets(request)).await
    }

    fn offset(&self, group: &str) -> Option<Offset> {
        let wanted = [("orders".to_owned(), 0)];
        let found = self
            .coordinator
            .fetch_offsets(group, Some(&wanted))
            .unwrap();
        found[0].2.as_ref().map(|committed| committed.offset)
    }

    fn state(&self, group: &str) -> Option<&'static str> {
        Some(self.coordinator.describe(group)?.state)
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

fn joining(group: &str) -> JoinRequest {
    JoinRequest {
        group: group.into(),
        member_id: String::new(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: Duration::from_secs(600),
        rebalance_timeout: Duration::from_secs(600),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), "topics".into())],
        require_known_member_id: false,
        reason: None,
        holder: Holder::default(),
    }
}

fn short_lived(group: &str) -> JoinRequest {
    JoinRequest {
        session_timeout: Duration::from_millis(50),
        ..joining(group)
    }
}

/// The leader's sync: everybody is assigned its own id.
fn leading(group: &str, outcome: &JoinOutcome) -> SyncRequest {
    SyncRequest {
        group: group.into(),
        member_id: outcome.member_id.clone(),
        instance_id: None,
        generation: outcome.generation,
        protocol_type: None,
        protocol: None,
        assignments: outcome
            .members
            .iter()
            .map(|(id, _, _)| (id.clone(), id.clone().into()))
            .collect(),
    }
}

fn committing(group: &str, offset: Offset) -> CommitRequest {
    CommitRequest {
        group: group.into(),
        member_id: String::new(),
        instance_id: None,
        generation: -1,
        offsets: vec![OffsetToCommit {
            topic: "orders".into(),
            partition: 0,
            offset,
            leader_epoch: 4,
            metadata: "meta".into(),
        }],
        holder: Holder::default(),
    }
}

#[tokio::test]
async fn members_and_offsets_go_on_after_a_restart() {
    let broker = Broker::start();
    let member = broker.stable_member("g").await;
    let commit = CommitRequest {
        member_id: member.clone(),
        generation: 1,
        ..committing("g", 17)
    };
    broker.commit(commit.clone()).await.unwrap();
    let described = broker.coordinator.describe("g");

    let broker = broker.restart();
    assert_eq!(broker.coordinator.describe("g"), described);
    let found = broker.coordinator.fetch_offsets("g", None).unwrap();
    let expected = CommittedOffset {
        offset: 17,
        leader_epoch: 4,
        metadata: "meta".into(),
        committed_ms: NOW_MS,
        expires_ms: None,
    };
    assert_eq!(found, [("orders".to_owned(), 0, Some(expected))]);
    let heartbeat = broker.coordinator.heartbeat("g", &member, None, 1);
    assert_eq!(heartbeat, Ok(()));
    broker.commit(commit).await.unwrap();
    let committed = broker.coordinator.committed();
    assert_eq!(committed, [("g".into(), "orders".into(), 0, 17)]);
}

#[tokio::test]
async fn member_ids_are_made_of_the_client_id_and_are_unique() {
    let broker = Broker::start();
    let long = JoinRequest {
        client_id: "ü".repeat(1000),
        ..joining("b")
    };
    let first = broker.join(joining("a")).await.unwrap().member_id;
    let second = broker.join(long).await.unwrap().member_id;
    assert_eq!(first.len(), "client-".len() + 36);
    assert!(first.starts_with("client-"));
    assert_eq!(second.len(), 254 + 1 + 36);
}

#[tokio::test]
async fn a_member_that_dies_makes_room_by_its_session() {
    let broker = Broker::start();
    let dead = broker.join(short_lived("g")).await.unwrap();
    soon(broker.coordinator.sync(leading("g", &dead)))
        .await
        .unwrap();
    let outcome = broker.join(joining("g")).await.unwrap();
    assert_eq!(outcome.leader, outcome.member_id);
    assert_eq!(outcome.members.len(), 1);
    let heartbeat = broker.coordinator.heartbeat("g", &dead.member_id, None, 1);
    assert_eq!(heartbeat, Err(GroupError::UnknownMember));
}

#[tokio::test]
async fn a_cancelled_join_does_not_wedge_the_group() {
    let broker = Broker::start();
    let cancelled = broker.coordinator.join(short_lived("g")).now_or_never();
    assert!(cancelled.is_none(), "the join waits");
    let mut request = joining("g");
    // The one that is gone may lead a generation until its session ends.
    let assigned = soon(async {
        loop {
            let outcome = broker.coordinator.join(request.clone()).await.unwrap();
            request.member_id.clone_from(&outcome.member_id);
            match broker.coordinator.sync(leading("g", &outcome)).await {
                Ok(assigned) => break assigned,
                Err(error) => assert_eq!(error, GroupError::RebalanceInProgress),
            }
        }
    })
    .await;
    assert_eq!(assigned.assignment, request.member_id);
}

#[tokio::test]
async fn a_leader_whose_sync_is_cancelled_has_assigned_all_the_same() {
    let broker = Broker::start();
    let outcome = broker.join(joining("g")).await.unwrap();
    broker.log.hold(true);
    let sync = broker.coordinator.sync(leading("g", &outcome));
    assert!(sync.now_or_never().is_none(), "the sync waits for the disk");
    assert_eq!(broker.state("g"), Some("CompletingRebalance"));
    broker.log.hold(false);
    until(|| broker.state("g") == Some("Stable")).await;
}

#[tokio::test]
async fn a_commit_is_answered_and_shown_when_it_is_durable() {
    let broker = Broker::start();
    broker.commit(committing("g", 1)).await.unwrap();
    broker.log.hold(true);
    let mut commit = Box::pin(broker.coordinator.commit_offsets(committing("g", 2)));
    assert!(commit.as_mut().now_or_never().is_none());
    assert_eq!(broker.offset("g"), Some(1));
    broker.log.hold(false);
    soon(commit).await.unwrap();
    assert_eq!(broker.offset("g"), Some(2));
}

#[tokio::test]
async fn a_cancelled_commit_is_shown_once_it_is_durable() {
    let broker = Broker::start();
    broker.log.hold(true);
    let commit = broker.coordinator.commit_offsets(committing("g", 2));
    assert!(commit.now_or_never().is_none());
    broker.log.hold(false);
    until(|| broker.offset("g") == Some(2)).await;
}

#[tokio::test]
async fn a_disk_that_refuses_is_told_and_forgotten_when_it_accepts_again() {
    let broker = Broker::start();
    let refused = Err(GroupError::Storage("the disk is full".into()));
    broker.log.fail(true);
    assert_eq!(broker.commit(committing("g", 1)).await, refused);
    assert_eq!(broker.state("g"), None, "nothing is left of it");
    let outcome = broker.join(joining("g")).await.unwrap();
    let sync = soon(broker.coordinator.sync(leading("g", &outcome))).await;
    assert_eq!(sync.map(|_| ()), refused);
    broker.log.fail(false);
    let again = JoinRequest {
        member_id: outcome.member_id,
        ..joining("g")
    };
    let outcome = broker.join(again).await.unwrap();
    let sync = soon(broker.coordinator.sync(leading("g", &outcome))).await;
    assert!(sync.is_ok());
}

#[tokio::test]
async fn commits_and_fetches_of_missing_groups() {
    let broker = Broker::start();
    let of_a_generation = CommitRequest {
        generation: 1,
        ..committing("g", 1)
    };
    let missing = Err(GroupError::GroupIdNotFound);
    assert_eq!(broker.commit(of_a_generation).await, missing);
    assert_eq!(broker.offset("g"), None);
    assert_eq!(broker.coordinator.fetch_offsets("g", None), Ok(Vec::new()));
    assert_eq!(broker.state("g"), None);
    assert_eq!(soon(broker.coordinator.delete("g")).await, missing);
    let unknown = GroupError::UnknownMember;
    let sync = SyncRequest {
        assignments: Vec::new(),
        group: "g".into(),
        member_id: "m".into(),
        instance_id: None,
        generation: 1,
        protocol_type: None,
        protocol: None,
    };
    let sync = soon(broker.coordinator.sync(sync)).await;
    assert_eq!(sync, Err(unknown.clone()));
    let heartbeat = broker.coordinator.heartbeat("g", "m", None, 1);
    assert_eq!(heartbeat, Err(unknown.clone()));
    let left = broker.coordinator.leave("g", &[("m".into(), None)]);
    assert_eq!(left, Ok(vec![Err(unknown.clone())]));
    let join = JoinRequest {
        member_id: "m".into(),
        ..joining("g")
    };
    assert_eq!(broker.join(join).await, Err(unknown));
    assert_eq!(broker.state("g"), None);
}

#[tokio::test]
async fn input_outside_the_bounds_is_refused() {
    let broker = Broker::start_with(GroupConfig {
        min_session_timeout: Duration::from_millis(10),
        max_session_timeout: Duration::from_millis(20),
        ..config()
    });
    let long = "x".repeat(MAX_GROUP_ID_BYTES + 1);
    let invalid = GroupError::InvalidGroupId;
    for group in ["", &long] {
        let join = broker.join(joining(group)).await;
        assert_eq!(join, Err(invalid.clone()));
        let heartbeat = broker.coordinator.heartbeat(group, "m", None, 1);
        assert_eq!(heartbeat, Err(invalid.clone()));
        let left = broker.coordinator.leave(group, &[]);
        assert_eq!(left, Err(invalid.clone()));
    }
    let commit = broker.commit(committing(&long, 1)).await;
    assert_eq!(commit, Err(invalid));
    for session in [9, 21] {
        let join = JoinRequest {
            session_timeout: Duration::from_millis(session),
            ..joining("g")
        };
        let refused = Err(GroupError::InvalidSessionTimeout);
        assert_eq!(broker.join(join).await, refused);
    }
    let mut commit = committing("g", 1);
    commit.offsets[0].metadata = "12345678901".into();
    let refused = Err(GroupError::OffsetMetadataTooLarge);
    assert_eq!(broker.commit(commit).await, refused);
    assert_eq!(broker.log.records(), 0);
}

#[tokio::test]
async fn the_empty_group_id_keeps_offsets() {
    let broker = Broker::start();
    broker.commit(committing("", 5)).await.unwrap();
    assert_eq!(broker.restart().offset(""), Some(5));
}

#[tokio::test]
async fn groups_that_nobody_uses_do_not_count_against_the_bound() {
    let broker = Broker::start();
    let misfit = |group: &str| JoinRequest {
        protocols: Vec::new(),
        ..joining(group)
    };
    for index in 0..10 {
        let refused = broker.join(misfit(&index.to_string())).await;
        assert_eq!(refused, Err(GroupError::InconsistentProtocol));
    }
    assert_eq!(broker.coordinator.list().await, []);
    for group in ["c", "a", "b"] {
        broker.commit(committing(group, 1)).await.unwrap();
    }
    let refused = Err(GroupError::TooManyGroups("groups.max-groups"));
    assert_eq!(broker.commit(committing("d", 1)).await, refused);
    let groups = broker.coordinator.list().await;
    let groups: Vec<&str> = groups.iter().map(|group| group.group.as_str()).collect();
    assert_eq!(groups, ["a", "b", "c"]);
}

#[tokio::test]
async fn an_expected_member_that_does_not_come_leaves_no_group() {
    let broker = Broker::start();
    let told = broker
        .join(JoinRequest {
            require_known_member_id: true,
            ..short_lived("g")
        })
        .await;
    assert!(matches!(told, Err(GroupError::MemberIdRequired(_))));
    assert_eq!(broker.state("g"), Some("Empty"));
    until(|| broker.state("g").is_none()).await;
}

#[tokio::test]
async fn a_deleted_group_is_gone_after_a_restart_too() {
    let broker = Broker::start();
    let member = broker.stable_member("g").await;
    let commit = CommitRequest {
        member_id: member.clone(),
        generation: 1,
        ..committing("g", 1)
    };
    broker.commit(commit).await.unwrap();
    let refused = soon(broker.coordinator.delete("g")).await;
    assert_eq!(refused, Err(GroupError::NonEmptyGroup));
    let left = broker.coordinator.leave("g", &[(member, None)]);
    assert_eq!(left, Ok(vec![Ok(())]));
    soon(broker.coordinator.delete("g")).await.unwrap();
    assert_eq!(broker.offset("g"), None);
    assert_eq!(broker.restart().coordinator.list().await, []);
}

#[tokio::test]
async fn a_commit_that_a_deletion_overtakes_does_not_come_back() {
    let broker = Broker::start();
    broker.log.hold(true);
    let commit = broker.coordinator.commit_offsets(committing("g", 1));
    assert!(commit.now_or_never().is_none());
    let mut delete = Box::pin(broker.coordinator.delete("g"));
    assert!(delete.as_mut().now_or_never().is_none());
    broker.log.hold(false);
    soon(delete).await.unwrap();
    assert_eq!(broker.restart().offset("g"), None);
}

#[tokio::test]
async fn the_offsets_of_a_deleted_topic_are_forgotten() {
    let broker = Broker::start();
    broker.commit(committing("g", 1)).await.unwrap();
    let mut other = committing("g", 2);
    other.offsets[0].topic = "other".into();
    broker.commit(other).await.unwrap();
    assert!(soon(broker.coordinator.topic_deleted("orders")).await);
    let left = [("g".into(), "other".into(), 0, 2)];
    assert_eq!(broker.coordinator.committed(), left);
    assert_eq!(broker.restart().coordinator.committed(), left);
}

#[tokio::test]
async fn a_start_forgets_the_offsets_of_topics_that_are_gone() {
    let broker = Broker::start();
    broker.commit(committing("g", 1)).await.unwrap();
    let mut other = committing("g", 2);
    other.offsets[0].topic = "other".into();
    broker.commit(other).await.unwrap();
    // The crash came when `orders` was gone and its offsets were not.
    let broker = broker.restart();
    let forgotten = broker.coordinator.forget_topics(|topic| topic == "orders");
    assert!(soon(broker.coordinator.are_forgotten(forgotten)).await);
    let left = [("g".into(), "other".into(), 0, 2)];
    assert_eq!(broker.coordinator.committed(), left);
    assert_eq!(broker.restart().coordinator.committed(), left);
}

#[tokio::test]
async fn damaged_records_are_passed_over() {
    let broker = Broker::start();
    broker.log.put(0, b"\x00\x01\x7f", b"");
    broker.log.put(1, b"\x00\x02\x00\x01g", b"\x00\x03");
    broker.log.put(2, b"\x00\x63", b"");
    broker.commit(committing("kept", 3)).await.unwrap();
    let broker = broker.restart();
    assert_eq!(broker.offset("kept"), Some(3));
    assert_eq!(broker.coordinator.list().await.len(), 1);
}
