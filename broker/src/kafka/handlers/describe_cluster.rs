//! DescribeCluster (key 60), versions 0–2: the cluster's id and its one node, at the address that the session's listener
//! advertises.
//!
//! Needs no permission; the operations that the session may perform on the cluster are told when asked for to those with
//! DESCRIBE on it, and are none to others (KIP-430). Version 1 adds the endpoint type (KIP-919): this node answers for
//! brokers (1), not for controllers (2). Version 2 adds fenced brokers (KIP-1073), of which there are none.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use crate::catalog::{Operation, ResourceType};
use crate::kafka::context::{CLUSTER, Context};
use crate::kafka::error::message;
use crate::kafka::permission;

pub const VERSIONS: RangeInclusive<i16> = 0..=2;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub async fn handle(context: &Context, request: DescribeClusterRequest) -> DescribeClusterResponse {
    if request.endpoint_type != BROKERS {
        return wrong_endpoint(request.endpoint_type);
    }
    let broker = &context.services.config.broker;
    let (host, port) = &context.session.info.advertised;
    let node = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(broker.id))
        .with_host(StrBytes::from_string(host.to_string()))
        .with_port(i32::from(*port));
    let response = DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_string(broker.cluster_id.clone()))
        .with_controller_id(BrokerId(broker.id))
        .with_brokers(vec![node]);
    if !request.include_cluster_authorized_operations {
        return response;
    }
    let kind = ResourceType::Cluster;
    let operations = if context.authorize_cluster(Operation::Describe) {
        permission::authorized_operations(context, kind, CLUSTER)
    } else {
        0
    };
    response.with_cluster_authorized_operations(operations)
}

fn wrong_endpoint(endpoint_type: i8) -> DescribeClusterResponse {
    let code = match endpoint_type {
        CONTROLLERS => ResponseError::MismatchedEndpointType,
        _ => ResponseError::UnsupportedEndpointType,
    };
    DescribeClusterResponse::default()
        .with_error_code(code.code())
        .with_error_message(message(format!(
            "endpoint type {endpoint_type} was asked for; this listener answers for brokers (1)"
        )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::wire::encodes;

    #[test]
    fn a_cluster_and_a_refusal_encode_in_every_version() {
        for version in VERSIONS {
            let node = DescribeClusterBroker::default().with_host("h".into());
            let response = DescribeClusterResponse::default().with_brokers(vec![node]);
            encodes(version, &response.with_cluster_authorized_operations(0));
            encodes(version, &wrong_endpoint(CONTROLLERS));
        }
        assert_eq!(wrong_endpoint(CONTROLLERS).error_code, 114);
        assert_eq!(wrong_endpoint(9).error_code, 115);
    }
}
