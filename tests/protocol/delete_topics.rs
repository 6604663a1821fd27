use harness::RawClient;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{DeleteTopicsRequest, MetadataRequest};
use tidegate::kafka::handlers::delete_topics::VERSIONS;

use crate::support::{ask, broker_with_orders, topic};

fn by_name(name: &str) -> DeleteTopicState {
    DeleteTopicState::default().with_name(Some(topic(name)))
}

fn topic_code(client: &mut RawClient, name: &str) -> i16 {
    let named = MetadataRequestTopic::default().with_name(Some(topic(name)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![named]))
        .with_allow_auto_topic_creation(false);
    ask(client, 9, &request).topics[0].error_code
}

#[test]
fn a_topic_is_deleted_once_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    for version in VERSIONS {
        let name = format!("gone-in-{version}");
        client.create_topic(&name, 1, &[]).expect("it is created");
        let request = if version >= 6 {
            DeleteTopicsRequest::default().with_topics(vec![by_name(&name)])
        } else {
            DeleteTopicsRequest::default().with_topic_names(vec![topic(&name)])
        };
        assert_eq!(
            ask(&mut client, version, &request).responses[0].error_code,
            0
        );
        assert_eq!(topic_code(&mut client, &name), 3);
        assert_eq!(
            ask(&mut client, version, &request).responses[0].error_code,
            3
        );
    }
    assert_eq!(topic_code(&mut client, "orders"), 0);
}

#[test]
fn a_topic_is_deleted_by_its_id() {
    let (_broker, mut client) = broker_with_orders();
    let named = MetadataRequestTopic::default().with_name(Some(topic("orders")));
    let metadata = MetadataRequest::default().with_topics(Some(vec![named]));
    let id = ask(&mut client, 12, &metadata).topics[0].topic_id;
    let by_id = DeleteTopicState::default().with_topic_id(id);
    let request = DeleteTopicsRequest::default().with_topics(vec![by_id]);
    let deleted = &ask(&mut client, 6, &request).responses[0];
    assert_eq!(
        (deleted.error_code, &deleted.name),
        (0, &Some(topic("orders")))
    );
    assert_eq!(ask(&mut client, 6, &request).responses[0].error_code, 100);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let (_broker, mut client) = broker_with_orders();
    let request = DeleteTopicsRequest::default().with_topics(vec![
        DeleteTopicState::default(),
        by_name("orders"),
        by_name("orders"),
        by_name("__consumer_offsets"),
    ]);
    let response = ask(&mut client, 6, &request);
    let codes: Vec<_> = response.responses.iter().map(|r| r.error_code).collect();
    assert_eq!(codes, [42, 42, 17]);
    assert_eq!(topic_code(&mut client, "orders"), 0);
}
