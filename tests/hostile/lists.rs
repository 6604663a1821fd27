//! Requests that name one thing a thousand times. Driven by the table of APIs: each of them in every version is answered as
//! if the thing had been named once, or refused as a whole.

use bytes::{Bytes, BytesMut};
use harness::{Broker, RawClient, encode};
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Request, StrBytes};
use tidegate::kafka::apis::APIS;

use crate::{TOPIC, Victim, serve};

const TIMES: usize = 1_000;
const SOME: usize = 3;

/// An answer to a thousand may be this many times as long as the answer to one; Kafka's refusals take a few words more.
const FACTOR: usize = 3;
const WORDS: usize = 128;

/// What requests and answers of this size may leave with the allocator.
const RESIDENT: u64 = 64 << 20;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic() -> TopicName {
    TopicName(text(TOPIC))
}

fn group() -> GroupId {
    GroupId(text("hostile"))
}

/// How a request's bytes are made.
struct Make {
    version: i16,
    times: usize,
}

impl Make {
    fn many<T: Clone>(&self, item: T) -> Vec<T> {
        vec![item; self.times]
    }

    /// For lists in lists: together they must stay below what a request may hold.
    fn some<T: Clone>(&self, item: T) -> Vec<T> {
        vec![item; self.times.min(SOME)]
    }

    fn bytes<R: Request>(&self, request: R) -> BytesMut {
        encode(1, self.version, &request)
            .unwrap_or_else(|error| panic!("API {} version {}: {error:#}", R::KEY, self.version))
    }

    /// A request of this API that names one thing `times` times, in every list it has.
    fn request(&self, key: ApiKey) -> BytesMut {
        match key {
            ApiKey::Produce
            | ApiKey::Fetch
            | ApiKey::ListOffsets
            | ApiKey::OffsetCommit
            | ApiKey::OffsetFetch
            | ApiKey::DeleteRecords
            | ApiKey::AddPartitionsToTxn
            | ApiKey::WriteTxnMarkers
            | ApiKey::TxnOffsetCommit
            | ApiKey::OffsetDelete
            | ApiKey::DescribeLogDirs
            | ApiKey::DescribeProducers => self.of_partitions(key),
            ApiKey::FindCoordinator
            | ApiKey::JoinGroup
            | ApiKey::Heartbeat
            | ApiKey::LeaveGroup
            | ApiKey::SyncGroup
            | ApiKey::DescribeGroups
            | ApiKey::ListGroups
            | ApiKey::DeleteGroups => self.of_groups(key),
            ApiKey::SaslHandshake
            | ApiKey::SaslAuthenticate
            | ApiKey::ApiVersions
            | ApiKey::InitProducerId
            | ApiKey::AddOffsetsToTxn
            | ApiKey::EndTxn
            | ApiKey::DescribeCluster => self.without_a_list(key),
            _ => self.of_resources(key),
        }
    }

    fn of_partitions(&self, key: ApiKey) -> BytesMut {
        let indexes = self.some(0);
        match key {
            ApiKey::Produce => {
                let data = produce_request::PartitionProduceData::default();
                let data = produce_request::TopicProduceData::default()
                    .with_name(if self.version >= 13 {
                        TopicName::default()
                    } else {
                        topic()
                    })
                    .with_partition_data(self.some(data.with_records(Some(Bytes::new()))));
                self.bytes(
                    ProduceRequest::default()
                        .with_acks(1)
                        .with_topic_data(self.many(data)),
                )
            }
            ApiKey::Fetch => {
                let partition =
                    fetch_request::FetchPartition::default().with_partition_max_bytes(1);
                let asked = fetch_request::FetchTopic::default()
                    .with_topic(if self.version >= 13 {
                        TopicName::default()
                    } else {
                        topic()
                    })
                    .with_partitions(self.some(partition));
                let request = FetchRequest::default().with_max_bytes(1 << 20);
                self.bytes(request.with_topics(self.many(asked)).with_session_epoch(
                    if self.version >= 7 {
                        -1
                    } else {
                        FetchRequest::default().session_epoch
                    },
                ))
            }
            ApiKey::ListOffsets => {
                let partition =
                    list_offsets_request::ListOffsetsPartition::default().with_timestamp(-2);
                let asked = list_offsets_request::ListOffsetsTopic::default().with_name(topic());
                let asked = asked.with_partitions(self.some(partition));
                self.bytes(ListOffsetsRequest::default().with_topics(self.many(asked)))
            }
            ApiKey::OffsetCommit => {
                let partition = offset_commit_request::OffsetCommitRequestPartition::default();
                let asked =
                    offset_commit_request::OffsetCommitRequestTopic::default().with_name(topic());
                let request = OffsetCommitRequest::default()
                    .with_group_id(group())
                    .with_generation_id_or_member_epoch(-1);
                self.bytes(
                    request.with_topics(self.many(asked.with_partitions(self.some(partition)))),
                )
            }
            ApiKey::OffsetFetch if self.version >= 8 => {
                let asked =
                    offset_fetch_request::OffsetFetchRequestTopics::default().with_name(topic());
                let topics = self.some(asked.with_partition_indexes(indexes));
                let one =
                    offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group());
                let groups = self.many(one.with_topics(Some(topics)));
                self.bytes(OffsetFetchRequest::default().with_groups(groups))
            }
            _ => self.of_marked_partitions(key),
        }
    }

    fn of_marked_partitions(&self, key: ApiKey) -> BytesMut {
        let indexes = self.some(0);
        match key {
            ApiKey::OffsetFetch => {
                let asked =
                    offset_fetch_request::OffsetFetchRequestTopic::default().with_name(topic());
                let topics = self.many(asked.with_partition_indexes(indexes));
                let request = OffsetFetchRequest::default().with_group_id(group());
                self.bytes(request.with_topics(Some(topics)))
            }
            ApiKey::DeleteRecords => {
                let asked =
                    delete_records_request::DeleteRecordsTopic::default().with_name(topic());
                let partition = delete_records_request::DeleteRecordsPartition::default();
                let asked = self.many(asked.with_partitions(self.some(partition)));
                self.bytes(DeleteRecordsRequest::default().with_topics(asked))
            }
            ApiKey::AddPartitionsToTxn => {
                let asked = AddPartitionsToTxnTopic::default().with_name(topic());
                let topics = self.some(asked.with_partitions(indexes));
                let id = TransactionalId(text("hostile"));
                let request = AddPartitionsToTxnRequest::default();
                if self.version < 4 {
                    let request = request.with_v3_and_below_transactional_id(id);
                    return self.bytes(request.with_v3_and_below_topics(topics));
                }
                let one = AddPartitionsToTxnTransaction::default().with_transactional_id(id);
                self.bytes(request.with_transactions(self.many(one.with_topics(topics))))
            }
            ApiKey::WriteTxnMarkers => {
                let asked =
                    write_txn_markers_request::WritableTxnMarkerTopic::default().with_name(topic());
                let topics = self.some(asked.with_partition_indexes(self.some(77)));
                let marker = write_txn_markers_request::WritableTxnMarker::default();
                let markers = self.many(marker.with_topics(topics));
                self.bytes(WriteTxnMarkersRequest::default().with_markers(markers))
            }
            ApiKey::TxnOffsetCommit => {
                let asked = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
                    .with_name(topic());
                let partition =
                    txn_offset_commit_request::TxnOffsetCommitRequestPartition::default();
                let topics = self.many(asked.with_partitions(self.some(partition)));
                let request = TxnOffsetCommitRequest::default().with_group_id(group());
                self.bytes(request.with_topics(topics))
            }
            ApiKey::OffsetDelete => {
                let asked =
                    offset_delete_request::OffsetDeleteRequestTopic::default().with_name(topic());
                let partition = offset_delete_request::OffsetDeleteRequestPartition::default();
                let topics = self.many(asked.with_partitions(self.some(partition)));
                let request = OffsetDeleteRequest::default().with_group_id(group());
                self.bytes(request.with_topics(topics))
            }
            ApiKey::DescribeLogDirs => {
                let asked = describe_log_dirs_request::DescribableLogDirTopic::default()
                    .with_topic(topic());
                let topics = self.many(asked.with_partitions(indexes));
                self.bytes(DescribeLogDirsRequest::default().with_topics(Some(topics)))
            }
            _ => {
                let asked = describe_producers_request::TopicRequest::default().with_name(topic());
                let topics = self.many(asked.with_partition_indexes(indexes));
                self.bytes(DescribeProducersRequest::default().with_topics(topics))
            }
        }
    }

    fn of_groups(&self, key: ApiKey) -> BytesMut {
        match key {
            ApiKey::FindCoordinator if self.version >= 4 => {
                let keys = self.many(text("hostile"));
                self.bytes(FindCoordinatorRequest::default().with_coordinator_keys(keys))
            }
            ApiKey::FindCoordinator => {
                self.bytes(FindCoordinatorRequest::default().with_key(text("hostile")))
            }
            ApiKey::JoinGroup => {
                let protocol = join_group_request::JoinGroupRequestProtocol::default()
                    .with_name(text("range"));
                // A session timeout of 0 is refused at once.
                let request = JoinGroupRequest::default().with_group_id(group());
                self.bytes(request.with_protocols(self.many(protocol)))
            }
            ApiKey::Heartbeat => self.bytes(HeartbeatRequest::default().with_group_id(group())),
            ApiKey::LeaveGroup if self.version >= 3 => {
                let member =
                    leave_group_request::MemberIdentity::default().with_member_id(text("m"));
                let request = LeaveGroupRequest::default().with_group_id(group());
                self.bytes(request.with_members(self.many(member)))
            }
            ApiKey::LeaveGroup => self.bytes(LeaveGroupRequest::default().with_group_id(group())),
            ApiKey::SyncGroup => {
                let assignment = sync_group_request::SyncGroupRequestAssignment::default()
                    .with_member_id(text("m"));
                let request = SyncGroupRequest::default().with_group_id(group());
                self.bytes(request.with_assignments(self.many(assignment)))
            }
            ApiKey::DescribeGroups => {
                self.bytes(DescribeGroupsRequest::default().with_groups(self.many(group())))
            }
            ApiKey::ListGroups => {
                let mut request = ListGroupsRequest::default();
                if self.version >= 4 {
                    request = request.with_states_filter(self.many(text("Stable")));
                }
                self.bytes(request)
            }
            _ => self.bytes(DeleteGroupsRequest::default().with_groups_names(self.many(group()))),
        }
    }

    fn without_a_list(&self, key: ApiKey) -> BytesMut {
        match key {
            ApiKey::SaslHandshake => self.bytes(SaslHandshakeRequest::default()),
            ApiKey::SaslAuthenticate => self.bytes(SaslAuthenticateRequest::default()),
            ApiKey::ApiVersions => self.bytes(ApiVersionsRequest::default()),
            ApiKey::InitProducerId => self.bytes(InitProducerIdRequest::default()),
            ApiKey::AddOffsetsToTxn => self.bytes(AddOffsetsToTxnRequest::default()),
            ApiKey::EndTxn => self.bytes(EndTxnRequest::default()),
            _ => self.bytes(DescribeClusterRequest::default()),
        }
    }

    fn of_resources(&self, key: ApiKey) -> BytesMut {
        const OF_TOPIC: i8 = 2;
        match key {
            ApiKey::Metadata => {
                let asked =
                    metadata_request::MetadataRequestTopic::default().with_name(Some(topic()));
                self.bytes(MetadataRequest::default().with_topics(Some(self.many(asked))))
            }
            ApiKey::CreateTopics => {
                let asked = create_topics_request::CreatableTopic::default().with_name(topic());
                let asked = asked.with_num_partitions(1).with_replication_factor(1);
                self.bytes(CreateTopicsRequest::default().with_topics(self.many(asked)))
            }
            ApiKey::DeleteTopics if self.version >= 6 => {
                let asked = delete_topics_request::DeleteTopicState::default()
                    .with_name(Some(TopicName(text("none"))));
                self.bytes(DeleteTopicsRequest::default().with_topics(self.many(asked)))
            }
            ApiKey::DeleteTopics => {
                let names = self.many(TopicName(text("none")));
                self.bytes(DeleteTopicsRequest::default().with_topic_names(names))
            }
            ApiKey::CreatePartitions => {
                let asked =
                    create_partitions_request::CreatePartitionsTopic::default().with_name(topic());
                self.bytes(
                    CreatePartitionsRequest::default().with_topics(self.many(asked.with_count(1))),
                )
            }
            ApiKey::DescribeConfigs => {
                let asked = describe_configs_request::DescribeConfigsResource::default()
                    .with_resource_type(OF_TOPIC)
                    .with_resource_name(text(TOPIC))
                    .with_configuration_keys(Some(vec![text("retention.ms"); 4]));
                self.bytes(DescribeConfigsRequest::default().with_resources(self.many(asked)))
            }
            ApiKey::AlterConfigs => {
                let asked = alter_configs_request::AlterConfigsResource::default()
                    .with_resource_type(OF_TOPIC)
                    .with_resource_name(text(TOPIC));
                self.bytes(AlterConfigsRequest::default().with_resources(self.many(asked)))
            }
            ApiKey::IncrementalAlterConfigs => {
                let asked = incremental_alter_configs_request::AlterConfigsResource::default()
                    .with_resource_type(OF_TOPIC)
                    .with_resource_name(text(TOPIC));
                self.bytes(
                    IncrementalAlterConfigsRequest::default().with_resources(self.many(asked)),
                )
            }
            ApiKey::DescribeAcls => self.bytes(DescribeAclsRequest::default()),
            ApiKey::CreateAcls => {
                let creation = create_acls_request::AclCreation::default();
                self.bytes(CreateAclsRequest::default().with_creations(self.many(creation)))
            }
            ApiKey::DeleteAcls => {
                let filter = delete_acls_request::DeleteAclsFilter::default();
                self.bytes(DeleteAclsRequest::default().with_filters(self.many(filter)))
            }
            ApiKey::DescribeTransactions => {
                let ids = self.many(TransactionalId(text("hostile")));
                self.bytes(DescribeTransactionsRequest::default().with_transactional_ids(ids))
            }
            ApiKey::ListTransactions => {
                let request = ListTransactionsRequest::default();
                self.bytes(request.with_state_filters(self.many(text("Ongoing"))))
            }
            _ => panic!("{key:?} is new: say here how it names one thing many times"),
        }
    }
}

/// Answered by position, an item each: bounded by the length of the list.
fn is_positional(key: ApiKey) -> bool {
    matches!(key, ApiKey::CreateAcls | ApiKey::DeleteAcls)
}

/// The length of an answer; `None` when the connection was closed.
fn answered(client: &mut RawClient, request: &[u8]) -> Option<usize> {
    client.send_raw(request).ok()?;
    client.receive_raw().ok().map(|answer| answer.len())
}

/// A broker in which strangers have no right.
const DENYING: &str = r#"
[broker]
data-dir = "{data}"

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"

[security]
authorization = true
super-users = ["User:root"]

[admin]
bind = "127.0.0.1:0"
"#;

#[test]
fn a_hundred_thousand_denials_are_a_few_lines_and_a_count() {
    const NAMES: usize = 100_000;
    const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    let broker = Broker::builder().config(DENYING).start();
    let broker = broker.unwrap_or_else(|error| panic!("{error:#}"));
    let names = (0..NAMES).map(|number| {
        let name = TopicName(text(&format!("secret-{number}")));
        metadata_request::MetadataRequestTopic::default().with_name(Some(name))
    });
    let request = MetadataRequest::default().with_topics(Some(names.collect()));
    let mut client = broker.connect();
    let response = client.request(9, &request).expect("an answer");
    assert_eq!(response.topics.len(), NAMES);
    let mut codes = response.topics.iter().map(|topic| topic.error_code);
    assert!(codes.all(|code| code == TOPIC_AUTHORIZATION_FAILED));
    let metric = |name, labels| broker.metric(name, labels).expect("it is exported");
    let denied = metric(
        "tidegate_authorization_denied_total",
        "operation=\"Describe\"",
    );
    assert_eq!(denied, NAMES as f64);
    let left_out = metric("tidegate_log_lines_left_out_total", "");
    assert!(
        left_out > 0.99 * NAMES as f64,
        "{left_out} of {NAMES} lines"
    );
    // One more than any request may hold.
    let request = Make {
        version: 5,
        times: (1 << 17) + 1,
    }
    .request(ApiKey::DescribeGroups);
    assert_eq!(answered(&mut client, &request), None);
    assert_eq!(
        broker
            .connect()
            .api_versions()
            .expect("it serves")
            .error_code,
        0
    );
}

#[test]
fn one_thing_named_a_thousand_times_is_answered_once() {
    let victim = Victim::start();
    for api in APIS {
        for version in api.versions.clone() {
            let ask = |times| {
                let request = Make { version, times }.request(api.key);
                answered(&mut victim.connect(), &request)
            };
            let one = ask(1);
            let (Some(one), many) = (one, ask(TIMES)) else {
                // A request that cannot be right, such as SaslAuthenticate without SASL, is refused as a whole.
                assert!(
                    api.before_authentication,
                    "{api:?} version {version} closed"
                );
                continue;
            };
            let most = match is_positional(api.key) {
                true => TIMES * one,
                false => FACTOR * one + WORDS,
            };
            let many = many.unwrap_or_default();
            assert!(
                many <= most,
                "{api:?} version {version}: {many} bytes for {TIMES} mentions, {one} for one"
            );
        }
    }
    serve(&victim.broker);
    if let (Some(before), Some(after)) = (victim.memory, victim.broker.memory_rss()) {
        assert!(
            after <= before + RESIDENT,
            "{before} bytes before, {after} after"
        );
    }
}
