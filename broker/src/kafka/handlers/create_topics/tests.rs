use kafka_protocol::messages::create_topics_request::CreatableTopicConfig;

use super::*;
use crate::kafka::handlers::wire::encodes;

const NODE: BrokerId = BrokerId(3);

fn wish(partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_num_partitions(partitions)
        .with_replication_factor(replication_factor)
}

fn assigned(partitions: &[(i32, i32)]) -> CreatableTopic {
    let assignments = partitions.iter().map(|(index, node)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(*index)
            .with_broker_ids(vec![BrokerId(*node)])
    });
    wish(-1, -1).with_assignments(assignments.collect())
}

#[track_caller]
fn check(topic: &CreatableTopic, expected: Result<i32, ResponseError>) {
    let new = new_topic("orders".into(), topic, NODE);
    assert_eq!(
        new.map(|new| new.partitions).map_err(|error| error.code),
        expected
    );
}

#[test]
fn counts_and_assignments_are_those_of_a_single_node() {
    check(&wish(12, 1), Ok(12));
    check(&wish(-1, -1), Ok(-1));
    check(&wish(1, 3), Err(ResponseError::InvalidReplicationFactor));
    check(&wish(1, 0), Err(ResponseError::InvalidReplicationFactor));
    check(&wish(0, 1), Err(ResponseError::InvalidPartitions));
    check(&wish(-2, 1), Err(ResponseError::InvalidPartitions));
    check(&assigned(&[(1, 3), (0, 3)]), Ok(2));
    check(
        &assigned(&[(0, 3), (2, 3)]),
        Err(ResponseError::InvalidReplicaAssignment),
    );
    check(
        &assigned(&[(0, 3), (0, 3)]),
        Err(ResponseError::InvalidReplicaAssignment),
    );
    check(
        &assigned(&[(0, 4)]),
        Err(ResponseError::InvalidReplicaAssignment),
    );
    check(
        &assigned(&[(0, 3)]).with_num_partitions(1),
        Err(ResponseError::InvalidRequest),
    );
}

#[test]
fn a_setting_without_a_value_is_refused_by_name() {
    let config = CreatableTopicConfig::default().with_name("retention.ms".into());
    let topic = wish(1, 1).with_configs(vec![config.clone().with_value(None)]);
    let error = new_topic("orders".into(), &topic, NODE).expect_err("null is refused");
    assert_eq!(error.code, ResponseError::InvalidConfig);
    assert!(error.message.contains("retention.ms"));

    let topic = wish(1, 1).with_configs(vec![config.with_value(Some("5".into()))]);
    let new = new_topic("orders".into(), &topic, NODE).expect("it is fine");
    assert_eq!(new.configs["retention.ms"], "5");
}

#[test]
fn every_shape_encodes_in_every_version() {
    let created = |configs| {
        Ok(Created {
            id: Uuid::from_u128(7),
            partitions: 4,
            configs,
        })
    };
    let config = CreatableTopicConfigs::default()
        .with_name("retention.ms".into())
        .with_config_source(1);
    for version in VERSIONS {
        let outcomes = [
            created(Some(vec![config.clone()])),
            created(None),
            Err(refusal(ResponseError::TopicAlreadyExists, "it exists")),
        ];
        let results = outcomes.map(|outcome| result(TopicName("orders".into()), outcome));
        let response = CreateTopicsResponse::default().with_topics(results.into());
        let seen = encodes(version, &response).topics;
        let partitions = if version >= 5 { 4 } else { -1 };
        assert_eq!(seen[0].num_partitions, partitions, "version {version}");
        assert_eq!(seen[0].topic_id.is_nil(), version < 7);
        let hidden = if version >= 5 { 29 } else { 0 };
        assert_eq!(seen[1].topic_config_error_code, hidden);
        assert_eq!(seen[0].error_message, None);
        assert_eq!(seen[2].error_code, 36);
    }
}
