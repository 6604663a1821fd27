use bytes::Bytes;
use kafka_protocol::messages::*;

use super::*;

fn topic(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn offsets(name: &str, partitions: &[i32]) -> offset_fetch_request::OffsetFetchRequestTopic {
    offset_fetch_request::OffsetFetchRequestTopic::default()
        .with_name(topic(name))
        .with_partition_indexes(partitions.to_vec())
}

fn asked(items: usize) -> Asked {
    Asked {
        items,
        everything: false,
    }
}

#[test]
fn names_keep_the_order_of_their_first_mention_however_many_there_are() {
    for count in [2, COMPARED, COMPARED + 1, 5_000] {
        let numbers = (0..count).rev().map(|number| format!("t{number}"));
        let once: Vec<TopicName> = numbers.map(|name| topic(&name)).collect();
        let mut names = once.clone();
        names.extend(once.iter().rev().cloned());
        names.extend(once.clone());
        assert_eq!(List::reduce(&mut names), asked(count));
        assert_eq!(names, once);
        assert_eq!(List::reduce(&mut names), asked(count), "nothing is left");
        assert_eq!(names, once);
    }
}

#[test]
fn a_topic_that_comes_twice_with_other_partitions_is_one_topic_with_all_of_them() {
    let topics = vec![
        offsets("a", &[2, 0]),
        offsets("b", &[0]),
        offsets("a", &[1, 2]),
    ];
    let mut request = OffsetFetchRequest::default().with_topics(Some(topics));
    assert_eq!(request.reduce(), Ok(asked(2 + 3 + 1)));
    let topics = request.topics.expect("they were given");
    assert_eq!(topics, [offsets("a", &[2, 0, 1]), offsets("b", &[0])]);
}

#[test]
fn null_stands_for_everything_and_swallows_what_is_named_beside_it() {
    let group = |topics| {
        offset_fetch_request::OffsetFetchRequestGroup::default()
            .with_group_id(GroupId("g".into()))
            .with_topics(topics)
    };
    let groups = vec![group(Some(Vec::new())), group(None)];
    let mut request = OffsetFetchRequest::default().with_groups(groups);
    assert!(request.reduce().expect("nothing is too long").everything);
    assert_eq!(request.groups, [group(None)]);
    let resource = |keys: Option<&[&'static str]>| {
        let keys = keys.map(|keys| keys.iter().map(|key| (*key).into()).collect());
        describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name("orders".into())
            .with_configuration_keys(keys)
    };
    for (given, left) in [
        ([Some(&["a"][..]), Some(&["b", "a"])], Some(&["a", "b"][..])),
        ([Some(&["a"][..]), Some(&[])], None),
        ([None, Some(&["a"])], None),
    ] {
        let mut request = DescribeConfigsRequest::default()
            .with_resources(given.into_iter().map(resource).collect());
        assert!(request.reduce().is_ok());
        assert_eq!(request.resources, [resource(left)]);
    }
}

#[test]
fn what_kafka_refuses_when_it_comes_twice_is_left_twice_for_the_handler() {
    let creation = |name: &str| {
        let topic = create_topics_request::CreatableTopic::default().with_name(topic(name));
        topic.with_num_partitions(1)
    };
    let topics = vec![
        creation("a"),
        creation("b"),
        creation("a"),
        creation("a"),
        creation("a"),
    ];
    let mut request = CreateTopicsRequest::default().with_topics(topics);
    assert_eq!(request.reduce(), Ok(asked(3)));
    assert_eq!(
        request.topics,
        [creation("a"), creation("b"), creation("a")]
    );
}

#[test]
fn of_offsets_for_one_partition_the_last_holds() {
    let offset = |partition, offset| {
        offset_commit_request::OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
    };
    let topic = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(topic("orders"))
        .with_partitions(vec![offset(0, 1), offset(1, 5), offset(0, 2)]);
    let mut request = OffsetCommitRequest::default().with_topics(vec![topic]);
    assert!(request.reduce().is_ok());
    assert_eq!(request.topics[0].partitions, [offset(0, 2), offset(1, 5)]);
}

#[test]
fn records_for_a_partition_that_comes_twice_are_refused_and_not_lost() {
    let data = |index, records: Option<&'static [u8]>| {
        produce_request::PartitionProduceData::default()
            .with_index(index)
            .with_records(records.map(Bytes::from_static))
    };
    let of_topic = |partitions| {
        produce_request::TopicProduceData::default()
            .with_name(topic("orders"))
            .with_partition_data(partitions)
    };
    let topics = vec![
        of_topic(vec![data(0, Some(b"one")), data(1, Some(b"other"))]),
        of_topic(vec![data(0, Some(b"two"))]),
    ];
    let mut request = ProduceRequest::default().with_topic_data(topics);
    assert!(request.reduce().is_ok());
    let left = of_topic(vec![data(0, None), data(1, Some(b"other"))]);
    assert_eq!(request.topic_data, [left]);
}

#[test]
fn positional_lists_keep_every_item_and_are_bounded() {
    let creations = |count| {
        let creation = create_acls_request::AclCreation::default();
        CreateAclsRequest::default().with_creations(vec![creation; count])
    };
    let mut request = creations(MAX_POSITIONAL);
    assert_eq!(request.reduce(), Ok(asked(MAX_POSITIONAL)));
    assert_eq!(request.creations.len(), MAX_POSITIONAL);
    let error = creations(MAX_POSITIONAL + 1)
        .reduce()
        .expect_err("too long");
    assert_eq!(
        error.to_string(),
        "the request's creations are 10001; at most 10000 are taken at once: send several requests"
    );
}

#[test]
fn answers_that_are_lists_are_long_without_a_list_in_the_request() {
    let everything = |asked: Result<Asked, TooLong>| asked.expect("nothing is too long").everything;
    assert!(everything(ListGroupsRequest::default().reduce()));
    assert!(everything(
        MetadataRequest::default().with_topics(None).reduce()
    ));
    assert!(!everything(HeartbeatRequest::default().reduce()));
}
