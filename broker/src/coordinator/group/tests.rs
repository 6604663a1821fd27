use std::time::Duration;

use super::world::*;
use super::*;
use crate::coordinator::{JoinRequest, SyncRequest};

fn syncing(member_id: &str, generation: i32) -> SyncRequest {
    SyncRequest {
        group: "group".into(),
        member_id: member_id.into(),
        instance_id: None,
        generation,
        protocol_type: None,
        protocol: None,
        assignments: Vec::new(),
    }
}

#[test]
fn two_members_join_within_the_initial_delay_and_share_one_generation() {
    let mut world = World::new();
    let first = world.join(&joining());
    assert_eq!(world.state(), "PreparingRebalance");
    world.pass(INITIAL_DELAY - 1);
    assert!(world.joins.is_empty());
    let second = world.join(&joining());
    world.pass(1);
    assert!(
        world.joins.is_empty(),
        "a member that joined prolongs the delay"
    );
    world.pass(INITIAL_DELAY);
    let (leader, follower) = (world.joined(first), world.joined(second));
    assert_eq!(world.state(), "CompletingRebalance");
    assert_eq!(leader.generation, 1);
    assert_eq!(follower.generation, 1);
    assert_eq!(leader.leader, leader.member_id);
    assert_eq!(follower.leader, leader.member_id);
    assert_eq!(leader.protocol, "range");
    assert_eq!(leader.protocol_type, "consumer");
    assert_eq!(leader.members.len(), 2);
    assert_eq!(leader.members[0].2, "range metadata");
    assert!(follower.members.is_empty());

    let waiting = world.sync("2", 1);
    assert!(world.syncs.is_empty(), "a follower waits for the leader");
    let sync = world.sync("1", 1);
    assert_eq!(world.assigned(sync), assignment("1", 1));
    assert_eq!(world.assigned(waiting), assignment("2", 1));
    assert_eq!(world.state(), "Stable");
    assert_eq!(world.heartbeat("1", 1), Ok(()));
}

#[test]
fn the_initial_delay_grows_no_further_than_the_rebalance_timeout() {
    let mut world = World::new();
    let first = world.join(&joining());
    for _ in 0..9 {
        world.pass(INITIAL_DELAY - 1);
        world.join(&joining());
    }
    assert!(world.joins.is_empty());
    world.pass(REBALANCE);
    assert_eq!(world.joined(first).members.len(), 10);
    assert!(world.now.elapsed >= Duration::from_millis(REBALANCE));
}

#[test]
fn a_third_member_makes_the_others_join_again() {
    let mut world = World::stable(&[joining(), joining()]);
    let third = world.join(&joining());
    assert_eq!(world.state(), "PreparingRebalance");
    let told = world.heartbeat("1", 1);
    assert_eq!(told, Err(GroupError::RebalanceInProgress));
    world.join(&rejoining("1"));
    assert!(!world.joins.contains_key(&third));
    world.join(&rejoining("2"));
    let outcome = world.joined(third);
    assert_eq!((outcome.generation, outcome.leader.as_str()), (2, "1"));
    assert_eq!(world.member_ids(), ["1", "2", "3"]);
}

#[test]
fn a_member_that_leaves_makes_the_others_join_again() {
    let mut world = World::stable(&[joining(), joining()]);
    assert_eq!(world.leave("1"), Ok(()));
    assert_eq!(world.leave("1"), Err(GroupError::UnknownMember));
    assert_eq!(
        world.heartbeat("2", 1),
        Err(GroupError::RebalanceInProgress)
    );
    let join = world.join(&rejoining("2"));
    assert_eq!(world.joined(join).leader, "2");
    assert_eq!(world.joined(join).generation, 2);
}

#[test]
fn the_last_member_leaves_an_empty_group_whose_emptiness_is_stored() {
    let mut world = World::stable(&[joining()]);
    world.leave("1").unwrap();
    assert_eq!(world.state(), "Empty");
    assert_eq!(world.group.empty_since_ms(), Some(world.now.wall_ms));
    let record = world.records.last().unwrap();
    assert_eq!((record.generation, record.members.len()), (2, 0));
    assert_eq!(record.changed_ms, Some(world.now.wall_ms));
    assert_eq!(record.leader, None);
}

#[test]
fn a_member_that_falls_silent_is_removed_when_its_session_ends() {
    let mut world = World::stable(&[joining(), joining()]);
    world.pass_alive(SESSION - 1000, &["2"], 1);
    assert_eq!(world.state(), "Stable");
    world.pass_alive(2000, &["2"], 1);
    assert_eq!(world.member_ids(), ["2"]);
    assert_eq!(world.state(), "PreparingRebalance");
    assert_eq!(world.heartbeat("1", 1), Err(GroupError::UnknownMember));
}

#[test]
fn members_that_send_heartbeats_stay() {
    let mut world = World::stable(&[joining(), joining()]);
    world.pass_alive(20 * SESSION, &["1", "2"], 1);
    assert_eq!(world.state(), "Stable");
    assert_eq!(world.member_ids(), ["1", "2"]);
}

#[test]
fn a_member_that_comes_back_late_is_removed_at_the_rebalance_timeout() {
    let mut world = World::stable(&[joining(), joining()]);
    let join = world.join(&rejoining("1"));
    world.pass_alive(REBALANCE - 1000, &["2"], 1);
    assert!(!world.joins.contains_key(&join));
    world.pass_alive(2000, &["2"], 1);
    assert_eq!(world.joined(join).generation, 2);
    assert_eq!(world.member_ids(), ["1"]);
    let late = world.join(&rejoining("2"));
    assert_eq!(world.refused_join(late), GroupError::UnknownMember);
}

#[test]
fn a_leader_that_joins_again_opens_a_rebalance_and_a_follower_does_not() {
    let mut world = World::stable(&[joining(), joining()]);
    let follower = world.join(&rejoining("2"));
    assert_eq!(world.state(), "Stable");
    let outcome = world.joined(follower);
    assert_eq!((outcome.generation, outcome.leader.as_str()), (1, "1"));
    assert!(outcome.members.is_empty());
    let sync = world.sync("2", 1);
    assert_eq!(world.assigned(sync), assignment("2", 1));
    world.join(&rejoining("1"));
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn a_follower_with_changed_metadata_opens_a_rebalance() {
    let mut world = World::stable(&[joining(), joining()]);
    world.join(&JoinRequest {
        protocols: vec![("range".into(), "other topics".into())],
        ..rejoining("2")
    });
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn a_lost_join_answer_is_given_again_while_the_group_completes() {
    let mut world = World::new();
    world.join(&joining());
    world.pass(INITIAL_DELAY);
    let again = world.join(&rejoining("1"));
    assert_eq!(world.joined(again).generation, 1);
    assert_eq!(world.joined(again).members.len(), 1);
    assert_eq!(world.state(), "CompletingRebalance");
}

#[test]
fn a_join_that_is_sent_twice_answers_the_first_with_a_retry() {
    let mut world = World::stable(&[joining(), joining()]);
    let first = world.join(&rejoining("1"));
    let second = world.join(&rejoining("1"));
    assert_eq!(world.refused_join(first), GroupError::RebalanceInProgress);
    world.join(&rejoining("2"));
    assert_eq!(world.joined(second).generation, 2);
}

#[test]
fn a_leader_that_dies_before_it_assigns_is_replaced() {
    let mut world = World::new();
    world.join(&joining());
    world.join(&joining());
    world.pass(2 * INITIAL_DELAY);
    let waiting = world.sync("2", 1);
    world.pass(SESSION);
    assert_eq!(world.refused_sync(waiting), GroupError::RebalanceInProgress);
    assert_eq!(world.member_ids(), ["2"]);
    let join = world.join(&rejoining("2"));
    assert_eq!(world.joined(join).leader, "2");
}

#[test]
fn a_leader_that_lives_but_never_assigns_is_removed_at_the_sync_deadline() {
    let mut world = World::new();
    world.join(&joining());
    world.join(&joining());
    world.pass(2 * INITIAL_DELAY);
    let waiting = world.sync("2", 1);
    world.pass_alive(REBALANCE - 1000, &["1"], 1);
    assert!(world.syncs.is_empty());
    world.pass_alive(2000, &["1"], 1);
    assert_eq!(world.refused_sync(waiting), GroupError::RebalanceInProgress);
    assert_eq!(world.member_ids(), ["2"]);
}

#[test]
fn a_follower_that_never_syncs_is_removed_at_the_sync_deadline() {
    let mut world = World::new();
    world.join(&joining());
    world.join(&joining());
    world.pass(2 * INITIAL_DELAY);
    world.sync("1", 1);
    assert_eq!(world.state(), "Stable");
    world.pass_alive(REBALANCE + 1000, &["1", "2"], 1);
    assert_eq!(world.state(), "PreparingRebalance");
    assert_eq!(world.member_ids(), ["1"]);
}

#[test]
fn members_without_a_protocol_in_common_are_kept_apart() {
    let mut world = World::stable(&[joining()]);
    let table = [
        JoinRequest {
            protocols: protocols(&["sticky"]),
            ..joining()
        },
        JoinRequest {
            protocols: Vec::new(),
            ..joining()
        },
        JoinRequest {
            protocol_type: "connect".into(),
            ..joining()
        },
    ];
    for request in &table {
        let join = world.join(request);
        assert_eq!(world.refused_join(join), GroupError::InconsistentProtocol);
    }
    let mut world = World::new();
    let join = world.join(&table[1]);
    assert_eq!(world.refused_join(join), GroupError::InconsistentProtocol);
}

#[test]
fn the_protocol_with_most_votes_among_the_common_ones_wins() {
    let wants = |names: &[&str]| JoinRequest {
        protocols: protocols(names),
        ..joining()
    };
    let table: [(&[JoinRequest], &str); 3] = [
        (
            &[wants(&["a", "b"]), wants(&["b", "a"]), wants(&["b", "a"])],
            "b",
        ),
        (&[wants(&["a", "b"]), wants(&["b", "a"])], "a"),
        (
            &[
                wants(&["a", "b", "c"]),
                wants(&["c", "b"]),
                wants(&["x", "b"]),
            ],
            "b",
        ),
    ];
    for (requests, expected) in table {
        let world = World::stable(requests);
        assert_eq!(world.group.describe().protocol, expected);
    }
}

#[test]
fn stale_generations_and_unknown_members_are_refused_everywhere() {
    let mut world = World::stable(&[joining()]);
    for (member, generation, expected) in [
        ("1", 0, GroupError::IllegalGeneration),
        ("1", 2, GroupError::IllegalGeneration),
        ("1", -1, GroupError::IllegalGeneration),
        ("9", 1, GroupError::UnknownMember),
        ("", 1, GroupError::UnknownMember),
        ("", -1, GroupError::UnknownMember),
    ] {
        assert_eq!(world.heartbeat(member, generation), Err(expected.clone()));
        let commit = world
            .group
            .check_commit(world.now, member, None, generation);
        assert_eq!(commit, Err(expected.clone()), "{member} {generation}");
        let sync = world.sync(member, generation);
        assert_eq!(world.refused_sync(sync), expected);
    }
    let join = world.join(&rejoining("9"));
    assert_eq!(world.refused_join(join), GroupError::UnknownMember);
}

#[test]
fn a_sync_of_another_protocol_is_refused() {
    let mut world = World::stable(&[joining()]);
    let table = [
        (Some("consumer"), Some("range"), None),
        (
            Some("connect"),
            Some("range"),
            Some(GroupError::InconsistentProtocol),
        ),
        (
            Some("consumer"),
            Some("sticky"),
            Some(GroupError::InconsistentProtocol),
        ),
    ];
    for (kind, protocol, refusal) in table {
        let sync = world.send_sync(SyncRequest {
            protocol_type: kind.map(str::to_owned),
            protocol: protocol.map(str::to_owned),
            ..syncing("1", 1)
        });
        assert_eq!(world.syncs[&sync].clone().err(), refusal);
    }
}

#[test]
fn a_sync_during_the_next_rebalance_is_told_to_join_again() {
    let mut world = World::stable(&[joining(), joining()]);
    world.join(&joining());
    let sync = world.sync("2", 1);
    assert_eq!(world.refused_sync(sync), GroupError::RebalanceInProgress);
}

#[test]
fn commits_follow_the_state() {
    let mut world = World::new();
    let commit = |world: &mut World, member: &str, generation| {
        world
            .group
            .check_commit(world.now, member, None, generation)
    };
    assert_eq!(
        commit(&mut world, "", -1),
        Ok(()),
        "an empty group takes all"
    );
    assert_eq!(commit(&mut world, "1", 1), Err(GroupError::UnknownMember));
    world.join(&joining());
    world.pass(INITIAL_DELAY);
    assert_eq!(
        commit(&mut world, "1", 1),
        Err(GroupError::RebalanceInProgress)
    );
    world.sync("1", 1);
    assert_eq!(commit(&mut world, "1", 1), Ok(()));
    assert_eq!(commit(&mut world, "", -1), Err(GroupError::UnknownMember));
    world.join(&joining());
    assert_eq!(world.state(), "PreparingRebalance");
    assert_eq!(
        commit(&mut world, "1", 1),
        Ok(()),
        "the last chance to commit"
    );
}

#[test]
fn a_commit_prolongs_the_session() {
    let mut world = World::stable(&[joining()]);
    world.pass(SESSION - 1);
    world.group.check_commit(world.now, "1", None, 1).unwrap();
    world.pass(SESSION - 1);
    assert_eq!(world.member_ids(), ["1"]);
}

#[test]
fn a_new_dynamic_member_is_told_its_id_and_joins_with_it() {
    let request = JoinRequest {
        require_known_member_id: true,
        ..joining()
    };
    let mut world = World::new();
    let told = world.join(&request);
    let expected = GroupError::MemberIdRequired("1".into());
    assert_eq!(world.refused_join(told), expected);
    assert_eq!(world.state(), "Empty");
    assert!(!world.group.is_vacant(), "the member is expected");
    let join = world.join(&JoinRequest {
        member_id: "1".into(),
        ..request
    });
    world.pass(INITIAL_DELAY);
    assert_eq!(world.joined(join).member_id, "1");
}

#[test]
fn a_member_that_does_not_come_back_with_its_id_is_forgotten() {
    let request = JoinRequest {
        require_known_member_id: true,
        ..joining()
    };
    let mut world = World::stable(&[joining()]);
    world.join(&request);
    let waiting = world.join(&rejoining("1"));
    assert!(
        !world.joins.contains_key(&waiting),
        "the group waits for the member that it expects"
    );
    world.pass(SESSION);
    assert_eq!(world.joined(waiting).generation, 2);
    let late = world.join(&JoinRequest {
        member_id: "2".into(),
        ..request
    });
    assert_eq!(world.refused_join(late), GroupError::UnknownMember);
}

#[test]
fn an_expected_member_can_leave() {
    let mut world = World::new();
    world.join(&JoinRequest {
        require_known_member_id: true,
        ..joining()
    });
    assert_eq!(world.leave("1"), Ok(()));
    assert!(world.group.is_vacant());
}

#[test]
fn a_full_group_refuses_new_members_and_keeps_its_own() {
    let mut world = World::with_limits(Limits {
        initial_rebalance_delay: Duration::ZERO,
        max_members: 2,
        ..LIMITS
    });
    world.join(&joining());
    world.join(&joining());
    let third = world.join(&joining());
    assert_eq!(world.refused_join(third), GroupError::GroupMaxSize);
    world.pass(0);
    world.sync("2", 1);
    world.sync("1", 1);
    let third = world.join(&joining());
    assert_eq!(world.refused_join(third), GroupError::GroupMaxSize);
    assert_eq!(world.state(), "Stable");
    assert_eq!(world.member_ids(), ["1", "2"]);
}

#[test]
fn expected_members_are_bounded_too() {
    let mut world = World::new();
    let request = JoinRequest {
        require_known_member_id: true,
        ..joining()
    };
    for _ in 0..10 {
        world.join(&request);
    }
    let join = world.join(&request);
    assert_eq!(world.refused_join(join), GroupError::GroupMaxSize);
}

#[test]
fn metadata_above_the_bound_is_refused() {
    let mut world = World::stable(&[joining()]);
    let join = world.join(&JoinRequest {
        protocols: vec![("range".into(), vec![0; MAX_GROUP_BYTES].into())],
        ..joining()
    });
    assert_eq!(world.refused_join(join), GroupError::GroupMaxSize);
    assert_eq!(world.state(), "Stable");
}

#[test]
fn assignments_above_the_bound_are_refused() {
    let mut world = World::new();
    world.join(&joining());
    world.pass(INITIAL_DELAY);
    let sync = world.send_sync(SyncRequest {
        assignments: vec![("1".into(), vec![0; MAX_GROUP_BYTES].into())],
        ..syncing("1", 1)
    });
    assert_eq!(world.refused_sync(sync), GroupError::GroupMaxSize);
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn a_static_member_takes_its_place_again_without_a_rebalance() {
    let mut world = World::stable(&[joining(), instance("i")]);
    let back = world.join(&instance("i"));
    let outcome = world.joined(back);
    assert_eq!(world.state(), "Stable");
    assert_eq!((outcome.generation, outcome.member_id.as_str()), (1, "3"));
    assert!(!outcome.skip_assignment, "it does not lead");
    assert_eq!(world.member_ids(), ["1", "3"]);
    let stored = world.records.last().unwrap();
    assert_eq!(stored.members[1].member_id, "3");
    assert_eq!(stored.members[1].assignment, assignment("2", 1));
    let sync = world.sync("3", 1);
    assert_eq!(world.assigned(sync), assignment("2", 1));
}

#[test]
fn the_old_id_of_a_replaced_static_member_is_fenced_everywhere() {
    let mut world = World::stable(&[joining(), instance("i")]);
    world.join(&instance("i"));
    let fenced = GroupError::FencedInstanceId;
    let (group, now) = (&mut world.group, world.now);
    let heartbeat = group.heartbeat(now, "2", Some("i"), 1);
    assert_eq!(heartbeat, Err(fenced.clone()));
    let commit = group.check_commit(now, "2", Some("i"), 1);
    assert_eq!(commit, Err(fenced.clone()));
    let left = group.leave(now, &[("2".into(), Some("i".into()))]);
    assert_eq!(left, [Err(fenced.clone())]);
    let sync = world.send_sync(SyncRequest {
        instance_id: Some("i".into()),
        ..syncing("2", 1)
    });
    assert_eq!(world.refused_sync(sync), fenced);
    let join = world.join(&JoinRequest {
        member_id: "2".into(),
        ..instance("i")
    });
    assert_eq!(world.refused_join(join), fenced);
    let unknown = world.group.heartbeat(world.now, "1", Some("other"), 1);
    assert_eq!(unknown, Err(GroupError::UnknownMember));
}

#[test]
fn a_static_leader_that_comes_back_need_not_assign_again() {
    let mut world = World::stable(&[instance("i"), joining()]);
    let back = world.join(&instance("i"));
    let outcome = world.joined(back);
    assert_eq!(outcome.leader, outcome.member_id);
    assert!(outcome.skip_assignment);
    assert_eq!(outcome.members.len(), 2);
    assert_eq!(world.state(), "Stable");
}

#[test]
fn a_static_member_with_another_protocol_opens_a_rebalance() {
    let wants = |names: &[&str]| JoinRequest {
        protocols: protocols(names),
        ..instance("i")
    };
    let mut world = World::stable(&[wants(&["a", "b"])]);
    let back = world.join(&wants(&["b", "a"]));
    assert_eq!(world.joined(back).generation, 2);
    assert_eq!(world.joined(back).protocol, "b");
}

#[test]
fn two_static_members_of_one_instance_fence_the_one_that_waits() {
    let mut world = World::new();
    let first = world.join(&instance("i"));
    let second = world.join(&instance("i"));
    assert_eq!(world.refused_join(first), GroupError::FencedInstanceId);
    world.pass(2 * INITIAL_DELAY);
    assert_eq!(world.joined(second).member_id, "2");
    let waiting = world.join(&instance("other"));
    assert_eq!(world.state(), "PreparingRebalance");
    world.join(&rejoining("2"));
    let outcome = world.joined(waiting);
    let sync = world.sync(&outcome.member_id, 2);
    let again = world.join(&instance("other"));
    assert_eq!(world.refused_sync(sync), GroupError::FencedInstanceId);
    assert_eq!(
        world.state(),
        "PreparingRebalance",
        "the leader may hold the old id"
    );
    world.join(&rejoining("2"));
    assert_eq!(world.joined(again).generation, 3);
}

#[test]
fn a_static_member_survives_a_rebalance_until_its_session_ends() {
    let mut world = World::stable(&[joining(), instance("i")]);
    world.join(&rejoining("1"));
    world.pass(SESSION - 1);
    assert_eq!(world.member_ids(), ["1", "2"]);
    world.pass(1);
    assert_eq!(world.member_ids(), ["1"]);
}

#[test]
fn a_rebalance_that_nobody_joins_waits_for_static_members_sessions() {
    let long = JoinRequest {
        session_timeout: Duration::from_millis(10 * REBALANCE),
        ..instance("i")
    };
    let mut world = World::stable(&[joining(), long]);
    world.leave("1").unwrap();
    world.pass(3 * REBALANCE);
    assert_eq!(world.state(), "PreparingRebalance");
    assert_eq!(world.member_ids(), ["2"]);
    world.pass(10 * REBALANCE);
    assert_eq!(world.state(), "Empty");
}

#[test]
fn an_operator_removes_a_static_member_by_its_instance() {
    let mut world = World::stable(&[joining(), instance("i")]);
    let answers = world.group.leave(
        world.now,
        &[
            (String::new(), Some("i".into())),
            (String::new(), Some("j".into())),
            ("1".into(), None),
            ("7".into(), None),
        ],
    );
    let unknown = Err(GroupError::UnknownMember);
    assert_eq!(answers, [Ok(()), unknown.clone(), Ok(()), unknown]);
    assert_eq!(world.state(), "Empty");
}

#[test]
fn assignments_are_given_only_when_they_are_stored() {
    let mut world = World::new();
    world.stores_at_once = false;
    world.join(&joining());
    world.pass(INITIAL_DELAY);
    let sync = world.sync("1", 1);
    let again = world.sync("1", 1);
    assert_eq!(world.refused_sync(sync), GroupError::RebalanceInProgress);
    assert_eq!(world.tickets.len(), 1, "one record for one generation");
    world.pass(REBALANCE + SESSION);
    assert!(!world.syncs.contains_key(&again));
    world.stored(Ok(()));
    assert_eq!(world.assigned(again), assignment("1", 1));
    assert_eq!(world.records[0].members[0].assignment, assignment("1", 1));
    assert_eq!(world.state(), "Stable");
}

#[test]
fn assignments_that_cannot_be_stored_open_a_rebalance() {
    let mut world = World::new();
    world.stores_at_once = false;
    world.join(&joining());
    world.pass(INITIAL_DELAY);
    let sync = world.sync("1", 1);
    let error = GroupError::Storage("disk".into());
    world.stored(Err(error.clone()));
    assert_eq!(world.refused_sync(sync), error);
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn a_rebalance_overtakes_assignments_that_are_being_stored() {
    let mut world = World::new();
    world.stores_at_once = false;
    world.join(&joining());
    world.pass(INITIAL_DELAY);
    let sync = world.sync("1", 1);
    world.join(&joining());
    assert_eq!(world.refused_sync(sync), GroupError::RebalanceInProgress);
    world.stored(Ok(()));
    assert_eq!(world.state(), "PreparingRebalance");
    world.join(&rejoining("1"));
    assert_eq!(world.state(), "CompletingRebalance");
}

#[test]
fn a_rebalance_answers_a_static_member_whose_new_id_is_being_stored() {
    let mut world = World::stable(&[joining(), instance("i")]);
    world.stores_at_once = false;
    let back = world.join(&instance("i"));
    assert!(!world.joins.contains_key(&back));
    world.join(&rejoining("1"));
    assert_eq!(world.joined(back).generation, 2);
    world.stored(Ok(()));
    assert_eq!(world.state(), "CompletingRebalance");
}

#[test]
fn a_new_member_whose_client_went_away_is_given_up() {
    let slow = JoinRequest {
        rebalance_timeout: Duration::from_secs(3_600),
        ..joining()
    };
    let mut world = World::stable(&[slow]);
    let join = world.join(&joining());
    world.pass_alive(300_000, &["1"], 1);
    assert_eq!(world.refused_join(join), GroupError::UnknownMember);
    assert_eq!(world.member_ids(), ["1"]);
}

#[test]
fn a_restored_group_goes_on_with_its_generation() {
    let world = World::stable(&[joining(), instance("i")]);
    let record = world.records.last().unwrap().clone();
    let limits = world.group.limits;
    let mut restored = World::new();
    restored.group = Group::restore("group", limits, record, restored.now);
    assert_eq!(restored.group.describe(), world.group.describe());
    assert_eq!(restored.heartbeat("1", 1), Ok(()));
    let sync = restored.sync("2", 1);
    assert_eq!(restored.assigned(sync), assignment("2", 1));
    restored.pass_alive(SESSION, &["1"], 1);
    assert_eq!(restored.member_ids(), ["1"], "the silent one is gone");
}

#[test]
fn only_an_empty_group_can_be_deleted() {
    let mut world = World::stable(&[joining()]);
    assert_eq!(world.group.delete(), Err(GroupError::NonEmptyGroup));
    world.leave("1").unwrap();
    assert_eq!(world.group.delete(), Ok(()));
    assert!(world.group.is_dead());
    assert_eq!(world.group.delete(), Err(GroupError::GroupIdNotFound));
}

#[test]
fn members_are_described_fully_in_a_stable_group_alone() {
    let mut world = World::stable(&[joining()]);
    let description = world.group.describe();
    assert_eq!(description.protocol, "range");
    assert_eq!(description.members[0].metadata, "range metadata");
    assert_eq!(description.members[0].assignment, assignment("1", 1));
    world.join(&rejoining("1"));
    let description = world.group.describe();
    assert_eq!(description.state, "CompletingRebalance");
    assert_eq!(description.protocol, "");
    assert!(description.members[0].metadata.is_empty());
    assert!(description.members[0].assignment.is_empty());
}
