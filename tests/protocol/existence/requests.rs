//! For every API the requests by which it names topics, groups and transactional ids: one line an API, in the table's order.

use bytes::{Bytes, BytesMut};
use harness::batch;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;
use uuid::Uuid;

use crate::support::{group, text, topic};

/// What requests name.
#[derive(Clone, Debug)]
pub struct Named {
    pub topic: &'static str,
    pub topic_id: Uuid,
    pub group: &'static str,
    pub transactional_id: &'static str,
    /// Those of the transactional id that exists.
    pub producer_id: ProducerId,
    pub producer_epoch: i16,
}

impl Named {
    fn transactional_id(&self) -> TransactionalId {
        TransactionalId(text(self.transactional_id))
    }
}

/// The frames of one API in one version.
pub type Generator = fn(i16, &Named) -> Vec<BytesMut>;

/// APIs whose requests name no topic, group or transactional id.
pub const NAMES_NOTHING: &[ApiKey] = &[
    ApiKey::ListGroups,
    ApiKey::SaslHandshake,
    ApiKey::ApiVersions,
    ApiKey::SaslAuthenticate,
    ApiKey::DescribeCluster,
];

macro_rules! generators {
    ($($key:ident $generate:expr;)*) => {
        pub fn generator(key: ApiKey) -> Option<Generator> {
            match key {
                $(ApiKey::$key => Some($generate),)*
                _ => None,
            }
        }
    };
}

generators! {
    Produce produce;
    Fetch fetch;
    ListOffsets list_offsets;
    Metadata metadata;
    OffsetCommit offset_commit;
    OffsetFetch offset_fetch;
    FindCoordinator find_coordinator;
    JoinGroup join_group;
    Heartbeat |version, named| one(version, &HeartbeatRequest::default().with_group_id(group(named.group)));
    LeaveGroup leave_group;
    SyncGroup |version, named| one(version, &SyncGroupRequest::default().with_group_id(group(named.group)));
    DescribeGroups |version, named| one(version, &DescribeGroupsRequest::default().with_groups(vec![group(named.group)]));
    CreateTopics create_topics;
    DeleteTopics delete_topics;
    DeleteRecords delete_records;
    InitProducerId init_producer_id;
    AddPartitionsToTxn add_partitions_to_txn;
    AddOffsetsToTxn add_offsets_to_txn;
    EndTxn end_txn;
    WriteTxnMarkers write_txn_markers;
    TxnOffsetCommit txn_offset_commit;
    DescribeAcls describe_acls;
    CreateAcls create_acls;
    DeleteAcls delete_acls;
    DescribeConfigs describe_configs;
    AlterConfigs alter_configs;
    DescribeLogDirs describe_log_dirs;
    CreatePartitions create_partitions;
    DeleteGroups |version, named| one(version, &DeleteGroupsRequest::default().with_groups_names(vec![group(named.group)]));
    IncrementalAlterConfigs incremental_alter_configs;
    OffsetDelete offset_delete;
    DescribeProducers describe_producers;
    DescribeTransactions describe_transactions;
    ListTransactions list_transactions;
}

fn frame<R: Request>(version: i16, request: &R) -> BytesMut {
    harness::encode(1, version, request)
        .unwrap_or_else(|error| panic!("API {} version {version}: {error:#}", R::KEY))
}

fn one<R: Request>(version: i16, request: &R) -> Vec<BytesMut> {
    vec![frame(version, request)]
}

fn produce(version: i16, named: &Named) -> Vec<BytesMut> {
    use produce_request::{PartitionProduceData, TopicProduceData};
    let data = PartitionProduceData::default()
        .with_index(0)
        .with_records(Some(batch::of_values(&[b"value"])));
    let topic = TopicProduceData::default()
        .with_name(topic(named.topic))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]);
    let transactional = request
        .clone()
        .with_transactional_id(Some(named.transactional_id()));
    vec![frame(version, &request), frame(version, &transactional)]
}

fn fetch(version: i16, named: &Named) -> Vec<BytesMut> {
    use fetch_request::{FetchPartition, FetchTopic};
    let frames = [0, 7].into_iter().map(|partition| {
        let partition = FetchPartition::default()
            .with_partition(partition)
            .with_partition_max_bytes(1 << 20);
        let wanted = FetchTopic::default().with_partitions(vec![partition]);
        let wanted = match version {
            13.. => wanted.with_topic_id(named.topic_id),
            _ => wanted.with_topic(topic(named.topic)),
        };
        let request = FetchRequest::default()
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_session_epoch(if version >= 7 { 0 } else { -1 })
            .with_topics(vec![wanted]);
        frame(version, &request)
    });
    frames.collect()
}

fn list_offsets(version: i16, named: &Named) -> Vec<BytesMut> {
    use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let frames = [-1, -2, 0].into_iter().map(|timestamp| {
        let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
        let wanted = ListOffsetsTopic::default()
            .with_name(topic(named.topic))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_topics(vec![wanted]);
        frame(version, &request)
    });
    frames.collect()
}

fn metadata(version: i16, named: &Named) -> Vec<BytesMut> {
    use metadata_request::MetadataRequestTopic;
    let wanted = MetadataRequestTopic::default().with_name(Some(topic(named.topic)));
    let by_name = MetadataRequest::default().with_topics(Some(vec![wanted]));
    let mut frames = vec![frame(version, &by_name)];
    if version >= 4 {
        let uncreated = by_name.with_allow_auto_topic_creation(false);
        frames.push(frame(version, &uncreated));
        if version >= 8 {
            let operations = uncreated.with_include_topic_authorized_operations(true);
            frames.push(frame(version, &operations));
        }
    }
    if version >= 12 {
        let wanted = MetadataRequestTopic::default()
            .with_name(None)
            .with_topic_id(named.topic_id);
        let by_id = MetadataRequest::default().with_topics(Some(vec![wanted]));
        frames.push(frame(version, &by_id));
    }
    frames
}

fn offset_commit(version: i16, named: &Named) -> Vec<BytesMut> {
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    let partition = OffsetCommitRequestPartition::default().with_committed_metadata(Some(text("")));
    let wanted = OffsetCommitRequestTopic::default()
        .with_name(topic(named.topic))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group(named.group))
        .with_topics(vec![wanted]);
    one(version, &request)
}

fn offset_delete(version: i16, named: &Named) -> Vec<BytesMut> {
    use offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    let wanted = OffsetDeleteRequestTopic::default()
        .with_name(topic(named.topic))
        .with_partitions(vec![OffsetDeleteRequestPartition::default()]);
    let request = OffsetDeleteRequest::default()
        .with_group_id(group(named.group))
        .with_topics(vec![wanted]);
    one(version, &request)
}

fn offset_fetch(version: i16, named: &Named) -> Vec<BytesMut> {
    use offset_fetch_request::{
        OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    };
    if version < 8 {
        let wanted = OffsetFetchRequestTopic::default()
            .with_name(topic(named.topic))
            .with_partition_indexes(vec![0]);
        let request = OffsetFetchRequest::default().with_group_id(group(named.group));
        let mut frames = one(version, &request.clone().with_topics(Some(vec![wanted])));
        if version >= 2 {
            frames.push(frame(version, &request.with_topics(None)));
        }
        return frames;
    }
    let wanted = OffsetFetchRequestTopics::default()
        .with_name(topic(named.topic))
        .with_partition_indexes(vec![0]);
    let of_group = OffsetFetchRequestGroup::default().with_group_id(group(named.group));
    let shapes = [Some(vec![wanted]), None];
    let frames = shapes.into_iter().map(|topics| {
        let groups = vec![of_group.clone().with_topics(topics)];
        frame(version, &OffsetFetchRequest::default().with_groups(groups))
    });
    frames.collect()
}

fn find_coordinator(version: i16, named: &Named) -> Vec<BytesMut> {
    let keys = [(0, named.group), (1, named.transactional_id)];
    let keys = keys
        .into_iter()
        .filter(|(kind, _)| version >= 1 || *kind == 0);
    let frames = keys.map(|(kind, key)| {
        let request = FindCoordinatorRequest::default();
        let request = match version {
            4.. => request.with_coordinator_keys(vec![text(key)]),
            _ => request.with_key(text(key)),
        };
        frame(version, &request.with_key_type(kind))
    });
    frames.collect()
}

fn join_group(version: i16, named: &Named) -> Vec<BytesMut> {
    let protocol = join_group_request::JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"subscription"));
    let request = JoinGroupRequest::default()
        .with_group_id(group(named.group))
        .with_session_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let request = match version {
        0 => request,
        _ => request.with_rebalance_timeout_ms(10_000),
    };
    let known = request.clone().with_member_id(text("member"));
    vec![frame(version, &request), frame(version, &known)]
}

fn leave_group(version: i16, named: &Named) -> Vec<BytesMut> {
    let request = LeaveGroupRequest::default().with_group_id(group(named.group));
    let request = match version {
        0..=2 => request.with_member_id(text("member")),
        _ => {
            let member =
                leave_group_request::MemberIdentity::default().with_member_id(text("member"));
            request.with_members(vec![member])
        }
    };
    one(version, &request)
}

fn create_topics(version: i16, named: &Named) -> Vec<BytesMut> {
    use create_topics_request::{CreatableTopic, CreatableTopicConfig};
    let wrong = CreatableTopicConfig::default()
        .with_name(text("retention.ms"))
        .with_value(Some(text("soon")));
    let shapes = [(1, vec![]), (0, vec![]), (1, vec![wrong])];
    let frames = shapes.into_iter().map(|(partitions, configs)| {
        let wanted = CreatableTopic::default()
            .with_name(topic(named.topic))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![wanted])
            .with_validate_only(true);
        frame(version, &request)
    });
    frames.collect()
}

fn delete_topics(version: i16, named: &Named) -> Vec<BytesMut> {
    use delete_topics_request::DeleteTopicState;
    if version < 6 {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![topic(named.topic)]);
        return one(version, &request);
    }
    let states = [
        DeleteTopicState::default().with_name(Some(topic(named.topic))),
        DeleteTopicState::default().with_topic_id(named.topic_id),
    ];
    let frames = states.into_iter().map(|state| {
        let request = DeleteTopicsRequest::default().with_topics(vec![state]);
        frame(version, &request)
    });
    frames.collect()
}

fn delete_records(version: i16, named: &Named) -> Vec<BytesMut> {
    use delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    let frames = [0, 7].into_iter().map(|index| {
        let partition = DeleteRecordsPartition::default().with_partition_index(index);
        let wanted = DeleteRecordsTopic::default()
            .with_name(topic(named.topic))
            .with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![wanted]);
        frame(version, &request)
    });
    frames.collect()
}

fn init_producer_id(version: i16, named: &Named) -> Vec<BytesMut> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(named.transactional_id()))
        .with_transaction_timeout_ms(60_000);
    one(version, &request)
}

fn add_partitions_to_txn(version: i16, named: &Named) -> Vec<BytesMut> {
    use add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
    let wanted = AddPartitionsToTxnTopic::default()
        .with_name(topic(named.topic))
        .with_partitions(vec![0]);
    if version < 4 {
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(named.transactional_id())
            .with_v3_and_below_producer_id(named.producer_id)
            .with_v3_and_below_producer_epoch(named.producer_epoch)
            .with_v3_and_below_topics(vec![wanted]);
        return one(version, &request);
    }
    let frames = [false, true].into_iter().map(|verify_only| {
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(named.transactional_id())
            .with_producer_id(named.producer_id)
            .with_producer_epoch(named.producer_epoch)
            .with_verify_only(verify_only)
            .with_topics(vec![wanted.clone()]);
        let request = AddPartitionsToTxnRequest::default().with_transactions(vec![transaction]);
        frame(version, &request)
    });
    frames.collect()
}

fn add_offsets_to_txn(version: i16, named: &Named) -> Vec<BytesMut> {
    let request = AddOffsetsToTxnRequest::default()
        .with_transactional_id(named.transactional_id())
        .with_producer_id(named.producer_id)
        .with_producer_epoch(named.producer_epoch)
        .with_group_id(group(named.group));
    one(version, &request)
}

fn end_txn(version: i16, named: &Named) -> Vec<BytesMut> {
    let request = EndTxnRequest::default()
        .with_transactional_id(named.transactional_id())
        .with_producer_id(named.producer_id)
        .with_producer_epoch(named.producer_epoch);
    one(version, &request)
}

fn write_txn_markers(version: i16, named: &Named) -> Vec<BytesMut> {
    use write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
    let wanted = WritableTxnMarkerTopic::default()
        .with_name(topic(named.topic))
        .with_partition_indexes(vec![0]);
    let marker = WritableTxnMarker::default()
        .with_producer_id(named.producer_id)
        .with_producer_epoch(named.producer_epoch)
        .with_topics(vec![wanted]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    one(version, &request)
}

fn txn_offset_commit(version: i16, named: &Named) -> Vec<BytesMut> {
    use txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
    let partition =
        TxnOffsetCommitRequestPartition::default().with_committed_metadata(Some(text("")));
    let wanted = TxnOffsetCommitRequestTopic::default()
        .with_name(topic(named.topic))
        .with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(named.transactional_id())
        .with_group_id(group(named.group))
        .with_producer_id(named.producer_id)
        .with_producer_epoch(named.producer_epoch)
        .with_topics(vec![wanted]);
    one(version, &request)
}

/// Kafka's code of each kind of resource with the name that is asked about.
fn resources(named: &Named) -> [(i8, &'static str); 3] {
    [
        (2, named.topic),
        (3, named.group),
        (5, named.transactional_id),
    ]
}

fn describe_acls(version: i16, named: &Named) -> Vec<BytesMut> {
    let frames = resources(named).into_iter().map(|(kind, name)| {
        let request = DescribeAclsRequest::default()
            .with_resource_type_filter(kind)
            .with_resource_name_filter(Some(text(name)))
            .with_pattern_type_filter(3)
            .with_operation(1)
            .with_permission_type(1);
        frame(version, &request)
    });
    frames.collect()
}

fn create_acls(version: i16, named: &Named) -> Vec<BytesMut> {
    let frames = resources(named).into_iter().map(|(kind, name)| {
        let creation = create_acls_request::AclCreation::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_resource_pattern_type(3)
            .with_principal(text("User:alice"))
            .with_host(text("*"))
            .with_operation(3)
            .with_permission_type(3);
        let request = CreateAclsRequest::default().with_creations(vec![creation]);
        frame(version, &request)
    });
    frames.collect()
}

fn delete_acls(version: i16, named: &Named) -> Vec<BytesMut> {
    let frames = resources(named).into_iter().map(|(kind, name)| {
        let filter = delete_acls_request::DeleteAclsFilter::default()
            .with_resource_type_filter(kind)
            .with_resource_name_filter(Some(text(name)))
            .with_pattern_type_filter(3)
            .with_operation(1)
            .with_permission_type(1);
        let request = DeleteAclsRequest::default().with_filters(vec![filter]);
        frame(version, &request)
    });
    frames.collect()
}

fn describe_configs(version: i16, named: &Named) -> Vec<BytesMut> {
    use describe_configs_request::DescribeConfigsResource;
    // 32 are groups' settings (KIP-848).
    let frames = [(2, named.topic), (32, named.group)].map(|(kind, name)| {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default()
            .with_resources(vec![resource])
            .with_include_synonyms(true);
        frame(version, &request)
    });
    frames.into()
}

fn alter_configs(version: i16, named: &Named) -> Vec<BytesMut> {
    use alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let config = AlterableConfig::default()
        .with_name(text("retention.ms"))
        .with_value(Some(text("1000")));
    let frames = [(2, named.topic), (32, named.group)].map(|(kind, name)| {
        let resource = AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(vec![config.clone()]);
        frame(
            version,
            &AlterConfigsRequest::default().with_resources(vec![resource]),
        )
    });
    frames.into()
}

fn incremental_alter_configs(version: i16, named: &Named) -> Vec<BytesMut> {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let config = AlterableConfig::default()
        .with_name(text("retention.ms"))
        .with_value(Some(text("1000")));
    let frames = [(2, named.topic), (32, named.group)].map(|(kind, name)| {
        let resource = AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(vec![config.clone()]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        frame(version, &request)
    });
    frames.into()
}

fn describe_log_dirs(version: i16, named: &Named) -> Vec<BytesMut> {
    let wanted = describe_log_dirs_request::DescribableLogDirTopic::default()
        .with_topic(topic(named.topic))
        .with_partitions(vec![0]);
    one(
        version,
        &DescribeLogDirsRequest::default().with_topics(Some(vec![wanted])),
    )
}

fn create_partitions(version: i16, named: &Named) -> Vec<BytesMut> {
    let wanted = create_partitions_request::CreatePartitionsTopic::default()
        .with_name(topic(named.topic))
        .with_count(3)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default()
        .with_topics(vec![wanted])
        .with_validate_only(true);
    one(version, &request)
}

fn describe_producers(version: i16, named: &Named) -> Vec<BytesMut> {
    let wanted = describe_producers_request::TopicRequest::default()
        .with_name(topic(named.topic))
        .with_partition_indexes(vec![0, 7]);
    one(
        version,
        &DescribeProducersRequest::default().with_topics(vec![wanted]),
    )
}

fn describe_transactions(version: i16, named: &Named) -> Vec<BytesMut> {
    let ids = vec![named.transactional_id()];
    one(
        version,
        &DescribeTransactionsRequest::default().with_transactional_ids(ids),
    )
}

/// Version 2 names ids by an expression; the others name none.
fn list_transactions(version: i16, named: &Named) -> Vec<BytesMut> {
    let request = ListTransactionsRequest::default();
    match version {
        2.. => one(
            version,
            &request.with_transactional_id_pattern(Some(text(named.transactional_id))),
        ),
        _ => Vec::new(),
    }
}
