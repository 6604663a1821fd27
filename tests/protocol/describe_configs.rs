use harness::RawClient;
use kafka_protocol::messages::DescribeConfigsRequest;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use tidegate::kafka::handlers::describe_configs::VERSIONS;

use crate::support::{ask, broker_with_orders, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn describe(
    client: &mut RawClient,
    version: i16,
    (kind, name): (i8, &str),
    keys: Option<&[&str]>,
) -> DescribeConfigsResult {
    let keys = keys.map(|keys| keys.iter().map(|key| text(key)).collect());
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys);
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(version >= 3);
    ask(client, version, &request).results.remove(0)
}

#[test]
fn a_topics_settings_tell_where_they_come_from_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    client
        .create_topic("brief", 1, &[("retention.ms", "1000")])
        .expect("it is created");
    for version in VERSIONS {
        let all = describe(&mut client, version, (TOPIC, "brief"), None);
        assert!(all.configs.len() > 5);
        let keys = ["retention.ms", "segment.bytes", "no.such.key"];
        let some = describe(&mut client, version, (TOPIC, "brief"), Some(&keys));
        let find = |name: &str| some.configs.iter().find(|config| &*config.name == name);
        let own = find("retention.ms").expect("it is described");
        assert_eq!((own.value.as_deref(), own.config_source), (Some("1000"), 1));
        assert_eq!(own.synonyms.len(), 2);
        let inherited = find("segment.bytes").expect("it is described");
        assert_ne!(inherited.config_source, 1);
        assert_eq!(some.configs.len(), 2);
        if version >= 3 {
            assert_eq!(own.config_type, 5);
            assert!(
                own.documentation
                    .as_ref()
                    .is_some_and(|text| !text.is_empty())
            );
        }
    }
}

#[test]
fn the_brokers_settings_are_read_only() {
    let (_broker, mut client) = broker_with_orders();
    let broker = describe(&mut client, 4, (BROKER, "0"), None);
    assert!(!broker.configs.is_empty());
    assert!(broker.configs.iter().all(|config| config.read_only));
}

#[test]
fn what_is_not_there_is_refused() {
    let (_broker, mut client) = broker_with_orders();
    let mut code = |resource| describe(&mut client, 4, resource, None).error_code;
    assert_eq!(code((TOPIC, "missing")), 3);
    assert_eq!(code((TOPIC, "not legal")), 17);
    assert_eq!(code((BROKER, "77")), 42);
    assert_eq!(code((8, "0")), 42);
}
