use kafka_protocol::messages::IncrementalAlterConfigsRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use tidegate::kafka::handlers::incremental_alter_configs::VERSIONS;

use crate::support::{ask, broker_with_orders, text};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;

fn request(
    kind: i8,
    name: &str,
    changes: &[(&str, i8, Option<&str>)],
) -> IncrementalAlterConfigsRequest {
    let changes = changes.iter().map(|(key, operation, value)| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(changes.collect());
    IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
}

#[test]
fn settings_change_one_by_one_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    for version in VERSIONS {
        let mut code = |request: &IncrementalAlterConfigsRequest| {
            ask(&mut client, version, request).responses[0].error_code
        };
        let change = |changes: &[_]| request(2, "orders", changes);
        assert_eq!(code(&change(&[("retention.ms", SET, Some("1000"))])), 0);
        assert_eq!(
            code(&change(&[("cleanup.policy", APPEND, Some("compact"))])),
            0
        );
        assert_eq!(code(&change(&[("retention.ms", DELETE, None)])), 0);
        assert_eq!(code(&change(&[("retention.ms", SET, Some("soon"))])), 40);
        assert_eq!(code(&change(&[("retention.ms", APPEND, Some("1"))])), 40);
        assert_eq!(code(&change(&[("retention.ms", SET, None)])), 42);
        assert_eq!(code(&request(2, "missing", &[])), 3);
        assert_eq!(
            code(&request(4, "0", &[("num.partitions", SET, Some("9"))])),
            42
        );
    }
}
