use kafka_protocol::messages::OffsetCommitRequest;
use tidegate::kafka::handlers::offset_commit::VERSIONS;

use crate::support::{ask, broker_with_orders, commit_request, settle, text, topic};

#[test]
fn a_consumer_that_assigns_itself_commits_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    for version in VERSIONS {
        let request = commit_request("simple", 0, i64::from(version));
        let response = ask(&mut client, version, &request);
        assert_eq!(
            response.topics[0].partitions[0].error_code, 0,
            "version {version}"
        );
    }
}

#[test]
fn partitions_are_refused_one_by_one() {
    let (_broker, mut client) = broker_with_orders();
    let mut request = commit_request("mixed", 0, 5);
    let orders = &mut request.topics[0];
    let partition = orders.partitions[0].clone();
    orders
        .partitions
        .push(partition.clone().with_partition_index(99));
    let long = text(&"x".repeat(10_000));
    orders.partitions.push(
        partition
            .with_partition_index(1)
            .with_committed_metadata(Some(long)),
    );
    let elsewhere = orders.clone().with_name(topic("missing"));
    request.topics.push(elsewhere);
    let response = ask(&mut client, 8, &request);
    let codes = |index: usize| -> Vec<i16> {
        let partitions = &response.topics[index].partitions;
        partitions
            .iter()
            .map(|partition| partition.error_code)
            .collect()
    };
    assert_eq!(codes(0), [0, 3, 12]);
    assert_eq!(codes(1), [3, 3, 3]);
}

#[test]
fn a_member_commits_in_its_generation_alone() {
    let (_broker, mut client) = broker_with_orders();
    let joined = settle(&mut client, "members");
    let request = commit_request("members", 0, 5)
        .with_member_id(joined.member_id)
        .with_generation_id_or_member_epoch(joined.generation_id);
    let mut code = |request: OffsetCommitRequest| {
        ask(&mut client, 7, &request).topics[0].partitions[0].error_code
    };
    assert_eq!(code(request.clone()), 0);
    assert_eq!(
        code(request.clone().with_generation_id_or_member_epoch(99)),
        22
    );
    assert_eq!(code(request.with_member_id(text("nobody"))), 25);
}
