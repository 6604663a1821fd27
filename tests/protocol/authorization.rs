//! What an unknown principal is told by every API when authorization is on and no ACL speaks of it.

use harness::{Broker, RawClient};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::{
    CreateAclsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteTopicsRequest,
    DescribeAclsRequest, DescribeGroupsRequest, DescribeLogDirsRequest, FindCoordinatorRequest,
    HeartbeatRequest, LeaveGroupRequest, ListGroupsRequest, OffsetDeleteRequest,
    OffsetFetchRequest, SyncGroupRequest, WriteTxnMarkersRequest,
};

use crate::create_acls::allow_read;
use crate::support::{ask, commit_request, group, join_request, text, topic};

const DENYING: &str = r#"
[broker]
data-dir = "{data}"

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"

[security]
authorization = true
super-users = ["User:root"]

[admin]
bind = "127.0.0.1:0"
"#;

const TOPIC: i16 = 29;
const GROUP: i16 = 30;
const CLUSTER: i16 = 31;

fn denying() -> (Broker, RawClient) {
    let broker = Broker::builder()
        .config(DENYING)
        .start()
        .unwrap_or_else(|error| panic!("{error:#}"));
    let client = broker.connect();
    (broker, client)
}

#[test]
fn transactions_cannot_be_ended_from_outside() {
    let (_broker, mut client) = denying();
    let mine = WritableTxnMarkerTopic::default()
        .with_name(topic("mine"))
        .with_partition_indexes(vec![0]);
    let marker = WritableTxnMarker::default().with_topics(vec![mine]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let response = ask(&mut client, 1, &request);
    let told = &response.markers[0].topics[0].partitions[0];
    assert_eq!(told.error_code, CLUSTER, "whether it exists is not told");
}

#[test]
fn topics_can_be_neither_made_nor_deleted() {
    let (_broker, mut client) = denying();
    let wish = CreatableTopic::default()
        .with_name(topic("mine"))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let create = CreateTopicsRequest::default().with_topics(vec![wish]);
    assert_eq!(ask(&mut client, 7, &create).topics[0].error_code, TOPIC);
    let missing = DeleteTopicState::default().with_name(Some(topic("missing")));
    let delete = DeleteTopicsRequest::default().with_topics(vec![missing]);
    let code = ask(&mut client, 6, &delete).responses[0].error_code;
    assert_eq!(code, TOPIC, "whether it exists is not told");
}

#[test]
fn groups_are_closed_to_strangers() {
    let (_broker, mut client) = denying();
    let client = &mut client;
    let id = || group("closed");
    assert_eq!(
        ask(client, 5, &join_request("closed", "")).error_code,
        GROUP
    );
    let sync = SyncGroupRequest::default().with_group_id(id());
    assert_eq!(ask(client, 3, &sync).error_code, GROUP);
    let beat = HeartbeatRequest::default().with_group_id(id());
    assert_eq!(ask(client, 3, &beat).error_code, GROUP);
    let leave = LeaveGroupRequest::default().with_group_id(id());
    assert_eq!(ask(client, 3, &leave).error_code, GROUP);
    let commit = ask(client, 8, &commit_request("closed", 0, 1));
    assert_eq!(commit.topics[0].partitions[0].error_code, GROUP);
    let asked = OffsetFetchRequestGroup::default().with_group_id(id());
    let fetch = OffsetFetchRequest::default().with_groups(vec![asked]);
    assert_eq!(ask(client, 8, &fetch).groups[0].error_code, GROUP);
    let describe = DescribeGroupsRequest::default().with_groups(vec![id()]);
    assert_eq!(ask(client, 5, &describe).groups[0].error_code, GROUP);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![id()]);
    assert_eq!(ask(client, 2, &delete).results[0].error_code, GROUP);
    let delete = OffsetDeleteRequest::default().with_group_id(id());
    assert_eq!(ask(client, 0, &delete).error_code, GROUP);
    let list = ask(client, 4, &ListGroupsRequest::default());
    assert_eq!((list.error_code, list.groups.len()), (0, 0));
}

#[test]
fn coordinators_are_told_to_those_who_may_see_the_group() {
    let (_broker, mut client) = denying();
    for (kind, code) in [(0, GROUP), (1, 53)] {
        let request = FindCoordinatorRequest::default()
            .with_key_type(kind)
            .with_coordinator_keys(vec![text("key")]);
        let found = ask(&mut client, 4, &request).coordinators;
        assert_eq!(found[0].error_code, code);
    }
}

#[test]
fn the_cluster_is_closed_to_strangers() {
    let (_broker, mut client) = denying();
    let client = &mut client;
    let create = CreateAclsRequest::default().with_creations(vec![allow_read("orders", 3)]);
    assert_eq!(ask(client, 3, &create).results[0].error_code, CLUSTER);
    let describe = DescribeAclsRequest::default()
        .with_resource_type_filter(1)
        .with_operation(1)
        .with_permission_type(1);
    assert_eq!(ask(client, 3, &describe).error_code, CLUSTER);
    let directories = DescribeLogDirsRequest::default().with_topics(None);
    assert_eq!(ask(client, 4, &directories).error_code, CLUSTER);
}
