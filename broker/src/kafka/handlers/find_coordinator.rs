//! FindCoordinator (key 10), versions 0–6: which node coordinates a group or a transactional id: always this one.
//!
//! Needs DESCRIBE on the group or the transactional id. The address is the one that the session's listener advertises.
//! Version 1 adds the key type, the error message and the throttle time, 3 is flexible, 4 asks for several keys at once
//! (KIP-699), each with a code of its own, 5 and 6 differ in codes alone. Left out: share groups (type 2, KIP-932) are
//! INVALID_REQUEST.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use crate::catalog::{Operation, ResourceType};
use crate::kafka::context::Context;
use crate::kafka::resources;

pub const VERSIONS: RangeInclusive<i16> = 0..=6;

const SEVERAL_KEYS_FROM: i16 = 4;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Where this node is reached.
#[derive(Clone)]
struct Node {
    id: BrokerId,
    host: StrBytes,
    port: i32,
}

pub async fn handle(context: &Context, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let (host, port) = &context.session.info.advertised;
    let node = Node {
        id: BrokerId(context.services.config.broker.id),
        host: StrBytes::from_string(host.to_string()),
        port: i32::from(*port),
    };
    let key_type = request.key_type;
    if context.version < SEVERAL_KEYS_FROM {
        return one_key(check(context, key_type, &request.key).map(|()| node));
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| {
        let outcome = check(context, key_type, &key).map(|()| node.clone());
        coordinator(key, outcome)
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

fn check(context: &Context, key_type: i8, key: &str) -> Result<(), ResponseError> {
    match key_type {
        GROUP => resources::group(context, Operation::Describe, key).map(drop),
        TRANSACTION => {
            let id = context.transactional_id_in(key)?;
            let kind = ResourceType::TransactionalId;
            if context.authorize(Operation::Describe, kind, &id) {
                Ok(())
            } else {
                Err(ResponseError::TransactionalIdAuthorizationFailed)
            }
        }
        _ => Err(ResponseError::InvalidRequest),
    }
}

/// Where there is no coordinator, Kafka's empty node: id and port −1.
fn nowhere() -> Node {
    Node {
        id: BrokerId(-1),
        host: StrBytes::new(),
        port: -1,
    }
}

fn one_key(outcome: Result<Node, ResponseError>) -> FindCoordinatorResponse {
    let code = outcome.as_ref().err().map_or(0, ResponseError::code);
    let node = outcome.unwrap_or_else(|_| nowhere());
    FindCoordinatorResponse::default()
        .with_error_code(code)
        .with_error_message(None)
        .with_node_id(node.id)
        .with_host(node.host)
        .with_port(node.port)
}

fn coordinator(key: StrBytes, outcome: Result<Node, ResponseError>) -> Coordinator {
    let code = outcome.as_ref().err().map_or(0, ResponseError::code);
    let node = outcome.unwrap_or_else(|_| nowhere());
    Coordinator::default()
        .with_key(key)
        .with_error_code(code)
        .with_error_message(None)
        .with_node_id(node.id)
        .with_host(node.host)
        .with_port(node.port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::wire::encodes;

    #[test]
    fn a_node_and_a_refusal_encode_in_every_version() {
        let node = || Node {
            id: BrokerId(7),
            host: "broker.example".into(),
            port: 9092,
        };
        let refusal = || Err(ResponseError::GroupAuthorizationFailed);
        for version in VERSIONS {
            let seen = if version < SEVERAL_KEYS_FROM {
                let refused = encodes(version, &one_key(refusal()));
                assert_eq!((refused.error_code, refused.port), (30, -1));
                let seen = encodes(version, &one_key(Ok(node())));
                (seen.node_id, seen.host, seen.port)
            } else {
                let keys = vec![
                    coordinator("a".into(), Ok(node())),
                    coordinator("b".into(), refusal()),
                ];
                let response = FindCoordinatorResponse::default().with_coordinators(keys);
                let mut seen = encodes(version, &response).coordinators;
                assert_eq!((seen[1].error_code, seen[1].port), (30, -1));
                let first = seen.swap_remove(0);
                (first.node_id, first.host, first.port)
            };
            assert_eq!(seen, (BrokerId(7), "broker.example".into(), 9092));
        }
    }
}
