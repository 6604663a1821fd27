use harness::RawClient;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, OffsetFetchRequest, ProducerId, TxnOffsetCommitRequest,
};
use tidegate::kafka::handlers::txn_offset_commit::VERSIONS;

use crate::support::{ask, broker_with_orders, group, settle, text, topic};
use crate::transactions::{Identity, end, id, init, offset_request};

/// Code and offset of partition 0.
fn fetched(client: &mut RawClient, group_name: &str, require_stable: bool) -> (i16, i64) {
    let orders = OffsetFetchRequestTopics::default()
        .with_name(topic("orders"))
        .with_partition_indexes(vec![0]);
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(group(group_name))
        .with_topics(Some(vec![orders]));
    let request = OffsetFetchRequest::default()
        .with_groups(vec![asked])
        .with_require_stable(require_stable);
    let response = ask(client, 8, &request);
    let partition = &response.groups[0].topics[0].partitions[0];
    (partition.error_code, partition.committed_offset)
}

fn code(client: &mut RawClient, version: i16, request: &TxnOffsetCommitRequest) -> i16 {
    ask(client, version, request).topics[0].partitions[0].error_code
}

fn add_group(client: &mut RawClient, producer: Identity, group_name: &str) {
    let request = AddOffsetsToTxnRequest::default()
        .with_transactional_id(id("t"))
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_group_id(group(group_name));
    assert_eq!(ask(client, 3, &request).error_code, 0);
}

#[test]
fn offsets_count_when_the_transaction_commits_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    for version in VERSIONS {
        let group_name = format!("g{version}");
        let mut producer = init(&mut client, "t");
        for (is_commit, offset, after) in [(false, 5, -1), (true, 6, 6), (false, 7, 6)] {
            let request = offset_request("t", producer, &group_name, offset);
            if version < 5 {
                let outside = if version < 4 { 48 } else { 120 };
                assert_eq!(code(&mut client, version, &request), outside);
                add_group(&mut client, producer, &group_name);
            }
            let before = fetched(&mut client, &group_name, true);
            assert_eq!(code(&mut client, version, &request), 0, "version {version}");
            assert_eq!(fetched(&mut client, &group_name, false), before);
            let unstable = fetched(&mut client, &group_name, true);
            assert_eq!(unstable, (88, -1), "UNSTABLE_OFFSET_COMMIT");
            producer = end(&mut client, "t", producer, is_commit);
            assert_eq!(fetched(&mut client, &group_name, true), (0, after));
            assert_eq!(code(&mut client, version, &request), 47, "it is fenced");
        }
    }
}

#[test]
fn pending_offsets_outlive_a_kill() {
    let (mut broker, mut client) = broker_with_orders();
    let producer = init(&mut client, "t");
    let request = offset_request("t", producer, "g", 5);
    assert_eq!(code(&mut client, 5, &request), 0);
    for is_last in [false, true] {
        broker.kill9();
        broker.restart().unwrap_or_else(|error| panic!("{error:#}"));
        client = broker.connect();
        if !is_last {
            assert_eq!(fetched(&mut client, "g", true), (88, -1));
            assert_eq!(fetched(&mut client, "g", false), (0, -1));
            end(&mut client, "t", producer, true);
        }
    }
    assert_eq!(fetched(&mut client, "g", true), (0, 5));
}

#[test]
fn a_member_must_be_of_the_groups_generation() {
    let (_broker, mut client) = broker_with_orders();
    let producer = init(&mut client, "t");
    let member = settle(&mut client, "g");
    let request = |member_id: &str, generation| {
        offset_request("t", producer, "g", 5)
            .with_member_id(text(member_id))
            .with_generation_id(generation)
    };
    let known = member.member_id.to_string();
    let generation = member.generation_id;
    assert_eq!(code(&mut client, 5, &request(&known, generation + 1)), 22);
    assert_eq!(code(&mut client, 5, &request("stranger", generation)), 25);
    let fenced = request(&known, generation).with_group_instance_id(Some(text("i")));
    assert_eq!(code(&mut client, 5, &fenced), 25);
    assert_eq!(code(&mut client, 5, &request(&known, generation)), 0);
    assert_eq!(
        code(&mut client, 5, &request("", -1)),
        0,
        "it says nothing of itself"
    );
    let missing = offset_request("t", producer, "missing", 5).with_generation_id(1);
    assert_eq!(code(&mut client, 5, &missing), 22);
}
