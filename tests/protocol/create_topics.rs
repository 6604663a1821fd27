use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use tidegate::kafka::handlers::create_topics::VERSIONS;

use crate::support::{ask, broker_with_orders, text, topic};

fn wish(name: &str) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(2)
        .with_replication_factor(1)
}

fn request(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default().with_topics(topics)
}

#[test]
fn a_topic_is_created_once_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    for version in VERSIONS {
        let name = format!("made-in-{version}");
        let config = CreatableTopicConfig::default()
            .with_name(text("retention.ms"))
            .with_value(Some(text("60000")));
        let wish = request(vec![wish(&name).with_configs(vec![config])]);
        let created = &ask(&mut client, version, &wish).topics[0];
        assert_eq!(created.error_code, 0, "{:?}", created.error_message);
        if version >= 5 {
            assert_eq!((created.num_partitions, created.replication_factor), (2, 1));
            let configs = created.configs.iter().flatten();
            let mut own = configs.filter(|config| config.config_source == 1);
            assert_eq!(own.next().map(|config| &*config.name), Some("retention.ms"));
        }
        assert_eq!(created.topic_id.is_nil(), version < 7);
        assert_eq!(ask(&mut client, version, &wish).topics[0].error_code, 36);
    }
}

#[test]
fn each_topic_is_judged_by_itself() {
    let (_broker, mut client) = broker_with_orders();
    let setting = |name: &str, value: &str| {
        CreatableTopicConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    };
    let topics = vec![
        wish("fine"),
        wish("orders"),
        wish("not legal"),
        wish("three-copies").with_replication_factor(3),
        wish("none").with_num_partitions(0),
        wish("wrong-value").with_configs(vec![setting("retention.ms", "long")]),
        wish("wrong-key").with_configs(vec![setting("retention.years", "1")]),
        wish("twice"),
        wish("twice"),
    ];
    let response = ask(&mut client, 7, &request(topics));
    let codes: Vec<_> = response.topics.iter().map(|t| t.error_code).collect();
    assert_eq!(codes, [0, 36, 17, 38, 37, 40, 40, 42]);
}

#[test]
fn validation_alone_creates_nothing() {
    let (_broker, mut client) = broker_with_orders();
    let validate = request(vec![wish("maybe")]).with_validate_only(true);
    for _ in 0..2 {
        assert_eq!(ask(&mut client, 7, &validate).topics[0].error_code, 0);
    }
    let create = request(vec![wish("maybe")]);
    assert_eq!(ask(&mut client, 7, &create).topics[0].error_code, 0);
}

#[test]
fn names_that_differ_in_dots_and_underscores_alone_collide() {
    let (_broker, mut client) = broker_with_orders();
    client.create_topic("a.x", 1, &[]).expect("it is created");
    let refused = client.create_topic("a_x", 1, &[]).expect_err("it collides");
    let told = format!("{refused:#}");
    assert!(told.contains("error 17") && told.contains("a.x"), "{told}");
    client.create_topic("a-x", 1, &[]).expect("it is created");
}
