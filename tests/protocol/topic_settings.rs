//! Topics made and changed as MirrorMaker and Connect do: with every setting that they copied, and then one at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::{RawClient, batch};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    DescribeConfigsRequest, IncrementalAlterConfigsRequest, MetadataRequest, metadata_request,
};

use crate::support::{ask, broker_with_orders, text, topic};

const TOPIC: i8 = 2;
const SET: i8 = 0;
const ZSTD: u8 = 4;

/// What the topic has at its source.
const COPIED: [(&str, &str); 16] = [
    ("compression.type", "zstd"),
    ("compression.zstd.level", "7"),
    ("compression.gzip.level", "-1"),
    ("compression.lz4.level", "9"),
    ("min.insync.replicas", "2"),
    ("cleanup.policy", ""),
    ("retention.ms", "1234567"),
    ("segment.bytes", "2097152"),
    ("max.message.bytes", "2000000"),
    ("unclean.leader.election.enable", "true"),
    ("file.delete.delay.ms", "1000"),
    ("segment.jitter.ms", "5"),
    ("remote.storage.enable", "false"),
    ("local.retention.ms", "-2"),
    ("follower.replication.throttled.replicas", "0:1,1:1"),
    ("message.timestamp.after.max.ms", "9223372036854775807"),
];

/// Each setting's value and source.
fn described(client: &mut RawClient, name: &str) -> BTreeMap<String, (String, i8)> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(name))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let result = ask(client, 4, &request).results.remove(0);
    assert_eq!(result.error_code, 0);
    let value = |value: Option<_>| {
        value.map_or_else(String::new, |text: kafka_protocol::protocol::StrBytes| {
            text.to_string()
        })
    };
    let configs = result.configs.into_iter();
    configs
        .map(|config| {
            (
                config.name.to_string(),
                (value(config.value), config.config_source),
            )
        })
        .collect()
}

fn set(client: &mut RawClient, name: &str, (key, value): (&str, &str)) -> i16 {
    let config = AlterableConfig::default()
        .with_name(text(key))
        .with_config_operation(SET)
        .with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(name))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    ask(client, 1, &request).responses[0].error_code
}

#[test]
fn a_mirrored_topic_has_its_partitions_and_its_settings() {
    let (_broker, mut client) = broker_with_orders();
    client
        .create_topic("mirrored", 2, &COPIED)
        .unwrap_or_else(|error| panic!("{error:#}"));
    let wanted =
        metadata_request::MetadataRequestTopic::default().with_name(Some(topic("mirrored")));
    let metadata = MetadataRequest::default().with_topics(Some(vec![wanted]));
    assert_eq!(
        ask(&mut client, 12, &metadata).topics[0].partitions.len(),
        2
    );
    let before = described(&mut client, "mirrored");
    for (key, value) in COPIED {
        assert_eq!(before[key], (value.to_owned(), 1), "{key}");
    }
    assert_eq!(
        before["preallocate"],
        ("false".to_owned(), 5),
        "Kafka's default"
    );
    assert_eq!(set(&mut client, "mirrored", ("retention.ms", "7654321")), 0);
    let mut after = described(&mut client, "mirrored");
    assert_eq!(after["retention.ms"], ("7654321".to_owned(), 1));
    after.insert("retention.ms".to_owned(), before["retention.ms"].clone());
    assert_eq!(after, before, "every other setting stays");
}

#[test]
fn what_is_not_there_is_not_taken() {
    let (_broker, mut client) = broker_with_orders();
    for (key, value) in [
        ("remote.storage.enable", "true"),
        ("local.retention.bytes", "1000"),
        ("compression.type", "none"),
        ("compression.gzip.level", "0"),
        ("errors.deadletterqueue.group.enable", "true"),
    ] {
        assert_eq!(
            set(&mut client, "orders", (key, value)),
            40,
            "{key}={value}"
        );
    }
}

#[test]
fn batches_are_stored_in_the_topics_codec() {
    let (_broker, mut client) = broker_with_orders();
    let codec = |client: &mut RawClient, offset| {
        let fetched = client.fetch("orders", 0, offset, Duration::from_secs(5));
        let fetched = fetched.unwrap_or_else(|error| panic!("{error:#}"));
        let records = fetched.records.unwrap_or_default();
        let headers = batch::headers(&records).unwrap_or_else(|error| panic!("{error:#}"));
        headers[0].codec
    };
    let produce = |client: &mut RawClient| {
        let records = batch::of_values(&["value ".repeat(1_000), "another".to_owned()]);
        let produced = client.produce("orders", 0, -1, records);
        let produced = produced.unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(produced.error_code, 0);
        produced.base_offset
    };
    let plain = produce(&mut client);
    assert_eq!(
        codec(&mut client, plain),
        0,
        "as the producer compressed it"
    );
    for (name, code) in [("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", ZSTD)] {
        assert_eq!(set(&mut client, "orders", ("compression.type", name)), 0);
        let offset = produce(&mut client);
        assert_eq!(codec(&mut client, offset), code, "{name}");
    }
    // What becomes too large in another codec is refused as what arrives too large.
    assert_eq!(
        set(&mut client, "orders", ("compression.type", "producer")),
        0
    );
    assert_eq!(set(&mut client, "orders", ("compression.type", "zstd")), 0);
    assert_eq!(set(&mut client, "orders", ("max.message.bytes", "1000")), 0);
    let large = batch::of_values(&["value ".repeat(10_000)]);
    let refused = client.produce("orders", 0, -1, large);
    assert_eq!(refused.map(|answer| answer.error_code).ok(), Some(10));
}
