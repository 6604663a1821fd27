use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{AlterConfigsRequest, DescribeConfigsRequest};
use tidegate::kafka::handlers::alter_configs::VERSIONS;

use crate::support::{ask, broker_with_orders, text};

#[test]
fn what_is_given_replaces_all_that_was_in_every_version() {
    let (_broker, mut client) = broker_with_orders();
    for version in VERSIONS {
        for key in ["retention.ms", "segment.ms"] {
            let config = AlterableConfig::default()
                .with_name(text(key))
                .with_value(Some(text("600000")));
            let resource = AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text("orders"))
                .with_configs(vec![config]);
            let request = AlterConfigsRequest::default().with_resources(vec![resource]);
            assert_eq!(
                ask(&mut client, version, &request).responses[0].error_code,
                0
            );
        }
        let resource = DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("orders"))
            .with_configuration_keys(None);
        let describe = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let described = ask(&mut client, 4, &describe).results.remove(0).configs;
        let own = described.iter().filter(|config| config.config_source == 1);
        let own: Vec<_> = own.map(|config| &*config.name).collect();
        assert_eq!(own, ["segment.ms"]);
    }
}
