use kafka_protocol::messages::OffsetFetchRequest;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use tidegate::kafka::handlers::offset_fetch::VERSIONS;

use crate::support::{ask, broker_with_orders, commit, group, topic};

/// Partition, offset and metadata.
type Seen = Vec<(i32, i64, String)>;

#[test]
fn committed_offsets_are_found_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    commit(&mut client, "readers", 1, 42);
    for version in VERSIONS {
        for all in [false, true] {
            if all && version < 2 {
                continue;
            }
            let seen: Seen = if version < 8 {
                let named = OffsetFetchRequestTopic::default()
                    .with_name(topic("orders"))
                    .with_partition_indexes(vec![1, 2]);
                let request = OffsetFetchRequest::default()
                    .with_group_id(group("readers"))
                    .with_topics((!all).then(|| vec![named]));
                let response = ask(&mut client, version, &request);
                assert_eq!(response.error_code, 0);
                let partitions = response.topics[0].partitions.iter();
                let metadata = |m: &Option<_>| m.as_ref().map(ToString::to_string);
                partitions
                    .map(|p| (p.partition_index, p.committed_offset, metadata(&p.metadata)))
                    .map(|(index, offset, note)| (index, offset, note.unwrap_or_default()))
                    .collect()
            } else {
                let named = OffsetFetchRequestTopics::default()
                    .with_name(topic("orders"))
                    .with_partition_indexes(vec![1, 2]);
                let asked = OffsetFetchRequestGroup::default()
                    .with_group_id(group("readers"))
                    .with_topics((!all).then(|| vec![named]));
                let request = OffsetFetchRequest::default().with_groups(vec![asked]);
                let response = ask(&mut client, version, &request);
                assert_eq!(response.groups[0].error_code, 0);
                let partitions = response.groups[0].topics[0].partitions.iter();
                let metadata = |m: &Option<_>| m.as_ref().map(ToString::to_string);
                partitions
                    .map(|p| (p.partition_index, p.committed_offset, metadata(&p.metadata)))
                    .map(|(index, offset, note)| (index, offset, note.unwrap_or_default()))
                    .collect()
            };
            let mut expected = vec![(1, 42, "note".to_owned())];
            if !all {
                expected.push((2, -1, String::new()));
            }
            assert_eq!(seen, expected, "version {version}, all: {all}");
        }
    }
}

#[test]
fn a_group_that_was_never_heard_of_has_committed_nothing() {
    let (_broker, mut client) = broker_with_orders();
    let request = OffsetFetchRequest::default()
        .with_group_id(group("unheard"))
        .with_topics(None);
    let response = ask(&mut client, 7, &request);
    assert_eq!((response.error_code, response.topics.len()), (0, 0));
}
