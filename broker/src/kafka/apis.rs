//! THE table: one row for each API that the broker speaks. Dispatch, version checks, ApiVersions, metric labels and the
//! documentation derive from it.

use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{self as wire, ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Encodable, HeaderVersion};

use super::context::Context;
use super::error::code_name;
use super::guard::{self, DecodeError};
use super::lists::{Distinct, TooLong};
use super::long;
use super::{handlers, room};
use crate::net::Reply;

/// One API.
pub struct Api {
    pub key: ApiKey,
    pub name: &'static str,
    /// Served versions.
    pub versions: RangeInclusive<i16>,
    /// What ApiVersions says the lowest version is. Lower than the served one where clients take the advertised range for
    /// a sign of something else.
    pub advertised_min: i16,
    /// Answered before the connection has authenticated.
    pub before_authentication: bool,
    /// From these bytes on its bodies are worked on beside the serving threads (`long.rs`).
    pub long_body: usize,
    pub answer: AnswerSize,
    pub serve: Serve,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.name, self.versions)
    }
}

/// How much memory an answer may take. All but small ones are made in turn: when every earlier answer of the connection is
/// finished, so that what waits for its turn holds nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnswerSize {
    /// Bounded by its request. Made at once.
    Small,
    /// Lists what the broker has: the dispatcher reserves memory for it.
    Large,
    /// The handler knows what it is going to read, and reserves that.
    Measured,
}

/// Decodes a request's body, handles it and encodes the answer.
pub type Serve =
    fn(Context, i32, Bytes) -> Pin<Box<dyn Future<Output = Result<Answer, ServeError>> + Send>>;

/// An encoded answer.
#[derive(Debug)]
pub struct Answer {
    /// `None`: the protocol has no answer (acks=0).
    pub reply: Option<Reply>,
    /// The protocol's code of the first error in it, 0 for none.
    pub error: i16,
}

impl Answer {
    pub fn error_name(&self) -> Option<&'static str> {
        code_name(self.error)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("malformed request: {0}")]
    Decode(#[from] DecodeError),
    #[error("{0}")]
    TooLong(#[from] TooLong),
    #[error(
        "the answer would take {bytes} bytes; {} holds it to {bound}: ask for less at once",
        room::SETTING
    )]
    TooLarge { bytes: usize, bound: usize },
    #[error("the answer could not be encoded: {0}")]
    Encode(String),
    /// What the protocol answers by closing the connection.
    #[error("{0}")]
    Close(String),
}

/// What a handler gives back: a response of the protocol, or something that knows its own bytes.
pub trait IntoAnswer {
    fn into_answer(self, context: &Context, correlation_id: i32) -> Result<Answer, ServeError>;
}

/// The first error code that a response carries; 0 for none.
pub trait FirstError {
    fn first_error(&self) -> i16;
}

impl<R: Encodable + HeaderVersion + FirstError> IntoAnswer for R {
    fn into_answer(self, context: &Context, correlation_id: i32) -> Result<Answer, ServeError> {
        let mut bytes = BytesMut::with_capacity(capacity(&self, context)?);
        let header = ResponseHeader::default().with_correlation_id(correlation_id);
        header
            .encode(&mut bytes, R::header_version(context.version))
            .and_then(|()| self.encode(&mut bytes, context.version))
            .map_err(|error| ServeError::Encode(error.to_string()))?;
        Ok(Answer {
            reply: Some(vec![bytes.freeze()]),
            error: self.first_error(),
        })
    }
}

/// The bytes to encode an answer into: of short requests a few, of long ones what it measures, within the bound.
fn capacity<R: Encodable>(response: &R, context: &Context) -> Result<usize, ServeError> {
    const SHORT: usize = 256;
    if !context.is_long() {
        return Ok(SHORT);
    }
    let bytes = response
        .compute_size(context.version)
        .map_err(|error| ServeError::Encode(error.to_string()))?;
    match context.room.bound() {
        bound if bytes > bound => Err(ServeError::TooLarge { bytes, bound }),
        _ => Ok(bytes + SHORT),
    }
}

macro_rules! first_error {
    ($($response:ident: |$r:ident| $code:expr;)*) => {
        $(impl FirstError for wire::$response {
            fn first_error(&self) -> i16 {
                let $r = self;
                $code
            }
        })*
    };
}

fn first(codes: impl IntoIterator<Item = i16>) -> i16 {
    codes.into_iter().find(|code| *code != 0).unwrap_or(0)
}

first_error! {
    ApiVersionsResponse: |r| r.error_code;
    MetadataResponse: |r| first(r.topics.iter().map(|topic| topic.error_code));
    ProduceResponse: |r| first(r.responses.iter().flat_map(|t| &t.partition_responses).map(|p| p.error_code));
    ListOffsetsResponse: |r| first(r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code));
    CreateTopicsResponse: |r| first(r.topics.iter().map(|topic| topic.error_code));
    DeleteTopicsResponse: |r| first(r.responses.iter().map(|topic| topic.error_code));
    DeleteRecordsResponse: |r| first(r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code));
    CreatePartitionsResponse: |r| first(r.results.iter().map(|topic| topic.error_code));
    DescribeConfigsResponse: |r| first(r.results.iter().map(|result| result.error_code));
    AlterConfigsResponse: |r| first(r.responses.iter().map(|response| response.error_code));
    DescribeLogDirsResponse: |r| r.error_code;
    IncrementalAlterConfigsResponse: |r| first(r.responses.iter().map(|response| response.error_code));
    DescribeClusterResponse: |r| r.error_code;
    FindCoordinatorResponse: |r| first([r.error_code].into_iter().chain(r.coordinators.iter().map(|c| c.error_code)));
    JoinGroupResponse: |r| r.error_code;
    SyncGroupResponse: |r| r.error_code;
    HeartbeatResponse: |r| r.error_code;
    LeaveGroupResponse: |r| first([r.error_code].into_iter().chain(r.members.iter().map(|member| member.error_code)));
    OffsetCommitResponse: |r| first(r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code));
    OffsetFetchResponse: |r| first([r.error_code].into_iter().chain(r.groups.iter().map(|group| group.error_code)));
    DescribeGroupsResponse: |r| first(r.groups.iter().map(|group| group.error_code));
    ListGroupsResponse: |r| r.error_code;
    DeleteGroupsResponse: |r| first(r.results.iter().map(|result| result.error_code));
    OffsetDeleteResponse: |r| first([r.error_code].into_iter().chain(r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code)));
    InitProducerIdResponse: |r| r.error_code;
    AddPartitionsToTxnResponse: |r| first([r.error_code].into_iter().chain(added_partitions(r)));
    AddOffsetsToTxnResponse: |r| r.error_code;
    EndTxnResponse: |r| r.error_code;
    WriteTxnMarkersResponse: |r| first(r.markers.iter().flat_map(|m| &m.topics).flat_map(|t| &t.partitions).map(|p| p.error_code));
    TxnOffsetCommitResponse: |r| first(r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code));
    DescribeProducersResponse: |r| first(r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code));
    DescribeTransactionsResponse: |r| first(r.transaction_states.iter().map(|state| state.error_code));
    ListTransactionsResponse: |r| r.error_code;
    SaslHandshakeResponse: |r| r.error_code;
    SaslAuthenticateResponse: |r| r.error_code;
    CreateAclsResponse: |r| first(r.results.iter().map(|result| result.error_code));
    DescribeAclsResponse: |r| r.error_code;
    DeleteAclsResponse: |r| first(r.filter_results.iter().map(|result| result.error_code));
}

fn added_partitions(response: &wire::AddPartitionsToTxnResponse) -> impl Iterator<Item = i16> {
    let several = response.results_by_transaction.iter();
    let topics = several.flat_map(|transaction| &transaction.topic_results);
    let topics = topics.chain(&response.results_by_topic_v3_and_below);
    topics
        .flat_map(|topic| &topic.results_by_partition)
        .map(|partition| partition.partition_error_code)
}

macro_rules! apis {
    ($($name:ident($request:ident) $handler:ident $(advertised from $from:literal)? $(, $flag:ident)?;)*) => {
        /// Every API, by its key's order in the protocol.
        pub static APIS: &[Api] = &[$(Api {
            key: ApiKey::$name,
            name: stringify!($name),
            versions: handlers::$handler::VERSIONS,
            advertised_min: apis!(@min $handler $($from)?),
            before_authentication: apis!(@before $($flag)?),
            long_body: apis!(@long_body $($flag)?),
            answer: apis!(@answer $($flag)?),
            serve: |mut context, correlation_id, body| {
                Box::pin(async move {
                    let is_short = body.len() < long::LONG_BODY;
                    let mut request = guard::decode::<wire::$request>(body, context.version)?;
                    context.asked = request.distinct()?;
                    let handled = async {
                        handlers::$handler::handle(&context, request).await.into_answer(&context, correlation_id)
                    };
                    apis!(@handled $($flag)?, context, handled, is_short)
                })
            },
        }),*];
    };
    (@min $handler:ident $from:literal) => { $from };
    (@min $handler:ident) => { *handlers::$handler::VERSIONS.start() };
    (@before before_authentication) => { true };
    (@before $($flag:ident)?) => { false };
    (@long_body of_records) => { usize::MAX };
    (@long_body $($flag:ident)?) => { long::LONG_BODY };
    (@answer reads) => { AnswerSize::Large };
    (@answer searches) => { AnswerSize::Measured };
    (@answer streams) => { AnswerSize::Measured };
    (@answer $($flag:ident)?) => { AnswerSize::Small };
    // A long body has its turns already.
    (@handled reads, $context:ident, $handled:ident, $is_short:ident) => {
        match $is_short && $context.is_long() {
            true => $context.services.bounds.turns.run(&$context.session.share(), None, $handled).await,
            false => $handled.await,
        }
    };
    (@handled searches, $context:ident, $handled:ident, $is_short:ident) => {
        apis!(@handled reads, $context, $handled, $is_short)
    };
    (@handled finds, $context:ident, $handled:ident, $is_short:ident) => {
        apis!(@handled reads, $context, $handled, $is_short)
    };
    (@handled $($flag:ident)?, $context:ident, $handled:ident, $is_short:ident) => {{
        let _ = $is_short;
        $handled.await
    }};
}

// `before_authentication`: see the field. `of_records`: most of a body is records, so that its size says nothing of its
// lists. `reads`: changes nothing, so that it may fall behind the next request of its connection when it is long.
// `searches` and `finds` read as well: the one reserves by itself what it needs, the other's answers are as small as what was asked.
// `streams`: reserves what it is going to read, and is never long.
apis! {
    // librdkafka before 2.11 takes a minimum above 0 for a broker too old to compress for (KIP-896 keeps it for that reason).
    Produce(ProduceRequest) produce advertised from 0, of_records;
    Fetch(FetchRequest) fetch, streams;
    ListOffsets(ListOffsetsRequest) list_offsets, searches;
    Metadata(MetadataRequest) metadata, reads;
    OffsetCommit(OffsetCommitRequest) offset_commit;
    OffsetFetch(OffsetFetchRequest) offset_fetch, reads;
    FindCoordinator(FindCoordinatorRequest) find_coordinator, finds;
    JoinGroup(JoinGroupRequest) join_group;
    Heartbeat(HeartbeatRequest) heartbeat;
    LeaveGroup(LeaveGroupRequest) leave_group;
    SyncGroup(SyncGroupRequest) sync_group;
    DescribeGroups(DescribeGroupsRequest) describe_groups, reads;
    ListGroups(ListGroupsRequest) list_groups, reads;
    SaslHandshake(SaslHandshakeRequest) sasl_handshake, before_authentication;
    ApiVersions(ApiVersionsRequest) api_versions, before_authentication;
    CreateTopics(CreateTopicsRequest) create_topics;
    DeleteTopics(DeleteTopicsRequest) delete_topics;
    DeleteRecords(DeleteRecordsRequest) delete_records;
    InitProducerId(InitProducerIdRequest) init_producer_id;
    AddPartitionsToTxn(AddPartitionsToTxnRequest) add_partitions_to_txn;
    AddOffsetsToTxn(AddOffsetsToTxnRequest) add_offsets_to_txn;
    EndTxn(EndTxnRequest) end_txn;
    WriteTxnMarkers(WriteTxnMarkersRequest) write_txn_markers;
    TxnOffsetCommit(TxnOffsetCommitRequest) txn_offset_commit;
    DescribeAcls(DescribeAclsRequest) describe_acls, reads;
    CreateAcls(CreateAclsRequest) create_acls;
    DeleteAcls(DeleteAclsRequest) delete_acls;
    DescribeConfigs(DescribeConfigsRequest) describe_configs, reads;
    AlterConfigs(AlterConfigsRequest) alter_configs;
    DescribeLogDirs(DescribeLogDirsRequest) describe_log_dirs, reads;
    SaslAuthenticate(SaslAuthenticateRequest) sasl_authenticate, before_authentication;
    CreatePartitions(CreatePartitionsRequest) create_partitions;
    DeleteGroups(DeleteGroupsRequest) delete_groups;
    IncrementalAlterConfigs(IncrementalAlterConfigsRequest) incremental_alter_configs;
    OffsetDelete(OffsetDeleteRequest) offset_delete;
    DescribeCluster(DescribeClusterRequest) describe_cluster;
    DescribeProducers(DescribeProducersRequest) describe_producers, reads;
    DescribeTransactions(DescribeTransactionsRequest) describe_transactions, reads;
    ListTransactions(ListTransactionsRequest) list_transactions, reads;
}

/// The row of an API key, if the broker speaks it.
pub fn find(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key as i16 == key)
}
