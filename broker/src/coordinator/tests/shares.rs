//! Bounds on what principals may have of the coordinator: who is refused, who makes room, and that others go on.

use super::*;
use crate::types::Principal;

fn holder(name: &str) -> Holder {
    Holder::of(&Principal::user(name), "10.0.0.1")
}

fn by(name: &str, request: JoinRequest) -> JoinRequest {
    JoinRequest {
        holder: holder(name),
        ..request
    }
}

fn commit_by(name: &str, group: &str) -> CommitRequest {
    CommitRequest {
        holder: holder(name),
        ..committing(group, 1)
    }
}

/// A new dynamic member that is told an id first.
fn announced(group: &str) -> JoinRequest {
    JoinRequest {
        require_known_member_id: true,
        ..joining(group)
    }
}

fn few_groups() -> GroupConfig {
    GroupConfig {
        max_groups: 6,
        max_groups_per_principal: 3,
        ..config()
    }
}

fn share_full<T>() -> Result<T, GroupError> {
    Err(GroupError::TooManyGroups("groups.max-groups-per-principal"))
}

#[tokio::test]
async fn a_principal_that_fills_its_share_leaves_the_rest_to_others() {
    let broker = Broker::start_with(few_groups());
    for group in ["1", "2", "3"] {
        broker.commit(commit_by("greedy", group)).await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(broker.commit(commit_by("greedy", "4")).await, share_full());
        let refused = broker.join(by("greedy", joining("4"))).await;
        assert_eq!(refused, share_full());
    }
    broker.commit(commit_by("greedy", "3")).await.unwrap();
    broker.commit(commit_by("honest", "h")).await.unwrap();
    broker.join(by("honest", joining("i"))).await.unwrap();
    let refused = broker.coordinator.usage().1;
    assert_eq!(refused, [("groups.max-groups-per-principal", 6)]);
    soon(broker.coordinator.delete("1")).await.unwrap();
    broker.commit(commit_by("greedy", "4")).await.unwrap();
}

#[tokio::test]
async fn empty_groups_without_offsets_make_room_at_once() {
    let broker = Broker::start_with(few_groups());
    for round in 0..10 {
        let group = round.to_string();
        let joined = broker.join(by("churn", joining(&group))).await.unwrap();
        let member = [(joined.member_id, None)];
        broker.coordinator.leave(&group, &member).unwrap();
    }
    let groups = broker.coordinator.list().await;
    let groups: Vec<&str> = groups.iter().map(|group| group.group.as_str()).collect();
    assert_eq!(groups, ["7", "8", "9"], "the youngest are still to be seen");
    let restarted = broker.restart();
    assert_eq!(restarted.coordinator.list().await.len(), 3);
}

#[tokio::test]
async fn groups_with_members_or_offsets_never_make_room() {
    let broker = Broker::start_with(few_groups());
    broker.commit(commit_by("a", "offsets")).await.unwrap();
    broker.join(by("a", joining("members"))).await.unwrap();
    let told = broker.join(by("a", announced("expecting"))).await;
    assert!(matches!(told, Err(GroupError::MemberIdRequired(_))));
    assert_eq!(broker.join(by("a", joining("more"))).await, share_full());
    let states = ["offsets", "members", "expecting"].map(|group| broker.state(group).is_some());
    assert_eq!(states, [true; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_expects_a_member_makes_room_after_a_minute() {
    let broker = Broker::start_with(few_groups());
    for group in ["1", "2", "3"] {
        let told = broker.join(by("slow", announced(group))).await;
        assert!(matches!(told, Err(GroupError::MemberIdRequired(_))));
    }
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(broker.join(by("slow", announced("4"))).await, share_full());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let told = broker.join(by("slow", announced("4"))).await;
    assert!(matches!(told, Err(GroupError::MemberIdRequired(_))));
    assert_eq!(broker.state("1"), None);
}

#[tokio::test(start_paused = true)]
async fn new_groups_come_at_a_pace() {
    let broker = Broker::start_with(GroupConfig {
        max_new_groups_per_second: 1,
        ..few_groups()
    });
    let churn = async |round: usize| {
        let group = round.to_string();
        let joined = broker.join(by("churn", joining(&group))).await?;
        let member = [(joined.member_id, None)];
        broker.coordinator.leave(&group, &member)
    };
    let mut made = 0;
    let refused = loop {
        match churn(made).await {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    let setting = "groups.max-new-groups-per-second";
    assert_eq!((made, refused), (21, GroupError::Busy(setting)));
    broker.commit(commit_by("honest", "h")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(churn(made).await.is_ok());
}

/// A join that brings so many bytes.
fn heavy(group: &str, bytes: usize) -> JoinRequest {
    JoinRequest {
        protocols: vec![("range".into(), vec![7; bytes].into())],
        ..joining(group)
    }
}

#[tokio::test]
async fn the_memory_of_members_and_offsets_is_bounded_by_principal_and_in_all() {
    let broker = Broker::start_with(GroupConfig {
        max_groups: 100,
        max_groups_per_principal: 100,
        max_bytes_per_principal: 300_000,
        max_bytes: 450_000,
        max_metadata_bytes: 4096,
        ..config()
    });
    let member = |name: &str, group: &str| by(name, heavy(group, 100_000));
    broker.join(member("greedy", "1")).await.unwrap();
    broker.join(member("greedy", "2")).await.unwrap();
    let busy = |setting| GroupError::Busy(setting);
    let own = busy("groups.max-bytes-per-principal");
    assert_eq!(broker.join(member("greedy", "3")).await, Err(own.clone()));
    assert_eq!(broker.state("3"), None, "nothing is left of it");

    // Commits draw on the same share, and may always say again what is there.
    let commit = |partition: i32| {
        let mut commit = commit_by("greedy", "offsets");
        commit.offsets[0].partition = partition;
        commit.offsets[0].metadata = "m".repeat(4096);
        commit
    };
    let mut committed = 0;
    let refused = loop {
        match broker.commit(commit(committed)).await {
            Ok(()) => committed += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, own);
    assert!((15..25).contains(&committed), "{committed}");
    broker.commit(commit(0)).await.unwrap();

    broker.join(member("honest", "4")).await.unwrap();
    let refused = broker.join(member("honest", "5")).await;
    assert_eq!(refused, Err(busy("groups.max-bytes")));
    soon(broker.coordinator.delete("offsets")).await.unwrap();
    broker.join(member("honest", "5")).await.unwrap();
    assert!(broker.coordinator.usage().0 <= 450_000);
}

#[tokio::test]
async fn one_member_and_one_group_are_bounded() {
    let broker = Broker::start_with(GroupConfig {
        max_member_bytes: 10_000,
        max_group_bytes: 15_000,
        ..config()
    });
    let refused = Err(GroupError::GroupMaxSize);
    assert_eq!(broker.join(heavy("g", 10_001)).await, refused);
    assert_eq!(broker.state("g"), None);
    let joined = broker.join(heavy("g", 9_000)).await.unwrap();
    assert_eq!(broker.join(heavy("g", 9_000)).await, refused);
    let mut sync = leading("g", &joined);
    sync.assignments = vec![(joined.member_id.clone(), vec![7; 15_001].into())];
    let refused = soon(broker.coordinator.sync(sync)).await;
    assert_eq!(refused, Err(GroupError::GroupMaxSize));
}

#[tokio::test]
async fn memory_is_given_back_with_what_it_was_for() {
    let broker = Broker::start();
    let member = broker.join(heavy("g", 100_000)).await.unwrap();
    soon(broker.coordinator.sync(leading("g", &member)))
        .await
        .unwrap();
    let mut commit = committing("g", 1);
    commit.member_id.clone_from(&member.member_id);
    commit.generation = 1;
    broker.commit(commit).await.unwrap();
    let full = broker.coordinator.usage().0;
    assert!((100_000..110_000).contains(&full), "{full}");
    let broker = broker.restart();
    let restored = broker.coordinator.usage().0;
    assert!(restored.abs_diff(full) < 100, "{restored} {full}");
    let left = [(member.member_id, None)];
    broker.coordinator.leave("g", &left).unwrap();
    assert!(broker.coordinator.usage().0 < 5_000);
    soon(broker.coordinator.delete("g")).await.unwrap();
    assert_eq!(broker.coordinator.usage().0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_member_whose_connection_is_gone_is_not_kept_for_its_session() {
    let broker = Broker::start();
    let mut gone = Box::pin(broker.coordinator.join(heavy("g", 100_000)));
    assert!(gone.as_mut().now_or_never().is_none());
    drop(gone);
    until(|| broker.state("g") == Some("CompletingRebalance")).await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(broker.state("g"), Some("Empty"), "its session is 600 s");
    assert!(broker.coordinator.usage().0 < 5_000);
}

#[tokio::test]
async fn what_a_start_finds_belongs_to_the_first_that_uses_it() {
    let broker = Broker::start_with(few_groups());
    for group in ["1", "2", "3"] {
        broker.commit(commit_by("a", group)).await.unwrap();
    }
    let broker = broker.restart();
    for group in ["1", "2", "3"] {
        broker.commit(commit_by("a", group)).await.unwrap();
    }
    assert_eq!(broker.commit(commit_by("a", "4")).await, share_full());
    broker.commit(commit_by("b", "4")).await.unwrap();
}
