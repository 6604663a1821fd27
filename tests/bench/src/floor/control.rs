//! Everything that carries no records: versions, topics, offsets, producer ids. Not measured, so it goes through a library.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Result, bail};
use bytes::Bytes;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, InitProducerIdResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataRequest, MetadataResponse, ProducerId, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use crate::connection::Request;
use crate::topics::Topics;
use crate::wire::{Answer, code};

/// The one broker.
const NODE: BrokerId = BrokerId(1);

const NEWEST_API_VERSIONS: i16 = 3;

/// What is spoken, oldest and newest version: below those that name topics by id.
const APIS: [(ApiKey, i16, i16); 8] = [
    (ApiKey::Produce, 3, 11),
    (ApiKey::Fetch, 4, 12),
    (ApiKey::ListOffsets, 1, 7),
    (ApiKey::Metadata, 0, 9),
    (ApiKey::ApiVersions, 0, NEWEST_API_VERSIONS),
    (ApiKey::CreateTopics, 2, 6),
    (ApiKey::DeleteTopics, 1, 5),
    (ApiKey::InitProducerId, 0, 4),
];

pub fn handle(
    request: Request<'_>,
    api: ApiKey,
    body: &[u8],
    local: SocketAddr,
    out: &mut Vec<u8>,
) -> Result<()> {
    let version = request.header.version;
    let body = Bytes::copy_from_slice(body);
    let topics = request.topics;
    match api {
        ApiKey::ApiVersions => put_versions(request, out),
        ApiKey::Metadata => {
            let asked = MetadataRequest::decode(&mut &body[..], version)?;
            put(request, out, &metadata(topics, &asked, local)?)
        }
        ApiKey::CreateTopics => {
            let asked = CreateTopicsRequest::decode(&mut &body[..], version)?;
            put(request, out, &create_topics(topics, &asked)?)
        }
        ApiKey::DeleteTopics => {
            let asked = DeleteTopicsRequest::decode(&mut &body[..], version)?;
            put(request, out, &delete_topics(topics, &asked))
        }
        ApiKey::ListOffsets => {
            let asked = ListOffsetsRequest::decode(&mut &body[..], version)?;
            put(request, out, &list_offsets(topics, &asked))
        }
        ApiKey::InitProducerId => {
            static NEXT: AtomicI64 = AtomicI64::new(1);
            let id = ProducerId(NEXT.fetch_add(1, Ordering::Relaxed));
            put(
                request,
                out,
                &InitProducerIdResponse::default().with_producer_id(id),
            )
        }
        other => bail!("{other:?} is not spoken here"),
    }
}

/// Refuses what is not spoken. Clients ask for the versions in one that may be too new: that is answered.
pub fn check_version(api: ApiKey, version: i16) -> Result<()> {
    let spoken = APIS.iter().find(|(known, ..)| *known == api);
    match spoken {
        _ if api == ApiKey::ApiVersions => Ok(()),
        Some((_, oldest, newest)) if (*oldest..=*newest).contains(&version) => Ok(()),
        Some((_, oldest, newest)) => {
            bail!("{api:?} is spoken in versions {oldest} to {newest}, not {version}")
        }
        None => bail!("{api:?} is not spoken here"),
    }
}

fn put(request: Request<'_>, out: &mut Vec<u8>, response: &impl Encodable) -> Result<()> {
    let answer = Answer::begin(out, request.header.correlation, request.flexible);
    answer.encode(response, request.header.version)
}

/// One that is too new is answered in the oldest version, as clients expect. Its header has no tagged fields in any, so
/// that an old client can read it.
fn put_versions(request: Request<'_>, out: &mut Vec<u8>) -> Result<()> {
    let (code, version) = match request.header.version {
        version @ 0..=NEWEST_API_VERSIONS => (code::NONE, version),
        _ => (code::UNSUPPORTED_VERSION, 0),
    };
    let row = |(api, oldest, newest): &(ApiKey, i16, i16)| {
        ApiVersion::default()
            .with_api_key(*api as i16)
            .with_min_version(*oldest)
            .with_max_version(*newest)
    };
    let response = ApiVersionsResponse::default()
        .with_error_code(code)
        .with_api_keys(APIS.iter().map(row).collect());
    Answer::begin(out, request.header.correlation, false).encode(&response, version)
}

fn metadata(
    topics: &Topics,
    asked: &MetadataRequest,
    local: SocketAddr,
) -> Result<MetadataResponse> {
    let names: Vec<Vec<u8>> = match &asked.topics {
        Some(asked) => asked
            .iter()
            .filter_map(|topic| topic.name.as_ref())
            .map(|name| name.as_bytes().to_vec())
            .collect(),
        None => topics.names(),
    };
    let mut known = Vec::new();
    for name in names {
        if asked.allow_auto_topic_creation {
            topics.create(&name, -1)?;
        }
        let partitions = topics.get(&name);
        let code = if partitions.is_some() {
            code::NONE
        } else {
            code::UNKNOWN_TOPIC_OR_PARTITION
        };
        let count = partitions.map_or(0, |logs| logs.len()) as i32;
        let partition = |index| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(NODE)
                .with_leader_epoch(0)
                .with_replica_nodes(vec![NODE])
                .with_isr_nodes(vec![NODE])
        };
        known.push(
            MetadataResponseTopic::default()
                .with_error_code(code)
                .with_name(Some(TopicName(StrBytes::from_utf8(name.into())?)))
                .with_partitions((0..count).map(partition).collect()),
        );
    }
    let broker = MetadataResponseBroker::default()
        .with_node_id(NODE)
        .with_host(StrBytes::from_string(local.ip().to_string()))
        .with_port(i32::from(local.port()));
    Ok(MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_controller_id(NODE)
        .with_cluster_id(Some(StrBytes::from_static_str("floor")))
        .with_topics(known))
}

fn create_topics(topics: &Topics, asked: &CreateTopicsRequest) -> Result<CreateTopicsResponse> {
    let mut results = Vec::new();
    for topic in &asked.topics {
        let name = topic.name.as_bytes();
        let created = topics.create(name, topic.num_partitions)?;
        let count = topics.get(name).map_or(0, |logs| logs.len());
        results.push(
            CreatableTopicResult::default()
                .with_name(topic.name.clone())
                .with_num_partitions(count as i32)
                .with_replication_factor(1)
                .with_configs(Some(Vec::new()))
                .with_error_code(if created {
                    code::NONE
                } else {
                    code::TOPIC_ALREADY_EXISTS
                }),
        );
    }
    Ok(CreateTopicsResponse::default().with_topics(results))
}

fn delete_topics(topics: &Topics, asked: &DeleteTopicsRequest) -> DeleteTopicsResponse {
    let result = |name: &TopicName| {
        let deleted = topics.delete(name.as_bytes());
        DeletableTopicResult::default()
            .with_name(Some(name.clone()))
            .with_error_code(if deleted {
                code::NONE
            } else {
                code::UNKNOWN_TOPIC_OR_PARTITION
            })
    };
    DeleteTopicsResponse::default().with_responses(asked.topic_names.iter().map(result).collect())
}

/// The end for the newest, the beginning for everything else: there is no index by time.
fn list_offsets(topics: &Topics, asked: &ListOffsetsRequest) -> ListOffsetsResponse {
    const NEWEST: i64 = -1;
    let topic = |topic: &kafka_protocol::messages::list_offsets_request::ListOffsetsTopic| {
        let partition =
            |asked: &kafka_protocol::messages::list_offsets_request::ListOffsetsPartition| {
                let log = topics.log(topic.name.as_bytes(), asked.partition_index);
                let (code, offset) = match log {
                    None => (code::UNKNOWN_TOPIC_OR_PARTITION, -1),
                    Some(log) if asked.timestamp == NEWEST => (code::NONE, log.visible_end()),
                    Some(_) => (code::NONE, 0),
                };
                ListOffsetsPartitionResponse::default()
                    .with_partition_index(asked.partition_index)
                    .with_error_code(code)
                    .with_offset(offset)
                    .with_leader_epoch(0)
            };
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(topic.partitions.iter().map(partition).collect())
    };
    ListOffsetsResponse::default().with_topics(asked.topics.iter().map(topic).collect())
}
